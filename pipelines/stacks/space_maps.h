/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One list of mappings, shared by all spaces that have the same: a forked process has its parent's until one of them
 * changes.
 */
#ifndef SONDE_SPACE_MAPS_H
#define SONDE_SPACE_MAPS_H

#include "stacks/space_files.h"

#define SPACE_MAPPINGS_MAX 4096u /* of one space */

struct space_maps {
	uint32_t refs, count, capacity;
	bool known;     /* false: begun before the agent, and /proc not read yet */
	int owner;      /* while not known: the process that has this list in /proc; 0: the asking one itself */
	uint64_t read;  /* when its part from /proc was read; 0: it has none */
	uint32_t state; /* changes whenever the mappings do */
	struct space_mapping *mappings;
};

/* `bytes` is the account of all lists, kept by each call that takes it. NULL: no memory. */
struct space_maps *space_maps_new(uint64_t *bytes);
/* An own list of the same mappings. */
struct space_maps *space_maps_copy(const struct space_maps *maps, struct space_files *files, uint64_t *bytes);
void space_maps_unref(struct space_maps *maps, struct space_files *files, uint64_t *bytes);

/* Nothing is known of it any more, by anybody who shares it. */
void space_maps_clear(struct space_maps *maps, struct space_files *files);

/* Whether the list says this already, so that nothing would change. */
bool space_maps_has(const struct space_maps *maps, const struct space_mapping *mapping);
/* Puts a mapping in the place of whatever it overlaps; neighbours that continue one another become one. -ENOSPC,
 * -ENOMEM. */
int space_maps_put(struct space_maps *maps, const struct space_mapping *mapping, struct space_files *files,
		   uint64_t *bytes);
/* Lays the list over `below`: where both say something, the list stays. `below` is left empty. -ENOSPC, -ENOMEM:
 * some are missing. */
int space_maps_put_below(struct space_maps *maps, struct space_maps *below, struct space_files *files, uint64_t *bytes);

/* Name of memory without a file, as one of a fixed set of texts that last forever. */
const char *space_maps_name(const char *path);

#endif
