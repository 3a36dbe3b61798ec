/* SPDX-License-Identifier: Apache-2.0 */
/* From a ring record to its map, for the events that there are most of: ns an event, on one core, and bytes of the map. */
#include <errno.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "encode/plan.h"
#include "modules.h"
#include "probes/exec/exec.h"
#include "probes/tcp/tcp.h"

#define ROUNDS 300000

struct record {
	uint8_t bytes[4096];
	uint32_t at;
};

static void put(struct record *r, struct sonde_text *text, const char *bytes, uint32_t size)
{
	*text = (struct sonde_text){ .offset = (uint16_t)r->at, .length = (uint16_t)size };
	memcpy(r->bytes + r->at, bytes, size);
	r->at += size;
}

static void *begin(struct record *r, uint32_t size)
{
	struct sonde_event *e = (void *)r->bytes;

	*e = (struct sonde_event){ .time = 123456789012345,
				   .proc = 0x8f3c0e6a2b9d1174,
				   .parent = 0x1c34ac7b2ffe0aa1,
				   .cgroup = 4711,
				   .pid = 12345,
				   .tid = 12345,
				   .comm = "bash" };
	r->at = size;
	return e;
}

#define PUT(r, text, bytes) put(r, text, bytes, sizeof(bytes) - 1)

static void make_exec(struct record *r)
{
	struct process_exec *e = begin(r, sizeof *e);

	PUT(r, &e->exe, "grep\0bin\0usr\0");
	PUT(r, &e->args, "grep\0--color=auto\0-rn\0main\0/srv/app/src\0");
	PUT(r, &e->cwd, "app\0srv\0");
	e->uid = e->euid = e->gid = e->egid = 1000;
	e->ino = 393265;
	e->dev = 65025;
	e->ns_pid = 12345;
	e->pid_ns = e->mnt_ns = e->net_ns = e->user_ns = e->uts_ns = e->ipc_ns = e->cgroup_ns = 4026531836;
	memcpy(e->tty, "pts0", 4);
}

static void make_exit(struct record *r)
{
	struct process_exit *e = begin(r, sizeof *e);

	e->exit_code = 1;
	e->run_ns = 1834567;
	e->cpu_ns = 1234567;
	e->peak_rss_bytes = 3 << 20;
}

static void make_close(struct record *r)
{
	struct tcp_close *e = begin(r, sizeof *e);

	memcpy(e->laddr.bytes, (uint8_t[16]){ [10] = 0xff, 0xff, 10, 20, 30, 40 }, 16);
	memcpy(e->raddr.bytes, (uint8_t[16]){ [10] = 0xff, 0xff, 192, 168, 100, 200 }, 16);
	e->lport = 443;
	e->rport = 51234;
	e->side = TCP_SIDE_SERVER;
	e->sent_bytes = 123456;
	e->received_bytes = 2345;
	e->life_ns = 123456789;
	e->srtt_ns = 234000;
	e->min_rtt_ns = 198000;
}

static int read_builtin(struct schema *schema)
{
	for (const struct builtin_object *b = builtin_objects; b->name; b++) {
		struct bpf_object *object = bpf_object__open_mem(b->begin, (size_t)(b->end - b->begin), NULL);
		int r = object ? schema_add(schema, b->name, bpf_object__btf(object), NULL) : -EINVAL;

		bpf_object__close(object);
		if (r < 0)
			return r;
	}
	return 0;
}

static int measure(const struct schema *schema, const char *name, void (*make)(struct record *r))
{
	static const char cgroup[] = "/system.slice/docker-0123456789abcdef.scope", container[] = "0123456789abcdef";
	const struct identity_text identity = { .cgroup = cgroup,
						.container = container,
						.cgroup_length = sizeof cgroup - 1,
						.container_length = sizeof container - 1 };
	const struct event_type *type = schema_find(schema, name, strlen(name));
	struct record record = { 0 };
	struct envelope envelope;
	struct plan *plan = NULL;
	uint8_t room[16384];
	uint32_t size = 0;
	uint64_t best = UINT64_MAX;

	make(&record);
	((struct sonde_event *)record.bytes)->size = record.at;
	if (!type || envelope_init(&envelope, "web-1.example.org", "6b03fbec2aebee09") < 0 ||
	    plan_compile(&plan, type) < 0)
		return 1;
	for (int turn = 0; turn < 5; turn++) {
		uint64_t began = now_boottime_ns(), took;

		for (uint32_t i = 0; i < ROUNDS; i++) {
			uint32_t most = plan_room(plan, record.at, sizeof cgroup + sizeof container);

			size = plan_encode(plan, &envelope, (void *)record.bytes, i, &identity, room, most);
		}
		took = now_boottime_ns() - began;
		best = took < best ? took : best;
	}
	printf("%-14s %6.1f ns an event, %u bytes\n", name, (double)best / ROUNDS, size);
	plan_free(plan);
	return size ? 0 : 1;
}

int main(void)
{
	struct schema *schema;
	int r;

	if (schema_new(&schema) < 0 || read_builtin(schema) < 0)
		return 1;
	r = measure(schema, "process.exec", make_exec) | measure(schema, "process.exit", make_exit) |
	    measure(schema, "tcp.close", make_close);
	schema_free(schema);
	return r;
}
