/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sample waits (struct pending) until its stack is unwound, then joins the open window. Names are asked for as soon as a stack is new, while
 * its process lives. When a window ends it becomes the *closing* one, a fresh one takes over, and each row goes out once waiting
 * cannot better its frames, after NAMES_WAIT in any case. The next window ends no sooner than that.
 *
 * Invariants: each sample taken in is pending, in the open window or in the closing one, and then settled; at most one window is closing.
 */
#include "stacks/profile.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "stacks/stack_text.h"
#include "stacks/sums.h"

#define WINDOW_BYTES   (4u << 20)
#define WINDOW_BUCKETS 4096u
#define NAMES_WAIT     (4 * NS_PER_SEC) /* rows wait so long for names */
#define BETTER_WAIT    NS_PER_SEC       /* and so long for better ones */
#define ROWS_A_TICK    1000u
#define STACK_TEXT     UINT16_MAX

struct profile {
	struct profile_options options;
	struct sums *open, *closing;
	uint64_t open_begin, closing_begin, closing_end;
	unsigned pending;
	bool is_closing;
	char text[STACK_TEXT];
};

/* Behind it lie the kernel's frames and the cause. */
struct pending {
	struct profile *profile;
	struct sonde_event event;
	uint64_t value;
	uint16_t n_kernel, cause_size;
	bool kernel_cut;
};

/* ---- rows ---- */

static struct stack_view view_of(const struct sum *e)
{
	return (struct stack_view){
		.kernel = sum_kernel(e), .user = sum_user(e), .n_kernel = e->n_kernel, .n_user = e->n_user
	};
}

/* Whether its names are as good as that at least. Once all are known they are looked at again only when there is more to know. */
static bool names_are(const struct profile *p, struct sum *e, enum symbols_state least)
{
	struct symbols *symbols = p->options.symbols;
	struct stack_view view = view_of(e);
	enum symbols_state state;

	if (!symbols || (e->named && e->generation == symbols_generation(symbols)))
		return true;
	state = stack_state(symbols, &view);
	e->named = state == SYMBOLS_KNOWN;
	e->generation = symbols_generation(symbols);
	return state >= least;
}

/* Why a row was refused, in the ledger's words: its samples go the same way. */
static const char *refusal(int r)
{
	if (r >= 0)
		return NULL;
	return r == -ENOBUFS    ? "journal_full"
	       : r == -EMSGSIZE ? "too_large"
	       : r == -EBADMSG  ? "malformed"
				: "disk_full";
}

static enum symbols_code code_of(struct symbols *symbols, const struct sum *e)
{
	enum symbols_code code = SYMBOLS_CODE_USUAL;

	for (unsigned i = 0; symbols && i < e->n_user; i++)
		code = MAX_OF(code, symbols_user_code(symbols, &sum_user(e)[i]));
	return code;
}

static void send_row(struct profile *p, struct sum *e)
{
	struct profile_row row = { .event = &e->event,
				   .value = e->value,
				   .samples = e->samples,
				   .window_ns = p->closing_end - p->closing_begin,
				   .cause = sum_cause(e),
				   .cause_size = e->cause_size,
				   .truncated = e->truncated };

	struct stack_view view = view_of(e);
	struct stack_text text;

	e->event.time = p->closing_end;
	stack_write(p->options.symbols, &view, p->text, sizeof p->text - p->options.row_bytes, &text);
	row.stack = text.texts;
	row.stack_size = text.size;
	row.stack_id = text.id;
	row.truncated |= text.truncated;
	row.code = code_of(p->options.symbols, e);
	e->done = true;
	p->options.settled(p->options.context, e->samples, refusal(p->options.row(p->options.context, &row)));
}

/* Sends what has names as good as that. True when nothing is left. */
static bool send_rows(struct profile *p, enum symbols_state least, unsigned most)
{
	bool left = false;

	if (!p->is_closing)
		return true;
	for (struct sum *e = NULL; (e = sums_next(p->closing, e));) {
		if (e->done)
			continue;
		if (!most)
			return false;
		if (names_are(p, e, least)) {
			send_row(p, e);
			most--;
		} else {
			left = true;
		}
	}
	if (left)
		return false;
	sums_clear(p->closing);
	p->is_closing = false;
	return true;
}

static void end_window(struct profile *p, uint64_t now)
{
	struct sums *fresh = p->closing;

	send_rows(p, SYMBOLS_ASKED, UINT32_MAX);
	p->closing = p->open;
	p->open = fresh;
	p->closing_begin = p->open_begin;
	p->closing_end = p->open_begin = MAX_OF(now, p->open_begin + 1);
	p->is_closing = sums_count(p->closing) > 0;
}

/* ---- samples ---- */

static void add_to_window(struct profile *p, const struct sums_sample *sample)
{
	struct sum *fresh = NULL;
	int r = sums_add(p->open, sample, &fresh);

	if (r == -ENOSPC) {
		end_window(p, now_boottime_ns());
		r = sums_add(p->open, sample, &fresh);
	}
	if (r < 0)
		p->options.settled(p->options.context, 1, "too_large");
	else if (fresh)
		names_are(p, fresh, SYMBOLS_KNOWN);
}

static void take_stack(void *context, const struct stack_frames *frames)
{
	struct pending *pending = context;
	struct profile *p = pending->profile;
	const __u64 *kernel = (const __u64 *)(pending + 1);
	struct sums_sample sample = { .event = &pending->event,
				      .kernel = kernel,
				      .user = frames->frames,
				      .cause = kernel + pending->n_kernel,
				      .value = pending->value,
				      .n_kernel = pending->n_kernel,
				      .n_user = (uint16_t)frames->count,
				      .cause_size = pending->cause_size,
				      .truncated = frames->truncated || pending->kernel_cut };

	p->pending--;
	add_to_window(p, &sample);
	free(pending);
}

/* Without the stage that unwinds: the program's side is its leaf. */
static int take_leaf(struct pending *pending, const struct sonde_stack *stack)
{
	struct stack_frame leaf = { STACK_BARE, stack->registers[SONDE_REGISTER_PC] | UNWIND_EXACT };
	struct stack_frames frames = { &leaf, stack->flags & SONDE_STACK_USER ? 1 : 0, true };

	take_stack(pending, &frames);
	return 0;
}

/* How much of the record lies behind `stack`'s begin; 0: it is not in there. */
static size_t bytes_from(const struct sonde_event *event, const struct sonde_stack *stack)
{
	size_t at = (size_t)((const uint8_t *)stack - (const uint8_t *)event);

	return (const uint8_t *)stack > (const uint8_t *)event && at < event->size ? event->size - at : 0;
}

int profile_sample(struct profile *p, const struct sonde_event *event, const struct sonde_stack *stack, uint64_t value,
		   const void *cause, size_t cause_size)
{
	size_t bytes = bytes_from(event, stack), kernel;
	struct pending *pending;
	int r;

	if (bytes < sizeof *stack || stack->n_kernel > SONDE_STACK_KERNEL_MAX || cause_size > PROFILE_CAUSE_MAX ||
	    SONDE_STACK_BYTES(stack->n_kernel, stack->n_slice) > bytes)
		return -EBADMSG;
	kernel = stack->n_kernel * sizeof(__u64);
	pending = malloc(sizeof *pending + kernel + cause_size);
	if (!pending)
		return -ENOMEM;
	*pending = (struct pending){ .profile = p,
				     .event = *event,
				     .value = value,
				     .n_kernel = stack->n_kernel,
				     .cause_size = (uint16_t)cause_size,
				     .kernel_cut = stack->flags & SONDE_STACK_KERNEL_CUT };
	memcpy(pending + 1, stack + 1, kernel);
	if (cause_size)
		memcpy((uint8_t *)(pending + 1) + kernel, cause, cause_size);
	p->pending++;
	r = p->options.symbols ? symbols_unwind(p->options.symbols, (int)event->pid, event->time, stack, bytes,
						take_stack, pending)
			       : take_leaf(pending, stack);
	if (r < 0) {
		p->pending--;
		free(pending);
	}
	return r;
}

/* ---- the module's calls ---- */

int profile_open(struct profile **ret, const struct profile_options *options)
{
	struct profile *p = calloc(1, sizeof *p);
	int r;

	if (!p)
		return -ENOMEM;
	p->options = *options;
	p->open_begin = now_boottime_ns();
	r = sums_open(&p->open, WINDOW_BYTES, WINDOW_BUCKETS);
	if (r == 0)
		r = sums_open(&p->closing, WINDOW_BYTES, WINDOW_BUCKETS);
	if (r < 0)
		profile_close(p);
	else
		*ret = p;
	return r;
}

void profile_close(struct profile *p)
{
	if (!p)
		return;
	if (p->pending)
		symbols_finish(p->options.symbols);
	sums_close(p->open);
	sums_close(p->closing);
	free(p);
}

/* How good the names of the closing window's rows must be, so long after its end. */
static enum symbols_state names_wanted(const struct profile *p, uint64_t now)
{
	return now < p->closing_end + BETTER_WAIT  ? SYMBOLS_NONE
	       : now < p->closing_end + NAMES_WAIT ? SYMBOLS_OLD
						   : SYMBOLS_ASKED;
}

void profile_tick(struct profile *p, uint64_t now)
{
	/* Names are worth a window that ends later, where windows are short and much is new. */
	if (now >= p->open_begin + p->options.window_ns && (!p->is_closing || names_wanted(p, now) == SYMBOLS_ASKED))
		end_window(p, now);
	send_rows(p, names_wanted(p, now), ROWS_A_TICK);
}

/* Nobody else uses the loop's thread now: here waiting is allowed. */
static void turn(struct profile *p)
{
	struct pollfd fd = { .fd = symbols_fd(p->options.symbols), .events = POLLIN };

	poll(&fd, 1, 50);
	symbols_answer(p->options.symbols);
}

void profile_flush(struct profile *p, int timeout_ms)
{
	uint64_t until = now_boottime_ns() + (uint64_t)MAX_OF(timeout_ms, 0) * NS_PER_MS;

	while (p->pending && now_boottime_ns() < until)
		turn(p);
	if (p->pending)
		symbols_finish(p->options.symbols);
	end_window(p, now_boottime_ns());
	while (p->options.symbols && !send_rows(p, names_wanted(p, now_boottime_ns()), UINT32_MAX) &&
	       now_boottime_ns() < until)
		turn(p);
	send_rows(p, SYMBOLS_ASKED, UINT32_MAX);
}
