/* SPDX-License-Identifier: Apache-2.0 */
/* A set of rules: made of files, matched, written, forgotten. */
#include "rules/load_state.h"

#include <errno.h>
#include <string.h>

static const struct yaml_bounds file_bounds = { .depth = 16, .nodes = 262144, .documents = true };

/* --- loading --- */

static void free_definition(struct definition *d)
{
	load_forget_exceptions(d);
	free(d->items.at);
	free(d->conditions.at);
	free(d->outputs.at);
	free(d->descs.at);
	free(d->tags.at);
	source_text_free(&d->text);
	source_text_free(&d->output_text);
	syntax_free(d->syntax);
	free(d->words);
}

void rules_free(struct rules *rules)
{
	if (!rules)
		return;
	for (uint32_t i = 0; i < rules->n_definitions; i++)
		free_definition(&rules->definitions[i]);
	for (uint32_t i = 0; rules->rules && i < rules->n_rules; i++)
		syntax_free(rules->rules[i].syntax);
	for (size_t i = 0; i < rules->n_files; i++) {
		yaml_tree_free(rules->trees[i]);
		free((char *)rules->files[i].label);
	}
	program_free(rules->program);
	free(rules->definitions);
	free(rules->rules);
	free(rules->files);
	free(rules->trees);
	free(rules->names);
	free(rules->order);
	free(rules->untyped);
	free(rules);
}

static void destroy(struct rules **rules)
{
	rules_free(*rules);
}

static struct rules *make_rules(size_t n_files)
{
	struct rules *rules = calloc(1, sizeof *rules);

	if (!rules)
		return NULL;
	rules->files = calloc(n_files + 1, sizeof *rules->files);
	rules->trees = calloc(n_files + 1, sizeof(struct yaml_tree *));
	if (!rules->files || !rules->trees || program_new(&rules->program) < 0) {
		rules_free(rules);
		return NULL;
	}
	return rules;
}

static int read_file(struct loader *l, const struct rules_file *file)
{
	struct rules *rules = l->rules;
	struct rules_file *copy = &rules->files[rules->n_files];
	const struct yaml_node *documents;
	struct fault fault;
	int r;

	*copy = (struct rules_file){ strdup(file->label), file->text, file->size };
	if (!copy->label)
		return fault_set(l->fault, -ENOMEM, "out of memory");
	rules->n_files++;
	if (file->size > RULES_FILE_MAX) {
		load_report_at(l, RULES_ERROR, file->label, 1, 1, "larger than %u MiB", RULES_FILE_MAX >> 20);
		return 0;
	}
	r = yaml_documents_parse(&rules->trees[rules->n_files - 1], &documents, file->text, file->size, copy->label,
				 &file_bounds, &fault);
	if (r == -ENOMEM)
		return fault_set(l->fault, -ENOMEM, "out of memory");
	if (r < 0) {
		load_report_placed(l, RULES_ERROR, fault.text);
		return 0;
	}
	l->file = copy;
	return load_documents(l, documents);
}

/* What the loader made belongs to the rules, whether all went well or not. */
static void hand_over(struct loader *l)
{
	struct rules *rules = l->rules;

	rules->definitions = l->definitions;
	rules->n_definitions = l->n_definitions;
	rules->names = l->names;
	rules->names_mask = l->names_mask;
	for (size_t i = 0; i < rules->n_files; i++)
		rules->files[i].text = NULL;
}

int rules_load(struct rules **ret, const struct rules_file *files, size_t n, const struct rules_options *options,
	       struct fault *fault)
{
	_cleanup_(destroy) struct rules *rules = make_rules(n);
	struct fault own;
	struct loader l = { .options = options, .fault = fault ? fault : &own, .rules = rules };
	int r = 0;

	if (!rules)
		return fault_set(fault, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n && r == 0; i++)
		r = read_file(&l, &files[i]);
	if (r == 0)
		r = load_build(&l);
	hand_over(&l);
	if (r < 0)
		return r;
	if (l.n_errors > 0)
		return -EINVAL;
	*ret = rules;
	rules = NULL;
	return 0;
}

/* --- what there is --- */

uint32_t rules_count(const struct rules *rules)
{
	return rules->n_rules;
}

const struct rule_info *rules_at(const struct rules *rules, uint32_t rule)
{
	return &rules->rules[rule].info;
}

int64_t rules_find(const struct rules *rules, const char *name)
{
	for (uint32_t i = 0; i < rules->n_rules; i++)
		if (strcmp(rules->rules[i].info.name, name) == 0)
			return i;
	return -1;
}

uint32_t rules_refs(const struct rules *rules)
{
	return rules->program->n_refs;
}

const struct rule_ref *rules_ref(const struct rules *rules, uint32_t slot)
{
	return &rules->program->refs[slot];
}

void rules_event_types(const struct rules *rules, struct event_types *ret)
{
	memset(ret, 0, sizeof *ret);
	for (uint32_t i = 0; i < rules->n_rules; i++) {
		const struct rule_info *info = &rules->rules[i].info;

		for (unsigned w = 0; info->enabled && !info->skipped && w < EVENT_TYPE_WORDS; w++)
			ret->words[w] |= info->types.words[w];
	}
}

const char *rules_lack(const struct rules *rules, uint32_t rule)
{
	const struct rule_ref *ref = plan_lacks(rules->program, rules->rules[rule].condition.root);

	return ref ? ref->name : NULL;
}

/* --- matching --- */

/* The rules that an event of this type can fulfil. */
static const uint32_t *candidates(const struct rules *rules, struct rule_event *event, uint32_t *ret_n)
{
	struct rule_value value = { 0 };
	int type = -1;

	if (event->get(event, &rules->program->refs[rules->type_slot], &value) && value.kind == RULE_TEXT)
		type = event_type_of(value.text, value.length);
	if (type < 0) {
		*ret_n = rules->n_untyped;
		return rules->untyped;
	}
	*ret_n = rules->by_type[type + 1] - rules->by_type[type];
	return &rules->order[rules->by_type[type]];
}

uint32_t rules_match(const struct rules *rules, struct rule_event *event, uint32_t *matched, uint32_t max)
{
	uint32_t n, found = 0;
	const uint32_t *rule = candidates(rules, event, &n);

	for (uint32_t i = 0; i < n && found < max; i++)
		if (program_holds(rules->program, &rules->rules[rule[i]].condition, event))
			matched[found++] = rule[i];
	return found;
}

static bool can_hold(const struct rules *rules, uint32_t rule, const struct event_types *types, const char *category)
{
	const struct rule *r = &rules->rules[rule];

	for (unsigned i = 0; i < event_types_known(); i++)
		if (event_types_have(types, i) && event_types_have(&r->info.types, i) &&
		    plan_may_hold(rules->program, r->condition.root, event_type_name(i), category))
			return true;
	return false;
}

uint32_t rules_of_types(const struct rules *rules, const struct event_types *types, const char *category,
			uint32_t *room)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < rules->n_untyped; i++)
		if (can_hold(rules, rules->untyped[i], types, category))
			room[n++] = rules->untyped[i];
	return n;
}

bool rules_holds(const struct rules *rules, uint32_t rule, struct rule_event *event)
{
	return program_holds(rules->program, &rules->rules[rule].condition, event);
}

/* --- output --- */

size_t rules_format(const struct rules *rules, uint32_t rule, struct rule_event *event, char *room, size_t size,
		    bool *ret_cut)
{
	return output_write(&rules->rules[rule].output, rules->program, event, room, size, ret_cut);
}

static bool given_before(const struct output *output, uint32_t piece)
{
	for (uint32_t i = 0; i < piece; i++)
		if (output->pieces[i].name && strcmp(output->pieces[i].name, output->pieces[piece].name) == 0)
			return true;
	return false;
}

void rules_output_fields(const struct rules *rules, uint32_t rule, struct rule_event *event,
			 void (*take)(void *context, const char *name, const struct rule_value *value), void *context)
{
	const struct output *output = &rules->rules[rule].output;
	struct operand_walk walk;
	struct rule_value value;

	walk.program = rules->program;
	walk.event = event;
	for (uint32_t i = 0; i < output->n; i++) {
		if (!output->pieces[i].name || given_before(output, i))
			continue;
		walk.operand = &output->pieces[i].operand;
		if (!operand_first(&walk, &value))
			value = (struct rule_value){ .kind = RULE_ABSENT };
		take(context, output->pieces[i].name, &value);
	}
}
