# SPDX-License-Identifier: Apache-2.0
"""What the agent keeps of its privileges, what it leaves behind, and what it says when it cannot run."""
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import tempfile

import common

# linux/capability.h: CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYSLOG, CAP_PERFMON, CAP_BPF, CAP_CHECKPOINT_RESTORE
KEPT = sum(1 << bit for bit in (2, 19, 34, 38, 39, 40))
CAP_SYS_ADMIN, CAP_PERFMON = 1 << 21, 1 << 38


def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def tasks(pid):
    return [f"{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task")]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def alive(pid):
    try:
        return status(pid)["State"][0] not in "ZX"
    except FileNotFoundError:
        return False


class Privileges(common.TestCase):
    def test_what_is_kept(self):
        with common.Agent("exec,cpu,tcp", {"sinks.kafka.enabled": "true", "sinks.kafka.brokers": "127.0.0.1:1",
                                           "sinks.kafka.flush_timeout": "100ms", "agent.listen": f"127.0.0.1:{free_port()}"}) as agent:
            common.wait_until(lambda: status(agent.pid)["Seccomp"] == "2", 10, "seccomp")
            threads = tasks(agent.pid)
            self.assertGreater(len(threads), 1)
            for task in threads:
                s = status(task)
                for kind in ("CapEff", "CapPrm", "CapBnd"):
                    self.assertEqual(int(s[kind], 16) & ~KEPT, 0, f"{kind} of {s['Name']}")
                self.assertEqual((int(s["CapInh"], 16), int(s["CapAmb"], 16)), (0, 0))
                self.assertEqual((s["NoNewPrivs"], s["Seccomp"]), ("1", "2"), s["Name"])
            children = [p for p in agent.processes() if p != agent.pid]
            with open("/proc/sys/kernel/perf_event_paranoid") as file:
                strict = int(file.read()) > 2
            self.assertEqual([status(p)["Name"] for p in children].count("sonde-perf"), strict)
            for pid in children:
                s = status(pid)
                opener = s["Name"] == "sonde-perf"  # where the kernel lets only CAP_SYS_ADMIN open perf events
                kept = CAP_SYS_ADMIN | CAP_PERFMON if opener else 0
                self.assertEqual([int(s[k], 16) for k in ("CapEff", "CapPrm", "CapInh", "CapAmb")], [kept, kept, 0, 0])
                self.assertEqual((s["NoNewPrivs"], s["Seccomp"]), ("1", "2"))
                self.assertEqual(set(s["Uid"].split()), {"0" if opener else str(pwd.getpwnam("nobody").pw_uid)})
                sockets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
                self.assertTrue(all(t == "/dev/null" or t.startswith(("socket:", "anon_inode:")) or t.startswith("/") for t in sockets))

    @common.host_only("it makes a user")
    def test_it_becomes_its_user(self):
        name, journal = common.temporary_user(self)
        uid = str(pwd.getpwnam(name).pw_uid)
        for _ in range(2):  # the second run goes on with a journal that is the user's
            with common.Agent("exec,cpu,tcp", {"agent.user": name, "agent.window": "500ms"}, journal=journal) as agent:
                self.assertEqual(set(status(agent.pid)["Uid"].split()), {uid})
                self.assertEqual(set(status(agent.pid)["Gid"].split()), {str(pwd.getpwnam(name).pw_gid)})
                self.assertEqual(status(agent.pid)["Groups"].strip(), "")
                for pid in agent.processes():
                    self.assertTrue(pid == agent.pid or set(status(pid)["Uid"].split()) != {uid})
                child = common.spawn(["/bin/true"])
                agent.wait_row("process.exec", lambda r: r["pid"] == child)
                agent.wait_row("profile.cpu", lambda r: any("[k]" not in f and "+0x" in f for f in r["stack"]))
                self.assertEqual(os.stat(journal).st_uid, int(uid))
        self.assertGapless(common.cat(journal))

    def test_it_stays_where_there_is_no_such_user(self):
        with common.Agent("exec", {"agent.user": "nobody-has-this-name"}) as agent:
            self.assertEqual(set(status(agent.pid)["Uid"].split()), {str(os.getuid())})
            self.assertIn("there is no user 'nobody-has-this-name'", agent.output())
        said = common.sonde("check", "--offline", "--set", "agent.user=nobody-has-this-name").stdout
        self.assertIn("there is no 'nobody-has-this-name'", said)

    @common.user_space
    def test_a_response_needs_its_rights(self):
        """A kill of another user's process takes CAP_KILL: without it `check` says so."""
        rule = "{rule: Killed, desc: d, condition: evt.type = execve and proc.name = nobody-has-this-name, output: o, priority: INFO}"
        with tempfile.TemporaryDirectory() as folder:
            rules = os.path.join(folder, "rules.yaml")
            with open(rules, "w") as file:
                file.write(f"- {rule}\n")
            asked = {"rules.files": f"[{rules}]", "rules.responses": "{Killed: kill}"}
            arguments = [word for key, value in asked.items() for word in ("--set", f"{key}={value}")]
            for kept, expected in (("-kill", 1), ("+kill", 0)):
                done = subprocess.run(["setpriv", f"--bounding-set={kept}", common.SONDE, "check", "--offline", *arguments], capture_output=True, text=True,
                                      stdin=subprocess.DEVNULL, timeout=common.bound(30))
                self.assertEqual((done.returncode, "lacks cap_kill;" in done.stderr), (expected, bool(expected)), done.stderr)


class Ends(common.TestCase):
    def test_nothing_survives(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            with common.Agent("exec,cpu") as agent:
                family = [p for p in agent.processes() if p != agent.pid]
                self.assertGreaterEqual(len(family), 2)
                agent.signal(number)
                self.assertEqual(agent.process.wait(common.bound(20)), -9 if number == signal.SIGKILL else 0)
                common.wait_until(lambda: not any(alive(p) for p in family), 10, "the end of the stack worker and its keeper")

    @common.same_on_every_kernel
    def test_a_killed_worker_is_replaced(self):
        with common.Agent("exec,cpu", {"agent.window": "500ms"}) as agent:
            def worker():
                return json.loads(common.sonde("stats", "--json", "--set", f"agent.control={agent.control}").stdout)["worker"]["pid"]
            first = common.wait_until(worker, 10, "a worker")
            os.kill(first, signal.SIGKILL)
            common.wait_until(lambda: worker() not in (0, first), 15, "another worker")

    @common.host_only("bpftool is not there")
    def test_twenty_times(self):
        """Started and stopped twenty times: no program, map or link is left in the kernel; and how long each start took."""
        before, starts = kernel_objects(), []
        with tempfile.TemporaryDirectory() as folder:
            for i in range(20):
                with common.Agent("exec,tcp,cpu" if i % 4 == 0 else "exec,tcp", journal=os.path.join(folder, "journal")) as agent:
                    starts.append(agent.rows("agent.start")[-1]["attach_ns"] / 1e6)
        common.wait_until(lambda: not kernel_objects() - before, 10, "the end of every program and map")
        print(f"attached in {min(starts):.0f} to {max(starts):.0f} ms, median {sorted(starts)[10]:.0f} ", end="")


def kernel_objects():
    """Names and ids of sonde's programs, maps and links: those that carry its names, whoever else uses BPF here."""
    out = set()
    for kind in ("prog", "map", "link"):
        for one in json.loads(subprocess.run(["bpftool", "-j", kind, "list"], capture_output=True, check=True).stdout):
            out.add((kind, one["id"], one.get("name", "")))
    return {o for o in out if o[0] == "link" or re.search(r"sonde|__tp|tcp|exec|cpu|cgroup", o[2])}


class Refusals(common.TestCase):
    """One clear line and the right status."""

    def refused(self, expected, argv, says):
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=common.bound(30))
        lines = [line for line in done.stderr.strip().splitlines() if "running as uid" not in line]  # as the agent says where there is no user sonde
        self.assertEqual(done.returncode, expected, done.stderr)
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertRegex(lines[0], says)
        return lines[0]

    def run_argv(self, *more):
        folder = tempfile.mkdtemp(prefix="sonde-refused-")
        self.addCleanup(subprocess.run, ["rm", "-rf", folder])
        return [common.SONDE, "run", "--for", "1s", "--journal", os.path.join(folder, "journal"),
                "--set", f"agent.control={folder}/control", *more]

    @common.same_on_every_kernel
    def test_settings(self):
        for one, says in (("modules.exce.enabled=true", "exec"), ("modules.cpu.rate=fast", "modules.cpu.rate"), ("modules.cpu.rate=0", "1 to 999"),
                          ("rings.priority=5000", "rings.priority"), ("journal.size=1", "journal.size"), ("sinks.kafka.key=pid", "host_module"),
                          ("nonsense", "nonsense"), ("host=${env:SONDE_IS_NOT_SET}", "SONDE_IS_NOT_SET")):
            self.refused(78, self.run_argv("--set", one), re.escape(says))
        self.refused(78, self.run_argv("--set", "sinks.kafka.enabled=true", "--set", "sinks.kafka.options={acks: 0}"), "acks")

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            self.refused(78, self.run_argv("-c", os.path.join(folder, "absent")), "absent")
            self.refused(78, self.run_argv("-c", folder), re.escape(folder))
            not_folder = os.path.join(folder, "file")
            with open(not_folder, "w"):
                pass
            argv = self.run_argv()
            argv[argv.index("--journal") + 1] = not_folder
            self.refused(1, argv, re.escape(not_folder))

    @common.same_on_every_kernel
    def test_ports_and_sockets(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.refused(1, self.run_argv("--set", f"agent.listen=127.0.0.1:{taken.getsockname()[1]}"), "listen|in use")
        for wrong in ("127.0.0.1:99999", "nowhere", "127.0.0.1"):
            self.refused(78, self.run_argv("--set", f"agent.listen={wrong}"), "agent.listen")

    @common.same_on_every_kernel
    def test_another_agents_socket(self):
        """It is said, and the second agent runs without one; the first keeps answering."""
        with common.Agent("exec") as first, common.Agent("exec", {"agent.control": first.control}) as second:
            common.wait_until(lambda: "another agent answers" in second.output(), 5, "word of the other agent")
            second.stop()
            common.sonde("stats", "--set", f"agent.control={first.control}")

    def test_another_agents_journal(self):
        with common.Agent("exec") as agent:
            argv = self.run_argv()
            argv[argv.index("--journal") + 1] = agent.journal
            self.refused(1, argv, f"another agent.*{agent.pid}")

    @common.host_only("it needs a mount namespace of its own")
    def test_no_btf(self):
        argv = ["unshare", "--mount", "sh", "-c", 'mkdir -p "$0" && mount --bind "$0" /sys/kernel/btf && shift 0 && exec "$@"']
        with tempfile.TemporaryDirectory() as empty:
            self.refused(1, [*argv, empty, *self.run_argv()], "BTF")

    def test_questions(self):
        with tempfile.TemporaryDirectory() as folder:
            for words in (("cat", folder, "--where", "pid = "), ("cat", folder, "--since", "yesterdayish"), ("cat", folder, "--format", "xml"),
                          ("cat", folder, "-n"), ("tap", "--type"), ("catt",), ("run", "--for", "soon"), ("schema", "--format", "yaml")):
                done = common.sonde(*words, status=2)
                self.assertTrue(1 <= len(done.stderr.strip().splitlines()) <= 3, done.stderr)
            self.refused(1, [common.SONDE, "stats", "--set", f"agent.control={folder}/none"], "no agent|none")

    @common.same_on_every_kernel
    def test_a_journal_of_garbage(self):
        """Whatever lies in the folder: the agent starts, and what it then writes is read."""
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            with common.Agent("exec", journal=journal) as agent:
                agent.stop()
            for name in os.listdir(journal):
                path = os.path.join(journal, name)
                if name != "lock":
                    with open(path, "r+b") as file:
                        file.write(os.urandom(min(os.path.getsize(path), 1 << 20)))
            with open(os.path.join(journal, "0" * 16 + ".seg"), "wb") as file:
                file.write(os.urandom(12345))
            argv = [common.SONDE, "run", "--for", "1s", "--journal", journal, "--set", f"agent.control={folder}/control"]
            done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=common.bound(30))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(len([line for line in done.stderr.splitlines() if "damaged" in line]), 1, done.stderr)
            self.assertTrue([r for r in common.cat(journal) if r["type"] == "agent.start"])


if __name__ == "__main__":
    common.unittest.main()
