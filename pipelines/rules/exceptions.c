/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions of rules: a row of fields, a comparison for each, and rows of values. An event that one row of values describes is excepted. They are
 * written behind the rule's condition, as `and not (...)`, and read with it, so that a mistake in a value is found where the value stands.
 */
#include "rules/load_state.h"

#include <errno.h>
#include <string.h>

static int refuse(struct loader *l, const struct yaml_node *node, const char *sentence)
{
	return load_report(l, RULES_ERROR, &(struct rule_part){ l->file, node }, "%s", sentence);
}

static bool is_list(const struct yaml_node *node)
{
	return node && node->kind == YAML_IS_SEQUENCE;
}

static uint32_t count(const struct yaml_node *node)
{
	uint32_t n = 0;

	for (const struct yaml_edge *e = node->first; e; e = e->next)
		n++;
	return n;
}

static void forget(struct rule_exception *exception)
{
	free(exception->values.at);
}

void load_forget_exceptions(struct definition *d)
{
	for (uint32_t i = 0; i < d->n_exceptions; i++)
		forget(&d->exceptions[i]);
	free(d->exceptions);
	d->exceptions = NULL;
	d->n_exceptions = d->exceptions_room = 0;
}

/* --- what is written --- */

static int check_comparison(struct loader *l, const struct yaml_node *comp)
{
	int op = comp->kind == YAML_IS_SCALAR ? rule_operator_of(comp->text) : -1;

	if (op < 0 || op == OP_EXISTS)
		return refuse(l, comp, "expected a comparison, such as =, startswith, in, pmatch");
	return 0;
}

static int check_single(struct loader *l, const struct rule_exception *exception)
{
	const struct yaml_node *comps = exception->comps;
	int op;

	if (!comps)
		return 0;
	op = comps->kind == YAML_IS_SCALAR ? rule_operator_of(comps->text) : -1;
	if (op < 0 || !rule_operator_takes_list((enum rule_operator)op))
		return refuse(l, comps, "with one field that is no list, 'comps' is in, pmatch or intersects");
	return 0;
}

static int check_row(struct loader *l, const struct rule_exception *exception)
{
	const struct yaml_node *fields = exception->fields, *comps = exception->comps;

	for (const struct yaml_edge *e = fields->first; e; e = e->next)
		if (e->node->kind != YAML_IS_SCALAR)
			return refuse(l, e->node, "a field is a text");
	if (!fields->first)
		return refuse(l, fields, "'fields' names at least one field");
	if (!comps)
		return 0;
	if (!is_list(comps) || count(comps) != count(fields))
		return refuse(l, comps, "'comps' has as many comparisons as 'fields' has fields");
	for (const struct yaml_edge *e = comps->first; e; e = e->next)
		if (check_comparison(l, e->node) < 0)
			return -EINVAL;
	return 0;
}

static int check_exception(struct loader *l, const struct rule_exception *exception)
{
	if (is_list(exception->fields))
		return check_row(l, exception);
	if (!exception->fields || exception->fields->kind != YAML_IS_SCALAR || !*exception->fields->text)
		return refuse(l, exception->whole.node, "an exception has 'fields': one, or a list of them");
	return check_single(l, exception);
}

/* A row of values for a list of fields; a value or a list of values for one field. */
static int check_values(struct loader *l, const struct rule_exception *exception, const struct yaml_node *row)
{
	if (!is_list(exception->fields)) {
		if (row->kind != YAML_IS_SCALAR)
			return refuse(l, row, "the values for one field are texts: [a, b]");
		return 0;
	}
	if (!is_list(row) || count(row) != count(exception->fields))
		return refuse(l, row, "a row of values has as many values as 'fields' has fields");
	for (const struct yaml_edge *e = row->first; e; e = e->next) {
		if (e->node->kind == YAML_IS_MAPPING)
			return refuse(l, e->node, "a value is a text, or a list of texts");
		for (const struct yaml_edge *v = is_list(e->node) ? e->node->first : NULL; v; v = v->next)
			if (v->node->kind != YAML_IS_SCALAR)
				return refuse(l, v->node, "a value in a list is a text");
	}
	return 0;
}

static int take_values(struct loader *l, struct rule_exception *exception, const struct yaml_node *node)
{
	const struct yaml_node *values = yaml_member(node, "values");

	if (!values || yaml_node_is_null(values))
		return 0;
	if (!is_list(values))
		return refuse(l, values, "'values' is a list");
	for (const struct yaml_edge *e = values->first; e; e = e->next) {
		if (check_values(l, exception, e->node) < 0)
			return -EINVAL;
		if (!parts_add(&exception->values, l->file, e->node))
			return fault_set(l->fault, -ENOMEM, "out of memory");
	}
	return 0;
}

static struct rule_exception *find(struct definition *d, const char *name)
{
	for (uint32_t i = 0; i < d->n_exceptions; i++)
		if (strcmp(d->exceptions[i].name, name) == 0)
			return &d->exceptions[i];
	return NULL;
}

static int add_exception(struct loader *l, struct definition *d, const struct yaml_node *node, const char *name,
			 bool adding)
{
	struct rule_exception exception = { .name = name,
					    .whole = { l->file, node },
					    .fields = yaml_member(node, "fields"),
					    .comps = yaml_member(node, "comps") };
	int r;

	if (check_exception(l, &exception) < 0)
		return -EINVAL;
	if (adding && !yaml_member(node, "values"))
		return refuse(l, node, "an exception that is added has 'values'");
	if (d->n_exceptions == d->exceptions_room) {
		uint32_t room = d->exceptions_room ? d->exceptions_room * 2 : 4;
		void *rows = realloc(d->exceptions, room * sizeof *d->exceptions);

		if (!rows)
			return fault_set(l->fault, -ENOMEM, "out of memory");
		d->exceptions = rows;
		d->exceptions_room = room;
	}
	r = take_values(l, &exception, node);
	if (r < 0) {
		forget(&exception);
		return r;
	}
	d->exceptions[d->n_exceptions++] = exception;
	return 0;
}

static int add_to_exception(struct loader *l, struct rule_exception *exception, const struct yaml_node *node)
{
	if (yaml_member(node, "fields") || yaml_member(node, "comps"))
		return refuse(l, node,
			      "an exception of this name is there already: values may be added, not fields or comps");
	if (!yaml_member(node, "values"))
		load_report(l, RULES_WARNING, &(struct rule_part){ l->file, node },
			    "an exception without values adds nothing");
	return take_values(l, exception, node);
}

static int take_exception(struct loader *l, struct definition *d, const struct yaml_node *node, uint32_t n_before,
			  bool adding)
{
	const struct yaml_node *name = node->kind == YAML_IS_MAPPING ? yaml_member(node, "name") : NULL;
	struct rule_exception *there;

	if (!name || name->kind != YAML_IS_SCALAR || !*name->text)
		return refuse(l, node, "an exception has a 'name'");
	there = find(d, name->text);
	if (there && (!adding || there >= d->exceptions + n_before))
		return refuse(l, name, "two exceptions of this name");
	return there ? add_to_exception(l, there, node) : add_exception(l, d, node, name->text, adding);
}

int load_exceptions(struct loader *l, struct definition *d, const struct yaml_node *node, bool adding)
{
	const uint32_t n_before = d->n_exceptions;

	if (!node || yaml_node_is_null(node))
		return 0;
	if (!is_list(node))
		return refuse(l, node, "'exceptions' is a list");
	for (const struct yaml_edge *e = node->first; e; e = e->next) {
		int r = take_exception(l, d, e->node, n_before, adding);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- as a condition --- */

/* A value as the language has it: what is quoted stays, and what would not be one word is quoted. */
static void write_value(struct source_text *text, const struct rule_part *part)
{
	const char *value = part->node->text;
	bool quoted = *value == '"' || *value == '\'';

	if (quoted || (*value && !value[strcspn(value, " \t\r\n\b()\",'=<>!")])) {
		source_text_add(text, part, value, strlen(value), 0);
		return;
	}
	source_text_glue(text, part, "\"");
	for (const char *at = value; *at;) {
		size_t plain = strcspn(at, "\"\\");

		source_text_add(text, part, at, plain, (size_t)(at - value));
		at += plain;
		if (*at) {
			source_text_glue(text, part, "\\");
			source_text_add(text, part, at, 1, (size_t)(at - value));
			at++;
		}
	}
	source_text_glue(text, part, "\"");
}

static void write_list(struct source_text *text, const struct rule_part *part)
{
	source_text_glue(text, part, "(");
	for (const struct yaml_edge *e = part->node->first; e; e = e->next) {
		write_value(text, &(struct rule_part){ part->file, e->node });
		if (e->next)
			source_text_glue(text, part, ", ");
	}
	source_text_glue(text, part, ")");
}

/* One field with its comparison and its value. */
static void write_test(struct source_text *text, const struct rule_part *field, const char *comp,
		       const struct rule_part *value)
{
	int op = rule_operator_of(comp);
	char between[48];

	source_text_add(text, field, field->node->text, strlen(field->node->text), 0);
	snprintf(between, sizeof between, " %.40s ", comp);
	source_text_glue(text, field, between);
	if (is_list(value->node)) {
		write_list(text, value);
	} else if (op >= 0 && rule_operator_takes_list((enum rule_operator)op)) {
		bool whole = *value->node->text == '(';

		source_text_glue(text, value, whole ? "" : "(");
		if (whole)
			source_text_add(text, value, value->node->text, strlen(value->node->text), 0);
		else
			write_value(text, value);
		source_text_glue(text, value, whole ? "" : ")");
	} else {
		write_value(text, value);
	}
}

static void write_row(struct source_text *text, const struct rule_exception *exception, const struct rule_part *row)
{
	const struct yaml_edge *value = row->node->first, *comp = exception->comps ? exception->comps->first : NULL;

	source_text_glue(text, row, "(");
	for (const struct yaml_edge *f = exception->fields->first; f && value; f = f->next) {
		write_test(text, &(struct rule_part){ exception->whole.file, f->node }, comp ? comp->node->text : "=",
			   &(struct rule_part){ row->file, value->node });
		if (f->next)
			source_text_glue(text, row, " and ");
		value = value->next;
		comp = comp ? comp->next : NULL;
	}
	source_text_glue(text, row, ")");
}

static void write_single(struct source_text *text, const struct rule_exception *exception)
{
	const struct rule_part field = { exception->whole.file, exception->fields };
	char between[48];

	source_text_add(text, &field, field.node->text, strlen(field.node->text), 0);
	snprintf(between, sizeof between, " %.40s (", exception->comps ? exception->comps->text : "in");
	source_text_glue(text, &field, between);
	for (uint32_t i = 0; i < exception->values.n; i++) {
		if (i)
			source_text_glue(text, &field, ", ");
		write_value(text, &exception->values.at[i]);
	}
	source_text_glue(text, &field, ")");
}

static void write_exception(struct source_text *text, const struct rule_exception *exception)
{
	source_text_glue(text, &exception->whole, " and not (");
	if (!is_list(exception->fields))
		write_single(text, exception);
	for (uint32_t i = 0; is_list(exception->fields) && i < exception->values.n; i++) {
		if (i)
			source_text_glue(text, &exception->whole, " or ");
		write_row(text, exception, &exception->values.at[i]);
	}
	source_text_glue(text, &exception->whole, ")");
}

static void write_parts(struct source_text *text, const struct rule_parts *parts)
{
	for (uint32_t i = 0; i < parts->n; i++) {
		if (i)
			source_text_glue(text, &parts->at[i], " ");
		source_text_add(text, &parts->at[i], parts->at[i].node->text, strlen(parts->at[i].node->text), 0);
	}
}

int load_condition(struct loader *l, struct definition *d)
{
	bool excepted = false;

	for (uint32_t i = 0; i < d->n_exceptions; i++)
		excepted |= d->exceptions[i].values.n > 0;
	if (excepted)
		source_text_glue(&d->text, &d->whole, "(");
	write_parts(&d->text, &d->conditions);
	if (excepted)
		source_text_glue(&d->text, &d->whole, ")");
	for (uint32_t i = 0; i < d->n_exceptions; i++)
		if (d->exceptions[i].values.n > 0)
			write_exception(&d->text, &d->exceptions[i]);
	write_parts(&d->output_text, &d->outputs);
	if (d->text.failed || d->output_text.failed)
		return fault_set(l->fault, -ENOMEM, "out of memory");
	if (d->text.full || d->output_text.full)
		return load_report(l, RULES_ERROR, &d->whole, "%s '%.80s' is longer than %u KiB",
				   d->kind == DEFINES_RULE ? "rule" : "macro", d->name, SOURCE_TEXT_MAX >> 10);
	return 0;
}
