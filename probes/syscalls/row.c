/* SPDX-License-Identifier: Apache-2.0 */
#include "probes/syscalls/row.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "encode/pack.h"

#define OTHERS "other"

/* ---- times ---- */

uint64_t syscalls_least(unsigned bucket)
{
	unsigned step = bucket - 1;

	if (!bucket)
		return 0;
	return (uint64_t)(4 + step % 4) << (SYSCALLS_FIRST_LOG + step / 4 - 2);
}

/* The middle of the bucket in which the permille-th of all times lies, at most the longest that was seen. */
static uint64_t percentile(const struct syscalls_sums *sums, uint64_t count, unsigned permille)
{
	uint64_t wanted = (count * permille + 999) / 1000, seen = 0;

	for (unsigned i = 0; i < SYSCALLS_BUCKETS - 1; i++) {
		seen += sums->buckets[i];
		if (seen >= wanted)
			return MIN_OF((syscalls_least(i) + syscalls_least(i + 1) - 1) / 2, sums->max_ns);
	}
	return sums->max_ns;
}

static void pack_number(struct pack *p, const char *format, unsigned long long key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof text, format, key);
	pack_text(p, text);
	pack_uint(p, value);
}

static uint16_t pack_times(struct pack *p, const struct syscalls_sums *sums)
{
	uint8_t *begin = p->at, *place = pack_open_map(p);
	uint16_t count = 0;

	for (unsigned i = 0; i < SYSCALLS_BUCKETS; i++) {
		if (!sums->buckets[i])
			continue;
		pack_number(p, "%llu", syscalls_least(i), sums->buckets[i]);
		count++;
	}
	pack_close(p, place, count);
	return (uint16_t)(p->at - begin);
}

/* ---- errors ---- */

static void pack_errno(struct pack *p, uint32_t error, uint64_t count)
{
	const char *name = strerrorname_np((int)error);

	if (!name) {
		pack_number(p, "%llu", error, count);
		return;
	}
	pack_text(p, name);
	pack_uint(p, count);
}

static uint16_t pack_errors(struct pack *p, const struct syscalls_sums *sums)
{
	uint8_t *begin = p->at, *place;
	uint64_t named = 0;
	uint16_t count = 0;

	if (!sums->errors)
		return 0;
	place = pack_open_map(p);
	for (unsigned i = 0; i < SYSCALLS_ERRORS; i++) {
		if (!sums->by_errno[i])
			continue;
		pack_errno(p, sums->errnos[i], sums->by_errno[i]);
		named += sums->by_errno[i];
		count++;
	}
	if (sums->errors > named) {
		pack_text(p, OTHERS);
		pack_uint(p, sums->errors - named);
		count++;
	}
	pack_close(p, place, count);
	return (uint16_t)(p->at - begin);
}

/* ---- the row ---- */

static void fill_event(struct sonde_event *event, const struct syscalls_key *key, const struct syscalls_sums *sums,
		       uint64_t time)
{
	*event = (struct sonde_event){ .flags = sums->flags | (sums->pid ? 0 : SONDE_FLAG_NO_TASK),
				       .time = time,
				       .proc = key->proc,
				       .parent = sums->parent,
				       .cgroup = sums->cgroup,
				       .pid = sums->pid,
				       .tid = sums->pid,
				       .size = sizeof(struct syscalls_row) };
	memcpy(event->comm, sums->comm, sizeof event->comm);
}

static void fill_name(struct syscalls_row *to, const struct syscalls_key *key)
{
	if (key->proc)
		syscalls_name(to->name, key->nr, key->compat);
	else
		snprintf(to->name, sizeof to->name, OTHERS);
	if (!to->name[0])
		snprintf(to->name, sizeof to->name, "%u", key->nr);
	to->row.syscall = (struct sonde_text){ offsetof(struct syscalls_row, name), (uint16_t)strlen(to->name) };
}

static void fill_times(struct syscall_stats *row, const struct syscalls_sums *sums, uint64_t window_ns)
{
	row->count = sums->count;
	row->errors = sums->errors;
	row->sum_ns = sums->sum_ns;
	row->max_ns = sums->max_ns;
	row->p50_ns = percentile(sums, sums->count, 500);
	row->p90_ns = percentile(sums, sums->count, 900);
	row->p99_ns = percentile(sums, sums->count, 990);
	row->window_ns = window_ns;
}

bool syscalls_row(struct syscalls_row *to, const struct syscalls_key *key, const struct syscalls_sums *sums,
		  uint64_t time, uint64_t window_ns)
{
	struct pack errnos = pack_over(to->errnos, sizeof to->errnos), hist = pack_over(to->hist, sizeof to->hist);

	if (sums->filtered || !sums->count)
		return false;
	memset(&to->row, 0, sizeof to->row);
	fill_event(&to->row.event, key, sums, time);
	to->row.nr = key->proc ? key->nr : 0;
	to->row.compat = key->compat;
	fill_name(to, key);
	fill_times(&to->row, sums, window_ns);
	to->row.errnos = (struct sonde_text){ offsetof(struct syscalls_row, errnos), pack_errors(&errnos, sums) };
	to->row.hist = (struct sonde_text){ offsetof(struct syscalls_row, hist), pack_times(&hist, sums) };
	return true;
}
