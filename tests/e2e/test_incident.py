# SPDX-License-Identifier: Apache-2.0
"""sonde incident: one timeline of a process tree, against what the tree's own script did."""
import collections
import json
import os
import socket
import subprocess
import tempfile

import common
import profiles

SCRIPT = """
cat /dev/null
( exit 3 )
exec python3 -c 'import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()' "$1"
"""


class Incident(common.TestCase):
    def incident(self, process, *arguments, status=0):
        return common.sonde("incident", str(process), "--journal", self.agent.journal, *arguments, status=status)

    def damage(self, text):
        """Changes the one record of the journal in which `text` is."""
        segments = [os.path.join(self.agent.journal, name) for name in os.listdir(self.agent.journal)]
        found = [(path, data.index(text)) for path in segments for data in [open(path, "rb").read()] if text in data]
        self.assertEqual(len(found), 1)
        with open(found[0][0], "r+b") as file:
            file.seek(found[0][1])
            file.write(b"S")

    def test_what_a_tree_did(self):
        with common.Agent(modules="exec,tcp,cpu") as self.agent, socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with subprocess.Popen(["/bin/sh", "-c", SCRIPT, "sh", str(port)], env={**os.environ, "PATH": "/usr/bin:/bin"}) as tree:
                tree.wait()
            stranger = common.spawn(["/bin/echo", "somebody else"], stdout=subprocess.DEVNULL)
            self.agent.wait_row("tcp.close", lambda r: r.get("pid") == tree.pid)
            self.agent.stop()
            self.damage(b"somebody else")
            rows = self.agent.rows()
            told = json.loads(self.incident(tree.pid, "--format", "json").stdout)
            text = self.incident(tree.pid, "--format", "text").stdout
            above = self.incident(tree.pid, "--up", "1", "--format", "json")
            self.assertIn("sonde incident: 1 bad record skipped", above.stderr)
            above = json.loads(above.stdout)
            by_proc = json.loads(self.incident(told["root"], "--type", "tcp.*").stdout)
        # The truth: whose parents lead to that process, in the stream.
        parents = {r["proc"]: r["parent"] for r in rows if "parent" in r and "proc" in r}
        parents.update({r["child_proc"]: r["proc"] for r in rows if "child_proc" in r})
        own = {r["proc"] for r in rows if r.get("pid") == tree.pid and "proc" in r}
        own |= {r["child_proc"] for r in rows if r.get("child_pid") == tree.pid}
        grown = True
        while grown:
            more = {p for p, parent in parents.items() if parent in own} - own
            own |= more
            grown = bool(more)
        expected = [r for r in rows if (r.get("proc") in own or r.get("child_proc") in own) and not r["type"].startswith("profile.")]
        self.assertEqual(sorted((r["ts"], r["type"], r["seq"]) for r in expected),
                         [(r["ts"], r["type"], r["seq"]) for r in told["events"]])
        named = collections.Counter(proc for r in told["events"] for proc in {v for k, v in r.items() if k.endswith("proc")})
        self.assertEqual({p["proc"]: p["rows"] for p in told["processes"]}, {proc: named[proc] for proc in own})
        kinds = {r["type"] for r in told["events"]}
        self.assertTrue({"process.exec", "process.fork", "process.exit", "tcp.connect", "tcp.close"} <= kinds, kinds)
        self.assertNotIn(stranger, {r.get("pid") for r in told["events"]})
        commands = [p.get("command", "") for p in told["processes"]]
        self.assertTrue(any(c.startswith("/bin/sh -c") for c in commands), commands)
        self.assertIn("cat /dev/null", commands)
        self.assertEqual([p["exit_code"] for p in told["processes"] if p.get("pid") == tree.pid and "exit_code" in p], [0])
        self.assertIn(3, [p.get("exit_code") for p in told["processes"]])
        self.assertEqual(told["lineage"][0]["pid"], os.getpid())
        for words in (f"> sh[{tree.pid}]", "cat /dev/null  exit 0", "exit 3", f"-> 127.0.0.1:{port}", "├─ ", "└─ "):
            self.assertIn(words, text.replace("python3[", "sh["))
        self.assertIn(stranger, {p.get("pid") for p in above["processes"]})
        self.assertEqual({r["type"] for r in by_proc["events"]}, {"tcp.connect", "tcp.close"})

    def test_losses_of_that_while(self):
        """From the first row of theirs on: what was lost before cannot have been theirs, as far as is known."""
        ours, other = "00000000000000aa", "00000000000000bb"

        def row(number, kind, proc=None, **more):
            return {"type": kind, "ts": number, "seq": number, **({"proc": proc, "pid": int(proc, 16)} if proc else {}), **more}

        def loss(number):
            return row(number, "agent.loss", event="tcp.close", count=1, reason="ring_full")
        rows = [loss(1), row(2, "tcp.connect", other), loss(3), row(4, "tcp.connect", ours), loss(5), row(6, "profile.cpu", ours), loss(7)]
        with tempfile.TemporaryDirectory() as folder:
            journal = profiles.write(os.path.join(folder, "journal"), rows)

            def seqs(*arguments):
                done = common.sonde("incident", ours, "--journal", journal, "--format", "json", *arguments)
                return [r["seq"] for r in json.loads(done.stdout)["events"]]
            self.assertEqual(seqs(), [4, 5, 7])
            self.assertEqual(seqs("--type", "*"), [4, 5, 6, 7])
            self.assertEqual(seqs("--type", "tcp.*"), [4])
            text = common.sonde("incident", ours, "--journal", journal, "--format", "text")
            self.assertIn("1 rows of profiles and sums are left out", text.stderr)

    def test_mistakes(self):
        with common.Agent(modules="exec") as self.agent:
            common.spawn(["/bin/true"])
            self.agent.stop()
            for wrong in "12x", "0", "99999999999":
                self.assertIn("neither the proc of an event", self.incident(wrong, status=2).stderr)
            self.assertIn("no event of process 0123456789abcdef", self.incident("0123456789abcdef", status=1).stderr)
            self.assertIn("--where", self.incident("1", "--where", "comm =", status=2).stderr)
            self.assertIn("PROC", common.sonde("incident", status=2).stderr)
