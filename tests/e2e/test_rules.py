# SPDX-License-Identifier: Apache-2.0
"""`sonde rules`: files checked, explained and tried on events, as a person would."""
import json
import os
import subprocess
import tempfile

import common

DATA = os.path.join(common.ROOT, "tests", "data", "rules")
EVERY = os.path.join(DATA, "every.yaml")
# The stable rules that the falcosecurity/rules project publishes are no part of this one. Where SONDE_STABLE_RULES names their file, each is tried on the
# events of stable.jsonl; every construct found in them is in every.yaml too.
STABLE = os.environ.get("SONDE_STABLE_RULES")


def rules(*arguments, status=0, **options):
    done = subprocess.run([common.SONDE, "rules", *arguments], capture_output=True, text=True, timeout=common.bound(60), **options)
    if done.returncode != status:
        raise AssertionError(f"sonde rules {arguments} ended with {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    return done.stdout, done.stderr


class Rules(common.unittest.TestCase):
    def file(self, text):
        path = tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False)
        self.addCleanup(os.unlink, path.name)
        with path:
            path.write(text)
        return path.name

    def test_a_file_with_every_construct(self):
        out, err = rules("check", EVERY)
        self.assertEqual(out, "14 rules, 11 enabled, 2 left out, 502 event types, 4 warnings\n")
        self.assertEqual(err.count("warning: "), 4)
        out, err = rules("check", "-q", "-v", EVERY)
        self.assertEqual(err, "")
        self.assertRegex(out, r"Write below etc +error +3 types")

    def test_each_event_fires_what_it_should(self):
        out, err = rules("test", EVERY, os.path.join(DATA, "every.jsonl"))
        self.assertEqual(err, "")
        self.assertIn("every.jsonl:1: error: Write below etc: Written below etc | file=/etc/hosts folder=/etc by=cat parent=two 100% "
                      "width=42   | up=CAT\n", out)
        self.assertIn(" 0 not as expected", out)

    def test_what_was_not_expected_is_said(self):
        events = self.file('{"evt.type": "execve", "proc.name": "zsh", "proc.tty": 1, "container.id": "x", "expect": []}\n'
                           '{"evt.type": "execve", "expect": ["Shell in container"]}\n')
        out, err = rules("test", EVERY, events, status=1)
        self.assertIn("'Shell in container' fires, which was not expected", err)
        self.assertIn("1 expected to fire, 0 of them did", err)
        self.assertIn("2 not as expected", out)

    def test_mistakes_have_a_place(self):
        path = self.file("- rule: r\n  desc: d\n  priority: INFO\n  output: o\n  condition: >\n    evt.type = open\n    and proc.nmae = x\n")
        out, err = rules("check", path, status=78)
        self.assertEqual(err, f"{path}:7:9: unknown field 'proc.nmae'; did you mean 'proc.name'?\n1 mistakes\n")
        out, err = rules("check", "--lenient", path)
        self.assertIn(f"warning: {path}:7:9: unknown field 'proc.nmae'", err)
        self.assertIn("0 enabled, 1 left out", out)

    def test_usage(self):
        self.assertIn("did you mean 'check'?", rules("chekc", EVERY, status=2)[1])
        self.assertIn("a rule file is missing", rules("check", status=2)[1])
        self.assertIn("the events are missing", rules("test", EVERY, status=2)[1])
        self.assertIn("cannot be read", rules("check", "/nonexistent.yaml", status=1)[1])
        self.assertIn("no rule 'nobody'", rules("explain", EVERY, "nobody", status=1)[1])

    def test_explain(self):
        out, _ = rules("explain", EVERY, "Shell in container")
        self.assertIn("condition: evt.type in (execve, execveat) and not proc.name in () and (container.id != host or container.name = special) "
                      "and proc.name in (sh, bash, dash, zsh) and proc.tty != 0 and not user.name = tester\n", out)
        self.assertIn("event types (2): execve execveat\n", out)
        self.assertIn("tags: container shell added\n", out)
        self.assertIn("proc.name (text) from the process; it must be one that is sh or is bash or is dash or is zsh\n", out)
        self.assertEqual(rules("explain", EVERY)[0].count("\n  condition: "), 12)

    def test_fields(self):
        out, _ = rules("fields")
        self.assertGreater(out.count("\n    "), 250)
        self.assertIn("proc.aname[n]\n", out)
        markdown = rules("fields", "--format", "markdown")[0]
        with open(os.path.join(common.ROOT, "docs", "rules.md")) as text:
            self.assertIn(markdown, text.read(), "docs/rules.md: renew its table with 'sonde rules fields --format markdown'")

    if STABLE:
        def test_the_stable_rules_of_falco(self):
            out, err = rules("check", STABLE)
            self.assertEqual(err, "")
            self.assertRegex(out, r"^25 rules, 25 enabled, 0 left out, \d+ event types, 0 warnings\n$")
            out, err = rules("test", STABLE, os.path.join(DATA, "stable.jsonl"))
            self.assertEqual(err, "")
            self.assertIn(" 0 not as expected", out)
            with open(os.path.join(DATA, "stable.jsonl")) as lines:
                expected = {rule for line in lines for rule in json.loads(line)["expect"]}
            self.assertEqual(len(expected), 25)


if __name__ == "__main__":
    common.unittest.main()
