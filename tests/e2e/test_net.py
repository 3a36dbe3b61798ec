# SPDX-License-Identifier: Apache-2.0
"""net.* against getsockname, getpeername, stat and the load itself."""
import collections
import errno
import os
import shutil
import socket
import subprocess
import tempfile

import common

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILY = {socket.AF_INET: "inet", socket.AF_INET6: "inet6"}
SOCK_PACKET = 10


def become_others():
    os.setresgid(11, 12, 12)
    os.setresuid(21, 22, 22)


class Net(common.TestCase):
    def agent(self, **settings):
        return common.Agent(modules="net", settings=settings)

    def folder(self):
        folder = os.path.realpath(tempfile.mkdtemp(prefix="sonde-net-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def rows_of(self, agent, pid=None, rights=(0, 0, 0, 0)):
        """Rows of one process of an ended run, by type; nothing was lost, and all was done with these rights."""
        agent.stop()
        rows = agent.rows()
        self.assertGapless(rows)
        self.assertLedgerExact(rows)
        self.assertEqual([r for r in rows if r["type"] == "agent.loss"], [])
        found = collections.defaultdict(list)
        for row in rows:
            if row["type"].startswith("net.") and row["pid"] == (pid or os.getpid()):
                self.assertEqual((row["uid"], row["euid"], row["gid"], row["egid"]), rights)
                found[row["type"]].append(row)
        return found

    def ends(self, row):
        return tuple(row.get(key) for key in ("laddr", "lport", "raddr", "rport"))

    def connection(self, family):
        """A TCP connection, both ends here."""
        with self.agent() as agent:
            with socket.socket(family, socket.SOCK_STREAM) as server, socket.socket(family, socket.SOCK_STREAM) as client:
                server.bind((LOOPBACK[family], 0))
                server.listen(7)
                client.connect(server.getsockname()[:2])
                taken, _ = server.accept()
                with taken:
                    at, own = server.getsockname()[:2], client.getsockname()[:2]
                    descriptors = server.fileno(), client.fileno(), taken.fileno()
            rows = self.rows_of(agent)
        self.assertEqual({name: len(found) for name, found in rows.items()},
                         dict.fromkeys(("net.bind", "net.listen", "net.connect", "net.accept"), 1))
        bound, offered, connected, accepted = (rows[f"net.{name}"][0] for name in ("bind", "listen", "connect", "accept"))
        self.assertEqual(self.ends(bound), (*at, None, None))
        self.assertEqual(self.ends(offered), (*at, None, None))
        self.assertEqual(self.ends(connected), (*own, *at))
        self.assertEqual(self.ends(accepted), (*at, *own))
        self.assertEqual([row["fd"] for row in (bound, offered, connected, accepted)], [descriptors[i] for i in (0, 0, 1, 2)])
        self.assertEqual(offered["backlog"], 7)
        self.assertEqual(accepted["ret"], descriptors[2])
        for row in (bound, offered, connected, accepted):
            self.assertEqual((row["family"], row["sock_type"], row["protocol"]), (FAMILY[family], "stream", 6))
            self.assertEqual(row["net_ns"], os.stat("/proc/self/ns/net").st_ino)
            self.assertNotIn("error", row)

    def test_ip4(self):
        self.connection(socket.AF_INET)

    def test_ip6(self):
        self.connection(socket.AF_INET6)

    @common.same_on_every_kernel
    def test_datagrams_are_connected_too(self):
        with self.agent() as agent:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(("127.0.0.3", 4321))
                own = sock.getsockname()
            row, = self.rows_of(agent)["net.connect"]
        self.assertEqual(self.ends(row), (*own, "127.0.0.3", 4321))
        self.assertEqual((row["sock_type"], row["protocol"]), ("dgram", 17))

    def test_what_fails(self):
        """The address of a call that failed is in no socket: it is what the program gave, and says so."""
        with self.agent() as agent:
            with socket.socket() as taken, socket.socket() as sock, socket.socket(socket.AF_UNIX) as unix:
                taken.bind(("127.0.0.1", 0))
                at = taken.getsockname()
                self.assertEqual(sock.connect_ex(at), errno.ECONNREFUSED)
                self.assertRaises(OSError, sock.bind, at)
                self.assertEqual(unix.connect_ex("/no/such/socket"), errno.ENOENT)
                self.assertEqual(unix.connect_ex("\0sonde-none"), errno.ECONNREFUSED)
                self.assertRaises(OSError, unix.listen)
            rows = self.rows_of(agent)
        tcp, path, abstract = rows["net.connect"]
        self.assertEqual((tcp["error"], tcp["addr_given"], tcp["port_given"]), ("ECONNREFUSED", *at))
        self.assertEqual((path["error"], path["path_given"]), ("ENOENT", "/no/such/socket"))
        self.assertEqual((abstract["error"], abstract["path_given"]), ("ECONNREFUSED", "@sonde-none"))
        self.assertFalse({"raddr", "rport", "path", "abstract"} & (set(tcp) | set(path) | set(abstract)))
        good, bad = rows["net.bind"]
        self.assertNotIn("addr_given", good)
        self.assertEqual((bad["error"], bad["addr_given"], bad["port_given"]), ("EADDRINUSE", *at))
        self.assertEqual(rows["net.listen"][0]["error"], "EINVAL")

    def test_the_address_that_a_program_gave(self):
        """It ends where the call says, whatever lies behind it in memory."""
        with self.agent() as agent:
            pid, lines = self.run_load(agent, "given")
            rows = self.rows_of(agent, pid)["net.connect"]
        self.assertEqual([[row["error"], row["path_given"]] for row in rows],
                         [["ECONNREFUSED", "@abstract"], ["ENOENT", "/none"], ["ENOENT", "w" * 108], ["ECONNREFUSED", "@" + "w" * 107]])
        self.assertEqual([row["error"] for row in rows], [line[1] for line in lines])

    def test_an_address_of_ip6_that_a_program_gave(self):
        with self.agent() as agent:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
                self.assertEqual(sock.connect_ex(("::1", 1)), errno.ECONNREFUSED)
            row, = self.rows_of(agent)["net.connect"]
        self.assertEqual((row["addr_given"], row["port_given"], row["error"]), ("::1", 1, "ECONNREFUSED"))

    @common.same_on_every_kernel
    def test_waiting_is_no_event(self):
        """Who asks an empty queue gets none. What goes on connecting has its addresses already."""
        with self.agent() as agent:
            with socket.create_server(("127.0.0.1", 0)) as server:
                server.setblocking(False)
                for _ in range(100):
                    self.assertRaises(BlockingIOError, server.accept)
                nonblocking = socket.socket()
                nonblocking.setblocking(False)
                nonblocking.connect_ex(server.getsockname())
                own, at = nonblocking.getsockname(), server.getsockname()
                nonblocking.close()
            rows = self.rows_of(agent)
        self.assertEqual(rows["net.accept"], [])
        self.assertEqual(len(rows["net.listen"]), 1)
        row, = rows["net.connect"]
        self.assertEqual((row["error"], self.ends(row)), ("EINPROGRESS", (*own, *at)))
        self.assertNotIn("addr_given", row)

    def test_unix(self):
        """The path is the file's, not what was written: through a symlink, and relative; of both ends."""
        folder = self.folder()
        os.mkdir(f"{folder}/real")
        os.symlink("real", f"{folder}/link")
        path = f"{folder}/real/sock"
        with self.agent() as agent:
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind(f"{folder}/link/sock")
                server.listen()
                client.connect(f"{folder}/link/../link/sock")
                server.accept()[0].close()
            rows = self.rows_of(agent)
        for name in ("bind", "listen", "connect", "accept"):
            row, = rows[f"net.{name}"]
            self.assertEqual((row["path"], row["family"], row["sock_type"]), (path, "unix", "stream"), name)
            self.assertNotIn("abstract", row)
        for name in ("connect", "accept"):
            self.assertEqual(rows[f"net.{name}"][0]["peer_pid"], os.getpid())

    @common.same_on_every_kernel
    def test_long_path(self):
        """A path longer than an address can be, by the working directory; it takes the large record."""
        folder = self.folder()
        deep = folder
        back = os.getcwd()
        try:
            for i in range(8):
                deep = f"{deep}/{chr(97 + i) * 200}"
                os.mkdir(deep)
                os.chdir(deep)
            with self.agent() as agent:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server, \
                        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                    server.bind("s")
                    client.connect("s")
                rows = self.rows_of(agent)
        finally:
            os.chdir(back)
        for name in ("bind", "connect"):
            row, = rows[f"net.{name}"]
            self.assertEqual(row["path"], f"{deep}/s")
            self.assertNotIn("truncated", row)

    @common.same_on_every_kernel
    def test_a_path_of_too_many_folders(self):
        """What the walk has no steps for is cut, and said to be."""
        folder = self.folder()
        back = os.getcwd()
        deep = folder
        try:
            for i in range(80):
                deep = f"{deep}/d{i}"
                os.mkdir(deep)
            os.chdir(deep)
            with self.agent() as agent:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
                    server.bind("s")
                row, = self.rows_of(agent)["net.bind"]
        finally:
            os.chdir(back)
        self.assertTrue(row["truncated"])
        first, cut, *rest = row["path"].split("/")
        self.assertEqual((first, cut), ("", "..."))
        self.assertGreater(len(rest), 50)
        self.assertTrue(f"{deep}/s".endswith("/".join(["", *rest])), row["path"])

    def test_the_other_end_of_a_unix_socket(self):
        """Who it is: another process, of another user, each to each."""
        path = f"{self.folder()}/sock"
        with self.agent() as agent:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path)
                server.listen()
                os.chmod(os.path.dirname(path), 0o755)
                os.chmod(path, 0o777)
                client = subprocess.Popen([common.load("net"), "unixpeer", path], preexec_fn=become_others)
                server.accept()[0].close()
                self.assertEqual(client.wait(common.bound(30)), 0)
            agent.stop()
            connected, = self.rows_of(agent, client.pid, (21, 22, 11, 12))["net.connect"]
            accepted, = self.rows_of(agent)["net.accept"]
        self.assertEqual((accepted["peer_pid"], accepted["peer_uid"], accepted["path"]), (client.pid, 22, path))
        self.assertEqual((connected["peer_pid"], connected.get("peer_uid", 0), connected["path"]), (os.getpid(), 0, path))
        self.assertEqual(connected["cap_eff"], 0)

    @common.same_on_every_kernel
    def test_abstract(self):
        name = f"sonde-{os.getpid()}"
        with self.agent() as agent:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server, \
                    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                server.bind("\0" + name)
                server.listen()
                client.connect("\0" + name)
                server.accept()[0].close()
            rows = self.rows_of(agent)
        for kind in ("bind", "listen", "connect", "accept"):
            row, = rows[f"net.{kind}"]
            self.assertEqual((row["abstract"], row["sock_type"]), (name, "seqpacket"), kind)
            self.assertNotIn("path", row)

    def test_sockets_that_matter(self):
        """Raw, packet, vsock and audit sockets; not those that everybody has."""
        with self.agent() as agent:
            made = [socket.socket(socket.AF_INET, socket.SOCK_RAW, 1), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0008),
                    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)]
            descriptors = [sock.fileno() for sock in made]
            made[1].bind(("lo", 0x0800))
            quiet = [socket.socket(), socket.socket(type=socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX),
                     socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)]
            quiet[3].bind((0, 0))
            for sock in made + quiet:
                sock.close()
            rows = self.rows_of(agent)
        self.assertEqual([(row["family"], row["sock_type"], row["protocol"], row["fd"]) for row in rows["net.socket"]],
                         [("inet", "raw", 1, descriptors[0]), ("packet", "dgram", 0x0800, descriptors[1]),
                          ("netlink", "raw", 9, descriptors[2])])
        bound, = rows["net.bind"]
        self.assertEqual((bound["family"], bound["ifindex"], bound["protocol"]),
                         ("packet", socket.if_nametoindex("lo"), 0x0800))

    def test_every_kind_that_matters(self):
        """Also where this kernel has none: who asked is told, and of what."""
        raw, dgram = socket.SOCK_RAW, socket.SOCK_DGRAM
        kinds = [(socket.AF_INET6, raw, 58, "inet6", "raw"), (socket.AF_ALG, socket.SOCK_SEQPACKET, 0, "alg", "seqpacket"),
                 (socket.AF_KEY, raw, 2, "key", "raw"), (44, raw, 0, "xdp", "raw"), (40, dgram, 0, "vsock", "dgram"),
                 *((socket.AF_NETLINK, raw, protocol, "netlink", "raw") for protocol in (4, 6, 9, 11, 12))]
        truth = []
        with self.agent() as agent:
            for family, kind, protocol, *names in kinds:
                try:
                    with socket.socket(family, kind, protocol) as sock:
                        truth.append([*names, protocol, sock.fileno(), None])
                except OSError as error:
                    truth.append([*names, protocol, -1, errno.errorcode[error.errno]])
            with socket.socket(socket.AF_INET, SOCK_PACKET, 0x0300) as sock:  # the way before AF_PACKET
                truth.append(["packet", "packet", 3, sock.fileno(), None])
            rows = self.rows_of(agent)["net.socket"]
        self.assertEqual([[row["family"], row["sock_type"], row.get("protocol", 0), row["fd"], row.get("error")] for row in rows], truth)

    def test_a_raw_socket(self):
        """It has addresses, and no ports: the protocol stands there."""
        with self.agent() as agent:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) as sock:
                sock.bind(("127.0.0.2", 0))
                sock.connect(("127.0.0.5", 0))
            rows = self.rows_of(agent)
        self.assertEqual(self.ends(rows["net.bind"][0]), ("127.0.0.2", None, None, None))
        self.assertEqual(self.ends(rows["net.connect"][0]), ("127.0.0.2", None, "127.0.0.5", None))

    @common.same_on_every_kernel
    def test_a_netlink_socket(self):
        with self.agent() as agent:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as sock:
                sock.bind((0, 0))
                port = sock.getsockname()[0]
            row, = self.rows_of(agent)["net.bind"]
        self.assertEqual((row["family"], row["lport"], row["protocol"]), ("netlink", port, 9))

    @common.host_only("the guests have no vsock")
    def test_vsock(self):
        with self.agent() as agent:
            with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
                sock.bind((socket.VMADDR_CID_ANY, 123456))
                sock.listen()
            rows = self.rows_of(agent)
        self.assertEqual((rows["net.socket"][0]["family"], rows["net.socket"][0]["sock_type"]), ("vsock", "stream"))
        for name in ("bind", "listen"):
            row, = rows[f"net.{name}"]
            self.assertEqual((row["lport"], row["lcid"]), (123456, socket.VMADDR_CID_ANY))

    def run_load(self, agent, *words):
        load = subprocess.Popen([common.load("net"), *words], stdout=subprocess.PIPE, text=True)
        out = load.communicate(timeout=common.bound(120))[0]
        self.assertEqual(load.returncode, 0)
        return load.pid, [line.split() for line in out.splitlines()]

    def race(self, name, *words):
        """What the socket was afterwards, try by try, and the rows. Some tries were raced: the memory held another address by then."""
        with self.agent(**{"rings.bulk": "32MiB", "rings.priority": "32MiB"}) as agent:
            pid, lines = self.run_load(agent, name, str(common.races()), *words)
            rows = self.rows_of(agent, pid)
        truth = [line[1:] for line in lines if line[0] in ("peer", "own", "failed")]
        self.assertEqual(len(truth), common.races())
        if not common.GUEST:
            self.assertGreater(int(lines[-1][1]), 0, "no try was raced")
        return truth, rows

    def test_an_address_rewritten_during_connect(self):
        truth, rows = self.race("connect")
        self.assertEqual([[row["raddr"], str(row["rport"])] for row in rows["net.connect"]], truth)

    def test_an_address_rewritten_during_bind(self):
        truth, rows = self.race("bind")
        self.assertEqual([[row["laddr"], str(row["lport"])] for row in rows["net.bind"]], truth)

    def test_a_path_rewritten_during_connect(self):
        folder = self.folder()
        paths = f"{folder}/one", f"{folder}/two"
        servers = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in paths]
        for server, path in zip(servers, paths):
            self.addCleanup(server.close)
            server.bind(path)
        truth, rows = self.race("unix", *paths)
        self.assertEqual([[row["error"] if "error" in row else row["path"]] for row in rows["net.connect"]], truth)

    def test_a_socket_in_the_place_of_a_terminal(self):
        for settings, dups in (({"modules.net.fcntl": "true"}, (0, 1, 2, 0)), ({}, (0, 1, 2))):
            with self.subTest(settings):
                self.check_dups(settings, dups)

    def check_dups(self, settings, dups):
        with self.agent(**settings) as agent:
            with socket.create_server(("127.0.0.1", 0)) as server:
                at = server.getsockname()
                pid, lines = self.run_load(agent, "dups", str(at[1]))
            rows = self.rows_of(agent, pid)
        own, fd = (lines[0][1], int(lines[0][2])), int(lines[1][1])
        self.assertEqual([(row["fd"], row["old_fd"]) for row in rows["net.dup"]], [(one, fd) for one in dups])
        for row in rows["net.dup"]:
            self.assertEqual(self.ends(row), (*own, *at))

    def test_a_descriptor_that_goes_elsewhere(self):
        """A connection whose descriptor is closed before connect returns is told all the same."""
        path = f"{self.folder()}/sock"
        with self.agent() as agent:
            pid, lines = self.run_load(agent, "moved", path)
            rows = self.rows_of(agent, pid)
        first, moved = rows["net.connect"]
        self.assertEqual((first["path"], first["family"]), (path, "unix"))
        self.assertEqual((moved["path_given"], moved["family"], moved["fd"]), (path, "unspec", int(lines[0][1])))
        self.assertFalse({"error", "path"} & set(moved))

    @common.same_on_every_kernel
    def test_stack(self):
        with self.agent(**{"modules.net.stack": "true"}) as agent:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(("127.0.0.3", 4321))
            row, = agent.wait_rows("net.connect", lambda r: r["pid"] == os.getpid())
        self.assertTrue(any(frame.startswith("connect") or "connect+" in frame for frame in row["stack"]), row["stack"])
