/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters and packets by chance, for the tests of pipelines/filter: expressions by a grammar, programs of classic BPF of any
 * instructions, and packets that have what the expressions ask for. Everything follows from the seed. Addresses and ports
 * come from small sets, so that filters match about as often as not.
 */
#ifndef SONDE_TESTS_FILTER_MADE_H
#define SONDE_TESTS_FILTER_MADE_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MADE_TEXT_MAX    1024
#define MADE_PACKET_MAX  320
#define MADE_PROGRAM_MAX 80

struct made_packet {
	uint8_t bytes[MADE_PACKET_MAX];
	uint32_t captured, length;
};

static inline uint32_t made_number(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return (uint32_t)(*seed >> 16);
}

static inline uint32_t made_below(uint64_t *seed, uint32_t n)
{
	return made_number(seed) % n;
}

#define MADE_ONE_OF(seed, list) ((list)[made_below((seed), sizeof(list) / sizeof((list)[0]))])

/* --- expressions --- */

static const uint16_t made_ports[] = { 53, 80, 443, 5432, 6000, 6005 };

struct made_text {
	char text[MADE_TEXT_MAX];
	size_t n;
};

#define MADE_SAY(t, ...) ((t)->n += (size_t)snprintf((t)->text + (t)->n, sizeof(t)->text - (t)->n, __VA_ARGS__))

static inline void made_address(struct made_text *t, uint64_t *seed)
{
	if (made_below(seed, 3))
		MADE_SAY(t, "10.%u.0.%u", made_below(seed, 2), made_below(seed, 3));
	else
		MADE_SAY(t, "2001:db8:%u::%u", made_below(seed, 2), made_below(seed, 3));
}

static inline void made_net(struct made_text *t, uint64_t *seed)
{
	static const char *const nets[] = {
		"10.0.0.0/8",      "10.0.0.0/16", "10.1.0.0/30", "10.0.0.0/31", "2001:db8::/32",   "::/0",
		"2001:db8:1::/48", "0.0.0.0/0",   "10",          "10.1",        "2001:db8::1/128", "192.168.0.0/16"
	};

	MADE_SAY(t, "net %s", MADE_ONE_OF(seed, nets));
}

static inline void made_arithmetic(struct made_text *t, uint64_t *seed)
{
	static const char *const protocols[] = { "ip", "tcp", "udp", "icmp", "ip6" };
	static const char *const operators[] = { "=", "!=", "<", "<=", ">", ">=" };
	static const char *const sums[] = { "&", "|", "+", "-", "*", "/", "%", "^", "<<", ">>" };
	static const char *const sizes[] = { "", ":1", ":2", ":4" };
	const char *protocol = MADE_ONE_OF(seed, protocols);

	MADE_SAY(t, "%s[%u%s]", protocol, made_below(seed, made_below(seed, 4) ? 24 : 60), MADE_ONE_OF(seed, sizes));
	if (made_below(seed, 2))
		MADE_SAY(t, " %s %u", MADE_ONE_OF(seed, sums), 1 + made_below(seed, 31));
	else if (made_below(seed, 3) == 0)
		MADE_SAY(t, " %s %s[%s[0] & %u]", MADE_ONE_OF(seed, sums), protocol, protocol,
			 made_below(seed, 2) ? 7 : 255);
	MADE_SAY(t, " %s %u", MADE_ONE_OF(seed, operators), made_below(seed, made_below(seed, 2) ? 8 : 70000));
}

static inline void made_port(struct made_text *t, uint64_t *seed)
{
	static const char *const heads[] = {
		"", "src ", "dst ", "tcp ", "udp ", "tcp src ", "udp dst ", "src or dst "
	};
	uint32_t from = MADE_ONE_OF(seed, made_ports);

	MADE_SAY(t, "%s", MADE_ONE_OF(seed, heads));
	if (made_below(seed, 3))
		MADE_SAY(t, "port %u", from);
	else
		MADE_SAY(t, "portrange %u-%u", from, from + made_below(seed, 1000));
}

static inline void made_test(struct made_text *t, uint64_t *seed, bool ethernet)
{
	static const char *const words[] = { "tcp",
					     "udp",
					     "ip",
					     "ip6",
					     "icmp",
					     "icmp6",
					     "ip multicast",
					     "ip6 multicast",
					     "ip proto 17",
					     "ip6 proto 6",
					     "proto 6",
					     "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0",
					     "icmp[icmptype] = icmp-echo",
					     "ip[6:2] & 0x1fff != 0",
					     "less 80",
					     "greater 90",
					     "len > 60",
					     "len & 1 = 0",
					     "sctp",
					     "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
					     "udp[8:2] & 0x8000 = 0",
					     "icmp6[icmp6type] = icmp6-echo",
					     "igmp or esp or ah" };
	static const char *const links[] = { "vlan",
					     "vlan 7",
					     "vlan and tcp",
					     "arp",
					     "ether proto 0x800",
					     "ether broadcast",
					     "ether host 2:0:0:0:0:1",
					     "ether src 2:0:0:0:0:2",
					     "ether multicast",
					     "ether[12:2] > 1500",
					     "ether[0] & 1 = 0",
					     "vlan and vlan and udp",
					     "mpls",
					     "rarp or arp" };
	static const char *const sides[] = { "", "src ", "dst ", "src and dst " };

	switch (made_below(seed, ethernet ? 7 : 6)) {
	case 0:
		MADE_SAY(t, "%s", MADE_ONE_OF(seed, words));
		break;
	case 1:
		MADE_SAY(t, "%shost ", MADE_ONE_OF(seed, sides));
		made_address(t, seed);
		break;
	case 2:
		MADE_SAY(t, "%s", MADE_ONE_OF(seed, sides));
		made_net(t, seed);
		break;
	case 3:
	case 4:
		made_port(t, seed);
		break;
	case 5:
		made_arithmetic(t, seed);
		break;
	default:
		MADE_SAY(t, "%s", MADE_ONE_OF(seed, links));
	}
}

static inline void made_expression_in(struct made_text *t, uint64_t *seed, bool ethernet, unsigned depth)
{
	if (depth == 0 || made_below(seed, 4) == 0) {
		if (made_below(seed, 5) == 0)
			MADE_SAY(t, "not ");
		made_test(t, seed, ethernet);
		return;
	}
	if (made_below(seed, 6) == 0)
		MADE_SAY(t, "not ");
	MADE_SAY(t, "(");
	made_expression_in(t, seed, ethernet, depth - 1);
	MADE_SAY(t, "%s", made_below(seed, 2) ? " and " : " or ");
	made_expression_in(t, seed, ethernet, depth - 1);
	MADE_SAY(t, ")");
}

/* At most 8 tests. libpcap refuses some: those that no packet can match. */
static inline void made_expression(struct made_text *t, uint64_t *seed, bool ethernet)
{
	t->n = 0;
	t->text[0] = '\0';
	made_expression_in(t, seed, ethernet, made_below(seed, 4));
}

/* --- programs --- */

static inline struct sock_filter made_instruction(uint64_t *seed, uint32_t left)
{
	static const uint16_t codes[] = { BPF_LD | BPF_W | BPF_ABS,
					  BPF_LD | BPF_H | BPF_ABS,
					  BPF_LD | BPF_B | BPF_ABS,
					  BPF_LD | BPF_W | BPF_IND,
					  BPF_LD | BPF_H | BPF_IND,
					  BPF_LD | BPF_B | BPF_IND,
					  BPF_LD | BPF_W | BPF_LEN,
					  BPF_LD | BPF_IMM,
					  BPF_LD | BPF_MEM,
					  BPF_LDX | BPF_W | BPF_LEN,
					  BPF_LDX | BPF_IMM,
					  BPF_LDX | BPF_MEM,
					  BPF_LDX | BPF_B | BPF_MSH,
					  BPF_ST,
					  BPF_STX,
					  BPF_ALU | BPF_NEG,
					  BPF_MISC | BPF_TAX,
					  BPF_MISC | BPF_TXA };
	static const uint16_t alu[] = { BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD,
					BPF_AND, BPF_OR,  BPF_XOR, BPF_LSH, BPF_RSH };
	static const uint16_t jumps[] = { BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET };
	static const uint32_t edges[] = { 0, 1, 31, 32, 0x7fffffff, 0x80000000, 0xffffffff, 0x7ffefffc, 0xff };
	struct sock_filter in = { .k = made_below(seed, 3) ? made_below(seed, 70) : MADE_ONE_OF(seed, edges) };
	uint32_t kind = made_below(seed, 10);

	if (kind < 5) {
		in.code = MADE_ONE_OF(seed, codes);
		if (BPF_MODE(in.code) == BPF_MEM || BPF_CLASS(in.code) == BPF_ST || BPF_CLASS(in.code) == BPF_STX)
			in.k &= BPF_MEMWORDS - 1;
		else if (in.code != (BPF_LD | BPF_IMM) && in.code != (BPF_LDX | BPF_IMM) && made_below(seed, 8))
			in.k = made_below(seed, 60); /* most loads are inside */
	} else if (kind < 8) {
		uint16_t op = MADE_ONE_OF(seed, alu);

		in.code = BPF_ALU | op | (made_below(seed, 2) ? BPF_X : BPF_K);
		if (op == BPF_LSH || op == BPF_RSH)
			in.k &= 31;
		in.k += (op == BPF_DIV || op == BPF_MOD) && in.k == 0;
	} else if (left > 1 && made_below(seed, 8)) {
		in.code = BPF_JMP | MADE_ONE_OF(seed, jumps) | (made_below(seed, 3) ? BPF_K : BPF_X);
		in.jt = (uint8_t)made_below(seed, left < 12 ? left : 12);
		in.jf = (uint8_t)made_below(seed, left < 12 ? left : 12);
	} else if (left > 1 && made_below(seed, 2)) {
		in.code = BPF_JMP | BPF_JA;
		in.k = made_below(seed, left < 6 ? left : 6);
	} else {
		in.code = BPF_RET | (made_below(seed, 2) ? BPF_A : BPF_K);
	}
	return in;
}

/* Returns how many instructions. libpcap's memory begins with anything, so it is written first. */
static inline uint32_t made_program(struct sock_filter *program, uint64_t *seed)
{
	uint32_t n = 0, more = 1 + made_below(seed, MADE_PROGRAM_MAX - BPF_MEMWORDS - 1);

	for (; n < BPF_MEMWORDS; n++)
		program[n] = (struct sock_filter){ .code = BPF_ST, .k = n };
	for (uint32_t i = 0; i < more; i++, n++)
		program[n] = made_instruction(seed, more - i);
	program[n++] = (struct sock_filter){ .code = BPF_RET | (made_below(seed, 3) ? BPF_A : BPF_K), .k = 1 };
	return n;
}

/* --- packets --- */

static inline void made_put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline uint32_t made_transport(uint8_t *at, uint64_t *seed, uint8_t protocol)
{
	for (uint32_t i = 0; i < 20; i++)
		at[i] = (uint8_t)(made_below(seed, 2) ? made_number(seed) : 0);
	if (protocol == 6 || protocol == 17 || protocol == 132) {
		made_put16(at, MADE_ONE_OF(seed, made_ports) + made_below(seed, 2));
		made_put16(at + 2, MADE_ONE_OF(seed, made_ports));
	} else {
		at[0] = (uint8_t)(made_below(seed, 2) ? 8 : 128);
	}
	if (protocol != 6)
		return 8;
	at[12] = (uint8_t)(5 + made_below(seed, 3)) << 4;
	at[13] = (uint8_t)made_below(seed, 64);
	return 20;
}

static inline uint32_t made_ip4(uint8_t *at, uint64_t *seed)
{
	static const uint8_t protocols[] = { 6, 6, 17, 17, 1, 132, 47 };
	uint32_t words = made_below(seed, 4) ? 5 : 5 + made_below(seed, 11);

	for (uint32_t i = 0; i < 4 * words; i++)
		at[i] = (uint8_t)made_number(seed);
	at[0] = (uint8_t)(0x40 | (made_below(seed, 30) ? words : made_below(seed, 16)));
	made_put16(at + 6, made_below(seed, 5) ? 0x4000 : made_number(seed) & 0x3fff);
	at[9] = MADE_ONE_OF(seed, protocols);
	for (uint32_t end = 12; end <= 16; end += 4) {
		at[end] = 10;
		at[end + 1] = (uint8_t)made_below(seed, 2);
		at[end + 2] = 0;
		at[end + 3] = (uint8_t)made_below(seed, 3);
	}
	if (made_below(seed, 10) == 0)
		at[16] = 224;
	return 4 * words + made_transport(at + 4 * words, seed, at[9]);
}

static inline uint32_t made_ip6(uint8_t *at, uint64_t *seed)
{
	static const uint8_t protocols[] = { 6, 6, 17, 17, 58, 44, 0 };
	uint32_t n = 40;

	memset(at, 0, 48);
	at[0] = 0x60;
	at[6] = MADE_ONE_OF(seed, protocols);
	for (uint32_t end = 8; end <= 24; end += 16) {
		memcpy(at + end, "\x20\x01\x0d\xb8", 4);
		at[end + 5] = (uint8_t)made_below(seed, 2);
		at[end + 15] = (uint8_t)made_below(seed, 3);
	}
	if (made_below(seed, 10) == 0)
		at[24] = 0xff;
	if (at[6] == 44 || at[6] == 0) { /* a fragment, or hop-by-hop options */
		at[40] = made_below(seed, 2) ? 6 : 17;
		n += 8;
		return n + made_transport(at + n, seed, at[40]);
	}
	return n + made_transport(at + n, seed, at[6]);
}

static inline uint32_t made_ethernet(uint8_t *at, uint64_t *seed, bool six)
{
	uint32_t n = 12;

	memset(at, 0, 32);
	at[0] = at[6] = 2;
	at[5] = (uint8_t)made_below(seed, 3);
	at[11] = (uint8_t)made_below(seed, 3);
	if (made_below(seed, 8) == 0)
		memset(at, 0xff, 6);
	while (made_below(seed, 4) == 0 && n < 24) {
		made_put16(at + n, made_below(seed, 4) ? 0x8100 : 0x88a8);
		made_put16(at + n + 2, made_below(seed, 2) ? 7 : made_below(seed, 65536));
		n += 4;
	}
	made_put16(at + n, made_below(seed, 12)  ? (six ? 0x86dd : 0x800)
			   : made_below(seed, 2) ? 0x806
						 : made_number(seed));
	return n + 2;
}

static inline void made_packet(struct made_packet *p, uint64_t *seed, bool ethernet)
{
	bool six = made_below(seed, 3) == 0;
	uint32_t n = ethernet ? made_ethernet(p->bytes, seed, six) : 0, payload = made_below(seed, 90);

	n += six ? made_ip6(p->bytes + n, seed) : made_ip4(p->bytes + n, seed);
	for (uint32_t i = 0; i < payload; i++)
		p->bytes[n++] = (uint8_t)made_number(seed);
	if (made_below(seed, 12) == 0)
		for (uint32_t i = 0; i < n; i++)
			p->bytes[i] = (uint8_t)made_number(seed);
	p->length = n;
	if (made_below(seed, 4) == 0) /* cut by whoever captured it */
		n = made_below(seed, 2) ? made_below(seed, n + 1) : made_below(seed, 45);
	p->captured = n < p->length ? n : p->length;
}

#endif
