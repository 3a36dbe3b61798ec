/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "identity/cgroup.h"

#define ID     "3f29eb62d9a1b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
#define OTHER  "b7c1dd7a0b4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"
#define UID    "0f8c3f0e-9b1a-4c5d-8e7f-0123456789ab"
#define UID_   "0f8c3f0e_9b1a_4c5d_8e7f_0123456789ab"
#define MIRROR "e9f1a2b3c4d5e6f708192a3b4c5d6e7f"
#define TASK   "9781c248041147f6b1a2c3d4e5f60718"

struct known_path {
	const char *path, *container, *pod;
};

static const struct known_path known_paths[] = {
	/* no container */
	{ "/", "", "" },
	{ "", "", "" },
	{ "/init.scope", "", "" },
	{ "/system.slice/docker.service", "", "" },
	{ "/system.slice/ssh.service", "", "" },
	{ "/user.slice/user-1000.slice/user@1000.service/app.slice/run-r" MIRROR ".scope", "", "" },
	{ "/user.slice/user-1000.slice/session-3.scope", "", "" },
	{ "/process_api/8298e241e13f35a3af803f566b0d409a", "", "" },
	{ "/system.slice/var-lib-docker-overlay2-" ID "-merged.mount", "", "" },
	{ "/docker", "", "" },
	{ "/docker/buildkit", "", "" },
	{ "/kubepods.slice", "", "" },
	{ "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_ ".slice", "", UID },
	{ "/kubepods/besteffort/pod" UID, "", UID },
	/* docker */
	{ "/docker/" ID, ID, "" },
	{ "/docker/" ID "/", ID, "" },
	{ "/system.slice/docker-" ID ".scope", ID, "" },
	{ "/system.slice/docker-" ID ".scope/init", ID, "" },
	{ "/system.slice/docker-" ID ".scope/system.slice/nginx.service", ID, "" },
	{ "/docker/3f29eb62d9a1", "3f29eb62d9a1", "" },
	{ "/system.slice/docker-3f29eb62d9a1.scope", "3f29eb62d9a1", "" },
	{ "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" ID ".scope", ID, "" },
	{ "/actions_job/" ID, ID, "" },
	{ "/../../docker/" ID, ID, "" },
	/* docker in docker, and kind */
	{ "/docker/" OTHER "/docker/" ID, ID, "" },
	{ "/docker/" OTHER "/kubelet/kubepods/burstable/pod" UID "/" ID, ID, UID },
	{ "/system.slice/docker-" OTHER ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" UID_
	  ".slice/cri-containerd-" ID ".scope",
	  ID, UID },
	{ "/docker/" OTHER "/buildkit/qj2b1d8d0vq0x3l8g5b0c7c3k", OTHER, "" },
	/* containerd and its CRI */
	{ "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_ ".slice/cri-containerd-" ID ".scope",
	  ID, UID },
	{ "/kubepods.slice/kubepods-pod" UID_ ".slice/cri-containerd-" ID ".scope", ID, UID },
	{ "/kubepods/burstable/pod" UID "/" ID, ID, UID },
	{ "/kubepods/pod" UID "/" ID, ID, UID },
	{ "/kubepods/burstable/pod" MIRROR "/" ID, ID, MIRROR },
	{ "/system.slice/containerd.service/kubepods-burstable-pod" UID_ ".slice:cri-containerd:" ID, ID, UID },
	{ "/default/" ID, ID, "" },
	{ "/system.slice/nerdctl-" ID ".scope", ID, "" },
	{ "/kata_" ID, ID, "" },
	/* CRI-O */
	{ "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_ ".slice/crio-" ID ".scope", ID,
	  UID },
	{ "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_ ".slice/crio-" ID ".scope/container",
	  ID, UID },
	{ "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_ ".slice/crio-conmon-" ID ".scope",
	  "", UID },
	{ "/kubepods/burstable/pod" UID "/crio-" ID, ID, UID },
	{ "/kubepods/burstable/pod" UID "/crio-conmon-" ID, "", UID },
	/* podman */
	{ "/machine.slice/libpod-" ID ".scope", ID, "" },
	{ "/machine.slice/libpod-" ID ".scope/container", ID, "" },
	{ "/machine.slice/libpod-conmon-" ID ".scope", "", "" },
	{ "/libpod_parent/libpod-" ID, ID, "" },
	{ "/libpod_parent/libpod-conmon-" ID, "", "" },
	{ "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope", ID, "" },
	{ "/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_" OTHER ".slice/libpod-" ID
	  ".scope/container",
	  ID, "" },
	{ "/system.slice/web.service/libpod-payload-" ID, ID, "" },
	/* LXC, LXD, libvirt */
	{ "/lxc/web1", "web1", "" },
	{ "/lxc/100/ns", "100", "" },
	{ "/lxc.payload.web1", "web1", "" },
	{ "/lxc.payload.web1/system.slice/cron.service", "web1", "" },
	{ "/lxc.payload/web1/init.scope", "web1", "" },
	{ "/lxc.monitor.web1", "", "" },
	{ "/lxc.monitor/web1", "", "" },
	{ "/lxc.payload.web1/docker/" ID, ID, "" },
	{ "/machine/web1.libvirt-lxc", "web1", "" },
	{ "/machine/qemu-1-vm.libvirt-qemu", "", "" },
	/* systemd-nspawn */
	{ "/machine.slice/machine-web1.scope", "web1", "" },
	{ "/machine.slice/machine-web1.scope/payload/init.scope", "web1", "" },
	{ "/machine.slice/systemd-nspawn@web1.service/payload", "web1", "" },
	{ "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", "", "" },
	/* ECS, Garden, Mesos */
	{ "/ecs/" TASK "/" ID, ID, "" },
	{ "/ecs/my-service/" TASK "/" ID, ID, "" },
	{ "/ecs/" TASK "/" TASK "-2574839563", TASK "-2574839563", "" },
	{ "/ecstasks.slice/ecstasks-" TASK ".slice/docker-" ID ".scope", ID, "" },
	{ "/garden/6f265890-5165-7fab-6b52-18d1", "6f265890-5165-7fab-6b52-18d1", "" },
	{ "/system.slice/garden.service/garden/good/" UID, UID, "" },
	{ "/mesos/" UID, UID, "" },
	/* near misses */
	{ "/docker/3f29eb62d9a", "", "" },
	{ "/docker/" ID "0", "", "" },
	{ "/x" ID, "", "" },
	{ "/docker/3F29EB62D9A1B4C5D6E7F8091A2B3C4D5E6F708192A3B4C5D6E7F8091A2B3C4D", "", "" },
	{ "/kubepods/burstable/podcast/" ID, ID, "" },
	{ "/" UID, "", "" },
	{ "/machine-.scope", "", "" },
	{ "/lxc.payload.", "", "" },
	{ "//////", "", "" },
};

static void names_containers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(known_paths); i++) {
		const struct known_path *k = &known_paths[i];
		const char *start = NULL;
		char found[128], pod[37];
		size_t n = cgroup_container(k->path, &start);

		snprintf(found, sizeof found, "%.*s", (int)n, n ? start : "");
		if (strcmp(found, k->container))
			fail_msg("%s: container '%s', not '%s'", k->path, found, k->container);
		if (n)
			assert_true(start >= k->path && start + n <= k->path + strlen(k->path));
		n = cgroup_pod(k->path, pod);
		assert_int_equal(n, strlen(pod));
		if (strcmp(pod, k->pod))
			fail_msg("%s: pod '%s', not '%s'", k->path, pod, k->pod);
	}
}

/* A folder tree that stands for a mounted hierarchy. */
struct tree {
	char folder[256];
	struct cgroup_layout layout;
};

static void tree_make(struct tree *t, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", t->folder, name);
	if (mkdir(path, 0700))
		fail_msg("%s: %s", path, strerror(errno));
}

static uint64_t tree_id(const struct tree *t, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", t->folder, name);
	assert_return_code(stat(path, &st), errno);
	return st.st_ino;
}

static void tree_remove(const struct tree *t, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", t->folder, name);
	assert_return_code(rmdir(path), errno);
}

static int tree_setup(void **state)
{
	struct tree *t = calloc(1, sizeof *t);

	strcpy(t->folder, "/tmp/test_cgroup.XXXXXX");
	assert_non_null(mkdtemp(t->folder));
	snprintf(t->layout.v2, sizeof t->layout.v2, "%s", t->folder);
	*state = t;
	return 0;
}

static int tree_teardown(void **state)
{
	struct tree *t = *state;
	char command[300];

	snprintf(command, sizeof command, "rm -rf %s", t->folder);
	assert_int_equal(system(command), 0);
	free(t);
	return 0;
}

static void expect_path(struct cgroups *c, unsigned hierarchy, uint64_t id, const char *path)
{
	struct cgroup_name name;

	cgroups_find(c, hierarchy, id, &name);
	assert_string_equal(name.path, path);
	assert_int_equal(name.path_length, strlen(path));
	assert_int_equal(name.container_length, strlen(name.container));
}

static void walks_at_start(void **state)
{
	struct tree *t = *state;
	struct cgroups *c;
	struct cgroup_name name;

	tree_make(t, "docker");
	tree_make(t, "docker/" ID);
	tree_make(t, "docker/" ID "/sub");
	assert_int_equal(cgroups_open(&c, &t->layout, 16), 0);
	expect_path(c, 0, tree_id(t, ""), "/");
	expect_path(c, 0, tree_id(t, "docker"), "/docker");
	cgroups_find(c, 0, tree_id(t, "docker/" ID "/sub"), &name);
	assert_string_equal(name.path, "/docker/" ID "/sub");
	assert_string_equal(name.container, ID);
	/* The same number in the other hierarchy is another cgroup. */
	cgroups_find(c, 1, tree_id(t, "docker"), &name);
	assert_memory_equal(name.path, "cgroup:", 7);
	cgroups_close(c);

	strcpy(t->layout.v2_root, "/kubepods/" ID);
	assert_int_equal(cgroups_open(&c, &t->layout, 16), 0);
	expect_path(c, 0, tree_id(t, ""), "/kubepods/" ID);
	expect_path(c, 0, tree_id(t, "docker"), "/kubepods/" ID "/docker");
	cgroups_close(c);
}

static void keeps_removed_ones(void **state)
{
	struct tree *t = *state;
	struct cgroups_health health;
	struct cgroups *c;

	assert_int_equal(cgroups_open(&c, &t->layout, 4), 0);
	assert_int_equal(cgroups_add(c, 0, 1001, "/a"), 0);
	assert_int_equal(cgroups_add(c, 0, 1002, "/b"), 0);
	assert_int_equal(cgroups_add(c, 0, 1003, "/c"), 0);
	assert_int_equal(cgroups_add(c, 0, 1004, "/d"), -ENOSPC);
	cgroups_remove(c, 0, 1002);
	cgroups_remove(c, 0, 1001);
	cgroups_remove(c, 0, 1001);
	cgroups_remove(c, 0, 77);
	expect_path(c, 0, 1001, "/a");
	expect_path(c, 0, 1002, "/b");
	/* The longest removed goes first. */
	assert_int_equal(cgroups_add(c, 0, 1004, "/d"), 0);
	expect_path(c, 0, 1001, "/a");
	expect_path(c, 0, 1004, "/d");
	expect_path(c, 0, 1002, "cgroup:1002");
	/* Added again, it is living again. */
	assert_int_equal(cgroups_add(c, 0, 1001, "/a"), 0);
	assert_int_equal(cgroups_add(c, 0, 1005, "/e"), -ENOSPC);
	cgroups_health(c, &health);
	assert_int_equal(health.live, 4);
	assert_int_equal(health.removed, 0);
	assert_int_equal(health.evicted, 1);
	assert_int_equal(health.refused, 2);
	cgroups_close(c);
}

static void follows_renames(void **state)
{
	struct tree *t = *state;
	struct cgroup_name name;
	struct cgroups *c;

	assert_int_equal(cgroups_open(&c, &t->layout, 64), 0);
	assert_int_equal(cgroups_add(c, 1, 5, "/docker"), 0);
	assert_int_equal(cgroups_add(c, 1, 6, "/docker/x"), 0);
	assert_int_equal(cgroups_add(c, 1, 7, "/docker/x/y"), 0);
	assert_int_equal(cgroups_add(c, 1, 8, "/docker/xx"), 0);
	assert_int_equal(cgroups_add(c, 0, 7, "/docker/x/y"), 0);
	assert_int_equal(cgroups_add(c, 1, 6, "/docker/" ID), 0);
	cgroups_find(c, 1, 7, &name);
	assert_string_equal(name.path, "/docker/" ID "/y");
	assert_string_equal(name.container, ID);
	expect_path(c, 1, 8, "/docker/xx");
	expect_path(c, 0, 7, "/docker/x/y");
	cgroups_close(c);
}

static void refuses_nonsense(void **state)
{
	struct tree *t = *state;
	char path[8192];
	struct cgroups *c;

	assert_int_equal(cgroups_open(&c, &t->layout, 0), -EINVAL);
	assert_int_equal(cgroups_open(&c, &t->layout, 1000), 0);
	assert_int_equal(cgroups_add(c, 0, 9, ""), -EINVAL);
	assert_int_equal(cgroups_add(c, 0, 9, "relative"), -EINVAL);
	assert_int_equal(cgroups_add(c, 2, 9, "/"), -EINVAL);
	memset(path, 'a', sizeof path);
	path[0] = '/';
	path[sizeof path - 1] = '\0';
	assert_int_equal(cgroups_add(c, 0, 9, path), -EINVAL);
	path[4095] = '\0';
	/* 256 bytes for each on the whole: 62 paths of 4 KiB. */
	int added = 0;

	for (uint64_t id = 100; id < 1100; id++)
		added += cgroups_add(c, 0, id, path) == 0;
	assert_int_equal(added, 62);
	cgroups_close(c);
	strcpy(t->layout.v2, "/nonexistent");
	assert_int_equal(cgroups_open(&c, &t->layout, 16), -ENOENT);
}

/* The table against the plainest model there is. */
static void agrees_with_a_model(void **state)
{
	struct tree *t = *state;
	enum { IDS = 300 };
	bool known[2][IDS] = { 0 };
	unsigned random = 12345;
	struct cgroups *c;

	/* Room for all, so that nothing is evicted. */
	assert_int_equal(cgroups_open(&c, &t->layout, 2 * IDS + 1), 0);
	for (int i = 0; i < 200000; i++) {
		random = random * 1103515245 + 12345;

		unsigned id = (random >> 8) % IDS, hierarchy = (random >> 20) & 1;
		char path[64];

		snprintf(path, sizeof path, "/%u/%u", hierarchy, id);
		if (random >> 29 & 1) {
			assert_int_equal(cgroups_add(c, hierarchy, id + 1000, path), 0);
			known[hierarchy][id] = true;
		} else {
			cgroups_remove(c, hierarchy, id + 1000);
		}
		if (known[hierarchy][id])
			expect_path(c, hierarchy, id + 1000, path);
	}
	cgroups_close(c);
}

static bool find_is(struct cgroups *c, uint64_t id, const char *path)
{
	struct cgroup_name name;

	cgroups_find(c, 0, id, &name);
	return !strcmp(name.path, path);
}

/* Events were missed: the next walk, at most a second later, sets it right. */
static void walks_again(void **state)
{
	struct tree *t = *state;
	struct cgroups_health health;
	struct cgroups *c;

	tree_make(t, "old");
	assert_int_equal(cgroups_open(&c, &t->layout, 64), 0);
	tree_make(t, "new");
	tree_remove(t, "old");
	/* "old" has gone, and its number may be in use again, so it is not asked for. */
	uint64_t until = now_boottime_ns() + 10 * NS_PER_SEC, id = tree_id(t, "new");

	while (!find_is(c, id, "/new")) {
		struct timespec pause = { .tv_nsec = 10000000 };

		assert_true(now_boottime_ns() < until);
		nanosleep(&pause, NULL);
	}
	cgroups_health(c, &health);
	assert_int_equal(health.walks, 2);
	assert_int_equal(health.live, 2);
	/* What is unknown costs no walk each time. */
	for (uint64_t n = 0; n < 100000; n++)
		assert_true(find_is(c, 424242, "cgroup:424242"));
	cgroups_health(c, &health);
	assert_in_range(health.walks, 2, 3);
	cgroups_close(c);
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void reads_layouts(void **state)
{
	struct tree *t = *state;
	char file[300], text[2048];
	struct cgroup_layout layout;

	snprintf(file, sizeof file, "%s/mountinfo", t->folder);
	tree_make(t, "unified");
	tree_make(t, "pids");
	tree_make(t, "memory");
	tree_make(t, "memory/docker");
	tree_make(t, "sys temd");
	tree_make(t, "sys temd/docker");
	snprintf(text, sizeof text,
		 "31 23 0:28 / /sys rw,relatime - tmpfs tmpfs rw,mode=755\n"
		 "nonsense\n"
		 "40 31 0:37 / %s/sys\\040temd rw shared:9 master:2 - cgroup cgroup rw,xattr,name=systemd\n"
		 "39 31 0:36 / %s/pids rw,relatime - cgroup cgroup rw,pids\n"
		 "35 31 0:32 / %s/memory rw,relatime - cgroup  rw,memory\n"
		 "41 31 0:38 / %s/unified rw,relatime - cgroup2 cgroup2 rw\n",
		 t->folder, t->folder, t->folder, t->folder);
	write_text(file, text);
	assert_int_equal(cgroup_layout_read(file, &layout), 0);
	assert_string_equal(layout.v2 + strlen(t->folder), "/unified");
	assert_string_equal(layout.v1 + strlen(t->folder), "/memory");
	assert_string_equal(layout.v1_controller, "memory");

	tree_remove(t, "memory/docker");
	assert_int_equal(cgroup_layout_read(file, &layout), 0);
	assert_string_equal(layout.v1 + strlen(t->folder), "/sys temd");
	assert_string_equal(layout.v1_controller, "name=systemd");

	/* v2 in use: nothing else is needed. */
	tree_make(t, "unified/system.slice");
	assert_int_equal(cgroup_layout_read(file, &layout), 0);
	assert_string_equal(layout.v1, "");

	snprintf(text, sizeof text,
		 "41 31 0:38 /docker/" ID " /a rw,relatime - cgroup2 cgroup2 rw\n"
		 "42 31 0:38 / /b rw,relatime - cgroup2 cgroup2 rw\n"
		 "43 31 0:38 /docker/" ID " /c rw,relatime - cgroup2 cgroup2 rw\n");
	write_text(file, text);
	assert_int_equal(cgroup_layout_read(file, &layout), 0);
	assert_string_equal(layout.v2, "/b");
	assert_string_equal(layout.v2_root, "");

	/* In a container with a cgroup namespace of its own, where the host's hierarchy is mounted too. */
	write_text(file, "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup rw\n"
			 "42 31 0:38 /../../.. /host/cgroup rw,relatime - cgroup2 cgroup rw\n"
			 "43 31 0:38 /../other /c rw,relatime - cgroup2 cgroup2 rw\n");
	assert_int_equal(cgroup_layout_read(file, &layout), 0);
	assert_string_equal(layout.v2, "/host/cgroup");
	assert_string_equal(layout.v2_root, "");
	write_text(file, "43 31 0:38 /docker/x /c rw,relatime - cgroup2 cgroup2 rw\n");
	assert_int_equal(cgroup_layout_read(file, &layout), 0);
	assert_string_equal(layout.v2_root, "/docker/x");
	assert_int_equal(cgroup_layout_read("/nonexistent", &layout), -ENOENT);
}

/* The kernel's own hierarchies: ids are what the kernel says, and a cgroup made after the walk is named by add. */
static void reads_this_kernel(void **state)
{
	struct tree kernel = { 0 };
	struct cgroups *c;

	(void)state;
	assert_int_equal(cgroup_layout_read("/proc/self/mountinfo", &kernel.layout), 0);
	if (!kernel.layout.v2[0] || geteuid())
		skip();
	snprintf(kernel.folder, sizeof kernel.folder, "%s", kernel.layout.v2);

	char made[64], below[192];

	snprintf(made, sizeof made, "sonde-test-%d", getpid());
	snprintf(below, sizeof below, "%s/docker-" ID ".scope", made);
	tree_make(&kernel, made);
	tree_make(&kernel, below);
	assert_int_equal(cgroups_open(&c, &kernel.layout, 4096), 0);

	struct cgroup_name name;
	uint64_t id = tree_id(&kernel, below);

	cgroups_find(c, 0, id, &name);
	assert_string_equal(name.path + 1, below);
	assert_string_equal(name.container, ID);
	tree_remove(&kernel, below);
	cgroups_remove(c, 0, id);
	cgroups_find(c, 0, id, &name);
	assert_string_equal(name.container, ID);
	tree_remove(&kernel, made);
	cgroups_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_containers),
		cmocka_unit_test_setup_teardown(walks_at_start, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(keeps_removed_ones, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(follows_renames, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(refuses_nonsense, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(agrees_with_a_model, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(walks_again, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(reads_layouts, tree_setup, tree_teardown),
		cmocka_unit_test(reads_this_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
