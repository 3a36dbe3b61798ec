/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DWARF that no compiler writes: references in circles, counts and lengths beyond all bounds, sections cut anywhere, each byte of a file
 * spoiled in turn. Each file is made here, in memory; what is right in it must still be found, and the work must stay bounded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "base/base.h"
#include "stacks/inline_table.h"

#define CODE      0x10000u /* where the code of the files lies, and how much of it */
#define CODE_SIZE 0x10000u
#define ROOM      (2u << 20)

struct bytes {
	uint8_t *at;
	size_t size, room;
};

enum { INFO, ABBREV, STR, RANGES, NAMES, SECTIONS };

struct image {
	struct bytes parts[SECTIONS], whole;
	bool packed[SECTIONS];
	uint64_t claimed[SECTIONS]; /* size that the header of a packed section says, when not 0 */
};

/* ---- making files ---- */

static void put(struct bytes *b, const void *bytes, size_t size)
{
	if (b->size + size > b->room) {
		b->room = (b->size + size) * 2;
		b->at = realloc(b->at, b->room);
		assert_non_null(b->at);
	}
	if (size)
		memcpy(b->at + b->size, bytes, size);
	b->size += size;
}

static void put_number(struct bytes *b, uint64_t value, unsigned size)
{
	put(b, &value, size);
}

static void put_uleb(struct bytes *b, uint64_t value)
{
	do
		put_number(b, (value & 0x7f) | (value > 0x7f ? 0x80 : 0), 1);
	while (value >>= 7);
}

static void put_text(struct bytes *b, const char *text)
{
	put(b, text, strlen(text) + 1);
}

enum abbreviation { UNIT = 1, FUNCTION, INLINED, INLINED_LIST, NAMED, REFERRING, BLOCK, LINKED };

/* Each: code, tag, children, then attribute and form. */
static const uint8_t abbreviations[] = {
	UNIT,
	0x11,
	1,
	0x11,
	0x01,
	0,
	0, /* low_pc: addr */
	FUNCTION,
	0x2e,
	1,
	0x11,
	0x01,
	0x12,
	0x06,
	0,
	0, /* low_pc: addr, high_pc: data4 */
	INLINED,
	0x1d,
	1,
	0x31,
	0x13,
	0x11,
	0x01,
	0x12,
	0x06,
	0,
	0, /* origin: ref4, low_pc, high_pc */
	INLINED_LIST,
	0x1d,
	0,
	0x31,
	0x13,
	0x55,
	0x17,
	0,
	0, /* origin: ref4, ranges: sec_offset */
	NAMED,
	0x2e,
	0,
	0x03,
	0x08,
	0,
	0, /* name: string */
	REFERRING,
	0x2e,
	0,
	0x47,
	0x13,
	0,
	0, /* specification: ref4 */
	BLOCK,
	0x34,
	0,
	0x02,
	0x04,
	0,
	0, /* location: block4 */
	LINKED,
	0x2e,
	0,
	0x03,
	0x08,
	0x6e,
	0x0e,
	0,
	0, /* name: string, linkage_name: strp */
	0,
};

static struct image *begin_image(void)
{
	struct image *image = calloc(1, sizeof *image);
	struct bytes *info = &image->parts[INFO];

	put(&image->parts[ABBREV], abbreviations, sizeof abbreviations);
	put_number(info, 0, 4); /* the unit's length, filled in by finish_image() */
	put_number(info, 4, 2);
	put_number(info, 0, 4);
	put_number(info, 8, 1);
	put_uleb(info, UNIT);
	put_number(info, CODE, 8);
	return image;
}

static uint32_t put_named(struct image *image, const char *name)
{
	uint32_t at = (uint32_t)image->parts[INFO].size;

	put_uleb(&image->parts[INFO], NAMED);
	put_text(&image->parts[INFO], name);
	return at;
}

static uint32_t put_referring(struct image *image, uint32_t to)
{
	uint32_t at = (uint32_t)image->parts[INFO].size;

	put_uleb(&image->parts[INFO], REFERRING);
	put_number(&image->parts[INFO], to, 4);
	return at;
}

static void put_function(struct image *image, uint64_t low, uint32_t size)
{
	put_uleb(&image->parts[INFO], FUNCTION);
	put_number(&image->parts[INFO], low, 8);
	put_number(&image->parts[INFO], size, 4);
}

static void put_inlined(struct image *image, uint32_t origin, uint64_t low, uint32_t size)
{
	put_uleb(&image->parts[INFO], INLINED);
	put_number(&image->parts[INFO], origin, 4);
	put_number(&image->parts[INFO], low, 8);
	put_number(&image->parts[INFO], size, 4);
}

static void put_end(struct image *image)
{
	put_number(&image->parts[INFO], 0, 1);
}

static void put_section(struct image *image, unsigned k, uint32_t name, Elf64_Shdr *ret)
{
	struct bytes *part = &image->parts[k];

	*ret = (Elf64_Shdr){ .sh_name = name, .sh_type = SHT_PROGBITS, .sh_offset = image->whole.size };
	if (image->packed[k]) {
		Elf64_Chdr header = { .ch_type = ELFCOMPRESS_ZLIB,
				      .ch_size = image->claimed[k] ? image->claimed[k] : part->size };
		uLongf size = compressBound(part->size);
		uint8_t *packed = malloc(size);

		assert_int_equal(compress(packed, &size, part->at, part->size), Z_OK);
		put(&image->whole, &header, sizeof header);
		put(&image->whole, packed, size);
		ret->sh_flags = SHF_COMPRESSED;
		free(packed);
	} else {
		put(&image->whole, part->at, part->size);
	}
	ret->sh_size = image->whole.size - ret->sh_offset;
}

/* Ends the unit and puts the file together. */
static struct elf_file finish_image(struct image *image)
{
	static const char names[] = "\0.debug_info\0.debug_abbrev\0.debug_str\0.debug_ranges\0.shstrtab";
	Elf64_Ehdr header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			      .e_type = ET_EXEC,
			      .e_phoff = sizeof header,
			      .e_phentsize = sizeof(Elf64_Phdr),
			      .e_phnum = 1,
			      .e_shentsize = sizeof(Elf64_Shdr),
			      .e_shnum = SECTIONS,
			      .e_shstrndx = NAMES };
	Elf64_Phdr load = {
		.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = CODE, .p_filesz = CODE_SIZE, .p_memsz = CODE_SIZE
	};
	Elf64_Shdr sections[SECTIONS];
	struct bytes *info = &image->parts[INFO];
	uint32_t length, name = 1;

	put_end(image);
	length = (uint32_t)info->size - 4;
	memcpy(info->at, &length, 4);
	put(&image->parts[NAMES], names, sizeof names);
	put(&image->whole, &header, sizeof header);
	put(&image->whole, &load, sizeof load);
	for (unsigned k = 0; k < SECTIONS; k++) {
		put_section(image, k, name, &sections[k]);
		name += (uint32_t)strlen(names + name) + 1;
	}
	header.e_shoff = image->whole.size;
	put(&image->whole, sections, sizeof sections);
	memcpy(image->whole.at, &header, sizeof header);
	return (struct elf_file){ .fd = -1, .bytes = image->whole.at, .size = image->whole.size };
}

static void free_image(struct image *image)
{
	for (unsigned k = 0; k < SECTIONS; k++)
		free(image->parts[k].at);
	free(image->whole.at);
	free(image);
}

/* ---- reading them ---- */

static const struct inline_table *build(const struct elf_file *file)
{
	static _Alignas(64) uint8_t memory[ROOM];

	memset(memory, 0xa5, sizeof memory);
	inline_table_room(file);
	return inline_table_build(file, memory, sizeof memory) == 0 ? (void *)memory : NULL;
}

/* The chain at an address as a text, "inner outer". */
static const char *chain_at(const struct inline_table *table, uint64_t address)
{
	static char text[4096];
	const char *names[INLINE_DEPTH_MAX];
	unsigned n = inline_table_find(table, address, names, INLINE_DEPTH_MAX);

	text[0] = 0;
	for (unsigned i = 0; i < n; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "", names[i]);
	return text;
}

/* Whatever it holds, it may be asked. */
static void ask_everywhere(const struct inline_table *table)
{
	for (uint64_t address = CODE - 16; address < CODE + CODE_SIZE + 16; address += 97)
		chain_at(table, address);
}

/* ---- files that are right ---- */

static struct image *right_image(void)
{
	struct image *image = begin_image();
	uint32_t inner = put_named(image, "inner"), outer = put_named(image, "outer"), linked;

	linked = (uint32_t)image->parts[INFO].size;
	put_text(&image->parts[STR], "");
	put_text(&image->parts[STR], "_Zlinked");
	put_uleb(&image->parts[INFO], LINKED);
	put_text(&image->parts[INFO], "unlinked");
	put_number(&image->parts[INFO], 1, 4);

	put_function(image, CODE + 0x100, 0x100);
	put_inlined(image, outer, CODE + 0x110, 0x80);
	put_inlined(image, put_named(image, "early"), CODE + 0x110, 8);
	put_end(image);
	put_inlined(image, inner, CODE + 0x120, 0x10);
	put_inlined(image, linked, CODE + 0x124, 4);
	put_end(image);
	put_end(image);
	put_end(image);
	put_end(image);
	return image;
}

static void check_right(const struct inline_table *table)
{
	assert_non_null(table);
	assert_string_equal(chain_at(table, CODE + 0x10f), "");
	assert_string_equal(chain_at(table, CODE + 0x110), "early outer");
	assert_string_equal(chain_at(table, CODE + 0x118), "outer");
	assert_string_equal(chain_at(table, CODE + 0x123), "inner outer");
	assert_string_equal(chain_at(table, CODE + 0x124), "_Zlinked inner outer");
	assert_string_equal(chain_at(table, CODE + 0x128), "inner outer");
	assert_string_equal(chain_at(table, CODE + 0x18f), "outer");
	assert_string_equal(chain_at(table, CODE + 0x190), "");
}

static void test_right(void **state)
{
	struct image *image = right_image();
	struct elf_file file = finish_image(image);

	check_right(build(&file));
	free_image(image);
	for (unsigned k = INFO; k < NAMES; k++) {
		image = right_image();
		image->packed[k] = true;
		file = finish_image(image);
		check_right(build(&file));
		free_image(image);
	}
}

/* Two functions that the linker has made one, and ranges that overlap without lying in each other. */
static void test_overlapping(void **state)
{
	struct image *image = begin_image();
	uint32_t a = put_named(image, "a"), b = put_named(image, "b");
	const struct inline_table *table;
	struct elf_file file;

	for (unsigned i = 0; i < 2; i++) {
		put_function(image, CODE, 0x100);
		put_inlined(image, i ? a : b, CODE + 0x10, 0x20);
		put_inlined(image, i ? a : b, CODE + 0x18, 8);
		put_end(image);
		put_end(image);
		put_end(image);
	}
	put_function(image, CODE + 0x200, 0x100);
	put_inlined(image, a, CODE + 0x210, 0x20);
	put_end(image);
	put_inlined(image, b, CODE + 0x220, 0x20);
	put_end(image);
	put_inlined(image, b, CODE + 0x280, 0);
	put_end(image);
	put_end(image);
	file = finish_image(image);
	table = build(&file);
	assert_non_null(table);
	/* Either of the two, but not a mixture. */
	if (strcmp(chain_at(table, CODE + 0x18), "a a") != 0)
		assert_string_equal(chain_at(table, CODE + 0x18), "b b");
	assert_string_equal(chain_at(table, CODE + 0x21f), "a");
	assert_string_equal(chain_at(table, CODE + 0x22f), "b");
	assert_string_equal(chain_at(table, CODE + 0x23f), "b");
	assert_string_equal(chain_at(table, CODE + 0x240), "");
	assert_string_equal(chain_at(table, CODE + 0x280), "");
	free_image(image);
}

/* What a linker has left out is said to lie at 0, or nowhere that there is code. */
static void test_no_code_there(void **state)
{
	static const uint64_t places[] = { 0, CODE - 0x100, CODE + CODE_SIZE, UINT64_MAX - 0x80, 1ull << 40 };
	struct image *image = begin_image();
	uint32_t a = put_named(image, "a");
	const struct inline_table *table;
	struct elf_file file;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		put_function(image, places[i], 0x40);
		put_inlined(image, a, places[i], 0x20);
		put_end(image);
		put_inlined(image, a, CODE + 0x20, 0x20);
		put_end(image);
		put_end(image);
	}
	file = finish_image(image);
	table = build(&file);
	assert_non_null(table);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		assert_string_equal(chain_at(table, places[i]), "");
	assert_string_equal(chain_at(table, CODE + 0x20), "");
	free_image(image);
}

/* ---- files that are not ---- */

static void test_circles(void **state)
{
	struct image *image = begin_image();
	uint32_t named = put_named(image, "named"), itself, first, second, far = named;
	const struct inline_table *table;
	struct elf_file file;

	itself = (uint32_t)image->parts[INFO].size;
	put_referring(image, itself);
	first = (uint32_t)image->parts[INFO].size;
	second = put_referring(image, first + 5);
	second = put_referring(image, second);
	for (unsigned i = 0; i < 3; i++)
		far = put_referring(image, far);
	put_function(image, CODE, 0x100);
	put_inlined(image, itself, CODE, 0x10);
	put_inlined(image, named, CODE + 4, 4);
	put_end(image);
	put_end(image);
	put_inlined(image, second, CODE + 0x10, 0x10);
	put_end(image);
	put_inlined(image, far, CODE + 0x20, 0x10);
	put_end(image);
	for (unsigned i = 0; i < 1000; i++)
		far = put_referring(image, far);
	put_inlined(image, far, CODE + 0x30, 0x10);
	put_end(image);
	put_inlined(image, 0, CODE + 0x40, 0x10);
	put_end(image);
	put_inlined(image, UINT32_MAX, CODE + 0x50, 0x10);
	put_end(image);
	put_inlined(image, named + 1, CODE + 0x60, 0x10);
	put_end(image);
	put_end(image);
	file = finish_image(image);
	table = build(&file);
	assert_non_null(table);
	assert_string_equal(chain_at(table, CODE), "");
	assert_string_equal(chain_at(table, CODE + 4), "named"); /* its caller has no name, and is passed over */
	assert_string_equal(chain_at(table, CODE + 0x10), "");
	assert_string_equal(chain_at(table, CODE + 0x20), "named");
	assert_string_equal(chain_at(table, CODE + 0x30), "");
	assert_string_equal(chain_at(table, CODE + 0x40), "");
	assert_string_equal(chain_at(table, CODE + 0x50), "");
	ask_everywhere(table);
	free_image(image);
}

static void test_deep(void **state)
{
	struct image *image = begin_image();
	uint32_t a = put_named(image, "a");
	const struct inline_table *table;
	struct elf_file file;

	put_function(image, CODE, CODE_SIZE);
	for (unsigned i = 0; i < 100000; i++)
		put_inlined(image, a, CODE + i % 256, CODE_SIZE - i % 512);
	file = finish_image(image);
	table = build(&file);
	assert_non_null(table);
	assert_int_equal(inline_table_health(table).units_left_out, 1);
	ask_everywhere(table);
	free_image(image);
}

/* Lengths that lead out of everything, in the middle of the unit: what lies before them is kept. */
static void test_lengths(void **state)
{
	for (unsigned kind = 0; kind < 4; kind++) {
		struct image *image = begin_image();
		struct bytes *info = &image->parts[INFO];
		const struct inline_table *table;
		struct elf_file file;

		put_function(image, CODE, 0x100);
		put_inlined(image, put_named(image, "kept"), CODE, 0x10);
		put_end(image);
		put_end(image);
		if (kind == 0) { /* a block of 4 GiB */
			put_uleb(info, BLOCK);
			put_number(info, UINT32_MAX, 4);
		} else if (kind == 1) { /* an abbreviation that there is not */
			put_uleb(info, 1ull << 62);
		} else if (kind == 2) { /* a number that never ends */
			for (unsigned i = 0; i < 300; i++)
				put_number(info, 0xff, 1);
		} else { /* a text that never ends */
			put_uleb(info, NAMED);
			for (unsigned i = 0; i < 300000; i++)
				put_number(info, 'x', 1);
		}
		file = finish_image(image);
		table = build(&file);
		assert_non_null(table);
		assert_string_equal(chain_at(table, CODE + 8), "kept");
		ask_everywhere(table);
		free_image(image);
	}
}

/* A long list that very many entries share would take for ever. Work has a bound, and a part of it ends soon. */
static void test_work_is_bounded(void **state)
{
	struct image *image = begin_image();
	uint32_t a = put_named(image, "a");
	uint64_t parts = 0, most;
	struct elf_file file;
	uint8_t *memory;
	int64_t room;
	int r;

	for (unsigned i = 0; i < 100000; i++) {
		put_number(&image->parts[RANGES], i % 2 ? CODE : 0x10, 8);
		put_number(&image->parts[RANGES], i % 2 ? CODE : 0x10, 8); /* empty: takes time, but no room */
	}
	put_function(image, CODE, 0x100);
	for (unsigned i = 0; i < 200000; i++) {
		put_uleb(&image->parts[INFO], INLINED_LIST);
		put_number(&image->parts[INFO], a, 4);
		put_number(&image->parts[INFO], 0, 4);
	}
	put_end(image);
	file = finish_image(image);
	room = inline_table_room(&file);
	assert_true(room > 0);
	memory = malloc((size_t)room);
	assert_int_equal(inline_table_build_begin(&file, memory, (size_t)room), 0);
	while ((r = inline_table_build_some(&file, memory, (size_t)room, INLINE_STEPS)) == 1)
		parts++;
	assert_int_equal(r, 0);
	/* Unbounded it would be 200000 * 100000 ranges of 8 steps, 76000 parts. */
	most = 8 * (16 * file.size + (16u << 20)) / INLINE_STEPS;
	assert_true(parts > 10 && parts < most);
	free(memory);
	free_image(image);
}

static void test_bad_compression(void **state)
{
	for (unsigned k = INFO; k < NAMES; k++) {
		struct image *image = right_image();
		struct elf_file file;
		uint8_t *spoiled;

		image->packed[k] = true;
		image->claimed[k] = 1ull << 40; /* far more than there is */
		file = finish_image(image);
		check_right(build(&file));

		spoiled = malloc(file.size);
		for (size_t at = sizeof(Elf64_Ehdr); at < file.size; at++) {
			struct elf_file bad = { .fd = -1, .bytes = spoiled, .size = file.size };
			const struct inline_table *table;

			memcpy(spoiled, file.bytes, file.size);
			spoiled[at] ^= 0x55;
			table = build(&bad);
			if (table)
				ask_everywhere(table);
		}
		free(spoiled);
		free_image(image);
	}
}

/* Each byte spoiled in several ways, and the file cut behind each; the copy is as long as the file, for the sanitizers' sake. */
static void test_each_byte(void **state)
{
	static const uint8_t with[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
	struct image *image = right_image();
	struct elf_file file = finish_image(image);
	unsigned built = 0;

	for (size_t at = 0; at < file.size; at++) {
		for (size_t k = 0; k < ARRAY_SIZE(with) + 1; k++) {
			size_t size = k < ARRAY_SIZE(with) ? file.size : at;
			uint8_t *copy = malloc(size + !size);
			struct elf_file bad = { .fd = -1, .bytes = copy, .size = size };
			const struct inline_table *table;

			memcpy(copy, file.bytes, size);
			if (k < ARRAY_SIZE(with))
				copy[at] = with[k];
			table = build(&bad);
			if (table)
				ask_everywhere(table);
			built += table != NULL;
			free(copy);
		}
	}
	assert_true(built > 100);
	free_image(image);
}

/* A file that is shorter than was said when it was opened, by being cut meanwhile. */
static void test_shrunk(void **state)
{
	static _Alignas(64) uint8_t memory[ROOM];
	struct image *image = right_image();
	struct elf_file file = finish_image(image);
	int fd = memfd_create("shrunk", MFD_CLOEXEC);

	assert_int_equal(write(fd, file.bytes, file.size), file.size);
	file.fd = fd;
	file.bytes = NULL;
	assert_int_equal(inline_table_build_begin(&file, memory, sizeof memory), 0);
	assert_int_equal(ftruncate(fd, sizeof(Elf64_Ehdr)), 0);
	assert_int_equal(inline_table_build_some(&file, memory, sizeof memory, UINT64_MAX), -EIO);
	close(fd);
	free_image(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right),
		cmocka_unit_test(test_overlapping),
		cmocka_unit_test(test_no_code_there),
		cmocka_unit_test(test_circles),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_work_is_bounded),
		cmocka_unit_test(test_bad_compression),
		cmocka_unit_test(test_each_byte),
		cmocka_unit_test(test_shrunk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
