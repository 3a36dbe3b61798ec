/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From records to text, JSON lines, msgpack maps back to back, or folded stacks (the input of every flame graph:
 * `comm;root;...;leaf value`, one line for each profile row).
 */
#include "output.h"

#include "encode/record.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#define BUFFER_BYTES (256u << 10)
#define FRAMES_MAX   512u

static const struct format_name {
	const char *name;
	enum output_format format;
} format_names[] = {
	{ "text", OUTPUT_TEXT }, { "json", OUTPUT_JSON }, { "msgpack", OUTPUT_MSGPACK }, { "folded", OUTPUT_FOLDED }
};

int output_format_read(enum output_format *ret, const char *name, struct fault *fault)
{
	for (size_t i = 0; i < ARRAY_SIZE(format_names); i++)
		if (strcmp(format_names[i].name, name) == 0) {
			*ret = format_names[i].format;
			return 0;
		}
	if (strcmp(name, "pprof") == 0 || strcmp(name, "pcapng") == 0)
		return fault_set(
			fault, -EINVAL,
			"--format: this version does not write %s yet; it writes text, json, msgpack and folded", name);
	return fault_set(fault, -EINVAL, "--format: '%s' is none of text, json, msgpack, folded", name);
}

static void measure(struct output *o)
{
	struct winsize size;

	if (o->columns && ioctl(fileno(o->file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		o->columns = size.ws_col;
}

void output_begin(struct output *o, FILE *file, enum output_format format)
{
	const char *terminal = getenv("TERM"), *no_colour = getenv("NO_COLOR");
	bool person = isatty(fileno(file));

	*o = (struct output){ .file = file, .format = format, .columns = person ? 80 : 0 };
	/* https://no-color.org */
	o->colour = person && terminal && strcmp(terminal, "dumb") != 0 && !(no_colour && *no_colour);
	setvbuf(file, NULL, _IOFBF, BUFFER_BYTES);
	measure(o);
}

/* A frame in one line of folded text: the separator and all that ends a line or a field are replaced. */
static void write_frame(FILE *out, const struct value *frame)
{
	for (uint32_t i = 0; i < frame->length; i++) {
		uint8_t c = frame->body[i];

		putc_unlocked(c == ';' ? ':' : c < 0x20 || c == 0x7f ? '?' : c, out);
	}
}

/* The frames of `stack`, leaf first as they come: their number, or -EBADMSG. What is behind FRAMES_MAX (the root's
 * side) is left out. */
static int read_frames(const struct value *stack, const uint8_t *end, struct value frames[FRAMES_MAX])
{
	const uint8_t *at = stack->body;
	uint32_t n = MIN_OF(stack->count, FRAMES_MAX);

	for (uint32_t i = 0; i < n; i++) {
		if (value_read(at, end, &frames[i]) < 0 || frames[i].kind != VALUE_STR)
			return -EBADMSG;
		at = frames[i].next;
	}
	return (int)n;
}

static int write_folded(FILE *out, const void *map, size_t size)
{
	const uint8_t *end = (const uint8_t *)map + size;
	struct value stack, amount, comm, frames[FRAMES_MAX];
	int n;

	errno = 0;
	if (record_get(map, size, "stack", &stack) < 0 || stack.kind != VALUE_ARRAY)
		return -EBADMSG;
	if (record_get(map, size, "value", &amount) < 0 || amount.kind != VALUE_UINT)
		return -EBADMSG;
	n = read_frames(&stack, end, frames);
	if (n < 0)
		return n;
	if (record_get(map, size, "comm", &comm) == 0 && comm.kind == VALUE_STR)
		write_frame(out, &comm);
	else
		putc_unlocked('-', out);
	while (n-- > 0) {
		putc_unlocked(';', out);
		write_frame(out, &frames[n]);
	}
	fprintf(out, " %llu\n", (unsigned long long)amount.u);
	if (ferror_unlocked(out))
		return errno ? -errno : -EIO;
	return 0;
}

static int write_record(struct output *o, const void *map, size_t size)
{
	int r;

	switch (o->format) {
	case OUTPUT_JSON:
		r = record_write_json(o->file, map, size);
		break;
	case OUTPUT_MSGPACK:
		if (value_skip(map, (const uint8_t *)map + size) != (const uint8_t *)map + size)
			return -EBADMSG;
		return fwrite_unlocked(map, 1, size, o->file) == size ? 0 : -errno;
	case OUTPUT_FOLDED:
		return write_folded(o->file, map, size);
	default:
		r = record_write_line(o->file, map, size, o->colour, o->columns);
	}
	if (r == 0 && putc_unlocked('\n', o->file) == EOF)
		return -errno;
	return r;
}

int output_record(struct output *o, const void *map, size_t size)
{
	int r = write_record(o, map, size);

	if (r == -EBADMSG) {
		o->bad++;
		return 0;
	}
	if (r == 0)
		o->written++;
	return r;
}

int output_flush(struct output *o)
{
	if (fflush_unlocked(o->file) == EOF)
		return -errno;
	measure(o);
	return 0;
}

bool output_deserted(const struct output *o)
{
	struct pollfd far = { .fd = fileno(o->file) };

	return poll(&far, 1, 0) == 1 && (far.revents & (POLLERR | POLLHUP));
}
