/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a journal for a person or a pipe: one loop, and one sentence on what was not readable. */
#include "stream.h"

#include "command.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

int stream_copy(struct journal_reader *reader, const struct selection *selection, struct output *output,
		struct stream_bounds bounds)
{
	struct journal_record record;
	uint64_t shown = output->written;
	int r;

	for (uint64_t n = 0; n < bounds.read && output->written - shown < bounds.written; n++) {
		if (journal_reader_next(reader, &record) == 0)
			break;
		if (record.position >= bounds.end)
			break;
		if (bounds.progress)
			progress_show(bounds.progress, record.position, bounds.end, n);
		if (selection_match(selection, record.map, record.size)) {
			r = output_record(output, record.map, record.size);
			if (r < 0)
				return r;
		}
		if (record.next >= bounds.end)
			break;
	}
	return 0;
}

int stream_finish(const char *command, int error, const struct journal_reader *reader, const struct output *output)
{
	uint64_t bad = 0, lost = 0;

	journal_reader_counts(reader, &bad, &lost);
	bad += output->bad;
	if (bad)
		fprintf(stderr, "sonde %s: %" PRIu64 " bad record%s skipped\n", command, bad, bad == 1 ? "" : "s");
	if (lost)
		fprintf(stderr, "sonde %s: %" PRIu64 " bytes of records were overwritten before they could be read\n",
			command, lost);
	if (error < 0 && error != -EPIPE) {
		fprintf(stderr, "sonde %s: cannot write: %s\n", command, strerror(-error));
		return EXIT_FAULT;
	}
	return EXIT_OK;
}
