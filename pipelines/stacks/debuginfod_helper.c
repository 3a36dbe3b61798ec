/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that asks debuginfod, see debuginfod.h. It begins as root with an empty memory: makes its cache, loads the library,
 * becomes its user, gives up the rest, and says that it can work. Then it answers one question after the other. What a server sent is
 * handed over only when its build id is the one that was asked for: all else is removed, so that it is not kept either.
 *
 * A second thread waits for the end of the agent's socket and ends the process, whatever the first one is waiting for.
 */
#include "stacks/debuginfod.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "stacks/debuginfod_talk.h"

#define LIBRARY     "libdebuginfod.so.1"
#define DATA_BYTES  (256u << 20) /* of memory, more than it ever needs */
#define WATCH_STACK (128u << 10)

/* Of elfutils/debuginfod.h, which need not be there when this is built. */
struct library {
	void *(*begin)(void);
	int (*find)(void *client, const unsigned char *build_id, int length, char **ret_path);
	void (*end)(void *client);
};

/* An unprivileged user's process has nobody to signal, trace or become: the worker may have the same user. */
static const int denied[] = {
	SCMP_SYS(kill),
	SCMP_SYS(tkill),
	SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigqueueinfo),
	SCMP_SYS(rt_tgsigqueueinfo),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	SCMP_SYS(mount),
	SCMP_SYS(chroot),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(keyctl),
};

/* ---- beginning ---- */

/* The folder above it is for all that sonde keeps, and stays the agent's. */
static int make_cache(const char *path, unsigned uid)
{
	char above[PATH_MAX];
	_cleanup_(close_fd) int fd = -1;
	struct stat st;
	char *slash;

	if ((size_t)snprintf(above, sizeof above, "%s", path) >= sizeof above)
		return -ENAMETOOLONG;
	slash = strrchr(above, '/');
	if (slash && slash > above) {
		*slash = '\0';
		if (mkdir(above, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid == (uid ? uid : geteuid()) && (st.st_mode & 07777) == 0700)
		return 0;
	/* The mode is the owner's to change, where root may not do all. */
	if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, 0700) < 0 || (uid && fchown(fd, uid, uid) < 0))
		return -errno;
	return 0;
}

static bool load(struct library *ret)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return false;
	ret->begin = (void *(*)(void))dlsym(library, "debuginfod_begin");
	ret->find = (int (*)(void *, const unsigned char *, int, char **))dlsym(library, "debuginfod_find_debuginfo");
	ret->end = (void (*)(void *))dlsym(library, "debuginfod_end");
	return ret->begin && ret->find && ret->end;
}

static int limit_resources(uint64_t file_bytes)
{
	const struct {
		__rlimit_resource_t resource;
		rlim_t value;
	} limits[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_NOFILE, 64 },
		{ RLIMIT_FSIZE, file_bytes },
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		{ RLIMIT_DATA, DATA_BYTES },
#endif
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit limit = { limits[i].value, limits[i].value };

		if (setrlimit(limits[i].resource, &limit) < 0)
			return -errno;
	}
	return 0;
}

static void close_filter(scmp_filter_ctx *filter)
{
	if (*filter)
		seccomp_release(*filter);
}

static int enter_filter(void)
{
	_cleanup_(close_filter) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(denied) && r == 0; i++)
		/* Negative numbers are other architectures' calls. */
		if (denied[i] >= 0)
			r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
	return r == 0 ? seccomp_load(filter) : r;
}

/* Before there is a second thread. */
static int give_up(unsigned uid, uint64_t file_bytes)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };
	int r = limit_resources(file_bytes);

	if (r < 0)
		return r;
	for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	if (uid && (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, uid, uid, uid) < 0 ||
		    syscall(SYS_setresuid, uid, uid, uid) < 0))
		return -errno;
	if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	return enter_filter();
}

/* Whatever is under way: nobody waits for it any more. */
static void *watch(void *argument)
{
	struct pollfd p = { .fd = DEBUGINFOD_SOCKET, .events = POLLRDHUP };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	_exit(0);
}

static int start_watch(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int r;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, WATCH_STACK);
	r = pthread_create(&thread, &attributes, watch, NULL);
	pthread_attr_destroy(&attributes);
	return -r;
}

static int begin(struct library *library, unsigned uid, const char *cache, uint64_t bytes,
		 struct debuginfod_answer *say)
{
	int r = make_cache(cache, uid);

	if (r < 0) {
		snprintf(say->text, sizeof say->text, "its cache %.120s cannot be made: %s", cache, strerror(-r));
		return r;
	}
	if (!load(library)) {
		snprintf(say->text, sizeof say->text,
			 "%s cannot be loaded; install it (Debian: libdebuginfod1), or name no servers", LIBRARY);
		return -ENOENT;
	}
	r = give_up(uid, bytes / DEBUGINFOD_PART);
	if (r == 0)
		r = start_watch();
	if (r < 0)
		snprintf(say->text, sizeof say->text, "its helper cannot give up its rights: %s", strerror(-r));
	return r;
}

/* ---- asking ---- */

/* Whether a file is of the build that was asked for, and whole enough to have symbols. */
static bool is_of(int fd, const struct debuginfod_question *question)
{
	struct elf_header header;
	struct elf_table head;
	Elf64_Shdr section;
	struct stat st;
	struct elf_file file = { .fd = fd };

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	file.size = (uint64_t)st.st_size;
	return elf_table_build(&file, &head, sizeof head) == 0 && head.build_id_length == question->length &&
	       !memcmp(head.build_id, question->build_id, question->length) && elf_read_header(&file, &header) == 0 &&
	       elf_find_section(&file, &header, ".symtab", &section) == 0;
}

/* The descriptor, or a negative errno. The library's own may be writable: it is not handed out. */
static int fetch(const struct library *library, const struct debuginfod_question *question)
{
	const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
	_cleanup_(free_pointer) char *path = NULL;
	_cleanup_(close_fd) int fd = -1;
	void *client = library->begin();
	int file;

	if (!client)
		return -ENOMEM;
	fd = library->find(client, question->build_id, (int)question->length, &path);
	library->end(client);
	if (fd < 0)
		return fd;
	file = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (file < 0)
		return -EIO;
	if (!is_of(file, question)) {
		unlink(path);
		close(file);
		return -EBADMSG;
	}
	futimens(file, now);
	return file;
}

static void say(const struct debuginfod_answer *answer, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { .iov_base = (void *)answer, .iov_len = sizeof *answer };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof control.room;
		control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						   .cmsg_type = SCM_RIGHTS,
						   .cmsg_len = CMSG_LEN(sizeof fd) };
		memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	}
	if (sendmsg(DEBUGINFOD_SOCKET, &message, MSG_NOSIGNAL) < 0)
		_exit(0);
}

static _Noreturn void answer_all(const struct library *library, const char *cache, uint64_t bytes)
{
	for (;;) {
		struct debuginfod_question question;
		struct debuginfod_answer answer = { 0 };
		ssize_t n = recv(DEBUGINFOD_SOCKET, &question, sizeof question, 0);
		int fd;

		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof question || question.length > ELF_BUILD_ID_MAX)
			_exit(0);
		/* With room for what may come. */
		debuginfod_bound_cache(cache, bytes - bytes / DEBUGINFOD_PART);
		fd = fetch(library, &question);
		answer.error = MIN_OF(fd, 0);
		say(&answer, fd);
		close_fd(&fd);
	}
}

static void ignore_signals(void)
{
	/* The terminal's and the service manager's reach the whole group: it ends with the agent, not before. A file that becomes too
	 * large is an error of writing. */
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2, SIGXFSZ };

	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
}

bool debuginfod_is_helper(int argc, char **argv)
{
	return argc == DEBUGINFOD_ARGS && !strcmp(argv[0], DEBUGINFOD_HELPER);
}

int debuginfod_helper(char **argv)
{
	unsigned uid = (unsigned)strtoul(argv[DEBUGINFOD_ARG_UID], NULL, 10);
	uint64_t bytes = strtoull(argv[DEBUGINFOD_ARG_BYTES], NULL, 10);
	const char *cache = argv[DEBUGINFOD_ARG_CACHE];
	struct debuginfod_answer hello = { 0 };
	struct library library = { 0 };

	prctl(PR_SET_NAME, "sonde-debuginfo");
	ignore_signals();
	umask(0022);
	hello.error = begin(&library, uid, cache, bytes, &hello);
	say(&hello, -1);
	if (hello.error)
		_exit(1);
	answer_all(&library, cache, bytes);
}
