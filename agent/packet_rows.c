/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record brings packets of one flow; records of several flows overlap in time. So packets are held, bytes and comments in one buffer, and
 * written sorted, by time and, where times are equal, as they came.
 */
#include "packet_rows.h"

#include "encode/record.h"
#include "packets/link.h"
#include "packets/pcapng_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define FIRST_ROOM   65536u
#define COMMENT_ROOM 1024u
#define FLAT_MAX     256u /* bytes of one text in a comment */

struct held {
	uint64_t time;
	size_t order;
	size_t bytes, comment; /* where, in the buffer */
	uint32_t captured, length;
	bool sent;
};

struct packet_rows {
	struct pcapng_writer writer;
	uint32_t interface;
	uint8_t *buffer;
	size_t used, room, most;
	struct held *held;
	size_t n, n_room;
	uint64_t count;
};

int packet_rows_make(struct packet_rows **ret, FILE *file, size_t bytes)
{
	struct packet_rows *rows = calloc(1, sizeof *rows);
	int r = rows ? pcapng_begin_file(&rows->writer, file, "sonde " SONDE_VERSION) : -ENOMEM;

	if (r == 0)
		r = pcapng_add_interface(&rows->writer, LINK_RAW, 0, "sonde", &rows->interface);
	if (r < 0) {
		free(rows);
		return r;
	}
	rows->most = bytes;
	*ret = rows;
	return 0;
}

void packet_rows_free(struct packet_rows *rows)
{
	if (!rows)
		return;
	free(rows->buffer);
	free(rows->held);
	free(rows);
}

uint64_t packet_rows_count(const struct packet_rows *rows)
{
	return rows->count;
}

/* ---- the comment ---- */

struct comment {
	char text[COMMENT_ROOM];
	size_t used;
};

/* Names of programs and cgroups are anybody's: nothing of them begins a line or looks like another key. What is cut ends in "...". */
static void put_flat(struct comment *c, const uint8_t *text, size_t length)
{
	for (size_t i = 0; i < length && i < FLAT_MAX && c->used + 1 < sizeof c->text; i++)
		c->text[c->used++] = text[i] <= ' ' || text[i] == 127 ? '_' : (char)text[i];
	c->text[c->used] = '\0';
	if (length > FLAT_MAX)
		put_flat(c, (const uint8_t *)"...", 3);
}

static void put_value(struct comment *c, const struct value *key, const struct value *value)
{
	char number[24];

	if (c->used + 1 < sizeof c->text)
		c->text[c->used++] = ' ';
	put_flat(c, key->body, key->length);
	put_flat(c, (const uint8_t *)"=", 1);
	if (value->kind == VALUE_STR) {
		put_flat(c, value->body, value->length);
		return;
	}
	snprintf(number, sizeof number, "%" PRIu64, value->u);
	put_flat(c, (const uint8_t *)number, strlen(number));
}

static bool is_key(const struct value *key, const char *name)
{
	return key->kind == VALUE_STR && key->length == strlen(name) && !memcmp(key->body, name, key->length);
}

struct reading {
	struct comment comment;
	struct value packets;
	const uint8_t *packets_end;
	bool is_capture;
};

/* What a packet's comment says of its record, in the record's order. */
static int read_key(void *context, const struct value *key, const struct value *value, const uint8_t *next)
{
	static const char *const said[] = { "seq",  "host",    "run",       "pid",       "comm",
					    "proc", "parent",  "container", "cgroup",    "reason",
					    "part", "request", "missed",    "event_seq", "trigger" };
	struct reading *r = context;

	if (is_key(key, "type") && value->kind == VALUE_STR) {
		r->is_capture = is_key(value, "packet.capture");
		put_flat(&r->comment, value->body, value->length);
	}
	if (is_key(key, "packets") && value->kind == VALUE_ARRAY) {
		r->packets = *value;
		r->packets_end = next;
	}
	for (size_t i = 0; i < ARRAY_SIZE(said); i++)
		if (is_key(key, said[i]) && (value->kind == VALUE_STR || value->kind == VALUE_UINT))
			put_value(&r->comment, key, value);
	return 0;
}

/* ---- packets ---- */

static int grow(void **at, size_t *room, size_t size, size_t needed)
{
	size_t more = *room ? *room : FIRST_ROOM / size;
	void *fresh;

	if (needed <= *room)
		return 0;
	while (more < needed)
		more *= 2;
	fresh = realloc(*at, more * size);
	if (!fresh)
		return -ENOMEM;
	*at = fresh;
	*room = more;
	return 0;
}

static int keep_bytes(struct packet_rows *rows, const void *bytes, size_t size, size_t *ret_at)
{
	int r = grow((void **)&rows->buffer, &rows->room, 1, rows->used + size);

	if (r < 0)
		return r;
	if (size)
		memcpy(rows->buffer + rows->used, bytes, size);
	*ret_at = rows->used;
	rows->used += size;
	return 0;
}

/* [ts, sent, length, bytes] */
static int read_packet(const uint8_t *at, const uint8_t *end, struct held *ret, struct value *ret_bytes,
		       const uint8_t **ret_next)
{
	struct value array, time, sent, length;

	if (value_read(at, end, &array) < 0 || array.kind != VALUE_ARRAY || array.count != 4 ||
	    value_read(array.body, end, &time) < 0 || time.kind != VALUE_UINT ||
	    value_read(time.next, end, &sent) < 0 || sent.kind != VALUE_BOOL ||
	    value_read(sent.next, end, &length) < 0 || length.kind != VALUE_UINT ||
	    value_read(length.next, end, ret_bytes) < 0 || ret_bytes->kind != VALUE_BIN || length.u > INT32_MAX ||
	    ret_bytes->length > length.u)
		return -EBADMSG;
	*ret = (struct held){
		.time = time.u, .captured = ret_bytes->length, .length = (uint32_t)length.u, .sent = sent.truth
	};
	*ret_next = ret_bytes->next;
	return 0;
}

static int hold(struct packet_rows *rows, struct held *h, const struct value *bytes)
{
	int r = keep_bytes(rows, bytes->body, bytes->length, &h->bytes);

	if (r == 0)
		r = grow((void **)&rows->held, &rows->n_room, sizeof *rows->held, rows->n + 1);
	if (r < 0)
		return r;
	h->order = rows->n;
	rows->held[rows->n++] = *h;
	rows->count++;
	return 0;
}

static int check_packets(const struct reading *r)
{
	const uint8_t *at = r->packets.body;

	for (uint32_t i = 0; i < r->packets.count; i++) {
		struct value bytes;
		struct held h;

		if (read_packet(at, r->packets_end, &h, &bytes, &at) < 0)
			return -EBADMSG;
	}
	return 0;
}

int packet_rows_add(struct packet_rows *rows, const void *map, size_t size)
{
	struct reading reading = { 0 };
	const uint8_t *at;
	size_t comment;
	int r = record_each(map, size, read_key, &reading);

	if (r < 0 || !reading.is_capture || !reading.packets_end || check_packets(&reading) < 0)
		return -EBADMSG;
	if (rows->used + size > rows->most)
		r = packet_rows_end(rows);
	if (r == 0)
		r = keep_bytes(rows, reading.comment.text, reading.comment.used + 1, &comment);
	at = reading.packets.body;
	for (uint32_t i = 0; i < reading.packets.count && r == 0; i++) {
		struct value bytes;
		struct held h;

		r = read_packet(at, reading.packets_end, &h, &bytes, &at);
		h.comment = comment;
		if (r == 0)
			r = hold(rows, &h, &bytes);
	}
	return r;
}

static int by_time(const void *a, const void *b)
{
	const struct held *x = a, *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

static int write_held(struct packet_rows *rows, const struct held *h)
{
	char comment[COMMENT_ROOM + 16];

	snprintf(comment, sizeof comment, "%s %s", (const char *)rows->buffer + h->comment,
		 h->sent ? "sent" : "received");
	return pcapng_write_packet(&rows->writer, rows->interface, h->time, rows->buffer + h->bytes, h->captured,
				   h->length, comment);
}

int packet_rows_end(struct packet_rows *rows)
{
	int r = 0;

	if (rows->n)
		qsort(rows->held, rows->n, sizeof *rows->held, by_time);
	for (size_t i = 0; i < rows->n && r == 0; i++)
		r = write_held(rows, &rows->held[i]);
	rows->n = rows->used = 0;
	return r;
}
