/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheme is told by its prefix, the name is written into a piece of stack that is larger than what is wanted, and
 * then made to fit. libiberty has no way to be stopped when the text is long enough, and a name of 100 bytes can stand
 * for gigabytes of text (substitutions that double); so the callback jumps out when the piece is full. That is sound, as
 * libiberty holds nothing but stack when it calls back.
 *
 * Invariants: libiberty's own arrays on the stack are bounded by the checks in is_bounded(); its recursion by its limit,
 * and by DEMANGLE_MOST.
 */
#include "stacks/demangle.h"

#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

#include <libiberty/demangle.h>

#include "stacks/demangle_rust.h"

#define TEXT_MOST 4096u
/* Template depths that are tried when a name is too long: the outermost arguments stay longest. */
#define DEPTH_MOST 3u
/* See is_bounded(). */
#define SCOPES_MOST 4096u
#define REREAD_MOST 8u
#define SEARCH_MOST (1u << 20)

static const char dots[] = "...";

struct cplus {
	struct demangled out;
	jmp_buf full;
};

void demangled_add(struct demangled *out, const char *text, size_t length)
{
	if (length > out->size - out->length) {
		length = out->size - out->length;
		out->full = true;
	}
	memcpy(out->text + out->length, text, length);
	out->length += length;
}

static void take_piece(const char *piece, size_t length, void *context)
{
	struct cplus *c = context;

	demangled_add(&c->out, piece, length);
	if (c->out.full)
		longjmp(c->full, 1);
}

static size_t letters(const char *name, const char *of)
{
	size_t count = 0;

	for (; *name; name++)
		count += strchr(of, *name) != NULL;
	return count;
}

static size_t words(const char *name, const char *word)
{
	size_t count = 0;

	for (; (name = strstr(name, word)); name++)
		count++;
	return count;
}

/* References to what came before in the name, "S3_". What looks like one within an identifier counts as well. */
static size_t references(const char *name)
{
	size_t count = 0;

	for (; (name = strchr(name, 'S')); name++)
		count += name[1] == '_' || (name[1] >= '0' && name[1] <= '9') || (name[1] >= 'A' && name[1] <= 'Z');
	return count;
}

/* Template arguments of a template parameter, "T_I". */
static size_t parameter_templates(const char *name)
{
	size_t count = 0;

	for (; (name = strchr(name, 'T')); name++)
		count += name[1 + strspn(name + 1, "_0123456789")] == 'I' && name[1] != 'I';
	return count;
}

/*
 * Where libiberty's work is not bounded by the length of the name; what goes beyond is none that a compiler makes for
 * people to read.
 *
 * - It takes stack for (template arguments) x (references to template parameters).
 * - Within the type of a conversion operator it reads the arguments of a template parameter twice, and so on within.
 * - For each pack expansion it searches all that is below, following each reference: with three references in each of n
 *   levels that is 3^n.
 */
static bool is_bounded(const char *name)
{
	size_t packs = words(name, "Dp") + words(name, "sZ") + words(name, "sP"), work = packs;

	if (letters(name, "IJ") * letters(name, "RO") > SCOPES_MOST)
		return false;
	if (words(name, "cv") && parameter_templates(name) > REREAD_MOST)
		return false;
	for (size_t i = references(name); packs && i >= 3 && work <= SEARCH_MOST; i -= 3)
		work *= 3;
	return work <= SEARCH_MOST;
}

static bool demangle_cplus(const char *name, struct demangled *out, const char **ret_end)
{
	struct cplus c = { .out = *out };
	int done = 1;

	if (!is_bounded(name))
		return false;
	if (setjmp(c.full) == 0)
		done = cplus_demangle_v3_callback(name, DMGL_NO_OPTS, take_piece, &c);
	if (!done || !c.out.length)
		return false;
	*out = c.out;
	/* No mangled name holds a dot: it begins what the compiler said of a clone. */
	*ret_end = name + strcspn(name, ".@");
	return true;
}

static bool is_operator(const char *text, size_t at, size_t length)
{
	static const char word[] = "operator";
	size_t n = sizeof word - 1;

	return at >= n && at < length && !memcmp(text + at - n, word, n) && strchr("<>-", text[at]);
}

/* Copies `text` without what is deeper than `keep` template brackets; returns the length, or `size` when it is too
 * long. */
static size_t copy_outer(const char *text, size_t length, unsigned keep, char *into, size_t size)
{
	struct demangled out = { .text = into, .size = size - 1 };
	unsigned depth = 0;

	for (size_t i = 0; i < length && !out.full; i++) {
		size_t signs = is_operator(text, i, length) ? strspn(text + i, "<>-=") : 0;

		if (signs) {
			if (depth <= keep)
				demangled_add(&out, text + i, signs);
			i += signs - 1;
			continue;
		}
		if (text[i] == '>' && depth && (!i || text[i - 1] != '-'))
			depth--;
		if (depth <= keep)
			demangled_add(&out, text + i, 1);
		if (text[i] == '<' && depth++ == keep)
			demangled_add(&out, dots, strlen(dots));
	}
	return out.full ? size : out.length;
}

/* Copies what fits, and says when that is not all. Never cuts within a UTF-8 character. */
static size_t copy_begin(const char *text, size_t length, char *into, size_t size)
{
	if (length < size) {
		memcpy(into, text, length);
		return length;
	}
	length = size - 1 - strlen(dots);
	while (length && ((unsigned char)text[length] & 0xc0) == 0x80)
		length--;
	memcpy(into, text, length);
	memcpy(into + length, dots, strlen(dots));
	return length + strlen(dots);
}

static size_t fit(const struct demangled *whole, char *text, size_t size)
{
	size_t room = whole->full ? size - strlen(dots) : size;

	if (whole->length < room && !whole->full)
		return copy_begin(whole->text, whole->length, text, size);
	for (unsigned keep = DEPTH_MOST; keep-- > 0;) {
		size_t length = copy_outer(whole->text, whole->length, keep, text, room);

		if (length >= room)
			continue;
		if (whole->full)
			memcpy(text + length, dots, strlen(dots));
		return length + (whole->full ? strlen(dots) : 0);
	}
	return copy_begin(whole->text, whole->length, text, size);
}

/* What the compiler says of a clone, without what only numbers it or names its module. */
static void add_suffix(struct demangled *out, const char *suffix)
{
	const char *llvm = strstr(suffix, ".llvm.");
	size_t length = llvm ? (size_t)(llvm - suffix) : strcspn(suffix, "@");

	if (*suffix == '.' && strspn(suffix, ".0123456789") < length)
		demangled_add(out, suffix, length);
}

static size_t finish(char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
	text[length] = 0;
	return length;
}

size_t demangle(const char *name, char *text, size_t size)
{
	char room[TEXT_MOST];
	struct demangled out = { .text = room, .size = TEXT_MOST };
	size_t length = strlen(name);
	const char *end = "";
	bool done = false;

	if (length <= DEMANGLE_MOST && name[0] == '_') {
		if (name[1] == 'R')
			done = demangle_rust_v0(name, &out, &end);
		else if (name[1] == 'Z')
			done = demangle_rust_legacy(name, &out, &end);
		if (!done && name[1] == 'Z') {
			out.length = 0;
			out.full = false;
			done = demangle_cplus(name, &out, &end);
		}
	}
	if (!done)
		return finish(text, copy_begin(name, length, text, size));
	add_suffix(&out, end);
	return finish(text, fit(&out, text, size));
}
