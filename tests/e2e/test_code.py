# SPDX-License-Identifier: Apache-2.0
"""Code that lies in no file: the stacks of what runs and of what waits say so, and a rule can be about it."""
import os
import subprocess
import tempfile

import common
from test_alerts import rule

LOAD = common.load("code")


class Code(common.TestCase):
    def test_each_kind(self):
        with tempfile.TemporaryDirectory() as folder:
            rules = os.path.join(folder, "rules.yaml")
            with open(rules, "w") as file:
                file.write(rule("Code of no file", "evt.type = profile and evt.arg.code = anonymous", "%evt.arg.code %proc.cmdline")
                           + rule("Code of a memfd", "evt.type = profile and evt.category = profile and evt.arg.code = nameless", "%evt.arg.code %proc.name"))
            settings = ["agent.window=1s", "modules.offcpu.rate=10000", f"rules.files=[{rules}]"]
            with common.Agent("exec,cpu,offcpu", settings) as agent:
                expected = {}
                for source, code in (("file", None), ("anonymous", "anonymous"), ("named", None), ("memfd", "nameless")):
                    for what in ("run", "wait"):
                        process = subprocess.Popen([LOAD, source, what, "3"], stdout=subprocess.PIPE, text=True)
                        self.addCleanup(lambda p=process.pid: os.path.exists(f"/tmp/perf-{p}.map") and os.unlink(f"/tmp/perf-{p}.map"))
                        expected[process.pid] = (source, what, code)
                        self.assertEqual(process.communicate(timeout=common.bound(30))[0], "ready\n")
                agent.stop()
                rows = agent.rows()
        for pid, (source, what, code) in expected.items():
            kind = "profile.cpu" if what == "run" else "profile.offcpu"
            own = [r for r in rows if r["type"] == kind and r["pid"] == pid]
            # The loop, or the wait, and none of what begins and ends the program.
            inner = [r for r in own if (r["value"] >= 20 if what == "run" else r["value"] >= 5e8)]
            with self.subTest(source=source, what=what):
                self.assertTrue(inner, own)
                self.assertEqual({r.get("code") for r in inner}, {code}, inner)
                if source == "anonymous":
                    self.assertTrue(any("([anon])" in frame for r in inner for frame in r["stack"]), inner)
                alerts = [r for r in rows if r["type"] == "alert" and r["pid"] == pid]
                self.assertEqual({r["rule"] for r in alerts},
                                 {"anonymous": {"Code of no file"}, "nameless": {"Code of a memfd"}, None: set()}[code])
                for one in alerts:
                    self.assertEqual(one["event_type"], kind if what == "run" else one["event_type"])
                    self.assertIn(one["output"].split()[0], ("anonymous", "nameless"))
                    self.assertTrue("count" in one or one["event"]["stack"])
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
