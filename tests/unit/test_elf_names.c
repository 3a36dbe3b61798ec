/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of stripped files, from each place that has them, held against the file before it was stripped as nm,
 * addr2line and `go tool nm` show it. Go's older tables are made up here, as their compilers are no longer at hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "made_elf.h"
#include "stacks/elf_table.h"
#include "stacks/sandbox.h"
#include "stacks/worker.h"
#include "stacks/xz.h"

static char folder[] = "/tmp/sonde-test-XXXXXX";
static _Alignas(16) uint8_t scratch[ELF_SCRATCH_BYTES];

/* Runs a shell command in the folder. */
static void _printf_(1, 2) run(const char *format, ...)
{
	char command[4096], whole[4200];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	snprintf(whole, sizeof whole, "cd %s && %s", folder, command);
	if (system(whole))
		fail_msg("%s", whole);
}

static struct elf_file open_file(const char *name)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", folder, name);

	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	return (struct elf_file){ .fd = fd, .size = (uint64_t)st.st_size };
}

static void close_file_of(struct elf_file *file)
{
	close(file->fd);
}

static struct elf_table *build(const struct elf_sources *sources)
{
	int64_t room = elf_table_room_of(sources);
	struct elf_table *table, *moved;

	assert_true(room > 0);
	table = malloc((size_t)room);
	assert_int_equal(elf_table_build_of(sources, table, (size_t)room), 0);
	assert_true(elf_table_bytes(table) <= (size_t)room);
	assert_int_equal(table->left_out, 0);
	/* It may be moved, and what it was built from may go. */
	moved = malloc(elf_table_bytes(table));
	memcpy(moved, table, elf_table_bytes(table));
	memset(table, 0xee, (size_t)room);
	memset(scratch, 0xee, 1u << 20);
	free(table);
	return moved;
}

static uint64_t offset_of(const struct elf_table *table, uint64_t address)
{
	for (unsigned i = 0; i < table->n_loads; i++)
		if (address - table->loads[i].address < table->loads[i].size)
			return address - table->loads[i].address + table->loads[i].offset;
	return UINT64_MAX;
}

struct truth {
	unsigned checked, right;
	char first_wrong[1024];
};

/* Lines of "ADDRESS NAME", several of which may name one address: ours has to be one of them. */
static struct truth compare(const struct elf_table *table, const struct elf_file *file, const char *command)
{
	static char lines[8000][1000];
	static uint64_t addresses[8000];
	char whole[1024], name[ELF_LINKAGE_MAX];
	struct truth t = { 0 };
	size_t count = 0;
	unsigned long long at;

	snprintf(whole, sizeof whole, "cd %s && %s", folder, command);

	FILE *truth = popen(whole, "re");

	while (count < ARRAY_SIZE(lines) && fscanf(truth, "%llx %999[^\n]", &at, lines[count]) == 2)
		addresses[count++] = at;
	assert_int_equal(pclose(truth), 0);
	for (size_t i = 0; i < count; i++) {
		uint64_t offset = offset_of(table, addresses[i]), back = 0;
		uint32_t delta = 1;
		bool right = false;

		t.checked++;
		if (elf_table_find_linkage(table, file, offset, name, &delta) > 0 && !delta)
			for (size_t k = i > 8 ? i - 8 : 0; k < count && k < i + 8; k++)
				right |= addresses[k] == addresses[i] && !strncmp(lines[k], name, 999);
		right &= elf_table_address(table, offset, &back) && back == addresses[i];
		t.right += right;
		if (!right && !t.first_wrong[0])
			snprintf(t.first_wrong, sizeof t.first_wrong, "%s at %llx, not %.300s", lines[i],
				 (unsigned long long)addresses[i], name);
	}
	return t;
}

static void expect_all(struct truth t, unsigned least)
{
	if (t.right != t.checked)
		fail_msg("%u of %u: %s", t.right, t.checked, t.first_wrong);
	assert_true(t.checked >= least);
}

/* ---- a C++ program, whole and stripped in several ways ---- */

#define NM                                                                                                             \
	"nm -n %s --defined-only | awk '$2 ~ /[tTwW]/ && $3 !~ "                                                       \
	"/^(_init|_fini|data_start|.*tm_clones|__do_global.*|frame_dummy|_dl_relo.*)$/ {print $1, $3}'"

static void make_programs(void)
{
	run("cat >p.cc <<'E'\n"
	    "#include <map>\n#include <string>\n#include <vector>\n#include <cstdio>\n#include \"many.h\"\n"
	    "namespace n { static __attribute__((noinline)) int hidden(std::map<std::string, std::vector<int>> &m, int "
	    "x)"
	    " { m[\"a\"].push_back(x); return m.size(); }\n"
	    "template <class T> struct S { __attribute__((noinline)) static int f(T t) { return (int)t + 1; } }; }\n"
	    "extern \"C\" __attribute__((noinline)) int exported(int x) { return x + 2; }\n"
	    "int main(int c, char **) { std::map<std::string, std::vector<int>> m; int sum = n::hidden(m, c);\n"
	    "#include \"calls.h\"\n"
	    "printf(\"%%d %%d %%d\\n\", sum, n::S<double>::f(c), exported(c)); }\nE\n"
	    "seq 300 | sed 's/.*/static __attribute__((noinline)) int s&(int x) { return x * & + 3; }/' >many.h && "
	    "seq 300 | sed 's/.*/sum += s&(c);/' >calls.h");
	run("c++ -O1 -g -rdynamic -Wl,--build-id p.cc -o whole && objcopy --only-keep-debug whole whole.debug && "
	    "strip whole -o stripped && c++ -O2 -g -Wl,--build-id p.cc -o other && objcopy --only-keep-debug other "
	    "other.debug");
	/* MiniDebugInfo as distributions make it. */
	run("nm -D whole --format=posix --defined-only | awk '{print $1}' | sed 's/@.*//' | sort >dynamic && "
	    "nm whole --format=posix --defined-only | awk '$2 ~ /[tTwW]/ {print $1}' | sort | comm -13 dynamic - >keep "
	    "&& "
	    "objcopy -S --keep-symbols=keep whole.debug mini && xz -k mini && "
	    "objcopy --add-section .gnu_debugdata=mini.xz stripped stripped.mini");
}

static void check_sources(struct elf_sources sources, const struct elf_file *names, unsigned least, bool pool)
{
	char command[512];
	_cleanup_(free_pointer) struct elf_table *table = build(&sources);

	snprintf(command, sizeof command, NM, "whole");
	expect_all(compare(table, names, command), least);
	assert_int_equal(table->pool > 0, pool);
}

static void test_debug_file(void **state)
{
	_cleanup_(close_file_of) struct elf_file stripped = open_file("stripped"), debug = open_file("whole.debug");

	check_sources((struct elf_sources){ .file = &stripped, .debug = &debug }, &stripped, 300, true);
	check_sources((struct elf_sources){ .file = &stripped, .debug = &debug, .debug_stays = true }, &debug, 15,
		      false);
}

static void test_debug_file_of_another_build(void **state)
{
	_cleanup_(close_file_of) struct elf_file stripped = open_file("stripped"), debug = open_file("other.debug");
	_cleanup_(free_pointer) struct elf_table *table =
		build(&(struct elf_sources){ .file = &stripped, .debug = &debug });
	_cleanup_(free_pointer) struct elf_table *alone = build(&(struct elf_sources){ .file = &stripped });

	assert_int_equal(table->count, alone->count);
	assert_int_equal(table->pool, 0);
	assert_false(table->names_in_debug);
}

static void test_debugdata(void **state)
{
	_cleanup_(close_file_of) struct elf_file file = open_file("stripped.mini");
	_cleanup_(free_pointer) struct elf_table *without = build(&(struct elf_sources){ .file = &file });
	struct elf_table *table;
	char name[ELF_NAME_MAX];
	uint32_t delta;

	check_sources((struct elf_sources){ .file = &file, .scratch = scratch, .scratch_size = sizeof scratch }, &file,
		      15, true);
	/* Without room to unpack it, what .dynsym has is there. */
	table = build(&(struct elf_sources){ .file = &file, .scratch = scratch, .scratch_size = 100000 });
	assert_int_equal(table->count, without->count);
	assert_true(table->count > 0);
	free(table);
	/* Names are shown as they are written. */
	table = build(&(struct elf_sources){ .file = &file, .scratch = scratch, .scratch_size = sizeof scratch });

	bool found = false;

	for (uint32_t i = 0; i < table->count; i++)
		if (elf_table_find(table, &file, offset_of(table, table->base + table->symbols[i].at), name, &delta) >
		    0)
			found |= !strcmp(name, "n::hidden");
	assert_true(found);
	free(table);
}

static void test_little_room_leaves_out_and_counts(void **state)
{
	_cleanup_(close_file_of) struct elf_file file = open_file("stripped"), debug = open_file("whole.debug");
	enum { ROOM = 16384 };
	struct elf_sources sources = { .file = &file, .debug = &debug };
	_cleanup_(free_pointer) struct elf_table *whole = build(&sources), *table = malloc(ROOM);

	assert_int_equal(elf_table_build_of(&sources, table, sizeof *table), 0);
	assert_int_equal(table->count + table->left_out, 0);
	assert_memory_equal(table->build_id, whole->build_id, sizeof table->build_id);
	for (size_t size = sizeof *table + sizeof table->symbols[0]; size < ROOM; size += 101) {
		int r = elf_table_build_of(&sources, table, size);

		assert_int_equal(r, 0);
		assert_true(elf_table_bytes(table) <= ((size + 7) & ~7ul));
		assert_int_equal(table->count + table->left_out, whole->count);
	}
	assert_int_equal(table->left_out, 0);
	assert_int_equal(elf_table_build_of(&sources, table, sizeof *table - 1), -ENOSPC);
}

/* In the worker's own sandbox: 0 when all names of the C++ program are there, shown as they should be. */
static int name_in_sandbox(const struct elf_sources *sources, struct elf_table *room, size_t size)
{
	char name[ELF_NAME_MAX];
	uint32_t delta, named = 0;

	if (elf_table_build_of(sources, room, size) < 0)
		return 2;
	for (uint32_t i = 0; i < room->count; i++) {
		uint64_t offset = offset_of(room, room->base + room->symbols[i].at);

		if (elf_table_find(room, sources->file, offset, name, &delta) > 0 && !strcmp(name, "n::S<double>::f"))
			named++;
	}
	/* The longest way through the demangler as well. */
	demangle("_ZNSt8_Rb_treeISsSt4pairIKSsSt6vectorIiSaIiEEESt10_Select1stIS5_ESt4lessISsESaIS5_EE5eraseERS1_",
		 name, sizeof name);
	return named ? 0 : 3;
}

static void test_sandbox_allows_all_that_is_done(void **state)
{
	_cleanup_(close_file_of) struct elf_file file = open_file("stripped.mini");
	struct elf_sources sources = { .file = &file, .scratch = scratch, .scratch_size = sizeof scratch };
	size_t size = (size_t)elf_table_room_of(&sources);
	_cleanup_(free_pointer) struct elf_table *room = malloc(size);
	struct sandbox sandbox;
	int status, pid;

	assert_int_equal(worker_sandbox(&sandbox), 0);
	pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sandbox_enter(&sandbox) < 0)
			_exit(1);
		_exit(name_in_sandbox(&sources, room, size));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* addr2line goes by DWARF, not by symbols: the middle of each function. */
static void test_beside_addr2line(void **state)
{
	_cleanup_(close_file_of) struct elf_file file = open_file("stripped"), debug = open_file("whole.debug");
	_cleanup_(free_pointer) struct elf_table *table =
		build(&(struct elf_sources){ .file = &file, .debug = &debug });
	char command[2048], line[1024], name[ELF_LINKAGE_MAX];
	unsigned checked = 0;

	snprintf(command, sizeof command,
		 "cd %s && nm -S whole | awk 'NF == 4 && $3 ~ /[tTwW]/ {print $1}' | while read a; do n=$(addr2line -f "
		 "-e whole "
		 "0x$a | head -1);"
		 " [ \"$n\" = '?"
		 "?' ] || echo $a $n; done",
		 folder);

	FILE *truth = popen(command, "re");
	unsigned long long at;

	while (fscanf(truth, "%llx %1023s", &at, line) == 2) {
		uint32_t delta;

		if (elf_table_find_linkage(table, &file, offset_of(table, at + 1), name, &delta) <= 0)
			fail_msg("%s is not known", line);
		/* C1 and C2 of a constructor are one. */
		if (strcmp(name, line) && !strstr(line, "C2E"))
			fail_msg("%s is '%s'", line, name);
		assert_int_equal(delta, 1);
		checked++;
	}
	assert_int_equal(pclose(truth), 0);
	assert_true(checked >= 300);
}

/* ---- xz ---- */

static void test_xz_of_all_kinds(void **state)
{
	static const char *const flags[] = { "-1",        "-6",      "-9e --lzma2=dict=4MiB", "--block-size=100000",
					     "-C sha256", "-C none", "--x86 --lzma2" };
	char *original;
	size_t size;

	assert_int_equal(read_small_file("/proc/self/exe", 16u << 20, &original, &size), 0);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct elf_file out;

		run("xz -k -f -c %s </proc/%d/exe >packed.xz", flags[i], getpid());

		_cleanup_(close_file_of) struct elf_file file = open_file("packed.xz");

		assert_int_equal(xz_size(&file, 0, file.size), size);
		assert_int_equal(xz_unpack(&file, 0, file.size, scratch, sizeof scratch, &out), 0);
		assert_int_equal(out.size, size);
		assert_memory_equal(out.bytes, original, size);
		assert_int_equal(xz_unpack(&file, 0, file.size, scratch, size + 1000, &out), -ENOSPC);
		assert_int_equal(xz_unpack(&file, 0, file.size - 1, scratch, sizeof scratch, &out), -EBADMSG);
		assert_int_equal(xz_unpack(&file, 1, file.size - 1, scratch, sizeof scratch, &out), -EBADMSG);
		assert_int_equal(xz_unpack(&file, 0, file.size + 1, scratch, sizeof scratch, &out), -EBADMSG);
		assert_int_equal(xz_unpack(&file, 0, 0, scratch, sizeof scratch, &out), -EBADMSG);
	}
	free(original);
}

static void test_damaged_xz(void **state)
{
	char *bytes;
	size_t size;
	char path[300];
	uint32_t random = 1;
	struct elf_file out;

	run("xz -c p.cc >small.xz");
	snprintf(path, sizeof path, "%s/small.xz", folder);
	assert_int_equal(read_small_file(path, 1u << 20, &bytes, &size), 0);

	struct elf_file file = { .fd = -1, .bytes = (uint8_t *)bytes, .size = size };

	for (unsigned i = 0; i < 4000; i++) {
		size_t at = (random = random * 1664525u + 1013904223u) % size;

		bytes[at] ^= (char)(1u << (i % 8));
		assert_int_not_equal(xz_unpack(&file, 0, size, scratch, sizeof scratch, &out), 0);
		bytes[at] ^= (char)(1u << (i % 8));
	}
	assert_int_equal(xz_unpack(&file, 0, size, scratch, sizeof scratch, &out), 0);
	free(bytes);
}

/* ---- Go ---- */

static void check_go(const char *flags, const char *stripping)
{
	run("GO111MODULE=off go build %s -o go.whole g.go && GO111MODULE=off go build %s %s -o go.stripped g.go", flags,
	    flags, stripping);

	_cleanup_(close_file_of) struct elf_file file = open_file("go.stripped"), whole = open_file("go.whole");
	_cleanup_(free_pointer) struct elf_table *table = build(&(struct elf_sources){ .file = &file });
	_cleanup_(free_pointer) struct elf_table *of_whole = build(&(struct elf_sources){ .file = &whole });
	/* Go's own table writes type arguments as [...] and G.7 as it is in the source; C's functions are not in it. */
	const char *command =
		"go tool nm -n go.whole | awk '$2 == \"T\" || $2 == \"t\" {sub(/\\.abi0$/, \"\", $3); print $1, $3}' "
		"| grep -v -e '\\[' -e '\\.[0-9]*$' -e 'runtime.e\\?text$' -e ' _' -e ' type' | grep -e '\\.'";

	for (uint32_t i = 0; i < table->count; i++)
		assert_int_equal(table->symbols[i].name >> ELF_NAME_BITS, ELF_NAMES_GO);
	expect_all(compare(table, &file, command), 900);
	expect_all(compare(of_whole, &whole, command), 900);
}

static void test_go_program(void **state)
{
	run("cat >g.go <<'E'\npackage main\n\ntype T struct{ n int }\n\n//go:noinline\n"
	    "func (t *T) Method(x int) int { return t.n + x }\n\nfunc main() { t := &T{3}; println(t.Method(4)) }\nE");
	check_go("", "-ldflags='-s -w'");
	check_go("-buildmode=pie", "-ldflags='-s -w'");
}

static void put(uint8_t *table, size_t at, uint64_t value, unsigned size)
{
	memcpy(table + at, &value, size);
}

/* Two functions, at 0x20 and at 0x60 to 0x90, in each layout. */
static size_t made_table(uint8_t *table, uint32_t magic, unsigned word)
{
	bool narrow = magic == 0xfffffff0u || magic == 0xfffffff1u, old = magic == 0xfffffffbu;
	unsigned width = narrow ? 4 : word;
	size_t names = 96, records = old ? 0 : 128, pairs = old ? 8 + word : 128;
	uint64_t text = narrow ? 0 : MADE_ELF_TEXT;

	memset(table, 0, 512);
	put(table, 0, magic, 4);
	table[6] = 1;
	table[7] = (uint8_t)word;
	put(table, 8, 2, word);
	if (narrow) {
		put(table, 8 + 2 * word, MADE_ELF_TEXT, word);
		put(table, 8 + 3 * word, names, word);
		put(table, 8 + 7 * word, pairs, word);
	} else if (!old) {
		put(table, 8 + 2 * word, names, word);
		put(table, 8 + 6 * word, pairs, word);
	}
	strcpy((char *)table + names + 1, "main.one");
	strcpy((char *)table + names + 16, "main.two");
	put(table, pairs, text + 0x20, width);
	put(table, pairs + width, 256 - records, width);
	put(table, pairs + 2 * width, text + 0x60, width);
	put(table, pairs + 3 * width, 288 - records, width);
	put(table, pairs + 4 * width, text + 0x90, width);
	put(table, 256, text + 0x20, width);
	put(table, 256 + width, old ? names + 1 : 1, 4);
	put(table, 288, text + 0x60, width);
	put(table, 288 + width, old ? names + 16 : 16, 4);
	return 512;
}

static void test_tables_of_all_go_versions(void **state)
{
	static const uint32_t magics[] = { 0xfffffffbu, 0xfffffffau, 0xfffffff0u, 0xfffffff1u };
	static _Alignas(8) uint8_t room[8192];
	uint8_t table[512], bytes[512 + MADE_ELF_EXTRA];
	char name[ELF_NAME_MAX];
	uint32_t delta;

	for (unsigned i = 0; i < ARRAY_SIZE(magics); i++)
		for (unsigned word = 4; word <= 8; word += 4)
			for (unsigned section = 0; section < 2; section++) {
				size_t size = made_elf(bytes, section ? ".data.rel.ro.gopclntab" : ".gopclntab", table,
						       made_table(table, magics[i], word));
				struct elf_file file = { .fd = -1, .bytes = bytes, .size = size };
				const struct elf_table *t = (void *)room;

				assert_int_equal(elf_table_build(&file, room, sizeof room), 0);
				assert_int_equal(t->count, 2);
				assert_int_equal(elf_table_find(t, &file, 0x1f, name, &delta), -ENOENT);
				assert_int_equal(elf_table_find(t, &file, 0x5f, name, &delta), 8);
				assert_string_equal(name, "main.one");
				assert_int_equal(delta, 0x3f);
				assert_int_equal(elf_table_find(t, &file, 0x60, name, &delta), 8);
				assert_string_equal(name, "main.two");
				assert_int_equal(delta, 0);
				assert_int_equal(elf_table_find(t, &file, 0x90, name, &delta), -ENOENT);
			}
}

/* Since 1.26 the begin of the code is not in the table. */
static void test_go_without_text_start(void **state)
{
	static _Alignas(8) uint8_t room[8192];
	uint8_t table[512], bytes[512 + MADE_ELF_EXTRA];
	char name[ELF_NAME_MAX];
	uint32_t delta;
	size_t size = made_table(table, 0xfffffff1u, 8);

	put(table, 8 + 16, 0, 8);
	size = made_elf(bytes, ".gopclntab", table, size);

	struct elf_file file = { .fd = -1, .bytes = bytes, .size = size };

	assert_int_equal(elf_table_build(&file, room, sizeof room), 0);
	assert_int_equal(elf_table_find((void *)room, &file, 0x61, name, &delta), 8);
	assert_string_equal(name, "main.two");
}

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	make_programs();
	return 0;
}

static int remove_folder(void **state)
{
	run("rm -r %s", folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_debug_file),
		cmocka_unit_test(test_debug_file_of_another_build),
		cmocka_unit_test(test_debugdata),
		cmocka_unit_test(test_little_room_leaves_out_and_counts),
		cmocka_unit_test(test_sandbox_allows_all_that_is_done),
		cmocka_unit_test(test_beside_addr2line),
		cmocka_unit_test(test_xz_of_all_kinds),
		cmocka_unit_test(test_damaged_xz),
		cmocka_unit_test(test_go_program),
		cmocka_unit_test(test_tables_of_all_go_versions),
		cmocka_unit_test(test_go_without_text_start),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
