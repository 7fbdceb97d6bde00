# SPDX-License-Identifier: Apache-2.0
"""What strangers try at port 25 (H26 to H29): nothing leaves, no file appears, the server stays."""
import json
import os
import smtplib

import pytest

from conftest import NUMBERS, STRANGER
from lab import v4, wait_for

LONG = "x" * 64
RECIPIENTS = [
    # other domains, plainly
    "x@sink.lab", "x@SINK.LAB", "x@sink.lab.", "postmaster@sink.lab", "x@mx.gw.lab", "x@unheard.example",
    # H28: routes and other ways to write two domains
    "@gw.lab:x@sink.lab", "@gw.lab,@mx.gw.lab:x@sink.lab", "x%sink.lab@gw.lab", "x%sink.lab@mx.gw.lab", "sink.lab!x@gw.lab",
    "sink.lab!x", "x%sink.lab", '"x@sink.lab"@gw.lab', '"x%sink.lab"@gw.lab', '"x@sink.lab"', "x@sink.lab@gw.lab", "x@gw.lab@sink.lab",
    "x%sink.lab@backedup.lab", "@backedup.lab:x@sink.lab", "x@backedup.lab", "gw.lab!sink.lab!x", "x@sink.lab%gw.lab",
    "SRS0=AAAAAAAA=AA=sink.lab=x@gw.lab", "SRS1=AAAAAAAA=gw.lab==AAAA=AA=sink.lab=x@gw.lab", "x+@sink.lab@gw.lab",
    # H29: literals and what looks like them
    f"x@[{v4(NUMBERS['sink'])}]", f"x@{v4(NUMBERS['sink'])}", "x@[127.0.0.1]", "x@[IPv6:::1]", "x@[IPv6:fe80::1%eth0]", "x@[IPv6:",
    "x@[IPv6:fd77::a]", "x@[10.77.0.10]", "x@2130706433", "x@0x7f.1", "x@[]", "x@localhost", "x@", "x@.", "x@.lab", "x@a..lab",
    f"x@{LONG}.lab", "x@" + ".".join(["a" * 63] * 4), "x@" + ".".join(["a" * 63] * 5), "x@-sink.lab", "x@sink_.lab", "x@sink.lab\t",
    # H26, H27: what a shell, a file system or a program might take for something else
    ";sh;@gw.lab", "`id`@gw.lab", "$(id)@gw.lab", "|touch /tmp/x@gw.lab", '"|touch /tmp/x"@gw.lab', "/etc/x@gw.lab", '"/etc/x"@gw.lab',
    ":include:/etc/passwd@gw.lab", '":include:/etc/passwd"@gw.lab', "-oQ/tmp@gw.lab", "-x@-sink.lab", "../../etc/x@gw.lab",
    '"../../x"@gw.lab', "a/b@gw.lab", ".@gw.lab", '""@gw.lab', '"."@gw.lab', '".."@gw.lab', f"{LONG}x@gw.lab", "y" * 1000 + "@gw.lab",
]
SENDERS = ["", "alice@gw.lab", "x@sink.lab", ";sh;@evil.example", "`id`@evil.example", "$(id)@evil.example", "|cmd@evil.example",
           "/file@evil.example", "-froot@evil.example", "@gw.lab:alice@gw.lab", '"a b"@evil.example', f"x@[{v4(STRANGER)}]"]


@pytest.fixture(scope="module")
def stranger(lab):
    return lab.host("stranger", STRANGER)


def connect(stranger, gw, name="stranger.example"):
    with stranger.inside():
        s = smtplib.SMTP(gw.address, 25, name, timeout=20)
    s.ehlo()
    return s


def counts(gw, fake):
    return sum(len(f.sessions) for f in fake.values()), gw.metric("godwit_relay_connections_total"), len(gw.queue())


def test_nobody_may_relay(stranger, gw, fake):
    before = counts(gw, fake)
    for name in ("stranger.example", "mx.gw.lab", "[127.0.0.1]", "localhost"):
        s = connect(stranger, gw, name)
        for i, to in enumerate(RECIPIENTS):
            if i % 15 == 0:    # before we are cut off for so many mistakes
                s.close()
                s = connect(stranger, gw, name)
            if s.docmd("MAIL", f"FROM:<{SENDERS[i % len(SENDERS)]}>")[0] != 250:
                assert s.docmd("MAIL", "FROM:<>")[0] == 250
            code, text = s.docmd("RCPT", f"TO:<{to}>")
            assert 500 <= code <= 559, (to, code, text)
            assert s.docmd("RSET")[0] == 250
        s.close()
    assert counts(gw, fake) == before


@pytest.mark.parametrize("sender", SENDERS)
def test_no_sender_opens_the_door(stranger, gw, fake, sender):
    s = connect(stranger, gw)
    code, _ = s.docmd("MAIL", f"FROM:<{sender}>")
    if code == 250:
        assert s.docmd("RCPT", "TO:<x@sink.lab>")[0] == 550
        assert s.docmd("DATA")[0] in (503, 554)
    else:
        assert 500 <= code <= 559
    s.close()


def test_strange_senders_are_data(stranger, gw):
    """Mail for us from addresses that shells and file systems would misread is kept as it is."""
    for sender in ["`id`@evil.example", "$id@evil.example", "|cmd@evil.example", "/file@evil.example", "-froot@evil.example"]:
        s = connect(stranger, gw)
        s.sendmail(sender, ["carol@gw.lab"], b"Subject: s\r\n\r\nx\r\n")
        s.quit()
    wanted = [b"Return-Path: <`id`@evil.example>", b"Return-Path: <-froot@evil.example>", b"Return-Path: </file@evil.example>"]
    wait_for(lambda: all(any(w in m for m in gw.messages("carol@gw.lab")) for w in wanted), 20, "the mail")


def test_explain_agrees(gw):
    for to in ("x@sink.lab", "x%sink.lab@gw.lab"):
        assert "refused: 550" in gw.cli("explain", "--to", to, "--ip", v4(STRANGER)).stdout
    assert all(p["restarts"] == 0 for p in json.loads(gw.cli("status", "--json").stdout))


def test_nothing_outside_its_folder(gw):
    assert sorted(os.listdir(gw.dir / "mail")) == ["gw.lab"]
    assert set(os.listdir(gw.dir / "mail" / "gw.lab")) <= {"alice", "carol", "postmaster"}
