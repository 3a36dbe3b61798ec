/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of Java's compiled code: a JVM (17 and newer) writes /tmp/perf-PID.map, in its own mount and pid namespaces, when it is
 * asked to by the attach protocol, as `jcmd PID Compiler.perfmap` does.
 *
 * Asking means a signal to the JVM and a file in its folder, so it is done only where the configuration allows it, and only to
 * a process that maps libjvm.so and catches SIGQUIT: that signal kills any other. It has to be done with the JVM's own user,
 * which the agent cannot become after its start. So a keeper is forked before privileges are dropped: a process that takes
 * numbers of processes, checks them itself, and attaches in a child with the target's user and no capability.
 */
#ifndef SONDE_JVM_H
#define SONDE_JVM_H

#include "base/base.h"

#define JVM_WAIT_MS 5000 /* for everything that one attach takes */

/* What is known of a process that is a JVM. */
struct jvm {
	int pid, ns_pid;   /* as we see it; as it sees itself */
	unsigned uid, gid; /* effective */
};

/* Fills `ret` when the process is a JVM that can be asked. -ENOEXEC: it is none; -ESRCH: there is no such process; -ENODEV: it is
 * one that does not catch SIGQUIT (-Xrs), compiles nothing (still starting, or -Xint), or that lets nobody attach (-XX:+DisableAttachMechanism); -EACCES. Needs CAP_SYS_PTRACE for processes of others. */
int jvm_look(int pid, struct jvm *ret);

/* Asks the JVM for its map and waits for it. Becomes the JVM's user for good: call it in a process made for it. 0; as for
 * jvm_look(); -ETIMEDOUT: no answer; -EPERM: what answers is not the JVM, or the map's name is taken by another's file or a link; -EOPNOTSUPP: it knows no such command (before 17);
 * -EBADMSG. */
int jvm_attach(int pid, int wait_ms);

/* ---- the keeper ---- */

struct jvm_keeper; /* opaque: the agent's end */

/* Forks it; `uid` is who it is while it waits (0: who we are). Needs CAP_SETUID, CAP_SETGID and CAP_SYS_PTRACE, which it keeps,
 * and gives every other up. Call it with one thread and before privilege_drop(). */
int jvm_keeper_start(struct jvm_keeper **ret, unsigned uid);
/* Closes it and waits for its end, an attach under way included. */
void jvm_keeper_stop(struct jvm_keeper *keeper);

/* Readable when there is an answer, or when the keeper is gone. */
int jvm_keeper_fd(const struct jvm_keeper *keeper);
/* Does not block. 0; -EAGAIN: too many questions wait; -EPIPE: the keeper is gone. Questions are worked on one by one. */
int jvm_keeper_ask(struct jvm_keeper *keeper, int pid);
/* One answer: `ret_result` as jvm_attach() returns. 0; -EAGAIN: none yet; -EPIPE. */
int jvm_keeper_answer(struct jvm_keeper *keeper, int *ret_pid, int *ret_result);

#endif
