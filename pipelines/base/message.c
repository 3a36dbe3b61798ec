/* SPDX-License-Identifier: Apache-2.0 */
/* Source: unix(7), SCM_RIGHTS. */
#include "base/message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(MESSAGE_FILES * sizeof(int))];
};

int message_send(int socket, const void *bytes, size_t size, const int *fds, unsigned n_fds, int flags)
{
	union control control = { 0 };
	struct iovec part = { .iov_base = (void *)bytes, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (n_fds) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof *fds);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(n_fds * sizeof *fds);
		memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof *fds);
	}
	for (;;) {
		if (sendmsg(socket, &message, flags | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		return errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS ? -EAGAIN : -EPIPE;
	}
}

ssize_t message_receive(int socket, void *bytes, size_t size, int *fds, int flags)
{
	union control control;
	struct iovec part = { .iov_base = bytes, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t n;

	for (unsigned i = 0; fds && i < MESSAGE_FILES; i++)
		fds[i] = -1;
	if (fds) {
		message.msg_control = &control;
		message.msg_controllen = sizeof control.room;
	}
	do
		n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	struct cmsghdr *header = fds ? CMSG_FIRSTHDR(&message) : NULL;

	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len >= CMSG_LEN(sizeof(int)))
		memcpy(fds, CMSG_DATA(header),
		       MIN_OF(header->cmsg_len - CMSG_LEN(0), (size_t)MESSAGE_FILES * sizeof(int)));
	return n;
}
