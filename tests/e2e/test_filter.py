# SPDX-License-Identifier: Apache-2.0
"""filter: only what it names reaches the journal, and all else is counted as filtered, exactly."""
import json
import os
import signal
import subprocess
import tempfile

import cgroups
import common

LOAD = common.load("process")
ID = "5e" * 32


class Filter(common.TestCase):
    def agent(self, *settings, **options):
        agent = common.Agent("exec", settings=settings, **options)
        self.addCleanup(agent.__exit__, None, None, None)
        return agent

    def finish(self, agent, other):
        """All rows, given at least `other` events that must have been left out."""
        agent.stop()
        rows = agent.rows()
        self.assertLedgerExact(rows)
        types = common.ledger(rows)
        self.assertGreaterEqual(sum(types[t]["filtered"] for t in types if t.startswith("process.")), other)
        return [r for r in rows if r["type"].startswith("process.")]

    def count(self, rows, pid, **wanted):
        """Every event of one process is there once."""
        types = sorted(r["type"] for r in rows if r["pid"] == pid)
        self.assertEqual(types, sorted(t for t, n in wanted.items() for _ in range(n)), pid)

    def test_comm(self):
        agent = self.agent("filter.comm=[filtered_in]")
        with tempfile.TemporaryDirectory() as folder:
            named = os.path.join(folder, "filtered_in")
            os.symlink(LOAD, named)
            pids = [common.spawn([named, "exit", "0"]) for _ in range(5)]
            for _ in range(7):
                common.spawn([LOAD, "exit", "0"])
        agent.wait_rows("process.exit", lambda r: r["pid"] in pids, 5)
        rows = self.finish(agent, 21)
        self.assertEqual({r["comm"] for r in rows}, {"filtered_in"})
        for pid in pids:
            self.count(rows, pid, **{"process.exec": 1, "process.exit": 1})

    def test_user(self):
        agent = self.agent("filter.user=[nobody, 34567]")
        pids = [common.spawn([LOAD, "exit", "0"], user=uid) for uid in (65534, 34567)]
        for uid in (0, 34568):
            common.spawn([LOAD, "exit", "0"], user=uid)
        agent.wait_rows("process.exit", lambda r: r["pid"] in pids, 2)
        rows = self.finish(agent, 6)
        execs = [r for r in rows if r["type"] == "process.exec"]
        self.assertEqual(sorted((r["pid"], r["uid"]) for r in execs), sorted(zip(pids, (65534, 34567))))
        self.assertEqual({r["pid"] for r in rows}, set(pids))

    def test_pid_with_all_below(self):
        waiting = subprocess.Popen(["sh", "-c", f"read x; {LOAD} exit 0; sh -c '{LOAD} exit 0; true'; true"],
                                   stdin=subprocess.PIPE)
        agent = self.agent(f"filter.pid=[{waiting.pid}]")
        common.spawn([LOAD, "exit", "0"])
        waiting.communicate(b"\n")
        self.assertEqual(waiting.returncode, 0)
        agent.wait_row("process.exit", lambda r: r["pid"] == waiting.pid)
        rows = self.finish(agent, 3)
        execs = [r for r in rows if r["type"] == "process.exec"]
        self.assertEqual([r["args"][0] for r in execs], [LOAD, "sh", LOAD])
        known = {waiting.pid} | {r["child_pid"] for r in rows if r["type"] == "process.fork"}
        self.assertEqual(len(known), 4)
        self.assertEqual({r["pid"] for r in rows}, known)

    def test_cgroup_with_all_below(self):
        for hierarchy in cgroups.hierarchies():
            with cgroups.made(hierarchy, "sonde-filter/a/b", "sonde-filter/c") as (inner, beside):
                agent = self.agent("filter.cgroup=[/sonde-filter/a]")
                pids = [cgroups.spawn(inner, [LOAD, "exit", "0"]) for _ in range(5)]
                for _ in range(4):
                    cgroups.spawn(beside, [LOAD, "exit", "0"])
                agent.wait_rows("process.exit", lambda r: r["pid"] in pids, 5)
                rows = self.finish(agent, 8)
                self.assertEqual({r["cgroup"] for r in rows}, {"/sonde-filter/a/b"})
                self.assertEqual(sorted(r["pid"] for r in rows if r["type"] == "process.exec"), sorted(pids))

    def test_cgroup_and_container_that_come_later(self):
        hierarchy = cgroups.hierarchies()[0]
        agent = self.agent("filter.cgroup=[/sonde-late]", f"filter.container=[{ID[:12]}]")
        pids = []
        for name in ("sonde-late", "sonde-docker/" + ID, f"sonde-docker/{ID}/below", "sonde-docker/" + "7f" * 32):
            with cgroups.made(hierarchy, name) as (folder,):
                # As a runtime does, which has mounts and more to make between the cgroup and the process in it.
                common.time.sleep(common.bound(0.1))
                pids.append(cgroups.spawn(folder, [LOAD, "exit", "0"]))
        agent.wait_rows("process.exit", lambda r: r["pid"] in pids, 3)
        rows = self.finish(agent, 2)
        self.assertEqual([r["pid"] for r in rows if r["type"] == "process.exec"], pids[:3])
        self.assertEqual([r.get("container") for r in rows if r["type"] == "process.exec"], [None, ID, ID])

    def test_changed_while_it_runs(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            def write(text):
                file.seek(0)
                file.truncate()
                file.write(text)
                file.flush()
            write("filter: {comm: [one]}\n")
            agent = self.agent(arguments=["-c", file.name])
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)

            def run(name):
                path = os.path.join(folder.name, name)
                if not os.path.exists(path):
                    os.symlink(LOAD, path)
                return common.spawn([path, "exit", "0"])

            def reload(text, said):
                seen = agent.output().count(said)
                write(text)
                agent.signal(signal.SIGHUP)
                common.wait_until(lambda: agent.output().count(said) > seen, what=said)
            run("two"), run("one")
            reload("filter: {comm: [two]}\n", "configuration reloaded")
            run("one"), run("two")
            reload("filter: {user: [nobody_of_this_name]}\n", "stays as it was")
            run("one"), run("two")
            reload(f"filter: {{pid: [{os.getpid()}]}}\n", "configuration reloaded")
            run("three")
            reload(f"filter: {{pid: [{os.getpid()}], comm: [four]}}\n", "configuration reloaded")
            run("three"), run("four")
            reload("filter: {}\n", "configuration reloaded")
            last = run("five")
            agent.wait_row("process.exit", lambda r: r["pid"] == last)
            rows = self.finish(agent, 10)
        names = ("one", "two", "three", "four", "five")
        self.assertEqual([r["comm"] for r in rows if r["type"] == "process.exec" and r["comm"] in names],
                         ["one", "two", "two", "three", "four", "five"], json.dumps(rows[-3:]))


if __name__ == "__main__":
    common.unittest.main()
