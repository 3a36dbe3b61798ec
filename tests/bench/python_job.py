# SPDX-License-Identifier: Apache-2.0
"""A job of usual parts (text, JSON, sorting, regular expressions, hashes) for as many seconds as are asked for."""
import hashlib
import json
import re
import sys
import time
import zlib

end = time.monotonic() + float(sys.argv[1])
words = [f"word{i * 7919 % 1009}" for i in range(3000)]
while time.monotonic() < end:
    text = " ".join(words)
    counts = {}
    for word in re.findall(r"\w+", text):
        counts[word] = counts.get(word, 0) + 1
    packed = json.dumps(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    json.loads(packed)
    hashlib.sha256(packed.encode() * 20).digest()
    zlib.compress(packed.encode() * 4)
