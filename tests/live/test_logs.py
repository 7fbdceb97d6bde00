# SPDX-License-Identifier: Apache-2.0
"""Where events go and in what form: JSON lines, journald's socket."""
import contextlib
import json
import os
import socket
import subprocess
import threading
import time

import pytest
from godwit import GODWIT, SLOW, Server, wait_for


def converse(server):
    """A session with names that a log must escape (hostile row H107)."""
    with server.smtp() as s:
        s.ehlo("[tag:x]")
        s.docmd('MAIL FROM:<"a\\"{b}\\\\"@c.example>')
        s.docmd('RCPT TO:<"x\\"\\\\\t"@example.org>')
        s.docmd('RCPT TO:<"nobody\\"="@example.org>')


def test_every_line_is_json():
    with Server(extra="log_format json;\n") as server:
        server.account("alice@example.org")
        converse(server)
        assert server.stop() == 0
        events = [json.loads(line) for line in server.log().splitlines()]
        assert {e["process"] for e in events} >= {"master", "smtpd", "queue", "local", "lookup", "control", "relay", "resolver"}
        assert {e["event"] for e in events} >= {"process_start", "server_ready", "smtpd_refused"}


class Journalled(Server):
    """/run is a tmpfs of a mount namespace of its own, with a journal's socket that the test reads."""

    reads = True

    def start(self, wait=True):
        place = self.base / "journal"
        place.mkdir()
        self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.journal.bind(str(place / "socket"))
        self.got, self.reader = [], threading.Thread(target=self.read, daemon=True)
        if self.reads:
            self.reader.start()
        os.chmod(place / "socket", 0o666)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", f'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && '
                 f'mount --bind "{place}" /run/systemd/journal && exec "{GODWIT}" serve -c "{self.conf}"'],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(self.greets, 30, "the greeting")
        return self

    def read(self):
        with contextlib.suppress(OSError):
            while one := self.journal.recv(65536):
                self.got.append(one)

    def close(self):
        self.journal.shutdown(socket.SHUT_RD)
        self.reader.join(10)
        self.journal.close()


def can_mount():
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/run"], stderr=subprocess.DEVNULL,
                                                check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs root and mount namespaces")
def test_journald():
    with Journalled(extra="log_format journald;\n") as server:
        server.account("alice@example.org")
        converse(server)
        assert server.stop() == 0
        server.close()
        for one in server.got:  # the native protocol: KEY=value lines
            fields = dict(line.split(b"=", 1) for line in one.rstrip(b"\n").split(b"\n"))
            assert fields[b"MESSAGE"] and fields[b"PRIORITY"] in (b"3", b"4", b"5", b"6", b"7")
        everything = b"".join(server.got)
        for word in (b"process_start", b"server_ready", b"smtpd_refused", b"process_stop"):
            assert word in everything
        assert server.log() == ""


class Unread(Journalled):
    reads = False


@pytest.mark.skipif(not can_mount(), reason="needs root and mount namespaces")
def test_a_journal_that_hangs_stops_no_mail():
    with Unread(extra="log_format journald;\n") as server:
        server.account("alice@example.org")
        began = time.monotonic()
        with server.smtp() as s:
            for _ in range(10):
                s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nx\r\n")
        server.wait_messages("alice@example.org", 10)
        assert time.monotonic() - began < 20 * SLOW


def test_without_a_journal_events_go_to_standard_error():
    if os.path.exists("/run/systemd/journal/socket"):
        pytest.skip("there is a journal here")
    with Server(extra="log_format journald;\n") as server:
        assert "log to journald: events go to standard error, as text" in server.log()
        wait_for(lambda: "server_ready" in server.log(), 20, "server_ready")
