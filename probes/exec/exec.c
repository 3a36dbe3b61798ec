/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel side of exec does not do by itself: of the environment of a process.exec the wanted variables are kept, and program files
 * that are new are hashed by a thread (hasher.h), each a process.image.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "probes/exec/exec.h"
#include "probes/exec/hasher.h"
#include "sonde/module.h"

#define NAMES_OF_LINKER "LD_PRELOAD,LD_AUDIT,LD_LIBRARY_PATH,GLIBC_TUNABLES"
#define SEPARATORS      ", "
#define NAMES_MAX       16
#define NAME_MOST       63
#define FRESH_NS        (20 * NS_PER_MS) /* two ticks of the slowest kernel */

extern const struct sonde_module sonde_module_exec;

struct name {
	size_t length;
	char text[NAME_MOST + 1];
};

struct exec {
	int data;                                          /* a map; not ours to close */
	char environment[NAMES_MAX * (NAME_MOST + 2) + 1]; /* as it was read last */
	struct name names[NAMES_MAX];
	size_t n_names;
	struct hasher *hasher; /* NULL: not asked for */
	uint64_t boot_to_epoch;
	_Alignas(struct process_exec)
		uint8_t room[EXEC_RECORD_MOST]; /* an event with what is wanted of its environment */
};

/* Both as long as may be. */
struct image_row {
	struct process_image row;
	char texts[SHA256_BYTES + HASHER_PATH_MAX];
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_TEXT,
	  .key = "environment",
	  .value = NAMES_OF_LINKER,
	  .unit = "",
	  .live = 1,
	  .help = "the variables that process.exec tells, with commas, at most 16; empty: none, and the environment is "
		  "not "
		  "looked at" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "failed",
	  .value = "false",
	  .help = "tell calls that fail, as process.exec_failed; it makes every system call of the host a little "
		  "slower" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "hash",
	  .value = "false",
	  .help = "tell the SHA-256 of each program file that is run, once a version, as process.image" },
	{ .type = SONDE_OPTION_SIZE,
	  .key = "hash_most",
	  .value = "64MiB",
	  .min = 4096,
	  .max = 1ull << 40,
	  .unit = "bytes",
	  .help = "larger program files are told without their hash" },
	{ .type = SONDE_OPTION_SIZE,
	  .key = "hash_rate",
	  .value = "32MiB",
	  .min = 1 << 20,
	  .max = 1ull << 34,
	  .unit = "bytes",
	  .help = "how much of program files is read in a second at most" },
	{ 0 },
};

/* ---- environment ---- */

static int read_names(const char *text, struct name ret[NAMES_MAX], size_t *ret_n)
{
	size_t n = 0;

	if (strlen(text) >= sizeof((struct exec *)NULL)->environment - 1)
		return -EINVAL;
	while (*(text += strspn(text, SEPARATORS))) {
		size_t length = strcspn(text, SEPARATORS);

		if (n == NAMES_MAX || length > NAME_MOST || memchr(text, '=', length))
			return -EINVAL;
		ret[n].length = length;
		memcpy(ret[n++].text, text, length);
		text += length;
	}
	*ret_n = n;
	return 0;
}

/* A list that cannot be read changes nothing. */
static int set_environment(struct sonde_host *host)
{
	struct exec *x = host->module_data;
	const char *text = host->text(host, "environment");
	struct name names[NAMES_MAX];
	uint32_t wanted;
	size_t n;

	if (!strncmp(text, x->environment, sizeof x->environment - 1))
		return 0;
	snprintf(x->environment, sizeof x->environment, "%s", text);
	if (read_names(text, names, &n) < 0) {
		host->notice(host, "modules.exec.environment: at most 16 names of at most 63 bytes, with commas, as in "
				   "LD_PRELOAD,LD_AUDIT");
		return -EINVAL;
	}
	memcpy(x->names, names, n * sizeof *names);
	x->n_names = n;
	wanted = n > 0;
	return bpf_map_update_elem(x->data, &(uint32_t){ 0 }, &wanted, BPF_ANY) < 0 ? -errno : 0;
}

static bool is_wanted(const struct exec *x, const char *item, size_t length)
{
	for (size_t i = 0; i < x->n_names; i++) {
		const struct name *n = &x->names[i];

		if (length > n->length && item[n->length] == '=' && !memcmp(item, n->text, n->length))
			return true;
	}
	return false;
}

/* Keeps the wanted ones of the variables; returns how many bytes that are. */
static size_t select_variables(const struct exec *x, char *at, size_t length)
{
	const char *from = at, *end = at + length;
	char *to = at;

	while (from < end) {
		const char *zero = memchr(from, 0, (size_t)(end - from));
		size_t n = (size_t)((zero ? zero + 1 : end) - from);

		if (is_wanted(x, from, n)) {
			memmove(to, from, n);
			to += n;
		}
		from += n;
	}
	return (size_t)(to - at);
}

/* The kernel side sends the whole environment, right behind the arguments: to copy it costs less than to look into it there. */
static const struct sonde_event *exec_refine(struct sonde_host *host, const struct sonde_event *event)
{
	struct exec *x = host->module_data;
	struct process_exec *e = (void *)x->room;

	if (event->size > sizeof x->room)
		return NULL;
	memcpy(x->room, event, event->size);
	if ((uint32_t)e->env.offset + e->env.length > event->size)
		return NULL;
	e->env.length = (uint16_t)select_variables(x, (char *)x->room + e->env.offset, e->env.length);
	return &e->event;
}

/* ---- hashes ---- */

static void exec_watched(struct sonde_host *host, const struct sonde_event *event, uint64_t seq)
{
	const struct process_exec *e = (const void *)event;
	struct exec *x = host->module_data;
	const struct hasher_subject subject = {
		.version = { .dev = e->dev, .ino = e->ino, .changed = e->_changed, .bytes = e->_file_bytes },
		.event = *event,
		.start_stack = e->_start_stack,
		.fresh = event->time + x->boot_to_epoch < e->_changed + FRESH_NS
	};

	int r;

	if (!x->hasher || (uint32_t)e->exe.offset + e->exe.length > event->size)
		return;
	r = hasher_ask(x->hasher, &subject, (const char *)event + e->exe.offset, e->exe.length);
	if (r < 0)
		host->settled(host, "process_image", 1, r == -ENOBUFS ? "table_full" : "read_failed");
}

static void put_text(struct image_row *row, struct sonde_text *text, const void *bytes, size_t size)
{
	text->offset = (uint16_t)row->row.event.size;
	text->length = (uint16_t)size;
	memcpy((char *)row + text->offset, bytes, size);
	row->row.event.size += (uint32_t)size;
}

static void emit_image(struct sonde_host *host, const struct hasher_answer *a)
{
	const struct hasher_question *q = a->question;
	struct image_row row = { .row = { .event = q->subject.event,
					  .ino = q->subject.version.ino,
					  .dev = q->subject.version.dev,
					  .file_bytes = q->subject.version.bytes,
					  .too_large = a->state == HASHER_TOO_LARGE } };

	row.row.event.flags &= SONDE_FLAG_CGROUP_V1;
	row.row.event.size = sizeof row.row;
	put_text(&row, &row.row.path, q->path, q->path_length);
	if (a->state == HASHER_DONE)
		put_text(&row, &row.row.sha256, a->sha256, sizeof a->sha256);
	host->emit(host, "process_image", &row);
}

static void emit_images(struct sonde_host *host)
{
	struct exec *x = host->module_data;
	struct hasher_answer a;

	while (x->hasher && hasher_take(x->hasher, &a)) {
		if (a.state == HASHER_GONE)
			host->settled(host, "process_image", 1, "read_failed");
		else
			emit_image(host, &a);
	}
}

/* ---- the module ---- */

static void exec_tick(struct sonde_host *host, uint64_t now)
{
	struct exec *x = host->module_data;

	x->boot_to_epoch = now_realtime_ns() - now_boottime_ns();
	set_environment(host);
	emit_images(host);
}

static void exec_flush(struct sonde_host *host, int timeout_ms)
{
	struct exec *x = host->module_data;

	emit_images(host);
	if (x->hasher && hasher_open(x->hasher))
		host->settled(host, "process_image", hasher_open(x->hasher), "stopped");
}

static void exec_detach(struct sonde_host *host)
{
	struct exec *x = host->module_data;

	if (!x)
		return;
	hasher_free(x->hasher);
	free(x);
	host->module_data = NULL;
}

static int exec_attach(struct sonde_host *host)
{
	struct exec *x = calloc(1, sizeof *x);
	int r = 0;

	if (!x)
		return -ENOMEM;
	host->module_data = x;
	x->boot_to_epoch = now_realtime_ns() - now_boottime_ns();
	x->data = host->map(host, ".data");
	if (x->data < 0)
		r = x->data;
	if (r == 0)
		r = set_environment(host);
	if (r == 0 && host->number(host, "hash"))
		r = hasher_new(&x->hasher, host->number(host, "hash_most"), host->number(host, "hash_rate"));
	if (r < 0)
		exec_detach(host);
	return r;
}

const struct sonde_module sonde_module_exec = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "exec",
	.summary = "Processes: process.exec, process.fork, process.exit",
	.options = options,
	.attach = exec_attach,
	.detach = exec_detach,
	.tick = exec_tick,
	.flush = exec_flush,
	.refines = "process.exec",
	.refine = exec_refine,
	.watches = "process.exec",
	.watched = exec_watched,
};
