/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rule files, read: a YAML tree to definitions. What a later item says of an earlier one of its name follows Falco: `override` says for each key whether it
 * is appended or replaced, `append: true` appends, an item with nothing but `enabled` switches a rule, and any other takes its place.
 *
 * A mistake is reported with its place, and reading goes on behind the item that has it.
 */
#include "rules/load_state.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

enum override { NOT_OVERRIDDEN, APPENDED, REPLACED };

/* --- reports --- */

int load_report_placed(struct loader *l, enum rules_level level, const char *sentence)
{
	uint64_t hash = hash_bytes(sentence, strlen(sentence));

	/* A mistake in a macro is found by every rule that uses it. */
	if (hash == l->last_report)
		return -EINVAL;
	l->last_report = hash;
	if (level == RULES_ERROR && l->n_errors++ == 0)
		fault_set(l->fault, -EINVAL, "%s", sentence);
	if (l->options->report && (level == RULES_WARNING || l->n_errors <= RULES_FAULTS_MAX))
		l->options->report(l->options->context, level, sentence);
	return -EINVAL;
}

static int report_in(struct loader *l, enum rules_level level, const char *label, unsigned line, unsigned column,
		     const char *format, va_list args)
{
	char what[400], sentence[512];

	vsnprintf(what, sizeof what, format, args);
	snprintf(sentence, sizeof sentence, "%.100s:%u:%u: %s", label, line, column, what);
	return load_report_placed(l, level, sentence);
}

int load_report_at(struct loader *l, enum rules_level level, const char *label, unsigned line, unsigned column,
		   const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report_in(l, level, label, line, column, format, args);
	va_end(args);
	return -EINVAL;
}

int load_report(struct loader *l, enum rules_level level, const struct rule_part *part, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report_in(l, level, part->file->label, part->node->line, part->node->column, format, args);
	va_end(args);
	return -EINVAL;
}

#define REFUSE(l, node, ...) load_report(l, RULES_ERROR, &(struct rule_part){ (l)->file, node }, __VA_ARGS__)

/* --- the tree --- */

static const struct yaml_edge *edge_of(const struct yaml_node *mapping, const char *key)
{
	if (mapping->kind != YAML_IS_MAPPING)
		return NULL;
	for (const struct yaml_edge *e = mapping->first; e; e = e->next)
		if (strcmp(e->key, key) == 0)
			return e;
	return NULL;
}

const struct yaml_node *yaml_member(const struct yaml_node *mapping, const char *key)
{
	const struct yaml_edge *edge = edge_of(mapping, key);

	return edge ? edge->node : NULL;
}

/* The text of a key that has to have some. */
static int take_text(struct loader *l, const struct yaml_node *item, const char *key, const struct yaml_node **ret)
{
	const struct yaml_node *node = yaml_member(item, key);

	if (!node)
		return REFUSE(l, item, "'%s' is missing here", key);
	if (node->kind != YAML_IS_SCALAR)
		return REFUSE(l, node, "'%s' is a text", key);
	if (yaml_node_is_null(node) || !*node->text)
		return REFUSE(l, node, "'%s' is empty", key);
	*ret = node;
	return 0;
}

/* A truth value as YAML 1.1 writes it; keeps `ret` where the key is absent. */
static int take_truth(struct loader *l, const struct yaml_node *item, const char *key, bool *ret)
{
	static const char *const words[] = { "true", "yes", "on", "y", "false", "no", "off", "n" };
	const struct yaml_node *node = yaml_member(item, key);

	if (!node)
		return 0;
	for (size_t i = 0; node->kind == YAML_IS_SCALAR && i < ARRAY_SIZE(words); i++)
		if (strcasecmp(node->text, words[i]) == 0) {
			*ret = i < 4;
			return 0;
		}
	return REFUSE(l, node, "'%s' is true or false", key);
}

static int check_keys(struct loader *l, const struct yaml_node *item, const char *const *known, size_t n)
{
	for (const struct yaml_edge *e = item->first; e; e = e->next) {
		const char *near;
		size_t i = 0;

		while (i < n && strcmp(known[i], e->key) != 0)
			i++;
		if (i < n)
			continue;
		near = nearest_name(e->key, known, n);
		load_report_at(l, RULES_WARNING, l->file->label, e->line, e->column,
			       "unknown key '%.60s' is not read%s%s%s", e->key, near ? "; did you mean '" : "",
			       near ? near : "", near ? "'?" : "");
	}
	return 0;
}

bool parts_add(struct rule_parts *parts, const struct rules_file *file, const struct yaml_node *node)
{
	if (parts->n == parts->room) {
		uint32_t room = parts->room ? parts->room * 2 : 4;
		void *at = realloc(parts->at, room * sizeof *parts->at);

		if (!at)
			return false;
		parts->at = at;
		parts->room = room;
	}
	parts->at[parts->n++] = (struct rule_part){ file, node };
	return true;
}

static int no_memory(struct loader *l)
{
	return fault_set(l->fault, -ENOMEM, "out of memory");
}

/* --- definitions by name --- */

static uint64_t name_hash(enum definition_kind kind, const char *name, size_t length)
{
	return hash_bytes(name, length) * 31 + kind;
}

static bool is_named(const struct definition *d, enum definition_kind kind, const char *name, size_t length)
{
	return d->kind == kind && strncmp(d->name, name, length) == 0 && !d->name[length];
}

struct definition *load_find(struct definition *definitions, const uint32_t *names, uint32_t mask,
			     enum definition_kind kind, const char *name, size_t length)
{
	uint32_t i = (uint32_t)name_hash(kind, name, length) & mask;

	for (; names && names[i]; i = (i + 1) & mask)
		if (is_named(&definitions[names[i] - 1], kind, name, length))
			return &definitions[names[i] - 1];
	return NULL;
}

static struct definition *find(struct loader *l, enum definition_kind kind, const char *name)
{
	return load_find(l->definitions, l->names, l->names_mask, kind, name, strlen(name));
}

static void enter_name(struct loader *l, uint32_t number)
{
	const struct definition *d = &l->definitions[number];
	uint32_t i = (uint32_t)name_hash(d->kind, d->name, strlen(d->name)) & l->names_mask;

	while (l->names[i])
		i = (i + 1) & l->names_mask;
	l->names[i] = number + 1;
}

static bool grow_names(struct loader *l)
{
	uint32_t mask = l->names ? l->names_mask * 2 + 1 : 255;

	if (l->names && l->n_definitions * 2 < l->names_mask)
		return true;
	free(l->names);
	l->names = calloc((size_t)mask + 1, sizeof *l->names);
	l->names_mask = mask;
	for (uint32_t i = 0; l->names && i < l->n_definitions; i++)
		enter_name(l, i);
	return l->names;
}

static void release(struct definition *d)
{
	load_forget_exceptions(d);
	free(d->items.at);
	free(d->conditions.at);
	free(d->outputs.at);
	free(d->descs.at);
	free(d->tags.at);
	d->items = d->conditions = d->outputs = d->descs = d->tags = (struct rule_parts){ 0 };
}

static int add_definition(struct loader *l, enum definition_kind kind, const struct yaml_node *item, const char *name,
			  struct definition **ret)
{
	struct definition *d;

	if (l->n_definitions == RULES_DEFINITIONS_MAX)
		return REFUSE(l, item, "more than %u lists, macros and rules", RULES_DEFINITIONS_MAX);
	if (l->n_definitions == l->definitions_room) {
		uint32_t room = l->definitions_room ? l->definitions_room * 2 : 64;
		void *rows = realloc(l->definitions, room * sizeof *l->definitions);

		if (!rows)
			return no_memory(l);
		l->definitions = rows;
		l->definitions_room = room;
	}
	if (!grow_names(l))
		return no_memory(l);
	d = &l->definitions[l->n_definitions];
	*d = (struct definition){ .kind = kind, .name = name, .whole = { l->file, item }, .order = l->touched };
	enter_name(l, l->n_definitions++);
	*ret = d;
	return 0;
}

/* The definition to fill: a new one, or the one of this name, emptied. It keeps its place in the order. */
static int define(struct loader *l, enum definition_kind kind, const struct yaml_node *item, const char *name,
		  struct definition **ret)
{
	struct definition *d = find(l, kind, name);
	int r = 0;

	if (d)
		release(d);
	else
		r = add_definition(l, kind, item, name, &d);
	if (r < 0)
		return r;
	d->whole = (struct rule_part){ l->file, item };
	d->visibility = l->touched++;
	*ret = d;
	return 0;
}

static const char *kind_name(enum definition_kind kind)
{
	static const char *const names[] = { "list", "macro", "rule" };

	return names[kind];
}

static int find_earlier(struct loader *l, enum definition_kind kind, const struct yaml_node *item, const char *name,
			struct definition **ret)
{
	*ret = find(l, kind, name);
	if (!*ret)
		return REFUSE(l, item,
			      "there is no %s '%.80s' before this one to change; files are read in the order given",
			      kind_name(kind), name);
	(*ret)->visibility = l->touched++;
	return 0;
}

/* --- override, append --- */

static int check_override(struct loader *l, const struct yaml_edge *e, const char *const *appendable,
			  size_t n_appendable, const char *const *replaceable, size_t n_replaceable)
{
	const char *how = e->node->kind == YAML_IS_SCALAR ? e->node->text : "";
	bool append = strcmp(how, "append") == 0;
	const char *const *keys = append ? appendable : replaceable;
	size_t n = append ? n_appendable : n_replaceable;

	if (!append && strcmp(how, "replace") != 0)
		return REFUSE(l, e->node, "the override of '%.60s' is append or replace", e->key);
	for (size_t i = 0; i < n; i++)
		if (strcmp(keys[i], e->key) == 0)
			return 0;
	return load_report_at(l, RULES_ERROR, l->file->label, e->line, e->column, "'%.60s' cannot be %s", e->key,
			      append ? "appended to; replace it" : "replaced");
}

/* How `override:` says that a key is to be taken. */
static enum override override_of(const struct yaml_node *item, const char *key)
{
	const struct yaml_node *overrides = yaml_member(item, "override");
	const struct yaml_node *how = overrides ? yaml_member(overrides, key) : NULL;

	if (!how || how->kind != YAML_IS_SCALAR)
		return NOT_OVERRIDDEN;
	return strcmp(how->text, "append") == 0 ? APPENDED : REPLACED;
}

static int check_overrides(struct loader *l, const struct yaml_node *item, const char *const *appendable,
			   size_t n_appendable, const char *const *replaceable, size_t n_replaceable)
{
	const struct yaml_node *overrides = yaml_member(item, "override");

	if (!overrides)
		return 0;
	if (overrides->kind != YAML_IS_MAPPING || !overrides->first)
		return REFUSE(l, overrides, "'override' names the keys that are appended or replaced");
	for (const struct yaml_edge *e = overrides->first; e; e = e->next) {
		if (check_override(l, e, appendable, n_appendable, replaceable, n_replaceable) < 0)
			return -EINVAL;
		if (!yaml_member(item, e->key))
			return load_report_at(l, RULES_ERROR, l->file->label, e->line, e->column,
					      "an override of '%.60s', which is not given here", e->key);
	}
	return 0;
}

/* `append: true` and `override:`; not both. */
static int take_append(struct loader *l, const struct yaml_node *item, bool *ret)
{
	const struct yaml_edge *edge = edge_of(item, "append");
	int r = take_truth(l, item, "append", ret);

	if (r < 0 || !*ret)
		return r;
	if (yaml_member(item, "override"))
		return REFUSE(l, item, "'append: true' and 'override' exclude each other; use 'override'");
	load_report_at(l, RULES_WARNING, l->file->label, edge->line, edge->column,
		       "'append: true' is deprecated; use 'override'");
	return 0;
}

/* --- lists and macros --- */

static bool is_list_name(const char *name)
{
	return *name && !name[strcspn(name, "()\"' \t\r\n=,")];
}

static bool is_macro_name(const char *name)
{
	if (!isalpha((unsigned char)*name))
		return false;
	while (isalnum((unsigned char)*name) || *name == '_')
		name++;
	return !*name;
}

static int take_items(struct loader *l, struct definition *d, const struct yaml_node *items)
{
	for (const struct yaml_edge *e = items->first; e; e = e->next) {
		if (e->node->kind != YAML_IS_SCALAR)
			return REFUSE(l, e->node, "an item of a list is a text or a number");
		if (!parts_add(&d->items, l->file, e->node))
			return no_memory(l);
	}
	return 0;
}

static int read_list(struct loader *l, const struct yaml_node *item)
{
	static const char *const keys[] = { "list", "items", "append", "override" }, *const overridable[] = { "items" };
	const struct yaml_node *name, *items = yaml_member(item, "items");
	struct definition *d;
	bool append = false;
	int r = take_text(l, item, "list", &name);

	if (r < 0 || check_keys(l, item, keys, ARRAY_SIZE(keys)) < 0 || take_append(l, item, &append) < 0 ||
	    check_overrides(l, item, overridable, 1, overridable, 1) < 0)
		return -EINVAL;
	if (!is_list_name(name->text))
		return REFUSE(l, name, "a list's name has no spaces, quotes, commas, parentheses and equal signs");
	if (!items || items->kind != YAML_IS_SEQUENCE)
		return REFUSE(l, items ? items : item, "'items' of a list is a list: [a, b]");
	append |= override_of(item, "items") == APPENDED;
	r = append ? find_earlier(l, DEFINES_LIST, item, name->text, &d)
		   : define(l, DEFINES_LIST, item, name->text, &d);
	return r < 0 ? r : take_items(l, d, items);
}

static int read_macro(struct loader *l, const struct yaml_node *item)
{
	static const char *const keys[] = { "macro", "condition", "append", "override" }, *const overridable[] = {
		"condition"
	};
	const struct yaml_node *name, *condition;
	struct definition *d;
	bool append = false;
	int r = take_text(l, item, "macro", &name);

	if (r < 0 || check_keys(l, item, keys, ARRAY_SIZE(keys)) < 0 ||
	    take_text(l, item, "condition", &condition) < 0 || take_append(l, item, &append) < 0 ||
	    check_overrides(l, item, overridable, 1, overridable, 1) < 0)
		return -EINVAL;
	if (!is_macro_name(name->text))
		return REFUSE(l, name, "a macro's name is of letters, digits and _, and begins with a letter");
	append |= override_of(item, "condition") == APPENDED;
	r = append ? find_earlier(l, DEFINES_MACRO, item, name->text, &d)
		   : define(l, DEFINES_MACRO, item, name->text, &d);
	if (r < 0)
		return r;
	return parts_add(&d->conditions, l->file, condition) ? 0 : no_memory(l);
}

/* --- rules --- */

static const struct {
	const char *name;
	enum rule_priority priority;
} priorities[] = { { "emergency", RULE_EMERGENCY },
		   { "alert", RULE_ALERT },
		   { "critical", RULE_CRITICAL },
		   { "error", RULE_ERROR },
		   { "warning", RULE_WARNING },
		   { "notice", RULE_NOTICE },
		   { "informational", RULE_INFORMATIONAL },
		   { "info", RULE_INFORMATIONAL },
		   { "debug", RULE_DEBUG } };

const char *rule_priority_name(enum rule_priority priority)
{
	for (size_t i = 0; i < ARRAY_SIZE(priorities); i++)
		if (priorities[i].priority == priority)
			return priorities[i].name;
	return "";
}

static int take_priority(struct loader *l, const struct yaml_node *item, enum rule_priority *ret)
{
	const struct yaml_node *node;

	if (take_text(l, item, "priority", &node) < 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(priorities); i++)
		if (strcasecmp(priorities[i].name, node->text) == 0) {
			*ret = priorities[i].priority;
			return 0;
		}
	return REFUSE(l, node,
		      "unknown priority '%.40s'; it is emergency, alert, critical, error, warning, notice, "
		      "informational or debug",
		      node->text);
}

static int take_tags(struct loader *l, struct definition *d, const struct yaml_node *item)
{
	const struct yaml_node *tags = yaml_member(item, "tags");

	if (!tags || yaml_node_is_null(tags))
		return 0;
	if (tags->kind != YAML_IS_SEQUENCE)
		return REFUSE(l, tags, "'tags' is a list: [a, b]");
	for (const struct yaml_edge *e = tags->first; e; e = e->next) {
		if (e->node->kind != YAML_IS_SCALAR)
			return REFUSE(l, e->node, "a tag is a text");
		if (!parts_add(&d->tags, l->file, e->node))
			return no_memory(l);
	}
	return 0;
}

/* A text that may be made of several: the rule's own, and what was appended. */
static int take_part(struct loader *l, struct rule_parts *parts, const struct yaml_node *item, const char *key,
		     bool replace)
{
	const struct yaml_node *node;

	if (take_text(l, item, key, &node) < 0)
		return -EINVAL;
	if (replace)
		parts->n = 0;
	return parts_add(parts, l->file, node) ? 0 : no_memory(l);
}

static int take_switches(struct loader *l, const struct yaml_node *item, struct definition *d)
{
	if (take_truth(l, item, "enabled", &d->enabled) < 0 || take_truth(l, item, "warn_evttypes", &d->warn_types) < 0)
		return -EINVAL;
	return take_truth(l, item, "skip-if-unknown-filter", &d->skip_unknown);
}

static int define_rule(struct loader *l, const struct yaml_node *item, const char *name)
{
	const struct yaml_node *condition, *output, *desc, *source = yaml_member(item, "source");
	const struct definition *before = find(l, DEFINES_RULE, name);
	const char *source_name = "syscall";
	enum rule_priority priority;
	struct definition *d;
	int r;

	if (take_text(l, item, "condition", &condition) < 0 || take_text(l, item, "output", &output) < 0 ||
	    take_text(l, item, "desc", &desc) < 0 || take_priority(l, item, &priority) < 0 ||
	    (source && take_text(l, item, "source", &source) < 0))
		return -EINVAL;
	if (source)
		source_name = source->text;
	if (before && strcmp(before->source, source_name) != 0)
		return REFUSE(l, item, "rule '%.80s' was of source '%.40s' before", name, before->source);
	r = define(l, DEFINES_RULE, item, name, &d);
	if (r < 0)
		return r;
	d->source = source_name;
	d->priority = priority;
	d->enabled = d->warn_types = true;
	d->skip_unknown = false;
	if (!parts_add(&d->conditions, l->file, condition) || !parts_add(&d->outputs, l->file, output) ||
	    !parts_add(&d->descs, l->file, desc))
		return no_memory(l);
	r = take_switches(l, item, d);
	r = r < 0 ? r : take_tags(l, d, item);
	return r < 0 ? r : load_exceptions(l, d, yaml_member(item, "exceptions"), false);
}

/* An item that has nothing to match: it switches a rule. */
static int switch_rule(struct loader *l, const struct yaml_node *item, const char *name)
{
	struct definition *d;
	int r;

	if (!yaml_member(item, "enabled"))
		return REFUSE(l, item,
			      "rule '%.80s' has no condition, output, desc and priority, and no 'enabled' either",
			      name);
	r = find_earlier(l, DEFINES_RULE, item, name, &d);
	if (r < 0)
		return r;
	load_report(l, RULES_WARNING, &(struct rule_part){ l->file, item },
		    "a rule with 'enabled' alone is deprecated; add 'override: {enabled: replace}'");
	return take_truth(l, item, "enabled", &d->enabled);
}

static int append_rule(struct loader *l, const struct yaml_node *item, const char *name)
{
	struct definition *d;
	int r;

	if (!yaml_member(item, "condition") && !yaml_member(item, "exceptions"))
		load_report(l, RULES_WARNING, &(struct rule_part){ l->file, item },
			    "appends nothing: 'append: true' is for condition and exceptions; for other keys write "
			    "'override: {KEY: append}'");
	r = find_earlier(l, DEFINES_RULE, item, name, &d);
	if (r == 0 && yaml_member(item, "condition"))
		r = take_part(l, &d->conditions, item, "condition", false);
	return r < 0 ? r : load_exceptions(l, d, yaml_member(item, "exceptions"), true);
}

static int override_exceptions(struct loader *l, struct definition *d, const struct yaml_node *item, enum override how)
{
	if (how == REPLACED)
		load_forget_exceptions(d);
	return load_exceptions(l, d, yaml_member(item, "exceptions"), how == APPENDED);
}

static int override_key(struct loader *l, struct definition *d, const struct yaml_node *item, const char *key)
{
	enum override how = override_of(item, key);

	if (strcmp(key, "condition") == 0)
		return take_part(l, &d->conditions, item, key, how == REPLACED);
	if (strcmp(key, "output") == 0)
		return take_part(l, &d->outputs, item, key, how == REPLACED);
	if (strcmp(key, "desc") == 0)
		return take_part(l, &d->descs, item, key, how == REPLACED);
	if (strcmp(key, "exceptions") == 0)
		return override_exceptions(l, d, item, how);
	if (strcmp(key, "priority") == 0)
		return take_priority(l, item, &d->priority);
	if (strcmp(key, "tags") == 0) {
		if (how == REPLACED)
			d->tags.n = 0;
		return take_tags(l, d, item);
	}
	return take_switches(l, item, d);
}

static const char *const rule_appendable[] = { "condition", "output", "desc", "tags", "exceptions" };
static const char *const rule_replaceable[] = { "condition", "output",        "desc",
						"priority",  "tags",          "exceptions",
						"enabled",   "warn_evttypes", "skip-if-unknown-filter" };

/* Every key that could be overridden has to say how. */
static int check_all_overridden(struct loader *l, const struct yaml_node *item)
{
	for (size_t i = 0; i < ARRAY_SIZE(rule_replaceable); i++) {
		const struct yaml_edge *edge = edge_of(item, rule_replaceable[i]);

		if (edge && override_of(item, edge->key) == NOT_OVERRIDDEN)
			return load_report_at(
				l, RULES_ERROR, l->file->label, edge->line, edge->column,
				"'%s' is given but 'override' does not say whether it is appended or replaced",
				edge->key);
	}
	return 0;
}

static int override_rule(struct loader *l, const struct yaml_node *item, const char *name)
{
	struct definition *d;
	int r;

	if (check_overrides(l, item, rule_appendable, ARRAY_SIZE(rule_appendable), rule_replaceable,
			    ARRAY_SIZE(rule_replaceable)) < 0 ||
	    check_all_overridden(l, item) < 0)
		return -EINVAL;
	r = find_earlier(l, DEFINES_RULE, item, name, &d);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(rule_replaceable); i++)
		if (yaml_member(item, rule_replaceable[i]))
			r = override_key(l, d, item, rule_replaceable[i]);
	return r;
}

static int read_rule(struct loader *l, const struct yaml_node *item)
{
	static const char *const keys[] = {
		"rule",       "condition", "output",  "desc",          "priority",
		"tags",       "source",    "enabled", "warn_evttypes", "skip-if-unknown-filter",
		"exceptions", "append",    "override"
	};
	static const char *const own[] = { "condition", "output", "desc", "priority" };
	const struct yaml_node *name;
	bool append = false, whole = false;

	if (take_text(l, item, "rule", &name) < 0 || check_keys(l, item, keys, ARRAY_SIZE(keys)) < 0 ||
	    take_append(l, item, &append) < 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		whole |= yaml_member(item, own[i]) != NULL;
	if (yaml_member(item, "override"))
		return override_rule(l, item, name->text);
	if (append)
		return append_rule(l, item, name->text);
	return whole ? define_rule(l, item, name->text) : switch_rule(l, item, name->text);
}

/* --- versions --- */

/* "1.2.3", or (where `plain`) a number alone, which is the second. */
static bool parse_version(const char *text, bool plain, unsigned ret[3])
{
	char end = 0;

	if (plain && sscanf(text, "%9u%c", &ret[1], &end) == 1) {
		ret[0] = ret[2] = 0;
		return true;
	}
	end = 0;
	return sscanf(text, "%9u.%9u.%9u%c", &ret[0], &ret[1], &ret[2], &end) >= 3 &&
	       (!end || end == '-' || end == '+');
}

static int read_engine(struct loader *l, const struct yaml_node *item)
{
	const struct yaml_node *node;
	unsigned wanted[3], ours[3];

	if (take_text(l, item, "required_engine_version", &node) < 0)
		return -EINVAL;
	if (!parse_version(node->text, true, wanted) || !parse_version(RULES_ENGINE_VERSION, false, ours))
		return REFUSE(l, node, "an engine version is a number or x.y.z, found '%.40s'", node->text);
	if (wanted[0] != ours[0] || wanted[1] > ours[1] || (wanted[1] == ours[1] && wanted[2] > ours[2]))
		return REFUSE(l, node,
			      "this file needs engine version %.40s, and " RULES_ENGINE_VERSION
			      " is the newest that is served; take an older file or a newer sonde",
			      node->text);
	return 0;
}

static int read_plugin(struct loader *l, const struct yaml_node *plugin, bool *ret_container)
{
	const struct yaml_node *name, *version, *others;
	unsigned parts[3];

	if (plugin->kind != YAML_IS_MAPPING)
		return REFUSE(l, plugin, "a plugin is {name: ..., version: x.y.z}");
	if (take_text(l, plugin, "name", &name) < 0 || take_text(l, plugin, "version", &version) < 0)
		return -EINVAL;
	if (!parse_version(version->text, false, parts))
		return REFUSE(l, version, "a plugin's version is x.y.z, found '%.40s'", version->text);
	*ret_container |= strcmp(name->text, "container") == 0;
	others = yaml_member(plugin, "alternatives");
	if (!others)
		return 0;
	if (others->kind != YAML_IS_SEQUENCE)
		return REFUSE(l, others, "'alternatives' is a list of plugins");
	for (const struct yaml_edge *e = others->first; e; e = e->next)
		if (read_plugin(l, e->node, ret_container) < 0)
			return -EINVAL;
	return 0;
}

/* Fields of containers are served without a plugin; what others bring is said to be absent. */
static int read_plugins(struct loader *l, const struct yaml_node *item)
{
	const struct yaml_node *plugins = yaml_member(item, "required_plugin_versions");

	if (plugins->kind != YAML_IS_SEQUENCE)
		return REFUSE(l, plugins, "'required_plugin_versions' is a list of plugins");
	for (const struct yaml_edge *e = plugins->first; e; e = e->next) {
		bool container = false;

		if (read_plugin(l, e->node, &container) < 0)
			return -EINVAL;
		if (!container)
			load_report(l, RULES_WARNING, &(struct rule_part){ l->file, e->node },
				    "plugin '%.60s' is Falco's own; rules of its sources are left out",
				    yaml_member(e->node, "name")->text);
	}
	return 0;
}

/* --- documents --- */

static int read_item(struct loader *l, const struct yaml_node *item)
{
	static const struct {
		const char *key;
		int (*read)(struct loader *l, const struct yaml_node *item);
	} readers[] = { { "required_engine_version", read_engine },
			{ "required_plugin_versions", read_plugins },
			{ "list", read_list },
			{ "macro", read_macro },
			{ "rule", read_rule } };

	if (item->kind == YAML_IS_SCALAR && yaml_node_is_null(item))
		return 0;
	if (item->kind != YAML_IS_MAPPING)
		return REFUSE(l, item, "expected a rule, a macro, a list or a required version");
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		if (yaml_member(item, readers[i].key))
			return readers[i].read(l, item);
	load_report(l, RULES_WARNING, &(struct rule_part){ l->file, item },
		    "no rule, macro, list or required version; it is not read");
	return 0;
}

int load_documents(struct loader *l, const struct yaml_node *documents)
{
	for (const struct yaml_edge *d = documents->first; d; d = d->next) {
		if (d->node->kind == YAML_IS_SCALAR && yaml_node_is_null(d->node))
			continue;
		if (d->node->kind != YAML_IS_SEQUENCE) {
			REFUSE(l, d->node,
			       "a rule file is a list: each item begins with '- rule:', '- macro:' or '- list:'");
			continue;
		}
		for (const struct yaml_edge *e = d->node->first; e; e = e->next)
			if (read_item(l, e->node) == -ENOMEM)
				return -ENOMEM;
	}
	return 0;
}
