// SPDX-License-Identifier: GPL-2.0-only
/* A module of the tests: one event for every task that names itself as tests/e2e/load_storm does, "sP" or "sB" and ten hex digits:
 * storm.alarm on the priority ring, storm.noise on bulk, each with the number as `n`. What was made is known to the last one. */
#include "sonde/probe.bpf.h"

struct storm_alarm {
	struct sonde_event event;
	__u64 n SONDE_DOC("the number in the name");
};

struct storm_noise {
	struct sonde_event event;
	__u64 n SONDE_DOC("the number in the name");
};

SONDE_EVENT(storm_alarm, "storm.alarm", 1, priority, "A task named itself sP and a number.");
SONDE_EVENT(storm_noise, "storm.noise", 1, bulk, "A task named itself sB and a number.");

SEC("tp_btf/task_rename")
int BPF_PROG(rename__tp_btf, struct task_struct *task, const char *name)
{
	struct storm_alarm *alarm;
	struct storm_noise *noise;
	char text[16] = {};
	__u64 n = 0;

	bpf_probe_read_kernel(text, sizeof text, name);
	if (text[0] != 's' || (text[1] != 'P' && text[1] != 'B') || text[12])
		return 0;
	for (int i = 2; i < 12; i++)
		n = n << 4 | (__u64)(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
	if (text[1] == 'P') {
		alarm = sonde_reserve(storm_alarm, sizeof *alarm);
		if (!alarm)
			return 0;
		alarm->n = n;
		sonde_submit(storm_alarm, alarm, sizeof *alarm);
	} else {
		noise = sonde_reserve(storm_noise, sizeof *noise);
		if (!noise)
			return 0;
		noise->n = n;
		sonde_submit(storm_noise, noise, sizeof *noise);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
