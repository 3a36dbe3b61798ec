/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A busy stream with made-up rows of every type that `sonde top` shows, for measuring what the view costs and for looking
 * at it: `bench_top JOURNAL RATE SECONDS` writes RATE records a second, in steps of 10 ms, and then says how many it wrote.
 * A tenth are profile rows with stacks of 30 frames; names include some that try to write to the terminal.
 */
#include <string.h>
#include <time.h>

#include "encode/pack.h"
#include "journal/journal.h"

#define STEP_NS   (10 * NS_PER_MS)
#define ROW_BYTES 8192

struct stream {
	struct journal *journal;
	uint64_t seq;
	uint8_t *place;
	uint16_t pairs;
};

static const char *const comms[] = { "redis-server",       "postgres",  "nginx", "java",
				     "evil\033[31m\nname", "k\u00f6ln", "sshd" };

static void key_text(struct stream *s, struct pack *p, const char *key, const char *text)
{
	pack_text(p, key);
	pack_text(p, text);
	s->pairs++;
}

static void key_uint(struct stream *s, struct pack *p, const char *key, uint64_t n)
{
	pack_text(p, key);
	pack_uint(p, n);
	s->pairs++;
}

static void begin(struct stream *s, struct pack *p, const char *type)
{
	unsigned who = (unsigned)(s->seq * 2654435761u >> 7) % ARRAY_SIZE(comms);
	char proc[20];

	s->pairs = 0;
	s->place = pack_open_map(p);
	key_text(s, p, "type", type);
	key_uint(s, p, "ts", now_realtime_ns());
	key_uint(s, p, "seq", s->seq);
	key_text(s, p, "host", "bench");
	key_text(s, p, "run", "0123456789abcdef");
	key_uint(s, p, "pid", 1000 + who);
	key_uint(s, p, "tid", 1000 + who + 10 * (s->seq % 3));
	key_text(s, p, "comm", comms[who]);
	snprintf(proc, sizeof proc, "%016x", who);
	key_text(s, p, "proc", proc);
	if (who % 2)
		key_text(s, p, "container", "4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e");
	key_text(s, p, "cgroup", "/system.slice/bench.service");
}

static void stack(struct stream *s, struct pack *p)
{
	uint8_t *frames;
	char text[96];

	pack_text(p, "stack");
	frames = pack_open_array(p);
	for (unsigned i = 0; i < 30; i++) {
		uint64_t f = i > 20 ? i : (s->seq * 31 + i * 7) % 97;

		if (f % 9 == 8)
			snprintf(text, sizeof text, "std::map<std::string, int>::find_%llu (server) [inline]",
				 (unsigned long long)f);
		else
			snprintf(text, sizeof text, "work_on_%llu+0x%x (%s)", (unsigned long long)f, i + 16,
				 i < 4 ? "[k]" : "server");
		pack_text(p, text);
	}
	pack_close(p, frames, 30);
	s->pairs++;
	snprintf(text, sizeof text, "%016llx", (unsigned long long)(s->seq % 97));
	key_text(s, p, "stack_id", text);
}

static void profile(struct stream *s, struct pack *p, bool offcpu)
{
	static const char *const syscalls[] = { "futex", "epoll_wait", "fsync", "read" };
	static const char *const waits[] = { "futex_wait_queue", "ep_poll", "jbd2_log_wait_commit", "pipe_read" };
	unsigned which = (unsigned)(s->seq / 20) % ARRAY_SIZE(waits);

	begin(s, p, offcpu ? "profile.offcpu" : "profile.cpu");
	stack(s, p);
	key_uint(s, p, "value", offcpu ? 3 * NS_PER_MS * (1 + which) : 3);
	key_text(s, p, "unit", offcpu ? "ns" : "samples");
	key_uint(s, p, "window_ns", 2 * NS_PER_SEC);
	if (offcpu) {
		key_uint(s, p, "waits", 1 + which);
		key_text(s, p, "state", which == 2 ? "D" : "S");
		key_text(s, p, "syscall", syscalls[which]);
		key_text(s, p, "wait", waits[which]);
	}
}

static void connection(struct stream *s, struct pack *p, bool closed)
{
	char address[32];

	begin(s, p, closed ? "tcp.close" : "tcp.connect");
	snprintf(address, sizeof address, s->seq % 5 ? "10.0.%u.7" : "2001:db8::%u", (unsigned)(s->seq % 40));
	key_text(s, p, "laddr", "10.0.0.1");
	key_text(s, p, "raddr", address);
	key_uint(s, p, "lport", 40000);
	key_uint(s, p, "rport", 443);
	if (closed) {
		key_text(s, p, "side", s->seq % 7 ? "client" : "server");
		key_uint(s, p, "sent_bytes", 12345);
		key_uint(s, p, "received_bytes", 678);
		key_uint(s, p, "srtt_ns", 300000 * (1 + s->seq % 40));
		key_uint(s, p, "retransmits", s->seq % 40 == 3);
	} else {
		key_uint(s, p, "latency_ns", 200000 * (1 + s->seq % 40));
	}
}

static void exec(struct stream *s, struct pack *p)
{
	uint8_t *args;

	begin(s, p, "process.exec");
	key_text(s, p, "exe", s->seq % 3 ? "/usr/bin/true" : "/usr/bin/sh");
	pack_text(p, "args");
	args = pack_open_array(p);
	pack_text(p, "sh");
	pack_text(p, "-c");
	pack_text(p, "echo 'hello\033]0;owned\007'");
	pack_close(p, args, 3);
	s->pairs++;
	key_uint(s, p, "uid", 0);
}

static void alert(struct stream *s, struct pack *p)
{
	begin(s, p, "alert");
	key_text(s, p, "rule", "Write below etc");
	key_text(s, p, "priority", "Error");
	key_text(s, p, "output", "File below /etc opened for writing (user=root command=vi /etc/passwd)");
}

static void loss(struct stream *s, struct pack *p)
{
	begin(s, p, "agent.loss");
	key_text(s, p, "event", "tcp.close");
	key_text(s, p, "reason", "ring_full");
	key_uint(s, p, "count", 17);
}

static void write_row(struct stream *s)
{
	struct pack p = pack_over(journal_reserve(s->journal, ROW_BYTES), ROW_BYTES), whole = p;

	if (!p.at)
		exit(1);
	if (s->seq % 10 == 0)
		profile(s, &p, s->seq % 20 == 0);
	else if (s->seq % 5000 == 1)
		alert(s, &p);
	else if (s->seq % 5000 == 2)
		loss(s, &p);
	else if (s->seq % 10 < 5)
		exec(s, &p);
	else
		connection(s, &p, s->seq % 10 < 8);
	pack_close(&p, s->place, s->pairs);
	journal_commit(s->journal, (uint32_t)(p.at - whole.at), s->seq++);
}

int main(int argc, char **argv)
{
	struct journal_options options = { .path = argc > 1 ? argv[1] : NULL, .size_bytes = 256u << 20 };
	uint64_t rate = argc > 3 ? strtoull(argv[2], NULL, 10) : 0,
		 seconds = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	struct stream s = { .seq = 1 };
	struct fault fault;
	struct timespec at;

	if (!rate || journal_open(&s.journal, &options, &fault) < 0) {
		fprintf(stderr, "usage: bench_top JOURNAL RATE SECONDS\n");
		return 2;
	}
	clock_gettime(CLOCK_MONOTONIC, &at);
	for (uint64_t step = 1; step <= seconds * NS_PER_SEC / STEP_NS; step++) {
		while (s.seq < step * rate * STEP_NS / NS_PER_SEC)
			write_row(&s);
		journal_publish(s.journal);
		at.tv_nsec += STEP_NS;
		if (at.tv_nsec >= (long)NS_PER_SEC) {
			at.tv_sec++;
			at.tv_nsec -= (long)NS_PER_SEC;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	}
	journal_close(s.journal);
	printf("%llu records written\n", (unsigned long long)(s.seq - 1));
	return 0;
}
