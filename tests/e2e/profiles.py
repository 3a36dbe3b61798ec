# SPDX-License-Identifier: Apache-2.0
"""Profiles of known content: rows as the modules cpu and offcpu write them, put into a journal by tool_journal."""
import os
import struct
import subprocess

import common

SECOND = 10**9
PERIOD = SECOND // 99


def pack(value):
    """A value in msgpack, of the kinds that are in the stream."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
        return b"\xda" + struct.pack(">H", len(data)) + data
    if isinstance(value, list):
        return b"\xdc" + struct.pack(">H", len(value)) + b"".join(map(pack, value))
    return b"\xde" + struct.pack(">H", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())


def row(kind, ts, stack, value=1, **more):
    """One row; `ts` in seconds. `more` overrides and adds keys; None leaves one out."""
    offcpu = kind == "profile.offcpu"
    keys = {"type": kind, "ts": int(ts * SECOND), "host": "testhost", "pid": 100, "tid": 100, "comm": "app", "stack": stack,
            "stack_id": "0123456789abcdef", "value": value, "unit": "ns" if offcpu else "samples", "window_ns": SECOND}
    keys.update(more)
    return {k: v for k, v in keys.items() if v is not None}


def write(path, rows, mebibytes=64):
    """A journal of these rows (dicts, or bytes that are packed already)."""
    tool = os.path.join(common.BUILD, "tests", "tool_journal")
    process = subprocess.Popen([tool, path, str(mebibytes)], stdin=subprocess.PIPE)
    with process.stdin as pipe:
        for one in rows:
            data = one if isinstance(one, bytes) else pack(one)
            pipe.write(struct.pack("<I", len(data)) + data)
    if process.wait(common.bound(120)):
        raise AssertionError("tool_journal failed")
    return path
