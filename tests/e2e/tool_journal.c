/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool_journal FOLDER [MiB]: a journal of rows that a test makes up. Standard input holds them one after the other, each as
 * four bytes of length (little endian) and a msgpack map.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal/journal.h"

#define ROW_MAX 65536u

static int copy_rows(struct journal *journal, FILE *in)
{
	static uint8_t row[ROW_MAX];
	uint8_t head[4];
	uint64_t seq = 0;

	while (fread(head, 1, sizeof head, in) == sizeof head) {
		uint32_t size = head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
		void *room;

		if (size > ROW_MAX || fread(row, 1, size, in) != size)
			return fprintf(stderr, "tool_journal: the input is cut or wrong\n"), 1;
		room = journal_reserve(journal, size);
		if (!room)
			return fprintf(stderr, "tool_journal: no room for row %llu\n", (unsigned long long)seq), 1;
		memcpy(room, row, size);
		journal_commit(journal, size, seq++);
		if (seq % 1024 == 0)
			journal_publish(journal);
	}
	journal_publish(journal);
	return 0;
}

int main(int argc, char **argv)
{
	struct journal_options options = { .size_bytes = 64u << 20 };
	struct journal *journal;
	struct fault fault;
	int status;

	if (argc < 2 || argc > 3)
		return fprintf(stderr, "usage: tool_journal FOLDER [MiB]\n"), 2;
	options.path = argv[1];
	if (argc == 3)
		options.size_bytes = strtoull(argv[2], NULL, 10) << 20;
	if (journal_open(&journal, &options, &fault) < 0)
		return fprintf(stderr, "tool_journal: %s\n", fault.text), 1;
	status = copy_rows(journal, stdin);
	journal_close(journal);
	return status;
}
