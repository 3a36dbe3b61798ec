/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel compares numbers: cgroups are looked up by id along a cgroup's ancestors, so only those that are named go into the
 * table, not what lies below them; users by uid; processes by a mark that their descendants inherit.
 *
 * A change is made in an order that never leaves out what both the old and the new lists mean: all names are made into keys
 * first (here it may still fail, with nothing changed), then new keys are added, then the marks and the set of lists in use
 * switch together, then old keys go.
 */
#include "filter.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fts.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "identity/cgroup.h"

#define KEY_MAX 16

struct keys {
	const char *list, *map;
	size_t size, n;
	uint8_t at[SONDE_FILTERS_MAX][KEY_MAX];
};

struct filters {
	struct keys cgroups, users, comms, pids;
};

static int keys_add(struct keys *keys, const void *key, struct fault *fault)
{
	if (keys->n == SONDE_FILTERS_MAX)
		return fault_set(fault, -E2BIG, "%s: at most %d entries", keys->list, SONDE_FILTERS_MAX);
	memcpy(keys->at[keys->n++], key, keys->size);
	return 0;
}

static bool keys_have(const struct keys *keys, const void *key)
{
	for (size_t i = 0; i < keys->n; i++)
		if (!memcmp(keys->at[i], key, keys->size))
			return true;
	return false;
}

/* ---- from names to keys ---- */

static int parse_user(struct keys *keys, const char *name, struct fault *fault)
{
	const struct passwd *user = getpwnam(name);
	char *end;
	uint32_t uid = (uint32_t)strtoul(name, &end, 10);

	if (user)
		uid = user->pw_uid;
	else if (*end || end == name)
		return fault_set(fault, -EINVAL, "filter.user: there is no user '%s'", name);
	return keys_add(keys, &uid, fault);
}

static int parse_comm(struct keys *keys, const char *name, struct fault *fault)
{
	char comm[KEY_MAX] = "";

	if (strlen(name) > 15)
		return fault_set(fault, -EINVAL, "filter.comm: '%s' is longer than the 15 bytes that the kernel keeps",
				 name);
	memcpy(comm, name, strlen(name));
	return keys_add(keys, comm, fault);
}

static int parse_pid(struct keys *keys, const char *text, struct fault *fault)
{
	char *end;
	uint32_t pid = (uint32_t)strtoul(text, &end, 10);

	if (*end || end == text || !pid)
		return fault_set(fault, -EINVAL, "filter.pid: '%s' is no process id", text);
	return keys_add(keys, &pid, fault);
}

static int parse_list(const struct config *config, struct keys *keys,
		      int (*parse)(struct keys *keys, const char *text, struct fault *fault), struct fault *fault)
{
	const char *const *items;
	size_t n = config_list(config, keys->list, &items);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = parse(keys, items[i], fault);
	return r;
}

/* ---- cgroups ---- */

static uint64_t cgroup_key(unsigned hierarchy, uint64_t id)
{
	return hierarchy ? id | SONDE_FILTER_CGROUP_V1 : id;
}

static bool means_container(const struct config *config, const char *path)
{
	const char *const *items, *id, *above, *slash = strrchr(path, '/');
	size_t n = config_list(config, "filter.container", &items), length = n ? cgroup_container(path, &id) : 0;
	char parent[4096];

	if (!length)
		return false;
	/* What a container makes below its own cgroup is found from there. */
	snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
	if (cgroup_container(parent, &above) == length && !memcmp(above, id, length))
		return false;
	for (size_t i = 0; i < n; i++)
		if (strlen(items[i]) <= length && !strncmp(id, items[i], strlen(items[i])))
			return true;
	return false;
}

static bool means(const struct config *config, const char *path)
{
	const char *const *items;
	size_t n = config_list(config, "filter.cgroup", &items);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(items[i], path))
			return true;
	return means_container(config, path);
}

void filter_cgroup_made(struct loader *loader, const struct config *config, unsigned hierarchy, uint64_t id,
			const char *path)
{
	int map = loader_map(loader, "sonde_filter_cgroup");
	uint64_t key = cgroup_key(hierarchy, id);
	uint8_t one = 1;

	if (map < 0)
		return;
	if (means(config, path))
		bpf_map_update_elem(map, &key, &one, BPF_ANY);
	else
		bpf_map_delete_elem(map, &key);
}

void filter_cgroup_removed(struct loader *loader, unsigned hierarchy, uint64_t id)
{
	int map = loader_map(loader, "sonde_filter_cgroup");
	uint64_t key = cgroup_key(hierarchy, id);

	if (map >= 0)
		bpf_map_delete_elem(map, &key);
}

static int add_cgroups_below(const struct config *config, struct keys *keys, unsigned hierarchy, const char *mount,
			     const char *root, struct fault *fault)
{
	char *roots[] = { (char *)mount, NULL }, path[4096];
	FTS *walk = *mount ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL) : NULL;
	FTSENT *entry;
	int r = 0;

	while (walk && r == 0 && (entry = fts_read(walk))) {
		if (entry->fts_info != FTS_D)
			continue;
		snprintf(path, sizeof path, "%s%s", root, entry->fts_path + strlen(mount));
		if (means(config, *path ? path : "/"))
			r = keys_add(keys, &(uint64_t){ cgroup_key(hierarchy, entry->fts_statp->st_ino) }, fault);
	}
	if (walk)
		fts_close(walk);
	return r;
}

static int find_cgroups(const struct config *config, struct keys *keys, struct fault *fault)
{
	struct cgroup_layout layout;
	int r;

	if (cgroup_layout_read("/proc/self/mountinfo", &layout) < 0)
		return 0;
	r = add_cgroups_below(config, keys, 0, layout.v2, layout.v2_root, fault);
	return r < 0 ? r : add_cgroups_below(config, keys, 1, layout.v1, layout.v1_root, fault);
}

/* ---- into the kernel ---- */

static uint32_t lists_in_use(const struct config *config)
{
	const char *const *items;

	return (config_list(config, "filter.cgroup", &items) || config_list(config, "filter.container", &items)
			? SONDE_FILTER_CGROUP
			: 0) |
	       (config_list(config, "filter.user", &items) ? SONDE_FILTER_USER : 0) |
	       (config_list(config, "filter.comm", &items) ? SONDE_FILTER_COMM : 0) |
	       (config_list(config, "filter.pid", &items) ? SONDE_FILTER_PID : 0);
}

/* Takes what `keys` does not have out of its table. */
static void remove_old(struct loader *loader, const struct keys *keys)
{
	int map = loader_map(loader, keys->map);
	uint8_t key[KEY_MAX], next[KEY_MAX];
	bool more = bpf_map_get_next_key(map, NULL, next) == 0;

	for (unsigned i = 0; more && i < 2 * SONDE_FILTERS_MAX; i++) {
		memcpy(key, next, keys->size);
		more = bpf_map_get_next_key(map, key, next) == 0;
		if (!keys_have(keys, key))
			bpf_map_delete_elem(map, key);
	}
}

static int add_new(struct loader *loader, const struct keys *keys, struct fault *fault)
{
	int map = loader_map(loader, keys->map);
	uint8_t one = 1;

	for (size_t i = 0; i < keys->n; i++) {
		if (bpf_map_update_elem(map, keys->at[i], &one, BPF_ANY) == 0)
			continue;
		remove_old(loader, keys); /* both together have no room */
		if (bpf_map_update_elem(map, keys->at[i], &one, BPF_ANY) < 0)
			return fault_set(fault, -errno, "%s: the kernel does not take it: %s", keys->list,
					 strerror(errno));
	}
	return 0;
}

static int switch_over(struct loader *loader, uint32_t lists)
{
	int map = loader_map(loader, "sonde_settings");
	struct sonde_settings settings = { 0 };
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(map, &zero, &settings) < 0)
		return -errno;
	settings.filters = lists;
	settings.selected = settings.selected == SONDE_TASK_SELECTED ? SONDE_TASK_SELECTED2 : SONDE_TASK_SELECTED;
	return bpf_map_update_elem(map, &zero, &settings, BPF_ANY) < 0 ? -errno : 0;
}

static int filters_read(struct filters *f, const struct config *config, struct fault *fault)
{
	int r;

	f->cgroups.list = "filter.cgroup", f->cgroups.map = "sonde_filter_cgroup", f->cgroups.size = 8;
	f->users.list = "filter.user", f->users.map = "sonde_filter_user", f->users.size = 4;
	f->comms.list = "filter.comm", f->comms.map = "sonde_filter_comm", f->comms.size = 16;
	f->pids.list = "filter.pid", f->pids.map = "sonde_filter_pid", f->pids.size = 4;
	r = parse_list(config, &f->users, parse_user, fault);
	if (r == 0)
		r = parse_list(config, &f->comms, parse_comm, fault);
	if (r == 0)
		r = parse_list(config, &f->pids, parse_pid, fault);
	if (r == 0 && lists_in_use(config) & SONDE_FILTER_CGROUP)
		r = find_cgroups(config, &f->cgroups, fault);
	return r;
}

int filter_apply(struct loader *loader, const struct config *config, struct fault *fault)
{
	_cleanup_(free_pointer) struct filters *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return -ENOMEM;

	struct keys *const all[] = { &f->cgroups, &f->users, &f->comms, &f->pids };

	r = filters_read(f, config, fault);
	for (size_t i = 0; i < ARRAY_SIZE(all) && r == 0; i++)
		r = add_new(loader, all[i], fault);
	/* The marks in use were made from the table before: from now on it is read for the new ones. */
	if (r == 0)
		remove_old(loader, &f->pids);
	if (r == 0)
		r = loader_snapshot(loader, true, fault);
	if (r == 0)
		r = switch_over(loader, lists_in_use(config));
	for (size_t i = 0; i < ARRAY_SIZE(all) && r == 0; i++)
		remove_old(loader, all[i]);
	return r;
}
