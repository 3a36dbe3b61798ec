# SPDX-License-Identifier: Apache-2.0
"""net.drop against what the load did, and against the kernel's own counters: /proc/net/snmp, /proc/net/udp, /proc/kallsyms, the tracepoint's
names. Loads run in network namespaces of their own, where nobody else drops anything and the counters are theirs alone."""
import json
import os
import re
import subprocess
import sys
import time

import common

PREAMBLE = """if True:
    import collections, fcntl, json, os, socket, struct, sys, time
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH22x", b"lo", 0x1))  # up
    def counters():
        found = collections.Counter()
        with open("/proc/self/net/snmp") as file:
            lines = [line.split() for line in file if line.startswith("Udp:")]
        found.update({key: int(value) for key, value in zip(lines[0][1:], lines[1][1:])})
        with open("/proc/self/net/snmp6") as file:
            for line in file:
                key, value = line.split()
                if key.startswith("Udp6"):
                    found[key[4:]] += int(value)
        return found
    def drops_of(port):
        total = 0
        for name in ("udp", "udp6"):
            with open(f"/proc/self/net/{name}") as table:
                for line in table.read().splitlines()[1:]:
                    words = line.split()
                    total += int(words[-1]) if int(words[1].rpartition(":")[2], 16) == port else 0
        return total
    def made(family=socket.AF_INET, address=None, buffer=0):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, 33, buffer)  # SO_RCVBUFFORCE
        sock.bind((address or ("::1" if family == socket.AF_INET6 else "127.0.0.1"), 0))
        return sock
    def say(**values):
        print(json.dumps({**values, "net_ns": os.stat("/proc/self/ns/net").st_ino, "pid": os.getpid()}), flush=True)
    def wait():
        sys.stdin.readline()
"""


def functions():
    """Functions of the kernel with their sizes, as far as the next one tells."""
    with open("/proc/kallsyms") as file:
        entries = sorted((int(words[0], 16), words[2]) for words in map(str.split, file) if words[1] in "tTwW")
    return {name: after - at for (at, name), (after, _) in zip(entries, entries[1:]) if after > at}


def reason_names():
    """What the kernel's own tracepoint calls reasons."""
    command = "test -e /sys/kernel/tracing/events/skb || mount -t tracefs tracefs /sys/kernel/tracing; cat /sys/kernel/tracing/events/skb/kfree_skb/format"
    text = subprocess.run(["unshare", "-m", "sh", "-c", command], stdout=subprocess.PIPE, check=True, text=True).stdout
    return dict((name, int(number)) for number, name in re.findall(r"\{ (\d+), \"(\w+)\" \}", text))


class Load:
    """A program in a network namespace of its own. It begins when it is told, and its values are what it says last."""

    def __init__(self, test, program):
        self.process = subprocess.Popen(["unshare", "-n", sys.executable, "-c", PREAMBLE + program], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        test.addCleanup(self.process.communicate)

    def listen(self):
        return json.loads(self.process.stdout.readline())

    def go_on(self):
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()


class Drops(common.TestCase):
    def observe(self, program, **settings):
        """What a program says, and the rows of its network namespace."""
        settings = {"agent.window": "500ms", **settings}
        with common.Agent(modules="drops", settings=settings) as agent:
            load = Load(self, program)
            truth = load.listen()
            agent.stop()
            rows = agent.rows()
            load.go_on()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        self.assertEqual([r for r in rows if r["type"] == "agent.loss"], [])
        self.filtered = common.ledger(rows).get("net.drop", {}).get("filtered", 0)
        self.rest = [r for r in rows if r["type"] == "net.drop" and "reason" not in r]
        return truth, [r for r in rows if r["type"] == "net.drop" and r.get("net_ns") == truth["net_ns"]]

    def count(self, rows, **wanted):
        return sum(r["count"] for r in rows if all(r.get(key) == value for key, value in wanted.items()))

    def test_a_flood_to_closed_ports(self):
        count = common.scaled(100000, 2000)
        truth, rows = self.observe(f"""
    count, ports = {count}, []
    for family in (socket.AF_INET, socket.AF_INET6):
        with made(family) as closed:
            to = closed.getsockname()
        with made(family) as sock:
            ports.append([sock.getsockname()[1], to[1]])
            for _ in range(count):
                sock.sendto(b"anyone?", to)
    say(ports=ports, **counters())
    wait()
""")
        self.assertEqual(truth["NoPorts"], 2 * count)
        # Each brings an ICMP message, which its sender's socket takes or not; those are no datagrams.
        udp = [r for r in rows if r["proto"] == "udp"]
        self.assertEqual(self.count(udp), 2 * count)
        for (sender, closed), address, function in zip(truth["ports"], ("127.0.0.1", "::1"), ("udp4", "udp6")):
            mine = [r for r in udp if r["laddr"] == address]
            self.assertEqual(self.count(mine, reason="NO_SOCKET"), count)
            self.assertEqual(sum(r["bytes"] for r in mine), 15 * count)  # the UDP header's eight among them
            for row in mine:
                self.assertEqual((row["lport"], row["rport"], row["raddr"], row["port"]), (closed, sender, address, closed))
                self.assertIn(function, row["location"])
                self.assertNotIn("pid", row)

    def test_places_and_reasons_are_the_kernels(self):
        truth, rows = self.observe("""
    with made() as sock:
        sock.sendto(b"x", ("127.0.0.1", 9))
    with socket.socket() as sock:
        sock.connect_ex(("127.0.0.1", 9))
    say()
    wait()
""")
        sizes, names = functions(), reason_names()
        self.assertGreater(len(names), 10)
        self.assertTrue(rows)
        for row in rows:
            self.assertIn(row["reason"], names)
            self.assertLessEqual(row["offset"], sizes[row["location"]], row)
        self.assertEqual(self.count(rows, proto="tcp", reason="NO_SOCKET", lport=9), 1)
        self.assertEqual(self.count(rows, proto="udp", reason="NO_SOCKET", lport=9), 1)

    def test_a_full_receive_buffer_names_its_owner(self):
        truth, rows = self.observe("""
    dropped = {}
    for family, address, to in ((socket.AF_INET, None, "127.0.0.1"), (socket.AF_INET6, None, "::1"), (socket.AF_INET6, "::", "127.0.0.1")):
        server = made(family, address, 8192)
        port = server.getsockname()[1]
        with made(socket.AF_INET6 if ":" in to else socket.AF_INET) as client:
            for _ in range(300):
                client.sendto(bytes(200), (to, port))
        dropped[f"{to} {port}"] = drops_of(port)
        dropped, kept = dropped, globals().setdefault("kept", [])
        kept.append(server)
    say(dropped=dropped, **counters())
    wait()
""")
        self.assertEqual(len(truth["dropped"]), 3)
        full = [r for r in rows if r["proto"] == "udp"]
        self.assertEqual(sum(r["count"] for r in full), truth["RcvbufErrors"])
        self.assertEqual(truth["RcvbufErrors"], sum(truth["dropped"].values()))
        for end, dropped in truth["dropped"].items():
            address, port = end.split()
            self.assertGreater(dropped, 0)
            mine = [r for r in full if r["lport"] == int(port)]
            self.assertEqual(self.count(mine, reason="SOCKET_RCVBUFF", laddr=address), dropped)
            for row in mine:
                if self.names_receivers():
                    self.assertEqual((row["pid"], row["port"]), (truth["pid"], int(port)))

    @staticmethod
    def names_receivers():
        """Since Linux 6.11 the kernel says which socket was to have a packet that it drops."""
        release = os.uname().release.split(".")
        return (int(release[0]), int(release[1])) >= (6, 11)

    def test_a_socket_older_than_the_agent(self):
        load = Load(self, """
    server = made(buffer=8192)
    say()
    wait()
    with made() as client:
        for _ in range(300):
            client.sendto(bytes(200), server.getsockname())
    say(dropped=drops_of(server.getsockname()[1]))
    wait()
""")
        load.listen()
        with common.Agent(modules="drops") as agent:
            load.go_on()
            truth = load.listen()
            agent.stop()
            rows = [r for r in agent.rows("net.drop") if r.get("net_ns") == truth["net_ns"]]
            load.go_on()
        self.assertGreater(truth["dropped"], 0)
        self.assertEqual(self.count(rows, reason="SOCKET_RCVBUFF"), truth["dropped"])
        if self.names_receivers():
            self.assertEqual({r["pid"] for r in rows if r["reason"] == "SOCKET_RCVBUFF"}, {truth["pid"]})

    def test_what_arrives_is_not_dropped(self):
        truth, rows = self.observe("""
    server = made(buffer=1 << 20)
    listener = socket.create_server(("127.0.0.1", 0))
    with made() as client:
        for _ in range(1000):
            client.sendto(b"data", server.getsockname())
            server.recv(10)
    client = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    for _ in range(1000):
        client.send(b"question")
        peer.recv(100)
        peer.send(b"answer")
        client.recv(100)
    for sock in (client, peer):
        sock.close()
    say(**counters())
    wait()
""")
        self.assertEqual((truth["NoPorts"], truth["InErrors"], truth["InDatagrams"]), (0, 0, 1000))
        self.assertEqual([r for r in rows if r["proto"] in ("udp", "tcp")], [])

    @common.same_on_every_kernel
    def test_more_places_than_there_is_room_for(self):
        """All are counted, those that found no room in one row."""
        truth, rows = self.observe("""
    with made() as sock:
        for port in range(1, 4001):
            sock.sendto(b"x", ("127.0.0.1", port))
    say(**counters())
    wait()
""", **{"agent.window": "60s"})
        self.assertEqual(truth["NoPorts"], 4000)
        udp = [r for r in rows if r["proto"] == "udp"]
        self.assertTrue(1000 < len(udp) < 2048, len(udp))
        self.assertEqual(len(self.rest), 1)
        self.assertEqual(len({r["port"] for r in udp}), len(udp))
        # Others of the host may have found no room either.
        self.assertGreaterEqual(self.count(udp) + self.rest[0]["count"], 4000)
        self.assertFalse({"reason", "location", "proto", "port", "laddr", "pid", "net_ns"} & set(self.rest[0]))

    @common.same_on_every_kernel
    def test_windows_add_up(self):
        truth, rows = self.observe("""
    end, count = time.monotonic() + 2, 0
    with made() as sock:
        while time.monotonic() < end:
            sock.sendto(b"x", ("127.0.0.1", 9))
            count += 1
    say(count=count, **counters())
    wait()
""", **{"agent.window": "100ms"})
        self.assertEqual(truth["NoPorts"], truth["count"])
        udp = [r for r in rows if r["proto"] == "udp"]
        self.assertEqual(self.count(udp, lport=9), truth["count"])
        self.assertGreater(len(udp), 5)

    @common.same_on_every_kernel
    def test_rows_are_kept_by_service(self):
        """A server that answers many clients has one row, and so have clients that ask it from many ports."""
        truth, rows = self.observe("""
    for _ in range(100):
        with made() as client:
            client.sendto(b"x", ("127.0.0.1", 53))
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 5300))
    for _ in range(100):
        with made() as client:
            to = client.getsockname()
        server.sendto(b"x", to)
    say(**counters())
    wait()
""", **{"agent.window": "60s"})
        udp = [r for r in rows if r["proto"] == "udp"]
        self.assertEqual(truth["NoPorts"], 200)
        self.assertEqual(sorted((r["port"], r["count"]) for r in udp), [(53, 100), (5300, 100)])

    @common.same_on_every_kernel
    def test_filters(self):
        _, rows = self.observe("""
    server = made(buffer=8192)
    with made() as client:
        for _ in range(300):
            client.sendto(bytes(200), server.getsockname())
            client.sendto(b"x", ("127.0.0.1", 9))
    say()
    wait()
""", **{"filter.comm": "[nobody]"})
        self.assertEqual(rows, [])
        self.assertGreaterEqual(self.filtered, 300)

    FLOOD = """
    count = 500
    for family in (socket.AF_INET, socket.AF_INET6):
        with made(family) as sock:
            for port in (9, 10):
                for _ in range(count):
                    sock.sendto(b"x", ("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
    say(count=count, **counters())
    wait()
"""

    def flood(self, text, *settings):
        """What is counted at the two closed ports, IPv4 and IPv6, under a filter; all of it or nothing, and the rest as filtered."""
        settings = dict(settings) or {"modules.drops.filter": text}
        truth, rows = self.observe(self.FLOOD, **settings)
        self.assertEqual(truth["NoPorts"], 4 * truth["count"])
        udp = [r for r in rows if r["proto"] == "udp"]
        found = {}
        for name, address in ("ip", "127.0.0.1"), ("ip6", "::1"):
            for port in (9, 10):
                count = self.count(udp, lport=port, laddr=address)
                self.assertIn(count, (0, truth["count"]), text)
                if count:
                    found[name, port] = True
        self.assertEqual(sum(r["count"] for r in udp), len(found) * truth["count"])
        self.assertGreaterEqual(self.filtered, (4 - len(found)) * truth["count"])
        return sorted(found)

    @common.same_on_every_kernel
    def test_filters_of_sockets(self):
        """The packet's ends as its row has them: the port that it went to is this end's, and so the source."""
        self.assertEqual(self.flood("port 9"), [("ip", 9), ("ip6", 9)])
        self.assertEqual(self.flood("ip6 and port 10"), [("ip6", 10)])
        self.assertEqual(self.flood("src port 9 or dst port 10"), [("ip", 9), ("ip6", 9)])
        self.assertEqual(self.flood("src host 127.0.0.1 and src port 10"), [("ip", 10)])
        self.assertEqual(self.flood("tcp or icmp"), [])
        both = ("filter.socket", "udp port 9 or tcp"), ("modules.drops.filter", "net 127.0.0.0/8 or tcp")
        self.assertEqual(self.flood("both", *both), [("ip", 9)])

    @common.same_on_every_kernel
    def test_a_filter_of_sockets_and_other_protocols(self):
        """ICMP has addresses and no ports; what has no addresses is not meant, by a filter's `not` neither."""
        program = """
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind(("lo", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for _ in range(100):
            raw.send(bytes(12) + struct.pack(">H", 0x88b5) + bytes(50))
            header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 253, 0, bytes([127, 0, 0, 1]), bytes([127, 0, 0, 2]))
            sock.sendto(header + b"data", ("127.0.0.2", 0))
    say()
    wait()
"""
        for text, ether, ip in ("", 100, 100), ("not port 9", 0, 100), ("port 9", 0, 0), ("ip proto 253 and src host 127.0.0.2", 0, 100), ("ip proto 252", 0, 0):
            with self.subTest(filter=text):
                _, rows = self.observe(program, **{"modules.drops.filter": text} if text else {})
                self.assertEqual((self.count(rows, proto="eth-0x88b5"), self.count(rows, proto="ip-253")), (ether, ip), rows)
                self.assertGreaterEqual(self.filtered, 200 - ether - ip)

    @common.host_only("no tc there")
    def test_what_is_dropped_on_its_way_out(self):
        """The local end is then the sender's, and so is the owner."""
        truth, rows = self.observe("""
    import subprocess
    subprocess.run(["ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1"], check=True)
    subprocess.run(["ip", "link", "set", "d1", "up"], check=True)
    subprocess.run(["ip", "address", "add", "10.99.0.1/24", "dev", "d0"], check=True)
    subprocess.run(["ip", "link", "set", "d0", "up"], check=True)
    subprocess.run(["ip", "neighbour", "add", "10.99.0.2", "lladdr", "02:00:00:00:00:01", "dev", "d0"], check=True)
    subprocess.run(["tc", "qdisc", "add", "dev", "d0", "root", "blackhole"], check=True)
    with made(address="10.99.0.1") as sock:
        for _ in range(100):
            try:
                sock.sendto(b"x", ("10.99.0.2", 5000))
            except OSError:
                pass
        port = sock.getsockname()[1]
    say(port=port)
    wait()
""")
        udp = [r for r in rows if r["proto"] == "udp"]
        self.assertEqual(self.count(udp), 100)
        for row in udp:
            self.assertEqual((row["laddr"], row["lport"], row["raddr"], row["rport"]), ("10.99.0.1", truth["port"], "10.99.0.2", 5000))
            self.assertEqual(row["pid"], truth["pid"])


if __name__ == "__main__":
    common.unittest.main()
