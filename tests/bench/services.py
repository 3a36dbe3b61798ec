#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Turnaround as sonde measures it beside what load generators say themselves: nginx (plain, TLS), PostgreSQL, Redis, a server in Java and
one in Go, under wrk, pgbench and redis-benchmark; and who owns their connections.

A generator's time ends when it has read the answer, sonde's turnaround when the answer has arrived: the wait in the socket comes to
it, of which rows hold the sum, so its mean is added. What is left is what the generator does between the kernel's hooks and its
own clock.

usage: services.py [--build DIR] [--seconds 8] [--loss MODULES] [--turns MODULES]... [--cpus 0,0] [SERVICE ...]     services: nginx tls postgres redis java go
"""
import argparse
import collections
import contextlib
import csv
import io
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
POSTGRES = "/usr/lib/postgresql"
Outcome = collections.namedtuple("Outcome", "service count p50 p99 ours50 ours99 server50 server99 wait connections owned")


def wait_port(port, process, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args[0]} does not listen on {port}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(argv, **options):
    return subprocess.run(argv, check=True, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options).stdout


class Service:
    """One server in `folder` on `port`; load() returns (p50, p99) of the generator in seconds. `server`, `client`: names of the programs."""
    server = client = needs = None

    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None

    def begin(self, argv, **options):
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        wait_port(self.port, self.process)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def wrk(self, seconds, scheme="http", *more):
        text = run(["wrk", "-t1", "-c4", f"-d{round(seconds)}s", "--latency", *more, f"{scheme}://127.0.0.1:{self.port}/"])
        units = {"us": 1e-6, "ms": 1e-3, "s": 1}
        found = {int(m[1]): float(m[2]) * units[m[3]] for m in re.finditer(r"(50|99)%\s+([\d.]+)(us|ms|s)", text)}
        return found[50], found[99]


class Nginx(Service):
    server, client, needs = "nginx", "wrk", ("nginx", "wrk")
    tls = ""

    def start(self):
        path = os.path.join(self.folder, "nginx.conf")
        with open(path, "w") as file:
            file.write(f"""
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
daemon off; worker_processes 2; pid {self.folder}/pid; error_log {self.folder}/error.log; user root;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {self.folder}/a; proxy_temp_path {self.folder}/b; fastcgi_temp_path {self.folder}/c;
  uwsgi_temp_path {self.folder}/d; scgi_temp_path {self.folder}/e; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{self.port} {'ssl' if self.tls else ''}; {self.tls} location / {{ echo_sleep 0.002; echo answer; }} location /plain {{ return 200 answer; }} }} }}
""")
        self.begin(["nginx", "-c", path, "-p", self.folder])

    def load(self, seconds):
        return self.wrk(seconds)

    def short(self, seconds):
        self.wrk(seconds, "https" if self.tls else "http", "-H", "Connection: close")


class Tls(Nginx):
    def start(self):
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", f"{self.folder}/key", "-out", f"{self.folder}/cert"])
        self.tls = f"ssl_certificate {self.folder}/cert; ssl_certificate_key {self.folder}/key;"
        super().start()

    def load(self, seconds):
        return self.wrk(seconds, "https")


class Postgres(Service):
    server, client, needs = "postgres", "pgbench", ()

    def start(self):
        self.bin = os.path.join(POSTGRES, sorted(os.listdir(POSTGRES))[-1], "bin")
        self.data = os.path.join(self.folder, "data")
        shutil.chown(self.folder, "postgres")
        self.as_user(["initdb", "-D", self.data, "-A", "trust", "-N"])
        self.begin(["runuser", "-u", "postgres", "--", f"{self.bin}/postgres", "-D", self.data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                    "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off"])
        self.script = os.path.join(self.folder, "script.sql")
        with open(self.script, "w") as file:
            file.write("SELECT pg_sleep(random() * 0.005);\n")  # whole milliseconds, that is: of five of them the middle one has the median

    def as_user(self, argv, **options):
        return run(["runuser", "-u", "postgres", "--", f"{self.bin}/{argv[0]}", *argv[1:]], cwd=self.folder, **options)

    def load(self, seconds):
        self.as_user(["pgbench", "-h", "127.0.0.1", "-p", str(self.port), "-n", "-c", "4", "-T", f"{round(seconds)}", "-f", self.script, "-l", "--log-prefix", f"{self.folder}/log", "postgres"])
        times = sorted(int(line.split()[2]) / 1e6 for name in os.listdir(self.folder) if name.startswith("log.") for line in open(os.path.join(self.folder, name)))
        return times[len(times) // 2], times[int(len(times) * 0.99)]

    def short(self, seconds):
        self.as_user(["pgbench", "-h", "127.0.0.1", "-p", str(self.port), "-n", "-C", "-c", "4", "-T", f"{round(seconds)}", "-f", self.script, "postgres"])


class Redis(Service):
    server, client, needs = "redis-server", "redis-benchmark", ("redis-server", "redis-benchmark")

    def start(self):
        self.begin(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])

    def load(self, seconds):
        """A script that works for about two milliseconds an answer, one after the other as Redis does."""
        script = "local s = 0 for i = 1, 60000 do s = s + i end return s"
        text = run(["redis-benchmark", "-p", str(self.port), "-c", "2", "-n", str(int(seconds * 300)), "--csv", "eval", script, "0"])
        row = next(csv.DictReader(io.StringIO(text[text.index('"test"'):])))
        return float(row["p50_latency_ms"]) / 1e3, float(row["p99_latency_ms"]) / 1e3

    def short(self, seconds):
        run(["redis-benchmark", "-p", str(self.port), "-c", "8", "-n", str(int(seconds * 1000)), "-k", "0", "-q", "ping"])


class Java(Service):
    server, client, needs = "java", "wrk", ("java", "javac", "wrk")

    def start(self):
        run(["javac", "-d", self.folder, os.path.join(HERE, "servers", "Answers.java")])
        self.begin(["java", "-cp", self.folder, "Answers", str(self.port)])

    def load(self, seconds):
        return self.wrk(seconds)

    def short(self, seconds):
        self.wrk(seconds, "http", "-H", "Connection: close")


class Go(Java):
    server, needs = "answers", ("go", "wrk")

    def start(self):
        path = os.path.join(self.folder, "answers")
        run(["go", "build", "-o", path, os.path.join(HERE, "servers", "answers.go")], env={**os.environ, "GOCACHE": os.path.join(self.folder, "cache"), "GO111MODULE": "off"})
        self.begin([path, str(self.port)])


SERVICES = {"nginx": Nginx, "tls": Tls, "postgres": Postgres, "redis": Redis, "java": Java, "go": Go}


def possible(name):
    needs = SERVICES[name].needs
    return all(shutil.which(n) for n in needs) and (name != "postgres" or os.path.isdir(POSTGRES))


def percentile(hist, part):
    """Of buckets by their lower ends: in the middle of the one that holds it, in seconds."""
    edges = sorted(hist)
    left = part * sum(hist.values())
    for edge in edges:
        left -= hist[edge]
        if left <= 0:
            return edge * (1 + 1 / 64) / 1e9
    return 0


def summed(rows):
    hist = collections.Counter()
    for row in rows:
        for edge, count in row["hist"].items():
            hist[int(edge)] += count
    return hist


def owned(rows, service):
    """Of connections to its port: how many ends there are, and how many name the right program; threads may have names of their own."""
    ends = [(r, service.server if r["lport"] == service.port else service.client) for r in rows if service.port in (r["lport"], r["rport"])]
    return len(ends), sum(r.get("comm", "").startswith(right[:15]) or right == service.server and r.get("pid") == service.process.pid for r, right in ends)


def measure(common, name, seconds):
    """One service; its generator's percentiles beside sonde's, then short connections and their owners."""
    with tempfile.TemporaryDirectory(prefix="sonde-bench-") as folder:
        os.chmod(folder, 0o755)
        service = SERVICES[name](folder, free_port())
        service.start()
        try:
            service.load(2)  # compiled, cached, in the page cache
            for old in os.listdir(folder):
                if old.startswith("log."):
                    os.unlink(os.path.join(folder, old))
            with common.Agent(modules="turnaround,tcp", settings=["agent.window=2s"]) as agent:
                p50, p99 = service.load(seconds)
                time.sleep(2.5)
                agent.stop()
                rows = agent.rows("tcp.turnaround")
            with common.Agent(modules="tcp") as agent:
                service.short(max(2, seconds / 3))
                time.sleep(1)
                agent.stop()
                lives = agent.rows("tcp.close")
        finally:
            service.stop()
    client = [r for r in rows if r.get("rport") == service.port and r["side"] == "client"]
    server = [r for r in rows if r.get("lport") == service.port and r["side"] == "server"]
    hist, count = summed(client), sum(r["count"] for r in client)
    wait = sum(r.get("socket_wait_ns", 0) for r in client) / max(1, count) / 1e9
    # A connection that nobody connected through the agent's life is none of these.
    ends, right = owned([r for r in lives if r.get("life_ns")], service)
    theirs = summed(server)
    return Outcome(name, count, p50, p99, percentile(hist, 0.5), percentile(hist, 0.99), percentile(theirs, 0.5), percentile(theirs, 0.99), wait, ends, right)


def rate(service, seconds):
    """Answers a second at full speed."""
    if service.client == "redis-benchmark":
        text = run(["redis-benchmark", "-p", str(service.port), "-c", "50", "-n", str(int(seconds * 40000)), "-t", "set,get", "--csv"])
        rates = [float(row["rps"]) for row in csv.DictReader(io.StringIO(text[text.index('"test"'):]))]
        return sum(rates) / len(rates)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", run(["wrk", "-t1", "-c50", f"-d{round(seconds)}s", f"http://127.0.0.1:{service.port}/plain"]))[1])


def loss(common, name, modules, rounds=15, seconds=2):
    """Of a service's rate at full speed, by turns without sonde and with these modules: (median without; median of each with beside the ones before and
    after it without, as the machine's own pace changes by the second; the standard error of that median)."""
    with tempfile.TemporaryDirectory(prefix="sonde-bench-") as folder:
        os.chmod(folder, 0o755)
        service = SERVICES[name](folder, free_port())
        service.start()
        try:
            rate(service, seconds)
            without, factors = [rate(service, seconds)], []
            for _ in range(rounds):
                with common.Agent(modules=modules, settings=empty_settings(common) if modules == "empty" else ()):
                    beside = rate(service, seconds)
                without.append(rate(service, seconds))
                factors.append(2 * beside / sum(without[-2:]))
        finally:
            service.stop()
    return statistics.median(without), statistics.median(factors), error_of_median(factors)


class Turns:
    """Requests and their answers over loopback, at full speed for as long as it is used; ns() says what one takes."""
    def __init__(self, build, cpus):
        self.process = subprocess.Popen([os.path.join(build, "tests", "bench_turns"), *map(str, cpus)], stdout=subprocess.PIPE, text=True)
        self.slices = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            at, ns = line.split()
            self.slices.append((float(at), float(ns)))

    def ns(self, seconds):
        """The median of the quickest fifth of its slices of 5 ms: what the rest are slower by is somebody else's."""
        begin = time.monotonic()
        time.sleep(seconds)
        quick = sorted(ns for at, ns in self.slices if at > begin + 0.01)
        if not quick:
            raise RuntimeError(f"{self.process.args[0]} says nothing" + (f": it ended with {self.process.returncode}" if self.process.poll() is not None else ""))
        return statistics.median(quick[:max(1, len(quick) // 5)])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()


def turns(common, cpus, variants, rounds=9, seconds=1.5):
    """Of a request and its answer over loopback with ends on these two CPUs: (ns without sonde, [(ns more with it, the standard error of that) for each
    of `variants`, (modules, settings)])."""
    without, more = [], [[] for _ in variants]
    with Turns(common.BUILD, cpus) as load:
        before = load.ns(seconds)
        for _ in range(rounds):
            for variant, (modules, settings) in enumerate(variants):
                with common.Agent(modules=modules, settings=settings):
                    time.sleep(0.5)  # what an agent does once
                    beside = load.ns(seconds)
                time.sleep(0.1)
                after = load.ns(seconds)
                more[variant].append(2 * beside / (before + after) - 1)
                without.append(after)
                before = after
    alone = statistics.median(without)
    return alone, [(alone * statistics.median(m), alone * error_of_median(m)) for m in more]


def error_of_median(values):
    """Its standard error. 1.253: of a median beside a mean, for errors that are normal; their spread by the median of the deviations, which outliers
    do not widen."""
    middle = statistics.median(values)
    return 1.253 * 1.483 * statistics.median(abs(v - middle) for v in values) / len(values) ** 0.5


def empty_settings(common):
    return [f"agent.modules={os.path.join(common.BUILD, 'tests', 'empty')}"]


def apart(ours, theirs, wait):
    return 100 * (ours + wait - theirs) / theirs


def text_of(o):
    return (f"{o.service}: {o.count} answers; p50 {1e3 * o.p50:.3f} ms, sonde {1e3 * o.ours50:.3f} (+ wait {1e3 * o.wait:.3f}: {apart(o.ours50, o.p50, o.wait):+.1f} %), server {1e3 * o.server50:.3f}; "
            f"p99 {1e3 * o.p99:.3f} ms, sonde {1e3 * o.ours99:.3f} ({apart(o.ours99, o.p99, o.wait):+.1f} %), server {1e3 * o.server99:.3f}; "
            f"owner right at {o.owned} of {o.connections} ends")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--loss", metavar="MODULES", help="what these modules cost Redis and nginx at full speed instead")
    parser.add_argument("--turns", metavar="MODULES", action="append", help="what these modules cost a request and its answer over loopback instead; 'empty': programs that do nothing")
    parser.add_argument("--cpus", default="0,0", help="of --turns: where the two ends are (0,0)")
    parser.add_argument("services", nargs="*", help="default: all")
    arguments = parser.parse_args()
    if os.getuid():
        sys.exit("measuring needs root")
    os.environ.setdefault("SONDE_BUILD", arguments.build)
    sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
    import common

    for name in ("redis", "nginx") if arguments.loss else ():
        without, factor, error = loss(common, name, arguments.loss)
        print(f"{name}: {without:,.0f} answers/s without, with {arguments.loss}: {100 * (factor - 1):+.1f} ± {100 * error:.1f} %", flush=True)
    if arguments.turns:
        alone, more = turns(common, arguments.cpus.split(","), [(m, empty_settings(common) if m == "empty" else ()) for m in arguments.turns])
        for modules, (ns, error) in zip(arguments.turns, more):
            print(f"{modules}: {ns:+,.0f} ± {error:,.0f} ns, {100 * ns / alone:+.1f} % of {alone:,.0f} ns", flush=True)
    for name in arguments.services or (() if arguments.loss or arguments.turns else SERVICES):
        print(text_of(measure(common, name, arguments.seconds)) if possible(name) else f"{name}: not installed", flush=True)


if __name__ == "__main__":
    main()
