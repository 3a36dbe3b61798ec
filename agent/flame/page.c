/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of a page, as they lie beside this file and as the build fetched them, put together by the marks in page.html.
 * Nothing that a watched process wrote ever becomes markup: texts are in the data, and the script shows them as text. The
 * page's own policy lets run only the scripts that carry the number made for this page.
 */
#include "flame/page.h"

#include "flame/table.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Embedded by CMakeLists.txt. */
#define PART(name) extern const char flame_##name[], flame_##name##_end[]
PART(page_html);
PART(page_css);
PART(page_js);
PART(model_js);
PART(draw_js);
PART(d3_js);
PART(d3_license);
#undef PART

static const struct part {
	const char *mark, *begin, *end;
} parts[] = {
	{ "style", flame_page_css, flame_page_css_end }, { "model", flame_model_js, flame_model_js_end },
	{ "draw", flame_draw_js, flame_draw_js_end },    { "script", flame_page_js, flame_page_js_end },
	{ "d3", flame_d3_js, flame_d3_js_end },          { "d3-license", flame_d3_license, flame_d3_license_end },
};

static int write_data(FILE *out, struct page_data *data, const struct page_options *options)
{
	struct sink *sink;
	int r = sink_make(&sink, out, options->plain), end;

	if (r < 0)
		return r;
	r = page_data_write(data, options->first, sink);
	end = sink_end(sink);
	return r < 0 ? r : end;
}

struct page {
	FILE *out;
	struct page_data *data;
	const struct page_options *options;
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

/* What stands for `mark`: 0, or a negative errno. */
static int write_mark(const struct page *p, const char *mark, size_t length)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (is_mark(mark, length, parts[i].mark)) {
			write_part(p, parts[i].begin, parts[i].end);
			return 0;
		}
	if (is_mark(mark, length, "data"))
		return write_data(p->out, p->data, p->options);
	if (is_mark(mark, length, "nonce"))
		fputs(p->nonce, p->out);
	else if (is_mark(mark, length, "encoding"))
		fputs(p->options->plain ? "plain" : "gzip", p->out);
	else
		return -EINVAL;
	return 0;
}

/* Marks are {{name}}. */
static int write_template(const struct page *p)
{
	const char *at = flame_page_html, *end = flame_page_html_end, *mark, *behind;
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

int page_write(FILE *out, struct page_data *data, const struct page_options *options)
{
	struct page page = { .out = out, .data = data, .options = options };
	struct flame_secret secret;
	int r;

	flame_secret_make(&secret);
	snprintf(page.nonce, sizeof page.nonce, "%016" PRIx64 "%016" PRIx64, secret.words[0], secret.words[1]);
	errno = 0;
	r = write_template(&page);
	if (r == 0 && (ferror_unlocked(out) || fflush(out) == EOF))
		r = errno ? -errno : -EIO;
	return r;
}
