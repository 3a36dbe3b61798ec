# SPDX-License-Identifier: Apache-2.0
"""config/rules/sonde.yaml in the running agent: each behaviour fires its rule and no other, its neighbour fires none.

All of it is done once, below one agent. An alert is that of a behaviour when its process is one that the behaviour made, as process.fork
tells. What the rules say of /etc, /root and the like is done in a mount namespace where these are a copy on a tmpfs: nothing of the machine changes.
"""
import contextlib
import glob
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import cgroups
import common
from test_cred import ALL, maps_of

RULES = os.path.join(common.ROOT, "config", "rules", "sonde.yaml")
CONFIG = os.path.join(common.ROOT, "config", "security.yaml")
ID = "c4" * 32
MODULES = "cpu,exec,cred,file,isolation,kernel,memory,net,process,uring"
TREE = ("etc/sudoers.d", "etc/cron.d", "etc/pam.d", "etc/ssl/private", "etc/ssh/real", "etc/other/real", "etc/sonde", "root/.ssh", "var/log", "usr/sbin")
FILES = ("etc/passwd", "etc/shadow", "etc/profile", "etc/issue", "etc/motd", "etc/ssl/private/key.pem", "etc/other/copy", "etc/sonde/sonde.yaml",
         "root/.bash_history", "root/.other", "var/log/auth.log", "var/log/other.log", "var/log/wtmp")
PLACES = ("etc", "root", "usr/sbin", "var/log")
RIGHTS, KERNEL, URING, CODE = (common.load(name) for name in ("rights", "kernel", "uring", "code"))
PYTHON = os.path.realpath(sys.executable)


def rules_of_file():
    with open(RULES) as file:
        return re.findall(r"^- rule: (.*)$", file.read(), re.MULTILINE)


class Stage:
    """The folder of the test, the agent's neighbours, and how behaviours are run; `roots` has the process of each."""

    def __init__(self, stack):
        os.makedirs("/var/lib", exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix="sonde-rules-", dir="/var/lib")
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.roots, self.stack = {}, stack
        self.make_tree()
        self.cgroups = []
        for hierarchy in cgroups.hierarchies():
            self.cgroups += stack.enter_context(cgroups.made(hierarchy, f"docker/{ID}"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def make_tree(self):
        for name in TREE:
            os.makedirs(self.path("tree/" + name))
        for name in FILES:
            self.write("tree/" + name)
        for name in PLACES:  # a guest is small
            os.makedirs("/" + name, exist_ok=True)
        for name in ("ssh", "other"):
            os.symlink("real", self.path(f"tree/etc/{name}/link"))
        os.makedirs(self.path("secrets"))
        for name in ("shadow", "key.pem", "copy"):
            self.write("secrets/" + name)
        for name in ("top", "layers", "all", "mount", "real"):
            os.mkdir(self.path(name))
        for name, of in (("plain", "/bin/true"), ("setuid", "/bin/true"), ("nginx", "/bin/bash"), ("sonde", RIGHTS), ("nc", PYTHON)):
            shutil.copy(os.path.realpath(of), self.path(name))
            os.chmod(self.path(name), 0o4755 if name == "setuid" else 0o755)

    def write(self, name):
        with open(self.path(name), "w") as file:
            file.write("nothing\n")

    def run(self, key, argv, contained=False, **options):
        def join():
            for folder in self.cgroups:
                with open(os.path.join(folder, "cgroup.procs"), "w") as file:
                    file.write("0")
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=options.pop("cwd", self.folder),
                                   preexec_fn=join if contained else None, **options)
        self.roots[key] = process.pid
        out = process.communicate(timeout=common.bound(60))[0]
        if process.returncode != 0:
            raise AssertionError(f"{key}: {argv} ended with {process.returncode}: {out[-1000:]}")

    def target(self, name):
        """A process to do things to, until the end: its pid, and where its buffer is."""
        process = subprocess.Popen([name, "target"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stack.callback(end, process)
        return process.pid, re.search(r"address=(\d+)", process.stdout.readline())[1]


def end(process):
    process.stdin.close()
    process.wait(common.bound(30))
    process.stdout.close()


# --- kinds of behaviours: each makes a function of the stage and its key ---

def python(code, contained=False, program=None):
    def run(stage, key):
        environment = {**os.environ, "PYTHONHOME": sys.prefix}
        stage.run(key, [stage.path(program) if program else PYTHON, "-SEc" if not program else "-Sc", "import os, socket, subprocess\n" + code.replace("FOLDER", stage.folder)],
                  contained, env=environment if program else None)
    return run


def shell(script, contained=False, **environment):
    def run(stage, key):
        stage.run(key, ["/bin/sh", "-ec", script.replace("FOLDER", stage.folder)], contained, env={**os.environ, **environment})
    return run


def staged(script):
    """In a mount namespace whose /etc, /root, /usr/sbin and /var/log are a tmpfs with the tree's files."""
    binds = "".join(f"mount --bind FOLDER/top/{name} /{name}\n" for name in PLACES)
    secrets = "".join(f"mount --bind FOLDER/secrets/{a} {b}\n" for a, b in (("shadow", "/etc/shadow"), ("key.pem", "/etc/ssl/private/key.pem"), ("copy", "/etc/other/copy")))
    text = f"mount -t tmpfs none FOLDER/top\ncp -a FOLDER/tree/. FOLDER/top/\n{binds}umount -l FOLDER/top\n{secrets}cd /\n{script}\n"

    def run(stage, key):
        stage.run(key, ["unshare", "-m", "/bin/sh", "-ec", text.replace("FOLDER", stage.folder)])
    return run


def rights(*words, contained=False, of=None):
    """load_rights; TARGET is a process of the program `of`, ADDRESS a place in it."""
    def run(stage, key):
        pid, address = stage.target(stage.path(of) if of else RIGHTS) if "TARGET" in words else (0, 0)
        named = {"TARGET": str(pid), "ADDRESS": str(address)}
        stage.run(key, [RIGHTS, *(named.get(word, word) for word in words)], contained)
    return run


def kernel(*words):
    return lambda stage, key: stage.run(key, [KERNEL, *words])


def code(source):
    return lambda stage, key: stage.run(key, [CODE, source, "run", "1"])


def program(name, folder=None, **environment):
    """A program in the test's folder, or a copy of it elsewhere."""
    def run(stage, key):
        path = stage.path(name)
        if folder:
            place = tempfile.mkdtemp(dir=folder)
            stage.stack.callback(shutil.rmtree, place, ignore_errors=True)
            path = shutil.copy(path, place)
        stage.run(key, [path], env={**os.environ, **{k: v.replace("FOLDER", stage.folder) for k, v in environment.items()}})
    return run


def overlay(of):
    """In a container: a program that came with the lower layer of its root, or that was made in the upper one."""
    join = "".join(f"echo $$ > {{{i}}}/cgroup.procs\n" for i in range(len(cgroups.hierarchies())))

    def run(stage, key):
        text = (f"mount -t tmpfs none FOLDER/layers; cd FOLDER/layers; mkdir lower upper work; cp FOLDER/plain lower/came\n"
                f"mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work FOLDER/all; cp FOLDER/plain FOLDER/all/made\n"
                f"{join}exec FOLDER/all/{of}").replace("FOLDER", stage.folder).format(*stage.cgroups)
        stage.run(key, ["unshare", "-m", "/bin/sh", "-ec", text])
    return run


def mounted(contained):
    join = "".join(f"echo $$ > {{{i}}}/cgroup.procs\n" for i in range(len(cgroups.hierarchies()))) if contained else ""

    def run(stage, key):
        text = f"{join}mount -t tmpfs none {stage.folder}/mount".format(*stage.cgroups)
        stage.run(key, ["unshare", "-m", "/bin/sh", "-ec", text])
    return run


def web(who, address):
    """A connection by a child of who; in a network namespace, where the address is that of lo."""
    dial = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect((sys.argv[1], 9))"

    def run(stage, key):
        stage.run(key, ["unshare", "-n", "/bin/sh", "-ec", f"ip link set lo up; ip address add 198.51.100.1/32 dev lo; "
                        f"{who.replace('FOLDER', stage.folder)} -c '{PYTHON} -SEc \"{dial}\" {address} && :'"])
    return run


def uring(folder):
    return staged(f"cd /etc/{folder}; {URING} files")


def killed(name, number):
    def run(stage, key):
        pid, _ = stage.target(stage.path("sonde") if name == "sonde" else RIGHTS)
        stage.run(key, ["/bin/sh", "-ec", f"kill -{number} {pid}"])
    return run


def jumped(stage, key):
    """No healthy kernel makes one; what the agent remembers of a process is changed instead, see test_cred.py."""
    bpftool = lambda *words, **more: json.loads(subprocess.run(["bpftool", "-j", "map", *words], check=True, capture_output=True, text=True, **more).stdout or "null")
    pid, _ = stage.target(RIGHTS)
    pidfd = os.pidfd_open(pid)
    try:
        number, = {m["id"] for m in bpftool("show") if m.get("name") == "cred_kept"} & maps_of(stage.agent.pid)
        place = ["id", str(number), "key", *(f"{b:#x}" for b in pidfd.to_bytes(4, "little"))]
        value = bytearray(int(b, 16) for b in bpftool("lookup", *place, pass_fds=[pidfd])["value"])
        nobody = struct.pack("<8I5Q", *[12345] * 8, 0, 0, 0, ALL, 0)
        value[:len(nobody)] = nobody
        bpftool("update", *place, "value", *(f"{b:#x}" for b in value), pass_fds=[pidfd])
        stage.agent.wait_row("alert", lambda r: r["pid"] == pid)
    finally:
        os.close(pidfd)
    stage.roots[key] = pid


TRUE = "subprocess.run(['/bin/sh', '-c', 'true'], stdin=%s, check=True)"
SERVER = "s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())\n"
MEMORY = "fd = os.memfd_create('x'); os.write(fd, open('/bin/true', 'rb').read()); os.execve(f'/proc/self/fd/{fd}', ['x'], {})"
REMOVED = "import shutil; shutil.copy('FOLDER/plain', 'FOLDER/gone'); fd = os.open('FOLDER/gone', os.O_RDONLY); %sos.execve(f'/proc/self/fd/{fd}', ['x'], {})"
ATTRIBUTE = "open('FOLDER/attribute', 'w').close(); os.setxattr('FOLDER/attribute', '%s', bytes([0, 0, 0, 2] + [0] * 16))"

# The rule, what fires it, what does not.
CASES = [
    ("Shell reads from a socket", python("a, b = socket.socketpair()\n" + TRUE % "a"), python("a, b = os.pipe()\n" + TRUE % "a")),
    ("Connection becomes standard input", python(SERVER + "os.dup2(c.fileno(), 0)"), python(SERVER + "os.dup2(c.fileno(), 77)")),
    ("Web server begins a shell", shell("FOLDER/nginx -c '/bin/sh -c :; :'"), shell("FOLDER/nginx -c '/bin/true; :'")),
    ("Child of a web server connects out", web("FOLDER/nginx", "198.51.100.1"), web("FOLDER/nginx", "127.0.0.1")),
    ("Child of a web server connects out", None, web("/bin/bash", "198.51.100.1")),
    ("Program run from memory", python(MEMORY), python("os.memfd_create('x'); os.execve('/bin/true', ['x'], {})")),
    ("Program run after its file was removed", python(REMOVED % "os.unlink('FOLDER/gone'); "), python(REMOVED % "")),
    ("Program run from shared memory", program("plain", "/dev/shm"), program("plain", "/var/lib")),
    ("Root runs a program that lies where all can write", program("plain", "/tmp"), program("plain")),
    ("Program added to a container", overlay("made"), overlay("came")),
    ("Library forced into a privileged program", program("plain", LD_PRELOAD="FOLDER/none.so"), program("plain", LD_PRELOAD="/usr/lib/none.so")),
    ("Tunables of libc for a set-user-id program", program("setuid", GLIBC_TUNABLES="glibc.malloc.check=0"), program("plain", GLIBC_TUNABLES="glibc.malloc.check=0")),
    ("Process makes itself root", rights("steps", "setresuid:65534,0,0", "setresuid:0,0,0"), rights("steps", "setresuid:0,65534,0")),
    ("Set-user-id bit set", python("os.chmod('FOLDER/nc', 0o4755)"), python("os.chmod('FOLDER/nc', 0o755)")),
    ("Capabilities given to a file", python(ATTRIBUTE % "security.capability"), python(ATTRIBUTE % "trusted.other")),
    ("Accounts changed by an unusual program", staged("echo x >> /etc/passwd"), staged("cat /etc/passwd; echo x >> /etc/motd")),
    ("Accounts changed by an unusual program", staged("mv /etc/motd /etc/sudoers.d/all"), staged("mv /etc/motd /etc/other/all")),
    ("Job or service placed", staged("echo x > /etc/cron.d/job"), staged("echo x > /etc/other/job")),
    ("Libraries of every program changed", staged(": > /etc/ld.so.preload"), staged(": > /etc/other/ld.so.preload")),
    ("Key for logins placed", staged("echo x > /root/.ssh/authorized_keys"), staged("echo x > /root/.ssh/known_hosts")),
    ("Checks of logins changed", staged("echo x >> /etc/pam.d/sshd"), staged("echo x >> /etc/ssh/ssh_config")),
    ("Program of the system replaced", staged("echo x > /usr/sbin/sonde-none"), staged("echo x > /etc/other/sonde-none")),
    ("Start of every shell changed", staged("echo x >> /etc/profile"), staged("echo x >> /etc/issue")),
    ("Hashes of passwords read", staged("cat /etc/shadow"), staged("cat /etc/other/copy")),
    ("Private key read", staged("cat /etc/ssl/private/key.pem"), staged("cat /etc/other/copy")),
    ("Sensitive file opened through io_uring", uring("ssh"), uring("other")),
    ("Log of the system removed", staged("rm /var/log/auth.log"), staged("rm /var/log/other.log")),
    ("Log of the system removed", staged(": > /var/log/wtmp"), staged("cat /var/log/wtmp; : > /var/log/other.log")),
    ("History of commands removed", staged("rm /root/.bash_history"), staged("rm /root/.other; echo x >> /root/.bash_history")),
    ("History of commands removed", staged("ln -sf /dev/null /root/.zsh_history"), staged("ln -sf /dev/null /root/.zsh_other")),
    ("BPF program detached", kernel("bpf"), kernel("quiet")),
    ("Probe set by an unusual program", kernel("perf", KERNEL), kernel("quiet")),
    ("Helper of the kernel changed", shell(": >> /proc/sys/kernel/core_pattern"), shell("cat /proc/sys/kernel/core_pattern")),
    ("Helper of the kernel changed", shell(": > FOLDER/release_agent"), shell(": > FOLDER/release_other")),
    ("Process traced by an unusual program", rights("trace", "TARGET", "ADDRESS"), rights("traceme")),
    ("Memory of another process written", rights("write", "TARGET", "ADDRESS"), rights("send", "kill", "TARGET", "10")),
    ("Descriptor taken from another process", rights("getfd", "TARGET", "0"), python("os.pidfd_open(os.getpid())")),
    ("Memory both writable and executable", rights("code", "mmap-wx"), rights("code", "mmap-rw", "mmap-rx")),
    ("Daemon of root runs code of no file", rights("code", "mprotect-x"), rights("code", "mprotect-rw")),
    ("Code of a file without a name", rights("code", "memfd-x"), rights("code", "file-rx", "file-mprotect-x")),
    ("Code of no file runs", code("anonymous"), code("file")),
    ("Namespaces made in a container", shell("unshare -u true", contained=True), shell("unshare -u true")),
    ("Namespace entered from a container", rights("enter", "TARGET", "0x4000000", contained=True), rights("enter", "TARGET", "0x4000000")),
    ("Mount in a container", mounted(True), mounted(False)),
    ("Raw socket of an unusual program", python("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"), python("socket.socket(socket.AF_INET, socket.SOCK_STREAM)")),
    ("Raw socket of an unusual program", python("socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)"), python("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)")),
    ("Server of unusual origin in a container", python(SERVER, True, "nc"), python(SERVER, True)),
    ("Server of unusual origin in a container", None, python(SERVER, False, "nc")),
    ("Signal to sonde", killed("sonde", "TERM"), killed("other", "TERM")),
    ("Signal to sonde", None, killed("sonde", "HUP")),
    ("Reach into sonde", rights("trace", "TARGET", "ADDRESS", of="sonde"), rights("send", "kill", "TARGET", "10", of="sonde")),
    ("Reach into sonde", rights("write", "TARGET", "ADDRESS", of="sonde"), None),
    ("Files of sonde changed", staged("echo x >> /etc/sonde/sonde.yaml"), staged("cat /etc/sonde/sonde.yaml")),
    ("Files of sonde changed", staged("mv /etc/sonde/sonde.yaml /etc/other/"), None),
]
HOST_CASES = [("Rights from nowhere", jumped, rights("steps", "setresuid:0,7,0"))]
GUEST_CASES = [("Another kernel loaded", kernel("kexec", KERNEL), kernel("quiet")),
               ("Kernel module of unusual origin", lambda stage, key: kernel("module", glob.glob("/modules/*-sch_tbf.ko*")[0], "sch_tbf")(stage, key), kernel("quiet"))]
# What one behaviour does besides.
ALSO = {"BPF program detached": {"BPF program of an unusual program"}, "Code of no file runs": {"Daemon of root runs code of no file"}}
TRIED = {  # what this machine's kernel may not have, as events written by hand
    "Kernel module of unusual origin": ({"evt.type": "finit_module", "evt.category": "system", "fd.name": "/tmp/x.ko", "proc.exepath": "/usr/bin/kmod", "container.id": "host"},
                                        {"fd.name": "/usr/lib/modules/6.18/x.ko"}),
    "Another kernel loaded": ({"evt.type": "kexec_load", "proc.exepath": "/usr/sbin/kexec", "proc.ppid": 1}, {"proc.exepath": "/usr/lib/systemd/systemd-x"}),
}


class DefaultRules(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cases = CASES + (GUEST_CASES if common.GUEST else HOST_CASES)
        with contextlib.ExitStack() as stack:
            stage = Stage(stack)
            settings = {"rules.files": f"[{RULES}]", "modules.file.watch": f"secrets,{stage.path('secrets')}/", "modules.cred.interval": "100ms", "agent.window": "2s"}
            with common.Agent(MODULES, settings) as agent:
                stage.agent = agent
                for number, (name, *behaviours) in enumerate(cases):
                    for which, behaviour in zip(("fires", "silent"), behaviours, strict=True):
                        if behaviour:
                            behaviour(stage, (name, number, which))
                # Told at a window's end, with names: there is less time for these where the agent ends.
                agent.wait_row("alert", lambda r: r["rule"] == "Code of no file runs")
                agent.stop()
                cls.rows = agent.rows()
                cls.log = agent.output()
        cls.roots = stage.roots
        children = {}
        for row in cls.rows:
            if row["type"] == "process.fork":
                children.setdefault(row["pid"], set()).add(row["child_pid"])
        cls.children = children

    def tree(self, pid):
        found, todo = set(), [pid]
        while todo:
            pid = todo.pop()
            if pid not in found:
                found.add(pid)
                todo += self.children.get(pid, ())
        return found

    def alerts(self, pid):
        pids = self.tree(pid)
        return [r for r in self.rows if r["type"] == "alert" and r["pid"] in pids]

    def judge(self, name):
        runs = {key: pid for key, pid in self.roots.items() if key[0] == name}
        self.assertTrue(runs)
        for key, pid in runs.items():
            expected = {name} | ALSO.get(name, set()) if key[2] == "fires" else set()
            alerts = self.alerts(pid)
            told = {a["rule"] for a in alerts}
            if common.BUILD.startswith(("/tmp/", "/var/tmp/", "/dev/shm/")):  # where the loads themselves are what that rule is about
                told -= {"Root runs a program that lies where all can write"} - expected
            self.assertEqual(told, expected, (key, [a["output"] for a in alerts]))

    def test_each_rule_has_its_behaviour(self):
        named = {name for name, *_ in CASES + HOST_CASES + GUEST_CASES}.union(*ALSO.values())
        self.assertEqual(sorted(named), sorted(rules_of_file()))

    def test_each_says_what_attack_it_is_of(self):
        """desc, a technique and a tactic of ATT&CK, and the module that it needs."""
        alerts = [r for r in self.rows if r["type"] == "alert"]
        self.assertTrue(alerts)
        for alert in alerts:
            tags = alert["tags"]
            self.assertTrue(any(re.fullmatch(r"T\d{4}(\.\d{3})?", tag) for tag in tags), alert)
            self.assertTrue(any(tag.startswith("mitre_") for tag in tags), alert)
            self.assertIn(tags[0], MODULES.split(","), alert)
            self.assertTrue(alert["desc"].endswith("."), alert)

    def test_outputs_name_the_program(self):
        """The program that an alert names is the one that the execution began with."""
        programs = {r["proc"]: r["exe"] for r in self.rows if r["type"] == "process.exec"}
        compared = 0
        for alert in self.rows:
            if alert["type"] == "alert" and alert["proc"] in programs and " program=" in alert["output"] and "count" not in alert:
                compared += 1
                self.assertIn(f" program={programs[alert['proc']]} ", alert["output"] + " ")
        self.assertGreater(compared, 10)

    def test_the_account_is_exact(self):
        self.assertGapless(self.rows)
        self.assertLedgerExact(self.rows)

    def test_no_module_is_missing(self):
        self.assertNotIn("needs module", self.log)


class Checked(common.TestCase):
    def test_no_mistake_and_no_warning(self):
        done = common.sonde("rules", "check", "-c", CONFIG, RULES)
        self.assertEqual(done.stderr, "")
        count = len(rules_of_file())
        self.assertIn(f"{count} rules, {count} enabled, 0 left out", done.stdout)
        self.assertIn("0 warnings", done.stdout)

    def test_the_configuration_is_one(self):
        said = common.sonde("check", "--offline", "-c", CONFIG, "--set", f"rules.files=[{RULES}]", status=None)
        self.assertNotIn("error  configuration", said.stdout + said.stderr)
        self.assertNotIn("error  rules", said.stdout + said.stderr)

    @common.user_space
    def test_modules_that_are_off_are_said(self):
        said = common.sonde("rules", "check", "-c", os.path.join(common.ROOT, "config", "sonde.yaml"), RULES).stderr
        for module in ("file", "kernel", "memory", "process"):
            self.assertIn(f"needs module '{module}', which is off", said)

    def test_by_hand(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            for name, (fires, neighbour) in TRIED.items():
                silent = {**fires, "proc.exepath": "/usr/bin/kmod", **neighbour}
                for event, expected in ((fires, [name]), (silent, [])):
                    file.write(json.dumps({**event, "expect": expected}) + "\n")
            file.flush()
            common.sonde("rules", "test", RULES, file.name)


def add(name, wrap=lambda test: test):
    def test(self):
        self.judge(name)
    test.__name__ = "test_" + re.sub(r"\W+", "_", name.lower())
    setattr(DefaultRules, test.__name__, wrap(test))


for one in {case[0] for case in CASES}:
    add(one)
for one in HOST_CASES:
    add(one[0], common.host_only("no bpftool"))
for one in GUEST_CASES:
    add(one[0], common.guest_only("the host's kernel is built without modules and kexec"))


if __name__ == "__main__":
    unittest.main()
