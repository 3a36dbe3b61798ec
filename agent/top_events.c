/* SPDX-License-Identifier: Apache-2.0 */
/* Events into the model: connections, programs begun, alerts, and what was lost. */
#include "top_row.h"

#include <string.h>

/* "10.0.0.1:443", "[2001:db8::1]:443", and of a client of ours "10.0.0.1 > :6379". */
static void name_peer(struct top_entry *e, struct top_piece address, uint64_t port, bool incoming)
{
	bool brackets = !incoming && memchr(address.at, ':', address.size);
	char text[96];
	int n = snprintf(text, sizeof text, "%s%.*s%s%llu", brackets ? "[" : "", (int)MIN_OF(address.size, (size_t)64),
			 address.at,
			 incoming   ? " > :"
			 : brackets ? "]:"
				    : ":",
			 (unsigned long long)port);

	top_entry_text(e, text, (size_t)n);
}

/* A client's peer is a service: its address and port. Of a server's clients the port says nothing: they are told apart by
 * address and by the own port that they came to. */
static struct top_entry *take_peer(struct top_model *m, const struct top_row *row, bool incoming)
{
	struct top_piece address = top_row_text(row, TOP_K_RADDR), comm = top_row_text(row, TOP_K_COMM);
	uint64_t port = top_row_number(row, incoming ? TOP_K_LPORT : TOP_K_RPORT);
	struct top_join key = { .size = 0 };
	struct top_entry *e;

	top_join_text(&key, top_piece(incoming ? "in" : "out"));
	top_join_text(&key, address);
	top_join_number(&key, port);
	e = top_row_take(m, TOP_PEERS, &key);
	if (!e)
		return NULL;
	if (!e->text)
		name_peer(e, address, port, incoming);
	if (comm.size)
		top_entry_name(e, comm.at, comm.size);
	return e;
}

static void take_open(struct top_model *m, const struct top_row *row, bool incoming)
{
	struct top_entry *e = take_peer(m, row, incoming);

	top_row_add(m, TOP_PEERS, e, row, TOP_OPENED, 1);
	top_row_add(m, TOP_PEERS, e, row, TOP_ERRORS, top_row_has(row, TOP_K_ERROR));
	if (top_row_has(row, TOP_K_LATENCY)) {
		top_row_add(m, TOP_PEERS, e, row, TOP_LATENCY, top_row_number(row, TOP_K_LATENCY));
		top_row_add(m, TOP_PEERS, e, row, TOP_LATENCY_COUNT, 1);
		top_row_add(m, TOP_PEERS, e, row, TOP_LATENCY_MAX, top_row_number(row, TOP_K_LATENCY));
	}
	top_row_add_total(m, row, TOP_ALL_CONNECTS, 1);
}

void top_take_close(struct top_model *m, const struct top_row *row)
{
	struct top_piece side = top_row_text(row, TOP_K_SIDE);
	struct top_entry *e = take_peer(m, row, side.size == 6 && memcmp(side.at, "server", 6) == 0);

	if (top_row_has(row, TOP_K_SRTT)) {
		top_row_add(m, TOP_PEERS, e, row, TOP_SRTT, top_row_number(row, TOP_K_SRTT));
		top_row_add(m, TOP_PEERS, e, row, TOP_SRTT_COUNT, 1);
	}
	top_row_add(m, TOP_PEERS, e, row, TOP_RETRANSMITS, top_row_number(row, TOP_K_RETRANSMITS));
	top_row_add(m, TOP_PEERS, e, row, TOP_ERRORS, top_row_has(row, TOP_K_ERROR));
	top_row_add(m, TOP_PEERS, e, row, TOP_BYTES,
		    top_row_number(row, TOP_K_SENT) + top_row_number(row, TOP_K_RECEIVED));
	top_row_add_total(m, row, TOP_ALL_CLOSES, 1);
}

static void log_line(struct top_log *log, const struct top_row *row, const struct top_join *text)
{
	struct top_line *line = &log->lines[log->taken % TOP_LINES];
	struct top_piece comm = top_row_text(row, TOP_K_COMM);
	char *copy = malloc(text->size + 1);

	if (!copy)
		return;
	memcpy(copy, text->bytes, text->size);
	copy[text->size] = '\0';
	free(line->text);
	*line = (struct top_line){ .time = row->ts,
				   .pid = (uint32_t)top_row_number(row, TOP_K_PID),
				   .uid = (uint32_t)top_row_number(row, TOP_K_UID),
				   .has_uid = top_row_has(row, TOP_K_UID),
				   .text = copy,
				   .text_size = (uint32_t)text->size };
	memcpy(line->name, comm.at, MIN_OF(comm.size, sizeof line->name - 1));
	log->taken++;
}

void top_take_exec(struct top_model *m, const struct top_row *row)
{
	const struct value *args = &row->values[TOP_K_ARGS];
	const uint8_t *at = args->body;
	struct top_join key = { .size = 0 }, text = { .size = 0 };
	struct value arg;

	top_join_text(&key, top_row_text(row, TOP_K_EXE));
	top_row_add(m, TOP_PROGRAMS, top_row_take(m, TOP_PROGRAMS, &key), row, TOP_COUNT, 1);
	top_row_add_total(m, row, TOP_ALL_EXECS, 1);
	for (uint32_t i = 0; args->kind == VALUE_ARRAY && i < args->count && text.size < TOP_KEY_MAX; i++) {
		if (value_read(at, row->end, &arg) < 0 || arg.kind != VALUE_STR)
			break;
		top_join_text(&text, (struct top_piece){ (const char *)arg.body, arg.length });
		at = arg.next;
	}
	if (!text.size)
		top_join_text(&text, top_row_text(row, TOP_K_EXE));
	log_line(&m->logs[TOP_EXECS], row, &text);
}

/* A priority may be a name or a number. */
void top_take_alert(struct top_model *m, const struct top_row *row)
{
	struct top_join text = { .size = 0 };

	top_join_text(&text, top_row_text(row, TOP_K_RULE));
	if (row->values[TOP_K_PRIORITY].kind == VALUE_UINT)
		top_join_number(&text, top_row_number(row, TOP_K_PRIORITY));
	else
		top_join_text(&text, top_row_text(row, TOP_K_PRIORITY));
	top_join_text(&text, top_row_text(row, TOP_K_OUTPUT));
	log_line(&m->logs[TOP_ALERTS], row, &text);
	top_row_add_total(m, row, TOP_ALL_ALERTS, 1);
}

void top_take_loss(struct top_model *m, const struct top_row *row)
{
	struct top_join key = { .size = 0 };

	top_join_text(&key, top_row_text(row, TOP_K_EVENT));
	top_join_text(&key, top_row_text(row, TOP_K_REASON));
	top_row_add(m, TOP_LOSSES, top_row_take(m, TOP_LOSSES, &key), row, TOP_COUNT, top_row_number(row, TOP_K_COUNT));
	top_row_add_total(m, row, TOP_ALL_LOST, top_row_number(row, TOP_K_COUNT));
}

/* A number, or the sum of a map's numbers. */
static uint64_t sum_of(const struct value *v, const uint8_t *end)
{
	const uint8_t *at = v->body;
	struct value name, number;
	uint64_t sum = 0;

	if (v->kind == VALUE_UINT)
		return v->u;
	for (uint32_t i = 0; v->kind == VALUE_MAP && i < v->count; i++) {
		if (value_read(at, end, &name) < 0 || !name.next || value_read(name.next, end, &number) < 0 ||
		    !number.next)
			break;
		sum += number.kind == VALUE_UINT ? number.u : 0;
		at = number.next;
	}
	return sum;
}

static void take_counts(struct top_entry *e, const uint8_t *at, const uint8_t *end)
{
	static const char *const names[] = {
		[TOP_PRODUCED] = "produced",   [TOP_FILTERED] = "filtered",         [TOP_DROPPED] = "dropped",
		[TOP_JOURNALED] = "journaled", [TOP_ACKNOWLEDGED] = "acknowledged", [TOP_PENDING] = "pending",
		[TOP_EXPIRED] = "expired"
	};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		struct value v;

		e->sums[i] = record_get(at, (size_t)(end - at), names[i], &v) == 0 ? sum_of(&v, end) : 0;
	}
}

void top_take_ledger(struct top_model *m, const struct top_row *row)
{
	const struct value *types = &row->values[TOP_K_TYPES];
	const uint8_t *at = types->body, *next;
	struct value name;

	for (uint32_t i = 0; types->kind == VALUE_MAP && i < MIN_OF(types->count, TOP_LEDGER_TYPES); i++) {
		struct top_join key = { .size = 0 };
		struct top_entry *e;

		if (value_read(at, row->end, &name) < 0 || name.kind != VALUE_STR)
			return;
		next = value_skip(name.next, row->end);
		if (!next)
			return;
		top_join_text(&key, (struct top_piece){ (const char *)name.body, name.length });
		e = top_row_take(m, TOP_LEDGER, &key);
		if (e)
			take_counts(e, name.next, next);
		at = next;
	}
}

void top_take_connect(struct top_model *m, const struct top_row *row)
{
	take_open(m, row, false);
}

void top_take_accept(struct top_model *m, const struct top_row *row)
{
	take_open(m, row, true);
}
