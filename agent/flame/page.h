/* SPDX-License-Identifier: Apache-2.0 */
/* The page itself: one HTML file with everything in it, which asks nothing of any network. */
#ifndef SONDE_FLAME_PAGE_H
#define SONDE_FLAME_PAGE_H

#include "flame/page_data.h"

struct page_options {
	enum flame_measure first; /* what the page opens with */
	bool plain;               /* the data as JSON, for browsers that cannot decompress */
};

/* 0, -ENOMEM, or an error of the file. */
int page_write(FILE *out, struct page_data *data, const struct page_options *options);

#endif
