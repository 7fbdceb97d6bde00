# SPDX-License-Identifier: Apache-2.0
"""Name servers for tests, on loopback: NSD with signed, tampered and unsigned zones, and one that misbehaves."""
import os
import pathlib
import shutil
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time

from godwit import free_port

TOOLS = ("nsd", "ldns-keygen", "ldns-signzone")
SOA = "@ 3600 IN SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 120\n@ IN NS ns.{zone}.\nns IN A 127.0.0.1\n"


def find(tool):
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def missing_tools():
    return [tool for tool in TOOLS if not find(tool)]


class Nsd:
    """with Nsd() as ns: ns.zone(name, records, sign=True, tamper=(b"from", b"to")); ns.start()"""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="godwit-nsd."))
        self.dir.chmod(0o755)
        self.port = free_port()
        self.zones, self.anchors, self.process = [], self.dir / "anchors", None
        self.anchors.write_text("")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process:
            self.process.terminate()
            self.process.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)

    def tool(self, name, *args):
        return subprocess.run([find(name), *args], cwd=self.dir, check=True, capture_output=True, text=True).stdout

    def zone(self, name, records, sign=False, tamper=None):
        path = self.dir / (name + ".zone")
        path.write_text(f"$ORIGIN {name}.\n$TTL 300\n" + SOA.format(zone=name) + records)
        if sign:
            key = self.tool("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", name).strip()
            with open(self.anchors, "a", encoding="ascii") as f:
                f.write((self.dir / (key + ".key")).read_text())
            self.tool("ldns-signzone", path.name, key)
            path = self.dir / (path.name + ".signed")
        if tamper:
            text = path.read_text()
            assert tamper[0] in text
            path.write_text(text.replace(*tamper))
        self.zones.append((name, path))

    def start(self):
        conf = self.dir / "nsd.conf"
        text = (f'server:\n  ip-address: 127.0.0.1@{self.port}\n  server-count: 1\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n  username: ""\n  chroot: ""\n'
                f'  zonesdir: "{self.dir}"\n  database: ""\n  pidfile: "{self.dir}/pid"\n  logfile: "{self.dir}/log"\n'
                f'  xfrdfile: "{self.dir}/xfrd"\n  zonelistfile: "{self.dir}/zones"\nremote-control:\n  control-enable: no\n')
        text += "".join(f'zone:\n  name: "{name}"\n  zonefile: "{path}"\n' for name, path in self.zones)
        conf.write_text(text)
        self.process = subprocess.Popen([find("nsd"), "-d", "-c", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            if ask("127.0.0.1", self.port, self.zones[0][0]):
                return
            time.sleep(0.05)
        raise AssertionError((self.dir / "log").read_text())


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def ask(host, port, name):
    """Whether somebody answers there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.2)
        s.sendto(struct.pack(">6H", 1, 0, 1, 0, 0, 0) + encode(name) + struct.pack(">HH", 6, 1), (host, port))
        try:
            return s.recv(4096)
        except OSError:
            return b""


# ---- a server that misbehaves, by the first label of what it is asked --------------------------------

class Question:
    def __init__(self, packet):
        self.id, at = packet[:2], 12
        labels = []
        while packet[at]:
            labels.append(packet[at + 1:at + 1 + packet[at]].decode())
            at += 1 + packet[at]
        self.name, self.section = ".".join(labels), packet[12:at + 5]

    def reply(self, flags=0x8180, records=(), id=None, section=None):
        return ((id or self.id) + struct.pack(">5H", flags, 1, len(records), 0, 0) + (section or self.section) +
                b"".join(records))


def record(kind, data, ttl=60):
    return b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


ADDRESS = record(1, bytes([192, 0, 2, 7]))
FORGED = record(1, bytes([192, 0, 2, 66]))


def udp_replies(q):
    kind = q.name.split(".")[0]
    if kind in ("truncated", "stalls"):
        return [q.reply(0x8380)]
    if kind == "forged":
        other = encode("www.example.com") + q.section[-4:]
        return [q.reply(records=[FORGED], id=bytes([q.id[0] ^ 1, q.id[1]])), q.reply(records=[FORGED], section=other),
                b"", b"x", q.id + struct.pack(">5H", 0x0180, 1, 0, 0, 0) + q.section, q.reply(records=[ADDRESS])]
    return {
        "silent": [], "secure": [q.reply(0x81a0, [ADDRESS])], "nothing": [q.reply(0x8183)], "empty": [q.reply()],
        "fails": [q.reply(0x8182)], "refuses": [q.reply(0x8185)], "garbage": [q.reply(records=[b"\xc0\xff\0\1"])],
    }.get(kind, [q.reply(records=[ADDRESS])])


class Misbehaving:
    """Answers on UDP and TCP at one port; `asked` counts questions by name."""

    def __init__(self):
        self.asked, self.port = {}, free_port()
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                packet, sock = self.request
                q = Question(packet)
                outer.asked[q.name] = outer.asked.get(q.name, 0) + 1
                for reply in udp_replies(q):
                    sock.sendto(reply, self.client_address)

        class Tcp(socketserver.BaseRequestHandler):
            def handle(self):
                data = b""
                while len(data) < 2 or len(data) < 2 + struct.unpack(">H", data[:2])[0]:
                    more = self.request.recv(4096)
                    if not more:
                        return
                    data += more
                q = Question(data[2:])
                if q.name.startswith("stalls"):
                    self.request.sendall(b"\1")
                    self.request.recv(1)
                    return
                # more than fits a stream's buffer, and the question's name first
                reply = q.reply(records=[record(1, bytes([10, 0, i // 256, i % 256])) for i in range(1500)])
                for i in range(0, len(reply) + 2, 1000):
                    self.request.sendall((struct.pack(">H", len(reply)) + reply)[i:i + 1000])

        class TcpServer(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.servers = [socketserver.ThreadingUDPServer(("127.0.0.1", self.port), Udp),
                        TcpServer(("127.0.0.1", self.port), Tcp)]

    def __enter__(self):
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        for server in self.servers:
            server.shutdown()
            server.server_close()
