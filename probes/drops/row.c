/* SPDX-License-Identifier: Apache-2.0 */
#include "probes/drops/row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

struct name {
	uint16_t number;
	const char *text;
};

static const struct name ip_names[] = {
	{ 1, "icmp" },  { 2, "igmp" },   { 4, "ipip" },   { 6, "tcp" },       { 17, "udp" },    { 33, "dccp" },
	{ 41, "ipv6" }, { 47, "gre" },   { 50, "esp" },   { 51, "ah" },       { 58, "icmpv6" }, { 89, "ospf" },
	{ 103, "pim" }, { 112, "vrrp" }, { 132, "sctp" }, { 136, "udplite" },
};

static const struct name ether_names[] = {
	{ 0x0800, "ip" },   { 0x0806, "arp" },  { 0x8100, "vlan" }, { 0x86dd, "ipv6" },
	{ 0x88a8, "qinq" }, { 0x88cc, "lldp" }, { 0x8847, "mpls" }, { 0x8863, "pppoe" },
};

static const char *find(const struct name *names, size_t n, uint16_t number)
{
	for (size_t i = 0; i < n; i++)
		if (names[i].number == number)
			return names[i].text;
	return NULL;
}

void drops_protocol(uint16_t protocol, char ret[16])
{
	bool ip = protocol >= DROPS_IP4 && protocol < DROPS_IP6 + 0x100;
	const char *name = ip ? find(ip_names, ARRAY_SIZE(ip_names), protocol & 0xff)
			      : find(ether_names, ARRAY_SIZE(ether_names), protocol);

	if (name)
		snprintf(ret, 16, "%s", name);
	else if (ip)
		snprintf(ret, 16, "ip-%u", protocol & 0xffu);
	else if (protocol)
		snprintf(ret, 16, "eth-0x%04x", protocol);
	else
		ret[0] = '\0';
}

static bool is_rest(const struct drops_key *key)
{
	return !key->location && !key->reason;
}

static void fill_event(struct sonde_event *event, const struct drops_sums *sums, uint64_t time)
{
	*event = (struct sonde_event){ .size = sizeof(struct net_drop),
				       .flags = (uint16_t)(sums->flags | (sums->pid ? 0 : SONDE_FLAG_NO_TASK)),
				       .time = time,
				       .proc = sums->proc,
				       .parent = sums->parent,
				       .cgroup = sums->cgroup,
				       .pid = sums->pid,
				       .tid = sums->tid };
	memcpy(event->comm, sums->comm, sizeof event->comm);
}

bool drops_row(struct net_drop *row, const struct drops_key *key, const struct drops_sums *sums,
	       const struct reasons *reasons, uint64_t time, uint64_t window_ns)
{
	if (!sums->count)
		return false;
	*row = (struct net_drop){ .net_ns = key->net_ns,
				  .port = key->port,
				  .lport = sums->lport,
				  .rport = sums->rport,
				  .laddr = sums->laddr,
				  .raddr = sums->raddr,
				  .count = sums->count,
				  .bytes = sums->bytes,
				  .window_ns = window_ns };
	fill_event(&row->event, sums, time);
	drops_protocol(key->protocol, row->proto);
	if (!is_rest(key))
		reasons_name(reasons, key->reason, row->reason, sizeof row->reason);
	return true;
}

void drops_row_place(struct net_drop *row, const char *text, size_t length)
{
	size_t name = 0;

	while (name < length && text[name] != '+' && text[name] != ' ')
		name++;
	snprintf(row->location, sizeof row->location, "%.*s", (int)MIN_OF(name, sizeof row->location - 1), text);
	if (name < length && text[name] == '+')
		row->offset = (uint32_t)strtoul(text + name + 1, NULL, 16);
}
