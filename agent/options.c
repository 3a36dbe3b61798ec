/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of all tables by full key, and a row in words. A table names a prefix and its rows are dotted below it; the
 * index is the flat list of full keys in the tables' order, from which both the tree (sections and their children)
 * and the reading order of every generated text follow. Some hundred rows at most: a linear search is all it takes.
 */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

static bool key_is_sound(const char *key)
{
	size_t length = strlen(key);

	return length && length < OPTION_KEY_MAX && key[0] != '.' && key[length - 1] != '.' && !strstr(key, "..");
}

static int index_add(struct option_index *index, const struct option_table *table, const struct sonde_option *row,
		     struct fault *fault)
{
	struct option_entry *more = realloc(index->entries, (index->n + 1) * sizeof *more);
	char *key;

	if (!more)
		return -ENOMEM;
	index->entries = more;
	if (asprintf(&key, "%s%s%s", table->prefix, *table->prefix ? "." : "", row->key) < 0)
		return -ENOMEM;
	more[index->n++] = (struct option_entry){ .key = key, .row = row, .table = table };
	if (!key_is_sound(key))
		return fault_set(fault, -EINVAL, "a module declares an option with the malformed key '%.100s'", key);
	for (size_t i = 0; i + 1 < index->n; i++) {
		size_t n;

		if (!strcmp(more[i].key, key) || option_below(more[i].key, key, &n) ||
		    option_below(key, more[i].key, &n))
			return fault_set(fault, -EEXIST, "the option '%.100s' is declared twice", key);
	}
	return 0;
}

int option_index_make(struct option_index *ret, const struct option_table *tables, size_t n_tables, struct fault *fault)
{
	struct option_index index = { 0 };

	for (size_t i = 0; i < n_tables; i++) {
		for (const struct sonde_option *row = tables[i].rows; row && row->key; row++) {
			int r = index_add(&index, &tables[i], row, fault);

			if (r < 0) {
				option_index_free(&index);
				return r;
			}
		}
	}
	*ret = index;
	return 0;
}

void option_index_free(struct option_index *index)
{
	for (size_t i = 0; i < index->n; i++)
		free(index->entries[i].key);
	free(index->entries);
	*index = (struct option_index){ 0 };
}

const struct option_entry *option_find(const struct option_index *index, const char *key)
{
	for (size_t i = 0; i < index->n; i++) {
		if (!strcmp(index->entries[i].key, key))
			return &index->entries[i];
	}
	return NULL;
}

const char *option_below(const char *key, const char *section, size_t *ret_length)
{
	size_t n = strlen(section);

	if (n) {
		if (strncmp(key, section, n) || key[n] != '.')
			return NULL;
		key += n + 1;
	}
	*ret_length = strcspn(key, ".");
	return key;
}

/* Whether an entry before the i-th has the same name below `section`. */
static bool name_came_before(const struct option_index *index, const char *section, size_t i, const char *name,
			     size_t length)
{
	for (size_t j = 0; j < i; j++) {
		size_t other_length;
		const char *other = option_below(index->entries[j].key, section, &other_length);

		if (other && other_length == length && !memcmp(other, name, length))
			return true;
	}
	return false;
}

bool option_child(const struct option_index *index, const char *section, size_t i, char ret[OPTION_KEY_MAX],
		  const struct option_entry **ret_leaf)
{
	for (size_t j = 0; j < index->n; j++) {
		size_t length;
		const char *name = option_below(index->entries[j].key, section, &length);

		if (!name || name_came_before(index, section, j, name, length) || i-- > 0)
			continue;
		memcpy(ret, name, length);
		ret[length] = '\0';
		*ret_leaf = name[length] ? NULL : &index->entries[j];
		return true;
	}
	return false;
}

void format_size(char *text, size_t room, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	unsigned u = 0;

	while (bytes && u + 1 < ARRAY_SIZE(units) && bytes % 1024 == 0) {
		bytes /= 1024;
		u++;
	}
	snprintf(text, room, "%" PRIu64 "%s", bytes, units[u]);
}

void format_duration(char *text, size_t room, uint64_t ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {
		{ "d", 86400 * NS_PER_SEC }, { "h", 3600 * NS_PER_SEC }, { "m", 60 * NS_PER_SEC },
		{ "s", NS_PER_SEC },         { "ms", NS_PER_MS },        { "us", 1000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (ns && ns % units[i].ns == 0) {
			snprintf(text, room, "%" PRIu64 "%s", ns / units[i].ns, units[i].unit);
			return;
		}
	}
	snprintf(text, room, ns ? "%" PRIu64 "ns" : "%" PRIu64 "s", ns);
}

static void format_number(const struct sonde_option *row, uint64_t value, char *text, size_t room)
{
	switch (row->type) {
	case SONDE_OPTION_SIZE:
	case SONDE_OPTION_POWER:
		format_size(text, room, value);
		break;
	case SONDE_OPTION_DURATION:
		format_duration(text, room, value);
		break;
	default:
		snprintf(text, room, "%" PRIu64, value);
	}
}

/* "a|b|c" as "a, b or c". */
static void format_choices(const char *choices, char *text, size_t room)
{
	size_t used = 0;

	for (const char *c = choices; *c && used < room;) {
		size_t length = strcspn(c, "|");
		const char *after = c + length;
		const char *between = !*after ? "" : strchr(after + 1, '|') ? ", " : " or ";

		used += (size_t)snprintf(text + used, room - used, "%.*s%s", (int)length, c, between);
		c = *after ? after + 1 : after;
	}
}

void option_range(const struct sonde_option *row, char *text, size_t room)
{
	bool counts = row->type == SONDE_OPTION_UINT;
	char least[32], most[32];

	text[0] = '\0';
	switch (row->type) {
	case SONDE_OPTION_CHOICE:
		format_choices(row->choices ? row->choices : "", text, room);
		return;
	case SONDE_OPTION_UINT:
	case SONDE_OPTION_SIZE:
	case SONDE_OPTION_POWER:
	case SONDE_OPTION_DURATION:
		break;
	default:
		return;
	}
	format_number(row, row->min, least, sizeof least);
	format_number(row, row->max, most, sizeof most);

	const char *unit = counts && row->unit ? row->unit : "";
	const char *space = *unit ? " " : "";

	if (row->max)
		snprintf(text, room, "%s to %s%s%s", least, most, space, unit);
	else if (row->min)
		snprintf(text, room, "at least %s%s%s", least, space, unit);
	else
		snprintf(text, room, "%s", unit);
}

void option_expected(const struct sonde_option *row, char *text, size_t room)
{
	char range[256];

	option_range(row, range, sizeof range);

	const char *from = row->max ? " from " : *range ? ", " : "";

	switch (row->type) {
	case SONDE_OPTION_BOOL:
		snprintf(text, room, "true or false");
		break;
	case SONDE_OPTION_UINT:
		snprintf(text, room, "a whole number%s%s", from, range);
		break;
	case SONDE_OPTION_SIZE:
		snprintf(text, room, "a size%s%s (in B, KiB, MiB or GiB)", from, range);
		break;
	case SONDE_OPTION_POWER:
		snprintf(text, room, "a size%s%s (in B, KiB, MiB or GiB) that is a power of two", from, range);
		break;
	case SONDE_OPTION_DURATION:
		snprintf(text, room, "a duration%s%s (in ns, us, ms, s, m, h or d)", from, range);
		break;
	case SONDE_OPTION_CHOICE:
		snprintf(text, room, "%s", range);
		break;
	case SONDE_OPTION_LIST:
		snprintf(text, room, "a list of text, such as [a, b]");
		break;
	case SONDE_OPTION_MAP:
		snprintf(text, room, "names and their texts, such as {name: text}");
		break;
	case SONDE_OPTION_TEXT:
	case SONDE_OPTION_SECRET:
		snprintf(text, room, "text");
		break;
	}
}

/* What is wrong with `text` as a number of the row; NULL: nothing. */
static const char *read_number(const struct sonde_option *row, const char *text, uint64_t *ret)
{
	bool counts = row->type == SONDE_OPTION_UINT;
	uint64_t value = 0;
	int r = row->type == SONDE_OPTION_DURATION ? parse_duration(text, &value) : parse_size(text, &value);

	if (*text < '0' || *text > '9')
		return "not a number";
	if (counts && text[strspn(text, "0123456789")])
		return "not a whole number";
	if (r == -EINVAL)
		return text[strspn(text, "0123456789")] ? "in no known unit" : "without a unit";
	if (r < 0 || value < row->min || (row->max && value > row->max))
		return "out of range";
	if (row->type == SONDE_OPTION_POWER && (value & (value - 1)))
		return "not a power of two";
	*ret = value;
	return NULL;
}

static bool is_choice(const char *choices, const char *text)
{
	size_t length = strlen(text);

	for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL) {
		if (strcspn(c, "|") == length && !memcmp(c, text, length))
			return true;
	}
	return false;
}

const char *option_read(const struct sonde_option *row, const char *text, uint64_t *ret_number)
{
	switch (row->type) {
	case SONDE_OPTION_BOOL:
		*ret_number = !strcmp(text, "true");
		return *ret_number || !strcmp(text, "false") ? NULL : "neither";
	case SONDE_OPTION_UINT:
	case SONDE_OPTION_SIZE:
	case SONDE_OPTION_POWER:
	case SONDE_OPTION_DURATION:
		return read_number(row, text, ret_number);
	case SONDE_OPTION_CHOICE:
		return is_choice(row->choices, text) ? NULL : "none of these";
	default:
		return NULL;
	}
}

const char *option_type_name(enum sonde_option_type type)
{
	static const char *const names[] = {
		[SONDE_OPTION_BOOL] = "true or false", [SONDE_OPTION_UINT] = "number", [SONDE_OPTION_SIZE] = "size",
		[SONDE_OPTION_DURATION] = "duration",  [SONDE_OPTION_TEXT] = "text",   [SONDE_OPTION_SECRET] = "secret",
		[SONDE_OPTION_CHOICE] = "choice",      [SONDE_OPTION_LIST] = "list",   [SONDE_OPTION_MAP] = "map",
		[SONDE_OPTION_POWER] = "power of two",
	};

	return (size_t)type < ARRAY_SIZE(names) ? names[type] : "";
}

bool name_is_secret(const char *name)
{
	return strcasestr(name, "password") || strcasestr(name, "secret") || strcasestr(name, "key");
}
