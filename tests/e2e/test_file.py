# SPDX-License-Identifier: Apache-2.0
"""file.*: what the events say beside stat(2), os.path.realpath and what a load finds on the disk afterwards."""
import collections
import contextlib
import ctypes
import errno
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import tempfile

import common

LOAD = common.load("file")
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
TYPES = {"open", "mkdir", "mknod", "symlink", "link", "rename", "unlink", "chmod", "chown", "truncate", "setxattr", "removexattr"}
OPENS = {"open": 2, "creat": 85, "openat": 257, "open_by_handle_at": 304, "openat2": 437}  # of x86-64


def changes():
    """The numbers of all other calls that the module follows, of x86-64."""
    with open(os.path.join(common.ROOT, "probes", "file", "calls.h")) as file:
        lines = file.read().partition("\n#else\n")[2].partition("\n#endif\n")[0]
    found = re.findall(r"X\((\w+), (\d+), ", lines) + re.findall(r"NR_(MKDIRAT) (\d+)", lines)
    return {name.lower(): int(number) for name, number in found}


NUMBERS = OPENS | changes()


def call(name, *arguments, **options):
    """One system call of another process: its pid, and what it returned (negative: the error)."""
    words = [f"s:{a}" if isinstance(a, str) else f"h:{a.hex()}" if isinstance(a, bytes) else str(a) for a in arguments]
    process = subprocess.Popen([LOAD, "call", str(NUMBERS[name]), *words], stdout=subprocess.PIPE, text=True,
                               stdin=subprocess.DEVNULL, **options)
    out, _ = process.communicate(timeout=common.bound(20))
    return process.pid, int(out)


def number(st):
    """A device as the events have it."""
    return st.st_dev


def open_how(flags):
    """A struct open_how: flags, mode, resolve."""
    return b"".join(n.to_bytes(8, "little") for n in (flags, 0o600 if flags & os.O_CREAT else 0, 0))


class Case(common.TestCase):
    modules, settings = "file", ("rings.bulk=32MiB",)

    @classmethod
    def setUpClass(cls):
        cls.agent = common.Agent(cls.modules, cls.settings)

    @classmethod
    def tearDownClass(cls):
        cls.agent.__exit__(None, None, None)

    def place(self, base=None):
        os.makedirs(base or "/tmp", exist_ok=True)
        folder = os.path.realpath(tempfile.mkdtemp(prefix="sonde-file-", dir=base))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def places(self):
        """Folders of different file systems, by name."""
        found = {"disk": self.place("/var/tmp"), "tmpfs": self.place("/dev/shm")}
        below = self.place("/dev/shm")
        for name in ("lower", "upper", "work", "all"):
            os.mkdir(f"{below}/{name}")
        options = f"lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work"
        done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, f"{below}/all"], capture_output=True)
        if done.returncode == 0:
            self.addCleanup(subprocess.run, ["umount", "-l", f"{below}/all"], check=True)
            found["overlay"] = f"{below}/all"
        elif not common.GUEST:
            self.fail(f"overlayfs cannot be mounted: {done.stderr}")
        return found

    def rows(self, kind, pid=None, count=1, of=lambda row: True):
        """The events of a kind that a process brought about since the last look, at least `count` of them."""
        pid = os.getpid() if pid is None else pid
        return self.agent.wait_rows(f"file.{kind}", lambda r: r["pid"] == pid and r["seq"] > self.seen and of(r), count)

    def mark(self):
        """A folder is made: all that went before is in the journal once its event is. Returns that."""
        folder = tempfile.mkdtemp(prefix="sonde-mark-")
        os.rmdir(folder)
        self.agent.wait_row("file.mkdir", lambda r: r.get("path") == folder)
        return self.agent.wait_row("file.unlink", lambda r: r.get("path") == folder)

    def setUp(self):
        self.seen = self.mark()["seq"]

    def one(self, kind, pid=None, **expected):
        """The last event of a kind that has these values, and no path that the program gave."""
        try:
            found = self.rows(kind, pid, of=lambda r: all(r.get(k) == v for k, v in expected.items()))
        except common.TimedOut:
            found = self.rows(kind, pid)  # for what it has instead
        self.seen = max(r["seq"] for r in found)
        row = found[-1]
        self.assertEqual({k: row.get(k) for k in expected}, expected, row)
        if "error" not in row:
            self.assertNotIn("path_unverified", row)
            self.assertNotIn("path_given", row)
            self.assertNotIn("new_path_given", row)
        return row

    def none(self, condition):
        """Nothing of that is told: something that comes after it is."""
        self.mark()
        self.assertEqual([r for r in self.agent.rows("file.*") if r["seq"] > self.seen and condition(r)], [])


class Changes(Case):
    """Each kind of change, on each file system."""

    def each(self, check):
        places = self.places()
        self.seen = self.mark()["seq"]  # that the places were made is behind us
        for name, place in places.items():
            with self.subTest(name):
                check(place)

    def test_open_and_create(self):
        def check(place):
            path = os.path.join(place, "file")
            fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640)
            st = os.fstat(fd)
            row = self.one("open", path=path, ino=st.st_ino, dev=number(st), created=True, mode=st.st_mode, fd=fd)
            self.assertEqual(row["flags"] & 0o777777 & ~os.O_CLOEXEC, os.O_CREAT | os.O_WRONLY | os.O_EXCL)
            os.close(fd)
            fd = os.open(path, os.O_RDWR | os.O_APPEND)
            self.one("open", path=path, ino=st.st_ino, created=None, fd=fd)
            os.close(fd)
        self.each(check)

    def test_refused_open(self):
        place = self.place()
        with self.assertRaises(FileNotFoundError):
            os.open(f"{place}/no/file", os.O_WRONLY)
        self.one("open", error="ENOENT", path_given=f"{place}/no/file", fd=-1, path=None)
        os.chmod(place, 0o755)
        with open(f"{place}/secret", "w"):
            pass
        os.chmod(f"{place}/secret", 0o600)
        process = subprocess.Popen(["cat", f"{place}/secret"], user=12345, group=12345, extra_groups=[], stderr=subprocess.DEVNULL)
        process.wait()
        self.one("open", process.pid, error="EACCES", path_given=f"{place}/secret", uid=12345, euid=12345, gid=12345, egid=12345,
                 cap_eff=0)

    def test_refused_reads(self):
        """Of reads that fail those are told that were not allowed."""
        place = self.place()
        os.chmod(place, 0o755)
        with open(f"{place}/file", "w"):
            pass
        for flags, path, error in ((os.O_NOATIME, "file", "EPERM"), (0, "nothing", None)):
            script = f"import os; os.open('{place}/{path}', {flags})"
            process = subprocess.Popen(["python3", "-c", script], user=12345, group=12345, extra_groups=[], stderr=subprocess.DEVNULL)
            self.assertEqual(process.wait(), 1)
            if error:
                self.one("open", process.pid, error=error, path_given=f"{place}/{path}", flags=flags | os.O_CLOEXEC)
            else:
                self.none(lambda r: r["pid"] == process.pid and r["type"] == "file.open")

    @common.host_only("there is no /etc/shadow")
    def test_secrets_are_watched_by_default(self):
        process = subprocess.Popen(["cat", "/etc/shadow"], stdout=subprocess.DEVNULL)
        process.wait()
        st = os.stat("/etc/shadow")
        self.one("open", process.pid, path="/etc/shadow", ino=st.st_ino, dev=number(st), watched=True, flags=os.O_RDONLY)

    def test_other_opens(self):
        place = self.place()
        pid, fd = call("creat", f"{place}/created", 0o600)
        self.one("open", pid, path=f"{place}/created", ino=os.stat(f"{place}/created").st_ino, created=True, fd=fd, flags=0o1101)
        pid, fd = call("open", f"{place}/created", os.O_WRONLY | os.O_APPEND)
        self.one("open", pid, path=f"{place}/created", created=None, fd=fd, flags=os.O_WRONLY | os.O_APPEND)
        how = open_how(os.O_RDWR)
        pid, fd = call("openat2", AT_FDCWD, f"{place}/created", how, len(how))
        row = self.one("open", pid, path=f"{place}/created", fd=fd)
        self.assertEqual(row["flags"] & os.O_ACCMODE, os.O_RDWR)

    def test_open_by_handle(self):
        place = self.place("/dev/shm")
        with open(f"{place}/file", "w"):
            pass
        # struct file_handle: room for it, type, the handle
        handle, mount = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136), ctypes.c_int()
        self.assertEqual(ctypes.CDLL(None).name_to_handle_at(AT_FDCWD, f"{place}/file".encode(), handle, ctypes.byref(mount), 0), 0)
        folder = os.open(place, os.O_RDONLY)
        pid, fd = call("open_by_handle_at", folder, bytes(handle), os.O_WRONLY, pass_fds=[folder])
        os.close(folder)
        self.assertGreaterEqual(fd, 0)
        row = self.one("open", pid, path=f"{place}/file", ino=os.stat(f"{place}/file").st_ino, fd=fd)
        self.assertEqual(row["flags"] & os.O_ACCMODE, os.O_WRONLY)

    def test_failed_opens(self):
        """Each call has the path that it was given, at its own place among the arguments."""
        path, how = "/none/here", open_how(os.O_RDWR | os.O_CREAT)
        for name, arguments, flags in (("open", (path, os.O_WRONLY), os.O_WRONLY),
                                       ("creat", (path, 0o600), os.O_CREAT | os.O_TRUNC | os.O_WRONLY),
                                       ("openat", (AT_FDCWD, path, os.O_RDWR), os.O_RDWR),
                                       ("openat2", (AT_FDCWD, path, how, len(how)), os.O_RDWR | os.O_CREAT)):
            pid, got = call(name, *arguments)
            self.assertEqual(got, -errno.ENOENT)
            self.one("open", pid, error="ENOENT", path=None, path_given=path, flags=flags, fd=-1, truncated=None)
        pid, _ = call("open_by_handle_at", 999, bytes(136), os.O_WRONLY)
        self.one("open", pid, path=None, path_given=None, flags=os.O_WRONLY, fd=-1)

    def test_given_paths_that_are_long(self):
        """All that a path may be, and the beginning of one that is longer."""
        longest, longer = ("/none" + "/y" * 2500)[:4095], "/none" + "/y" * 2500
        pid, got = call("open", longest, os.O_WRONLY)
        self.assertEqual(got, -errno.ENOENT)
        self.one("open", pid, path_given=longest, truncated=None)
        pid, got = call("open", longer, os.O_WRONLY)
        self.assertEqual(got, -errno.ENAMETOOLONG)
        row = self.one("open", pid, truncated=True)
        self.assertEqual(row["path_given"], longer[:len(row["path_given"])])
        self.assertGreaterEqual(len(row["path_given"]), 4095)
        pid, got = call("renameat2", AT_FDCWD, longest, AT_FDCWD, longer, 0)
        self.assertIn(got, (-errno.ENOENT, -errno.ENAMETOOLONG))
        row = self.one("rename", pid, path_given=longest, truncated=True)
        self.assertEqual(row["new_path_given"], longer[:len(row["new_path_given"])])

    def test_mkdir(self):
        def check(place):
            os.mkdir(f"{place}/folder", 0o750)
            st = os.stat(f"{place}/folder")
            self.one("mkdir", path=f"{place}/folder", ino=st.st_ino, dev=number(st), mode=0o750)
            with self.assertRaises(FileExistsError):
                os.mkdir(f"{place}/folder")
            self.one("mkdir", error="EEXIST", path=None, path_given=f"{place}/folder")
        self.each(check)

    def test_mknod(self):
        def check(place):
            os.mkfifo(f"{place}/fifo", 0o640)
            st = os.stat(f"{place}/fifo")
            self.one("mknod", path=f"{place}/fifo", ino=st.st_ino, dev=number(st), mode=stat.S_IFIFO | 0o640, device=None)
        self.each(check)
        place = self.place()
        os.mknod(f"{place}/device", stat.S_IFCHR | 0o600, os.makedev(1, 7))
        self.one("mknod", path=f"{place}/device", mode=stat.S_IFCHR | 0o600, device=os.stat(f"{place}/device").st_rdev)

    def test_symlink(self):
        def check(place):
            os.symlink("any/where", f"{place}/link")
            st = os.lstat(f"{place}/link")
            row = self.one("symlink", path=f"{place}/link", ino=st.st_ino, dev=number(st))
            self.assertEqual(row.get("target") or row["target_given"], os.readlink(f"{place}/link"))
        self.each(check)
        os.symlink("x" * 50, f"{self.place('/dev/shm')}/link")
        self.one("symlink", target="x" * 50, target_given=None)

    def test_link(self):
        def check(place):
            with open(f"{place}/first", "w"):
                pass
            os.mkdir(f"{place}/below")
            for new in ("second", "below/third"):
                os.link(f"{place}/first", f"{place}/{new}")
                st = os.stat(f"{place}/{new}")
                if place.endswith("/all") and common.KERNEL >= (6, 13):  # by the inode's tracepoints: overlayfs touches no file of its own
                    row = self.rows("link")[-1]
                    self.seen = row["seq"]
                    self.assertEqual((row["path_given"], row["new_path_given"], row["path_unverified"]),
                                     (f"{place}/first", f"{place}/{new}", True))
                else:
                    row = self.one("link", new_path=f"{place}/{new}", ino=st.st_ino, dev=number(st))
                    self.assertTrue(os.path.samefile(row["path"], f"{place}/first"))
        self.each(check)

    def test_rename(self):
        def check(place):
            for name in ("one", "victim", "other"):
                with open(f"{place}/{name}", "w"):
                    pass
            os.mkdir(f"{place}/folder")
            st, victim = os.stat(f"{place}/one"), os.stat(f"{place}/victim")
            os.rename(f"{place}/one", f"{place}/two")
            self.one("rename", path=f"{place}/one", new_path=f"{place}/two", ino=st.st_ino, dev=number(st), replaced_ino=None)
            os.rename(f"{place}/two", f"{place}/victim")
            self.one("rename", path=f"{place}/two", new_path=f"{place}/victim", ino=st.st_ino, replaced_ino=victim.st_ino)
            os.rename(f"{place}/victim", f"{place}/folder/deep")
            self.one("rename", path=f"{place}/victim", new_path=f"{place}/folder/deep", ino=st.st_ino, replaced_ino=None)
            other = os.stat(f"{place}/other").st_ino
            os.rename(f"{place}/folder/deep", f"{place}/other")
            self.one("rename", path=f"{place}/folder/deep", new_path=f"{place}/other", ino=st.st_ino, replaced_ino=other)
            os.rename(f"{place}/folder", f"{place}/renamed")
            self.one("rename", path=f"{place}/folder", new_path=f"{place}/renamed", ino=os.stat(f"{place}/renamed").st_ino)
            with self.assertRaises(OSError):
                os.rename(f"{place}/nothing", f"{place}/x")
            self.one("rename", error="ENOENT", path_given=f"{place}/nothing", new_path_given=f"{place}/x", path=None)
        self.each(check)

    def test_rename_with_flags(self):
        place = self.place("/var/tmp")
        for name in ("a", "b"):
            with open(f"{place}/{name}", "w"):
                pass
        a, b = os.stat(f"{place}/a").st_ino, os.stat(f"{place}/b").st_ino
        pid, got = call("renameat2", AT_FDCWD, f"{place}/a", AT_FDCWD, f"{place}/b", 2)
        self.assertEqual(got, 0)
        row = self.one("rename", pid, flags=2)
        self.assertIn((row["path"], row["new_path"], row["ino"]),
                      ((f"{place}/a", f"{place}/b", a), (f"{place}/b", f"{place}/a", b)))
        pid, got = call("renameat2", AT_FDCWD, f"{place}/a", AT_FDCWD, f"{place}/b", 1)
        self.one("rename", pid, flags=1, error="EEXIST")

    def test_rename_while_open(self):
        place = self.place("/var/tmp")
        with open(f"{place}/before", "w") as file:
            os.rename(f"{place}/before", f"{place}/after")
            self.one("rename", path=f"{place}/before", new_path=f"{place}/after")
            os.fchmod(file.fileno(), 0o600)
            self.one("chmod", path=f"{place}/after", fd=file.fileno())

    def test_unlink(self):
        def check(place):
            with open(f"{place}/file", "w"):
                pass
            os.mkdir(f"{place}/folder")
            file, folder = os.stat(f"{place}/file"), os.stat(f"{place}/folder")
            os.unlink(f"{place}/file")
            self.one("unlink", path=f"{place}/file", ino=file.st_ino, dev=number(file), flags=None)
            os.rmdir(f"{place}/folder")
            self.one("unlink", path=f"{place}/folder", ino=folder.st_ino, dev=number(folder), flags=0x200)
            with self.assertRaises(OSError):
                os.unlink(f"{place}/file")
            self.one("unlink", error="ENOENT", path_given=f"{place}/file")
        self.each(check)

    def test_unlink_of_the_image(self):
        """A file that only the lower layer of an overlay has, as those of a container's image."""
        place = self.places().get("overlay")
        if not place:
            return  # in the guests only: places() fails elsewhere
        subprocess.run(["umount", place], check=True)
        lower = os.path.join(os.path.dirname(place), "lower")
        os.mkdir(f"{lower}/etc")
        for name in ("one", "two"):
            with open(f"{lower}/etc/{name}", "w"):
                pass
        base = os.path.dirname(place)
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir={lower},upperdir={base}/upper,workdir={base}/work", place], check=True)
        os.unlink(f"{place}/etc/one")
        self.one("unlink", path=f"{place}/etc/one")
        os.chmod(f"{place}/etc/two", 0o600)
        self.one("chmod", path=f"{place}/etc/two", mode=0o600)

    def test_chmod(self):
        def check(place):
            path = f"{place}/file"
            with open(path, "w") as file:
                st = os.stat(path)
                os.chmod(path, 0o4711)
                self.one("chmod", path=path, ino=st.st_ino, dev=number(st), mode=0o4711, fd=-1)
                os.fchmod(file.fileno(), 0o600)
                self.one("chmod", path=path, ino=st.st_ino, mode=0o600, fd=file.fileno())
            os.chmod(place, 0o755)
            self.one("chmod", path=place, mode=0o755)
        self.each(check)
        with self.assertRaises(OSError):
            os.chmod("/proc/self/nothing", 0o600)
        self.one("chmod", error="ENOENT", path_given="/proc/self/nothing")

    def test_chown(self):
        def check(place):
            path = f"{place}/file"
            with open(path, "w") as file:
                st = os.stat(path)
                os.chown(path, 12, 34)
                self.one("chown", path=path, ino=st.st_ino, dev=number(st), owner=12, group=34)
                os.fchown(file.fileno(), 0, -1)
                self.one("chown", path=path, ino=st.st_ino, owner=0, group=-1)
            os.symlink(path, f"{place}/link")
            os.chown(f"{place}/link", 0, 7)
            self.one("chown", path=path, group=7)
            os.lchown(f"{place}/link", 5, 6)
            self.one("chown", path=f"{place}/link", owner=5, group=6)
        self.each(check)

    def test_truncate(self):
        def check(place):
            path = f"{place}/file"
            with open(path, "w") as file:
                st = os.stat(path)
                os.truncate(path, 5 << 30)
                self.one("truncate", path=path, ino=st.st_ino, dev=number(st), length=5 << 30, fd=-1)
                os.ftruncate(file.fileno(), 0)
                self.one("truncate", path=path, ino=st.st_ino, length=0, fd=file.fileno())
        self.each(check)

    def test_xattr(self):
        def check(place):
            path = f"{place}/file"
            with open(path, "w") as file:
                st = os.stat(path)
                os.setxattr(path, "security.sonde", b"1")
                self.one("setxattr", path=path, ino=st.st_ino, dev=number(st), name_given="security.sonde", fd=-1)
                os.setxattr(file.fileno(), "trusted.sonde", b"1", os.XATTR_CREATE)
                self.one("setxattr", path=path, ino=st.st_ino, name_given="trusted.sonde", flags=1, fd=file.fileno())
                os.removexattr(path, "security.sonde")
                self.one("removexattr", path=path, ino=st.st_ino, name_given="security.sonde", fd=-1)
                os.removexattr(file.fileno(), "trusted.sonde")
                self.one("removexattr", path=path, name_given="trusted.sonde", fd=file.fileno())
        self.each(check)

    def test_attributes_of_users(self):
        """Not told of a thread that may set no others."""
        place = self.place("/dev/shm" if common.GUEST else "/var/tmp")
        with open(f"{place}/file", "w"):
            pass
        os.chown(f"{place}/file", 12345, 12345)
        os.chmod(place, 0o755)
        script = f"import os; os.setxattr('{place}/file', 'user.x', b'1')"
        process = subprocess.run(["python3", "-c", script], user=12345, group=12345, extra_groups=[], stderr=subprocess.DEVNULL)
        if not common.GUEST:
            self.assertEqual(process.returncode, 0)
        self.none(lambda r: r["type"] == "file.setxattr")
        script = f"import os; os.setxattr('{place}/file', 'trusted.x', b'1')"
        process = subprocess.Popen(["python3", "-c", script], user=12345, group=12345, extra_groups=[], stderr=subprocess.DEVNULL)
        process.wait()
        self.one("setxattr", process.pid, name_given="trusted.x", path_given=f"{place}/file", error="EPERM")

    def test_names_of_attributes_that_are_long(self):
        place = self.place("/dev/shm")
        longest = "trusted." + "n" * 247
        for name, error, cut in ((longest, 0, None), (longest + "n" * 100, errno.ERANGE, True)):
            pid, got = call("setxattr", place, name, "1", 1, 0)
            self.assertEqual(got, -error)
            row = self.one("setxattr", pid, truncated=cut)
            self.assertEqual(row["name_given"], name[:len(row["name_given"])])
            self.assertGreaterEqual(len(row["name_given"]), 255)


class Path(str):
    """An argument that is one."""


class EachCall(Case):
    """Every system call that the module follows, by its number: what it did, and what is told where it fails."""

    def setUp(self):
        super().setUp()
        self.folder, self.called = self.place("/dev/shm"), set()
        for name in ("file", "first", "second", "third", "four"):
            with open(f"{self.folder}/{name}", "w"):
                pass
        for name in ("empty", "void"):
            os.mkdir(f"{self.folder}/{name}")
        self.at, self.fd = os.open(self.folder, os.O_RDONLY), os.open(f"{self.folder}/file", os.O_RDWR)
        self.addCleanup(os.close, self.at)
        self.addCleanup(os.close, self.fd)

    def done(self, name, kind, *arguments, **expected):
        """Paths are relative to the folder: those of calls that are not given its descriptor begin with it."""
        self.called.add(name)
        own = [f"{self.folder}/{a}" if isinstance(a, Path) and self.at not in arguments else a for a in arguments]
        pid, got = call(name, *own, pass_fds=[self.at, self.fd])
        if got == -errno.ENOSYS and common.GUEST:
            return
        self.assertEqual(got, 0, name)
        whole = {k: f"{self.folder}/{v}" if isinstance(v, Path) else v for k, v in expected.items()}
        if kind != "unlink":
            whole["ino"] = os.lstat(whole.get("new_path") or whole["path"]).st_ino
        self.one(kind, pid, error=None, truncated=None, **whole)

    def failed(self, name, kind, *arguments, **expected):
        paths = [f"/none/{i}" for i, a in enumerate(arguments) if isinstance(a, Path)]
        if not paths:
            return
        rest = iter(paths)
        pid, got = call(name, *[next(rest) if isinstance(a, Path) else a for a in arguments], pass_fds=[self.at, self.fd])
        if got == -errno.ENOSYS and common.GUEST:
            return
        self.assertEqual(got, -errno.ENOENT, name)
        given = dict(zip(("path_given", "new_path_given"), paths)) | ({"target_given": "to"} if kind == "symlink" else {})
        kept = {k: v for k, v in expected.items() if k not in ("path", "new_path", "target")}
        self.one(kind, pid, error="ENOENT", path=None, ino=None, path_unverified=None, **given, **kept)

    def each(self, *row, **expected):
        with self.subTest(row[0]):
            self.failed(*row, **expected)
            self.done(*row, **expected)

    def test_all(self):
        each, at, fd, file, path = self.each, self.at, self.fd, Path("file"), Path("file")
        each("mkdir", "mkdir", Path("d1"), 0o701, path=Path("d1"), mode=0o701)
        each("mkdirat", "mkdir", at, Path("d2"), 0o702, path=Path("d2"), mode=0o702)
        device = {"mode": stat.S_IFCHR | 0o600, "device": os.makedev(1, 7)}
        each("mknod", "mknod", Path("n1"), device["mode"], device["device"], path=Path("n1"), **device)
        each("mknodat", "mknod", at, Path("n2"), device["mode"], device["device"], path=Path("n2"), **device)
        each("symlink", "symlink", "to", Path("s1"), path=Path("s1"), target="to")
        each("symlinkat", "symlink", "to", at, Path("s2"), path=Path("s2"), target="to")
        each("link", "link", file, Path("l1"), path=path, new_path=Path("l1"), flags=None)
        each("linkat", "link", at, file, at, Path("l2"), AT_SYMLINK_FOLLOW, new_path=Path("l2"), flags=AT_SYMLINK_FOLLOW)
        for name in ("l1", "l2"):
            os.unlink(f"{self.folder}/{name}")
        each("rename", "rename", Path("first"), Path("r1"), path=Path("first"), new_path=Path("r1"), flags=None)
        each("renameat", "rename", at, Path("second"), at, Path("r2"), path=Path("second"), new_path=Path("r2"), flags=None)
        each("renameat2", "rename", at, Path("third"), at, Path("r3"), 1, path=Path("third"), new_path=Path("r3"), flags=1)
        each("unlink", "unlink", Path("r1"), path=Path("r1"), flags=None)
        each("rmdir", "unlink", Path("empty"), path=Path("empty"), flags=0x200)
        each("unlinkat", "unlink", at, Path("void"), 0x200, path=Path("void"), flags=0x200)
        each("chmod", "chmod", file, 0o601, path=path, mode=0o601, fd=-1)
        each("fchmodat", "chmod", at, file, 0o602, path=path, mode=0o602, fd=-1)
        each("fchmodat2", "chmod", at, file, 0o603, 0, path=path, mode=0o603, fd=-1)
        each("fchmod", "chmod", fd, 0o604, path=path, mode=0o604, fd=fd)
        each("chown", "chown", file, 1001, 1002, path=path, owner=1001, group=1002)
        each("lchown", "chown", Path("s1"), 1003, 1004, path=Path("s1"), owner=1003, group=1004)
        each("fchownat", "chown", at, file, 1005, 1006, 0, path=path, owner=1005, group=1006)
        each("fchown", "chown", fd, 1007, 1008, path=path, owner=1007, group=1008)
        each("truncate", "truncate", file, 1009, path=path, length=1009, fd=-1)
        each("ftruncate", "truncate", fd, 1010, path=path, length=1010, fd=fd)
        value = bytes(16)  # struct xattr_args: none, of no length
        each("setxattr", "setxattr", file, "trusted.a", "1", 1, 1, path=path, name_given="trusted.a", flags=1, fd=-1)
        each("lsetxattr", "setxattr", file, "trusted.b", "1", 1, 1, path=path, name_given="trusted.b", flags=1, fd=-1)
        each("setxattrat", "setxattr", at, file, 0, "trusted.c", value, 16, path=path, name_given="trusted.c", flags=None, fd=-1)
        each("fsetxattr", "setxattr", fd, "trusted.d", "1", 1, 1, path=path, name_given="trusted.d", flags=1, fd=fd)
        each("removexattr", "removexattr", file, "trusted.a", path=path, name_given="trusted.a", fd=-1)
        each("lremovexattr", "removexattr", file, "trusted.b", path=path, name_given="trusted.b", fd=-1)
        each("removexattrat", "removexattr", at, file, 0, "trusted.c", path=path, name_given="trusted.c", fd=-1)
        each("fremovexattr", "removexattr", fd, "trusted.d", path=path, name_given="trusted.d", fd=fd)
        self.assertEqual(self.called, set(changes()))


class Names(Case):
    """Whatever way leads to a file, the event has the file's own path."""

    def file(self, path):
        with open(path, "w"):
            pass
        return os.stat(path)

    def test_ways(self):
        place = self.place("/var/tmp")
        os.makedirs(f"{place}/real/below")
        os.symlink("real", f"{place}/link")
        folder = os.open(f"{place}/real", os.O_RDONLY)
        self.addCleanup(os.close, folder)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(f"{place}/real/below")
        for way, at in (("file", {}), ("../below/./file", {}), (f"{place}/link/below/file", {}),
                        (f"/proc/self/root{place}/link/below/file", {}), (f"/proc/self/fd/{folder}/below/file", {}),
                        ("/proc/self/cwd/file", {}), ("below/file", {"dir_fd": folder})):
            with self.subTest(way):
                path = f"{place}/real/below/file"
                st = self.file(path)
                os.rename(way, way + "2", src_dir_fd=at.get("dir_fd"), dst_dir_fd=at.get("dir_fd"))
                self.one("rename", path=path, new_path=path + "2", ino=st.st_ino)
                os.chmod(way + "2", 0o600, **at)
                self.one("chmod", path=path + "2", ino=st.st_ino)
                os.close(os.open(way + "2", os.O_WRONLY, **at))
                self.one("open", path=path + "2", ino=st.st_ino)
                os.unlink(way + "2", **at)
                self.one("unlink", path=path + "2", ino=st.st_ino)
                os.mkdir(way, **at)
                self.one("mkdir", path=path)
                os.rmdir(way, **at)
                self.one("unlink", path=path)

    def test_mounts(self):
        """A bind mount, where the folder's descriptor or the working directory says which; another file system's mount point."""
        place = self.place("/var/tmp")
        for name in ("real", "bound", "tmp"):
            os.mkdir(f"{place}/{name}")
        subprocess.run(["mount", "--bind", f"{place}/real", f"{place}/bound"], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", f"{place}/bound"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{place}/tmp"], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", f"{place}/tmp"], check=True)
        folder = os.open(f"{place}/bound", os.O_RDONLY)
        self.file(f"{place}/real/file")
        os.unlink("file", dir_fd=folder)
        self.one("unlink", path=f"{place}/bound/file")
        os.mkdir("made", dir_fd=folder)
        self.one("mkdir", path=f"{place}/bound/made")
        os.close(folder)
        process = subprocess.Popen(["rmdir", "made"], cwd=f"{place}/bound")
        process.wait()
        self.one("unlink", process.pid, path=f"{place}/bound/made")
        os.mkdir(f"{place}/bound/some")
        row = self.one("mkdir")
        self.assertIn(row["path"], (f"{place}/bound/some", f"{place}/real/some"))
        self.assertTrue(os.path.samefile(row["path"], f"{place}/bound/some"))
        st = self.file(f"{place}/tmp/file")
        os.rename(f"{place}/tmp/file", f"{place}/tmp/moved")
        self.one("rename", path=f"{place}/tmp/file", new_path=f"{place}/tmp/moved", ino=st.st_ino, dev=number(st))

    def test_namespaces(self):
        place = self.place("/var/tmp")
        os.mkdir(f"{place}/mine")
        script = f"mount -t tmpfs tmpfs {place}/mine && exec mkdir {place}/mine/folder"
        process = subprocess.Popen(["unshare", "-m", "sh", "-c", script])
        self.assertEqual(process.wait(), 0)
        self.one("mkdir", process.pid, path=f"{place}/mine/folder")

    def test_chroot(self):
        """The path is that of the mount namespace, whatever the program takes for its root."""
        place = self.place("/var/tmp")
        os.mkdir(f"{place}/inside")

        def enter():
            os.chroot(place)
            os.chdir("/")
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                enter()
                os.mkdir("/inside/made")
                os.rename("/inside/made", "/moved")
                os._exit(0)
            os._exit(1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.one("mkdir", pid, path=f"{place}/inside/made")
        self.one("rename", pid, path=f"{place}/inside/made", new_path=f"{place}/moved")

    def test_long(self):
        """Names of 255 bytes, paths up to 4096, beyond what a call takes."""
        place = self.place("/var/tmp")
        name = "n" * 255
        os.mkdir(f"{place}/{name}")
        self.one("mkdir", path=f"{place}/{name}")
        folder = os.open(place, os.O_RDONLY)
        path = place
        while len(path) + 256 < 4096:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder)
            below = os.open(name, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder, path = below, f"{path}/{name}"
        last = "l" * (4095 - len(path) - 1)
        os.mkdir(last, dir_fd=folder)
        self.one("mkdir", path=f"{path}/{last}")
        os.rename(last, "x" + last[1:], src_dir_fd=folder, dst_dir_fd=folder)
        self.one("rename", path=f"{path}/{last}", new_path=f"{path}/x{last[1:]}")
        os.rmdir("x" + last[1:], dir_fd=folder)
        self.one("unlink", path=f"{path}/x{last[1:]}")
        for depth in range(3):
            os.mkdir(f"{depth}", dir_fd=folder)
            below = os.open(f"{depth}", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder, path = below, f"{path}/{depth}"
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        self.one("open", path=f"{path}/file")
        os.close(folder)

    def test_deeper_than_is_followed(self):
        """The end of the path is kept, and it says so."""
        place = self.place("/dev/shm")
        folder = os.open(place, os.O_RDONLY)
        for depth in range(140):
            os.mkdir(f"d{depth}", dir_fd=folder)
            below = os.open(f"d{depth}", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = below
        os.close(folder)
        rows = sorted(self.rows("mkdir", count=140, of=lambda r: os.path.basename(r.get("path", "")).startswith("d")), key=lambda r: r["ts"])
        whole = place
        for depth, row in enumerate(rows):
            whole += f"/d{depth}"
            if row.get("truncated"):
                self.assertTrue(row["path"].startswith("/.../"), row["path"])
                self.assertTrue(whole.endswith(row["path"].removeprefix("/...")))
                self.assertGreater(row["path"].count("/"), 100)
            else:
                self.assertEqual(row["path"], whole)
        self.assertEqual([bool(r.get("truncated")) for r in (rows[110], rows[139])], [False, True])

    def test_hard_links(self):
        """Of several names in one folder, the one that the call was about."""
        place = self.place("/dev/shm")
        st = self.file(f"{place}/n0")
        for i in range(1, 4):
            os.link(f"{place}/n0", f"{place}/n{i}")
            self.one("link", new_path=f"{place}/n{i}", ino=st.st_ino)
        held = [open(f"{place}/n{i}") for i in range(4)]
        for i in (2, 0, 3):
            os.unlink(f"{place}/n{i}")
            self.one("unlink", path=f"{place}/n{i}", ino=st.st_ino)
        os.rename(f"{place}/n1", f"{place}/m1")
        self.one("rename", path=f"{place}/n1", new_path=f"{place}/m1")
        for file in held:
            file.close()


class Watched(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = os.path.realpath(tempfile.mkdtemp(prefix="sonde-watch-", dir="/var/tmp"))
        os.makedirs(f"{cls.folder}/all/deep/er")
        for name in ("one", "other", "all/file", "all/deep/er/file"):
            with open(f"{cls.folder}/{name}", "w"):
                pass
        cls.settings = [f"modules.file.watch={cls.folder}/one,{cls.folder}/all/,{cls.folder}/later"]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder)

    def read(self, path):
        with open(path):
            return os.stat(path)

    def test_told(self):
        os.symlink(f"{self.folder}/one", f"{self.folder}/link")
        os.link(f"{self.folder}/one", f"{self.folder}/hard")
        for way, path in (("one", "one"), ("link", "one"), ("hard", "hard"), ("all/file", "all/file"),
                          ("all/deep/er/file", "all/deep/er/file"), ("all/deep", "all/deep")):
            st = os.stat(f"{self.folder}/{way}")
            os.close(os.open(f"{self.folder}/{way}", os.O_RDONLY))
            self.one("open", path=f"{self.folder}/{path}", ino=st.st_ino, watched=True)

    @common.same_on_every_kernel
    def test_a_name_of_another_mount_namespace(self):
        """It is there, but no mount of the agent's own shows it: that is said."""
        place = f"{self.folder}/elsewhere"
        os.mkdir(place)
        script = f"mount -t tmpfs tmpfs {place} && touch {place}/file && echo ready && exec cat"
        with subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            path = f"/proc/{process.pid}/root{place}/file"
            with common.Agent("file", [f"modules.file.watch={path},{self.folder}/one"]) as agent:
                common.wait_until(lambda: f"modules.file.watch: {path} is there, but" in agent.output(), what="the notice")
                self.read(f"{self.folder}/one")
                agent.wait_row("file.open", lambda r: r.get("watched") and r["path"] == f"{self.folder}/one")
                self.assertEqual(agent.output().count("is there, but"), 1)

    def test_what_a_folder_reaches(self):
        """63 folders down, itself one of them, and not into what is mounted below it."""
        deep = f"{self.folder}/all" + "/d" * 63
        os.makedirs(deep)
        os.mkdir(f"{self.folder}/all/mounted")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{self.folder}/all/mounted"], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", f"{self.folder}/all/mounted"], check=True)
        for below in (deep, f"{self.folder}/all/mounted"):
            with open(f"{below}/other", "w"):
                pass
            self.one("open", path=f"{below}/other")
            self.read(f"{below}/other")
        self.none(lambda r: r["pid"] == os.getpid() and r["type"] == "file.open")
        with open(f"{deep[:-2]}/file", "w"):
            pass
        self.one("open", path=f"{deep[:-2]}/file")
        self.read(f"{deep[:-2]}/file")
        self.one("open", path=f"{deep[:-2]}/file", watched=True)

    def test_others_are_not(self):
        for path in (f"{self.folder}/other", "/etc/passwd", "/proc/self/status"):
            with open(path) as file:
                file.read(1)
        os.listdir(self.folder)
        for name in ("null", "zero", "full", "random", "urandom"):
            os.close(os.open(f"/dev/{name}", os.O_WRONLY))
        master, slave = pty.openpty()
        for fd in (master, slave):
            os.close(fd)
        for fd in os.pipe():
            os.close(fd)
        os.close(os.open(f"{self.folder}/one", os.O_PATH))
        with contextlib.suppress(OSError), open(f"{self.folder}/nothing"):
            pass
        self.none(lambda r: r["pid"] == os.getpid() and r["type"] == "file.open")

    @common.same_on_every_kernel
    def test_file_that_comes_later(self):
        """And one that takes the place of another."""
        for _ in range(2):
            with open(f"{self.folder}/new", "w"):
                pass
            os.rename(f"{self.folder}/new", f"{self.folder}/later")
            self.one("rename")
            ino = os.stat(f"{self.folder}/later").st_ino

            def told():
                self.read(f"{self.folder}/later")
                return [r for r in self.agent.rows("file.open") if r.get("watched") and r["ino"] == ino]
            common.wait_until(told, what="reads of the new file")


    def test_stacked(self):
        """On an overlay of two file systems, where stat(2) has other numbers than the kernel."""
        lower, rest = self.place("/var/tmp"), self.place("/dev/shm")
        for name in ("upper", "work", "all"):
            os.mkdir(f"{rest}/{name}")
        with open(f"{lower}/file", "w"):
            pass
        done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={rest}/upper,workdir={rest}/work",
                               f"{rest}/all"], capture_output=True)
        if done.returncode and common.GUEST:
            return
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(subprocess.run, ["umount", "-l", f"{rest}/all"], check=True)
        with common.Agent("file", [f"modules.file.watch={rest}/all/file"]) as agent:
            self.read(f"{rest}/all/file")
            agent.wait_row("file.open", lambda r: r.get("watched") and r["path"] == f"{rest}/all/file")


class Contained(Case):
    """In a mount namespace with a root of its own the watched paths are those that it has there."""
    READ = ("/etc/shadow", "/data/one", "/data/ruled", "/etc/ssh/key", "/etc/ssh/more/key", "/etc/nested/token", "/etc/nested/sub/token", "/etc/nested")
    OTHERS = ("/etc/shadow2", "/etc/passwd", "/shadow", "/srv/etc/shadow", "/data/onem", "/data/on", "/etc/s/ssh/key", "/data",
              "/a.name.longer.than.thirty-two.bytes/file")

    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="sonde-rules-", delete=False) as rules:
            rules.write("- {rule: Ruled, desc: a file that the host has not, condition: evt.type = openat and fd.name = /data/ruled, "
                        "output: read %fd.name, priority: WARNING}\n")
        cls.addClassCleanup(os.unlink, rules.name)
        cls.settings = ("modules.file.watch=secrets,/data/one,/etc/nested/,/a.name.longer.than.thirty-two.bytes/file",
                        f"rules.files=[{rules.name}]")
        super().setUpClass()

    def enter(self, root):
        """As a container's runtime does; where the root is the initial ramdisk, the other way."""
        libc = ctypes.CDLL(None, use_errno=True)

        def call(name, *arguments):
            if getattr(libc, name)(*arguments):
                raise OSError(ctypes.get_errno(), name)
        call("unshare", 0x20000)
        call("mount", None, b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
        call("mount", b"tmpfs", root.encode(), b"tmpfs", 0, None)
        os.makedirs(f"{root}/etc/nested")
        call("mount", b"tmpfs", f"{root}/etc/nested".encode(), b"tmpfs", 0, None)
        for path in self.READ + self.OTHERS:
            if path not in ("/etc/nested", "/data"):
                os.makedirs(os.path.dirname(root + path), exist_ok=True)
                with open(root + path, "w"):
                    pass
        os.mkdir(f"{root}/old")
        os.chdir(root)
        if libc.syscall(155, b".", b"old") == 0:  # pivot_root
            os.chdir("/")
            call("umount2", b"/old", 2)
        else:
            call("mount", b".", b"/", None, 0x2000, None)  # MS_MOVE
            os.chroot(".")

    def test_reads(self):
        root = self.place("/var/tmp")
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                self.enter(root)
                for path in self.OTHERS + self.READ:
                    os.close(os.open(path, os.O_RDONLY))
                os.close(os.open("/etc/last", os.O_WRONLY | os.O_CREAT))
                os._exit(0)
            os._exit(1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.agent.wait_row("file.open", lambda r: r["pid"] == pid and r["path"] == "/etc/last")
        told = [r["path"] for r in self.agent.rows("file.open") if r["pid"] == pid and r.get("watched")]
        self.assertEqual(told, list(self.READ))
        alert = self.agent.wait_row("alert", lambda r: r["pid"] == pid)
        self.assertEqual((alert["rule"], alert["output"]), ("Ruled", "read /data/ruled"))


class Races(Case):
    """A thread rewrites the path during the call: the event has the file that it was, by what the folders say afterwards."""
    settings = ("rings.bulk=128MiB", "journal.size=512MiB")
    COUNT = common.races(300)

    def place(self, base="/dev/shm"):
        place = super().place(base)
        for name in ("a", "b"):
            os.mkdir(f"{place}/{name}")
            with open(f"{place}/{name}/f", "w"):
                pass
            os.chmod(f"{place}/{name}/f", 0o700)
        return place

    def run_load(self, place, *words):
        process = subprocess.Popen([LOAD, *words], cwd=place, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        out, _ = process.communicate(timeout=common.bound(300))
        self.assertEqual(process.returncode, 0)
        return process.pid, out.strip()

    def check(self, kind, pid, truth, told, of=lambda row: True, names="ab"):
        """The events in their order are the truth, letter by letter; none without the kernel's path."""
        self.assertEqual(len(truth), self.COUNT)
        both = collections.Counter(truth)
        rows = self.rows(kind, pid, self.COUNT, of)
        self.assertEqual(len(rows), self.COUNT)
        rows.sort(key=lambda r: r["ts"])
        unverified = sum(bool(r.get("path_unverified")) for r in rows)
        wrong = [(i, t, r) for i, (t, r) in enumerate(zip(truth, rows)) if r.get("path") and r["path"] != told(t)]
        self.assertEqual(wrong[:3], [])
        self.assertLessEqual(unverified, self.COUNT // 1000)
        if not (common.GUEST or common.SANITIZED):  # there the thread that rewrites it may get no CPU
            self.assertGreater(min(both[which] for which in names), self.COUNT // 100, "the path did not change")

    def race(self, what, kind, told, of=lambda place, row: True):
        place = self.place()
        pid, truth = self.run_load(place, "race", what, str(self.COUNT))
        self.check(kind, pid, truth, lambda t: told(place, t), lambda r: of(place, r))

    def test_unlink(self):
        self.race("unlink", "unlink", lambda p, t: f"{p}/{t}/f")

    def test_rename(self):
        self.race("rename", "rename", lambda p, t: f"{p}/{t}/f", lambda p, r: r.get("new_path") == f"{p}/t")

    def test_chmod(self):
        self.race("chmod", "chmod", lambda p, t: f"{p}/{t}/f", lambda p, r: r["mode"] == 0o600)

    def test_truncate(self):
        self.race("truncate", "truncate", lambda p, t: f"{p}/{t}/f", lambda p, r: r["length"] == 7)

    def test_open(self):
        self.race("open", "open", lambda p, t: f"{p}/{t}/f")

    def test_link(self):
        self.race("link", "link", lambda p, t: f"{p}/{t}/f")

    def test_mkdir(self):
        self.race("mkdir", "mkdir", lambda p, t: f"{p}/{t}/d")

    def test_symlink(self):
        self.race("symlink", "symlink", lambda p, t: f"{p}/{t}/d")

    def test_swapped_symlink(self):
        place = self.place()
        pid, truth = self.run_load(place, "swap", str(self.COUNT))
        self.check("unlink", pid, truth, lambda t: f"{place}/{t}/f", lambda r: "l2" not in r.get("path", "") + r.get("path_given", ""))

    def test_two_names_in_a_folder(self):
        place = self.place()
        pid, truth = self.run_load(place, "pair", str(self.COUNT))
        self.check("unlink", pid, truth, lambda t: f"{place}/n{t}", names="01")


class Whole(common.TestCase):
    @common.same_on_every_kernel
    def test_flood(self):
        """Nothing is lost in silence: the ledger has each event, in a ring that is too small for them too."""
        count = common.scaled(50000, 1000)
        for ring in ("32MiB", "64KiB"):
            with self.subTest(ring), tempfile.TemporaryDirectory(dir="/dev/shm") as place, \
                    common.Agent("file", [f"rings.bulk={ring}"]) as agent:
                loads = [subprocess.Popen([LOAD, "flood", str(count)], cwd=tempfile.mkdtemp(dir=place)) for _ in range(2)]
                for one in loads:
                    self.assertEqual(one.wait(common.bound(300)), 0)
                agent.stop()
                rows = agent.rows()
                self.assertGapless(rows)
                self.assertLedgerExact(rows)
                types = common.ledger(rows)
                pids = {one.pid for one in loads}
                for kind in ("open", "rename", "unlink"):
                    mine = sum(r["pid"] in pids for r in rows if r["type"] == f"file.{kind}")
                    lost = sum(types[f"file.{kind}"]["dropped"].values())
                    self.assertLessEqual(mine, 2 * count)
                    self.assertGreaterEqual(mine + lost, 2 * count)

    @common.same_on_every_kernel
    def test_priority(self):
        """What goes by the priority ring is there while the bulk ring is full."""
        with tempfile.TemporaryDirectory(dir="/dev/shm") as place, common.Agent("file", ["rings.bulk=64KiB"]) as agent:
            agent.signal(signal.SIGSTOP)
            common.spawn([LOAD, "flood", "2000"], cwd=place)
            for i in range(20):
                os.mkfifo(f"{place}/{i}")
                os.setxattr(place, f"trusted.{i}", b"1")
                os.removexattr(place, f"trusted.{i}")
            agent.signal(signal.SIGCONT)
            agent.stop()
            rows = agent.rows()
            self.assertLedgerExact(rows)
            types = common.ledger(rows)
            self.assertGreater(types["file.rename"]["dropped"]["ring_full"], 0)
            for kind in ("mknod", "setxattr", "removexattr"):
                self.assertEqual(types[f"file.{kind}"]["dropped"], {})
                self.assertEqual(sum(r["type"] == f"file.{kind}" and r["pid"] == os.getpid() for r in rows), 20)

    def test_schema_and_probes(self):
        names = {name.partition(".")[2] for name in common.schema_types() if name.startswith("file.")}
        self.assertEqual(names, TYPES)

    def test_off_by_default(self):
        out = common.sonde("check", "--offline", status=None)
        self.assertNotIn("modules.file", out.stderr)
        with common.Agent("exec") as agent:
            os.close(os.open("/dev/shm", os.O_RDONLY))
            common.spawn(["true"])
            agent.wait_row("process.exec")
            self.assertEqual(agent.rows("file.*"), [])

    @common.same_on_every_kernel
    def test_size(self):
        """The mean record: at most 400 bytes of msgpack."""
        with tempfile.TemporaryDirectory(dir="/var/tmp") as place, common.Agent("file") as agent:
            common.spawn([LOAD, "flood", "200"], cwd=place)
            agent.wait_rows("file.unlink", count=200)
            packed = common.sonde("cat", agent.journal, "--type", "file.*", "--format", "msgpack", text=False).stdout
            self.assertLessEqual(len(packed) / len(agent.rows("file.*")), 400)


if __name__ == "__main__":
    common.unittest.main()
