/* SPDX-License-Identifier: Apache-2.0 */
/* Records written out, one after the other, in the notation that was asked for. */
#ifndef SONDE_OUTPUT_H
#define SONDE_OUTPUT_H

#include "base/base.h"

/* The first three write each record as it comes; folded and pprof sum, and write at the end; pcapng has the packets of
 * packet.capture. */
enum output_format { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_MSGPACK, OUTPUT_FOLDED, OUTPUT_PPROF, OUTPUT_PCAPNG };

struct folded;
struct pprof;
struct packet_rows;

struct output {
	FILE *file;
	enum output_format format;
	bool colour;
	unsigned columns;      /* 0: unbounded */
	uint64_t written, bad; /* records so far */
	struct folded *folded;
	struct pprof *pprof;
	struct packet_rows *packets;
};

/* -EINVAL for a name that is none of them, with a sentence in `fault`. */
int output_format_read(enum output_format *ret, const char *name, struct fault *fault);

/* Over `file`, with a large buffer; colours and width as its terminal has them, if it is one. 0 or -ENOMEM. */
int output_begin(struct output *output, FILE *file, enum output_format format);

/* A damaged record, or one that has no such notation, is counted and left out: 0. A negative errno when `file` takes no
 * more; -EMEDIUMTYPE: its amount cannot be added to those before. */
int output_record(struct output *output, const void *map, size_t size);

/* Hands on what is buffered, and asks the terminal for its width anew. 0 or a negative errno. */
int output_flush(struct output *output);

/* Writes what was summed, and frees: to be called once, also after an error (`ok` false), when it only frees. 0 or a negative
 * errno with a sentence in `fault`. What the user should know of the result is said in `note`, which is else empty. */
int output_end(struct output *output, bool ok, struct fault *fault, struct fault *note);

/* What `write` writes, on standard output (`path` NULL or "-") or in a file that takes the place of the one at `path` when it is whole: who
 * opens it never sees half of it. Devices and pipes are written to, not replaced. 0, what `write` returned, or the negative errno of the file. */
int output_replace(const char *path, int (*write)(void *context, FILE *out), void *context);

/* Whether nobody reads the far end of `file` any more. */
bool output_deserted(const struct output *output);

#endif
