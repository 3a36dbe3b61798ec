# SPDX-License-Identifier: Apache-2.0
"""`sonde replay` over captures made here, against tshark, and against what those who talked know themselves.

A client and a server, each in a network namespace, talk through a router in a third, whose queues are so short that segments are
lost and sent again. tcpdump captures on both sides, on one of them on `any`.
"""
import collections
import gzip
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

import captures
import common
import wire

MARKER = b"the last packet of this capture"
SERVER = r"""
import socket, struct, sys, threading, time

def answer(connection):
    with connection:
        lines = connection.makefile("rb")
        for line in lines:
            what, size, wait = line.split()
            size = int(size)
            if what == b"take":
                while size > 0 and (n := len(lines.read(min(65536, size)))):
                    size -= n
                size = 1
            time.sleep(float(wait))
            if what == b"reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                lines.close()
                return
            connection.sendall(b"x" * size)

def serve(listener, work):
    while True:
        threading.Thread(target=work, args=(listener.accept()[0],), daemon=True).start()

def reply(query):
    labels = query[12:query.index(b"\0", 12)].lower()
    if b"silent" in labels:
        return None
    time.sleep(0.02 if b"slow" in labels else 0)
    return query[:2] + bytes([0x81, 0x83 if b"nowhere" in labels else 0x80]) + query[4:]

def dns_tcp(connection):
    with connection:
        lines = connection.makefile("rb")
        while head := lines.read(2):
            query = lines.read(int.from_bytes(head, "big"))
            out = reply(query)
            connection.sendall(head[:1])  # in pieces
            time.sleep(0.005)
            connection.sendall(head[1:] + out)

def dns_udp(server):
    while True:
        query, asker = server.recvfrom(4096)
        out = reply(query)
        if out:
            server.sendto(out, asker)

for family, address in (socket.AF_INET, "10.77.1.2"), (socket.AF_INET6, "fd77:1::2"):
    for port, work in (7000, answer), (53, dns_tcp):
        listener = socket.create_server((address, port), family=family, backlog=256)
        threading.Thread(target=serve, args=(listener, work), daemon=True).start()
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((address, 53))
    threading.Thread(target=dns_udp, args=(server,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
CLIENT = r"""
import errno, json, socket, struct, threading, time

SIDES = (socket.AF_INET, "10.77.1.2"), (socket.AF_INET6, "fd77:1::2")
known = {"unreachable": [], "requests": [], "resets": 0, "silent": 0, "queries": 0, "refused": 0}

def ask(connection, what, size, wait):
    connection.sendall(f"{what} {size} {wait}\n".encode())
    if what == "take":
        connection.sendall(b"y" * size)
        size = 1
    got = 0
    while got < size and (n := len(connection.recv(65536))):
        got += n
    return got

def talk(family, address, requests):
    with socket.create_connection((address, 7000)) as connection:
        port, sent, received = connection.getsockname()[1], 0, 0
        for what, size, wait in requests:
            try:
                received += ask(connection, what, size, wait)
            except ConnectionResetError:
                known["resets"] += 1
            sent += len(f"{what} {size} {wait}\n") + (size if what == "take" else 0)
        # tcpi_total_retrans, of include/uapi/linux/tcp.h
        retransmits = struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0]
        known["requests"].append({"retransmits": retransmits,"port": port, "address": address, "sent": sent, "received": received,
                                  "waits": [r[2] for r in requests], "whats": [r[0] for r in requests]})

def query(family, address, name, number, kind):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    message = struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, kind, 1)
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.connect((address, 53))
        s.settimeout(0.2 if "silent" in name else 5)
        s.send(message)
        try:
            s.recv(4096)
        except TimeoutError:
            known["silent"] += 1
    return message

for family, address in SIDES:
    for i in range(30):
        talk(family, address, [("give", 100 + i, 0.0)] * 3)
    talk(family, address, [("give", 10, 0.06), ("give", 10, 0.08), ("give", 10, 0.0)])
    talk(family, address, [("reset", 1, 0.01)])
    # More than the queue holds, several at once: segments are lost.
    crowd = [threading.Thread(target=talk, args=(family, address, [("give", 400000, 0.0), ("take", 300000, 0.0)])) for _ in range(4)]
    [t.start() for t in crowd]
    [t.join() for t in crowd]
    try:
        socket.create_connection((address, 7001))
    except ConnectionRefusedError:
        known["refused"] += 1
    try:
        socket.create_connection((address.replace("77", "88"), 7000))
    except OSError as failure:
        known["unreachable"].append(errno.errorcode[failure.errno])
    messages = []
    for number, name in enumerate(["example.org", "slow.example.org", "NOWHERE.example.org", "silent.example.org", "a.b.c.d.e"] * 4):
        messages.append(query(family, address, name, 100 + number, 28 if number % 2 else 1))
        known["queries"] += 1
    with socket.create_connection((address, 53)) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = s.makefile("rb")
        for message in (m for m in messages if b"silent" not in m):
            for part in (struct.pack(">H", len(message)), message[:5], message[5:]):
                s.sendall(part)
                time.sleep(0.001)
            lines.read(int.from_bytes(lines.read(2), "big"))
            known["queries"] += 1
time.sleep(5.2)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.sendto(b"MARKER", ("10.77.1.2", 9999))
print(json.dumps(known))
""".replace("MARKER", MARKER.decode())


class Network(wire.Routed):
    """And what was captured of their conversation, over a router whose queues are short."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def make(self):
        super().make()
        self.link("tbf", "rate", "50mbit", "burst", "8kb", "limit", "24kb")

    def capture(self, side, path, *arguments):
        process = self.start(side, "tcpdump", "-n", "-U", "-B", "16384", "--immediate-mode", "-Z", "root", "-w", path, *arguments,
                             stderr=subprocess.PIPE, text=True)
        while "listening on" not in (line := process.stderr.readline()):
            assert line, "tcpdump did not start"
        return process

    def talk(self):
        paths = [os.path.join(self.folder, name) for name in ("client.pcap", "any.pcap")]
        captures = [self.capture(0, paths[0], "-i", "veth0"), self.capture(1, paths[1], "-i", "any")]
        server = self.start(1, "python3", "-c", SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout.readline() == "ready\n"
            client = self.start(0, "python3", "-c", CLIENT, stdout=subprocess.PIPE, text=True)
            out = client.communicate(timeout=common.bound(60))[0]
            assert client.returncode == 0
            for path in paths:
                common.wait_until(lambda: MARKER in open(path, "rb").read(), what=f"the last packet in {path}")
        finally:
            server.kill()
            server.communicate()
            for process in captures:
                process.send_signal(signal.SIGINT)
                process.communicate()
        return paths, json.loads(out)


def tshark(path, *fields, display=None):
    """The fields of each frame, as lists of texts."""
    argv = ["tshark", "-n", "-r", path, "-T", "fields"]
    for field in fields:
        argv += ["-e", field]
    if display:
        argv += ["-Y", display]
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return [line.split("\t") for line in out.splitlines()]


FROM = ("ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport")


def ends_of(frame):
    """(source, port, target, port) of the first six fields."""
    return frame[0] or frame[1], int(frame[2]), frame[3] or frame[4], int(frame[5])


def replay(path, *arguments, **options):
    done = common.sonde("replay", path, "--format", "json", *arguments, **options)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def four(row):
    return row["laddr"], row["lport"], row["raddr"], row["rport"]


def ns(seconds):
    """tshark's "0.000123000" exactly."""
    whole, _, part = seconds.partition(".")
    return int(whole) * 10**9 + int(part.ljust(9, "0"))


def without(row, *keys):
    return {k: v for k, v in row.items() if k not in keys}


@common.host_only("tshark and tcpdump are not there")
class Replay(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="sonde-replay-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        with Network(cls.folder) as network:
            (cls.client, cls.any), cls.known = network.talk()
        cls.rows, cls.said = replay(cls.client, "--slow", "50ms")
        cls.types = collections.defaultdict(list)
        for row in cls.rows:
            cls.types[row["type"]].append(row)

    def test_handshakes(self):
        """tcp.accept from SYN to ACK is tshark's initial round-trip time; tcp.connect is SYN to SYN-ACK."""
        truth = {}
        for frame in tshark(self.client, *FROM, "tcp.analysis.initial_rtt", display="tcp.analysis.initial_rtt && tcp.dstport < 10000"):
            truth[ends_of(frame)] = ns(frame[6])
        ours = {(r["raddr"], r["rport"], r["laddr"], r["lport"]): r["latency_ns"] for r in self.types["tcp.accept"]}
        self.assertGreater(len(truth), 70)
        # Where the SYN was lost tshark begins with the last one, and we with the first.
        again = {ends_of(f) for f in tshark(self.client, *FROM, display="tcp.flags.syn == 1 && tcp.analysis.retransmission")}
        self.assertEqual({k: v for k, v in ours.items() if k not in again}, {k: v for k, v in truth.items() if k not in again})
        self.assertEqual(set(ours), set(truth))
        made = [r for r in self.types["tcp.connect"] if "error" not in r]
        self.assertEqual({four(r) for r in made}, set(truth))
        for row in made:
            self.assertLess(row["latency_ns"], ours[four(row)])
        failed = collections.Counter(r["error"] for r in self.types["tcp.connect"] if "error" in r)
        self.assertEqual(failed, collections.Counter(["ECONNREFUSED"] * self.known["refused"] + self.known["unreachable"]))
        self.assertEqual(sum(failed.values()), 4)

    def test_retransmissions(self):
        """Those that tshark sees, and those that it takes for out of order although their first copy came by before; the sender's kernel
        counts the same. A busy machine may capture one packet less."""
        for path in self.client, self.any:
            again, late = (collections.Counter(ends_of(f) for f in tshark(path, *FROM, display="tcp.analysis." + what))
                           for what in ("retransmission", "out_of_order"))
            ours = {four(r): r["retransmits"] for r in replay(path, "--type", "tcp.close")[0]}
            self.assertGreater(sum(again.values()), 100, "the queues were to lose some")
            for ends, count in ours.items():
                here = ends[2] if path == self.client else ends[0]
                most = again[ends] + late[ends]
                if here in ("10.77.1.2", "fd77:1::2"):  # captured where they are sent: nothing can have been overtaken
                    self.assertAlmostEqual(count, most, delta=1 + most // 50, msg=ends)
                else:
                    self.assertTrue(again[ends] - 1 <= count <= most + 1, (ends, count, again[ends], late[ends]))
        ours = {(r["lport"], r["raddr"]): r["retransmits"] for r in self.types["tcp.close"] if r["side"] == "client"}
        for talk in self.known["requests"]:
            # What is sent again after the last look at the socket is its FIN.
            self.assertIn(ours[talk["port"], talk["address"]] - talk["retransmits"], range(-1, 4), talk)

    def test_bytes_and_ends(self):
        closes = {(r["lport"], r["raddr"]): r for r in self.types["tcp.close"] if r["side"] == "client" and r["rport"] == 7000}
        self.assertEqual(len(closes), len(self.known["requests"]))
        for talk in self.known["requests"]:
            row = closes[talk["port"], talk["address"]]
            self.assertEqual((row["sent_bytes"], row["received_bytes"]), (talk["sent"], talk["received"]), talk)
        reset = [r for r in self.types["tcp.close"] if r.get("error")]
        self.assertEqual([(r["error"], r["side"]) for r in reset], [("ECONNRESET", "client")] * self.known["resets"])
        self.assertEqual(self.known["resets"], 2)

    def test_turnaround(self):
        """Every request has one answer; those that the server thought over took as long as it did."""
        rows = [r for r in self.types["tcp.turnaround"] if r["lport"] == 7000]
        requests = [(what, wait) for talk in self.known["requests"] for what, wait in zip(talk["whats"], talk["waits"])]
        self.assertEqual({r["laddr"] for r in rows}, {"10.77.1.2", "fd77:1::2"})
        self.assertEqual(sum(r["count"] for r in rows), sum(what != "reset" for what, _ in requests))
        self.assertEqual(sum(r["errors"] for r in rows), self.known["resets"])
        for row in rows:
            self.assertEqual(sum(row["hist"].values()), row["count"])
            self.assertTrue(row["p50_ns"] <= row["p90_ns"] <= row["p99_ns"] <= row["p999_ns"] <= row["max_ns"])
            self.assertNotIn("raddr", row)
        slow = sorted(r["turnaround_ns"] for r in self.types["tcp.slow"] if r["lport"] == 7000 and r["turnaround_ns"] < 200e6)
        waits = sorted(wait * 1e9 for _, wait in requests if wait >= 0.05)
        self.assertGreaterEqual(len(slow), len(waits))
        for wait in waits:
            self.assertTrue(any(wait <= one <= wait * 1.05 + 2e6 for one in slow), (wait, slow))

    def test_dns(self):
        frames = tshark(self.client, "udp.dstport", "tcp.dstport", "dns.qry.name", "dns.flags.rcode", "dns.time", display="dns.time")
        truth = collections.Counter((int(f[0] or f[1]), f[2].lower(), int(f[3]), ns(f[4])) for f in frames)
        codes = {"NOERROR": 0, "NXDOMAIN": 3}
        rows = [r for r in self.types["dns.query"] if "error" not in r]
        ours = collections.Counter((r["client_port"], r["name"], codes[r["rcode"]], r["latency_ns"]) for r in rows)
        # tshark takes a message over TCP to begin with the frame that completes it, on both sides, as we do.
        self.assertEqual(ours, truth)
        silent = [r for r in self.types["dns.query"] if "error" in r]
        self.assertEqual(len(silent), self.known["silent"])
        self.assertEqual(len(rows) + len(silent), self.known["queries"])
        for row in silent:
            self.assertEqual((row["error"], row["name"], row["latency_ns"]), ("timeout", "silent.example.org", 5 * 10**9))
        self.assertEqual({(r["transport"], r["server"]) for r in rows},
                         {(t, s) for t in ("udp", "tcp") for s in ("10.77.1.2", "fd77:1::2")})
        self.assertEqual({r["qtype"] for r in rows}, {"A", "AAAA"})

    def test_cooked(self):
        """On `any` frames have another link type; the connections are the same."""
        rows = replay(self.any)[0]
        self.assertEqual(collections.Counter(r["type"] for r in rows if r["type"] in ("tcp.accept", "tcp.close", "dns.query")),
                         collections.Counter(r["type"] for r in self.rows if r["type"] in ("tcp.accept", "tcp.close", "dns.query")))

    def test_containers(self):
        """The same packets as pcapng, packed, and through a pipe give the same rows."""
        expected = [without(r, "host", "run") for r in replay(self.client)[0]]
        other = os.path.join(self.folder, "client.pcapng")
        subprocess.run(["tshark", "-n", "-r", self.client, "-F", "pcapng", "-w", other], check=True, capture_output=True)
        packed = os.path.join(self.folder, "client.pcap.gz")
        with open(self.client, "rb") as file, gzip.open(packed, "wb") as out:
            shutil.copyfileobj(file, out)
        for path in other, packed:
            self.assertEqual([without(r, "host", "run") for r in replay(path)[0]], expected, path)
        with open(packed, "rb") as file:
            done = subprocess.run([common.SONDE, "replay", "-", "--format", "json"], stdin=file, capture_output=True, check=True)
        self.assertEqual([without(json.loads(line), "host", "run") for line in done.stdout.splitlines()], expected)

    def test_filter_type_where(self):
        for path in self.client, self.any:
            rows, said = replay(path, "--filter", "udp port 53 and ip6")
            self.assertEqual({(r["type"], r["server"]) for r in rows}, {("dns.query", "fd77:1::2")}, path)
            self.assertIn("by the filter", said)
        rows = replay(self.client, "--type", "dns.*", "--where", "rcode = NXDOMAIN and transport = tcp")[0]
        self.assertEqual({(r["name"], r["transport"]) for r in rows}, {("nowhere.example.org", "tcp")})
        for bad in ("--filter", "tcp prot 1"), ("--filter", "host example.org"), ("--where", "a ="), ("--format", "xml"), ("--window", "0s"):
            common.sonde("replay", self.client, *bad, status=2)

    def test_rows_are_what_the_schema_says(self):
        types = common.sonde("schema", "--format", "json", "--set", "agent.modules=").stdout
        types = json.loads(types)["$defs"]
        for row in self.rows:
            declared = types[row["type"]]
            self.assertEqual(set(declared["required"]) - set(row), set(), row)
            self.assertEqual(set(row) - set(declared["properties"]), set(), row)
        self.assertIsNone(common.gapless(self.rows))
        self.assertEqual(len(self.types), 6)

    def test_damaged(self):
        """What is before the damage is used, and the damage is named with its place."""
        with open(self.client, "rb") as file:
            good = file.read()
        cut, bad = os.path.join(self.folder, "cut.pcap"), os.path.join(self.folder, "bad.pcap")
        with open(cut, "wb") as file:
            file.write(good[:len(good) // 2])
        rows, said = replay(cut, "--type", "tcp.accept", status=1)
        self.assertEqual([without(r, "host", "run", "seq") for r in rows],
                         [without(r, "host", "run", "seq") for r in self.types["tcp.accept"][:len(rows)]])
        self.assertGreater(len(rows), 20)
        self.assertRegex(said, r"cut\.pcap: at byte \d+: the file ends within")
        with open(bad, "wb") as file:
            file.write(good[:24] + struct.pack("<IIII", 1, 1, 2**31, 2**31))
        self.assertRegex(replay(bad, status=1)[1], r"bad\.pcap: at byte 24: damaged: a packet of 2147483648 bytes")
        self.assertIn("neither pcap nor pcapng", replay("/etc/passwd", status=1)[1])
        self.assertIn("No such file", replay("/nonexistent", status=1)[1])


def syn(number):
    """A frame of raw IPv4 that begins a connection of its own."""
    ip = struct.pack(">BBHHHBBH4sI", 0x45, 0, 40, 0, 0, 64, 6, 0, bytes((10, 0, 0, 1)), 0x0b000000 + (number >> 14))
    return ip + struct.pack(">HHIIHHHH", 1024 + (number & 0x3fff), 80, number, 0, 0x5002, 1000, 0, 0)


@common.host_only("tshark is not there")
class Bounds(common.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="sonde-replay-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.path = os.path.join(self.folder, "many.pcap")

    def test_memory(self):
        """Half a million connections that stay open, of which 4096 are followed at a time."""
        count = common.scaled(500000)
        with open(self.path, "wb") as file:
            file.write(struct.pack("<IHHiIII", 0xa1b23c4d, 2, 4, 0, 0, 65535, 101))
            for i in range(count):
                file.write(struct.pack("<IIII", 1000, i, 40, 40) + syn(i))
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen([common.SONDE, "replay", self.path, "--connections", "4096"], stdout=subprocess.DEVNULL, stderr=errors)
            peak = 0
            while process.poll() is None:  # rusage would count what the interpreter held as it forked
                with open(f"/proc/{process.pid}/status") as file:
                    peak = max([peak] + [int(line.split()[1]) for line in file if line.startswith("VmHWM:")])
                time.sleep(0.005)
            errors.seek(0)
            said, status = errors.read(), process.returncode
        self.assertEqual(status, 0, said)
        self.assertIn(f"{count} seen", said)
        self.assertIn("4096 open at the end", said)
        self.assertIn(f"{count - 4096} connections for want of room", said)
        if not common.SANITIZED:
            self.assertLess(peak, 64 << 10, "KiB")
            self.assertGreater(peak, 1 << 10)

    def test_faster_than_tshark(self):
        """Ten times at least, over 100 MB, with every row written."""
        packets = captures.write_requests(self.path)
        ours, theirs = captures.times(common.SONDE, self.path)
        print(f"replay: {os.path.getsize(self.path) / 1e6:.0f} MB, {packets} packets in {ours:.2f} s, tshark {theirs:.2f} s: {theirs / ours:.0f} times as fast ",
              end="", flush=True)
        if not common.SANITIZED:
            self.assertGreater(theirs / ours, 10)


if __name__ == "__main__":
    unittest.main()
