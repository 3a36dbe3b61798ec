/* SPDX-License-Identifier: GPL-2.0-only */
/* Which system calls change what a file is called or who may use it, by number, and where they are given folders. */
#ifndef SONDE_FILE_CALLS_H
#define SONDE_FILE_CALLS_H

enum call_kind {
	CALL_OTHER,
	CALL_CREATE, /* a new file at a new name */
	CALL_REMOVE, /* a name goes */
	CALL_RENAME,
	CALL_LINK,
	CALL_ATTRIBUTE, /* the file, named by a path, changes */
};

#define CALL_NO_FOLDER (-1)

struct call {
	enum call_kind kind;
	int folder, new_folder; /* arguments that are descriptors of folders, or CALL_NO_FOLDER */
};

#if defined(__TARGET_ARCH_arm64)
#define CALL_NUMBERS(X)                                                                                                \
	X(33, CREATE, 0, -1)                                                                                           \
	X(34, CREATE, 0, -1)                                                                                           \
	X(36, CREATE, 1, -1)                                                                                           \
	X(35, REMOVE, 0, -1)                                                                                           \
	X(38, RENAME, 0, 2)                                                                                            \
	X(276, RENAME, 0, 2)                                                                                           \
	X(37, LINK, 0, 2)                                                                                              \
	X(53, ATTRIBUTE, 0, -1)                                                                                        \
	X(54, ATTRIBUTE, 0, -1)                                                                                        \
	X(452, ATTRIBUTE, 0, -1)                                                                                       \
	X(45, ATTRIBUTE, -1, -1)                                                                                       \
	X(5, ATTRIBUTE, -1, -1)                                                                                        \
	X(6, ATTRIBUTE, -1, -1)                                                                                        \
	X(14, ATTRIBUTE, -1, -1)                                                                                       \
	X(15, ATTRIBUTE, -1, -1)                                                                                       \
	X(463, ATTRIBUTE, 0, -1)                                                                                       \
	X(466, ATTRIBUTE, 0, -1)
#else
#define CALL_NUMBERS(X)                                                                                                \
	X(83, CREATE, -1, -1)     /* mkdir */                                                                          \
	X(88, CREATE, -1, -1)     /* symlink */                                                                        \
	X(133, CREATE, -1, -1)    /* mknod */                                                                          \
	X(258, CREATE, 0, -1)     /* mkdirat */                                                                        \
	X(259, CREATE, 0, -1)     /* mknodat */                                                                        \
	X(266, CREATE, 1, -1)     /* symlinkat */                                                                      \
	X(84, REMOVE, -1, -1)     /* rmdir */                                                                          \
	X(87, REMOVE, -1, -1)     /* unlink */                                                                         \
	X(263, REMOVE, 0, -1)     /* unlinkat */                                                                       \
	X(82, RENAME, -1, -1)     /* rename */                                                                         \
	X(264, RENAME, 0, 2)      /* renameat */                                                                       \
	X(316, RENAME, 0, 2)      /* renameat2 */                                                                      \
	X(86, LINK, -1, -1)       /* link */                                                                           \
	X(265, LINK, 0, 2)        /* linkat */                                                                         \
	X(76, ATTRIBUTE, -1, -1)  /* truncate */                                                                       \
	X(90, ATTRIBUTE, -1, -1)  /* chmod */                                                                          \
	X(92, ATTRIBUTE, -1, -1)  /* chown */                                                                          \
	X(94, ATTRIBUTE, -1, -1)  /* lchown */                                                                         \
	X(188, ATTRIBUTE, -1, -1) /* setxattr */                                                                       \
	X(189, ATTRIBUTE, -1, -1) /* lsetxattr */                                                                      \
	X(197, ATTRIBUTE, -1, -1) /* removexattr */                                                                    \
	X(198, ATTRIBUTE, -1, -1) /* lremovexattr */                                                                   \
	X(260, ATTRIBUTE, 0, -1)  /* fchownat */                                                                       \
	X(268, ATTRIBUTE, 0, -1)  /* fchmodat */                                                                       \
	X(452, ATTRIBUTE, 0, -1)  /* fchmodat2 */                                                                      \
	X(463, ATTRIBUTE, 0, -1)  /* setxattrat */                                                                     \
	X(466, ATTRIBUTE, 0, -1)  /* removexattrat */
#endif

sonde_inline struct call call_of(long number)
{
	switch (number) {
#define CALL_CASE(number, kind, folder, new_folder)                                                                    \
	case number:                                                                                                   \
		return (struct call){ CALL_##kind, folder, new_folder };
		CALL_NUMBERS(CALL_CASE)
#undef CALL_CASE
	default:
		return (struct call){ CALL_OTHER, CALL_NO_FOLDER, CALL_NO_FOLDER };
	}
}

#endif
