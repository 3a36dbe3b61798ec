# SPDX-License-Identifier: Apache-2.0
"""sonde map of real connections on this host, in each form, against what the ends know; the page in a real browser."""
import collections
import fcntl
import json
import os
import pty
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

import common
import wire
import profiles
if not common.GUEST:
    import browser
    import test_replay

# A server on a port of its own choice: answers N connections, each after reading a line, with SIZE bytes.
SERVER = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
with socket.create_server((sys.argv[4], 0)) as server:
    print(server.getsockname()[1], flush=True)
    for i in range(int(sys.argv[2])):
        with server.accept()[0] as one:
            one.recv(100)
            one.sendall(b"x" * int(sys.argv[3]))
"""
# A client: PORT N times, each sends a line of 10 bytes and reads to the end; refused connections are meant to be.
CLIENT = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
for i in range(int(sys.argv[3])):
    try:
        with socket.create_connection((sys.argv[4], int(sys.argv[2]))) as one:
            one.sendall(b"123456789\\n")
            while one.recv(65536):
                pass
    except ConnectionRefusedError:
        pass
"""
# client -> server: connections, bytes of each answer
TALK = {("web", "shop"): (12, 4000), ("web", "cart"): (7, 900), ("shop", "db"): (20, 30000)}


def python(text, *arguments, space=None, **options):
    return subprocess.Popen([*(["ip", "netns", "exec", space] if space else []), sys.executable, "-c", text, *map(str, arguments)], stdin=subprocess.DEVNULL, text=True, **options)


def talk(client, server, count, size, address="127.0.0.1", space=None):
    """Real connections between two processes of these names, the server's in a network namespace; returns the port."""
    process = python(SERVER, server, count, size, address, stdout=subprocess.PIPE, space=space)
    with process.stdout as pipe:
        port = int(pipe.readline())
    for one in (python(CLIENT, client, port, count, address), process):
        if one.wait(common.bound(60)):
            raise AssertionError("the load itself failed")
    return port


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Case(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="sonde-map-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.journal = os.path.join(cls.folder, "journal")
        with common.Agent(modules="tcp", journal=cls.journal) as agent:
            cls.ports = {pair: talk(*pair, *much) for pair, much in TALK.items()}
            cls.refused = closed_port()
            if python(CLIENT, "web", cls.refused, 5, "127.0.0.1").wait(common.bound(60)):
                raise AssertionError("the load itself failed")
            agent.wait_rows("tcp.close", lambda r: r["comm"] in ("web", "shop", "cart", "db"), 2 * sum(n for n, _ in TALK.values()))
            agent.wait_rows("tcp.connect", lambda r: r.get("error") == "ECONNREFUSED" and r["rport"] == cls.refused, 5)

    def path(self, name):
        return os.path.join(self.folder, name)

    def map(self, *arguments, journal=None):
        return common.sonde("map", journal or self.journal, *arguments)

    def json(self, *arguments, **more):
        return json.loads(self.map("--format", "json", *arguments, **more).stdout)


class Forms(Case):
    def edges(self, data):
        """(name of client, name of server, port) -> edge, of the talk alone."""
        names = [n["name"] for n in data["nodes"]]
        edges = {(names[e["client"]], names[e["server"]], e.get("port")): e for e in data["edges"]}
        return {key: e for key, e in edges.items() if key[2] in {*self.ports.values(), self.refused}}

    def test_joins_both_ends(self):
        edges = self.edges(self.json())
        self.assertEqual(set(edges), {(*pair, port) for pair, port in self.ports.items()} | {("web", "127.0.0.1", self.refused)})
        for pair, (count, size) in TALK.items():
            edge = edges[*pair, self.ports[pair]]
            self.assertEqual((edge["connections"], edge["failed"], edge["broken"]), (count, 0, 0))
            self.assertEqual((edge["sent_bytes"], edge["received_bytes"]), (10 * count, size * count))
            self.assertEqual(edge["connect"]["count"], count)
            self.assertFalse(edge["bad"])
        refused = edges["web", "127.0.0.1", self.refused]
        self.assertEqual((refused["connections"], refused["failed"], refused["bad"]), (0, 5, True))
        self.assertEqual(refused["causes"], [{"at": "connect", "cause": "ECONNREFUSED", "count": 5}])

    def test_percentiles_are_those_of_the_rows(self):
        edges = self.edges(self.json())
        times = collections.defaultdict(list)
        for row in common.cat(self.journal, "tcp.connect"):
            if "error" not in row:
                times[row["rport"]].append(row["latency_ns"])
        for pair, port in self.ports.items():
            known, edge = sorted(times[port]), edges[*pair, port]["connect"]
            self.assertEqual(edge["max_ns"], known[-1])
            self.assertAlmostEqual(edge["p50_ns"], known[(len(known) + 1) // 2 - 1], delta=known[-1] / 16)

    def test_one_side_is_enough(self):
        """Where rows of one side alone are chosen, the other end is an address, and nothing is counted twice."""
        port = self.ports["web", "shop"]
        for where, names in (("comm = shop", ("127.0.0.1", "shop")), ("comm = web", ("web", "127.0.0.1"))):
            edge = self.edges(self.json("--where", where))[*names, port]
            self.assertEqual((edge["connections"], edge["received_bytes"]), (12, 48000))

    @common.host_only("ip is not there")
    def test_two_network_namespaces(self):
        """Both ends see the same addresses: rows of two namespaces are one edge, with the process at each end."""
        space = wire.neighbour(self, "10.211.7")
        journal = self.path("spaces")
        with common.Agent(modules="tcp", journal=journal) as agent:
            port = talk("near", "far", 6, 500, "10.211.7.2", space)
            agent.wait_rows("tcp.close", lambda r: port in (r["lport"], r["rport"]), 12)
        data = self.json("--where", f"lport = {port} or rport = {port}", journal=journal)
        self.assertEqual([n["name"] for n in data["nodes"]], ["near", "far"])
        edge, = data["edges"]
        self.assertEqual((edge["client"], edge["server"], edge["connections"], edge["received_bytes"]), (0, 1, 6, 3000))

    @common.host_only("tcpdump is not there")
    def test_rows_of_a_capture(self):
        """Answers and queries, which have no process there: every node is an address, and the sums are those of the rows."""
        with test_replay.Network(self.folder) as network:
            (capture, _), _ = network.talk()
        rows, _ = test_replay.replay(capture)
        data = self.json("--peers", "1000", journal=profiles.write(self.path("capture"), rows))
        by_type = collections.defaultdict(list)
        for row in rows:
            by_type[row["type"]].append(row)
        self.assertEqual({n["kind"] for n in data["nodes"]}, {"address"})
        answers = {(data["nodes"][s["node"]]["name"], s["port"]): s["answers"] for s in data["services"]}
        for row in by_type["tcp.turnaround"]:
            self.assertGreaterEqual(answers[row["laddr"], row["lport"]]["max_ns"], row["max_ns"])
        self.assertEqual(sum(a["count"] for a in answers.values()), sum(r["count"] for r in by_type["tcp.turnaround"]))
        self.assertEqual(sum(e["queries"]["count"] for e in data["edges"] if "queries" in e), len(by_type["dns.query"]))
        self.assertEqual(sum(e["queries"]["errors"] for e in data["edges"] if "queries" in e), len(
            [r for r in by_type["dns.query"] if r.get("error", "none") != "none" or r.get("rcode", "NOERROR") not in ("NOERROR", "NXDOMAIN")]))
        self.assertEqual(data["failed"], len([r for r in by_type["tcp.connect"] if "error" in r]))
        fours = {frozenset([(r["laddr"], r["lport"]), (r["raddr"], r["rport"])]) for name in ("tcp.connect", "tcp.close") for r in by_type[name] if "error" not in r or name != "tcp.connect"}
        self.assertEqual(data["connections"], len(fours))

    def test_text(self):
        text = self.map("--format", "text").stdout
        block = re.split(r"(?m)^web\b.*\n", text, maxsplit=1)[1].split("\n", 2)  # with its cgroup, where it is in one
        self.assertIn(f"shop :{self.ports['web', 'shop']} ", block[0])
        self.assertIn(f"cart :{self.ports['web', 'cart']} ", block[1])
        self.assertIn("! 5 no connection: ECONNREFUSED", text)
        self.assertNotIn("\033", text)

    def test_text_on_a_terminal(self):
        """In colours, the same lines, cut to its width."""
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        process = subprocess.Popen([common.SONDE, "map", self.journal], stdin=subprocess.DEVNULL, stdout=side, stderr=subprocess.DEVNULL)
        os.close(side)
        out = b""
        while True:
            try:
                data = os.read(main, 4096)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            out += data
        os.close(main)
        self.assertEqual(process.wait(common.bound(30)), 0)
        self.assertIn(b"\033[31m", out)
        lines = re.sub(r"\033\[[0-9;]*m", "", out.decode()).splitlines()
        whole = self.map("--format", "text").stdout.splitlines()
        self.assertLessEqual(max(map(len, lines)), 60)
        self.assertEqual(len(lines), len(whole))
        for line, full in zip(lines, whole):
            self.assertTrue(full.startswith(line.rstrip("…")), (line, full))

    def test_dot(self):
        data = self.json()
        text = self.map("--format", "dot").stdout
        self.assertEqual(text.count(" -> "), len(data["edges"]))
        self.assertEqual(text.count("[shape="), len(data["nodes"]) + 1)
        if not common.GUEST:
            done = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True)
            self.assertEqual(done.stdout.count("\nnode "), len(data["nodes"]))

    def test_devices_are_written_to(self):
        """Not replaced: as root that would take them from everybody."""
        full = self.path("full")
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        for what in ["map", self.journal, "--format", "html", "-o"], ["map", self.journal, "--format", "json", "-o"]:
            done = common.sonde(*what, full, status=1)
            self.assertIn("No space left on device", done.stderr)
            self.assertTrue(stat.S_ISCHR(os.stat(full).st_mode))
        self.assertEqual([n for n in os.listdir(os.path.dirname(full)) if n.startswith("full.")], [])

    def test_mistakes_are_said(self):
        for arguments, status, said in ((["--format", "gif"], 2, "text"), (["--where", "("], 2, "--where"), (["--peers", "0"], 2, "peers"),
                                        (["--type", "process.exec"], 1, "no row about connections")):
            done = common.sonde("map", self.journal, *arguments, status=status)
            self.assertIn(said, done.stderr)
            self.assertEqual(done.stdout, "")
        self.assertIn("there is no journal", common.sonde("map", self.path("none"), status=1).stderr)
        self.assertIn("cannot write", common.sonde("map", self.journal, "-o", self.path("none/page.html"), status=1).stderr)


@common.host_only("chromium is not there")
class Page(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = browser.Browser()
        cls.addClassCleanup(cls.browser.close)

    def open(self, *arguments, journal=None, dark=False):
        page = self.path(self.id().rsplit(".", 1)[1] + ".html")
        self.map("-o", page, *arguments, journal=journal)
        self.browser.open(page, dark)
        self.page = page
        return self.browser

    def tearDown(self):
        self.browser.settle()
        self.assertEqual(self.browser.problems, [])
        self.assertEqual(self.browser.requests, ["file://" + self.page])

    def test_shows_what_the_json_holds(self):
        data = self.json()
        for form in ((), ("--plain",)):
            b = self.open(*form)
            shown = b.evaluate("view.data")
            for key in ("from_ns", "to_ns"):  # more digits than a number of JavaScript has
                self.assertAlmostEqual(shown[key], data[key], delta=1000)
            self.assertEqual({**shown, "from_ns": 0, "to_ns": 0}, {**data, "from_ns": 0, "to_ns": 0})
            self.assertEqual(b.evaluate("document.querySelectorAll('.node').length"), len(data["nodes"]))
            self.assertEqual(b.evaluate("document.querySelectorAll('.link').length"), len({(e["client"], e["server"]) for e in data["edges"]}))
            self.assertEqual(b.evaluate("[...document.querySelectorAll('#about b')].map(e => e.textContent.replace(/\\D/g, '')).slice(-4).map(Number)"),
                             [len(data["nodes"]), len(data["edges"]), data["connections"], data["failed"]])

    def test_clients_are_left_of_their_servers(self):
        b = self.open()
        self.assertEqual(b.evaluate("view.links.filter(l => l.source !== l.target && l.from === l.source && l.source.x >= l.target.x).length"), 0)
        self.assertEqual(b.evaluate("""d3.cross(view.nodes, view.nodes).filter(([a, c]) => a !== c && a.x === c.x && a.y < c.y + c.height && c.y < a.y + a.height).length"""), 0)

    def test_hover_click_and_search(self):
        b = self.open()
        x, y = b.evaluate("""(() => { const n = view.nodes.find(n => n.data.name === "shop"), g = [...document.querySelectorAll(".node")].find(g => g.__data__ === n);
                             const box = g.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; })()""")
        b.move(x, y)
        self.assertTrue(b.evaluate("document.getElementById('tip').textContent").startswith("shop"))
        b.click(x, y)
        self.assertEqual(b.evaluate("document.querySelector('#panel h2').textContent"), "shop")
        rows = b.evaluate("[...document.querySelectorAll('#panel .row .what')].map(e => e.textContent)")
        self.assertEqual(rows, ["db", "web"])
        b.evaluate("document.querySelector('#panel .row').click()")
        panel = b.evaluate("document.getElementById('panel').textContent")
        self.assertIn("shop → db", panel)
        self.assertIn("connections20", panel)
        b.move(3, 3)
        b.key("Escape")
        b.key("/")
        b.type("cart")
        self.assertEqual(b.evaluate("document.getElementById('found').textContent"), "1")
        lit = b.evaluate("[...document.querySelectorAll('.node:not(.dim)')].map(g => g.__data__.data.name)")
        self.assertEqual(lit, ["cart"])

    def test_hostile_names_stay_text(self):
        evil = ["</script><script>owned=1</script>", "<img src=x onerror=owned=1>", "\"-owned=1-\"", "<!--<script>", "{{data}}", "__proto__", "constructor"]
        rows = [{"type": "tcp.connect", "ts": 1 + i, "host": name, "comm": name, "cgroup": "/" + name.replace("/", ""), "proc": name, "laddr": "10.0.0.1", "lport": 1,
                 "raddr": "10.0.0.2", "rport": 80, "latency_ns": 5, "error": name, **({"container": name} if i % 2 else {})} for i, name in enumerate(evil)]
        rows.append({"type": "tcp.connect", "ts": 9, "host": b"\xff", "comm": b"\xc3(\x1b[31m", "laddr": "10.0.0.1", "lport": 1, "raddr": "::1", "rport": 80, "latency_ns": 5})
        rows.append({"type": "tcp.close", "ts": 9, "host": "h", "comm": "x", "laddr": "no address", "lport": 1, "raddr": "::1", "rport": 80})
        journal = profiles.write(self.path("hostile"), rows)
        self.assertIn("1 bad record", self.map("--format", "json", journal=journal).stderr)
        for form in ((), ("--plain",)):
            b = self.open(*form, journal=journal)
            b.evaluate("for (const x of [...view.nodes, ...view.links]) choose(x)")
            b.evaluate("showTip({ clientX: 9, clientY: 9 }, linkTip(view.links[0]))")
            self.assertEqual(b.evaluate("[typeof owned, document.images.length, document.scripts.length]"), ["undefined", 0, 4])
            self.assertEqual(b.evaluate("view.nodes.length"), len(evil) + 1 + 2)
            self.assertIn("constructor", b.evaluate("document.getElementById('picture').textContent"))

    def test_many_nodes(self):
        rows = [{"type": "tcp.connect", "ts": 1 + i, "host": "h", "comm": f"p{i % 97}", "laddr": "10.0.0.1", "lport": 1 + i % 60000, "raddr": f"10.1.{i % 7}.{i % 251}", "rport": 80 + i % 3,
                 "latency_ns": 5000 + i} for i in range(5000)]
        journal = profiles.write(self.path("many"), rows)
        b = self.open("--peers", "100", journal=journal)
        self.assertEqual(b.evaluate("d3.sum(view.data.edges, e => e.connections)"), 5000)
        self.assertEqual(b.evaluate("view.nodes.length"), 97 + 100 + 1)
        # Too many for a picture: the heaviest, or what is searched for and its neighbours.
        shown = "[...document.querySelectorAll('.node')].map(g => g.__data__.data.name)"
        self.assertEqual(len(b.evaluate(shown)), 120)
        self.assertIn("120 of 198 nodes", b.evaluate("document.getElementById('notes').textContent"))
        lightest = b.evaluate("view.nodes[197].data.name")
        self.assertNotIn(lightest, b.evaluate(shown))
        b.key("/")
        b.type(lightest)
        self.assertIn(lightest, b.evaluate(shown))
        b.key("Escape")
        self.assertNotIn(lightest, b.evaluate(shown))
        b.evaluate("choose(view.nodes[197])")
        self.assertIn(lightest, b.evaluate(shown))

    def test_looks_like_a_map(self):
        """What the screenshot cannot prove, an eye should: it stays in build/test-logs."""
        logs = os.path.join(common.BUILD, "test-logs")
        os.makedirs(logs, exist_ok=True)
        for dark in (False, True):
            path = os.path.join(logs, f"map-{'dark' if dark else 'light'}.png")
            b = self.open(dark=dark)
            b.screenshot(path)
            self.assertGreater(os.path.getsize(path), 15000)
            self.assertFalse(b.evaluate("document.documentElement.scrollWidth > innerWidth || document.documentElement.scrollHeight > innerHeight"),
                             "the page itself scrolls")


if __name__ == "__main__":
    unittest.main()
