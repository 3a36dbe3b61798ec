/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: for each row of the tables one value, which begins as the row's default, is replaced where the file
 * names it, and again where a --set names it. All three go the same way: YAML to a tree (pipelines/yaml), the tree
 * walked against the index of full keys (options.c), each leaf read by its row's type.
 *
 * Invariants: `values[i]` belongs to `index.entries[i]`; a value is replaced whole or not at all; nothing that stands
 * in a secret, or in an entry of a map whose name sounds like one, is ever put into a fault.
 */
#include "config.h"

#include "config_text.h"
#include "yaml/yaml_tree.h"
#include "config_values.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define FILE_MAX_BYTES (1u << 20)
#define ITEMS_MAX      1024u
#define CHILDREN_MAX   64u /* names of one section that are compared or listed in an error */
#define CLIP_MAX       48u /* bytes of a value or name repeated in an error */

/* Where the text that is being read came from: a file by its path, or one --set. */
struct source {
	struct config *config;
	struct fault *fault;
	const char *label;
	bool marks; /* lines and columns mean something to the reader */
};

struct clipped {
	char text[CLIP_MAX + 4];
};

static void value_clear(struct value *value)
{
	for (size_t i = 0; i < value->n; i++) {
		free(value->pairs[i][0]);
		free(value->pairs[i][1]);
	}
	free(value->pairs);
	free(value->items);
	free(value->text);
	free(value->origin);
	*value = (struct value){ 0 };
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->index.n; i++)
		value_clear(&config->values[i]);
	free(config->values);
	option_index_free(&config->index);
	free(config);
}

/* What someone wrote, fit for one line on a terminal. */
static struct clipped clip(const char *text)
{
	struct clipped c;
	size_t i;

	for (i = 0; text[i] && i < CLIP_MAX; i++)
		c.text[i] = (unsigned char)text[i] < ' ' || text[i] == 127 ? '?' : text[i];
	while (text[i] && i > 0 && ((unsigned char)text[i] & 0xc0) == 0x80)
		i--; /* never half a character */
	strcpy(c.text + i, text[i] ? "..." : "");
	return c;
}

static int _printf_(4, 5) refuse(const struct source *from, unsigned line, unsigned column, const char *format, ...)
{
	char sentence[sizeof from->fault->text];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof sentence, format, args);
	va_end(args);
	if (!from->marks)
		return fault_set(from->fault, -EINVAL, "%.160s: %.340s", from->label, sentence);
	return fault_at(from->fault, -EINVAL, line, column, "%.160s:%u:%u: %.320s", from->label, line, column,
			sentence);
}

/* --- one value --- */

static const char *kind_name(const struct yaml_node *node)
{
	return node->kind == YAML_IS_SEQUENCE ? "a list" : node->kind == YAML_IS_MAPPING ? "a section" : "text";
}

static int refuse_kind(const struct source *from, const struct yaml_node *node, const char *key,
		       const struct sonde_option *row)
{
	char expected[320];

	option_expected(row, expected, sizeof expected);
	return refuse(from, node->line, node->column, "%s is %s; expected %s", clip(key).text, kind_name(node),
		      expected);
}

static bool is_text(const struct sonde_option *row)
{
	return row->type == SONDE_OPTION_TEXT || row->type == SONDE_OPTION_SECRET;
}

/* Errors repeat what was written, not what an environment variable put in its place. */
static int set_scalar(const struct source *from, const struct yaml_node *node, const struct option_entry *entry,
		      struct value *value)
{
	const struct sonde_option *row = entry->row;
	bool null = yaml_node_is_null(node);
	const char *wrong;
	char *text, expected[320];
	struct fault inner;

	if (node->kind != YAML_IS_SCALAR)
		return refuse_kind(from, node, entry->key, row);
	option_expected(row, expected, sizeof expected);
	if (null && !is_text(row))
		return refuse(from, node->line, node->column, "%s has no value; expected %s", entry->key, expected);
	if (config_text_resolve(null ? "" : node->text, is_text(row), &text, &inner) < 0)
		return refuse(from, node->line, node->column, "%s %s", entry->key, inner.text);
	value->text = text;
	wrong = option_read(row, text, &value->number);
	if (!wrong)
		return 0;
	return refuse(from, node->line, node->column, "%s is '%s', %s; expected %s", entry->key, clip(node->text).text,
		      wrong, expected);
}

/* Adds `text` as it was written; `name` is NULL in a list. A name that is there already has its text replaced. */
static int add_item(const struct source *from, const struct yaml_node *node, const char *key, const char *name,
		    struct value *value)
{
	struct fault inner;
	char *text, *copy = NULL;

	if (value->n == ITEMS_MAX)
		return refuse(from, node->line, node->column, "%s has more than %u entries", key, ITEMS_MAX);
	if (config_text_resolve(yaml_node_is_null(node) ? "" : node->text, name != NULL, &text, &inner) < 0)
		return refuse(from, node->line, node->column, "%s%s%s %s", key, name ? "." : "",
			      name ? clip(name).text : "", inner.text);
	for (size_t i = 0; name && i < value->n; i++) {
		if (strcmp(value->pairs[i][0], name))
			continue;
		free(value->pairs[i][1]);
		value->pairs[i][1] = text;
		return 0;
	}

	void *more = realloc(value->pairs, (value->n + 1) * sizeof *value->pairs);

	if (more)
		value->pairs = more;
	if (!more || (name && !(copy = strdup(name)))) {
		free(text);
		return refuse(from, node->line, node->column, "%s: out of memory", key);
	}
	value->pairs[value->n][0] = copy;
	value->pairs[value->n++][1] = text;
	return 0;
}

static int set_list(const struct source *from, const struct yaml_node *node, const struct option_entry *entry,
		    struct value *value)
{
	if (yaml_node_is_null(node))
		return 0;
	if (node->kind != YAML_IS_SEQUENCE)
		return refuse_kind(from, node, entry->key, entry->row);
	for (const struct yaml_edge *e = node->first; e; e = e->next) {
		if (e->node->kind != YAML_IS_SCALAR)
			return refuse(from, e->node->line, e->node->column, "an item of %s is %s; expected text",
				      entry->key, kind_name(e->node));

		int r = add_item(from, e->node, entry->key, NULL, value);

		if (r < 0)
			return r;
	}
	value->items = calloc(value->n + 1, sizeof *value->items);
	if (!value->items)
		return refuse(from, node->line, node->column, "%s: out of memory", entry->key);
	for (size_t i = 0; i < value->n; i++)
		value->items[i] = value->pairs[i][1];
	return 0;
}

static int set_map(const struct source *from, const struct yaml_node *node, const struct option_entry *entry,
		   struct value *value)
{
	if (yaml_node_is_null(node))
		return 0;
	if (node->kind != YAML_IS_MAPPING)
		return refuse_kind(from, node, entry->key, entry->row);
	for (const struct yaml_edge *e = node->first; e; e = e->next) {
		if (e->node->kind != YAML_IS_SCALAR)
			return refuse(from, e->node->line, e->node->column, "%s.%s is %s; expected text", entry->key,
				      clip(e->key).text, kind_name(e->node));

		int r = add_item(from, e->node, entry->key, e->key, value);

		if (r < 0)
			return r;
	}
	return 0;
}

static int set_origin(const struct source *from, const struct yaml_node *node, struct value *value)
{
	int n = from->marks ? asprintf(&value->origin, "%s:%u:%u", from->label, node->line, node->column)
			    : asprintf(&value->origin, "%s", from->label);

	if (n < 0) {
		value->origin = NULL;
		return fault_set(from->fault, -ENOMEM, "out of memory");
	}
	return 0;
}

/* Replaces the value of `entry`: whole, or not at all. */
static int set_value(const struct source *from, const struct yaml_node *node, const struct option_entry *entry)
{
	struct value *old = &from->config->values[entry - from->config->index.entries];
	struct value fresh = { .given = true };
	int r;

	if (entry->row->type == SONDE_OPTION_LIST)
		r = set_list(from, node, entry, &fresh);
	else if (entry->row->type == SONDE_OPTION_MAP)
		r = set_map(from, node, entry, &fresh);
	else
		r = set_scalar(from, node, entry, &fresh);
	if (r == 0)
		r = set_origin(from, node, &fresh);
	if (r < 0) {
		value_clear(&fresh);
		return r;
	}
	value_clear(old);
	*old = fresh;
	return 0;
}

/* --- keys --- */

static bool is_section(const struct option_index *index, const char *key)
{
	char name[OPTION_KEY_MAX];
	const struct option_entry *leaf;

	return option_child(index, key, 0, name, &leaf);
}

/* The names directly below `section`, and how they read in a sentence. */
struct children {
	char names[CHILDREN_MAX][OPTION_KEY_MAX];
	const char *list[CHILDREN_MAX];
	size_t n;
	char sentence[240];
};

static void find_children(const struct option_index *index, const char *section, struct children *ret)
{
	const struct option_entry *leaf;
	size_t used = 0;

	ret->sentence[0] = '\0';
	for (ret->n = 0; ret->n < CHILDREN_MAX; ret->n++) {
		char *name = ret->names[ret->n];

		if (!option_child(index, section, ret->n, name, &leaf))
			return;
		ret->list[ret->n] = name;
		if (used < sizeof ret->sentence)
			used += (size_t)snprintf(ret->sentence + used, sizeof ret->sentence - used, "%s%s",
						 used ? ", " : "", name);
	}
}

/* Some people leave out the section: "rate" is meant as "modules.cpu.rate". */
static const char *key_that_ends_so(const struct option_index *index, const char *name)
{
	size_t length = strlen(name);

	for (size_t i = 0; i < index->n; i++) {
		const char *key = index->entries[i].key;
		size_t n = strlen(key);

		if (n > length && key[n - length - 1] == '.' && !strcmp(key + n - length, name))
			return key;
	}
	return NULL;
}

static int refuse_key(const struct source *from, const struct yaml_edge *edge, const char *section)
{
	struct children children;
	struct clipped name = clip(edge->key);

	if (from->config->known_only)
		return 0;

	const char *in = *section ? " in " : "";

	find_children(&from->config->index, section, &children);

	const char *near = nearest_name(edge->key, children.list, children.n);

	if (!near)
		near = key_that_ends_so(&from->config->index, edge->key);
	if (near)
		return refuse(from, edge->line, edge->column, "unknown key '%s'%s%s; did you mean '%s'?", name.text, in,
			      section, near);
	return refuse(from, edge->line, edge->column, "unknown key '%s'%s%s; expected one of %s", name.text, in,
		      section, children.sentence);
}

static int walk(const struct source *from, const struct yaml_node *node, const char *section);

static int walk_edge(const struct source *from, const struct yaml_edge *edge, const char *section)
{
	char key[OPTION_KEY_MAX];
	int length = snprintf(key, sizeof key, "%s%s%s", section, *section ? "." : "", edge->key);

	if (!*edge->key || length >= (int)sizeof key)
		return refuse_key(from, edge, section);

	const struct option_entry *entry = option_find(&from->config->index, key);

	if (entry && from->config->values[entry - from->config->index.entries].given)
		return refuse(from, edge->line, edge->column, "duplicate key '%s', first given at %s", key,
			      config_origin(from->config, key));
	if (entry)
		return set_value(from, edge->node, entry);
	if (is_section(&from->config->index, key))
		return walk(from, edge->node, key);
	return refuse_key(from, edge, section);
}

/* The depth is that of the tables: only known sections are entered. */
static int walk(const struct source *from, const struct yaml_node *node, const char *section)
{
	struct children children;

	if (yaml_node_is_null(node))
		return 0;
	if (node->kind == YAML_IS_MAPPING) {
		for (const struct yaml_edge *e = node->first; e; e = e->next) {
			int r = walk_edge(from, e, section);

			if (r < 0)
				return r;
		}
		return 0;
	}
	find_children(&from->config->index, section, &children);
	return refuse(from, node->line, node->column, "%s is %s; expected a section with %s",
		      *section ? section : "the configuration", kind_name(node), children.sentence);
}

/* --- sources: the defaults, the file, each --set --- */

static int load_default(struct config *config, const struct option_entry *entry, struct fault *fault)
{
	_cleanup_(free_pointer) char *label = NULL;
	struct source from = { config, fault, NULL, false };
	struct yaml_node nothing = { .kind = YAML_IS_SCALAR, .plain = true, .text = "" };
	const struct yaml_node *root;
	struct yaml_tree *tree;
	const char *text = entry->row->value ? entry->row->value : "";

	if (asprintf(&label, "the default of %s", entry->key) < 0)
		return fault_set(fault, -ENOMEM, "out of memory");
	from.label = label;

	int r = yaml_tree_parse(&tree, &root, text, strlen(text), label, fault);

	if (r < 0)
		return r;
	r = set_value(&from, root ? root : &nothing, entry);
	yaml_tree_free(tree);
	return r;
}

static void forget_given(struct config *config)
{
	for (size_t i = 0; i < config->index.n; i++)
		config->values[i].given = false;
}

/* A reload reads the file again, and a pipe would then be empty, which looks like a file of defaults. */
static int check_file(const char *path, struct fault *fault)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return fault_set(fault, -errno, "%.300s: cannot be read: %s", path, strerror(errno));
	if (S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)))
		return 0;
	return fault_set(fault, -EINVAL, "%.300s: not a file; a configuration is one, since a reload reads it again",
			 path);
}

static int load_file(struct config *config, const char *path, struct fault *fault)
{
	_cleanup_(free_pointer) char *text = NULL;
	struct source from = { config, fault, path, true };
	const struct yaml_node *root;
	struct yaml_tree *tree;
	size_t size;
	int r = check_file(path, fault);

	if (r < 0)
		return r;
	r = read_small_file(path, FILE_MAX_BYTES, &text, &size);

	if (r == -EFBIG)
		return fault_set(fault, r, "%.300s: larger than 1MiB, which no configuration is", path);
	if (r < 0)
		return fault_set(fault, r, "%.300s: cannot be read: %s", path, strerror(-r));
	r = yaml_tree_parse(&tree, &root, text, size, path, fault);
	if (r < 0)
		return r;
	forget_given(config);
	r = root ? walk(&from, root, "") : 0;
	yaml_tree_free(tree);
	return r;
}

/* The entry that `key` names, or the map that it names an entry of; `ret_name` is that entry's name, else NULL. */
static const struct option_entry *find_target(const struct option_index *index, const char *key, const char **ret_name)
{
	const struct option_entry *entry = option_find(index, key);

	*ret_name = NULL;
	for (size_t i = 0; !entry && i < index->n; i++) {
		size_t n = strlen(index->entries[i].key);

		if (index->entries[i].row->type != SONDE_OPTION_MAP || strncmp(key, index->entries[i].key, n) ||
		    key[n] != '.' || !key[n + 1])
			continue;
		entry = &index->entries[i];
		*ret_name = key + n + 1;
	}
	return entry;
}

static int refuse_set_key(const struct source *from, const char *key)
{
	const struct option_index *index = &from->config->index;
	_cleanup_(free_pointer) const char **keys = calloc(index->n + 1, sizeof *keys);
	const char *near = NULL;

	for (size_t i = 0; keys && i < index->n; i++)
		keys[i] = index->entries[i].key;
	if (keys)
		near = nearest_name(key, keys, index->n);
	if (!near)
		near = key_that_ends_so(index, key);
	if (near)
		return refuse(from, 0, 0, "unknown key; did you mean '%s'?", near);

	/* The deepest part of it that is right. */
	char section[OPTION_KEY_MAX];
	struct children children;

	snprintf(section, sizeof section, "%s", key);
	while (*section && !is_section(index, section))
		*(strrchr(section, '.') ? strrchr(section, '.') : section) = '\0';
	find_children(index, section, &children);
	return refuse(from, 0, 0, "unknown key; expected one of %s%s%s", children.sentence, *section ? " below " : "",
		      section);
}

/* A list written plainly, as a,b,c, becomes the items it names. */
static int set_plain_list(const struct source *from, const struct option_entry *entry, const char *text)
{
	_cleanup_(free_pointer) char *items = strdup(text);
	struct yaml_node nodes[CHILDREN_MAX];
	struct yaml_edge edges[CHILDREN_MAX];
	struct yaml_node list = { .kind = YAML_IS_SEQUENCE };
	char *rest = items;
	size_t n = 0;

	if (!items)
		return fault_set(from->fault, -ENOMEM, "out of memory");
	for (char *item; *text && (item = strsep(&rest, ",")); n++) {
		if (n == CHILDREN_MAX)
			return refuse(from, 0, 0, "more than %u items; longer lists belong in the file", CHILDREN_MAX);
		nodes[n] = (struct yaml_node){ .kind = YAML_IS_SCALAR, .text = item };
		edges[n] = (struct yaml_edge){ .node = &nodes[n] };
		if (n)
			edges[n - 1].next = &edges[n];
	}
	list.first = n ? edges : NULL;
	return set_value(from, &list, entry);
}

static int set_plain(const struct source *from, const struct option_entry *entry, const char *name, const char *text)
{
	struct yaml_node node = { .kind = YAML_IS_SCALAR, .text = text, .plain = !*text };

	if (name)
		return add_item(from, &node, entry->key, name,
				&from->config->values[entry - from->config->index.entries]);
	if (entry->row->type == SONDE_OPTION_LIST)
		return set_plain_list(from, entry, text);
	return set_value(from, &node, entry);
}

/* Lists, maps and sections are written as in the file, [a, b] and {a: b}; so is what is quoted. Other text is taken as
 * it is. */
static bool is_written_in_yaml(const struct option_entry *entry, const char *name, const char *text)
{
	bool scalar = name || (entry && entry->row->type != SONDE_OPTION_LIST && entry->row->type != SONDE_OPTION_MAP);

	return *text == '"' || *text == '\'' || (!scalar && (*text == '[' || *text == '{'));
}

static int set_yaml(const struct source *from, const struct option_entry *entry, const char *name, const char *key,
		    const char *text)
{
	const struct yaml_node *root;
	struct yaml_tree *tree;
	int r = yaml_tree_parse(&tree, &root, text, strlen(text), from->label, from->fault);

	if (r < 0)
		return r;
	forget_given(from->config);
	if (!root)
		r = refuse(from, 0, 0, "has no value");
	else if (!entry)
		r = walk(from, root, key);
	else if (name && root->kind == YAML_IS_SCALAR)
		r = set_plain(from, entry, name, root->text);
	else if (name)
		r = refuse(from, 0, 0, "%s.%s is %s; expected text", entry->key, clip(name).text, kind_name(root));
	else
		r = set_value(from, root, entry);
	yaml_tree_free(tree);
	return r;
}

/* What may be shown of "key=value": all of it only where the key is known and its value no secret. */
static void label_set(char *label, size_t room, const char *key, const char *text, const struct option_entry *entry)
{
	bool shown = entry && entry->row->type != SONDE_OPTION_SECRET && entry->row->type != SONDE_OPTION_MAP;

	snprintf(label, room, "--set %.100s%s%s", key, shown ? "=" : "", shown ? clip(text).text : "");
}

static int load_set(struct config *config, const char *set, struct fault *fault)
{
	char label[192], key[OPTION_KEY_MAX];
	struct source from = { config, fault, label, false };
	const char *text = strchr(set, '='), *name;

	if (!text || text == set)
		return fault_set(fault, -EINVAL, "--set %s: expected key=value, such as modules.cpu.rate=49",
				 clip(text ? "=" : set).text);
	if (strlen(set) > FILE_MAX_BYTES || text - set >= (ptrdiff_t)sizeof key)
		return fault_set(fault, -EINVAL, "--set %s: too long", clip(set).text);
	memcpy(key, set, (size_t)(text - set));
	key[text++ - set] = '\0';

	const struct option_entry *entry = find_target(&config->index, key, &name);

	label_set(label, sizeof label, clip(key).text, text, entry);
	if (!entry && !is_section(&config->index, key))
		return config->known_only ? 0 : refuse_set_key(&from, key);
	if (is_written_in_yaml(entry, name, text))
		return set_yaml(&from, entry, name, key, text);
	if (!entry)
		return refuse(&from, 0, 0, "is a section; expected the key of an option below it, or {key: value}");
	return set_plain(&from, entry, name, text);
}

static int load_all(struct config *config, const char *file, const char *const *sets, size_t n_sets,
		    struct fault *fault)
{
	int r = 0;

	for (size_t i = 0; i < config->index.n && r == 0; i++)
		r = load_default(config, &config->index.entries[i], fault);
	if (r == 0 && file)
		r = load_file(config, file, fault);
	for (size_t i = 0; i < n_sets && r == 0; i++)
		r = load_set(config, sets[i], fault);
	return r;
}

static int load(struct config **ret, const struct option_table *tables, size_t n_tables, const char *file,
		const char *const *sets, size_t n_sets, bool known_only, struct fault *fault)
{
	struct config *config = calloc(1, sizeof *config);
	struct fault unused;
	int r;

	fault = fault ? fault : &unused;
	if (!config)
		return fault_set(fault, -ENOMEM, "out of memory");
	config->known_only = known_only;
	r = option_index_make(&config->index, tables, n_tables, fault);
	if (r == 0) {
		config->values = calloc(config->index.n + 1, sizeof *config->values);
		r = config->values ? load_all(config, file, sets, n_sets, fault)
				   : fault_set(fault, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		if (!config->values)
			option_index_free(&config->index);
		config_free(config);
		return r;
	}
	*ret = config;
	return 0;
}

int config_load(struct config **ret, const struct option_table *tables, size_t n_tables, const char *file,
		const char *const *sets, size_t n_sets, struct fault *fault)
{
	return load(ret, tables, n_tables, file, sets, n_sets, false, fault);
}

int config_load_known(struct config **ret, const struct option_table *tables, size_t n_tables, const char *file,
		      const char *const *sets, size_t n_sets, struct fault *fault)
{
	return load(ret, tables, n_tables, file, sets, n_sets, true, fault);
}
