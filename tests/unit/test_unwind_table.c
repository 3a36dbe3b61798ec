/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unwind tables held against binutils: every row that readelf finds in real files must be found in the table. Then cases made by hand, for
 * what real files rarely have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include "base/base.h"
#include "stacks/unwind_arch.h"
#include "stacks/unwind_rows.h"
#include "stacks/unwind_table.h"

/* ---- helpers ---- */

static struct elf_file open_elf(const char *path)
{
	struct elf_file file = { .fd = open(path, O_RDONLY | O_CLOEXEC) };
	struct stat st;

	assert_true(file.fd >= 0);
	assert_int_equal(fstat(file.fd, &st), 0);
	file.size = (uint64_t)st.st_size;
	return file;
}

static struct unwind_table *build(const struct elf_file *file)
{
	int64_t room = unwind_table_room(file);
	struct unwind_table *table;

	assert_true(room > 0);
	table = malloc((size_t)room);
	assert_int_equal(unwind_table_build(file, table, (size_t)room), 0);
	assert_true(unwind_table_bytes(table) <= (size_t)room);
	assert_false(table->full);
	return table;
}

static const char *const names[] = { "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8",
				     "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "ra" };

static int register_of(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -1;
}

static const struct unwind_rule *rule_of(const struct unwind_parts *parts, const struct unwind_recipe *recipe, int reg)
{
	for (const struct unwind_rule *rule = &parts->rules[recipe->rules]; rule->kind != UNWIND_RULE_LAST; rule++)
		if (rule->reg == reg)
			return rule;
	return NULL;
}

/* As readelf writes them. */
static const char *cfa_text(const struct unwind_recipe *recipe)
{
	static char text[32];

	if (recipe->flags & UNWIND_CFA_EXPRESSION)
		return "exp";
	snprintf(text, sizeof text, "%s%+d", names[recipe->reg], recipe->offset);
	return text;
}

static const char *rule_text(const struct unwind_rule *rule)
{
	static char text[32];

	if (!rule)
		return "u"; /* nothing said */
	switch ((enum unwind_rule_kind)rule->kind) {
	case UNWIND_RULE_AT:
	case UNWIND_RULE_IS:
		snprintf(text, sizeof text, "%c%+d", rule->kind == UNWIND_RULE_AT ? 'c' : 'v', (int16_t)rule->value);
		return text;
	case UNWIND_RULE_REGISTER:
		return names[rule->value];
	case UNWIND_RULE_AT_EXPRESSION:
		return "exp";
	case UNWIND_RULE_IS_EXPRESSION:
		return "vexp";
	case UNWIND_RULE_SAME:
		return "s";
	case UNWIND_RULE_UNDEFINED:
	case UNWIND_RULE_LAST:
		break;
	}
	return "u";
}

/* ---- against readelf ---- */

struct comparison {
	const struct unwind_table *table;
	struct unwind_parts parts;
	unsigned long rows, wrong;
	int columns[32], n_columns;
	bool ra_end;
	char pending[512]; /* a row holds once the next has another address */
	uint64_t at;
};

static bool same_rule(const struct comparison *c, const struct unwind_recipe *recipe, int reg, const char *said)
{
	const struct unwind_rule *rule = rule_of(&c->parts, recipe, reg);
	bool kept = unwind_x86_64.kept >> reg & 1;

	/* The end of the stack is written "u" for ra; of kept registers nothing said and "same" are one. */
	if (reg == unwind_x86_64.pc && !strcmp(said, "u"))
		return recipe->flags & UNWIND_END;
	if (kept && !rule)
		return !strcmp(said, "u") || !strcmp(said, "s");
	return !strcmp(rule_text(rule), said);
}

/* A register is written "r5 (rdi)". */
static char *next_word(char **save)
{
	char *word = strtok_r(NULL, " \n", save);

	if (!word || **save != '(')
		return word;
	word = strtok_r(NULL, " \n", save) + 1;
	word[strcspn(word, ")")] = 0;
	return word;
}

static void compare_row(struct comparison *c)
{
	char *save = NULL, *word = strtok_r(c->pending, " \n", &save);
	const struct unwind_recipe *recipe;
	bool same;

	if (!word)
		return;
	c->rows++;
	recipe = unwind_table_find(c->table, &c->parts, c->at, false);
	word = strtok_r(NULL, " \n", &save);
	same = recipe && word && !strcmp(cfa_text(recipe), word);
	for (int i = 0; same && i < c->n_columns && (word = next_word(&save)); i++)
		if (c->columns[i] >= 0)
			same = same_rule(c, recipe, c->columns[i], word);
	if (!same && c->wrong++ < 5)
		print_message("at %llx: %s\n", (unsigned long long)c->at, recipe ? cfa_text(recipe) : "no row");
	c->pending[0] = 0;
}

static void read_columns(struct comparison *c, char *line)
{
	char *save = NULL, *word = strtok_r(line, " \n", &save);

	c->n_columns = 0;
	word = strtok_r(NULL, " \n", &save); /* LOC, CFA */
	while (word && (word = strtok_r(NULL, " \n", &save)) && c->n_columns < 32)
		c->columns[c->n_columns++] = register_of(word);
}

static void read_line(struct comparison *c, char *line)
{
	char *after;
	uint64_t at;

	if (strstr(line, " LOC ")) {
		compare_row(c);
		read_columns(c, line);
		return;
	}
	at = strtoull(line, &after, 16);
	if (after - line != 16 || *after != ' ' || strstr(line, "FDE") || strstr(line, "CIE") || strstr(line, "ZERO")) {
		compare_row(c);
		return;
	}
	if (c->pending[0] && at != c->at)
		compare_row(c);
	c->at = at;
	/* A CIE's own row is at no address. */
	if (at)
		snprintf(c->pending, sizeof c->pending, "%s", line);
}

static void compare_file(const char *path, unsigned long at_least)
{
	struct elf_file file = open_elf(path);
	_cleanup_(free_pointer) struct unwind_table *table = build(&file);
	struct comparison c = { .table = table, .parts = unwind_table_parts(table) };
	char command[256], line[512];
	FILE *pipe;

	snprintf(command, sizeof command, "readelf --debug-dump=frames-interp '%s' 2>/dev/null", path);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	while (fgets(line, sizeof line, pipe))
		read_line(&c, line);
	compare_row(&c);
	/* Its status tells also of separate debug files that are not there. */
	pclose(pipe);
	close(file.fd);
	print_message("%s: %lu rows, %lu differ, %zu bytes\n", path, c.rows, c.wrong, unwind_table_bytes(table));
	assert_true(c.rows >= at_least);
	assert_int_equal(c.wrong, 0);
}

static void test_real_files_are_as_readelf_says(void **state)
{
	char own[200] = "";

	compare_file("/usr/lib/x86_64-linux-gnu/libc.so.6", 10000);
	compare_file("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", 20000);
	compare_file("/lib64/ld-linux-x86-64.so.2", 1000);
	compare_file("/usr/bin/python3", 100);
	/* and this program */
	assert_true(readlink("/proc/self/exe", own, sizeof own - 1) > 0);
	compare_file(own, 100);
}

static void test_libc_is_small_and_quick(void **state)
{
	struct elf_file file = open_elf("/usr/lib/x86_64-linux-gnu/libc.so.6");
	uint64_t best = UINT64_MAX;
	size_t bytes = 0;

	for (unsigned i = 0; i < 5; i++) {
		uint64_t begin = now_boottime_ns();
		struct unwind_table *table = build(&file);

		best = MIN_OF(best, now_boottime_ns() - begin);
		bytes = unwind_table_bytes(table);
		free(table);
	}
	close(file.fd);
	assert_in_range(bytes, 1, 200000);
	/* 15 ms in a release build; a sanitizer takes several times that. */
	assert_in_range(best, 1, 150 * NS_PER_MS);
}

static void test_vdso(void **state)
{
	struct elf_file file = { .fd = -1, .bytes = (const uint8_t *)getauxval(AT_SYSINFO_EHDR) };
	_cleanup_(close_file) FILE *maps = fopen("/proc/self/maps", "r");
	struct unwind_table *table;
	char line[512];

	assert_non_null(file.bytes);
	assert_non_null(maps);
	while (fgets(line, sizeof line, maps)) {
		unsigned long start, end;

		if (strstr(line, "[vdso]") && sscanf(line, "%lx-%lx", &start, &end) == 2)
			file.size = end - start;
	}
	table = build(&file);
	assert_in_range(table->n_rows, 4, 1000);
	free(table);
}

/* ---- files made by hand ---- */

#define CODE_AT   0x1000u
#define CODE_SIZE 0x3000u
#define FRAME_AT  0x4000u

struct made {
	uint8_t bytes[0x6000];
	size_t n_frame;
	struct elf_file file;
};

static void put(struct made *m, const void *bytes, size_t size)
{
	memcpy(m->bytes + FRAME_AT + m->n_frame, bytes, size);
	m->n_frame += size;
}

static void put_u32(struct made *m, uint32_t value)
{
	put(m, &value, 4);
}

static void put_u64(struct made *m, uint64_t value)
{
	put(m, &value, 8);
}

static void pad_record(struct made *m, size_t begin)
{
	uint32_t length;

	while ((m->n_frame - begin) % 4)
		put(m, "", 1);
	length = (uint32_t)(m->n_frame - begin - 4);
	memcpy(m->bytes + FRAME_AT + begin, &length, 4);
}

/* A CIE of `letters` with absolute pointers; data alignment -8, code alignment 1. Returns its place. */
static size_t put_cie(struct made *m, bool debug, const char *letters, uint8_t column, const char *program, size_t size)
{
	size_t begin = m->n_frame;

	put_u32(m, 0);
	put_u32(m, debug ? 0xffffffff : 0);
	put(m, debug ? "\4" : "\1", 1);
	put(m, letters, strlen(letters) + 1);
	if (debug)
		put(m, "\x08\x00", 2);
	put(m, "\x01\x78", 2);
	put(m, &column, 1);
	if (strchr(letters, 'R'))
		put(m, "\x01\x00", 2);
	else if (letters[0] == 'z')
		put(m, "\x00", 1);
	put(m, program, size);
	pad_record(m, begin);
	return begin;
}

static void put_fde(struct made *m, size_t cie, bool debug, bool augmented, uint64_t pc, uint64_t range,
		    const char *program, size_t size)
{
	size_t begin = m->n_frame;

	put_u32(m, 0);
	put_u32(m, debug ? (uint32_t)cie : (uint32_t)(begin + 4 - cie));
	put_u64(m, pc);
	put_u64(m, range);
	if (augmented)
		put(m, "", 1);
	put(m, program, size);
	pad_record(m, begin);
}

#define PROGRAM(text) text, sizeof(text) - 1
/* def_cfa rsp+8, ra at cfa-8 */
#define USUAL PROGRAM("\x0c\x07\x08\x90\x01")

static void finish(struct made *m, const char *name, uint16_t machine)
{
	static const char strings[] = "\0.shstrtab\0.eh_frame\0.debug_frame";
	Elf64_Ehdr h = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 },
			 .e_machine = machine,
			 .e_phoff = sizeof h,
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 1,
			 .e_shoff = 0x200,
			 .e_shentsize = sizeof(Elf64_Shdr),
			 .e_shnum = 3,
			 .e_shstrndx = 1 };
	Elf64_Phdr p = { .p_type = PT_LOAD,
			 .p_flags = PF_X | PF_R,
			 .p_offset = CODE_AT,
			 .p_vaddr = CODE_AT,
			 .p_filesz = CODE_SIZE };
	Elf64_Shdr s[3] = {
		[1] = { .sh_name = 1, .sh_type = SHT_STRTAB, .sh_offset = 0x400, .sh_size = sizeof strings },
		[2] = { .sh_name = !strcmp(name, ".eh_frame") ? 11 : 21,
			.sh_type = SHT_PROGBITS,
			.sh_offset = FRAME_AT,
			.sh_addr = FRAME_AT,
			.sh_size = m->n_frame }
	};

	memcpy(m->bytes, &h, sizeof h);
	memcpy(m->bytes + sizeof h, &p, sizeof p);
	memcpy(m->bytes + 0x200, s, sizeof s);
	memcpy(m->bytes + 0x400, strings, sizeof strings);
	m->file = (struct elf_file){ .fd = -1, .bytes = m->bytes, .size = sizeof m->bytes };
}

/* What the table of one function at CODE_AT says at each of `offsets`: "CFA ra rbp". */
static void expect_at(const struct unwind_table *table, uint64_t at, const char *expected)
{
	struct unwind_parts parts = unwind_table_parts(table);
	const struct unwind_recipe *r = unwind_table_find(table, &parts, at, false);
	char text[128] = "none";
	int n;

	if (r) {
		n = snprintf(text, sizeof text, "%s ", cfa_text(r));
		n += snprintf(text + n, sizeof text - n, "%s ",
			      r->flags & UNWIND_END ? "end" : rule_text(rule_of(&parts, r, 16)));
		snprintf(text + n, sizeof text - n, "%s%s", rule_text(rule_of(&parts, r, 6)),
			 r->flags & UNWIND_SIGNAL ? " S" : "");
	}
	if (strcmp(text, expected))
		fail_msg("at %llx: '%s' instead of '%s'", (unsigned long long)at, text, expected);
}

static void test_programs(void **state)
{
	struct made m = { 0 };
	size_t cie = put_cie(&m, false, "zR", 16, USUAL), signal = put_cie(&m, false, "zRS", 16, USUAL);

	/* push rbp; mov rsp, rbp; remember; leave; restore */
	put_fde(&m, cie, false, true, 0x1000, 0x40,
		PROGRAM("\x41\x0e\x10\x86\x02\x43\x0d\x06\x0a\x48\x0c\x07\x08\xc6\x41\x0b\x41\x2e\x20"));
	/* advances of 1, 2 and 4 bytes; offset_extended_sf, val_offset, same_value, undefined ra */
	put_fde(&m, cie, false, true, 0x1100, 0x400,
		PROGRAM("\x02\x10\x11\x06\x02\x03\x00\x01\x14\x06\x02\x04\x00\x01\x00\x00\x08\x06\x41\x07\x10"));
	/* def_cfa_sf rsp -2 -> +16; def_cfa_offset_sf -3 -> 24; restore_extended; an unknown instruction ends it */
	put_fde(&m, cie, false, true, 0x1600, 0x40,
		PROGRAM("\x86\x02\x41\x12\x07\x7e\x41\x13\x7d\x41\x06\x06\x41\x3b\x41\x0e\x70"));
	put_fde(&m, signal, false, true, 0x1700, 0x10, PROGRAM("\x0f\x03\x77\x10\x06\x10\x06\x02\x77\x00"));
	put_u32(&m, 0);
	finish(&m, ".eh_frame", EM_X86_64);

	struct unwind_table *t = build(&m.file);

	expect_at(t, 0xfff, "none");
	expect_at(t, 0x1000, "rsp+8 c-8 u");
	expect_at(t, 0x1001, "rsp+16 c-8 c-16");
	expect_at(t, 0x1004, "rbp+16 c-8 c-16");
	expect_at(t, 0x100c, "rsp+8 c-8 u");
	expect_at(t, 0x100d, "rbp+16 c-8 c-16");
	expect_at(t, 0x103f, "rbp+16 c-8 c-16");
	expect_at(t, 0x1040, "none");
	expect_at(t, 0x110f, "rsp+8 c-8 u");
	expect_at(t, 0x1110, "rsp+8 c-8 c-16");
	expect_at(t, 0x120f, "rsp+8 c-8 c-16");
	expect_at(t, 0x1210, "rsp+8 c-8 v-16");
	expect_at(t, 0x1310, "rsp+8 c-8 u");
	expect_at(t, 0x1311, "rsp+8 end u");
	expect_at(t, 0x14ff, "rsp+8 end u");
	expect_at(t, 0x1500, "none");
	expect_at(t, 0x1600, "rsp+8 c-8 c-16");
	expect_at(t, 0x1601, "rsp+16 c-8 c-16");
	expect_at(t, 0x1602, "rsp+24 c-8 c-16");
	expect_at(t, 0x1603, "rsp+24 c-8 u");
	expect_at(t, 0x1604, "none");
	expect_at(t, 0x163f, "none");
	expect_at(t, 0x1700, "exp c-8 exp S");
	free(t);
}

static void test_unsorted_and_overlapping(void **state)
{
	struct made m = { 0 };
	size_t cie = put_cie(&m, false, "zR", 16, USUAL);

	put_fde(&m, cie, false, true, 0x2000, 0x100, PROGRAM("\x0e\x20"));
	put_fde(&m, cie, false, true, 0x1000, 0x20, PROGRAM("\x0e\x10"));
	put_fde(&m, cie, false, true, 0x2080, 0x100, PROGRAM("\x0e\x30"));
	put_fde(&m, cie, false, true, 0x1800, 0x13, PROGRAM("\x0e\x18"));
	put_fde(&m, cie, false, true, 0x1820, 0x10, PROGRAM("\x0e\x28"));
	put_fde(&m, cie, false, true, 0x1000, 0x10, PROGRAM("\x0e\x40"));
	put_fde(&m, cie, false, true, 0x9000, 0x10, PROGRAM("\x0e\x40"));
	put_fde(&m, cie, false, true, 0x3ff0, ~0ull - 0x3ff0, PROGRAM("\x0e\x48"));
	finish(&m, ".eh_frame", EM_X86_64);

	struct unwind_table *t = build(&m.file);

	expect_at(t, 0x1000, "rsp+16 c-8 u");
	expect_at(t, 0x101f, "rsp+16 c-8 u");
	expect_at(t, 0x1020, "none");
	expect_at(t, 0x1800, "rsp+24 c-8 u");
	/* padding up to the next function of 16 is the first's */
	expect_at(t, 0x181f, "rsp+24 c-8 u");
	expect_at(t, 0x1820, "rsp+40 c-8 u");
	expect_at(t, 0x1830, "none");
	expect_at(t, 0x20ff, "rsp+32 c-8 u");
	expect_at(t, 0x2100, "none");
	expect_at(t, 0x3ff0, "rsp+72 c-8 u");
	expect_at(t, 0x9000, "none");
	free(t);
}

static void test_debug_frame(void **state)
{
	struct made m = { 0 };
	size_t cie = put_cie(&m, true, "", 16, USUAL);

	/* set_loc is allowed where pointers are plain. */
	put_fde(&m, cie, true, false, 0x1200, 0x40, PROGRAM("\x01\x08\x12\0\0\0\0\0\0\x0e\x10"));
	finish(&m, ".debug_frame", EM_X86_64);

	struct unwind_table *t = build(&m.file);

	expect_at(t, 0x11ff, "none");
	expect_at(t, 0x1200, "rsp+8 c-8 u");
	expect_at(t, 0x1208, "rsp+16 c-8 u");
	expect_at(t, 0x1240, "none");
	free(t);
}

static void test_hostile_records(void **state)
{
	struct made m = { 0 };
	size_t cie = put_cie(&m, false, "zR", 16, USUAL), other = put_cie(&m, false, "zR", 3, USUAL);
	size_t unknown = put_cie(&m, false, "zQ", 16, USUAL);
	char deep[64];

	memset(deep, 0x0a, sizeof deep); /* remember_state without end */
	put_fde(&m, cie, false, true, 0x1000, 0x10, deep, sizeof deep);
	put_fde(&m, cie, false, true, 0x1100, 0x10, PROGRAM("\x0b"));                         /* nothing to restore */
	put_fde(&m, cie, false, true, 0x1200, 0x10, PROGRAM("\x0e\xff\xff\xff\xff\xff\x7f")); /* an offset of 40 bits */
	put_fde(&m, cie, false, true, 0x1300, 0x10, PROGRAM("\x0f\xff\xff\x03")); /* an expression behind the end */
	put_fde(&m, cie, false, true, 0x1400, 0x10, PROGRAM("\x0d\x63"));     /* CFA by a register that is not there */
	put_fde(&m, other, false, true, 0x1500, 0x10, PROGRAM("\x0e\x10"));   /* another return column */
	put_fde(&m, unknown, false, true, 0x1600, 0x10, PROGRAM("\x0e\x10")); /* a letter nobody knows */
	put_fde(&m, cie, false, true, 0x1700, 0x10, PROGRAM("\x0e\x10"));
	put_fde(&m, 0x5000, false, true, 0x1800, 0x10, PROGRAM("\x0e\x10")); /* no CIE */
	put_u32(&m, 0x7fffffff);                                             /* a record longer than the section */
	finish(&m, ".eh_frame", EM_X86_64);

	struct unwind_table *t = build(&m.file);

	for (uint64_t at = 0x1000; at < 0x1700; at += 0x100)
		expect_at(t, at, "none");
	expect_at(t, 0x1700, "rsp+16 c-8 u");
	expect_at(t, 0x1800, "none");
	free(t);
}

static void test_no_file_of_this_machine(void **state)
{
	struct made m = { 0 };
	char room[4096];

	finish(&m, ".eh_frame", EM_386);
	assert_int_equal(unwind_table_room(&m.file), -ENOEXEC);
	assert_int_equal(unwind_table_build(&m.file, room, sizeof room), -ENOEXEC);
	finish(&m, ".eh_frame", EM_X86_64);
	assert_int_equal(unwind_table_build(&m.file, room, 16), -ENOSPC);
	assert_int_equal(unwind_table_build(&m.file, room, sizeof room), 0);
	assert_true(unwind_table_bytes((void *)room) <= sizeof(struct unwind_table));
	m.bytes[0] = 0;
	assert_int_equal(unwind_table_room(&m.file), -ENOEXEC);
}

/* Without its section headers a file says the same: its program headers lead to .eh_frame. */
static void test_stripped_of_section_headers(void **state)
{
	struct elf_file file = open_elf("/usr/lib/x86_64-linux-gnu/libc.so.6"), bare = { .fd = -1, .size = file.size };
	_cleanup_(free_pointer) uint8_t *bytes = malloc(file.size);
	_cleanup_(free_pointer) struct unwind_table *with = build(&file), *without = NULL;

	assert_int_equal(elf_read_at(&file, 0, bytes, file.size), 0);
	close(file.fd);
	((Elf64_Ehdr *)bytes)->e_shoff = 0;
	((Elf64_Ehdr *)bytes)->e_shnum = 0;
	bare.bytes = bytes;
	without = build(&bare);
	assert_int_equal(with->n_rows, without->n_rows);
	assert_memory_equal(unwind_table_parts(with).rows, unwind_table_parts(without).rows, 4 * with->n_rows);
}

/* Whatever the room: nothing is written behind it, and what the table says is right. */
static void test_little_room(void **state)
{
	struct elf_file file = open_elf("/usr/lib/x86_64-linux-gnu/libc.so.6");
	_cleanup_(free_pointer) struct unwind_table *whole = build(&file);
	struct unwind_parts all = unwind_table_parts(whole);
	unsigned found = 0;

	for (size_t room = sizeof(struct unwind_table); room < 300000; room += 7919) {
		_cleanup_(free_pointer) uint8_t *bytes = malloc(room + 64);
		struct unwind_table *t = (void *)bytes;

		memset(bytes, 0xa5, room + 64);
		assert_int_equal(unwind_table_build(&file, t, room), 0);
		assert_true(unwind_table_bytes(t) <= room);
		for (unsigned i = 0; i < 64; i++)
			assert_int_equal(bytes[room + i], 0xa5);

		struct unwind_parts parts = unwind_table_parts(t);

		for (uint64_t at = t->base; t->n_buckets && at < t->base + t->segments[0].size; at += 61) {
			const struct unwind_recipe *a = unwind_table_find(t, &parts, at, false);
			const struct unwind_recipe *b = unwind_table_find(whole, &all, at, false);

			if (!a)
				continue;
			found++;
			assert_non_null(b);
			assert_string_equal(cfa_text(a), (strcpy((char[32]){ 0 }, cfa_text(b))));
		}
	}
	assert_true(found > 1000);
	close(file.fd);
}

static void test_arm64(void **state)
{
	struct made m = { 0 };
	size_t cie = put_cie(&m, false, "zR", 30, PROGRAM("\x0c\x1f\x00"));
	uint8_t room[16384];
	struct unwind_table *t = (void *)room;

	/* stp x29, x30, [sp, #-32]!; the return address is signed in between */
	put_fde(&m, cie, false, true, 0x1000, 0x40, PROGRAM("\x41\x2d\x43\x0e\x20\x9d\x04\x9e\x03"));
	finish(&m, ".eh_frame", EM_AARCH64);
	assert_int_equal(unwind_table_build(&m.file, room, sizeof room), -ENOEXEC);
	assert_int_equal(unwind_table_build_for(&unwind_arm64, &m.file, room, sizeof room), 0);

	struct unwind_parts parts = unwind_table_parts(t);
	const struct unwind_recipe *begin = unwind_table_find(t, &parts, 0x1000, false),
				   *in = unwind_table_find(t, &parts, 0x1004, false);

	assert_non_null(begin);
	assert_int_equal(begin->offset, 0);
	assert_int_equal(rule_of(&parts, begin, 30)->kind, UNWIND_RULE_SAME);
	assert_non_null(in);
	assert_int_equal(in->offset, 32);
	assert_int_equal((int16_t)rule_of(&parts, in, 30)->value, -24);
	assert_int_equal((int16_t)rule_of(&parts, in, 29)->value, -32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_files_are_as_readelf_says),
		cmocka_unit_test(test_libc_is_small_and_quick),
		cmocka_unit_test(test_vdso),
		cmocka_unit_test(test_programs),
		cmocka_unit_test(test_unsorted_and_overlapping),
		cmocka_unit_test(test_debug_frame),
		cmocka_unit_test(test_hostile_records),
		cmocka_unit_test(test_no_file_of_this_machine),
		cmocka_unit_test(test_stripped_of_section_headers),
		cmocka_unit_test(test_little_room),
		cmocka_unit_test(test_arm64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
