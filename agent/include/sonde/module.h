/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The companion of a BPF object, for modules that need more than one .bpf.c: a table of functions, exported as
 * `const struct sonde_module sonde_module` from NAME.so beside NAME.bpf.o, or linked in. All functions run on the
 * agent's one loop thread and must not block. A module hands rows to the agent; where they go is not its business.
 */
#ifndef SONDE_MODULE_H
#define SONDE_MODULE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "sonde/event.h"
#include "sonde/option.h"

#define SONDE_MODULE_ABI 1u
/* What must be the same on both sides for the structs to be the same: checked at load, byte for byte. */
#define SONDE_MODULE_SIGNATURE "sonde-1/event64/option1/host1/module5"

struct symbols;
struct bpf_object;
struct sonde_host;

/* What the agent does for a module. `host` is first argument of all; valid from attach to detach. */
struct sonde_host {
	uint32_t abi;
	void *module_data;       /* the module's own */
	struct symbols *symbols; /* pipelines/stacks/symbols.h; NULL when the agent runs without */
	uint64_t window_ns;      /* of rows: agent.window */
	/* Options of this module, by the key of its row; `number` also of a bool. */
	uint64_t (*number)(const struct sonde_host *host, const char *key);
	const char *(*text)(const struct sonde_host *host, const char *key);
	/* File descriptors of the loaded object's programs and maps by name; -ENOENT. Not the caller's to close. */
	int (*program)(const struct sonde_host *host, const char *name);
	int (*map)(const struct sonde_host *host, const char *name);
	/* The name (in `ret`, of `size`) and container of nothing but the agent's making are added by emit: `row`
	 * begins with a struct sonde_event whose time, proc, parent, cgroup, pid, tid, comm and size are filled; its
	 * type is set by emit. `type` is the struct's name as given to SONDE_EVENT ("profile_cpu"). Counted as
	 * produced, then journaled or dropped. */
	int (*emit)(struct sonde_host *host, const char *type, void *row);
	/* For internal types: `count` records taken in from the ring have reached a journaled row (or were dropped for
	 * `reason`). For others: `count` of them should have been emitted and were not, for `reason`. */
	void (*settled)(struct sonde_host *host, const char *type, uint64_t count, const char *reason);
	/* One sentence for the agent's log. */
	void (*notice)(struct sonde_host *host, const char *text);
};

struct sonde_module {
	uint32_t abi;
	const char *signature;
	const char *name, *summary;
	const struct sonde_option *options;
	/* After load, before events: open what the programs hang on. 0 or a negative errno; `measure` lines for `sonde
	 * probes` come from `describe`. */
	int (*attach)(struct sonde_host *host);
	void (*detach)(struct sonde_host *host);
	/* A record of an internal type, valid during the call. */
	void (*record)(struct sonde_host *host, const struct sonde_event *event);
	/* At least every 100 ms; `now` is the boot clock in ns. */
	void (*tick)(struct sonde_host *host, uint64_t now);
	/* The sources stop: no record of the module's own making begins after it returns. May be NULL. */
	void (*stop)(struct sonde_host *host);
	/* The last call before detach: rings are drained; emit all that is open, at most `timeout_ms` from now. */
	void (*flush)(struct sonde_host *host, int timeout_ms);
	/* The hook in use, for `sonde probes`: "perf_event cpu-clock, 99 Hz". */
	const char *(*hook)(struct sonde_host *host);
	/* A request of the control socket that begins with the module's name; `words` are those behind it. Writes one
	 * JSON value; {"error":"sentence"} where it refuses. -EINVAL: unknown words. May be NULL. */
	int (*request)(struct sonde_host *host, const char *words, FILE *out);
	/* Before load: gives maps of the object the sizes that the module's options ask for; `number` reads one. 0 or a negative errno.
	 * May be NULL. */
	int (*prepare)(struct bpf_object *object, uint64_t (*number)(const void *context, const char *key),
		       const void *context);
	/* The name of a type of the module's own whose events it completes as they come out of the ring; what `refine` returns is written instead:
	 * the event, or one of the module's making with the same type, which holds until the next call. NULL: it is malformed. May be NULL. */
	const char *refines;
	const struct sonde_event *(*refine)(struct sonde_host *host, const struct sonde_event *event);
	/* The name of a type ("tcp.slow") whose events the module is shown as they come out of the ring, and where. `seq` is that of
	 * the record; 0: it has none, or not yet. May be NULL. */
	const char *watches;
	void (*watched)(struct sonde_host *host, const struct sonde_event *event, uint64_t seq);
	/* Files, and folders by a slash at their end, whose reads rules ask for: in place of those that they asked for before. Called after attach, and
	 * when the rules change. May be NULL. */
	void (*reads)(struct sonde_host *host, const char *const *paths, size_t n);
	/* Likewise of the other opens, of which these alone are told then; `paths` NULL: all are. False: they cannot be told apart, and all are told. May
	 * be NULL. */
	bool (*opens)(struct sonde_host *host, const char *const *paths, size_t n);
};

#endif
