/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libpcap, apart from all else here: its headers name an instruction of classic BPF as the kernel's name one of eBPF (struct
 * bpf_insn), so no file can know both. Programs are arrays of struct sock_filter, which is the same bytes.
 */
#ifndef SONDE_FILTER_CLASSIC_H
#define SONDE_FILTER_CLASSIC_H

#include "base/base.h"

/* -EINVAL with libpcap's reason. The array is the caller's, to free(). */
int classic_compile(void **ret, size_t *ret_n, const char *expression, bool ethernet, char *reason, size_t room);

uint32_t classic_run(const void *program, const void *packet, uint32_t captured, uint32_t length);

#endif
