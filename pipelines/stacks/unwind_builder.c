/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The room while a table is built:
 *
 *	header | buckets | rows ... -> | free | entries -> | recipes | rules | bytes | hash slots
 *
 * Entries are the functions still to come. They are consumed from their front while rows grow towards them, so that rows may take the
 * place of consumed entries. At the end the recipes, rules and bytes move up behind the rows. Entries are sorted by heapsort, which needs
 * no memory and has no bad case, and mostly are sorted already.
 *
 * Invariants: addresses of rows ascend and lie below `limit`; buckets up to `bucket` are final.
 */
#include "stacks/unwind_builder.h"

#include <string.h>

#include "base/base.h"

#define BUCKET_BITS 16
#define RECIPES_MAX 24576u
#define RULES_MAX   16384u
#define BYTES_MAX   32768u
#define RULES_LIST  (UNWIND_REGISTERS_MAX + 1)
/* Functions begin at multiples of this; what lies between them is padding that never runs. */
#define FUNCTION_ALIGN 16u

struct shares {
	uint32_t recipes, rules, bytes, recipe_slots, rule_slots;
};

static uint32_t power_of_two(uint32_t least)
{
	uint32_t power = 16;

	while (power < least)
		power *= 2;
	return power;
}

static struct shares shares_of(uint64_t weight)
{
	struct shares s = { .recipes = (uint32_t)MIN_OF(weight / 32 + 64, RECIPES_MAX),
			    .rules = (uint32_t)MIN_OF(weight / 32 + 64, RULES_MAX),
			    .bytes = (uint32_t)MIN_OF(weight / 16 + 256, BYTES_MAX) & ~7u };

	s.recipe_slots = power_of_two(s.recipes * 3 / 2);
	s.rule_slots = power_of_two(s.rules);
	return s;
}

static size_t shares_bytes(const struct shares *s)
{
	return ALIGN_UP(s->recipes * sizeof(struct unwind_recipe) + s->rules * sizeof(struct unwind_rule) + s->bytes +
				(s->recipe_slots + s->rule_slots) * sizeof(uint16_t),
			(size_t)8);
}

static size_t head_bytes(uint64_t span)
{
	return ALIGN_UP(sizeof(struct unwind_table) +
				((size_t)(MIN_OF(span, UINT32_MAX) >> BUCKET_BITS) + 2) * sizeof(uint32_t),
			(size_t)8);
}

size_t unwind_builder_room(uint64_t span, uint64_t weight, uint64_t n_functions)
{
	struct shares s = shares_of(weight);

	/* The densest code seen has a row for each 4 bytes of unwind information. */
	return head_bytes(span) + shares_bytes(&s) + (size_t)(weight / 3) * sizeof(uint32_t) +
	       (size_t)n_functions * sizeof(struct unwind_entry) + 64;
}

bool unwind_builder_open(struct unwind_builder *b, const struct unwind_arch *arch, struct unwind_table *table,
			 size_t size, uint64_t span, uint64_t weight)
{
	size_t head = head_bytes(span), end = size & ~(size_t)7;
	struct shares s = shares_of(MIN_OF(weight, size / 4));
	uint8_t *at = (uint8_t *)table;

	*b = (struct unwind_builder){
		.arch = arch, .table = table, .span = MIN_OF(span, UINT32_MAX - 1), .last_recipe = UNWIND_NO_RECIPE
	};
	if (end < head + shares_bytes(&s) + 2 * sizeof(struct unwind_entry))
		return false;
	end -= shares_bytes(&s);
	b->buckets = table->data;
	table->n_buckets = (uint32_t)(MIN_OF(span, UINT32_MAX) >> BUCKET_BITS) + 1;
	b->buckets[0] = 0;
	b->rows = b->buckets + table->n_buckets + 1;
	b->entries = (void *)(at + end);
	b->most_entries = (uint32_t)MIN_OF((end - head) / sizeof(struct unwind_entry), UINT32_MAX / 2);
	b->recipes = (void *)(at + end);
	b->rules = (void *)(b->recipes + s.recipes);
	b->bytes = (uint8_t *)(b->rules + s.rules);
	b->most_bytes = s.bytes;
	b->recipe_pool = (struct unwind_pool){ .slots = (void *)(b->bytes + s.bytes),
					       .mask = s.recipe_slots - 1,
					       .most = s.recipes };
	b->rule_pool = (struct unwind_pool){ .slots = b->recipe_pool.slots + s.recipe_slots,
					     .mask = s.rule_slots - 1,
					     .most = s.rules };
	memset(b->recipe_pool.slots, 0, (s.recipe_slots + s.rule_slots) * sizeof(uint16_t));
	return true;
}

/* ---- functions ---- */

/* The list grows downwards from the scratch; the order is made by sorting. */
void unwind_builder_announce(struct unwind_builder *b, uint64_t address, enum unwind_source source, uint64_t place)
{
	uint64_t begin = address - b->table->base;

	if (!unwind_builder_holds(b, address) || begin >= UINT32_MAX || place >> UNWIND_PLACE_BITS)
		return;
	if (b->n_entries == b->most_entries) {
		b->table->full = 1;
		return;
	}
	b->entries--;
	b->n_entries++;
	*b->entries = (struct unwind_entry){ (uint32_t)begin, (uint32_t)source << UNWIND_PLACE_BITS | (uint32_t)place };
}

static uint64_t entry_key(const struct unwind_entry *e)
{
	return (uint64_t)e->begin << 32 | e->source;
}

static void sift_down(struct unwind_entry *heap, uint32_t root, uint32_t count)
{
	struct unwind_entry moving = heap[root];

	for (uint32_t child; (child = 2 * root + 1) < count; root = child) {
		if (child + 1 < count && entry_key(&heap[child]) < entry_key(&heap[child + 1]))
			child++;
		if (entry_key(&heap[child]) <= entry_key(&moving))
			break;
		heap[root] = heap[child];
	}
	heap[root] = moving;
}

static bool sorted(const struct unwind_entry *e, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++)
		if (entry_key(&e[i]) < entry_key(&e[i - 1]))
			return false;
	return true;
}

static void swap_entries(struct unwind_entry *a, struct unwind_entry *b)
{
	struct unwind_entry held = *a;

	*a = *b;
	*b = held;
}

void unwind_builder_sort(struct unwind_builder *b)
{
	struct unwind_entry *e = b->entries;

	/* They were put in from the end. */
	for (uint32_t i = 0; i < b->n_entries / 2; i++)
		swap_entries(&e[i], &e[b->n_entries - 1 - i]);
	b->rows_end = (uint32_t *)e;
	if (sorted(e, b->n_entries))
		return;
	for (uint32_t i = b->n_entries / 2; i-- > 0;)
		sift_down(e, i, b->n_entries);
	for (uint32_t i = b->n_entries; i-- > 1;) {
		swap_entries(&e[0], &e[i]);
		sift_down(e, 0, i);
	}
}

/* ---- rows ---- */

static void put_row(struct unwind_builder *b, uint32_t at, uint16_t recipe)
{
	struct unwind_table *t = b->table;
	uint32_t bucket = at >> BUCKET_BITS;

	if (b->any && at == b->last) {
		/* The later row of one address holds. */
		b->rows[t->n_rows - 1] = at << 16 | recipe;
		b->last_recipe = recipe;
		return;
	}
	if (recipe == b->last_recipe || (b->any && at < b->last))
		return;
	if (b->rows + t->n_rows >= b->rows_end) {
		t->full = b->stopped = true;
		return;
	}
	while (b->bucket < bucket)
		b->buckets[++b->bucket] = t->n_rows;
	b->rows[t->n_rows++] = at << 16 | recipe;
	b->last = at;
	b->last_recipe = recipe;
	b->any = true;
}

/* Once there is no room for a row, what follows it must not seem to be the row before it. */
static void end_covered(struct unwind_builder *b)
{
	if (b->any && !b->stopped)
		put_row(b, b->covered, UNWIND_NO_RECIPE);
}

bool unwind_builder_begin(struct unwind_builder *b, uint64_t begin, uint64_t end)
{
	uint64_t base = b->table->base, from = begin - base;

	if (b->stopped || begin < base || end <= begin || from < b->covered || from >= b->span)
		return false;
	/* Padding between two functions goes with the first: a row less. */
	if (b->any && from > b->covered && ALIGN_UP((uint64_t)b->covered, (uint64_t)FUNCTION_ALIGN) < from)
		end_covered(b);
	b->covered = b->limit = (uint32_t)MIN_OF(end - base, b->span);
	return true;
}

void unwind_builder_row(struct unwind_builder *b, uint64_t address, uint16_t recipe)
{
	uint64_t at = address - b->table->base;

	if (address >= b->table->base && at < b->limit && !b->stopped)
		put_row(b, (uint32_t)at, recipe);
}

void unwind_builder_close(struct unwind_builder *b)
{
	struct unwind_table *t = b->table;
	uint8_t *at;

	if (b->any) {
		/* Without room for the end, the last row gives up its place. */
		if (b->stopped && t->n_rows)
			b->rows[t->n_rows - 1] |= UNWIND_NO_RECIPE;
		else
			end_covered(b);
	}
	while (b->bucket < t->n_buckets)
		b->buckets[++b->bucket] = t->n_rows;
	t->n_recipes = b->recipe_pool.count;
	t->n_rules = b->rule_pool.count;
	t->n_bytes = b->n_bytes;
	at = (uint8_t *)(b->rows + t->n_rows);
	memmove(at, b->recipes, t->n_recipes * sizeof *b->recipes);
	at += t->n_recipes * sizeof *b->recipes;
	memmove(at, b->rules, t->n_rules * sizeof *b->rules);
	at += t->n_rules * sizeof *b->rules;
	memmove(at, b->bytes, b->n_bytes);
}

/* ---- what rows hold ---- */

static uint32_t hash_words(const void *bytes, size_t size)
{
	uint64_t hash = size;

	for (size_t i = 0; i < size; i += 4) {
		uint32_t word;

		memcpy(&word, (const uint8_t *)bytes + i, 4);
		hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 29;
	}
	return (uint32_t)(hash >> 7);
}

int unwind_builder_recipe(struct unwind_builder *b, struct unwind_recipe recipe)
{
	struct unwind_pool *pool = &b->recipe_pool;
	uint32_t slot = hash_words(&recipe, sizeof recipe) & pool->mask;

	for (; pool->slots[slot]; slot = (slot + 1) & pool->mask)
		if (!memcmp(&b->recipes[pool->slots[slot] - 1], &recipe, sizeof recipe))
			return pool->slots[slot] - 1;
	if (pool->count == pool->most)
		return -1;
	b->recipes[pool->count++] = recipe;
	pool->slots[slot] = (uint16_t)pool->count;
	return (int)pool->count - 1;
}

int unwind_builder_rules(struct unwind_builder *b, const struct unwind_rule *rules, uint32_t count)
{
	struct unwind_pool *pool = &b->rule_pool;
	struct unwind_rule list[RULES_LIST];
	uint32_t size, slot;

	if (count >= RULES_LIST)
		return -1;
	memcpy(list, rules, count * sizeof *rules);
	list[count++] = (struct unwind_rule){ .kind = UNWIND_RULE_LAST };
	size = count * (uint32_t)sizeof *rules;
	slot = hash_words(list, size) & pool->mask;
	for (; pool->slots[slot]; slot = (slot + 1) & pool->mask) {
		uint32_t at = pool->slots[slot] - 1u;

		if (at + count <= pool->count && !memcmp(&b->rules[at], list, size))
			return (int)at;
	}
	if (pool->most - pool->count < count)
		return -1;
	memcpy(&b->rules[pool->count], list, size);
	pool->slots[slot] = (uint16_t)(pool->count + 1);
	pool->count += count;
	return (int)(pool->count - count);
}

int unwind_builder_expression(struct unwind_builder *b, const uint8_t *bytes, size_t size)
{
	uint8_t head[2] = { (uint8_t)size, (uint8_t)(size >> 8) };

	if (size > 512)
		return -1;
	for (uint32_t at = 0; at < b->n_bytes;) {
		uint32_t n = b->bytes[at] | (uint32_t)b->bytes[at + 1] << 8;

		if (n == size && !memcmp(b->bytes + at + 2, bytes, size))
			return (int)at;
		at += 2 + n;
	}
	if (b->most_bytes - b->n_bytes < size + 2)
		return -1;
	memcpy(b->bytes + b->n_bytes, head, 2);
	memcpy(b->bytes + b->n_bytes + 2, bytes, size);
	b->n_bytes += (uint32_t)size + 2;
	return (int)(b->n_bytes - size - 2);
}

/* OP_breg<reg> with an offset below 2^13 in LEB128, and OP_deref behind it where asked. */
static int address_from_sp(struct unwind_builder *b, int16_t offset, bool deref)
{
	uint8_t code[4] = { (uint8_t)(0x70 + b->arch->sp), (uint8_t)((offset & 0x7f) | 0x80),
			    (uint8_t)(offset >> 7 & 0x3f), 0x06 };

	return unwind_builder_expression(b, code, deref ? 4 : 3);
}

int unwind_builder_sigreturn(struct unwind_builder *b)
{
	const struct unwind_arch *arch = b->arch;
	struct unwind_rule list[UNWIND_REGISTERS_MAX];
	int rules, cfa = address_from_sp(b, arch->signal_frame[arch->sp], true);
	uint32_t count = 0;

	for (unsigned i = 0; i < arch->n_registers; i++) {
		int at = i == arch->sp ? -1 : address_from_sp(b, arch->signal_frame[i], false);

		if (at >= 0)
			list[count++] = (struct unwind_rule){ (uint8_t)i, UNWIND_RULE_AT_EXPRESSION, (uint16_t)at };
	}
	rules = unwind_builder_rules(b, list, count);
	if (rules < 0 || cfa < 0)
		return -1;
	return unwind_builder_recipe(b, (struct unwind_recipe){ .offset = cfa,
								.flags = UNWIND_CFA_EXPRESSION | UNWIND_SIGNAL,
								.rules = (uint16_t)rules });
}
