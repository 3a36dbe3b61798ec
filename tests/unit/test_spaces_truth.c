/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address spaces against a made-up world: processes fork, exec, map and exit; their events are told late, and runs of events are lost;
 * /proc is read when a question asks for it, and what it said is given late, too. Whatever order that makes, no sample may be answered with a mapping of
 * a program that its process was not at that time, and most samples must be answered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "stacks/spaces.h"

#define PIDS    10
#define PAGES   16
#define EVENTS  1024 /* on their way, at most */
#define SAMPLES 64
#define READS   16
#define STEPS   20000

/* A program maps the page `p` from an inode of its own, whenever it does: a wrong answer is a wrong inode. */
struct process {
	bool lives;
	unsigned program;
	bool mapped[PAGES];
};

enum kind { MAP, EXEC, FORK, EXIT };

struct event {
	enum kind kind;
	int pid, parent;
	uint64_t time;
	unsigned page, program;
};

struct sample {
	int pid;
	uint64_t time;
	unsigned program, page;
};

/* A reading of /proc on its way. */
struct reading {
	int pid;
	uint64_t time;
	unsigned count, program;
	unsigned pages[PAGES];
};

struct world {
	struct spaces *spaces;
	uint64_t now, told; /* told: time of the last event that was */
	unsigned programs, n_events, n_samples, n_reads;
	struct process processes[PIDS + 1];
	struct event events[EVENTS];
	struct sample samples[SAMPLES];
	struct reading reads[READS];
	unsigned answered, empty, unknown, lost;
	bool losing;
};

static uint64_t random_state;

static unsigned pick(unsigned below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state >> 33) % below;
}

static uint64_t inode_of(unsigned program, unsigned page)
{
	return (uint64_t)program * PAGES + page + 1;
}

/* ---- the world goes on ---- */

static void emit(struct world *w, struct event event)
{
	event.time = w->now;
	assert_true(w->n_events < EVENTS);
	w->events[w->n_events++] = event;
}

static void map_page(struct world *w, int pid)
{
	struct process *p = &w->processes[pid];
	unsigned page = pick(PAGES);

	p->mapped[page] = true;
	emit(w, (struct event){ .kind = MAP, .pid = pid, .page = page, .program = p->program });
}

static void live(struct world *w)
{
	int pid = 1 + (int)pick(PIDS), child = 1 + (int)pick(PIDS);
	struct process *p = &w->processes[pid];
	unsigned what = pick(20);

	if (!p->lives)
		return;
	if (what < 2) {
		*p = (struct process){ .lives = true, .program = ++w->programs };
		emit(w, (struct event){ .kind = EXEC, .pid = pid });
	} else if (what < 7 && !w->processes[child].lives) {
		w->processes[child] = *p;
		emit(w, (struct event){ .kind = FORK, .pid = child, .parent = pid });
	} else if (what < 8 && pid > 2) { /* two last for good */
		p->lives = false;
		emit(w, (struct event){ .kind = EXIT, .pid = pid });
	} else {
		map_page(w, pid);
	}
}

static void take_sample(struct world *w)
{
	int pid = 1 + (int)pick(PIDS);
	const struct process *p = &w->processes[pid];
	unsigned page = pick(PAGES);

	if (p->lives && p->mapped[page] && w->n_samples < SAMPLES)
		w->samples[w->n_samples++] = (struct sample){ pid, w->now, p->program, page };
}

/* ---- what is told of it ---- */

static void tell(struct world *w, const struct event *e)
{
	struct space_map_event map = { .pid = e->pid,
				       .time = e->time,
				       .start = (uint64_t)e->page << 12,
				       .end = ((uint64_t)e->page + 1) << 12,
				       .dev = 1,
				       .ino = inode_of(e->program, e->page),
				       .path = "/f" };

	if (e->kind == MAP)
		spaces_map(w->spaces, &map);
	else if (e->kind == EXEC)
		spaces_exec(w->spaces, e->pid, e->time);
	else if (e->kind == FORK)
		spaces_fork(w->spaces, e->parent, e->pid, e->time);
	else
		spaces_exit(w->spaces, e->pid, e->time);
	w->told = e->time;
}

static void drop_events(struct world *w, unsigned count)
{
	w->n_events -= count;
	memmove(w->events, w->events + count, w->n_events * sizeof *w->events);
}

/* All that is on its way, but for a run of it when `losing`. */
static void tell_events(struct world *w, bool losing)
{
	unsigned first = losing ? pick(w->n_events + 1) : w->n_events;
	unsigned last = losing ? first + pick(w->n_events - first + 1) : first;

	for (unsigned i = 0; i < w->n_events; i++) {
		if (i >= first && i < last)
			continue;
		/* As the kernel does: the loss is told in front of the record that fits again. */
		if (i == last && first < last)
			spaces_lost(w->spaces, w->told, w->events[i].time - 1);
		tell(w, &w->events[i]);
	}
	if (first < last && last == w->n_events)
		spaces_lost(w->spaces, w->told, w->now);
	w->lost += last - first;
	drop_events(w, w->n_events);
	w->told = w->now;
}

static void read_proc(struct world *w, int pid)
{
	const struct process *p = &w->processes[pid];
	struct reading *r = &w->reads[w->n_reads];

	if (w->n_reads == READS)
		return;
	w->n_reads++;
	/* With losses it has its time at once: an exec while it is being read could be lost. */
	*r = (struct reading){ .pid = pid, .program = p->program, .time = w->losing ? w->now : 0 };
	for (unsigned i = 0; p->lives && i < PAGES; i++)
		if (p->mapped[i])
			r->pages[r->count++] = i;
}

/* Its time is later than its reading, and it is given later still. */
static void give_one(struct world *w)
{
	struct mapping mappings[PAGES];
	struct maps maps = { .mappings = mappings, .text = (char *)"/f" };
	unsigned i = pick(READS);
	struct reading *r = &w->reads[i];

	if (i >= w->n_reads)
		return;
	if (!r->time) {
		r->time = w->now;
		return;
	}
	for (; maps.count < r->count; maps.count++) {
		unsigned page = r->pages[maps.count];

		mappings[maps.count] = (struct mapping){ .start = (uint64_t)page << 12,
							 .end = ((uint64_t)page + 1) << 12,
							 .dev = 1,
							 .ino = inode_of(r->program, page) };
	}
	/* As the header asks for. */
	tell_events(w, w->losing && pick(20) == 0);
	spaces_give(w->spaces, r->pid, r->time, &maps);
	w->reads[i] = w->reads[--w->n_reads];
}

/* ---- what is asked ---- */

/* Only what was told up to the sample's time can answer it: the drain comes first. */
static void ask(struct world *w, unsigned i)
{
	struct sample *s = &w->samples[i];
	const struct space *space;
	bool found = false;

	if (s->time > w->told)
		return;
	space = spaces_find(w->spaces, s->pid, s->time);
	for (uint32_t j = 0; space && j < space->n_mappings; j++) {
		const struct space_mapping *m = &space->mappings[j];
		uint64_t inode = spaces_file(w->spaces, m->file)->ino;

		assert_int_equal(m->offset, 0);
		assert_int_equal((inode - 1) / PAGES, s->program);
		assert_int_equal((inode - 1) % PAGES, m->start >> 12);
		found |= m->start >> 12 == s->page;
	}
	if (found)
		w->answered++;
	else if (!space || !space->known)
		w->unknown++;
	else
		w->empty++;
	if (!space || !space->known)
		read_proc(w, space ? space->source : s->pid);
	/* Some are asked for again. */
	if (found || pick(4) == 0)
		*s = w->samples[--w->n_samples];
}

static void run_world(struct world *w, unsigned seed, unsigned losses_in_1000)
{
	struct spaces_options options = { .bytes = 1 << 20, .grace_ns = 1000 };

	random_state = seed * 0x9e3779b97f4a7c15ull;
	w->n_events = w->n_samples = w->n_reads = 0;
	w->losing = losses_in_1000 != 0;
	w->now = w->told = 1000;
	assert_int_equal(spaces_open(&w->spaces, &options), 0);
	/* Half of them are older than the agent. */
	for (int pid = 1; pid <= PIDS; pid++)
		w->processes[pid] = (struct process){ .lives = pid <= PIDS / 2, .program = ++w->programs };
	for (int i = 0; i < 40; i++)
		map_page(w, 1 + (int)pick(PIDS / 2));
	drop_events(w, w->n_events);
	for (unsigned step = 0; step < STEPS; step++) {
		w->now++;
		live(w);
		if (pick(3) == 0)
			take_sample(w);
		if (pick(20) == 0)
			tell_events(w, pick(1000) < losses_in_1000);
		if (pick(10) == 0)
			give_one(w);
		if (pick(5) == 0 && w->n_samples)
			ask(w, pick(w->n_samples));
		if (pick(100) == 0)
			spaces_sweep(w->spaces, w->now);
	}
	spaces_close(w->spaces);
}

static void test_never_wrong_when_told_late(void **state)
{
	static struct world w;

	for (unsigned seed = 1; seed <= 30; seed++)
		run_world(&w, seed, 0);
	print_message("%u answered, %u not yet known, %u without an answer\n", w.answered, w.unknown, w.empty);
	assert_true(w.answered > 20 * (w.unknown + w.empty) / 10);
}

static void test_never_wrong_when_events_are_lost(void **state)
{
	static struct world w;

	for (unsigned seed = 1; seed <= 30; seed++)
		run_world(&w, seed, 50);
	print_message("%u lost; %u answered, %u not yet known, %u without an answer\n", w.lost, w.answered, w.unknown,
		      w.empty);
	assert_true(w.lost > 1000);
	assert_true(w.answered > w.unknown + w.empty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never_wrong_when_told_late),
		cmocka_unit_test(test_never_wrong_when_events_are_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
