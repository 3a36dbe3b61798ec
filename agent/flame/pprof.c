/* SPDX-License-Identifier: Apache-2.0 */
/* Rows are summed by stack and labels (thread, container, cause) while they come. */
#include "flame/pprof_state.h"

#include <errno.h>
#include <string.h>

static int add_labels(struct pprof *p, const struct labels *labels, uint32_t *ret)
{
	uint64_t key = flame_hash(&p->tree.secret, labels, sizeof *labels);
	int r;

	if (flame_map_find(&p->by_labels, key, ret))
		return 0;
	r = flame_grow(&p->budget, &p->labels, &p->labels_room, p->n_labels, sizeof *p->labels);
	if (r < 0)
		return r;
	*ret = (uint32_t)p->n_labels;
	p->labels[p->n_labels++] = *labels;
	return flame_map_put(&p->by_labels, key, *ret);
}

static int find_sum(struct pprof *p, uint32_t node, uint32_t labels, struct sum **ret)
{
	uint64_t key = (uint64_t)node << 32 | labels;
	uint32_t place;
	int r;

	if (!flame_map_find(&p->by_sum, key, &place)) {
		r = flame_grow(&p->budget, &p->sums, &p->sums_room, p->n_sums, sizeof *p->sums);
		if (r == 0)
			r = flame_map_put(&p->by_sum, key, (uint32_t)p->n_sums);
		if (r < 0)
			return r;
		place = (uint32_t)p->n_sums++;
		p->sums[place] = (struct sum){ .node = node, .labels = labels };
	}
	*ret = &p->sums[place];
	return 0;
}

/* The place for rows without room is made before anything else takes it. */
static int begin(struct pprof *p)
{
	static const char left_out[] = "[left out: more stacks than fit in memory]";
	struct labels none = { 0 };
	struct sum *sum;
	uint32_t frame;
	int r = flame_tree_begin(&p->tree, &p->budget, OFFSETS_KEPT);

	if (r == 0)
		r = flame_tree_made(&p->tree, FRAME_NOTE, left_out, strlen(left_out), &frame);
	if (r == 0)
		r = flame_tree_node(&p->tree, 0, frame, &p->full_node);
	if (r == 0)
		r = add_labels(p, &none, &p->full_labels);
	if (r == 0)
		r = find_sum(p, p->full_node, p->full_labels, &sum);
	return r;
}

int pprof_make(struct pprof **ret, size_t memory)
{
	struct pprof *p = calloc(1, sizeof *p);
	int r;

	if (!p)
		return -ENOMEM;
	p->budget.limit = memory;
	p->first_ns = UINT64_MAX;
	flame_map_begin(&p->by_labels, &p->budget);
	flame_map_begin(&p->by_sum, &p->budget);
	flame_map_begin(&p->by_place, &p->budget);
	flame_map_begin(&p->by_mapping, &p->budget);
	r = begin(p);
	if (r < 0)
		pprof_free(p);
	else
		*ret = p;
	return r;
}

void pprof_free(struct pprof *p)
{
	if (!p)
		return;
	flame_map_free(&p->by_labels);
	flame_map_free(&p->by_sum);
	flame_map_free(&p->by_place);
	flame_map_free(&p->by_mapping);
	flame_release(&p->budget, &p->labels, &p->labels_room, sizeof *p->labels);
	flame_release(&p->budget, &p->sums, &p->sums_room, sizeof *p->sums);
	flame_release(&p->budget, &p->places, &p->places_room, sizeof *p->places);
	flame_release(&p->budget, &p->mappings, &p->mappings_room, sizeof *p->mappings);
	flame_tree_free(&p->tree);
	free(p);
}

uint64_t pprof_left_out(const struct pprof *p)
{
	return p->left_out;
}

static int read_labels(struct pprof *p, const struct flame_row *row, uint32_t *ret)
{
	const struct flame_text texts[TEXT_LABELS] = { row->comm, row->container, row->state, row->syscall, row->wait };
	struct labels labels = { .pid = row->pid, .tid = row->tid };
	int r = 0;

	for (size_t i = 0; r == 0 && i < TEXT_LABELS; i++)
		r = flame_tree_text(&p->tree, texts[i].text, texts[i].length, &labels.texts[i]);
	return r < 0 ? r : add_labels(p, &labels, ret);
}

int pprof_add(struct pprof *p, const void *map, size_t size)
{
	struct flame_row row;
	uint32_t node, labels;
	struct sum *sum;
	int r = flame_row_read(map, size, &row);

	if (r == 0)
		r = flame_tree_stack(&p->tree, 0, &row, &node);
	if (r == 0)
		r = read_labels(p, &row, &labels);
	if (r == 0)
		r = find_sum(p, node, labels, &sum);
	if (r == -ENOBUFS) {
		p->left_out++;
		r = find_sum(p, p->full_node, p->full_labels, &sum);
	}
	if (r < 0)
		return r == -ENODATA ? -EBADMSG : r;
	p->seen[row.measure] = true;
	if (row.measure == FLAME_CPU) {
		sum->samples += row.value;
		p->period_ns = p->period_ns ? MIN_OF(p->period_ns, row.period_ns) : row.period_ns;
	}
	sum->amounts[row.measure] += row.measure == FLAME_EVENTS ? row.value : row.ns;
	p->first_ns = MIN_OF(p->first_ns, row.ts - MIN_OF(row.ts, row.window_ns));
	p->last_ns = MAX_OF(p->last_ns, row.ts);
	return 0;
}
