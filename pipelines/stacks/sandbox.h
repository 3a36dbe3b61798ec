/* SPDX-License-Identifier: Apache-2.0 */
/* What the keeper and the worker may do: nothing but what a list names. The lists become plain BPF while allocating is
 * still possible. */
#ifndef SONDE_SANDBOX_H
#define SONDE_SANDBOX_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#define SANDBOX_CODE_MAX 256

struct sandbox {
	unsigned short count;
	struct sock_filter code[SANDBOX_CODE_MAX];
};

/* What may be done besides calls: a child may be forked; a socket made in the file system's namespace. */
#define SANDBOX_FORK 1u
#define SANDBOX_UNIX 2u

/* These calls (SCMP_SYS) and SANDBOX_* alone; any other call kills. */
int sandbox_compile(const int *calls, size_t n, unsigned more, struct sandbox *ret);

/* Of a process that has just been forked: keeps `socket` alone, as the descriptor that is returned; 0 to 2 lead nowhere, and the signals that end
 * the agent are ignored. -errno. */
int sandbox_keep_only(int socket);

/* From here on for this process. Needs no_new_privs. */
int sandbox_enter(const struct sandbox *sandbox);

/* Drops groups, uid (0: keeps it), every capability, sets no_new_privs and limits; overwrites what the process
 * inherited of the agent's secrets (heap, environment). The caller may not use malloc after it. */
int sandbox_forget(unsigned uid);

/* Another user (0: keeps it) with these capabilities and no way to others, and limits of a helper that
 * opens at most 16 files. */
int sandbox_give_up(unsigned uid, uint64_t capabilities);

/* Of that, the secrets alone: heap and environment. */
void sandbox_forget_secrets(void);

/* Waits for a child that was told to end, 2 s at most; one that does not is killed, and one that is held up even then is left behind. */
void sandbox_reap(int pid);

#endif
