#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The corpus of tests/corpus: how each program is built and run, its known chain of calls, and the judge of sampled stacks.

A chain is a regular expression over a stack's text, leaf first, one line "function|library" for each frame of the program (the
kernel's are not judged). It spells the whole stack: a missing frame, one too many, or a stack that does not reach its
root is wrong. Judged are the samples whose leaf is where the program burns; that these are next to all of its samples, and its samples as
many as the CPU time that it says it burned, keeps a judge from being content with the few that it likes.

The judges themselves are held against another source: corpus.py --perf [NAME ...] runs the same programs under `perf record
--call-graph dwarf` and judges what `perf script` says. usage: corpus.py [--perf] [--seconds S] [NAME ...]
"""
import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile

import common

SOURCES = os.path.join(common.ROOT, "tests", "corpus")
BINARIES = os.path.join(common.BUILD, "tests", "corpus")
RATE = 99
RIGHT = 0.99  # share of the judged samples that must show the known chain
ENOUGH = 0.9  # judged samples, as a share of all of the program's

# What is never judged by its exact text is what lies between the program's outermost function and the end of its stack.
FRAME = re.compile(r"^(?P<name>.*?)(?:\+0x[0-9a-f]+)? \((?P<library>\[[^\]]*\]|[^()\s]+)\)(?: \[[^\]]*\])?(?: \(inlined\))?$")
NAMELESS = re.compile(r"^(?P<library>\S+)\+0x[0-9a-f]+(?: \[[0-9a-f]+\])?$")


def frame(text):
    """(function, library) of a frame's text; without a function the name is empty, without a library that is."""
    if match := FRAME.match(text):
        return match["name"], match["library"]
    if match := NAMELESS.match(text):
        return "", match["library"]
    return "", ""


def fn(*names, lib=r"[^|\n]*"):
    """One frame of any of these functions, which are regular expressions."""
    return rf"(?:{'|'.join(names)})\|{lib}\n"


def opt(part):
    return f"(?:{part})?"


def some(part):
    return f"(?:{part})+"


def any_frames(least=0):
    return rf"(?:[^\n]*\n){{{least},}}"


LIBC = r"libc[.-][^|\n]*"
ANY_OF_LIBC = rf"[^|\n]*\|{LIBC}\n"
LOADER = r"[^|\n]*\|ld-linux[^|\n]*\n"  # __tls_get_addr()
# _start > __libc_start_main > __libc_start_call_main > main, as far as the C library has names for them.
START_CALL = fn("__libc_start_call_main", "__libc_start_main.*", "__libc_init_first.*", "", lib=LIBC)
START_MAIN = fn("__libc_start_main.*", "", lib=LIBC) + fn("_start")
START = START_CALL + START_MAIN
START_STATIC = fn("__libc_start_call_main") + fn("__libc_start_main.*") + fn("_start")
THREAD = fn("start_thread", "", lib=LIBC) + fn("_*clone3?", "", lib=LIBC)
PLAIN = fn("burn") + fn("chain_c") + fn("chain_b") + fn("chain_a") + fn("main")
RUST_HASH = "(?:::h[0-9a-f]{16})?"
RUST_CRATE = r"(?:\[[0-9a-f]+\])?"


def rust(name):
    """A Rust path as demanglers write it: with or without the hash of legacy names and the crate numbers of new ones."""
    return fn(re.escape(name).replace("chain::", f"chain{RUST_CRATE}::").replace("links::", f"links{RUST_CRATE}::") + RUST_HASH)


class Case:
    """One program. `judged` says of a leaf line whether the sample is judged; `chain` is the whole stack."""

    def __init__(self, name, argv, chain, judged=fn("burn"), guest=True, select=None, build=None, feed=None,
                 enough=ENOUGH):
        self.name, self.argv, self.guest, self.text = name, argv, guest, chain
        self.chain, self.judged = re.compile(chain), re.compile(judged)
        self.enough = enough
        self.select = select or (lambda row: True)  # rows that are judged at all
        self.build = build  # makes what the C build does not; None: that does
        self.feed = feed  # called with the running process (which has a pipe at both ends) once it is there

    def command(self, seconds):
        return [a.format(bin=BINARIES, src=SOURCES, seconds=seconds, python=python312() or "") for a in self.argv]

    def run(self, seconds):
        """Runs the program to its end: its pid (or that of the child it names), and the CPU seconds that it burned for certain."""
        argv, before = self.command(seconds), common.stolen()
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            said = self.feed(process) if self.feed else ""
            said += process.communicate(timeout=common.bound(60 + 10 * seconds))[0]
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise AssertionError(f"{argv} ended with {process.returncode}")
        pid = re.search(r"^pid (\d+)$", said, re.M)
        return int(pid[1]) if pid else process.pid, float(re.search(r"^burned (\S+)$", said, re.M)[1]) - (common.stolen() - before)


def tool(name, *places):
    """Path of a program: where it was installed by hand first, then where Debian has it."""
    for place in places:
        path = os.path.join(os.path.expanduser(place), name)
        if os.access(path, os.X_OK):
            return path
    return shutil.which(name)


def python312():
    """A Python that writes perf maps: 3.12 or later. Debian 12 has none; SONDE_PYTHON312 names one, else it is looked for."""
    homes = [os.path.expanduser(f"~{user}/.pyenv/versions") for user in ("", os.environ.get("SUDO_USER") or "")]
    found = [os.environ.get("SONDE_PYTHON312")] + [shutil.which(f"python3.{n}", path="/usr/local/bin:/usr/bin") for n in range(12, 20)]
    for home in homes:
        if os.path.isdir(home):
            found += [os.path.join(home, v, "bin", "python3") for v in sorted(os.listdir(home), reverse=True)]
    for path in filter(None, found):
        done = subprocess.run([path, "-c", "import sys; print(hasattr(sys, 'activate_stack_trampoline'))"], capture_output=True, text=True)
        if done.stdout.strip() == "True":
            return path
    return None


def newer(path, *sources):
    return os.path.exists(path) and all(os.path.getmtime(path) > os.path.getmtime(os.path.join(SOURCES, s)) for s in sources)


def compile_once(output, sources, *commands, cwd=SOURCES):
    output = os.path.join(BINARIES, output)
    if newer(output, *sources):
        return
    for command in commands:
        environment = {**os.environ, "GO111MODULE": "off", "HOME": os.environ.get("HOME") or "/root"}
        done = subprocess.run([c.format(bin=BINARIES) for c in command], cwd=cwd, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise AssertionError(f"{command}: {done.stderr[-2000:]}")


def wanted(name, *places):
    path = tool(name, *places)
    if not path:
        raise AssertionError(f"{name} is not installed: scripts/test installs what the corpus needs")
    return path


def build_rust(mangling):
    def build():
        rustc = wanted("rustc", "~/.cargo/bin", "/usr/local/bin")
        name = f"rust_{mangling}"
        # Each mangling needs its library to be of the same. `-C symbol-mangling-version=legacy` is not stable: it was the default.
        flags = ["-O"] + (["-C", "symbol-mangling-version=v0"] if mangling == "v0" else [])
        folder = os.path.join(BINARIES, "rlib_" + mangling)
        os.makedirs(folder, exist_ok=True)
        compile_once(name, ["rust/links.rs", "rust/chain.rs"],
                     [rustc, *flags, "--crate-type", "rlib", "--crate-name", "links", "-o", folder + "/liblinks.rlib", "rust/links.rs"],
                     [rustc, *flags, "--crate-name", "chain", "-L", folder, "-o", "{bin}/" + name, "rust/chain.rs"])
    return build


def build_go(folder):
    def build():
        compile_once("go_" + folder, [folder + "/main.go"],
                     [wanted("go", "/usr/local/go/bin"), "build", "-o", "{bin}/go_" + folder, "main.go"], cwd=os.path.join(SOURCES, folder))
    return build


def build_java():
    wanted("jcmd")
    compile_once("Chain.class", ["java/Chain.java"], [wanted("javac"), "-d", "{bin}", "java/Chain.java"])


def feed_java(process):
    """Once everything is compiled: a perf map is written on demand, and the thread that is judged starts."""
    said = process.stdout.readline()
    done = subprocess.run(["jcmd", str(process.pid), "Compiler.perfmap"], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"jcmd: {done.stdout}{done.stderr}")
    process.stdin.write("\n")
    process.stdin.flush()
    return said


def of_c(name, chain=PLAIN + START, **more):
    return Case(name, ["{bin}/" + name, "{seconds}"], chain, **more)


STEP = opt(fn("step")) + fn("spin") + fn("outer") + fn("main") + START
# Parameters are in the name or not, as demanglers differ.
INT = r"(?:\(int\))?"
CLONE = r"(?:\.\w+| \[clone [^]\n]*\])*"  # a part of a function, put elsewhere by the compiler
BY_CATCH = fn(rf"corpus::catcher{INT}{CLONE}") + fn("main")
BY_GUARD = fn(r"corpus::Guard::~Guard(?:\(\))?") + fn(rf"corpus::thrower{INT}{CLONE}") + BY_CATCH
LAMBDA = r"corpus::work_by_lambda\(int\)::\{lambda\(int\)#1\}"
GO_END = opt(fn(r"runtime\.main")) + fn(r"runtime\.goexit(?:\.abi0)?")
C_LEAF = fn("burn_c") + fn("chain_c") + opt(fn(r"_cgo_[0-9a-f]+_Cfunc_chain_c")) + fn(r"runtime\.asmcgocall(?:\.abi0)?")
JS = r"(?:JS|LazyCompile|Function|Script|Eval):[*~^+']*"
PY = "py::"


def js(name):
    return fn(rf"{JS}{name} \S*chain\.js(?::\d+)*")


def py(name):
    return fn(rf"py::{name}:\S*chain\.py")


# Not the interpreter's own beginning and end.
PYTHON_RUNS = r"(?![\s\S]*(?:Initializ|Finaliz|pymain_init|Py_Preinit))[^|\n]*\|(?:libpython|python|perf-|\[|ld-linux|libc\.so)"
PYTHON_BURNS = r"(?=(?:[\s\S]*\n)?py::burn:)" + PYTHON_RUNS
PYTHON_C = r"[^|\n]*\|(?:libpython|python)3?\.?[^|\n]*\n"  # any function of the interpreter, with or without a name
# The closure is inlined into the generic function, whose name has its type in the new mangling.
RUST_CHAIN = rust("links::burn") + rust("<links::Worker<u64> as links::Step>::step") + rust("chain::by_closure") + \
    opt(fn(r"chain[^|\n]*outer[^|\n]*closure[^|\n]*")) + fn(rf"links{RUST_CRATE}::apply(?:::<[^|\n]*>)?{RUST_HASH}") + rust("chain::outer") + \
    rust("chain::main") + any_frames() + fn("main") + START
CASES = [
    of_c("plain"),
    of_c("recursion", fn("burn") + rf"(?:{fn('descend')}){{300}}" + fn("main") + START),
    # The signal's return stub has a name in the C library's symbol table only, and one byte before it there is none.
    of_c("alarm", fn("burn") + fn("on_alarm") + fn("__restore_rt", "", "__libc_sigaction.*", "killpg.*", "sigaction.*", lib=LIBC) + STEP),
    of_c("fault", fn("burn") + fn("on_fault") + fn("__restore_rt", "", "__libc_sigaction.*", "killpg.*", "sigaction.*", lib=LIBC) +
         fn("touch") + fn("outer") + fn("main") + START),
    of_c("room", fn("burn") + fn("with_array") + fn("with_alloca") + fn("main") + START),
    of_c("noreturn", fn("burn") + fn("forever") + fn("enter") + fn("main") + START),
    of_c("thread", fn("burn") + fn("chain") + fn("work") + THREAD),
    of_c("forked", fn("burn") + fn("chain") + fn("main") + START),
    of_c("dynamic", fn("burn", lib=r"libcorpus_plugin\.so") + fn("plugin_entry", lib=r"libcorpus_plugin\.so") + fn("use") + fn("main") + START),
    # In the stub the leaf is a place in the program's own file, whatever name it is given.
    of_c("stub", opt(fn("linked_tiny", lib=r"libcorpus_linked\.so") + "|" + r"(?!drive\|)[^|\n]*\|stub\n") + fn("drive") + fn("main") + START,
         judged=r"linked_tiny\||drive\||[^|\n]*\|stub\n"),
    of_c("lazy", fn("burn") + fn("resolve", "linked_lazy") + some(r"[^|\n]*\|ld[-.][^|\n]*\n") + fn("drive") + fn("main") + START),
    of_c("vdso", rf"(?:[^|\n]*\|\[vdso\]\n)*" + opt(fn("_*clock_gettime.*", "", lib=LIBC)) + opt(r"[^|\n]*\|vdso\n(?=read_clock)") +
         fn("read_clock") + fn("main") + START, judged=r"[^|\n]*\|(\[vdso\]|libc[.-]\S*|vdso)\n"),
    of_c("syscall", fn("(?:__GI_)?_*(?:libc_)?read(?:_nocancel)?", lib=LIBC) + fn("take") + fn("main") + START, judged=r"[^|\n]*read\|"),
    of_c("folded", fn("inner") + fn("middle") + fn("outer") + fn("main") + START, judged="(inner|middle|outer)\\|"),
    of_c("static_pie", PLAIN + START_STATIC),
    of_c("debug_frame", opt(fn("corpus_work")) + PLAIN + START, judged=fn("burn", "corpus_work")),
    of_c("frame_pointers"),
    of_c("debugdata"),
    of_c("debuglink"),
    of_c("objects", fn(r"corpus::burn(?:\(unsigned long\))?") + fn(rf"{LAMBDA}::operator\(\)(?:\(int\) const)?") +
         fn(rf"(?:int )?corpus::Engine<int>::run<{LAMBDA}>(?:\({LAMBDA}\))?") + fn(f"corpus::work_by_lambda{INT}") + f"(?:{BY_GUARD}|{BY_CATCH})" + START,
         judged=r"[^|\n]*burn"),
    # Debian's musl is built without tables for what calls main, so main's caller may be the last frame.
    of_c("musl", PLAIN + fn("libc_start_main_stage2", "__libc_start_main") + opt(fn("__libc_start_main") + "|" + fn("_start(?:_c)?") + opt(fn("_start")))),
    # A 32-bit program: its leaf has a name; how far its stack goes is judged by test_bits32.
    of_c("bits32", any_frames(1), guest=False),
    Case("rust_legacy", ["{bin}/rust_legacy", "{seconds}"], RUST_CHAIN, judged=rust("links::burn"), build=build_rust("legacy"), guest=False),
    Case("rust_v0", ["{bin}/rust_v0", "{seconds}"], RUST_CHAIN, judged=rust("links::burn"), build=build_rust("v0"), guest=False),
    Case("go", ["{bin}/go_go", "{seconds}"], fn(r"main\.burn") + fn(r"main\.Link\.chainB") + fn(r"main\.chainA") + fn(r"main\.main\.func1") + GO_END,
         judged=fn(r"main\.burn"), build=build_go("go"), guest=False),
    Case("cgo_in_go", ["{bin}/go_cgo", "{seconds}", "go"], fn(r"main\.burn") + fn(r"main\.chainA") + fn(r"main\.main") + GO_END,
         judged=fn(r"main\.burn"), build=build_go("cgo"), guest=False),
    # C called by Go runs on another stack than Go: what was copied of it ends where the goroutine's begins.
    Case("cgo_in_c", ["{bin}/go_cgo", "{seconds}", "c"],
         C_LEAF + opt(fn(r"runtime\.cgocall") + fn(r"main\._Cfunc_chain_c") + fn(r"main\.chainA") + fn(r"main\.main") + GO_END),
         judged=fn("burn_c"), build=build_go("cgo"), guest=False),
    Case("node", ["node", "--perf-basic-prof", "--no-logfile-per-isolate", "--logfile=/dev/null", "--always-sparkplug", "--max-inlined-bytecode-size=0", "--max-inlined-bytecode-size-cumulative=0",
                  "{src}/chain.js", "{seconds}"],
         js("burn") + js("chainB") + js("chainA") + js("main") + any_frames(3) + r"[^\n]*node::Start(?:\([^|\n]*\))?\|[^\n]*\n" + opt(fn("main")) + START,
         judged=js("burn"), guest=False, enough=0.7),  # it takes a while to start
    Case("java", ["java", "-XX:+PreserveFramePointer", "-XX:CompileCommand=quiet", "-XX:CompileCommand=dontinline,Chain::*", "-cp", "{bin}",
                  "Chain", "{seconds}"],
         fn(r"[^|\n]*Chain[^|\n]*burn[^|\n]*") + fn(r"[^|\n]*Chain[^|\n]*chainB[^|\n]*") + fn(r"[^|\n]*Chain[^|\n]*chainA[^|\n]*") + any_frames(3) + THREAD,
         judged=r"[^|\n]*Chain[^|\n]*burn[^|\n]*\|", select=lambda row: row["comm"] == "burner", build=build_java, feed=feed_java, guest=False),
    Case("python", ["/usr/bin/python3", "-I", "-S", "{src}/chain.py", "{seconds}"],
         rf"(?:{PYTHON_C}|{ANY_OF_LIBC}|{LOADER})*{fn('_PyEval_EvalFrameDefault')}(?:{PYTHON_C})*{fn('Py_BytesMain')}{opt(fn('main'))}{START}",
         judged=PYTHON_RUNS, guest=False),
    Case("python_map", ["{python}", "-I", "-S", "-X", "perf", "{src}/chain.py", "{seconds}"],
         rf"(?:{PYTHON_C}|{ANY_OF_LIBC}|{LOADER})*" + py("burn") + some(PYTHON_C) + py("chain_b") + some(PYTHON_C) + py("chain_a") +
         some(PYTHON_C) + py("<module>") + some(PYTHON_C) + fn("Py_BytesMain") + opt(fn("main")) + START,
         judged=PYTHON_BURNS, guest=False),
]
# An emulated processor gives the rest too few samples of the right kind in a reasonable time.
IN_GUESTS = ("plain", "recursion", "static_pie", "debug_frame", "frame_pointers", "dynamic", "thread")
for one in CASES:
    one.guest = one.guest and one.name in IN_GUESTS
BY_NAME = {c.name: c for c in CASES}


class Verdict:
    """What the judge says of one program's samples."""

    def __init__(self, case, burned, stacks, rate=RATE):
        """stacks: (list of frames (function, library), samples), leaf first, the kernel's taken off."""
        self.case, self.wrong, self.elsewhere = case, collections.Counter(), collections.Counter()
        self.samples = self.judged = self.right = 0
        self.expected = burned * rate
        for frames, count in stacks:
            text = "".join(f"{name}|{library}\n" for name, library in frames)
            self.samples += count
            if not case.judged.match(text):
                self.elsewhere[text] += count
                continue
            self.judged += count
            if case.chain.fullmatch(text):
                self.right += count
            else:
                self.wrong[text] += count

    @property
    def share(self):
        return self.right / self.judged if self.judged else 0.0

    def faults(self):
        """Sentences; none when the case passes."""
        faults = []
        if not self.samples:
            faults.append("no sample at all")
        # Where others want the CPU too, how often a sample hits this program is chance: four standard deviations.
        if self.samples < 0.9 * self.expected - 4 * max(0, self.expected) ** 0.5:
            faults.append(f"{self.samples} samples for some {self.expected:.0f}")
        # In a guest the start of the program is much of its time, the more the busier the host.
        if self.judged < self.case.enough * self.samples * (0.7 if common.GUEST else 1):
            faults.append(f"{self.judged} of {self.samples} samples have their leaf where it burned")
        if self.share < RIGHT:
            faults.append(f"{self.share:.1%} of them show the chain")
        return faults

    def __str__(self):
        return f"{self.case.name}: {self.share:.1%} right of {self.judged} samples judged, {self.samples} in all"

    def details(self, count=2):
        """The most frequent wrong stacks, whole."""
        text = ""
        for stack, number in (self.wrong or self.elsewhere).most_common(count):
            lines = stack.splitlines()
            shown = lines if len(lines) < 40 else [*lines[:15], f"... {len(lines) - 30} more ...", *lines[-15:]]
            text += f"{number} x\n" + "".join(f"    {line}\n" for line in shown)
        return text


def user_side(stack):
    return [frame(f) for f in stack if not f.endswith("([k])")]


def verdict(case, rows, pid, burned, rate=RATE):
    """Of sonde's rows."""
    own = [r for r in rows if r["type"] == "profile.cpu" and r["pid"] == pid and case.select(r)]
    return Verdict(case, burned, [(user_side(r["stack"]), r["value"]) for r in own], rate)


def build(names=None):
    """Makes what is not there yet of these programs, the C ones by the build of this project. In the guests all is there."""
    if common.GUEST:
        return
    if os.path.exists(os.path.join(common.BUILD, "build.ninja")):
        subprocess.run(["cmake", "--build", common.BUILD, "--target", "corpus"], check=True, stdout=subprocess.DEVNULL)
    for case in CASES:
        if case.build and (not names or case.name in names):
            case.build()


def clean(pids):
    """Perf maps stay behind their processes: the agent reads them later. They go once it has ended."""
    for pid in pids:
        try:
            os.unlink(f"/tmp/perf-{pid}.map")
        except FileNotFoundError:
            pass


class PerfSource:
    """The same samples by perf: record with a copy of the stack, unwound by perf itself."""
    HEAD = re.compile(r"^(?P<comm>.*?)\s+(?P<pid>\d+)/(?P<tid>\d+)")
    LINE = re.compile(r"^\s+[0-9a-f]+ (?P<symbol>.*) \((?P<library>.*)\)$")

    def __init__(self, path):
        self.path = path

    def start(self, rate=RATE):
        self.process = subprocess.Popen(["perf", "record", "-q", "--buildid-mmap", "-F", str(rate), "-e", "cpu-clock", "-a", "--call-graph", "dwarf,65528",
                                         "-o", self.path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        common.wait_until(lambda: os.path.exists(self.path) and os.path.getsize(self.path) > 0, 10, "perf's file")

    def stop(self):
        self.process.send_signal(common.signal.SIGINT)
        self.process.wait(common.bound(30))

    def rows(self, *options):
        """Rows in the shape of profile.cpu, one for each sample."""
        out = subprocess.run(["perf", "script", "-i", self.path, "-F", "comm,pid,tid,ip,sym,dso", "--max-stack", "1024", *options], text=True, stdout=subprocess.PIPE,
                             stderr=sys.stderr, errors="replace").stdout
        rows, row = [], None
        for line in out.splitlines():
            if match := self.LINE.match(line):
                name = "" if match["symbol"] == "[unknown]" else match["symbol"]
                library = match["library"]
                if library.startswith("[kernel") or library.startswith("[guest"):
                    library = "[k]"
                elif library == "inlined":
                    library = "libc.so.6" if name.startswith(("__libc", "__GI_")) else "inlined"
                else:
                    library = os.path.basename(library)
                row["stack"].append(f"{name}+0x0 ({library})")
            elif match := self.HEAD.match(line):
                row = {"type": "profile.cpu", "comm": match["comm"].strip(), "pid": int(match["pid"]), "tid": int(match["tid"]), "value": 1, "stack": []}
                rows.append(row)
        return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perf", action="store_true", help="judge perf's stacks instead of sonde's")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--details", type=int, default=1, help="so many wrong stacks of each are shown")
    parser.add_argument("names", nargs="*", choices=[[], *BY_NAME])
    arguments = parser.parse_args()
    cases = [BY_NAME[n] for n in arguments.names] or CASES
    build([c.name for c in cases])
    cases = [c for c in cases if c.name != "python_map" or python312()]
    runs = []
    if arguments.perf:
        for case in cases:  # perf itself loses the way in the C library now and then
            case.chain = re.compile(case.text.replace(START, START_CALL + opt(START_MAIN)))
        with tempfile.TemporaryDirectory() as folder:
            for case in cases:
                perf = PerfSource(os.path.join(folder, case.name))
                perf.start()
                runs.append((case, *case.run(arguments.seconds)))
                perf.stop()
                runs[-1] += (perf.rows("--pid", str(runs[-1][1])),)
                os.unlink(perf.path)
    else:
        with common.Agent(modules="cpu", settings=["agent.window=2s"]) as agent:
            runs = [(case, *case.run(arguments.seconds)) for case in cases]
            agent.stop()
            rows = agent.rows("profile.cpu")
        runs = [(*run, rows) for run in runs]
    clean(run[1] for run in runs)
    failed = 0
    for case, pid, burned, rows in runs:
        result = verdict(case, rows, pid, burned)
        print("FAILED" if result.faults() else "ok    ", result, *result.faults(), sep="  ")
        if result.faults():
            failed += 1
            print(result.details(arguments.details), end="")
    print(f"{len(runs) - failed} right, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
