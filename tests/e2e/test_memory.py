# SPDX-License-Identifier: Apache-2.0
"""Memory that becomes code, held against /proc/PID/maps as the load has it after each step."""
import os
import re
import shutil
import subprocess
import tempfile

import common

LOAD = common.load("rights")
TYPES = "memory.exec", "memory.memfd", "memory.userfaultfd", "process.personality"


def effective():
    with open("/proc/self/status") as file:
        return int(re.search(r"CapEff:\t(\w+)", file.read())[1], 16)


class Memory(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.agent = common.Agent("exec,memory")

    @classmethod
    def tearDownClass(cls):
        cls.agent.__exit__(None, None, None)

    def run_steps(self, *words, program=(LOAD,), **options):
        """What the load says, one dict a step, and the rows of its process."""
        process = subprocess.Popen([*program, "code", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **options)
        out = process.communicate(timeout=common.bound(60))[0]
        self.assertEqual(process.returncode, 0)
        self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        rows = [r for r in self.agent.rows("*") if r.get("pid") == process.pid and r["type"] in TYPES]
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in out.splitlines()], sorted(rows, key=lambda r: r["ts"])

    def holds(self, row, expected):
        self.assertEqual({key: row.get(key) for key in expected}, expected)

    def one(self, word, **expected):
        """The step has one row, and its address, length and file are those of /proc/self/maps."""
        said, rows = self.run_steps(word)
        row, = [r for r in rows if r["type"] == "memory.exec"]
        self.holds(row, {"address": int(said[-1]["address"]), "length_bytes": 8192, "count": 1, "uid": 0, "cap_eff": effective(),
                         **expected})
        self.assertEqual(row.get("ino", 0), int(said[-1]["ino"]))
        self.assertIn("x", said[-1]["protection"])
        return row, said[-1]

    def test_writable_code(self):
        self.one("mmap-wx", call="mmap", kind="anonymous", prot=7, flags=0x22, name=None)
        self.one("mprotect-wx", call="mprotect", kind="anonymous", prot=7, flags=None)

    def test_written_code(self):
        """The way of compilers at run time, and of unpackers."""
        self.one("mprotect-x", call="mprotect", kind="anonymous", prot=5)
        self.one("pkey-x", call="pkey_mprotect", kind="anonymous", prot=5)

    def test_changed_file(self):
        row, _ = self.one("file-written", call="mprotect", kind="file", prot=5, name=os.path.basename(LOAD))
        self.holds(row, {"ino": os.stat(LOAD).st_ino, "dev": os.stat(LOAD).st_dev})

    def test_memfd(self):
        row, said = self.one("memfd-x", call="mmap", kind="nameless", prot=5, name="memfd:code")
        rows = self.agent.rows("memory.memfd")
        made, = [r for r in rows if r["pid"] == row["pid"]]
        self.holds(made, {"name": "memfd:code", "flags": 1, "ino": int(said["ino"]), "ret": int(said["fd"]), "error": None})

    def test_deleted_file(self):
        folder = tempfile.mkdtemp(prefix="sonde-memory-")
        self.addCleanup(shutil.rmtree, folder)
        said, rows = self.run_steps("deleted-x", cwd=folder)
        row, = rows
        self.holds(row, {"kind": "nameless", "call": "mmap", "name": "gone", "ino": int(said[-1]["ino"]), "count": 1})

    def test_refused(self):
        said, rows = self.run_steps("refused")
        row, = rows
        self.holds(row, {"error": "ENOMEM", "prot": 7, "call": "mprotect", "kind": "unknown", "count": 1})

    def test_what_programs_do_is_silent(self):
        """Libraries, data, code that nobody changed."""
        _, rows = self.run_steps("mmap-rw", "mmap-rx", "file-rx", "mprotect-rw", "file-mprotect-x")
        self.assertEqual(rows, [])
        process = subprocess.Popen(["/usr/bin/python3", "-c", "import ssl, json"])
        process.wait()
        self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        self.assertEqual([r for r in self.agent.rows("memory.exec") if r["pid"] == process.pid and r["kind"] != "anonymous"], [])

    def test_many_are_one(self):
        """Each of a thousand counts, and few are told."""
        _, rows = self.run_steps("many")
        self.assertEqual(sum(r["count"] for r in rows), 1000)
        self.assertLess(len(rows), 20)
        self.assertEqual({r["kind"] for r in rows}, {"anonymous"})

    def test_a_kind_does_not_hide_another(self):
        _, rows = self.run_steps("mmap-wx", "memfd-x", "mmap-wx", "file-written")
        self.assertEqual([r["kind"] for r in rows if r["type"] == "memory.exec"][:3], ["anonymous", "nameless", "file"])
        self.assertEqual(sum(r["count"] for r in rows if r.get("kind") == "anonymous"), 2)

    def test_a_file_does_not_hide_another(self):
        """Nor one that has its number in another file system."""
        said, rows = self.run_steps("memfd-x", "memfd-x")
        self.assertEqual([r["ino"] for r in rows if r["type"] == "memory.exec"], [int(s["ino"]) for s in said])
        with tempfile.TemporaryDirectory() as folder:
            script = f"cd {folder}; mkdir a b; mount -t tmpfs a a; mount -t tmpfs b b; exec {LOAD} \"$@\""
            said, rows = self.run_steps("in:a", "deleted-x", "in:../b", "deleted-x", program=["unshare", "-m", "sh", "-ec", script, "sh"])
        self.assertEqual(len({s["ino"] for s in said}), 1)
        self.assertEqual((len(rows), len({r["dev"] for r in rows})), (2, 2))

    def test_memfd_refused(self):
        said, rows = self.run_steps("memfd-refused")
        row, = rows
        self.holds(row, {"type": "memory.memfd", "error": "EINVAL", "name": None, "ret": None})

    def test_long_name_of_memfd(self):
        said, rows = self.run_steps("memfd-long")
        row, = rows
        self.assertEqual(row["name"], "memfd:" + "n" * 249)
        row, _ = self.one("memfd-long-x", call="mmap", kind="nameless", name="memfd:" + "n" * 57, truncated=True)
        self.assertEqual((row["uid"], row["euid"], row["gid"], row["egid"]), (0, 0, 0, 0))

    def test_exec(self):
        """What a program did is its own, not that of the one behind it."""
        _, rows = self.run_steps("many", "exec")
        began, then = self.agent.wait_rows("process.exec", lambda r: r["pid"] == rows[0]["pid"], 2)
        self.assertEqual([began["comm"], then["comm"]], [os.path.basename(LOAD), "true"])
        self.assertEqual({r["proc"] for r in rows}, {began["proc"]})
        self.assertEqual(sum(r["count"] for r in rows), 1000)
        self.holds(rows[-1], {"call": "none", "kind": "anonymous", "address": None, "prot": None})

    def test_userfaultfd(self):
        said, rows = self.run_steps("userfaultfd")
        row, = rows
        ret, error = int(said[-1]["userfaultfd"]), int(said[-1]["error"])
        self.holds(row, {"type": "memory.userfaultfd", "flags": 1, "ret": ret if ret > 0 else None})
        self.assertEqual("error" in row, error != 0)

    def test_personality(self):
        said, rows = self.run_steps("personality")
        self.assertEqual([(r["persona"], r.get("old_persona")) for r in rows], [(0x40000, None), (0x440000, 0x40000)])

    @common.host_only("no strace")
    def test_strace_agrees(self):
        """Every call with PROT_EXEC and PROT_WRITE that strace shows is counted."""
        folder = tempfile.mkdtemp(prefix="sonde-memory-")
        self.addCleanup(shutil.rmtree, folder)
        trace = os.path.join(folder, "trace")
        subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=mmap,mprotect", LOAD, "code", "mmap-wx", "mprotect-wx", "many", "mmap-rx"],
                       check=True, stdout=subprocess.DEVNULL)
        with open(trace) as file:
            lines = [line for line in file if "PROT_EXEC" in line and "PROT_WRITE" in line]
        pid = int(lines[0].split()[0])
        self.agent.wait_row("process.exit", lambda r: r["pid"] == pid)
        rows = [r for r in self.agent.rows("memory.exec") if r["pid"] == pid]
        self.assertEqual(sum(r["count"] for r in rows if r.get("prot", 7) == 7), len(lines))


class Whole(common.TestCase):
    @common.same_on_every_kernel
    def test_small_and_whole(self):
        with common.Agent("memory") as agent:
            for _ in range(50):
                common.spawn([LOAD, "code", "mmap-wx", "memfd-x", "personality"], stdout=subprocess.DEVNULL)
            agent.stop()
            rows = agent.rows()
            self.assertLedgerExact(rows)
            mine = [r for r in rows if r["type"] in TYPES and r["comm"] == os.path.basename(LOAD)]
            self.assertEqual(len(mine), 250)
            size = sum(len(common.sonde("cat", agent.journal, "--type", glob, "--format", "msgpack", text=False).stdout)
                       for glob in ("memory.*", "process.personality"))
            self.assertLess(size / sum(r["type"] in TYPES for r in rows), 400)


if __name__ == "__main__":
    common.unittest.main()
