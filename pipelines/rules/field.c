/* SPDX-License-Identifier: Apache-2.0 */
/* Names of fields, looked up. The longest name in the table wins; what is behind it is its argument, where it takes one. */
#include "rules/field.h"

#include <errno.h>
#include <string.h>

#define NAME_MAX_BYTES 128u
/* A field's name has at most this many parts: proc.exe_ino.ctime_duration_proc_start has three. */
#define PARTS_MAX 6u

static int compare(const void *name, const void *field)
{
	return strcmp(name, ((const struct rule_field *)field)->name);
}

const struct rule_field *rule_field_of(const char *name)
{
	return bsearch(name, rule_fields, n_rule_fields, sizeof rule_fields[0], compare);
}

const char *rule_type_name(enum rule_type type)
{
	static const char *const names[] = { "text",    "bytes",   "number", "fraction", "true or false",
					     "address", "network", "port",   "any" };

	return names[type];
}

const char *rule_origin_name(enum rule_origin origin)
{
	static const char *const names[] = { "the event",
					     "the process",
					     "the container",
					     "the container runtime, which is not asked",
					     "the users and groups of the host",
					     "nothing" };

	return names[origin];
}

/* The first `n` steps as one name. False: too long, or one of them stands in brackets. */
static bool join(const struct rule_step *steps, uint32_t n, char *room, size_t size)
{
	size_t used = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (steps[i].bracket || used + steps[i].length + 2 > size)
			return false;
		if (i)
			room[used++] = '.';
		memcpy(room + used, steps[i].text, steps[i].length);
		used += steps[i].length;
	}
	room[used] = '\0';
	return used > 0 && strlen(room) == used;
}

/* The longest name of the table that the steps begin with; `ret_used`: how many steps it took. */
static const struct rule_field *longest(const struct rule_step *steps, uint32_t n_steps, uint32_t *ret_used)
{
	char room[NAME_MAX_BYTES];

	for (uint32_t n = MIN_OF(n_steps, PARTS_MAX); n > 0; n--) {
		const struct rule_field *field = join(steps, n, room, sizeof room) ? rule_field_of(room) : NULL;

		if (field) {
			*ret_used = n;
			return field;
		}
	}
	return NULL;
}

static const char *nearest_field(const char *name)
{
	const char *names[512];
	size_t n = 0;

	for (size_t i = 0; i < n_rule_fields && n < ARRAY_SIZE(names); i++)
		names[n++] = rule_fields[i].name;
	return nearest_name(name, names, n);
}

static int refuse_unknown(const struct rule_step *steps, uint32_t n_steps, uint32_t *ret_at, struct fault *fault)
{
	char name[NAME_MAX_BYTES] = "";
	const char *near = NULL;
	uint32_t n = n_steps;

	while (n > 0 && !join(steps, n, name, sizeof name))
		n--;
	if (n > 0)
		near = nearest_field(name);
	*ret_at = steps[0].at;
	if (near)
		return fault_set(fault, -EINVAL, "unknown field '%.100s'; did you mean '%s'?", name, near);
	return fault_set(fault, -EINVAL, "unknown field '%.100s'; 'sonde rules fields' lists all",
			 n > 0 ? name : "of this name");
}

static bool is_number(const struct rule_step *step)
{
	uint32_t i = 0;

	while (i < step->length && step->text[i] >= '0' && step->text[i] <= '9')
		i++;
	return step->length > 0 && step->length < 20 && i == step->length;
}

/* Everything behind the name, as one argument in `room`: `evt.arg.flags`, `k8s.pod.label.app.name`, `evt.arg[2]`. */
static int take_argument(const struct rule_field *field, const struct rule_step *steps, uint32_t n, char *room,
			 size_t size, struct fault *fault)
{
	if (n == 1 && steps->bracket) {
		if (!(field->flags & (RULE_TAKES_INDEX | RULE_TAKES_NAME)))
			return fault_set(fault, -EINVAL, "'%s' takes no argument in brackets", field->name);
		if (!(field->flags & RULE_TAKES_NAME) && !is_number(steps))
			return fault_set(fault, -EINVAL, "'%s' takes a number in brackets, found '%.*s'", field->name,
					 (int)MIN_OF(steps->length, 40u), steps->text);
		if (steps->length == 0 || steps->length >= size)
			return fault_set(fault, -EINVAL, "the argument of '%s' has 1 to %zu bytes", field->name,
					 size - 1);
		memcpy(room, steps->text, steps->length);
		room[steps->length] = '\0';
		return 0;
	}
	if (!(field->flags & RULE_TAKES_DOT) || !join(steps, n, room, size))
		return fault_set(fault, -EINVAL, "unknown field: '%s' has nothing of the name behind it", field->name);
	return 0;
}

int rule_field_find(const struct rule_step *steps, uint32_t n_steps, const struct rule_field **ret,
		    const struct rule_step **ret_argument, char *room, size_t size, uint32_t *ret_at,
		    struct fault *fault)
{
	uint32_t used = 0;
	const struct rule_field *field = longest(steps, n_steps, &used);
	int r;

	if (!field)
		return refuse_unknown(steps, n_steps, ret_at, fault);
	if (used < n_steps && !steps[used].bracket && !(field->flags & RULE_TAKES_DOT))
		return refuse_unknown(steps, n_steps, ret_at, fault);
	*ret_argument = NULL;
	*ret_at = used < n_steps ? steps[used].at : steps[0].at;
	if (used < n_steps) {
		r = take_argument(field, steps + used, n_steps - used, room, size, fault);
		if (r < 0)
			return r;
		*ret_argument = &steps[used];
	} else if (field->flags & RULE_NEEDS_ARGUMENT) {
		return fault_set(fault, -EINVAL, "'%s' needs an argument, as in '%s%s'", field->name, field->name,
				 field->flags & RULE_TAKES_DOT ? ".name" : "[0]");
	}
	*ret = field;
	return 0;
}
