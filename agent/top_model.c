/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's life and time, see top_model.h. A record is walked once (top_row.c); each type then has one function that
 * knows what its keys mean (top_profile.c, top_events.c).
 */
#include "top_row.h"

#include <errno.h>
#include <string.h>

static const struct taker {
	const char *type;
	void (*take)(struct top_model *m, const struct top_row *row);
} takers[] = {
	{ "profile.cpu", top_take_cpu },   { "profile.offcpu", top_take_offcpu }, { "tcp.connect", top_take_connect },
	{ "tcp.accept", top_take_accept }, { "tcp.close", top_take_close },       { "process.exec", top_take_exec },
	{ "alert", top_take_alert },       { "agent.loss", top_take_loss },       { "agent.ledger", top_take_ledger },
};

static const struct taker *taker_of(const char *type, size_t length)
{
	for (unsigned i = 0; i < ARRAY_SIZE(takers); i++)
		if (strlen(takers[i].type) == length && memcmp(takers[i].type, type, length) == 0)
			return &takers[i];
	return NULL;
}

/* Clocks of hosts differ: a record from the future counts as of now. False: it is older than the span. */
static bool place(struct top_model *m, struct top_row *row)
{
	uint64_t number;

	row->ts = top_row_number(row, TOP_K_TS);
	number = MIN_OF(row->ts / m->slice_ns, m->number);
	if (number + TOP_SLICES <= m->number)
		return false;
	row->slice = (unsigned)(number % TOP_SLICES);
	m->since = m->since ? MIN_OF(m->since, row->ts) : row->ts;
	return true;
}

static bool is_old(const struct top_model *m, const void *map, size_t size)
{
	struct value ts;

	return record_get(map, size, "ts", &ts) == 0 && ts.kind == VALUE_UINT &&
	       ts.u / m->slice_ns + TOP_SLICES <= m->number;
}

void top_model_record(struct top_model *m, const void *map, size_t size)
{
	const struct taker *taker;
	struct top_row row = { 0 };
	struct top_piece host;
	const char *type;
	size_t length;

	if (record_type(map, size, &type, &length) < 0) {
		m->bad++;
		return;
	}
	taker = taker_of(type, length);
	/* A look at the time is cheap, and a journal is mostly old. */
	if (!taker || is_old(m, map, size))
		return;
	if (top_row_read(&row, map, size) < 0) {
		m->bad++;
		return;
	}
	if (!place(m, &row))
		return;
	m->rows++;
	host = top_row_text(&row, TOP_K_HOST);
	if (host.size && !m->host[0])
		memcpy(m->host, host.at, MIN_OF(host.size, sizeof m->host - 1));
	taker->take(m, &row);
}

void top_model_advance(struct top_model *m, uint64_t now)
{
	uint64_t number = now / m->slice_ns;

	m->now = MAX_OF(m->now, now);
	if (number <= m->number)
		return;
	/* After a long pause every slice is over, but none of them twice. */
	for (uint64_t n = MAX_OF(m->number + 1, number + 1 - MIN_OF(number, (uint64_t)TOP_SLICES)); n <= number; n++) {
		unsigned slice = (unsigned)(n % TOP_SLICES);

		for (unsigned t = 0; t < TOP_TABLES; t++)
			top_table_turn(&m->tables[t], slice);
		m->cover[0][slice] = m->cover[1][slice] = (struct top_cover){ 0 };
	}
	m->number = number;
}

int top_model_open(struct top_model **ret, uint64_t span_ns)
{
	static const struct {
		uint32_t capacity, maxima;
		bool lasting;
	} tables[TOP_TABLES] = {
		[TOP_FUNCTIONS] = { 4096 },
		[TOP_PROCESSES] = { 2048 },
		[TOP_THREADS] = { 2048 },
		[TOP_CONTAINERS] = { 512 },
		[TOP_WAITS] = { 2048 },
		[TOP_PEERS] = { 2048, .maxima = 1u << TOP_LATENCY_MAX },
		[TOP_PROGRAMS] = { 1024 },
		[TOP_LOSSES] = { 256 },
		[TOP_LEDGER] = { TOP_LEDGER_TYPES, .lasting = true },
		[TOP_STACKS] = { 2048 },
		[TOP_TOTALS] = { 1 },
	};
	struct top_model *m = calloc(1, sizeof *m);
	int r = m ? 0 : -ENOMEM;

	for (unsigned t = 0; r == 0 && t < TOP_TABLES; t++)
		r = top_table_open(&m->tables[t], tables[t].capacity, tables[t].maxima, tables[t].lasting);
	if (r < 0) {
		top_model_close(m);
		return r;
	}
	m->span_ns = span_ns;
	m->slice_ns = MAX_OF(span_ns / TOP_SLICES, (uint64_t)1);
	*ret = m;
	return 0;
}

static void clear_logs(struct top_model *m)
{
	for (unsigned l = 0; l < TOP_LOGS; l++)
		for (unsigned i = 0; i < TOP_LINES; i++)
			free(m->logs[l].lines[i].text);
	memset(m->logs, 0, sizeof m->logs);
}

void top_model_close(struct top_model *m)
{
	if (!m)
		return;
	for (unsigned t = 0; t < TOP_TABLES; t++)
		top_table_close(&m->tables[t]);
	clear_logs(m);
	free(m);
}

void top_model_clear(struct top_model *m)
{
	for (unsigned t = 0; t < TOP_TABLES; t++)
		top_table_clear(&m->tables[t]);
	clear_logs(m);
	memset(m->cover, 0, sizeof m->cover);
	m->since = m->rows = m->bad = 0;
}

uint64_t top_model_covered(const struct top_model *m, bool offcpu)
{
	uint64_t begin = UINT64_MAX, end = 0;

	for (unsigned s = 0; s < TOP_SLICES; s++) {
		const struct top_cover *c = &m->cover[offcpu][s];

		if (c->end) {
			begin = MIN_OF(begin, c->begin);
			end = MAX_OF(end, c->end);
		}
	}
	return end > begin ? end - begin : 0;
}

uint64_t top_model_watched(const struct top_model *m)
{
	uint64_t begin = (m->number + 1) * m->slice_ns - MIN_OF((m->number + 1) * m->slice_ns, m->span_ns);

	begin = MAX_OF(begin, m->since);
	return m->since && m->now > begin ? m->now - begin : 0;
}

uint64_t top_model_sum(const struct top_model *m, unsigned value)
{
	const struct top_table *t = &m->tables[TOP_TOTALS];

	return t->count ? t->entries[0].sums[value] : 0;
}

uint64_t top_model_evicted(const struct top_model *m)
{
	uint64_t evicted = 0;

	for (unsigned t = 0; t < TOP_TABLES; t++)
		evicted += m->tables[t].evicted;
	return evicted;
}
