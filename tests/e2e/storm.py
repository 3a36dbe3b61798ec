# SPDX-License-Identifier: Apache-2.0
"""Events in any number, each known: the module of tests/e2e/storm and its load. A row of thread t and count i has n = t << 24 | i."""
import os
import signal
import subprocess

import common

FOLDER = os.path.join(common.BUILD, "tests", "storm")
TYPES = {"P": "storm.alarm", "B": "storm.noise"}


def settings(**more):
    """Settings of an agent that sees storms and, unless told otherwise, nothing else. A double underscore stands for a dot."""
    # Only what descends from this process: other tests may storm on this host.
    return {"agent.modules": FOLDER, "filter.pid": f"[{os.getpid()}]", **{key.replace("__", "."): value for key, value in more.items()}}


class Storm:
    """A load that runs: kinds "P" (priority ring), "B" (bulk) or "PB" (by turns)."""

    def __init__(self, kinds, threads=2, rate=0, count=0):
        self.kinds, self.made = kinds, None
        self.process = subprocess.Popen([common.load("storm"), kinds, str(threads), str(rate), str(count)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.made is None:
            self.process.kill()
            self.process.communicate()

    def end(self, seconds=60):
        """Waits for a load with a count; returns the number of names of each thread."""
        out = self.process.communicate(timeout=common.bound(seconds))[0]
        if self.process.returncode != 0:
            raise AssertionError(f"the storm ended with {self.process.returncode}")
        self.made = {int(line.split()[0]): int(line.split()[1]) for line in out.splitlines()}
        return self.made

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def numbers(self, kind):
        """Every n of that kind that was made."""
        turns = len(self.kinds)
        return {t << 24 | i for t, made in self.made.items() for i in range(self.kinds.index(kind), made, turns)}


def storm(kinds, threads=2, rate=0, count=0):
    """Runs a load of `count` names a thread to its end and returns it."""
    with Storm(kinds, threads, rate, count) as load:
        load.end()
    return load
