/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One account a type. What only the loop's thread counts are plain numbers; what a sink's thread counts are atomics. The kernel's
 * counters are per CPU and only grow, so reading them while programs run gives numbers that some events are already past: those
 * are what `open` is made of.
 */
#include "ledger.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "encode/pack.h"

const char *const ledger_reason_names[LEDGER_REASONS] = {
	[LEDGER_RING_FULL] = "ring_full",
	[LEDGER_MAP_FULL] = "map_full",
	[LEDGER_READ_FAILED] = "read_failed",
	[LEDGER_NO_SIZE_CLASS] = "no_size_class",
	[LEDGER_RATE] = "rate",
	[LEDGER_JOURNAL_FULL] = "journal_full",
	[LEDGER_DISK_FULL] = "disk_full",
	[LEDGER_TOO_LARGE] = "too_large",
	[LEDGER_MALFORMED] = "malformed",
	[LEDGER_TABLE_FULL] = "table_full",
	[LEDGER_STOPPED] = "stopped",
	[LEDGER_UNACCOUNTED] = "unaccounted",
};

const char *const ledger_expiry_names[LEDGER_EXPIRIES] = {
	[LEDGER_OVERFLOW] = "overflow",
	[LEDGER_RETENTION] = "retention",
	[LEDGER_REFUSED] = "refused",
};

_Static_assert((int)LEDGER_JOURNAL_FULL == (int)SONDE_DROP_KERNEL_REASONS, "the kernel's reasons come first");

struct account {
	uint64_t received, made, journaled;
	uint64_t dropped[LEDGER_REASONS];
	struct sonde_counts kernel; /* summed over CPUs, as of the last refresh */
	_Atomic uint64_t acknowledged;
	_Atomic uint64_t expired[LEDGER_EXPIRIES];
	_Atomic uint64_t earlier;                                      /* expired records of earlier runs */
	uint64_t told[LEDGER_REASONS + LEDGER_EXPIRIES], told_earlier; /* losses already reported */
};

struct ledger {
	const struct schema *schema;
	int counters;
	int n_cpus;
	struct sonde_counts *per_cpu;
	struct account accounts[SONDE_TYPES_MAX];
};

int ledger_new(struct ledger **ret, const struct schema *schema, int counters)
{
	struct ledger *ledger = calloc(1, sizeof *ledger);

	if (!ledger)
		return -ENOMEM;
	ledger->schema = schema;
	ledger->counters = counters;
	ledger->n_cpus = counters >= 0 ? libbpf_num_possible_cpus() : 1;
	ledger->per_cpu = ledger->n_cpus > 0 ? calloc((size_t)ledger->n_cpus, sizeof *ledger->per_cpu) : NULL;
	if (!ledger->per_cpu) {
		free(ledger);
		return -ENOMEM;
	}
	*ret = ledger;
	return 0;
}

void ledger_free(struct ledger *ledger)
{
	if (ledger)
		free(ledger->per_cpu);
	free(ledger);
}

void ledger_received(struct ledger *ledger, uint16_t type)
{
	ledger->accounts[type].received++;
}

void ledger_made(struct ledger *ledger, uint16_t type, uint64_t count)
{
	ledger->accounts[type].made += count;
}

void ledger_journaled(struct ledger *ledger, uint16_t type, uint64_t count)
{
	ledger->accounts[type].journaled += count;
}

void ledger_dropped(struct ledger *ledger, uint16_t type, enum ledger_reason reason, uint64_t count)
{
	ledger->accounts[type].dropped[reason] += count;
}

void ledger_acknowledged(struct ledger *ledger, uint16_t type)
{
	atomic_fetch_add_explicit(&ledger->accounts[type].acknowledged, 1, memory_order_relaxed);
}

void ledger_expired(struct ledger *ledger, uint16_t type, enum ledger_expiry why)
{
	atomic_fetch_add_explicit(&ledger->accounts[type].expired[why], 1, memory_order_relaxed);
}

void ledger_expired_earlier(struct ledger *ledger, uint16_t type)
{
	atomic_fetch_add_explicit(&ledger->accounts[type].earlier, 1, memory_order_relaxed);
}

static uint64_t kernel_dropped(const struct account *a)
{
	uint64_t sum = 0;

	for (int i = 0; i < SONDE_DROP_KERNEL_REASONS; i++)
		sum += a->kernel.dropped[i];
	return sum;
}

static void read_kernel(struct ledger *ledger, uint32_t type)
{
	struct sonde_counts sum = { 0 };

	if (ledger->counters < 0 || bpf_map_lookup_elem(ledger->counters, &type, ledger->per_cpu) < 0)
		return;
	for (int cpu = 0; cpu < ledger->n_cpus; cpu++) {
		sum.produced += ledger->per_cpu[cpu].produced;
		sum.filtered += ledger->per_cpu[cpu].filtered;
		for (int i = 0; i < SONDE_DROP_KERNEL_REASONS; i++)
			sum.dropped[i] += ledger->per_cpu[cpu].dropped[i];
	}
	ledger->accounts[type].kernel = sum;
}

void ledger_row(const struct ledger *ledger, uint16_t type, struct ledger_row *ret)
{
	const struct account *a = &ledger->accounts[type];
	uint64_t began = a->kernel.produced + a->made, expired = 0;
	struct ledger_row r = { .filtered = a->kernel.filtered, .journaled = a->journaled };

	r.produced = r.filtered + r.journaled;
	for (int i = 0; i < LEDGER_REASONS; i++) {
		r.dropped[i] = a->dropped[i] + (i < SONDE_DROP_KERNEL_REASONS ? a->kernel.dropped[i] : 0);
		r.produced += r.dropped[i];
	}
	r.open = began > r.produced ? began - r.produced : 0;
	/* What the agent itself takes in is settled there: no sink ever sees it. */
	r.acknowledged = schema_type(ledger->schema, type)->internal
				 ? r.journaled
				 : atomic_load_explicit(&a->acknowledged, memory_order_relaxed);
	for (int i = 0; i < LEDGER_EXPIRIES; i++)
		expired += r.expired[i] = atomic_load_explicit(&a->expired[i], memory_order_relaxed);
	r.pending = r.journaled > r.acknowledged + expired ? r.journaled - r.acknowledged - expired : 0;
	*ret = r;
}

void ledger_refresh(struct ledger *ledger, bool final)
{
	for (uint16_t type = 0; type < schema_count(ledger->schema); type++) {
		struct ledger_row row;

		read_kernel(ledger, type);
		if (!final)
			continue;
		ledger_row(ledger, type, &row);
		ledger->accounts[type].dropped[LEDGER_UNACCOUNTED] += row.open;
	}
}

uint64_t ledger_in_ring(const struct ledger *ledger, uint16_t type)
{
	const struct account *a = &ledger->accounts[type];
	uint64_t out = a->kernel.filtered + kernel_dropped(a) + a->received;

	return a->kernel.produced > out ? a->kernel.produced - out : 0;
}

uint64_t ledger_in_rings(const struct ledger *ledger)
{
	uint64_t sum = 0;

	for (uint16_t type = 0; type < schema_count(ledger->schema); type++)
		sum += ledger_in_ring(ledger, type);
	return sum;
}

uint64_t ledger_expired_sum(const struct ledger *ledger)
{
	uint64_t sum = 0;

	for (uint16_t type = 0; type < schema_count(ledger->schema); type++) {
		const struct account *a = &ledger->accounts[type];

		for (int i = 0; i < LEDGER_EXPIRIES; i++)
			sum += atomic_load_explicit(&a->expired[i], memory_order_relaxed);
		sum += atomic_load_explicit(&a->earlier, memory_order_relaxed);
	}
	return sum;
}

/* Where a loss is told: to whom, of which type, and whether all could be. */
struct telling {
	ledger_lost *lost;
	void *context;
	uint16_t type;
	bool all;
};

static void tell(struct telling *t, const char *reason, uint64_t now, uint64_t *told)
{
	if (now <= *told)
		return;
	if (t->lost(t->context, t->type, reason, now - *told) == 0)
		*told = now;
	else
		t->all = false;
}

bool ledger_each_loss(struct ledger *ledger, ledger_lost *lost, void *context)
{
	struct telling t = { .lost = lost, .context = context, .all = true };

	for (t.type = 0; t.type < schema_count(ledger->schema); t.type++) {
		struct account *a = &ledger->accounts[t.type];
		struct ledger_row row;

		ledger_row(ledger, t.type, &row);
		for (int i = 0; i < LEDGER_REASONS; i++)
			tell(&t, ledger_reason_names[i], row.dropped[i], &a->told[i]);
		for (int i = 0; i < LEDGER_EXPIRIES; i++)
			if (i != LEDGER_RETENTION) /* that is what the bound is for, not a loss */
				tell(&t, ledger_expiry_names[i], row.expired[i], &a->told[LEDGER_REASONS + i]);
		tell(&t, "earlier_run", atomic_load_explicit(&a->earlier, memory_order_relaxed), &a->told_earlier);
	}
	return t.all;
}

static void pack_reasons(struct pack *p, const char *key, const uint64_t *counts, const char *const *names, int n)
{
	uint16_t written = 0;
	uint8_t *place;

	pack_text(p, key);
	place = pack_open_map(p);
	for (int i = 0; i < n; i++) {
		if (!counts[i])
			continue;
		pack_text(p, names[i]);
		pack_uint(p, counts[i]);
		written++;
	}
	pack_close(p, place, written);
}

static void pack_row(struct pack *p, const struct ledger_row *row)
{
	const struct {
		const char *key;
		uint64_t value;
	} numbers[] = { { "produced", row->produced },   { "filtered", row->filtered },
			{ "journaled", row->journaled }, { "acknowledged", row->acknowledged },
			{ "pending", row->pending },     { "open", row->open } };
	uint8_t *place = pack_open_map(p);

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		pack_text(p, numbers[i].key);
		pack_uint(p, numbers[i].value);
	}
	pack_reasons(p, "dropped", row->dropped, ledger_reason_names, LEDGER_REASONS);
	pack_reasons(p, "expired", row->expired, ledger_expiry_names, LEDGER_EXPIRIES);
	pack_close(p, place, (uint16_t)(ARRAY_SIZE(numbers) + 2));
}

size_t ledger_pack(const struct ledger *ledger, void *room, size_t size)
{
	struct pack p = pack_over(room, size);
	uint8_t *place = pack_open_map(&p);
	uint16_t n = 0;

	for (uint16_t type = 0; type < schema_count(ledger->schema); type++) {
		struct ledger_row row;

		ledger_row(ledger, type, &row);
		if (!row.produced && !row.open)
			continue;
		pack_text(&p, schema_type(ledger->schema, type)->name);
		pack_row(&p, &row);
		n++;
	}
	pack_close(&p, place, n);
	return p.full ? 0 : (size_t)(p.at - (uint8_t *)room);
}
