/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading is a loop of tries. Each try opens the object anew with, for each measure, the best hook not yet refused; when the kernel
 * refuses a program (at load or at attach), that hook is marked with the kernel's reason and the next try goes without it. A module has at most
 * MEASURES_MAX * HOOKS_MAX hooks, so the loop ends.
 *
 * The identity module is the owner of the shared maps: it is loaded first, and every other object gets its maps by descriptor. Others may then be loaded
 * side by side (loader_ahead.c); what they share is the loader, of which only `no_trampoline` changes meanwhile. What costs most there is not
 * to be refused: each try takes all programs of the module anew.
 */
#include "module_state.h"
#include "responses.h"
#include "socket_filter.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/perf_open.h"
#include "identity/cgroup.h"

#define ONWARD_SUFFIX "__onward"
#define CLOSERS       8
#define BETWEEN_NS    2000000

/* The index of a controller in css_set.subsys is its value in enum cgroup_subsys_id, which differs from kernel to kernel. */
void loader_set_cgroup_v1(struct loader *loader, const char *controller)
{
	const struct btf *btf = kernel_types_all();
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

static bool find_tracefs(void)
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

/* A mount namespace is the thread's that made it, and its children's: asked once, by the first one. */
static bool tracefs_ready(struct loader *loader)
{
	if (!loader->tracefs_asked) {
		loader->tracefs = find_tracefs();
		loader->tracefs_asked = true;
	}
	return loader->tracefs;
}

static bool is_cgroup_hook(const char *section)
{
	return !strncmp(section, "cgroup", 6);
}

/* The cgroup above all others that can be seen from here, or -ENOENT. */
static int open_top_cgroup(void)
{
	struct cgroup_layout layout;
	int fd, r = cgroup_layout_read("/proc/self/mountinfo", &layout);

	if (r < 0)
		return r;
	if (!layout.v2[0])
		return -ENOENT;
	fd = open(layout.v2, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool cgroup_offered(char *why, size_t why_size)
{
	_cleanup_(close_fd) int fd = open_top_cgroup();

	if (fd >= 0)
		return true;
	if (fd == -ENOENT)
		snprintf(why, why_size, "no cgroup2 is mounted here; mount -t cgroup2 none /sys/fs/cgroup/unified");
	else
		snprintf(why, why_size, "cgroup2 cannot be opened: %s", strerror(-fd));
	return false;
}

/* That a kernel has the hook does not mean that it calls it. */
static bool lsm_offered(char *why, size_t why_size)
{
	_cleanup_(free_pointer) char *text = NULL;
	const char *at;

	if (read_small_file("/sys/kernel/security/lsm", 4096, &text, NULL) < 0) {
		snprintf(why, why_size,
			 "no list of security modules: mount -t securityfs none /sys/kernel/security, on a kernel with "
			 "CONFIG_BPF_LSM");
		return false;
	}
	for (at = text; (at = strstr(at, "bpf")); at += 3)
		if ((at == text || at[-1] == ',') && (!at[3] || at[3] == ',' || at[3] == '\n'))
			return true;
	snprintf(why, why_size, "bpf is none of this kernel's security modules: boot with lsm=%.*s,bpf",
		 (int)strcspn(text, "\n"), text);
	return false;
}

/* What a hook is called by names, in the kernel's types; 0: it is none of these, or not there. */
static unsigned kernel_number(const struct loader *loader, const char *section)
{
	char room[160];
	unsigned kind;
	const char *name = hook_kernel_name(section, room, sizeof room, &kind);

	return name ? kernel_types_number(loader->types, name, kind) : 0;
}

static bool is_trampoline(const char *section)
{
	return !strncmp(section, "fentry/", 7) || !strncmp(section, "fexit/", 6);
}

/* Who loads other programs and is not permitted one of these is not permitted any: each would cost one more try. */
static void forgo_trampolines(struct loader *loader, const char *why)
{
	pthread_mutex_lock(&loader->lock);
	if (!loader->no_trampoline[0])
		snprintf(loader->no_trampoline, sizeof loader->no_trampoline, "%s", why);
	pthread_mutex_unlock(&loader->lock);
}

static bool trampolines_forgone(struct loader *loader, char *why, size_t why_size)
{
	bool forgone;

	pthread_mutex_lock(&loader->lock);
	forgone = loader->no_trampoline[0];
	if (forgone)
		snprintf(why, why_size, "%s", loader->no_trampoline);
	pthread_mutex_unlock(&loader->lock);
	return forgone;
}

/* Whether the kernel has a function that some module would be called at: its number, else 0. */
static unsigned trampoline_place(const struct loader *loader, enum bpf_attach_type *ret_type)
{
	for (size_t i = 0; i < loader->n_modules; i++) {
		const struct module *module = &loader->modules[i];

		for (size_t m = 0; m < module->n_measures; m++)
			for (size_t h = 0; h < module->measures[m].n_hooks; h++) {
				const char *section = module->measures[m].hooks[h].section;
				unsigned id = is_trampoline(section) ? kernel_number(loader, section) : 0;

				*ret_type = section[1] == 'e' ? BPF_TRACE_FENTRY : BPF_TRACE_FEXIT;
				if (id)
					return id;
			}
	}
	return 0;
}

/* Asks once, with a program that only returns: with a module's own, all that was loaded of it before would be loaded again. */
static void try_trampoline(struct loader *loader)
{
	const struct bpf_insn returns[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
					    { .code = BPF_JMP | BPF_EXIT } };
	LIBBPF_OPTS(bpf_prog_load_opts, options);
	int fd;

	options.attach_btf_id = trampoline_place(loader, &options.expected_attach_type);
	if (!options.attach_btf_id)
		return;
	fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "sonde_try", "GPL", returns, ARRAY_SIZE(returns), &options);
	if (fd >= 0)
		close(fd);
	else if (errno == EPERM)
		forgo_trampolines(loader, strerror(EPERM));
}

void loader_prepare(struct loader *loader)
{
	char text[160];
	int r;

	if (loader->prepared)
		return;
	r = kernel_types_make(loader->types, kernel_types_all());
	if (r < 0) { /* libbpf looks for itself, but what hooks there are is not known */
		snprintf(text, sizeof text, "the kernel's types cannot be looked through, hooks may be missed: %s",
			 strerror(-r));
		loader->notice(loader->context, text);
	}
	tracefs_ready(loader);
	try_trampoline(loader);
	loader->prepared = true;
}

/* Whether the kernel has what a hook names; false with the reason. Whether it takes the program shows when it is loaded. */
static bool hook_offered(struct loader *loader, const char *section, char *why, size_t why_size)
{
	const char *slash = strchr(section, '/'), *name = slash ? slash + 1 : "";
	char text[160];

	if (!strncmp(section, "tp_btf/", 7)) {
		if (kernel_number(loader, section))
			return true;
		snprintf(why, why_size, "this kernel has no tracepoint %s", name);
		return false;
	}
	if (!strncmp(section, "tracepoint/", 11) || !strncmp(section, "tp/", 3)) {
		if (!tracefs_ready(loader)) {
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
	if (is_trampoline(section)) {
		if (trampolines_forgone(loader, why, why_size))
			return false;
		if (kernel_number(loader, section))
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
	if (!strncmp(section, "lsm/", 4))
		return lsm_offered(why, why_size);
	return !is_cgroup_hook(section) || cgroup_offered(why, why_size);
}

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

const struct hook *hook_in_use(const struct measure *m)
{
	return m->in_use >= 0 ? &m->hooks[m->in_use] : NULL;
}

/* Whether a program that is in use does the work of this one. */
static bool is_covered(const struct module *module, const struct hook *hook)
{
	for (size_t i = 0; hook->covered_by[0] && i < module->n_measures; i++) {
		const struct hook *other = hook_in_use(&module->measures[i]);

		if (other && !strcmp(other->program, hook->covered_by))
			return true;
	}
	return false;
}

/* Which program does the work of a measure, of the hook in use; of any, where this kernel has none of them. NULL: none does. */
static const char *coverer(const struct module *module, const struct measure *m)
{
	for (size_t i = 0; i < m->n_hooks; i++)
		if ((m->in_use < 0 || m->in_use == (int)i) && is_covered(module, &m->hooks[i]))
			return m->hooks[i].covered_by;
	return NULL;
}

/* Without a configuration (a look at the hooks) everything is wanted. */
static bool option_is_on(const struct module *module, const struct config *config, const char *option)
{
	char key[128];

	if (!strncmp(option, "response ", 9))
		return !config || responses_want(config, option + 9);
	if (!strncmp(option, "decides ", 8))
		return !config || !module->loader->decides ||
		       module->loader->decides(module->loader->decides_context, option + 8);
	snprintf(key, sizeof key, "modules.%s.%s", module->name, option);
	return !config || config_bool(config, key);
}

void loader_set_asks(struct loader *loader, bool (*asks)(void *context, const char *type), void *context)
{
	loader->asks = asks;
	loader->asks_context = context;
}

void loader_set_decides(struct loader *loader, bool (*decides)(void *context, const char *moment), void *context)
{
	loader->decides = decides;
	loader->decides_context = context;
}

/* Whether anybody asks for one of the types that the hooks of a measure are there for. */
static bool is_asked(const struct loader *loader, const struct measure *m)
{
	const char *at = m->hooks[0].types;
	char type[64];

	if (!at || !loader->asks)
		return true;
	while (*at) {
		size_t n = strcspn(at, " ");

		snprintf(type, sizeof type, "%.*s", (int)n, at);
		if (loader->asks(loader->asks_context, type))
			return true;
		at += n + (at[n] == ' ');
	}
	return false;
}

uint64_t module_asked(const struct module *module)
{
	uint64_t asked = 0;

	for (size_t i = 0; i < module->n_measures; i++)
		if (module->measures[i].hooks[0].types && is_asked(module->loader, &module->measures[i]))
			asked |= 1ull << i;
	return asked;
}

bool module_is_asked(const struct module *module)
{
	for (size_t i = 0; i < module->n_measures; i++)
		if (module->measures[i].hooks[0].types)
			return module_asked(module) != 0;
	return true;
}

static void choose_hooks(struct module *module, struct bpf_object *object, const struct config *config)
{
	struct bpf_program *program;

	bpf_object__for_each_program (program, object)
		bpf_program__set_autoload(program, false);
	for (size_t i = 0; i < module->n_measures; i++)
		measure_choose(module->loader, &module->measures[i]);
	for (size_t i = 0; i < module->n_measures; i++) {
		struct measure *m = &module->measures[i];
		const struct hook *h = hook_in_use(m);

		m->covered_by = coverer(module, m);
		if (!h)
			h = &m->hooks[0]; /* one that is not wanted is not missed */
		m->off = h->when[0] && !option_is_on(module, config, h->when) ? h->when : NULL;
		m->unasked = is_asked(module->loader, m) ? NULL : m->hooks[0].types;
		if (m->covered_by || m->off || (m->unasked && !h->kept))
			m->in_use = -1;
		h = hook_in_use(m);
		program = h ? bpf_object__find_program_by_name(object, h->program) : NULL;
		if (program)
			bpf_program__set_autoload(program, true);
		if (m->unasked)
			m->in_use = -1; /* loaded, where it is kept, and not attached */
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

static void put_setting(void *context, const struct tags *tags, const struct btf_var_secinfo *var)
{
	const struct btf *btf = tags->btf;
	const char *name = btf__name_by_offset(btf, btf__type_by_id(btf, var->type)->name_off);
	struct rodata_writing *w = context;
	char key[128];

	/* A companion with options of its own has the row, or the program keeps its value. */
	for (const struct sonde_option *o = module_options(w->module); o->key; o++) {
		if (strcmp(o->key, name))
			continue;
		snprintf(key, sizeof key, "modules.%s.%s", w->module->name, name);
		put_number(w, btf, var, config_number(w->config, key));
	}
}

/* How long one of the kernel's jiffies is: the coarse clock moves with them. */
static uint64_t tick_ns(void)
{
	struct timespec tick = { 0 };

	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	return (uint64_t)tick.tv_nsec;
}

/* The numbers that the kernel side cannot know: event ids, the salt, which bytes in a ring wake the reader. */
static int fill_rodata(struct module *module, struct bpf_object *object, const struct config *config)
{
	const struct loader *l = module->loader;
	const struct event_type *stack = schema_find_record(l->schema, "identity", "sonde_stack_sample");
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = { { "sonde_boot", l->boot },
			{ "sonde_module_number", module->number },
			{ "sonde_page_bytes", (uint64_t)sysconf(_SC_PAGESIZE) },
			{ "sonde_tick_ns", tick_ns() },
			{ "sonde_cgroup_v1", (uint64_t)(int64_t)l->cgroup_v1 },
			{ "sonde_wake_priority", l->options.priority_bytes / 8 },
			{ "sonde_wake_bulk", l->options.bulk_bytes / 8 },
			{ "sonde_stack_wanted", config && module->number && option_is_on(module, config, "stack") },
			{ "sonde_stack_type", stack ? stack->id : 0 },
			{ "sonde_responds", config && responses_wanted(config) != 0 },
			{ "sonde_socket_filtered",
			  config && module->filters_sockets && socket_filter_wanted(config, module->name) } };
	struct btf *btf = bpf_object__btf(object);
	struct bpf_map *map = rodata_map(object);
	struct rodata_writing w = { .module = module, .config = config };
	int section = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC), r;
	_cleanup_(tags_release) struct tags tags = { 0 };

	if (!map || section < 0)
		return 0;
	r = tags_read(&tags, btf);
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
	if (config && r == 0)
		each_setting(&tags, put_setting, &w);
	return r;
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
	if (is_trampoline(h->section) && strstr(why, strerror(EPERM)))
		forgo_trampolines(module->loader, why);
	return true;
}

/* The kernel closes a tracepoint in two waits of some 20 ms, of which it does one for several at a time: links are closed by threads. */
struct closing {
	struct bpf_link **links;
	size_t n;
	_Atomic size_t next, done;
};

static void *close_links(void *context)
{
	struct closing *c = context;
	size_t i;

	while ((i = c->next++) < c->n) {
		bpf_link__destroy(c->links[i]);
		c->done++;
	}
	return NULL;
}

/* Links of `modules` modules from `module` on. `between` is called again and again until they are closed. */
static void detach_links(struct module *module, size_t modules, void (*between)(void *context), void *context)
{
	struct closing c = { .links = calloc(modules * ARRAY_SIZE(module->links), sizeof(struct bpf_link *)) };
	struct bpf_link *link;
	pthread_t threads[CLOSERS];
	size_t n = 0;

	for (size_t i = 0; i < modules * ARRAY_SIZE(module->links); i++) {
		struct bpf_link **at = &module[i / ARRAY_SIZE(module->links)].links[i % ARRAY_SIZE(module->links)];

		link = *at;
		*at = NULL;
		if (link && c.links)
			c.links[c.n++] = link;
		else
			bpf_link__destroy(link);
	}
	while (n < MIN_OF(c.n / 2, (size_t)CLOSERS) && pthread_create(&threads[n], NULL, close_links, &c) == 0)
		n++;
	while (n && between && c.done < c.n) {
		between(context);
		nanosleep(&(struct timespec){ .tv_nsec = BETWEEN_NS }, NULL);
	}
	close_links(&c);
	while (n--)
		pthread_join(threads[n], NULL);
	free(c.links);
}

/* Iterators run when they are read, perf_event programs hang on what the companion opens: neither is attached here. */
static bool attaches_itself(const char *section)
{
	return strncmp(section, "iter/", 5) && strncmp(section, "iter.s/", 7) && strncmp(section, "perf_event", 10);
}

#define TRACEPOINT_LENGTH 11

static bool is_tracepoint(const char *section)
{
	return !strncmp(section, "tracepoint/", TRACEPOINT_LENGTH);
}

/* CATEGORY/NAME, by whoever may open it; -errno. */
static int open_tracepoint(const char *name)
{
	struct perf_event_attr attr = { .size = sizeof attr, .type = PERF_TYPE_TRACEPOINT, .disabled = 1 };
	char path[160];
	FILE *file;
	int id, n;

	snprintf(path, sizeof path, "/sys/kernel/tracing/events/%s/id", name);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	n = fscanf(file, "%d", &id);
	fclose(file);
	if (n != 1)
		return -EINVAL;
	attr.config = (uint64_t)id;
	return perf_open(&attr, -1, 0);
}

static struct bpf_link *attach_tracepoint(struct bpf_program *program, const char *name)
{
	struct bpf_link *link = bpf_program__attach(program);
	int fd, error;

	if (link || errno != EACCES)
		return link;
	fd = open_tracepoint(name);
	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	link = bpf_program__attach_perf_event(program, fd);
	error = errno;
	if (!link)
		close(fd);
	errno = error;
	return link;
}

/* Programs of a cgroup are links beside those of others, and apply to all cgroups below. */
static struct bpf_link *attach_program(struct bpf_program *program, const char *section)
{
	_cleanup_(close_fd) int cgroup = -1;

	if (is_tracepoint(section))
		return attach_tracepoint(program, section + TRACEPOINT_LENGTH);
	if (!is_cgroup_hook(section))
		return bpf_program__attach(program);
	cgroup = open_top_cgroup();
	if (cgroup < 0) {
		errno = -cgroup;
		return NULL;
	}
	return bpf_program__attach_cgroup(program, cgroup);
}

static void say_attach_error(const char *section, int error, char *why, size_t why_size)
{
	bool forbidden = is_cgroup_hook(section) && error == EPERM;

	snprintf(why, why_size, "attach: %s%s", strerror(error),
		 forbidden ? "; CAP_NET_ADMIN is gone: restart sonde, or another program has the top cgroup to itself"
			   : "");
}

struct module_hold {
	size_t n;
	int fds[];
};

struct module_hold *module_hold(const struct module *module)
{
	struct module_hold *hold = calloc(1, sizeof *hold + module->n_measures * sizeof hold->fds[0]);

	for (size_t i = 0; hold && module->object && i < module->n_measures; i++) {
		const struct hook *h = hook_in_use(&module->measures[i]);
		int fd = h && is_tracepoint(h->section) ? open_tracepoint(h->section + TRACEPOINT_LENGTH) : -1;

		if (fd >= 0)
			hold->fds[hold->n++] = fd;
	}
	return hold;
}

void module_let_go(struct module_hold *hold)
{
	for (size_t i = 0; hold && i < hold->n; i++)
		close(hold->fds[i]);
	free(hold);
}

bool module_must_stay(const struct module *module)
{
	for (size_t i = 0; module->object && i < module->n_measures; i++) {
		const struct hook *h = hook_in_use(&module->measures[i]);

		if (h && is_cgroup_hook(h->section))
			return true;
	}
	return false;
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
		module->links[i] = attach_program(program, h->section);
		if (!module->links[i]) {
			char why[160];

			say_attach_error(h->section, errno, why, sizeof why);
			detach_links(module, 1, NULL, NULL);
			refuse(module, h->program, why);
			return -EAGAIN;
		}
	}
	return 0;
}

struct option_reading {
	const struct module *module;
	const struct config *config;
};

static uint64_t read_option(const void *context, const char *key)
{
	const struct option_reading *r = context;
	char full[128];

	snprintf(full, sizeof full, "modules.%s.%s", r->module->name, key);
	return config_number(r->config, full);
}

static int prepare_maps(struct module *module, struct bpf_object *object, const struct config *config,
			struct fault *fault)
{
	const struct option_reading options = { module, config };
	int r = 0;

	if (config && module->companion && module->companion->prepare)
		r = module->companion->prepare(object, read_option, &options);
	return r < 0 ? fault_set(fault, r, "module '%s': its maps cannot be made as large as its options ask for: %s",
				 module->name, strerror(-r))
		     : 0;
}

/* A program that others go on to (SONDE_ONWARD() in sonde/probe.bpf.h) is in a map that is named like it. Where the kernel has no hook for it, the map stays
 * empty, and the others do nothing. */
static int set_onward(struct bpf_object *object)
{
	const size_t end = strlen(ONWARD_SUFFIX);
	struct bpf_map *map;

	bpf_object__for_each_map (map, object) {
		const char *name = bpf_map__name(map);
		size_t n = strlen(name);
		char program[64];
		uint32_t zero = 0;
		int fd;

		if (bpf_map__type(map) != BPF_MAP_TYPE_PROG_ARRAY || n <= end || strcmp(name + n - end, ONWARD_SUFFIX))
			continue;
		snprintf(program, sizeof program, "%.*s", (int)(n - end), name);
		fd = bpf_program__fd(bpf_object__find_program_by_name(object, program));
		if (fd >= 0 && bpf_map_update_elem(bpf_map__fd(map), &zero, &fd, BPF_ANY) < 0)
			return -errno;
	}
	return 0;
}

/* 0, -EAGAIN when a hook was refused and another try may go without it, or another error. */
static int load_object(struct module *module, const struct config *config, struct bpf_object **ret, struct fault *fault)
{
	struct bpf_object *object = object_open(module, fault);
	int r;

	if (!object)
		return -EINVAL;
	choose_hooks(module, object, config);
	r = fill_rodata(module, object, config);
	if (r < 0) {
		fault_set(fault, r, "out of memory");
	} else {
		r = share_maps(module, object);
		if (r < 0)
			fault_set(fault, r, "module '%s' wants a shared map that this agent does not have; rebuild it",
				  module->name);
	}
	if (r == 0)
		r = prepare_maps(module, object, config, fault);
	listen_to_libbpf();
	if (r == 0) {
		r = bpf_object__load(object);
		if (r < 0 && libbpf_said()->program[0] && refuse(module, libbpf_said()->program, libbpf_said()->text))
			r = -EAGAIN;
		else if (r == -EPERM)
			fault_set(fault, r,
				  "the kernel refuses to load programs: run as root, or with CAP_BPF and CAP_PERFMON");
		else if (r < 0)
			fault_set(fault, r, "module '%s' cannot be loaded: %s", module->name,
				  libbpf_said()->text[0] ? libbpf_said()->text : strerror(-r));
	}
	if (r == 0) {
		r = set_onward(object);
		if (r < 0)
			fault_set(fault, r, "module '%s': its programs cannot go on to each other: %s", module->name,
				  strerror(-r));
	}
	if (r < 0)
		bpf_object__close(object);
	else
		*ret = object;
	return r;
}

static void forget_filtered(struct module *module)
{
	free(module->filtered);
	module->filtered = NULL;
}

/* The image with the filter in it. It is placed also where it lets everything pass: the room for it, left empty, would be 4096 instructions
 * for the kernel to look at. */
static int place_filter(struct module *module, const struct config *config, struct fault *fault)
{
	int r;

	if (!module->filters_sockets)
		return 0;
	module->filtered = malloc(module->image_size);
	if (!module->filtered)
		return fault_set(fault, -ENOMEM, "out of memory");
	memcpy(module->filtered, module->image, module->image_size);
	r = socket_filter_place(config, module->name, module->filtered, module->image_size, fault);
	if (r < 0)
		forget_filtered(module);
	return r;
}

static int load(struct module *module, const struct config *config, struct bpf_object **ret, struct fault *fault)
{
	int r;

	do
		r = load_object(module, config, ret, fault);
	while (r == -EAGAIN);
	return r;
}

int module_load_ahead(struct module *module, const struct config *config, struct fault *fault)
{
	int r = place_filter(module, config, fault);

	loader_prepare(module->loader); /* the first one does */
	for (size_t i = 0; i < module->n_measures; i++)
		for (size_t h = 0; h < module->measures[i].n_hooks; h++)
			module->measures[i].hooks[h].refused = false;
	return r < 0 ? r : load(module, config, &module->ahead, fault);
}

void module_forget_ahead(struct module *module)
{
	bpf_object__close(module->ahead);
	module->ahead = NULL;
	forget_filtered(module);
}

int module_try(struct module *module, const struct config *config, struct fault *fault)
{
	struct bpf_object *object = NULL;
	int r = module->ahead ? 0 : module_load_ahead(module, config, fault);

	while (r == 0) {
		object = module->ahead;
		module->ahead = NULL;
		r = attach_hooks(module, object);
		if (r == 0)
			break;
		bpf_object__close(object);
		if (r == -EAGAIN)
			r = load(module, config, &module->ahead, fault);
	}
	forget_filtered(module);
	if (r == 0)
		module->object = object;
	return r;
}

/* One measure less is no reason to stop the rest, but nobody should have to find out by what is missing. */
static void tell_missing(const struct module *module)
{
	struct measure_view measures[MEASURES_MAX];
	size_t n = module_measures(module, measures, ARRAY_SIZE(measures));
	char text[512];

	for (size_t i = 0; i < n; i++) {
		const struct measure *m = &module->measures[i];

		if (measures[i].hook || m->covered_by || m->off || m->unasked)
			continue;
		snprintf(text, sizeof text, "module '%s' runs without its measure '%s', which no hook serves here: %s",
			 module->name, measures[i].name, measures[i].why);
		module->loader->notice(module->loader->context, text);
	}
}

int module_start(struct module *module, const struct config *config, struct sonde_host *host, struct fault *fault)
{
	int r = module_try(module, config, fault);

	if (r < 0)
		return r;
	tell_missing(module);
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

void module_detach(struct module *module, void (*between)(void *context), void *context)
{
	detach_links(module, 1, between, context);
	module->attached = false;
}

void loader_detach(struct loader *loader, void (*between)(void *context), void *context)
{
	detach_links(loader->modules, loader->n_modules, between, context);
	for (size_t i = 0; i < loader->n_modules; i++)
		loader->modules[i].attached = false;
}

void program_cost(const struct module *module, const char *name, struct measure_view *view)
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
	detach_links(module, 1, NULL, NULL);
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
