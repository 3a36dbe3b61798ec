/* SPDX-License-Identifier: Apache-2.0 */
/* A moment as people write it on the command line. */
#ifndef SONDE_WHEN_H
#define SONDE_WHEN_H

#include <stdint.h>

/* `text` as "10s", "1h30m" (that long before `now`), as RFC 3339 ("2026-11-23T08:00:00.5Z", "...+01:00"; without a
 * zone, or with the day alone, local time), or as seconds since the epoch ("1795420692", "1795420692.25"). All in
 * nanoseconds since the epoch. 0, -EINVAL for another notation, -ERANGE for a moment before 1970 or after 2554. */
int parse_when(const char *text, uint64_t now, uint64_t *ret_ns);

#endif
