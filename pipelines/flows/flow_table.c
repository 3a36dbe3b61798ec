/* SPDX-License-Identifier: Apache-2.0 */
#include "flows/flow_table.h"

#include <errno.h>
#include <string.h>

int flow_table_make(struct flow_table *ret, uint32_t room)
{
	struct flow_table t = { .room = room, .n_buckets = 16 };

	while (t.n_buckets < room)
		t.n_buckets *= 2;
	t.flows = calloc(room + 1ull, sizeof *t.flows);
	t.buckets = calloc(t.n_buckets, sizeof *t.buckets);
	if (!t.flows || !t.buckets || siphash_make_key(&t.key) < 0) {
		flow_table_free(&t);
		return -ENOMEM;
	}
	*ret = t;
	return 0;
}

void flow_table_free(struct flow_table *t)
{
	free(t->flows);
	free(t->buckets);
	*t = (struct flow_table){ 0 };
}

/* Both halves of a product under a secret: packets are many, and SipHash takes four times as long. */
static uint64_t hash_end(const struct flow_table *t, const union packet_ip *ip, uint16_t port)
{
	unsigned __int128 product = (unsigned __int128)(ip->halves[0] ^ t->key.halves[0]) *
				    (ip->halves[1] ^ t->key.halves[1] ^ (uint64_t)port << 24);

	return (uint64_t)product ^ (uint64_t)(product >> 64) ^ port;
}

/* The same for both directions. */
static uint32_t bucket_of(const struct flow_table *t, const struct packet *p)
{
	uint64_t hash = hash_end(t, &p->source, p->source_port) + hash_end(t, &p->target, p->target_port);

	return (uint32_t)((hash * 0x9e3779b97f4a7c15ull) >> 32) & (t->n_buckets - 1);
}

static bool same_ip(const union packet_ip *a, const union packet_ip *b)
{
	return a->halves[0] == b->halves[0] && a->halves[1] == b->halves[1];
}

static bool is_from(const struct flow_ends *ends, const struct packet *p, enum flow_side from)
{
	return ends->port[from] == p->source_port && ends->port[!from] == p->target_port &&
	       same_ip(&ends->ip[from], &p->source) && same_ip(&ends->ip[!from], &p->target);
}

struct flow *flow_table_find(struct flow_table *t, const struct packet *p, enum flow_side *ret_from,
			     uint32_t *ret_bucket)
{
	*ret_bucket = bucket_of(t, p);
	for (uint32_t n = t->buckets[*ret_bucket]; n; n = t->flows[n].chain) {
		struct flow *flow = &t->flows[n];

		for (*ret_from = FLOW_CLIENT; *ret_from <= FLOW_SERVER; ++*ret_from)
			if (is_from(&flow->ends, p, *ret_from))
				return flow;
	}
	return NULL;
}

static void enlist(struct flow_table *t, struct flow *flow, enum flow_state state)
{
	struct flow_list *list = &t->lists[state];
	uint32_t n = (uint32_t)(flow - t->flows);

	flow->state = (uint8_t)state;
	flow->newer = 0;
	flow->older = list->newest;
	*(list->newest ? &t->flows[list->newest].newer : &list->oldest) = n;
	list->newest = n;
}

static void delist(struct flow_table *t, struct flow *flow)
{
	struct flow_list *list = &t->lists[flow->state];

	*(flow->older ? &t->flows[flow->older].newer : &list->oldest) = flow->newer;
	*(flow->newer ? &t->flows[flow->newer].older : &list->newest) = flow->older;
}

struct flow *flow_table_add(struct flow_table *t, uint32_t bucket, const struct flow_ends *ends, enum flow_state state)
{
	uint32_t n = t->unused;
	struct flow *flow;

	if (n)
		t->unused = t->flows[n].chain;
	else if (t->used < t->room)
		n = ++t->used;
	else
		return NULL;
	flow = &t->flows[n];
	*flow = (struct flow){ .ends = *ends, .bucket = bucket, .chain = t->buckets[bucket] };
	t->buckets[bucket] = n;
	enlist(t, flow, state);
	return flow;
}

void flow_table_remove(struct flow_table *t, struct flow *flow)
{
	uint32_t n = (uint32_t)(flow - t->flows), *at = &t->buckets[flow->bucket];

	while (*at != n)
		at = &t->flows[*at].chain;
	*at = flow->chain;
	delist(t, flow);
	flow->chain = t->unused;
	t->unused = n;
}

void flow_table_touch(struct flow_table *t, struct flow *flow, enum flow_state state)
{
	if (flow->state == state && !flow->newer)
		return;
	delist(t, flow);
	enlist(t, flow, state);
}
