/* SPDX-License-Identifier: Apache-2.0 */
/* Tags of a BTF made by hand: of a type and of its members, with and without a value, and those that are another's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "decode/tags.h"

static int one, two; /* ids of two structs */

static struct btf *made(void)
{
	struct btf *btf = btf__new_empty();
	int number = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);

	one = btf__add_struct(btf, "one", 8);
	btf__add_field(btf, "first", number, 0, 0);
	btf__add_field(btf, "second", number, 32, 0);
	/* Not in order. */
	btf__add_decl_tag(btf, "sonde:doc=of the second", one, 1);
	btf__add_decl_tag(btf, "sonde:document", one, -1);
	btf__add_decl_tag(btf, "sonde:doc=the first of two", one, -1);
	btf__add_decl_tag(btf, "sonde:doc=the second of two", one, -1);
	btf__add_decl_tag(btf, "another:ring=priority", one, -1);
	two = btf__add_struct(btf, "two", 4);
	btf__add_field(btf, "first", number, 0, 0);
	btf__add_decl_tag(btf, "sonde:doc=", two, 0);
	btf__add_decl_tag(btf, "sonde:", two, -1);
	btf__add_decl_tag(btf, "sonde:setting", one, 0);
	return btf;
}

static void test_each_is_of_what_it_is_on(void **state)
{
	struct btf *btf = made();
	struct tags tags;

	assert_int_equal(tags_read(&tags, btf), 0);
	assert_string_equal(tags_get(&tags, (uint32_t)one, -1, "doc"), "the first of two");
	assert_string_equal(tags_get(&tags, (uint32_t)one, 1, "doc"), "of the second");
	assert_null(tags_get(&tags, (uint32_t)one, 0, "doc"));
	assert_null(tags_get(&tags, (uint32_t)two, -1, "doc"));
	assert_string_equal(tags_get(&tags, (uint32_t)two, 0, "doc"), "");
	assert_string_equal(tags_get(&tags, (uint32_t)one, 0, "setting"), "");
	assert_string_equal(tags_get(&tags, (uint32_t)one, -1, "document"), "");
	tags_release(&tags);
	btf__free(btf);
}

static void test_what_is_no_tag(void **state)
{
	struct btf *btf = made();
	struct tags tags;

	assert_int_equal(tags_read(&tags, btf), 0);
	assert_null(tags_get(&tags, (uint32_t)one, -1, "ring")); /* another's */
	assert_null(tags_get(&tags, (uint32_t)one, -1, "docu")); /* the begin of a name */
	assert_null(tags_get(&tags, (uint32_t)one, -1, "documents"));
	assert_null(tags_get(&tags, 0, -1, "doc"));
	assert_null(tags_get(&tags, UINT32_MAX, -1, "doc"));
	tags_release(&tags);
	assert_null(tags_get(&tags, (uint32_t)one, -1, "doc"));
	btf__free(btf);
}

static void test_nothing_has_none(void **state)
{
	struct btf *btf = btf__new_empty();
	struct tags tags;

	assert_int_equal(tags_read(&tags, btf), 0);
	assert_null(tags_get(&tags, 1, -1, "doc"));
	tags_release(&tags);
	assert_int_equal(tags_read(&tags, NULL), 0);
	assert_null(tags_get(&tags, 1, -1, "doc"));
	tags_release(&tags);
	btf__free(btf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_is_of_what_it_is_on),
		cmocka_unit_test(test_what_is_no_tag),
		cmocka_unit_test(test_nothing_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
