# SPDX-License-Identifier: Apache-2.0
"""Many clients at once that are slow on purpose: others are served, and time limits end it (hostile row H23)."""
import resource
import selectors
import time

from godwit import SLOW, Server, wait_for

CLIENTS = 2000


def test_slow_clients_hinder_nobody():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = min(CLIENTS, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, clients + 100), hard))
    times = f"timeouts {{ command {8 * SLOW}s; data_block {8 * SLOW}s; data_total {8 * SLOW}s; }}\n"
    with Server(extra=times) as server, selectors.DefaultSelector() as selector:
        server.account("alice@example.org")
        began = time.monotonic()
        slow = []
        for i in range(clients):
            s = server.connect(20)
            slow.append(s)
            s.setblocking(False)
            if i % 2:  # half of them in a message
                s.send(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
            selector.register(s, selectors.EVENT_READ)
        ended, longest, last = 0, 0.0, b""
        while ended < clients and time.monotonic() - began < 60 * SLOW:
            for s in slow:
                if s.fileno() >= 0:
                    try:
                        s.send(b"x")
                    except OSError:
                        pass
            before = time.monotonic()
            if ended == 0:
                with server.smtp() as other:
                    other.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nx\r\n")
                longest = max(longest, time.monotonic() - before)
            for key, _ in selector.select(0.1):
                try:
                    got = key.fileobj.recv(4096)
                except OSError:
                    got = b""
                last = got or last
                if not got:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    ended += 1
        assert ended == clients  # a byte now and then prolongs nothing
        assert longest < 2 * SLOW
        assert b"421 4.4.2" in last
        wait_for(lambda: server.greets() and server.queue()["messages"] == 0, 10, "rest")
        for s in slow:
            s.close()
