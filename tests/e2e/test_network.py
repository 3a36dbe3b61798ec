# SPDX-License-Identifier: Apache-2.0
"""Connections between two network namespaces over a link whose faults are known: delay, loss and reordering by netem where the kernel has it
(in the guests), a narrow link by tbf where it has not."""
import json
import os
import subprocess
import sys
import unittest

import common
import wire

LOAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "network_load.py")
PORT = 7300
# Beyond what the link does: an emulated processor takes some milliseconds for each step.
SLACK_NS = 15e6 if common.GUEST else 2e6 * common.SLOWNESS


class Network(common.TestCase):
    def setUp(self):
        self.spaces = wire.Routed()
        self.addCleanup(self.spaces.__exit__)
        self.spaces.__enter__()

    def start(self, side, *arguments):
        return self.spaces.start(side, sys.executable, LOAD, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def talk(self, delay=0.0, requests=0, size=0, address="10.77.1.2"):
        """What the client knows of its connection."""
        server = self.start(1, "server", address, PORT, delay)
        self.addCleanup(server.stdout.close)
        self.assertEqual(server.stdout.readline(), "ready\n")
        client = self.start(0, "client", address, PORT, requests, size)
        out, _ = client.communicate(timeout=common.bound(120))
        self.assertEqual(client.returncode, 0)
        server.kill()
        server.wait()
        return json.loads(out)

    def rows(self, agent, known):
        """The client's: connect and close."""
        four = known["four"]

        def own(row):
            return [row["laddr"], row["lport"], row["raddr"], row["rport"]] == four
        close = agent.wait_rows("tcp.close", own)[0]
        connect = agent.wait_rows("tcp.connect", own)[0]
        for row in (connect, close):
            self.assertEqual(row["pid"], known["pid"])
        self.assertEqual(close["side"], "client")
        return connect, close

    def assert_as_tcp_info(self, close, known, size):
        self.assertEqual(close["retransmits"], known["retransmits"])
        self.assertEqual(close["srtt_ns"], known["rtt_us"] * 1000)
        self.assertEqual(close.get("rttvar_ns", 0), known["rttvar_us"] * 1000)
        self.assertEqual(close["min_rtt_ns"], known["min_rtt_us"] * 1000)
        self.assertEqual(close.get("reordering", 0), known["reordered"])
        self.assertEqual(close["sent_bytes"], size)

    def test_a_narrow_link(self):
        """Two megabytes through 50 Mbit/s whose queue is short: some are lost, all others wait."""
        for address in ("10.77.1.2", "fd77:1::2"):
            self.spaces.link("tbf", "rate", "50mbit", "burst", "3000", "limit", "20000")
            with common.Agent(modules="tcp") as agent:
                known = self.talk(size=2000000, address=address)
                _, close = self.rows(agent, known)
            self.assert_as_tcp_info(close, known, 2000000)
            self.assertGreater(known["retransmits"], 0, "nothing was lost: the link does not test what it is for")
            # It cannot have been faster than the link.
            self.assertGreater(close["life_ns"], 0.95 * 2000000 * 8 / 50e6 * 1e9)

    @common.guest_only("needs netem")
    def test_known_delay(self):
        """100 ms each way; answers after 60 ms: a connect takes 200 ms, a turnaround 260 ms at the client and 60 ms at the server."""
        self.spaces.link("netem", "delay", "100ms")
        self.talk()  # neighbours are looked for over the same link
        with common.Agent(modules="tcp,turnaround", settings=["agent.window=2s"]) as agent:
            known = self.talk(delay=0.06, requests=8)
            connect, close = self.rows(agent, known)
            client = agent.wait_rows("tcp.turnaround", lambda r: r["side"] == "client" and r.get("rport") == PORT)
            server = agent.wait_rows("tcp.turnaround", lambda r: r["side"] == "server" and r.get("lport") == PORT)
        near = {connect["latency_ns"]: 200e6, close["min_rtt_ns"]: 200e6}
        for rows, truth in ((client, 260e6), (server, 60e6)):
            for row in rows:
                near[row["p50_ns"]] = truth
        for value, truth in near.items():
            self.assertAlmostEqual(value, truth, delta=0.05 * truth + SLACK_NS, msg=f"{near}")
        self.assert_as_tcp_info(close, known, 800)

    @common.guest_only("needs netem")
    def test_known_loss(self):
        self.spaces.link("netem", "delay", "5ms", "loss", "8%")
        with common.Agent(modules="tcp") as agent:
            known = self.talk(size=300000)
            _, close = self.rows(agent, known)
        self.assertGreater(known["retransmits"], 0)
        self.assert_as_tcp_info(close, known, 300000)

    @common.guest_only("needs netem")
    def test_known_reordering(self):
        self.spaces.link("netem", "delay", "20ms", "reorder", "25%", "50%")
        with common.Agent(modules="tcp") as agent:
            known = self.talk(size=300000)
            _, close = self.rows(agent, known)
        self.assertGreater(known["reordered"], 0)
        self.assert_as_tcp_info(close, known, 300000)


if __name__ == "__main__":
    unittest.main()
