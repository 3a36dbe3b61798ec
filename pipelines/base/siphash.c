/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4: two rounds for each word of eight bytes, four at the end; the last word holds the rest and the length. */
#include "base/siphash.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

struct state {
	uint64_t a, b, c, d;
};

static inline uint64_t rotate(uint64_t value, unsigned by)
{
	return value << by | value >> (64 - by);
}

static inline void rounds(struct state *s, unsigned count)
{
	while (count--) {
		s->a += s->b;
		s->b = rotate(s->b, 13) ^ s->a;
		s->a = rotate(s->a, 32);
		s->c += s->d;
		s->d = rotate(s->d, 16) ^ s->c;
		s->a += s->d;
		s->d = rotate(s->d, 21) ^ s->a;
		s->c += s->b;
		s->b = rotate(s->b, 17) ^ s->c;
		s->c = rotate(s->c, 32);
	}
}

static inline void take_word(struct state *s, uint64_t word)
{
	s->d ^= word;
	rounds(s, 2);
	s->a ^= word;
}

int siphash_make_key(struct siphash_key *ret)
{
	struct siphash_key key;

	if (getrandom(&key, sizeof key, 0) != sizeof key)
		return -EIO;
	*ret = key;
	return 0;
}

uint64_t siphash(const struct siphash_key *key, const void *bytes, size_t size)
{
	uint64_t k = key->halves[0], l = key->halves[1], word, last = (uint64_t)size << 56;
	/* The constants are the text "somepseudorandomlygeneratedbytes". */
	struct state s = { k ^ 0x736f6d6570736575ull, l ^ 0x646f72616e646f6dull, k ^ 0x6c7967656e657261ull,
			   l ^ 0x7465646279746573ull };
	const uint8_t *at = bytes;

	for (; size >= sizeof word; size -= sizeof word, at += sizeof word) {
		memcpy(&word, at, sizeof word);
		take_word(&s, le64toh(word));
	}
	for (size_t i = 0; i < size; i++)
		last |= (uint64_t)at[i] << 8 * i;
	take_word(&s, last);
	s.c ^= 0xff;
	rounds(&s, 4);
	return s.a ^ s.b ^ s.c ^ s.d;
}
