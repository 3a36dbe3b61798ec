/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A round is one reading of the iterator's file from begin to end. Its program writes one byte for each sample that it made, so that a
 * read of PIECE bytes comes back after PIECE samples at most: between reads the thread pauses, and the ring is emptied meanwhile.
 *
 * The thread and its owner share one struct with two references; whoever lets go last frees it.
 */
#include "probes/offcpu/waiting.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/base.h"

#define PIECE    32
#define PAUSE_NS (20 * NS_PER_MS)

struct waiting {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int link;
	bool asked, hurried, running, ending;
	unsigned references;
	_Atomic uint64_t samples;
};

/* One round; `paced`: with pauses. */
static int round_of(struct waiting *w, bool paced)
{
	_cleanup_(close_fd) int fd = bpf_iter_create(w->link);
	uint64_t samples = 0;
	char piece[PIECE];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, piece, sizeof piece)) != 0) {
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		samples += n > 0 ? (uint64_t)n : 0;
		if (paced && n > 0)
			nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
	}
	w->samples = samples;
	return 0;
}

/* With the lock held; gives it up. */
static void let_go(struct waiting *w)
{
	bool last = --w->references == 0;

	pthread_mutex_unlock(&w->lock);
	if (!last)
		return;
	close_fd(&w->link);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->changed);
	free(w);
}

static void *run(void *context)
{
	struct waiting *w = context;

	pthread_mutex_lock(&w->lock);
	while (!w->ending) {
		if (!w->asked) {
			pthread_cond_wait(&w->changed, &w->lock);
			continue;
		}
		bool paced = !w->hurried;

		w->asked = w->hurried = false;
		w->running = true;
		pthread_mutex_unlock(&w->lock);
		round_of(w, paced);
		pthread_mutex_lock(&w->lock);
		w->running = false;
		pthread_cond_broadcast(&w->changed);
	}
	let_go(w);
	return NULL;
}

/* With the lock held. Signals are the loop's. */
static int start_thread(struct waiting *w)
{
	sigset_t all, before;
	pthread_t thread;
	int r;

	if (w->references == 2)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return -r;
	pthread_detach(thread);
	w->references = 2;
	return 0;
}

static void init_sync(struct waiting *w)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

int waiting_open(struct waiting **ret, int program)
{
	struct waiting *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return -ENOMEM;
	init_sync(w);
	w->references = 1;
	w->link = bpf_link_create(program, 0, BPF_TRACE_ITER, NULL);
	if (w->link < 0) {
		r = -errno;
		waiting_close(w);
		return r;
	}
	*ret = w;
	return 0;
}

void waiting_close(struct waiting *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_broadcast(&w->changed);
	let_go(w);
}

int waiting_take_in(struct waiting *w)
{
	return round_of(w, false);
}

int waiting_start(struct waiting *w)
{
	int r;

	pthread_mutex_lock(&w->lock);
	r = start_thread(w);
	w->asked = r == 0 && !w->running;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return r;
}

/* With the lock held: waits until no round runs or is asked for. */
static int wait_idle(struct waiting *w, const struct timespec *until)
{
	int r = 0;

	while ((w->running || w->asked) && r == 0)
		r = pthread_cond_timedwait(&w->changed, &w->lock, until);
	return w->running || w->asked ? -EBUSY : 0;
}

int waiting_now(struct waiting *w, int timeout_ms)
{
	struct timespec until;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(timeout_ms % 1000) * (long)NS_PER_MS;
	until.tv_sec += timeout_ms / 1000 + until.tv_nsec / (long)NS_PER_SEC;
	until.tv_nsec %= (long)NS_PER_SEC;
	pthread_mutex_lock(&w->lock);
	r = start_thread(w);
	if (r == 0)
		r = wait_idle(w, &until);
	if (r == 0) {
		w->asked = w->hurried = true;
		pthread_cond_broadcast(&w->changed);
		r = wait_idle(w, &until);
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

uint64_t waiting_samples(const struct waiting *w)
{
	return w->samples;
}
