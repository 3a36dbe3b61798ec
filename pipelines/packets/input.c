/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left in the window moves to its front before more is read behind it, so a record is always in one piece. The window
 * grows only for a record larger than it.
 */
#include "packets/input.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define WINDOW_BYTES (1u << 20)
#define PACKED_BYTES (128u << 10)

struct inflate {
	z_stream stream;
	bool file_over;
	uint8_t packed[PACKED_BYTES];
};

/* Makes room for `room` bytes from `at` on. */
static int grow(struct input *in, size_t room)
{
	size_t used = (size_t)(in->end - in->at);
	uint8_t *buffer;

	if (in->at > in->buffer) {
		in->base += (uint64_t)(in->at - in->buffer);
		memmove(in->buffer, in->at, used);
		in->at = in->buffer;
		in->end = in->at + used;
	}
	if (room <= in->room)
		return 0;
	buffer = realloc(in->buffer, room);
	if (!buffer)
		return -ENOMEM;
	in->buffer = in->at = buffer;
	in->end = buffer + used;
	in->room = room;
	return 0;
}

static ssize_t read_file(struct input *in, void *to, size_t room)
{
	ssize_t n;

	do
		n = in->fd < 0 ? 0 : read(in->fd, to, room);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		in->consumed += (uint64_t)n;
	return n < 0 ? -errno : n;
}

/* Several gzip members may follow each other; what else follows is left, as gzip does. */
static int next_member(struct inflate *z)
{
	static const uint8_t magic[2] = { 0x1f, 0x8b };

	if (z->stream.avail_in < 2 || memcmp(z->stream.next_in, magic, 2))
		return 0;
	return inflateReset(&z->stream) == Z_OK;
}

/* Bytes unpacked, 0 at the end, or a negative errno. */
static ssize_t read_packed(struct input *in, void *to, size_t room)
{
	struct inflate *z = in->inflate;

	z->stream.next_out = to;
	z->stream.avail_out = (unsigned)room;
	while (z->stream.avail_out == room) {
		int r;

		if (z->stream.avail_in < 2 && !z->file_over) {
			ssize_t n;

			memmove(z->packed, z->stream.next_in, z->stream.avail_in);
			z->stream.next_in = z->packed;
			n = read_file(in, z->packed + z->stream.avail_in, PACKED_BYTES - z->stream.avail_in);
			if (n < 0)
				return n;
			z->file_over = n == 0;
			z->stream.avail_in += (unsigned)n;
			continue;
		}
		r = inflate(&z->stream, Z_NO_FLUSH);
		if (r == Z_STREAM_END) {
			if (z->stream.avail_out < room)
				break;
			if (!next_member(z))
				return 0;
		} else if (r != Z_OK || (z->file_over && !z->stream.avail_in && z->stream.avail_out == room)) {
			return -EBADMSG;
		}
	}
	return (ssize_t)(room - z->stream.avail_out);
}

bool input_fill(struct input *in, size_t size)
{
	if (size > INPUT_PEEK_MAX)
		return false;
	if ((size_t)(in->buffer + in->room - in->at) < size || in->at == in->end) {
		int r = grow(in, MAX_OF(in->room, size + WINDOW_BYTES / 4));

		if (r < 0) {
			in->error = r;
			return false;
		}
	}
	while ((size_t)(in->end - in->at) < size && !in->over) {
		size_t room = (size_t)(in->buffer + in->room - in->end);
		ssize_t n = in->inflate ? read_packed(in, in->end, room) : read_file(in, in->end, room);

		if (n <= 0) {
			in->over = true;
			in->error = (int)n;
		} else {
			in->end += n;
		}
	}
	return (size_t)(in->end - in->at) >= size;
}

bool input_skip(struct input *in, uint64_t size)
{
	while (size) {
		size_t there = (size_t)(in->end - in->at);

		if (!there && !input_fill(in, 1))
			return false;
		there = (size_t)MIN_OF((uint64_t)(in->end - in->at), size);
		in->at += there;
		size -= there;
	}
	return true;
}

/* What was read so far is the begin of the packed bytes. */
static int begin_inflate(struct input *in)
{
	struct inflate *z = calloc(1, sizeof *z);
	size_t n = MIN_OF((size_t)(in->end - in->at), PACKED_BYTES);

	if (!z)
		return -ENOMEM;
	if (inflateInit2(&z->stream, 15 + 16) != Z_OK) {
		free(z);
		return -ENOMEM;
	}
	memcpy(z->packed, in->at, n);
	z->stream.next_in = z->packed;
	z->stream.avail_in = (unsigned)n;
	z->file_over = in->over;
	in->inflate = z;
	in->end = in->at = in->buffer;
	in->over = false;
	in->error = 0;
	return 0;
}

static int begin(struct input *in)
{
	in->buffer = in->at = in->end = malloc(WINDOW_BYTES);
	if (!in->buffer)
		return -ENOMEM;
	in->room = WINDOW_BYTES;
	return 0;
}

/* The first reads are no larger than what the unpacker takes over. */
static int look_for_gzip(struct input *in)
{
	while (in->end - in->at < 2 && !in->over) {
		ssize_t n = read_file(in, in->end, PACKED_BYTES - (size_t)(in->end - in->at));

		in->over = n <= 0;
		in->error = n < 0 ? (int)n : 0;
		in->end += MAX_OF(n, 0);
	}
	if (in->end - in->at >= 2 && in->at[0] == 0x1f && in->at[1] == 0x8b)
		return begin_inflate(in);
	return 0;
}

int input_open_bytes(struct input *ret, const void *bytes, size_t size)
{
	struct input in = { .fd = -1, .size = size };
	int r = begin(&in);

	if (r == 0 && size > in.room)
		r = grow(&in, size);
	if (r < 0) {
		input_close(&in);
		return r;
	}
	memcpy(in.buffer, bytes, size);
	in.end = in.buffer + size;
	in.consumed = size;
	if (size >= 2 && size <= PACKED_BYTES && in.at[0] == 0x1f && in.at[1] == 0x8b)
		r = begin_inflate(&in);
	*ret = in;
	return r;
}

int input_open(struct input *ret, const char *path, struct fault *fault)
{
	struct input in = { .fd = STDIN_FILENO };
	struct stat st;
	int r = 0;

	if (strcmp(path, "-")) {
		in.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (in.fd < 0)
			return fault_set(fault, -errno, "%s: %s", path, strerror(errno));
	}
	if (fstat(in.fd, &st) == 0 && S_ISREG(st.st_mode))
		in.size = (uint64_t)st.st_size;
	if (S_ISDIR(st.st_mode))
		r = -EISDIR;
	if (r == 0)
		r = begin(&in);
	if (r == 0)
		r = look_for_gzip(&in);
	if (r < 0) {
		input_close(&in);
		return fault_set(fault, r, "%s: %s", path, strerror(-r));
	}
	*ret = in;
	return 0;
}

void input_close(struct input *in)
{
	if (in->inflate)
		inflateEnd(&in->inflate->stream);
	free(in->inflate);
	free(in->buffer);
	if (in->fd > STDIN_FILENO)
		close(in->fd);
	*in = (struct input){ .fd = -1 };
}
