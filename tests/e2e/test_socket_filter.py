# SPDX-License-Identifier: Apache-2.0
"""filter.socket and modules.NAME.filter: events of the sockets that they mean are there, those of all others are counted as filtered."""
import json
import os
import signal
import socket
import tempfile

import common

V4, V6 = socket.AF_INET, socket.AF_INET6


class Service:
    """A listening socket; mapped: an IPv6 one that takes IPv4 as well."""

    def __init__(self, family=V4, mapped=False):
        self.sock = socket.socket(V6 if mapped else family)
        if mapped:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.sock.bind(("::" if mapped else "::1" if family == V6 else "127.0.0.1", 0))
        self.sock.listen(16)
        self.port = self.sock.getsockname()[1]
        self.address = "127.0.0.1" if mapped or family == V4 else "::1"

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.sock.close()

    def connect(self):
        client = socket.create_connection((self.address, self.port))
        return client, self.sock.accept()[0]

    def visit(self):
        """One whole connection; returns the client's port."""
        client, served = self.connect()
        port = client.getsockname()[1]
        client.sendall(b"question")
        served.recv(8)
        served.sendall(b"answered")
        client.recv(8)
        client.close()
        served.close()
        return port

    def mapped_client(self):
        """A connection by an IPv6 socket to the IPv4 address."""
        client = socket.socket(V6)
        client.connect(("::ffff:127.0.0.1", self.port))
        served = self.sock.accept()[0]
        client.close()
        served.close()


def kinds(rows, port):
    """What is there of connections with that port: tcp.connect, tcp.accept, tcp.close client ..., sorted."""
    return sorted(" ".join((r["type"], r.get("side", ""))).strip() for r in rows
                  if r["type"].startswith("tcp.") and port in (r["lport"], r["rport"]))


CLIENT = ["tcp.close client", "tcp.connect"]
SERVER = ["tcp.accept", "tcp.close server"]
BOTH = sorted(CLIENT + SERVER)


class SocketFilter(common.TestCase):
    def run_agent(self, act, *settings, modules="tcp", filtered=0):
        """The rows of a run, once a last connection, which every filter here means, is through."""
        with Service() as last:
            settings = [s.replace("LAST", f"(host 127.0.0.1 and port {last.port})") for s in settings]
            with common.Agent(modules=modules, settings=settings) as agent:
                act(agent)
                last.visit()
                agent.wait_rows("tcp.close", lambda r: last.port in (r["lport"], r["rport"]), 2)
                agent.stop()
                rows = agent.rows()
        self.assertLedgerExact(rows)
        self.assertGapless(rows)
        types = common.ledger(rows)
        self.assertGreaterEqual(sum(types[t]["filtered"] for t in types if t.startswith("tcp.")), filtered)
        ports = {r.get(p) for r in rows if r["type"].startswith("tcp.") for p in ("lport", "rport")}
        self.assertIn(last.port, ports)
        return rows

    def test_a_port_is_met_by_both_ends_of_every_family(self):
        with Service() as four, Service(V6) as six, Service(mapped=True) as mapped, Service() as other, Service(V6) as other6:
            def act(_):
                for service in (four, six, mapped, other, other6):
                    service.visit()
                four.mapped_client()
                other.mapped_client()
            rows = self.run_agent(act, f"filter.socket=LAST or tcp port {four.port} or port {six.port} or port {mapped.port}",
                                  filtered=3 * 4)
        self.assertEqual(kinds(rows, four.port), sorted(2 * BOTH))
        self.assertEqual(kinds(rows, six.port), BOTH)
        self.assertEqual(kinds(rows, mapped.port), BOTH)
        for service in (other, other6):
            self.assertEqual(kinds(rows, service.port), [])

    def test_the_own_end_is_the_source(self):
        with Service() as a, Service(V6) as b, Service() as c, Service(V6) as d:
            def act(_):
                for service in (a, b, c, d):
                    service.visit()
            rows = self.run_agent(act, f"filter.socket=LAST or dst port {a.port} or dst port {b.port} or src port {c.port} "
                                       f"or src port {d.port}", filtered=8)
        self.assertEqual([kinds(rows, s.port) for s in (a, b, c, d)], [CLIENT, CLIENT, SERVER, SERVER])

    def test_addresses_and_versions(self):
        with Service() as a, Service(V6) as b, Service(mapped=True) as c, Service() as d, Service() as e:
            ports = " or ".join(f"port {s.port}" for s in (a, b, c))

            def act(_):
                for service in (a, b, c, e):
                    service.visit()
                d.mapped_client()
                e.mapped_client()
            rows = self.run_agent(act, f"filter.socket=LAST or (ip and ({ports})) or (net 127.0.0.0/8 and port {d.port}) or "
                                       f"(ip6 and port {e.port}) or (net 10.0.0.0/8 and port {e.port})", filtered=12)
        self.assertEqual([kinds(rows, s.port) for s in (a, b, c, d, e)], [BOTH, [], BOTH, BOTH, []])

    def test_a_clients_own_port_is_not_chosen_yet_as_it_begins(self):
        with Service() as a, Service() as b, Service() as c:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                bound = probe.getsockname()[1]

            def act(_):
                a.visit()
                b.visit()
                client = socket.socket()
                client.bind(("127.0.0.1", bound))
                client.connect(("127.0.0.1", c.port))
                client.close()
                c.sock.accept()[0].close()
            rows = self.run_agent(act, f"filter.socket=LAST or (src portrange 1-65535 and dst port {a.port}) or "
                                       f"(not src portrange 1-65535 and dst port {b.port}) or src port {bound}", filtered=8)
        self.assertEqual([kinds(rows, s.port) for s in (a, b, c)], [CLIENT, [], CLIENT])

    def test_a_refused_connect(self):
        with Service() as gone, Service() as also:
            pass

        def act(_):
            for port in (gone.port, also.port):
                with socket.socket() as sock, self.assertRaises(ConnectionRefusedError):
                    sock.connect(("127.0.0.1", port))
        rows = self.run_agent(act, f"filter.socket=LAST or port {gone.port}", filtered=1)
        # That the kernel sends one for a closed port, it tells from 6.10 on.
        self.assertEqual([one for one in kinds(rows, gone.port) if one != "tcp.reset"], ["tcp.connect", "tcp.reset client"])
        self.assertEqual(kinds(rows, also.port), [])

    def test_both_filters_must_match(self):
        with Service() as a, Service() as b, Service() as c:
            def act(_):
                for service in (a, b, c):
                    service.visit()
            rows = self.run_agent(act, f"filter.socket=LAST or port {a.port} or port {b.port}",
                                  f"modules.tcp.filter=LAST or port {b.port} or port {c.port}", filtered=8)
        self.assertEqual([kinds(rows, s.port) for s in (a, b, c)], [[], BOTH, []])

    def test_connections_older_than_the_agent(self):
        with Service() as meant, Service() as other, Service() as waiting, Service() as ignored:
            open_ones = [*meant.connect(), *other.connect()]
            clients = [socket.create_connection(("127.0.0.1", s.port)) for s in (waiting, ignored)]

            def act(_):
                for sock in open_ones:
                    sock.sendall(b"a")
                    sock.close()
                for client, service in zip(clients, (waiting, ignored)):
                    served = service.sock.accept()[0]
                    client.close()
                    served.close()
            rows = self.run_agent(act, f"filter.socket=LAST or port {meant.port} or port {waiting.port}", filtered=5)
        closes = [kinds(rows, s.port) for s in (meant, other, ignored)]
        # One end closes with something unread.
        self.assertEqual([one for one in closes[0] if "reset" not in one], ["tcp.close client", "tcp.close server"])
        self.assertEqual(closes[1:], [[], []])
        self.assertEqual(kinds(rows, waiting.port), sorted(["tcp.accept", "tcp.close client", "tcp.close server"]))

    def test_turnaround(self):
        with Service() as meant, Service() as other, Service() as left_out:
            def act(_):
                for service in (meant, other, left_out):
                    for _ in range(3):
                        service.visit()
            rows = self.run_agent(act, f"filter.socket=LAST or port {meant.port} or port {left_out.port}",
                                  f"modules.turnaround.filter=not port {left_out.port}", "modules.turnaround.slow=1ns",
                                  modules="tcp,turnaround")
        found = {}
        for r in rows:
            if r["type"] == "tcp.turnaround":
                port = r["lport"] if r["side"] == "server" else r["rport"]
                found[port, r["side"]] = found.get((port, r["side"]), 0) + r["count"]
        for service in (other, left_out):
            self.assertFalse([key for key in found if key[0] == service.port], found)
        for side in ("client", "server"):
            self.assertEqual(found.get((meant.port, side)), 3, found)
        slow = [r for r in rows if r["type"] == "tcp.slow"]
        self.assertEqual(len([r for r in slow if meant.port in (r["lport"], r["rport"])]), 6)
        for service in (other, left_out):
            self.assertFalse([r for r in slow if service.port in (r["lport"], r["rport"])])


MISTAKES = [
    ("tcp prot 80", ["column 5", "did you mean 'port'?"]),
    ("tcp and udp", ["rejects all packets", "did you mean 'or'?"]),
    ("tcp[tcpflags] & tcp-syn != 0", ["byte 33", "ask with host, net, port"]),
    ("port 80 or", ["syntax error", "pcap-filter(7)"]),
    ("host example.com", ["column 6", "write the address"]),
    ("port 80) or (port 81", ["syntax error"]),
    ("len > 100", ["a socket tells its addresses"]),
]


@common.user_space
class Mistakes(common.TestCase):
    def refused(self, command, *arguments):
        return common.sonde(command, *arguments, status=78).stderr

    def test_each_names_its_place_and_a_way_out(self):
        for text, words in MISTAKES:
            for key in ("filter.socket", *(f"modules.{name}.filter" for name in ("tcp", "turnaround", "udp", "dns", "drops", "capture"))):
                for command in ("check", "run"):
                    said = self.refused(command, "--set", f"{key}={text}")
                    for word in [f"--set {key}=", f"{key}: ", *words]:
                        self.assertIn(word, said, (text, key))

    def test_the_files_line_and_column(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "sonde.yaml")
            with open(path, "w") as file:
                file.write("modules:\n  tcp:\n    filter: tcp port 80\nfilter:\n  user: []\n  socket: \"tcp prot 80\"\n")
            for command in (["check", "--offline"], ["run"]):
                said = self.refused(*command, "-c", path)
                self.assertIn(f"{path}:6:11: filter.socket: filter 'tcp prot 80': column 5: ", said)
            with open(path, "w") as file:
                file.write("modules:\n  tcp:\n    filter: udp\nfilter: {socket: tcp}\n")
            said = self.refused("check", "--offline", "-c", path)
            self.assertIn(f"{path}:3:13: modules.tcp.filter together with filter.socket: ", said)
            self.assertIn("rejects all packets", said)

    def test_too_long(self):
        half = " or ".join(f"port {n}" for n in range(1000, 1045))
        common.sonde("check", "--offline", "--set", f"filter.socket={half}")
        said = self.refused("check", "--offline", "--set", f"filter.socket={half}", "--set", f"modules.tcp.filter={half} or {half}")
        self.assertIn("1024 bytes", said)

    def test_only_modules_with_a_place_have_the_option(self):
        self.assertIn("unknown key", self.refused("check", "--set", "modules.exec.filter=tcp"))


class Reload(common.TestCase):
    def agent(self, settings, wrap=()):
        """`settings`: of the modules that are on, and "socket" for filter.socket. `wrap`: a command that runs the agent."""
        agent = common.Agent(start=False)
        agent.file = os.path.join(agent.folder, "sonde.yaml")
        agent.argv = [*wrap, common.SONDE, "run", "-c", agent.file, "--journal", agent.journal, "--set", f"agent.control={agent.control}",
                      "--set", "agent.user="]
        self.write(agent, settings)
        agent.start()
        return agent

    def write(self, agent, settings):
        modules = {name: {"enabled": False} for name in common.MODULES}
        modules["tcp"]["enabled"] = True
        for name, options in settings.items():
            if name != "socket":
                modules[name] = {"enabled": True, **options}
        with open(agent.file, "w") as file:
            json.dump({"modules": modules, "agent": {"window": "300ms"}, "filter": {"socket": settings.get("socket", "")}}, file)

    def reload(self, agent, settings):
        self.write(agent, settings)
        before = len(agent.output())
        agent.signal(signal.SIGHUP)
        return common.wait_until(lambda: [line for line in agent.output()[before:].splitlines() if "reload" in line], 20,
                                 "an answer to SIGHUP")[0]

    def test_a_changed_filter_is_in_use(self):
        with Service() as a, Service() as b:
            with self.agent({"socket": f"port {a.port}"}) as agent:
                def seen(service, count):
                    agent.wait_rows("tcp.*", lambda r: service.port in (r["lport"], r["rport"]), count)
                for service in (b, a):
                    service.visit()
                seen(a, 4)
                self.assertIn("reloaded", self.reload(agent, {"socket": f"port {b.port}"}))
                for service in (a, b):
                    service.visit()
                seen(b, 4)
                self.assertIn("reloaded", self.reload(agent, {"socket": f"port {b.port}", "tcp": {"filter": f"not port {b.port} or src port 1"}}))
                b.visit()
                said = self.reload(agent, {"socket": f"prot {b.port}"})
                self.assertIn("column 1", said)
                self.assertIn("stays as it was", said)
                b.visit()
                self.assertIn("reloaded", self.reload(agent, {}))
                a.visit()
                seen(a, 8)
                agent.stop()
                rows = agent.rows()
        self.assertEqual([kinds(rows, s.port) for s in (a, b)], [sorted(2 * BOTH), BOTH])
        self.assertLedgerExact(rows)
        self.assertGapless(rows)

    def test_what_a_restart_of_the_module_would_lose_stays(self):
        """Programs of cgroups cannot be attached again by an agent that gave up CAP_NET_ADMIN: it says so, and goes on."""
        with socket.socket(V4, socket.SOCK_DGRAM) as meant, socket.socket(V4, socket.SOCK_DGRAM) as other:
            ports = []
            for sock in meant, other:
                sock.bind(("127.0.0.1", 0))
                ports.append(sock.getsockname()[1])

            def send(port):
                with socket.socket(V4, socket.SOCK_DGRAM) as client:
                    client.connect(("127.0.0.1", port))
                    client.send(b"datagram")
            now = {"udp": {"filter": f"port {ports[0]}"}}
            with self.agent(now) as agent:
                hooks = dict(hook.split("=") for hook in agent.rows("agent.start")[0]["hooks"])
                self.assertEqual(hooks["udp.end"], "cgroup/sock_release")
                for change, key in (({"udp": {"filter": f"port {ports[1]}"}}, "modules.udp.filter"), ({**now, "socket": "udp"}, "filter.socket")):
                    said = self.reload(agent, change)
                    for words in (f"{key} cannot change while module 'udp' runs", "restart the agent", "stays as it was"):
                        self.assertIn(words, said)
                for port in reversed(ports):
                    send(port)
                row = agent.wait_row("udp.socket", lambda r: r["closed"])
                self.assertEqual(row["rport"], ports[0])
                self.assertIn("reloaded", self.reload(agent, {"udp": {"enabled": False, "filter": "tcp"}, "socket": "tcp"}))
                agent.stop()
                rows = agent.rows()
        self.assertLedgerExact(rows)
        self.assertEqual([r for r in rows if r["type"] == "udp.socket" and ports[1] in (r["lport"], r.get("rport"))], [])

    def test_of_drops_without_programs_of_cgroups(self):
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split()[4] for line in file if " - cgroup2 " in line]
        unmount = "".join(f"umount -l {mount} && " for mount in reversed(mounts))
        with socket.socket(V4, socket.SOCK_DGRAM) as one, socket.socket(V4, socket.SOCK_DGRAM) as two:
            for sock in one, two:
                sock.bind(("127.0.0.1", 0))
            closed = [sock.getsockname()[1] for sock in (one, two)]
        with self.agent({"drops": {"filter": f"udp port {closed[0]}"}}, ["unshare", "-m", "sh", "-c", unmount + 'exec "$@"', "sh"]) as agent:
            def drop():
                with socket.socket(V4, socket.SOCK_DGRAM) as sock:
                    for port in closed:
                        sock.sendto(b"x", ("127.0.0.1", port))
                    return sock.getsockname()[1]

            def seen(client, port):
                agent.wait_row("net.drop", lambda r: (r.get("rport"), r.get("lport")) == (client, port))
            clients = [drop()]
            seen(clients[0], closed[0])
            self.assertIn("reloaded", self.reload(agent, {"drops": {"filter": f"udp port {closed[1]}"}}))
            clients.append(drop())
            seen(clients[1], closed[1])
            agent.stop()
            rows = agent.rows()
        self.assertLedgerExact(rows)
        found = sorted((clients.index(r["rport"]), r["lport"]) for r in rows if r["type"] == "net.drop" and r.get("rport") in clients)
        self.assertEqual(found, [(0, closed[0]), (1, closed[1])])
