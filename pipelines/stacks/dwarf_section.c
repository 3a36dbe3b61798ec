/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows onto the DWARF sections. A plain section's window is filled by pread: small after a jump, larger while reading goes straight
 * on. A compressed one is inflated through its window, half of which stays when it moves on, so that small steps back cost nothing.
 *
 * For larger steps back an inflater keeps copies of its whole state. All that zlib allocates lies in the inflater's own arena, so a
 * state is a copy of that arena, and is put back at the same place, where its inner pointers hold.
 *
 * Invariants: window[0, filled) is the content at `at`; DWARF_GUARD zeros follow it when it ends the section; next lies in the window.
 * A compressed section whose data end early becomes shorter. zstd and the old .zdebug sections are taken for absent.
 */
#include "stacks/dwarf_section.h"

#include <errno.h>
#include <unistd.h>
#include <zlib.h>

#include "base/base.h"
#include "stacks/elf_file.h"

#define BURST_MIN         4096u
#define CONTENT_MAX       (4ull << 30) /* offsets of DIEs and strings are kept in 32 bits */
#define INFLATE_RATIO_MAX 64u          /* DWARF shrinks to a tenth at best; a bomb is not worth its time */
#define ARENA_BYTES       (48u << 10)  /* of zlib: its state of 7 KiB and a window of 32 */
#define STATES_MAX        8u
#define STATE_SPAN_MIN    (256u << 10)

struct arena {
	size_t used;
	_Alignas(16) uint8_t bytes[ARENA_BYTES];
};

struct inflate_state {
	uint64_t in, out;
	z_stream stream;
	struct arena arena;
};

struct dwarf_inflater {
	z_stream stream;
	uint64_t in, out; /* offsets of the next byte: to read, in the file; to give, in the content */
	struct arena arena;
	uint64_t span;
	unsigned n_states, states_max;
	uint8_t input[8192];
	struct inflate_state states[];
};

static const struct {
	const char *name;
	size_t window; /* a compressed section's is four times that, if it may step back */
	bool sorted;   /* is read in ascending order: no states are kept for steps back */
} known[DWARF_SECTIONS] = {
	[DWARF_INFO] = { ".debug_info", 128u << 10, true },
	[DWARF_ABBREV] = { ".debug_abbrev", 32u << 10, false },
	[DWARF_STR] = { ".debug_str", 64u << 10, true },
	[DWARF_LINE_STR] = { ".debug_line_str", 8u << 10, true },
	[DWARF_STR_OFFSETS] = { ".debug_str_offsets", 32u << 10, false },
	[DWARF_ADDR] = { ".debug_addr", 32u << 10, false },
	[DWARF_RANGES] = { ".debug_ranges", 64u << 10, false },
	[DWARF_RNGLISTS] = { ".debug_rnglists", 64u << 10, false },
};

/* ---- ELF ---- */

/* The size in memory counts: a file of debug information alone has no code, but says where it lies. */
static void find_loads(struct dwarf_file *d, const struct elf_header *h)
{
	d->base = UINT64_MAX;
	for (uint32_t i = 0; i < h->n_programs && d->n_loads < ELF_LOADS_MAX; i++) {
		Elf64_Phdr p;

		if (elf_read_program(&d->file, h, i, &p) < 0)
			return;
		if (p.p_type != PT_LOAD || !(p.p_flags & PF_X) || !p.p_memsz || p.p_vaddr > UINT64_MAX - p.p_memsz)
			continue;
		d->loads[d->n_loads++] = (struct elf_load){ p.p_offset, p.p_vaddr, p.p_memsz };
		d->base = MIN_OF(d->base, p.p_vaddr);
	}
}

bool dwarf_is_code(const struct dwarf_file *dwarf, uint64_t address)
{
	/* Nothing lies at 0: that is where linkers put what they have left out. */
	for (unsigned i = 0; i < dwarf->n_loads && address; i++)
		if (address >= dwarf->loads[i].address && address - dwarf->loads[i].address < dwarf->loads[i].size)
			return true;
	return false;
}

/* The section's place, and the content's size where it is compressed. Zeros when it cannot be read. */
static struct dwarf_section find_section(const struct dwarf_file *d, const struct elf_header *h, const char *name)
{
	struct dwarf_section s = { 0 };
	Elf64_Shdr header;

	if (elf_find_section(&d->file, h, name, &header) < 0)
		return s;
	s = (struct dwarf_section){ .offset = header.sh_offset, .stored = header.sh_size, .size = header.sh_size };
	if (header.sh_flags & SHF_COMPRESSED) {
		union {
			Elf64_Chdr wide;
			Elf32_Chdr narrow;
		} c;
		size_t head = h->wide ? sizeof c.wide : sizeof c.narrow;

		if (s.stored < head || elf_read_at(&d->file, s.offset, &c, head) < 0 ||
		    (h->wide ? c.wide.ch_type : c.narrow.ch_type) != ELFCOMPRESS_ZLIB)
			return (struct dwarf_section){ 0 };
		s.packed = true;
		s.offset += head;
		s.stored -= head;
		s.size = MIN_OF(h->wide ? c.wide.ch_size : c.narrow.ch_size, s.stored * INFLATE_RATIO_MAX);
	}
	s.size = MIN_OF(s.size, CONTENT_MAX);
	return s;
}

int dwarf_find(const struct elf_file *file, struct dwarf_file *ret)
{
	struct elf_header h;
	int r = elf_read_header(file, &h);

	if (r < 0)
		return r;
	memset(ret, 0, sizeof *ret);
	ret->file = *file;
	find_loads(ret, &h);
	for (unsigned k = 0; k < DWARF_SECTIONS; k++)
		ret->sections[k] = find_section(ret, &h, known[k].name);
	return ret->n_loads && ret->sections[DWARF_INFO].size && ret->sections[DWARF_ABBREV].size ? 0 : -ENOENT;
}

/* ---- readers ---- */

static size_t window_of(const struct dwarf_file *d, unsigned k)
{
	uint64_t size = MAX_OF(d->sections[k].size, (uint64_t)BURST_MIN);
	uint64_t most = d->sections[k].packed && !known[k].sorted ? 4 * known[k].window : known[k].window;

	return (size_t)ALIGN_UP(MIN_OF(size, most), 64ull);
}

static unsigned states_of(const struct dwarf_file *d, unsigned k)
{
	return known[k].sorted ? 0 : (unsigned)MIN_OF(d->sections[k].size / STATE_SPAN_MIN, (uint64_t)STATES_MAX);
}

static size_t inflater_bytes(const struct dwarf_file *d, unsigned k)
{
	if (!d->sections[k].packed)
		return 0;
	return ALIGN_UP(sizeof(struct dwarf_inflater) + states_of(d, k) * sizeof(struct inflate_state), (size_t)64);
}

size_t dwarf_room(const struct dwarf_file *dwarf)
{
	size_t bytes = 0;

	for (unsigned k = 0; k < DWARF_SECTIONS; k++)
		bytes += window_of(dwarf, k) + 2 * DWARF_GUARD + inflater_bytes(dwarf, k);
	return bytes;
}

static void *arena_allocate(void *context, unsigned count, unsigned size)
{
	struct arena *arena = context;
	uint64_t bytes = ALIGN_UP((uint64_t)count * size, 16ull);
	void *room = arena->bytes + arena->used;

	if (bytes > ARENA_BYTES - arena->used)
		return NULL;
	arena->used += (size_t)bytes;
	return room;
}

static void arena_free(void *context, void *room)
{
}

/* How much to read for `to`, and from where on. A far jump is met with little; who goes straight on gets twice as much each time; who
 * steps back a little, as among the addresses of one unit, gets what lies on both sides. */
static uint64_t plan_read(struct dwarf_section *s, uint64_t to)
{
	bool straight = s->filled && to >= s->at && to <= s->at + s->filled;
	bool back = s->filled && to < s->at && s->at - to <= s->capacity;

	s->burst = straight ? MIN_OF(s->burst * 2, s->capacity) : back ? s->capacity : BURST_MIN;
	return back ? to - MIN_OF(to, (uint64_t)s->capacity / 2) : to;
}

static bool fill_plain(struct dwarf_file *d, struct dwarf_section *s, uint64_t to)
{
	uint64_t at = plan_read(s, to);
	size_t n = (size_t)MIN_OF(s->size - at, (uint64_t)s->burst);

	s->at = at;
	s->filled = 0;
	if (elf_read_at(&d->file, s->offset + at, s->window, n) < 0) {
		d->status = -EIO;
		return false;
	}
	s->filled = n;
	d->steps += n / 8; /* copying is cheap beside parsing */
	return true;
}

static void keep_state(struct dwarf_inflater *z)
{
	if (z->n_states >= z->states_max || z->out < z->span * (z->n_states + 1))
		return;

	struct inflate_state *state = &z->states[z->n_states++];

	state->in = z->in - z->stream.avail_in;
	state->out = z->out;
	state->stream = z->stream;
	state->arena = z->arena;
}

static void go_back(struct dwarf_section *s, uint64_t to)
{
	struct dwarf_inflater *z = s->inflater;
	unsigned k = z->n_states;

	while (k > 0 && z->states[k - 1].out > to)
		k--;
	if (k > 0) {
		const struct inflate_state *state = &z->states[k - 1];

		z->arena = state->arena;
		z->stream = state->stream;
		z->in = state->in;
		z->out = state->out;
	} else {
		inflateReset(&z->stream);
		z->in = s->offset;
		z->out = 0;
	}
	z->stream.avail_in = 0;
	s->at = z->out;
	s->filled = 0;
}

/* Inflates into the free part of the window. False when no more comes. */
static bool inflate_some(struct dwarf_file *d, struct dwarf_section *s)
{
	struct dwarf_inflater *z = s->inflater;
	uint64_t room = MIN_OF((uint64_t)(s->capacity - s->filled), s->size - z->out);

	if (!z->stream.avail_in) {
		uint64_t left = s->offset + s->stored - z->in;
		size_t n = (size_t)MIN_OF(left, (uint64_t)sizeof z->input);

		if (elf_read_at(&d->file, z->in, z->input, n) < 0) {
			d->status = -EIO;
			return false;
		}
		z->in += n;
		z->stream.next_in = z->input;
		z->stream.avail_in = (unsigned)n;
	}
	z->stream.next_out = s->window + s->filled;
	z->stream.avail_out = (unsigned)room;

	unsigned before = z->stream.avail_in;
	int r = inflate(&z->stream, Z_NO_FLUSH);
	size_t given = (size_t)room - z->stream.avail_out;

	s->filled += given;
	z->out += given;
	d->steps += given / 4 + 1;
	return (r == Z_OK || r == Z_STREAM_END) && (given || z->stream.avail_in != before);
}

static bool fill_packed(struct dwarf_file *d, struct dwarf_section *s, uint64_t to)
{
	struct dwarf_inflater *z = s->inflater;

	if (to < s->at)
		go_back(s, to);
	while (z->out < MIN_OF(to + DWARF_GUARD, s->size)) {
		if (s->filled == s->capacity) {
			size_t gone = s->capacity / 2;

			memmove(s->window, s->window + gone, s->capacity - gone);
			s->at += gone;
			s->filled -= gone;
		}
		if (!inflate_some(d, s)) {
			s->size = z->out;
			break;
		}
		keep_state(z);
	}
	return to <= s->size;
}

static void place(struct dwarf_section *s, uint64_t to)
{
	s->next = s->window + (to - s->at);
	s->end = s->window + s->filled;
}

bool dwarf_seek(struct dwarf_file *dwarf, struct dwarf_section *s, uint64_t to)
{
	uint64_t reached = s->at + s->filled;

	if (to >= s->at && to <= reached && (reached - to >= DWARF_GUARD || reached == s->size)) {
		place(s, to);
		return true;
	}
	if (to > s->size || dwarf->status || !(s->packed ? fill_packed : fill_plain)(dwarf, s, to)) {
		/* Reading on from here gives zeros, for as long as the caller has not seen that it is bad. */
		s->bad = true;
		s->at = s->size;
		s->filled = 0;
		if (s->packed)
			go_back(s, 0);
		memset(s->window, 0, DWARF_GUARD);
		place(s, s->at);
		return false;
	}
	memset(s->window + s->filled, 0, DWARF_GUARD);
	place(s, to);
	return true;
}

int dwarf_open(struct dwarf_file *dwarf, uint8_t *room)
{
	for (unsigned k = 0; k < DWARF_SECTIONS; k++) {
		struct dwarf_section *s = &dwarf->sections[k];

		s->capacity = window_of(dwarf, k);
		if (s->packed) {
			struct dwarf_inflater *z = (void *)room;

			memset(z, 0, sizeof *z);
			z->states_max = states_of(dwarf, k);
			z->span = s->size / (z->states_max + 1);
			z->in = s->offset;
			z->stream.zalloc = arena_allocate;
			z->stream.zfree = arena_free;
			z->stream.opaque = &z->arena;
			if (inflateInit(&z->stream) != Z_OK)
				return -ENOSPC;
			inflateValidate(&z->stream,
					0); /* a wrong sum would not stop us: the content is not trusted anyway */
			s->inflater = z;
		}
		room += inflater_bytes(dwarf, k);
		s->window = room;
		room += s->capacity + 2 * DWARF_GUARD;
		s->burst = BURST_MIN;
		memset(s->window, 0, DWARF_GUARD);
		place(s, 0);
	}
	return 0;
}
