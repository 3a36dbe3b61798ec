/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's events against the kernel's own list: children of every kind read their own maps in /proc at a time they
 * note, and what spaces_find() says of that time must be the same, mapping for mapping, in both directions. As root.
 * The children are this program itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/perf_event.h>

#include "base/base.h"
#include "stacks/perf_events.h"
#include "stacks/spaces.h"

#define REPORT_FD  3   /* where a child writes what it read */
#define RING_PAGES 128 /* 2 000 mappings are 300 KiB */
#define GO_FD      4   /* a child that shall wait reads a byte from here */

/* ---- the children ---- */

/* A line "= PID TIME", then the lines of /proc/thread-self/maps (the process's own are gone with its first
 * thread). One write: several may report. */
static void report(void)
{
	static char text[1 << 20];
	int length = snprintf(text, sizeof text, "= %d %llu\n", getpid(), (unsigned long long)now_boottime_ns());
	int fd = open("/proc/thread-self/maps", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	while ((n = read(fd, text + length, sizeof text - (size_t)length)) > 0)
		length += (int)n;
	close(fd);
	if (write_all(REPORT_FD, text, (size_t)length) < 0)
		_exit(1);
}

static void *report_without_leader(void *leader)
{
	/* Joined: its exit is complete but for its being reaped. */
	pthread_join(*(pthread_t *)leader, NULL);
	report();
	exit(0);
}

static int child_leaves_its_thread(void)
{
	static pthread_t self;
	pthread_t other;

	self = pthread_self();
	if (pthread_create(&other, NULL, report_without_leader, &self))
		return 1;
	pthread_exit(NULL);
}

static void *exec_plain(void *context)
{
	report();
	execl("/proc/self/exe", "child", "--child", "plain", NULL);
	exit(1);
}

/* All other threads end, and the one that execs takes the first one's number. */
static int child_execs_in_a_thread(void)
{
	pthread_t other;

	if (pthread_create(&other, NULL, exec_plain, NULL))
		return 1;
	pthread_join(other, NULL);
	return 1;
}

static int child_dlopens(void)
{
	if (!dlopen("libresolv.so.2", RTLD_NOW))
		return 1;
	report();
	return 0;
}

static int child_forks(void)
{
	int status = 1, pid = fork();

	if (pid == 0) {
		/* One mapping of its own, so that the two differ. */
		if (mmap(NULL, 1 << 16, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
			_exit(1);
		report();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	report();
	return status != 0;
}

static char *map_self(int *ret_fd)
{
	*ret_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	return mmap(NULL, 9 << 12, PROT_READ | PROT_EXEC, MAP_PRIVATE, *ret_fd, 0);
}

/* The middle of a mapping gets another protection and back: one mapping as before. */
static int child_splits(void)
{
	int fd;
	char *at = map_self(&fd);

	mprotect(at + (2 << 12), 1 << 12, PROT_READ);
	mprotect(at + (2 << 12), 1 << 12, PROT_READ | PROT_EXEC);
	report();
	return 0;
}

/* Parts of a mapping are mapped over, by memory without a file and by another place of the same file. */
static int child_replaces(void)
{
	int fd;
	char *at = map_self(&fd);

	mmap(at + (3 << 12), 3 << 12, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(at + (7 << 12), 1 << 12, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0);
	report();
	return 0;
}

static int child_execs(const char *self)
{
	report();
	execl(self, self, "--child", "plain", NULL);
	return 1;
}

static int child_waits_and_execs(const char *self)
{
	char go;

	if (read(GO_FD, &go, 1) != 1)
		return 1;
	execl(self, self, "--child", "report-and-wait", NULL);
	return 1;
}

static int child_reports_and_waits(void)
{
	char go;

	report();
	return read(GO_FD, &go, 1) != 1;
}

static int child_waits(void)
{
	char go;

	if (read(GO_FD, &go, 1) != 1)
		return 1;
	report();
	return 0;
}

static int child_maps_many(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	/* The same page each time, so that neighbours do not become one. */
	for (unsigned i = 0; i < 2000; i++)
		if (mmap(NULL, 1 << 12, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED)
			return 1;
	report();
	return 0;
}

static int be_child(const char *self, const char *mode)
{
	if (!strcmp(mode, "plain")) {
		report();
		return 0;
	}
	if (!strcmp(mode, "dlopen"))
		return child_dlopens();
	if (!strcmp(mode, "fork"))
		return child_forks();
	if (!strcmp(mode, "exec"))
		return child_execs(self);
	if (!strcmp(mode, "exec-and-wait"))
		return child_waits_and_execs(self);
	if (!strcmp(mode, "report-and-wait"))
		return child_reports_and_waits();
	if (!strcmp(mode, "split"))
		return child_splits();
	if (!strcmp(mode, "replace"))
		return child_replaces();
	if (!strcmp(mode, "wait"))
		return child_waits();
	if (!strcmp(mode, "leader"))
		return child_leaves_its_thread();
	if (!strcmp(mode, "thread-exec"))
		return child_execs_in_a_thread();
	if (!strcmp(mode, "many"))
		return child_maps_many();
	return 2;
}

/* ---- the watcher ---- */

/* The one at work now. */
static struct {
	int pid, report, go;
	char text[1 << 21];
} child;

struct watch {
	struct perf_events *events;
	struct spaces *spaces;
	struct perf_events_handler handler;
	unsigned exits, forks, losses;
	uint64_t lost_since; /* the latest */
	uint64_t last;       /* time of the last event of this drain */
	unsigned child_exits, child_execs;
};

static void check_order(struct watch *w, uint64_t time)
{
	assert_true(time >= w->last);
	w->last = time;
}

static void on_map(void *context, const struct space_map_event *event)
{
	check_order(context, event->time);
	spaces_map(((struct watch *)context)->spaces, event);
}

static void on_exec(void *context, int pid, uint64_t time)
{
	struct watch *w = context;

	check_order(w, time);
	w->child_execs += pid == child.pid;
	spaces_exec(w->spaces, pid, time);
}

static void on_fork(void *context, int parent, int pid, uint64_t time)
{
	struct watch *w = context;

	check_order(w, time);
	w->forks++;
	spaces_fork(w->spaces, parent, pid, time);
}

static void on_exit_of(void *context, int pid, uint64_t time)
{
	struct watch *w = context;

	check_order(w, time);
	w->exits++;
	w->child_exits += pid == child.pid;
	spaces_exit(w->spaces, pid, time);
}

static void on_lost(void *context, uint64_t since, uint64_t until)
{
	struct watch *w = context;

	w->losses++;
	w->lost_since = MAX_OF(w->lost_since, since);
	assert_true(since <= until);
	spaces_lost(w->spaces, since, until);
}

static int set_up_with(void **state, unsigned pages)
{
	static struct watch w;
	struct spaces_options options = { .bytes = 4 << 20, .grace_ns = 60 * NS_PER_SEC };
	struct fault fault = { 0 };

	w = (struct watch){ .handler = { &w, on_map, on_exec, on_fork, on_exit_of, on_lost } };
	if (perf_events_open(&w.events, pages, &fault) < 0) {
		print_error("%s\n", fault.text);
		return -1;
	}
	*state = &w;
	return spaces_open(&w.spaces, &options);
}

static int set_up(void **state)
{
	return set_up_with(state, RING_PAGES);
}

static int set_up_small(void **state)
{
	return set_up_with(state, 1);
}

static int tear_down(void **state)
{
	struct watch *w = *state;

	perf_events_close(w->events);
	spaces_close(w->spaces);
	return 0;
}

static void drain_some(struct watch *w)
{
	w->last = 0;
	perf_events_drain(w->events, &w->handler);
	assert_true(w->last <= now_boottime_ns());
}

static void drain(struct watch *w)
{
	drain_some(w);
	assert_int_equal(perf_events_lost(w->events), 0);
}

/* `file` >= 0: executed by descriptor. */
static void start(const char *path, int file, const char *mode)
{
	char *const args[] = { (char *)"child", (char *)"--child", (char *)mode, NULL };
	int report_pipe[2], go_pipe[2];

	assert_int_equal(pipe2(report_pipe, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go_pipe, O_CLOEXEC), 0);
	child.pid = fork();
	if (child.pid == 0) {
		/* Not in each other's way. */
		int to = fcntl(report_pipe[1], F_DUPFD, 100), from = fcntl(go_pipe[0], F_DUPFD, 100);
		int exe = file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, 100);

		dup2(to, REPORT_FD);
		dup2(from, GO_FD);
		if (exe >= 0)
			fexecve(exe, args, environ);
		else
			execv(path, args);
		_exit(127);
	}
	close(report_pipe[1]);
	close(go_pipe[0]);
	child.report = report_pipe[0];
	child.go = go_pipe[1];
}

/* Reads what it reports to its end. */
static void collect(void)
{
	size_t length = 0;
	int status;
	ssize_t n;

	close(child.go);
	while ((n = read(child.report, child.text + length, sizeof child.text - 1 - length)) > 0)
		length += (size_t)n;
	child.text[length] = 0;
	close(child.report);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_int_equal(status, 0);
}

/* ---- comparing ---- */

static void without_deleted(char *path)
{
	char *end = strstr(path, " (deleted)");

	if (end)
		*end = 0;
}

static void same_mapping(struct watch *w, const struct space_mapping *m, const struct mapping *proc, const char *path)
{
	const struct space_file *file = spaces_file(w->spaces, m->file);
	char mine[4096], theirs[4096];

	if (proc->ino) {
		assert_non_null(file);
		assert_int_equal(m->offset + (proc->start - m->start), proc->offset);
		snprintf(mine, sizeof mine, "%s", file->path);
		snprintf(theirs, sizeof theirs, "%s", path);
		without_deleted(mine);
		without_deleted(theirs);
		assert_string_equal(mine, theirs);
		assert_true(file->build_id_length || (file->dev == proc->dev && file->ino == proc->ino));
	} else {
		assert_null(file);
		assert_string_equal(m->name, *path ? path : "//anon");
	}
}

static const struct space_mapping *mapping_at(const struct space *space, uint64_t address)
{
	for (uint32_t i = 0; i < space->n_mappings; i++)
		if (space->mappings[i].start <= address && address < space->mappings[i].end)
			return &space->mappings[i];
	return NULL;
}

/* One report: every executable mapping is in the space, and the space has no other bytes. Returns the text after it. */
static char *compare_one(struct watch *w, char *text, unsigned *ret_mappings)
{
	uint64_t covered = 0, known = 0;
	unsigned long long time;
	int pid;
	char *line, *next = text;

	assert_int_equal(sscanf(next, "= %d %llu\n", &pid, &time), 2);
	next = strchr(next, '\n') + 1;

	const struct space *space = spaces_find(w->spaces, pid, time);

	assert_non_null(space);
	assert_true(space->known);
	*ret_mappings = 0;
	while (*next && *next != '=') {
		const struct space_mapping *m;
		struct mapping proc;
		const char *path;

		line = next;
		next = strchr(line, '\n');
		*next++ = 0;
		if (!maps_parse_line(line, &proc, &path) || !strcmp(path, "[vsyscall]"))
			continue;
		m = mapping_at(space, proc.start);
		assert_non_null(m);
		assert_true(m->end >= proc.end);
		same_mapping(w, m, &proc, path);
		covered += proc.end - proc.start;
		++*ret_mappings;
	}
	for (uint32_t i = 0; i < space->n_mappings; i++)
		known += space->mappings[i].end - space->mappings[i].start;
	assert_int_equal(known, covered);
	return next;
}

static void compare_reports(struct watch *w, unsigned count, unsigned least_mappings)
{
	unsigned seen = 0, mappings;

	for (char *text = child.text; *text; seen++) {
		text = compare_one(w, text, &mappings);
		assert_true(mappings >= least_mappings);
	}
	assert_int_equal(seen, count);
}

static void run(struct watch *w, const char *mode, unsigned reports, unsigned least_mappings)
{
	w->child_exits = 0;
	start("/proc/self/exe", -1, mode);
	collect();
	drain(w);
	compare_reports(w, reports, least_mappings);
	assert_int_equal(w->child_exits, 1);
}

/* ---- tests ---- */

static void test_program_that_lives_a_moment(void **state)
{
	struct watch *w = *state;

	run(w, "plain", 1, 3);
	assert_int_not_equal(spaces_find(w->spaces, child.pid, now_boottime_ns())->end, 0);
}

static void test_dlopen(void **state)
{
	run(*state, "dlopen", 1, 5);
}

static void test_fork_without_exec(void **state)
{
	run(*state, "fork", 2, 3);
}

static void test_exec(void **state)
{
	run(*state, "exec", 2, 3);
}

static void test_mappings_split_and_joined(void **state)
{
	run(*state, "split", 1, 4);
}

static void test_mappings_mapped_over(void **state)
{
	run(*state, "replace", 1, 8);
}

static void test_two_thousand_mappings(void **state)
{
	run(*state, "many", 1, 2000);
}

__attribute__((unused)) static void test_process_whose_first_thread_ends_first(void **state)
{
	/* One end for two threads: run() looks. */
	run(*state, "leader", 1, 3);
}

static void test_exec_in_a_thread(void **state)
{
	run(*state, "thread-exec", 2, 3);
}

static void test_program_deleted_right_after_start(void **state)
{
	char path[] = "/tmp/sonde-test-XXXXXX";
	_cleanup_(close_fd) int to = mkostemp(path, O_CLOEXEC), from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct watch *w = *state;
	char buffer[1 << 16];
	ssize_t n;

	while ((n = read(from, buffer, sizeof buffer)) > 0)
		assert_int_equal(write_all(to, buffer, (size_t)n), 0);
	assert_int_equal(fchmod(to, 0700), 0);
	close_fd(&to);
	start(path, -1, "wait");
	/* It is running once the watcher has its exec. */
	while (!w->child_execs)
		drain(w);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(write(child.go, "g", 1), 1);
	collect();
	drain(w);
	assert_non_null(strstr(child.text, path));
	compare_reports(w, 1, 3);
}

static void test_program_in_memory(void **state)
{
	_cleanup_(close_fd) int memory = memfd_create("program", MFD_CLOEXEC);
	_cleanup_(close_fd) int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct watch *w = *state;
	char buffer[1 << 16];
	ssize_t n;

	while ((n = read(from, buffer, sizeof buffer)) > 0)
		assert_int_equal(write_all(memory, buffer, (size_t)n), 0);
	start(NULL, memory, "plain");
	collect();
	drain(w);
	compare_reports(w, 1, 3);
}

/* This test is older than its own events: its child's mappings are unknown until /proc is read of the one that
 * still lives. */
static void test_fork_of_a_process_older_than_the_agent(void **state)
{
	struct watch *w = *state;
	struct maps maps;
	int fds[2], pid;
	unsigned mappings;
	size_t length = 0;
	ssize_t n;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], REPORT_FD);
		if (fds[1] != REPORT_FD)
			close(fds[1]);
		report();
		_exit(0);
	}
	close(fds[1]);
	while ((n = read(fds[0], child.text + length, sizeof child.text - 1 - length)) > 0)
		length += (size_t)n;
	child.text[length] = 0;
	close(fds[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	drain(w);

	const struct space *space = spaces_find(w->spaces, pid, now_boottime_ns());

	assert_non_null(space);
	assert_false(space->known);
	assert_int_equal(space->source, getpid());

	assert_int_equal(maps_read(space->source, &maps), 0);
	/* The vsyscall page is in /proc only. */
	for (uint32_t i = 0; i < maps.count; i++)
		maps.count -= !strcmp(maps.text + maps.mappings[i].path, "[vsyscall]");
	spaces_give(w->spaces, getpid(), now_boottime_ns(), &maps);
	maps_free(&maps);
	compare_one(w, child.text, &mappings);
	assert_true(mappings >= 3);
}

static void test_readable_when_a_quarter_full(void **state)
{
	struct watch *w = *state;
	struct pollfd ready = { .fd = perf_events_fd(w->events), .events = POLLIN };
	unsigned children = 0;

	/* As many records as fit are in the rings before anything is read. */
	for (; poll(&ready, 1, 0) == 0 && children < 4000; children++) {
		int pid = fork();

		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	/* A fork and an exit are 128 bytes together, and 128 KiB are a quarter. */
	assert_true(children < 4000);
	drain(w);
	/* Other processes of the machine count, too. */
	assert_true(w->forks >= children);
	assert_true(w->exits >= children);
}

/* Disables the events behind the watcher's back, as a CPU that goes away does. */
static unsigned kill_events(void)
{
	unsigned killed = 0;

	for (int fd = 0; fd < 1024; fd++) {
		char path[40], target[64] = { 0 };

		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "[perf_event]"))
			killed += ioctl(fd, PERF_EVENT_IOC_DISABLE, 0) == 0;
	}
	return killed;
}

static void test_cpus_that_come_back(void **state)
{
	struct watch *w = *state;
	uint64_t bytes = perf_events_bytes(w->events);

	perf_events_follow(w->events);
	run(w, "plain", 1, 3);
	assert_true(kill_events() > 0);
	/* The first look finds them running until just now; they stand still from then on. */
	perf_events_follow(w->events);
	drain(w);
	perf_events_follow(w->events);
	perf_events_follow(w->events);
	assert_int_equal(perf_events_bytes(w->events), bytes);
	run(w, "exec", 2, 3);
}

/* While the rings are full a living process execs. What was known of it before is not taken for what it is now. */
static void test_exec_that_was_lost(void **state)
{
	struct watch *w = *state;
	struct maps maps;
	cpu_set_t all, one;
	uint64_t time;

	/* All on one CPU, so that it is this one's ring that is full. */
	assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	time = now_boottime_ns();
	start("/proc/self/exe", -1, "exec-and-wait");
	/* It is known. */
	while (!w->child_execs)
		drain_some(w);
	for (unsigned i = 0; i < 500; i++) {
		int pid = fork();

		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	assert_int_equal(write(child.go, "g", 1), 1);
	/* It has exec'd once its second program says so. */
	assert_int_equal(read(child.report, child.text, 1), 1);
	assert_int_equal(child.text[0], '=');
	/* Room again; the next record on each CPU is that of the loss. */
	for (unsigned i = 0; i < 1000 && perf_events_lost(w->events) < 500; i++) {
		int pid = fork();

		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
		drain_some(w);
	}
	assert_true(w->losses > 0);
	/* Nothing of before is in doubt. */
	assert_true(w->lost_since > time);
	assert_true(perf_events_lost(w->events) > 0);
	assert_int_equal(w->child_execs, 1);

	time = now_boottime_ns();
	assert_false(spaces_find(w->spaces, child.pid, time)->known);
	assert_int_equal(maps_read(child.pid, &maps), 0);
	spaces_give(w->spaces, child.pid, time, &maps);
	assert_true(spaces_find(w->spaces, child.pid, time)->known);
	assert_true(spaces_find(w->spaces, child.pid, time)->n_mappings >= 3);
	maps_free(&maps);
	assert_int_equal(write(child.go, "g", 1), 1);
	collect();
	assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void test_nothing_is_left_behind(void **state)
{
	_cleanup_(free_pointer) char *text = NULL;
	struct perf_events *events;
	size_t size;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(perf_events_open(&events, 1, NULL), 0);
		perf_events_close(events);
	}
	perf_events_close(NULL);
	assert_int_equal(read_small_file("/proc/self/maps", 1 << 20, &text, &size), 0);
	assert_null(strstr(text, "[perf_event]"));
	assert_int_equal(kill_events(), 0);
}

static void test_bad_sizes_are_refused(void **state)
{
	struct perf_events *events = NULL;
	struct fault fault = { 0 };

	assert_int_equal(perf_events_open(&events, 3, &fault), -EINVAL);
	assert_int_equal(perf_events_open(&events, 0, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "power of two"));
	assert_null(events);
}

int main(int argc, char **argv)
{
#define LIVE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		LIVE(test_program_that_lives_a_moment),
		LIVE(test_dlopen),
		LIVE(test_fork_without_exec),
		LIVE(test_exec),
		LIVE(test_mappings_split_and_joined),
		LIVE(test_mappings_mapped_over),
		LIVE(test_two_thousand_mappings),
#ifndef __SANITIZE_THREAD__ /* its runtime cannot fork in a program whose first thread is gone */
		LIVE(test_process_whose_first_thread_ends_first),
#endif
		LIVE(test_exec_in_a_thread),
		LIVE(test_program_deleted_right_after_start),
		LIVE(test_program_in_memory),
		LIVE(test_fork_of_a_process_older_than_the_agent),
		LIVE(test_readable_when_a_quarter_full),
		LIVE(test_cpus_that_come_back),
		cmocka_unit_test_setup_teardown(test_exec_that_was_lost, set_up_small, tear_down),
		cmocka_unit_test(test_nothing_is_left_behind),
		cmocka_unit_test(test_bad_sizes_are_refused),
	};

	if (argc == 3 && !strcmp(argv[1], "--child"))
		return be_child("/proc/self/exe", argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
