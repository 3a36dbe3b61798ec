/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters in an object file with places for them (filter.bpf.c): placed, loaded by libbpf and asked about packets, sockets, and what passes a
 * tracepoint of this kernel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "filter_kernel.h"
#include "filter_made.h"

__asm__(".section .rodata\n.balign 16\nfilter_object: .incbin \"" FILTER_OBJECT
	"\"\nfilter_object_end: .byte 0\n.previous\n");
extern const uint8_t filter_object[], filter_object_end[];

struct placed {
	uint8_t *image;
	size_t size;
	struct bpf_object *object;
};

static void placed_open(struct placed *p)
{
	p->size = (size_t)(filter_object_end - filter_object);
	p->image = malloc(p->size);
	p->object = NULL;
	assert_non_null(p->image);
	memcpy(p->image, filter_object, p->size);
}

static void placed_close(struct placed *p)
{
	bpf_object__close(p->object);
	free(p->image);
}

static int placed_filter(struct placed *p, const char *name, enum filter_access access, const char *text,
			 struct fault *fault)
{
	static struct bpf_insn insns[SONDE_FILTER_ROOM];
	struct filter *filter = NULL;
	int n;

	assert_int_equal(filter_compile(&filter, text, FILTER_RAW, fault), 0);
	n = filter_translate(filter, access, insns, ARRAY_SIZE(insns), fault);
	filter_free(filter);
	assert_true(n > 0);
	return filter_place(p->image, p->size, name, insns, (size_t)n, fault);
}

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

/* Opens and loads it anew. */
static void placed_load(struct placed *p)
{
	bpf_object__close(p->object);
	libbpf_set_print(silent);
	p->object = bpf_object__open_mem(p->image, p->size, NULL);
	assert_non_null(p->object);
	assert_int_equal(bpf_object__load(p->object), 0);
}

static int placed_program(const struct placed *p, const char *name)
{
	return bpf_program__fd(bpf_object__find_program_by_name(p->object, name));
}

/* A TCP packet from 10.0.0.1:40000 to 10.0.0.2:5432, behind an Ethernet header. */
static const uint8_t tcp_packet[] = { 2,    0,    0,    0, 0,  1, 2, 0, 0,  0, 0,    2, 8,  0, 0x45, 0, 0,    40,
				      0,    0,    0x40, 0, 64, 6, 0, 0, 10, 0, 0,    1, 10, 0, 0,    2, 0x9c, 0x40,
				      0x15, 0x38, 0,    0, 0,  0, 0, 0, 0,  0, 0x50, 2, 0,  0, 0,    0, 0,    0 };

static uint32_t packet_says(const struct placed *p, const char *program)
{
	uint32_t says, ns;

	assert_int_equal(kernel_run_skb(placed_program(p, program), tcp_packet, sizeof tcp_packet, true, 1, &says, &ns),
			 0);
	return says;
}

static struct sonde_ip address_of(const char *text)
{
	struct sonde_ip ip = { { 0 } };

	if (inet_pton(AF_INET6, text, ip.bytes) != 1) {
		ip.bytes[10] = ip.bytes[11] = 0xff;
		assert_int_equal(inet_pton(AF_INET, text, ip.bytes + 12), 1);
	}
	return ip;
}

/* What filter.bpf.c keeps. */
struct kept {
	struct sonde_filter_tuple tuple;
	uint64_t packets, matched;
};

static struct kept placed_kept(const struct placed *p)
{
	int fd = bpf_map__fd(bpf_object__find_map_by_name(p->object, ".bss"));
	struct kept kept;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &kept), 0);
	return kept;
}

/* Asks the program on sockets about one. */
static uint32_t socket_says(const struct placed *p, const char *remote, uint16_t rport)
{
	struct kept kept = { .tuple = { .laddr = address_of("10.0.0.1"),
					.raddr = address_of(remote),
					.lport = 40000,
					.rport = rport,
					.protocol = IPPROTO_TCP } };
	int fd = bpf_map__fd(bpf_object__find_map_by_name(p->object, ".bss"));
	uint64_t none[1] = { 0 };
	uint32_t says, zero = 0;

	assert_int_equal(bpf_map_update_elem(fd, &zero, &kept, BPF_ANY), 0);
	assert_int_equal(kernel_run_tracepoint(placed_program(p, "socket__raw_tp"), none, 1, &says), 0);
	return says;
}

static void a_place_without_a_filter_lets_all_pass(void **state)
{
	struct placed p;

	if (geteuid() != 0)
		skip();
	placed_open(&p);
	placed_load(&p);
	assert_int_equal(packet_says(&p, "packet__tc"), 1);
	assert_int_equal(packet_says(&p, "packet__cgroup_skb"), 1);
	assert_int_equal(socket_says(&p, "10.0.0.2", 80), 1);
	placed_close(&p);
}

static void filters_are_placed_one_after_the_other(void **state)
{
	static const struct {
		const char *text;
		bool packet, socket;
	} filters[] = {
		{ "tcp port 5432 and net 10.0.0.0/8", true, false },
		{ "udp", false, false },
		{ "host 10.0.0.2 or host 10.0.0.3 or portrange 70-90", true, true },
		{ "port 80", false, true },
		{ "", true, true },
		{ "tcp src port 40000 and not (dst net 10.0.0.0/24 and port 5432) and not host 2001:db8::1", false,
		  true },
	};
	struct fault fault = { 0 };
	struct placed p;

	if (geteuid() != 0)
		skip();
	placed_open(&p);
	for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
		assert_int_equal(placed_filter(&p, "skb_filter", FILTER_SKB, filters[i].text, &fault), 0);
		assert_int_equal(placed_filter(&p, "socket_filter", FILTER_MEMORY, filters[i].text, &fault), 0);
		assert_int_equal(placed_filter(&p, "kernel_filter", FILTER_KERNEL, filters[i].text, &fault), 0);
		placed_load(&p);
		assert_int_equal(packet_says(&p, "packet__tc") != 0, filters[i].packet);
		assert_int_equal(packet_says(&p, "packet__cgroup_skb") != 0, filters[i].packet);
		assert_int_equal(socket_says(&p, "192.168.0.1", 80) != 0, filters[i].socket);
	}
	placed_close(&p);
}

/* The longest filter that there is room for, and one more. */
static void a_place_has_an_end(void **state)
{
	static struct bpf_insn insns[SONDE_FILTER_ROOM + 8];
	struct fault fault = { 0 };
	struct placed p;
	size_t n = 0;

	placed_open(&p);
	while (n < SONDE_FILTER_ROOM - 1)
		insns[n++] = kernel_insn(BPF_ALU | BPF_MOV | BPF_K, 0, 0, 0, 0);
	insns[n++] = kernel_insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	assert_int_equal(filter_place(p.image, p.size, "kernel_filter", insns, n, &fault), 0);
	assert_int_equal(filter_place(p.image, p.size, "skb_filter", insns, n, &fault), 0);
	assert_int_equal(filter_place(p.image, p.size, "socket_filter", insns, n, &fault), 0);
	if (geteuid() == 0) {
		placed_load(&p);
		assert_int_equal(packet_says(&p, "packet__tc"), 0);
	}
	assert_int_equal(filter_place(p.image, p.size, "skb_filter", insns, SONDE_FILTER_ROOM + 8, &fault), -E2BIG);
	assert_non_null(strstr(fault.text, "there is room for"));
	assert_int_equal(filter_place(p.image, p.size, "skb_filte", insns, 1, &fault), -ENOENT);
	assert_int_equal(filter_place(p.image, p.size, "tuple", insns, 1, &fault), -ENOENT);
	assert_int_equal(filter_place("no object", 9, "skb_filter", insns, 1, &fault), -ENOEXEC);
	placed_close(&p);
}

/* `test` with numbers in it and `between` between them, up to `most` bytes. */
static void long_expression(struct made_text *t, const char *test, const char *between, size_t most)
{
	t->n = 0;
	for (unsigned i = 1; t->n + 60 < most; i++) {
		MADE_SAY(t, "%s", i > 1 ? between : "");
		MADE_SAY(t, test, i, 2 * i, 3 * i);
	}
}

/* The verifier follows what is as long as it may be. */
static void long_filters_are_loaded(void **state)
{
	static const struct {
		const char *test, *between;
		size_t most;
	} cases[] = {
		{ "port %u", " or ", FILTER_TEXT_MAX },
		{ "not port %u", " and ", FILTER_TEXT_MAX },
		{ "host 10.%u.%u.%u", " or ", FILTER_TEXT_MAX },
		{ "host 2001:db8::%x", " or ", 900 },
		{ "portrange %u-%u", " or ", FILTER_TEXT_MAX },
		{ "(tcp port %u and dst net 10.%u.0.0/16)", " or ", FILTER_TEXT_MAX },
		{ "(ip[%u] = %u or udp[%u] = 1)", " and ", 900 },
		{ "(tcp src port %u or udp dst port %u)", " or not ", 900 },
		{ "ip[ip[%u] & %u] + tcp[%u] != udp[3]", " or ", FILTER_TEXT_MAX },
		{ "tcp[tcp[%u] / %u] %% udp[%u] > ip[3]", " or not ", FILTER_TEXT_MAX },
	};
	struct fault fault = { 0 };
	struct made_text t;
	struct placed p;

	if (geteuid() != 0)
		skip();
	placed_open(&p);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t begin;

		long_expression(&t, cases[i].test, cases[i].between, cases[i].most);
		assert_int_equal(placed_filter(&p, "skb_filter", FILTER_SKB, t.text, &fault), 0);
		assert_int_equal(placed_filter(&p, "socket_filter", FILTER_MEMORY, t.text, &fault), 0);
		assert_int_equal(placed_filter(&p, "kernel_filter", FILTER_KERNEL, t.text, &fault), 0);
		begin = now_boottime_ns();
		placed_load(&p);
		printf("%4u ms, %zu bytes: %.60s...\n", (unsigned)((now_boottime_ns() - begin) / NS_PER_MS), t.n,
		       t.text);
	}
	placed_close(&p);
}

/* Whatever is wrong with an object, nothing outside of it is touched (a sanitizer says so). */
static void damaged_objects_are_survived(void **state)
{
	struct bpf_insn insns[8] = { 0 };
	uint64_t seed = 5;

	for (int i = 0; i < 3000; i++) {
		struct placed p;
		uint8_t *image;
		size_t size;

		placed_open(&p);
		for (int k = 0; k < 4; k++) {
			size_t near =
				made_below(&seed, 2) ? made_below(&seed, 64) : p.size - 1 - made_below(&seed, 1200);

			p.image[near] = (uint8_t)made_number(&seed);
		}
		size = made_below(&seed, 4) ? p.size : made_below(&seed, (uint32_t)p.size);
		image = malloc(size + 1);
		memcpy(image, p.image, size);
		filter_place(image, size, "skb_filter", insns, ARRAY_SIZE(insns), NULL);
		free(image);
		placed_close(&p);
	}
}

/* --- packets on their way --- */

static void send_datagrams(int family, uint16_t port, unsigned n)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6,
				    .sin6_port = htons(port),
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in four = { .sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(family, SOCK_DGRAM, 0);

	assert_true(fd >= 0);
	for (unsigned i = 0; i < n; i++)
		if (family == AF_INET)
			sendto(fd, "0123456789", 10, 0, (struct sockaddr *)&four, sizeof four);
		else
			sendto(fd, "0123456789", 10, 0, (struct sockaddr *)&six, sizeof six);
	close(fd);
}

/* A filter on real packets at a tracepoint: of those on the loopback device, exactly those that it names. */
static void packets_at_a_tracepoint_are_filtered(void **state)
{
	struct bpf_link *link;
	struct fault fault = { 0 };
	struct placed p;

	if (geteuid() != 0)
		skip();
	placed_open(&p);
	assert_int_equal(placed_filter(&p, "kernel_filter", FILTER_KERNEL,
				       "udp dst port 45678 and ((ip6 and ip6[48:4] = 0x30313233) or (udp[8:4] = "
				       "0x30313233 and len = 38))",
				       &fault),
			 0);
	placed_load(&p);
	link = bpf_program__attach(bpf_object__find_program_by_name(p.object, "packet__tp_btf"));
	assert_non_null(link);
	send_datagrams(AF_INET, 45678, 7);
	send_datagrams(AF_INET, 45679, 5);
	assert_int_equal(placed_kept(&p).matched, 7);
	send_datagrams(AF_INET6, 45678, 3);
	send_datagrams(AF_INET6, 45679, 3);
	assert_int_equal(placed_kept(&p).matched, 10);
	assert_true(placed_kept(&p).packets >= 18);
	bpf_link__destroy(link);
	placed_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_place_without_a_filter_lets_all_pass),
		cmocka_unit_test(filters_are_placed_one_after_the_other),
		cmocka_unit_test(a_place_has_an_end),
		cmocka_unit_test(long_filters_are_loaded),
		cmocka_unit_test(damaged_objects_are_survived),
		cmocka_unit_test(packets_at_a_tracepoint_are_filtered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
