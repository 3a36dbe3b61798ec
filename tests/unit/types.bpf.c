/* SPDX-License-Identifier: GPL-2.0-only */
/* Asks for the kernel's number of a type by itself: see test_kernel_types.c. */
#include "sonde/vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("raw_tp/sys_enter")
int number(void *ctx)
{
	return bpf_core_type_id_kernel(struct task_struct) != 0;
}

char LICENSE[] SEC("license") = "GPL";
