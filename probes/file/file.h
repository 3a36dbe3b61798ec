/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What processes do to files. */
#ifndef SONDE_FILE_H
#define SONDE_FILE_H

#include "sonde/security.h"

/* What all these events begin with. */
#define FILE_HEAD                                                                                                      \
	struct sonde_event event;                                                                                      \
	SONDE_CREDENTIALS;                                                                                             \
	SONDE_RESULT;                                                                                                  \
	struct sonde_text path SONDE_AS("path")                                                                        \
		SONDE_DOC("path of the file itself, symlinks and mounts resolved, as the mount namespace has it")      \
			SONDE_OPTIONAL SONDE_OTEL("file.path") SONDE_ECS("file.path");                                 \
	struct sonde_text path_given SONDE_DOC(                                                                        \
		"where there is no `path`: what the program asked for, read from its memory, where it can have been "  \
		"changed meanwhile") SONDE_OPTIONAL;                                                                   \
	__u64 ino SONDE_DOC("inode number of the file") SONDE_OPTIONAL SONDE_OTEL("file.inode")                        \
		SONDE_ECS("file.inode");                                                                               \
	__u64 dev SONDE_DOC("device of the file, as stat(2) numbers it") SONDE_OPTIONAL;                               \
	bool path_unverified SONDE_DOC(                                                                                \
		"it was done, but the kernel does not say to what: only `path_given` does, which can be raced")        \
		SONDE_OPTIONAL;                                                                                        \
	__u8 _pad_path[7]

/* In all but file.open two texts and two numbers follow, in the same places. */
#define FILE_NEW_PATH                                                                                                  \
	struct sonde_text new_path SONDE_AS("path") SONDE_DOC("the new name, resolved as `path` is") SONDE_OPTIONAL;   \
	struct sonde_text new_path_given SONDE_DOC("as `path_given`, where there is no `new_path`") SONDE_OPTIONAL

struct file_open {
	FILE_HEAD;
	__u32 flags SONDE_DOC("O_* of fcntl.h as the kernel got them; of openat2, as the open file has them");
	__u32 mode SONDE_DOC("type and permissions of the file, as stat(2) has them")
		SONDE_OPTIONAL SONDE_ECS("file.mode");
	__s32 fd SONDE_DOC("descriptor of the open file; -1: it failed");
	bool created SONDE_DOC("this open made the file") SONDE_OPTIONAL;
	bool watched SONDE_DOC("it was opened for reading only, and modules.file.watch names it") SONDE_OPTIONAL;
	__u8 _pad[2];
};

struct file_mkdir {
	FILE_HEAD;
	struct sonde_text _texts[2];
	__s64 mode SONDE_DOC("permissions asked for, before the umask");
	__s64 _number;
};

struct file_mknod {
	FILE_HEAD;
	struct sonde_text _texts[2];
	__s64 mode SONDE_DOC("type and permissions asked for, before the umask");
	__s64 device SONDE_DOC("number of the device that it stands for") SONDE_OPTIONAL;
};

struct file_symlink {
	FILE_HEAD;
	struct sonde_text target SONDE_DOC("what the link holds") SONDE_OPTIONAL SONDE_ECS("file.target_path");
	struct sonde_text target_given SONDE_DOC("as `path_given`, where there is no `target`") SONDE_OPTIONAL;
	__s64 _numbers[2];
};

struct file_link {
	FILE_HEAD;
	FILE_NEW_PATH;
	__s64 flags SONDE_DOC("AT_* of fcntl.h") SONDE_OPTIONAL;
	__s64 _number;
};

struct file_rename {
	FILE_HEAD;
	FILE_NEW_PATH;
	__s64 flags SONDE_DOC("RENAME_* of linux/fs.h") SONDE_OPTIONAL;
	__s64 replaced_ino SONDE_DOC("inode number of the file that had the new name until then") SONDE_OPTIONAL;
};

struct file_unlink {
	FILE_HEAD;
	struct sonde_text _texts[2];
	__s64 flags SONDE_DOC("AT_* of fcntl.h; 512 (AT_REMOVEDIR): a folder, also where rmdir was called")
		SONDE_OPTIONAL;
	__s64 _number;
};

struct file_chmod {
	FILE_HEAD;
	struct sonde_text _texts[2];
	__s64 mode SONDE_DOC("permissions asked for");
	__s64 fd SONDE_DOC("descriptor of the file, where one was given; -1: none");
};

struct file_chown {
	FILE_HEAD;
	struct sonde_text _texts[2];
	__s64 owner SONDE_DOC("user asked for, as the caller's user namespace has it; -1: as before");
	__s64 group SONDE_DOC("group asked for, likewise");
};

struct file_truncate {
	FILE_HEAD;
	struct sonde_text _texts[2];
	__s64 length SONDE_DOC("bytes asked for");
	__s64 fd SONDE_DOC("descriptor of the file, where one was given; -1: none");
};

struct file_setxattr {
	FILE_HEAD;
	struct sonde_text
		name_given SONDE_DOC("name of the attribute; read from the program's memory, as `path_given`");
	struct sonde_text _text;
	__s64 flags SONDE_DOC("XATTR_* of linux/xattr.h") SONDE_OPTIONAL;
	__s64 fd SONDE_DOC("descriptor of the file, where one was given; -1: none");
};

struct file_removexattr {
	FILE_HEAD;
	struct sonde_text
		name_given SONDE_DOC("name of the attribute; read from the program's memory, as `path_given`");
	struct sonde_text _text;
	__s64 _number;
	__s64 fd SONDE_DOC("descriptor of the file, where one was given; -1: none");
};

SONDE_SECURITY_EVENT(file_open, "file.open", 1, bulk,
		     "A file was opened for writing, made, or is watched; or that was refused.");
SONDE_SECURITY_EVENT(file_mkdir, "file.mkdir", 1, bulk, "A folder was made, or was not.");
SONDE_SECURITY_EVENT(file_mknod, "file.mknod", 1, priority,
		     "A device, FIFO, socket or file was made by mknod, or was not.");
SONDE_SECURITY_EVENT(file_symlink, "file.symlink", 1, bulk, "A symbolic link was made, or was not.");
SONDE_SECURITY_EVENT(file_link, "file.link", 1, bulk, "A file got another name (a hard link), or did not.");
SONDE_SECURITY_EVENT(file_rename, "file.rename", 1, bulk, "A file was renamed, or was not.");
SONDE_SECURITY_EVENT(file_unlink, "file.unlink", 1, bulk, "A file or folder was removed, or was not.");
SONDE_SECURITY_EVENT(file_chmod, "file.chmod", 1, bulk, "The permissions of a file were set, or were not.");
SONDE_SECURITY_EVENT(file_chown, "file.chown", 1, bulk, "The owner of a file was set, or was not.");
SONDE_SECURITY_EVENT(file_truncate, "file.truncate", 1, bulk, "A file was cut or stretched, or was not.");
SONDE_SECURITY_EVENT(file_setxattr, "file.setxattr", 1, priority,
		     "A security attribute of a file was set, or was not.");
SONDE_SECURITY_EVENT(file_removexattr, "file.removexattr", 1, priority,
		     "A security attribute of a file was removed, or was not.");

/* ---- between the kernel side and user space, in no stream ---- */

/* A file or folder whose reads are told: what the kernel finds it by. */
struct file_watched {
	__u64 ino;
	__u64 dev; /* as stat(2) numbers it */
};

#define FILE_WATCH_FILE   1u /* itself */
#define FILE_WATCH_FOLDER 2u /* all below it */
#define FILE_OPENS_FILE   4u /* of opens for writing, where few are told: likewise */
#define FILE_OPENS_FOLDER 8u
#define FILE_WATCHES_MAX  256

/* A bit, by the last of the number, is set for each watched inode: most files are found not to be watched by one look at this. */
#define FILE_WATCH_WORDS     8
#define FILE_WATCH_WORD(ino) ((ino) / 64 % FILE_WATCH_WORDS)
#define FILE_WATCH_BIT(ino)  (1ull << (ino) % 64)
struct file_watch_bits {
	__u64 files[FILE_WATCH_WORDS], folders[FILE_WATCH_WORDS];
	__u64 names[FILE_WATCH_WORDS]; /* by file_name_bit() */
	__u64 n_folders;
	__u32 mnt_ns; /* number of the mount namespace in which numbers of inodes do */
	__u32 opens_named; /* opens for writing are told of files with FILE_OPENS_* alone, by their paths in every namespace */
};

/* In other mount namespaces (containers) paths are compared, which a container that has files of its own has too: by a hash of their components, last
 * to first. A longer path, or one with a longer component, is not watched there. */
#define FILE_NAMED_COMPONENTS 12
#define FILE_NAMED_BYTES      32u /* of one, with its NUL */
#define FILE_NAMED_SEED       0x736f6e6465ull

static __attribute__((always_inline, unused)) inline __u64 file_named_hash(__u64 hash,
									   const __u64 component[FILE_NAMED_BYTES / 8])
{
	for (unsigned i = 0; i < FILE_NAMED_BYTES / 8; i++) {
		hash = (hash ^ component[i]) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 29;
	}
	return hash;
}

/* By the first eight bytes of a name, NULs behind its end: most names are found not to be the last one of a watched path by one look at this bit. */
static __attribute__((always_inline, unused)) inline __u32 file_name_bit(__u32 low, __u32 high, __u32 length)
{
	if (length < 8)
		high &= length > 4 ? (1u << (length - 4) * 8) - 1 : 0;
	if (length < 4)
		low &= (1u << length * 8) - 1;
	return ((low ^ high * 0x85ebca6bu) * 0x9e3779b1u) >> 23; /* of 64 * FILE_WATCH_WORDS */
}

#endif
