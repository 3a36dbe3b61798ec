# SPDX-License-Identifier: Apache-2.0
"""Rules in the running agent: what fires, what does not, what an alert says beside what /proc says, folding, reloading, the ledger, and a flood."""
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time

import cgroups
import common

MACROS = """
- macro: spawned
  condition: (evt.type in (execve, execveat) and evt.dir=<)
- list: netcats
  items: [nc, ncat, netcat]
"""


def rule(name, condition, output="%proc.cmdline", **more):
    lines = [f"- rule: {name}", "  desc: says when it is so", f"  condition: {condition}", f'  output: "{output}"', "  priority: WARNING"]
    return "\n".join([*lines, *(f"  {key}: {value}" for key, value in more.items())]) + "\n"


def ancestors(pid):
    """Names of the ancestors of a process, nearest first, as /proc has them."""
    names = []
    while True:
        with open(f"/proc/{pid}/stat") as stat:
            pid = int(stat.read().rpartition(")")[2].split()[1])
        if pid == 0:
            return names
        with open(f"/proc/{pid}/comm") as comm:
            names.append(comm.read().rstrip("\n"))


class Alerts(common.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="sonde-alerts-")
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)
        os.chmod(self.folder, 0o755)

    def file(self, text, name="rules.yaml"):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def name(self):
        with open("/proc/self/comm") as file:
            return file.read().rstrip("\n")

    def program(self, name, of="/bin/sleep"):
        """A copy of a program under another name: its comm."""
        path = os.path.join(self.folder, name)
        with open(of, "rb") as source, open(path, "wb") as target:
            target.write(source.read())
        os.chmod(path, 0o755)
        return path

    def agent(self, *files, settings=(), modules="exec"):
        agent = common.Agent(modules, settings=[f"rules.files=[{','.join(files)}]", *settings])
        self.addCleanup(agent.__exit__, None, None, None)
        return agent

    def refused(self, *settings):
        """An agent that does not start: its status and what it says."""
        argv = [common.SONDE, "run", "--journal", os.path.join(self.folder, "journal"), "--set", "agent.control="]
        for one in settings:
            argv += ["--set", one]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=common.bound(30))
        return done.returncode, done.stderr

    # --- firing and silent ---

    def test_an_alert_says_what_proc_says(self):
        path = self.file(MACROS + rule("Netcat", "spawned and proc.name in (netcats)", tags="[network, T1095]", output=(
            "user=%user.name uid=%user.uid gid=%group.gid group=%group.name pid=%proc.pid ppid=%proc.ppid name=%proc.name pname=%proc.pname "
            "cmd=%proc.cmdline pcmd=%proc.pcmdline exe=%proc.exepath cwd=%proc.cwd sid=%proc.sid g=%proc.aname[2] type=%evt.type res=%evt.res "
            "container=%container.id none=%container.image.repository args=%proc.args first=%proc.args[0]")))
        agent = self.agent(path)
        ncat, other = self.program("ncat"), self.program("nothing")
        common.spawn([other, "0"])
        process = subprocess.Popen([ncat, "30"], cwd="/tmp", start_new_session=False)
        self.addCleanup(process.kill)
        row = agent.wait_row("alert", lambda r: r["pid"] == process.pid)
        with open("/proc/self/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")[:-1]
        comm = self.name()
        user = pwd.getpwuid(os.geteuid()).pw_name
        names = ancestors(process.pid)
        # Some machines hide the first process of all from the kernel's list of tasks.
        above = "<NA>" if len(names) == 2 and row["lineage"] == names[:1] else names[1]
        container = row.get("container", "host")[:12]
        session = os.getsid(0) or "<NA>"  # 0: in no session, or in one of a pid namespace above
        self.assertEqual(row["output"], (
            f"user={user} uid={os.geteuid()} gid={os.getegid()} group=root pid={process.pid} ppid={os.getpid()} name=ncat pname={comm} "
            f"cmd=ncat 30 pcmd={' '.join([comm, *words[1:]])} exe={ncat} cwd=/tmp sid={session} g={above} type=execve res=SUCCESS "
            f"container={container} none=<NA> args=30 first=30"))
        self.assertIn(row["lineage"], (names[:16], names[:-1][:16]))
        self.assertEqual((row["rule"], row["priority"], row["tags"], row["source"], row["desc"]),
                         ("Netcat", "warning", ["network", "T1095"], "syscall", "says when it is so"))
        self.assertEqual((row["comm"], row["tid"], row["event_type"]), ("ncat", process.pid, "process.exec"))
        self.assertNotIn("count", row)
        event = agent.wait_row("process.exec", lambda r: r["pid"] == process.pid and r["comm"] == "ncat")
        self.assertEqual((row["event"], row["event_seq"], row["ts"], row["proc"], row["parent"]),
                         (event, event["seq"], event["ts"], event["proc"], event["parent"]))
        self.assertEqual(event["lineage"], row["lineage"])
        process.kill()
        process.wait()
        agent.stop()
        self.assertEqual([r["comm"] for r in agent.rows("alert")], ["ncat"])
        self.assertGapless(agent.rows())
        self.assertLedgerExact(agent.rows())

    def test_ancestors(self):
        path = self.file(MACROS + rule("Below the shop", "spawned and proc.aname = shop and proc.name = leaf")
                         + rule("Two above", "spawned and proc.aname[2] = shop and proc.pname = middle and proc.name = leaf")
                         + rule("Of another", "spawned and proc.aname = bakery")
                         + rule("Parent's command", "spawned and proc.pcmdline contains 'of the middle' and proc.name = leaf"))
        agent = self.agent(path)
        self.program("shop", "/bin/bash"), self.program("middle", "/bin/bash"), self.program("leaf")
        script = f"{self.folder}/middle -c '{self.folder}/leaf 0; : of the middle'; :"
        common.spawn([os.path.join(self.folder, "shop"), "-c", script])
        common.spawn([os.path.join(self.folder, "leaf"), "0"])
        agent.wait_rows("alert", count=3)
        agent.stop()
        rows = agent.rows("alert")
        self.assertEqual(sorted(r["rule"] for r in rows), ["Below the shop", "Parent's command", "Two above"])
        for row in rows:
            self.assertEqual(row["lineage"][:2], ["middle", "shop"])

    def test_lineage_outlives_its_processes(self):
        agent = self.agent(self.file(MACROS + rule("Leaf", "spawned and proc.name = leaf")))
        self.program("shop", "/bin/bash"), self.program("leaf")
        script = f"( ( /bin/sleep 0.3; exec {self.folder}/leaf 0 ) & )"
        common.spawn([os.path.join(self.folder, "shop"), "-c", script])
        row = agent.wait_row("alert")
        self.assertEqual(row["lineage"][:3], ["shop", "shop", self.name()])

    def test_two_rules_one_event(self):
        agent = self.agent(self.file(MACROS + rule("One", "spawned and proc.name = leaf") + rule("Two", "spawned and proc.exepath endswith /leaf")
                                     + rule("Off", "spawned and proc.name = leaf", enabled="false")))
        common.spawn([self.program("leaf"), "0"])
        rows = agent.wait_rows("alert", count=2)
        self.assertEqual([r["rule"] for r in rows], ["One", "Two"])
        self.assertEqual(rows[0]["event"], rows[1]["event"])

    def test_exit_and_fork_are_events_too(self):
        agent = self.agent(self.file(rule("Ended", "evt.type = procexit and proc.name = leaf", "%proc.cmdline %evt.arg.exit_code")
                                     + rule("Forked", "evt.type in (clone, clone3, fork, vfork) and proc.name = shop", "%evt.type %evt.arg.child_pid")))
        self.program("shop", "/bin/bash"), self.program("leaf", "/bin/bash")
        common.spawn([os.path.join(self.folder, "leaf"), "-c", "exit 3"], status=3)
        common.spawn([os.path.join(self.folder, "shop"), "-c", "/bin/true & wait"])
        ended = agent.wait_row("alert", lambda r: r["rule"] == "Ended")
        self.assertEqual(ended["output"], "leaf -c exit 3 3")
        forked = agent.wait_row("alert", lambda r: r["rule"] == "Forked")
        self.assertEqual(forked["output"], f"clone {forked['event']['child_pid']}")

    def test_all_rules_fire(self):
        """However many there are on one event."""
        many = 300
        agent = self.agent(self.file(MACROS + "".join(rule(f"Rule {i}", "spawned and proc.name = leaf") for i in range(many))),
                           settings=["rings.priority=32MiB"])
        common.spawn([self.program("leaf"), "0"])
        agent.wait_rows("alert", count=many)
        agent.stop()
        rows = agent.rows("alert")
        self.assertEqual([r["rule"] for r in rows], [f"Rule {i}" for i in range(many)])
        self.assertEqual(len({r["event"]["seq"] for r in rows}), 1)
        self.assertLedgerExact(agent.rows())

    def test_what_is_cut_says_so(self):
        """An output over 16 KiB, and one of a folded alert over 1 KiB."""
        agent = self.agent(self.file(MACROS + rule("Long", "spawned and proc.name = leaf and proc.args startswith a", ",".join(["%proc.args"] * 20))
                                     + rule("Whole", "spawned and proc.name = leaf")
                                     + rule("Forks", "evt.type in (clone, clone3, fork, vfork) and proc.name = shop", "%proc.cmdline")))
        leaf, shop = self.program("leaf", "/bin/true"), self.program("shop", "/bin/bash")
        common.spawn([leaf, "a" * 1000])
        common.spawn([leaf, "b" * 1000])
        common.spawn([shop, "-c", f"/bin/true; /bin/true; : {'c' * 2000}; :"])
        agent.wait_rows("alert", count=4)
        agent.stop()
        rows = [r for r in agent.rows("alert")]
        self.assertEqual([(r["rule"], r.get("count"), r.get("truncated")) for r in rows],
                         [("Long", None, True), ("Whole", None, None), ("Whole", None, None), ("Forks", None, None), ("Forks", 1, True)])
        whole = ",".join(["a" * 1000] * 20)
        self.assertTrue(whole.startswith(rows[0]["output"]))
        self.assertGreater(len(rows[0]["output"]), 15 << 10)
        self.assertEqual(len(rows[1]["output"]), len("leaf ") + 1000)
        self.assertEqual(rows[4]["output"], rows[3]["output"][:1024])
        self.assertLedgerExact(agent.rows())

    # --- folding ---

    def test_equal_alerts_are_folded(self):
        agent = self.agent(self.file(rule("Forks", "evt.type in (clone, clone3, fork, vfork) and proc.name = shop", "%evt.arg.child_pid")),
                           settings=["rules.fold=2s"])
        shop = self.program("shop", "/bin/bash")
        common.spawn([shop, "-c", "for i in 1 2 3 4 5 6 7 8; do /bin/true; done; :"])
        rows = agent.wait_rows("alert", count=2)
        agent.stop()
        rows, forks = agent.rows("alert"), [r for r in agent.rows("process.fork") if r["comm"] == "shop"]
        self.assertEqual([r.get("count") for r in rows], [None, len(forks) - 1])
        self.assertEqual(rows[0]["proc"], rows[1]["proc"])
        self.assertEqual((rows[1]["output"], rows[1]["event_seq"]), (str(forks[-1]["child_pid"]), forks[-1]["seq"]))
        self.assertAlmostEqual(rows[1]["ts"], forks[-1]["ts"], delta=10**6)  # the two clocks were compared anew
        self.assertNotIn("event", rows[1])
        self.assertLedgerExact(agent.rows())

    def test_what_is_folded_at_the_end_is_told(self):
        agent = self.agent(self.file(rule("Forks", "evt.type in (clone, clone3, fork, vfork) and proc.name = shop")), settings=["rules.fold=1h"])
        common.spawn([self.program("shop", "/bin/bash"), "-c", "/bin/true; /bin/true; /bin/true; :"])
        agent.wait_rows("process.fork", lambda r: r["comm"] == "shop", 3)
        agent.stop()
        self.assertEqual([r.get("count") for r in agent.rows("alert")], [None, 2])

    def test_nothing_is_folded_where_none_is_wanted(self):
        agent = self.agent(self.file(rule("Forks", "evt.type in (clone, clone3, fork, vfork) and proc.name = shop")), settings=["rules.fold=0s"])
        common.spawn([self.program("shop", "/bin/bash"), "-c", "/bin/true; /bin/true; /bin/true; :"])
        agent.wait_rows("alert", count=3)
        agent.stop()
        self.assertEqual([r.get("count") for r in agent.rows("alert")], [None] * 3)

    # --- files ---

    def test_a_mistake_is_no_start(self):
        path = self.file(MACROS + rule("r", "spawned and proc.nmae = x"))
        code, said = self.refused(f"rules.files=[{path}]")
        self.assertEqual(code, 78)
        self.assertIn(f"{path}:8:26: unknown field 'proc.nmae'; did you mean 'proc.name'?", said)
        check = common.sonde("check", "--offline", "--set", f"rules.files=[{path}]", status=78)
        self.assertIn(f"error  rules: {path}:8:26: unknown field 'proc.nmae'", check.stderr)
        code, said = self.refused("rules.files=[/nonexistent.yaml]")
        self.assertEqual(code, 78)
        self.assertIn("/nonexistent.yaml: cannot be read: No such file or directory", said)

    def test_lenient(self):
        path = self.file(MACROS + rule("r", "spawned and proc.nmae = x") + rule("Leaf", "spawned and proc.name = leaf"))
        agent = self.agent(path, settings=["rules.lenient=true"])
        self.assertIn(f"warning: {path}:8:26: unknown field 'proc.nmae'", agent.output())
        common.spawn([self.program("leaf"), "0"])
        self.assertEqual(agent.wait_row("alert")["rule"], "Leaf")

    def test_reload(self):
        path = self.file(MACROS + rule("Before", "spawned and proc.name = leaf"))
        agent = self.agent(path)
        leaf = self.program("leaf")
        common.spawn([leaf, "0"])
        agent.wait_row("alert", lambda r: r["rule"] == "Before")
        self.file(MACROS + rule("Broken", "spawned and proc.name == "))
        agent.signal(signal.SIGHUP)
        common.wait_until(lambda: "the configuration stays as it was" in agent.output(), what="refusal")
        self.assertRegex(agent.output(), rf"reload: {path}:9:\d+: ")
        common.spawn([leaf, "0"])
        agent.wait_rows("alert", lambda r: r["rule"] == "Before", 2)
        self.file(MACROS + rule("After", "spawned and proc.name = leaf"))
        agent.signal(signal.SIGHUP)
        common.wait_until(lambda: "configuration reloaded" in agent.output(), what="reload")
        common.spawn([leaf, "0"])
        agent.wait_row("alert", lambda r: r["rule"] == "After")
        agent.stop()
        self.assertEqual([r["rule"] for r in agent.rows("alert")], ["Before", "Before", "After"])
        self.assertLedgerExact(agent.rows())

    def test_later_files_are_read_over_earlier_ones(self):
        first = self.file(MACROS + rule("Leaf", "spawned and proc.name = leaf"), "first.yaml")
        second = self.file("- rule: Leaf\n  condition: and proc.args contains 0.\n  override: {condition: append}\n", "second.yaml")
        agent = self.agent(first, second)
        leaf = self.program("leaf")
        common.spawn([leaf, "0"])
        common.spawn([leaf, "0.01"])
        row = agent.wait_row("alert")
        agent.stop()
        self.assertEqual([r["output"] for r in agent.rows("alert")], ["leaf 0.01"])
        self.assertEqual(row["rule"], "Leaf")

    def test_what_no_module_makes_is_said(self):
        path = self.file(MACROS + rule("Leaf", "spawned and proc.name = leaf") + rule("Out", "evt.type = connect and fd.sport = 4444"))
        agent = self.agent(path)
        self.assertIn(f"{path}:11:3: rule 'Out' needs module 'net', which is off", agent.output())
        self.assertNotIn("'Leaf' needs", agent.output())
        config = self.file("modules: {tcp: {enabled: false}, exec: {enabled: true}}\n", "sonde.yaml")
        self.assertIn("rule 'Out' needs module 'net', which is off", common.sonde("rules", "check", "-c", config, path).stderr)
        self.assertNotIn("needs module", common.sonde("rules", "check", path).stderr)

    def test_what_can_never_fire_is_said(self):
        conditions = {"Lacks": "fd.lproto = https", "Lacks both": "(fd.sproto = https or fd.sproto exists)", "Lacks within": "proc.pname = val(proc.stdin.name)",
                      "One is enough": "(fd.lproto = https or proc.name = x)", "Absent": "not fd.lproto = https", "Fires": "proc.name = x"}
        path = self.file(MACROS + "".join(rule(name, f"spawned and {condition}") for name, condition in conditions.items()))
        agent = self.agent(path)
        said = dict(re.findall(r"rule '([^']*)' can never fire: it needs (\S+), which nothing gives yet", agent.output()))
        self.assertEqual(said, {"Lacks": "fd.lproto", "Lacks both": "fd.sproto", "Lacks within": "proc.stdin.name"})

    def test_connections(self):
        agent = self.agent(self.file(rule("Out", "evt.type = connect and fd.sport = 9 and fd.sip = 127.0.0.1 and proc.name = dialer",
                                          "%fd.name %evt.res %fd.l4proto")), modules="exec,tcp")
        dialer = self.program("dialer", "/bin/bash")
        common.spawn([dialer, "-c", "exec 3<>/dev/tcp/127.0.0.1/9 || exit 0"], stderr=subprocess.DEVNULL)
        row = agent.wait_row("alert")
        self.assertRegex(row["output"], r"^127\.0\.0\.1:\d+->127\.0\.0\.1:9 ECONNREFUSED tcp$")
        self.assertEqual(row["event_type"], "tcp.connect")

    # --- where it can be seen ---

    def test_what_a_runtime_wrote_of_its_container(self):
        """The name, image and labels of a container that begins while the agent runs, with its privileges gone."""
        identifier = "5a" * 32
        path = self.file(MACROS + rule("Web", "spawned and container.image.repository = registry.example/team/web and container.label[team] = a and proc.name = leaf",
                                       "%container.name %container.image.tag %container.privileged %k8s.ns.name/%k8s.pod.name %container.type")
                         + rule("Other image", "spawned and container.image.repository = other and proc.name = leaf"))
        agent = self.agent(path)
        leaf = self.program("leaf")
        folder = f"/var/lib/docker/containers/{identifier}"
        above = next(p for p in ("/var/lib/docker", "/var/lib/docker/containers", folder) if not os.path.exists(p))
        os.makedirs(folder, mode=0o700)
        self.addCleanup(shutil.rmtree, above)
        os.chmod(above, 0o700)
        labels = {"team": "a", "io.kubernetes.pod.name": "web-7f", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.container.name": "app"}
        for name, content in (("config.v2.json", {"Name": "/k8s_app", "Config": {"Image": "registry.example/team/web:1.25", "Labels": labels}}),
                              ("hostconfig.json", {"Privileged": False})):
            with open(os.path.join(folder, name), "w") as file:
                json.dump(content, file, separators=(",", ":"))
            os.chmod(file.name, 0o600)
        with contextlib.ExitStack() as stack:
            places = [one for hierarchy in cgroups.hierarchies() for one in stack.enter_context(cgroups.made(hierarchy, f"docker/{identifier}"))]

            def join():
                for place in places:
                    with open(os.path.join(place, "cgroup.procs"), "w") as file:
                        file.write("0")
            subprocess.run([leaf, "0"], preexec_fn=join, check=True)
            row = agent.wait_row("alert")
        agent.stop()
        self.assertEqual(row["output"], "app 1.25 false shop/web-7f docker")
        self.assertEqual([r["rule"] for r in agent.rows("alert")], ["Web"])

    def test_people_see_it(self):
        agent = self.agent(self.file(MACROS + rule("Leaf", "spawned and proc.name = leaf", "a leaf: %proc.cmdline")))
        tap = subprocess.Popen([common.SONDE, "tap", "--journal", agent.journal, "--type", "alert", "-n", "1"], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE)
        self.addCleanup(tap.kill)
        leaf = self.program("leaf")
        deadline = time.monotonic() + common.bound(20)
        while tap.poll() is None and time.monotonic() < deadline:
            common.spawn([leaf, "0"])
            time.sleep(0.1)
        out, err = tap.communicate(timeout=common.bound(10))
        self.assertRegex(out, r"alert.*leaf\[\d+\].*warning Leaf: a leaf: leaf 0", err)

    # --- many ---

    def test_hostile_names(self):
        agent = self.agent(self.file(MACROS + rule("Odd", "spawned and proc.exepath startswith " + self.folder, "%proc.name %proc.args")))
        odd = self.program('a\x1b[31m"b')
        common.spawn([odd, "0"])
        row = agent.wait_row("alert")
        self.assertEqual(row["output"], 'a\\x1B[31m"b 0')

    @common.host_only("its rate is that of a machine of one's own")
    def test_a_flood_with_a_hundred_rules(self):
        """As many programs as this machine begins, against 100 rules: none is lost, and the account is exact."""
        rules = MACROS + "".join(rule(f"Rule {i}", f"spawned and proc.name in (a{i}, b{i}) and not proc.pname in (c{i}) and proc.cmdline contains x{i}")
                                 for i in range(99)) + rule("Last", f"spawned and proc.name = leaf and proc.exepath startswith {self.folder}")
        agent = self.agent(self.file(rules), settings=["rings.priority=32MiB"])
        leaf = self.program("leaf")
        before = agent.cpu_seconds()
        begin = time.monotonic()
        n = common.scaled(10000, 1000)
        subprocess.run(["/bin/bash", "-c", f"for ((i = 0; i < {n}; i++)); do /bin/true; done; {leaf} 0"], check=True, timeout=common.bound(120))
        seconds, cpu = time.monotonic() - begin, agent.cpu_seconds() - before
        agent.wait_row("alert")
        resident = agent.resident_bytes()
        agent.stop()
        rows = agent.rows()
        if not common.SANITIZED:
            self.assertLess(resident, 64 << 20)
        execs = sum(r["type"] == "process.exec" and r["comm"] == "true" for r in rows)
        self.assertGreaterEqual(execs, n)
        self.assertEqual([r["rule"] for r in rows if r["type"] == "alert"], ["Last"])
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        print(f"{n} programs in {seconds:.1f} s; the agent used {cpu:.2f} s of CPU")


if __name__ == "__main__":
    common.unittest.main()
