/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open-addressed table, cleared with each window. Some cgroups' ids may be chosen to collide: the table is small, so that costs no more than
 * a walk over it. What does not fit is summed in `rest`, so that no wait is lost.
 */
#include "probes/sched/groups.h"

#include <string.h>

#include "encode/pack.h"

static struct sched_group *find(struct sched_groups *g, uint64_t cgroup, bool v1)
{
	uint64_t h = (cgroup ^ v1) * 0x9e3779b97f4a7c15ull;

	if (!cgroup)
		return &g->rest;
	for (unsigned i = 0; i < SCHED_GROUPS_MAX; i++) {
		struct sched_group *at = &g->groups[((h >> 32) + i) % SCHED_GROUPS_MAX];

		if (at->used && (at->cgroup != cgroup || at->cgroup_v1 != v1))
			continue;
		if (!at->used) {
			*at = (struct sched_group){ .cgroup = cgroup, .cgroup_v1 = v1, .used = true };
			g->used++;
		}
		return at;
	}
	return &g->rest;
}

void sched_groups_add(struct sched_groups *g, const struct sched_report *report)
{
	struct sched_group *to = find(g, report->event.cgroup, report->event.flags & SONDE_FLAG_CGROUP_V1);

	to->used = true;
	to->sum_ns += report->latency_sum_ns;
	to->max_ns = MAX_OF(to->max_ns, report->latency_max_ns);
	for (unsigned i = 0; i < SCHED_BUCKETS; i++) {
		to->hist[i] += report->_hist[i];
		to->count += report->_hist[i];
	}
}

void sched_groups_clear(struct sched_groups *g)
{
	memset(g, 0, sizeof *g);
}

uint64_t sched_bucket_begin(unsigned bucket)
{
	unsigned log = SCHED_FIRST_LOG + (bucket - 1) / 4;

	if (bucket == 0)
		return 0;
	return (1ull << log) + (uint64_t)((bucket - 1) % 4) * (1ull << (log - 2));
}

uint64_t sched_group_percentile(const struct sched_group *group, unsigned part)
{
	uint64_t rank = (group->count * part + 999) / 1000, seen = 0;

	for (unsigned i = 0; i + 1 < SCHED_BUCKETS; i++) {
		seen += group->hist[i];
		if (seen >= rank && group->count)
			return MIN_OF(sched_bucket_begin(i + 1) - 1, group->max_ns);
	}
	return group->max_ns;
}

size_t sched_group_pack(const struct sched_group *group, void *to, size_t room)
{
	struct pack p = pack_over(to, room);
	uint8_t *place = pack_open_map(&p);
	uint16_t n = 0;

	for (unsigned i = 0; i < SCHED_BUCKETS; i++) {
		char begin[24];

		if (!group->hist[i])
			continue;
		snprintf(begin, sizeof begin, "%llu", (unsigned long long)sched_bucket_begin(i));
		pack_text(&p, begin);
		pack_uint(&p, group->hist[i]);
		n++;
	}
	pack_close(&p, place, n);
	return p.full ? 0 : (size_t)(p.at - (uint8_t *)to);
}
