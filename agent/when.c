/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moments, read strictly: every notation must use up the whole text, so nothing is half understood.
 * RFC 3339, section 5.6; a space may stand for the T.
 */
#include "when.h"

#include "base/base.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>

/* Exactly `n` digits at *at, which moves behind them; -1 for anything else. */
static int take_digits(const char **at, int n)
{
	int value = 0;

	for (; n > 0; n--) {
		if (!isdigit((unsigned char)**at))
			return -1;
		value = value * 10 + (*(*at)++ - '0');
	}
	return value;
}

static bool take_char(const char **at, const char *chars)
{
	if (!**at || !strchr(chars, **at))
		return false;
	(*at)++;
	return true;
}

/* ".25" and the like, in nanoseconds; digits behind the ninth are read over. No point: 0. */
static int take_fraction(const char **at, uint64_t *ret_ns)
{
	uint64_t unit = NS_PER_SEC;

	*ret_ns = 0;
	if (!take_char(at, "."))
		return 0;
	if (!isdigit((unsigned char)**at))
		return -EINVAL;
	while (isdigit((unsigned char)**at)) {
		unit /= 10;
		*ret_ns += unit * (uint64_t)(*(*at)++ - '0');
	}
	return 0;
}

static int to_ns(int64_t seconds, uint64_t fraction, uint64_t *ret_ns)
{
	uint64_t ns;

	if (seconds < 0 || __builtin_mul_overflow((uint64_t)seconds, NS_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, fraction, &ns))
		return -ERANGE;
	*ret_ns = ns;
	return 0;
}

static int take_day(const char **at, struct tm *tm)
{
	int year = take_digits(at, 4), month, day;

	if (year < 0 || !take_char(at, "-"))
		return -EINVAL;
	month = take_digits(at, 2);
	if (month < 1 || month > 12 || !take_char(at, "-"))
		return -EINVAL;
	day = take_digits(at, 2);
	if (day < 1 || day > 31)
		return -EINVAL;
	*tm = (struct tm){ .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_isdst = -1 };
	return 0;
}

static int take_clock(const char **at, struct tm *tm, uint64_t *ret_fraction)
{
	tm->tm_hour = take_digits(at, 2);
	if (tm->tm_hour < 0 || tm->tm_hour > 23 || !take_char(at, ":"))
		return -EINVAL;
	tm->tm_min = take_digits(at, 2);
	if (tm->tm_min < 0 || tm->tm_min > 59 || !take_char(at, ":"))
		return -EINVAL;
	tm->tm_sec = take_digits(at, 2);
	if (tm->tm_sec < 0 || tm->tm_sec > 60)
		return -EINVAL;
	return take_fraction(at, ret_fraction);
}

/* "Z", "+01:00" or nothing; *ret_zoned tells which. */
static int take_zone(const char **at, bool *ret_zoned, int64_t *ret_offset)
{
	int hours, minutes;
	char sign;

	*ret_offset = 0;
	*ret_zoned = true;
	if (take_char(at, "Zz"))
		return 0;
	sign = **at;
	if (!take_char(at, "+-")) {
		*ret_zoned = false;
		return 0;
	}
	hours = take_digits(at, 2);
	if (hours < 0 || hours > 23 || !take_char(at, ":"))
		return -EINVAL;
	minutes = take_digits(at, 2);
	if (minutes < 0 || minutes > 59)
		return -EINVAL;
	*ret_offset = (sign == '-' ? -1 : 1) * (int64_t)(hours * 3600 + minutes * 60);
	return 0;
}

static int parse_date(const char *at, uint64_t *ret_ns)
{
	uint64_t fraction = 0;
	int64_t offset = 0;
	bool zoned = false;
	struct tm tm, made;
	time_t seconds;

	if (take_day(&at, &tm) < 0)
		return -EINVAL;
	if (*at &&
	    (!take_char(&at, "Tt ") || take_clock(&at, &tm, &fraction) < 0 || take_zone(&at, &zoned, &offset) < 0))
		return -EINVAL;
	if (*at)
		return -EINVAL;
	made = tm;
	seconds = zoned ? timegm(&made) : mktime(&made);
	/* The 31st of a shorter month is read as a day of the next: no such day was meant. */
	if (made.tm_mday != tm.tm_mday && tm.tm_sec < 60)
		return -EINVAL;
	return to_ns((int64_t)seconds - offset, fraction, ret_ns);
}

static int parse_epoch(const char *at, uint64_t *ret_ns)
{
	uint64_t fraction;
	int64_t seconds = 0;

	if (!isdigit((unsigned char)*at))
		return -EINVAL;
	while (isdigit((unsigned char)*at))
		if (__builtin_mul_overflow(seconds, 10, &seconds) ||
		    __builtin_add_overflow(seconds, *at++ - '0', &seconds))
			return -ERANGE;
	if (take_fraction(&at, &fraction) < 0 || *at)
		return -EINVAL;
	return to_ns(seconds, fraction, ret_ns);
}

int parse_when(const char *text, uint64_t now, uint64_t *ret_ns)
{
	uint64_t ago;
	int r;

	r = parse_epoch(text, ret_ns);
	if (r != -EINVAL)
		return r;
	r = parse_duration(text, &ago);
	if (r == -EINVAL)
		return parse_date(text, ret_ns);
	if (r < 0 || ago > now)
		return -ERANGE;
	*ret_ns = now - ago;
	return 0;
}
