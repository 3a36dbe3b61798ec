/* SPDX-License-Identifier: Apache-2.0 */
/* Messages with descriptors over a sequenced-packet socket, between the agent and its helpers. None of it allocates. */
#ifndef SONDE_MESSAGE_H
#define SONDE_MESSAGE_H

#include <stddef.h>
#include <sys/types.h>

#define MESSAGE_FILES 2

/* Sends `size` bytes and the first `n_fds` of `fds`; `flags` as of sendmsg(2). 0; -EAGAIN: there is no room now; -EPIPE: the other end is gone. */
int message_send(int socket, const void *bytes, size_t size, const int *fds, unsigned n_fds, int flags);

/* Receives one message. Returns its size, 0 at the end of the connection, or a negative errno. Descriptors that were not asked for (`fds` NULL) are
 * not taken; of MESSAGE_FILES others, those not sent are -1. */
ssize_t message_receive(int socket, void *bytes, size_t size, int *fds, int flags);

#endif
