/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal with a segment of hostile bytes: a reader reads it, a writer repairs it and goes on. The first byte says what is kept right, so
 * that the search gets behind the header: the header's crc, and the crc of records wherever a length stands.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "journal/crc32c.h"
#include "journal/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static uint8_t image[SEGMENT_LEAST];

static void write_file(const char *name, const void *bytes, size_t size)
{
	_cleanup_(close_fd) int fd = -1;
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write_all(fd, bytes, size))
		abort();
}

static void mend_header(void)
{
	struct segment_header header;

	memcpy(&header, image, sizeof(header));
	memcpy(header.magic, "sondeseg", 8);
	header.version = 1;
	header.base = 0x1000;
	header.bytes = sizeof(image);
	header.crc = crc32c(0, &header, offsetof(struct segment_header, crc));
	memcpy(image, &header, sizeof(header));
}

/* From record to record as the lengths say. */
static void mend_records(void)
{
	struct segment segment = { .base = 0x1000 };
	struct record_header header;

	memcpy(&segment.salt, image + offsetof(struct segment_header, salt), sizeof(segment.salt));
	for (size_t at = SEGMENT_HEADER; at + sizeof(header) <= sizeof(image); at += ALIGN_UP(header.length, 8u)) {
		memcpy(&header, image + at, sizeof(header));
		if (header.length < RECORD_HEADER || header.length > sizeof(image) - at)
			return;
		header.crc = record_crc(&segment, segment.base + at - SEGMENT_HEADER, header.seq,
					image + at + RECORD_HEADER, header.length - RECORD_HEADER);
		memcpy(image + at, &header, sizeof(header));
	}
}

static uint64_t read_all(void)
{
	struct journal_reader *reader;
	struct journal_record record;
	uint64_t last = 0, n = 0, sum = 0;

	if (journal_reader_open(&reader, folder, 0, NULL))
		abort();
	for (; journal_reader_next(reader, &record); n++) {
		if (record.next <= record.position || record.position < last)
			abort();
		last = record.next;
		for (uint32_t i = 0; i < record.size; i++)
			sum += record.map[i];
	}
	journal_reader_close(reader);
	__asm__ volatile("" : : "r"(sum));
	return n;
}

static void write_on(void)
{
	struct journal_options options = { .path = folder, .size_bytes = 4 * SEGMENT_LEAST };
	struct journal *journal = NULL;
	uint64_t before, after;

	if (journal_open(&journal, &options, NULL))
		abort(); /* starting never fails on damage */
	before = read_all();
	memcpy(journal_reserve(journal, 5), "hello", 5);
	journal_commit(journal, 5, 1);
	after = read_all();
	if (after != before + 1)
		abort();
	journal_close(journal);
}

static void empty_folder(void)
{
	DIR *entries = opendir(folder);

	for (struct dirent *entry; entries && (entry = readdir(entries));)
		unlinkat(dirfd(entries), entry->d_name, 0);
	if (entries)
		closedir(entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (!*folder) {
		snprintf(folder, sizeof(folder), "/dev/shm/fuzz-journal.%d", getpid());
		mkdir(folder, 0700);
	}
	/* Byte 0 bit 0: the file begins at its records; bits 1 and 2: what is mended; bit 3: the file is as long as the input. */
	size_t from = data[0] & 1 ? SEGMENT_HEADER : 0, n = MIN_OF(size - 1, sizeof(image) - from);

	memset(image, 0, sizeof(image));
	memcpy(image + from, data + 1, n);
	if (data[0] & 2)
		mend_header();
	if (data[0] & 4)
		mend_records();
	write_file("0000000000001000.seg", image, data[0] & 8 ? from + n : sizeof(image));
	write_file("cursor.fuzz", data + 1, MIN_OF(size - 1, (size_t)1024));
	read_all();
	write_on();
	empty_folder();
	return 0;
}
