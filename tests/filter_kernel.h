/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs translated filters in this kernel, by BPF_PROG_TEST_RUN: each as a function that a few instructions call, without an object
 * file, so that thousands load in seconds. FILTER_SKB runs as a socket filter over a made packet with an Ethernet header
 * before it (or as a tc program where the filter is about Ethernet), the others as raw tracepoint programs: the packet
 * lies in a map that user space has mapped, whose address in the kernel is what FILTER_KERNEL is given. The made header names a
 * protocol that is nobody's (0x88b5): of IP, the kernel takes no packet that is shorter than an IP header.
 */
#ifndef SONDE_TESTS_FILTER_KERNEL_H
#define SONDE_TESTS_FILTER_KERNEL_H

#include <bpf/bpf.h>
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "filter/filter.h"

#define KERNEL_PAGE 4096

struct kernel_packets {
	int packet_map, memory_map;
	uint8_t *packet; /* a page */
	struct sonde_filter_packet *memory;
	uint64_t address; /* of `packet`, in the kernel */
};

static inline struct bpf_insn kernel_insn(uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	return (struct bpf_insn){ .code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm };
}

static inline int kernel_map(uint32_t size, void **ret)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "filter_packet", 4, size, 1, &options);

	if (fd < 0)
		return -errno;
	*ret = mmap(NULL, KERNEL_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return *ret == MAP_FAILED ? -errno : fd;
}

static inline int kernel_run_tracepoint(int program, const uint64_t *arguments, size_t n, uint32_t *ret)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = arguments, .ctx_size_in = (uint32_t)(n * sizeof *arguments));
	int r = bpf_prog_test_run_opts(program, &run);

	*ret = run.retval;
	return r < 0 ? -errno : 0;
}

/* Writes the address of the packet's map value into the map. */
static inline int kernel_learn_address(struct kernel_packets *k)
{
	struct bpf_insn insns[] = {
		kernel_insn(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_VALUE, 0, k->packet_map),
		kernel_insn(0, 0, 0, 0, 0),
		kernel_insn(BPF_STX | BPF_MEM | BPF_DW, 1, 1, 0, 0),
		kernel_insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
		kernel_insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	uint64_t none[1] = { 0 };
	uint32_t unused;
	int r, fd = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "filter_address", "GPL", insns, ARRAY_SIZE(insns),
				  NULL);

	if (fd < 0)
		return -errno;
	r = kernel_run_tracepoint(fd, none, 1, &unused);
	close(fd);
	k->address = *(volatile uint64_t *)k->packet;
	return r < 0 ? r : k->address ? 0 : -EIO;
}

/* -EPERM: not for us. */
static inline int kernel_open(struct kernel_packets *k)
{
	k->packet_map = kernel_map(KERNEL_PAGE, (void **)&k->packet);
	if (k->packet_map < 0)
		return k->packet_map;
	k->memory_map = kernel_map(sizeof *k->memory, (void **)&k->memory);
	return k->memory_map < 0 ? k->memory_map : kernel_learn_address(k);
}

static inline void kernel_close(struct kernel_packets *k)
{
	munmap(k->packet, KERNEL_PAGE);
	munmap(k->memory, KERNEL_PAGE);
	close(k->packet_map);
	close(k->memory_map);
}

/* The instructions that call the filter, which follows them. */
static inline size_t kernel_caller(const struct kernel_packets *k, enum filter_access access, struct bpf_insn *out)
{
	size_t n = 0;

	if (access == FILTER_SKB) {
		out[n++] = kernel_insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0);
	} else {
		out[n++] = kernel_insn(BPF_LDX | BPF_MEM | BPF_DW, 3, 1, 16, 0);
		out[n++] = kernel_insn(BPF_LDX | BPF_MEM | BPF_DW, 2, 1, 8, 0);
		if (access == FILTER_KERNEL) {
			out[n++] = kernel_insn(BPF_LDX | BPF_MEM | BPF_DW, 1, 1, 0, 0);
		} else {
			out[n++] = kernel_insn(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_VALUE, 0, k->memory_map);
			out[n++] = kernel_insn(0, 0, 0, 0, 0);
		}
	}
	out[n++] = kernel_insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 1);
	out[n++] = kernel_insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return n;
}

/* Returns the program or a negative errno, then with the verifier's words in `log`. */
static inline int kernel_load(const struct kernel_packets *k, const struct bpf_insn *filter, size_t n,
			      enum filter_access access, bool ethernet, char *log, uint32_t log_size)
{
	static struct bpf_insn insns[SONDE_FILTER_ROOM + 8];
	enum bpf_prog_type type = access != FILTER_SKB ? BPF_PROG_TYPE_RAW_TRACEPOINT
				  : ethernet           ? BPF_PROG_TYPE_SCHED_CLS
						       : BPF_PROG_TYPE_SOCKET_FILTER;
	size_t before = kernel_caller(k, access, insns);
	int fd;

	if (n > SONDE_FILTER_ROOM)
		return -E2BIG;
	memcpy(insns + before, filter, n * sizeof *filter);
	fd = bpf_prog_load(type, "filter", "GPL", insns, before + n, NULL);
	if (fd < 0 && log) {
		LIBBPF_OPTS(bpf_prog_load_opts, options, .log_level = 1, .log_buf = log, .log_size = log_size);

		fd = bpf_prog_load(type, "filter", "GPL", insns, before + n, &options);
	}
	return fd < 0 ? -errno : fd;
}

/* Runs it over a packet; of FILTER_SKB a made one, of which all is there. `ns`, if not NULL, is the time of one of `repeat` runs. */
static inline int kernel_run_skb(int program, const uint8_t *packet, uint32_t length, bool ethernet, int repeat,
				 uint32_t *ret, uint32_t *ns)
{
	uint8_t frame[KERNEL_PAGE] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };
	uint32_t before = ethernet ? 0 : 14;
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = before + length, .repeat = repeat);
	int r;

	memcpy(frame + before, packet, length);
	r = bpf_prog_test_run_opts(program, &run);
	*ret = run.retval;
	if (ns)
		*ns = run.duration;
	return r < 0 ? -errno : 0;
}

static inline int kernel_run(struct kernel_packets *k, int program, enum filter_access access, bool ethernet,
			     const uint8_t *packet, uint32_t captured, uint32_t length, uint32_t *ret)
{
	uint64_t arguments[3] = { k->address, captured, length };

	if (access == FILTER_SKB)
		return kernel_run_skb(program, packet, captured, ethernet, 1, ret, NULL);
	if (access == FILTER_KERNEL)
		memcpy(k->packet, packet, captured);
	else
		memcpy(k->memory->bytes, packet, MIN_OF(captured, SONDE_FILTER_BYTES));
	return kernel_run_tracepoint(program, arguments, 3, ret);
}

#endif
