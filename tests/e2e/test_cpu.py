# SPDX-License-Identifier: Apache-2.0
"""profile.cpu against a load of known shape, and against perf beside it."""
import collections
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import common

RATE = 99
SECONDS = 8
FRAME = re.compile(r"^(?P<name>.+)\+0x[0-9a-f]+ \((?P<library>[^()]+|\[.*\])\)$")
CHAINS = {
    "spin_seventy": ["spin_seventy", "burn_b", "burn_a", "main"],
    "spin_thirty": ["spin_thirty", "burn_c", "main"],
}


def function(frame):
    """The function of a frame text, or the text itself where there is none."""
    match = FRAME.match(frame)
    return match["name"] if match else frame


def user_side(row):
    return [function(f) for f in row["stack"] if not f.endswith("([k])")]


def burn(seconds):
    """Runs the load; returns its pid, the CPU seconds it used, and how many of these may have been stolen from it."""
    before = common.stolen()
    done = subprocess.run([common.load("cpu"), str(seconds)], stdout=subprocess.PIPE, text=True, check=True,
                          timeout=common.bound(60 + 20 * seconds))
    pid, used = done.stdout.split()
    return int(pid), float(used), common.stolen() - before


def leaves(rows):
    """Samples by the load's innermost own function."""
    counts = collections.Counter()
    for row in rows:
        names = [n for n in user_side(row) if n in CHAINS]
        counts[names[0] if names else "other"] += row["value"]
    return counts


class Cpu(common.TestCase):
    def profile(self, seconds, beside=None, settings=()):
        with common.Agent(modules="cpu", settings=["agent.window=2s", *settings]) as agent:
            if beside:
                beside.start()
            pid, used, stolen = burn(seconds)
            if beside:
                beside.stop()
            agent.stop()
            rows = agent.rows()
        own = [r for r in rows if r["type"] == "profile.cpu" and r["pid"] == pid]
        self.assertTrue(own, "no row of the load")
        return rows, own, used, stolen

    def test_load_of_known_shape(self):
        rows, own, used, stolen = self.profile(SECONDS)
        samples = sum(r["value"] for r in own)

        # As many samples as CPU time: 5 %, and what the begin and end of a process may add.
        self.assertLessEqual(samples, 1.05 * RATE * used + 2)
        self.assertGreaterEqual(samples, 0.95 * RATE * (used - stolen) - 2)
        whole = right = 0
        for row in own:
            names = user_side(row)
            leaf = next((n for n in names if n in CHAINS), None)
            if leaf:
                whole += row["value"]
                right += row["value"] * (names[:len(CHAINS[leaf])] == CHAINS[leaf])
        self.assertGreaterEqual(whole, 0.95 * samples)
        self.assertGreaterEqual(right, 0.99 * whole, [r["stack"] for r in own])
        counts = leaves(own)
        near = 0.15 if common.GUEST else 0.065
        self.assertAlmostEqual(counts["spin_seventy"] / samples, 0.7, delta=near)
        self.assertAlmostEqual(counts["spin_thirty"] / samples, 0.3, delta=near)
        self.check_rows(rows)

    def check_rows(self, rows):
        """What every row must be, and the ledger: each sample is in a row, or was dropped for a reason."""
        profile = [r for r in rows if r["type"] == "profile.cpu"]
        stacks = collections.defaultdict(set)
        for row in profile:
            self.assertEqual(row["unit"], "samples")
            self.assertGreater(row["value"], 0)
            self.assertGreater(row["window_ns"], 0)
            self.assertLess(row["window_ns"], 6e9 * common.SLOWNESS)  # 1 s, and what new names may take
            self.assertRegex(row["stack_id"], "^[0-9a-f]{16}$")
            self.assertNotIn("[unknown]", " ".join(row["stack"]))
            user_began = False
            for frame in row["stack"]:
                self.assertFalse(user_began and frame.endswith("([k])"), row["stack"])
                user_began = user_began or not frame.endswith("([k])")
            stacks[row["stack_id"]].add(tuple(row["stack"]))
        for texts in stacks.values():
            # Functions that are inlined there are known only after the others, and a file's functions not in its first moments.
            named = [t for t in texts if not any(f.endswith("]") and not f.endswith("[inline]") for f in t)]
            self.assertLessEqual(len({tuple(function(f) for f in t if not f.endswith("[inline]")) for t in named}), 1, texts)
        types = common.ledger(rows)
        self.assertEqual(common.ledger_faults({"profile.cpu": types["profile.cpu"]}), [])
        if "cpu.sample" in types:
            self.assertEqual(sum(r["value"] for r in profile), types["cpu.sample"]["journaled"])
            self.assertEqual(common.ledger_faults({"cpu.sample": {**types["cpu.sample"], "acknowledged": 0, "pending": 0,
                                                                  "expired": types["cpu.sample"]["journaled"]}}), [])

    @common.host_only("perf is of the host's kernel")
    @unittest.skipUnless(shutil.which("perf"), "perf is not installed")
    def test_agrees_with_perf(self):
        with tempfile.TemporaryDirectory() as folder:
            perf = Perf(os.path.join(folder, "data"))
            _, own, *_ = self.profile(SECONDS, perf)
            theirs = perf.leaves(own[0]["pid"])
        ours = leaves(own)
        chance = 4 * (2 * 0.7 * 0.3 / sum(ours.values())) ** 0.5  # four standard deviations between two samplings
        for name in CHAINS:
            self.assertAlmostEqual(ours[name] / sum(ours.values()), theirs[name] / sum(theirs.values()), delta=max(0.05, chance),
                                   msg=f"{name}: {ours} beside perf's {theirs}")
        self.assertAlmostEqual(sum(ours.values()) / sum(theirs.values()), 1, delta=0.05)

    @common.host_only("an emulated timer loses ticks at this rate")
    def test_rate_is_an_option(self):
        _, own, used, stolen = self.profile(3, settings=["modules.cpu.rate=499"])
        samples = sum(r["value"] for r in own)
        self.assertLessEqual(samples, 1.05 * 499 * used + 5)
        self.assertGreaterEqual(samples, 0.95 * 499 * (used - stolen) - 5)

    @common.host_only("needs two CPUs of their own")
    def test_who_waits_for_another_cpu_is_sampled_as_often_as_it_runs(self):
        """Timers that expire together on both CPUs find the reader idle nearly always: its writer is being sampled. What is still
        missing is the reader's way to sleep, where no timer interrupts: perf of one CPU alone misses as much."""
        with common.Agent(modules="cpu", settings=["agent.window=2s"]) as agent:
            before = common.stolen()
            done = subprocess.run([common.load("relay"), str(SECONDS)], stdout=subprocess.PIPE, text=True, check=True, timeout=common.bound(60))
            stolen = RATE * (common.stolen() - before)
            agent.stop()
            rows = agent.rows("profile.cpu")
        writer, writer_used, reader, reader_used = done.stdout.split()
        found = {who: sum(r["value"] for r in rows if r["pid"] == int(who)) for who in (writer, reader)}
        self.assertGreaterEqual(found[writer], 0.95 * RATE * float(writer_used) - 2 - stolen)
        self.assertLessEqual(found[writer], 1.05 * RATE * float(writer_used) + 2)
        self.assertGreater(found[reader], 0.75 * RATE * float(reader_used) - stolen)
        self.assertLess(found[reader], 1.05 * RATE * float(reader_used) + 2)

    def test_idle_is_not_sampled(self):
        with common.Agent(modules="cpu", settings=["agent.window=1s"]) as agent:
            agent.wait_row("profile.cpu")
            agent.stop()
            rows = agent.rows("profile.cpu")
        self.assertFalse([r for r in rows if r["pid"] == 0])


class Perf:
    """perf record of the whole host, by the same clock and rate."""

    def __init__(self, path):
        self.path, self.process = path, None

    def start(self):
        self.process = subprocess.Popen(["perf", "record", "-q", "--buildid-mmap", "-F", str(RATE), "-e", "cpu-clock", "-a", "-o", self.path],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        common.wait_until(lambda: os.path.exists(self.path) and os.path.getsize(self.path) > 0, 10, "perf's file")

    def stop(self):
        self.process.send_signal(common.signal.SIGINT)
        self.process.wait(common.bound(30))

    def leaves(self, pid):
        out = subprocess.run(["perf", "script", "-i", self.path, "--pid", str(pid), "-F", "ip,sym"], text=True, check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        counts = collections.Counter()
        for line in out.splitlines():
            name = line.split()[1] if len(line.split()) > 1 else "other"
            counts[name if name in CHAINS else "other"] += 1
        return counts


if __name__ == "__main__":
    unittest.main()
