# SPDX-License-Identifier: Apache-2.0
"""sonde top over a running agent: one page of text, and the live view on a terminal of its own."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pyte

import common


class Screen:
    """A terminal of `lines` times `columns` with a program on it: what is to be seen there, and all that was written (`raw`)."""

    def __init__(self, argv, lines=40, columns=160, term="linux"):
        self.raw = b""
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM=term, LANG="C.UTF-8", LC_ALL="C.UTF-8")
            os.environ.pop("NO_COLOR", None)
            os.execv(argv[0], argv)
        self.resize(lines, columns)
        self.status = None

    def resize(self, lines, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds=0.1):
        """What the program writes within the time, or less where it ends."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return b""
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return b""
        self.raw += data
        self.stream.feed(data)
        return data

    def text(self):
        return "\n".join(self.screen.display)

    def wait(self, words, seconds=20):
        """Until all words are to be seen at once."""
        def there():
            self.read()
            text = self.text()
            return all(word in text for word in words)
        try:
            common.wait_until(there, seconds, f"{words} on the screen")
        except common.TimedOut:
            print(self.text())
            raise

    def end(self, seconds=10):
        """The program's exit status."""
        def ended():
            self.read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            return bool(pid)
        common.wait_until(ended, seconds, "the end of sonde top")
        os.close(self.fd)
        return self.status

    def kill(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def top(agent, *arguments):
    return [common.SONDE, "top", "--journal", agent.journal, *arguments]


class Page(common.TestCase):
    def test_page_of_text(self):
        with common.Agent(modules="exec,cpu,tcp", settings=["agent.window=1s"]) as agent:
            for _ in range(5):
                common.spawn(["/bin/true"])
            common.spawn([common.load("cpu"), "5"], stdout=subprocess.DEVNULL)
            agent.wait_row("profile.cpu", lambda r: any(f.startswith("spin_seventy") for f in r["stack"]))
            agent.wait_row("agent.ledger", seconds=30)
            page = common.sonde("top", "--once", "--journal", agent.journal, "-n", "4000").stdout
            # Only the newest execs are kept one by one, and this machine may be busy.
            execs = common.sonde("top", "--once", "--journal", agent.journal, "--where", "exe endswith /true").stdout
            only = common.sonde("top", "--once", "--journal", agent.journal, "--where", "comm = load_cpu").stdout
        rows = [line.split() for line in page.splitlines()]
        share = {r[-1]: (float(r[0]), float(r[1])) for r in rows if len(r) == 4 and r[2] == "load_cpu"}
        # Self time is seven to three; main holds both, and has none of its own.
        self.assertAlmostEqual(share["spin_seventy"][0] / (share["spin_seventy"][0] + share["spin_thirty"][0]), 0.7, delta=0.1)
        self.assertGreaterEqual(share["main"][1], share["spin_seventy"][0])
        self.assertLess(share["main"][0], 1)
        for text, pattern in ((page, r"\n +\d+\.\d +\d+ +load_cpu\n"), (page, r"\n +\d+ +\d+\.\d +/\S*/true\n"),
                              (execs, r"\n +5 +\d+\.\d +/\S*/true\n"),
                              (execs, r"\d\d:\d\d:\d\d +\d+ +\d+ +/bin/true\n"), (page, "lost" if common.GUEST else "nothing was lost"),
                              (page, r"\n +\d+ .* process\.exec\n"), (only, "spin_seventy")):
            self.assertTrue(re.search(pattern, text), pattern)
        self.assertFalse("/bin/true" in only)

    def test_says_what_is_wrong(self):
        done = common.sonde("top", "--once", "--journal", "/nonexistent/journal", status=1)
        self.assertIn("/nonexistent/journal", done.stderr)
        done = common.sonde("top", "--once", "--where", "comm =", status=2)
        self.assertIn("--where", done.stderr)
        common.sonde("top", "--span", "1s", status=2)


@common.host_only("descriptions of terminals are the host's")
class View(common.TestCase):
    def on_screen(self, *arguments, **options):
        screen = Screen(top(self.agent, *arguments), **options)
        self.addCleanup(screen.kill)
        return screen

    def setUp(self):
        self.agent = common.Agent(modules="exec,cpu,tcp", settings=["agent.window=1s"])
        self.agent.__enter__()
        self.addCleanup(self.agent.__exit__, None, None, None)
        self.load = subprocess.Popen([common.load("cpu"), "60"], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.addCleanup(self.load.wait)
        self.addCleanup(self.load.kill)
        self.agent.wait_row("profile.cpu", lambda r: r["pid"] == self.load.pid)

    def test_tabs_stacks_and_the_end(self):
        screen = self.on_screen()
        screen.wait(["sonde top", "spin_seventy", "load_cpu", "0 overview", "9 losses", "q quit"])
        screen.type("2/load_c")
        screen.wait(["rows with: load_c", str(self.load.pid)])
        screen.type("\r\r")
        screen.wait(["On the CPU: load_cpu", "spin_seventy+0x", "burn_a+0x", "main+0x"])
        screen.type("o")
        screen.wait(["Waiting: load_cpu", "no stack in the last while"])
        screen.type("qh")
        screen.wait(["another tab", "stand still"])
        screen.type(" q")
        self.assertEqual(screen.end(), 0)
        self.assertIn(b"\x1b[?25h", screen.raw)  # the cursor is back

    def test_filter_expression_and_pause(self):
        screen = self.on_screen("--where", "comm = load_cpu")
        screen.wait(["where: comm = load_cpu", "spin_thirty"])
        self.assertNotIn("sonde[", screen.text())
        screen.type("w = \r")
        screen.wait(["--where: "])
        screen.type("w\x15comm = nobody-of-that-name\r")
        screen.wait(["nobody-of-that-name", "no samples of the CPU"])
        screen.type("p")
        screen.wait(["[paused]"])
        screen.type("q")
        self.assertEqual(screen.end(), 0)

    def test_sizes_and_poor_terminals(self):
        screen = self.on_screen(lines=24, columns=80, term="vt100")
        screen.wait(["0 over", "spin_seventy"])
        self.assertNotIn(b"\x1b[31m", screen.raw)
        for lines, columns in ((3, 10), (1, 1), (60, 220), (24, 80)):
            screen.resize(lines, columns)
            for _ in range(3):
                screen.read(0.2)
        screen.type("1")
        screen.wait(["spin_seventy"])
        os.kill(screen.pid, signal.SIGTERM)
        self.assertEqual(screen.end(), 0)

    def test_unknown_terminal(self):
        screen = self.on_screen(term="no-such-terminal")
        screen.wait(["no-such-terminal", "--once"])
        self.assertEqual(screen.end(), 1)

    def test_terminal_that_goes_away(self):
        screen = self.on_screen()
        screen.wait(["spin_seventy"])
        os.close(screen.fd)
        begin = time.monotonic()
        common.wait_until(lambda: os.waitpid(screen.pid, os.WNOHANG)[0], 10, "the end of sonde top")
        screen.status = 0
        self.assertLess(time.monotonic() - begin, common.bound(5))
