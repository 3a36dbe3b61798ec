/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of a connection. Which end is the client's is what was called. */
#include "alerts/live_state.h"

#include <arpa/inet.h>
#include <string.h>

static bool ends_with(const struct live *live, const char *verb)
{
	const char *name = live->type->type->name;
	size_t n = strlen(name), length = strlen(verb);

	return n >= length && strcmp(name + n - length, verb) == 0;
}

static bool is_server(const struct live *live)
{
	return ends_with(live, ".accept") || ends_with(live, ".listen") || ends_with(live, ".bind");
}

bool has_addresses(const struct live *live)
{
	return live->type->keys[KEY_laddr] || live->type->keys[KEY_raddr];
}

/* The address, or port, of the local or the remote end. */
static bool give_end(struct live *live, bool local, bool port, struct rule_value *ret)
{
	enum live_key key = port ? (local ? KEY_lport : KEY_rport) : (local ? KEY_laddr : KEY_raddr);

	if (record_key(live, key, ret))
		return port || ret->kind == RULE_ADDRESS;
	/* Of a call that failed, what it was given: the far end of a connect, the near one of a bind. */
	if (!record_failed(live) || local != ends_with(live, ".bind"))
		return false;
	return record_key(live, port ? KEY_port_given : KEY_addr_given, ret) && (port || ret->kind == RULE_ADDRESS);
}

bool give_some_address(struct live *live, struct rule_value *ret)
{
	return record_key(live, KEY_raddr, ret) || record_key(live, KEY_laddr, ret) ||
	       (record_failed(live) && record_key(live, KEY_addr_given, ret) && ret->kind == RULE_ADDRESS);
}

static size_t write_address(const uint8_t *address, char room[INET6_ADDRSTRLEN])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool four = !memcmp(address, mapped, sizeof mapped);

	inet_ntop(four ? AF_INET : AF_INET6, four ? address + 12 : address, room, INET6_ADDRSTRLEN);
	return strlen(room);
}

static void write_end(struct live *live, bool local, char *room, size_t size)
{
	struct rule_value address, port;
	char text[INET6_ADDRSTRLEN] = "";

	*room = '\0';
	if (!give_end(live, local, false, &address))
		return;
	write_address(address.address, text);
	if (give_end(live, local, true, &port))
		snprintf(room, size, "%s:%u", text, (unsigned)port.number);
	else
		snprintf(room, size, "%s", text);
}

/* client:port->server:port; of one end alone, that. */
bool give_connection(struct live *live, struct rule_value *ret)
{
	char local[64], remote[64];
	bool server;

	if (!has_addresses(live))
		return false;
	server = is_server(live);
	write_end(live, true, local, sizeof local);
	write_end(live, false, remote, sizeof remote);
	if (!*local || !*remote)
		return (*local || *remote) && give_made(live, ret, "%s%s", local, remote);
	return give_made(live, ret, "%s->%s", server ? remote : local, server ? local : remote);
}

static bool give_protocol(struct live *live, struct rule_value *ret)
{
	const char *name = live->type->type->name;

	if (record_key(live, KEY_protocol, ret)) {
		if (ret->kind == RULE_NUMBER && (ret->number == 6 || ret->number == 17))
			return give_text(ret, ret->number == 6 ? "tcp" : "udp", 3);
		return true;
	}
	return (!strncmp(name, "tcp.", 4) || !strncmp(name, "udp.", 4)) && give_text(ret, name, 3);
}

static bool give_family(struct live *live, struct rule_value *ret)
{
	struct rule_value v;

	if (give_some_address(live, &v))
		return give_text(ret, "ip", 2);
	return !strncmp(live->type->type->name, "net.", 4) && live->type->keys[KEY_path] &&
	       record_key(live, KEY_path, &v) && give_text(ret, "unix", 4);
}

static bool give_connected(struct live *live, struct rule_value *ret)
{
	int64_t error;

	if (!ends_with(live, ".connect") && !ends_with(live, ".accept"))
		return false;
	return give_truth(ret, !record_number(live, KEY_error, &error) || !error);
}

bool get_socket(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	bool server;

	switch (how->what) {
	case W_PROTOCOL:
		return give_protocol(live, ret);
	case W_FAMILY:
		return give_family(live, ret);
	case W_CONNECTED:
		return give_connected(live, ret);
	}
	if (!has_addresses(live))
		return false;
	server = is_server(live);
	switch (how->what) {
	case W_CLIENT:
	case W_CLIENT_PORT:
		return give_end(live, !server, how->what == W_CLIENT_PORT, ret);
	case W_SERVER:
	case W_SERVER_PORT:
		return give_end(live, server, how->what == W_SERVER_PORT, ret);
	case W_LOCAL:
	case W_LOCAL_PORT:
		return give_end(live, true, how->what == W_LOCAL_PORT, ret);
	case W_REMOTE:
	case W_REMOTE_PORT:
		return give_end(live, false, how->what == W_REMOTE_PORT, ret);
	default:
		return give_truth(ret, server);
	}
}
