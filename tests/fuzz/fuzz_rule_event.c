/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any values under conditions that use every operator: the input is cut into pieces, each of which is the value of one field, and its first byte says of
 * which kind. What a condition says of them, its opposite denies; output stays within its room and is UTF-8 without control characters.
 */
#include "rules/field.h"
#include "rules/rules.h"
#include "rules/utf8.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static const char *const conditions[] = {
	"proc.name = a",
	"proc.name != a",
	"proc.name < b",
	"proc.cmdline contains abc",
	"proc.cmdline icontains ABC",
	"evt.buffer bcontains 00ff",
	"evt.buffer bstartswith 00",
	"proc.exe startswith /bin",
	"proc.exe endswith sh",
	"fd.name glob '/home/*/[a-c]?'",
	"fd.name iglob '*/X*[!q]'",
	"fd.name regex '(/[a-z]+)*/x{2,5}[^a]?'",
	"proc.name in (a, b, c, d, e, f, g, h)",
	"fd.types in (file, ipv4)",
	"fd.types intersects (file, ipv6)",
	"fd.name pmatch (/etc, /home/*/x, /)",
	"proc.pname exists",
	"proc.pid in (1, 2, 3, 4, 5, 6, 7)",
	"proc.pid > 5",
	"evt.rawres < 0",
	"proc.fdusage > 0.5",
	"fd.ip != 10.0.0.1",
	"fd.net in (10.0.0.0/8, ::/3)",
	"fd.sport in (80, 443)",
	"evt.is_open_read = true",
	"tolower(proc.name) = a",
	"b64(evt.buffer) contains a",
	"basename(fd.name) = x",
	"len(fd.name) > 3",
	"len(fd.types) = 2",
	"proc.name = val(proc.pname)",
	"toupper(b64(proc.args)) startswith tolower(proc.name)",
	"proc.aname = a",
	"proc.aname[2] in (a, b)",
	"evt.arg.flags contains anyof (A, B)",
	"fd.directory = /etc",
	"fd.filename endswith x",
	"evt.rawtime.s > 5",
	"evt.time contains 1",
	"proc.name glob allof (*a*, *b*)",
	"fd.name pmatch val(proc.cwd)",
	"evt.failed = true",
	"evt.type.is.open = 1",
	"evt.type = open or proc.name = q",
};

/* Pieces of the input, one for each slot. */
struct pieces {
	struct rule_event event;
	const uint8_t *data;
	size_t size;
};

static void give(const uint8_t *at, size_t size, struct rule_value *ret)
{
	__int128 number = 0;

	memcpy(&number, at, MIN_OF(size, (size_t)9));
	switch (size > 0 ? at[0] % 8 : 0) {
	case 1:
		ret->kind = RULE_NUMBER;
		ret->number = number - ((__int128)1 << 63);
		return;
	case 2:
		ret->kind = RULE_FRACTION;
		memcpy(&ret->fraction, at, MIN_OF(size, sizeof ret->fraction));
		return;
	case 3:
		ret->kind = RULE_TRUTH;
		ret->truth = size & 1;
		return;
	case 4:
		ret->kind = RULE_ADDRESS;
		memset(ret->address, 0, 16);
		memcpy(ret->address, at, MIN_OF(size, (size_t)16));
		return;
	case 5:
		ret->kind = RULE_OTHER;
		return;
	default:
		ret->kind = RULE_TEXT;
		ret->text = (const char *)at + (size > 0);
		ret->length = (uint32_t)(size - (size > 0));
	}
}

static bool first_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret)
{
	const struct pieces *p = (const struct pieces *)event;
	size_t from = 0, n = 0;

	/* It has to agree with evt.type. */
	if (ref->field->derive == RULE_IS_TYPE)
		return false;
	/* Pieces end at 0xfe; the slot chooses one. */
	while (from < p->size && n < ref->slot % 7) {
		const uint8_t *end = memchr(p->data + from, 0xfe, p->size - from);

		from = end ? (size_t)(end - p->data) + 1 : p->size;
		n++;
	}
	if (from >= p->size)
		return false;
	ret->left = p->data[from] % 3;
	ret->list = ret->left > 0;
	ret->count = ret->left + 1;
	ret->cursor = p->data + from;
	const uint8_t *end = memchr(p->data + from, 0xfe, p->size - from);

	give(p->data + from, end ? (size_t)(end - p->data) - from : p->size - from, ret);
	return true;
}

static bool next_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value)
{
	const struct pieces *p = (const struct pieces *)event;
	const uint8_t *at = value->cursor;

	if (value->left == 0)
		return false;
	value->left--;
	give(at, (size_t)(p->data + p->size - at) / 2, value);
	return true;
}

/* Two rules for each condition: itself and its opposite. */
static struct rules *make_rules(void)
{
	static char text[65536];
	const struct rules_file file = { "conditions", text, 0 };
	const struct rules_options options = { 0 };
	struct rules_file whole = file;
	struct rules *rules = NULL;
	struct fault fault;
	size_t used = 0;

	for (size_t i = 0; i < ARRAY_SIZE(conditions) * 2; i++)
		used += (size_t)sprintf(text + used,
					"- rule: r%zu\n  desc: d\n  priority: INFO\n  warn_evttypes: false\n  output: "
					"\"%%proc.name %%5fd.name %%tolower(proc.cmdline) "
					"%%evt.time %%fd.types\"\n  condition: >\n    %s(%s)\n",
					i, i & 1 ? "not " : "", conditions[i / 2]);
	whole.size = used;
	if (rules_load(&rules, &whole, 1, &options, &fault) < 0) {
		fprintf(stderr, "%s\n", fault.text);
		abort();
	}
	return rules;
}

static void check_output(const char *text, size_t length)
{
	const char *at = text, *end = text + length;

	while (at < end) {
		unsigned size;
		uint32_t c = utf8_read(at, end, &size);

		check(c >= 0x20 && c != 0x7f);
		check(c != UTF8_REPLACEMENT || size == 3);
		at += size;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rules *rules;
	struct pieces pieces = { { first_of, next_of }, data, size };
	uint32_t matched[256], n;
	bool fired[256] = { false };
	char room[300];

	if (!rules)
		rules = make_rules();
	n = rules_match(rules, &pieces.event, matched, 256);
	for (uint32_t i = 0; i < n; i++)
		fired[matched[i]] = true;
	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++)
		check(fired[2 * i] != fired[2 * i + 1]);
	check_output(room, rules_format(rules, 0, &pieces.event, room, sizeof room, NULL));
	return 0;
}
