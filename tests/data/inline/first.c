/* SPDX-License-Identifier: Apache-2.0 */
/* Inlined in each other in many ways: with ranges of their own, in parts that are seldom run, in nested functions, across files. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t across(uint64_t x);

struct item {
	uint64_t key;
	struct item *next;
};

static inline uint64_t rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static inline __attribute__((always_inline)) uint64_t mix(uint64_t a, uint64_t b)
{
	a ^= rotate(b, 13) * 0x9e3779b97f4a7c15u;
	return a ^ rotate(a, 29) ^ across(b);
}

static inline void complain(const char *what, uint64_t value)
{
	fprintf(stderr, "%s: %llu\n", what, (unsigned long long)value);
	if (value > 100)
		abort();
}

static inline struct item *push(struct item *head, uint64_t key)
{
	struct item *item = malloc(sizeof *item);

	if (__builtin_expect(!item, 0))
		complain("memory", key);
	if (__builtin_expect(key == 0xfeed, 0))
		complain("key", mix(key, key));
	item->key = mix(key, (uintptr_t)head);
	item->next = head;
	return item;
}

static inline uint64_t sum(const struct item *head)
{
	uint64_t total = 0;

	for (; head; head = head->next)
		total = mix(total, head->key);
	return total;
}

static int compare(const void *x, const void *y)
{
	const struct item *a = *(struct item *const *)x, *b = *(struct item *const *)y;

	return mix(a->key, 1) < mix(b->key, 1) ? -1 : 1;
}

static inline uint64_t walk(uint64_t n)
{
	return n < 2 ? n : mix(walk(n - 1), n) + walk(n - 2);
}

#ifdef __clang__
#define NESTED(x) mix(x, 5)
#else
#define NESTED(x) nested(x)
#endif

__attribute__((noinline)) uint64_t work(int count, char **words)
{
	struct item *head = NULL, *array[64] = { 0 };
	uint64_t total = 0;
#ifndef __clang__
	uint64_t nested(uint64_t x)
	{
		return mix(x, (uint64_t)count) + sum(head);
	}
#endif

	for (int i = 0; i < count; i++) {
		head = push(head, strlen(words[i]));
		if (i < 64)
			array[i] = head;
		total += NESTED((uint64_t)i);
	}
	qsort(array, (size_t)(count < 64 ? count : 64), sizeof array[0], compare);
	if (sum(head) == 77)
		complain("sum", sum(head));
	return total + sum(array[0]) + walk((uint64_t)count);
}

int main(int argc, char **argv)
{
	printf("%llu\n", (unsigned long long)mix(work(argc, argv), across(3)));
	return 0;
}
