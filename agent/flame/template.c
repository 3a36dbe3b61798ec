/* SPDX-License-Identifier: Apache-2.0 */
#include "flame/template.h"

#include "flame/table.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct page {
	FILE *out;
	const struct template *template;
	char nonce[33];
};

static void write_part(const struct page *p, const char *begin, const char *end)
{
	fwrite_unlocked(begin, 1, (size_t)(end - begin), p->out);
}

static bool is_mark(const char *mark, size_t length, const char *name)
{
	return length == strlen(name) && memcmp(mark, name, length) == 0;
}

static int write_data(const struct page *p)
{
	struct sink *sink;
	int r = sink_make(&sink, p->out, p->template->plain), end;

	if (r < 0)
		return r;
	r = p->template->data(p->template->context, sink);
	end = sink_end(sink);
	return r < 0 ? r : end;
}

/* What stands for `mark`. */
static int write_mark(const struct page *p, const char *mark, size_t length)
{
	const struct template *t = p->template;

	for (size_t i = 0; i < t->n_parts; i++)
		if (is_mark(mark, length, t->parts[i].mark)) {
			write_part(p, t->parts[i].begin, t->parts[i].end);
			return 0;
		}
	if (is_mark(mark, length, "data"))
		return write_data(p);
	if (is_mark(mark, length, "nonce"))
		fputs(p->nonce, p->out);
	else if (is_mark(mark, length, "encoding"))
		fputs(t->plain ? "plain" : "gzip", p->out);
	else
		return -EINVAL;
	return 0;
}

static int write_marks(const struct page *p)
{
	const char *at = p->template->begin, *end = p->template->end, *mark, *behind;
	int r;

	while ((mark = memmem(at, (size_t)(end - at), "{{", 2))) {
		write_part(p, at, mark);
		behind = memmem(mark, (size_t)(end - mark), "}}", 2);
		if (!behind)
			return -EINVAL;
		r = write_mark(p, mark + 2, (size_t)(behind - mark - 2));
		if (r < 0)
			return r;
		at = behind + 2;
	}
	write_part(p, at, end);
	return 0;
}

int template_write(FILE *out, const struct template *template)
{
	struct page page = { .out = out, .template = template };
	struct flame_secret secret;
	int r;

	flame_secret_make(&secret);
	snprintf(page.nonce, sizeof page.nonce, "%016" PRIx64 "%016" PRIx64, secret.words[0], secret.words[1]);
	errno = 0;
	r = write_marks(&page);
	if (r == 0 && (ferror_unlocked(out) || fflush(out) == EOF))
		r = errno ? -errno : -EIO;
	return r;
}
