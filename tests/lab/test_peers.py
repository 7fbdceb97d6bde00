# SPDX-License-Identifier: Apache-2.0
"""Other people's mail servers: Postfix, Exim and, by LMTP, Dovecot. What goes in comes out byte for byte."""
import email
import email.policy
import re

import pytest

from lab import wait_for
from test_relay import failed

BODIES = {
    "plain": "Hello.\n",
    "empty": "",
    "dots": ".\n..\n...\n.x\n\n.\n",
    "lines of 998": ("y" * 998 + "\n") * 20,
    "blanks": "  leading\ntrailing  \n\t\n\n\n",
    "eight bits": "Grüße: ä ö ü € 漢字\n" * 50,
    "big": "".join(f"line {i} of a big message ...................................\n" for i in range(25000)),
}


def at(peer, user, mid, seconds=25):
    """The message with this id in a peer's mailbox."""
    def there():
        return [m for m in peer.messages(user) if f"<{mid}>".encode() in m]
    try:
        return wait_for(there, seconds, f"{mid} for {user} at {peer.name}")[0]
    except AssertionError as e:
        raise AssertionError(f"{e}\n{peer.log()}") from None


def same_bytes(got, sent):
    """What a mailbox has ends with all that was sent; before it are trace fields alone."""
    sent = sent.replace(b"\r\n", b"\n")
    assert got.endswith(sent), (got[:3000], sent[:500])
    head = email.message_from_bytes(got[:len(got) - len(sent)] + b"\n")
    assert not head.defects
    assert set(head.keys()) <= {"Return-Path", "Delivered-To", "Delivery-date", "Envelope-To", "Envelope-to", "X-Original-To", "Received",
                                "Return-path"}, head.keys()
    return head


def submit(desk, server, to, body, sender="alice@gw.lab"):
    mid, text = desk.text(body, to=to)
    eight = ["BODY=8BITMIME"] if not text.isascii() else []
    desk.send(server, [to], text, sender, eight)
    return mid, text


@pytest.mark.parametrize("kind", BODIES)
def test_postfix_to_exim_through_godwit(desk, gw, postfix, exim, kind):
    mid, sent = submit(desk, postfix, "ann@exim.lab", BODIES[kind])
    head = same_bytes(at(exim, "ann", mid), sent)
    received = [" ".join(r.split()) for r in head.get_all("Received")]
    assert len(received) == 3, received
    assert "by mx.exim.lab" in received[0] and "helo=mx.gw.lab" in received[0]
    assert "by mx.gw.lab" in received[1] and "from mx.postfix.lab" in received[1]
    assert head["Return-path"] == "<alice@gw.lab>"
    assert "mx.exim.lab" in gw.wait_trace(mid, "relayed")


@pytest.mark.parametrize("kind", BODIES)
def test_exim_to_postfix_through_godwit(desk, gw, postfix, exim, kind):
    mid, sent = submit(desk, exim, "bob@postfix.lab", BODIES[kind])
    head = same_bytes(at(postfix, "bob", mid), sent)
    received = [" ".join(r.split()) for r in head.get_all("Received")]
    assert len(received) == 3, received
    assert "by mx.postfix.lab" in received[0] and "from mx.gw.lab" in received[0]
    assert "by mx.gw.lab" in received[1] and "from mx.exim.lab" in received[1]


def test_godwit_to_both_at_once(desk, gw, postfix, exim):
    mid, text = desk.text()
    assert desk.send(gw, ["bob@postfix.lab", "ann@exim.lab", "carol@gw.lab", "dora@exim.lab"], text) == {}
    for peer, user in ((postfix, "bob"), (exim, "ann"), (exim, "dora")):
        same_bytes(at(peer, user, mid), text)
    wait_for(lambda: [m for m in gw.messages("carol@gw.lab") if f"<{mid}>".encode() in m], 20, "the local one")


def test_a_refusal_comes_back_to_a_peer(desk, gw, postfix, exim):
    """carol@postfix.lab writes to nobody@exim.lab: godwit's report is read by Python and taken by Postfix."""
    mid, _ = submit(desk, gw, "nobody@exim.lab", "Hello.\n", "carol@postfix.lab")

    def there():
        return [m for m in postfix.messages("carol") if b"multipart/report" in m and f"<{mid}>".encode() in m]
    raw = wait_for(there, 25, "the report")[0]
    fields = failed(raw)
    assert fields["Final-Recipient"] == "rfc822; nobody@exim.lab" and fields["Action"] == "failed"
    assert fields["Status"].startswith("5.") and fields["Diagnostic-Code"].startswith("smtp; 550")
    assert fields["Remote-MTA"].startswith("dns; mx.exim.lab")
    message = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert message["Auto-Submitted"] == "auto-replied"


def test_a_peer_reports_to_us(desk, gw, postfix, fake):
    """Postfix accepts, cannot deliver, and its report reaches alice's mailbox."""
    mid, _ = submit(desk, gw, "forward@postfix.lab", "Hello.\n")

    def there():
        return [m for m in gw.messages("alice@gw.lab") if b"multipart/report" in m and f"<{mid}>".encode() in m]
    message = email.message_from_bytes(wait_for(there, 25, "Postfix's report")[0])
    assert "by mx.gw.lab" in " ".join(message["Received"].split())
    assert "MAILER-DAEMON@mx.postfix.lab" in message["From"]


def test_srs_and_the_bounce_back(desk, gw, postfix, exim, fake):
    """ann@exim.lab -> an alias of ours -> Postfix, which bounces to the rewritten reverse-path -> ann."""
    gw.cli("alias", "add", "away@gw.lab", "forward@postfix.lab")
    mid, _ = submit(desk, gw, "away@gw.lab", "Hello.\n", "ann@exim.lab")

    def there():
        return [m for m in exim.messages("ann") if b"multipart/report" in m and f"<{mid}>".encode() in m]
    try:
        bounce = email.message_from_bytes(wait_for(there, 25, "the bounce")[0])
    except AssertionError as e:
        raise AssertionError(f"{e}\n{gw.log()[-3000:]}\n{postfix.log()}") from None
    assert bounce["Return-path"] == "<>"
    got = " ".join(bounce.as_string().split())
    assert re.search(r"SRS0=[A-Z2-7]{8}=[A-Z2-7]{2}=exim\.lab=ann@gw\.lab", got)


def test_an_alias_that_works(desk, gw, postfix):
    gw.cli("alias", "add", "onward@gw.lab", "bob@postfix.lab")
    mid, text = submit(desk, gw, "onward@gw.lab", "Hello.\n", "x@sink.lab")
    head = same_bytes(at(postfix, "bob", mid), text)
    assert re.fullmatch(r"<SRS0=[A-Z2-7]{8}=[A-Z2-7]{2}=sink\.lab=x@gw\.lab>", head["Return-Path"])


def test_our_own_name_for_a_peer(desk, gw, exim):
    mid, _ = submit(desk, gw, "ann@exim.lab", "Hello.\n")
    got = " ".join(email.message_from_bytes(at(exim, "ann", mid)).get_all("Received")[0].split())
    assert re.match(r"from \[?(10\.77\.0\.1[05]|fd77::[af])\]? \(helo=mx\.gw\.lab\)|from mx\.gw\.lab ", got), got


# ---- LMTP ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("domain", ["tcp.dovecot.lab", "unix.dovecot.lab"])
@pytest.mark.parametrize("kind", ["plain", "dots", "eight bits", "big"])
def test_dovecot(desk, gw, dovecot, domain, kind):
    mid, text = submit(desk, gw, f"eve@{domain}", BODIES[kind])
    same_bytes(at(dovecot, "eve", mid), text)
    assert "Saved" in gw.wait_trace(mid, "delivered")


def test_dovecot_knows_one_of_two(desk, gw, dovecot, report):
    mid, text = desk.text()
    desk.send(gw, ["fay@unix.dovecot.lab", "nobody@unix.dovecot.lab"], text)
    same_bytes(at(dovecot, "fay", mid), text)
    assert failed(report(mid))["Final-Recipient"] == "rfc822; nobody@unix.dovecot.lab"
