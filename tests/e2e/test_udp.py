# SPDX-License-Identifier: Apache-2.0
"""udp.socket against what the ends of the datagrams count themselves, and against /proc/net/udp."""
import collections
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import common
import wire

MSG_ERRQUEUE, IP_RECVERR, SO_RCVBUFFORCE = 0x2000, 11, 33
COUNTS = ("sent", "received", "sent_bytes", "received_bytes", "errors", "drops")
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def made(family=socket.AF_INET, address=None, buffer=0):
    """A bound socket; `buffer`: bytes of its receive buffer, beyond what a user may ask for."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    sock.bind((LOOPBACK[family] if address is None else address, 0))
    return sock


def connected(to, family=None, address=None):
    sock = socket.socket(family or to.family, socket.SOCK_DGRAM)
    sock.connect((address or to.getsockname()[0], to.getsockname()[1]))
    return sock


def port_of(sock):
    return sock.getsockname()[1]


def kernel_drops(port, pid="self"):
    """The kernel's own count of what was dropped at a port, both families."""
    total = 0
    for name in ("udp", "udp6"):
        with open(f"/proc/{pid}/net/{name}") as table:
            for line in table.read().splitlines()[1:]:
                words = line.split()
                if int(words[1].rpartition(":")[2], 16) == port:
                    total += int(words[-1])
    return total


def net_ns(pid="self"):
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def closed_port():
    with made() as sock:
        return port_of(sock)


def receive_all(sock):
    """What is in the socket: number and bytes."""
    count = total = 0
    sock.setblocking(False)
    try:
        while True:
            total += len(sock.recv(65536))
            count += 1
    except BlockingIOError:
        return count, total


class TestCase(common.TestCase):
    def agent(self, **settings):
        interval = settings.pop("interval", "1h")
        return common.Agent(modules="udp", settings={"modules.udp.interval": interval, **settings})

    def stopped(self, agent):
        """All rows of a run, by their local ports."""
        agent.stop()
        rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        self.assertEqual([r for r in rows if r["type"] == "agent.loss"], [])
        found = collections.defaultdict(list)
        for row in rows:
            if row["type"] == "udp.socket":
                found[row["lport"]].append(row)
        return found

    def check(self, rows, closed=True, **expected):
        """The sums of a socket's rows; only the last of them may say that it was closed."""
        sums = {key: sum(row[key] for row in rows) for key in COUNTS}
        self.assertEqual(sums, {**dict.fromkeys(COUNTS, 0), **expected}, rows)
        self.assertEqual([row["closed"] for row in rows], [False] * (len(rows) - 1) + [closed])


class Udp(TestCase):
    def exchange(self, family, address, client_family=None, client_address=None):
        sizes = [0, 1, 8, 100, 1472, 9000] * common.scaled(50, 20)
        with self.agent() as agent:
            begun = time.monotonic_ns()
            server = made(family, address, 1 << 20)
            client = connected(server, client_family, client_address)
            ports = port_of(client), port_of(server)
            for size in sizes:
                client.send(bytes(size))
                server.recv(65536, socket.MSG_PEEK)
                data, back = server.recvfrom(65536)
                self.assertEqual(len(data), size)
                server.sendto(b"answer", back)
                self.assertEqual(client.recv(3), b"ans")
            there = client.getsockname()[0], client.getpeername()[0], server.getsockname()[0]
            client.close()
            server.close()
            life = time.monotonic_ns() - begun
            rows = self.stopped(agent)
        count, total = len(sizes), sum(sizes)
        self.check(rows[ports[0]], sent=count, sent_bytes=total, received=count, received_bytes=3 * count)
        self.check(rows[ports[1]], received=count, received_bytes=total, sent=count, sent_bytes=6 * count)
        self.assertEqual((len(rows[ports[0]]), len(rows[ports[1]])), (1, 1))
        for row in rows[ports[0]] + rows[ports[1]]:
            self.assertEqual((row["pid"], row["tid"]), (os.getpid(), os.getpid()))
            self.assertEqual(row["net_ns"], net_ns())
            self.assertTrue(0 < row["life_ns"] <= life, row)
            self.assertEqual(row["window_ns"], row["life_ns"])
        return rows[ports[0]][0], rows[ports[1]][0], there

    def test_what_another_hook_does_is_not_missing(self):
        """The hooks of IPv6 are not needed where those of all sockets are there, and nobody is told that something was missing."""
        with self.agent() as agent:
            self.assertNotIn("runs without", agent.output())

    def test_ip4(self):
        client, server, (local, remote, bound) = self.exchange(socket.AF_INET, "127.0.0.1")
        self.assertEqual((client["laddr"], client["raddr"], client["rport"]), (local, remote, server["lport"]))
        self.assertEqual(server["laddr"], bound)
        self.assertFalse({"raddr", "rport"} & set(server))

    def test_ip6(self):
        client, server, (local, remote, bound) = self.exchange(socket.AF_INET6, "::1")
        self.assertEqual((client["laddr"], client["raddr"], client["rport"]), (local, remote, server["lport"]))
        self.assertEqual(server["laddr"], bound)
        self.assertFalse({"raddr", "rport"} & set(server))

    def test_mapped_addresses_are_ip4(self):
        """An IPv6 socket that talks IPv4, at both ends."""
        client, server, _ = self.exchange(socket.AF_INET6, "::", socket.AF_INET6, "::ffff:127.0.0.1")
        self.assertEqual((client["laddr"], client["raddr"]), ("127.0.0.1", "127.0.0.1"))
        self.assertEqual(server["laddr"], "::")

    def test_drops_are_the_kernels(self):
        with self.agent() as agent:
            truth = {}
            for family in LOOPBACK:
                server = made(family, buffer=8192)
                client = connected(server)
                for _ in range(200):
                    client.send(bytes(500))
                dropped, port = kernel_drops(port_of(server)), port_of(server)
                received, total = receive_all(server)
                self.assertEqual(received + dropped, 200)
                self.assertGreater(dropped, 0)
                truth[port] = {"drops": dropped, "received": received, "received_bytes": total}
                client.close()
                server.close()
            rows = self.stopped(agent)
        for port, expected in truth.items():
            self.check(rows[port], **expected)

    @common.same_on_every_kernel
    def test_rows_of_a_socket_that_lives(self):
        """What the rows tell adds up, whatever was said meanwhile, and the last has the rest."""
        with self.agent(interval="200ms") as agent:
            server, sent = made(buffer=1 << 20), 0
            client = connected(server)
            ports = port_of(client), port_of(server)
            begun = time.monotonic()
            while time.monotonic() < begun + 2:
                client.send(b"datagram")
                server.recv(100)
                sent += 1
            agent.wait_rows("udp.socket", lambda r: r["lport"] == ports[0], 3)
            client.close()
            server.close()
            rows = self.stopped(agent)
        self.check(rows[ports[0]], sent=sent, sent_bytes=8 * sent)
        self.check(rows[ports[1]], received=sent, received_bytes=8 * sent)
        for port in ports:
            self.assertGreater(len(rows[port]), 3)
            self.assertEqual(sum(r["window_ns"] for r in rows[port]), rows[port][-1]["life_ns"])
            for before, after in zip(rows[port], rows[port][1:]):
                self.assertAlmostEqual(after["ts"] - before["ts"], after["window_ns"], delta=2e6)

    @common.same_on_every_kernel
    def test_what_does_nothing_has_no_row(self):
        with self.agent(interval="200ms") as agent:
            idle = made()
            quiet, talks = made(), made()
            talks.sendto(b"once", quiet.getsockname())
            ports = port_of(idle), port_of(quiet), port_of(talks)
            agent.wait_row("udp.socket", lambda r: r["lport"] == ports[2])
            time.sleep(1)  # five intervals in which nothing happens: what is looked for is that nothing comes
            rows = self.stopped(agent)
            for sock in (idle, quiet, talks):
                sock.close()
        self.assertEqual([len(rows[port]) for port in ports], [0, 0, 1])
        self.check(rows[ports[2]], closed=False, sent=1, sent_bytes=4)

    def test_many_threads_lose_no_count(self):
        count = common.scaled(20000, 1000)
        with self.agent(interval="100ms") as agent:
            server = made(buffer=64 << 20)
            shared = connected(server)
            ports = port_of(shared), port_of(server)
            threads = [threading.Thread(target=lambda: [shared.send(bytes(10)) for _ in range(count)]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            dropped = kernel_drops(ports[1])
            received, total = receive_all(server)
            self.assertEqual(received + dropped, 4 * count)
            shared.close()
            server.close()
            rows = self.stopped(agent)
        self.check(rows[ports[0]], sent=4 * count, sent_bytes=40 * count)
        expected = {"received": received, "received_bytes": total, "drops": dropped}
        self.check(rows[ports[1]], **expected)

    def test_icmp_errors(self):
        """Each datagram to where nobody listens brings one; the call that then fails is the same error."""
        for option in (False, True):
            with self.subTest(queue=option), self.agent() as agent:
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                if option:
                    client.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                client.connect(("127.0.0.1", closed_port()))
                port, sent, refused, queued = port_of(client), 0, 0, 0
                client.setblocking(False)
                for i in range(300):
                    try:
                        client.send(b"anyone?") if i % 3 else client.recv(10)
                        sent += i % 3 > 0
                    except ConnectionRefusedError:
                        refused += 1
                    except BlockingIOError:
                        pass
                    while option and i % 7 == 0:
                        try:
                            client.recvmsg(100, 1000, MSG_ERRQUEUE)
                            queued += 1
                        except BlockingIOError:
                            break
                self.assertTrue(0 < refused <= sent)
                while option:
                    try:
                        client.recvmsg(100, 1000, MSG_ERRQUEUE)
                        queued += 1
                    except BlockingIOError:
                        self.assertEqual(queued, sent)
                        break
                client.close()
                rows = self.stopped(agent)
                self.check(rows[port], sent=sent, sent_bytes=7 * sent, errors=sent)

    def test_calls_that_cannot_send(self):
        with self.agent() as agent:
            server = made()
            client = made()
            port, failed = port_of(client), collections.Counter()
            for data, to in [(bytes(70000), server.getsockname()), (b"x", ("255.255.255.255", 9)), (b"x", server.getsockname())] * 20:
                try:
                    client.sendto(data, to)
                except OSError as error:
                    failed[error.errno] += 1
            self.assertEqual(failed, {errno.EMSGSIZE: 20, errno.EACCES: 20})
            client.close()
            server.close()
            rows = self.stopped(agent)
        self.check(rows[port], sent=20, sent_bytes=20, errors=40)

    def test_reads_that_bring_nothing(self):
        with self.agent() as agent:
            server = made()
            client, port = connected(server), port_of(server)
            server.setblocking(False)
            for _ in range(10):
                self.assertRaises(BlockingIOError, server.recv, 10)
            client.send(b"")
            self.assertEqual(server.recv(10), b"")
            client.send(b"more than is read")
            self.assertEqual(server.recv(4), b"more")
            client.close()
            server.connect(("127.0.0.1", closed_port()))
            server.shutdown(socket.SHUT_RD)
            server.setblocking(True)
            for _ in range(10):
                self.assertEqual(server.recv(10), b"")
            server.close()
            rows = self.stopped(agent)
        self.check(rows[port], received=2, received_bytes=4)

    @common.same_on_every_kernel
    def test_other_sockets_have_no_rows(self):
        with self.agent(interval="200ms") as agent:
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
            listener = socket.create_server(("127.0.0.1", 0))
            client = socket.create_connection(listener.getsockname())
            for sock in (pair[0], client):
                sock.send(b"data")
            raw.sendto(struct.pack(">HHHH", 9, 9, 8, 0), ("127.0.0.1", 9))
            with made() as known, connected(known) as sender:
                sender.send(b"data")
                port = port_of(sender)
            agent.wait_row("udp.socket", lambda r: r["lport"] == port)
            agent.stop()
            mine = [r for r in agent.rows("udp.socket") if r.get("pid") == os.getpid()]
            for sock in (*pair, raw, client, listener):
                sock.close()
        self.assertEqual([r["lport"] for r in mine], [port])

    def test_whose_it_is(self):
        """Who used it last, not who made it."""
        program = "import os, socket, sys\nsock = socket.socket(fileno=int(sys.argv[1]))\nfor _ in range(5): sock.send(b'child')\n"
        with self.agent() as agent:
            server = made()
            client = connected(server)
            port = port_of(client)
            client.send(b"parent")
            child = subprocess.Popen([sys.executable, "-c", program, str(client.fileno())], pass_fds=[client.fileno()])
            self.assertEqual(child.wait(common.bound(30)), 0)
            client.close()
            server.close()
            rows = self.stopped(agent)
        self.check(rows[port], sent=6, sent_bytes=31)
        self.assertEqual(rows[port][0]["pid"], child.pid)

    @common.same_on_every_kernel
    def test_another_program_of_the_same_process(self):
        program = ("import os, socket, sys\nsock = socket.socket(fileno=int(sys.argv[1]))\nsock.send(b'before')\nos.dup2(sock.fileno(), 1)\n"
                   "os.execv('/bin/echo', ['echo', '-n', 'after'])\n")
        with self.agent() as agent:
            server = made()
            client = connected(server)
            port = port_of(client)
            child = subprocess.Popen([sys.executable, "-c", program, str(client.fileno())], pass_fds=[client.fileno()])
            self.assertEqual(child.wait(common.bound(30)), 0)
            client.close()
            server.close()
            rows = self.stopped(agent)
        self.check(rows[port], sent=2, sent_bytes=11)
        self.assertEqual((rows[port][0]["pid"], rows[port][0]["comm"]), (child.pid, "echo"))

    @common.host_only("veth devices")
    def test_what_only_asks_to_try_again_is_no_error(self):
        """The buffer is full of datagrams for a neighbour that is still asked for."""
        with wire.Space() as space, self.agent() as agent:
            for command in ("link add left type veth peer name right", "addr add 10.7.0.1/24 dev left", "link set left up", "link set right up"):
                space.command("ip", *command.split())
            client = space.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            client.setblocking(False)
            sent = again = 0
            for _ in range(100):
                try:
                    client.sendto(bytes(1000), ("10.7.0.2", 9))
                    sent += 1
                except BlockingIOError:
                    again += 1
            port = port_of(client)
            client.close()
            rows = self.stopped(agent)
        self.assertGreater(again, 50)
        self.check(rows[port], sent=sent, sent_bytes=1000 * sent)

    def test_sockets_older_than_the_agent(self):
        """Also one that is never used, whose program hangs: its drops count from the agent's begin, and whose it is is known."""
        idle, used = made(buffer=4096), made(buffer=1 << 20)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(50):
            client.sendto(bytes(500), idle.getsockname())
        ports, before = (port_of(idle), port_of(used)), kernel_drops(port_of(idle))
        self.assertGreater(before, 0)
        with self.agent() as agent:
            for _ in range(70):
                client.sendto(bytes(500), idle.getsockname())
                client.sendto(b"read", used.getsockname())
                used.recv(100)
            dropped = kernel_drops(ports[0]) - before
            self.assertGreater(dropped, 0)
            used.close()
            rows = self.stopped(agent)
            idle.close()
            client.close()
        self.check(rows[ports[0]], closed=False, drops=dropped)
        self.check(rows[ports[1]], received=70, received_bytes=280)
        for port in ports:
            self.assertEqual(rows[port][0]["pid"], os.getpid())
            self.assertNotIn("life_ns", rows[port][0])

    def test_another_network_namespace(self):
        """Its sockets, one of them older than the agent, and its /proc/net/udp."""
        program = """if True:
            import fcntl, json, socket, struct, sys
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                fcntl.ioctl(sock, 0x8914, struct.pack("16sH22x", b"lo", 0x1))  # up
            idle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            idle.setsockopt(socket.SOL_SOCKET, 33, 4096)
            idle.bind(("127.0.0.1", 0))
            print("ready", flush=True)
            sys.stdin.readline()
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for _ in range(80):
                client.sendto(bytes(500), idle.getsockname())
            client.connect(idle.getsockname())
            with open("/proc/self/net/udp") as table:
                drops = [int(line.split()[-1]) for line in table.read().splitlines()[1:]]
            print(json.dumps([idle.getsockname()[1], client.getsockname()[1], sum(drops)]), flush=True)
            client.close()
            sys.stdin.readline()
        """
        child = subprocess.Popen(["unshare", "-n", sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(child.communicate)
        self.assertEqual(child.stdout.readline(), "ready\n")
        with self.agent() as agent:
            child.stdin.write("go on\n")
            child.stdin.flush()
            idle, client, dropped = json.loads(child.stdout.readline())
            agent.wait_row("udp.socket", lambda r: r["lport"] == client)
            space = net_ns(child.pid)
            rows = self.stopped(agent)
        self.assertNotEqual(space, net_ns())
        self.assertGreater(dropped, 0)
        self.check(rows[client], sent=80, sent_bytes=40000)
        self.check(rows[idle], closed=False, drops=dropped)
        for row in rows[client] + rows[idle]:
            self.assertEqual((row["net_ns"], row["pid"]), (space, child.pid))

    def test_without_cgroup2(self):
        """Where programs cannot hang on cgroups, functions serve; and where these cannot, the rows of the interval are there."""
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split()[4] for line in file if " - cgroup2 " in line]
        self.assertTrue(mounts)
        agent = common.Agent(modules="udp", settings=["modules.udp.interval=200ms"], start=False)
        unmount = "".join(f"umount -l {mount} && " for mount in reversed(mounts))
        agent.argv = ["unshare", "-m", "sh", "-c", unmount + 'exec "$@"', "sh", *agent.argv]
        with agent.start():
            server = made()
            client = connected(server)
            port = port_of(client)
            for _ in range(10):
                client.send(b"data")
            agent.wait_row("udp.socket", lambda r: r["lport"] == port and r["sent"])
            client.close()
            server.close()
            hooks = dict(hook.split("=") for hook in agent.rows("agent.start")[0]["hooks"])
            rows = self.stopped(agent)
        functions = hooks["udp.end"] == "fentry/inet_release"
        self.assertEqual(hooks["udp.end"], "fentry/inet_release" if functions else "none")
        self.assertEqual(hooks["udp.create"], "fentry/security_socket_post_create" if functions else "none")
        self.check(rows[port], closed=functions, sent=10, sent_bytes=40)
        self.assertEqual(rows[port][0]["pid"], os.getpid())
        self.assertEqual("life_ns" in rows[port][-1], functions)

    @common.same_on_every_kernel
    def test_another_interval_while_it_runs(self):
        agent = common.Agent(modules="udp", start=False)
        file = os.path.join(agent.folder, "sonde.yaml")
        with open(file, "w") as out:
            out.write("modules: {udp: {interval: 1h}}\n")
        agent.argv += ["-c", file]
        with agent.start(), made() as server, connected(server) as client:
            client.send(b"data")
            port = port_of(client)
            with open(file, "w") as out:
                out.write("modules: {udp: {interval: 100ms}}\n")
            agent.signal(signal.SIGHUP)
            row = agent.wait_row("udp.socket", lambda r: r["lport"] == port)
            self.assertEqual((row["sent"], row["closed"]), (1, False))
            agent.stop()
            self.assertEqual(len(agent.rows("agent.start")), 1)

    @common.same_on_every_kernel
    def test_filters(self):
        with common.Agent(modules="udp", settings=["filter.comm=[nobody]", "modules.udp.interval=200ms"]) as agent:
            with made() as server, connected(server) as client:
                for _ in range(10):
                    client.send(b"data")
                time.sleep(0.5)  # over an interval: what is looked for is that nothing comes
            agent.stop()
            rows = agent.rows()
        self.assertLedgerExact(rows)
        self.assertEqual([r for r in rows if r["type"] == "udp.socket"], [])
        self.assertGreaterEqual(common.ledger(rows)["udp.socket"]["filtered"], 1)


class SocketFilter(TestCase):
    """filter.socket and modules.udp.filter: rows of the sockets that they mean are there, those of others are counted as filtered."""

    COUNT = 3

    def servers(self, *families):
        """Sockets for the ports that a filter names, and so older than the agent; "mapped": of IPv6, for whoever comes by IPv4."""
        made_ones = [made(socket.AF_INET6, "::") if family == "mapped" else made(family) for family in families]
        for server in made_ones:
            self.addCleanup(server.close)
        return made_ones

    def visit(self, server, mapped=False):
        """A client's questions, each answered; returns its port. Both its socket and the server's are closed."""
        client = connected(server, address="::ffff:127.0.0.1" if mapped else None)
        client.settimeout(common.bound(10))
        server.settimeout(common.bound(10))
        for _ in range(self.COUNT):
            client.send(b"question")
            server.sendto(b"answer", server.recvfrom(100)[1])
            client.recv(100)
        port = port_of(client)
        client.close()
        server.close()
        return port

    def check_client(self, rows):
        self.check(rows, sent=self.COUNT, sent_bytes=8 * self.COUNT, received=self.COUNT, received_bytes=6 * self.COUNT)

    def check_server(self, rows):
        self.check(rows, sent=self.COUNT, sent_bytes=6 * self.COUNT, received=self.COUNT, received_bytes=8 * self.COUNT)

    def run_filtered(self, filtered, act, interval="1h", **settings):
        """All rows of a run, by their local ports. `filtered`: how many rows at least the filter left out."""
        with self.agent(interval=interval, **settings) as agent:
            act(agent)
            rows = self.stopped(agent)
            self.assertGreaterEqual(common.ledger(agent.rows())["udp.socket"]["filtered"], filtered)
        return rows

    def visited(self, servers, filtered, mapped=(), **settings):
        """Which ends have rows: for each server "", "client", "server" or "both"; the rows are checked."""
        ports = []
        places = [port_of(server) for server in servers]
        rows = self.run_filtered(filtered, lambda _: ports.extend(self.visit(s, s in mapped) for s in servers), **settings)
        for client, server in zip(ports, places):
            if rows[client]:
                self.check_client(rows[client])
            if rows[server]:
                self.check_server(rows[server])
        names = {(False, False): "", (True, False): "client", (False, True): "server", (True, True): "both"}
        return [names[bool(rows[client]), bool(rows[server])] for client, server in zip(ports, places)]

    @common.same_on_every_kernel
    def test_a_port_is_met_by_both_ends_of_every_family(self):
        servers = self.servers(*2 * (socket.AF_INET, socket.AF_INET6, "mapped"))
        wanted = " or ".join(f"port {port_of(server)}" for server in servers[:3])
        self.assertEqual(self.visited(servers, 6, (servers[2], servers[5]), **{"modules.udp.filter": wanted}), 3 * ["both"] + 3 * [""])

    @common.same_on_every_kernel
    def test_the_own_end_is_the_source(self):
        servers = self.servers(*2 * (socket.AF_INET, socket.AF_INET6))
        a, b, c, d = map(port_of, servers)
        wanted = f"dst port {a} or dst port {b} or src port {c} or src port {d}"
        self.assertEqual(self.visited(servers, 4, **{"modules.udp.filter": wanted}), ["client", "client", "server", "server"])

    def test_addresses_and_versions(self):
        """An IPv6 socket that has no address and no peer is of IPv6, whoever then comes."""
        v4, v6 = socket.AF_INET, socket.AF_INET6
        servers = self.servers(v4, v6, v4, v6, "mapped", "mapped", v4)
        a, b, c, d, e, f, g = map(port_of, servers)
        wanted = (f"(ip and port {a}) or (ip6 and port {b}) or (ip6 and port {c}) or (ip and port {d}) or (ip and port {e}) or "
                  f"(ip6 and port {f}) or (tcp port {g}) or (dst host 127.0.0.2 and port {g})")
        self.assertEqual(self.visited(servers, 8, servers[4:6], **{"modules.udp.filter": wanted}),
                         ["both", "both", "", "", "client", "server", ""])

    @common.same_on_every_kernel
    def test_both_filters_must_match(self):
        servers = self.servers(*3 * (socket.AF_INET,))
        a, b, c = map(port_of, servers)
        self.assertEqual(self.visited(servers, 4, **{"filter.socket": f"port {a} or port {b}", "modules.udp.filter": f"port {b} or port {c}"}),
                         ["", "both", ""])

    @common.same_on_every_kernel
    def test_a_socket_that_is_not_connected_has_no_peer(self):
        server, = self.servers(socket.AF_INET)
        with made() as bound:
            own = port_of(bound)
        ports = []

        def act(_):
            for port in (0, own):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.bind(("127.0.0.1", port))
                    client.sendto(b"question", server.getsockname())
                    server.recv(100)
                    ports.append(port_of(client))
        rows = self.run_filtered(1, act, **{"modules.udp.filter": f"dst port {port_of(server)} or src port {own}"})
        self.assertEqual(rows[ports[0]], [])
        self.check(rows[ports[1]], sent=1, sent_bytes=8)

    def test_another_peer(self):
        """A row says nothing of the time in which the socket was not meant."""
        meant, other = self.servers(socket.AF_INET, socket.AF_INET)
        ports = []

        def act(agent):
            with connected(other) as client, connected(meant) as clock:
                for _ in range(5):
                    client.send(b"unseen")
                for count in (1, 2):  # the second time all sockets were looked at after the five
                    clock.send(b"tick")
                    agent.wait_rows("udp.socket", lambda r: r["lport"] == port_of(clock), count)
                client.connect(meant.getsockname())
                client.send(b"seen")
                ports.append(port_of(client))
        rows = self.run_filtered(1, act, interval="200ms", **{"modules.udp.filter": f"dst port {port_of(meant)}"})
        self.check(rows[ports[0]], closed=rows[ports[0]][-1]["closed"], sent=1, sent_bytes=4)
        self.assertEqual({r["rport"] for r in rows[ports[0]]}, {port_of(meant)})


if __name__ == "__main__":
    common.unittest.main()
