#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the default set of rules costs, with all modules that it needs: Redis, a compile, find, an open, a system call that nobody asked for,
the size of records, programs that come and go, start and end, and how soon a rule's kill comes.

Loads with and without are run in turns, and each is held against the one beside it: the machine's own pace changes over minutes.

usage: security.py [--build DIR] [--churn-seconds 30] [PART ...]     parts: calls losses records churn ends kill
"""
import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RULES = os.path.join(ROOT, "config", "rules", "sonde.yaml")
PARTS = ("calls", "losses", "records", "churn", "ends", "kill")
MIB = 1 << 20


def modules():
    """Of config/security.yaml: those that the default set needs."""
    with open(os.path.join(ROOT, "config", "security.yaml")) as file:
        return ",".join(name for name, options in yaml.safe_load(file)["modules"].items() if options["enabled"])


def agent(common, *settings):
    return common.Agent(modules=modules(), settings=[f"rules.files=[{RULES}]", *settings])


def in_turns(common, load, rounds):
    """Median of what the load takes beside what it took just before without, as a factor; and of both by themselves, in seconds."""
    load()
    without, with_it = [], []
    for _ in range(rounds):
        without.append(load())
        with agent(common):
            with_it.append(load())
    return statistics.median(b / a for a, b in zip(without, with_it)), statistics.median(without), statistics.median(with_it)


def timed(work):
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def compile_some(build, folder, count=24):
    """Files of this project, on both CPUs, as its build compiles them."""
    with open(os.path.join(build, "compile_commands.json")) as file:
        commands = [c for c in json.load(file) if "/pipelines/" in c["file"]][:count]

    def work(part, number):
        for one in part:
            command = re.sub(r" -o \S+", f" -o {folder}/{number}.o", one["command"])
            subprocess.run(command, shell=True, cwd=one["directory"], stdin=subprocess.DEVNULL, check=True)
    threads = [threading.Thread(target=work, args=(commands[i::2], i)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def find_all():
    subprocess.run(["find", "/", "-xdev"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def losses(common, build, services, rounds=5):
    """(what, factor, without, with) of each load."""
    found = []
    with tempfile.TemporaryDirectory(prefix="sonde-bench-") as folder:
        os.chmod(folder, 0o755)
        if services.possible("redis"):
            redis = services.Redis(folder, services.free_port())
            redis.start()
            try:
                found.append(("Redis SET/GET, -c 50", *in_turns(common, lambda: 1 / services.rate(redis, 3), rounds)))
            finally:
                redis.stop()
        found.append(("a compile of this project", *in_turns(common, lambda: timed(lambda: compile_some(build, folder)), rounds)))
        found.append(("find / -xdev", *in_turns(common, lambda: timed(find_all), rounds)))
    return found


def sizes(common, build, work):
    """Type -> (records, bytes of msgpack) of a run in which programs begin, files are opened and connections made."""
    found = {}
    with agent(common) as running:
        work(build, "exec", 300)
        work(build, "write", 300)
        work(build, "tcp", 300)
        subprocess.run(["/bin/sh", "-c", "cd $(mktemp -d) && mkdir a && touch a/b && chmod 600 a/b && mv a/b a/c && ln -s c a/d && rm -r a"], check=True)
        running.stop()
        for kind in {r["type"] for r in running.rows() if "lineage" in r and r["type"] != "alert"}:
            raw = common.sonde("cat", running.journal, "--type", kind, "--format", "msgpack", text=False).stdout
            found[kind] = (len(running.rows(kind)), len(raw))
    return found


def churn(common, build, work, seconds):
    """Programs that begin and end as fast as this machine can, for so long: (a second, growth of memory in bytes, events lost)."""
    with agent(common, "journal.size=256MiB") as running:
        work(build, "exec", 2000)  # tables and arenas have their size
        before, count, begin = running.resident_bytes(), 0, time.monotonic()
        while time.monotonic() < begin + seconds:
            work(build, "exec", 1000)
            count += 1000
        rate = count / (time.monotonic() - begin)
        time.sleep(1)
        grown = running.resident_bytes() - before
        running.stop()
        account = common.ledger(running.rows("agent.*"))
    return rate, grown, sum(sum(t["dropped"].values()) for t in account.values())


def ends(begin):
    """Milliseconds from the start of the agent that begin() makes until all is attached, and from SIGTERM until it has ended; resident bytes."""
    begun = time.time_ns()
    with begin() as running:
        start = (running.rows("agent.start")[-1]["ts"] - begun) / 1e6
        resident = running.resident_bytes()
        stop = 1e3 * timed(running.stop)
    return start, stop, resident


def kill(common, count=50):
    """Nanoseconds from a program's begin to the signal, of a rule that only user space can decide: sorted."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as rules:
        rules.write("- {rule: bench, desc: d, condition: \"evt.type = execve and proc.name = sleep and proc.args contains 4321\", output: o, priority: INFO}\n")
        rules.flush()
        with common.Agent(modules="exec", settings=[f"rules.files=[{rules.name}]", "rules.responses={bench: kill}", "rules.kill_rate=1000"]) as running:
            for _ in range(count):
                common.spawn(["/bin/sleep", "4321"], status=-9)
            rows = running.wait_rows("response.action", lambda r: r["action"] == "kill", count)
            running.stop()
    return sorted(r["latency_ns"] for r in rows)


def gap(common):
    """ms between two files of those made every 2 ms that the stream has, at most, while other rules restart the module about files."""
    def write(path, **rules):
        with open(path, "w") as file:
            file.writelines(f"- {{rule: {name}, desc: d, condition: \"{condition}\", output: o, priority: INFO}}\n" for name, condition in rules.items())
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        rules = os.path.join(folder, "rules.yaml")
        made = f"evt.type in (open, openat) and evt.is_open_write = true and fd.name startswith {folder}/"
        write(rules, made=made, gone=f"evt.type = unlinkat and fs.path.name startswith {folder}/", folders=f"evt.type = mkdir and fs.path.name startswith {folder}/")
        with common.Agent(modules="file", settings=[f"rules.files=[{rules}]", "rules.only=true"]) as running:
            write(rules, made=made)
            running.signal(signal.SIGHUP)
            until, n = None, 0
            while until is None or time.monotonic() < until:
                n += 1
                with open(os.path.join(folder, f"made-{n}"), "w"):
                    time.sleep(0.002)
                if until is None and "configuration reloaded" in running.output():
                    until = time.monotonic() + 1
            running.stop()
            times = sorted(r["ts"] for r in running.rows("file.open") if r.get("path", "").startswith(f"{folder}/made-"))
    return max(b - a for a, b in zip(times, times[1:])) / 1e6


def judged(common, measured):
    """What the kernel side takes to try two rules on each, none of which holds: Costs below opens for writing, and below connects."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as rules:
        for name, condition in (("path", "evt.type in (open, openat, openat2) and fd.name startswith /nowhere/ and evt.is_open_write = true"),
                                ("name", "evt.type in (open, openat, openat2) and proc.name = nobody"),
                                ("net", "evt.type = connect and fd.snet in (192.0.2.0/24)"), ("port", "evt.type = connect and fd.rport = 1")):
            rules.write(f"- {{rule: {name}, desc: d, condition: \"{condition}\", output: o, priority: INFO}}\n")
        rules.flush()
        responses = "rules.responses={path: kill, name: kill, net: \"kill, block\", port: \"kill, block\"}"
        with common.Agent(modules="exec", settings=[f"rules.files=[{rules.name}]", responses]) as running:
            return measured(running.processes(), "write"), measured(running.processes(), "tcp")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--churn-seconds", type=float, default=30)
    parser.add_argument("parts", nargs="*", help="default: all")
    arguments = parser.parse_args()
    if os.getuid():
        sys.exit("measuring needs root")
    argv = [sys.executable, os.path.join(HERE, "run"), "--build", arguments.build, "--no-write", "--parts", "security", "--churn-seconds", str(arguments.churn_seconds)]
    os.execv(sys.executable, argv + (["--security", ",".join(arguments.parts)] if arguments.parts else []))


if __name__ == "__main__":
    main()
