/* SPDX-License-Identifier: Apache-2.0 */
#include "probes/drops/reasons.h"

#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define REASONS_MAX  512
#define REASON_BYTES 48
#define PREFIX       "SKB_DROP_REASON_"

struct reasons {
	size_t n;
	struct {
		uint32_t value;
		char name[REASON_BYTES];
	} all[REASONS_MAX];
};

/* Subsystems keep their reasons in an enum of their own, often in that of a kernel module. Source: include/net/dropreason.h. */
static const struct {
	const char *type, *module;
} enums[] = { { "skb_drop_reason", NULL },
	      { "mac80211_drop_reason", "mac80211" },
	      { "ovs_drop_reason", "openvswitch" } };

static void add(struct reasons *reasons, uint32_t value, const char *name)
{
	if (reasons->n == REASONS_MAX)
		return;
	if (!strncmp(name, PREFIX, strlen(PREFIX)))
		name += strlen(PREFIX);
	reasons->all[reasons->n].value = value;
	snprintf(reasons->all[reasons->n++].name, REASON_BYTES, "%s", name);
}

static bool add_enum(struct reasons *reasons, const struct btf *btf, const char *type)
{
	int id = btf__find_by_name_kind(btf, type, BTF_KIND_ENUM);
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;

	if (!t)
		return false;
	for (int i = 0; i < btf_vlen(t); i++)
		add(reasons, (uint32_t)btf_enum(t)[i].val, btf__name_by_offset(btf, btf_enum(t)[i].name_off));
	return true;
}

static void add_module(struct reasons *reasons, struct btf *kernel, const char *module, const char *type)
{
	struct btf *btf = btf__load_module_btf(module, kernel);

	if (!btf)
		return;
	add_enum(reasons, btf, type);
	btf__free(btf);
}

int reasons_read(struct reasons **ret)
{
	struct btf *kernel = btf__load_vmlinux_btf();
	int r = kernel ? 0 : -errno;
	struct reasons *reasons = calloc(1, sizeof *reasons);

	if (!reasons)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(enums); i++)
		if (!add_enum(reasons, kernel, enums[i].type) && enums[i].module)
			add_module(reasons, kernel, enums[i].module, enums[i].type);
	btf__free(kernel);
	if (r < 0)
		free(reasons);
	else
		*ret = reasons;
	return r;
}

void reasons_free(struct reasons *reasons)
{
	free(reasons);
}

void reasons_name(const struct reasons *reasons, uint32_t reason, char *ret, size_t size)
{
	for (size_t i = 0; reasons && i < reasons->n; i++) {
		if (reasons->all[i].value != reason)
			continue;
		snprintf(ret, size, "%s", reasons->all[i].name);
		return;
	}
	snprintf(ret, size, "reason-0x%x", reason);
}
