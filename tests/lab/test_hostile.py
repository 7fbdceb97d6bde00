# SPDX-License-Identifier: Apache-2.0
"""Servers and zones that nobody should have to talk to: mail waits, or is returned, and nothing else suffers."""
import json
import pathlib
import time

import pytest

from lab import wait_for
from test_relay import failed, received

RELAY_KIB = 100 * 1024


def attempted(gw, address, seconds=30):
    def rows():
        return [r for r in gw.queue(address) if r["attempts"] >= 1]
    return wait_for(rows, seconds, f"an attempt for {address}")[0]


@pytest.mark.parametrize("address", ["x@odd.lab", "x@c0.chain.big.lab", "x@wide.big.lab"])
def test_waits(mail, gw, address):
    mid = mail(address)
    row = attempted(gw, address)
    assert row["state"] == "queued" and row["reason"], row
    assert not [m for m in gw.messages("alice@gw.lab") if f"<{mid}>".encode() in m]
    gw.cli("queue", "drop", address)


def test_replies_without_text(mail, fake, gw, report):
    mid = mail(["x@bare.lab", "gone@bare.lab"])
    received(fake["bare"], mid)
    fields = failed(report(mid))
    assert fields["Final-Recipient"] == "rfc822; gone@bare.lab" and fields["Status"] == "5.7.2"
    gw.wait_trace(mid, "relayed")


def test_a_zero_address(mail, report):
    assert failed(report(mail("x@zero.lab")))["Status"] == "5.4.4"


def test_a_thousand_mx(mail, fake):
    received(fake["sink"], mail("x@thousand.big.lab"))


@pytest.mark.parametrize("slow", ["window", "slowend"])
def test_a_slow_server_costs_others_nothing(desk, gw, mail, fake, slow):
    """H24, H98: deadlines hold, and mail to others goes on meanwhile."""
    for i in range(8):
        _, text = desk.text("0123456789abcdef" * 4 + "\n")
        desk.send(gw, [f"r{i}@{slow}.lab"], text + b"0123456789abcdef\r\n" * 300000 if slow == "window" else text)
    begin = time.monotonic()
    received(fake["sink"], mail("x@sink.lab"))
    assert time.monotonic() - begin < 3
    assert attempted(gw, f"{slow}.lab", 30)["reason"]
    gw.cli("queue", "drop", f"{slow}.lab")


def test_memory_stayed_bounded(gw, fake, mail):
    received(fake["sink"], mail("x@sink.lab"))
    for process in json.loads(gw.cli("status", "--json").stdout):
        assert process["restarts"] == 0, process
        if process["role"] == "relay":
            status = pathlib.Path(f"/proc/{process['pid']}/status").read_text()
            high = int(status.split("VmHWM:")[1].split()[0])
            assert high < RELAY_KIB, f"{high} KiB"
