/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Symbolizing held against other sources of the same truth: libelf for ELF files, /proc/kallsyms for the kernel,
 * programs that print the address of their own functions. The worker is killed and stopped on purpose.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/base.h"
#include "stacks/elf_table.h"
#include "stacks/kernel.h"
#include "stacks/maps.h"
#include "stacks/symbols.h"

#define WAIT_NS (8 * NS_PER_SEC)

void test_symbols_target(void);
__attribute__((noinline)) void test_symbols_target(void)
{
	__asm__ volatile("nop; nop; nop; nop");
}

/* ---- helpers ---- */

static struct symbols *open_symbols(uint64_t cache_bytes)
{
	struct symbols_options options = { .cache_bytes = cache_bytes,
					   .worker_bytes = 16u << 20,
					   .worker_uid = geteuid() == 0 ? 65534 : 0,
					   .no_events = geteuid() != 0 };
	struct symbols *s = NULL;
	struct fault fault = { 0 };

	if (symbols_open(&s, &options, &fault) < 0)
		fail_msg("%s", fault.text);
	return s;
}

static void turn(struct symbols *s, int timeout_ms)
{
	struct pollfd fd = { .fd = symbols_fd(s), .events = POLLIN };

	poll(&fd, 1, timeout_ms);
	symbols_answer(s);
}

static void take_place(void *context, const struct stack_frames *frames)
{
	struct stack_frame *place = context;

	assert_int_equal(frames->count, 1);
	*place = frames->frames[0];
}

/* A sample whose leaf is the address, and which has no stack. */
static void begin_place(struct symbols *s, int pid, uint64_t address, struct stack_frame *ret)
{
	struct sonde_stack stack = { .flags = SONDE_STACK_USER };

	ret->file = UINT64_MAX;
	stack.registers[SONDE_REGISTER_PC] = address;
	assert_int_equal(symbols_unwind(s, pid, now_boottime_ns(), &stack, sizeof stack, take_place, ret), 0);
}

static struct stack_frame place_in(struct symbols *s, int pid, uint64_t address)
{
	uint64_t until = now_boottime_ns() + WAIT_NS;
	struct stack_frame place;

	begin_place(s, pid, address, &place);
	while (place.file == UINT64_MAX && now_boottime_ns() < until)
		turn(s, 20);
	assert_int_not_equal(place.file, UINT64_MAX);
	return place;
}

static const char *text_of(struct symbols *s, struct stack_frame place)
{
	static char text[1024];
	struct symbols_frame frame;
	uint64_t until = now_boottime_ns() + WAIT_NS;

	do {
		symbols_user_frame(s, &place, &frame);
		assert_int_equal(frame.length, strlen(frame.text));
		snprintf(text, sizeof text, "%s", frame.text);
		if (frame.final)
			return text;
		turn(s, 20);
	} while (now_boottime_ns() < until);
	fail_msg("no final text, so far '%s'", text);
	return NULL;
}

static const char *user_text(struct symbols *s, int pid, uint64_t address, bool caller)
{
	struct stack_frame place = place_in(s, pid, address);

	assert_true(place.at & UNWIND_EXACT);
	if (caller)
		place.at &= ~UNWIND_EXACT;
	return text_of(s, place);
}

static struct symbols_health health_of(struct symbols *s)
{
	struct symbols_health h;

	symbols_health(s, &h);
	return h;
}

static void wait_for_worker(struct symbols *s, int other_than)
{
	uint64_t until = now_boottime_ns() + WAIT_NS;

	while ((!health_of(s).worker_pid || health_of(s).worker_pid == other_than) && now_boottime_ns() < until)
		turn(s, 50);
	assert_true(health_of(s).worker_pid > 0);
	assert_int_not_equal(health_of(s).worker_pid, other_than);
}

/*
 * Compiles a program that prints the address of its function `known_place` and waits for its input's end, into a new file that replaces the X in
 * `path`. Before symbols_open(): a child that inherited the open file would keep the program from being run.
 */
static void build_program(const char *flags, char *path)
{
	int fd = mkstemp(path);
	char command[512];

	assert_true(fd >= 0);
	close(fd);
	snprintf(command, sizeof command,
		 "printf '%%s' '#include <stdio.h>\n"
		 "__attribute__((noinline)) void known_place(void) { __asm__ volatile(\"nop;nop;nop\"); }\n"
		 "int main(void) { known_place(); printf(\"%%p\\n\", (void *)known_place); fflush(stdout);"
		 " return getchar() != EOF; }' | cc %s -x c - -o %s",
		 flags, path);
	assert_int_equal(system(command), 0);
}

struct program {
	int pid, in;
	uint64_t address;
};

static struct program start_program(const char *path)
{
	int to[2], from[2];
	char line[64] = "";
	struct program p = { 0 };

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	p.pid = fork();
	if (p.pid == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		execl(path, path, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	p.in = to[1];
	assert_true(read(from[0], line, sizeof line - 1) > 0);
	close(from[0]);
	p.address = strtoull(line, NULL, 16);
	return p;
}

static void end_program(struct program *p)
{
	close(p->in);
	waitpid(p->pid, NULL, 0);
}

/* ---- ELF tables ---- */

static int compare_file(const char *path, uint32_t section_type)
{
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int checked = 0;

	assert_true(fd >= 0 && fstat(fd, &st) == 0);

	struct elf_file file = { .fd = fd, .size = (uint64_t)st.st_size };
	int64_t room = elf_table_room(&file);

	assert_true(room > 0);

	_cleanup_(free_pointer) struct elf_table *table = malloc((size_t)room);

	assert_int_equal(elf_table_build(&file, table, (size_t)room), 0);
	assert_true(elf_table_bytes(table) <= (size_t)room);
	elf_version(EV_CURRENT);

	Elf *elf = elf_begin(fd, ELF_C_READ, NULL);

	for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn));) {
		GElf_Shdr header;
		Elf_Data *data = elf_getdata(scn, NULL);

		gelf_getshdr(scn, &header);
		if (header.sh_type != section_type)
			continue;
		for (size_t i = 0; i < header.sh_size / header.sh_entsize; i++) {
			char name[ELF_NAME_MAX];
			uint32_t delta = ~0u;
			GElf_Sym sym;
			uint64_t offset = 0;

			gelf_getsym(data, (int)i, &sym);
			if (GELF_ST_TYPE(sym.st_info) != STT_FUNC || !sym.st_size || sym.st_shndx == SHN_UNDEF)
				continue;
			for (unsigned l = 0; l < table->n_loads; l++)
				if (sym.st_value - table->loads[l].address < table->loads[l].size)
					offset = sym.st_value - table->loads[l].address + table->loads[l].offset;
			assert_true(offset > 0);
			assert_true(elf_table_find(table, &file, offset, name, &delta) > 0);
			assert_int_equal(delta, 0);
			assert_true(elf_table_find(table, &file, offset + sym.st_size - 1, name, &delta) > 0);
			assert_true(delta < sym.st_size);
			checked++;
		}
	}
	elf_end(elf);
	return checked;
}

static void test_tables_agree_with_libelf(void **state)
{
	Dl_info libc;

	assert_true(compare_file("/proc/self/exe", SHT_SYMTAB) > 50);
	assert_true(dladdr((void *)getpid, &libc) != 0);
	assert_true(compare_file(libc.dli_fname, SHT_DYNSYM) > 1000);
}

static void poke(uint8_t *bytes, size_t size, uint64_t *random)
{
	static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0xff };

	for (int i = 0; i < 8; i++) {
		*random = *random * 6364136223846793005ull + 1442695040888963407ull;

		/* Mostly in the headers, which lie at both ends of a file. */
		size_t near = *random >> 60 < 12 ? MIN_OF(size, 4096) : size;
		size_t at = (*random >> 20) % near;

		if (*random >> 59 & 1)
			at = size - 1 - at;
		bytes[at] = *random & 0x100 ? edges[(*random >> 10) % sizeof edges] : (uint8_t)*random;
	}
}

static void test_hostile_files_do_no_harm(void **state)
{
	char *original;
	size_t size;
	uint64_t random = 42;

	assert_int_equal(read_small_file("/proc/self/exe", 64u << 20, &original, &size), 0);

	size_t used = MIN_OF(size, (size_t)256 << 10);
	uint8_t *copy = malloc(size);
	size_t room = 4u << 20;
	void *table = malloc(room);

	for (int i = 0; i < 3000; i++) {
		/* A third is cut; the rest is whole, so that its section headers are there to be wrong. */
		size_t length = i % 3 ? size : (random >> 30) % used;
		uint8_t *exact = i % 3 ? copy : malloc(length + 1);
		struct elf_file file = { .fd = -1, .bytes = exact, .size = length };
		char name[ELF_NAME_MAX];
		uint32_t delta;

		if (i < 2 || !(i % 3))
			memcpy(exact, original, length);
		if (length)
			poke(exact, length, &random);
		elf_table_room(&file);
		if (elf_table_build(&file, table, i % 5 ? room : (random >> 40) % 4096) == 0)
			for (uint64_t offset = 0; offset < 1u << 20; offset += 4093)
				elf_table_find(table, &file, offset, name, &delta);
		if (exact != copy)
			free(exact);
		else if (!(i % 7))
			memcpy(copy, original, size);
	}
	free(copy);
	free(table);
	free(original);
}

/* ---- mappings ---- */

static void test_lines_of_maps(void **state)
{
	struct mapping m;
	const char *path;
	char good[] = "7f00a000-7f00b000 r-xp 00001000 fd:01 1234                       /usr/lib/a b.so (deleted)";
	char data[] = "7f00a000-7f00b000 rw-p 00001000 fd:01 1234 /usr/lib/x.so";
	char anonymous[] = "7f00a000-7f00b000 rwxp 00000000 00:00 0 ";
	char *bad[] = { (char[]){ "" }, (char[]){ "7f00a000" }, (char[]){ "7f00b000-7f00a000 r-xp 0 0:0 0" },
			(char[]){ "7f00a000-7f00b000 r-x" }, (char[]){ "1-2 r-xp zz 00:00 0" } };
	char name[16];

	assert_true(maps_parse_line(good, &m, &path));
	assert_int_equal(m.offset, 0x1000);
	assert_int_equal(m.ino, 1234);
	assert_string_equal(path, "/usr/lib/a b.so (deleted)");
	maps_base_name(path, name, sizeof name);
	assert_string_equal(name, "a b.so");
	maps_base_name("/x/\033[2Jlonger than that", name, sizeof name);
	assert_string_equal(name, "?[2Jlonger than");
	assert_false(maps_parse_line(data, &m, &path));
	assert_true(maps_parse_line(anonymous, &m, &path));
	assert_string_equal(path, "");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(maps_parse_line(bad[i], &m, &path));
}

/* ---- frames ---- */

static void test_own_functions(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	uint64_t target = (uint64_t)(uintptr_t)test_symbols_target;
	struct symbols_frame frame;
	struct stack_frame place;

	assert_string_equal(user_text(s, getpid(), target + 2, false), "test_symbols_target+0x2 (test_symbols)");
	assert_string_equal(user_text(s, getpid(), target + 2, true), "test_symbols_target+0x2 (test_symbols)");
	assert_string_equal(user_text(s, getpid(), 0x10, false), "0x10");
	place = place_in(s, getpid(), target + 2);
	symbols_user_frame(s, &place, &frame);
	assert_true(frame.final && frame.id);
	symbols_close(s);
}

static void test_library_without_symtab(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	uint64_t address = (uint64_t)(uintptr_t)dlsym(dlopen("libelf.so.1", RTLD_NOW), "elf_version");

	assert_true(address > 0);
	assert_non_null(strstr(user_text(s, getpid(), address, false), "elf_version+0x0 (libelf"));
	/* Of its names the one that programs call it by: not __libc_read, not __GI___libc_read of its debug file. */
	address = (uint64_t)(uintptr_t)dlsym(dlopen("libc.so.6", RTLD_NOW), "read");
	assert_string_equal(user_text(s, getpid(), address, false), "read+0x0 (libc.so.6)");
	symbols_close(s);
}

static void test_return_address_at_the_end(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	uint64_t target = (uint64_t)(uintptr_t)test_symbols_target;

	/* A return address that is the next function's begin belongs to the caller before it. */
	assert_non_null(strstr(user_text(s, getpid(), target, false), "test_symbols_target+0x0 "));
	assert_null(strstr(user_text(s, getpid(), target, true), "test_symbols_target"));
	symbols_close(s);
}

static void test_vdso(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	uint64_t base = getauxval(AT_SYSINFO_EHDR);
	int named = 0;

	if (!base)
		skip();

	struct stack_frame first = place_in(s, getpid(), base + 0x400);

	/* Twice: each is asked for before the first answer is waited for. */
	for (int ask = 1; ask >= 0; ask--) {
		struct stack_frame place = first;

		for (; place.at < first.at + 0xc00; place.at += 64) {
			if (ask) {
				symbols_user_state(s, &place);
				continue;
			}
			const char *text = text_of(s, place);

			named += strstr(text, "+0x") && strstr(text, "([vdso])");
		}
	}
	assert_true(named > 5);
	symbols_close(s);
}

static void check_program(const char *flags, bool remove, const char *expected)
{
	char path[] = "/tmp/sonde-test-XXXXXX", after[300], text[128];

	build_program(flags, path);

	struct symbols *s = open_symbols(8u << 20);

	struct program p = start_program(path);

	if (remove)
		unlink(path);
	snprintf(text, sizeof text, "%s", user_text(s, p.pid, p.address + 1, false));
	snprintf(after, sizeof after, expected, path + 5);
	end_program(&p);
	unlink(path);
	symbols_close(s);
	if (strncmp(text, after, strlen(after)))
		fail_msg("%s: '%s' does not begin with '%s'", flags, text, after);
}

static void test_kinds_of_programs(void **state)
{
	check_program("-O1 -static", false, "known_place+0x1 (%s)");
	check_program("-O1 -static-pie", false, "known_place+0x1 (%s)");
	check_program("-O1 -no-pie", false, "known_place+0x1 (%s)");
	check_program("-O1 -pie", false, "known_place+0x1 (%s)");
	check_program("-O1 -pie -s", false, "%s+0x1");
	check_program("-O1 -pie -s -Wl,--build-id=0x0123456789abcdef", false, "%s+0x1");
	check_program("-O1 -Wl,--section-start=.text=0x7654000 -no-pie", false, "known_place+0x1 (%s)");
}

static void test_deleted_program(void **state)
{
	if (geteuid() != 0)
		skip();
	check_program("-O1 -pie", true, "known_place+0x1 (%s)");
}

static void test_stripped_shows_build_id(void **state)
{
	char path[] = "/tmp/sonde-test-XXXXXX";

	build_program("-O1 -pie -s -Wl,--build-id=0x0123456789abcdef", path);

	struct symbols *s = open_symbols(8u << 20);

	struct program p = start_program(path);
	const char *text = user_text(s, p.pid, p.address + 1, false);

	assert_non_null(strstr(text, " [0123456789abcdef]"));
	assert_null(strstr(text, "known_place"));
	assert_int_equal(health_of(s).unresolved, 1);
	end_program(&p);
	unlink(path);
	symbols_close(s);
}

/* Text symbols of the kernel itself and of modules; programs come and go with whoever loads them. */
static bool is_lasting(const char *line, unsigned long long *address)
{
	char name[256], type;

	return sscanf(line, "%llx %c %255s", address, &type, name) == 3 && *address && strchr("tT", type) &&
	       !strstr(line, "[bpf]") && strncmp(name, "__pfx_", 6) && strncmp(name, "__cfi_", 6);
}

static void test_kernel_against_kallsyms(void **state)
{
	_cleanup_(close_fd) int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	_cleanup_(close_file) FILE *file = fopen("/proc/kallsyms", "re");
	struct kernel_table *table = NULL;
	unsigned long long address;
	char line[512];
	uint64_t delta;
	int checked = 0, right = 0;

	assert_int_equal(kernel_table_read(fd, &table), 0);
	while (fgets(line, sizeof line, file)) {
		if (!is_lasting(line, &address))
			continue;

		const char *found = kernel_table_find(table, address, &delta);

		checked++;
		right += found && delta == 0;
	}
	if (!checked)
		skip(); /* kptr_restrict */
	assert_int_equal(checked, right);
	assert_true(kernel_table_bytes(table) < 8u << 20);
	print_message("kernel table: %zu functions, %zu bytes\n", kernel_table_count(table), kernel_table_bytes(table));
	kernel_table_free(table);
}

static void test_modules_and_bpf_programs(void **state)
{
	char path[] = "/tmp/sonde-test-XXXXXX";
	_cleanup_(close_fd) int fd = mkstemp(path);
	static const char text[] = "0000000000000000 A fixed_percpu_data\n"
				   "ffffffff81000000 T _text\n"
				   "ffffffff81000010 t __pfx_do_thing\n"
				   "ffffffff81000020 T do_thing\n"
				   "ffffffff81000020 T __do_thing\n"
				   "ffffffff82000000 D some_data\n"
				   "ffffffffc0001000 t nf_hook\t[nf_tables]\n"
				   "ffffffffc002a964 t bpf_prog_6209bdb3cd47582f_sample__perf_event\t[bpf]\n"
				   "ffffffffc002c000 t bpf_trampoline_6442536467\t[bpf]\n";
	static const struct {
		uint64_t address;
		const char *name;
		uint64_t delta;
	} expected[] = {
		{ 0xffffffff81000025, "do_thing", 5 },
		{ 0xffffffffc0001008, "nf_hook", 8 },
		{ 0xffffffffc002a965, "bpf_prog_6209bdb3cd47582f_sample__perf_event", 1 },
		{ 0xffffffffc002c000, "bpf_trampoline_6442536467", 0 },
	};
	struct kernel_table *table = NULL;
	uint64_t delta;

	unlink(path);
	assert_int_equal(write_all(fd, text, sizeof text - 1), 0);
	assert_int_equal(kernel_table_read(fd, &table), 0);
	assert_int_equal(kernel_table_count(table), 5);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		const char *name = kernel_table_find(table, expected[i].address, &delta);

		assert_non_null(name);
		assert_string_equal(name, expected[i].name);
		assert_int_equal(delta, expected[i].delta);
	}
	/* A gap as wide as that is no function. */
	assert_null(kernel_table_find(table, 0xffffffff82000000, &delta));
	kernel_table_free(table);
}

static void test_kernel_frames(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	FILE *file = popen("grep ' T do_exit$' /proc/kallsyms", "r");
	unsigned long long address = 0;
	struct symbols_frame frame;
	uint64_t until = now_boottime_ns() + WAIT_NS;

	if (fscanf(file, "%llx", &address) != 1)
		address = 0;
	pclose(file);
	if (!address)
		skip();
	do {
		symbols_kernel_frame(s, address + 5, true, &frame);
		if (!frame.final)
			turn(s, 50);
	} while (!frame.final && now_boottime_ns() < until);
	assert_string_equal(frame.text, "do_exit+0x5 ([k])");
	symbols_kernel_frame(s, 0xffff000000000000ull, false, &frame);
	assert_string_equal(frame.text, "0xffff000000000000 ([k])");
	symbols_close(s);
}

static void test_hidden_kernel_addresses(void **state)
{
	char path[] = "/tmp/sonde-test-XXXXXX";
	int fd = mkstemp(path);
	static const char zeros[] = "0000000000000000 T _text\n0000000000000000 t other\t[module]\nrubbish\n";
	struct kernel_table *table = NULL;
	uint64_t delta;

	assert_int_equal(write_all(fd, zeros, sizeof zeros - 1), 0);
	assert_int_equal(kernel_table_read(fd, &table), 0);
	assert_int_equal(kernel_table_count(table), 0);
	assert_null(kernel_table_find(table, 0xffffffff81000000ull, &delta));
	kernel_table_free(table);
	close(fd);
	unlink(path);
}

/* ---- the worker ---- */

static void test_worker_has_no_rights(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	char path[64], *status;
	size_t size;

	wait_for_worker(s, 0);
	/* An answer says that it is in its sandbox. */
	user_text(s, getpid(), (uint64_t)(uintptr_t)test_symbols_target, false);
	snprintf(path, sizeof path, "/proc/%d/status", health_of(s).worker_pid);
	assert_int_equal(read_small_file(path, 1u << 16, &status, &size), 0);
	assert_non_null(strstr(status, "CapEff:\t0000000000000000"));
	assert_non_null(strstr(status, "CapPrm:\t0000000000000000"));
	assert_non_null(strstr(status, "NoNewPrivs:\t1"));
	assert_non_null(strstr(status, "Seccomp:\t2"));
	if (geteuid() == 0)
		assert_non_null(strstr(status, "Uid:\t65534\t65534\t65534\t65534"));
	free(status);
	symbols_close(s);
}

static void test_killed_worker_is_replaced(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	uint64_t target = (uint64_t)(uintptr_t)test_symbols_target;

	if (geteuid() != 0)
		skip();
	for (int i = 0; i < 3; i++) {
		wait_for_worker(s, 0);

		int before = health_of(s).worker_pid;

		kill(before, SIGKILL);
		wait_for_worker(s, before);
		assert_int_equal(health_of(s).worker_restarts, i + 1);
		assert_non_null(strstr(user_text(s, getpid(), target + (uint64_t)i, false), "test_symbols_target+0x"));
	}
	symbols_close(s);
}

static void test_hanging_worker_is_replaced(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	uint64_t target = (uint64_t)(uintptr_t)test_symbols_target, begin;

	if (geteuid() != 0)
		skip();
	wait_for_worker(s, 0);
	user_text(s, getpid(), target, false);

	int before = health_of(s).worker_pid;

	kill(before, SIGSTOP);
	begin = now_boottime_ns();
	/* What was with it is asked once more. */
	assert_string_equal(user_text(s, getpid(), target + 1, false), "test_symbols_target+0x1 (test_symbols)");
	assert_true(now_boottime_ns() - begin < 4 * NS_PER_SEC);
	wait_for_worker(s, before);
	assert_int_equal(health_of(s).worker_restarts, 1);
	assert_string_equal(user_text(s, getpid(), target + 2, false), "test_symbols_target+0x2 (test_symbols)");
	symbols_close(s);
}

static int parent_of(int pid)
{
	char path[64], *status;
	size_t size;
	int parent = 0;

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	assert_int_equal(read_small_file(path, 1u << 16, &status, &size), 0);
	sscanf(strstr(status, "PPid:"), "PPid: %d", &parent);
	free(status);
	return parent;
}

static void test_lost_keeper_leaves_offsets(void **state)
{
	struct symbols *s = open_symbols(8u << 20);
	uint64_t target = (uint64_t)(uintptr_t)test_symbols_target, until = now_boottime_ns() + WAIT_NS;

	if (geteuid() != 0)
		skip();
	wait_for_worker(s, 0);
	assert_non_null(strstr(user_text(s, getpid(), target, false), "test_symbols_target+0x0"));
	kill(parent_of(health_of(s).worker_pid), SIGKILL);
	while (health_of(s).worker_pid && now_boottime_ns() < until)
		turn(s, 50);
	assert_int_equal(health_of(s).worker_pid, 0);
	assert_non_null(strstr(user_text(s, getpid(), target + 1, false), "test_symbols+0x"));
	assert_non_null(strstr(user_text(s, getpid(), target, false), "test_symbols_target+0x0"));
	symbols_close(s);
}

/* ---- bounds ---- */

static void test_memory_stays_bounded(void **state)
{
	struct symbols *s = open_symbols(2u << 20);
	struct stack_frame place;
	struct symbols_frame frame;
	uint64_t highest = 0;

	uint64_t until = now_boottime_ns() + 2 * WAIT_NS;

	place = place_in(s, getpid(), (uint64_t)(uintptr_t)getpid);
	for (uint64_t i = 0; i < 40000 || (!health_of(s).evicted && now_boottime_ns() < until); i++) {
		place.at = (0x30000 + i * 8) | UNWIND_EXACT;
		symbols_user_frame(s, &place, &frame);
		if (i % 256 == 0)
			turn(s, 10);
		highest = MAX_OF(highest, health_of(s).bytes);
	}
	for (int i = 0; i < 200 && health_of(s).frames; i++)
		turn(s, 5);
	assert_true(highest < 4u << 20);
	assert_true(health_of(s).bytes <= 2u << 20);
	assert_true(health_of(s).evicted > 0);
	symbols_close(s);
}

/* A file that is asked for a name now and then gathers them; another's many names are not held up by that. */
static void test_gathered_names_hold_up_nobody(void **state)
{
	enum { PLACES = 2000 };
	struct symbols *s = open_symbols(8u << 20);
	struct stack_frame many = place_in(s, getpid(), (uint64_t)(uintptr_t)test_symbols_target),
			   few = place_in(s, getpid(), (uint64_t)(uintptr_t)getpid);
	uint64_t until = now_boottime_ns() + WAIT_NS;
	unsigned left;

	text_of(s, many);
	text_of(s, few);
	do {
		few.at += 16;
		symbols_user_state(s, &few);
		left = 0;
		for (unsigned i = 1; i <= PLACES; i++) {
			struct stack_frame place = { many.file, many.at - 4 * i };

			left += symbols_user_state(s, &place) == SYMBOLS_ASKED;
		}
		turn(s, 20);
	} while (left && now_boottime_ns() < until);
	assert_int_equal(left, 0);
	symbols_close(s);
}

static void count_stack(void *context, const struct stack_frames *frames)
{
	++*(unsigned *)context;
}

/* More samples than can be kept, of processes that there are not: each comes home, once. */
static void test_every_sample_comes_home(void **state)
{
	struct symbols *s = open_symbols(4u << 20);
	struct {
		struct sonde_stack stack;
		uint8_t slice[32768];
	} *sample = calloc(1, sizeof *sample);
	unsigned home = 0;
	uint64_t until = now_boottime_ns() + 2 * WAIT_NS;

	sample->stack.flags = SONDE_STACK_USER;
	sample->stack.n_slice = sizeof sample->slice;
	sample->stack.registers[SONDE_REGISTER_PC] = 0x1000;
	sample->stack.registers[SONDE_REGISTER_SP] = 0x7fff0000;
	for (int i = 0; i < 6000; i++) {
		assert_int_equal(symbols_unwind(s, 0x7ff00000 + i % 600, now_boottime_ns(), &sample->stack,
						sizeof *sample, count_stack, &home),
				 0);
		if (i % 512 == 0)
			turn(s, 10);
	}
	while (home < 6000 && now_boottime_ns() < until)
		turn(s, 50);
	assert_int_equal(home, 6000);
	assert_true(health_of(s).lost > 0);
	assert_true(health_of(s).bytes <= 5u << 20);
	symbols_close(s);
	free(sample);
}

static void test_samples_that_lie_are_refused(void **state)
{
	struct symbols *s = open_symbols(4u << 20);
	struct sonde_stack stack = { .flags = SONDE_STACK_USER, .n_slice = 1 };
	unsigned home = 0;

	assert_int_equal(symbols_unwind(s, 1, 1, &stack, sizeof stack, count_stack, &home), -EBADMSG);
	assert_int_equal(symbols_unwind(s, 1, 1, &stack, sizeof stack - 1, count_stack, &home), -EBADMSG);
	stack.n_slice = SONDE_STACK_SLICE_MAX + SONDE_STACK_RED_ZONE + 1;
	assert_int_equal(symbols_unwind(s, 1, 1, &stack, SIZE_MAX, count_stack, &home), -EBADMSG);
	stack.n_slice = 0;
	stack.n_kernel = SONDE_STACK_KERNEL_MAX + 1;
	assert_int_equal(symbols_unwind(s, 1, 1, &stack, SIZE_MAX, count_stack, &home), -EBADMSG);
	assert_int_equal(home, 0);
	symbols_close(s);
}

/* What waits when all ends comes home all the same. */
static void test_closing_brings_samples_home(void **state)
{
	struct symbols *s = open_symbols(4u << 20);
	struct sonde_stack stack = { .flags = SONDE_STACK_USER };
	unsigned home = 0;

	for (int i = 0; i < 100; i++)
		assert_int_equal(
			symbols_unwind(s, getpid(), now_boottime_ns(), &stack, sizeof stack, count_stack, &home), 0);
	symbols_close(s);
	assert_int_equal(home, 100);
}

/* A program that a child of ours became: its mappings come from the kernel's events, and are those of its own time. */
static void test_exec_gives_new_mappings(void **state)
{
	char path[] = "/tmp/sonde-test-XXXXXX", expected[64];

	if (geteuid() != 0)
		skip();
	build_program("-O1 -no-pie", path);

	struct symbols *s = open_symbols(8u << 20);

	struct program p = start_program(path);

	snprintf(expected, sizeof expected, "known_place+0x1 (%s)", path + 5);
	end_program(&p);
	/* It has ended, and its file is still where it was. */
	assert_string_equal(user_text(s, p.pid, p.address + 1, false), expected);
	unlink(path);
	symbols_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_agree_with_libelf),
		cmocka_unit_test(test_hostile_files_do_no_harm),
		cmocka_unit_test(test_lines_of_maps),
		cmocka_unit_test(test_own_functions),
		cmocka_unit_test(test_library_without_symtab),
		cmocka_unit_test(test_return_address_at_the_end),
		cmocka_unit_test(test_vdso),
		cmocka_unit_test(test_kinds_of_programs),
		cmocka_unit_test(test_deleted_program),
		cmocka_unit_test(test_stripped_shows_build_id),
		cmocka_unit_test(test_kernel_against_kallsyms),
		cmocka_unit_test(test_modules_and_bpf_programs),
		cmocka_unit_test(test_kernel_frames),
		cmocka_unit_test(test_hidden_kernel_addresses),
		cmocka_unit_test(test_worker_has_no_rights),
		cmocka_unit_test(test_killed_worker_is_replaced),
		cmocka_unit_test(test_hanging_worker_is_replaced),
		cmocka_unit_test(test_lost_keeper_leaves_offsets),
		cmocka_unit_test(test_memory_stays_bounded),
		cmocka_unit_test(test_gathered_names_hold_up_nobody),
		cmocka_unit_test(test_every_sample_comes_home),
		cmocka_unit_test(test_samples_that_lie_are_refused),
		cmocka_unit_test(test_closing_brings_samples_home),
		cmocka_unit_test(test_exec_gives_new_mappings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
