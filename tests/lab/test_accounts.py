# SPDX-License-Identifier: Apache-2.0
"""Accounts and passwords of a real Dovecot, by its sockets auth-client and auth-userdb."""
import smtplib

import pytest

from lab import DOVECOT_PASSWORD, wait_for


def submission(desk, gw):
    with desk.host.inside():
        c = smtplib.SMTP(gw.address, 587, "desk.lab", timeout=30)
    c.ehlo()
    return c


def rcpt(desk, gw, address):
    with desk.connect(gw) as c:
        c.ehlo()
        c.docmd("MAIL FROM:<alice@gw.lab>")
        return c.docmd(f"RCPT TO:<{address}>")[0]


def test_who_exists(desk, gw, dovecot):
    wait_for(lambda: rcpt(desk, gw, "eve@users.dovecot.lab") == 250, 20, "Dovecot's auth to be asked")
    assert rcpt(desk, gw, "Fay+tag@Users.dovecot.lab") == 250
    assert rcpt(desk, gw, "nobody@users.dovecot.lab") == 550
    assert rcpt(desk, gw, '"a b\\"c"@users.dovecot.lab') == 550


def test_who_logs_in(desk, gw, dovecot):
    for mechanism in ("PLAIN", "LOGIN"):
        c = submission(desk, gw)
        c.user, c.password = "eve@users.dovecot.lab", DOVECOT_PASSWORD
        assert c.auth(mechanism, getattr(c, f"auth_{mechanism.lower()}"))[0] == 235
        c.close()
    for user, password in (("eve@users.dovecot.lab", "wrong"), ("nobody@users.dovecot.lab", DOVECOT_PASSWORD)):
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            submission(desk, gw).login(user, password)
        assert refused.value.smtp_code == 535


def test_mail_of_such_an_account(desk, gw, dovecot):
    c = submission(desk, gw)
    c.login("eve@users.dovecot.lab", DOVECOT_PASSWORD)
    mid, text = desk.text(to="fay@users.dovecot.lab")
    assert c.docmd("MAIL FROM:<fay@users.dovecot.lab>")[0] == 550
    c.sendmail("eve@users.dovecot.lab", ["fay@users.dovecot.lab"], text)
    assert "Saved" in gw.wait_trace(mid, "delivered")
