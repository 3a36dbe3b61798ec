/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each record is a header with its whole size, its own part, and the trailer that all share. The own part is copied out
 * at its known length before anything is read from it, as records may lie unaligned. Records are ignored, not refused,
 * when they are of another kind.
 */
#include "stacks/perf_record.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

struct task {
	uint32_t pid, parent, tid, parent_tid;
	uint64_t time;
};

struct comm {
	uint32_t pid, tid;
};

struct lost {
	uint64_t id, lost;
};

struct mmap2 {
	uint32_t pid, tid;
	uint64_t address, length, offset;
	union {
		struct {
			uint32_t major, minor;
			uint64_t ino, ino_generation;
		};
		struct {
			uint8_t build_id_size, _reserved[3];
			uint8_t build_id[20];
		};
	};
	uint32_t protection, flags;
};

_Static_assert(sizeof(struct task) == 24, "as the kernel writes it");
_Static_assert(sizeof(struct mmap2) == 64, "as the kernel writes it");
_Static_assert(sizeof((struct mmap2){ 0 }.build_id) <= ELF_BUILD_ID_MAX, "room for what the kernel tells");

static int take_mapping(const struct mmap2 *m, const char *path, size_t size, uint16_t misc, struct perf_record *ret)
{
	struct space_map_event *map = &ret->map;

	if (!memchr(path, 0, size) || !m->length || m->address + m->length < m->address)
		return -EBADMSG;
	if (!(m->protection & PROT_EXEC) || misc & PERF_RECORD_MISC_MMAP_DATA)
		return 0;
	*map = (struct space_map_event){ .pid = ret->pid,
					 .time = ret->time,
					 .start = m->address,
					 .end = m->address + m->length,
					 .offset = m->offset,
					 .path = path };
	if (misc & PERF_RECORD_MISC_MMAP_BUILD_ID) {
		if (m->build_id_size > sizeof m->build_id || !m->build_id_size)
			return -EBADMSG;
		map->build_id_length = m->build_id_size;
		memcpy(map->build_id, m->build_id, m->build_id_size);
	} else {
		map->dev = makedev(m->major, m->minor);
		map->ino = m->ino;
	}
	ret->kind = PERF_MAP;
	return 0;
}

/* What is between header and trailer. */
static int take_body(const struct perf_event_header *header, const uint8_t *body, size_t size, struct perf_record *ret)
{
	struct task task;
	struct comm comm;
	struct lost lost;
	struct mmap2 mapping;

	switch (header->type) {
	case PERF_RECORD_MMAP2:
		if (size < sizeof mapping)
			return -EBADMSG;
		memcpy(&mapping, body, sizeof mapping);
		ret->pid = (int)mapping.pid;
		ret->tid = (int)mapping.tid;
		return take_mapping(&mapping, (const char *)body + sizeof mapping, size - sizeof mapping, header->misc,
				    ret);
	case PERF_RECORD_COMM:
		if (size < sizeof comm)
			return -EBADMSG;
		memcpy(&comm, body, sizeof comm);
		ret->pid = (int)comm.pid;
		ret->tid = (int)comm.tid;
		if (header->misc & PERF_RECORD_MISC_COMM_EXEC)
			ret->kind = PERF_EXEC;
		return 0;
	case PERF_RECORD_FORK:
	case PERF_RECORD_EXIT:
		if (size < sizeof task)
			return -EBADMSG;
		memcpy(&task, body, sizeof task);
		ret->pid = (int)task.pid;
		ret->tid = (int)task.tid;
		ret->parent = (int)task.parent;
		ret->kind = header->type == PERF_RECORD_FORK ? PERF_FORK : PERF_EXIT;
		return 0;
	case PERF_RECORD_LOST:
		if (size < sizeof lost)
			return -EBADMSG;
		memcpy(&lost, body, sizeof lost);
		ret->lost = lost.lost;
		ret->kind = PERF_LOST;
		return 0;
	default:
		return 0;
	}
}

int perf_record_parse(const void *record, size_t size, struct perf_record *ret)
{
	struct perf_event_header header;
	const uint8_t *bytes = record;

	*ret = (struct perf_record){ .kind = PERF_OTHER };
	if (size < sizeof header)
		return -EBADMSG;
	memcpy(&header, bytes, sizeof header);
	if (header.size != size || size < sizeof header + PERF_RECORD_TRAILER)
		return -EBADMSG;
	memcpy(&ret->time, bytes + size - PERF_RECORD_TRAILER + 2 * sizeof(uint32_t), sizeof ret->time);
	return take_body(&header, bytes + sizeof header, size - sizeof header - PERF_RECORD_TRAILER, ret);
}
