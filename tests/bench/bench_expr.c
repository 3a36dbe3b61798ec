/* SPDX-License-Identifier: Apache-2.0 */
/* ns per evaluation of an expression on a record of some 300 bytes. */
#include "encode/pack.h"
#include "rules/expr.h"

#include <string.h>

static size_t make_record(uint8_t *room, size_t size)
{
	struct pack p = pack_over(room, size);
	uint8_t *map = pack_open_map(&p), *args;
	static const char *const texts[][2] = { { "host", "web-7.example.org" },
						{ "run", "5f3a9c0d12e4b678" },
						{ "comm", "nginx" },
						{ "proc", "0123456789abcdef" },
						{ "parent", "fedcba9876543210" },
						{ "cgroup", "/system.slice/nginx.service" },
						{ "exe", "/usr/sbin/nginx" },
						{ "cwd", "/" } };
	static const char *const numbers[] = { "pid", "tid", "uid", "euid", "gid", "egid", "ino", "dev" };

	pack_text(&p, "type");
	pack_text(&p, "process.exec");
	pack_text(&p, "ts");
	pack_uint(&p, 1795420692443941176);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		pack_text(&p, texts[i][0]);
		pack_text(&p, texts[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		pack_text(&p, numbers[i]);
		pack_uint(&p, 1000 * i);
	}
	pack_text(&p, "args");
	args = pack_open_array(&p);
	pack_text(&p, "/usr/sbin/nginx");
	pack_text(&p, "-g");
	pack_text(&p, "daemon off;");
	pack_close(&p, args, 3);
	pack_close(&p, map, 2 + ARRAY_SIZE(texts) + ARRAY_SIZE(numbers) + 1);
	return p.full ? 0 : (size_t)(p.at - room);
}

int main(void)
{
	static const char *const expressions[] = {
		"type = tcp.connect",
		"uid = 2000",
		"comm = nginx and uid = 7",
		"args contains daemon",
		"absent exists",
		"type startswith process. and (comm in (sh, bash, nginx) or uid = 0) and not args contains test"
	};
	const unsigned rounds = 300000;
	uint8_t record[1024];
	size_t size = make_record(record, sizeof record);

	printf("record: %zu bytes\n", size);
	for (size_t i = 0; i < ARRAY_SIZE(expressions); i++) {
		struct expr *expr = NULL;
		uint64_t begin, held = 0;

		if (!size || expr_compile(&expr, expressions[i], NULL) < 0)
			return 1;
		begin = now_boottime_ns();
		for (unsigned n = 0; n < rounds; n++)
			held += expr_match(expr, record, size);
		printf("%6.1f ns  %-5s  %s\n", (double)(now_boottime_ns() - begin) / rounds, held ? "true" : "false",
		       expressions[i]);
		expr_free(expr);
	}
	return 0;
}
