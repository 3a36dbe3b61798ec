/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The follower: one thread that turns around
 *
 *      journal ──take──► window ──send──► producer ──serve──► window ──settle──► cursor
 *
 * A record taken from the journal stays in the window, and its bytes stay mapped, until the broker has acknowledged it
 * or refused it for good. The cursor moves over the settled prefix of the window and nowhere else. When the producer
 * dies (a fatal error, a failed batch), what was unanswered waits in the window, and a new producer sends it again in
 * the same order: only unacknowledged records are ever sent twice.
 *
 * A broker refuses whole batches. So the records of a refused batch are sent once more one by one (`probe_end` marks
 * how far): those refused alone are refused for good, reported and passed over. When none was, the batch as a whole was
 * too large, and batches are halved from then on.
 *
 * Bounds: the window's records and bytes are all the memory that grows with the backlog; with the broker away, the
 * thread sleeps in librdkafka's queue and takes nothing more.
 */
#include "sinks/kafka.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "sinks/envelope.h"
#include "sinks/producer.h"
#include "sinks/window.h"

#define TURN_RECORDS    1024 /* taken and sent between two looks at the answers */
#define IDLE_MS         200  /* nothing is in flight: until a record comes, or a look at the stop flag */
#define ANSWER_MS       20   /* something is in flight and there is nothing to send */
#define STALL_NS        (10 * NS_PER_SEC)
#define GRACE_NS        (NS_PER_SEC / 2) /* for answers on their way to a producer that ends */
#define PURGE_NS        (1 * NS_PER_SEC)
#define BACKOFF_MIN_NS  (100 * NS_PER_MS)
#define BACKOFF_MAX_NS  (10 * NS_PER_SEC)
#define BATCH_BYTES_MIN 4096u
#define NOTICE_NS       NS_PER_SEC
#define NEVER           UINT64_MAX

struct counters {
	_Atomic uint64_t sent, acknowledged, in_flight, retried, refused, rebuilt, position, missed;
	_Atomic bool connected;
};

struct notices {
	uint64_t next_ns; /* before that, nothing is said */
	unsigned dropped; /* sentences that found another one waiting */
	bool important;   /* the one waiting tells of a change of state */
	char text[400];   /* waiting, or empty */
};

struct kafka {
	struct producer_plan *plan;
	struct producer *producer; /* NULL while it waits to be built again */
	struct journal_reader *reader;
	struct journal_cursor *cursor;
	struct journal *writer;
	struct window window;
	struct sink_setup setup; /* its texts are owned */
	pthread_t thread;

	uint64_t build_at_ns, backoff_ns;
	uint32_t batch_bytes; /* 0: the plan's */
	uint64_t probe_end;   /* window index up to which records go one by one; 0: none */
	bool probe_found;     /* one was refused alone since the probe began */
	unsigned refusals;    /* records refused from this producer */
	uint64_t refused_end; /* window index behind the last of them */

	bool announced_away, heard;
	uint64_t away_since_ns, heard_ns; /* when an answer last came, or something was first sent into silence */
	struct notices notices;

	_Atomic uint64_t stop_by_ns; /* NEVER: go on */
	bool draining;               /* all that the journal held when the stop was seen is in the window */
	struct counters counters;
	pthread_mutex_t error_lock;
	char last_error[256]; /* under error_lock */
};

static void set_error(struct kafka *k, const char *reason)
{
	pthread_mutex_lock(&k->error_lock);
	snprintf(k->last_error, sizeof k->last_error, "%.255s", reason);
	pthread_mutex_unlock(&k->error_lock);
}

/* One sentence waits at most; the newest change of state wins, a line of the log never displaces one. */
static void note(struct kafka *k, bool important, const char *format, ...) _printf_(3, 4);
static void note(struct kafka *k, bool important, const char *format, ...)
{
	struct notices *n = &k->notices;
	va_list args;

	n->dropped += *n->text != '\0';
	if (*n->text && n->important && !important)
		return;
	va_start(args, format);
	vsnprintf(n->text, sizeof n->text, format, args);
	va_end(args);
	n->important = important;
}

static void flush_notice(struct kafka *k, uint64_t now)
{
	struct notices *n = &k->notices;
	size_t length = strlen(n->text);

	if (!length || now < n->next_ns)
		return;
	if (n->dropped)
		snprintf(n->text + length, sizeof n->text - length, " (and %u more)", n->dropped);
	if (k->setup.notice)
		k->setup.notice(k->setup.context, n->text);
	*n = (struct notices){ .next_ns = now + NOTICE_NS };
}

/* The reason is the last error. */
static void went_away(struct kafka *k)
{
	atomic_store(&k->counters.connected, false);
	if (k->announced_away)
		return;
	k->announced_away = true;
	k->away_since_ns = now_boottime_ns();
	note(k, true, "Kafka is unreachable, the journal keeps the stream: %s", k->last_error);
}

static void came_back(struct kafka *k)
{
	atomic_store(&k->counters.connected, true);
	set_error(k, "");
	k->backoff_ns = 0;
	if (!k->announced_away)
		return;
	k->announced_away = false;
	note(k, true, "Kafka is back after %" PRIu64 " s, %" PRIu64 " records are in flight",
	     (uint64_t)((now_boottime_ns() - k->away_since_ns) / NS_PER_SEC), k->window.tail - k->window.head);
}

/* The events of the producer. */

static void on_answered(void *context, uint32_t token, enum verdict verdict, const char *reason)
{
	struct kafka *k = context;
	uint64_t index = window_index(&k->window, token);

	k->heard = true;
	if (verdict == VERDICT_HELD) {
		window_mark(&k->window, index, SLOT_DONE);
		if (!atomic_load_explicit(&k->counters.connected, memory_order_relaxed) || k->announced_away)
			came_back(k);
		return;
	}
	window_mark(&k->window, index, SLOT_WAITS);
	if (verdict != VERDICT_REFUSED)
		return;
	window_at(&k->window, index)->reason = reason;
	k->refusals++;
	k->refused_end = MAX_OF(k->refused_end, index + 1);
}

static void on_unreachable(void *context, bool all, const char *reason)
{
	struct kafka *k = context;

	/* "All brokers are down" says less than the error that came before it. */
	if (!all || !*k->last_error)
		set_error(k, reason);
	if (all)
		went_away(k);
}

static void on_said(void *context, const char *line)
{
	note(context, false, "librdkafka: %s", line);
}

static void serve(struct kafka *k, int timeout_ms)
{
	const struct producer_events events = { on_answered, on_unreachable, on_said, k };

	producer_serve(k->producer, timeout_ms, &events);
	if (k->heard)
		k->heard_ns = now_boottime_ns();
	k->heard = false;
}

/* The life of a producer. */

static void build(struct kafka *k, uint64_t now)
{
	struct producer_limits limits = { .batch_records = k->probe_end ? 1 : 0, .batch_bytes = k->batch_bytes };
	struct fault fault;

	if (producer_start(&k->producer, k->plan, &limits, k->setup.host, k->setup.run, &fault) < 0) {
		set_error(k, fault.text);
		went_away(k);
		k->backoff_ns = MIN_OF(MAX_OF(k->backoff_ns * 2, BACKOFF_MIN_NS), BACKOFF_MAX_NS);
		k->build_at_ns = now + k->backoff_ns;
		return;
	}
	k->refusals = 0;
	k->refused_end = 0;
}

/* Ends the producer. Answers that are on their way still count for `grace_ns`: each is one record less to send twice.
 */
static void tear_down(struct kafka *k, uint64_t grace_ns)
{
	uint64_t until = now_boottime_ns() + grace_ns;

	producer_purge(k->producer, false);
	while (k->window.outstanding && now_boottime_ns() < until)
		serve(k, 50);
	producer_purge(k->producer, true);
	until += PURGE_NS;
	while (k->window.outstanding && now_boottime_ns() < until)
		serve(k, 50);
	producer_stop(k->producer);
	k->producer = NULL;
	window_rewind(&k->window);
}

static void refuse(struct kafka *k, uint64_t index, const char *reason)
{
	struct window_slot *slot = window_at(&k->window, index);
	const struct journal_record *record = &slot->record;
	struct envelope envelope;

	envelope_read(record->map, record->size, &envelope);
	window_mark(&k->window, index, SLOT_REFUSED);
	slot->reason = reason;
	set_error(k, reason);
	note(k, true, "Kafka refuses a record for good (%.*s, %" PRIu32 " bytes, seq %" PRIu64 "): %s",
	     (int)MIN_OF(envelope.type.length, 64), envelope.type.at ? envelope.type.at : "", record->size, record->seq,
	     reason);
}

/* The producer died with records refused. Those that were alone in their batch are to blame and are given up; of
 * several in one batch it is not known which, so they go one by one. */
static void judge_refusals(struct kafka *k)
{
	bool alone = k->probe_end || k->refusals == 1;

	for (uint64_t i = k->window.head; i < k->refused_end; i++) {
		struct window_slot *slot = window_at(&k->window, i);

		if (slot->state != SLOT_WAITS || !slot->reason)
			continue;
		if (alone)
			refuse(k, i, slot->reason);
		else
			slot->reason = NULL;
	}
	k->probe_found = alone;
	if (!alone)
		k->probe_end = k->refused_end;
}

/* Replaces a dead producer: at once after a refusal, which always makes progress, else after a growing pause. */
static void rebuild(struct kafka *k, uint64_t now)
{
	char reason[256];

	snprintf(reason, sizeof reason, "%s", producer_reason(k->producer));
	set_error(k, reason);
	tear_down(k, GRACE_NS);
	atomic_fetch_add(&k->counters.rebuilt, 1);
	if (k->refusals) {
		judge_refusals(k);
		k->build_at_ns = now;
		return;
	}
	note(k, true, "the Kafka producer is started anew: %s", reason);
	atomic_store(&k->counters.connected, false);
	k->build_at_ns = now + k->backoff_ns;
	k->backoff_ns = MIN_OF(MAX_OF(k->backoff_ns * 2, BACKOFF_MIN_NS), BACKOFF_MAX_NS);
}

/* All that had to go one by one is settled: back to batches, smaller ones if nothing but their size was at fault. */
static void end_probe(struct kafka *k)
{
	if (!k->probe_found)
		k->batch_bytes = MAX_OF((k->batch_bytes ? k->batch_bytes : 1u << 20) / 2, BATCH_BYTES_MIN);
	k->probe_end = 0;
	if (k->producer)
		tear_down(k, GRACE_NS);
}

/* The turn's steps. Each returns whether it did anything. */

static bool take_some(struct kafka *k)
{
	struct journal_record record;
	unsigned n = 0;

	while (n < TURN_RECORDS && !window_full(&k->window) && !k->draining) {
		if (!journal_reader_next(k->reader, &record)) {
			k->draining = atomic_load_explicit(&k->stop_by_ns, memory_order_relaxed) != NEVER;
			break;
		}
		window_put(&k->window, &record);
		n++;
	}
	return n > 0;
}

/* Hands over one slot. False when the producer takes no more for now. */
static bool send_one(struct kafka *k, uint64_t index)
{
	struct window_slot *slot = window_at(&k->window, index);
	bool again = slot->again;
	int r;

	if (slot->state != SLOT_WAITS)
		return true;
	r = producer_send(k->producer, &slot->record, (uint32_t)index);
	if (r == -EMSGSIZE)
		refuse(k, index, "larger than message.max.bytes");
	if (r < 0)
		return r == -EMSGSIZE;
	if (!k->window.outstanding)
		k->heard_ns = now_boottime_ns();
	window_mark(&k->window, index, SLOT_SENT);
	slot->again = true;
	atomic_fetch_add_explicit(again ? &k->counters.retried : &k->counters.sent, 1, memory_order_relaxed);
	return true;
}

static bool send_some(struct kafka *k)
{
	struct window *w = &k->window;
	uint64_t end = k->probe_end ? MIN_OF(w->tail, k->probe_end) : w->tail, begin = w->next;

	if (!k->producer)
		return false;
	while (w->next < end && w->next - begin < TURN_RECORDS && send_one(k, w->next))
		w->next++;
	return w->next > begin;
}

static bool settle(struct kafka *k)
{
	struct window *w = &k->window;
	struct window_slot *slot;
	uint64_t position = 0, acknowledged = 0, refused = 0;

	while ((slot = window_settled(w))) {
		if (slot->state == SLOT_DONE) {
			acknowledged++;
			if (k->setup.acknowledged)
				k->setup.acknowledged(k->setup.context, &slot->record);
		} else {
			refused++;
			if (k->setup.refused)
				k->setup.refused(k->setup.context, &slot->record, slot->reason);
		}
		position = slot->record.next;
		window_drop(w);
	}
	atomic_store_explicit(&k->counters.in_flight, w->tail - w->head, memory_order_relaxed);
	if (!position)
		return false;
	journal_cursor_store(k->cursor, position);
	if (k->writer)
		journal_protect(k->writer, position);
	journal_reader_hold(k->reader, position);
	atomic_fetch_add_explicit(&k->counters.acknowledged, acknowledged, memory_order_relaxed);
	atomic_fetch_add_explicit(&k->counters.refused, refused, memory_order_relaxed);
	atomic_store_explicit(&k->counters.position, position, memory_order_relaxed);
	if (k->setup.moved)
		k->setup.moved(k->setup.context, position);
	return true;
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

/* Waits for what can happen next: an answer, or a record. The two have no common thing to wait for, so with something
 * in flight the journal is looked at every ANSWER_MS, less than records linger anyway. */
static void wait_for_work(struct kafka *k)
{
	if (!k->producer) {
		sleep_ms(50);
	} else if (k->window.outstanding) {
		if (k->draining)
			producer_hurry(k->producer);
		serve(k, window_full(&k->window) ? IDLE_MS / 2 : ANSWER_MS);
	} else if (!k->draining) {
		serve(k, 0);
		journal_reader_wait(k->reader, IDLE_MS);
	}
}

static void watch_silence(struct kafka *k, uint64_t now)
{
	if (!k->window.outstanding || k->announced_away || now <= k->heard_ns + STALL_NS)
		return;
	if (!*k->last_error)
		set_error(k, "no acknowledgement for 10 s");
	went_away(k);
}

static bool finished(struct kafka *k, uint64_t now)
{
	uint64_t stop_by = atomic_load(&k->stop_by_ns);

	return stop_by != NEVER && (now >= stop_by || (k->draining && k->window.head == k->window.tail));
}

static void turn(struct kafka *k, uint64_t now)
{
	bool busy;

	if (!k->producer && now >= k->build_at_ns)
		build(k, now);
	busy = take_some(k);
	busy |= send_some(k);
	if (k->producer)
		serve(k, 0);
	if (k->producer && producer_dead(k->producer))
		rebuild(k, now);
	busy |= settle(k);
	if (k->probe_end && k->window.head >= k->probe_end)
		end_probe(k);
	watch_silence(k, now);
	flush_notice(k, now);
	atomic_store_explicit(&k->counters.missed, journal_reader_lost_records(k->reader), memory_order_relaxed);
	if (!busy)
		wait_for_work(k);
}

static void *follow(void *argument)
{
	struct kafka *k = argument;
	uint64_t now = now_boottime_ns();

	while (!finished(k, now)) {
		turn(k, now);
		now = now_boottime_ns();
	}
	if (k->producer) {
		tear_down(k, 0);
		settle(k);
	}
	flush_notice(k, NEVER);
	journal_reader_close(k->reader);
	journal_cursor_close(k->cursor);
	return NULL;
}

static void free_kafka(struct kafka *k)
{
	if (!k)
		return;
	producer_stop(k->producer);
	producer_plan_free(k->plan);
	window_close(&k->window);
	free((void *)(uintptr_t)k->setup.host);
	free((void *)(uintptr_t)k->setup.run);
	pthread_mutex_destroy(&k->error_lock);
	free(k);
}

static int open_journal(struct kafka *k, const struct sink_setup *setup, struct fault *fault)
{
	uint64_t position;
	int r = journal_cursor_open(&k->cursor, setup->journal, "kafka", fault);

	if (r < 0)
		return r;
	position = journal_cursor_load(k->cursor);
	r = journal_reader_open(&k->reader, setup->journal, position, fault);
	if (r < 0)
		return r;
	journal_reader_hold(k->reader, position);
	k->writer = setup->writer;
	atomic_store(&k->counters.position, position);
	if (k->writer)
		r = journal_follow(k->writer, k->reader);
	return r < 0 ? fault_set(fault, r, "another sink follows the journal %s", setup->journal) : 0;
}

static int prepare(struct kafka *k, const struct kafka_options *options, const struct sink_setup *setup,
		   struct fault *fault)
{
	struct producer_limits limits = { 0 };
	int r;

	k->setup = *setup;
	k->setup.host = strdup(setup->host ? setup->host : "");
	k->setup.run = strdup(setup->run ? setup->run : "");
	if (!k->setup.host || !k->setup.run)
		return fault_set(fault, -ENOMEM, "no memory for the Kafka sink");
	r = producer_plan_make(&k->plan, options, fault);
	if (r < 0)
		return r;
	if (window_open(&k->window, producer_plan_records(k->plan), producer_plan_bytes(k->plan)) < 0)
		return fault_set(fault, -ENOMEM, "no memory for %" PRIu32 " records in flight to Kafka",
				 producer_plan_records(k->plan));
	r = producer_start(&k->producer, k->plan, &limits, k->setup.host, k->setup.run, fault);
	return r < 0 ? r : open_journal(k, setup, fault);
}

static int spawn(struct kafka *k)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&k->thread, NULL, follow, k);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!r)
		pthread_setname_np(k->thread, "kafka");
	return -r;
}

int kafka_start(struct kafka **ret, const struct kafka_options *options, const struct sink_setup *setup,
		struct fault *fault)
{
	struct kafka *k = calloc(1, sizeof *k);
	int r;

	if (!k)
		return fault_set(fault, -ENOMEM, "no memory for the Kafka sink");
	pthread_mutex_init(&k->error_lock, NULL);
	atomic_store(&k->stop_by_ns, NEVER);
	r = prepare(k, options, setup, fault);
	if (!r && (r = spawn(k)) < 0)
		fault_set(fault, r, "cannot start the Kafka thread: %s", strerror(-r));
	if (r < 0) {
		if (k->reader)
			journal_reader_close(k->reader);
		if (k->cursor)
			journal_cursor_close(k->cursor);
		free_kafka(k);
		return r;
	}
	*ret = k;
	return 0;
}

void kafka_stop(struct kafka *k, int timeout_ms)
{
	if (!k)
		return;
	atomic_store(&k->stop_by_ns, now_boottime_ns() + (uint64_t)MAX_OF(timeout_ms, 0) * NS_PER_MS);
	pthread_join(k->thread, NULL);
	free_kafka(k);
}

void kafka_health(struct kafka *k, struct sink_health *ret)
{
	*ret = (struct sink_health){
		.sent = atomic_load(&k->counters.sent),
		.acknowledged = atomic_load(&k->counters.acknowledged),
		.in_flight = atomic_load(&k->counters.in_flight),
		.retried = atomic_load(&k->counters.retried),
		.refused = atomic_load(&k->counters.refused),
		.rebuilt = atomic_load(&k->counters.rebuilt),
		.position = atomic_load(&k->counters.position),
		.missed = atomic_load(&k->counters.missed),
		.connected = atomic_load(&k->counters.connected),
	};
	pthread_mutex_lock(&k->error_lock);
	memcpy(ret->last_error, k->last_error, sizeof ret->last_error);
	pthread_mutex_unlock(&k->error_lock);
}

int kafka_probe(const struct kafka_options *options, int timeout_ms, struct fault *fault)
{
	struct producer_plan *plan;
	int r = producer_plan_make(&plan, options, fault);

	if (r < 0)
		return r;
	r = producer_probe(plan, timeout_ms, fault);
	producer_plan_free(plan);
	return r;
}
