/* SPDX-License-Identifier: Apache-2.0 */
/* An expression becomes a filter: its words are checked, libpcap compiles it, and what libpcap gives is checked again. */
#include "filter/classic.h"
#include "filter/program.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define SHOWN_MAX 100 /* characters of an expression in a message */

int filter_fault(struct fault *fault, int error, const char *expression, unsigned column, const char *format, ...)
{
	size_t length = expression ? strlen(expression) : 0;
	char what[400], where[24] = "";
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	if (column)
		snprintf(where, sizeof where, "column %u: ", column);
	if (!expression)
		return fault_at(fault, error, 0, column, "filter: %s%s", where, what);
	return fault_at(fault, error, column ? 1 : 0, column, "filter '%.*s%s': %s%s",
			(int)MIN_OF(length, (size_t)SHOWN_MAX), expression, length > SHOWN_MAX ? "..." : "", where,
			what);
}

/* Takes over `program`. */
static int filter_make(struct filter **ret, struct sock_filter *program, size_t n, const char *text,
		       enum filter_link link, struct fault *fault)
{
	struct filter *filter = NULL;
	int r = filter_check_program(program, n, text, fault);

	if (r == 0) {
		filter = malloc(sizeof *filter);
		r = filter ? 0 : -ENOMEM;
	}
	if (r < 0) {
		free(program);
		return r;
	}
	*filter = (struct filter){ .program = program, .n = (uint32_t)n, .link = link };
	filter->text = text ? strdup(text) : NULL;
	if (text && !filter->text) {
		filter_free(filter);
		return -ENOMEM;
	}
	*ret = filter;
	return 0;
}

/* What the person may do about the most usual of libpcap's reasons. */
static const char *advice(const char *reason)
{
	if (strstr(reason, "syntax error"))
		return "; the language is that of pcap-filter(7); what is a word of it and a name as well is written "
		       "with "
		       "a backslash, as in 'ip proto \\tcp'";
	if (strstr(reason, "rejects all packets"))
		return "; no packet could match it, as with 'tcp and udp'; did you mean 'or'?";
	if (strstr(reason, "netmask"))
		return "; write the address itself: 'dst host 10.0.0.255'";
	return "";
}

int filter_compile(struct filter **ret, const char *expression, enum filter_link link, struct fault *fault)
{
	_cleanup_(free_pointer) char *words = NULL;
	void *program = NULL;
	char reason[256] = "";
	size_t n = 0;
	int r;

	if (strnlen(expression, FILTER_TEXT_MAX + 1) > FILTER_TEXT_MAX)
		return filter_fault(fault, -E2BIG, expression, 0, "it is longer than %u bytes", FILTER_TEXT_MAX);
	r = filter_words(&words, expression, fault);
	if (r < 0)
		return r;
	r = classic_compile(&program, &n, words, link == FILTER_ETHERNET, reason, sizeof reason);
	if (r == -EINVAL)
		return filter_fault(fault, r, expression, 0, "%s%s", reason, advice(reason));
	return r < 0 ? r : filter_make(ret, program, n, expression, link, fault);
}

int filter_of_program(struct filter **ret, const struct sock_filter *program, size_t n, enum filter_link link,
		      struct fault *fault)
{
	struct sock_filter *copy;
	int r = filter_check_program(program, n, NULL, fault);

	if (r < 0)
		return r;
	copy = malloc(n * sizeof *copy);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, program, n * sizeof *copy);
	return filter_make(ret, copy, n, NULL, link, fault);
}

void filter_free(struct filter *filter)
{
	if (!filter)
		return;
	free(filter->program);
	free(filter->text);
	free(filter);
}

uint32_t filter_match(const struct filter *filter, const void *packet, uint32_t captured, uint32_t length)
{
	return classic_run(filter->program, packet, captured, length);
}
