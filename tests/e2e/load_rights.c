/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the modules process, cred, isolation and memory are about, done as asked for.
 *
 *	load_rights toggle CALLS        four threads, each of which changes its effective user id as often
 *	load_rights target              waits for the end of its input; says its pid, and where its buffer is
 *	load_rights trace PID ADDRESS   attaches, pokes a word, sets registers, detaches
 *	load_rights traceme             asks to be traced
 *	load_rights seize PID           and detaches
 *	load_rights write PID ADDRESS   process_vm_writev of 8 bytes in 2 parts; PID 0: into itself
 *	load_rights getfd PID FD
 *	load_rights send HOW PID SIGNAL kill, queue, tkill, pidfd, or timer: a siginfo that says that a timer sent it
 *	load_rights orphan              leaves a child that the kernel ends, as it asked for
 *	load_rights timer               a timer that sends it SIGTERM, 20 times
 *	load_rights inside              in a pid namespace of its own, sends a child SIGTERM by its number there
 *	load_rights steps WORD...       one system call a word, see step(); what /proc says after each
 *	load_rights other [exec|fork]   gives rights away by a call of 32 bits, which tracepoints do not have; then waits, becomes another program, or
 *	                                has a child
 *	load_rights tsync               gives another thread of its own no_new_privs, by seccomp; waits
 *	load_rights newmount FOLDER     the calls of the new mount interface, with the mount's number as /proc has it
 *	load_rights mount TYPE PATH     both end well if the kernel refuses
 *	load_rights umount PATH
 *	load_rights unreadable          umount and chroot of an address where nothing is
 *	load_rights race-root TRIES     in the working directory: chroot to a name that another thread changes between `a` and `b`
 *	load_rights race-mount TRIES    the same with a tmpfs mounted there
 *	load_rights enter PID FLAGS     setns by pidfd
 *	load_rights enter-file PATH     by the file of a namespace
 *	load_rights clone FLAGS         a child in new namespaces; says those that it has
 *	load_rights code WORD...        memory that becomes code, see code_step(); what /proc says of it after each; `exec` goes on as another program,
 *	                                `in:FOLDER` there
 *
 * Answers are lines of `key=value`.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

static char buffer[64] = "untouched";

static long said(const char *what, long ret)
{
	printf("%s=%ld error=%d\n", what, ret, ret < 0 ? errno : 0);
	fflush(stdout);
	return ret;
}

static void wait_for_end(void)
{
	char c;

	while (read(0, &c, 1) > 0)
		;
}

static int target(void)
{
	printf("pid=%d address=%lu\n", getpid(), (unsigned long)buffer);
	fflush(stdout);
	wait_for_end();
	printf("buffer=%s\n", buffer);
	return 0;
}

static int trace(pid_t pid, unsigned long address)
{
	long word;
	int status;

	if (said("attach", ptrace(PTRACE_ATTACH, pid, 0, 0)) < 0)
		return 1;
	waitpid(pid, &status, __WALL);
	word = ptrace(PTRACE_PEEKDATA, pid, address, 0);
	said("poke", ptrace(PTRACE_POKEDATA, pid, address, word));
#if defined(__x86_64__)
	struct user_regs_struct regs;

	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	said("setregs", ptrace(PTRACE_SETREGS, pid, 0, &regs));
#endif
	said("detach", ptrace(PTRACE_DETACH, pid, 0, 0));
	return 0;
}

static int seize(pid_t pid)
{
	if (said("seize", ptrace(PTRACE_SEIZE, pid, 0, 0)) < 0)
		return 1;
	ptrace(PTRACE_INTERRUPT, pid, 0, 0);
	waitpid(pid, NULL, __WALL);
	said("detach", ptrace(PTRACE_DETACH, pid, 0, 0));
	return 0;
}

static int write_into(pid_t pid, unsigned long address)
{
	if (!pid) {
		pid = getpid();
		address = (unsigned long)buffer;
	}
	struct iovec local = { "overseen", 8 }, remote[2] = { { (void *)address, 4 }, { (void *)(address + 4), 4 } };

	said("write", process_vm_writev(pid, &local, 1, remote, 2, 0));
	return 0;
}

static int get_fd(pid_t pid, int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	said("getfd", syscall(SYS_pidfd_getfd, pidfd, fd, 0));
	return 0;
}

static int send_signal(const char *how, pid_t pid, int number)
{
	siginfo_t forged = { .si_signo = number, .si_code = SI_TIMER };
	union sigval value = { 0 };
	long ret;

	if (!strcmp(how, "kill"))
		ret = kill(pid, number);
	else if (!strcmp(how, "queue"))
		ret = sigqueue(pid, number, value);
	else if (!strcmp(how, "tkill"))
		ret = syscall(SYS_tkill, pid, number);
	else if (!strcmp(how, "pidfd"))
		ret = syscall(SYS_pidfd_send_signal, syscall(SYS_pidfd_open, pid, 0), number, NULL, 0);
	else
		ret = syscall(SYS_rt_sigqueueinfo, pid, number, &forged);
	said("send", ret);
	return 0;
}

static int orphan(void)
{
	int ready[2];
	char c;

	if (pipe(ready) < 0)
		return 1;
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	return read(ready[0], &c, 1) != 1;
}

static void take_no_notice(int number)
{
	(void)number;
}

static int be_timed(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM };
	struct itimerspec every = { { 0, 5000000 }, { 0, 5000000 } };
	timer_t timer;

	signal(SIGTERM, take_no_notice);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 || timer_settime(timer, 0, &every, NULL) < 0)
		return 1;
	for (int i = 0; i < 20; i++)
		pause();
	return 0;
}

/* Number 1 there starts number 2, and ends it by that number. */
static int inside(void)
{
	pid_t first;

	if (unshare(CLONE_NEWPID) < 0)
		return 1;
	first = fork();
	if (!first) {
		pid_t second = fork();
		struct iovec local = { "overseen", 8 }, remote = { buffer, 8 };

		if (!second)
			for (;;)
				pause();
		printf("number=%d\n", second);
		said("write", process_vm_writev(second, &local, 1, &remote, 1, 0));
		kill(second, SIGTERM);
		waitpid(second, NULL, 0);
		fflush(stdout);
		_exit(0);
	}
	printf("first=%d\n", first);
	fflush(stdout);
	waitpid(first, NULL, 0);
	return 0;
}

/* ---- rights ---- */

static void say_status(const char *word, long ret)
{
	static const char *const wanted[] = { "Uid:",    "Gid:",    "Groups:", "CapInh:",    "CapPrm:",
					      "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:" };
	int error = ret < 0 ? errno : 0;
	char line[1024];
	FILE *file = fopen("/proc/thread-self/status", "r");

	printf("step=%s;ret=%ld;error=%d", word, ret, error);
	while (file && fgets(line, sizeof line, file)) {
		for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
			if (!strncmp(line, wanted[i], strlen(wanted[i]))) {
				line[strcspn(line, "\n")] = '\0';
				printf(";%s", line);
			}
	}
	if (file)
		fclose(file);
	printf(";securebits=%d\n", prctl(PR_GET_SECUREBITS));
	fflush(stdout);
}

/* NAME:A,B,C with numbers as strtoull has them; capset's are effective, permitted and inheritable. */
static long step(const char *word)
{
	const char *at = strchr(word, ':');
	size_t length = at ? (size_t)(at - word) : strlen(word);
	unsigned long long v[4] = { 0 };
	unsigned n = 0;
	char *end = (char *)at;

	while (end && *end && n < 4)
		v[n++] = strtoull(end + 1, &end, 0);
#define IS(name) (strlen(name) == length && !strncmp(word, name, length))
	if (IS("setuid"))
		return syscall(SYS_setuid, v[0]);
	if (IS("setgid"))
		return syscall(SYS_setgid, v[0]);
	if (IS("setreuid"))
		return syscall(SYS_setreuid, v[0], v[1]);
	if (IS("setregid"))
		return syscall(SYS_setregid, v[0], v[1]);
	if (IS("setresuid"))
		return syscall(SYS_setresuid, v[0], v[1], v[2]);
	if (IS("setresgid"))
		return syscall(SYS_setresgid, v[0], v[1], v[2]);
	if (IS("setfsuid"))
		return syscall(SYS_setfsuid, v[0]);
	if (IS("setfsgid"))
		return syscall(SYS_setfsgid, v[0]);
	if (IS("setgroups")) {
		gid_t groups[4] = { (gid_t)v[0], (gid_t)v[1], (gid_t)v[2], (gid_t)v[3] };

		return syscall(SYS_setgroups, n, groups);
	}
	if (IS("prctl"))
		return prctl((int)v[0], v[1], v[2], v[3], 0);
	if (IS("capset")) {
		struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
		struct __user_cap_data_struct data[2];

		for (int i = 0; i < 2; i++)
			data[i] = (struct __user_cap_data_struct){ .effective = (uint32_t)(v[0] >> 32 * i),
								   .permitted = (uint32_t)(v[1] >> 32 * i),
								   .inheritable = (uint32_t)(v[2] >> 32 * i) };
		return syscall(SYS_capset, &head, data);
	}
	if (IS("unshare"))
		return syscall(SYS_unshare, v[0]);
	if (IS("keyctl"))
		return syscall(SYS_keyctl, v[0], 0, 0, 0, 0);
#undef IS
	errno = EINVAL;
	return -1;
}

static int steps(char **words)
{
	printf("pid=%d\n", getpid());
	say_status("begin", 0);
	for (; *words; words++)
		say_status(*words, step(*words));
	return 0;
}

#if defined(__x86_64__)
/* setresuid32 of the 32-bit table. */
static long call32(unsigned number, unsigned a, unsigned b, unsigned c)
{
	long ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "a"(number), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}
#endif

static int by_other_ways(const char *then)
{
	long ret = -ENOSYS;

#if defined(__x86_64__)
	ret = call32(208, 1234, 1234, 0);
#endif
	printf("pid=%d\n", getpid());
	say_status("setresuid32", ret);
	if (!strcmp(then, "exec"))
		return execl("/bin/true", "true", NULL);
	if (strcmp(then, "fork"))
		wait_for_end();
	else if (!fork())
		_exit(0);
	else
		wait(NULL);
	return 0;
}

static void *wait_forever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static int give_to_all_threads(void)
{
	struct sock_filter allow = { .code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW };
	struct sock_fprog program = { 1, &allow };
	pthread_t thread;

	if (pthread_create(&thread, NULL, wait_forever, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return 1;
	said("seccomp", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program));
	wait_for_end();
	return 0;
}

static unsigned toggles;

static void *toggle(void *unused)
{
	for (unsigned i = 0; i < toggles; i++) {
		syscall(SYS_setresuid, -1, i % 2 ? 0 : 1000, -1);
		if (i % 100 == 0)
			usleep(10000);
	}
	return unused;
}

static int toggle_all(unsigned calls)
{
	pthread_t threads[4];

	toggles = calls;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, toggle, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

/* ---- mounts, roots, namespaces ---- */

/* Not in all C libraries that this is compiled with. */
#define FSOPEN        430
#define FSCONFIG      431
#define FSMOUNT       432
#define OPEN_TREE     428
#define MOVE_MOUNT    429
#define MOUNT_SETATTR 442

static long mount_number(int fd)
{
	char path[64], line[256];
	long number = 0;
	FILE *file;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "mnt_id: %ld", &number) == 1)
			break;
	if (file)
		fclose(file);
	return number;
}

static int new_mount(const char *folder)
{
	struct {
		uint64_t set, clear, propagation, user;
	} attributes = { .set = 1 }; /* read-only */
	int context = (int)syscall(FSOPEN, "tmpfs", 0), fd, tree;

	syscall(FSCONFIG, context, 1, "source", "wanted", 0);
	said("create", syscall(FSCONFIG, context, 6, 0, 0, 0));
	fd = (int)said("fsmount", syscall(FSMOUNT, context, 0, 4));
	said("mount_id", mount_number(fd));
	said("move", syscall(MOVE_MOUNT, fd, "", -100, folder, 4));
	said("setattr", syscall(MOUNT_SETATTR, fd, "", 0x1000, &attributes, sizeof attributes));
	tree = (int)said("open_tree", syscall(OPEN_TREE, -100, folder, 1));
	said("tree_id", mount_number(tree));
	said("plain", syscall(OPEN_TREE, -100, folder, 0));
	return 0;
}

static char raced[2] = "a";

static void *flip(void *unused)
{
	for (;;)
		*(volatile char *)raced ^= 'a' ^ 'b';
	return unused;
}

static void begin_race(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, flip, NULL);
}

/* What is told shall not be lost: the agent has time to take it. */
static void rest(unsigned tries)
{
	if (tries % 200 == 0)
		usleep(20000);
}

/* The working directory stays outside of the root, so names go on from there. */
static int race_root(unsigned tries)
{
	struct stat st;

	begin_race();
	printf("pid=%d\n", getpid());
	while (tries--) {
		if (chroot(raced) < 0 || stat("/", &st) < 0)
			return 1;
		printf("%lu\n", (unsigned long)st.st_ino);
		rest(tries);
	}
	return 0;
}

static bool is_mounted(const char *name)
{
	struct stat st;

	return stat(name, &st) == 0 && st.st_ino == 1;
}

/* The root of a tmpfs has number 1. */
static int race_mount(unsigned tries)
{
	begin_race();
	printf("pid=%d\n", getpid());
	while (tries--) {
		const char *name;

		if (mount("raced", raced, "tmpfs", 0, NULL) < 0)
			return 1;
		name = is_mounted("a") ? "a" : "b";
		printf("%s\n", name);
		rest(tries);
		if (umount2(name, MNT_DETACH) < 0)
			return 1;
	}
	return 0;
}

static int enter(pid_t pid, int flags)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	printf("fd=%d\n", fd);
	said("setns", setns(fd, flags));
	return 0;
}

static void say_namespaces(void)
{
	static const char *const names[] = { "mnt", "user", "pid", "net", "uts", "ipc", "cgroup", "time" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char path[64];
		struct stat st;

		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		if (stat(path, &st) == 0)
			printf("%s_ns=%lu\n", names[i], (unsigned long)st.st_ino);
	}
}

static int clone_into(unsigned long flags)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} args = { .flags = flags, .exit_signal = SIGCHLD };
	pid_t child = (pid_t)syscall(435, &args, sizeof args);

	if (!child) {
		say_namespaces();
		fflush(stdout);
		_exit(0);
	}
	if (said("clone", child) < 0)
		return 1;
	waitpid(child, NULL, 0);
	return 0;
}

/* ---- memory ---- */

#define CODE_BYTES 8192

/* What /proc has at an address. */
static void say_mapping(const char *word, void *address, int fd)
{
	unsigned long begin, end, ino;
	char line[1024], protection[8];
	FILE *file = fopen("/proc/self/maps", "r");

	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &begin, &end, protection, &ino) == 4 &&
		    begin == (unsigned long)address)
			printf("word=%s address=%lu protection=%s ino=%lu fd=%d\n", word, begin, protection, ino, fd);
	if (file)
		fclose(file);
}

static void *map(int prot, int fd)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE;

	return mmap(NULL, CODE_BYTES, prot, flags, fd, 0);
}

static int file_of(const char *word)
{
	char name[300] = { 0 };
	int fd;

	if (!strncmp(word, "file", 4))
		return open("/proc/self/exe", O_RDONLY);
	if (!strncmp(word, "deleted", 7)) {
		fd = open("gone", O_CREAT | O_RDWR, 0700);
		unlink("gone");
	} else {
		memset(name, 'n', 249);
		fd = (int)syscall(SYS_memfd_create, strncmp(word, "memfd-long", 10) ? "code" : name, 1);
	}
	return ftruncate(fd, CODE_BYTES) < 0 ? -1 : fd;
}

static void code_step(const char *word)
{
	int fd = -1;
	void *p = NULL;
#define IS(name) (!strcmp(word, name))

	if (IS("mmap-wx"))
		p = map(7, -1);
	else if (IS("mmap-rw"))
		p = map(3, -1);
	else if (IS("mmap-rx"))
		p = map(5, -1);
	else if (IS("mprotect-wx") || IS("mprotect-x") || IS("mprotect-rw")) {
		p = map(3, -1);
		*(volatile char *)p = (char)0xc3;
		mprotect(p, CODE_BYTES, IS("mprotect-wx") ? 7 : IS("mprotect-x") ? 5 : 1);
	} else if (IS("pkey-x")) {
		p = map(3, -1);
		syscall(SYS_pkey_mprotect, p, CODE_BYTES, 5, -1);
	} else if (IS("file-rx")) {
		p = map(5, fd = file_of(word));
	} else if (IS("file-mprotect-x")) {
		p = map(1, fd = file_of(word));
		mprotect(p, CODE_BYTES, 5);
	} else if (IS("file-written")) {
		p = map(3, fd = file_of(word));
		*(volatile char *)p = (char)0xc3;
		mprotect(p, CODE_BYTES, 5);
	} else if (IS("memfd-x") || IS("memfd-long-x") || IS("deleted-x")) {
		p = map(5, fd = file_of(word));
	} else if (IS("refused")) {
		said("mprotect", mprotect((void *)CODE_BYTES, CODE_BYTES, 7));
	} else if (IS("many")) {
		p = map(3, -1);
		for (int i = 0; i < 1000; i++) {
			mprotect(p, CODE_BYTES, 7);
			mprotect(p, CODE_BYTES, 3);
		}
	} else if (IS("memfd-refused")) {
		said("memfd", syscall(SYS_memfd_create, "refused", 0x8000));
	} else if (IS("memfd-long")) {
		file_of(word);
	} else if (IS("userfaultfd")) {
		said("userfaultfd", syscall(SYS_userfaultfd, 1));
	} else if (IS("personality")) {
		syscall(SYS_personality, 0xffffffff);
		syscall(SYS_personality, 0x40000);
		syscall(SYS_personality, 0x440000);
		syscall(SYS_personality, 0x40000);
		syscall(SYS_personality, 0);
	}
	say_mapping(word, p, fd);
#undef IS
}

static int code(char **words)
{
	for (; *words; words++) {
		if (!strcmp(*words, "exec"))
			return execl("/bin/true", "true", NULL);
		if (!strncmp(*words, "in:", 3)) {
			if (chdir(*words + 3) < 0)
				return 1;
			continue;
		}
		code_step(*words);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "target"))
		return target();
	if (!strcmp(what, "trace") && argc == 4)
		return trace(atoi(argv[2]), strtoul(argv[3], NULL, 0));
	if (!strcmp(what, "traceme"))
		return said("traceme", ptrace(PTRACE_TRACEME, 0, 0, 0)) < 0;
	if (!strcmp(what, "seize") && argc == 3)
		return seize(atoi(argv[2]));
	if (!strcmp(what, "write") && argc == 4)
		return write_into(atoi(argv[2]), strtoul(argv[3], NULL, 0));
	if (!strcmp(what, "getfd") && argc == 4)
		return get_fd(atoi(argv[2]), atoi(argv[3]));
	if (!strcmp(what, "send") && argc == 5)
		return send_signal(argv[2], atoi(argv[3]), atoi(argv[4]));
	if (!strcmp(what, "orphan"))
		return orphan();
	if (!strcmp(what, "timer"))
		return be_timed();
	if (!strcmp(what, "inside"))
		return inside();
	if (!strcmp(what, "toggle") && argc == 3)
		return toggle_all((unsigned)atoi(argv[2]));
	if (!strcmp(what, "steps"))
		return steps(argv + 2);
	if (!strcmp(what, "other"))
		return by_other_ways(argc > 2 ? argv[2] : "");
	if (!strcmp(what, "tsync"))
		return give_to_all_threads();
	if (!strcmp(what, "newmount") && argc == 3)
		return new_mount(argv[2]);
	if (!strcmp(what, "mount") && argc == 4)
		return said("mount", mount("refused", argv[3], argv[2], 0, NULL)) == 0;
	if (!strcmp(what, "umount") && argc == 3)
		return said("umount", umount2(argv[2], 0)) == 0;
	if (!strcmp(what, "unreadable"))
		return said("umount", syscall(SYS_umount2, 8, 0)) == 0 || said("chroot", syscall(SYS_chroot, 8)) == 0;
	if (!strcmp(what, "race-root") && argc == 3)
		return race_root((unsigned)atoi(argv[2]));
	if (!strcmp(what, "race-mount") && argc == 3)
		return race_mount((unsigned)atoi(argv[2]));
	if (!strcmp(what, "enter") && argc == 4)
		return enter(atoi(argv[2]), (int)strtol(argv[3], NULL, 0));
	if (!strcmp(what, "enter-file") && argc == 3)
		return said("setns", setns(open(argv[2], O_RDONLY), 0)) < 0;
	if (!strcmp(what, "clone") && argc == 3)
		return clone_into(strtoul(argv[2], NULL, 0));
	if (!strcmp(what, "code"))
		return code(argv + 2);
	fprintf(stderr, "usage: see the head of load_rights.c\n");
	return 2;
}
