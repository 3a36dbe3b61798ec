# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: each class of change is applied while the agent runs, with its privileges gone; anything wrong leaves all as it was."""
import json
import os
import signal

import common

BASE = {"modules": {"exec": {"enabled": True}, "cpu": {"enabled": False}, "tcp": {"enabled": False}},
        "agent": {"window": "500ms", "ledger_interval": "10s"}}


def merged(base, change):
    out = dict(base)
    for key, value in change.items():
        out[key] = merged(out.get(key, {}), value) if isinstance(value, dict) else value
    return out


class Agent(common.Agent):
    """An agent whose configuration is a file: JSON, which is YAML."""

    def __init__(self, user="", journal=None):
        super().__init__(start=False, journal=journal)
        self.file = os.path.join(self.folder, "sonde.yaml")
        self.base = merged(BASE, {"agent": {"user": user}})
        self.write({})
        self.argv = [common.SONDE, "run", "-c", self.file, "--journal", self.journal, "--set", f"agent.control={self.control}"]
        self.start()

    def write(self, change):
        with open(self.file, "w") as file:
            json.dump(merged(self.base, change), file, indent=1)

    def reload(self, change=None, text=None):
        """Writes the file and signals; returns what the agent says of it."""
        if text is None:
            self.write(change)
        else:
            with open(self.file, "w") as file:
                file.write(text)
        before = len(self.output())
        self.signal(signal.SIGHUP)

        def said():
            lines = [line for line in self.output()[before:].splitlines() if "reload" in line]
            return lines if lines else None
        lines = common.wait_until(said, 15, "an answer to SIGHUP")
        if len(lines) != 1:
            raise AssertionError(lines)
        return lines[0]

    def stats(self, what="stats"):
        return json.loads(common.sonde(what, "--json", "--set", f"agent.control={self.control}").stdout)


class Reload(common.TestCase):
    def test_modules_come_and_go(self):
        with Agent() as agent:
            self.assertIn("reloaded", agent.reload({"modules": {"cpu": {"enabled": True}, "tcp": {"enabled": True}}}))
            agent.wait_row("profile.cpu")
            self.assertIn("reloaded", agent.reload({"modules": {"exec": {"enabled": False}}}))
            gone = common.spawn(["/bin/true"])
            self.assertIn("reloaded", agent.reload({}))
            there = common.spawn(["/bin/true"])
            agent.wait_row("process.exec", lambda r: r["pid"] == there)
            agent.stop()
            rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        self.assertFalse([r for r in rows if r["type"] == "process.exec" and r["pid"] == gone])

    @common.host_only("it makes a user")
    def test_modules_come_and_go_as_another_user(self):
        name, journal = common.temporary_user(self)
        with Agent(name, journal) as agent:
            self.assertIn("reloaded", agent.reload({"modules": {"cpu": {"enabled": True}, "tcp": {"enabled": True}, "exec": {"enabled": False}}}))
            agent.wait_row("profile.cpu")
            self.assertIn("reloaded", agent.reload({}))
            there = common.spawn(["/bin/true"])
            agent.wait_row("process.exec", lambda r: r["pid"] == there)

    @common.user_space
    def test_again_and_again_leaves_nothing(self):
        """Modules on and off, ten times: the same maps, programs, links and events open as before."""
        more = {"modules": {"tcp": {"enabled": True}, "cpu": {"enabled": True}}}
        with Agent() as agent:
            agent.reload(more)
            agent.reload({})
            before = descriptors(agent.pid)
            for _ in range(10):
                self.assertIn("reloaded", agent.reload(more))
                self.assertIn("reloaded", agent.reload({}))
            self.assertEqual(descriptors(agent.pid), before)

    @common.same_on_every_kernel
    def test_an_option_of_a_module(self):
        with Agent() as agent:
            answer = agent.reload({"modules": {"cpu": {"enabled": True, "rate": 20}}})
            self.assertIn("reloaded", answer)
            agent.wait_row("profile.cpu")
            self.assertIn("reloaded", agent.reload({"modules": {"cpu": {"enabled": True, "rate": 200}}}))
            agent.wait_row("profile.cpu")

    @common.user_space
    def test_the_ledgers_interval(self):
        with Agent() as agent:
            self.assertIn("reloaded", agent.reload({"agent": {"ledger_interval": "200ms"}}))
            agent.wait_rows("agent.ledger", count=5, seconds=5)

    @common.user_space
    def test_filters(self):
        with Agent() as agent:
            self.assertIn("reloaded", agent.reload({"filter": {"comm": ["nobody-has-this"]}}))
            hidden = common.spawn(["/bin/true"])
            self.assertIn("reloaded", agent.reload({}))
            seen = common.spawn(["/bin/true"])
            agent.wait_row("process.exec", lambda r: r["pid"] == seen)
            self.assertFalse([r for r in agent.rows("process.exec") if r["pid"] == hidden])

    @common.user_space
    def test_the_sink(self):
        away = {"sinks": {"kafka": {"enabled": True, "brokers": "127.0.0.1:1", "flush_timeout": "100ms"}}}
        with Agent() as agent:
            self.assertIn("reloaded", agent.reload(away))
            common.wait_until(lambda: "unreachable" in agent.output(), 10, "word of the broker")
            other = merged(away, {"sinks": {"kafka": {"options": {"linger.ms": 7}}}})
            self.assertIn("reloaded", agent.reload(other))
            wrong = agent.reload(merged(away, {"sinks": {"kafka": {"options": {"linger.msec": 7}}}}))
            self.assertIn("linger.ms", wrong)
            self.assertIn("stays as it was", wrong)
            self.assertIsNotNone(agent.stats().get("kafka"))
            self.assertIn("reloaded", agent.reload({}))

    @common.same_on_every_kernel
    def test_what_guards_is_not_restarted(self):
        """Where no rule asks for it, it comes and goes as others do."""
        with Agent() as agent:
            rules = os.path.join(agent.folder, "rules.yaml")
            with open(rules, "w") as file:
                file.write("- rule: Forbidden\n  desc: d\n  condition: evt.type in (execve, execveat) and proc.exepath = /nobody/has/this\n  output: o\n"
                           "  priority: WARNING\n")
            agent.stop()
            guards = {"rules": {"files": [rules], "responses": {"Forbidden": "kill"}}}
            agent.write(guards)
            agent.start()
            on = {"modules": {"guard": {"enabled": True}}}
            answer = agent.reload(merged(guards, on))
            for words in ("modules.guard.enabled cannot change while module 'guard' runs", "nothing would be guarded", "stays as it was"):
                self.assertIn(words, answer)
            self.assertIn("reloaded", agent.reload(merged(guards, {"agent": {"ledger_interval": "9s"}})))
            self.assertIn("guard", self.running(agent))
            agent.stop()
            agent.write(on)
            agent.start()
            self.assertIn("guard", self.running(agent))
            self.assertIn("reloaded", agent.reload({}))
            self.assertNotIn("guard", self.running(agent))

    def running(self, agent):
        return {m["module"] for m in agent.stats("probes")["modules"] if m["running"]}

    @common.user_space
    def test_what_is_wrong_changes_nothing(self):
        with Agent() as agent:
            for text, says in (('modules:\n  exec:\n    enabeld: true\n', ":3:"), ("modules: [\n", "sonde.yaml:"),
                               ('{"agent": {"window": "soon"}}', ":1:"), (json.dumps(merged(agent.base, {"journal": {"size": "512MiB"}})), "journal.size"),
                               (json.dumps(merged(agent.base, {"journal": {"size": "512MiB"}, "modules": {"exec": {"enabled": False}}})), "restart")):
                answer = agent.reload(text=text)
                self.assertIn(says, answer)
                self.assertIn("stays as it was", answer)
            os.unlink(agent.file)
            before = len(agent.output())
            agent.signal(signal.SIGHUP)
            common.wait_until(lambda: "sonde.yaml" in agent.output()[before:], 10, "word of the missing file")
            pid = common.spawn(["/bin/true"])
            agent.wait_row("process.exec", lambda r: r["pid"] == pid)


def descriptors(pid):
    """What the open descriptors are, without their numbers."""
    kinds = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            kinds.append(os.readlink(f"/proc/{pid}/fd/{fd}").split(":[")[0])
        except FileNotFoundError:
            continue
    # Files are those of whatever was sampled, kept by the symbols' cache within its bound; a socket may be an answer on its way.
    # An iterator over tasks is open while it runs.
    return sorted(kind for kind in kinds if kind.startswith("anon_inode") and kind != "anon_inode:bpf_iter")


if __name__ == "__main__":
    common.unittest.main()
