/* SPDX-License-Identifier: Apache-2.0 */
/* Cgroup paths and mountinfo are written in part by who may make cgroups and mounts. */
#include <string.h>
#include <sys/mman.h>

#include "identity/cgroup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_path(const char *path)
{
	const char *start = NULL;
	char uid[37];
	size_t n = cgroup_container(path, &start);

	if (n && (start < path || start + n > path + strlen(path)))
		abort();
	n = cgroup_pod(path, uid);
	if (n != strlen(uid))
		abort();
}

/* Each line is an event: '+' or '-', one byte of id, a path. */
static void fuzz_table(char *text)
{
	const struct cgroup_layout none = { 0 };
	struct cgroups *c;
	char *save = NULL;

	if (cgroups_open(&c, &none, 8) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		uint64_t id = strlen(line) > 1 ? (uint8_t)line[1] : 0;
		struct cgroup_name name;

		if (line[0] == '-')
			cgroups_remove(c, id & 1, id);
		else
			cgroups_add(c, id & 1, id, strlen(line) > 2 ? line + 2 : "/");
		cgroups_find(c, id & 1, id, &name);
		if (name.path_length != strlen(name.path) || name.container_length != strlen(name.container))
			abort();
	}
	cgroups_close(c);
}

static void fuzz_mountinfo(const uint8_t *data, size_t size)
{
	_cleanup_(close_fd) int fd = memfd_create("mountinfo", MFD_CLOEXEC);
	struct cgroup_layout layout;
	char path[64];

	if (fd < 0 || write_all(fd, data, size) < 0)
		return;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	cgroup_layout_read(path, &layout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(free_pointer) char *text = malloc(size + 1);

	if (!text || !size)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] % 3 == 0)
		fuzz_path(text);
	else if (data[0] % 3 == 1)
		fuzz_table(text);
	else
		fuzz_mountinfo(data + 1, size - 1);
	return 0;
}
