/* SPDX-License-Identifier: Apache-2.0 */
/* sonde cat and sonde tap over real journals, each run as a process of its own with its output in a pipe. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/base.h"
#include "command.h"
#include "encode/pack.h"
#include "encode/record.h"
#include "journal/journal.h"
#include "stream.h"

#define BOUND_MS 20000

/* --- journals --- */

static char folder[] = "/tmp/sonde-test-cat-XXXXXX";

static int make_folder(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command);
}

static struct journal *open_journal(const char *path)
{
	struct journal_options options = { .path = path, .size_bytes = 1u << 20 };
	struct journal *journal;
	struct fault fault;

	if (journal_open(&journal, &options, &fault) < 0)
		fail_msg("%s", fault.text);
	return journal;
}

/* Record `n`: of type a.even or b.odd, n seconds after the epoch. */
static void append(struct journal *journal, uint64_t n)
{
	uint8_t *room = journal_reserve(journal, 512), *stack;
	struct pack p = pack_over(room, 512);

	pack_raw(&p, "\x86", 1);
	pack_text(&p, "type");
	pack_text(&p, n % 2 ? "b.odd" : "a.even");
	pack_text(&p, "ts");
	pack_uint(&p, n * NS_PER_SEC);
	pack_text(&p, "comm");
	pack_text(&p, "te;st");
	pack_text(&p, "value");
	pack_uint(&p, n);
	pack_text(&p, "stack");
	stack = pack_open_array(&p);
	pack_text(&p, "leaf+0x1 (lib)");
	pack_text(&p, "main");
	pack_close(&p, stack, 2);
	pack_text(&p, "text");
	pack_text(&p, "a\nb");
	journal_commit(journal, (uint32_t)(p.at - room), n);
}

static const char *make_journal(const char *name, uint64_t n)
{
	static char path[128];
	struct journal *journal;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	journal = open_journal(path);
	for (uint64_t i = 1; i <= n; i++)
		append(journal, i);
	journal_publish(journal);
	journal_close(journal);
	return path;
}

/* --- commands as processes --- */

struct running {
	pid_t pid;
	int out, err;
	char text[256 << 10]; /* what came from `out` so far */
	size_t size;
};

static void start(struct running *r, const struct command *command, const char *const *arguments)
{
	const char *argv[16] = { command->name };
	int out[2], err[2], argc = 1;

	while (arguments[argc - 1]) {
		argv[argc] = arguments[argc - 1];
		argc++;
	}
	assert_int_equal(pipe(out), 0);
	assert_int_equal(pipe(err), 0);
	r->size = 0;
	r->text[0] = '\0';
	r->pid = fork();
	if (r->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], 1);
		dup2(err[1], 2);
		for (int fd = 3; fd < 64; fd++)
			close(fd);
		int code = command->run(argc, (char **)argv);

		fflush(NULL);
		_exit(code);
	}
	close(out[1]);
	close(err[1]);
	r->out = out[0];
	r->err = err[0];
}

/* Reads until `text` holds `n` lines (or the end of output): the number of lines. */
static size_t read_lines(struct running *r, size_t n)
{
	struct pollfd p = { .fd = r->out, .events = POLLIN };
	size_t lines = 0;
	ssize_t got = 1;

	for (;;) {
		lines = 0;
		for (size_t i = 0; i < r->size; i++)
			lines += r->text[i] == '\n';
		if (lines >= n || got <= 0 || r->size + 1 >= sizeof r->text)
			return lines;
		if (poll(&p, 1, BOUND_MS) != 1)
			fail_msg("no output within %d ms", BOUND_MS);
		got = read(r->out, r->text + r->size, sizeof r->text - 1 - r->size);
		r->size += got > 0 ? (size_t)got : 0;
		r->text[r->size] = '\0';
	}
}

/* Its exit code; what it said on stderr in `text` when there was no output. */
static int finish(struct running *r)
{
	int status;

	read_lines(r, SIZE_MAX);
	if (r->size == 0) {
		ssize_t got = read(r->err, r->text, sizeof r->text - 1);

		r->text[got > 0 ? got : 0] = '\0';
	}
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	close(r->out);
	close(r->err);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define RUN(r, command, ...) (start(r, command, (const char *const[]){ __VA_ARGS__, NULL }), finish(r))

static size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

/* --- cat --- */

static struct running *running;

static void test_cat_selects(void **state)
{
	static const struct {
		const char *option, *value;
		size_t lines;
	} rows[] = {
		{ "--type", "*", 100 },
		{ "--type", "a.*", 50 },
		{ "--type", "b.odd", 50 },
		{ "--type", "b", 0 },
		{ "--type", "a.even,b.odd", 100 },
		{ "--type", "?.[eo]*", 100 },
		{ "--type", "x.*, b.o?d", 50 },
		{ "--where", "value > 90", 10 },
		{ "--where", "stack = main", 100 },
		{ "--where", "not value in (1, 2)", 98 },
		{ "--since", "91", 10 },
		{ "--until", "1970-01-01T00:00:10Z", 10 },
		{ "--since", "1h", 0 },
		{ "--until", "1h", 100 },
	};
	const char *path = make_journal("selects", 100);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(RUN(running, &command_cat, path, rows[i].option, rows[i].value, "--format", "json"),
				 0);
		if (running->size && count_lines(running->text) != rows[i].lines)
			fail_msg("%s %s: %zu lines", rows[i].option, rows[i].value, count_lines(running->text));
		assert_int_equal(running->size > 0, rows[i].lines > 0);
	}
	assert_int_equal(RUN(running, &command_cat, path, "--type=a.*", "--where", "value >= 10", "--since", "20",
			     "--until", "30"),
			 0);
	assert_int_equal(count_lines(running->text), 6);
}

static void test_cat_formats(void **state)
{
	const char *path = make_journal("formats", 2);
	const uint8_t *end, *begin = (const uint8_t *)running->text;

	assert_int_equal(RUN(running, &command_cat, "--format", "json", path, "--type", "a.*"), 0);
	assert_string_equal(running->text, "{\"type\":\"a.even\",\"ts\":2000000000,\"comm\":\"te;st\",\"value\":2,"
					   "\"stack\":[\"leaf+0x1 (lib)\",\"main\"],\"text\":\"a\\nb\"}\n");
	assert_int_equal(RUN(running, &command_cat, path, "--format", "folded", "--type", "*"), 0);
	assert_string_equal(running->text, "te:st;main;leaf 3\n");
	assert_int_equal(RUN(running, &command_cat, path, "--format", "text"), 0);
	assert_int_equal(count_lines(running->text), 2);
	assert_non_null(strstr(running->text, "text=\"a\\nb\""));
	assert_int_equal(RUN(running, &command_cat, path, "--format", "msgpack"), 0);
	end = begin + running->size;
	for (int i = 0; i < 2; i++) {
		begin = value_skip(begin, end);
		assert_non_null(begin);
	}
	assert_ptr_equal(begin, end);
}

static void test_cat_of_an_empty_journal(void **state)
{
	const char *path = make_journal("empty", 0);
	char bare[128];

	assert_int_equal(RUN(running, &command_cat, path), 0);
	assert_string_equal(running->text, "");
	snprintf(bare, sizeof bare, "%s/bare", folder);
	mkdir(bare, 0700);
	assert_int_equal(RUN(running, &command_cat, bare), 0);
	assert_string_equal(running->text, "");
}

static void test_mistakes_are_said(void **state)
{
	const char *path = make_journal("mistakes", 1);
	static const struct {
		const char *option, *value, *says;
	} rows[] = {

		{ "--format", "xml", "none of text, json, msgpack, folded, pprof, pcapng" },
		{ "--where", "value =", "--where: column 8: expected a value" },
		{ "--since", "tomorrow", "'tomorrow' is no time" },
		{ "--type", "", "--type" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(RUN(running, &command_cat, path, rows[i].option, rows[i].value), EXIT_USAGE);
		if (!strstr(running->text, rows[i].says))
			fail_msg("%s", running->text);
	}
	assert_int_equal(RUN(running, &command_cat, "/nonexistent"), EXIT_FAULT);
	assert_non_null(strstr(running->text, "/nonexistent: there is no journal; 'sonde run' keeps one"));
	assert_int_equal(count_lines(running->text), 1);
	assert_int_equal(RUN(running, &command_cat, "/dev/null"), EXIT_FAULT);
	assert_int_equal(RUN(running, &command_tap, "--journal", "/nonexistent"), EXIT_FAULT);
	assert_int_equal(RUN(running, &command_tap, "--format", "folded", "--journal", path), EXIT_USAGE);
}

static void test_cat_into_a_full_device(void **state)
{
	const char *path = make_journal("full", 10);
	int full = open("/dev/full", O_WRONLY), saved = dup(1), code;

	/* In a child, as all runs: here its output is the full device instead of the pipe. */
	pid_t pid = fork();

	if (pid == 0) {
		dup2(full, 1);
		code = command_cat.run(2, (char *[]){ "cat", (char *)path, NULL });
		_exit(code);
	}
	assert_int_equal(waitpid(pid, &code, 0), pid);
	assert_int_equal(WEXITSTATUS(code), EXIT_FAULT);
	close(full);
	close(saved);
}

/* `sonde cat | head -1`: that nobody reads on is no fault, in whatever format, and nothing is said. */
static void test_cat_into_a_closed_pipe(void **state)
{
	static const char *const formats[] = { "json", "text", "msgpack", "folded", "pprof" };
	const char *path = make_journal("closed", 6000);
	char said[256];
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		start(running, &command_cat,
		      (const char *const[]){ path, "--type", "*", "--format", formats[i], NULL });
		close(running->out);
		assert_int_equal(read(running->err, said, sizeof said), 0);
		close(running->err);
		assert_int_equal(waitpid(running->pid, &status, 0), running->pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK);
	}
}

/* A record whose bytes are no msgpack is left out and counted. */
static void test_bad_records_are_skipped_and_counted(void **state)
{
	const char *path = make_journal("bad", 1);
	struct journal *journal = open_journal(path);
	char said[256] = "";
	uint8_t *room = journal_reserve(journal, 16);

	memcpy(room, "\x81\xa4type", 6);
	journal_commit(journal, 6, 2);
	append(journal, 3);
	journal_close(journal);
	start(running, &command_cat, (const char *const[]){ path, "--format", "json", NULL });
	assert_int_equal(read_lines(running, SIZE_MAX), 2);
	assert_true(read(running->err, said, sizeof said - 1) > 0);
	assert_string_equal(said, "sonde cat: 1 bad record skipped\n");
	assert_int_equal(finish(running), 0);
}

/* cat reads up to where the journal ended when it began, though the writer goes on. */
static void test_what_comes_later_is_not_chased(void **state)
{
	const char *path = make_journal("chase", 10);
	struct journal *journal = open_journal(path);
	struct stream_bounds bounds = { .read = UINT64_MAX, .written = UINT64_MAX };
	struct selection_options all = { 0 };
	struct output output = { .format = OUTPUT_JSON };
	struct selection *selection = NULL;
	struct journal_reader *reader;
	char *text = NULL;
	size_t size;

	assert_int_equal(selection_make(&selection, &all, NULL), 0);
	assert_int_equal(journal_reader_open(&reader, path, JOURNAL_END, NULL), 0);
	bounds.end = journal_reader_position(reader);
	journal_reader_close(reader);
	for (uint64_t n = 11; n <= 20; n++)
		append(journal, n);
	assert_int_equal(journal_reader_open(&reader, path, 0, NULL), 0);
	output.file = open_memstream(&text, &size);
	assert_int_equal(stream_copy(reader, selection, &output, bounds), 0);
	assert_int_equal(output.written, 10);
	/* and what a bound left is there for the next call */
	bounds.end = UINT64_MAX;
	bounds.written = 3;
	assert_int_equal(stream_copy(reader, selection, &output, bounds), 0);
	assert_int_equal(output.written, 13);
	bounds.written = UINT64_MAX;
	assert_int_equal(stream_copy(reader, selection, &output, bounds), 0);
	assert_int_equal(output.written, 20);
	fclose(output.file);
	free(text);
	journal_reader_close(reader);
	selection_free(selection);
	journal_close(journal);
}

/* --- tap --- */

static void test_tap_follows(void **state)
{
	const char *path = make_journal("tap", 5);
	struct journal *journal = open_journal(path);

	start(running, &command_tap,
	      (const char *const[]){ "--journal", path, "--format", "json", "--from", "start", "--type", "b.*", NULL });
	assert_int_equal(read_lines(running, 3), 3);
	for (uint64_t n = 6; n <= 10; n++) {
		append(journal, n);
		journal_publish(journal);
	}
	assert_int_equal(read_lines(running, 5), 5);
	assert_non_null(strstr(running->text, "\"value\":9,"));
	kill(running->pid, SIGTERM);
	assert_int_equal(finish(running), 0);
	journal_close(journal);
}

/* Without --from, only what is written once it runs: records are written until the first is seen, and none of the old is. */
static void test_tap_begins_at_the_end(void **state)
{
	const char *path = make_journal("tap-end", 5);
	struct journal *journal = open_journal(path);
	struct pollfd p;

	start(running, &command_tap, (const char *const[]){ "--journal", path, "--format", "json", "-n", "3", NULL });
	p = (struct pollfd){ .fd = running->out, .events = POLLIN };
	for (uint64_t n = 6; n < 6 + BOUND_MS / 10 && poll(&p, 1, 10) == 0; n++) {
		append(journal, n);
		journal_publish(journal);
	}
	append(journal, 1000000);
	append(journal, 1000001);
	append(journal, 1000002);
	journal_publish(journal);
	assert_int_equal(finish(running), 0);
	assert_int_equal(count_lines(running->text), 3);
	for (char old[32], i = 1; i <= 5; i++) {
		snprintf(old, sizeof old, "\"value\":%d,", i);
		assert_null(strstr(running->text, old));
	}
	journal_close(journal);
}

/* With nothing to write, a tap still notices that nobody reads it, and that it is interrupted. */
static void test_tap_ends_in_silence(void **state)
{
	const char *path = make_journal("silence", 1);
	int status;

	start(running, &command_tap, (const char *const[]){ "--journal", path, NULL });
	close(running->out);
	close(running->err);
	assert_int_equal(waitpid(running->pid, &status, 0), running->pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	start(running, &command_tap, (const char *const[]){ "--journal", path, "--from", "start", NULL });
	assert_int_equal(read_lines(running, 1), 1);
	kill(running->pid, SIGINT);
	assert_int_equal(finish(running), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cat_selects),
		cmocka_unit_test(test_cat_formats),
		cmocka_unit_test(test_cat_of_an_empty_journal),
		cmocka_unit_test(test_mistakes_are_said),
		cmocka_unit_test(test_cat_into_a_full_device),
		cmocka_unit_test(test_cat_into_a_closed_pipe),
		cmocka_unit_test(test_bad_records_are_skipped_and_counted),
		cmocka_unit_test(test_what_comes_later_is_not_chased),
		cmocka_unit_test(test_tap_follows),
		cmocka_unit_test(test_tap_begins_at_the_end),
		cmocka_unit_test(test_tap_ends_in_silence),
	};
	int r;

	alarm(120);
	running = calloc(1, sizeof *running);
	r = cmocka_run_group_tests(tests, make_folder, remove_folder);
	free(running);
	return r;
}
