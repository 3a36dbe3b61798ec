/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent answers in JSON, so that any program can read it; here it is read back for people. The text comes from a socket that only root can
 * have made, but is walked with care all the same: a value ends where the text ends.
 */
#include "json.h"

#include <string.h>

static const char *skip_space(const char *at)
{
	while (*at == ' ' || *at == '\n' || *at == '\t')
		at++;
	return at;
}

static const char *skip_text(const char *at)
{
	for (at++; *at && *at != '"'; at++)
		if (*at == '\\' && at[1])
			at++;
	return *at ? at + 1 : at;
}

static const char *skip_value(const char *at)
{
	int depth = 0;

	do {
		if (*at == '"') {
			at = skip_text(at);
			continue;
		}
		if (*at == '{' || *at == '[')
			depth++;
		if (*at == '}' || *at == ']') {
			if (!depth)
				return at;
			depth--;
			at++;
			continue;
		}
		if (!depth && (*at == ',' || !*at))
			return at;
		at++;
	} while (*at && (depth || (*at != ',' && *at != '}' && *at != ']')));
	return at;
}

struct json json_first(struct json container)
{
	if (!container.at || (*container.at != '{' && *container.at != '['))
		return (struct json){ NULL };
	const char *at = skip_space(container.at + 1);

	return (struct json){ *at == '}' || *at == ']' || !*at ? NULL : at };
}

struct json json_value_of(struct json key)
{
	const char *at = key.at && *key.at == '"' ? skip_space(skip_text(key.at)) : NULL;

	return (struct json){ at && *at == ':' ? skip_space(at + 1) : NULL };
}

struct json json_next(struct json element)
{
	const char *at = element.at;
	struct json value = json_value_of(element);

	at = skip_space(skip_value(value.at ? value.at : at));
	return (struct json){ *at == ',' ? skip_space(at + 1) : NULL };
}

struct json json_key(struct json object, const char *key)
{
	size_t n = strlen(key);

	for (struct json k = json_first(object); k.at; k = json_next(k))
		if (!strncmp(k.at + 1, key, n) && k.at[n + 1] == '"')
			return json_value_of(k);
	return (struct json){ NULL };
}

uint64_t json_number(struct json value)
{
	return value.at ? strtoull(value.at, NULL, 10) : 0;
}

bool json_is_true(struct json value)
{
	return value.at && !strncmp(value.at, "true", 4);
}

size_t json_text(struct json value, char *room, size_t size)
{
	size_t n = 0;

	if (value.at && *value.at == '"')
		for (const char *at = value.at + 1; *at && *at != '"' && n + 1 < size; at++) {
			if (*at == '\\' && at[1])
				at++;
			room[n++] = *at;
		}
	room[n] = '\0';
	return n;
}
