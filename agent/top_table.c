/* SPDX-License-Identifier: Apache-2.0 */
/* Sums over the last while, see top_table.h. Entries lie side by side (so a walk is a loop) and hang in chains by hash. */
#include "top_table.h"

#include <errno.h>
#include <string.h>

#define EVICT_AMONG 16u

int top_table_open(struct top_table *t, uint32_t capacity, uint32_t maxima, bool lasting)
{
	*t = (struct top_table){ .capacity = capacity, .maxima = maxima, .lasting = lasting };
	t->entries = calloc(capacity, sizeof *t->entries);
	t->heads = calloc(capacity, sizeof *t->heads);
	return t->entries && t->heads ? 0 : -ENOMEM;
}

void top_table_close(struct top_table *t)
{
	for (uint32_t i = 0; t->entries && i < t->count; i++) {
		free(t->entries[i].key);
		free(t->entries[i].text);
	}
	free(t->entries);
	free(t->heads);
	*t = (struct top_table){ 0 };
}

static uint32_t *head_of(const struct top_table *t, uint64_t hash)
{
	return &t->heads[hash % t->capacity];
}

static uint32_t *link_to(const struct top_table *t, uint32_t index)
{
	uint32_t *link = head_of(t, t->entries[index].hash);

	while (*link != index + 1)
		link = &t->entries[*link - 1].next;
	return link;
}

/* The last entry takes the place of the one that goes. */
static void remove_entry(struct top_table *t, uint32_t index)
{
	struct top_entry *e = &t->entries[index];
	uint32_t last = t->count - 1;

	*link_to(t, index) = e->next;
	free(e->key);
	free(e->text);
	if (index != last) {
		*link_to(t, last) = index + 1;
		*e = t->entries[last];
	}
	t->entries[last] = (struct top_entry){ 0 };
	t->count--;
}

void top_table_clear(struct top_table *t)
{
	while (t->count)
		remove_entry(t, t->count - 1);
	t->evicted = 0;
}

static double weight_of(const struct top_table *t, const struct top_entry *e)
{
	double weight = 0;

	for (unsigned v = 0; v < TOP_VALUES; v++)
		if (!(t->maxima & 1u << v))
			weight += (double)e->sums[v];
	return weight;
}

/* The least of a few: good enough, and the cost of a full table is a constant. */
static void evict(struct top_table *t)
{
	uint32_t least = t->hand % t->count;

	for (uint32_t i = 0; i < EVICT_AMONG; i++) {
		uint32_t at = t->hand++ % t->count;

		if (weight_of(t, &t->entries[at]) < weight_of(t, &t->entries[least]))
			least = at;
	}
	remove_entry(t, least);
	t->evicted++;
}

static struct top_entry *find_hashed(const struct top_table *t, uint64_t hash, const void *key, size_t size)
{
	for (uint32_t i = *head_of(t, hash); i; i = t->entries[i - 1].next) {
		struct top_entry *e = &t->entries[i - 1];

		if (e->hash == hash && e->key_size == size && memcmp(e->key, key, size) == 0)
			return e;
	}
	return NULL;
}

struct top_entry *top_table_find(const struct top_table *t, const void *key, size_t size)
{
	size = MIN_OF(size, TOP_KEY_MAX);
	return find_hashed(t, hash_bytes(key, size), key, size);
}

struct top_entry *top_table_take(struct top_table *t, const void *key, size_t size)
{
	uint64_t hash = hash_bytes(key, MIN_OF(size, TOP_KEY_MAX));
	struct top_entry *e;
	uint32_t *head;
	char *copy;

	size = MIN_OF(size, TOP_KEY_MAX);
	e = find_hashed(t, hash, key, size);
	if (e)
		return e;
	copy = malloc(size + 1);
	if (!copy)
		return NULL;
	memcpy(copy, key, size);
	copy[size] = '\0';
	if (t->count == t->capacity)
		evict(t);
	e = &t->entries[t->count++];
	head = head_of(t, hash);
	*e = (struct top_entry){ .hash = hash, .key = copy, .key_size = (uint32_t)size, .next = *head };
	*head = t->count;
	return e;
}

static uint64_t joined(const struct top_table *t, unsigned value, uint64_t a, uint64_t b)
{
	return t->maxima & 1u << value ? MAX_OF(a, b) : a + b;
}

void top_entry_add(const struct top_table *t, struct top_entry *e, unsigned slice, unsigned value, uint64_t amount)
{
	e->slices[slice][value] = joined(t, value, e->slices[slice][value], amount);
	e->sums[value] = joined(t, value, e->sums[value], amount);
}

void top_entry_name(struct top_entry *e, const void *name, size_t size)
{
	size = MIN_OF(size, sizeof e->name - 1);
	memcpy(e->name, name, size);
	e->name[size] = '\0';
}

void top_entry_text(struct top_entry *e, const void *text, size_t size)
{
	char *copy;

	size = MIN_OF(size, TOP_TEXT_MAX);
	copy = malloc(size + 1);
	if (!copy)
		return;
	memcpy(copy, text, size);
	copy[size] = '\0';
	free(e->text);
	e->text = copy;
	e->text_size = (uint32_t)size;
}

const char *top_entry_key(const struct top_entry *e, unsigned n)
{
	const char *at = e->key, *end = e->key + e->key_size;

	for (; n && at < end; n--)
		at += strlen(at) + 1;
	return at < end ? at : "";
}

/* Whether anything is left. */
static bool put_together(const struct top_table *t, struct top_entry *e)
{
	bool left = false;

	for (unsigned v = 0; v < TOP_VALUES; v++) {
		e->sums[v] = 0;
		for (unsigned s = 0; s < TOP_SLICES; s++)
			e->sums[v] = joined(t, v, e->sums[v], e->slices[s][v]);
		left = left || e->sums[v];
	}
	return left;
}

void top_table_turn(struct top_table *t, unsigned slice)
{
	if (t->lasting)
		return;
	for (uint32_t i = t->count; i-- > 0;) {
		struct top_entry *e = &t->entries[i];

		memset(e->slices[slice], 0, sizeof e->slices[slice]);
		if (!put_together(t, e))
			remove_entry(t, i);
	}
}
