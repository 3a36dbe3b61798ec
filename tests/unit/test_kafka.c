/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Kafka follower against librdkafka's mock cluster, which lives in a process of its own so that it can be made to
 * refuse, stall and vanish while the follower runs, and so that nothing is shared with what is tested. What arrived is
 * read back by a consumer. The mock keeps at most 5 MB of a partition: the streams here are small.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "base/base.h"
#include "encode/pack.h"
#include "journal/journal.h"
#include "sinks/envelope.h"
#include "sinks/kafka.h"
#include "sinks/window.h"

#define WAIT_NS     (30 * NS_PER_SEC)
#define API_PRODUCE 0
#define ERRORS_MAX  64

/* The mock cluster's process. */

enum order { ORDER_TOPIC, ORDER_ERRORS, ORDER_DOWN, ORDER_UP, ORDER_RTT };

struct command {
	enum order order;
	int number;
	int errors[ERRORS_MAX];
	char topic[64];
};

struct mock {
	pid_t pid;
	int fd;
	char brokers[128];
};

static int obey(rd_kafka_mock_cluster_t *cluster, const struct command *c)
{
	rd_kafka_resp_err_t errors[ERRORS_MAX];

	switch (c->order) {
	case ORDER_TOPIC:
		return rd_kafka_mock_topic_create(cluster, c->topic, c->number, 1);
	case ORDER_ERRORS:
		for (int i = 0; i < c->number; i++)
			errors[i] = c->errors[i];
		rd_kafka_mock_push_request_errors_array(cluster, API_PRODUCE, (size_t)c->number, errors);
		return 0;
	case ORDER_DOWN:
		return rd_kafka_mock_broker_set_down(cluster, -1);
	case ORDER_UP:
		return rd_kafka_mock_broker_set_up(cluster, -1);
	case ORDER_RTT:
		return rd_kafka_mock_broker_set_rtt(cluster, -1, c->number);
	}
	return -1;
}

static _Noreturn void mock_main(int fd)
{
	char error[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	struct command c;
	char brokers[128] = "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rd_kafka_conf_set(conf, "log_level", "0", error, sizeof error);
	rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
	rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(rk, 1);

	snprintf(brokers, sizeof brokers, "%s", rd_kafka_mock_cluster_bootstraps(cluster));
	if (write_all(fd, brokers, sizeof brokers) < 0)
		_exit(1);
	while (read(fd, &c, sizeof c) == sizeof c) {
		int r = obey(cluster, &c);

		if (write_all(fd, &r, sizeof r) < 0)
			break;
	}
	_exit(0);
}

static void mock_start(struct mock *m)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	m->pid = fork();
	assert_true(m->pid >= 0);
	if (!m->pid) {
		close(pair[0]);
		mock_main(pair[1]);
	}
	close(pair[1]);
	m->fd = pair[0];
	assert_int_equal(read(m->fd, m->brokers, sizeof m->brokers), sizeof m->brokers);
}

static void mock_stop(struct mock *m)
{
	close(m->fd);
	kill(m->pid, SIGKILL);
	waitpid(m->pid, NULL, 0);
}

static void mock_order(struct mock *m, struct command c)
{
	int r;

	assert_int_equal(write(m->fd, &c, sizeof c), sizeof c);
	assert_int_equal(read(m->fd, &r, sizeof r), sizeof r);
	assert_int_equal(r, 0);
}

static void mock_errors(struct mock *m, int n, const int *errors)
{
	struct command c = { .order = ORDER_ERRORS, .number = n };

	memcpy(c.errors, errors, (size_t)n * sizeof *errors);
	mock_order(m, c);
}

/* One test's world: a mock cluster with a topic, a journal with its writer, and what the follower said. */

struct world {
	struct mock mock;
	char path[64];
	struct journal *journal;
	struct kafka *kafka;
	uint64_t written; /* records, and the last seq */
	struct sink_setup setup;
	struct kafka_options options;
	/* Written by the follower's thread. */
	_Atomic uint64_t acknowledged, refused, position, away, back;
	_Atomic bool disorder;
	uint64_t last_position;
	_Atomic uint64_t refused_seq;
};

static void on_acknowledged(void *context, const struct journal_record *record)
{
	struct world *w = context;

	if (w->acknowledged + w->refused && record->position <= w->last_position)
		w->disorder = true;
	w->last_position = record->position;
	w->acknowledged++;
}

static void on_refused(void *context, const struct journal_record *record, const char *reason)
{
	struct world *w = context;

	if (w->acknowledged + w->refused && record->position <= w->last_position)
		w->disorder = true;
	w->last_position = record->position;
	w->refused_seq = record->seq;
	w->refused += reason && *reason;
}

static void on_moved(void *context, uint64_t position)
{
	((struct world *)context)->position = position;
}

static void on_notice(void *context, const char *text)
{
	struct world *w = context;

	w->away += strstr(text, "unreachable") != NULL;
	w->back += strstr(text, "is back") != NULL;
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct journal_options journal = { .size_bytes = 16 << 20, .segment_bytes = 1 << 20 };
	struct fault fault;

	mock_start(&w->mock);
	mock_order(&w->mock, (struct command){ .order = ORDER_TOPIC, .number = 1, .topic = "stream" });
	strcpy(w->path, "/tmp/sonde-test-kafka-XXXXXX");
	assert_non_null(mkdtemp(w->path));
	journal.path = w->path;
	assert_int_equal(journal_open(&w->journal, &journal, &fault), 0);
	w->setup = (struct sink_setup){ .journal = w->path,
					.writer = w->journal,
					.host = "node",
					.run = "now",
					.acknowledged = on_acknowledged,
					.refused = on_refused,
					.moved = on_moved,
					.notice = on_notice,
					.context = w };
	w->options = (struct kafka_options){ .brokers = w->mock.brokers, .topic = "stream" };
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	char command[128];

	kafka_stop(w->kafka, 0);
	journal_close(w->journal);
	mock_stop(&w->mock);
	snprintf(command, sizeof command, "rm -rf %s", w->path);
	assert_int_equal(system(command), 0);
	free(w);
	return 0;
}

/* A record as the agent writes it, filled up to about `size` bytes. */
static uint32_t make_record(uint8_t *room, uint32_t capacity, const char *type, const char *run, uint64_t seq,
			    uint32_t size)
{
	struct pack p = pack_over(room, capacity);
	uint8_t *map = pack_open_map(&p);
	static const char filler[1 << 16];

	pack_text(&p, "type"), pack_text(&p, type);
	pack_text(&p, "ts"), pack_uint(&p, now_realtime_ns());
	pack_text(&p, "seq"), pack_uint(&p, seq);
	pack_text(&p, "host"), pack_text(&p, "node");
	pack_text(&p, "run"), pack_text(&p, run);
	pack_text(&p, "pad"), pack_str(&p, filler, size);
	pack_close(&p, map, 6);
	assert_false(p.full);
	return (uint32_t)(p.at - room);
}

static void append_as(struct world *w, const char *type, const char *run, uint32_t size)
{
	uint8_t *room = journal_reserve(w->journal, size + 256);

	assert_non_null(room);
	w->written++;
	journal_commit(w->journal, make_record(room, size + 256, type, run, w->written, size), w->written);
	journal_publish(w->journal);
}

static void append(struct world *w, unsigned n)
{
	static const char *const types[] = { "process.exec", "tcp.connect", "profile.cpu" };

	for (unsigned i = 0; i < n; i++)
		append_as(w, types[i % 3], "now", 50 + i % 100);
}

static void start(struct world *w)
{
	struct fault fault = { 0 };
	int r = kafka_start(&w->kafka, &w->options, &w->setup, &fault);

	if (r)
		print_error("%s\n", fault.text);
	assert_int_equal(r, 0);
}

static void stop(struct world *w, int timeout_ms)
{
	kafka_stop(w->kafka, timeout_ms);
	w->kafka = NULL;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

#define wait_until(condition)                                                                                          \
	do {                                                                                                           \
		uint64_t until_ = now_boottime_ns() + WAIT_NS;                                                         \
		while (!(condition) && now_boottime_ns() < until_)                                                     \
			nap();                                                                                         \
		assert_true(condition);                                                                                \
	} while (0)

/* Reading back. */

struct reading {
	unsigned n, duplicates, gaps; /* a gap: a new seq that does not follow the greatest so far */
	uint64_t greatest, least_repeated;
	struct world *world;
	void (*look)(const rd_kafka_message_t *m, uint64_t seq);
};

static rd_kafka_t *consumer_of(struct world *w)
{
	char error[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

	rd_kafka_conf_set(conf, "bootstrap.servers", w->mock.brokers, error, sizeof error);
	rd_kafka_conf_set(conf, "group.id", "test", error, sizeof error);
	rd_kafka_conf_set(conf, "enable.partition.eof", "true", error, sizeof error);
	rd_kafka_conf_set(conf, "fetch.wait.max.ms", "20", error, sizeof error);
	rd_kafka_conf_set(conf, "log_level", "0", error, sizeof error);
	rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
	rd_kafka_topic_partition_list_add(list, "stream", 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
	rd_kafka_assign(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	return rk;
}

static uint64_t seq_of(const rd_kafka_message_t *m)
{
	struct envelope e;

	assert_int_equal(envelope_read(m->payload, m->len, &e), 0);
	return e.seq;
}

static void read_one(struct reading *r, const rd_kafka_message_t *m)
{
	uint64_t seq = seq_of(m);

	r->n++;
	if (seq <= r->greatest) {
		r->duplicates++;
		if (!r->least_repeated || seq < r->least_repeated)
			r->least_repeated = seq;
	} else {
		r->gaps += seq != r->greatest + 1;
		r->greatest = seq;
	}
	if (r->look)
		r->look(m, seq);
}

/* Everything that the topic holds now. */
static void read_back(struct world *w, struct reading *r)
{
	rd_kafka_t *rk = consumer_of(w);
	uint64_t until = now_boottime_ns() + WAIT_NS;
	bool end = false;

	while (!end && now_boottime_ns() < until) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);

		if (m && !m->err)
			read_one(r, m);
		end = m && m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
		if (m)
			rd_kafka_message_destroy(m);
	}
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	assert_true(end);
}

static void assert_whole(struct world *w)
{
	struct reading r = { 0 };

	read_back(w, &r);
	assert_int_equal(r.greatest, w->written);
	assert_int_equal(r.gaps, 0);
	assert_false(w->disorder);
}

static struct sink_health health(struct world *w)
{
	struct sink_health h;

	kafka_health(w->kafka, &h);
	return h;
}

/* The tests. */

static void assert_header(const rd_kafka_message_t *m, const char *name, const char *expected)
{
	rd_kafka_headers_t *headers;
	const void *value;
	size_t size;

	assert_int_equal(rd_kafka_message_headers(m, &headers), 0);
	assert_int_equal(rd_kafka_header_get_last(headers, name, &value, &size), 0);
	assert_int_equal(size, strlen(expected));
	assert_memory_equal(value, expected, size);
}

static void look_at_headers(const rd_kafka_message_t *m, uint64_t seq)
{
	bool of_tcp = seq % 2;
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, seq);
	assert_header(m, "seq", text);
	assert_header(m, "host", "node");
	assert_header(m, "run", seq <= 10 ? "before" : "now");
	assert_header(m, "schema", of_tcp ? "tcp.connect/7" : "alert/1");
	assert_header(m, "content-type", "application/msgpack");
	assert_int_equal(m->key_len, of_tcp ? 8 : 10);
	assert_memory_equal(m->key, of_tcp ? "node:tcp" : "node:alert", m->key_len);
}

static unsigned version_of(void *context, const char *type, size_t length)
{
	return length == 11 && !memcmp(type, "tcp.connect", 11) ? 7 : 1;
}

static void test_key_and_headers_come_from_the_record(void **state)
{
	struct world *w = *state;
	struct reading r = { .look = look_at_headers };

	w->options.key = KAFKA_KEY_HOST_MODULE;
	w->options.version = version_of;
	for (unsigned i = 1; i <= 200; i++)
		append_as(w, i % 2 ? "tcp.connect" : "alert", i <= 10 ? "before" : "now", 20);
	start(w);
	wait_until(w->acknowledged == 200);
	read_back(w, &r);
	assert_int_equal(r.n, 200);
}

static void test_all_arrive_once_and_in_order(void **state)
{
	struct world *w = *state;
	struct reading r = { 0 };
	struct journal_health journal;

	start(w);
	for (unsigned i = 0; i < 50; i++) {
		append(w, 200);
		nap();
	}
	wait_until(w->acknowledged == w->written);
	read_back(w, &r);
	assert_int_equal(r.n, 10000);
	assert_int_equal(r.gaps, 0);
	assert_int_equal(r.duplicates, 0);
	assert_false(w->disorder);
	journal_health(w->journal, &journal);
	wait_until(w->position == journal.end);
	wait_until(health(w).in_flight == 0);
	assert_int_equal(health(w).sent, 10000);
	assert_int_equal(health(w).acknowledged, 10000);
	assert_int_equal(health(w).position, journal.end);
	assert_true(health(w).connected);
}

static void test_a_new_start_goes_on_at_the_cursor(void **state)
{
	struct world *w = *state;
	struct reading r = { 0 };

	append(w, 500);
	start(w);
	stop(w, 10000);
	assert_int_equal(w->acknowledged, 500);
	append(w, 500);
	start(w);
	wait_until(w->acknowledged == 1000);
	read_back(w, &r);
	assert_int_equal(r.n, 1000);
	assert_int_equal(r.gaps, 0);
	assert_int_equal(r.duplicates, 0);
}

static void test_the_window_is_bounded_while_the_broker_is_away(void **state)
{
	struct world *w = *state;
	static const char *const properties[][2] = { { "queue.buffering.max.messages", "256" } };
	struct reading r = { 0 };

	w->options.properties = properties;
	w->options.n_properties = 1;
	start(w);
	append(w, 100);
	wait_until(w->acknowledged == 100);
	mock_order(&w->mock, (struct command){ .order = ORDER_DOWN });
	append(w, 5000);
	wait_until(w->away == 1);
	assert_false(health(w).connected);
	assert_true(*health(w).last_error);
	wait_until(health(w).in_flight == 256);
	assert_true(health(w).sent <= 100 + 256);
	mock_order(&w->mock, (struct command){ .order = ORDER_UP });
	wait_until(w->acknowledged == w->written);
	wait_until(w->back == 1);
	read_back(w, &r);
	assert_int_equal(r.greatest, w->written);
	assert_int_equal(r.gaps, 0);
	assert_int_equal(r.duplicates, 0);
	assert_false(w->disorder);
}

static void test_passing_errors_cost_nothing(void **state)
{
	struct world *w = *state;
	static const int errors[] = { RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
				      RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR };

	start(w);
	for (unsigned i = 0; i < 5; i++) {
		mock_errors(&w->mock, ARRAY_SIZE(errors), errors);
		append(w, 500);
		wait_until(w->acknowledged == w->written);
	}
	assert_whole(w);
	assert_int_equal(health(w).rebuilt, 0);
}

/* An error that librdkafka itself cannot get over: the producer is replaced, and the order is kept. */
static void test_a_fatal_error_starts_a_new_producer(void **state)
{
	struct world *w = *state;
	static const int errors[] = { RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP };

	start(w);
	for (unsigned i = 0; i < 3; i++) {
		append(w, 300);
		wait_until(w->acknowledged == w->written);
		mock_errors(&w->mock, 1, errors);
		append(w, 300);
		wait_until(w->acknowledged == w->written);
		assert_int_equal(health(w).rebuilt, i + 1);
	}
	assert_int_equal(w->refused, 0);
	assert_true(health(w).retried > 0);
	assert_whole(w);
}

static void test_a_lost_answer_is_asked_for_again(void **state)
{
	struct world *w = *state;
	static const int errors[] = { RD_KAFKA_RESP_ERR__TRANSPORT };

	start(w);
	for (unsigned i = 0; i < 3; i++) {
		mock_errors(&w->mock, 1, errors);
		append(w, 300);
		wait_until(w->acknowledged == w->written);
	}
	assert_whole(w);
}

/* A batch is refused; sent one by one, its third record is refused again, and only that one is given up. */
static void test_a_refused_record_is_passed_over(void **state)
{
	struct world *w = *state;
	static const char *const properties[][2] = { { "max.in.flight", "1" } };
	static const int errors[] = { RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 0, 0,
				      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE };
	struct reading r = { 0 };

	w->options.properties = properties;
	w->options.n_properties = 1;
	append(w, 10);
	mock_errors(&w->mock, ARRAY_SIZE(errors), errors);
	start(w);
	wait_until(w->acknowledged + w->refused == 10);
	append(w, 10);
	wait_until(w->acknowledged + w->refused == 20);
	assert_int_equal(w->refused, 1);
	assert_int_equal(w->refused_seq, 3);
	assert_int_equal(health(w).refused, 1);
	assert_false(w->disorder);
	read_back(w, &r);
	assert_int_equal(r.n, 19);
	assert_int_equal(r.duplicates, 0);
	assert_int_equal(r.gaps, 1);
}

/* Refused as a batch, taken one by one: the batch was too large, and nothing is given up. */
static void test_a_batch_too_large_is_split(void **state)
{
	struct world *w = *state;
	static const int errors[] = { RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE };

	append(w, 100);
	mock_errors(&w->mock, 1, errors);
	start(w);
	wait_until(w->acknowledged == 100);
	append(w, 100);
	wait_until(w->acknowledged == 200);
	assert_int_equal(w->refused, 0);
	assert_whole(w);
}

static void test_a_record_over_the_clients_bound_is_passed_over(void **state)
{
	struct world *w = *state;
	static const char *const properties[][2] = { { "message.max.bytes", "5000" } };

	w->options.properties = properties;
	w->options.n_properties = 1;
	append(w, 5);
	append_as(w, "profile.cpu", "now", 6000);
	append(w, 5);
	start(w);
	wait_until(w->acknowledged == 10);
	assert_int_equal(w->refused, 1);
	assert_int_equal(w->refused_seq, 6);
	assert_int_equal(health(w).rebuilt, 0);
	assert_false(w->disorder);
}

static void test_stop_sends_what_is_there(void **state)
{
	struct world *w = *state;
	static const char *const properties[][2] = { { "linger.ms", "20000" } };
	uint64_t begun;

	w->options.properties = properties;
	w->options.n_properties = 1;
	start(w);
	append(w, 300);
	begun = now_boottime_ns();
	stop(w, 15000);
	assert_true(now_boottime_ns() - begun < 10 * NS_PER_SEC);
	assert_int_equal(w->acknowledged, 300);
	assert_whole(w);
}

static void test_stop_is_bounded_when_no_broker_answers(void **state)
{
	struct world *w = *state;
	uint64_t begun, took;

	mock_order(&w->mock, (struct command){ .order = ORDER_DOWN });
	append(w, 300);
	start(w);
	wait_until(health(w).in_flight == 300);
	begun = now_boottime_ns();
	stop(w, 500);
	took = now_boottime_ns() - begun;
	assert_true(took >= 400 * NS_PER_MS && took < 5 * NS_PER_SEC);
	assert_int_equal(w->acknowledged, 0);
	mock_order(&w->mock, (struct command){ .order = ORDER_UP });
	start(w);
	wait_until(w->acknowledged == 300);
	assert_whole(w);
}

/* The follower's process is killed at full speed, again and again: nothing is missing, and only what was not
 * acknowledged is there twice. */
static void test_kill_9_repeats_only_what_was_not_acknowledged(void **state)
{
	struct world *w = *state;
	struct reading r = { 0 };
	struct fault fault;

	append(w, 6000);
	w->setup.writer = NULL;
	mock_order(&w->mock, (struct command){ .order = ORDER_RTT, .number = 20 });
	for (unsigned i = 0; i < 4; i++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid) {
			static const char *const properties[][2] = { { "batch.num.messages", "50" },
								     { "linger.ms", "1" } };

			w->options.properties = properties;
			w->options.n_properties = 2;
			if (kafka_start(&w->kafka, &w->options, &w->setup, &fault))
				_exit(1);
			while (w->acknowledged < 500)
				nap();
			kill(getpid(), SIGKILL);
		}
		int status;

		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
	}
	w->setup.writer = w->journal;
	start(w);
	stop(w, 20000);
	read_back(w, &r);
	assert_int_equal(r.greatest, w->written);
	assert_int_equal(r.gaps, 0);
	assert_true(w->acknowledged <= 6000 - 4 * 500);
	assert_true(r.n >= 6000 && r.duplicates == r.n - 6000);
	assert_true(!r.duplicates || r.least_repeated > 500);
}

static int try_property(struct world *w, const char *name, const char *value, struct fault *fault)
{
	const char *properties[1][2] = { { name, value } };

	w->options.properties = properties;
	w->options.n_properties = 1;
	return kafka_start(&w->kafka, &w->options, &w->setup, fault);
}

static void test_bad_properties_are_named(void **state)
{
	struct world *w = *state;
	struct fault fault;

	assert_int_equal(try_property(w, "linger.mss", "5", &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "'linger.mss'"));
	assert_non_null(strstr(fault.text, "did you mean 'linger.ms'"));
	assert_int_equal(try_property(w, "linger.ms", "soon", &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "'linger.ms'"));
	assert_int_equal(try_property(w, "acks", "1", &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "'acks' cannot be set"));
	assert_int_equal(try_property(w, "max.in.flight", "100", &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "max.in.flight"));
	w->options.n_properties = 0;
	w->options.brokers = "";
	assert_int_equal(kafka_start(&w->kafka, &w->options, &w->setup, &fault), -EINVAL);
	assert_null(w->kafka);
}

static void test_probe(void **state)
{
	struct world *w = *state;
	struct fault fault;

	assert_int_equal(kafka_probe(&w->options, 10000, &fault), 0);
	mock_order(&w->mock, (struct command){ .order = ORDER_DOWN });
	assert_int_equal(kafka_probe(&w->options, 1000, &fault), -EHOSTUNREACH);
	assert_non_null(strstr(fault.text, "no Kafka broker answers"));
}

static void test_envelope(void **state)
{
	uint8_t record[512];
	uint32_t size = make_record(record, sizeof record, "process.exec", "r1", 70000, 100);
	struct envelope e;

	assert_int_equal(envelope_read(record, size, &e), 0);
	assert_int_equal(e.type.length, 12);
	assert_memory_equal(e.type.at, "process.exec", 12);
	assert_memory_equal(envelope_module(e.type).at, "process", 7);
	assert_int_equal(envelope_module(e.type).length, 7);
	assert_memory_equal(e.host.at, "node", e.host.length);
	assert_memory_equal(e.run.at, "r1", e.run.length);
	assert_int_equal(e.seq, 70000);
	/* Cut anywhere, from memory of just that size: never more is read, and never more is found than is there. */
	for (uint32_t cut = 0; cut < size; cut++) {
		uint8_t *copy = malloc(cut + 1);

		memcpy(copy, record, cut);
		int r = envelope_read(copy, cut, &e);

		assert_true(r == 0 || r == -ENOENT || r == -EBADMSG);
		assert_true(e.type.at == NULL || (const uint8_t *)e.type.at + e.type.length <= copy + cut);
		free(copy);
	}
	assert_int_equal(envelope_read("\xc0", 1, &e), -EBADMSG);
	assert_int_equal(envelope_read("\x80", 1, &e), -ENOENT);
	assert_null(e.type.at);
}

static void test_window(void **state)
{
	struct window w;
	struct journal_record record = { .size = 10 };

	assert_int_equal(window_open(&w, 16, 100), 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_false(window_full(&w));
		record.position = i * 16;
		record.next = record.position + 16;
		window_put(&w, &record);
	}
	assert_true(window_full(&w));
	for (; w.next < 5; w.next++)
		window_mark(&w, w.next, SLOT_SENT);
	assert_int_equal(w.outstanding, 5);
	window_mark(&w, 1, SLOT_DONE);
	window_mark(&w, 3, SLOT_DONE);
	assert_null(window_settled(&w));
	window_rewind(&w);
	assert_int_equal(w.outstanding, 0);
	assert_int_equal(w.next, 0);
	assert_true(window_at(&w, 0)->again);
	window_mark(&w, 0, SLOT_DONE);
	assert_int_equal(window_settled(&w)->record.position, 0);
	window_drop(&w);
	assert_int_equal(window_settled(&w)->record.position, 16);
	window_drop(&w);
	assert_null(window_settled(&w));
	assert_int_equal(w.next, 2);
	assert_int_equal(w.bytes, 80);
	window_mark(&w, 0, SLOT_DONE);
	window_mark(&w, 99, SLOT_DONE);
	assert_int_equal(w.head, 2);
	window_close(&w);
}

#define world_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

/* Debian's librdkafka uses C11 threads, which ThreadSanitizer does not know: its own threads crash under it. */
#ifdef __SANITIZE_THREAD__
#define LIBRDKAFKA_RUNS 0
#else
#define LIBRDKAFKA_RUNS 1
#endif

int main(void)
{
	const struct CMUnitTest alone[] = {
		cmocka_unit_test(test_envelope),
		cmocka_unit_test(test_window),
	};
	const struct CMUnitTest clustered[] = {
		world_test(test_bad_properties_are_named),
		world_test(test_kill_9_repeats_only_what_was_not_acknowledged),
		world_test(test_key_and_headers_come_from_the_record),
		world_test(test_all_arrive_once_and_in_order),
		world_test(test_a_new_start_goes_on_at_the_cursor),
		world_test(test_the_window_is_bounded_while_the_broker_is_away),
		world_test(test_passing_errors_cost_nothing),
		world_test(test_a_fatal_error_starts_a_new_producer),
		world_test(test_a_lost_answer_is_asked_for_again),
		world_test(test_a_refused_record_is_passed_over),
		world_test(test_a_batch_too_large_is_split),
		world_test(test_a_record_over_the_clients_bound_is_passed_over),
		world_test(test_stop_sends_what_is_there),
		world_test(test_stop_is_bounded_when_no_broker_answers),
		world_test(test_probe),
	};

	int failed = cmocka_run_group_tests_name("kafka, alone", alone, NULL, NULL);

	if (LIBRDKAFKA_RUNS)
		failed += cmocka_run_group_tests_name("kafka", clustered, NULL, NULL);
	return failed;
}
