/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the page, as they lie beside this file and as the build fetched them. */
#include "flame/page.h"

#include "flame/template.h"

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

static const struct template_part parts[] = {
	{ "style", flame_page_css, flame_page_css_end }, { "model", flame_model_js, flame_model_js_end },
	{ "draw", flame_draw_js, flame_draw_js_end },    { "script", flame_page_js, flame_page_js_end },
	{ "d3", flame_d3_js, flame_d3_js_end },          { "d3-license", flame_d3_license, flame_d3_license_end },
};

struct writing {
	struct page_data *data;
	const struct page_options *options;
};

static int write_data(void *context, struct sink *sink)
{
	const struct writing *w = context;

	return page_data_write(w->data, w->options->first, sink);
}

int page_write(FILE *out, struct page_data *data, const struct page_options *options)
{
	struct writing writing = { data, options };
	const struct template page = { .begin = flame_page_html,
				       .end = flame_page_html_end,
				       .parts = parts,
				       .n_parts = ARRAY_SIZE(parts),
				       .plain = options->plain,
				       .data = write_data,
				       .context = &writing };

	return template_write(out, &page);
}
