/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records a case for tests/data/stacks: runs a program until it traps itself (int3 on x86-64), goes on for STEPS instructions, takes the
 * stack of the thread that trapped, and keeps of each file only what its unwinding needs, found by leaving out more and more.
 *
 *	record_stack OUT.stack STEPS PROGRAM [ARGUMENT]...
 *
 * The chain is printed: look at it before the file is added.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "stacks/elf_table.h"
#include "tools/stack_case.h"

#define SLICE_MAX (1u << 20)
/* What a function may use below its stack pointer. */
#define BELOW 128u

static char paths[CASE_FILES_MAX][512];

static int fail(const char *what)
{
	fprintf(stderr, "record_stack: %s\n", what);
	return 1;
}

/* Until a thread of it stops on its own breakpoint. Returns the thread. */
static int run_to_trap(char **command)
{
	int pid = fork(), status, thread;
	bool began = false;

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execvp(command[0], command);
		_exit(127);
	}
	while ((thread = waitpid(-1, &status, __WALL)) > 0) {
		int signal = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
		bool event = status >> 16;

		if (!WIFSTOPPED(status)) {
			if (thread == pid)
				return -1;
			continue;
		}
		if (!began) {
			ptrace(PTRACE_SETOPTIONS, thread, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
			began = true;
			signal = 0;
		} else if (signal == SIGTRAP && !event) {
			return thread;
		}
		ptrace(PTRACE_CONT, thread, 0, event || signal == SIGSTOP ? 0 : signal);
	}
	return -1;
}

static bool step(int thread, unsigned long steps)
{
	for (int status; steps--;)
		if (ptrace(PTRACE_SINGLESTEP, thread, 0, 0) < 0 || waitpid(thread, &status, __WALL) != thread ||
		    !WIFSTOPPED(status))
			return false;
	return true;
}

static void take_registers(int thread, uint64_t *r)
{
	struct user_regs_struct u;
	ptrace(PTRACE_GETREGS, thread, 0, &u);

	uint64_t in_order[] = { u.rax, u.rdx, u.rcx, u.rbx, u.rsi, u.rdi, u.rbp, u.rsp, u.r8,
				u.r9,  u.r10, u.r11, u.r12, u.r13, u.r14, u.r15, u.rip };

	memcpy(r, in_order, sizeof in_order);
}

static uint8_t *read_memory(int thread, uint64_t at, size_t size)
{
	_cleanup_(close_fd) int fd = -1;
	uint8_t *bytes = calloc(1, size + 8);
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/mem", thread);
	fd = open(path, O_RDONLY);
	if (fd < 0 || pread(fd, bytes, size, (off_t)at) != (ssize_t)size)
		memset(bytes, 0, size);
	return bytes;
}

static uint64_t add_file(struct stack_case *c, int thread, const char *path, uint64_t start, uint64_t end)
{
	struct elf_file *file = &c->files[c->head.n_files];

	for (uint32_t i = 0; i < c->head.n_files; i++)
		if (!strcmp(paths[i], path))
			return i + 1;
	if (c->head.n_files == CASE_FILES_MAX)
		return 0;
	*file = (struct elf_file){ .fd = -1 };
	if (path[0] == '/') {
		char *text;
		size_t size;

		if (read_small_file(path, 256u << 20, &text, &size) < 0)
			return 0;
		file->bytes = (uint8_t *)text;
		file->size = size;
	} else {
		file->size = end - start;
		file->bytes = read_memory(thread, start, end - start);
	}
	snprintf(paths[c->head.n_files], sizeof paths[0], "%s", path);
	if (case_build(c, c->head.n_files) < 0)
		return 0;
	return ++c->head.n_files;
}

/* Executable mappings and the stack. */
static bool take_memory(struct stack_case *c, int thread)
{
	char path[64], line[1024];
	_cleanup_(close_file) FILE *maps = NULL;
	uint64_t sp = c->head.registers[SONDE_REGISTER_SP];

	snprintf(path, sizeof path, "/proc/%d/maps", thread);
	maps = fopen(path, "r");
	c->mappings = calloc(512, sizeof *c->mappings);
	while (maps && fgets(line, sizeof line, maps) && c->head.n_mappings < 512) {
		unsigned long start, end, offset;
		char flags[8], name[512] = "";

		if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %511s", &start, &end, flags, &offset, name) < 4)
			continue;
		if (sp >= start && sp < end) {
			c->head.n_below = BELOW;
			c->head.n_slice = (uint32_t)MIN_OF(end - sp, SLICE_MAX) + BELOW;
			c->head.cut = end - sp > SLICE_MAX;
			c->slice = read_memory(thread, sp - BELOW, c->head.n_slice);
		}
		if (flags[2] != 'x' || start >> 63)
			continue;
		c->mappings[c->head.n_mappings++] = (struct unwind_mapping){
			start, end, offset,
			name[0] == '/' || !strcmp(name, "[vdso]") ? add_file(c, thread, name, start, end) : 0
		};
	}
	return c->slice;
}

static bool same(struct stack_case *c)
{
	static struct unwind_result result;

	case_unwind(c, &result);
	return result.end == c->head.end && result.n_frames == c->head.n_frames &&
	       !memcmp(result.frames, c->frames, result.n_frames * sizeof result.frames[0]);
}

/* Zeroes what it can of [from, to), by halves. */
static void leave_out(struct stack_case *c, uint32_t file, uint64_t from, uint64_t to)
{
	uint8_t *bytes = (uint8_t *)c->files[file].bytes;
	_cleanup_(free_pointer) uint8_t *held = malloc(to - from);
	uint64_t middle = from + ALIGN_UP((to - from) / 2, (uint64_t)8);
	bool is_zero = true;

	memcpy(held, bytes + from, to - from);
	for (uint64_t i = from; i < to && is_zero; i++)
		is_zero = !bytes[i];
	if (is_zero)
		return;
	memset(bytes + from, 0, to - from);
	if (case_build(c, file) == 0 && same(c))
		return;
	memcpy(bytes + from, held, to - from);
	if (middle >= to)
		return;
	leave_out(c, file, from, middle);
	leave_out(c, file, middle, to);
}

/* The same for whole records of .eh_frame, as half a record would break the walk over those behind it. */
static void leave_out_between(struct stack_case *c, uint32_t file, const uint64_t *at, size_t from, size_t to)
{
	uint8_t *bytes = (uint8_t *)c->files[file].bytes;
	uint64_t size = at[to] - at[from];
	_cleanup_(free_pointer) uint8_t *held = malloc(size + 1);

	memcpy(held, bytes + at[from], size);
	memset(bytes + at[from], 0, size);
	if (case_build(c, file) == 0 && same(c))
		return;
	memcpy(bytes + at[from], held, size);
	if (to - from < 2)
		return;
	leave_out_between(c, file, at, from, from + (to - from) / 2);
	leave_out_between(c, file, at, from + (to - from) / 2, to);
}

static void leave_out_records(struct stack_case *c, uint32_t file)
{
	const struct elf_file *f = &c->files[file];
	struct elf_header header;
	Elf64_Shdr s;
	_cleanup_(free_pointer) uint64_t *at = NULL;
	size_t n = 0;

	if (elf_read_header(f, &header) < 0 || elf_find_section(f, &header, ".eh_frame", &s) < 0)
		return;
	at = calloc(s.sh_size / 4 + 2, sizeof *at);
	for (uint64_t next = s.sh_offset; next + 4 <= s.sh_offset + s.sh_size; n++) {
		uint32_t length;

		at[n] = next;
		memcpy(&length, f->bytes + next, 4);
		next = MIN_OF(next + 4 + length, s.sh_offset + s.sh_size);
		at[n + 1] = next;
	}
	if (n)
		leave_out_between(c, file, at, 0, n);
}

static void shrink(struct stack_case *c)
{
	uint32_t whole = c->head.n_slice, low = 0, high = whole;

	while (low < high) {
		c->head.n_slice = low + (high - low) / 2;
		if (same(c))
			high = c->head.n_slice;
		else
			low = c->head.n_slice + 1;
	}
	c->head.n_slice = MIN_OF(ALIGN_UP(low, 8u), whole);
	for (uint32_t i = 0; i < c->head.n_files; i++) {
		leave_out_records(c, i);
		leave_out(c, i, 0, c->files[i].size);
		case_build(c, i);
	}
}

static void name_frame(struct stack_case *c, uint64_t frame, char *text, size_t size)
{
	uint64_t pc = (frame & ~UNWIND_EXACT) - !(frame & UNWIND_EXACT);

	snprintf(text, size, "%llx\n", (unsigned long long)pc);
	for (uint32_t i = 0; i < c->head.n_mappings; i++) {
		const struct unwind_mapping *m = &c->mappings[i];
		struct elf_table *table;
		char name[ELF_NAME_MAX] = "?";
		uint32_t delta = 0;
		int64_t room;

		if (pc - m->start >= m->end - m->start || !m->file)
			continue;
		room = elf_table_room(&c->files[m->file - 1]);
		table = malloc(room > 0 ? (size_t)room : 8);
		if (room > 0 && elf_table_build(&c->files[m->file - 1], table, (size_t)room) == 0)
			elf_table_find(table, &c->files[m->file - 1], pc - m->start + m->offset, name, &delta);
		free(table);
		snprintf(text, size, "%s+0x%x%s (%s)\n", name, delta + !(frame & UNWIND_EXACT),
			 frame & UNWIND_EXACT ? " exact" : "",
			 strrchr(paths[m->file - 1], '/') ? strrchr(paths[m->file - 1], '/') + 1 : paths[m->file - 1]);
	}
}

static void keep_result(struct stack_case *c)
{
	static const char *const ends[] = { "whole", "cut", "broken", "missing" };
	static struct unwind_result result;
	char line[512];

	case_unwind(c, &result);
	c->head.end = result.end;
	c->head.n_frames = result.n_frames;
	c->frames = calloc(result.n_frames, sizeof *c->frames);
	c->text = calloc(result.n_frames + 1, sizeof line);
	memcpy(c->frames, result.frames, result.n_frames * sizeof result.frames[0]);
	for (uint32_t i = 0; i < result.n_frames; i++) {
		name_frame(c, result.frames[i], line, sizeof line);
		strcat(c->text, line);
	}
	strcat(strcat(c->text, ends[result.end]), "\n");
	c->head.n_text = (uint32_t)strlen(c->text);
	fputs(c->text, stdout);
}

int main(int argc, char **argv)
{
	static struct stack_case c = { .head.magic = CASE_MAGIC };
	int thread;

	if (argc < 4)
		return fail("usage: record_stack OUT.stack STEPS PROGRAM [ARGUMENT]...");
	thread = run_to_trap(argv + 3);
	if (thread < 0 || !step(thread, strtoul(argv[2], NULL, 0)))
		return fail("the program ended without a trap");
	take_registers(thread, c.head.registers);
	if (!take_memory(&c, thread))
		return fail("its memory cannot be read");
	kill(thread, SIGKILL);
	keep_result(&c);
	shrink(&c);
	if (!same(&c) || !case_write(&c, argv[1]))
		return fail("the case cannot be written");
	case_free(&c);
	return 0;
}
