/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking JVMs for their maps: real ones (rmiregistry, which runs until it is stopped), as root, as another user, and in mount
 * and pid namespaces of their own; and what must never be asked. Root is needed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "stacks/jvm.h"

#define NOBODY  65534u
#define SECONDS 60

struct place {
	unsigned uid;
	bool own_tmp, own_pids;
	const char *option; /* of the JVM */
};

static char registry[256];

static int find_registry(void **state)
{
	glob_t found;

	assert_int_equal(glob("/usr/lib/jvm/java-17-openjdk-*/bin/rmiregistry", 0, NULL, &found), 0);
	snprintf(registry, sizeof registry, "%s", found.gl_pathv[0]);
	globfree(&found);
	return 0;
}

static void must(bool holds)
{
	if (!holds)
		_exit(99);
}

/* The JVM's process, from fork to exec. */
static _Noreturn void become_jvm(const struct place *place)
{
	int nowhere = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (place->own_tmp) {
		must(unshare(CLONE_NEWNS) == 0);
		must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		must(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777") == 0);
	}
	must(chdir("/") == 0);
	if (place->uid)
		must(setgid(place->uid) == 0 && setuid(place->uid) == 0);
	for (int fd = 0; fd <= 2; fd++)
		dup2(nowhere, fd);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(registry, registry, "-J-Xmx48m", place->option ? place->option : "-J-XX:+UseSerialGC", "0", NULL);
	_exit(98);
}

static bool is_ready(int pid)
{
	struct jvm jvm;

	return jvm_look(pid, &jvm) == 0;
}

static void wait_for(bool (*condition)(int), int pid)
{
	for (int i = 0; i < SECONDS * 50; i++) {
		if (condition(pid))
			return;
		/* A grandchild is not ours to wait for. */
		assert_true(waitpid(pid, NULL, WNOHANG) <= 0);
		usleep(20000);
	}
	fail_msg("process %d is not ready after %d s", pid, SECONDS);
}

/* The only child of `pid`. */
static int child_of(int pid)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		text[0] = '\0';
	close(fd);
	return atoi(text);
}

static bool has_child(int pid)
{
	return child_of(pid) > 0;
}

struct started {
	int parent, pid; /* what to end; the JVM */
};

static struct started jvm_start(const struct place *place)
{
	struct started s = { .parent = fork() };

	assert_true(s.parent >= 0);
	if (s.parent == 0) {
		/* The first process of a new pid namespace is the one that is made next. */
		if (place->own_pids) {
			int status;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			must(unshare(CLONE_NEWPID) == 0);
			if (fork() == 0)
				become_jvm(place);
			wait(&status);
			_exit(0);
		}
		become_jvm(place);
	}
	s.pid = s.parent;
	if (place->own_pids) {
		wait_for(has_child, s.parent);
		s.pid = child_of(s.parent);
	}
	return s;
}

static void jvm_end(const struct started *s)
{
	char path[64];

	snprintf(path, sizeof path, "/tmp/.java_pid%d", s->pid);
	unlink(path);
	kill(s->pid, SIGKILL);
	kill(s->parent, SIGKILL);
	assert_int_equal(waitpid(s->parent, NULL, 0), s->parent);
}

/* jvm_attach() in a process of its own. */
static int attach(int pid, int wait_ms)
{
	int status, child = fork();

	assert_true(child >= 0);
	if (child == 0)
		_exit(-jvm_attach(pid, wait_ms));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

/* The lines of the map, and whether one of them is a name of the JVM's. Removes it. */
static unsigned map_lines(int pid, int ns_pid, unsigned uid)
{
	char path[96], line[1024];
	unsigned n = 0, named = 0;
	struct stat st;
	FILE *map;

	snprintf(path, sizeof path, "/proc/%d/root/tmp/perf-%d.map", pid, ns_pid);
	map = fopen(path, "r");
	if (!map)
		return 0;
	assert_int_equal(fstat(fileno(map), &st), 0);
	assert_int_equal(st.st_uid, uid);
	while (fgets(line, sizeof line, map)) {
		n++;
		named += strstr(line, "java.") != NULL || strstr(line, "StubRoutines") != NULL ||
			 strstr(line, "Interpreter") != NULL;
	}
	fclose(map);
	unlink(path);
	assert_true(named > 0);
	return n;
}

static unsigned triggers(int pid, int ns_pid)
{
	char path[96];
	unsigned n = 0;

	snprintf(path, sizeof path, "/proc/%d/root/tmp/.attach_pid%d", pid, ns_pid);
	n += access(path, F_OK) == 0;
	snprintf(path, sizeof path, "/proc/%d/cwd/.attach_pid%d", pid, ns_pid);
	return n + (access(path, F_OK) == 0);
}

static void check_jvm(const struct place *place)
{
	struct started s = jvm_start(place);
	struct jvm jvm;

	wait_for(is_ready, s.pid);
	assert_int_equal(jvm_look(s.pid, &jvm), 0);
	assert_int_equal(jvm.uid, place->uid);
	assert_int_equal(jvm.gid, place->uid);
	assert_int_equal(jvm.ns_pid, place->own_pids ? 1 : s.pid);
	/* The first opens the socket, the second finds it. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(attach(s.pid, 20000), 0);
		assert_true(map_lines(s.pid, jvm.ns_pid, place->uid) > 50);
		assert_int_equal(triggers(s.pid, jvm.ns_pid), 0);
	}
	jvm_end(&s);
}

/* ---- tests ---- */

static void a_jvm_of_root_writes_its_map(void **state)
{
	check_jvm(&(struct place){ 0 });
}

/* It may not write into its working directory, /: the trigger is in /tmp. */
static void a_jvm_of_another_user_writes_its_map(void **state)
{
	check_jvm(&(struct place){ .uid = NOBODY });
}

static void a_jvm_in_a_container_writes_its_map(void **state)
{
	check_jvm(&(struct place){ .uid = NOBODY, .own_tmp = true, .own_pids = true });
}

static int bystander(void)
{
	int pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGQUIT, SIG_DFL);
		for (;;)
			pause();
	}
	return pid;
}

static void others_are_left_alone(void **state)
{
	int pid = bystander(), status;
	struct jvm jvm;

	assert_int_equal(jvm_look(pid, &jvm), -ENOEXEC);
	assert_int_equal(attach(pid, 1000), -ENOEXEC);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(attach(pid, 1000), -ESRCH);
	assert_int_equal(attach(0, 1000), -ESRCH);
	assert_int_equal(attach(-1, 1000), -ESRCH);
	assert_int_equal(attach(1, 1000), -ESRCH);
	assert_int_equal(attach(INT32_MAX, 1000), -ESRCH);
}

static bool maps_library(int pid)
{
	struct jvm jvm;
	int r = jvm_look(pid, &jvm);

	return r == 0 || r == -ENODEV;
}

/* SIGQUIT would kill the first; the second would write a dump of its threads and nothing else; the third has no names. */
static void a_jvm_that_cannot_be_asked_is_left_alone(void **state)
{
	static const char *const options[] = { "-J-Xrs", "-J-XX:+DisableAttachMechanism", "-J-Xint" };

	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		struct started s = jvm_start(&(struct place){ .option = options[i] });
		struct jvm jvm;

		wait_for(maps_library, s.pid);
		/* It has a thread that listens to signals by the time that it could be asked. */
		usleep(1000000);
		assert_int_equal(jvm_look(s.pid, &jvm), -ENODEV);
		assert_int_equal(attach(s.pid, 1000), -ENODEV);
		assert_int_equal(waitpid(s.pid, NULL, WNOHANG), 0);
		jvm_end(&s);
	}
}

static void a_stopped_jvm_times_out(void **state)
{
	struct started s = jvm_start(&(struct place){ 0 });
	struct jvm jvm;

	wait_for(is_ready, s.pid);
	assert_int_equal(jvm_look(s.pid, &jvm), 0);
	kill(s.pid, SIGSTOP);
	assert_int_equal(attach(s.pid, 300), -ETIMEDOUT);
	assert_int_equal(triggers(s.pid, jvm.ns_pid), 0);
	kill(s.pid, SIGCONT);
	jvm_end(&s);
}

/* Somebody else's socket under the JVM's name, or a link. */
static void an_impostor_is_not_believed(void **state)
{
	struct started s = jvm_start(&(struct place){ 0 });
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	wait_for(is_ready, s.pid);
	snprintf(address.sun_path, sizeof address.sun_path, "/tmp/.java_pid%d", s.pid);
	unlink(address.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(attach(s.pid, 2000), -EPERM);
	unlink(address.sun_path);
	assert_int_equal(symlink("/run/some.sock", address.sun_path), 0);
	assert_int_equal(attach(s.pid, 2000), -EPERM);
	unlink(address.sun_path);
	close(fd);
	jvm_end(&s);
}

/* It would write through the link, or into the other's file. */
static void a_map_that_is_not_its_own_is_not_written(void **state)
{
	const struct place place = { .uid = 12345 };
	struct started s = jvm_start(&place);
	char map[64], victim[64];
	struct stat st;
	int fd;

	wait_for(is_ready, s.pid);
	snprintf(map, sizeof map, "/tmp/perf-%d.map", s.pid);
	snprintf(victim, sizeof victim, "/tmp/victim-%d", s.pid);
	fd = open(victim, O_CREAT | O_WRONLY, 0666);
	assert_true(fd >= 0);
	assert_int_equal(fchown(fd, 12345, 12345), 0);
	assert_int_equal(symlink(victim, map), 0);
	assert_int_equal(attach(s.pid, 2000), -EPERM);
	unlink(map);
	assert_int_equal(link(victim, map), 0);
	assert_int_equal(attach(s.pid, 2000), -EPERM);
	unlink(map);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	unlink(victim);
	close(fd);
	assert_int_equal(attach(s.pid, 20000), 0);
	assert_true(map_lines(s.pid, s.pid, 12345) > 50);
	jvm_end(&s);
}

static int await_answer(struct jvm_keeper *k, int pid)
{
	struct pollfd p = { .fd = jvm_keeper_fd(k), .events = POLLIN };
	int from, result;

	assert_int_equal(poll(&p, 1, 30000), 1);
	assert_int_equal(jvm_keeper_answer(k, &from, &result), 0);
	assert_int_equal(from, pid);
	return result;
}

static void status_of(int pid, const char *key, char *room, size_t size)
{
	char path[64], line[256];
	FILE *status;

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	status = fopen(path, "r");
	assert_non_null(status);
	room[0] = '\0';
	while (fgets(line, sizeof line, status))
		if (strncmp(line, key, strlen(key)) == 0)
			snprintf(room, size, "%s", line + strlen(key));
	fclose(status);
}

static int keeper_pid(void)
{
	return child_of(getpid());
}

/* Setuid, setgid and ptrace are the bits 7, 6 and 19. */
static void the_keeper_asks_with_few_rights(void **state)
{
	struct jvm_keeper *k;
	struct started s;
	char text[64];
	int from, result, other = 0;

	assert_int_equal(jvm_keeper_start(&k, NOBODY), 0);
	assert_int_equal(jvm_keeper_answer(k, &from, &result), -EAGAIN);
	other = keeper_pid();
	/* It answers: so it is in its sandbox by now. */
	assert_int_equal(jvm_keeper_ask(k, INT32_MAX), 0);
	assert_int_equal(await_answer(k, INT32_MAX), -ESRCH);
	status_of(other, "CapEff:\t", text, sizeof text);
	assert_string_equal(text, "00000000000800c0\n");
	status_of(other, "CapBnd:\t", text, sizeof text);
	assert_string_equal(text, "00000000000800c0\n");
	status_of(other, "Seccomp:\t", text, sizeof text);
	assert_string_equal(text, "2\n");
	status_of(other, "Uid:\t", text, sizeof text);
	assert_string_equal(text, "65534\t65534\t65534\t65534\n");
	for (unsigned i = 0; i < 2; i++) {
		const unsigned uid = i ? 12345 : 0;
		const struct place place = { .uid = uid, .own_tmp = uid > 0 };

		s = jvm_start(&place);
		wait_for(is_ready, s.pid);
		assert_int_equal(jvm_keeper_ask(k, s.pid), 0);
		assert_int_equal(await_answer(k, s.pid), 0);
		assert_true(map_lines(s.pid, s.pid, uid) > 50);
		jvm_end(&s);
	}
	jvm_keeper_stop(k);
}

static void a_keeper_that_is_gone_is_noticed(void **state)
{
	struct jvm_keeper *k;
	int from, result;

	assert_int_equal(jvm_keeper_start(&k, NOBODY), 0);
	kill(keeper_pid(), SIGKILL);
	struct pollfd p = { .fd = jvm_keeper_fd(k), .events = POLLIN };

	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(jvm_keeper_answer(k, &from, &result), -EPIPE);
	assert_int_equal(jvm_keeper_ask(k, 2), -EPIPE);
	jvm_keeper_stop(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(others_are_left_alone),
		cmocka_unit_test(a_jvm_of_root_writes_its_map),
		cmocka_unit_test(a_jvm_of_another_user_writes_its_map),
		cmocka_unit_test(a_jvm_in_a_container_writes_its_map),
		cmocka_unit_test(a_jvm_that_cannot_be_asked_is_left_alone),
		cmocka_unit_test(a_stopped_jvm_times_out),
		cmocka_unit_test(an_impostor_is_not_believed),
		cmocka_unit_test(a_map_that_is_not_its_own_is_not_written),
		cmocka_unit_test(the_keeper_asks_with_few_rights),
		cmocka_unit_test(a_keeper_that_is_gone_is_noticed),
	};

	return cmocka_run_group_tests(tests, find_registry, NULL);
}
