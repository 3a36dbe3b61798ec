/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of executions: out of rows as modules make them, out of rows that contradict each other, and at its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "encode/pack.h"
#include "incident/tree.h"
#include "incident/write.h"

struct row {
	uint8_t bytes[1024];
	struct pack p;
	uint8_t *place;
	uint16_t count;
};

static void put(struct row *row, const char *key, const char *text)
{
	pack_text(&row->p, key);
	pack_text(&row->p, text);
	row->count++;
}

static void put_number(struct row *row, const char *key, uint64_t number)
{
	pack_text(&row->p, key);
	pack_uint(&row->p, number);
	row->count++;
}

static void put_id(struct row *row, const char *key, uint64_t id)
{
	char text[17];

	snprintf(text, sizeof text, "%016llx", (unsigned long long)id);
	put(row, key, text);
}

static void begin(struct row *row, const char *type, uint64_t ts, uint64_t proc, uint64_t parent, uint32_t pid,
		  const char *comm)
{
	row->count = 0;
	row->p = pack_over(row->bytes, sizeof row->bytes);
	row->place = pack_open_map(&row->p);
	put(row, "type", type);
	put_number(row, "ts", ts);
	put_number(row, "pid", pid);
	put(row, "comm", comm);
	put_id(row, "proc", proc);
	if (parent)
		put_id(row, "parent", parent);
}

static size_t end(struct row *row)
{
	pack_close(&row->p, row->place, row->count);
	assert_false(row->p.full);
	return (size_t)(row->p.at - row->bytes);
}

static void add(struct tree *tree, struct row *row)
{
	assert_int_equal(tree_add(tree, row->bytes, end(row), true), 0);
}

static void add_exec(struct tree *tree, uint64_t ts, uint64_t proc, uint64_t parent, uint32_t pid, const char *comm,
		     const char *argument)
{
	struct row row;
	uint8_t *place;

	begin(&row, "process.exec", ts, proc, parent, pid, comm);
	pack_text(&row.p, "args");
	place = pack_open_array(&row.p);
	pack_text(&row.p, comm);
	pack_text(&row.p, argument);
	pack_close(&row.p, place, 2);
	row.count++;
	add(tree, &row);
}

static void add_fork(struct tree *tree, uint64_t ts, uint64_t proc, uint32_t pid, uint64_t child, uint32_t child_pid)
{
	struct row row;

	begin(&row, "process.fork", ts, proc, 0, pid, "sh");
	put_id(&row, "child_proc", child);
	put_number(&row, "child_pid", child_pid);
	add(tree, &row);
}

/* init 1 > sh 2 (pid 20), which forks 3 and 5; 3 (pid 30) runs cat as 4; 5 (pid 50) ends. 9 (pid 90) is init's too. */
static struct tree *family(void)
{
	struct tree *tree;
	struct row row;

	assert_int_equal(tree_make(&tree), 0);
	begin(&row, "tcp.connect", 5, 1, 0, 1, "init");
	add(tree, &row);
	add_exec(tree, 10, 2, 1, 20, "sh", "-i");
	add_fork(tree, 20, 2, 20, 3, 30);
	add_exec(tree, 21, 4, 2, 30, "cat", "a file");
	add_fork(tree, 30, 2, 20, 5, 50);
	begin(&row, "process.exit", 31, 5, 2, 50, "sh");
	put_number(&row, "exit_code", 7);
	put_number(&row, "run_ns", 1000);
	add(tree, &row);
	add_exec(tree, 40, 9, 1, 90, "other", "x");
	return tree;
}

static void test_who_belongs_together(void **state)
{
	struct tree *tree = family();
	struct execution *root = tree_of_pid(tree, 20), *top, *lineage[TREE_LINEAGE];

	assert_non_null(root);
	assert_string_equal(root->command, "sh -i");
	assert_int_equal(tree_lineage(tree, root, lineage, TREE_LINEAGE), 1);
	assert_int_equal(lineage[0]->proc, 1);
	assert_int_equal(tree_choose(tree, root, 0, &top), 0);
	assert_ptr_equal(top, root);
	for (uint64_t proc = 1; proc <= 9; proc++)
		assert_int_equal(tree_of_proc(tree, proc) != NULL, proc <= 5 || proc == 9);
	for (uint64_t proc = 1; proc <= 9; proc++)
		if (tree_of_proc(tree, proc))
			assert_int_equal(tree_of_proc(tree, proc)->member, proc >= 2 && proc <= 5);
	assert_int_equal(top->below->proc, 3);
	assert_int_equal(top->below->next_below->proc, 4);
	assert_int_equal(top->below->next_below->next_below->proc, 5);
	assert_int_equal(tree_of_proc(tree, 5)->exit_code, 7);
	tree_free(tree);
}

static void signal_row(struct row *row, uint64_t from, uint64_t to)
{
	begin(row, "process.signal", 50, from, 0, 0, "x");
	if (to)
		put_id(row, "target_proc", to);
}

/* What was done to one of them is theirs as well; what others do to each other is not. */
static void test_which_rows_are_theirs(void **state)
{
	static const struct {
		uint64_t from, to;
		bool theirs;
	} cases[] = { { 9, 4, true },  { 4, 9, true },    { 9, 0, false }, { 4, 0, true },
		      { 9, 1, false }, { 77, 78, false }, { 2, 2, true } };
	struct tree *tree = family();
	struct execution *top;
	struct row row;

	assert_int_equal(tree_choose(tree, tree_of_pid(tree, 20), 0, &top), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		signal_row(&row, cases[i].from, cases[i].to);
		assert_int_equal(tree_has(tree, row.bytes, end(&row)), cases[i].theirs);
	}
	begin(&row, "process.fork", 50, 77, 0, 70, "x");
	put_id(&row, "child_proc", 5);
	assert_true(tree_has(tree, row.bytes, end(&row)));
	tree_free(tree);
}

/* Each row counts once for each that it names, whether it was known before or not. */
static void test_rows_are_counted(void **state)
{
	struct tree *tree = family();
	uint64_t before = tree_of_proc(tree, 4)->rows;
	struct row row;

	assert_int_equal(before, 1);
	assert_int_equal(tree_of_proc(tree, 2)->rows, 3);
	assert_int_equal(tree_of_proc(tree, 3)->rows, 1);
	signal_row(&row, 9, 4);
	add(tree, &row);
	signal_row(&row, 4, 4);
	add(tree, &row);
	signal_row(&row, 9, 66);
	add(tree, &row);
	begin(&row, "alert", 52, 4, 2, 30, "cat");
	add(tree, &row);
	begin(&row, "alert", 53, 4, 2, 30, "cat");
	assert_int_equal(tree_add(tree, row.bytes, end(&row), false), 0);
	assert_int_equal(tree_of_proc(tree, 4)->rows, before + 3);
	assert_int_equal(tree_of_proc(tree, 4)->alerts, 1);
	assert_int_equal(tree_of_proc(tree, 9)->rows, 3);
	assert_int_equal(tree_of_proc(tree, 9)->alerts, 0);
	assert_int_equal(tree_of_proc(tree, 66)->rows, 1);
	tree_free(tree);
}

static void test_from_further_up(void **state)
{
	struct tree *tree = family();
	struct execution *top;

	assert_int_equal(tree_choose(tree, tree_of_proc(tree, 4), 5, &top), 0);
	assert_int_equal(top->proc, 1);
	for (uint64_t proc = 1; proc <= 9; proc++)
		assert_true(!tree_of_proc(tree, proc) || tree_of_proc(tree, proc)->member);
	tree_free(tree);
}

/* Another program of the same process belongs to it, from whichever of them one begins. */
static void test_one_process_of_several_programs(void **state)
{
	struct tree *tree = family();
	struct execution *top;

	add_exec(tree, 50, 13, 9, 30, "later", "x"); /* has the pid of one that is gone */
	assert_int_equal(tree_of_pid(tree, 30)->proc, 13);
	assert_int_equal(tree_choose(tree, tree_of_proc(tree, 4), 0, &top), 0);
	assert_int_equal(top->proc, 3);
	assert_int_equal(top->below->proc, 4);
	assert_false(tree_of_proc(tree, 2)->member || tree_of_proc(tree, 5)->member || tree_of_proc(tree, 13)->member);
	tree_free(tree);
}

static char *text_of(const struct tree *tree, const struct execution *top, const struct execution *root, bool json)
{
	struct incident_style style = { 0 };
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (json) {
		assert_int_equal(incident_write_json(out, tree, top, root), 0);
	} else {
		assert_int_equal(incident_write_head(out, tree, root, style), 0);
		assert_int_equal(incident_write_tree(out, top, root, style), 0);
	}
	fclose(out);
	return text;
}

static void test_text_and_json(void **state)
{
	struct tree *tree = family();
	struct execution *root = tree_of_pid(tree, 20), *top;
	char *text;

	assert_int_equal(tree_choose(tree, root, 0, &top), 0);
	text = text_of(tree, top, root, false);
	assert_string_equal(text, "init[1] > sh[20] proc 0000000000000002\n"
				  "\n"
				  "sh[20]  sh -i\n"
				  "├─ cat[30]  cat a file\n"
				  "└─ sh[50]  exit 7  lived 1.00 µs\n");
	free(text);
	text = text_of(tree, top, root, true);
	assert_non_null(strstr(text, "\"root\":\"0000000000000002\",\"lineage\":[{\"proc\":\"0000000000000001\""));
	assert_non_null(strstr(text, "\"command\":\"cat a file\""));
	free(text);
	tree_free(tree);
}

/* Rows of other boots, or made up: a circle, one's own parent, no parent. */
static void test_circles_end(void **state)
{
	struct execution *top, *lineage[TREE_LINEAGE];
	struct tree *tree;
	char *text;

	assert_int_equal(tree_make(&tree), 0);
	for (uint64_t i = 1; i <= 50; i++)
		add_exec(tree, i, i, i % 50 + 1, (uint32_t)i, "x", "y");
	add_exec(tree, 99, 99, 99, 99, "self", "y");
	assert_int_equal(tree_lineage(tree, tree_of_proc(tree, 7), lineage, TREE_LINEAGE), TREE_LINEAGE);
	assert_int_equal(tree_choose(tree, tree_of_proc(tree, 7), 64, &top), 0);
	text = text_of(tree, top, tree_of_proc(tree, 7), false);
	assert_non_null(strstr(text, "x[7]"));
	free(text);
	assert_false(tree_of_proc(tree, 99)->member);
	tree_free(tree);
}

static void test_bounds(void **state)
{
	struct execution *top;
	struct tree *tree;
	char long_one[400];

	memset(long_one, 'a', sizeof long_one - 1);
	long_one[sizeof long_one - 1] = '\0';
	assert_int_equal(tree_make(&tree), 0);
	add_exec(tree, 1, 1, 0, 1, "init", long_one);
	assert_int_equal(strlen(tree_of_proc(tree, 1)->command), TREE_COMMAND - 1);
	assert_string_equal(tree_of_proc(tree, 1)->command + TREE_COMMAND - 5, "a...");
	for (uint64_t i = 2; i < TREE_MAX + 12; i++)
		add_exec(tree, i, i, 1, (uint32_t)i, "x", "y");
	assert_int_equal(tree_left_out(tree), 11);
	add_fork(tree, 1, TREE_MAX + 20, 2, TREE_MAX + 21, 3); /* one row, whomever it names */
	assert_int_equal(tree_left_out(tree), 12);
	assert_int_equal(tree_choose(tree, tree_of_proc(tree, 1), 0, &top), 0);
	assert_int_equal(top->last_below->proc, TREE_MAX);
	tree_free(tree);
	/* A chain longer than anyone follows. */
	assert_int_equal(tree_make(&tree), 0);
	for (uint64_t i = 1; i <= 20000; i++)
		add_exec(tree, i, i, i - 1, (uint32_t)i, "x", "y");
	assert_int_equal(tree_choose(tree, tree_of_proc(tree, 1), 0, &top), 0);
	assert_true(tree_of_proc(tree, 900)->member);
	tree_free(tree);
}

static void test_damage(void **state)
{
	struct tree *tree;
	struct row row;
	size_t size;

	assert_int_equal(tree_make(&tree), 0);
	begin(&row, "process.exec", 1, 2, 3, 4, "x");
	size = end(&row);
	for (size_t n = 0; n < size; n++)
		assert_true(tree_add(tree, row.bytes, n, true) < 0);
	begin(&row, "process.exec", 1, 2, 3, 4, "x");
	put(&row, "child_proc", "not an id");
	put(&row, "args", "no list");
	add(tree, &row);
	assert_string_equal(tree_of_proc(tree, 2)->command, "");
	tree_free(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_belongs_together),
		cmocka_unit_test(test_which_rows_are_theirs),
		cmocka_unit_test(test_rows_are_counted),
		cmocka_unit_test(test_from_further_up),
		cmocka_unit_test(test_one_process_of_several_programs),
		cmocka_unit_test(test_text_and_json),
		cmocka_unit_test(test_circles_end),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
