/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections of known truth. A few processes accept on one socket; a few others connect to it, one connection after another, every
 * second one over IPv6, every fourth one over IPv4 to the same dual-stack socket. Each end says of each connection what it saw,
 * in one line of standard output, with the ends as its own socket calls name them:
 *
 *	client|server PID LADDR LPORT RADDR RPORT SENT RECEIVED
 *
 * usage: load_tcp CONNECTIONS CLIENTS ACCEPTORS
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONGEST 20000

struct request {
	uint32_t up, down;
};

static char buffer[LONGEST];

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static void send_all(int fd, const void *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = send(fd, (const char *)data + at, size - at, MSG_NOSIGNAL);

		must(n > 0, "send");
		at += (size_t)n;
	}
}

static void receive_all(int fd, void *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = recv(fd, (char *)data + at, size - at, 0);

		must(n > 0, "recv");
		at += (size_t)n;
	}
}

/* IPv4 in IPv6 is written as IPv4. */
static const char *text_of(const struct sockaddr_storage *address, char text[INET6_ADDRSTRLEN], int *ret_port)
{
	const struct sockaddr_in *four = (const void *)address;
	const struct sockaddr_in6 *six = (const void *)address;
	int mapped = address->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);

	*ret_port = ntohs(address->ss_family == AF_INET ? four->sin_port : six->sin6_port);
	if (mapped)
		return inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, text, INET6_ADDRSTRLEN);
	return inet_ntop(address->ss_family,
			 address->ss_family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr, text,
			 INET6_ADDRSTRLEN);
}

static void report(const char *side, int fd, size_t sent, size_t received)
{
	struct sockaddr_storage here, there;
	socklen_t size = sizeof here;
	char line[256], local[INET6_ADDRSTRLEN], remote[INET6_ADDRSTRLEN];
	int lport, rport, n;

	must(!getsockname(fd, (void *)&here, &size), "getsockname");
	size = sizeof there;
	must(!getpeername(fd, (void *)&there, &size), "getpeername");
	text_of(&here, local, &lport);
	text_of(&there, remote, &rport);
	n = snprintf(line, sizeof line, "%s %d %s %d %s %d %zu %zu\n", side, getpid(), local, lport, remote, rport,
		     sent, received);
	must(write(STDOUT_FILENO, line, (size_t)n) == n, "write");
}

static void serve(int listener)
{
	for (;;) {
		struct request request;
		char end;
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		must(fd >= 0, "accept4");
		receive_all(fd, &request, sizeof request);
		receive_all(fd, buffer, request.up);
		/* Before the client has all that it waits for: with the last one's end this process is killed. */
		report("server", fd, request.down, sizeof request + request.up);
		send_all(fd, buffer, request.down);
		must(recv(fd, &end, 1, 0) == 0, "end");
		close(fd);
	}
}

static void connect_once(uint32_t number, uint16_t port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6,
				    .sin6_port = htons(port),
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct request request = { .up = number * 7 % LONGEST, .down = number * 13 % LONGEST };
	int fd = socket(number % 2 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	must(fd >= 0, "socket");
	four.sin_addr.s_addr = htonl(0x7f000001 + number / 2 % 100); /* more ports to go round */
	must(!(number % 2 ? connect(fd, (void *)&six, sizeof six) : connect(fd, (void *)&four, sizeof four)),
	     "connect");
	send_all(fd, &request, sizeof request);
	send_all(fd, buffer, request.up);
	receive_all(fd, buffer, request.down);
	report("client", fd, sizeof request + request.up, request.down);
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 100, clients = argc > 2 ? (unsigned)atoi(argv[2]) : 2,
		 acceptors = argc > 3 ? (unsigned)atoi(argv[3]) : 3, bad = 0;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT };
	socklen_t size = sizeof any;
	int listener = socket(AF_INET6, SOCK_STREAM, 0), zero = 0, status;
	pid_t pids[64];

	must(clients && acceptors && acceptors <= 64, "arguments");
	must(listener >= 0 && !setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero), "socket");
	must(!bind(listener, (void *)&any, sizeof any) && !listen(listener, 1024), "listen");
	must(!getsockname(listener, (void *)&any, &size), "getsockname");
	for (unsigned i = 0; i < acceptors; i++)
		if ((pids[i] = fork()) == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve(listener);
		}
	for (unsigned k = 0; k < clients; k++)
		if (fork() == 0) {
			for (unsigned i = k; i < n; i += clients)
				connect_once(i, ntohs(any.sin6_port));
			_exit(0);
		}
	for (unsigned k = 0; k < clients; k++) {
		wait(&status);
		bad |= (unsigned)status;
	}
	for (unsigned i = 0; i < acceptors; i++)
		kill(pids[i], SIGKILL);
	while (wait(&status) > 0)
		;
	return bad != 0;
}
