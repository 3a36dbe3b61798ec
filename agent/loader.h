/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules: BPF objects, carried in the program or dropped into a folder, each with its events, its measures and perhaps a
 * companion. A measure lists its hooks; the first that this kernel takes is used, and one that none takes stops nothing else.
 */
#ifndef SONDE_LOADER_H
#define SONDE_LOADER_H

#include "base/base.h"
#include "config.h"
#include "decode/schema.h"
#include "sonde/module.h"

#define MEASURES_MAX 64 /* of one module */
#define HOOKS_MAX    8  /* of one measure */

struct loader; /* opaque: what all modules share: maps, schema, kernel BTF */
struct module; /* opaque */

struct loader_options {
	uint32_t priority_bytes, bulk_bytes; /* rings */
	const char *folder;                  /* of third-party modules; one that is absent holds none */
};

/* Finds the modules and reads their events into `schema`; nothing is loaded yet. A file or folder that others may write is refused
 * with a sentence through `notice`, and left out. */
int loader_open(struct loader **ret, const struct loader_options *options, struct schema *schema,
		void (*notice)(void *context, const char *text), void *context, struct fault *fault);
void loader_close(struct loader *loader);
/* Before identity starts: which v1 controller names cgroups ("memory"; "": none). */
void loader_set_cgroup_v1(struct loader *loader, const char *controller);

/* Whose events somebody asks for: hooks that are there for other types alone are not attached. `asks` NULL: everybody's. It is called
 * by several threads at a time. */
void loader_set_asks(struct loader *loader, bool (*asks)(void *context, const char *type), void *context);
/* Whether something is to be decided by the kernel side at a moment ("open", "connect"): hooks that are there for that alone are else not attached. `decides` NULL: it is. As
 * modules are loaded, and by several threads at a time. */
void loader_set_decides(struct loader *loader, bool (*decides)(void *context, const char *moment), void *context);
/* Bit by measure: its hooks are there for certain types, and somebody asks for one of them now. */
uint64_t module_asked(const struct module *module);
/* False: nobody asks for any of its events. */
bool module_is_asked(const struct module *module);

size_t loader_count(const struct loader *loader);
struct module *loader_module(struct loader *loader, size_t index); /* 0 is identity, always loaded */
const char *module_name(const struct module *module);
const char *module_summary(const struct module *module);
/* Its option rows, "enabled" and "overflow" left out; ends with a NULL key. */
const struct sonde_option *module_options(const struct module *module);

/* Loads the objects of those modules that `wants` is true for, several at a time, so that module_start() of each has only to attach: looking at
 * programs is what takes the kernel long. What cannot be loaded is module_start()'s to tell. No thread is left when it returns. */
void loader_load_ahead(struct loader *loader, const struct config *config,
		       bool (*wants)(void *context, const struct module *module), void *context);

/* Loads the object with its options from `config` and attaches it; all or nothing. A measure that no hook serves is described, and stays out. The companion's attach
 * runs last, with `host`. -EPERM, -ENOENT (no BTF) ... with a sentence. */
int module_start(struct module *module, const struct config *config, struct sonde_host *host, struct fault *fault);
/* As far as the kernel is concerned only: loads and attaches, without the companion. For a look at the hooks. */
int module_try(struct module *module, const struct config *config, struct fault *fault);
/* Detaches the programs, of one module or of all: no event begins after it returns. The companion still lives, to flush. The kernel lets go of some
 * hooks only after all CPUs have come by, 70 ms each: `between` (may be NULL) is called meanwhile, so that the rings do not fill up. */
void module_detach(struct module *module, void (*between)(void *context), void *context);
void loader_detach(struct loader *loader, void (*between)(void *context), void *context);
void module_unload(struct module *module);
bool module_running(const struct module *module);
/* Keeps the tracepoints of a module's hooks in use, by nobody, over a restart of the module: the kernel waits for every processor, one tracepoint after
 * the other, when the last user leaves one, and meanwhile nothing would be told. NULL, which is fine: there is no memory. */
struct module_hold *module_hold(const struct module *module);
void module_let_go(struct module_hold *hold);
/* Whether it has programs of cgroups: attaching these takes CAP_NET_ADMIN, which the agent gives up after its start, so that stopped and started
 * again the module would be without them. */
bool module_must_stay(const struct module *module);
/* Whether its object leaves room for a filter of sockets (socket_filter.h). */
bool module_filters_sockets(const struct module *module);
const struct sonde_module *module_companion(const struct module *module); /* NULL: none */

/* What `sonde probes` prints of one measure. */
struct measure_view {
	const char *name;
	const char *hook;      /* in use: "tp_btf sched_process_exec"; NULL: none */
	char why[256];         /* why no hook, or why a better one was not taken */
	uint64_t runs, run_ns; /* with kernel.bpf_stats_enabled */
	uint64_t misses;       /* runs that the kernel skipped because the program ran already on that CPU */
};
size_t module_measures(const struct module *module, struct measure_view *ret, size_t room);

/* File descriptors of the shared maps. */
int loader_map(const struct loader *loader, const char *name); /* -ENOENT */
/* Kernel memory of all maps of the modules that run, as /proc/self/fdinfo has it: bytes. */
uint64_t loader_map_bytes(const struct loader *loader);
int module_map(const struct module *module, const char *name);
int module_program(const struct module *module, const char *name);

/* Marks the tasks that run already: once after identity started, and again when filter.pid changed (`reselect`). */
int loader_snapshot(struct loader *loader, bool reselect, struct fault *fault);

/* Each process that runs, as a struct sonde_task_found (probes/identity/identity.h). */
int loader_tasks(struct loader *loader, void (*take)(void *context, const void *task), void *context);

/* The process `pid`, as the kernel has it now. -ESRCH: there is none. */
struct sonde_task_found;
int loader_task(struct loader *loader, uint32_t pid, struct sonde_task_found *ret);
/* Whether `proc` names an execution of this very process: this one, or one before it. */
bool loader_is_process(const struct loader *loader, const struct sonde_task_found *task, uint64_t proc);

/* Whether the kernel offers what sonde needs: BTF, and for whom. -ENOENT without BTF, -EPERM without privileges. */
int loader_check_kernel(struct fault *fault);

#endif
