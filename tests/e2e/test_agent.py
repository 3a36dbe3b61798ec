# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole: its start and end, its ledger, its memory, what a crash leaves, and what it says to bad input."""
import collections
import os
import subprocess
import tempfile

import common

MIB = 1 << 20


class Life(common.TestCase):
    def test_starts_and_ends(self):
        with common.Agent(modules="exec,tcp,cpu") as agent:
            start = agent.rows("agent.start")[-1]
            self.assertEqual(set(start["modules"]), {"exec", "tcp", "cpu"})
            self.assertIn("exec.exec=tp_btf/sched_process_exec", start["hooks"])
            for _ in range(20):
                common.spawn(["/bin/true"])
            agent.wait_rows("process.exit", lambda r: r["comm"] == "true", 20)
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        self.assertEqual([r["type"] for r in rows if r["type"] == "agent.start"], ["agent.start"])
        self.assertEqual(rows[-1]["type"], "agent.ledger")
        self.assertEqual({r["run"] for r in rows}, {start["run"]})

    @common.same_on_every_kernel
    def test_for_ends_by_itself(self):
        agent = common.Agent(modules="exec", arguments=["--for", "2s"])
        with agent:
            self.assertEqual(agent.process.wait(common.bound(30)), 0)
            self.assertLedgerExact(agent.rows())

    def test_memory_is_bounded(self):
        """After a load that fills its tables, agent and worker stay below 64 MiB."""
        if common.SANITIZED:
            return  # a sanitizer's memory is not the agent's
        with common.Agent(modules="exec,tcp,cpu") as agent:
            for _ in range(common.scaled(2000)):
                common.spawn(["/bin/true"])
            self.assertLess(agent.resident_bytes(), 64 * MIB, agent.resident_kib())

    def test_programs_are_there_once(self):
        """Every program of a shell loop: its exec and exit once, with its argument, its code, and the shell as parent."""
        count = common.scaled(500)
        script = f'i=0; while [ $i -lt {count} ]; do sh -c "exit $((i % 7))" mark-$i; i=$((i+1)); done; exit 0'
        with common.Agent(modules="exec") as agent:
            shell = common.spawn(["/bin/sh", "-c", script])
            agent.wait_rows("process.exit", lambda r: r["pid"] == shell)
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        execs = {r["args"][3]: r for r in rows if r["type"] == "process.exec" and len(r["args"]) == 4 and r["args"][3].startswith("mark-")}
        exits = collections.defaultdict(list)
        for r in rows:
            if r["type"] == "process.exit":
                exits[r["proc"]].append(r)
        self.assertEqual(len(execs), count)
        parent = next(r for r in rows if r["type"] == "process.exec" and r["pid"] == shell)["proc"]
        for i in range(count):
            row = execs[f"mark-{i}"]
            self.assertEqual(row["parent"], parent)
            self.assertEqual([e["exit_code"] for e in exits[row["proc"]]], [i % 7])


class Crash(common.TestCase):
    @common.same_on_every_kernel
    def test_killed_and_started_again(self):
        """What was journaled before a SIGKILL is readable after it, gapless in each of the two runs."""
        agent = common.Agent(modules="exec")
        with agent:
            load = subprocess.Popen(["/bin/sh", "-c", "while :; do /bin/true; done"])
            try:
                agent.wait_rows("process.exit", lambda r: r["comm"] == "true", common.scaled(100))
                agent.kill()
                before = agent.rows()
                agent.start()
                agent.wait_rows("process.exit", lambda r: r["run"] != before[0]["run"], 20)
            finally:
                load.kill()
                load.wait()
            agent.stop()
            rows = agent.rows()
        self.assertEqual(rows[:len(before)], before)
        self.assertEqual(len({r["run"] for r in rows}), 2)
        self.assertGapless(rows)

    def test_second_agent_is_refused(self):
        with common.Agent(modules="exec") as agent:
            done = subprocess.run(agent.argv, capture_output=True, text=True, timeout=common.bound(30), stdin=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)


class BadInput(common.TestCase):
    """One clear line each, and the exit status of the contract."""

    def refused(self, status, *arguments, says=""):
        done = common.sonde(*arguments, status=status)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn(says, lines[0])

    def test_configuration(self):
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "sonde.yaml")
            run = ("run", "--for", "1s", "--journal", os.path.join(folder, "journal"))
            for text, says in (("journal: {sise: 1MiB}\n", "size"), ("modules:\n  cpu: {rate: fast}\n", ":2:"),
                               ("modules: [\n", "sonde.yaml:")):
                with open(file, "w") as out:
                    out.write(text)
                self.refused(78, *run, "-c", file, says=says)
                self.refused(78, "check", "--offline", "-c", file, says=says)
            self.refused(78, *run, "-c", os.path.join(folder, "absent.yaml"), says="absent.yaml")
            self.refused(78, *run, "--set", "sinks.kafka.brokres=x", says="brokers")

    def test_journal(self):
        self.refused(1, "cat", "/nonexistent/journal", says="/nonexistent/journal")
        with tempfile.NamedTemporaryFile() as file:
            self.refused(1, "cat", file.name, says=file.name)

    def test_usage(self):
        for words in (("no-such-command",), ("cat", "--no-such-option"), ("tap", "--format", "xml")):
            done = common.sonde(*words, status=2)
            self.assertTrue(done.stderr.strip(), words)

    def test_no_root(self):
        if os.getuid():
            return
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            argv = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all", common.SONDE, "run", "--for", "1s", "--journal",
                    os.path.join(folder, "journal")]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=common.bound(30), stdin=subprocess.DEVNULL)
            self.assertIn(done.returncode, (1, 78), done.stderr)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
