/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading is a loop of tries. Each try opens the object anew with, for each measure, the best hook not yet refused; when the kernel
 * refuses a program (at load or at attach), that hook is marked with the kernel's reason and the next try goes without it. A module has at most
 * MEASURES_MAX * HOOKS_MAX hooks, so the loop ends.
 *
 * The identity module is the owner of the shared maps: it is loaded first, and every other object gets its maps by descriptor.
 */
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "modules.h"

#define SHARED_PREFIX "sonde_"
#define OBJECT_SUFFIX ".bpf.o"
#define NAME_MOST     32 /* of a module's name, as in the configuration */
#define SETTINGS_MAX  32 /* options of one module */
#define DROPPED_MAX   32 /* modules of the folder */
#define IMAGE_MOST    (16 << 20)

struct hook {
	char program[64];    /* exec__tp_btf */
	char section[96];    /* tp_btf/sched_process_exec */
	int rank;            /* lower is preferred */
	char covered_by[64]; /* a program that, when it is in use, does this one's work too */
	bool refused;
	char why[160];
};

struct measure {
	char name[48];
	struct hook hooks[HOOKS_MAX];
	size_t n_hooks;
	int in_use;             /* index of hooks, -1: none */
	const char *covered_by; /* the program that does its work; NULL: none */
	uint64_t misses;        /* of programs that were unloaded since */
};

struct module {
	struct loader *loader;
	char name[48];
	unsigned number;
	void *image; /* the object's bytes; owned when `owned` */
	size_t image_size;
	bool owned;
	void *library; /* companion's .so */
	const struct sonde_module *companion;
	struct sonde_option *settings; /* rows made from SONDE_SETTING variables, when there is no companion */
	struct measure measures[MEASURES_MAX];
	size_t n_measures;
	struct bpf_object *object; /* while running */
	struct bpf_link *links[MEASURES_MAX];
	struct sonde_host *host;
	bool attached;
};

struct loader {
	struct loader_options options;
	struct schema *schema;
	struct btf *kernel;
	struct module *modules;
	size_t n_modules;
	void (*notice)(void *context, const char *text);
	void *context;
	uint64_t boot;
	int cgroup_v1;
};

/* The companions linked in; weak, so that the table names what may exist. */
extern const struct sonde_module sonde_module_cpu __attribute__((weak));
static const struct {
	const char *name;
	const struct sonde_module *companion;
} companions[] = { { "cpu", &sonde_module_cpu } };

/* ---- libbpf's words ---- */

/* libbpf says which program the kernel refused, and why, only through its print function, which has no context argument. The loader runs
 * on one thread; this is its ear while a load lasts. */
static _Thread_local struct {
	char program[64];
	char text[160];
	char verifier[160];
} heard;

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

static void listen_to_libbpf(void)
{
	memset(&heard, 0, sizeof heard);
	libbpf_set_print(hear);
}

/* ---- finding modules ---- */

/* Hooks in order of preference: stable and cheap first. */
static int hook_rank(const char *section)
{
	static const char *const order[] = { "tp_btf/", "raw_tp/",    "raw_tracepoint/", "tracepoint/",
					     "tp/",     "perf_event", "iter/",           "fentry/",
					     "fexit/",  "kprobe/",    "kretprobe/" };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (!strncmp(section, order[i], strlen(order[i])))
			return (int)i;
	return (int)ARRAY_SIZE(order);
}

/* The value of a sonde tag on a variable or function of an object; NULL: it has none. */
static const char *object_tag(const struct btf *btf, uint32_t id, const char *name)
{
	for (uint32_t i = 1; i < btf__type_cnt(btf); i++) {
		const struct btf_type *t = btf__type_by_id(btf, i);

		if (!btf_is_decl_tag(t) || t->type != id || btf_decl_tag(t)->component_idx != -1)
			continue;
		const char *text = btf__name_by_offset(btf, t->name_off);

		if (strncmp(text, "sonde:", 6) || strncmp(text + 6, name, strlen(name)))
			continue;
		text += 6 + strlen(name);
		if (*text == '=' || !*text)
			return *text ? text + 1 : text;
	}
	return NULL;
}

static void read_preference(struct hook *hook, const struct btf *btf)
{
	int id = btf ? btf__find_by_name_kind(btf, hook->program, BTF_KIND_FUNC) : -1;
	const char *covered = id > 0 ? object_tag(btf, (uint32_t)id, "covered") : NULL;

	if (covered)
		snprintf(hook->covered_by, sizeof hook->covered_by, "%s", covered);
	if (id > 0 && object_tag(btf, (uint32_t)id, "preferred"))
		hook->rank = -1;
}

static int measure_add_hook(struct module *module, const char *program, const char *section, const struct btf *btf)
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
	read_preference(&h, btf);
	for (; at > 0 && m->hooks[at - 1].rank > h.rank; at--)
		m->hooks[at] = m->hooks[at - 1];
	m->hooks[at] = h;
	return 0;
}

/* Calls `each` for the SONDE_SETTING variables of an object. */
static void each_setting(const struct btf *btf,
			 void (*each)(void *context, const struct btf *btf, const struct btf_var_secinfo *var),
			 void *context)
{
	int section = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);

	if (section < 0)
		return;
	const struct btf_type *rodata = btf__type_by_id(btf, (uint32_t)section);

	for (int i = 0; i < btf_vlen(rodata); i++)
		if (object_tag(btf, btf_var_secinfos(rodata)[i].type, "setting"))
			each(context, btf, &btf_var_secinfos(rodata)[i]);
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

static void read_setting(void *context, const struct btf *btf, const struct btf_var_secinfo *var)
{
	struct settings_reading *r = context;
	struct sonde_option *rows = realloc(r->rows, (r->n + 2) * sizeof *rows);
	const char *min = object_tag(btf, var->type, "min"), *max = object_tag(btf, var->type, "max"),
		   *unit = object_tag(btf, var->type, "unit"), *doc = object_tag(btf, var->type, "doc");
	char value[24];

	if (!rows)
		return;
	r->rows = rows;
	uint64_t most = max ? strtoull(max, NULL, 0) : 0,
		 holds = var->size < 8 ? (1ull << var->size * 8) - 1 : UINT64_MAX;

	snprintf(value, sizeof value, "%llu",
		 (unsigned long long)rodata_number(r->data, r->data_size, var->offset, var->size));
	rows[r->n++] = (struct sonde_option){ .type = SONDE_OPTION_UINT,
					      .key = strdup(btf__name_by_offset(
						      btf, btf__type_by_id(btf, var->type)->name_off)),
					      .value = strdup(value),
					      .min = min ? strtoull(min, NULL, 0) : 0,
					      .max = most && most < holds ? most : holds,
					      .unit = strdup(unit ? unit : ""),
					      .help = strdup(doc ? doc : "") };
	rows[r->n] = (struct sonde_option){ 0 };
}

static void settings_rows_free(struct sonde_option *rows)
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

	for (const struct sonde_option *o = module_options(module); o->key; o++, n++)
		if (!strcmp(o->key, "enabled") || !strcmp(o->key, "overflow"))
			return fault_set(fault, -EINVAL, "module '%s' declares an option '%s', which every module has",
					 module->name, o->key);
	return n <= SETTINGS_MAX ? 0
				 : fault_set(fault, -E2BIG, "module '%s' declares more than %d options", module->name,
					     SETTINGS_MAX);
}

static struct bpf_map *rodata_map(struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map (map, object) {
		const char *name = bpf_map__name(map), *dot = strrchr(name, '.');

		if (dot && !strcmp(dot, ".rodata"))
			return map;
	}
	return NULL;
}

static struct bpf_object *object_open(const struct module *module, struct fault *fault)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = module->name);
	struct bpf_object *object;

	listen_to_libbpf();
	object = bpf_object__open_mem(module->image, module->image_size, &opts);
	if (!object)
		fault_set(fault, -EINVAL, "module '%s' is no BPF object that libbpf takes: %s%s", module->name,
			  heard.text, strstr(heard.text, "BTF is required") ? "; compile it with clang -g" : "");
	return object;
}

static int module_inspect(struct module *module, struct fault *fault)
{
	struct bpf_object *object = object_open(module, fault);
	struct settings_reading settings = { 0 };
	struct bpf_program *program;
	struct bpf_map *rodata;
	int r = 0;

	if (!object)
		return -EINVAL;
	if (!bpf_object__btf(object))
		r = fault_set(fault, -EINVAL, "module '%s' has no BTF: compile it with clang -g", module->name);
	bpf_object__for_each_program (program, object) {
		if (r < 0)
			break;
		r = measure_add_hook(module, bpf_program__name(program), bpf_program__section_name(program),
				     bpf_object__btf(object));
		if (r < 0)
			fault_set(fault, r, "module '%s': too many or too long program names", module->name);
	}
	rodata = rodata_map(object);
	if (r == 0 && rodata) {
		settings.data = bpf_map__initial_value(rodata, &settings.data_size);
		each_setting(bpf_object__btf(object), read_setting, &settings);
		module->settings = settings.rows;
	}
	if (r == 0)
		r = check_settings(module, fault);
	/* Last: what a refused module declares is not in the schema. */
	if (r == 0)
		r = schema_add(module->loader->schema, module->name, bpf_object__btf(object), fault);
	if (r < 0) {
		settings_rows_free(module->settings);
		module->settings = NULL;
	}
	bpf_object__close(object);
	return r;
}

static int module_add(struct loader *loader, const char *name, void *image, size_t size, bool owned, void *library,
		      const struct sonde_module *companion, struct fault *fault)
{
	struct module *m = &loader->modules[loader->n_modules];
	int r;

	if (strlen(name) >= sizeof m->name)
		return fault_set(fault, -ENAMETOOLONG, "module name '%s' is too long", name);
	*m = (struct module){ .loader = loader,
			      .number = (unsigned)loader->n_modules,
			      .image = image,
			      .image_size = size,
			      .owned = owned,
			      .library = library,
			      .companion = companion };
	snprintf(m->name, sizeof m->name, "%s", name);
	r = module_inspect(m, fault);
	if (r < 0)
		return r;
	loader->n_modules++;
	return 0;
}

static int add_builtin(struct loader *loader, struct fault *fault)
{
	for (int pass = 0; pass < 2; pass++)
		for (const struct builtin_object *b = builtin_objects; b->name; b++) {
			const struct sonde_module *companion = NULL;
			int r;

			if ((strcmp(b->name, "identity") == 0) == (pass == 1))
				continue;
			for (size_t i = 0; i < ARRAY_SIZE(companions); i++)
				if (!strcmp(companions[i].name, b->name))
					companion = companions[i].companion;
			r = module_add(loader, b->name, (void *)b->begin, (size_t)(b->end - b->begin), false, NULL,
				       companion, fault);
			if (r < 0)
				return r;
		}
	return 0;
}

/* Code of others runs with the agent's privileges: only root may have written it, and its folder. */
static int check_trust(int fd, const char *path, struct fault *fault)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fault_set(fault, -errno, "%s: %s", path, strerror(errno));
	if (st.st_uid != 0)
		return fault_set(fault, -EPERM, "%s is refused: it belongs to user %u, not to root; chown root it",
				 path, st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return fault_set(fault, -EPERM,
				 "%s is refused: others than root may write it (mode %04o); chmod go-w it", path,
				 st.st_mode & 07777);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return fault_set(fault, -EPERM, "%s is refused: it is no regular file", path);
	return 0;
}

static int read_image(int fd, void **ret, size_t *ret_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > IMAGE_MOST)
		return -EFBIG;
	char *image = malloc((size_t)st.st_size + 1);
	size_t got = 0;

	if (!image)
		return -ENOMEM;
	while (got < (size_t)st.st_size) {
		ssize_t n = pread(fd, image + got, (size_t)st.st_size - got, (off_t)got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	*ret = image;
	*ret_size = got;
	return 0;
}

/* Where a link leads may change hands after it was looked at. */
static const char *refusal(int error)
{
	return error == ELOOP ? "it is a symbolic link; put the file itself there" : strerror(error);
}

static int open_trusted(int folder, const char *folder_path, const char *name, struct fault *fault)
{
	char path[512];
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), r;

	snprintf(path, sizeof path, "%s/%s", folder_path, name);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : fault_set(fault, -errno, "%s is refused: %s", path, refusal(errno));
	r = check_trust(fd, path, fault);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static const char *companion_signature(const struct sonde_module *m)
{
	return !m                           ? "it has no sonde_module"
	       : m->abi != SONDE_MODULE_ABI ? "of another ABI"
	       : m->signature               ? m->signature
					    : "without a signature";
}

static int open_companion(int folder, const char *folder_path, const char *name, void **ret_library,
			  const struct sonde_module **ret, struct fault *fault)
{
	char file[64], link[40];
	const struct sonde_module *m;
	void *library;
	int fd;

	snprintf(file, sizeof file, "%s.so", name);
	fd = open_trusted(folder, folder_path, file, fault);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	library = dlopen(link, RTLD_NOW | RTLD_LOCAL);
	close(fd);
	if (!library)
		return fault_set(fault, -ELIBBAD, "%s/%s: %s", folder_path, file, dlerror());
	m = dlsym(library, "sonde_module");
	if (!m || m->abi != SONDE_MODULE_ABI || !m->signature || strcmp(m->signature, SONDE_MODULE_SIGNATURE))
		fault_set(fault, -ELIBBAD,
			  "%s/%s is refused: it was built for another sonde (%.64s); rebuild it against the headers of "
			  "this one (%s)",
			  folder_path, file, companion_signature(m), SONDE_MODULE_SIGNATURE);
	else if (!m->name || strcmp(m->name, name))
		fault_set(fault, -ELIBBAD, "%s/%s is refused: it is the companion of '%.64s', not of '%s'", folder_path,
			  file, m->name ? m->name : "", name);
	else {
		*ret_library = library;
		*ret = m;
		return 0;
	}
	dlclose(library);
	return -ELIBBAD;
}

static int add_dropped(struct loader *loader, int folder, const char *file, struct fault *fault)
{
	const struct sonde_module *companion = NULL;
	void *library = NULL, *image = NULL;
	char name[64];
	size_t size = 0;
	int fd, r;

	snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - strlen(OBJECT_SUFFIX)), file);
	for (size_t i = 0; i < loader->n_modules; i++)
		if (!strcmp(loader->modules[i].name, name))
			return fault_set(fault, -EEXIST, "%s/%s is refused: there is a module '%s' already",
					 loader->options.folder, file, name);
	fd = open_trusted(folder, loader->options.folder, file, fault);
	if (fd < 0)
		return fd;
	r = read_image(fd, &image, &size);
	close(fd);
	if (r < 0)
		return fault_set(fault, r, "%s/%s: %s", loader->options.folder, file, strerror(-r));
	r = open_companion(folder, loader->options.folder, name, &library, &companion, fault);
	if (r == 0) {
		struct fault why = { 0 };

		r = module_add(loader, name, image, size, true, library, companion, &why);
		if (r < 0)
			fault_set(fault, r, "%s/%s is refused: %s", loader->options.folder, file, why.text);
	}
	if (r < 0) {
		free(image);
		if (library)
			dlclose(library);
	}
	return r;
}

static bool is_object_name(const char *name)
{
	size_t n = strlen(name);

	return n > strlen(OBJECT_SUFFIX) && !strcmp(name + n - strlen(OBJECT_SUFFIX), OBJECT_SUFFIX) && name[0] != '.';
}

/* The file's name is a part of configuration keys. */
static bool is_module_name(const char *file)
{
	size_t n = strspn(file, "abcdefghijklmnopqrstuvwxyz0123456789_-");

	return n && n <= NAME_MOST && !strcmp(file + n, OBJECT_SUFFIX);
}

static int is_object(const struct dirent *entry)
{
	return is_object_name(entry->d_name);
}

/* In the order of their names: of two that clash, it is always the same one that is refused. */
static void add_objects(struct loader *loader, int folder, struct fault *fault)
{
	size_t built_in = loader->n_modules;
	struct dirent **entries;
	int n = scandirat(folder, ".", &entries, is_object, alphasort);

	for (int i = 0; i < n; i++) {
		const char *file = entries[i]->d_name;
		int r;

		if (loader->n_modules - built_in == DROPPED_MAX)
			r = fault_set(fault, -E2BIG, "%s/%s is refused: there are %d modules in the folder already",
				      loader->options.folder, file, DROPPED_MAX);
		else if (!is_module_name(file))
			r = fault_set(fault, -EINVAL,
				      "%s/%s is refused: a module's name is at most %d of a-z, 0-9, _ and -",
				      loader->options.folder, file, NAME_MOST);
		else
			r = add_dropped(loader, folder, file, fault);
		if (r < 0)
			loader->notice(loader->context, fault->text);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

static int add_folder(struct loader *loader, struct fault *fault)
{
	const char *path = loader->options.folder;
	_cleanup_(close_fd) int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (folder < 0 && errno == ENOENT)
		return 0;
	if (folder < 0) /* of a link, ENOTDIR is what the two flags together give */
		return fault_set(fault, -errno, "agent.modules: %s: %s", path,
				 lstat(path, &st) == 0 && S_ISLNK(st.st_mode) ? refusal(ELOOP) : strerror(errno));
	if (check_trust(folder, path, fault) < 0)
		loader->notice(loader->context, fault->text);
	else
		add_objects(loader, folder, fault);
	return 0;
}

/* A salt that is the same for every agent of one boot, and differs from boot to boot and from host to host. */
static uint64_t boot_salt(void)
{
	_cleanup_(free_pointer) char *id = NULL;
	size_t size;

	if (read_small_file("/proc/sys/kernel/random/boot_id", 128, &id, &size) < 0)
		return 1;
	return hash_bytes(id, size);
}

int loader_open(struct loader **ret, const struct loader_options *options, struct schema *schema,
		void (*notice)(void *context, const char *text), void *context, struct fault *fault)
{
	size_t n = DROPPED_MAX;
	struct loader *loader = calloc(1, sizeof *loader);
	int r;

	if (!loader)
		return -ENOMEM;
	for (const struct builtin_object *b = builtin_objects; b->name; b++)
		n++;
	*loader = (struct loader){ .options = *options,
				   .schema = schema,
				   .notice = notice,
				   .context = context,
				   .boot = boot_salt(),
				   .cgroup_v1 = -1,
				   .modules = calloc(n, sizeof *loader->modules) };
	r = loader->modules ? add_builtin(loader, fault) : -ENOMEM;
	if (r == 0 && options->folder && *options->folder)
		r = add_folder(loader, fault);
	if (r < 0) {
		loader_close(loader);
		return r;
	}
	*ret = loader;
	return 0;
}

void loader_close(struct loader *loader)
{
	if (!loader)
		return;
	for (size_t i = loader->n_modules; i-- > 0;) {
		struct module *m = &loader->modules[i];

		module_unload(m);
		settings_rows_free(m->settings);
		if (m->owned)
			free(m->image);
		if (m->library)
			dlclose(m->library);
	}
	btf__free(loader->kernel);
	free(loader->modules);
	free(loader);
}

size_t loader_count(const struct loader *loader)
{
	return loader->n_modules;
}

struct module *loader_module(struct loader *loader, size_t index)
{
	return &loader->modules[index];
}

const char *module_name(const struct module *module)
{
	return module->name;
}

const char *module_summary(const struct module *module)
{
	return module->companion && module->companion->summary ? module->companion->summary : "";
}

const struct sonde_option *module_options(const struct module *module)
{
	static const struct sonde_option none[] = { { 0 } };

	if (module->companion && module->companion->options)
		return module->companion->options;
	return module->settings ? module->settings : none;
}

bool module_running(const struct module *module)
{
	return module->object != NULL;
}

const struct sonde_module *module_companion(const struct module *module)
{
	return module->companion;
}

/* ---- what the kernel offers ---- */

static struct btf *kernel_btf(struct loader *loader)
{
	if (!loader->kernel)
		loader->kernel = btf__load_vmlinux_btf();
	return loader->kernel;
}

/* The index of a controller in css_set.subsys is its value in enum cgroup_subsys_id, which differs from kernel to kernel. */
void loader_set_cgroup_v1(struct loader *loader, const char *controller)
{
	const struct btf *btf = kernel_btf(loader);
	int id = btf ? btf__find_by_name_kind(btf, "cgroup_subsys_id", BTF_KIND_ENUM) : -1;
	char name[64];

	loader->cgroup_v1 = -1;
	if (id < 0 || !*controller)
		return;
	const struct btf_type *t = btf__type_by_id(btf, (uint32_t)id);

	snprintf(name, sizeof name, "%s_cgrp_id", controller);
	for (int i = 0; i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_enum(t)[i].name_off), name))
			loader->cgroup_v1 = btf_enum(t)[i].val;
}

int loader_check_kernel(struct fault *fault)
{
	struct utsname u;

	uname(&u);
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		return fault_set(fault, -ENOENT,
				 "kernel %s has no BTF (/sys/kernel/btf/vmlinux: %s); sonde needs Linux 5.15 or newer "
				 "with CONFIG_DEBUG_INFO_BTF",
				 u.release, strerror(errno));
	return 0;
}

static bool tracefs_ready(void)
{
	static const char *const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		char path[64];

		snprintf(path, sizeof path, "%s/events", places[i]);
		if (stat(path, &st) == 0)
			return true;
	}
	/* In a mount namespace of our own, where the host's mounts still arrive: nothing is left behind on the host. */
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0 &&
	       mount("tracefs", places[0], "tracefs", 0, NULL) == 0;
}

/* Whether the kernel has what a hook names; false with the reason. Whether it takes the program shows when it is loaded. */
static bool hook_offered(struct loader *loader, const char *section, char *why, size_t why_size)
{
	const char *slash = strchr(section, '/'), *name = slash ? slash + 1 : "";
	char text[160];

	if (!strncmp(section, "tp_btf/", 7)) {
		snprintf(text, sizeof text, "btf_trace_%s", name);
		if (btf__find_by_name_kind(kernel_btf(loader), text, BTF_KIND_TYPEDEF) > 0)
			return true;
		snprintf(why, why_size, "this kernel has no tracepoint %s", name);
		return false;
	}
	if (!strncmp(section, "tracepoint/", 11) || !strncmp(section, "tp/", 3)) {
		if (!tracefs_ready()) {
			snprintf(why, why_size, "tracefs is not mounted and cannot be");
			return false;
		}
		for (int i = 0; i < 2; i++) {
			snprintf(text, sizeof text, "%s/events/%s",
				 i ? "/sys/kernel/debug/tracing" : "/sys/kernel/tracing", name);
			if (access(text, F_OK) == 0)
				return true;
		}
		snprintf(why, why_size, "this kernel has no tracepoint %s", name);
		return false;
	}
	if (!strncmp(section, "fentry/", 7) || !strncmp(section, "fexit/", 6)) {
		if (btf__find_by_name_kind(kernel_btf(loader), name, BTF_KIND_FUNC) > 0)
			return true;
		snprintf(why, why_size, "this kernel has no function %s", name);
		return false;
	}
	if (!strncmp(section, "kprobe/", 7) || !strncmp(section, "kretprobe/", 10)) {
		if (access("/sys/bus/event_source/devices/kprobe", F_OK) == 0)
			return true;
		snprintf(why, why_size, "this kernel has no kprobes");
		return false;
	}
	return true;
}

/* ---- one try ---- */

static void measure_choose(struct loader *loader, struct measure *m)
{
	m->in_use = -1;
	for (size_t i = 0; i < m->n_hooks; i++) {
		struct hook *h = &m->hooks[i];

		if (!h->refused && !hook_offered(loader, h->section, h->why, sizeof h->why))
			h->refused = true;
		if (h->refused)
			continue;
		m->in_use = (int)i;
		return;
	}
}

static const struct hook *hook_in_use(const struct measure *m)
{
	return m->in_use >= 0 ? &m->hooks[m->in_use] : NULL;
}

/* Whether a program that is in use does the work of this one. */
static bool is_covered(const struct module *module, const struct hook *hook)
{
	for (size_t i = 0; hook && hook->covered_by[0] && i < module->n_measures; i++) {
		const struct hook *other = hook_in_use(&module->measures[i]);

		if (other && !strcmp(other->program, hook->covered_by))
			return true;
	}
	return false;
}

static void choose_hooks(struct module *module, struct bpf_object *object)
{
	struct bpf_program *program;

	bpf_object__for_each_program (program, object)
		bpf_program__set_autoload(program, false);
	for (size_t i = 0; i < module->n_measures; i++)
		measure_choose(module->loader, &module->measures[i]);
	for (size_t i = 0; i < module->n_measures; i++) {
		struct measure *m = &module->measures[i];
		const struct hook *h = hook_in_use(m);

		m->covered_by = is_covered(module, h) ? h->covered_by : NULL;
		if (m->covered_by)
			m->in_use = -1;
		h = hook_in_use(m);
		program = h ? bpf_object__find_program_by_name(object, h->program) : NULL;
		if (program)
			bpf_program__set_autoload(program, true);
	}
}

struct rodata_writing {
	struct module *module;
	const struct config *config;
	char *data;
	size_t size;
};

static void put_number(struct rodata_writing *w, const struct btf *btf, const struct btf_var_secinfo *var,
		       uint64_t value)
{
	if (var->size <= 8 && var->offset + var->size <= w->size)
		memcpy(w->data + var->offset, &value, var->size); /* little endian, as all kernels that sonde runs on */
}

static void put_setting(void *context, const struct btf *btf, const struct btf_var_secinfo *var)
{
	struct rodata_writing *w = context;
	char key[128];

	if (w->module->companion && w->module->companion->options)
		return;
	snprintf(key, sizeof key, "modules.%s.%s", w->module->name,
		 btf__name_by_offset(btf, btf__type_by_id(btf, var->type)->name_off));
	put_number(w, btf, var, config_number(w->config, key));
}

/* The numbers that the kernel side cannot know: event ids, the salt, which bytes in a ring wake the reader. */
static void fill_rodata(struct module *module, struct bpf_object *object, const struct config *config)
{
	const struct loader *l = module->loader;
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = { { "sonde_boot", l->boot },
			{ "sonde_module_number", module->number },
			{ "sonde_page_bytes", (uint64_t)sysconf(_SC_PAGESIZE) },
			{ "sonde_cgroup_v1", (uint64_t)(int64_t)l->cgroup_v1 },
			{ "sonde_wake_priority", l->options.priority_bytes / 8 },
			{ "sonde_wake_bulk", l->options.bulk_bytes / 8 } };
	struct btf *btf = bpf_object__btf(object);
	struct bpf_map *map = rodata_map(object);
	struct rodata_writing w = { .module = module, .config = config };
	int section = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);

	if (!map || section < 0)
		return;
	w.data = (char *)bpf_map__initial_value(map, &w.size);
	const struct btf_type *rodata = btf__type_by_id(btf, (uint32_t)section);

	for (int i = 0; i < btf_vlen(rodata); i++) {
		const struct btf_var_secinfo *var = &btf_var_secinfos(rodata)[i];
		const char *name = btf__name_by_offset(btf, btf__type_by_id(btf, var->type)->name_off);

		for (size_t n = 0; n < ARRAY_SIZE(numbers); n++)
			if (!strcmp(name, numbers[n].name))
				put_number(&w, btf, var, numbers[n].value);
	}
	for (size_t i = 0; i < schema_count(l->schema); i++) {
		const struct event_type *type = schema_type(l->schema, i);

		if (!strcmp(type->module, module->name) && type->id_offset + 4 <= w.size)
			memcpy(w.data + type->id_offset, &(uint32_t){ type->id }, 4);
	}
	if (config)
		each_setting(btf, put_setting, &w);
}

/* Maps named sonde_* are the same for all: identity makes them, the others reuse them. */
static int share_maps(struct module *module, struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map (map, object) {
		const char *name = bpf_map__name(map);
		int fd, r;

		if (strncmp(name, SHARED_PREFIX, strlen(SHARED_PREFIX)))
			continue;
		if (module->number == 0) {
			if (!strcmp(name, "sonde_priority"))
				bpf_map__set_max_entries(map, module->loader->options.priority_bytes);
			if (!strcmp(name, "sonde_bulk"))
				bpf_map__set_max_entries(map, module->loader->options.bulk_bytes);
			continue;
		}
		fd = loader_map(module->loader, name);
		r = fd < 0 ? fd : bpf_map__reuse_fd(map, fd);
		if (r < 0)
			return r;
	}
	return 0;
}

static struct hook *hook_of_program(struct module *module, const char *program)
{
	for (size_t i = 0; i < module->n_measures; i++)
		for (size_t h = 0; h < module->measures[i].n_hooks; h++)
			if (!strcmp(module->measures[i].hooks[h].program, program))
				return &module->measures[i].hooks[h];
	return NULL;
}

static bool refuse(struct module *module, const char *program, const char *why)
{
	struct hook *h = hook_of_program(module, program);

	if (!h || h->refused)
		return false;
	h->refused = true;
	snprintf(h->why, sizeof h->why, "%s", why);
	return true;
}

static void detach_links(struct module *module)
{
	for (size_t i = 0; i < ARRAY_SIZE(module->links); i++) {
		bpf_link__destroy(module->links[i]);
		module->links[i] = NULL;
	}
}

/* Iterators run when they are read, perf_event programs hang on what the companion opens: neither is attached here. */
static bool attaches_itself(const char *section)
{
	return strncmp(section, "iter/", 5) && strncmp(section, "perf_event", 10);
}

/* 0, -EAGAIN when a hook was refused and another try may go without it, or another error. */
static int attach_hooks(struct module *module, struct bpf_object *object)
{
	for (size_t i = 0; i < module->n_measures; i++) {
		struct measure *m = &module->measures[i];
		struct hook *h = m->in_use >= 0 ? &m->hooks[m->in_use] : NULL;
		struct bpf_program *program;

		if (!h || !attaches_itself(h->section))
			continue;
		program = bpf_object__find_program_by_name(object, h->program);
		module->links[i] = bpf_program__attach(program);
		if (!module->links[i]) {
			char why[160];

			snprintf(why, sizeof why, "attach: %s", strerror(errno));
			detach_links(module);
			refuse(module, h->program, why);
			return -EAGAIN;
		}
	}
	return 0;
}

static int try_start(struct module *module, const struct config *config, struct fault *fault)
{
	struct bpf_object *object = object_open(module, fault);
	int r;

	if (!object)
		return -EINVAL;
	choose_hooks(module, object);
	fill_rodata(module, object, config);
	r = share_maps(module, object);
	if (r < 0)
		fault_set(fault, r, "module '%s' wants a shared map that this agent does not have; rebuild it",
			  module->name);
	listen_to_libbpf();
	if (r == 0) {
		r = bpf_object__load(object);
		if (r < 0 && heard.program[0] && refuse(module, heard.program, heard.text))
			r = -EAGAIN;
		else if (r == -EPERM)
			fault_set(fault, r,
				  "the kernel refuses to load programs: run as root, or with CAP_BPF and CAP_PERFMON");
		else if (r < 0)
			fault_set(fault, r, "module '%s' cannot be loaded: %s", module->name,
				  heard.text[0] ? heard.text : strerror(-r));
	}
	if (r == 0)
		r = attach_hooks(module, object);
	if (r < 0) {
		bpf_object__close(object);
		return r;
	}
	module->object = object;
	return 0;
}

int module_try(struct module *module, const struct config *config, struct fault *fault)
{
	int r;

	for (size_t i = 0; i < module->n_measures; i++)
		for (size_t h = 0; h < module->measures[i].n_hooks; h++)
			module->measures[i].hooks[h].refused = false;
	do {
		r = try_start(module, config, fault);
	} while (r == -EAGAIN);
	return r;
}

int module_start(struct module *module, const struct config *config, struct sonde_host *host, struct fault *fault)
{
	int r = module_try(module, config, fault);

	if (r < 0)
		return r;
	module->host = host;
	module->attached = true;
	if (module->companion && module->companion->attach) {
		r = module->companion->attach(host);
		if (r < 0) {
			fault_set(fault, r, "module '%s' cannot attach: %s", module->name, strerror(-r));
			module_unload(module);
		}
	}
	return r;
}

void module_detach(struct module *module)
{
	detach_links(module);
	module->attached = false;
}

static void program_cost(const struct module *module, const char *name, struct measure_view *view)
{
	struct bpf_program *program = module->object ? bpf_object__find_program_by_name(module->object, name) : NULL;
	struct bpf_prog_info info = { 0 };
	uint32_t size = sizeof info;

	if (program && bpf_program__fd(program) >= 0 &&
	    bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0) {
		view->runs = info.run_cnt;
		view->run_ns = info.run_time_ns;
		view->misses += info.recursion_misses;
	}
}

void module_unload(struct module *module)
{
	if (!module->object)
		return;
	detach_links(module);
	for (size_t i = 0; i < module->n_measures; i++) {
		struct measure *m = &module->measures[i];
		struct measure_view view = { 0 };

		if (hook_in_use(m))
			program_cost(module, hook_in_use(m)->program, &view);
		m->misses += view.misses;
	}
	if (module->companion && module->companion->detach && module->host)
		module->companion->detach(module->host);
	bpf_object__close(module->object);
	module->object = NULL;
	module->host = NULL;
	module->attached = false;
}

/* ---- looking at what runs ---- */

size_t module_measures(const struct module *module, struct measure_view *ret, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < module->n_measures && n < room; i++) {
		const struct measure *m = &module->measures[i];
		struct measure_view *v = &ret[n++];

		*v = (struct measure_view){ .name = m->name, .misses = m->misses };
		if (m->covered_by)
			snprintf(v->why, sizeof v->why, "%s does its work", m->covered_by);
		for (size_t h = 0; h < m->n_hooks; h++)
			if (m->hooks[h].refused) {
				size_t at = strlen(v->why);

				snprintf(v->why + at, sizeof v->why - at, "%s%s: %s", at ? "; " : "",
					 m->hooks[h].section, m->hooks[h].why);
			}
		if (m->in_use < 0)
			continue;
		v->hook = m->hooks[m->in_use].section;
		if (module->host && module->companion && module->companion->hook && !strncmp(v->hook, "perf_event", 10))
			v->hook = module->companion->hook(module->host);
		program_cost(module, m->hooks[m->in_use].program, v);
	}
	return n;
}

int module_map(const struct module *module, const char *name)
{
	struct bpf_map *map = module->object ? bpf_object__find_map_by_name(module->object, name) : NULL;

	return map ? bpf_map__fd(map) : -ENOENT;
}

int module_program(const struct module *module, const char *name)
{
	struct bpf_program *program = module->object ? bpf_object__find_program_by_name(module->object, name) : NULL;

	return program ? bpf_program__fd(program) : -ENOENT;
}

int loader_map(const struct loader *loader, const char *name)
{
	return module_map(&loader->modules[0], name);
}

/* The kernel's own account of a map (memlock of its fdinfo), which since 5.11 is exact for rings and hashes. */
static uint64_t map_bytes(int fd)
{
	_cleanup_(free_pointer) char *text = NULL;
	unsigned long long bytes = 0;
	const char *at;
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	if (read_small_file(path, 4096, &text, NULL) == 0 && (at = strstr(text, "memlock:")))
		sscanf(at, "memlock: %llu", &bytes);
	return bytes;
}

uint64_t loader_map_bytes(const struct loader *loader)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < loader->n_modules; i++) {
		const struct module *m = &loader->modules[i];
		struct bpf_map *map;

		if (!m->object)
			continue;
		bpf_object__for_each_map (map, m->object)
			if (m->number == 0 || strncmp(bpf_map__name(map), SHARED_PREFIX, strlen(SHARED_PREFIX)))
				sum += map_bytes(bpf_map__fd(map));
	}
	return sum;
}

/* ---- tasks that were there before ---- */

static int run_iterator(struct module *identity, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(identity->object, name);
	struct bpf_link *link = program ? bpf_program__attach_iter(program, NULL) : NULL;
	char sink[256];
	ssize_t n;
	int fd, r = 0;

	if (!link)
		return -errno;
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd < 0)
		r = -errno;
	while (r == 0 && (n = read(fd, sink, sizeof sink)) != 0)
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			r = -errno;
	if (fd >= 0)
		close(fd);
	bpf_link__destroy(link);
	return r;
}

/* How many tasks the passes have selected so far: the first word of .bss. */
static uint64_t tasks_selected(const struct module *identity)
{
	struct bpf_map *map;
	size_t size;

	bpf_object__for_each_map (map, identity->object) {
		const char *name = bpf_map__name(map);
		const char *dot = strrchr(name, '.');

		if (dot && !strcmp(dot, ".bss")) {
			uint32_t zero = 0;
			uint64_t value[8] = { 0 };

			size = bpf_map__value_size(map);
			if (size <= sizeof value && bpf_map_lookup_elem(bpf_map__fd(map), &zero, value) == 0)
				return value[0];
		}
	}
	return 0;
}

int loader_snapshot(struct loader *loader, bool reselect, struct fault *fault)
{
	struct module *identity = &loader->modules[0];
	uint64_t before, now;
	int r = reselect ? run_iterator(identity, "unselect__iter") : 0;

	now = tasks_selected(identity);
	do {
		before = now;
		if (r == 0)
			r = run_iterator(identity, "snapshot__iter");
		now = tasks_selected(identity);
	} while (r == 0 && now != before);
	if (r < 0)
		fault_set(fault, r, "the tasks that run already cannot be read: %s", strerror(-r));
	return r;
}
