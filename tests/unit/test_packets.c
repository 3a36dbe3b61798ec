/* SPDX-License-Identifier: Apache-2.0 */
/* Capture files of every kind, made here byte by byte: what is read of them, and how damage is told. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "packets/capture.h"
#include "packets/link.h"
#include "packets/packet.h"
#include "packets/pcapng_writer.h"

/* A file in the making, in either byte order. */
struct bytes {
	uint8_t at[4096];
	size_t size;
	bool swapped;
};

static void put16(struct bytes *b, uint16_t v)
{
	v = b->swapped ? __builtin_bswap16(v) : v;
	memcpy(b->at + b->size, &v, 2);
	b->size += 2;
}

static void put32(struct bytes *b, uint32_t v)
{
	v = b->swapped ? __builtin_bswap32(v) : v;
	memcpy(b->at + b->size, &v, 4);
	b->size += 4;
}

static void put(struct bytes *b, const void *bytes, size_t size)
{
	memcpy(b->at + b->size, bytes, size);
	b->size += size;
}

static void put_pcap(struct bytes *b, uint32_t magic, uint32_t link)
{
	put32(b, magic);
	put16(b, 2);
	put16(b, 4);
	put32(b, 0);
	put32(b, 0);
	put32(b, 65535);
	put32(b, link);
}

static void put_record(struct bytes *b, uint32_t seconds, uint32_t fraction, const char *text)
{
	put32(b, seconds);
	put32(b, fraction);
	put32(b, (uint32_t)strlen(text));
	put32(b, (uint32_t)strlen(text) + 10);
	put(b, text, strlen(text));
}

static struct capture *open_bytes(const struct bytes *b)
{
	struct capture *c = NULL;
	struct fault fault = { 0 };
	int r = capture_open_bytes(&c, b->at, b->size, &fault);

	if (r < 0)
		fail_msg("%s", fault.text);
	return c;
}

static void expect_frame(struct capture *c, uint64_t time, const char *text)
{
	struct frame f;
	struct fault fault = { 0 };
	int r = capture_next(c, &f, &fault);

	if (r < 0)
		fail_msg("%s", fault.text);
	assert_int_equal(r, 1);
	assert_int_equal(f.time, time);
	assert_int_equal(f.captured, strlen(text));
	assert_memory_equal(f.bytes, text, f.captured);
}

static void expect_end(struct capture *c)
{
	struct frame f;

	assert_int_equal(capture_next(c, &f, NULL), 0);
	assert_int_equal(capture_next(c, &f, NULL), 0);
	capture_close(c);
}

static void test_pcap(void **state)
{
	static const uint32_t magics[] = { 0xa1b2c3d4, 0xa1b23c4d };

	for (int n = 0; n < 4; n++) {
		struct bytes b = { .swapped = n & 1 };
		struct capture *c;

		put_pcap(&b, magics[n / 2], LINK_ETHERNET);
		put_record(&b, 1700000000, 5, "first");
		put_record(&b, 1700000001, 6, "");
		c = open_bytes(&b);
		assert_string_equal(capture_format(c), "pcap");
		expect_frame(c, 1700000000ull * NS_PER_SEC + (n / 2 ? 5 : 5000), "first");
		expect_frame(c, 1700000001ull * NS_PER_SEC + (n / 2 ? 6 : 6000), "");
		expect_end(c);
	}
}

static void test_gzip(void **state)
{
	struct bytes b = { 0 }, packed = { 0 };
	struct fault fault = { 0 };
	struct capture *c;
	struct frame f;
	z_stream z = { 0 };

	put_pcap(&b, 0xa1b2c3d4, LINK_RAW);
	put_record(&b, 1, 0, "one");
	put_record(&b, 2, 0, "two");
	deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY);
	for (size_t part = 0; part < 2; part++) { /* two members */
		z.next_in = b.at + (part ? 30 : 0);
		z.avail_in = (unsigned)(part ? b.size - 30 : 30);
		z.next_out = packed.at + packed.size;
		z.avail_out = (unsigned)(sizeof packed.at - packed.size);
		assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
		packed.size = (size_t)(z.next_out - packed.at);
		deflateReset(&z);
	}
	deflateEnd(&z);
	c = open_bytes(&packed);
	expect_frame(c, NS_PER_SEC, "one");
	expect_frame(c, 2 * NS_PER_SEC, "two");
	expect_end(c);
	packed.size -= 12;
	c = open_bytes(&packed);
	expect_frame(c, NS_PER_SEC, "one");
	assert_int_equal(capture_next(c, &f, &fault), -EBADMSG);
	assert_non_null(strstr(fault.text, "gzip data are damaged"));
	capture_close(c);
}

/* More than the window, with frames across its end, as a file, packed, and through a pipe. */
static void test_large(void **state)
{
	char path[] = "/tmp/sonde-packets-XXXXXX", command[256], text[1001];
	struct fault fault = { 0 };
	struct bytes b = { 0 };
	FILE *file = fdopen(mkstemp(path), "w");
	struct input in;

	put_pcap(&b, 0xa1b2c3d4, LINK_RAW);
	fwrite(b.at, 1, b.size, file);
	memset(text, 'x', 1000);
	text[1000] = '\0';
	for (uint32_t i = 0; i < 5000; i++) {
		b.size = 0;
		put_record(&b, i, 0, text + i % 997);
		fwrite(b.at, 1, b.size, file);
	}
	fclose(file);
	for (int packed = 0; packed < 2; packed++) {
		struct capture *c = NULL;

		if (capture_open(&c, path, &fault) < 0)
			fail_msg("%s", fault.text);
		for (uint32_t i = 0; i < 5000; i++)
			expect_frame(c, i * NS_PER_SEC, text + i % 997);
		expect_end(c);
		snprintf(command, sizeof command, "gzip -c %s >%s.gz && mv %s.gz %s", path, path, path, path);
		assert_int_equal(packed || system(command), packed);
	}
	unlink(path);
	assert_int_equal(input_open(&in, path, &fault), -ENOENT);
	assert_int_equal(input_open(&in, "/tmp", &fault), -EISDIR);
}

/* A block around what `body` holds. */
static void put_block(struct bytes *b, uint32_t type, const struct bytes *body)
{
	uint32_t total = 12 + ALIGN_UP((uint32_t)body->size, 4u);

	put32(b, type);
	put32(b, total);
	put(b, body->at, body->size);
	put(b, "\0\0\0", ALIGN_UP(body->size, (size_t)4) - body->size);
	put32(b, total);
}

static void put_section(struct bytes *b)
{
	struct bytes body = { .swapped = b->swapped };

	put32(&body, 0x1a2b3c4d);
	put16(&body, 1);
	put16(&body, 0);
	put32(&body, UINT32_MAX);
	put32(&body, UINT32_MAX);
	put_block(b, 0x0a0d0d0a, &body);
}

static void put_interface(struct bytes *b, uint16_t link, uint32_t snap, int resolution, int64_t offset)
{
	struct bytes body = { .swapped = b->swapped };

	put16(&body, link);
	put16(&body, 0);
	put32(&body, snap);
	put16(&body, 2);
	put16(&body, 3);
	put(&body, "eth\0", 4);
	if (resolution >= 0) {
		put16(&body, 9);
		put16(&body, 1);
		put(&body, (uint8_t[]){ (uint8_t)resolution, 0, 0, 0 }, 4);
	}
	if (offset) {
		put16(&body, 14);
		put16(&body, 8);
		put32(&body, (uint32_t)(b->swapped ? (uint64_t)offset >> 32 : (uint64_t)offset));
		put32(&body, (uint32_t)(b->swapped ? (uint64_t)offset : (uint64_t)offset >> 32));
	}
	put32(&body, 0);
	put_block(b, 1, &body);
}

static void put_packet(struct bytes *b, uint32_t type, uint32_t interface, uint64_t ticks, const char *text)
{
	struct bytes body = { .swapped = b->swapped };

	if (type == 6)
		put32(&body, interface);
	if (type == 2) {
		put16(&body, (uint16_t)interface);
		put16(&body, 0);
	}
	if (type != 3) {
		put32(&body, (uint32_t)(ticks >> 32));
		put32(&body, (uint32_t)ticks);
		put32(&body, (uint32_t)strlen(text));
	}
	put32(&body, (uint32_t)strlen(text));
	put(&body, text, strlen(text));
	put_block(b, type, &body);
}

static void test_pcapng(void **state)
{
	for (int swapped = 0; swapped < 2; swapped++) {
		struct bytes b = { .swapped = swapped }, other = { .swapped = swapped };
		struct capture *c;

		put_section(&b);
		put_interface(&b, LINK_ETHERNET, 0, -1, 0);   /* us */
		put_interface(&b, LINK_RAW, 0, 9, 0);         /* ns */
		put_interface(&b, LINK_RAW, 0, 0x80 | 10, 0); /* 1/1024 s */
		put_interface(&b, LINK_RAW, 0, 3, -10);       /* ms, of a clock 10 s ahead */
		put_packet(&b, 6, 0, 1700000000000001, "microseconds");
		put(&other, "unknown", 7);
		put_block(&b, 0x80000bad, &other);
		put_packet(&b, 6, 1, 1700000000000000007, "nanoseconds");
		put_packet(&b, 6, 2, 1024 * 5 + 512, "halves");
		put_packet(&b, 6, 3, 15250, "milliseconds");
		put_packet(&b, 2, 1, 8, "old");
		put_packet(&b, 3, 0, 0, "simple");
		b.swapped = !b.swapped; /* a second section, of another machine */
		put_section(&b);
		put_interface(&b, LINK_LINUX_SLL, 0, -1, 0);
		put_packet(&b, 6, 0, 3, "second");
		c = open_bytes(&b);
		assert_string_equal(capture_format(c), "pcapng");
		expect_frame(c, 1700000000000001000, "microseconds");
		expect_frame(c, 1700000000000000007, "nanoseconds");
		expect_frame(c, 5500 * NS_PER_MS, "halves");
		expect_frame(c, 5250 * NS_PER_MS, "milliseconds");
		expect_frame(c, 8, "old");
		expect_frame(c, 8, "simple");
		expect_frame(c, 3000, "second");
		expect_end(c);
	}
}

static void expect_fault(const struct bytes *b, int error, const char *text)
{
	struct capture *c = NULL;
	struct fault fault = { 0 };
	struct frame f;
	int r = capture_open_bytes(&c, b->at, b->size, &fault);

	if (r == 0)
		while ((r = capture_next(c, &f, &fault)) > 0)
			continue;
	assert_int_equal(r, error);
	if (!strstr(fault.text, text))
		fail_msg("'%s' is not in '%s'", text, fault.text);
	capture_close(c);
}

static void test_damage(void **state)
{
	struct bytes b = { 0 };

	expect_fault(&b, -EINVAL, "neither pcap nor pcapng");
	put(&b, "what is this?", 13);
	expect_fault(&b, -EINVAL, "neither pcap nor pcapng");
	b.size = 0;
	put_pcap(&b, 0xa1b2c3d4, LINK_RAW);
	put_record(&b, 1, 1, "whole");
	put_record(&b, 1, 1, "cut");
	b.size--;
	expect_fault(&b, -ENODATA, "at byte 45: the file ends within a packet");
	b.size -= 4;
	expect_fault(&b, -ENODATA, "at byte 45: the file ends within the header of a packet");
	b.size = 45;
	put32(&b, 1);
	put32(&b, 1);
	put32(&b, 0x7fffffff);
	put32(&b, 0x7fffffff);
	expect_fault(&b, -EBADMSG, "at byte 45: damaged: a packet of 2147483647 bytes");
	b.size = 0;
	put_section(&b);
	put_packet(&b, 6, 0, 1, "early");
	expect_fault(&b, -EBADMSG, "at byte 28: damaged: a packet of interface 0, of which there are 0");
	b.size = 28;
	put_interface(&b, LINK_RAW, 0, -1, 0);
	b.at[b.size - 1] ^= 1;
	expect_fault(&b, -EBADMSG, "the two lengths of a block");
	b.size = 28;
	put32(&b, 1);
	put32(&b, 8);
	put32(&b, 8);
	expect_fault(&b, -EBADMSG, "damaged: a block of 8 bytes");
}

static void test_writer(void **state)
{
	struct pcapng_writer w;
	struct capture *c = NULL;
	struct frame f;
	struct fault fault;
	char *bytes = NULL;
	size_t size;
	uint32_t first, second;
	FILE *file = open_memstream(&bytes, &size);

	assert_int_equal(pcapng_begin_file(&w, file, "sonde"), 0);
	assert_int_equal(pcapng_add_interface(&w, LINK_ETHERNET, 0, "eth0", &first), 0);
	assert_int_equal(pcapng_add_interface(&w, LINK_RAW, 96, NULL, &second), 0);
	assert_int_equal(pcapng_write_packet(&w, first, 1700000000000000001, "abcde", 5, 5, "curl[12]"), 0);
	assert_int_equal(pcapng_write_packet(&w, second, 1700000000000000002, "fgh", 3, 300, NULL), 0);
	assert_int_equal(pcapng_write_packet(&w, 2, 1, "", 0, 0, NULL), -EINVAL);
	fclose(file);
	assert_int_equal(capture_open_bytes(&c, bytes, size, &fault), 0);
	expect_frame(c, 1700000000000000001, "abcde");
	assert_int_equal(capture_next(c, &f, NULL), 1);
	assert_int_equal(f.time, 1700000000000000002);
	assert_int_equal(f.length, 300);
	assert_int_equal(f.captured, 3);
	assert_int_equal(f.link, LINK_RAW);
	assert_int_equal(f.snap, 96);
	expect_end(c);
	free(bytes);
}

/* ---- frames ---- */

static const uint8_t
	ipv4_tcp[] = {
		0x46, 0,    0,   24 + 32 + 3, 0, 1, 0x40, 0, 64, 6, 0, 0, 10,   0,       0,    1, 10,
		0,    0,    2,   1,           1, 1, 0, /* with options */
		0x30, 0x39, 0,   80,          1, 2, 3,    4, 5,  6, 7, 8, 0x80, TCP_SYN, 0x10, 0, 0,
		0,    0,    0,   2,           4, 5, 0xb4, 3, 3,  7, 4, 2, 1,    1,       0, /* MSS, scale, SACK */
		'a',  'b',  'c', 0,           0, 0,                                         /* padding of the link */
	};

static enum packet_kind decode(uint32_t link, const uint8_t *head, size_t head_size, const uint8_t *ip, size_t ip_size,
			       struct packet *ret)
{
	static uint8_t bytes[512];
	struct frame f = { .link = link, .bytes = bytes };

	memcpy(bytes, head, head_size);
	memcpy(bytes + head_size, ip, ip_size);
	f.captured = f.length = (uint32_t)(head_size + ip_size);
	memset(ret, 0, sizeof *ret);
	return packet_decode(&f, ret);
}

static void expect_tcp(const struct packet *p)
{
	static const uint8_t source[16] = { [10] = 0xff, 0xff, 10, 0, 0, 1 };

	assert_memory_equal(p->source.bytes, source, 16);
	assert_int_equal(p->target.bytes[15], 2);
	assert_int_equal(p->source_port, 12345);
	assert_int_equal(p->target_port, 80);
	assert_int_equal(p->tcp.seq, 0x01020304);
	assert_int_equal(p->tcp.ack, 0x05060708);
	assert_int_equal(p->tcp.flags, TCP_SYN);
	assert_int_equal(p->tcp.window, 0x1000);
	assert_int_equal(p->tcp.mss, 1460);
	assert_int_equal(p->tcp.scale, 7);
	assert_true(p->tcp.sack_permitted);
	assert_false(p->tcp.timestamps);
	assert_int_equal(p->length, 3);
	assert_memory_equal(p->payload, "abc", 3);
}

static void test_links(void **state)
{
	static const struct {
		uint32_t link;
		uint8_t size, head[24];
	} links[] = {
		{ LINK_RAW, 0, { 0 } },
		{ LINK_ETHERNET, 14, { [12] = 8, 0 } },
		{ LINK_ETHERNET, 18, { [12] = 0x81, 0, 0, 5, 8, 0 } },
		{ LINK_ETHERNET, 22, { [12] = 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0 } },
		{ LINK_LINUX_SLL, 16, { [14] = 8, 0 } },
		{ LINK_LINUX_SLL2, 20, { 8, 0 } },
		{ LINK_NULL, 4, { 2 } },
		{ LINK_LOOP, 4, { 0, 0, 0, 2 } },
	};
	struct packet p;

	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		assert_int_equal(decode(links[i].link, links[i].head, links[i].size, ipv4_tcp, sizeof ipv4_tcp, &p),
				 PACKET_TCP);
		expect_tcp(&p);
	}
	assert_int_equal(decode(999, links[0].head, 0, ipv4_tcp, sizeof ipv4_tcp, &p), PACKET_LINK);
	assert_int_equal(decode(LINK_ETHERNET, (uint8_t[14]){ [12] = 8, 6 }, 14, ipv4_tcp, sizeof ipv4_tcp, &p),
			 PACKET_NOT_IP);
}

/* Every length that a snapshot may have: never more than was captured, and the length on the wire as soon as it is known. */
static void test_cut(void **state)
{
	struct packet p;

	for (uint32_t n = 0; n <= sizeof ipv4_tcp; n++) {
		uint8_t *bytes = malloc(n + 1);
		struct frame f = { .link = LINK_RAW, .bytes = bytes, .captured = n, .length = sizeof ipv4_tcp };
		enum packet_kind kind;

		memcpy(bytes, ipv4_tcp, n);
		kind = packet_decode(&f, &p);
		assert_int_equal(kind, n < 44 ? PACKET_CUT : PACKET_TCP);
		if (kind == PACKET_TCP) {
			assert_int_equal(p.length, 3);
			assert_int_equal(p.captured, n <= 56 ? 0 : MIN_OF(n - 56, 3u));
		}
		free(bytes);
	}
}

static void test_ip(void **state)
{
	uint8_t bytes[128] = { 0 };
	struct packet p;

	memcpy(bytes, ipv4_tcp, sizeof ipv4_tcp);
	bytes[6] = 0x20;
	assert_int_equal(decode(LINK_RAW, bytes, 0, bytes, sizeof ipv4_tcp, &p), PACKET_FRAGMENT);
	bytes[6] = 0x40;
	bytes[9] = 1;
	assert_int_equal(decode(LINK_RAW, bytes, 0, bytes, sizeof ipv4_tcp, &p), PACKET_OTHER);
	bytes[9] = 6;
	uint8_t icmp[28 + sizeof ipv4_tcp] = { 0x45, 0, 0, sizeof icmp, 0, 0,  0, 0, 64, 1, 0,
					       0,    9, 9, 9,           9, 10, 0, 0, 1,  3, 1 };

	memcpy(icmp + 28, ipv4_tcp, sizeof ipv4_tcp);
	assert_int_equal(decode(LINK_RAW, icmp, 0, icmp, sizeof icmp, &p), PACKET_UNREACHABLE);
	assert_int_equal(p.error, EHOSTUNREACH);
	assert_int_equal(p.source_port, 12345);
	assert_int_equal(p.tcp.seq, 0x01020304);
	assert_int_equal(p.target.bytes[15], 2);
	icmp[21] = 4; /* too large for a link: not its end */
	assert_int_equal(decode(LINK_RAW, icmp, 0, icmp, sizeof icmp, &p), PACKET_OTHER);
	bytes[0] = 0x43;
	assert_int_equal(decode(LINK_RAW, bytes, 0, bytes, sizeof ipv4_tcp, &p), PACKET_MALFORMED);

	static const uint8_t ipv6_udp[] = {
		0x60, 0,  0,    0, 0, 8 + 8 + 10, 0, 64, 0x20, 1,   0xd, 0xb8, 0, 0, 0, 0,
		0,    0,  0,    0, 0, 0,          0, 1,  0x20, 1,   0xd, 0xb8, 0, 0, 0, 0,
		0,    0,  0,    0, 0, 0,          0, 2,  44,   0,   5,   2,    0, 0, 1, 0, /* hop by hop */
		17,   0,  0,    0, 0, 0,          0, 1, /* a fragment that is the whole */
		0,    53, 0x10, 0, 0, 10,         0, 0,  'h',  'i',
	};
	assert_int_equal(decode(LINK_RAW, ipv6_udp, 0, ipv6_udp, sizeof ipv6_udp, &p), PACKET_UDP);
	assert_int_equal(p.source_port, 53);
	assert_int_equal(p.length, 2);
	assert_memory_equal(p.payload, "hi", 2);
	assert_int_equal(p.source.bytes[0], 0x20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pcap),   cmocka_unit_test(test_gzip),   cmocka_unit_test(test_pcapng),
		cmocka_unit_test(test_damage), cmocka_unit_test(test_writer), cmocka_unit_test(test_links),
		cmocka_unit_test(test_cut),    cmocka_unit_test(test_ip),     cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
