/* SPDX-License-Identifier: Apache-2.0 */
/* Source: GDB manual, "Debugging Information in Separate Files". */
#include "stacks/debug_file.h"

#include <errno.h>
#include <lzma.h>
#include <stdio.h>
#include <string.h>

/* Both bounds are of what real files hold: a build id has 20 bytes, or 8 or 16. */
#define ID_LEAST 2u
#define ID_MOST  32u

static bool by_build_id(const struct debug_file_hint *hint, char *path, size_t size)
{
	char id[2 * ID_MOST + 1];
	int n;

	if (!hint->build_id || hint->build_id_length < ID_LEAST || hint->build_id_length > ID_MOST)
		return false;
	for (size_t i = 0; i < hint->build_id_length; i++)
		snprintf(id + 2 * i, 3, "%02x", hint->build_id[i]);
	n = snprintf(path, size, DEBUG_FILE_ROOT "/.build-id/%.2s/%s.debug", id, id + 2);
	return n > 0 && (size_t)n < size;
}

/* A link is the name of a file: a hostile one could lead anywhere. */
static bool is_file_name(const char *link)
{
	return link && *link && !strchr(link, '/') && strcmp(link, ".") && strcmp(link, "..");
}

static bool by_link(const struct debug_file_hint *hint, const char *root, const char *sub, char *path, size_t size)
{
	const char *slash = hint->path ? strrchr(hint->path, '/') : NULL;
	int n;

	if (!slash || hint->path[0] != '/' || !is_file_name(hint->link))
		return false;
	n = snprintf(path, size, "%s%.*s/%s%s", root, (int)(slash - hint->path), hint->path, sub, hint->link);
	/* A file whose link names itself is no debug file. */
	return n > 0 && (size_t)n < size && strcmp(path, hint->path);
}

/* The section holds the name, its NUL and padding to four bytes, then the checksum. */
int elf_debug_link(const struct elf_file *file, char *name, size_t size, uint32_t *ret_crc)
{
	struct elf_header header;
	Elf64_Shdr s;
	size_t want, length;

	if (!size || elf_read_header(file, &header) < 0 || elf_find_section(file, &header, ".gnu_debuglink", &s) < 0)
		return -ENOENT;
	want = s.sh_size < size ? (size_t)s.sh_size : size;
	if (!want || elf_read_at(file, s.sh_offset, name, want) < 0)
		return -ENOENT;
	length = strnlen(name, want);
	if (length == want || !is_file_name(name))
		return -ENOENT;

	uint64_t at = (length + 4) & ~(size_t)3;

	if (at + sizeof *ret_crc > s.sh_size)
		return -ENOENT;
	return elf_read_at(file, s.sh_offset + at, ret_crc, sizeof *ret_crc) < 0 ? -ENOENT : 0;
}

bool debug_file_candidate(const struct debug_file_hint *hint, unsigned index, char *path, size_t size)
{
	switch (index) {
	case 0:
		return by_build_id(hint, path, size);
	case 1:
		return by_link(hint, "", "", path, size);
	case 2:
		return by_link(hint, "", ".debug/", path, size);
	case 3:
		return by_link(hint, DEBUG_FILE_ROOT, "", path, size);
	default:
		return false;
	}
}

uint32_t debug_file_crc(uint32_t crc, const void *bytes, size_t size)
{
	return lzma_crc32(bytes, size, crc);
}
