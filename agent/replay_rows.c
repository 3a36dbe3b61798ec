/* SPDX-License-Identifier: Apache-2.0 */
/* Each row is put together as a record of the ring would be: the declared struct, and its variable parts behind it. */
#include "replay_rows.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "encode/pack.h"
#include "encode/plan.h"
#include "modules.h"
#include "probes/dns/row.h"
#include "probes/tcp/tcp.h"
#include "probes/turnaround/row.h"

#define ROW_BYTES  65536u
#define NAME_BYTES 96u /* of the capture's name in `host` */

enum row_type { ROW_CONNECT, ROW_ACCEPT, ROW_CLOSE, ROW_TURNAROUND, ROW_SLOW, ROW_DNS, ROW_TYPES };
/* Which module declares each. */
static const struct {
	const char *module, *record;
} records[ROW_TYPES] = {
	{ "tcp", "tcp_connect" },           { "tcp", "tcp_accept" },      { "tcp", "tcp_close" },
	{ "turnaround", "tcp_turnaround" }, { "turnaround", "tcp_slow" }, { "dns", "dns_query_event" }
};
static const char *const modules[] = { "tcp", "turnaround", "dns" };

struct replay_rows {
	struct schema *schema;
	struct plan *plans[ROW_TYPES];
	struct envelope envelope;
	replay_sink *sink;
	void *context;
	uint64_t seq;
	int error;
	uint32_t map_room;
	uint8_t *map;
	uint8_t record[ROW_BYTES] __attribute__((aligned(8)));
};

/* ---- begin and end ---- */

static int read_module(struct replay_rows *rows, const char *module, struct fault *fault)
{
	const struct builtin_object *b = builtin_objects;
	struct bpf_object *object;
	int r;

	while (b->name && strcmp(b->name, module))
		b++;
	if (!b->name)
		return -ENOENT;
	object = bpf_object__open_mem(b->begin, (size_t)(b->end - b->begin), NULL);
	if (!object)
		return -errno;
	r = schema_add(rows->schema, module, bpf_object__btf(object), fault);
	bpf_object__close(object);
	return r;
}

static int read_schema(struct replay_rows *rows, struct fault *fault)
{
	int r = schema_new(&rows->schema);

	for (size_t i = 0; i < ARRAY_SIZE(modules) && r >= 0; i++)
		r = read_module(rows, modules[i], fault);
	return r;
}

static int make_plans(struct replay_rows *rows)
{
	for (int i = 0; i < ROW_TYPES; i++) {
		const struct event_type *type = schema_find_record(rows->schema, records[i].module, records[i].record);
		int r = type ? plan_compile(&rows->plans[i], type) : -ENOENT;

		if (r < 0)
			return r;
		rows->map_room = MAX_OF(rows->map_room, plan_room(rows->plans[i], ROW_BYTES, 0));
	}
	rows->map = malloc(rows->map_room);
	return rows->map ? 0 : -ENOMEM;
}

static int name_source(struct replay_rows *rows, const char *path)
{
	const char *base = strrchr(path, '/');
	char name[NAME_BYTES + 1], run[17];
	struct {
		uint64_t device, inode, size, seconds;
	} where = { 0 };
	struct stat st;
	int r;

	base = base && base[1] ? base + 1 : path;
	snprintf(name, sizeof name, "%s", strcmp(path, "-") ? base : "stdin");
	if (strcmp(path, "-") && stat(path, &st) == 0) {
		where.device = st.st_dev;
		where.inode = st.st_ino;
		where.size = (uint64_t)st.st_size;
		where.seconds = (uint64_t)st.st_mtim.tv_sec;
	} else {
		where.size = now_realtime_ns();
	}
	snprintf(run, sizeof run, "%016" PRIx64, hash_bytes(&where, sizeof where));
	r = envelope_init(&rows->envelope, name, run);
	rows->envelope.boot_to_epoch = 0; /* packets have the time of day */
	return r;
}

int replay_rows_new(struct replay_rows **ret, const char *path, replay_sink *sink, void *context, struct fault *fault)
{
	struct replay_rows *rows = calloc(1, sizeof *rows);
	int r;

	if (!rows)
		return fault_set(fault, -ENOMEM, "out of memory");
	rows->sink = sink;
	rows->context = context;
	fault_set(fault, 0, "%s", "");
	r = read_schema(rows, fault);
	if (r == 0)
		r = make_plans(rows);
	if (r == 0)
		r = name_source(rows, path);
	if (r < 0) {
		replay_rows_free(rows);
		return fault->text[0] ? r : fault_set(fault, r, "the event types cannot be read: %s", strerror(-r));
	}
	*ret = rows;
	return 0;
}

void replay_rows_free(struct replay_rows *rows)
{
	if (!rows)
		return;
	for (int i = 0; i < ROW_TYPES; i++)
		plan_free(rows->plans[i]);
	schema_free(rows->schema);
	free(rows->map);
	free(rows);
}

int replay_rows_error(const struct replay_rows *rows)
{
	return rows->error;
}

uint64_t replay_rows_count(const struct replay_rows *rows)
{
	return rows->seq;
}

/* ---- rows ---- */

static void *begin(struct replay_rows *rows, uint64_t time, size_t size)
{
	struct sonde_event *event = memset(rows->record, 0, size);

	event->time = time;
	event->flags = SONDE_FLAG_NO_TASK;
	event->size = (uint32_t)size;
	return event;
}

static void end(struct replay_rows *rows, enum row_type type)
{
	uint32_t size;

	if (rows->error < 0)
		return;
	size = plan_encode(rows->plans[type], &rows->envelope, (struct sonde_event *)rows->record, rows->seq, NULL,
			   rows->map, rows->map_room);
	rows->error = size ? rows->sink(rows->context, rows->map, size) : -EMSGSIZE;
	rows->seq++;
}

#define PUT_ENDS(row, ends, local)                                                                                     \
	do {                                                                                                           \
		memcpy((row)->laddr.bytes, (ends)->ip[local].bytes, 16);                                               \
		memcpy((row)->raddr.bytes, (ends)->ip[!(local)].bytes, 16);                                            \
		(row)->lport = (ends)->port[local];                                                                    \
		(row)->rport = (ends)->port[!(local)];                                                                 \
	} while (0)

void replay_row_connect(struct replay_rows *rows, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns,
			int error)
{
	struct tcp_connect *row = begin(rows, time, sizeof *row);

	PUT_ENDS(row, ends, FLOW_CLIENT);
	row->latency_ns = latency_ns;
	row->error = error;
	end(rows, ROW_CONNECT);
}

void replay_row_accept(struct replay_rows *rows, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns)
{
	struct tcp_accept *row = begin(rows, time, sizeof *row);

	PUT_ENDS(row, ends, FLOW_SERVER);
	row->latency_ns = latency_ns;
	end(rows, ROW_ACCEPT);
}

/* One row for each end, as an agent on each end's host would write. */
void replay_row_close(struct replay_rows *rows, const struct flow_ends *ends, const struct flow_close *close)
{
	for (int side = FLOW_CLIENT; side <= FLOW_SERVER; side++) {
		struct tcp_close *row = begin(rows, close->time, sizeof *row);

		PUT_ENDS(row, ends, side);
		row->side = side == FLOW_CLIENT ? TCP_SIDE_CLIENT : TCP_SIDE_SERVER;
		row->sent_bytes = close->ends[side].sent_bytes;
		row->received_bytes = close->ends[!side].sent_bytes;
		row->life_ns = close->life_ns;
		row->min_rtt_ns = close->ends[side].min_rtt_ns;
		row->retransmits = close->ends[side].retransmits;
		row->error = close->ends[side].error;
		end(rows, ROW_CLOSE);
	}
}

void replay_row_slow(struct replay_rows *rows, const struct flow_ends *ends, uint64_t time, uint64_t turnaround_ns)
{
	struct tcp_slow *row = begin(rows, time, sizeof *row);

	PUT_ENDS(row, ends, FLOW_SERVER);
	row->side = TCP_SIDE_SERVER;
	row->turnaround_ns = turnaround_ns;
	end(rows, ROW_SLOW);
}

void replay_row_turnaround(struct replay_rows *rows, const struct service *service, uint64_t time, uint64_t window_ns)
{
	const struct histogram *h = &service->times;
	struct tcp_turnaround *row = begin(rows, time, sizeof *row);
	struct pack hist = pack_over(rows->record + sizeof *row, UINT16_MAX - sizeof *row);

	memcpy(row->laddr.bytes, service->ip.bytes, 16);
	row->lport = service->port;
	row->side = TCP_SIDE_SERVER;
	turnaround_fill_times(row, h);
	row->errors = service->errors;
	row->window_ns = window_ns;
	histogram_pack(h, &hist);
	row->hist.offset = sizeof *row;
	row->hist.length = (uint16_t)(hist.at - (rows->record + sizeof *row));
	row->event.size += row->hist.length;
	end(rows, ROW_TURNAROUND);
}

void replay_row_dns(struct replay_rows *rows, const struct dns_query *q)
{
	struct dns_row *row = begin(rows, q->time, sizeof *row);

	dns_row_fill(row, q);
	end(rows, ROW_DNS);
}
