# SPDX-License-Identifier: Apache-2.0
"""Cgroups of a test's own, in the hierarchies by which the agent names tasks: v2, and v1's memory where v2 is beside it."""
import contextlib
import os
import subprocess

import common


def hierarchies():
    """Mount points."""
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split() for line in file]
    found = [m[4] for m in mounts if "cgroup2" in m[m.index("-"):]]
    return found + [m[4] for m in mounts if m[m.index("-") + 1] == "cgroup" and "memory" in m[-1].split(",")]


@contextlib.contextmanager
def made(hierarchy, *names):
    """Folders of new cgroups; removed at the end, with what was made above them."""
    folders = []
    try:
        for name in names:
            path = hierarchy
            for part in name.split("/"):
                path = os.path.join(path, part)
                if not os.path.isdir(path):
                    os.mkdir(path)
                    folders.append(path)
        yield tuple(os.path.join(hierarchy, name) for name in names)
    finally:
        for path in reversed(folders):
            common.wait_until(lambda: remove(path), what=f"rmdir {path}")


def remove(path):
    """A cgroup is busy for a moment after its last process was waited for."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def spawn(folder, argv):
    """Runs a program in the cgroup, to its end; its pid. It joins before it becomes the program."""
    def join():
        with open(os.path.join(folder, "cgroup.procs"), "w") as file:
            file.write("0")
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=join)
    if process.wait(common.bound(60)) != 0:
        raise AssertionError(f"{argv} ended with {process.returncode}")
    return process.pid
