/* SPDX-License-Identifier: Apache-2.0 */
/* Any records become folded lines, a pprof profile and a page's data; each is two bytes of length (big endian) and a map. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flame/folded.h"
#include "flame/page_data.h"
#include "flame/pprof.h"

#define MEMORY (512u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct writers {
	struct folded *folded;
	struct pprof *pprof;
	struct page_data *page;
};

/* Each record in memory of its own, so that a byte read behind it is found. */
static void give(struct writers *w, const uint8_t *bytes, size_t size, int add)
{
	uint8_t *record = malloc(size);
	struct flame_row row;

	memcpy(record, bytes, size);
	if (flame_row_read(record, size, &row) == 0) {
		if (add)
			page_data_add(w->page, row.tid & 1, &row);
		else
			page_data_look(w->page, row.tid & 1, &row);
	}
	if (add) {
		folded_add(w->folded, record, size);
		pprof_add(w->pprof, record, size);
	}
	free(record);
}

static void give_all(struct writers *w, const uint8_t *data, size_t size, int add)
{
	while (size >= 2) {
		size_t length = (size_t)data[0] << 8 | data[1];

		data += 2;
		size -= 2;
		length = MIN_OF(length, size);
		give(w, data, length, add);
		data += length;
		size -= length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct page_limits limits = { MEMORY, 64, 64, 16 };
	FILE *out = fopen("/dev/null", "w");
	struct writers w = { 0 };
	struct sink *sink;

	if (!out || folded_make(&w.folded, out, MEMORY) < 0 || pprof_make(&w.pprof, MEMORY) < 0 ||
	    page_data_make(&w.page, &limits) < 0 || sink_make(&sink, out, size & 1) < 0)
		abort();
	give_all(&w, data, size, 0);
	give_all(&w, data, size, 1);
	folded_end(w.folded);
	pprof_write(w.pprof, out);
	page_data_reduce(w.page);
	page_data_write(w.page, FLAME_CPU, sink);
	sink_end(sink);
	folded_free(w.folded);
	pprof_free(w.pprof);
	page_data_free(w.page);
	fclose(out);
	return 0;
}
