/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in a module's object: its programs (grouped into measures by their names), its events (by the schema), and its settings
 * (as option rows), all from ELF and BTF, before anything is loaded.
 */
#include "module_state.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

/* libbpf says which program the kernel refused, and why, only through its print function, which has no context argument: each
 * thread that loads has an ear of its own. */
static _Thread_local struct libbpf_words heard;

static int hear(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[2048];
	const char *at;

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(line, sizeof line, format, args);
	at = strstr(line, "prog '");
	if (at && sscanf(at, "prog '%63[^']'", heard.program) == 1 && strstr(line, "BPF program load failed")) {
		at = strstr(line, "failed: ");
		snprintf(heard.text, sizeof heard.text, "%.*s", (int)strcspn(at ? at + 8 : line, "\n"),
			 at ? at + 8 : line);
	} else if (!heard.text[0]) {
		snprintf(heard.text, sizeof heard.text, "%.*s", (int)strcspn(line, "\n"), line);
	}
	return 0;
}

void listen_to_libbpf(void)
{
	memset(&heard, 0, sizeof heard);
	libbpf_set_print(hear);
}

const struct libbpf_words *libbpf_said(void)
{
	return &heard;
}

/* Hooks in order of preference: stable and cheap first. */
static int hook_rank(const char *section)
{
	static const char *const order[] = { "tp_btf/",    "raw_tp/",    "raw_tracepoint/", "tracepoint/", "tp/",
					     "perf_event", "iter.s/",    "iter/",           "fentry/",     "fexit/",
					     "kprobe/",    "kretprobe/", "cgroup_skb/" };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (!strncmp(section, order[i], strlen(order[i])))
			return (int)i;
	return (int)ARRAY_SIZE(order);
}

static const char *own_tag(const struct tags *tags, int id, const char *name)
{
	return id > 0 ? tags_get(tags, (uint32_t)id, -1, name) : NULL;
}

static void read_preference(struct hook *hook, const struct tags *tags)
{
	int id = tags->btf ? btf__find_by_name_kind(tags->btf, hook->program, BTF_KIND_FUNC) : -1;
	const char *covered = own_tag(tags, id, "covered"), *when = own_tag(tags, id, "when"),
		   *types = own_tag(tags, id, "for");

	if (types)
		hook->types = strdup(types); /* the modules' own, for the life of the agent */
	hook->kept = own_tag(tags, id, "kept");
	if (when)
		snprintf(hook->when, sizeof hook->when, "%s", when);
	if (covered)
		snprintf(hook->covered_by, sizeof hook->covered_by, "%s", covered);
	if (own_tag(tags, id, "preferred"))
		hook->rank = -1;
}

void hooks_free(struct module *module)
{
	for (size_t i = 0; i < module->n_measures; i++)
		for (size_t h = 0; h < module->measures[i].n_hooks; h++)
			free(module->measures[i].hooks[h].types);
	module->n_measures = 0;
}

/* What the kernel has of it by name: a function, or the typedef of a tracepoint. */
const char *hook_kernel_name(const char *section, char *room, size_t room_size, unsigned *ret_kind)
{
	static const struct {
		const char *section, *prefix;
		unsigned kind;
	} kinds[] = { { "tp_btf/", "btf_trace_", BTF_KIND_TYPEDEF },
		      { "fentry/", "", BTF_KIND_FUNC },
		      { "fexit/", "", BTF_KIND_FUNC },
		      { "lsm/", "bpf_lsm_", BTF_KIND_FUNC },
		      { "iter/", "bpf_iter_", BTF_KIND_FUNC },
		      { "iter.s/", "bpf_iter_", BTF_KIND_FUNC } };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strncmp(section, kinds[i].section, strlen(kinds[i].section)))
			continue;
		snprintf(room, room_size, "%s%s", kinds[i].prefix, section + strlen(kinds[i].section));
		*ret_kind = kinds[i].kind;
		return room;
	}
	return NULL;
}

static int want_hook(const struct module *module, const char *section)
{
	char room[160];
	unsigned kind;
	const char *name = hook_kernel_name(section, room, sizeof room, &kind);

	return name ? kernel_types_want_name(module->loader->types, name) : 0;
}

static int measure_add_hook(struct module *module, const char *program, const char *section, const struct tags *tags)
{
	const char *end = strstr(program, "__");
	size_t length = end ? (size_t)(end - program) : strlen(program);
	struct measure *m = NULL;

	if (length >= sizeof m->name || strlen(program) >= sizeof m->hooks[0].program)
		return -ENAMETOOLONG;
	for (size_t i = 0; i < module->n_measures; i++)
		if (strlen(module->measures[i].name) == length && !strncmp(module->measures[i].name, program, length))
			m = &module->measures[i];
	if (!m) {
		if (module->n_measures == MEASURES_MAX)
			return -E2BIG;
		m = &module->measures[module->n_measures++];
		memcpy(m->name, program, length);
		m->in_use = -1;
	}
	if (m->n_hooks == HOOKS_MAX)
		return -E2BIG;
	size_t at = m->n_hooks++;
	struct hook h = { .rank = hook_rank(section) };

	snprintf(h.program, sizeof h.program, "%s", program);
	snprintf(h.section, sizeof h.section, "%s", section);
	read_preference(&h, tags);
	for (; at > 0 && m->hooks[at - 1].rank > h.rank; at--)
		m->hooks[at] = m->hooks[at - 1];
	m->hooks[at] = h;
	return want_hook(module, section);
}

void each_setting(const struct tags *tags,
		  void (*each)(void *context, const struct tags *tags, const struct btf_var_secinfo *var),
		  void *context)
{
	const struct btf *btf = tags->btf;
	int section = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);

	if (section < 0)
		return;
	const struct btf_type *rodata = btf__type_by_id(btf, (uint32_t)section);

	for (int i = 0; i < btf_vlen(rodata); i++)
		if (tags_get(tags, btf_var_secinfos(rodata)[i].type, -1, "setting"))
			each(context, tags, &btf_var_secinfos(rodata)[i]);
}

static uint64_t rodata_number(const void *data, size_t data_size, uint32_t offset, uint32_t size)
{
	uint64_t value = 0;

	if (size <= 8 && offset + size <= data_size)
		memcpy(&value, (const char *)data + offset, size);
	return value;
}

struct settings_reading {
	struct sonde_option *rows;
	size_t n;
	const void *data;
	size_t data_size;
};

static bool is_bool(const struct btf *btf, const struct btf_var_secinfo *var)
{
	int id = btf__resolve_type(btf, var->type);
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;

	return t && btf_is_int(t) && btf_int_encoding(t) & BTF_INT_BOOL;
}

static void read_setting(void *context, const struct tags *tags, const struct btf_var_secinfo *var)
{
	const struct btf *btf = tags->btf;
	struct settings_reading *r = context;
	struct sonde_option *rows = realloc(r->rows, (r->n + 2) * sizeof *rows);
	const char *min = tags_get(tags, var->type, -1, "min"), *max = tags_get(tags, var->type, -1, "max"),
		   *unit = tags_get(tags, var->type, -1, "unit"), *doc = tags_get(tags, var->type, -1, "doc");
	char value[24];

	if (!rows)
		return;
	r->rows = rows;
	uint64_t most = max ? strtoull(max, NULL, 0) : 0,
		 holds = var->size < 8 ? (1ull << var->size * 8) - 1 : UINT64_MAX;

	snprintf(value, sizeof value, "%llu",
		 (unsigned long long)rodata_number(r->data, r->data_size, var->offset, var->size));
	if (is_bool(btf, var))
		snprintf(value, sizeof value, "%s", strcmp(value, "0") ? "true" : "false");
	rows[r->n++] = (struct sonde_option){ .type = is_bool(btf, var) ? SONDE_OPTION_BOOL : SONDE_OPTION_UINT,
					      .key = strdup(btf__name_by_offset(
						      btf, btf__type_by_id(btf, var->type)->name_off)),
					      .value = strdup(value),
					      .min = min ? strtoull(min, NULL, 0) : 0,
					      .max = most && most < holds ? most : holds,
					      .unit = strdup(unit ? unit : ""),
					      .help = strdup(doc ? doc : "") };
	rows[r->n] = (struct sonde_option){ 0 };
}

void settings_rows_free(struct sonde_option *rows)
{
	for (struct sonde_option *o = rows; o && o->key; o++) {
		free((void *)o->key);
		free((void *)o->value);
		free((void *)o->unit);
		free((void *)o->help);
	}
	free(rows);
}

/* What each module has by itself is not the module's to declare. */
static int check_settings(const struct module *module, struct fault *fault)
{
	size_t n = 0;

	for (const struct sonde_option *o = module_options(module); o->key; o++, n++) {
		if (!strcmp(o->key, "enabled") || !strcmp(o->key, "overflow") || !strcmp(o->key, "stack"))
			return fault_set(fault, -EINVAL, "module '%s' declares an option '%s', which every module has",
					 module->name, o->key);
		if (module->filters_sockets && !strcmp(o->key, "filter"))
			return fault_set(
				fault, -EINVAL,
				"module '%s' declares an option 'filter', which its SONDE_SOCKET_FILTER() brings",
				module->name);
	}
	return n <= SETTINGS_MAX ? 0
				 : fault_set(fault, -E2BIG, "module '%s' declares more than %d options", module->name,
					     SETTINGS_MAX);
}

struct bpf_map *rodata_map(struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map (map, object) {
		const char *name = bpf_map__name(map), *dot = strrchr(name, '.');

		if (dot && !strcmp(dot, ".rodata"))
			return map;
	}
	return NULL;
}

struct bpf_object *object_open(const struct module *module, struct fault *fault)
{
	const char *types = kernel_types_path(module->loader->types);
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = module->name,
		    .btf_custom_path = module->narrow && *types ? types : NULL);
	struct bpf_object *object;

	listen_to_libbpf();
	object = bpf_object__open_mem(module->filtered ? module->filtered : module->image, module->image_size, &opts);
	if (!object)
		fault_set(fault, -EINVAL, "module '%s' is no BPF object that libbpf takes: %s%s", module->name,
			  heard.text, strstr(heard.text, "BTF is required") ? "; compile it with clang -g" : "");
	return object;
}

/* Each type that a hook is there for is one of the module's own. */
static int check_types(const struct module *module, struct fault *fault)
{
	for (size_t i = 0; i < module->n_measures; i++)
		for (size_t h = 0; h < module->measures[i].n_hooks; h++) {
			const struct hook *hook = &module->measures[i].hooks[h];

			for (const char *at = hook->types; at && *at; at += strcspn(at, " "), at += *at == ' ') {
				size_t n = strcspn(at, " ");
				const struct event_type *type = schema_find(module->loader->schema, at, n);

				if (!type || strcmp(type->module, module->name))
					return fault_set(fault, -EINVAL,
							 "module '%s': program %s is for '%.*s', which is no event of "
							 "the module",
							 module->name, hook->program, (int)n, at);
			}
		}
	return 0;
}

int module_inspect(struct module *module, struct fault *fault)
{
	struct bpf_object *object = object_open(module, fault);
	struct settings_reading settings = { 0 };
	_cleanup_(tags_release) struct tags tags = { 0 };
	struct bpf_program *program;
	struct bpf_map *rodata;
	int r;

	if (!object)
		return -EINVAL;
	r = tags_read(&tags, bpf_object__btf(object));
	if (r < 0)
		fault_set(fault, r, "out of memory");
	else if (!bpf_object__btf(object))
		r = fault_set(fault, -EINVAL, "module '%s' has no BTF: compile it with clang -g", module->name);
	bpf_object__for_each_program (program, object) {
		if (r < 0)
			break;
		r = measure_add_hook(module, bpf_program__name(program), bpf_program__section_name(program), &tags);
		if (r < 0)
			fault_set(fault, r, "module '%s': too many or too long program names", module->name);
	}
	if (r == 0)
		module->narrow = kernel_types_want(module->loader->types, module->image, module->image_size,
						   bpf_object__btf(object)) > 0;
	rodata = rodata_map(object);
	module->filters_sockets =
		r == 0 && btf__find_by_name_kind(bpf_object__btf(object), "sonde_socket_filter", BTF_KIND_FUNC) > 0;
	if (r == 0 && rodata) {
		settings.data = bpf_map__initial_value(rodata, &settings.data_size);
		each_setting(&tags, read_setting, &settings);
		module->settings = settings.rows;
	}
	if (r == 0)
		r = check_settings(module, fault);
	/* Last: what a refused module declares is not in the schema. */
	if (r == 0)
		r = schema_add(module->loader->schema, module->name, bpf_object__btf(object), fault);
	if (r == 0)
		r = check_types(module, fault);
	if (r < 0) {
		settings_rows_free(module->settings);
		module->settings = NULL;
		hooks_free(module);
	}
	bpf_object__close(object);
	return r;
}
