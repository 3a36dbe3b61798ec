# SPDX-License-Identifier: Apache-2.0
"""Network namespaces of the tests: joined to the host's, joined by a router, and with a wire whose packets a function may hold, drop or reorder."""
import ctypes
import fcntl
import itertools
import os
import select
import socket
import struct
import subprocess
import threading

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def receive(sock, size):
    """So many bytes; None: the other end was done before."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            return None
        data += more
    return data


numbers = itertools.count()


def neighbour(test, subnet):
    """A namespace that goes with the test, behind a pair of veth devices: the host is SUBNET.1, it is SUBNET.2. Returns its name, for `ip
    netns exec`."""
    name = f"sonde{os.getpid()}n{next(numbers)}"
    device = name[-14:] + "h"
    ip("netns", "add", name)
    test.addCleanup(ip, "netns", "del", name)
    ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
    for where, end, number in ((), device, 1), (("-n", name), "eth0", 2):
        ip(*where, "address", "add", f"{subnet}.{number}/30", "dev", end)
        ip(*where, "link", "set", end, "up")
    return name


class Routed:
    """Two namespaces, 10.77.0.2/fd77:0::2 and 10.77.1.2/fd77:1::2, and a router between them: what a sender's own device drops is no loss. 10.88/16 and
    fd88::/16 are unreachable, says the router."""

    def __init__(self):
        *self.names, self.router = (f"sonde{os.getpid()}{part}{next(numbers)}" for part in "abr")

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def make(self):
        for name in (*self.names, self.router):
            ip("netns", "add", name)
        for side in 0, 1:
            self.join(side)
        for nowhere in "10.88.0.0/16", "fd88::/16":
            ip("-n", self.router, "route", "add", "unreachable", nowhere)
        for key in "ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding":
            subprocess.run(["ip", "netns", "exec", self.router, "sh", "-c", f"echo 1 >/proc/sys/net/{key}"], check=True)

    def join(self, side):
        """One end's way to the router."""
        name, far = self.names[side], f"to{side}"
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "add", "veth0", "type", "veth", "peer", "name", far, "netns", self.router)
        for here, device, number in (name, "veth0", 2), (self.router, far, 1):
            # Segments as the device takes them, and no larger.
            ip("-n", here, "link", "set", device, "gso_max_segs", "1")
            ip("-n", here, "address", "add", f"10.77.{side}.{number}/24", "dev", device)
            ip("-n", here, "address", "add", f"fd77:{side}::{number}/64", "dev", device, "nodad")
            ip("-n", here, "link", "set", device, "up")
        for family, gateway in ("-4", f"10.77.{side}.1"), ("-6", f"fd77:{side}::1"):
            ip("-n", name, family, "route", "add", "default", "via", gateway)

    def link(self, *qdisc):
        """What the router does to packets, both ways, in words of tc."""
        for side in 0, 1:
            subprocess.run(["tc", "-n", self.router, "qdisc", "replace", "dev", f"to{side}", "root", *qdisc], check=True)

    def __exit__(self, *failure):
        for name in (*self.names, self.router):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)

    def start(self, side, *argv, **options):
        return subprocess.Popen(["ip", "netns", "exec", self.names[side], *map(str, argv)], **options)


class Space:
    """A new network namespace with its loopback up. What is run in it, runs in a thread of its own that lives in it."""

    def __init__(self):
        self.ready, self.over = threading.Event(), threading.Event()
        self.todo, self.fault = [], None
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.wake = threading.Condition()

    def _live(self):
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "a new network namespace")
            with socket.socket() as sock:
                fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
        except OSError as fault:
            self.fault = fault
        self.ready.set()
        while True:
            with self.wake:
                self.wake.wait_for(lambda: self.todo)
                job = self.todo.pop(0)
            if not job:
                return
            job()

    def __enter__(self):
        self.thread.start()
        self.ready.wait()
        if self.fault:
            raise self.fault
        return self

    def __exit__(self, *unused):
        self._give(None)
        self.thread.join()

    def _give(self, job):
        with self.wake:
            self.todo.append(job)
            self.wake.notify()

    def run(self, function, *arguments):
        """What function(*arguments) returns or raises, called within the namespace."""
        done, result = threading.Event(), {}

        def job():
            try:
                result["value"] = function(*arguments)
            except BaseException as fault:
                result["fault"] = fault
            done.set()
        self._give(job)
        done.wait()
        if "fault" in result:
            raise result["fault"]
        return result["value"]

    def command(self, *argv):
        """Standard output of a program that runs in the namespace."""
        return self.run(lambda: subprocess.run(argv, check=True, capture_output=True, text=True).stdout)

    def counter(self, file, group, name):
        """A figure of the namespace's /proc/net/snmp or netstat."""
        def read():
            with open(f"/proc/thread-self/net/{file}") as lines:
                keys, values = (line.split() for line in lines if line.startswith(group + ":"))
            return int(values[keys.index(name)])
        return self.run(read)

    def set(self, sysctl, value):
        """Sets one of the namespace's net.ipv4 values."""
        def write():
            with open(f"/proc/sys/net/ipv4/{sysctl}", "w") as file:
                file.write(str(value))
        self.run(write)


class Wire:
    """A device of a space (10.8.0.1/24, fd08::1/64) that leads back to it: what is sent to 10.8.0.N comes in from there, at the same
    port. So both ends of a connection are in the space, and each packet passes `rule`, which returns what goes on."""

    def __init__(self, space, rule=lambda packet: [packet]):
        self.space, self.rule = space, rule
        self.stop_read, self.stop_write = os.pipe()

    def __enter__(self):
        self.fd = self.space.run(self._open)
        for command in ("addr add 10.8.0.1/24 dev wire", "-6 addr add fd08::1/64 dev wire nodad", "link set wire up"):
            self.space.command("ip", *command.split())
        self.thread = threading.Thread(target=self._relay, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *unused):
        os.write(self.stop_write, b".")
        self.thread.join()
        for fd in (self.fd, self.stop_read, self.stop_write):
            os.close(fd)

    @staticmethod
    def _open():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TUN | IFF_NO_PI))
        return fd

    def _relay(self):
        while self.stop_read not in select.select([self.fd, self.stop_read], [], [])[0]:
            try:
                packet = os.read(self.fd, 65536)
            except BlockingIOError:
                continue
            for one in self.rule(packet):
                self.put(swapped(one))

    def put(self, packet):
        """Hands the space a packet as if it came over the wire."""
        try:
            os.write(self.fd, packet)
        except OSError:
            pass


def swapped(packet):
    """The packet with its two addresses exchanged, which no checksum notices."""
    at, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    return packet[:at] + packet[at + size:at + 2 * size] + packet[at:at + size] + packet[at + 2 * size:]


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(source, destination, sport, dport, sequence=1, ack=0, flags=2):
    """An IPv4 packet with a TCP header and nothing else; flags 2: SYN, 4: RST, 16: ACK."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    tcp = struct.pack("!HHIIBBHHH", sport, dport, sequence, ack, 5 << 4, flags, 8192, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", checksum(ends + struct.pack("!HH", 6, len(tcp)) + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + ends
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp
