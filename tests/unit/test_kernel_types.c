/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's types as far as modules name them: of made types, what is taken and how; and of this kernel's, that every program of every module is
 * relocated to the same instructions as with all types. The second also runs in guests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "kernel_types.h"
#include "modules.h"

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	return 0;
}

/* ---- every module on this kernel ---- */

/* Called with the first program of an object, when all of them are relocated: the kernel need not look at any. */
static int stop(struct bpf_program *program, struct bpf_prog_load_opts *options, long cookie)
{
	return -ECANCELED;
}

static void catch_programs(void)
{
	static const char *const sections[] = { "tp_btf+",     "raw_tp+",    "raw_tracepoint+", "tracepoint+", "tp+",
						"perf_event+", "iter+",      "iter.s+",         "fentry+",     "fexit+",
						"kprobe+",     "kretprobe+", "cgroup_skb+",     "cgroup+",     "lsm+" };

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		LIBBPF_OPTS(libbpf_prog_handler_opts, options, .prog_prepare_load_fn = stop);

		assert_true(libbpf_register_prog_handler(sections[i], BPF_PROG_TYPE_RAW_TRACEPOINT, 0, &options) >= 0);
	}
}

static struct bpf_object *relocated(const struct builtin_object *b, const char *types)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = b->name, .btf_custom_path = types);
	struct bpf_object *object = bpf_object__open_mem(b->begin, (size_t)(b->end - b->begin), &options);

	assert_non_null(object);
	assert_int_equal(bpf_object__load(object), -ECANCELED);
	return object;
}

static bool names_a_map(const struct bpf_insn *insn)
{
	return insn->code == (BPF_LD | BPF_DW | BPF_IMM) && insn->src_reg;
}

#define POISONED 195896080 /* what libbpf's failed relocation calls */

/* What is there only with the types that the agent adds: whether the number of a record is known, and the number. */
static bool is_number(const struct bpf_insn *whole, const struct bpf_insn *narrow)
{
	if (whole->code == (BPF_JMP | BPF_CALL) && whole->imm == POISONED)
		return narrow->code == (BPF_LD | BPF_DW | BPF_IMM) || narrow->code == 0;
	return whole->code == narrow->code && whole->imm == 0 && narrow->imm == 1;
}

static size_t compare_programs(struct bpf_object *whole, struct bpf_object *narrow, size_t *numbers)
{
	struct bpf_program *program, *other;
	size_t n = 0;

	bpf_object__for_each_program (program, whole) {
		const struct bpf_insn *a = bpf_program__insns(program), *b;

		other = bpf_object__find_program_by_name(narrow, bpf_program__name(program));
		assert_non_null(other);
		assert_int_equal(bpf_program__insn_cnt(program), bpf_program__insn_cnt(other));
		b = bpf_program__insns(other);
		for (size_t i = 0; i < bpf_program__insn_cnt(program); i++, n++) {
			if (!memcmp(&a[i], &b[i], sizeof a[i]) || (names_a_map(&a[i]) && names_a_map(&b[i])))
				continue;
			if (!is_number(&a[i], &b[i]))
				fail_msg("%s: instruction %zu is %02x %d %d, with all types %02x %d %d",
					 bpf_program__name(program), i, b[i].code, b[i].off, b[i].imm, a[i].code,
					 a[i].off, a[i].imm);
			++*numbers;
		}
	}
	return n;
}

static void every_module_is_relocated_as_with_all_types(void **state)
{
	struct kernel_types *types;
	size_t instructions = 0, numbers = 0, narrow = 0, n = 0;

	libbpf_set_print(silent);
	catch_programs();
	assert_int_equal(kernel_types_open(&types), 0);
	for (const struct builtin_object *b = builtin_objects; b->name; b++, n++) {
		size_t size = (size_t)(b->end - b->begin);
		struct bpf_object *object = bpf_object__open_mem(b->begin, size, NULL);

		assert_non_null(object);
		assert_int_equal(kernel_types_want(types, b->begin, size, bpf_object__btf(object)), 1);
		bpf_object__close(object);
	}
	assert_int_equal(kernel_types_make(types, kernel_types_all()), 0);
	kernel_types_forget();
	for (const struct builtin_object *b = builtin_objects; b->name; b++) {
		struct bpf_object *all = relocated(b, NULL), *few = relocated(b, kernel_types_path(types));

		instructions += compare_programs(all, few, &numbers);
		bpf_object__close(all);
		bpf_object__close(few);
		narrow++;
	}
	printf("%zu modules, %zu instructions, %zu of them with numbers of records\n", narrow, instructions, numbers);
	assert_true(narrow == n && narrow > 10 && instructions > 10000);
	kernel_types_close(types);
}

/* ---- names and objects ---- */

__asm__(".section .rodata\n.balign 16\ntypes_object: .incbin \"" TYPES_OBJECT
	"\"\ntypes_object_end: .byte 0\n.previous\n");
extern const uint8_t types_object[], types_object_end[];

static void numbers_are_those_of_the_kernel(void **state)
{
	static const struct {
		const char *name;
		unsigned kind;
	} names[] = { { "btf_trace_sched_switch", BTF_KIND_TYPEDEF },
		      { "btf_trace_sys_exit", BTF_KIND_TYPEDEF },
		      { "vfs_read", BTF_KIND_FUNC },
		      { "bpf_iter_task", BTF_KIND_FUNC },
		      { "no_such_function", BTF_KIND_FUNC },
		      { "sched_switch", BTF_KIND_TYPEDEF } };
	struct kernel_types *types;

	assert_int_equal(kernel_types_open(&types), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(kernel_types_want_name(types, names[i].name), 0);
	assert_int_equal(kernel_types_number(types, names[0].name, names[0].kind), 0);
	assert_int_equal(kernel_types_make(types, kernel_types_all()), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int wanted = btf__find_by_name_kind(kernel_types_all(), names[i].name, names[i].kind);

		assert_int_equal(kernel_types_number(types, names[i].name, names[i].kind), wanted > 0 ? wanted : 0);
	}
	assert_int_equal(kernel_types_number(types, "btf_trace_sched_switch", BTF_KIND_FUNC), 0);
	assert_int_equal(kernel_types_number(types, "never asked for", BTF_KIND_FUNC), 0);
	kernel_types_forget();
	kernel_types_close(types);
}

/* What only the whole of the types answers is not asked of these. */
static void who_asks_for_numbers_gets_all_types(void **state)
{
	size_t size = (size_t)(types_object_end - types_object);
	struct bpf_object *object = bpf_object__open_mem(types_object, size, NULL);
	struct kernel_types *types;

	assert_non_null(object);
	assert_int_equal(kernel_types_open(&types), 0);
	assert_int_equal(kernel_types_want(types, types_object, size, bpf_object__btf(object)), 0);
	kernel_types_close(types);
	bpf_object__close(object);
}

static void a_damaged_object_is_refused(void **state)
{
	const struct builtin_object *b = builtin_objects;
	size_t size = (size_t)(b->end - b->begin);
	struct bpf_object *object = bpf_object__open_mem(b->begin, size, NULL);
	uint8_t *image = malloc(size);
	struct kernel_types *types;

	assert_non_null(object);
	assert_non_null(image);
	assert_int_equal(kernel_types_open(&types), 0);
	assert_true(kernel_types_want(types, "no ELF file", 11, bpf_object__btf(object)) < 0);
	/* Wherever it is damaged: an answer, and nothing read outside of it. */
	srand(1);
	for (int i = 0; i < 300; i++) {
		size_t kept = i % 2 ? size : (size_t)rand() % size;
		uint8_t *cut;

		memcpy(image, b->begin, size);
		for (int k = 0; k < 20; k++)
			image[(size_t)rand() % size] = (uint8_t)rand();
		cut = malloc(kept);
		assert_non_null(cut);
		memcpy(cut, image, kept);
		assert_true(kernel_types_want(types, cut, kept, bpf_object__btf(object)) <= 1);
		free(cut);
	}
	kernel_types_close(types);
	bpf_object__close(object);
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_those_of_the_kernel),
		cmocka_unit_test(who_asks_for_numbers_gets_all_types),
		cmocka_unit_test(a_damaged_object_is_refused),
		cmocka_unit_test(every_module_is_relocated_as_with_all_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
