/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file format of a segment: making, mapping, checking and walking it.
 *
 * The idea that makes damage harmless: a record's crc covers, beside its content, the position it was written for and a
 * random salt of its segment. So whatever lies anywhere in a segment (half a record, a record of an earlier life of the
 * disk block, bytes that an attacker put into an argument) is taken for a record only where it was published.
 *
 * Invariants: the word where the next record's length will be is zero before the record in front of it is published;
 * what is beyond the size of the mapping or the capacity is never read; a search after damage checks at most
 * RESYNC_FACTOR times the segment's bytes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "journal/crc32c.h"
#include "journal/segment.h"

#define SEGMENT_VERSION     1u
#define SEGMENT_COPY        2048u
#define SEGMENTS_LISTED_MAX 65536u
#define RESYNC_FACTOR       8u

static const char segment_magic[8] = "sondeseg";

void segment_name(char name[SEGMENT_NAME], uint64_t base)
{
	snprintf(name, SEGMENT_NAME, "%016llx.seg", (unsigned long long)base);
}

/* Whether `name` is one that segment_name() makes. */
static bool segment_parse_name(const char *name, uint64_t *ret_base)
{
	uint64_t base = 0;

	if (strlen(name) != SEGMENT_NAME - 1 || strcmp(name + 16, ".seg"))
		return false;
	for (unsigned i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef", *digit = strchr(digits, name[i]);

		if (!digit)
			return false;
		base = base << 4 | (uint64_t)(digit - digits);
	}
	*ret_base = base;
	return true;
}

static int compare_bases(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void close_folder(DIR **folder)
{
	if (*folder)
		closedir(*folder);
}

int segment_list(int folder, uint64_t **ret_bases, size_t *ret_n)
{
	_cleanup_(close_folder) DIR *entries = NULL;
	_cleanup_(free_pointer) uint64_t *bases = NULL;
	size_t n = 0, room = 0;
	uint64_t base;
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	entries = fd < 0 ? NULL : fdopendir(fd);
	if (!entries) {
		int error = -errno;

		close_fd(&fd);
		return error;
	}
	for (struct dirent *entry; (entry = readdir(entries)) && n < SEGMENTS_LISTED_MAX;) {
		if (!segment_parse_name(entry->d_name, &base))
			continue;
		if (n == room) {
			uint64_t *more = realloc(bases, (room = room ? room * 2 : 64) * sizeof(*bases));

			if (!more)
				return -ENOMEM;
			bases = more;
		}
		bases[n++] = base;
	}
	if (n)
		qsort(bases, n, sizeof(*bases), compare_bases);
	*ret_bases = bases;
	*ret_n = n;
	bases = NULL;
	return 0;
}

static uint32_t header_crc(const struct segment_header *header)
{
	return crc32c(0, header, offsetof(struct segment_header, crc));
}

static bool header_good(const struct segment_header *header, uint64_t base)
{
	return !memcmp(header->magic, segment_magic, sizeof(segment_magic)) && header->version == SEGMENT_VERSION &&
	       header->base == base && base <= SEGMENT_POSITION_MAX && header->bytes >= SEGMENT_LEAST &&
	       header->bytes <= SEGMENT_MOST && header->crc == header_crc(header);
}

/* Some file systems cannot allocate: there the blocks are taken by writing them. */
static int allocate(int fd, uint64_t bytes)
{
	static const uint8_t zeros[65536];

	if (!fallocate(fd, 0, 0, (off_t)bytes))
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = pwrite(fd, zeros, MIN_OF(sizeof(zeros), bytes - done), (off_t)done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

static int write_header(int fd, const struct segment_header *header)
{
	static const off_t places[] = { 0, SEGMENT_COPY };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		ssize_t n = pwrite(fd, header, sizeof(*header), places[i]);

		if (n != sizeof(*header))
			return n < 0 ? -errno : -EIO;
	}
	return 0;
}

static int segment_attach(struct segment **ret, int fd, const struct segment_header *header, size_t size, bool writable)
{
	struct segment *segment = calloc(1, sizeof(*segment));

	if (!segment)
		return -ENOMEM;
	*segment = (struct segment){ .base = header->base, .salt = header->salt, .size = size };
	segment->capacity = (uint32_t)(size - SEGMENT_HEADER - SEGMENT_GUARD) & ~7u;
	segment->budget = (uint64_t)RESYNC_FACTOR * size;
	segment->bytes = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (segment->bytes == MAP_FAILED) {
		int error = -errno;

		free(segment);
		return error;
	}
	*ret = segment;
	return 0;
}

/* Everything that can fail for want of space happens before the name appears. */
static int segment_make(struct segment **ret, int folder, const struct segment_header *header)
{
	_cleanup_(close_fd) int fd =
		openat(folder, SEGMENT_FRESH, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	_cleanup_(segment_drop) struct segment *segment = NULL;
	char name[SEGMENT_NAME];
	int r;

	if (fd < 0)
		return -errno;
	r = allocate(fd, header->bytes);
	if (!r)
		r = write_header(fd, header);
	if (!r)
		r = segment_attach(&segment, fd, header, header->bytes, true);
	if (r)
		return r;
	segment_name(name, header->base);
	if (renameat(folder, SEGMENT_FRESH, folder, name))
		return -errno;
	*ret = segment;
	segment = NULL;
	return 0;
}

int segment_create(struct segment **ret, int folder, uint64_t base, uint32_t bytes)
{
	struct segment_header header = { .version = SEGMENT_VERSION, .base = base, .bytes = bytes };
	int r;

	if (base > SEGMENT_POSITION_MAX)
		return -EOVERFLOW;
	memcpy(header.magic, segment_magic, sizeof(segment_magic));
	if (getrandom(&header.salt, sizeof(header.salt), GRND_NONBLOCK) != sizeof(header.salt))
		header.salt = now_realtime_ns() ^ base << 32;
	header.crc = header_crc(&header);
	r = segment_make(ret, folder, &header);
	if (r)
		unlinkat(folder, SEGMENT_FRESH, 0);
	return r;
}

/* The first of the two headers that is right. */
static int read_header(int fd, uint64_t base, struct segment_header *ret)
{
	static const off_t places[] = { 0, SEGMENT_COPY };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		ssize_t n = pread(fd, ret, sizeof(*ret), places[i]);

		if (n == sizeof(*ret) && header_good(ret, base))
			return 0;
	}
	return -EBADMSG;
}

int segment_map(struct segment **ret, int folder, uint64_t base, bool writable)
{
	_cleanup_(close_fd) int fd = -1;
	struct segment_header header;
	char name[SEGMENT_NAME];
	struct stat st;
	int r;

	segment_name(name, base);
	fd = openat(folder, name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ELOOP || errno == EISDIR ? -EBADMSG : -errno;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)(SEGMENT_HEADER + SEGMENT_GUARD + RECORD_HEADER))
		return -EBADMSG;
	r = read_header(fd, base, &header);
	if (r)
		return r;
	return segment_attach(ret, fd, &header, MIN_OF((uint64_t)st.st_size, header.bytes), writable);
}

void segment_unmap(struct segment *segment)
{
	if (!segment)
		return;
	munmap(segment->bytes, segment->size);
	free(segment);
}

uint32_t record_crc(const struct segment *segment, uint64_t position, uint64_t seq, const void *map, uint32_t size)
{
	uint64_t place[3] = { position ^ segment->salt, seq, size };

	return crc32c(crc32c((uint32_t)segment->salt, place, sizeof(place)), map, size);
}

/* Whether a record of `length` at `offset` could be one; what the crc then decides. */
static bool plausible(const struct segment *segment, uint64_t offset, uint32_t length)
{
	return length >= RECORD_HEADER && length <= RECORD_HEADER + JOURNAL_RECORD_MAX &&
	       ALIGN_UP((uint64_t)length, 8) <= segment->capacity - offset;
}

enum segment_found segment_record(const struct segment *segment, uint64_t offset, struct journal_record *ret)
{
	const struct record_header *header = (const void *)(segment->bytes + SEGMENT_HEADER + offset);
	uint32_t length;

	if (offset % 8)
		return SEGMENT_BAD;
	if (offset >= segment->capacity)
		return SEGMENT_EMPTY;
	length = __atomic_load_n(&header->length, __ATOMIC_ACQUIRE);
	if (!length)
		return SEGMENT_EMPTY;
	if (!plausible(segment, offset, length))
		return SEGMENT_BAD;
	*ret = (struct journal_record){ .position = segment->base + offset,
					.next = segment->base + offset + ALIGN_UP((uint64_t)length, 8),
					.seq = header->seq,
					.map = (const uint8_t *)(header + 1),
					.size = length - RECORD_HEADER };
	if (header->crc != record_crc(segment, ret->position, ret->seq, ret->map, ret->size))
		return SEGMENT_BAD;
	return SEGMENT_RECORD;
}

bool segment_resync(struct segment *segment, uint64_t offset, uint64_t limit, uint64_t *ret_offset)
{
	const uint8_t *area = segment->bytes + SEGMENT_HEADER;
	struct journal_record record;

	limit = MIN_OF(limit, (uint64_t)segment->capacity);
	for (offset = (offset & ~7ull) + 8; offset + RECORD_HEADER <= limit; offset += 8) {
		uint32_t length = __atomic_load_n((const uint32_t *)(area + offset), __ATOMIC_RELAXED);

		if (!plausible(segment, offset, length))
			continue;
		if (segment->budget < length)
			return false;
		segment->budget -= length;
		if (segment_record(segment, offset, &record) == SEGMENT_RECORD) {
			*ret_offset = offset;
			return true;
		}
	}
	return false;
}

void segment_each(struct segment *segment, uint64_t position,
		  void (*each)(void *context, const struct journal_record *record), void *context)
{
	uint64_t offset = position > segment->base ? position - segment->base : 0;
	struct journal_record record;

	while (offset < segment->capacity) {
		if (segment_record(segment, offset, &record) == SEGMENT_RECORD) {
			each(context, &record);
			offset = record.next - segment->base;
		} else if (!segment_resync(segment, offset, segment->capacity, &offset)) {
			return;
		}
	}
}

static uint64_t end_check(const struct segment *segment, uint64_t end)
{
	return ~(end ^ segment->salt);
}

bool segment_left(const struct segment *segment, uint64_t *ret_end)
{
	struct segment_live *live = segment_live(segment);
	uint64_t check = __atomic_load_n(&live->end_check, __ATOMIC_ACQUIRE);
	uint64_t end = __atomic_load_n(&live->end, __ATOMIC_RELAXED);

	if (check != end_check(segment, end) || end < segment->base || end - segment->base > segment->capacity)
		return false;
	*ret_end = end;
	return true;
}

void segment_leave(struct segment *segment, uint64_t end)
{
	struct segment_live *live = segment_live(segment);

	__atomic_store_n(&live->end, end, __ATOMIC_RELAXED);
	__atomic_store_n(&live->end_check, end_check(segment, end), __ATOMIC_RELEASE);
	segment_wake(segment);
}

void segment_wake(struct segment *segment)
{
	uint32_t *wake = &segment_live(segment)->wake;

	__atomic_fetch_add(wake, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
