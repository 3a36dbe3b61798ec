/* SPDX-License-Identifier: Apache-2.0 */
/* The table of processes against what was told to it, and against /proc; names of users against the C library's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "identity/processes.h"
#include "identity/users.h"

#define BYTES (1u << 20)

static struct processes *table(size_t bytes)
{
	struct processes *p;

	assert_int_equal(processes_open(&p, bytes), 0);
	return p;
}

static void exec(struct processes *p, uint64_t proc, uint64_t parent, uint32_t pid, const char *comm, const char *args,
		 uint32_t args_length)
{
	struct process process = { .proc = proc,
				   .parent = parent,
				   .pid = pid,
				   .loginuid = -1,
				   .detailed = true,
				   .exe = "/usr/bin/program",
				   .exe_length = 16,
				   .cwd = "/",
				   .cwd_length = 1,
				   .args = args,
				   .args_length = args_length };

	snprintf(process.comm, sizeof process.comm, "%s", comm);
	processes_exec(p, &process);
}

static void expect_lineage(const struct processes *p, uint64_t parent, const char *names, size_t size)
{
	char room[LINEAGE_ROOM];

	assert_int_equal(processes_lineage(p, parent, room), size);
	assert_memory_equal(room, names, size);
}

static void test_life(void **state)
{
	struct processes *p = table(BYTES);
	struct processes_health health;

	exec(p, 10, 0, 1, "init", "init\0", 5);
	processes_fork(p, 10, 20, 2, 500);
	assert_string_equal(processes_find(p, 20)->comm, "init"); /* what its parent is */
	assert_int_equal(processes_find(p, 20)->exe_length, 16);
	assert_ptr_equal(processes_of_pid(p, 2), processes_find(p, 20));
	exec(p, 21, 10, 2, "sshd", "sshd\0-D\0", 8);
	assert_true(processes_find(p, 20)->ended);
	assert_ptr_equal(processes_of_pid(p, 2), processes_find(p, 21));
	assert_int_equal(processes_find(p, 21)->began, 500); /* the process is the same */
	processes_fork(p, 21, 30, 3, 600);
	exec(p, 31, 21, 3, "bash", "bash\0", 5);
	expect_lineage(p, 21, "sshd\0init\0", 10);
	expect_lineage(p, 31, "bash\0sshd\0init\0", 15);
	expect_lineage(p, 999, "", 0);
	processes_rename(p, 21, "sshd: session\0\0");
	expect_lineage(p, 21, "sshd: session\0init\0", 19);
	processes_exit(p, 21);
	expect_lineage(p, 31, "bash\0sshd: session\0init\0", 24); /* it stays for those that it made */
	processes_health(p, &health);
	assert_int_equal(health.held, 5);
	assert_int_equal(health.ended, 3);
	assert_int_equal(health.evicted + health.lost, 0);
	processes_close(p);
}

/* What a program's begin does not say stays as the process had it; what a fork does not inherit is not known. */
static void test_what_is_kept(void **state)
{
	struct processes *p = table(BYTES);
	struct process first = { .proc = 10,
				 .parent = 1,
				 .pid = 2,
				 .ns_pid = 5,
				 .sid = 100,
				 .pgid = 200,
				 .loginuid = 1000,
				 .detailed = true,
				 .exe = "",
				 .cwd = "",
				 .args = "a",
				 .args_length = 1 };
	const struct process *found;

	processes_exec(p, &first);
	exec(p, 11, 1, 2, "second", "b", 1);
	found = processes_find(p, 11);
	assert_int_equal(found->sid, 100);
	assert_int_equal(found->pgid, 200);
	assert_int_equal(found->loginuid, 1000);
	first.proc = 12;
	first.sid = 101;
	first.loginuid = 0;
	processes_exec(p, &first);
	found = processes_find(p, 12);
	assert_int_equal(found->sid, 101);
	assert_int_equal(found->loginuid, 0);
	assert_int_equal(found->ns_pid, 5);
	processes_fork(p, 12, 20, 3, 700);
	found = processes_find(p, 20);
	assert_int_equal(found->ns_pid, 0);
	assert_int_equal(found->sid, 101);
	processes_exit(p, 12);
	exec(p, 13, 1, 2, "other", "", 0); /* the text that both had is the child's alone */
	assert_memory_equal(processes_find(p, 20)->args, "a", 1);
	processes_close(p);
}

/* The list of tasks found what the ring tells of later. */
static void test_found_first(void **state)
{
	struct processes *p = table(BYTES);
	const struct process now = { .proc = 3, .parent = 1, .pid = 7, .comm = "late", .loginuid = -1 };

	processes_found(p, &now);
	processes_fork(p, 1, 2, 7, 100);
	exec(p, 2, 1, 7, "early", "", 0);
	assert_ptr_equal(processes_of_pid(p, 7), processes_find(p, 2));
	exec(p, 3, 1, 7, "late", "late\0", 5);
	assert_ptr_equal(processes_of_pid(p, 7), processes_find(p, 3));
	assert_false(processes_find(p, 3)->ended);
	assert_true(processes_find(p, 2)->ended);
	processes_found(p, &now); /* says less than what is known */
	assert_int_equal(processes_find(p, 3)->args_length, 5);
	processes_close(p);
}

static void test_lineage_is_bounded(void **state)
{
	struct processes *p = table(BYTES);
	char room[LINEAGE_ROOM];

	for (uint64_t i = 1; i <= 40; i++)
		exec(p, i, i - 1, (uint32_t)i, "fifteen bytes  ", "", 0);
	assert_int_equal(processes_lineage(p, 40, room), LINEAGE_ROOM);
	exec(p, 100, 100, 100, "loop", "", 0); /* nobody is one's own parent, but nothing may hang on that */
	assert_int_equal(processes_lineage(p, 100, room), LINEAGE_DEPTH * 5);
	processes_close(p);
}

/* A flood of short lives under one shell: the shell and what made it stay, memory is bounded. */
static void test_eviction(void **state)
{
	struct processes *p = table(64 << 10);
	struct processes_health health;
	static char args[PROCESS_ARGS_MAX * 2];

	memset(args, 'a', sizeof args);
	exec(p, 1, 0, 1, "init", "", 0);
	exec(p, 2, 1, 2, "gone", "", 0);
	exec(p, 3, 2, 3, "shell", "", 0);
	processes_exit(p, 2);
	for (uint64_t i = 0; i < 100000; i++) {
		processes_fork(p, 3, 1000 + 2 * i, (uint32_t)(10 + i % 500), i);
		exec(p, 1001 + 2 * i, 3, (uint32_t)(10 + i % 500), "child", args, (uint32_t)(i % sizeof args));
		processes_exit(p, 1001 + 2 * i);
	}
	expect_lineage(p, 3, "shell\0gone\0init\0", 16);
	processes_health(p, &health);
	assert_in_range(health.text_bytes, 1, 32 << 10);
	assert_true(health.evicted > 190000);
	assert_int_equal(health.lost, 0);
	assert_int_equal(health.held, health.ended + 2);
	processes_close(p);
}

/* More living ones than there is room for: the oldest go, and are counted. */
static void test_too_many(void **state)
{
	struct processes *p = table(64 << 10);
	struct processes_health health;

	for (uint64_t i = 1; i <= 5000; i++)
		exec(p, i, i - 1, (uint32_t)i, "living", "x\0", 2);
	processes_health(p, &health);
	assert_int_equal(health.held + health.lost, 5000);
	assert_non_null(processes_find(p, 5000));
	assert_null(processes_find(p, 1));
	assert_null(processes_of_pid(p, 1));
	processes_close(p);
}

/* Random lives against a model: an array by pid. */
static void test_model(void **state)
{
	static uint64_t current[200];
	struct processes *p = table(BYTES);
	uint64_t next = 1, seed = 42;

	for (int i = 0; i < 200000; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		uint32_t pid = 1 + (uint32_t)(seed >> 40) % 199, other = 1 + (uint32_t)(seed >> 20) % 199;

		switch (seed >> 61) {
		case 0:
		case 1:
			current[pid] = next++;
			processes_fork(p, current[other], current[pid], pid, 1);
			break;
		case 2:
		case 3:
		case 4:
			current[pid] = next++;
			exec(p, current[pid], current[other], pid, "x", "a\0b\0", 4);
			break;
		default:
			processes_exit(p, current[pid]);
		}
		if (current[other])
			assert_ptr_equal(processes_of_pid(p, other), processes_find(p, current[other]));
	}
	processes_close(p);
}

/* Whatever is told, however little it fits together: the tables stay whole. */
static void test_nonsense(void **state)
{
	struct processes *p = table(64 << 10);
	uint64_t seed = 7;

	for (int i = 0; i < 400000; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t proc = seed >> 58, parent = seed >> 50 & 63;
		uint32_t pid = (uint32_t)(seed >> 40) & 31;
		const struct process *found = processes_find(p, proc), *now = processes_of_pid(p, pid);
		struct process copy = found ? *found : (struct process){ .exe = "", .cwd = "", .args = "" };

		if (found)
			assert_int_equal(found->proc, proc);
		if (now)
			assert_int_equal(now->pid, pid);
		copy.proc = proc;
		copy.parent = parent;
		copy.pid = pid;
		switch (seed >> 36 & 3) {
		case 0:
			processes_fork(p, parent, proc, pid, 1);
			break;
		case 1:
			processes_exec(p, &copy);
			break;
		case 2:
			processes_exit(p, proc);
			break;
		default:
			processes_found(p, &copy);
		}
	}
	processes_close(p);
}

static void test_details_of_this_process(void **state)
{
	struct processes *p = table(BYTES);
	const struct process own = { .proc = 5, .pid = (uint32_t)getpid(), .loginuid = -1 };
	char exe[4096] = "", cwd[4096] = "";
	const struct process *found;

	processes_found(p, &own);
	assert_int_equal(processes_read_details(p, "/proc"), 1);
	assert_int_equal(processes_read_details(p, "/proc"), 0);
	found = processes_find(p, 5);
	assert_true(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
	assert_non_null(getcwd(cwd, sizeof cwd));
	assert_int_equal(found->exe_length, strlen(exe));
	assert_memory_equal(found->exe, exe, strlen(exe));
	assert_int_equal(found->cwd_length, strlen(cwd));
	assert_memory_equal(found->cwd, cwd, strlen(cwd));
	assert_int_equal(found->uid, getuid());
	assert_int_equal(found->egid, getegid());
	assert_int_equal(found->sid, getsid(0));
	assert_int_equal(found->pgid, getpgrp());
	assert_true(found->args_length > 0 && !found->args[found->args_length - 1]);
	processes_close(p);
}

static void write_file(const char *path, const char *text)
{
	FILE *out = fopen(path, "w");

	fputs(text, out);
	fclose(out);
}

/* A process that ends while it is read is nobody's, and not root's. */
static void test_details_of_one_that_ends(void **state)
{
	struct processes *p = table(BYTES);
	const struct process one = { .proc = 5, .pid = 7, .loginuid = -1 };
	char root[] = "/tmp/sonde-proc-XXXXXX", folder[64], status[80], stat[80], loginuid[80];

	assert_non_null(mkdtemp(root));
	snprintf(folder, sizeof folder, "%s/7", root);
	snprintf(status, sizeof status, "%s/status", folder);
	snprintf(stat, sizeof stat, "%s/stat", folder);
	snprintf(loginuid, sizeof loginuid, "%s/loginuid", folder);
	assert_int_equal(mkdir(folder, 0755), 0);
	processes_found(p, &one);
	assert_int_equal(processes_read_details(p, root), 0);
	assert_false(processes_find(p, 5)->detailed);
	write_file(status, "Name:\tx\nUid:\t1\t2\t3\t4\n");
	assert_int_equal(processes_read_details(p, root), 0);
	assert_false(processes_find(p, 5)->detailed);
	write_file(status, "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t7\t3\n");
	write_file(stat, "7 (a) b) S 1 11 12 34819 0 0\n");
	write_file(loginuid, "4294967295");
	assert_int_equal(processes_read_details(p, root), 1);
	assert_true(processes_find(p, 5)->detailed);
	assert_int_equal(processes_find(p, 5)->pgid, 11);
	assert_int_equal(processes_find(p, 5)->sid, 12);
	assert_string_equal(processes_find(p, 5)->tty, "pts3");
	assert_int_equal(processes_find(p, 5)->loginuid, -1);
	assert_int_equal(processes_find(p, 5)->uid, 1);
	assert_int_equal(processes_find(p, 5)->euid, 2);
	assert_int_equal(processes_find(p, 5)->gid, 5);
	assert_int_equal(processes_find(p, 5)->egid, 6);
	assert_int_equal(processes_find(p, 5)->ns_pid, 3);
	unlink(status);
	unlink(stat);
	unlink(loginuid);
	rmdir(folder);
	rmdir(root);
	processes_close(p);
}

static void test_users(void **state)
{
	struct users *users;
	struct passwd *user;
	struct group *group;
	unsigned n = 0;

	assert_int_equal(users_open(&users, "/etc/passwd", "/etc/group"), 0);
	setpwent();
	while ((user = getpwent()) && n++ < 1000) {
		const struct user *found = users_find(users, user->pw_uid);

		assert_non_null(found);
		if (strcmp(found->name, user->pw_name) == 0) {
			assert_string_equal(found->home, user->pw_dir);
			assert_string_equal(found->shell, user->pw_shell);
		}
	}
	endpwent();
	setgrent();
	while ((group = getgrent()))
		assert_non_null(users_find_group(users, group->gr_gid));
	endgrent();
	assert_true(n > 1);
	assert_string_equal(users_find(users, 0)->name, "root");
	assert_null(users_find(users, 3999999999u));
	users_close(users);
}

static void test_odd_users(void **state)
{
	char passwd[] = "/tmp/sonde-passwd-XXXXXX", problem[256];
	struct users *users;
	FILE *many;

	close(mkstemp(passwd));
	write_file(passwd, "a:x:5:5:::\nb:x:5:5:c:/b:/"
			   "sh\n:x:6:6:::\nc:x:-7:6:::\nd:x\n\nshort:x:8\ne:x:9z:\nlast:x:10:1:::/bin/last");
	assert_int_equal(users_open(&users, passwd, "/nonexistent"), 0);
	assert_string_equal(users_find(users, 5)->name, "a");
	assert_null(users_find(users, 6));
	assert_string_equal(users_find(users, 8)->name, "short");
	assert_string_equal(users_find(users, 8)->shell, "");
	assert_null(users_find(users, 9));
	assert_null(users_find(users, (uint32_t)-7));
	assert_string_equal(users_find(users, 10)->shell, "/bin/last");
	assert_null(users_find_group(users, 0));
	unlink(passwd);
	write_file(passwd, "new:x:5:5:::\n");
	users_refresh(users);
	assert_string_equal(users_find(users, 5)->name, "new");
	unlink(passwd);
	users_refresh(users);
	assert_null(users_find(users, 5));
	assert_false(users_problem(users, problem, sizeof problem)); /* a file that is not there has no names */
	assert_int_equal(mkdir(passwd, 0755), 0);
	users_refresh(users);
	assert_true(users_problem(users, problem, sizeof problem));
	assert_non_null(strstr(problem, passwd));
	assert_non_null(strstr(problem, "Is a directory"));
	rmdir(passwd);
	many = fopen(passwd, "w");
	for (unsigned i = 0; i <= USERS_MAX; i++)
		fprintf(many, i < USERS_MAX ? "u:x:%u:\n" : "u:x:%u:", i);
	fclose(many);
	users_refresh(users);
	assert_true(users_problem(users, problem, sizeof problem));
	assert_non_null(strstr(problem, "more than 65536"));
	assert_non_null(users_find(users, USERS_MAX - 1));
	unlink(passwd);
	users_close(users);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_what_is_kept),
		cmocka_unit_test(test_found_first),
		cmocka_unit_test(test_lineage_is_bounded),
		cmocka_unit_test(test_eviction),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_details_of_this_process),
		cmocka_unit_test(test_details_of_one_that_ends),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_odd_users),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
