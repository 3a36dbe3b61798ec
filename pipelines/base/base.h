/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few words every stage shares: destructors that run at the end of a scope, a carrier for one clear error
 * sentence, and the notations that people write (10s, 64MiB). Library code never prints: it returns a negative errno
 * and, where a person will read it, fills a struct fault.
 */
#ifndef SONDE_BASE_H
#define SONDE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a)       (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b)        ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b)        ((a) > (b) ? (a) : (b))
#define ALIGN_UP(value, to) (((value) + ((to)-1)) & ~((__typeof__(value))(to)-1))
#define _cleanup_(f)        __attribute__((cleanup(f)))
#define _printf_(f, a)      __attribute__((format(printf, f, a)))

#define NS_PER_SEC 1000000000ull
#define NS_PER_MS  1000000ull

/* One error as a person reads it: what is wrong, where, and what to do. `line` and `column` count from 1; 0 is none. */
struct fault {
	unsigned line, column;
	char text[512];
};

/* Fills `f` (which may be NULL) and returns `error`, a negative errno, so that a caller can return it directly. */
int fault_set(struct fault *f, int error, const char *format, ...) _printf_(3, 4);
int fault_at(struct fault *f, int error, unsigned line, unsigned column, const char *format, ...) _printf_(5, 6);

/* `text` as "64MiB", "10KB", "4096" (bytes), or as "10s", "5m", "250ms", "1h30m" (nanoseconds).
 * Returns 0, -EINVAL for another notation, -ERANGE when it does not fit 64 bits. */
int parse_size(const char *text, uint64_t *ret_bytes);
int parse_duration(const char *text, uint64_t *ret_ns);

/* The name in `names` nearest to `name` by edit distance (Damerau-Levenshtein, at most a third of its length), or NULL. */
const char *nearest_name(const char *name, const char *const *names, size_t n_names);

/* Clocks in nanoseconds: since the epoch, and since boot with suspend included (the clock of every event). */
uint64_t now_realtime_ns(void);
uint64_t now_boottime_ns(void);

/* The greatest number that divides both; of a and 0 it is a. */
static inline uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* FNV-1a over `size` bytes, 64 bits; for tables only, never for anything an attacker gains by colliding. */
uint64_t hash_bytes(const void *bytes, size_t size);

/* Reads a whole small file (at most `max` bytes) into a fresh NUL-terminated buffer. -EFBIG when it is larger. */
int read_small_file(const char *path, size_t max, char **ret_text, size_t *ret_size);

/* Writes all of `size` bytes, through short writes and EINTR. 0 or a negative errno. */
int write_all(int fd, const void *bytes, size_t size);

static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static inline void free_pointer(void *p)
{
	free(*(void **)p);
}

static inline void close_file(FILE **f)
{
	if (*f)
		fclose(*f);
	*f = NULL;
}

#endif
