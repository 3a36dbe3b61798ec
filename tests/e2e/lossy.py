# SPDX-License-Identifier: Apache-2.0
"""A cgroup whose sockets lose a fifth of what arrives (lossy/lossy.bpf.c), where a kernel may lack netem."""
import ctypes
import os

import common


def mounted():
    """Where cgroup2 is."""
    with open("/proc/mounts") as file:
        return next(line.split()[1] for line in file if line.split()[2] == "cgroup2")


class Lossy:
    """Programs are begun in it with `preexec_fn=lossy.enter`."""

    def __init__(self):
        self.path = os.path.join(mounted(), f"sonde-lossy-{os.getpid()}")
        self.lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
        for name in ("bpf_object__open_file", "bpf_object__next_program", "bpf_program__attach_cgroup"):
            getattr(self.lib, name).restype = ctypes.c_void_p

    def __enter__(self):
        self.object = ctypes.c_void_p(self.lib.bpf_object__open_file(os.path.join(common.BUILD, "tests", "lossy", "lossy.bpf.o").encode(), None))
        if self.lib.bpf_object__load(self.object):
            raise OSError(ctypes.get_errno(), "lossy.bpf.o")
        os.mkdir(self.path)  # last of all that can fail: a cgroup that stayed would be the ground that later tests stand on
        fd = os.open(self.path, os.O_RDONLY)
        program = ctypes.c_void_p(self.lib.bpf_object__next_program(self.object, None))
        self.link = ctypes.c_void_p(self.lib.bpf_program__attach_cgroup(program, fd))
        os.close(fd)
        if not self.link:
            os.rmdir(self.path)
            raise OSError(ctypes.get_errno(), "attach to " + self.path)
        return self

    def __exit__(self, *unused):
        self.lib.bpf_link__destroy(self.link)
        self.lib.bpf_object__close(self.object)
        common.wait_until(self.is_gone, 10, "the end of the cgroup's last process")

    def is_gone(self):
        try:
            os.rmdir(self.path)
        except OSError:
            return False
        return True

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
            file.write("0")


def retransmits():
    """Segments that this network namespace has sent again so far."""
    with open("/proc/net/snmp") as file:
        keys, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[keys.index("RetransSegs")])
