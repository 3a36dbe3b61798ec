# SPDX-License-Identifier: Apache-2.0
"""tcp.connect, tcp.accept and tcp.close against what the ends of the connections know of themselves, and against ss."""
import collections
import errno
import os
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time

import common
import wire

LIFE = ("tcp.connect", "tcp.accept", "tcp.close")
FOUR = ("laddr", "lport", "raddr", "rport")


def ends(row):
    return tuple(row[key] for key in FOUR)


def ends_of(sock):
    """The four of a connected socket, as the stream writes them."""
    return (*[x for x in sock.getsockname()[:2]], *[x for x in sock.getpeername()[:2]])


def listener(family=socket.AF_INET, backlog=16):
    sock = socket.socket(family)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    sock.listen(backlog)
    return sock


def pair(family=socket.AF_INET):
    """A connected client and what was accepted of it."""
    with listener(family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        return client, server.accept()[0]


def settled(four):
    """What ss says of a connection of which all is acknowledged, or None."""
    out = subprocess.run(["ss", "-tinH", f"sport = :{four[1]} and dport = :{four[3]}"], capture_output=True, text=True,
                         check=True).stdout
    return None if "unacked:" in out or "notsent:" in out else out


def receive(sock, count):
    got = 0
    while got < count:
        data = sock.recv(min(1 << 20, count - got))
        if not data:
            break
        got += len(data)
    return got


def run_load(connections, clients, acceptors):
    """Runs load_tcp; returns its pid and truth: (side, four) -> (pid, sent, received)."""
    process = subprocess.Popen([common.load("tcp"), str(connections), str(clients), str(acceptors)],
                               stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=common.bound(120))
    if process.returncode:
        raise AssertionError("the load itself failed")
    truth = collections.defaultdict(list)
    for line in out.splitlines():
        side, pid, laddr, lport, raddr, rport, sent, received = line.split()
        truth[side, (laddr, int(lport), raddr, int(rport))].append((int(pid), int(sent), int(received)))
    return process.pid, truth


class Tcp(common.TestCase):
    def ends_in(self, agent, sock_ends, types="tcp.*", count=1):
        return agent.wait_rows(types, lambda r: ends(r) == sock_ends, count)

    @common.same_on_every_kernel
    def test_many_short_connections_have_their_owners_and_bytes(self):
        total = 400 if common.GUEST else 3000
        with common.Agent(modules="tcp,exec") as agent:
            parent, truth = run_load(total, 4, 5)
            ports = {four[1] for side, four in truth if side == "server"}
            self.assertEqual(len(ports), 1)
            port = ports.pop()
            agent.wait_rows("tcp.close", lambda r: port in (r["lport"], r["rport"]), 2 * total)
            agent.stop()
            rows = agent.rows()
        seen, proc = collections.defaultdict(list), {}
        for row in rows:
            if row["type"] == "process.fork" and row["pid"] == parent:
                proc[row["child_pid"]] = (row["child_proc"], row["proc"])
        for row in rows:
            if row["type"] in LIFE and port in (row["lport"], row["rport"]):
                side = {"tcp.connect": "client", "tcp.accept": "server"}.get(row["type"]) or row["side"]
                seen[row["type"], side, ends(row)].append(row)
        for (side, four), ended in truth.items():
            opened = seen.pop(("tcp.connect" if side == "client" else "tcp.accept", side, four))
            closed = seen.pop(("tcp.close", side, four))
            for got in (opened, closed):
                self.assertEqual(sorted(r["pid"] for r in got), sorted(pid for pid, _, _ in ended))
                for row in got:
                    self.assertEqual(row["tid"], row["pid"])
                    self.assertEqual((row["proc"], row["parent"]), proc[row["pid"]])
                    self.assertNotIn("error", row)
            self.assertEqual(sorted((r["pid"], r["sent_bytes"], r["received_bytes"]) for r in closed), sorted(ended))
            for row in closed:
                self.assertEqual(row["retransmits"], 0)
                self.assertTrue(0 < row["min_rtt_ns"] <= row["srtt_ns"] * 10 and row["life_ns"] > 0, row)
        self.assertEqual(dict(seen), {}, f"more rows than connections: {dict(seen)}")
        self.assertGreater(len({pid for (side, _), e in truth.items() if side == "server" for pid, _, _ in e}), 1,
                           "only one acceptor worked: the load does not test what it is for")
        self.assertGapless(rows)
        self.assertLedgerExact(rows)

    def test_times_agree_with_the_clock(self):
        with common.Agent(modules="tcp") as agent, listener() as server:
            begun = time.monotonic()
            client = socket.create_connection(server.getsockname())
            connected = time.monotonic()
            time.sleep(0.2)  # the time that the connection waits in the accept queue: what is measured
            accepted, _ = server.accept()
            waited = time.monotonic()
            four, theirs = ends_of(client), ends_of(accepted)
            time.sleep(0.1)
            client.close()
            accepted.close()
            ended = time.monotonic()
            connect = self.ends_in(agent, four, "tcp.connect")[0]
            accept = self.ends_in(agent, theirs, "tcp.accept")[0]
            close = self.ends_in(agent, four, "tcp.close")[0]
        self.assertTrue(0 < connect["latency_ns"] <= (connected - begun) * 1e9, connect)
        self.assertTrue(0.2e9 <= accept["latency_ns"] <= (waited - begun) * 1e9, accept)
        self.assertTrue(0.2e9 <= accept["accept_wait_ns"] <= (waited - connected + 0.001) * 1e9, accept)
        self.assertTrue(0 < accept["handshake_ns"] <= (connected - begun) * 1e9, accept)
        self.assertEqual(accept["accept_wait_ns"] + accept["handshake_ns"], accept["latency_ns"])
        self.assertTrue(0.3e9 <= close["life_ns"] <= (ended - begun) * 1e9, close)
        self.assertLess(abs(connect["ts"] / 1e9 - time.time()), 60 * common.SLOWNESS)

    def test_the_accepting_thread_is_named(self):
        found = {}

        def work(server):
            sock, _ = server.accept()
            found["tid"], found["ends"] = threading.get_native_id(), ends_of(sock)
            sock.close()
        with common.Agent(modules="tcp") as agent, listener() as server:
            thread = threading.Thread(target=work, args=(server,))
            thread.start()
            socket.create_connection(server.getsockname()).close()
            thread.join()
            for kind in ("tcp.accept", "tcp.close"):
                row = self.ends_in(agent, found["ends"], kind)[0]
                self.assertEqual((row["pid"], row["tid"]), (os.getpid(), found["tid"]))

    def test_failed_connects_say_why(self):
        with common.Agent(modules="tcp") as agent:
            for family in (socket.AF_INET, socket.AF_INET6):
                server = listener(family)
                port = server.getsockname()[1]
                server.close()
                with socket.socket(family) as sock:
                    address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
                    self.assertEqual(sock.connect_ex((address, port)), errno.ECONNREFUSED)
                row = agent.wait_row("tcp.connect", lambda r, p=port: r["rport"] == p)
                self.assertEqual((row["error"], row["raddr"], row["pid"]), ("ECONNREFUSED", address, os.getpid()))
                self.assertGreater(row["lport"], 0)
            # A full accept queue leaves SYNs without an answer.
            server = listener(backlog=0)
            port = server.getsockname()[1]
            waiting = [socket.socket() for _ in range(8)]
            for sock in waiting:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
                sock.connect_ex(server.getsockname())
            stuck = [s for s in waiting if not select.select([], [s], [], 0.05)[1]]
            self.assertGreaterEqual(len(stuck), 2)
            given_up, patient = stuck[0].getsockname()[1], stuck[1].getsockname()[1]
            stuck[0].close()
            row = agent.wait_row("tcp.connect", lambda r: r["lport"] == given_up and r["rport"] == port)
            self.assertEqual(row["error"], "ECANCELED")
            row = agent.wait_row("tcp.connect", lambda r: r["lport"] == patient and r["rport"] == port)
            self.assertEqual(row["error"], "ETIMEDOUT")
            self.assertGreater(row["latency_ns"], 0.9e9)
            for sock in (*waiting, server):
                sock.close()
            agent.stop()
            failed = {r["lport"] for r in agent.rows("tcp.connect") if r["rport"] == port and "error" in r}
            closed = {r["lport"] for r in agent.rows("tcp.close") if r["rport"] == port}
            self.assertEqual(failed & closed, set(), "a connection that never was has no close")

    def test_a_syn_sent_again_is_counted(self):
        with common.Agent(modules="tcp") as agent:
            server = listener(backlog=0)
            waiting = [socket.socket() for _ in range(6)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(server.getsockname())
            late = next(s for s in waiting if not select.select([], [s], [], 0.05)[1])
            accepted = [server.accept()[0]]
            while not select.select([], [late], [], 0)[1]:
                if select.select([server], [], [], 0.1)[0]:
                    accepted.append(server.accept()[0])
            four = ends_of(late)
            row = self.ends_in(agent, four, "tcp.connect")[0]
            self.assertGreater(row["latency_ns"], 0.9e9)
            for sock in (*waiting, server, *accepted):
                sock.close()
            self.assertGreaterEqual(self.ends_in(agent, four, "tcp.close")[0]["retransmits"], 1)

    def test_bytes_of_large_transfers_and_resets(self):
        with common.Agent(modules="tcp") as agent:
            up, down = 48 * 1024 * 1024 + 17, 9 * 1024 * 1024 + 3
            client, server = pair(socket.AF_INET6)
            ours, theirs = ends_of(client), ends_of(server)
            thread = threading.Thread(target=lambda: (client.sendall(bytes(up)), client.shutdown(socket.SHUT_WR)))
            thread.start()
            self.assertEqual(receive(server, up + 1), up)
            thread.join()
            thread = threading.Thread(target=lambda: (server.sendall(bytes(down)), server.close()))
            thread.start()
            self.assertEqual(receive(client, down + 1), down)
            thread.join()
            client.close()
            for four, sent, received in ((ours, up, down), (theirs, down, up)):
                row = self.ends_in(agent, four, "tcp.close")[0]
                self.assertEqual((row["sent_bytes"], row["received_bytes"]), (sent, received))
            # Closed with unread data: a reset, and all that arrived counts.
            client, server = pair()
            ours, theirs = ends_of(client), ends_of(server)
            client.sendall(bytes(1000))
            self.assertEqual(len(server.recv(10)), 10)
            server.close()
            common.wait_until(lambda: client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), what="the reset")
            client.close()
            row = self.ends_in(agent, theirs, "tcp.close")[0]
            self.assertEqual((row["received_bytes"], row["sent_bytes"], row["side"]), (1000, 0, "server"))
            row = self.ends_in(agent, ours, "tcp.close")[0]
            self.assertEqual((row["sent_bytes"], row["received_bytes"], row["error"]), (1000, 0, "ECONNRESET"))
            # The receiver does not read, the sender gives up with data that was never sent.
            client, server = pair()
            ours, theirs = ends_of(client), ends_of(server)
            client.setblocking(False)
            written = 0
            try:
                while True:
                    written += client.send(bytes(1 << 16))
            except BlockingIOError:
                pass
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            server_row = self.ends_in(agent, theirs, "tcp.close")[0]
            client_row = self.ends_in(agent, ours, "tcp.close")[0]
            self.assertEqual(client_row["sent_bytes"], server_row["received_bytes"])
            self.assertTrue(0 < client_row["sent_bytes"] <= written)
            server.close()

    def test_a_long_connection_agrees_with_ss(self):
        with common.Agent(modules="tcp") as agent:
            client, server = pair()
            for i in range(50):
                client.sendall(bytes(100 + i * 37))
                receive(server, 100 + i * 37)
                server.sendall(bytes(1 + i))
                receive(client, 1 + i)
            four = ends_of(client)
            time.sleep(0.3)  # for the last delayed acknowledgements, so that ss sees the end state
            out = subprocess.run(["ss", "-tinH", f"sport = :{four[1]} and dport = :{four[3]}"], capture_output=True,
                                 text=True, check=True).stdout
            # A reset: the answer to a FIN would be one more sample.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            server.close()
            row = self.ends_in(agent, four, "tcp.close")[0]
        figures = dict(re.findall(r"(\w+):([\d./]+)", out))
        self.assertEqual(row["srtt_ns"], int(float(figures["rtt"].split("/")[0]) * 1000) * 1000, out)
        self.assertEqual(row["min_rtt_ns"], round(float(figures["minrtt"]) * 1e6), out)
        self.assertEqual(row["sent_bytes"], int(figures["bytes_acked"]) - 1, out)  # ss counts the SYN
        self.assertEqual(row["received_bytes"], int(figures["bytes_received"]), out)
        self.assertEqual(row["retransmits"], int(figures.get("retrans", "0/0").split("/")[1]))
        self.assertEqual(row.get("rttvar_ns", 0), int(float(figures["rtt"].split("/")[1]) * 1000) * 1000, out)
        self.assertEqual(row["cwnd"], int(figures["cwnd"]), out)
        self.assertEqual(row.get("reordering", 0), int(figures.get("reord_seen", 0)), out)
        self.assertIn(row["congestion"], out.split())

    def test_what_held_up_the_sender_agrees_with_ss(self):
        with common.Agent(modules="tcp") as agent:
            client, server = pair()
            client.settimeout(common.bound(20))
            thread = threading.Thread(target=client.sendall, args=(bytes(16 << 20),))
            thread.start()
            time.sleep(0.6)  # the time that the window is closed: what is measured
            self.assertEqual(receive(server, 16 << 20), 16 << 20)
            thread.join()
            four = ends_of(client)
            out = common.wait_until(lambda: settled(four), what="all acknowledged")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            server.close()
            row = self.ends_in(agent, four, "tcp.close")[0]
        for key, name in (("busy_ns", "busy"), ("rwnd_limited_ns", "rwnd_limited"), ("sndbuf_limited_ns", "sndbuf_limited")):
            told = re.search(rf"\b{name}:(\d+)ms", out)
            self.assertEqual(row.get(key, 0) // 10**6, int(told[1]) if told else 0, out)
        self.assertTrue(0.4e9 < row["rwnd_limited_ns"] <= row["busy_ns"], out)

    @common.host_only("TUN")
    def test_segments_out_of_order_agree_with_ss(self):
        held = []

        def swap(packet):
            """Each twentieth large packet arrives after the two behind it."""
            if len(packet) < 1000:
                return [packet]
            swap.count += 1
            if swap.count % 20 == 0:
                held.append(packet)
                return []
            return [packet, held.pop()] if held and swap.count % 20 == 2 else [packet]
        swap.count = 0
        with common.Agent(modules="tcp") as agent, wire.Space() as space, wire.Wire(space, swap):
            server = space.run(socket.create_server, ("10.8.0.1", 0))
            client = space.run(socket.create_connection, ("10.8.0.2", server.getsockname()[1]))
            accepted = server.accept()[0]
            four = ends_of(client)
            thread = threading.Thread(target=client.sendall, args=(bytes(1 << 20),))
            thread.start()
            self.assertEqual(receive(accepted, 1 << 20), 1 << 20)
            thread.join()
            out = common.wait_until(lambda: space.run(settled, four), what="all acknowledged")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for sock in (client, accepted, server):
                sock.close()
            row = self.ends_in(agent, four, "tcp.close")[0]
        seen = re.search(r"reord_seen:(\d+)", out)
        self.assertTrue(seen, out)
        self.assertEqual(row["reordering"], int(seen[1]))

    def test_a_connection_handed_to_another_process_keeps_its_owner(self):
        with common.Agent(modules="tcp") as agent:
            client, server = pair()
            ours, theirs = ends_of(client), ends_of(server)
            here, there = socket.socketpair()
            child = os.fork()
            if child == 0:
                here.close()
                _, fds, _, _ = socket.recv_fds(there, 1, 2)
                there.recv(1)  # until the parent has closed its copies
                for fd in fds:
                    os.close(fd)
                os._exit(0)
            there.close()
            socket.send_fds(here, [b"x"], [client.fileno(), server.fileno()])
            client.close()
            server.close()
            here.send(b"y")
            os.waitpid(child, 0)
            here.close()
            for four in (ours, theirs):
                self.assertEqual(self.ends_in(agent, four, "tcp.close")[0]["pid"], os.getpid())

    @common.same_on_every_kernel
    def test_a_connection_closed_by_another_thread_keeps_its_owner(self):
        found = {}

        def work():
            found["pair"], found["tid"] = pair(), threading.get_native_id()
        with common.Agent(modules="tcp") as agent:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            ends_found = [ends_of(sock) for sock in found["pair"]]
            for sock in found["pair"]:
                sock.close()
            for four in ends_found:
                row = self.ends_in(agent, four, "tcp.close")[0]
                self.assertEqual((row["pid"], row["tid"]), (os.getpid(), found["tid"]))

    @common.same_on_every_kernel
    def test_a_child_that_connects_by_an_inherited_socket_owns_it(self):
        with common.Agent(modules="tcp") as agent, listener() as server:
            client = socket.socket()
            child = os.fork()
            if child == 0:
                client.connect(server.getsockname())
                os._exit(0)
            accepted = server.accept()[0]
            os.waitpid(child, 0)
            four = ends_of(client)
            client.close()
            accepted.close()
            self.assertEqual(self.ends_in(agent, four, "tcp.connect")[0]["pid"], child)
            self.assertEqual(self.ends_in(agent, four, "tcp.close")[0]["pid"], child)

    def test_a_connection_closed_by_another_process_keeps_its_owner(self):
        with common.Agent(modules="tcp") as agent:
            client, server = pair()
            ours, theirs = ends_of(client), ends_of(server)
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(write)
                os.read(read, 1)  # until the parent has closed its copies
                os._exit(0)
            os.close(read)
            client.close()
            server.close()
            self.assertEqual([r for r in agent.rows("tcp.close") if ends(r) in (ours, theirs)], [])
            os.close(write)
            os.waitpid(child, 0)
            for four in (ours, theirs):
                self.assertEqual(self.ends_in(agent, four, "tcp.close")[0]["pid"], os.getpid())

    def test_a_connection_that_nobody_accepted_has_no_owner(self):
        with common.Agent(modules="tcp") as agent:
            server = listener()
            client = socket.create_connection(server.getsockname())
            ours = ends_of(client)
            theirs = ours[2:] + ours[:2]
            server.close()
            row = self.ends_in(agent, theirs, "tcp.close")[0]
            client.close()
            self.assertEqual(row["side"], "server")
            for key in ("pid", "tid", "comm", "proc", "parent"):
                self.assertNotIn(key, row)
            self.assertEqual(self.ends_in(agent, ours, "tcp.close")[0]["pid"], os.getpid())
            agent.stop()
            self.assertEqual([r for r in agent.rows("tcp.accept") if ends(r) == theirs], [])

    def test_a_connection_older_than_the_agent_has_its_side_and_bytes(self):
        client, server = pair()
        ours, theirs = ends_of(client), ends_of(server)
        client.sendall(bytes(1234))
        receive(server, 1234)
        with common.Agent(modules="tcp") as agent:
            server.sendall(bytes(77))
            receive(client, 77)
            client.close()
            server.close()
            for four, side, sent, received in ((ours, "client", 1234, 77), (theirs, "server", 77, 1234)):
                row = self.ends_in(agent, four, "tcp.close")[0]
                self.assertEqual((row["side"], row["sent_bytes"], row["received_bytes"]), (side, sent, received))
                self.assertEqual((row["pid"], row["comm"]), (os.getpid(), open("/proc/self/comm").read().strip()))
                self.assertNotIn("life_ns", row)

    @common.same_on_every_kernel
    def test_filters_follow_the_owner_to_the_close(self):
        with common.Agent(modules="tcp", settings=["filter.comm=[load_tcp]"]) as agent:
            client, server = pair()
            client.close()
            server.close()
            _, truth = run_load(50, 2, 2)
            agent.wait_rows("tcp.close", count=100)
            agent.stop()
            rows = agent.rows()
        self.assertEqual({r["comm"] for r in rows if r["type"].startswith("tcp.")}, {"load_tcp"})
        types = common.ledger(rows)
        for kind, others in (("tcp.connect", 1), ("tcp.accept", 1), ("tcp.close", 2)):
            self.assertGreaterEqual(types[kind]["filtered"], others)
        self.assertLedgerExact(rows)

    @common.host_only("an emulated processor makes no such flood")
    def test_a_flood_of_refused_connects(self):
        with common.Agent(modules="tcp", settings=["journal.size=2GiB"]) as agent:
            before = agent.resident_bytes()
            begin = time.monotonic()
            done = subprocess.run([common.load("sockets"), "refused", "2"], stdout=subprocess.PIPE, text=True, check=True, timeout=common.bound(60))
            count, seconds = int(done.stdout), time.monotonic() - begin
            after = agent.resident_bytes()
            agent.stop()
            rows = agent.rows()
        print(f"{count / seconds:,.0f} refused connects a second ", end="")
        types = common.ledger(rows)
        self.assertGreaterEqual(types["tcp.connect"]["produced"], count)
        self.assertLess(types["tcp.connect"]["produced"], count + 100)
        self.assertLess(after - before, 16 << 20)
        self.assertLedgerExact(rows)

    @common.host_only("an emulated processor takes minutes")
    def test_a_hundred_thousand_idle_sockets(self):
        pairs = 5000 if common.SANITIZED else 50000
        # Room for what all of them say when they are closed at once: whether it is enough is not the question here.
        with common.Agent(modules="tcp,turnaround", settings={"rings.bulk": "64MiB"}) as agent:
            before = agent.resident_bytes()
            with subprocess.Popen([common.load("sockets"), "idle", str(pairs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
                self.assertEqual(load.stdout.readline(), "ready\n")
                time.sleep(2)  # what they said by now is taken in; to look for it would cost more than that
                spent = agent.cpu_seconds()
                time.sleep(5)
                spent = agent.cpu_seconds() - spent
                after = agent.resident_bytes()
                load.stdin.close()
            agent.stop()
            rows = agent.rows()
        own = [r for r in rows if r.get("comm") == "load_sockets"]
        for kind, count in (("tcp.connect", pairs), ("tcp.accept", pairs), ("tcp.close", 2 * pairs)):
            self.assertEqual(sum(r["type"] == kind for r in own), count, kind)
        self.assertLess(after - before, 16 << 20)
        self.assertLess(spent, 0.5 * common.SLOWNESS, "sockets that do nothing cost something")
        self.assertLedgerExact(rows)

    def test_the_ledger_is_exact_when_the_ring_is_too_small(self):
        total = 600
        with common.Agent(modules="tcp", settings=["rings.bulk=64KiB"]) as agent:
            agent.signal(signal.SIGSTOP)  # nobody reads: the ring must overflow
            try:
                run_load(total, 2, 2)
            finally:
                agent.signal(signal.SIGCONT)
            agent.stop()
            rows = agent.rows()
        types = common.ledger(rows)
        for kind, made in (("tcp.connect", total), ("tcp.accept", total), ("tcp.close", 2 * total)):
            self.assertGreaterEqual(types[kind]["produced"], made)
        dropped = {kind: sum(types[kind]["dropped"].values()) for kind in types if kind.startswith("tcp.")}
        self.assertGreater(sum(dropped.values()), 0, "the ring is not what was asked for")
        lost = collections.Counter()
        for row in rows:
            if row["type"] == "agent.loss":
                lost[row["event"]] += row["count"]
        for kind, count in dropped.items():
            self.assertEqual(lost[kind], count, kind)
        self.assertLedgerExact(rows)


if __name__ == "__main__":
    import unittest
    unittest.main()
