/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two functions of libbpf that are done otherwise here. The dynamic linker prefers these to the library's; where libbpf is linked statically, the
 * library's are used, because these are weak.
 *
 * The kernel's types: libbpf reads and indexes them once more for each object, 8 ms and 6 MiB at a time. The loader has them.
 *
 * The kernel's list of modules: a module of ours may name a function that a kernel lacks (a weak one, such as bpf_rdonly_cast() before Linux 6.2). libbpf
 * then looks for it in the kernel's own modules, and to list those takes CAP_SYS_ADMIN, which the agent has given up by the time that a
 * module is loaded again. From 1.3 on libbpf takes the refusal for an empty list; here it does so before.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel_types.h"

__attribute__((weak)) struct btf *btf__load_vmlinux_btf(void)
{
	struct btf *shared = kernel_types_shared();

	/* Types of nobody on top of those of the loader: the loader's stay when libbpf is done with these. */
	return shared ? btf__new_empty_split(shared) : btf__parse("/sys/kernel/btf/vmlinux", NULL);
}

__attribute__((weak)) int bpf_btf_get_next_id(__u32 start_id, __u32 *next_id)
{
	union bpf_attr attr;
	long r;

	memset(&attr, 0, sizeof attr);
	attr.start_id = start_id;
	r = syscall(SYS_bpf, BPF_BTF_GET_NEXT_ID, &attr, sizeof attr);
	if (r == 0) {
		*next_id = attr.next_id;
		return 0;
	}
	if (errno == EPERM)
		errno = ENOENT;
	return -errno;
}
