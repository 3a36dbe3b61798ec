/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dropping privileges, see privilege.h.
 *
 * The order matters. Capabilities are needed to change them: the bounding set and the secure bits go first, while
 * CAP_SETPCAP is there; then files are given away, then the groups, then the uid, with the permitted set kept over that
 * change; then the permitted and effective sets shrink; no_new_privs closes the door. Capabilities and no_new_privs
 * belong to a thread and not to the process, which is why one thread is the condition.
 *
 * Secure bits: even where the uid stays 0, being root means nothing any more (SECBIT_NOROOT), and ambient capabilities
 * cannot be raised. Not dumpable: no core file with secrets, and no ptrace by others of the same uid. Reading one's own
 * /proc/self stays possible.
 */
#include "privilege.h"

#include <cap-ng.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* The thread sanitizer runs one of its own; the leak sanitizer traces the process from a clone. */
#if defined(__SANITIZE_THREAD__)
#define OWN_THREADS 2
#else
#define OWN_THREADS 1
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DUMPABLE 1
#else
#define DUMPABLE 0
#endif

struct target {
	uid_t uid;
	gid_t gid;
	bool change, unknown;
};

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static int count_threads(void)
{
	_cleanup_(close_dir) DIR *dir = opendir("/proc/self/task");
	int n = 0;

	if (!dir)
		return -errno;
	for (const struct dirent *member; (member = readdir(dir));)
		n += member->d_name[0] != '.';
	return n;
}

static int target_of(const struct privilege_options *options, struct target *ret, struct fault *fault)
{
	char buffer[16384];
	struct passwd entry, *found = NULL;
	int r;

	*ret = (struct target){ .uid = geteuid(), .gid = getegid() };
	if (!options->user || !options->user[0])
		return 0;
	r = getpwnam_r(options->user, &entry, buffer, sizeof buffer, &found);
	if (!found) {
		/* Some name services report an unknown name as an error; none of them is worth running with more rights
		 * for. */
		if (r && r != ENOENT && r != ESRCH && r != EBADF && r != EPERM)
			return fault_set(fault, -r, "cannot look up user '%s': %s", options->user, strerror(r));
		ret->unknown = true;
		return 0;
	}
	ret->change = entry.pw_uid != ret->uid || entry.pw_gid != ret->gid;
	ret->uid = entry.pw_uid;
	ret->gid = entry.pw_gid;
	return 0;
}

static int give_file(int fd, const struct target *target)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* A second name may be anybody's: whoever could write here before would choose what is given to them. */
	if (!S_ISDIR(st.st_mode) && (!S_ISREG(st.st_mode) || st.st_nlink != 1))
		return 0;
	if (st.st_uid == target->uid && st.st_gid == target->gid)
		return 0;
	return fchownat(fd, "", target->uid, target->gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int give_members(int folder, const struct target *target)
{
	int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_dir) DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	int r = 0;

	if (!dir) {
		r = -errno;
		close_fd(&copy);
		return r;
	}
	for (const struct dirent *member; r >= 0 && (member = readdir(dir));) {
		_cleanup_(close_fd) int fd = -1;

		if (!strcmp(member->d_name, ".") || !strcmp(member->d_name, ".."))
			continue;
		fd = openat(folder, member->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			continue;
		r = fd < 0 ? -errno : give_file(fd, target);
	}
	return r;
}

static int give_path(const char *path, const struct target *target)
{
	_cleanup_(close_fd) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = give_file(fd, target);
	if (r < 0 || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
		return r;
	return give_members(fd, target);
}

static int give_paths(const struct privilege_options *options, const struct target *target, struct fault *fault)
{
	for (size_t i = 0; i < options->n_paths; i++) {
		int r = give_path(options->paths[i], target);

		if (r < 0)
			return fault_set(fault, r, "cannot give %s to uid %u: %s", options->paths[i], target->uid,
					 strerror(-r));
	}
	return 0;
}

/* What is kept of the wish: on systems and in containers that grant CAP_SYS_ADMIN only, it stands for the two that were
 * cut from it. */
static uint64_t capabilities_kept(uint64_t wanted)
{
	const uint64_t cut = PRIVILEGE_BIT(CAP_BPF) | PRIVILEGE_BIT(CAP_PERFMON);
	uint64_t permitted = 0;

	for (unsigned c = 0; c < 64; c++)
		if (capng_have_capability(CAPNG_PERMITTED, c) == 1)
			permitted |= PRIVILEGE_BIT(c);
	if (wanted & cut & ~permitted)
		wanted |= permitted & PRIVILEGE_BIT(CAP_SYS_ADMIN);
	return wanted & permitted;
}

/* Without CAP_SETPCAP neither can be done, and neither matters much then: no_new_privs comes in any case. */
static int bound_later_ones(uint64_t kept, struct fault *fault)
{
	const unsigned long bits = SECBIT_KEEP_CAPS | SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
				   SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 1)
		return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ? fault_set(fault, -errno, "cannot keep capabilities")
							      : 0;
	for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (!(kept & PRIVILEGE_BIT(c)) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return fault_set(fault, -errno, "cannot drop a capability from the bounding set: %s",
					 strerror(errno));
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return fault_set(fault, -errno, "cannot set the secure bits: %s", strerror(errno));
	return 0;
}

static int become(const struct target *target, struct fault *fault)
{
	if (!target->change)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(target->gid, target->gid, target->gid) < 0 ||
	    setresuid(target->uid, target->uid, target->uid) < 0)
		return fault_set(fault, -errno, "cannot become uid %u, gid %u: %s", target->uid, target->gid,
				 strerror(errno));
	return 0;
}

static int keep_only(uint64_t kept, struct fault *fault)
{
	capng_clear(CAPNG_SELECT_CAPS);
	for (unsigned c = 0; c < 64; c++)
		if (kept & PRIVILEGE_BIT(c))
			capng_update(CAPNG_ADD, CAPNG_PERMITTED | CAPNG_EFFECTIVE, c);
	/* Old kernels have no ambient set, and nothing to clear. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return fault_set(fault, -errno, "cannot clear the ambient capabilities: %s", strerror(errno));
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return fault_set(fault, -EPERM, "cannot drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fault_set(fault, -errno, "cannot set no_new_privs: %s", strerror(errno));
	if (prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) < 0)
		return fault_set(fault, -errno, "cannot turn core dumps off: %s", strerror(errno));
	return 0;
}

static void names_of(uint64_t capabilities, char *text, size_t room)
{
	size_t n = 0;

	text[0] = '\0';
	for (unsigned c = 0; c < 64 && n < room; c++) {
		const char *name = capabilities & PRIVILEGE_BIT(c) ? capng_capability_to_name(c) : NULL;

		if (name)
			n += (size_t)snprintf(text + n, room - n, "%s%s", n ? "," : "", name);
	}
	if (!n)
		snprintf(text, room, "none");
}

static void describe(const struct privilege_options *options, struct privilege_state *state)
{
	char kept[192], missing[128], note[128] = "";

	names_of(state->kept, kept, sizeof kept);
	names_of(state->missing, missing, sizeof missing);
	if (state->user_unknown)
		snprintf(note, sizeof note, " (there is no user '%.64s': systemd-sysusers makes it)", options->user);
	snprintf(state->text, sizeof state->text, "running as uid %u gid %u%s, capabilities %s%s%s", state->uid,
		 state->gid, note, kept, state->missing ? ", not granted: " : "", state->missing ? missing : "");
}

int privilege_drop(const struct privilege_options *options, struct privilege_state *ret, struct fault *fault)
{
	struct privilege_state state = { 0 };
	struct target target;
	int r, threads = count_threads();

	if (threads < 0)
		return fault_set(fault, threads, "cannot read /proc/self/task: %s", strerror(-threads));
	if (threads > OWN_THREADS)
		return fault_set(fault, -EBUSY, "privileges must be dropped before threads start; there are %d",
				 threads);
	if (capng_get_caps_process() < 0)
		return fault_set(fault, -EIO, "cannot read the process's capabilities");
	r = target_of(options, &target, fault);
	if (r < 0)
		return r;
	state.kept = capabilities_kept(options->capabilities);
	state.missing = options->capabilities & ~state.kept;
	if (state.kept & PRIVILEGE_BIT(CAP_SYS_ADMIN))
		state.missing &= ~(PRIVILEGE_BIT(CAP_BPF) | PRIVILEGE_BIT(CAP_PERFMON));
	r = bound_later_ones(state.kept, fault);
	if (r >= 0)
		r = give_paths(options, &target, fault);
	if (r >= 0)
		r = become(&target, fault);
	if (r >= 0)
		r = keep_only(state.kept, fault);
	if (r < 0 || !ret)
		return r;
	state.uid = target.uid;
	state.gid = target.gid;
	state.user_unknown = target.unknown;
	describe(options, &state);
	*ret = state;
	return 0;
}
