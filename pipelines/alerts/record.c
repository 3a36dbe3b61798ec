/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of a ring record, by the places that its declaration names. What a variable part names outside of the record is not there. */
#include "alerts/live_state.h"

#include <errno.h>
#include <string.h>

static uint64_t load_uint(const void *at, uint32_t size)
{
	uint64_t v = 0;

	memcpy(&v, at, MIN_OF(size, (uint32_t)sizeof v)); /* little end first, as on all that we run on */
	return v;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "load_uint");

static int64_t load_int(const void *at, uint32_t size)
{
	unsigned unused = 64 - 8 * MIN_OF(size, 8u);

	return (int64_t)(load_uint(at, size) << unused) >> unused;
}

static const uint8_t *place_of(const struct live *live, const struct field *field)
{
	return (const uint8_t *)live->record + field->offset;
}

static bool is_zero(const struct live *live, const struct field *field)
{
	return load_uint(place_of(live, field), field->size) == 0;
}

bool record_number(const struct live *live, enum live_key key, int64_t *ret)
{
	const struct field *field = live->type->keys[key];

	if (!field)
		return false;
	switch (field->how) {
	case FIELD_UINT:
	case FIELD_BOOL:
	case FIELD_NAMES:
	case FIELD_CAPS:
	case FIELD_TIME:
	case FIELD_ID:
		*ret = (int64_t)load_uint(place_of(live, field), field->size);
		return true;
	case FIELD_INT:
	case FIELD_ERRNO:
		*ret = load_int(place_of(live, field), field->size);
		return true;
	default:
		return false;
	}
}

/* The variable part; NULL: absent. */
static const char *part_of(const struct live *live, const struct field *field, uint32_t *ret_length)
{
	struct sonde_text text;

	memcpy(&text, place_of(live, field), sizeof text);
	if (!text.length || text.offset < live->type->type->size ||
	    (uint32_t)text.offset + text.length > live->record->size)
		return NULL;
	*ret_length = text.length;
	return (const char *)live->record + text.offset;
}

/* Components leaf first, a NUL behind each, as a path. */
static bool give_path(struct live *live, const char *text, uint32_t length, struct rule_value *ret)
{
	const char *end = text + length;
	size_t room;
	char *at;

	if (length && !end[-1])
		end--;
	if (end - text == 1 && *text == '/')
		return give_text(ret, "/", 1);
	at = texts_take(live, (size_t)(end - text) + 1, &room);
	if (room < (size_t)(end - text) + 1)
		return false;
	give_text(ret, at, room);
	for (const char *item = end; item; end = item) {
		item = memrchr(text, 0, (size_t)(end - text));
		const char *begin = item ? item + 1 : text;

		*at++ = '/';
		memcpy(at, begin, (size_t)(end - begin));
		at += end - begin;
	}
	return true;
}

/* Items with a NUL behind each, with spaces between. */
static bool give_list(struct live *live, const char *text, uint32_t length, struct rule_value *ret)
{
	size_t room;
	char *at;

	length -= length && !text[length - 1];
	at = texts_take(live, length, &room);
	for (size_t i = 0; i < room; i++)
		at[i] = text[i] ? text[i] : ' ';
	return give_text(ret, at, room);
}

static bool give_variable(struct live *live, const struct field *field, struct rule_value *ret)
{
	uint32_t length = 0;
	const char *text = part_of(live, field, &length);

	if (!text)
		return false;
	if (field->how == FIELD_PATH)
		return give_path(live, text, length, ret);
	if (field->how == FIELD_LIST)
		return give_list(live, text, length, ret);
	return field->how == FIELD_TEXT && give_text(ret, text, length);
}

static bool give_errno(struct live *live, int64_t error, struct rule_value *ret)
{
	const char *name = strerrorname_np((int)(error < 0 ? -error : error));

	return name ? give_text(ret, name, strlen(name)) : give_made(live, ret, "%lld", (long long)error);
}

static bool give_name(struct live *live, const struct field *field, uint64_t number, struct rule_value *ret)
{
	return number < field->n_names ? give_text(ret, field->names[number], strlen(field->names[number]))
				       : give_number(ret, (__int128)number);
}

bool record_value(struct live *live, const struct field *field, struct rule_value *ret)
{
	static const uint8_t none[16];
	const uint8_t *at = place_of(live, field);

	if (field->how >= FIELD_TEXT)
		return give_variable(live, field, ret);
	if (field->how == FIELD_CHARS) {
		size_t n = strnlen((const char *)at, field->size);

		return (n || !field->optional) && give_text(ret, (const char *)at, n);
	}
	if (field->how == FIELD_IP) {
		if (field->optional && !memcmp(at, none, sizeof none))
			return false;
		*ret = (struct rule_value){ .kind = RULE_ADDRESS };
		memcpy(ret->address, at, sizeof ret->address);
		return true;
	}
	if ((field->optional || field->how == FIELD_ERRNO) && is_zero(live, field))
		return false;
	switch (field->how) {
	case FIELD_INT:
		return give_number(ret, load_int(at, field->size));
	case FIELD_BOOL:
		return give_truth(ret, load_uint(at, field->size));
	case FIELD_ID:
		return give_made(live, ret, "%016llx", (unsigned long long)load_uint(at, field->size));
	case FIELD_TIME:
		return give_number(ret, (__int128)load_uint(at, field->size) + live->boot_to_epoch);
	case FIELD_ERRNO:
		return give_errno(live, load_int(at, field->size), ret);
	case FIELD_CAPS:
		return give_capabilities(live, load_uint(at, field->size), ret);
	case FIELD_NAMES:
		return give_name(live, field, load_uint(at, field->size), ret);
	default:
		return give_number(ret, (__int128)load_uint(at, field->size));
	}
}

bool record_key(struct live *live, enum live_key key, struct rule_value *ret)
{
	const struct field *field = live->type->keys[key];

	return field && record_value(live, field, ret);
}

const char *record_items(const struct live *live, enum live_key key, uint32_t *ret_length)
{
	const struct field *field = live->type->keys[key];

	*ret_length = 0;
	return field && field->how == FIELD_LIST ? part_of(live, field, ret_length) : NULL;
}

bool record_failed(const struct live *live)
{
	int64_t error;

	return record_number(live, KEY_error, &error) && error;
}

const struct field *record_field(const struct live *live, const char *key)
{
	const struct event_type *type = live->type->type;

	for (size_t i = 0; i < type->n_fields; i++)
		if (strcmp(type->fields[i].key, key) == 0)
			return &type->fields[i];
	return NULL;
}
