# SPDX-License-Identifier: Apache-2.0
"""module.*, kernel.kexec, bpf.*, perf.open, keys.ctl against what the kernel told the load that did it."""
import glob
import os
import subprocess

import common

TYPES = ("module.load", "module.unload", "kernel.kexec", "bpf.load", "bpf.map", "bpf.attach", "perf.open", "keys.ctl")


def capabilities():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))


class Kernel(common.TestCase):
    def run_load(self, *words, modules="kernel", preexec_fn=None, rights=(0, 0, 0, 0), cap_eff=None):
        """Runs load_kernel under an agent: its lines, as word lists by their first word; its rows by type."""
        with common.Agent(modules=modules) as agent:
            load = subprocess.Popen([common.load("kernel"), *words], stdout=subprocess.PIPE, text=True, preexec_fn=preexec_fn)
            out = load.communicate(timeout=common.bound(60))[0]
            self.assertEqual(load.returncode, 0)
            agent.stop()
            rows = agent.rows()
            self.agent_pid = agent.pid
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        self.rows = rows
        self.pid = load.pid
        lines, found = {}, {name: [] for name in TYPES}
        for line in out.splitlines():
            word, *rest = line.split()
            lines.setdefault(word, []).append(rest)
        for row in rows:
            if row.get("pid") == load.pid and row["type"] in TYPES:
                found[row["type"]].append(row)
                self.assertEqual(tuple(row[key] for key in ("uid", "euid", "gid", "egid")), rights, row)
                self.assertEqual(row["cap_eff"], capabilities() if cap_eff is None else cap_eff)
                self.assertEqual(row["comm"], "load_kernel")
        return lines, found

    def only(self, found, *types):
        self.assertEqual([name for name in TYPES if found[name] and name not in types], [])

    def test_bpf(self):
        lines, found = self.run_load("bpf")
        self.only(found, "bpf.load", "bpf.map", "bpf.attach")
        *loads, endless, behind = found["bpf.load"]
        self.assertEqual([[row["error"]] for row in (endless, behind)], lines["unnamed"])
        self.assertEqual((endless["name_given"], endless["truncated"]), ("n" * 15, True))
        self.assertFalse({"name", "name_given", "truncated"} & set(behind))
        self.assertEqual([(row.get("name") or row["name_given"], row.get("error", "-")) for row in loads],
                         [(name, error) for name, error in lines["load"]])
        self.assertEqual([row.get("error") in ("EINVAL", "EACCES") for row in loads], [False, True, False, False])
        made = [row for row in loads if "error" not in row]
        for row, (name, number, kind, tag) in zip(made, lines["program"], strict=True):
            self.assertEqual((row["name"], row["id"], row["tag"], row["insns"]), (name, int(number), tag, 2))
            self.assertEqual((row["prog_type"], row.get("attach_type", 0)),
                             {"1": ("socket_filter", 0), "18": ("cgroup_sock_addr", 10), "17": ("raw_tracepoint", 0)}[kind])
            self.assertNotIn("name_given", row)
        self.check_maps(lines, found["bpf.map"])
        self.check_attach(lines, found["bpf.attach"], made[2])

    def check_maps(self, lines, rows):
        self.assertEqual([row.get("error", "-") for row in rows], [words[0] for words in lines["map"]])
        good, bad = rows
        (name, number), = lines["map_info"]
        self.assertEqual((good["name"], good["id"], good["map_type"]), (name, int(number), "hash"))
        self.assertEqual((good["key_bytes"], good["value_bytes"], good["max_entries"], good["flags"]), (4, 24, 7, 1))
        self.assertEqual((bad["name_given"], bad["error"]), ("lk_bad_map", "EINVAL"))
        self.assertNotIn("map_type", bad)

    def check_attach(self, lines, rows, program):
        self.assertEqual([[row["op"], row.get("error", "-")] for row in rows], lines["attach"])
        opened, updated, detached, *bad = rows
        (link, number), = lines["link"]
        for row in (opened, updated, detached):
            self.assertEqual((row["link_id"], row["id"]), (int(link), int(number)))
            self.assertEqual((row["name"], row["tag"], row["prog_type"]), ("lk_raw", program["tag"], "raw_tracepoint"))
        self.assertEqual([row.get("attach_type_given") for row in bad], [1, 1, None])
        self.assertEqual(["error" in row for row in bad], [True] * 3)
        self.assertFalse({"id", "link_id", "name"} & set().union(*bad))

    def test_with_whose_rights(self):
        def become_others():
            os.setresgid(11, 12, 12)
            os.setresuid(21, 22, 22)

        lines, found = self.run_load("keys", preexec_fn=become_others, rights=(21, 22, 11, 12), cap_eff=0)
        self.assertEqual(len(found["keys.ctl"]), len(lines["key"]))

    def test_using_a_map_is_no_event(self):
        _, found = self.run_load("quiet")
        self.only(found, "bpf.map")
        self.assertEqual(len(found["bpf.map"]), 1)

    def test_the_agent_itself_is_left_out(self):
        """Modules that are loaded behind this one load programs, make maps and open perf events."""
        self.run_load("quiet", modules="kernel,offcpu,sched,tcp,udp,cpu")
        self.assertEqual([row for row in self.rows if row.get("pid") == self.agent_pid and row["type"] in TYPES], [])

    def test_perf(self):
        lines, found = self.run_load("perf", common.load("kernel"))
        self.only(found, "perf.open")
        rows = found["perf.open"]
        self.assertEqual([row.get("error", "-") for row in rows], [words[2] for words in lines["perf"]])
        clock, bad, faults, *probes = rows
        for row, (name, kind, error) in zip(rows, lines["perf"], strict=True):
            if error == "-":
                self.assertEqual(row["perf_type"], int(kind))
        self.assertEqual([row["pmu"] for row in probes], [words[0] for words in lines["perf"][3:]])
        self.assertIn(clock.get("pmu"), ("cpu_clock", None))  # older kernels have no name for it
        self.assertEqual((clock["target_pid"], clock["cpu"], clock.get("config", 0), clock["flags"]), (0, -1, 0, 8))
        self.assertEqual((bad["target_pid"], bad["cpu"]), (-1, 0))
        self.assertEqual((faults["target_pid"], faults["config"]), (self.pid, 2))
        self.assertFalse({"pmu", "perf_type", "config", "path"} & set(bad))
        self.assertNotIn("path", clock)
        probed = probes[0]
        self.assertEqual((probed["path"], probed["offset"]), (os.path.realpath(common.load("kernel")), int(lines["offset"][0][0])))
        if os.path.exists("/sys/bus/event_source/devices/kprobe"):
            self.assertEqual(probes[1]["symbol"], "do_exit")

    def test_keys(self):
        lines, found = self.run_load("keys")
        self.only(found, "keys.ctl")
        rows = found["keys.ctl"]
        self.assertEqual([row.get("error", "-") for row in rows], [words[2] for words in lines["key"]])
        self.assertEqual([row["op"] for row in rows[:4]], [words[0] for words in lines["key"][:4]])
        added, revoked, requested, ring, unknown, joined, cut, whole = rows
        self.assertEqual((added["key"], added["ret"]), (int(lines["key"][0][1]),) * 2)
        self.assertEqual((added["type_given"], added["description_given"]), ("user", "lk:secret"))
        self.assertEqual(revoked["key"], added["key"])
        self.assertEqual((requested["description_given"], requested["error"]), ("lk:none", "ENOKEY"))
        self.assertEqual((ring["key"], ring["ret"]), (-2, int(lines["key"][3][1])))
        self.assertEqual(unknown["error"], "EOPNOTSUPP")
        self.assertEqual((unknown["op"], unknown["op_nr"]), ("other", 33))
        self.assertEqual((joined["op"], joined["ret"], "key" in joined), ("join_session_keyring", int(lines["key"][5][1]), False))
        self.assertEqual((cut["description_given"], cut["truncated"]), ("d" * 95, True))
        self.assertEqual((whole["description_given"], "truncated" in whole), ("d" * 95, False))

    @common.guest_only("the host's kernel is built without kexec")
    def test_kexec(self):
        lines, found = self.run_load("kexec", common.load("kernel"))
        self.only(found, "kernel.kexec")
        self.assertEqual([[row["op"], row.get("error", "-")] for row in found["kernel.kexec"]], lines["kexec"])
        first, second = found["kernel.kexec"]
        self.assertEqual(first["flags"], 0x40000000)
        self.assertNotIn("path", first)
        self.assertEqual(second["path"], os.path.realpath(common.load("kernel")))
        self.assertEqual(second["ino"], os.stat(second["path"]).st_ino)

    @common.guest_only("the host's kernel is built without modules")
    def test_modules(self):
        file, = glob.glob("/modules/*-sch_tbf.ko*")
        lines, found = self.run_load("module", file, "sch_tbf")
        self.only(found, "module.load", "module.unload")
        self.assertEqual([words[1] for words in lines["module"][:2]], ["-", "-"])
        removed, missing = found["module.unload"]
        self.assertEqual((removed["name"], removed.get("error")), ("sch_tbf", None))
        self.assertEqual((missing["name_given"], missing["error"]), ("lk_no_such", "ENOENT"))
        loaded, again, memory = found["module.load"]
        self.assertEqual((loaded["name"], loaded["path"], loaded.get("error")), ("sch_tbf", file, None))
        self.assertEqual((loaded["ino"], loaded["dev"]), (os.stat(file).st_ino, os.stat(file).st_dev))
        self.assertEqual((again["path"], again["error"]), (file, lines["module"][2][1]))
        self.assertEqual(memory["error"], lines["module"][3][1])
        self.assertFalse({"path", "name"} & set(memory))
