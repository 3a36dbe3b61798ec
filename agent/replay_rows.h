/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What replay finds, as rows of the types that the live agent's modules declare, written by the same plans. There is no task to them; `host` is
 * the name of the capture, and `run` names its content's place and size, so that the same file gives the same rows.
 */
#ifndef SONDE_REPLAY_ROWS_H
#define SONDE_REPLAY_ROWS_H

#include "base/base.h"
#include "dns/dns.h"
#include "flows/flows.h"
#include "flows/services.h"

struct replay_rows; /* opaque */

/* Takes a row: 0, or a negative errno, which ends the writing. */
typedef int replay_sink(void *context, const void *map, size_t size);

int replay_rows_new(struct replay_rows **ret, const char *path, replay_sink *sink, void *context, struct fault *fault);
void replay_rows_free(struct replay_rows *rows);

/* The first error of the sink, or 0; after it no row is written. */
int replay_rows_error(const struct replay_rows *rows);
uint64_t replay_rows_count(const struct replay_rows *rows);

void replay_row_connect(struct replay_rows *rows, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns,
			int error);
void replay_row_accept(struct replay_rows *rows, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns);
void replay_row_close(struct replay_rows *rows, const struct flow_ends *ends, const struct flow_close *close);
void replay_row_slow(struct replay_rows *rows, const struct flow_ends *ends, uint64_t time, uint64_t turnaround_ns);
void replay_row_turnaround(struct replay_rows *rows, const struct service *service, uint64_t end, uint64_t window_ns);
void replay_row_dns(struct replay_rows *rows, const struct dns_query *query);

#endif
