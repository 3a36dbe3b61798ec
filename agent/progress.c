/* SPDX-License-Identifier: Apache-2.0 */
/* The clock is read for each 1024th record only, and the line is written five times a second. */
#include "progress.h"

#include <inttypes.h>

#define EVERY    1024u
#define FIRST_NS (100 * NS_PER_MS)
#define NEXT_NS  (200 * NS_PER_MS)

void progress_begin(struct progress *p, const char *command, const char *what)
{
	*p = (struct progress){ command, what, .terminal = isatty(STDERR_FILENO) };
	p->begin_ns = now_boottime_ns();
}

void progress_show(struct progress *p, uint64_t done, uint64_t total, uint64_t records)
{
	uint64_t now;

	if (!p->terminal || records % EVERY != 0)
		return;
	now = now_boottime_ns();
	if (now - p->begin_ns < FIRST_NS || now - p->shown_ns < NEXT_NS)
		return;
	fprintf(stderr, "\rsonde %s: %s, %.0f %%, %" PRIu64 " records ", p->command, p->what,
		total ? 100.0 * (double)MIN_OF(done, total) / (double)total : 100.0, records);
	fflush(stderr);
	p->shown_ns = now;
	p->shown = true;
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\x1b[K", stderr);
	p->shown = false;
}
