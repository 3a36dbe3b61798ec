/* SPDX-License-Identifier: Apache-2.0 */
/* The text of one frame taken apart, as the stack worker puts it together. */
#ifndef SONDE_FLAME_FRAME_H
#define SONDE_FLAME_FRAME_H

#include "base/base.h"

#define FLAME_NAME_MAX 1024u /* bytes of one text; what is longer is cut, and says so */

enum flame_frame_kind {
	FRAME_USER,
	FRAME_KERNEL,
	FRAME_INLINE,
	FRAME_JIT,     /* named by a perf map */
	FRAME_UNKNOWN, /* no function is known: a library and an offset, or an address */
	FRAME_PROCESS, /* made here: the name of the thread at the root */
	FRAME_CAUSE,   /* made here: what a thread waited for, on top of the leaf */
	FRAME_NOTE,    /* made here: the stack was cut, or did not fit */
};

struct flame_span {
	const char *text;
	size_t length;
};

/* All of it lies within the text that was read. */
struct flame_frame {
	enum flame_frame_kind kind;
	struct flame_span name;     /* of the function; of an unknown one its address, or empty */
	struct flame_span library;  /* may be empty */
	struct flame_span build_id; /* hex digits, of an unknown one */
	bool has_offset;
	uint64_t offset; /* in the function; of an unknown one in the library */
};

/* Reads one of
 *	function+0x1f (library)		function+0x1f ([k])		function (library) [inline]
 *	library+0x1f00 [build-id]	0x7f0012345678 (perf-123.map)	0x7f0012345678		function
 * Any text is one of them, in the last resort the last. */
void flame_frame_read(const char *text, size_t length, struct flame_frame *ret);

/* Text of a hostile process made harmless for terminals, files and pages: valid UTF-8 without control characters, of at
 * most FLAME_NAME_MAX bytes. Writes it to `room` (of FLAME_NAME_MAX + 4 bytes) and returns its length. */
size_t flame_clean(const char *text, size_t length, char *room);

#endif
