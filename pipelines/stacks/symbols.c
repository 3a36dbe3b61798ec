/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's side of symbolizing. Three tables, each in order of last use:
 *
 *	processes  proc -> its executable mappings, read from /proc when an address is unknown
 *	files      content of a file (device, inode, size, modification time) -> base name, build id, a descriptor while
 *it is in use frames     file and offset -> the finished text
 *
 * An address goes process -> mapping -> file -> frame. Each step that is missing starts its job (reader thread:
 *mappings, opening; worker: functions) and the answer so far is given at once. Frames that wait hang on their file;
 *files with such frames stand in a queue, and one question at a time is with the worker. Whatever has no file (kernel,
 *anonymous memory, unknown addresses) is formatted anew each time, which is cheaper than keeping it.
 *
 * Invariants: a waiting frame is never evicted and belongs to a file that is not evicted; `asked` holds waiting frames
 *of one file; file numbers are keyed hashes, so a hostile program cannot make its file look like another's.
 */
#include "stacks/symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/timerfd.h>

#include "stacks/kernel.h"
#include "stacks/maps.h"
#include "stacks/reader.h"
#include "stacks/table.h"
#include "stacks/worker.h"

#define PROCESSES_MAX     4096u
#define FILES_MAX         4096u
#define OPEN_FILES_MAX    64u
#define WAITING_MAX       16384u
#define PIDS              4096u
#define REREAD_NS         NS_PER_SEC
#define REREAD_MAX_NS     (64 * NS_PER_SEC)
#define WORTH_WAITING_NS  (2 * NS_PER_SEC)
#define GRACE_NS          (60 * NS_PER_SEC)
#define ASK_DEADLINE_NS   (2 * NS_PER_SEC)
#define SPAWN_PAUSE_NS    (100 * NS_PER_MS)
#define BATCH_NS          (5 * NS_PER_MS)
#define SWEEP_NS          (5 * NS_PER_SEC)
#define KERNEL_REREAD_NS  (60 * NS_PER_SEC)
#define STRIKES_MAX       2u
#define NAME_SIZE         80u
#define SCRATCH_SIZE      512u
#define CACHE_BYTES_LEAST (1u << 20)

/* What mapping.file holds when it is no file's number. */
#define FILE_UNKNOWN 0ull
#define FILE_OPENING 1ull
#define FILE_GONE    2ull
#define FILE_NONE    3ull

enum frame_state { FRAME_WAITING, FRAME_KNOWN, FRAME_UNKNOWN };

struct frame {
	struct node node;
	uint64_t file, offset, id;
	struct frame *next; /* waiting for the same file */
	uint16_t length;
	uint8_t state;
	bool caller;
	char text[];
};

struct file {
	struct node node; /* key: its number */
	uint64_t size, used;
	struct frame *first, **last; /* that wait */
	struct file *next;           /* in the queue */
	int fd;
	unsigned strikes; /* workers it was with when they died */
	bool queued, opening, asked, unreadable, pinned;
	uint8_t build_id_length;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	char name[NAME_SIZE];
};

struct process {
	struct node node; /* key: proc */
	int pid;
	bool reading;
	uint64_t next_read, pause, ended;
	struct maps maps;
};

struct symbols {
	uint64_t cache_bytes, seed[2];
	int epoll, timer, control, worker, keeper_pid, worker_pid, kallsyms;
	uint64_t timer_at, spawn_at, sweep_at, kernel_at;
	struct reader *reader;
	unsigned jobs, waiting, open_files, ended;
	struct kernel_table *kernel;
	bool kernel_reading, kernel_read;
	struct table processes, files, frames;
	struct process *by_pid[PIDS];
	struct file *queue, **queue_last;
	uint64_t vdso, vdso_size;
	/* The one question with the worker. */
	struct worker_ask ask;
	struct frame *asked[WORKER_BATCH];
	uint64_t deadline; /* 0: none is out */
	struct worker_answer answer;
	uint64_t evicted, restarts, unresolved, held_up;
	char scratch[SCRATCH_SIZE];
};

/* ---- time ---- */

/* Makes symbols_fd() readable at `when` at the latest. */
static void wake_at(struct symbols *s, uint64_t when)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(when / NS_PER_SEC),
					       .tv_nsec = (long)(when % NS_PER_SEC) } };

	if (s->timer_at && s->timer_at <= when)
		return;
	s->timer_at = when;
	timerfd_settime(s->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* ---- numbers ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h ^= v;
	h *= 0xff51afd7ed558ccdull;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ull;
	return h ^ h >> 29;
}

static uint64_t file_number(const struct symbols *s, const struct file_identity *i)
{
	uint64_t h = mix(mix(mix(mix(s->seed[0], i->dev), i->ino), i->size), i->modified_ns);

	h = mix(h, s->seed[1]);
	return h <= FILE_NONE ? ~h : h;
}

static uint64_t frame_key(const struct symbols *s, uint64_t file, uint64_t offset, bool caller)
{
	return mix(mix(s->seed[1], file), offset << 1 | caller);
}

/* The same on every host: build id and file offset. */
static uint64_t place_id(const struct file *file, uint64_t offset)
{
	uint8_t place[ELF_BUILD_ID_MAX + sizeof offset];

	memcpy(place, file->build_id, file->build_id_length);
	memcpy(place + file->build_id_length, &offset, sizeof offset);
	return hash_bytes(place, file->build_id_length + sizeof offset);
}

/* ---- texts ---- */

static void _printf_(4, 5) give(struct symbols *s, struct symbols_frame *ret, bool final, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(s->scratch, sizeof s->scratch, format, args);
	va_end(args);
	ret->text = s->scratch;
	ret->length = MIN_OF((size_t)MAX_OF(n, 0), sizeof s->scratch - 1);
	ret->id = hash_bytes(ret->text, ret->length);
	ret->final = final;
}

static void hex_of(const uint8_t *bytes, unsigned count, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < count; i++) {
		*text++ = digits[bytes[i] >> 4];
		*text++ = digits[bytes[i] & 15];
	}
	*text = 0;
}

static void give_unknown(struct symbols *s, const struct file *file, uint64_t offset, bool final,
			 struct symbols_frame *ret)
{
	char id[2 * ELF_BUILD_ID_MAX + 1];

	if (!file->build_id_length) {
		give(s, ret, final, "%s+0x%llx", file->name, (unsigned long long)offset);
		return;
	}
	hex_of(file->build_id, file->build_id_length, id);
	give(s, ret, final, "%s+0x%llx [%s]", file->name, (unsigned long long)offset, id);
	ret->id = place_id(file, offset);
}

static void give_frame(struct symbols *s, struct frame *frame, struct symbols_frame *ret)
{
	table_touch(&s->frames, &frame->node);
	*ret = (struct symbols_frame){ .text = frame->text, .length = frame->length, .id = frame->id, .final = true };
}

/* ---- frames ---- */

static struct frame *frame_find(struct symbols *s, uint64_t file, uint64_t offset, bool caller)
{
	uint64_t key = frame_key(s, file, offset, caller);

	for (struct node *n = table_find(&s->frames, key); n; n = table_next(n->chain, key)) {
		struct frame *frame = (struct frame *)n;

		if (frame->file == file && frame->offset == offset && frame->caller == caller)
			return frame;
	}
	return NULL;
}

static struct frame *frame_add(struct symbols *s, uint64_t file, uint64_t offset, bool caller, size_t room)
{
	struct frame *frame = calloc(1, sizeof *frame + room);

	if (!frame)
		return NULL;
	frame->file = file;
	frame->offset = offset;
	frame->caller = caller;
	frame->node.key = frame_key(s, file, offset, caller);
	/* With what malloc adds to it. */
	frame->node.bytes = (uint32_t)ALIGN_UP(sizeof *frame + room + 8, (size_t)16);
	table_add(&s->frames, &frame->node);
	return frame;
}

static void frame_free(struct symbols *s, struct frame *frame)
{
	if (frame->state == FRAME_WAITING)
		s->waiting--;
	table_remove(&s->frames, &frame->node);
	free(frame);
}

static void finish(struct symbols *s, struct frame *waiting, const struct file *file, const char *text, size_t length,
		   enum frame_state state)
{
	struct frame *frame = frame_add(s, waiting->file, waiting->offset, waiting->caller, length + 1);

	if (frame) {
		memcpy(frame->text, text, length);
		frame->length = (uint16_t)length;
		frame->state = (uint8_t)state;
		frame->id = file->build_id_length ? place_id(file, waiting->offset) : hash_bytes(text, length);
	}
	if (state == FRAME_UNKNOWN)
		s->unresolved++;
	frame_free(s, waiting);
}

static void finish_unknown(struct symbols *s, struct frame *waiting, const struct file *file)
{
	struct symbols_frame as;

	give_unknown(s, file, waiting->offset, true, &as);
	finish(s, waiting, file, as.text, as.length, FRAME_UNKNOWN);
}

static void finish_known(struct symbols *s, struct frame *waiting, const struct file *file,
			 const struct worker_name *name)
{
	char function[ELF_NAME_MAX];
	struct symbols_frame as;

	for (unsigned i = 0; i < name->length; i++) {
		unsigned char c = (unsigned char)s->answer.text[name->at + i];

		function[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	function[name->length] = 0;
	give(s, &as, true, "%s+0x%llx (%s)", function, (unsigned long long)name->delta + waiting->caller, file->name);
	finish(s, waiting, file, as.text, as.length, FRAME_KNOWN);
}

/* ---- files ---- */

static struct file *file_find(struct symbols *s, uint64_t number)
{
	return (struct file *)table_find(&s->files, number);
}

static void file_close_fd(struct symbols *s, struct file *file)
{
	if (file->fd < 0)
		return;
	close_fd(&file->fd);
	s->open_files--;
}

static struct file *file_add(struct symbols *s, uint64_t number, uint64_t size, const char *path)
{
	struct file *file = calloc(1, sizeof *file);

	if (!file)
		return NULL;
	file->node.key = number;
	file->node.bytes = sizeof *file + 16;
	file->size = size;
	file->fd = -1;
	file->last = &file->first;
	maps_base_name(path, file->name, sizeof file->name);
	table_add(&s->files, &file->node);
	return file;
}

static bool file_busy(const struct file *file)
{
	return file->queued || file->opening || file->asked || file->first || file->pinned;
}

static void file_free(struct symbols *s, struct file *file)
{
	file_close_fd(s, file);
	table_remove(&s->files, &file->node);
	free(file);
}

/* Nobody will answer these: they are forgotten, and asking again gives what is known of the file. */
static void file_drop_waiting(struct symbols *s, struct file *file)
{
	while (file->first) {
		struct frame *frame = file->first;

		file->first = frame->next;
		frame_free(s, frame);
		s->unresolved++;
	}
	file->last = &file->first;
}

static void file_queue(struct symbols *s, struct file *file)
{
	if (file->queued || !file->first || file->fd < 0)
		return;
	file->queued = true;
	file->next = NULL;
	*s->queue_last = file;
	s->queue_last = &file->next;
	wake_at(s, now_boottime_ns() + BATCH_NS);
}

static struct file *queue_take(struct symbols *s)
{
	struct file *file = s->queue;

	if (!file)
		return NULL;
	s->queue = file->next;
	if (!s->queue)
		s->queue_last = &s->queue;
	file->queued = false;
	return file;
}

/* ---- the worker ---- */

static void watch(struct symbols *s, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* What the question asked is not known; the file that was with a dying worker twice is not asked about again. */
static void fail_asked(struct symbols *s, bool strike)
{
	struct file *file = s->deadline ? file_find(s, s->ask.file) : NULL;

	if (!file)
		return;
	s->deadline = 0;
	file->asked = false;
	for (uint32_t i = 0; i < s->ask.count; i++)
		finish_unknown(s, s->asked[i], file);
	if (strike && ++file->strikes >= STRIKES_MAX) {
		file->unreadable = true;
		file_drop_waiting(s, file);
	}
	file_queue(s, file);
}

static void lose_worker(struct symbols *s, uint64_t now)
{
	if (s->worker < 0)
		return;
	close_fd(&s->worker);
	s->worker_pid = 0;
	s->restarts++;
	s->spawn_at = now + SPAWN_PAUSE_NS;
	fail_asked(s, true);
	wake_at(s, s->spawn_at);
}

static void start_worker(struct symbols *s)
{
	if (s->control < 0)
		return;
	s->worker = worker_spawn(s->control);
	if (s->worker >= 0)
		watch(s, s->worker);
}

/* Without its keeper there will be no other worker: everything goes out as it is. */
static void lose_keeper(struct symbols *s)
{
	struct file *file;

	worker_stop_keeper(s->control, s->keeper_pid);
	s->control = -1;
	close_fd(&s->worker);
	s->worker_pid = 0;
	fail_asked(s, false);
	while ((file = queue_take(s)))
		file_drop_waiting(s, file);
}

static void take_worker_pid(struct symbols *s)
{
	int pid;

	while (s->control >= 0 && (pid = worker_spawned(s->control)) != -EAGAIN) {
		if (pid < 0)
			lose_keeper(s);
		else
			s->worker_pid = pid;
	}
}

static void take_answer(struct symbols *s, struct file *file)
{
	const struct worker_answer *a = &s->answer;

	s->deadline = 0;
	file->asked = false;
	if (!a->status) {
		file->build_id_length = (uint8_t)a->build_id_length;
		memcpy(file->build_id, a->build_id, sizeof file->build_id);
	}
	for (uint32_t i = 0; i < s->ask.count; i++) {
		if (!a->status && i < a->count && a->names[i].length)
			finish_known(s, s->asked[i], file, &a->names[i]);
		else
			finish_unknown(s, s->asked[i], file);
	}
	if (a->status) {
		file->unreadable = true;
		file_drop_waiting(s, file);
	}
	file_queue(s, file);
}

static void take_answers(struct symbols *s, uint64_t now)
{
	while (s->worker >= 0) {
		int r = worker_receive(s->worker, &s->answer);
		struct file *file = s->deadline ? file_find(s, s->ask.file) : NULL;

		if (r == -EAGAIN)
			return;
		if (r < 0 || !file || s->answer.ticket != s->ask.ticket)
			lose_worker(s, now);
		else
			take_answer(s, file);
	}
}

/* Moves the file's first frames into the question. */
static void fill_ask(struct symbols *s, struct file *file)
{
	s->ask.ticket++;
	s->ask.count = 0;
	s->ask.file = file->node.key;
	s->ask.size = file->size;
	while (file->first && s->ask.count < WORKER_BATCH) {
		struct frame *frame = file->first;

		file->first = frame->next;
		s->asked[s->ask.count] = frame;
		s->ask.offsets[s->ask.count++] = frame->offset - frame->caller;
	}
	if (!file->first)
		file->last = &file->first;
}

static void send_next(struct symbols *s, uint64_t now)
{
	struct file *file;

	if (s->deadline || s->worker < 0 || !(file = queue_take(s)))
		return;
	fill_ask(s, file);
	file->asked = true;
	file->used = now;
	s->deadline = now + ASK_DEADLINE_NS;
	if (worker_send(s->worker, &s->ask, file->fd) < 0)
		lose_worker(s, now);
}

/* ---- processes ---- */

static bool submit(struct symbols *s, struct reader_job *job)
{
	if (!job)
		return false;
	s->jobs++;
	reader_submit(s->reader, job);
	wake_at(s, now_boottime_ns() + NS_PER_SEC);
	return true;
}

static void process_read(struct symbols *s, struct process *p, uint64_t now)
{
	struct reader_job *job = reader_new_job(s->reader, READER_MAPS, NULL);

	if (!job)
		return;
	job->pid = p->pid;
	job->proc = p->node.key;
	p->reading = submit(s, job);
	p->next_read = now + p->pause;
	p->pause = MIN_OF(2 * p->pause, REREAD_MAX_NS);
}

static void process_free(struct symbols *s, struct process *p)
{
	if (s->by_pid[(unsigned)p->pid % PIDS] == p)
		s->by_pid[(unsigned)p->pid % PIDS] = NULL;
	s->ended -= p->ended != 0;
	maps_free(&p->maps);
	table_remove(&s->processes, &p->node);
	free(p);
}

static void process_end(struct symbols *s, struct process *p)
{
	if (p->ended)
		return;
	p->ended = now_boottime_ns();
	p->next_read = UINT64_MAX;
	s->ended++;
	wake_at(s, p->ended + GRACE_NS + NS_PER_SEC);
}

/* The pid runs `proc` now: what is there to read is no longer of the execution before. */
static void process_replace(struct symbols *s, uint64_t proc, int pid)
{
	struct process *before = s->by_pid[(unsigned)pid % PIDS];

	if (before && before->pid == pid && before->node.key != proc)
		process_end(s, before);
}

static struct process *process_add(struct symbols *s, uint64_t proc, int pid)
{
	struct process *p;

	if (s->processes.count >= PROCESSES_MAX) {
		process_free(s, (struct process *)s->processes.oldest);
		s->evicted++;
	}
	process_replace(s, proc, pid);
	p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->node.key = proc;
	p->node.bytes = sizeof *p + 16;
	p->pid = pid;
	p->pause = REREAD_NS;
	table_add(&s->processes, &p->node);
	s->by_pid[(unsigned)pid % PIDS] = p;
	process_read(s, p, now_boottime_ns());
	return p;
}

static struct process *process_find(struct symbols *s, uint64_t proc)
{
	return (struct process *)table_find(&s->processes, proc);
}

static struct mapping *mapping_find(const struct process *p, uint64_t address)
{
	uint32_t low = 0, high = p->maps.count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (p->maps.mappings[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low && address < p->maps.mappings[low - 1].end ? &p->maps.mappings[low - 1] : NULL;
}

static bool same_mapping(const struct mapping *a, const struct mapping *b)
{
	return a->start == b->start && a->end == b->end && a->offset == b->offset && a->dev == b->dev &&
	       a->ino == b->ino;
}

/* Takes over what was known of mappings that did not change. Only news makes the next reading soon. */
static void process_take_maps(struct symbols *s, struct process *p, struct maps *maps)
{
	bool news = maps->count != p->maps.count;

	for (uint32_t i = 0; i < maps->count; i++) {
		struct mapping *m = &maps->mappings[i], *before = mapping_find(p, m->start);

		if (before && same_mapping(before, m))
			m->file = before->file;
		else
			news = true;
	}
	if (news)
		p->pause = REREAD_NS;
	maps_free(&p->maps);
	p->maps = *maps;
	*maps = (struct maps){ 0 };
	table_account(&s->processes, &p->node,
		      (uint32_t)(sizeof *p + 48 + p->maps.count * sizeof(struct mapping) + p->maps.text_size));
}

static bool open_file(struct symbols *s, struct process *p, const struct mapping *m)
{
	struct reader_job *job = reader_new_job(s->reader, READER_OPEN, p->maps.text + m->path);

	if (!job)
		return false;
	job->pid = p->pid;
	job->proc = p->node.key;
	job->mapping = *m;
	return submit(s, job);
}

/* ---- what the reader brought ---- */

static void take_maps(struct symbols *s, struct reader_job *job)
{
	struct process *p = process_find(s, job->proc);

	if (!p)
		return;
	p->reading = false;
	if (job->status == 0)
		process_take_maps(s, p, &job->maps);
	else
		p->next_read = UINT64_MAX; /* gone, or not ours to read */
}

/* The opened file becomes the mapping's; returns it, or NULL when it could not be opened. */
static struct file *settle_mapping(struct symbols *s, struct reader_job *job)
{
	struct process *p = process_find(s, job->proc);
	struct mapping *m = p ? mapping_find(p, job->mapping.start) : NULL;
	struct file *file = NULL;

	if (m && !same_mapping(m, &job->mapping))
		m = NULL;
	if (job->status == 0) {
		uint64_t number = file_number(s, &job->identity);

		file = file_find(s, number);
		if (!file)
			file = file_add(s, number, job->identity.size, job->path);
	}
	if (m)
		m->file = file ? file->node.key : FILE_GONE;
	return file;
}

static void take_file(struct symbols *s, struct reader_job *job)
{
	struct file *before = job->mapping.file > FILE_NONE ? file_find(s, job->mapping.file) : NULL;
	struct file *file = settle_mapping(s, job);

	if (before)
		before->opening = false;
	if (before && before != file)
		file_drop_waiting(s, before);
	if (!file)
		return;
	if (file->fd < 0) {
		file->fd = job->fd;
		job->fd = -1;
		s->open_files++;
	}
	file->used = now_boottime_ns();
	file_queue(s, file);
	wake_at(s, file->used + SWEEP_NS);
}

static void take_kernel(struct symbols *s, struct reader_job *job)
{
	s->kernel_reading = false;
	s->kernel_read = true;
	if (job->status < 0)
		return;
	kernel_table_free(s->kernel);
	s->kernel = job->kernel;
	job->kernel = NULL;
}

static void take_jobs(struct symbols *s)
{
	struct reader_job *job;

	while ((job = reader_take(s->reader))) {
		s->jobs--;
		if (job->kind == READER_MAPS)
			take_maps(s, job);
		else if (job->kind == READER_OPEN)
			take_file(s, job);
		else
			take_kernel(s, job);
		reader_free_job(job);
	}
}

/* ---- bounds ---- */

static uint64_t bytes_now(const struct symbols *s)
{
	return sizeof *s + s->processes.bytes + s->files.bytes + s->frames.bytes +
	       (s->kernel ? kernel_table_bytes(s->kernel) : 0) +
	       (s->processes.mask + s->files.mask + s->frames.mask + 3ull) * sizeof(struct node *);
}

static bool evict_frame(struct symbols *s)
{
	for (uint32_t tries = s->frames.count; tries-- > 0;) {
		struct frame *oldest = (struct frame *)s->frames.oldest;

		if (oldest->state != FRAME_WAITING) {
			frame_free(s, oldest);
			s->evicted++;
			return true;
		}
		table_touch(&s->frames, &oldest->node);
	}
	return false;
}

static void bound_files(struct symbols *s)
{
	for (struct node *n = s->files.oldest, *newer; n && s->files.count > FILES_MAX; n = newer) {
		newer = n->newer;
		if (file_busy((struct file *)n))
			continue;
		file_free(s, (struct file *)n);
		s->evicted++;
	}
}

static void bound_tables(struct symbols *s)
{
	while (s->processes.bytes > s->cache_bytes / 4 && s->processes.oldest) {
		process_free(s, (struct process *)s->processes.oldest);
		s->evicted++;
	}
	bound_files(s);
	while (bytes_now(s) > s->cache_bytes && s->frames.bytes > s->cache_bytes / 8)
		if (!evict_frame(s))
			break;
}

/* Descriptors not used for a while are closed: an open file keeps its file system from being unmounted. */
static void sweep(struct symbols *s, uint64_t now)
{
	bool many = s->open_files > OPEN_FILES_MAX;

	if (now < s->sweep_at && !many)
		return;
	s->sweep_at = now + SWEEP_NS;
	for (struct node *n = s->files.oldest; n && s->open_files; n = n->newer) {
		struct file *file = (struct file *)n;

		if (file->fd >= 0 && !file_busy(file) && (many || now > file->used + SWEEP_NS))
			file_close_fd(s, file);
	}
	for (struct node *n = s->processes.oldest, *newer; n && s->ended; n = newer) {
		struct process *p = (struct process *)n;

		newer = n->newer;
		if (p->ended && now > p->ended + GRACE_NS)
			process_free(s, p);
	}
}

/* ---- the interface ---- */

/* A copy of the vDSO, which is the same in every process of this word size, as a file like any other. */
static int keep_vdso(struct symbols *s)
{
	const struct file_identity identity = { .dev = UINT64_MAX, .ino = UINT64_MAX };
	struct maps maps = { 0 };
	uint64_t at = getauxval(AT_SYSINFO_EHDR);
	struct file *file;

	if (!at || maps_read(getpid(), &maps) < 0)
		return 0;
	for (uint32_t i = 0; i < maps.count; i++)
		if (maps.mappings[i].start == at)
			s->vdso_size = maps.mappings[i].end - at;
	maps_free(&maps);
	if (!s->vdso_size)
		return 0;

	_cleanup_(close_fd) int fd = memfd_create("sonde-vdso", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (write_all(fd, (void *)at, s->vdso_size) < 0)
		return 0;
	s->vdso = file_number(s, &identity);
	file = file_add(s, s->vdso, s->vdso_size, "[vdso]");
	if (!file)
		return -ENOMEM;
	file->pinned = true;
	file->fd = fd;
	fd = -1;
	return 0;
}

static int open_tables(struct symbols *s)
{
	int r = table_open(&s->processes, 4096);

	if (r == 0)
		r = table_open(&s->files, 4096);
	if (r == 0)
		r = table_open(&s->frames, 32768);
	return r;
}

static int open_descriptors(struct symbols *s)
{
	if (getrandom(s->seed, sizeof s->seed, 0) != sizeof s->seed)
		return -EIO;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	/* Opened now: later the agent may have lost the right to see addresses. Without it kernel frames stay numbers.
	 */
	s->kallsyms = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	return s->epoll < 0 || s->timer < 0 ? -errno : 0;
}

static int start(struct symbols *s, const struct symbols_options *options, struct fault *fault)
{
	struct worker_options worker = { .table_bytes = options->worker_bytes, .uid = options->worker_uid };
	int r = worker_start_keeper(&worker, &s->control, &s->keeper_pid);

	if (r < 0)
		return fault_set(fault, r, "the stack worker cannot be started: %s", strerror(-r));
	r = open_tables(s);
	if (r == 0)
		r = open_descriptors(s);
	if (r == 0)
		r = reader_open(&s->reader);
	if (r == 0)
		r = keep_vdso(s);
	if (r < 0)
		return fault_set(fault, r, "the symbol tables cannot be made: %s", strerror(-r));
	watch(s, s->timer);
	watch(s, s->control);
	watch(s, reader_fd(s->reader));
	start_worker(s);
	return 0;
}

int symbols_open(struct symbols **ret, const struct symbols_options *options, struct fault *fault)
{
	struct symbols *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return fault_set(fault, -ENOMEM, "no memory for the symbol tables");
	s->epoll = s->timer = s->control = s->worker = s->kallsyms = -1;
	s->cache_bytes = MAX_OF(options->cache_bytes, CACHE_BYTES_LEAST);
	s->queue_last = &s->queue;
	r = start(s, options, fault);
	if (r < 0)
		symbols_close(s);
	else
		*ret = s;
	return r;
}

static void close_tables(struct symbols *s)
{
	while (s->frames.oldest)
		frame_free(s, (struct frame *)s->frames.oldest);
	while (s->processes.oldest)
		process_free(s, (struct process *)s->processes.oldest);
	while (s->files.oldest) {
		struct file *file = (struct file *)s->files.oldest;

		file_close_fd(s, file);
		file_free(s, file);
	}
	free(s->frames.buckets);
	free(s->processes.buckets);
	free(s->files.buckets);
}

void symbols_close(struct symbols *s)
{
	if (!s)
		return;
	close_fd(&s->worker);
	if (s->control >= 0)
		worker_stop_keeper(s->control, s->keeper_pid);
	reader_close(s->reader);
	close_tables(s);
	kernel_table_free(s->kernel);
	close_fd(&s->kallsyms);
	close_fd(&s->timer);
	close_fd(&s->epoll);
	free(s);
}

int symbols_fd(const struct symbols *s)
{
	return s->epoll;
}

/* The earliest of what is to be looked after without news from outside. */
static void rearm(struct symbols *s, uint64_t now)
{
	if (s->deadline)
		wake_at(s, s->deadline);
	if (s->worker < 0 && s->control >= 0)
		wake_at(s, MAX_OF(s->spawn_at, now + NS_PER_MS));
	if (s->jobs)
		wake_at(s, now + NS_PER_SEC);
	if (s->open_files || s->ended)
		wake_at(s, MAX_OF(s->sweep_at, now + NS_PER_SEC));
}

static void take_ready(struct symbols *s, int fd, uint64_t now)
{
	uint64_t fired;

	if (fd == s->timer && read(s->timer, &fired, sizeof fired) > 0)
		s->timer_at = 0;
	else if (fd == reader_fd(s->reader))
		take_jobs(s);
	else if (fd == s->control)
		take_worker_pid(s);
	else if (fd == s->worker)
		take_answers(s, now);
}

void symbols_answer(struct symbols *s)
{
	uint64_t now = now_boottime_ns();
	struct epoll_event ready[8];
	int n = epoll_wait(s->epoll, ready, ARRAY_SIZE(ready), 0);

	for (int i = 0; i < n; i++)
		take_ready(s, ready[i].data.fd, now);
	if (s->deadline && now >= s->deadline)
		lose_worker(s, now);
	if (s->worker < 0 && now >= s->spawn_at)
		start_worker(s);
	send_next(s, now);
	s->held_up = reader_watch(s->reader, now);
	bound_tables(s);
	sweep(s, now);
	rearm(s, now);
}

void symbols_process(struct symbols *s, uint64_t proc, int pid)
{
	struct process *known = process_find(s, proc);

	process_replace(s, proc, pid);
	if (known && !known->ended) {
		known->next_read = 0;
		known->pause = REREAD_NS;
	}
}

void symbols_process_ended(struct symbols *s, uint64_t proc)
{
	struct process *p = process_find(s, proc);

	if (p)
		process_end(s, p);
}

/* No mapping holds the address: perhaps they are to be read anew. */
static void give_address(struct symbols *s, struct process *p, uint64_t address, struct symbols_frame *ret)
{
	uint64_t now = now_boottime_ns();

	if (p && !p->reading && now >= p->next_read)
		process_read(s, p, now);
	give(s, ret, !p || (!p->reading && p->next_read > now + WORTH_WAITING_NS), "0x%llx",
	     (unsigned long long)address);
}

/* Memory without a file: the kernel's own names ("[vsyscall]", "[stack]") or none. */
static void give_anonymous(struct symbols *s, const char *path, uint64_t address, struct symbols_frame *ret)
{
	give(s, ret, true, "0x%llx (%s)", (unsigned long long)address, path[0] == '[' ? path : "[anon]");
}

static void find_file(struct symbols *s, struct process *p, struct mapping *m)
{
	const char *path = p->maps.text + m->path;

	if (m->ino)
		m->file = open_file(s, p, m) ? FILE_OPENING : FILE_UNKNOWN;
	else if (!strcmp(path, "[vdso]") && s->vdso && m->end - m->start == s->vdso_size)
		m->file = s->vdso;
	else
		m->file = FILE_NONE;
}

/* The file is known, the frame is not yet: it joins those that wait. */
static void wait_for(struct symbols *s, struct process *p, struct mapping *m, struct file *file, uint64_t offset,
		     bool caller)
{
	struct frame *frame = s->waiting < WAITING_MAX ? frame_add(s, file->node.key, offset, caller, 0) : NULL;

	if (!frame)
		return;
	s->waiting++;
	*file->last = frame;
	file->last = &frame->next;
	if (file->fd < 0 && !file->opening)
		file->opening = open_file(s, p, m);
	file_queue(s, file);
}

static void give_in_file(struct symbols *s, struct process *p, struct mapping *m, struct file *file, uint64_t offset,
			 bool caller, struct symbols_frame *ret)
{
	struct frame *frame = frame_find(s, file->node.key, offset, caller);
	bool hopeless = file->unreadable || s->control < 0;

	table_touch(&s->files, &file->node);
	if (frame && frame->state != FRAME_WAITING) {
		give_frame(s, frame, ret);
		return;
	}
	if (!frame && !hopeless)
		wait_for(s, p, m, file, offset, caller);
	give_unknown(s, file, offset, hopeless, ret);
}

/* Nothing but the path is known of the file: not opened yet, or not to be opened. */
static void give_by_path(struct symbols *s, const char *path, uint64_t offset, bool final, struct symbols_frame *ret)
{
	struct file file = { 0 };

	maps_base_name(path, file.name, sizeof file.name);
	give_unknown(s, &file, offset, final, ret);
}

void symbols_user_frame(struct symbols *s, uint64_t proc, int pid, uint64_t address, bool caller,
			struct symbols_frame *ret)
{
	struct process *p = process_find(s, proc);
	struct mapping *m;
	struct file *file;

	if (!p)
		p = process_add(s, proc, pid);
	else
		table_touch(&s->processes, &p->node);
	caller = caller && address;
	m = p ? mapping_find(p, address - caller) : NULL;
	if (!m) {
		give_address(s, p, address, ret);
		return;
	}

	const char *path = p->maps.text + m->path;
	uint64_t offset = address - m->start + m->offset;

	file = m->file > FILE_NONE ? file_find(s, m->file) : NULL;
	if (m->file == FILE_UNKNOWN || (m->file > FILE_NONE && !file)) {
		find_file(s, p, m);
		file = m->file > FILE_NONE ? file_find(s, m->file) : NULL;
	}
	if (file)
		give_in_file(s, p, m, file, offset, caller, ret);
	else if (m->file == FILE_NONE)
		give_anonymous(s, path, address, ret);
	else
		give_by_path(s, path, offset, m->file == FILE_GONE, ret);
}

static void read_kernel(struct symbols *s)
{
	struct reader_job *job = reader_new_job(s->reader, READER_KERNEL, NULL);

	if (!job)
		return;
	s->kernel_at = now_boottime_ns() + KERNEL_REREAD_NS;
	job->fd = fcntl(s->kallsyms, F_DUPFD_CLOEXEC, 3);
	s->kernel_reading = submit(s, job);
}

void symbols_kernel_frame(struct symbols *s, uint64_t address, bool caller, struct symbols_frame *ret)
{
	uint64_t delta = 0;
	const char *name = s->kernel ? kernel_table_find(s->kernel, address - caller, &delta) : NULL;

	if (name) {
		give(s, ret, true, "%s+0x%llx ([k])", name, (unsigned long long)delta + caller);
		return;
	}
	/* Read at first, and again when a module may have come. */
	if (!s->kernel_reading && s->kallsyms >= 0 && now_boottime_ns() >= s->kernel_at)
		read_kernel(s);
	give(s, ret, s->kernel_read || s->kallsyms < 0, "0x%llx ([k])", (unsigned long long)address);
}

void symbols_health(const struct symbols *s, struct symbols_health *ret)
{
	*ret = (struct symbols_health){ .files = s->files.count,
					.frames = s->frames.count,
					.evicted = s->evicted,
					.bytes = bytes_now(s),
					.worker_restarts = s->restarts,
					.unresolved = s->unresolved,
					.held_up = s->held_up,
					.worker_pid = s->worker_pid };
}
