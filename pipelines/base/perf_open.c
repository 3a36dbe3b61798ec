/* SPDX-License-Identifier: Apache-2.0 */
#include "base/perf_open.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	int (*open)(void *context, const struct perf_event_attr *attr, int pid, int cpu);
	void *context;
} other;

int perf_open(const struct perf_event_attr *attr, int pid, int cpu)
{
	int fd = (int)syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd >= 0)
		return fd;
	return errno == EACCES && other.open ? other.open(other.context, attr, pid, cpu) : -errno;
}

void perf_open_by(int (*open)(void *context, const struct perf_event_attr *attr, int pid, int cpu), void *context)
{
	other.open = open;
	other.context = context;
}
