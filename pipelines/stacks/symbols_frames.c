/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: a place in a file becomes a text once, and is kept. What has no file (kernel, anonymous memory, unknown addresses) is formatted
 * anew each time, which is cheaper than keeping it. Frames that wait for the worker hang on their file.
 */
#include "stacks/symbols_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#define VSYSCALL_BEGIN 0xffffffffff600000ull

static uint64_t frame_key(const struct symbols *s, const struct file *file, uint64_t at)
{
	return symbols_mix(symbols_mix(s->seed[1], file->node.key), at);
}

/* The same on every host: build id and file offset. */
static uint64_t place_id(const struct file *file, uint64_t offset)
{
	uint8_t place[ELF_BUILD_ID_MAX + sizeof offset];

	memcpy(place, file->build_id, file->build_id_length);
	memcpy(place + file->build_id_length, &offset, sizeof offset);
	return hash_bytes(place, file->build_id_length + sizeof offset);
}

/* The byte that the frame is about: of a call, the one before the address where it returns to. */
static uint64_t place_of(uint64_t at)
{
	return at & UNWIND_EXACT ? at & ~UNWIND_EXACT : at - (at > 0);
}

/* ---- texts ---- */

static void _printf_(4, 5) give(struct symbols *s, struct symbols_frame *ret, bool final, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(s->scratch, sizeof s->scratch, format, args);
	va_end(args);
	ret->text = s->scratch;
	ret->length = MIN_OF((size_t)MAX_OF(n, 0), sizeof s->scratch - 1);
	ret->id = hash_bytes(ret->text, ret->length);
	ret->final = final;
}

static void hex_of(const uint8_t *bytes, unsigned count, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < count; i++) {
		*text++ = digits[bytes[i] >> 4];
		*text++ = digits[bytes[i] & 15];
	}
	*text = 0;
}

static void give_unknown(struct symbols *s, const struct file *file, uint64_t at, bool final, struct symbols_frame *ret)
{
	unsigned long long offset = at & ~UNWIND_EXACT;
	char id[2 * ELF_BUILD_ID_MAX + 1];

	if (file->perf_map) {
		give(s, ret, final, "0x%llx (%s)", offset, file->gone ? "[anon]" : file->name);
		return;
	}
	if (!file->build_id_length) {
		give(s, ret, final, "%s+0x%llx", file->name, offset);
		return;
	}
	hex_of(file->build_id, file->build_id_length, id);
	give(s, ret, final, "%s+0x%llx [%s]", file->name, offset, id);
	ret->id = place_id(file, offset);
}

/* ---- the table ---- */

/* What is known of a place; with `waiting`, the frame that was asked for, beside which an older answer may stand. */
static struct frame *frame_find(struct symbols *s, const struct file *file, uint64_t at, bool waiting)
{
	uint64_t key = frame_key(s, file, at);

	for (struct node *n = table_find(&s->frames, key); n; n = table_next(n->chain, key)) {
		struct frame *frame = (struct frame *)n;

		if (frame->file == file->node.key && frame->at == at && (frame->state == FRAME_WAITING) == waiting)
			return frame;
	}
	return NULL;
}

static struct frame *frame_add(struct symbols *s, const struct file *file, uint64_t at, size_t room)
{
	struct frame *frame = calloc(1, sizeof *frame + room);

	if (!frame)
		return NULL;
	frame->file = file->node.key;
	frame->at = at;
	frame->node.key = frame_key(s, file, at);
	/* With what malloc adds to it. */
	frame->node.bytes = (uint32_t)ALIGN_UP(sizeof *frame + room + 8, (size_t)16);
	table_add(&s->frames, &frame->node);
	return frame;
}

void frame_free(struct symbols *s, struct frame *frame)
{
	if (frame->state == FRAME_WAITING)
		s->waiting--;
	table_remove(&s->frames, &frame->node);
	free(frame);
}

bool frame_evict(struct symbols *s)
{
	for (uint32_t tries = 2 * s->frames.count; tries-- > 0;) {
		struct frame *oldest = (struct frame *)s->frames.oldest;

		if (oldest->state != FRAME_WAITING && !oldest->touched) {
			frame_free(s, oldest);
			s->evicted++;
			return true;
		}
		oldest->touched = false; /* it was used since, and has another round */
		table_touch(&s->frames, &oldest->node);
	}
	return false;
}

/* ---- questions and answers ---- */

void frames_drop_waiting(struct symbols *s, struct file *file)
{
	while (file->first) {
		struct frame *frame = file->first;

		file->first = frame->next;
		frame_free(s, frame);
		s->unresolved++;
	}
	file->last = &file->first;
	file->n_waiting = 0;
}

/* Moves the file's first frames into the question. */
void frames_ask(struct symbols *s, struct file *file)
{
	s->ask.count = 0;
	while (file->first && s->ask.count < WORKER_BATCH) {
		struct frame *frame = file->first;

		file->first = frame->next;
		frame->version = file->names_version;
		s->asked[s->ask.count] = frame;
		s->ask.places[s->ask.count++] = place_of(frame->at);
	}
	if (!file->first)
		file->last = &file->first;
	file->n_waiting -= s->ask.count;
}

/* Takes the place of one that waited, and of what was known before, which is better than no name. A perf map may still learn of code that it
 * does not know: that is asked again. */
static void finish(struct symbols *s, struct frame *waiting, const struct file *file, const struct symbols_frame *as,
		   enum frame_state state)
{
	struct frame *old = frame_find(s, file, waiting->at, false), *frame = NULL;

	if (old && old->state == FRAME_KNOWN && state == FRAME_UNKNOWN)
		old->version = waiting->version;
	else
		frame = frame_add(s, file, waiting->at, as->length + 1);
	if (frame) {
		memcpy(frame->text, as->text, as->length);
		frame->length = (uint16_t)as->length;
		frame->state = (uint8_t)state;
		frame->version = waiting->version;
		frame->id = as->id;
		frame->until = file->perf_map && state == FRAME_UNKNOWN ? now_boottime_ns() + MAP_GROWS_NS : 0;
		if (old)
			frame_free(s, old);
	}
	if (state == FRAME_UNKNOWN)
		s->unresolved++;
	frame_free(s, waiting);
}

static void finish_unknown(struct symbols *s, struct frame *waiting, const struct file *file)
{
	struct symbols_frame as;

	give_unknown(s, file, waiting->at, true, &as);
	finish(s, waiting, file, &as, FRAME_UNKNOWN);
}

/* Appends a name of a hostile file, whose control characters are none of ours, and what follows it. */
static size_t put_name(struct symbols *s, size_t at, const char *name, size_t length, const char *format,
		       const char *library, unsigned long long delta)
{
	size_t room = sizeof s->scratch - at;
	int n;

	if (length + 1 >= room)
		return at;
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)name[i];

		s->scratch[at + i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	n = snprintf(s->scratch + at + length, room - length, format, library, delta);
	return n > 0 && (size_t)n < room - length ? at + length + (size_t)n : at;
}

static void finish_known(struct symbols *s, struct frame *waiting, const struct file *file,
			 const struct worker_name *name)
{
	const char *text = s->answer.text + name->at, *inlined = text + name->length, *end = inlined + name->inlined;
	uint64_t delta = (uint64_t)name->delta + !(waiting->at & UNWIND_EXACT);
	struct symbols_frame as = { .text = s->scratch };
	size_t at = 0, own;

	while (inlined < end) {
		size_t length = strlen(inlined);
		size_t next = put_name(s, at, inlined, length, " (%s) [inline]", file->name, 0);

		at = next > at ? next + 1 : at; /* with its NUL */
		inlined += length + 1;
	}
	own = at;
	at = put_name(s, at, text, name->length, " (%s)", file->name, 0);
	as.id = file->build_id_length ? place_id(file, waiting->at & ~UNWIND_EXACT)
				      : hash_bytes(s->scratch + own, at - own);
	at = put_name(s, own, text, name->length, "+0x%2$llx (%1$s)", file->name, delta);
	as.length = at;
	finish(s, waiting, file, &as, at > own ? FRAME_KNOWN : FRAME_UNKNOWN);
}

void frames_fail_asked(struct symbols *s, struct file *file)
{
	for (uint32_t i = 0; i < s->ask.count; i++)
		finish_unknown(s, s->asked[i], file);
	s->ask.count = 0;
}

/* What the answer had no room for waits again. */
static void wait_again(struct symbols *s, struct file *file, uint32_t from)
{
	for (uint32_t i = from; i < s->ask.count; i++) {
		s->asked[i]->next = NULL;
		*file->last = s->asked[i];
		file->last = &s->asked[i]->next;
		file->n_waiting++;
	}
}

void frames_take_answer(struct symbols *s, struct file *file)
{
	const struct worker_answer *a = &s->answer;
	uint32_t answered = a->count ? MIN_OF(a->count, s->ask.count) : s->ask.count;

	for (uint32_t i = 0; i < answered; i++) {
		if (!a->status && i < a->count && a->names[i].length)
			finish_known(s, s->asked[i], file, &a->names[i]);
		else
			finish_unknown(s, s->asked[i], file);
	}
	file->answered = true;
	wait_again(s, file, answered);
	s->ask.count = 0;
	if (a->status) {
		file->unreadable = true;
		frames_drop_waiting(s, file);
	}
}

/* ---- the program's frames ---- */

/* The file is known, the frame is not yet: it joins those that wait. */
static void wait_for(struct symbols *s, struct file *file, uint64_t at)
{
	struct frame *frame = s->waiting < WAITING_MAX ? frame_add(s, file, at, 0) : NULL;

	if (!frame)
		return;
	s->waiting++;
	if (!file->first)
		file->names_at = file->answered ? now_boottime_ns() + NAMES_BATCH_NS : 0;
	*file->last = frame;
	file->last = &frame->next;
	file->n_waiting++;
	file_open(s, file);
	file_queue(s, file);
}

/* Frames of one stack share few files, and come one after the other. */
static struct file *file_of(struct symbols *s, uint64_t number)
{
	if (number <= STACK_LAST)
		return NULL;
	if (!s->last_file || s->last_file->node.key != number)
		s->last_file = file_find(s, number);
	if (s->last_file)
		s->last_file->touched = true;
	return s->last_file;
}

/* What is known of a place now. */
struct known {
	const struct frame *frame; /* NULL: nothing yet */
	bool settled;              /* asking (again) would not better it */
};

/* What is not known, or was before there was more to know of its file, is asked for. */
static struct known look_up(struct symbols *s, struct file *file, uint64_t at)
{
	bool hopeless = file->unreadable || s->control < 0;
	struct frame *frame;

	if (file->perf_map)
		file_refresh(s, file, now_boottime_ns());
	if (file->gone)
		hopeless |= now_boottime_ns() < file->retry_at;
	frame = frame_find(s, file, at, false);
	if (frame)
		frame->touched = true;
	if (hopeless || (frame && frame->version == file->names_version))
		return (struct known){ frame, hopeless || !frame->until || now_boottime_ns() >= frame->until };
	if (!frame_find(s, file, at, true))
		wait_for(s, file, at);
	return (struct known){ frame, false };
}

enum symbols_state symbols_user_state(struct symbols *s, const struct stack_frame *place)
{
	struct file *file = file_of(s, place->file);
	struct known known;

	if (!file)
		return SYMBOLS_KNOWN;
	known = look_up(s, file, place->at);
	if (!known.settled)
		return known.frame && known.frame->state == FRAME_KNOWN ? SYMBOLS_OLD : SYMBOLS_ASKED;
	return known.frame && !known.frame->until ? SYMBOLS_KNOWN : SYMBOLS_NONE;
}

uint32_t symbols_generation(const struct symbols *s)
{
	return s->generation;
}

static void give_in_file(struct symbols *s, struct file *file, uint64_t at, struct symbols_frame *ret)
{
	struct known known = look_up(s, file, at);
	const struct frame *frame = known.frame;

	if (frame)
		*ret = (struct symbols_frame){
			.text = frame->text, .length = frame->length, .id = frame->id, .final = known.settled
		};
	else
		give_unknown(s, file, at, known.settled, ret);
}

void symbols_user_frame(struct symbols *s, const struct stack_frame *frame, struct symbols_frame *ret)
{
	struct file *file = file_of(s, frame->file);
	unsigned long long address = frame->at & ~UNWIND_EXACT;

	if (file)
		give_in_file(s, file, frame->at, ret);
	else if (frame->at >= VSYSCALL_BEGIN)
		give(s, ret, true, "0x%llx ([vsyscall])", (unsigned long long)frame->at);
	else if (frame->file == STACK_COMPAT)
		give(s, ret, true, "[32-bit program]");
	else if (frame->file == STACK_BARE)
		give(s, ret, true, "0x%llx", address);
	else if (frame->file == STACK_UPROBES)
		give(s, ret, true, "0x%llx ([uprobes])", address);
	else
		give(s, ret, true, "0x%llx ([anon])", address);
}

enum symbols_code symbols_user_code(struct symbols *s, const struct stack_frame *frame)
{
	struct file *file = file_of(s, frame->file);

	if (!file)
		return frame->file == STACK_ANONYMOUS && frame->at < VSYSCALL_BEGIN ? SYMBOLS_CODE_ANONYMOUS
										    : SYMBOLS_CODE_USUAL;
	if (file->perf_map) /* gone: the process has no map that names its code */
		return file->gone && !frame_find(s, file, frame->at, false) ? SYMBOLS_CODE_ANONYMOUS
									    : SYMBOLS_CODE_USUAL;
	return strncmp(file->path, "/memfd:", 7) ? SYMBOLS_CODE_USUAL : SYMBOLS_CODE_NAMELESS;
}

/* ---- the kernel's ---- */

void frames_take_kernel(struct symbols *s, struct reader_job *job)
{
	s->kernel_reading = false;
	s->kernel_read = true;
	if (job->status < 0)
		return;
	kernel_table_free(s->kernel);
	s->kernel = job->kernel;
	job->kernel = NULL;
}

static void read_kernel(struct symbols *s)
{
	struct reader_job *job = reader_new_job(s->slow_reader, READER_KERNEL, NULL);

	if (!job)
		return;
	s->kernel_at = now_boottime_ns() + KERNEL_REREAD_NS;
	job->fd = fcntl(s->kallsyms, F_DUPFD_CLOEXEC, 3);
	s->kernel_reading = symbols_submit(s, s->slow_reader, job);
}

enum symbols_state symbols_kernel_state(struct symbols *s)
{
	if (!s->kernel && !s->kernel_reading && s->kallsyms >= 0 && now_boottime_ns() >= s->kernel_at)
		read_kernel(s);
	return s->kernel ? SYMBOLS_KNOWN : s->kernel_read || s->kallsyms < 0 ? SYMBOLS_NONE : SYMBOLS_ASKED;
}

void symbols_kernel_frame(struct symbols *s, uint64_t address, bool caller, struct symbols_frame *ret)
{
	uint64_t delta = 0;
	const char *name = s->kernel ? kernel_table_find(s->kernel, address - caller, &delta) : NULL;

	if (name) {
		give(s, ret, true, "%s+0x%llx ([k])", name, (unsigned long long)delta + caller);
		return;
	}
	/* Read at first, and again when a module may have come. */
	if (!s->kernel_reading && s->kallsyms >= 0 && now_boottime_ns() >= s->kernel_at)
		read_kernel(s);
	give(s, ret, s->kernel_read || s->kallsyms < 0, "0x%llx ([k])", (unsigned long long)address);
}
