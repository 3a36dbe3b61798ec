# SPDX-License-Identifier: Apache-2.0
"""(root of python) > <module> > chain_a > chain_b > burn. argv: seconds."""
import sys
import time


def burn(rounds):
    x = rounds
    for i in range(rounds):
        x = (x * 69069 + i) & 0xFFFFFFFF
    return x


def chain_b(rounds):
    return burn(rounds) + 1


def chain_a(rounds):
    return chain_b(rounds) + 1


begin = time.process_time()
while time.process_time() - begin < float(sys.argv[1]):
    chain_a(100000)
print(f"burned {time.process_time() - begin:.6f}")
