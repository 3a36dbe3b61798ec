/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML folds lines and takes quotes off, so the n-th byte of a value is not the n-th one behind its begin in the file. But what is no white space keeps
 * its order, and each character of it stands for itself, but for a few escapes: the place of a byte is found by counting those.
 */
#include "rules/source_text.h"

#include "rules/rules.h"

#include <ctype.h>
#include <string.h>

void source_text_free(struct source_text *text)
{
	free(text->bytes);
	free(text->pieces);
	*text = (struct source_text){ 0 };
}

static bool make_room(struct source_text *text, size_t size)
{
	size_t room = MAX_OF(text->room * 2, text->size + size + 256),
	       pieces = MAX_OF(text->pieces_room * 2, (size_t)16);
	void *bytes;

	if (text->failed)
		return false;
	if (text->size + size + 1 > text->room) {
		bytes = realloc(text->bytes, room);
		if (!bytes)
			return false;
		text->bytes = bytes;
		text->room = room;
	}
	if (text->n_pieces == text->pieces_room) {
		bytes = realloc(text->pieces, pieces * sizeof *text->pieces);
		if (!bytes)
			return false;
		text->pieces = bytes;
		text->pieces_room = pieces;
	}
	return true;
}

void source_text_add(struct source_text *text, const struct rule_part *part, const char *bytes, size_t size,
		     size_t skip)
{
	if (text->full || text->size + size > SOURCE_TEXT_MAX) {
		text->full = true;
		return;
	}
	if (!make_room(text, size)) {
		text->failed = true;
		return;
	}
	text->pieces[text->n_pieces++] = (struct text_piece){ text->size, *part, skip };
	memcpy(text->bytes + text->size, bytes, size);
	text->size += size;
	text->bytes[text->size] = '\0';
}

void source_text_glue(struct source_text *text, const struct rule_part *part, const char *bytes)
{
	source_text_add(text, part, bytes, strlen(bytes), 0);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The cursor in the file. */
struct place {
	const char *at, *end;
	unsigned line, column;
};

static void move(struct place *p)
{
	bool newline = *p->at == '\n';

	p->column = newline ? 1 : p->column + (((unsigned char)*p->at & 0xc0) != 0x80);
	p->line += newline;
	p->at++;
}

static void move_to(struct place *p, unsigned line, unsigned column)
{
	while (p->at < p->end && (p->line < line || (p->line == line && p->column < column)))
		move(p);
}

static void skip_spaces(struct place *p)
{
	while (p->at < p->end && is_space(*p->at))
		move(p);
}

/* An escape in double quotes; whether it stands for more than white space. */
static bool skip_escape(struct place *p)
{
	unsigned digits;
	char c;

	move(p);
	if (p->at == p->end)
		return false;
	c = *p->at;
	digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	move(p);
	while (digits-- > 0 && p->at < p->end)
		move(p);
	return !strchr("nrt \t\n", c);
}

/* Moves over one character of the value that is no white space. */
static void skip_one(struct place *p, enum yaml_style style)
{
	for (;;) {
		skip_spaces(p);
		if (p->at == p->end)
			return;
		if (style == YAML_DOUBLE_QUOTED && *p->at == '\\') {
			if (skip_escape(p))
				return;
			continue;
		}
		if (style == YAML_SINGLE_QUOTED && *p->at == '\'')
			move(p);
		if (p->at < p->end)
			move(p);
		return;
	}
}

/* To the first character of the value. */
static void enter_value(struct place *p, const struct yaml_node *node)
{
	move_to(p, node->line, node->column);
	if (node->style == YAML_BLOCK)
		move_to(p, node->line + 1, 1);
	else if (node->style != YAML_PLAIN && p->at < p->end)
		move(p);
}

/* The place of byte `offset` of a value. */
static void locate(const struct rule_part *part, size_t offset, struct syntax_place *ret)
{
	const struct yaml_node *node = part->node;
	struct place p = { part->file->text, part->file->text + part->file->size, 1, 1 };

	*ret = (struct syntax_place){ part->file->label, node->line, node->column };
	if (node->kind != YAML_IS_SCALAR)
		return;
	enter_value(&p, node);
	for (size_t i = 0; i < offset && node->text[i]; i++)
		if (!is_space(node->text[i]))
			skip_one(&p, node->style);
	skip_spaces(&p);
	if (p.at < p.end) {
		ret->line = p.line;
		ret->column = p.column;
	}
}

void source_text_place(const void *context, uint32_t at, struct syntax_place *ret)
{
	const struct source_text *text = context;
	size_t low = 0, high = text->n_pieces;

	*ret = (struct syntax_place){ "rules", 1, 1 };
	while (high - low > 1) {
		size_t middle = (low + high) / 2;

		if (text->pieces[middle].at <= at)
			low = middle;
		else
			high = middle;
	}
	if (text->n_pieces > 0)
		locate(&text->pieces[low].part, text->pieces[low].skip + at - text->pieces[low].at, ret);
}
