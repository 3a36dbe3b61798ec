/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the page, as they lie beside this file; d3 is the one that the page of sonde flame carries. */
#include "flame/template.h"
#include "map/write.h"

/* Embedded by CMakeLists.txt, here and of flame. */
#define PART(name) extern const char name[], name##_end[]
PART(map_page_html);
PART(map_page_css);
PART(map_page_js);
PART(map_layout_js);
PART(flame_d3_js);
PART(flame_d3_license);
#undef PART

static const struct template_part parts[] = {
	{ "style", map_page_css, map_page_css_end },
	{ "layout", map_layout_js, map_layout_js_end },
	{ "script", map_page_js, map_page_js_end },
	{ "d3", flame_d3_js, flame_d3_js_end },
	{ "d3-license", flame_d3_license, flame_d3_license_end },
};

static int write_data(void *context, struct sink *sink)
{
	map_put_json(sink, context);
	return 0;
}

int map_write_page(FILE *out, const struct map_view *view, bool plain)
{
	const struct template page = { .begin = map_page_html,
				       .end = map_page_html_end,
				       .parts = parts,
				       .n_parts = ARRAY_SIZE(parts),
				       .plain = plain,
				       .data = write_data,
				       .context = (void *)view };

	return template_write(out, &page);
}
