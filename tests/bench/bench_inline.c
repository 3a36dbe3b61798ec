/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the table of inlined functions is made and how large it is, for this program or the files named: MB of .debug_info a second,
 * the longest wait when it is built in parts, ns a look-up. With -n the names at addresses from standard input are written instead.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/base.h"
#include "stacks/dwarf_section.h"
#include "stacks/inline_table.h"

/* Time of this program alone, whatever else the machine does. */
static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void look_up(const struct inline_table *table)
{
	const char *names[128];
	char line[64];

	while (fgets(line, sizeof line, stdin)) {
		unsigned n = inline_table_find(table, strtoull(line, NULL, 16), names, ARRAY_SIZE(names));

		for (unsigned i = 0; i < n; i++)
			printf("%s%s", i ? "\t" : "", names[i]);
		putchar('\n');
	}
}

static void time_lookups(const struct inline_table *table, const struct dwarf_file *dwarf)
{
	const unsigned rounds = 1000000;
	const char *names[INLINE_DEPTH_MAX];
	uint64_t begin = cpu_ns(), found = 0, state = 1;

	for (unsigned i = 0; i < rounds; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		found += inline_table_find(table, dwarf->loads[0].address + (state >> 33) % dwarf->loads[0].size, names,
					   INLINE_DEPTH_MAX);
	}
	printf("  look-up: %.0f ns, %.2f names on average\n", (double)(cpu_ns() - begin) / rounds,
	       (double)found / rounds);
}

static int measure(const char *path, bool names)
{
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	struct dwarf_file dwarf;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 1;

	struct elf_file file = { .fd = fd, .size = (uint64_t)st.st_size };
	int64_t room = inline_table_room(&file);

	if (room <= 0 || dwarf_find(&file, &dwarf) < 0) {
		fprintf(stderr, "%s: no DWARF\n", path);
		return 1;
	}

	_cleanup_(free_pointer) uint8_t *memory = malloc((size_t)room);
	struct inline_table *table = (void *)memory;
	uint64_t begin = cpu_ns(), whole, longest = 0;
	unsigned parts = 0;
	int r = inline_table_build(&file, memory, (size_t)room);

	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
		return 1;
	}
	whole = cpu_ns() - begin;
	if (names) {
		look_up(table);
		return 0;
	}
	r = inline_table_build_begin(&file, memory, (size_t)room);
	for (bool more = r == 0; more; parts++) {
		begin = cpu_ns();
		r = inline_table_build_some(&file, memory, (size_t)room, INLINE_STEPS);
		longest = MAX_OF(longest, cpu_ns() - begin);
		more = r > 0;
	}
	struct inline_health health = inline_table_health(table);
	double info = (double)dwarf.sections[DWARF_INFO].size;

	printf("%s: .debug_info %.1f MB%s, %u units, %u and %u names left out\n", path, info / 1e6,
	       dwarf.sections[DWARF_INFO].packed ? " (compressed)" : "", health.units_read, health.units_left_out,
	       health.names_left_out);
	printf("  built in %.1f ms, %.0f MB/s; in %u parts, the longest %.1f ms; table %.2f MB of %.2f MB room\n",
	       ms(whole), info / 1e3 / ms(whole), parts, ms(longest), (double)inline_table_bytes(table) / 1e6,
	       (double)room / 1e6);
	time_lookups(table, &dwarf);
	return 0;
}

int main(int argc, char **argv)
{
	bool names = argc > 1 && !strcmp(argv[1], "-n");
	int failed = 0;

	for (int i = names ? 2 : 1; i < argc; i++)
		failed |= measure(argv[i], names);
	return argc > 1 ? failed : measure("/proc/self/exe", false);
}
