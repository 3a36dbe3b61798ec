/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing, the loop's part, and the bounds. What is kept, and who does what, is told in symbols_state.h.
 */
#include "stacks/symbols_state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/timerfd.h>

#define ARENA_BYTES         (8u << 20)
#define DEBUGINFOD_BEGIN_MS 3000
#define EVENT_PAGES         32u /* of each CPU's ring of mapping events */

void symbols_wake_at(struct symbols *s, uint64_t when)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(when / NS_PER_SEC),
					       .tv_nsec = (long)(when % NS_PER_SEC) } };

	if (s->timer_at && s->timer_at <= when)
		return;
	s->timer_at = when;
	timerfd_settime(s->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

uint64_t symbols_mix(uint64_t h, uint64_t v)
{
	h ^= v;
	h *= 0xff51afd7ed558ccdull;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ull;
	return h ^ h >> 29;
}

void symbols_watch(struct symbols *s, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event);
}

bool symbols_submit(struct symbols *s, struct reader *reader, struct reader_job *job)
{
	s->jobs++;
	reader_submit(reader, job);
	symbols_wake_at(s, now_boottime_ns() + NS_PER_SEC);
	return true;
}

/* ---- the kernel's account of processes ---- */

static void note_map(void *context, const struct space_map_event *event)
{
	spaces_map(((struct symbols *)context)->spaces, event);
}

static void note_exec(void *context, int pid, uint64_t time)
{
	spaces_exec(((struct symbols *)context)->spaces, pid, time);
}

static void note_fork(void *context, int parent, int pid, uint64_t time)
{
	spaces_fork(((struct symbols *)context)->spaces, parent, pid, time);
}

static void note_exit(void *context, int pid, uint64_t time)
{
	spaces_exit(((struct symbols *)context)->spaces, pid, time);
}

static void note_lost(void *context, uint64_t since, uint64_t until)
{
	spaces_lost(((struct symbols *)context)->spaces, since, until);
}

void symbols_take_events(struct symbols *s)
{
	const struct perf_events_handler handler = { .context = s,
						     .map = note_map,
						     .exec = note_exec,
						     .fork = note_fork,
						     .exit = note_exit,
						     .lost = note_lost };

	if (!s->events)
		return;
	s->drained_at = now_boottime_ns();
	perf_events_drain(s->events, &handler);
}

static void take_jobs(struct symbols *s, struct reader *reader)
{
	struct reader_job *job;

	while ((job = reader_take(reader))) {
		s->jobs--;
		if (job->kind == READER_MAPS)
			samples_take_maps(s, job);
		else if (job->kind == READER_KERNEL)
			frames_take_kernel(s, job);
		else if (job->kind == READER_DEBUG)
			file_take_debug(s, job);
		else
			file_take_job(s, job);
		reader_free_job(job);
	}
}

/* ---- bounds ---- */

static uint64_t bytes_now(const struct symbols *s)
{
	struct spaces_health spaces;

	spaces_health(s->spaces, &spaces);
	return sizeof *s + spaces.bytes + s->files.bytes + s->frames.bytes + samples_count(s) * sizeof(struct sample) +
	       (s->kernel ? kernel_table_bytes(s->kernel) : 0) +
	       (s->files.mask + s->frames.mask + 2ull) * sizeof(struct node *);
}

static void bound_files(struct symbols *s)
{
	for (struct node *n = s->files.oldest, *newer; n && s->files.count > FILES_MAX; n = newer) {
		newer = n->newer;
		if (file_busy((struct file *)n) || ((struct file *)n)->touched) {
			((struct file *)n)->touched = false; /* used since: it has another round */
			continue;
		}
		file_free(s, (struct file *)n);
		s->evicted++;
	}
}

static void bound_tables(struct symbols *s)
{
	if (s->bounded == s->files.bytes + s->frames.bytes)
		return;
	bound_files(s);
	while (bytes_now(s) > s->cache_bytes && s->frames.bytes > s->cache_bytes / 8)
		if (!frame_evict(s))
			break;
	s->bounded = s->files.bytes + s->frames.bytes;
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
			file_close(s, file);
	}
	spaces_sweep(s->spaces, now);
	if (s->events)
		perf_events_follow(s->events);
}

/* ---- opening and closing ---- */

/* A copy of the vDSO, which is the same in every process of this word size, as a file like any other. */
static int keep_vdso(struct symbols *s)
{
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
	s->vdso = symbols_mix(s->seed[0], UINT64_MAX) | (STACK_LAST + 1);
	file = file_add(s, s->vdso, "[vdso]");
	if (!file)
		return -ENOMEM;
	file->size = s->vdso_size;
	file->pinned = true;
	file->fd = fd;
	fd = -1;
	return 0;
}

static int open_tables(struct symbols *s)
{
	struct spaces_options spaces = { .bytes = s->cache_bytes / SPACES_PART, .grace_ns = GRACE_NS };
	int r = table_open(&s->files, 4096);

	if (r == 0)
		r = table_open(&s->frames, 32768);
	return r == 0 ? spaces_open(&s->spaces, &spaces) : r;
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

static int start_worker(struct symbols *s, const struct symbols_options *options, struct fault *fault)
{
	struct worker_options worker = { .table_bytes = options->worker_bytes,
					 .arena = &s->arena,
					 .uid = options->worker_uid };
	int r = arena_open(&s->arena, ARENA_BYTES);

	if (r == 0)
		r = worker_start_keeper(&worker, &s->control, &s->keeper_pid);
	if (r < 0)
		return fault_set(fault, r, "the stack worker cannot be started: %s", strerror(-r));
	if (options->java_maps)
		r = jvm_keeper_start(&s->jvm, options->worker_uid);
	if (r < 0)
		return fault_set(fault, r, "the keeper that asks JVMs cannot be started: %s", strerror(-r));
	if (options->debuginfod.n_urls)
		r = debuginfod_start(&s->debuginfod, &options->debuginfod);
	return r < 0 ? fault_set(fault, r, "the helper that asks debuginfod cannot be started: %s", strerror(-r)) : 0;
}

static int start(struct symbols *s, const struct symbols_options *options, struct fault *fault)
{
	int r = start_worker(s, options, fault);

	if (r < 0)
		return r;
	r = open_tables(s);
	if (r == 0)
		r = open_descriptors(s);
	if (r == 0)
		r = reader_open(&s->reader);
	if (r == 0)
		r = reader_open(&s->slow_reader);
	if (r == 0)
		r = keep_vdso(s);
	if (r < 0)
		return fault_set(fault, r, "the symbol tables cannot be made: %s", strerror(-r));
	if (!options->no_events)
		r = perf_events_open(&s->events, EVENT_PAGES, fault);
	if (r < 0)
		return r;
	symbols_watch(s, s->timer);
	symbols_watch(s, s->control);
	symbols_watch(s, reader_fd(s->reader));
	symbols_watch(s, reader_fd(s->slow_reader));
	if (s->events)
		symbols_watch(s, perf_events_fd(s->events));
	if (s->jvm)
		symbols_watch(s, jvm_keeper_fd(s->jvm));
	if (s->debuginfod)
		symbols_watch(s, debuginfod_fd(s->debuginfod));
	worker_start(s);
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
	while (s->files.oldest)
		file_free(s, (struct file *)s->files.oldest);
	free(s->frames.buckets);
	free(s->files.buckets);
	spaces_close(s->spaces);
}

void symbols_close(struct symbols *s)
{
	if (!s)
		return;
	if (s->spaces)
		symbols_finish(s);
	close_fd(&s->worker);
	if (s->control >= 0)
		worker_stop_keeper(s->control, s->keeper_pid);
	if (s->jvm)
		jvm_keeper_stop(s->jvm);
	debuginfod_stop(s->debuginfod);
	reader_close(s->reader);
	reader_close(s->slow_reader);
	perf_events_close(s->events);
	close_tables(s);
	kernel_table_free(s->kernel);
	arena_close(&s->arena);
	close_fd(&s->kallsyms);
	close_fd(&s->timer);
	close_fd(&s->epoll);
	free(s);
}

/* ---- the loop's part ---- */

int symbols_fd(const struct symbols *s)
{
	return s->epoll;
}

/* The earliest of what is to be looked after without news from outside. */
static void rearm(struct symbols *s, uint64_t now)
{
	if (s->deadline)
		symbols_wake_at(s, s->deadline);
	if (s->worker < 0 && s->control >= 0)
		symbols_wake_at(s, MAX_OF(s->spawn_at, now + NS_PER_MS));
	if (s->jobs)
		symbols_wake_at(s, now + NS_PER_SEC);
	/* While a question is out, its answer comes first. */
	if (s->inlines && !s->deadline)
		symbols_wake_at(s, MAX_OF(s->inlines_at, now + NS_PER_MS));
	if (s->missing.first || s->unmapped.first)
		symbols_wake_at(s, now + NS_PER_SEC / 2);
	if (s->open_files)
		symbols_wake_at(s, MAX_OF(s->sweep_at, now + NS_PER_SEC));
}

/* Without its keeper JVMs are not asked any more. */
static void take_jvm(struct symbols *s)
{
	int pid, result;

	file_take_jvm(s);
	if (jvm_keeper_answer(s->jvm, &pid, &result) != -EPIPE)
		return;
	jvm_keeper_stop(s->jvm);
	s->jvm = NULL;
}

static void take_ready(struct symbols *s, int fd, uint64_t now)
{
	uint64_t fired;

	if (fd == s->timer && read(s->timer, &fired, sizeof fired) > 0)
		s->timer_at = 0;
	else if (fd == reader_fd(s->reader))
		take_jobs(s, s->reader);
	else if (fd == reader_fd(s->slow_reader))
		take_jobs(s, s->slow_reader);
	else if (fd == s->control)
		worker_take_pid(s);
	else if (fd == s->worker)
		worker_take_answers(s, now);
	else if (s->jvm && fd == jvm_keeper_fd(s->jvm))
		take_jvm(s);
	else if (s->debuginfod && fd == debuginfod_fd(s->debuginfod))
		s->fetched |= debuginfod_take(s->debuginfod);
}

int symbols_debuginfod(struct symbols *s, struct fault *fault)
{
	return s->debuginfod ? debuginfod_ready(s->debuginfod, DEBUGINFOD_BEGIN_MS, fault) : 0;
}

void symbols_answer(struct symbols *s)
{
	uint64_t now = now_boottime_ns();
	struct epoll_event ready[8];
	int n = epoll_wait(s->epoll, ready, ARRAY_SIZE(ready), 0);

	symbols_take_events(s);
	for (int i = 0; i < n; i++)
		take_ready(s, ready[i].data.fd, now);
	if (s->deadline && now >= s->deadline)
		worker_lose(s, now);
	if (s->worker < 0 && now >= s->spawn_at)
		worker_start(s);
	samples_expire(s, now);
	files_take_fetched(s);
	worker_send_next(s, now);
	s->held_up = reader_watch(s->reader, now);
	bound_tables(s);
	sweep(s, now);
	rearm(s, now);
}

void symbols_health(const struct symbols *s, struct symbols_health *ret)
{
	struct spaces_health spaces;

	spaces_health(s->spaces, &spaces);
	*ret = (struct symbols_health){ .files = s->files.count,
					.frames = s->frames.count,
					.spaces = spaces.spaces,
					.evicted = s->evicted + spaces.evicted,
					.bytes = bytes_now(s),
					.worker_restarts = s->restarts,
					.unresolved = s->unresolved,
					.held_up = s->held_up,
					.unwound = s->unwound,
					.cut = s->cut,
					.broken = s->broken,
					.lost = s->lost,
					.events_lost = s->events ? perf_events_lost(s->events) : 0,
					.worker_pid = s->worker_pid };
}
