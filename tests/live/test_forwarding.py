# SPDX-License-Identifier: Apache-2.0
"""Relay domains with lists, and rewritten reverse-paths: the files that lookup reads and makes."""
import base64
import hashlib
import hmac
import stat
import time

import pytest
from godwit import Server

SECRET = "a secret for this test"
LIST = "# who exists there\nann\nBob@Relayed.example\n\n  carol+x@relayed.example  \r\nx@elsewhere.example\nnot an address\n"


def rewritten(address, days_ago=0, secret=SECRET, domain="example.org"):
    """SRS0 by another implementation than the one that is tested."""
    local, at = address.rsplit("@", 1)
    day = int(time.time() / 86400 - days_ago) % 1024
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    signed = f"{letters[day >> 5]}{letters[day & 31]}={at}={local}"
    mac = hmac.new(secret.encode(), b"SRS0" + signed.lower().encode(), hashlib.sha256).digest()
    return f"SRS0={base64.b32encode(mac)[:8].decode()}={signed}@{domain}"


@pytest.fixture(scope="module")
def server():
    with Server(start=False) as s:
        recipients, secret = s.base / "recipients", s.base / "secret"
        recipients.write_text(LIST)
        secret.write_text(f"# the first signs\nanother secret, newer\n{SECRET}\n")
        secret.chmod(0o644)
        with s.conf.open("a") as conf:
            conf.write(f'relay_domain relayed.example {{ recipients "{recipients}"; }}\n'
                       f'srs_secret "{secret}";\n')
        yield s.start()


def rcpt(server, address):
    with server.smtp() as s:
        s.ehlo()
        assert s.mail("bob@example.net")[0] == 250
        return s.rcpt(address)


@pytest.mark.parametrize("address, code", [
    ("ann@relayed.example", 250), ("Ann@Relayed.Example", 250), ("bob@relayed.example", 250),
    ("bob+news@relayed.example", 250), ("carol+x@relayed.example", 250), ("postmaster@relayed.example", 250),
    ("carol@relayed.example", 550), ("nobody@relayed.example", 550), ("x@elsewhere.example", 550),
])
def test_relay_domain_has_a_list(server, address, code):
    assert rcpt(server, address)[0] == code


def test_bad_lines_are_named(server):
    log = server.log()
    assert log.count("an address of this domain") == 2, log


def test_bounces_come_back(server):
    assert rcpt(server, rewritten("carol@elsewhere.example"))[0] == 250
    assert rcpt(server, rewritten("carol@elsewhere.example", days_ago=20).lower())[0] == 250
    long_one = rewritten("bounces+" + "v" * 60 + "@elsewhere.example")
    assert len(long_one.split("@")[0]) > 64
    assert rcpt(server, long_one)[0] == 250


def test_forged_and_old_ones_do_not(server):
    code, text = rcpt(server, rewritten("carol@elsewhere.example", days_ago=30))
    assert code == 550 and b"expired" in text
    code, text = rcpt(server, rewritten("carol@elsewhere.example", secret="somebody else's secret"))
    assert code == 550 and b"not made by this server" in text
    code, text = rcpt(server, rewritten("carol@elsewhere.example", domain="example.net"))
    assert code == 550 and text.startswith(b"5.7.1")


def test_a_secret_that_all_may_read_is_named(server):
    assert "srs_secret_exposed" in server.log()


def test_an_alias_may_lead_away(server):
    server.cli("alias", "add", "away@example.org", "Some.One@Elsewhere.Example")
    told = server.cli("explain", "--to", "away@example.org", "--ip", "192.0.2.1").stdout
    assert "to remote Some.One@elsewhere.example" in told
    assert rcpt(server, "away@example.org")[0] == 250


def test_the_operator_may_send_anywhere(server):
    server.cli("send", "-f", "ann@example.org", "x@elsewhere.example", input="Subject: x\n\nx\n")
    assert "x@elsewhere.example" in server.cli("queue", "list").stdout
    told = server.cli("explain", "--to", "x@elsewhere.example").stdout
    assert "refused: 550 5.7.1" in told  # 127.0.0.1 is a client like any other


def test_makes_a_secret_of_its_own():
    with Server() as s:
        path = s.base / "state" / "accounts" / "srs_secret"
        secret = path.read_text().strip()
        assert len(secret) == 64 and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "srs_secret_exposed" not in s.log()
        assert rcpt(s, rewritten("carol@elsewhere.example", secret=secret))[0] == 250
        assert s.stop() == 0
        s.start()
        assert path.read_text().strip() == secret
        assert "srs_secret_exposed" not in s.log()
        assert rcpt(s, rewritten("carol@elsewhere.example", secret=secret))[0] == 250
