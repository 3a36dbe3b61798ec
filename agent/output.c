/* SPDX-License-Identifier: Apache-2.0 */
/* From records to text, JSON lines or msgpack maps back to back; or, summed, to folded stacks or a pprof profile; or their packets. */
#include "output.h"
#include "packet_rows.h"

#include "encode/record.h"
#include "flame/folded.h"
#include "flame/pprof.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#define BUFFER_BYTES (256u << 10)
#define SUMS_BYTES   (192u << 20)
#define PACKET_BYTES (64u << 20)

static const struct format_name {
	const char *name;
	enum output_format format;
} format_names[] = {
	{ "text", OUTPUT_TEXT },     { "json", OUTPUT_JSON },   { "msgpack", OUTPUT_MSGPACK },
	{ "folded", OUTPUT_FOLDED }, { "pprof", OUTPUT_PPROF }, { "pcapng", OUTPUT_PCAPNG },
};

int output_format_read(enum output_format *ret, const char *name, struct fault *fault)
{
	for (size_t i = 0; i < ARRAY_SIZE(format_names); i++)
		if (strcmp(format_names[i].name, name) == 0) {
			*ret = format_names[i].format;
			return 0;
		}
	return fault_set(fault, -EINVAL, "--format: '%s' is none of text, json, msgpack, folded, pprof, pcapng", name);
}

static void measure(struct output *o)
{
	struct winsize size;

	if (o->columns && ioctl(fileno(o->file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		o->columns = size.ws_col;
}

int output_begin(struct output *o, FILE *file, enum output_format format)
{
	const char *terminal = getenv("TERM"), *no_colour = getenv("NO_COLOR");
	bool person = isatty(fileno(file));

	*o = (struct output){ .file = file, .format = format, .columns = person ? 80 : 0 };
	/* https://no-color.org */
	o->colour = person && terminal && strcmp(terminal, "dumb") != 0 && !(no_colour && *no_colour);
	setvbuf(file, NULL, _IOFBF, BUFFER_BYTES);
	measure(o);
	if (format == OUTPUT_FOLDED)
		return folded_make(&o->folded, file, SUMS_BYTES);
	if (format == OUTPUT_PCAPNG)
		return packet_rows_make(&o->packets, file, PACKET_BYTES);
	return format == OUTPUT_PPROF ? pprof_make(&o->pprof, SUMS_BYTES) : 0;
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
		return folded_add(o->folded, map, size);
	case OUTPUT_PPROF:
		return pprof_add(o->pprof, map, size);
	case OUTPUT_PCAPNG:
		return packet_rows_add(o->packets, map, size);
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

static int write_sums(struct output *o, struct fault *fault, struct fault *note)
{
	int r = 0;

	if (o->folded) {
		r = folded_end(o->folded);
		if (folded_note(o->folded))
			fault_set(note, 0, "%s", folded_note(o->folded));
	} else if (o->pprof) {
		r = pprof_write(o->pprof, o->file);
		if (r == -ENODATA)
			return fault_set(fault, r,
					 "no row of a profile fulfils the conditions: there is nothing to write");
		if (pprof_left_out(o->pprof))
			fault_set(note, 0,
				  "%" PRIu64
				  " rows had stacks that did not fit in memory: they are one stack that says so",
				  pprof_left_out(o->pprof));
	}
	if (r == 0 && o->packets)
		r = packet_rows_end(o->packets);
	if (r == 0)
		r = output_flush(o);
	return r < 0 ? fault_set(fault, r, "cannot write: %s", strerror(-r)) : 0;
}

int output_end(struct output *o, bool ok, struct fault *fault, struct fault *note)
{
	int r = 0;

	note->text[0] = '\0';
	if (ok)
		r = write_sums(o, fault, note);
	folded_free(o->folded);
	pprof_free(o->pprof);
	packet_rows_free(o->packets);
	o->folded = NULL;
	o->pprof = NULL;
	o->packets = NULL;
	return r;
}

static int write_to(FILE *out, int (*write)(void *context, FILE *out), void *context)
{
	int r = write(context, out);

	errno = 0;
	if (r == 0 && (fflush(out) == EOF || ferror(out)))
		r = errno ? -errno : -EIO;
	return r;
}

int output_replace(const char *path, int (*write)(void *context, FILE *out), void *context)
{
	_cleanup_(close_file) FILE *out = NULL;
	struct stat st;
	char made[4096];
	int fd, r;

	if (!path || strcmp(path, "-") == 0)
		return write_to(stdout, write, context);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		out = fopen(path, "we");
		return out ? write_to(out, write, context) : -errno;
	}
	if (snprintf(made, sizeof made, "%s.XXXXXX", path) >= (int)sizeof made)
		return -ENAMETOOLONG;
	fd = mkostemp(made, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	out = fdopen(fd, "w");
	r = out ? write_to(out, write, context) : -errno;
	if (r == 0 && (fchmod(fd, 0644) < 0 || rename(made, path) < 0))
		r = -errno;
	if (r < 0)
		unlink(made);
	if (!out)
		close(fd);
	return r;
}

bool output_deserted(const struct output *o)
{
	struct pollfd far = { .fd = fileno(o->file) };

	return poll(&far, 1, 0) == 1 && (far.revents & (POLLERR | POLLHUP));
}
