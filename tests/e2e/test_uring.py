# SPDX-License-Identifier: Apache-2.0
"""uring.* against what the ring returned to the load, and what /proc and the file system say of it afterwards."""
import os
import shutil
import socket
import subprocess
import tempfile

import common

PENDING_MAX = 8192
RIGHTS = "uid", "euid", "gid", "egid", "cap_eff"
WHOSE = "pid", "tid", "comm", "proc", "parent", *RIGHTS


def become_others():
    os.setresgid(11, 12, 12)
    os.setresuid(21, 22, 22)


class Uring(common.TestCase):
    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="sonde-uring-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.mkdir(f"{self.folder}/real")
        os.symlink("real", f"{self.folder}/link")

    def run_under(self, words, folder=None, preexec_fn=None, **settings):
        """Lines of the load; all rows of the run; those of the load, by type."""
        with common.Agent(modules="uring", settings={"rings.bulk": "32MiB"} | settings) as agent:
            load = subprocess.Popen([common.load("uring"), *words], cwd=folder or self.folder, stdout=subprocess.PIPE, text=True,
                                    preexec_fn=preexec_fn)
            out = load.communicate(timeout=common.bound(120))[0]
            self.assertEqual(load.returncode, 0)
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        found = {f"uring.{kind}": [] for kind in ("create", "op", "done")}
        for row in rows:
            if row["type"] in found and row["pid"] == load.pid:
                found[row["type"]].append(row)
        return [line.split(" ") for line in out.splitlines()], rows, found

    def run_load(self, *words, rights=(0, 0, 0, 0), **others):
        """Lines of the load; its requests; their ends. Nothing was lost, and all of it was done with these rights."""
        lines, rows, found = self.run_under(words, **others)
        self.assertEqual([row for row in rows if row["type"] == "agent.loss"], [])
        for row in sum(found.values(), []):
            self.assertEqual(tuple(row[key] for key in RIGHTS[:4]), rights)
        ring, *lines = lines
        created, = found["uring.create"]
        self.assertEqual([created["fd"], created["sq_entries"], created["cq_entries"], created.get("flags", 0)],
                         [int(word) for word in ring[1:]])
        return lines, found["uring.op"], found["uring.done"]

    def known(self, lines):
        """Without operations that this kernel does not have, a request for which is none: they came with Linux 6.9 and 6.11."""
        return [line for line in lines if line[:2] not in (["ftruncate", "EINVAL"], ["bind", "EINVAL"], ["listen", "EINVAL"])]

    def check_pairs(self, lines, asked, ended):
        self.assertEqual([row["op"] for row in asked], [line[0] for line in lines])
        self.assertEqual([(row["op"], row["id"]) for row in ended], [(row["op"], row["id"]) for row in asked])
        self.assertEqual([row.get("error", "-") for row in ended], [line[1] for line in lines])
        self.assertEqual(len({row["id"] for row in asked}), len(asked))
        for ask, end in zip(asked, ended):
            self.assertEqual([end[key] for key in WHOSE], [ask[key] for key in WHOSE])
            # Taken in, told, ended: between the first two the program that tells runs, and may be interrupted.
            self.assertTrue(0 <= end["latency_ns"] - (end["ts"] - ask["ts"]) < common.bound(100) * 1000000, (ask, end))

    def test_files(self):
        lines, asked, ended = self.run_load("files")
        lines = self.known(lines)
        self.check_pairs(lines, asked, ended)
        opened, missing, made, symbolic, hard, moved, removed, named, attribute, again, nothing, *cut = asked
        self.assertEqual((opened["name"], opened["dir"], opened["mode"]), ("link/../link/file", self.folder, 0o640))
        self.assertEqual(opened["flags"] & (os.O_CREAT | os.O_RDWR), os.O_CREAT | os.O_RDWR)
        self.assertEqual((ended[0]["path"], lines[0][2]), (f"{self.folder}/real/file",) * 2)
        there = os.stat(f"{self.folder}/real/file")
        self.assertEqual((ended[0]["ino"], ended[0]["dev"]), (there.st_ino, there.st_dev))
        self.assertEqual((missing["name"], ended[1]["error"]), ("none", "ENOENT"))
        self.assertNotIn("path", ended[1])
        self.assertEqual((made["name"], made["dir"], made["mode"]), ("made", self.folder, 0o750))
        self.assertEqual((symbolic["name"], symbolic["new_name"], symbolic["dir"]), ("text of it", "symbolic", f"{self.folder}/made"))
        self.assertEqual((hard["name"], hard["new_name"], hard["dir"]), ("real/file", "second", self.folder))
        self.assertNotIn("new_dir", hard)
        self.assertEqual(hard["flags"], 0x400)  # AT_SYMLINK_FOLLOW
        self.assertEqual((moved["name"], moved["dir"], moved["new_name"], moved["new_dir"], moved["flags"]),
                         ("second", self.folder, "third", f"{self.folder}/made", 1))
        self.assertEqual((removed["name"], removed["dir"]), ("third", f"{self.folder}/made"))
        self.assertEqual((named["name"], named["new_name"], named["dir"], named["flags"]),
                         ("real/file", "user.lu", self.folder, os.XATTR_CREATE))
        self.assertEqual((attribute["new_name"], attribute["fd"]), ("user.lu2", ended[0]["ret"]))
        self.assertFalse({"name", "flags"} & set(attribute))
        self.assertEqual((again["name"], again["dir"], again["mode"]), ("third", f"{self.folder}/made", 0o604))
        self.assertEqual(again["flags"] & ~0o100000, os.O_CREAT | os.O_WRONLY)  # the kernel adds O_LARGEFILE
        self.assertEqual((ended[9]["path"], ended[9]["ino"]), (f"{self.folder}/made/third", os.stat(f"{self.folder}/made/third").st_ino))
        self.assertEqual((nothing["name"], nothing["flags"]), ("nothing", 0x200))  # AT_REMOVEDIR
        self.assertEqual([row["fd"] for row in cut], [ended[0]["ret"]] * len(cut))

    @common.same_on_every_kernel
    def test_long_names(self):
        """The folder takes the large record."""
        deep, back = self.folder, os.getcwd()
        try:
            for i in range(6):
                deep = f"{deep}/{chr(97 + i) * 200}"
                os.mkdir(deep)
                os.chdir(deep)
            os.mkdir("real")
            os.symlink("real", "link")
        finally:
            os.chdir(back)
        lines, asked, ended = self.run_load("files", folder=deep)
        self.check_pairs(self.known(lines), asked, ended)
        self.assertEqual((asked[0]["dir"], ended[0]["path"]), (deep, f"{deep}/real/file"))
        self.assertEqual((asked[5]["dir"], asked[5]["new_dir"]), (deep, f"{deep}/made"))
        self.assertNotIn("truncated", asked[5])

    def test_sockets(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            lines, asked, ended = self.run_load("net", str(port))
        lines = self.known(lines)
        self.check_pairs(lines, asked, ended)
        made = asked[0]
        self.assertEqual((made["family"], made["sock_type"], made["flags"]), ("inet", "stream", socket.SOCK_CLOEXEC))
        self.assertEqual(ended[0]["ret"], int(lines[0][2]))
        self.assertEqual(asked[1]["fd"], ended[0]["ret"])
        command, sent = asked.pop(3), ended.pop(3)
        self.assertEqual((lines.pop(3)[0], command["cmd_op"], command["fd"]), ("uring_cmd", 77, ended[2]["ret"]))
        self.assertIn(sent["error"], ("EINVAL", "EOPNOTSUPP"))
        self.assertEqual(asked[2]["flags"], socket.SOCK_CLOEXEC)
        for row, line in list(zip(ended, lines))[1:]:
            self.assertEqual((row["family"], row["sock_type"], row["laddr"]), ("inet", "stream", "127.0.0.1"))
            self.assertEqual([row.get("lport", 0), row.get("rport", 0)], [int(word) for word in line[2:]], row["op"])
        self.assertEqual((ended[1]["raddr"], ended[1]["rport"]), ("127.0.0.1", port))
        if len(lines) > 3:
            self.assertEqual(asked[4]["backlog"], 9)

    def test_with_whose_rights(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            lines, asked, ended = self.run_load("net", str(server.getsockname()[1]), rights=(21, 22, 11, 12), preexec_fn=become_others)
        self.check_pairs(self.known(lines), asked, ended)
        self.assertEqual({row["cap_eff"] for row in asked}, {0})

    @common.same_on_every_kernel
    def test_what_the_filters_leave_out(self):
        """It takes no place among what is waited for, and is counted."""
        lines, rows, found = self.run_under(["files"], **{"filter.comm": "[sonde-nobody]"})
        self.assertEqual(found, {"uring.create": [], "uring.op": [], "uring.done": []})
        types = common.ledger(rows)
        count = len(self.known(lines[1:]))
        for kind in ("uring.op", "uring.done"):
            self.assertGreaterEqual(types[kind]["filtered"], count)
            self.assertEqual(types[kind]["filtered"], types[kind]["produced"])

    def test_results_that_nobody_is_told_of(self):
        """More of them than are waited for: each is counted as lost, and they do not keep the table full."""
        count = PENDING_MAX + 800
        lines, rows, found = self.run_under(["overflow", str(count)])
        self.assertEqual([row["op"] for row in found["uring.op"]], ["accept"] * count + ["openat"])
        self.assertEqual([(row["op"], row["path"]) for row in found["uring.done"]], [("openat", lines[-1][2])])
        self.assertEqual(common.ledger(rows)["uring.done"]["dropped"], {"map_full": count})

    def test_a_hidden_result(self):
        """Who asks for no result is told of all the same."""
        _, asked, ended = self.run_load("hidden")
        self.assertEqual([(row["op"], row["name"], row["dir"]) for row in asked], [("unlinkat", "real/hidden", self.folder)])
        self.assertEqual(ended, [])

    @common.same_on_every_kernel
    def test_reading_and_writing_is_no_event(self):
        _, asked, ended = self.run_load("quiet")
        self.assertEqual((asked, ended), ([], []))

    def test_a_kernel_thread_that_takes_requests(self):
        lines, asked, ended = self.run_load("polled")
        self.check_pairs(lines, asked, ended)
        self.assertEqual((asked[0]["name"], ended[0]["path"]), ("real/polled", f"{self.folder}/real/polled"))
        self.assertEqual(asked[0]["comm"], f"iou-sqp-{asked[0]['pid']}"[:15])
        self.assertNotEqual(asked[0]["tid"], asked[0]["pid"])

    def test_a_name_rewritten_during_the_request(self):
        lines, asked, ended = self.run_load("race", str(common.races()))
        *lines, (_, rewritten) = lines
        self.assertEqual(len(lines), common.races())
        self.check_pairs(lines, asked, ended)
        self.assertEqual([row.get("path", "-") for row in ended], [line[2] for line in lines])
        self.assertEqual([f"{row['dir']}/{row['name']}" for row, line in zip(asked, lines) if line[2] != "-"],
                         [line[2] for line in lines if line[2] != "-"])
        if not common.GUEST:
            self.assertGreater(int(rewritten), 0, "no try was raced")
