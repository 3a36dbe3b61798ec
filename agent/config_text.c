/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Substitution, in one pass from left to right into a bounded buffer. "file:" is recognised in what was written, before
 * the environment is put in; file names may hold ${env:NAME} (systemd's $CREDENTIALS_DIRECTORY), contents are taken as
 * they are.
 */
#include "config_text.h"

#include <errno.h>
#include <string.h>

#define NAME_MAX_BYTES 128u

struct output {
	char *text;
	size_t used;
};

static int put(struct output *out, const char *bytes, size_t size, struct fault *fault)
{
	if (size > CONFIG_TEXT_MAX - out->used)
		return fault_set(fault, -EFBIG, "is longer than 64KiB");
	memcpy(out->text + out->used, bytes, size);
	out->used += size;
	return 0;
}

static bool name_is_sound(const char *name, size_t length)
{
	if (!length || length >= NAME_MAX_BYTES || (name[0] >= '0' && name[0] <= '9'))
		return false;
	return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") >= length;
}

/* What lies between "${" and "}". */
static int put_reference(struct output *out, const char *inner, size_t length, struct fault *fault)
{
	char name[NAME_MAX_BYTES];

	if (length < 4 || memcmp(inner, "env:", 4))
		return fault_set(fault, -EINVAL,
				 "holds '${' without env:; expected ${env:NAME}, or $${ for a plain ${");
	inner += 4;
	length -= 4;

	const char *fallback = memmem(inner, length, ":-", 2);
	size_t name_length = fallback ? (size_t)(fallback - inner) : length;

	if (!name_is_sound(inner, name_length))
		return fault_set(fault, -EINVAL, "holds ${env:} without a proper name; expected ${env:NAME}");
	memcpy(name, inner, name_length);
	name[name_length] = '\0';

	const char *value = getenv(name);

	if (value)
		return put(out, value, strlen(value), fault);
	if (fallback)
		return put(out, fallback + 2, length - name_length - 2, fault);
	return fault_set(fault, -ENOENT,
			 "needs the environment variable %s, which is not set; set it, or write ${env:%s:-default}",
			 name, name);
}

static int substitute(const char *text, struct output *out, struct fault *fault)
{
	while (*text) {
		const char *mark = strstr(text, "${");
		size_t before = mark ? (size_t)(mark - text) : strlen(text);
		bool plain = mark && mark > text && mark[-1] == '$';
		int r = put(out, text, before - plain, fault);

		if (r < 0 || !mark)
			return r;

		const char *end = plain ? mark + 1 : strchr(mark, '}');

		if (!end)
			return fault_set(fault, -EINVAL, "holds '${' without its '}'");
		r = plain ? put(out, "${", 2, fault) : put_reference(out, mark + 2, (size_t)(end - mark - 2), fault);
		if (r < 0)
			return r;
		text = end + 1;
	}
	return 0;
}

static int read_value(const char *path, char **ret, struct fault *fault)
{
	_cleanup_(free_pointer) char *text = NULL;
	size_t size;

	if (*path != '/')
		return fault_set(fault, -EINVAL, "needs an absolute path after file:");

	int r = read_small_file(path, CONFIG_TEXT_MAX, &text, &size);

	if (r == -EFBIG)
		return fault_set(fault, r, "is to be read from %s, which is larger than 64KiB", path);
	if (r < 0)
		return fault_set(fault, r, "cannot be read from %s: %s", path, strerror(-r));
	if (memchr(text, '\0', size))
		return fault_set(fault, -EINVAL, "is to be read from %s, which is not text: it holds a NUL", path);
	if (size && text[size - 1] == '\n')
		text[--size] = '\0';
	if (size && text[size - 1] == '\r')
		text[--size] = '\0';
	*ret = text;
	text = NULL;
	return 0;
}

int config_text_resolve(const char *text, bool files, char **ret, struct fault *fault)
{
	_cleanup_(free_pointer) char *room = malloc(CONFIG_TEXT_MAX + 1);
	struct output out = { .text = room };
	int r;

	if (!room)
		return fault_set(fault, -ENOMEM, "cannot be kept: out of memory");
	r = substitute(text, &out, fault);
	if (r < 0)
		return r;
	room[out.used] = '\0';
	if (files && !strncmp(text, "file:", 5))
		return read_value(room + 5, ret, fault);
	*ret = strndup(room, out.used);
	return *ret ? 0 : fault_set(fault, -ENOMEM, "cannot be kept: out of memory");
}
