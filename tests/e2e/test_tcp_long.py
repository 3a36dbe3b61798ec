# SPDX-License-Identifier: Apache-2.0
"""tcp.stats of connections that go on, in every network namespace, against what was sent and what ss says; and their owners."""
import os
import re
import socket
import time

import common
import test_tcp
import wire

EVERY_SECOND = ["modules.tcp.interval=1s"]


def say(sock, other, count):
    sock.sendall(bytes(count))
    test_tcp.receive(other, count)


class Long(common.TestCase):
    def of(self, agent, four):
        return [r for r in agent.rows("tcp.stats") if test_tcp.ends(r) == four]

    def carried(self, agent, four):
        """Sums of what the reports so far said."""
        rows = self.of(agent, four)
        return tuple(sum(r[key] for r in rows) for key in ("sent_bytes", "received_bytes", "window_ns"))

    def test_reports_add_up_and_agree_with_ss(self):
        with common.Agent(modules="tcp", settings=EVERY_SECOND) as agent, wire.Space() as space:
            for run in (lambda f, *a: f(*a), space.run):  # here, and in another network namespace
                client, server = run(test_tcp.pair)
                begun = time.monotonic()
                ours, theirs = test_tcp.ends_of(client), test_tcp.ends_of(server)
                sent = received = 0
                for round_number in range(3):
                    say(client, server, 10000 + round_number)
                    say(server, client, 700)
                    sent += 10000 + round_number
                    received += 700
                    common.wait_until(lambda: self.carried(agent, ours)[:2] == (sent, received), what=(sent, received))
                    common.wait_until(lambda: self.carried(agent, theirs)[:2] == (received, sent))
                now = time.monotonic()
                out = run(test_tcp.settled, ours)
                last = self.of(agent, ours)[-1]
                self.assertEqual((last["pid"], last["side"], last["state"]), (os.getpid(), "client", "established"))
                self.assertEqual(self.of(agent, theirs)[-1]["side"], "server")
                self.assertEqual(sum(r["window_ns"] for r in self.of(agent, ours)), last["life_ns"])
                self.assertTrue(1e9 <= last["life_ns"] <= (now - begun) * 1e9, last)
                figures = dict(re.findall(r"(\w+):([\d./]+)", out))
                self.assertEqual(last["cwnd"], int(figures["cwnd"]))
                self.assertEqual(last["min_rtt_ns"], round(float(figures["minrtt"]) * 1e6))
                for key, told in zip(("srtt_ns", "rttvar_ns"), figures["rtt"].split("/")):
                    self.assertLess(abs(last[key] - float(told) * 1e6), 0.2 * last[key] + 1000, (last, out))
                client.close()
                server.close()
                close = agent.wait_row("tcp.close", lambda r: test_tcp.ends(r) == ours)
                self.assertEqual((close["sent_bytes"], close["received_bytes"]), (sent, received))
            agent.stop()
            self.assertLedgerExact(agent.rows())

    @common.same_on_every_kernel
    def test_who_says_nothing_and_who_is_short_are_not_reported(self):
        with common.Agent(modules="tcp", settings=EVERY_SECOND) as agent:
            idle = test_tcp.pair()
            say(*idle, 5)
            four = test_tcp.ends_of(idle[0])
            # It was there, and had said something, in the second before.
            self.assertGreaterEqual(agent.wait_row("tcp.stats", lambda r: test_tcp.ends(r) == four)["life_ns"], 10**9)
            short = test_tcp.pair()
            say(*short, 5)
            brief = test_tcp.ends_of(short[0])
            for sock in short:
                sock.close()
            time.sleep(2.5)  # two intervals, in which nothing may come
            self.assertEqual((len(self.of(agent, four)), self.of(agent, brief)), (1, []))
            for sock in idle:
                sock.close()

    def test_older_connections_have_owner_side_and_what_they_carry_from_now_on(self):
        with wire.Space() as space:
            for run in (lambda f, *a: f(*a), space.run):
                client, server = run(test_tcp.pair)
                ours, theirs = test_tcp.ends_of(client), test_tcp.ends_of(server)
                say(client, server, 123456)
                with common.Agent(modules="tcp", settings=EVERY_SECOND) as agent:
                    say(client, server, 77)
                    row = agent.wait_row("tcp.stats", lambda r: test_tcp.ends(r) == ours)
                    self.assertEqual((row["sent_bytes"], row["received_bytes"], row["side"]), (77, 0, "client"))
                    self.assertEqual((row["pid"], row["tid"]), (os.getpid(), os.getpid()))
                    self.assertNotIn("life_ns", row)
                    row = agent.wait_row("tcp.stats", lambda r: test_tcp.ends(r) == theirs)
                    self.assertEqual((row["sent_bytes"], row["received_bytes"], row["side"]), (0, 77, "server"))
                client.close()
                server.close()

    @common.same_on_every_kernel
    def test_never_means_never(self):
        with common.Agent(modules="tcp", settings=["modules.tcp.interval=0s"]) as agent:
            client, server = test_tcp.pair()
            say(client, server, 99)
            time.sleep(1.5)
            agent.stop()
            self.assertEqual(agent.rows("tcp.stats"), [])
            client.close()
            server.close()

    @common.same_on_every_kernel
    def test_many_connections_each_have_their_reports(self):
        total = 300
        with common.Agent(modules="tcp", settings=EVERY_SECOND) as agent, test_tcp.listener(backlog=total) as server:
            pairs = []
            for _ in range(total):
                client = socket.create_connection(server.getsockname())
                pairs.append((client, server.accept()[0]))
            wanted = {}
            for i, (client, accepted) in enumerate(pairs):
                client.sendall(bytes(1 + i))
                wanted[test_tcp.ends_of(client)] = (1 + i, 0)
                wanted[test_tcp.ends_of(accepted)] = (0, 1 + i)

            def sums():
                found = {}
                for r in agent.rows("tcp.stats"):
                    if test_tcp.ends(r) in wanted:
                        before = found.get(test_tcp.ends(r), (0, 0))
                        found[test_tcp.ends(r)] = (before[0] + r["sent_bytes"], before[1] + r["received_bytes"])
                return found == wanted
            common.wait_until(sums, 20, "a report of each end")
            for both in pairs:
                for sock in both:
                    sock.close()
            agent.stop()
            self.assertLedgerExact(agent.rows())


if __name__ == "__main__":
    import unittest
    unittest.main()
