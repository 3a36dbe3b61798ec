/* SPDX-License-Identifier: Apache-2.0 */
/* Rows become amounts in buckets of time, threads and nodes. */
#include "flame/page_state.h"

#include <errno.h>
#include <string.h>

#define CAUSE_MAX  512u
#define BUCKET_MIN NS_PER_MS

static int add_amount(struct page_data *d, uint64_t key, uint64_t value)
{
	uint32_t place;
	int r;

	if (!flame_map_find(&d->by_key, key, &place)) {
		r = flame_grow(&d->budget, &d->amounts, &d->amounts_room, d->n_amounts, sizeof *d->amounts);
		if (r == 0)
			r = flame_map_put(&d->by_key, key, (uint32_t)d->n_amounts);
		if (r < 0)
			return r;
		place = (uint32_t)d->n_amounts++;
		d->amounts[place] = (struct amount){ .key = key };
	}
	d->amounts[place].value += value;
	return 0;
}

static uint64_t make_key(unsigned side, enum flame_measure measure, uint32_t bucket, uint32_t thread, uint32_t node)
{
	return (uint64_t)(side << 2 | measure) << GROUP_SHIFT | (uint64_t)bucket << BUCKET_SHIFT |
	       (uint64_t)thread << THREAD_SHIFT | node;
}

/* Where rows go that do not fit is made before anything else takes the room. */
static int begin(struct page_data *d)
{
	static const char no_room[] = "[no room for these stacks]";
	uint32_t frame;
	int r;

	r = flame_tree_begin(&d->tree, &d->budget, OFFSETS_OF_CALLERS);
	if (r == 0)
		r = flame_tree_made(&d->tree, FRAME_NOTE, no_room, strlen(no_room), &frame);
	if (r == 0)
		r = flame_tree_node(&d->tree, 0, frame, &d->full_node);
	if (r == 0)
		r = flame_grow(&d->budget, &d->threads, &d->threads_room, 0, sizeof *d->threads);
	if (r < 0)
		return r;
	d->threads[d->n_threads++] = (struct thread){ 0 };
	for (size_t i = 0; r == 0 && i < PAGE_SIDES * FLAME_MEASURES; i++)
		r = add_amount(d, make_key((unsigned)(i / FLAME_MEASURES), i % FLAME_MEASURES, 0, 0, d->full_node), 0);
	return r;
}

int page_data_make(struct page_data **ret, const struct page_limits *limits)
{
	struct page_data *d = calloc(1, sizeof *d);
	int r;

	if (!d)
		return -ENOMEM;
	d->limits = *limits;
	d->limits.buckets = MIN_OF(limits->buckets, 1u << BUCKET_BITS);
	d->budget.limit = limits->memory;
	for (size_t i = 0; i < PAGE_SIDES; i++)
		d->sides[i].from = UINT64_MAX;
	flame_map_begin(&d->by_thread, &d->budget);
	flame_map_begin(&d->by_key, &d->budget);
	r = begin(d);
	if (r < 0)
		page_data_free(d);
	else
		*ret = d;
	return r;
}

void page_data_free(struct page_data *d)
{
	if (!d)
		return;
	flame_map_free(&d->by_thread);
	flame_map_free(&d->by_key);
	flame_release(&d->budget, &d->threads, &d->threads_room, sizeof *d->threads);
	flame_release(&d->budget, &d->amounts, &d->amounts_room, sizeof *d->amounts);
	flame_tree_free(&d->tree);
	free(d);
}

int page_data_label(struct page_data *d, unsigned side, const char *label)
{
	return flame_tree_text(&d->tree, label, strlen(label), &d->sides[side].label);
}

/* ---- rows ---- */

void page_data_look(struct page_data *d, unsigned side, const struct flame_row *row)
{
	struct side *s = &d->sides[side];

	s->from = MIN_OF(s->from, row->ts - MIN_OF(row->ts, row->window_ns));
	s->to = MAX_OF(s->to, row->ts);
	s->window_ns = MAX_OF(s->window_ns, row->window_ns);
	s->rows++;
	s->buckets = 0;
}

/* A row is of a whole window, so buckets are not finer than windows are. */
static void plan_buckets(struct page_data *d, struct side *s)
{
	uint64_t span = s->to - s->from, finest = (span + d->limits.buckets - 1) / d->limits.buckets;

	s->bucket_ns = MAX_OF(MAX_OF(MIN_OF(s->window_ns, span), finest), BUCKET_MIN);
	s->buckets = (uint32_t)MAX_OF((span + s->bucket_ns - 1) / s->bucket_ns, 1u);
}

/* A row belongs to the bucket of its window's middle; one that came since the first reading, to the nearest. */
static uint32_t bucket_of(struct page_data *d, struct side *s, const struct flame_row *row)
{
	uint64_t middle = row->ts - MIN_OF(row->window_ns / 2 + 1, row->ts);

	if (!s->buckets)
		plan_buckets(d, s);
	return middle <= s->from ? 0 : (uint32_t)MIN_OF((middle - s->from) / s->bucket_ns, s->buckets - 1ull);
}

static int find_thread(struct page_data *d, const struct flame_row *row, uint32_t *ret)
{
	struct thread thread = { .pid = row->pid, .tid = row->tid };
	uint64_t key;
	int r = flame_tree_text(&d->tree, row->comm.text, row->comm.length, &thread.comm);

	if (r == 0)
		r = flame_tree_text(&d->tree, row->container.text, row->container.length, &thread.container);
	if (r == 0)
		r = flame_tree_text(&d->tree, row->cgroup.text, row->cgroup.length, &thread.cgroup);
	if (r == 0)
		r = flame_tree_text(&d->tree, row->proc.text, row->proc.length, &thread.proc);
	if (r < 0)
		return r;
	key = flame_hash(&d->tree.secret, &thread, sizeof thread);
	if (flame_map_find(&d->by_thread, key, ret))
		return 0;
	if (d->n_threads >> THREAD_BITS)
		return -ENOBUFS;
	r = flame_grow(&d->budget, &d->threads, &d->threads_room, d->n_threads, sizeof *d->threads);
	if (r == 0)
		r = flame_map_put(&d->by_thread, key, (uint32_t)d->n_threads);
	if (r < 0)
		return r;
	*ret = (uint32_t)d->n_threads;
	d->threads[d->n_threads++] = thread;
	return 0;
}

static void append(char *text, size_t *size, struct flame_text part)
{
	if (!part.length || *size + part.length + 8 > CAUSE_MAX)
		return;
	if (*size) {
		memcpy(text + *size, " \xc2\xb7 ", 4); /* a dot between */
		*size += 4;
	}
	memcpy(text + *size, part.text, part.length);
	*size += part.length;
}

/* What a thread waited for stands on top of its stack. */
static int add_cause(struct page_data *d, const struct flame_row *row, uint32_t *node)
{
	char text[CAUSE_MAX];
	size_t size = 0;
	uint32_t frame;
	int r;

	append(text, &size, row->state);
	append(text, &size, row->syscall);
	append(text, &size, row->file);
	append(text, &size, row->peer);
	if (!size)
		return 0;
	r = flame_tree_made(&d->tree, FRAME_CAUSE, text, size, &frame);
	return r < 0 ? r : flame_tree_node(&d->tree, *node, frame, node);
}

static int find_node(struct page_data *d, const struct flame_row *row, uint32_t *ret)
{
	struct flame_text comm = row->comm.text ? row->comm : (struct flame_text){ "-", 1 };
	uint32_t frame, node;
	int r = flame_tree_made(&d->tree, FRAME_PROCESS, comm.text, comm.length, &frame);

	if (r == 0)
		r = flame_tree_node(&d->tree, 0, frame, &node);
	if (r == 0)
		r = flame_tree_stack(&d->tree, node, row, &node);
	if (r == 0 && row->measure == FLAME_OFFCPU)
		r = add_cause(d, row, &node);
	if (r == 0 && node >> NODE_BITS)
		r = -ENOBUFS;
	if (r == 0)
		*ret = node;
	return r;
}

static int rebuild_map(struct page_data *d)
{
	int r = 0;

	flame_map_free(&d->by_key);
	flame_map_begin(&d->by_key, &d->budget);
	for (size_t i = 0; r == 0 && i < d->n_amounts; i++)
		r = flame_map_put(&d->by_key, d->amounts[i].key, (uint32_t)i);
	return r;
}

/* Where there is no room, first the threads, then the stack, then times are told apart less. */
static int add_row(struct page_data *d, unsigned side, const struct flame_row *row, uint64_t value)
{
	uint32_t thread = 0, node = d->full_node;
	int r = find_thread(d, row, &thread);

	if (r < 0 && r != -ENOBUFS)
		return r;
	r = find_node(d, row, &node);
	if (r == -ENOBUFS)
		d->rows_without_room++;
	else if (r < 0)
		return r;
	for (;;) {
		uint32_t bucket = bucket_of(d, &d->sides[side], row);

		r = add_amount(d, make_key(side, row->measure, bucket, thread, node), value);
		if (r != -ENOBUFS || !page_data_coarsen(d))
			break;
		r = rebuild_map(d);
		if (r < 0 && r != -ENOBUFS)
			return r;
	}
	if (r != -ENOBUFS)
		return r;
	d->rows_without_room++;
	return add_amount(d, make_key(side, row->measure, 0, 0, d->full_node), value);
}

static int take_host(struct page_data *d, const struct flame_row *row)
{
	uint32_t host;
	int r = flame_tree_text(&d->tree, row->host.text, row->host.length, &host);

	if (r == -ENOBUFS)
		return 0;
	if (r < 0 || !host)
		return r;
	d->several_hosts = d->several_hosts || (d->host && d->host != host);
	d->host = d->host ? d->host : host;
	return 0;
}

int page_data_add(struct page_data *d, unsigned side, const struct flame_row *row)
{
	uint64_t value = row->measure == FLAME_EVENTS ? row->value : row->ns;
	int r = take_host(d, row);

	if (r < 0)
		return r;
	if (row->measure == FLAME_CPU) {
		d->period_ns = !d->sampled || d->period_ns == row->period_ns ? row->period_ns : 0;
		d->sampled = true;
	}
	r = add_row(d, side, row, value);
	if (r == 0)
		d->sides[side].totals[row->measure] += value;
	return r;
}

bool page_data_has(const struct page_data *d, unsigned side, enum flame_measure measure)
{
	return d->sides[side].totals[measure] > 0;
}
