/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages, hostile ones too, and which query an answer belongs to. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "dns/dns.h"

/* A message with one question, and `tail` behind it. Returns its size. */
static size_t make(uint8_t *to, uint16_t id, uint16_t flags, const char *labels, uint16_t type)
{
	uint8_t head[12] = { (uint8_t)(id >> 8), (uint8_t)id, (uint8_t)(flags >> 8), (uint8_t)flags, 0, 1 };
	size_t n = strlen(labels) + 1;

	memcpy(to, head, 12);
	memcpy(to + 12, labels, n);
	memcpy(to + 12 + n, (uint8_t[]){ (uint8_t)(type >> 8), (uint8_t)type, 0, 1 }, 4);
	return 12 + n + 4;
}

#define EXAMPLE "\7Example\3org"

static void test_message(void **state)
{
	uint8_t bytes[300];
	char text[DNS_NAME_TEXT_MAX], room[DNS_CODE_TEXT_MAX];
	struct dns_message m;
	size_t n = make(bytes, 0x1234, 0x8183, EXAMPLE, 28);

	assert_int_equal(dns_parse(bytes, n, &m), 0);
	assert_int_equal(m.id, 0x1234);
	assert_int_equal(m.rcode, 3);
	assert_int_equal(m.qtype, 28);
	assert_int_equal(dns_name_text(&m.name, text), strlen("example.org"));
	assert_string_equal(text, "example.org");
	assert_string_equal(dns_type_text(m.qtype, room), "AAAA");
	assert_string_equal(dns_type_text(4711, room), "TYPE4711");
	assert_string_equal(dns_rcode_text(m.rcode, room), "NXDOMAIN");
	assert_string_equal(dns_rcode_text(3841, room), "RCODE3841");
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(dns_parse(bytes, cut, &m), -EBADMSG);
	/* EDNS: BADVERS is 16, of which the header has 0 and the OPT record 1 */
	n = make(bytes, 1, 0x8180, EXAMPLE, 1);
	bytes[11] = 1;
	memcpy(bytes + n, (uint8_t[]){ 0, 0, 41, 4, 0, 1, 0, 0, 0, 0, 0 }, 11);
	assert_int_equal(dns_parse(bytes, n + 11, &m), 0);
	assert_string_equal(dns_rcode_text(m.rcode, room), "BADVERS");
}

static void test_names(void **state)
{
	static const struct {
		const char *labels, *text;
	} cases[] = {
		{ "", "." },
		{ "\1a", "a" },
		{ "\3a.b\2c\\", "a\\.b.c\\\\" },
		{ "\3a b\2\x1b\n\2\xc3\xa9", "a\\032b.\\027\\010.\\195\\169" },
	};
	uint8_t bytes[400];
	char text[DNS_NAME_TEXT_MAX], long_labels[300];
	struct dns_message m;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(dns_parse(bytes, make(bytes, 1, 0, cases[i].labels, 1), &m), 0);
		dns_name_text(&m.name, text);
		assert_string_equal(text, cases[i].text);
	}
	memset(long_labels, 1, sizeof long_labels); /* labels of one byte each: 127 of them and the root are 255 */
	long_labels[254] = '\0';
	assert_int_equal(dns_parse(bytes, make(bytes, 1, 0, long_labels, 1), &m), 0);
	assert_int_equal(dns_name_text(&m.name, text), 127 * 4 + 126);
	long_labels[254] = 1;
	long_labels[256] = '\0';
	assert_int_equal(dns_parse(bytes, make(bytes, 1, 0, long_labels, 1), &m), -EBADMSG);
	assert_int_equal(dns_parse(bytes, make(bytes, 1, 0, "\x40", 1), &m), -EBADMSG);
}

static void test_pointers(void **state)
{
	uint8_t bytes[64] = { [5] = 1 };
	struct dns_message m;

	memcpy(bytes + 12, "\xc0\x0c\0\1\0\1", 6); /* to itself */
	assert_int_equal(dns_parse(bytes, 18, &m), -EBADMSG);
	memcpy(bytes + 12, "\1a\xc0\x0c\0\1\0\1", 8); /* to its own begin */
	assert_int_equal(dns_parse(bytes, 20, &m), -EBADMSG);
	memcpy(bytes + 12, "\xc0\x20\0\1\0\1", 6); /* forward */
	assert_int_equal(dns_parse(bytes, 64, &m), -EBADMSG);
	memcpy(bytes + 12, "\xc0\x04\0\1\0\1", 6); /* back: into the counts, which are a name of their own */
	assert_int_equal(dns_parse(bytes, 18, &m), 0);
	assert_int_equal(m.qtype, 1);
}

/* ---- queries ---- */

struct seen {
	unsigned n;
	struct dns_query last;
	char name[DNS_NAME_TEXT_MAX];
};

static void on_query(void *context, const struct dns_query *q)
{
	struct seen *seen = context;

	seen->n++;
	seen->last = *q;
	dns_name_text(q->name, seen->name);
}

static struct dns *tracker(struct seen *seen, uint32_t queries)
{
	const struct dns_options options = { .queries = queries,
					     .stream_bytes = 4096,
					     .timeout_ns = 5 * NS_PER_SEC,
					     .query = on_query,
					     .context = seen };
	struct dns *d = NULL;

	*seen = (struct seen){ 0 };
	assert_int_equal(dns_new(&d, &options), 0);
	return d;
}

static const struct dns_ends there = { { 1 }, { 2 }, 40000, 53 }, back = { { 2 }, { 1 }, 53, 40000 };

static void test_match(void **state)
{
	struct seen seen;
	struct dns_counts counts;
	struct dns *d = tracker(&seen, 100);
	uint8_t bytes[300];
	size_t n;

	dns_datagram(d, 1000, &there, bytes, make(bytes, 7, 0x100, EXAMPLE, 1));
	dns_datagram(d, 1100, &there, bytes, make(bytes, 7, 0x100, EXAMPLE, 28));  /* the same id, another question */
	dns_datagram(d, 1200, &there, bytes, make(bytes, 7, 0x100, EXAMPLE, 28));  /* asked again */
	dns_datagram(d, 1300, &back, bytes, make(bytes, 8, 0x8180, EXAMPLE, 28));  /* of nobody */
	dns_datagram(d, 1350, &there, bytes, make(bytes, 7, 0x8180, EXAMPLE, 28)); /* the wrong way */
	assert_int_equal(seen.n, 0);
	n = make(bytes, 7, 0x8183, "\7eXAMPLE\3ORG", 28);
	dns_datagram(d, 1400, &back, bytes, n);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.last.latency_ns, 300);
	assert_int_equal(seen.last.qtype, 28);
	assert_int_equal(seen.last.rcode, 3);
	assert_int_equal(seen.last.repeats, 1);
	assert_int_equal(seen.last.ends.target_port, 53);
	assert_string_equal(seen.name, "example.org");
	dns_datagram(d, 1500, &back, bytes, n);
	assert_int_equal(seen.n, 1); /* a second answer is of nobody */
	/* An answer without the question: the header alone. */
	memcpy(bytes, (uint8_t[]){ 0, 7, 0x81, 0x85, 0, 0, 0, 0, 0, 0, 0, 0 }, 12);
	dns_datagram(d, 2000, &back, bytes, 12);
	assert_int_equal(seen.n, 2);
	assert_int_equal(seen.last.rcode, 5);
	assert_int_equal(seen.last.latency_ns, 1000);
	dns_count(d, &counts);
	assert_int_equal(counts.open, 0);
	assert_int_equal(counts.answered, 2);
	assert_int_equal(counts.unasked, 3);
	dns_free(d);
}

static void test_timeout_and_bound(void **state)
{
	struct seen seen;
	struct dns_counts counts;
	struct dns *d = tracker(&seen, 8);
	uint8_t bytes[300];

	for (uint16_t i = 0; i < 20; i++)
		dns_datagram(d, 1000 + i, &there, bytes, make(bytes, i, 0x100, EXAMPLE, 1));
	dns_count(d, &counts);
	assert_int_equal(counts.open, 8);
	assert_int_equal(counts.given_up, 12);
	dns_datagram(d, 2000, &back, bytes, make(bytes, 15, 0x8180, EXAMPLE, 1));
	assert_int_equal(seen.n, 1);
	dns_tick(d, 5 * NS_PER_SEC + 1011);
	assert_int_equal(seen.n, 1);
	dns_tick(d, 5 * NS_PER_SEC + 1012);
	assert_int_equal(seen.n, 2);
	assert_false(seen.last.answered);
	assert_int_equal(seen.last.latency_ns, 5 * NS_PER_SEC);
	dns_tick(d, 6 * NS_PER_SEC);
	assert_int_equal(seen.n, 8);
	dns_count(d, &counts);
	assert_int_equal(counts.open, 0);
	assert_int_equal(counts.timed_out, 7);
	dns_free(d);
}

/* Two messages behind each other, in pieces of every size. */
static void test_stream(void **state)
{
	uint8_t ask[600], answer[600];
	size_t n_ask = 0, n_answer = 0;

	for (uint16_t i = 0; i < 2; i++) {
		size_t n = make(ask + n_ask + 2, i, 0x100, EXAMPLE, 1);

		ask[n_ask] = 0;
		ask[n_ask + 1] = (uint8_t)n;
		n_ask += n + 2;
		n = make(answer + n_answer + 2, i, 0x8180, EXAMPLE, 1);
		answer[n_answer] = 0;
		answer[n_answer + 1] = (uint8_t)n;
		n_answer += n + 2;
	}
	for (size_t piece = 1; piece <= n_ask; piece++) {
		struct seen seen;
		struct dns_counts counts;
		struct dns *d = tracker(&seen, 8);

		for (size_t at = 0; at < n_ask; at += piece)
			dns_stream(d, 10, &there, ask + at, MIN_OF(piece, n_ask - at));
		for (size_t at = 0; at < n_answer; at += piece)
			dns_stream(d, 20 + at, &back, answer + at, MIN_OF(piece, n_answer - at));
		assert_int_equal(seen.n, 2);
		assert_true(seen.last.tcp);
		dns_count(d, &counts);
		assert_int_equal(counts.messages, 4);
		assert_int_equal(counts.broken, 0);
		dns_stream(d, 30, &there, ask, 5);
		dns_stream(d, 30, &there, NULL, 0);
		dns_stream(d, 30, &there, ask, n_ask);
		dns_count(d, &counts);
		assert_int_equal(counts.broken, 1);
		assert_int_equal(counts.messages, 4);
		dns_stream_end(d, &back);
		dns_stream(d, 30, &there, ask, n_ask);
		dns_count(d, &counts);
		assert_int_equal(counts.messages, 6);
		/* More than may be held. */
		dns_stream(d, 40, &back, (uint8_t[]){ 0xff, 0xff, 1 }, 3);
		dns_count(d, &counts);
		assert_int_equal(counts.broken, 2);
		dns_free(d);
	}
}

/* Of a message that goes by in part, what was seen is enough; its begin must have been. */
static void test_unseen(void **state)
{
	struct seen seen;
	struct dns_counts counts;
	struct dns *d = tracker(&seen, 8);
	uint8_t ask[300] = { 0 }, answer[300] = { 0x10, 0 }, next[300] = { 0 };
	size_t n = make(ask + 2, 7, 0x100, EXAMPLE, 1), known = make(answer + 2, 7, 0x8180, EXAMPLE, 1),
	       more = make(next + 2, 8, 0x8183, EXAMPLE, 1);

	ask[1] = (uint8_t)n;
	next[1] = (uint8_t)more;
	dns_stream(d, 10, &there, ask, n + 2);
	dns_stream(d, 20, &back, answer, known + 2);
	dns_stream(d, 30, &back, NULL, 4000 - known);
	assert_int_equal(seen.n, 0);
	dns_stream(d, 40, &back, next, 96); /* its end: of no use, but counted */
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.last.latency_ns, 30);
	ask[3] = 8;
	dns_stream(d, 50, &there, ask, n + 2);
	dns_stream(d, 60, &back, next, more + 2);
	assert_int_equal(seen.n, 2);
	assert_int_equal(seen.last.rcode, 3);
	dns_count(d, &counts);
	assert_int_equal(counts.broken + counts.malformed, 0);
	dns_stream(d, 70, &back, NULL, 10); /* where a message begins nobody can tell how long it is */
	dns_stream(d, 80, &there, ask, 4);
	dns_stream(d, 90, &there, NULL, n - 2); /* too little of it was seen */
	dns_count(d, &counts);
	assert_int_equal(counts.broken, 2);
	assert_int_equal(counts.malformed, 1);
	dns_free(d);
}

/* Nothing of a message counts behind what was not seen of it, though all that came is long enough for one. */
static void test_unseen_within(void **state)
{
	struct seen seen;
	struct dns_counts counts;
	struct dns *d = tracker(&seen, 8);
	uint8_t ask[300] = { 0 };
	size_t n = make(ask + 2, 7, 0x100, EXAMPLE, 1) + 20;

	ask[1] = (uint8_t)n;
	dns_stream(d, 10, &there, ask, 5);
	dns_stream(d, 20, &there, NULL, 1); /* the flags' second byte, which hardly matters */
	dns_stream(d, 30, &there, ask + 6, n - 4);
	dns_count(d, &counts);
	assert_int_equal(counts.malformed, 1);
	assert_int_equal(counts.open, 0);
	dns_free(d);
}

static void on_owned(void *context, const struct dns_query *q)
{
	((uint32_t *)context)[q->answered] = *(const uint32_t *)q->owner;
}

static void test_owner(void **state)
{
	uint32_t seen[2] = { 0 }, owner = 1;
	const struct dns_options options = { .queries = 4,
					     .stream_bytes = 4096,
					     .timeout_ns = 5 * NS_PER_SEC,
					     .query = on_owned,
					     .context = seen,
					     .owner_bytes = sizeof owner };
	uint8_t bytes[300];
	struct dns *d;

	assert_int_equal(dns_new(&d, &options), 0);
	dns_set_owner(d, &owner);
	dns_datagram(d, 1000, &there, bytes, make(bytes, 1, 0x100, EXAMPLE, 1));
	owner = 2;
	dns_datagram(d, 1100, &there, bytes, make(bytes, 2, 0x100, EXAMPLE, 1));
	owner = 3; /* whose answer it is does not matter */
	dns_datagram(d, 1200, &back, bytes, make(bytes, 1, 0x8180, EXAMPLE, 1));
	assert_int_equal(seen[true], 1);
	dns_set_timeout(d, 100);
	dns_tick(d, 1200);
	assert_int_equal(seen[false], 2);
	dns_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_pointers),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_timeout_and_bound),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_unseen),
		cmocka_unit_test(test_unseen_within),
		cmocka_unit_test(test_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
