#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Profiles beside perf's: the same load seen by sonde and by `perf record -F 99 -a --call-graph dwarf` at the same time.

How alike: the total variation distance between both tools' shares, in points (0: the same, 100: nothing in common), of the
innermost functions, and of the 20 functions that are most often on a stack. Two samplings of one load are never the same: the
distance that two tools without any fault would have by chance alone, with as many samples, is computed by drawing from their pooled
shares, and is written beside. What it costs: CPU time of each process (utime + stime), time of sonde's program in the kernel
(as the kernel keeps it), bytes, memory.

usage: profile_compare.py [--build DIR] [--seconds 20] [--cost-seconds 60] [LOAD ...]     loads: compile python java redis
"""
import argparse
import collections
import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RATE = 99
PYTHON = "/usr/bin/python3"


class Loads:
    """Each runs for about so many seconds on both CPUs, and returns. What is its own is told by pid, or by name where there are too many."""
    COMPILER = re.compile(r"cc1|as|gcc|cc|c?lang|collect2|ld")

    def __init__(self, build, folder):
        self.build, self.folder, self.pids = build, folder, set()
        self.known = None  # (pid, seconds of CPU) of a process by the scheduler's own account

    def start(self, argv, **options):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
        self.pids.add(process.pid)
        return process

    def owns(self, pid, comm):
        return pid in self.pids if self.pids else self.COMPILER.fullmatch(comm)

    def run(self, name, seconds):
        getattr(self, name)(seconds)

    def both(self, *commands, seconds, **options):
        processes = [self.start(c, **options) for c in commands]
        for process in processes:
            if process.wait(seconds + 120):
                raise RuntimeError(f"{process.args[0]} ended with {process.returncode}")

    def compile(self, seconds):
        """The compiler over this project's own sources, as its build calls it, again and again."""
        with open(os.path.join(self.build, "compile_commands.json")) as file:
            commands = [c for c in json.load(file) if "/pipelines/" in c["file"] or "/agent/" in c["file"]]
        end = time.monotonic() + seconds

        def work(part):
            while time.monotonic() < end:
                for one in part:
                    if time.monotonic() >= end:
                        return
                    command = re.sub(r" -o \S+", f" -o {self.folder}/{threading.get_ident()}.o", one["command"])
                    subprocess.run(command, shell=True, cwd=one["directory"], stdin=subprocess.DEVNULL, check=True)
        threads = [threading.Thread(target=work, args=(commands[i::2],)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def python(self, seconds):
        self.both(*[[PYTHON, os.path.join(HERE, "python_job.py"), str(seconds)]] * 2, seconds=seconds)

    def java(self, seconds):
        """Its perf map is written in the middle of it: by then all is compiled. Serial collection, so that it is one job."""
        subprocess.run(["javac", "-d", self.folder, os.path.join(HERE, "JavaJob.java")], check=True)
        processes = [self.start(["java", "-XX:+PreserveFramePointer", "-XX:+UseSerialGC", "-Xmx256m", "-cp", self.folder, "JavaJob", str(seconds)])
                     for _ in range(2)]
        for part in (0.25, 0.4):
            time.sleep(seconds * part)
            for process in processes:
                subprocess.run(["jcmd", str(process.pid), "Compiler.perfmap"], stdout=subprocess.DEVNULL)
        for process in processes:
            process.wait()

    def redis(self, seconds):
        """As many requests as fit; the server and its clients share both CPUs."""
        socket = os.path.join(self.folder, "redis.sock")
        server = self.start(["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"])
        try:
            end = time.monotonic() + seconds
            while not os.path.exists(socket):
                time.sleep(0.02)
            while time.monotonic() < end:
                self.start(["redis-benchmark", "-s", socket, "-c", "50", "-n", "40000", "-t", "set,get,lpush,mset", "-q"]).wait()
            self.known = server.pid, cpu_of([server.pid])[server.pid]
        finally:
            server.terminate()
            server.wait()

    def busy(self, seconds):
        """Two busy CPUs: a program in C without frame pointers, and an interpreter."""
        self.both([os.path.join(self.build, "tests", "corpus", "plain"), str(seconds)],
                  [PYTHON, os.path.join(ROOT, "tests", "corpus", "chain.py"), str(seconds)], seconds=seconds)


class Perf:
    """perf record of all CPUs, and perf script."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "perf.data")
        self.process = None

    def start(self):
        self.process = subprocess.Popen(["perf", "record", "-q", "--buildid-mmap", "-F", str(RATE), "-e", "cpu-clock", "-a", "--call-graph", "dwarf", "-o", self.path],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not (os.path.exists(self.path) and os.path.getsize(self.path)) and time.monotonic() < end:
            time.sleep(0.02)

    def stop(self):
        """CPU seconds that recording took."""
        rss = resident([self.process.pid])
        self.process.send_signal(signal.SIGINT)
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        return {"record_s": usage.ru_utime + usage.ru_stime, "bytes": os.path.getsize(self.path), "rss": rss}

    def samples(self, pids=()):
        """(list of (pid, comm, functions leaf first)), of these processes if any, and the CPU seconds that perf script took."""
        process = subprocess.Popen(["perf", "script", "-i", self.path, "--no-inline", "-F", "comm,pid,tid,ip,sym,dso",
                                    *(["--pid", ",".join(map(str, pids))] if pids else [])], text=True, errors="replace",
                                   stdout=subprocess.PIPE, stderr=open(self.path + ".log", "w"))
        samples = []
        for line in process.stdout:
            if line[:1].isspace() and line.strip():
                _, _, rest = line.strip().partition(" ")
                name, _, library = rest.rpartition(" (")
                samples[-1][2].append(function(name, library.rstrip(")")))
            elif line.strip():
                match = re.match(r"(.*?)\s+(-?\d+)/(-?\d+)", line)
                samples.append((int(match[2]), match[1].strip(), []))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        if status:
            with open(self.path + ".log") as log:
                raise RuntimeError(f"perf script ended with {status >> 8 or status}: {log.read()[-500:]}")
        return samples, usage.ru_utime + usage.ru_stime


def function(name, library):
    """One name for what both tools name: without versions, clones and parameters; where there is no name, the library."""
    library = os.path.basename(library)
    if library.startswith(("[kernel", "[k]")) or re.fullmatch(r"\[\w+\]", library) and library not in ("[vdso]", "[unknown]", "[anon]", "[jit]"):
        library = "[k]"
    elif library.startswith("perf-") or library in ("[jit]", "[anon]"):
        library = "jit"
    name = re.sub(r"(@@?[A-Z][\w.]*|\.(constprop|isra|part|cold|lto_priv|llvm)\b[.\d]*)+$", "", name).strip()
    name = re.sub(r"\(.*", "", name) if library != "jit" else name
    if library not in ("[k]", "jit") and not WHOLE.match(name):
        # The C library has many names for one function, and each tool chooses another.
        name = re.sub(r"^(__GI_)?(_*(libc|vdso|pthread)_)?_*(?=[a-z])", "", name)
        name = {"cfree": "free"}.get(name, name)
    if not name or name == "[unknown]" or name.startswith("0x"):
        return f"? ({library})"
    return f"{name} ({library})" if library == "[k]" else name


def sonde_samples(common, corpus, rows):
    """The same of rows: a row of value 7 is 7 samples. Frames of inlined functions are left out, as perf was asked to."""
    samples = []
    for row in rows:
        frames = []
        for text in row["stack"]:
            if text.endswith(" [inline]"):
                continue
            frames.append(function("", "") if not text else function(*corpus.frame(text)))
        samples += [(row["pid"], row["comm"], frames)] * row["value"]
    return samples


def shares(counts):
    total = sum(counts.values())
    return {k: v / total for k, v in counts.items()} if total else {}


def distance(a, b):
    """Total variation distance of two counters' shares, in points."""
    a, b = shares(a), shares(b)
    return 50 * sum(abs(a.get(k, 0) - b.get(k, 0)) for k in set(a) | set(b))


def by_chance(a, b, rounds=200):
    """The distance that two samplings of the pooled shares have, 95 of 100 times at most. The seed is fixed: the same data, the same figure."""
    if not a or not b:
        return 0.0
    pool = a + b
    keys, weights = list(pool), list(pool.values())
    draw = random.Random(1)
    found = sorted(distance(collections.Counter(draw.choices(keys, weights, k=sum(a.values()))),
                            collections.Counter(draw.choices(keys, weights, k=sum(b.values())))) for _ in range(rounds))
    return found[int(0.95 * rounds)]


def leaves(samples):
    return collections.Counter(frames[0] for _, _, frames in samples if frames)


def inclusive(samples, wanted=None, weights=None):
    """How many samples each function is in; of the wanted ones only. weights: what a sample counts by its innermost two frames."""
    counts = collections.Counter()
    for _, _, frames in samples:
        weight = weights.get(tuple(frames[:2]), 0) if weights is not None else 1
        for f in set(frames) if weight else ():
            if not wanted or f in wanted:
                counts[f] += weight
    return counts


def whole_only(ours, theirs):
    """(ours, theirs, weights of theirs, share of perf's samples that are whole): what can be compared by callers.

    perf loses the callers of much code, and rather of deep stacks than of others, so that what it has whole is not a fair part of
    what it saw. So each of its whole stacks counts for all that have the same innermost two frames; what it never has whole is
    left out of both."""
    whole = [s for s in theirs if s[2] and WHOLE.match(s[2][-1])]
    seen, kept = (collections.Counter(tuple(s[2][:2]) for s in samples) for samples in (theirs, whole))
    weights = {k: seen[k] / n for k, n in kept.items()}
    return [s for s in ours if tuple(s[2][:2]) in weights], whole, weights, len(whole) / max(1, len(theirs))


def cpu_of(pids):
    """pid -> seconds of CPU of its threads that live, by the scheduler's own account."""
    total = {}
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    total[pid] = total.get(pid, 0) + int(file.read().split()[0]) / 1e9
            except OSError:
                continue
    return total


def resident(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as file:
                total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon:", "RssShmem:")))
        except OSError:
            continue
    return total


def bpf_seconds(pids):
    """Time of the programs that these processes hold, in seconds, as the kernel keeps it."""
    ids = set()
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fdinfo"):
            try:
                with open(f"/proc/{pid}/fdinfo/{fd}") as file:
                    ids |= {int(line.split()[1]) for line in file if line.startswith("prog_id:")}
            except OSError:
                continue
    shown = json.loads(subprocess.run(["bpftool", "prog", "show", "-j"], capture_output=True, text=True, check=True).stdout)
    return sum(p.get("run_time_ns", 0) for p in shown if p["id"] in ids) / 1e9


def statistics_on():
    """A descriptor; while it is open the kernel keeps the programs' times, whatever others do to the sysctl meanwhile."""
    fd = ctypes.CDLL("libbpf.so.1", use_errno=True).bpf_enable_stats(0)
    if fd < 0:
        sys.exit("the kernel does not keep the times of BPF programs")
    return fd


def steady(common, build, seconds, known=25):
    """Seconds of CPU of (agent, worker, eBPF) for the two busy CPUs over `seconds`, once their programs have been known for a while."""
    with tempfile.TemporaryDirectory(prefix="sonde-bench-") as folder, common.Agent(modules="cpu", settings=["agent.window=10s"]) as agent:
        loads = Loads(build, folder)
        load = threading.Thread(target=loads.busy, args=(known + seconds + 5,))
        load.start()
        time.sleep(known)
        pids = agent.processes()
        before, bpf_before = cpu_of(pids), bpf_seconds(pids)
        time.sleep(seconds)
        spent = {pid: value - before.get(pid, 0) for pid, value in cpu_of(pids).items()}
        bpf = bpf_seconds(pids) - bpf_before
        load.join()
    return spent.pop(agent.pid), sum(spent.values()), bpf


def measure(common, corpus, build, load, seconds, with_perf=True):
    """One load under both at once: a dict of figures. Costs of sonde are from when everything is attached until its window is written."""
    with tempfile.TemporaryDirectory(prefix="sonde-bench-") as folder:
        os.chmod(folder, 0o755)
        perf, loads, found = Perf(folder), Loads(build, folder), {"load": load, "seconds": seconds}
        with common.Agent(modules="cpu", settings=["agent.window=" + ("10s" if load == "busy" else "5s"), f"agent.java_maps={str(load == 'java').lower()}"]) as agent:
            if with_perf:
                perf.start()
            pids = agent.processes()
            before, bpf_before = cpu_of(pids), bpf_seconds(pids)
            loads.run(load, seconds)
            if with_perf:
                found.update({"perf_" + k: v for k, v in perf.stop().items()})
            agent.wait_rows("profile.cpu", lambda r: r["ts"] > time.time_ns() - 3e9, 1, 20)
            pids = agent.processes()
            after = cpu_of(pids)
            spent = {pid: after[pid] - before.get(pid, 0) for pid in after}
            found["agent_s"], found["worker_s"] = spent.pop(agent.pid), sum(spent.values())
            found["bpf_s"] = bpf_seconds(pids) - bpf_before
            found["rss"] = resident(pids)
            agent.stop()
            rows = agent.rows("profile.cpu")
            found["bytes"] = len(common.sonde("cat", agent.journal, "--type", "profile.cpu", "--format", "msgpack", text=False).stdout)
            dropped = common.ledger(agent.rows())["cpu.sample"]["dropped"]
            found["dropped"] = sum(dropped.values())
        if not with_perf:
            return found
        theirs, found["perf_script_s"] = perf.samples(loads.pids)
        ours = sonde_samples(common, corpus, rows)
        theirs = [s for s in theirs if loads.owns(*s[:2])]
        ours = [s for s in ours if loads.owns(*s[:2])]
        found["samples"], found["perf_samples"] = len(ours), len(theirs)
        if loads.known:
            found["known"] = [sum(s[0] == loads.known[0] for s in samples) / RATE / loads.known[1] for samples in (ours, theirs)]
        a, b = leaves(ours), leaves(theirs)
        found["leaf"], found["leaf_chance"] = distance(a, b), by_chance(a, b)
        found["largest"] = largest(a, b, 6)
        ours, theirs, weights, found["perf_whole"] = whole_only(ours, theirs)
        # How a program is started is left out.
        top = [f for f, _ in inclusive(theirs, None, weights).most_common(60) if not STARTS.fullmatch(f) and f != UNKNOWN][:20]
        a, b = inclusive(ours, top), inclusive(theirs, top, weights)
        found["inclusive"], found["inclusive_chance"] = distance(a, b), by_chance(a, inclusive(theirs, top))
        a, b = shares(a), shares(b)
        found["largest_inclusive"] = [(f, 100 * a.get(f, 0), 100 * b.get(f, 0)) for f in sorted(top, key=lambda f: -abs(a.get(f, 0) - b.get(f, 0)))[:4]]
        return found


def largest(ours, theirs, count):
    """The functions in which the tools differ most: (name, sonde's share, perf's), in hundredths."""
    a, b = shares(ours), shares(theirs)
    names = sorted(set(a) | set(b), key=lambda k: -abs(a.get(k, 0) - b.get(k, 0)))[:count]
    return [(n, 100 * a.get(n, 0), 100 * b.get(n, 0)) for n in names]


def alike(figure, chance):
    """Within 5 points, or as near as two samplings of the same can be expected to be."""
    return figure <= max(5, chance)


STARTS = re.compile(r"_start|__libc_start.*|clone3?|__clone3?|start_thread")
# The outermost function of a whole stack: of a program, a thread, a forked child, or of the kernel's own threads.
WHOLE = re.compile(r"_start\b|__libc_start|(__)?clone3?\b|start_thread|ret_from_fork|secondary_startup|cpu_startup_entry|common_startup")
UNKNOWN = "? ([unknown])"  # an address of which perf knows no mapping
LOADS = ("compile", "python", "java", "redis")


def possible(load):
    needed = {"java": ("java", "javac", "jcmd"), "redis": ("redis-server", "redis-benchmark")}.get(load, ())
    return all(shutil.which(n) for n in needed)


def text_of(f):
    lines = [f"{f['load']}: {f['seconds']:g} s, samples sonde {f['samples']} perf {f['perf_samples']}; leaf {f['leaf']:.1f} points (chance {f['leaf_chance']:.1f}), "
             f"inclusive {f['inclusive']:.1f} ({f['inclusive_chance']:.1f}, perf had {100 * f['perf_whole']:.0f} % whole); sonde CPU agent {f['agent_s']:.2f} worker {f['worker_s']:.2f} eBPF {f['bpf_s']:.3f} s, "
             f"{f['bytes']:,} bytes, {f['rss'] / 2**20:.0f} MiB; perf record {f['perf_record_s']:.2f} script {f['perf_script_s']:.2f} s, "
             f"{f['perf_bytes']:,} bytes, {f['perf_rss'] / 2**20:.0f} MiB"]
    if "known" in f:
        lines += [f"    of one process's CPU time there are samples for: sonde {100 * f['known'][0]:.1f} %, perf {100 * f['known'][1]:.1f} %"]
    lines += [f"    leaf      {ours:5.1f} % sonde {theirs:5.1f} % perf  {name}" for name, ours, theirs in f["largest"]]
    lines += [f"    inclusive {ours:5.1f} % sonde {theirs:5.1f} % perf  {name}" for name, ours, theirs in f["largest_inclusive"]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--cost-seconds", type=float, default=60, help="0: without the two busy CPUs")
    parser.add_argument("loads", nargs="*", help="default: all")
    arguments = parser.parse_args()
    if os.getuid():
        sys.exit("measuring needs root")
    os.environ.setdefault("SONDE_BUILD", arguments.build)
    sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
    import common
    import corpus

    timing = statistics_on()
    for load in arguments.loads or LOADS:
        print(text_of(measure(common, corpus, arguments.build, load, arguments.seconds)), flush=True)
    if arguments.cost_seconds:
        print(text_of(measure(common, corpus, arguments.build, "busy", arguments.cost_seconds)), flush=True)
    os.close(timing)


if __name__ == "__main__":
    main()
