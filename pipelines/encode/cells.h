/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line of a terminal in the making, counted in columns. Nothing reaches it unescaped: text from outside comes in by cells_text() and
 * cells_word() alone, which make every control character, bidirectional override and bad byte visible.
 */
#ifndef SONDE_CELLS_H
#define SONDE_CELLS_H

#include "encode/text.h"

#define CELLS_DIM  "2"
#define CELLS_BOLD "1"
#define CELLS_RED  "31"

/* `mark` is where the text would be cut to leave room for "…", once `columns` are exceeded. */
struct cells {
	struct text text;
	unsigned column, columns; /* used so far, and the bound; 0: unbounded */
	size_t mark;
	bool colour, cut, marked;
};

void cells_begin(struct cells *cells, bool colour, unsigned columns);

/* Puts back the colours of a line that was cut, writes it out and gives its memory back. Returns as text_write(). */
int cells_write(struct cells *cells, FILE *out);

/* `size` bytes that take `width` columns. Once the line is full nothing more is added. */
void cells_put(struct cells *cells, const void *bytes, size_t size, unsigned width);

/* ASCII of ours: one column a byte. At most 127 bytes of `format`. */
void cells_ascii(struct cells *cells, const char *s);
void cells_format(struct cells *cells, const char *format, ...) _printf_(2, 3);

/* An SGR code, and back from it; nothing when the line has no colours. */
void cells_colour(struct cells *cells, const char *code);
void cells_plain(struct cells *cells);

/* Hostile text, as it is where that is harmless. `quoted`: the quote and the backslash are escaped too. */
void cells_text(struct cells *cells, const uint8_t *at, size_t size, bool quoted);

/* A word of a command or a value behind `=`: quoted as a shell would need it, so that where it ends is never in doubt. */
void cells_word(struct cells *cells, const uint8_t *at, size_t size);

/* 412 µs, 3.4 MiB; and local time, with the day where that is not within the last or next 12 hours. */
void cells_duration(struct cells *cells, uint64_t ns);
void cells_size(struct cells *cells, uint64_t bytes);
void cells_time(struct cells *cells, uint64_t ns);

#endif
