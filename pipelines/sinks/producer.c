/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record as Kafka sees it: the value is the record's bytes where the journal has them mapped, the key and the five
 * headers are made from its own first keys, so a record of an earlier run keeps that run's name when it is sent now.
 *
 * librdkafka works in threads of its own; all that it has to tell (delivery reports, errors, log lines) is taken from
 * its one queue in producer_serve(), on the caller's thread, so nothing here is locked.
 *
 * Headers cost more than all else, each being an allocation of its own in librdkafka. So the lists of answered records
 * are kept, by schema, and only `seq` is changed when one is used again.
 *
 * Invariants: a token handed to librdkafka is answered at most once; `dead` is never taken back; the headers' memory
 * belongs to librdkafka from a successful send on.
 */
#include "sinks/producer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <syslog.h>

#include "encode/record.h"
#include "sinks/envelope.h"
#include "sinks/producer_plan.h"

#define SCHEMAS      64   /* types with a slot of their own, but for the last slot, which all others share */
#define POOL_MAX     8192 /* lists of headers kept for reuse: what two batches bring back */
#define SCHEMA_TEXT  80
#define KEY_MAX      512
#define IDENTITY_MAX 320

/* "type/version" of a type met before, and lists of headers that say so. Once taken, a slot keeps its type. */
struct schema {
	uint8_t type_length; /* 0: empty */
	uint8_t length;
	char text[SCHEMA_TEXT];
	rd_kafka_headers_t **pool;
	uint32_t n_pool, capacity;
};

/* What travels with a record through librdkafka: the caller's token, and which pool its headers may join afterwards. */
union ticket {
	void *opaque;
	struct {
		uint32_t token;
		uint32_t schema : 6;
		uint32_t identity : 26;
	};
};
_Static_assert(sizeof(union ticket) == sizeof(void *), "a ticket is librdkafka's opaque pointer");

struct producer {
	const struct producer_plan *plan;
	rd_kafka_t *rk;
	rd_kafka_topic_t *topic;
	rd_kafka_queue_t *queue;
	struct envelope_text host, run; /* of a record without its own */
	struct schema schemas[SCHEMAS];
	uint32_t pooled, victim; /* lists in all pools; the schema that gives way next when they are too many */
	uint32_t identity;       /* counts the changes of host and run: pooled lists are all of the present one */
	uint16_t host_length, run_length;
	char host_run[IDENTITY_MAX];
	bool dead;
	char reason[256];
};

static void die(struct producer *p, const char *reason)
{
	if (!p->dead)
		snprintf(p->reason, sizeof p->reason, "%s", reason);
	p->dead = true;
}

static void drop_pooled(struct producer *p, struct schema *s)
{
	rd_kafka_headers_destroy(s->pool[--s->n_pool]);
	p->pooled--;
}

static void drop_all_pooled(struct producer *p)
{
	for (uint32_t i = 0; i < SCHEMAS; i++)
		while (p->schemas[i].n_pool)
			drop_pooled(p, &p->schemas[i]);
}

/* The plan's options, narrowed for this producer. */
static rd_kafka_conf_t *narrowed(const struct producer_plan *plan, const struct producer_limits *limits)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_dup(plan->conf);
	char text[16], error[256];

	if (limits && limits->batch_records) {
		snprintf(text, sizeof text, "%" PRIu32, limits->batch_records);
		rd_kafka_conf_set(conf, "batch.num.messages", text, error, sizeof error);
	}
	if (limits && limits->batch_bytes) {
		snprintf(text, sizeof text, "%" PRIu32, limits->batch_bytes);
		rd_kafka_conf_set(conf, "batch.size", text, error, sizeof error);
	}
	return conf;
}

int producer_start(struct producer **ret, const struct producer_plan *plan, const struct producer_limits *limits,
		   const char *host, const char *run, struct fault *fault)
{
	struct producer *p = calloc(1, sizeof *p);
	rd_kafka_conf_t *conf;
	char error[400];

	if (!p)
		return fault_set(fault, -ENOMEM, "no memory for a Kafka producer");
	p->plan = plan;
	p->host = (struct envelope_text){ host ? host : "", host ? (uint32_t)strlen(host) : 0 };
	p->run = (struct envelope_text){ run ? run : "", run ? (uint32_t)strlen(run) : 0 };
	conf = narrowed(plan, limits);
	p->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
	if (!p->rk) {
		rd_kafka_conf_destroy(conf);
		free(p);
		return fault_set(fault, -EINVAL, "librdkafka: %s", error);
	}
	p->queue = rd_kafka_queue_get_main(p->rk);
	rd_kafka_set_log_queue(p->rk, NULL);
	p->topic = rd_kafka_topic_new(p->rk, plan->topic, NULL);
	if (!p->topic) {
		fault_set(fault, -EINVAL, "Kafka topic '%s': %s", plan->topic, rd_kafka_err2str(rd_kafka_last_error()));
		producer_stop(p);
		return -EINVAL;
	}
	*ret = p;
	return 0;
}

void producer_stop(struct producer *p)
{
	if (!p)
		return;
	if (p->topic)
		rd_kafka_topic_destroy(p->topic);
	rd_kafka_queue_destroy(p->queue);
	rd_kafka_destroy(p->rk);
	drop_all_pooled(p);
	for (uint32_t i = 0; i < SCHEMAS; i++)
		free(p->schemas[i].pool);
	free(p);
}

static void write_schema(struct producer *p, struct schema *s, struct envelope_text type)
{
	unsigned version = 1;

	type.length = MIN_OF(type.length, SCHEMA_TEXT - 16);
	if (p->plan->version)
		version = p->plan->version(p->plan->context, type.at, type.length);
	s->type_length = (uint8_t)type.length;
	s->length = (uint8_t)snprintf(s->text, sizeof s->text, "%.*s/%u", (int)type.length, type.at, version);
}

/* The slot of a type: its own, a fresh one, or, when there are none left, the last one, whose lists are never pooled. */
static uint32_t schema_of(struct producer *p, struct envelope_text type)
{
	uint32_t at = (uint32_t)hash_bytes(type.at, type.length);

	for (uint32_t i = 0; i < SCHEMAS / 2; i++) {
		uint32_t slot = (at + i) % (SCHEMAS - 1);
		struct schema *s = &p->schemas[slot];

		if (s->type_length && s->type_length == type.length && !memcmp(s->text, type.at, type.length))
			return slot;
		if (!s->type_length && type.length && type.length <= SCHEMA_TEXT - 16) {
			write_schema(p, s, type);
			return slot;
		}
	}
	write_schema(p, &p->schemas[SCHEMAS - 1], type);
	return SCHEMAS - 1;
}

/* Pooled lists say a host and a run: when records of another come (those of an earlier run, once at the start), they go. */
static void take_identity(struct producer *p, const struct envelope *e)
{
	if (e->host.length == p->host_length && e->run.length == p->run_length &&
	    !memcmp(p->host_run, e->host.at, e->host.length) &&
	    !memcmp(p->host_run + p->host_length, e->run.at, e->run.length))
		return;
	drop_all_pooled(p);
	p->identity = (p->identity + 1) % (1u << 26);
	p->host_length = p->run_length = UINT16_MAX;
	if (e->host.length + (size_t)e->run.length > IDENTITY_MAX)
		return;
	p->host_length = (uint16_t)e->host.length;
	p->run_length = (uint16_t)e->run.length;
	memcpy(p->host_run, e->host.at, e->host.length);
	memcpy(p->host_run + p->host_length, e->run.at, e->run.length);
}

/* Takes the headers of an answered record back, to be used again: making five of them is a third of the cost of a send. */
static void recycle(struct producer *p, const rd_kafka_message_t *m, union ticket ticket)
{
	struct schema *s = &p->schemas[ticket.schema];
	rd_kafka_headers_t *headers, **wider;

	if (ticket.identity != p->identity || ticket.schema == SCHEMAS - 1)
		return;
	if (s->n_pool == s->capacity) {
		uint32_t capacity = s->capacity ? 2 * s->capacity : 64;

		if (capacity > POOL_MAX || !(wider = realloc(s->pool, capacity * sizeof *wider)))
			return;
		s->pool = wider;
		s->capacity = capacity;
	}
	while (p->pooled >= POOL_MAX) {
		struct schema *victim = &p->schemas[p->victim++ % SCHEMAS];

		if (victim->n_pool)
			drop_pooled(p, victim);
	}
	if (rd_kafka_message_detach_headers((rd_kafka_message_t *)(uintptr_t)m, &headers))
		return;
	s->pool[s->n_pool++] = headers;
	p->pooled++;
}

static char *append(char *at, const char *end, const char *text, size_t length)
{
	length = MIN_OF(length, (size_t)(end - at));
	memcpy(at, text, length);
	return at + length;
}

static size_t make_key(const struct producer *p, const struct envelope *e, char *key)
{
	const char *end = key + KEY_MAX;
	struct envelope_text module = envelope_module(e->type);
	char *at = append(key, end, e->host.at, e->host.length);

	if (p->plan->key == KAFKA_KEY_HOST_MODULE) {
		at = append(at, end, ":", 1);
		at = append(at, end, module.at, module.length);
	}
	return (size_t)(at - key);
}

static size_t decimal(char *text, uint64_t number)
{
	char digits[20];
	size_t n = 0;

	do
		digits[sizeof digits - ++n] = (char)('0' + number % 10);
	while (number /= 10);
	memcpy(text, digits + sizeof digits - n, n);
	return n;
}

static rd_kafka_headers_t *make_headers(struct producer *p, struct schema *s, const struct envelope *e)
{
	rd_kafka_headers_t *headers;
	char seq[20];
	size_t seq_length = decimal(seq, e->seq);

	if (s->n_pool) {
		headers = s->pool[--s->n_pool];
		p->pooled--;
		rd_kafka_header_remove(headers, "seq");
	} else {
		headers = rd_kafka_headers_new(5);
		rd_kafka_header_add(headers, "schema", 6, s->text, s->length);
		rd_kafka_header_add(headers, "host", 4, e->host.at, e->host.length);
		rd_kafka_header_add(headers, "run", 3, e->run.at, e->run.length);
		rd_kafka_header_add(headers, "content-type", 12, "application/msgpack", 19);
	}
	rd_kafka_header_add(headers, "seq", 3, seq, (ssize_t)seq_length);
	return headers;
}

static void read_envelope(const struct producer *p, const struct journal_record *record, struct envelope *ret)
{
	static const struct envelope_text unknown = { "unknown", 7 };

	if (!envelope_read(record->map, record->size, ret))
		return;
	if (!ret->type.at)
		ret->type = unknown;
	if (!ret->host.at)
		ret->host = p->host;
	if (!ret->run.at)
		ret->run = p->run;
	if (!ret->has_seq)
		ret->seq = record->seq;
}

static int send_failed(struct producer *p, rd_kafka_resp_err_t error)
{
	switch (error) {
	case RD_KAFKA_RESP_ERR__QUEUE_FULL:
		return -EAGAIN;
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		return -EMSGSIZE;
	default:
		die(p, rd_kafka_err2str(error));
		return -EPIPE;
	}
}

int producer_send(struct producer *p, const struct journal_record *record, uint32_t token)
{
	union ticket ticket = { .opaque = NULL };
	struct envelope envelope;
	char key[KEY_MAX];
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t error;

	if (p->dead)
		return -EPIPE;
	read_envelope(p, record, &envelope);
	take_identity(p, &envelope);
	ticket.token = token;
	ticket.schema = schema_of(p, envelope.type);
	ticket.identity = p->identity;
	headers = make_headers(p, &p->schemas[ticket.schema], &envelope);
	error = rd_kafka_producev(p->rk, RD_KAFKA_V_RKT(p->topic),
				  RD_KAFKA_V_VALUE((void *)(uintptr_t)record->map, record->size),
				  RD_KAFKA_V_KEY(key, make_key(p, &envelope, key)), RD_KAFKA_V_HEADERS(headers),
				  RD_KAFKA_V_OPAQUE(ticket.opaque), RD_KAFKA_V_END);
	if (!error)
		return 0;
	rd_kafka_headers_destroy(headers);
	return send_failed(p, error);
}

static enum verdict verdict_of(rd_kafka_resp_err_t error)
{
	switch (error) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
		return VERDICT_HELD;
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
	case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
	case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		return VERDICT_REFUSED;
	default:
		return VERDICT_UNSURE;
	}
}

static void take_reports(struct producer *p, rd_kafka_event_t *event, const struct producer_events *events)
{
	const rd_kafka_message_t *m;

	while ((m = rd_kafka_event_message_next(event))) {
		const char *reason = m->err ? rd_kafka_err2str(m->err) : NULL;
		union ticket ticket = { .opaque = m->_private };

		if (m->err && m->err != RD_KAFKA_RESP_ERR__PURGE_QUEUE && m->err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
			die(p, reason);
		recycle(p, m, ticket);
		events->answered(events->context, ticket.token, verdict_of(m->err), reason);
	}
}

static void take_error(struct producer *p, rd_kafka_event_t *event, const struct producer_events *events)
{
	rd_kafka_resp_err_t error = rd_kafka_event_error(event);
	char reason[256];

	if (rd_kafka_event_error_is_fatal(event)) {
		error = rd_kafka_fatal_error(p->rk, reason, sizeof reason);
		die(p, error ? reason : rd_kafka_event_error_string(event));
		return;
	}
	events->unreachable(events->context, error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
			    rd_kafka_event_error_string(event));
}

/* Failures come as error events too, and that a property of our own choice is experimental is no news to the user. */
static void take_log(rd_kafka_event_t *event, const struct producer_events *events)
{
	const char *facility, *line;
	int level;

	if (rd_kafka_event_log(event, &facility, &line, &level) || level > LOG_WARNING)
		return;
	if (!strcmp(facility, "FAIL") || !strcmp(facility, "ERROR") || !strcmp(facility, "FATAL") ||
	    (!strcmp(facility, "CONFWARN") && strstr(line, "experimental")))
		return;
	/* A broker that still starts gives no producer id yet; librdkafka asks again. */
	if (!strcmp(facility, "GETPID"))
		events->unreachable(events->context, false, line);
	else
		events->said(events->context, line);
}

int producer_serve(struct producer *p, int timeout_ms, const struct producer_events *events)
{
	rd_kafka_event_t *event;
	int n = 0;

	while ((event = rd_kafka_queue_poll(p->queue, n ? 0 : timeout_ms))) {
		switch (rd_kafka_event_type(event)) {
		case RD_KAFKA_EVENT_DR:
			take_reports(p, event, events);
			break;
		case RD_KAFKA_EVENT_ERROR:
			take_error(p, event, events);
			break;
		case RD_KAFKA_EVENT_LOG:
			take_log(event, events);
			break;
		default:
			break;
		}
		rd_kafka_event_destroy(event);
		n++;
	}
	return n;
}

bool producer_dead(const struct producer *p)
{
	return p->dead;
}

const char *producer_reason(const struct producer *p)
{
	return p->reason;
}

void producer_hurry(struct producer *p)
{
	/* librdkafka lingers no more while a flush lasts; it need not succeed. */
	rd_kafka_flush(p->rk, 10);
}

void producer_purge(struct producer *p, bool all)
{
	rd_kafka_purge(p->rk,
		       RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING | (all ? RD_KAFKA_PURGE_F_INFLIGHT : 0));
}

struct probe {
	char reason[256];
};

static void probe_unreachable(void *context, bool all, const char *reason)
{
	struct probe *probe = context;

	/* "All brokers down" says less than what came before it. */
	if (!all || !*probe->reason)
		snprintf(probe->reason, sizeof probe->reason, "%s", reason);
}

static void probe_said(void *context, const char *line)
{
}

static void probe_answered(void *context, uint32_t token, enum verdict verdict, const char *reason)
{
}

/* What the brokers say of the topic; RD_KAFKA_RESP_ERR_NO_ERROR when it has a leader. */
static rd_kafka_resp_err_t describe(struct producer *p, int timeout_ms)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t error = rd_kafka_metadata(p->rk, 0, p->topic, &metadata, timeout_ms);

	if (error)
		return error;
	error = metadata->topic_cnt ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	if (!error && (!metadata->topics[0].partition_cnt || metadata->topics[0].partitions[0].leader < 0))
		error = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
	rd_kafka_metadata_destroy(metadata);
	return error;
}

static int probe_fault(const struct producer_plan *plan, rd_kafka_resp_err_t error, const char *reason,
		       struct fault *fault)
{
	switch (error) {
	case RD_KAFKA_RESP_ERR__TRANSPORT:
	case RD_KAFKA_RESP_ERR__TIMED_OUT:
		return fault_set(fault, -EHOSTUNREACH, "no Kafka broker answers: %s",
				 *reason ? reason : "no connection in time");
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		return fault_set(fault, -ENOENT, "Kafka topic '%s' is not there, and the brokers do not make it",
				 plan->topic);
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		return fault_set(fault, -EACCES, "Kafka topic '%s': not authorized", plan->topic);
	default:
		return fault_set(fault, -EIO, "Kafka topic '%s': %s", plan->topic, rd_kafka_err2str(error));
	}
}

int producer_probe(const struct producer_plan *plan, int timeout_ms, struct fault *fault)
{
	struct probe probe = { 0 };
	const struct producer_events events = { probe_answered, probe_unreachable, probe_said, &probe };
	uint64_t deadline = now_boottime_ns() + (uint64_t)timeout_ms * NS_PER_MS, now;
	rd_kafka_resp_err_t error;
	struct producer *p;
	int r = producer_start(&p, plan, NULL, NULL, NULL, fault);

	if (r < 0)
		return r;
	/* A topic that is being made has no leader at first. */
	do {
		now = now_boottime_ns();
		error = describe(p, now < deadline ? (int)((deadline - now) / NS_PER_MS) + 1 : 1);
		producer_serve(p, error ? 100 : 0, &events);
	} while (error && now < deadline && error != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	producer_stop(p);
	return error ? probe_fault(plan, error, probe.reason, fault) : 0;
}
