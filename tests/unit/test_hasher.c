/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 beside the examples of FIPS 180-4 and of NIST, and the thread that hashes files: which it reads, and which it does not. */
#include "probes/exec/hasher.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

static void check_sum(const void *bytes, size_t size, size_t times, const char *expected)
{
	for (size_t piece = 1; piece <= size + 1; piece = piece * 2 + 1) { /* in pieces of every kind */
		uint8_t sum[SHA256_BYTES];
		char text[65];
		struct sha256 h;

		sha256_begin(&h);
		for (size_t i = 0; i < times; i++)
			for (size_t at = 0; at < size; at += piece)
				sha256_add(&h, (const char *)bytes + at, MIN_OF(piece, size - at));
		sha256_end(&h, sum);
		for (size_t i = 0; i < sizeof sum; i++)
			snprintf(text + 2 * i, 3, "%02x", sum[i]);
		assert_string_equal(text, expected);
	}
}

static void known_sums(void **state)
{
	static const char zeros[1000];
	char as[1000];

	memset(as, 'a', sizeof as);
	check_sum("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_sum("abc", 3, 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_sum("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 1,
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	check_sum("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnop"
		  "qrst"
		  "nopqrstu",
		  112, 1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
	check_sum(as, sizeof as, 1000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	check_sum(zeros, 55, 1, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
	check_sum(zeros, 56, 1, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
	check_sum(zeros, 64, 1, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

static const char content[] = "abc";
static const uint8_t content_sum[SHA256_BYTES] = { 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
						   0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
						   0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad };

static char folder[] = "/tmp/sonde-hasher-XXXXXX";
static char path[64];

static int set_up(void **state)
{
	FILE *file;

	snprintf(folder, sizeof folder, "/tmp/sonde-hasher-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/program", folder);
	file = fopen(path, "w");
	if (!file)
		return -1;
	fwrite(content, 1, 3, file);
	return fclose(file);
}

static int tear_down(void **state)
{
	unlink(path);
	return rmdir(folder);
}

/* The file as a process that is gone by now ran it. */
static struct hasher_subject subject_of(const char *file)
{
	struct stat st;

	assert_int_equal(stat(file, &st), 0);
	return (struct hasher_subject){
		.version = { .dev = st.st_dev,
			     .ino = st.st_ino,
			     .changed = (uint64_t)st.st_ctim.tv_sec * NS_PER_SEC + (uint64_t)st.st_ctim.tv_nsec,
			     .bytes = (uint64_t)st.st_size },
		.event = { .pid = 0x7fffffff },
	};
}

/* `path` leaf first, a NUL behind each part. */
static size_t raw_path(char *ret)
{
	return (size_t)sprintf(ret, "program%c%s%ctmp", 0, folder + strlen("/tmp/"), 0) + 1;
}

static int ask(struct hasher *h, const struct hasher_subject *subject)
{
	char raw[64];
	size_t n = raw_path(raw);

	return hasher_ask(h, subject, raw, n);
}

static struct hasher_answer wait_answer(struct hasher *h)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	struct hasher_answer a;

	for (int i = 0; i < 30000; i++) {
		if (hasher_take(h, &a))
			return a;
		nanosleep(&pause, NULL);
	}
	fail_msg("no answer");
	return a;
}

static struct hasher *make(uint64_t most)
{
	struct hasher *h;

	assert_int_equal(hasher_new(&h, most, 1 << 30), 0);
	return h;
}

static void once_a_version(void **state)
{
	struct hasher *h = make(1024);
	struct hasher_subject s = subject_of(path);
	struct hasher_answer a;

	assert_int_equal(ask(h, &s), 1);
	assert_int_equal(ask(h, &s), 0);
	assert_int_equal(hasher_open(h), 1);
	a = wait_answer(h);
	assert_int_equal(a.state, HASHER_DONE);
	assert_memory_equal(a.sha256, content_sum, sizeof content_sum);
	assert_int_equal(hasher_open(h), 0);
	assert_int_equal(ask(h, &s), 0);
	assert_false(hasher_take(h, &a));
	s.version.changed++;
	assert_int_equal(ask(h, &s), 1);
	hasher_free(h);
}

static void not_of_another(void **state)
{
	struct hasher *h = make(1024);
	struct hasher_subject good = subject_of(path), s;

	for (int i = 0; i < 4; i++) {
		s = good;
		s.version.changed += i == 0;
		s.version.ino += i == 1;
		s.version.bytes += i == 2;
		s.fresh = i == 3;
		assert_int_equal(ask(h, &s), 1);
		assert_int_equal(wait_answer(h).state, HASHER_GONE);
		assert_int_equal(ask(h, &s), 1); /* with the next process */
		assert_int_equal(wait_answer(h).state, HASHER_GONE);
	}
	assert_int_equal(ask(h, &good), 1);
	assert_int_equal(wait_answer(h).state, HASHER_DONE);
	hasher_free(h);
}

static void own_program_is_read_while_it_runs(void **state)
{
	struct hasher *h = make(64 << 20);
	struct hasher_subject s = subject_of("/proc/self/exe");
	char text[1024], *at;
	FILE *file = fopen("/proc/self/stat", "r");

	assert_true(file && fgets(text, sizeof text, file));
	fclose(file);
	at = strrchr(text, ')') + 2;
	for (int field = 3; field < 28; field++)
		at = strchr(at, ' ') + 1;
	s.event.pid = (uint32_t)getpid();
	s.version.changed++; /* touched meanwhile */
	assert_int_equal(hasher_ask(h, &s, "", 0), 1);
	assert_int_equal(wait_answer(h).state, HASHER_GONE);
	s.start_stack = strtoull(at, NULL, 10);
	assert_int_equal(hasher_ask(h, &s, "", 0), 1);
	assert_int_equal(wait_answer(h).state, HASHER_DONE);
	s.start_stack += 16; /* that was another execution */
	s.version.changed++;
	assert_int_equal(hasher_ask(h, &s, "", 0), 1);
	assert_int_equal(wait_answer(h).state, HASHER_GONE);
	hasher_free(h);
}

static void bounds(void **state)
{
	struct hasher *h = make(2);
	struct hasher_subject s = subject_of(path);
	char raw[64], *huge = calloc(1, 2 * HASHER_PATH_MAX);
	int asked = 0;

	assert_int_equal(ask(h, &s), 1);
	assert_int_equal(wait_answer(h).state, HASHER_TOO_LARGE);
	hasher_free(h);
	h = make(strlen(content)); /* and no byte more */
	assert_int_equal(ask(h, &s), 1);
	assert_int_equal(wait_answer(h).state, HASHER_DONE);
	while (asked < 1000) {
		s.version.changed++;
		if (hasher_ask(h, &s, raw, raw_path(raw)) < 0)
			break;
		asked++;
	}
	assert_int_equal(asked, 64);
	assert_int_equal(ask(h, &s), -ENOBUFS);
	wait_answer(h);
	assert_int_equal(hasher_ask(h, &s, huge, 2 * HASHER_PATH_MAX), 1);
	free(huge);
	hasher_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_sums),
		cmocka_unit_test_setup_teardown(once_a_version, set_up, tear_down),
		cmocka_unit_test_setup_teardown(not_of_another, set_up, tear_down),
		cmocka_unit_test(own_program_is_read_while_it_runs),
		cmocka_unit_test_setup_teardown(bounds, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
