/* SPDX-License-Identifier: Apache-2.0 */
/* What system calls are called. */
#ifndef SONDE_SYSCALLS_NAMES_H
#define SONDE_SYSCALLS_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYSCALLS_NAME_ROOM 40u

/* The name of number `nr`, of this machine's own table or of that of its 32-bit programs, with its NUL; "" where none is known. */
void syscalls_name(char ret[SYSCALLS_NAME_ROOM], uint32_t nr, bool compat);

#endif
