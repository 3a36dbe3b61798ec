/* SPDX-License-Identifier: Apache-2.0 */
/* For commands that go on until somebody ends them: SIGINT, SIGTERM and SIGHUP are blocked, and asked for where it is a good time to end. */
#ifndef SONDE_INTERRUPT_H
#define SONDE_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>

/* A reader that goes away is no signal either: writing fails. */
void interrupt_block(sigset_t *ret_asked);
/* Whether one of them came, which is then taken. */
bool interrupt_came(const sigset_t *asked);

#endif
