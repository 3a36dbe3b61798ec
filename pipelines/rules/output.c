/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/output.h"

#include "rules/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/* Where the format is read. */
struct reading {
	struct output *output;
	struct program *program;
	const char *text;
	size_t size;
	const struct syntax_options *options; /* of the whole format */
	const struct program_scope *scope;
	struct fault *fault;
};

/* Options for a field in the middle of the format: places are counted from its begin. */
struct shifted {
	const struct syntax_options *options;
	uint32_t by;
};

static void place_shifted(const void *context, uint32_t at, struct syntax_place *ret)
{
	const struct shifted *shifted = context;

	shifted->options->place(shifted->options->context, shifted->by + at, ret);
}

static int refuse(struct reading *r, size_t at, const char *sentence)
{
	struct syntax_place place = { "output", 1, (unsigned)at + 1 };

	if (r->options->place)
		r->options->place(r->options->context, (uint32_t)at, &place);
	return fault_at(r->fault, -EINVAL, place.line, place.column, "%s:%u:%u: %s", place.label, place.line,
			place.column, sentence);
}

static int add_piece(struct reading *r, const struct output_piece *piece)
{
	if (r->output->n == OUTPUT_FIELDS_MAX * 2)
		return refuse(r, 0, "more than 256 fields in one output");
	r->output->pieces[r->output->n++] = *piece;
	return 0;
}

static int add_text(struct reading *r, size_t from, size_t to)
{
	struct output_piece piece = { .length = (uint32_t)(to - from) };

	if (from == to)
		return 0;
	piece.text = program_keep(r->program, r->text + from, to - from);
	return piece.text ? add_piece(r, &piece) : fault_set(r->fault, -ENOMEM, "out of memory");
}

/* The bytes of the field at `at`: dots at its end belong to the sentence. */
static size_t field_size(const struct reading *r, size_t at)
{
	size_t n = 0;
	unsigned depth = 0;

	while (at + n < r->size) {
		char c = r->text[at + n];

		if (c == '(' || c == '[')
			depth++;
		else if ((c == ')' || c == ']') && depth > 0)
			depth--;
		else if (depth == 0 && !isalnum((unsigned char)c) && c != '_' && c != '.')
			break;
		n++;
		if ((c == ')') && depth == 0)
			break;
	}
	while (n > 0 && r->text[at + n - 1] == '.')
		n--;
	return n;
}

static int compile_field(struct reading *r, size_t at, size_t size, struct output_piece *piece)
{
	struct shifted shifted = { r->options, (uint32_t)at };
	struct syntax_options options = *r->options;
	struct syntax *syntax;
	size_t used = 0;
	int error;

	if (options.place) {
		options.place = place_shifted;
		options.context = &shifted;
	}
	error = syntax_parse_operand(&syntax, r->text + at, size, &options, &used, r->fault);
	if (error < 0)
		return error;
	error = program_add_operand(r->program, syntax, &syntax->tests[0].left, r->scope, &piece->operand, r->fault);
	syntax_free(syntax);
	if (error < 0)
		return error;
	piece->name = program_keep(r->program, r->text + at, used);
	return piece->name ? 0 : fault_set(r->fault, -ENOMEM, "out of memory");
}

static int read_format(struct reading *r);

/* No field, but what files that were written for older engines have at the end of nearly every output. */
#define CONTAINER_INFO "container.info"

static int read_container_info(struct reading *r)
{
	static const char stands_for[] = "container_id=%container.id container_name=%container.name";
	struct reading inner = *r;

	inner.text = stands_for;
	inner.size = strlen(stands_for);
	return read_format(&inner);
}

/* A field, behind its percent sign; moves `at` behind it. */
static int read_field(struct reading *r, size_t *at)
{
	struct output_piece piece = { 0 };
	size_t size;
	int error;

	while (*at < r->size && isdigit((unsigned char)r->text[*at]) && piece.width < 1000)
		piece.width = piece.width * 10 + (uint32_t)(r->text[(*at)++] - '0');
	if (piece.width > 1000)
		return refuse(r, *at, "a field's width is at most 1000");
	size = field_size(r, *at);
	if (size == 0)
		return refuse(r, *at, "expected a field behind '%'; '%%' is a percent sign");
	if (size == strlen(CONTAINER_INFO) && !memcmp(r->text + *at, CONTAINER_INFO, size)) {
		*at += size;
		return read_container_info(r);
	}
	error = compile_field(r, *at, size, &piece);
	*at += size;
	return error < 0 ? error : add_piece(r, &piece);
}

static int read_format(struct reading *r)
{
	size_t at = r->size > 0 && *r->text == '*', from = at;

	while (at < r->size) {
		int error;

		if (r->text[at] != '%') {
			at++;
			continue;
		}
		if (at + 1 < r->size && r->text[at + 1] == '%') {
			error = add_text(r, from, at + 1);
			from = at += 2;
		} else {
			error = add_text(r, from, at++);
			error = error < 0 ? error : read_field(r, &at);
			from = at;
		}
		if (error < 0)
			return error;
	}
	return add_text(r, from, at);
}

int output_compile(struct output *ret, struct program *program, const char *text, size_t size,
		   const struct syntax_options *options, const struct program_scope *scope, struct fault *fault)
{
	struct reading r = { ret, program, text, size, options, scope, fault };

	while (r.size > 0 && isspace((unsigned char)r.text[r.size - 1]))
		r.size--;
	*ret = (struct output){ .pieces = program_take(program, (OUTPUT_FIELDS_MAX * 2) * sizeof *ret->pieces) };
	return ret->pieces ? read_format(&r) : fault_set(fault, -ENOMEM, "out of memory");
}

/* --- written --- */

struct writing {
	char *room;
	size_t size, used;
	bool full; /* what came did not fit: nothing more comes */
};

static void put(struct writing *w, const char *bytes, size_t length)
{
	w->full |= w->used + length >= w->size;
	if (w->full)
		return;
	memcpy(w->room + w->used, bytes, length);
	w->used += length;
}

/* Hostile text as one line of UTF-8: control characters are escaped, bytes that are no text become U+FFFD. */
static void put_clean(struct writing *w, const char *text, size_t length)
{
	const char *at = text, *end = text + length;

	while (at < end) {
		unsigned size;
		uint32_t c = utf8_read(at, end, &size);
		char room[8];

		if (c < 0x20 || c == 0x7f)
			put(w, room, (size_t)sprintf(room, "\\x%02X", c));
		else if (c == UTF8_REPLACEMENT)
			put(w, "\xef\xbf\xbd", 3);
		else
			put(w, at, size);
		at += size;
	}
}

static void put_value(struct writing *w, const struct rule_value *v)
{
	char room[64];
	const char *text;
	size_t length = rule_value_text(v, room, &text);

	put_clean(w, text, length);
}

/* One value as it is, several in parentheses. */
static void put_values(struct writing *w, struct operand_walk *walk)
{
	struct rule_value value;
	unsigned n = 0;
	bool more = operand_first(walk, &value), list = more && value.list;

	if (!more) {
		put(w, "<NA>", 4);
		return;
	}
	if (list && walk->ref->field && walk->ref->field->many == RULE_EITHER) {
		put_value(w, &value); /* names of one thing: the likeliest */
		return;
	}
	if (list)
		put(w, "(", 1);
	for (; more && n < 64; more = operand_next(walk, &value)) {
		if (n++)
			put(w, ",", 1);
		put_value(w, &value);
	}
	if (list)
		put(w, ")", 1);
}

static void put_field(struct writing *w, const struct output_piece *piece, const struct program *program,
		      struct rule_event *event)
{
	const size_t before = w->used, end = before + piece->width;
	struct operand_walk walk;

	walk.program = program;
	walk.operand = &piece->operand;
	walk.event = event;
	put_values(w, &walk);
	if (!piece->width)
		return;
	while (w->used < end && !w->full)
		put(w, " ", 1);
	if (w->used <= end)
		return;
	w->used = end;
	while (w->used > before && ((unsigned char)w->room[w->used] & 0xc0) == 0x80)
		w->used--;
}

size_t output_write(const struct output *output, const struct program *program, struct rule_event *event, char *room,
		    size_t size, bool *ret_cut)
{
	struct writing w = { room, size, 0, false };

	for (uint32_t i = 0; i < output->n; i++) {
		const struct output_piece *piece = &output->pieces[i];

		if (piece->text)
			put(&w, piece->text, piece->length);
		else
			put_field(&w, piece, program, event);
	}
	if (size > 0)
		room[w.used] = '\0';
	if (ret_cut)
		*ret_cut = w.full;
	return w.used;
}
