/* SPDX-License-Identifier: Apache-2.0 */
#include "replay_filter.h"

#include <pcap/pcap.h>
#include <string.h>

#include "packets/link.h"

#define LINKS_MAX 16
#define SNAP      262144

struct replay_filter {
	char *expression;
	unsigned n;
	struct {
		uint32_t link;
		struct bpf_program program;
	} links[LINKS_MAX];
};

/* libpcap numbers raw IP otherwise in programs than in files. */
static int data_link_type(uint32_t link)
{
	return link == LINK_RAW || link == LINK_RAW_14 ? DLT_RAW : (int)link;
}

static int compile(struct replay_filter *f, uint32_t link, struct fault *fault)
{
	pcap_t *pcap = pcap_open_dead(data_link_type(link), SNAP);
	int r = 0;

	if (!pcap)
		return fault_set(fault, -ENOMEM, "out of memory");
	if (f->n == LINKS_MAX)
		r = fault_set(fault, -E2BIG, "--filter: more than %d link types in one file", LINKS_MAX);
	else if (pcap_compile(pcap, &f->links[f->n].program, f->expression, 1, PCAP_NETMASK_UNKNOWN) < 0)
		r = fault_set(fault, -EINVAL, "--filter: %s", pcap_geterr(pcap));
	else
		f->links[f->n++].link = link;
	pcap_close(pcap);
	return r;
}

int replay_filter_new(struct replay_filter **ret, const char *expression, struct fault *fault)
{
	struct replay_filter *f = calloc(1, sizeof *f);
	int r;

	if (f)
		f->expression = strdup(expression);
	r = f && f->expression ? compile(f, LINK_ETHERNET, fault) : fault_set(fault, -ENOMEM, "out of memory");
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
	for (unsigned i = 0; i < f->n; i++)
		pcap_freecode(&f->links[i].program);
	free(f->expression);
	free(f);
}

int replay_filter_match(struct replay_filter *f, const struct frame *frame, struct fault *fault)
{
	const struct pcap_pkthdr header = { .caplen = frame->captured, .len = frame->length };
	unsigned i = 0;

	while (i < f->n && f->links[i].link != frame->link)
		i++;
	if (i == f->n) {
		int r = compile(f, frame->link, fault);

		if (r < 0)
			return r;
	}
	return pcap_offline_filter(&f->links[i].program, &header, frame->bytes) != 0;
}
