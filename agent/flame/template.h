/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page put together by the marks in its HTML, {{name}}: parts that the build embedded, the data, and a number made for this page, which alone
 * lets scripts run. Nothing that a watched process wrote ever becomes markup: texts are in the data, and scripts show them as text.
 */
#ifndef SONDE_FLAME_TEMPLATE_H
#define SONDE_FLAME_TEMPLATE_H

#include "flame/sink.h"

struct template_part {
	const char *mark, *begin, *end;
};

struct template
{
	const char *begin, *end;
	const struct template_part *parts;
	size_t n_parts;
	bool plain; /* the data as JSON, for browsers that cannot decompress */
	int (*data)(void *context, struct sink *sink);
	void *context;
};

/* 0, -ENOMEM, -EINVAL for a mark that nothing stands for, what `data` returned, or an error of the file. */
int template_write(FILE *out, const struct template *template);

#endif
