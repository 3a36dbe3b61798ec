/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table of executions by number, open addressing, that grows to TREE_MAX entries; entries never move, so that they can point to
 * each other.
 */
#include "incident/tree.h"

#include "encode/record.h"

#include <errno.h>
#include <string.h>

#define SLOTS     (2u * TREE_MAX)
#define BLOCK     256u
#define DEPTH_MAX 1024u /* generations */
#define IDS       4u    /* executions that one row may name beside its own */

struct tree {
	struct execution **slots;
	struct execution *blocks[TREE_MAX / BLOCK];
	uint32_t count;
	uint64_t left_out;
};

int tree_make(struct tree **ret)
{
	struct tree *tree = calloc(1, sizeof *tree);

	if (!tree)
		return -ENOMEM;
	tree->slots = calloc(SLOTS, sizeof *tree->slots);
	if (!tree->slots) {
		free(tree);
		return -ENOMEM;
	}
	*ret = tree;
	return 0;
}

void tree_free(struct tree *tree)
{
	if (!tree)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(tree->blocks); i++)
		free(tree->blocks[i]);
	free(tree->slots);
	free(tree);
}

uint64_t tree_left_out(const struct tree *tree)
{
	return tree->left_out;
}

static struct execution *at(const struct tree *tree, uint32_t i)
{
	return &tree->blocks[i / BLOCK][i % BLOCK];
}

/* The slot that has it, or is its own to take. */
static struct execution **slot_of(const struct tree *tree, uint64_t proc)
{
	uint64_t i = proc * 0x9e3779b97f4a7c15ull >> 32;

	while (tree->slots[i % SLOTS] && tree->slots[i % SLOTS]->proc != proc)
		i++;
	return &tree->slots[i % SLOTS];
}

struct execution *tree_of_proc(const struct tree *tree, uint64_t proc)
{
	return *slot_of(tree, proc);
}

struct execution *tree_of_pid(const struct tree *tree, uint32_t pid)
{
	struct execution *found = NULL;

	for (uint32_t i = 0; i < tree->count; i++)
		if (at(tree, i)->pid == pid && (!found || at(tree, i)->last >= found->last))
			found = at(tree, i);
	return found;
}

/* 0 with NULL: there is no room for another one. */
static int get(struct tree *tree, uint64_t proc, struct execution **ret)
{
	struct execution **slot = slot_of(tree, proc);

	*ret = *slot;
	if (*slot || tree->count == TREE_MAX)
		return 0;
	if (tree->count % BLOCK == 0) {
		tree->blocks[tree->count / BLOCK] = calloc(BLOCK, sizeof **slot);
		if (!tree->blocks[tree->count / BLOCK])
			return -ENOMEM;
	}
	*slot = at(tree, tree->count++);
	(*slot)->proc = proc;
	*ret = *slot;
	return 0;
}

/* ---- rows ---- */

/* What of a row matters here. */
struct row {
	uint64_t ts, proc, parent, child, pid, child_pid, exit_code, signal, cpu_ns, run_ns;
	uint64_t others[IDS]; /* named by any other key that ends in "proc" */
	unsigned n_others;
	struct value type, comm, container, args, exe;
};

static bool is_text(const struct value *v, const char *what)
{
	return v->kind == VALUE_STR && v->length == strlen(what) && !memcmp(v->body, what, v->length);
}

static bool read_id(const struct value *v, uint64_t *ret)
{
	uint64_t id = 0;

	if (v->kind != VALUE_STR || v->length != 16)
		return false;
	for (uint32_t i = 0; i < 16; i++) {
		uint8_t c = v->body[i];
		unsigned digit = c >= '0' && c <= '9' ? c - '0' + 0u : c >= 'a' && c <= 'f' ? c - 'a' + 10u : 16u;

		if (digit == 16)
			return false;
		id = id << 4 | digit;
	}
	*ret = id;
	return true;
}

static void take_id(struct row *row, const struct value *key, const struct value *v)
{
	uint64_t id;

	if (!read_id(v, &id))
		return;
	if (is_text(key, "proc"))
		row->proc = id;
	else if (is_text(key, "child_proc"))
		row->child = id;
	else if (row->n_others < IDS)
		row->others[row->n_others++] = id;
}

static int take_key(void *context, const struct value *key, const struct value *v, const uint8_t *next)
{
	static const struct {
		const char *name;
		size_t offset;
	} numbers[] = {
		{ "ts", offsetof(struct row, ts) },           { "pid", offsetof(struct row, pid) },
		{ "cpu_ns", offsetof(struct row, cpu_ns) },   { "child_pid", offsetof(struct row, child_pid) },
		{ "run_ns", offsetof(struct row, run_ns) },   { "exit_code", offsetof(struct row, exit_code) },
		{ "signal", offsetof(struct row, signal) },
	}, texts[] = {
		{ "type", offsetof(struct row, type) }, { "container", offsetof(struct row, container) },
		{ "comm", offsetof(struct row, comm) }, { "exe", offsetof(struct row, exe) },
	};
	struct row *row = context;

	if (v->kind == VALUE_UINT)
		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
			if (is_text(key, numbers[i].name))
				*(uint64_t *)((char *)row + numbers[i].offset) = v->u;
	if (v->kind == VALUE_STR)
		for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
			if (is_text(key, texts[i].name))
				*(struct value *)((char *)row + texts[i].offset) = *v;
	if (is_text(key, "args") && v->kind == VALUE_ARRAY)
		row->args = *v;
	else if (is_text(key, "parent"))
		read_id(v, &row->parent);
	else if (key->length >= 4 && !memcmp(key->body + key->length - 4, "proc", 4))
		take_id(row, key, v);
	return 0;
}

static int read_row(struct row *row, const void *map, size_t size)
{
	*row = (struct row){ .type.kind = VALUE_NIL };
	return record_each(map, size, take_key, row);
}

static void copy(char *to, size_t room, const struct value *from)
{
	size_t n = from->kind == VALUE_STR ? MIN_OF((size_t)from->length, room - 1) : 0;

	if (!n)
		return;
	memcpy(to, from->body, n);
	to[n] = '\0';
}

/* Arguments with a space in between; what does not fit ends in "...". `end` is that of the row. */
static void copy_command(struct execution *e, const struct value *args, const uint8_t *end)
{
	const size_t room = sizeof e->command - sizeof "...";
	const uint8_t *next = args->body;
	size_t at = 0;
	struct value v;

	for (uint32_t i = 0; i < args->count && value_read(next, end, &v) == 0 && v.kind == VALUE_STR; i++) {
		size_t n = MIN_OF((size_t)v.length, room - at);

		next = v.next;
		memcpy(e->command + at, v.body, n);
		at += n;
		if (n < v.length || (at == room && i + 1 < args->count)) {
			memcpy(e->command + at, "...", sizeof "...");
			return;
		}
		if (i + 1 < args->count)
			e->command[at++] = ' ';
	}
	e->command[at] = '\0';
}

static void take_beginning(struct execution *e, const struct row *row, const uint8_t *end)
{
	e->begun = row->ts;
	if (row->args.kind == VALUE_ARRAY)
		copy_command(e, &row->args, end);
	if (!e->command[0])
		copy(e->command, sizeof e->command, &row->exe);
}

static void take_end(struct execution *e, const struct row *row)
{
	e->ended = true;
	e->exit_code = (uint32_t)row->exit_code;
	e->signal = (uint32_t)row->signal;
	e->cpu_ns = row->cpu_ns;
	e->run_ns = row->run_ns;
}

/* Of the one who did it. */
static void take_own(struct execution *e, const struct row *row, const uint8_t *end)
{
	e->parent = row->parent ? row->parent : e->parent;
	e->pid = row->pid ? (uint32_t)row->pid : e->pid;
	copy(e->comm, sizeof e->comm, &row->comm);
	copy(e->container, sizeof e->container, &row->container);
	if (row->ts && (!e->first || row->ts < e->first))
		e->first = row->ts;
	if (row->ts > e->last)
		e->last = row->ts;
	if (is_text(&row->type, "process.exec"))
		take_beginning(e, row, end);
	if (is_text(&row->type, "process.exit"))
		take_end(e, row);
}

static void take_child(struct execution *child, const struct row *row)
{
	if (!is_text(&row->type, "process.fork"))
		return;
	child->parent = row->proc;
	child->pid = (uint32_t)row->child_pid;
	child->begun = child->begun ? child->begun : row->ts;
	if (!child->comm[0])
		copy(child->comm, sizeof child->comm, &row->comm);
}

static unsigned add_id(uint64_t *ids, unsigned n, uint64_t id)
{
	for (unsigned i = 0; i < n; i++)
		if (ids[i] == id)
			return n;
	if (id)
		ids[n++] = id;
	return n;
}

/* Whom the row names, each once: how many of `ret`. */
static unsigned ids_of(const struct row *row, uint64_t ret[IDS + 2])
{
	unsigned n = add_id(ret, 0, row->proc);

	n = add_id(ret, n, row->child);
	for (unsigned i = 0; i < row->n_others; i++)
		n = add_id(ret, n, row->others[i]);
	return n;
}

int tree_add(struct tree *tree, const void *map, size_t size, bool counts)
{
	struct row row;
	int r = read_row(&row, map, size);
	uint64_t ids[IDS + 2];
	unsigned n = r < 0 ? 0 : ids_of(&row, ids), missing = 0;

	for (unsigned i = 0; i < n; i++) {
		struct execution *e;

		r = get(tree, ids[i], &e);
		if (r < 0)
			return r;
		missing += !e;
		if (!e)
			continue;
		if (ids[i] == row.proc)
			take_own(e, &row, (const uint8_t *)map + size);
		else if (ids[i] == row.child)
			take_child(e, &row);
		e->rows += counts;
		e->alerts += counts && is_text(&row.type, "alert");
	}
	tree->left_out += missing != 0;
	return r;
}

/* ---- the tree ---- */

static struct execution *parent_of(const struct tree *tree, const struct execution *e)
{
	return e->parent && e->parent != e->proc ? tree_of_proc(tree, e->parent) : NULL;
}

unsigned tree_lineage(const struct tree *tree, const struct execution *of, struct execution **ret, unsigned room)
{
	struct execution *e = parent_of(tree, of);
	unsigned n = 0;

	while (e && n < room) {
		ret[n++] = e;
		e = parent_of(tree, e);
	}
	return n;
}

/* Whether both are programs of one process. */
static bool is_same_process(const struct execution *a, const struct execution *b)
{
	return a->pid && a->pid == b->pid && a->parent == b->parent;
}

/* Whether it is `root`, descends from it, or is another program of its process. Rows may be forged or of several boots: a circle ends
 * at the bound. */
static bool belongs(const struct tree *tree, struct execution *e, const struct execution *root)
{
	for (unsigned depth = 0; e && depth < DEPTH_MAX; depth++) {
		if (e->member || e == root || is_same_process(e, root))
			return true;
		e = parent_of(tree, e);
	}
	return false;
}

static uint64_t order(const struct execution *e)
{
	return e->begun ? e->begun : e->first;
}

/* Or too far above to follow. */
static bool is_above(const struct execution *e, const struct execution *of)
{
	for (unsigned depth = 0; of; depth++, of = of->above)
		if (of == e || depth == DEPTH_MAX)
			return true;
	return false;
}

static void put_below(struct execution *above, struct execution *e)
{
	e->above = above;
	if (above->last_below)
		above->last_below->next_below = e;
	else
		above->below = e;
	above->last_below = e;
}

static int by_order(const void *a, const void *b)
{
	uint64_t x = order(*(struct execution *const *)a), y = order(*(struct execution *const *)b);

	return x < y ? -1 : x > y;
}

int tree_choose(struct tree *tree, struct execution *root, unsigned up, struct execution **ret)
{
	struct execution *top = root, *above, **members = calloc(tree->count, sizeof *members);
	uint32_t n = 0;

	if (!members)
		return -ENOMEM;
	for (; up && (above = parent_of(tree, top)) && above != root; up--)
		top = above;
	for (uint32_t i = 0; i < tree->count; i++) {
		at(tree, i)->member = belongs(tree, at(tree, i), top);
		if (at(tree, i)->member)
			members[n++] = at(tree, i);
	}
	qsort(members, n, sizeof *members, by_order);
	/* The first of a process that ran several programs is the one above all. */
	for (uint32_t i = 0; i < n; i++)
		if (is_same_process(members[i], top) && order(members[i]) < order(top))
			top = members[i];
	for (uint32_t i = 0; i < n; i++) {
		above = parent_of(tree, members[i]);
		if (members[i] != top)
			put_below(above && above->member && !is_above(members[i], above) ? above : top, members[i]);
	}
	free(members);
	*ret = top;
	return 0;
}

bool tree_has(const struct tree *tree, const void *map, size_t size)
{
	struct row row;
	uint64_t ids[IDS + 2];
	unsigned n = read_row(&row, map, size) < 0 ? 0 : ids_of(&row, ids);

	for (unsigned i = 0; i < n; i++) {
		const struct execution *e = tree_of_proc(tree, ids[i]);

		if (e && e->member)
			return true;
	}
	return false;
}
