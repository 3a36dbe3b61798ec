/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes pcapng: one section, interfaces as they come, packets with a comment each where there is something to say of them. Times
 * are in nanoseconds. Comments are UTF-8; they are cut at PCAPNG_COMMENT_MAX.
 */
#ifndef SONDE_PCAPNG_WRITER_H
#define SONDE_PCAPNG_WRITER_H

#include "base/base.h"

#define PCAPNG_COMMENT_MAX 4096u

struct pcapng_writer {
	FILE *file;
	uint32_t n_interfaces;
};

/* Begins the file: `application` is named in it. 0 or a negative errno, as below. */
int pcapng_begin_file(struct pcapng_writer *writer, FILE *file, const char *application);

/* Describes the next interface: its number in `ret`. `name` may be NULL; `snap` 0: no bound. */
int pcapng_add_interface(struct pcapng_writer *writer, uint16_t link, uint32_t snap, const char *name, uint32_t *ret);

/* `captured` bytes of a packet of `length`; `comment` may be NULL. -EINVAL for an interface that is not there. */
int pcapng_write_packet(struct pcapng_writer *writer, uint32_t interface, uint64_t time, const void *bytes,
			uint32_t captured, uint32_t length, const char *comment);

#endif
