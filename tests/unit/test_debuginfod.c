/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of stripped programs by debuginfod: elfutils' own server, and servers of this test that wait, never answer or send what they
 * should not. The program is compiled here, its symbols are taken out into a file of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/base.h"
#include "stacks/debuginfod.h"
#include "stacks/debuginfod_talk.h"
#include "stacks/symbols.h"

#define NOBODY      65534
#define WAIT_NS     (20 * NS_PER_SEC)
#define CACHE_BYTES (64u << 20)

static char folder[] = "/tmp/test_debuginfod.XXXXXX";

/* ---- programs ---- */

static void run(const char *format, ...)
{
	char command[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("%s", command);
}

struct program {
	char path[128], debug[160];
	uint8_t build_id[ELF_BUILD_ID_MAX];
	size_t id_length;
	int pid, in;
	uint64_t address;
};

static void read_build_id(struct program *p)
{
	_cleanup_(close_fd) int fd = open(p->path, O_RDONLY | O_CLOEXEC);
	struct elf_table head;
	struct stat st;

	assert_true(fd >= 0 && fstat(fd, &st) == 0);

	const struct elf_file file = { .fd = fd, .size = (uint64_t)st.st_size };

	assert_int_equal(elf_table_build(&file, &head, sizeof head), 0);
	p->id_length = head.build_id_length;
	memcpy(p->build_id, head.build_id, sizeof p->build_id);
	assert_int_equal(p->id_length, 20);
}

static void start_program(struct program *p)
{
	int to[2], from[2];
	char line[64] = "";

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	p->pid = fork();
	if (p->pid == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		execl(p->path, p->path, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	p->in = to[1];
	assert_true(read(from[0], line, sizeof line - 1) > 0);
	close(from[0]);
	p->address = strtoull(line, NULL, 16);
}

/* Prints where its function is, without a symbol for it, and waits for its input's end. Its debug file lies in NAME.d. */
static struct program make_program(const char *name)
{
	struct program p = { 0 };

	snprintf(p.path, sizeof p.path, "%s/%s", folder, name);
	snprintf(p.debug, sizeof p.debug, "%s.d/%s.debug", p.path, name);
	run("mkdir -p %s.d && printf '%%s' '#include <stdio.h>\n"
	    "const char own[] = \"%s\";\n"
	    "static __attribute__((noinline)) void known_place(void) { __asm__ volatile(\"nop;nop;nop\"); }\n"
	    "int main(void) { known_place(); printf(\"%%p\\n\", (void *)known_place); fflush(stdout);"
	    " return getchar() != EOF; }' | cc -g -x c - -Wl,--build-id -o %s"
	    " && objcopy --only-keep-debug %s %s && strip %s",
	    p.path, name, p.path, p.path, p.debug, p.path);
	read_build_id(&p);
	start_program(&p);
	return p;
}

static void end_program(struct program *p)
{
	close(p->in);
	waitpid(p->pid, NULL, 0);
}

/* ---- servers ---- */

struct shared {
	unsigned requests; /* that came */
	bool open;         /* answers may go out */
};

struct server {
	int pid, port;
	struct shared *shared;
	char url[64];
};

static int listen_anywhere(int *ret_port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (const struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

/* One request after the other is answered with the file, whatever is asked for; NULL: never. */
static void serve(int listener, struct shared *shared, const char *path)
{
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		char request[4096];
		FILE *out;

		if (read(fd, request, sizeof request) <= 0) {
			close(fd);
			continue;
		}
		__atomic_add_fetch(&shared->requests, 1, __ATOMIC_SEQ_CST);
		while (!path || !__atomic_load_n(&shared->open, __ATOMIC_SEQ_CST))
			usleep(1000);

		_cleanup_(free_pointer) char *text = NULL;
		size_t size;

		if (read_small_file(path, 64u << 20, &text, &size) < 0)
			_exit(1);
		out = fdopen(fd, "w");
		fprintf(out, "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n",
			size);
		fwrite(text, 1, size, out);
		fclose(out);
	}
}

static struct server start_server(const char *path, bool open)
{
	struct server s = { 0 };
	int listener = listen_anywhere(&s.port);

	s.shared = mmap(NULL, sizeof *s.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	s.shared->open = open;
	snprintf(s.url, sizeof s.url, "http://127.0.0.1:%d", s.port);
	s.pid = fork();
	if (s.pid == 0)
		serve(listener, s.shared, path);
	close(listener);
	return s;
}

static void end_server(struct server *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	if (s->shared)
		munmap(s->shared, sizeof *s->shared);
}

/* elfutils' server, once it has found the debug file. */
static struct server start_debuginfod(const struct program *p)
{
	struct server s = { 0 };
	char port[8], database[128], scanned[160], id[2 * ELF_BUILD_ID_MAX + 1];

	close(listen_anywhere(&s.port));
	snprintf(port, sizeof port, "%d", s.port);
	snprintf(s.url, sizeof s.url, "http://127.0.0.1:%d", s.port);
	snprintf(database, sizeof database, "%s.sqlite", p->path);
	snprintf(scanned, sizeof scanned, "%s.d", p->path);
	for (size_t i = 0; i < p->id_length; i++)
		snprintf(id + 2 * i, 3, "%02x", p->build_id[i]);
	s.pid = fork();
	if (s.pid == 0) {
		int nowhere = open("/dev/null", O_RDWR);

		dup2(nowhere, 1);
		dup2(nowhere, 2);
		unsetenv("DEBUGINFOD_URLS");
		execlp("debuginfod", "debuginfod", "-F", "-t", "0", "-p", port, "-d", database, scanned, (char *)NULL);
		_exit(127);
	}
	run("for i in $(seq 200); do curl -fso /dev/null %s/buildid/%s/debuginfo && exit 0; sleep 0.1; done; exit 1",
	    s.url, id);
	return s;
}

/* ---- symbols ---- */

static char cache[160];

/* A cache of its own for each, unless it is to be that of the one before. */
static void new_cache(void)
{
	static unsigned number;

	snprintf(cache, sizeof cache, "%s/cache%u/debuginfod", folder, number++);
}

static struct debuginfod_options options_for(const char *const *url, unsigned timeout_s)
{
	return (struct debuginfod_options){ .urls = url,
					    .n_urls = 1,
					    .cache = cache,
					    .cache_bytes = CACHE_BYTES,
					    .timeout_s = timeout_s,
					    .uid = geteuid() == 0 ? NOBODY : 0 };
}

static struct symbols *open_symbols(const char *url, unsigned timeout_s)
{
	struct symbols_options options = { .cache_bytes = 8u << 20,
					   .worker_bytes = 16u << 20,
					   .worker_uid = geteuid() == 0 ? NOBODY : 0,
					   .debuginfod = options_for(&url, timeout_s),
					   .no_events = geteuid() != 0 };
	struct symbols *s = NULL;
	struct fault fault = { 0 };

	if (symbols_open(&s, &options, &fault) < 0 || symbols_debuginfod(s, &fault) < 0)
		fail_msg("%s", fault.text);
	return s;
}

static void turn(struct symbols *s)
{
	struct pollfd fd = { .fd = symbols_fd(s), .events = POLLIN };

	poll(&fd, 1, 20);
	symbols_answer(s);
}

static void take_place(void *context, const struct stack_frames *frames)
{
	assert_int_equal(frames->count, 1);
	*(struct stack_frame *)context = frames->frames[0];
}

static struct stack_frame place_in(struct symbols *s, const struct program *p)
{
	struct sonde_stack stack = { .flags = SONDE_STACK_USER };
	struct stack_frame place = { .file = UINT64_MAX };
	uint64_t until = now_boottime_ns() + WAIT_NS;

	stack.registers[SONDE_REGISTER_PC] = p->address;
	assert_int_equal(symbols_unwind(s, p->pid, now_boottime_ns(), &stack, sizeof stack, take_place, &place), 0);
	while (place.file == UINT64_MAX && now_boottime_ns() < until)
		turn(s);
	assert_int_not_equal(place.file, UINT64_MAX);
	return place;
}

/* The first text that waiting cannot better. */
static const char *final_text(struct symbols *s, const struct stack_frame *place)
{
	static char text[1024];
	uint64_t until = now_boottime_ns() + WAIT_NS;
	struct symbols_frame frame;

	do {
		symbols_user_frame(s, place, &frame);
		snprintf(text, sizeof text, "%s", frame.text);
		if (frame.final)
			return text;
		turn(s);
	} while (now_boottime_ns() < until);
	fail_msg("no final text, so far '%s'", text);
	return NULL;
}

static bool is_named(const char *text)
{
	return !strncmp(text, "known_place+0x0 (", strlen("known_place+0x0 ("));
}

static bool is_offset(const char *text, const struct program *p)
{
	const char *name = strrchr(p->path, '/') + 1;

	return !strncmp(text, name, strlen(name)) && !strncmp(text + strlen(name), "+0x", 3) && strchr(text, '[');
}

/* As the agent's rounds do: it is asked for again and again, and has a name in the end. */
static void await_name(struct symbols *s, const struct stack_frame *place)
{
	uint64_t until = now_boottime_ns() + WAIT_NS;

	while (!is_named(final_text(s, place)))
		if (now_boottime_ns() > until)
			fail_msg("still %s", final_text(s, place));
		else
			turn(s);
}

static void assert_stays_offset(struct symbols *s, const struct program *p, uint64_t ns)
{
	struct stack_frame place = place_in(s, p);
	uint64_t until = now_boottime_ns() + ns;

	do {
		if (!is_offset(final_text(s, &place), p))
			fail_msg("%s", final_text(s, &place));
		turn(s);
	} while (now_boottime_ns() < until);
}

/* ---- the helper ---- */

static int helper_pid(void)
{
	char path[64], comm[32];
	int pid = 0;
	FILE *children;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
	children = fopen(path, "r");
	assert_non_null(children);
	while (fscanf(children, "%d", &pid) == 1) {
		FILE *file;

		snprintf(path, sizeof path, "/proc/%d/comm", pid);
		file = fopen(path, "r");
		if (!file || fscanf(file, "%31s", comm) != 1)
			comm[0] = '\0';
		close_file(&file);
		if (!strcmp(comm, "sonde-debuginfo"))
			break;
		pid = 0;
	}
	fclose(children);
	assert_true(pid > 0);
	return pid;
}

static void assert_status(int pid, const char *want)
{
	char path[64];
	_cleanup_(free_pointer) char *text = NULL;
	size_t size;

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	assert_int_equal(read_small_file(path, 1u << 16, &text, &size), 0);
	if (!strstr(text, want))
		fail_msg("not '%s' in\n%s", want, text);
}

/* ---- tests ---- */

static void elfutils_server_names_a_program(void **state)
{
	struct program p = make_program("real");
	struct server server = start_debuginfod(&p);
	struct symbols *s;
	struct stack_frame place;
	uint64_t began;
	int helper;

	new_cache();
	s = open_symbols(server.url, 10);
	helper = helper_pid();
	began = now_boottime_ns();
	place = place_in(s, &p);
	await_name(s, &place);
	print_message("named after %.0f ms\n", (double)(now_boottime_ns() - began) / 1e6);
	assert_status(helper, "\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n");
	assert_status(helper, "\nNoNewPrivs:\t1\n");
	assert_status(helper, "\nSeccomp:\t2\n");
	if (geteuid() == 0) {
		assert_status(helper, "\nUid:\t65534\t65534\t65534\t65534\n");
		assert_status(helper, "\nGroups:\t \n");
	}
	symbols_close(s);
	end_server(&server);

	/* The cache has it for the next run, which has no server. */
	s = open_symbols(server.url, 10);
	place = place_in(s, &p);
	await_name(s, &place);
	symbols_close(s);
	end_program(&p);
}

static void frames_go_out_with_offsets_until_the_file_came(void **state)
{
	struct program p = make_program("late");
	struct server server = start_server(p.debug, false);
	struct stack_frame place, again;
	struct symbols *s;

	new_cache();
	s = open_symbols(server.url, 60);
	assert_stays_offset(s, &p, NS_PER_SEC / 2);
	assert_int_equal(__atomic_load_n(&server.shared->requests, __ATOMIC_SEQ_CST), 1);
	__atomic_store_n(&server.shared->open, true, __ATOMIC_SEQ_CST);
	place = place_in(s, &p);
	await_name(s, &place);

	/* The same build in another file: it has its name at once, and nobody is asked again. */
	struct program copy = p;

	snprintf(copy.path, sizeof copy.path, "%s/copy", folder);
	run("cp %s %s", p.path, copy.path);
	start_program(&copy);
	again = place_in(s, &copy);
	assert_true(is_named(final_text(s, &again)));
	assert_int_equal(__atomic_load_n(&server.shared->requests, __ATOMIC_SEQ_CST), 1);
	end_program(&copy);
	symbols_close(s);
	end_server(&server);
	end_program(&p);
}

#ifdef __SANITIZE_THREAD__ /* its runtime ends a process when it likes */
#define END_NS (5 * NS_PER_SEC)
#else
#define END_NS NS_PER_SEC
#endif

static void a_server_that_never_answers_holds_nothing_up(void **state)
{
	struct program p = make_program("hang");
	struct server server = start_server(NULL, false);
	struct symbols *s;
	uint64_t began;

	new_cache();
	s = open_symbols(server.url, 60);
	assert_stays_offset(s, &p, NS_PER_SEC);
	assert_int_equal(__atomic_load_n(&server.shared->requests, __ATOMIC_SEQ_CST), 1);
	began = now_boottime_ns();
	symbols_close(s);
	assert_true(now_boottime_ns() - began < END_NS);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), 0); /* the server and the program run, nothing of ours is left */
	end_server(&server);
	end_program(&p);
}

/* Takes what was asked for from the helper until it is settled. */
static int await_file(struct debuginfod *d, const struct program *p)
{
	uint64_t until = now_boottime_ns() + WAIT_NS, size;
	int fd, r;

	while ((r = debuginfod_get(d, p->build_id, p->id_length, &fd, &size)) == -EAGAIN && now_boottime_ns() < until) {
		struct pollfd poll_fd = { .fd = debuginfod_fd(d), .events = POLLIN };

		poll(&poll_fd, 1, 100);
		debuginfod_take(d);
	}
	if (r == 0)
		close(fd);
	return r;
}

static struct debuginfod *start_helper(const char *url, unsigned timeout_s)
{
	const struct debuginfod_options options = options_for(&url, timeout_s);
	struct debuginfod *d = NULL;
	struct fault fault = { 0 };

	assert_int_equal(debuginfod_start(&d, &options), 0);
	if (debuginfod_ready(d, 10000, &fault) < 0)
		fail_msg("%s", fault.text);
	return d;
}

/* Whatever is no file of this build is neither taken nor kept, and asked for once. */
static void assert_is_refused(const struct program *p, const char *sent)
{
	struct server server = start_server(sent, true);
	struct debuginfod *d;

	new_cache();
	d = start_helper(server.url, 10);
	assert_int_equal(await_file(d, p), -ENOENT);
	assert_int_equal(await_file(d, p), -ENOENT);
	assert_int_equal(__atomic_load_n(&server.shared->requests, __ATOMIC_SEQ_CST), 1);
	run("test -z \"$(find %s -mindepth 2 -type f -size +0)\"", cache);
	debuginfod_stop(d);

	struct symbols *s = open_symbols(server.url, 10);

	assert_stays_offset(s, p, NS_PER_SEC / 2);
	symbols_close(s);
	end_server(&server);
}

static void rubbish_is_refused(void **state)
{
	struct program p = make_program("rubbish"), other = make_program("other");
	char path[160];

	snprintf(path, sizeof path, "%s/noise", folder);
	run("head -c 100000 /dev/urandom > %s", path);
	assert_is_refused(&p, path);
	run("head -c 1000 %s > %s", p.debug, path);
	assert_is_refused(&p, path);
	assert_is_refused(&p, other.debug);
	end_program(&other);
	end_program(&p);
}

static void a_file_too_large_is_refused(void **state)
{
	struct program p = make_program("large");
	char path[160];

	snprintf(path, sizeof path, "%s/huge", folder);
	run("cp %s %s && truncate -s %u %s", p.debug, path, CACHE_BYTES / DEBUGINFOD_PART + 4096, path);
	assert_is_refused(&p, path);
	end_program(&p);
}

static void without_a_server_there_are_offsets(void **state)
{
	struct program p = make_program("alone");
	char url[64];
	int port;
	struct symbols *s;

	close(listen_anywhere(&port));
	snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
	new_cache();
	s = open_symbols(url, 10);
	assert_stays_offset(s, &p, NS_PER_SEC / 2);
	symbols_close(s);
	end_program(&p);
}

static void questions_that_wait_are_bounded(void **state)
{
	struct server server = start_server(NULL, false);
	struct debuginfod *d;
	uint8_t id[20] = { 0 };
	uint64_t size;
	int fd;

	new_cache();
	d = start_helper(server.url, 60);
	/* One is with the helper, 64 wait. */
	for (unsigned i = 0; i < 80; i++) {
		id[0] = (uint8_t)i;
		assert_int_equal(debuginfod_get(d, id, sizeof id, &fd, &size), i < 65 ? -EAGAIN : -EBUSY);
		assert_int_equal(debuginfod_get(d, id, sizeof id, &fd, &size), i < 65 ? -EAGAIN : -EBUSY);
	}
	assert_int_equal(debuginfod_get(d, id, 4, &fd, &size), -ENOENT);
	assert_int_equal(debuginfod_get(d, id, ELF_BUILD_ID_MAX + 1, &fd, &size), -ENOENT);
	debuginfod_stop(d);
	end_server(&server);
}

static void a_helper_that_is_gone_is_noticed(void **state)
{
	struct program p = make_program("gone");
	struct server server = start_server(NULL, false);
	struct symbols *s;
	struct fault fault = { 0 };

	new_cache();
	s = open_symbols(server.url, 60);
	assert_stays_offset(s, &p, NS_PER_SEC / 10);
	kill(helper_pid(), SIGKILL);
	assert_stays_offset(s, &p, NS_PER_SEC / 2);
	assert_int_equal(symbols_debuginfod(s, &fault), -EPIPE);
	assert_non_null(strstr(fault.text, "ended"));
	symbols_close(s);
	end_server(&server);
	end_program(&p);
}

/* In a mount namespace where the library is an empty file. */
static void run_without_library(const char *library)
{
	const char *url = "http://127.0.0.1:1";
	const struct debuginfod_options options = options_for(&url, 10);
	struct debuginfod *d = NULL;
	struct fault fault = { 0 };
	uint8_t id[20] = { 0 };
	uint64_t size;
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("/dev/null", library, NULL, MS_BIND, NULL) < 0)
		_exit(2);
	if (debuginfod_start(&d, &options) < 0 || debuginfod_ready(d, 10000, &fault) != -EPIPE)
		_exit(3);
	if (!strstr(fault.text, "libdebuginfod.so.1 cannot be loaded; install it"))
		_exit(4);
	if (debuginfod_get(d, id, sizeof id, &fd, &size) != -ENOENT || debuginfod_fd(d) != -1)
		_exit(5);
	debuginfod_stop(d);
	_exit(0);
}

static void without_the_library_it_says_so(void **state)
{
	char path[256] = "";
	FILE *list = popen("ldconfig -p | sed -n 's/.*libdebuginfod.so.1 .*=> //p' | head -n 1", "r");
	int pid, status;

	assert_non_null(list);
	assert_non_null(fgets(path, sizeof path, list));
	pclose(list);
	path[strcspn(path, "\n")] = '\0';
	new_cache();
	pid = fork();
	if (pid == 0)
		run_without_library(path);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_cache_that_cannot_be_made_is_said(void **state)
{
	const char *url = "http://127.0.0.1:1";
	struct debuginfod_options options = options_for(&url, 10);
	struct debuginfod *d = NULL;
	struct fault fault = { 0 };

	options.cache = "/proc/none/debuginfod";
	assert_int_equal(debuginfod_start(&d, &options), 0);
	assert_int_equal(debuginfod_ready(d, 10000, &fault), -EPIPE);
	assert_non_null(strstr(fault.text, "cache /proc/none/debuginfod cannot be made"));
	debuginfod_stop(d);
}

static void the_cache_stays_within_its_bound(void **state)
{
	new_cache();
	/* Ten files of 1 MiB, used one after the other, and the library's own settings. */
	run("mkdir -p %s && cd %s && echo 1 > max_unused_age_s && for i in 0 1 2 3 4 5 6 7 8 9; do"
	    " d=000000000000000000000000000000000000000$i; mkdir $d; head -c 1048576 /dev/zero > $d/debuginfo;"
	    " touch -a -d \"2099-01-01 00:00:0$i\" $d/debuginfo; done",
	    cache, cache);
	assert_int_equal(debuginfod_bound_cache(cache, 16u << 20), 0);
	run("test $(ls %s/*/debuginfo | wc -l) = 10", cache);
	assert_int_equal(debuginfod_bound_cache(cache, (4u << 20) + 65536), 0);
	run("test \"$(cd %s && echo *)\" = \"$(for i in 6 7 8 9; do printf 000000000000000000000000000000000000000$i' "
	    "'; "
	    "done)max_unused_age_s\"",
	    cache);
	assert_int_equal(debuginfod_bound_cache(cache, 0), 0);
	run("test \"$(cd %s && echo *)\" = max_unused_age_s", cache);
	assert_int_equal(debuginfod_bound_cache("/nowhere", 0), -ENOENT);
}

static int make_folder(void **state)
{
	/* The helper's user shall get through. */
	return mkdtemp(folder) && chmod(folder, 0755) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
	run("rm -rf %s", folder);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elfutils_server_names_a_program),
		cmocka_unit_test(frames_go_out_with_offsets_until_the_file_came),
		cmocka_unit_test(a_server_that_never_answers_holds_nothing_up),
		cmocka_unit_test(rubbish_is_refused),
		cmocka_unit_test(a_file_too_large_is_refused),
		cmocka_unit_test(without_a_server_there_are_offsets),
		cmocka_unit_test(questions_that_wait_are_bounded),
		cmocka_unit_test(a_helper_that_is_gone_is_noticed),
		cmocka_unit_test(without_the_library_it_says_so),
		cmocka_unit_test(a_cache_that_cannot_be_made_is_said),
		cmocka_unit_test(the_cache_stays_within_its_bound),
	};

	/* As the agent's main() does. */
	if (debuginfod_is_helper(argc, argv))
		return debuginfod_helper(argv);
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
