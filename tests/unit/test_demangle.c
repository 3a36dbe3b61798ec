/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readable names held against others who make them: c++filt for C++, libiberty's own Rust demangler, over all names of
 * real files; and against names that are made to hurt, on a stack of known size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "stacks/demangle.h"

/* Last: it brings macros of its own. */
#include <libiberty/demangle.h>

/* What the worker may use of its stack for one name. */
#define STACK_SIZE (640u << 10)

static const char *shown(const char *name, size_t size)
{
	static char text[8192];
	size_t length;

	assert_true(size <= sizeof text);
	length = demangle(name, text, size);
	assert_int_equal(length, strlen(text));
	assert_true(strlen(text) < size);
	return text;
}

static void test_names(void **state)
{
	static const char *const cases[][2] = {
		{ "main", "main" },
		{ "", "" },
		{ "_", "_" },
		{ "_Z", "_Z" },
		{ "_R", "_R" },
		{ "main.(*T).Method", "main.(*T).Method" },
		{ "main.Gen[go.shape.string]", "main.Gen[go.shape.string]" },
		{ "_start", "_start" },
		{ "bad\tname\n", "bad?name?" },
		{ "_ZN3foo3barEv", "foo::bar" },
		{ "_ZN3foo3barEv.cold", "foo::bar.cold" },
		{ "_ZN3foo3barEv.constprop.0.isra.0", "foo::bar.constprop.0.isra.0" },
		{ "_ZN3foo3barEv.llvm.1234", "foo::bar" },
		{ "_ZNK3FooIiSsE3getILi3EEEcv", "Foo<int, std::string>::get<3>" },
		{ "_ZN3FooC1Ev", "Foo::Foo" },
		{ "_Znwm", "operator new" },
		{ "_ZlsRSoRK3Foo", "operator<<" },
		{ "_ZZ4mainENKUlvE_clEv", "main::{lambda()#1}::operator()" },
		{ "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt" },
		{ "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE.llvm.77", "core::fmt::Write::write_fmt" },
		{ "_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$"
		  "3bar17h930b740aa94f1d3aE",
		  "<Test + 'static as foo::Bar<Test>>::bar" },
		{ "_ZN3foo28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE", "foo::{{closure}}" },
		{ "_ZN3foo17h0123456789abcdeXE", "foo::h0123456789abcdeX" },
		{ "_RNvC6_123foo3bar", "123foo::bar" },
		{ "_RNCC6_123foo0B3_", "123foo::{closure#0}" },
		{ "_RNvMC0TNtC8arrayvec8ArrayVecp3foo", "_RNvMC0TNtC8arrayvec8ArrayVecp3foo" },
		{ "_RNCNCNgCs6DXkGYLi8lr_2cc5spawn00B5_", "cc::spawn::{closure#0}::{closure#0}" },
		{ "_RINbNbCskIICzLVDPPb_5alloc5alloc8box_freeDINbNiB4_5boxed5FnBoxuEp6OutputuEL_ECs1iopQbuBiw2_3std",
		  "alloc::alloc::box_free::<dyn alloc::boxed::FnBox<(), Output = ()>>" },
		{ "_RNqCs4fqI2P2rA04_11utf8_identsu30____7hkackfecea1cbdathfdh9hlq6y",
		  "utf8_idents::\u10e1\u10d0\u10ed\u10db\u10d4\u10da\u10d0\u10d3_"
		  "\u10d2\u10d4\u10db\u10e0\u10d8\u10d4\u10da\u10d8_"
		  "\u10e1\u10d0\u10d3\u10d8\u10da\u10d8" },
		{ "_RINvC1a1fKj7b_KcB7_E", "_RINvC1a1fKj7b_KcB7_E" },
		{ "_RINvC1a1fKj7b_Kinff_Kb1_Kc41_E", "a::f::<123, -255, true, 'A'>" },
		{ "_RNvNtC1a1b1c.cold", "a::b::c.cold" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(shown(cases[i][0], 1024), cases[i][1]);
}

static void test_long_names_lose_the_inner_first(void **state)
{
	const char *map =
		"_ZNSt8_Rb_treeISsSt4pairIKSsSt6vectorIiSaIiEEESt10_Select1stIS5_ESt4lessISsESaIS5_EE5eraseERS1_";

	assert_string_equal(shown("_ZNSt6vectorIiSaIiEE9push_backERKi", 64),
			    "std::vector<int, std::allocator<int> >::push_back");
	assert_string_equal(shown("_ZNSt6vectorImSaImEE9push_backERKm", 64),
			    "std::vector<unsigned long, std::allocator<...> >::push_back");
	assert_string_equal(shown("_ZNSt6vectorIiSaIiEE9push_backERKi", 32), "std::vector<...>::push_back");
	assert_string_equal(shown("_ZNSt6vectorIiSaIiEE9push_backERKi", 16), "std::vector<...");
	assert_string_equal(shown(map, 40), "std::_Rb_tree<...>::erase");
	assert_true(strstr(shown(map, 120), "::erase") != NULL);
	/* Signs that are no brackets. */
	assert_string_equal(shown("_ZN1AIiElsILi3EEEvv", 24), "A<int>::operator<< <3>");
	assert_string_equal(shown("a_function_of_c_with_a_long_name", 16), "a_function_o...");
}

static void test_cut_keeps_characters_whole(void **state)
{
	for (size_t size = 4; size < 40; size++) {
		const char *text = shown("_RNqCs4fqI2P2rA04_11utf8_identsu30____7hkackfecea1cbdathfdh9hlq6y", size);

		/* The last byte before the dots ends a character: one of three bytes, or plain. */
		size_t length = strlen(text) - 3, tail = 0;

		assert_string_equal(text + length, "...");
		while (tail < length && ((unsigned char)text[length - 1 - tail] & 0xc0) == 0x80)
			tail++;
		assert_true(tail == 0 || tail == 2);
	}
}

/* ---- beside others ---- */

static void without_clone(char *text)
{
	static const char *const marks[] = { ".cold", ".part.", ".constprop.", ".isra.", ".localalias", ".lto_priv" };

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (strstr(text, marks[i]))
			*strstr(text, marks[i]) = 0;
}

static const char *by_libiberty(const char *name, char *text, size_t size)
{
	char *other = rust_demangle(name, DMGL_NO_OPTS);

	if (!other)
		other = cplus_demangle_v3(name, DMGL_NO_OPTS);
	snprintf(text, size, "%s", other ? other : name);
	free(other);
	return text;
}

/* Names that `command` prints, one a line, and what libiberty makes of each. Returns how many were mangled. */
static unsigned compare(const char *command, bool suffixes)
{
	static char name[4096], expected[65536], found[65536];
	FILE *names = popen(command, "re");
	unsigned mangled = 0;

	assert_non_null(names);
	while (fgets(name, sizeof name, names)) {
		name[strcspn(name, "\n")] = 0;
		if (name[0] != '_' || (name[1] != 'Z' && name[1] != 'R'))
			continue;
		demangle(name, found, sizeof found);
		by_libiberty(name, expected, sizeof expected);
		if (!suffixes) {
			without_clone(found);
			without_clone(expected);
		}
		if (strcmp(found, expected))
			fail_msg("%s is '%s', not '%s'", name, found, expected);
		mangled += strcmp(name, found) != 0;
	}
	assert_int_equal(pclose(names), 0);
	return mangled;
}

static void test_all_names_of_libstdcxx(void **state)
{
	assert_true(compare("nm -D --defined-only --format=posix $(c++ -print-file-name=libstdc++.so) | "
			    "cut -d' ' -f1 | sed 's/@.*//'",
			    true) > 4000);
}

/* What c++filt shows is the same, but for the standard library's abbreviations. */
static void test_beside_cxxfilt(void **state)
{
	char line[4096], found[4096], path[] = "/tmp/sonde-test-XXXXXX", command[512];
	int fd = mkstemp(path);
	FILE *pairs;
	unsigned same = 0;

	assert_true(fd >= 0);
	close(fd);
	snprintf(command, sizeof command,
		 "nm -D --defined-only --format=posix $(c++ -print-file-name=libstdc++.so) | cut -d' ' -f1 | "
		 "sed 's/@.*//' >%s && c++filt -p <%s | paste -d'\\n' %s -",
		 path, path, path);
	pairs = popen(command, "re");
	while (fgets(line, sizeof line, pairs)) {
		line[strcspn(line, "\n")] = 0;
		demangle(line, found, sizeof found);
		assert_non_null(fgets(line, sizeof line, pairs));
		line[strcspn(line, "\n")] = 0;
		if (strstr(line, "std::basic_"))
			continue;
		assert_string_equal(found, line);
		same++;
	}
	assert_int_equal(pclose(pairs), 0);
	assert_true(same > 3000);
	unlink(path);
}

static void check_rust(const char *flags)
{
	char command[1024];
	static const char program[] =
		"use std::collections::HashMap; use std::fmt::Debug;"
		"trait Tr { fn go(&self, n: u32) -> u32; } struct S<T>(T);"
		"impl<T: Debug> Tr for S<T> { #[inline(never)] fn go(&self, n: u32) -> u32 { println!(\"{:?}\", "
		"self.0); n + 1 } }"
		"#[inline(never)] fn arr<const N: usize, const C: char, const B: bool>(x: [u8; N]) { "
		"println!(\"{:?}{}{}\", x, C, B); }"
		"#[inline(never)] fn f<F: Fn(&str) -> Box<dyn Fn(i32) -> i32 + Send>>(f: F) { println!(\"{}\", "
		"f(\"x\")(3)); }"
		"#[inline(never)] fn deep<T: Tr + ?Sized>(t: &T, f: extern \"C\" fn(*const u8) -> i32, g: &mut dyn "
		"FnMut(&str, (i32,)))"
		" { g(\"a\", (1,)); f(std::ptr::null()); t.go(3); }"
		"extern \"C\" fn cc(_: *const u8) -> i32 { 4 }"
		"fn main() { let mut m: HashMap<String, Vec<Option<Box<dyn Tr>>>> = HashMap::new();"
		" m.insert(\"a\".into(), vec![Some(Box::new(S((1u8, \"x\"))))]);"
		" arr::<3, 'x', true>([1, 2, 3]); f(|s| { let n = s.len() as i32; Box::new(move |x| x + n) });"
		" deep(&S([1i64; 2]), cc, &mut |a, b| println!(\"{}{:?}\", a, b)); deep::<dyn Tr>(&S(2), cc, &mut |_, "
		"_| ());"
		" for (k, v) in m { println!(\"{}{}\", k, v.len()); } std::thread::spawn(|| 3).join().unwrap(); }";

	snprintf(command, sizeof command,
		 "d=$(mktemp -d) && cat >$d/r.rs && rustc -O %s -o $d/r $d/r.rs && nm $d/r | "
		 "awk '{print $NF}' | grep -E '^_R|^_ZN.*17h' | grep -v '\\.' >/tmp/sonde-test-rust-%d; rm -rf $d",
		 flags, getpid());

	FILE *in = popen(command, "we");

	assert_non_null(in);
	assert_true(fputs(program, in) >= 0);
	assert_int_equal(pclose(in), 0);
	snprintf(command, sizeof command, "cat /tmp/sonde-test-rust-%d && rm /tmp/sonde-test-rust-%d", getpid(),
		 getpid());
	assert_true(compare(command, true) > 200);
}

static void test_rust_of_the_compiler(void **state)
{
	check_rust("-C symbol-mangling-version=v0");
	/* Whatever it makes by default, legacy or v0. */
	check_rust("");
}

/* ---- hostile ---- */

static char hostile[DEMANGLE_MOST + 1];

static void repeat(const char *begin, const char *middle, const char *end)
{
	size_t most = sizeof hostile - 1 - strlen(end), length = strlen(begin);

	strcpy(hostile, begin);
	for (; length + strlen(middle) <= most; length += strlen(middle))
		strcpy(hostile + length, middle);
	strcpy(hostile + length, end);
}

static void *demangle_hostile(void *text)
{
	demangle(hostile, text, 256);
	return NULL;
}

/* On a stack with nothing behind it: too much use of it is a crash. */
static void run_hostile(void)
{
	char text[256] = "";
	pthread_attr_t attributes;
	pthread_t thread;
	uint64_t begin = now_boottime_ns();

	pthread_attr_init(&attributes);
	assert_int_equal(pthread_attr_setstacksize(&attributes, STACK_SIZE), 0);
	assert_int_equal(pthread_create(&thread, &attributes, demangle_hostile, text), 0);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attributes);
	assert_true(strlen(text) > 0);
	if (now_boottime_ns() - begin > 500 * NS_PER_MS)
		fail_msg("%s takes too long", hostile);
}

static void test_hostile_names(void **state)
{
	static const char *const parts[][3] = {
		{ "_Z1fI", "P", "iE" },     { "_Z1fI", "F", "iE" },        { "_Z1fI", "1AI", "iE" },
		{ "_Z1fI", "X", "iE" },     { "_Z1fIXad", "ng", "1xE" },   { "_Z1fIX", "cv", "1xE" },
		{ "_Z1fIX", "pl", "LieE" }, { "_Z", "Z", "1xE" },          { "_Z1fIM", "M", "iE" },
		{ "_ZN", "1xI", "iE" },     { "_Z1fI", "A1_", "iEvT_" },   { "_Z1fI", "1AIR", "iEvT_" },
		{ "_Z1fI", "K", "iEvT_" },  { "_Z1fI", "U1xI", "iE" },     { "_Z1fI", "Dp", "T_E" },
		{ "_Z1fI", "JI", "iE" },    { "_ZZ", "N1xUlvE_", "E" },    { "_Z1fI", "DTng", "iE" },
		{ "_Z1fI", "FvPR", "iE" },  { "_R", "M", "C1a" },          { "_R", "I", "C1a" },
		{ "_RIC1a", "T", "E" },     { "_RIC1a", "FK1xD", "E" },    { "_RIC1a", "TB0_", "E" },
		{ "_R", "NvB_", "C1a" },    { "_RIC1a", "TB3_B3_", "EE" }, { "_ZN", "1a", "17h0123456789abcdefE" },
		{ "_Z", "1", "" },          { "_ZN", "$", "E" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		repeat(parts[i][0], parts[i][1], parts[i][2]);
		run_hostile();
	}
}

/* Each type holds the one before it twice: 2^n parts from n bytes. */
static void test_doubling_names_stop(void **state)
{
	size_t length = (size_t)sprintf(hostile, "_Z1fI1AIiiE");

	for (int i = 0; i < 30; i++)
		length += (size_t)sprintf(hostile + length, "1AIS%c_S%c_E", '0' + i % 10, '0' + i % 10);
	run_hostile();
	length = (size_t)sprintf(hostile, "_RINvC1a1fTuuE");
	for (int i = 0, last = 8; i < 40; i++) {
		static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
		char reference[8];
		int at = (int)length - 2, value = last - 1;

		if (value < 62)
			snprintf(reference, sizeof reference, "B%c_", digits[value]);
		else
			snprintf(reference, sizeof reference, "B%c%c_", digits[value / 62], digits[value % 62]);
		length += (size_t)sprintf(hostile + length, "T%s%sE", reference, reference);
		last = at;
	}
	strcpy(hostile + length, "E");
	run_hostile();
}

/* Work without output: arguments that are read twice on each level, a search through types that double. */
static void test_silent_work_stops(void **state)
{
	size_t length;

	for (unsigned levels = 1; levels <= 80; levels++) {
		length = (size_t)sprintf(hostile, "_ZN1A");
		for (unsigned i = 0; i < levels; i++)
			length += (size_t)sprintf(hostile + length, "cvT_IN1A");
		length += (size_t)sprintf(hostile + length, "1x");
		for (unsigned i = 0; i < levels; i++)
			length += (size_t)sprintf(hostile + length, "EE");
		sprintf(hostile + length, "Ev");
		run_hostile();
	}
	for (unsigned levels = 1; levels <= 80; levels++) {
		char last[8] = "S2_";

		length = (size_t)sprintf(hostile, "_Z1fIM1BI1AIiiE");
		for (unsigned i = 0, number = 4; i < levels && length < sizeof hostile - 40; i++, number += 2) {
			static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

			length += (size_t)sprintf(hostile + length, "1AI%s%sE", last, last);
			if (number < 36)
				snprintf(last, sizeof last, "S%c_", digits[number]);
			else
				snprintf(last, sizeof last, "S%c%c_", digits[number / 36], digits[number % 36]);
		}
		sprintf(hostile + length, "EDp%sEvv", last);
		run_hostile();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_long_names_lose_the_inner_first),
		cmocka_unit_test(test_cut_keeps_characters_whole),
		cmocka_unit_test(test_all_names_of_libstdcxx),
		cmocka_unit_test(test_beside_cxxfilt),
		cmocka_unit_test(test_rust_of_the_compiler),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_doubling_names_stop),
		cmocka_unit_test(test_silent_work_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
