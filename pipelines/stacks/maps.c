/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/maps, read in pieces and parsed by hand: a line is
 *	start-end perms offset major:minor inode   path
 * with a newline in the path written \012. Only executable mappings are kept, the most that MAPS_MAX and MAPS_TEXT_MAX
 *allow; reading stops at MAPS_READ_MAX, as a process may own 65530 mappings. A file is opened first as a bare path
 *handle, looked at, and only a regular file is then opened to be read: a device or a pipe under a library's name is
 *never touched.
 */
#include "stacks/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/base.h"

#define MAPS_READ_MAX (16u << 20)
#define LINE_MAX_SIZE (MAPS_PATH_MAX + 256u)

/* A list on its way. */
struct reading {
	struct maps maps;
	uint32_t capacity, text_capacity;
};

static bool number(char **at, int base, char end, uint64_t *ret)
{
	char *stop;

	errno = 0;
	*ret = strtoull(*at, &stop, base);
	if (stop == *at || errno || *stop != end)
		return false;
	*at = stop + 1;
	return true;
}

bool maps_parse_line(char *line, struct mapping *ret, const char **ret_path)
{
	uint64_t major_number, minor_number;
	char *at = line;

	*ret = (struct mapping){ 0 };
	if (!number(&at, 16, '-', &ret->start) || !number(&at, 16, ' ', &ret->end) || ret->end <= ret->start)
		return false;
	if (strnlen(at, 5) < 5 || at[2] != 'x' || at[4] != ' ')
		return false;
	at += 5;
	if (!number(&at, 16, ' ', &ret->offset) || !number(&at, 16, ':', &major_number) ||
	    !number(&at, 16, ' ', &minor_number))
		return false;

	char *stop;

	errno = 0;
	ret->ino = strtoull(at, &stop, 10);
	if (stop == at || errno || (*stop && *stop != ' '))
		return false;
	ret->dev = makedev((unsigned)major_number, (unsigned)minor_number);
	*ret_path = stop + strspn(stop, " ");
	return true;
}

/* The kernel escapes only the newline. */
static void unescape(char *path)
{
	char *to = path;

	for (const char *from = path; *from;) {
		if (!strncmp(from, "\\012", 4)) {
			*to++ = '\n';
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = 0;
}

/* Room for one more mapping. Most processes have few, so both areas begin small. */
static bool reserve_mapping(struct maps *maps, uint32_t *capacity)
{
	uint32_t wanted = MIN_OF(MAX_OF(*capacity * 2, 64u), MAPS_MAX);
	struct mapping *mappings;

	if (maps->count < *capacity)
		return true;
	if (maps->count == MAPS_MAX || !(mappings = realloc(maps->mappings, wanted * sizeof *mappings)))
		return false;
	maps->mappings = mappings;
	*capacity = wanted;
	return true;
}

static bool reserve_text(struct maps *maps, size_t more, uint32_t *capacity)
{
	size_t wanted = MAX_OF(*capacity, 4096u);
	char *text;

	if (more > MAPS_TEXT_MAX - maps->text_size)
		return false;
	if (maps->text_size + more <= *capacity)
		return true;
	while (wanted < maps->text_size + more)
		wanted *= 2;
	if (!(text = realloc(maps->text, wanted)))
		return false;
	maps->text = text;
	*capacity = (uint32_t)wanted;
	return true;
}

static void keep(struct reading *r, const struct mapping *mapping, const char *path)
{
	struct maps *maps = &r->maps;
	size_t length = strlen(path);
	const struct mapping *last = maps->count ? &maps->mappings[maps->count - 1] : NULL;
	/* Neighbours of one file share their path. */
	bool same = last && !strcmp(maps->text + last->path, path);
	uint32_t at = same ? last->path : maps->text_size;

	if (length >= MAPS_PATH_MAX || !reserve_mapping(maps, &r->capacity))
		return;
	if (!same) {
		if (!reserve_text(maps, length + 1, &r->text_capacity))
			return;
		memcpy(maps->text + at, path, length + 1);
		maps->text_size += (uint32_t)length + 1;
	}
	maps->mappings[maps->count] = *mapping;
	maps->mappings[maps->count++].path = at;
}

static void take_line(struct reading *r, char *line)
{
	struct mapping mapping;
	const char *path;

	if (!maps_parse_line(line, &mapping, &path))
		return;
	unescape((char *)path);
	keep(r, &mapping, path);
}

static int read_lines(int fd, struct reading *r)
{
	char buffer[2 * LINE_MAX_SIZE];
	size_t filled = 0, total = 0;
	ssize_t n;

	while (total < MAPS_READ_MAX && (n = read(fd, buffer + filled, sizeof buffer - 1 - filled)) > 0) {
		char *line = buffer, *end;

		total += (size_t)n;
		filled += (size_t)n;
		buffer[filled] = 0;
		while ((end = memchr(line, '\n', filled - (size_t)(line - buffer)))) {
			*end = 0;
			take_line(r, line);
			line = end + 1;
		}
		filled -= (size_t)(line - buffer);
		if (filled >= LINE_MAX_SIZE)
			filled = 0; /* longer than any line can be: not a maps file */
		memmove(buffer, line, filled);
	}
	/* A process that ended between open and read gives an empty file, or ESRCH. */
	return total ? 0 : -ESRCH;
}

/* Gives back what is not used; an empty list still has areas of its own. */
static int shrink(struct maps *maps)
{
	struct mapping *mappings = realloc(maps->mappings, MAX_OF(maps->count, 1) * sizeof *mappings);
	char *text = realloc(maps->text, MAX_OF(maps->text_size, 1));

	if (mappings)
		maps->mappings = mappings;
	if (text)
		maps->text = text;
	return maps->mappings && maps->text ? 0 : -ENOMEM;
}

int maps_read(int pid, struct maps *ret)
{
	struct reading reading = { 0 };
	char path[32];
	int r;

	snprintf(path, sizeof path, "/proc/%d/maps", pid);

	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	r = read_lines(fd, &reading);
	if (r == 0)
		r = shrink(&reading.maps);
	if (r < 0) {
		maps_free(&reading.maps);
		return r;
	}
	*ret = reading.maps;
	return 0;
}

void maps_free(struct maps *maps)
{
	free(maps->mappings);
	free(maps->text);
	*maps = (struct maps){ 0 };
}

static int open_map_file(int pid, uint64_t start, uint64_t end)
{
	char path[80];
	int fd;

	snprintf(path, sizeof path, "/proc/%d/map_files/%llx-%llx", pid, (unsigned long long)start,
		 (unsigned long long)end);
	fd = open(path, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A bare handle on `name` below `folder`, out of which no link leads. */
static int open_below(const char *folder, const char *name)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	_cleanup_(close_fd) int root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return -errno;

	long fd = syscall(SYS_openat2, root, name, &how, sizeof how);

	return fd < 0 ? -errno : (int)fd;
}

static int open_in_root(int pid, const char *name)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/%d/root", pid);
	return open_below(path, name);
}

/* overlayfs and btrfs show a mapping's device differently from stat; there the inode number must do. */
static bool same_file(int fd, const struct stat *st, uint64_t dev, uint64_t ino)
{
	struct statfs fs;

	if (!ino)
		return true;
	if (st->st_ino != ino)
		return false;
	if (st->st_dev == dev)
		return true;
	return fstatfs(fd, &fs) == 0 && (fs.f_type == OVERLAYFS_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC);
}

/* Only a regular file is opened to be read. */
static int reopen(int handle, const struct stat *st, struct file_identity *ret)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	*ret = (struct file_identity){ .dev = st->st_dev,
				       .ino = st->st_ino,
				       .size = (uint64_t)st->st_size,
				       .modified_ns = (uint64_t)st->st_mtim.tv_sec * NS_PER_SEC +
						      (uint64_t)st->st_mtim.tv_nsec };
	return fd;
}

int maps_open_file(int pid, uint64_t start, uint64_t end, uint64_t dev, uint64_t ino, const char *path,
		   struct file_identity *ret)
{
	_cleanup_(close_fd) int handle = open_map_file(pid, start, end);
	struct stat st;

	if (handle < 0)
		handle = open_in_root(pid, path);
	if (handle < 0)
		handle = open_below("/", path);
	if (handle < 0)
		return handle;
	if (fstat(handle, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || !same_file(handle, &st, dev, ino))
		return -ESTALE;
	return reopen(handle, &st, ret);
}

/* The pid as the process itself has it: the last number of the line. */
static int inner_pid(int pid)
{
	_cleanup_(free_pointer) char *text = NULL;
	const char *line, *last = NULL;
	char path[32];

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	if (read_small_file(path, 16384, &text, NULL) < 0)
		return -ESRCH;
	line = strstr(text, "\nNSpid:");
	if (!line)
		return pid;
	for (const char *at = line + 7; *at && *at != '\n'; at++)
		if (*at == '\t')
			last = at + 1;
	return last ? atoi(last) : pid;
}

int maps_open_perf_map(int pid, struct file_identity *ret)
{
	int inner = inner_pid(pid);
	struct stat st, process;
	char path[48];

	if (inner < 0)
		return inner;
	snprintf(path, sizeof path, "/proc/%d", pid);
	if (stat(path, &process) < 0)
		return -errno;
	snprintf(path, sizeof path, "/tmp/perf-%d.map", inner);

	_cleanup_(close_fd) int handle = open_in_root(pid, path);

	if (handle < 0)
		return handle;
	if (fstat(handle, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (st.st_uid && st.st_uid != process.st_uid))
		return -ESTALE;
	return reopen(handle, &st, ret);
}

void maps_base_name(const char *path, char *name, unsigned size)
{
	static const char deleted[] = " (deleted)";
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	size_t length = strlen(base);

	if (length > sizeof deleted - 1 && !strcmp(base + length - (sizeof deleted - 1), deleted))
		length -= sizeof deleted - 1;
	if (length >= size)
		length = size - 1;
	for (size_t i = 0; i < length; i++)
		name[i] = (unsigned char)base[i] < 0x20 || base[i] == 0x7f ? '?' : base[i];
	name[length] = 0;
}
