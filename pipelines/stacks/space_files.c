/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two tables by number: `used` holds the files that mapping lists refer to, `idle` the others, in the order in which
 * they were last asked for. The number is SipHash under a key of this run over the build id and the path's last part; without
 * one over device, inode and path, since an inode is used again once its file is gone. Nobody can choose a file whose number is
 * another's.
 *
 * Invariant: an entry is in `used` exactly while its `refs` is not 0.
 */
#include "stacks/space_files.h"

#include <string.h>

#define PATH_KEPT 4096u

struct file {
	struct node node; /* key: its number */
	uint32_t refs;
	struct space_file file;
	char path[];
};

int space_files_open(struct space_files *files, uint32_t buckets)
{
	int r;

	*files = (struct space_files){ 0 };
	r = siphash_make_key(&files->key);
	if (r == 0)
		r = table_open(&files->used, buckets);
	if (r == 0)
		r = table_open(&files->idle, buckets);
	if (r < 0)
		space_files_close(files);
	return r;
}

static void empty(struct table *table)
{
	while (table->oldest) {
		struct node *node = table->oldest;

		table_remove(table, node);
		free(node);
	}
	free(table->buckets);
	table->buckets = NULL;
}

void space_files_close(struct space_files *files)
{
	empty(&files->used);
	empty(&files->idle);
}

static uint64_t number_of(const struct space_files *files, const struct space_file *seen)
{
	uint64_t number;

	if (seen->build_id_length) {
		const char *slash = strrchr(seen->path, '/');

		/* The same content under another name is another file to people who read stacks. */
		number = siphash(&files->key, seen->build_id, seen->build_id_length) ^
			 siphash(&files->key, slash ? slash : seen->path,
				 strnlen(slash ? slash : seen->path, PATH_KEPT));
	} else {
		/* Longer than any build id, so that no build id spells it. */
		uint64_t place[5] = { seen->dev, seen->ino,
				      siphash(&files->key, seen->path, strnlen(seen->path, PATH_KEPT)) };

		number = siphash(&files->key, place, sizeof place);
	}
	return number ? number : 1;
}

static struct file *find_in(const struct table *table, uint64_t number)
{
	return (struct file *)table_find(table, number);
}

static struct file *find(const struct space_files *files, uint64_t number)
{
	struct file *file = find_in(&files->used, number);

	return file ? file : find_in(&files->idle, number);
}

static struct file *add(struct space_files *files, const struct space_file *seen, uint64_t number)
{
	size_t length = strnlen(seen->path, PATH_KEPT);
	struct file *file = calloc(1, sizeof *file + length + 1);

	if (!file)
		return NULL;
	file->file = *seen;
	file->file.number = number;
	file->file.path = memcpy(file->path, seen->path, length);
	file->node.key = number;
	file->node.bytes = space_allocated(sizeof *file + length + 1);
	table_add(&files->idle, &file->node);
	return file;
}

static void touch(struct space_files *files, struct file *file)
{
	table_touch(file->refs ? &files->used : &files->idle, &file->node);
}

uint64_t space_files_take(struct space_files *files, const struct space_file *seen)
{
	uint64_t number = number_of(files, seen);
	struct file *file = find(files, number);

	if (!file)
		return add(files, seen, number) ? number : 0;
	touch(files, file);
	return number;
}

void space_files_ref(struct space_files *files, uint64_t number)
{
	struct file *file = number ? find(files, number) : NULL;

	if (!file)
		return;
	if (!file->refs) {
		table_remove(&files->idle, &file->node);
		table_add(&files->used, &file->node);
	}
	file->refs++;
}

void space_files_unref(struct space_files *files, uint64_t number)
{
	struct file *file = number ? find_in(&files->used, number) : NULL;

	if (!file || --file->refs)
		return;
	table_remove(&files->used, &file->node);
	table_add(&files->idle, &file->node);
}

const struct space_file *space_files_find(struct space_files *files, uint64_t number)
{
	struct file *file = number ? find(files, number) : NULL;

	if (!file)
		return NULL;
	touch(files, file);
	return &file->file;
}

bool space_files_evict(struct space_files *files)
{
	struct node *node = files->idle.oldest;

	if (!node)
		return false;
	table_remove(&files->idle, node);
	free(node);
	return true;
}
