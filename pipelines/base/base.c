/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

static int fault_fill(struct fault *f, int error, unsigned line, unsigned column, const char *format, va_list args)
{
	if (!f)
		return error;
	f->line = line;
	f->column = column;
	vsnprintf(f->text, sizeof f->text, format, args);
	return error;
}

int fault_set(struct fault *f, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fault_fill(f, error, 0, 0, format, args);
	va_end(args);
	return error;
}

int fault_at(struct fault *f, int error, unsigned line, unsigned column, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fault_fill(f, error, line, column, format, args);
	va_end(args);
	return error;
}

struct notation {
	const char *suffix;
	uint64_t factor;
};

static const struct notation size_notations[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "KiB", 1ull << 10 },
	{ "MiB", 1ull << 20 },
	{ "GiB", 1ull << 30 },
	{ "TiB", 1ull << 40 },
	{ "K", 1ull << 10 },
	{ "M", 1ull << 20 },
	{ "G", 1ull << 30 },
	{ "KB", 1000 },
	{ "MB", 1000000 },
	{ "GB", 1000000000 },
	{ 0 },
};

static const struct notation duration_notations[] = {
	{ "ns", 1 },
	{ "us", 1000 },
	{ "ms", NS_PER_MS },
	{ "s", NS_PER_SEC },
	{ "m", 60 * NS_PER_SEC },
	{ "h", 3600 * NS_PER_SEC },
	{ "d", 86400 * NS_PER_SEC },
	{ 0 },
};

/* One number and its suffix; `text` moves behind them. */
static int parse_term(const char **text, const struct notation *notations, uint64_t *ret)
{
	const char *digits = *text;
	uint64_t value = 0;

	while (**text >= '0' && **text <= '9') {
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, **text - '0', &value))
			return -ERANGE;
		(*text)++;
	}
	if (*text == digits)
		return -EINVAL;

	size_t suffix = strspn(*text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	for (const struct notation *n = notations; n->suffix; n++) {
		if (strlen(n->suffix) != suffix || strncasecmp(n->suffix, *text, suffix))
			continue;
		*text += suffix;
		return __builtin_mul_overflow(value, n->factor, ret) ? -ERANGE : 0;
	}
	return -EINVAL;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
	uint64_t value;
	int r = parse_term(&text, size_notations, &value);

	if (r < 0)
		return r;
	if (*text)
		return -EINVAL;
	*ret_bytes = value;
	return 0;
}

int parse_duration(const char *text, uint64_t *ret_ns)
{
	uint64_t sum = 0, term;

	do {
		int r = parse_term(&text, duration_notations, &term);

		if (r < 0)
			return r;
		if (__builtin_add_overflow(sum, term, &sum))
			return -ERANGE;
	} while (*text);
	*ret_ns = sum;
	return 0;
}

/* Optimal string alignment distance, names of at most 63 bytes; longer ones are never near. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned char row[3][64];

	if (la > 63 || lb > 63)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[0][j] = (unsigned char)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned char *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];

		now[0] = (unsigned char)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);

			best = MIN_OF(best, (unsigned)last[j] + 1);
			best = MIN_OF(best, (unsigned)now[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN_OF(best, (unsigned)before[j - 2] + 1);
			now[j] = (unsigned char)best;
		}
	}
	return row[la % 3][lb];
}

const char *nearest_name(const char *name, const char *const *names, size_t n_names)
{
	size_t best = MAX_OF(strlen(name) / 3, 1) + 1;
	const char *found = NULL;

	for (size_t i = 0; i < n_names; i++) {
		size_t d = edit_distance(name, names[i]);

		if (d < best) {
			best = d;
			found = names[i];
		}
	}
	return found;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

uint64_t now_realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

uint64_t now_boottime_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

uint64_t hash_bytes(const void *bytes, size_t size)
{
	const unsigned char *p = bytes;
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < size; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

int read_small_file(const char *path, size_t max, char **ret_text, size_t *ret_size)
{
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(free_pointer) char *text = NULL;
	size_t size = 0, room = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		if (size + 1 >= room) {
			room = room ? room * 2 : 4096;
			char *more = realloc(text, room);

			if (!more)
				return -ENOMEM;
			text = more;
		}
		ssize_t n = read(fd, text + size, room - size - 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		size += (size_t)n;
		if (size > max)
			return -EFBIG;
	}
	text[size] = '\0';
	*ret_text = text;
	text = NULL;
	if (ret_size)
		*ret_size = size;
	return 0;
}

int write_all(int fd, const void *bytes, size_t size)
{
	const char *p = bytes;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}
