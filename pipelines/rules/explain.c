/* SPDX-License-Identifier: Apache-2.0 */
/* A rule, said to a person: what it is, what it comes to with macros and lists written out, and what it asks for. */
#include "rules/load_state.h"
#include "rules/predicate.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define SHOWN_NEEDS 12u
#define SHOWN_TYPES 40u

struct explaining {
	const struct rules *rules;
	FILE *out;
};

static void write_tree(struct explaining *e, const struct syntax *s, uint32_t node, int bound);

/* --- the condition --- */

static bool is_plain(const char *text, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++)
		if (!isgraph((unsigned char)text[i]) || strchr("()\"',=<>!", text[i]))
			return false;
	return length > 0;
}

static void write_text(FILE *out, const char *text, uint32_t length)
{
	if (is_plain(text, length)) {
		fwrite(text, 1, length, out);
		return;
	}
	fputc('"', out);
	for (uint32_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02X", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void write_operand(struct explaining *e, const struct syntax *s, const struct syntax_operand *operand)
{
	for (unsigned i = operand->n_transforms; i-- > 0;)
		fprintf(e->out, "%s(", rule_transform_text(operand->transforms[i]));
	fwrite(s->text + operand->at, 1, operand->length, e->out);
	for (unsigned i = 0; i < operand->n_transforms; i++)
		fputc(')', e->out);
}

static const struct rule_list *list_of(const struct rules *rules, const struct syntax_word *word)
{
	const struct definition *d = word->quoted ? NULL
						  : load_find(rules->definitions, rules->names, rules->names_mask,
							      DEFINES_LIST, word->text, word->length);

	return d ? &d->list : NULL;
}

static void write_words(struct explaining *e, const struct syntax *s, const struct syntax_test *test)
{
	const char *between = "";

	fputc('(', e->out);
	for (uint32_t i = 0; i < test->n_words; i++) {
		const struct syntax_word *word = &s->words[test->words + i];
		const struct rule_list *list = list_of(e->rules, word);
		const struct rule_list single = { word, 1 };

		list = list ? list : &single;
		for (uint32_t n = 0; n < list->n_words; n++) {
			fputs(between, e->out);
			between = ", ";
			write_text(e->out, list->words[n].text, list->words[n].length);
		}
	}
	fputc(')', e->out);
}

static void write_test(struct explaining *e, const struct syntax *s, const struct syntax_test *test)
{
	static const char *const quantifiers[] = { "", "anyof ", "allof ", "oneof " };
	bool plain = test->right.n_steps > 0 && test->right.n_transforms == 0;

	write_operand(e, s, &test->left);
	fprintf(e->out, " %s", rule_operator_text(test->op));
	if (test->op == OP_EXISTS)
		return;
	fprintf(e->out, " %s", quantifiers[test->quantifier]);
	if (test->right.n_steps) {
		fputs(plain ? "val(" : "", e->out);
		write_operand(e, s, &test->right);
		fputs(plain ? ")" : "", e->out);
	} else if (test->quantifier != OF_ONE || rule_operator_takes_list(test->op)) {
		write_words(e, s, test);
	} else {
		write_text(e->out, s->words[test->words].text, s->words[test->words].length);
	}
}

static void write_macro(struct explaining *e, const struct syntax *s, uint32_t word, int bound)
{
	const struct syntax_word *name = &s->words[word];
	const struct definition *d = load_find(e->rules->definitions, e->rules->names, e->rules->names_mask,
					       DEFINES_MACRO, name->text, name->length);

	if (d && d->syntax)
		write_tree(e, d->syntax, d->syntax->root, bound);
}

/* A row of `and` or `or`, from its left end. */
static void write_row(struct explaining *e, const struct syntax *s, uint32_t node, int bound)
{
	const enum syntax_kind kind = s->nodes[node].kind;
	const int own = kind == SYNTAX_AND ? 2 : 1;
	uint32_t first = node, last = node, depth = 0;

	while (s->nodes[first].kind == kind) {
		first = s->nodes[first].left;
		depth++;
	}
	if (own < bound)
		fputc('(', e->out);
	write_tree(e, s, first, own);
	/* The row is linked from its right end: find each next one from there. */
	for (uint32_t i = depth; i-- > 0;) {
		last = node;
		for (uint32_t n = 0; n < i; n++)
			last = s->nodes[last].left;
		fputs(kind == SYNTAX_AND ? " and " : " or ", e->out);
		write_tree(e, s, s->nodes[last].right, own + (s->nodes[s->nodes[last].right].kind == kind));
	}
	if (own < bound)
		fputc(')', e->out);
}

/* `bound`: how close what is around binds: 1 or, 2 and, 3 not. */
static void write_tree(struct explaining *e, const struct syntax *s, uint32_t node, int bound)
{
	const struct syntax_node *n = &s->nodes[node];

	switch (n->kind) {
	case SYNTAX_AND:
	case SYNTAX_OR:
		write_row(e, s, node, bound);
		return;
	case SYNTAX_NOT:
		fputs("not ", e->out);
		write_tree(e, s, n->left, 3);
		return;
	case SYNTAX_MACRO:
		write_macro(e, s, n->left, bound);
		return;
	default:
		write_test(e, s, &s->tests[n->left]);
	}
}

/* --- what it asks for --- */

static void write_types(const struct event_types *types, FILE *out)
{
	unsigned n = event_types_count(types), shown = 0;

	if (n == event_types_known()) {
		fputs("  event types: all of them\n", out);
		return;
	}
	fprintf(out, "  event types (%u):", n);
	for (unsigned i = 0; i < event_types_known() && shown < SHOWN_TYPES; i++)
		if (event_types_have(types, i)) {
			fprintf(out, " %s", event_type_name(i));
			shown++;
		}
	fputs(n > shown ? " ...\n" : "\n", out);
}

static void mark_refs(const struct program *program, uint32_t node, bool *used)
{
	const struct plan_node *n = &program->nodes[node];

	if (n->kind == PLAN_TEST) {
		const struct rule_test *test = &program->tests[n->first];

		used[test->left.ref] = true;
		if (test->right.ref != RULE_NO_REF)
			used[test->right.ref] = true;
	}
	if (n->kind == PLAN_AND || n->kind == PLAN_OR)
		for (uint32_t i = 0; i < n->n; i++)
			mark_refs(program, program->children[n->first + i], used);
}

static void write_needs(const struct program *program, const struct rule *rule, uint32_t ref, struct need *room,
			FILE *out)
{
	static const char *const kinds[] = { "is", "begins with", "ends with", "has", "is or lies below" };
	uint32_t n = plan_needs(program, rule->condition.root, ref, room);

	if (n == 0)
		return;
	fputs("; it must be one that", out);
	for (uint32_t i = 0; i < n && i < SHOWN_NEEDS; i++) {
		fprintf(out, "%s %s ", i ? " or" : "", kinds[room[i].kind]);
		write_text(out, room[i].text, room[i].length);
	}
	if (n > SHOWN_NEEDS)
		fprintf(out, " or %u more", n - SHOWN_NEEDS);
}

static void write_fields(const struct rules *rules, const struct rule *rule, FILE *out)
{
	const struct program *program = rules->program;
	_cleanup_(free_pointer) bool *used = calloc(program->n_refs + 1, sizeof *used);
	_cleanup_(free_pointer) struct need *room = calloc(NEEDS_MAX, sizeof *room);

	if (!used || !room)
		return;
	mark_refs(program, rule->condition.root, used);
	fputs("  fields:\n", out);
	for (uint32_t i = 0; i < program->n_refs; i++) {
		const struct rule_ref *ref = &program->refs[i];

		if (!used[i])
			continue;
		fprintf(out, "    %s (%s) from %s", ref->name, rule_type_name(ref->field->type),
			rule_origin_name(ref->field->origin));
		if (!ref->field->key && ref->field->origin < RULE_FROM_RUNTIME)
			fputs(", which does not give it", out);
		write_needs(program, rule, i, room, out);
		fputc('\n', out);
	}
}

static void write_exceptions(const struct rules *rules, const struct rule *rule, FILE *out)
{
	const struct definition *d = &rules->definitions[rule->definition];

	for (uint32_t i = 0; i < d->n_exceptions; i++)
		fprintf(out, "  exception %s: %u row%s of values\n", d->exceptions[i].name, d->exceptions[i].values.n,
			d->exceptions[i].values.n == 1 ? "" : "s");
}

/* A kind of event on which the kernel might take a response. */
struct taking {
	enum predicate_moment moment;
	const char *of, *how;
};

/* Of each such kind that the rule can fire on, whether it does. */
static void write_response(const struct rules *rules, uint32_t rule, const char *name, const struct taking *kinds,
			   size_t n, const char *can, const char *cannot, const char *none, FILE *out)
{
	struct predicate predicate;
	struct fault why = { 0 };
	unsigned fires = 0;

	for (size_t i = 0; i < n; i++) {
		int r = rules_predicate(rules, rule, kinds[i].moment, &predicate, &why);

		if (r == -ENOENT)
			continue;
		fires++;
		fprintf(out, "  response %s: of %s, %s%s\n", name, kinds[i].of, r == 0 ? can : cannot,
			r == 0 ? kinds[i].how : why.text);
	}
	if (!fires)
		fprintf(out, "  response %s: %s%s\n", name, cannot, none);
}

static void write_responses(const struct rules *rules, uint32_t rule, FILE *out)
{
	static const struct taking kills[] = {
		{ PREDICATE_AT_EXEC, "a program that begins", "before its first instruction" },
		{ PREDICATE_AT_OPEN, "who opens a file", "before it has the descriptor" },
		{ PREDICATE_AT_CONNECT, "who connects", "before connect() returns" },
	};
	static const struct taking blocks[] = {
		{ PREDICATE_BEFORE_EXEC, "the begin of a program", "by BPF LSM" },
		{ PREDICATE_BEFORE_CONNECT, "connects", "by a program of the top cgroup" },
	};

	write_response(rules, rule, "kill", kills, ARRAY_SIZE(kills), "in the kernel, ",
		       "in user space: ", "it fires on no begin of a program, open or connect", out);
	write_response(rules, rule, "block", blocks, ARRAY_SIZE(blocks), "possible, ",
		       "not possible: ", "it fires on neither the begin of a program nor a connect", out);
}

void rules_explain(const struct rules *rules, uint32_t number, FILE *out)
{
	const struct rule *rule = &rules->rules[number];
	const struct rule_info *info = &rule->info;
	struct explaining e = { rules, out };

	fprintf(out, "%s\n  %s:%u:%u, priority %s, source %s%s\n", info->name, info->label, info->line, info->column,
		rule_priority_name(info->priority), info->source, info->enabled ? "" : ", not enabled");
	if (info->n_tags) {
		fputs("  tags:", out);
		for (size_t i = 0; i < info->n_tags; i++)
			fprintf(out, " %s", info->tags[i]);
		fputc('\n', out);
	}
	if (info->skipped) {
		fprintf(out, "  left out: %s\n", info->skipped);
		return;
	}
	fputs("  condition: ", out);
	write_tree(&e, rule->syntax, rule->syntax->root, 0);
	fprintf(out, "\n  tests: %u, at most about %u ns\n", info->tests, info->cost);
	write_types(&info->types, out);
	write_exceptions(rules, rule, out);
	write_fields(rules, rule, out);
	write_responses(rules, number, out);
}
