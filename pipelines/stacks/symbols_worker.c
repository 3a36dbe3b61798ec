/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one question that is with the worker. Learning comes first, as samples wait for it and their memory is the dearest; then samples;
 * then names. A worker that dies or does not answer in time is replaced, and what it was asked is asked once more: what was with two of
 * them is not asked again.
 */
#include "stacks/symbols_state.h"

#include <errno.h>
#include <string.h>

void worker_start(struct symbols *s)
{
	if (s->control < 0)
		return;
	s->worker = worker_spawn(s->control);
	if (s->worker >= 0)
		symbols_watch(s, s->worker);
}

static struct file *asked_file(struct symbols *s)
{
	return s->ask.kind == WORKER_UNWIND ? NULL : file_find(s, s->asked_number);
}

/* The file that was with a dying worker twice is not asked about again. */
static void fail_asked(struct symbols *s, bool strike)
{
	struct file *file;

	if (!s->deadline)
		return;
	s->deadline = 0;
	if (s->ask.kind == WORKER_UNWIND) {
		samples_fail_asked(s);
		return;
	}
	file = asked_file(s);
	if (!file)
		return;
	file->asked = false;
	if (s->ask.kind == WORKER_NAMES)
		frames_fail_asked(s, file);
	if (s->ask.kind == WORKER_INLINES && file == s->inlines)
		file_inlines_done(s, false);
	if (strike && ++file->strikes >= STRIKES_MAX) {
		file->unreadable = true;
		frames_drop_waiting(s, file);
		file->gone = true;
		file_close(s, file);
		file->retry_at = UINT64_MAX;
	}
	file_queue(s, file);
}

void worker_lose(struct symbols *s, uint64_t now)
{
	if (s->worker < 0)
		return;
	close_fd(&s->worker);
	s->worker_pid = 0;
	s->restarts++;
	s->spawn_at = now + SPAWN_PAUSE_NS;
	fail_asked(s, true);
	symbols_wake_at(s, s->spawn_at);
}

/* Without its keeper there will be no other worker: everything goes out as it is. */
static void lose_keeper(struct symbols *s)
{
	worker_stop_keeper(s->control, s->keeper_pid);
	s->control = -1;
	close_fd(&s->worker);
	s->worker_pid = 0;
	fail_asked(s, false);
	while (s->queue)
		frames_drop_waiting(s, file_queue_take(s, &s->queue));
	symbols_finish(s);
}

void worker_take_pid(struct symbols *s)
{
	int pid;

	while (s->control >= 0 && (pid = worker_spawned(s->control)) != -EAGAIN) {
		if (pid < 0)
			lose_keeper(s);
		else
			s->worker_pid = pid;
	}
}

static void take_file_answer(struct symbols *s, struct file *file)
{
	switch (s->ask.kind) {
	case WORKER_DESCRIBE:
		if (s->answer.status == 0) {
			file_take_description(s, file);
			return;
		}
		file->unreadable = true;
		file->stage = STAGE_NAMES;
		frames_drop_waiting(s, file);
		return;
	case WORKER_INLINES:
		s->inlines_at = now_boottime_ns() + INLINES_SHARE * (now_boottime_ns() - s->asked_at);
		if (s->answer.status <= 0 && file == s->inlines)
			file_inlines_done(s, s->answer.count > 0);
		return;
	case WORKER_NAMES:
		frames_take_answer(s, file);
		return;
	default:
		file->wants_learn = false;
		samples_learned(s, file->node.key);
	}
}

static void take_answer(struct symbols *s)
{
	struct file *file = asked_file(s);

	s->deadline = 0;
	if (s->ask.kind == WORKER_UNWIND) {
		samples_take_answer(s);
		return;
	}
	if (!file)
		return;
	file->asked = false;
	take_file_answer(s, file);
	file_queue(s, file);
}

void worker_take_answers(struct symbols *s, uint64_t now)
{
	while (s->worker >= 0) {
		int r = worker_receive(s->worker, &s->answer);

		if (r == -EAGAIN)
			return;
		if (r < 0 || !s->deadline || s->answer.ticket != s->ask.ticket)
			worker_lose(s, now);
		else
			take_answer(s);
	}
}

static void begin_ask(struct symbols *s, enum worker_kind kind)
{
	uint32_t ticket = s->ask.ticket + 1;

	memset(&s->ask, 0, offsetof(struct worker_ask, places));
	s->ask.ticket = ticket;
	s->ask.kind = kind;
}

static void send_ask(struct symbols *s, int fd, int debug_fd, uint64_t now)
{
	s->asked_at = now;
	s->deadline = now + ASK_DEADLINE_NS;
	symbols_wake_at(s, s->deadline);
	if (worker_send(s->worker, &s->ask, fd, debug_fd) < 0)
		worker_lose(s, now);
}

static enum worker_kind kind_of(const struct file *file)
{
	return file->stage == STAGE_NEW && file->fd >= 0 ? WORKER_DESCRIBE
	       : file->wants_learn                       ? WORKER_LEARN
							 : WORKER_NAMES;
}

static void ask_about(struct symbols *s, struct file *file, enum worker_kind kind, uint64_t now)
{
	begin_ask(s, kind);
	s->asked_number = file->node.key;
	s->ask.form = file->perf_map ? WORKER_PERF_MAP : WORKER_ELF;
	/* Stripped and unstripped files have one build id, and one unwind table, but not the same names. */
	s->ask.file = kind == WORKER_LEARN ? file->content
					   : symbols_mix(symbols_mix(file->content, file->size),
							 file->debug_fd >= 0 ? file->debug_size : 0);
	s->ask.size = file->size;
	s->ask.debug_size = file->debug_fd >= 0 ? file->debug_size : 0;
	if (file->build_id_given) {
		s->ask.build_id_length = file->build_id_length;
		memcpy(s->ask.build_id, file->build_id, sizeof s->ask.build_id);
	}
	if (s->ask.kind == WORKER_NAMES)
		frames_ask(s, file);
	file->asked = true;
	file->used = now;
	send_ask(s, file->fd, file->debug_fd, now);
}

/* Names are gathered as samples are, once it is known that they can be had at any time. */
static bool is_due(const struct file *file, uint64_t now)
{
	return kind_of(file) != WORKER_NAMES || now >= file->names_at || file->n_waiting >= WORKER_BATCH;
}

/* The first of the queue that is due: those before it that gather names hold up nobody. */
static struct file *next_due(struct symbols *s, uint64_t now)
{
	for (struct file **at = &s->queue; *at; at = &(*at)->next)
		if (is_due(*at, now))
			return file_queue_take(s, at);
	return NULL;
}

void worker_send_next(struct symbols *s, uint64_t now)
{
	struct file *file;

	if (s->deadline || s->worker < 0)
		return;
	if (samples_are_due(s, now) && !(s->queue && s->queue->wants_learn)) {
		begin_ask(s, WORKER_UNWIND);
		s->ask.count = samples_ask(s);
		if (s->ask.count)
			send_ask(s, -1, -1, now);
		return;
	}
	file = next_due(s, now);
	if (file) {
		ask_about(s, file, kind_of(file), now);
	} else if (s->inlines && now >= s->inlines_at) {
		ask_about(s, s->inlines, WORKER_INLINES, now);
	}
}
