/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer. Appending is a store to mapped memory: the map is filled in place, then seq and crc, then the word behind
 * is zeroed, and last the length is stored with release order, which publishes the record. The kernel is entered once
 * per batch (journal_publish), once per POPULATE_CHUNK (pages made present ahead, so that no record pays a fault and an
 * error of the file system is a return value and not a signal), and once per segment.
 *
 * `files` lists what is in the folder, oldest first; the last of it is `current` when that is mapped. `end` is the
 * position of the next record; it is always behind everything that was ever published, and behind every stored cursor.
 *
 * Two threads meet here only under `lock`: the writer when it removes a segment, the follower when it enters one or
 * ends (see journal_follow). `files` is changed only by the writer's thread, under the lock; so the writer reads it
 * without.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "journal/cursor.h"
#include "journal/segment.h"

#define POPULATE_CHUNK      (512u << 10)
#define RETRY_NS            (100 * NS_PER_MS)
#define SEGMENTS_LEAST      4u
#define SEGMENT_DEFAULT_MAX (64u << 20)

struct file {
	uint64_t base, bytes; /* of the file on disk */
	uint64_t end;         /* after its last record, or more where damage hides it */
};

struct journal {
	/* The hot path. */
	struct segment *current; /* NULL: the next reserve begins a segment */
	uint8_t *at, *limit,
		*populated; /* where the next record's header goes; end of room; end of pages made present */
	uint8_t *touched;   /* end of what was ever reserved here */
	uint64_t end;
	uint32_t reserved;
	bool dirty; /* committed since the last publish */

	struct journal_options options;
	int folder, locked;
	struct file *files;
	size_t n_files, room;
	uint64_t bytes;    /* of all files */
	uint64_t retry_ns; /* no segment is begun before */
	bool disk_full;
	struct journal_health health;

	uint64_t protected; /* atomic */
	pthread_mutex_t lock;
	struct journal_reader *follower;
	bool follower_entered;
	uint64_t follower_base;  /* of the newest segment it entered */
	struct segment *orphans; /* left the folder, then by their follower */
	bool has_orphans;        /* atomic */
};

/* ---- opening ---- */

static int make_folder(const char *path)
{
	char part[PATH_MAX];
	size_t length = strlen(path);

	if (!length || length >= sizeof(part))
		return length ? -ENAMETOOLONG : -ENOENT;
	memcpy(part, path, length + 1);
	for (size_t i = 1; i <= length; i++) {
		if (part[i] != '/' && part[i])
			continue;
		part[i] = 0;
		if (mkdir(part, i == length ? 0700 : 0755) && errno != EEXIST)
			return -errno;
		if (i < length)
			part[i] = '/';
	}
	return 0;
}

/* The lock goes with the process, however it ends. */
static int take_lock(int folder, const char *path, int *ret_fd, struct fault *fault)
{
	_cleanup_(close_fd) int fd = openat(folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	char pid[24] = "";

	if (fd < 0)
		return fault_set(fault, -errno, "%s/lock: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int error = errno;
		ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

		if (error != EWOULDBLOCK)
			return fault_set(fault, -error, "%s/lock: %s", path, strerror(error));
		pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
		return fault_set(fault, -EBUSY, "%s: another agent writes this journal%s%s", path, *pid ? ", pid " : "",
				 pid);
	}
	/* What the file says is only for the sentence above: a full disk must not keep the journal closed. */
	if (!ftruncate(fd, 0) && dprintf(fd, "%d\n", getpid()) < 0)
		errno = 0;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* Room for one more file. */
static int grow_files(struct journal *journal)
{
	size_t room = journal->room ? journal->room * 2 : 64;
	struct file *more;

	if (journal->n_files < journal->room)
		return 0;
	more = reallocarray(journal->files, room, sizeof(*more));
	if (!more)
		return -ENOMEM;
	journal->files = more;
	journal->room = room;
	return 0;
}

static void add_file(struct journal *journal, const struct file *file)
{
	journal->files[journal->n_files++] = *file;
	journal->bytes += file->bytes;
}

/* Walks the last segment; fills holes so that readers search behind them; returns the offset after the last good
 * record. */
static uint64_t find_end(struct journal *journal, struct segment *segment)
{
	uint64_t offset = 0;

	while (offset < segment->capacity) {
		uint32_t *length = (uint32_t *)(segment->bytes + SEGMENT_HEADER + offset);
		struct journal_record record;
		uint64_t good;

		if (segment_record(segment, offset, &record) == SEGMENT_RECORD) {
			offset = record.next - segment->base;
			continue;
		}
		if (!segment_resync(segment, offset, segment->capacity, &good))
			break;
		if (!*length)
			__atomic_store_n(length, RECORD_HOLE, __ATOMIC_RELEASE);
		journal->health.bad_records++;
		offset = good;
	}
	return offset;
}

/* Zeroes what a writer that died left behind the last good record. Zero pages are only read: they stay unallocated. */
static uint64_t cut_tail(struct segment *segment, uint64_t offset)
{
	uint64_t *words = (uint64_t *)(segment->bytes + SEGMENT_HEADER), torn = 0;

	for (uint64_t i = offset / 8; i < (segment->size - SEGMENT_HEADER) / 8; i++) {
		if (!words[i])
			continue;
		__atomic_store_n(&words[i], 0, __ATOMIC_RELEASE);
		torn = (i + 1) * 8 - offset;
	}
	return torn;
}

static bool same_size(int folder, const struct segment *segment, uint64_t bytes)
{
	_cleanup_(close_fd) int fd = -1;
	char name[SEGMENT_NAME];

	segment_name(name, segment->base);
	fd = openat(folder, name, O_RDWR | O_CLOEXEC);
	/* Allocated anew, for it may have been copied with holes: writing to a hole of a full disk would be a SIGBUS.
	 */
	return fd >= 0 && segment->size == bytes && !(bytes % 4096) && !fallocate(fd, 0, 0, (off_t)bytes);
}

/* The last segment is gone on with where it is whole; else it stays as it is and the next reserve begins a new one. */
static void continue_last(struct journal *journal)
{
	struct file *last = &journal->files[journal->n_files - 1];
	_cleanup_(segment_drop) struct segment *segment = NULL;
	uint64_t offset, end;

	if (segment_map(&segment, journal->folder, last->base, true)) {
		journal->health.bad_records++;
		return;
	}
	if (segment_left(segment, &end)) {
		last->end = end;
		return;
	}
	if (!same_size(journal->folder, segment, last->bytes)) {
		segment_leave(segment, segment->base + segment->capacity);
		last->end = segment->base + segment->capacity;
		return;
	}
	offset = find_end(journal, segment);
	journal->health.torn_bytes += cut_tail(segment, offset);
	last->end = segment->base + offset;
	journal->current = segment;
	segment = NULL;
}

/* All but the last were left; one whose writer died just then is told so now. */
static void finish_left(struct journal *journal, struct file *file, uint64_t next_base)
{
	_cleanup_(segment_drop) struct segment *segment = NULL;
	uint64_t end;

	file->end = next_base;
	if (segment_map(&segment, journal->folder, file->base, true))
		journal->health.bad_records++;
	else if (segment_left(segment, &end))
		file->end = MIN_OF(end, next_base);
	else
		segment_leave(segment, MIN_OF(next_base, segment->base + segment->capacity));
}

static int list_files(struct journal *journal)
{
	_cleanup_(free_pointer) uint64_t *bases = NULL;
	size_t n;
	int r = segment_list(journal->folder, &bases, &n);

	for (size_t i = 0; !r && i < n; i++) {
		char name[SEGMENT_NAME];
		struct stat st;

		segment_name(name, bases[i]);
		if (fstatat(journal->folder, name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (bases[i] > SEGMENT_POSITION_MAX) { /* no position of ours: it would never be the oldest */
			unlinkat(journal->folder, name, 0);
			journal->health.bad_records++;
			continue;
		}
		/* Until its end is known: behind all that it may hold, and never its own name again. */
		struct file file = { bases[i], (uint64_t)st.st_size, bases[i] + ALIGN_UP((uint64_t)st.st_size + 1, 8) };

		r = grow_files(journal);
		if (!r)
			add_file(journal, &file);
	}
	return r;
}

/* Cursors may be ahead of the records after a power loss: what comes next must be behind them, or it would be skipped.
 */
static uint64_t greatest_cursor(int folder)
{
	_cleanup_(close_fd) int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);
	uint64_t greatest = 0, position;

	if (!entries)
		return 0;
	fd = -1;
	for (struct dirent *entry; (entry = readdir(entries));) {
		if (strncmp(entry->d_name, CURSOR_PREFIX, strlen(CURSOR_PREFIX)))
			continue;
		position = cursor_read(folder, entry->d_name);
		if (position <= SEGMENT_POSITION_MAX && position > greatest)
			greatest = position;
	}
	closedir(entries);
	return greatest;
}

static void set_room(struct journal *journal)
{
	struct segment *segment = journal->current;

	journal->at = segment->bytes + SEGMENT_HEADER + (journal->end - segment->base);
	journal->limit = segment->bytes + SEGMENT_HEADER + segment->capacity;
	journal->populated = journal->touched = journal->at;
}

static int recover(struct journal *journal)
{
	uint64_t cursor = greatest_cursor(journal->folder);
	int r = list_files(journal);

	if (r)
		return r;
	for (size_t i = 0; i + 1 < journal->n_files; i++)
		finish_left(journal, &journal->files[i], journal->files[i + 1].base);
	if (journal->n_files)
		continue_last(journal);
	for (size_t i = 0; i < journal->n_files; i++)
		journal->end = MAX_OF(journal->end, journal->files[i].end);
	cursor = ALIGN_UP(cursor, 8);
	if (journal->current && (cursor > journal->end || journal->end != journal->files[journal->n_files - 1].end)) {
		segment_leave(journal->current, journal->files[journal->n_files - 1].end);
		segment_drop(&journal->current);
	}
	journal->end = MAX_OF(journal->end, cursor);
	if (journal->current)
		set_room(journal);
	return 0;
}

static int check_options(struct journal *journal, const struct journal_options *options, struct fault *fault)
{
	struct journal_options *own = &journal->options;

	*own = *options;
	if (!own->segment_bytes)
		own->segment_bytes = (uint32_t)MIN_OF(MAX_OF(own->size_bytes / 32, SEGMENT_LEAST), SEGMENT_DEFAULT_MAX);
	own->segment_bytes &= ~4095u;
	if (own->segment_bytes < SEGMENT_LEAST || own->segment_bytes > SEGMENT_MOST)
		return fault_set(fault, -EINVAL, "%s: a journal's segment has %u to %u bytes", own->path, SEGMENT_LEAST,
				 SEGMENT_MOST);
	if (own->size_bytes / own->segment_bytes < SEGMENTS_LEAST)
		return fault_set(fault, -EINVAL, "%s: a journal of %llu bytes is too small: at least %llu", own->path,
				 (unsigned long long)own->size_bytes,
				 (unsigned long long)SEGMENTS_LEAST * own->segment_bytes);
	return 0;
}

static void close_journal(struct journal **journal)
{
	if (*journal)
		journal_close(*journal);
}

int journal_open(struct journal **ret, const struct journal_options *options, struct fault *fault)
{
	_cleanup_(close_journal) struct journal *journal = calloc(1, sizeof(*journal));
	int r;

	if (!journal)
		return fault_set(fault, -ENOMEM, "%s: out of memory", options->path);
	journal->folder = journal->locked = -1;
	pthread_mutex_init(&journal->lock, NULL);
	r = check_options(journal, options, fault);
	if (r)
		return r;
	r = make_folder(options->path);
	if (r)
		return fault_set(fault, r, "%s: %s", options->path, strerror(-r));
	journal->folder = open(options->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal->folder < 0)
		return fault_set(fault, -errno, "%s: %s", options->path, strerror(errno));
	r = take_lock(journal->folder, options->path, &journal->locked, fault);
	if (r)
		return r;
	unlinkat(journal->folder, SEGMENT_FRESH, 0);
	r = recover(journal);
	if (r)
		return fault_set(fault, r, "%s: %s", options->path, strerror(-r));
	*ret = journal;
	journal = NULL;
	return 0;
}

/* ---- removing ---- */

static uint64_t protected_position(const struct journal *journal)
{
	return __atomic_load_n(&journal->protected, __ATOMIC_ACQUIRE);
}

static void count_orphans(struct journal *journal)
{
	struct segment *orphans;

	if (!__atomic_load_n(&journal->has_orphans, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&journal->lock);
	orphans = journal->orphans;
	journal->orphans = NULL;
	__atomic_store_n(&journal->has_orphans, false, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&journal->lock);
	while (orphans) {
		struct segment *next = orphans->next;

		if (journal->options.expired)
			segment_each(orphans, orphans->wanted, journal->options.expired, journal->options.context);
		segment_unmap(orphans);
		orphans = next;
	}
}

/* Whether removing the oldest segment now would take records from a follower, or that nobody protects. */
static bool oldest_is_wanted(const struct journal *journal)
{
	const struct file *oldest = &journal->files[0];

	if (journal->follower && journal->follower_entered && journal->follower_base >= oldest->base)
		return false;
	return (oldest->base == journal->files[journal->n_files - 1].base ? journal->end : oldest->end) >
	       protected_position(journal);
}

/* A segment whose records cannot be counted stays: only what is counted may go. One with a damaged header has none. What
 * was protected is looked at while the follower is kept out: once it is let on, it passes these positions. */
static int remove_oldest(struct journal *journal)
{
	_cleanup_(segment_drop) struct segment *segment = NULL;
	struct file oldest = journal->files[0];
	char name[SEGMENT_NAME];
	uint64_t wanted;
	int r = 0;

	segment_name(name, oldest.base);
	pthread_mutex_lock(&journal->lock);
	wanted = protected_position(journal);
	if (journal->options.expired && oldest_is_wanted(journal))
		r = segment_map(&segment, journal->folder, oldest.base, false);
	if (r == -EBADMSG || r == -ENOENT)
		r = 0;
	if (!r && unlinkat(journal->folder, name, 0) && errno != ENOENT)
		r = -errno;
	if (!r) {
		journal->bytes -= oldest.bytes;
		journal->n_files--;
		memmove(journal->files, journal->files + 1, journal->n_files * sizeof(*journal->files));
	}
	pthread_mutex_unlock(&journal->lock);
	if (!r && segment)
		segment_each(segment, wanted, journal->options.expired, journal->options.context);
	return r;
}

/* ---- beginning a segment ---- */

static void leave_current(struct journal *journal)
{
	if (!journal->current)
		return;
	segment_leave(journal->current, journal->end);
	segment_drop(&journal->current);
	journal->files[journal->n_files - 1].end = journal->end;
	journal->at = journal->limit = journal->populated = journal->touched = NULL;
	journal->dirty = false;
}

static int make_room(struct journal *journal)
{
	while (journal->n_files && journal->bytes + journal->options.segment_bytes > journal->options.size_bytes) {
		int r;

		if (journal->n_files == 1)
			leave_current(journal);
		r = remove_oldest(journal);
		if (r)
			return r;
	}
	return 0;
}

static int create_next(struct journal *journal, struct segment **ret)
{
	int r = grow_files(journal);

	if (r)
		return r;
	r = segment_create(ret, journal->folder, journal->end, journal->options.segment_bytes);
	journal->disk_full = r == -ENOSPC || r == -EDQUOT;
	if (!journal->disk_full || journal->n_files < 2)
		return r;
	/* The newest are worth more than the oldest. One at a time: the space may be needed by somebody else. */
	r = remove_oldest(journal);
	return r ? r : segment_create(ret, journal->folder, journal->end, journal->options.segment_bytes);
}

static int begin_segment(struct journal *journal)
{
	struct segment *fresh = NULL;
	struct file file = { journal->end, journal->options.segment_bytes, journal->end };
	uint64_t now = now_boottime_ns();
	int r;

	if (now < journal->retry_ns)
		return -ENOSPC;
	count_orphans(journal);
	r = make_room(journal);
	if (!r)
		r = create_next(journal, &fresh);
	if (r) {
		journal->health.disk_errors++;
		journal->retry_ns = now + RETRY_NS;
		return r;
	}
	leave_current(journal);
	pthread_mutex_lock(&journal->lock);
	add_file(journal, &file);
	pthread_mutex_unlock(&journal->lock);
	journal->current = fresh;
	set_room(journal);
	return 0;
}

/* Makes the pages up to `end` present and writable. Kernels before 5.14 do not know how; there the first write does it.
 */
static int populate(struct journal *journal, const uint8_t *end)
{
	struct segment *segment = journal->current;
	uint8_t *from = segment->bytes + ((size_t)(journal->populated - segment->bytes) & ~4095ull);
	size_t size = ALIGN_UP(MAX_OF((size_t)(end - from), POPULATE_CHUNK), 4096);
	uint64_t now = journal->retry_ns ? now_boottime_ns() : 0;

	if (now < journal->retry_ns)
		return -ENOSPC;
	size = MIN_OF(size, (size_t)(segment->bytes + segment->size - from));
	if (madvise(from, size, MADV_POPULATE_WRITE)) {
		if (errno != EINVAL && errno != ENOMEM && errno != EINTR && errno != EAGAIN) {
			journal->health.disk_errors++;
			journal->retry_ns = now_boottime_ns() + RETRY_NS;
			return -errno;
		}
		size = errno == EINVAL ? (size_t)(segment->bytes + segment->size - from) : size;
	}
	journal->populated = from + size;
	return 0;
}

/* ---- appending ---- */

static bool make_reservable(struct journal *journal, uint32_t need)
{
	uint64_t capacity = journal->options.segment_bytes - SEGMENT_HEADER - SEGMENT_GUARD;

	if (need > RECORD_HEADER + JOURNAL_RECORD_MAX || need > capacity) {
		errno = EMSGSIZE;
		return false;
	}
	if ((size_t)(journal->limit - journal->at) < need && begin_segment(journal)) {
		errno = ENOSPC;
		return false;
	}
	if ((size_t)(journal->populated - journal->at) < need + SEGMENT_GUARD &&
	    populate(journal, journal->at + need + SEGMENT_GUARD)) {
		errno = ENOSPC;
		return false;
	}
	return true;
}

uint8_t *journal_reserve(struct journal *journal, uint32_t size)
{
	uint32_t need;

	journal->reserved = 0;
	if (size > JOURNAL_RECORD_MAX) {
		errno = EMSGSIZE;
		return NULL;
	}
	need = ALIGN_UP(RECORD_HEADER + size, 8u);
	if (__builtin_expect((size_t)(journal->populated - journal->at) < need + SEGMENT_GUARD ||
				     (size_t)(journal->limit - journal->at) < need,
			     0) &&
	    !make_reservable(journal, need))
		return NULL;
	journal->reserved = need;
	if (journal->touched < journal->at + need)
		journal->touched = journal->at + need;
	return journal->at + RECORD_HEADER;
}

void journal_commit(struct journal *journal, uint32_t size, uint64_t seq)
{
	struct record_header *header = (struct record_header *)journal->at;
	uint32_t length = RECORD_HEADER + size, padded = ALIGN_UP(length, 8u);

	/* More than was reserved has already overwritten what was not the caller's: nothing after that can be trusted.
	 */
	if (size > JOURNAL_RECORD_MAX || padded > journal->reserved)
		abort();
	memset(journal->at + length, 0, padded - length);
	header->seq = seq;
	header->crc = record_crc(journal->current, journal->end, seq, header + 1, size);
	__atomic_store_n((uint64_t *)(journal->at + padded), 0, __ATOMIC_RELAXED);
	__atomic_store_n(&header->length, length, __ATOMIC_RELEASE);
	journal->at += padded;
	journal->end += padded;
	journal->reserved = 0;
	journal->dirty = true;
}

void journal_publish(struct journal *journal)
{
	if (journal->dirty)
		segment_wake(journal->current);
	journal->dirty = false;
	count_orphans(journal);
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	journal_publish(journal);
	/* Room that was reserved and not used is no torn tail. */
	if (journal->touched > journal->at)
		memset(journal->at, 0, (size_t)(journal->touched - journal->at));
	segment_unmap(journal->current);
	pthread_mutex_destroy(&journal->lock);
	close_fd(&journal->locked);
	close_fd(&journal->folder);
	free(journal->files);
	free(journal);
}

/* ---- the follower ---- */

void journal_protect(struct journal *journal, uint64_t position)
{
	uint64_t before = protected_position(journal);

	while (before < position && !__atomic_compare_exchange_n(&journal->protected, &before, position, true,
								 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
}

int journal_follow(struct journal *journal, struct journal_reader *reader)
{
	int r = 0;

	pthread_mutex_lock(&journal->lock);
	if (journal->follower)
		r = -EBUSY;
	if (!r)
		r = reader_follow(reader, journal);
	if (!r) {
		journal->follower = reader;
		journal->follower_entered = false;
	}
	pthread_mutex_unlock(&journal->lock);
	return r;
}

void journal_enter(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
}

void journal_entered(struct journal *journal, const struct segment *segment)
{
	if (segment) {
		journal->follower_entered = true;
		journal->follower_base = segment->base;
	}
	pthread_mutex_unlock(&journal->lock);
}

void journal_unfollow(struct journal *journal, struct segment **held, size_t n)
{
	pthread_mutex_lock(&journal->lock);
	for (size_t i = 0; i < n; i++) {
		if (journal->n_files && held[i]->base >= journal->files[0].base)
			break;
		held[i]->wanted = protected_position(journal); /* the next follower will pass it */
		held[i]->next = journal->orphans;
		journal->orphans = held[i];
		held[i] = NULL;
		__atomic_store_n(&journal->has_orphans, true, __ATOMIC_RELEASE);
	}
	journal->follower = NULL;
	pthread_mutex_unlock(&journal->lock);
}

/* ---- what is asked ---- */

bool journal_would_expire(const struct journal *journal, uint32_t size)
{
	uint64_t need = ALIGN_UP(RECORD_HEADER + (uint64_t)size, 8), end;

	if ((uint64_t)(journal->limit - journal->at) >= need || !journal->n_files)
		return false;
	if (!journal->disk_full && journal->bytes + journal->options.segment_bytes <= journal->options.size_bytes)
		return false;
	end = journal->n_files == 1 ? journal->end : journal->files[0].end;
	return end > protected_position(journal);
}

static uint64_t first_position(const struct journal *journal)
{
	return journal->n_files ? journal->files[0].base : journal->end;
}

uint64_t journal_backlog(const struct journal *journal)
{
	uint64_t from = MAX_OF(protected_position(journal), first_position(journal));

	return journal->end > from ? journal->end - from : 0;
}

uint64_t journal_bound(const struct journal *journal)
{
	return journal->disk_full ? journal->bytes : journal->options.size_bytes;
}

uint64_t journal_end(const struct journal *journal)
{
	return journal->end;
}

void journal_health(const struct journal *journal, struct journal_health *ret)
{
	*ret = journal->health;
	ret->segments = journal->n_files;
	ret->bytes = journal->bytes;
	ret->begin = first_position(journal);
	ret->end = journal->end;
}
