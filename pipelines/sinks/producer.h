/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One librdkafka producer and what a record looks like in Kafka: key, headers, value. It knows no journal folder, no
 * window and no cursor. It lives until its first fatal error, and is then replaced by another of the same plan.
 */
#ifndef SONDE_PRODUCER_H
#define SONDE_PRODUCER_H

#include "journal/journal.h"
#include "sinks/kafka.h"

struct producer_plan; /* opaque: checked options, from which any number of producers are made */
struct producer;      /* opaque */

enum verdict {
	VERDICT_HELD,    /* the broker holds it for good */
	VERDICT_REFUSED, /* the broker refused the batch it was in, for what is in it */
	VERDICT_UNSURE,  /* it may or may not be there: send it again */
};

/* What producer_serve() reports, on the caller's thread. */
struct producer_events {
	/* `reason` is a static text, NULL when held. */
	void (*answered)(void *context, uint32_t token, enum verdict verdict, const char *reason);
	/* A broker, or all of them, cannot be reached; librdkafka goes on trying. */
	void (*unreachable)(void *context, bool all, const char *reason);
	/* A line of librdkafka's log. */
	void (*said)(void *context, const char *line);
	void *context;
};

/* Checks and copies. -EINVAL with the property in `fault`, -ENOMEM. */
int producer_plan_make(struct producer_plan **ret, const struct kafka_options *options, struct fault *fault);
void producer_plan_free(struct producer_plan *plan);

/* What may be in flight by the plan. */
uint32_t producer_plan_records(const struct producer_plan *plan);
uint64_t producer_plan_bytes(const struct producer_plan *plan);
const char *producer_plan_topic(const struct producer_plan *plan);

/* `batch_records` and `batch_bytes` bound a batch; 0 is the plan's. `host` and `run` stand in for a record without its
 * own. -EINVAL with librdkafka's reason in `fault`. */
struct producer_limits {
	uint32_t batch_records, batch_bytes;
};
int producer_start(struct producer **ret, const struct producer_plan *plan, const struct producer_limits *limits,
		   const char *host, const char *run, struct fault *fault);
/* Nothing of any record is touched once it has returned. */
void producer_stop(struct producer *producer);

/* Hands a record over without copying it: its map stays where it is until the token was answered or the producer
 * stopped. 0; -EAGAIN when the queue is full; -EMSGSIZE when no broker would be asked to take it; -EPIPE when the
 * producer is dead. */
int producer_send(struct producer *producer, const struct journal_record *record, uint32_t token);

/* Takes in what came, and waits for it at most `timeout_ms`. Returns how many events there were. */
int producer_serve(struct producer *producer, int timeout_ms, const struct producer_events *events);

/* Whether it had an error that only a new producer gets over; the reason is then in producer_reason(). */
bool producer_dead(const struct producer *producer);
const char *producer_reason(const struct producer *producer);

/* Sends now what lingers. */
void producer_hurry(struct producer *producer);

/* Gives up what is queued (and, with `all`, what is on its way): each is answered as unsure. */
void producer_purge(struct producer *producer, bool all);

/* Whether brokers answer and describe the topic, within `timeout_ms`. As kafka_probe(). */
int producer_probe(const struct producer_plan *plan, int timeout_ms, struct fault *fault);

#endif
