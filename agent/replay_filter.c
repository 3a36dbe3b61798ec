/* SPDX-License-Identifier: Apache-2.0 */
#include "replay_filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "filter/filter.h"
#include "packets/link.h"
#include "packets/packet.h"

struct replay_filter {
	char *expression;
	struct filter *links[FILTER_ETHERNET + 1]; /* compiled once a frame needs it */
};

static int compile(struct replay_filter *f, enum filter_link link, struct fault *fault)
{
	struct fault why = { 0 };
	int r = filter_compile(&f->links[link], f->expression, link, &why);

	return r < 0 ? fault_set(fault, r, "--filter: %s", why.text[0] ? why.text : strerror(-r)) : 0;
}

int replay_filter_new(struct replay_filter **ret, const char *expression, struct fault *fault)
{
	struct replay_filter *f = calloc(1, sizeof *f);
	int r;

	if (f)
		f->expression = strdup(expression);
	r = f && f->expression ? compile(f, FILTER_ETHERNET, fault) : fault_set(fault, -ENOMEM, "out of memory");
	if (r < 0) {
		replay_filter_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

void replay_filter_free(struct replay_filter *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(f->links); i++)
		filter_free(f->links[i]);
	free(f->expression);
	free(f);
}

int replay_filter_match(struct replay_filter *f, const struct frame *frame, struct fault *fault)
{
	enum filter_link link = frame->link == LINK_ETHERNET ? FILTER_ETHERNET : FILTER_RAW;
	uint32_t skip = link == FILTER_RAW ? packet_link_bytes(frame->link) : 0;
	int r = f->links[link] ? 0 : compile(f, link, fault);

	if (r < 0)
		return r;
	if (skip > frame->captured)
		return 0;
	return filter_match(f->links[link], frame->bytes + skip, frame->captured - skip,
			    MAX_OF(frame->length, frame->captured) - skip) != 0;
}
