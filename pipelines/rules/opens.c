/* SPDX-License-Identifier: Apache-2.0 */
/* Which files' opens rules ask for: an open for reading is told of few files only, and by these it can be known of which. */
#include "rules/load_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct asking {
	const struct rules *rules;
	enum rules_opens which;
	uint32_t rule;
	void (*take)(void *context, uint32_t rule, const struct rule_path *path);
	void *context;
};

/* All reads of a host below one of the folders that make up a system are more than one wants to be told. */
static bool is_narrow(const struct asking *a, const char *folder, uint32_t length)
{
	static const char *const narrow[] = { "/root", "/boot" };

	if (a->which == RULES_OPENS)
		return length > 1;
	for (size_t i = 0; i < ARRAY_SIZE(narrow); i++)
		if (strlen(narrow[i]) == length && memcmp(narrow[i], folder, length) == 0)
			return true;
	return length > 1 && memchr(folder + 1, '/', length - 1);
}

static uint32_t without_slash(const struct need *need)
{
	return need->length > 1 && need->text[need->length - 1] == '/' ? need->length - 1 : need->length;
}

/* The folder that all begin with that begin with the text. */
static uint32_t folder_of(const struct need *need)
{
	const char *slash = memrchr(need->text, '/', need->length);

	return slash ? (uint32_t)(slash - need->text) : 0;
}

static bool is_field(const struct asking *a, const struct need *need, const char *name)
{
	const struct rule_ref *ref = &a->rules->program->refs[need->ref];

	return ref->field && strcmp(ref->field->name, name) == 0;
}

/* What the field has is the folder of the file. */
static bool is_of_folders(const struct asking *a, const struct need *need)
{
	return is_field(a, need, "fd.directory");
}

static bool is_of_files(const struct asking *a, const struct need *need)
{
	return is_field(a, need, "fd.name") || is_field(a, need, "fs.path.name");
}

static bool names_folder(const struct asking *a, const struct need *need)
{
	return is_of_folders(a, need) || need->kind == NEED_PREFIX || need->kind == NEED_BELOW;
}

static uint32_t named(const struct need *need)
{
	return need->kind == NEED_PREFIX ? folder_of(need) : without_slash(need);
}

/* Whether a file can be named by this. What is no path is that of no file. */
static bool names_file(const void *context, const struct need *need)
{
	const struct asking *a = context;

	if (!(is_of_folders(a, need) || is_of_files(a, need)) || need->kind == NEED_SUFFIX || need->kind == NEED_PART)
		return false;
	if (need->length == 0 || need->text[0] != '/')
		return need->kind == NEED_EXACT;
	return !names_folder(a, need) || is_narrow(a, need->text, named(need));
}

static void take_need(const struct asking *a, const struct need *need)
{
	struct rule_path path = { need->text, named(need), false };

	if (need->length == 0 || need->text[0] != '/')
		return;
	if (need->kind == NEED_BELOW && !is_of_folders(a, need))
		a->take(a->context, a->rule, &path);
	path.folder = names_folder(a, need);
	a->take(a->context, a->rule, &path);
}

/* By the fields that name files by their paths. */
static void ask_of(struct asking *a, struct need *room)
{
	uint32_t n = plan_needs_that(a->rules->program, a->rules->rules[a->rule].condition.root, names_file, a, room);

	if (n == 0)
		a->take(a->context, a->rule, NULL);
	for (uint32_t i = 0; i < n; i++)
		take_need(a, &room[i]);
}

static bool asks(const struct asking *a, const struct event_types *types, const char *category)
{
	const struct rules *rules = a->rules;
	const struct rule *r = &rules->rules[a->rule];

	for (unsigned i = 0; i < event_types_known(); i++)
		if (event_types_have(types, i) && event_types_have(&r->info.types, i) &&
		    (a->which == RULES_READS ? plan_may_hold_for_read : plan_may_hold)(
			    rules->program, r->condition.root, event_type_name(i), category))
			return true;
	return false;
}

/* A rule that names no type is about what there is. */
static bool names_types(const struct rule_info *info)
{
	return event_types_count(&info->types) < event_types_known();
}

int rules_opens(const struct rules *rules, enum rules_opens which, const struct event_types *types,
		const char *category, void (*take)(void *context, uint32_t rule, const struct rule_path *path),
		void *context)
{
	struct asking a = { .rules = rules, .which = which, .take = take, .context = context };
	struct need *room = calloc(NEEDS_MAX, sizeof *room);

	if (!room)
		return -ENOMEM;
	for (uint32_t i = 0; i < rules->n_untyped; i++) {
		a.rule = rules->untyped[i];
		if ((which == RULES_OPENS || names_types(&rules->rules[a.rule].info)) && asks(&a, types, category))
			ask_of(&a, room);
	}
	free(room);
	return 0;
}
