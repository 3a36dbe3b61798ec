/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conditions in the order of their cost: the type (the record's first key), the time, then the expression.
 * Most globs that people write are a whole type or `class.*`: these are compared, and only others go to fnmatch(3).
 */
#include "selection.h"

#include "encode/record.h"
#include "rules/expr.h"
#include "when.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#define TYPE_MAX 255

struct glob {
	enum { GLOB_WHOLE, GLOB_PREFIX, GLOB_PATTERN } kind;
	const char *text; /* in selection.types */
	size_t length;    /* of a prefix: without its star */
};

struct selection {
	char *types;
	struct glob *globs;
	size_t n_globs;
	struct expr *where;
	uint64_t since, until;
	bool timed;
};

static int add_globs(struct selection *s, const char *types)
{
	size_t n = 1;
	char *rest, *glob;

	for (const char *c = types; *c; c++)
		n += *c == ',';
	s->types = strdup(types);
	s->globs = calloc(n, sizeof *s->globs);
	if (!s->types || !s->globs)
		return -ENOMEM;
	rest = s->types;
	while ((glob = strsep(&rest, ","))) {
		struct glob *g = &s->globs[s->n_globs++];

		glob += strspn(glob, " ");
		*g = (struct glob){ .text = glob, .length = strcspn(glob, "*?[\\") };
		if (!*glob)
			return -EINVAL;
		if (!glob[g->length])
			g->kind = GLOB_WHOLE;
		else if (strcmp(glob + g->length, "*") == 0)
			g->kind = GLOB_PREFIX;
		else
			g->kind = GLOB_PATTERN;
	}
	return 0;
}

static int set_moment(const char *option, const char *text, uint64_t *ret, struct fault *fault)
{
	int r = parse_when(text, now_realtime_ns(), ret);

	if (r == -EINVAL)
		return fault_set(
			fault, r,
			"%s: '%s' is no time; write 10s or 5m (ago), 2026-11-23T08:00:00Z, or seconds since the epoch",
			option, text);
	if (r < 0)
		return fault_set(fault, r, "%s: '%s' is out of range", option, text);
	return 0;
}

static int set_conditions(struct selection *s, const struct selection_options *options, struct fault *fault)
{
	struct fault inner;
	int r = 0;

	if (options->types)
		r = add_globs(s, options->types);
	if (r < 0)
		return fault_set(fault, r, "--type: expected names or patterns such as process.*, separated by commas");
	if (options->where) {
		r = expr_compile(&s->where, options->where, &inner);
		if (r < 0)
			return fault_at(fault, r, inner.line, inner.column, "--where: %s", inner.text);
	}
	s->until = UINT64_MAX;
	s->timed = options->since || options->until;
	if (options->since)
		r = set_moment("--since", options->since, &s->since, fault);
	if (r == 0 && options->until)
		r = set_moment("--until", options->until, &s->until, fault);
	return r;
}

int selection_make(struct selection **ret, const struct selection_options *options, struct fault *fault)
{
	struct selection *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return fault_set(fault, -ENOMEM, "out of memory");
	r = set_conditions(s, options, fault);
	if (r < 0) {
		selection_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void selection_free(struct selection *s)
{
	if (!s)
		return;
	expr_free(s->where);
	free(s->globs);
	free(s->types);
	free(s);
}

static bool pattern_fits(const struct glob *g, const char *type, size_t length)
{
	char text[TYPE_MAX + 1];

	if (length > TYPE_MAX)
		return false;
	memcpy(text, type, length);
	text[length] = '\0';
	return fnmatch(g->text, text, 0) == 0;
}

static bool type_fits(const struct selection *s, const void *map, size_t size)
{
	const char *type;
	size_t length;

	if (record_type(map, size, &type, &length) < 0)
		return false;
	for (size_t i = 0; i < s->n_globs; i++) {
		const struct glob *g = &s->globs[i];

		if (g->kind == GLOB_PATTERN) {
			if (pattern_fits(g, type, length))
				return true;
		} else if (length >= g->length && memcmp(type, g->text, g->length) == 0 &&
			   (g->kind == GLOB_PREFIX || length == g->length)) {
			return true;
		}
	}
	return false;
}

static bool time_fits(const struct selection *s, const void *map, size_t size)
{
	struct value ts;

	return record_get(map, size, "ts", &ts) == 0 && ts.kind == VALUE_UINT && ts.u >= s->since && ts.u <= s->until;
}

bool selection_match(const struct selection *s, const void *map, size_t size)
{
	if (s->n_globs && !type_fits(s, map, size))
		return false;
	if (s->timed && !time_fits(s, map, size))
		return false;
	return !s->where || expr_match(s->where, map, size);
}
