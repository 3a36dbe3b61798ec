/* SPDX-License-Identifier: Apache-2.0 */
#include "probes/syscalls/names.h"

#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__aarch64__)
#define ARCH_COMPAT SCMP_ARCH_ARM
#else
#define ARCH_COMPAT SCMP_ARCH_X86
#endif

void syscalls_name(char ret[SYSCALLS_NAME_ROOM], uint32_t nr, bool compat)
{
	char *name = nr > INT32_MAX
			     ? NULL
			     : seccomp_syscall_resolve_num_arch(compat ? ARCH_COMPAT : SCMP_ARCH_NATIVE, (int)nr);

	snprintf(ret, SYSCALLS_NAME_ROOM, "%s", name ? name : "");
	free(name);
}
