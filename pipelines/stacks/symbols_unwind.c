/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples on their way: into the arena, perhaps waiting for their process's mappings, to the worker in batches, perhaps waiting for the
 * table of a file, and home as places. A sample that waits too long goes out with what is known of it; none is dropped.
 */
#include "stacks/symbols_state.h"

#include <errno.h>
#include <string.h>

/* ---- lists ---- */

static void list_put(struct sample_list *list, struct sample *sample)
{
	sample->next = NULL;
	if (list->last)
		list->last->next = sample;
	else
		list->first = sample;
	list->last = sample;
	list->count++;
}

static struct sample *list_take(struct sample_list *list)
{
	struct sample *sample = list->first;

	if (!sample)
		return NULL;
	list->first = sample->next;
	if (!list->first)
		list->last = NULL;
	list->count--;
	return sample;
}

/* By `when` at the latest it is asked about. */
static void make_ready(struct symbols *s, struct sample *sample, uint64_t when)
{
	s->ready_at = s->ready.count ? MIN_OF(s->ready_at, when) : when;
	list_put(&s->ready, sample);
	if (!when)
		symbols_wake_at(s, 1);
}

/* Those of the list that `wanted` wants have waited enough. */
static void release(struct symbols *s, struct sample_list *list,
		    bool (*wanted)(const struct sample *sample, uint64_t what), uint64_t what)
{
	struct sample_list all = *list;
	struct sample *sample;

	*list = (struct sample_list){ 0 };
	while ((sample = list_take(&all)))
		if (wanted(sample, what))
			make_ready(s, sample, 0);
		else
			list_put(list, sample);
}

static bool is_of_source(const struct sample *sample, uint64_t pid)
{
	return sample->source == (int)pid;
}

static bool is_missing(const struct sample *sample, uint64_t file)
{
	return sample->missing == file;
}

static bool is_late(const struct sample *sample, uint64_t now)
{
	return now >= sample->deadline;
}

unsigned samples_count(const struct symbols *s)
{
	return s->ready.count + s->with_worker.count + s->unmapped.count + s->missing.count;
}

/* ---- places ---- */

static const struct space_mapping *mapping_find(const struct space *space, uint64_t address)
{
	uint32_t low = 0, high = space ? space->n_mappings : 0;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (space->mappings[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low && address < space->mappings[low - 1].end ? &space->mappings[low - 1] : NULL;
}

/* The mapping that the last frame was in, and its file: those of one stack share few. */
struct last_place {
	const struct space_mapping *mapping;
	struct file *file;
};

static bool is_uprobes(const struct space_mapping *mapping)
{
	return !mapping->file && !strcmp(mapping->name, "[uprobes]");
}

static struct stack_frame place_of(struct symbols *s, const struct space *space, uint64_t frame,
				   struct last_place *last)
{
	uint64_t exact = frame & UNWIND_EXACT, address = frame & ~UNWIND_EXACT, byte = address - (!exact && address);
	const struct space_mapping *m = last->mapping;

	/* The kernel's own page in every program lies where the mark is. */
	if (frame >= 0xffffffffff600000ull)
		return (struct stack_frame){ STACK_ANONYMOUS, frame };
	if (!m || byte < m->start || byte >= m->end) {
		m = mapping_find(space, byte);
		if (!m)
			return (struct stack_frame){ STACK_BARE, frame };
		*last = (struct last_place){ m, file_of_mapping(s, space, m) };
	}
	if (!last->file)
		return (struct stack_frame){ is_uprobes(last->mapping) ? STACK_UPROBES : STACK_ANONYMOUS, frame };
	if (last->file->perf_map)
		return (struct stack_frame){ last->file->node.key, frame };
	return (struct stack_frame){ last->file->node.key, (address - m->start + m->offset) | exact };
}

static void end_sample(struct symbols *s, struct sample *sample, const struct stack_frames *frames)
{
	arena_give(&s->arena, sample->block, sample->bytes);
	s->unwound++;
	sample->done(sample->context, frames);
	free(sample);
}

/* With what the worker found, or (`result` NULL) with the leaf alone. */
static void finish(struct symbols *s, struct sample *sample, const struct unwind_result *result)
{
	const struct space *space = spaces_find(s->spaces, sample->pid, sample->time);
	const struct sonde_stack *stack = arena_at(&s->arena, sample->block);
	uint64_t leaf = stack->registers[SONDE_REGISTER_PC] | UNWIND_EXACT;
	const uint64_t *from = result && result->n_frames ? result->frames : &leaf;
	unsigned count = result && result->n_frames ? result->n_frames : 1;
	struct stack_frames frames = { .frames = s->places, .count = count };
	struct last_place last = { 0 };

	for (unsigned i = 0; i < count; i++)
		s->places[i] = place_of(s, space, from[i], &last);
	frames.truncated = !result || result->end != UNWIND_WHOLE;
	if (result && result->end == UNWIND_CUT)
		s->cut++;
	else if (frames.truncated)
		s->broken++;
	if (stack->flags & SONDE_STACK_COMPAT && count < UNWIND_FRAMES_MAX)
		s->places[frames.count++] = (struct stack_frame){ STACK_COMPAT, 0 };
	end_sample(s, sample, &frames);
}

/* ---- out ---- */

/* A question costs two wake-ups, so samples are gathered; but a space not seen before may need files that will soon be gone. */
static uint64_t when_due(struct symbols *s, const struct space *space, uint64_t now)
{
	uint64_t *known = &s->spaces_known[space->number & (SPACES_KNOWN - 1)];
	bool seen = *known == space->number;

	*known = space->number;
	return seen ? now + BATCH_NS : 0;
}

/* Large stacks fill the arena long before the time is up; what finds it full is lost. */
static bool is_arena_tight(const struct symbols *s)
{
	return s->arena.n_used > s->arena.n_blocks / ARENA_TIGHT;
}

bool samples_are_due(const struct symbols *s, uint64_t now)
{
	return s->ready.count >= ARENA_SAMPLES || (s->ready.count && (now >= s->ready_at || is_arena_tight(s)));
}

static uint32_t put_mappings(struct symbols *s, const struct space *space, uint32_t first)
{
	struct unwind_mapping *to = s->arena.head->mappings + first;
	uint32_t n = MIN_OF(space->n_mappings, ARENA_MAPPINGS - first);

	for (uint32_t i = 0; i < n; i++) {
		const struct space_mapping *m = &space->mappings[i];
		struct file *file = file_of_mapping(s, space, m);

		to[i] = (struct unwind_mapping){ m->start, m->end, m->offset,
						 file && !file->perf_map ? file->content : 0 };
	}
	return n;
}

/* The mappings of the sample's process, once for all its samples of this batch. False: there is no room for them now. */
static bool place_mappings(struct symbols *s, struct sample *sample, unsigned i, uint32_t *used, uint64_t *numbers)
{
	struct arena_sample *samples = s->arena.head->samples;
	const struct space *space = spaces_find(s->spaces, sample->pid, sample->time);

	numbers[i] = space ? space->number : 0;
	samples[i] = (struct arena_sample){ .block = sample->block };
	if (!space)
		return true;
	for (unsigned k = 0; k < i; k++) {
		if (numbers[k] != numbers[i])
			continue;
		samples[i].first = samples[k].first;
		samples[i].n_mappings = samples[k].n_mappings;
		return true;
	}
	if (i && space->n_mappings > ARENA_MAPPINGS - *used)
		return false;
	samples[i].first = *used;
	samples[i].n_mappings = put_mappings(s, space, *used);
	*used += samples[i].n_mappings;
	return true;
}

unsigned samples_ask(struct symbols *s)
{
	uint64_t numbers[ARENA_SAMPLES];
	uint32_t used = 0;
	unsigned n = 0;

	while (n < ARENA_SAMPLES && s->ready.first && place_mappings(s, s->ready.first, n, &used, numbers)) {
		list_put(&s->with_worker, list_take(&s->ready));
		n++;
	}
	return n;
}

/* ---- home ---- */

/* A copy that the worker cannot change any more. */
static const struct unwind_result *copy_result(struct symbols *s, unsigned i)
{
	const struct unwind_result *from = &s->arena.head->results[i];

	s->result.end = __atomic_load_n(&from->end, __ATOMIC_RELAXED);
	s->result.missing = __atomic_load_n(&from->missing, __ATOMIC_RELAXED);
	s->result.n_frames = MIN_OF(__atomic_load_n(&from->n_frames, __ATOMIC_RELAXED), UNWIND_FRAMES_MAX);
	memcpy(s->result.frames, from->frames, s->result.n_frames * sizeof s->result.frames[0]);
	return &s->result;
}

static struct file *find_content(struct symbols *s, const struct sample *sample, uint64_t content)
{
	const struct space *space = spaces_find(s->spaces, sample->pid, sample->time);

	for (uint32_t i = 0; space && i < space->n_mappings; i++) {
		struct file *file = space->mappings[i].file || space->mappings[i].name[0] == '['
					    ? file_of_mapping(s, space, &space->mappings[i])
					    : NULL;

		if (file && file->content == content)
			return file;
	}
	return NULL;
}

/* The sample waits for the table of `file`. */
static void wait_for(struct symbols *s, struct sample *sample, struct file *file)
{
	sample->missing = file->node.key;
	list_put(&s->missing, sample);
	file->wants_learn = true;
	file_open(s, file);
	file_queue(s, file);
}

static void take_result(struct symbols *s, struct sample *sample, const struct unwind_result *result)
{
	struct file *file = NULL;
	bool misses = result->end == UNWIND_MISSING && now_boottime_ns() < sample->deadline;

	if (misses)
		file = find_content(s, sample, result->missing);
	if (file)
		wait_for(s, sample, file);
	else if (misses && sample->renamed++ < RENAMED_MAX)
		make_ready(s, sample, 0);
	else
		finish(s, sample, result);
}

void samples_take_answer(struct symbols *s)
{
	struct sample_list with_worker = s->with_worker;
	struct sample *sample;
	unsigned i = 0;

	s->with_worker = (struct sample_list){ 0 };
	while ((sample = list_take(&with_worker))) {
		if (i < s->answer.samples)
			take_result(s, sample, copy_result(s, i));
		else
			make_ready(s, sample, 0);
		i++;
	}
}

void samples_fail_asked(struct symbols *s)
{
	struct sample_list with_worker = s->with_worker;
	struct sample *sample;

	s->with_worker = (struct sample_list){ 0 };
	while ((sample = list_take(&with_worker))) {
		if (++sample->strikes < STRIKES_MAX) {
			make_ready(s, sample, 0);
			continue;
		}
		s->lost++;
		finish(s, sample, NULL);
	}
}

void samples_learned(struct symbols *s, uint64_t file)
{
	release(s, &s->missing, is_missing, file);
}

void samples_take_maps(struct symbols *s, struct reader_job *job)
{
	symbols_take_events(s); /* what came while they were read wins */
	spaces_give(s->spaces, job->pid, job->time, &job->maps);
	release(s, &s->unmapped, is_of_source, (uint64_t)job->pid);
}

/* Once more, and then with what there is. */
void samples_expire(struct symbols *s, uint64_t now)
{
	release(s, &s->missing, is_late, now);
	release(s, &s->unmapped, is_late, now);
}

void symbols_finish(struct symbols *s)
{
	struct sample_list *const lists[] = { &s->ready, &s->with_worker, &s->unmapped, &s->missing };
	struct sample *sample;

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		while ((sample = list_take(lists[i])))
			finish(s, sample, NULL);
}

/* ---- in ---- */

static bool is_sound(const struct sonde_stack *stack, size_t bytes)
{
	return bytes >= sizeof *stack && stack->n_kernel <= SONDE_STACK_KERNEL_MAX &&
	       stack->n_slice <= SONDE_STACK_SLICE_MAX + SONDE_STACK_RED_ZONE &&
	       SONDE_STACK_BYTES(stack->n_kernel, stack->n_slice) <= bytes;
}

static bool is_read_for(const struct symbols *s, int source)
{
	for (const struct sample *other = s->unmapped.first; other; other = other->next)
		if (other->source == source)
			return true;
	return false;
}

/* Its process is older than the agent: the mappings of `source`, itself or the one that it was forked from, are read once for all samples
 * that wait for them. */
static void read_maps(struct symbols *s, struct sample *sample, int source)
{
	struct reader_job *job = is_read_for(s, source) ? NULL : reader_new_job(s->reader, READER_MAPS, NULL);

	sample->source = source;
	if (!job && !is_read_for(s, source)) {
		make_ready(s, sample, 0);
		return;
	}
	list_put(&s->unmapped, sample);
	if (!job)
		return;
	job->pid = source;
	symbols_submit(s, s->reader, job);
}

/* No room to keep it until the worker has looked at it. */
static void finish_at_once(struct symbols *s, int pid, uint64_t time, const struct sonde_stack *stack,
			   void (*done)(void *context, const struct stack_frames *frames), void *context)
{
	struct last_place last = { 0 };
	struct stack_frame leaf = place_of(s, spaces_find(s->spaces, pid, time),
					   stack->registers[SONDE_REGISTER_PC] | UNWIND_EXACT, &last);
	struct stack_frames frames = { .frames = &leaf, .count = 1, .truncated = true };

	s->unwound++;
	s->lost++;
	done(context, &frames);
}

static struct sample *sample_add(struct symbols *s, const struct sonde_stack *stack)
{
	size_t bytes = sizeof *stack + stack->n_slice;
	struct sample *sample = samples_count(s) < SAMPLES_MAX ? calloc(1, sizeof *sample) : NULL;
	struct sonde_stack *copy;

	if (!sample)
		return NULL;
	sample->bytes = bytes;
	sample->block = arena_take(&s->arena, bytes);
	if (sample->block == ARENA_NONE) {
		free(sample);
		return NULL;
	}
	copy = arena_at(&s->arena, sample->block);
	*copy = *stack;
	copy->n_kernel = 0;
	memcpy(copy + 1, (const __u64 *)(stack + 1) + stack->n_kernel, stack->n_slice);
	return sample;
}

int symbols_unwind(struct symbols *s, int pid, uint64_t time, const struct sonde_stack *stack, size_t bytes,
		   void (*done)(void *context, const struct stack_frames *frames), void *context)
{
	const struct space *space;
	struct sample *sample;

	if (!is_sound(stack, bytes))
		return -EBADMSG;
	if (time >= s->drained_at) /* its mappings may have come after the last look */
		symbols_take_events(s);
	if (!(stack->flags & SONDE_STACK_USER)) {
		done(context, &(struct stack_frames){ 0 });
		return 0;
	}
	sample = s->control >= 0 ? sample_add(s, stack) : NULL;
	if (!sample) {
		finish_at_once(s, pid, time, stack, done, context);
		return 0;
	}
	sample->pid = pid;
	sample->time = time;
	sample->deadline = now_boottime_ns() + SAMPLE_PATIENCE;
	sample->done = done;
	sample->context = context;
	space = spaces_find(s->spaces, pid, time);
	if (space && space->known)
		make_ready(s, sample, when_due(s, space, now_boottime_ns()));
	else
		read_maps(s, sample, space ? space->source : pid);
	if (is_arena_tight(s))
		worker_send_next(s, now_boottime_ns());
	return 0;
}
