/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unwinding held against libgcc's unwinder, which knows nothing of ours: this program traps itself, before every single instruction where
 * it matters, and both unwinders must agree on the whole chain. Then made stacks, for what a healthy process never shows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <ucontext.h>

#include "base/base.h"
#include "stacks/unwind_arch.h"
#include "stacks/unwind_rows.h"

#define OMIT __attribute__((noinline, noclone, optimize("omit-frame-pointer")))

/* ---- this process as the unwinder sees it ---- */

#define FILES_MAX 64

static struct world {
	struct unwind_mapping mappings[FILES_MAX];
	char paths[FILES_MAX][256];
	struct unwind_table *tables[FILES_MAX]; /* file number - 1 */
	uint32_t n_mappings, n_files;
	uint64_t stack_end;
} world;

static const struct unwind_table *table_of(void *context, uint64_t file, bool *ret_none)
{
	struct world *w = context;

	*ret_none = false;
	return file && file <= w->n_files ? w->tables[file - 1] : NULL;
}

static struct unwind_table *build_table(const char *path, uint64_t start, uint64_t size)
{
	struct elf_file file = { .fd = open(path, O_RDONLY | O_CLOEXEC) };
	struct unwind_table *table;
	struct stat st;
	int64_t room;

	if (!strcmp(path, "[vdso]"))
		file = (struct elf_file){ .fd = -1, .bytes = (const uint8_t *)start, .size = size };
	else if (file.fd >= 0 && fstat(file.fd, &st) == 0)
		file.size = (uint64_t)st.st_size;
	room = unwind_table_room(&file);
	assert_true(room > 0);
	table = malloc((size_t)room);
	assert_int_equal(unwind_table_build(&file, table, (size_t)room), 0);
	close_fd(&file.fd);
	return table;
}

static void add_mapping(const char *line)
{
	struct world *w = &world;
	struct unwind_mapping *m = &w->mappings[w->n_mappings];
	unsigned long start, end, offset;
	char flags[8], path[256] = "";

	if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %255s", &start, &end, flags, &offset, path) < 4)
		return;
	if (!strcmp(path, "[stack]"))
		w->stack_end = end;
	if (flags[2] != 'x' || start >> 63)
		return;
	assert_true(w->n_mappings < FILES_MAX);
	*m = (struct unwind_mapping){ start, end, offset, 0 };
	if (path[0] == '/' || !strcmp(path, "[vdso]")) {
		for (uint32_t i = 0; i < w->n_files && !m->file; i++)
			if (!strcmp(w->paths[i], path))
				m->file = i + 1;
		if (!m->file) {
			snprintf(w->paths[w->n_files], sizeof w->paths[0], "%s", path);
			w->tables[w->n_files++] = build_table(path, start, end - start);
			m->file = w->n_files;
		}
	}
	w->n_mappings++;
}

static void see_world(void)
{
	_cleanup_(close_file) FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];

	world.n_mappings = 0;
	assert_non_null(maps);
	while (fgets(line, sizeof line, maps))
		add_mapping(line);
}

/* ---- trapping ---- */

static struct trap {
	uint64_t stack_end; /* of the thread that traps */
	bool stepping;
	unsigned long steps, same, whole, deepest, limit;
	unsigned long lost; /* where libgcc itself did not come to the end */
	void *bottom;       /* libgcc's last frame */
	uint64_t first_wrong;
	char told[2048];
	struct unwind_result result;
	void *theirs[UNWIND_FRAMES_MAX + 16];
} trap;

static void take_registers(const ucontext_t *context, uint64_t *registers)
{
	static const int order[] = { REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
				     REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP };

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		registers[i] = (uint64_t)context->uc_mcontext.gregs[order[i]];
}

static void unwind_context(const ucontext_t *context, struct unwind_result *ret)
{
	uint64_t registers[SONDE_REGISTERS];
	struct unwind_input input = { .registers = registers,
				      .mappings = world.mappings,
				      .n_mappings = world.n_mappings,
				      .table = table_of,
				      .context = &world };

	take_registers(context, registers);
	/* With and without what is below the stack pointer by turns: compilers' code needs none of it. */
	input.n_below = trap.steps % 2 ? 128 : 0;
	input.slice = (const uint8_t *)registers[SONDE_REGISTER_SP] - input.n_below;
	input.n_slice = (uint32_t)(trap.stack_end - registers[SONDE_REGISTER_SP]) + input.n_below;
	unwind(&input, ret);
}

static void tell_difference(int n_theirs, int from)
{
	struct trap *t = &trap;
	size_t used = 0;

	t->first_wrong = t->result.frames[0] & ~UNWIND_EXACT;
	for (uint32_t i = 0; i < 12; i++) {
		uint64_t ours = i < t->result.n_frames ? t->result.frames[i] & ~UNWIND_EXACT : 0;
		uint64_t theirs = from + (int)i < n_theirs ? (uint64_t)t->theirs[from + (int)i] : 0;
		Dl_info info = { 0 };

		if (!ours && !theirs)
			break;
		dladdr((void *)ours, &info);
		used += (size_t)snprintf(t->told + used, sizeof t->told - used, "  %llx %llx %s\n",
					 (unsigned long long)ours, (unsigned long long)theirs,
					 info.dli_sname ? info.dli_sname : "");
	}
}

/* Both unwinders on the same moment. libgcc begins in this handler and comes through the signal frame to what was interrupted. */
static void compare(const ucontext_t *context)
{
	struct trap *t = &trap;
	uint64_t pc = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
	int n = backtrace(t->theirs, (int)ARRAY_SIZE(t->theirs)), from = 0;
	bool same;

	if (!t->bottom)
		t->bottom = t->theirs[n - 1];
	if (t->theirs[n - 1] != t->bottom) {
		t->lost++;
		return;
	}
	unwind_context(context, &t->result);
	while (from < n && (uint64_t)t->theirs[from] != pc)
		from++;
	/* Interrupted in the very instruction to which this handler returns too. */
	if (from + 1 < n && t->theirs[from] == t->theirs[from + 1] && (uint32_t)(n - from) == t->result.n_frames + 1)
		from++;
	same = (uint32_t)(n - from) == t->result.n_frames;
	for (int i = from; same && i < n; i++)
		same = (t->result.frames[i - from] & ~UNWIND_EXACT) == (uint64_t)t->theirs[i];
	t->steps++;
	t->same += same;
	t->whole += t->result.end == UNWIND_WHOLE;
	t->deepest = MAX_OF(t->deepest, (unsigned long)t->result.n_frames);
	if (!same && !t->first_wrong)
		tell_difference(n, from);
}

#define TRAP_FLAG 0x100

static void on_trap(int signal, siginfo_t *info, void *context)
{
	ucontext_t *c = context;

	compare(c);
	if (trap.stepping && trap.steps < trap.limit)
		c->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
	else
		c->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

/* The handler has a stack of its own, so that the one it looks at stays as it was. */
static void open_trap(void)
{
	static char stack[256u << 10];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	void *warm[4];

	memset(&trap, 0, sizeof trap);
	trap.limit = ~0ul;
	backtrace(warm, 4); /* loads what it needs now */
	see_world();
	trap.stack_end = world.stack_end;
	assert_int_equal(sigaltstack(&alternate, NULL), 0);
	assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
}

static inline __attribute__((always_inline)) void breakpoint(void)
{
	__asm__ volatile("int3" ::: "memory");
}

static inline __attribute__((always_inline)) void begin_steps(void)
{
	trap.stepping = true;
	breakpoint();
}

static inline __attribute__((always_inline)) void end_steps(void)
{
	trap.stepping = false;
}

static void expect_all_same(const char *what, unsigned long at_least)
{
	print_message("%s: %lu moments, %lu the same as libgcc's, %lu whole, deepest %lu\n", what, trap.steps,
		      trap.same, trap.whole, trap.deepest);
	if (trap.same != trap.steps)
		print_message("first at %llx (ours, libgcc's):\n%s", (unsigned long long)trap.first_wrong, trap.told);
	assert_true(trap.steps >= at_least);
	assert_int_equal(trap.same, trap.steps);
	assert_int_equal(trap.whole, trap.steps);
	assert_true(trap.lost <= trap.steps / 50);
}

/* ---- against libgcc ---- */

OMIT static int descend(int depth)
{
	/* A frame of another size each time, found by a register only when alloca is called. */
	volatile char fixed[64];
	char *grown = depth % 3 ? alloca((size_t)(depth % 7) * 24 + 16) : (char *)fixed;

	memset(grown, depth, 16);
	fixed[0] = grown[3];
	if (!depth) {
		breakpoint();
		return fixed[0];
	}
	return descend(depth - 1) + fixed[0];
}

static void test_deep_recursion(void **state)
{
	open_trap();
	descend(300);
	expect_all_same("recursion of 300", 1);
	assert_true(trap.deepest > 300);
}

static int compare_numbers(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Prologues, epilogues, callbacks out of libc, the PLT. */
static void test_every_instruction_of_libc_calls(void **state)
{
	int numbers[12] = { 5, 3, 8, 1, 9, 2, 7, 4, 6, 0, 11, 10 };
	struct timespec now;
	char text[128];
	int n;

	open_trap();
	trap.limit = 40000;
	begin_steps();
	qsort(numbers, ARRAY_SIZE(numbers), sizeof numbers[0], compare_numbers);
	n = snprintf(text, sizeof text, "%d %s %.3f %llx", numbers[3], "text", 2.5, 77ull);
	clock_gettime(CLOCK_MONOTONIC, &now);
	descend(5);
	free(malloc(100000));
	end_steps();
	assert_int_equal(n, (int)strlen(text));
	expect_all_same("single steps", 3000);
}

/* The first call of a function goes through the dynamic linker's resolver, which saves everything the odd way. */
static void test_every_instruction_of_the_resolver(void **state)
{
	void *handle;
	double (*cosine)(double);

	open_trap();
	trap.limit = 100000;
	begin_steps();
	handle = dlopen("libm.so.6", RTLD_LAZY);
	cosine = handle ? (double (*)(double))dlsym(handle, "cos") : NULL;
	end_steps();
	assert_non_null(cosine);
	expect_all_same("dlopen and dlsym", 2000);
}

static void on_user(int signal)
{
	breakpoint();
}

OMIT static void interrupt_at(int depth)
{
	volatile int held = depth;

	if (depth)
		interrupt_at(depth - 1);
	else
		raise(SIGUSR1);
	held++;
}

static void test_through_a_signal_handler(void **state)
{
	struct sigaction action = { .sa_handler = on_user };
	unsigned exact = 0;

	open_trap();
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	interrupt_at(10);
	expect_all_same("through a signal handler", 1);
	for (uint32_t i = 0; i < trap.result.n_frames; i++)
		exact += trap.result.frames[i] >> 63;
	/* the leaf, and what the signal interrupted */
	assert_int_equal(exact, 2);
	begin_steps();
	interrupt_at(2);
	end_steps();
	expect_all_same("each step into, in and out of it", 50);
}

static void *in_thread(void *argument)
{
	stack_t alternate = { .ss_sp = argument, .ss_size = 256u << 10 }, before;
	pthread_attr_t attributes;
	void *base;
	size_t size;

	sigaltstack(&alternate, &before);
	pthread_getattr_np(pthread_self(), &attributes);
	pthread_attr_getstack(&attributes, &base, &size);
	pthread_attr_destroy(&attributes);
	trap.stack_end = (uint64_t)base + size;
	trap.bottom = NULL;
	descend(20);
	sigaltstack(&before, NULL);
	return NULL;
}

static void test_a_thread_ends_at_its_start(void **state)
{
	_cleanup_(free_pointer) void *stack = malloc(256u << 10);
	pthread_t thread;

	open_trap();
	assert_int_equal(pthread_create(&thread, NULL, in_thread, stack), 0);
	pthread_join(thread, NULL);
	expect_all_same("in a thread", 1);
}

/* Frames that realign the stack find their CFA by an expression. */
OMIT static int aligned(int depth)
{
	_Alignas(64) volatile char room[128];

	room[depth] = (char)depth;
	if (depth)
		return aligned(depth - 1) + room[depth];
	breakpoint();
	return room[0];
}

static void test_realigned_frames(void **state)
{
	open_trap();
	begin_steps();
	aligned(6);
	end_steps();
	expect_all_same("realigned frames", 50);
}

/* ---- made stacks ---- */

struct made {
	uint64_t registers[UNWIND_REGISTERS_MAX];
	uint64_t stack[64];
	struct unwind_mapping mappings[2];
	struct unwind_input input;
	struct unwind_table *table;
	bool none;
};

static const struct unwind_table *made_table(void *context, uint64_t file, bool *ret_none)
{
	struct made *m = context;

	*ret_none = m->none;
	return m->table;
}

#define STACK_AT 0x7000u
#define AT(i)    (STACK_AT + 8u * (i))

/* Code without a file at 0x1000, of file 1 at 0x100000. */
static void make(struct made *m)
{
	memset(m, 0, sizeof *m);
	m->mappings[0] = (struct unwind_mapping){ 0x1000, 0x2000, 0, 0 };
	m->mappings[1] = (struct unwind_mapping){ 0x100000, 0x102000, 0, 1 };
	m->registers[SONDE_REGISTER_PC] = 0x1100;
	m->registers[SONDE_REGISTER_SP] = STACK_AT;
	m->input = (struct unwind_input){ .registers = m->registers,
					  .slice = (const uint8_t *)m->stack,
					  .n_slice = sizeof m->stack,
					  .mappings = m->mappings,
					  .n_mappings = 2,
					  .table = made_table,
					  .context = m };
}

static void expect(struct made *m, enum unwind_end end, const uint64_t *frames, uint32_t count)
{
	struct unwind_result result;

	unwind(&m->input, &result);
	assert_int_equal(result.n_frames, count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(result.frames[i], frames[i] | (i ? 0 : UNWIND_EXACT));
	assert_int_equal(result.end, end);
}

#define FRAMES(...) (const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / 8

static void test_frame_pointers(void **state)
{
	struct made m;

	make(&m);
	m.registers[SONDE_REGISTER_FP] = AT(4);
	m.stack[4] = AT(10);
	m.stack[5] = 0x1200;
	m.stack[10] = 0;
	m.stack[11] = 0x1300;
	expect(&m, UNWIND_WHOLE, FRAMES(0x1100, 0x1200, 0x1300));
	m.stack[10] = AT(10); /* a circle */
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100, 0x1200));
	m.stack[10] = AT(2); /* downwards */
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100, 0x1200));
	m.stack[10] = AT(80); /* behind the slice */
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100, 0x1200, 0x1300));
	m.input.slice_cut = true;
	expect(&m, UNWIND_CUT, FRAMES(0x1100, 0x1200, 0x1300));
	m.stack[11] = 0x5000; /* no code */
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100, 0x1200));
	m.registers[SONDE_REGISTER_FP] = AT(4) + 1;
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100));
}

/* Code that uses the register for something else calls code that keeps a frame pointer, and made code that keeps none. */
static void test_frame_pointers_that_are_none(void **state)
{
	struct made m;

	make(&m);
	m.none = true;
	m.registers[SONDE_REGISTER_FP] = AT(4);
	m.stack[4] = 3;
	m.stack[5] = 0x100010;
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100, 0x100010));
	m.stack[4] = AT(10);
	m.stack[5] = 0x1200;
	m.stack[10] = 3;
	m.stack[11] = 0x100010;
	m.stack[7] = 0x100020; /* not looked at while frame pointers lead on */
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100, 0x1200, 0x100010));
	m.stack[4] = 0x123456; /* leads nowhere, behind made code with eight bytes of its own */
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100, 0x1200, 0x100020));
	m.stack[7] = 0x1300; /* no code of a file */
	expect(&m, UNWIND_BROKEN, FRAMES(0x1100, 0x1200));
}

static void test_table_is_asked_for(void **state)
{
	struct unwind_result result;
	struct made m;

	make(&m);
	m.registers[SONDE_REGISTER_PC] = 0x100010;
	unwind(&m.input, &result);
	assert_int_equal(result.end, UNWIND_MISSING);
	assert_int_equal(result.missing, 1);
	assert_int_equal(result.n_frames, 1);
	m.none = true;
	m.registers[SONDE_REGISTER_FP] = AT(0);
	m.stack[1] = 0x1200;
	expect(&m, UNWIND_WHOLE, FRAMES(0x100010, 0x1200));
}

static void test_kernel_stub_and_bad_jump(void **state)
{
	struct made m;

	make(&m);
	m.stack[0] = 0x1200;
	m.registers[SONDE_REGISTER_PC] = 0xffffffffff600009;
	m.registers[SONDE_REGISTER_FP] = AT(2);
	m.stack[3] = 0x1300;
	expect(&m, UNWIND_WHOLE, FRAMES(0xffffffffff600009, 0x1200, 0x1300));
	m.registers[SONDE_REGISTER_PC] = 0; /* a call of NULL */
	expect(&m, UNWIND_WHOLE, FRAMES(0, 0x1200, 0x1300));
	m.input.n_slice = 4;
	expect(&m, UNWIND_BROKEN, FRAMES(0));
	m.input.slice_cut = true;
	expect(&m, UNWIND_CUT, FRAMES(0));
	m.input.n_mappings = 0;
	m.input.n_slice = sizeof m.stack;
	expect(&m, UNWIND_BROKEN, FRAMES(0));
}

static void test_depth_is_bounded(void **state)
{
	static uint64_t stack[2 * UNWIND_FRAMES_MAX + 16];
	static struct unwind_result result;
	struct made m;

	make(&m);
	for (unsigned i = 0; i + 2 < ARRAY_SIZE(stack); i += 2) {
		stack[i] = AT(i + 2);
		stack[i + 1] = 0x1200;
	}
	m.input.slice = (const uint8_t *)stack;
	m.input.n_slice = sizeof stack;
	m.registers[SONDE_REGISTER_FP] = AT(0);
	unwind(&m.input, &result);
	assert_int_equal(result.n_frames, UNWIND_FRAMES_MAX);
	assert_int_equal(result.end, UNWIND_CUT);
}

/* A table of one recipe: the CFA is sp + 32, x29 and x30 lie at its bottom; and one for a function that keeps its link register. */
static struct unwind_table *make_arm64_table(void *room)
{
	struct unwind_table *t = room;
	uint32_t *data = (uint32_t *)(t + 1);
	struct unwind_recipe recipes[] = { { 32, 31, 0, 0 }, { 0, 31, 0, 3 }, { 0, 31, UNWIND_END, 3 } };
	struct unwind_rule rules[] = { { 29, UNWIND_RULE_AT, (uint16_t)-32 },
				       { 30, UNWIND_RULE_AT, (uint16_t)-24 },
				       { 0, UNWIND_RULE_LAST, 0 },
				       { 30, UNWIND_RULE_SAME, 0 },
				       { 0, UNWIND_RULE_LAST, 0 } };

	*t = (struct unwind_table){ .machine = unwind_arm64.machine,
				    .n_segments = 1,
				    .n_rows = 3,
				    .n_buckets = 1,
				    .n_recipes = ARRAY_SIZE(recipes),
				    .n_rules = ARRAY_SIZE(rules),
				    .segments = { { 0, 0, 0x2000 } } };
	*data++ = 0;
	*data++ = 3;
	*data++ = 0x100u << 16 | 0;
	*data++ = 0x200u << 16 | 1;
	*data++ = 0x300u << 16 | 2;
	memcpy(data, recipes, sizeof recipes);
	memcpy(data + sizeof recipes / 4, rules, sizeof rules);
	return t;
}

static void test_arm64(void **state)
{
	uint64_t room[128], *x;
	struct unwind_result result;
	struct made m;

	make(&m);
	m.table = make_arm64_table(room);
	x = m.registers;
	memset(x, 0, sizeof m.registers);
	/* A leaf without a frame, called from one with a frame, called from another, called from the first function. Signed addresses. */
	x[32] = 0x100210;
	x[30] = 0xab000000100110;
	x[31] = STACK_AT;
	m.stack[0] = AT(4);
	m.stack[1] = 0x5500000000100120;
	m.stack[5] = 0x100310;
	unwind_for(&unwind_arm64, &m.input, &result);
	assert_int_equal(result.end, UNWIND_WHOLE);
	assert_int_equal(result.n_frames, 4);
	assert_int_equal(result.frames[0], 0x100210 | UNWIND_EXACT);
	assert_int_equal(result.frames[1], 0x100110);
	assert_int_equal(result.frames[2], 0x100120);
	assert_int_equal(result.frames[3], 0x100310);
	/* A function that keeps its link register cannot have called: that would go round and round. */
	x[30] = 0x100210;
	unwind_for(&unwind_arm64, &m.input, &result);
	assert_int_equal(result.end, UNWIND_BROKEN);
	assert_int_equal(result.n_frames, 2);
	/* Without a row, by frame pointers. */
	x[32] = 0x1100;
	x[29] = AT(0);
	m.stack[3] = 0x100310;
	unwind_for(&unwind_arm64, &m.input, &result);
	assert_int_equal(result.n_frames, 3);
	assert_int_equal(result.frames[1], 0x100120);
	assert_int_equal(result.frames[2], 0x100310);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deep_recursion),
		cmocka_unit_test(test_every_instruction_of_libc_calls),
		cmocka_unit_test(test_every_instruction_of_the_resolver),
		cmocka_unit_test(test_through_a_signal_handler),
		cmocka_unit_test(test_a_thread_ends_at_its_start),
		cmocka_unit_test(test_realigned_frames),
		cmocka_unit_test(test_frame_pointers),
		cmocka_unit_test(test_frame_pointers_that_are_none),
		cmocka_unit_test(test_table_is_asked_for),
		cmocka_unit_test(test_kernel_stub_and_bad_jump),
		cmocka_unit_test(test_depth_is_bounded),
		cmocka_unit_test(test_arm64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
