/* SPDX-License-Identifier: Apache-2.0 */
/* A whole stack as texts, with its number: the same for rows of profiles and for events that carry a stack. */
#ifndef SONDE_STACK_TEXT_H
#define SONDE_STACK_TEXT_H

#include "stacks/symbols.h"

/* A stack whose program side is unwound. */
struct stack_view {
	const uint64_t *kernel; /* addresses, leaf first */
	const struct stack_frame *user;
	unsigned n_kernel, n_user;
	bool from_hook; /* taken inside a program of a hook: the frames of getting there are left out */
};

struct stack_text {
	const char *texts; /* NUL-terminated each, leaf first: kernel frames ([k]), then the program's */
	size_t size;       /* bytes, NULs included */
	uint64_t id;       /* names the stack, the same on every host with the same binaries */
	bool truncated;    /* not all of it had room */
};

/* How it stands with the frame of which least is known. Asks for what is missing. */
enum symbols_state stack_state(struct symbols *symbols, const struct stack_view *view);

/* The texts as they stand now, in `room`. `symbols` NULL: addresses. */
void stack_write(struct symbols *symbols, const struct stack_view *view, char *room, size_t size,
		 struct stack_text *ret);

#endif
