/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of net.drop out of the kernel side's sums, and names of reasons against the kernel's own BTF as bpftool prints it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "probes/drops/row.h"

static void check_protocol(uint16_t protocol, const char *expected)
{
	char name[16];

	memset(name, '#', sizeof name);
	drops_protocol(protocol, name);
	assert_string_equal(name, expected);
}

static void test_protocols(void **state)
{
	check_protocol(DROPS_IP4 | 17, "udp");
	check_protocol(DROPS_IP6 | 17, "udp");
	check_protocol(DROPS_IP4 | 6, "tcp");
	check_protocol(DROPS_IP4 | 1, "icmp");
	check_protocol(DROPS_IP6 | 58, "icmpv6");
	check_protocol(DROPS_IP6 | 0, "ip-0");
	check_protocol(DROPS_IP4 | 255, "ip-255");
	check_protocol(DROPS_IP6 | 255, "ip-255");
	check_protocol(0x0806, "arp");
	check_protocol(0x0800, "ip");
	check_protocol(4, "eth-0x0004");
	check_protocol(0xffff, "eth-0xffff");
	check_protocol(0x0300, "eth-0x0300");
	check_protocol(0, "");
}

/* Every number there is stays within its 16 bytes. */
static void test_every_protocol_fits(void **state)
{
	for (unsigned protocol = 0; protocol <= UINT16_MAX; protocol++) {
		char name[17] = { [16] = '#' };

		drops_protocol((uint16_t)protocol, name);
		assert_in_range(strlen(name), protocol ? 2 : 0, 15);
		assert_int_equal(name[16], '#');
	}
}

static void check_place(const char *text, const char *location, uint32_t offset)
{
	struct net_drop row;

	memset(&row, 0, sizeof row);
	memset(row.location, '#', sizeof row.location);
	drops_row_place(&row, text, strlen(text));
	assert_string_equal(row.location, location);
	assert_int_equal(row.offset, offset);
}

static void test_places(void **state)
{
	char longest[256];

	check_place("udp_rcv+0x1f ([k])", "udp_rcv", 0x1f);
	check_place("__udp4_lib_rcv+0x4bc ([k])", "__udp4_lib_rcv", 0x4bc);
	check_place("0xffffffff81234567 ([k])", "0xffffffff81234567", 0);
	check_place("0xffffffff81234567", "0xffffffff81234567", 0);
	check_place("", "", 0);
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	memcpy(longest + 200, "+0x10", 5);
	check_place(longest, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0x10);
}

static void test_rows(void **state)
{
	const struct drops_key key = { .location = 0xffffffff81000000,
				       .reason = 7,
				       .net_ns = 4026531833,
				       .protocol = DROPS_IP4 | 17,
				       .port = 53 };
	struct drops_sums sums = { .proc = 1,
				   .parent = 2,
				   .cgroup = 3,
				   .pid = 4,
				   .tid = 5,
				   .comm = "named",
				   .lport = 53,
				   .rport = 4242,
				   .count = 10,
				   .bytes = 1000 };
	struct net_drop row;

	memset(&row, '#', sizeof row);
	assert_true(drops_row(&row, &key, &sums, NULL, 1000000, 5000));
	assert_int_equal(row.event.size, sizeof row);
	assert_int_equal(row.event.flags, 0);
	assert_int_equal(row.event.time, 1000000);
	assert_int_equal(row.event.proc, 1);
	assert_int_equal(row.event.parent, 2);
	assert_int_equal(row.event.cgroup, 3);
	assert_int_equal(row.event.pid, 4);
	assert_int_equal(row.event.tid, 5);
	assert_string_equal(row.event.comm, "named");
	assert_string_equal(row.reason, "reason-0x7");
	assert_string_equal(row.proto, "udp");
	assert_string_equal(row.location, "");
	assert_int_equal(row.net_ns, 4026531833);
	assert_int_equal(row.port, 53);
	assert_int_equal(row.lport, 53);
	assert_int_equal(row.rport, 4242);
	assert_int_equal(row.count, 10);
	assert_int_equal(row.bytes, 1000);
	assert_int_equal(row.window_ns, 5000);
	sums.pid = 0;
	assert_true(drops_row(&row, &key, &sums, NULL, 1000000, 5000));
	assert_int_equal(row.event.flags, SONDE_FLAG_NO_TASK);
	sums.count = 0;
	assert_false(drops_row(&row, &key, &sums, NULL, 1000000, 5000));
}

static void test_what_found_no_room_has_no_reason(void **state)
{
	const struct drops_key rest = { .window = 1 };
	const struct drops_sums sums = { .flags = SONDE_FLAG_NO_TASK, .count = 1 };
	struct net_drop row;

	assert_true(drops_row(&row, &rest, &sums, NULL, 1, 1));
	assert_string_equal(row.reason, "");
	assert_string_equal(row.proto, "");
}

/* The enum as bpftool prints it: another reader of the same BTF. */
static void test_reasons_of_this_kernel(void **state)
{
	FILE *text = popen("bpftool btf dump file /sys/kernel/btf/vmlinux format raw | "
			   "sed -n \"/ENUM 'skb_drop_reason'/,/^\\[/p\"",
			   "r");
	struct reasons *reasons;
	char line[256], name[64], got[48];
	unsigned value, seen = 0;

	assert_non_null(text);
	assert_int_equal(reasons_read(&reasons), 0);
	while (fgets(line, sizeof line, text)) {
		if (sscanf(line, " 'SKB_DROP_REASON_%47[^']' val=%u", name, &value) != 2)
			continue;
		reasons_name(reasons, value, got, sizeof got);
		assert_string_equal(got, name);
		seen++;
	}
	assert_int_equal(pclose(text), 0);
	assert_in_range(seen, 10, 500);
	reasons_name(reasons, 0x7fff1234, got, sizeof got);
	assert_string_equal(got, "reason-0x7fff1234");
	reasons_free(reasons);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_protocols),
		cmocka_unit_test(test_every_protocol_fits),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_what_found_no_room_has_no_reason),
		cmocka_unit_test(test_reasons_of_this_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
