/* SPDX-License-Identifier: Apache-2.0 */
/* What `sonde top` knows and shows, without a terminal: made-up records whose sums are known exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <string.h>

#include "encode/pack.h"
#include "top_model.h"
#include "top_panes.h"

#define SECOND NS_PER_SEC
#define NOW    (1700000000ull * SECOND)
#define MS     NS_PER_MS

/* One record in the making. */
struct made {
	uint8_t bytes[16384];
	struct pack p;
	uint8_t *place;
	uint16_t pairs;
};

static void put_text(struct made *r, const char *key, const char *text)
{
	pack_text(&r->p, key);
	pack_text(&r->p, text);
	r->pairs++;
}

static void put_uint(struct made *r, const char *key, uint64_t n)
{
	pack_text(&r->p, key);
	pack_uint(&r->p, n);
	r->pairs++;
}

static void put_array(struct made *r, const char *key, const char *const *texts, unsigned n)
{
	uint8_t *place;

	pack_text(&r->p, key);
	place = pack_open_array(&r->p);
	for (unsigned i = 0; i < n; i++)
		pack_text(&r->p, texts[i]);
	pack_close(&r->p, place, (uint16_t)n);
	r->pairs++;
}

static void begin(struct made *r, const char *type, uint64_t ts, unsigned pid, const char *comm)
{
	char proc[20];

	r->p = pack_over(r->bytes, sizeof r->bytes);
	r->place = pack_open_map(&r->p);
	r->pairs = 0;
	put_text(r, "type", type);
	put_uint(r, "ts", ts);
	put_text(r, "host", "here");
	put_uint(r, "pid", pid);
	put_uint(r, "tid", pid);
	put_text(r, "comm", comm);
	snprintf(proc, sizeof proc, "%016x", pid);
	put_text(r, "proc", proc);
}

static void finish(struct made *r, struct top_model *m)
{
	pack_close(&r->p, r->place, r->pairs);
	assert_false(r->p.full);
	top_model_record(m, r->bytes, (size_t)(r->p.at - r->bytes));
}

static void give_profile(struct top_model *m, bool offcpu, uint64_t ts, unsigned pid, const char *comm, uint64_t value,
			 uint64_t period, const char *const *frames, unsigned n)
{
	struct made r;
	char id[20];

	begin(&r, offcpu ? "profile.offcpu" : "profile.cpu", ts, pid, comm);
	put_array(&r, "stack", frames, n);
	snprintf(id, sizeof id, "%016llx", (unsigned long long)hash_bytes(frames[0], strlen(frames[0])));
	put_text(&r, "stack_id", id);
	put_uint(&r, "value", value);
	put_uint(&r, "window_ns", SECOND);
	if (period)
		put_uint(&r, "period_ns", period);
	if (offcpu) {
		put_uint(&r, "waits", 4);
		put_text(&r, "state", "S");
		put_text(&r, "syscall", "futex");
		put_text(&r, "wait", "futex_wait_queue");
	}
	finish(&r, m);
}

static void give_connection(struct top_model *m, const char *type, const char *side, const char *raddr, unsigned rport,
			    uint64_t ns, unsigned retransmits)
{
	struct made r;

	begin(&r, type, NOW, 7, "curl");
	put_text(&r, "raddr", raddr);
	put_uint(&r, "rport", rport);
	put_uint(&r, "lport", 6379);
	if (side)
		put_text(&r, "side", side);
	put_uint(&r, strcmp(type, "tcp.close") == 0 ? "srtt_ns" : "latency_ns", ns);
	put_uint(&r, "retransmits", retransmits);
	put_uint(&r, "sent_bytes", 1000);
	put_uint(&r, "received_bytes", 24);
	finish(&r, m);
}

static const char *const work[] = { "leaf+0x1f (app)", "branch+0x2 (app)", "main+0x3 (app)" };
static const char *const recursive[] = { "f+0x1 (app)", "f+0x2 (app)", "f+0x2 (app)", "main+0x3 (app)" };

static int setup(void **state)
{
	struct top_model *m;

	assert_int_equal(top_model_open(&m, 60 * SECOND), 0);
	top_model_advance(m, NOW);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	top_model_close(*state);
	return 0;
}

static struct top_entry *find(struct top_model *m, enum top_table_id id, const char *key, size_t size)
{
	return top_table_find(&m->tables[id], key, size);
}

#define FIND(m, id, key) find(m, id, key, sizeof(key))

/* ---- tests ---- */

static void check_frame(const char *frame, const char *name, const char *library)
{
	struct top_piece n, l;

	top_frame_split((struct top_piece){ frame, strlen(frame) }, &n, &l);
	assert_int_equal(n.size, strlen(name));
	assert_memory_equal(n.at, name, n.size);
	assert_int_equal(l.size, strlen(library));
	assert_memory_equal(l.at, library, l.size);
}

static void frames_are_split(void **state)
{
	check_frame("do_syscall_64+0x5c ([k])", "do_syscall_64", "[k]");
	check_frame("malloc+0x1f (libc.so.6)", "malloc", "libc.so.6");
	check_frame("(anonymous namespace)::f(int)+0xab (app)", "(anonymous namespace)::f(int)", "app");
	check_frame("std::less<int>::operator() (app) [inline]", "std::less<int>::operator()", "app");
	check_frame("libx.so+0x123 [aabbccdd]", "(no symbol)", "libx.so");
	check_frame("libx.so+0x123", "(no symbol)", "libx.so");
	check_frame("0x7f001234 ([k])", "0x7f001234", "[k]");
	check_frame("plain", "plain", "");
	check_frame("", "", "");
	check_frame(")", ")", "");
	check_frame(" (", " (", "");
	check_frame(" [inline]", "", "");
	check_frame("+0x1", "(no symbol)", "");
}

static void functions_have_self_and_total(void **state)
{
	struct top_model *m = *state;
	struct top_entry *e;

	give_profile(m, false, NOW, 1, "app", 10, 10 * MS, work, 3);
	give_profile(m, false, NOW, 1, "app", 5, 10 * MS, recursive, 4);
	e = FIND(m, TOP_FUNCTIONS, "leaf\0app");
	assert_int_equal(e->sums[TOP_SELF], 100 * MS);
	assert_int_equal(e->sums[TOP_TOTAL], 100 * MS);
	e = FIND(m, TOP_FUNCTIONS, "main\0app");
	assert_int_equal(e->sums[TOP_SELF], 0);
	assert_int_equal(e->sums[TOP_TOTAL], 150 * MS);
	/* Three times in one stack, counted once. */
	e = FIND(m, TOP_FUNCTIONS, "f\0app");
	assert_int_equal(e->sums[TOP_SELF], 50 * MS);
	assert_int_equal(e->sums[TOP_TOTAL], 50 * MS);
	assert_int_equal(top_model_sum(m, TOP_ALL_CPU), 150 * MS);
	assert_int_equal(top_model_sum(m, TOP_ALL_SAMPLES), 15);
	assert_int_equal(top_model_covered(m, false), SECOND);
}

static void samples_weigh_what_their_rate_says(void **state)
{
	struct top_model *m = *state;

	/* 99 samples without a period are a second, and so are 999 of a burst. */
	give_profile(m, false, NOW, 1, "slow", 99, 0, work, 3);
	give_profile(m, false, NOW, 2, "fast", 999, SECOND / 999, work, 3);
	assert_true(llabs((long long)FIND(m, TOP_PROCESSES, "0000000000000001")->sums[TOP_CPU] - (long long)SECOND) <
		    1000);
	assert_true(llabs((long long)FIND(m, TOP_PROCESSES, "0000000000000002")->sums[TOP_CPU] - (long long)SECOND) <
		    1000);
}

static void what_is_old_goes(void **state)
{
	struct top_model *m = *state;

	give_profile(m, false, NOW - 90 * SECOND, 1, "late", 1, 10 * MS, work, 3);
	assert_int_equal(m->tables[TOP_PROCESSES].count, 0);
	give_profile(m, false, NOW, 1, "app", 1, 10 * MS, work, 3);
	top_model_advance(m, NOW + 30 * SECOND);
	give_profile(m, false, NOW + 30 * SECOND, 1, "app", 1, 10 * MS, recursive, 4);
	assert_int_equal(FIND(m, TOP_PROCESSES, "0000000000000001")->sums[TOP_CPU], 20 * MS);
	top_model_advance(m, NOW + 70 * SECOND);
	assert_int_equal(FIND(m, TOP_PROCESSES, "0000000000000001")->sums[TOP_CPU], 10 * MS);
	assert_null(FIND(m, TOP_FUNCTIONS, "leaf\0app"));
	assert_non_null(FIND(m, TOP_FUNCTIONS, "f\0app"));
	top_model_advance(m, NOW + 3600 * SECOND);
	for (unsigned t = 0; t < TOP_TABLES; t++)
		assert_int_equal(m->tables[t].count, 0);
	assert_int_equal(top_model_covered(m, false), 0);
}

static void a_record_from_the_future_is_of_now(void **state)
{
	struct top_model *m = *state;

	give_profile(m, false, NOW + 86400 * SECOND, 1, "app", 1, 10 * MS, work, 3);
	assert_int_equal(FIND(m, TOP_PROCESSES, "0000000000000001")->sums[TOP_CPU], 10 * MS);
}

static void waits_say_who_and_where(void **state)
{
	struct top_model *m = *state;
	struct top_entry *e;

	give_profile(m, true, NOW, 3, "server", 800 * MS, 0, work, 3);
	give_profile(m, true, NOW, 3, "server", 200 * MS, 0, recursive, 4);
	e = FIND(m, TOP_WAITS, "0000000000000003\0futex\0futex_wait_queue\0S\0");
	assert_non_null(e);
	assert_int_equal(e->sums[TOP_WAIT], SECOND);
	assert_int_equal(e->sums[TOP_WAIT_COUNT], 8);
	assert_string_equal(e->name, "server");
	assert_int_equal(e->pid, 3);
	/* Waiting is no CPU time of a function. */
	assert_int_equal(m->tables[TOP_FUNCTIONS].count, 0);
	assert_int_equal(top_model_sum(m, TOP_ALL_WAIT), SECOND);
}

static void peers_have_their_own_sums(void **state)
{
	struct top_model *m = *state;
	struct top_entry *e;

	give_connection(m, "tcp.connect", NULL, "10.0.0.9", 443, 2 * MS, 0);
	give_connection(m, "tcp.connect", NULL, "10.0.0.9", 443, 4 * MS, 0);
	give_connection(m, "tcp.close", "client", "10.0.0.9", 443, 3 * MS, 5);
	give_connection(m, "tcp.close", "server", "2001:db8::1", 50000, 1 * MS, 0);
	give_connection(m, "tcp.accept", NULL, "2001:db8::1", 50001, 1 * MS, 0);
	e = FIND(m, TOP_PEERS,
		 "out\0"
		 "10.0.0.9\0"
		 "443");
	assert_non_null(e);
	assert_int_equal(e->sums[TOP_OPENED], 2);
	assert_int_equal(e->sums[TOP_LATENCY], 6 * MS);
	assert_int_equal(e->sums[TOP_LATENCY_MAX], 4 * MS);
	assert_int_equal(e->sums[TOP_RETRANSMITS], 5);
	assert_int_equal(e->sums[TOP_SRTT], 3 * MS);
	assert_int_equal(e->sums[TOP_BYTES], 1024);
	assert_string_equal(e->text, "10.0.0.9:443");
	e = FIND(m, TOP_PEERS,
		 "in\0"
		 "2001:db8::1\0"
		 "6379");
	assert_non_null(e);
	assert_string_equal(e->text, "2001:db8::1 > :6379");
	assert_int_equal(e->sums[TOP_OPENED], 1);
	/* The worst is forgotten with its slice, not summed. */
	top_model_advance(m, NOW + 30 * SECOND);
	assert_int_equal(FIND(m, TOP_PEERS,
			      "out\0"
			      "10.0.0.9\0"
			      "443")
				 ->sums[TOP_LATENCY_MAX],
			 4 * MS);
}

static void give_loss_and_ledger(struct top_model *m)
{
	struct made r;
	uint8_t *types, *counts, *reasons;

	begin(&r, "agent.loss", NOW, 0, "");
	put_text(&r, "event", "tcp.close");
	put_text(&r, "reason", "ring_full");
	put_uint(&r, "count", 17);
	finish(&r, m);
	begin(&r, "agent.ledger", NOW, 0, "");
	pack_text(&r.p, "types");
	r.pairs++;
	types = pack_open_map(&r.p);
	pack_text(&r.p, "tcp.close");
	counts = pack_open_map(&r.p);
	pack_text(&r.p, "produced");
	pack_uint(&r.p, 100);
	pack_text(&r.p, "dropped");
	reasons = pack_open_map(&r.p);
	pack_text(&r.p, "ring_full");
	pack_uint(&r.p, 17);
	pack_text(&r.p, "malformed");
	pack_uint(&r.p, 3);
	pack_close(&r.p, reasons, 2);
	pack_close(&r.p, counts, 2);
	pack_close(&r.p, types, 1);
	finish(&r, m);
}

static void losses_and_the_ledger_are_there(void **state)
{
	struct top_model *m = *state;
	struct top_entry *e;

	give_loss_and_ledger(m);
	assert_int_equal(FIND(m, TOP_LOSSES, "tcp.close\0ring_full")->sums[TOP_COUNT], 17);
	assert_int_equal(top_model_sum(m, TOP_ALL_LOST), 17);
	e = FIND(m, TOP_LEDGER, "tcp.close");
	assert_int_equal(e->sums[TOP_PRODUCED], 100);
	assert_int_equal(e->sums[TOP_DROPPED], 20);
	/* The ledger's counts are no sums over a span. */
	top_model_advance(m, NOW + 3600 * SECOND);
	assert_non_null(FIND(m, TOP_LEDGER, "tcp.close"));
	assert_null(FIND(m, TOP_LOSSES, "tcp.close\0ring_full"));
}

static void give_exec(struct top_model *m, const char *exe, const char *arg)
{
	const char *const args[] = { "sh", arg };
	struct made r;

	begin(&r, "process.exec", NOW, 9, "sh");
	put_text(&r, "exe", exe);
	put_array(&r, "args", args, 2);
	put_uint(&r, "uid", 0);
	finish(&r, m);
}

static void memory_is_bounded(void **state)
{
	struct top_model *m = *state;
	char name[64];

	for (unsigned i = 0; i < 20000; i++) {
		const char *const frames[] = { name };

		snprintf(name, sizeof name, "f%u+0x1 (app)", i);
		give_profile(m, false, NOW, 100 + i, "many", 1, MS, frames, 1);
		give_exec(m, name, "x");
	}
	for (unsigned t = 0; t < TOP_TABLES; t++)
		assert_true(m->tables[t].count <= m->tables[t].capacity);
	assert_int_equal(m->tables[TOP_FUNCTIONS].count, m->tables[TOP_FUNCTIONS].capacity);
	assert_int_equal(m->tables[TOP_FUNCTIONS].evicted, 20000 - m->tables[TOP_FUNCTIONS].capacity);
	/* The sum of all knows nothing of that. */
	assert_int_equal(top_model_sum(m, TOP_ALL_CPU), 20000 * MS);
	assert_int_equal(top_model_sum(m, TOP_ALL_EXECS), 20000);
}

static void the_heavy_outlive_a_flood(void **state)
{
	struct top_model *m = *state;
	char name[64];

	give_profile(m, false, NOW, 1, "app", 1000, 10 * MS, work, 3);
	for (unsigned i = 0; i < 50000; i++) {
		const char *const frames[] = { name };

		snprintf(name, sizeof name, "f%u+0x1 (app)", i);
		give_profile(m, false, NOW, 100 + i, "many", 1, MS, frames, 1);
	}
	assert_non_null(FIND(m, TOP_FUNCTIONS, "leaf\0app"));
	assert_non_null(FIND(m, TOP_PROCESSES, "0000000000000001"));
}

static size_t rows_of(struct top_model *m, enum top_pane_id pane, const char *filter, struct top_pane_row **ret)
{
	static struct top_pane_row rows[TOP_ROWS_MAX];

	*ret = rows;
	return top_pane_rows(m, &top_panes[pane], (struct top_order){ .column = top_panes[pane].sort }, filter, rows);
}

static void rows_are_sorted_and_filtered(void **state)
{
	struct top_model *m = *state;
	struct top_pane_row *rows;

	give_profile(m, false, NOW, 11, "small", 1, 10 * MS, work, 3);
	give_profile(m, false, NOW, 12, "Large", 50, 10 * MS, recursive, 4);
	give_profile(m, true, NOW, 13, "waiter", 300 * MS, 0, work, 3);
	assert_int_equal(rows_of(m, TOP_PANE_PROCESSES, NULL, &rows), 3);
	assert_string_equal(rows[0].entry->name, "Large");
	assert_true(fabs(rows[0].cells[0].number - 50) < 0.001);
	assert_string_equal(rows[1].entry->name, "small");
	assert_true(fabs(rows[2].cells[1].number - 30) < 0.001);
	assert_int_equal(rows_of(m, TOP_PANE_PROCESSES, "lArGe", &rows), 1);
	assert_int_equal(rows_of(m, TOP_PANE_PROCESSES, "13", &rows), 1);
	assert_int_equal(rows_of(m, TOP_PANE_PROCESSES, "nobody", &rows), 0);
	assert_int_equal(top_pane_rows(m, &top_panes[TOP_PANE_PROCESSES], (struct top_order){ .column = 4 }, "", rows),
			 3);
	assert_string_equal(rows[0].entry->name, "Large");
	assert_int_equal(top_pane_rows(m, &top_panes[TOP_PANE_PROCESSES],
				       (struct top_order){ .column = 2, .reverse = true }, "", rows),
			 3);
	assert_string_equal(rows[0].entry->name, "waiter");
}

static void stacks_are_found(void **state)
{
	struct top_model *m = *state;
	const struct top_entry *found[4];
	uint64_t sum;

	give_profile(m, false, NOW, 1, "app", 10, 10 * MS, work, 3);
	give_profile(m, false, NOW, 1, "app", 30, 10 * MS, recursive, 4);
	give_profile(m, false, NOW, 2, "other", 5, 10 * MS, recursive, 4);
	give_profile(m, true, NOW, 1, "app", MS, 0, work, 3);
	struct top_stacks wanted = { .proc = "0000000000000001" };

	assert_int_equal(top_stacks_find(m, &wanted, found, 4, &sum), 2);
	assert_int_equal(sum, 400 * MS);
	assert_string_equal(found[0]->text, recursive[0]);
	assert_string_equal(found[1]->text + strlen(work[0]) + 1, work[1]);
	assert_int_equal(top_stacks_find(m, &wanted, found, 1, &sum), 1);
	assert_string_equal(found[0]->text, recursive[0]);
	wanted.offcpu = true;
	assert_int_equal(top_stacks_find(m, &wanted, found, 4, &sum), 1);
	wanted = (struct top_stacks){ .function = "f", .library = "app" };
	assert_int_equal(top_stacks_find(m, &wanted, found, 4, &sum), 2);
	assert_int_equal(sum, 350 * MS);
}

static char *snapshot(struct top_model *m, unsigned columns)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(top_write_snapshot(m, out, NULL, 10, columns), 0);
	fclose(out);
	return text;
}

static void hostile_names_are_harmless(void **state)
{
	struct top_model *m = *state;
	static const char *const frames[] = { "evil\033[2J\r\n+0x1 (lib\007\x9b)", "\xff\xfe+0x2 (\xe2\x80\xae)" };
	struct made r;
	char *text;

	give_profile(m, false, NOW, 1, "a\033]0;x\007\nb", 10, 10 * MS, frames, 2);
	give_exec(m, "/bin/\033[31m", "two\nlines\t\x1b[0m");
	begin(&r, "alert", NOW, 1, "a\033b");
	put_text(&r, "rule", "r\033");
	put_uint(&r, "priority", 3);
	put_text(&r, "output", "o\033[5m\nnext");
	finish(&r, m);
	give_connection(m, "tcp.connect", NULL, "10.0.0.9\033[1m", 443, MS, 0);
	text = snapshot(m, 0);
	for (const unsigned char *c = (unsigned char *)text; *c; c++)
		assert_true(*c == '\n' || (*c >= ' ' && *c != 0x7f));
	assert_non_null(strstr(text, "evil\\x1b[2J\\r\\n"));
	assert_non_null(strstr(text, "a\\x1b]0;x\\x07\\nb"));
	assert_null(strstr(text, "\xe2\x80\xae"));
	free(text);
}

static void lines_keep_their_width(void **state)
{
	struct top_model *m = *state;

	give_profile(m, false, NOW, 1, "a-name-that-is-long", 10, 10 * MS, work, 3);
	give_profile(m, true, NOW, 1, "k\u00f6ln-\u65e5\u672c\u8a9e", 10 * MS, 0, work, 3);
	give_loss_and_ledger(m);
	for (unsigned columns = 1; columns < 200; columns += 7) {
		for (unsigned p = 0; p < TOP_PANES; p++) {
			struct top_pane_row *rows;
			struct cells line;

			if (!rows_of(m, p, NULL, &rows))
				continue;
			cells_begin(&line, false, columns);
			top_pane_write_row(&top_panes[p], &rows[0], &line);
			assert_true(line.column <= columns);
			text_end(&line.text);
		}
	}
}

static void the_page_says_what_is_missing(void **state)
{
	struct top_model *m = *state;
	char *text = snapshot(m, 0);

	assert_non_null(strstr(text, "is the module cpu on?"));
	assert_non_null(strstr(text, "nothing was lost"));
	free(text);
	give_profile(m, false, NOW, 1, "app", 10, 10 * MS, work, 3);
	text = snapshot(m, 0);
	assert_null(strstr(text, "no samples of the CPU"));
	assert_non_null(strstr(text, "   10.0     10.0  app                 leaf\n"));
	free(text);
}

static void damaged_records_are_counted(void **state)
{
	struct top_model *m = *state;
	struct made r;
	size_t size;

	begin(&r, "profile.cpu", NOW, 1, "app");
	put_array(&r, "stack", work, 3);
	put_uint(&r, "value", 3);
	pack_close(&r.p, r.place, r.pairs);
	size = (size_t)(r.p.at - r.bytes);
	for (size_t n = 0; n < size; n++)
		top_model_record(m, r.bytes, n);
	assert_int_equal(m->rows, 0);
	assert_true(m->bad > 0);
	top_model_record(m, r.bytes, size);
	assert_int_equal(m->rows, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(frames_are_split),
		TEST(functions_have_self_and_total),
		TEST(samples_weigh_what_their_rate_says),
		TEST(what_is_old_goes),
		TEST(a_record_from_the_future_is_of_now),
		TEST(waits_say_who_and_where),
		TEST(peers_have_their_own_sums),
		TEST(losses_and_the_ledger_are_there),
		TEST(memory_is_bounded),
		TEST(the_heavy_outlive_a_flood),
		TEST(rows_are_sorted_and_filtered),
		TEST(stacks_are_found),
		TEST(hostile_names_are_harmless),
		TEST(lines_keep_their_width),
		TEST(the_page_says_what_is_missing),
		TEST(damaged_records_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
