/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and what happens to them, as no shell can bring it about exactly.
 *
 *	call NUMBER ARGUMENT...		one system call; an argument is a number, or s:TEXT, or h:HEX for the address of such bytes; prints what it returned,
 *					negative where it failed
 *	race WHAT COUNT			in the working folder, which has a/f and b/f: the call WHAT on one of the two, while a thread rewrites its path
 *					from one to the other; prints for each which it was (a or b), as the files themselves say, or - where it failed
 *	swap COUNT			the same for unlink of l/f, where a thread replaces the symbolic link l, to a and to b
 *	pair COUNT			unlink of n0 and n1, two names of one file in one folder, both open, as race does
 *	flood COUNT			makes, renames, and removes a file so often
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARGUMENTS_MAX 6

static void die(const char *what)
{
	perror(what);
	_exit(99);
}

static int must(int r, const char *what)
{
	if (r < 0)
		die(what);
	return r;
}

/* ---- call ---- */

static unsigned long bytes_of(const char *hex)
{
	size_t n = strlen(hex) / 2;
	unsigned char *bytes = calloc(1, n + 1);

	for (size_t i = 0; bytes && i < n; i++)
		sscanf(hex + 2 * i, "%2hhx", &bytes[i]);
	return (unsigned long)bytes;
}

static unsigned long argument(const char *text)
{
	if (!strncmp(text, "s:", 2))
		return (unsigned long)(text + 2);
	if (!strncmp(text, "h:", 2))
		return bytes_of(text + 2);
	return (unsigned long)strtoll(text, NULL, 0);
}

static int call(int n, char **words)
{
	unsigned long a[ARGUMENTS_MAX] = { 0 };
	long r;

	for (int i = 1; i < n && i <= ARGUMENTS_MAX; i++)
		a[i - 1] = argument(words[i]);
	r = syscall(strtol(words[0], NULL, 0), a[0], a[1], a[2], a[3], a[4], a[5]);
	printf("%ld\n", r < 0 ? -errno : r);
	return 0;
}

/* ---- race ---- */

static char path[8] = "a/f";
static atomic_bool over;

/* So that the other thread gets to run where there is but one CPU for both. */
static void give_way(long i)
{
	if (i % 256 == 0)
		usleep(50);
}

static void *rewrite(void *unused)
{
	volatile char *at = path;

	while (!over) {
		*at = 'b';
		*at = 'a';
	}
	return unused;
}

static void make(const char *name)
{
	close(must(open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0700), name));
}

static char missing(void)
{
	return access("a/f", F_OK) ? 'a' : access("b/f", F_OK) ? 'b' : '-';
}

static char once_unlink(void)
{
	char which;

	unlink(path);
	which = missing();
	if (which != '-')
		make(which == 'a' ? "a/f" : "b/f");
	return which;
}

static char once_rename(void)
{
	char which;

	rename(path, "t");
	which = missing();
	if (which != '-')
		must(rename("t", which == 'a' ? "a/f" : "b/f"), "rename back");
	return which;
}

static char once_chmod(void)
{
	struct stat a, b;

	chmod(path, 0600);
	stat("a/f", &a);
	stat("b/f", &b);
	if ((a.st_mode & 0777) == 0600 && (b.st_mode & 0777) == 0700) {
		chmod("a/f", 0700);
		return 'a';
	}
	chmod("b/f", 0700);
	return (b.st_mode & 0777) == 0600 ? 'b' : '-';
}

static char once_truncate(void)
{
	struct stat a, b;

	must(truncate(path, 7), "truncate");
	stat("a/f", &a);
	stat("b/f", &b);
	must(truncate(a.st_size == 7 ? "a/f" : "b/f", 0), "truncate");
	return a.st_size == 7 ? 'a' : b.st_size == 7 ? 'b' : '-';
}

static char same_file(const struct stat *st)
{
	struct stat a, b;

	stat("a/f", &a);
	stat("b/f", &b);
	return st->st_ino == a.st_ino ? 'a' : st->st_ino == b.st_ino ? 'b' : '-';
}

static char once_open(void)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC), "open");
	struct stat st;

	fstat(fd, &st);
	close(fd);
	return same_file(&st);
}

static char once_link(void)
{
	struct stat st;

	must(link(path, "t"), "link");
	stat("t", &st);
	unlink("t");
	return same_file(&st);
}

static char once_mkdir(void)
{
	mkdir(path, 0700);
	if (!rmdir("a/d"))
		return 'a';
	return rmdir("b/d") ? '-' : 'b';
}

static char once_symlink(void)
{
	must(symlink("target", path), "symlink");
	if (!unlink("a/d"))
		return 'a';
	return unlink("b/d") ? '-' : 'b';
}

static const struct {
	const char *name;
	char (*once)(void);
	const char *path;
} races[] = { { "unlink", once_unlink, "a/f" },     { "rename", once_rename, "a/f" },  { "chmod", once_chmod, "a/f" },
	      { "truncate", once_truncate, "a/f" }, { "open", once_open, "a/f" },      { "link", once_link, "a/f" },
	      { "mkdir", once_mkdir, "a/d" },       { "symlink", once_symlink, "a/d" } };

static int race(const char *name, long count)
{
	pthread_t thread;

	for (size_t i = 0; i < sizeof races / sizeof *races; i++) {
		if (strcmp(races[i].name, name))
			continue;
		strcpy(path, races[i].path);
		if (pthread_create(&thread, NULL, rewrite, NULL))
			die("pthread_create");
		while (count-- > 0) {
			give_way(count);
			putchar(races[i].once());
		}
		over = true;
		pthread_join(thread, NULL);
		putchar('\n');
		return 0;
	}
	return 2;
}

/* ---- swap ---- */

static void *replace(void *unused)
{
	for (int i = 0; !over; i++) {
		unlink("l2");
		must(symlink(i & 1 ? "a" : "b", "l2"), "symlink");
		must(rename("l2", "l"), "rename");
	}
	return unused;
}

static int swap(long count)
{
	pthread_t thread;

	must(symlink("a", "l"), "symlink");
	if (pthread_create(&thread, NULL, replace, NULL))
		die("pthread_create");
	strcpy(path, "l/f");
	while (count-- > 0)
		putchar(once_unlink());
	over = true;
	pthread_join(thread, NULL);
	putchar('\n');
	return 0;
}

/* ---- pair ---- */

static void *rewrite_last(void *unused)
{
	volatile char *at = path + 1;

	while (!over) {
		*at = '1';
		*at = '0';
	}
	return unused;
}

static int pair(long count)
{
	pthread_t thread;

	strcpy(path, "n0");
	make("n0");
	must(link("n0", "n1"), "link");
	if (pthread_create(&thread, NULL, rewrite_last, NULL))
		die("pthread_create");
	while (count-- > 0) {
		int one = must(open("n0", O_RDONLY), "n0"), other = must(open("n1", O_RDONLY), "n1");
		char which;

		must(unlink(path), "unlink");
		which = access("n0", F_OK) ? '0' : '1';
		must(which == '0' ? link("n1", "n0") : link("n0", "n1"), "link");
		putchar(which);
		close(one);
		close(other);
	}
	over = true;
	pthread_join(thread, NULL);
	putchar('\n');
	return 0;
}

static int flood(long count)
{
	while (count-- > 0) {
		make("one");
		must(rename("one", "two"), "rename");
		must(unlink("two"), "unlink");
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "call"))
		return call(argc - 2, argv + 2);
	if (argc == 4 && !strcmp(argv[1], "race"))
		return race(argv[2], atol(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "swap"))
		return swap(atol(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "pair"))
		return pair(atol(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "flood"))
		return flood(atol(argv[2]));
	return 2;
}
