/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/tags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define PREFIX "sonde:"

struct tag {
	uint32_t type, id;
	int component;
	const char *text; /* behind the prefix */
};

static int tag_compare(const void *a, const void *b)
{
	const struct tag *l = a, *r = b;

	if (l->type != r->type)
		return l->type < r->type ? -1 : 1;
	if (l->component != r->component)
		return l->component < r->component ? -1 : 1;
	return l->id < r->id ? -1 : l->id > r->id;
}

/* One pass: the BTF's types lie one behind the other. */
static size_t collect(const struct btf *btf, struct tag *ret)
{
	size_t n = 0;

	for (uint32_t i = 1; i < btf__type_cnt(btf); i++) {
		const struct btf_type *t = btf__type_by_id(btf, i);

		if (!btf_is_decl_tag(t))
			continue;
		const char *text = btf__name_by_offset(btf, t->name_off);

		if (!text || strncmp(text, PREFIX, strlen(PREFIX)))
			continue;
		if (ret)
			ret[n] = (struct tag){ t->type, i, btf_decl_tag(t)->component_idx, text + strlen(PREFIX) };
		n++;
	}
	return n;
}

int tags_read(struct tags *tags, const struct btf *btf)
{
	size_t n = btf ? collect(btf, NULL) : 0;

	*tags = (struct tags){ .btf = btf };
	if (!n)
		return 0;
	tags->all = calloc(n, sizeof *tags->all);
	if (!tags->all)
		return -ENOMEM;
	tags->n = collect(btf, tags->all);
	qsort(tags->all, tags->n, sizeof *tags->all, tag_compare);
	return 0;
}

void tags_release(struct tags *tags)
{
	free(tags->all);
	*tags = (struct tags){ 0 };
}

const char *tags_get(const struct tags *tags, uint32_t type, int component, const char *name)
{
	size_t low = 0, high = tags->n, length = strlen(name);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct tag *t = &tags->all[middle];

		if (t->type < type || (t->type == type && t->component < component))
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < tags->n && tags->all[low].type == type && tags->all[low].component == component; low++) {
		const char *text = tags->all[low].text;

		if (!strncmp(text, name, length) && (text[length] == '=' || !text[length]))
			return text[length] ? text + length + 1 : "";
	}
	return NULL;
}
