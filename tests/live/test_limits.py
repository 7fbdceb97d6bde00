# SPDX-License-Identifier: Apache-2.0
"""Limits that hold for all smtpds together, and what is left of counts when one of them is killed (H25, H114)."""
import os
import signal
import socket

import pytest
from godwit import SLOW, Server, free_port, wait_for


def own_address():
    """One of this machine's that is not loopback, which is not counted; none: None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            address = s.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


class OpenServer(Server):
    """With another listener, at all addresses."""

    def __init__(self, limits):
        self.open_port = free_port()
        super().__init__(f"listen smtp {{ address 0.0.0.0:{self.open_port}; }}\nlimits {{ {limits} }}\n"
                         "timeouts { greet_delay 0s; }\n", smtpd_processes=3)

    def come(self, address="127.0.0.1"):
        """A connection that was greeted, or the reply that turned it away."""
        s = socket.create_connection((address, self.open_port), 20 * SLOW)
        line = s.recv(200).decode()
        if line.startswith("220"):
            return s
        s.close()
        return line

    def fill(self, address, most=30):
        """As many as are let in."""
        held = []
        for _ in range(most):
            s = self.come(address)
            if isinstance(s, str):
                return held, s
            held.append(s)
        return held, ""

    def smtpds(self):
        return {p["index"]: p["pid"] for p in self.status() if p["role"] == "smtpd" and p["state"] == "ready"}


def close_all(held):
    for s in held:
        s.close()


def kill_smtpds(server, indexes):
    old = server.smtpds()
    for i in indexes:
        os.kill(old[i], signal.SIGKILL)
    wait_for(lambda: len(server.smtpds()) == 3 and all(server.smtpds()[i] != old[i] for i in indexes), 20, "other smtpds")


def as_many_as_before(server, address, number):
    """Until what was closed is gone from the counts."""
    counts = []

    def filled():
        held, reply = server.fill(address)
        close_all(held)
        counts.append(len(held))
        return len(held) == number and reply

    reply = wait_for(filled, 20, f"{number} places, not {counts}")
    assert max(counts) == number
    return reply


@pytest.mark.skipif(own_address() is None, reason="this machine has no address but loopback")
def test_connections_of_one_client():
    address = own_address()
    with OpenServer("connections_per_client 9;") as server:
        for killed in ([], [0], [0, 1, 2], [1, 2]):
            assert as_many_as_before(server, address, 9).startswith("421 4.7.0")
            held = []
            wait_for(lambda: held.extend(server.fill(address, 9 - len(held))[0]) or len(held) == 9, 20, "nine places")
            kill_smtpds(server, killed)
            close_all(held)
        assert as_many_as_before(server, address, 9).startswith("421 4.7.0")
        assert len(server.fill("127.0.0.1", 30)[0]) == 30


def test_connections_of_all():
    with OpenServer("connections 10;") as server:
        held, reply = server.fill("127.0.0.1")
        assert len(held) == 10 and reply.startswith("421 4.3.2"), reply
        old = server.smtpds()
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(server.smtpds()) == 3 and not set(server.smtpds().values()) & set(old.values()), 20, "other smtpds")
        close_all(held)
        held, reply = server.fill("127.0.0.1")
        assert len(held) == 10 and reply.startswith("421 4.3.2"), reply
        close_all(held)
