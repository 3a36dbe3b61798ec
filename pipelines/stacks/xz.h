/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One xz stream inside a file, unpacked into given memory by liblzma: nothing is allocated, and no system call is made but
 * pread. The stream is hostile: what it takes is bounded by the room.
 */
#ifndef SONDE_XZ_H
#define SONDE_XZ_H

#include "stacks/elf_file.h"

/* Bytes that the stream at `offset` says it unpacks to; -EBADMSG when it is no such stream, -EIO. */
int64_t xz_size(const struct elf_file *file, uint64_t offset, uint64_t size);

/* Unpacks it into `room` (16-byte aligned), which also holds the decoder: some 8.5 MiB of addresses for the usual streams,
 * of which only about as much is touched as is unpacked. `ret` is the unpacked file, in the room. 0, -ENOSPC, -EBADMSG,
 * -EIO. */
int xz_unpack(const struct elf_file *file, uint64_t offset, uint64_t size, void *room, size_t room_size,
	      struct elf_file *ret);

#endif
