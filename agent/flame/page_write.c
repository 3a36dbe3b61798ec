/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data of a page as JSON, in columns: an array for each member, so that each compresses well. Only nodes with an
 * amount below them, their frames, texts and threads are written, under new numbers that keep the order (a node's parent
 * comes before it). Amounts are in multiples of their measure's greatest common divisor, buckets as steps from the last.
 */
#include "flame/page_state.h"

#include <errno.h>
#include <string.h>

#define UNUSED UINT32_MAX

static const char *const measures[FLAME_MEASURES] = { "cpu", "offcpu", "events" };

struct numbers {
	uint32_t *nodes, *frames, *texts, *threads; /* new number of each, or UNUSED */
};

static uint32_t *make_numbers(size_t n)
{
	uint32_t *numbers = malloc(MAX_OF(n, 1u) * sizeof *numbers);

	for (size_t i = 0; numbers && i < n; i++)
		numbers[i] = UNUSED;
	return numbers;
}

static void free_numbers(struct numbers *n)
{
	free(n->nodes);
	free(n->frames);
	free(n->texts);
	free(n->threads);
}

/* From marks (0) to numbers, in order. */
static void number(uint32_t *marks, size_t n)
{
	uint32_t next = 0;

	for (size_t i = 0; i < n; i++)
		if (marks[i] != UNUSED)
			marks[i] = next++;
}

static void mark_used(const struct page_data *d, struct numbers *n)
{
	n->nodes[0] = 0;
	for (size_t i = 0; i < d->n_amounts; i++) {
		if (!d->amounts[i].value)
			continue;
		n->threads[thread_in(d->amounts[i].key)] = 0;
		n->nodes[node_in(d->amounts[i].key)] = 0;
	}
	n->threads[0] = 0;
	for (size_t i = d->tree.n_nodes; i-- > 1;)
		if (n->nodes[i] != UNUSED) {
			const struct tree_frame *frame = &d->tree.frames[d->tree.nodes[i].frame];

			n->nodes[d->tree.nodes[i].parent] = 0;
			n->frames[d->tree.nodes[i].frame] = 0;
			n->texts[frame->name] = n->texts[frame->library] = n->texts[frame->build_id] = 0;
		}
	for (size_t i = 0; i < d->n_threads; i++)
		if (n->threads[i] != UNUSED) {
			const struct thread *t = &d->threads[i];

			n->texts[t->comm] = n->texts[t->container] = n->texts[t->cgroup] = n->texts[t->proc] = 0;
		}
	n->texts[0] = n->texts[d->host] = n->texts[d->sides[0].label] = n->texts[d->sides[1].label] = 0;
}

static int number_used(const struct page_data *d, struct numbers *n)
{
	n->nodes = make_numbers(d->tree.n_nodes);
	n->frames = make_numbers(d->tree.n_frames);
	n->texts = make_numbers(d->tree.n_texts);
	n->threads = make_numbers(d->n_threads);
	if (!n->nodes || !n->frames || !n->texts || !n->threads)
		return -ENOMEM;
	mark_used(d, n);
	number(n->nodes, d->tree.n_nodes);
	number(n->frames, d->tree.n_frames);
	number(n->texts, d->tree.n_texts);
	number(n->threads, d->n_threads);
	return 0;
}

static void put_next(struct sink *s, bool *first, uint64_t value)
{
	if (!*first)
		sink_put(s, ",", 1);
	*first = false;
	sink_number(s, value);
}

static void write_texts(const struct page_data *d, const struct numbers *n, struct sink *s)
{
	bool first = true;

	sink_format(s, "\"texts\":[");
	for (size_t i = 0; i < d->tree.n_texts; i++) {
		if (n->texts[i] == UNUSED)
			continue;
		if (!first)
			sink_put(s, ",", 1);
		first = false;
		sink_string(s, flame_tree_text_of(&d->tree, (uint32_t)i));
	}
	sink_format(s, "],\n");
}

/* One column over rows of `size` bytes: the number at `offset`, translated by `numbers` unless that is NULL. */
static void write_column(struct sink *s, const char *name, const void *rows, size_t n, size_t size, size_t offset,
			 bool wide, const uint32_t *used, const uint32_t *numbers)
{
	bool first = true;

	sink_format(s, "\"%s\":[", name);
	for (size_t i = 0; i < n; i++) {
		const char *at = (const char *)rows + i * size + offset;
		uint64_t value = wide ? *(const uint64_t *)at : *(const uint32_t *)at;

		if (used[i] != UNUSED)
			put_next(s, &first, numbers ? numbers[value] : value);
	}
	sink_format(s, "]");
}

#define COLUMN(s, rows, n, member, used, numbers)                                                                      \
	write_column(s, #member, rows, n, sizeof *(rows), offsetof(__typeof__(*(rows)), member),                       \
		     sizeof(rows)->member == sizeof(uint64_t), used, numbers)

static void write_tables(const struct page_data *d, const struct numbers *n, struct sink *s)
{
	const struct flame_tree *t = &d->tree;

	write_texts(d, n, s);
	sink_format(s, "\"frames\":{");
	COLUMN(s, t->frames, t->n_frames, name, n->frames, n->texts);
	sink_format(s, ",\n");
	COLUMN(s, t->frames, t->n_frames, library, n->frames, n->texts);
	sink_format(s, ",\n");
	COLUMN(s, t->frames, t->n_frames, build_id, n->frames, n->texts);
	sink_format(s, ",\n");
	COLUMN(s, t->frames, t->n_frames, kind, n->frames, NULL);
	sink_format(s, "},\n\"nodes\":{"); /* all but the root, whose number is 0 */
	COLUMN(s, t->nodes + 1, t->n_nodes - 1, parent, n->nodes + 1, n->nodes);
	sink_format(s, ",\n");
	COLUMN(s, t->nodes + 1, t->n_nodes - 1, frame, n->nodes + 1, n->frames);
	sink_format(s, "},\n\"threads\":{");
	COLUMN(s, d->threads, d->n_threads, pid, n->threads, NULL);
	sink_format(s, ",\n");
	COLUMN(s, d->threads, d->n_threads, tid, n->threads, NULL);
	sink_format(s, ",\n");
	COLUMN(s, d->threads, d->n_threads, comm, n->threads, n->texts);
	sink_format(s, ",\n");
	COLUMN(s, d->threads, d->n_threads, container, n->threads, n->texts);
	sink_format(s, ",\n");
	COLUMN(s, d->threads, d->n_threads, cgroup, n->threads, n->texts);
	sink_format(s, ",\n");
	COLUMN(s, d->threads, d->n_threads, proc, n->threads, n->texts);
	sink_format(s, "},\n");
}

enum column { BUCKETS, THREADS, NODES, VALUES, COLUMNS };

/* The amounts of one side and measure, [begin, end). */
static void write_group(const struct page_data *d, const struct numbers *n, const struct amount *begin,
			const struct amount *end, uint64_t unit, struct sink *s)
{
	static const char *const names[COLUMNS] = { "bucket", "thread", "node", "value" };

	for (int column = 0; column < COLUMNS; column++) {
		uint32_t last = 0;
		bool first = true;

		sink_format(s, ",\n\"%s\":[", names[column]);
		for (const struct amount *a = begin; a < end; a++) {
			uint32_t bucket = bucket_in(a->key);

			if (!a->value)
				continue;
			put_next(s, &first,
				 column == BUCKETS   ? bucket - last
				 : column == THREADS ? n->threads[thread_in(a->key)]
				 : column == NODES   ? n->nodes[node_in(a->key)]
						     : a->value / unit);
			last = bucket;
		}
		sink_put(s, "]", 1);
	}
}

static void write_amounts(const struct page_data *d, const struct numbers *n, struct sink *s)
{
	uint64_t units[FLAME_MEASURES] = { 0 };
	const struct amount *at = d->amounts, *end = at + d->n_amounts;
	bool first = true;

	for (const struct amount *a = at; a < end; a++)
		units[group_in(a->key) & 3] = common_divisor(a->value, units[group_in(a->key) & 3]);
	sink_format(s, "\"amounts\":[");
	while (at < end) {
		unsigned group = group_in(at->key);
		const struct amount *behind = at;

		while (behind < end && group_in(behind->key) == group)
			behind++;
		if (d->sides[group >> 2].totals[group & 3]) {
			sink_format(s, "%s{\"side\":%u,\"measure\":\"%s\",\"unit\":", first ? "" : ",\n", group >> 2,
				    measures[group & 3]);
			sink_number(s, units[group & 3]);
			write_group(d, n, at, behind, units[group & 3], s);
			sink_put(s, "}", 1);
			first = false;
		}
		at = behind;
	}
	sink_format(s, "]");
}

/* Times as milliseconds, which JavaScript's numbers hold exactly. */
static void write_sides(const struct page_data *d, const struct numbers *n, struct sink *s)
{
	sink_format(s, "\"sides\":[");
	for (size_t i = 0; i < PAGE_SIDES; i++) {
		const struct side *side = &d->sides[i];

		if (side->rows)
			sink_format(
				s,
				"%s{\"label\":%u,\"from\":%.3f,\"to\":%.3f,\"step\":%.6f,\"buckets\":%u,\"rows\":%llu}",
				i ? "," : "", n->texts[side->label], (double)side->from / 1e6, (double)side->to / 1e6,
				(double)side->bucket_ns / 1e6, MAX_OF(side->buckets, 1u),
				(unsigned long long)side->rows);
		else if (i == 0)
			sink_format(s, "{\"label\":%u,\"from\":0,\"to\":0,\"step\":1,\"buckets\":1,\"rows\":0}",
				    n->texts[side->label]);
	}
	sink_format(s, "],\n\"notes\":[");
	for (const char *note = d->notes; *note; note += strlen(note) + 1) {
		if (note != d->notes)
			sink_put(s, ",", 1);
		sink_string(s, (struct flame_span){ note, strlen(note) });
	}
	sink_format(s, "],\n");
}

int page_data_write(struct page_data *d, enum flame_measure first, struct sink *s)
{
	struct numbers n = { 0 };
	int r = number_used(d, &n);

	if (r == 0) {
		sink_format(s,
			    "{\"version\":1,\"program\":\"sonde " SONDE_VERSION "\",\"open\":\"%s\",\"period\":%llu,",
			    measures[first], (unsigned long long)d->period_ns);
		sink_format(s, "\"host\":%u,\"hosts\":%s,\n", n.texts[d->host], d->several_hosts ? "true" : "false");
		write_sides(d, &n, s);
		write_tables(d, &n, s);
		write_amounts(d, &n, s);
		sink_format(s, "}\n");
	}
	free_numbers(&n);
	return r;
}
