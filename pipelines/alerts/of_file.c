/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of the file or descriptor that an event is about. Where a call failed there is no file, and the path is the one that it was given. */
#include "alerts/live_state.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static bool is_type(const struct live *live, const char *name)
{
	return strcmp(live->type->type->name, name) == 0;
}

static bool is_class(const struct live *live, const char *class)
{
	return strncmp(live->type->type->name, class, strlen(class)) == 0;
}

static bool give_path(struct live *live, struct rule_value *ret)
{
	return record_key(live, KEY_path, ret) || record_key(live, KEY_abstract, ret) ||
	       (record_failed(live) && record_key(live, KEY_path_given, ret));
}

/* Of a symbolic link, what it points to comes first and where it lies second. */
static bool give_source(struct live *live, struct rule_value *ret)
{
	if (is_type(live, "file.symlink"))
		return record_key(live, KEY_target, ret);
	return live->type->keys[KEY_new_path] && record_key(live, KEY_path, ret);
}

static bool give_target(struct live *live, struct rule_value *ret)
{
	return is_type(live, "file.symlink") ? give_path(live, ret) : record_key(live, KEY_new_path, ret);
}

static bool give_absolute(struct live *live, const struct rule_ref *ref, struct rule_value *ret)
{
	if (!ref->argument)
		return give_path(live, ret);
	return strcmp(ref->argument, "dst") == 0 ? give_target(live, ret) : give_source(live, ret);
}

static bool give_fd(const struct live *live, struct rule_value *ret)
{
	int64_t fd;

	if (!live->type->keys[KEY_fd])
		return false;
	if (record_failed(live))
		return give_number(ret, -1);
	return record_number(live, KEY_fd, &fd) && give_number(ret, fd);
}

struct kind {
	const char *name, *letter;
};

/* By the type in the file's mode, where the event has it. */
static const struct kind *kind_of_file(const struct live *live)
{
	static const struct kind file = { "file", "f" }, folder = { "directory", "d" }, pipe = { "pipe", "p" },
				 unix_socket = { "unix", "u" };
	int64_t mode;

	if (!live->type->keys[KEY_path])
		return NULL;
	if (is_type(live, "file.mkdir"))
		return &folder;
	if (!record_number(live, KEY_mode, &mode))
		return &file;
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return &folder;
	case S_IFIFO:
		return &pipe;
	case S_IFSOCK:
		return &unix_socket;
	default:
		return &file;
	}
}

static const struct kind *kind_of_socket(struct live *live)
{
	static const struct kind four = { "ipv4", "4" }, six = { "ipv6", "6" }, unix_socket = { "unix", "u" };
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct rule_value v;

	if (give_some_address(live, &v))
		return v.kind == RULE_ADDRESS && memcmp(v.address, mapped, sizeof mapped) ? &six : &four;
	return is_class(live, "net.") ? &unix_socket : NULL;
}

static bool give_kind(struct live *live, bool letter, struct rule_value *ret)
{
	const struct kind *kind = kind_of_socket(live);
	const char *text;

	if (!kind)
		kind = kind_of_file(live);
	if (!kind)
		return false;
	text = letter ? kind->letter : kind->name;
	return give_text(ret, text, strlen(text));
}

static bool give_device(const struct live *live, int what, struct rule_value *ret)
{
	int64_t dev;

	if (!record_number(live, KEY_dev, &dev))
		return false;
	return give_number(ret, what == W_DEV     ? (__int128)dev
				: what == W_MAJOR ? (__int128)major((dev_t)dev)
						  : (__int128)minor((dev_t)dev));
}

static bool is_created(const struct live *live, int64_t flags)
{
	int64_t created;

	return record_number(live, KEY_created, &created) ? created != 0 : (flags & O_CREAT) != 0;
}

static bool give_open(const struct live *live, int what, struct rule_value *ret)
{
	int64_t flags, mode = 0, access;

	if (!is_type(live, "file.open") || !record_number(live, KEY_flags, &flags))
		return false;
	access = flags & O_ACCMODE;
	record_number(live, KEY_mode, &mode);
	switch (what) {
	case W_OPEN_READ:
		return give_truth(ret, access == O_RDONLY || access == O_RDWR);
	case W_OPEN_WRITE:
		return give_truth(ret, access == O_WRONLY || access == O_RDWR);
	case W_OPEN_CREATE:
		return give_truth(ret, is_created(live, flags));
	default:
		return give_truth(ret, is_created(live, flags) && mode & 0111);
	}
}

bool get_file(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	int64_t number;

	switch (how->what) {
	case W_PATH:
		return !live->type->keys[KEY_new_path] && !is_type(live, "file.symlink") && give_path(live, ret);
	case W_SOURCE_PATH:
		return give_source(live, ret);
	case W_TARGET_PATH:
		return give_target(live, ret);
	case W_GIVEN_PATH:
		return record_key(live, KEY_path_given, ret);
	case W_ABSOLUTE:
		return give_absolute(live, ref, ret);
	case W_FD:
		return give_fd(live, ret);
	case W_FD_NAME:
		return give_path(live, ret) || give_connection(live, ret);
	case W_FD_TYPE:
	case W_FD_CHAR:
		return give_kind(live, how->what == W_FD_CHAR, ret);
	case W_FILE_INO:
		return record_number(live, KEY_ino, &number) && give_number(ret, number);
	case W_DEV:
	case W_MAJOR:
	case W_MINOR:
		return give_device(live, how->what, ret);
	default:
		return give_open(live, how->what, ret);
	}
}
