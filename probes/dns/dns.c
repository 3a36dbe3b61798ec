/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns.query, live: what the kernel side copied goes the way that the packets of a capture go (agent/replay.c): segments through pipelines/flows, which
 * puts them in order, then messages through pipelines/dns, which joins answers to queries. Each query carries the header of the record that
 * asked it, which becomes the header of its row.
 *
 * The ledger has both: a dns.packet is settled as it is taken in, or dropped as malformed; a dns.query is a row, or dropped where the table was
 * full of open ones (table_full) or the module ended before there was an answer (stopped).
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "probes/dns/over_tcp.h"
#include "probes/dns/row.h"
#include "sonde/module.h"

#define PORTS_OF_PROGRAMS "53" /* until they are told others */
#define QUERIES           16384u
#define STREAM_ROOM       (1u << 20)
#define CONNECTIONS       2048u
#define IDLE_NS           (120 * NS_PER_SEC)
#define LATE_NS           (NS_PER_SEC / 2) /* records are read by a clock: what is older than this has been */

extern const struct sonde_module sonde_module_dns;

struct live {
	struct sonde_host *host;
	struct dns *dns;
	struct flows *flows;
	char ports[128];   /* as they were read last */
	uint64_t given_up; /* of dns_counts, as it was told */
	struct dns_row row;
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_DURATION,
	  .key = "timeout",
	  .value = "5s",
	  .min = NS_PER_MS,
	  .max = 60 * NS_PER_SEC,
	  .unit = "ns",
	  .live = 1,
	  .help = "after which a query has no answer" },
	{ .type = SONDE_OPTION_TEXT,
	  .key = "ports",
	  .value = PORTS_OF_PROGRAMS,
	  .unit = "",
	  .live = 1,
	  .help = "ports of servers, at most 8, with commas; 5353 is mDNS, 5355 LLMNR" },
	{ 0 },
};

/* ---- what comes of it ---- */

static void on_query(void *context, const struct dns_query *q)
{
	struct live *l = context;

	memcpy(&l->row.row.event, q->owner, sizeof l->row.row.event);
	dns_row_fill(&l->row, q);
	l->host->emit(l->host, "dns_query_event", &l->row);
}

static void tell_given_up(struct live *l)
{
	struct dns_counts counts;

	dns_count(l->dns, &counts);
	if (counts.given_up != l->given_up)
		l->host->settled(l->host, "dns_query_event", counts.given_up - l->given_up, "table_full");
	l->given_up = counts.given_up;
}

/* ---- TCP ---- */

static void on_data(void *context, const struct flow_ends *ends, enum flow_side from, uint64_t time,
		    const uint8_t *bytes, uint32_t size)
{
	dns_over_tcp(((struct live *)context)->dns, ends, from, time, bytes, size);
}

static void on_data_end(void *context, const struct flow_ends *ends)
{
	dns_over_tcp_end(((struct live *)context)->dns, ends);
}

static void take_segment(struct live *l, const struct dns_packet *e)
{
	struct packet p = { .source_port = e->incoming ? e->rport : e->lport,
			    .target_port = e->incoming ? e->lport : e->rport,
			    .payload = (const uint8_t *)(e + 1),
			    .captured = e->captured,
			    .length = e->length,
			    .tcp = { .seq = e->seq, .ack = e->ack, .flags = e->tcp_flags, .scale = -1, .window = 1 } };

	memcpy(p.source.bytes, e->incoming ? e->raddr.bytes : e->laddr.bytes, sizeof p.source.bytes);
	memcpy(p.target.bytes, e->incoming ? e->laddr.bytes : e->raddr.bytes, sizeof p.target.bytes);
	flows_packet(l->flows, e->event.time, &p);
}

static void take_datagram(struct live *l, const struct dns_packet *e)
{
	struct dns_ends ends = { .source_port = e->incoming ? e->rport : e->lport,
				 .target_port = e->incoming ? e->lport : e->rport };

	memcpy(ends.source, e->incoming ? e->raddr.bytes : e->laddr.bytes, sizeof ends.source);
	memcpy(ends.target, e->incoming ? e->laddr.bytes : e->raddr.bytes, sizeof ends.target);
	dns_datagram(l->dns, e->event.time, &ends, (const uint8_t *)(e + 1), e->captured);
}

/* ---- records ---- */

static bool is_whole(const struct dns_packet *e)
{
	return e->captured <= e->length && e->event.size >= sizeof *e + e->captured;
}

static void live_record(struct sonde_host *host, const struct sonde_event *event)
{
	const struct dns_packet *e = (const struct dns_packet *)event;
	struct live *l = host->module_data;
	struct dns_counts before, after;

	if (!is_whole(e)) {
		host->settled(host, "dns_packet", 1, "malformed");
		return;
	}
	dns_count(l->dns, &before);
	dns_tick(l->dns, event->time);
	dns_set_owner(l->dns, event);
	if (e->transport == DNS_TRANSPORT_TCP)
		take_segment(l, e);
	else
		take_datagram(l, e);
	dns_count(l->dns, &after);
	host->settled(host, "dns_packet", 1,
		      after.malformed + after.broken > before.malformed + before.broken ? "malformed" : NULL);
	tell_given_up(l);
}

/* ---- options ---- */

static int read_ports(const char *text, uint16_t ret[DNS_PORTS_MAX])
{
	size_t n = 0;

	memset(ret, 0, DNS_PORTS_MAX * sizeof *ret);
	while (*text) {
		char *end;
		unsigned long port = strtoul(text, &end, 10);

		end += strspn(end, " ");
		if (end == text || !port || port > UINT16_MAX || (*end && *end != ',') || n == DNS_PORTS_MAX)
			return -EINVAL;
		ret[n++] = htons((uint16_t)port);
		text = *end ? end + 1 : end;
	}
	return n ? 0 : -EINVAL;
}

/* A list that cannot be read changes nothing. */
static int set_ports(struct live *l)
{
	const char *text = l->host->text(l->host, "ports");
	uint16_t ports[DNS_PORTS_MAX]; /* as the kernel side has them: in network order */
	int data = l->host->map(l->host, ".data"), r;

	if (!strncmp(text, l->ports, sizeof l->ports - 1))
		return 0;
	snprintf(l->ports, sizeof l->ports, "%s", text);
	r = strlen(text) < sizeof l->ports ? read_ports(text, ports) : -EINVAL;
	if (r < 0)
		l->host->notice(l->host, "modules.dns.ports: 1 to 8 numbers with commas, as in 53,5353");
	else if (data < 0)
		r = data;
	else
		r = bpf_map_update_elem(data, &(uint32_t){ 0 }, ports, BPF_ANY) < 0 ? -errno : 0;
	return r;
}

/* ---- the clock ---- */

static void live_tick(struct sonde_host *host, uint64_t now)
{
	struct live *l = host->module_data;

	set_ports(l);
	dns_set_timeout(l->dns, host->number(host, "timeout"));
	if (now > LATE_NS)
		dns_tick(l->dns, now - LATE_NS);
}

/* What has no answer yet is not said to have none. */
static void live_flush(struct sonde_host *host, int timeout_ms)
{
	struct live *l = host->module_data;
	struct dns_counts counts;

	dns_tick(l->dns, now_boottime_ns());
	dns_count(l->dns, &counts);
	if (counts.open)
		host->settled(host, "dns_query_event", counts.open, "stopped");
}

/* ---- begin and end ---- */

static int make_parts(struct live *l)
{
	const struct flow_options flows = { .flows = CONNECTIONS,
					    .idle_ns = IDLE_NS,
					    .events = { .data = on_data, .data_end = on_data_end, .context = l } };
	const struct dns_options dns = { .queries = QUERIES,
					 .stream_bytes = STREAM_ROOM,
					 .timeout_ns = l->host->number(l->host, "timeout"),
					 .query = on_query,
					 .context = l,
					 .owner_bytes = sizeof(struct sonde_event) };
	int r = flows_new(&l->flows, &flows);

	return r < 0 ? r : dns_new(&l->dns, &dns);
}

static void live_detach(struct sonde_host *host)
{
	struct live *l = host->module_data;

	if (!l)
		return;
	flows_free(l->flows);
	dns_free(l->dns);
	free(l);
	host->module_data = NULL;
}

static int live_attach(struct sonde_host *host)
{
	struct live *l = calloc(1, sizeof *l);
	int r;

	if (!l)
		return -ENOMEM;
	l->host = host;
	snprintf(l->ports, sizeof l->ports, "%s", PORTS_OF_PROGRAMS);
	host->module_data = l;
	r = set_ports(l);
	if (r == 0)
		r = make_parts(l);
	if (r < 0)
		live_detach(host);
	return r;
}

const struct sonde_module sonde_module_dns = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "dns",
	.summary = "Queries to DNS servers and their answers: dns.query",
	.options = options,
	.attach = live_attach,
	.detach = live_detach,
	.record = live_record,
	.tick = live_tick,
	.flush = live_flush,
};
