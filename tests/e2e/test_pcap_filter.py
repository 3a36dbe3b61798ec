# SPDX-License-Identifier: Apache-2.0
"""Filter expressions, translated and loaded into this kernel: each does there what libpcap does."""
import re

import common


class PcapFilter(common.unittest.TestCase):
    def test_filters_by_chance(self):
        count = common.scaled(3000, 500)
        said = common.tool("tool_filter", str(count), "42")
        print(said)
        lines = re.findall(r"(\w+): (\d+) filters .* (\d+) in the kernel, (\d+) differences", said)
        self.assertEqual([line[0] for line in lines], ["expressions", "programs"], said)
        for what, filters, runs, differences in lines:
            self.assertGreater(int(filters), count * 0.8, what)
            self.assertGreater(int(runs), int(filters) * 60, what)
            self.assertEqual(int(differences), 0, said)

    def test_filters_in_a_module(self):
        said = common.tool("test_filter_place")
        self.assertNotIn("SKIPPED", said)


if __name__ == "__main__":
    common.unittest.main()
