/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files behind symbols.h share.
 *
 *	symbols.c          opening, closing, the loop's part, bounds
 *	symbols_files.c    files: number -> name, build id, a descriptor while it is in use; opened by the reader thread
 *	symbols_worker.c   the one question that is with the worker, and its answer
 *	symbols_frames.c   frames: file and offset -> the finished text
 *	symbols_unwind.c   samples on their way to the worker and back
 *
 * A sample waits for its process's mappings (only when older than the agent), then for tables that the worker lacks, each of which is a file
 * to be opened and learned, and then becomes a list of places: file and offset. A place becomes a text once the file's functions were asked for.
 *
 * Invariants: a waiting frame is never evicted and belongs to a file that is not evicted; `asked` holds waiting frames of one file; file
 * numbers are keyed hashes, so a hostile program cannot make its file look like another's; each sample is in exactly one of the lists of
 * struct symbols.
 */
#ifndef SONDE_SYMBOLS_STATE_H
#define SONDE_SYMBOLS_STATE_H

#include "stacks/arena.h"
#include "stacks/debuginfod.h"
#include "stacks/jvm.h"
#include "stacks/kernel.h"
#include "stacks/perf_events.h"
#include "stacks/reader.h"
#include "stacks/spaces.h"
#include "stacks/symbols.h"
#include "stacks/table.h"
#include "stacks/worker.h"

#define FILES_MAX         4096u
#define OPEN_FILES_MAX    64u
#define WAITING_MAX       16384u
#define SAMPLES_MAX       16384u
#define ASK_DEADLINE_NS   (3 * NS_PER_SEC)
#define BATCH_NS          (500 * NS_PER_MS) /* samples of known spaces are gathered as long */
#define ARENA_TIGHT       4u                /* that part of the arena may be in use before samples go at once */
#define SPACES_KNOWN      512u              /* a power of two */
#define INLINES_SHARE     16u /* reading inlined functions takes at most one part in so many of the worker's time */
#define NAMES_BATCH_NS    (500 * NS_PER_MS) /* names are wanted at the end of a window */
#define INLINES_MUCH      16u
#define SAMPLE_PATIENCE   (7 * NS_PER_SEC) /* a sample goes out with what it has */
#define SPAWN_PAUSE_NS    (100 * NS_PER_MS)
#define SWEEP_NS          (5 * NS_PER_SEC)
#define KERNEL_REREAD_NS  (60 * NS_PER_SEC)
#define REOPEN_NS         (10 * NS_PER_SEC)
#define JVM_NEW_NS        (3 * NS_PER_SEC) /* a JVM that is still starting is asked again */
#define JVM_AGE_NS        (60 * NS_PER_SEC) /* and its map is of that moment: so is one that answered, more and more seldom */
#define MAP_GROWS_NS      (1500 * NS_PER_MS) /* so long after code is compiled its name may come */
#define STRIKES_MAX       2u
#define RENAMED_MAX       8u
#define NAME_SIZE         80u
#define SCRATCH_SIZE      6144u
#define CACHE_BYTES_LEAST (1u << 20)
#define SPACES_PART       4u /* of the cache's bytes are for spaces */
#define GRACE_NS          (60 * NS_PER_SEC)

enum frame_state { FRAME_WAITING, FRAME_KNOWN, FRAME_UNKNOWN };

struct frame {
	struct node node;
	uint64_t file, at, id;
	uint64_t until;     /* a name may still come by then */
	struct frame *next; /* waiting for the same file */
	uint32_t version;   /* the file's names_version that it was asked at */
	uint16_t length;
	uint8_t state;
	bool touched; /* used since it was last thought of being given up */
	char text[];
};

/* How far a file is on its way to names. */
enum file_stage {
	STAGE_NEW,         /* the worker shall look at what it is */
	STAGE_WANTS_DEBUG, /* its debug file is looked for */
	STAGE_NAMES,       /* functions can be asked for */
};

/* Where a file was last seen: how to open it. */
struct whereabouts {
	int pid;
	uint64_t start, end;
};

struct file {
	struct node node; /* key: its number */
	struct whereabouts seen;
	uint64_t content; /* what the worker knows it by */
	uint64_t dev, ino, size, used, refreshed;
	struct frame *first, **last; /* that wait */
	unsigned n_waiting;
	struct file *next; /* in the queue */
	char *path;
	int fd, debug_fd;
	uint64_t debug_size;
	enum file_stage stage;
	bool wants_fetched;        /* debuginfod is asked for its debug file, which nobody waits for */
	bool was_fetched;          /* its frames were named with that since it became known */
	struct file *next_inlines; /* in the queue of those whose inlined functions are to be read */
	bool wants_inlines;
	uint32_t names_version; /* grows when there is more to know of its frames than before */
	unsigned strikes;       /* workers it was with when they died */
	uint64_t jvm_pause;
	uint64_t jvm_at; /* of a perf map: when its JVM may be asked for it (again); 0: it is none */
	bool perf_map;   /* names of code that a process made itself, by address */
	bool queued, opening, asked, pinned;
	bool touched;
	bool answered;     /* its names came before: the next ones can wait a little */
	uint64_t names_at; /* its frames that wait are asked for by then, or when they fill a question */
	bool unreadable;   /* it has no names for us */
	bool wants_learn;  /* samples wait for its unwind table */
	bool gone;         /* it could not be opened: there is no table, and the worker is told so */
	uint64_t retry_at; /* when opening it again may help */
	uint8_t build_id_length;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	bool build_id_given; /* by the kernel, so that what was opened by its path must have it */
	char name[NAME_SIZE];
};

/* A sample on its way. Its stack lies in the arena. */
struct sample {
	struct sample *next;
	void (*done)(void *context, const struct stack_frames *frames);
	void *context;
	int pid, source; /* whose mappings it waits for */
	unsigned strikes;
	uint64_t time, deadline;
	uint32_t block;
	size_t bytes;
	uint64_t missing; /* number of the file whose table it waits for */
	unsigned
		renamed; /* times that a file became another content, being opened, while the sample was with the worker */
};

struct sample_list {
	struct sample *first, *last;
	unsigned count;
};

struct symbols {
	uint64_t cache_bytes, seed[2];
	int epoll, timer, control, worker, keeper_pid, worker_pid, kallsyms;
	uint64_t timer_at, spawn_at, sweep_at, kernel_at, drained_at;
	struct reader *reader;
	struct reader *slow_reader; /* for the kernel's symbols: 100 000 lines shall hold up no file */
	struct perf_events *events;
	struct spaces *spaces;
	struct jvm_keeper *jvm;        /* NULL: JVMs are not asked */
	struct debuginfod *debuginfod; /* NULL: it is not asked */
	bool fetched;                  /* it answered: files that wait for it may go on */
	struct arena arena;
	unsigned jobs, waiting, open_files;
	struct kernel_table *kernel;
	bool kernel_reading, kernel_read;
	struct table files, frames;
	struct file *inlines;             /* files whose inlined functions are to be read, the first part by part */
	uint64_t inlines_at;              /* not before: reading them takes a small share of a CPU */
	struct file *queue, **queue_last; /* with frames that wait, or to be learned */
	uint64_t vdso, vdso_size;
	struct sample_list ready;            /* to be unwound next */
	uint64_t ready_at;                   /* by then, or when there are enough for one question */
	uint64_t spaces_known[SPACES_KNOWN]; /* numbers of spaces that samples were unwound in, by their low bits */
	struct sample_list with_worker;
	struct sample_list unmapped; /* waiting for their process's mappings */
	struct sample_list missing;  /* waiting for a table */
	/* The one question with the worker. */
	struct worker_ask ask;
	struct file *last_file; /* the one that was looked up last */
	uint64_t asked_number;  /* of the file it is about */
	struct frame *asked[WORKER_BATCH];
	uint64_t deadline; /* 0: none is out */
	uint64_t asked_at;
	struct worker_answer answer;
	struct unwind_result result; /* a copy that the worker cannot change */
	struct stack_frame places[UNWIND_FRAMES_MAX];
	uint32_t generation; /* grows with any file's names_version */
	uint64_t bounded;    /* bytes of files and frames when they were last seen to be within the bound */
	uint64_t evicted, restarts, unresolved, held_up, unwound, cut, broken, lost;
	char scratch[SCRATCH_SIZE];
};

/* symbols.c: makes symbols_fd() readable at `when` at the latest. */
void symbols_wake_at(struct symbols *s, uint64_t when);
void symbols_watch(struct symbols *s, int fd);
bool symbols_submit(struct symbols *s, struct reader *reader, struct reader_job *job);
uint64_t symbols_mix(uint64_t h, uint64_t v);
/* What the kernel told of mappings up to now is in the spaces. */
void symbols_take_events(struct symbols *s);

/* symbols_files.c */
struct file *file_find(struct symbols *s, uint64_t number);
/* The file of a mapping, made known when it is not yet; NULL: without memory for it. */
struct file *file_of_mapping(struct symbols *s, const struct space *space, const struct space_mapping *mapping);
/* The names of a process's own code, by address. */
struct file *file_of_jit(struct symbols *s, const struct space *space);
struct file *file_add(struct symbols *s, uint64_t number, const char *path);
void file_open(struct symbols *s, struct file *file);
void file_close(struct symbols *s, struct file *file);
/* A perf map may have grown: then it is another content. */
/* A JVM answered: its map is there, or why not. */
void file_take_jvm(struct symbols *s);
void file_refresh(struct symbols *s, struct file *file, uint64_t now);
bool file_busy(const struct file *file);
void file_free(struct symbols *s, struct file *file);
/* Puts it into the queue when the worker can do something for it now. */
void file_queue(struct symbols *s, struct file *file);
/* Takes the one at `*at`, a place in the queue. */
struct file *file_queue_take(struct symbols *s, struct file **at);
/* The first file of the queue for inlined functions is done with. */
void file_inlines_done(struct symbols *s, bool found);
void file_take_job(struct symbols *s, struct reader_job *job);
/* The worker said what it is; its debug file came, or there is none. */
void file_take_description(struct symbols *s, struct file *file);
void file_take_debug(struct symbols *s, struct reader_job *job);
/* debuginfod answered: what can be is taken. */
void files_take_fetched(struct symbols *s);

/* symbols_worker.c */
void worker_start(struct symbols *s);
void worker_lose(struct symbols *s, uint64_t now);
void worker_take_pid(struct symbols *s);
void worker_take_answers(struct symbols *s, uint64_t now);
void worker_send_next(struct symbols *s, uint64_t now);

/* symbols_frames.c */
void frame_free(struct symbols *s, struct frame *frame);
bool frame_evict(struct symbols *s);
/* Nobody will answer these: they are forgotten, and asking again gives what is known of the file. */
void frames_drop_waiting(struct symbols *s, struct file *file);
void frames_ask(struct symbols *s, struct file *file);
void frames_take_answer(struct symbols *s, struct file *file);
void frames_fail_asked(struct symbols *s, struct file *file);
void frames_take_kernel(struct symbols *s, struct reader_job *job);

/* symbols_unwind.c */
bool samples_are_due(const struct symbols *s, uint64_t now);
unsigned samples_ask(struct symbols *s);
void samples_take_answer(struct symbols *s);
void samples_fail_asked(struct symbols *s);
/* What waited for this file's table can be tried again. */
void samples_learned(struct symbols *s, uint64_t file);
void samples_take_maps(struct symbols *s, struct reader_job *job);
void samples_expire(struct symbols *s, uint64_t now);
unsigned samples_count(const struct symbols *s);

#endif
