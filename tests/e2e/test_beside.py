# SPDX-License-Identifier: Apache-2.0
"""Beside execsnoop, exitsnoop and opensnoop of libbpf-tools, and auditd, on the same load at the same time: nothing is missing that one of them has."""
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

import common
import rights

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


AUDITD = """
local_events = yes
write_logs = yes
log_file = %s/log/audit.log
log_format = RAW
flush = INCREMENTAL_ASYNC
freq = 50
num_logs = 2
max_log_file = 50
space_left = 10
admin_space_left = 5
""" + "".join(f"{what}_action = IGNORE\n" for what in ("max_log_file", "disk_full", "space_left", "admin_space_left", "disk_error"))
# What each call is told as. Of some calls there is an event only for what they ask for: then it is a function of the call's arguments.
TOLD = {
    "file.open": "open openat creat", "file.rename": "rename renameat renameat2", "file.unlink": "unlink unlinkat rmdir", "file.link": "link linkat",
    "file.symlink": "symlink symlinkat", "file.mkdir": "mkdir mkdirat", "file.mknod": "mknod mknodat", "file.chmod": "chmod fchmod fchmodat",
    "file.chown": "chown lchown fchown fchownat", "file.truncate": "truncate ftruncate", "file.setxattr": "setxattr lsetxattr fsetxattr",
    "file.removexattr": "removexattr lremovexattr fremovexattr", "process.exec": "execve execveat", "mount.detach": "umount2",
    "mount.pivot_root": "pivot_root", "process.chroot": "chroot", "ns.unshare": "unshare", "ns.enter": "setns", "process.memory_write": "process_vm_writev",
    "process.fd_get": "pidfd_getfd", "memory.memfd": "memfd_create", "memory.userfaultfd": "userfaultfd", "perf.open": "perf_event_open",
    "keys.ctl": "add_key keyctl", "uring.create": "io_uring_setup", "net.bind": "bind", "net.listen": "listen", "net.accept": "accept accept4",
    "cred.change": "setuid setresuid", "mount.attach mount.move mount.setattr": "mount move_mount", "mount.create": "fsmount",
}
WHERE = {
    "ptrace": lambda a: "process.ptrace" if a[0] in (0x10, 0x4206) else None,
    "kill": lambda a: "process.signal" if a[1] in (9, 15) else None,
    "personality": lambda a: "process.personality" if a[0] == 0x440000 else None,  # told is what it newly sets
    "open_tree": lambda a: "mount.create" if a[2] & 1 else None,
    "socket": lambda a: "net.socket" if a[0] == 17 or a[1] & 15 == 3 and a[0] in (2, 10) else None,
    "connect": lambda a: "net.connect",
    "bpf": lambda a: {0: "bpf.map", 5: "bpf.load"}.get(a[0]),
    **{call: (lambda a, types=types: types) for types, calls in TOLD.items() for call in calls.split()},
}
AUDIT_LOAD = """
import sys, tempfile
sys.path.insert(0, sys.argv[1])
import rights, test_schema
test_schema.change_files()
for _ in range(3):
    test_schema.connect_once()
with tempfile.TemporaryDirectory() as folder:
    test_schema.reach_into_kernel(folder)
rights.run_all()
"""


class Auditd:
    """auditd with a log of its own, told of these calls."""

    def __init__(self, test, calls):
        status = subprocess.run(["auditctl", "-s"], capture_output=True, text=True)
        if "Operation not permitted" in status.stderr or "Connection refused" in status.stderr:
            raise unittest.SkipTest(common.HOST_ONLY + "who has no right to the kernel's audit has no auditd")
        if "pid 0" not in status.stdout.splitlines():
            raise AssertionError(f"an auditd runs already: stop it for this test (systemctl stop auditd)\n{status.stdout}{status.stderr}")
        self.folder = tempfile.mkdtemp(prefix="sonde-audit-")
        test.addCleanup(shutil.rmtree, self.folder)
        for name in ("conf", "conf/plugins.d", "log"):
            os.mkdir(os.path.join(self.folder, name))
        with open(f"{self.folder}/conf/auditd.conf", "w") as file:
            os.fchmod(file.fileno(), 0o640)
            file.write(AUDITD % self.folder)
        self.process = subprocess.Popen(["auditd", "-n", "-c", f"{self.folder}/conf"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        test.addCleanup(self.end)
        common.wait_until(lambda: f"pid {self.process.pid}" in self.ask("-s").splitlines(), 20, "auditd")
        self.ask("-b", "16384")
        opens = {"openat": "a2&3", "open": "a1&3"}
        for call, condition in opens.items():
            self.ask("-a", "always,exit", "-F", "arch=b64", "-S", call, "-F", condition)
        self.ask("-a", "always,exit", "-F", "arch=b64", "-S", ",".join(set(calls) - set(opens)))

    def ask(self, *words):
        done = subprocess.run(["auditctl", *words], capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"auditctl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def end(self):
        if self.process.poll() is None:
            subprocess.run(["auditctl", "-D"], capture_output=True)
            subprocess.run(["auditctl", "-e", "0"], capture_output=True)
            self.process.terminate()
            self.process.wait(common.bound(20))

    def stop(self):
        """Its records of calls, as dicts of words; and whether it lost some."""
        common.wait_until(lambda: "backlog 0" in self.ask("-s").splitlines(), 20, "auditd to have written all")
        lost = "lost 0" not in self.ask("-s").splitlines()
        self.end()
        with open(f"{self.folder}/log/audit.log") as file:
            lines = list(file)
        sinks = {line.split()[1] for line in lines if line.startswith("type=PATH ") and ' name="/dev/null"' in line}
        calls = [line for line in lines if line.startswith("type=SYSCALL ") and line.split()[1] not in sinks]  # what keeps nothing is not told
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in calls], lost


class BesideAuditd(common.TestCase):
    @common.host_only("auditd is not carried there")
    @unittest.skipUnless(os.uname().machine == "x86_64", common.HOST_ONLY + "the numbers of calls are those of x86-64")
    def test_nothing_is_missing(self):
        names = {int(n): name for n, name in (line.split() for line in subprocess.run(
            ["ausyscall", "x86_64", "--dump"], capture_output=True, text=True, check=True).stdout.splitlines()[1:])}
        calls = [name for name in WHERE if name in names.values()]
        here = os.path.dirname(os.path.abspath(__file__))
        with common.Agent("exec,file,net,kernel,uring," + rights.MODULES, ["rings.bulk=32MiB"]) as agent:
            auditd = Auditd(self, calls + ["clone", "clone3", "fork", "vfork"])
            load = subprocess.Popen([sys.executable, "-c", AUDIT_LOAD, here], env={**os.environ, "SONDE_BUILD": common.BUILD})
            self.assertEqual(load.wait(common.bound(120)), 0)
            records, lost = auditd.stop()
            agent.stop()
            rows = agent.rows()
        self.assertFalse(lost)
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        ours = collections.Counter((r.get("pid"), r["type"]) for r in rows)
        # The processes of the load, by what auditd says of who made whom; of threads it says what they are to the kernel.
        meant, theirs = {load.pid}, collections.Counter()
        for r in records:
            pid, call, ok = int(r["pid"]), names[int(r["syscall"])], r["success"] == "yes" or r["exit"] == "-115"
            if pid not in meant or not ok:
                continue
            if call in ("clone", "clone3", "fork", "vfork"):
                meant.add(int(r["exit"]))
            types = WHERE[call]([int(r[f"a{n}"], 16) for n in range(4)]) if call in WHERE else None
            if types:
                theirs[pid, types] += 1
        self.assertGreaterEqual(len({types for _, types in theirs}), 30, theirs)
        leader = {r["tid"]: r["pid"] for r in rows if "tid" in r and "pid" in r}
        missing = {(pid, types): (count, has) for (pid, types), count in theirs.items()
                   if (has := sum(ours[leader.get(pid, pid), name] for name in types.split())) < count}
        self.assertEqual(missing, {})
