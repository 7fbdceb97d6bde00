# SPDX-License-Identifier: Apache-2.0
"""A second godwit that sends all through the first: reports of delay and of success, and a smart host for everything."""
import email
import email.policy

import pytest

from lab import Godwit, wait_for
from test_relay import received


@pytest.fixture(scope="module")
def behind(lab, dns, gw):
    """mx.behind.lab, whose way out is gw; only what is for down.lab goes by MX."""
    conf = """
domain behind.lab { }
relay_from 10.77.0.30;
trusted 10.77.0.0/24;
route direct { to down.lab; }
route out { via smtp mx.gw.lab; ip only_v4; }
"""
    server = Godwit(lab, dns, "behind", (11,), conf, "retry_first 1s; retry_max 2s; delay_notice 2s; connect 2s; ")
    server.start()
    server.account("zoe@behind.lab")
    return server


def reports(server, mid, who="zoe@behind.lab"):
    found = []
    for raw in server.messages(who):
        if f"<{mid}>".encode() in raw and b"multipart/report" in raw:
            message = email.message_from_bytes(raw, policy=email.policy.SMTP)
            found += message.get_payload()[1].get_payload()[1:]
    return found


def test_everything_by_a_smart_host(desk, gw, behind, fake):
    mid, text = desk.text()
    assert "rule: relay_from" in gw.cli("explain", "--to", "x@sink.lab", "--ip", behind.address).stdout
    assert desk.send(behind, ["x@sink.lab"], text, "zoe@behind.lab") == {}
    got = received(fake["sink"], mid)
    names = [" ".join(r.split()) for r in email.message_from_bytes(got.data).get_all("Received")]
    assert len(names) == 2 and "by mx.gw.lab" in names[0] and "by mx.behind.lab" in names[1]
    assert "mx.gw.lab" in behind.wait_trace(mid, "relayed")


def test_a_delay_is_reported_once(desk, behind):
    mid, text = desk.text()
    desk.send(behind, ["x@down.lab"], text, "zoe@behind.lab")
    group = wait_for(lambda: reports(behind, mid), 30, "the report of a delay")[0]
    assert group["Action"] == "delayed" and group["Status"].startswith("4.")
    assert group["Will-Retry-Until"]
    row = behind.queue("down.lab")[0]   # a place that is dead is not tried for a while
    behind.cli("queue", "flush")
    wait_for(lambda: behind.queue("down.lab")[0]["attempts"] > row["attempts"], 20, "one more attempt")
    assert len(reports(behind, mid)) == 1
    behind.cli("queue", "drop", "down.lab")


def test_success_by_a_server_without_dsn(desk, gw, fake):
    """The fake knows no DSN: we say that we have handed it over (RFC 3461 §5.2.2)."""
    mid, text = desk.text()
    with desk.connect(gw) as s:
        s.ehlo()
        if not s.has_extn("dsn"):
            pytest.skip("DSN is not offered")
    desk.send(gw, ["x@sink.lab"], text, options=["RET=HDRS", "ENVID=e1"], rcpt_options=["NOTIFY=SUCCESS,FAILURE"])
    group = wait_for(lambda: reports(gw, mid, "alice@gw.lab"), 20, "a report")[0]
    assert group["Action"] == "relayed" and group["Status"].startswith("2.")


def test_success_by_a_server_with_dsn(desk, gw, postfix):
    """Postfix is told, and reports the delivery itself."""
    mid, text = desk.text()
    with desk.connect(gw) as s:
        s.ehlo()
        if not s.has_extn("dsn"):
            pytest.skip("DSN is not offered")
    desk.send(gw, ["bob@postfix.lab"], text, options=["RET=HDRS", "ENVID=e2"], rcpt_options=["NOTIFY=SUCCESS"])
    group = wait_for(lambda: reports(gw, mid, "alice@gw.lab"), 20, "Postfix's report")[0]
    assert group["Action"] == "delivered"


def test_a_report_of_ours_that_cannot_be_returned(desk, gw, fake):
    """A double bounce goes to the postmaster, once, and not on a journey."""
    mid, text = desk.text()
    desk.send(gw, ["x@null.lab"], text, "gone@refuses.lab")

    def there():
        return [m for m in gw.messages("postmaster@gw.lab") if f"<{mid}>".encode() in m]
    wait_for(there, 20, "the double bounce")
    assert len(there()) == 1
