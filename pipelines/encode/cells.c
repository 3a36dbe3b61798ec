/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cells: text, its width, and the one place where hostile text becomes harmless.
 *
 * Invariants: the visible width never exceeds `columns`; escape sequences are written by cells_colour() alone.
 */
#include "encode/cells.h"

#include <stdarg.h>
#include <time.h>

void cells_begin(struct cells *cells, bool colour, unsigned columns)
{
	text_begin(&cells->text);
	cells->column = 0;
	cells->columns = columns;
	cells->mark = 0;
	cells->colour = colour;
	cells->cut = cells->marked = false;
}

int cells_write(struct cells *cells, FILE *out)
{
	if (cells->cut && cells->colour)
		text_put(&cells->text, "\033[0m", 4);
	return text_write(&cells->text, out);
}

void cells_put(struct cells *cells, const void *bytes, size_t size, unsigned width)
{
	if (cells->cut)
		return;
	if (cells->columns && !cells->marked && cells->column + width > cells->columns - 1) {
		cells->marked = true;
		cells->mark = cells->text.size;
	}
	if (cells->columns && cells->column + width > cells->columns) {
		cells->text.size = cells->mark;
		text_put(&cells->text, "\u2026", 3);
		cells->cut = true;
		return;
	}
	text_put(&cells->text, bytes, size);
	cells->column += width;
}

void cells_ascii(struct cells *cells, const char *s)
{
	size_t length = strlen(s);

	if (!cells->columns || cells->column + length < cells->columns) {
		cells_put(cells, s, length, (unsigned)length);
		return;
	}
	for (; *s; s++)
		cells_put(cells, s, 1, 1);
}

void cells_format(struct cells *cells, const char *format, ...)
{
	char room[128];
	va_list args;

	va_start(args, format);
	vsnprintf(room, sizeof room, format, args);
	va_end(args);
	cells_ascii(cells, room);
}

void cells_colour(struct cells *cells, const char *code)
{
	if (!cells->colour || cells->cut)
		return;
	text_put(&cells->text, "\033[", 2);
	text_string(&cells->text, code);
	text_char(&cells->text, 'm');
}

void cells_plain(struct cells *cells)
{
	cells_colour(cells, "0");
}

/* East Asian wide and emoji blocks (Unicode, UAX 11), coarse: an error is a column, never a byte. */
static unsigned width_of(int32_t c)
{
	static const int32_t wide[][2] = { { 0x1100, 0x115f }, { 0x2e80, 0xa4cf },   { 0xac00, 0xd7a3 },
					   { 0xf900, 0xfaff }, { 0xfe30, 0xfe6f },   { 0xff00, 0xff60 },
					   { 0xffe0, 0xffe6 }, { 0x1f300, 0x1faff }, { 0x20000, 0x3fffd } };

	for (size_t i = 0; i < ARRAY_SIZE(wide); i++)
		if (c >= wide[i][0] && c <= wide[i][1])
			return 2;
	return 1;
}

/* Controls, and what reorders or hides the text around it. */
static bool is_hostile(int32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
	       (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff);
}

static void put_escaped(struct cells *cells, int32_t c)
{
	if (c == '\n')
		cells_ascii(cells, "\\n");
	else if (c == '\t')
		cells_ascii(cells, "\\t");
	else if (c == '\r')
		cells_ascii(cells, "\\r");
	else if (c < 0x80)
		cells_format(cells, "\\x%02x", (unsigned)c);
	else
		cells_format(cells, "\\u{%x}", (unsigned)c);
}

/* Adds the letters, digits and signs at `at` that need no care and fit the line for sure; false when there are none. */
static bool plain_run(struct cells *cells, const uint8_t *at, const uint8_t *end, unsigned *ret_length)
{
	size_t most = MIN_OF((size_t)(end - at), (size_t)4096), n = 0;

	if (cells->columns)
		most = cells->column + 1 < cells->columns ? MIN_OF(most, (size_t)(cells->columns - cells->column - 1))
							  : 0;
	while (n < most && at[n] >= 0x20 && at[n] < 0x7f && at[n] != '"' && at[n] != '\\')
		n++;
	*ret_length = (unsigned)n;
	if (n)
		cells_put(cells, at, n, (unsigned)n);
	return n > 0;
}

void cells_text(struct cells *cells, const uint8_t *at, size_t size, bool quoted)
{
	const uint8_t *end = at + size;
	unsigned length;

	for (; at < end && !cells->cut; at += length) {
		if (plain_run(cells, at, end, &length))
			continue;

		int32_t c = utf8_next(at, end, &length);

		if (c < 0) {
			for (unsigned i = 0; i < length; i++)
				cells_format(cells, "\\x%02x", at[i]);
		} else if (is_hostile(c)) {
			put_escaped(cells, c);
		} else {
			if (quoted && (c == '"' || c == '\\'))
				cells_ascii(cells, "\\");
			cells_put(cells, at, length, width_of(c));
		}
	}
}

void cells_word(struct cells *cells, const uint8_t *at, size_t size)
{
	bool plain = size > 0;

	for (size_t i = 0; i < size && plain; i++)
		plain = at[i] > 0x20 && at[i] != 0x7f && !strchr("\"'\\$`;&|<>(){}*?#~!", at[i]);
	if (!plain)
		cells_ascii(cells, "\"");
	cells_text(cells, at, size, !plain);
	if (!plain)
		cells_ascii(cells, "\"");
}

/* Three digits that count, then the unit: 412 µs, 1.25 s, 3.4 MiB. */
static void put_scaled(struct cells *cells, double value, const char *unit)
{
	cells_format(cells, "%.*f ", value >= 99.95 || value == 0 ? 0 : value >= 9.995 ? 1 : 2, value);
	if (unit[0] == 'u' && unit[1] == 's')
		cells_put(cells, "\u00b5s", 3, 2);
	else
		cells_ascii(cells, unit);
}

void cells_duration(struct cells *cells, uint64_t ns)
{
	uint64_t s = ns / NS_PER_SEC;

	if (ns < 1000)
		cells_format(cells, "%u ns", (unsigned)ns);
	else if (ns < 999500)
		put_scaled(cells, (double)ns / 1e3, "us");
	else if (ns < 999500000)
		put_scaled(cells, (double)ns / 1e6, "ms");
	else if (s < 120)
		put_scaled(cells, (double)ns / 1e9, "s");
	else if (s < 7200)
		cells_format(cells, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
	else if (s < 48 * 3600)
		cells_format(cells, "%uh%02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
	else
		cells_format(cells, "%llud%02uh", (unsigned long long)(s / 86400), (unsigned)(s / 3600 % 24));
}

void cells_size(struct cells *cells, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 1023.5 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	if (unit == 0)
		cells_format(cells, "%u B", (unsigned)bytes);
	else
		put_scaled(cells, value, units[unit]);
}

void cells_time(struct cells *cells, uint64_t ns)
{
	time_t seconds = (time_t)(ns / NS_PER_SEC);
	uint64_t now = now_realtime_ns(), apart = now > ns ? now - ns : ns - now;
	char room[64];
	struct tm tm;

	if (!localtime_r(&seconds, &tm))
		return cells_format(cells, "%llu", (unsigned long long)ns);
	strftime(room, sizeof room, apart > 12 * 3600 * NS_PER_SEC ? "%F %T" : "%T", &tm);
	cells_format(cells, "%s.%06u", room, (unsigned)(ns % NS_PER_SEC / 1000));
}
