/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cursor is a file of two slots, in disk sectors of their own, mapped. A store writes the older slot: first its check
 * is broken, then the values are written, then the check. Whatever moment the process or the machine ends at, the other
 * slot is whole, and loading takes the newest whole one. So a cursor never goes back by more than one store, and never
 * to a wrong position.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "journal/crc32c.h"
#include "journal/cursor.h"
#include "journal/journal.h"

#define CURSOR_BYTES  4096u
#define CURSOR_SECTOR 512u

struct slot {
	uint64_t generation, position;
	uint32_t crc, padding;
};

struct journal_cursor {
	uint8_t *bytes;
	uint64_t generation, position; /* of the newest slot */
};

static uint32_t slot_crc(uint64_t generation, uint64_t position)
{
	uint64_t values[2] = { generation, position };

	/* Not zero to begin with: a slot of zeros is not whole. */
	return crc32c(1, values, sizeof(values));
}

/* The newest whole slot of the two, or zeros. */
static struct slot newest(const uint8_t *bytes)
{
	struct slot best = { 0 };

	for (unsigned i = 0; i < 2; i++) {
		struct slot slot;

		memcpy(&slot, bytes + i * CURSOR_SECTOR, sizeof(slot));
		if (slot.crc == slot_crc(slot.generation, slot.position) && slot.generation >= best.generation)
			best = slot;
	}
	return best;
}

uint64_t cursor_read(int folder, const char *name)
{
	_cleanup_(close_fd) int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	uint8_t bytes[2 * CURSOR_SECTOR] = { 0 };

	if (fd < 0 || pread(fd, bytes, sizeof(bytes), 0) <= 0)
		return 0;
	return newest(bytes).position;
}

static bool name_is_plain(const char *name)
{
	size_t length = strlen(name);

	return length && length < 128 && !strchr(name, '/');
}

/* Allocated, not only extended: a store to a hole of a full disk would be a SIGBUS. */
static int cursor_map(int fd, uint8_t **ret)
{
	struct stat st;

	if (fallocate(fd, 0, 0, CURSOR_BYTES)) {
		static const uint8_t zeros[CURSOR_BYTES];

		if (errno != EOPNOTSUPP || fstat(fd, &st))
			return -errno;
		if (st.st_size < (off_t)CURSOR_BYTES &&
		    pwrite(fd, zeros, CURSOR_BYTES - (size_t)st.st_size, st.st_size) < 0)
			return -errno;
	}
	*ret = mmap(NULL, CURSOR_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return *ret == MAP_FAILED ? -errno : 0;
}

int journal_cursor_open(struct journal_cursor **ret, const char *path, const char *name, struct fault *fault)
{
	_cleanup_(free_pointer) struct journal_cursor *cursor = calloc(1, sizeof(*cursor));
	_cleanup_(close_fd) int folder = -1;
	_cleanup_(close_fd) int fd = -1;
	char file[160];
	struct slot slot;
	int r;

	if (!cursor)
		return fault_set(fault, -ENOMEM, "%s: out of memory", path);
	if (!name_is_plain(name))
		return fault_set(fault, -EINVAL, "%s: '%s' cannot name a cursor", path, name);
	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return fault_set(fault, -errno, "%s: %s", path, strerror(errno));
	snprintf(file, sizeof(file), CURSOR_PREFIX "%s", name);
	fd = openat(folder, file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : cursor_map(fd, &cursor->bytes);
	if (r)
		return fault_set(fault, r, "%s/%s: %s", path, file, strerror(-r));
	slot = newest(cursor->bytes);
	cursor->generation = slot.generation;
	cursor->position = slot.position;
	*ret = cursor;
	cursor = NULL;
	return 0;
}

uint64_t journal_cursor_load(const struct journal_cursor *cursor)
{
	return cursor->position;
}

void journal_cursor_store(struct journal_cursor *cursor, uint64_t position)
{
	struct slot *slot;

	cursor->generation++;
	cursor->position = position;
	slot = (struct slot *)(cursor->bytes + (cursor->generation & 1) * CURSOR_SECTOR);
	__atomic_store_n(&slot->crc, ~slot_crc(cursor->generation, position), __ATOMIC_RELEASE);
	__atomic_store_n(&slot->generation, cursor->generation, __ATOMIC_RELEASE);
	__atomic_store_n(&slot->position, position, __ATOMIC_RELEASE);
	__atomic_store_n(&slot->crc, slot_crc(cursor->generation, position), __ATOMIC_RELEASE);
}

void journal_cursor_close(struct journal_cursor *cursor)
{
	if (!cursor)
		return;
	munmap(cursor->bytes, CURSOR_BYTES);
	free(cursor);
}
