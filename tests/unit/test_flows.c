/* SPDX-License-Identifier: Apache-2.0 */
/* Connections packet by packet: what is said of each, and that every one is counted once. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "encode/pack.h"
#include "encode/record.h"
#include "flows/flows.h"
#include "flows/services.h"

#define C_ISN 4294967290u /* wraps within the first bytes */
#define S_ISN 1000u

struct scene {
	struct flows *flows;
	unsigned connects, accepts, closes, answers, unanswered, gaps, data_ends;
	uint32_t unseen, captured_most; /* captured_most: of a packet's payload; 0: all */
	int error;
	uint64_t connect_ns, accept_ns, answer_ns;
	struct flow_close close;
	char data[2][256];
	uint16_t client_port;
	uint16_t window;
};

static void on_connect(void *context, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns, int error)
{
	struct scene *s = context;

	assert_int_equal(ends->port[FLOW_SERVER], 53);
	s->connects++;
	s->connect_ns = latency_ns;
	s->error = error;
}

static void on_accept(void *context, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns)
{
	struct scene *s = context;

	s->accepts++;
	s->accept_ns = latency_ns;
}

static void on_close(void *context, const struct flow_ends *ends, const struct flow_close *close)
{
	struct scene *s = context;

	s->closes++;
	s->close = *close;
}

static void on_answer(void *context, const struct flow_ends *ends, uint64_t time, uint64_t turnaround_ns)
{
	struct scene *s = context;

	s->answers++;
	s->answer_ns = turnaround_ns;
}

static void on_unanswered(void *context, const struct flow_ends *ends, uint64_t time)
{
	((struct scene *)context)->unanswered++;
}

static void on_data(void *context, const struct flow_ends *ends, enum flow_side from, uint64_t time,
		    const uint8_t *bytes, uint32_t size)
{
	struct scene *s = context;

	s->gaps += !bytes;
	s->unseen += bytes ? 0 : size;
	if (bytes)
		strncat(s->data[from], (const char *)bytes, size);
}

static void on_data_end(void *context, const struct flow_ends *ends)
{
	((struct scene *)context)->data_ends++;
}

static void begin(struct scene *s, uint32_t room)
{
	const struct flow_options options = {
		.flows = room,
		.data_port = 53,
		.idle_ns = 3600 * NS_PER_SEC,
		.events = { on_connect, on_accept, on_close, on_answer, on_unanswered, on_data, on_data_end, s },
	};

	*s = (struct scene){ .client_port = 40000, .window = 100 };
	assert_int_equal(flows_new(&s->flows, &options), 0);
}

/* `seq` and `ack` count from the numbers behind the two SYNs. */
static void packet(struct scene *s, uint64_t ms, enum flow_side from, uint8_t flags, uint32_t seq, uint32_t ack,
		   const char *payload)
{
	struct packet p = { .source_port = 53, .target_port = s->client_port };

	p.source.bytes[15] = 2;
	p.target.bytes[15] = 1;
	if (from == FLOW_CLIENT) {
		p.source_port = s->client_port;
		p.target_port = 53;
		p.source.bytes[15] = 1;
		p.target.bytes[15] = 2;
	}
	p.tcp.seq = seq + (from == FLOW_CLIENT ? C_ISN : S_ISN) + !(flags & TCP_SYN);
	p.tcp.ack = ack + (from == FLOW_CLIENT ? S_ISN : C_ISN) + 1;
	p.tcp.flags = flags;
	p.tcp.window = s->window;
	p.tcp.scale = -1;
	p.payload = (const uint8_t *)payload;
	p.length = p.captured = (uint32_t)strlen(payload);
	if (s->captured_most)
		p.captured = MIN_OF(p.captured, s->captured_most);
	flows_packet(s->flows, ms * NS_PER_MS, &p);
}

#define C(ms, flags, seq, ack, payload) packet(s, ms, FLOW_CLIENT, flags, seq, ack, payload)
#define S(ms, flags, seq, ack, payload) packet(s, ms, FLOW_SERVER, flags, seq, ack, payload)
#define ACK                             TCP_ACK

static void open_at(struct scene *s, uint64_t ms)
{
	C(ms, TCP_SYN, 0, 0, "");
	S(ms + 10, TCP_SYN | ACK, 0, 0, "");
	C(ms + 11, ACK, 0, 0, "");
}

static struct flow_counts finish(struct scene *s)
{
	struct flow_counts c;

	flows_end(s->flows);
	flows_count(s->flows, &c);
	assert_int_equal(c.seen, c.closed + c.reset + c.failed + c.half_open + c.idle + c.evicted + c.open);
	flows_free(s->flows);
	return c;
}

static void test_whole_life(void **state)
{
	struct scene scene, *s = &scene;

	begin(s, 8);
	open_at(s, 1000);
	assert_int_equal(s->connects, 1);
	assert_int_equal(s->error, 0);
	assert_int_equal(s->connect_ns, 10 * NS_PER_MS);
	assert_int_equal(s->accepts, 1);
	assert_int_equal(s->accept_ns, 11 * NS_PER_MS);
	C(1020, ACK, 0, 0, "hello");
	C(1021, ACK, 5, 0, " world");
	S(1031, ACK, 0, 11, "");
	S(1051, ACK, 0, 11, "answer");
	assert_int_equal(s->answers, 1);
	assert_int_equal(s->answer_ns, 30 * NS_PER_MS);
	S(1052, ACK, 6, 11, " more");
	C(1053, ACK, 11, 11, "");
	C(1060, TCP_FIN | ACK, 11, 11, "");
	S(1070, TCP_FIN | ACK, 11, 12, "");
	C(1071, ACK, 12, 12, "");
	assert_int_equal(s->closes, 0);
	S(1080, TCP_FIN | ACK, 11, 12, ""); /* after the end, and counted */
	C(4000, TCP_SYN, 0, 0, "");         /* the port is used again: by another number */
	assert_int_equal(s->closes, 1);
	assert_int_equal(s->close.time, 1071 * NS_PER_MS);
	assert_int_equal(s->close.life_ns, 60 * NS_PER_MS);
	assert_true(s->close.whole);
	assert_int_equal(s->close.ends[FLOW_CLIENT].sent_bytes, 11);
	assert_int_equal(s->close.ends[FLOW_SERVER].sent_bytes, 11);
	assert_int_equal(s->close.ends[FLOW_CLIENT].min_rtt_ns, 10 * NS_PER_MS);
	assert_int_equal(s->close.ends[FLOW_SERVER].min_rtt_ns, 1 * NS_PER_MS);
	assert_int_equal(s->close.ends[FLOW_CLIENT].retransmits, 0);
	assert_int_equal(s->close.ends[FLOW_SERVER].retransmits, 1);
	assert_string_equal(s->data[FLOW_CLIENT], "hello world");
	assert_string_equal(s->data[FLOW_SERVER], "answer more");
	assert_int_equal(s->data_ends, 1);

	struct flow_counts c = finish(s);

	assert_int_equal(c.seen, 2);
	assert_int_equal(c.closed, 1);
	assert_int_equal(c.open, 1);
}

static void test_not_made(void **state)
{
	struct scene scene, *s = &scene;

	begin(s, 8);
	C(0, TCP_SYN, 0, 0, "");
	S(5, TCP_RST | ACK, 0, 0, "");
	assert_int_equal(s->error, ECONNREFUSED);
	assert_int_equal(s->connect_ns, 5 * NS_PER_MS);
	s->client_port++;
	C(10, TCP_SYN, 0, 0, "");
	C(1010, TCP_SYN, 0, 0, "");
	C(1015, TCP_RST, 1, 0, "");
	assert_int_equal(s->error, ECANCELED);
	assert_int_equal(s->connects, 2);
	s->client_port++;
	C(2000, TCP_SYN, 0, 0, "");
	C(3000, TCP_SYN, 0, 0, "");
	s->client_port++;
	S(100000, TCP_RST, 0, 0, "");
	assert_int_equal(s->connects, 3);
	assert_int_equal(s->error, ETIMEDOUT);
	assert_int_equal(s->connect_ns, 76 * NS_PER_SEC);
	C(100001, TCP_SYN, 0, 0, "");
	S(100002, TCP_SYN | ACK, 0, 0, "");
	C(100003, TCP_RST, 1, 0, ""); /* a scan */
	assert_int_equal(s->error, 0);

	/* Word of a segment that did not arrive: of another connection, of another number, of this one. */
	s->client_port++;
	C(100100, TCP_SYN, 0, 0, "");

	struct packet p = { .source_port = s->client_port, .target_port = 53, .error = EHOSTUNREACH };

	p.source.bytes[15] = 1;
	p.target.bytes[15] = 3;
	p.tcp.seq = C_ISN;
	flows_unreachable(s->flows, 100105 * NS_PER_MS, &p);
	p.target.bytes[15] = 2;
	p.tcp.seq++;
	flows_unreachable(s->flows, 100106 * NS_PER_MS, &p);
	assert_int_equal(s->connects, 4);
	p.tcp.seq--;
	flows_unreachable(s->flows, 100107 * NS_PER_MS, &p);
	assert_int_equal(s->connects, 5);
	assert_int_equal(s->error, EHOSTUNREACH);
	assert_int_equal(s->connect_ns, 7 * NS_PER_MS);

	struct flow_counts c = finish(s);

	assert_int_equal(s->closes, 0);
	assert_int_equal(c.failed, 4);
	assert_int_equal(c.half_open, 1);
	assert_int_equal(c.stray, 1);
	assert_int_equal(c.retransmits, 2);
}

static void test_resets(void **state)
{
	struct scene scene, *s = &scene;

	begin(s, 8);
	open_at(s, 0);
	C(20, ACK, 0, 0, "request");
	S(30, TCP_RST | ACK, 0, 7, "");
	assert_int_equal(s->unanswered, 1);
	finish(s);
	assert_int_equal(s->closes, 1);
	assert_int_equal(s->close.ends[FLOW_CLIENT].error, ECONNRESET);
	assert_int_equal(s->close.ends[FLOW_SERVER].error, 0);
	begin(s, 8);
	open_at(s, 0);
	S(20, ACK, 0, 0, "greeting");
	C(30, TCP_RST, 0, 0, "");
	assert_int_equal(s->answers, 0);
	assert_int_equal(finish(s).reset, 1);
	assert_int_equal(s->close.ends[FLOW_CLIENT].error, 0);
	assert_int_equal(s->close.ends[FLOW_SERVER].error, ECONNRESET);
}

static void test_sent_again(void **state)
{
	struct scene scene, *s = &scene;

	begin(s, 8);
	open_at(s, 0); /* round-trip time: 11 ms */
	C(100, ACK, 0, 0, "aaaa");
	C(400, ACK, 0, 0, "aaaa");    /* again */
	C(401, ACK, 0, 0, "aaaabb");  /* again, with more */
	C(410, ACK, 10, 0, "dddd");   /* ahead: 6 to 10 are missing */
	C(412, ACK, 6, 0, "cccc");    /* overtaken */
	C(500, ACK, 20, 0, "ffff");   /* 14 to 20 are missing */
	C(600, ACK, 14, 0, "eeeeee"); /* too late to have been overtaken */
	C(650, ACK, 23, 0, "f");      /* keep-alive */
	C(700, ACK, 30, 0, "gg");     /* 24 to 30 */
	S(701, ACK, 0, 24, "");
	S(702, ACK, 0, 24, "");
	S(703, ACK, 0, 24, "");
	C(704, ACK, 24, 0, "hhhhhh"); /* asked for */
	C(705, TCP_RST, 32, 0, "");

	struct flow_counts c = finish(s);

	assert_int_equal(s->close.ends[FLOW_CLIENT].retransmits, 4);
	assert_int_equal(c.out_of_order, 1);
	assert_int_equal(s->close.ends[FLOW_CLIENT].sent_bytes, 32);
	assert_string_equal(s->data[FLOW_CLIENT], "aaaabbddddffffgg");
	assert_int_equal(s->gaps, 3);
}

/* Of what was not captured it is said how much it is; a part that was sent before is not said again. */
static void test_cut_short(void **state)
{
	struct scene scene, *s = &scene;

	begin(s, 8);
	open_at(s, 1000);
	s->captured_most = 4;
	C(1020, ACK, 0, 0, "question");
	S(1030, ACK, 0, 8, "an");
	S(1040, ACK, 0, 8, "answer");
	assert_string_equal(s->data[FLOW_CLIENT], "ques");
	assert_string_equal(s->data[FLOW_SERVER], "answ");
	assert_int_equal(s->gaps, 2);
	assert_int_equal(s->unseen, 4 + 2);
	finish(s);
}

static void test_zero_window(void **state)
{
	struct scene scene, *s = &scene;

	begin(s, 8);
	open_at(s, 0);
	C(100, ACK, 0, 0, "much");
	s->window = 0;
	S(110, ACK, 0, 4, "");
	S(150, ACK, 0, 4, "");
	s->window = 100;
	S(160, ACK, 0, 4, "");
	s->window = 0;
	S(200, ACK, 0, 4, "");
	S(230, TCP_RST | ACK, 0, 4, "");
	finish(s);
	assert_int_equal(s->close.ends[FLOW_SERVER].zero_window_ns, 80 * NS_PER_MS);
	assert_int_equal(s->close.ends[FLOW_CLIENT].zero_window_ns, 0);
}

/* Connections that began before the capture, and handshakes of which a part is missing. */
static void test_middle(void **state)
{
	struct scene scene, *s = &scene;

	begin(s, 8);
	S(0, ACK, 100, 50, "answer"); /* the lower port is the server's */
	C(10, ACK, 50, 106, "request");
	S(15, ACK, 106, 57, "answer");
	assert_int_equal(s->answers, 1);
	C(20, TCP_FIN | ACK, 57, 112, "");
	S(21, TCP_FIN | ACK, 112, 58, "");
	C(22, ACK, 58, 113, "");
	s->client_port++;
	S(30, TCP_SYN | ACK, 0, 0, "");
	C(31, ACK, 0, 0, "");
	assert_int_equal(s->accepts, 1);
	assert_int_equal(s->accept_ns, 0);
	s->client_port++;
	C(40, TCP_SYN, 0, 0, ""); /* one direction alone */
	C(41, ACK, 0, 0, "");
	C(42, ACK, 0, 0, "x");

	struct flow_counts c = finish(s);

	assert_int_equal(s->closes, 1);
	assert_false(s->close.whole);
	assert_int_equal(s->close.ends[FLOW_SERVER].sent_bytes, 12);
	assert_int_equal(s->close.ends[FLOW_CLIENT].sent_bytes, 7);
	assert_int_equal(c.open, 2);
	assert_int_equal(c.begun, 1);
}

static void test_bound(void **state)
{
	struct scene scene, *s = &scene;
	struct flow_counts c;

	begin(s, 4);
	for (unsigned i = 0; i < 100; i++) {
		s->client_port = (uint16_t)(20000 + i);
		open_at(s, i);
		if (i == 50)
			C(i + 20, TCP_RST, 0, 0, "");
	}
	flows_count(s->flows, &c);
	assert_int_equal(c.evicted, 95); /* and one was over */
	assert_int_equal(c.reset, 1);
	C(10000000, ACK, 0, 0, ""); /* much later: all are idle, and this one is new */
	c = finish(s);
	assert_int_equal(c.idle, 4);
	assert_int_equal(c.open, 1);
}

static void test_histogram(void **state)
{
	static struct histogram h;
	uint8_t room[65536];
	struct value v;

	for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
		assert_int_equal(histogram_bucket(histogram_least(i)), i);
		assert_int_equal(histogram_bucket(histogram_least(i + 1) - 1), i);
	}
	assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(histogram_percentile(&h, 500), 0);
	for (uint64_t ns = 1; ns <= 100000; ns++)
		histogram_add(&h, ns * 1000);
	for (unsigned permille = 1; permille <= 1000; permille++) {
		uint64_t is = histogram_percentile(&h, permille), truth = permille * 100000ull;

		assert_in_range(is, truth - truth / 60, truth + truth / 60);
	}

	struct pack p = pack_over(room, sizeof room);

	histogram_pack(&h, &p);
	assert_false(p.full);
	assert_true(value_skip(room, p.at) == p.at);
	assert_int_equal(value_read(room, p.at, &v), 0);
	assert_int_equal(v.kind, VALUE_MAP);
	histogram_clear(&h);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		assert_int_equal(h.buckets[i], 0);
}

static void count_service(void *context, const struct service *service)
{
	uint64_t *sums = context;

	sums[0]++;
	sums[1] += service->times.count;
	sums[2] += service->errors;
	if (!service->port)
		sums[3] = service->times.count;
}

static void test_services(void **state)
{
	struct services *s = NULL;
	union packet_ip ip = { { 0 } };

	assert_int_equal(services_new(&s, 10), 0);
	for (int window = 0; window < 2; window++) {
		uint64_t sums[4] = { 0 };

		for (unsigned i = 0; i < 1200; i++)
			services_add(s, &ip, (uint16_t)(1 + i % 12), i);
		services_add_error(s, &ip, 1);
		services_flush(s, count_service, sums);
		assert_int_equal(sums[0], 11);
		assert_int_equal(sums[1], 1200);
		assert_int_equal(sums[2], 1);
		assert_int_equal(sums[3], 200);
	}
	assert_int_equal(services_beyond(s), 400);
	services_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_life), cmocka_unit_test(test_not_made),  cmocka_unit_test(test_resets),
		cmocka_unit_test(test_sent_again), cmocka_unit_test(test_cut_short), cmocka_unit_test(test_zero_window),
		cmocka_unit_test(test_middle),     cmocka_unit_test(test_bound),     cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_services),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
