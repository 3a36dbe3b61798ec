/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container id in a cgroup path.
 *
 * A runtime gives each container a cgroup of its own, and names the folder after it; which name depends on the runtime,
 * its cgroup driver and the cgroup version, but every one is told by a single folder name and at most the names above
 * it. So the path is read folder by folder from its end, and the first that is a container's is the answer: the
 * innermost of nested ones, whatever the container made below its own folder.
 *
 * The path is hostile in part: who may make cgroups (a privileged container) may choose names below its own folder.
 * Nothing here reads past the terminating NUL or changes anything.
 */
#include "identity/cgroup.h"

#include <string.h>

struct span {
	const char *at;
	size_t length;
};

static bool span_is(struct span s, const char *text)
{
	return s.length == strlen(text) && !memcmp(s.at, text, s.length);
}

static bool span_begins(struct span *s, const char *prefix)
{
	size_t n = strlen(prefix);

	if (s->length <= n || memcmp(s->at, prefix, n))
		return false;
	s->at += n;
	s->length -= n;
	return true;
}

static bool span_ends(struct span *s, const char *suffix)
{
	size_t n = strlen(suffix);

	if (s->length <= n || memcmp(s->at + s->length - n, suffix, n))
		return false;
	s->length -= n;
	return true;
}

/* The folder that ends at `end`, which is behind its last byte; empty at the root. */
static struct span folder_before(const char *path, const char *end)
{
	while (end > path && end[-1] == '/')
		end--;

	const char *begin = end;

	while (begin > path && begin[-1] != '/')
		begin--;
	return (struct span){ begin, (size_t)(end - begin) };
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static size_t count_while(const char *at, size_t length, bool (*is)(char))
{
	size_t n = 0;

	while (n < length && is(at[n]))
		n++;
	return n;
}

static bool all_hex(struct span s, size_t min, size_t max)
{
	return s.length >= min && s.length <= max && count_while(s.at, s.length, is_hex) == s.length;
}

/* "3f2a...-1234567890": the id that Fargate gives. */
static bool is_fargate(struct span s)
{
	if (s.length < 34 || count_while(s.at, s.length, is_hex) != 32 || s.at[32] != '-')
		return false;
	return count_while(s.at + 33, s.length - 33, is_digit) == s.length - 33;
}

/* Groups of hex digits with dashes, the first of 8: a UUID, or Garden's own shorter form of it. */
static bool is_guid(struct span s)
{
	size_t dashes = 0;

	if (s.length < 28 || s.length > 36 || count_while(s.at, s.length, is_hex) != 8)
		return false;
	for (size_t i = 0; i < s.length; i++) {
		if (s.at[i] == '-')
			dashes++;
		else if (!is_hex(s.at[i]))
			return false;
	}
	return dashes == 4;
}

/* Names ending in a full id of 64 digits, with or without the runtime's name before it: "docker-ID.scope", "ID",
 * "kubepods-pod1.slice:cri-containerd:ID", "kata_ID". A monitor's cgroup ("crio-conmon-ID.scope") is not its
 * container's. */
static bool full_id(struct span s, struct span *ret)
{
	size_t before;

	span_ends(&s, ".scope");
	if (s.length < 64)
		return false;
	before = s.length - 64;

	struct span id = { s.at + before, 64 }, prefix = { s.at, before };

	if (!all_hex(id, 64, 64))
		return false;
	if (before && !strchr("-:_", s.at[before - 1]))
		return false;
	if (before && (span_ends(&prefix, "conmon-") || span_is(prefix, "conmon-")))
		return false;
	*ret = id;
	return true;
}

/* Shorter ids are believed only behind a runtime's own name. */
static bool short_id(struct span s, struct span above, struct span *ret)
{
	static const char *const runtimes[] = { "docker-", "cri-containerd-", "crio-",
						"libpod-", "nerdctl-",        "containerd-" };

	bool known = span_is(above, "docker");

	span_ends(&s, ".scope");
	for (size_t i = 0; i < ARRAY_SIZE(runtimes) && !known; i++)
		known = span_begins(&s, runtimes[i]);
	*ret = s;
	return known && all_hex(s, 12, 63);
}

/* LXC and LXD: "/lxc/NAME", "/lxc.payload/NAME", "/lxc.payload.NAME". "lxc.monitor" is the monitor's. */
static bool lxc_name(struct span s, struct span above, struct span *ret)
{
	if (!span_is(above, "lxc") && !span_is(above, "lxc.payload") && !span_begins(&s, "lxc.payload.") &&
	    !span_ends(&s, ".libvirt-lxc"))
		return false;
	*ret = s;
	return true;
}

/* systemd-nspawn: "machine-NAME.scope", or "systemd-nspawn@NAME.service". A virtual machine of libvirt is registered
 * the same way, and is none of ours: its processes are QEMU's. */
static bool nspawn_name(struct span s, struct span *ret)
{
	struct span machine = s;

	if (span_begins(&s, "systemd-nspawn@") && span_ends(&s, ".service")) {
		*ret = s;
		return true;
	}
	if (!span_begins(&machine, "machine-") || !span_ends(&machine, ".scope"))
		return false;
	*ret = machine;
	return !span_begins(&machine, "qemu\\x2d") && !span_begins(&machine, "qemu-");
}

/* Orchestrators that name the container's folder themselves, below a folder of their own. */
static bool orchestrated(struct span s, struct span above, struct span over, struct span *ret)
{
	bool garden = span_is(above, "garden") ||
		      (span_is(over, "garden") && (span_is(above, "good") || span_is(above, "bad")));
	bool ecs = span_is(over, "ecs") || span_is(over, "ecstasks");

	*ret = s;
	return (garden && is_guid(s)) || (span_is(above, "mesos") && is_guid(s)) || (ecs && is_fargate(s));
}

size_t cgroup_container(const char *path, const char **ret_start)
{
	struct span s = folder_before(path, path + strlen(path)), found;

	while (s.length) {
		struct span above = folder_before(path, s.at), over = folder_before(path, above.at);

		if (full_id(s, &found) || short_id(s, above, &found) || lxc_name(s, above, &found) ||
		    nspawn_name(s, &found) || orchestrated(s, above, over, &found)) {
			*ret_start = found.at;
			return found.length;
		}
		s = above;
	}
	return 0;
}

/* "0f8c...-..." or, as systemd's slices must write it, with underscores; a static pod's uid is 32 digits without any.
 */
static bool pod_uid(struct span s, char ret_uid[37])
{
	if (s.length != 36 && s.length != 32)
		return false;
	for (size_t i = 0; i < s.length; i++) {
		bool dash = s.length == 36 && (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? !strchr("-_", s.at[i]) : !is_hex(s.at[i]))
			return false;
		ret_uid[i] = dash ? '-' : s.at[i];
	}
	ret_uid[s.length] = '\0';
	return true;
}

size_t cgroup_pod(const char *path, char ret_uid[37])
{
	for (struct span s = folder_before(path, path + strlen(path)); s.length; s = folder_before(path, s.at)) {
		struct span name = s;
		const char *colon = memchr(s.at, ':', s.length);

		if (colon)
			name.length = (size_t)(colon - s.at);
		span_ends(&name, ".slice");
		for (size_t length = 36; length >= 32; length -= 4) {
			if (name.length < length + 3)
				continue;

			struct span uid = { name.at + name.length - length, length };
			bool first = name.length == length + 3 || uid.at[-4] == '-';

			if (first && !memcmp(uid.at - 3, "pod", 3) && pod_uid(uid, ret_uid))
				return length;
		}
	}
	ret_uid[0] = '\0';
	return 0;
}
