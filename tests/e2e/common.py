# SPDX-License-Identifier: Apache-2.0
"""What every end-to-end test stands on: an agent on a journal of its own, its rows, and waiting with a bound.

Only the standard library is used, so that the tests run unmodified in the small guests of tests/vm. A test file is plain
unittest:

    import common

    class Exec(common.TestCase):
        def test_sees_true(self):
            with common.Agent(modules="exec") as agent:
                pid = common.spawn(["/bin/true"])
                row = agent.wait_row("process.exec", lambda r: r["pid"] == pid)
            self.assertEqual(row["exe"], os.path.realpath("/bin/true"))

Environment: SONDE (the program, default build/bin/sonde), SONDE_BUILD (the build folder, where tests/load_NAME lies),
SONDE_SLOWNESS (multiplies every bound: an emulated or sanitized run is slow), SONDE_GUEST (set inside tests/vm),
SONDE_SANITIZED (set for sanitizer builds, whose memory and times are not the agent's).
"""
import collections
import fnmatch
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SONDE_BUILD") or os.path.join(ROOT, "build")
SONDE = os.environ.get("SONDE") or os.path.join(BUILD, "bin", "sonde")
SLOWNESS = float(os.environ.get("SONDE_SLOWNESS") or 1)
GUEST = bool(os.environ.get("SONDE_GUEST"))
KERNEL = tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])
SANITIZED = bool(os.environ.get("SONDE_SANITIZED"))
SANITIZER_REPORT = re.compile(r"(Address|Thread|Leak|UndefinedBehavior)Sanitizer|: runtime error: ")
MODULES = ("exec", "cpu", "tcp", "offcpu", "sched", "turnaround", "udp", "drops", "dns", "capture",
           "file", "process", "cred", "isolation", "memory")
FOLLOWERS = 4
HOST_ONLY = "host only: "
GUEST_ONLY = "guest only: "


class TimedOut(AssertionError):
    pass


def bound(seconds):
    """A bound in seconds, stretched on a slow machine."""
    return seconds * SLOWNESS


def scaled(count, least=100):
    """A number of operations, smaller on a slow machine, and much smaller on an emulated one."""
    return max(min(count, least), int(count / SLOWNESS / (8 if GUEST else 1)))


def races(least=100):
    """How often a race is run: SONDE_RACES says how often, where more are to be than a test run has time for."""
    return scaled(int(os.environ.get("SONDE_RACES") or 20000), least)


def stolen():
    """Seconds that a host took from this machine's CPUs since it booted (proc_stat(5): steal). To the machine they are CPU time of who was running,
    and a timer that should have expired many times meanwhile expires once."""
    with open("/proc/stat") as file:
        return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def wait_until(condition, seconds=10, what=""):
    """The first true value of condition(), or TimedOut. The pause grows from 5 to 100 ms, so a fast answer is a fast test."""
    end, pause = time.monotonic() + bound(seconds), 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimedOut(f"not within {bound(seconds):g} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def host_only(reason):
    """Decorator: a test that cannot run in the guests of tests/vm (a tool or a service is not there). It runs on the host."""
    return unittest.skipIf(GUEST, HOST_ONLY + reason)


# Decorators: what another kernel has no part in, and each agent that starts there takes seconds.
user_space = host_only("it is about user space alone")
# What runs there is what runs here, and it is long on an emulated processor; that it loads, and what it tells, is seen there by others.
same_on_every_kernel = host_only("it is the same on every kernel")


def guest_only(reason):
    """Decorator: a test of what this machine's kernel was built without. It runs in the guests of tests/vm."""
    return unittest.skipUnless(GUEST, GUEST_ONLY + reason)


def temporary_user(test):
    """A user that goes with the test, and the path of a journal where that user can get: mkdtemp's folders are root's alone."""
    name = f"sonde-t{os.getpid() % 100000}"
    subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    test.addCleanup(subprocess.run, ["userdel", name], check=True, stderr=subprocess.DEVNULL)
    folder = tempfile.mkdtemp(prefix="sonde-user-", dir="/var/lib")
    test.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    os.chmod(folder, 0o755)
    return name, os.path.join(folder, "journal")


def load(name):
    """Path of tests/e2e/load_NAME.c as built."""
    path = os.path.join(BUILD, "tests", "load_" + name)
    if not os.access(path, os.X_OK):
        raise AssertionError(f"{path} is not built")
    return path


def spawn(argv, **options):
    """Runs a program to its end; returns its pid. Its status must be 0 unless status= says otherwise."""
    expected = options.pop("status", 0)
    options.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen(argv, **options)
    status = process.wait(bound(60))
    if status != expected:
        raise AssertionError(f"{argv[0]} ended with {status}, not {expected}")
    return process.pid


def sonde(*arguments, status=0, seconds=60, text=True, **options):
    """Runs one subcommand; returns its CompletedProcess. Its exit status must be `status` (None: any)."""
    done = subprocess.run([SONDE, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=text,
                          timeout=bound(seconds), **options)
    if status is not None and done.returncode != status:
        raise AssertionError(f"sonde {' '.join(arguments)} ended with {done.returncode}, not {status}: "
                             f"{done.stderr[-2000:]!r}")
    return done


def tool(name, *arguments):
    """What a program of the build's tests/ says; its status must be 0."""
    path = os.path.join(BUILD, "tests", name)
    done = subprocess.run([path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=bound(60))
    if done.returncode:
        raise AssertionError(f"{name} ended with {done.returncode}: {done.stdout[-1000:]} {done.stderr[-3000:]}")
    return done.stdout


def cat(journal, types="*", *more):
    """Rows of a journal folder, oldest first, as `sonde cat --format json` gives them."""
    out = sonde("cat", journal, "--type", types, "--format", "json", *more).stdout
    return [json.loads(line) for line in out.splitlines()]


def gapless(rows):
    """None, or a sentence naming the first hole or repetition in the sequence of any run. Rows must be of all types."""
    last = {}
    for row in rows:
        key, seq = (row["host"], row["run"]), row["seq"]
        if key in last and seq != last[key] + 1:
            return f"run {key}: seq {seq} follows {last[key]}"
        last[key] = seq
    return None


def ledger(rows):
    """The last agent.ledger of the rows: type -> counts."""
    last = [r for r in rows if r["type"] == "agent.ledger"]
    if not last:
        raise AssertionError("no agent.ledger in the stream")
    return last[-1]["types"]


def ledger_faults(types):
    """Every breach of the ledger's two equations, as sentences."""
    faults = []
    for name, c in types.items():
        dropped = sum(c.get("dropped", {}).values())
        expired = c.get("expired", 0)
        expired = sum(expired.values()) if isinstance(expired, dict) else expired
        if c["produced"] != c["filtered"] + dropped + c["journaled"]:
            faults.append(f"{name}: produced {c['produced']} is not filtered {c['filtered']} + dropped {dropped} "
                          f"+ journaled {c['journaled']}")
        if c["journaled"] != c["acknowledged"] + c["pending"] + expired:
            faults.append(f"{name}: journaled {c['journaled']} is not acknowledged {c['acknowledged']} + pending "
                          f"{c['pending']} + expired {expired}")
    return faults


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def schema_types():
    """Names of all event types that can be in a stream."""
    return set(json.loads(sonde("schema", "--format", "json").stdout)["$defs"])


class Follower:
    """The rows of some types of a journal from its beginning on, as `sonde tap` tells them."""

    def __init__(self, journal, types):
        self.process = subprocess.Popen([SONDE, "tap", "--journal", journal, "--from", "start", "--type", types, "--format", "json"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.rows, self.rest = [], b""

    def wait(self, seconds):
        """Waits for further rows. False: there are none within that time."""
        out = self.process.stdout.fileno()
        if not select.select([out], [], [], max(0, seconds))[0]:
            return False
        new = os.read(out, 1 << 20)
        if not new:
            raise AssertionError(f"sonde tap ended with {self.process.wait()}")
        lines = (self.rest + new).split(b"\n")
        self.rest = lines.pop()
        self.rows += [json.loads(line) for line in lines]
        return True

    def close(self):
        """It sees that nobody reads any more, and ends."""
        self.process.stdout.close()


class Agent:
    """One run of `sonde run` on a journal folder. Leaving the `with` stops it by SIGTERM, and its status must be 0.

    modules   names of the modules switched on, with commas; all others are switched off
    settings  further "key=value" texts for --set, or a dict
    journal   a folder to go on with (several runs on one journal); default: a new one that goes with this object
    arguments further command line arguments of `sonde run`
    """

    def __init__(self, modules="exec", settings=(), journal=None, arguments=(), environment=None, start=True):
        self.folder = tempfile.mkdtemp(prefix="sonde-e2e-")
        self.journal = journal or os.path.join(self.folder, "journal")
        self.control = os.path.join(self.folder, "control.sock")
        self.log = os.path.join(self.folder, "log")
        if isinstance(settings, dict):
            settings = [f"{key}={value}" for key, value in settings.items()]
        wanted = [m for m in modules.split(",") if m]
        sets = [f"modules.{m}.enabled={'true' if m in wanted else 'false'}" for m in dict.fromkeys([*MODULES, *wanted])]
        sets.append(f"agent.control={self.control}")
        self.argv = [SONDE, "run", "--journal", self.journal]
        for one in [*sets, *settings]:
            self.argv += ["--set", one]
        self.argv += list(arguments)
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.followers, self.gone = {}, []
        self.start_seconds = None
        if start:
            try:
                self.start()
            except BaseException:  # nobody will leave a `with`
                shutil.rmtree(self.folder, ignore_errors=True)
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.stop()
            else:
                self.kill()
                print(f"\n--- log of the agent ---\n{self.output()[-4000:]}\n--- end ---")
        finally:
            self.unfollow()
            for process in self.gone:
                process.wait(bound(30))
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self):
        return self.process.pid

    def start(self, seconds=30):
        """Starts the agent; returns once agent.start is in the journal: everything is attached."""
        before = len(self._starts())
        begin = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment)

        def started():
            if self.process.poll() is not None:
                raise AssertionError(f"the agent ended with {self.process.returncode} at its start:\n"
                                     f"{self.output()[-4000:]}")
            return len(self._starts()) > before
        try:
            wait_until(started, seconds, "agent.start in the journal")
        except BaseException:
            self.kill()
            print(f"\n--- log of the agent ---\n{self.output()[-4000:]}\n--- end ---")
            raise
        self.start_seconds = time.monotonic() - begin
        return self

    def _starts(self):
        if not os.path.isdir(self.journal):
            return []
        done = sonde("cat", self.journal, "--type", "agent.start", "--format", "json", status=None)
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []

    def output(self):
        """What the agent wrote to its standard output and error."""
        with open(self.log, errors="replace") as log:
            return log.read()

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, seconds=30):
        """SIGTERM: drains, writes the last ledger, and must end with 0."""
        if self.process is None or self.process.returncode is not None:
            return
        self.unfollow()
        self.signal(signal.SIGTERM)
        try:
            status = self.process.wait(bound(seconds))
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the agent did not end on SIGTERM:\n{self.output()[-4000:]}") from None
        if status != 0:
            raise AssertionError(f"the agent ended with {status} on SIGTERM:\n{self.output()[-4000:]}")
        # A worker that dies is replaced, and the agent still ends with 0: what a sanitizer said is a failure all the same.
        if SANITIZER_REPORT.search(self.output()):
            raise AssertionError(f"a sanitizer reported:\n{self.output()[-8000:]}")

    def kill(self):
        """SIGKILL; nothing is drained."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(bound(30))

    def rows(self, types="*", *more):
        return cat(self.journal, types, *more)

    def follow(self, types):
        """The few last asked for go on; each costs a process."""
        follower = self.followers.pop(types, None) or Follower(self.journal, types)
        self.followers[types] = follower
        while len(self.followers) > FOLLOWERS:
            oldest = self.followers.pop(next(iter(self.followers)))
            oldest.close()
            self.gone.append(oldest.process)
        return follower

    def unfollow(self):
        for follower in self.followers.values():
            follower.close()
            self.gone.append(follower.process)
        self.followers = {}

    def wait_rows(self, types, condition=lambda row: True, count=1, seconds=20):
        """At least `count` rows of these types that satisfy the condition."""
        follower, end, looked, found = self.follow(types), time.monotonic() + bound(seconds), 0, []
        while True:
            found += [dict(r) for r in follower.rows[looked:] if condition(r)]
            looked = len(follower.rows)
            if len(found) >= count:
                return found
            if not follower.wait(end - time.monotonic()):
                raise TimedOut(f"not within {bound(seconds):g} s: {count} of {types}")

    def wait_row(self, types, condition=lambda row: True, seconds=20):
        return self.wait_rows(types, condition, 1, seconds)[0]

    def processes(self):
        """The agent and its workers: every process of its process tree."""
        children = collections.defaultdict(list)
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as stat:
                        children[int(stat.read().rpartition(")")[2].split()[1])].append(int(entry))
                except OSError:
                    continue
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children[pid]
        return found

    def cpu_seconds(self):
        """CPU time of the agent and its workers that live."""
        return sum(cpu_seconds(pid) for pid in self.processes())

    def resident_bytes(self):
        """What the agent and its workers hold in memory that no file has: their anonymous pages and their memfds. Pages of the program and of the
        journal are page cache, also where these lie in a tmpfs, as in a guest, whose pages RssShmem counts."""
        return sum(self.resident_kib().values()) * 1024

    def resident_kib(self):
        """{(pid, name): KiB} of resident_bytes."""
        held = {}
        for pid in self.processes():
            try:
                with open(f"/proc/{pid}/status") as status, open(f"/proc/{pid}/smaps") as smaps:
                    of = dict(line.split(":\t", 1) for line in status if ":\t" in line)
                    total, ours = int(of["RssAnon"].split()[0]), False
                    for line in smaps:
                        if line.split(" ", 1)[0].endswith(":"):
                            if ours and line.startswith("Rss:"):
                                total += int(line.split()[1])
                        else:
                            ours = "/memfd:" in line or "/dev/zero" in line
                    held[pid, of["Name"].strip()] = total
            except OSError:
                continue
        return held


class TestCase(unittest.TestCase):
    """unittest's, with whole differences shown and the assertions every stream must satisfy."""
    maxDiff = None

    def assertGapless(self, rows):
        self.assertIsNone(gapless(rows))

    def assertLedgerExact(self, rows):
        """The last ledger satisfies its equations, and agrees with the rows (given that they are a whole, ended run)."""
        types = ledger(rows)
        self.assertEqual(ledger_faults(types), [])
        self.assertEqual({name: c["open"] for name, c in types.items() if c.get("open")}, {}, "left open at the end")
        run = rows[-1]["run"]
        seen = collections.Counter(r["type"] for r in rows if r["run"] == run)
        # Some types never leave the agent (a sample becomes part of a row): they are in the ledger only.
        for name in schema_types() & set(types):
            if not fnmatch.fnmatch(name, "agent.*"):
                self.assertEqual(types[name]["journaled"], seen[name], f"journaled {name}")
