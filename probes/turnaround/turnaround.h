/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Turnaround: from the last byte of a request to the first of its answer, for any protocol, also an encrypted one. A request ends where
 * the direction of the payload changes.
 */
#ifndef SONDE_TURNAROUND_H
#define SONDE_TURNAROUND_H

#include "probes/tcp/ends.h"

/* A service is the end that answers; of the two ends, the one whose port means nothing is absent, port and address. */
struct tcp_turnaround {
	struct sonde_event event;
	TCP_ENDS(SONDE_OPTIONAL, SONDE_OPTIONAL, SONDE_OPTIONAL, SONDE_OPTIONAL);
	__u32 side SONDE_AS("names=unknown|client|server")
		SONDE_DOC("server: the local end answers; client: the remote end does");
	__u64 count SONDE_DOC("requests that were answered");
	__u64 errors SONDE_DOC("requests whose connection was reset by who should have answered");
	__u64 sum_ns SONDE_DOC("all turnaround times, in sum");
	__u64 max_ns SONDE_DOC("the longest of those measured");
	__u64 p50_ns SONDE_DOC("half of all took no longer, right to a 32nd of it, as all percentiles here");
	__u64 p90_ns SONDE_DOC("nine of ten took no longer");
	__u64 p99_ns SONDE_DOC("99 of 100 took no longer");
	__u64 p999_ns SONDE_DOC("999 of 1000 took no longer");
	struct sonde_text hist SONDE_AS("msgpack") SONDE_DOC(
		"map of a time in ns, as text, to how many took that long or longer, up to the next bucket; buckets "
		"are the same everywhere: 32 to each doubling from 32 ns on");
	__u32 _pad;
	__u64 socket_wait_ns SONDE_DOC("server: of the sum, how long requests lay in the socket before they were read; "
				       "client: how long answers did, "
				       "beyond the sum") SONDE_OPTIONAL;
	__u64 window_ns SONDE_DOC("how long the window was that ends at ts");
};

struct tcp_slow {
	struct sonde_event event;
	TCP_ENDS(, , , );
	__u32 side SONDE_AS("names=unknown|client|server") SONDE_DOC("server: the local end answered");
	__u64 turnaround_ns SONDE_DOC("from the last byte of the request to the first of the answer")
		SONDE_ECS("event.duration");
	__u64 socket_wait_ns SONDE_DOC("server: of it, how long the request lay in the socket before it was read; "
				       "client: how long the answer did") SONDE_OPTIONAL;
	__u64 on_cpu_ns SONDE_DOC("of the time from read to answer, how long the serving thread was on a CPU")
		SONDE_OPTIONAL;
	__u64 runnable_ns SONDE_DOC("of that, how long it waited for a CPU") SONDE_OPTIONAL;
	__u64 off_cpu_ns SONDE_DOC("of that, how long it waited for something else") SONDE_OPTIONAL;
};

SONDE_EVENT(tcp_turnaround, "tcp.turnaround", 1, bulk, "How long the answers of one service took, over one window.");
SONDE_EVENT(tcp_slow, "tcp.slow", 1, bulk, "An answer took long.");

/* ---- what the kernel side sums, and the module reads at the end of each window ---- */

/* As pipelines/flows/histogram.h has them. */
#define TURNAROUND_CUTS_LOG 5u
#define TURNAROUND_LAST_LOG 42u
#define TURNAROUND_BUCKETS  ((TURNAROUND_LAST_LOG - TURNAROUND_CUTS_LOG + 2) * 32 + 1)
#define TURNAROUND_SERVICES 1024u
#define TURNAROUND_RESTS    2u /* sums of what found no room, for either window */
#define TURNAROUND_SLOTS    (TURNAROUND_RESTS + TURNAROUND_SERVICES)

/* Windows are counted; two are in use at a time. */
#define TURNAROUND_FIRST_WINDOW 2u

struct turnaround_key {
	struct sonde_ip ip; /* of the end that answers */
	__u64 proc, cgroup; /* of the local end */
	__u16 port;
	__u8 side;   /* enum tcp_side of the local end */
	__u8 window; /* its last bit */
	__u32 _pad;
};

struct turnaround_sums {
	/* Of the local end: struct sonde_owner, without what is the filters'. */
	__u64 parent;
	__u32 pid;
	__u16 flags, filtered;
	char comm[16];
	__u64 errors, sum_ns, max_ns, socket_wait_ns;
	__u64 passed; /* answers of connections that ended before one was measured to stand for them; none was slow */
	__u32 buckets[TURNAROUND_BUCKETS];
	__u32 measured; /* answers that were not slow, about: CPUs that count at the same time may count one */
};

/* As histogram_bucket() of pipelines/flows. */
static __attribute__((always_inline, unused)) inline __u32 turnaround_bucket(__u64 ns)
{
	__u32 log = 0;
	__u64 v = ns;

	if (ns < 1u << TURNAROUND_CUTS_LOG)
		return (__u32)ns;
	for (__u32 step = 32; step; step /= 2) {
		if (v >> step) {
			log += step;
			v >>= step;
		}
	}
	if (log > TURNAROUND_LAST_LOG)
		return TURNAROUND_BUCKETS - 1;
	return 32 * (log - TURNAROUND_CUTS_LOG + 1) + ((__u32)(ns >> (log - TURNAROUND_CUTS_LOG)) & 31);
}

#ifndef __bpf__
_Static_assert(sizeof(struct turnaround_key) == 40 && sizeof(struct turnaround_sums) == 72 + TURNAROUND_BUCKETS * 4 + 4,
	       "written by the kernel side");
#endif

#endif
