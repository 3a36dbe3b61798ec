# SPDX-License-Identifier: Apache-2.0
"""modules.NAME.stack: events carry the stack of the thread that did it, down to its root, with one number for one stack."""
import re
import subprocess
import unittest

import common

FUNCTION = re.compile(r"^(.+)\+0x[0-9a-f]+ \((.+)\)$")


def functions(row, kernel):
    """Functions of one side of a row's stack, leaf first."""
    matches = (FUNCTION.match(f) for f in row["stack"])
    return [m[1] for m in matches if m and (m[2] == "[k]") == kernel]


class EventStacks(common.TestCase):
    def test_exec_shows_who_called_it(self):
        with common.Agent(modules="exec", settings=["modules.exec.stack=true"]) as agent:
            done = subprocess.run([common.load("process"), "chain", "3"], stdout=subprocess.PIPE, text=True, check=True)
            pid = int(done.stdout.split()[0])
            agent.wait_rows("process.exec", lambda r: r["pid"] == pid, 4)
            agent.stop()
            rows = agent.rows()
        # Events wait for the names of their frames, each as long as it takes.
        execs = sorted((r for r in rows if r["type"] == "process.exec" and r["pid"] == pid), key=lambda r: r["ts"])
        self.assertEqual(len(execs), 4)
        for row in execs[1:]:  # the load itself, calling exec anew
            user = functions(row, kernel=False)
            self.assertIn("execve", user[0], row["stack"])
            self.assertIn("run_chain", user, row["stack"])
            self.assertEqual(user[-1], "_start", row["stack"])
            self.assertNotIn("stack_truncated", row)
            self.assertFalse(any(f.startswith(("bpf_", "__bpf_")) for f in functions(row, kernel=True)), row["stack"])
        # One place in one program: one number, whatever the addresses were.
        self.assertEqual(len({r["stack_id"] for r in execs[1:]}), 1)
        exits = [r for r in rows if r["type"] == "process.exit" and r["pid"] == pid]
        self.assertIn("do_exit", functions(exits[0], kernel=True))
        self.assertLedgerExact(rows)
        self.assertGapless(rows)

    def test_connect_shows_who_connected(self):
        program = ("import socket\n"
                   "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
                   "c = socket.create_connection(s.getsockname())\n"
                   "print(s.getsockname()[1])\n")
        with common.Agent(modules="tcp", settings=["modules.tcp.stack=true"]) as agent:
            done = subprocess.run(["/usr/bin/python3", "-c", program], stdout=subprocess.PIPE, text=True, check=True)
            port = int(done.stdout)
            row = agent.wait_row("tcp.connect", lambda r: r["rport"] == port)
            agent.stop()
            rows = agent.rows()
        user = functions(row, kernel=False)
        self.assertIn("connect", user[0], row["stack"])
        self.assertEqual(user[-1], "_start", row["stack"])
        self.assertIn("tcp_v4_connect", functions(row, kernel=True))
        self.assertRegex(row["stack_id"], "^[0-9a-f]{16}$")
        self.assertLedgerExact(rows)

    def test_without_it_there_is_none(self):
        with common.Agent(modules="exec") as agent:
            pid = common.spawn(["/bin/true"])
            row = agent.wait_row("process.exec", lambda r: r["pid"] == pid)
        self.assertNotIn("stack", row)


if __name__ == "__main__":
    unittest.main()
