/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind loader.h share: a module and its measures as they are kept, and the steps from one file to the next. */
#ifndef SONDE_MODULE_STATE_H
#define SONDE_MODULE_STATE_H

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <pthread.h>

#include "decode/tags.h"
#include "kernel_types.h"
#include "loader.h"

#define SHARED_PREFIX "sonde_"
#define NAME_MOST     32 /* of a module's name, as in the configuration */
#define SETTINGS_MAX  32 /* options of one module */

struct hook {
	char program[64];    /* exec__tp_btf */
	char section[96];    /* tp_btf/sched_process_exec */
	int rank;            /* lower is preferred */
	char when[32];       /* the option that wants it; "": always */
	char *types;         /* of events that it is there for; NULL: it is always */
	bool kept;           /* loaded also where it is not attached */
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
	const char *off;        /* the option that is off, so that it has none to do; NULL: it has */
	const char *unasked;    /* types of events, of which nobody asks for any; NULL: somebody does */
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
	bool filters_sockets;
	bool narrow;                   /* all that its relocations ask for is in loader->types */
	void *filtered;                /* a copy of the image with its filter, while it is being loaded */
	struct sonde_option *settings; /* rows made from SONDE_SETTING variables, when there is no companion */
	struct measure measures[MEASURES_MAX];
	size_t n_measures;
	struct bpf_object *ahead;  /* loaded and not yet attached */
	struct bpf_object *object; /* while running */
	struct bpf_link *links[MEASURES_MAX];
	struct sonde_host *host;
	bool attached;
};

struct loader {
	struct loader_options options;
	struct schema *schema;
	struct kernel_types *types;
	bool prepared;
	bool tracefs_asked, tracefs; /* whether tracepoints can be looked up */
	pthread_mutex_t lock;        /* of no_trampoline, while modules are loaded on several threads */
	struct module *modules;
	size_t n_modules;
	void (*notice)(void *context, const char *text);
	void *context;
	bool (*asks)(void *context, const char *type); /* whether anybody asks for events of a type; NULL: for all */
	void *asks_context;
	bool (*decides)(void *context, const char *moment); /* whether the kernel side is to decide then; NULL: it is */
	void *decides_context;
	uint64_t boot;
	int cgroup_v1;
	char no_trampoline
		[160]; /* why this kernel takes no fentry and fexit programs at all; "": it takes them, or was not asked */
};

/* ---- module_object.c: what lies in an object ---- */

/* What libbpf said since listen_to_libbpf(): of which program, and why. */
struct libbpf_words {
	char program[64];
	char text[160];
};
void listen_to_libbpf(void);
const struct libbpf_words *libbpf_said(void);

/* Calls `each` for the SONDE_SETTING variables of an object. */
void each_setting(const struct tags *tags,
		  void (*each)(void *context, const struct tags *tags, const struct btf_var_secinfo *var),
		  void *context);
void settings_rows_free(struct sonde_option *rows);
void hooks_free(struct module *module);
struct bpf_map *rodata_map(struct bpf_object *object);
const char *hook_kernel_name(const char *section, char *room, size_t room_size, unsigned *ret_kind);
struct bpf_object *object_open(const struct module *module, struct fault *fault);

/* Reads measures, events and settings out of the object of a module that has its name and image. */
int module_inspect(struct module *module, struct fault *fault);

/* ---- module_hooks.c: what the kernel takes ---- */

const struct hook *hook_in_use(const struct measure *measure);
/* Loads the module's object, for module_try() to attach: what the kernel looks at for long, and may be done for several modules at a time. */
int module_load_ahead(struct module *module, const struct config *config, struct fault *fault);
/* Of one that was loaded and is not to be attached. */
void module_forget_ahead(struct module *module);
/* Before loads on several threads: what they share is made once. */
void loader_prepare(struct loader *loader);
/* Adds what the kernel counts of one program to a view. */
void program_cost(const struct module *module, const char *program, struct measure_view *view);

#endif
