/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet.capture: what the kernel side kept of a flow, read when there is a reason, and packets as they come while a request is open.
 *
 * A reason waits until the packets behind it are there too, or SETTLE_NS have passed; then the flow is read in one go and taken out of
 * the table, so that no packet is written twice. What a request brings is put together by flow, and written with every tick.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/base.h"
#include "filter/filter.h"
#include "probes/capture/row.h"
#include "probes/turnaround/turnaround.h"
#include "sonde/module.h"

#define SETTLE_NS    (200 * NS_PER_MS)
#define PENDING_MAX  64u
#define REQUESTS_MAX 8u
#define OPEN_ROWS    16u
#define FLOW_EXTRA   64u /* bytes that the kernel's table takes for a flow beside key and value */
#define REQUEST_MOST (600 * NS_PER_SEC)

extern const struct sonde_module sonde_module_capture;

/* A flow that is to be written. */
struct pending {
	struct capture_head head;
	uint64_t due;
	bool noted; /* by a record of the ring, which is settled with it */
};

struct request {
	uint32_t number;
	uint64_t until, packets;
	struct filter *filter;
};

/* A record of a request that takes packets until the next tick. */
struct open_row {
	bool used;
	uint32_t request;
	CAPTURE_KEY key;
	struct capture_row row;
};

struct capture {
	int flows, data; /* maps; not ours to close */
	uint32_t packets, slot_bytes, room;
	uint8_t *value;
	size_t value_bytes;
	uint64_t second, said;
	struct pending pending[PENDING_MAX];
	size_t n_pending;
	struct request requests[REQUESTS_MAX];
	uint32_t last_request;
	struct open_row rows[OPEN_ROWS];
	unsigned next_row;
	struct capture_row row;
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_UINT,
	  .key = "packets",
	  .value = "32",
	  .min = 4,
	  .max = 256,
	  .unit = "",
	  .help = "how many of a flow's last packets are kept" },
	{ .type = SONDE_OPTION_UINT,
	  .key = "snaplen",
	  .value = "96",
	  .min = 80,
	  .max = 256,
	  .unit = "bytes",
	  .help = "the most that is kept of a packet's headers, from the IP header on" },
	{ .type = SONDE_OPTION_UINT,
	  .key = "payload",
	  .value = "0",
	  .max = 1500,
	  .unit = "bytes",
	  .help = "the most that is kept of what is behind its headers; 0: nothing of what programs say to each "
		  "other" },
	{ .type = SONDE_OPTION_SIZE,
	  .key = "memory",
	  .value = "4MiB",
	  .min = 1 << 20,
	  .max = 1 << 30,
	  .unit = "bytes",
	  .help = "what all flows together may take of the kernel's memory; the flow that was longest without a packet "
		  "goes first" },
	{ .type = SONDE_OPTION_UINT,
	  .key = "after",
	  .value = "4",
	  .min = 1,
	  .max = 255,
	  .unit = "",
	  .help = "packets kept behind the reason, among the last ones" },
	{ .type = SONDE_OPTION_UINT,
	  .key = "retransmits",
	  .value = "5",
	  .max = 1000,
	  .unit = "",
	  .help = "so many segments sent again within a second are a reason to write a flow; 0: they are none" },
	{ .type = SONDE_OPTION_BOOL, .key = "resets", .value = "true", .help = "a reset is a reason to write a flow" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "slow",
	  .value = "true",
	  .help = "a tcp.slow is a reason to write a flow (modules.turnaround says what is slow)" },
	{ .type = SONDE_OPTION_UINT,
	  .key = "rate",
	  .value = "10",
	  .min = 1,
	  .max = 1000,
	  .unit = "",
	  .help = "the most reasons in a second" },
	{ 0 },
};

static uint64_t epoch_offset(void)
{
	return now_realtime_ns() - now_boottime_ns();
}

/* ---- flows ---- */

static const uint8_t *slot_of(const struct capture *c, uint64_t number)
{
	return c->value + sizeof(struct capture_flow) + number % c->packets * c->slot_bytes;
}

/* The packet of that number, or NULL: it was overwritten, or is being written. */
static const struct capture_slot *whole_slot(const struct capture *c, uint64_t number)
{
	const uint8_t *at = slot_of(c, number);
	const struct capture_slot *slot = (const void *)at;
	uint64_t back;

	memcpy(&back, at + c->slot_bytes - sizeof back, sizeof back);
	return slot->number == number + 1 && back == number + 1 && slot->captured <= c->room ? slot : NULL;
}

static void emit_row(struct sonde_host *host, struct capture_row *row)
{
	host->emit(host, "packet_capture", capture_row_end(row));
}

/* Writes what lies in `value`: how many packets that was. */
static uint64_t write_value(struct sonde_host *host, const struct capture_head *head)
{
	struct capture *c = host->module_data;
	const struct capture_flow *flow = (const void *)c->value;
	uint64_t end = flow->stop ? MIN_OF(flow->count, flow->stop) : flow->count, offset = epoch_offset(), sum = 0;
	uint32_t part = 1;

	capture_row_begin(&c->row, head, part);
	for (uint64_t n = end > c->packets ? end - c->packets : 0; n < end; n++) {
		const struct capture_slot *s = whole_slot(c, n);

		if (!s) {
			c->row.row.missed++;
			continue;
		}
		sum++;
		if (capture_row_add(&c->row, s->time + offset, s->sent, s->length, s + 1, s->captured))
			continue;
		emit_row(host, &c->row);
		capture_row_begin(&c->row, head, ++part);
		capture_row_add(&c->row, s->time + offset, s->sent, s->length, s + 1, s->captured);
	}
	if (sum)
		emit_row(host, &c->row);
	return sum;
}

/* Whether there was anything to write. */
static bool write_flow(struct sonde_host *host, const struct pending *p)
{
	struct capture *c = host->module_data;
	bool there = bpf_map_lookup_elem(c->flows, &p->head.key, c->value) == 0 && write_value(host, &p->head);

	if (there)
		bpf_map_delete_elem(c->flows, &p->head.key);
	if (p->noted)
		host->settled(host, "capture_note", 1, there ? NULL : "table_full");
	return there;
}

/* Whether the packets behind the reason are there. */
static bool is_complete(const struct capture *c, const struct pending *p)
{
	const struct capture_flow *flow = (const void *)c->value;

	return bpf_map_lookup_elem(c->flows, &p->head.key, c->value) < 0 || (flow->stop && flow->count >= flow->stop);
}

static void add_pending(struct sonde_host *host, const struct pending *p)
{
	struct capture *c = host->module_data;

	if (c->n_pending == PENDING_MAX) {
		write_flow(host, &c->pending[0]);
		memmove(c->pending, c->pending + 1, --c->n_pending * sizeof *c->pending);
	}
	c->pending[c->n_pending++] = *p;
}

static void write_pending(struct sonde_host *host, uint64_t now)
{
	struct capture *c = host->module_data;
	size_t kept = 0;

	for (size_t i = 0; i < c->n_pending; i++) {
		if (now >= c->pending[i].due || is_complete(c, &c->pending[i]))
			write_flow(host, &c->pending[i]);
		else
			c->pending[kept++] = c->pending[i];
	}
	c->n_pending = kept;
}

/* ---- requests ---- */

static void write_open_row(struct sonde_host *host, struct open_row *o)
{
	if (o->used)
		emit_row(host, &o->row);
	o->used = false;
}

static void write_open_rows(struct sonde_host *host)
{
	struct capture *c = host->module_data;

	for (size_t i = 0; i < OPEN_ROWS; i++)
		write_open_row(host, &c->rows[i]);
}

static struct open_row *find_row(struct capture *c, uint32_t request, const CAPTURE_KEY *key)
{
	for (size_t i = 0; i < OPEN_ROWS; i++)
		if (c->rows[i].used && c->rows[i].request == request && !memcmp(&c->rows[i].key, key, sizeof *key))
			return &c->rows[i];
	return NULL;
}

static struct open_row *begin_row(struct sonde_host *host, const struct capture_note *note, uint32_t request)
{
	struct capture *c = host->module_data;
	struct open_row *o = &c->rows[c->next_row++ % OPEN_ROWS];
	const struct capture_head head = {
		.event = note->event, .key = note->key, .reason = CAPTURE_REQUEST, .request = request
	};

	write_open_row(host, o);
	*o = (struct open_row){ .used = true, .request = request, .key = note->key };
	capture_row_begin(&o->row, &head, 1);
	return o;
}

static void take_packet(struct sonde_host *host, const struct capture_note *note, const struct request *request)
{
	struct capture *c = host->module_data;
	struct open_row *o = find_row(c, request->number, &note->key);
	uint64_t time = note->event.time + epoch_offset();

	if (!o)
		o = begin_row(host, note, request->number);
	if (capture_row_add(&o->row, time, note->sent, note->length, note->bytes, note->captured))
		return;
	write_open_row(host, o);
	o = begin_row(host, note, request->number);
	capture_row_add(&o->row, time, note->sent, note->length, note->bytes, note->captured);
}

static void offer_packet(struct sonde_host *host, const struct capture_note *note)
{
	struct capture *c = host->module_data;

	for (size_t i = 0; i < REQUESTS_MAX; i++) {
		struct request *r = &c->requests[i];

		if (!r->filter || note->event.time >= r->until ||
		    !filter_match(r->filter, note->bytes, note->captured, note->length))
			continue;
		r->packets++;
		take_packet(host, note, r);
	}
}

static uint32_t open_requests(const struct capture *c)
{
	uint32_t n = 0;

	for (size_t i = 0; i < REQUESTS_MAX; i++)
		n += c->requests[i].filter != NULL;
	return n;
}

static int tell_kernel(const struct capture *c)
{
	uint32_t zero = 0, n = open_requests(c);

	return bpf_map_update_elem(c->data, &zero, &n, BPF_ANY) < 0 ? -errno : 0;
}

static void end_request(struct capture *c, struct request *r)
{
	filter_free(r->filter);
	r->filter = NULL;
	tell_kernel(c);
}

/* A tick late: what came until then is out of the ring. */
static void end_requests(struct capture *c, uint64_t now)
{
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (c->requests[i].filter && now >= c->requests[i].until + SETTLE_NS)
			end_request(c, &c->requests[i]);
}

/* A sentence as the value of a JSON string: our own has no other characters to escape. */
static void write_error(FILE *out, const char *text)
{
	fputs("{\"error\":\"", out);
	for (; *text; text++)
		fputc(*text == '"' || *text == '\\' ? '\'' : (unsigned char)*text < ' ' ? ' ' : *text, out);
	fputs("\"}", out);
}

/* The one that ended first: how the others went may still be asked. */
static struct request *free_request(struct capture *c)
{
	struct request *found = NULL;

	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (!c->requests[i].filter && (!found || c->requests[i].number < found->number))
			found = &c->requests[i];
	return found;
}

/* "start NS EXPRESSION" */
static int start_request(struct capture *c, const char *words, FILE *out)
{
	struct request *r = free_request(c);
	struct fault fault = { 0 };
	char *expression;
	uint64_t ns = strtoull(words, &expression, 10);

	if (!ns || ns > REQUEST_MOST || (*expression && *expression != ' '))
		return -EINVAL;
	if (!r) {
		write_error(out, "eight captures are under way already; wait for one to end");
		return 0;
	}
	expression += *expression == ' ';
	if (filter_compile(&r->filter, expression, FILTER_RAW, &fault) < 0) {
		write_error(out, fault.text[0] ? fault.text : "out of memory");
		return 0;
	}
	r->number = ++c->last_request;
	r->until = now_boottime_ns() + ns;
	r->packets = 0;
	if (tell_kernel(c) < 0) {
		end_request(c, r);
		return -EIO;
	}
	fprintf(out, "{\"request\": %u}", r->number);
	return 0;
}

/* "state NUMBER" */
static int tell_state(const struct capture *c, const char *words, FILE *out)
{
	char *end;
	unsigned long number = strtoul(words, &end, 10);

	if (*end || end == words)
		return -EINVAL;
	for (size_t i = 0; i < REQUESTS_MAX; i++) {
		const struct request *r = &c->requests[i];

		if (r->number != number)
			continue;
		fprintf(out, "{\"open\": %s, \"packets\": %llu}", r->filter ? "true" : "false",
			(unsigned long long)r->packets);
		return 0;
	}
	write_error(out, "it is not known any more: the module capture was begun anew meanwhile");
	return 0;
}

static bool read_address(const char *text, struct sonde_ip *ret)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (inet_pton(AF_INET6, text, ret->bytes) == 1)
		return true;
	memcpy(ret->bytes, mapped, sizeof mapped);
	return inet_pton(AF_INET, text, ret->bytes + sizeof mapped) == 1;
}

/* "flow LADDR LPORT RADDR RPORT": what is kept of that connection is written. */
static int write_one(struct sonde_host *host, const char *words, FILE *out)
{
	struct pending p = { .head = { .event = { .flags = SONDE_FLAG_NO_TASK, .time = now_boottime_ns() },
				       .key = { .protocol = IPPROTO_TCP },
				       .reason = CAPTURE_REQUEST } };
	char local[INET6_ADDRSTRLEN], remote[INET6_ADDRSTRLEN], more;

	if (sscanf(words, "%45s %hu %45s %hu %c", local, &p.head.key.lport, remote, &p.head.key.rport, &more) != 4 ||
	    !read_address(local, &p.head.key.laddr) || !read_address(remote, &p.head.key.raddr))
		return -EINVAL;
	if (write_flow(host, &p))
		fprintf(out, "{\"flows\": 1}");
	else
		write_error(out, "nothing is kept of that connection");
	return 0;
}

static int capture_request(struct sonde_host *host, const char *words, FILE *out)
{
	if (!strncmp(words, "start ", 6))
		return start_request(host->module_data, words + 6, out);
	if (!strncmp(words, "state ", 6))
		return tell_state(host->module_data, words + 6, out);
	return !strncmp(words, "flow ", 5) ? write_one(host, words + 5, out) : -EINVAL;
}

/* ---- what comes ---- */

static bool is_sound(const struct capture *c, const struct capture_note *note)
{
	return note->reason != CAPTURE_REQUEST ||
	       (note->captured <= c->room && note->event.size >= sizeof *note + note->captured);
}

static void capture_record(struct sonde_host *host, const struct sonde_event *event)
{
	struct capture *c = host->module_data;
	const struct capture_note *note = (const void *)event;

	if (!is_sound(c, note)) {
		host->settled(host, "capture_note", 1, "malformed");
	} else if (note->reason == CAPTURE_REQUEST) {
		offer_packet(host, note);
		host->settled(host, "capture_note", 1, NULL);
	} else {
		const struct pending p = { .head = { .event = *event, .key = note->key, .reason = note->reason },
					   .due = event->time + SETTLE_NS,
					   .noted = true };

		add_pending(host, &p);
	}
}

static bool may_write(struct sonde_host *host, uint64_t now)
{
	struct capture *c = host->module_data;

	if (c->second != now / NS_PER_SEC) {
		c->second = now / NS_PER_SEC;
		c->said = 0;
	}
	return c->said++ < host->number(host, "rate");
}

/* A server says so before the answer is on its way: it is waited for. */
static void capture_watched(struct sonde_host *host, const struct sonde_event *event, uint64_t seq)
{
	const struct tcp_slow *slow = (const void *)event;
	uint64_t now = now_boottime_ns();
	const struct pending p = { .head = { .event = *event,
					     .key = { .laddr = slow->laddr,
						      .raddr = slow->raddr,
						      .lport = slow->lport,
						      .rport = slow->rport,
						      .protocol = IPPROTO_TCP },
					     .reason = CAPTURE_SLOW,
					     .event_seq = seq,
					     .trigger = "tcp.slow" },
				   .due = now + NS_PER_MS };

	if (!host->number(host, "slow"))
		return;
	if (may_write(host, now))
		add_pending(host, &p);
	else
		host->settled(host, "packet_capture", 1, "rate");
}

static void capture_tick(struct sonde_host *host, uint64_t now)
{
	write_pending(host, now);
	write_open_rows(host);
	end_requests(host->module_data, now);
}

static void capture_flush(struct sonde_host *host, int timeout_ms)
{
	write_pending(host, UINT64_MAX);
	write_open_rows(host);
}

/* ---- the module ---- */

static size_t value_bytes(uint64_t packets, uint64_t room)
{
	return sizeof(struct capture_flow) + packets * capture_slot_bytes((uint32_t)room);
}

static int capture_prepare(struct bpf_object *object, uint64_t (*number)(const void *context, const char *key),
			   const void *context)
{
	size_t value = value_bytes(number(context, "packets"), number(context, "snaplen") + number(context, "payload"));
	uint64_t flows = number(context, "memory") / (value + sizeof(CAPTURE_KEY) + FLOW_EXTRA);
	struct bpf_map *table = bpf_object__find_map_by_name(object, "capture_flows"),
		       *blank = bpf_object__find_map_by_name(object, "capture_blank");
	int r = table && blank ? 0 : -ENOENT;

	if (r == 0)
		r = bpf_map__set_value_size(table, (uint32_t)value);
	if (r == 0)
		r = bpf_map__set_value_size(blank, (uint32_t)value);
	return r < 0 ? r : bpf_map__set_max_entries(table, (uint32_t)MAX_OF(flows, 2u));
}

static void capture_detach(struct sonde_host *host)
{
	struct capture *c = host->module_data;

	for (size_t i = 0; c && i < REQUESTS_MAX; i++)
		filter_free(c->requests[i].filter);
	if (c)
		free(c->value);
	free(c);
	host->module_data = NULL;
}

static int capture_attach(struct sonde_host *host)
{
	struct capture *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return -ENOMEM;
	host->module_data = c;
	c->flows = host->map(host, "capture_flows");
	c->data = host->map(host, ".data");
	c->packets = (uint32_t)host->number(host, "packets");
	c->room = (uint32_t)(host->number(host, "snaplen") + host->number(host, "payload"));
	c->slot_bytes = capture_slot_bytes(c->room);
	c->value_bytes = value_bytes(c->packets, c->room);
	c->value = calloc(1, c->value_bytes);
	r = !c->value ? -ENOMEM : c->flows < 0 ? c->flows : MIN_OF(c->data, 0);
	if (r < 0)
		capture_detach(host);
	return r;
}

const struct sonde_module sonde_module_capture = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "capture",
	.summary = "Packets of connections that something happened to: packet.capture",
	.options = options,
	.attach = capture_attach,
	.detach = capture_detach,
	.record = capture_record,
	.tick = capture_tick,
	.flush = capture_flush,
	.request = capture_request,
	.prepare = capture_prepare,
	.watches = "tcp.slow",
	.watched = capture_watched,
};
