/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_code FROM run|wait SECONDS: code that runs, or waits, for so long. FROM: "file", this program's own; "anonymous", memory without a file; "named",
 * that and a map of it as JITs leave it in /tmp; "memfd", a copy of this program in a file that is in no folder. Says "ready" first.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

__attribute__((noinline)) static void count_here(long n)
{
	while (n--)
		__asm__ volatile("");
}

__attribute__((noinline)) static long wait_here(const struct timespec *ts, struct timespec *rest)
{
	return syscall(SYS_nanosleep, ts, rest);
}

/* Counts its first argument down; nanosleep(2) of its two arguments. */
#if defined(__x86_64__)
static const uint8_t counting[] = { 0x48, 0x89, 0xf9, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0xc3 };
static const uint8_t waiting[] = { 0xb8, 0x23, 0, 0, 0, 0x0f, 0x05, 0xc3 };
#elif defined(__aarch64__)
static const uint32_t counting[] = { 0xf1000400, 0x54ffffe1, 0xd65f03c0 };
static const uint32_t waiting[] = { 0xd2800ca8, 0xd4000001, 0xd65f03c0 };
#endif
#define WAITING_AT 2048

static uint8_t *make_code(void)
{
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED)
		die("mmap");
	memcpy(code, counting, sizeof counting);
	memcpy(code + WAITING_AT, waiting, sizeof waiting);
	if (mprotect(code, 4096, PROT_READ | PROT_EXEC) < 0)
		die("mprotect");
	__builtin___clear_cache((char *)code, (char *)code + 4096);
	return code;
}

static void name_code(const uint8_t *code)
{
	char path[64];
	FILE *map;

	snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
	map = fopen(path, "w");
	if (!map)
		die(path);
	fprintf(map, "%lx %x counting\n%lx %x waiting\n", (unsigned long)code, WAITING_AT,
		(unsigned long)code + WAITING_AT, 2048);
	fclose(map);
}

static void begin_from_memory(char **words)
{
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), copy = memfd_create("code", MFD_CLOEXEC);
	static char here[] = "file";
	struct stat st;

	if (file < 0 || copy < 0 || fstat(file, &st) < 0 ||
	    sendfile(copy, file, NULL, (size_t)st.st_size) != st.st_size)
		die("memfd");
	words[1] = here;
	fexecve(copy, words, environ);
	die("fexecve");
}

int main(int n, char **words)
{
	void (*count)(long) = count_here;
	long (*wait)(const struct timespec *, struct timespec *) = wait_here;
	const struct timespec pause = { .tv_nsec = 200000000 };
	double end;

	if (n != 4)
		return 2;
	if (!strcmp(words[1], "memfd"))
		begin_from_memory(words);
	if (strcmp(words[1], "file")) {
		uint8_t *code = make_code();

		if (!strcmp(words[1], "named"))
			name_code(code);
		count = (void (*)(long))(uintptr_t)code;
		wait = (long (*)(const struct timespec *, struct timespec *))(uintptr_t)(code + WAITING_AT);
	}
	puts("ready");
	fflush(stdout);
	end = now() + atof(words[3]);
	while (now() < end)
		if (!strcmp(words[2], "run"))
			count(1000000);
		else
			wait(&pause, NULL);
	return 0;
}
