/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that is generated from option tables: the commented YAML, the rows of --help, the JSON Schema and the
 * reference. All four walk the same tree, which option_child() reads out of the flat index: sections in the tables'
 * order, each name once. What is written depends on the tables alone, so checked-in copies can be compared byte for
 * byte.
 */
#include "yaml/yaml_tree.h"
#include "options.h"
#include "paragraph.h"

#include <string.h>

#define WIDTH 100u /* of files; terminals have 80 */

static void indent(FILE *out, unsigned depth)
{
	fprintf(out, "%*s", (int)depth, "");
}

/* "section.name", or "name" at the top. It fits: what is joined was cut from a key of the index. */
static void join(char ret[OPTION_KEY_MAX], const char *section, const char *name)
{
	size_t length = strnlen(section, OPTION_KEY_MAX - 2), left = OPTION_KEY_MAX - 1 - length;

	memcpy(ret, section, length);
	if (length) {
		ret[length++] = '.';
		left--;
	}
	left = strnlen(name, left);
	memcpy(ret + length, name, left);
	ret[length + left] = '\0';
}

static const char *default_text(const struct sonde_option *row)
{
	return row->value ? row->value : "";
}

/* The table whose title belongs above the section: the one of just this prefix. */
static const char *title_of(const struct option_table *tables, size_t n_tables, const char *section)
{
	for (size_t i = 0; i < n_tables; i++) {
		if (*section && !strcmp(tables[i].prefix, section) && tables[i].title && *tables[i].title)
			return tables[i].title;
	}
	return NULL;
}

/* --- YAML --- */

static void write_comment(FILE *out, unsigned depth, const char *text)
{
	char lead[64];

	snprintf(lead, sizeof lead, "%*s# ", (int)MIN_OF(depth, 48u), "");
	fputs(lead, out);
	write_paragraph(out, lead, (unsigned)strlen(lead), WIDTH, text);
}

/* "Samples a second and CPU", and below it "Default: 99; number, 1 to 999 Hz". */
static void write_option_comment(FILE *out, unsigned depth, const struct sonde_option *row)
{
	_cleanup_(free_pointer) char *help = strdup(row->help ? row->help : ""), *text = NULL;
	char range[256];

	option_range(row, range, sizeof range);
	if (!help || asprintf(&text, "Default: %s; %s%s%s", default_text(row), option_type_name(row->type),
			      *range ? ": " : "", range) < 0)
		return;
	if (*help >= 'a' && *help <= 'z')
		*help = (char)(*help - 'a' + 'A');
	if (*help)
		write_comment(out, depth, help);
	write_comment(out, depth, text);
}

static void write_yaml_section(FILE *out, const struct option_index *index, const struct option_table *tables,
			       size_t n_tables, const char *section, unsigned depth)
{
	char name[OPTION_KEY_MAX], key[OPTION_KEY_MAX];
	const struct option_entry *leaf;

	for (size_t i = 0; option_child(index, section, i, name, &leaf); i++) {
		join(key, section, name);
		if (leaf) {
			write_option_comment(out, depth, leaf->row);
			indent(out, depth);
			fprintf(out, "%s: %s\n", name, default_text(leaf->row));
			continue;
		}

		const char *title = title_of(tables, n_tables, key);

		if (!depth || i)
			fputc('\n', out);
		if (title)
			write_comment(out, depth, title);
		indent(out, depth);
		fprintf(out, "%s:\n", name);
		write_yaml_section(out, index, tables, n_tables, key, depth + 2);
	}
}

void options_write_yaml(FILE *out, const struct option_table *tables, size_t n_tables)
{
	struct option_index index;

	if (option_index_make(&index, tables, n_tables, NULL) < 0)
		return;
	fputs("# SPDX-License-Identifier: Apache-2.0\n", out);
	write_comment(out, 0,
		      "The configuration of sonde: every option with its default, generated from the agent's option "
		      "tables. A file may "
		      "hold only what differs. Sizes are written 64MiB, durations 10s, 5m or 1h30m.");
	write_comment(out, 0,
		      "In any value ${env:NAME} stands for an environment variable, ${env:NAME:-text} for one that may "
		      "be unset, and $${ "
		      "for a plain ${. A text that begins with file:/ is read from that file: keep passwords there.");
	write_comment(out, 0,
		      "Check a change with: sonde check -c FILE. Try one without a file: sonde run --set "
		      "modules.cpu.rate=49.");
	fputc('\n', out);
	write_yaml_section(out, &index, tables, n_tables, "", 0);
	option_index_free(&index);
}

/* --- help --- */

void options_write_help(FILE *out, const struct option_table *tables, size_t n_tables)
{
	static const char lead[] = "        ";
	struct option_index index;

	if (option_index_make(&index, tables, n_tables, NULL) < 0)
		return;
	for (size_t i = 0; i < index.n; i++) {
		const struct sonde_option *row = index.entries[i].row;
		_cleanup_(free_pointer) char *text = NULL;
		char range[256];

		option_range(row, range, sizeof range);
		if (asprintf(&text, "%s%s%s%s", row->help ? row->help : "", *range ? " (" : "", range,
			     *range ? ")" : "") < 0)
			break;
		fprintf(out, "  %s=%s\n%s", index.entries[i].key, default_text(row), lead);
		write_paragraph(out, lead, sizeof lead - 1, 80, text);
	}
	option_index_free(&index);
}

/* --- JSON Schema --- */

static void write_json_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < ' ')
			fprintf(out, "\\u%04x", (unsigned)*text);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

static void write_json_node(FILE *out, const struct yaml_node *node)
{
	const char *between = "";

	if (node->kind == YAML_IS_SCALAR) {
		write_json_text(out, yaml_node_is_null(node) ? "" : node->text);
		return;
	}
	fputc(node->kind == YAML_IS_SEQUENCE ? '[' : '{', out);
	for (const struct yaml_edge *e = node->first; e; e = e->next) {
		fputs(between, out);
		if (e->key) {
			write_json_text(out, e->key);
			fputs(": ", out);
		}
		write_json_node(out, e->node);
		between = ", ";
	}
	fputc(node->kind == YAML_IS_SEQUENCE ? ']' : '}', out);
}

static void write_json_default(FILE *out, const struct sonde_option *row)
{
	const struct yaml_node *root;
	struct yaml_tree *tree;
	const char *text = default_text(row);

	if (yaml_tree_parse(&tree, &root, text, strlen(text), "default", NULL) < 0)
		return;
	fputs(", \"default\": ", out);
	if (row->type == SONDE_OPTION_BOOL || row->type == SONDE_OPTION_UINT)
		fputs(root && root->kind == YAML_IS_SCALAR && *root->text ? root->text : "null", out);
	else if (root)
		write_json_node(out, root);
	else
		fputs("\"\"", out);
	yaml_tree_free(tree);
}

/* Every scalar may come from the environment. */
#define ENV_PATTERN "\\\\$\\\\{env:"

static void write_json_choice(FILE *out, const char *choices)
{
	fputs("\"anyOf\": [{\"enum\": [", out);
	for (const char *c = choices; *c;) {
		size_t length = strcspn(c, "|");

		fprintf(out, "%s\"%.*s\"", c == choices ? "" : ", ", (int)length, c);
		c += length + (c[length] == '|');
	}
	fputs("]}, {\"type\": \"string\", \"pattern\": \"" ENV_PATTERN "\"}]", out);
}

static void write_json_type(FILE *out, const struct sonde_option *row)
{
	switch (row->type) {
	case SONDE_OPTION_BOOL:
		fputs("\"type\": [\"boolean\", \"string\"], \"pattern\": \"^(true|false)$|" ENV_PATTERN "\"", out);
		break;
	case SONDE_OPTION_UINT:
		fprintf(out,
			"\"type\": [\"integer\", \"string\"], \"pattern\": \"^[0-9]+$|" ENV_PATTERN
			"\", \"minimum\": %llu",
			(unsigned long long)row->min);
		if (row->max)
			fprintf(out, ", \"maximum\": %llu", (unsigned long long)row->max);
		break;
	case SONDE_OPTION_SIZE:
	case SONDE_OPTION_POWER:
		fputs("\"type\": [\"integer\", \"string\"], \"minimum\": 0, \"pattern\": "
		      "\"^[0-9]+([A-Za-z]{1,3})?$|" ENV_PATTERN "\"",
		      out);
		break;
	case SONDE_OPTION_DURATION:
		fputs("\"type\": \"string\", \"pattern\": \"^([0-9]+[a-zA-Z]{1,2})+$|" ENV_PATTERN "\"", out);
		break;
	case SONDE_OPTION_CHOICE:
		write_json_choice(out, row->choices ? row->choices : "");
		break;
	case SONDE_OPTION_LIST:
		fputs("\"type\": [\"array\", \"null\"], \"items\": {\"type\": [\"string\", \"number\", \"boolean\"]}",
		      out);
		break;
	case SONDE_OPTION_MAP:
		fputs("\"type\": [\"object\", \"null\"], \"additionalProperties\": {\"type\": [\"string\", \"number\", "
		      "\"boolean\"]}",
		      out);
		break;
	case SONDE_OPTION_TEXT:
	case SONDE_OPTION_SECRET:
		fputs("\"type\": [\"string\", \"number\", \"boolean\", \"null\"]", out);
		break;
	}
}

static void write_json_option(FILE *out, const struct sonde_option *row)
{
	_cleanup_(free_pointer) char *text = NULL;
	char range[256];

	option_range(row, range, sizeof range);
	fputs("{", out);
	write_json_type(out, row);
	write_json_default(out, row);
	if (asprintf(&text, "%s%s%s%s", row->help ? row->help : "", *range ? " (" : "", range, *range ? ")" : "") >=
	    0) {
		fputs(", \"description\": ", out);
		write_json_text(out, text);
	}
	fputs("}", out);
}

static void write_json_section(FILE *out, const struct option_index *index, const struct option_table *tables,
			       size_t n_tables, const char *section, unsigned depth)
{
	char name[OPTION_KEY_MAX], key[OPTION_KEY_MAX];
	const struct option_entry *leaf;
	const char *title = title_of(tables, n_tables, section);

	if (title) {
		indent(out, depth);
		fputs("\"description\": ", out);
		write_json_text(out, title);
		fputs(",\n", out);
	}
	indent(out, depth);
	fputs("\"type\": [\"object\", \"null\"],\n", out);
	indent(out, depth);
	fputs("\"additionalProperties\": false,\n", out);
	indent(out, depth);
	fputs("\"properties\": {", out);
	for (size_t i = 0; option_child(index, section, i, name, &leaf); i++) {
		fputs(i ? ",\n" : "\n", out);
		indent(out, depth + 2);
		write_json_text(out, name);
		fputs(": ", out);
		if (leaf) {
			write_json_option(out, leaf->row);
			continue;
		}
		join(key, section, name);
		fputs("{\n", out);
		write_json_section(out, index, tables, n_tables, key, depth + 4);
		indent(out, depth + 2);
		fputs("}", out);
	}
	fputs("\n", out);
	indent(out, depth);
	fputs("}\n", out);
}

void options_write_json_schema(FILE *out, const struct option_table *tables, size_t n_tables)
{
	struct option_index index;

	if (option_index_make(&index, tables, n_tables, NULL) < 0)
		return;
	fputs("{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"title\": \"The configuration "
	      "of sonde\",\n",
	      out);
	write_json_section(out, &index, tables, n_tables, "", 2);
	fputs("}\n", out);
	option_index_free(&index);
}

/* --- Markdown --- */

/* A cell must not end at a | of its text. */
static void write_cell(FILE *out, const char *text)
{
	for (; *text; text++)
		fprintf(out, *text == '|' ? "\\%c" : "%c", *text);
}

static void write_markdown_table(FILE *out, const struct option_table *table)
{
	fprintf(out, "\n## %s%s%s\n\n", *table->prefix ? "`" : "", *table->prefix ? table->prefix : "Top level",
		*table->prefix ? "`" : "");
	if (table->title && *table->title)
		fprintf(out, "%s.\n\n", table->title);
	fputs("| Key | Type | Default | Range | What it is |\n|---|---|---|---|---|\n", out);
	for (const struct sonde_option *row = table->rows; row->key; row++) {
		char range[256];

		option_range(row, range, sizeof range);
		fprintf(out, "| `%s` | %s | `%s` | %s | ", row->key, option_type_name(row->type), default_text(row),
			range);
		write_cell(out, row->help ? row->help : "");
		fputs(row->live ? "; a reload changes it at once |\n" : " |\n", out);
	}
}

void options_write_markdown(FILE *out, const struct option_table *tables, size_t n_tables)
{
	fputs("# Configuration\n\n"
	      "Generated from the agent's option tables; `config/sonde.yaml` holds the same as a file. A file may hold "
	      "only what\n"
	      "differs from the defaults. Each option can be set on the command line too: `--set modules.cpu.rate=49`. "
	      "Lists are\n"
	      "written `--set filter.comm=nginx,redis-server` or `[nginx, redis-server]`, an entry of a map\n"
	      "`--set sinks.kafka.options.linger.ms=5`.\n\n"
	      "- Sizes take `B`, `KiB`, `MiB`, `GiB`; durations `ns`, `us`, `ms`, `s`, `m`, `h`, `d`, also together: "
	      "`1h30m`.\n"
	      "- `${env:NAME}` in any value stands for an environment variable, `${env:NAME:-text}` for one that may "
	      "be unset,\n"
	      "  `$${` for a plain `${`. Inside `{...}` and `[...]` YAML wants such a value in quotes.\n"
	      "- A text that begins with `file:/` is read from that file (at most 64 KiB, one newline at its end cut). "
	      "Keep\n"
	      "  passwords there: the agent never prints, logs or journals them.\n"
	      "- An unknown key, a wrong type and a value out of range are errors with file, line and column, and exit "
	      "code 78.\n"
	      "- SIGHUP reads the file again, and keeps the old configuration on any error. What is not marked as "
	      "changed at\n"
	      "  once restarts its module or sink. `host`, `rings`, `journal`, `rules.responses` and what is not "
	      "marked in "
	      "`agent`\n"
	      "  change only with the agent: where one of them is another, the reload is refused whole and the log "
	      "says "
	      "which;\n"
	      "  `systemctl reload` does not tell.\n",
	      out);
	for (size_t i = 0; i < n_tables; i++) {
		if (tables[i].rows && tables[i].rows->key)
			write_markdown_table(out, &tables[i]);
	}
}
