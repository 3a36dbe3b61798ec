/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to this folder: the writer looks at stored cursors when it opens the journal. */
#ifndef SONDE_CURSOR_H
#define SONDE_CURSOR_H

#include <stdint.h>

#define CURSOR_PREFIX "cursor."

/* The position in the cursor file `name` of the folder; 0 when it cannot be read. */
uint64_t cursor_read(int folder, const char *name);

#endif
