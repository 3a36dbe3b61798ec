# SPDX-License-Identifier: Apache-2.0
"""Mounts, roots and namespaces, held against /proc/PID/mountinfo, /proc/PID/ns and what the load finds itself."""
import os
import re
import shutil
import subprocess
import tempfile
import time

import common

LOAD = common.load("rights")
NEW = {"mnt": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "net": 0x40000000, "cgroup": 0x2000000, "pid": 0x20000000}
READY = "echo ready; while read line; do :; done"  # which ends with its input


def numbers(text):
    return {key: int(value) for key, value in re.findall(r"(\w+)=(-?\d+)", text)}


def namespaces(pid, children=False):
    """Numbers of a process's namespaces; of pid and time, those of its children where asked for."""
    found = {}
    for name in ("mnt", "user", "net", "uts", "ipc", "cgroup", "pid", "time"):
        link = f"/proc/{pid}/ns/{name}" + ("_for_children" if children and name in ("pid", "time") else "")
        if os.path.exists(link):  # that of children has no name until there is one
            found[f"{name}_ns"] = os.stat(link).st_ino
    return found


def mountinfo(pid):
    """Mounts of a process by their number: place, file system, source, device."""
    found = {}
    with open(f"/proc/{pid}/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            fields, (kind, source) = left.split(), right.split()[:2]
            major, minor = map(int, fields[2].split(":"))
            found[int(fields[0])] = {"path": fields[4], "fs_type": kind[:15], "source": source,
                                     "dev": os.makedev(major, minor), "mount_id": int(fields[0])}
    return found


class Isolation(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.agent = common.Agent("exec,isolation")

    @classmethod
    def tearDownClass(cls):
        cls.agent.__exit__(None, None, None)

    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="sonde-isolation-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        for name in ("a", "b", "c"):
            os.mkdir(os.path.join(self.folder, name))

    def ready(self, argv, script="true", **options):
        """Runs a script by `argv` and a shell up to its `ready`; the process, which ends with the test, and well: each step of the script does."""
        self.began = time.time_ns()
        process = subprocess.Popen([*argv, "sh", "-ec", f"{script}; {READY}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)

        def end():
            with process.stdout:
                process.stdin.close()
                self.assertEqual(process.wait(common.bound(60)), 0, f"the script failed: {script}")
        self.addCleanup(end)
        while (line := process.stdout.readline()) != "ready\n":
            self.assertTrue(line, f"the script failed: {script}")
        return process

    def shell(self, script):
        """In a mount namespace of its own."""
        return self.ready(["unshare", "-m"], f"cd {self.folder}; {script}")

    def ended(self, argv, status=0, **options):
        """Runs a program to its end, which must be `status`; its process, and the numbers that it says."""
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options)
        out = process.communicate(timeout=common.bound(60))[0]
        self.assertEqual(process.returncode, status, argv)
        return process, numbers(out)

    def rows(self, process, types="mount.*", count=1):
        """Rows of the mount namespace of a process, in their order; numbers of namespaces are used again."""
        number = os.stat(f"/proc/{process.pid}/ns/mnt").st_ino
        rows = self.agent.wait_rows(types, lambda r: r.get("mnt_ns") == number and (r.get("source_given"), r.get("path_given")) != ("none", "/") and
                                    r["ts"] >= self.began, count)
        return sorted(rows, key=lambda r: r["ts"])

    def holds(self, row, expected):
        self.assertEqual({key: row.get(key) for key in expected}, expected)

    def holds_mount(self, row, expected):
        """Of mount(8); that of busybox is silent (MS_SILENT), and gives sources as it was given them."""
        flags = row.get("flags", 0) & ~(32768 if common.GUEST else 0)
        self.holds({**row, "flags": flags or None}, expected)

    def test_attach(self):
        process = self.shell("mount -t tmpfs one a; mkdir a/x; mount --bind a/x b; mount -t proc proc c")
        rows = self.rows(process, "mount.attach", 3)
        info = mountinfo(process.pid)
        for row, place in zip(rows, ("a", "b", "c")):
            self.holds(row, info[row["mount_id"]])
            self.holds_mount(row, {"path": f"{self.folder}/{place}", "call": "mount", "uid": 0, "euid": 0, "flags": 4096 if place == "b" else None})
            self.assertEqual(row["ino"], os.stat(f"/proc/{process.pid}/root{row['path']}").st_ino)
        self.assertEqual([r["source_given"] for r in rows], ["one", "a/x" if common.GUEST else f"{self.folder}/a/x", "proc"])
        self.assertEqual(len(rows), 3)

    def test_many_of_one_call(self):
        """A bind mount of a whole tree makes several, each of which is told."""
        process = self.shell("mount -t tmpfs one a; mkdir a/x a/y; mount -t tmpfs two a/x; mount -t tmpfs three a/y; mount --rbind a b")
        rows = self.rows(process, "mount.attach", 6)
        info = mountinfo(process.pid)
        for row in rows:
            self.holds(row, info[row["mount_id"]])
        self.assertEqual({r["path"] for r in rows[3:]}, {f"{self.folder}/b", f"{self.folder}/b/x", f"{self.folder}/b/y"})
        self.assertEqual(len(rows), 6)

    def test_places_that_are_not_what_they_are_called(self):
        process = self.shell("ln -s a link; mount -t tmpfs one link/../link; mkdir -p $(printf 'a/%0200d/%0200d/%0200d' 1 2 3); "
                             "mount -t tmpfs long $(printf 'a/%0200d/%0200d/%0200d' 1 2 3)")
        first, second = self.rows(process, "mount.attach", 2)
        self.assertEqual(first["path"], f"{self.folder}/a")
        self.holds(second, mountinfo(process.pid)[second["mount_id"]])
        self.assertNotIn("truncated", second)

    def test_refused(self):
        process = self.shell(f"{LOAD} mount tmpfs nowhere >/dev/null; {LOAD} mount nosuchfs a >/dev/null; {LOAD} umount a >/dev/null")
        rows = self.rows(process, "mount.attach", 2)
        self.assertEqual([(r["error"], r["path_given"][-1:]) for r in rows], [("ENOENT", "e"), ("ENODEV", "a")])
        for row in rows:
            self.assertEqual({"path", "mount_id", "fs_type", "ino"} & set(row), set())
        row = self.rows(process, "mount.detach")[0]
        self.holds(row, {"error": "EINVAL", "call": "umount"})

    def test_what_cannot_be_read(self):
        """A name that could not be taken is not silently none."""
        process, _ = self.ended([LOAD, "unreadable"])
        for kind in ("mount.detach", "process.chroot"):
            row = self.agent.wait_row(kind, lambda r: r["pid"] == process.pid)
            self.holds(row, {"error": "EFAULT", "path": None, "path_given": None, "truncated": True})

    def test_detach_move_and_setattr(self):
        process = self.shell("mount -t tmpfs one a; mount --make-private a; mount -o remount,ro a; mount --move a b; umount b")
        rows = self.rows(process, "mount.*", 5)
        kinds = [(r["type"], r.get("path_given", "")[-1:], r.get("error")) for r in rows]
        self.assertEqual(kinds, [("mount.attach", "a", None), ("mount.setattr", "a", None), ("mount.setattr", "a", None),
                                     ("mount.move", "b", None), ("mount.detach", "b", None)])
        self.assertEqual(rows[1]["flags"] & ~32768, 1 << 18)  # but MS_SILENT, which busybox sets
        self.assertEqual(rows[2]["flags"] & 33, 33)

    def test_new_interface(self):
        process, out = self.ended(["unshare", "-m", LOAD, "newmount", f"{self.folder}/a"])
        self.assertEqual((out["create"], out["move"], out["setattr"]), (0, 0, 0))
        self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        rows = [r for r in self.agent.rows("mount.*") if r["pid"] == process.pid and r["call"] != "mount"]
        self.assertEqual([r["type"] for r in rows], ["mount.create", "mount.attach", "mount.setattr", "mount.create"])
        common_keys = {"fs_type": "tmpfs", "source": "wanted", "mount_id": out["mount_id"], "ino": 1}
        self.holds(rows[0], {**common_keys, "ret": out["fsmount"], "call": "fsmount", "path": "/"})
        self.holds(rows[1], {**common_keys, "path": f"{self.folder}/a", "call": "move_mount", "path_given": f"{self.folder}/a"})
        self.holds(rows[2], {**common_keys, "path": f"{self.folder}/a", "call": "mount_setattr"})
        self.holds(rows[3], {"mount_id": out["tree_id"], "ret": out["open_tree"], "call": "open_tree",
                             "source_given": f"{self.folder}/a", "fs_type": "tmpfs"})

    @common.host_only("the root of a guest is the one that cannot be replaced")
    def test_pivot_root(self):
        process = self.shell("mount --bind a a; mkdir a/old; cd a; pivot_root . old")
        row = self.rows(process, "mount.pivot_root")[0]
        self.holds(row, {"call": "pivot_root", "error": None, "path": "/", "source_given": ".", "path_given": "old"})
        self.assertEqual(row["ino"], os.stat(f"{self.folder}/a").st_ino)

    def test_chroot(self):
        for place, inside in ((f"{self.folder}/a", "/a"), (f"{self.folder}/b/../a", "/a")):
            process, _ = self.ended(["chroot", place, "/no"], 127)
            row = self.agent.wait_row("process.chroot", lambda r: r["pid"] == process.pid)
            file = os.stat(self.folder + inside)
            self.holds(row, {"path": self.folder + inside, "ino": file.st_ino, "dev": file.st_dev, "error": None})
            self.assertNotIn("path_given", row)

    def test_chroot_refused(self):
        process, _ = self.ended(["chroot", f"{self.folder}/no", "/no"], 1 if common.GUEST else 125)
        row = self.agent.wait_row("process.chroot", lambda r: r["pid"] == process.pid)
        self.holds(row, {"error": "ENOENT", "path_given": f"{self.folder}/no", "path": None})

    def race(self, what, tries, types):
        process = subprocess.Popen(["unshare", "-m", LOAD, what, str(tries)], cwd=self.folder, stdout=subprocess.PIPE, text=True)
        pid, *found = process.communicate(timeout=common.bound(300))[0].splitlines()
        self.assertEqual((len(found), process.returncode), (tries, 0))
        self.assertGreater(len(set(found)), 1, "there was no race")
        rows = self.agent.wait_rows(types, lambda r: r["pid"] == process.pid, tries, 60)
        return found, sorted(rows, key=lambda r: r["ts"])

    def test_race_of_chroot(self):
        """Another thread changes the name all the time: what is told is the root that it is, each time."""
        places = {str(os.stat(f"{self.folder}/{name}").st_ino): f"{self.folder}/{name}" for name in "ab"}
        found, rows = self.race("race-root", common.races(2000), "process.chroot")
        self.assertEqual([(str(r["ino"]), r["path"]) for r in rows], [(ino, places[ino]) for ino in found])

    @common.same_on_every_kernel
    def test_race_of_mount(self):
        found, rows = self.race("race-mount", common.races(2000), "mount.attach")
        self.assertEqual([r["path"] for r in rows], [f"{self.folder}/{name}" for name in found])
        self.assertNotEqual([r["path_given"] for r in rows], found, "what was given was never another than what was done")

    def changed(self, row, before, after):
        """The row has just what is another, both ways."""
        for key in after:
            new = after[key] != before[key]
            self.assertEqual((row.get(key), row.get(f"old_{key}")), (after[key], before[key]) if new else (None, None), key)

    def test_unshare(self):
        before = namespaces("self", True)
        process = self.ready(["unshare", "-muinpC"])
        row = self.agent.wait_row("ns.unshare", lambda r: r["pid"] == process.pid)
        self.changed(row, before, namespaces(process.pid, True))
        self.assertEqual((row["flags"], row["old_pid_ns"]), (sum(NEW.values()), before["pid_ns"]))
        self.assertNotIn(row["pid_ns"], before.values())

    def test_unshare_of_users_and_refused(self):
        before = namespaces("self", True)
        options = {"user": 12345, "group": 12345, "extra_groups": []}
        process = self.ready(["unshare", "-U"], **options)
        row = self.agent.wait_row("ns.unshare", lambda r: r["pid"] == process.pid)
        self.changed(row, before, namespaces(process.pid, True))
        process, _ = self.ended(["unshare", "-n", "true"], 1, **options)
        row = self.agent.wait_row("ns.unshare", lambda r: r["pid"] == process.pid)
        self.holds(row, {"error": "EPERM", "uid": 12345, "flags": NEW["net"], "net_ns": None, "old_net_ns": None})

    def test_unshare_of_no_namespace_is_silent(self):
        process, _ = self.ended([LOAD, "steps", f"unshare:{0x400}"])
        self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        self.assertEqual([r for r in self.agent.rows("ns.*") if r["pid"] == process.pid], [])

    def test_enter(self):
        """By pidfd, and by the file of a namespace."""
        before = namespaces("self")
        process = self.shell("true")
        there = namespaces(process.pid)
        began = self.agent.wait_rows("process.exec", lambda r: r["pid"] == process.pid, 2)[-1]
        done, said = self.ended([LOAD, "enter", str(process.pid), hex(NEW["mnt"] | NEW["net"])])
        self.assertEqual(said["setns"], 0)
        row = self.agent.wait_row("ns.enter", lambda r: r["pid"] == done.pid)
        self.holds(row, {"mnt_ns": there["mnt_ns"], "old_mnt_ns": before["mnt_ns"], "net_ns": None, "flags": NEW["mnt"] | NEW["net"],
                         "target_pid": process.pid, "target_comm": "sh", "fd": said["fd"], "target_proc": began["proc"]})
        done, _ = self.ended([LOAD, "enter-file", f"/proc/{process.pid}/ns/mnt"])
        row = self.agent.wait_row("ns.enter", lambda r: r["pid"] == done.pid)
        self.holds(row, {"mnt_ns": there["mnt_ns"], "old_mnt_ns": before["mnt_ns"], "target_pid": None})

    def test_enter_refused(self):
        process = self.shell("true")
        done, _ = self.ended([LOAD, "enter", str(process.pid), hex(NEW["mnt"])], user=12345, group=12345, extra_groups=[])
        row = self.agent.wait_row("ns.enter", lambda r: r["pid"] == done.pid)
        self.holds(row, {"error": "EPERM", "mnt_ns": None, "target_pid": process.pid})

    def test_create(self):
        before = namespaces("self")
        for flags in (sum(NEW.values()), 0x80, NEW["pid"] | NEW["net"]):
            done, said = self.ended([LOAD, "clone", hex(flags)])
            row = self.agent.wait_row("ns.create", lambda r: r["pid"] == done.pid)
            fork = self.agent.wait_row("process.fork", lambda r: r["pid"] == done.pid)
            after = {key: said[key] for key in before if key != "time_ns"}
            self.changed(row, {key: before[key] for key in after}, after)
            self.assertEqual("time_ns" in row, bool(flags & 0x80))
            self.holds(row, {"child_pid": fork["child_pid"], "child_proc": fork["child_proc"], "flags": flags})

    def test_plain_fork_is_silent(self):
        process, _ = self.ended(["sh", "-c", "true & wait"])
        self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        self.assertEqual([r for r in self.agent.rows("ns.*") if r["pid"] == process.pid], [])


class Whole(common.TestCase):
    def test_more_than_can_be_told_of_one_call(self):
        """What is left out is counted one by one."""
        with common.Agent("isolation") as agent, tempfile.TemporaryDirectory() as folder:
            place = "$(printf %s/a/%03d " + folder + " $i)"
            common.spawn(["unshare", "-m", "sh", "-ec", f"mkdir {folder}/a {folder}/b; mount -t tmpfs top {folder}/a; i=0; while [ $i -lt 44 ]; do "
                          f"mkdir {place}; mount -t tmpfs one {place}; i=$((i + 1)); done; mount --rbind {folder}/a {folder}/b"])
            agent.stop()
            rows = agent.rows()
        self.assertLedgerExact(rows)
        copied = [r["path"] for r in rows if r["type"] == "mount.attach" and r["path"].startswith(f"{folder}/b")]
        self.assertEqual(len(set(copied)), 32)
        self.assertEqual(common.ledger(rows)["mount.attach"]["dropped"], {"no_size_class": 45 - 32})

    def test_small_and_whole(self):
        with common.Agent("isolation") as agent, tempfile.TemporaryDirectory() as folder:
            for _ in range(20):
                common.spawn(["unshare", "-m", "sh", "-ec", f"mount -t tmpfs x {folder}; umount {folder}; chroot / true"])
            agent.stop()
            rows = agent.rows()
            self.assertLedgerExact(rows)
            mine = [r for r in rows if r["type"].startswith(("mount.", "ns.", "process."))]
            self.assertGreaterEqual(len(mine), 100)
            size = sum(len(common.sonde("cat", agent.journal, "--type", glob, "--format", "msgpack", text=False).stdout)
                       for glob in ("mount.*", "ns.*", "process.*"))
            self.assertLess(size / len(mine), 400)


if __name__ == "__main__":
    common.unittest.main()
