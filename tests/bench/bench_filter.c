/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ns that a filter takes in this kernel, for each way to come by the packet, and in user space by libpcap's interpreter. The kernel's figures are
 * of tc programs that call the filter a million times, less what one takes that calls a filter of `return 1`.
 */
#include "../filter_kernel.h"

#define ROUNDS 1000000

/* Like kernel_caller(), for a tc program in all three: only those are repeated by BPF_PROG_TEST_RUN. */
static size_t caller(const struct kernel_packets *k, enum filter_access access, uint32_t bytes, struct bpf_insn *out)
{
	size_t n = 0;

	if (access == FILTER_SKB) {
		out[n++] = kernel_insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 14);
	} else {
		bool memory = access == FILTER_MEMORY;

		out[n++] = kernel_insn(BPF_LD | BPF_IMM | BPF_DW, 1, memory ? BPF_PSEUDO_MAP_VALUE : 0, 0,
				       memory ? k->memory_map : (int32_t)k->address);
		out[n++] = kernel_insn(0, 0, 0, 0, memory ? 0 : (int32_t)(k->address >> 32));
		out[n++] = kernel_insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, (int32_t)bytes);
		out[n++] = kernel_insn(BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, (int32_t)bytes);
	}
	out[n++] = kernel_insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 1);
	out[n++] = kernel_insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return n;
}

/* The best of three. */
static uint32_t measure(const struct kernel_packets *k, enum filter_access access, const struct bpf_insn *filter, int n,
			const uint8_t *frame, uint32_t bytes)
{
	static struct bpf_insn insns[SONDE_FILTER_ROOM + 8];
	size_t before = caller(k, access, bytes - 14, insns);
	uint32_t best = UINT32_MAX, ns, says;
	int fd;

	memcpy(insns + before, filter, (size_t)n * sizeof *filter);
	fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "bench", "GPL", insns, before + (size_t)n, NULL);
	if (fd < 0)
		return 0;
	for (int i = 0; i < 3; i++)
		if (kernel_run_skb(fd, frame, bytes, true, ROUNDS, &says, &ns) == 0)
			best = MIN_OF(best, ns);
	close(fd);
	return best;
}

static double measure_user(const struct filter *filter, const uint8_t *packet, uint32_t bytes)
{
	uint64_t begin = now_boottime_ns(), matches = 0;

	for (unsigned i = 0; i < ROUNDS; i++)
		matches += filter_match(filter, packet, bytes, bytes);
	__asm__ volatile("" ::"r"(matches));
	return (double)(now_boottime_ns() - begin) / ROUNDS;
}

int main(void)
{
	static const char *const expressions[] = { "tcp", "tcp port 5432", "tcp port 5432 and net 10.0.0.0/8",
						   "not port 22",
						   "tcp and (port 80 or port 443 or port 8080 or port 8443) and not "
						   "host 10.1.0.1 and not ip6 net 2001:db8::/32" };
	/* A TCP packet from 10.0.0.1:40000 to 10.0.0.2:5432, behind an Ethernet header. */
	static const uint8_t frame[54] = { 2, 0,  0,    0,    0,    1,    2,  0, 0, 0, 0,  2, 8, 0, 0x45, 0,
					   0, 40, 0,    0,    0x40, 0,    64, 6, 0, 0, 10, 0, 0, 1, 10,   0,
					   0, 2,  0x9c, 0x40, 0x15, 0x38, 0,  0, 0, 0, 0,  0, 0, 0, 0x50, 2 };
	static const struct bpf_insn nothing[] = { { .code = BPF_ALU | BPF_MOV, .imm = 1 },
						   { .code = BPF_JMP | BPF_EXIT } };
	static struct bpf_insn insns[SONDE_FILTER_ROOM];
	struct kernel_packets k;

	if (kernel_open(&k) < 0)
		return fprintf(stderr, "bench_filter: no eBPF here\n"), 1;
	memcpy(k.packet, frame + 14, 40);
	memcpy(k.memory->bytes, frame + 14, 40);
	printf("     skb  kernel  memory  libpcap\n");
	for (size_t i = 0; i < ARRAY_SIZE(expressions); i++) {
		struct filter *filter = NULL;

		if (filter_compile(&filter, expressions[i], FILTER_RAW, NULL) < 0)
			return 1;
		for (enum filter_access access = FILTER_SKB; access <= FILTER_MEMORY; access++) {
			int n = filter_translate(filter, access, insns, SONDE_FILTER_ROOM, NULL);

			printf("%8d", (int)measure(&k, access, insns, n, frame, sizeof frame) -
					      (int)measure(&k, access, nothing, 2, frame, sizeof frame));
		}
		printf("%8.1f ns  %s\n", measure_user(filter, frame + 14, 40), expressions[i]);
		filter_free(filter);
	}
	kernel_close(&k);
	return 0;
}
