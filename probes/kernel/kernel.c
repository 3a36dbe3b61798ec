/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the programs which process the agent is, so that what it loads and opens itself is left out. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "probes/kernel/kernel.h"
#include "sonde/module.h"

extern const struct sonde_module sonde_module_kernel;

/* Kernel device numbers are major:12 minor:20. */
static uint64_t kernel_device(dev_t dev)
{
	return (uint64_t)major(dev) << 20 | minor(dev);
}

/* Before load: the programs are attached one by one, and see what the agent does for the next. */
static int kernel_prepare(struct bpf_object *object, uint64_t (*number)(const void *context, const char *key),
			  const void *context)
{
	struct bpf_map *data = bpf_object__find_map_by_name(object, ".data");
	struct kernel_agent agent = { .pid = (uint32_t)getpid() };
	struct stat st;

	if (!data)
		return -ENOENT;
	if (stat("/proc/self/ns/pid", &st) < 0)
		return -errno;
	agent.device = kernel_device(st.st_dev);
	agent.inode = st.st_ino;
	return bpf_map__set_initial_value(data, &agent, sizeof agent);
}

const struct sonde_module sonde_module_kernel = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "kernel",
	.summary = "What reaches into the kernel: module.*, kernel.kexec, bpf.*, perf.open, keys.ctl",
	.prepare = kernel_prepare,
};
