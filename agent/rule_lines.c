/* SPDX-License-Identifier: Apache-2.0 */
/* JSON is taken as the YAML that it nearly is: quoted scalars are text, plain ones are numbers and truth values. */
#include "rule_lines.h"

#include "rules/field.h"
#include "yaml/yaml_tree.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define EXPECT "expect"

struct rule_line {
	struct rule_event event;
	struct yaml_tree *tree;
	const struct yaml_node *root;
};

static const struct yaml_bounds bounds = { .depth = 4, .nodes = 8192 };

/* --- reading --- */

static int refuse(const struct yaml_node *node, const char *label, struct fault *fault, const char *sentence)
{
	return fault_at(fault, -EINVAL, node->line, node->column, "%s:%u: %s", label, node->column, sentence);
}

static bool is_word(const struct yaml_node *node, const char *word)
{
	return node->plain && strcmp(node->text, word) == 0;
}

static bool is_scalar_of_json(const struct yaml_node *node)
{
	char *end;

	if (node->kind != YAML_IS_SCALAR)
		return false;
	if (!node->plain || is_word(node, "true") || is_word(node, "false") || is_word(node, "null"))
		return true;
	if (!isdigit((unsigned char)node->text[*node->text == '-']))
		return false;
	strtod(node->text, &end);
	return !*end;
}

static int check_value(const struct yaml_node *node, const char *label, struct fault *fault)
{
	static const char sentence[] = "a value is a text in quotes, a number, true, false, null or a list of those";

	if (node->kind == YAML_IS_SCALAR)
		return is_scalar_of_json(node) ? 0 : refuse(node, label, fault, sentence);
	if (node->kind == YAML_IS_MAPPING)
		return refuse(node, label, fault, sentence);
	for (const struct yaml_edge *e = node->first; e; e = e->next)
		if (!is_scalar_of_json(e->node))
			return refuse(node, label, fault, sentence);
	return 0;
}

static int check(const struct yaml_node *root, const char *label, struct fault *fault)
{
	if (!root || root->kind != YAML_IS_MAPPING)
		return fault_at(fault, -EINVAL, 1, 1, "%s:1: an event is a JSON object: {\"evt.type\": \"open\"}",
				label);
	for (const struct yaml_edge *e = root->first; e; e = e->next)
		if (check_value(e->node, label, fault) < 0)
			return -EINVAL;
	return 0;
}

static bool first_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret);
static bool next_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value);

int rule_line_read(struct rule_line **ret, const char *text, size_t size, const char *label, struct fault *fault)
{
	const struct yaml_node *documents = NULL;
	struct rule_line *line = calloc(1, sizeof *line);
	struct fault what;
	int r;

	if (!line)
		return fault_set(fault, -ENOMEM, "out of memory");
	line->event = (struct rule_event){ first_of, next_of };
	r = yaml_documents_parse(&line->tree, &documents, text, size, "json", &bounds, &what);
	if (r < 0) {
		r = fault_at(fault, r, 1, what.column, "%s:%u: no JSON object of one line: %s", label, what.column,
			     what.text);
	} else {
		line->root = documents->first ? documents->first->node : NULL;
		r = check(line->root, label, fault);
	}
	if (r < 0) {
		rule_line_free(line);
		return r;
	}
	*ret = line;
	return 0;
}

void rule_line_free(struct rule_line *line)
{
	if (!line)
		return;
	yaml_tree_free(line->tree);
	free(line);
}

/* --- answering --- */

static bool give(const struct yaml_node *node, struct rule_value *ret)
{
	if (is_word(node, "null"))
		return false;
	if (!node->plain) {
		ret->kind = RULE_TEXT;
		ret->text = node->text;
		ret->length = (uint32_t)strlen(node->text);
	} else if (is_word(node, "true") || is_word(node, "false")) {
		ret->kind = RULE_TRUTH;
		ret->truth = *node->text == 't';
	} else if (strpbrk(node->text, ".eE")) {
		ret->kind = RULE_FRACTION;
		ret->fraction = strtod(node->text, NULL);
	} else {
		ret->kind = RULE_NUMBER;
		ret->number = *node->text == '-' ? (__int128)strtoll(node->text, NULL, 10)
						 : (__int128)strtoull(node->text, NULL, 10);
	}
	return true;
}

static uint32_t count_of(const struct yaml_node *list)
{
	uint32_t n = 0;

	for (const struct yaml_edge *e = list->first; e; e = e->next)
		n++;
	return n;
}

static bool give_node(const struct yaml_node *node, struct rule_value *ret)
{
	if (node->kind == YAML_IS_SCALAR)
		return give(node, ret);
	ret->kind = RULE_OTHER;
	ret->list = true;
	ret->count = count_of(node);
	ret->cursor = node->first;
	if (node->first)
		give(node->first->node, ret);
	return true;
}

/* Whether the key is the field with its argument: evt.arg.flags, evt.arg[flags]. */
static bool is_asked_for(const char *key, const struct rule_ref *ref)
{
	size_t name = strlen(ref->field->name), argument;

	if (strcmp(key, ref->name) == 0)
		return true;
	if (!ref->argument || strncmp(key, ref->field->name, name) != 0)
		return false;
	argument = strlen(ref->argument);
	key += name;
	if (*key == '.')
		return strcmp(key + 1, ref->argument) == 0;
	return *key == '[' && strncmp(key + 1, ref->argument, argument) == 0 && strcmp(key + 1 + argument, "]") == 0;
}

/* One ancestor, out of the list of all of them. */
static bool give_ancestor(const struct rule_line *line, const struct rule_ref *ref, struct rule_value *ret)
{
	int64_t left = ref->index;

	for (const struct yaml_edge *e = line->root->first; e; e = e->next) {
		if (e->node->kind != YAML_IS_SEQUENCE || strcmp(e->key, ref->field->name) != 0)
			continue;
		for (const struct yaml_edge *a = e->node->first; a; a = a->next)
			if (--left == 0)
				return give(a->node, ret);
	}
	return false;
}

static bool first_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret)
{
	const struct rule_line *line = (const struct rule_line *)event;

	for (const struct yaml_edge *e = line->root->first; e; e = e->next)
		if (is_asked_for(e->key, ref))
			return give_node(e->node, ret);
	return ref->field->many == RULE_ANY_OF && ref->index > 0 && give_ancestor(line, ref, ret);
}

static bool next_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value)
{
	const struct yaml_edge *at = value->cursor;

	if (!at || !at->next)
		return false;
	value->cursor = at->next;
	value->kind = RULE_OTHER;
	give(at->next->node, value);
	return true;
}

struct rule_event *rule_line_event(struct rule_line *line)
{
	return &line->event;
}

/* --- what is expected --- */

static const struct yaml_node *expected(const struct rule_line *line)
{
	for (const struct yaml_edge *e = line->root->first; e; e = e->next)
		if (strcmp(e->key, EXPECT) == 0)
			return e->node;
	return NULL;
}

bool rule_line_expects(const struct rule_line *line)
{
	return expected(line);
}

size_t rule_line_expected(const struct rule_line *line)
{
	const struct yaml_node *node = expected(line);

	return !node ? 0 : node->kind == YAML_IS_SCALAR ? 1 : count_of(node);
}

bool rule_line_expects_rule(const struct rule_line *line, const char *rule)
{
	const struct yaml_node *node = expected(line);

	if (node && node->kind == YAML_IS_SCALAR)
		return strcmp(node->text, rule) == 0;
	for (const struct yaml_edge *e = node ? node->first : NULL; e; e = e->next)
		if (strcmp(e->node->text, rule) == 0)
			return true;
	return false;
}
