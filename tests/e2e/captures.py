# SPDX-License-Identifier: Apache-2.0
"""A capture of known content, and how long it takes to look at it."""
import struct
import subprocess
import time

REPEATS = 6


def write_requests(path):
    """A pcap of some 100 MB: 500 connections of ten requests with their answers, again and again. Returns how many packets it has."""
    frames = []
    client, server = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))

    def segment(back, port, flags, seq, ack, size):
        source, target, ports = (server, client, (80, port)) if back else (client, server, (port, 80))
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + size, 0, 0, 64, 6, 0, source, target)
        frames.append(ip + struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, 1000, 0, 0) + bytes(size))

    for port in range(1024, 1524):
        segment(False, port, 2, 99, 0, 0)
        segment(True, port, 0x12, 499, 100, 0)
        segment(False, port, 0x10, 100, 500, 0)
        for turn in range(10):
            segment(False, port, 0x18, 100 + turn * 100, 500 + turn * 2800, 100)
            segment(True, port, 0x10, 500 + turn * 2800, 200 + turn * 100, 1400)
            segment(True, port, 0x18, 1900 + turn * 2800, 200 + turn * 100, 1400)
            segment(False, port, 0x10, 200 + turn * 100, 3300 + turn * 2800, 0)
        segment(False, port, 0x11, 1100, 28500, 0)
        segment(True, port, 0x11, 28500, 1101, 0)
        segment(False, port, 0x10, 1101, 28501, 0)
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101))
        for again in range(REPEATS):
            for i, frame in enumerate(frames):
                file.write(struct.pack("<IIII", 1000 + again * 10, i, len(frame), len(frame)) + frame)
    return REPEATS * len(frames)


def best(argv):
    times = []
    for _ in range(2):
        begin = time.monotonic()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.monotonic() - begin)
    return min(times)


def times(sonde, path):
    """Seconds of (sonde replay with every row written, tshark with the fields that say as much)."""
    return best([sonde, "replay", path]), best(["tshark", "-n", "-r", path, "-T", "fields", "-e", "tcp.stream", "-e", "tcp.analysis.initial_rtt",
                                                "-e", "tcp.analysis.retransmission", "-e", "dns.time"])
