# SPDX-License-Identifier: Apache-2.0
"""What processes do to each other, held against what the load itself was told to do, /proc and strace."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import common

LOAD = common.load("rights")
PTRACE = {"traceme": 0, "poketext": 4, "pokedata": 5, "setregs": 13, "attach": 16, "detach": 17, "seize": 0x4206}
TYPES = "process.ptrace", "process.memory_write", "process.fd_get", "process.signal"


def pairs(text):
    """Lines of key=value as a dict."""
    return {key: int(value) if re.fullmatch(r"-?\d+", value) else value
            for key, value in re.findall(r"(\w+)=(\S*)", text)}


class Target:
    """A process that waits, with files of the test's choice."""

    def __init__(self, test, fds=(), **options):
        self.process = subprocess.Popen([LOAD, "target"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=fds,
                                        **options)
        test.addCleanup(self.end)
        self.said = pairs(self.process.stdout.readline())
        self.pid = self.process.pid

    def end(self):
        if self.process.stdin.closed:
            return ""
        self.process.stdin.close()
        self.process.wait(common.bound(30))
        rest = self.process.stdout.read()
        self.process.stdout.close()
        return rest


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


class Process(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.agent = common.Agent("exec,process")

    @classmethod
    def tearDownClass(cls):
        cls.agent.__exit__(None, None, None)

    def load(self, *words, status=None, **options):
        """Runs the load to its end, with `status` where that says something; its pid, and what it said."""
        process = subprocess.Popen([LOAD, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **options)
        out = process.communicate(timeout=common.bound(60))[0]
        if status is not None:
            self.assertEqual(process.returncode, status)
        return process.pid, pairs(out)

    def done(self, pid):
        """All rows of a process that ended, as its end is behind them on the same ring."""
        self.agent.wait_row("process.exit", lambda r: r["pid"] == pid)
        return [r for r in self.agent.rows("process.*") if r["pid"] == pid and r["type"] in TYPES]

    def check(self, row, target, **expected):
        """The rights are those of the test, which the load has too; the target is the one that /proc has."""
        status = status_of("self")
        want = {"uid": 0, "euid": 0, "gid": 0, "egid": 0, "cap_eff": int(status["CapEff"], 16), **expected}
        if target:
            began = self.agent.wait_row("process.exec", lambda r: r["pid"] == target)
            want |= {"target_pid": target, "target_comm": status_of(target)["Name"], "target_proc": began["proc"]}
        self.assertEqual({key: row.get(key) for key in want}, want)

    def test_trace(self):
        target = Target(self)
        pid, said = self.load("trace", target.pid, target.said["address"])
        self.assertEqual((said["attach"], said["poke"], said["detach"]), (0, 0, 0))
        self.done(pid)
        rows = self.agent.wait_rows("process.ptrace", lambda r: r["pid"] == pid, 4)
        names = [r["request_name"] for r in sorted(rows, key=lambda r: r["ts"])]
        self.assertEqual(names, ["attach", "pokedata", "setregs", "detach"])
        for row in rows:
            self.check(row, target.pid, request=PTRACE[row["request_name"]], target_tid=target.pid)
            self.assertEqual(row.get("address"), target.said["address"] if row["request_name"] == "pokedata" else None)
            self.assertNotIn("error", row)

    def test_seize_and_traceme(self):
        target = Target(self)
        pid, _ = self.load("seize", target.pid)
        rows = self.done(pid)
        self.assertEqual([r["request_name"] for r in rows], ["seize", "detach"])
        self.check(rows[0], target.pid, request=PTRACE["seize"])
        pid, _ = self.load("traceme")
        row, = self.done(pid)
        self.assertEqual((row["request_name"], row["target_pid"], row["target_proc"]), ("traceme", pid, row["proc"]))

    def test_refused(self):
        target = Target(self)
        pid, said = self.load("trace", target.pid, 0, user=12345, group=12345, extra_groups=[])
        self.assertEqual((said["attach"], said["error"]), (-1, 1))
        row, = self.done(pid)
        self.check(row, target.pid, error="EPERM", uid=12345, euid=12345, gid=12345, egid=12345, cap_eff=0)
        pid, _ = self.load("trace", 4000000, 0)
        row, = self.done(pid)
        self.assertEqual(row["error"], "ESRCH")
        self.assertNotIn("target_pid", row)

    @common.host_only("no strace")
    def test_strace_agrees(self):
        """Each request that strace shows of a tracer is there, and nothing else."""
        target = Target(self)
        trace = os.path.join(tempfile.mkdtemp(), "trace")
        self.addCleanup(shutil.rmtree, os.path.dirname(trace))
        process = subprocess.Popen(["strace", "-o", trace, "-e", "trace=ptrace", LOAD, "trace", str(target.pid), str(target.said["address"])],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        process.communicate(timeout=common.bound(60))
        with open(trace) as file:
            shown = re.findall(r"^ptrace\(PTRACE_(\w+), (\d+)", file.read(), re.M)
        shown = [(name.lower(), int(pid)) for name, pid in shown if name.lower() in PTRACE]
        rows = self.agent.wait_rows("process.ptrace", lambda r: r.get("target_pid") == target.pid, len(shown))
        rows = sorted((r for r in rows if r["pid"] != process.pid), key=lambda r: r["ts"])
        self.assertEqual([(r["request_name"], r["target_pid"]) for r in rows], shown)

    def test_memory_write(self):
        target = Target(self)
        pid, said = self.load("write", target.pid, target.said["address"])
        self.assertEqual(said["write"], 8)
        row, = self.done(pid)
        self.check(row, target.pid, type="process.memory_write", ret=8, parts=2)
        self.assertIn("overseen", target.end())

    def test_memory_write_into_itself_is_silent(self):
        pid, said = self.load("write", 0, 0)
        self.assertEqual((said["write"], self.done(pid)), (8, []))

    def test_memory_write_refused(self):
        target = Target(self)
        pid, said = self.load("write", target.pid, 8)
        self.assertEqual((said["write"], said["error"]), (-1, 14))
        row, = self.done(pid)
        self.check(row, target.pid, error="EFAULT")
        self.assertNotIn("ret", row)

    def getfd(self, target, fd, **options):
        pid, said = self.load("getfd", target.pid, fd, **options)
        row, = self.done(pid)
        self.assertEqual((row["type"], row["target_fd"]), ("process.fd_get", fd))
        return row, said

    def test_fd_of_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.realpath(os.path.join(folder, "x" * 200, "y" * 200, "file"))
            os.makedirs(os.path.dirname(path))
            fd = os.open(path, os.O_CREAT | os.O_RDWR)
            self.addCleanup(os.close, fd)
            target = Target(self, [fd])
            row, said = self.getfd(target, fd)
            file = os.fstat(fd)
            self.check(row, target.pid, path=path, ino=file.st_ino, dev=file.st_dev, fd=said["getfd"], ret=said["getfd"])
            self.assertNotIn("family", row)

    def test_fd_of_sockets(self):
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            server = socket.create_server((address, 0), family=family)
            client = socket.create_connection(server.getsockname()[:2])
            local = socket.socketpair()[0]
            for one in (server, client, local):
                self.addCleanup(one.close)
            target = Target(self, [server.fileno(), client.fileno(), local.fileno()])
            row, _ = self.getfd(target, client.fileno())
            self.check(row, target.pid, family=int(family), laddr=address, raddr=address, lport=client.getsockname()[1],
                       rport=server.getsockname()[1], ino=os.fstat(client.fileno()).st_ino)
            row, _ = self.getfd(target, server.fileno())
            self.check(row, target.pid, family=int(family), lport=server.getsockname()[1])
            self.assertEqual({"raddr", "rport", "path"} & set(row), set())
            row, _ = self.getfd(target, local.fileno())
            self.check(row, target.pid, family=int(socket.AF_UNIX))
            self.assertEqual({"laddr", "lport"} & set(row), set())

    def test_fd_of_the_file_of_a_socket(self):
        """What O_PATH opens is a file, though its mode is that of a socket."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            path = os.path.join(os.path.realpath(folder), "socket")
            server.bind(path)
            fd = os.open(path, os.O_PATH)
            self.addCleanup(os.close, fd)
            target = Target(self, [fd])
            row, _ = self.getfd(target, fd)
            self.check(row, target.pid, path=path, ino=os.stat(path).st_ino, family=None)

    def test_fd_of_pipe(self):
        target = Target(self)
        row, _ = self.getfd(target, 0)
        self.check(row, target.pid, ino=os.fstat(target.process.stdin.fileno()).st_ino)
        self.assertNotIn("path", row)

    def test_fd_refused(self):
        target = Target(self)
        row, said = self.getfd(target, 999)
        self.check(row, target.pid, error="EBADF")
        self.assertEqual({"fd", "ino", "path", "ret"} & set(row), set())

    def test_signals(self):
        for how, code in (("kill", "kill"), ("queue", "queue"), ("tkill", "tkill"), ("pidfd", "kill"), ("timer", "queue")):
            for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV, signal.SIGKILL, signal.SIGHUP):
                process = subprocess.Popen(["sleep", "100"])
                self.addCleanup(process.wait)
                self.addCleanup(process.kill)
                target = process.pid
                began = self.agent.wait_row("process.exec", lambda r: r["pid"] == target and r["comm"] == "sleep")
                pid, said = self.load("send", how, target, int(number))
                self.assertEqual(said["send"], 0)
                row, = self.done(pid)
                want = {"signal": int(number), "code": code, "target_pid": target, "target_comm": "sleep",
                        "target_proc": began["proc"], "result": "delivered", "type": "process.signal"}
                self.assertEqual({key: row.get(key) for key in want}, want)
                self.assertEqual(row.get("target_tid"), target if how == "tkill" else None)
                process.kill()

    def test_signals_that_say_nothing(self):
        """Those for programs' own use, to oneself, to nobody, or refused."""
        target = Target(self, preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN))
        for number in (0, signal.SIGUSR1, signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH):
            pid, _ = self.load("send", "kill", target.pid, int(number))
            self.assertEqual(self.done(pid), [])
        pid, said = self.load("send", "kill", target.pid, 15, user=12345, group=12345, extra_groups=[])
        self.assertEqual(said["error"], 1)
        self.assertEqual(self.done(pid), [])
        shell = subprocess.Popen(["sh", "-c", "kill -TERM $$"])
        shell.wait()
        self.assertEqual(self.done(shell.pid), [])

    def test_signals_of_the_kernel_are_silent(self):
        """A parent's death signal, and a timer's, whoever runs as it expires."""
        self.assertEqual(self.done(self.load("orphan", status=0)[0]), [])
        pid, _ = self.load("timer", status=0)
        self.agent.wait_row("process.exit", lambda r: r["pid"] == pid)
        self.assertEqual([r for r in self.agent.rows("process.signal") if r["target_pid"] == pid], [])

    def test_one_thread(self):
        code = "import sys, threading; t = threading.Thread(target=sys.stdin.read); t.start(); print(t.native_id, flush=True)"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        tid = int(process.stdout.readline())
        pid, _ = self.load("seize", tid)
        row = self.done(pid)[0]
        self.check(row, process.pid, request_name="seize", target_tid=tid)
        pid, _ = self.load("send", "tkill", tid, int(signal.SIGSTOP))
        row, = self.done(pid)
        self.check(row, process.pid, signal=int(signal.SIGSTOP), target_tid=tid)

    def test_ignored_signal(self):
        target = Target(self, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        pid, _ = self.load("send", "kill", target.pid, int(signal.SIGHUP))
        row, = self.done(pid)
        self.check(row, target.pid, result="ignored", signal=int(signal.SIGHUP))

    def test_pid_namespace(self):
        """Numbers are the caller's; what is told is the one process that they mean."""
        pid, said = self.load("inside")
        self.assertEqual((said["number"], said["write"]), (2, 8))
        first = said["first"]
        fork = self.agent.wait_row("process.fork", lambda r: r["pid"] == first)
        row = self.agent.wait_row("process.memory_write", lambda r: r["pid"] == first)
        self.assertEqual((row["target_pid"], row["target_proc"]), (fork["child_pid"], fork["child_proc"]))
        row = self.agent.wait_row("process.signal", lambda r: r["pid"] == first)
        self.assertEqual((row["target_pid"], row["signal"]), (fork["child_pid"], 15))

    @common.same_on_every_kernel
    def test_small_and_whole(self):
        with common.Agent("process") as agent:
            target = Target(self)
            for _ in range(50):
                common.spawn([LOAD, "trace", str(target.pid), str(target.said["address"])], stdout=subprocess.DEVNULL)
                common.spawn([LOAD, "write", str(target.pid), str(target.said["address"])], stdout=subprocess.DEVNULL)
            target.end()
            agent.stop()
            rows = agent.rows()
            self.assertLedgerExact(rows)
            own = [r["type"] for r in rows if r.get("comm") == os.path.basename(LOAD)]  # a sanitizer traces too
            self.assertEqual(own.count("process.ptrace"), 200)
            self.assertEqual(own.count("process.memory_write"), 50)
            raw = common.sonde("cat", agent.journal, "--type", "process.*", "--format", "msgpack", text=False).stdout
            self.assertLess(len(raw) / 250, 400)


if __name__ == "__main__":
    common.unittest.main()
