# SPDX-License-Identifier: Apache-2.0
"""Beside execsnoop, exitsnoop and opensnoop of libbpf-tools, on the same load at the same time: nothing is missing that one of them has."""
import os
import re
import subprocess
import sys
import tempfile
import threading

import common

LOAD = """
import os, subprocess, sys
folder, count = sys.argv[1], int(sys.argv[2])
for n in range(count):
    fd = os.open(f"{folder}/made-{n}", os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(fd, b"x")
    os.close(fd)
    fd = os.open(f"{folder}/made-{n}", os.O_RDWR | os.O_APPEND)
    os.close(fd)
    os.close(os.open(f"{folder}/made-{n}", os.O_RDONLY))
    try:
        os.open(f"{folder}/none/{n}", os.O_WRONLY)
    except FileNotFoundError:
        pass
    if n % 4 == 0:
        subprocess.run(["/bin/true", f"beside-{n}"])
        subprocess.run(["/bin/sh", "-c", f"exit {n % 200}"])
"""


class Peer:
    """One of the tools. It says nothing when it has begun: a program is run until it tells of it."""

    def __init__(self, test, name, *arguments):
        self.lines, self.name = [], name
        begin = ["unshare", "-m", "sh", "-c", '[ -e /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing; exec stdbuf -oL "$0" "$@"']
        self.process = subprocess.Popen([*begin, name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        test.addCleanup(self.stop)

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def wait(self, poke, sign):
        def begun():
            poke()
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name}: {''.join(self.lines)}")
            return any(sign in line for line in list(self.lines))
        common.wait_until(begun, 20, f"the first line of {self.name}")

    def stop(self):
        self.process.terminate()
        self.process.wait(common.bound(20))
        self.thread.join()
        return [line.rstrip("\n") for line in self.lines]


class Beside(common.TestCase):
    @common.host_only("these tools are not carried there")
    def test_nothing_is_missing(self):
        count = 200
        with tempfile.TemporaryDirectory() as folder, common.Agent("exec,file", ["rings.bulk=32MiB"]) as agent:
            execs, exits, opens = Peer(self, "execsnoop"), Peer(self, "exitsnoop"), Peer(self, "opensnoop", "-e")
            for peer, sign in ((execs, "poke-word"), (exits, "true"), (opens, "poke-file")):
                peer.wait(lambda: (subprocess.run(["/bin/true", "poke-word"], check=True), open(f"{folder}/poke-file", "w").close()), sign)
            done = subprocess.run([sys.executable, "-S", "-c", LOAD, folder, str(count)], check=True, timeout=common.bound(120))
            self.assertEqual(done.returncode, 0)
            subprocess.run(["/bin/true", "last-word"], check=True)
            with open(f"{folder}/last-file", "w"):
                pass
            for peer, sign in ((execs, "last-word"), (opens, "last-file")):
                common.wait_until(lambda: any(sign in line for line in list(peer.lines)), 20, f"the last line of {peer.name}")
            theirs = {name: peer.stop() for name, peer in (("execs", execs), ("exits", exits), ("opens", opens))}
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        ours = {(r["pid"], r["args"][0].rpartition("/")[2], *r["args"][1:2]) for r in rows if r["type"] == "process.exec" and r.get("args")}
        # PCOMM PID PPID RET ARGS
        told = [re.match(r"(\S+)\s+(\d+)\s+(\d+)\s+0 (\S+)\s*(\S*)", line) for line in theirs["execs"]]
        told = {(int(m[2]), m[4].rpartition("/")[2], m[5]) for m in told if m and m[5].startswith("beside-")}
        self.assertEqual(len(told), count // 4)
        self.assertEqual(told - ours, set())
        ended = {(r["pid"], r.get("exit_code", 0)) for r in rows if r["type"] == "process.exit"}
        # PCOMM PID PPID TID AGE(s) EXIT_CODE
        told = [re.match(r"sh\s+(\d+)\s+\d+\s+\d+\s+\S+\s+(?:code )?(\S+)", line) for line in theirs["exits"]]
        told = {(int(m[1]), int(m[2])) for m in told if m and m[2].isdigit()}
        self.assertGreaterEqual(len(told), count // 4 - 1)  # the first exits with 0, by a word of its own
        self.assertEqual(told - ended, set())
        # PID COMM FD ERR FLAGS PATH; flags in octal
        opened = {(r["pid"], r.get("path") or r.get("path_given"), "error" in r) for r in rows if r["type"] == "file.open"}
        told = [re.match(r"(\d+)\s+(\S+)\s+(-?\d+)\s+(\d+)\s+(0[0-7]*)\s+(\S+)", line) for line in theirs["opens"]]
        told = {(int(m[1]), m[6], m[4] != "0") for m in told if m and m[6].startswith(folder + "/") and int(m[5], 8) & (os.O_WRONLY | os.O_RDWR)}
        self.assertGreaterEqual(len(told), 2 * count)
        self.assertEqual(told - opened, set())
