/* SPDX-License-Identifier: Apache-2.0 */
/* The schema as people and programs read it; one writer a format, all over the same common keys and fields. */
#include "decode/schema.h"

#include <fnmatch.h>
#include <string.h>

const char *field_type_name(const struct field *field)
{
	switch (field->how) {
	case FIELD_UINT:
	case FIELD_TIME:
		return "uint";
	case FIELD_INT:
		return "int";
	case FIELD_BOOL:
		return "bool";
	case FIELD_LIST:
	case FIELD_CAPS:
		return "array";
	case FIELD_MSGPACK:
		return "map";
	case FIELD_TABLE:
		return "table";
	default:
		return "str";
	}
}

static const char *json_type(const char *type)
{
	return !strcmp(type, "uint") || !strcmp(type, "int") ? "integer"
	       : !strcmp(type, "bool")                       ? "boolean"
	       : !strcmp(type, "array")                      ? "array"
	       : !strcmp(type, "table")                      ? "array"
	       : !strcmp(type, "map")                        ? "object"
							     : "string";
}

/* UInt64 and Array(String) as ClickHouse and friends have no portable spelling: plain SQL:2016 types. */
static const char *sql_type(const char *type)
{
	return !strcmp(type, "uint")    ? "NUMERIC(20)"
	       : !strcmp(type, "int")   ? "BIGINT"
	       : !strcmp(type, "bool")  ? "BOOLEAN"
	       : !strcmp(type, "array") ? "VARCHAR ARRAY"
	       : !strcmp(type, "map")   ? "JSON"
	       : !strcmp(type, "table") ? "JSON"
					: "VARCHAR";
}

static void write_json_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (const char *c = text ? text : ""; *c; c++) {
		if (*c == '"' || *c == '\\')
			fputc('\\', out);
		if ((unsigned char)*c >= 0x20)
			fputc(*c, out);
	}
	fputc('"', out);
}

/* One key of one type, common or its own. */
struct row {
	const char *key, *type, *doc, *otel, *ecs;
	const char *only;  /* the one value there is */
	bool optional, id; /* 16 hex digits */
	const struct field *field;
};

static struct row common_row(const struct common_key *k)
{
	bool always = strcmp(k->key, "pid") && strcmp(k->key, "tid") && strcmp(k->key, "comm") &&
		      strcmp(k->key, "proc") && strcmp(k->key, "parent") && strcmp(k->key, "container") &&
		      strcmp(k->key, "cgroup");

	return (struct row){ .key = k->key,
			     .type = k->type,
			     .doc = k->doc,
			     .otel = k->otel,
			     .ecs = k->ecs,
			     .optional = !always,
			     .id = !strcmp(k->key, "proc") || !strcmp(k->key, "parent") };
}

static struct row field_row(const struct field *f)
{
	return (struct row){ .key = f->key,
			     .type = field_type_name(f),
			     .doc = f->doc,
			     .otel = f->otel,
			     .ecs = f->ecs,
			     .optional = f->optional || f->how == FIELD_ERRNO,
			     .id = f->how == FIELD_ID,
			     .field = f };
}

static bool may_be_cut(const struct event_type *type)
{
	for (size_t i = 0; i < type->n_fields; i++)
		if (type->fields[i].how >= FIELD_TEXT || type->fields[i].how == FIELD_CHARS)
			return true;
	return false;
}

static const struct row cut_row = {
	.key = "truncated",
	.type = "bool",
	.doc = "a text or list did not fit and was cut",
	.optional = true,
};

/* What a task did may carry a stack; profiles have their own, and the agent's own events none. */
static bool may_have_stack(const struct event_type *type)
{
	for (size_t i = 0; i < type->n_fields; i++)
		if (!strcmp(type->fields[i].key, stack_keys[0].key))
			return false;
	return strcmp(type->module, "identity") != 0;
}

static struct row stack_row(const struct common_key *k)
{
	struct row r = common_row(k);

	r.optional = true;
	r.id = !strcmp(k->key, "stack_id");
	return r;
}

static struct row lineage_row(void)
{
	struct row r = common_row(&lineage_keys[0]);

	r.optional = true;
	return r;
}

static void write_text_row(FILE *out, const struct row *r)
{
	fprintf(out, "  %-16s %-6s %s%s", r->key, r->type, r->doc ? r->doc : "", r->optional ? " (may be absent)" : "");
	for (uint32_t i = 0; r->field && i < r->field->n_names; i++)
		fprintf(out, "%s%s", i ? "|" : ": ", r->field->names[i]);
	fputc('\n', out);
}

static void write_markdown_row(FILE *out, const struct row *r)
{
	fprintf(out, "| `%s` | %s%s | %s", r->key, r->type, r->optional ? ", optional" : "", r->doc ? r->doc : "");
	for (uint32_t i = 0; r->field && i < r->field->n_names; i++)
		fprintf(out, "%s`%s`", i ? ", " : ": ", r->field->names[i]);
	fprintf(out, " | %s | %s |\n", r->otel ? r->otel : "", r->ecs ? r->ecs : "");
}

static void write_json_row(FILE *out, const struct row *r, bool first)
{
	fprintf(out, "%s\n        ", first ? "" : ",");
	write_json_text(out, r->key);
	fprintf(out, ": {\"type\": \"%s\"", json_type(r->type));
	if (!strcmp(r->type, "array"))
		fprintf(out, ", \"items\": {\"type\": \"string\"}");
	else if (!strcmp(r->type, "table"))
		fprintf(out, ", \"items\": {\"type\": \"array\"}");
	if (!strcmp(r->type, "uint"))
		fprintf(out, ", \"minimum\": 0");
	if (r->only)
		fprintf(out, ", \"const\": \"%s\"", r->only);
	if (r->id)
		fprintf(out, ", \"pattern\": \"^[0-9a-f]{16}$\"");
	if (r->field && r->field->n_names) {
		fprintf(out, ", \"enum\": [");
		for (uint32_t i = 0; i < r->field->n_names; i++) {
			fputs(i ? ", " : "", out);
			write_json_text(out, r->field->names[i]);
		}
		fputc(']', out);
	}
	fprintf(out, ", \"description\": ");
	write_json_text(out, r->doc);
	if (r->otel) {
		fprintf(out, ", \"x-otel\": ");
		write_json_text(out, r->otel);
	}
	if (r->ecs) {
		fprintf(out, ", \"x-ecs\": ");
		write_json_text(out, r->ecs);
	}
	fputc('}', out);
}

static void write_sql_row(FILE *out, const struct row *r, bool first)
{
	fprintf(out, "%s\n  \"%s\" %s%s", first ? "" : ",", r->key, sql_type(r->type), r->optional ? "" : " NOT NULL");
}

static void write_row(FILE *out, const struct row *r, enum schema_format format, bool first)
{
	switch (format) {
	case SCHEMA_TEXT:
		write_text_row(out, r);
		break;
	case SCHEMA_MARKDOWN:
		write_markdown_row(out, r);
		break;
	case SCHEMA_JSON:
		write_json_row(out, r, first);
		break;
	case SCHEMA_SQL:
		write_sql_row(out, r, first);
		break;
	}
}

static void each_row(FILE *out, const struct event_type *type, enum schema_format format, bool with_common)
{
	bool first = true;

	for (size_t i = 0; with_common && common_keys[i].key; i++, first = false) {
		struct row r = common_row(&common_keys[i]);

		r.only = i ? NULL : type->name;
		write_row(out, &r, format, first);
	}
	if (type->security) {
		struct row r = lineage_row();

		write_row(out, &r, format, first);
		first = false;
	}
	for (size_t i = 0; i < type->n_fields; i++, first = false) {
		struct row r = field_row(&type->fields[i]);

		write_row(out, &r, format, first);
	}
	if (may_be_cut(type))
		write_row(out, &cut_row, format, first);
	/* Of pages for people, once for all types. */
	for (size_t i = 0; with_common && may_have_stack(type) && stack_keys[i].key; i++) {
		struct row r = stack_row(&stack_keys[i]);

		write_row(out, &r, format, false);
	}
}

static void write_required(FILE *out, const struct event_type *type)
{
	fprintf(out, "\n      },\n      \"required\": [\"type\", \"ts\", \"seq\", \"host\", \"run\"");
	for (size_t i = 0; i < type->n_fields; i++) {
		struct row r = field_row(&type->fields[i]);

		if (r.optional)
			continue;
		fputs(", ", out);
		write_json_text(out, r.key);
	}
	fprintf(out, "]\n    }");
}

static void write_type(FILE *out, const struct event_type *type, enum schema_format format, bool first)
{
	switch (format) {
	case SCHEMA_TEXT:
		fprintf(out, "%s%s version %u, module %s\n  %s\n", first ? "" : "\n", type->name, type->version,
			type->module, type->doc ? type->doc : "");
		each_row(out, type, format, false);
		break;
	case SCHEMA_MARKDOWN:
		fprintf(out, "\n## `%s`\n\n%s Version %u, module `%s`.\n\n", type->name, type->doc ? type->doc : "",
			type->version, type->module);
		if (type->n_fields)
			fprintf(out, "| key | type | meaning | OpenTelemetry | ECS |\n|---|---|---|---|---|\n");
		each_row(out, type, format, false);
		break;
	case SCHEMA_JSON:
		fprintf(out,
			"%s\n    \"%s\": {\n      \"type\": \"object\",\n      \"description\": ", first ? "" : ",",
			type->name);
		write_json_text(out, type->doc);
		fprintf(out, ",\n      \"x-version\": %u,\n      \"properties\": {", type->version);
		each_row(out, type, format, true);
		write_required(out, type);
		break;
	case SCHEMA_SQL:
		fprintf(out, "%s-- %s\nCREATE TABLE \"%s\" (", first ? "" : "\n", type->doc ? type->doc : "",
			type->name);
		each_row(out, type, format, true);
		fprintf(out, "\n);\n");
		break;
	}
}

static void write_begin(FILE *out, enum schema_format format)
{
	if (format == SCHEMA_TEXT) {
		fprintf(out, "every event\n");
		for (const struct common_key *k = common_keys; k->key; k++) {
			struct row r = common_row(k);

			write_text_row(out, &r);
		}
		fprintf(out, "\nevents with a stack (modules.NAME.stack)\n");
		for (const struct common_key *k = stack_keys; k->key; k++) {
			struct row r = stack_row(k);

			write_text_row(out, &r);
		}
		fputc('\n', out);
	} else if (format == SCHEMA_MARKDOWN) {
		fprintf(out, "# Events\n\nGenerated by `sonde schema --format markdown`; a test holds this page "
			     "against the code.\n\n"
			     "## Every event\n\nThese keys come first, in this order.\n\n| key | type | meaning | "
			     "OpenTelemetry | ECS "
			     "|\n|---|---|---|---|---|\n");
		for (const struct common_key *k = common_keys; k->key; k++) {
			struct row r = common_row(k);

			write_markdown_row(out, &r);
		}
		fprintf(out,
			"\n## Events with a stack\n\nWhere `modules.NAME.stack` is on, events of that module end with "
			"these keys.\n\n| key | type | meaning | OpenTelemetry | ECS |\n|---|---|---|---|---|\n");
		for (const struct common_key *k = stack_keys; k->key; k++) {
			struct row r = stack_row(k);

			write_markdown_row(out, &r);
		}
	} else if (format == SCHEMA_JSON) {
		fprintf(out, "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
			     "  \"title\": \"One record of sonde's stream\",\n  \"$defs\": {");
	}
}

static bool is_chosen(const struct event_type *type, const char *pattern)
{
	return !type->internal && (!pattern || fnmatch(pattern, type->name, 0) == 0);
}

/* A record is of exactly one type, which its key `type` says. */
static void write_json_end(FILE *out, const struct schema *schema, const char *pattern)
{
	bool first = true;

	fprintf(out, "\n  },\n  \"oneOf\": [");
	for (size_t i = 0; i < schema_count(schema); i++) {
		if (!is_chosen(schema_type(schema, i), pattern))
			continue;
		fprintf(out, "%s\n    {\"$ref\": \"#/$defs/%s\"}", first ? "" : ",", schema_type(schema, i)->name);
		first = false;
	}
	fprintf(out, "\n  ]\n}\n");
}

size_t schema_write(FILE *out, const struct schema *schema, enum schema_format format, const char *pattern)
{
	size_t chosen = 0, written = 0;

	for (size_t i = 0; i < schema_count(schema); i++)
		chosen += is_chosen(schema_type(schema, i), pattern);
	if (!chosen)
		return 0;
	write_begin(out, format);
	for (size_t i = 0; i < schema_count(schema); i++) {
		const struct event_type *type = schema_type(schema, i);

		if (!is_chosen(type, pattern))
			continue;
		write_type(out, type, format, !written);
		written++;
	}
	if (format == SCHEMA_JSON)
		write_json_end(out, schema, pattern);
	return written;
}
