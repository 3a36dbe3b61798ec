/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader knows between the files and the compiled rules. Private to this folder. */
#ifndef SONDE_RULE_LOAD_STATE_H
#define SONDE_RULE_LOAD_STATE_H

#include "rules/output.h"
#include "rules/program.h"
#include "rules/rules.h"
#include "rules/source_text.h"

#define RULES_FILE_MAX        (8u << 20)
#define RULES_DEFINITIONS_MAX 8192u
#define RULES_LIST_MAX        65536u  /* values of one list, lists in it included */
#define RULES_LISTED_MAX      262144u /* values of all lists */
#define RULES_FAULTS_MAX      100u    /* reported; then loading ends */

enum definition_kind { DEFINES_LIST, DEFINES_MACRO, DEFINES_RULE };

struct rule_parts {
	struct rule_part *at;
	uint32_t n, room;
};

/* An exception of a rule: fields and comparisons as they stand, values from every file that adds some. */
struct rule_exception {
	const char *name;
	struct rule_part whole;
	const struct yaml_node *fields, *comps; /* NULL: not given */
	struct rule_parts values;
};

struct definition {
	enum definition_kind kind;
	const char *name;
	struct rule_part whole;     /* where it was first defined */
	uint32_t order, visibility; /* when it was first and last touched */
	struct rule_parts items;    /* of a list */
	struct rule_parts conditions, outputs, descs, tags;
	struct rule_exception *exceptions;
	uint32_t n_exceptions, exceptions_room;
	enum rule_priority priority;
	const char *source;
	bool enabled, warn_types, skip_unknown;
	/* When it is built: */
	struct source_text text, output_text;
	struct syntax *syntax;
	struct syntax_word *words;
	struct rule_list list;
	bool expanded, open, broken;
};

struct loader {
	const struct rules_options *options;
	struct fault *fault;
	struct yaml_tree **trees;
	struct definition *definitions;
	uint32_t n_definitions, definitions_room, touched;
	uint32_t *names, names_mask; /* hash table of kind and name: number of a definition + 1 */
	unsigned n_errors;
	uint64_t last_report; /* hash of the sentence */
	uint32_t listed;
	bool hit_broken; /* what is wrong now is wrong because of a macro that was reported */
	struct rules *rules;
	const struct rules_file *file; /* being read */
	struct definition *building;
};

struct rule {
	struct rule_info info;
	struct condition condition;
	struct output output;
	struct syntax *syntax;
	uint32_t definition;
};

/* The definitions stay with the rules: `explain` shows what was written. */
struct rules {
	struct program *program;
	struct rule *rules;
	uint32_t n_rules;
	struct rules_file *files; /* copies */
	size_t n_files;
	struct yaml_tree **trees;
	struct definition *definitions;
	uint32_t n_definitions;
	uint32_t *names, names_mask;
	uint32_t type_slot;                    /* of evt.type */
	uint32_t by_type[EVENT_TYPES_MAX + 1]; /* where in `order` the rules of a type begin */
	uint32_t *order;
	uint32_t *untyped, n_untyped; /* rules for events of no known type */
};

/* A mistake or a warning about a place of the file being read, or of `part`. Returns -EINVAL. */
int load_report(struct loader *l, enum rules_level level, const struct rule_part *part, const char *format, ...)
	_printf_(4, 5);
int load_report_at(struct loader *l, enum rules_level level, const char *label, unsigned line, unsigned column,
		   const char *format, ...) _printf_(6, 7);
/* A sentence that has its place already. */
int load_report_placed(struct loader *l, enum rules_level level, const char *sentence);

/* The definition of this kind and name, or NULL. */
struct definition *load_find(struct definition *definitions, const uint32_t *names, uint32_t mask,
			     enum definition_kind kind, const char *name, size_t length);

/* Reads one file's tree into definitions. Mistakes are reported. -ENOMEM. */
int load_documents(struct loader *l, const struct yaml_node *documents);
bool parts_add(struct rule_parts *parts, const struct rules_file *file, const struct yaml_node *node);

/* Definitions to rules. -ENOMEM. */
int load_build(struct loader *l);

/* Puts a rule's condition together, its exceptions included. */
int load_condition(struct loader *l, struct definition *definition);
/* Checks and takes an exception that a rule is defined with, or that is added to it. */
int load_exceptions(struct loader *l, struct definition *definition, const struct yaml_node *node, bool adding);
void load_forget_exceptions(struct definition *definition);

/* The resolver of fields, for conditions and outputs. */
int load_resolve(void *context, struct program *program, const struct syntax *syntax,
		 const struct syntax_operand *operand, struct rule_ref *ret, struct fault *fault);

const struct yaml_node *yaml_member(const struct yaml_node *mapping, const char *key);

#endif
