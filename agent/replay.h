/* SPDX-License-Identifier: Apache-2.0 */
/* From a capture file to rows: each packet once through, in bounded memory. */
#ifndef SONDE_REPLAY_H
#define SONDE_REPLAY_H

#include "dns/dns.h"
#include "flows/flows.h"
#include "packets/capture.h"
#include "packets/packet.h"
#include "progress.h"
#include "replay_rows.h"

struct replay; /* opaque */

struct replay_options {
	const char *path;   /* "-": standard input */
	const char *filter; /* NULL: none */
	uint64_t window_ns; /* of tcp.turnaround */
	uint64_t slow_ns;   /* an answer that took that long is a tcp.slow; 0: none is */
	uint32_t flows;     /* at a time */
	struct progress *progress;
};

/* What was read, and what became of it. */
struct replay_sums {
	uint64_t packets, bytes; /* bytes: on the wire */
	uint64_t first, last;    /* times of packets, ns since the epoch */
	uint64_t filtered;       /* by the filter expression */
	uint64_t kinds[PACKET_KINDS];
	uint64_t dns_cut; /* DNS over UDP of which not all was captured */
	uint64_t services_beyond;
	const char *format;
	struct flow_counts flows;
	struct dns_counts dns;
};

int replay_new(struct replay **ret, const struct replay_options *options, replay_sink *sink, void *context,
	       struct fault *fault);
void replay_free(struct replay *replay);

/* To the end of the file, or of what of it can be read. 0; else a negative errno: of the sink (fault->text is empty), or of the file or the
 * filter, said in `fault`. The sums hold what was read in either case. */
int replay_run(struct replay *replay, struct replay_sums *ret, struct fault *fault);

#endif
