/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which filters a socket can answer. The program is run over a header of which some bits are known (version, header length, no
 * fragment, the protocol), some are the socket's to tell (addresses, ports), and the rest is foreign: nobody knows it.
 * One pass does it, because jumps only lead forward: at each instruction the states of all ways to it are joined. The filter
 * is refused where a decision depends on a foreign bit, or a load goes beyond the header. What it loads and masks away, as
 * libpcap does with the flags beside a fragment's offset, is no harm.
 *
 * Invariant of a value: no bit is both known and foreign, and unknown bits of `bits` are 0. A bit that is neither is the socket's.
 */
#include "filter/program.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define ALL UINT32_MAX

struct value {
	uint32_t known, bits, foreign;
	uint32_t origin; /* where in the packet the foreign bits are from, or ORIGIN_LENGTH */
};
#define ORIGIN_LENGTH UINT32_MAX

struct state {
	bool reached;
	struct value a, x, memory[BPF_MEMWORDS];
};

struct question {
	const struct filter *filter;
	struct fault *fault;
	struct state *states; /* before each instruction */
	bool ip6;
	uint8_t protocol;
	uint32_t header; /* bytes of it */
};

/* --- what a packet of a socket says --- */

static struct value constant(uint32_t bits)
{
	return (struct value){ .known = ALL, .bits = bits };
}

/* Eight bits each. Source: RFC 791, RFC 8200. */
static struct value byte4(const struct question *q, uint32_t at)
{
	if (at == 0)
		return (struct value){ .known = 0xff, .bits = 0x45 };
	if (at == 6) /* more fragments, and the offset's high bits; before them "don't fragment" */
		return (struct value){ .known = 0x3f, .foreign = 0xc0, .origin = at };
	if (at == 7)
		return (struct value){ .known = 0xff };
	if (at == 9)
		return (struct value){ .known = 0xff, .bits = q->protocol };
	return at >= 12 ? (struct value){ 0 } : (struct value){ .foreign = 0xff, .origin = at };
}

static struct value byte6(const struct question *q, uint32_t at)
{
	if (at == 0)
		return (struct value){ .known = 0xf0, .bits = 0x60, .foreign = 0x0f, .origin = at };
	if (at == 6)
		return (struct value){ .known = 0xff, .bits = q->protocol };
	return at >= 8 ? (struct value){ 0 } : (struct value){ .foreign = 0xff, .origin = at };
}

/* `bytes` at `at`, all within the header. */
static struct value packet_value(const struct question *q, uint32_t at, uint32_t bytes)
{
	struct value v = { .known = (uint32_t) ~((1ull << 8 * bytes) - 1) };

	for (uint32_t i = 0; i < bytes; i++) {
		struct value b = q->ip6 ? byte6(q, at + i) : byte4(q, at + i);
		uint32_t shift = 8 * (bytes - 1 - i);

		v.known |= b.known << shift;
		v.bits |= b.bits << shift;
		v.foreign |= b.foreign << shift;
		v.origin = b.foreign ? b.origin : v.origin;
	}
	return v;
}

static struct value join(struct value a, struct value b)
{
	struct value v = { .foreign = a.foreign | b.foreign, .origin = a.foreign ? a.origin : b.origin };

	v.known = a.known & b.known & ~(a.bits ^ b.bits);
	v.bits = a.bits & v.known;
	return v;
}

/* --- saying what cannot be told --- */

/* Names what lies at an offset. */
static const char *part_of_header(const struct question *q, uint32_t at)
{
	static const struct {
		uint32_t end;
		const char *name;
	} ip4[] = { { 1, "the header's length" }, { 2, "the type of service" }, { 4, "the total length" },
		    { 6, "the identification" },  { 8, "the fragment flags" },  { 9, "the time to live" },
		    { 12, "the checksum" } },
	  ip6[] = { { 4, "the traffic class or flow label" }, { 6, "the payload length" }, { 8, "the hop limit" } };

	for (size_t i = 0; i < (q->ip6 ? ARRAY_SIZE(ip6) : ARRAY_SIZE(ip4)); i++)
		if (at < (q->ip6 ? ip6[i].end : ip4[i].end))
			return q->ip6 ? ip6[i].name : ip4[i].name;
	return "what follows the ports";
}

static int refuse(const struct question *q, uint32_t at)
{
	const char *advice =
		"a socket tells its addresses, ports and protocol, so ask with host, net, port, portrange, "
		"ip, ip6, tcp, udp, and, or, not";

	if (at == ORIGIN_LENGTH)
		return filter_fault(q->fault, -EOPNOTSUPP, q->filter->text, 0,
				    "it asks for a packet's length, and here it is asked of sockets; %s", advice);
	return filter_fault(q->fault, -EOPNOTSUPP, q->filter->text, 0,
			    "it asks for byte %u of an IPv%d packet (%s), and here it is asked of sockets; %s", at,
			    q->ip6 ? 6 : 4, part_of_header(q, at), advice);
}

/* --- arithmetic --- */

static struct value shifted(struct value v, uint32_t by, bool left)
{
	struct value r = { .origin = v.origin };

	if (by >= 32)
		return constant(0);
	r.known = left ? v.known << by | ((1u << by) - 1) : v.known >> by | (uint32_t) ~(ALL >> by);
	r.bits = left ? v.bits << by : v.bits >> by;
	r.foreign = left ? v.foreign << by : v.foreign >> by;
	return r;
}

static struct value bitwise(uint16_t op, struct value a, struct value b)
{
	uint32_t zero = (a.known & ~a.bits) | (b.known & ~b.bits), one = a.bits | b.bits, both = a.known & b.known;
	struct value v = { .foreign = a.foreign | b.foreign, .origin = a.foreign ? a.origin : b.origin };

	v.known = op == BPF_AND ? both | zero : op == BPF_OR ? both | one : both;
	v.bits = (op == BPF_AND ? a.bits & b.bits : op == BPF_OR ? one : a.bits ^ b.bits) & v.known;
	v.foreign &= ~v.known;
	return v;
}

/* Of operands that are known whole. Division by 0 was seen to. */
static uint32_t computed(uint16_t op, uint32_t a, uint32_t b)
{
	return op == BPF_ADD ? a + b : op == BPF_SUB ? a - b : op == BPF_MUL ? a * b : op == BPF_DIV ? a / b : a % b;
}

static struct value arithmetic(uint16_t op, struct value a, struct value b)
{
	if (op == BPF_AND || op == BPF_OR || op == BPF_XOR)
		return bitwise(op, a, b);
	if ((op == BPF_LSH || op == BPF_RSH) && b.known == ALL)
		return shifted(a, b.bits, op == BPF_LSH);
	if (a.known == ALL && b.known == ALL && op != BPF_LSH && op != BPF_RSH)
		return constant(computed(op, a.bits, b.bits));
	if (a.foreign | b.foreign)
		return (struct value){ .foreign = ALL, .origin = a.foreign ? a.origin : b.origin };
	return (struct value){ 0 };
}

/* Returns 1 where the way ends: a division by 0. */
static int run_alu(const struct question *q, const struct sock_filter *in, struct state *s)
{
	struct value operand = BPF_SRC(in->code) == BPF_X ? s->x : constant(in->k);
	uint16_t op = BPF_OP(in->code);

	if (op == BPF_NEG) {
		s->a = arithmetic(BPF_SUB, constant(0), s->a);
		return 0;
	}
	if (op == BPF_DIV || op == BPF_MOD) {
		if (operand.foreign && !operand.bits)
			return refuse(q, operand.origin);
		if (operand.known == ALL && operand.bits == 0)
			return 1;
	}
	s->a = arithmetic(op, s->a, operand);
	return 0;
}

/* --- loads --- */

/* Returns 1 where the way ends: outside of any packet. */
static int run_packet_load(const struct question *q, const struct sock_filter *in, struct state *s)
{
	uint32_t bytes = filter_load_bytes(in->code);
	uint64_t at = in->k;
	struct value v;

	if (BPF_CLASS(in->code) == BPF_LD && BPF_MODE(in->code) == BPF_IND) {
		if (s->x.known != ALL)
			return filter_fault(q->fault, -EOPNOTSUPP, q->filter->text, 0,
					    "it computes where in the packet to look, and here it is asked of sockets, "
					    "which tell addresses, ports and protocol");
		at += s->x.bits;
	}
	if (at + bytes > q->header)
		return refuse(q, (uint32_t)MIN_OF(MAX_OF(at, (uint64_t)q->header), (uint64_t)ALL - 1));
	v = packet_value(q, (uint32_t)at, bytes);
	if (BPF_CLASS(in->code) == BPF_LD)
		s->a = v;
	else
		s->x = shifted(bitwise(BPF_AND, v, constant(0xf)), 2, true);
	return 0;
}

static int run_load(const struct question *q, const struct sock_filter *in, struct state *s)
{
	struct value *to = BPF_CLASS(in->code) == BPF_LD ? &s->a : &s->x;

	switch (BPF_MODE(in->code)) {
	case BPF_IMM:
		*to = constant(in->k);
		return 0;
	case BPF_MEM:
		*to = s->memory[in->k];
		return 0;
	case BPF_LEN:
		*to = (struct value){ .foreign = ALL, .origin = ORIGIN_LENGTH };
		return 0;
	default:
		return run_packet_load(q, in, s);
	}
}

/* --- decisions --- */

static void join_value(struct value *to, const struct value *from)
{
	*to = join(*to, *from);
}

static void go(const struct question *q, const struct state *s, uint32_t to)
{
	struct state *target = &q->states[to];

	if (!target->reached) {
		*target = *s;
		return;
	}
	join_value(&target->a, &s->a);
	join_value(&target->x, &s->x);
	for (int i = 0; i < BPF_MEMWORDS; i++)
		join_value(&target->memory[i], &s->memory[i]);
}

/* 1, 0, or -1: as the socket may have it. */
static int decided(uint16_t op, struct value a, struct value b)
{
	uint32_t least_a = a.bits, most_a = a.bits | ~a.known, least_b = b.bits, most_b = b.bits | ~b.known;

	switch (op) {
	case BPF_JEQ:
		if ((a.bits ^ b.bits) & a.known & b.known)
			return 0;
		return a.known == ALL && b.known == ALL ? 1 : -1;
	case BPF_JSET:
		return a.bits & b.bits ? 1 : most_a & most_b ? -1 : 0;
	case BPF_JGT:
		return least_a > most_b ? 1 : most_a <= least_b ? 0 : -1;
	default:
		return least_a >= most_b ? 1 : most_a < least_b ? 0 : -1;
	}
}

static int run_branch(const struct question *q, const struct sock_filter *in, const struct state *s, uint32_t next)
{
	struct value operand = BPF_SRC(in->code) == BPF_X ? s->x : constant(in->k);
	uint32_t foreign = s->a.foreign | operand.foreign;
	int holds = decided(BPF_OP(in->code), s->a, operand);

	if (BPF_OP(in->code) == BPF_JSET) /* a bit that the other side masks away does not matter */
		foreign &= (s->a.bits | ~s->a.known) & (operand.bits | ~operand.known);
	if (in->jt == in->jf)
		holds = 1;
	if (holds < 0 && foreign)
		return refuse(q, s->a.foreign ? s->a.origin : operand.origin);
	if (holds != 0)
		go(q, s, next + in->jt);
	if (holds <= 0)
		go(q, s, next + in->jf);
	return 0;
}

/* --- the whole --- */

static int run_instruction(const struct question *q, uint32_t i)
{
	const struct sock_filter *in = &q->filter->program[i];
	struct state s = q->states[i];
	int r = 0;

	switch (BPF_CLASS(in->code)) {
	case BPF_LD:
	case BPF_LDX:
		r = run_load(q, in, &s);
		break;
	case BPF_ST:
	case BPF_STX:
		s.memory[in->k] = BPF_CLASS(in->code) == BPF_ST ? s.a : s.x;
		break;
	case BPF_ALU:
		r = run_alu(q, in, &s);
		break;
	case BPF_MISC:
		if (BPF_MISCOP(in->code) == BPF_TAX)
			s.x = s.a;
		else
			s.a = s.x;
		break;
	case BPF_JMP:
		if (BPF_OP(in->code) != BPF_JA)
			return run_branch(q, in, &s, i + 1);
		go(q, &s, i + 1 + in->k);
		return 0;
	default:
		return in->code == (BPF_RET | BPF_A) && s.a.foreign ? refuse(q, s.a.origin) : 0;
	}
	if (r == 0)
		go(q, &s, i + 1);
	return MIN_OF(r, 0);
}

static int check_one(const struct filter *filter, uint8_t protocol, bool ip6, struct fault *fault)
{
	_cleanup_(free_pointer) struct state *states = calloc(filter->n, sizeof *states);
	struct question q = { .filter = filter,
			      .fault = fault,
			      .states = states,
			      .ip6 = ip6,
			      .protocol = protocol,
			      .header = ip6 ? SONDE_FILTER_IP6_BYTES : SONDE_FILTER_IP4_BYTES };
	int r = states ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	states[0] = (struct state){ .reached = true, .a = constant(0), .x = constant(0) };
	for (int i = 0; i < BPF_MEMWORDS; i++)
		states[0].memory[i] = constant(0);
	for (uint32_t i = 0; r == 0 && i < filter->n; i++)
		if (states[i].reached)
			r = run_instruction(&q, i);
	return r;
}

int filter_check_tuple(const struct filter *filter, const uint8_t *protocols, struct fault *fault)
{
	int r = 0;

	if (filter->link != FILTER_RAW)
		return filter_fault(fault, -EINVAL, filter->text, 0,
				    "it is about Ethernet, and a socket has no Ethernet header");
	for (; r == 0 && *protocols; protocols++)
		for (int ip6 = 0; r == 0 && ip6 < 2; ip6++)
			r = check_one(filter, *protocols, ip6, fault);
	return r;
}

uint32_t filter_header_of_tuple(struct sonde_filter_packet *ret, const struct sonde_filter_tuple *tuple)
{
	return sonde_filter_packet_of(ret, tuple);
}
