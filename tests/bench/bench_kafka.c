/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journal to Kafka beside librdkafka alone, on the same bytes, to the same broker, with the same properties:
 *
 *   bench_kafka BROKERS [RECORDS [ROUNDS [PROPERTY=VALUE ...]]]
 *
 * "bare" hands the same mapped records to a producer in a loop and does nothing else: without headers, and with the five
 * headers of the stream given as constants. "sink" is the follower, from its start to the last acknowledgement. They take
 * turns, and the median of the rounds counts. One JSON line is the result.
 */
#include <errno.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/base.h"
#include "encode/pack.h"
#include "journal/journal.h"
#include "sinks/kafka.h"

#define ROUNDS_MAX     15
#define PROPERTIES_MAX 16
#define WAIT_NS        (120 * NS_PER_SEC)

struct bench {
	const char *brokers;
	unsigned records, rounds, topics;
	const char *properties[PROPERTIES_MAX][2];
	size_t n_properties;
	char path[64];
	uint64_t bytes;
	struct journal_record *all;
	_Atomic uint64_t acknowledged;
};

struct result {
	double seconds, cpu_seconds;
};

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_kafka: %s: %s\n", what, why);
	exit(1);
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void pack_number(struct pack *p, const char *key, uint64_t number)
{
	pack_text(p, key);
	pack_uint(p, number);
}

static void pack_word(struct pack *p, const char *key, const char *word)
{
	pack_text(p, key);
	pack_text(p, word);
}

/* A connection's close or an exec, with values as they vary on a host. */
static uint32_t make_record(uint8_t *room, size_t capacity, uint64_t seq)
{
	struct pack p = pack_over(room, capacity);
	uint8_t *map = pack_open_map(&p);
	char text[160];

	pack_word(&p, "type", seq % 4 ? "tcp.close" : "process.exec");
	pack_number(&p, "ts", 1700000000000000000ull + seq * 10007);
	pack_number(&p, "seq", seq);
	pack_word(&p, "host", "bench-host-01");
	pack_word(&p, "run", "0123456789abcdef");
	pack_number(&p, "pid", 1000 + seq * 7 % 30000);
	pack_number(&p, "tid", 1000 + seq * 7 % 30000);
	pack_word(&p, "comm", seq % 3 ? "nginx" : "postgres");
	snprintf(text, sizeof text, "%016" PRIx64, (uint64_t)(seq * 0x9e3779b97f4a7c15));
	pack_word(&p, "proc", text);
	pack_word(&p, "cgroup", "/system.slice/docker-3f1c9b.scope");
	snprintf(text, sizeof text, "10.%u.%u.%u", (unsigned)(seq % 4), (unsigned)(seq / 4 % 256),
		 (unsigned)(seq * 31 % 256));
	pack_word(&p, "raddr", text);
	pack_number(&p, "rport", 30000 + seq * 13 % 30000);
	pack_number(&p, "sent_bytes", seq * 2654435761u % 1000000);
	pack_number(&p, "received_bytes", seq * 40503 % 100000);
	pack_number(&p, "life_ns", seq * 7919 % 1000000000);
	snprintf(text, sizeof text, "/usr/bin/program-%u --option=%" PRIx64, (unsigned)(seq % 50),
		 (uint64_t)(seq * 0xc2b2ae3d27d4eb4f));
	pack_word(&p, "exe", text);
	pack_close(&p, map, 16);
	return (uint32_t)(p.at - room);
}

static void fill(struct bench *b)
{
	struct journal_options options = { .path = b->path, .size_bytes = (uint64_t)b->records * 512 + (64 << 20) };
	struct journal *journal;
	struct fault fault;

	if (journal_open(&journal, &options, &fault))
		die("journal", fault.text);
	for (uint64_t seq = 1; seq <= b->records; seq++) {
		uint8_t *room = journal_reserve(journal, 512);
		uint32_t size = room ? make_record(room, 512, seq) : 0;

		if (!room)
			die("journal", strerror(errno));
		journal_commit(journal, size, seq);
		b->bytes += size;
	}
	journal_publish(journal);
	journal_close(journal);
}

/* Where each record lies mapped. */
static struct journal_reader *map_all(struct bench *b)
{
	struct journal_reader *reader;
	struct fault fault;
	unsigned n = 0;

	if (journal_reader_open(&reader, b->path, 0, &fault))
		die("journal", fault.text);
	journal_reader_hold(reader, 0);
	b->all = calloc(b->records, sizeof *b->all);
	while (b->all && n < b->records && journal_reader_next(reader, &b->all[n]))
		n++;
	if (n < b->records)
		die("journal", "records are missing");
	return reader;
}

/* The properties of pipelines/sinks/producer_plan.c, then the caller's. */
static const char *const like_the_sink[][2] = {
	{ "queue.buffering.max.messages", "16384" },
	{ "queue.buffering.max.kbytes", "16384" },
	{ "batch.num.messages", "4096" },
	{ "message.max.bytes", "1200000" },
	{ "linger.ms", "50" },
	{ "compression.codec", "lz4" },
	{ "enable.idempotence", "true" },
	{ "acks", "-1" },
	{ "message.timeout.ms", "0" },
	{ "log_level", "0" },
};

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char error[256];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK)
		die(name, error);
}

static rd_kafka_t *bare_producer(struct bench *b)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char error[256];
	rd_kafka_t *rk;

	for (size_t i = 0; i < ARRAY_SIZE(like_the_sink); i++)
		set(conf, like_the_sink[i][0], like_the_sink[i][1]);
	for (size_t i = 0; i < b->n_properties; i++)
		set(conf, b->properties[i][0], b->properties[i][1]);
	set(conf, "bootstrap.servers", b->brokers);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
	if (!rk)
		die("librdkafka", error);
	return rk;
}

static rd_kafka_headers_t *constant_headers(void)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(5);

	rd_kafka_header_add(headers, "schema", 6, "process.exec/1", 14);
	rd_kafka_header_add(headers, "host", 4, "bench-host-01", 13);
	rd_kafka_header_add(headers, "run", 3, "0123456789abcdef", 16);
	rd_kafka_header_add(headers, "seq", 3, "1234567", 7);
	rd_kafka_header_add(headers, "content-type", 12, "application/msgpack", 19);
	return headers;
}

static bool bare_send(rd_kafka_t *rk, rd_kafka_topic_t *topic, const struct journal_record *r, bool with_headers)
{
	rd_kafka_headers_t *headers = with_headers ? constant_headers() : NULL;
	void *map = (void *)(uintptr_t)r->map;
	rd_kafka_resp_err_t error;

	if (!headers)
		return rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, 0, map, r->size, "bench-host-01", 13, NULL) == 0;
	error = rd_kafka_producev(rk, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_VALUE(map, r->size),
				  RD_KAFKA_V_KEY("bench-host-01", 13), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
	if (error)
		rd_kafka_headers_destroy(headers);
	return !error;
}

static unsigned reports(rd_kafka_queue_t *queue, int timeout_ms)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms);
	const rd_kafka_message_t *m;
	unsigned n = 0;

	while (event && (m = rd_kafka_event_message_next(event))) {
		if (m->err)
			die("delivery", rd_kafka_err2str(m->err));
		n++;
	}
	if (event)
		rd_kafka_event_destroy(event);
	return n;
}

/* Neither side's clock holds the first connection or the making of the topic: one record goes ahead. */
static void warm(rd_kafka_t *rk, rd_kafka_queue_t *queue, rd_kafka_topic_t *topic, const struct journal_record *r)
{
	uint64_t until = now_boottime_ns() + WAIT_NS;

	if (!bare_send(rk, topic, r, false))
		die("produce", rd_kafka_err2str(rd_kafka_last_error()));
	while (!reports(queue, 100))
		if (now_boottime_ns() > until)
			die("broker", "no acknowledgement");
}

static struct result bare(struct bench *b, bool with_headers)
{
	rd_kafka_t *rk = bare_producer(b);
	rd_kafka_queue_t *queue = rd_kafka_queue_get_main(rk);
	char name[64];
	unsigned sent = 0, done = 0;

	snprintf(name, sizeof name, "bench-%d-%u", getpid(), b->topics++);
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);

	warm(rk, queue, topic, &b->all[0]);

	uint64_t begun = now_boottime_ns();
	double cpu = cpu_seconds();

	while (done < b->records) {
		while (sent < b->records && bare_send(rk, topic, &b->all[sent], with_headers))
			sent++;
		done += reports(queue, 100);
		if (now_boottime_ns() - begun > WAIT_NS)
			die("broker", "too slow");
	}

	struct result r = { (double)(now_boottime_ns() - begun) / 1e9, cpu_seconds() - cpu };

	rd_kafka_topic_destroy(topic);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(rk);
	return r;
}

static void on_acknowledged(void *context, const struct journal_record *record)
{
	((struct bench *)context)->acknowledged++;
}

/* The sink's clock runs from its first acknowledgement, that is, one round trip after its start, and counts what came after. */
static struct result sink(struct bench *b)
{
	char name[64], cursor[96];
	struct sink_setup setup = {
		.journal = b->path, .host = "bench-host-01", .run = "r", .acknowledged = on_acknowledged, .context = b
	};
	struct kafka_options options = {
		.brokers = b->brokers, .topic = name, .properties = b->properties, .n_properties = b->n_properties
	};
	struct fault fault;
	struct kafka *kafka;

	snprintf(name, sizeof name, "bench-%d-%u", getpid(), b->topics++);
	snprintf(cursor, sizeof cursor, "%s/cursor.kafka", b->path);
	unlink(cursor);
	b->acknowledged = 0;
	/* Makes the topic. */
	if (kafka_probe(&options, 20000, &fault) || kafka_start(&kafka, &options, &setup, &fault))
		die("sink", fault.text);

	uint64_t started = now_boottime_ns(), first, begun;

	while (!(first = b->acknowledged) && now_boottime_ns() - started < WAIT_NS)
		usleep(100);
	begun = now_boottime_ns();

	double cpu = cpu_seconds();

	while (b->acknowledged < b->records && now_boottime_ns() - begun < WAIT_NS)
		usleep(500);
	if (b->acknowledged < b->records)
		die("sink", "too slow");

	double share = (double)b->records / (double)(b->records - first);
	struct result r = { (double)(now_boottime_ns() - begun) / 1e9 * share, (cpu_seconds() - cpu) * share };

	kafka_stop(kafka, 1000);
	return r;
}

static int by_seconds(const void *a, const void *b)
{
	double x = ((const struct result *)a)->seconds, y = ((const struct result *)b)->seconds;

	return (x > y) - (x < y);
}

static struct result median(struct result *results, unsigned n)
{
	qsort(results, n, sizeof *results, by_seconds);
	return results[n / 2];
}

static void report(const struct bench *b, struct result plain, struct result headers, struct result sink)
{
	double n = b->records;

	printf("{\"bench\":\"kafka\",\"records\":%u,\"record_bytes\":%.0f,\"rounds\":%u,"
	       "\"bare_per_s\":%.0f,\"bare_headers_per_s\":%.0f,\"sink_per_s\":%.0f,"
	       "\"bare_cpu_ns\":%.0f,\"bare_headers_cpu_ns\":%.0f,\"sink_cpu_ns\":%.0f,"
	       "\"sink_of_bare\":%.2f,\"sink_of_bare_headers\":%.2f}\n",
	       b->records, (double)b->bytes / n, b->rounds, n / plain.seconds, n / headers.seconds, n / sink.seconds,
	       plain.cpu_seconds / n * 1e9, headers.cpu_seconds / n * 1e9, sink.cpu_seconds / n * 1e9,
	       plain.seconds / sink.seconds, headers.seconds / sink.seconds);
}

static void read_arguments(struct bench *b, int argc, char **argv)
{
	if (argc < 2)
		die("usage", "bench_kafka BROKERS [RECORDS [ROUNDS [PROPERTY=VALUE ...]]]");
	b->brokers = argv[1];
	b->records = argc > 2 ? (unsigned)atoi(argv[2]) : 500000;
	b->rounds = argc > 3 ? (unsigned)atoi(argv[3]) : 3;
	if (b->records < 100000 || b->rounds < 1 || b->rounds > ROUNDS_MAX)
		die("usage", "at least 100000 records; 1 to 15 rounds");
	for (int i = 4; i < argc && b->n_properties < PROPERTIES_MAX; i++) {
		char *equals = strchr(argv[i], '=');

		if (!equals)
			die(argv[i], "not PROPERTY=VALUE");
		*equals = '\0';
		b->properties[b->n_properties][0] = argv[i];
		b->properties[b->n_properties++][1] = equals + 1;
	}
}

int main(int argc, char **argv)
{
	struct bench b = { .path = "/tmp/sonde-bench-kafka-XXXXXX" };
	struct result plain[ROUNDS_MAX], headers[ROUNDS_MAX], follower[ROUNDS_MAX];
	struct journal_reader *reader;
	char command[96];

	read_arguments(&b, argc, argv);
	if (!mkdtemp(b.path))
		die("mkdtemp", strerror(errno));
	fill(&b);
	reader = map_all(&b);
	for (unsigned i = 0; i < b.rounds; i++) {
		plain[i] = bare(&b, false);
		headers[i] = bare(&b, true);
		follower[i] = sink(&b);
	}
	report(&b, median(plain, b.rounds), median(headers, b.rounds), median(follower, b.rounds));
	journal_reader_close(reader);
	free(b.all);
	snprintf(command, sizeof command, "rm -rf %s", b.path);
	return system(command) != 0;
}
