/* SPDX-License-Identifier: Apache-2.0 */
#include "stacks/stack_text.h"

#include <string.h>

#define HOOK_FRAMES_MAX 16u

/* Frame `i` as it stands now. */
static void name_frame(struct symbols *symbols, const struct stack_view *v, unsigned i, struct symbols_frame *ret)
{
	if (i >= v->n_kernel)
		symbols_user_frame(symbols, &v->user[i - v->n_kernel], ret);
	else
		symbols_kernel_frame(symbols, v->kernel[i], i > 0, ret);
}

enum symbols_state stack_state(struct symbols *symbols, const struct stack_view *v)
{
	enum symbols_state least = v->n_kernel ? symbols_kernel_state(symbols) : SYMBOLS_KNOWN;

	for (unsigned i = 0; i < v->n_user; i++) {
		enum symbols_state state = symbols_user_state(symbols, &v->user[i]);

		least = MIN_OF(least, state);
	}
	return least;
}

/* Without symbols a frame is its address. */
static void bare_frame(const struct stack_view *v, unsigned i, char text[40], struct symbols_frame *ret)
{
	bool kernel = i < v->n_kernel;
	unsigned long long address = kernel ? v->kernel[i] : v->user[i - v->n_kernel].at & ~UNWIND_EXACT;
	int n = snprintf(text, 40, "0x%llx%s", address, kernel ? " ([k])" : "");

	*ret = (struct symbols_frame){ .text = text, .length = (size_t)n, .id = hash_bytes(text, (size_t)n) };
}

static bool begins_with(const char *text, const char *const *begins, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strncmp(text, begins[i], strlen(begins[i])))
			return true;
	return false;
}

/* How the kernel takes a stack, and what it has run for that. */
static bool is_of_program(const char *text)
{
	static const char *const begins[] = { "bpf_prog_",       "bpf_trace_run",      "bpf_get_",
					      "__bpf_get_",      "get_perf_callchain", "trace_call_bpf",
					      "___bpf_prog_run", "__bpf_prog_run" };

	return begins_with(text, begins, ARRAY_SIZE(begins));
}

/* How the kernel gets from a tracepoint or a function to a program. */
static bool is_of_hook(const char *text)
{
	static const char *const begins[] = { "__bpf_trace_", "__traceiter_",  "bpf_trampoline_",
					      "perf_trace_",  "perf_syscall_", "perf_ftrace_" };

	return begins_with(text, begins, ARRAY_SIZE(begins));
}

/* The first frame behind those of the hook, which follow each other: a trampoline further out is another hook's, on a function that the thread is in. */
static unsigned first_of(struct symbols *symbols, const struct stack_view *v)
{
	unsigned first = 0;
	bool hook = false;

	for (unsigned i = 0; v->from_hook && symbols && i < MIN_OF(v->n_kernel, HOOK_FRAMES_MAX); i++) {
		struct symbols_frame frame;

		name_frame(symbols, v, i, &frame);
		if (is_of_hook(frame.text))
			hook = true;
		else if (hook)
			break;
		else if (!is_of_program(frame.text))
			continue;
		first = i + 1;
	}
	return first;
}

void stack_write(struct symbols *symbols, const struct stack_view *v, char *room, size_t size, struct stack_text *ret)
{
	char text[40];

	*ret = (struct stack_text){ .texts = room, .id = 0xcbf29ce484222325ull };
	for (unsigned i = first_of(symbols, v); i < v->n_kernel + v->n_user; i++) {
		struct symbols_frame frame;

		if (symbols)
			name_frame(symbols, v, i, &frame);
		else
			bare_frame(v, i, text, &frame);
		ret->id = (ret->id ^ frame.id) * 0x100000001b3ull;
		ret->id ^= ret->id >> 32;
		if (ret->truncated || ret->size + frame.length + 1 > size) {
			ret->truncated = true;
			continue;
		}
		memcpy(room + ret->size, frame.text, frame.length);
		room[ret->size + frame.length] = 0;
		ret->size += frame.length + 1;
	}
}
