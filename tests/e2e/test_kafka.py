# SPDX-License-Identifier: Apache-2.0
"""The way to a real Apache Kafka: every record there, equal, keyed, in order; through crashes of the agent and of the broker."""
import collections
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import msgpack

import common
from storm import Storm, settings, storm

OUTAGE = float(os.environ.get("SONDE_OUTAGE") or 15)  # seconds; an outage of a minute is SONDE_OUTAGE=60
IN_FLIGHT = 16384  # records, the default: what may be sent twice
FLAT = 3 << 20     # bytes that an agent may grow by once what may be in flight is
CEILING = 64 << 20 # bytes, the worker included: agent.memory

Record = collections.namedtuple("Record", "partition offset key headers value")


def free_port():
    """A port P with P + 1 free too."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            try:
                two.bind(("127.0.0.1", one.getsockname()[1] + 1))
            except (OSError, OverflowError):
                continue
            return one.getsockname()[1]


class Broker:
    """A broker of its own, by scripts/kafka."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sonde-broker-")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.topics = 0

    def verb(self, *words):
        done = subprocess.run([os.path.join(common.ROOT, "scripts", "kafka"), words[0], self.folder, *words[1:]], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=common.bound(240))
        if done.returncode:
            raise AssertionError(f"scripts/kafka {words[0]}: {done.stdout[-2000:]}")

    def start(self):
        self.verb("start", str(self.port))

    def end(self):
        self.verb("stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def topic(self, partitions=0):
        """A name that no test had before; with `partitions` it is made, else the agent's first record makes it."""
        self.topics += 1
        name = f"test-{os.getpid()}-{self.topics}"
        if partitions:
            self.create(name, partitions)
        return name

    def create(self, topic, partitions):
        """CreateTopics, version 2, of the Kafka protocol: kcat cannot, and the broker's own tools take seconds."""
        def text(value):
            return struct.pack(">h", len(value)) + value.encode()
        request = struct.pack(">hhi", 19, 2, 1) + text("sonde-test")
        request += struct.pack(">i", 1) + text(topic) + struct.pack(">ihii", partitions, 1, 0, 0) + struct.pack(">ib", 10000, 0)
        with socket.create_connection(("127.0.0.1", self.port), common.bound(15)) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                body = answer.read(struct.unpack(">i", answer.read(4))[0])
        error = struct.unpack_from(">h", body, 4 + 4 + 4 + 2 + len(topic))[0]
        if error:
            raise AssertionError(f"the broker does not make {topic}: error {error}")

    def records(self, topic):
        """All that the topic holds now, by kcat."""
        out = subprocess.run(["kcat", "-C", "-q", "-b", self.address, "-t", topic, "-o", "beginning", "-e", "-f",
                              "%p %o %S %k|%h\n%s"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True,
                             timeout=common.bound(120)).stdout
        records, at = [], 0
        while at < len(out):
            end = out.index(b"\n", at)
            partition, offset, size, rest = out[at:end].split(b" ", 3)
            key, _, headers = rest.decode().rpartition("|")
            value = out[end + 1:end + 1 + int(size)]
            records.append(Record(int(partition), int(offset), key, dict(h.split("=", 1) for h in headers.split(",")), value))
            at = end + 1 + int(size)
        return records


broker = None


def setUpModule():
    global broker
    broker = Broker()
    unittest.addModuleCleanup(broker.end)
    broker.start()


def kafka(topic, **more):
    return {"sinks.kafka.enabled": "true", "sinks.kafka.brokers": broker.address, "sinks.kafka.topic": topic,
            "sinks.kafka.flush_timeout": "60s", "journal.size": "1GiB", **settings(**more)}


def journaled(folder):
    """(host, run, seq) -> the bytes of its map, oldest first."""
    out = common.sonde("cat", folder, "--format", "msgpack", text=False).stdout
    unpacker, rows, begin = msgpack.Unpacker(max_buffer_size=1 << 31), {}, 0
    unpacker.feed(out)
    for row in unpacker:
        end = unpacker.tell()
        rows[row["host"], row["run"], row["seq"]] = out[begin:end]
        begin = end
    return rows


def identity(record):
    return record.headers["host"], record.headers["run"], int(record.headers["seq"])


class Kafka(common.TestCase):
    def assertDelivered(self, folder, records, rewinds=0):
        """Every journaled record is there with the same bytes; in order, but for `rewinds` at most by what was in flight. Returns the
        number of repeated records."""
        want, got = journaled(folder), {}
        for record in records:
            got.setdefault(identity(record), record.value)
        self.assertEqual(len(got), len(want), f"missing {[(k, want[k][:60]) for k in sorted(set(want) - set(got))[:3]]}, unknown {sorted(set(got) - set(want))[:3]}")
        self.assertTrue(got == want, "records differ from the journal")
        place = {key: i for i, key in enumerate(want)}  # the journal's order
        back = 0
        for partition in {r.partition for r in records}:
            last = -1
            for record in (r for r in records if r.partition == partition):
                at = place[identity(record)]
                if at <= last:
                    back += 1
                    self.assertLessEqual(last - at, IN_FLIGHT, "sent again long after it was acknowledged")
                last = at
        self.assertLessEqual(back, rewinds)
        repeated = len(records) - len(got)
        self.assertLessEqual(repeated, rewinds * IN_FLIGHT)
        return repeated


class Records(Kafka):
    def test_every_record_is_the_journals(self):
        topic = broker.topic()
        with common.Agent("exec,tcp,cpu,storm", kafka(topic)) as agent:
            for _ in range(50):
                common.spawn(["/bin/true"])
            storm("PB", 2, 0, 5000)
            agent.stop()
            rows, records = agent.rows(), broker.records(topic)
            self.assertEqual(self.assertDelivered(agent.journal, records), 0)
        self.assertGapless(rows)
        host = rows[0]["host"]
        self.assertEqual([msgpack.unpackb(r.value) for r in records], rows)
        for record, row in zip(records, rows):
            self.assertEqual(record.key, host)
            self.assertEqual(record.headers, {"schema": f"{row['type']}/1", "host": row["host"], "run": row["run"], "seq": str(row["seq"]),
                                              "content-type": "application/msgpack"})
        last = [r for r in rows if r["type"] == "agent.ledger"][-1]["types"]
        self.assertEqual(common.ledger_faults(last), [])

    def test_host_module_keys_keep_their_order_over_partitions(self):
        topic = broker.topic(partitions=4)
        with common.Agent("exec,tcp,storm", {**kafka(topic), "sinks.kafka.key": "host_module"}) as agent:
            load = storm("P", 2, 20000, 20000)
            for _ in range(20):
                common.spawn(["/bin/true"])
            agent.stop()
            rows, records = agent.rows(), broker.records(topic)
            want, got = journaled(agent.journal), {identity(r): r.value for r in records}
            self.assertTrue(got == want and len(records) == len(want))
        partition_of, last = {}, {}
        for record in records:
            row = msgpack.unpackb(record.value)
            self.assertEqual(record.key, f"{row['host']}:{row['type'].split('.')[0]}")
            self.assertEqual(partition_of.setdefault(record.key, record.partition), record.partition)
            self.assertGreater(row["seq"], last.get(record.key, 0))
            last[record.key] = row["seq"]
        self.assertGreater(len(partition_of), 2)
        self.assertEqual(sum(r["type"] == "storm.alarm" for r in rows), sum(load.made.values()))

    def test_the_ledger_counts_acknowledgements(self):
        topic = broker.topic()
        with common.Agent("storm", {**kafka(topic), "agent.ledger_interval": "200ms"}) as agent:
            storm("PB", 2, 20000, 10000)
            row = agent.wait_row("agent.ledger", lambda r: all(r["types"].get(t, {}).get("acknowledged") == 10000
                                                              for t in ("storm.alarm", "storm.noise")))
            agent.stop()
            for one in agent.rows("agent.ledger"):
                self.assertEqual(common.ledger_faults(one["types"]), [])
        self.assertEqual(row["types"]["storm.alarm"]["pending"], 0)


class Crash(Kafka):
    def test_killed_under_load_loses_and_invents_nothing(self):
        """SIGKILL, three times, at 50 000 events a second and more."""
        topic, kills, begin = broker.topic(), 3, time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            with Storm("PB", 2, 35000) as load:
                for _ in range(kills):
                    with common.Agent("storm", kafka(topic), journal=journal) as agent:
                        mark = time.monotonic()
                        common.wait_until(lambda: agent_counts(agent, "acknowledged") > 20000 and time.monotonic() - mark > 0.5, 30,
                                          "acknowledgements under load")
                        agent.kill()
                load.stop()
                rate = sum(load.made.values()) / (time.monotonic() - begin)
            with common.Agent("storm", kafka(topic), journal=journal) as agent:
                agent.stop(seconds=90)
            rows = common.cat(journal, "storm.*")
            records = broker.records(topic)
            repeated = self.assertDelivered(journal, records, rewinds=kills)
            self.assertGapless(common.cat(journal))
        self.assertEqual(len({r["run"] for r in rows}), kills)
        self.assertGreater(len(rows), 100000)
        for run in {r["run"] for r in rows}:
            mine = [r for r in rows if r["run"] == run]
            seconds = (mine[-1]["ts"] - mine[0]["ts"]) / 1e9
            self.assertGreater(len(mine) / seconds, 50000 if not common.SANITIZED else 5000, f"events a second of run {run}")
        print(f"{len(rows)} events, {repeated} sent again after {kills} kills, load {rate:.0f}/s ", end="")


def agent_counts(agent, key):
    done = common.sonde("stats", "--json", "--set", f"agent.control={agent.control}", status=None)
    types = json.loads(done.stdout)["types"] if done.returncode == 0 else {}
    return sum(c[key] for name, c in types.items() if name.startswith("storm."))


class Memory(threading.Thread):
    """Watches what an agent and its worker hold."""

    def __init__(self, agent):
        super().__init__(daemon=True)
        self.agent, self.seen, self.over = agent, [], threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.2):
            self.seen.append(self.agent.resident_bytes())

    def end(self):
        """The most, and by how much the second half was above the first."""
        self.over.set()
        self.join()
        half = len(self.seen) // 2
        return max(self.seen), max(self.seen[half:]) - max(self.seen[:half])


class Outage(Kafka):
    def outage(self, down, up, seconds):
        """The broker goes and comes back under load; what the agent holds stays flat, everything arrives in order."""
        topic = broker.topic()
        with common.Agent("storm", kafka(topic, agent__ledger_interval="500ms")) as agent:
            with Storm("PB", 2, 5000) as load:
                common.wait_until(lambda: agent_counts(agent, "acknowledged") > 20000, 30, "acknowledgements before the outage")
                memory = Memory(agent)
                broker.verb(down)
                try:
                    time.sleep(seconds)  # the outage itself
                    most, grown = memory.end()
                    journaled_by_then = agent_counts(agent, "journaled")
                    self.assertLess(agent_counts(agent, "acknowledged"), journaled_by_then)
                finally:
                    broker.verb(*up)
                common.wait_until(lambda: agent_counts(agent, "acknowledged") > journaled_by_then, 60, "the backlog's acknowledgement")
                load.stop()
            agent.stop(seconds=90)
            rows, records = agent.rows(), broker.records(topic)
            self.assertDelivered(agent.journal, records, rewinds=4)
        made = sum(load.made.values())
        self.assertEqual(sum(r["type"].startswith("storm.") for r in rows), made)
        self.assertEqual(common.ledger_faults(common.ledger(rows)), [])
        if not common.SANITIZED:
            self.assertLess(most, CEILING)
            if seconds >= 10:
                self.assertLess(grown, FLAT)
        print(f"{made} events, {seconds:g} s away, {most / 1048576:.1f} MiB, {grown / 1048576:+.1f} MiB ", end="")

    def test_halted(self):
        self.outage("halt", ("start", str(broker.port)), OUTAGE)

    def test_crashed(self):
        self.outage("kill", ("start", str(broker.port)), 2)

    def test_paused(self):
        self.outage("pause", ("resume",), 4)

    def test_not_there_at_start_nor_at_the_end(self):
        """Without a broker the agent starts, journals, and ends in time; the next run delivers the rest."""
        topic = broker.topic()
        broker.verb("halt")
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            try:
                with common.Agent("storm", {**kafka(topic), "sinks.kafka.flush_timeout": "2s"}, journal=journal) as agent:
                    storm("PB", 2, 20000, 10000)
                    common.wait_until(lambda: agent_counts(agent, "journaled") == 20000, 20, "20 000 journaled")
                    begin = time.monotonic()
                    agent.stop()
                    self.assertLess(time.monotonic() - begin, common.bound(2 + 4))
                    self.assertIn("unreachable", agent.output())
            finally:
                broker.verb("start", str(broker.port))
            with common.Agent("storm", kafka(topic), journal=journal) as agent:
                agent.stop(seconds=90)
            self.assertEqual(self.assertDelivered(journal, broker.records(topic)), 0)


if __name__ == "__main__":
    unittest.main()
