/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A module may name a function that a kernel lacks (a weak one, such as bpf_rdonly_cast() before Linux 6.2). libbpf then looks for it in the kernel's own
 * modules, and to list those takes CAP_SYS_ADMIN, which the agent has given up by the time that a module is loaded again. From 1.3 on libbpf takes the
 * refusal for an empty list; here it does so before. The dynamic linker prefers this one to the library's; where libbpf is linked
 * statically, the library's is used, because this one is weak.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

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
