// SPDX-License-Identifier: GPL-2.0-only
/* The two programs of test_burst: what each of them would sample, counted by thread, as the cpu module's will do it. */
#include "sonde/probe.bpf.h"
#include "probes/cpu/burst.bpf.h"

struct taken {
	__u64 base, burst, burst_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct taken);
} taken SEC(".maps");

static struct taken *taken_of_current(void)
{
	__u64 key = bpf_get_current_pid_tgid();
	struct taken none = {}, *t = bpf_map_lookup_elem(&taken, &key);

	if (t)
		return t;
	bpf_map_update_elem(&taken, &key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&taken, &key);
}

SEC("perf_event")
int sample__perf_event(void *ctx)
{
	struct taken *t;

	if (cpu_burst_period())
		return 0;
	t = taken_of_current();
	if (t)
		__sync_fetch_and_add(&t->base, 1);
	return 0;
}

SEC("perf_event")
int burst__perf_event(void *ctx)
{
	__u64 period = cpu_burst_period();
	struct taken *t;

	if (!period)
		return 0;
	t = taken_of_current();
	if (t) {
		__sync_fetch_and_add(&t->burst, 1);
		__sync_fetch_and_add(&t->burst_ns, period);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
