# SPDX-License-Identifier: Apache-2.0
"""process.exec, process.fork and process.exit beside what /proc, stat(2) and wait4(2) say of the same processes."""
import contextlib
import fcntl
import os
import pty
import resource
import signal
import stat
import subprocess
import tempfile
import termios

import common

LOAD = common.load("process")
NAMESPACES = {"mnt": "mnt_ns", "net": "net_ns", "user": "user_ns", "uts": "uts_ns", "ipc": "ipc_ns", "cgroup": "cgroup_ns",
              "pid": "pid_ns"}
CAPS = ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
        "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
        "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE").split()


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def login_of(pid):
    """4294967295, that nobody logged in, also where the kernel was built without audit."""
    try:
        with open(f"/proc/{pid}/loginuid") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0xffffffff


def stream(pid, fd):
    """What a descriptor is, as process.exec names it; None: closed."""
    try:
        file = os.stat(f"/proc/{pid}/fd/{fd}")
    except FileNotFoundError:
        return None
    if stat.S_ISCHR(file.st_mode):
        major, minor = os.major(file.st_rdev), os.minor(file.st_rdev)
        return "null" if (major, minor) == (1, 3) else "tty" if major in (4, 5, *range(136, 144)) else "device"
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe"}
    return kinds.get(stat.S_IFMT(file.st_mode), "other")


def writable(file, status):
    uid, mode = int(status["Uid"].split()[0]), file.st_mode
    groups = {int(g) for g in [status["Gid"].split()[0], *status["Groups"].split()]}
    if uid and uid == file.st_uid:
        return bool(mode & 0o200)
    return bool(mode & (0o020 if uid and file.st_gid in groups else 0o002))


def truth(pid):
    """What the kernel tells of a process by other ways, as the keys of process.exec."""
    status = status_of(pid)
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read()
    file = os.stat(f"/proc/{pid}/exe")
    uid, gid, caps = status["Uid"].split(), status["Gid"].split(), int(status["CapEff"], 16)
    found = {"exe": os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"),
             "args": [w.decode(errors="replace") for w in words.split(b"\0")[:-1]],
             "cwd": os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)"), "ino": file.st_ino, "dev": file.st_dev,
             "uid": int(uid[0]), "euid": int(uid[1]), "gid": int(gid[0]), "egid": int(gid[1]),
             "caps": ["CAP_" + name for bit, name in enumerate(CAPS) if caps >> bit & 1],
             "pid": pid, "tid": pid, "comm": status["Name"], "ns_pid": int(status["NSpid"].split()[-1]),
             "pgid": os.getpgid(pid), "sid": os.getsid(pid), "loginuid": login_of(pid)}
    memfd = os.readlink(f"/proc/{pid}/exe").startswith("/memfd:")
    kinds = {"memfd": memfd, "deleted": not file.st_nlink and not memfd, "writable": writable(file, status),
             "setuid": file.st_mode & stat.S_ISUID, "setgid": file.st_mode & stat.S_ISGID}
    found.update({key: True if value else None for key, value in kinds.items()})
    found.update({name: stream(pid, fd) for fd, name in enumerate(("stdin", "stdout", "stderr"))})
    for name, key in NAMESPACES.items():
        found[key] = int(os.readlink(f"/proc/{pid}/ns/{name}").split("[")[1].rstrip("]"))
    return found


@contextlib.contextmanager
def held(argv, **options):
    """A program that says 'ready' once the last of its executions runs, and lives until the block is left."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    try:
        line = process.stdout.readline()
        if line != b"ready\n":
            raise AssertionError(f"{argv[:3]} said {line!r}")
        yield process
    finally:
        process.stdin.close()
        process.wait(common.bound(30))
        process.stdout.close()


class Exec(common.TestCase):
    def setUp(self):
        self.agent = common.Agent("exec")
        self.addCleanup(self.end)
        folder = tempfile.TemporaryDirectory(prefix="sonde-exec-")
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)

    def end(self):
        self.agent.__exit__(None, None, None)

    def row(self, pid, exe=None, execs=1):
        """The last of so many executions of the pid."""
        rows = self.agent.wait_rows("process.exec", lambda r: r["pid"] == pid and (exe is None or r.get("exe") == exe), execs)
        return rows[-1]

    def check(self, argv, pid_of=lambda process: process.pid, execs=1, **options):
        """Runs it, and compares every key with /proc while it lives, after so many execs of the program."""
        with held(argv, **options) as process:
            pid = pid_of(process)
            expected = truth(pid)
            row = self.row(pid, expected["exe"], execs)
        self.assertEqual({key: row.get(key) for key in expected}, expected)
        self.assertNotIn("args_bytes", row)
        self.assertNotIn("truncated", row)
        self.assertNotIn("env_bytes", row)
        return row

    def test_plain(self):
        row = self.check([LOAD, "hold", "", "ä", "a b", ""], cwd=self.folder)
        self.assertEqual(row["args"], [LOAD, "hold", "", "ä", "a b", ""])
        self.assertEqual(row["cwd"], self.folder)

    def test_by_symlink_relative_and_at_root(self):
        os.symlink(LOAD, os.path.join(self.folder, "link"))
        row = self.check(["./link", "hold"], cwd=self.folder)
        self.assertEqual((row["exe"], row["args"][0]), (os.path.realpath(LOAD), "./link"))
        self.assertEqual(self.check([LOAD, "hold"], cwd="/")["cwd"], "/")

    def test_execveat(self):
        row = self.check([LOAD, "at", os.path.dirname(LOAD), os.path.basename(LOAD), "hold"], execs=2)
        self.assertEqual(row["args"], [os.path.basename(LOAD), "hold"])

    def test_script(self):
        script = os.path.join(self.folder, "script")
        with open(script, "w") as file:
            file.write(f"#!{LOAD} hold\n")
        os.chmod(script, 0o755)
        row = self.check([script, "more"])
        self.assertEqual((row["exe"], row["args"]), (os.path.realpath(LOAD), [LOAD, "hold", script, "more"]))
        self.assertEqual((row["comm"], row["script"]), ("script", script))

    def test_memfd_and_deleted(self):
        self.assertEqual(self.check([LOAD, "memfd", LOAD, "hold"])["exe"], "/memfd:carried")
        copy = os.path.join(self.folder, "copy")
        with open(LOAD, "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
        os.chmod(copy, 0o755)
        row = self.check(["/bin/sh", "-c", f"exec {copy} memfd {copy} hold"])
        with held([copy, "hold"]) as process:
            os.unlink(copy)
            expected = truth(process.pid)
            row = self.row(process.pid, copy)
        self.assertEqual((row["exe"], row["ino"]), (expected["exe"], expected["ino"]))

    def test_namespaces(self):
        place = os.path.join(self.folder, "place")
        os.mkdir(place)
        where = f"{place}/{os.path.basename(LOAD)}"
        row = self.check(["unshare", "-m", "-u", "-i", "-n", "-C", "sh", "-c",
                          f"mount --bind {os.path.dirname(LOAD)} {place} && cd {place} && exec {where} hold"])
        self.assertEqual((row["exe"], row["cwd"]), (where, place))
        own = truth(os.getpid())
        for key in ("mnt_ns", "uts_ns", "ipc_ns", "net_ns", "cgroup_ns"):
            self.assertNotEqual(row[key], own[key])

    def test_pid_namespace(self):
        def child(process):
            rows = self.agent.wait_rows("process.fork", lambda r: r["pid"] == process.pid)
            return rows[-1]["child_pid"]
        row = self.check(["unshare", "-p", "-f", LOAD, "hold"], child)
        self.assertEqual(row["ns_pid"], 1)

    def test_chroot(self):
        row = self.check(["unshare", "-m", "sh", "-c",
                          f"mount --rbind / {self.folder} && exec chroot {self.folder} {LOAD} hold"])
        self.assertEqual(row["exe"], self.folder + os.path.realpath(LOAD))
        self.assertEqual(row["cwd"], self.folder)

    def test_credentials(self):
        program = os.path.join(self.folder, "raised")
        with open(LOAD, "rb") as source, open(program, "wb") as target:
            target.write(source.read())
        os.chmod(self.folder, 0o755)
        row = self.check([LOAD, "hold"], user=12345, group=23456, extra_groups=[])
        self.assertEqual((row["uid"], row["gid"], row["caps"]), (12345, 23456, []))
        os.chown(program, 777, 888)
        os.chmod(program, 0o6755)
        row = self.check([program, "hold"], user=12345, group=23456, extra_groups=[])
        self.assertEqual((row["uid"], row["euid"], row["gid"], row["egid"]), (12345, 777, 23456, 888))
        row = self.check([LOAD, "caps", hex(1 << CAPS.index("NET_ADMIN") | 1 << CAPS.index("BPF")), LOAD, "hold"], execs=2)
        self.assertEqual(row["caps"], ["CAP_NET_ADMIN", "CAP_BPF"])

    def test_terminal(self):
        master, slave = pty.openpty()
        try:
            name = os.ttyname(slave)

            def own_terminal():
                os.setsid()
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            row = self.check([LOAD, "hold"], preexec_fn=own_terminal, pass_fds=[slave])
            self.assertEqual(row["tty"], name.removeprefix("/dev/").replace("/", ""))
        finally:
            os.close(master)
            os.close(slave)
        self.assertNotIn("tty", self.check([LOAD, "hold"], start_new_session=True))

    def test_many_and_long_arguments(self):
        many = [str(i) for i in range(1000)]
        self.assertEqual(self.check([LOAD, "hold", *many])["args"][2:], many)
        for size in (200, 230, 300, 1900, 2030, 2100, 30000):
            self.check([LOAD, "hold", "x" * size])
        exact = 32768 - len(LOAD) - 1 - 5 - 1
        self.check([LOAD, "hold", "y" * exact])
        for size in (exact + 1, 100 << 10):
            words = [LOAD, "hold", "z" * size, "w" * size]
            pid = common.spawn(words, stdout=subprocess.DEVNULL)
            row = self.row(pid)
            self.assertEqual(row["args_bytes"], sum(len(w) + 1 for w in words))
            self.assertIs(row["truncated"], True)
            self.assertEqual("\0".join(row["args"]), "\0".join(words)[:32768])

    def test_bytes_that_are_no_text(self):
        pid = common.spawn([LOAD, "exit", b"0\xff\xfe\x00".rstrip(b"\0"), b"\x80\xe4"])
        row = self.row(pid)
        self.assertEqual(len(row["args"]), 4)
        self.assertEqual(row["args"][:2], [LOAD, "exit"])

    def test_deep_folders(self):
        """Paths of every depth, up to what a path may be and beyond, where its end is kept."""
        for name, depth in (("n" * 180, 20), ("m" * 250, 15), ("d", 30), ("d", 60), ("e" * 20, 110), ("k" * 200, 30)):
            self.deep(name, depth)
        self.deep("c", 200, cut=True)

    def deep(self, name, depth, cut=False):
        place = os.open(self.folder, os.O_RDONLY)
        for _ in range(depth):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=place)
            below = os.open(name, os.O_RDONLY, dir_fd=place)
            os.close(place)
            place = below
        try:
            with held([LOAD, "hold"], preexec_fn=lambda: os.fchdir(place)) as process:
                row = self.row(process.pid, os.path.realpath(LOAD))
        finally:
            os.close(place)
        if cut:
            self.assertIs(row["truncated"], True)
            self.assertTrue(row["cwd"].startswith("/.../" + name + "/"), row["cwd"][:300])
            self.assertTrue(row["cwd"].endswith(("/" + name) * min(depth, 15)))
        else:
            self.assertEqual(row["cwd"], self.folder + ("/" + name) * depth)
            self.assertNotIn("truncated", row)

    def test_other_thread_runs_a_program(self):
        with held([LOAD, "thread-exec", LOAD, "hold"]) as process:
            expected = truth(process.pid)
            common.wait_until(lambda: len([r for r in self.agent.rows("process.exec") if r["pid"] == process.pid]) > 1,
                              what="both executions")
        common.wait_until(lambda: any(r["pid"] == process.pid for r in self.agent.rows("process.exit")), what="the end")
        first, second = [r for r in self.agent.rows("process.exec") if r["pid"] == process.pid]
        self.assertEqual({k: second.get(k) for k in expected}, expected)
        self.assertEqual(first["parent"], second["parent"])
        self.assertNotEqual(first["proc"], second["proc"])
        ends = [r for r in self.agent.rows("process.exit") if r["pid"] == process.pid]
        self.assertEqual([(r["proc"], r["parent"], r["exit_code"]) for r in ends], [(second["proc"], second["parent"], 0)])


class Exit(common.TestCase):
    def setUp(self):
        self.agent = common.Agent("exec")
        self.addCleanup(lambda: self.agent.__exit__(None, None, None))

    def run_one(self, *words, **options):
        """Runs the load; its process.exit, and its status and usage as wait4 has them."""
        process = subprocess.Popen([LOAD, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
        pid = process.pid
        _, status, usage = os.wait4(pid, 0)
        process.returncode = status
        row = self.agent.wait_row("process.exit", lambda r: r["pid"] == pid)
        self.assertEqual(len([r for r in self.agent.rows("process.exit") if r["pid"] == pid]), 1)
        self.assertEqual(row["exit_code"], os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0)
        self.assertEqual(row.get("signal", 0), os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
        self.assertEqual(row.get("core_dumped", False), os.WCOREDUMP(status))
        self.assertEqual(row["peak_rss_bytes"], usage.ru_maxrss * 1024)
        return row, usage

    def test_codes(self):
        for code in (0, 1, 77, 255):
            self.assertEqual(self.run_one("exit", code)[0]["exit_code"], code)
        self.assertEqual(self.run_one("thread-exit", 42)[0]["exit_code"], 42)

    def test_signals(self):
        self.assertEqual(self.run_one("crash")[0]["signal"], signal.SIGSEGV)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGABRT):
            process = subprocess.Popen([LOAD, "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.assertEqual(process.stdout.readline(), b"ready\n")
            process.send_signal(number)
            process.wait()
            process.stdin.close()
            process.stdout.close()
            row = self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
            self.assertEqual((row["signal"], row["exit_code"]), (number, 0))

    def test_core(self):
        with tempfile.TemporaryDirectory() as folder:
            row, _ = self.run_one("crash", cwd=folder, preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
        self.assertEqual(row["signal"], signal.SIGSEGV)

    def test_memory(self):
        row, _ = self.run_one("touch", 48 << 20)
        self.assertGreater(row["peak_rss_bytes"], 48 << 20)

    def near(self, row, usage):
        used = (usage.ru_utime + usage.ru_stime) * 1e9
        self.assertAlmostEqual(row["cpu_ns"], used, delta=max(0.03 * used, common.bound(700_000 if common.GUEST else 300_000)))

    def test_cpu_time(self):
        for us, threads in ((0, 0), (1000, 0), (1000, 0), (1000, 0), (5000, 0), (60000, 0), (300000, 0), (1000, 4), (10000, 8),
                            (60000, 3)):
            row, usage = self.run_one("burn", us, threads)
            self.near(row, usage)
            self.assertGreaterEqual(row["cpu_ns"], us * 1000 * max(threads, 1))

    def test_run_time(self):
        with held([LOAD, "hold"]) as process:
            pass
        row = self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        fork = self.agent.wait_row("process.fork", lambda r: r.get("child_pid") == process.pid)
        self.assertAlmostEqual(row["run_ns"], row["ts"] - fork["ts"], delta=common.bound(2_000_000))

    def test_first_thread_ends_first(self):
        row, usage = self.run_one("leader-first", 30000, 9)
        self.near(row, usage)
        self.assertGreaterEqual(row["run_ns"], 30_000_000)
        self.assertNotEqual(row["tid"], row["pid"])

    def test_threads_that_end_together(self):
        count = common.scaled(2000, 100)
        out = subprocess.run([LOAD, "many", str(count), "6"], stdout=subprocess.PIPE, text=True, check=True,
                             stdin=subprocess.DEVNULL, timeout=common.bound(120)).stdout
        pids = [int(line) for line in out.split()]
        self.assertEqual(len(pids), count)
        self.agent.stop()
        rows = self.agent.rows("process.*")
        forks = {r["child_proc"]: r["child_pid"] for r in rows if r["type"] == "process.fork" and r["child_pid"] in pids}
        ends = [r for r in rows if r["type"] == "process.exit" and r["proc"] in forks]
        self.assertEqual(len(ends), count)
        self.assertEqual(len({r["proc"] for r in ends}), count)
        for row in ends:
            self.assertEqual((row["exit_code"], row.get("signal", 0)), (0, 0))
            self.assertGreater(row["peak_rss_bytes"], 100 << 10)
        self.assertLedgerExact(self.agent.rows())


if __name__ == "__main__":
    common.unittest.main()
