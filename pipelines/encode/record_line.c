/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record as one line for a person: time, type, comm[pid], what matters of this type, then every other key as
 * key=value.
 *
 * What is known of a type is one row of `layouts`, a small template. All else is generic and goes by a key's name, so a
 * third party's event reads well without a row: *_ns is a duration, *_bytes a size, *addr with its *port an endpoint,
 * `stack` its top frames.
 *
 * Templates: text stands for itself; {key} is the key's value, {key:how} the value written by `how` (see `writers`); a
 * part in [brackets] is left out whole unless all its keys are there. A key that the template shows or hides is not
 * repeated behind it.
 *
 * Invariants: nothing of a record reaches the terminal unescaped (controls, bidirectional overrides, bytes that are not
 * UTF-8); the visible width never exceeds `columns`; a damaged record writes nothing.
 */
#include "encode/record.h"

#include "encode/cells.h"

#define PAIRS_MAX  64 /* keys shown of one record; the rest is counted */
#define ITEMS_MAX  16 /* elements shown of one array */
#define FRAMES_MAX 4

struct layout {
	const char *type;
	const char *template;
	const char *hidden; /* keys left to the other formats, with a space before and behind each */
};

static const struct layout layouts[] = {
	{ "process.exec", "{args:command} uid={uid:user}[ tty={tty}][ cwd={cwd}][ caps={caps:count}]",
	  " euid gid egid ino dev ns_pid pid_ns mnt_ns net_ns user_ns uts_ns ipc_ns cgroup_ns " },
	{ "process.fork", "-> {child_pid}", " child_proc flags " },
	{ "process.exit", "{exit_code:end}[ ran {run_ns}][ cpu {cpu_ns}][ peak {peak_rss_bytes}]", "" },
	{ "tcp.connect", "{laddr:endpoint} -> {raddr:endpoint}[ {latency_ns}][ {error:bad}]", "" },
	{ "tcp.accept", "{laddr:endpoint} <- {raddr:endpoint}[ {latency_ns}]", " handshake_ns accept_wait_ns " },
	{ "tcp.close",
	  "{laddr:endpoint} {side:arrow} {raddr:endpoint}[ sent {sent_bytes}][ received {received_bytes}][ life "
	  "{life_ns}][ rtt {srtt_ns}]"
	  "[ retransmits {retransmits:bad}][ {error:bad}]",
	  " min_rtt_ns rttvar_ns cwnd congestion busy_ns rwnd_limited_ns sndbuf_limited_ns " },
	{ "tcp.stats",
	  "{laddr:endpoint} {side:arrow} {raddr:endpoint}[ sent {sent_bytes}][ received {received_bytes}][ in "
	  "{window_ns}][ life "
	  "{life_ns}][ rtt {srtt_ns}][ retransmits {retransmits:bad}]",
	  " min_rtt_ns rttvar_ns cwnd state " },
	{ "tcp.reset", "{direction} {laddr:endpoint} <> {raddr:endpoint}[ in {state}][: {reason}]", " side " },
	{ "tcp.listen_drop", "{laddr:endpoint} {count:bad} dropped[: {reason}][ {accept_queue} of {backlog} wait]",
	  " syn_queue window_ns " },
	{ "packet.capture", "{laddr:endpoint} <> {raddr:endpoint} {count} packets: {reason}[ missed {missed:bad}]",
	  " protocol part request event_seq trigger packets " },
	{ "tcp.turnaround",
	  "[{laddr:endpoint}][-> {raddr:endpoint}] {count} answers[ p50 {p50_ns}][ p99 {p99_ns}][ max {max_ns}][ "
	  "errors "
	  "{errors:bad}]",
	  " side hist sum_ns p90_ns p999_ns socket_wait_ns window_ns " },
	{ "tcp.slow",
	  "{laddr:endpoint} {side:arrow} {raddr:endpoint} {turnaround_ns}[ in the socket {socket_wait_ns}][ on CPU "
	  "{on_cpu_ns}]"
	  "[ runnable {runnable_ns}][ off CPU {off_cpu_ns}]",
	  " stack_id " },
	{ "udp.socket",
	  "{laddr:endpoint}[ -> {raddr:endpoint}] sent {sent} ({sent_bytes}) received {received} ({received_bytes})[ "
	  "errors "
	  "{errors:bad}][ drops {drops:bad}][ life {life_ns}]",
	  " net_ns closed window_ns " },
	{ "net.drop",
	  "{count:bad} dropped, {bytes} bytes[: {reason}][ in {location}][ {proto}][ {laddr:endpoint}][ <> "
	  "{raddr:endpoint}]",
	  " offset net_ns port window_ns " },
	{ "dns.query", "{name} {qtype}[ {rcode}][ {error:bad}] {latency_ns} from {server}[ repeats {repeats:bad}]",
	  " client client_port server_port transport flags answers " },
	{ "profile.cpu", "{value:amount} {stack}", " unit stack_id window_ns " },
	{ "profile.offcpu", "{value:amount} {stack}", " unit stack_id window_ns " },
	{ "alert", "[{priority:bad} ][{rule}: ]{output:plain}", " event lineage " },
	{ "agent.start", "sonde {version} on {kernel}: {modules:words}[ attached in {attach_ns}]",
	  " hooks config_digest " },
	{ "agent.ledger", "{types:ledger}", "" },
	{ "agent.loss", "{count:bad} {event} lost[: {reason}][ from {from:time}][ to {to:time}]", "" },
};

/* What stands in the line's head, or says nothing to a person. */
static const char common[] = " type ts seq host run pid tid comm proc parent cgroup ";

struct pair {
	const uint8_t *key;
	uint32_t key_length;
	bool done; /* shown or hidden */
	struct value value;
};

/* One line in the making, and the record's pairs. */
struct line {
	struct cells cells;
	const uint8_t *end; /* of the record */
	uint32_t n_pairs, n_more;
	struct pair pairs[PAIRS_MAX];
};

/* --- keys --- */

static bool key_is(const struct pair *p, const char *name, size_t length)
{
	return p->key_length == length && memcmp(p->key, name, length) == 0;
}

static struct pair *find(struct line *l, const char *name, size_t length)
{
	for (uint32_t i = 0; i < l->n_pairs; i++)
		if (key_is(&l->pairs[i], name, length))
			return &l->pairs[i];
	return NULL;
}

static struct pair *find_key(struct line *l, const char *name)
{
	return find(l, name, strlen(name));
}

static bool key_ends(const struct pair *p, const char *suffix)
{
	size_t length = strlen(suffix);

	return p->key_length >= length && memcmp(p->key + p->key_length - length, suffix, length) == 0;
}

static bool value_is(const struct value *v, const char *s)
{
	return v->kind == VALUE_STR && v->length == strlen(s) && memcmp(v->body, s, v->length) == 0;
}

/* Whether `name` is one of the space-separated `names`. */
static bool among(const char *names, const struct pair *p)
{
	for (const char *at = names; *at; at += strcspn(at, " ")) {
		at += strspn(at, " ");
		size_t length = strcspn(at, " ");

		if (length && key_is(p, at, length))
			return true;
	}
	return false;
}

/* The pair of `laddr` under its port's name `lport`; NULL when there is none. */
static struct pair *port_of(struct line *l, const struct pair *addr)
{
	char name[64];

	if (!key_ends(addr, "addr") || addr->key_length >= sizeof name)
		return NULL;
	memcpy(name, addr->key, addr->key_length);
	memcpy(name + addr->key_length - 4, "port", 4);
	return find(l, name, addr->key_length);
}

/* --- writers of values --- */

static void put_value(struct line *l, const struct value *v, bool quoted);

/* The elements or pairs of `v`, separated by commas; what is behind the first ITEMS_MAX is counted. */
static void put_members(struct line *l, const struct value *v)
{
	uint32_t shown = MIN_OF(v->count, (uint32_t)ITEMS_MAX);
	const uint8_t *at = v->body;
	struct value member;

	cells_ascii(&l->cells, v->kind == VALUE_MAP ? "{" : "[");
	for (uint32_t i = 0; i < shown && at && !l->cells.cut; i++) {
		if (i)
			cells_ascii(&l->cells, ",");
		for (int part = v->kind == VALUE_MAP ? 0 : 1; part < 2; part++) {
			if (!at || value_read(at, l->end, &member) < 0)
				return;
			put_value(l, &member, true);
			if (part == 0)
				cells_ascii(&l->cells, "=");
			at = value_skip(at, l->end);
		}
	}
	if (v->count > shown)
		cells_format(&l->cells, ",+%u", v->count - shown);
	cells_ascii(&l->cells, v->kind == VALUE_MAP ? "}" : "]");
}

static void put_value(struct line *l, const struct value *v, bool quoted)
{
	switch (v->kind) {
	case VALUE_NIL:
		return cells_ascii(&l->cells, "nil");
	case VALUE_BOOL:
		return cells_ascii(&l->cells, v->truth ? "true" : "false");
	case VALUE_UINT:
		return cells_format(&l->cells, "%llu", (unsigned long long)v->u);
	case VALUE_INT:
		return cells_format(&l->cells, "%lld", (long long)v->i);
	case VALUE_FLOAT:
		return cells_format(&l->cells, "%.6g", v->f);
	case VALUE_STR:
		return quoted ? cells_word(&l->cells, v->body, v->length)
			      : cells_text(&l->cells, v->body, v->length, false);
	case VALUE_BIN:
		for (uint32_t i = 0; i < MIN_OF(v->length, (uint32_t)ITEMS_MAX); i++)
			cells_format(&l->cells, "%02x", v->body[i]);
		if (v->length > ITEMS_MAX)
			cells_format(&l->cells, "+%u", v->length - ITEMS_MAX);
		return;
	case VALUE_ARRAY:
	case VALUE_MAP:
		return put_members(l, v);
	}
}

static void put_endpoint(struct line *l, struct pair *p)
{
	struct pair *port = port_of(l, p);
	bool six = p->value.kind == VALUE_STR && memchr(p->value.body, ':', p->value.length);

	if (six && port)
		cells_ascii(&l->cells, "[");
	put_value(l, &p->value, true);
	if (six && port)
		cells_ascii(&l->cells, "]");
	if (!port)
		return;
	cells_ascii(&l->cells, ":");
	put_value(l, &port->value, true);
	port->done = true;
}

/* The leaf and its callers: `a < b < c < +12`. */
static void put_frames(struct line *l, struct pair *p)
{
	const uint8_t *at = p->value.body;
	struct value frame;

	if (p->value.kind != VALUE_ARRAY)
		return put_value(l, &p->value, true);
	for (uint32_t i = 0; i < p->value.count; i++) {
		if (i)
			cells_ascii(&l->cells, " < ");
		if (i == FRAMES_MAX)
			return cells_format(&l->cells, "+%u", p->value.count - i);
		if (!at || value_read(at, l->end, &frame) < 0)
			return;
		put_value(l, &frame, false);
		at = value_skip(at, l->end);
	}
}

static size_t base_of(const struct value *path)
{
	size_t at = path->length;

	while (at > 0 && path->body[at - 1] != '/')
		at--;
	return at;
}

/* The command as it was started. The program is the kernel's `exe`, not what the process calls itself: where its
 * args[0] has another name, the line says so. */
static void put_command(struct line *l, struct pair *p)
{
	struct pair *exe = find_key(l, "exe");
	const uint8_t *at = p->value.body;
	struct value arg;

	if (exe && exe->value.kind != VALUE_STR)
		exe = NULL;
	if (exe) {
		exe->done = true;
		cells_word(&l->cells, exe->value.body, exe->value.length);
	}
	for (uint32_t i = 0; p->value.kind == VALUE_ARRAY && i < p->value.count && !l->cells.cut; i++) {
		if (!at || value_read(at, l->end, &arg) < 0)
			return;
		at = value_skip(at, l->end);
		if (i == 0 && exe) {
			size_t own = base_of(&exe->value), said = arg.kind == VALUE_STR ? base_of(&arg) : 0;

			if (arg.kind != VALUE_STR ||
			    (exe->value.length - own == arg.length - said &&
			     memcmp(exe->value.body + own, arg.body + said, arg.length - said) == 0))
				continue;
			cells_ascii(&l->cells, " (as ");
			put_value(l, &arg, true);
			cells_ascii(&l->cells, ")");
			continue;
		}
		if (i || exe)
			cells_ascii(&l->cells, " ");
		put_value(l, &arg, true);
	}
}

static void put_count(struct line *l, struct pair *p)
{
	if (p->value.kind == VALUE_ARRAY || p->value.kind == VALUE_MAP)
		cells_format(&l->cells, "%u", p->value.count);
	else
		put_value(l, &p->value, true);
}

static void put_arrow(struct line *l, struct pair *p)
{
	cells_ascii(&l->cells, value_is(&p->value, "client") ? "->" : value_is(&p->value, "server") ? "<-" : "--");
}

static void put_bad(struct line *l, struct pair *p)
{
	cells_colour(&l->cells, CELLS_RED);
	put_value(l, &p->value, false);
	cells_plain(&l->cells);
}

static void put_as_is(struct line *l, struct pair *p)
{
	put_value(l, &p->value, false);
}

/* How a process ended: by a signal, or with a code. */
static void put_process_end(struct line *l, struct pair *p)
{
	struct pair *signal = find_key(l, "signal");
	const char *name = NULL;

	if (signal)
		signal->done = true;
	if (!signal || signal->value.kind == VALUE_NIL || (signal->value.kind == VALUE_UINT && signal->value.u == 0)) {
		cells_ascii(&l->cells, "exit ");
		return p->value.kind == VALUE_UINT && p->value.u == 0 ? put_value(l, &p->value, true) : put_bad(l, p);
	}
	if (signal->value.kind == VALUE_UINT && signal->value.u < 32)
		name = sigabbrev_np((int)signal->value.u);
	cells_ascii(&l->cells, "killed by ");
	cells_colour(&l->cells, CELLS_RED);
	if (name)
		cells_format(&l->cells, "SIG%s", name);
	else
		put_value(l, &signal->value, true);
	cells_plain(&l->cells);
}

static void put_when(struct line *l, struct pair *p)
{
	if (p->value.kind == VALUE_UINT)
		cells_time(&l->cells, p->value.u);
	else
		put_value(l, &p->value, true);
}

/* Who runs it, and as whom where a set-user-id program changed that. */
static void put_user(struct line *l, struct pair *p)
{
	struct pair *effective = find_key(l, "euid");

	put_value(l, &p->value, true);
	if (effective && effective->value.kind == VALUE_UINT && effective->value.u != p->value.u) {
		cells_ascii(&l->cells, " euid=");
		put_bad(l, effective);
	}
}

/* A short list as words. */
static void put_words(struct line *l, struct pair *p)
{
	const uint8_t *at = p->value.body;
	struct value word;

	if (p->value.kind != VALUE_ARRAY)
		return put_value(l, &p->value, true);
	for (uint32_t i = 0; i < p->value.count && at && value_read(at, l->end, &word) == 0; i++) {
		if (i)
			cells_ascii(&l->cells, " ");
		put_value(l, &word, true);
		at = value_skip(at, l->end);
	}
}

/* A profile row's weight in its unit. */
static void put_amount(struct line *l, struct pair *p)
{
	struct pair *unit = find_key(l, "unit");

	if (p->value.kind == VALUE_UINT && unit && value_is(&unit->value, "ns"))
		return cells_duration(&l->cells, p->value.u);
	put_value(l, &p->value, true);
	cells_ascii(&l->cells, "x");
}

/* Adds to `sum` the number `v`, or all numbers of the map `v` (drops by reason). */
static void add_numbers(const struct line *l, const struct value *v, uint64_t *sum)
{
	const uint8_t *at = v->body;
	struct value number;

	if (v->kind == VALUE_UINT)
		*sum += v->u;
	if (v->kind != VALUE_MAP)
		return;
	for (uint32_t i = 0; i < v->count; i++) {
		at = value_skip(at, l->end);
		if (!at || value_read(at, l->end, &number) < 0)
			return;
		if (number.kind == VALUE_UINT)
			*sum += number.u;
		at = value_skip(at, l->end);
	}
}

struct total {
	const char *name;
	bool bad; /* red when it is not 0 */
	uint64_t sum;
};

/* One type's counters into the totals; returns its end, or NULL. */
static const uint8_t *add_counters(const struct line *l, const uint8_t *at, struct total *totals, size_t n_totals)
{
	struct value counters, name, number;

	if (value_read(at, l->end, &counters) < 0)
		return NULL;
	if (counters.kind != VALUE_MAP)
		return value_skip(at, l->end);
	at = counters.body;
	for (uint32_t i = 0; i < counters.count && at; i++) {
		if (value_read(at, l->end, &name) < 0)
			return NULL;
		at = value_skip(at, l->end);
		if (!at || value_read(at, l->end, &number) < 0)
			return NULL;
		for (size_t t = 0; t < n_totals; t++)
			if (value_is(&name, totals[t].name))
				add_numbers(l, &number, &totals[t].sum);
		at = value_skip(at, l->end);
	}
	return at;
}

/* The ledger as its totals over all types. */
static void put_ledger(struct line *l, struct pair *p)
{
	struct total totals[] = { { "produced", false, 0 },  { "filtered", false, 0 },     { "dropped", true, 0 },
				  { "journaled", false, 0 }, { "acknowledged", false, 0 }, { "pending", false, 0 },
				  { "expired", true, 0 } };
	const uint8_t *at = p->value.body;

	if (p->value.kind != VALUE_MAP)
		return put_value(l, &p->value, true);
	for (uint32_t i = 0; i < p->value.count && at; i++) {
		at = value_skip(at, l->end);
		if (at)
			at = add_counters(l, at, totals, ARRAY_SIZE(totals));
	}
	cells_format(&l->cells, "%u types:", p->value.count);
	for (size_t i = 0; i < ARRAY_SIZE(totals); i++) {
		cells_format(&l->cells, " %s ", totals[i].name);
		if (totals[i].bad && totals[i].sum)
			cells_colour(&l->cells, CELLS_RED);
		cells_format(&l->cells, "%llu", (unsigned long long)totals[i].sum);
		if (totals[i].bad && totals[i].sum)
			cells_plain(&l->cells);
	}
}

/* Without a named writer: by the key's name. */
static void put_by_key(struct line *l, struct pair *p)
{
	if (p->value.kind == VALUE_UINT && key_ends(p, "_ns"))
		cells_duration(&l->cells, p->value.u);
	else if (p->value.kind == VALUE_UINT && key_ends(p, "_bytes"))
		cells_size(&l->cells, p->value.u);
	else if (p->value.kind == VALUE_STR && port_of(l, p))
		put_endpoint(l, p);
	else if (key_ends(p, "stack"))
		put_frames(l, p);
	else if (p->value.kind == VALUE_STR && key_is(p, "container", 9))
		cells_word(&l->cells, p->value.body, MIN_OF(p->value.length, 12u));
	else
		put_value(l, &p->value, true);
}

static bool is_nonzero(const struct value *v)
{
	return v->kind != VALUE_UINT || v->u != 0;
}

static bool is_nonempty(const struct value *v)
{
	return (v->kind != VALUE_ARRAY && v->kind != VALUE_MAP) || v->count != 0;
}

static const struct writer {
	const char *name;
	void (*put)(struct line *l, struct pair *p);
	bool (*fits)(const struct value *v); /* NULL: any value */
} writers[] = {
	{ "", put_by_key, NULL },
	{ "command", put_command, NULL },
	{ "endpoint", put_endpoint, NULL },
	{ "arrow", put_arrow, NULL },
	{ "amount", put_amount, NULL },
	{ "ledger", put_ledger, NULL },
	{ "count", put_count, is_nonempty },
	{ "bad", put_bad, is_nonzero },
	{ "end", put_process_end, NULL },
	{ "time", put_when, NULL },
	{ "plain", put_as_is, NULL },
	{ "words", put_words, NULL },
	{ "user", put_user, NULL },
};

static const struct writer *find_writer(const char *name, size_t length)
{
	for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
		if (strlen(writers[i].name) == length && memcmp(writers[i].name, name, length) == 0)
			return &writers[i];
	return &writers[0];
}

/* --- templates --- */

/* The {key:how} at `at`: its pair (NULL when absent or when its writer has nothing to say), its writer, and the end
 * behind it. */
static struct pair *read_field(struct line *l, const char *at, const struct writer **ret_writer, const char **ret_next)
{
	size_t key = strcspn(at + 1, ":}"), all = strcspn(at + 1, "}");
	const char *how = at[1 + key] == ':' ? at + 2 + key : at + 1 + all;
	struct pair *p = find(l, at + 1, key);

	*ret_writer = find_writer(how, (size_t)(at + 1 + all - how));
	*ret_next = at + 2 + all;
	/* What has nothing to say here has nothing to say behind either. */
	if (p && (p->value.kind == VALUE_NIL || ((*ret_writer)->fits && !(*ret_writer)->fits(&p->value)))) {
		p->done = true;
		return NULL;
	}
	return p;
}

/* The end of the bracketed part that begins behind `at`; `ret_whole` tells whether all its keys are there. */
static const char *read_part(struct line *l, const char *at, bool *ret_whole)
{
	const struct writer *writer;

	*ret_whole = true;
	while (*at && *at != ']') {
		if (*at != '{') {
			at++;
			continue;
		}
		if (!read_field(l, at, &writer, &at))
			*ret_whole = false;
	}
	return at;
}

static void put_template(struct line *l, const char *at)
{
	const struct writer *writer;
	struct pair *p;
	bool whole;

	while (*at) {
		if (*at == '[') {
			const char *end = read_part(l, at + 1, &whole);

			at = whole ? at + 1 : end + 1;
		} else if (*at == ']') {
			at++;
		} else if (*at == '{') {
			p = read_field(l, at, &writer, &at);
			if (p) {
				p->done = true;
				writer->put(l, p);
			} else {
				cells_ascii(&l->cells, "--");
			}
		} else {
			cells_put(&l->cells, at++, 1, 1);
		}
	}
}

/* --- the line --- */

/* Takes in the record's top-level pairs. 0, or -EBADMSG when anything in it is damaged. */
static int read_pairs(struct line *l, const uint8_t *at, size_t size)
{
	struct value record, key;

	l->end = at + size;
	if (value_read(at, l->end, &record) < 0 || record.kind != VALUE_MAP || value_skip(at, l->end) != l->end)
		return -EBADMSG;
	at = record.body;
	for (uint32_t i = 0; i < record.count; i++) {
		struct pair *p = &l->pairs[l->n_pairs];

		if (value_read(at, l->end, &key) < 0)
			return -EBADMSG;
		at = value_skip(at, l->end);
		if (key.kind != VALUE_STR || l->n_pairs == PAIRS_MAX) {
			l->n_more++;
		} else {
			p->key = key.body;
			p->key_length = key.length;
			p->done = false;
			if (value_read(at, l->end, &p->value) < 0)
				return -EBADMSG;
			l->n_pairs++;
		}
		at = value_skip(at, l->end);
	}
	return 0;
}

static const char *colour_of(const struct value *type)
{
	static const char *const classes[][2] = { { "process.", "32" }, { "tcp.", "36" },    { "dns.", "35" },
						  { "profile.", "33" }, { "alert", "1;31" }, { "agent.", "34" } };

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		if (type->length >= strlen(classes[i][0]) &&
		    memcmp(type->body, classes[i][0], strlen(classes[i][0])) == 0)
			return classes[i][1];
	return "35";
}

static void put_head(struct line *l)
{
	struct pair *ts = find_key(l, "ts"), *type = find_key(l, "type"), *comm = find_key(l, "comm"),
		    *pid = find_key(l, "pid");
	unsigned begin;

	cells_colour(&l->cells, CELLS_DIM);
	if (ts)
		put_when(l, ts);
	cells_plain(&l->cells);
	cells_ascii(&l->cells, " ");
	begin = l->cells.column;
	if (type && type->value.kind == VALUE_STR) {
		cells_colour(&l->cells, colour_of(&type->value));
		cells_text(&l->cells, type->value.body, type->value.length, false);
		cells_plain(&l->cells);
	}
	while (l->cells.column < begin + 13 && !l->cells.cut)
		cells_ascii(&l->cells, " ");
	if (!comm && !pid)
		return;
	cells_colour(&l->cells, CELLS_BOLD);
	cells_ascii(&l->cells, " ");
	if (comm && comm->value.kind == VALUE_STR)
		cells_text(&l->cells, comm->value.body, comm->value.length, false);
	cells_plain(&l->cells);
	if (pid) {
		cells_ascii(&l->cells, "[");
		put_value(l, &pid->value, true);
		cells_ascii(&l->cells, "]");
	}
}

/* Every key that nothing has shown yet. */
static void put_rest(struct line *l)
{
	for (uint32_t i = 0; i < l->n_pairs && !l->cells.cut; i++) {
		struct pair *p = &l->pairs[i];

		if (p->done || p->value.kind == VALUE_NIL || !is_nonempty(&p->value))
			continue;
		/* The port goes with its address, in whichever order they come. */
		if (key_ends(p, "port") && p->key_length < 64) {
			char name[64];

			memcpy(name, p->key, p->key_length);
			memcpy(name + p->key_length - 4, "addr", 4);
			struct pair *addr = find(l, name, p->key_length);

			if (addr && !addr->done && addr->value.kind == VALUE_STR)
				continue;
		}
		cells_ascii(&l->cells, " ");
		cells_colour(&l->cells, CELLS_DIM);
		cells_text(&l->cells, p->key, p->key_length, false);
		cells_ascii(&l->cells, "=");
		cells_plain(&l->cells);
		put_by_key(l, p);
	}
	if (l->n_more)
		cells_format(&l->cells, " +%u keys", l->n_more);
}

static void put_line(struct line *l)
{
	struct pair *type = find_key(l, "type");
	const struct layout *layout = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(layouts) && type; i++)
		if (value_is(&type->value, layouts[i].type))
			layout = &layouts[i];
	for (uint32_t i = 0; i < l->n_pairs; i++)
		l->pairs[i].done = among(common, &l->pairs[i]) || (layout && among(layout->hidden, &l->pairs[i]));
	put_head(l);
	if (layout) {
		cells_ascii(&l->cells, " ");
		put_template(l, layout->template);
	}
	put_rest(l);
}

int record_write_line(FILE *out, const void *map, size_t size, bool colour, unsigned columns)
{
	struct line l;
	int r;

	l.n_pairs = l.n_more = 0;
	r = read_pairs(&l, map, size);
	if (r < 0)
		return r;
	cells_begin(&l.cells, colour, columns);
	put_line(&l);
	return cells_write(&l.cells, out);
}
