/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions, built into rules: lists are written out, macros are read, conditions and outputs compiled, and rules indexed by type of event. */
#include "rules/load_state.h"

#include <errno.h>
#include <string.h>

/* Only what Falco knows as system calls is served; other sources are its plugins'. */
#define SOURCE "syscall"

static int no_memory(struct loader *l)
{
	return fault_set(l->fault, -ENOMEM, "out of memory");
}

static struct definition *find(struct loader *l, enum definition_kind kind, const char *name, size_t length)
{
	return load_find(l->definitions, l->names, l->names_mask, kind, name, length);
}

/* --- lists --- */

static int add_word(struct loader *l, struct definition *d, uint32_t *room, const struct syntax_word *word)
{
	if (d->list.n_words == RULES_LIST_MAX || l->listed == RULES_LISTED_MAX)
		return load_report(l, RULES_ERROR, &d->whole,
				   "list '%.80s' has more than %u values, or all lists more than %u", d->name,
				   RULES_LIST_MAX, RULES_LISTED_MAX);
	if (d->list.n_words == *room) {
		uint32_t more = *room ? *room * 2 : 8;
		void *words = realloc(d->words, more * sizeof *d->words);

		if (!words)
			return no_memory(l);
		d->words = words;
		*room = more;
	}
	d->words[d->list.n_words++] = *word;
	l->listed++;
	return 0;
}

/* The value that an item is: in quotes of its own, or as it is. */
static int read_item(struct loader *l, const struct rule_part *item, struct syntax_word *ret)
{
	const char *text = item->node->text;
	size_t length = strlen(text);
	struct fault fault;
	char *room;

	*ret = (struct syntax_word){ .text = text, .length = (uint32_t)length };
	if (length < 2 || (*text != '"' && *text != '\'') || text[length - 1] != *text)
		return 0;
	room = program_take(l->rules->program, length);
	if (!room)
		return no_memory(l);
	ret->text = room;
	ret->quoted = true;
	if (rule_unescape(text + 1, length - 2, room, &ret->length, &fault) < 0)
		return load_report(l, RULES_ERROR, item, "%s", fault.text);
	return 0;
}

static int expand(struct loader *l, struct definition *d);

/* An item that is the name of a list defined before stands for that list. */
static int add_item(struct loader *l, struct definition *d, uint32_t *room, const struct rule_part *item)
{
	struct definition *other = find(l, DEFINES_LIST, item->node->text, strlen(item->node->text));
	struct syntax_word word;
	int r;

	if (!other || other->order >= d->visibility) {
		r = read_item(l, item, &word);
		return r < 0 ? r : add_word(l, d, room, &word);
	}
	if (other->open)
		return load_report(l, RULES_ERROR, item, "list '%.80s' leads back to itself", other->name);
	r = expand(l, other);
	for (uint32_t i = 0; r == 0 && i < other->list.n_words; i++)
		r = add_word(l, d, room, &other->words[i]);
	return r;
}

static int expand(struct loader *l, struct definition *d)
{
	uint32_t room = 0;
	int r = 0;

	if (d->expanded)
		return 0;
	d->expanded = d->open = true;
	for (uint32_t i = 0; r == 0 && i < d->items.n; i++)
		r = add_item(l, d, &room, &d->items.at[i]);
	d->open = false;
	d->list.words = d->words;
	return r;
}

/* --- what conditions name --- */

static const struct rule_list *list_of(void *context, const char *name, size_t length)
{
	struct definition *d = find(context, DEFINES_LIST, name, length);

	return d ? &d->list : NULL;
}

static struct syntax *macro_of(void *context, const char *name, size_t length)
{
	struct loader *l = context;
	struct definition *d = find(l, DEFINES_MACRO, name, length);

	l->hit_broken |= d && d->broken;
	return d ? d->syntax : NULL;
}

int load_resolve(void *context, struct program *program, const struct syntax *syntax,
		 const struct syntax_operand *operand, struct rule_ref *ret, struct fault *fault)
{
	const struct rule_step *argument = NULL;
	char room[512];
	struct fault what;
	uint32_t at;

	if (rule_field_find(&syntax->steps[operand->steps], operand->n_steps, &ret->field, &argument, room, sizeof room,
			    &at, &what) < 0)
		return syntax_fault(syntax, fault, -ENOENT, at, "%s", what.text);
	ret->name = program_keep(program, syntax->text + operand->at, operand->length);
	if (argument && ret->field->derive == RULE_IS_TYPE && event_type_of(room, strlen(room)) < 0)
		return syntax_fault(syntax, fault, -ENOENT, at, "unknown event type '%.60s'", room);
	if (ret->name && argument) {
		ret->argument = program_keep(program, room, strlen(room));
		ret->index = room[strspn(room, "0123456789")] || strlen(room) > 9 ? -1 : atoll(room);
	}
	return ret->name && (!argument || ret->argument) ? 0 : fault_set(fault, -ENOMEM, "out of memory");
}

static void warn(void *context, const struct syntax *syntax, uint32_t at, const char *sentence)
{
	struct fault fault;

	syntax_fault(syntax, &fault, -EINVAL, at, "%s", sentence);
	load_report_placed(context, RULES_WARNING, fault.text);
}

static int refuse_all_ancestors(void *context, struct program *program, const struct syntax *syntax,
				const struct syntax_operand *operand, struct rule_ref *ret, struct fault *fault)
{
	int r = load_resolve(context, program, syntax, operand, ret, fault);

	if (r == 0 && (ret->field->flags & RULE_CONDITION_ONLY) && !ret->argument)
		return syntax_fault(syntax, fault, -EINVAL, operand->at, "'%s' has many values; say which: %s[1]",
				    ret->name, ret->name);
	return r;
}

static struct syntax_options options_for(const struct source_text *text)
{
	return (struct syntax_options){ .size_max = SOURCE_TEXT_MAX,
					.macros = true,
					.noun = "field",
					.place = source_text_place,
					.context = text };
}

/* --- macros --- */

static int parse(struct loader *l, struct definition *d)
{
	const struct syntax_options options = options_for(&d->text);
	struct fault fault;
	int r = load_condition(l, d);

	d->broken = r < 0;
	if (r < 0)
		return r;
	r = syntax_parse(&d->syntax, d->text.bytes, d->text.size, &options, &fault);
	d->broken = r < 0;
	if (r == -ENOMEM)
		return no_memory(l);
	return r < 0 ? load_report_placed(l, RULES_ERROR, fault.text) : 0;
}

/* --- rules --- */

static int join_desc(struct loader *l, const struct definition *d, const char **ret)
{
	struct source_text text = { 0 };

	for (uint32_t i = 0; i < d->descs.n; i++) {
		source_text_glue(&text, &d->descs.at[i], i ? " " : "");
		source_text_glue(&text, &d->descs.at[i], d->descs.at[i].node->text);
	}
	while (text.size > 0 && text.bytes[text.size - 1] == '\n')
		text.size--;
	*ret = text.failed ? NULL : program_keep(l->rules->program, text.bytes ? text.bytes : "", text.size);
	source_text_free(&text);
	return *ret ? 0 : no_memory(l);
}

/* Tags, each once. */
static int take_tags(struct loader *l, const struct definition *d, struct rule_info *info)
{
	const char **tags = program_take(l->rules->program, (d->tags.n + 1) * sizeof *tags);

	if (!tags)
		return no_memory(l);
	info->tags = tags;
	for (uint32_t i = 0; i < d->tags.n; i++) {
		const char *tag = d->tags.at[i].node->text;
		size_t known = 0;

		while (known < info->n_tags && strcmp(tags[known], tag) != 0)
			known++;
		if (known == info->n_tags)
			tags[info->n_tags++] = tag;
	}
	return 0;
}

static int describe(struct loader *l, struct definition *d, struct rule *rule)
{
	struct rule_info *info = &rule->info;
	int r = join_desc(l, d, &info->desc);

	info->name = d->name;
	info->source = d->source;
	info->label = d->whole.file->label;
	info->line = d->whole.node->line;
	info->column = d->whole.node->column;
	info->priority = d->priority;
	info->enabled = d->enabled;
	rule->definition = (uint32_t)(d - l->definitions);
	return r < 0 ? r : take_tags(l, d, info);
}

/* A mistake in a rule: its sentence is reported, or the rule is left out where that is wanted. */
static int fail_rule(struct loader *l, const struct definition *d, struct rule *rule, int error,
		     const struct fault *fault)
{
	bool lenient = l->options->lenient || d->skip_unknown;

	if (error == -ENOMEM)
		return no_memory(l);
	if (error == -ENOENT && lenient) {
		rule->info.skipped = "it asks for a field or an event that is unknown";
		if (!d->skip_unknown)
			load_report_placed(l, RULES_WARNING, fault->text);
		return 0;
	}
	rule->info.skipped = "it has a mistake";
	if (!l->hit_broken)
		load_report_placed(l, RULES_ERROR, fault->text);
	return 0;
}

static uint32_t count_tests(const struct program *program, uint32_t node)
{
	const struct plan_node *n = &program->nodes[node];
	uint32_t tests = n->kind == PLAN_TEST;

	if (n->kind == PLAN_AND || n->kind == PLAN_OR)
		for (uint32_t i = 0; i < n->n; i++)
			tests += count_tests(program, program->children[n->first + i]);
	return tests;
}

static void look_at(struct loader *l, const struct definition *d, struct rule *rule)
{
	struct program *program = l->rules->program;

	plan_event_types(program, rule->condition.root, &rule->info.types);
	rule->info.cost = program->nodes[rule->condition.root].cost;
	rule->info.tests = count_tests(program, rule->condition.root);
	if (event_types_count(&rule->info.types) == event_types_known() && d->warn_types)
		load_report(l, RULES_WARNING, &d->whole,
			    "rule '%.80s' names no evt.type that it needs, so it is tried on every event", d->name);
}

static int compile(struct loader *l, struct definition *d, struct rule *rule)
{
	const struct syntax_options options = options_for(&d->text), output_options = options_for(&d->output_text);
	struct program_scope scope = { l, load_resolve, macro_of, list_of, warn };
	struct fault fault = { 0 };
	int r = load_condition(l, d);

	l->hit_broken = false;
	if (r < 0) {
		rule->info.skipped = "it has a mistake";
		return r == -ENOMEM ? r : 0;
	}
	r = syntax_parse(&rule->syntax, d->text.bytes, d->text.size, &options, &fault);
	if (r == 0)
		r = program_add(l->rules->program, rule->syntax, &scope, &rule->condition, &fault);
	if (r < 0)
		return fail_rule(l, d, rule, r, &fault);
	scope.resolve = refuse_all_ancestors;
	r = output_compile(&rule->output, l->rules->program, d->output_text.bytes, d->output_text.size, &output_options,
			   &scope, &fault);
	if (r < 0)
		return fail_rule(l, d, rule, r, &fault);
	look_at(l, d, rule);
	return 0;
}

static int build_rule(struct loader *l, struct definition *d)
{
	struct rule *rule = &l->rules->rules[l->rules->n_rules++];
	int r = describe(l, d, rule);

	if (r < 0)
		return r;
	if (strcmp(d->source, SOURCE) == 0)
		return compile(l, d, rule);
	rule->info.skipped = "its source is none of ours";
	load_report(l, RULES_WARNING, &d->whole, "rule '%.80s' is left out: its source '%.40s' is none of ours",
		    d->name, d->source);
	return 0;
}

/* --- the index --- */

static bool is_matched(const struct rule *rule)
{
	return rule->info.enabled && !rule->info.skipped;
}

static int index_types(struct loader *l)
{
	struct rules *rules = l->rules;
	uint32_t n = 0;

	for (uint32_t i = 0; i < rules->n_rules; i++)
		if (is_matched(&rules->rules[i]))
			n += event_types_count(&rules->rules[i].info.types);
	rules->order = calloc(MAX_OF(n, 1u), sizeof *rules->order);
	rules->untyped = calloc(MAX_OF(rules->n_rules, 1u), sizeof *rules->untyped);
	if (!rules->order || !rules->untyped)
		return no_memory(l);
	n = 0;
	for (unsigned type = 0; type < EVENT_TYPES_MAX; type++) {
		rules->by_type[type] = n;
		for (uint32_t i = 0; i < rules->n_rules; i++)
			if (is_matched(&rules->rules[i]) && event_types_have(&rules->rules[i].info.types, type))
				rules->order[n++] = i;
	}
	rules->by_type[EVENT_TYPES_MAX] = n;
	/* An event whose type nobody knows is tried with every rule. */
	for (uint32_t i = 0; i < rules->n_rules; i++)
		if (is_matched(&rules->rules[i]))
			rules->untyped[rules->n_untyped++] = i;
	return 0;
}

/* The type of events is asked for first. */
static int ask_for_type(struct loader *l)
{
	const struct rule_step steps[] = { { "evt", 3, 0, false }, { "type", 4, 4, false } };
	const struct syntax syntax = { .steps = (struct rule_step *)steps, .text = (char[]){ "evt.type" } };
	const struct syntax_operand operand = { .n_steps = 2, .length = 8 };
	const struct program_scope scope = { l, load_resolve, NULL, NULL, NULL };
	struct operand type;
	int r = program_add_operand(l->rules->program, &syntax, &operand, &scope, &type, l->fault);

	l->rules->type_slot = type.ref;
	return r;
}

int load_build(struct loader *l)
{
	uint32_t n_rules = 0;
	int r = ask_for_type(l);

	for (uint32_t i = 0; i < l->n_definitions; i++)
		n_rules += l->definitions[i].kind == DEFINES_RULE;
	l->rules->rules = calloc(MAX_OF(n_rules, 1u), sizeof *l->rules->rules);
	if (r < 0 || !l->rules->rules)
		return no_memory(l);
	for (int kind = DEFINES_LIST; kind <= DEFINES_RULE; kind++)
		for (uint32_t i = 0; i < l->n_definitions; i++) {
			struct definition *d = &l->definitions[i];

			if ((int)d->kind != kind)
				continue;
			r = kind == DEFINES_LIST    ? expand(l, d)
			    : kind == DEFINES_MACRO ? parse(l, d)
						    : build_rule(l, d);
			if (r == -ENOMEM)
				return r;
		}
	return index_types(l);
}
