/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event types as their modules declare them: read from the BTF of a module's object, where the C structs and their
 * declaration tags are (sonde/event.h). What encodes, documents or counts events starts from here.
 */
#ifndef SONDE_SCHEMA_H
#define SONDE_SCHEMA_H

#include "base/base.h"
#include "sonde/shared.h"

struct btf;

enum field_how {
	FIELD_UINT,
	FIELD_INT,
	FIELD_BOOL,
	FIELD_CHARS, /* char[N], up to the first NUL */
	FIELD_IP,
	FIELD_ID,
	FIELD_TIME,
	FIELD_ERRNO,
	FIELD_CAPS,
	FIELD_NAMES,
	FIELD_TEXT,
	FIELD_LIST,
	FIELD_PATH,
	FIELD_HEX,     /* sonde_text as hex digits */
	FIELD_MSGPACK, /* a map that is packed already */
	FIELD_TABLE,   /* the same, an array of arrays */
};

struct field {
	char *key, *doc, *otel, *ecs;
	enum field_how how;
	uint32_t offset, size; /* bytes, within the struct */
	bool optional;
	char **names; /* FIELD_NAMES */
	uint32_t n_names;
};

struct event_type {
	char *name;   /* "process.exec" */
	char *record; /* "process_exec", the struct */
	char *module; /* "exec" */
	char *doc;
	uint16_t id; /* of this run: index in the schema */
	uint16_t version;
	bool internal;      /* never journaled as it is */
	bool security;      /* carries the lineage of its process */
	bool priority;      /* its ring */
	uint32_t size;      /* of the struct */
	uint32_t id_offset; /* of its number in the object's .rodata */
	struct field *fields;
	size_t n_fields;
};

/* Types only come, and stay where they are: other threads may look up while the loop's thread adds. */
struct schema; /* opaque */

int schema_new(struct schema **ret);
void schema_free(struct schema *schema);

/* Adds the types that `btf`, of the object of `module`, declares. A type known already from the same module (loaded again) keeps its id.
 * -EINVAL with what is wrong with the declaration, -EEXIST when another module has a type of that name, -E2BIG past SONDE_TYPES_MAX. */
int schema_add(struct schema *schema, const char *module, const struct btf *btf, struct fault *fault);

size_t schema_count(const struct schema *schema);
const struct event_type *schema_type(const struct schema *schema, size_t id); /* NULL past the end */
const struct event_type *schema_find(const struct schema *schema, const char *name, size_t length); /* any thread */
const struct event_type *schema_find_record(const struct schema *schema, const char *module, const char *record);

/* The keys that every map begins with, for documentation: ends with a NULL key. */
struct common_key {
	const char *key, *type, *doc, *otel, *ecs;
};
extern const struct common_key common_keys[];
/* Keys at the end of the map, of events that carry a stack: all but those that have such keys of their own. */
extern const struct common_key stack_keys[];
/* Behind the common keys, of events of security. */
extern const struct common_key lineage_keys[];

/* The msgpack type that a field becomes: "uint", "str", "array of str" ...; its JSON and SQL counterparts follow from it. */
const char *field_type_name(const struct field *field);

enum schema_format { SCHEMA_TEXT, SCHEMA_JSON, SCHEMA_MARKDOWN, SCHEMA_SQL };

/* Writes all types, or those whose name fits the glob `pattern`; internal ones are left out. Returns how many. */
size_t schema_write(FILE *out, const struct schema *schema, enum schema_format format, const char *pattern);

#endif
