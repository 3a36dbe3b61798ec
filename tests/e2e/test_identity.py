# SPDX-License-Identifier: Apache-2.0
"""proc, parent, container and cgroup: each execution has one name, the same in all its events, and a known forker."""
import collections
import os
import socket
import subprocess
import threading

import cgroups
import common

LOAD = common.load("process")
ID = "0123456789abcdef" * 4
# How runtimes name the cgroup of a container.
LAYOUTS = {
    "docker/{}": "docker, cgroupfs",
    "system.slice/docker-{}.scope": "docker, systemd",
    "kubepods/burstable/pod0f8c7a3e-90b6-4a3c-8f5e-1c2d3e4f5a6b/{}": "containerd, cgroupfs",
    "kubepods.slice/kubepods-pod0f8c7a3e_90b6_4a3c_8f5e_1c2d3e4f5a6b.slice/cri-containerd-{}.scope": "containerd, systemd",
    "kubepods.slice/kubepods-besteffort.slice/crio-{}.scope": "CRI-O",
    "machine.slice/libpod-{}.scope": "podman",
    "machine.slice/libpod-{}.scope/container": "podman, below",
}
CLONE_PARENT, CLONE_VFORK, CLONE_VM = 0x8000, 0x4000, 0x100
WALL = 0x40000000


class Identity(common.TestCase):
    def setUp(self):
        self.agent = common.Agent("exec,tcp")
        self.addCleanup(self.agent.__exit__, None, None, None)

    def printed(self, *words):
        """Pids that the load prints, and its own."""
        process = subprocess.Popen([LOAD, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        out = process.communicate(timeout=common.bound(60))[0]
        return process.pid, [int(w) for w in out.split()]

    def exit_of(self, pid):
        return self.agent.wait_row("process.exit", lambda r: r["pid"] == pid)

    def of(self, pid, type="process.*"):
        return [r for r in self.agent.rows(type) if r["pid"] == pid]

    def fork_of(self, pid):
        return self.agent.wait_row("process.fork", lambda r: r["child_pid"] == pid)

    def test_one_name_for_each_execution(self):
        """sh becomes another program twice: three names of one pid, each with all its events."""
        pid = common.spawn(["sh", "-c", f"exec sh -c '{LOAD} exit 0; exec {LOAD} exit 0'"])
        end = self.exit_of(pid)
        rows = self.of(pid)
        self.assertEqual([r["type"] for r in rows], ["process.exec", "process.exec", "process.fork", "process.exec",
                                                     "process.exit"])
        first, second, fork, third = (r["proc"] for r in rows[:4])
        self.assertEqual(len({first, second, third}), 3)
        self.assertEqual((fork, end["proc"]), (second, third))
        self.assertEqual(len({r["parent"] for r in rows}), 1)
        begin = self.fork_of(pid)
        self.assertEqual((begin["pid"], begin["proc"]), (os.getpid(), end["parent"]))
        child = self.of(rows[2]["child_pid"])
        self.assertEqual([(r["type"], r["parent"]) for r in child], [("process.exec", second), ("process.exit", second)])
        self.assertNotEqual(child[0]["proc"], rows[2]["child_proc"])

    @common.same_on_every_kernel
    def test_child_that_runs_no_program(self):
        own, (child,) = self.printed("clone", 0)
        end = self.exit_of(child)
        fork = self.fork_of(child)
        self.assertEqual((end["proc"], end["parent"], end["exit_code"]), (fork["child_proc"], self.of(own)[0]["proc"], 7))
        self.assertEqual(fork["flags"] & 0xffffff00, 0)

    def test_clone_flags(self):
        own, (child,) = self.printed("vfork", "/bin/true")
        self.assertEqual(self.fork_of(child)["flags"] & (CLONE_VM | CLONE_VFORK), CLONE_VM | CLONE_VFORK)
        self.assertEqual(self.exit_of(child)["parent"], self.exit_of(own)["proc"])

    def test_clone_parent(self):
        """The child's parent in ps is our own; the execution that forked it is the load's."""
        own, (child,) = self.printed("clone", CLONE_PARENT)
        self.assertTrue(self.fork_of(child)["flags"] & CLONE_PARENT)
        self.assertEqual(self.exit_of(child)["parent"], self.exit_of(own)["proc"])
        os.waitpid(child, WALL)

    @common.same_on_every_kernel
    def test_parent_that_ended_first(self):
        own, (middle, child) = self.printed("orphan", "/bin/true")
        end = self.exit_of(child)
        between = self.exit_of(middle)
        self.assertEqual(end["parent"], between["proc"])
        self.assertEqual(between["parent"], self.exit_of(own)["proc"])
        self.assertLess(between["ts"], [r for r in self.of(child) if r["type"] == "process.exec"][0]["ts"])

    @common.same_on_every_kernel
    def test_parent_that_became_another_program(self):
        own, (child,) = self.printed("forked-exec", "/bin/true")
        end = self.exit_of(child)
        before, after = [r for r in self.of(own) if r["type"] == "process.exec"]
        self.assertEqual(end["exit_code"], 5)
        self.assertEqual(end["parent"], before["proc"])
        self.assertNotEqual(before["proc"], after["proc"])

    @common.same_on_every_kernel
    def test_pid_used_again(self):
        names = set()
        wanted = 0
        for _ in range(20):
            own, pids = self.printed("clone", 0, wanted, LOAD, "exit", 3)
            if not pids:
                continue # taken meanwhile by somebody else
            wanted = pids[0]
            end = self.agent.wait_row("process.exit", lambda r: r["pid"] == wanted and r["proc"] not in names)
            fork = [r for r in self.agent.rows("process.fork") if r["child_pid"] == wanted][-1]
            self.assertEqual(end["parent"], fork["proc"])
            names.add(end["proc"])
        self.assertGreaterEqual(len(names), 10)
        execs = [r for r in self.agent.rows("process.exec") if r["pid"] == wanted]
        self.assertEqual({r["proc"] for r in execs if r["args"][0] == LOAD}, names)

    def test_pid_namespace(self):
        process = subprocess.Popen(["unshare", "-p", "-f", "sh", "-c", f"{LOAD} exit 0; true"], stdin=subprocess.DEVNULL)
        process.wait(common.bound(30))
        self.exit_of(process.pid)
        rows = self.agent.rows("process.*")
        inner = [r for r in rows if r["type"] == "process.fork" and r["pid"] == process.pid][0]
        shell = [r for r in rows if r["pid"] == inner["child_pid"]]
        self.assertEqual([r["type"] for r in shell], ["process.exec", "process.fork", "process.exit"])
        self.assertEqual((shell[0]["ns_pid"], shell[0]["parent"]), (1, inner["proc"]))
        leaf = [r for r in rows if r["pid"] == shell[1]["child_pid"]]
        self.assertEqual({r["parent"] for r in leaf}, {shell[0]["proc"]})

    def test_connections_have_their_execution(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            process = subprocess.Popen(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}; read x <&3"],
                                       stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            server.accept()[0].close()
            process.wait(common.bound(30))
        ours = self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        connect = self.agent.wait_row("tcp.connect", lambda r: r["rport"] == port)
        self.assertEqual((connect["pid"], connect["proc"], connect["parent"]), (process.pid, ours["proc"], ours["parent"]))
        accept = self.agent.wait_row("tcp.accept", lambda r: r["lport"] == port)
        self.assertEqual((accept["pid"], accept["proc"]), (os.getpid(), ours["parent"]))

    @common.same_on_every_kernel
    def test_threads_share_the_name(self):
        rows = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]

            def connect():
                socket.create_connection(("127.0.0.1", port)).close()
            for _ in range(3):
                thread = threading.Thread(target=connect)
                thread.start()
                server.accept()[0].close()
                thread.join()
            rows = self.agent.wait_rows("tcp.connect", lambda r: r["rport"] == port, 3)
        pid = common.spawn(["/bin/true"])
        self.assertEqual({r["proc"] for r in rows}, {self.exit_of(pid)["parent"]})
        self.assertEqual({r["pid"] for r in rows}, {os.getpid()})
        self.assertNotIn(os.getpid(), {r["tid"] for r in rows})

    def test_older_processes_and_another_run(self):
        """What ran before the agent has its name from the first event on, and keeps it in the next run of the agent."""
        old = subprocess.Popen(["sh", "-c", f"while read x; do {LOAD} exit 0; done"], stdin=subprocess.PIPE)
        try:
            names = []
            for _ in range(2):
                self.agent.stop()
                self.agent.start()
                start = self.agent.rows("agent.start")[-1]
                old.stdin.write(b"\n")
                old.stdin.flush()
                fork = self.agent.wait_row("process.fork", lambda r: r["pid"] == old.pid and r["run"] == start["run"])
                end = self.exit_of(fork["child_pid"])
                self.assertEqual(end["parent"], fork["proc"])
                names.append((fork["proc"], fork["parent"]))
            common.spawn([LOAD, "exit", "0"])
            own = [r for r in self.agent.wait_rows("process.fork", lambda r: r["pid"] == os.getpid())][-1]["proc"]
        finally:
            old.communicate()
        self.assertEqual(names[0], names[1])
        self.assertEqual(names[0][1], own)
        self.assertEqual(self.exit_of(old.pid)["proc"], names[0][0])

    @common.same_on_every_kernel
    def test_names_are_unique_and_parents_known(self):
        count = common.scaled(300, 60)
        common.spawn(["sh", "-c", f"i=0; while [ $i -lt {count} ]; do {LOAD} exit 0; ({LOAD} exit 0); i=$((i+1)); done"])
        self.agent.stop()
        rows = self.agent.rows("process.*")
        execs = [r for r in rows if r["type"] == "process.exec"]
        self.assertGreaterEqual(len(execs), 2 * count)
        self.assertEqual(len({r["proc"] for r in execs}), len(execs))
        ends = collections.Counter(r["proc"] for r in rows if r["type"] == "process.exit")
        self.assertEqual(set(ends.values()), {1})
        parents = collections.defaultdict(set)
        for row in rows:
            self.assertRegex(row["proc"], "^[0-9a-f]{16}$")
            parents[row["proc"]].add(row["parent"])
        self.assertEqual([p for p in parents.values() if len(p) > 1], [])
        known = set(parents) | {r["child_proc"] for r in rows if r["type"] == "process.fork"}
        self.assertEqual([r for r in execs if r["args"][0] == LOAD and r["parent"] not in known], [])
        self.assertLedgerExact(self.agent.rows())

    def test_containers(self):
        for hierarchy in cgroups.hierarchies():
            for number, layout in enumerate(LAYOUTS):
                name = layout.format(f"{number:02x}" + ID[2:])
                with cgroups.made(hierarchy, name) as (folder,):
                    pid = cgroups.spawn(folder, [LOAD, "exit", "0"])
                rows = self.agent.wait_rows("process.exit", lambda r: r["pid"] == pid) + self.of(pid, "process.exec")
                for row in rows:
                    self.assertEqual((row["cgroup"], row.get("container")), ("/" + name, f"{number:02x}" + ID[2:]),
                                     LAYOUTS[layout])

    def test_cgroups_of_a_moment(self):
        """Made, used for one short process, removed, a hundred times: each is named."""
        hierarchy = cgroups.hierarchies()[0]
        pids = {}
        for i in range(common.scaled(100, 20)):
            with cgroups.made(hierarchy, f"sonde-moment-{i}") as (folder,):
                pids[cgroups.spawn(folder, [LOAD, "exit", "0"])] = f"/sonde-moment-{i}"
        self.agent.stop()
        rows = [r for r in self.agent.rows("process.exit") if r["pid"] in pids]
        self.assertEqual({r["pid"]: r["cgroup"] for r in rows}, pids)

    @common.same_on_every_kernel
    def test_cgroup_renamed(self):
        old = [h for h in cgroups.hierarchies() if not os.path.exists(os.path.join(h, "cgroup.controllers"))]
        for hierarchy in old: # only v1 can rename; there is none where v2 is all
            with cgroups.made(hierarchy, "sonde-before/below") as (folder,):
                before = cgroups.spawn(folder, [LOAD, "exit", "0"])
                self.exit_of(before)
                after = os.path.join(hierarchy, "sonde-after")
                os.rename(os.path.dirname(folder), after)
                try:
                    pid = cgroups.spawn(os.path.join(after, "below"), [LOAD, "exit", "0"])
                finally:
                    os.rename(after, os.path.dirname(folder))
            self.assertEqual(self.exit_of(before)["cgroup"], "/sonde-before/below")
            self.assertEqual(self.exit_of(pid)["cgroup"], "/sonde-after/below")


if __name__ == "__main__":
    common.unittest.main()
