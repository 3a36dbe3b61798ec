/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls of known number and end. compat: by int 0x80, the table of 32-bit programs; each line that is printed, NR RESULT ARGUMENTS, is what
 * it returned. counted N: by this machine's table, N of each kind, in two threads. sleeps N NS. crowd N: N processes. errors: of many kinds.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long times;

#if defined(__x86_64__)
/* Numbers of 32-bit programs. Source: arch/x86/entry/syscalls/syscall_32.tbl. */
enum { COMPAT_OPEN = 5, COMPAT_GETPID = 20, COMPAT_MKDIR = 39, COMPAT_OPENAT = 295 };

static long compat(long nr, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	int r;

	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(0x77u)
			 : "r8", "r9", "r10", "r11", "memory");
	printf("%ld %s %u %u %u %u\n", nr, r < 0 ? strerrorname_np(-r) : "-", a, b, c, d);
	return r;
}

/* Addresses of 32 bits, where such calls find them. */
static void run_compat(void)
{
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	uint32_t file = (uint32_t)(uintptr_t)low, none = file + 1024;
	struct stat st;
	long fd;

	if (low == MAP_FAILED)
		exit(99);
	strcpy(low, "link/file");
	strcpy(low + 1024, "/no/such/file");
	compat(COMPAT_GETPID, 11, 22, 33, 44);
	fd = compat(COMPAT_OPEN, file, O_CREAT | O_RDWR, 0600, 0);
	fstat((int)fd, &st);
	printf("file %ju %ju\n", (uintmax_t)st.st_ino, (uintmax_t)st.st_dev);
	compat(COMPAT_OPENAT, (uint32_t)AT_FDCWD, file, O_RDONLY, 0);
	compat(COMPAT_OPEN, none, O_RDONLY, 0, 0);
	compat(COMPAT_MKDIR, none, 0700, 0, 0);
	/* Those of 64 bits are none of these. */
	syscall(SYS_getppid);
	close(open("/dev/null", O_RDONLY));
}
#else
static void run_compat(void)
{
	exit(98);
}
#endif

static void *count(void *unused)
{
	char text[16];

	for (long i = 0; i < times; i++) {
		syscall(SYS_getppid);
		syscall(SYS_close, -1);
		if (syscall(SYS_readlinkat, AT_FDCWD, i & 1 ? "/no/such" : "/etc/passwd/none", text, sizeof text) >= 0)
			exit(99);
	}
	return NULL;
}

static void run_counted(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, count, NULL))
		exit(99);
	count(NULL);
	pthread_join(thread, NULL);
}

static void run_sleeps(long ns)
{
	struct timespec t = { ns / 1000000000, ns % 1000000000 };

	for (long i = 0; i < times; i++)
		syscall(SYS_nanosleep, &t, NULL);
}

static void run_crowd(void)
{
	for (long i = 0; i < times; i++) {
		pid_t child = fork();

		if (child == 0) {
			syscall(SYS_getppid);
			syscall(SYS_getuid);
			syscall(SYS_getgid);
			syscall(SYS_getpid);
			syscall(SYS_geteuid);
			syscall(SYS_getegid);
			syscall(SYS_gettid);
			syscall(SYS_sched_yield);
			_exit(0);
		}
		if (child < 0 || waitpid(child, NULL, 0) < 0)
			exit(99);
	}
}

/* Six ends of one call that programs do not make as they are loaded: the n-th kind n times. */
static void run_errors(void)
{
	char text[16], lengthy[300];
	const struct {
		int folder;
		const char *path;
	} kinds[] = { { AT_FDCWD, "/no/such" },      { AT_FDCWD, "/etc/passwd/none" },
		      { AT_FDCWD, (const char *)8 }, { AT_FDCWD, "/proc" },
		      { AT_FDCWD, lengthy },         { -1, "relative" } };

	memset(lengthy, 'a', sizeof lengthy - 1);
	lengthy[sizeof lengthy - 1] = 0;
	for (int kind = 0; kind < 6; kind++) {
		for (int i = 0; i <= kind; i++) {
			if (syscall(SYS_readlinkat, kinds[kind].folder, kinds[kind].path, text, sizeof text) >= 0)
				exit(99);
			printf("readlinkat %s\n", strerrorname_np(errno));
		}
	}
}

int main(int n, char **words)
{
	const char *command = n > 1 ? words[1] : "";

	times = n > 2 ? atol(words[2]) : 0;
	if (!strcmp(command, "compat"))
		run_compat();
	else if (!strcmp(command, "counted"))
		run_counted();
	else if (!strcmp(command, "sleeps") && n == 4)
		run_sleeps(atol(words[3]));
	else if (!strcmp(command, "crowd"))
		run_crowd();
	else if (!strcmp(command, "errors"))
		run_errors();
	else
		return 2;
	return 0;
}
