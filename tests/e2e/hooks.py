# SPDX-License-Identifier: Apache-2.0
"""Holds the tracepoints that sonde's modules use, until its standard input ends: hooks.py SONDE

The kernel waits for every processor when the last user of a tracepoint leaves it, one tracepoint after the other, which is most of the time that an
agent takes to end. Tests start and end hundreds of them. An event of perf without a program is a user too.
"""
import ctypes
import os
import re
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
EVENTS = "/sys/kernel/tracing/events"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
PERF_TYPE_TRACEPOINT, PERF_FLAG_FD_CLOEXEC, DISABLED, SIZE = 2, 8, 1, 128


def see_events():
    """tracefs, in a mount namespace of our own where the machine has not mounted it."""
    if os.path.isdir(EVENTS):
        return
    if LIBC.unshare(CLONE_NEWNS) or LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) or \
            LIBC.mount(b"tracefs", os.path.dirname(EVENTS).encode(), b"tracefs", 0, None):
        sys.exit(f"hooks: tracefs: {os.strerror(ctypes.get_errno())}")


def hold(name):
    try:
        with open(f"{EVENTS}/{name}/id") as file:
            number = int(file.read())
    except OSError:
        return False  # not of this kernel
    attributes = struct.pack("IIQQQQQ", PERF_TYPE_TRACEPOINT, SIZE, number, 0, 0, 0, DISABLED).ljust(SIZE, b"\0")
    return LIBC.syscall(PERF_EVENT_OPEN, attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC) >= 0


def main():
    with open(sys.argv[1], "rb") as file:
        names = set(re.findall(rb"tracepoint/(\w+/\w+)", file.read()))
    see_events()
    print(sum(hold(name.decode()) for name in sorted(names)), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
