/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a flame page is made of: all stacks as one tree, and the amounts summed by side, measure, time bucket, thread and
 * node, from which the page answers every question about them.
 *
 * A page has one side, or two to compare. Rows are given twice: first to learn what spans of time they cover, which fixes
 * the buckets, then to be summed.
 */
#ifndef SONDE_FLAME_PAGE_DATA_H
#define SONDE_FLAME_PAGE_DATA_H

#include "flame/row.h"
#include "flame/sink.h"

#define PAGE_SIDES 2u

struct page_data; /* opaque */

struct page_limits {
	size_t memory;         /* of all tables, in bytes */
	size_t nodes, amounts; /* in the page */
	uint32_t buckets;      /* of time, on each side */
};

int page_data_make(struct page_data **ret, const struct page_limits *limits);
void page_data_free(struct page_data *data);

/* The name of a side, such as the journal it is from. */
int page_data_label(struct page_data *data, unsigned side, const char *label);

void page_data_look(struct page_data *data, unsigned side, const struct flame_row *row);
/* 0 or -ENOMEM; -EBADMSG: a frame is no text. What does not fit is counted. */
int page_data_add(struct page_data *data, unsigned side, const struct flame_row *row);

bool page_data_has(const struct page_data *data, unsigned side, enum flame_measure measure);

/* Reduces what there is to the limits: small frames are added to their callers, then time and threads get coarser. 0 or
 * -ENOMEM. What was done is told by page_data_notes(), sentences that end with a NUL each and an empty one. */
int page_data_reduce(struct page_data *data);
const char *page_data_notes(const struct page_data *data);

/* One JSON object. `first`: the measure that the page opens with. 0 or -ENOMEM. */
int page_data_write(struct page_data *data, enum flame_measure first, struct sink *sink);

#endif
