/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From origins to names. An origin is an entry's offset; the entry has a name, or refers to another that has. Jumping about in
 * .debug_info and .debug_str would be slow, and in compressed sections very slow. So the origins are sorted by offset and met in one
 * pass; those that turn out to refer on are sorted again, for a few rounds; then the names' own offsets are sorted and met in one pass.
 * An origin's entry changes as it becomes known: key = kind << 32 | value, a = its index, by which nodes know it.
 *
 * Invariants: after the last round no origin is INLINE_DIE; after the copying each is INLINE_TEXT or INLINE_NAMELESS.
 */
#include "stacks/inline_build.h"

#include "base/base.h"

#define ROUNDS_MAX 6u
#define TEXT_MAX   1024u /* bytes of a name, with its NUL; a longer one is cut */

static uint64_t key_of(enum inline_origin kind, uint64_t value)
{
	return (uint64_t)kind << 32 | (uint32_t)value;
}

static enum inline_origin kind_of(const struct inline_entry *origin)
{
	return (enum inline_origin)(origin->key >> 32);
}

/* Keeps a text once, as far as those seen before are remembered. Returns its offset among the names, 0 for none. */
static uint32_t keep_text(struct inline_builder *b, const char *text, uint32_t length)
{
	struct inline_array *names = &b->room.arrays[INLINE_NAMES];
	uint32_t hash = 2166136261u, slot, name;

	for (uint32_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)text[i]) * 16777619u;
	slot = hash % ARRAY_SIZE(b->texts);
	name = b->texts[slot].name;
	if (name && b->texts[slot].hash == hash && names->count - name > length &&
	    !memcmp(names->begin + name, text, length + 1))
		return name;
	if (!length)
		return 0;
	if (!inline_room_grow(&b->room, INLINE_NAMES, length + 1)) {
		b->health.names_left_out++;
		return 0;
	}
	name = names->count;
	memcpy(names->begin + name, text, length + 1);
	names->count += length + 1;
	b->texts[slot].hash = hash;
	b->texts[slot].name = name;
	return name;
}

/* Copies the text at `at` of a section to the names. */
static uint64_t copy_text(struct inline_builder *b, enum dwarf_section_name name, uint64_t at)
{
	struct dwarf_section *s = &b->dwarf.sections[name];
	char text[TEXT_MAX];
	size_t length = 0;
	uint32_t kept;

	s->bad = false;
	if (at >= s->size || !dwarf_seek(&b->dwarf, s, at))
		return key_of(INLINE_NAMELESS, 0);
	while (length < TEXT_MAX - 1) {
		size_t n = MIN_OF((size_t)(s->end - s->next), TEXT_MAX - 1 - length);
		const uint8_t *nul = memchr(s->next, 0, n);

		n = nul ? (size_t)(nul - s->next) : n;
		memcpy(text + length, s->next, n);
		length += n;
		s->next += n;
		if (nul || !n)
			break;
		dwarf_need(&b->dwarf, s);
	}
	text[length] = 0;
	b->dwarf.steps += length + 16;
	kept = keep_text(b, text, (uint32_t)length);
	return key_of(kept ? INLINE_TEXT : INLINE_NAMELESS, kept);
}

/* What the entry just read says of its name: that of the linker first, then whom it refers to, then its own. */
static uint64_t name_die(struct inline_builder *b)
{
	const struct dwarf_die *die = &b->die;
	bool refers = dwarf_has(die, DWARF_ORIGIN) || dwarf_has(die, DWARF_SPECIFICATION);
	enum dwarf_slot slot = dwarf_has(die, DWARF_LINKAGE_NAME) ? DWARF_LINKAGE_NAME : DWARF_NAME;
	uint64_t at = 0;

	if (slot == DWARF_NAME && refers && b->rounds + 1 < ROUNDS_MAX)
		return key_of(INLINE_DIE,
			      die->value[dwarf_has(die, DWARF_ORIGIN) ? DWARF_ORIGIN : DWARF_SPECIFICATION]);
	switch (dwarf_text(&b->dwarf, &b->unit, die, slot, &at)) {
	case DWARF_TEXT_INFO:
		return copy_text(b, DWARF_INFO, at);
	case DWARF_TEXT_STR:
		return key_of(at <= UINT32_MAX ? INLINE_STR : INLINE_NAMELESS, at);
	case DWARF_TEXT_LINE_STR:
		return key_of(at <= UINT32_MAX ? INLINE_LINE_STR : INLINE_NAMELESS, at);
	default:
		return key_of(INLINE_NAMELESS, 0);
	}
}

/* Goes forward to the unit that holds `at`. False when there is none, or there are no steps left to reach it. */
static bool reach_unit(struct inline_builder *b, uint64_t at)
{
	while (at >= b->unit.end && !inline_must_pause(b)) {
		b->in_unit = false;
		if (dwarf_unit_read(&b->dwarf, b->unit.end, &b->unit) < 0)
			b->unit = (struct dwarf_unit){ .end = UINT64_MAX };
		b->dwarf.steps += 16;
	}
	return at < b->unit.end;
}

static uint64_t resolve(struct inline_builder *b, uint64_t at)
{
	if (!b->in_unit)
		b->in_unit = dwarf_unit_open(&b->dwarf, &b->unit, &b->abbreviations, &b->die);
	b->dwarf.sections[DWARF_INFO].bad = false;
	b->dwarf.steps += 32;
	if (!b->in_unit || at < b->unit.first || !dwarf_seek(&b->dwarf, &b->dwarf.sections[DWARF_INFO], at) ||
	    !dwarf_die_read(&b->dwarf, &b->unit, &b->abbreviations, &b->die))
		return key_of(INLINE_NAMELESS, 0);
	return name_die(b);
}

bool inline_resolve_some(struct inline_builder *b)
{
	uint32_t count = b->room.arrays[INLINE_ORIGINS].count;

	for (; b->index < count; b->index++) {
		/* Names grow while this goes on, and move what lies around them. */
		struct inline_entry *origin = &inline_origins(b)[b->index];
		uint64_t at = (uint32_t)origin->key, key;

		if (kind_of(origin) != INLINE_DIE)
			break;
		if (inline_must_pause(b) || !reach_unit(b, at))
			return false;
		key = b->dwarf.steps < b->deadline ? resolve(b, at) : key_of(INLINE_NAMELESS, 0);
		inline_origins(b)[b->index].key = key;
	}
	return true;
}

bool inline_copy_names_some(struct inline_builder *b)
{
	uint32_t count = b->room.arrays[INLINE_ORIGINS].count;
	uint64_t known = key_of(INLINE_NAMELESS, 0), last = UINT64_MAX;

	for (; b->index < count; b->index++) {
		uint64_t key = inline_origins(b)[b->index].key;

		if (inline_must_pause(b))
			return false;
		if (key >> 32 > INLINE_LINE_STR)
			return true;
		if (key != last)
			known = copy_text(b, key >> 32 == INLINE_STR ? DWARF_STR : DWARF_LINE_STR, (uint32_t)key);
		last = key;
		inline_origins(b)[b->index].key = known;
	}
	return true;
}

void inline_assign_names(struct inline_builder *b)
{
	struct inline_array *origins = &b->room.arrays[INLINE_ORIGINS], *nodes = &b->room.arrays[INLINE_NODES];
	struct inline_entry *origin = inline_origins(b);
	struct inline_node *node = inline_nodes(b);

	/* Each origin goes to the place of its index: their indices are a permutation. */
	for (uint32_t i = 0; i < origins->count; i++)
		while (origin[i].a != i) {
			struct inline_entry moving = origin[i];

			origin[i] = origin[moving.a];
			origin[moving.a] = moving;
		}
	for (uint32_t i = 1; i < nodes->count; i++) {
		bool named = node[i].name < origins->count && kind_of(&origin[node[i].name]) == INLINE_TEXT;

		node[i].name = named ? (uint32_t)origin[node[i].name].key : 0;
	}
	b->dwarf.steps += nodes->count + origins->count;
	origins->count = 0;
}
