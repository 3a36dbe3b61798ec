/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel side of exec cannot do by itself: the names of variables that are wanted become words and masks for it, and program files
 * that are new are hashed by a thread (hasher.h), each a process.image.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "probes/exec/exec.h"
#include "probes/exec/hasher.h"
#include "sonde/module.h"

#define NAMES_OF_LINKERS                                                                                               \
	"LD_PRELOAD,LD_AUDIT,LD_LIBRARY_PATH,LD_BIND_NOT,LD_ORIGIN_PATH,GLIBC_TUNABLES,GCONV_PATH,BASH_ENV,"           \
	"NODE_OPTIONS,PYTHONSTARTUP,PERL5OPT,RUBYOPT,JAVA_TOOL_OPTIONS"
#define SEPARATORS ", "
#define FRESH_NS   (20 * NS_PER_MS) /* two ticks of the slowest kernel */

extern const struct sonde_module sonde_module_exec;

struct exec {
	int data;              /* a map; not ours to close */
	char environment[512]; /* as it was read last */
	struct hasher *hasher; /* NULL: not asked for */
	uint64_t boot_to_epoch;
};

/* Both as long as may be. */
struct image_row {
	struct process_image row;
	char texts[SHA256_BYTES + HASHER_PATH_MAX];
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_TEXT,
	  .key = "environment",
	  .value = NAMES_OF_LINKERS,
	  .unit = "",
	  .live = 1,
	  .help = "the variables that process.exec tells, with commas, at most 16 of 2 to 31 bytes; empty: none, and the "
		  "environment is not looked at" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "failed",
	  .value = "false",
	  .help = "process.exec_failed; every system call of the host is then some 50 ns slower, as with each module that "
		  "needs the exits of system calls" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "hash",
	  .value = "false",
	  .help = "process.image: the SHA-256 of each program file that is run, once a version" },
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

static int add_name(struct exec_environment *to, const char *name, size_t length)
{
	struct exec_name *n = &to->names[to->count];
	char text[EXEC_NAME_WORDS * 8] = { 0 }, mask[EXEC_NAME_WORDS * 8] = { 0 };

	if (length < 2 || length > EXEC_NAME_MOST || to->count == EXEC_NAMES_MAX || memchr(name, '=', length))
		return -EINVAL;
	memcpy(text, name, length);
	text[length] = '=';
	memset(mask, 0xff, length + 1);
	memcpy(n->words, text, sizeof n->words);
	memcpy(n->masks, mask, sizeof n->masks);
	to->first |= 1ull << exec_first_of(n->words[0]);
	to->count++;
	return 0;
}

static int read_names(const char *text, struct exec_environment *ret)
{
	*ret = (struct exec_environment){ 0 };
	while (*(text += strspn(text, SEPARATORS))) {
		size_t length = strcspn(text, SEPARATORS);
		int r = add_name(ret, text, length);

		if (r < 0)
			return r;
		text += length;
	}
	return 0;
}

/* A list that cannot be read changes nothing. */
static int set_environment(struct sonde_host *host)
{
	struct exec *x = host->module_data;
	const char *text = host->text(host, "environment");
	struct exec_environment names;

	if (!strncmp(text, x->environment, sizeof x->environment - 1))
		return 0;
	snprintf(x->environment, sizeof x->environment, "%s", text);
	if (read_names(text, &names) < 0) {
		host->notice(host, "modules.exec.environment: at most 16 names of 2 to 31 bytes, with commas, as in "
				   "LD_PRELOAD,LD_AUDIT");
		return -EINVAL;
	}
	return bpf_map_update_elem(x->data, &(uint32_t){ 0 }, &names, BPF_ANY) < 0 ? -errno : 0;
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

	if (!x->hasher || (uint32_t)e->exe.offset + e->exe.length > event->size)
		return;
	if (hasher_ask(x->hasher, &subject, (const char *)event + e->exe.offset, e->exe.length) < 0)
		host->settled(host, "process_image", 1, "table_full");
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
	.watches = "process.exec",
	.watched = exec_watched,
};
