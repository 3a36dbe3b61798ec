/* SPDX-License-Identifier: Apache-2.0 */
/* Iterators of BPF, read to their end. */
#ifndef SONDE_ITERATE_H
#define SONDE_ITERATE_H

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

#define ITERATE_ROOM 16384

/* Calls `take` for each record of `size` bytes (at most ITERATE_ROOM) that the program writes; NULL: it writes none that matter. A read may end
 * within a record. 0, or the negative errno of the iterator. */
static inline int iterate(int link, size_t size, void (*take)(void *context, const void *record), void *context)
{
	_cleanup_(close_fd) int fd = link < 0 ? link : bpf_iter_create(link);
	char room[ITERATE_ROOM] __attribute__((aligned(8)));
	size_t have = 0, at;
	ssize_t n;

	if (fd < 0)
		return link < 0 ? link : -errno;
	while ((n = read(fd, room + have, sizeof room - have)) != 0) {
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0 || !take)
			continue;
		have += (size_t)n;
		for (at = 0; have - at >= size; at += size)
			take(context, room + at);
		memmove(room, room + at, have - at);
		have -= at;
	}
	return 0;
}

/* The same of a program that is linked for this once, over nothing in particular. `program` may be a negative errno, which is returned. */
static inline int iterate_program(int program, size_t size, void (*take)(void *context, const void *record),
				  void *context)
{
	_cleanup_(close_fd) int link = program < 0 ? program : bpf_link_create(program, 0, BPF_TRACE_ITER, NULL);

	if (link < 0)
		return program < 0 ? program : -errno;
	return iterate(link, size, take, context);
}

#endif
