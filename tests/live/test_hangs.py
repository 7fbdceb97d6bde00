# SPDX-License-Identifier: Apache-2.0
"""A process that hangs is killed and started again; one that stands still for a moment is not."""
import os
import signal
import smtplib
import time

import pytest
from godwit import SLOW, Server, wait_for

HANG = 3 * SLOW
pytestmark = pytest.mark.skipif(bool(os.environ.get("GODWIT_ASAN")), reason="waits, for half a minute: once is enough")


def pids(server, role):
    return [p["pid"] for p in server.status() if p["role"] == role and p["state"] == "ready"]


@pytest.fixture(scope="module", name="server")
def one_server():
    with Server(f"timeouts {{ process_hang {HANG}s; }}", smtpd_processes=1) as s:
        s.account("alice@example.org")
        yield s


@pytest.mark.parametrize("role", ["smtpd", "queue", "lookup"])
def test_a_process_that_hangs(server, role):
    [old] = pids(server, role)
    os.kill(old, signal.SIGSTOP)
    wait_for(lambda: f"process_hangs role=\"{role}\" pid={old} " in server.log(), 10 * HANG, "the event")
    wait_for(lambda: pids(server, role) and pids(server, role) != [old], 20, "another one")
    before = len(server.messages("alice@example.org"))

    def taken():
        try:
            with server.smtp() as s:
                s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nx\r\n")
            return True
        except (smtplib.SMTPException, OSError):
            return False  # its channels are still being made

    wait_for(taken, 20, "mail again")
    server.wait_messages("alice@example.org", before + 1)


def test_a_moment_is_no_hang(server):
    [old] = pids(server, "queue")
    events = server.log().count("process_hangs")
    for _ in range(3):
        os.kill(old, signal.SIGSTOP)
        time.sleep(HANG / 3)
        os.kill(old, signal.SIGCONT)
        time.sleep(HANG / 2)
    assert pids(server, "queue") == [old]
    os.kill(server.process.pid, signal.SIGSTOP)  # whoever watches has slept himself
    time.sleep(HANG * 2)
    os.kill(server.process.pid, signal.SIGCONT)
    time.sleep(HANG)
    assert pids(server, "queue") == [old] and server.log().count("process_hangs") == events
