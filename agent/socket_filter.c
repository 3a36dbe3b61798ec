/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two expressions become one, `(everyone's) and (the module's)`, so that the kernel runs one program, which libpcap has made short. Each
 * was compiled by itself before: parentheses that do not match in one cannot be closed by the other.
 */
#include "socket_filter.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "filter/filter.h"

#define COMMON_KEY "filter.socket"
#define PLACE      "sonde_socket_filter" /* of sonde/filter.bpf.h */
#define KEY_MAX    128

const struct sonde_option socket_filter_rows[] = {
	{ .type = SONDE_OPTION_TEXT,
	  .key = "filter",
	  .value = "\"\"",
	  .help = "of which sockets, beside what filter.socket says; empty: of all" },
	{ 0 },
};

/* What a configuration says of one module's sockets. */
struct expressions {
	const char *common, *own; /* NULL: none */
	char own_key[KEY_MAX];
};

static const char *expression(const struct config *config, const char *key)
{
	const char *text = config_text(config, key);

	return text[strspn(text, " \t\r\n")] ? text : NULL;
}

static struct expressions expressions_of(const struct config *config, const char *module)
{
	struct expressions e = { 0 };

	if (!config)
		return e;
	snprintf(e.own_key, sizeof e.own_key, "modules.%s.filter", module);
	e.common = expression(config, COMMON_KEY);
	e.own = expression(config, e.own_key);
	return e;
}

/* -E2BIG: together they are longer than an expression can be. */
static int join(const struct expressions *e, char ret[FILTER_TEXT_MAX + 1])
{
	int n;

	if (e->common && e->own)
		n = snprintf(ret, FILTER_TEXT_MAX + 1, "(%s) and (%s)", e->common, e->own);
	else
		n = snprintf(ret, FILTER_TEXT_MAX + 1, "%s", e->common ? e->common : e->own ? e->own : "");
	return n > (int)FILTER_TEXT_MAX ? -E2BIG : 0;
}

static int compile(struct filter **ret, const char *text, struct fault *fault)
{
	static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_UDP, 0 };
	struct filter *filter = NULL;
	int r = filter_compile(&filter, text, FILTER_RAW, fault);

	if (r == 0)
		r = filter_check_tuple(filter, protocols, fault);
	if (r < 0)
		filter_free(filter);
	else
		*ret = filter;
	return r;
}

static void free_filter(struct filter **filter)
{
	filter_free(*filter);
}

static int check_one(const struct config *config, const char *key, struct fault *fault)
{
	_cleanup_(free_filter) struct filter *filter = NULL;
	const char *text = expression(config, key);
	struct fault why = { 0 };
	int r = text ? compile(&filter, text, &why) : 0;

	return r < 0 ? fault_set(fault, r, "%.160s: %s: %s", config_origin(config, key), key,
				 why.text[0] ? why.text : strerror(-r))
		     : 0;
}

/* The two of one module: what no socket can fulfil together would be seen as silence. */
static int check_both(const struct config *config, const char *module, struct fault *fault)
{
	_cleanup_(free_filter) struct filter *filter = NULL;
	struct expressions e = expressions_of(config, module);
	struct fault why = { 0 };
	char text[FILTER_TEXT_MAX + 1];
	int r = join(&e, text);

	if (r < 0)
		return fault_set(fault, r,
				 "%.160s: %s and " COMMON_KEY " have more than %u bytes together; shorten one",
				 config_origin(config, e.own_key), e.own_key, FILTER_TEXT_MAX);
	if (!e.common || !e.own)
		return 0;
	r = compile(&filter, text, &why);
	return r < 0 ? fault_set(fault, r, "%.160s: %s together with " COMMON_KEY ": %s",
				 config_origin(config, e.own_key), e.own_key, why.text[0] ? why.text : strerror(-r))
		     : 0;
}

int socket_filter_check(const struct config *config, struct loader *loader, struct fault *fault)
{
	int r = check_one(config, COMMON_KEY, fault);

	for (size_t i = 0; i < loader_count(loader) && r == 0; i++) {
		const struct module *m = loader_module(loader, i);
		char key[KEY_MAX];

		if (!module_filters_sockets(m))
			continue;
		snprintf(key, sizeof key, "modules.%s.filter", module_name(m));
		r = check_one(config, key, fault);
		if (r == 0)
			r = check_both(config, module_name(m), fault);
	}
	return r;
}

bool socket_filter_wanted(const struct config *config, const char *module)
{
	struct expressions e = expressions_of(config, module);

	return e.common || e.own;
}

int socket_filter_place(const struct config *config, const char *module, void *image, size_t size, struct fault *fault)
{
	_cleanup_(free_filter) struct filter *filter = NULL;
	_cleanup_(free_pointer) struct bpf_insn *insns = calloc(SONDE_FILTER_ROOM, sizeof *insns);
	struct expressions e = expressions_of(config, module);
	char text[FILTER_TEXT_MAX + 1];
	int r = join(&e, text), n;

	if (!insns)
		return fault_set(fault, -ENOMEM, "out of memory");
	if (r == 0)
		r = compile(&filter, text, fault);
	if (r < 0)
		return r;
	n = filter_translate(filter, FILTER_MEMORY, insns, SONDE_FILTER_ROOM, fault);
	return n < 0 ? n : filter_place(image, size, PLACE, insns, (size_t)n, fault);
}
