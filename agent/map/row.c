/* SPDX-License-Identifier: Apache-2.0 */
/* One walk over the record's keys. A key whose value is of another kind than the schema's counts as damage where the map stands on it. */
#include "map/row.h"

#include "encode/record.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define DIGITS_MAX 20u

enum { NUMBER, TEXT, ADDRESS, PORT };

static const char *const types[MAP_EVENTS] = {
	[MAP_CONNECT] = "tcp.connect", [MAP_ACCEPT] = "tcp.accept",         [MAP_CLOSE] = "tcp.close",
	[MAP_QUERY] = "dns.query",     [MAP_TURNAROUND] = "tcp.turnaround",
};

static const struct key {
	const char *name;
	uint8_t kind;
	size_t offset;
} keys[] = {
	{ "ts", NUMBER, offsetof(struct map_row, ts) },
	{ "host", TEXT, offsetof(struct map_row, host) },
	{ "comm", TEXT, offsetof(struct map_row, comm) },
	{ "container", TEXT, offsetof(struct map_row, container) },
	{ "cgroup", TEXT, offsetof(struct map_row, cgroup) },
	{ "proc", TEXT, offsetof(struct map_row, proc) },
	{ "error", TEXT, offsetof(struct map_row, error) },
	{ "rcode", TEXT, offsetof(struct map_row, rcode) },
	{ "laddr", ADDRESS, offsetof(struct map_row, local) },
	{ "client", ADDRESS, offsetof(struct map_row, local) },
	{ "raddr", ADDRESS, offsetof(struct map_row, remote) },
	{ "server", ADDRESS, offsetof(struct map_row, remote) },
	{ "lport", PORT, offsetof(struct map_row, local) },
	{ "client_port", PORT, offsetof(struct map_row, local) },
	{ "rport", PORT, offsetof(struct map_row, remote) },
	{ "server_port", PORT, offsetof(struct map_row, remote) },
	{ "latency_ns", NUMBER, offsetof(struct map_row, latency_ns) },
	{ "srtt_ns", NUMBER, offsetof(struct map_row, srtt_ns) },
	{ "sent_bytes", NUMBER, offsetof(struct map_row, sent_bytes) },
	{ "received_bytes", NUMBER, offsetof(struct map_row, received_bytes) },
	{ "retransmits", NUMBER, offsetof(struct map_row, retransmits) },
	{ "count", NUMBER, offsetof(struct map_row, count) },
	{ "errors", NUMBER, offsetof(struct map_row, errors) },
	{ "sum_ns", NUMBER, offsetof(struct map_row, sum_ns) },
	{ "max_ns", NUMBER, offsetof(struct map_row, max_ns) },
};

bool map_text_is(struct map_text text, const char *what)
{
	return text.length == strlen(what) && (!text.length || memcmp(text.text, what, text.length) == 0);
}

static struct map_text text_of(const struct value *v)
{
	return (struct map_text){ (const char *)v->body, v->length };
}

static int take_address(struct map_end *end, const struct value *v)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	char text[INET6_ADDRSTRLEN];

	if (v->kind != VALUE_STR || v->length >= sizeof text || memchr(v->body, '\0', v->length))
		return -EBADMSG;
	memcpy(text, v->body, v->length);
	text[v->length] = '\0';
	if (inet_pton(AF_INET, text, end->address.bytes + sizeof mapped) == 1)
		memcpy(end->address.bytes, mapped, sizeof mapped);
	else if (inet_pton(AF_INET6, text, end->address.bytes) != 1)
		return -EBADMSG;
	end->has_address = true;
	return 0;
}

static int take_key(struct map_row *row, const struct key *key, const struct value *v)
{
	char *field = (char *)row + key->offset;
	struct map_end *end = (struct map_end *)field;

	switch (key->kind) {
	case NUMBER:
		if (v->kind != VALUE_UINT)
			return -EBADMSG;
		*(uint64_t *)field = v->u;
		row->has_latency |= key->offset == offsetof(struct map_row, latency_ns);
		row->has_srtt |= key->offset == offsetof(struct map_row, srtt_ns);
		return 0;
	case TEXT:
		if (v->kind != VALUE_STR)
			return -EBADMSG;
		*(struct map_text *)field = text_of(v);
		return 0;
	case PORT:
		if (v->kind != VALUE_UINT || v->u > UINT16_MAX)
			return -EBADMSG;
		end->port = (uint16_t)v->u;
		end->has_port = true;
		return 0;
	default:
		return take_address(end, v);
	}
}

static int take(void *context, const struct value *name, const struct value *v, const uint8_t *next)
{
	struct map_text key = text_of(name);
	struct map_row *row = context;

	if (map_text_is(key, "side")) {
		if (v->kind != VALUE_STR)
			return -EBADMSG;
		row->side = map_text_is(text_of(v), "client")   ? MAP_CLIENT
			    : map_text_is(text_of(v), "server") ? MAP_SERVER
								: MAP_UNKNOWN;
		return 0;
	}
	if (map_text_is(key, "hist")) {
		if (v->kind != VALUE_MAP)
			return -EBADMSG;
		row->hist = v->body;
		row->hist_end = next;
		row->n_hist = v->count;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (map_text_is(key, keys[i].name))
			return take_key(row, &keys[i], v);
	return 0;
}

static bool is_whole(const struct map_end *end)
{
	return end->has_address && end->has_port;
}

static int check(struct map_row *row)
{
	row->owned = row->comm.length || row->container.length;
	switch (row->event) {
	case MAP_QUERY:
		if (!row->remote.has_port)
			row->remote.port = 53;
		return row->remote.has_address ? 0 : -EBADMSG;
	case MAP_TURNAROUND:
		return row->local.has_port || is_whole(&row->remote) ? 0 : -EBADMSG;
	case MAP_CONNECT:
		row->side = MAP_CLIENT;
		break;
	case MAP_ACCEPT:
		row->side = MAP_SERVER;
		break;
	default:
		break;
	}
	return is_whole(&row->local) && is_whole(&row->remote) ? 0 : -EBADMSG;
}

static int find_event(const void *map, size_t size, enum map_event *ret)
{
	struct map_text type;

	if (record_type(map, size, &type.text, &type.length) < 0)
		return -EBADMSG;
	for (unsigned i = 0; i < MAP_EVENTS; i++)
		if (map_text_is(type, types[i])) {
			*ret = i;
			return 0;
		}
	return -ENODATA;
}

int map_row_read(const void *map, size_t size, struct map_row *ret)
{
	struct map_row row = { 0 };
	int r = find_event(map, size, &row.event);

	if (r == 0)
		r = record_each(map, size, take, &row);
	if (r == 0)
		r = check(&row);
	if (r == 0)
		*ret = row;
	return r;
}

bool map_row_bucket(struct map_row *row, uint64_t *ret_ns, uint64_t *ret_count)
{
	struct value key, count;

	if (!row->n_hist || value_read(row->hist, row->hist_end, &key) < 0 || key.kind != VALUE_STR || !key.length ||
	    key.length > DIGITS_MAX || value_read(key.next, row->hist_end, &count) < 0 || count.kind != VALUE_UINT)
		return false;
	*ret_ns = 0;
	for (uint32_t i = 0; i < key.length; i++)
		if (key.body[i] < '0' || key.body[i] > '9' || __builtin_mul_overflow(*ret_ns, 10, ret_ns) ||
		    __builtin_add_overflow(*ret_ns, key.body[i] - '0', ret_ns))
			return false;
	*ret_count = count.u;
	row->hist = count.next;
	row->n_hist--;
	return true;
}
