#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the end-to-end tests and closes with 'RESULT passed=N failed=M'. usage: run.py [-k PATTERN] [FILE or NAME ...]

A test that fails is run once more, alone, and named behind AGAIN. A test that skips counts as failed: what cannot run here is not proven here. Only what common.host_only marks is left
out in the guests of tests/vm, and what common.guest_only marks outside of them. Finding no test at all is a failure too.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common  # noqa: E402


class Result(unittest.TextTestResult):
    """Names each test with its time, and counts those that run elsewhere."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.elsewhere = 0

    def startTest(self, test):
        self.begin = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        self.stream.write(f"{time.monotonic() - self.begin:.1f} s ")
        super().addSuccess(test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        if reason.startswith(common.HOST_ONLY if common.GUEST else common.GUEST_ONLY):
            self.elsewhere += 1


def run(suite):
    """SIGTERM and SIGINT fail the test that runs and no other follows, so that its cleanups run and nothing stays behind."""
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Result)
    result = runner._makeResult()
    runner._makeResult = lambda: result

    def terminate(number, frame):
        for other in (signal.SIGTERM, signal.SIGINT):
            signal.signal(other, signal.SIG_IGN)
        result.stop()
        raise AssertionError(f"terminated by {signal.Signals(number).name}")
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    return runner.run(suite)


def again(loader, result):
    """Tests that failed are run once more, alone, and said to have been: what runs against a machine's time fails once in a
    thousand. What then passes has, but never what a sanitizer found."""
    said = result.failures + result.errors
    if result.shouldStop or any(common.SANITIZER_REPORT.search(text) for _, text in said):
        return
    names = {}
    for test, _ in said:
        name = (test.test_case if hasattr(test, "test_case") else test).id()
        held = re.search(r"\((.+)\)$", name)  # setUpClass (test_file.Class)
        names[held[1] if held else name] = None
    # Tests of one class may share what failed.
    if not names or len({name.split(".")[1] if "." in name else name for name in names}) > 5:
        return
    print(f"AGAIN: {', '.join(names)}", flush=True)
    second = run(unittest.TestSuite(loader.loadTestsFromName(name) for name in names))
    result.failures, result.errors = second.failures, second.errors


def hold_hooks():
    """See hooks.py. It ends with us."""
    here = os.path.dirname(os.path.abspath(__file__))
    holder = subprocess.Popen([sys.executable, os.path.join(here, "hooks.py"), common.SONDE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(f"tracepoints held: {holder.stdout.readline().strip() or 'none'}", flush=True)
    return holder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", dest="pattern", action="append", help="only tests whose name contains this")
    parser.add_argument("-x", dest="exclude", action="append", default=[], help="not this file")
    parser.add_argument("names", nargs="*", help="test files; default: every test_*.py beside this one")
    arguments = parser.parse_args()

    here = os.path.dirname(os.path.abspath(__file__))
    names = arguments.names or [n for n in os.listdir(here) if n.startswith("test_") and n.endswith(".py")]
    loader = unittest.TestLoader()
    if arguments.pattern:
        loader.testNamePatterns = [p if "*" in p else f"*{p}*" for p in arguments.pattern]
    suite = unittest.TestSuite()
    for name in sorted(os.path.basename(n).removesuffix(".py") for n in names):
        if name not in [e.removesuffix(".py") for e in arguments.exclude]:
            suite.addTests(loader.loadTestsFromName(name))
    holder = hold_hooks()
    result = run(suite)
    again(unittest.TestLoader(), result)
    holder.stdin.close()

    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    skipped = len(result.skipped) - result.elsewhere
    passed = max(0, result.testsRun - len(result.skipped) - failed)
    if result.testsRun == 0:
        print("no test was found")
        failed += 1
    if skipped:
        print(f"{skipped} skipped where they should run: counted as failed")
    print(f"RESULT passed={passed} failed={failed + skipped}", flush=True)
    return 1 if failed + skipped else 0


if __name__ == "__main__":
    sys.exit(main())
