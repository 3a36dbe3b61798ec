# SPDX-License-Identifier: Apache-2.0
"""What rules ask of modules: which system calls are hooked (rules.only), and which files' reads are told."""
import json
import os
import signal
import subprocess
import tempfile

import common
from test_alerts import rule

MODULES = "exec,file,memory,net,process"


class Case(common.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="sonde-only-", dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)
        os.chmod(self.folder, 0o755)
        self.path = os.path.join(self.folder, "rules.yaml")

    def write(self, *rules):
        with open(self.path, "w") as file:
            file.write("".join(rules))

    def start(self, *settings, modules=MODULES):
        agent = common.Agent(modules, settings=[f"rules.files=[{self.path}]", *settings])
        self.addCleanup(agent.__exit__, None, None, None)
        return agent

    def reload(self, agent):
        before = len(agent.output())
        agent.signal(signal.SIGHUP)
        common.wait_until(lambda: "configuration reloaded" in agent.output()[before:], 20, "reload")

    def hooks(self, agent):
        """(module, measure): the hook in use, or None, and why."""
        out = common.sonde("probes", "--json", "--set", f"agent.control={agent.control}").stdout
        return {(m["module"], one["measure"]): (one.get("hook"), one.get("why", "")) for m in json.loads(out)["modules"] for one in m["measures"]}


class Only(Case):
    def make(self, agent, name):
        """A folder, a connection's listener, and a signal: one event each for modules that tell them."""
        import socket
        os.mkdir(os.path.join(self.folder, name))
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
        process = subprocess.Popen(["sleep", "30"])
        process.kill()
        process.wait()
        agent.wait_row("process.exec", lambda r: r["pid"] == process.pid and r["comm"] == "sleep")
        return process.pid

    @common.same_on_every_kernel
    def test_hooks_follow_the_rules(self):
        self.write(rule("Listens", "evt.type = listen and fd.sport > 0"))
        agent = self.start("rules.only=true")
        hooks = self.hooks(agent)
        self.assertTrue(hooks["net", "listen"][0])
        for name in ("socket", "bind", "connect", "accept", "accept4", "dup", "dup2", "dup3"):
            self.assertEqual(hooks["net", name], (None, f"no rule can fire on net.{name.rstrip('234')}"))
        self.assertTrue(hooks["exec", "exec"][0])
        for module in ("file", "memory", "process"):
            self.assertIn(f"module '{module}' stays out: no rule can fire on its events (rules.only)", agent.output())
            self.assertNotIn(f"module '{module}' runs without", agent.output())
        self.assertNotIn("module 'net' stays out", agent.output())
        self.make(agent, "one")
        # Now for folders and signals, and no more for sockets.
        self.write(rule("Makes a folder", f"evt.type = mkdir and fs.path.name startswith {self.folder}/"),
                   rule("Kills", "evt.type = kill and evt.category = process"))
        self.reload(agent)
        hooks = self.hooks(agent)
        self.assertTrue(hooks["file", "mkdir"][0])
        self.assertEqual(hooks["file", "openat"], (None, "no rule can fire on file.open"))
        self.assertTrue(hooks["process", "signal"][0])
        self.assertEqual(hooks["process", "ptrace"][0], None)
        killed = self.make(agent, "two")
        agent.wait_row("file.mkdir", lambda r: r.get("path") == f"{self.folder}/two")
        agent.stop()
        rows = agent.rows()
        own = [r for r in rows if r.get("pid") == os.getpid()]
        self.assertEqual([r["type"] for r in own if r["type"].startswith(("net.", "file.", "memory."))], ["net.listen", "file.mkdir"])
        self.assertEqual([r["target_pid"] for r in own if r["type"] == "process.signal" and r["target_pid"] != agent.pid], [killed])
        self.assertEqual({r["rule"] for r in rows if r["type"] == "alert" and r["pid"] == os.getpid()}, {"Listens", "Makes a folder", "Kills"})
        self.assertGapless(rows)
        self.assertLedgerExact(rows)

    @common.user_space
    def test_a_rule_of_no_type_asks_for_all(self):
        self.write(rule("All", "proc.name = nobody_is_called_this", warn_evttypes="false"))
        hooks = self.hooks(self.start("rules.only=true"))
        for key in (("net", "socket"), ("file", "mkdir"), ("file", "openat"), ("memory", "mmap"), ("process", "signal")):
            self.assertTrue(hooks[key][0], key)

    def test_opens_alone(self):
        """The program of openat(2) is loaded and not attached where others go on to it: here the other way round."""
        self.write(rule("Opens", f"evt.type = openat and evt.is_open_write = true and fd.name startswith {self.folder}/"))
        agent = self.start("rules.only=true", modules="file")
        os.mkdir(f"{self.folder}/below")
        fd = os.open(f"{self.folder}/below/file", os.O_CREAT | os.O_WRONLY)
        os.close(fd)
        agent.wait_row("alert", lambda r: r["rule"] == "Opens")
        self.assertEqual({r["type"] for r in agent.rows("file.*")}, {"file.open"})

    def make_file(self, name, flags=os.O_CREAT | os.O_WRONLY):
        os.close(os.open(f"{self.folder}/{name}", flags, 0o600))

    def opened(self, agent):
        """Names of files below our folder that we opened, as told so far, without the rules."""
        return [r["path"].removeprefix(self.folder + "/") for r in agent.rows("file.open")
                if r["pid"] == os.getpid() and r.get("path", self.path) != self.path and r["path"].startswith(self.folder)]

    def test_opens_of_named_files(self):
        """Where each rule on opens names its files, opens for writing are told of these alone: also of new ones, and in other mount namespaces."""
        write = "evt.type in (open, openat, creat) and evt.is_open_write = true and "
        self.write(rule("One", f"{write} fd.name = {self.folder}/one"), rule("Below", f"{write} fd.name startswith {self.folder}/below/"),
                   rule("Unlinks", f"evt.type = unlinkat and fs.path.name startswith {self.folder}/"))
        for name in ("below/deep", "belowx", "other", "elsewhere"):
            os.makedirs(f"{self.folder}/{name}")
        agent = self.start("rules.only=true", modules="file")
        self.assertIn("opens for writing are told of files alone that rules name by 2 paths (rules.only)", agent.output())
        names = ("one", "onex", "other/one", "below/a", "belowx/a", "below/deep/b", "other/below", "one", "oneX")
        for name in names:
            self.make_file(name)
        self.make_file("below/a", os.O_RDWR)
        self.make_file("below/a", os.O_RDONLY)  # not for writing, and not watched
        os.link(f"{self.folder}/other/one", f"{self.folder}/below/link")
        self.make_file("below/link", os.O_WRONLY)
        os.symlink(f"{self.folder}/below/deep", f"{self.folder}/link")
        self.make_file("link/c")
        with self.assertRaises(FileExistsError):
            self.make_file("other/one", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        deep = "other/" + "d/" * 40
        os.makedirs(f"{self.folder}/{deep}")
        self.make_file(f"{deep}x")  # too far down to look
        # There the folder `below` is mounted at another place, and another one at its.
        subprocess.run(["unshare", "-m", "sh", "-c", "mount --bind $0/below $0/elsewhere && mount --bind $0/other $0/below && : >$0/elsewhere/x && : >$0/below/y",
                        self.folder], check=True)
        self.make_file("below/last")
        agent.wait_row("file.open", lambda r: r.get("path") == f"{self.folder}/below/last")
        rows = [r for r in agent.rows("file.open") if r.get("path", r.get("path_given", "")).startswith(self.folder)]
        told = [r["path"].removeprefix(self.folder + "/") for r in rows if "error" not in r]
        self.assertEqual(told, ["one", "below/a", "below/deep/b", "one", "below/a", "below/link", "below/deep/c", f"{deep}x", "below/y", "below/last"])
        self.assertEqual([r["path_given"] for r in rows if "error" in r], [f"{self.folder}/other/one"])
        # A rule that names none: all are told; and then again few.
        self.write(rule("One", f"{write} fd.name = {self.folder}/one"), rule("Any", f"{write} proc.name = nobody_is_called_this"))
        self.reload(agent)
        self.assertIn("opens for writing are told of all files: no path names those that 'Any' is about", agent.output())
        self.make_file("other/two")
        agent.wait_row("file.open", lambda r: r.get("path") == f"{self.folder}/other/two")
        self.write(rule("Two", f"{write} fd.name = {self.folder}/two"))
        self.reload(agent)
        for name in ("one", "other/three", "two"):
            self.make_file(name)
        agent.wait_row("alert", lambda r: r["rule"] == "Two")
        agent.stop()
        self.assertEqual(self.opened(agent)[-2:], ["other/two", "two"])
        self.assertLedgerExact(agent.rows())

    def test_a_path_too_long_to_be_compared(self):
        name = "n" * 40
        self.write(rule("Long", f"evt.type = openat and evt.is_open_write = true and fd.name = {self.folder}/{name}"))
        agent = self.start("rules.only=true", modules="file")
        self.assertIn("opens for writing are told of all files: those that rules name are too many, or their paths too long", agent.output())
        for one in (name, "other"):
            self.make_file(one)
        agent.wait_row("file.open", lambda r: r["path"] == f"{self.folder}/other")
        self.assertEqual(self.opened(agent), [name, "other"])

    @common.user_space
    def test_without_rules(self):
        done = subprocess.run([common.SONDE, "run", "--journal", os.path.join(self.folder, "journal"), "--set", "rules.only=true"],
                              capture_output=True, text=True, timeout=common.bound(30))
        self.assertEqual(done.returncode, 78)
        self.assertIn("rules.only is on, and rules.files names no file of rules", done.stderr)
        done = common.sonde("check", "--set", "rules.only=true", status=78)
        self.assertIn("rules.only is on, and rules.files names no file of rules", done.stderr + done.stdout)


class Reads(Case):
    def read(self, path):
        with open(path) as file:
            file.read()

    def test_what_rules_name_is_watched(self):
        names = [f"{self.folder}/{name}" for name in ("one", "two", "three")]
        os.makedirs(f"{self.folder}/keys/deep")
        for name in (*names, f"{self.folder}/keys/deep/key"):
            with open(name, "w"):
                pass
        self.write(rule("One", f"evt.type in (open, openat) and evt.is_open_read = true and fd.name = {names[0]}"),
                   rule("Keys", f"evt.type in (open, openat) and evt.is_open_read = true and fd.name pmatch ({self.folder}/keys)"),
                   rule("Anywhere", "evt.type in (open, openat) and evt.is_open_read = true and fd.name endswith /nothing"))
        agent = self.start()
        self.assertIn("1 rule is of reads of files that no path of its own names, 'Anywhere': of these only reads that "
                      "modules.file.watch names are seen", agent.output())
        for name in (*names, f"{self.folder}/keys/deep/key"):
            self.read(name)
        agent.wait_row("alert", lambda r: r["rule"] == "Keys")
        # Other rules, while the agent runs: what both ask for is watched all the time.
        self.write(rule("One again", f"evt.type in (open, openat) and fd.name in ({names[0]}, {names[1]})"))
        self.reload(agent)
        for name in (*names, f"{self.folder}/keys/deep/key"):
            self.read(name)
        agent.wait_rows("alert", lambda r: r["rule"] == "One again", 1)
        agent.stop()
        rows = agent.rows()
        opens = [r["path"].removeprefix(self.folder + "/") for r in rows if r["type"] == "file.open" and r["pid"] == os.getpid() and r.get("watched")]
        self.assertEqual(opens, ["one", "keys/deep/key", "one", "two"])
        self.assertLedgerExact(rows)

    @common.user_space
    def test_a_file_that_comes_later(self):
        path = f"{self.folder}/later"
        self.write(rule("Later", f"evt.type in (open, openat) and evt.is_open_read = true and fd.name = {path}"))
        agent = self.start()
        with open(path, "w"):
            pass

        def seen():
            self.read(path)
            return agent.rows("alert")
        common.wait_until(seen, 10, "the read of a file that was made while it was watched")

    @common.user_space
    def test_more_than_can_be_watched(self):
        self.write(rule("Many", f"evt.type in (open, openat) and fd.name in ({', '.join(f'{self.folder}/f{i}' for i in range(300))})"))
        agent = self.start(modules="file")
        common.wait_until(lambda: "rules ask for reads of more files than can be watched: " in agent.output(), 10, "the notice")
        with open(f"{self.folder}/f7", "w"):
            pass

        def seen():
            self.read(f"{self.folder}/f7")
            return agent.rows("alert")
        common.wait_until(seen, 10, "a read of one that is watched")
