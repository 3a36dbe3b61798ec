#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks of the sources themselves; closes with 'RESULT passed=N failed=M'. Each check is one sentence that holds or not."""
import ast
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Formats without comments, prose, the licences, and inputs of tests, whose bytes are the test.
NO_SPDX = re.compile(r"(\.json|\.md|\.txt|\.png|\.pcap(ng)?|\.gitignore|\.clang-format)$|^LICENSES/|^tests/(data|fuzz/corpus)/")
C_SOURCE = re.compile(r"\.[ch]$")
NOT_FORMATTED = re.compile(r"(^|/)vmlinux\.h$|^tests/data/")
GENERATED = re.compile(r"\.(o|a|so|d|pyc|ll|bc|skel\.h|ninja|log|profraw|class|jar|deb)$|(^|/)(build[^/]*|__pycache__|node_modules)/|"
                       r"(^|/)(CMakeCache\.txt|compile_commands\.json)$")
LARGEST = 512 * 1024


def tracked():
    out = subprocess.run(["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=True).stdout
    return [p for p in out.decode().split("\0") if p and os.path.isfile(os.path.join(ROOT, p)) and not os.path.islink(os.path.join(ROOT, p))]


def read(path):
    with open(os.path.join(ROOT, path), "rb") as file:
        return file.read()


def formatted(files):
    sources = [f for f in files if C_SOURCE.search(f) and not NOT_FORMATTED.search(f)]
    done = subprocess.run(["clang-format", "--dry-run", "--Werror", *sources], cwd=ROOT, capture_output=True, text=True)
    return [line for line in done.stderr.splitlines() if "error:" in line] if done.returncode else []


def licensed(files):
    faults = []
    for path in files:
        if NO_SPDX.search(path):
            continue
        wanted = "GPL-2.0-only" if path.endswith(".bpf.c") else "Apache-2.0"
        found = re.search(rb"SPDX-License-Identifier: ([^\s*]+)", read(path)[:400])
        if not found:
            faults.append(f"{path}: no SPDX line at its top")
        # What both sides include is offered under either licence.
        elif wanted not in found[1].decode() and not (path.endswith(".h") and b"GPL-2.0-only" in found[1]):
            faults.append(f"{path}: {found[1].decode()} instead of {wanted}")
    return faults


def clean(files):
    faults = [f"{p}: generated, and does not belong into the tree" for p in files if GENERATED.search(p)]
    for path in files:
        if re.match(r"tests/(data|fuzz/corpus)/|docs/.*\.(png|svg)$", path):
            continue
        data = read(path)
        if b"\0" in data:
            faults.append(f"{path}: binary")
        if len(data) > LARGEST:
            faults.append(f"{path}: {len(data)} bytes")
    return faults


def parses(files):
    faults = []
    for path in files:
        head = read(path)[:64]
        if path.endswith(".py") or re.match(rb"#!.*python", head):
            try:
                ast.parse(read(path), path)
            except SyntaxError as fault:
                faults.append(str(fault))
        elif path.endswith(".sh") or re.match(rb"#!.*/(bash|sh)\b", head):
            done = subprocess.run(["bash", "-n", os.path.join(ROOT, path)], capture_output=True, text=True)
            faults += done.stderr.splitlines() if done.returncode else []
    return faults


def finished(files):
    """Nothing is left for later: what is not done is not in the tree."""
    word = re.compile(rb"\b(TO" + rb"DO|FIX" + rb"ME|XX" + rb"X)\b")
    return [f"{p}: {m[0].decode()}" for p in files if not re.match(r"tests/(data|fuzz/corpus)/", p) and (m := word.search(read(p)))]


def told(files):
    """What an operator meets by name is explained: the ledger's reasons and the metrics."""
    names = re.findall(rb'^\t\[LEDGER_\w+\] = "(\w+)"', read("agent/ledger.c"), re.M) + re.findall(rb'= { "(sonde_\w+)"', read("agent/metrics_text.c"))
    page = read("docs/operations.md")
    return [f"docs/operations.md says nothing of {n.decode()}" for n in names if b"`" + n + b"`" not in page] + ([] if len(names) > 20 else ["names were not found"])


def linked(files):
    """Links between the documents lead somewhere."""
    faults = []
    for path in files:
        if not path.endswith(".md"):
            continue
        for target in re.findall(rb"\]\(([^)#:]+)(?:#[^)]*)?\)", read(path)):
            if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), target.decode())):
                faults.append(f"{path}: no {target.decode()}")
    return faults


CHECKS = {
    "C is formatted by .clang-format": formatted,
    "every file names its licence": licensed,
    "nothing generated, binary or huge is tracked": clean,
    "every script parses": parses,
    "nothing is marked for later": finished,
    "losses and metrics are explained": told,
    "documents link to what is there": linked,
}


def main():
    files, passed, failed = tracked(), 0, 0
    for name, check in CHECKS.items():
        faults = check(files)
        print(f"{'FAILED' if faults else 'ok'}: {name}")
        for fault in faults[:40]:
            print("  " + fault)
        passed, failed = passed + (not faults), failed + bool(faults)
    print(f"RESULT passed={passed} failed={failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
