/* SPDX-License-Identifier: Apache-2.0 */
#include "incident/write.h"

#include "encode/cells.h"
#include "encode/pack.h"
#include "encode/record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define INDENT_MAX 24u /* generations that are set off; those below stand under each other */

static void put_name(struct cells *c, const struct execution *e)
{
	cells_text(c, (const uint8_t *)(e->comm[0] ? e->comm : "?"),
		   strnlen(e->comm[0] ? e->comm : "?", sizeof e->comm), false);
	if (e->pid)
		cells_format(c, "[%" PRIu32 "]", e->pid);
}

int incident_write_head(FILE *out, const struct tree *tree, const struct execution *root, struct incident_style style)
{
	struct execution *lineage[TREE_LINEAGE];
	unsigned n = tree_lineage(tree, root, lineage, TREE_LINEAGE);
	struct cells c;

	cells_begin(&c, style.colour, style.columns);
	while (n--) {
		put_name(&c, lineage[n]);
		cells_ascii(&c, " > ");
	}
	cells_colour(&c, CELLS_BOLD);
	put_name(&c, root);
	cells_plain(&c);
	cells_format(&c, " proc %016" PRIx64, root->proc);
	if (root->container[0])
		cells_format(&c, " container %s", root->container);
	cells_ascii(&c, "\n\n");
	return cells_write(&c, out);
}

static void put_end(struct cells *c, const struct execution *e)
{
	if (e->signal)
		cells_format(c, "  signal %" PRIu32, e->signal);
	else if (e->ended)
		cells_format(c, "  exit %" PRIu32, e->exit_code);
	if (e->run_ns) {
		cells_ascii(c, "  lived ");
		cells_duration(c, e->run_ns);
	}
	if (e->cpu_ns) {
		cells_ascii(c, "  cpu ");
		cells_duration(c, e->cpu_ns);
	}
}

/* One column for each generation above but the first: a line where it has younger ones. */
static void put_branches(struct cells *c, const struct execution *e, unsigned depth)
{
	const struct execution *above[INDENT_MAX];
	unsigned n = 0;

	for (e = e->above; e && depth-- > 1 && n < INDENT_MAX; e = e->above)
		above[n++] = e;
	while (n--)
		if (above[n]->next_below)
			cells_put(c, "│  ", sizeof "│  " - 1, 3);
		else
			cells_ascii(c, "   ");
}

static int write_one(FILE *out, const struct execution *e, unsigned depth, bool root, struct incident_style style)
{
	struct cells c;

	cells_begin(&c, style.colour, style.columns);
	put_branches(&c, e, depth);
	if (depth)
		cells_put(&c, e->next_below ? "├─ " : "└─ ", sizeof "└─ " - 1, 3);
	if (root)
		cells_colour(&c, CELLS_BOLD);
	put_name(&c, e);
	cells_plain(&c);
	if (e->command[0]) {
		cells_ascii(&c, "  ");
		cells_text(&c, (const uint8_t *)e->command, strlen(e->command), false);
	}
	cells_colour(&c, CELLS_DIM);
	put_end(&c, e);
	cells_plain(&c);
	if (e->alerts) {
		cells_colour(&c, CELLS_RED);
		cells_format(&c, "  %" PRIu64 " alert%s", e->alerts, e->alerts == 1 ? "" : "s");
		cells_plain(&c);
	}
	cells_ascii(&c, "\n");
	return cells_write(&c, out);
}

/* A process between its fork and the program that it then ran: nothing is said of it that the next line does not say. */
static bool is_passage(const struct execution *e)
{
	const struct execution *next = e->next_below;

	if (!e->pid || e->below || e->command[0] || e->alerts)
		return false;
	while (next && next->pid != e->pid)
		next = next->next_below;
	return next != NULL;
}

static const struct execution *next_of(const struct execution *e, const struct execution *top, unsigned *depth)
{
	if (e->below) {
		++*depth;
		return e->below;
	}
	while (e != top && !e->next_below) {
		e = e->above;
		--*depth;
	}
	return e == top ? NULL : e->next_below;
}

int incident_write_tree(FILE *out, const struct execution *top, const struct execution *root,
			struct incident_style style)
{
	unsigned depth = 0;
	int r = 0;

	for (const struct execution *e = top; e && r == 0; e = next_of(e, top, &depth))
		if (!is_passage(e))
			r = write_one(out, e, depth, e == root, style);
	return r;
}

/* ---- JSON ---- */

static void put_text(struct pack *p, uint16_t *count, const char *key, const char *text)
{
	if (!*text)
		return;
	pack_text(p, key);
	pack_text(p, text);
	++*count;
}

static void put_number(struct pack *p, uint16_t *count, const char *key, uint64_t number)
{
	pack_text(p, key);
	pack_uint(p, number);
	++*count;
}

static void put_proc(struct pack *p, uint16_t *count, const char *key, uint64_t proc)
{
	char text[17];

	if (!proc)
		return;
	snprintf(text, sizeof text, "%016" PRIx64, proc);
	put_text(p, count, key, text);
}

/* As a record, so that it is written as records are. */
static int write_process(FILE *out, const struct execution *e)
{
	uint8_t room[512];
	struct pack p = pack_over(room, sizeof room);
	uint8_t *place = pack_open_map(&p);
	uint16_t n = 0;

	put_proc(&p, &n, "proc", e->proc);
	put_proc(&p, &n, "parent", e->parent);
	if (e->pid)
		put_number(&p, &n, "pid", e->pid);
	put_text(&p, &n, "comm", e->comm);
	put_text(&p, &n, "command", e->command);
	put_text(&p, &n, "container", e->container);
	if (e->begun)
		put_number(&p, &n, "begun", e->begun);
	if (e->ended) {
		put_number(&p, &n, "exit_code", e->exit_code);
		put_number(&p, &n, "signal", e->signal);
		put_number(&p, &n, "run_ns", e->run_ns);
		put_number(&p, &n, "cpu_ns", e->cpu_ns);
	}
	put_number(&p, &n, "rows", e->rows);
	put_number(&p, &n, "alerts", e->alerts);
	pack_close(&p, place, n);
	return record_write_json(out, room, (size_t)(p.at - room));
}

int incident_write_json(FILE *out, const struct tree *tree, const struct execution *top, const struct execution *root)
{
	struct execution *lineage[TREE_LINEAGE];
	unsigned n = tree_lineage(tree, root, lineage, TREE_LINEAGE), depth = 0;
	int r = 0;

	fprintf(out, "\"root\":\"%016" PRIx64 "\",\"lineage\":[", root->proc);
	for (unsigned i = 0; i < n && r == 0; i++) {
		fputs(i ? "," : "", out);
		r = write_process(out, lineage[i]);
	}
	fputs("],\"processes\":[", out);
	for (const struct execution *e = top; e && r == 0; e = next_of(e, top, &depth)) {
		fputs(e == top ? "" : ",", out);
		r = write_process(out, e);
	}
	fputs("],", out);
	return r < 0 ? r : ferror(out) ? -EIO : 0;
}
