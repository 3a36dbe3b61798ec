/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of known fate: each command is one way to begin, to fork or to end that a shell or Python cannot bring about
 * exactly. What is printed is the truth that the test compares with.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 256

static char **words;
static int n_words;

static void die(const char *what)
{
	perror(what);
	_exit(99);
}

static long number(int index)
{
	return index < n_words ? strtol(words[index], NULL, 0) : 0;
}

/* Uses `us` of the calling thread's own CPU time. */
static void burn(long us)
{
	struct timespec t;
	volatile unsigned sink = 0;

	do {
		for (unsigned i = 0; i < 2000; i++)
			sink += i;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	} while (t.tv_sec * 1000000 + t.tv_nsec / 1000 < us);
}

static pthread_t start(void *(*run)(void *))
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	if (pthread_create(&thread, &attr, run, NULL))
		die("pthread_create");
	return thread;
}

/* hold: until standard input ends. */
static int hold(void)
{
	char c;

	if (write(1, "ready\n", 6) != 6)
		return 1;
	while (read(0, &c, 1) > 0)
		continue;
	return 0;
}

/* burn US [THREADS]: so much in each thread; they end before the process. */
static void *burn_thread(void *unused)
{
	burn(number(0));
	return unused;
}

static int burn_all(void)
{
	pthread_t threads[THREADS_MAX];
	long n = number(1);

	for (long i = 0; i < n && i < THREADS_MAX; i++)
		threads[i] = start(burn_thread);
	for (long i = 0; i < n && i < THREADS_MAX; i++)
		pthread_join(threads[i], NULL);
	if (!n)
		burn(number(0));
	return 0;
}

/* touch BYTES */
static int touch(void)
{
	size_t size = (size_t)number(0);
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	memset(p, 1, size);
	return munmap(p, size);
}

static int crash(void)
{
	volatile uintptr_t nowhere = 8;

	*(volatile int *)nowhere = 1;
	return 0;
}

/* thread-exec PROGRAM ARGUMENT...: another thread than the first runs a program. */
static void *exec_thread(void *unused)
{
	execv(words[0], words);
	die("execv");
	return unused;
}

static int thread_exec(void)
{
	start(exec_thread);
	while (pause() < 0)
		continue;
	return 1;
}

/* thread-exit CODE: another thread ends the process. leader-first US CODE: and after the first has ended. */
static void *exit_thread(void *unused)
{
	burn(n_words > 1 ? number(0) : 0);
	syscall(SYS_exit_group, number(n_words - 1));
	return unused;
}

static int thread_exit(void)
{
	start(exit_thread);
	while (pause() < 0)
		continue;
	return 1;
}

static int leader_first(void)
{
	start(exit_thread);
	syscall(SYS_exit, 0);
	return 0;
}

/* many PROCESSES THREADS: processes whose threads end at the same moment, each by itself. Prints their pids. */
static pthread_barrier_t barrier;

static void *end_together(void *unused)
{
	pthread_barrier_wait(&barrier);
	syscall(SYS_exit, 0);
	return unused;
}

static void end_process(long threads)
{
	pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
	for (long i = 0; i < threads; i++)
		start(end_together);
	end_together(NULL);
}

static int many(void)
{
	for (long i = 0; i < number(0); i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			end_process(number(1));
		if (pid < 0 || (i >= 3 && wait(&status) < 0))
			die("fork");
		printf("%d\n", pid);
		fflush(stdout);
	}
	while (wait(NULL) > 0)
		continue;
	return 0;
}

/* memfd PROGRAM ARGUMENT...: runs a copy that is in no folder. */
static int run_memfd(void)
{
	int from = open(words[0], O_RDONLY | O_CLOEXEC), to = memfd_create("carried", MFD_CLOEXEC);
	char data[65536];
	ssize_t n;

	while ((n = read(from, data, sizeof data)) > 0)
		if (write(to, data, (size_t)n) != n)
			die("write");
	fexecve(to, words, environ);
	die("fexecve");
	return 1;
}

/* at FOLDER NAME ARGUMENT...: by execveat, below a folder. */
static int run_at(void)
{
	int folder = open(words[0], O_PATH | O_DIRECTORY);

	syscall(SYS_execveat, folder, words[1], words + 1, environ, 0);
	die("execveat");
	return 1;
}

/* vfork PROGRAM ARGUMENT... */
static int run_vfork(void)
{
	int status = 0;
	pid_t pid = vfork();

	if (pid == 0) {
		execv(words[0], words);
		_exit(98);
	}
	printf("%d\n", pid);
	return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 1;
}

static pid_t clone_process(uint64_t flags, pid_t wanted)
{
	struct clone_args args = { .flags = flags, .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD };

	args.set_tid = wanted ? (uintptr_t)&wanted : 0;
	args.set_tid_size = wanted ? 1 : 0;
	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* clone FLAGS [PID] [PROGRAM ARGUMENT...]: a child by clone3, of that pid where one is named, that runs the program or ends with 7. */
static int run_clone(void)
{
	pid_t pid = clone_process((uint64_t)number(0), (pid_t)number(1));

	if (pid < 0)
		die("clone3");
	if (pid == 0) {
		if (n_words > 2)
			execv(words[2], words + 2);
		_exit(7);
	}
	printf("%d\n", pid);
	fflush(stdout);
	while (wait(NULL) > 0)
		continue;
	return 0;
}

/* orphan PROGRAM ARGUMENT...: a grandchild runs it once its parent has ended. Prints the pids of both. */
static int orphan(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pid_t middle = getpid();

		pid = fork();
		if (pid) {
			printf("%d %d\n", middle, pid);
			fflush(stdout);
			_exit(0);
		}
		while (getppid() == middle)
			usleep(1000);
		execv(words[0], words);
		_exit(98);
	}
	return waitpid(pid, NULL, 0) == pid ? 0 : 1;
}

/* caps BITS PROGRAM ARGUMENT...: with no more capabilities than these. */
static int run_caps(void)
{
	uint64_t keep = (uint64_t)strtoull(words[0], NULL, 0);

	for (int i = 0; i < 64; i++)
		if (!(keep >> i & 1) && prctl(PR_CAPBSET_READ, i) == 1 && prctl(PR_CAPBSET_DROP, i))
			die("prctl");
	execv(words[1], words + 1);
	die("execv");
	return 1;
}

/* forked-exec PROGRAM ARGUMENT...: a child that waits while its parent becomes another program. Prints the child's pid. */
static int forked_exec(void)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		die("pipe2");
	pid = fork();
	if (pid == 0) {
		char c;

		close(ends[1]);
		(void)!read(ends[0], &c, 1); /* ends when exec closes the other side */
		execl("/proc/self/exe", "child", "exit", "5", NULL);
		_exit(98);
	}
	printf("%d\n", pid);
	fflush(stdout);
	execv(words[0], words);
	die("execv");
	return 1;
}

/* Runs this program again and again, as one process: `chain 3` calls exec three times. */
static int run_chain(void)
{
	char left[16];

	if (number(0) <= 0) {
		printf("%d\n", getpid());
		return 0;
	}
	snprintf(left, sizeof left, "%ld", number(0) - 1);
	execl("/proc/self/exe", "chain", "chain", left, NULL);
	die("execl");
	return 1;
}

/* fail PATH ARGUMENT...: calls execve in vain, and prints what it said. */
static int run_in_vain(void)
{
	execve(words[0], words, environ);
	printf("%s\n", strerrorname_np(errno));
	return 0;
}

/* fail-at FOLDER NAME FLAGS: the same by execveat. Prints the folder's descriptor too. */
static int run_at_in_vain(void)
{
	int folder = open(words[0], O_PATH | O_DIRECTORY);
	char *argv[] = { words[1], NULL };

	syscall(SYS_execveat, folder, words[1], argv, environ, (int)number(2));
	printf("%s %d\n", strerrorname_np(errno), folder);
	return 0;
}

/* fail-null: without a path. */
static int run_nothing(void)
{
	syscall(SYS_execve, NULL, words, environ);
	printf("%s\n", strerrorname_np(errno));
	return 0;
}

/* What another thread writes all the time while it is asked for: a letter of a path, and of an argument. */
static char raced_path[4096], raced_word[] = "a";
static volatile char *raced_letter;

static void *race(void *unused)
{
	for (unsigned i = 0;; i++) {
		*raced_letter = i & 1 ? 'a' : 'b';
		*(volatile char *)raced_word = i & 2 ? 'a' : 'b';
	}
	return unused;
}

static void begin_race(void)
{
	snprintf(raced_path, sizeof raced_path, "%s", words[0]);
	raced_letter = raced_path + strlen(raced_path) - 1;
	start(race);
}

/* race-exec PATH TRIES: so many children run the program PATH, whose last letter goes to and fro between a and b, with `which` and such a
 * letter as arguments. Prints a line for each: its pid, and with what it ended. */
static int race_exec(void)
{
	char *argv[] = { "which", "which", raced_word, NULL };

	begin_race();
	for (long i = 0; i < number(1); i++) {
		pid_t pid = vfork();
		int status;

		if (pid == 0) {
			execv(raced_path, argv);
			_exit(98);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			die("vfork");
		printf("%d %d\n", pid, WEXITSTATUS(status));
	}
	fflush(stdout);
	_exit(0);
}

/* which LETTER: ends with 1 where this program's name ends with b, and 2 where the argument does. */
static int which(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path);

	return (n > 0 && path[n - 1] == 'b') | (words[0][0] == 'b') << 1;
}

/* race-fail PATH TRIES: asks so often for a program that is not there, while the path changes. */
static int race_fail(void)
{
	char *argv[] = { "none", NULL };

	begin_race();
	for (long i = 0; i < number(1); i++)
		execv(raced_path, argv);
	printf("%s\n", strerrorname_np(errno));
	fflush(stdout);
	_exit(0);
}

static int end_with(void)
{
	return (int)number(0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} commands[] = { { "hold", hold },
			 { "burn", burn_all },
			 { "touch", touch },
			 { "crash", crash },
			 { "thread-exec", thread_exec },
			 { "thread-exit", thread_exit },
			 { "leader-first", leader_first },
			 { "many", many },
			 { "memfd", run_memfd },
			 { "at", run_at },
			 { "vfork", run_vfork },
			 { "clone", run_clone },
			 { "orphan", orphan },
			 { "caps", run_caps },
			 { "forked-exec", forked_exec },
			 { "chain", run_chain },
			 { "fail", run_in_vain },
			 { "fail-at", run_at_in_vain },
			 { "fail-null", run_nothing },
			 { "race-exec", race_exec },
			 { "race-fail", race_fail },
			 { "which", which },
			 { "exit", end_with } };

	if (argc < 2)
		return 2;
	words = argv + 2;
	n_words = argc - 2;
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run();
	return 2;
}
