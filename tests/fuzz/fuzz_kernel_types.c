/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the relocations of an object, and as the object: an answer, and nothing is read outside of it. */
#include "kernel_types.h"

#include <bpf/libbpf.h>
#include <gelf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "modules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* Where in an image its relocations lie. */
static void find(const struct builtin_object *b, size_t *ret_at, size_t *ret_size)
{
	Elf *elf = elf_memory((char *)b->begin, (size_t)(b->end - b->begin));
	Elf_Scn *section = NULL;
	size_t names;
	GElf_Shdr header;

	check(elf && elf_getshdrstrndx(elf, &names) == 0);
	while ((section = elf_nextscn(elf, section)) && gelf_getshdr(section, &header))
		if (!strcmp(elf_strptr(elf, names, header.sh_name), ".BTF.ext")) {
			*ret_at = header.sh_offset;
			*ret_size = header.sh_size;
		}
	elf_end(elf);
}

static void want(const void *image, size_t size, const struct btf *btf)
{
	struct kernel_types *types;

	check(kernel_types_open(&types) == 0);
	check(kernel_types_want(types, image, size, btf) <= 1);
	kernel_types_close(types);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bpf_object *object;
	static size_t at, room;
	const struct builtin_object *b = builtin_objects;
	size_t whole = (size_t)(b->end - b->begin);
	uint8_t *image = malloc(whole);

	check(image != NULL);
	if (!object) {
		elf_version(EV_CURRENT);
		object = bpf_object__open_mem(b->begin, whole, NULL);
		find(b, &at, &room);
		check(object && room);
	}
	memcpy(image, b->begin, whole);
	memcpy(image + at, data, size < room ? size : room);
	want(image, whole, bpf_object__btf(object));
	free(image);
	want(data, size, bpf_object__btf(object));
	return 0;
}
