/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Kafka follower: one record of the journal is one Kafka record, sent from the mapped segment without a copy by an
 * idempotent producer (acks=all, message.timeout.ms=0). Key, headers and order are those of docs/architecture.md.
 */
#ifndef SONDE_KAFKA_H
#define SONDE_KAFKA_H

#include "sinks/sink.h"

enum kafka_key { KAFKA_KEY_HOST, KAFKA_KEY_HOST_MODULE };

struct kafka_options {
	const char *brokers, *topic;
	enum kafka_key key;
	/* Any librdkafka property, name and value, checked at start; not those that keep what is promised (acks,
	 * enable.idempotence, message.timeout.ms ...). `queue.buffering.max.messages` and `.kbytes` bound what is in
	 * flight. The options are copied. */
	const char *const (*properties)[2];
	size_t n_properties;
	/* The schema header's version of a type, such as 1; NULL: 1 for all. Called from the sink's thread. */
	unsigned (*version)(void *context, const char *type, size_t length);
	void *context;
};

struct kafka; /* opaque */

/* Starts the follower's thread. Does not wait for a broker. -EINVAL with the property in `fault`. */
int kafka_start(struct kafka **ret, const struct kafka_options *options, const struct sink_setup *setup,
		struct fault *fault);

/* Sends what the journal holds by now, waits at most `timeout_ms` for its acknowledgement, ends the thread, frees it.
 * What is not acknowledged by then stays behind the cursor, for the next start. */
void kafka_stop(struct kafka *kafka, int timeout_ms);
void kafka_health(struct kafka *kafka, struct sink_health *ret);

/* Whether the brokers answer and the topic can be described or made: 0, or a negative errno with a sentence. For `sonde
 * check`. */
int kafka_probe(const struct kafka_options *options, int timeout_ms, struct fault *fault);

#endif
