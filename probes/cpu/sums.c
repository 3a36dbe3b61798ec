/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table over one stretch of memory: entries are laid one behind the other as they come and chained by offset, so that clearing is
 * setting two numbers and the pages that a quiet host never reaches cost nothing. Two samples are one entry when execution, name and
 * all frames are equal.
 *
 * Invariants: entries fill [8, used) without gaps; offset 0 is "none"; hashes are keyed, as frames are chosen by those watched.
 */
#include "probes/cpu/sums.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

/* No program's code is below the first or at the second: the width of addresses of the largest machines. */
#define LOWEST_ADDRESS  4096u
#define HIGHEST_ADDRESS (1ull << 56)

struct cpu_sums {
	uint8_t *memory;
	size_t size, used, count;
	uint32_t *buckets, mask;
	uint64_t seed;
};

int cpu_sums_open(struct cpu_sums **ret, size_t bytes, uint32_t buckets)
{
	struct cpu_sums *w = calloc(1, sizeof *w);

	if (!w)
		return -ENOMEM;
	w->size = MIN_OF(bytes, (size_t)UINT32_MAX);
	w->mask = buckets - 1;
	w->buckets = calloc(buckets, sizeof *w->buckets);
	w->memory = mmap(NULL, w->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->memory == MAP_FAILED)
		w->memory = NULL;
	if (!w->buckets || !w->memory || getrandom(&w->seed, sizeof w->seed, 0) != sizeof w->seed) {
		cpu_sums_close(w);
		return -ENOMEM;
	}
	w->used = 8;
	*ret = w;
	return 0;
}

void cpu_sums_close(struct cpu_sums *w)
{
	if (!w)
		return;
	if (w->memory)
		munmap(w->memory, w->size);
	free(w->buckets);
	free(w);
}

static uint64_t hash_sample(const struct cpu_sums *w, const struct cpu_sample *s, const uint64_t *frames, size_t n)
{
	uint64_t h = w->seed ^ s->event.proc, name[2];

	memcpy(name, s->event.comm, sizeof name);
	for (size_t i = 0; i < n + 2; i++) {
		h ^= i < 2 ? name[i] : frames[i - 2];
		h *= 0xff51afd7ed558ccdull;
		h ^= h >> 32;
	}
	return h;
}

static struct cpu_sum *at(struct cpu_sums *w, uint32_t offset)
{
	return (struct cpu_sum *)(w->memory + offset);
}

static struct cpu_sum *find(struct cpu_sums *w, uint64_t hash, const struct cpu_sample *s, const uint64_t *frames)
{
	size_t bytes = (s->n_kernel + (size_t)s->n_user) * sizeof *frames;

	for (uint32_t i = w->buckets[hash & w->mask]; i; i = at(w, i)->next) {
		struct cpu_sum *e = at(w, i);

		if (e->hash == hash && e->event.proc == s->event.proc && e->event.pid == s->event.pid &&
		    e->n_kernel == s->n_kernel && e->n_user == s->n_user &&
		    !memcmp(e->event.comm, s->event.comm, sizeof e->event.comm) &&
		    !memcmp(cpu_sum_frames(e), frames, bytes))
			return e;
	}
	return NULL;
}

static struct cpu_sum *insert(struct cpu_sums *w, uint64_t hash, const struct cpu_sample *s, const uint64_t *frames)
{
	size_t bytes = (s->n_kernel + (size_t)s->n_user) * sizeof *frames;
	struct cpu_sum *e = at(w, (uint32_t)w->used);

	if (w->size - w->used < sizeof *e + bytes)
		return NULL;
	*e = (struct cpu_sum){ .event = s->event,
			       .hash = hash,
			       .next = w->buckets[hash & w->mask],
			       .bytes = (uint32_t)(sizeof *e + bytes),
			       .n_kernel = s->n_kernel,
			       .n_user = s->n_user,
			       .truncated = s->truncated != 0 };
	memcpy(e + 1, frames, bytes);
	w->buckets[hash & w->mask] = (uint32_t)w->used;
	w->used += e->bytes;
	w->count++;
	return e;
}

/* How many of the program's frames can be frames. Code built without frame pointers uses the register for anything, and the walk then
 * ends in numbers that are no addresses of programs: the stack is what comes before. The leaf is always real. */
static uint16_t sound_frames(const struct cpu_sample *s, const uint64_t *user)
{
	uint16_t n = 0;

	while (n < s->n_user && (!n || (user[n] >= LOWEST_ADDRESS && user[n] < HIGHEST_ADDRESS)))
		n++;
	return n;
}

int cpu_sums_add(struct cpu_sums *w, const struct cpu_sample *s, const struct cpu_sum **ret_entry)
{
	size_t n = s->n_kernel + (size_t)s->n_user;
	const uint64_t *frames = (const uint64_t *)(s + 1);

	if (s->n_kernel > CPU_DEPTH_MAX || s->n_user > CPU_DEPTH_MAX || s->event.size < sizeof *s + n * sizeof *frames)
		return -EBADMSG;

	struct cpu_sample sound = *s;

	sound.n_user = sound_frames(s, frames + s->n_kernel);
	n = s->n_kernel + (size_t)sound.n_user;

	uint64_t hash = hash_sample(w, &sound, frames, n);
	struct cpu_sum *e = find(w, hash, &sound, frames);

	*ret_entry = NULL;
	if (!e) {
		e = insert(w, hash, &sound, frames);
		if (!e)
			return -ENOSPC;
		*ret_entry = e;
	}
	e->value++;
	if (e->event.tid != s->event.tid)
		e->event.tid = e->event.pid;
	return 0;
}

struct cpu_sum *cpu_sums_next(struct cpu_sums *w, struct cpu_sum *e)
{
	size_t offset = e ? (size_t)((uint8_t *)e - w->memory) + e->bytes : 8;

	return offset < w->used ? at(w, (uint32_t)offset) : NULL;
}

size_t cpu_sums_count(const struct cpu_sums *w)
{
	return w->count;
}

void cpu_sums_clear(struct cpu_sums *w)
{
	memset(w->buckets, 0, (w->mask + 1ull) * sizeof *w->buckets);
	w->used = 8;
	w->count = 0;
}
