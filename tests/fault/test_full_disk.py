# SPDX-License-Identifier: Apache-2.0
"""A spool on a disk of a few MiB (hostile row H111): 452, nothing lost, and it recovers by itself."""
import os
import smtplib
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "live"))
from godwit import GODWIT, Server, wait_for  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
BODY = "Subject: x\r\nX-Serial: {};\r\n\r\n" + ("z" * 70 + "\r\n") * 800  # about 58 KB


class SmallDisk(Server):
    """The spool is a tmpfs of a mount namespace of its own, gone with the server."""

    def __init__(self, size, extra):
        self.size = size
        super().__init__(extra)

    def start(self, wait=True):
        spool = self.base / "spool"
        spool.mkdir(exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={self.size},mode=700,uid=902,gid=902 tmpfs "{spool}" && '
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
