/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of profiles into the model: time on and off the CPU, by function, by whose it is and by stack. */
#include "top_row.h"

#include <string.h>

#define FRAMES_MAX     512u
#define DEFAULT_PERIOD (NS_PER_SEC / 99) /* of a sample without period_ns */
#define NO_SYMBOL      "(no symbol)"

static bool ends_with(struct top_piece text, const char *end, size_t *ret_before)
{
	size_t n = strlen(end);

	if (text.size < n || memcmp(text.at + text.size - n, end, n) != 0)
		return false;
	*ret_before = text.size - n;
	return true;
}

/* "name+0x1f" without its offset. */
static struct top_piece without_offset(struct top_piece name)
{
	size_t n = name.size;

	while (n && strchr("0123456789abcdef", name.at[n - 1]))
		n--;
	if (n >= 3 && n < name.size && memcmp(name.at + n - 3, "+0x", 3) == 0)
		name.size = n - 3;
	return name;
}

void top_frame_split(struct top_piece frame, struct top_piece *ret_name, struct top_piece *ret_library)
{
	size_t inner = frame.size, at;

	*ret_name = frame;
	*ret_library = top_piece("");
	if (ends_with(frame, " [inline]", &inner)) {
		frame.size = inner;
		*ret_name = frame;
	}
	if (ends_with(frame, ")", &inner)) {
		for (at = inner; at > 1 && memcmp(frame.at + at - 2, " (", 2) != 0; at--)
			;
		if (at <= 1)
			return;
		*ret_name = without_offset((struct top_piece){ frame.at, at - 2 });
		*ret_library = (struct top_piece){ frame.at + at, inner - at };
	} else if (ends_with(frame, "]", &inner) || without_offset(frame).size < frame.size) {
		/* No function is known: "library+0x12 [build-id]". */
		for (at = 0; at + 2 <= frame.size && memcmp(frame.at + at, " [", 2) != 0; at++)
			;
		*ret_library = without_offset((struct top_piece){ frame.at, at + 2 <= frame.size ? at : frame.size });
		*ret_name = top_piece(NO_SYMBOL);
	}
}

static void add_function(struct top_model *m, const struct top_row *row, const struct value *frame, bool leaf,
			 uint64_t amount)
{
	struct top_piece name, library;
	struct top_join key = { .size = 0 };
	struct top_entry *e;

	top_frame_split((struct top_piece){ (const char *)frame->body, frame->length }, &name, &library);
	name.size = MIN_OF(name.size, (size_t)TOP_KEY_MAX / 2);
	top_join_text(&key, name);
	top_join_text(&key, library);
	e = top_row_take(m, TOP_FUNCTIONS, &key);
	if (!e)
		return;
	if (leaf)
		top_row_add(m, TOP_FUNCTIONS, e, row, TOP_SELF, amount);
	/* A function that calls itself is in a stack more than once, and counts once. */
	if (e->mark != m->rows)
		top_row_add(m, TOP_FUNCTIONS, e, row, TOP_TOTAL, amount);
	e->mark = m->rows;
}

/* Calls nothing for a damaged stack: its frames are walked before they are believed. */
static unsigned frames_of(const struct top_row *row, struct value frames[FRAMES_MAX])
{
	const struct value *stack = &row->values[TOP_K_STACK];
	const uint8_t *at = stack->body;
	unsigned n = 0;

	if (stack->kind != VALUE_ARRAY)
		return 0;
	for (; n < MIN_OF(stack->count, FRAMES_MAX); n++) {
		if (value_read(at, row->end, &frames[n]) < 0 || frames[n].kind != VALUE_STR)
			break;
		at = frames[n].next;
	}
	return n;
}

/* The sums of the process, the thread and the container. */
static void add_owner(struct top_model *m, const struct top_row *row, unsigned value, uint64_t amount, uint64_t count)
{
	struct top_piece container = top_row_text(row, TOP_K_CONTAINER);
	struct top_join process = { .size = 0 }, thread = { .size = 0 }, group = { .size = 0 };
	const struct top_join *keys[] = { &process, &thread, &group };
	static const enum top_table_id ids[] = { TOP_PROCESSES, TOP_THREADS, TOP_CONTAINERS };

	top_join_execution(&process, row);
	top_join_execution(&thread, row);
	top_join_number(&thread, top_row_number(row, TOP_K_TID));
	top_join_text(&group, container.size ? container : top_row_text(row, TOP_K_CGROUP));
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		struct top_entry *e = top_row_take(m, ids[i], keys[i]);

		if (!e)
			continue;
		if (ids[i] != TOP_CONTAINERS)
			top_row_describe(e, row, ids[i] == TOP_THREADS);
		top_row_add(m, ids[i], e, row, value, amount);
		if (value == TOP_WAIT)
			top_row_add(m, ids[i], e, row, TOP_WAIT_COUNT, count);
	}
}

static void add_stack(struct top_model *m, const struct top_row *row, const char *kind, const struct value *frames,
		      unsigned n, unsigned value, uint64_t amount)
{
	struct top_join key = { .size = 0 }, text = { .size = 0 };
	struct top_entry *e;

	top_join_execution(&key, row);
	top_join_text(&key, top_piece(kind));
	top_join_text(&key, top_row_text(row, TOP_K_STACK_ID));
	e = top_row_take(m, TOP_STACKS, &key);
	if (!e)
		return;
	top_row_describe(e, row, false);
	free(e->text);
	e->text = NULL;
	for (unsigned i = 0; i < n && text.size + frames[i].length < sizeof text.bytes; i++)
		top_join_text(&text, (struct top_piece){ (const char *)frames[i].body, frames[i].length });
	top_entry_text(e, text.bytes, text.size);
	top_row_add(m, TOP_STACKS, e, row, value, amount);
}

static void cover(struct top_model *m, const struct top_row *row, unsigned which)
{
	struct top_cover *c = &m->cover[which][row->slice];
	uint64_t begin = row->ts - MIN_OF(row->ts, top_row_number(row, TOP_K_WINDOW));

	c->begin = c->end ? MIN_OF(c->begin, begin) : begin;
	c->end = MAX_OF(c->end, row->ts);
}

void top_take_cpu(struct top_model *m, const struct top_row *row)
{
	struct value frames[FRAMES_MAX];
	unsigned n = frames_of(row, frames);
	uint64_t period = top_row_number(row, TOP_K_PERIOD), samples = top_row_number(row, TOP_K_VALUE), ns;

	if (__builtin_mul_overflow(samples, period ? period : DEFAULT_PERIOD, &ns))
		ns = UINT64_MAX >> 8;
	for (unsigned i = 0; i < n; i++)
		add_function(m, row, &frames[i], i == 0, ns);
	add_owner(m, row, TOP_CPU, ns, 0);
	add_stack(m, row, "cpu", frames, n, TOP_CPU, ns);
	top_row_add_total(m, row, TOP_ALL_CPU, ns);
	top_row_add_total(m, row, TOP_ALL_SAMPLES, samples);
	cover(m, row, 0);
}

/* What was waited for, where the row names it. */
static struct top_piece waited_for(const struct top_row *row)
{
	static const enum top_key keys[] = { TOP_K_PEER, TOP_K_FILE, TOP_K_DEVICE, TOP_K_FUTEX };

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		if (top_row_text(row, keys[i]).size)
			return top_row_text(row, keys[i]);
	return top_piece("");
}

void top_take_offcpu(struct top_model *m, const struct top_row *row)
{
	struct value frames[FRAMES_MAX];
	unsigned n = frames_of(row, frames);
	uint64_t ns = top_row_number(row, TOP_K_VALUE), waits = top_row_number(row, TOP_K_WAITS);
	struct top_join key = { .size = 0 };
	struct top_entry *e;

	add_owner(m, row, TOP_WAIT, ns, waits);
	add_stack(m, row, "offcpu", frames, n, TOP_WAIT, ns);
	top_row_add_total(m, row, TOP_ALL_WAIT, ns);
	top_join_execution(&key, row);
	top_join_text(&key, top_row_text(row, TOP_K_SYSCALL));
	top_join_text(&key, top_row_text(row, TOP_K_WAIT));
	top_join_text(&key, top_row_text(row, TOP_K_STATE));
	top_join_text(&key, waited_for(row));
	e = top_row_take(m, TOP_WAITS, &key);
	if (e) {
		top_row_describe(e, row, false);
		top_row_add(m, TOP_WAITS, e, row, TOP_WAIT, ns);
		top_row_add(m, TOP_WAITS, e, row, TOP_WAIT_COUNT, waits);
	}
	cover(m, row, 1);
}
