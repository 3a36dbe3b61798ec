/* SPDX-License-Identifier: Apache-2.0 */
/* packet.capture: put together, and made a pcapng file of, which the reader of captures and tshark take. */
#include "packet_rows.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "encode/pack.h"
#include "encode/record.h"
#include "packets/capture.h"
#include "probes/capture/row.h"

#define RECORD_ROOM 65536u

struct record {
	uint8_t bytes[RECORD_ROOM];
	size_t size;
};

struct packet {
	uint64_t time;
	bool sent;
	uint32_t length;
	const char *bytes;
};

static void put_packets(struct pack *p, const struct packet *packets, size_t n)
{
	pack_text(p, "packets");
	pack_array_header(p, (uint16_t)n);
	for (size_t i = 0; i < n; i++) {
		pack_array_header(p, 4);
		pack_uint(p, packets[i].time);
		pack_bool(p, packets[i].sent);
		pack_uint(p, packets[i].length);
		pack_bin(p, packets[i].bytes, (uint32_t)strlen(packets[i].bytes));
	}
}

static struct record *make_record(const char *type, const char *comm, const struct packet *packets, size_t n)
{
	static struct record record;
	struct pack p = pack_over(record.bytes, sizeof record.bytes);
	uint8_t *map = pack_open_map(&p);

	pack_text(&p, "type");
	pack_text(&p, type);
	pack_text(&p, "seq");
	pack_uint(&p, 77);
	pack_text(&p, "comm");
	pack_text(&p, comm);
	pack_text(&p, "latency_ns");
	pack_uint(&p, 5);
	put_packets(&p, packets, n);
	pack_close(&p, map, 5);
	record.size = (size_t)(p.at - record.bytes);
	return &record;
}

static char *write_file(const struct record *records[], size_t n, size_t held, size_t *ret_size)
{
	struct packet_rows *rows = NULL;
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_size);

	assert_int_equal(packet_rows_make(&rows, out, held), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(packet_rows_add(rows, records[i]->bytes, records[i]->size), 0);
	assert_int_equal(packet_rows_end(rows), 0);
	packet_rows_free(rows);
	fclose(out);
	return text;
}

/* The times of the packets in the file, in its order. */
static size_t read_times(const char *file, size_t size, uint64_t *ret, size_t room)
{
	struct capture *c = NULL;
	struct fault fault;
	struct frame frame;
	size_t n = 0;

	assert_int_equal(capture_open_bytes(&c, file, size, &fault), 0);
	while (capture_next(c, &frame, &fault) > 0 && n < room)
		ret[n++] = frame.time;
	capture_close(c);
	return n;
}

static void test_packets_are_in_order(void **state)
{
	const struct packet first[] = { { 30, true, 3, "abc" }, { 50, false, 100, "defg" } };
	const struct packet second[] = { { 10, true, 1, "x" }, { 40, true, 1, "y" }, { 50, true, 1, "z" } };
	struct record a = *make_record("packet.capture", "curl", first, 2);
	struct record b = *make_record("packet.capture", "nginx", second, 3);
	const struct record *both[] = { &a, &b };
	uint64_t times[8];
	size_t size;
	char *file = write_file(both, 2, 1 << 20, &size);

	assert_int_equal(read_times(file, size, times, 8), 5);
	assert_memory_equal(times, ((uint64_t[]){ 10, 30, 40, 50, 50 }), 5 * sizeof *times);
	assert_non_null(memmem(file, size, "packet.capture seq=77 comm=curl sent", 36));
	assert_non_null(memmem(file, size, "packet.capture seq=77 comm=curl received", 40));
	assert_null(memmem(file, size, "latency", 7));
	/* The later of two at one time is the later record's. */
	assert_true((char *)memmem(file, size, "defg", 4) < (char *)memmem(file, size, "z\0\0\0", 4));
	free(file);
}

static void test_what_does_not_fit_is_written_in_parts(void **state)
{
	const struct packet first[] = { { 30, true, 3, "abc" } }, second[] = { { 10, true, 1, "x" } };
	struct record a = *make_record("packet.capture", "curl", first, 1);
	struct record b = *make_record("packet.capture", "curl", second, 1);
	const struct record *both[] = { &a, &b };
	uint64_t times[4];
	size_t size;
	char *file = write_file(both, 2, a.size + 8, &size);

	assert_int_equal(read_times(file, size, times, 4), 2);
	assert_memory_equal(times, ((uint64_t[]){ 30, 10 }), 2 * sizeof *times);
	free(file);
}

static void test_names_are_flat(void **state)
{
	const struct packet one[] = { { 1, true, 1, "x" } };
	struct record a = *make_record("packet.capture", "a b\nproc=0\x7f", one, 1);
	const struct record *all[] = { &a };
	size_t size;
	char *file = write_file(all, 1, 1 << 20, &size);

	assert_non_null(memmem(file, size, "comm=a_b_proc=0_ sent", 21));
	free(file);

	char name[301] = { 0 };

	memset(name, 'n', 300);
	a = *make_record("packet.capture", name, one, 1);
	file = write_file(all, 1, 1 << 20, &size);
	assert_non_null(memmem(file, size, "nnn... sent", 11));
	assert_null(memmem(file, size, name, 257));
	assert_non_null(memmem(file, size, name, 256));
	free(file);
}

static void refuse(const struct record *record)
{
	struct packet_rows *rows = NULL;
	char *text = NULL;
	size_t size, before;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(packet_rows_make(&rows, out, 1 << 20), 0);
	fflush(out);
	before = size;
	assert_int_equal(packet_rows_add(rows, record->bytes, record->size), -EBADMSG);
	assert_int_equal(packet_rows_count(rows), 0);
	assert_int_equal(packet_rows_end(rows), 0);
	packet_rows_free(rows);
	fclose(out);
	assert_int_equal(size, before);
	free(text);
}

static void test_what_is_no_capture_is_refused_whole(void **state)
{
	const struct packet good[] = { { 1, true, 1, "x" } },
			    longer[] = { { 1, true, 1, "x" }, { 2, true, 1, "more" } },
			    huge[] = { { 1, true, UINT32_MAX, "x" } };

	refuse(make_record("tcp.close", "x", good, 1));
	refuse(make_record("packet.capture", "x", longer, 2));
	refuse(make_record("packet.capture", "x", huge, 1));

	struct record cut = *make_record("packet.capture", "x", good, 1);

	while (cut.size-- > 0)
		refuse(&cut);
}

/* ---- the record ---- */

static void test_a_row_takes_what_fits(void **state)
{
	static struct capture_row row;
	static const uint8_t bytes[1500] = { 1, 2, 3 };
	const struct capture_head head = { .reason = CAPTURE_SLOW, .event_seq = 9, .trigger = "tcp.slow" };
	unsigned n = 0;

	capture_row_begin(&row, &head, 2);
	while (capture_row_add(&row, UINT64_MAX, true, 65535, bytes, sizeof bytes))
		n++;
	assert_in_range(n, 8, CAPTURE_ROW_PACKETS / sizeof bytes);

	const struct packet_capture *e = capture_row_end(&row);

	assert_int_equal(e->count, n);
	assert_int_equal(e->part, 2);
	assert_memory_equal((const uint8_t *)e + e->trigger.offset, "tcp.slow", e->trigger.length);
	assert_int_equal(e->event.size, e->packets.offset + e->packets.length);

	struct value array;
	const uint8_t *begin = (const uint8_t *)e + e->packets.offset, *end = begin + e->packets.length;

	assert_int_equal(value_read(begin, end, &array), 0);
	assert_int_equal(array.count, n);
	assert_ptr_equal(value_skip(begin, end), end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packets_are_in_order),
		cmocka_unit_test(test_what_does_not_fit_is_written_in_parts),
		cmocka_unit_test(test_names_are_flat),
		cmocka_unit_test(test_what_is_no_capture_is_refused_whole),
		cmocka_unit_test(test_a_row_takes_what_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
