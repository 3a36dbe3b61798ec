/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: how `sonde stats`, `sonde probes` and others ask a running agent. A Unix stream socket of mode 0600;
 * the client writes one line, the request's words, and reads one JSON document until the end of the stream.
 * The server lives in the agent's loop: it never blocks, holds 16 clients at most, and gives each 5 s for everything.
 */
#ifndef SONDE_CONTROL_H
#define SONDE_CONTROL_H

#include "base/base.h"

#define CONTROL_REQUEST_MAX 256         /* bytes of a request line */
#define CONTROL_ANSWER_MAX  (16u << 20) /* bytes of a document */
#define CONTROL_CLIENTS     16
#define CONTROL_TIMEOUT_NS  (5 * NS_PER_SEC)

struct control; /* opaque: the server */

/* Writes one JSON value for `request` (printable ASCII). 0, or a negative errno: -EINVAL is "unknown request"; what was written is
 * dropped then and the client is told. */
typedef int control_handler(void *context, const char *request, FILE *out);

/* A socket file that nobody serves is replaced. -EADDRINUSE: an agent answers there already; -EEXIST: `path` is no socket;
 * -ENAMETOOLONG, -EACCES ...; all with a sentence in `fault`. */
int control_open(struct control **ret, const char *path, control_handler *handler, void *context, struct fault *fault);
/* Removes the socket file, if it is still this server's and the rights are still there. */
void control_close(struct control *control);

/* Readable whenever control_serve() has something to do, timeouts included. */
int control_fd(const struct control *control);
void control_serve(struct control *control);

/* Asks the agent at `path`: its document, without the newline, in `ret_json`, to be freed. -ENOENT, -ECONNREFUSED: no agent
 * runs there; -EACCES; -ETIMEDOUT; -EREMOTEIO: the agent refused, its words are in `fault`; -EPIPE: the answer is cut short. */
int control_ask(const char *path, const char *request, char **ret_json, struct fault *fault);

#endif
