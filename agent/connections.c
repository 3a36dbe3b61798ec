/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of a process are links of /proc/PID/fd, by inode number; /proc/PID/net/tcp and tcp6, of its network namespace, have their ends. */
#include "connections.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#define ESTABLISHED 1u
#define SOCKETS_MAX 4096u /* descriptors of one process, of sockets of any kind */
#define ROWS_MAX    65536u

/* ---- of an event ---- */

static const void *key_of(const struct event_type *type, const struct sonde_event *event, const char *key,
			  enum field_how how)
{
	for (size_t i = 0; i < type->n_fields; i++)
		if (!strcmp(type->fields[i].key, key) && type->fields[i].how == how)
			return (const char *)event + type->fields[i].offset;
	return NULL;
}

static bool read_end(const struct event_type *type, const struct sonde_event *event, const char *address_key,
		     const char *port_key, char address[INET6_ADDRSTRLEN], unsigned *ret_port)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const uint8_t *ip = key_of(type, event, address_key, FIELD_IP);
	const void *port = key_of(type, event, port_key, FIELD_UINT);
	uint16_t number;

	if (!ip || !port)
		return false;
	memcpy(&number, port, sizeof number);
	*ret_port = number;
	if (!memcmp(ip, mapped, sizeof mapped))
		inet_ntop(AF_INET, ip + sizeof mapped, address, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, ip, address, INET6_ADDRSTRLEN);
	return number != 0;
}

bool connection_of_event(const struct event_type *type, const struct sonde_event *event, struct connection_ends *ret)
{
	return read_end(type, event, "laddr", "lport", ret->laddr, &ret->lport) &&
	       read_end(type, event, "raddr", "rport", ret->raddr, &ret->rport);
}

/* ---- of a process ---- */

struct looking {
	unsigned long inodes[SOCKETS_MAX];
	unsigned n_inodes, taken;
	bool more; /* than could be looked at */
	void (*take)(void *context, const struct connection_ends *ends);
	void *context;
};

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static int list_sockets(uint32_t pid, struct looking *l)
{
	_cleanup_(close_dir) DIR *dir = NULL;
	char path[48], target[64];

	snprintf(path, sizeof path, "/proc/%u/fd", pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	for (const struct dirent *entry; (entry = readdir(dir));) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
		unsigned long inode;

		target[n > 0 ? n : 0] = '\0';
		if (sscanf(target, "socket:[%lu]", &inode) != 1)
			continue;
		if (l->n_inodes < SOCKETS_MAX)
			l->inodes[l->n_inodes++] = inode;
		else
			l->more = true;
	}
	return 0;
}

static bool has_inode(const struct looking *l, unsigned long inode)
{
	for (unsigned i = 0; i < l->n_inodes; i++)
		if (l->inodes[i] == inode)
			return true;
	return false;
}

/* Words of 32 bits, each as this machine has it, in hex. */
static bool read_address(const char *hex, char ret[INET6_ADDRSTRLEN])
{
	size_t words = strlen(hex) / 8;
	uint32_t address[4] = { 0 };

	for (size_t i = 0; i < words && i < 4; i++)
		if (sscanf(hex + 8 * i, "%8x", &address[i]) != 1)
			return false;
	if (words == 4 && !address[0] && !address[1] && address[2] == htonl(0xffff))
		return inet_ntop(AF_INET, &address[3], ret, INET6_ADDRSTRLEN) != NULL;
	return inet_ntop(words == 4 ? AF_INET6 : AF_INET, address, ret, INET6_ADDRSTRLEN) != NULL;
}

static bool read_row(const char *line, const struct looking *l, struct connection_ends *ret)
{
	char local[33], remote[33];
	unsigned state;
	unsigned long inode;

	return sscanf(line, " %*u: %32[0-9A-F]:%x %32[0-9A-F]:%x %x %*s %*s %*s %*u %*u %lu", local, &ret->lport,
		      remote, &ret->rport, &state, &inode) == 6 &&
	       state == ESTABLISHED && has_inode(l, inode) && read_address(local, ret->laddr) &&
	       read_address(remote, ret->raddr);
}

static void take_row(struct looking *l, const struct connection_ends *ends)
{
	if (l->taken++ < CONNECTIONS_MAX)
		l->take(l->context, ends);
	else
		l->more = true;
}

static int read_table(uint32_t pid, const char *name, struct looking *l)
{
	char path[48], line[512];
	_cleanup_(close_file) FILE *file = NULL;
	struct connection_ends ends;
	unsigned rows = 0;

	snprintf(path, sizeof path, "/proc/%u/net/%s", pid, name);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof line, file)) {
		if (rows++ == ROWS_MAX) {
			l->more = true;
			break;
		}
		if (read_row(line, l, &ends))
			take_row(l, &ends);
	}
	return 0;
}

int connections_of_process(uint32_t pid, void (*take)(void *context, const struct connection_ends *ends), void *context)
{
	_cleanup_(free_pointer) struct looking *l = calloc(1, sizeof *l);
	int r;

	if (!l)
		return -ENOMEM;
	l->take = take;
	l->context = context;
	r = list_sockets(pid, l);
	if (r == 0)
		r = read_table(pid, "tcp", l);
	if (r < 0)
		return r;
	read_table(pid, "tcp6", l); /* a kernel may have none */
	return l->more;
}
