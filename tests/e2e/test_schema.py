# SPDX-License-Identifier: Apache-2.0
"""What `sonde schema` says, against what is in the stream, against other programs that read it, and against past releases."""
import collections
import glob
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading

import common
import rights

try:
    import jsonschema
except ImportError:  # the guests of tests/vm have the standard library alone: there the checks below stand for it
    jsonschema = None

COMMON = ("type", "ts", "seq", "host", "run", "pid", "tid", "comm", "proc", "parent", "container", "cgroup")
ALWAYS = COMMON[:5]
PYTHON = {"integer": int, "string": str, "boolean": bool, "array": list, "object": dict}
OWN_ONLY = ("--set", "agent.modules=")


def schema(*arguments):
    return common.sonde("schema", *OWN_ONLY, *arguments).stdout


def json_schema():
    return json.loads(schema("--format", "json"))


def change_files():
    """One event of each type file.*, at least."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        with open(path, "w"):
            pass
        os.truncate(path, 3)
        os.chmod(path, 0o600)
        os.chown(path, 0, 0)
        os.setxattr(path, "trusted.sonde", b"1")
        os.removexattr(path, "trusted.sonde")
        os.link(path, path + "2")
        os.symlink(path, path + "3")
        os.mkfifo(path + "4")
        os.rename(path + "2", path + "5")


def query_once():
    """One query that nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(bytes((0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + b"\6schema\4test\0\0\1\0\1", ("127.53.7.4", 53))


def connect_once():
    """One connection over loopback, with a byte each way, and one that is refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            peer, _ = server.accept()
            with peer:
                peer.sendall(peer.recv(1))
        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"x")
            client.recv(1)
        thread.join()
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        pass


def connect_to_few():
    """Sockets that stay: a listener that has room for two connections, and four clients, of which the first sends a byte."""
    server = socket.create_server(("127.0.0.1", 0), backlog=1)
    clients = [socket.socket() for _ in range(4)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(server.getsockname())
    clients[0].send(b"x")
    return [server, *clients]


def reach_into_kernel(folder):
    """What the modules kernel, net, uring and syscalls tell of, but for what a kernel may be built without."""
    os.mkdir(f"{folder}/real")
    os.symlink("real", f"{folder}/link")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        for words in (("kernel", "bpf"), ("kernel", "keys"), ("kernel", "perf", common.load("kernel")),
                      ("net", "dups", str(server.getsockname()[1])), ("uring", "files"), ("syscalls", "compat")):
            subprocess.run([common.load(words[0]), *words[1:]], cwd=folder, stdout=subprocess.DEVNULL, check=True)


def not_here():
    """Types of what this kernel was built without."""
    absent = set() if os.path.exists("/proc/modules") else {"module.load", "module.unload"}
    if common.GUEST:
        absent |= {"mount.pivot_root", "module.load", "module.unload", "kernel.kexec"}  # rights.py says why; test_kernel has the others
    return absent if os.path.exists("/sys/kernel/kexec_loaded") else absent | {"kernel.kexec"}


def faults_of(row, types):
    """Every way in which a record is not what its type says, as sentences."""
    keys = list(row)
    if row["type"] not in types:
        return [f"no type {row['type']}"]
    declared = types[row["type"]]
    faults = [f"{k} is missing" for k in declared["required"] if k not in row]
    order = [k for k in COMMON if k in row]
    if keys[:len(order)] != order:
        faults.append(f"the common keys come first, in order: {keys}")
    own = [k for k in declared["properties"] if k in row]
    if keys != own:
        faults.append(f"keys {keys} are not in the order of the schema, {own}")
    for key, value in row.items():
        property = declared["properties"].get(key)
        if property is None:
            faults.append(f"{key} is not in the schema")
        elif type(value) is not PYTHON[property["type"]]:
            faults.append(f"{key} is {value!r}, not {property['type']}")
        elif "minimum" in property and not property["minimum"] <= value < 2**64:
            faults.append(f"{key} is {value}")
        elif "enum" in property and value not in property["enum"]:
            faults.append(f"{key} is {value!r}, none of {property['enum']}")
        elif "pattern" in property and not re.search(property["pattern"], value):
            faults.append(f"{key} is {value!r}")
        elif property["type"] == "array" and not all(type(v) is PYTHON[property["items"]["type"]] for v in value):
            faults.append(f"{key} holds other things than {property['items']['type']}s")
    return faults


class Schema(common.TestCase):
    def test_every_record_of_a_run(self):
        document = json_schema()
        types = document["$defs"]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as rules:
            rules.write("- {rule: any, desc: d, condition: evt.type = execve and proc.name = sh, output: o, priority: INFO, tags: [t]}\n")
        self.addCleanup(os.unlink, rules.name)
        with common.Agent(modules="exec,cpu,tcp,offcpu,sched,turnaround,udp,drops,dns,capture,file,kernel,net,uring,syscalls," + rights.MODULES,
                          settings=[f"rules.files=[{rules.name}]", "rules.responses={any: burst}", "modules.syscalls.stats=true", "modules.exec.failed=true", "modules.exec.hash=true",
                                    "modules.dns.timeout=100ms", "agent.window=1s", "agent.ledger_interval=500ms", "modules.turnaround.slow=1ns",
                                    "modules.tcp.interval=1s"]) as agent:
            query_once()
            change_files()
            keep = connect_to_few()
            with tempfile.TemporaryDirectory() as folder:
                reach_into_kernel(folder)
            for _ in range(5):
                connect_once()
                common.spawn(["/bin/sh", "-c", "true; exit 3"], status=3)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"nobody listens there", ("127.0.0.1", 9))
            process = subprocess.Popen(["/bin/sleep", "100"])
            process.kill()
            process.wait()
            common.spawn(["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"])
            common.spawn(["/bin/sh", "-c", "/proc"], status=126, stderr=subprocess.DEVNULL)
            agent.wait_row("process.image")
            agent.wait_row("process.exec_failed")
            rights.run_all()
            for name in rights.TYPES:
                agent.wait_row(name)
            agent.wait_row("profile.cpu")
            agent.wait_row("tcp.close")
            agent.wait_row("profile.offcpu")
            agent.wait_row("sched.thread")
            agent.wait_row("sched.runqueue")
            agent.wait_row("tcp.turnaround")
            agent.wait_row("tcp.slow")
            agent.wait_row("udp.socket")
            agent.wait_row("net.drop")
            agent.wait_row("dns.query")
            agent.wait_row("packet.capture")
            agent.wait_row("tcp.stats")
            agent.wait_row("tcp.listen_drop")
            for sock in keep:
                sock.close()
            agent.stop()
            rows = agent.rows()
        seen = {row["type"] for row in rows}
        self.assertEqual(seen - set(types), set())
        # A busy machine takes so long to load all programs that samples of the first fill the ring meanwhile: then there is a loss.
        self.assertEqual(set(types) - seen - {"agent.loss"} - not_here(), set(), "types that this run was to have")
        for row in rows:
            self.assertEqual(faults_of(row, types), [], row)
        if jsonschema:
            jsonschema.Draft202012Validator.check_schema(document)
            validators = {name: jsonschema.Draft202012Validator(one) for name, one in types.items()}
            for row in rows:
                validators[row["type"]].validate(row)
            whole = jsonschema.Draft202012Validator(document)
            for row in {r["type"]: r for r in rows}.values():
                whole.validate(row)

    @common.user_space
    def test_records_of_loss(self):
        """A ring of a page is soon full: what is lost is in the stream, as declared, and sums up to what the ledger says."""
        types = json_schema()["$defs"]
        with common.Agent(modules="exec", settings=["rings.priority=4KiB"]) as agent:
            agent.signal(signal.SIGSTOP)  # however slow the machine, nobody empties the ring
            common.spawn(["/bin/sh", "-c", "i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done"])
            agent.signal(signal.SIGCONT)
            agent.wait_row("agent.loss")
            agent.stop()
            rows = agent.rows()
        losses = [r for r in rows if r["type"] == "agent.loss"]
        for row in losses:
            self.assertEqual(faults_of(row, types), [], row)
            self.assertLessEqual(row["from"], row["to"])
            self.assertIn(row["event"], types)
        final = rows[-1]
        self.assertTrue(final["type"] == "agent.ledger" and final["final"])
        lost = {(name, reason): count for name, counts in final["types"].items() for reason, count in counts["dropped"].items()}
        told = collections.Counter()
        for row in losses:
            told[row["event"], row["reason"]] += row["count"]
        self.assertEqual({k: n for k, n in lost.items() if k[0] in types}, {k: n for k, n in told.items() if k[0] in types})

    @common.user_space
    def test_the_check_can_fail(self):
        types = json_schema()["$defs"]
        good = {"type": "process.fork", "ts": 1, "seq": 1, "host": "h", "run": "r", "pid": 1, "tid": 1, "comm": "c", "proc": "0" * 16,
                "child_proc": "1" * 16, "child_pid": 2, "flags": 0}
        self.assertEqual(faults_of(good, types), [])
        for change in ({"child_pid": "2"}, {"child_pid": -1}, {"child_pid": True}, {"child_proc": "1"}, {"more": 1}, {"ts": 2**64}):
            self.assertTrue(faults_of({**good, **change}, types), change)
            if jsonschema and "more" not in change and change != {"ts": 2**64}:
                self.assertFalse(jsonschema.Draft202012Validator(types["process.fork"]).is_valid({**good, **change}), change)
        self.assertTrue(faults_of({"ts": 1, **{k: v for k, v in good.items() if k != "ts"}}, types))
        self.assertTrue(faults_of({k: v for k, v in good.items() if k != "flags"}, types))

    @common.host_only("reads the tree")
    @common.user_space
    def test_releases(self):
        """What was ever released stays: types, keys, what they are, and which are always there."""
        now = json_schema()["$defs"]
        releases = sorted(glob.glob(os.path.join(common.ROOT, "docs", "schema", "*.json")))
        self.assertTrue(releases)
        for path in releases:
            with open(path) as file:
                then = json.load(file)["$defs"]
            self.assertTrue(set(then) >= {"process.exec", "tcp.close"})
            for name, was in then.items():
                self.assertIn(name, now, f"{path}: a type was removed")
                for key, property in was["properties"].items():
                    self.assertIn(key, now[name]["properties"], f"{path}: {name} lost a key")
                    self.assertEqual(now[name]["properties"][key]["type"], property["type"], f"{path}: {name}.{key}")
                    self.assertEqual(now[name]["properties"][key].get("pattern"), property.get("pattern"), f"{path}: {name}.{key}")
                self.assertEqual(set(was["required"]) - set(now[name]["required"]), set(), f"{path}: {name} lost what was always there")

    @common.user_space
    def test_contract(self):
        """The types and keys that the design names, which nothing may lose."""
        types = json_schema()["$defs"]
        four = "laddr lport raddr rport"
        for name, keys in {
                "process.exec": "exe args cwd uid euid gid egid caps tty ino dev", "process.fork": "child_pid child_proc flags",
                "process.exit": "exit_code signal run_ns cpu_ns peak_rss_bytes", "tcp.connect": four + " latency_ns error",
                "tcp.accept": four + " latency_ns", "agent.ledger": "types", "agent.loss": "event count from to reason",
                "tcp.close": four + " side sent_bytes received_bytes life_ns srtt_ns min_rtt_ns retransmits",
                "profile.cpu": "stack stack_id value unit window_ns"}.items():
            self.assertEqual(tuple(types[name]["properties"])[:len(COMMON)], COMMON)
            self.assertEqual(types[name]["required"][:len(ALWAYS)], list(ALWAYS))
            self.assertEqual(set(keys.split()) - set(types[name]["properties"]), set(), name)

    @common.host_only("needs sqlite")
    @common.user_space
    def test_sql(self):
        """The tables are made, with the keys as columns, and those that are always there may not be null."""
        import sqlite3
        types = json_schema()["$defs"]
        base = sqlite3.connect(":memory:")
        base.executescript(schema("--format", "sql"))
        tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self.assertEqual(tables, set(types))
        for name, declared in types.items():
            columns = {row[1]: row for row in base.execute(f'PRAGMA table_info("{name}")')}
            self.assertEqual(list(columns), list(declared["properties"]), name)
            self.assertEqual([c for c, row in columns.items() if row[3]], [k for k in declared["properties"] if k in declared["required"]])

    @common.user_space
    def test_formats_agree(self):
        types = json_schema()["$defs"]
        markdown, text = schema("--format", "markdown"), schema()
        for name, declared in types.items():
            part = markdown.partition(f"## `{name}`")[2].partition("\n## ")[0]
            self.assertTrue(part, name)
            # Keys that an option adds to every event are told of once.
            added = ("stack", "stack_id", "stack_truncated")
            if "modules.NAME.stack" not in declared["properties"].get("stack", {}).get("description", ""):
                added = ()
            own = [k for k in declared["properties"] if k not in COMMON and k not in added]
            self.assertEqual(re.findall(r"(?m)^\| `(\w+)`", part), own)
            part = text.partition(f"\n{name} version ")[2].partition("\n\n")[0]
            self.assertEqual(re.findall(r"(?m)^  (\w+) +(?:str|uint|int|bool|array|map|table) ", part), own)

    @common.user_space
    def test_one_type_and_globs(self):
        self.assertEqual(list(json.loads(schema("--format", "json", "tcp.*"))["$defs"]), ["tcp.connect", "tcp.accept", "tcp.close", "tcp.reset", "tcp.listen_drop", "tcp.stats", "tcp.turnaround", "tcp.slow"])
        self.assertEqual(list(json.loads(schema("--format", "json", "process.exit"))["$defs"]), ["process.exit"])
        done = common.sonde("schema", *OWN_ONLY, "process.exot", status=1)
        self.assertIn("process.exot", done.stderr)
        self.assertEqual(done.stdout, "")

    @common.user_space
    def test_names_of_others(self):
        """Each is written as such names are, and stands for one key only where a type is concerned."""
        for name, declared in json_schema()["$defs"].items():
            for kind in ("x-otel", "x-ecs"):
                names = [p[kind] for p in declared["properties"].values() if kind in p]
                self.assertEqual(len(names), len(set(names)), f"{name}: {names}")
                for one in names:
                    self.assertRegex(one, r"^@?[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$")


class Stacks(common.TestCase):
    def test_every_hook_is_there_with_stacks(self):
        """What each module has to do more then does not make a program too large for this kernel's verifier."""
        names = [n for n in re.findall(r"(?m)^(\w+): ", common.sonde("probes").stdout) if n not in ("identity", "cpu", "offcpu", "sched")]
        self.assertGreater(len(names), 15)
        with common.Agent(",".join(names), [f"modules.{name}.stack=true" for name in names]) as agent:
            said = agent.output()
        lost = [line for line in said.splitlines() if re.search("Permission denied|Invalid argument|Argument list too long|cannot be loaded", line)]
        if common.KERNEL < (6, 3):  # probes/uring/README.md
            lost = [line for line in lost if "'uring' runs without its measure 'submit'" not in line]
        self.assertEqual(lost, [])


class Relocations(common.unittest.TestCase):
    def test_few_types_relocate_as_all_do(self):
        """What the agent loads its modules with is taken out of the kernel's types and of those of its modules (overlay)."""
        self.assertNotIn("SKIPPED", common.tool("test_kernel_types"))
