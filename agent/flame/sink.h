/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data of a page on its way into a script element: JSON, either as it is or compressed (gzip, then base64). Neither
 * can end the element or begin another: texts have `<`, `>` and `&` escaped, and base64 has none of them.
 */
#ifndef SONDE_FLAME_SINK_H
#define SONDE_FLAME_SINK_H

#include "flame/frame.h"

struct sink; /* opaque */

int sink_make(struct sink **ret, FILE *out, bool plain);
void sink_put(struct sink *sink, const void *bytes, size_t size);
void sink_format(struct sink *sink, const char *format, ...) _printf_(2, 3); /* at most 255 bytes */
void sink_number(struct sink *sink, uint64_t number);
/* A JSON string; the text is clean already (flame_clean). */
void sink_string(struct sink *sink, struct flame_span text);
/* Ends and frees: 0, -ENOMEM, or an error of the file. */
int sink_end(struct sink *sink);

#endif
