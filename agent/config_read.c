/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reading side of a loaded configuration: values by key, what differs between two, and a digest.
 *
 * The digest goes into the stream, where others read it, so a secret must not be guessable from it: every value goes
 * through SipHash-2-4 (Aumasson and Bernstein, 2012), secrets first on their own under a key that only this machine has
 * (/etc/machine-id). The same configuration on the same host always has the same digest.
 */
#include "config_values.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

static const struct value *find_value(const struct config *config, const char *key, unsigned types)
{
	const struct option_entry *entry = option_find(&config->index, key);

	if (!entry || !(types & 1u << entry->row->type))
		abort(); /* the program asks for what its own tables do not hold */
	return &config->values[entry - config->index.entries];
}

bool config_bool(const struct config *config, const char *key)
{
	return find_value(config, key, 1u << SONDE_OPTION_BOOL)->number;
}

uint64_t config_number(const struct config *config, const char *key)
{
	return find_value(config, key,
			  1u << SONDE_OPTION_UINT | 1u << SONDE_OPTION_SIZE | 1u << SONDE_OPTION_POWER |
				  1u << SONDE_OPTION_DURATION | 1u << SONDE_OPTION_BOOL)
		->number;
}

const char *config_text(const struct config *config, const char *key)
{
	return find_value(config, key, 1u << SONDE_OPTION_TEXT | 1u << SONDE_OPTION_SECRET | 1u << SONDE_OPTION_CHOICE)
		->text;
}

size_t config_list(const struct config *config, const char *key, const char *const **ret_items)
{
	const struct value *value = find_value(config, key, 1u << SONDE_OPTION_LIST);

	*ret_items = value->items;
	return value->n;
}

size_t config_map(const struct config *config, const char *key, const char *const (**ret_pairs)[2])
{
	const struct value *value = find_value(config, key, 1u << SONDE_OPTION_MAP);

	*ret_pairs = (const char *const(*)[2])value->pairs;
	return value->n;
}

const char *config_origin(const struct config *config, const char *key)
{
	return find_value(config, key, UINT32_MAX)->origin;
}

static bool text_equal(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static bool value_equal(const struct sonde_option *row, const struct value *a, const struct value *b)
{
	/* "1h" and "60m" are the same. */
	if (row->type == SONDE_OPTION_TEXT || row->type == SONDE_OPTION_SECRET || row->type == SONDE_OPTION_CHOICE)
		return text_equal(a->text, b->text);
	if (a->number != b->number || a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		if (!text_equal(a->pairs[i][0], b->pairs[i][0]) || !text_equal(a->pairs[i][1], b->pairs[i][1]))
			return false;
	}
	return true;
}

void config_diff(const struct config *before, const struct config *after,
		 void (*changed)(void *context, const char *key, const struct sonde_option *row), void *context)
{
	for (size_t i = 0; i < after->index.n; i++) {
		const struct option_entry *now = &after->index.entries[i];
		const struct option_entry *then = option_find(&before->index, now->key);

		if (!then || then->row->type != now->row->type ||
		    !value_equal(now->row, &before->values[then - before->index.entries], &after->values[i]))
			changed(context, now->key, now->row);
	}
	for (size_t i = 0; i < before->index.n; i++) {
		const struct option_entry *then = &before->index.entries[i];

		if (!option_find(&after->index, then->key))
			changed(context, then->key, then->row);
	}
}

/* --- digest --- */

struct sip_key {
	uint64_t k[2];
};

static void sip_round(uint64_t v[4])
{
#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
	v[0] += v[1];
	v[1] = ROTATE(v[1], 13) ^ v[0];
	v[0] = ROTATE(v[0], 32);
	v[2] += v[3];
	v[3] = ROTATE(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = ROTATE(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = ROTATE(v[1], 17) ^ v[2];
	v[2] = ROTATE(v[2], 32);
#undef ROTATE
}

static uint64_t sip_hash(const struct sip_key *key, const void *bytes, size_t size)
{
	uint64_t v[4] = { key->k[0] ^ 0x736f6d6570736575ull, key->k[1] ^ 0x646f72616e646f6dull,
			  key->k[0] ^ 0x6c7967656e657261ull, key->k[1] ^ 0x7465646279746573ull };
	const unsigned char *p = bytes;

	for (size_t i = 0; i <= size / 8; i++) {
		size_t left = size - 8 * i;
		uint64_t m = left < 8 ? (uint64_t)size << 56 : 0;

		for (size_t j = 0; j < MIN_OF(left, (size_t)8); j++)
			m |= (uint64_t)p[8 * i + j] << 8 * j;
		v[3] ^= m;
		sip_round(v);
		sip_round(v);
		v[0] ^= m;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Without a machine id (a container, a fresh image) the digest is the same for one boot only. */
static struct sip_key machine_key(void)
{
	static const char *const sources[] = { "/etc/machine-id", "/proc/sys/kernel/random/boot_id" };
	static const struct sip_key zero;
	struct sip_key key = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		_cleanup_(free_pointer) char *id = NULL;
		size_t size;

		if (read_small_file(sources[i], 256, &id, &size) < 0 || size < 32)
			continue;
		key.k[0] = sip_hash(&zero, id, 16);
		key.k[1] = sip_hash(&zero, id + 16, 16);
		return key;
	}
	if (getrandom(&key, sizeof key, GRND_NONBLOCK) != (ssize_t)sizeof key)
		key.k[0] = now_boottime_ns();
	return key;
}

static void mix(uint64_t *digest, const void *bytes, size_t size)
{
	const struct sip_key key = { { *digest, size } };

	*digest = sip_hash(&key, bytes, size);
}

static void mix_text(uint64_t *digest, const char *text, const struct sip_key *secret)
{
	if (!secret) {
		mix(digest, text, strlen(text));
		return;
	}

	uint64_t hidden = sip_hash(secret, text, strlen(text));

	mix(digest, &hidden, sizeof hidden);
}

void config_digest(const struct config *config, char ret_digest[17])
{
	const struct sip_key machine = machine_key();
	uint64_t digest = 0;

	for (size_t i = 0; i < config->index.n; i++) {
		const struct option_entry *entry = &config->index.entries[i];
		const struct value *value = &config->values[i];
		enum sonde_option_type type = entry->row->type;

		mix_text(&digest, entry->key, NULL);
		mix(&digest, &value->number, sizeof value->number);
		if (type == SONDE_OPTION_TEXT || type == SONDE_OPTION_CHOICE || type == SONDE_OPTION_SECRET)
			mix_text(&digest, value->text, type == SONDE_OPTION_SECRET ? &machine : NULL);
		mix(&digest, &value->n, sizeof value->n);
		for (size_t j = 0; j < value->n; j++) {
			const char *name = value->pairs[j][0];

			mix_text(&digest, name ? name : "", NULL);
			mix_text(&digest, value->pairs[j][1], name && name_is_secret(name) ? &machine : NULL);
		}
	}
	snprintf(ret_digest, 17, "%016" PRIx64, digest);
}
