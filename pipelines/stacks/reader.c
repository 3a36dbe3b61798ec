/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two lists under one lock, a condition for the thread and an eventfd for the agent's loop. Each thread works for one
 * `struct shift`; replacing a thread that hangs means giving the reader a new shift: the old thread, should it ever
 * come back, delivers its job and sees that its shift is over. The reader is counted by its threads and its owner, the
 * last one frees it.
 *
 * Invariants: a job is in exactly one list or in exactly one thread's hands; `running_since` is 0 when the shift's
 * thread is idle.
 */
#include "stacks/reader.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/base.h"
#include "stacks/debug_file.h"

#define JOBS_MAX    4096u
#define LEFT_MAX    4u
#define DEADLINE_NS (2 * NS_PER_SEC)
#define STACK_BYTES (256u << 10)

struct list {
	struct reader_job *first, **last;
};

struct reader {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list waiting, done;
	unsigned jobs;   /* in lists and hands */
	unsigned owners; /* threads, and the agent */
	unsigned shift;  /* number of the thread that is to work; 0: none yet */
	unsigned left_behind;
	uint64_t running_since;
	bool closing;
	int event;
};

static void list_put(struct list *list, struct reader_job *job)
{
	job->next = NULL;
	*list->last = job;
	list->last = &job->next;
}

static struct reader_job *list_get(struct list *list)
{
	struct reader_job *job = list->first;

	if (!job)
		return NULL;
	list->first = job->next;
	if (!list->first)
		list->last = &list->first;
	return job;
}

void reader_free_job(struct reader_job *job)
{
	if (!job)
		return;
	close_fd(&job->fd);
	maps_free(&job->maps);
	kernel_table_free(job->kernel);
	free(job);
}

static void leave(struct reader *r)
{
	bool last = --r->owners == 0;
	struct reader_job *job;

	pthread_mutex_unlock(&r->lock);
	if (!last)
		return;
	while ((job = list_get(&r->waiting)) || (job = list_get(&r->done)))
		reader_free_job(job);
	close_fd(&r->event);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->wake);
	free(r);
}

/* The first of the places where a debug file may be that holds a file. Whether it is the right one shows its build id. */
static void find_debug(struct reader_job *job)
{
	const struct debug_file_hint hint = {
		.path = job->path, .build_id = job->build_id, .build_id_length = job->build_id_length, .link = job->link
	};
	char path[MAPS_PATH_MAX];

	job->status = -ENOENT;
	for (unsigned i = 0; job->status < 0 && i < DEBUG_FILE_CANDIDATES; i++) {
		if (!debug_file_candidate(&hint, i, path, sizeof path))
			continue;
		job->fd = maps_open_file(job->pid, 0, 0, 0, 0, path, &job->identity);
		job->status = MIN_OF(job->fd, 0);
	}
}

static void do_job(struct reader_job *job)
{
	const struct mapping *m = &job->mapping;

	switch (job->kind) {
	case READER_MAPS:
		job->status = maps_read(job->pid, &job->maps);
		break;
	case READER_OPEN:
		job->fd = maps_open_file(job->pid, m->start, m->end, m->dev, m->ino, job->path, &job->identity);
		job->status = MIN_OF(job->fd, 0);
		break;
	case READER_PERF_MAP:
		job->fd = maps_open_perf_map(job->pid, &job->identity);
		job->status = MIN_OF(job->fd, 0);
		break;
	case READER_DEBUG:
		find_debug(job);
		break;
	case READER_KERNEL:
		job->status = kernel_table_read(job->fd, &job->kernel);
		break;
	}
}

static void *work(void *argument)
{
	struct reader *r = argument;

	pthread_mutex_lock(&r->lock);

	unsigned shift = r->shift;

	while (!r->closing && r->shift == shift) {
		struct reader_job *job = list_get(&r->waiting);

		if (!job) {
			pthread_cond_wait(&r->wake, &r->lock);
			continue;
		}
		r->running_since = now_boottime_ns();
		pthread_mutex_unlock(&r->lock);
		do_job(job);
		pthread_mutex_lock(&r->lock);
		list_put(&r->done, job);
		if (r->shift == shift)
			r->running_since = 0;
		eventfd_write(r->event, 1);
	}
	leave(r);
	return NULL;
}

/* With the lock held. The thread takes no signals: they are the loop's. */
static void start_thread(struct reader *r)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r->shift++;
	r->running_since = 0;
	if (pthread_create(&thread, &attributes, work, r) == 0)
		r->owners++;
	else
		r->shift = 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
}

int reader_open(struct reader **ret)
{
	struct reader *r = calloc(1, sizeof *r);

	if (!r)
		return -ENOMEM;
	r->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->event < 0) {
		free(r);
		return -errno;
	}
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wake, NULL);
	r->waiting.last = &r->waiting.first;
	r->done.last = &r->done.first;
	r->owners = 1;
	*ret = r;
	return 0;
}

void reader_close(struct reader *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->closing = true;
	pthread_cond_broadcast(&r->wake);
	leave(r);
}

int reader_fd(const struct reader *r)
{
	return r->event;
}

struct reader_job *reader_new_job(struct reader *r, enum reader_kind kind, const char *path)
{
	size_t length = path ? strlen(path) + 1 : 0;
	struct reader_job *job;

	if (__atomic_load_n(&r->jobs, __ATOMIC_RELAXED) >= JOBS_MAX)
		return NULL;
	job = calloc(1, sizeof *job + length);
	if (!job)
		return NULL;
	job->kind = kind;
	job->fd = -1;
	if (path)
		memcpy(job->path, path, length);
	return job;
}

void reader_submit(struct reader *r, struct reader_job *job)
{
	pthread_mutex_lock(&r->lock);
	__atomic_add_fetch(&r->jobs, 1, __ATOMIC_RELAXED);
	list_put(&r->waiting, job);
	if (!r->shift)
		start_thread(r);
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
}

struct reader_job *reader_take(struct reader *r)
{
	struct reader_job *job;
	eventfd_t count;

	pthread_mutex_lock(&r->lock);
	job = list_get(&r->done);
	if (job)
		__atomic_sub_fetch(&r->jobs, 1, __ATOMIC_RELAXED);
	else
		eventfd_read(r->event, &count);
	pthread_mutex_unlock(&r->lock);
	return job;
}

unsigned reader_watch(struct reader *r, uint64_t now)
{
	unsigned left;

	pthread_mutex_lock(&r->lock);
	if (r->running_since && now > r->running_since + DEADLINE_NS && r->left_behind < LEFT_MAX) {
		r->left_behind++;
		start_thread(r);
	}
	left = r->left_behind;
	pthread_mutex_unlock(&r->lock);
	return left;
}
