/* SPDX-License-Identifier: Apache-2.0 */
/* The checked options of producer.h, shared by producer_plan.c, which makes them, and producer.c, which uses them. */
#ifndef SONDE_PRODUCER_PLAN_H
#define SONDE_PRODUCER_PLAN_H

#include <librdkafka/rdkafka.h>

#include "sinks/producer.h"

struct producer_plan {
	rd_kafka_conf_t *conf; /* the template: each producer gets a copy */
	char *topic;
	enum kafka_key key;
	uint32_t records;
	uint64_t bytes;
	unsigned (*version)(void *context, const char *type, size_t length);
	void *context;
};

#endif
