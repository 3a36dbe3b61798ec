/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is made at the end, one part after the other through a compressor, so that no second copy of it is ever in memory.
 *
 * A location is one place in the program: its function, with those that the compiler put into it inline, innermost first.
 * Frames carry no absolute addresses, so only unknown frames have one: their offset in the file, which a symbolizer with
 * that file resolves.
 */
#include "flame/pprof_state.h"
#include "flame/protobuf.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

/* Field numbers of profile.proto. */
enum {
	SAMPLE_TYPE = 1,
	SAMPLE,
	MAPPING,
	LOCATION,
	FUNCTION,
	STRING_TABLE,
	TIME_NANOS = 9,
	DURATION_NANOS,
	PERIOD_TYPE,
	PERIOD,
	COMMENT,
	DEFAULT_SAMPLE_TYPE
};
enum { VALUE_TYPE = 1, VALUE_UNIT };
enum { SAMPLE_LOCATIONS = 1, SAMPLE_VALUES, SAMPLE_LABEL };
enum { LABEL_KEY = 1, LABEL_STR, LABEL_NUM };
enum { MAPPING_ID = 1, MAPPING_LIMIT = 3, MAPPING_FILENAME = 5, MAPPING_BUILD_ID, MAPPING_HAS_FUNCTIONS };
enum { LOCATION_ID = 1, LOCATION_MAPPING, LOCATION_ADDRESS, LOCATION_LINE };
enum { LINE_FUNCTION = 1 };
enum { FUNCTION_ID = 1, FUNCTION_NAME, FUNCTION_SYSTEM_NAME };

/* Words of the format; they come behind the tree's texts in the string table. */
enum word { SAMPLES, COUNT, CPU, NANOSECONDS, OFFCPU, EVENTS, PID, TID, TEXT_LABEL };
static const char *const words[] = { "samples", "count", "cpu",       "nanoseconds", "offcpu",  "events", "pid",
				     "tid",     "comm",  "container", "state",       "syscall", "wait" };
_Static_assert(ARRAY_SIZE(words) == TEXT_LABEL + TEXT_LABELS, "the labels in their order come last");

struct file {
	FILE *out;
	z_stream z;
	struct text part; /* the message at hand */
	struct text inner, innermost;
	struct pprof *p;
	int error;
};

static uint64_t word(const struct file *f, enum word word)
{
	return f->p->tree.n_texts + word;
}

static void compress_bytes(struct file *f, const void *bytes, size_t size, int flush)
{
	uint8_t room[16384];

	f->z.next_in = (Bytef *)bytes;
	f->z.avail_in = (uInt)size;
	do {
		f->z.next_out = room;
		f->z.avail_out = sizeof room;
		deflate(&f->z, flush);
		size_t n = sizeof room - f->z.avail_out;

		errno = 0;
		if (!f->error && fwrite_unlocked(room, 1, n, f->out) != n)
			f->error = errno ? -errno : -EIO;
	} while (f->z.avail_out == 0);
}

/* Hands the text on and empties it for the next. */
static void flush_text(struct file *f, struct text *t)
{
	if (t->failed && !f->error)
		f->error = -ENOMEM;
	if (!f->error)
		compress_bytes(f, t->bytes, t->size, Z_NO_FLUSH);
	t->size = 0;
}

static void put_message(struct file *f, unsigned field, struct text *message)
{
	protobuf_bytes(&f->part, field, message->bytes, message->size);
	f->part.failed = f->part.failed || message->failed;
	message->size = 0;
	flush_text(f, &f->part);
}

static void put_value_type(struct file *f, unsigned field, enum word type, enum word unit)
{
	protobuf_number(&f->inner, VALUE_TYPE, word(f, type));
	protobuf_number(&f->inner, VALUE_UNIT, word(f, unit));
	put_message(f, field, &f->inner);
}

static void put_header(struct file *f)
{
	struct pprof *p = f->p;

	if (p->seen[FLAME_CPU]) {
		put_value_type(f, SAMPLE_TYPE, SAMPLES, COUNT);
		put_value_type(f, SAMPLE_TYPE, CPU, NANOSECONDS);
	}
	if (p->seen[FLAME_OFFCPU])
		put_value_type(f, SAMPLE_TYPE, OFFCPU, NANOSECONDS);
	if (p->seen[FLAME_EVENTS])
		put_value_type(f, SAMPLE_TYPE, EVENTS, COUNT);
	protobuf_number(&f->part, TIME_NANOS, p->first_ns);
	protobuf_number(&f->part, DURATION_NANOS, p->last_ns - p->first_ns);
	if (p->seen[FLAME_CPU])
		put_value_type(f, PERIOD_TYPE, CPU, NANOSECONDS);
	else if (p->seen[FLAME_OFFCPU])
		put_value_type(f, PERIOD_TYPE, OFFCPU, NANOSECONDS);
	else
		put_value_type(f, PERIOD_TYPE, EVENTS, COUNT);
	protobuf_number(&f->part, PERIOD, p->seen[FLAME_CPU] ? p->period_ns : 1);
	protobuf_number(&f->part, DEFAULT_SAMPLE_TYPE,
			word(f, p->seen[FLAME_CPU]      ? CPU
				: p->seen[FLAME_OFFCPU] ? OFFCPU
							: EVENTS));
	flush_text(f, &f->part);
}

static int add_place(struct pprof *p, uint32_t inner, uint32_t frame, uint32_t *ret)
{
	uint64_t key = (uint64_t)inner << 32 | frame;
	int r;

	if (flame_map_find(&p->by_place, key, ret))
		return 0;
	r = flame_grow(&p->budget, &p->places, &p->places_room, p->n_places, sizeof *p->places);
	if (r < 0)
		return r;
	*ret = (uint32_t)p->n_places;
	p->places[p->n_places++] = (struct place){ inner, frame, false };
	return flame_map_put(&p->by_place, key, *ret);
}

/* Its locations, leaf first. */
static void put_locations(struct file *f, uint32_t node)
{
	struct pprof *p = f->p;
	uint32_t place, inner = NONE;

	for (; node; node = p->tree.nodes[node].parent) {
		uint32_t frame = p->tree.nodes[node].frame;
		int r = add_place(p, inner, frame, &place);

		if (r < 0) {
			f->error = r;
			return;
		}
		inner = p->tree.frames[frame].kind == FRAME_INLINE ? place : NONE;
		if (inner == NONE || p->tree.nodes[node].parent == 0) {
			p->places[place].whole = true;
			protobuf_varint(&f->innermost, place + 1);
		}
	}
	protobuf_bytes(&f->inner, SAMPLE_LOCATIONS, f->innermost.bytes, f->innermost.size);
	f->innermost.size = 0;
}

static void put_label(struct file *f, enum word key, uint64_t text, uint64_t number)
{
	if (!text && !number)
		return;
	protobuf_number(&f->innermost, LABEL_KEY, word(f, key));
	protobuf_number(&f->innermost, LABEL_STR, text);
	protobuf_number(&f->innermost, LABEL_NUM, number);
	protobuf_bytes(&f->inner, SAMPLE_LABEL, f->innermost.bytes, f->innermost.size);
	f->innermost.size = 0;
}

static void put_sample(struct file *f, const struct sum *sum)
{
	struct pprof *p = f->p;
	const struct labels *labels = &p->labels[sum->labels];

	put_locations(f, sum->node);
	if (p->seen[FLAME_CPU])
		protobuf_varint(&f->innermost, sum->samples);
	for (size_t i = 0; i < FLAME_MEASURES; i++)
		if (p->seen[i])
			protobuf_varint(&f->innermost, sum->amounts[i]);
	protobuf_bytes(&f->inner, SAMPLE_VALUES, f->innermost.bytes, f->innermost.size);
	f->innermost.size = 0;
	put_label(f, PID, 0, labels->pid);
	put_label(f, TID, 0, labels->tid);
	for (size_t i = 0; i < TEXT_LABELS; i++)
		put_label(f, TEXT_LABEL + (enum word)i, labels->texts[i], 0);
	put_message(f, SAMPLE, &f->inner);
}

static void add_mapping(struct file *f, uint64_t key, uint32_t library, uint32_t build_id)
{
	struct pprof *p = f->p;
	uint32_t ignored;
	int r;

	if (flame_map_find(&p->by_mapping, key, &ignored))
		return;
	r = flame_grow(&p->budget, &p->mappings, &p->mappings_room, p->n_mappings, sizeof *p->mappings);
	if (r == 0)
		r = flame_map_put(&p->by_mapping, key, (uint32_t)p->n_mappings);
	if (r < 0)
		f->error = r;
	else
		p->mappings[p->n_mappings++] = (struct mapping){ library, build_id };
}

/* A file whose build id some frame tells is one mapping with it, for its named frames too. The kernel's comes last: the
 * first mapping is what readers call the program. */
static void make_mappings(struct file *f)
{
	const struct flame_tree *t = &f->p->tree;
	uint32_t mapping;

	for (size_t i = 0; i < t->n_frames; i++) {
		const struct tree_frame *frame = &t->frames[i];
		uint64_t key = (uint64_t)frame->library << 32 | frame->build_id;

		if (!frame->build_id)
			continue;
		add_mapping(f, key, frame->library, frame->build_id);
		if (!f->error && !flame_map_find(&f->p->by_mapping, (uint64_t)frame->library << 32, &mapping) &&
		    flame_map_find(&f->p->by_mapping, key, &mapping))
			f->error = flame_map_put(&f->p->by_mapping, (uint64_t)frame->library << 32, mapping);
	}
	for (int kernel = 0; kernel < 2; kernel++)
		for (size_t i = 0; i < t->n_frames; i++)
			if (t->frames[i].library && (t->frames[i].kind == FRAME_KERNEL) == kernel)
				add_mapping(f, (uint64_t)t->frames[i].library << 32, t->frames[i].library, 0);
}

/* Functions are named by the frames already; that keeps readers from looking for symbols themselves. */
static void put_mappings(struct file *f)
{
	for (size_t i = 0; i < f->p->n_mappings; i++) {
		protobuf_number(&f->inner, MAPPING_ID, i + 1);
		protobuf_number(&f->inner, MAPPING_FILENAME, f->p->mappings[i].library);
		protobuf_number(&f->inner, MAPPING_BUILD_ID, f->p->mappings[i].build_id);
		protobuf_number(&f->inner, MAPPING_HAS_FUNCTIONS, 1);
		put_message(f, MAPPING, &f->inner);
	}
}

/* Function `frame + 1` is that of the frame: frames differ in more than their function, but rarely. */
static void put_location(struct file *f, uint32_t id)
{
	const struct pprof *p = f->p;
	const struct tree_frame *frame = &p->tree.frames[p->places[id].frame];
	uint32_t chain[FLAME_FRAMES_MAX + 2], mapping, n = 0;
	uint64_t key = (uint64_t)frame->library << 32 | frame->build_id;

	for (uint32_t at = id; at != NONE && n < ARRAY_SIZE(chain); at = p->places[at].inner)
		chain[n++] = p->places[at].frame;
	protobuf_number(&f->inner, LOCATION_ID, id + 1);
	if (frame->library && flame_map_find(&p->by_mapping, key, &mapping))
		protobuf_number(&f->inner, LOCATION_MAPPING, mapping + 1);
	if (frame->kind == FRAME_UNKNOWN)
		protobuf_number(&f->inner, LOCATION_ADDRESS, frame->offset);
	while (n-- > 0) {
		protobuf_number(&f->innermost, LINE_FUNCTION, (uint64_t)chain[n] + 1);
		protobuf_bytes(&f->inner, LOCATION_LINE, f->innermost.bytes, f->innermost.size);
		f->innermost.size = 0;
	}
	put_message(f, LOCATION, &f->inner);
}

static void put_function(struct file *f, size_t frame)
{
	uint32_t name = f->p->tree.frames[frame].name;

	protobuf_number(&f->inner, FUNCTION_ID, frame + 1);
	protobuf_number(&f->inner, FUNCTION_NAME, name);
	protobuf_number(&f->inner, FUNCTION_SYSTEM_NAME, name);
	put_message(f, FUNCTION, &f->inner);
}

static void put_strings(struct file *f)
{
	const struct flame_tree *t = &f->p->tree;

	for (size_t i = 0; i < t->n_texts && !f->error; i++) {
		struct flame_span text = flame_tree_text_of(t, (uint32_t)i);

		protobuf_bytes(&f->part, STRING_TABLE, text.text, text.length);
		flush_text(f, &f->part);
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		protobuf_bytes(&f->part, STRING_TABLE, words[i], strlen(words[i]));
	flush_text(f, &f->part);
}

static void put_all(struct file *f)
{
	struct pprof *p = f->p;

	put_header(f);
	for (size_t i = 0; i < p->n_sums && !f->error; i++)
		if (p->sums[i].node != p->full_node || p->left_out)
			put_sample(f, &p->sums[i]);
	make_mappings(f);
	put_mappings(f);
	for (size_t i = 0; i < p->n_places && !f->error; i++)
		if (p->places[i].whole)
			put_location(f, (uint32_t)i);
	for (size_t i = 0; i < p->tree.n_frames && !f->error; i++)
		put_function(f, i);
	put_strings(f);
}

int pprof_write(struct pprof *p, FILE *out)
{
	struct file *f;
	int r;

	if (p->last_ns == 0 && !p->seen[FLAME_CPU] && !p->seen[FLAME_OFFCPU] && !p->seen[FLAME_EVENTS])
		return -ENODATA;
	f = calloc(1, sizeof *f);
	if (!f)
		return -ENOMEM;
	f->out = out;
	f->p = p;
	p->budget.limit = SIZE_MAX; /* places and mappings are fewer than the frames that are there */
	if (deflateInit2(&f->z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(f);
		return -ENOMEM;
	}
	text_begin(&f->part);
	text_begin(&f->inner);
	text_begin(&f->innermost);
	put_all(f);
	compress_bytes(f, NULL, 0, Z_FINISH);
	r = f->error;
	deflateEnd(&f->z);
	text_end(&f->part);
	text_end(&f->inner);
	text_end(&f->innermost);
	free(f);
	return r;
}
