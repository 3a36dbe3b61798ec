# SPDX-License-Identifier: Apache-2.0
"""One end of a TCP connection in a network namespace; prints what it knows of it as JSON, by its own clock and TCP_INFO.

usage: network_load.py server ADDRESS PORT DELAY_S    answers each request of 100 bytes with 100 after so long; whatever else comes is taken
       network_load.py client ADDRESS PORT REQUESTS BYTES    so many requests, then so many bytes at once
"""
import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
import time

from wire import receive

REQUEST = 100


def info(sock):
    """Source: struct tcp_info, include/uapi/linux/tcp.h."""
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    at = {"rtt_us": 68, "rttvar_us": 72, "retransmits": 100, "min_rtt_us": 148, "reordered": 220}
    return {key: struct.unpack_from("I", raw, place)[0] for key, place in at.items()}


def settled(sock):
    """Until everything that was sent is acknowledged, so that TCP_INFO does not change any more."""
    end = time.monotonic() + 120
    while time.monotonic() < end and struct.unpack("i", fcntl.ioctl(sock, 0x5411, b"\0\0\0\0"))[0]:  # SIOCOUTQ
        time.sleep(0.02)


def server(address, port, delay):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(16)
        print("ready", flush=True)
        sock, _ = listening.accept()
        with sock:
            with contextlib.suppress(ConnectionResetError):
                while (data := sock.recv(1 << 16)):
                    if len(data) == REQUEST and delay:
                        time.sleep(delay)
                        sock.sendall(bytes(REQUEST))


def client(address, port, requests, size):
    times = []
    begin = time.monotonic_ns()
    with socket.create_connection((address, port)) as sock:
        found = {"pid": os.getpid(), "connect_ns": time.monotonic_ns() - begin, "four": [*sock.getsockname()[:2], *sock.getpeername()[:2]]}
        for _ in range(requests):
            begin = time.monotonic_ns()
            sock.sendall(bytes(REQUEST))
            receive(sock, REQUEST)
            times.append(time.monotonic_ns() - begin)
        if size:
            sock.sendall(bytes(size))
        settled(sock)
        found.update(info(sock))
        # A reset ends it: the answers to a FIN would be one more sample, and may be lost like others.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    print(json.dumps({**found, "answers_ns": times}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    else:
        client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
