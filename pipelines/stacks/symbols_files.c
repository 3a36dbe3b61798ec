/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files. A file is known from the moment a mapping of it is looked at, and opened by the reader thread when somebody needs what is in it:
 * by the process that maps it where that lives, else by its path, when the kernel told the build id that must be found there. `content`
 * names what was opened: a file that changes (a perf map grows) gets another, and the worker makes another table.
 */
#include "stacks/symbols_state.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct file *file_find(struct symbols *s, uint64_t number)
{
	return (struct file *)table_find(&s->files, number);
}

struct file *file_add(struct symbols *s, uint64_t number, const char *path)
{
	struct file *file = calloc(1, sizeof *file);

	if (!file)
		return NULL;
	file->path = strdup(path);
	if (!file->path) {
		free(file);
		return NULL;
	}
	file->node.key = file->content = number;
	file->node.bytes = (uint32_t)(sizeof *file + strlen(path) + 48);
	file->fd = file->debug_fd = -1;
	file->last = &file->first;
	maps_base_name(path, file->name, sizeof file->name);
	table_add(&s->files, &file->node);
	return file;
}

/* Memory that programs fill with code of their own making goes under these names, unless the kernel found a build id there. */
static bool is_made_code(const struct space_file *known)
{
	static const char *const prefixes[] = { "/memfd:", "/dev/zero", "/dev/shm/", "/SYSV", "/anon_hugepage" };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes) && !known->build_id_length; i++)
		if (!strncmp(known->path, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

static uint64_t jit_number(const struct symbols *s, int pid, uint64_t begin)
{
	return symbols_mix(symbols_mix(s->seed[0], (uint64_t)pid), begin) | (STACK_LAST + 1);
}

static bool maps_libjvm(struct symbols *s, const struct space *space)
{
	for (uint32_t i = 0; i < space->n_mappings; i++) {
		const struct space_file *file =
			space->mappings[i].file ? spaces_file(s->spaces, space->mappings[i].file) : NULL;
		const char *slash = file ? strrchr(file->path, '/') : NULL;

		if (slash && !strcmp(slash, "/libjvm.so"))
			return true;
	}
	return false;
}

/* The answer makes the map be opened anew. */
static void ask_jvm(struct symbols *s, struct file *file, uint64_t now)
{
	if (!s->jvm || !file->jvm_at || now < file->jvm_at)
		return;
	file->jvm_pause = MIN_OF(file->jvm_pause ? 2 * file->jvm_pause : JVM_NEW_NS, JVM_AGE_NS);
	file->jvm_at = now + file->jvm_pause;
	jvm_keeper_ask(s->jvm, file->seen.pid);
}

void file_take_jvm(struct symbols *s)
{
	int pid, result;

	while (jvm_keeper_answer(s->jvm, &pid, &result) == 0) {
		const struct space *space = spaces_find(s->spaces, pid, now_boottime_ns());
		struct file *file = space ? file_find(s, jit_number(s, pid, space->begin)) : NULL;

		if (!file)
			continue;
		if (result == 0)
			file->retry_at = file->refreshed = 0;
		else if (result == -ENODEV)
			file->jvm_at = now_boottime_ns() + JVM_NEW_NS;
		else
			file->jvm_at = 0;
	}
}

struct file *file_of_jit(struct symbols *s, const struct space *space)
{
	uint64_t number = jit_number(s, space->pid, space->begin);
	struct file *file = file_find(s, number);

	if (!file)
		file = file_add(s, number, "[jit]");
	if (!file)
		return NULL;
	if (!file->perf_map && s->jvm)
		file->jvm_at = maps_libjvm(s, space);
	file->perf_map = true;
	file->stage = STAGE_NAMES;
	file->seen.pid = space->pid;
	ask_jvm(s, file, now_boottime_ns());
	return file;
}

/* There is more to know of its frames than before. */
static void better_names(struct symbols *s, struct file *file)
{
	file->names_version++;
	s->generation++;
}

/* What the file holds now: what its build id says, or else what it looks like from outside. */
static void name_content(struct symbols *s, struct file *file, uint64_t size, uint64_t modified)
{
	uint64_t content = file->build_id_length ? s->seed[1] : symbols_mix(file->node.key, modified);

	for (unsigned i = 0; i < file->build_id_length; i++)
		content = symbols_mix(content, file->build_id[i]);
	if (!file->build_id_length)
		content = symbols_mix(content, size);
	content |= STACK_LAST + 1;
	if (content != file->content)
		better_names(s, file);
	file->content = content;
}

static struct file *file_known(struct symbols *s, const struct space_file *known)
{
	struct file *file = file_add(s, known->number, known->path);

	if (!file)
		return NULL;
	file->dev = known->dev;
	file->ino = known->ino;
	file->build_id_given = known->build_id_length > 0;
	file->build_id_length = known->build_id_length;
	memcpy(file->build_id, known->build_id, sizeof file->build_id);
	name_content(s, file, 0, 0);
	return file;
}

struct file *file_of_mapping(struct symbols *s, const struct space *space, const struct space_mapping *mapping)
{
	struct file *file = mapping->file ? file_find(s, mapping->file) : NULL;
	const struct space_file *known;

	if (!mapping->file)
		return !strcmp(mapping->name, "[vdso]") ? file_find(s, s->vdso)
		       : mapping->name[0] == '['        ? NULL
							: file_of_jit(s, space);
	if (!file) {
		known = spaces_file(s->spaces, mapping->file);
		if (!known)
			return NULL;
		if (is_made_code(known))
			return file_of_jit(s, space);
		file = file_known(s, known);
	}
	/* Another process's mapping may be one that can still be opened. */
	if (file && file->seen.pid != space->pid) {
		file->seen = (struct whereabouts){ .pid = space->pid, .start = mapping->start, .end = mapping->end };
		if (file->gone)
			file->retry_at = 0;
	}
	return file;
}

void file_close(struct symbols *s, struct file *file)
{
	if (file->fd < 0)
		return;
	close_fd(&file->fd);
	close_fd(&file->debug_fd);
	file->stage = STAGE_NEW;
	s->open_files--;
}

bool file_busy(const struct file *file)
{
	return file->queued || file->opening || file->asked || file->first || file->pinned || file->wants_learn ||
	       file->wants_inlines || file->stage == STAGE_WANTS_DEBUG;
}

void file_free(struct symbols *s, struct file *file)
{
	if (s->last_file == file)
		s->last_file = NULL;
	file_close(s, file);
	table_remove(&s->files, &file->node);
	free(file->path);
	free(file);
}

void file_open(struct symbols *s, struct file *file)
{
	struct reader_job *job;

	if (file->fd >= 0 || file->opening || now_boottime_ns() < file->retry_at)
		return;
	job = reader_new_job(s->reader, file->perf_map ? READER_PERF_MAP : READER_OPEN, file->path);
	if (!job)
		return;
	job->pid = file->seen.pid;
	job->number = file->node.key;
	job->mapping = (struct mapping){
		.start = file->seen.start, .end = file->seen.end, .dev = file->dev, .ino = file->ino
	};
	file->opening = symbols_submit(s, s->reader, job);
}

void file_refresh(struct symbols *s, struct file *file, uint64_t now)
{
	struct stat st;

	if (!file->perf_map || file->fd < 0 || now < file->refreshed + NS_PER_SEC || fstat(file->fd, &st) < 0)
		return;
	file->refreshed = now;
	file->size = (uint64_t)st.st_size;
	name_content(s, file, file->size, (uint64_t)st.st_mtim.tv_sec * NS_PER_SEC + (uint64_t)st.st_mtim.tv_nsec);
}

/* It cannot be opened now. Samples that need its table go on without one, and frames get their names from what is known. */
static void lose_file(struct symbols *s, struct file *file, uint64_t now)
{
	file->gone = true;
	file->retry_at = now + (file->perf_map ? NS_PER_SEC : REOPEN_NS);
	frames_drop_waiting(s, file);
	file_queue(s, file);
}

void file_take_job(struct symbols *s, struct reader_job *job)
{
	struct file *file = file_find(s, job->number);
	uint64_t now = now_boottime_ns();

	if (!file)
		return;
	file->opening = false;
	if (job->status < 0) {
		lose_file(s, file, now);
		return;
	}
	if (file->fd < 0) {
		file->fd = job->fd;
		job->fd = -1;
		s->open_files++;
	}
	file->gone = false;
	file->used = file->refreshed = now;
	file->size = job->identity.size;
	name_content(s, file, file->size, job->identity.modified_ns);
	file_queue(s, file);
	symbols_wake_at(s, now + SWEEP_NS);
}

/* Those that samples wait for come first. */
void file_queue(struct symbols *s, struct file *file)
{
	bool can_learn = file->wants_learn && (file->fd >= 0 || file->gone);
	bool can_name = file->first && file->fd >= 0 && file->stage != STAGE_WANTS_DEBUG;

	if (file->queued || file->asked || !(can_learn || can_name))
		return;
	file->queued = true;
	if (can_learn || !file->answered) {
		file->next = s->queue;
		s->queue = file;
		if (!file->next)
			s->queue_last = &file->next;
	} else {
		file->next = NULL;
		*s->queue_last = file;
		s->queue_last = &file->next;
	}
}

struct file *file_queue_take(struct symbols *s, struct file **at)
{
	struct file *file = *at;

	*at = file->next;
	if (!*at)
		s->queue_last = at;
	file->queued = false;
	return file;
}

/* ---- what else there is to know of its frames ---- */

/* Small files first: they are done soon, and are more often the programs that somebody looks at. */
static void queue_inlines(struct symbols *s, struct file *file)
{
	if (file->wants_inlines)
		return;
	struct file **at = &s->inlines;

	/* The first one may be half read already: only something much smaller takes its place, and it is read anew after that. */
	if (*at && (*at)->size + (*at)->debug_size <= INLINES_MUCH * (file->size + file->debug_size))
		at = &(*at)->next_inlines;
	while (*at && (*at)->size + (*at)->debug_size <= file->size + file->debug_size)
		at = &(*at)->next_inlines;
	file->wants_inlines = true;
	file->next_inlines = *at;
	*at = file;
}

void file_inlines_done(struct symbols *s, bool found)
{
	struct file *file = s->inlines;

	s->inlines = file->next_inlines;
	file->wants_inlines = false;
	if (found)
		better_names(s, file);
}

void file_take_description(struct symbols *s, struct file *file)
{
	const struct worker_answer *a = &s->answer;
	struct reader_job *job = NULL;

	if (!file->build_id_length && a->build_id_length) {
		file->build_id_length = (uint8_t)a->build_id_length;
		memcpy(file->build_id, a->build_id, sizeof file->build_id);
		name_content(s, file, 0, 0);
	}
	file->stage = STAGE_NAMES;
	if (a->stripped && a->build_id_length && !file->pinned)
		job = reader_new_job(s->reader, READER_DEBUG, file->path);
	if (!job) {
		queue_inlines(s, file);
		return;
	}
	job->pid = file->seen.pid;
	job->number = file->node.key;
	job->build_id_length = (uint8_t)a->build_id_length;
	memcpy(job->build_id, a->build_id, sizeof job->build_id);
	memcpy(job->link, a->debug_link, sizeof job->link);
	symbols_submit(s, s->reader, job);
	file->stage = STAGE_WANTS_DEBUG;
}

/* The last place that is asked. What comes later is taken by files_take_fetched(): the file goes on without it. */
static bool take_fetched(struct symbols *s, struct file *file)
{
	int r = -ENOENT;

	if (s->debuginfod)
		r = debuginfod_get(s->debuginfod, file->build_id, file->build_id_length, &file->debug_fd,
				   &file->debug_size);
	file->wants_fetched = r == -EAGAIN || r == -EBUSY;
	return r == 0;
}

/* A file that is with the worker has to wait for its answer, which is about the file without it. */
void files_take_fetched(struct symbols *s)
{
	if (!s->fetched)
		return;
	s->fetched = false;
	for (struct node *n = s->files.oldest; n; n = n->newer) {
		struct file *file = (struct file *)n;

		if (!file->wants_fetched)
			continue;
		if (file->asked) {
			s->fetched = true;
			continue;
		}
		if (file->stage != STAGE_NAMES || file->fd < 0)
			file->wants_fetched = false; /* it is asked for when the file is opened again */
		else if (take_fetched(s, file)) {
			file->was_fetched = true;
			better_names(s, file);
			queue_inlines(s, file);
			file_queue(s, file);
		}
	}
}

void file_take_debug(struct symbols *s, struct reader_job *job)
{
	struct file *file = file_find(s, job->number);

	if (!file || file->stage != STAGE_WANTS_DEBUG)
		return;
	file->stage = STAGE_NAMES;
	if (job->status == 0) {
		file->debug_fd = job->fd;
		file->debug_size = job->identity.size;
		job->fd = -1;
	} else if (take_fetched(s, file) && !file->was_fetched) {
		/* Another file of this build had it asked for. */
		file->was_fetched = true;
		better_names(s, file);
	}
	queue_inlines(s, file);
	file_queue(s, file);
}
