# SPDX-License-Identifier: Apache-2.0
"""A module of others: built from one file against an installed prefix, dropped into a folder, and seen in the stream."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import common

SAMPLE = os.path.join(common.ROOT, "docs", "samples", "signals", "signals.bpf.c")

# A companion that answers each record of an internal type by a row of its own making.
PAIR_HEADER = """
#include "sonde/event.h"
struct pair_seen {
    struct sonde_event event;
    __u64 number;
};
struct pair_doubled {
    struct sonde_event event;
    struct sonde_text word SONDE_DOC("says how it came");
    __u32 _pad;
    __u64 twice SONDE_DOC("twice the number");
};
SONDE_INTERNAL_EVENT(pair_seen, "pair.seen", bulk, "A signal was seen.");
SONDE_EVENT(pair_doubled, "pair.doubled", 1, bulk, "Made of pair.seen by the companion.");
"""
PAIR_BPF = """
/* SPDX-License-Identifier: GPL-2.0-only */
#include "sonde/probe.bpf.h"
#include "pair.h"
SEC("tp_btf/signal_generate")
int BPF_PROG(seen__tp_btf, int sig)
{
    struct pair_seen *e = sonde_reserve(pair_seen, sizeof *e);
    if (!e)
        return 0;
    e->number = (__u64)sig;
    sonde_submit(pair_seen, e, sizeof *e);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
PAIR_C = """
#include <string.h>
#include "sonde/module.h"
#include "pair.h"
static void record(struct sonde_host *host, const struct sonde_event *event)
{
    const struct pair_seen *seen = (const void *)event;
    struct { struct pair_doubled row; char word[8]; } out = { .row.event = *event };
    if (seen->number < host->number(host, "least")) {
        host->settled(host, "pair_seen", 1, "table_full");
        return;
    }
    out.row.event.size = sizeof out.row + 4;
    out.row.twice = 2 * seen->number;
    out.row.word = (struct sonde_text){ .offset = sizeof out.row, .length = 4 };
    memcpy(out.word, "made", 4);
    host->emit(host, "pair_doubled", &out);
    host->settled(host, "pair_seen", 1, NULL);
}
static int attach(struct sonde_host *host)
{
    host->notice(host, "is attached");
    return host->program(host, "seen__tp_btf") < 0 ? -1 : 0;
}
static const struct sonde_option options[] = {
    { .type = SONDE_OPTION_UINT, .key = "least", .value = "10", .max = 64, .unit = "", .help = "smallest number" },
    { 0 },
};
const struct sonde_module sonde_module = {
    .abi = SONDE_MODULE_ABI,
    .signature = SIGNATURE,
    .name = NAME,
    .summary = "Pairs of signals",
    .options = options,
    .attach = attach,
    .record = record,
};
"""


def run(argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=common.bound(120), **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


@common.host_only("needs clang and cmake")
class Module(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="sonde-module-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        os.chmod(cls.folder, 0o755)
        cls.prefix = os.path.join(cls.folder, "prefix")
        run(["cmake", "--install", common.BUILD, "--prefix", cls.prefix])
        # Built where no header of the tree is near.
        shutil.copy(SAMPLE, cls.folder)
        cls.object = cls.compile("signals.bpf.c", "signals.bpf.o")

    @classmethod
    def compile(cls, source, target):
        run(["clang", "-g", "-O2", "-target", "bpf", "-Wall", "-Werror", "-I",
             os.path.join(cls.prefix, "include"), "-c", source, "-o", target], cwd=cls.folder)
        return os.path.join(cls.folder, target)

    def setUp(self):
        self.modules = tempfile.mkdtemp(prefix="modules-", dir=self.folder)
        os.chmod(self.modules, 0o755)

    def drop(self, name="signals.bpf.o", source=None, mode=0o644):
        path = os.path.join(self.modules, name)
        shutil.copyfile(source or self.object, path)
        os.chmod(path, mode)
        return path

    def settings(self, *more):
        return [f"agent.modules={self.modules}", *more]

    def schema(self, *more):
        return common.sonde("schema", "--set", f"agent.modules={self.modules}", *more, status=None)

    def refused(self, pattern):
        """One line says why, and nothing of it is in the schema; every other module still is."""
        done = self.schema("--format", "json")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr, pattern)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        types = json.loads(done.stdout)["$defs"]
        self.assertNotIn("signal.sent", types)
        self.assertIn("process.exec", types)

    def test_program_runs_from_the_prefix(self):
        program = os.path.join(self.prefix, "bin", "sonde")
        self.assertRegex(run([program, "--version"]), r"^sonde \d+\.\d+\.\d+\n$")
        self.assertIn("process.exec", run([program, "schema", "process.exec"]))
        run([program, "check", "--offline", "-c", os.path.join(self.prefix, "etc", "sonde", "sonde.yaml"), "--set",
             f"journal.path={self.modules}/journal"])
        self.assertTrue(os.path.isdir(os.path.join(self.prefix, "lib", "sonde", "modules")))
        with open(os.path.join(self.prefix, "lib", "systemd", "system", "sonde.service")) as file:
            self.assertIn(f"ExecStart={self.prefix}/bin/sonde run -c {self.prefix}/etc/sonde/sonde.yaml\n", file.read())

    def test_packages_layout(self):
        """As a package is made: prefix /usr below a folder of its own, the configuration in /etc; a changed one stays."""
        run(["cmake", "--install", common.BUILD, "--prefix", "/usr"], env={**os.environ, "DESTDIR": self.modules})
        config = os.path.join(self.modules, "etc", "sonde", "sonde.yaml")
        with open(config, "a") as file:
            file.write("# changed\n")
        run(["cmake", "--install", common.BUILD, "--prefix", "/usr"], env={**os.environ, "DESTDIR": self.modules})
        with open(config) as file:
            self.assertTrue(file.read().endswith("# changed\n"))
        with open(os.path.join(self.modules, "usr", "lib", "systemd", "system", "sonde.service")) as file:
            self.assertIn("ExecStart=/usr/bin/sonde run -c /etc/sonde/sonde.yaml\n", file.read())
        self.assertEqual(sorted(os.listdir(self.modules)), ["etc", "usr"])

    def test_headers_are_complete(self):
        """Each installed header compiles by itself, on the side it is for."""
        folder = os.path.join(self.prefix, "include")
        for name in sorted(os.listdir(os.path.join(folder, "sonde"))):
            kernel = name.endswith(".bpf.h") or name == "vmlinux.h"
            source = os.path.join(self.modules, "one.c")
            with open(source, "w") as file:
                file.write(f'#include "sonde/{name}"\n')
            run(["clang", *(["-target", "bpf", "-g", "-O2"] if kernel else ["-std=c17"]), "-Wall", "-Werror", "-I", folder, "-c", source,
                 "-o", os.path.join(self.modules, "one.o")])

    def test_pkg_config(self):
        environment = {**os.environ, "PKG_CONFIG_PATH": os.path.join(self.prefix, "share", "pkgconfig")}
        flags = run(["pkg-config", "--cflags", "sonde"], env=environment).split()
        self.assertEqual([os.path.realpath(f.removeprefix("-I")) for f in flags], [os.path.realpath(os.path.join(self.prefix, "include"))])

    def test_schema_and_probes_and_help(self):
        self.drop()
        text = self.schema("signal.sent").stdout
        self.assertIn("signal.sent version 1, module signals\n  A signal was sent to a process.", text)
        for key in ("target_proc", "target_pid", "signal", "target_comm", "code"):
            self.assertRegex(text, rf"(?m)^  {key} +(str|uint|int) +\S")
        probes = common.sonde("probes", *[a for s in self.settings("agent.control=/nowhere.sock") for a in ("--set", s)]).stdout
        self.assertRegex(probes, r"(?m)^signals: signal\.sent\n  sent +tp_btf/signal_generate")
        options = self.schema("--options", "markdown").stdout
        self.assertRegex(options, r"(?s)`modules\.signals`.*`least` \| number \| `1` \| 1 to 64 .*signals with a smaller number are left out")

    def test_option_out_of_range(self):
        self.drop()
        done = self.schema("--set", "modules.signals.least=65")
        self.assertEqual(done.returncode, 78)
        self.assertRegex(done.stderr, r"modules\.signals\.least.*65")
        done = self.schema("--set", "modules.signals.leest=2")
        self.assertEqual(done.returncode, 78)
        self.assertIn("least", done.stderr)

    def test_stream(self):
        self.drop()
        with common.Agent(modules="exec,signals", settings=self.settings("modules.signals.least=12")) as agent:
            target = subprocess.Popen(["/bin/sleep", "300"])
            self.addCleanup(target.kill)
            execution = agent.wait_row("process.exec", lambda r: r["pid"] == target.pid)
            target.send_signal(signal.SIGWINCH)  # ignored, but sent
            target.send_signal(signal.SIGUSR1)  # ends it; 10 is below least
            target.wait(common.bound(10))
            agent.wait_row("signal.sent", lambda r: r["target_pid"] == target.pid)
            agent.stop()
            rows = agent.rows()
        seen = [r for r in rows if r["type"] == "signal.sent" and r["target_pid"] == target.pid]
        self.assertEqual([r["signal"] for r in seen], [signal.SIGWINCH])
        self.assertEqual((seen[0]["target_proc"], seen[0]["target_comm"]), (execution["proc"], "sleep"))
        self.assertEqual((seen[0]["pid"], seen[0]["comm"]), (os.getpid(), own_comm()))
        self.assertNotIn("code", seen[0])  # SI_USER is 0
        # The kernel tells this process of its child's end.
        child = [r for r in rows if r["type"] == "signal.sent" and r["signal"] == signal.SIGCHLD and r["target_pid"] == os.getpid()
                 and r["pid"] == target.pid]
        self.assertEqual([r["code"] for r in child], [2])  # CLD_KILLED
        self.assertEqual(child[0]["proc"], execution["proc"])
        self.assertEqual(child[0]["target_proc"], execution["parent"])
        self.assertLedgerExact(rows)
        self.assertIn("signal.sent", common.ledger(rows))
        start = next(r for r in rows if r["type"] == "agent.start")
        self.assertIn("signals", start["modules"])
        self.assertIn("signals.sent=tp_btf/signal_generate", start["hooks"])

    def test_refuses_what_others_may_write(self):
        for mode in (0o664, 0o646, 0o666):
            self.drop(mode=mode)
            self.refused(rf"signals\.bpf\.o is refused: others than root may write it \(mode {mode:04o}\); chmod go-w it$")

    def test_refuses_a_folder_that_others_may_write(self):
        self.drop()
        for mode in (0o775, 0o757, 0o1777):
            os.chmod(self.modules, mode)
            self.refused(rf"{re.escape(self.modules)} is refused: others than root may write it \(mode {mode:04o}\)")

    def test_refuses_what_is_not_roots(self):
        os.chown(self.drop(), 65534, 0)
        self.refused(r"signals\.bpf\.o is refused: it belongs to user 65534, not to root")
        os.chown(self.drop(), 0, 0)
        os.chown(self.modules, 65534, 0)
        self.refused(r"is refused: it belongs to user 65534, not to root")

    def test_refuses_links_and_other_files(self):
        os.symlink(self.object, os.path.join(self.modules, "signals.bpf.o"))
        self.refused(r"signals\.bpf\.o is refused: it is a symbolic link")
        os.unlink(os.path.join(self.modules, "signals.bpf.o"))
        os.mkfifo(os.path.join(self.modules, "signals.bpf.o"), 0o600)
        self.refused(r"signals\.bpf\.o is refused: it is no regular file")

    def test_refuses_a_link_for_a_folder(self):
        self.drop()
        link = self.modules + "-link"
        os.symlink(self.modules, link)
        done = common.sonde("schema", "--set", f"agent.modules={link}", status=78)
        self.assertRegex(done.stderr, r"is a symbolic link")

    def test_refuses_an_object_without_btf(self):
        bare = os.path.join(self.folder, "bare.bpf.o")
        run(["llvm-objcopy", "--remove-section=.BTF", "--remove-section=.BTF.ext", self.object, bare])
        self.drop(source=bare)
        self.refused(r"signals\.bpf\.o is refused: .*compile it with clang -g")

    def test_refuses_garbage(self):
        path = self.drop()
        for data in (b"", b"\x7fELF", os.urandom(4096), open(self.object, "rb").read()[:3000]):
            with open(path, "wb") as file:
                file.write(data)
            self.refused(r"signals\.bpf\.o is refused: ")

    def test_refuses_names_that_are_taken(self):
        self.drop("exec.bpf.o")
        self.refused(r"exec\.bpf\.o is refused: there is a module 'exec' already")
        os.unlink(os.path.join(self.modules, "exec.bpf.o"))
        self.drop("Signals.bpf.o")
        self.refused(r"Signals\.bpf\.o is refused: a module's name is at most 32 of a-z, 0-9, _ and -")

    def test_refuses_an_event_that_is_taken(self):
        self.drop("signals.bpf.o")
        self.drop("zsignals.bpf.o")
        done = self.schema("--format", "json")
        self.assertRegex(done.stderr, r"zsignals\.bpf\.o is refused: event 'signal\.sent' is declared by module 'signals' too\n$")
        self.assertIn("signal.sent", json.loads(done.stdout)["$defs"])

    def changed(self, *changes):
        """The sample with parts of it replaced, as an object."""
        with open(SAMPLE) as file:
            text = file.read()
        for old, new in changes:
            self.assertIn(old, text)
            text = text.replace(old, new)
        with open(os.path.join(self.folder, "changed.bpf.c"), "w") as file:
            file.write(text)
        return self.compile("changed.bpf.c", "changed.bpf.o")

    def test_refuses_declarations_that_cannot_be(self):
        for old, new, why in (
                ('SONDE_AS("id")', 'SONDE_AS("roman")', r"struct signal_sent: member 'target_proc' is of a type that cannot be written as roman"),
                ('"signal.sent"', '"signal"', r"event 'signal' is not declared by SONDE_EVENT as class\.event"),
                ("struct sonde_event event; /*", "__u32 first;\n\tstruct sonde_event event; /*", r"its first member must be a struct sonde_event"),
                ("target_pid", "pid", r"member 'pid' has a name that is longer than 64 bytes, or one that every event has"),
                ("least", "enabled", r"declares an option 'enabled', which every module has")):
            with self.subTest(new):
                self.drop(source=self.changed((old, new)))
                self.refused(rf"signals\.bpf\.o is refused: .*{why}")

    def test_refuses_another_header(self):
        folder = os.path.join(self.folder, "old", "include")
        shutil.copytree(os.path.join(self.prefix, "include"), folder)
        path = os.path.join(folder, "sonde", "event.h")
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text.replace("	char comm[16];\n};", "	char comm[32];\n};"))
        run(["clang", "-g", "-O2", "-target", "bpf", "-I", folder, "-c", SAMPLE, "-o", os.path.join(self.folder, "old.bpf.o")])
        self.drop(source=os.path.join(self.folder, "old.bpf.o"))
        self.refused(r"its struct sonde_event is another sonde's; rebuild it with the headers of this one")

    def test_agent_runs_beside_a_refused_module(self):
        self.drop(mode=0o666)
        with common.Agent(modules="exec", settings=self.settings()) as agent:
            pid = common.spawn(["/bin/true"])
            agent.wait_row("process.exec", lambda r: r["pid"] == pid)
            self.assertIn("signals.bpf.o is refused", agent.output())

    def test_module_that_the_kernel_refuses(self):
        """It is said and left out; what it says names the program and the kernel's reason."""
        self.drop(source=self.changed(("tp_btf/signal_generate", "tp_btf/no_such_thing")))
        with common.Agent(modules="exec,signals", settings=self.settings()) as agent:
            pid = common.spawn(["/bin/true"])
            agent.wait_row("process.exec", lambda r: r["pid"] == pid)
            probes = json.loads(common.sonde("probes", "--json", "--set", f"agent.control={agent.control}").stdout)
        measure = next(m for m in probes["modules"] if m["module"] == "signals")["measures"][0]
        self.assertFalse(measure.get("hook"))
        self.assertIn("no_such_thing", measure["why"])

    def test_hook_that_the_kernel_takes(self):
        """Of three hooks the first is not there and the verifier refuses the second: the third is used, and the reasons are said."""
        with open(SAMPLE) as file:
            text = file.read()
        begin = text.index('SEC("tp_btf/signal_generate")')
        text = text[:begin] + """
SEC("tp_btf/no_such_thing")
int BPF_PROG(sent__tp_btf, int sig)
{
	return 0;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(sent__unchecked, int sig)
{
	__u32 zero = 0;
	__u8 *value = bpf_map_lookup_elem(&sonde_filter_user, &zero);

	return *value; /* which may be NULL */
}

SEC("raw_tp/signal_generate")
int sent__raw(__u64 *args)
{
	struct signal_sent *e = sonde_reserve(signal_sent, sizeof *e);

	if (!e)
		return 0;
	__builtin_memset(&e->target_proc, 0, sizeof *e - sizeof e->event);
	e->signal = (__u32)args[0];
	sonde_submit(signal_sent, e, sizeof *e);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
        with open(os.path.join(self.folder, "hooks.bpf.c"), "w") as file:
            file.write(text)
        self.drop(source=self.compile("hooks.bpf.c", "hooks.bpf.o"))
        with common.Agent(modules="exec,signals", settings=self.settings()) as agent:
            probes = json.loads(common.sonde("probes", "--json", "--set", f"agent.control={agent.control}").stdout)
            target = subprocess.Popen(["/bin/sleep", "300"])
            self.addCleanup(target.kill)
            target.send_signal(signal.SIGTERM)
            target.wait(common.bound(10))
            agent.wait_row("signal.sent", lambda r: r["signal"] == signal.SIGTERM and r["pid"] == os.getpid())
        measures = next(m for m in probes["modules"] if m["module"] == "signals")["measures"]
        self.assertEqual([(m["measure"], m["hook"]) for m in measures], [("sent", "raw_tp/signal_generate")])
        self.assertRegex(measures[0]["why"], r"tp_btf/no_such_thing: this kernel has no tracepoint no_such_thing; tp_btf/signal_generate: \S")

    def pair(self, name="pair", signature="SONDE_MODULE_SIGNATURE", mode=0o644):
        for file, text in (("pair.h", PAIR_HEADER), ("pair.bpf.c", PAIR_BPF), ("pair.c", PAIR_C)):
            with open(os.path.join(self.folder, file), "w") as out:
                out.write(text)
        self.drop("pair.bpf.o", self.compile("pair.bpf.c", "pair.bpf.o"))
        library = os.path.join(self.folder, "pair.so")
        run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", f"-DSIGNATURE={signature}", f'-DNAME="{name}"',
             "-I", os.path.join(self.prefix, "include"), "-I", self.folder, "-o", library, os.path.join(self.folder, "pair.c")])
        return self.drop("pair.so", library, mode)

    def test_companion(self):
        self.pair()
        with common.Agent(modules="pair", settings=self.settings("modules.pair.least=28")) as agent:
            target = subprocess.Popen(["/bin/sleep", "300"])
            self.addCleanup(target.kill)
            target.send_signal(signal.SIGWINCH)
            agent.wait_row("pair.doubled", lambda r: r["pid"] == os.getpid() and r["twice"] == 2 * signal.SIGWINCH)
            target.kill()
            target.wait(common.bound(10))
            agent.stop()
            rows = agent.rows()
            self.assertIn("module pair: is attached", agent.output())
        mine = [r for r in rows if r["type"] == "pair.doubled"]
        self.assertTrue(all(r["word"] == "made" and r["twice"] >= 56 for r in mine))
        self.assertFalse([r for r in rows if r["type"] == "pair.seen"])
        types = common.ledger(rows)
        self.assertEqual(common.ledger_faults(types), [])
        self.assertEqual(types["pair.doubled"]["journaled"], len(mine))
        self.assertEqual(types["pair.seen"]["journaled"], len(mine))
        # SIGKILL and SIGCHLD were below `least`.
        self.assertGreaterEqual(types["pair.seen"]["dropped"]["table_full"], 2)

    def test_companion_refused(self):
        for options, why in (({"signature": '"sonde-0/event16"'}, r"pair\.so is refused: it was built for another sonde \(sonde-0/event16\); rebuild"),
                             ({"signature": "NULL"}, r"pair\.so is refused: it was built for another sonde \(without a signature\)"),
                             ({"name": "other"}, r"pair\.so is refused: it is the companion of 'other', not of 'pair'"),
                             ({"mode": 0o666}, r"pair\.so is refused: others than root may write it")):
            with self.subTest(options):
                self.pair(**options)
                done = self.schema("--format", "json")
                self.assertRegex(done.stderr, why)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertNotIn("pair.doubled", json.loads(done.stdout)["$defs"])


def own_comm():
    with open("/proc/self/comm") as file:
        return file.read().rstrip("\n")


if __name__ == "__main__":
    unittest.main()
