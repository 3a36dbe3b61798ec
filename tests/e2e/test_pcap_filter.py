# SPDX-License-Identifier: Apache-2.0
"""Filter expressions, translated and loaded into this kernel: each does there what libpcap does."""
import os
import re
import subprocess

import common


def tool(name, *arguments):
    """What a program of the build's tests/ says; its status must be 0."""
    path = os.path.join(common.BUILD, "tests", name)
    done = subprocess.run([path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=common.bound(60))
    if done.returncode:
        raise AssertionError(f"{name} ended with {done.returncode}: {done.stdout[-1000:]} {done.stderr[-3000:]}")
    return done.stdout


class PcapFilter(common.unittest.TestCase):
    def test_filters_by_chance(self):
        count = common.scaled(3000, 500)
        said = tool("tool_filter", str(count), "42")
        print(said)
        lines = re.findall(r"(\w+): (\d+) filters .* (\d+) in the kernel, (\d+) differences", said)
        self.assertEqual([line[0] for line in lines], ["expressions", "programs"], said)
        for what, filters, runs, differences in lines:
            self.assertGreater(int(filters), count * 0.8, what)
            self.assertGreater(int(runs), int(filters) * 60, what)
            self.assertEqual(int(differences), 0, said)

    def test_filters_in_a_module(self):
        said = tool("test_filter_place")
        self.assertNotIn("SKIPPED", said)


if __name__ == "__main__":
    common.unittest.main()
