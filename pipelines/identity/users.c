/* SPDX-License-Identifier: Apache-2.0 */
/* Each file is one text, cut in place, with an array of its lines sorted by number; of two lines with one number the first counts. */
#include "identity/users.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct names {
	const char *path;
	char *text;
	struct user *users;
	size_t n;
	struct timespec changed;
	ino_t ino;
	int error; /* why it could not be read */
	bool cut;  /* it has more lines */
};

struct users {
	struct names people, groups;
};

static void forget(struct names *names)
{
	free(names->text);
	free(names->users);
	names->text = NULL;
	names->users = NULL;
	names->n = 0;
}

/* name:x:number:...; of a user gid, comment, home and shell follow. */
static bool take_line(char *line, struct user *ret)
{
	char *parts[7] = { 0 }, *end, *save = line;
	size_t n = 0;

	while (n < ARRAY_SIZE(parts) && (parts[n] = strsep(&save, ":")))
		n++;
	if (n < 3 || !parts[0][0] || parts[2][0] < '0' || parts[2][0] > '9')
		return false;
	ret->id = (uint32_t)strtoul(parts[2], &end, 10);
	ret->name = parts[0];
	ret->home = n > 5 ? parts[5] : "";
	ret->shell = n > 6 ? parts[6] : "";
	return !*end;
}

static int by_id(const void *a, const void *b)
{
	const struct user *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name; /* both lie in one text: its order */
}

static void read_names(struct names *names)
{
	char *save, *line;

	forget(names);
	names->cut = false;
	names->error = read_small_file(names->path, USERS_FILE_MAX, &names->text, NULL);
	if (names->error < 0) {
		names->text = NULL;
		return;
	}
	names->users = calloc(USERS_MAX, sizeof *names->users);
	if (!names->users) {
		names->error = -ENOMEM;
		return;
	}
	for (save = names->text; (line = strsep(&save, "\n")) && names->n < USERS_MAX;)
		names->n += take_line(line, &names->users[names->n]);
	names->cut = line && *line;
	qsort(names->users, names->n, sizeof *names->users, by_id);
}

static void refresh(struct names *names)
{
	struct stat st = { 0 };

	stat(names->path, &st);
	if (names->text && st.st_ino == names->ino && st.st_mtim.tv_sec == names->changed.tv_sec &&
	    st.st_mtim.tv_nsec == names->changed.tv_nsec)
		return;
	names->ino = st.st_ino;
	names->changed = st.st_mtim;
	read_names(names);
}

static const struct user *find(const struct names *names, uint32_t id)
{
	size_t low = 0, high = names->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (names->users[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < names->n && names->users[low].id == id ? &names->users[low] : NULL;
}

int users_open(struct users **ret, const char *passwd, const char *group)
{
	struct users *users = calloc(1, sizeof *users);

	if (!users)
		return -ENOMEM;
	users->people.path = passwd;
	users->groups.path = group;
	users_refresh(users);
	*ret = users;
	return 0;
}

void users_close(struct users *users)
{
	if (!users)
		return;
	forget(&users->people);
	forget(&users->groups);
	free(users);
}

void users_refresh(struct users *users)
{
	refresh(&users->people);
	refresh(&users->groups);
}

static bool problem_of(const struct names *names, char *room, size_t size)
{
	if (names->error < 0 && names->error != -ENOENT)
		snprintf(room, size, "%s: cannot be read, and rules do not know its names: %s", names->path,
			 names->error == -EFBIG ? "larger than 4 MiB" : strerror(-names->error));
	else if (names->cut)
		snprintf(room, size, "%s: more than %u names; rules do not know the others", names->path, USERS_MAX);
	else
		return false;
	return true;
}

bool users_problem(const struct users *users, char *room, size_t size)
{
	return problem_of(&users->people, room, size) || problem_of(&users->groups, room, size);
}

const struct user *users_find(const struct users *users, uint32_t uid)
{
	return find(&users->people, uid);
}

const struct user *users_find_group(const struct users *users, uint32_t gid)
{
	return find(&users->groups, gid);
}
