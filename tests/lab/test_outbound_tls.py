# SPDX-License-Identifier: Apache-2.0
"""TLS towards other servers: what is encrypted, what is verified, and what waits rather than to go in clear."""
import email
import subprocess

import pytest

from lab import GODWIT, wait_for
from test_peers import at, submit
from test_relay import received


def waits(gw, fake, name, mid, *reasons):
    """It is deferred with these words, and the server has heard nothing of the message."""
    trace = gw.wait_trace(mid, "deferred")
    for reason in reasons:
        assert reason in trace, trace
    assert "4.7." in trace
    for session in fake[name].sessions:
        assert not any(c.upper().startswith(("MAIL", "RCPT", "DATA")) for c in session.commands), session.commands
    assert not fake[name].messages
    gw.cli("queue", "drop", f"x@{name}.lab")


# ---- opportunistic (RFC 7435) ---------------------------------------------------------------------------

def test_any_certificate_is_better_than_none(mail, gw, fake):
    mid = mail("x@tself.lab")
    assert received(fake["tself"], mid).encrypted
    assert "mx.tself.lab [10.77.0." in gw.wait_trace(mid, ":25, TLSv1.3, not verified")


def test_no_tls_offered(mail, gw, fake):
    mid = mail("x@sink.lab")
    assert not received(fake["sink"], mid).encrypted
    gw.wait_trace(mid, ", in clear")


def test_broken_tls_once_more_without(mail, gw, fake):
    mid = mail("x@tbroken.lab")
    assert not received(fake["tbroken"], mid).encrypted
    gw.wait_trace(mid, ", in clear since TLS failed")
    assert len(fake["tbroken"].sessions) == 2
    assert "relay_tls_failed" in gw.log()


def test_words_in_clear_behind_starttls(mail, gw, fake):
    """H16"""
    waits(gw, fake, "tinject", mail("x@tinject.lab"), "meddles")


# ---- required, verify ------------------------------------------------------------------------------------

def test_required_and_not_offered(mail, gw, fake):
    waits(gw, fake, "tnone", mail("x@tnone.lab"), "does not offer TLS", "the route demands it")


def test_verified(mail, gw, fake):
    mid = mail("x@tverify.lab")
    assert received(fake["tverify"], mid).encrypted
    gw.wait_trace(mid, "TLSv1.3, verified by its authority")


def test_another_name(mail, gw, fake):
    waits(gw, fake, "twrong", mail("x@twrong.lab"), "hostname mismatch")


def test_tls_from_the_first_byte(mail, gw, fake):
    mid = mail("x@tfirst.lab")
    assert received(fake["tfirst"], mid).encrypted
    gw.wait_trace(mid, ":465, TLSv1.3, verified by its authority")


# ---- DANE (RFC 7672, H62) --------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["dgood", "dauthority"])
def test_dane(mail, gw, fake, name):
    mid = mail(f"x@{name}.lab")
    assert received(fake[name], mid).encrypted
    gw.wait_trace(mid, "TLSv1.3, verified by DANE")


def test_no_usable_record(mail, gw, fake):
    mid = mail("x@duseless.lab")
    assert received(fake["duseless"], mid).encrypted
    gw.wait_trace(mid, "TLSv1.3, not verified")


@pytest.mark.parametrize("name, reason", [("dbad", "TLS failed: the server's certificate"), ("dexpired", "expired"), ("dname", "hostname mismatch"),
                                          ("dstrip", "does not offer TLS"), ("dbroken", "TLS failed")])
def test_dane_is_not_satisfied(mail, gw, fake, name, reason):
    waits(gw, fake, name, mail(f"x@{name}.lab"), reason, "(DANE)")


def test_bogus_records(mail, gw, fake):
    waits(gw, fake, "dbogus", mail("x@dbogus.lab"), "not valid (DNSSEC)")
    assert not fake["dbogus"].sessions


# ---- other people's servers ------------------------------------------------------------------------------

def test_postfix(desk, gw, postfix):
    mid, _ = submit(desk, gw, "bob@postfix.lab", "Hello.\n")
    message = email.message_from_bytes(at(postfix, "bob", mid))
    assert "using TLSv1.3" in " ".join(message.get_all("Received")[0].split())
    gw.wait_trace(mid, "TLSv1.3, verified by DANE")


def test_exim(desk, gw, exim):
    mid, _ = submit(desk, gw, "ann@exim.lab", "Hello.\n")
    message = email.message_from_bytes(at(exim, "ann", mid))
    assert "esmtps" in " ".join(message.get_all("Received")[0].split())
    gw.wait_trace(mid, "TLSv1.3, verified by DANE")


def test_one_connection_for_several(mail, gw, fake):
    """Kept encrypted between messages."""
    before = len(fake["dgood"].sessions)
    for _ in range(3):
        assert received(fake["dgood"], mail("x@dgood.lab")).encrypted
    # one a relay process at most
    processes = gw.cli("status", "--json").stdout.count('"relay"')
    assert wait_for(lambda: len(fake["dgood"].sessions) - before <= processes, 5, "connections used again")


# ---- smart hosts that want us to log in (RFC 4954) --------------------------------------------------------

def test_scram(mail, gw, fake):
    mid = mail("x@tlogin.lab")
    assert received(fake["tlogin"], mid).encrypted
    gw.wait_trace(mid, ":587, TLSv1.3, verified by its authority")


def test_a_wrong_password_is_no_bounce(mail, gw, fake):
    mid = mail("x@twrongpass.lab")
    waits(gw, fake, "twrongpass", mid, "we could not log in: wrong")
    assert "relay_auth_failed" in gw.log() and not gw.queue("x@twrongpass.lab")


def test_no_password_in_the_log_or_the_trace(mail, gw, fake):
    """P4"""
    mid = mail("x@tlogin.lab")
    received(fake["tlogin"], mid)
    for text in (gw.log(), gw.trace(mid)):
        assert "lab-secret" not in text and "another-secret" not in text


def test_check_looks_at_files(tmp_path):
    secret, conf = tmp_path / "secret", tmp_path / "conf"
    secret.write_text("x\n")
    secret.chmod(0o644)
    conf.write_text(f'hostname a.lab; listen smtp {{ address *:25; }} route default {{ via smtp b.lab:587; tls verify; auth a "{secret}"; }}\n')
    done = subprocess.run([GODWIT, "check", "-c", str(conf)], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "chmod 600" in done.stdout + done.stderr
    secret.chmod(0o600)
    done = subprocess.run([GODWIT, "check", "-c", str(conf)], capture_output=True, text=True, check=False)
    assert "chmod" not in done.stdout + done.stderr
    conf.write_text(conf.read_text().replace(f'auth a "{secret}"', f'tls_ca "{tmp_path}/none"'))
    done = subprocess.run([GODWIT, "check", "-c", str(conf)], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "tls_ca cannot be read" in done.stdout + done.stderr
