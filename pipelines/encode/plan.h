/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a ring record to its msgpack map, by a plan compiled once a type: an array of (operation, offset, pre-packed key).
 */
#ifndef SONDE_PLAN_H
#define SONDE_PLAN_H

#include "base/base.h"
#include "decode/schema.h"

struct plan; /* opaque, immutable */

/* What all maps of a run share. */
struct envelope {
	uint8_t host_run[400]; /* the keys host and run with their values, packed */
	uint32_t host_run_size;
	int64_t boot_to_epoch; /* ns to add to the boot clock */
};

int envelope_init(struct envelope *envelope, const char *host, const char *run); /* -ENAMETOOLONG past 128 bytes */
void envelope_update_clock(struct envelope *envelope); /* the wall clock may be set, so once a second */

int plan_compile(struct plan **ret, const struct event_type *type);
void plan_free(struct plan *plan);

/* "CAP_CHOWN"; NULL past the last one. */
const char *capability_name(unsigned capability);

/* Room that is always enough for a record of `record_bytes`. */
uint32_t plan_room(const struct plan *plan, uint32_t record_bytes, uint32_t identity_bytes);

/* What the agent knows of the event's task, and adds. */
struct identity_text {
	const char *cgroup, *container; /* "" or NULL: absent */
	uint32_t cgroup_length, container_length;
	const char *stack; /* frame texts, NUL-terminated each, leaf first; NULL: the event has none */
	uint32_t stack_size;
	uint64_t stack_id;
	bool stack_truncated;
	const char *lineage; /* names of the ancestors, nearest first, a NUL behind each */
	uint32_t lineage_size;
};

#define IDENTITY_LINEAGE_ROOM(size) ((size) + 16) /* bytes of its key and values, added to `identity_bytes` */
#define IDENTITY_STACK_ROOM(size)   ((size) + (size) / 16 + 96) /* bytes of the three keys, added to `identity_bytes` */

/* Writes the map into `room`: its length, or 0 when the record is malformed (a variable part outside of it, a size that
 * cannot be) or the room too small. `event->size` must be at most the bytes there. */
uint32_t plan_encode(const struct plan *plan, const struct envelope *envelope, const struct sonde_event *event,
		     uint64_t seq, const struct identity_text *identity, void *room, uint32_t room_size);

#endif
