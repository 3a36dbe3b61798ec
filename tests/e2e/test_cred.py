# SPDX-License-Identifier: Apache-2.0
"""Each change of rights, held against what /proc says of the same thread after each step."""
import collections
import contextlib
import json
import os
import shutil
import struct
import subprocess
import tempfile

import common

LOAD = common.load("rights")
CHOWN, SETGID, SETUID, SETPCAP, NET_RAW = 0, 6, 7, 8, 13
ALL = (1 << 41) - 1
KEYS = {"Uid:": ("uid", "euid", "suid", "fsuid"), "Gid:": ("gid", "egid", "sgid", "fsgid")}
CAPS = {"CapInh:": "cap_inh", "CapPrm:": "cap_prm", "CapEff:": "cap_eff", "CapBnd:": "cap_bnd", "CapAmb:": "cap_amb"}


def bits(*caps):
    return sum(1 << cap for cap in caps)


def state_of(line):
    """What one line of the load says /proc has, by the keys of cred.change; and the step's word, return value and error."""
    state, head = {}, {}
    for part in line.rstrip("\n").split(";"):
        name, _, rest = part.partition("\t")
        if name in KEYS:
            state |= dict(zip(KEYS[name], map(int, rest.split())))
        elif name in CAPS:
            state[CAPS[name]] = int(rest, 16)
        elif name == "Groups:":
            state["groups"] = len(rest.split())
        elif name == "NoNewPrivs:":
            state["no_new_privs"] = rest == "1"
        elif part.startswith("securebits="):
            state["securebits"] = int(part[11:])
        else:
            key, _, value = part.partition("=")
            head[key] = value
    return head, state


def maps_of(pid):
    """Numbers of the maps that a process has open."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{name}") as file:
            found |= {int(line.split()[1]) for line in file if line.startswith("map_id:")}
    return found


def by_other_ways(test, then=""):
    """A process whose rights a call of 32 bits changes, and what it has then. It ends with the test, or goes on as `then` says."""
    if os.uname().machine != "x86_64":
        test.skipTest("the load's call of 32 bits is one of x86")
    process = subprocess.Popen([LOAD, "other", then], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    test.addCleanup(process.communicate)
    process.stdout.readline()
    head, after = state_of(process.stdout.readline())
    test.assertEqual(head["ret"], "0", "this kernel takes no calls of 32 bits (CONFIG_IA32_EMULATION)")
    return process, after


class Cred(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.agent = common.Agent("exec,cred", {"modules.cred.interval": "100ms"})

    @classmethod
    def tearDownClass(cls):
        cls.agent.__exit__(None, None, None)

    def run_steps(self, *words, program=(LOAD,), **options):
        """The states after each step, and the rows of the process from its first step on."""
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen([*program, "steps", *words], stdout=subprocess.PIPE, text=True, **options)
        lines = process.communicate(timeout=common.bound(60))[0].splitlines()
        pid = int(lines[0].partition("=")[2])
        self.agent.wait_row("process.exit", lambda r: r["pid"] == pid)
        rows = [r for r in self.agent.rows("cred.change") if r["pid"] == pid]
        return [state_of(line) for line in lines[1:]], sorted(rows, key=lambda r: r["ts"])

    def holds(self, row, state, before):
        """All that /proc has after the step, what it had before, and which of it is another now."""
        for key, value in state.items():
            self.assertEqual(row.get(key, 0), value, f"{key} of {row}")
        changed = {key for key in state if state[key] != before[key] and key != "groups"}
        self.assertEqual(set(row.get("changed", [])) - {"groups", "user_ns", "session_keyring"}, changed)
        for key in set(row.get("changed", [])) & set(before) - {"groups", "no_new_privs"}:
            self.assertEqual(row.get(f"old_{key}", 0), before[key], f"old_{key} of {row}")

    def check(self, *words, rows_of=None, **options):
        """Every step one row, of its own call, that holds what /proc has, and is no jump."""
        states, rows = self.run_steps(*words, **options)
        rows = [r for r in rows if r["call"] not in ("execve", "clone") and r["comm"] == os.path.basename(LOAD)]
        self.assertEqual([r["call"] for r in rows], [w.split(":")[0] for w in words] if rows_of is None else rows_of)
        self.assertEqual([r for r in rows if "jump" in r], [])
        for i, row in enumerate(rows):
            head, after = states[i + 1]
            self.holds(row, after, states[i][1])
            self.assertEqual("error" in row, int(head["ret"]) < 0, row)
        return rows

    def test_users(self):
        self.check("setresuid:1000,2000,0", "setreuid:2000,0", "setuid:77")
        self.check("setuid:1000")
        self.check("setfsuid:555", "setresuid:1,2,3")

    def test_groups(self):
        self.check("setresgid:10,20,30", "setregid:20,10", "setfsgid:9", "setgid:77")
        rows = self.check("setgroups:5,6,7", "setgroups:5,6", "setgroups:5,9")
        self.assertEqual([r["changed"] for r in rows], [["groups"]] * 3)
        self.assertEqual([r.get("old_groups") for r in rows[1:]], [3, None])
        rows = self.check("setgroups:5", "setgroups", "setgroups:0")
        self.assertEqual([(r["changed"], r.get("groups")) for r in rows], [(["groups"], 1), (["groups"], None), (["groups"], 1)])

    def test_capabilities(self):
        some = bits(CHOWN, SETUID, SETPCAP, NET_RAW)
        self.check(f"capset:{some},{some},{bits(NET_RAW)}", f"prctl:47,2,{NET_RAW},0", f"prctl:24,{CHOWN}",
                   f"capset:0,{bits(SETPCAP)},0")

    def test_flags(self):
        rows = self.check("prctl:28,1", "prctl:8,1", "prctl:38,1")
        self.assertEqual([r["option"] for r in rows], [28, 8, 38])
        self.assertEqual([r["changed"] for r in rows], [["securebits"], ["securebits"], ["no_new_privs"]])

    def test_refused(self):
        rows = self.check("setuid:0", "setresgid:0,0,0", "setgroups:1", f"capset:{ALL},{ALL},0", "prctl:28,1",
                          user=12345, group=12345, extra_groups=[])
        self.assertEqual({r["error"] for r in rows}, {"EPERM"})
        self.assertEqual([r for r in rows if "changed" in r], [])

    def test_unchanged_is_silent(self):
        """What is as it was, and what is no matter of rights."""
        self.check("setuid:0", "setresgid:0,0,0", "prctl:15,0", "prctl:3", "prctl:47,4,0,0", "keyctl:0", rows_of=[])

    def test_session_keyring(self):
        """KEYCTL_JOIN_SESSION_KEYRING: its result is the serial number."""
        states, rows = self.run_steps("keyctl:1")
        row, = [r for r in rows if r["call"] == "keyctl"]
        self.assertEqual((row["changed"], row["session_keyring"]), (["session_keyring"], int(states[1][0]["ret"])))

    def test_user_namespace(self):
        for options in ({"user": 12345, "group": 12345, "extra_groups": []}, {}):
            states, rows = self.run_steps(f"unshare:{0x10000000}", **options)
            row, = [r for r in rows if r["call"] == "unshare"]
            after = states[1][1]
            self.assertIn("user_ns", row["changed"])
            self.assertEqual((row["cap_eff"], row["cap_prm"]), (after["cap_eff"], after["cap_prm"]))
            self.assertEqual((row["uid"], row["old_user_ns"]),
                             (options.get("user", 0), int(os.readlink("/proc/self/ns/user")[6:-1])))
            self.assertNotIn("jump", row)

    def test_child_in_a_user_namespace(self):
        process = subprocess.Popen(["unshare", "--user", "--fork", "--map-root-user", LOAD, "steps"], stdout=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, text=True, user=12345, group=12345, extra_groups=[])
        process.communicate(timeout=common.bound(60))
        self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        rows = [r for r in self.agent.rows("cred.change") if r["pid"] == process.pid]
        self.assertIn("unshare", [r["call"] for r in rows])
        self.assertEqual([r for r in rows if "jump" in r], [])

    def test_child_made_in_a_user_namespace(self):
        process = subprocess.Popen([LOAD, "clone", "0x10000000"], stdout=subprocess.PIPE, text=True, user=12345, group=12345,
                                   extra_groups=[])
        said = dict(line.split("=", 1) for line in process.communicate()[0].splitlines())
        fork = self.agent.wait_row("process.fork", lambda r: r["pid"] == process.pid)
        row = self.agent.wait_row("cred.change", lambda r: r["pid"] == fork["child_pid"] and r["call"] == "clone")
        self.assertEqual((row["user_ns"], row["old_user_ns"], row["uid"], row["proc"]),
                         (int(said["user_ns"]), os.stat("/proc/self/ns/user").st_ino, 12345, fork["child_proc"]))
        self.assertLessEqual({"cap_eff", "cap_prm", "user_ns"}, set(row["changed"]))
        self.assertNotIn("jump", row)

    def test_threads_that_change_all_the_time(self):
        """Each call of each thread is one event of that thread, and a reading in their midst takes none of them for anything else."""
        calls = common.scaled(5000) // 2 * 2  # there and back
        process = subprocess.Popen([LOAD, "toggle", str(calls)])
        process.wait()
        self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        rows = [r for r in self.agent.rows("cred.change") if r["pid"] == process.pid and r["call"] not in ("execve", "clone")]
        self.assertEqual({(r["call"], r.get("jump")) for r in rows}, {("setresuid", None)})
        self.assertEqual(sorted(collections.Counter(r["tid"] for r in rows).values()), [calls] * 4)

    def program(self, mode, *caps):
        """A copy of the load, with a mode and capabilities."""
        folder = tempfile.mkdtemp(prefix="sonde-cred-")
        self.addCleanup(shutil.rmtree, folder)
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "raised")
        shutil.copy(LOAD, path)
        os.chown(path, 777, 888)
        os.chmod(path, mode)
        for cap in caps:
            subprocess.run(["setcap", cap, path], check=True)
        return path

    def exec_row(self, path):
        states, rows = self.run_steps(program=(path,), user=12345, group=12345, extra_groups=[])
        row, = [r for r in rows if r["call"] == "execve" and r["uid"] == 12345 and r["comm"] == "raised"]
        for key, value in states[0][1].items():
            self.assertEqual(row.get(key, 0), value, key)
        self.assertNotIn("jump", row)
        return row

    def test_setuid_program(self):
        row = self.exec_row(self.program(0o6755))
        self.assertEqual((row["euid"], row["egid"], row["old_euid"], row["old_egid"]), (777, 888, 12345, 12345))

    @common.host_only("no setcap")
    def test_program_with_capabilities(self):
        row = self.exec_row(self.program(0o755, "cap_net_raw+ep"))
        self.assertEqual((row["cap_eff"], row["changed"]), (bits(NET_RAW), ["cap_eff", "cap_prm"]))

    def test_no_call_explains_it(self):
        """A call of 32 bits has no tracepoint, and so stands for what an exploit does: the next reading finds it. It took no more than it
        might have, and is no jump."""
        process, after = by_other_ways(self)
        row = self.agent.wait_row("cred.change", lambda r: r["pid"] == process.pid and r["call"] == "none")
        for key, value in after.items():
            self.assertEqual(row.get(key, 0), value, key)
        self.assertEqual((row["uid"], row["euid"], row["suid"]), (1234, 1234, 0))
        self.assertNotIn("jump", row)

    def test_what_other_threads_give_is_taken_over(self):
        """no_new_privs that seccomp gave another thread is no event of its own: two readings later, which what no call explains tells of, there is none."""
        process = subprocess.Popen([LOAD, "tsync"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.assertEqual(process.stdout.readline(), "seccomp=0 error=0\n")
        clock, _ = by_other_ways(self)
        self.agent.wait_row("cred.change", lambda r: r["pid"] == clock.pid and r["call"] == "none")
        rows = [r for r in self.agent.rows("cred.change") if r["pid"] == process.pid and r["call"] != "execve"]
        self.assertEqual([(r["call"], r["changed"]) for r in rows], [("prctl", ["no_new_privs"])])

    def test_entered_user_namespace(self):
        there = subprocess.Popen(["unshare", "-U", "sh", "-c", "echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                 user=12345, group=12345, extra_groups=[])
        self.addCleanup(there.communicate)
        self.assertEqual(there.stdout.readline(), "ready\n")
        number = os.stat(f"/proc/{there.pid}/ns/user").st_ino
        pid = common.spawn([LOAD, "enter-file", f"/proc/{there.pid}/ns/user"], stdout=subprocess.DEVNULL)
        row = self.agent.wait_row("cred.change", lambda r: r["pid"] == pid and r["call"] == "setns")
        self.assertEqual((row["user_ns"], row["old_user_ns"]), (number, os.stat("/proc/self/ns/user").st_ino))
        self.assertNotIn("jump", row)

    def test_no_jump_on_a_healthy_system(self):
        """Users that change, namespaces, setuid programs, threads: a kernel that is as it should be never has one."""
        for argv in (["su", "-s", "/bin/true", "nobody"], ["setpriv", "--reuid", "1000", "--clear-groups", "true"],
                     ["unshare", "-Urpf", "--mount-proc", "true"], ["unshare", "-mupinf", "true"], ["sh", "-c", "true & wait"]):
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            status = process.wait(common.bound(60))
            self.assertTrue(status == 0 or common.GUEST, argv)  # busybox has fewer options
            self.agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
        rows = self.agent.rows("cred.change")
        self.assertLessEqual({"unshare"} if common.GUEST else {"su", "setpriv", "unshare"}, {r["comm"] for r in rows})
        self.assertEqual([r for r in rows if r.get("jump")], [])


class Alone(common.TestCase):
    """With an agent of its own."""

    @common.host_only("no bpftool")
    def test_jump(self):
        """No healthy kernel makes one. So what is remembered of a process is changed instead, as only root can: to what it would be had it
        been nobody's before. What it has is then more than any call can have given."""
        bpftool = lambda *words, **more: json.loads(subprocess.run(["bpftool", "-j", "map", *words], check=True, capture_output=True,
                                                                   text=True, **more).stdout or "null")
        agent = common.Agent("cred", {"modules.cred.interval": "100ms"})
        self.addCleanup(agent.__exit__, None, None, None)
        process = subprocess.Popen([LOAD, "target"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pidfd = os.pidfd_open(process.pid)
        try:
            process.stdout.readline()
            number, = {m["id"] for m in bpftool("show") if m.get("name") == "cred_kept"} & maps_of(agent.pid)
            place = ["id", str(number), "key", *(f"{b:#x}" for b in pidfd.to_bytes(4, "little"))]
            value = bytearray(int(b, 16) for b in bpftool("lookup", *place, pass_fds=[pidfd])["value"])
            nobody = struct.pack("<8I5Q", *[12345] * 8, 0, 0, 0, ALL, 0)
            value[:len(nobody)] = nobody
            bpftool("update", *place, "value", *(f"{b:#x}" for b in value), pass_fds=[pidfd])
            row = agent.wait_row("cred.change", lambda r: r["pid"] == process.pid and r["call"] == "none")
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()
            os.close(pidfd)
        self.assertIs(row["jump"], True)
        self.assertEqual((row["uid"], row["old_uid"], row.get("old_cap_prm"), row["comm"]), (0, 12345, None, "load_rights"))
        self.assertLessEqual({"uid", "euid", "suid", "fsuid", "gid", "cap_eff", "cap_prm"}, set(row["changed"]))

    def test_found_before_exec_and_at_fork(self):
        """Without a reading: it is the forker's or the old program's, and nothing of the child or of the exec."""
        with common.Agent("exec,cred", {"modules.cred.interval": "1h"}) as agent:
            for then in ("exec", "fork"):
                process, after = by_other_ways(self, then)
                agent.wait_row("process.exit", lambda r: r["pid"] == process.pid)
                began = agent.wait_row("process.exec", lambda r: r["pid"] == process.pid)
                rows = agent.rows("cred.change")
                row, = [r for r in rows if r["pid"] == process.pid and r["call"] == "none"]
                self.assertEqual((row["proc"], row["comm"], row["uid"]), (began["proc"], "load_rights", 1234))
                for key, value in after.items():
                    self.assertEqual(row.get(key, 0), value, key)
                self.assertEqual([r for r in rows if r["parent"] == began["proc"]], [])  # of the child

    @common.same_on_every_kernel
    def test_small_and_whole(self):
        with common.Agent("cred") as agent:
            for i in range(50):
                common.spawn([LOAD, "steps", f"setresgid:{i + 1},2,3", f"setresuid:{i + 1},2,3"], stdout=subprocess.DEVNULL)
            agent.stop()
            rows = agent.rows()
            self.assertLedgerExact(rows)
            self.assertGreaterEqual(sum(r["type"] == "cred.change" for r in rows), 100)
            mine = [r for r in rows if r["type"] == "cred.change" and r["comm"] == "load_rights"]
            self.assertEqual(len(mine), 100)
            raw = common.sonde("cat", agent.journal, "--type", "cred.change", "--format", "msgpack", text=False).stdout
            self.assertLess(len(raw) / sum(r["type"] == "cred.change" for r in rows), 400)


if __name__ == "__main__":
    common.unittest.main()
