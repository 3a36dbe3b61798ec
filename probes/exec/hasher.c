/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring of questions between two threads: the loop's thread puts them in at `asked` and takes them out at `taken`; the reader's thread
 * answers the one at `answered`. taken <= answered <= asked <= taken + QUESTIONS_MAX. The lock is held for these numbers only; a question
 * belongs to whom the numbers give it.
 *
 * The thread is made with the first question: the agent gives up its privileges before it has threads.
 */
#include "probes/exec/hasher.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#define QUESTIONS_MAX 64u
#define KNOWN_MAX     4096u /* versions */
#define PIECE         (64u << 10)
#define THREAD_STACK  (128u << 10)
#define LEAVE_S       1
#define LEAST_NICE    19

struct slot {
	struct hasher_question question;
	enum hasher_state state;
	uint8_t sha256[SHA256_BYTES];
};

struct hasher {
	uint64_t most, rate;
	struct hasher_version known[KNOWN_MAX]; /* each at its hash's place, the last one to come */
	bool running;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stop;
	uint64_t asked, answered, taken;
	struct slot slots[QUESTIONS_MAX];
	uint8_t piece[PIECE];
};

/* ---- the reader's thread ---- */

static uint64_t ns_of(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * NS_PER_SEC + (uint64_t)t->tv_nsec;
}

enum likeness { OTHER_FILE, SAME_FILE, SAME_VERSION };

/* An overlay or btrfs shows other numbers of device and inode than the kernel's: there, time and size must do. */
static enum likeness compare(int fd, const struct hasher_version *v)
{
	struct stat st;
	bool unchanged;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != v->bytes)
		return OTHER_FILE;
	unchanged = ns_of(&st.st_ctim) == v->changed;
	if (st.st_dev == v->dev && st.st_ino != v->ino)
		return OTHER_FILE;
	if (st.st_dev == v->dev)
		return unchanged ? SAME_VERSION : SAME_FILE;
	return unchanged ? SAME_VERSION : OTHER_FILE;
}

/* Field 28 of /proc/PID/stat, of proc(5): where the stack begins. */
static uint64_t start_stack_of(uint32_t pid)
{
	_cleanup_(close_fd) int fd = -1;
	char text[1024], *at;
	ssize_t n;

	snprintf(text, sizeof text, "/proc/%u/stat", pid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strrchr(text, ')'); /* the name before it may hold anything */
	for (int field = 2; at && field < 28; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static bool runs_still(const struct hasher_subject *s)
{
	return s->start_stack && start_stack_of(s->event.pid) == s->start_stack;
}

/* "leaf\0folder\0" as "/folder/leaf"; 0, or -ENAMETOOLONG. */
static int join_path(const struct hasher_question *q, char *ret, size_t room)
{
	size_t end = q->path_length, at = 0;

	if (end && !q->path[end - 1])
		end--;
	if (!end || end + 2 > room)
		return -ENAMETOOLONG;
	while (true) {
		const char *item = memrchr(q->path, 0, end);
		size_t begin = item ? (size_t)(item - q->path) + 1 : 0;

		ret[at++] = '/';
		memcpy(ret + at, q->path + begin, end - begin);
		at += end - begin;
		if (!begin)
			break;
		end = begin - 1;
	}
	ret[at] = '\0';
	return 0;
}

static int open_running(const struct hasher_question *q)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/%u/exe", q->subject.event.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0 && compare(fd, &q->subject.version) == OTHER_FILE)
		close_fd(&fd);
	return fd;
}

/* In this mount namespace. It is looked at before it is opened: what lies there now may be a device. */
static int open_by_path(const struct hasher_question *q)
{
	char path[HASHER_PATH_MAX + 2], link[32];
	_cleanup_(close_fd) int place = -1;

	if (join_path(q, path, sizeof path) < 0)
		return -1;
	place = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (place < 0 || compare(place, &q->subject.version) != SAME_VERSION)
		return -1;
	snprintf(link, sizeof link, "/proc/self/fd/%d", place);
	return open(link, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/* Waits as long as reading `bytes` may take; false: the thread is to end. */
static bool keep_rate(struct hasher *h, uint64_t began, uint64_t bytes)
{
	uint64_t due = began + (uint64_t)((double)bytes / (double)h->rate * (double)NS_PER_SEC);
	struct timespec until = { .tv_sec = (time_t)(due / NS_PER_SEC), .tv_nsec = (long)(due % NS_PER_SEC) };
	int r = 0;
	bool stop;

	pthread_mutex_lock(&h->lock);
	while (!h->stop && r != ETIMEDOUT)
		r = pthread_cond_clockwait(&h->changed, &h->lock, CLOCK_MONOTONIC, &until);
	stop = h->stop;
	pthread_mutex_unlock(&h->lock);
	return !stop;
}

static uint64_t now_monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ns_of(&t);
}

/* Whether what was read is what ran. */
static bool is_what_ran(int fd, const struct hasher_subject *s)
{
	enum likeness likeness = compare(fd, &s->version);

	return likeness != OTHER_FILE && (runs_still(s) || (likeness == SAME_VERSION && !s->fresh));
}

/* The whole file, and nothing else: what grew or shrank meanwhile is another version. */
static int hash_file(struct hasher *h, int fd, struct slot *s)
{
	uint64_t began = now_monotonic_ns(), done = 0;
	struct sha256 sum;

	sha256_begin(&sum);
	while (done < s->question.subject.version.bytes) {
		ssize_t n = pread(fd, h->piece, PIECE, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ESTALE;
		sha256_add(&sum, h->piece, (size_t)n);
		done += (uint64_t)n;
		if (!keep_rate(h, began, done))
			return -EINTR;
	}
	sha256_end(&sum, s->sha256);
	return done == s->question.subject.version.bytes && is_what_ran(fd, &s->question.subject) ? 0 : -ESTALE;
}

static void answer(struct hasher *h, struct slot *s)
{
	_cleanup_(close_fd) int fd = -1;

	s->state = HASHER_TOO_LARGE;
	if (s->question.subject.version.bytes > h->most)
		return;
	s->state = HASHER_GONE;
	fd = open_running(&s->question);
	if (fd < 0)
		fd = open_by_path(&s->question);
	if (fd >= 0 && hash_file(h, fd, s) == 0)
		s->state = HASHER_DONE;
}

static void *answer_all(void *context)
{
	struct hasher *h = context;

	setpriority(PRIO_PROCESS, 0, LEAST_NICE); /* of this thread, in Linux */
	pthread_mutex_lock(&h->lock);
	while (!h->stop) {
		if (h->answered == h->asked) {
			pthread_cond_wait(&h->changed, &h->lock);
			continue;
		}
		struct slot *s = &h->slots[h->answered % QUESTIONS_MAX];

		pthread_mutex_unlock(&h->lock);
		answer(h, s);
		pthread_mutex_lock(&h->lock);
		h->answered++;
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* ---- the loop's thread ---- */

static int start(struct hasher *h)
{
	pthread_attr_t attr;
	int r;

	if (h->running)
		return 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	r = -pthread_create(&h->thread, &attr, answer_all, h);
	pthread_attr_destroy(&attr);
	h->running = r == 0;
	return r;
}

static struct hasher_version *place_of(struct hasher *h, const struct hasher_version *v)
{
	return &h->known[hash_bytes(v, sizeof *v) % KNOWN_MAX];
}

int hasher_ask(struct hasher *h, const struct hasher_subject *subject, const char *path, size_t path_length)
{
	const struct hasher_version *version = &subject->version;
	struct hasher_version *known = place_of(h, version);
	struct hasher_question *q = &h->slots[h->asked % QUESTIONS_MAX].question;
	int r;

	if (!memcmp(known, version, sizeof *known))
		return 0;
	if (h->asked - h->taken == QUESTIONS_MAX)
		return -ENOBUFS;
	r = start(h);
	if (r < 0)
		return r;
	q->subject = *subject;
	*known = *version;
	q->path_length = path_length <= sizeof q->path ? (uint32_t)path_length : 0;
	memcpy(q->path, path, q->path_length);
	pthread_mutex_lock(&h->lock);
	h->asked++;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
	return 1;
}

bool hasher_take(struct hasher *h, struct hasher_answer *ret)
{
	struct slot *s = &h->slots[h->taken % QUESTIONS_MAX];
	struct hasher_version *known = place_of(h, &s->question.subject.version);
	bool there;

	pthread_mutex_lock(&h->lock);
	there = h->taken < h->answered;
	pthread_mutex_unlock(&h->lock);
	if (!there)
		return false;
	if (s->state == HASHER_GONE && !memcmp(known, &s->question.subject.version, sizeof *known))
		memset(known, 0, sizeof *known);
	*ret = (struct hasher_answer){ .question = &s->question, .state = s->state };
	memcpy(ret->sha256, s->sha256, sizeof ret->sha256);
	h->taken++; /* only hasher_ask() uses the place again, and it is this thread that calls it */
	return true;
}

unsigned hasher_open(const struct hasher *h)
{
	return (unsigned)(h->asked - h->taken);
}

int hasher_new(struct hasher **ret, uint64_t most, uint64_t rate)
{
	struct hasher *h = calloc(1, sizeof *h);

	if (!h)
		return -ENOMEM;
	h->most = most;
	h->rate = rate;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	*ret = h;
	return 0;
}

void hasher_free(struct hasher *h)
{
	struct timespec until;

	if (!h)
		return;
	if (h->running) {
		pthread_mutex_lock(&h->lock);
		h->stop = true;
		pthread_cond_signal(&h->changed);
		pthread_mutex_unlock(&h->lock);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += LEAVE_S;
		if (pthread_timedjoin_np(h->thread, NULL, &until)) {
			pthread_detach(h->thread);
			return;
		}
	}
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->changed);
	free(h);
}
