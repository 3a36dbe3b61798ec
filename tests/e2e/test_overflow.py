# SPDX-License-Identifier: Apache-2.0
"""When the journal is full of what the sink has not taken, when a ring is full, when the disk is full: what is lost is exactly what
the ledger and agent.loss say, and the policies keep what they promise."""
import collections
import errno
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

import common
from storm import Storm, TYPES, settings, storm

NOWHERE = {"sinks.kafka.enabled": "true", "sinks.kafka.brokers": "127.0.0.1:1", "sinks.kafka.flush_timeout": "100ms"}
SMALL = {"journal.size": "4MiB", "journal.segment": "128KiB", "agent.ledger_interval": "200ms"}


def losses(rows):
    """(type, reason) -> events that agent.loss tells of."""
    told = collections.Counter()
    for row in rows:
        if row["type"] == "agent.loss":
            told[row["event"], row["reason"]] += row["count"]
    return told


class Exact(common.TestCase):
    def assertExact(self, rows, run=None):
        """Every ledger satisfies its equations; the last one has nothing open, agrees with what the journal holds and with agent.loss."""
        run = run or rows[-1]["run"]
        rows = [r for r in rows if r["run"] == run]
        ledgers = [r for r in rows if r["type"] == "agent.ledger"]
        for row in ledgers:
            self.assertEqual(common.ledger_faults(row["types"]), [])
        last = ledgers[-1]
        there, told = collections.Counter(r["type"] for r in rows), losses(rows)
        for name, c in last["types"].items():
            # The agent writes on behind its last ledger; and some types never leave it.
            if name.startswith("agent.") or name not in common.schema_types():
                continue
            self.assertEqual(c["open"], 0, name)
            self.assertNotIn("unaccounted", c["dropped"], name)
            self.assertEqual(there[name], c["journaled"] - sum(c["expired"].values()), f"{name}: {c}")
            for reason, count in {**c["dropped"], **c["expired"]}.items():
                # An agent.loss may itself have been among the oldest.
                if last["types"].get("agent.loss", {}).get("expired"):
                    self.assertLessEqual(told[name, reason], count, f"{name} {reason}")
                elif reason != "retention":
                    self.assertEqual(told[name, reason], count, f"{name} {reason}")
        return last["types"]


@common.host_only("its storms are too fast for an emulated kernel, and what they test lies in user space")
class Overflow(Exact):
    """A sink that never takes anything, and a journal of 4 MiB."""

    def run_storm(self, kinds, count, **more):
        with common.Agent("storm", {**settings(**more), **NOWHERE, **SMALL}) as agent:
            load = storm(kinds, 2, 30000, count)
            agent.stop()
            self.assertLess(sum(os.path.getsize(os.path.join(agent.journal, f)) for f in os.listdir(agent.journal)), 4 << 20 | 65536)
            return load, agent.rows(), agent.output()

    def test_drop_oldest_gives_up_the_oldest(self):
        load, rows, _ = self.run_storm("P", 40000)
        counts = self.assertExact(rows)["storm.alarm"]
        self.assertEqual(counts["produced"] - counts["filtered"], 80000)
        self.assertGreater(counts["expired"]["overflow"], 10000)
        self.assertEqual(counts["dropped"], {})
        self.assertGapless(rows)
        # What is there is what came last, of each thread.
        for thread in load.made:
            kept = [r["n"] & 0xffffff for r in rows if r["type"] == "storm.alarm" and r["n"] >> 24 == thread]
            self.assertEqual(kept, list(range(load.made[thread] - len(kept), load.made[thread])))

    def test_drop_newest_keeps_the_oldest(self):
        load, rows, _ = self.run_storm("P", 40000, modules__storm__overflow="drop-newest")
        counts = self.assertExact(rows)["storm.alarm"]
        self.assertGreater(counts["dropped"]["journal_full"], 10000)
        self.assertEqual(counts["expired"], {})
        for thread in load.made:
            kept = [r["n"] & 0xffffff for r in rows if r["type"] == "storm.alarm" and r["n"] >> 24 == thread]
            self.assertEqual(kept, list(range(len(kept))))

    def test_block_leaves_them_in_the_ring(self):
        with common.Agent("storm", {**settings(modules__storm__overflow="block", agent__drain_timeout="200ms"), **NOWHERE, **SMALL}) as agent:
            storm("P", 2, 30000, 40000)
            common.wait_until(lambda: agent_types(agent)["storm.alarm"]["open"] > 0, 10, "events that wait in the ring")
            used = cpu_ticks(agent.pid)
            time.sleep(1)  # the measure itself: a blocked ring must not keep the loop busy
            self.assertLess(cpu_ticks(agent.pid) - used, 0.3 * os.sysconf("SC_CLK_TCK"))
            agent.stop()
            rows = agent.rows()
        counts = self.assertExact(rows)["storm.alarm"]
        self.assertEqual(counts["expired"], {})
        self.assertGreater(counts["dropped"]["journal_full"], 0)
        self.assertEqual([r["seq"] for r in rows][0], 1)

    def test_security_outlives_profiles(self):
        """A flood on bulk pushes out no event of the priority ring: all of them are there, and the flood's loss is counted."""
        with common.Agent("storm", {**settings(), **NOWHERE, **SMALL}) as agent:
            with Storm("B", 1, 50000) as flood:
                alarms = storm("P", 1, 500, 1500)
                flood.stop()
            agent.stop()
            rows = agent.rows()
        counts = self.assertExact(rows)
        self.assertEqual({r["n"] for r in rows if r["type"] == "storm.alarm"}, alarms.numbers("P"))
        self.assertEqual(counts["storm.alarm"]["expired"], {})
        self.assertGreater(counts["storm.noise"]["dropped"]["journal_full"], 10000)

    def test_profiles_alone_give_up_the_oldest(self):
        load, rows, _ = self.run_storm("B", 40000)
        counts = self.assertExact(rows)["storm.noise"]
        self.assertGreater(counts["expired"].get("overflow", 0), 10000)
        for thread in load.made:
            last = [r["n"] & 0xffffff for r in rows if r["type"] == "storm.noise" and r["n"] >> 24 == thread][-1]
            self.assertEqual(last, load.made[thread] - 1)

    def test_without_a_sink_the_bound_is_no_loss(self):
        with common.Agent("storm", {**settings(), **SMALL}) as agent:
            storm("PB", 2, 30000, 40000)
            agent.stop()
            rows = agent.rows()
        counts = self.assertExact(rows)
        for name in TYPES.values():
            self.assertEqual(counts[name]["produced"] - counts[name]["filtered"], 40000)
            self.assertGreater(counts[name]["expired"]["retention"], 0)
        self.assertEqual(losses(rows), {})

    def test_what_an_earlier_run_left_is_told_when_it_goes(self):
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            with common.Agent("storm", {**settings(), **NOWHERE, **SMALL}, journal=journal) as agent:
                storm("P", 1, 0, 5000)
                agent.stop()
                left = common.ledger(agent.rows())["storm.alarm"]["pending"]
            with common.Agent("storm", {**settings(), **NOWHERE, **SMALL}, journal=journal) as agent:
                storm("P", 2, 30000, 40000)
                agent.stop()
                rows = agent.rows()
        self.assertExact(rows)
        self.assertEqual(left, 5000)
        self.assertEqual(losses(rows)["storm.alarm", "earlier_run"], 5000)


def agent_types(agent):
    """The ledger that the agent gives when asked."""
    return json.loads(common.sonde("stats", "--json", "--set", f"agent.control={agent.control}").stdout)["types"]


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@common.host_only("its storms are too fast for an emulated kernel, and what they test lies in user space")
class Rings(Exact):
    def test_what_a_full_ring_loses_is_counted(self):
        with common.Agent("storm", {**settings(), "rings.priority": "64KiB", "rings.bulk": "4KiB"}) as agent:
            agent.signal(signal.SIGSTOP)
            load = storm("PB", 2, 0, 20000)
            agent.signal(signal.SIGCONT)
            agent.stop()
            rows = agent.rows()
        counts, told = self.assertExact(rows), losses(rows)
        self.assertGapless(rows)
        for kind, name in TYPES.items():
            seen = {r["n"] for r in rows if r["type"] == name}
            made = load.numbers(kind)
            self.assertLessEqual(seen, made)
            self.assertEqual(counts[name]["produced"] - counts[name]["filtered"], len(made))
            self.assertGreater(len(made) - len(seen), 10000)
            self.assertEqual(told[name, "ring_full"], len(made) - len(seen))


def fill(path):
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    for size in (65536, 4096):
        try:
            while True:
                os.write(file, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    os.close(file)


@common.host_only("its storms are too fast for an emulated kernel, and what they test lies in user space")
class Disk(Exact):
    """A journal on a disk of 3 MiB that somebody else fills."""

    def setUp(self):
        self.disk = tempfile.mkdtemp(prefix="sonde-disk-")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "sonde-disk", self.disk], check=True)
        self.addCleanup(os.rmdir, self.disk)
        self.addCleanup(subprocess.run, ["umount", "-l", self.disk], check=True)

    def test_a_full_disk_costs_what_is_counted_and_no_more(self):
        journal, filler = os.path.join(self.disk, "journal"), os.path.join(self.disk, "filler")
        more = {"journal.size": "64MiB", "journal.segment": "1MiB", "agent.ledger_interval": "200ms"}
        with common.Agent("storm", {**settings(), **more}, journal=journal) as agent:
            fill(filler)
            storm("P", 2, 30000, 20000)
            self.assertIsNone(agent.process.poll())
            os.unlink(filler)
            agent.wait_row("agent.loss", lambda r: r["reason"] == "disk_full")
            again = storm("P", 3, 0, 100)
            agent.stop()
            rows = agent.rows()
        last = [r for r in rows if r["type"] == "agent.ledger"][-1]
        counts = last["types"]["storm.alarm"]
        self.assertGreater(counts["dropped"]["disk_full"], 1000)
        self.assertEqual(losses(rows)["storm.alarm", "disk_full"], counts["dropped"]["disk_full"])
        self.assertExact(rows)
        self.assertEqual({r["n"] for r in rows if r["type"] == "storm.alarm" and r["n"] >> 24 == 2}, {n for n in again.numbers("P") if n >> 24 == 2})


@common.host_only("its storms are too fast for an emulated kernel, and what they test lies in user space")
class Damage(common.TestCase):
    def test_a_damaged_journal_starts_counts_and_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            with common.Agent("storm", settings(), journal=journal) as agent:
                storm("P", 1, 0, 2000)
                agent.wait_rows("storm.alarm", count=2000)
                agent.kill()
            before = {(r["run"], r["seq"]) for r in common.cat(journal)}
            segment = sorted(f for f in os.listdir(journal) if f.endswith(".seg") or f.startswith("segment") or f[0].isdigit())[-1]
            with open(os.path.join(journal, segment), "r+b") as file:
                file.seek(100000)
                file.write(os.urandom(4096))
            with common.Agent("storm", settings(), journal=journal) as agent:
                storm("P", 1, 0, 10)
                agent.stop()
                said = [line for line in agent.output().splitlines() if "damage" in line]
                rows = agent.rows()
        self.assertEqual(len(said), 1, said)
        after = {(r["run"], r["seq"]) for r in rows}
        self.assertGreater(len(before & after), 1900)
        self.assertLess(len(before & after), len(before))
        self.assertEqual(sum(r["type"] == "storm.alarm" and r["run"] == rows[-1]["run"] for r in rows), 10)


if __name__ == "__main__":
    unittest.main()
