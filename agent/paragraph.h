/* SPDX-License-Identifier: Apache-2.0 */
/* Text laid out for a terminal or a commented file. */
#ifndef SONDE_PARAGRAPH_H
#define SONDE_PARAGRAPH_H

#include <stdio.h>

/* Writes `text` in lines of at most `width` columns, broken at spaces. Each line but the first begins with `lead`;
 * `used` columns of the first are taken already. Ends with a newline. A word longer than a line stays whole. */
void write_paragraph(FILE *out, const char *lead, unsigned used, unsigned width, const char *text);

#endif
