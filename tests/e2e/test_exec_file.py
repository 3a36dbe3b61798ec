# SPDX-License-Identifier: Apache-2.0
"""What process.exec tells of the program file, of rights, streams and environment; calls that fail; hashes of program files; and the same
while another thread changes what was asked for."""
import collections
import contextlib
import ctypes
import hashlib
import os
import pty
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import common
from test_exec import LOAD, Exec, held, stream

USER, GROUP = 12345, 23456
NAMES = ("stdin", "stdout", "stderr")


def folder_for(test):
    """A folder that every user can read, gone with the test."""
    folder = tempfile.TemporaryDirectory(prefix="sonde-exec-")
    test.addCleanup(folder.cleanup)
    os.chmod(folder.name, 0o755)
    return os.path.realpath(folder.name)


def copy(target, owner=(0, 0), mode=0o755):
    """A copy of the load, as a program of its own."""
    shutil.copyfile(LOAD, target)
    os.chown(target, *owner)
    os.chmod(target, mode)
    return target


class Case(Exec):
    """The checks of test_exec, on files of other kinds."""
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)

    def holds(self, row, **expected):
        self.assertEqual({key: row.get(key) for key in expected}, expected)


# unittest finds what a module holds: the tests of the base class are those of another file.
for name in [n for n in dir(Exec) if n.startswith("test_")]:
    setattr(Case, name, None)
del Exec


class File(Case):
    def test_plain_file_is_nothing_special(self):
        self.holds(self.check([LOAD, "hold"]), memfd=None, deleted=None, upper=None, setuid=None, setgid=None, gained=None,
                   script=None)

    def test_memfd(self):
        self.holds(self.check([LOAD, "memfd", LOAD, "hold"]), memfd=True, deleted=None)

    def test_deleted(self):
        program = copy(f"{self.folder}/gone")
        fd = os.open(program, os.O_RDONLY)
        os.set_inheritable(fd, True)
        os.unlink(program)
        self.holds(self.check([f"/proc/self/fd/{fd}", "hold"], pass_fds=[fd]), deleted=True, memfd=None)
        os.close(fd)

    def test_deleted_but_linked_elsewhere(self):
        program = copy(f"{self.folder}/one")
        os.link(program, f"{self.folder}/two")
        self.holds(self.check([program, "hold"]), deleted=None)

    def test_writable(self):
        for owner, mode, groups, expected in (((USER, 0), 0o755, [], True), ((USER, 0), 0o577, [], None),
                                              ((0, GROUP), 0o775, [], True), ((0, 77), 0o775, [], None),
                                              ((0, 77), 0o775, [5, 77, 99], True), ((0, 0), 0o757, [], True),
                                              ((0, 77), 0o757, [77], None), ((0, 0), 0o755, [], None)):
            program = copy(f"{self.folder}/writable", owner, mode)
            row = self.check([program, "hold"], user=USER, group=GROUP, extra_groups=groups)
            self.holds(row, writable=expected)
            self.holds(self.check([program, "hold"]), writable=True if mode & 2 else None)
            os.unlink(program)

    def test_script(self):
        script = f"{self.folder}/script"
        with open(script, "w") as file:
            file.write(f"#!{LOAD} hold\n")
        os.chmod(script, 0o755)
        os.symlink(script, f"{self.folder}/link")
        for given in (script, "./script", f"{self.folder}/link"):
            self.holds(self.check([given], cwd=self.folder), script=given)
        self.holds(self.check([LOAD, "at", self.folder, "script"], execs=2), exe=os.path.realpath(LOAD))
        for depth in (3, 15):  # what the smaller records have no room for
            place = self.folder + ("/" + "d" * 220) * depth
            os.makedirs(place)
            self.holds(self.check([shutil.copy(script, place)]), script=f"{place}/script")

    def test_overlay(self):
        """A file that came with the lower layer, the same after it was written to, and one made in the upper layer."""
        layers, place = f"{self.folder}/layers", f"{self.folder}/all"
        os.mkdir(layers)
        os.mkdir(place)
        mount = (f"mount -t tmpfs none {layers} && cd {layers} && mkdir lower upper work && cp {LOAD} lower/came && "
                 f"cp {LOAD} lower/changed && mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work {place} && "
                 f"cd {place} && ")
        for what, program, expected in (("true", "came", None), ("touch changed", "changed", True),
                                        ("cp came made", "made", True)):
            row = self.check(["unshare", "-m", "sh", "-c", f"{mount} {what} && exec {self.folder}/all/{program} hold"])
            self.holds(row, upper=expected, exe=f"{self.folder}/all/{program}")


class Rights(Case):
    def run_as(self, program, expected, **options):
        options.setdefault("user", USER)
        options.setdefault("group", GROUP)
        with held([program, "hold"], extra_groups=[], **options) as process:
            with open(f"/proc/{process.pid}/status") as file:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            row = self.row(process.pid, program)
        self.holds(row, gained=expected, euid=int(status["Uid"].split()[1]), egid=int(status["Gid"].split()[1]))
        return row

    def test_set_user_id(self):
        program = copy(f"{self.folder}/suid", mode=0o4755)
        self.holds(self.run_as(program, True), euid=0, uid=USER, setuid=True, setgid=None)
        self.run_as(program, None, user=0, group=0)
        with_no_new = ctypes.CDLL(None)
        self.holds(self.run_as(program, None, preexec_fn=lambda: with_no_new.prctl(38, 1, 0, 0, 0)), euid=USER, setuid=True)

    def test_set_group_id(self):
        program = copy(f"{self.folder}/sgid", (0, 777), 0o2755)
        self.holds(self.run_as(program, True), egid=777, setgid=True, setuid=None)

    def test_capabilities_of_a_file(self):
        program = copy(f"{self.folder}/capable")
        os.setxattr(program, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
        self.holds(self.run_as(program, True), caps=["CAP_NET_RAW"], setuid=None)
        self.run_as(program, None, user=0, group=0)
        self.run_as(copy(f"{self.folder}/plain"), None)

    def test_root_takes_its_own_back(self):
        def give_up():
            header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            if ctypes.CDLL(None).capset(header, none):
                os._exit(97)
        self.run_as(copy(f"{self.folder}/plain"), True, user=0, group=0, preexec_fn=give_up)


class Streams(Case):
    def begin(self, closed=(), **streams):
        """A load that holds with these streams, compared with /proc."""
        done = subprocess.Popen([LOAD, "burn", "2000000"], preexec_fn=lambda: [os.close(fd) for fd in closed], **streams)
        try:
            row = self.row(done.pid)
            expected = {name: stream(done.pid, fd) for fd, name in enumerate(NAMES)}  # no more what the loader opens for a moment
            self.holds(row, **expected)
            return expected
        finally:
            done.kill()
            done.wait()

    def test_kinds(self):
        one, other = socket.socketpair()
        network = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        master, slave = pty.openpty()
        folder, zero = os.open("/", os.O_RDONLY), os.open("/dev/zero", os.O_RDWR)
        file = os.open(f"{self.folder}/file", os.O_RDWR | os.O_CREAT)
        queue, written = os.pipe()
        event = os.eventfd(0)
        try:
            for streams in ((one, network, subprocess.DEVNULL), (queue, written, slave), (folder, zero, file),
                            (subprocess.DEVNULL, event, other)):
                self.begin(**dict(zip(NAMES, streams)))
            self.assertEqual(self.begin(stdin=one, stdout=network, stderr=slave),
                             {"stdin": "socket", "stdout": "socket", "stderr": "tty"})
            self.assertEqual(self.begin(closed=(0, 2)), {"stdin": None, "stdout": stream(os.getpid(), 1), "stderr": None})
        finally:
            for fd in (master, slave, folder, zero, file, queue, written, event):
                os.close(fd)
            for end in (one, other, network):
                end.close()

    def test_closed_by_the_call(self):
        """A descriptor with FD_CLOEXEC is none of the program's."""
        done = subprocess.Popen([LOAD, "burn", "2000000"], preexec_fn=lambda: os.set_inheritable(2, False))
        try:
            self.holds(self.row(done.pid), stderr=None)
        finally:
            done.kill()
            done.wait()

    def test_session(self):
        row = self.check([LOAD, "hold"], start_new_session=True)
        self.assertEqual((row["pgid"], row["sid"]), (row["pid"], row["pid"]))
        row = self.check([LOAD, "hold"], process_group=0)
        self.assertEqual((row["pgid"], row["sid"]), (row["pid"], os.getsid(0)))

    @common.host_only("the kernels were built without audit")
    def test_login(self):
        def log_in():
            with open("/proc/self/loginuid", "w") as file:
                file.write("4242")
        self.assertEqual(self.check([LOAD, "hold"], preexec_fn=log_in)["loginuid"], 4242)


@common.user_space
class Environment(Case):
    WANTED = ("LD_PRELOAD", "LD_AUDIT", "BASH_ENV")

    def setUp(self):
        super().setUp()
        self.end()
        self.restart("LD_PRELOAD, LD_AUDIT,BASH_ENV")

    def restart(self, names):
        self.agent = common.Agent("exec", {"modules.exec.environment": names})

    def env(self, environment, cut=False):
        with held([LOAD, "hold"], env=environment) as process:
            with open(f"/proc/{process.pid}/environ", "rb") as file:
                items = [i.decode() for i in file.read().split(b"\0")[:-1]]
            row = self.row(process.pid)
        wanted = [i for i in items if i.split("=")[0] in self.WANTED]
        if cut:
            self.assertEqual((row["truncated"], row["env_bytes"]), (True, sum(len(i) + 1 for i in items)))
        else:
            self.assertEqual((row.get("env", []), row.get("env_bytes"), row.get("truncated")), (wanted, None, None))
        return row

    def test_selected(self):
        self.env({})
        self.env({"PATH": "/bin", "LD_PRELOADX": "1", "LD_PRELOA": "2", "XLD_PRELOAD": "3", "ld_preload": "4"})
        row = self.env({"A": "1", "BASH_ENV": "", "LD_AUDIT": "/a b=c", "Z": "x"})
        self.assertEqual(row["env"], ["BASH_ENV=", "LD_AUDIT=/a b=c"])
        self.env({f"N{i}": "v" * i for i in range(200)} | {"BASH_ENV": "end"})

    def test_long(self):
        for size in (240, 245, 246, 247, 255, 300, 509, 510, 511, 2000, 7000):
            self.env({"FIRST": "LD_PRELOAD=no", "BASH_ENV": "b" * size, "LONG": "LD_AUDIT=x" * 40, "LD_AUDIT": "/audit"})
        row = self.env({"BASH_ENV": "b" * 60000}, cut=True)
        self.assertTrue(row["env"][0].startswith("BASH_ENV=" + "b" * 20000))

    def test_many_and_more_than_is_looked_at(self):
        for count in (10, 100, 500, 2000):
            row = self.env({"LD_AUDIT": "first"} | {f"N{i}": "v" for i in range(count)} | {"LD_PRELOAD": "last"})
            self.assertEqual(row["env"], ["LD_AUDIT=first", "LD_PRELOAD=last"])
        row = self.env({"LD_AUDIT": "first"} | {f"N{i}": "v" * 100 for i in range(500)} | {"LD_PRELOAD": "hidden"}, cut=True)
        self.assertEqual(row["env"], ["LD_AUDIT=first"])

    def test_behind_arguments(self):
        for size in (100, 245, 1300, 3900, 20000, 32000, 32500):
            with held([LOAD, "hold", "x" * size], env={"BASH_ENV": "behind"}) as process:
                row = self.row(process.pid)
            self.assertEqual((row["env"], len(row["args"][2]), row.get("truncated")), (["BASH_ENV=behind"], size, None))

    def test_not_asked_for(self):
        self.end()
        self.restart("")
        self.assertNotIn("env", self.check([LOAD, "hold"], env={"LD_AUDIT": "x"}))


class Failed(common.TestCase):
    def setUp(self):
        self.folder = folder_for(self)
        self.agent = common.Agent("exec", {"modules.exec.failed": "true"})
        self.addCleanup(lambda: self.agent.__exit__(None, None, None))

    def run_load(self, *words, **options):
        """The load's failed calls, and its words."""
        done = subprocess.Popen([LOAD, *words], stdout=subprocess.PIPE, text=True, **options)
        said = done.communicate(timeout=common.bound(60))[0].split()
        end = self.agent.wait_row("process.exit", lambda r: r["pid"] == done.pid)
        self.assertEqual(end["exit_code"], 0)
        common.wait_until(lambda: self.rows_of(done.pid), what="the failed call")
        return self.rows_of(done.pid), said

    def rows_of(self, pid):
        # Python tells its parent by a pipe that an exec failed: none of these here.
        return [r for r in self.agent.rows("process.exec_failed") if r["pid"] == pid]

    def fails(self, error, path, given=None, **options):
        (row,), said = self.run_load("fail", path, **options)
        self.assertEqual(said, [error])
        self.assertEqual((row["error"], row["path_given"], row["fd"], row["flags"], row.get("truncated")),
                         (error, path if given is None else given, -100, 0, True if given else None))
        self.assertNotIn("ret", row)
        return row

    @common.same_on_every_kernel
    def test_errors(self):
        plain = f"{self.folder}/plain"
        with open(plain, "w") as file:
            file.write("this is no program")
        self.fails("EACCES", plain)
        os.chmod(plain, 0o755)
        self.fails("ENOEXEC", plain)
        self.fails("ENOENT", f"{self.folder}/none")
        self.fails("ENOTDIR", f"{plain}/below")
        self.fails("EACCES", self.folder)
        os.symlink("loop", f"{self.folder}/loop")
        self.fails("ELOOP", f"{self.folder}/loop")
        self.fails("ENOENT", "")
        self.fails("ENOENT", "./ä", cwd=self.folder)
        with open(plain, "r+") as _:
            self.fails("ETXTBSY", plain)

    def test_credentials(self):
        row = self.fails("ENOENT", f"{self.folder}/none", user=USER, group=GROUP, extra_groups=[])
        self.assertEqual((row["uid"], row["euid"], row["gid"], row["egid"], row["cap_eff"]), (USER, USER, GROUP, GROUP, 0))

    @common.same_on_every_kernel
    def test_long_paths(self):
        for size in (253, 254, 255, 256, 257, 4000, 4095):
            path = (self.folder + "/none" + "/x" * 2500)[:size]
            self.fails("ENOENT", path)
        path = "/" + "y" * 5000
        self.fails("ENAMETOOLONG", path, given=path[:4103])

    def test_no_path(self):
        (row,), said = self.run_load("fail-null")
        self.assertEqual((said, row["error"], row["path_given"]), (["EFAULT"], "EFAULT", ""))

    def test_below_a_folder(self):
        (row,), said = self.run_load("fail-at", self.folder, "none", "0x100")
        self.assertEqual((row["error"], row["fd"], row["path_given"], row["flags"]), (said[0], int(said[1]), "none", 0x100))

    @common.same_on_every_kernel
    def test_path_that_changes_meanwhile(self):
        count = common.races(1000)
        self.agent.stop()
        self.agent.start()
        rows, said = self.run_load("race-fail", f"{self.folder}/none-a", str(count))
        self.assertEqual(said, ["ENOENT"])
        self.agent.stop()
        every = self.agent.rows()
        run = every[-1]["run"]
        rows = [r for r in every if r["type"] == "process.exec_failed" and r["pid"] == rows[0]["pid"]]
        dropped = sum(common.ledger(every)["process.exec_failed"]["dropped"].values())
        self.assertEqual(len(rows) + dropped, count)
        self.assertEqual({r["error"] for r in rows}, {"ENOENT"})
        self.assertLessEqual({r["path_given"] for r in rows}, {f"{self.folder}/none-a", f"{self.folder}/none-b"})
        self.assertLedgerExact([r for r in every if r["run"] == run])

    @common.host_only("strace is not there")
    def test_all_that_strace_sees(self):
        log = f"{self.folder}/strace"
        words = ["sh", "-c", f"none; {self.folder}; env none; env true; ./none; PATH=/x:/y:/bin env -- true; exit 0"]
        done = subprocess.Popen(["strace", "-f", "-qq", "-s", "4096", "-e", "trace=execve,execveat", "-e", "status=failed", "-o", log,
                                 *words], stderr=subprocess.DEVNULL, cwd=self.folder)
        self.assertEqual(done.wait(common.bound(30)), 0)
        self.agent.stop()
        with open(log) as file:
            seen = re.findall(r'^(\d+) +execve\("([^"]*)".* = -1 (\w+)', file.read(), re.MULTILINE)
        pids = {pid for pid, _, _ in seen}
        told = [(str(r["pid"]), r["path_given"], r["error"]) for r in self.agent.rows("process.exec_failed")]
        self.assertGreater(len(seen), 5)
        self.assertEqual(collections.Counter(t for t in told if t[0] in pids), collections.Counter(seen))

    def test_success_is_none(self):
        pid = common.spawn(["/bin/true"])
        self.agent.wait_row("process.exit", lambda r: r["pid"] == pid)
        self.assertEqual([r for r in self.rows_of(pid) if r["comm"] == "true"], [])

    def test_off_by_default(self):
        with common.Agent("exec") as agent:
            self.run_load("fail", f"{self.folder}/none")
            self.assertEqual(agent.rows("process.exec_failed"), [])


class Races(common.TestCase):
    @common.same_on_every_kernel
    def test_path_and_argument_that_change_meanwhile(self):
        """What is told is what ran, as the program itself saw it."""
        folder, count = folder_for(self), common.races(300)
        for letter in "ab":
            copy(f"{folder}/program-{letter}")
        with common.Agent("exec") as agent:
            out = subprocess.run([LOAD, "race-exec", f"{folder}/program-a", str(count)], stdout=subprocess.PIPE, text=True,
                                 check=True, stdin=subprocess.DEVNULL, timeout=common.bound(300)).stdout
            agent.stop()
            every = agent.rows()
        said = [tuple(map(int, line.split())) for line in out.splitlines()]
        self.assertEqual(len(said), count)
        self.assertGreater(len({code for _, code in said}), 2, "the race was none")
        told = [(r["pid"], r["exe"].endswith("b") | (r["args"][2] == "b") << 1) for r in every
                if r["type"] == "process.exec" and r["exe"].startswith(folder)]
        self.assertEqual(collections.Counter(told), collections.Counter(said))
        self.assertLedgerExact(every)

    @common.same_on_every_kernel
    def test_ten_thousand_children(self):
        count = common.scaled(10000, 500)
        with common.Agent("exec") as agent:
            process = subprocess.Popen([LOAD, "many", str(count), "0"], stdout=subprocess.PIPE, text=True)
            pids = collections.Counter(int(line) for line in process.communicate(timeout=common.bound(120))[0].split())
            agent.stop()
            every = agent.rows()
        self.assertEqual(sum(pids.values()), count)
        forks = [r for r in every if r["type"] == "process.fork" and r["pid"] == process.pid]
        self.assertEqual(collections.Counter(r["child_pid"] for r in forks), pids)
        children = {r["child_proc"] for r in forks}
        self.assertEqual(len(children), count)
        self.assertEqual(sum(r["type"] == "process.exit" and r["proc"] in children for r in every), count)
        self.assertLedgerExact(every)


@common.user_space
class Hash(common.TestCase):
    def setUp(self):
        self.folder = folder_for(self)

    @contextlib.contextmanager
    def running(self, only=None, **settings):
        """`only`: of programs of this name; others' wait in the same queue."""
        settings = {f"modules.exec.{key}": value for key, value in {"hash": "true", **settings}.items()}
        with common.Agent("exec", settings | ({"filter.comm": only} if only else {})) as agent:
            yield agent
            agent.stop()
            self.assertLedgerExact(agent.rows())

    def digest(self, path):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def test_once_a_version(self):
        program = copy(f"{self.folder}/program")
        with self.running() as agent:
            for round_ in range(1, 5):
                pids, rows = [], []
                while len(rows) < round_:  # what was changed a moment ago and ran for a moment waits for its next run
                    self.assertLess(len(pids), 100)
                    pids += [common.spawn([program, "exit", "0"]) for _ in range(3)]
                    agent.wait_row("process.exit", lambda r: r["pid"] == pids[-1])
                    rows = agent.rows("process.image", "--where", f"path = {program}")
                file = os.stat(program)
                self.assertEqual([(r["sha256"], r["ino"], r["dev"], r["file_bytes"]) for r in rows[round_ - 1:]],
                                 [(self.digest(program), file.st_ino, file.st_dev, file.st_size)])
                self.assertIn(rows[-1]["pid"], pids)
                with open(program, "ab") as more:
                    more.write(b"another version")

    def test_same_process_changes_it_and_runs_it_again(self):
        """Between two executions by one process the file gets another content of the same size: the first has gone unread."""
        program, other = copy(f"{self.folder}/program"), copy(f"{self.folder}/other")
        for path, letter in ((program, b"1"), (other, b"2")):
            with open(path, "ab") as file:
                file.write(letter)
        ino = os.stat(program).st_ino
        with self.running() as agent:
            with held([program, "caps", "0xffffffffffffffff", "/bin/sh", "-c", f"cat {other} >{program} && exec {program} hold"]):
                agent.wait_rows("process.exec", lambda r: r["ino"] == ino, 2)
                row = agent.wait_row("process.image", lambda r: r["ino"] == ino)
            self.assertEqual(row["sha256"], self.digest(other))
            agent.stop()
            self.assertEqual(len([r for r in agent.rows("process.image") if r["ino"] == ino]), 1)
            self.assertEqual(common.ledger(agent.rows())["process.image"]["dropped"].get("read_failed"), 1)

    def test_no_folder(self):
        program = copy(f"{self.folder}/gone")
        expected = self.digest(program)
        with self.running() as agent, held([LOAD, "memfd", LOAD, "hold"]) as one, held([program, "hold"]) as two:
            os.unlink(program)
            for process in (one, two):
                row = agent.wait_row("process.image",
                                     lambda r: r["pid"] == process.pid and not r["path"].startswith(os.path.realpath(LOAD)))
                self.assertEqual(row["sha256"], self.digest(LOAD))
        self.assertEqual(expected, self.digest(LOAD))

    def test_too_large(self):
        with self.running(hash_most="4KiB") as agent:
            pid = common.spawn([LOAD, "exit", "0"])
            row = agent.wait_row("process.image", lambda r: r["pid"] == pid)
            self.assertIs(row["too_large"], True)
            self.assertNotIn("sha256", row)

    def test_rate(self):
        program = copy(f"{self.folder}/large")
        with open(program, "ab") as file:
            file.write(b"x" * (3 << 20))
        with self.running(only="large", hash_rate="1MiB") as agent:
            began = time.monotonic()
            pid = common.spawn([program, "exit", "0"])
            begin = agent.wait_row("process.exec", lambda r: r["pid"] == pid)
            row = agent.wait_row("process.image", lambda r: r["pid"] == pid)
            self.assertGreaterEqual(time.monotonic() - began, 3)
            self.assertEqual((row["sha256"], row["proc"]), (self.digest(program), begin["proc"]))

    def test_more_than_can_wait(self):
        """Each version that was run has its hash or its count."""
        count = 90
        for i in range(count):
            os.mkdir(f"{self.folder}/{i}")
            with open(copy(f"{self.folder}/{i}/waits"), "ab") as file:
                file.truncate(1 << 20)
        with self.running(only="waits", hash_rate="1MiB") as agent:
            for i in range(count):
                common.spawn([f"{self.folder}/{i}/waits", "exit", "0"])
            agent.wait_row("process.image")
            agent.stop()
            rows = agent.rows()
        dropped = common.ledger(rows)["process.image"]["dropped"]
        self.assertEqual(sum(r["type"] == "process.image" for r in rows) + sum(dropped.values()), count)
        self.assertGreater(dropped["table_full"], 0)
        self.assertGreater(dropped["stopped"], 0)

    def test_file_that_is_replaced(self):
        """Never the hash of another file."""
        known, stop = {}, threading.Event()

        def replace():
            i = 0
            while not stop.is_set():
                made = copy(f"{self.folder}/next")
                with open(made, "ab") as file:
                    file.write(b"%d" % i)
                known.setdefault(os.stat(made).st_ino, set()).add(self.digest(made))
                os.rename(made, f"{self.folder}/program")
                i += 1
        copy(f"{self.folder}/program")
        known[os.stat(f"{self.folder}/program").st_ino] = {self.digest(f"{self.folder}/program")}
        with self.running() as agent:
            thread = threading.Thread(target=replace)
            thread.start()
            try:
                for _ in range(common.scaled(20, 20)):
                    with contextlib.ExitStack() as runs:
                        for _ in range(5):
                            process = runs.enter_context(held([f"{self.folder}/program", "hold"]))
                        agent.wait_row("process.exec", lambda r: r["pid"] == process.pid)
            finally:
                stop.set()
                thread.join()
            common.wait_until(lambda: agent.rows("process.image"), what="a hash")
            agent.stop()
            rows = [r for r in agent.rows("process.image") if r["path"].startswith(self.folder)]
        if not common.SANITIZED:  # a slow agent comes too late for most
            self.assertGreater(len(rows), 10)
        for row in rows:
            self.assertIn(row["sha256"], known[row["ino"]])

    def test_off_by_default(self):
        with common.Agent("exec") as agent:
            pid = common.spawn([LOAD, "exit", "0"])
            agent.wait_row("process.exit", lambda r: r["pid"] == pid)
            agent.stop()
            self.assertEqual(agent.rows("process.image"), [])


if __name__ == "__main__":
    common.unittest.main()
