/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing over a table of numbers; the services themselves lie in order of their coming, and are cleared as they are given out. */
#include "flows/services.h"

#include <errno.h>
#include <string.h>

#include "base/siphash.h"

struct services {
	struct siphash_key key;
	uint32_t most, used, n_slots; /* slots: a power of two, at least twice as many as services */
	uint32_t *slots;              /* index + 1 */
	uint64_t beyond;
	struct service rest;
	struct service *all;
};

int services_new(struct services **ret, uint32_t most)
{
	struct services *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->most = most;
	s->n_slots = 16;
	while (s->n_slots < most * 2)
		s->n_slots *= 2;
	s->slots = calloc(s->n_slots, sizeof *s->slots);
	s->all = calloc(MAX_OF(most, 1u), sizeof *s->all);
	if (!s->slots || !s->all || siphash_make_key(&s->key) < 0) {
		services_free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

void services_free(struct services *s)
{
	if (!s)
		return;
	free(s->slots);
	free(s->all);
	free(s);
}

static struct service *service_of(struct services *s, const union packet_ip *ip, uint16_t port)
{
	struct {
		union packet_ip ip;
		uint64_t port;
	} key = { *ip, port };
	uint32_t at = (uint32_t)siphash(&s->key, &key, sizeof key) & (s->n_slots - 1);
	struct service *service;

	for (; s->slots[at]; at = (at + 1) & (s->n_slots - 1)) {
		service = &s->all[s->slots[at] - 1];
		if (service->port == port && memcmp(&service->ip, ip, sizeof *ip) == 0)
			return service;
	}
	if (s->used == s->most) {
		s->beyond++;
		return &s->rest;
	}
	service = &s->all[s->used++];
	service->ip = *ip;
	service->port = port;
	s->slots[at] = s->used;
	return service;
}

void services_add(struct services *s, const union packet_ip *ip, uint16_t port, uint64_t ns)
{
	histogram_add(&service_of(s, ip, port)->times, ns);
}

void services_add_error(struct services *s, const union packet_ip *ip, uint16_t port)
{
	service_of(s, ip, port)->errors++;
}

void services_flush(struct services *s, void (*each)(void *context, const struct service *service), void *context)
{
	for (uint32_t i = 0; i < s->used; i++) {
		each(context, &s->all[i]);
		s->all[i].errors = 0;
		histogram_clear(&s->all[i].times);
	}
	if (s->rest.times.count || s->rest.errors) {
		each(context, &s->rest);
		s->rest.errors = 0;
		histogram_clear(&s->rest.times);
	}
	if (s->used)
		memset(s->slots, 0, s->n_slots * sizeof *s->slots);
	s->used = 0;
}

uint64_t services_beyond(const struct services *s)
{
	return s->beyond;
}
