/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each stack's amount is kept in its own unit and as time, because only the end tells which can be written: samples of
 * one period are counted; samples of several periods, or beside waits, become nanoseconds. Once a part had to be written
 * early, samples are nanoseconds, which anything later can be added to. Occurrences add up with nothing else.
 */
#include "flame/folded.h"

#include "flame/tree.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct sum {
	uint32_t node;
	uint64_t value, ns;
};

struct folded {
	FILE *out;
	struct flame_budget budget;
	struct flame_tree tree;
	struct flame_map by_node;
	struct sum *sums;
	size_t n_sums, sums_room;
	bool seen[FLAME_MEASURES];
	uint64_t period_ns; /* of the samples so far */
	bool as_time;       /* periods differ, or a part is written already */
	uint64_t parts;     /* written early */
	uint32_t *path;
	char note[256];
};

static int begin_tables(struct folded *f)
{
	flame_map_begin(&f->by_node, &f->budget);
	return flame_tree_begin(&f->tree, &f->budget, OFFSETS_NONE);
}

static void end_tables(struct folded *f)
{
	flame_release(&f->budget, &f->sums, &f->sums_room, sizeof *f->sums);
	f->n_sums = 0;
	flame_map_free(&f->by_node);
	flame_tree_free(&f->tree);
}

int folded_make(struct folded **ret, FILE *out, size_t memory)
{
	struct folded *f = calloc(1, sizeof *f);
	int r = -ENOMEM;

	if (!f)
		return r;
	f->out = out;
	f->budget.limit = memory;
	f->path = malloc((FLAME_FRAMES_MAX + 2) * sizeof *f->path);
	if (f->path)
		r = begin_tables(f);
	if (r < 0)
		folded_free(f);
	else
		*ret = f;
	return r;
}

void folded_free(struct folded *f)
{
	if (!f)
		return;
	end_tables(f);
	free(f->path);
	free(f);
}

/* The separator is replaced in names. */
static void write_text(FILE *out, struct flame_span text)
{
	for (size_t i = 0; i < text.length; i++)
		putc_unlocked(text.text[i] == ';' ? ':' : text.text[i], out);
}

/* The marks that flamegraph.pl --color=java colours by. */
static void write_line(const struct folded *f, const struct sum *sum, bool time)
{
	size_t n = flame_tree_path(&f->tree, sum->node, f->path, FLAME_FRAMES_MAX + 2);

	for (size_t i = n; i-- > 0;) {
		const struct tree_frame *frame = &f->tree.frames[f->path[i]];

		write_text(f->out, flame_tree_text_of(&f->tree, frame->name));
		if (frame->kind == FRAME_KERNEL)
			fputs("_[k]", f->out);
		else if (frame->kind == FRAME_INLINE)
			fputs("_[i]", f->out);
		else if (frame->kind == FRAME_JIT)
			fputs("_[j]", f->out);
		putc_unlocked(i ? ';' : ' ', f->out);
	}
	fprintf(f->out, "%" PRIu64 "\n", time ? sum->ns : sum->value);
}

static int write_all_sums(struct folded *f)
{
	bool time = f->seen[FLAME_OFFCPU] || (f->seen[FLAME_CPU] && f->as_time);

	errno = 0;
	for (size_t i = 0; i < f->n_sums && !ferror_unlocked(f->out); i++)
		write_line(f, &f->sums[i], time);
	if (ferror_unlocked(f->out))
		return errno ? -errno : -EIO;
	return 0;
}

/* Writes what there is and starts over with empty tables. */
static int spill(struct folded *f)
{
	int r;

	f->as_time = true;
	f->parts++;
	r = write_all_sums(f);
	end_tables(f);
	return r < 0 ? r : begin_tables(f);
}

static int add(struct folded *f, const struct flame_row *row)
{
	struct flame_text comm = row->comm.text ? row->comm : (struct flame_text){ "-", 1 };
	uint32_t frame, node, place;
	int r = flame_tree_made(&f->tree, FRAME_PROCESS, comm.text, comm.length, &frame);

	if (r == 0)
		r = flame_tree_node(&f->tree, 0, frame, &node);
	if (r == 0)
		r = flame_tree_stack(&f->tree, node, row, &node);
	if (r < 0)
		return r;
	if (!flame_map_find(&f->by_node, node, &place)) {
		r = flame_grow(&f->budget, &f->sums, &f->sums_room, f->n_sums, sizeof *f->sums);
		if (r == 0)
			r = flame_map_put(&f->by_node, node, (uint32_t)f->n_sums);
		if (r < 0)
			return r;
		place = (uint32_t)f->n_sums++;
		f->sums[place] = (struct sum){ .node = node };
	}
	f->sums[place].value += row->value;
	f->sums[place].ns += row->ns;
	return 0;
}

static int take_unit(struct folded *f, const struct flame_row *row)
{
	bool events = row->measure == FLAME_EVENTS;

	if (events ? f->seen[FLAME_CPU] || f->seen[FLAME_OFFCPU] : f->seen[FLAME_EVENTS])
		return -EMEDIUMTYPE;
	f->seen[row->measure] = true;
	if (row->measure == FLAME_CPU) {
		f->as_time = f->as_time || (f->period_ns && f->period_ns != row->period_ns);
		f->period_ns = row->period_ns;
	}
	return 0;
}

int folded_add(struct folded *f, const void *map, size_t size)
{
	struct flame_row row;
	int r = flame_row_read(map, size, &row);

	if (r == 0)
		r = take_unit(f, &row);
	if (r == 0)
		r = add(f, &row);
	if (r == -ENOBUFS) {
		r = spill(f);
		if (r == 0)
			r = add(f, &row);
	}
	return r == -ENODATA ? -EBADMSG : r;
}

int folded_end(struct folded *f)
{
	int r = write_all_sums(f);

	f->note[0] = '\0';
	if (f->parts)
		snprintf(f->note, sizeof f->note,
			 "there are more stacks than fit in memory: some have several lines, which flamegraph.pl adds "
			 "up%s",
			 f->seen[FLAME_EVENTS] ? "" : "; values are nanoseconds");
	else if (f->seen[FLAME_CPU] && (f->seen[FLAME_OFFCPU] || f->as_time))
		snprintf(f->note, sizeof f->note, "values are nanoseconds: the rows count in different units");
	return r;
}

const char *folded_note(const struct folded *f)
{
	return f->note[0] ? f->note : NULL;
}
