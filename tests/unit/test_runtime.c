/* SPDX-License-Identifier: Apache-2.0 */
/* What runtimes write of their containers: files as docker, containerd, CRI-O and podman leave them, and what is no such file. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity/runtime.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char root[64];

static void put(const char *path, const char *text)
{
	char full[1024];
	FILE *file;

	snprintf(full, sizeof full, "%s%s", root, path);
	for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); *at++ = '/') {
		*at = '\0';
		mkdir(full, 0755);
	}
	file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int begin(void **state)
{
	struct runtimes *r;

	snprintf(root, sizeof root, "/tmp/sonde-runtime-XXXXXX");
	if (!mkdtemp(root) || runtimes_open(&r, root) < 0)
		return -1;
	*state = r;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static int end(void **state)
{
	runtimes_close(*state);
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const struct runtime_info *find(void **state)
{
	return runtimes_find(*state, ID, strlen(ID), NS_PER_SEC);
}

static void test_docker(void **state)
{
	const struct runtime_info *info;

	put("/var/lib/docker/containers/" ID "/config.v2.json",
	    "{\"StreamConfig\":{},\"State\":{\"Running\":true,\"Pid\":17},\"ID\":\"" ID
	    "\",\"Image\":\"sha256:77af4d\","
	    "\"Config\":{\"Image\":\"registry:5000/team/web:1.25\",\"Labels\":{\"team\":\"a "
	    "\\u003cb\\u003e\",\"empty\":\"\"}},"
	    "\"Name\":\"/web\",\"HasBeenStartedBefore\":true}");
	put("/var/lib/docker/containers/" ID "/hostconfig.json", "{\"Binds\":null,\"Privileged\":true}");
	info = find(state);
	assert_non_null(info);
	assert_string_equal(info->name, "web");
	assert_string_equal(info->image, "registry:5000/team/web:1.25");
	assert_string_equal(info->image_id, "sha256:77af4d");
	assert_true(info->privileged_known && info->privileged);
	assert_null(info->pod);
	assert_int_equal(info->n_labels, 1);
	assert_string_equal(info->labels[0].key, "team");
	assert_string_equal(info->labels[0].value, "a <b>");
}

static void test_docker_below_kubernetes(void **state)
{
	const struct runtime_info *info;

	put("/var/lib/docker/containers/" ID "/config.v2.json",
	    "{\"Config\":{\"Image\":\"sha256:1\",\"Labels\":{\"io.kubernetes.container.name\":\"app\",\"io.kubernetes."
	    "pod.name\":\"web-7f\","
	    "\"io.kubernetes.pod.namespace\":\"shop\",\"io.kubernetes.sandbox.id\":\"5b\"}},\"Name\":\"/"
	    "k8s_app_web-7f_shop\"}");
	info = find(state);
	assert_non_null(info);
	assert_string_equal(info->name, "app");
	assert_string_equal(info->pod, "web-7f");
	assert_string_equal(info->namespace, "shop");
	assert_string_equal(info->sandbox, "5b");
	assert_false(info->privileged_known);
}

static void test_containerd(void **state)
{
	static const char *const folders[] = { "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" ID
					       "/config.json",
					       "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/" ID
					       "/config.json" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		const struct runtime_info *info;

		put(folders[i],
		    "{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"sh\"]},\"annotations\":{"
		    "\"io.kubernetes.cri.container-type\":\"container\",\"io.kubernetes.cri.container-name\":\"app\","
		    "\"io.kubernetes.cri.image-name\":\"docker.io/library/nginx:1.25\","
		    "\"io.kubernetes.cri.sandbox-id\":\"77\",\"io.kubernetes.cri.sandbox-name\":\"web-7f\","
		    "\"io.kubernetes.cri.sandbox-namespace\":\"shop\"}}");
		info = find(state);
		assert_non_null(info);
		assert_string_equal(info->name, "app");
		assert_string_equal(info->image, "docker.io/library/nginx:1.25");
		assert_string_equal(info->pod, "web-7f");
		assert_string_equal(info->namespace, "shop");
		assert_string_equal(info->sandbox, "77");
		end(state);
		begin(state);
	}
}

static void test_crio(void **state)
{
	const struct runtime_info *info;

	put("/run/containers/storage/overlay-containers/" ID "/userdata/config.json",
	    "{\n\t\"annotations\": {\n\t\t\"io.kubernetes.container.name\": \"app\",\n\t\t\"io.kubernetes.pod.name\": "
	    "\"web\",\n"
	    "\t\t\"io.kubernetes.pod.namespace\": \"shop\",\n\t\t\"io.kubernetes.cri-o.ImageName\": "
	    "\"quay.io/x/y:2\",\n"
	    "\t\t\"io.kubernetes.cri-o.SandboxID\": \"99\"\n\t}\n}\n");
	info = find(state);
	assert_non_null(info);
	assert_string_equal(info->name, "app");
	assert_string_equal(info->image, "quay.io/x/y:2");
	assert_string_equal(info->pod, "web");
	assert_string_equal(info->sandbox, "99");
}

static void test_podman(void **state)
{
	const struct runtime_info *info;

	put("/var/lib/containers/storage/overlay-containers/" ID "/userdata/config.json",
	    "{\"annotations\":{\"io.container.manager\":\"libpod\",\"io.podman.annotations.privileged\":\"TRUE\"}}");
	put("/var/lib/containers/storage/overlay-containers/containers.json",
	    "[{\"id\":\"ff\",\"names\":[\"other\"]},{\"id\":\"" ID "\",\"names\":[\"web\"],\"image\":\"77af\","
	    "\"metadata\":\"{\\\"image-name\\\":\\\"docker.io/library/nginx:latest\\\",\\\"name\\\":\\\"web\\\"}\"}]");
	info = find(state);
	assert_non_null(info);
	assert_string_equal(info->name, "web");
	assert_string_equal(info->image, "docker.io/library/nginx:latest");
	assert_string_equal(info->image_id, "77af");
	assert_true(info->privileged_known && info->privileged);
}

/* What the runtimes' own configuration says of where they keep it. */
static void test_other_folders(void **state)
{
	const struct runtime_info *info;

	put("/etc/docker/daemon.json", "{\n\t\"debug\": true,\n\t\"data-root\": \"/srv/docker\"\n}");
	put("/srv/docker/containers/" ID "/config.v2.json", "{\"Config\":{\"Image\":\"web:1\"},\"Name\":\"/web\"}");
	info = find(state);
	assert_non_null(info);
	assert_string_equal(info->name, "web");
}

static void test_storage_elsewhere(void **state)
{
	const struct runtime_info *info;

	put("/etc/docker/daemon.json", "{\"data-root\": [");
	put("/etc/containers/storage.conf",
	    "[storage]\n  # graphroot = \"/no\"\n  driver = \"overlay\"\n  graphroot = \"/srv/pods\"\n");
	put("/srv/pods/overlay-containers/containers.json",
	    "[{\"id\":\"" ID
	    "\",\"names\":[\"job\"],\"image\":\"ab12\",\"metadata\":\"{\\\"image-name\\\":\\\"job:2\\\"}\"}]");
	info = find(state);
	assert_non_null(info);
	assert_string_equal(info->name, "job");
	assert_string_equal(info->image, "job:2");
}

/* It is looked for again, at longer and longer intervals. */
static void test_what_comes_later(void **state)
{
	struct runtimes *r = *state;
	uint64_t now = NS_PER_SEC;

	assert_null(runtimes_find(r, ID, 64, now));
	put("/var/lib/docker/containers/" ID "/config.v2.json", "{\"Name\":\"/web\"}");
	assert_null(runtimes_find(r, ID, 64, now + NS_PER_SEC / 2));
	assert_non_null(runtimes_find(r, ID, 64, now + NS_PER_SEC));
	assert_string_equal(runtimes_find(r, ID, 64, now + NS_PER_SEC)->name, "web");
	for (unsigned n = 0, looked = 0; n < 5; n++) {
		char id[] = "00";

		now = 100 * NS_PER_SEC;
		for (unsigned s = 0; s < 200; s++)
			looked += runtimes_find(r, id, 2, now + s * NS_PER_SEC) != NULL;
		assert_int_equal(looked, 0);
	}
}

static void test_no_such_file(void **state)
{
	static const char *const texts[] = { "",
					     "{",
					     "[]",
					     "\"x\"",
					     "{\"Config\":[]}",
					     "{\"Config\":{\"Labels\":[1,2],\"Image\":{}},\"Name\":{}}",
					     "\x01\xff",
					     "null" };
	char id[3];

	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		const struct runtime_info *info;
		char path[128];

		snprintf(id, sizeof id, "%02u", i);
		snprintf(path, sizeof path, "/var/lib/docker/containers/%s/config.v2.json", id);
		put(path, texts[i]);
		info = runtimes_find(*state, id, 2, NS_PER_SEC);
		if (info)
			assert_true(!info->name && !info->image && !info->n_labels);
	}
}

/* Nothing that leads out of the folder, and nothing that has more than its room. */
static void test_hostile(void **state)
{
	static char text[200000];
	const struct runtime_info *info;
	size_t used;

	put("/var/lib/docker/config.v2.json", "{\"Name\":\"/out\"}");
	assert_null(runtimes_find(*state, "..", 2, NS_PER_SEC));
	assert_null(runtimes_find(*state, "a/b", 3, NS_PER_SEC));
	assert_null(runtimes_find(*state, "", 0, NS_PER_SEC));
	assert_null(runtimes_find(*state, ID ID, 128, NS_PER_SEC));
	used = (size_t)snprintf(text, sizeof text, "{\"Name\":\"/web\",\"Config\":{\"Image\":\"x\",\"Labels\":{");
	for (unsigned i = 0; i < 1000; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s\"l%u\":\"%0*u\"", i ? "," : "", i,
					 i == 3 ? 9000 : 100, i);
	snprintf(text + used, sizeof text - used, "}}}");
	put("/var/lib/docker/containers/" ID "/config.v2.json", text);
	info = find(state);
	assert_non_null(info);
	assert_string_equal(info->name, "web");
	assert_in_range(info->n_labels, 50, RUNTIME_LABELS_MAX);
	assert_string_equal(info->labels[3].key, "l4"); /* l3 found no room */
}

/* More than there is room for. */
static void test_many(void **state)
{
	char id[8], path[128], text[64];

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(id, sizeof id, "%04u", i);
		snprintf(path, sizeof path, "/var/lib/docker/containers/%s/config.v2.json", id);
		snprintf(text, sizeof text, "{\"Name\":\"/n%u\"}", i);
		put(path, text);
		snprintf(text, sizeof text, "n%u", i);
		assert_string_equal(runtimes_find(*state, id, 4, NS_PER_SEC + i)->name, text);
		assert_string_equal(runtimes_find(*state, id, 4, NS_PER_SEC + i)->name, text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_docker, begin, end),
		cmocka_unit_test_setup_teardown(test_docker_below_kubernetes, begin, end),
		cmocka_unit_test_setup_teardown(test_containerd, begin, end),
		cmocka_unit_test_setup_teardown(test_crio, begin, end),
		cmocka_unit_test_setup_teardown(test_podman, begin, end),
		cmocka_unit_test_setup_teardown(test_other_folders, begin, end),
		cmocka_unit_test_setup_teardown(test_storage_elsewhere, begin, end),
		cmocka_unit_test_setup_teardown(test_what_comes_later, begin, end),
		cmocka_unit_test_setup_teardown(test_no_such_file, begin, end),
		cmocka_unit_test_setup_teardown(test_hostile, begin, end),
		cmocka_unit_test_setup_teardown(test_many, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
