/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations by io_uring, with nothing but its system calls: files, net PORT, hidden, overflow N, quiet, polled, race N; all in the working directory. Each line that is
 * printed, "OP RESULT REST", is what the ring returned, and what the kernel then says of what was made: the truth that the test compares with.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "race.h"

#define OP_FTRUNCATE 55 /* Linux 6.9 */
#define OP_BIND      56 /* Linux 6.11 */
#define OP_LISTEN    57
#define RING_SIZE    16384

static struct {
	int fd;
	unsigned flags;
	char *queue; /* both queues */
	struct io_uring_sqe *entries;
	struct io_uring_params p;
} ring;

static char name[256], names[2][256];

static void die(const char *what)
{
	perror(what);
	_exit(99);
}

static unsigned *word(uint32_t offset)
{
	return (unsigned *)(ring.queue + offset);
}

static void make_ring(unsigned size_asked, unsigned flags)
{
	size_t size;

	ring.p = (struct io_uring_params){ .flags = flags, .cq_entries = size_asked };
	ring.fd = (int)syscall(SYS_io_uring_setup, size_asked, &ring.p);
	if (ring.fd < 0)
		die("io_uring_setup");
	size = ring.p.sq_off.array + ring.p.sq_entries * sizeof(uint32_t); /* behind all results */
	ring.queue = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
	ring.entries = mmap(NULL, ring.p.sq_entries * sizeof *ring.entries, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
	if (ring.queue == MAP_FAILED || ring.entries == MAP_FAILED)
		die("mmap");
	printf("ring %d %u %u %u\n", ring.fd, ring.p.sq_entries, ring.p.cq_entries, flags);
}

static void put(const struct io_uring_sqe *sqe)
{
	unsigned tail = *word(ring.p.sq_off.tail), at = tail & *word(ring.p.sq_off.ring_mask);

	ring.entries[at] = *sqe;
	word(ring.p.sq_off.array)[at] = at;
	__atomic_store_n(word(ring.p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
}

static void enter(unsigned count, unsigned wait)
{
	unsigned flags = wait ? IORING_ENTER_GETEVENTS : 0;

	if (ring.p.flags & IORING_SETUP_SQPOLL)
		flags |= IORING_ENTER_SQ_WAKEUP;
	if (syscall(SYS_io_uring_enter, ring.fd, count, wait, flags, NULL, 0) != (long)count)
		die("io_uring_enter");
}

static void submit(const struct io_uring_sqe *sqe, unsigned wait)
{
	put(sqe);
	enter(1, wait);
}

static int result(void)
{
	unsigned head = *word(ring.p.cq_off.head);
	struct io_uring_cqe *all = (struct io_uring_cqe *)(ring.queue + ring.p.cq_off.cqes);
	int res;

	while (__atomic_load_n(word(ring.p.cq_off.tail), __ATOMIC_ACQUIRE) == head)
		sched_yield();
	res = all[head & *word(ring.p.cq_off.ring_mask)].res;
	__atomic_store_n(word(ring.p.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return res;
}

static int run(const char *what, struct io_uring_sqe sqe)
{
	int res;

	submit(&sqe, 1);
	res = result();
	printf("%s %s", what, res < 0 ? strerrorname_np(-res) : "-");
	return res;
}

static void end_line(int res)
{
	char link[64], path[4096] = "-";

	snprintf(link, sizeof link, "/proc/self/fd/%d", res);
	if (res >= 0 && readlink(link, path, sizeof path - 1) < 0)
		die("readlink");
	printf(" %s\n", path);
}

#define NAMED(operation, at, text, ...)                                                                                \
	((struct io_uring_sqe){ .opcode = (operation), .fd = (at), .addr = (uintptr_t)(text), __VA_ARGS__ })

static int open_file(const char *path, int flags)
{
	int fd = run("openat", NAMED(IORING_OP_OPENAT, AT_FDCWD, path, .len = 0640, .open_flags = (unsigned)flags));

	end_line(fd);
	return fd;
}

static void run_files(void)
{
	struct open_how how = { 0 };
	int folder, file = open_file("link/../link/file", O_CREAT | O_RDWR);

	open_file("none", O_RDONLY);
	run("mkdirat", NAMED(IORING_OP_MKDIRAT, AT_FDCWD, "made", .len = 0750));
	puts("");
	folder = open("made", O_RDONLY | O_DIRECTORY);
	run("symlinkat", NAMED(IORING_OP_SYMLINKAT, folder, "text of it", .addr2 = (uintptr_t) "symbolic"));
	puts("");
	run("linkat", NAMED(IORING_OP_LINKAT, AT_FDCWD, "real/file", .len = AT_FDCWD, .addr2 = (uintptr_t) "second",
			    .hardlink_flags = AT_SYMLINK_FOLLOW));
	puts("");
	run("renameat", NAMED(IORING_OP_RENAMEAT, AT_FDCWD, "second", .len = (unsigned)folder,
			      .addr2 = (uintptr_t) "third", .rename_flags = 1));
	puts("");
	run("unlinkat", NAMED(IORING_OP_UNLINKAT, folder, "third"));
	puts("");
	run("setxattr", NAMED(IORING_OP_SETXATTR, 0, "user.lu", .addr2 = (uintptr_t) "x", .len = 1,
			      .addr3 = (uintptr_t) "real/file", .xattr_flags = 1));
	puts("");
	run("fsetxattr", NAMED(IORING_OP_FSETXATTR, file, "user.lu2", .addr2 = (uintptr_t) "x", .len = 1));
	puts("");
	how.flags = O_CREAT | O_WRONLY;
	how.mode = 0604;
	end_line(run("openat2", NAMED(IORING_OP_OPENAT2, folder, "third", .len = sizeof how, .off = (uintptr_t)&how)));
	run("unlinkat", NAMED(IORING_OP_UNLINKAT, AT_FDCWD, "nothing", .unlink_flags = AT_REMOVEDIR));
	puts("");
	run("ftruncate", (struct io_uring_sqe){ .opcode = OP_FTRUNCATE, .fd = file, .off = 100 });
	puts("");
}

static void tell_ends(int fd)
{
	struct sockaddr_in own = { 0 }, peer = { 0 };
	socklen_t size = sizeof own;

	getsockname(fd, (struct sockaddr *)&own, &size);
	size = sizeof peer;
	getpeername(fd, (struct sockaddr *)&peer, &size);
	printf(" %u %u\n", ntohs(own.sin_port), ntohs(peer.sin_port));
}

static void run_net(int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(0x7f000001) };
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
	int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), fd;
	socklen_t size = sizeof any;

	fd = run("socket",
		 (struct io_uring_sqe){ .opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM | SOCK_CLOEXEC });
	printf(" %d\n", fd);
	run("connect", NAMED(IORING_OP_CONNECT, fd, &to, .off = sizeof to));
	tell_ends(fd);
	if (bind(server, (struct sockaddr *)&any, sizeof any) < 0 || listen(server, 3) < 0 ||
	    getsockname(server, (struct sockaddr *)&any, &size) < 0 ||
	    connect(client, (struct sockaddr *)&any, sizeof any) < 0)
		die("server");
	fd = run("accept",
		 (struct io_uring_sqe){ .opcode = IORING_OP_ACCEPT, .fd = server, .accept_flags = SOCK_CLOEXEC });
	tell_ends(fd);
	run("uring_cmd", (struct io_uring_sqe){ .opcode = IORING_OP_URING_CMD, .fd = fd, .cmd_op = 77 });
	puts("");
	any.sin_port = 0;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	run("bind", NAMED(OP_BIND, fd, &any, .addr2 = sizeof any));
	tell_ends(fd);
	run("listen", (struct io_uring_sqe){ .opcode = OP_LISTEN, .fd = fd, .len = 9 });
	tell_ends(fd);
}

/* Removes a file, and asks for no result of it. */
static void run_hidden_unlink(void)
{
	struct io_uring_sqe nop = { .opcode = IORING_OP_NOP },
			    hidden = NAMED(IORING_OP_UNLINKAT, AT_FDCWD, "real/hidden");

	hidden.flags = IOSQE_CQE_SKIP_SUCCESS;
	close(open("real/hidden", O_CREAT | O_WRONLY, 0600));
	submit(&hidden, 0);
	submit(&nop, 1);
	if (result() != 0)
		die("nop");
	while (access("real/hidden", F_OK) == 0)
		sched_yield();
}

/* One operation whose result the ring does post, after more of them than the agent waits for whose results found no room. */
static void run_overflow(unsigned count)
{
	const struct io_uring_sqe nop = { .opcode = IORING_OP_NOP }, refused = { .opcode = IORING_OP_ACCEPT, .fd = -1 };

	make_ring(RING_SIZE, IORING_SETUP_CQSIZE);
	for (unsigned i = 0; i < RING_SIZE; i++)
		put(&nop);
	enter(RING_SIZE, 0);
	for (unsigned i = 0; i < count; i++)
		put(&refused);
	enter(count, 0);
	usleep(1100000); /* requests that have waited for a second make room */
	make_ring(8, 0);
	open_file("real", O_RDONLY);
}

static void run_quiet(void)
{
	int fd = open("real/quiet", O_CREAT | O_RDWR, 0600);
	char text[16] = "quiet";

	for (int i = 0; i < 50; i++) {
		run("nop", (struct io_uring_sqe){ .opcode = IORING_OP_NOP });
		run("write", NAMED(IORING_OP_WRITE, fd, text, .len = 5));
		run("read", NAMED(IORING_OP_READ, fd, text, .len = 5));
		run("fsync", (struct io_uring_sqe){ .opcode = IORING_OP_FSYNC, .fd = fd });
		puts("");
	}
}

/* What was opened is told, and whether the memory had another name by then. */
static void run_race(long tries)
{
	struct race race = { .memory = name, .choices = { names[0], names[1] }, .bytes = 32 };
	unsigned long rewritten = 0;

	strcpy(names[0], "real/one");
	strcpy(names[1], "real/two");
	strcpy(name, names[0]);
	for (int i = 0; i < 2; i++)
		close(open(names[i], O_CREAT | O_WRONLY, 0600));
	race_begin(&race);
	for (long i = 0; i < tries; i++) {
		int fd = open_file(name, O_RDONLY);
		char link[64], path[4096] = "";

		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		if (fd >= 0 && readlink(link, path, sizeof path - 1) > 8)
			rewritten += memcmp(path + strlen(path) - 8, name, 8) != 0;
		close(fd);
		race_pause(i);
	}
	race_end(&race, rewritten);
}

int main(int n, char **words)
{
	const char *command = n > 1 ? words[1] : "";

	make_ring(8, !strcmp(command, "polled") ? IORING_SETUP_SQPOLL : 0);
	if (!strcmp(command, "files"))
		run_files();
	else if (!strcmp(command, "net") && n == 3)
		run_net(atoi(words[2]));
	else if (!strcmp(command, "hidden"))
		run_hidden_unlink();
	else if (!strcmp(command, "overflow") && n == 3)
		run_overflow((unsigned)atoi(words[2]));
	else if (!strcmp(command, "quiet"))
		run_quiet();
	else if (!strcmp(command, "polled"))
		open_file("real/polled", O_CREAT | O_RDWR);
	else if (!strcmp(command, "race") && n == 3)
		run_race(atol(words[2]));
	else
		return 2;
	return 0;
}
