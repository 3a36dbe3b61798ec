# SPDX-License-Identifier: Apache-2.0
"""profile.cpu where processes make it hard: short-lived, in a mount namespace of their own, deleted, replaced by exec, many; and
where the stack worker is killed or stopped below the load."""
import collections
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import common
import corpus

WINDOW = "agent.window=2s"


def setUpModule():
    corpus.build(["plain"])


def program(name="plain"):
    return os.path.join(corpus.BINARIES, name)


def burned(text):
    return float(re.search(r"^burned (\S+)$", text, re.M)[1])


def run(argv, **options):
    """(pid, seconds burned for certain) of a corpus program run to its end."""
    before = common.stolen()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **options)
    said, _ = process.communicate(timeout=common.bound(120))
    if process.returncode:
        raise AssertionError(f"{argv} ended with {process.returncode}")
    return process.pid, burned(said) - (common.stolen() - before)


def pid_of_worker(agent):
    return json.loads(common.sonde("stats", "--json", "--set", f"agent.control={agent.control}").stdout)["worker"]["pid"]


class Profiled(common.TestCase):
    def assertPlain(self, rows, pid, seconds, case="plain"):
        """The rows of this process show the chain of tests/corpus/plain.c in 99 % of its samples."""
        verdict = corpus.verdict(corpus.BY_NAME[case], rows, pid, seconds)
        print(f"\n  {verdict} ", end="", flush=True)
        self.assertEqual(verdict.faults(), [], f"{verdict}\n{verdict.details()}")

    def assertSettled(self, rows, allow=()):
        """Every sample is in a row, or was dropped for one of these reasons: returns how many were."""
        samples = common.ledger(rows)["cpu.sample"]
        in_rows = sum(r["value"] for r in rows if r["type"] == "profile.cpu")
        dropped = sum(samples["dropped"].values())
        self.assertEqual(samples["journaled"], in_rows)
        self.assertEqual(samples["produced"], samples["filtered"] + dropped + in_rows)
        self.assertLessEqual(set(samples["dropped"]), set(allow), samples["dropped"])
        return dropped


@common.host_only("bounds of time, which an emulated processor does not keep")
class Brief(Profiled):
    """Processes of 50 ms, each under a name of its own, all gone when their rows are written."""
    COUNT = common.scaled(500, 50)

    def burst(self, beside=None):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            names = [f"brief-{i:03}" for i in range(self.COUNT)]
            for name in names:
                os.symlink(program(), os.path.join(folder, name))
            with common.Agent(modules="cpu", settings=[WINDOW]) as agent:
                if beside:
                    beside.start()
                with concurrent.futures.ThreadPoolExecutor(2) as pool:
                    runs = list(pool.map(lambda name: run([os.path.join(folder, name), "0.05"]), names))
                if beside:
                    beside.stop()
                agent.stop()
                rows = agent.rows()
        return dict(zip(names, runs)), rows

    def check(self, runs, rows):
        self.assertEqual(self.assertSettled(rows), 0)
        seen, stacks = collections.Counter(), []
        for row in rows:
            if row["type"] == "profile.cpu" and row["comm"] in runs and row["pid"] == runs[row["comm"]][0]:
                seen[row["comm"]] += row["value"]
                stacks.append((corpus.user_side(row["stack"]), row["value"]))
        verdict = corpus.Verdict(corpus.BY_NAME["plain"], sum(r[1] for r in runs.values()), stacks)
        print(f"\n  {len(seen)} of {len(runs)} processes seen; {verdict} ", end="", flush=True)
        self.assertEqual(verdict.faults(), [], verdict.details())
        return seen

    def test_each_appears_by_name(self):
        runs, rows = self.burst()
        seen = self.check(runs, rows)
        # Five samples each on average: where others want the CPU too, one in 150 gets none by chance.
        self.assertGreaterEqual(len(seen), len(runs) - 2 - len(runs) // 75, set(runs) - set(seen))

    @common.host_only("perf is of the host's kernel")
    def test_as_many_as_perf_sees(self):
        with tempfile.TemporaryDirectory() as folder:
            perf = Perf(os.path.join(folder, "data"))
            runs, rows = self.burst(perf)
            theirs = perf.samples(runs)
        seen = self.check(runs, rows)
        print(f"\n  perf: {len(theirs)} processes, {sum(theirs.values())} samples; sonde: {len(seen)}, {sum(seen.values())} ", end="")
        self.assertGreaterEqual(len(seen), len(theirs) - 2 - len(runs) // 75)
        ours, both = sum(seen.values()), sum(theirs.values())
        self.assertAlmostEqual(ours, both, delta=0.05 * both + 4 * both ** 0.5)


class Perf:
    """perf record of the whole host beside, for who was sampled how often."""

    def __init__(self, path):
        self.path, self.process = path, None

    def start(self):
        self.process = subprocess.Popen(["perf", "record", "-q", "--buildid-mmap", "-F", str(corpus.RATE), "-e", "cpu-clock", "-a", "-o", self.path],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        common.wait_until(lambda: os.path.exists(self.path) and os.path.getsize(self.path) > 0, 10, "perf's file")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(common.bound(30))

    def samples(self, names):
        out = subprocess.run(["perf", "script", "-i", self.path, "-F", "comm"], text=True, check=True, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL).stdout
        return collections.Counter(line.strip() for line in out.splitlines() if line.strip() in names)


@common.host_only("bounds of time, which an emulated processor does not keep")
class Places(Profiled):
    """Programs whose files are not where their names say."""

    def profile(self, work):
        with common.Agent(modules="cpu", settings=[WINDOW]) as agent:
            done = work()
            agent.stop()
            return done, agent.rows()

    def container(self, folder, seconds):
        """The program with its libraries in a tmpfs that only its own mount namespace has, as the root of its file system."""
        os.makedirs(folder, exist_ok=True)
        libraries = re.findall(r"(?:=> |^\s+)(/\S+) \(0x", subprocess.run(["ldd", program()], capture_output=True, text=True).stdout, re.M)
        copies = "".join(f" && mkdir -p {folder}{os.path.dirname(p)} && cp -L {p} {folder}{p}" for p in libraries)
        return run(["unshare", "-m", "--propagation", "private", "sh", "-c",
                    f"mount -t tmpfs none {folder} && mkdir {folder}/app && cp {program()} {folder}/app/contained{copies}"
                    f" && exec chroot {folder} /app/contained {seconds}"])

    def test_container(self):
        with tempfile.TemporaryDirectory() as folder:
            runs, rows = self.profile(lambda: [self.container(folder + "/long", 2), *(self.container(folder + "/short", 0.4) for _ in range(3))])
            self.assertEqual(os.listdir(folder + "/long"), [], "the host sees none of it")
        self.assertPlain(rows, *runs[0])
        for pid, seconds in runs[1:]:
            self.assertPlain(rows, pid, seconds)

    def test_deleted(self):
        def work():
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "deleted")
                shutil.copy(program(), path)
                process = subprocess.Popen([path, "2"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
                common.wait_until(lambda: os.readlink(f"/proc/{process.pid}/exe") == path, 10, "the program")
                os.unlink(path)
            return process.pid, burned(process.communicate()[0])
        (pid, seconds), rows = self.profile(work)
        self.assertPlain(rows, pid, seconds)

    def test_exec_within_a_process(self):
        """One pid, two programs: each sample is named by the one that ran."""
        (pid, seconds), rows = self.profile(lambda: run([program("then"), "1.5", program("plain"), "1.5"]))
        own = [r for r in rows if r["type"] == "profile.cpu" and r["pid"] == pid]
        by_program = {comm: [r for r in own if r["comm"] == comm] for comm in ("then", "plain")}
        self.assertEqual(sum(map(len, by_program.values())), len(own), collections.Counter(r["comm"] for r in own))
        before = {r["proc"] for r in by_program["then"]}
        self.assertEqual(len(before), 1)
        # In the middle of an exec the task has its new name, and is still the old execution.
        late = [r for r in by_program["plain"] if r["proc"] in before]
        self.assertLessEqual(sum(r["value"] for r in late), 2)
        by_program["plain"] = [r for r in by_program["plain"] if r not in late]
        self.assertEqual(len({r["proc"] for r in by_program["plain"]}), 1)
        self.assertPlain(by_program["plain"], pid, seconds)
        first = corpus.Case("then", [], corpus.fn("burn_first") + corpus.fn("first") + corpus.fn("main") + corpus.START, judged=corpus.fn("burn_first"))
        verdict = corpus.verdict(first, by_program["then"], pid, 1.5)
        self.assertEqual(verdict.faults(), [], verdict.details())

    def test_chain_of_shells(self):
        """A shell that a shell became, and then the program: a chain of execs within a moment."""
        (pid, seconds), rows = self.profile(lambda: run(["sh", "-c", f"exec sh -c 'exec env A=b sh -c \"exec {program()} 1.5\"'"]))
        self.assertPlain([r for r in rows if r.get("comm") == "plain"], pid, seconds)


@common.host_only("bounds of time, which an emulated processor does not keep")
class Crowds(Profiled):
    @common.host_only("its memory is too small")
    def test_5000_processes(self):
        self.start_into("processes", 5000)

    def test_2000_mappings(self):
        self.start_into("mappings", 2000)

    def start_into(self, kind, count):
        """An agent that starts into a crowd samples within 500 ms of its start and stays within its memory."""
        crowd = subprocess.Popen([common.load("crowd"), kind, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(crowd.stdout.readline(), "ready\n")
            begin, used = time.time_ns(), common.cpu_seconds(crowd.pid)
            with common.Agent(modules="cpu", settings=["agent.window=1s"]) as agent:
                agent.wait_rows("profile.cpu", lambda r: r["pid"] == crowd.pid, 3, 30)
                resident, used = agent.resident_bytes(), common.cpu_seconds(crowd.pid) - used
                agent.stop()
                rows = agent.rows()
        finally:
            crowd.stdin.close()
            crowd.wait(common.bound(30))
        started = next(r for r in rows if r["type"] == "agent.start")["ts"]
        self.assertEqual(self.assertSettled(rows), 0)
        print(f"\n  {kind}: attached after {(started - begin) / 1e6:.0f} ms, "
              f"{resident / 2**20:.1f} MiB ", end="", flush=True)
        chain = corpus.Case("crowd", [], corpus.fn("burn") + corpus.fn("chain") + corpus.fn("main") + corpus.START)
        # All its CPU time since the agent began, but for half a second, is in samples.
        verdict = corpus.verdict(chain, rows, crowd.pid, max(0, used - 0.5))
        print(verdict, "", end="", flush=True)
        self.assertEqual(verdict.faults(), [], verdict.details())
        if not common.SANITIZED:
            self.assertLess(resident, 64 << 20)
            self.assertLess((started - begin) / 1e6, common.bound(500))


@common.host_only("bounds of time, which an emulated processor does not keep")
class Worker(Profiled):
    """The stack worker is lost below a load: it comes back, what was lost is counted, and the profile goes on."""

    def lose(self, number):
        seconds = 12
        with common.Agent(modules="cpu", settings=["agent.window=1s"]) as agent:
            process = subprocess.Popen([program(), str(seconds)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            agent.wait_row("profile.cpu", lambda r: r["pid"] == process.pid)
            first = common.wait_until(lambda: pid_of_worker(agent), 10, "a worker")
            os.kill(first, number)
            lost = time.time_ns()
            try:
                common.wait_until(lambda: pid_of_worker(agent) not in (0, first), 20, "another worker")
                back = time.time_ns()
                said = process.communicate(timeout=common.bound(120))[0]
            finally:
                process.kill()
                if number == signal.SIGSTOP:
                    try:
                        os.kill(first, signal.SIGCONT)
                    except ProcessLookupError:
                        pass
            agent.stop()
            rows = agent.rows()
        own = [r for r in rows if r["type"] == "profile.cpu" and r["pid"] == process.pid]
        samples = common.ledger(rows)["cpu.sample"]
        print(f"\n  back after {(back - lost) / 1e6:.0f} ms, dropped {samples['dropped']} ", end="", flush=True)
        self.assertEqual(samples["journaled"], sum(r["value"] for r in rows if r["type"] == "profile.cpu"))
        self.assertEqual(common.ledger_faults({"profile.cpu": common.ledger(rows)["profile.cpu"]}), [])
        # None is forgotten: what the kernel took is in rows, or counted as dropped.
        self.assertEqual(samples["produced"], samples["filtered"] + sum(samples["dropped"].values()) + samples["journaled"])
        total = sum(r["value"] for r in own)
        expected = burned(said) * corpus.RATE
        self.assertGreaterEqual(total + sum(samples["dropped"].values()), 0.9 * expected - 4 * expected ** 0.5)
        # Before it, and again once it is back, with a second for the windows between: whole chains.
        for part in ([r for r in own if r["ts"] < lost], [r for r in own if r["ts"] - r["window_ns"] > back + 1e9 * common.SLOWNESS]):
            self.assertTrue(part)
            self.assertPlain(part, process.pid, sum(r["value"] for r in part) / corpus.RATE)

    def test_killed(self):
        self.lose(signal.SIGKILL)

    def test_stopped(self):
        self.lose(signal.SIGSTOP)


if __name__ == "__main__":
    unittest.main()
