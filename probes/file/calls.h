/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system calls that change what a file is called or who may use it, by number, and where they are given folders: those of the opens are in
 * file.bpf.c, each with a program of its own.
 */
#ifndef SONDE_FILE_CALLS_H
#define SONDE_FILE_CALLS_H

enum call_kind {
	CALL_OTHER,  /* by a descriptor: the file is known at the exit */
	CALL_CREATE, /* a new file at a new name */
	CALL_REMOVE, /* a name goes */
	CALL_RENAME,
	CALL_LINK,
	CALL_ATTRIBUTE, /* the file, named by a path, changes */
};

#define CALL_NO_FOLDER 7 /* a constant for "no argument" */

/* X(name, number, kind, argument that is a descriptor of a folder, the same for a new name) */
#if defined(__TARGET_ARCH_arm64)
#define NR_MKDIRAT 34
#define OTHER_FILE_CALLS(X)                                                                                            \
	X(setxattr, 5, ATTRIBUTE, 7, 7)                                                                                \
	X(lsetxattr, 6, ATTRIBUTE, 7, 7)                                                                               \
	X(fsetxattr, 7, OTHER, 7, 7)                                                                                   \
	X(removexattr, 14, ATTRIBUTE, 7, 7)                                                                            \
	X(lremovexattr, 15, ATTRIBUTE, 7, 7)                                                                           \
	X(fremovexattr, 16, OTHER, 7, 7)                                                                               \
	X(mknodat, 33, CREATE, 0, 7)                                                                                   \
	X(unlinkat, 35, REMOVE, 0, 7)                                                                                  \
	X(symlinkat, 36, CREATE, 1, 7)                                                                                 \
	X(linkat, 37, LINK, 0, 2)                                                                                      \
	X(renameat, 38, RENAME, 0, 2)                                                                                  \
	X(truncate, 45, ATTRIBUTE, 7, 7)                                                                               \
	X(ftruncate, 46, OTHER, 7, 7)                                                                                  \
	X(fchmod, 52, OTHER, 7, 7)                                                                                     \
	X(fchmodat, 53, ATTRIBUTE, 0, 7)                                                                               \
	X(fchownat, 54, ATTRIBUTE, 0, 7)                                                                               \
	X(fchown, 55, OTHER, 7, 7)                                                                                     \
	X(renameat2, 276, RENAME, 0, 2)                                                                                \
	X(fchmodat2, 452, ATTRIBUTE, 0, 7)                                                                             \
	X(setxattrat, 463, ATTRIBUTE, 0, 7)                                                                            \
	X(removexattrat, 466, ATTRIBUTE, 0, 7)
#else
#define NR_MKDIRAT 258
#define OTHER_FILE_CALLS(X)                                                                                            \
	X(truncate, 76, ATTRIBUTE, 7, 7)                                                                               \
	X(ftruncate, 77, OTHER, 7, 7)                                                                                  \
	X(rename, 82, RENAME, 7, 7)                                                                                    \
	X(mkdir, 83, CREATE, 7, 7)                                                                                     \
	X(rmdir, 84, REMOVE, 7, 7)                                                                                     \
	X(link, 86, LINK, 7, 7)                                                                                        \
	X(unlink, 87, REMOVE, 7, 7)                                                                                    \
	X(symlink, 88, CREATE, 7, 7)                                                                                   \
	X(chmod, 90, ATTRIBUTE, 7, 7)                                                                                  \
	X(fchmod, 91, OTHER, 7, 7)                                                                                     \
	X(chown, 92, ATTRIBUTE, 7, 7)                                                                                  \
	X(fchown, 93, OTHER, 7, 7)                                                                                     \
	X(lchown, 94, ATTRIBUTE, 7, 7)                                                                                 \
	X(mknod, 133, CREATE, 7, 7)                                                                                    \
	X(setxattr, 188, ATTRIBUTE, 7, 7)                                                                              \
	X(lsetxattr, 189, ATTRIBUTE, 7, 7)                                                                             \
	X(fsetxattr, 190, OTHER, 7, 7)                                                                                 \
	X(removexattr, 197, ATTRIBUTE, 7, 7)                                                                           \
	X(lremovexattr, 198, ATTRIBUTE, 7, 7)                                                                          \
	X(fremovexattr, 199, OTHER, 7, 7)                                                                              \
	X(mknodat, 259, CREATE, 0, 7)                                                                                  \
	X(fchownat, 260, ATTRIBUTE, 0, 7)                                                                              \
	X(unlinkat, 263, REMOVE, 0, 7)                                                                                 \
	X(renameat, 264, RENAME, 0, 2)                                                                                 \
	X(linkat, 265, LINK, 0, 2)                                                                                     \
	X(symlinkat, 266, CREATE, 1, 7)                                                                                \
	X(fchmodat, 268, ATTRIBUTE, 0, 7)                                                                              \
	X(renameat2, 316, RENAME, 0, 2)                                                                                \
	X(fchmodat2, 452, ATTRIBUTE, 0, 7)                                                                             \
	X(setxattrat, 463, ATTRIBUTE, 0, 7)                                                                            \
	X(removexattrat, 466, ATTRIBUTE, 0, 7)
#endif

/* mkdirat is the one that all others go on to. */
#define FILE_CALLS(X)                                                                                                  \
	X(mkdirat, NR_MKDIRAT, CREATE, 0, 7)                                                                           \
	OTHER_FILE_CALLS(X)

/* A call as one number: what kind it is, and its two arguments. */
#define CALL_PACKED(kind, folder, new_folder) ((kind) | (folder) << 4 | (new_folder) << 8)
#define CALL_KIND(call)                       ((call)&15)
#define CALL_FOLDER(call)                     ((call) >> 4 & 7)
#define CALL_NEW_FOLDER(call)                 ((call) >> 8 & 7)

/* Whether the call is one whose file is to be found on its way: most are not, and that must cost nothing. */
sonde_inline bool is_file_call(long number)
{
	switch (number) {
#define CALL_CASE(name, number, kind, folder, new_folder)                                                              \
	case number:                                                                                                   \
		return CALL_##kind != CALL_OTHER;
		FILE_CALLS(CALL_CASE)
#undef CALL_CASE
	default:
		return false;
	}
}

/* As a function that the verifier follows by itself: it would follow each kind on all of its further way. */
__attribute__((noinline)) int call_of(long number)
{
	switch (number) {
#define CALL_CASE(name, number, kind, folder, new_folder)                                                              \
	case number:                                                                                                   \
		return CALL_PACKED(CALL_##kind, folder, new_folder);
		FILE_CALLS(CALL_CASE)
#undef CALL_CASE
	default:
		return CALL_PACKED(CALL_OTHER, CALL_NO_FOLDER, CALL_NO_FOLDER);
	}
}

#endif
