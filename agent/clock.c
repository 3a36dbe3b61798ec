/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "base/base.h"
#include "base/perf_open.h"

#define TRIES 4

struct sched_clock {
	int fd;
	size_t page, size;
	struct perf_event_mmap_page *control;
};

int sched_clock_open(struct sched_clock **ret)
{
	struct perf_event_attr attr = { .size = sizeof attr,
					.type = PERF_TYPE_SOFTWARE,
					.config = PERF_COUNT_SW_DUMMY,
					.comm = 1,
					.sample_id_all = 1,
					.sample_type = PERF_SAMPLE_TIME,
					.exclude_kernel = 1 };
	struct sched_clock *clock = calloc(1, sizeof *clock);

	if (!clock)
		return -ENOMEM;
	clock->page = (size_t)sysconf(_SC_PAGESIZE);
	clock->size = 2 * clock->page;
	clock->fd = perf_open(&attr, 0, -1);
	clock->control =
		clock->fd < 0 ? MAP_FAILED : mmap(NULL, clock->size, PROT_READ | PROT_WRITE, MAP_SHARED, clock->fd, 0);
	if (clock->control == MAP_FAILED) {
		int error = clock->fd < 0 ? clock->fd : -errno;

		close_fd(&clock->fd);
		free(clock);
		return error;
	}
	*ret = clock;
	return 0;
}

void sched_clock_close(struct sched_clock *clock)
{
	if (!clock)
		return;
	munmap(clock->control, clock->size);
	close_fd(&clock->fd);
	free(clock);
}

static void copy_ring(const struct sched_clock *clock, uint64_t at, void *to, size_t size)
{
	const char *data = (const char *)clock->control + clock->page;

	for (size_t i = 0; i < size; i++)
		((char *)to)[i] = data[(at + i) % clock->page];
}

/* The stamp of the newest comm record; its time is the record's last word. 0: there is none. */
static uint64_t newest_stamp(struct sched_clock *clock)
{
	uint64_t head = __atomic_load_n(&clock->control->data_head, __ATOMIC_ACQUIRE), at = clock->control->data_tail,
		 stamp = 0;

	while (at < head) {
		struct perf_event_header header;

		copy_ring(clock, at, &header, sizeof header);
		if (header.size < sizeof header + 8 || at + header.size > head)
			break;
		if (header.type == PERF_RECORD_COMM)
			copy_ring(clock, at + header.size - 8, &stamp, 8);
		at += header.size;
	}
	__atomic_store_n(&clock->control->data_tail, head, __ATOMIC_RELEASE);
	return stamp;
}

int64_t sched_clock_offset(struct sched_clock *clock)
{
	uint64_t narrowest = UINT64_MAX;
	int64_t offset = 0;
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	for (int i = 0; i < TRIES; i++) {
		uint64_t before = now_boottime_ns(), after, stamp;

		prctl(PR_SET_NAME, name);
		after = now_boottime_ns();
		stamp = newest_stamp(clock);
		if (!stamp || after - before >= narrowest)
			continue;
		narrowest = after - before;
		offset = (int64_t)(stamp - (before + narrowest / 2));
	}
	return offset;
}
