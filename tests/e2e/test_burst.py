# SPDX-License-Identifier: Apache-2.0
"""sonde burst: one process at 999 Hz for a while, with weights that stay right, asked of an agent that gave its privileges up."""
import os
import signal
import subprocess

import common

BASE_NS = 1e9 / 99


def perf_events(pid):
    """How many perf events a process holds."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return links.count("anon_inode:[perf_event]")


@common.host_only("an emulated timer loses ticks at such rates")
class Burst(common.TestCase):
    def burst(self, agent, pid, *arguments, status=0):
        return common.sonde("burst", str(pid), "--set", f"agent.control={agent.control}", *arguments, status=status)

    def load(self):
        load = subprocess.Popen([common.load("cpu"), "120"], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.addCleanup(load.wait)
        self.addCleanup(load.kill)
        return load.pid

    def test_samples_more_and_weighs_right(self):
        user, journal = common.temporary_user(self)
        with common.Agent(modules="cpu", journal=journal, settings=["agent.window=1s", f"agent.user={user}"]) as agent:
            pid, stolen = self.load(), common.stolen()
            agent.wait_row("profile.cpu", lambda r: r["pid"] == pid)
            self.assertIn("at 999 Hz for 3 s", self.burst(agent, pid, "--for", "3s").stdout)
            again = self.burst(agent, pid, status=1)
            self.assertIn("has a burst already", again.stderr)
            fast = lambda r: r["pid"] == pid and r["period_ns"] < BASE_NS / 2
            agent.wait_row("profile.cpu", fast)
            # Then as before: a row of the ordinary rate that began after the last of the burst.
            agent.wait_row("profile.cpu", lambda r: r["pid"] == pid and not fast(r) and
                           r["ts"] - r["window_ns"] > max(b["ts"] for b in agent.rows("profile.cpu") if fast(b)), seconds=30)
            # Nothing more is used while the agent stops.
            os.kill(pid, signal.SIGSTOP)
            used = common.cpu_seconds(pid)
            stolen = common.stolen() - stolen
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        own = [r for r in rows if r["type"] == "profile.cpu" and r["pid"] == pid]
        burst = sum(r["value"] for r in own if fast(r))
        self.assertEqual({r["period_ns"] for r in own if fast(r)}, {10**9 // 999})
        self.assertGreater(burst, 300)
        self.assertLess(burst, 999 * 3.1)
        told = sum(r["value"] * r["period_ns"] for r in own) / 1e9
        # The ordinary samples hit one process of several by chance.
        chance = 0.03 * used + 4 * (used / 99) ** 0.5 + 0.05
        self.assertLessEqual(told, used + chance)
        self.assertGreaterEqual(told, used - stolen - chance)

    def test_refusals(self):
        with common.Agent(modules="cpu") as agent:
            for arguments, status, says in ((["999999999"], 1, "there is no process"), (["x"], 2, "no process id"),
                                            ([str(os.getpid()), "--rate", "1000"], 2, "--rate"),
                                            ([str(os.getpid()), "--for", "61s"], 2, "--for")):
                done = self.burst(agent, arguments[0], *arguments[1:], status=status)
                self.assertIn(says, done.stderr)
        with common.Agent(modules="exec") as agent:
            self.assertIn("does not run", self.burst(agent, os.getpid(), status=1).stderr)
        self.assertIn("no agent answers", self.burst(agent, os.getpid(), status=1).stderr)

    def test_process_that_ends(self):
        with common.Agent(modules="cpu", settings=["agent.window=1s"]) as agent:
            before = perf_events(agent.pid)
            load = subprocess.Popen([common.load("cpu"), "1"], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            self.burst(agent, load.pid, "--for", "60s")
            self.assertGreater(perf_events(agent.pid), before)
            load.wait(common.bound(60))
            # What the burst held goes, long before its time is over.
            common.wait_until(lambda: perf_events(agent.pid) == before, 20, "the burst's end")
            self.assertIn("there is no process", self.burst(agent, load.pid, status=1).stderr)
