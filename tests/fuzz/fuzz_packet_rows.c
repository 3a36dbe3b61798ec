/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as records of a journal: the pcapng that comes of them is whole, and has the packets that were counted. */
#include "packet_rows.h"

#include <errno.h>
#include <string.h>

#include "packets/capture.h"

#define HELD_BYTES 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static uint64_t count_packets(const char *file, size_t size)
{
	struct capture *c = NULL;
	struct fault fault;
	struct frame frame;
	uint64_t n = 0;
	int r;

	check(capture_open_bytes(&c, file, size, &fault) == 0);
	while ((r = capture_next(c, &frame, &fault)) > 0)
		n++;
	check(r == 0);
	capture_close(c);
	return n;
}

/* The first byte of the input tells where the second record begins. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packet_rows *rows = NULL;
	char *file = NULL;
	size_t length, cut;
	uint64_t before;
	FILE *out;

	if (!size)
		return 0;
	cut = (size_t)*data++ * 4;
	size--;
	cut = MIN_OF(cut, size);
	out = open_memstream(&file, &length);
	check(out && packet_rows_make(&rows, out, HELD_BYTES) == 0);
	packet_rows_add(rows, data, cut);
	before = packet_rows_count(rows);
	if (packet_rows_add(rows, data + cut, size - cut) == -EBADMSG)
		check(packet_rows_count(rows) == before);
	check(packet_rows_end(rows) == 0);
	before = packet_rows_count(rows);
	packet_rows_free(rows);
	check(fclose(out) == 0);
	check(count_packets(file, length) == before);
	free(file);
	return 0;
}
