# SPDX-License-Identifier: Apache-2.0
"""Which host mail goes to, what servers there may do, and what the sender and the operator are told."""
import email
import email.policy
import json

import pytest

from conftest import NUMBERS
from lab import v4, v6, wait_for


def received(fake, mid, seconds=20):
    """The message with this id at a fake."""
    def there():
        return [m for m in fake.messages if f"<{mid}>".encode() in m.data]
    return wait_for(there, seconds, f"{mid} at {fake.name}")[0]


def failed(raw):
    """Fields of a report about one recipient (RFC 3464 §2.3)."""
    message = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert not message.defects
    assert message.get_content_type() == "multipart/report"
    assert message["Return-Path"] == "<>"
    return message.get_payload()[1].get_payload()[1]


# ---- where to ------------------------------------------------------------------------------------------

def test_the_best_mx_first(mail, fake):
    for _ in range(3):
        received(fake["sink"], mail("x@ordered.lab"))


def test_one_received_field_and_our_name(mail, fake, gw):
    got = received(fake["sink"], mail("x@sink.lab"))
    message = email.message_from_bytes(got.data)
    assert got.helo == "mx.gw.lab" and got.peer == gw.address and got.sender == "alice@gw.lab"
    assert len(message.get_all("Received")) == 1
    assert "by mx.gw.lab" in " ".join(message["Received"].split())
    assert "Return-Path" not in message     # RFC 5321 §4.4: only at final delivery


@pytest.mark.parametrize("domain", ["fallback.lab", "nohost.lab"])
def test_the_second_mx_when_the_first_is_away(mail, fake, domain):
    received(fake["second"], mail(f"x@{domain}"))


@pytest.mark.parametrize("domain, where", [
    ("only4.lab", "sink"), ("only6.lab", "sink6"), ("implicit.lab", "sink"), ("alias.lab", "sink"), ("plain.lab", "sink"),
    ("prefers4.lab", "sink"), ("takes6.lab", "sink6"), ("both.lab", "sink6"), ("brokensix.lab", "sink"),
])
def test_addresses(mail, fake, domain, where):
    received(fake[where], mail(f"x@{domain}"))


def test_the_source_address_of_a_route(mail, fake):
    got = received(fake["sink6"], mail("x@from.lab"))
    assert got.peer == v6(15) and got.helo == "out.gw.lab"


def test_a_smart_host(mail, fake):
    received(fake["smart"], mail("x@smart.lab"))
    received(fake["smart"], mail("x@very.far.example"))     # no such name in the DNS: nobody asks


def test_backup_mx(gw, desk, fake):
    mid, text = desk.text()
    assert desk.send(gw, ["known@backedup.lab"], text, "x@sink.lab") == {}
    received(fake["backup"], mid)       # to the better MX, not to ourselves
    with pytest.raises(Exception, match="5.1.1"):
        desk.send(gw, ["unknown@backedup.lab"], text, "x@sink.lab")


# ---- what cannot be sent --------------------------------------------------------------------------------

@pytest.mark.parametrize("address, status", [
    ("x@null.lab", "5.1.10"), ("x@nothing.lab", "5.1.2"), ("x@selfbest.lab", "5.4.6"), ("x@selfaddress.lab", "5.4.6"),
    ("x@loopback.lab", "5.4.4"), ("x@asus.lab", "5.4.6"), ("nobody@refuses.lab", "5.1.1"), ("x@content.lab", "5.7.1"),
])
def test_is_returned(mail, report, gw, address, status):
    mid = mail(address)
    fields = failed(report(mid))
    assert fields["Final-Recipient"] == f"rfc822; {address}"
    assert fields["Action"] == "failed"
    assert fields["Status"] == status
    assert status in gw.trace(mid)
    assert gw.queue(address) == []


@pytest.mark.parametrize("address, reason", [
    ("x@bogus.lab", "DNSSEC"), ("x@down.lab", "refused"), ("x@selfsecond.lab", "refused"), ("x@tarpit.lab", ""),
    ("x@long.lab", ""), ("x@nul.lab", ""), ("x@endless.lab", ""),
])
def test_waits_and_is_not_returned(mail, gw, address, reason):
    mid = mail(address)

    def waiting():
        return [r for r in gw.queue(address) if r["attempts"] >= 1 and r["state"] == "queued"]
    row = wait_for(waiting, 30, f"an attempt for {address}")[0]
    assert reason in row["reason"], row
    assert row["reason"], row
    assert not [m for m in gw.messages("alice@gw.lab") if f"<{mid}>".encode() in m]
    gw.cli("queue", "drop", address)


def test_greylisting(mail, fake, gw):
    mid = mail("x@grey.lab")
    received(fake["grey"], mid)
    assert len(fake["grey"].seen) == 1
    story = gw.wait_trace(mid, "relayed")
    assert "451" in story and "greylisted" in story


def test_421_between_recipients(mail, fake):
    """H99: nobody is lost, and nobody gets it twice."""
    names = [f"r{i}@between.lab" for i in range(4)]
    mid = mail(names)

    def all_there():
        got = [r for m in fake["between"].messages if f"<{mid}>".encode() in m.data for r in m.recipients]
        return got if len(got) >= 4 else None
    assert sorted(wait_for(all_there, 30, "four recipients")) == names


def test_452_on_half_of_the_recipients(mail, fake):
    names = [f"r{i}@half.lab" for i in range(6)]
    mid = mail(names)

    def all_there():
        got = [r for m in fake["half"].messages if f"<{mid}>".encode() in m.data for r in m.recipients]
        return got if len(got) >= 6 else None
    assert sorted(wait_for(all_there, 40, "six recipients")) == names


def test_a_lost_reply_to_the_message(mail, fake, gw):
    """H99: sent again; a duplicate is allowed, a loss is not."""
    mid = mail("x@closes.lab")
    gw.wait_trace(mid, "relayed", 30)
    assert 1 <= len([m for m in fake["closes"].messages if f"<{mid}>".encode() in m.data]) <= 2


def test_lmtp_has_an_answer_for_each(mail, fake, gw, report):
    mid = mail(["fine@lmtp.lab", "full@lmtp.lab", "gone@lmtp.lab"])
    assert failed(report(mid))["Final-Recipient"] == "rfc822; gone@lmtp.lab"
    rows = wait_for(lambda: [r for r in gw.queue("lmtp.lab") if r["attempts"]], 20, "the one that is put off")
    assert [r["to"] for r in rows] == ["full@lmtp.lab"] and "4.2.2" in rows[0]["reason"] + gw.trace(mid)
    gw.cli("queue", "drop", "full@lmtp.lab")


# ---- what the operator is told -----------------------------------------------------------------------------

def test_dns(gw):
    def ask(name, kind):
        return json.loads(gw.cli("dns", name, kind, "--json", check=False).stdout)
    got = ask("ordered.lab", "mx")
    assert got["status"] == "found" and got["secure"], got
    assert ask("bogus.lab", "mx")["status"] == "bogus"
    assert ask("plain.lab", "mx")["secure"] is False
    assert ask("nothing.lab", "mx")["status"] == "no_name"
    assert ask(v4(NUMBERS["sink"]), "ptr")["records"] == ["mx.sink.lab"]
    assert ask(v6(10), "ptr")["records"] == ["mx.gw.lab"]


def test_explain(gw):
    def tell(to, ip=v4(30)):
        return gw.cli("explain", "--to", to, "--ip", ip).stdout
    assert "refused: 550 5.7.1" in tell("x@sink.lab", "192.0.2.1")
    story = tell("x@sink.lab")
    assert "to remote x@sink.lab" in story and "route default: mx" in story and "mx.sink.lab" in story
    assert f"route smart: smtp {v4(NUMBERS['smart'])}:25" in tell("x@smart.lab")
    assert f"route fake_lmtp: lmtp {v4(NUMBERS['lmtp'])}:24" in tell("x@lmtp.lab")
    assert "550" in tell("unknown@backedup.lab", "192.0.2.1")


def test_trace_of_relayed_mail(mail, fake, gw):
    mid = mail("x@sink.lab")
    received(fake["sink"], mid)
    story = gw.wait_trace(mid, "relayed")
    assert "mx.sink.lab" in story and "250" in story and "taken" in story, story
