/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters: what is refused and how that is said, that no name is ever looked up, and that translated filters do as libpcap's, by chance and
 * in the thousands, in the interpreter and in this kernel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>

#include "filter_compare.h"
#include "test_times.h"

/* --- nobody asks the resolver: libpcap's calls end here --- */

static unsigned names_asked;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	static __typeof__(getaddrinfo) *real;
	uint8_t unused[16];
	unsigned parts[4];

	if (node && inet_pton(AF_INET6, node, unused) != 1 &&
	    sscanf(node, "%u.%u.%u.%u", &parts[0], &parts[1], &parts[2], &parts[3]) != 4) {
		names_asked++;
		return EAI_NONAME;
	}
	if (!real)
		real = (__typeof__(real))dlsym(RTLD_NEXT, "getaddrinfo");
	return real(node, service, hints, ret);
}

int getnetbyname_r(const char *name, struct netent *entry, char *room, size_t size, struct netent **ret, int *error)
{
	names_asked++;
	*ret = NULL;
	return ENOENT;
}

struct hostent *gethostbyname2(const char *name, int family)
{
	names_asked++;
	return NULL;
}

static bool compiles(const char *text, enum filter_link link, struct fault *fault)
{
	struct filter *filter = NULL;
	int r = filter_compile(&filter, text, link, fault);

	assert_true((r == 0) == (filter != NULL));
	filter_free(filter);
	return r == 0;
}

/* Words of the language and others in any order, with any signs between them. */
static void no_name_is_looked_up(void **state)
{
	static const char *const words[] = { "host",
					     "net",
					     "port",
					     "portrange",
					     "proto",
					     "gateway",
					     "src",
					     "dst",
					     "tcp",
					     "ip6",
					     "ether",
					     "and",
					     "or",
					     "not",
					     "localhost",
					     "example",
					     "a.b",
					     "dead:beef",
					     "1.2.3.4",
					     "1.2.3.4.5",
					     "10.",
					     "::1",
					     "a::b::c",
					     "80-90",
					     "http",
					     "\\tcp",
					     "\\example",
					     "0x",
					     "1:2:3:4:5:6",
					     "a:b:c:d:e:f:",
					     "12ab",
					     "len-1",
					     "TCP",
					     "tcp-syn",
					     "$1",
					     "1:example",
					     "::ffff:1.2.3.4",
					     "1-a",
					     "a_b",
					     "-a",
					     "protochain",
					     "ab-cd-ef-ab-cd-ef",
					     "abcd.abcd.abcd",
					     "mask",
					     "vlan",
					     "multicast",
					     "link",
					     "4294967296",
					     "x80",
					     "de:ad",
					     "be:ef.x" };
	static const char *const signs[] = { " ", " ", " ", " ", "(",  ")", "[", "]", ":",
					     "/", "!", "&", "-", "\n", "=", "|", "" };
	uint64_t seed = 11;
	unsigned compiled = 0;

	for (int i = 0; i < TEST_TIMES(60000); i++) {
		uint32_t n = 1 + made_below(&seed, 5);
		struct made_text t = { .n = 0 };

		for (uint32_t w = 0; w < n; w++)
			MADE_SAY(&t, "%s%s", MADE_ONE_OF(&seed, words), MADE_ONE_OF(&seed, signs));
		compiled += compiles(t.text, made_below(&seed, 2) ? FILTER_RAW : FILTER_ETHERNET, NULL);
		if (names_asked)
			fail_msg("'%s' asked for a name", t.text);
	}
	assert_true(compiled > TEST_TIMES(100));
}

static void mistakes_are_explained(void **state)
{
	static const struct {
		const char *text, *says;
		unsigned column;
	} cases[] = {
		{ "host example.org", "names of hosts are not looked up: write the address", 6 },
		{ "tcp prot 80", "'prot' is no word of the language", 5 },
		{ "tcp prot 80", "did you mean 'port'?", 5 },
		{ "tcp AND port 80", "'AND' is no word", 5 },
		{ "port nosuchservice", "service 'nosuchservice' is not in /etc/services; write its number", 6 },
		{ "port 80-90", "service '80-90'", 6 },
		{ "host \\tcp", "'tcp' is no word", 7 },
		{ "tcp port \"80\"", "no such character as '\"' (0x22)", 10 },
		{ "tcp\x01", "no such character as '?' (0x01)", 4 },
		{ "ip proto tcp", "can't parse filter expression: syntax error; the language is that of pcap-filter(7)",
		  0 },
		{ "ip proto tcp", "'ip proto \\tcp'", 0 },
		{ "tcp and udp", "expression rejects all packets; no packet could match it", 0 },
		{ "ip broadcast", "netmask not known", 0 },
		{ "tcp[0] << 40 = 1", "shift by more than 31 bits", 0 },
		{ "tcp[0] / 0 = 1", "division by zero", 0 },
		{ "ip6 protochain 6", "jumps back, as protochain needs it, and loops are not for the kernel", 0 },
		{ "vlan", "no VLAN support for Raw IP", 0 },
		{ "port 65536", "65536", 0 },
		{ "net 10.0.0.1/8", "non-network bits set", 0 },
		{ "(tcp", "syntax error", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fault fault = { 0 };

		assert_false(compiles(cases[i].text, FILTER_RAW, &fault));
		if (!strstr(fault.text, cases[i].says) || fault.column != cases[i].column ||
		    strncmp(fault.text, "filter '", 8))
			fail_msg("'%s', column %u: %s", cases[i].text, fault.column, fault.text);
	}
}

static void lengths_are_bounded(void **state)
{
	char text[FILTER_TEXT_MAX + 20];
	struct fault fault = { 0 };
	struct filter *filter = NULL;

	memset(text, ' ', sizeof text);
	memcpy(text, "tcp", 3);
	text[FILTER_TEXT_MAX] = '\0';
	assert_true(compiles(text, FILTER_RAW, &fault));
	text[FILTER_TEXT_MAX] = ' ';
	text[FILTER_TEXT_MAX + 1] = '\0';
	assert_int_equal(filter_compile(&filter, text, FILTER_RAW, &fault), -E2BIG);
	assert_non_null(strstr(fault.text, "longer than 1024 bytes"));
	memset(text, 'a', 100);
	text[100] = '\0';
	assert_false(compiles(text, FILTER_RAW, &fault));
	assert_non_null(strstr(fault.text, "this word is too long"));
}

static void services_are_numbers(void **state)
{
	struct filter *name = NULL, *number = NULL;
	struct fault fault = { 0 };
	struct bpf_insn a[256], b[256];
	int n;

	assert_int_equal(filter_compile(&name, "port https or dst port (22) or port domain", FILTER_RAW, &fault), 0);
	assert_int_equal(filter_compile(&number, "port 443 or dst port (22) or port 53", FILTER_RAW, &fault), 0);
	n = filter_translate(name, FILTER_SKB, a, ARRAY_SIZE(a), &fault);
	assert_true(n > 0);
	assert_int_equal(filter_translate(number, FILTER_SKB, b, ARRAY_SIZE(b), &fault), n);
	assert_memory_equal(a, b, (size_t)n * sizeof *a);
	filter_free(name);
	filter_free(number);
}

static void no_words_match_everything(void **state)
{
	struct filter *filter = NULL;

	assert_int_equal(filter_compile(&filter, "", FILTER_RAW, NULL), 0);
	assert_true(filter_match(filter, "", 0, 0));
	filter_free(filter);
}

/* What each of several threads makes at the same time. */
struct making {
	uint64_t seed;
	unsigned made;
	uint64_t hash;
};

static void *make_filters(void *argument)
{
	struct making *m = argument;

	for (int i = 0; i < 300; i++) {
		static _Thread_local struct bpf_insn insns[SONDE_FILTER_ROOM];
		struct filter *filter = NULL;
		struct made_text t;
		int n;

		made_expression(&t, &m->seed, false);
		if (filter_compile(&filter, t.text, FILTER_RAW, NULL) < 0)
			continue;
		n = filter_translate(filter, FILTER_SKB, insns, ARRAY_SIZE(insns), NULL);
		m->hash = m->hash * 31 + hash_bytes(insns, (size_t)n * sizeof *insns);
		m->made++;
		filter_free(filter);
	}
	return NULL;
}

static void threads_compile_at_the_same_time(void **state)
{
	struct making together[4], alone;
	pthread_t threads[4];

	for (int i = 0; i < 4; i++) {
		together[i] = (struct making){ .seed = 100 + (uint64_t)i };
		assert_int_equal(pthread_create(&threads[i], NULL, make_filters, &together[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		alone = (struct making){ .seed = 100 + (uint64_t)i };
		make_filters(&alone);
		assert_true(alone.made > 200);
		assert_int_equal(together[i].made, alone.made);
		assert_true(together[i].hash == alone.hash);
	}
}

/* --- classic programs of others --- */

static void wrong_programs_are_refused(void **state)
{
	static const struct {
		struct sock_filter program[3];
		size_t n;
	} cases[] = {
		{ { { 0 } }, 0 },
		{ { { BPF_LD | BPF_IMM, 0, 0, 1 } }, 1 },
		{ { { BPF_JMP | BPF_JA, 0, 0, 1 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_JMP | BPF_JA, 0, 0, UINT32_MAX }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_JMP | BPF_JEQ, 0, 1, 0 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_JMP | BPF_JEQ, 1, 0, 0 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_ALU | BPF_DIV, 0, 0, 0 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_ALU | BPF_MOD, 0, 0, 0 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_ALU | BPF_LSH, 0, 0, 32 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_ST, 0, 0, 16 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_LDX | BPF_MEM, 0, 0, 16 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_LD | BPF_MSH | BPF_B, 0, 0, 0 }, { BPF_RET, 0, 0, 0 } }, 2 },
		{ { { BPF_RET | BPF_X, 0, 0, 0 } }, 1 },
		{ { { 0xffff, 0, 0, 0 }, { BPF_RET, 0, 0, 0 } }, 2 },
	};
	static struct sock_filter large[FILTER_PROGRAM_MAX + 1];
	struct filter *filter = NULL;
	struct fault fault;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fault.text[0] = '\0';
		assert_int_equal(filter_of_program(&filter, cases[i].program, cases[i].n, FILTER_RAW, &fault), -EINVAL);
		assert_true(fault.text[0]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(large); i++)
		large[i] = (struct sock_filter){ .code = BPF_RET, .k = 1 };
	assert_int_equal(filter_of_program(&filter, large, FILTER_PROGRAM_MAX + 1, FILTER_RAW, &fault), -E2BIG);
	assert_int_equal(filter_of_program(&filter, large, FILTER_PROGRAM_MAX, FILTER_RAW, &fault), 0);
	filter_free(filter);
}

static void what_has_no_room_is_refused(void **state)
{
	struct filter *filter = NULL;
	struct fault fault = { 0 };
	struct bpf_insn insns[64];
	int n;

	assert_int_equal(filter_compile(&filter, "tcp", FILTER_RAW, &fault), 0);
	n = filter_translate(filter, FILTER_KERNEL, insns, ARRAY_SIZE(insns), &fault);
	assert_in_range(n, 5, 64);
	for (int room = 0; room < n; room++)
		assert_int_equal(filter_translate(filter, FILTER_KERNEL, insns, (size_t)room, &fault), -E2BIG);
	assert_non_null(strstr(fault.text, "instructions in the kernel, of which there may be"));
	assert_int_equal(filter_translate(filter, FILTER_KERNEL, insns, (size_t)n, &fault), n);
	filter_free(filter);
}

/* --- as libpcap does --- */

static void filters_do_as_libpcap_does(void **state)
{
	static struct comparison c;

	compare_begin(&c, 1, NULL);
	for (int i = 0; i < TEST_TIMES(6000); i++)
		compare_expression(&c);
	compare_print(&c, "expressions");
	assert_int_equal(c.differences + c.too_large, 0);
	assert_true(c.refused < 1500);
	compare_begin(&c, 2, NULL);
	for (int i = 0; i < TEST_TIMES(12000); i++)
		compare_program(&c);
	compare_print(&c, "programs");
	assert_int_equal(c.differences + c.too_large, 0);
}

static void the_kernel_does_as_libpcap_does(void **state)
{
	static struct comparison c;
	struct kernel_packets kernel;

	if (geteuid() != 0)
		skip();
	assert_int_equal(kernel_open(&kernel), 0);
	compare_begin(&c, 3, &kernel);
	for (int i = 0; i < TEST_TIMES(3000); i++)
		compare_expression(&c);
	compare_print(&c, "expressions");
	assert_int_equal(c.differences + c.too_large, 0);
	compare_begin(&c, 4, &kernel);
	for (int i = 0; i < TEST_TIMES(3000); i++)
		compare_program(&c);
	compare_print(&c, "programs");
	assert_int_equal(c.differences + c.too_large, 0);
	kernel_close(&kernel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_name_is_looked_up),       cmocka_unit_test(mistakes_are_explained),
		cmocka_unit_test(lengths_are_bounded),        cmocka_unit_test(services_are_numbers),
		cmocka_unit_test(no_words_match_everything),  cmocka_unit_test(threads_compile_at_the_same_time),
		cmocka_unit_test(wrong_programs_are_refused), cmocka_unit_test(what_has_no_room_is_refused),
		cmocka_unit_test(filters_do_as_libpcap_does), cmocka_unit_test(the_kernel_does_as_libpcap_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
