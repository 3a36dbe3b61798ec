# SPDX-License-Identifier: Apache-2.0
"""uring.* against what the ring returned to the load, and what /proc and the file system say of it afterwards."""
import os
import shutil
import socket
import subprocess
import tempfile

import common

TRIES = 20000


class Uring(common.TestCase):
    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="sonde-uring-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.mkdir(f"{self.folder}/real")
        os.symlink("real", f"{self.folder}/link")

    def run_load(self, *words, folder=None):
        """Lines of the load, by word; rows of the load, by type. Each request that has ended has both rows, with one id."""
        with common.Agent(modules="uring", settings={"rings.bulk": "32MiB"}) as agent:
            load = subprocess.Popen([common.load("uring"), *words], cwd=folder or self.folder, stdout=subprocess.PIPE, text=True)
            out = load.communicate(timeout=common.bound(120))[0]
            self.assertEqual(load.returncode, 0)
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        self.assertEqual([row for row in rows if row["type"] == "agent.loss"], [])
        rows = [row for row in rows if row["type"].startswith("uring.") and row["pid"] == load.pid]
        for row in rows:
            self.assertEqual((row["uid"], row["euid"], row["gid"], row["egid"]), (0, 0, 0, 0))
        ring, *lines = [line.split(" ") for line in out.splitlines()]
        created, *rows = rows
        self.assertEqual(created["type"], "uring.create")
        self.assertEqual([created["fd"], created["sq_entries"], created["cq_entries"], created.get("flags", 0)],
                         [int(word) for word in ring[1:]])
        return lines, [row for row in rows if row["type"] == "uring.op"], [row for row in rows if row["type"] == "uring.done"]

    def check_pairs(self, lines, asked, ended):
        self.assertEqual([row["op"] for row in asked], [line[0] for line in lines])
        self.assertEqual([(row["op"], row["id"]) for row in ended], [(row["op"], row["id"]) for row in asked])
        self.assertEqual([row.get("error", "-") for row in ended], [line[1] for line in lines])
        self.assertEqual(len({row["id"] for row in asked}), len(asked))
        for ask, end in zip(asked, ended):
            self.assertTrue(0 < end["latency_ns"] and end["ts"] - ask["ts"] <= end["latency_ns"] + 1000000, (ask, end))

    def test_files(self):
        lines, asked, ended = self.run_load("files")
        self.check_pairs(lines, asked, ended)
        opened, missing, made, symbolic, hard, moved, removed, named, attribute = asked
        self.assertEqual((opened["name"], opened["dir"], opened["mode"]), ("link/../link/file", self.folder, 0o640))
        self.assertEqual(opened["flags"] & (os.O_CREAT | os.O_RDWR), os.O_CREAT | os.O_RDWR)
        self.assertEqual((ended[0]["path"], ended[0]["path"]), (lines[0][2], f"{self.folder}/real/file"))
        there = os.stat(f"{self.folder}/real/file")
        self.assertEqual((ended[0]["ino"], ended[0]["dev"]), (there.st_ino, there.st_dev))
        self.assertEqual((missing["name"], ended[1]["error"]), ("none", "ENOENT"))
        self.assertNotIn("path", ended[1])
        self.assertEqual((made["name"], made["dir"], made["mode"]), ("made", self.folder, 0o750))
        self.assertEqual((symbolic["name"], symbolic["new_name"], symbolic["dir"]), ("text of it", "symbolic", f"{self.folder}/made"))
        self.assertEqual((hard["name"], hard["new_name"], hard["dir"]), ("real/file", "second", self.folder))
        self.assertNotIn("new_dir", hard)
        self.assertEqual((moved["name"], moved["dir"], moved["new_name"], moved["new_dir"], moved["flags"]),
                         ("second", self.folder, "third", f"{self.folder}/made", 1))
        self.assertEqual((removed["name"], removed["dir"]), ("third", f"{self.folder}/made"))
        self.assertEqual((named["name"], named["new_name"], named["dir"]), ("real/file", "user.lu", self.folder))
        self.assertEqual((attribute["new_name"], attribute["fd"]), ("user.lu2", ended[0]["ret"]))
        self.assertNotIn("name", attribute)

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
        self.check_pairs(lines, asked, ended)
        self.assertEqual((asked[0]["dir"], ended[0]["path"]), (deep, f"{deep}/real/file"))
        self.assertEqual((asked[5]["dir"], asked[5]["new_dir"]), (deep, f"{deep}/made"))
        self.assertNotIn("truncated", asked[5])

    def test_sockets(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            lines, asked, ended = self.run_load("net", str(port))
        if lines[3][1] == "EINVAL":  # before Linux 6.11 a ring cannot bind, and a request for it is none
            lines = lines[:3]
        self.check_pairs(lines, asked, ended)
        made = asked[0]
        self.assertEqual((made["family"], made["sock_type"], made["flags"]), ("inet", "stream", socket.SOCK_CLOEXEC))
        self.assertEqual(ended[0]["ret"], int(lines[0][2]))
        self.assertEqual(asked[1]["fd"], ended[0]["ret"])
        for row, line in list(zip(ended, lines))[1:]:
            self.assertEqual((row["family"], row["sock_type"], row["laddr"]), ("inet", "stream", "127.0.0.1"))
            self.assertEqual([row.get("lport", 0), row.get("rport", 0)], [int(word) for word in line[2:]], row["op"])
        self.assertEqual((ended[1]["raddr"], ended[1]["rport"]), ("127.0.0.1", port))
        if len(lines) > 3:
            self.assertEqual(asked[4]["backlog"], 9)

    def test_a_hidden_result(self):
        """Who asks for no result is told of all the same."""
        _, asked, ended = self.run_load("skip")
        self.assertEqual([(row["op"], row["name"], row["dir"]) for row in asked], [("unlinkat", "real/hidden", self.folder)])
        self.assertEqual(ended, [])

    def test_reading_and_writing_is_no_event(self):
        _, asked, ended = self.run_load("quiet")
        self.assertEqual((asked, ended), ([], []))

    def test_a_kernel_thread_that_takes_requests(self):
        lines, asked, ended = self.run_load("polled")
        self.check_pairs(lines, asked, ended)
        self.assertEqual((asked[0]["name"], ended[0]["path"]), ("real/polled", f"{self.folder}/real/polled"))

    def test_a_name_rewritten_during_the_request(self):
        lines, asked, ended = self.run_load("race", str(common.scaled(TRIES)))
        *lines, (_, rewritten) = lines
        self.assertEqual(len(lines), common.scaled(TRIES))
        self.check_pairs(lines, asked, ended)
        self.assertEqual([row.get("path", "-") for row in ended], [line[2] for line in lines])
        self.assertEqual([f"{row['dir']}/{row['name']}" for row, line in zip(asked, lines) if line[2] != "-"],
                         [line[2] for line in lines if line[2] != "-"])
        if not common.GUEST:
            self.assertGreater(int(rewritten), 0, "no try was raced")
