# SPDX-License-Identifier: Apache-2.0
"""Responses: what a rule asks for is done to those it fires on, to nobody else, and each is told."""
import collections
import errno
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import common

KILLED = -signal.SIGKILL
OPEN = "evt.type in (open, openat, openat2)"
EXEC = "evt.type in (execve, execveat)"
# Says on each line what becomes of a connect over each of TCP and UDP, IPv4 and IPv6, once a line is read.
CONNECTS = r"""
import os, socket, sys
def tries():
    said = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as s:
                try:
                    s.connect((address, 9))
                    said.append("ok")
                except OSError as error:
                    said.append("ok" if isinstance(error, ConnectionRefusedError) else type(error).__name__)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.sendto(b"x", ("127.0.0.1", 9))
            said.append("ok")
        except OSError as error:
            said.append("ok" if isinstance(error, ConnectionRefusedError) else type(error).__name__)
    return " ".join(said)
def talk(who):
    os.write(1, f"{who} {tries()}\n".encode())
child = os.fork()
for line in sys.stdin if child else ():
    pass
if not child:
    r = os.open(sys.argv[2], os.O_RDONLY)
    os.read(r, 1)
    talk("older child")
    os._exit(0)
"""


def rule(name, condition):
    return f"- rule: {name}\n  desc: d\n  condition: {condition}\n  output: fired on %proc.name\n  priority: WARNING\n"


class Response(common.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="sonde-response-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)
        self.rules = os.path.join(self.folder, "rules.yaml")

    def program(self, name, of="dd"):
        """A copy of a program under a name of its own; not of one that asks what it is called, as those of busybox do."""
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(os.path.realpath(shutil.which(of, path="/usr/bin:/bin:/usr/sbin:/sbin")), path)
        return path

    def write(self, rules):
        with open(self.rules, "w") as file:
            file.write("".join(rule(name, condition) for name, condition in rules.items()))

    def agent(self, rules, responses, modules="exec", settings=(), **options):
        self.write(rules)
        said = ", ".join(f'{name}: "{actions}"' for name, actions in responses.items())
        return common.Agent(modules=modules, settings=[f"rules.files=[{self.rules}]", f"rules.responses={{{said}}}", "rules.fold=0s",
                                                       "rules.kill_rate=100000", *settings], **options)

    def run_one(self, argv, **options):
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=common.bound(60), **options).returncode

    def may_kill(self, pid):
        """Whether it has CAP_KILL."""
        with open(f"/proc/{pid}/status") as status:
            return bool(int(next(line for line in status if line.startswith("CapEff")).split()[1], 16) >> 5 & 1)

    def check(self, rows):
        self.assertGapless(rows)
        self.assertLedgerExact(rows)

    def of(self, rows, kind):
        return [r for r in rows if r["type"] == kind]

    # --- kill ---

    def test_a_forbidden_program_is_killed_before_its_first_instruction(self):
        bad, good = self.program("bad/tool"), self.program("good/tool")
        tries = common.scaled(200, 60)
        with self.agent({"Forbidden": f"{EXEC} and proc.exepath startswith {self.folder}/bad/"}, {"Forbidden": "kill"}) as agent:
            for i in range(tries):
                mark = os.path.join(self.folder, f"mark{i}")
                self.assertEqual(self.run_one([bad, "if=/dev/null", f"of={mark}"]), KILLED)
                self.assertFalse(os.path.exists(mark), "it ran")
                if i % 10 == 0:
                    self.assertEqual(self.run_one([good, "if=/dev/null", f"of={mark}"]), 0)
                    self.assertTrue(os.path.exists(mark))
            agent.wait_rows("response.action", count=tries)
            agent.wait_rows("alert", count=tries)
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        actions = self.of(rows, "response.action")
        self.assertEqual(len(actions), tries)
        for r in actions:
            self.assertEqual((r["action"], r["rule"], r["kernel"], r["event_type"], r["comm"]), ("kill", "Forbidden", True, "process.exec", "tool"))
            self.assertNotIn("error", r)
        self.assertEqual({r["proc"] for r in actions}, {r["proc"] for r in self.of(rows, "alert")})
        ended = {r["proc"]: r.get("signal") for r in self.of(rows, "process.exit")}
        self.assertEqual({ended[r["proc"]] for r in actions}, {9})

    def test_the_kernel_needs_neither_the_agent_nor_room_in_the_ring(self):
        bad, good = self.program("bad/tool"), self.program("good/tool")
        with self.agent({"Forbidden": f"{EXEC} and proc.exepath startswith {self.folder}/bad/"}, {"Forbidden": "kill"},
                        settings=["rings.priority=4KiB"]) as agent:
            agent.signal(signal.SIGSTOP)
            for i in range(60):
                mark = os.path.join(self.folder, f"mark{i}")
                self.assertEqual(self.run_one([good if i % 2 else bad, "if=/dev/null", f"of={mark}"]), 0 if i % 2 else KILLED)
                self.assertEqual(os.path.exists(mark), bool(i % 2))
            agent.signal(signal.SIGCONT)
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        # What was not said is counted.
        notes = common.ledger(rows)["guard.note"]
        self.assertEqual(notes["produced"], 30)
        self.assertGreater(notes["dropped"]["ring_full"], 0)

    @common.same_on_every_kernel
    def test_a_link_that_changes_meanwhile_fools_nobody(self):
        """A thread turns a link between a forbidden program and a permitted one: who ran was permitted, and who was killed was not."""
        bad, good, link = self.program("bad/tool", "true"), self.program("good/tool", "true"), os.path.join(self.folder, "link")
        os.symlink(good, link)
        ends, going = {}, True

        def turn():
            i = 0
            while going:
                i += 1
                os.symlink((bad, good)[i % 2], f"{link}.new")
                os.rename(f"{link}.new", link)
        with self.agent({"Forbidden": f"{EXEC} and proc.exepath = {bad}"}, {"Forbidden": "kill"}, settings=["rings.priority=16MiB"]) as agent:
            thread = threading.Thread(target=turn)
            thread.start()
            try:
                for _ in range(common.scaled(3000, 100)):
                    pid = os.posix_spawn(link, [good], os.environ)
                    ends[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            finally:
                going = False
                thread.join()
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        begun = {r["pid"]: r["exe"] for r in self.of(rows, "process.exec") if r["pid"] in ends}
        self.assertEqual({pid: KILLED if exe == bad else 0 for pid, exe in begun.items()}, ends)
        self.assertEqual(set(ends.values()), {0, KILLED})

    @common.same_on_every_kernel
    def test_the_kernel_decides_as_user_space_does(self):
        """Rules of each kind of test, and programs that differ in each: killed in the kernel exactly where the alert fires."""
        conditions = {
            "name": "proc.name in (alpha, beta)",
            "not name": "not proc.name in (alpha, beta, gamma, delta) and proc.exepath startswith {f}/a/",
            "exe": "proc.exepath in ({f}/a/gamma, {f}/b/deep/er/gamma)",
            "below": "proc.exepath startswith {f}/b/ and proc.name != delta",
            "uid": "user.uid = 65534 and proc.name = delta",
            "or": "(proc.name = epsilon or proc.exepath = {f}/c/zeta) and not user.uid in (0, 1)",
        }
        programs = [self.program(p) for p in ("a/alpha", "a/gamma", "a/delta", "a/other", "b/beta", "b/delta", "b/deep/er/gamma", "bb/x", "b2/gamma",
                                              "c/zeta", "c/epsilon", "c/eta", "c/" + "d" * 200 + "/" + "e" * 100 + "/alpha")]
        for name, condition in conditions.items():
            with self.subTest(name):
                condition = condition.format(f=self.folder)
                with self.agent({"Some": f"{EXEC} and {condition}"}, {"Some": "kill"}) as agent:
                    self.assertIn("in the kernel", common.sonde("rules", "explain", self.rules).stdout)
                    killed, all_pids = set(), set()
                    for program in programs:
                        for user in (0, 65534):
                            process = subprocess.Popen([program, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                                       stderr=subprocess.DEVNULL, user=user)
                            all_pids.add(process.pid)
                            if process.wait(common.bound(60)) == KILLED:
                                killed.add(process.pid)
                    agent.stop()
                    rows = agent.rows()
                self.check(rows)
                self.assertEqual(killed, {r["pid"] for r in self.of(rows, "alert") if r["pid"] in all_pids})
                self.assertEqual({r["pid"] for r in self.of(rows, "response.action") if r.get("kernel")} & all_pids, killed)
                self.assertTrue(killed and killed != all_pids)

    def test_who_opens_a_forbidden_file_is_killed_before_it_has_the_descriptor(self):
        """For writing, making and reading: not one byte goes in or out. And who may, is not."""
        secret, other = os.path.join(self.folder, "secret"), os.path.join(self.folder, "other")
        for path in secret, other:
            with open(path, "w") as file:
                file.write("x" * 100)
        bad, good = self.program("bad"), self.program("good")
        condition = f"{OPEN} and (fd.name = {secret} or fd.name startswith {self.folder}/new/) and fd.num >= 0 and not proc.name in (good, python3, sonde)"
        os.mkdir(os.path.join(self.folder, "new"))
        tries = common.scaled(100, 8)
        with self.agent({"Forbidden": f"{condition} and evt.is_open_write = true", "Read": f"{condition} and evt.is_open_read = true"},
                        {"Forbidden": "kill", "Read": "kill"}, modules="exec,file") as agent:
            for i in range(tries):
                out = os.path.join(self.folder, f"out{i}")
                self.assertEqual(self.run_one([bad, f"if={secret}", f"of={out}"]), KILLED)
                self.assertFalse(os.path.exists(out), "it went on")
                self.assertEqual(self.run_one([bad, f"if={other}", f"of={secret}", "conv=notrunc", "bs=1", "count=1"]), KILLED)
                made = os.path.join(self.folder, "new", str(i))
                self.assertEqual(self.run_one([bad, f"if={other}", f"of={made}"]), KILLED)
                self.assertEqual(os.path.getsize(made), 0)
                self.assertEqual(self.run_one([good, f"if={secret}", f"of={made}"]), 0)
                self.assertEqual(self.run_one([bad, f"if={other}", f"of={out}"]), 0)
                self.assertEqual(os.path.getsize(made), 100)
            with open(secret) as file:
                self.assertEqual(file.read(), "x" * 100)
            agent.wait_rows("response.action", count=3 * tries)
            agent.wait_rows("alert", count=3 * tries)
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        actions = self.of(rows, "response.action")
        self.assertEqual(len(actions), 3 * tries)
        for r in actions:
            self.assertEqual((r["action"], r["kernel"], r["event_type"], r["comm"]), ("kill", True, "file.open", "bad"))
            self.assertNotIn("error", r)
        self.assertEqual(collections.Counter(r["rule"] for r in actions), {"Forbidden": 2 * tries, "Read": tries})
        self.assertEqual({r["proc"] for r in actions}, {r["proc"] for r in self.of(rows, "alert")})

    def make_files(self, place):
        os.makedirs(os.path.join(place, "a", "b"))
        for path in ("a/x", "y", "a/b/z"):
            with open(os.path.join(place, path), "w"):
                pass
        os.mkfifo(os.path.join(place, "pipe"))
        self.addCleanup(os.close, os.open(os.path.join(place, "pipe"), os.O_RDWR))
        os.symlink("a/x", os.path.join(place, "link"))
        for path, _, files in os.walk(place):
            os.chmod(path, 0o777)
            for name in files:
                if name != "link":
                    os.chmod(os.path.join(path, name), 0o666)

    def open_all(self, place, programs):
        """Opens of each kind and by each call: {pid: killed}."""
        read, write, both, make = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT
        opens = [("a/x", read), ("link", write), ("y", both), ("a/b/z", read), ("pipe", write), ("a/fresh", make), ("a", read)]
        calls = [lambda path, flags: (257, -100, f"s:{path}", flags | os.O_NONBLOCK, 0o666)]
        if os.uname().machine == "x86_64":
            calls += [lambda path, flags: (2, f"s:{path}", flags | os.O_NONBLOCK, 0o666) if flags != write else (85, f"s:{path}", 0o666),
                      lambda path, flags: (437, -100, f"s:{path}", "h:" + struct.pack("3Q", flags, 0o666 if flags & os.O_CREAT else 0, 0).hex(), 24)]
        ends = {}
        for program in programs:
            for user in (0, 65534):
                for number, (path, flags) in enumerate(opens):
                    words = calls[number % len(calls)](os.path.join(place, path), flags)
                    process = subprocess.Popen([program, "call", *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, user=user)
                    said = process.communicate(timeout=common.bound(60))[0]
                    ends[process.pid] = process.returncode == KILLED
                    if process.returncode == KILLED:
                        self.assertEqual(said, b"")
                    else:
                        self.assertGreaterEqual(int(said), 0, (path, words))
                    if path == "a/fresh":
                        os.unlink(os.path.join(place, path))
        return ends

    @common.same_on_every_kernel
    def test_the_kernel_decides_on_opens_as_user_space_does(self):
        """Rules of each kind of test, each in a folder of its own, and opens that differ in each."""
        conditions = {
            "write": "evt.is_open_write = true",
            "create": "evt.is_open_create = true and proc.name in (one, three)",
            "kind": "fd.typechar != f and evt.is_open_write = true",
            "below": "fd.name startswith {f}/a/ and not user.uid = 65534 and proc.name = two",
            "folder": "fd.directory in ({f}/a, /nowhere) and (evt.is_open_read = true or evt.is_open_create = true)",
            "path": "fd.name in ({f}/a/x, {f}/y) and fd.type = file",
        }
        programs = [os.path.join(self.folder, name) for name in ("one", "two")]
        for program in programs:
            shutil.copy(common.load("file"), program)
        place = {name: os.path.join(self.folder, name) for name in conditions}
        for folder in place.values():
            self.make_files(folder)
        rules = {name: f"{OPEN} and fd.num >= 0 and {condition.format(f=place[name])} and fd.name startswith {place[name]}/"
                 for name, condition in conditions.items()}
        with self.agent(rules, dict.fromkeys(rules, "kill"), modules="exec,file") as agent:
            self.assertEqual(common.sonde("rules", "explain", self.rules).stdout.count("who opens a file, in the kernel"), len(rules))
            ends = {name: self.open_all(place[name], programs) for name in conditions}
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        for name, killed in ends.items():
            with self.subTest(name):
                died = {pid for pid, dead in killed.items() if dead}
                self.assertEqual(died, {r["pid"] for r in self.of(rows, "alert") if r["rule"] == name and r["pid"] in killed})
                self.assertEqual(died, {r["pid"] for r in self.of(rows, "response.action") if r.get("kernel") and r["rule"] == name})
                self.assertTrue(0 < len(died) < len(killed), len(died))

    # Far ends by what a program says, the rules' addresses, and the port: of listeners on each of two ports.
    ENDS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.5.5.5"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"),
            (socket.AF_INET6, "::ffff:127.0.0.1"), (socket.AF_INET6, "::")]

    def connect_all(self, ports, programs):
        """[(pid, what it said of a connect, how it ended, the address)] of a process for each connect."""
        tries = []
        for program in programs:
            for user in (0, 65534):
                for family, address in self.ENDS:
                    for kind in (socket.SOCK_STREAM,) if common.GUEST else (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        for port in ports:
                            code = (f"import socket, sys\ns = socket.socket({int(family)}, {int(kind)})\ntry: s.connect(({address!r}, {port}))\n"
                                    "except OSError as e: print(e.errno)\nelse: print(0); s.send(b'x')\n")
                            process = subprocess.Popen([program, "-S", "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, user=user,
                                                       env={"PYTHONHOME": "/usr"}, text=True)
                            said = process.communicate(timeout=common.bound(60))[0]
                            tries.append((process.pid, said.strip(), process.returncode, address))
        return tries

    def connect_rules(self, ports):
        return {
            "port": f"fd.rport = {ports[0]} and fd.l4proto = tcp and proc.name = one",
            "four": f"fd.rip in (127.0.0.1, 192.0.2.1) and fd.sport in ({ports[1]}, 1) and fd.typechar = 4 and user.uid = 0 and proc.name = two",
            "six": f"fd.rip = \"::1\" and fd.type = ipv6 and not user.uid = 0 and proc.name = two and fd.rport != {ports[0]}",
            "net": f"fd.snet in (127.5.0.0/16, 192.0.2.0/24) and fd.l4proto != udp and fd.rport in (1, {ports[1]})",
        }

    def servers(self):
        """Two ports, each with a listener of IPv6 and IPv4 for streams, and for datagrams."""
        ports = []
        for _ in range(2):
            server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
            self.addCleanup(server.close)
            ports.append(server.getsockname()[1])
            datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            self.addCleanup(datagrams.close)
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            datagrams.bind(("::", ports[-1]))
        return ports

    def check_connects(self, action, refused, taken, rows, tries):
        """The kernel acted exactly where a rule fires; both by what became of the processes."""
        pids = {pid for pid, *_ in tries}
        done = {pid for pid, said, status, _ in tries if refused(said, status)}
        self.assertEqual({(said, status) for pid, said, status, _ in tries if pid not in done}, {("0", 0)})
        # Of a connect that was refused the event has the address that was given: who gave none fires no rule about one.
        given = {pid for pid, *_, address in tries if action != "block" or address not in ("0.0.0.0", "::")}
        alerts = {r["pid"] for r in self.of(rows, "alert") if r["pid"] in pids}
        self.assertEqual(done & given, alerts & given)
        self.assertEqual(alerts - done, set())
        actions = [r for r in self.of(rows, "response.action") if r["pid"] in pids]
        self.assertEqual(done, {r["pid"] for r in actions})
        self.assertEqual({(r["action"], r.get("kernel"), r["event_type"], r.get("error")) for r in actions}, {(action, True, "net.connect", None)})
        self.assertEqual({r["rule"] for r in actions}, set(taken))
        self.assertTrue(0 < len(done) < len(pids))

    def connects(self, action):
        ports, programs = self.servers(), [self.program(name, "python3") for name in ("one", "two")]
        conditions = self.connect_rules(ports)
        rules = {name: f"evt.type = connect and {condition}" for name, condition in conditions.items()}
        with self.agent(rules, dict.fromkeys(rules, action), modules="exec,net") as agent:
            explained = common.sonde("rules", "explain", self.rules).stdout
            self.assertEqual(explained.count("response kill: of who connects, in the kernel"), len(rules))
            self.assertEqual(explained.count("response block: of connects, possible"), len(rules))
            tries = self.connect_all(ports, programs)
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        return rows, tries, rules

    @common.same_on_every_kernel
    def test_block_refuses_connects(self):
        """Without LSM; also to an address that only the kernel knows (0.0.0.0 and :: are loopback)."""
        rows, tries, rules = self.connects("block")
        self.check_connects("block", lambda said, status: said == str(errno.EPERM), rules, rows, tries)
        self.assertEqual({status for _, _, status, _ in tries}, {0})
        self.assertEqual({address for _, said, _, address in tries if said != "0"}, {address for _, address in self.ENDS})

    def test_who_connects_is_killed_before_the_call_returns(self):
        rows, tries, rules = self.connects("kill")
        self.check_connects("kill", lambda said, status: status == KILLED, rules, rows, tries)
        self.assertEqual({said for _, said, status, _ in tries if status == KILLED}, {""})

    @common.same_on_every_kernel
    def test_neither_is_the_agent_denied_nor_are_its_connects_blocked(self):
        """A rule that means everybody: what the agent itself opens and connects to goes on."""
        with socket.create_server(("127.0.0.1", 0)) as broker:
            port = broker.getsockname()[1]
            broker.settimeout(common.bound(30))
            rules = {"Writes": f"{OPEN} and evt.is_open_write = true", "Connects": f"evt.type = connect and fd.rport = {port}"}
            kafka = ["sinks.kafka.enabled=true", f"sinks.kafka.brokers=127.0.0.1:{port}", "sinks.kafka.flush_timeout=100ms"]
            with self.agent(rules, {"Writes": "deny", "Connects": "block"}, modules="exec,file,net", settings=kafka) as agent:
                broker.accept()[0].close()
                code = f"import socket\ntry: socket.create_connection(('127.0.0.1', {port}))\nexcept PermissionError: print('refused')\n"
                one = subprocess.run([self.program("one", "python3"), "-c", code], env={"PYTHONHOME": "/usr"}, capture_output=True, text=True).stdout
                self.assertEqual(one, "refused\n")
                own = agent.processes()
                agent.stop()
                rows = agent.rows()
        self.check(rows)
        mine = [r for r in self.of(rows, "response.action") if r["pid"] in own]
        self.assertEqual({(r["action"], r.get("error"), "never" in r.get("reason", "")) for r in mine}, {("deny", "EPERM", True), ("block", "EPERM", True)})

    @common.same_on_every_kernel
    def test_who_is_refused_without_end_fills_no_ring(self):
        count = 5000
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with self.agent({"Some": f"evt.type = connect and fd.rport = {port} and proc.name = one"}, {"Some": "block"}, modules="exec") as agent:
                code = (f"import socket\nfor _ in range({count}):\n    try: socket.create_connection(('127.0.0.1', {port}))\n    except PermissionError: pass\n"
                        "    else: raise SystemExit(1)\n")
                self.assertEqual(subprocess.run([self.program("one", "python3"), "-c", code], env={"PYTHONHOME": "/usr"}).returncode, 0)
                agent.stop()
                rows = agent.rows()
        self.check(rows)
        notes, told = common.ledger(rows)["guard.note"], len(self.of(rows, "response.action"))
        self.assertEqual(notes["produced"], count)
        self.assertEqual(told + notes["dropped"].get("rate", 0), count)
        self.assertGreaterEqual(told, 1000)

    def test_what_the_kernel_cannot_decide_user_space_kills_at_once(self):
        # The guests have no useradd.
        user, journal = (None, None) if common.GUEST else common.temporary_user(self)
        with self.agent({"Word": f"{EXEC} and proc.exe contains word-of-evil"}, {"Word": "kill"},
                        settings=[f"agent.user={user}"] if user else [], journal=journal) as agent:
            self.assertIn("in user space: proc.exe", common.sonde("rules", "explain", self.rules).stdout)
            sleep = os.path.realpath(shutil.which("sleep"))
            for _ in range(20):
                process = subprocess.Popen(["word-of-evil", "20"], executable=sleep)
                self.assertEqual(process.wait(common.bound(10)), KILLED)
            self.assertEqual(self.run_one(["harmless", "0.1"], executable=sleep), 0)
            agent.wait_rows("response.action", count=20)
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        actions = self.of(rows, "response.action")
        self.assertEqual(len(actions), 20)
        alerts = {r["event_seq"] for r in self.of(rows, "alert")}
        for r in actions:
            self.assertNotIn("kernel", r)
            self.assertNotIn("error", r)
            self.assertIn(r["event_seq"], alerts)
        latencies = sorted(r["latency_ns"] for r in actions)
        # The loop looks every 100 ms by itself.
        self.assertLess(latencies[10], common.bound(0.02) * 1e9)

    @common.user_space
    def test_no_more_than_the_rate(self):
        bad = self.program("bad/tool")
        for condition, kernel in ((f"{EXEC} and proc.exepath = {bad}", True), (f"{EXEC} and proc.exepath endswith bad/tool", False)):
            with self.subTest(condition), self.agent({"Forbidden": condition}, {"Forbidden": "kill"}, settings=["rules.kill_rate=3"]) as agent:
                sleeping = self.program("bad/tool", "sleep")
                ends = [self.run_one([sleeping, "0.5"]) for _ in range(6)]
                self.assertEqual(ends, [KILLED] * 3 + [0] * 3)
                self.assertTrue(self.may_kill(agent.pid))
                agent.wait_rows("response.action", count=6)
                agent.stop()
                rows = agent.rows()
            self.check(rows)
            actions = self.of(rows, "response.action")
            self.assertEqual([r.get("error") for r in actions], [None] * 3 + ["EBUSY"] * 3)
            self.assertEqual({bool(r.get("kernel")) for r in actions}, {kernel})
            self.assertIn("rules.kill_rate", actions[-1]["reason"])

    @common.user_space
    def test_the_agent_does_not_kill_itself(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with self.agent({"Asked": f"evt.type in (accept, accept4) and fd.lport = {port}"}, {"Asked": "kill, deny"}, modules="exec,tcp",
                        settings=[f"agent.listen=127.0.0.1:{port}"]) as agent:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port), common.bound(10)) as s:
                    s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                    while s.recv(65536):
                        pass
            told = agent.wait_rows("response.action", lambda r: r["action"] == "kill", 3)
            self.assertEqual({(r["pid"], r["error"]) for r in told}, {(agent.pid, "EPERM")})
            self.assertIn("the agent", told[0]["reason"])
            agent.stop()
            self.check(agent.rows())

    @common.user_space
    def test_a_recycled_pid_is_not_killed(self):
        last = "/proc/sys/kernel/ns_last_pid"
        self.assertTrue(os.access(last, os.W_OK), "this kernel cannot give a pid again on request")
        true, sleep = (os.path.realpath(shutil.which(p)) for p in ("true", "sleep"))
        with self.agent({"Word": f"{EXEC} and proc.exe contains word-of-evil"}, {"Word": "kill"}) as agent:
            agent.signal(signal.SIGSTOP)
            first = subprocess.Popen(["word-of-evil"], executable=true)
            first.wait()
            innocent = None
            for _ in range(200):
                with open(last, "w") as file:
                    file.write(str(first.pid - 1))
                process = subprocess.Popen(["harmless", "60"], executable=sleep)
                if process.pid == first.pid:
                    innocent = process
                    break
                process.kill()
                process.wait()
            self.assertIsNotNone(innocent, "the pid did not come again")
            agent.signal(signal.SIGCONT)
            told = agent.wait_row("response.action", lambda r: r["pid"] == innocent.pid)
            self.assertEqual(told["error"], "ESRCH")
            time.sleep(0.2)
            self.assertIsNone(innocent.poll(), "it was killed")
            innocent.kill()
            innocent.wait()

    @common.same_on_every_kernel
    def test_a_program_begun_meanwhile_saves_nobody(self):
        """The process is the one that the rule fired on, whatever it runs by now."""
        with self.agent({"Word": f"{EXEC} and proc.cmdline contains word-of-evil"}, {"Word": "kill"}) as agent:
            for _ in range(10):
                self.assertEqual(self.run_one(["sh", "-c", "exec sh -c 'exec sleep 20' # word-of-evil", "x"]), KILLED)
            agent.stop()
            self.check(agent.rows())

    @common.same_on_every_kernel
    def test_a_reload_changes_what_is_forbidden(self):
        one, two = self.program("one/tool"), self.program("two/tool")
        with self.agent({"Forbidden": f"{EXEC} and proc.exepath = {one}"}, {"Forbidden": "kill"}) as agent:
            self.assertEqual([self.run_one([p, "--version"], stdout=subprocess.DEVNULL) for p in (one, two)], [KILLED, 0])
            self.write({"Another": f"{EXEC} and proc.name = nobody", "Forbidden": f"{EXEC} and proc.exepath = {two}"})
            agent.signal(signal.SIGHUP)
            common.wait_until(lambda: "configuration reloaded" in agent.output(), what="the reload")
            self.assertEqual([self.run_one([p, "--version"], stdout=subprocess.DEVNULL) for p in (one, two)], [0, KILLED])
            self.write({"Another": f"{EXEC} and proc.name = nobody"})
            agent.signal(signal.SIGHUP)
            common.wait_until(lambda: "there is no rule 'Forbidden'" in agent.output(), what="the refusal")
            self.assertEqual([self.run_one([p, "--version"], stdout=subprocess.DEVNULL) for p in (one, two)], [0, KILLED])
            agent.stop()
            self.check(agent.rows())

    @common.same_on_every_kernel
    def test_a_reload_leaves_no_gap(self):
        """While rules are read again and again, what is forbidden is killed each time, and nothing else ever."""
        bad, good = self.program("here/bad", "true"), self.program("here/good", "true")
        forbidden = f"{EXEC} and proc.exepath startswith {self.folder}/here/ and not proc.name in (good, other)"
        going = True
        with self.agent({"Forbidden": forbidden}, {"Forbidden": "kill"}) as agent:
            def reload():
                i = 0
                while going:
                    i += 1
                    self.write({**{f"More {k}": f"{EXEC} and proc.name = more{k}" for k in range(i % 5)}, "Forbidden": forbidden})
                    agent.signal(signal.SIGHUP)
                    common.wait_until(lambda: agent.output().count("configuration reloaded") >= i, what="the reload")
            thread = threading.Thread(target=reload)
            thread.start()
            ends = []
            try:
                while agent.output().count("configuration reloaded") < 20:
                    for program in (bad, good):
                        pid = os.posix_spawn(program, [program], os.environ)
                        ends.append((program, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
            finally:
                going = False
                thread.join()
            agent.stop()
            self.check(agent.rows())
        self.assertEqual(set(ends), {(bad, KILLED), (good, 0)})

    # --- deny ---

    def deny(self, condition, kernel):
        go, script = os.path.join(self.folder, "go"), os.path.join(self.folder, "connects.py")
        if not os.path.exists(go):
            os.mkfifo(go)
        with open(script, "w") as file:
            file.write(CONNECTS + r"""
talk("itself")
again = os.fork()
if not again:
    talk("child")
    if not os.fork():
        talk("grandchild")
        os._exit(0)
    os.wait()
    os.execv("/usr/bin/python3", ["python3", "-c", open(sys.argv[0]).read().split("child = ")[0] + "talk('another program')"])
os.waitpid(again, 0)
with open(sys.argv[2], "w") as f:
    f.write("x")
os.waitpid(child, 0)
""")
        python = self.program("denied/py", "python3")
        with self.agent({"Deny": condition}, {"Deny": "deny"}) as agent:
            process = subprocess.Popen([python, script, "word-of-evil", go], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            marked = agent.wait_row("response.action", lambda r: r["pid"] == process.pid and "event_type" in r)
            self.assertEqual(bool(marked.get("kernel")), kernel)
            self.assertNotIn("error", marked)
            self.assertFalse(self.may_kill(agent.pid), "a right that no response needs")
            out, _ = process.communicate(timeout=common.bound(60))
            other = subprocess.run(["/usr/bin/python3", "-c", CONNECTS.split("child = ")[0] + "talk('other')"], capture_output=True, text=True).stdout
            agent.wait_rows("response.action", lambda r: "event_type" not in r, 3)
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        no, yes = " ".join(["PermissionError"] * 5), " ".join(["ok"] * 5)
        self.assertEqual(sorted(out.splitlines()), sorted(f"{who} {no}" for who in ("itself", "child", "grandchild", "another program", "older child")))
        self.assertEqual(other, f"other {yes}\n")
        refused = [r for r in self.of(rows, "response.action") if "event_type" not in r]
        self.assertEqual({(r["action"], r["rule"], r["kernel"]) for r in refused}, {("deny", "Deny", True)})
        self.assertEqual(sum(r.get("count", 1) for r in refused), 25)  # five tries of each of the five

    def test_deny_refuses_the_process_its_children_and_nobody_else(self):
        self.deny(f"{EXEC} and proc.cmdline contains word-of-evil", False)

    def test_deny_in_the_kernel(self):
        self.deny(f"{EXEC} and proc.exepath startswith {self.folder}/denied/", True)

    def test_deny_reaches_who_was_made_before(self):
        """Its child and an orphan that it left, which it made long before the rule fires on it; not who made it."""
        go = os.path.join(self.folder, "go")
        os.mkfifo(go)
        code = CONNECTS.split("child = ")[0] + r"""
def wait():
    os.read(os.open(sys.argv[1], os.O_RDONLY), 1)
child = os.fork()
if not child:
    wait()
    talk("child")
    os._exit(0)
middle = os.fork()
if not middle:
    if not os.fork():
        wait()
        talk("orphan")
        os._exit(0)
    os._exit(0)
os.waitpid(middle, 0)
sys.stdin.readline()
socket.create_connection(("127.0.0.1", int(sys.argv[2])))
sys.stdin.readline()
talk("itself")
with open(sys.argv[1], "w") as f:
    f.write("xx")
os.waitpid(child, 0)
"""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with self.agent({"Deny": f"evt.type = connect and fd.rport = {port}"}, {"Deny": "deny"}, modules="exec,tcp") as agent:
                process = subprocess.Popen([self.program("py", "python3"), "-c", code, go, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                agent.wait_rows("process.fork", lambda r: r["comm"] == "py", 3)
                process.stdin.write("\n")
                process.stdin.flush()
                marked = agent.wait_row("response.action", lambda r: "event_type" in r)
                self.assertEqual((marked["pid"], marked["event_type"], marked.get("error")), (process.pid, "tcp.connect", None))
                out, _ = process.communicate("\n", timeout=common.bound(60))
                own = subprocess.run(["/usr/bin/python3", "-c", CONNECTS.split("child = ")[0] + "talk('other')"], capture_output=True, text=True).stdout
                agent.stop()
                rows = agent.rows()
        self.check(rows)
        no, yes = " ".join(["PermissionError"] * 5), " ".join(["ok"] * 5)
        self.assertEqual(sorted(out.splitlines()), [f"{who} {no}" for who in ("child", "itself", "orphan")])
        self.assertEqual(own, f"other {yes}\n")

    # --- capture, burst ---

    @common.user_space
    def test_capture_writes_the_packets_of_the_connection(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with self.agent({"Connects": f"evt.type = connect and fd.rport = {port}"}, {"Connects": "capture"}, modules="exec,tcp,capture") as agent:
                with socket.create_connection(("127.0.0.1", port)) as client:
                    lport = client.getsockname()[1]
                    row = agent.wait_row("packet.capture", lambda r: r["lport"] == lport and r["rport"] == port)
                    told = agent.wait_row("response.action")
                agent.stop()
                self.check(agent.rows())
        self.assertEqual((told["action"], told["event_type"], told.get("error")), ("capture", "tcp.connect", None))
        self.assertEqual(row["reason"], "request")
        self.assertGreaterEqual(len(row["packets"]), 2)

    @common.user_space
    def test_capture_of_a_process_writes_all_its_connections(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            code = ("import os, socket\nothers = [s for _ in range(50) for s in socket.socketpair()]\n[s.set_inheritable(True) for s in others]\na, b = (socket.create_connection(('127.0.0.1', %d)) for _ in range(2))\n"
                    "[s.set_inheritable(True) for s in (a, b)]\nprint(a.getsockname()[1], b.getsockname()[1], flush=True)\n"
                    "os.execv('/bin/sleep', ['word-of-evil', '20'])" % port)
            with self.agent({"Word": f"{EXEC} and proc.cmdline contains '20' and proc.exe = word-of-evil"}, {"Word": "capture, kill"},
                            modules="exec,tcp,capture") as agent:
                process = subprocess.Popen(["/usr/bin/python3", "-c", code], stdout=subprocess.PIPE, text=True)
                ports = set(map(int, process.communicate(timeout=common.bound(30))[0].split()))
                self.assertEqual(process.returncode, KILLED)
                agent.wait_rows("response.action", count=2)
                agent.stop()
                rows = agent.rows()
        self.check(rows)
        self.assertEqual([(r["action"], r.get("error")) for r in self.of(rows, "response.action")], [("capture", None), ("kill", None)])
        self.assertEqual({r["lport"] for r in self.of(rows, "packet.capture") if r["rport"] == port}, ports)

    def capture_of(self, before, after):
        """The response to a process that has so many connections from before the agent, and from after; and what was written of them."""
        with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
            code = ("import os, socket\ndef connect(n):\n    return [socket.create_connection(('127.0.0.1', %d)) for _ in range(n)]\n"
                    "kept = connect(%d)\nprint(flush=True)\ninput()\nkept += connect(%d)\n[s.set_inheritable(True) for s in kept]\n"
                    "os.execv('/bin/sleep', ['word-of-evil', '20'])" % (server.getsockname()[1], before, after))
            process = subprocess.Popen(["/usr/bin/python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.addCleanup(process.communicate)
            process.stdout.readline()
            with self.agent({"Word": f"{EXEC} and proc.exe = word-of-evil"}, {"Word": "capture, kill"}, modules="exec,tcp,capture") as agent:
                process.stdin.write("\n")
                process.stdin.flush()
                agent.wait_rows("response.action", count=2)
                agent.stop()
                rows = agent.rows()
        self.check(rows)
        told, = (r for r in self.of(rows, "response.action") if r["action"] == "capture")
        return told, len({r["lport"] for r in self.of(rows, "packet.capture")})

    @common.user_space
    def test_capture_of_a_part_says_so(self):
        told, written = self.capture_of(1, 2)
        self.assertEqual(written, 2)
        self.assertIn("error", told)
        self.assertIn("only 2 of 3 connections were written", told["reason"])

    @common.user_space
    def test_more_connections_than_are_looked_at(self):
        told, written = self.capture_of(0, 70)
        self.assertEqual((written, told["error"]), (64, "E2BIG"))
        self.assertIn("only 64 of 64 and more connections were written: the process has more than are looked at", told["reason"])

    @common.host_only("an emulated timer loses ticks at such rates")
    def test_burst_samples_more_often(self):
        with self.agent({"Busy": f"{EXEC} and proc.name = load_cpu"}, {"Busy": "burst"}, modules="exec,cpu", settings=["agent.window=1s"]) as agent:
            load = subprocess.Popen([common.load("cpu"), "20"], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            self.addCleanup(load.wait)
            self.addCleanup(load.kill)
            agent.wait_row("profile.cpu", lambda r: r["pid"] == load.pid and r["period_ns"] == 10**9 // 999)
            told = agent.wait_row("response.action")
            self.assertEqual((told["action"], told["pid"], told.get("error")), ("burst", load.pid, None))

    @common.user_space
    def test_what_cannot_be_done_is_said(self):
        with self.agent({"Word": f"{EXEC} and proc.cmdline contains word-of-evil"}, {"Word": "burst, capture"}) as agent:
            self.run_one(["sh", "-c", "sleep 0.5 # word-of-evil"])
            told = {r["action"]: r for r in agent.wait_rows("response.action", count=2)}
            self.assertIn("module cpu", told["burst"]["reason"])
            self.assertIn("no TCP connection", told["capture"]["reason"])
            self.assertEqual({r["error"] for r in told.values()}, {"EAGAIN", "ENOTCONN"})

    # --- block ---

    @common.guest_only("this kernel has no BPF LSM")
    def test_block_refuses_to_begin_the_program(self):
        bad, good = self.program("bad/tool"), self.program("good/tool")
        with self.agent({"Forbidden": f"{EXEC} and proc.exepath startswith {self.folder}/bad/"}, {"Forbidden": "block"}) as agent:
            for i in range(20):
                mark = os.path.join(self.folder, f"mark{i}")
                with self.assertRaises(PermissionError):
                    self.run_one([bad, "if=/dev/null", f"of={mark}"])
                self.assertFalse(os.path.exists(mark))
                self.assertEqual(self.run_one([good, "if=/dev/null", f"of={mark}"]), 0)
            agent.wait_rows("response.action", count=20)
            agent.stop()
            rows = agent.rows()
        self.check(rows)
        actions = self.of(rows, "response.action")
        self.assertEqual({(r["action"], r["kernel"]) for r in actions}, {("block", True)})
        self.assertEqual([r for r in self.of(rows, "process.exec") if r["exe"] == bad], [])

    # --- configuration ---

    def refused(self, *settings):
        argv = ["run", "--journal", os.path.join(self.folder, "journal"), "--set", f"rules.files=[{self.rules}]"]
        for one in settings:
            argv += ["--set", one]
        return common.sonde(*argv, status=78).stderr

    @common.user_space
    def test_mistakes_are_said(self):
        self.write({"Some rule": f"{EXEC} and proc.name = x", "Line": f"{EXEC} and proc.cmdline contains x"})
        self.assertIn("there is no rule 'Some rle'; did you mean 'Some rule'?", self.refused("rules.responses={Some rle: kill}"))
        self.assertIn("unknown action 'kil'", self.refused("rules.responses={Some rule: kil}"))
        self.assertIn("did you mean 'kill'?", self.refused("rules.responses={Some rule: kil}"))
        self.assertIn("has no action", self.refused('rules.responses={Some rule: ""}'))
        self.assertIn("rule 'Line' cannot block: proc.cmdline", self.refused("rules.responses={Line: block}"))
        self.assertIn("rules.files is empty", self.refused("rules.files=[]", "rules.responses={Some rule: kill}"))

    @common.host_only("its kernels have BPF LSM")
    def test_block_without_lsm_is_refused(self):
        self.write({"Some rule": f"{EXEC} and proc.exepath = /bin/x"})
        self.assertIn("this kernel cannot block", self.refused("rules.responses={Some rule: block}"))


if __name__ == "__main__":
    common.unittest.main()
