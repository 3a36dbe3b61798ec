/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page: its parts put together by the marks in page.html, as sonde flame does. Names are in the data alone, and the
 * script shows them as text; the page's own policy lets run only the scripts that carry the number made for this page.
 */
#include "flame/table.h"
#include "map/write.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Embedded by CMakeLists.txt, here and of flame. */
#define PART(name) extern const char name[], name##_end[]
PART(map_page_html);
PART(map_page_css);
PART(map_page_js);
PART(map_layout_js);
PART(flame_d3_js);
PART(flame_d3_license);
#undef PART

static const struct part {
	const char *mark, *begin, *end;
} parts[] = {
	{ "style", map_page_css, map_page_css_end },
	{ "layout", map_layout_js, map_layout_js_end },
	{ "script", map_page_js, map_page_js_end },
	{ "d3", flame_d3_js, flame_d3_js_end },
	{ "d3-license", flame_d3_license, flame_d3_license_end },
};

struct page {
	FILE *out;
	const struct map_view *view;
	bool plain;
	char nonce[33];
};

static int write_data(const struct page *p)
{
	struct sink *sink;
	int r = sink_make(&sink, p->out, p->plain);

	if (r < 0)
		return r;
	map_put_json(sink, p->view);
	return sink_end(sink);
}

static void write_part(const struct page *p, const char *begin, const char *end)
{
	fwrite_unlocked(begin, 1, (size_t)(end - begin), p->out);
}

static bool is_mark(const char *mark, size_t length, const char *name)
{
	return length == strlen(name) && memcmp(mark, name, length) == 0;
}

static int write_mark(const struct page *p, const char *mark, size_t length)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (is_mark(mark, length, parts[i].mark)) {
			write_part(p, parts[i].begin, parts[i].end);
			return 0;
		}
	if (is_mark(mark, length, "data"))
		return write_data(p);
	if (is_mark(mark, length, "nonce"))
		fputs(p->nonce, p->out);
	else if (is_mark(mark, length, "encoding"))
		fputs(p->plain ? "plain" : "gzip", p->out);
	else
		return -EINVAL;
	return 0;
}

int map_write_page(FILE *out, const struct map_view *view, bool plain)
{
	struct page p = { .out = out, .view = view, .plain = plain };
	const char *at = map_page_html, *mark, *behind;
	struct flame_secret secret;
	int r = 0;

	flame_secret_make(&secret);
	snprintf(p.nonce, sizeof p.nonce, "%016" PRIx64 "%016" PRIx64, secret.words[0], secret.words[1]);
	errno = 0;
	while (r == 0 && (mark = memmem(at, (size_t)(map_page_html_end - at), "{{", 2))) {
		write_part(&p, at, mark);
		behind = memmem(mark, (size_t)(map_page_html_end - mark), "}}", 2);
		if (!behind)
			return -EINVAL;
		r = write_mark(&p, mark + 2, (size_t)(behind - mark - 2));
		at = behind + 2;
	}
	write_part(&p, at, map_page_html_end);
	if (r == 0 && (ferror_unlocked(out) || fflush(out) == EOF))
		r = errno ? -errno : -EIO;
	return r;
}
