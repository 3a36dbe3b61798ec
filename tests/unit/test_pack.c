/* SPDX-License-Identifier: Apache-2.0 */
/* The packer of the hot path, read back by msgpack-c: every width at its borders, and no byte past the end. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <msgpack.h>
#include <string.h>

#include "base/base.h"
#include "encode/pack.h"

static msgpack_object unpack(msgpack_unpacked *room, const uint8_t *bytes, size_t size)
{
	size_t at = 0;

	msgpack_unpacked_init(room);
	assert_int_equal(msgpack_unpack_next(room, (const char *)bytes, size, &at), MSGPACK_UNPACK_SUCCESS);
	assert_int_equal(at, size);
	return room->data;
}

/* The shortest form that the specification has for it. */
static size_t shortest(uint64_t value)
{
	return value < 128 ? 1 : value <= UINT8_MAX ? 2 : value <= UINT16_MAX ? 3 : value <= UINT32_MAX ? 5 : 9;
}

static void test_integers(void **state)
{
	uint8_t bytes[16];
	msgpack_unpacked room;

	for (unsigned bit = 0; bit < 64; bit++)
		for (int off = -2; off <= 2; off++) {
			uint64_t value = (1ull << bit) + (uint64_t)(int64_t)off;
			struct pack p = pack_over(bytes, sizeof bytes), q;
			msgpack_object o;

			pack_uint(&p, value);
			o = unpack(&room, bytes, (size_t)(p.at - bytes));
			assert_int_equal(o.type, MSGPACK_OBJECT_POSITIVE_INTEGER);
			assert_true(o.via.u64 == value);
			assert_int_equal(p.at - bytes, shortest(value));
			msgpack_unpacked_destroy(&room);

			q = pack_over(bytes, sizeof bytes);
			pack_int(&q, (int64_t)(0 - value));
			o = unpack(&room, bytes, (size_t)(q.at - bytes));
			assert_int_equal(o.type, (int64_t)(0 - value) < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER
									  : MSGPACK_OBJECT_POSITIVE_INTEGER);
			assert_true(o.via.i64 == (int64_t)(0 - value));
			assert_false(p.full || q.full);
			msgpack_unpacked_destroy(&room);
		}
}

static void test_text(void **state)
{
	static const size_t lengths[] = { 0, 1, 31, 32, 255, 256, 65535, 65536, 70000 };
	char *text = malloc(70000);
	uint8_t *bytes = malloc(70010);
	msgpack_unpacked room;

	memset(text, 'x', 70000);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct pack p = pack_over(bytes, 70010);
		msgpack_object o;

		pack_str(&p, text, lengths[i]);
		o = unpack(&room, bytes, (size_t)(p.at - bytes));
		assert_int_equal(o.type, MSGPACK_OBJECT_STR);
		assert_int_equal(o.via.str.size, lengths[i]);
		assert_memory_equal(o.via.str.ptr, text, lengths[i]);
		msgpack_unpacked_destroy(&room);
	}
	free(text);
	free(bytes);
}

static void pack_sample(struct pack *p)
{
	uint8_t *map = pack_open_map(p), *array;

	pack_text(p, "type");
	pack_text(p, "a.b");
	pack_text(p, "list");
	array = pack_open_array(p);
	pack_bool(p, true);
	pack_bool(p, false);
	pack_int(p, -1);
	pack_close(p, array, 3);
	pack_raw(p, "\xa1k", 2);
	pack_uint(p, 300);
	pack_close(p, map, 3);
}

static void test_maps_and_arrays(void **state)
{
	uint8_t bytes[64];
	struct pack p = pack_over(bytes, sizeof bytes);
	msgpack_unpacked room;
	msgpack_object o;

	pack_sample(&p);
	o = unpack(&room, bytes, (size_t)(p.at - bytes));
	assert_int_equal(o.type, MSGPACK_OBJECT_MAP);
	assert_int_equal(o.via.map.size, 3);
	assert_memory_equal(o.via.map.ptr[0].key.via.str.ptr, "type", 4);
	o = o.via.map.ptr[1].val;
	assert_int_equal(o.type, MSGPACK_OBJECT_ARRAY);
	assert_int_equal(o.via.array.size, 3);
	assert_true(o.via.array.ptr[0].via.boolean);
	assert_false(o.via.array.ptr[1].via.boolean);
	assert_true(o.via.array.ptr[2].via.i64 == -1);
	assert_true(room.data.via.map.ptr[2].val.via.u64 == 300);
	msgpack_unpacked_destroy(&room);
}

/* In every room too small for it, the packer says so and leaves what lies behind alone. */
static void test_room_that_runs_out(void **state)
{
	uint8_t whole[64];
	struct pack p = pack_over(whole, sizeof whole);
	size_t size;

	pack_sample(&p);
	size = (size_t)(p.at - whole);
	for (size_t room = 0; room <= size; room++) {
		uint8_t *bytes = malloc(size + 1);

		memset(bytes, 0x5a, size + 1);
		p = pack_over(bytes, room);
		pack_sample(&p);
		assert_int_equal(p.full, room < size);
		for (size_t i = room; i < size + 1; i++)
			assert_int_equal(bytes[i], 0x5a);
		if (room == size)
			assert_memory_equal(bytes, whole, size);
		free(bytes);
	}
}

/* Full stays full: a small value does not slip in behind a large one that had no room. */
static void test_full_stays(void **state)
{
	uint8_t bytes[4];
	struct pack p = pack_over(bytes, sizeof bytes);

	pack_text(&p, "too long for it");
	assert_true(p.full);
	pack_uint(&p, 1);
	pack_bool(&p, true);
	pack_str(&p, "", 0);
	assert_true(p.full);
	assert_true(p.at <= bytes + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers),        cmocka_unit_test(test_text),
		cmocka_unit_test(test_maps_and_arrays), cmocka_unit_test(test_room_that_runs_out),
		cmocka_unit_test(test_full_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
