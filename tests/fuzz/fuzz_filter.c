/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first byte says what the rest is: a packet and a program of classic BPF, which if it is one has to do the same by libpcap and, translated,
 * by the interpreter, and to say of a socket what it says of the socket's packets; words of an expression; or an object file.
 */
#include "filter/program.h"

#include <string.h>

#include "filter_interpret.h"

#define PROGRAM_MAX 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* The same however the packet is come by. */
static void check_translation(const struct filter *filter, const uint8_t *packet, uint32_t captured, uint32_t length)
{
	static struct bpf_insn insns[INT16_MAX];

	for (enum filter_access access = FILTER_SKB; access <= FILTER_MEMORY; access++) {
		uint32_t there = access == FILTER_MEMORY ? MIN_OF(captured, SONDE_FILTER_BYTES) : captured;
		uint32_t whole = access == FILTER_SKB ? captured : length;
		int n = filter_translate(filter, access, insns, ARRAY_SIZE(insns), NULL);

		check(n > 0);
		check(interpret(insns, n, access, packet, there, whole) == filter_match(filter, packet, there, whole));
	}
}

/* Whatever a socket does not tell changes nothing. */
static void check_tuple(const struct filter *filter, const uint8_t *noise, uint32_t n_noise)
{
	static const uint8_t udp[] = { 17, 0 }, foreign4[] = { 1, 2, 3, 4, 5, 8, 10, 11 },
			     foreign6[] = { 1, 2, 3, 4, 5, 7 };
	struct sonde_filter_tuple tuple = { .lport = 53, .rport = 80, .protocol = 17 };
	struct sonde_filter_packet header;
	uint8_t packet[300] = { 0 };

	if (filter_check_tuple(filter, udp, NULL) < 0)
		return;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		const uint8_t *foreign = ip6 ? foreign6 : foreign4;
		uint32_t n;

		tuple.laddr.bytes[10] = tuple.laddr.bytes[11] = ip6 ? 1 : 0xff;
		tuple.raddr = tuple.laddr;
		tuple.raddr.bytes[15] = 7;
		n = filter_header_of_tuple(&header, &tuple);
		memcpy(packet, header.bytes, n);
		memcpy(packet + n, noise, MIN_OF(n_noise, sizeof packet - n));
		for (uint32_t i = 0; i < (ip6 ? ARRAY_SIZE(foreign6) : ARRAY_SIZE(foreign4)); i++)
			packet[foreign[i]] = n_noise ? noise[i % n_noise] : 0xff;
		packet[ip6 ? 0 : 6] |= n_noise ? noise[0] & (ip6 ? 0xf : 0xc0) : 0;
		check(filter_match(filter, header.bytes, n, n) == filter_match(filter, packet, sizeof packet, n_noise));
	}
}

/* One byte: the packet's captured bytes; one: how many more it had; the packet; the program, behind what writes libpcap's memory, which
 * begins with anything. */
static void fuzz_program(const uint8_t *data, size_t size)
{
	static struct sock_filter program[BPF_MEMWORDS + PROGRAM_MAX];
	struct filter *filter = NULL;
	uint32_t captured, length;
	size_t n;

	if (size < 2 || data[0] > size - 2)
		return;
	captured = data[0];
	length = captured + data[1];
	data += 2;
	n = MIN_OF((size - 2 - captured) / sizeof *program, (size_t)PROGRAM_MAX);
	for (uint32_t i = 0; i < BPF_MEMWORDS; i++)
		program[i] = (struct sock_filter){ .code = BPF_ST, .k = i };
	memcpy(program + BPF_MEMWORDS, data + captured, n * sizeof *program);
	for (size_t i = 0; i < n; i++) /* codes are few: most inputs should be programs */
		program[BPF_MEMWORDS + i].code &= 0xff;
	if (filter_of_program(&filter, program, BPF_MEMWORDS + n, FILTER_RAW, NULL) < 0)
		return;
	check_translation(filter, data, captured, length);
	check_tuple(filter, data, captured);
	filter_free(filter);
}

static void fuzz_words(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *words = NULL;
	struct fault fault = { 0 };

	if (filter_words(&words, text, &fault) == 0)
		check(strlen(words) < 2 * strlen(text) + 16);
	else
		check(!words && fault.text[0]);
	free(words);
	free(text);
}

static void fuzz_place(const uint8_t *data, size_t size)
{
	static const struct bpf_insn insns[2] = { { .code = BPF_ALU | BPF_MOV | BPF_K },
						  { .code = BPF_JMP | BPF_EXIT } };
	uint8_t *image = malloc(size + 1);

	memcpy(image, data, size);
	filter_place(image, size, "f", insns, ARRAY_SIZE(insns), NULL);
	free(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] % 4 < 2)
		fuzz_program(data + 1, size - 1);
	else if (data[0] % 4 == 2)
		fuzz_words(data + 1, size - 1);
	else
		fuzz_place(data + 1, size - 1);
	return 0;
}
