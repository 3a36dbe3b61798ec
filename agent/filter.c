/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel compares numbers: cgroups are looked up by id along a task's ancestors, so only the cgroups that are named go into the
 * table, not what lies below them; users by uid; processes by a mark that their descendants inherit.
 */
#include "filter.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fts.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "identity/cgroup.h"

static void clear_map(int map, size_t key_size)
{
	uint8_t key[16];

	while (key_size <= sizeof key && bpf_map_get_next_key(map, NULL, key) == 0)
		if (bpf_map_delete_elem(map, key) < 0)
			return;
}

static int add_key(int map, const void *key)
{
	uint8_t one = 1;

	return bpf_map_update_elem(map, key, &one, BPF_ANY) < 0 ? -errno : 0;
}

static int add_users(int map, const char *const *names, size_t n, struct fault *fault)
{
	for (size_t i = 0; i < n; i++) {
		const struct passwd *user = getpwnam(names[i]);
		char *end;
		uint32_t uid = (uint32_t)strtoul(names[i], &end, 10);

		if (user)
			uid = user->pw_uid;
		else if (*end || end == names[i])
			return fault_set(fault, -EINVAL, "filter.user: there is no user '%s'", names[i]);
		if (add_key(map, &uid) < 0)
			return fault_set(fault, -E2BIG, "filter.user: at most %d entries", SONDE_FILTERS_MAX);
	}
	return 0;
}

static int add_comms(int map, const char *const *names, size_t n, struct fault *fault)
{
	for (size_t i = 0; i < n; i++) {
		char comm[16] = "";

		if (strlen(names[i]) > 15)
			return fault_set(fault, -EINVAL,
					 "filter.comm: '%s' is longer than the 15 bytes that the kernel keeps",
					 names[i]);
		memcpy(comm, names[i], strlen(names[i]));
		if (add_key(map, comm) < 0)
			return fault_set(fault, -E2BIG, "filter.comm: at most %d entries", SONDE_FILTERS_MAX);
	}
	return 0;
}

static int add_pids(int map, const char *const *texts, size_t n, struct fault *fault)
{
	for (size_t i = 0; i < n; i++) {
		char *end;
		uint32_t pid = (uint32_t)strtoul(texts[i], &end, 10);

		if (*end || end == texts[i] || !pid)
			return fault_set(fault, -EINVAL, "filter.pid: '%s' is no process id", texts[i]);
		if (add_key(map, &pid) < 0)
			return fault_set(fault, -E2BIG, "filter.pid: at most %d entries", SONDE_FILTERS_MAX);
	}
	return 0;
}

static bool means(const struct config *config, const char *path)
{
	const char *const *items, *id;
	size_t n = config_list(config, "filter.cgroup", &items), length;

	for (size_t i = 0; i < n; i++)
		if (!strcmp(items[i], path))
			return true;
	length = cgroup_container(path, &id);
	n = config_list(config, "filter.container", &items);
	for (size_t i = 0; length && i < n; i++)
		if (strlen(items[i]) <= length && !strncmp(id, items[i], strlen(items[i])))
			return true;
	return false;
}

void filter_cgroup_made(struct loader *loader, const struct config *config, uint64_t id, const char *path)
{
	int map = loader_map(loader, "sonde_filter_cgroup");

	if (map >= 0 && means(config, path))
		add_key(map, &id);
}

static void add_cgroups_below(struct loader *loader, const struct config *config, const char *mount)
{
	char *roots[] = { (char *)mount, NULL };
	FTS *walk = *mount ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL) : NULL;
	FTSENT *entry;

	while (walk && (entry = fts_read(walk)))
		if (entry->fts_info == FTS_D) {
			const char *path = entry->fts_path + strlen(mount);

			filter_cgroup_made(loader, config, entry->fts_statp->st_ino, *path ? path : "/");
		}
	if (walk)
		fts_close(walk);
}

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

static int fill(struct loader *loader, const struct config *config, struct fault *fault)
{
	struct cgroup_layout layout;
	const char *const *items;
	size_t n;
	int r;

	clear_map(loader_map(loader, "sonde_filter_cgroup"), 8);
	clear_map(loader_map(loader, "sonde_filter_user"), 4);
	clear_map(loader_map(loader, "sonde_filter_comm"), 16);
	clear_map(loader_map(loader, "sonde_filter_pid"), 4);
	if (lists_in_use(config) & SONDE_FILTER_CGROUP && cgroup_layout_read("/proc/self/mountinfo", &layout) == 0) {
		add_cgroups_below(loader, config, layout.v2);
		add_cgroups_below(loader, config, layout.v1);
	}
	n = config_list(config, "filter.user", &items);
	r = add_users(loader_map(loader, "sonde_filter_user"), items, n, fault);
	n = config_list(config, "filter.comm", &items);
	if (r == 0)
		r = add_comms(loader_map(loader, "sonde_filter_comm"), items, n, fault);
	n = config_list(config, "filter.pid", &items);
	if (r == 0)
		r = add_pids(loader_map(loader, "sonde_filter_pid"), items, n, fault);
	return r;
}

int filter_apply(struct loader *loader, const struct config *config, struct fault *fault)
{
	int map = loader_map(loader, "sonde_settings"), r = fill(loader, config, fault);
	struct sonde_settings settings = { 0 };
	uint32_t zero = 0;

	if (r == 0)
		r = loader_snapshot(loader, true, fault);
	if (r < 0)
		return r;
	bpf_map_lookup_elem(map, &zero, &settings);
	settings.filters = lists_in_use(config);
	return bpf_map_update_elem(map, &zero, &settings, BPF_ANY) < 0 ? -errno : 0;
}
