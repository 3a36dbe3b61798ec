/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which librdkafka properties a producer runs with: ours as defaults, then the user's, then those that keep the promise
 * of the stream (nothing lost, order kept), which nobody may change.
 *
 * A failed batch must never be overtaken: `enable.gapless.guarantee` makes librdkafka raise a fatal error where it
 * would otherwise go on with the next one, and the follower then starts a new producer from its cursor.
 */
#include "sinks/producer_plan.h"

#include <errno.h>
#include <string.h>

struct property {
	const char *name, *value;
};

/* The window: what may be in flight (docs/architecture.md). A record in flight costs librdkafka about 0.9 KB of memory
 * beside its place in the mapped journal, so 16 384 of them are 15 MB. A batch is a quarter of it, so that batches
 * fill, travel and are answered at the same time. 50 ms of lingering spares a quiet host its wakeups. */
static const struct property defaults[] = {
	{ "client.id", "sonde" },
	{ "queue.buffering.max.messages", "16384" },
	{ "queue.buffering.max.kbytes", "16384" },
	{ "batch.num.messages", "4096" },
	{ "batch.size", "1000000" },
	{ "message.max.bytes", "1200000" }, /* above JOURNAL_RECORD_MAX with key and headers: the broker decides */
	{ "linger.ms", "50" },
	{ "compression.codec", "lz4" },
	{ "reconnect.backoff.max.ms", "2000" },
	{ "socket.keepalive.enable", "true" },
	{ "log.connection.close", "false" },
};

static const struct property fixed[] = {
	{ "enable.idempotence", "true" },
	{ "enable.gapless.guarantee", "true" },
	{ "acks", "-1" },
	{ "message.timeout.ms", "0" },
	{ "log.queue", "true" },
	{ "delivery.report.only.error", "false" },
};

struct forbidden {
	const char *name, *why;
};

static const struct forbidden forbidden[] = {
	{ "bootstrap.servers", "say `brokers` instead" },
	{ "metadata.broker.list", "say `brokers` instead" },
	{ "enable.idempotence", "it is always true, or records could be lost or change order" },
	{ "enable.gapless.guarantee", "it is always true, or records could change order" },
	{ "acks", "it is always all, or records could be lost" },
	{ "request.required.acks", "it is always all, or records could be lost" },
	{ "message.timeout.ms", "it is always 0, or records could be lost" },
	{ "delivery.timeout.ms", "it is always 0, or records could be lost" },
	{ "delivery.report.only.error", "it is always false, or nothing would be known to have arrived" },
	{ "transactional.id", "the stream has no transactions" },
	{ "log.queue", "its log goes to the agent's" },
	{ "plugin.library.paths", "a privileged process loads no library by an option" },
	{ "test.mock.num.brokers", "a broker within the agent would hold nothing" },
};

#define NAMES_MAX 512

/* Names that librdkafka takes but does not list: aliases, and properties that have no default. */
static const char *const unlisted[] = {
	"linger.ms",
	"compression.type",
	"retries",
	"max.in.flight",
	"sasl.username",
	"sasl.password",
	"ssl.ca.location",
	"ssl.key.location",
	"ssl.key.password",
	"ssl.ca.pem",
	"ssl.key.pem",
	"ssl.certificate.pem",
	"ssl.certificate.location",
	"sasl.mechanism",
	"debug",
	"ssl.keystore.location",
	"ssl.keystore.password",
	"sasl.oauthbearer.config",
};

static void collect_names(const char **dump, size_t n, const char **names, size_t *n_names)
{
	for (size_t i = 0; dump && i + 1 < n && *n_names < NAMES_MAX; i += 2)
		names[(*n_names)++] = dump[i];
}

/* The fault of a name that librdkafka does not know, with the nearest that it does. */
static int unknown_property(rd_kafka_conf_t *conf, const char *name, struct fault *fault)
{
	rd_kafka_topic_conf_t *topic = rd_kafka_topic_conf_new();
	const char *names[NAMES_MAX], *near;
	size_t n_global, n_topic, n_names = ARRAY_SIZE(unlisted);
	const char **global = rd_kafka_conf_dump(conf, &n_global);
	const char **of_topic = rd_kafka_topic_conf_dump(topic, &n_topic);

	memcpy(names, unlisted, sizeof unlisted);
	collect_names(global, n_global, names, &n_names);
	collect_names(of_topic, n_topic, names, &n_names);
	near = nearest_name(name, names, n_names);
	fault_set(fault, -EINVAL, "librdkafka has no property '%s'%s%s%s", name, near ? "; did you mean '" : "",
		  near ? near : "", near ? "'?" : "");
	rd_kafka_conf_dump_free(global, n_global);
	rd_kafka_conf_dump_free(of_topic, n_topic);
	rd_kafka_topic_conf_destroy(topic);
	return -EINVAL;
}

static int set_property(rd_kafka_conf_t *conf, const char *name, const char *value, struct fault *fault)
{
	char error[400];

	switch (rd_kafka_conf_set(conf, name, value, error, sizeof error)) {
	case RD_KAFKA_CONF_OK:
		return 0;
	case RD_KAFKA_CONF_UNKNOWN:
		return unknown_property(conf, name, fault);
	default:
		return fault_set(fault, -EINVAL, "librdkafka property '%s': %s", name, error);
	}
}

static int set_properties(rd_kafka_conf_t *conf, const struct property *properties, size_t n, struct fault *fault)
{
	int r = 0;

	for (size_t i = 0; i < n && !r; i++)
		r = set_property(conf, properties[i].name, properties[i].value, fault);
	return r;
}

static int set_users(rd_kafka_conf_t *conf, const struct kafka_options *options, struct fault *fault)
{
	int r = 0;

	for (size_t i = 0; i < options->n_properties && !r; i++) {
		const char *name = options->properties[i][0], *value = options->properties[i][1];

		for (size_t j = 0; j < ARRAY_SIZE(forbidden); j++)
			if (!strcmp(name, forbidden[j].name))
				return fault_set(fault, -EINVAL, "librdkafka property '%s' cannot be set: %s", name,
						 forbidden[j].why);
		r = set_property(conf, name, value, fault);
	}
	return r;
}

static uint64_t get_number(const rd_kafka_conf_t *conf, const char *name)
{
	char text[32];
	size_t size = sizeof text;

	if (rd_kafka_conf_get(conf, name, text, &size) != RD_KAFKA_CONF_OK)
		return 0;
	return strtoull(text, NULL, 10);
}

static int fill(struct producer_plan *plan, const struct kafka_options *options, struct fault *fault)
{
	int r;

	if (!options->brokers || !*options->brokers)
		return fault_set(fault, -EINVAL, "no Kafka brokers are given");
	if (!options->topic || !*options->topic || strlen(options->topic) > 249)
		return fault_set(fault, -EINVAL, "a Kafka topic's name has 1 to 249 characters");
	r = set_properties(plan->conf, defaults, ARRAY_SIZE(defaults), fault);
	r = r ? r : set_users(plan->conf, options, fault);
	r = r ? r : set_properties(plan->conf, fixed, ARRAY_SIZE(fixed), fault);
	r = r ? r : set_property(plan->conf, "bootstrap.servers", options->brokers, fault);
	if (r)
		return r;
	plan->records = (uint32_t)MIN_OF(MAX_OF(get_number(plan->conf, "queue.buffering.max.messages"), 1), 1u << 24);
	plan->bytes = get_number(plan->conf, "queue.buffering.max.kbytes") << 10;
	plan->key = options->key;
	plan->version = options->version;
	plan->context = options->context;
	rd_kafka_conf_set_events(plan->conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
	return 0;
}

int producer_plan_make(struct producer_plan **ret, const struct kafka_options *options, struct fault *fault)
{
	struct producer_plan *plan = calloc(1, sizeof *plan);
	int r = -ENOMEM;

	if (plan) {
		plan->conf = rd_kafka_conf_new();
		plan->topic = strdup(options->topic ? options->topic : "");
		if (plan->topic)
			r = fill(plan, options, fault);
	}
	if (r < 0) {
		producer_plan_free(plan);
		return r == -ENOMEM ? fault_set(fault, r, "no memory for a Kafka producer") : r;
	}
	*ret = plan;
	return 0;
}

void producer_plan_free(struct producer_plan *plan)
{
	if (!plan)
		return;
	rd_kafka_conf_destroy(plan->conf);
	free(plan->topic);
	free(plan);
}

uint32_t producer_plan_records(const struct producer_plan *plan)
{
	return plan->records;
}

uint64_t producer_plan_bytes(const struct producer_plan *plan)
{
	return plan->bytes;
}

const char *producer_plan_topic(const struct producer_plan *plan)
{
	return plan->topic;
}
