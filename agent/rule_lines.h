/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events written by hand, one JSON object a line, for trying rules: fields by name, with text, numbers, true, false, null (absent), or a list of those.
 *
 *	{"evt.type": "openat", "fd.name": "/etc/shadow", "proc.aname": ["sh", "sshd"], "expect": ["Read sensitive file"]}
 *
 * A list for a field of ancestors also answers for one of them: proc.aname[1] is the first element. `expect` names the rules that have to fire.
 */
#ifndef SONDE_RULE_LINES_H
#define SONDE_RULE_LINES_H

#include "rules/value.h"

struct rule_line; /* opaque */

/* Reads one line. -EINVAL with column and sentence. */
int rule_line_read(struct rule_line **ret, const char *text, size_t size, const char *label, struct fault *fault);
void rule_line_free(struct rule_line *line);

/* The event; it lives as long as the line. */
struct rule_event *rule_line_event(struct rule_line *line);

/* Whether the line says what it expects, and whether that names `rule`. */
bool rule_line_expects(const struct rule_line *line);
bool rule_line_expects_rule(const struct rule_line *line, const char *rule);
size_t rule_line_expected(const struct rule_line *line);

#endif
