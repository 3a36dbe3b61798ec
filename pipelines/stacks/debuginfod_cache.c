/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bound of debuginfod's cache. libdebuginfod itself removes by age alone; here files go by how long they were not used until the rest
 * fits. A file lies in a folder named by its build id: CACHE/ID/debuginfo, with an empty one where a server had none. One walk lists the
 * folders with their bytes and last use, the oldest are removed.
 */
#include "stacks/debuginfod_talk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"

#define NAME_MAX_ID (2 * ELF_BUILD_ID_MAX + 1)
/* Beyond it folders are not even listed: they go. */
#define LIST_MAX DEBUGINFOD_ENTRIES

struct folder {
	char name[NAME_MAX_ID];
	uint64_t bytes;
	int64_t used;
};

static void close_folder(DIR **d)
{
	if (*d)
		closedir(*d);
}

static DIR *open_folder(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0)
		close(fd);
	return d;
}

/* What the folder holds, and when it was used last. */
static void measure(int cache, const char *name, struct folder *ret)
{
	_cleanup_(close_folder) DIR *d = open_folder(cache, name);
	struct dirent *e;
	struct stat st;

	snprintf(ret->name, sizeof ret->name, "%s", name);
	ret->bytes = 0;
	ret->used = 0;
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		ret->bytes += (uint64_t)st.st_blocks * 512;
		ret->used = MAX_OF(ret->used, MAX_OF(st.st_atim.tv_sec, st.st_ctim.tv_sec));
	}
}

static void remove_folder(int cache, const char *name)
{
	{
		_cleanup_(close_folder) DIR *d = open_folder(cache, name);
		struct dirent *e;

		while (d && (e = readdir(d)))
			if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
				unlinkat(dirfd(d), e->d_name, 0);
	}
	unlinkat(cache, name, AT_REMOVEDIR);
}

static int by_use(const void *a, const void *b)
{
	const struct folder *x = a, *y = b;

	return (x->used > y->used) - (x->used < y->used);
}

/* Build ids in hexadecimal; the library's own settings lie beside them. */
static bool is_build(const char *name)
{
	size_t length = strspn(name, "0123456789abcdef");

	return length >= 2 * DEBUGINFOD_ID_MIN && length < NAME_MAX_ID && !name[length];
}

int debuginfod_bound_cache(const char *cache, uint64_t bytes)
{
	_cleanup_(close_folder) DIR *d = open_folder(AT_FDCWD, cache);
	_cleanup_(free_pointer) struct folder *list = calloc(LIST_MAX, sizeof *list);
	unsigned count = 0, gone = 0;
	uint64_t total = 0;
	struct dirent *e;

	if (!d)
		return -errno;
	if (!list)
		return -ENOMEM;
	while ((e = readdir(d))) {
		if (!is_build(e->d_name))
			continue;
		if (count == LIST_MAX) {
			remove_folder(dirfd(d), e->d_name);
			continue;
		}
		measure(dirfd(d), e->d_name, &list[count]);
		total += list[count++].bytes;
	}
	qsort(list, count, sizeof *list, by_use);
	/* Room for one more. */
	while (gone < count && (total > bytes || count - gone >= LIST_MAX)) {
		total -= list[gone].bytes;
		remove_folder(dirfd(d), list[gone++].name);
	}
	return 0;
}
