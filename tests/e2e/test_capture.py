# SPDX-License-Identifier: Apache-2.0
"""packet.capture: the packets of a connection that something happened to, beside tcpdump on the same ones, read by tshark."""
import base64
import collections
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import common
import lossy

FOUR = ("laddr", "lport", "raddr", "rport")
SECRET = b"a secret between two programs"
FIELDS = ("frame.time_epoch", "ip.src", "ipv6.src", "tcp.srcport", "tcp.seq_raw", "tcp.ack_raw", "tcp.flags", "frame.len", "frame.comment")
Packet = collections.namedtuple("Packet", "time source port seq ack flags length comment")


def ends(row):
    return tuple(row[key] for key in FOUR)


def ends_of(sock):
    return (*sock.getsockname()[:2], *sock.getpeername()[:2])


def tshark(path, condition="tcp"):
    argv = ["tshark", "-n", "-r", path, "-Y", condition, "-T", "fields", "-E", "separator=|"]
    for field in FIELDS:
        argv += ["-e", field]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    packets = []
    for line in done.stdout.splitlines():
        when, v4, v6, port, seq, ack, flags, length, comment = line.split("|", 8)
        packets.append(Packet(float(when), v4 or v6, int(port), int(seq), int(ack), int(flags, 16), int(length), comment))
    return packets


def comment_of(packet):
    """The comment as a dict; its last word is sent or received."""
    words = packet.comment.split()
    return {"type": words[0], "way": words[-1], **dict(w.split("=", 1) for w in words[1:-1])}


def ask_agent(agent, words):
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(agent.control)
        control.sendall(words.encode() + b"\n")
        return control.makefile().read()


class Tcpdump:
    """tcpdump on loopback. It says that it listens some time before it does: datagrams that it is to see tell when."""

    def __init__(self, path, expression, port):
        self.path = path
        self.process = subprocess.Popen(["tcpdump", "-i", "lo", "-y", "EN10MB", "-U", "--immediate-mode", "-w", path,
                                         f"({expression}) or udp dst port {port}"], stderr=subprocess.DEVNULL)
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            common.wait_until(lambda: probe.sendto(b"", ("127.0.0.1", port)) or os.path.exists(path) and os.path.getsize(path) > 24,
                              20, "tcpdump")

    def stop(self):
        time.sleep(0.2)  # what the kernel still has for it; there is nothing to wait for
        self.process.send_signal(signal.SIGINT)
        self.process.wait(common.bound(20))
        return tshark(self.path)


def listener(family=socket.AF_INET):
    sock = socket.socket(family)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    sock.listen(64)
    return sock


def converse(server, family=socket.AF_INET, words=SECRET, answers=3, wait=0):
    """A connected pair after some questions and answers."""
    client = socket.create_connection(server.getsockname()[:2])
    served = server.accept()[0]
    for _ in range(answers):
        client.sendall(words)
        served.recv(len(words), socket.MSG_WAITALL)
        time.sleep(wait)
        served.sendall(words)
        client.recv(len(words), socket.MSG_WAITALL)
    return client, served


def reset(client, served):
    """The server closes with something unread: it sends a reset. Returns the four of both."""
    both = ends_of(client), ends_of(served)
    client.sendall(b"unread")
    served.close()
    try:
        while client.recv(100):
            pass
    except ConnectionResetError:
        pass
    client.close()
    return both


def frames(row):
    """[(ts, sent, length, bytes)] of a row."""
    return [(ts, sent, length, base64.b64decode(data)) for ts, sent, length, data in row["packets"]]


def flags_of(data):
    header = (data[0] & 15) * 4 if data[0] >> 4 == 4 else 40
    return data[header + 13]


SYN, RST = 2, 4


class Capture(common.TestCase):
    def agent(self, port, modules="capture", **settings):
        settings = {"modules.capture." + k.replace("capture_", "", 1) if k.startswith("capture_") else k.replace("__", "."): v
                    for k, v in settings.items()}
        return common.Agent(modules=modules, settings={"modules.capture.filter": f"port {port}", **settings})

    def file_of(self, agent, *more):
        path = os.path.join(agent.folder, f"out{random.random()}.pcapng")
        with open(path, "wb") as file:
            subprocess.run([common.SONDE, "cat", agent.journal, "--format", "pcapng", *more], stdout=file, check=True)
        return path

    def finish(self, agent):
        agent.stop()
        rows = agent.rows()
        self.assertLedgerExact(rows)
        self.assertGapless(rows)
        return rows

    def hold_against(self, found, truth, slack=0.01):
        """The same packets in the same order at the same times; what tcpdump has may be more, before and behind."""
        keys = [(p.source, p.port, p.seq, p.ack, p.flags) for p in truth]
        mine = [(p.source, p.port, p.seq, p.ack, p.flags) for p in found]
        self.assertIn(mine[0], keys)
        at = keys.index(mine[0])
        self.assertEqual(mine, keys[at:at + len(mine)])
        for p, t in zip(found, truth[at:]):
            self.assertLess(abs(p.time - t.time), slack * common.SLOWNESS, (p, t))
            self.assertEqual(p.length, t.length - 14)
        self.assertEqual([p.time for p in found], sorted(p.time for p in found))
        return at

    def test_a_reset_has_its_packets(self):
        """What rows say, without any tool: also in the guests."""
        for family in (socket.AF_INET, socket.AF_INET6):
            with listener(family) as server, self.agent(server.getsockname()[1]) as agent:
                begun = time.time_ns()
                theirs, ours = reset(*converse(server, family))
                rows = [agent.wait_row("packet.capture", lambda r, e=e: ends(r) == e) for e in (theirs, ours)]
                ended = time.time_ns()
                self.finish(agent)
            for row, first in zip(rows, (True, False)):
                self.assertEqual((row["reason"], row["protocol"], row["part"]), ("reset", 6, 1))
                packets = frames(row)
                self.assertEqual(row["count"], len(packets))
                self.assertNotIn("missed", row)
                flags = [flags_of(p[3]) for p in packets]
                self.assertEqual(flags[0], SYN)
                self.assertTrue(flags[-1] & RST, flags)
                if first or common.KERNEL >= (6, 13):  # before, an answer to a SYN passes no program at its sender
                    self.assertTrue(flags[1] & SYN, flags)
                    self.assertEqual([p[1] for p in packets][:3], [first, not first, first])
                times = [p[0] for p in packets]
                self.assertEqual(times, sorted(times))
                self.assertTrue(begun <= times[0] and times[-1] <= ended)
                self.assertFalse([p for p in packets if b"secret" in p[3] or b"unread" in p[3]])
                self.assertTrue(any(p[2] > len(p[3]) for p in packets), "there was payload, and none is kept")
            self.assertEqual([r["pid"] for r in rows], [os.getpid()] * 2)

    @common.host_only("tcpdump and tshark")
    def test_tshark_reads_what_tcpdump_saw(self):
        for family in (socket.AF_INET, socket.AF_INET6):
            with listener(family) as server:
                port = server.getsockname()[1]
                with self.agent(port, modules="capture,tcp") as agent:
                    dump = Tcpdump(os.path.join(agent.folder, "truth.pcap"), f"tcp port {port}", port)
                    four = reset(*converse(server, family))
                    captured = [agent.wait_row("packet.capture", lambda r, e=e: ends(r) == e) for e in four]
                    truth = dump.stop()
                    for row in captured:
                        found = tshark(self.file_of(agent, "--where", f"seq = {row['seq']}"))
                        self.assertEqual(self.hold_against(found, truth), 0)
                        self.assertTrue(found[-1].flags & RST)
                        for p in found:
                            said = comment_of(p)
                            self.assertEqual((said["type"], said["reason"], int(said["seq"]), said["proc"], int(said["pid"])),
                                             ("packet.capture", "reset", row["seq"], row["proc"], os.getpid()))
                            self.assertEqual(said["run"], row["run"])
                            self.assertEqual(said["cgroup"], row["cgroup"])
                            self.assertEqual(said["way"], "sent" if (p.source, p.port) == ends(row)[:2] else "received")
                    connect = agent.wait_row("tcp.connect", lambda r: ends(r) == four[0])
                    self.assertEqual(captured[0]["proc"], connect["proc"])
                    both = tshark(self.file_of(agent))
                    self.assertEqual([p.time for p in both], sorted(p.time for p in both))

    @common.host_only("tcpdump and tshark")
    def test_a_slow_answer(self):
        with listener() as server:
            port = server.getsockname()[1]
            with self.agent(port, modules="capture,turnaround", modules__turnaround__slow="150ms") as agent:
                dump = Tcpdump(os.path.join(agent.folder, "truth.pcap"), f"tcp port {port}", port)
                client, served = converse(server, answers=2)
                client.sendall(SECRET)
                served.recv(len(SECRET), socket.MSG_WAITALL)
                time.sleep(0.3)  # the slowness that is looked for
                served.sendall(SECRET)
                client.recv(len(SECRET), socket.MSG_WAITALL)
                four = ends_of(client), ends_of(served)
                captured = [agent.wait_row("packet.capture", lambda r, e=e: ends(r) == e) for e in four]
                truth = dump.stop()
                client.close()
                served.close()
                found = [tshark(self.file_of(agent, "--where", f"seq = {row['seq']}")) for row in captured]
                rows = self.finish(agent)
        slow = {r["seq"]: r for r in rows if r["type"] == "tcp.slow"}
        for row, packets in zip(captured, found):
            self.assertEqual((row["reason"], row["trigger"]), ("slow", "tcp.slow"))
            cause = slow[row["event_seq"]]
            self.assertEqual((ends(cause), cause["proc"]), (ends(row), row["proc"]))
            self.hold_against(packets, truth)
            said = comment_of(packets[0])
            self.assertEqual((said["event_seq"], said["trigger"]), (str(cause["seq"]), "tcp.slow"))
            gaps = [b.time - a.time for a, b in zip(packets, packets[1:])]
            self.assertGreater(max(gaps), 0.25, "the wait is between two packets")

    @common.host_only("tshark; a network that loses packets")
    def test_segments_that_are_sent_again(self):
        load = ("import socket, sys, threading\n"
                "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(1)\n"
                "c = socket.create_connection(s.getsockname()); a = s.accept()[0]\n"
                "t = threading.Thread(target=lambda: [c.sendall(b'x' * 20000) for _ in range(300)] and c.close()); t.start()\n"
                "while a.recv(1 << 20): pass\n")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with lossy.Lossy() as network, self.agent(port, capture_retransmits=3, capture_packets=64) as agent:
            row = None
            for _ in range(12):  # by chance one takes minutes
                with subprocess.Popen([sys.executable, "-c", load, str(port)], preexec_fn=network.enter) as sender, contextlib.suppress(common.TimedOut):
                    try:
                        row = agent.wait_row("packet.capture", lambda r: r["reason"] == "retransmit", seconds=5)
                        break
                    finally:
                        sender.kill()
            self.assertTrue(row, "no segment was sent again often enough")
            path = self.file_of(agent, "--where", f"seq = {row['seq']}")
            found = tshark(path)
            again = tshark(path, "tcp.analysis.retransmission")
            self.finish(agent)
        self.assertLessEqual(len(found), 64)
        self.assertEqual([p.time for p in found], sorted(p.time for p in found))
        sent = [(p.seq, p.length) for p in found if comment_of(p)["way"] == "sent"]
        repeated = {s for s, n in collections.Counter(seq for seq, _ in sent).items() if n > 1}
        self.assertTrue(again or repeated, "nothing in it was sent again")
        self.assertEqual(row["pid"], int(comment_of(found[0])["pid"]))
        self.assertIn(os.path.basename(network.path), row["cgroup"])

    @common.host_only("tcpdump and tshark")
    def test_on_request(self):
        with listener() as server, listener() as other:
            port = server.getsockname()[1]
            with self.agent(port, capture_filter=f"port {port} or port {other.getsockname()[1]}") as agent:
                out = os.path.join(agent.folder, "asked.pcapng")
                dump = Tcpdump(os.path.join(agent.folder, "truth.pcap"), f"tcp dst port {port}", port)
                process = subprocess.Popen([common.SONDE, "capture", "--for", "1500ms", f"tcp dst port {port}", "-o", out, "--journal",
                                            agent.journal, "--set", f"agent.control={agent.control}"], stderr=subprocess.PIPE, text=True)
                time.sleep(0.5)  # the request is open by then; what the dump has before that does not count
                begun = time.time()
                pairs = [converse(server, answers=20), converse(other)]
                for pair in pairs:
                    for sock in pair:
                        sock.close()
                _, said = process.communicate(timeout=common.bound(30))
                self.assertEqual(process.returncode, 0, said)
                found, truth = tshark(out), [p for p in dump.stop() if p.time >= begun]
                rows = self.finish(agent)
        self.assertIn(f"{len(found)} packets", said)
        # Each end has its own view of it.
        for way in ("sent", "received"):
            mine = [p for p in found if comment_of(p)["way"] == way]
            self.assertEqual(len(mine), len(truth))
            self.hold_against(mine, truth)
        for p in found:
            self.assertEqual(comment_of(p)["reason"], "request")
        self.assertEqual({int(comment_of(p)["pid"]) for p in found if comment_of(p)["way"] == "sent" and "pid" in comment_of(p)}, {os.getpid()})
        self.assertEqual({r["reason"] for r in rows if r["type"] == "packet.capture"}, {"request"})

    @common.host_only("tshark")
    def test_udp_on_request(self):
        with socket.socket(type=socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
            with self.agent(port) as agent:
                out = os.path.join(agent.folder, "asked.pcapng")
                process = subprocess.Popen([common.SONDE, "capture", "--for", "1s", "udp", "-o", out, "--journal", agent.journal,
                                            "--set", f"agent.control={agent.control}"], stderr=subprocess.PIPE, text=True)
                time.sleep(0.4)
                for size in (10, 20, 30):
                    with socket.socket(type=socket.SOCK_DGRAM) as client:
                        client.sendto(b"x" * size, ("127.0.0.1", port))
                        server.recv(100)
                process.communicate(timeout=common.bound(30))
                done = subprocess.run(["tshark", "-n", "-r", out, "-T", "fields", "-e", "udp.dstport", "-e", "udp.length"],
                                      capture_output=True, text=True, check=True)
        self.assertEqual(sorted(done.stdout.split("\n")[:-1]), sorted(2 * [f"{port}\t{size + 8}" for size in (10, 20, 30)]))

    @common.user_space
    def test_an_agent_that_ends_meanwhile(self):
        """What came until then is in the file, and that there may be more is said."""
        with socket.socket(type=socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            with self.agent(server.getsockname()[1]) as agent:
                out = os.path.join(agent.folder, "asked.pcapng")
                process = subprocess.Popen([common.SONDE, "capture", "--for", "4s", "udp", "-o", out, "--journal", agent.journal,
                                            "--set", f"agent.control={agent.control}"], stderr=subprocess.PIPE, text=True)
                with socket.socket(type=socket.SOCK_DGRAM) as client:
                    common.wait_until(lambda: client.sendto(b"until the end", server.getsockname()) and agent.rows("packet.capture"), 20,
                                      "packets of the request")
                agent.kill()
                agent.process = None
                _, said = process.communicate(timeout=common.bound(30))
        self.assertEqual(process.returncode, 0)
        self.assertRegex(said, r"sonde capture: [1-9]\d* packets\n")
        self.assertIn("the agent did not say that this is all", said)

    def test_payload_and_bounds(self):
        """The last `packets` of a flow, and of each header and so much payload."""
        with listener() as server, self.agent(server.getsockname()[1], capture_packets=8, capture_payload=12, capture_after=1) as agent:
            theirs, ours = reset(*converse(server, answers=50))
            rows = [agent.wait_row("packet.capture", lambda r, e=e: ends(r) == e) for e in (theirs, ours)]
            self.finish(agent)
        for row in rows:
            packets = frames(row)
            self.assertLessEqual(len(packets), 8)
            self.assertGreaterEqual(len(packets), 7)
            self.assertTrue(flags_of(packets[-1][3]) & RST or flags_of(packets[-2][3]) & RST)
            for _, _, length, data in packets:
                header = 20 + (data[32] >> 4) * 4
                self.assertEqual(len(data), min(length, header + 12))
                if length > header + 12:
                    self.assertEqual(data[header:], SECRET[:12])

    @common.user_space
    def test_large_captures_come_in_parts(self):
        with listener() as server, self.agent(server.getsockname()[1], capture_packets=128, capture_payload=1400) as agent:
            theirs, _ = reset(*converse(server, words=b"w" * 1000, answers=90))
            agent.wait_rows("packet.capture", lambda r: ends(r) == theirs, 2)
            rows = self.finish(agent)
        rows = sorted((r for r in rows if r["type"] == "packet.capture" and ends(r) == theirs), key=lambda r: r["part"])
        self.assertEqual([r["part"] for r in rows], list(range(1, len(rows) + 1)))
        times = [p[0] for r in rows for p in frames(r)]
        self.assertEqual(times, sorted(times))
        self.assertEqual((len(times), sum(r.get("missed", 0) for r in rows)), (128, 0))

    def test_only_what_the_filter_means(self):
        with listener() as server, listener() as other, self.agent(server.getsockname()[1]) as agent:
            left = reset(*converse(other))
            theirs, ours = reset(*converse(server))
            for e in (theirs, ours):
                agent.wait_row("packet.capture", lambda r, e=e: ends(r) == e)
            rows = self.finish(agent)
        self.assertFalse([r for r in rows if r["type"] == "packet.capture" and ends(r) in left])

    @common.user_space
    def test_reasons_beyond_the_rate_are_counted(self):
        with listener() as server, self.agent(server.getsockname()[1], capture_rate=1) as agent:
            for _ in range(8):
                reset(*converse(server))
            time.sleep(0.5)
            rows = self.finish(agent)
        account = common.ledger(rows)["packet.capture"]
        self.assertGreater(account["journaled"], 0)
        # Both ends of each have a reset.
        self.assertEqual(account["dropped"].get("rate", 0) + account["journaled"], 16)
        self.assertIn(("packet.capture", "rate"), {(r["event"], r["reason"]) for r in rows if r["type"] == "agent.loss"})

    @common.user_space
    def test_a_reason_that_is_switched_off(self):
        with listener() as server, self.agent(server.getsockname()[1], capture_resets="false") as agent:
            reset(*converse(server))
            rows = self.finish(agent)
        self.assertFalse([r for r in rows if r["type"] == "packet.capture"])

    def test_the_flow_that_is_named(self):
        """What rules use: the flow of a connection is written at once."""
        with listener() as server, self.agent(server.getsockname()[1]) as agent:
            client, served = converse(server)
            four = ends_of(client)

            def ask(words):
                return ask_agent(agent, words)
            self.assertIn('"flows": 1', ask("capture flow " + " ".join(str(x) for x in four)))
            row = agent.wait_row("packet.capture", lambda r: ends(r) == four)
            self.assertEqual(row["reason"], "request")
            # A last acknowledgement may begin it anew.
            common.wait_until(lambda: "nothing is kept" in ask("capture flow " + " ".join(str(x) for x in four)), 10, "the flow to be gone")
            self.assertIn("unknown request", ask("capture flow 1.2.3.4 5"))
            self.assertIn("column 1", ask("capture start 1000000000 prot 5"))
            client.close()
            served.close()
            self.finish(agent)

    @common.user_space
    def test_a_request_that_ended_can_be_asked_for(self):
        """Also once others have begun and ended."""
        with socket.socket(type=socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            with self.agent(server.getsockname()[1]) as agent, socket.socket(type=socket.SOCK_DGRAM) as client:
                def state(number):
                    return json.loads(ask_agent(agent, f"capture state {number}"))

                def begin(ns):
                    return json.loads(ask_agent(agent, f"capture start {ns} udp"))["request"]
                first = begin(10**9)
                for _ in range(3):
                    client.sendto(b"x", server.getsockname())
                common.wait_until(lambda: not state(first)["open"], 20, "the end of the request")
                for _ in range(4):
                    self.assertTrue(state(other := begin(10**8))["open"])
                    common.wait_until(lambda: not state(other)["open"], 20, "the end of another one")
                # Each datagram is sent and received.
                self.assertEqual(state(first), {"open": False, "packets": 6})
                self.assertIn("not known any more", state(99)["error"])
                long_ones = [begin(10**11) for _ in range(8)]
                self.assertEqual(len(set(long_ones)), 8)
                self.assertIn("eight captures are under way", json.loads(ask_agent(agent, "capture start 1000000000 udp"))["error"])
                self.finish(agent)

    def test_more_flows_than_there_is_room_for(self):
        """The memory is bounded, and the newest are there."""
        count = 300 if common.GUEST else 1500
        with listener() as server, self.agent(server.getsockname()[1], capture_memory="1MiB") as agent:
            open_ones = [converse(server, answers=1) for _ in range(count // 10)]
            for _ in range(count):
                for sock in converse(server, answers=1):
                    sock.close()
            theirs, ours = reset(*converse(server))
            for e in (theirs, ours):
                agent.wait_row("packet.capture", lambda r, e=e: ends(r) == e)
            taken = 0
            for fd in os.listdir(f"/proc/{agent.pid}/fdinfo"):
                try:
                    with open(f"/proc/{agent.pid}/fdinfo/{fd}") as file:
                        info = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
                except OSError:
                    continue
                if info.get("map_type") == "9":
                    taken += int(info["memlock"])
            for pair in open_ones:
                for sock in pair:
                    sock.close()
            self.finish(agent)
        self.assertTrue(0.5 * (1 << 20) < taken <= 1.1 * (1 << 20), taken)


@common.user_space
class Command(common.TestCase):
    def test_mistakes(self):
        self.assertIn("did you mean 'port'?", common.sonde("capture", "tcp prot 80", "-o", "x", status=2).stderr)
        self.assertIn("output", common.sonde("capture", "tcp", status=2).stderr)
        with common.Agent(modules="exec") as agent:
            said = common.sonde("capture", "tcp", "-o", os.path.join(agent.folder, "x"), "--journal", agent.journal, "--set",
                                f"agent.control={agent.control}", status=1).stderr
            self.assertIn("the module capture does not run", said)
            self.assertFalse(os.path.exists(os.path.join(agent.folder, "x")))
