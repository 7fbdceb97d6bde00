# SPDX-License-Identifier: Apache-2.0
"""A spool, mailboxes, a history on a disk of a few MiB (hostile row H111): 452 or a later delivery, nothing lost, no
half mails, and it recovers by itself."""
import json
import os
import pathlib
import smtplib
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "live"))
from godwit import GODWIT, Server, wait_for  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
BODY = "Subject: x\r\nX-Serial: {};\r\n\r\n" + ("z" * 70 + "\r\n") * 800  # about 58 KB


class SmallDisk(Server):
    """One of its directories is a tmpfs of a mount namespace of its own, gone with the server."""

    def __init__(self, size, extra, place="spool", owner=902):
        self.size, self.place, self.owner = size, place, owner
        super().__init__(extra)

    def inside(self, directory):
        """The directory as the server's processes see it."""
        return pathlib.Path(f"/proc/{self.process.pid}/root{self.base}") / directory

    def start(self, wait=True):
        place = self.base / self.place
        place.mkdir(parents=True, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={self.size},mode=711,uid={self.owner},gid={self.owner} tmpfs "{place}" && '
                 f'exec "{GODWIT}" serve -c "{self.conf}"'], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            wait_for(self.greets, 30, "the greeting")
        return self


def can_mount():
    return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() == 0 and not can_mount(), reason="mount namespaces are not allowed here")
def test_full_disk_puts_mail_off():
    with SmallDisk("6m", "deliver no; reserve_space no; limits { queue_free_space 2M; }") as server:
        server.account("alice@example.org")
        accepted, refused = [], []
        for i in range(200):
            try:
                with server.smtp() as s:
                    s.sendmail("b@example.net", ["alice@example.org"], BODY.format(i))
                accepted.append(i)
            except smtplib.SMTPResponseException as e:
                assert e.smtp_code in (452, 451), e
                refused.append(e.smtp_code)
            except smtplib.SMTPSenderRefused as e:
                assert e.smtp_code == 452, e
                refused.append(e.smtp_code)
            if len(refused) > 5:
                break
        assert accepted and 452 in refused
        assert server.queue()["messages"] == len(accepted)  # all that was acknowledged, nothing else
        # Room again: what is dropped makes place.
        server.cli("queue", "drop", "--all")
        def accepts():
            try:
                with server.smtp() as s:
                    s.sendmail("b@example.net", ["alice@example.org"], BODY.format("again"))
                return True
            except smtplib.SMTPException:
                return False
        wait_for(accepts, 30, "room again")


@pytest.mark.skipif(os.geteuid() == 0 and not can_mount(), reason="mount namespaces are not allowed here")
def test_little_free_space_puts_mail_off_early():
    with SmallDisk("20m", "reserve_space no; limits { queue_free_space 64M; }") as server:
        server.account("alice@example.org")
        with server.smtp() as s:
            s.ehlo()
            wait_for(lambda: s.docmd("MAIL", "FROM:<b@example.net>")[0] == 452 or s.rset() is None, 10, "452")


@pytest.mark.skipif(os.geteuid() == 0 and not can_mount(), reason="mount namespaces are not allowed here")
def test_full_mailboxes_keep_mail_in_the_queue():
    with SmallDisk("1m", "timeouts { retry_first 1s; retry_max 2s; }", "mail", 903) as server:
        server.account("alice@example.org")
        new = server.inside("mail") / "example.org" / "alice"
        with server.smtp() as s:
            for i in range(40):  # about 2.3 MB
                s.sendmail("b@example.net", ["alice@example.org"], BODY.format(i))
        def is_full():
            rows = json.loads(server.cli("queue", "list", "--json").stdout)
            return rows["messages"] > 0 and all(r["attempts"] > 1 for r in rows["rows"])
        wait_for(is_full, 30, "deliveries to be put off")
        assert "the quota of the mailbox is full" in server.cli("queue", "list").stdout
        wait_for(lambda: not list((new / "tmp").iterdir()), 10, "no half mail to take up the room")
        seen = set()
        def read_some():  # a reader makes room; what it sees is whole
            for path in (new / "new").iterdir():
                text = path.read_text()
                assert text.count("z" * 70 + "\n") == 800
                serial = text.split("X-Serial: ")[1].split(";")[0]
                assert serial not in seen
                seen.add(serial)
                path.unlink()
            return len(seen) == 40
        wait_for(read_some, 60, "all of them")
        wait_for(lambda: server.queue()["messages"] == 0, 10, "an empty queue")
        assert not list((new / "tmp").iterdir())


@pytest.mark.skipif(os.geteuid() == 0 and not can_mount(), reason="mount namespaces are not allowed here")
def test_a_full_history_stops_no_mail_and_is_made_up_for():
    with SmallDisk("1m", "", "state/history", 905) as server:
        server.account("alice@example.org")
        told = lambda n: "delivered" in server.cli("trace", f"<{'m' * 200}{n}@x>", check=False).stdout
        def send(first):
            with server.smtp() as s:
                for i in range(first, first + 300):
                    s.sendmail(f"{'b' * 60}{i}@example.net", ["alice@example.org"], f"Subject: x\r\nMessage-ID: <{'m' * 200}{i}@x>\r\n\r\nx\r\n")
            server.wait_messages("alice@example.org", first + 300, 60)
            wait_for(lambda: server.queue()["messages"] == 0, 20, "an empty queue")
            time.sleep(1)  # what gathered is stored by now, or not
            return told(first + 299)
        sent = 300
        assert send(0)
        with open(server.inside("state/history") / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError):
            while True:
                ballast.write(bytes(1024))
        while sent < 3000 and send(sent):  # the store has some room within its own files
            sent += 300
        assert sent < 3000 and "no-space" in server.log()
        place = server.base / "state" / "history"
        subprocess.run(["nsenter", "-t", str(server.process.pid), "-m", "mount", "-o", "remount,size=32m", str(place)], check=True)
        with server.smtp() as s:  # what was lost is told again with the next that can be stored (P8)
            s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nx\r\n")
        wait_for(lambda: told(sent + 299) and told(sent) and told(300) and told(0), 60, "the whole history")
