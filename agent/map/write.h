/* SPDX-License-Identifier: Apache-2.0 */
/* The finished map in the forms that people and programs read. Names come from hostile processes: each form has its own way to keep
 * them text. */
#ifndef SONDE_MAP_WRITE_H
#define SONDE_MAP_WRITE_H

#include "flame/sink.h"
#include "map/sums.h"

/* All: 0, -ENOMEM, or an error of the file. */
int map_write_text(FILE *out, const struct map_view *view, bool colour, unsigned columns);
int map_write_dot(FILE *out, const struct map_view *view);
int map_write_json(FILE *out, const struct map_view *view);
/* One page with everything in it; `plain`: its data are not compressed. */
int map_write_page(FILE *out, const struct map_view *view, bool plain);

/* The same object as map_write_json(), into a page. */
void map_put_json(struct sink *sink, const struct map_view *view);

/* "nginx", "postgres (3f9c01d2a4b5)", "10.0.0.1", "12 other addresses"; terminated. */
#define MAP_LABEL_MAX 160u
void map_label(const struct map_node *node, char room[MAP_LABEL_MAX]);

/* Of all its errors, one in a hundred or more; or one answer in a hundred takes a second or more. */
bool map_edge_is_bad(const struct map_edge *edge);
/* -1: not known. */
int64_t map_percentile(const struct map_times *times, unsigned permille);

#endif
