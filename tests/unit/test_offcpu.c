/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The offcpu module's causes: keys of made-up samples, hostile ones among them, the function that waits, and the numbers of system calls that the
 * kernel side has against those of this system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include "probes/offcpu/cause.h"
#include "sonde/module.h"

static struct offcpu_sample make_sample(enum offcpu_kind kind, const char *path, size_t size)
{
	struct offcpu_sample s = {
		._cause = { .syscall = SYS_read, .kind = (uint8_t)kind, .path_size = (uint16_t)size, .ino = 4711 }
	};

	memcpy(s._path, path, size);
	return s;
}

/* The row's file for a sample, by way of its key. */
static void expect_file(const struct offcpu_sample *s, const char *file)
{
	struct profile_offcpu row = { 0 };
	struct offcpu_key key;

	memset(&key, 0xaa, sizeof key);
	assert_int_equal(offcpu_key_make(s, &key), 0);
	assert_in_range(offcpu_key_size(&key), sizeof(struct offcpu_cause), sizeof key);
	offcpu_key_write(&key, offcpu_key_size(&key), &row);
	assert_string_equal(row.file, file);
	assert_string_equal(row.syscall, "read");
}

static void test_files_are_named(void **state)
{
	struct offcpu_sample s = make_sample(OFFCPU_FILE, "leaf\0parent\0root", 17);

	expect_file(&s, "/root/parent/leaf");
	s = make_sample(OFFCPU_FILE, "/", 2);
	expect_file(&s, "/");
	s = make_sample(OFFCPU_FILE, "leaf\0...", 9); /* as the kernel side cuts */
	expect_file(&s, "/.../leaf");
	s = make_sample(OFFCPU_FILE, "", 0);
	expect_file(&s, "");
	s = make_sample(OFFCPU_PIPE, "", 0);
	expect_file(&s, "pipe:[4711]");
	s = make_sample(OFFCPU_SOCKET, "", 0);
	expect_file(&s, "socket:[4711]");
	s._cause.laddr.bytes[15] = 1;
	expect_file(&s, ""); /* the addresses tell */
	s = make_sample(OFFCPU_ANONYMOUS, "[eventfd]", 10);
	expect_file(&s, "anon_inode:[eventfd]");
}

static void test_long_paths_keep_their_end(void **state)
{
	char path[OFFCPU_PATH_ROOM], expected[160];
	struct offcpu_sample s;
	size_t size = 0;

	for (int i = 0; size + 11 <= sizeof path; i++, size += 11)
		snprintf(path + size, 12, "component%c", 'a' + i % 26);
	s = make_sample(OFFCPU_FILE, path, size);
	/* 160 bytes: "/..." and as many of eleven as fit with the NUL */
	strcpy(expected, "/...");
	for (int i = 13; i >= 0; i--)
		snprintf(expected + strlen(expected), 12, "/component%c", 'a' + i);
	expect_file(&s, expected);
}

static void test_samples_that_lie_are_refused(void **state)
{
	struct offcpu_sample s = make_sample(OFFCPU_FILE, "leaf", 5);
	struct offcpu_key key;

	s._cause.kind = OFFCPU_ANONYMOUS + 1;
	assert_int_equal(offcpu_key_make(&s, &key), -EBADMSG);
	s = make_sample(OFFCPU_FILE, "leaf", 5);
	s._cause.state = OFFCPU_BLOCKED + 1;
	assert_int_equal(offcpu_key_make(&s, &key), -EBADMSG);
	s = make_sample(OFFCPU_FILE, "leaf", 5);
	s._cause.path_size = OFFCPU_PATH_ROOM + 1;
	assert_int_equal(offcpu_key_make(&s, &key), -EBADMSG);
	/* Texts without an end, and nothing but ends. */
	s = make_sample(OFFCPU_FILE, "leaf", 4);
	expect_file(&s, "");
	for (int kind = OFFCPU_NO_FILE; kind <= OFFCPU_ANONYMOUS; kind++)
		for (int fill = 0; fill < 256; fill += 17) {
			memset(s._path, fill, sizeof s._path);
			s._cause.kind = (uint8_t)kind;
			s._cause.path_size = OFFCPU_PATH_ROOM;
			assert_int_equal(offcpu_key_make(&s, &key), 0);
			assert_true(offcpu_key_size(&key) <= sizeof key);
			assert_non_null(memchr(key.file, 0, sizeof key.file));
		}
}

static void test_equal_causes_are_equal_bytes(void **state)
{
	struct offcpu_sample a = make_sample(OFFCPU_FILE, "leaf", 5), b = a;
	struct offcpu_key ka, kb;

	memset(&ka, 1, sizeof ka);
	memset(&kb, 2, sizeof kb);
	memset(b._path + 5, 'x', 20); /* what lies behind does not count */
	assert_int_equal(offcpu_key_make(&a, &ka), 0);
	assert_int_equal(offcpu_key_make(&b, &kb), 0);
	assert_int_equal(offcpu_key_size(&ka), offcpu_key_size(&kb));
	assert_memory_equal(&ka, &kb, offcpu_key_size(&ka));
	b._cause.futex_holder = 7;
	assert_int_equal(offcpu_key_make(&b, &kb), 0);
	assert_memory_not_equal(&ka, &kb, offcpu_key_size(&ka));
}

static void expect_wait(const char *frames, size_t size, const char *function)
{
	char found[64];

	offcpu_wait_function(frames, size, found, sizeof found);
	assert_string_equal(found, function);
}

#define FRAMES(text) text, sizeof(text) - 1

static void test_function_that_waits(void **state)
{
	expect_wait(FRAMES("pipe_read+0x3 ([k])\0ksys_read+0x1 ([k])\0main+0x1 (a)\0"), "pipe_read");
	expect_wait(FRAMES("__schedule+0x3 ([k])\0schedule+0x1 ([k])\0schedule_timeout+0x1 ([k])\0wait_woken+0x2 "
			   "([k])\0tcp_recvmsg+0x1 ([k])\0"),
		    "tcp_recvmsg");
	expect_wait(FRAMES("schedule+0x3 ([k])\0main+0x1 (a)\0"), "");
	expect_wait(FRAMES("0xffffffff81000130 ([k])\0ksys_read+0x1 ([k])\0"), "ksys_read");
	expect_wait(FRAMES("read+0x3 (libc.so.6)\0"), "");
	expect_wait(FRAMES("scheduled_reading+0x3 ([k])\0"), "scheduled_reading");
	expect_wait("", 0, "");
	expect_wait(FRAMES("\0\0\0"), "");
	expect_wait("pipe_read+0x3 ([k])", 19, "pipe_read"); /* without its NUL */
	expect_wait("([k])", 5, "");
}

static void test_system_calls_are_named(void **state)
{
	struct offcpu_key key = { .cause = { .syscall = -1 } };
	struct profile_offcpu row = { 0 };

	offcpu_key_write(&key, offcpu_key_size(&key), &row);
	assert_string_equal(row.syscall, "");
	key.cause.syscall = SYS_futex;
	offcpu_key_write(&key, offcpu_key_size(&key), &row);
	assert_string_equal(row.syscall, "futex");
	key.cause.syscall = 100000;
	offcpu_key_write(&key, offcpu_key_size(&key), &row);
	assert_string_equal(row.syscall, "100000");
}

/* The kernel side cannot include the system's headers: its table is held against them here. */
#define sonde_inline      static inline __attribute__((unused))
#define SONDE_STACK_BPF_H /* what it stands on is of the kernel */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp;
};
#define sonde_is_compat(cs) 0
#include "probes/offcpu/call.bpf.h"

static void test_calls_that_have_a_file(void **state)
{
	static const int with_file[] = { SYS_read,     SYS_write,           SYS_ioctl,     SYS_pread64,
					 SYS_pwrite64, SYS_readv,           SYS_writev,    SYS_sendfile,
					 SYS_connect,  SYS_accept,          SYS_sendto,    SYS_recvfrom,
					 SYS_sendmsg,  SYS_recvmsg,         SYS_fcntl,     SYS_flock,
					 SYS_fsync,    SYS_fdatasync,       SYS_ftruncate, SYS_getdents64,
					 SYS_splice,   SYS_accept4,         SYS_fallocate, SYS_sync_file_range,
					 SYS_preadv,   SYS_pwritev,         SYS_recvmmsg,  SYS_sendmmsg,
					 SYS_syncfs,   SYS_copy_file_range, SYS_preadv2,   SYS_pwritev2 };
	static const int without[] = { SYS_futex, SYS_nanosleep, SYS_epoll_pwait, SYS_ppoll,
				       SYS_wait4, SYS_openat,    SYS_mmap };

	assert_int_equal(CALL_FUTEX, SYS_futex);
	for (size_t i = 0; i < ARRAY_SIZE(with_file); i++)
		assert_true(call_has_file(with_file[i]));
	for (size_t i = 0; i < ARRAY_SIZE(without); i++)
		assert_false(call_has_file(without[i]));
	assert_false(call_has_file(-1));
	assert_false(call_has_file(512));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_are_named),
		cmocka_unit_test(test_long_paths_keep_their_end),
		cmocka_unit_test(test_samples_that_lie_are_refused),
		cmocka_unit_test(test_equal_causes_are_equal_bytes),
		cmocka_unit_test(test_function_that_waits),
		cmocka_unit_test(test_system_calls_are_named),
		cmocka_unit_test(test_calls_that_have_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
