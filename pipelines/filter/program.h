/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef SONDE_FILTER_PROGRAM_H
#define SONDE_FILTER_PROGRAM_H

#include "filter/filter.h"

/* Invariant: `program` passed filter_check_program(). */
struct filter {
	struct sock_filter *program;
	uint32_t n;
	enum filter_link link;
	char *text; /* the expression, for messages */
};

/* "filter 'EXPRESSION': ..." into the fault; long expressions are cut. */
int filter_fault(struct fault *fault, int error, const char *expression, unsigned column, const char *format, ...)
	_printf_(5, 6);

int filter_check_program(const struct sock_filter *program, size_t n, const char *text, struct fault *fault);

/* What a load of classic BPF reads. */
static inline uint32_t filter_load_bytes(uint16_t code)
{
	return BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
}

/* Checks that every word of the expression is one of the language, a number or an address, so that libpcap looks up no name, and
 * writes services as numbers into a fresh text. */
int filter_words(char **ret, const char *expression, struct fault *fault);

#endif
