/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters on sockets: which can be asked, and that a socket is answered for as every packet of it would be, whatever else is in that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "filter/filter.h"
#include "filter_made.h"

static const uint8_t both[] = { IPPROTO_TCP, IPPROTO_UDP, 0 }, only_tcp[] = { IPPROTO_TCP, 0 };

static int ask_tuple(const char *text, const uint8_t *protocols, struct fault *fault)
{
	struct filter *filter = NULL;
	int r;

	assert_int_equal(filter_compile(&filter, text, FILTER_RAW, fault), 0);
	r = filter_check_tuple(filter, protocols, fault);
	filter_free(filter);
	return r;
}

static void a_socket_answers_what_it_knows(void **state)
{
	static const char *const answered[] = {
		"",
		"tcp",
		"udp",
		"ip",
		"ip6",
		"tcp port 5432 and net 10.0.0.0/8",
		"not port 22",
		"portrange 1-1024",
		"src host 2001:db8::1 or dst net 10.1",
		"tcp src port 80 and not (ip6 or dst host 10.0.0.1)",
		"icmp",
		"sctp port 5",
		"ip multicast",
		"ip[12] = 10",
		"ip[16:4] & 0xff = 7",
		"tcp[0:2] = 80",
		"tcp[2:2] > 1023",
		"ip6[8:2] = 0x2001",
		"ip proto 17",
		"ip[6:2] & 0x1fff = 0",
		"ip[0] & 0xf = 5",
		"udp[0:4] / 65536 = 53",
		"tcp[1] - 3 > tcp[3]",
		"ip6 multicast",
		"ip[12] ^ ip[16] = 0",
		"ip[20:2] = 80",
		"tcp[tcp[0] & 0:2] = 80",
	};
	static const struct {
		const char *text, *says;
	} refused[] = {
		{ "tcp[tcpflags] & tcp-syn != 0", "byte 33 of an IPv4 packet (what follows the ports)" },
		{ "port 80 and greater 100", "it asks for a packet's length" },
		{ "len > 5 or tcp", "it asks for a packet's length" },
		{ "ip[2:2] > 100", "(the total length)" },
		{ "ip[8] < 5", "byte 8 of an IPv4 packet (the time to live)" },
		{ "ip[6] & 0x40 != 0", "(the fragment flags)" },
		{ "ip[1] = 0", "(the type of service)" },
		{ "ip6[7] = 64", "byte 7 of an IPv6 packet (the hop limit)" },
		{ "ip6[0:4] & 0xfffff = 5", "(the traffic class or flow label)" },
		{ "ip6[0] & 1 = 1", "byte 0 of an IPv6 packet (the traffic class" },
		{ "udp[8] = 1", "byte 28 of an IPv4 packet (what follows the ports)" },
		{ "tcp[tcp[0]] = 1", "it computes where in the packet to look" },
		{ "1 / ip[8] = 0", "(the time to live)" },
		{ "ip[8] << 3 > 5", "(the time to live)" },
	};
	struct fault fault = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(answered); i++)
		if (ask_tuple(answered[i], both, &fault))
			fail_msg("%s: %s", answered[i], fault.text);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		assert_int_equal(ask_tuple(refused[i].text, both, &fault), -EOPNOTSUPP);
		if (!strstr(fault.text, refused[i].says))
			fail_msg("%s: %s", refused[i].text, fault.text);
	}
	assert_int_equal(ask_tuple("udp[8] = 1 or tcp", only_tcp, &fault), 0);
}

static void ethernet_is_not_asked_of_sockets(void **state)
{
	struct filter *filter = NULL;
	struct fault fault = { 0 };

	assert_int_equal(filter_compile(&filter, "tcp", FILTER_ETHERNET, &fault), 0);
	assert_int_equal(filter_check_tuple(filter, both, &fault), -EINVAL);
	filter_free(filter);
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

static bool tuple_matches(const char *text, const char *local, uint16_t lport, const char *remote, uint16_t rport)
{
	struct sonde_filter_tuple tuple = { .laddr = address_of(local),
					    .raddr = address_of(remote),
					    .lport = lport,
					    .rport = rport,
					    .protocol = IPPROTO_TCP };
	struct sonde_filter_packet packet;
	struct filter *filter = NULL;
	uint32_t length = filter_header_of_tuple(&packet, &tuple);
	bool matches;

	assert_int_equal(filter_compile(&filter, text, FILTER_RAW, NULL), 0);
	assert_int_equal(filter_check_tuple(filter, both, NULL), 0);
	matches = filter_match(filter, packet.bytes, length, length);
	filter_free(filter);
	return matches;
}

static void a_socket_is_its_own_source(void **state)
{
	assert_true(tuple_matches("tcp port 5432 and net 10.0.0.0/8", "10.1.2.3", 40000, "192.168.0.1", 5432));
	assert_false(tuple_matches("tcp port 5432 and net 10.0.0.0/8", "172.16.0.1", 40000, "192.168.0.1", 5432));
	assert_false(tuple_matches("udp port 5432", "10.1.2.3", 40000, "192.168.0.1", 5432));
	assert_true(tuple_matches("dst port 443 and src host 2001:db8::1", "2001:db8::1", 50000, "2001:db8::2", 443));
	assert_false(tuple_matches("src port 443", "2001:db8::1", 50000, "2001:db8::2", 443));
	assert_true(tuple_matches("ip and host 10.0.0.1", "::ffff:10.0.0.1", 1, "10.0.0.2", 2));
	assert_true(tuple_matches("ip and src port 80", "::", 80, "10.0.0.2", 2));
	assert_true(tuple_matches("ip and src port 80", "0.0.0.0", 80, "::", 0));
	assert_true(tuple_matches("ip6 and src port 80", "::", 80, "::", 0));
	assert_true(tuple_matches("ip6", "2001:db8::1", 80, "10.0.0.2", 0));
}

/* A packet of the socket whose header is given, with anything in it that a socket does not tell. */
static void any_packet_of(uint8_t packet[static 200], const struct sonde_filter_packet *header, uint32_t n,
			  uint64_t *seed)
{
	static const uint8_t foreign4[] = { 1, 2, 3, 4, 5, 8, 10, 11 }, foreign6[] = { 1, 2, 3, 4, 5, 7 };
	bool ip6 = header->bytes[0] == 0x60;

	for (size_t i = 0; i < 200; i++)
		packet[i] = (uint8_t)made_number(seed);
	memcpy(packet, header->bytes, n);
	for (size_t i = 0; i < (ip6 ? ARRAY_SIZE(foreign6) : ARRAY_SIZE(foreign4)); i++)
		packet[ip6 ? foreign6[i] : foreign4[i]] = (uint8_t)made_number(seed);
	packet[ip6 ? 0 : 6] |= made_number(seed) & (ip6 ? 0xf : 0xc0);
}

/* Whether the filter says the same of a socket and of ten packets of it; counts what it says. */
static bool socket_says_as_packets(const struct filter *filter, uint64_t *seed, unsigned *answered, unsigned *matched)
{
	bool ip6 = made_below(seed, 2);
	struct sonde_filter_tuple tuple = { .laddr = address_of(ip6 ? "2001:db8::2" : "10.0.0.1"),
					    .raddr = address_of(ip6 ? "2001:db8:1::1" : "10.1.0.2"),
					    .lport = MADE_ONE_OF(seed, made_ports),
					    .rport = MADE_ONE_OF(seed, made_ports),
					    .protocol = made_below(seed, 2) ? IPPROTO_TCP : IPPROTO_UDP };
	struct sonde_filter_packet header;
	uint8_t packet[200];
	uint32_t n = filter_header_of_tuple(&header, &tuple), says = filter_match(filter, header.bytes, n, n);

	for (int i = 0; i < 10; i++) {
		any_packet_of(packet, &header, n, seed);
		if (filter_match(filter, packet, sizeof packet, made_number(seed)) != says)
			return false;
	}
	++*answered;
	*matched += says != 0;
	return true;
}

/* Of what filter_check_tuple() lets pass. */
static void a_socket_answers_as_its_packets_do(void **state)
{
	uint64_t seed = 3;
	unsigned answered = 0, matched = 0, programs = 0;

	for (int i = 0; i < 60000; i++) {
		struct sock_filter program[MADE_PROGRAM_MAX + 2];
		struct filter *filter = NULL;
		struct made_text t = { .text = "a program" };

		if (i % 8) {
			assert_int_equal(
				filter_of_program(&filter, program, made_program(program, &seed), FILTER_RAW, NULL), 0);
		} else {
			made_expression(&t, &seed, false);
			if (filter_compile(&filter, t.text, FILTER_RAW, NULL) < 0)
				continue;
		}
		for (int k = 0; k < 4 && filter_check_tuple(filter, both, NULL) == 0; k++) {
			programs += k == 0 && i % 8;
			if (!socket_says_as_packets(filter, &seed, &answered, &matched))
				fail_msg("%d: '%s' says otherwise of a packet", i, t.text);
		}
		filter_free(filter);
	}
	assert_true(answered > 10000 && matched > 1000 && programs > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_socket_answers_what_it_knows),
		cmocka_unit_test(ethernet_is_not_asked_of_sockets),
		cmocka_unit_test(a_socket_is_its_own_source),
		cmocka_unit_test(a_socket_answers_as_its_packets_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
