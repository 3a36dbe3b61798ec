/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ns per frame of unwinding recorded stacks with warm tables, and time and size of the tables of large files: those named as arguments,
 * or this system's own.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "tools/stack_case.h"

/* The machine may have other things to do. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static void bench_case(const char *name)
{
	static struct unwind_result result;
	static struct stack_case c;
	uint64_t begin, frames = 0, best = UINT64_MAX;
	char path[1024];
	unsigned rounds;

	snprintf(path, sizeof path, "%s/%s.stack", STACKS, name);
	if (!case_read(&c, path)) {
		fprintf(stderr, "%s cannot be read\n", path);
		return;
	}
	rounds = 200000 / (c.head.n_frames + 1);
	for (unsigned n = 0; n < 5; n++) {
		frames = 0;
		begin = cpu_ns();
		for (unsigned i = 0; i < rounds; i++) {
			case_unwind(&c, &result);
			frames += result.n_frames;
		}
		best = MIN_OF(best, cpu_ns() - begin);
	}
	printf("%6.1f ns a frame, %4u frames  %s\n", (double)best / (double)frames, result.n_frames, name);
	case_free(&c);
}

static void bench_file(const char *path)
{
	struct elf_file file = { .fd = open(path, O_RDONLY | O_CLOEXEC) };
	uint64_t begin, best = UINT64_MAX;
	struct unwind_table *table;
	struct stat st;
	int64_t room;

	if (file.fd < 0 || fstat(file.fd, &st) < 0)
		return;
	file.size = (uint64_t)st.st_size;
	room = unwind_table_room(&file);
	table = room > 0 ? malloc((size_t)room) : NULL;
	for (unsigned i = 0; table && i < 5; i++) {
		begin = cpu_ns();
		unwind_table_build(&file, table, (size_t)room);
		best = MIN_OF(best, cpu_ns() - begin);
	}
	if (table)
		printf("%7.2f ms, %7zu KB of %6lld MB file, room %lld KB  %s\n", (double)best / 1e6,
		       unwind_table_bytes(table) >> 10, (long long)file.size >> 20, (long long)room >> 10, path);
	free(table);
	close(file.fd);
}

int main(int argc, char **argv)
{
	static const char *const cases[] = { "glibc-deep",     "glibc-thread", "glibc-signal", "glibc-expression",
					     "glibc-resolver", "musl-deep",    "go-main",      "rust-thread" };
	static const char *const files[] = { "/lib/x86_64-linux-gnu/libc.so.6",
					     "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "/usr/bin/python3" };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		bench_case(cases[i]);
	for (int i = 1; i < argc; i++)
		bench_file(argv[i]);
	for (size_t i = 0; argc < 2 && i < ARRAY_SIZE(files); i++)
		bench_file(files[i]);
	return 0;
}
