/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files' reads are told. The names of modules.file.watch, and those that rules ask for, are looked up again and again, and the kernel side has their
 * inodes: it compares numbers, never names, and a file is found under whatever name it is opened.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/base.h"
#include "probes/file/file.h"
#include "sonde/module.h"

#define REFRESH_NS (NS_PER_SEC / 5)
#define NAMES_MAX  128 /* of modules.file.watch; what rules ask for has the rest */

extern const struct sonde_module sonde_module_file;

/* A path to compare with. */
struct name {
	bool known; /* it is none too long */
	uint64_t hash;
	uint32_t bit; /* what file_name_bit() says of its end */
	uint32_t how; /* FILE_WATCH_*, FILE_OPENS_* */
};

struct watch {
	const char *path; /* in `names`, of `secrets`, or `asked` */
	char *asked;      /* by rules; NULL: by the configuration */
	uint32_t how;     /* FILE_WATCH_* */
	bool known;
	bool refused;             /* that it is there and cannot be watched was said */
	struct file_watched seen; /* what stat(2) says of it: by this a change is noticed */
	struct file_watched at;   /* what the kernel side sees */
	struct name name;
};

struct watches {
	char *names;
	struct watch items[FILE_WATCHES_MAX];
	size_t n;
	struct name opens[FILE_WATCHES_MAX];
	size_t n_opens;
	bool opens_named; /* of opens for writing those of `opens` alone are told */
	int map, bits, named;
	uint32_t mnt_ns;
	uint64_t looked; /* boot clock, ns */
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_TEXT,
	  .key = "watch",
	  .value = "secrets",
	  .unit = "",
	  .help = "files, and folders by a / at their end, whose reads are told too, with commas, at most 128; "
		  "secrets: "
		  "usual places of "
		  "passwords and keys. What rules ask for by its path is watched besides" },
	{ 0 },
};

/* What `secrets` in modules.file.watch stands for; among them those that rules in circulation ask for. */
static const char *const secrets[] = { "/etc/shadow",          "/etc/gshadow",  "/etc/sudoers",
				       "/etc/sudoers.d/",      "/etc/ssh/",     "/etc/ssl/private/",
				       "/etc/krb5.keytab",     "/root/.ssh/",   "/root/.gnupg/",
				       "/root/.aws/",          "/root/.kube/",  "/etc/kubernetes/pki/",
				       "/etc/pam.d/",          "/etc/pam.conf", "/etc/security/pwquality.conf",
				       "/var/lib/kubelet/pki/" };

static uint32_t how_named(const char *name)
{
	return name[strlen(name) - 1] == '/' ? FILE_WATCH_FOLDER : FILE_WATCH_FILE;
}

/* Where the last component of the first `length` bytes of a path begins, 0 where there is none; `length` is without slashes at its end then. */
static size_t last_component(const char *path, size_t *length)
{
	while (*length && path[*length - 1] == '/')
		--*length;
	for (size_t at = *length; at > 0; at--)
		if (path[at - 1] == '/')
			return at;
	return 0;
}

static struct name hash_path(const char *path, uint32_t how)
{
	struct name name = { .hash = FILE_NAMED_SEED, .how = how };
	size_t length = strlen(path), n = 0;

	for (size_t at; (at = last_component(path, &length)); length = at - 1, n++) {
		__u64 component[FILE_NAMED_BYTES / 8] = { 0 };
		uint32_t words[2];

		if (length - at >= FILE_NAMED_BYTES || n == FILE_NAMED_COMPONENTS)
			return name;
		memcpy(component, path + at, length - at);
		memcpy(words, component, sizeof words);
		if (n == 0)
			name.bit = file_name_bit(words[0], words[1], (uint32_t)(length - at));
		name.hash = file_named_hash(name.hash, component);
	}
	name.known = n > 0;
	return name;
}

static void add_item(struct watches *w, const char *path, char *asked)
{
	uint32_t how = how_named(path);

	w->items[w->n++] = (struct watch){ .path = path, .asked = asked, .how = how, .name = hash_path(path, how) };
}

static int add_name(struct watches *w, const char *name)
{
	if (w->n == NAMES_MAX)
		return -E2BIG;
	if (*name != '/')
		return -EINVAL;
	add_item(w, name, NULL);
	return 0;
}

static int add_secrets(struct watches *w)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(secrets); i++)
		r = add_name(w, secrets[i]);
	return r;
}

static int read_names(struct watches *w, const char *text)
{
	char *rest;
	int r = 0;

	w->names = strdup(text);
	if (!w->names)
		return -ENOMEM;
	rest = w->names;
	for (char *name; r == 0 && (name = strsep(&rest, ",")) != NULL;)
		if (*name)
			r = strcmp(name, "secrets") ? add_name(w, name) : add_secrets(w);
	return r;
}

/* The device of a mount's file system, as the kernel has it. */
static bool mount_device(int id, __u64 *ret)
{
	_cleanup_(close_file) FILE *mounts = fopen("/proc/self/mountinfo", "re");
	_cleanup_(free_pointer) char *line = NULL;
	size_t room = 0;

	while (mounts && getline(&line, &room, mounts) > 0) {
		unsigned major, minor;
		int which;

		if (sscanf(line, "%d %*d %u:%u", &which, &major, &minor) == 3 && which == id) {
			*ret = makedev(major, minor);
			return true;
		}
	}
	return false;
}

/* The kernel's own numbers of an open file. Those of stat(2) are others on overlayfs and btrfs. */
static bool kernel_numbers(int fd, struct file_watched *ret)
{
	_cleanup_(close_file) FILE *info = NULL;
	unsigned long long ino = 0;
	char name[64], line[128];
	int mount = -1;

	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
	info = fopen(name, "re");
	while (info && fgets(line, sizeof line, info)) {
		sscanf(line, "mnt_id: %d", &mount);
		sscanf(line, "ino: %llu", &ino);
	}
	ret->ino = ino;
	return ino && mount_device(mount, &ret->dev);
}

/* Where the name leads: a folder, where one is asked for. */
static bool look_up(const struct watch *item, struct file_watched *ret)
{
	_cleanup_(close_fd) int fd = open(item->path, O_PATH | O_CLOEXEC);

	return fd >= 0 && kernel_numbers(fd, ret);
}

static bool look_at(const struct watch *item, struct file_watched *ret)
{
	struct stat st;

	if (stat(item->path, &st) < 0)
		return false;
	ret->ino = st.st_ino;
	ret->dev = st.st_dev;
	return true;
}

static bool same(const struct file_watched *a, const struct file_watched *b)
{
	return a->ino == b->ino && a->dev == b->dev;
}

/* Several names can lead to one inode. */
static uint32_t how_known(const struct watches *w, const struct file_watched *at)
{
	uint32_t how = 0;

	for (size_t i = 0; i < w->n; i++)
		if (w->items[i].known && same(&w->items[i].at, at))
			how |= w->items[i].how;
	return how;
}

/* False: the kernel side has not taken it. */
static bool tell_kernel(const struct watches *w, const struct file_watched *at)
{
	uint32_t how = how_known(w, at);

	if (how)
		return bpf_map_update_elem(w->map, at, &how, BPF_ANY) == 0;
	bpf_map_delete_elem(w->map, at);
	return true;
}

/* Once for each: it is tried again and again. */
static void refuse(struct sonde_host *host, struct watch *item)
{
	char text[512];

	if (item->refused)
		return;
	item->refused = true;
	snprintf(text, sizeof text,
		 "modules.file.watch: %s is there, but its reads cannot be told: name the path that it has in the "
		 "agent's own mount namespace",
		 item->path);
	host->notice(host, text);
}

/* ---- by the path: reads in other mount namespaces, and opens for writing ---- */

/* All that a path is asked for as. */
static uint32_t how_asked(const struct watches *w, uint64_t hash)
{
	uint32_t how = 0;

	for (size_t i = 0; i < w->n; i++)
		if (w->items[i].name.known && w->items[i].name.hash == hash)
			how |= w->items[i].name.how;
	for (size_t i = 0; i < w->n_opens; i++)
		if (w->opens[i].hash == hash)
			how |= w->opens[i].how;
	return how;
}

static void forget_named(const struct watches *w)
{
	uint64_t gone[2 * FILE_WATCHES_MAX], key, *at = NULL;
	size_t n = 0;

	while (n < ARRAY_SIZE(gone) && bpf_map_get_next_key(w->named, at, &key) == 0) {
		if (!how_asked(w, key))
			gone[n++] = key;
		at = &key;
	}
	while (n--)
		bpf_map_delete_elem(w->named, &gone[n]);
}

static bool tell_name(const struct watches *w, const struct name *name, struct file_watch_bits *bits)
{
	uint32_t how = how_asked(w, name->hash);

	if (!name->known || bpf_map_update_elem(w->named, &name->hash, &how, BPF_ANY) < 0)
		return false;
	bits->names[name->bit / 64 % FILE_WATCH_WORDS] |= 1ull << name->bit % 64;
	return true;
}

static void tell_named(const struct watches *w, struct file_watch_bits *bits)
{
	bool all = w->opens_named;

	forget_named(w);
	for (size_t i = 0; i < w->n; i++)
		tell_name(w, &w->items[i].name, bits);
	for (size_t i = 0; i < w->n_opens; i++)
		all &= tell_name(w, &w->opens[i], bits);
	bits->opens_named = all;
}

/* The namespace in which numbers of inodes do is that of the host's first process or, where that cannot be seen, of whoever started the agent: its own it may
 * have left, for one with the same mounts and tracefs. Another number costs the comparison of paths, and nothing else. */
static uint32_t mount_namespace(void)
{
	char parent[40];
	struct stat st;

	snprintf(parent, sizeof parent, "/proc/%d/ns/mnt", (int)getppid());
	return stat("/proc/1/ns/mnt", &st) == 0 || stat(parent, &st) == 0 || stat("/proc/self/ns/mnt", &st) == 0
		       ? (uint32_t)st.st_ino
		       : 0;
}

/* Whether opens for writing are told of named files alone. */
static bool tell_bits(const struct watches *w)
{
	struct file_watch_bits bits = { .mnt_ns = w->mnt_ns };
	uint32_t zero = 0;

	tell_named(w, &bits);
	for (size_t i = 0; i < w->n; i++)
		if (w->items[i].known) {
			bool folder = w->items[i].how == FILE_WATCH_FOLDER;
			uint64_t ino = w->items[i].at.ino;

			(folder ? bits.folders : bits.files)[FILE_WATCH_WORD(ino)] |= FILE_WATCH_BIT(ino);
			bits.n_folders += folder;
		}
	return bpf_map_update_elem(w->bits, &zero, &bits, BPF_ANY) == 0 && bits.opens_named;
}

static bool look_again(struct sonde_host *host, struct watch *item)
{
	struct watches *w = host->module_data;
	struct file_watched before = item->at, seen = { 0 };
	bool was = item->known, there = look_at(item, &seen);

	if (was == there && (!was || same(&item->seen, &seen)))
		return false;
	item->seen = seen;
	item->known = there && look_up(item, &item->at);
	if (was)
		tell_kernel(w, &before);
	if (item->known)
		item->known = tell_kernel(w, &item->at);
	if (there && !item->known)
		refuse(host, item);
	return true;
}

static void refresh(struct sonde_host *host, uint64_t now)
{
	struct watches *w = host->module_data;
	bool changed = false;

	for (size_t i = 0; i < w->n; i++)
		changed |= look_again(host, &w->items[i]);
	if (changed)
		tell_bits(w);
	w->looked = now;
}

/* ---- what rules ask for ---- */

static bool is_among(const char *path, const char *const *paths, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(paths[i], path))
			return true;
	return false;
}

static bool has_item(const struct watches *w, const char *path)
{
	for (size_t i = 0; i < w->n; i++)
		if (!strcmp(w->items[i].path, path))
			return true;
	return false;
}

/* Those that nobody asks for any more go; the others stay as they are, watched meanwhile. */
static void forget_asked(struct watches *w, const char *const *paths, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->n; i++) {
		struct watch item = w->items[i];

		if (!item.asked || is_among(item.path, paths, n)) {
			w->items[kept++] = item;
			continue;
		}
		w->items[i].known = false;
		if (item.known)
			tell_kernel(w, &item.at);
		free(item.asked);
	}
	w->n = kept;
}

static void file_reads(struct sonde_host *host, const char *const *paths, size_t n)
{
	struct watches *w = host->module_data;
	size_t missed = 0;
	char text[128];

	forget_asked(w, paths, n);
	for (size_t i = 0; i < n; i++) {
		char *copy = NULL;

		if (has_item(w, paths[i]))
			continue;
		if (w->n < FILE_WATCHES_MAX)
			copy = strdup(paths[i]);
		missed += !copy;
		if (copy)
			add_item(w, copy, copy);
	}
	if (missed) {
		snprintf(text, sizeof text, "rules ask for reads of more files than can be watched: %zu are left out",
			 missed);
		host->notice(host, text);
	}
	refresh(host, now_boottime_ns());
	tell_bits(w);
}

static bool take_opens(struct watches *w, const char *const *paths, size_t n)
{
	bool all = paths && n <= ARRAY_SIZE(w->opens);

	w->n_opens = all ? n : 0;
	for (size_t i = 0; i < w->n_opens; i++) {
		bool folder = how_named(paths[i]) == FILE_WATCH_FOLDER;

		w->opens[i] = hash_path(paths[i], folder ? FILE_OPENS_FOLDER : FILE_OPENS_FILE);
		all &= w->opens[i].known;
	}
	return all;
}

/* Meanwhile all are told. */
static bool file_opens(struct sonde_host *host, const char *const *paths, size_t n)
{
	struct watches *w = host->module_data;

	w->opens_named = false;
	tell_bits(w);
	w->opens_named = take_opens(w, paths, n);
	if (!w->opens_named)
		w->n_opens = 0;
	return tell_bits(w);
}

static void file_detach(struct sonde_host *host)
{
	struct watches *w = host->module_data;

	if (!w)
		return;
	for (size_t i = 0; i < w->n; i++)
		free(w->items[i].asked);
	free(w->names);
	free(w);
	host->module_data = NULL;
}

static int file_attach(struct sonde_host *host)
{
	struct watches *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return -ENOMEM;
	host->module_data = w;
	w->map = host->map(host, "file_watches");
	w->bits = host->map(host, ".data");
	w->named = host->map(host, "file_named");
	w->mnt_ns = mount_namespace();
	r = w->map < 0     ? w->map
	    : w->bits < 0  ? w->bits
	    : w->named < 0 ? w->named
			   : read_names(w, host->text(host, "watch"));
	if (r == -E2BIG || r == -EINVAL)
		host->notice(host, "modules.file.watch takes at most 128 absolute paths with commas between them, or "
				   "the word secrets");
	if (r < 0)
		file_detach(host);
	else {
		refresh(host, now_boottime_ns());
		tell_bits(w);
	}
	return r;
}

static void file_tick(struct sonde_host *host, uint64_t now)
{
	struct watches *w = host->module_data;

	if (now >= w->looked + REFRESH_NS)
		refresh(host, now);
}

const struct sonde_module sonde_module_file = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "file",
	.summary = "What processes do to files: file.open, file.rename, file.unlink, file.chmod and others",
	.options = options,
	.attach = file_attach,
	.detach = file_detach,
	.tick = file_tick,
	.reads = file_reads,
	.opens = file_opens,
};
