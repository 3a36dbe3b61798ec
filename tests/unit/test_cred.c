/* SPDX-License-Identifier: Apache-2.0 */
/* Which rights can follow from which, without a kernel that would have to be broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "probes/cred/cred.h"

/* Ids from `from` on are in it. */
struct uid_gid_map {
	__u32 from, count;
};

static bool is_mapped(const struct uid_gid_map *map, __u32 id)
{
	return id - map->from < map->count;
}

#include "probes/cred/rights.h"

#define ALL      ((1ull << 41) - 1)
#define BIT(cap) (1ull << (cap))

static const struct uid_gid_map everybody = { 0, UINT32_MAX }, container = { 100000, 65536 };

static struct cred_state user_of(__u32 id)
{
	return (struct cred_state){ .uid = id,
				    .euid = id,
				    .suid = id,
				    .fsuid = id,
				    .gid = id,
				    .egid = id,
				    .sgid = id,
				    .fsgid = id,
				    .caps.bnd = ALL,
				    .user_ns = 1 };
}

static struct cred_state root_of(__u32 id)
{
	struct cred_state s = user_of(id);

	s.caps.eff = s.caps.prm = ALL;
	return s;
}

static bool can(const struct cred_state *o, const struct cred_state *n)
{
	return is_possible(o, n, &everybody, &everybody);
}

static void test_rights_that_are_given_away(void **context)
{
	struct cred_state root = root_of(0), user = user_of(1000), n;

	assert_true(can(&root, &root));
	assert_true(can(&user, &user));
	assert_true(can(&root, &user));
	n = user;
	n.caps.bnd = 0;
	assert_true(can(&user, &n));
	n = user;
	n.no_new_privs = 1;
	assert_true(can(&user, &n));
	assert_false(can(&n, &user));
	n = user;
	n.securebits = 1 << 4; /* keep_caps is everybody's */
	assert_true(can(&user, &n));
}

/* What an exploit does: commit_creds() of the kernel's own, or words written over those of the thread. */
static void test_rights_out_of_nowhere(void **context)
{
	struct cred_state root = root_of(0), user = user_of(1000), n;

	assert_false(can(&user, &root));
#define BECOMES(member, value)                                                                                         \
	n = user;                                                                                                      \
	n.member = (value);                                                                                            \
	assert_false(can(&user, &n))
	BECOMES(uid, 0);
	BECOMES(euid, 0);
	BECOMES(suid, 0);
	BECOMES(fsuid, 0);
	BECOMES(gid, 0);
	BECOMES(egid, 0);
	BECOMES(sgid, 0);
	BECOMES(fsgid, 0);
	BECOMES(groups, 3);
	BECOMES(groups_hash, 3);
	BECOMES(caps.prm, BIT(21));
	BECOMES(caps.eff, BIT(21));
	BECOMES(caps.inh, BIT(21));
	BECOMES(caps.amb, BIT(21));
	BECOMES(caps.bnd, ALL | BIT(41));
	BECOMES(securebits, 1);
	BECOMES(user_ns, 2);
}

static void test_saved_ids_come_back(void **context)
{
	struct cred_state o = user_of(1000), n;

	o.suid = 0;
	n = o;
	n.euid = n.fsuid = 0;
	assert_true(can(&o, &n));
	n.sgid = 0;
	assert_false(can(&o, &n));
}

static void test_single_capabilities(void **context)
{
	struct cred_state o = user_of(1000), n;

	o.caps.prm = BIT(CAP_SETUID);
	n = o;
	n.uid = 5;
	assert_true(can(&o, &n));
	n.gid = 5;
	assert_false(can(&o, &n));
	n = o;
	n.caps.eff = n.caps.inh = n.caps.amb = BIT(CAP_SETUID);
	assert_true(can(&o, &n));
	n.caps.inh |= BIT(CAP_SETGID);
	assert_false(can(&o, &n));
	o.caps.prm |= BIT(CAP_SETPCAP);
	assert_true(can(&o, &n));
	n.securebits = 0x2f;
	assert_true(can(&o, &n));
}

/* Root of a container is not that of the host. */
static void test_ids_of_a_namespace(void **context)
{
	struct cred_state o = root_of(100000), n = o;

	n.uid = 100033;
	assert_true(is_possible(&o, &n, &container, &container));
	n.uid = 0;
	assert_false(is_possible(&o, &n, &container, &container));
	n = o;
	n.gid = 0;
	assert_false(is_possible(&o, &n, &container, &container));
}

static void test_user_namespaces(void **context)
{
	struct cred_state o = user_of(1000), n = root_of(1000);

	n.user_ns = 2;
	n.user_level = 1;
	assert_true(can(&o, &n));  /* unshare */
	assert_false(can(&n, &o)); /* nobody gets back */
	n.uid = 0;
	assert_false(can(&o, &n));
}

static void test_exec(void **context)
{
	struct cred_state o = user_of(1000), n = o;

	n.euid = n.suid = n.fsuid = 0;
	n.caps.prm = n.caps.eff = ALL;
	assert_false(exec_jumps(&o, &n, 04755));
	assert_true(exec_jumps(&o, &n, 02755));
	assert_true(exec_jumps(&o, &n, 0755));
	n.uid = 0;
	assert_true(exec_jumps(&o, &n, 04755));
	n = o;
	n.egid = 5;
	assert_false(exec_jumps(&o, &n, 02755));
	assert_true(exec_jumps(&o, &n, 04755));
	n = o;
	n.user_ns = 7;
	assert_true(exec_jumps(&o, &n, 06755));
	n = o;
	n.gid = 5;
	assert_true(exec_jumps(&o, &n, 06755));
	n = o;
	n.caps.bnd |= BIT(41);
	assert_true(exec_jumps(&o, &n, 06755));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights_that_are_given_away),
		cmocka_unit_test(test_rights_out_of_nowhere),
		cmocka_unit_test(test_saved_ids_come_back),
		cmocka_unit_test(test_single_capabilities),
		cmocka_unit_test(test_ids_of_a_namespace),
		cmocka_unit_test(test_user_namespaces),
		cmocka_unit_test(test_exec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
