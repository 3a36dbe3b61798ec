/* SPDX-License-Identifier: Apache-2.0 */
/* Which files' reads rules ask for: an open for reading is told of few files only, and by these it can be known of which. */
#include "rules/load_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct asking {
	const struct rules *rules;
	uint32_t rule;
	bool of_folders; /* what the field has is the folder of the file */
	void (*take)(void *context, uint32_t rule, const struct rule_path *path);
	void *context;
};

/* All reads of a host below one of the folders that make up a system are more than one wants to be told. */
static bool is_narrow(const char *folder, uint32_t length)
{
	static const char *const narrow[] = { "/root", "/boot" };

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

static bool names_folder(const struct asking *a, const struct need *need)
{
	return a->of_folders || need->kind == NEED_PREFIX || need->kind == NEED_BELOW;
}

static uint32_t named(const struct need *need)
{
	return need->kind == NEED_PREFIX ? folder_of(need) : without_slash(need);
}

/* Whether a file can be named by this. What is no path is that of no file. */
static bool names_file(const void *context, const struct need *need)
{
	const struct asking *a = context;

	if (need->kind == NEED_SUFFIX || need->kind == NEED_PART)
		return false;
	if (need->length == 0 || need->text[0] != '/')
		return need->kind == NEED_EXACT;
	return !names_folder(a, need) || is_narrow(need->text, named(need));
}

static void take_need(const struct asking *a, const struct need *need)
{
	struct rule_path path = { need->text, named(need), false };

	if (need->length == 0 || need->text[0] != '/')
		return;
	if (need->kind == NEED_BELOW && !a->of_folders)
		a->take(a->context, a->rule, &path);
	path.folder = names_folder(a, need);
	a->take(a->context, a->rule, &path);
}

static bool is_field(const struct rule_ref *ref, const char *name)
{
	return ref->field && strcmp(ref->field->name, name) == 0;
}

/* By the first field that names files by their paths. */
static void ask_of(struct asking *a, struct need *room)
{
	const struct program *program = a->rules->program;
	uint32_t root = a->rules->rules[a->rule].condition.root, n = 0;

	for (uint32_t i = 0; i < program->n_refs && n == 0; i++) {
		const struct rule_ref *ref = &program->refs[i];

		a->of_folders = is_field(ref, "fd.directory");
		if (a->of_folders || is_field(ref, "fd.name") || is_field(ref, "fs.path.name"))
			n = plan_needs_that(program, root, i, names_file, a, room);
	}
	if (n == 0)
		a->take(a->context, a->rule, NULL);
	for (uint32_t i = 0; i < n; i++)
		take_need(a, &room[i]);
}

static bool asks(const struct rules *rules, uint32_t rule, const struct event_types *types, const char *category)
{
	const struct rule *r = &rules->rules[rule];

	for (unsigned i = 0; i < event_types_known(); i++)
		if (event_types_have(types, i) && event_types_have(&r->info.types, i) &&
		    plan_may_hold_for_read(rules->program, r->condition.root, event_type_name(i), category))
			return true;
	return false;
}

/* A rule that names no type is about what there is. */
static bool names_types(const struct rule_info *info)
{
	return event_types_count(&info->types) < event_types_known();
}

int rules_reads(const struct rules *rules, const struct event_types *types, const char *category,
		void (*take)(void *context, uint32_t rule, const struct rule_path *path), void *context)
{
	struct asking a = { .rules = rules, .take = take, .context = context };
	struct need *room = calloc(NEEDS_MAX, sizeof *room);

	if (!room)
		return -ENOMEM;
	for (uint32_t i = 0; i < rules->n_untyped; i++) {
		a.rule = rules->untyped[i];
		if (names_types(&rules->rules[a.rule].info) && asks(rules, a.rule, types, category))
			ask_of(&a, room);
	}
	free(room);
	return 0;
}
