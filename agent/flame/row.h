/* SPDX-License-Identifier: Apache-2.0 */
/* A record that carries a stack, as the commands about profiles need it. */
#ifndef SONDE_FLAME_ROW_H
#define SONDE_FLAME_ROW_H

#include "base/base.h"

/* CPU time for which a sample stands when its row does not say: 99 Hz. */
#define FLAME_PERIOD_NS (NS_PER_SEC / 99)

/* What its value counts, by its unit: samples of CPU time, nanoseconds of waiting, or just occurrences. */
enum flame_measure { FLAME_CPU, FLAME_OFFCPU, FLAME_EVENTS, FLAME_MEASURES };

/* Lies in the record; NULL and 0 when the key is absent. */
struct flame_text {
	const char *text;
	size_t length;
};

struct flame_row {
	enum flame_measure measure;
	uint64_t value;     /* in the row's own unit; 1 when it has none */
	uint64_t ns;        /* the same as time; 0 for occurrences */
	uint64_t period_ns; /* FLAME_CPU only */
	uint64_t ts, window_ns;
	uint64_t pid, tid;
	bool truncated;
	struct flame_text host, comm, proc, container, cgroup;
	struct flame_text state, syscall, wait, file, peer;
	const uint8_t *stack, *stack_end; /* msgpack texts, leaf first */
	uint32_t n_frames;
};

/* 0; -ENODATA: a record without a stack; -EBADMSG: damaged. */
int flame_row_read(const void *map, size_t size, struct flame_row *ret);

#endif
