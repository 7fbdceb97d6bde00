# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each process, and of all at once, under load (P1, P2, P3; hostile row H114).

Every message carries a serial number. What was answered 250 must be in the mailbox at the end; a
message twice only if its acknowledgement was lost or its delivery was in flight when something died.
"""
import collections
import os
import re
import signal
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "live"))
from godwit import Server, wait_for  # noqa: E402

SENDERS = 8
USERS = [f"user{i}@example.org" for i in range(5)]


class Load:
    """Clients that send until told to stop, and remember what was acknowledged."""

    def __init__(self, server):
        self.server = server
        self.acknowledged, self.attempted = set(), 0
        self.stopping = False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(SENDERS)]
        for t in self.threads:
            t.start()

    def run(self, n):
        serial = 0
        while not self.stopping:
            try:
                with self.server.smtp(timeout=10) as s:
                    s.ehlo()
                    for _ in range(20):
                        if self.stopping:
                            break
                        serial += 1
                        key = f"{n}-{serial}"
                        with self.lock:
                            self.attempted += 1
                        s.sendmail("load@example.net", [USERS[serial % len(USERS)]],
                                   f"Subject: load\r\nX-Serial: {key};\r\n\r\n{'body ' * 200}\r\n")
                        with self.lock:
                            self.acknowledged.add(key)
            except OSError:  # smtplib's exceptions are OSErrors
                time.sleep(0.01)

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join(60)


def serials(server):
    found = collections.Counter()
    for user in USERS:
        for path in server.messages(user):
            found[re.search(rb"X-Serial: ([0-9-]+);", path.read_bytes()).group(1).decode()] += 1
    return found


def check(server, load, kills, mailboxes=None):
    """mailboxes: the server where the mail ends; the same one unless it was relayed."""
    wait_for(lambda: server.greets_control() and server.queue()["messages"] == 0, 60, "an empty queue")
    if mailboxes:
        wait_for(lambda: mailboxes.queue()["messages"] == 0, 60, "an empty queue at the next server")
    found = serials(mailboxes or server)
    lost = load.acknowledged - set(found)
    assert not lost, f"{len(lost)} of {len(load.acknowledged)} acknowledged messages are lost"
    twice = [k for k, n in found.items() if n > 1]
    assert len(twice) <= kills * 300, f"{len(twice)} duplicates"
    assert all(n <= 1 + kills for n in found.values())
    assert len(load.acknowledged) > 50


@pytest.mark.parametrize("role", ["smtpd", "queue", "local", "lookup", "resolver", "control", "keys"])
def test_kill_one(role):
    with Server() as server:
        server.account(*USERS)
        load = Load(server)
        kills = 0
        for _ in range(3):
            time.sleep(0.7)
            victims = [p for p in server.status() if p["role"] == role and p["pid"]] if server.greets_control() else []
            if victims:
                os.kill(victims[0]["pid"], signal.SIGKILL)
                kills += 1
        time.sleep(0.7)
        load.stop()
        assert kills >= 2
        wait_for(lambda: server.greets_control() and all(p["state"] == "ready" for p in server.status()), 30, "all ready")
        check(server, load, kills)
        assert server.process.poll() is None


def front_of(back):
    return Server(f"relay_from 127.0.0.0/8;\nroute back {{ to example.org; via smtp 127.0.0.1:{back.port}; }}\n"
                  "timeouts { retry_first 1s; retry_max 2s; }\n", domains=("front.example",))


@pytest.mark.parametrize("role", ["relay", "queue", "all"])
def test_kill_while_relaying(role):
    with Server() as back, front_of(back) as front:
        back.account(*USERS)
        load = Load(front)
        kills = 0
        for _ in range(3):
            time.sleep(0.7)
            if role == "all":
                front.kill_all()
                front.start()
                kills += 1
                continue
            for p in front.status() if front.greets_control() else []:
                if p["role"] == role and p["pid"]:
                    os.kill(p["pid"], signal.SIGKILL)
                    kills += 1
        time.sleep(0.7)
        load.stop()
        assert kills >= 2
        check(front, load, kills, back)


def test_kill_all_at_once():
    with Server() as server:
        server.account(*USERS)
        load = Load(server)
        for _ in range(3):
            time.sleep(1)
            server.kill_all()
            server.start()
        time.sleep(0.5)
        load.stop()
        check(server, load, 3)


def test_children_die_with_master():
    with Server() as server:
        pids = [p["pid"] for p in server.status()]
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        wait_for(lambda: not any(alive(p) for p in pids), 10, "the end of the children")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
