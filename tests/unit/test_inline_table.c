/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inlined functions held against two independent readers of DWARF, addr2line of binutils and of LLVM, at thousands of random addresses
 * of real programs, which are compiled here by gcc and clang. Then the same programs in too little room, in parts, in the sandbox.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "stacks/elf_table.h"
#include "stacks/inline_table.h"
#include "stacks/sandbox.h"
#include "stacks/worker.h"

#define ADDRESSES 4000u
#define CHAIN_MAX 96u
#define DEVIATION 1000u /* one in so many may differ */

static char folder[] = "/tmp/sonde-inline-XXXXXX";

/* How each program is made, in the folder of the sources. */
static const struct program {
	const char *name, *command;
	bool binutils_cannot; /* binutils 2.40 loses LLVM's rnglistx and addrx, and 64-bit line tables */
} programs[] = {
	{ "c-gcc-4", "gcc -O2 -gdwarf-4 first.c second.c", false },
	{ "c-gcc-5", "gcc -O2 -gdwarf-5 first.c second.c", false },
	{ "c-gcc-3", "gcc -O3 -gdwarf-3 -gstrict-dwarf first.c second.c", false },
	{ "c-gcc-lto", "gcc -O2 -g -flto first.c second.c", false },
	{ "c-gcc-dwarf64", "gcc -O2 -gdwarf-5 -gdwarf64 first.c second.c", true },
	{ "c-clang-4", "clang -O2 -gdwarf-4 first.c second.c", false },
	{ "c-clang-5", "clang -O2 -gdwarf-5 first.c second.c", true },
	{ "stl-gcc-4", "g++ -O2 -gdwarf-4 stl.cpp", false },
	{ "stl-gcc-5", "g++ -O2 -gdwarf-5 stl.cpp", false },
	{ "stl-gcc-gz", "g++ -O2 -g -gz stl.cpp", false },
	{ "stl-clang-4", "clang++ -O2 -gdwarf-4 stl.cpp", false },
	{ "stl-clang-5", "clang++ -O2 -gdwarf-5 stl.cpp", true },
	{ "stl-clang-gz", "clang++ -O2 -gdwarf-5 -gz stl.cpp", true },
};

struct built {
	int fd;
	struct elf_file file;
	size_t room;
	uint8_t *memory;
	const struct inline_table *table;
};

struct chain {
	unsigned count;
	char *names[CHAIN_MAX];
};

/* ---- helpers ---- */

static int compile_all(void **state)
{
	char command[512];

	if (!mkdtemp(folder))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		snprintf(command, sizeof command, "cd %s && %s -w -o %s/%s", INLINE_SOURCES, programs[i].command,
			 folder, programs[i].name);
		if (system(command) != 0) {
			fprintf(stderr, "failed: %s\n", command);
			return -1;
		}
	}
	return 0;
}

static int remove_all(void **state)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command);
}

static struct built open_program(const char *name)
{
	char path[256];
	struct stat st;
	struct built b = { 0 };

	snprintf(path, sizeof path, "%s/%s", folder, name);
	b.fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(b.fd >= 0 && fstat(b.fd, &st) == 0);
	b.file = (struct elf_file){ .fd = b.fd, .size = (uint64_t)st.st_size };

	int64_t room = inline_table_room(&b.file);

	assert_true(room > 0);
	b.room = (size_t)room;
	b.memory = malloc(b.room);
	b.table = (void *)b.memory;
	return b;
}

static struct built build_program(const char *name)
{
	struct built b = open_program(name);
	struct inline_health health;

	assert_int_equal(inline_table_build(&b.file, b.memory, b.room), 0);
	assert_true(inline_table_bytes(b.table) <= b.room);
	health = inline_table_health(b.table);
	assert_true(health.units_read > 0);
	assert_int_equal(health.units_left_out, 0);
	assert_int_equal(health.names_left_out, 0);
	return b;
}

static void close_program(struct built *b)
{
	free(b->memory);
	close(b->fd);
}

/* Random addresses of the program's .text. */
static void choose_addresses(const struct elf_file *file, uint64_t *addresses, unsigned count)
{
	struct elf_header header;
	Elf64_Shdr text;
	uint64_t state = 4711;

	assert_int_equal(elf_read_header(file, &header), 0);
	assert_int_equal(elf_find_section(file, &header, ".text", &text), 0);
	for (unsigned i = 0; i < count; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		addresses[i] = text.sh_addr + (state >> 33) % text.sh_size;
	}
}

/* What a reader of DWARF says of each address: the inlined functions, innermost first. It names the function that holds them last. */
static struct chain *ask_reader(const char *reader, const char *name, const uint64_t *addresses, unsigned count)
{
	struct chain *chains = calloc(count, sizeof *chains);
	char path[256], command[512], *line = NULL;
	size_t room = 0;
	unsigned n = 0, lines = 0;
	FILE *f;

	snprintf(path, sizeof path, "%s/addresses", folder);
	f = fopen(path, "w");
	assert_non_null(f);
	for (unsigned i = 0; i < count; i++)
		fprintf(f, "0x%llx\n", (unsigned long long)addresses[i]);
	fclose(f);
	snprintf(command, sizeof command, "%s -a -i -f -e %s/%s < %s", reader, folder, name, path);
	f = popen(command, "r");
	assert_non_null(f);
	while (getline(&line, &room, f) > 0) {
		line[strcspn(line, "\n")] = 0;
		if (line[0] == '0' && line[1] == 'x' && strspn(line + 2, "0123456789abcdef") == strlen(line) - 2) {
			assert_int_equal(strtoull(line, NULL, 16), addresses[n]);
			n++;
			lines = 0;
		} else if (lines++ % 2 == 0) {
			/* A function; the line behind it says where that is. */
			assert_true(n > 0 && chains[n - 1].count < CHAIN_MAX);
			chains[n - 1].names[chains[n - 1].count++] = strdup(line);
		}
	}
	free(line);
	assert_int_equal(pclose(f), 0);
	assert_int_equal(n, count);
	for (unsigned i = 0; i < count; i++) {
		assert_true(chains[i].count > 0);
		free(chains[i].names[--chains[i].count]);
	}
	return chains;
}

static void free_chains(struct chain *chains, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < chains[i].count; k++)
			free(chains[i].names[k]);
	free(chains);
}

/* binutils shows a function that has no linkage name under the symbol's name that its code happens to lie in. */
static bool is_symbol_instead(const char *said, const char *ours, const struct elf_table *symbols,
			      const struct elf_file *file, uint64_t address)
{
	char name[ELF_LINKAGE_MAX];
	uint32_t delta;

	for (unsigned l = 0; l < symbols->n_loads && strncmp(ours, "_Z", 2) != 0; l++)
		if (address - symbols->loads[l].address < symbols->loads[l].size)
			return elf_table_find_linkage(symbols, file,
						      address - symbols->loads[l].address + symbols->loads[l].offset,
						      name, &delta) > 0 &&
			       !strcmp(name, said);
	return false;
}

static unsigned compare(const struct built *b, const char *reader, const struct program *program,
			const struct elf_table *symbols)
{
	static uint64_t addresses[ADDRESSES];
	const char *names[CHAIN_MAX];
	unsigned differ = 0, inlined = 0;
	struct chain *chains;

	choose_addresses(&b->file, addresses, ADDRESSES);
	chains = ask_reader(reader, program->name, addresses, ADDRESSES);
	for (unsigned i = 0; i < ADDRESSES; i++) {
		unsigned n = inline_table_find(b->table, addresses[i], names, CHAIN_MAX);
		bool same = n == chains[i].count;

		for (unsigned k = 0; k < n && same; k++)
			same = !strcmp(names[k], chains[i].names[k]) ||
			       (symbols &&
				is_symbol_instead(chains[i].names[k], names[k], symbols, &b->file, addresses[i]));
		inlined += n > 0;
		if (!same && differ++ < 3)
			print_message("%s, %s at %llx: %u names, innermost %s, instead of %u, %s\n", program->name,
				      reader, (unsigned long long)addresses[i], n, n ? names[0] : "-", chains[i].count,
				      chains[i].count ? chains[i].names[0] : "-");
	}
	free_chains(chains, ADDRESSES);
	/* Equal by having nothing to say would prove nothing. */
	assert_true(inlined > ADDRESSES / 4);
	return differ;
}

/* ---- real programs ---- */

static void test_same_as_llvm(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		struct built b = build_program(programs[i].name);

		assert_true(compare(&b, "llvm-addr2line", &programs[i], NULL) <= ADDRESSES / DEVIATION);
		close_program(&b);
	}
}

static void test_same_as_binutils(void **state)
{
	unsigned compared = 0;

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		if (programs[i].binutils_cannot)
			continue;

		struct built b = build_program(programs[i].name);
		int64_t room = elf_table_room(&b.file);
		struct elf_table *symbols = malloc((size_t)room);

		assert_int_equal(elf_table_build(&b.file, symbols, (size_t)room), 0);
		assert_true(compare(&b, "addr2line", &programs[i], symbols) <= ADDRESSES / DEVIATION);
		free(symbols);
		close_program(&b);
		compared++;
	}
	assert_true(compared >= 9);
}

static void test_limit_of_names(void **state)
{
	struct built b = build_program("stl-gcc-5");
	static uint64_t addresses[ADDRESSES];
	const char *names[CHAIN_MAX], *few[3];
	unsigned deep = 0;

	choose_addresses(&b.file, addresses, ADDRESSES);
	for (unsigned i = 0; i < ADDRESSES; i++) {
		unsigned n = inline_table_find(b.table, addresses[i], names, CHAIN_MAX);

		assert_int_equal(inline_table_find(b.table, addresses[i], few, 3), MIN_OF(n, 3u));
		for (unsigned k = 0; k < MIN_OF(n, 3u); k++)
			assert_ptr_equal(names[k], few[k]);
		deep += n > 3;
	}
	assert_true(deep > 0);
	assert_int_equal(inline_table_find(b.table, 0, names, CHAIN_MAX), 0);
	assert_int_equal(inline_table_find(b.table, UINT64_MAX, names, CHAIN_MAX), 0);
	close_program(&b);
}

static void test_no_dwarf(void **state)
{
	struct elf_file file = { 0 };
	char command[256], memory[64];
	struct stat st;

	snprintf(command, sizeof command, "strip -o %s/stripped %s/c-gcc-5", folder, folder);
	assert_int_equal(system(command), 0);
	snprintf(command, sizeof command, "%s/stripped", folder);
	file.fd = open(command, O_RDONLY | O_CLOEXEC);
	assert_true(file.fd >= 0 && fstat(file.fd, &st) == 0);
	file.size = (uint64_t)st.st_size;
	assert_int_equal(inline_table_room(&file), 0);
	assert_int_equal(inline_table_build(&file, memory, sizeof memory), -ENOENT);
	close(file.fd);

	file = (struct elf_file){
		.fd = -1,
		.bytes = (const uint8_t *)"no ELF at all, but some text that is long enough for a header",
		.size = 61
	};
	assert_int_equal(inline_table_room(&file), -ENOEXEC);
	assert_int_equal(inline_table_build(&file, memory, sizeof memory), -ENOEXEC);
}

/* The file of debug information alone, as distributions ship it, has no code but the same addresses. */
static void test_debug_file(void **state)
{
	struct built whole = build_program("stl-gcc-gz"), alone;
	char command[512];

	snprintf(command, sizeof command, "objcopy --only-keep-debug %s/stl-gcc-gz %s/alone.debug", folder, folder);
	assert_int_equal(system(command), 0);
	alone = build_program("alone.debug");
	assert_int_equal(inline_table_bytes(alone.table), inline_table_bytes(whole.table));
	assert_memory_equal(alone.memory, whole.memory, inline_table_bytes(whole.table));
	close_program(&alone);
	close_program(&whole);
}

/* ---- room and parts ---- */

/* In less room there may be less, but nothing wrong, and nothing is written outside. Returns whether there was room for a table. */
static bool try_room(const struct built *whole, size_t size)
{
	enum { N = 500, FENCE = 64 };
	static uint64_t addresses[N];
	const char *names[CHAIN_MAX], *fewer[CHAIN_MAX];
	uint8_t *memory = malloc(size + FENCE);
	const struct inline_table *table = (void *)memory;
	struct inline_health health;
	int r;

	memset(memory + size, 0x5a, FENCE);
	r = inline_table_build(&whole->file, memory, size);
	for (unsigned i = 0; i < FENCE; i++)
		assert_int_equal(memory[size + i], 0x5a);
	if (r < 0) {
		assert_int_equal(r, -ENOSPC);
		free(memory);
		return false;
	}
	assert_true(inline_table_bytes(table) <= size);
	health = inline_table_health(table);
	choose_addresses(&whole->file, addresses, N);
	for (unsigned i = 0; i < N; i++) {
		unsigned n = inline_table_find(whole->table, addresses[i], names, CHAIN_MAX);
		unsigned m = inline_table_find(table, addresses[i], fewer, CHAIN_MAX), at = 0;

		if (!health.units_left_out && !health.names_left_out)
			assert_int_equal(n, m);
		/* Each name there is one of the whole chain, in its order. */
		for (unsigned k = 0; k < m; k++, at++) {
			while (at < n && strcmp(names[at], fewer[k]) != 0)
				at++;
			assert_true(at < n);
		}
	}
	free(memory);
	return true;
}

static void test_little_room(void **state)
{
	static const char *const names[] = { "c-gcc-lto", "stl-gcc-gz", "stl-clang-5" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct built whole = build_program(names[i]);
		unsigned refused = 0, built = 0;

		for (size_t size = 0; size < whole.room; size += size < whole.room / 4 * 3 ? 131072 : 4096)
			*(try_room(&whole, size) ? &built : &refused) += 1;
		assert_true(refused >= 5 && built > 5);
		close_program(&whole);
	}
}

/* In the least room that is not refused at once, this program does not fit, and that is said. */
static void test_missing_is_counted(void **state)
{
	struct built b = open_program("stl-gcc-5");
	size_t least = 0;
	struct inline_health health;

	while (inline_table_build(&b.file, b.memory, least) == -ENOSPC)
		least += 1024;
	health = inline_table_health(b.table);
	assert_true(health.units_left_out + health.names_left_out > 0);
	assert_int_equal(health.units_read + health.units_left_out, 1);
	close_program(&b);
}

static void test_parts(void **state)
{
	static const uint64_t steps[] = { 1, 777, 10000 };
	static const char *const names[] = { "c-clang-5", "stl-gcc-5", "stl-clang-gz" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct built whole = build_program(names[i]);
		uint8_t *memory = malloc(whole.room);

		for (size_t k = 0; k < ARRAY_SIZE(steps); k++) {
			unsigned parts = 1;
			int r;

			memset(memory, 0xa5, whole.room);
			assert_int_equal(inline_table_build_begin(&whole.file, memory, whole.room), 0);
			while ((r = inline_table_build_some(&whole.file, memory, whole.room, steps[k])) == 1) {
				/* Another descriptor of the same file, as the agent sends one with each question. */
				int fd = fcntl(whole.fd, F_DUPFD_CLOEXEC, 3);

				close(whole.fd);
				whole.fd = whole.file.fd = fd;
				parts++;
			}
			assert_int_equal(r, 0);
			assert_true(parts > 1 || steps[k] > 1000);
			assert_int_equal(inline_table_bytes((void *)memory), inline_table_bytes(whole.table));
			assert_memory_equal(memory, whole.memory, inline_table_bytes(whole.table));
		}
		free(memory);
		close_program(&whole);
	}
}

/* ---- the sandbox ---- */

/* Nothing is asked of the kernel but pread: in the worker's sandbox anything else kills. */
static void test_in_sandbox(void **state)
{
	static const char *const names[] = { "stl-gcc-5", "stl-clang-gz" };
	static struct sandbox sandbox;

	assert_int_equal(worker_sandbox(&sandbox), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct built b = open_program(names[i]);
		uint8_t *memory = mmap(NULL, b.room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		int status, pid;

		assert_true(memory != MAP_FAILED);
		pid = fork();
		if (pid == 0) {
			if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sandbox_enter(&sandbox) < 0)
				_exit(2);
			_exit(inline_table_build(&b.file, memory, b.room) == 0 &&
					      inline_table_bytes((void *)memory) > 1000
				      ? 0
				      : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		munmap(memory, b.room);
		close_program(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_llvm),       cmocka_unit_test(test_same_as_binutils),
		cmocka_unit_test(test_limit_of_names),     cmocka_unit_test(test_no_dwarf),
		cmocka_unit_test(test_debug_file),         cmocka_unit_test(test_little_room),
		cmocka_unit_test(test_missing_is_counted), cmocka_unit_test(test_parts),
		cmocka_unit_test(test_in_sandbox),
	};

	return cmocka_run_group_tests(tests, compile_all, remove_all);
}
