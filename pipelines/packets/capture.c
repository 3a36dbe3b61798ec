/* SPDX-License-Identifier: Apache-2.0 */
#include "packets/capture_state.h"

#include <inttypes.h>
#include <stdarg.h>

int capture_fail(struct capture *c, int error, uint64_t offset, const char *format, ...)
{
	char text[256];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	c->failed = fault_set(&c->fault, error, "%.200s: at byte %" PRIu64 "%s: %s", c->path, offset,
			      c->input.inflate ? " (unpacked)" : "", text);
	return c->failed;
}

int capture_cut(struct capture *c, uint64_t offset, const char *what)
{
	if (c->input.error == -EBADMSG)
		return capture_fail(c, -EBADMSG, input_offset(&c->input) + (uint64_t)(c->input.end - c->input.at),
				    "the gzip data are damaged");
	if (c->input.error < 0)
		return capture_fail(c, c->input.error, offset, "cannot be read on: %s", strerror(-c->input.error));
	return capture_fail(c, -ENODATA, offset, "the file ends within %s", what);
}

static int find_format(struct capture *c)
{
	int r = 0;

	if (input_has(&c->input, 4)) {
		r = pcap_begin(c);
		if (r == 0)
			r = pcapng_begin(c);
	} else if (c->input.error < 0) {
		return capture_cut(c, 0, "");
	}
	if (r == 0)
		return capture_fail(c, -EINVAL, 0, "this is neither pcap nor pcapng");
	return r < 0 ? r : 0;
}

static int begin(struct capture **ret, struct input *input, const char *path, struct fault *fault)
{
	struct capture *c = calloc(1, sizeof *c);
	int r;

	if (c)
		c->path = strdup(strcmp(path, "-") ? path : "standard input");
	if (!c || !c->path) {
		free(c);
		input_close(input);
		return fault_set(fault, -ENOMEM, "out of memory");
	}
	c->input = *input;
	r = find_format(c);
	if (r < 0) {
		if (fault)
			*fault = c->fault;
		capture_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

int capture_open(struct capture **ret, const char *path, struct fault *fault)
{
	struct input input;
	int r = input_open(&input, path, fault);

	return r < 0 ? r : begin(ret, &input, path, fault);
}

int capture_open_bytes(struct capture **ret, const void *bytes, size_t size, struct fault *fault)
{
	struct input input;
	int r = input_open_bytes(&input, bytes, size);

	return r < 0 ? fault_set(fault, r, "out of memory") : begin(ret, &input, "bytes", fault);
}

void capture_close(struct capture *c)
{
	if (!c)
		return;
	input_close(&c->input);
	free(c->interfaces);
	free(c->path);
	free(c);
}

int capture_next(struct capture *c, struct frame *ret, struct fault *fault)
{
	int r = c->failed < 0 ? c->failed : c->next(c, ret);

	if (r < 0 && fault)
		*fault = c->fault;
	return r;
}

uint64_t capture_done(const struct capture *c)
{
	return c->input.consumed;
}

uint64_t capture_size(const struct capture *c)
{
	return c->input.size;
}

const char *capture_format(const struct capture *c)
{
	return c->format;
}
