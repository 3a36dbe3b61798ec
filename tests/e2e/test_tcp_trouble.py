# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with TCP: connects that fail, resets, connections that nobody takes in; against errno, /proc/net and ss."""
import collections
import errno
import os
import select
import socket
import struct
import time

import common
import test_tcp
import wire

SAYS_REASON = common.KERNEL >= (6, 12)
SAYS_NO_SOCKET = common.KERNEL >= (6, 10)  # a reset for which there is no socket
FAMILIES = ((socket.AF_INET, ""), (socket.AF_INET6, ""), (socket.AF_INET6, "::ffff:"))


def connect(family, address, port, syns=1):
    """A socket that connects, and the error that it had at once."""
    sock = socket.socket(family)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, syns)
    error = sock.connect_ex((address, port))
    return sock, 0 if error == errno.EINPROGRESS else error


def error_of(sock):
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    poll.poll(common.bound(20) * 1000)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def free_port(family=socket.AF_INET):
    with socket.socket(family) as sock:
        sock.bind(("", 0))
        return sock.getsockname()[1]


def linger_0(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Trouble(common.TestCase):
    def failures(self, agent, space, wanted):
        """Connects to each (family, address, port) at once; each must fail as is said, and the stream must agree."""
        syns = {"ETIMEDOUT": 1}  # others take as long as a neighbour is asked for
        socks = [(space.run(connect, family, address, port, syns.get(error, 6)), address, port, error)
                 for family, address, port, error in wanted]
        for (sock, early), address, port, error in socks:
            found = early or error_of(sock)
            self.assertEqual(errno.errorcode.get(found, found), error, address)
            row = agent.wait_row("tcp.connect", lambda r, p=port: r["rport"] == p)
            self.assertEqual((row["error"], row["raddr"], row["pid"]),
                             (error, address.removeprefix("::ffff:"), os.getpid()))
            sock.close()
        ports = [port for _, _, port, _ in socks]
        time.sleep(0.2)  # for a second row, which must not come
        rows = collections.Counter(r["rport"] for r in agent.rows("tcp.*") if r["type"] in ("tcp.connect", "tcp.close"))
        self.assertEqual([rows[port] for port in ports], [1] * len(ports))

    def test_what_the_routing_table_refuses(self):
        with common.Agent(modules="tcp") as agent, wire.Space() as space:
            self.failures(agent, space, [(socket.AF_INET, "198.51.100.7", 7001, "ENETUNREACH"),
                                         (socket.AF_INET6, "2001:db8::7", 7002, "ENETUNREACH"),
                                         (socket.AF_INET6, "::ffff:198.51.100.8", 7003, "ENETUNREACH")])
            row = agent.wait_row("tcp.connect", lambda r: r["rport"] == 7001)
            self.assertEqual((row["laddr"], row["lport"], row["latency_ns"]), ("0.0.0.0", 0, 0))

    @common.host_only("routes that refuse, and TUN")
    def test_each_failure_has_its_cause(self):
        with common.Agent(modules="tcp") as agent, wire.Space() as space, wire.Wire(space, lambda packet: []):
            for command in ("route add unreachable 10.9.9.0/24", "route add prohibit 10.9.7.0/24",
                            "link add left type veth peer name right", "addr add 10.7.0.1/24 dev left",
                            "-6 addr add fd07::1/64 dev left nodad", "link set left up", "link set right up"):
                space.command("ip", *command.split())
            wanted = [(socket.AF_INET, "10.9.9.1", 7101, "EHOSTUNREACH"), (socket.AF_INET, "10.9.7.1", 7102, "EACCES"),
                      (socket.AF_INET6, "::ffff:10.9.9.1", 7103, "EHOSTUNREACH")]
            for i, (family, mapped) in enumerate(FAMILIES):
                plain = family == socket.AF_INET6 and not mapped
                wanted += [(family, "::1" if plain else mapped + "127.0.0.1", 7110 + i, "ECONNREFUSED"),
                           (family, "fd08::2" if plain else mapped + "10.8.0.2", 7120 + i, "ETIMEDOUT"),
                           (family, "fd07::2" if plain else mapped + "10.7.0.2", 7130 + i, "EHOSTUNREACH")]
            self.failures(agent, space, wanted)
            for i in range(3):
                rows = {port: agent.wait_row("tcp.connect", lambda r, p=port: r["rport"] == p)
                        for port in (7110 + i, 7120 + i, 7130 + i)}
                self.assertLess(rows[7110 + i]["latency_ns"], 0.9e9)
                for port in (7120 + i, 7130 + i):
                    self.assertGreater(rows[port]["latency_ns"], 0.9e9)

    def reset_rows(self, agent, four, direction):
        return agent.wait_rows("tcp.reset", lambda r: test_tcp.ends(r) == four and r["direction"] == direction)

    def pair(self, ports, space, family=socket.AF_INET):
        client, server = space.run(test_tcp.pair, family)
        ports |= {client.getsockname()[1], server.getsockname()[1]}
        return client, server, test_tcp.ends_of(client), test_tcp.ends_of(server)

    def assertReset(self, row, side, state, reason, owned=True):
        self.assertEqual((row.get("side"), row.get("state")), (side, state), row)
        self.assertEqual(row.get("pid"), os.getpid() if owned else None, row)
        self.assertEqual(row.get("reason"), reason if SAYS_REASON else None, row)

    def test_resets_of_a_port_where_nobody_listens(self):
        ports = set()
        with common.Agent(modules="tcp") as agent, wire.Space() as space:
            for family, mapped in FAMILIES:
                plain = family == socket.AF_INET6 and not mapped
                local = "::1" if plain else "127.0.0.1"
                port = space.run(free_port, family)
                ports.add(port)
                sock, early = space.run(connect, family, mapped + local, port)
                self.assertEqual(early or error_of(sock), errno.ECONNREFUSED)
                received = agent.wait_row("tcp.reset", lambda r, p=port: r["rport"] == p)
                self.assertReset(received, "client", "syn_sent", None)
                self.assertEqual((received["direction"], received["laddr"], received["raddr"]), ("received", local, local))
                sock.close()
                if SAYS_NO_SOCKET:
                    sent = self.reset_rows(agent, (local, port, local, received["lport"]), "sent")[0]
                    self.assertReset(sent, None, None, "no_socket", owned=False)
            agent.stop()
            sent = [r for r in agent.rows("tcp.reset") if r["direction"] == "sent" and r["lport"] in ports]
            if SAYS_NO_SOCKET:
                self.assertEqual(len(sent), space.counter("snmp", "Tcp", "OutRsts"))

    def test_resets_of_connections(self):
        ports = set()
        with common.Agent(modules="tcp") as agent, wire.Space() as space:
            # The server closes with unread data.
            client, server, ours, theirs = self.pair(ports, space)
            client.sendall(bytes(100))
            select.select([server], [], [], 5)
            server.close()
            self.assertReset(self.reset_rows(agent, theirs, "sent")[0], "server", "established", "abort_on_close")
            self.assertReset(self.reset_rows(agent, ours, "received")[0], "client", "established", None)
            client.close()
            # The client gives up at once, IPv6.
            client, server, ours, theirs = self.pair(ports, space, socket.AF_INET6)
            linger_0(client)
            client.close()
            self.assertReset(self.reset_rows(agent, ours, "sent")[0], "client", "established", "disconnect")
            self.assertReset(self.reset_rows(agent, theirs, "received")[0], "server", "established", None)
            server.close()
            # The server does, after the client's last word.
            client, server, ours, theirs = self.pair(ports, space)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(server.recv(1), b"")
            common.wait_until(lambda: client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x05", what="FIN_WAIT2")
            linger_0(server)
            server.close()
            self.assertReset(self.reset_rows(agent, theirs, "sent")[0], "server", "close_wait", "disconnect")
            self.assertReset(self.reset_rows(agent, ours, "received")[0], "client", "fin_wait2", None)
            client.close()
            # Data for who has closed already, and whose FIN it acknowledges.
            client, server, ours, theirs = self.pair(ports, space)
            server.close()
            common.wait_until(lambda: client.recv(1) == b"", what="the server's FIN")
            client.sendall(bytes(10))
            self.assertReset(self.reset_rows(agent, theirs, "sent")[0], "server", "fin_wait2", "abort_on_data")
            self.assertReset(self.reset_rows(agent, ours, "received")[0], "client", "close_wait", None)
            client.close()
            agent.stop()
            rows = agent.rows()
            sent = [r for r in rows if r["type"] == "tcp.reset" and r["direction"] == "sent" and r["lport"] in ports]
            self.assertEqual(len(sent), space.counter("snmp", "Tcp", "OutRsts"))
            self.assertLedgerExact(rows)

    @common.host_only("TUN")
    def test_an_abort_is_no_reset_received(self):
        with common.Agent(modules="tcp") as agent, wire.Space() as space:
            with wire.Wire(space, lambda packet: [] if packet[33] & 1 else [packet]):  # FINs are lost
                pairs = []
                for _ in range(2):
                    server = space.run(socket.create_server, ("10.8.0.1", 0))
                    client = space.run(socket.create_connection, ("10.8.0.2", server.getsockname()[1]))
                    pairs.append((client, server.accept()[0]))
                    server.close()
                ends = [(test_tcp.ends_of(client), test_tcp.ends_of(server)) for client, server in pairs]
                for _, server in pairs:
                    server.close()
                pairs[0][0].sendall(bytes(10))
                linger_0(pairs[1][0])
                pairs[1][0].close()
                self.assertReset(self.reset_rows(agent, ends[0][1], "sent")[0], "server", "fin_wait1", "abort_on_data")
                self.assertReset(self.reset_rows(agent, ends[0][0], "received")[0], "client", "established", None)
                self.assertReset(self.reset_rows(agent, ends[1][0], "sent")[0], "client", "established", "disconnect")
                self.assertReset(self.reset_rows(agent, ends[1][1], "received")[0], "server", "fin_wait1", None)
                pairs[0][0].close()
                agent.stop()
                rows = collections.Counter(test_tcp.ends(r) for r in agent.rows("tcp.reset"))
                self.assertEqual([rows[four] for both in ends for four in both], [1] * 4)

    @common.host_only("TUN")
    def test_resets_of_what_comes_to_a_listener(self):
        with common.Agent(modules="tcp") as agent, wire.Space() as space, wire.Wire(space, lambda packet: []) as line:
            server = space.run(socket.socket)
            server.bind(("10.8.0.1", 0))
            server.listen()
            port = server.getsockname()[1]
            line.put(wire.segment("10.8.0.9", "10.8.0.1", 4321, port, ack=99, flags=16))
            row = self.reset_rows(agent, ("10.8.0.1", port, "10.8.0.9", 4321), "sent")[0]
            self.assertEqual((row["state"], row["pid"]), ("listen", os.getpid()))
            self.assertNotIn("side", row)
            server.close()

    def drops(self, agent, port):
        return [r for r in agent.rows("tcp.listen_drop") if r["lport"] == port]

    def test_connections_that_nobody_takes_in(self):
        for older in (False, True):
            with wire.Space() as space:
                def listen():
                    sock = socket.socket(socket.AF_INET6)
                    sock.bind(("::", 0))
                    sock.listen(2)
                    return sock
                server = space.run(listen) if older else None
                with common.Agent(modules="tcp") as agent:
                    server = server or space.run(listen)
                    port = server.getsockname()[1]
                    clients = [space.run(connect, socket.AF_INET, "127.0.0.1", port, 6)[0] for _ in range(12)]
                    row = agent.wait_row("tcp.listen_drop", lambda r: r["lport"] == port)
                    self.assertEqual((row["reason"], row["backlog"], row["accept_queue"]), ("accept_queue", 2, 3))
                    self.assertEqual((row["laddr"], row["pid"]), ("::", os.getpid()))
                    self.assertGreaterEqual(row["window_ns"], 0.9e9)
                    # The SYNs come again, a second after the first.
                    agent.wait_rows("tcp.listen_drop", lambda r: r["lport"] == port, 2)
                    for sock in clients:
                        sock.close()
                    agent.stop()
                    dropped = space.counter("netstat", "TcpExt", "ListenDrops")
                    rows = agent.rows()
                    self.assertEqual(sum(r["count"] for r in self.drops(agent, port)), dropped)
                    self.assertGreaterEqual(dropped, 12 - 3)
                    self.assertEqual(space.counter("netstat", "TcpExt", "ListenOverflows"), dropped)
                    self.assertLedgerExact(rows)
                server.close()

    @common.host_only("TUN")
    def test_handshakes_that_are_never_finished(self):
        with common.Agent(modules="tcp") as agent, wire.Space() as space, wire.Wire(space, lambda packet: []) as line:
            space.set("tcp_syncookies", 0)
            server = space.run(socket.socket)
            server.bind(("10.8.0.1", 0))
            server.listen(8)
            port = server.getsockname()[1]
            for i in range(40):
                line.put(wire.segment("10.8.0.9", "10.8.0.1", 5000 + i, port))
            row = agent.wait_row("tcp.listen_drop", lambda r: r["lport"] == port)
            self.assertEqual((row["reason"], row["backlog"], row["accept_queue"]), ("syn_queue", 8, 0))
            self.assertGreaterEqual(row["syn_queue"], 8)
            agent.stop()
            self.assertEqual(sum(r["count"] for r in self.drops(agent, port)),
                             space.counter("netstat", "TcpExt", "ListenDrops"))
            server.close()

    def test_a_listener_that_drops_nothing_says_nothing(self):
        with common.Agent(modules="tcp") as agent, wire.Space() as space:
            server = space.run(test_tcp.listener)
            for _ in range(20):
                client = space.run(socket.create_connection, server.getsockname())
                server.accept()[0].close()
                client.close()
            server.close()
            time.sleep(1.3)  # longer than a window
            agent.stop()
            self.assertEqual(agent.rows("tcp.listen_drop"), [])


if __name__ == "__main__":
    import unittest
    unittest.main()
