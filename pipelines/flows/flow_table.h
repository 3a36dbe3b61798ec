/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections by their ends. One array; every flow is in one chain by hash and in one of three lists, each in order of its flows' last
 * packets, so the next to be forgotten is always at the head of a list.
 */
#ifndef SONDE_FLOW_TABLE_H
#define SONDE_FLOW_TABLE_H

#include "base/siphash.h"
#include "flows/flows.h"
#include "flows/half.h"

/* As far as a flow has come; also its list. In a full table those that are over give way first, then those half begun. */
enum flow_state { FLOW_OVER, FLOW_OPENING, FLOW_OPEN, FLOW_STATES };

struct flow {
	struct flow_ends ends;
	uint32_t bucket, chain, older, newer; /* index; 0: none */
	uint8_t state;
	bool syn_seen, established, refused, reset, wants_data, waiting;
	int error[2];
	uint64_t syn_time, answer_time, begin_time; /* begin: established, or first seen */
	uint64_t last_time, end_time;
	uint64_t request_time; /* of its last byte, while `waiting` */
	struct half halves[2];
};

struct flow_list {
	uint32_t oldest, newest;
};

struct flow_table {
	struct flow *flows; /* 1.. */
	uint32_t room, used, n_buckets, unused;
	uint32_t *buckets;
	struct siphash_key key;
	struct flow_list lists[FLOW_STATES];
};

int flow_table_make(struct flow_table *ret, uint32_t room);
void flow_table_free(struct flow_table *table);

/* The flow of the packet's ends, and who of them sent it; NULL: none. `ret_bucket` is for flow_table_add(). */
struct flow *flow_table_find(struct flow_table *table, const struct packet *packet, enum flow_side *ret_from,
			     uint32_t *ret_bucket);

/* A new one, all zeros but its ends; NULL when the table is full. */
struct flow *flow_table_add(struct flow_table *table, uint32_t bucket, const struct flow_ends *ends,
			    enum flow_state state);
void flow_table_remove(struct flow_table *table, struct flow *flow);

/* It had a packet, or another state: it becomes the newest of the list of `state`. */
void flow_table_touch(struct flow_table *table, struct flow *flow, enum flow_state state);

static inline struct flow *flow_table_oldest(const struct flow_table *table, enum flow_state state)
{
	return table->lists[state].oldest ? &table->flows[table->lists[state].oldest] : NULL;
}

#endif
