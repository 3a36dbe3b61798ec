/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hot path of the agent: no allocation, no formatting library, no branch on a name. Ring records come from the kernel's own
 * programs, but a module may be a third party's: every offset is checked against the record before it is followed.
 */
#include "encode/plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "encode/pack.h"
#include "encode/record.h"

struct step {
	const struct field *field;
	uint8_t how, size, key_size; /* size of numbers */
	bool optional;
	uint32_t offset;
	const uint8_t *key; /* packed */
};

struct plan {
	uint8_t type_key[80]; /* "type": "process.exec", "ts" packed up to its value */
	uint32_t type_key_size;
	uint32_t record_size;
	uint32_t fixed_room; /* for everything but the variable parts and identity's texts */
	bool has_hex;
	size_t n_steps;
	uint8_t *keys;
	struct step steps[];
};

static const char *const cap_names[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

const char *capability_name(unsigned capability)
{
	return capability < ARRAY_SIZE(cap_names) ? cap_names[capability] : NULL;
}

int envelope_init(struct envelope *envelope, const char *host, const char *run)
{
	struct pack p = pack_over(envelope->host_run, sizeof envelope->host_run);

	if (strlen(host) > 128 || strlen(run) > 128)
		return -ENAMETOOLONG;
	pack_text(&p, "host");
	pack_text(&p, host);
	pack_text(&p, "run");
	pack_text(&p, run);
	envelope->host_run_size = (uint32_t)(p.at - envelope->host_run);
	envelope_update_clock(envelope);
	return 0;
}

void envelope_update_clock(struct envelope *envelope)
{
	envelope->boot_to_epoch = (int64_t)(now_realtime_ns() - now_boottime_ns());
}

/* Common keys with the longest of their values, "truncated" and the map's own header. */
#define COMMON_ROOM     512
#define KEY_COPY        16 /* bytes that a key is copied by, where there is room for them */
#define CAP_NAME_ROOM   (sizeof "CAP_CHECKPOINT_RESTORE")
#define ERRNO_NAME_ROOM 32

/* The most that a value can take: of a variable part, what its bytes do not give up themselves. */
static uint32_t value_room(const struct field *field)
{
	uint32_t most = 0;

	switch (field->how) {
	case FIELD_CHARS:
		return field->size + 3;
	case FIELD_IP:
		return INET6_ADDRSTRLEN + 2;
	case FIELD_ID:
		return 17;
	case FIELD_ERRNO:
		return ERRNO_NAME_ROOM;
	case FIELD_CAPS:
		return 3 + ARRAY_SIZE(cap_names) * CAP_NAME_ROOM;
	case FIELD_NAMES:
		for (uint32_t i = 0; i < field->n_names; i++)
			most = strlen(field->names[i]) > most ? (uint32_t)strlen(field->names[i]) : most;
		return most + 24;
	default:
		return 9;
	}
}

int plan_compile(struct plan **ret, const struct event_type *type)
{
	size_t keys_size = 0;

	for (size_t i = 0; i < type->n_fields; i++)
		keys_size += strlen(type->fields[i].key) + 5;
	struct plan *plan = calloc(1, sizeof *plan + type->n_fields * sizeof plan->steps[0]);

	if (!plan)
		return -ENOMEM;
	plan->keys = calloc(1, keys_size + KEY_COPY);
	if (!plan->keys) {
		free(plan);
		return -ENOMEM;
	}
	struct pack head = pack_over(plan->type_key, sizeof plan->type_key), keys = pack_over(plan->keys, keys_size);

	pack_text(&head, "type");
	pack_text(&head, type->name);
	pack_text(&head, "ts");
	plan->type_key_size = (uint32_t)(head.at - plan->type_key);
	plan->record_size = type->size;
	plan->n_steps = type->n_fields;
	plan->fixed_room =
		COMMON_ROOM + sizeof plan->type_key + sizeof(((struct envelope *)NULL)->host_run) + (uint32_t)keys_size;
	for (size_t i = 0; i < type->n_fields; i++) {
		const struct field *f = &type->fields[i];
		const uint8_t *key = keys.at;

		plan->has_hex |= f->how == FIELD_HEX;
		plan->fixed_room += value_room(f);
		pack_text(&keys, f->key);
		plan->steps[i] = (struct step){ .field = f,
						.how = (uint8_t)f->how,
						.size = (uint8_t)f->size,
						.key_size = (uint8_t)(keys.at - key),
						.optional = f->optional,
						.offset = f->offset,
						.key = key };
	}
	*ret = plan;
	return 0;
}

void plan_free(struct plan *plan)
{
	if (plan)
		free(plan->keys);
	free(plan);
}

uint32_t plan_room(const struct plan *plan, uint32_t record_bytes, uint32_t identity_bytes)
{
	/* An item of a list gives up its NUL for a header of at most three bytes, and the shortest item with more than one has 32
	 * bytes; so a list grows by a sixteenth at most. Hex digits double. */
	uint32_t texts = record_bytes + record_bytes / 16;

	return plan->fixed_room + (plan->has_hex ? texts * 2 : texts) + identity_bytes;
}

static uint64_t load_uint(const uint8_t *at, uint8_t size)
{
	switch (size) {
	case 1:
		return *at;
	case 2: {
		uint16_t v;
		memcpy(&v, at, 2);
		return v;
	}
	case 4: {
		uint32_t v;
		memcpy(&v, at, 4);
		return v;
	}
	default: {
		uint64_t v;
		memcpy(&v, at, 8);
		return v;
	}
	}
}

static int64_t load_int(const uint8_t *at, uint8_t size)
{
	unsigned unused = 64 - 8u * size;

	return (int64_t)(load_uint(at, size) << unused) >> unused;
}

/* Eight hex digits of 32 bits at once: each nibble gets a byte of its own, and those above 9 the distance to the letters. */
static uint64_t hex_digits(uint32_t bits)
{
	uint64_t v = bits, over;

	v = ((v & 0xffff0000ull) << 16) | (v & 0xffff);
	v = ((v << 8) | v) & 0x00ff00ff00ff00ffull;
	v = ((v << 4) | v) & 0x0f0f0f0f0f0f0f0full;
	over = ((v + 0x0606060606060606ull) >> 4) & 0x0101010101010101ull;
	return __builtin_bswap64(v + 0x3030303030303030ull + over * ('a' - '0' - 10));
}

static void pack_id(struct pack *p, uint64_t id)
{
	uint64_t text[2] = { hex_digits((uint32_t)(id >> 32)), hex_digits((uint32_t)id) };

	pack_str_header(p, sizeof text);
	pack_raw(p, text, sizeof text);
}

/* Keys are short: two registers do, where a call would take as long as all the rest. */
static void pack_key(struct pack *p, const struct step *s)
{
	if (p->end - p->at >= KEY_COPY && s->key_size <= KEY_COPY) {
		memcpy(p->at, s->key, KEY_COPY);
		p->at += s->key_size;
	} else {
		pack_raw(p, s->key, s->key_size);
	}
}

static unsigned write_octet(char *at, uint8_t v)
{
	unsigned n = 0;

	if (v >= 100)
		at[n++] = (char)('0' + v / 100);
	if (v >= 10)
		at[n++] = (char)('0' + v / 10 % 10);
	at[n++] = (char)('0' + v % 10);
	return n;
}

static void pack_ip(struct pack *p, const uint8_t *bytes)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	char text[INET6_ADDRSTRLEN];
	unsigned n = 0;

	if (memcmp(bytes, mapped, sizeof mapped)) {
		inet_ntop(AF_INET6, bytes, text, sizeof text);
		pack_text(p, text);
		return;
	}
	for (int i = 12; i < 16; i++) {
		if (i > 12)
			text[n++] = '.';
		n += write_octet(text + n, bytes[i]);
	}
	pack_str(p, text, n);
}

static void pack_caps(struct pack *p, uint64_t caps)
{
	uint8_t *place = pack_open_array(p);
	uint16_t count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(cap_names); i++) {
		if (!(caps & 1ull << i))
			continue;
		pack_text(p, cap_names[i]);
		count++;
	}
	pack_close(p, place, count);
}

static void pack_errno(struct pack *p, int64_t error)
{
	const char *name = strerrorname_np((int)(error < 0 ? -error : error));
	char number[24];

	if (!name) {
		snprintf(number, sizeof number, "%lld", (long long)error);
		name = number;
	}
	pack_text(p, name);
}

/* Items end with a NUL each; a last one without counts too. */
static void pack_list(struct pack *p, const char *text, uint32_t length)
{
	uint8_t *place = pack_open_array(p);
	uint16_t count = 0;

	while (length && count < UINT16_MAX) {
		const char *end = memchr(text, 0, length);
		uint32_t n = end ? (uint32_t)(end - text) : length;

		pack_str(p, text, n);
		count++;
		text += n + (end != NULL);
		length -= n + (end != NULL);
	}
	pack_close(p, place, count);
}

/* Components leaf first, a NUL behind each, the last being "/" for the root itself. */
static void pack_path(struct pack *p, const char *text, uint32_t length)
{
	const char *end = text + length, *item;
	uint32_t size = 0;
	uint8_t *at;

	if (length && !end[-1])
		end--;
	length = (uint32_t)(end - text);
	if (length == 1 && *text == '/') {
		pack_text(p, "/");
		return;
	}
	size = length + 1; /* each NUL between becomes a slash, and one goes in front */
	pack_str_header(p, size);
	if (!pack_room(p, size))
		return;
	at = p->at;
	do {
		item = memrchr(text, 0, (size_t)(end - text));
		const char *begin = item ? item + 1 : text;

		*at++ = '/';
		memcpy(at, begin, (size_t)(end - begin));
		at += end - begin;
		end = item;
	} while (item);
	p->at += size;
}

static void pack_hex(struct pack *p, const uint8_t *bytes, uint32_t length)
{
	static const char digits[] = "0123456789abcdef";

	pack_str_header(p, length * 2);
	for (uint32_t i = 0; i < length; i++) {
		char two[2] = { digits[bytes[i] >> 4], digits[bytes[i] & 15] };

		pack_raw(p, two, 2);
	}
}

/* What a module packed itself must be one whole value of its kind: a record would end where its readers do not expect it. */
static bool pack_packed(struct pack *p, enum value_kind kind, const uint8_t *part, uint32_t length)
{
	struct value v;

	if (value_read(part, part + length, &v) < 0 || v.kind != kind ||
	    value_skip_member(part, part + length) != part + length)
		return false;
	pack_raw(p, part, length);
	return true;
}

/* The variable part that a sonde_text names; NULL when it does not lie within the record, behind its fixed part. */
static const char *text_part(const struct plan *plan, const uint8_t *record, uint32_t size, const uint8_t *at,
			     uint32_t *ret_length)
{
	struct sonde_text t;

	memcpy(&t, at, sizeof t);
	if (t.length && (t.offset < plan->record_size || (uint32_t)t.offset + t.length > size))
		return NULL;
	*ret_length = t.length;
	return (const char *)record + t.offset;
}

static bool encode_text(struct pack *p, const struct plan *plan, const struct step *s, const uint8_t *record,
			uint32_t size, uint16_t *count)
{
	uint32_t length = 0;
	const char *text = text_part(plan, record, size, record + s->offset, &length);

	if (!text)
		return false;
	if (s->optional && !length)
		return true;
	pack_key(p, s);
	++*count;
	switch (s->how) {
	case FIELD_LIST:
		pack_list(p, text, length);
		break;
	case FIELD_PATH:
		if (length)
			pack_path(p, text, length);
		else
			pack_text(p, "");
		break;
	case FIELD_HEX:
		pack_hex(p, (const uint8_t *)text, length);
		break;
	case FIELD_MSGPACK:
		return pack_packed(p, VALUE_MAP, (const uint8_t *)text, length);
	case FIELD_TABLE:
		return pack_packed(p, VALUE_ARRAY, (const uint8_t *)text, length);
	default:
		pack_str(p, text, length);
	}
	return true;
}

static void encode_names(struct pack *p, const struct field *f, uint64_t value)
{
	char number[24];

	if (value < f->n_names) {
		pack_text(p, f->names[value]);
		return;
	}
	snprintf(number, sizeof number, "%llu", (unsigned long long)value);
	pack_text(p, number);
}

static void encode_number(struct pack *p, const struct step *s, const struct envelope *envelope, const uint8_t *at,
			  uint16_t *count)
{
	uint64_t value = load_uint(at, s->size);

	if (!value && (s->optional || s->how == FIELD_ERRNO))
		return;
	pack_key(p, s);
	++*count;
	switch (s->how) {
	case FIELD_INT:
		pack_int(p, load_int(at, s->size));
		break;
	case FIELD_BOOL:
		pack_bool(p, value);
		break;
	case FIELD_ID:
		pack_id(p, value);
		break;
	case FIELD_TIME:
		pack_uint(p, value + (uint64_t)envelope->boot_to_epoch);
		break;
	case FIELD_ERRNO:
		pack_errno(p, load_int(at, s->size));
		break;
	case FIELD_CAPS:
		pack_caps(p, value);
		break;
	case FIELD_NAMES:
		encode_names(p, s->field, value);
		break;
	default:
		pack_uint(p, value);
	}
}

static void encode_chars(struct pack *p, const struct step *s, const uint8_t *at, uint16_t *count)
{
	size_t n = strnlen((const char *)at, s->field->size);

	if (!n && s->optional)
		return;
	pack_key(p, s);
	pack_str(p, (const char *)at, n);
	++*count;
}

static void encode_ip(struct pack *p, const struct step *s, const uint8_t *at, uint16_t *count)
{
	static const uint8_t none[16];

	if (s->optional && !memcmp(at, none, 16))
		return;
	pack_key(p, s);
	pack_ip(p, at);
	++*count;
}

#define PACK_KEY(p, text) pack_str(p, text, sizeof(text) - 1)

static void encode_task(struct pack *p, const struct sonde_event *e, const struct identity_text *identity,
			uint16_t *count)
{
	if (!(e->flags & SONDE_FLAG_NO_TASK)) {
		PACK_KEY(p, "pid");
		pack_uint(p, e->pid);
		PACK_KEY(p, "tid");
		pack_uint(p, e->tid);
		PACK_KEY(p, "comm");
		pack_str(p, e->comm, strnlen(e->comm, sizeof e->comm));
		*count += 3;
	}
	if (e->proc) {
		PACK_KEY(p, "proc");
		pack_id(p, e->proc);
		++*count;
	}
	if (e->parent) {
		PACK_KEY(p, "parent");
		pack_id(p, e->parent);
		++*count;
	}
	if (identity && identity->container_length) {
		PACK_KEY(p, "container");
		pack_str(p, identity->container, identity->container_length);
		++*count;
	}
	if (identity && identity->cgroup_length) {
		PACK_KEY(p, "cgroup");
		pack_str(p, identity->cgroup, identity->cgroup_length);
		++*count;
	}
	if (identity && identity->lineage_size) {
		PACK_KEY(p, "lineage");
		pack_list(p, identity->lineage, identity->lineage_size);
		++*count;
	}
}

static void encode_stack(struct pack *p, const struct identity_text *identity, uint16_t *count)
{
	PACK_KEY(p, "stack");
	pack_list(p, identity->stack, identity->stack_size);
	PACK_KEY(p, "stack_id");
	pack_id(p, identity->stack_id);
	*count += 2;
	if (!identity->stack_truncated)
		return;
	PACK_KEY(p, "stack_truncated");
	pack_bool(p, true);
	++*count;
}

uint32_t plan_encode(const struct plan *plan, const struct envelope *envelope, const struct sonde_event *event,
		     uint64_t seq, const struct identity_text *identity, void *room, uint32_t room_size)
{
	const uint8_t *record = (const uint8_t *)event;
	struct pack p = pack_over(room, room_size);
	uint8_t *place = pack_open_map(&p);
	uint16_t count = 5; /* type, ts, seq, host, run */

	if (event->size < plan->record_size)
		return 0;
	pack_raw(&p, plan->type_key, plan->type_key_size);
	pack_uint(&p, event->time + (uint64_t)envelope->boot_to_epoch);
	PACK_KEY(&p, "seq");
	pack_uint(&p, seq);
	pack_raw(&p, envelope->host_run, envelope->host_run_size);
	encode_task(&p, event, identity, &count);
	for (size_t i = 0; i < plan->n_steps; i++) {
		const struct step *s = &plan->steps[i];
		const uint8_t *at = record + s->offset;

		if (s->how >= FIELD_TEXT) {
			if (!encode_text(&p, plan, s, record, event->size, &count))
				return 0;
		} else if (s->how == FIELD_CHARS) {
			encode_chars(&p, s, at, &count);
		} else if (s->how == FIELD_IP) {
			encode_ip(&p, s, at, &count);
		} else {
			encode_number(&p, s, envelope, at, &count);
		}
	}
	if (identity && identity->stack)
		encode_stack(&p, identity, &count);
	if (event->flags & SONDE_FLAG_TRUNCATED) {
		PACK_KEY(&p, "truncated");
		pack_bool(&p, true);
		count++;
	}
	pack_close(&p, place, count);
	return p.full ? 0 : (uint32_t)(p.at - (uint8_t *)room);
}
