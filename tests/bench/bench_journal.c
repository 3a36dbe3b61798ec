/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What appending costs: bench_journal [COUNT] [SIZE] [FOLDER] [JOURNAL_BYTES] prints one line of JSON. The map is filled by one copy, as
 * an encoder would write it; a batch is 256 records. Then the same records that are still there are read back.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "journal/crc32c.h"
#include "journal/journal.h"

#define BATCH 256

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static uint64_t append_all(struct journal *journal, uint64_t count, uint32_t size, const uint8_t *map)
{
	uint64_t refused = 0;

	for (uint64_t i = 0; i < count; i++) {
		uint8_t *room = journal_reserve(journal, size);

		if (room) {
			memcpy(room, map, size);
			journal_commit(journal, size, i + 1);
		} else {
			refused++;
		}
		if (i % BATCH == BATCH - 1)
			journal_publish(journal);
	}
	journal_publish(journal);
	return refused;
}

static uint64_t read_all(const char *path, struct fault *fault)
{
	struct journal_reader *reader;
	struct journal_record record;
	uint64_t n = 0;

	if (journal_reader_open(&reader, path, 0, fault))
		return 0;
	while (journal_reader_next(reader, &record))
		n++;
	journal_reader_close(reader);
	return n;
}

static double crc_ns(const uint8_t *map, uint32_t size, uint32_t (*crc)(uint32_t, const void *, size_t))
{
	uint64_t before = cpu_ns();
	uint32_t sum = 0;

	for (unsigned i = 0; i < 100000; i++)
		sum = crc(sum, map, size);
	return (double)(cpu_ns() - before) / 100000 + (sum == 1 ? 1e-9 : 0);
}

int main(int argc, char **argv)
{
	uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	uint32_t size = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 300;
	const char *path = argc > 3 ? argv[3] : "/tmp/bench_journal";
	struct journal_options options = { .path = path, .size_bytes = 256u << 20 };
	_cleanup_(free_pointer) uint8_t *map = malloc(size + 1u);
	struct journal *journal;
	struct fault fault = { 0 };
	uint64_t wall, cpu, refused, read, read_cpu;

	if (argc > 4 && parse_size(argv[4], &options.size_bytes))
		return 2;
	memset(map, 0xa5, size + 1u);
	if (journal_open(&journal, &options, &fault)) {
		fprintf(stderr, "%s\n", fault.text);
		return 1;
	}
	wall = now_boottime_ns();
	cpu = cpu_ns();
	refused = append_all(journal, count, size, map);
	cpu = cpu_ns() - cpu;
	wall = now_boottime_ns() - wall;
	journal_close(journal);
	read_cpu = cpu_ns();
	read = read_all(path, &fault);
	read_cpu = cpu_ns() - read_cpu;
	printf("{\"count\": %" PRIu64 ", \"size_bytes\": %u, \"refused\": %" PRIu64 ", \"records_per_s\": %.0f, "
	       "\"append_wall_ns\": %.1f, \"append_cpu_ns\": %.1f, \"read\": %" PRIu64 ", \"read_cpu_ns\": %.1f, "
	       "\"crc_ns\": %.1f, \"crc_portable_ns\": %.1f}\n",
	       count, size, refused, (double)count * 1e9 / (double)wall, (double)wall / (double)count,
	       (double)cpu / (double)count, read, read ? (double)read_cpu / (double)read : 0, crc_ns(map, size, crc32c),
	       crc_ns(map, size, crc32c_portable));
	return refused ? 1 : 0;
}
