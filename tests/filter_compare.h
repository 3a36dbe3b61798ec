/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The comparison that test_filter and tool_filter make: a filter by chance over packets by chance, translated for each way of access, run by
 * the interpreter and, where it may, by this kernel. libpcap's bpf_filter() says what is right.
 */
#ifndef SONDE_TESTS_FILTER_COMPARE_H
#define SONDE_TESTS_FILTER_COMPARE_H

#include "filter_interpret.h"
#include "filter_kernel.h"
#include "filter_made.h"

#define COMPARE_PACKETS 24

struct comparison {
	uint64_t seed;
	struct kernel_packets *kernel;                  /* or NULL */
	struct made_packet packets[2][COMPARE_PACKETS]; /* [ethernet] */
	unsigned filters, refused, too_large, runs, kernel_runs, matches, differences;
	unsigned classic, translated; /* instructions */
};

static inline void compare_begin(struct comparison *c, uint64_t seed, struct kernel_packets *kernel)
{
	memset(c, 0, sizeof *c);
	c->seed = seed * 0x9e3779b97f4a7c15ull + 1;
	c->kernel = kernel;
}

static inline void compare_new_packets(struct comparison *c)
{
	for (int ethernet = 0; ethernet < 2; ethernet++)
		for (int i = 0; i < COMPARE_PACKETS; i++)
			made_packet(&c->packets[ethernet][i], &c->seed, ethernet);
}

static inline void compare_differs(struct comparison *c, const char *name, enum filter_access access, const char *by,
				   int packet, uint32_t wanted, uint32_t got)
{
	if (c->differences++ < 10)
		fprintf(stderr, "difference: '%s', access %d, packet %d: bpf_filter %u, %s %u\n", name, access, packet,
			wanted, by, got);
}

/* What is there of a packet for this way of access. */
static inline void compare_view(const struct made_packet *p, enum filter_access access, uint32_t *captured,
				uint32_t *length)
{
	*captured = access == FILTER_MEMORY ? MIN_OF(p->captured, SONDE_FILTER_BYTES) : p->captured;
	*length = access == FILTER_SKB ? p->captured : p->length;
}

static inline void compare_packet(struct comparison *c, const struct filter *filter, const char *name,
				  enum filter_access access, bool ethernet, const struct bpf_insn *insns, int n,
				  int program, int i)
{
	const struct made_packet *p = &c->packets[ethernet][i];
	uint32_t captured, length, wanted, got;
	int r;

	compare_view(p, access, &captured, &length);
	wanted = filter_match(filter, p->bytes, captured, length);
	got = interpret(insns, n, access, p->bytes, captured, length);
	c->runs++;
	c->matches += wanted != 0;
	if (got != wanted)
		compare_differs(c, name, access, "interpreter", i, wanted, got);
	/* The kernel makes no packet without a byte behind its Ethernet header, nor of IP without a whole IP header. */
	if (program < 0 || (access == FILTER_SKB && captured < (ethernet ? 14u + 40 : 1u)))
		return;
	r = kernel_run(c->kernel, program, access, ethernet, p->bytes, captured, length, &got);
	c->kernel_runs++;
	if (r < 0 || got != wanted)
		compare_differs(c, name, access, r < 0 ? strerror(-r) : "kernel", i, wanted, got);
}

static inline void compare_access(struct comparison *c, const struct filter *filter, const char *name,
				  enum filter_access access, bool ethernet)
{
	static struct bpf_insn insns[SONDE_FILTER_ROOM];
	static char log[1 << 20];
	int program = -1, n = filter_translate(filter, access, insns, SONDE_FILTER_ROOM, NULL);

	if (n < 0) {
		c->too_large++;
		return;
	}
	c->translated += (unsigned)n;
	if (c->kernel) {
		program = kernel_load(c->kernel, insns, (size_t)n, access, ethernet, log, sizeof log);
		if (program < 0) {
			size_t said = strlen(log);

			c->differences++;
			fprintf(stderr, "the kernel refuses '%s', access %d: %s\n%s\n", name, access,
				strerror(-program), log + (said > 2000 ? said - 2000 : 0));
		}
	}
	for (int i = 0; i < COMPARE_PACKETS; i++)
		compare_packet(c, filter, name, access, ethernet, insns, n, program, i);
	if (program >= 0)
		close(program);
}

static inline void compare_filter(struct comparison *c, const struct filter *filter, const char *name, bool ethernet)
{
	if (c->filters++ % 16 == 0)
		compare_new_packets(c);
	for (enum filter_access access = FILTER_SKB; access <= FILTER_MEMORY; access++)
		compare_access(c, filter, name, access, ethernet);
}

/* One filter by an expression. */
static inline void compare_expression(struct comparison *c)
{
	bool ethernet = made_below(&c->seed, 3) == 0;
	struct filter *filter = NULL;
	struct fault fault = { 0 };
	struct made_text t;

	made_expression(&t, &c->seed, ethernet);
	if (filter_compile(&filter, t.text, ethernet ? FILTER_ETHERNET : FILTER_RAW, &fault) < 0) {
		c->refused++;
		return;
	}
	compare_filter(c, filter, t.text, ethernet);
	filter_free(filter);
}

/* One filter of any instructions. */
static inline void compare_program(struct comparison *c)
{
	struct sock_filter program[MADE_PROGRAM_MAX + 2];
	struct filter *filter = NULL;
	struct fault fault = { 0 };
	uint32_t n = made_program(program, &c->seed);
	char name[40];

	snprintf(name, sizeof name, "program %u", c->filters);
	if (filter_of_program(&filter, program, n, FILTER_RAW, &fault) < 0) {
		c->differences++;
		fprintf(stderr, "%s: %s\n", name, fault.text);
		return;
	}
	c->classic += n;
	compare_filter(c, filter, name, false);
	filter_free(filter);
}

static inline void compare_print(const struct comparison *c, const char *what)
{
	printf("%s: %u filters (%u refused by libpcap, %u too large), %u runs, %u of them match, %u in the kernel, %u "
	       "differences\n",
	       what, c->filters, c->refused, c->too_large, c->runs, c->matches, c->kernel_runs, c->differences);
}

#endif
