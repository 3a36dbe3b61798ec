/* SPDX-License-Identifier: Apache-2.0 */
/* One event as rules see it, as the files of this folder share it. Private to it. */
#ifndef SONDE_LIVE_STATE_H
#define SONDE_LIVE_STATE_H

#include "alerts/live.h"
#include "rules/field.h"
#include "rules/program.h"

#define CALLS_MAX 16u             /* values of evt.type that a type stands for */
#define CHAIN_MAX 33u             /* a process and 32 ancestors */
#define TEXT_MAX  (65536u + 512u) /* of one text that is made: a record's, with a name before it */

/* Keys of the stream that fields are served by. */
/* clang-format off */
#define LIVE_KEYS(X)                                                                                                   \
	X(path) X(new_path) X(path_given) X(target) X(flags) X(mode) X(ino) X(dev) X(fd) X(created) X(error) X(ret)    \
	X(uid) X(euid) X(gid) X(egid) X(cap_eff) X(caps) X(exe) X(args) X(cwd) X(tty) X(ns_pid) X(sid) X(pgid)         \
	X(loginuid) X(memfd) X(writable) X(upper) X(laddr) X(lport) X(raddr) X(rport) X(family) X(protocol)    \
	X(request) X(signal) X(target_pid) X(call) X(syscall) X(op) X(latency_ns) X(env) X(stdin) X(stdout) X(stderr)  \
	X(addr_given) X(port_given) X(abstract) X(sock_type) X(request_name) X(prot) X(fs_type) X(source)           \
	X(owner) X(group)
/* clang-format on */

enum live_key {
#define KEY_NUMBER(name) KEY_##name,
	LIVE_KEYS(KEY_NUMBER)
#undef KEY_NUMBER
		N_KEYS
};

struct live_type {
	const struct event_type *type;
	const struct field *keys[N_KEYS]; /* NULL: it has none */
	const struct field *call;         /* that says which call it was; NULL: any of these */
	uint16_t calls[CALLS_MAX];        /* of evt.type, the likeliest first */
	uint32_t n_calls;
	uint32_t *candidates, n_candidates;
};

struct served;

struct memo {
	uint64_t serial; /* of the event that it is about */
	bool there;
	struct rule_value value;
};

struct live {
	struct rule_event event; /* first */
	struct live_setup setup;
	struct live_type *types;
	size_t n_types;
	const struct served **by_slot; /* NULL: nothing serves it */
	struct memo *memos;
	/* The event: */
	uint64_t serial, seq;
	int64_t boot_to_epoch;
	const struct sonde_event *record;
	const struct live_type *type;
	struct process own;                     /* its process, as far as it and the table say */
	const struct process *chain[CHAIN_MAX]; /* own and its ancestors */
	struct rule_value lines[CHAIN_MAX];     /* their command lines; kind RULE_ABSENT: not made yet */
	uint32_t n_chain;
	bool own_made, cgroup_made;
	struct cgroup_name cgroup;
	size_t used, room; /* of texts */
	bool cut;          /* a text of this event */
	char *texts;
};

/* A field and what serves it. */
struct served {
	const char *field;
	bool (*get)(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret);
	int what, depth;
};

/* NULL: nothing serves it. */
const struct served *served_of(const char *field);

/* calls.c: the calls of a type, with spaces between; NULL: rules know nothing of the kind. */
const char *live_call_names(const char *type);
/* The same as numbers, in that order; returns how many. */
uint32_t live_list_calls(const char *type, uint16_t ret[CALLS_MAX]);
/* evt.category of the events of a type. */
const char *live_category(const char *type);

/* record.c: keys of the record */
bool record_number(const struct live *live, enum live_key key, int64_t *ret);
bool record_value(struct live *live, const struct field *field, struct rule_value *ret);
bool record_failed(const struct live *live);
bool record_key(struct live *live, enum live_key key, struct rule_value *ret);
/* Of a list: its items, a NUL behind each. NULL: none. */
const char *record_items(const struct live *live, enum live_key key, uint32_t *ret_length);
const struct field *record_field(const struct live *live, const char *key);

/* texts.c: texts made for one event */
/* At most `size`; less where there is no more room. */
char *texts_take(struct live *live, size_t size, size_t *ret_size);
/* Gives back the last of what was taken. */
void texts_give_back(struct live *live, size_t size);
bool give_text(struct rule_value *ret, const char *text, size_t length);
bool give_number(struct rule_value *ret, __int128 number);
bool give_truth(struct rule_value *ret, bool truth);
bool give_made(struct live *live, struct rule_value *ret, const char *format, ...) _printf_(3, 4);

/* flags.c: numbers by name, with `|` between */
bool give_open_flags(struct live *live, uint64_t flags, struct rule_value *ret);
/* CLONE_*, S_I*, PROT_*, MAP_*, MS_* */
enum live_bits { BITS_CLONE, BITS_MODE, BITS_MEMORY, BITS_MAP, BITS_MOUNT };
bool give_bits_of(struct live *live, enum live_bits kind, uint64_t value, struct rule_value *ret);
bool give_capabilities(struct live *live, uint64_t set, struct rule_value *ret);

/* of_process.c */
void make_own(struct live *live);
uint32_t make_chain(struct live *live);
bool process_next(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *value);
bool get_process(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);
bool get_ancestor(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);
bool get_leader(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);
bool get_user(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);
bool get_container(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);

/* of_event.c */
bool get_event(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);
bool get_argument(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);
bool event_next(struct live *live, const struct served *how, struct rule_value *value);
/* of_file.c */
bool get_file(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);
/* of_socket.c */
bool get_socket(struct live *, const struct rule_ref *, const struct served *, struct rule_value *);
bool has_addresses(const struct live *live);
/* Of a socket: of either end, or of a call that failed what it was given. */
bool give_some_address(struct live *live, struct rule_value *ret);
bool give_connection(struct live *live, struct rule_value *ret);

enum what {
	/* of a process */
	W_NAME,
	W_PID,
	W_EXE,
	W_EXEPATH,
	W_ARGS,
	W_CMDLINE,
	W_EXELINE,
	W_ARGS_COUNT,
	W_ARGS_BYTES,
	W_CWD,
	W_TTY,
	W_INO,
	W_MEMFD,
	W_WRITABLE,
	W_UPPER,
	W_SID,
	W_PGID,
	W_SID_LEADER,
	W_PGID_LEADER,
	W_DURATION,
	W_BEGAN,
	W_NS_PID,
	W_LOGIN_SHELL,
	W_TID,
	W_IS_MAIN,
	W_NAME_TID,
	W_CAPS,
	W_ENV,
	W_STDIN,
	W_STDOUT,
	W_STDERR,
	W_CGROUP,
	W_UID,
	W_USER,
	W_HOME,
	W_SHELL,
	W_LOGINUID,
	W_LOGINNAME,
	W_GID,
	W_GROUP,
	W_CONTAINER,
	W_CONTAINER_FULL,
	W_CONTAINER_NAME,
	W_CONTAINER_TYPE,
	W_CONTAINER_IMAGE,
	W_CONTAINER_REPOSITORY,
	W_CONTAINER_TAG,
	W_CONTAINER_DIGEST,
	W_CONTAINER_IMAGE_ID,
	W_CONTAINER_PRIVILEGED,
	W_CONTAINER_LABEL,
	W_CONTAINER_LABELS,
	W_POD,
	W_POD_NAME,
	W_POD_NAMESPACE,
	W_POD_SANDBOX,
	W_POD_SANDBOX_SHORT,
	/* of an event */
	W_EVENT_TYPE,
	W_CALL,
	W_IS_TYPE,
	W_CATEGORY,
	W_TIME,
	W_RUN_TIME,
	W_NUMBER,
	W_SOURCE,
	W_DIRECTION,
	W_HOST,
	W_ONE,
	W_NEVER,
	W_RESULT,
	W_RAW_RESULT,
	W_FAILED_COUNT,
	W_LATENCY,
	W_ALL_ARGUMENTS,
	W_ARGUMENT,
	W_RAW_ARGUMENT,
	/* of a file */
	W_PATH,
	W_SOURCE_PATH,
	W_TARGET_PATH,
	W_GIVEN_PATH,
	W_ABSOLUTE,
	W_FD,
	W_FD_NAME,
	W_FD_TYPE,
	W_FD_CHAR,
	W_FILE_INO,
	W_DEV,
	W_MAJOR,
	W_MINOR,
	W_OPEN_READ,
	W_OPEN_WRITE,
	W_OPEN_CREATE,
	W_OPEN_EXEC,
	/* of a socket */
	W_CLIENT,
	W_SERVER,
	W_LOCAL,
	W_REMOTE,
	W_CLIENT_PORT,
	W_SERVER_PORT,
	W_LOCAL_PORT,
	W_REMOTE_PORT,
	W_IS_SERVER,
	W_PROTOCOL,
	W_FAMILY,
	W_CONNECTED,
};

#endif
