# SPDX-License-Identifier: Apache-2.0
"""sched.thread and sched.runqueue against the kernel's own account of each thread, as the thread read it at its end."""
import collections
import os
import subprocess
import tempfile

import cgroups
import common

SECONDS = 4
TICK = 10e6 * common.SLOWNESS
Thread = collections.namedtuple("Thread", "tid what wall running runnable")


def threads_of(output):
    lines = (line.split() for line in output.splitlines())
    return [Thread(int(v[1]), v[2], *(int(n) for n in v[3:])) for v in lines if v[0] == "thread"]


class Sched(common.TestCase):
    def observe(self, mode, folder="/tmp"):
        with common.Agent(modules="sched", settings=["agent.window=1s"]) as agent:
            done = subprocess.run([common.load("wait"), mode, str(SECONDS), folder], stdout=subprocess.PIPE, text=True, check=True,
                                  timeout=common.bound(60))
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        sums = collections.defaultdict(collections.Counter)
        for row in rows:
            if row["type"] == "sched.thread":
                for key, value in row.items():
                    if isinstance(value, int):
                        sums[row["tid"]][key] += value
        for row in rows:
            if row["type"] == "sched.thread":
                parts = sum(row[f"{part}_ns"] for part in ("running", "runnable", "sleeping", "blocked"))
                self.assertAlmostEqual(parts, row["window_ns"], delta=0.02 * row["window_ns"] + TICK, msg=row)
        threads = threads_of(done.stdout)
        self.assertTrue(threads)
        for thread in threads:
            seen = sums[thread.tid]
            # Before it begins to count and after its last word a thread runs and waits for a moment.
            slack = 0.02 * thread.wall + TICK
            self.assertAlmostEqual(seen["running_ns"], thread.running, delta=slack)
            self.assertAlmostEqual(seen["runnable_ns"], thread.runnable, delta=slack)
            waited = thread.wall - thread.running - thread.runnable
            if seen["voluntary"] < 4 * SECONDS:  # it sleeps through whole windows, which have no row of it
                self.assertLess(seen["sleeping_ns"], waited + slack)
                continue
            self.assertAlmostEqual(seen["sleeping_ns"] + seen["blocked_ns"], waited, delta=slack)
        return threads, sums, rows

    def test_ping_pong_is_split(self):
        threads, sums, _ = self.observe("pipe")
        for thread in threads:
            self.assertGreater(sums[thread.tid]["voluntary"], 1000 / common.SLOWNESS)
            self.assertLess(sums[thread.tid]["blocked_ns"], 0.01 * thread.wall + TICK)

    def test_sleepers_sleep(self):
        threads, sums, _ = self.observe("sleep")
        for thread in threads:
            self.assertLess(sums[thread.tid]["blocked_ns"], 0.01 * thread.wall + TICK)

    @common.host_only("its only file system is in memory")
    def test_writer_is_blocked(self):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            threads, sums, _ = self.observe("fsync", folder)
        seen = sums[threads[0].tid]
        self.assertGreater(seen["blocked_ns"], 0.9 * (seen["blocked_ns"] + seen["sleeping_ns"]))

    def test_run_queue_of_a_cgroup(self):
        """Four that spin in one cgroup wait for CPUs: the histogram has as many waits as they were switched in, and their time in sum."""
        hierarchy = cgroups.hierarchies()[0]
        program = "import os, time\nfor _ in range(7):\n    if os.fork() == 0: break\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass\n"
        with common.Agent(modules="sched", settings=["agent.window=1s"]) as agent, cgroups.made(hierarchy, "sonde-sched") as (folder,):
            cgroups.spawn(folder, ["/usr/bin/python3", "-c", program])
            common.wait_until(lambda: not open(os.path.join(folder, "cgroup.procs")).read(), 20, "the spinners' end")
            agent.stop()
            rows = agent.rows()
        self.assertLedgerExact(rows)
        queues = [r for r in rows if r["type"] == "sched.runqueue" and r.get("cgroup", "").endswith("/sonde-sched")]
        threads = [r for r in rows if r["type"] == "sched.thread" and r.get("cgroup", "").endswith("/sonde-sched")]
        self.assertTrue(queues)
        self.assertFalse([r for r in queues if "pid" in r])
        for row in queues:
            self.assertEqual(sum(row["hist"].values()), row["count"])
            self.assertLessEqual(row["p50_ns"], row["p90_ns"])
            self.assertLessEqual(row["p90_ns"], row["p99_ns"])
            self.assertLessEqual(row["p99_ns"], row["p999_ns"])
            self.assertLessEqual(row["p999_ns"], row["max_ns"])
            least = sum(int(begin) * count for begin, count in row["hist"].items())
            self.assertLessEqual(least, row["sum_ns"])
            # Above a microsecond a bucket is at most a quarter of its begin wide.
            self.assertLessEqual(row["sum_ns"], 1.25 * least + 1024 * row["count"])
        runnable = sum(r["runnable_ns"] for r in threads)
        self.assertGreater(runnable, 3e9)
        self.assertAlmostEqual(sum(r["sum_ns"] for r in queues) / runnable, 1, delta=0.05)
        switched = sum(r["voluntary"] + r["involuntary"] for r in threads)
        self.assertAlmostEqual(sum(r["count"] for r in queues) / switched, 1, delta=0.1)


if __name__ == "__main__":
    common.unittest.main()
