/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cgroup ids to paths.
 *
 * Data structure: `entries` is a pool, addressed by number; `slots` is an open-addressed table of entry numbers (+1),
 * twice as large as the pool, so a lookup is a multiplication and usually one probe. Deleting shifts the run behind it
 * back, so there are no tombstones and the table never degrades. Each entry owns one allocation: path, NUL, container,
 * NUL. Removed entries stay in the table and are linked, oldest first, on one list; they leave after GRACE_NS, or
 * earlier when a living one needs the place. An id that no walk could name is held like a removed one, so it costs one
 * walk and not one per event.
 *
 * Invariants: an entry is in exactly one slot or in the free list; live + removed + free == used; `text_bytes` is the
 * sum of all allocations and never exceeds the capacity's share; lengths fit 16 bits.
 */
#include "identity/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define GRACE_NS         (60 * NS_PER_SEC)
#define WALK_INTERVAL_NS NS_PER_SEC
#define WALK_DEPTH       64
#define PATH_BYTES       4096
#define TEXT_PER_ENTRY   256
#define MOUNTINFO_MAX    (16u << 20)

#define NONE UINT32_MAX

struct entry {
	uint64_t id;
	char *text; /* path and container, each with its NUL */
	uint64_t removed_ns;
	uint32_t newer, older; /* on the list of removed ones, or `newer` on the free list */
	uint32_t walk;         /* the walk that last saw it */
	uint16_t path_length, container_length;
	uint8_t hierarchy;
	bool removed;
};

struct cgroups {
	struct cgroup_layout layout;
	struct entry *entries;
	uint32_t *slots;
	uint32_t capacity, used, mask, free;
	uint32_t oldest, newest; /* of the removed ones */
	size_t text_bytes, text_max;
	uint64_t walked_ns;
	uint32_t walk;
	struct cgroups_health health;
	char unknown[32];
};

static uint32_t slot_of(const struct cgroups *c, unsigned hierarchy, uint64_t id)
{
	uint64_t h = (id ^ ((uint64_t)hierarchy << 63)) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)(h >> 32) & c->mask;
}

/* The slot that holds (hierarchy, id), or the empty one where it would go. */
static uint32_t slot_find(const struct cgroups *c, unsigned hierarchy, uint64_t id)
{
	uint32_t at = slot_of(c, hierarchy, id);

	for (; c->slots[at]; at = (at + 1) & c->mask) {
		const struct entry *e = &c->entries[c->slots[at] - 1];

		if (e->id == id && e->hierarchy == hierarchy)
			break;
	}
	return at;
}

static void slot_clear(struct cgroups *c, uint32_t hole)
{
	for (uint32_t at = (hole + 1) & c->mask; c->slots[at]; at = (at + 1) & c->mask) {
		const struct entry *e = &c->entries[c->slots[at] - 1];
		uint32_t home = slot_of(c, e->hierarchy, e->id);

		/* It may move into the hole unless its home lies behind the hole, on the way to where it is. */
		if (((at - home) & c->mask) < ((at - hole) & c->mask))
			continue;
		c->slots[hole] = c->slots[at];
		hole = at;
	}
	c->slots[hole] = 0;
}

static void removed_link(struct cgroups *c, uint32_t n)
{
	struct entry *e = &c->entries[n];

	e->removed = true;
	e->removed_ns = now_boottime_ns();
	e->older = c->newest;
	e->newer = NONE;
	if (c->newest != NONE)
		c->entries[c->newest].newer = n;
	else
		c->oldest = n;
	c->newest = n;
	c->health.live--;
	c->health.removed++;
}

static void removed_unlink(struct cgroups *c, uint32_t n)
{
	struct entry *e = &c->entries[n];

	if (e->older != NONE)
		c->entries[e->older].newer = e->newer;
	else
		c->oldest = e->newer;
	if (e->newer != NONE)
		c->entries[e->newer].older = e->older;
	else
		c->newest = e->older;
	e->removed = false;
	c->health.removed--;
	c->health.live++;
}

static size_t text_size(const struct entry *e)
{
	return (size_t)e->path_length + e->container_length + 2;
}

static void entry_forget(struct cgroups *c, uint32_t n)
{
	struct entry *e = &c->entries[n];

	slot_clear(c, slot_find(c, e->hierarchy, e->id));
	removed_unlink(c, n);
	c->health.live--;
	c->text_bytes -= text_size(e);
	free(e->text);
	e->text = NULL;
	e->newer = c->free;
	c->free = n;
}

static void forget_expired(struct cgroups *c)
{
	if (c->oldest == NONE)
		return;

	uint64_t now = now_boottime_ns();

	while (c->oldest != NONE && now - c->entries[c->oldest].removed_ns > GRACE_NS)
		entry_forget(c, c->oldest);
}

/* Whether one more text of `size` bytes fits, with a free entry for it when `entry`; the oldest removed ones make room.
 */
static bool make_room(struct cgroups *c, size_t size, bool entry, uint32_t keep)
{
	for (;;) {
		bool place = !entry || c->free != NONE || c->used < c->capacity;

		if (place && c->text_bytes + size <= c->text_max)
			return true;

		uint32_t victim = c->oldest;

		if (victim == keep && victim != NONE)
			victim = c->entries[victim].newer;
		if (victim == NONE)
			return false;
		entry_forget(c, victim);
		c->health.evicted++;
	}
}

static char *text_make(const char *path, size_t length, uint16_t *ret_container_length)
{
	const char *container = "";
	size_t n = cgroup_container(path, &container);
	char *text = malloc(length + n + 2);

	if (!text)
		return NULL;
	memcpy(text, path, length + 1);
	memcpy(text + length + 1, container, n);
	text[length + 1 + n] = '\0';
	*ret_container_length = (uint16_t)n;
	return text;
}

static int entry_rename(struct cgroups *c, uint32_t n, const char *path)
{
	struct entry *e = &c->entries[n];
	size_t length = strlen(path);
	uint16_t container_length;
	_cleanup_(free_pointer) char *text = text_make(path, length, &container_length);

	if (!text)
		return -ENOMEM;
	if (!make_room(c, length + container_length + 2, false, n))
		return -ENOSPC;
	c->text_bytes -= text_size(e);
	free(e->text);
	e->text = text;
	text = NULL;
	e->path_length = (uint16_t)length;
	e->container_length = container_length;
	c->text_bytes += text_size(e);
	return 0;
}

/* What lies below a renamed cgroup has a new path too. Only v1 can rename, and hardly anybody does. */
static int rename_below(struct cgroups *c, unsigned hierarchy, const char *before, const char *after)
{
	size_t n_before = strlen(before), n_after = strlen(after);
	char path[PATH_BYTES];
	int r = 0;

	for (uint32_t n = 0; n < c->used && r >= 0; n++) {
		struct entry *e = &c->entries[n];

		if (!e->text || e->hierarchy != hierarchy || strncmp(e->text, before, n_before) ||
		    e->text[n_before] != '/')
			continue;
		if (n_after + e->path_length - n_before >= sizeof path)
			continue;
		memcpy(path, after, n_after);
		memcpy(path + n_after, e->text + n_before, e->path_length - n_before + 1);
		r = entry_rename(c, n, path);
	}
	return r;
}

static int entry_renew(struct cgroups *c, uint32_t n, const char *path)
{
	struct entry *e = &c->entries[n];
	_cleanup_(free_pointer) char *before = NULL;

	e->walk = c->walk;
	if (e->removed)
		removed_unlink(c, n);
	if (!strcmp(e->text, path))
		return 0;
	before = strdup(e->text);
	if (!before)
		return -ENOMEM;

	unsigned hierarchy = e->hierarchy;
	int r = entry_rename(c, n, path);

	/* The root never moves, and an unknown one ("cgroup:7") has nothing below. */
	return r < 0 || before[0] != '/' || !before[1] ? r : rename_below(c, hierarchy, before, path);
}

static int entry_new(struct cgroups *c, unsigned hierarchy, uint64_t id, const char *path, uint32_t *ret)
{
	size_t length = strlen(path);
	uint16_t container_length;
	_cleanup_(free_pointer) char *text = text_make(path, length, &container_length);

	if (!text)
		return -ENOMEM;
	if (!make_room(c, length + container_length + 2, true, NONE)) {
		c->health.refused++;
		return -ENOSPC;
	}

	uint32_t n = c->free;

	if (n != NONE)
		c->free = c->entries[n].newer;
	else
		n = c->used++;
	c->entries[n] = (struct entry){
		.id = id,
		.text = text,
		.newer = NONE,
		.older = NONE,
		.walk = c->walk,
		.path_length = (uint16_t)length,
		.container_length = container_length,
		.hierarchy = (uint8_t)hierarchy,
	};
	text = NULL;
	c->text_bytes += text_size(&c->entries[n]);
	c->slots[slot_find(c, hierarchy, id)] = n + 1;
	c->health.live++;
	*ret = n;
	return 0;
}

int cgroups_add(struct cgroups *cgroups, unsigned hierarchy, uint64_t id, const char *path)
{
	uint32_t n;

	if (hierarchy > 1 || path[0] != '/' || strnlen(path, PATH_BYTES) >= PATH_BYTES)
		return -EINVAL;
	forget_expired(cgroups);
	n = cgroups->slots[slot_find(cgroups, hierarchy, id)];
	return n ? entry_renew(cgroups, n - 1, path) : entry_new(cgroups, hierarchy, id, path, &n);
}

void cgroups_remove(struct cgroups *cgroups, unsigned hierarchy, uint64_t id)
{
	uint32_t n = cgroups->slots[slot_find(cgroups, hierarchy, id)];

	if (n && !cgroups->entries[n - 1].removed)
		removed_link(cgroups, n - 1);
	forget_expired(cgroups);
}

struct walk {
	struct cgroups *cgroups;
	unsigned hierarchy;
	dev_t device;
	bool whole; /* nothing was left out */
	char path[PATH_BYTES];
};

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static void walk_folder(struct walk *w, int folder, size_t length, unsigned depth);

/* Into one member of an open folder whose path is the first `length` bytes of w->path. */
static void walk_into(struct walk *w, int folder, size_t length, const struct dirent *member, unsigned depth)
{
	size_t n = strlen(member->d_name);

	if ((member->d_type != DT_DIR && member->d_type != DT_UNKNOWN) || !strcmp(member->d_name, ".") ||
	    !strcmp(member->d_name, ".."))
		return;
	if (depth >= WALK_DEPTH || length + 1 + n >= sizeof w->path) {
		w->whole = false;
		return;
	}

	int fd = openat(folder, member->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		/* It is a file, or it went while we came. */
		w->whole &= errno == ENOTDIR || errno == ENOENT || errno == ELOOP;
		return;
	}
	w->path[length] = '/';
	memcpy(w->path + length + 1, member->d_name, n + 1);
	walk_folder(w, fd, length + 1 + n, depth + 1);
	w->path[length] = '\0';
}

/* Takes `folder` over. */
static void walk_folder(struct walk *w, int folder, size_t length, unsigned depth)
{
	_cleanup_(close_dir) DIR *dir = fdopendir(folder);
	struct stat st;

	if (!dir) {
		close(folder);
		w->whole = false;
		return;
	}
	if (fstat(folder, &st) < 0 || st.st_dev != w->device)
		return;
	if (cgroups_add(w->cgroups, w->hierarchy, st.st_ino, length ? w->path : "/") < 0)
		w->whole = false;

	for (const struct dirent *member; (member = readdir(dir));)
		walk_into(w, folder, length, member, depth);
}

/* Living cgroups that the walk did not meet are gone, and their rmdir was missed. */
static void remove_unseen(struct cgroups *c, unsigned hierarchy)
{
	for (uint32_t n = 0; n < c->used; n++) {
		const struct entry *e = &c->entries[n];

		if (e->text && e->hierarchy == hierarchy && !e->removed && e->walk != c->walk)
			removed_link(c, n);
	}
}

static int walk_hierarchy(struct cgroups *c, unsigned hierarchy, const char *mount, const char *root)
{
	struct walk w = { .cgroups = c, .hierarchy = hierarchy, .whole = true };
	struct stat st;

	if (!mount[0])
		return 0;

	int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	w.device = st.st_dev;

	size_t length = strlen(root);

	memcpy(w.path, root, length + 1);
	walk_folder(&w, fd, length, 0);
	/* Of a part of the hierarchy, nothing follows for the rest. */
	if (w.whole && !length)
		remove_unseen(c, hierarchy);
	return 0;
}

static int walk_all(struct cgroups *c)
{
	int r;

	c->walk++;
	c->health.walks++;
	r = walk_hierarchy(c, 0, c->layout.v2, c->layout.v2_root);
	if (r >= 0)
		r = walk_hierarchy(c, 1, c->layout.v1, c->layout.v1_root);
	c->walked_ns = now_boottime_ns();
	return r;
}

int cgroups_open(struct cgroups **ret, const struct cgroup_layout *layout, size_t capacity)
{
	size_t n_slots = 16;
	int r;

	if (!capacity || capacity > 1u << 24)
		return -EINVAL;
	while (n_slots < 2 * capacity)
		n_slots *= 2;

	struct cgroups *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	c->layout = *layout;
	c->capacity = (uint32_t)capacity;
	c->mask = (uint32_t)n_slots - 1;
	c->free = c->oldest = c->newest = NONE;
	c->text_max = capacity * TEXT_PER_ENTRY;
	c->entries = calloc(capacity, sizeof *c->entries);
	c->slots = calloc(n_slots, sizeof *c->slots);
	r = c->entries && c->slots ? walk_all(c) : -ENOMEM;
	if (r < 0) {
		cgroups_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void cgroups_close(struct cgroups *cgroups)
{
	if (!cgroups)
		return;
	for (uint32_t n = 0; n < cgroups->used; n++)
		free(cgroups->entries[n].text);
	free(cgroups->entries);
	free(cgroups->slots);
	free(cgroups);
}

static void name_entry(const struct entry *e, struct cgroup_name *ret)
{
	*ret = (struct cgroup_name){
		.path = e->text,
		.container = e->text + e->path_length + 1,
		.path_length = e->path_length,
		.container_length = e->container_length,
	};
}

/* Off the fast path: an id that is not in the table. */
static __attribute__((noinline)) void find_unknown(struct cgroups *c, unsigned hierarchy, uint64_t id,
						   struct cgroup_name *ret)
{
	uint32_t n = 0;
	bool walked = now_boottime_ns() - c->walked_ns >= WALK_INTERVAL_NS && walk_all(c) >= 0;

	if (walked)
		n = c->slots[slot_find(c, hierarchy, id)];
	if (n) {
		name_entry(&c->entries[n - 1], ret);
		return;
	}

	int length = snprintf(c->unknown, sizeof c->unknown, "cgroup:%llu", (unsigned long long)id);

	*ret = (struct cgroup_name){ .path = c->unknown, .container = "", .path_length = (uint16_t)length };
	if (walked && entry_new(c, hierarchy, id, c->unknown, &n) >= 0) {
		removed_link(c, n);
		c->health.unknown++;
	}
}

void cgroups_find(struct cgroups *cgroups, unsigned hierarchy, uint64_t id, struct cgroup_name *ret)
{
	uint32_t n = cgroups->slots[slot_find(cgroups, hierarchy, id)];

	if (n)
		name_entry(&cgroups->entries[n - 1], ret);
	else
		find_unknown(cgroups, hierarchy, id, ret);
}

void cgroups_health(const struct cgroups *cgroups, struct cgroups_health *ret)
{
	*ret = cgroups->health;
}

/* One field of a mountinfo line, with its octal escapes (space, tab, newline, backslash) undone. -ENAMETOOLONG when it
 * does not fit. */
static int field_copy(char *to, size_t room, const char *field)
{
	size_t n = 0;

	for (; *field; field++) {
		char c = *field;

		if (c == '\\' && field[1] >= '0' && field[1] <= '3' && field[2] >= '0' && field[2] <= '7' &&
		    field[3] >= '0' && field[3] <= '7') {
			c = (char)((field[1] - '0') << 6 | (field[2] - '0') << 3 | (field[3] - '0'));
			field += 3;
		}
		if (n + 1 >= room)
			return -ENAMETOOLONG;
		to[n++] = c;
	}
	to[n] = '\0';
	return 0;
}

static bool has_children(const char *folder)
{
	_cleanup_(close_dir) DIR *dir = opendir(folder);

	if (!dir)
		return false;
	for (const struct dirent *member; (member = readdir(dir));)
		if (member->d_type == DT_DIR && member->d_name[0] != '.')
			return true;
	return false;
}

/* How well a v1 hierarchy tells containers apart; the lower the better, -1 for none. `ret_name` is the controller's. */
static int v1_rank(const char *options, char *ret_name, size_t room)
{
	/* Runtimes put a container into every controller; a program in the kernel reaches these by their number,
	 * name=systemd has none. */
	static const char *const names[] = { "memory",  "pids",  "cpu",    "cpuacct",     "devices",
					     "freezer", "blkio", "cpuset", "name=systemd" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t n = strlen(names[i]);

		for (const char *at = options; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
			if (strncmp(at, names[i], n) || (at[n] && at[n] != ','))
				continue;
			snprintf(ret_name, room, "%s", names[i]);
			return (int)i;
		}
	}
	return -1;
}

struct mount_line {
	char *root, *point, *type, *options;
};

/* "36 35 98:0 /root /point rw,noatime master:1 - type source options", see proc_pid_mountinfo(5). */
static bool mount_line_split(char *line, struct mount_line *ret)
{
	char *rest = line, *word = NULL;

	for (int i = 0; i < 5; i++) {
		word = strsep(&rest, " ");
		if (i == 3)
			ret->root = word;
	}
	ret->point = word;
	/* Optional fields, as many as there are. */
	while (word && strcmp(word, "-"))
		word = strsep(&rest, " ");
	ret->type = strsep(&rest, " ");
	strsep(&rest, " ");
	ret->options = strsep(&rest, " ");
	return word && ret->type && ret->options;
}

/* What part of a hierarchy is mounted, the lower the better. Seen from a cgroup namespace, what lies above it is written "/..":
 * in a container, the host's whole hierarchy is "/../..", and "/" only the container's own. */
static int root_rank(const char *root)
{
	if (!strcmp(root, "/"))
		return 1;
	for (; !strncmp(root, "/..", 3); root += 3)
		continue;
	return *root ? 2 : 0;
}

static int copy_mount(const struct mount_line *m, char *point, size_t point_room, char *root, size_t root_room)
{
	int r = field_copy(point, point_room, m->point);

	if (root_rank(m->root) < 2)
		root[0] = '\0';
	else if (r >= 0)
		r = field_copy(root, root_room, m->root);
	return r;
}

static void layout_take_v1(struct cgroup_layout *layout, int *best, const struct mount_line *m)
{
	struct cgroup_layout found = *layout;
	int rank = v1_rank(m->options, found.v1_controller, sizeof found.v1_controller);

	if (rank < 0 || copy_mount(m, found.v1, sizeof found.v1, found.v1_root, sizeof found.v1_root) < 0)
		return;
	/* A hierarchy that is in use before one that is not, a whole one before a part. */
	rank += (has_children(found.v1) ? 0 : 1000) + 100 * root_rank(m->root);
	if (rank >= *best)
		return;
	*best = rank;
	*layout = found;
}

static void layout_take_v2(struct cgroup_layout *layout, int *best, const struct mount_line *m)
{
	struct cgroup_layout found = *layout;
	int rank = root_rank(m->root);

	if (rank >= *best || copy_mount(m, found.v2, sizeof found.v2, found.v2_root, sizeof found.v2_root) < 0)
		return;
	*best = rank;
	*layout = found;
}

int cgroup_layout_read(const char *mountinfo, struct cgroup_layout *ret)
{
	_cleanup_(free_pointer) char *text = NULL;
	struct cgroup_layout layout = { 0 };
	int best_v1 = INT_MAX, best_v2 = INT_MAX;
	char *save = NULL;
	int r = read_small_file(mountinfo, MOUNTINFO_MAX, &text, NULL);

	if (r < 0)
		return r;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct mount_line m = { 0 };

		if (!mount_line_split(line, &m))
			continue;
		if (!strcmp(m.type, "cgroup2"))
			layout_take_v2(&layout, &best_v2, &m);
		else if (!strcmp(m.type, "cgroup"))
			layout_take_v1(&layout, &best_v1, &m);
	}
	if (layout.v2[0] && (has_children(layout.v2) || !has_children(layout.v1)))
		layout.v1[0] = layout.v1_root[0] = layout.v1_controller[0] = '\0';
	*ret = layout;
	return 0;
}
