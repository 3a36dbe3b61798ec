/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool_filter COUNT [SEED]: COUNT filters by chance and as many programs, each for every way of access, loaded into this
 * kernel and run there over packets by chance, beside libpcap. Exits with 1 when the kernel refuses one or any result differs.
 */
#include "filter_compare.h"

int main(int argc, char **argv)
{
	static struct comparison expressions, programs;
	unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	struct kernel_packets kernel;
	int r;

	if (!count || argc > 3)
		return fprintf(stderr, "usage: tool_filter COUNT [SEED]\n"), 2;
	r = kernel_open(&kernel);
	if (r < 0)
		return fprintf(stderr, "tool_filter: no eBPF here: %s\n", strerror(-r)), 1;
	compare_begin(&expressions, seed, &kernel);
	compare_begin(&programs, seed + 1, &kernel);
	for (unsigned i = 0; i < count; i++) {
		compare_expression(&expressions);
		compare_program(&programs);
	}
	compare_print(&expressions, "expressions");
	compare_print(&programs, "programs");
	kernel_close(&kernel);
	return expressions.differences + programs.differences ? 1 : 0;
}
