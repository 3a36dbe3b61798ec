# SPDX-License-Identifier: Apache-2.0
"""profile.offcpu against threads that wait in known ways, by the kernel's own account of each.

SONDE_WAIT_SECONDS is how long each load runs: 6 unless set; 60 is the long form.
"""
import collections
import os
import subprocess
import tempfile
import time

import common
import lossy

SECONDS = float(os.environ.get("SONDE_WAIT_SECONDS") or 6)
INTERVAL = 10e6
# The scheduler's clock of an emulated processor is told from outside less well than that of a real one.
PART = 0.05 if common.GUEST else 0.02

Thread = collections.namedtuple("Thread", "tid what wall running runnable")


class Load:
    """One run of load_wait: its threads, and what they said they wait for."""

    def __init__(self, mode, folder="/tmp", **options):
        done = subprocess.run([common.load("wait"), mode, str(SECONDS), folder], stdout=subprocess.PIPE, text=True, check=True,
                              timeout=common.bound(60 + 3 * SECONDS), **options)
        self.threads, self.said = [], collections.defaultdict(list)
        for line in done.stdout.splitlines():
            key, *values = line.split()
            if key == "thread":
                self.threads.append(Thread(int(values[0]), values[1], *(int(v) for v in values[2:])))
            else:
                self.said[key].append(values)
        self.pid = int(self.said["pid"][0][0])


class OffCpu(common.TestCase):
    def observe(self, mode, settings=("modules.offcpu.rate=10000",), folder="/tmp", **options):
        """The load's own rows. At the rate that is set here the interval stays what it is, however busy the machine."""
        with common.Agent(modules="offcpu", settings=["agent.window=2s", *settings]) as agent:
            load = Load(mode, folder, **options)
            agent.stop()
            rows = agent.rows()
        own = [r for r in rows if r["type"] == "profile.offcpu" and r["pid"] == load.pid]
        self.check_rows(rows)
        self.check_totals(load, own)
        return load, own

    def check_totals(self, load, rows):
        """Each thread's waits are what its wall clock says less running and runnable: 2 % (on real processors), and the interval that is not over."""
        for thread in load.threads:
            truth = thread.wall - thread.running - thread.runnable
            own = [r for r in rows if r["tid"] == thread.tid]
            seen = sum(r["value"] for r in own)
            interval = max([INTERVAL] + [r["value"] / r["waits"] for r in own if thread.what == "pipe"])  # whose waits are short
            print(f"{thread.what} {thread.tid}: {truth / 1e6:.1f} ms waited, {seen / 1e6:.1f} ms seen,"
                  f" {100 * (seen - truth) / max(truth, 1):+.2f} %", flush=True)
            self.assertAlmostEqual(seen, truth, delta=PART * truth + 2 * interval)

    def check_rows(self, rows):
        profile = [r for r in rows if r["type"] == "profile.offcpu"]
        self.assertTrue(profile)
        for row in profile:
            self.assertEqual(row["unit"], "ns")
            self.assertGreater(row["value"], 0)
            self.assertGreater(row["waits"], 0)
            self.assertIn(row["state"], ("sleeping", "blocked"))
            self.assertNotEqual(row["tid"], 0)
            self.assertRegex(row["stack_id"], "^[0-9a-f]{16}$")
        types = common.ledger(rows)
        self.assertEqual(common.ledger_faults({"profile.offcpu": types["profile.offcpu"]}), [])
        self.assertEqual(types["offcpu.sample"]["produced"], types["offcpu.sample"]["journaled"])
        self.assertEqual(sum(r["waits"] for r in profile), types["offcpu.sample"]["journaled"])

    def share(self, rows, condition):
        return sum(r["value"] for r in rows if condition(r)) / max(1, sum(r["value"] for r in rows))

    def calls(self, row, chain):
        """Whether these functions are one behind the other among the program's frames."""
        names = [f.split("+")[0] for f in row["stack"] if not f.endswith(("([k])", "[inline]"))]
        return any(names[i:i + len(chain)] == chain for i in range(len(names)))

    def test_futex_convoy(self):
        load, rows = self.observe("futex")
        tids = {t.tid for t in load.threads}
        waits = [r for r in rows if r["tid"] in tids and r.get("syscall") == "futex"]
        # The convoy: each holds the mutex for 3 ms of 12, sleeps 1 ms, and waits for the others else.
        self.assertGreater(self.share([r for r in rows if r["tid"] in tids], lambda r: r in waits), 0.4)
        address = load.said["futex"][0][0].rjust(16, "0")
        self.assertGreaterEqual(self.share(waits, lambda r: r.get("futex") == address), 0.99)
        self.assertGreaterEqual(self.share(waits, lambda r: r.get("futex_holder") in tids - {r["tid"]}), 0.95,
                                [(r["tid"], r.get("futex_holder")) for r in waits])
        self.assertGreaterEqual(self.share(waits, lambda r: r.get("wait", "").startswith("futex_")), 0.99)
        self.assertGreaterEqual(self.share(waits, lambda r: self.calls(r, ["pthread_mutex_lock", "wait_futex", "run"])), 0.98,
                                [r["stack"] for r in waits])

    @common.host_only("its only file system is in memory")
    def test_disk_fsync(self):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            load, rows = self.observe("fsync", folder=folder)
            device = os.stat(folder).st_dev
        rows = [r for r in rows if r["tid"] == load.threads[0].tid]
        self.assertGreaterEqual(self.share(rows, lambda r: r.get("syscall") == "fsync" and r["state"] == "blocked" and
                                           r.get("file") == load.said["file"][0][0] and r.get("dev") == device), 0.9,
                                [(r.get("syscall"), r["state"], r.get("file"), r.get("dev")) for r in rows])

    @common.same_on_every_kernel
    def test_pipe_ping_pong(self):
        load, rows = self.observe("pipe")
        pipes = {f"pipe:[{inode}]" for inode, in load.said["pipe"]}
        tids = {t.tid for t in load.threads}
        self.assertGreaterEqual(self.share([r for r in rows if r["tid"] in tids], lambda r: r.get("syscall") == "read" and
                                           r.get("file") in pipes and "pipe_read" in r.get("wait", "")), 0.99)

    @common.same_on_every_kernel
    def test_sleepers(self):
        load, rows = self.observe("sleep")
        tids = [t.tid for t in load.threads]
        self.assertGreaterEqual(self.share([r for r in rows if r["tid"] in tids],
                                           lambda r: r.get("syscall") in ("nanosleep", "clock_nanosleep")), 0.99)
        # The one that sleeps all the time is in every window that it sleeps through.
        whole = max(load.threads, key=lambda t: t.wall - t.running)
        windows = {r["ts"] for r in rows}
        for thread in load.threads:
            if thread.tid == whole.tid:
                self.assertGreaterEqual(len({r["ts"] for r in rows if r["tid"] == thread.tid}), min(len(windows) - 1, SECONDS // 2))

    @common.same_on_every_kernel
    def test_slow_socket(self):
        self.check_socket(*self.observe("socket"))

    @common.host_only("programs of cgroups are not carried there")
    def test_lossy_socket(self):
        before = lossy.retransmits()
        with lossy.Lossy() as network:
            for _ in range(5):
                load, rows = self.observe("socket", preexec_fn=network.enter)
                client = next(t.tid for t in load.threads if t.what == "client")
                # Segments of the handshake are lost too: then most of the time goes by in connect(2).
                if self.share([r for r in rows if r["tid"] == client], lambda r: r.get("syscall") == "connect") < 0.02:
                    break
        self.assertGreater(lossy.retransmits() - before, 3, "nothing was lost")
        self.check_socket(load, rows)

    def check_socket(self, load, rows):
        laddr, lport, raddr, rport = load.said["socket"][0]
        client = next(t.tid for t in load.threads if t.what == "client")
        self.assertGreaterEqual(self.share([r for r in rows if r["tid"] == client],
                                           lambda r: r.get("syscall") == "recvfrom" and
                                           (r.get("laddr"), r.get("lport"), r.get("raddr"), r.get("rport")) ==
                                           (laddr, int(lport), raddr, int(rport))), 0.95,
                                [(r.get("syscall"), r.get("laddr"), r.get("lport"), r.get("raddr"), r.get("rport")) for r in rows])

    @common.same_on_every_kernel
    def test_waker_is_named(self):
        load, rows = self.observe("pipe", ["modules.offcpu.waker=true", "modules.offcpu.rate=10000"])
        first, second = (t.tid for t in load.threads)
        for tid, other in ((first, second), (second, first)):
            self.assertGreaterEqual(self.share([r for r in rows if r["tid"] == tid], lambda r: r.get("waker_tid") == other), 0.95)

    @common.same_on_every_kernel
    def test_interval_grows_under_load(self):
        """More samples are due than may be: the sums stay right."""
        load, rows = self.observe("pipe", ["modules.offcpu.interval=1ms", "modules.offcpu.rate=100"])
        tids = {t.tid for t in load.threads}
        self.assertGreater(max(r["value"] / r["waits"] for r in rows if r["tid"] in tids), 1.5e6)

    def test_waits_before_the_agent(self):
        """A thread that began to wait before, and still waits, is in each window, and for no longer than the agent runs."""
        process = subprocess.Popen(["sleep", "60"])
        try:
            begin = time.monotonic()
            with common.Agent(modules="offcpu", settings=["agent.window=1s"]) as agent:
                agent.wait_rows("profile.offcpu", lambda r: r["pid"] == process.pid, 3)
                agent.stop()
                rows = [r for r in agent.rows("profile.offcpu") if r["pid"] == process.pid]
            wall = (time.monotonic() - begin) * 1e9
        finally:
            process.kill()
            process.wait()
        self.assertLess(sum(r["value"] for r in rows), wall)
        self.assertGreater(sum(r["value"] for r in rows), 2e9)
        # Where it is slow, the program may still have been on its way there.
        self.assertGreaterEqual(self.share(rows, lambda r: r.get("syscall") in ("nanosleep", "clock_nanosleep")), 0.8)


if __name__ == "__main__":
    common.unittest.main()
