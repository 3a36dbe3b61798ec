/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table over one stretch of memory: entries are laid one behind the other as they come and chained by offset, so that clearing is
 * setting two numbers and the pages that a quiet host never reaches cost nothing. Two samples are one entry when execution, thread, its
 * name, all frames and the cause are equal.
 *
 * Invariants: entries fill [8, used) without gaps; offset 0 is "none"; hashes are keyed, as frames are chosen by those watched.
 */
#include "stacks/sums.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

struct sums {
	uint8_t *memory;
	size_t size, used, count;
	uint32_t *buckets, mask;
	uint64_t seed;
};

int sums_open(struct sums **ret, size_t bytes, uint32_t buckets)
{
	struct sums *w = calloc(1, sizeof *w);

	if (!w)
		return -ENOMEM;
	w->size = MIN_OF(bytes, (size_t)UINT32_MAX);
	w->mask = buckets - 1;
	w->buckets = calloc(buckets, sizeof *w->buckets);
	w->memory = mmap(NULL, w->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->memory == MAP_FAILED)
		w->memory = NULL;
	if (!w->buckets || !w->memory || getrandom(&w->seed, sizeof w->seed, 0) != sizeof w->seed) {
		sums_close(w);
		return -ENOMEM;
	}
	w->used = 8;
	*ret = w;
	return 0;
}

void sums_close(struct sums *w)
{
	if (!w)
		return;
	if (w->memory)
		munmap(w->memory, w->size);
	free(w->buckets);
	free(w);
}

static uint64_t mix(uint64_t h, const void *bytes, size_t size)
{
	const uint8_t *from = bytes;

	for (size_t at = 0; at < size; at += 8) {
		uint64_t word = 0;

		memcpy(&word, from + at, MIN_OF(size - at, (size_t)8));
		h = (h ^ word) * 0xff51afd7ed558ccdull;
		h ^= h >> 32;
	}
	return h;
}

static uint64_t hash_sample(const struct sums *w, const struct sums_sample *s)
{
	uint64_t h = w->seed ^ s->event->proc ^ (uint64_t)s->event->tid << 32;

	h = mix(h, s->event->comm, sizeof s->event->comm);
	h = mix(h, s->kernel, s->n_kernel * sizeof *s->kernel);
	h = mix(h, s->user, s->n_user * sizeof *s->user);
	return mix(h, s->cause, s->cause_size);
}

static struct sum *at(struct sums *w, uint32_t offset)
{
	return (struct sum *)(w->memory + offset);
}

static bool is_same(const struct sum *e, const struct sums_sample *s)
{
	return e->event.proc == s->event->proc && e->event.pid == s->event->pid && e->event.tid == s->event->tid &&
	       e->n_kernel == s->n_kernel && e->n_user == s->n_user && e->cause_size == s->cause_size &&
	       !memcmp(e->event.comm, s->event->comm, sizeof e->event.comm) &&
	       (!s->n_kernel || !memcmp(sum_kernel(e), s->kernel, s->n_kernel * sizeof *s->kernel)) &&
	       (!s->n_user || !memcmp(sum_user(e), s->user, s->n_user * sizeof *s->user)) &&
	       (!s->cause_size || !memcmp(sum_cause(e), s->cause, s->cause_size));
}

static struct sum *find(struct sums *w, uint64_t hash, const struct sums_sample *s)
{
	for (uint32_t i = w->buckets[hash & w->mask]; i; i = at(w, i)->next)
		if (at(w, i)->hash == hash && is_same(at(w, i), s))
			return at(w, i);
	return NULL;
}

static struct sum *insert(struct sums *w, uint64_t hash, const struct sums_sample *s)
{
	size_t kernel = s->n_kernel * sizeof *s->kernel, user = s->n_user * sizeof *s->user;
	size_t bytes = ALIGN_UP(sizeof(struct sum) + kernel + user + s->cause_size, (size_t)8);
	struct sum *e = at(w, (uint32_t)w->used);
	uint8_t *to = (uint8_t *)(e + 1);

	if (w->size - w->used < bytes)
		return NULL;
	*e = (struct sum){ .event = *s->event,
			   .hash = hash,
			   .next = w->buckets[hash & w->mask],
			   .bytes = (uint32_t)bytes,
			   .n_kernel = s->n_kernel,
			   .n_user = s->n_user,
			   .cause_size = s->cause_size,
			   .truncated = s->truncated };
	if (kernel)
		memcpy(to, s->kernel, kernel);
	if (user)
		memcpy(to + kernel, s->user, user);
	if (s->cause_size)
		memcpy(to + kernel + user, s->cause, s->cause_size);
	w->buckets[hash & w->mask] = (uint32_t)w->used;
	w->used += bytes;
	w->count++;
	return e;
}

int sums_add(struct sums *w, const struct sums_sample *s, struct sum **ret_sum)
{
	uint64_t hash = hash_sample(w, s);
	struct sum *e = find(w, hash, s);

	*ret_sum = NULL;
	if (!e) {
		e = insert(w, hash, s);
		if (!e)
			return -ENOSPC;
		*ret_sum = e;
	}
	e->value += s->value;
	e->samples++;
	e->truncated |= s->truncated;
	return 0;
}

struct sum *sums_next(struct sums *w, struct sum *e)
{
	size_t offset = e ? (size_t)((uint8_t *)e - w->memory) + e->bytes : 8;

	return offset < w->used ? at(w, (uint32_t)offset) : NULL;
}

size_t sums_count(const struct sums *w)
{
	return w->count;
}

void sums_clear(struct sums *w)
{
	memset(w->buckets, 0, (w->mask + 1ull) * sizeof *w->buckets);
	w->used = 8;
	w->count = 0;
}
