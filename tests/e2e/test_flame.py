# SPDX-License-Identifier: Apache-2.0
"""sonde flame, and sonde cat to pprof and folded, over journals of known content; the page in a real browser."""
import gzip
import os
import pty
import shutil
import socket
import stat
import subprocess
import tempfile
import unittest

import browser
import common
import profiles

COPY = ["copy+0x1f ([k])", "read_all+0x11 (libc.so.6)", "work+0x33 (app)", "main+0x5 (app)"]
PARSE = ["least (app) [inline]", "parse+0x2 (app)", "main+0x5 (app)"]
SCAN = ["scan+0x1 (db)", "main+0x9 (db)"]
LOCK = ["schedule+0x1 ([k])", "lock+0x4 (libc.so.6)", "main+0x6 (app)"]
CONTAINER = "c0ffee0123456789" * 4


def window(second, copies, parses, scans, offcpu=True):
    """The rows of one second: so many samples of each stack, and 100 ms of waiting."""
    rows = [profiles.row("profile.cpu", second, COPY, copies, proc="a" * 16),
            profiles.row("profile.cpu", second, PARSE, parses, tid=101, comm="worker", proc="a" * 16),
            profiles.row("profile.cpu", second, SCAN, scans, pid=200, tid=200, comm="db", proc="b" * 16, container=CONTAINER)]
    if offcpu:
        rows.append(profiles.row("profile.offcpu", second, LOCK, 10**8, proc="a" * 16, state="sleeping", syscall="futex"))
    return [row for row in rows if row["value"]]


def ten_seconds(begin=1000, offcpu=True):
    """100 samples: 40 of copy (30 of them in the first half), 20 of parse, 40 of scan; and 1 s of waiting."""
    return [row for i in range(10) for row in window(begin + 1 + i, 6 if i < 5 else 2, 2, 4, offcpu)]


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def read_message(data):
    """field -> values, of a protobuf message: numbers, and bytes for what has a length."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if tag & 7 == 2:
            value, at = data[at:at + value], at + value
        elif tag & 7:
            raise AssertionError(f"wire type {tag & 7}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def read_packed(data):
    values, at = [], 0
    while at < len(data):
        value, at = read_varint(data, at)
        values.append(value)
    return values


def read_pprof(data):
    """What profile.proto says of a file, names in place of numbers."""
    top = read_message(gzip.decompress(data))
    texts = [t.decode() for t in top[6]]
    one = lambda message, field: message.get(field, [0])[0]
    types = [tuple(texts[one(read_message(t), f)] for f in (1, 2)) for t in top[1]]
    functions = {one(f, 1): texts[one(f, 2)] for f in map(read_message, top.get(5, []))}
    mappings = {one(m, 1): (texts[one(m, 5)], texts[one(m, 6)]) for m in map(read_message, top.get(3, []))}
    locations = {}
    for location in map(read_message, top.get(4, [])):
        lines = [functions[one(read_message(line), 1)] for line in location.get(4, [])]
        locations[one(location, 1)] = {"lines": lines, "mapping": mappings.get(one(location, 2)), "address": one(location, 3)}
    samples = []
    for sample in map(read_message, top.get(2, [])):
        labels = {}
        for label in map(read_message, sample.get(3, [])):
            labels[texts[one(label, 1)]] = texts[one(label, 2)] or one(label, 3)
        samples.append({"stack": [locations[i] for i in read_packed(sample[1][0])], "values": read_packed(sample[2][0]), "labels": labels})
    period = read_message(top[11][0])
    return {"types": types, "samples": samples, "mappings": list(mappings.values()), "time": one(top, 9), "duration": one(top, 10),
            "period_type": (texts[one(period, 1)], texts[one(period, 2)]), "period": one(top, 12)}


class Case(common.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="sonde-flame-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.journal = profiles.write(os.path.join(cls.folder, "journal"), ten_seconds())

    def path(self, name):
        return os.path.join(self.folder, name)

    def make(self, *arguments, name="page.html"):
        common.sonde("flame", *arguments, "-o", self.path(name))
        return self.path(name)


@common.host_only("a journal reads the same on every kernel")
class Cat(Case):
    def cat(self, *arguments):
        done = common.sonde("cat", self.journal, *arguments, text=False)
        return done.stdout, done.stderr.decode()

    def test_pprof_as_another_reader_sees_it(self):
        data, _ = self.cat("--format", "pprof", "--type", "profile.*")
        profile = read_pprof(data)
        self.assertEqual(profile["types"], [("samples", "count"), ("cpu", "nanoseconds"), ("offcpu", "nanoseconds")])
        self.assertEqual((profile["time"], profile["duration"]), (1000 * profiles.SECOND, 10 * profiles.SECOND))
        self.assertEqual((profile["period_type"], profile["period"]), (("cpu", "nanoseconds"), profiles.PERIOD))
        seen = {}
        for sample in profile["samples"]:
            leaf = sample["stack"][0]["lines"][0]
            seen[leaf] = (sample["values"], sample["labels"], [place["lines"] for place in sample["stack"]])
        labels = {"pid": 100, "tid": 100, "comm": "app"}
        self.assertEqual(seen, {
            "copy": ([40, 40 * profiles.PERIOD, 0], labels, [["copy"], ["read_all"], ["work"], ["main"]]),
            "least": ([20, 20 * profiles.PERIOD, 0], {**labels, "tid": 101, "comm": "worker"}, [["least", "parse"], ["main"]]),
            "scan": ([40, 40 * profiles.PERIOD, 0], {"pid": 200, "tid": 200, "comm": "db", "container": CONTAINER}, [["scan"], ["main"]]),
            "schedule": ([0, 0, 10**9], {**labels, "state": "sleeping", "syscall": "futex"}, [["schedule"], ["lock"], ["main"]]),
        })
        self.assertEqual({name for name, _ in profile["mappings"]}, {"[k]", "libc.so.6", "app", "db"})

    def test_pprof_of_files_without_symbols(self):
        rows = [profiles.row("profile.cpu", 1, ["libz.so+0x1f0 [aabbcc]", "libz.so+0x2f0 [aabbcc]", "inflate+0x2 (libz.so)"])]
        journal = profiles.write(self.path("unknown"), rows)
        sample, = read_pprof(common.sonde("cat", journal, "--format", "pprof", text=False).stdout)["samples"]
        self.assertEqual([(p["lines"], p["mapping"], p["address"]) for p in sample["stack"]],
                         [(["[libz.so]"], ("libz.so", "aabbcc"), 0x1f0), (["libz.so+0x2f0"], ("libz.so", "aabbcc"), 0x2f0),
                          (["inflate"], ("libz.so", "aabbcc"), 0)])

    def test_folded_and_pprof_agree(self):
        folded, _ = self.cat("--format", "folded")
        self.assertEqual(sorted(folded.decode().splitlines()),
                         ["app;main;work;read_all;copy_[k] 40", "db;main;scan 40", "worker;main;parse;least_[i] 20"])
        waits, _ = self.cat("--format", "folded", "--type", "profile.offcpu")
        self.assertEqual(waits.decode(), "app;main;lock;schedule_[k] 1000000000\n")
        both, said = self.cat("--format", "folded", "--type", "profile.*")
        self.assertEqual(sum(int(line.rsplit(" ", 1)[1]) for line in both.decode().splitlines()), 100 * profiles.PERIOD + 10**9)
        self.assertIn("values are nanoseconds", said)

    def test_mistakes_are_said(self):
        done = common.sonde("cat", self.journal, "--format", "pprof", "--where", "comm = nobody", status=1, text=False)
        self.assertEqual(done.stdout, b"")
        self.assertIn(b"no row of a profile", done.stderr)
        main, far = pty.openpty()
        done = subprocess.run([common.SONDE, "cat", self.journal, "--format", "pprof"], stdout=far, stderr=subprocess.PIPE, check=False)
        os.close(main)
        os.close(far)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"redirect it", done.stderr)


@common.host_only("a journal reads the same on every kernel")
class Command(Case):
    def says(self, *arguments, status=1):
        done = common.sonde("flame", *arguments, status=status)
        self.assertEqual(done.stderr.count("\n"), 1 if status == 1 else done.stderr.count("\n"))
        return done.stderr

    def test_mistakes_are_said(self):
        out = ("-o", self.path("none.html"))
        self.assertIn("-o", self.says(self.journal, status=2))
        self.assertIn("there is no journal", self.says("/nonexistent", *out))
        self.assertIn("there is no journal", self.says(self.journal, "--diff", "/nonexistent", *out))
        self.assertIn("no row with a stack", self.says(self.journal, "--where", "comm = nobody", *out))
        self.assertIn("no row with a stack", self.says(self.journal, "--diff-since", "2000", *out))
        self.assertIn("--off-cpu", self.says(self.journal, "--type", "profile.cpu", "--off-cpu", *out))
        self.assertIn("--where", self.says(self.journal, "--where", "comm =", *out, status=2))
        self.assertIn("/nonexistent/x.html", self.says(self.journal, "-o", "/nonexistent/x.html"))
        self.assertFalse(os.path.exists(self.path("none.html")))

    def test_a_page_is_whole_or_not_there(self):
        page = self.make(self.journal)
        self.assertEqual(stat.S_IMODE(os.stat(page).st_mode), 0o644)
        with open(page, "rb") as file:
            before = file.read()
        common.sonde("flame", self.journal, "--where", "comm = nobody", "-o", page, status=1)
        with open(page, "rb") as file:
            self.assertEqual(file.read(), before)
        self.assertEqual([n for n in os.listdir(self.folder) if n.startswith("page.html.")], [])
        done = common.sonde("flame", self.journal, "-o", "-")
        self.assertTrue(done.stdout.startswith("<!DOCTYPE html>"))
        with open("/dev/full", "w") as full:
            done = subprocess.run([common.SONDE, "flame", self.journal, "-o", "-"], stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No space left", done.stderr)

    def test_long_work_shows_progress(self):
        one = profiles.pack(profiles.row("profile.cpu", 1000, ["f+0x1 (app)"] * 60))
        journal = profiles.write(self.path("long"), (one for _ in range(120000)), 512)
        main, far = pty.openpty()
        process = subprocess.Popen([common.SONDE, "flame", journal, "-o", self.path("long.html")], stderr=far, stdout=far)
        os.close(far)
        said = b""
        try:
            while data := os.read(main, 4096):
                said += data
        except OSError:  # the terminal's far end closed
            pass
        os.close(main)
        self.assertEqual(process.wait(common.bound(60)), 0)
        self.assertRegex(said.decode(), r"\rsonde flame: (reading|summing), \d+ %, \d+ records")
        self.assertTrue(said.endswith(b"\r\x1b[K"), said[-80:])


@common.host_only("chromium is not there")
class Page(Case):
    """Each test makes its page and opens it; before the next, nothing was logged, thrown, or asked of any network."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = browser.Browser()
        cls.addClassCleanup(cls.browser.close)

    def open(self, *arguments, dark=False):
        self.page = self.make(*arguments, name=self.id().rsplit(".", 1)[1] + ".html")
        self.browser.open(self.page, dark)
        return self.browser

    def tearDown(self):
        self.assert_quiet()

    def assert_quiet(self):
        self.browser.settle()
        self.assertEqual(self.browser.problems, [])
        self.assertEqual(self.browser.requests, ["file://" + self.page])

    def text(self, selector):
        return self.browser.evaluate(f"document.querySelector({selector!r}).textContent")

    def total(self, side=0):
        """Samples in the view (of waits, nanoseconds)."""
        value = self.browser.evaluate(f"view.sums[{side}].total[0]")
        return round(value / profiles.PERIOD) if self.browser.evaluate("state.measure") == "cpu" else value

    def place(self, name):
        """The middle of the widest frame of this name, on the screen."""
        x, y = self.browser.evaluate(f"""(() => {{
            const nodes = d3.range(1, model.n).filter(i => nameOf(i) === {name!r} && flame.layout.width[i] > 0);
            const node = d3.greatest(nodes, i => flame.layout.width[i]), box = flame.canvas.getBoundingClientRect();
            const scale = flame.pane.clientWidth / (flame.view[1] - flame.view[0]);
            return [box.left + (flame.layout.x[node] + flame.layout.width[node] / 2 - flame.view[0]) * scale,
                    box.top + flame.rowTop(model.depth[node]) + ROW / 2];
        }})()""")
        return x, y

    def colour(self, name):
        """The pixel a little left of a frame's right end, where no text is."""
        return self.browser.evaluate(f"""(() => {{
            flame.paint();
            const node = d3.greatest(d3.range(1, model.n).filter(i => nameOf(i) === {name!r}), i => flame.layout.width[i]);
            const x = (flame.layout.x[node] + flame.layout.width[node] - flame.view[0]) / (flame.view[1] - flame.view[0]) * flame.canvas.width - 5;
            const copy = new OffscreenCanvas(flame.canvas.width, flame.canvas.height).getContext("2d", {{ willReadFrequently: true }});
            copy.drawImage(flame.canvas, 0, 0);
            return [...copy.getImageData(x, flame.rowTop(model.depth[node]) + 5, 1, 1).data].slice(0, 3);
        }})()""")

    def test_shows_what_the_journal_holds(self):
        b = self.open(self.journal)
        self.assertEqual(self.total(), 100)
        self.assertEqual(b.evaluate("d3.range(model.n).map(i => nameOf(i)).sort().join()"),
                         "all,app,copy,db,least,lock,main,main,main,parse,read_all,scan,schedule,sleeping · futex,work,worker")
        self.assertIn("testhost", self.text("#about"))
        self.assertEqual(b.evaluate("[...document.querySelectorAll('#groups .group')].map(g => g.textContent).join()"),
                         "app40.0 %,db40.0 %,worker20.0 %")
        self.assertGreater(b.evaluate("flame.drawn"), 10)
        b.move(*self.place("parse"))
        tip = self.text("#tip")
        self.assertRegex(tip, r"^parseapp")
        self.assertIn("20.0 %", tip)
        self.assertIn("samples20", tip)
        kernel, library, paper = self.colour("copy"), self.colour("scan"), b.evaluate("flame.paper")
        self.assertGreater(kernel[0], kernel[2] + 40, "the kernel is warm")
        self.assertNotEqual(kernel, library)
        self.assertEqual(paper, "#fffffd")

    def test_search(self):
        b = self.open(self.journal)
        for text, share in (("parse", "20.0 %"), ("libc", "40.0 %"), ("main", "100 %"), ("^(scan|copy)$", "80.0 %"), ("PARSE", "0.00 %"),
                            ("nothing(", "0.00 %")):
            b.key("/")
            b.evaluate("document.getElementById('search').select()")
            b.type(text)
            self.assertEqual(self.text("#found"), share, text)
        b.key("Escape")  # leaves the field
        b.key("Escape")  # clears it
        self.assertEqual(self.text("#found"), "")
        self.assertEqual(b.evaluate("document.getElementById('search').value"), "")

    def test_zoom(self):
        b = self.open(self.journal)
        b.click(*self.place("scan"))
        b.wait("flame.view[1] - flame.view[0] <= flame.layout.width[flame.zoom] * 1.0001")
        self.assertEqual(b.evaluate("nameOf(flame.zoom)"), "scan")
        self.assertIn("40.0 %", self.text("#detail"))
        b.key("Backspace")
        self.assertEqual(b.evaluate("nameOf(flame.zoom)"), "main")
        b.key("Escape")
        b.wait("flame.view[1] === flame.layout.width[0]")
        self.assertEqual(b.evaluate("flame.zoom"), 0)

    def test_keys(self):
        b = self.open(self.journal)
        b.evaluate("document.getElementById('pane').focus()")
        for _ in range(3):
            b.key("ArrowDown")
        self.assertEqual(b.evaluate("nameOf(flame.focus) + ' ' + nameOf(model.parent[model.parent[flame.focus]])"), "work app")
        b.key("ArrowUp")
        b.key("ArrowUp")
        b.key("ArrowRight")
        self.assertEqual(b.evaluate("nameOf(flame.focus)"), "db")
        b.key("Enter")
        self.assertEqual(b.evaluate("nameOf(flame.zoom)"), "db")
        b.key("i")
        self.assertFalse(b.evaluate("state.icicle"))
        b.wait("flame.rowTop(0) > flame.rowTop(3)")
        b.key("?")
        self.assertTrue(b.evaluate("document.getElementById('keys').open"))

    def test_brush_sums_anew(self):
        b = self.open(self.journal)
        left, top, width = b.evaluate("(() => { const b = document.querySelector('.brush .overlay').getBoundingClientRect(); return [b.left, b.top + b.height / 2, b.width]; })()")
        b.drag(left + 2, left + width / 2, top)
        self.assertEqual(b.evaluate("state.ranges"), [[0, 5]])
        self.assertEqual(self.total(), 60)
        self.assertIn("5.00 s of 10.0 s", self.text("#times"))
        self.assertEqual(self.text("#groups .share"), "50.0 %")
        b.key(".")
        self.assertEqual(b.evaluate("state.ranges"), [[1, 6]])
        self.assertEqual(self.total(), 56)
        b.key("Escape")
        self.assertEqual(self.total(), 100)

    def test_choice_of_threads(self):
        b = self.open(self.journal)
        pick = "[...document.querySelectorAll('#groups button')].find(b => b.textContent.startsWith({!r})).getBoundingClientRect()"
        for by, group, samples in (("name", "worker", 20), ("process", "app 100", 60), ("thread", "app 100", 40), ("container", "c0ffee", 40)):
            b.evaluate(f"document.querySelector('#groupings [data-value={by}]').click()")
            x, y = b.evaluate(f"(r => [r.left + 40, r.top + 10])({pick.format(group)})")
            b.click(x, y)
            self.assertEqual(self.total(), samples, by)
            b.click(x, y)
            self.assertEqual(self.total(), 100, by)

    def test_on_and_off_the_cpu(self):
        b = self.open(self.journal, "--off-cpu")
        self.assertEqual(self.total(), 10**9)
        self.assertIn("1.00 s", self.text("#times"))
        b.evaluate("document.querySelector('#measures [data-value=cpu]').click()")
        self.assertEqual(self.total(), 100)

    def assert_differs(self, b):
        self.assertEqual((self.total(0), self.total(1)), (80, 80))
        self.assertEqual(b.evaluate("[...document.querySelectorAll('#groups .group')].map(g => g.textContent).sort().join()"),
                         "app−25.00,db+0.00,worker+25.00")
        less, same, more = self.colour("copy"), self.colour("scan"), self.colour("parse")
        self.assertGreater(less[2], less[0] + 30, "less is blue")
        self.assertGreater(more[0], more[2] + 30, "more is red")
        self.assertLess(max(same) - min(same), 16, "the same is grey")
        b.move(*self.place("parse"))
        self.assertIn("+25.00 points", self.text("#tip"))

    def test_difference_of_two_journals(self):
        before = [row for i in range(10) for row in window(1001 + i, 4, 0, 4, False)]
        after = [row for i in range(10) for row in window(5001 + i, 2, 2, 4, False)]
        first = profiles.write(self.path("before"), before)
        second = profiles.write(self.path("after"), after)
        b = self.open(first, "--diff", second)
        self.assert_differs(b)
        b.evaluate("document.querySelector('#widths [data-value=before]').click()")
        self.assertEqual(b.evaluate("d3.range(model.n).filter(i => nameOf(i) === 'parse').map(i => flame.layout.width[i])"), [0])

    def test_difference_of_two_times(self):
        rows = [row for i in range(10) for row in window(1001 + i, 4, 0, 4, False)]
        rows += [row for i in range(10) for row in window(5001 + i, 2, 2, 4, False)]
        journal = profiles.write(self.path("times"), rows)
        b = self.open(journal, "--until", "2000", "--diff-since", "4000")
        self.assert_differs(b)

    def test_hostile_names_stay_text(self):
        evil = ["</script><script>owned=1</script>", "<img src=x onerror=owned=1>", "\"-owned=1-\"", "<!--<script>", "{{data}}", "__proto__", "constructor"]
        rows = [profiles.row("profile.cpu", 1 + i, [f"{name}+0x1 ({name})", f"{name} (x) [inline]"], comm=name, container=name, cgroup=name, host=name, proc=name)
                for i, name in enumerate(evil)]
        rows.append(profiles.row("profile.cpu", 9, [b"\xff\xfe<b>+0x1 (\x1b[31m)"], comm=b"\xc3("))
        folder = self.path("<img src=x onerror=owned=1>")
        journal = profiles.write(folder, rows)
        for form in ((), ("--plain",)):
            b = self.open(journal, *form)
            self.assertEqual(self.total(), len(rows))
            b.move(*self.place("constructor"))
            for by in ("process", "thread", "container", "cgroup", "name"):
                b.evaluate(f"setGrouping({by!r})")
            b.evaluate("setFocus(2)")
            self.assertEqual(b.evaluate("[typeof owned, document.images.length, document.scripts.length]"), ["undefined", 0, 5])
            self.assertEqual(b.evaluate("d3.range(1, model.n).filter(i => model.depth[i] === 1).map(nameOf).sort()"),
                             sorted([*evil, "\ufffd("]))
            self.assertIn("</script>", b.evaluate("document.getElementById('groups').textContent"))
            self.assert_quiet()

    def test_its_policy_stops_what_is_not_its_own(self):
        b = self.open(self.journal)
        with socket.create_server(("127.0.0.1", 0)) as server:
            far = f"http://127.0.0.1:{server.getsockname()[1]}/"
            b.evaluate(f"""(() => {{
                const script = document.createElement("script"), markup = document.createElement("div");
                script.textContent = "owned = 1";
                markup.innerHTML = '<img src="{far}">';
                document.body.append(script, markup);
            }})()""")
            self.assertEqual(b.evaluate(f"fetch('{far}').then(() => 'fetched', () => 'refused')"), "refused")
            b.settle()
            server.settimeout(0)
            with self.assertRaises(BlockingIOError):
                server.accept()
        self.assertEqual(b.evaluate("typeof owned"), "undefined")
        refused = " ".join(b.problems).lower()
        for kind in ("inline script", "image", "connect"):
            self.assertIn(kind, refused)
        self.assertEqual(b.problems, [p for p in b.problems if "Content Security Policy" in p])
        b.problems.clear()
        del b.requests[1:]

    def test_twenty_thousand_stacks(self):
        rows = (profiles.pack(profiles.row("profile.cpu", 1000 + i % 60, [f"leaf{i}+0x1 (lib{i % 40}.so)"] +
                [f"f{i // 10 ** k}+0x{k} (lib{k}.so)" for k in range(1, 5)] + ["main+0x1 (app)"], 1 + i % 5)) for i in range(20000))
        journal = profiles.write(self.path("many"), rows)
        b = self.open(journal, dark=True)
        self.assertEqual(b.evaluate("model.amounts[0].value.length"), 20000)
        self.assertEqual(self.total(), 60000)
        spent = b.evaluate("(() => { const begin = performance.now(); update({ keep: true }); flame.paint(); return performance.now() - begin; })()")
        self.assertLess(spent, 1000 * common.bound(1))
        self.assertGreater(b.evaluate("flame.drawn"), 1000)
        self.assertLess(os.path.getsize(self.path("test_twenty_thousand_stacks.html")), 2 << 20)

    def test_looks_like_a_flame_graph(self):
        """What the screenshot cannot prove, an eye should: it stays in build/test-logs."""
        logs = os.path.join(common.BUILD, "test-logs")
        os.makedirs(logs, exist_ok=True)
        b = self.open(self.journal)
        b.screenshot(os.path.join(logs, "flame.png"))
        self.assertGreater(os.path.getsize(os.path.join(logs, "flame.png")), 20000)
        self.assertFalse(b.evaluate("document.documentElement.scrollWidth > innerWidth || document.documentElement.scrollHeight > innerHeight"),
                         "the page itself scrolls")


if __name__ == "__main__":
    unittest.main()
