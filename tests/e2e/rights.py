# SPDX-License-Identifier: Apache-2.0
"""One of each event of the modules process, cred, isolation and memory."""
import os
import re
import subprocess
import tempfile

import common

MODULES = "process,cred,isolation,memory"
TYPES = ("process.ptrace", "process.memory_write", "process.fd_get", "process.signal", "cred.change", "mount.attach", "mount.detach",
         "mount.move", "mount.setattr", "mount.create", "mount.pivot_root", "process.chroot", "ns.unshare", "ns.enter", "ns.create",
         "memory.exec", "memory.memfd", "memory.userfaultfd", "process.personality")
if common.GUEST:  # whose root is the first of all, which stays
    TYPES = tuple(name for name in TYPES if name != "mount.pivot_root")


def run_all():
    load = common.load("rights")
    target = subprocess.Popen([load, "target"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    address = re.search(r"address=(\d+)", target.stdout.readline())[1]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a", "b"):
            os.mkdir(os.path.join(folder, name))
        for words in (["trace", str(target.pid), address], ["write", str(target.pid), address], ["getfd", str(target.pid), "0"],
                      ["enter", str(target.pid), "0x4000000"], ["steps", "setuid:7"], ["clone", "0x4000000"],
                      ["code", "mmap-wx", "memfd-x", "userfaultfd", "personality"], ["send", "kill", str(target.pid), "9"]):
            common.spawn([load, *words], stdout=subprocess.DEVNULL)
        common.spawn(["unshare", "-m", "sh", "-ec", f"cd {folder}; mount -t tmpfs x a; mount --move a b; umount b; chroot / true; {load} newmount "
                      f"{folder}/a; mount --bind b b; " + ("" if common.GUEST else "mkdir b/old; cd b; pivot_root . old")], stdout=subprocess.DEVNULL)
    target.stdin.close()
    target.wait()
    target.stdout.close()
