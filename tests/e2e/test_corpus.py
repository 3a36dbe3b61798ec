# SPDX-License-Identifier: Apache-2.0
"""profile.cpu against the corpus: programs whose whole chain of calls is known, each sampled down to its root.

All run below one agent, two at a time; then each is judged for itself, as corpus.py says. The percentages are printed.
"""
import concurrent.futures
import json
import unittest

import common
import corpus

SECONDS = 2
# Sanitizers look at the agent: a few programs show it all.
CASES = [c for c in corpus.CASES if (c.guest or not (common.GUEST or common.SANITIZED)) and (c.name != "python_map" or corpus.python312())]


class Corpus(common.TestCase):
    @classmethod
    def setUpClass(cls):
        corpus.build()
        with common.Agent(modules="cpu", settings=["agent.window=2s"]) as agent, concurrent.futures.ThreadPoolExecutor(2) as pool:
            runs = {c.name: pool.submit(c.run, SECONDS) for c in CASES}
            concurrent.futures.wait(runs.values())
            agent.stop()
            cls.rows = agent.rows()
        cls.runs = runs
        corpus.clean(r.result()[0] for r in runs.values() if not r.exception())

    def judge(self, name):
        pid, burned = self.runs[name].result()
        verdict = corpus.verdict(corpus.BY_NAME[name], self.rows, pid, burned)
        print(f"\n  {verdict} ", end="", flush=True)
        self.assertEqual(verdict.faults(), [], f"{verdict}\n{verdict.details()}")
        return pid

    @common.host_only("its C library is for other programs")
    def test_bits32(self):
        """A 32-bit program is named as such, and its samples are all there."""
        pid = self.judge("bits32")
        for row in self.rows:
            if row["type"] != "profile.cpu" or row["pid"] != pid or row["comm"] != "bits32":
                continue
            if not any(f.startswith("exit_mmap") for f in row["stack"]):  # then it is no program any more
                self.assertIn("32-bit", json.dumps(row), row["stack"])

    def test_samples_are_settled(self):
        """Each sample is in a row, or was dropped for a reason; here there is none."""
        samples = common.ledger(self.rows)["cpu.sample"]
        self.assertEqual(samples["dropped"], {})
        self.assertEqual(samples["journaled"], sum(r["value"] for r in self.rows if r["type"] == "profile.cpu"))


if common.SANITIZED:
    del Corpus.test_bits32


def add(case):
    def test(self):
        self.judge(case.name)
    test.__name__ = f"test_{case.name}"
    if not case.guest:
        test = common.host_only("its toolchain or runtime is not there")(test)
    if case.name == "bits32":
        return
    setattr(Corpus, f"test_{case.name}", test)


for one in CASES if common.SANITIZED else corpus.CASES:
    if one.name != "python_map" or corpus.python312():
        add(one)


@common.user_space
class Judge(unittest.TestCase):
    """The judge itself: it must see what is wrong."""
    WHOLE = [("burn", "plain"), ("chain_c", "plain"), ("chain_b", "plain"), ("chain_a", "plain"), ("main", "plain"),
             ("__libc_start_call_main", "libc.so.6"), ("__libc_start_main", "libc.so.6"), ("_start", "plain")]

    def faults(self, *stacks, burned=1.0, rate=100):
        return corpus.Verdict(corpus.BY_NAME["plain"], burned, stacks, rate).faults()

    def test_accepts_the_chain(self):
        self.assertEqual(self.faults((self.WHOLE, 100)), [])
        self.assertEqual(self.faults((self.WHOLE, 99), (self.WHOLE[:5], 1)), [])

    def test_refuses_every_hole(self):
        for hole in range(1, len(self.WHOLE)):
            self.assertTrue(self.faults((self.WHOLE[:hole] + self.WHOLE[hole + 1:], 100)), f"without frame {hole}")
            self.assertTrue(self.faults((self.WHOLE[:hole], 100)), f"cut at frame {hole}")

    def test_refuses_what_does_not_belong(self):
        self.assertTrue(self.faults((self.WHOLE + [("_start", "plain")], 100)))
        self.assertTrue(self.faults((self.WHOLE[:2] + [("stranger", "plain")] + self.WHOLE[2:], 100)))
        self.assertTrue(self.faults((self.WHOLE[:1] + self.WHOLE[2:3] + self.WHOLE[1:2] + self.WHOLE[3:], 100)), "another order")

    def test_refuses_two_of_a_hundred(self):
        self.assertTrue(self.faults((self.WHOLE, 98), (self.WHOLE[:5], 2)))

    def test_refuses_few_samples(self):
        self.assertTrue(self.faults())
        self.assertTrue(self.faults((self.WHOLE, 45)))
        self.assertTrue(self.faults((self.WHOLE, 80), ([("", "plain")], 20)), "a leaf without its name is not the burning one")

    def test_counts_the_depth(self):
        start = self.WHOLE[4:]
        for depth, right in ((300, True), (299, False), (301, False)):
            stack = [("burn", "recursion"), *[("descend", "recursion")] * depth, *start]
            faults = corpus.Verdict(corpus.BY_NAME["recursion"], 1, [(stack, 100)], 100).faults()
            self.assertEqual(not faults, right, f"{depth} frames")

    def test_reads_frames(self):
        for text, parts in (("burn+0x1f (plain)", ("burn", "plain")), ("libc.so.6+0x2a [0123456789abcdef]", ("", "libc.so.6")),
                            ("a::b(int) const+0x1 (lib.so)", ("a::b(int) const", "lib.so")), ("f+0x2 ([vdso])", ("f", "[vdso]")),
                            ("0x7f0000001000 ([anon])", ("0x7f0000001000", "[anon]")), ("0x7f0000001000", ("", "")),
                            ("py::f:/a (b)/c.py+0x1 ([anon])", ("py::f:/a (b)/c.py", "[anon]"))):
            self.assertEqual(corpus.frame(text), parts)


if __name__ == "__main__":
    unittest.main()
