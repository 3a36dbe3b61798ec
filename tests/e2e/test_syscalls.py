# SPDX-License-Identifier: Apache-2.0
"""syscall.compat against what int 0x80 returned; syscall.stats against strace and against what the load did."""
import collections
import ctypes
import os
import shutil
import struct
import subprocess
import tempfile

import common


def tiny_program(path):
    """An ELF program of 32 bits that calls getpid and exits with 7."""
    code = bytes.fromhex("b814000000cd80" "b801000000bb07000000cd80")
    base, head = 0x08048000, 52 + 32
    header = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + head, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, head + len(code), head + len(code), 5, 4096)
    with open(path, "wb") as file:
        file.write(header + segment + code)
    os.chmod(path, 0o755)


class Syscalls(common.TestCase):
    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="sonde-syscalls-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_under(self, argv, status=0, preexec_fn=None, **settings):
        """What a program printed, its pid, and all rows of the run. Settings without a dot are the module's."""
        settings = {key if "." in key else f"modules.syscalls.{key}": value for key, value in settings.items()}
        settings["agent.window"] = "60s"
        with common.Agent(modules="syscalls", settings=settings) as agent:
            process = subprocess.Popen(argv, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       preexec_fn=preexec_fn)
            out, errors = process.communicate(timeout=common.bound(120))
            self.assertEqual(process.returncode, status, errors)
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        self.assertEqual([row for row in rows if row["type"] == "agent.loss"], [])
        return out, process.pid, rows

    def load(self, *words, **settings):
        out, pid, rows = self.run_under([common.load("syscalls"), *words], **settings)
        return out, [row for row in rows if row.get("pid") == pid and row["type"].startswith("syscall.")], rows

    def stats(self, rows):
        for row in rows:
            self.check_row(row)
        return {row["syscall"]: row for row in rows if row["comm"] == "load_syscalls"}

    def check_row(self, row):
        """What a row says of itself fits together."""
        self.assertEqual(sum(row["hist"].values()), row["count"], row)
        self.assertEqual(sum(row.get("errnos", {}).values()), row.get("errors", 0), row)
        self.assertTrue(row["p50_ns"] <= row["p90_ns"] <= row["p99_ns"] <= row["max_ns"] <= row["sum_ns"], row)
        self.assertTrue(row["count"] >= row.get("errors", 0))

    # ---- of 32 bits

    def test_compat(self):
        os.mkdir(f"{self.folder}/real")
        os.symlink("real", f"{self.folder}/link")
        out, rows, _ = self.load("compat")
        lines = [line.split() for line in out.splitlines()]
        ino, device = next(map(int, line[1:]) for line in lines if line[0] == "file")
        lines = [line for line in lines if line[0] != "file"]
        self.assertEqual({row["type"] for row in rows}, {"syscall.compat"})
        self.assertEqual([[str(row["nr"]), row.get("error", "-")] for row in rows], [line[:2] for line in lines])
        self.assertEqual([row["syscall"] for row in rows], ["getpid", "open", "openat", "open", "mkdir"])
        for row, line in zip(rows, lines):
            self.assertEqual([row.get(f"arg{n}", 0) for n in range(5)], [*map(int, line[2:]), 0x77])
            self.assertEqual((row["uid"], row["euid"], row["gid"], row["egid"]), (0, 0, 0, 0))
        self.assertEqual(rows[0]["ret"], rows[0]["pid"])
        for row in rows[1:3]:
            self.assertEqual((row["path"], row["ino"], row["dev"]), (f"{self.folder}/real/file", ino, device))
        for row in (rows[0], *rows[3:]):
            self.assertNotIn("path", row)

    def test_a_program_of_32_bits(self):
        """Its execve ends as a call of its own table already."""
        tiny_program(f"{self.folder}/tiny")
        _, pid, rows = self.run_under(["./tiny"], status=7)
        rows = [row for row in rows if row.get("pid") == pid and row["type"] == "syscall.compat"]
        self.assertEqual([(row["syscall"], row["nr"]) for row in rows], [("execve", 11), ("getpid", 20)])
        self.assertEqual(rows[1]["ret"], pid)

    def test_with_whose_rights(self):
        def become_others():
            os.setresgid(11, 12, 12)
            os.setresuid(21, 22, 22)

        _, rows, _ = self.load("compat", preexec_fn=become_others)
        self.assertEqual({tuple(row[key] for key in ("uid", "euid", "gid", "egid", "cap_eff")) for row in rows}, {(21, 22, 11, 12, 0)})

    def test_what_the_filters_leave_out(self):
        _, rows, everything = self.load("compat", stats="true", **{"filter.comm": "[sonde-nobody]"})
        self.assertEqual(rows, [])
        self.assertEqual(common.ledger(everything)["syscall.compat"]["filtered"], 5)

    def test_compat_is_silent_otherwise(self):
        _, rows, everything = self.load("counted", "10")
        self.assertEqual([row for row in everything if row["type"] == "syscall.compat"], [])
        self.assertEqual(rows, [])

    # ---- statistics

    def test_counts(self):
        n = common.scaled(5000, 500)
        _, rows, everything = self.load("counted", str(n), stats="true")
        found = self.stats(rows)
        self.assertEqual([row for row in everything if row["type"] == "syscall.compat"], [])
        asked, closed, read = found["getppid"], found["close"], found["readlinkat"]
        self.assertEqual((asked["count"], asked.get("errors", 0)), (2 * n, 0))
        self.assertEqual(closed["errnos"]["EBADF"], 2 * n)
        self.assertEqual(read["errnos"], {"ENOENT": n // 2 * 2, "ENOTDIR": (n + 1) // 2 * 2})
        self.assertEqual(len({row["proc"] for row in found.values()}), 1)

    def test_errors_of_many_kinds(self):
        out, rows, _ = self.load("errors", stats="true")
        truth = collections.Counter(line.split()[1] for line in out.splitlines())
        row = self.stats(rows)["readlinkat"]
        self.assertEqual(row["errors"], truth.total(), row)
        named = {name: count for name, count in row["errnos"].items() if name != "other"}
        self.assertEqual(len(named), 4)
        self.assertEqual(named, {name: truth[name] for name in named})

    def test_times(self):
        _, rows, _ = self.load("sleeps", "20", "5000000", stats="true")
        row = self.stats(rows)["nanosleep"]
        self.assertEqual(row["count"], 20)
        self.assertGreaterEqual(row["sum_ns"], 20 * 5000000)
        self.assertGreaterEqual(row["p50_ns"], 5000000 * 7 // 8)
        self.assertLess(row["p50_ns"], common.bound(8000000))
        self.assertGreaterEqual(row["max_ns"], 5000000)
        for least in row["hist"]:
            self.assertGreaterEqual(int(least), 5000000 * 3 // 4)

    @common.host_only("the guests have no strace")
    def test_against_strace(self):
        """Every system call of a program and its threads, as strace counts them."""
        log = f"{self.folder}/strace"
        n = 200
        _, _, rows = self.run_under(["strace", "-f", "-c", "-o", log, common.load("syscalls"), "counted", str(n)], stats="true")
        truth = {}
        with open(log) as file:
            for line in file:
                words = line.split()
                if len(words) >= 5 and words[0].replace(".", "").isdigit() and words[-1] != "total":
                    truth[words[-1]] = (int(words[3]), int(words[4]) if len(words) == 6 else 0)
        rows = [row for row in rows if row["type"] == "syscall.stats" and row["comm"] == "load_syscalls"]
        procs = collections.Counter(row["proc"] for row in rows)
        rows = [row for row in rows if row["proc"] == procs.most_common(1)[0][0]]
        found = {row["syscall"]: (row["count"], row.get("errors", 0)) for row in rows}
        self.assertEqual(found, truth)

    @common.user_space
    def test_a_full_table(self):
        """What finds no room is summed up as other; nothing is lost."""
        n = common.scaled(700, 560)
        _, _, rows = self.run_under([common.load("syscalls"), "crowd", str(n)], stats="true")
        rows = [row for row in rows if row["type"] == "syscall.stats"]
        other, = [row for row in rows if "pid" not in row]
        self.assertEqual(other["syscall"], "other")
        self.check_row(other)
        self.assertLessEqual(len(rows), 4096)
        own = sum(row["count"] for row in rows if row.get("comm") == "load_syscalls")
        self.assertGreaterEqual(own + other["count"], 8 * n)

    @common.user_space
    def test_windows(self):
        """The rows of several windows are one account."""
        with common.Agent(modules="syscalls", settings={"modules.syscalls.stats": "true", "agent.window": "1s"}) as agent:
            pid = os.getpid()
            libc = ctypes.CDLL(None)
            for count in (100, 200, 300):
                before = len([r for r in agent.rows("syscall.stats") if r.get("pid") == pid and r["syscall"] == "getsid"])
                for _ in range(count):
                    libc.getsid(0)
                agent.wait_rows("syscall.stats", lambda r: r.get("pid") == pid and r["syscall"] == "getsid", before + 1)
            agent.stop()
            rows = [r for r in agent.rows() if r["type"] == "syscall.stats" and r.get("pid") == pid and r["syscall"] == "getsid"]
        self.assertGreaterEqual(len(rows), 3)
        self.assertEqual(sum(row["count"] for row in rows), 600)
        for row in rows:
            self.assertTrue(0.9e9 < row["window_ns"] < 1e9 + common.bound(0.5e9), row)
