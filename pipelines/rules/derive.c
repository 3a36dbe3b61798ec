/* SPDX-License-Identifier: Apache-2.0 */
/* Fields that are made of other ones, where the source has no answer of its own: both ends of a connection, parts of a path, notations of a time. */
#include "rules/program.h"

#include <string.h>
#include <time.h>

static bool ask(struct operand_walk *walk, uint32_t slot, struct rule_value *ret)
{
	const struct rule_ref *ref = &walk->program->refs[slot];

	*ret = (struct rule_value){ 0 };
	return walk->event->get(walk->event, ref, ret);
}

/* From here on the source is asked for `slot` instead. */
static bool answer_with(struct operand_walk *walk, uint32_t slot, struct rule_value *ret)
{
	if (!ask(walk, slot, ret))
		return false;
	walk->ref = &walk->program->refs[slot];
	return true;
}

static bool either_end(struct operand_walk *walk, struct rule_value *ret)
{
	const struct rule_ref *pair = walk->ref;

	return answer_with(walk, pair->base, ret) || answer_with(walk, pair->other, ret);
}

static bool number(struct rule_value *v, __int128 n)
{
	*v = (struct rule_value){ .kind = RULE_NUMBER, .number = n };
	return true;
}

static bool text(struct rule_value *v, const char *bytes, size_t length)
{
	*v = (struct rule_value){ .kind = RULE_TEXT, .text = bytes, .length = (uint32_t)length };
	return true;
}

/* The folder above: all in front of the last slash, which is the whole where the file lies in /. */
static bool directory(struct rule_value *v)
{
	const char *slash = v->kind == RULE_TEXT ? memrchr(v->text, '/', v->length) : NULL;

	return slash && text(v, v->text, slash == v->text ? 1 : (size_t)(slash - v->text));
}

static bool filename(struct rule_value *v)
{
	const char *slash = v->kind == RULE_TEXT ? memrchr(v->text, '/', v->length) : NULL;

	return slash && text(v, slash + 1, v->length - (size_t)(slash + 1 - v->text));
}

static const char *time_format(enum rule_derive how)
{
	switch (how) {
	case RULE_TIME_ISO:
		return "%Y-%m-%dT%H:%M:%S";
	case RULE_DATETIME:
	case RULE_DATETIME_SECONDS:
		return "%Y-%m-%d %H:%M:%S";
	default:
		return "%H:%M:%S";
	}
}

static bool time_text(enum rule_derive how, char *room, struct rule_value *v)
{
	bool nanoseconds = how != RULE_TIME_SECONDS && how != RULE_DATETIME_SECONDS;
	const unsigned long long second = NS_PER_SEC;
	struct tm parts;
	time_t seconds;
	size_t used;

	if (v->kind != RULE_NUMBER || v->number < 0 || v->number > INT64_MAX)
		return false;
	seconds = (time_t)((uint64_t)v->number / second);
	if (!(how == RULE_TIME_ISO ? gmtime_r(&seconds, &parts) : localtime_r(&seconds, &parts)))
		return false;
	used = strftime(room, RULE_ROOM, time_format(how), &parts);
	if (nanoseconds)
		used += (size_t)sprintf(room + used, ".%09llu", (unsigned long long)((uint64_t)v->number % second));
	if (how == RULE_TIME_ISO)
		used += (size_t)sprintf(room + used, "+0000");
	return text(v, room, used);
}

static bool is_type(const struct rule_ref *ref, struct rule_value *v)
{
	if (v->kind != RULE_TEXT || !ref->argument)
		return false;
	return number(v, strlen(ref->argument) == v->length && memcmp(ref->argument, v->text, v->length) == 0);
}

bool rule_derive(struct operand_walk *walk, struct rule_value *ret)
{
	const struct rule_ref *ref = walk->ref;
	enum rule_derive how = ref->field->derive;

	if (how == RULE_PAIR)
		return either_end(walk, ret);
	if (how == RULE_SAME)
		return answer_with(walk, ref->base, ret);
	if (!ask(walk, ref->base, ret))
		return false;
	switch (how) {
	case RULE_SECONDS:
	case RULE_NANOSECONDS:
		return ret->kind == RULE_NUMBER &&
		       number(ret, how == RULE_SECONDS ? ret->number / (__int128)NS_PER_SEC
						       : ret->number % (__int128)NS_PER_SEC);
	case RULE_DIRECTORY:
		return directory(ret);
	case RULE_FILENAME:
		return filename(ret);
	case RULE_IS_TYPE:
		return is_type(ref, ret);
	case RULE_FAILED:
		if (ret->kind != RULE_NUMBER)
			return false;
		*ret = (struct rule_value){ .kind = RULE_TRUTH, .truth = ret->number < 0 };
		return true;
	default:
		return time_text(how, walk->room, ret);
	}
}

/* Behind the client's end of a connection comes the server's. */
bool rule_derive_next(struct operand_walk *walk, struct rule_value *value)
{
	const struct rule_ref *asked = &walk->program->refs[walk->operand->ref];

	if (asked->base == RULE_NO_REF || asked->field->derive != RULE_PAIR ||
	    walk->ref != &walk->program->refs[asked->base])
		return false;
	return answer_with(walk, asked->other, value);
}
