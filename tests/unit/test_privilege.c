/* SPDX-License-Identifier: Apache-2.0 */
/* Each test forks a child that drops and then tries: a drop cannot be undone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "privilege.h"

/* In a child there is no cmocka: the first failing check prints itself and ends the child with 1. */
#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "line %d: %s (errno %s)\n", __LINE__, #condition, strerror(errno));            \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

#define FORBIDDEN(call) CHECK((call) < 0 && errno == EPERM)

/* The wait status of a child that runs `body`. */
static int in_child(void (*body)(void *context), void *context)
{
	int status;
	pid_t pid = fork();

	assert_return_code(pid, errno);
	if (!pid) {
		alarm(30);
		body(context);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void run_child(void (*body)(void *context), void *context)
{
	int status = in_child(body, context);

	if (status)
		fail_msg("child: status 0x%x", status);
}

static void need_root(void)
{
	if (geteuid())
		skip();
}

static int folder_setup(void **state)
{
	char *folder = strdup("/tmp/test_privilege.XXXXXX");

	assert_non_null(mkdtemp(folder));
	*state = folder;
	return 0;
}

static int folder_teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", (char *)*state);
	assert_int_equal(system(command), 0);
	free(*state);
	return 0;
}

static void drop_to(const char *user, const char *folder)
{
	struct privilege_options options = {
		.user = user, .capabilities = PRIVILEGE_BASE, .paths = &folder, .n_paths = folder ? 1 : 0
	};
	struct privilege_state state;
	struct fault fault = { 0 };

	if (privilege_drop(&options, &state, &fault) < 0) {
		fprintf(stderr, "%s\n", fault.text);
		_exit(1);
	}
}

static void filter(unsigned options)
{
	struct fault fault = { 0 };

	if (privilege_seccomp(options, &fault) < 0) {
		fprintf(stderr, "%s\n", fault.text);
		_exit(1);
	}
}

static uint64_t status_number(const char *key)
{
	_cleanup_(free_pointer) char *text = NULL;
	const char *at;

	CHECK(read_small_file("/proc/self/status", 65536, &text, NULL) == 0);
	at = strstr(text, key);
	CHECK(at);
	return strtoull(at + strlen(key), NULL, 16);
}

static void child_drops(void *context)
{
	const struct passwd *nobody = getpwnam("nobody");
	uint64_t before = status_number("\nCapPrm:"), kept = PRIVILEGE_BASE & before;

	CHECK(nobody);
	drop_to("nobody", NULL);
	CHECK(getuid() == nobody->pw_uid && geteuid() == nobody->pw_uid && getegid() == nobody->pw_gid);
	CHECK(getgroups(0, NULL) == 0);
	CHECK((status_number("\nCapPrm:") & PRIVILEGE_BASE) == kept);
	CHECK((status_number("\nCapPrm:") & ~PRIVILEGE_BASE & ~PRIVILEGE_BIT(CAP_SYS_ADMIN)) == 0);
	CHECK(status_number("\nCapEff:") == status_number("\nCapPrm:"));
	CHECK(status_number("\nCapInh:") == 0 && status_number("\nCapAmb:") == 0);
	CHECK((status_number("\nCapBnd:") & ~status_number("\nCapPrm:")) == 0);
	CHECK(status_number("\nNoNewPrivs:") == 1);
	FORBIDDEN(setresuid(0, 0, 0));
	FORBIDDEN(chown("/tmp", 0, 0));
	FORBIDDEN(prctl(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0));
	FORBIDDEN(kill(getppid(), 0));
}

static void drops_to_a_user(void **state)
{
	(void)state;
	need_root();
	run_child(child_drops, NULL);
}

static void child_stays(void *context)
{
	struct privilege_options options = { .user = "no-such-user-here", .capabilities = PRIVILEGE_BIT(CAP_SYSLOG) };
	struct privilege_state state;
	int status;

	CHECK(privilege_drop(&options, &state, NULL) == 0);
	CHECK(state.user_unknown && state.uid == 0 && getuid() == 0);
	CHECK(strstr(state.text, "no-such-user-here") && strstr(state.text, "syslog"));
	CHECK(state.kept == PRIVILEGE_BIT(CAP_SYSLOG));
	CHECK(status_number("\nCapEff:") == PRIVILEGE_BIT(CAP_SYSLOG));
	/* Root in name only: what it starts has nothing either. */
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		execl("/bin/sh", "sh", "-c", "grep -q 'CapEff:.0000000000000000' /proc/self/status", NULL);
		_exit(127);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void stays_without_the_user(void **state)
{
	(void)state;
	need_root();
	run_child(child_stays, NULL);
}

static void child_reports_missing(void *context)
{
	struct privilege_options options = { .capabilities = PRIVILEGE_BIT(CAP_NET_ADMIN) };
	struct privilege_state state;

	CHECK(privilege_drop(&options, &state, NULL) == 0);
	options.capabilities = PRIVILEGE_BIT(CAP_NET_ADMIN) | PRIVILEGE_BIT(CAP_SYSLOG);
	CHECK(privilege_drop(&options, &state, NULL) == 0);
	CHECK(state.missing == PRIVILEGE_BIT(CAP_SYSLOG));
	CHECK(strstr(state.text, "not granted: syslog"));
#ifndef __SANITIZE_THREAD__ /* its own thread kept everything, and the C library will not have threads of two users */
	options.user = "nobody";
	CHECK(privilege_drop(&options, &state, NULL) == -EPERM);
#endif
}

static void reports_what_is_missing(void **state)
{
	(void)state;
	need_root();
	run_child(child_reports_missing, NULL);
}

static void *wait_for_signal(void *context)
{
	char byte;

	if (read(*(int *)context, &byte, 1) < 0)
		abort();
	return NULL;
}

static void child_with_thread(void *context)
{
	struct privilege_options options = { .capabilities = PRIVILEGE_BASE };
	struct fault fault = { 0 };
	pthread_t thread;
	int pipes[2];

	CHECK(pipe(pipes) == 0 && pthread_create(&thread, NULL, wait_for_signal, &pipes[0]) == 0);
	CHECK(privilege_drop(&options, NULL, &fault) == -EBUSY);
	CHECK(strstr(fault.text, "threads"));
	close(pipes[1]);
	pthread_join(thread, NULL);
}

static void refuses_threads(void **state)
{
	(void)state;
	run_child(child_with_thread, NULL);
}

static void make_file(const char *folder, const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_return_code(fd, errno);
	close(fd);
}

static uid_t owner(const char *folder, const char *name)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	assert_return_code(lstat(path, &st), errno);
	return st.st_uid;
}

static void child_hands_over(void *context)
{
	char path[256];

	drop_to("nobody", context);
	snprintf(path, sizeof path, "%s/mine", (char *)context);
	CHECK(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600) >= 0);
	snprintf(path, sizeof path, "%s/segment", (char *)context);
	CHECK(open(path, O_RDWR | O_CLOEXEC) >= 0);
	/* Everything may be read, nothing else written. */
	CHECK(open("/etc/shadow", O_RDONLY | O_CLOEXEC) >= 0);
	CHECK(open("/etc/shadow", O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
}

static void hands_files_over(void **state)
{
	const char *folder = *state;
	char journal[128], from[160], to[160];

	need_root();
	snprintf(journal, sizeof journal, "%s/journal", folder);
	assert_return_code(mkdir(journal, 0700), errno);
	assert_return_code(chmod(folder, 0755), errno);
	make_file(journal, "segment");
	make_file(folder, "outside");
	snprintf(from, sizeof from, "%s/outside", folder);
	snprintf(to, sizeof to, "%s/planted", journal);
	assert_return_code(link(from, to), errno);
	snprintf(to, sizeof to, "%s/link", journal);
	assert_return_code(symlink(from, to), errno);
	run_child(child_hands_over, journal);
	assert_int_not_equal(owner(folder, "journal"), 0);
	assert_int_not_equal(owner(journal, "segment"), 0);
	/* A second name of somebody's file, and a link to it, stay whose they are. */
	assert_int_equal(owner(folder, "outside"), 0);
	assert_int_equal(owner(journal, "link"), 0);
}

static void *touch(void *context)
{
	*(int *)context = 42;
	return NULL;
}

static void try_threads(void)
{
	pthread_t thread;
	int value = 0, status;
	pid_t pid;

	CHECK(pthread_create(&thread, NULL, touch, &value) == 0 && pthread_join(thread, NULL) == 0 && value == 42);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		_exit(7);
	CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
}

static void try_network(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct addrinfo *found = NULL, hints = { .ai_socktype = SOCK_STREAM };
	socklen_t length = sizeof address;
	char text[6] = "";
	int server, client, accepted;

	CHECK(getaddrinfo("localhost", "9092", &hints, &found) == 0 && found);
	freeaddrinfo(found);
	server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(server >= 0 && client >= 0 && bind(server, (struct sockaddr *)&address, sizeof address) == 0);
	CHECK(listen(server, 1) == 0 && getsockname(server, (struct sockaddr *)&address, &length) == 0);
	CHECK(connect(client, (struct sockaddr *)&address, length) == 0);
	accepted = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	CHECK(accepted >= 0 && send(client, "hello", 5, 0) == 5 && recv(accepted, text, 5, MSG_WAITALL) == 5);
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) >= 0 && socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
}

static void try_journal(const char *folder)
{
	char path[256], other[256];
	int fd;

	snprintf(path, sizeof path, "%s/new", folder);
	snprintf(other, sizeof other, "%s/done", folder);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(fd, 65536) == 0);
	CHECK(fallocate(fd, 0, 0, 65536) == 0);

	char *bytes = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(bytes != MAP_FAILED);
	bytes[100] = 1;
	CHECK(msync(bytes, 65536, MS_SYNC) == 0 && madvise(bytes, 65536, MADV_DONTNEED) == 0 &&
	      munmap(bytes, 65536) == 0);
	CHECK(fdatasync(fd) == 0 && rename(path, other) == 0 && unlink(other) == 0);
}

/* What a reload does: a map, a program, attached; and a perf event that runs. */
static void try_instruments(void)
{
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct perf_event_attr clock = { .type = PERF_TYPE_SOFTWARE,
					 .size = sizeof clock,
					 .config = PERF_COUNT_SW_CPU_CLOCK,
					 .sample_period = 10000000 };
	uint32_t key = 1;
	uint64_t value = 2;
	int map = bpf_map_create(BPF_MAP_TYPE_HASH, "test", sizeof key, sizeof value, 4, NULL);
	int program = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "test", "GPL", nothing, ARRAY_SIZE(nothing), NULL);
	int event;

	CHECK(map >= 0 && bpf_map_update_elem(map, &key, &value, 0) == 0 && bpf_map_delete_elem(map, &key) == 0);
	CHECK(program >= 0 && bpf_raw_tracepoint_open("sched_process_exec", program) >= 0);
	event = (int)syscall(SYS_perf_event_open, &clock, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	CHECK(event >= 0 && ioctl(event, PERF_EVENT_IOC_ENABLE, 0) == 0 && close(event) == 0);
}

static void try_proc(void)
{
	_cleanup_(free_pointer) char *text = NULL;
	char path[256], line[256];
	FILE *symbols = fopen("/proc/kallsyms", "r");

	/* The parent is another user's process now. */
	snprintf(path, sizeof path, "/proc/%d/exe", getppid());
	CHECK(readlink(path, line, sizeof line) > 0 && open(path, O_RDONLY | O_CLOEXEC) >= 0);
	snprintf(path, sizeof path, "/proc/%d/maps", getppid());
	CHECK(read_small_file(path, 1 << 24, &text, NULL) == 0);
	CHECK(symbols && fgets(line, sizeof line, symbols) && strtoull(line, NULL, 16));
	CHECK(open("/proc/self/exe", O_RDONLY | O_CLOEXEC) >= 0 && readlink("/proc/self/fd/0", path, sizeof path) > 0);
	CHECK(access("/sys/kernel/btf/vmlinux", R_OK) == 0);
}

static void try_loop(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, socket(AF_UNIX, SOCK_DGRAM, 0), &event) == 0);
	CHECK(epoll_wait(epoll, &event, 1, 1) == 0);
}

static void child_works(void *context)
{
	drop_to("nobody", context);
	filter(0);
	try_threads();
	try_network();
	try_journal(context);
	try_instruments();
	try_proc();
	try_loop();
}

static void lets_the_agent_work(void **state)
{
	need_root();
	run_child(child_works, *state);
}

static void child_refused(void *context)
{
	const size_t page = 4096;

	filter(0);
	FORBIDDEN(mknod("/tmp/test_privilege_node", S_IFREG | 0600, 0));
	FORBIDDEN(syscall(SYS_io_uring_setup, 1, NULL));
	FORBIDDEN(socket(AF_PACKET, SOCK_RAW, 0));
	FORBIDDEN(socket(AF_ALG, SOCK_SEQPACKET, 0));
	FORBIDDEN(ioctl(0, TIOCSTI, "x"));
	FORBIDDEN(syscall(SYS_ioctl, 0, TIOCSTI | 1ul << 32, "x"));
	FORBIDDEN(prctl(PR_SET_MM, 0, 0, 0, 0));
	FORBIDDEN(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
	CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
	FORBIDDEN(chroot("/proc"));
	FORBIDDEN(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
	FORBIDDEN(execl("/bin/true", "true", NULL));
	FORBIDDEN(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
	CHECK(mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	CHECK(errno == EPERM);

	void *data = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(data != MAP_FAILED);
	FORBIDDEN(mprotect(data, page, PROT_READ | PROT_WRITE | PROT_EXEC));
	CHECK(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
}

static void refuses_the_rest(void **state)
{
	(void)state;
	run_child(child_refused, NULL);
}

static void child_executes(void *context)
{
	filter(PRIVILEGE_EXEC);
	execl("/bin/true", "true", NULL);
	_exit(1);
}

static void executes_when_asked(void **state)
{
	(void)state;
	run_child(child_executes, NULL);
}

struct deadly_call {
	long number;
	const char *name;
};

static void child_dies(void *context)
{
	const struct deadly_call *call = context;

	filter(PRIVILEGE_EXEC);
	syscall(call->number, -1, -1, 0, 0, 0, 0);
}

static void kills_an_intruder(void **state)
{
	static struct deadly_call calls[] = {
		{ SYS_process_vm_writev, "process_vm_writev" },
		{ SYS_kexec_load, "kexec_load" },
		{ SYS_init_module, "init_module" },
		{ SYS_finit_module, "finit_module" },
		{ SYS_mount, "mount" },
		{ SYS_setns, "setns" },
		{ SYS_unshare, "unshare" },
		{ SYS_keyctl, "keyctl" },
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		{ SYS_ptrace, "ptrace" },
#endif
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		int status = in_child(child_dies, &calls[i]);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s: status 0x%x, not killed by SIGSYS", calls[i].name, status);
	}
}

struct waiting_thread {
	int pipe[2];
	int error;
};

static void *forbidden_later(void *context)
{
	struct waiting_thread *w = context;
	char byte;

	if (read(w->pipe[0], &byte, 1) == 1)
		w->error = mknod("/tmp/test_privilege_node", S_IFREG | 0600, 0) < 0 ? errno : 0;
	return NULL;
}

/* Threads that were there before are bound as well. */
static void child_binds_threads(void *context)
{
	struct waiting_thread w = { .error = -1 };
	pthread_t thread;

	CHECK(pipe(w.pipe) == 0 && pthread_create(&thread, NULL, forbidden_later, &w) == 0);
	filter(0);
	CHECK(write(w.pipe[1], "x", 1) == 1 && pthread_join(thread, NULL) == 0);
	CHECK(w.error == EPERM);
}

static void binds_every_thread(void **state)
{
	(void)state;
	run_child(child_binds_threads, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drops_to_a_user),
		cmocka_unit_test(stays_without_the_user),
		cmocka_unit_test(reports_what_is_missing),
		cmocka_unit_test(refuses_threads),
		cmocka_unit_test_setup_teardown(hands_files_over, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(lets_the_agent_work, folder_setup, folder_teardown),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(executes_when_asked),
		cmocka_unit_test(kills_an_intruder),
		cmocka_unit_test(binds_every_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
