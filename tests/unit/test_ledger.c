/* SPDX-License-Identifier: Apache-2.0 */
/* The account of every event: its two equations under random bookings, what is open, what is told as lost, and the map it becomes. */
#include <setjmp.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <msgpack.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger.h"
#include "modules.h"

struct fixture {
	struct schema *schema;
	struct ledger *ledger;
};

static int make(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_int_equal(schema_new(&f->schema), 0);
	for (const struct builtin_object *b = builtin_objects; b->name; b++) {
		struct bpf_object *object = bpf_object__open_mem(b->begin, (size_t)(b->end - b->begin), NULL);

		assert_int_equal(schema_add(f->schema, b->name, bpf_object__btf(object), NULL), 0);
		bpf_object__close(object);
	}
	assert_int_equal(ledger_new(&f->ledger, f->schema, -1), 0);
	*state = f;
	return 0;
}

static int unmake(void **state)
{
	struct fixture *f = *state;

	ledger_free(f->ledger);
	schema_free(f->schema);
	free(f);
	return 0;
}

static void check_row(const struct ledger *ledger, uint16_t type, struct ledger_row *ret)
{
	uint64_t dropped = 0, expired = 0;

	ledger_row(ledger, type, ret);
	for (int i = 0; i < LEDGER_REASONS; i++)
		dropped += ret->dropped[i];
	for (int i = 0; i < LEDGER_EXPIRIES; i++)
		expired += ret->expired[i];
	assert_true(ret->produced == ret->filtered + dropped + ret->journaled);
	assert_true(ret->journaled == ret->acknowledged + ret->pending + expired);
}

/* Whatever is booked in whatever order that can be, the equations hold. */
static void test_equations(void **state)
{
	struct fixture *f = *state;
	size_t n = schema_count(f->schema);
	uint64_t made = 0, settled = 0;
	struct ledger_row row;

	srand(7);
	for (int i = 0; i < 20000; i++) {
		uint16_t type = (uint16_t)((size_t)rand() % n);

		if (schema_type(f->schema, type)->internal)
			continue;
		ledger_row(f->ledger, type, &row);
		switch (rand() % 5) {
		case 0:
		case 1:
			ledger_made(f->ledger, type, 1);
			made++;
			break;
		case 2:
			if (!row.open)
				break;
			ledger_journaled(f->ledger, type, 1);
			settled++;
			break;
		case 3:
			if (!row.open)
				break;
			ledger_dropped(f->ledger, type, (enum ledger_reason)(rand() % LEDGER_UNACCOUNTED), 1);
			settled++;
			break;
		default:
			if (!row.pending)
				break;
			if (rand() % 2)
				ledger_acknowledged(f->ledger, type);
			else
				ledger_expired(f->ledger, type, (enum ledger_expiry)(rand() % LEDGER_EXPIRIES));
		}
		check_row(f->ledger, type, &row);
	}
	uint64_t open = 0;

	for (uint16_t type = 0; type < n; type++) {
		check_row(f->ledger, type, &row);
		open += row.open;
	}
	assert_true(open == made - settled && open > 0);
	/* At the end what is still open is lost, and said. */
	ledger_refresh(f->ledger, true);
	for (uint16_t type = 0; type < n; type++) {
		check_row(f->ledger, type, &row);
		assert_int_equal(row.open, 0);
		open -= row.dropped[LEDGER_UNACCOUNTED];
	}
	assert_int_equal(open, 0);
}

struct told {
	uint64_t count;
	unsigned calls;
	uint16_t type;
	const char *reason;
	int answer;
};

/* What the kernel counted, on two processors and more, is part of the equation. */
static void test_kernel_counters(void **state)
{
	struct fixture *f = *state;
	int map = bpf_map_create(BPF_MAP_TYPE_PERCPU_ARRAY, "counters", 4, sizeof(struct sonde_counts), SONDE_TYPES_MAX,
				 NULL);
	int n = libbpf_num_possible_cpus();
	struct sonde_counts *counts = calloc((size_t)n, sizeof *counts);
	struct ledger *ledger;
	struct ledger_row row;
	uint32_t type = 0;

	assert_true(map >= 0 && counts);
	for (int cpu = 0; cpu < n; cpu++)
		counts[cpu] = (struct sonde_counts){ .produced = 10,
						     .filtered = 4,
						     .dropped = { [SONDE_DROP_RING_FULL] = 3 } };
	assert_int_equal(bpf_map_update_elem(map, &type, counts, BPF_ANY), 0);
	assert_int_equal(ledger_new(&ledger, f->schema, map), 0);
	for (int i = 0; i < n; i++) {
		ledger_received(ledger, 0);
		ledger_journaled(ledger, 0, 1);
	}
	ledger_refresh(ledger, false);
	ledger_row(ledger, 0, &row);
	assert_int_equal(row.produced, 8 * n);
	assert_int_equal(row.filtered, 4 * n);
	assert_int_equal(row.dropped[LEDGER_RING_FULL], 3 * n);
	assert_int_equal(row.open, 2 * n); /* still in the ring */
	assert_int_equal(ledger_in_rings(ledger), 2 * n);
	ledger_refresh(ledger, true);
	ledger_row(ledger, 0, &row);
	assert_int_equal(row.produced, 10 * n);
	assert_int_equal(row.dropped[LEDGER_UNACCOUNTED], 2 * n);
	assert_int_equal(row.open, 0);
	ledger_free(ledger);
	free(counts);
	close(map);
}

static int tell(void *context, uint16_t type, const char *reason, uint64_t count)
{
	struct told *t = context;

	t->calls++;
	if (t->answer < 0)
		return t->answer;
	t->type = type;
	t->reason = reason;
	t->count += count;
	return 0;
}

/* Each loss is told once, with what came since; that the journal's bound forgets what no sink takes is none. */
static void test_losses(void **state)
{
	struct fixture *f = *state;
	struct told told = { 0 };

	ledger_dropped(f->ledger, 2, LEDGER_MALFORMED, 3);
	ledger_each_loss(f->ledger, tell, &told);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.count, 3);
	assert_int_equal(told.type, 2);
	assert_string_equal(told.reason, "malformed");
	ledger_each_loss(f->ledger, tell, &told);
	assert_int_equal(told.calls, 1);
	ledger_dropped(f->ledger, 2, LEDGER_MALFORMED, 1);
	ledger_expired(f->ledger, 2, LEDGER_RETENTION);
	ledger_each_loss(f->ledger, tell, &told);
	assert_int_equal(told.calls, 2);
	assert_int_equal(told.count, 4);
	ledger_expired(f->ledger, 2, LEDGER_OVERFLOW);
	ledger_each_loss(f->ledger, tell, &told);
	assert_int_equal(told.calls, 3);
	assert_string_equal(told.reason, "overflow");
}

/* A loss that could not be told comes again, with what came since; so does one of an earlier run. */
static void test_losses_that_wait(void **state)
{
	struct fixture *f = *state;
	struct told told = { .answer = -ENOSPC };

	ledger_dropped(f->ledger, 2, LEDGER_DISK_FULL, 3);
	assert_false(ledger_each_loss(f->ledger, tell, &told));
	assert_int_equal(told.calls, 1);
	ledger_dropped(f->ledger, 2, LEDGER_DISK_FULL, 2);
	told.answer = 0;
	assert_true(ledger_each_loss(f->ledger, tell, &told));
	assert_int_equal(told.count, 5);
	ledger_expired_earlier(f->ledger, 2);
	assert_true(ledger_each_loss(f->ledger, tell, &told));
	assert_string_equal(told.reason, "earlier_run");
	assert_int_equal(told.count, 6);
	assert_int_equal(told.calls, 3);
	assert_int_equal(ledger_expired_sum(f->ledger), 1);
}

static const msgpack_object *value_of(const msgpack_object *map, const char *key)
{
	assert_int_equal(map->type, MSGPACK_OBJECT_MAP);
	for (uint32_t i = 0; i < map->via.map.size; i++) {
		const msgpack_object *k = &map->via.map.ptr[i].key;

		if (k->via.str.size == strlen(key) && !memcmp(k->via.str.ptr, key, strlen(key)))
			return &map->via.map.ptr[i].val;
	}
	fail_msg("no key %s", key);
	return NULL;
}

static void test_map(void **state)
{
	struct fixture *f = *state;
	const struct event_type *exec = schema_find(f->schema, "process.exec", 12);
	msgpack_unpacked u;
	uint8_t room[4096];
	size_t size, at = 0;

	for (int i = 0; i < 5; i++)
		ledger_made(f->ledger, exec->id, 1);
	ledger_journaled(f->ledger, exec->id, 2);
	ledger_acknowledged(f->ledger, exec->id);
	ledger_dropped(f->ledger, exec->id, LEDGER_DISK_FULL, 2);
	size = ledger_pack(f->ledger, room, sizeof room);
	assert_true(size > 0);
	for (size_t small = 0; small < size; small++)
		assert_int_equal(ledger_pack(f->ledger, (uint8_t[4096]){ 0 }, small), 0);
	msgpack_unpacked_init(&u);
	assert_int_equal(msgpack_unpack_next(&u, (char *)room, size, &at), MSGPACK_UNPACK_SUCCESS);
	assert_int_equal(at, size);
	assert_int_equal(u.data.via.map.size, 1); /* types of which nothing is known are left out */

	const msgpack_object *row = value_of(&u.data, exec->name);

	assert_int_equal(value_of(row, "produced")->via.u64, 4);
	assert_int_equal(value_of(row, "filtered")->via.u64, 0);
	assert_int_equal(value_of(row, "journaled")->via.u64, 2);
	assert_int_equal(value_of(row, "acknowledged")->via.u64, 1);
	assert_int_equal(value_of(row, "pending")->via.u64, 1);
	assert_int_equal(value_of(row, "open")->via.u64, 1);
	assert_int_equal(value_of(value_of(row, "dropped"), "disk_full")->via.u64, 2);
	assert_int_equal(value_of(row, "dropped")->via.map.size, 1);
	assert_int_equal(value_of(row, "expired")->via.map.size, 0);
	msgpack_unpacked_destroy(&u);
}

/* A record that the module takes in itself waits for no sink. */
static void test_internal(void **state)
{
	struct fixture *f = *state;
	const struct event_type *type = schema_find(f->schema, "cpu.sample", 10);
	struct ledger_row row;

	assert_true(type->internal);
	ledger_journaled(f->ledger, type->id, 7);
	check_row(f->ledger, type->id, &row);
	assert_int_equal(row.acknowledged, 7);
	assert_int_equal(row.pending, 0);
}

static void *acknowledge(void *context)
{
	for (int i = 0; i < 50000; i++)
		ledger_acknowledged(context, 1);
	return NULL;
}

/* A sink's thread books while the loop reads. */
static void test_threads(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[2];
	struct ledger_row row;

	ledger_journaled(f->ledger, 1, 100000);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, acknowledge, f->ledger), 0);
	for (int i = 0; i < 1000; i++)
		check_row(f->ledger, 1, &row);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	check_row(f->ledger, 1, &row);
	assert_int_equal(row.pending, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_internal, make, unmake),
		cmocka_unit_test_setup_teardown(test_equations, make, unmake),
		cmocka_unit_test_setup_teardown(test_kernel_counters, make, unmake),
		cmocka_unit_test_setup_teardown(test_losses, make, unmake),
		cmocka_unit_test_setup_teardown(test_losses_that_wait, make, unmake),
		cmocka_unit_test_setup_teardown(test_map, make, unmake),
		cmocka_unit_test_setup_teardown(test_threads, make, unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
