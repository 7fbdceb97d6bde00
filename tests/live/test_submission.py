# SPDX-License-Identifier: Apache-2.0
"""Submission (RFC 6409) against a whole server: accounts, passwords, SCRAM, what an account may do."""
import base64
import hashlib
import hmac
import os
import smtplib
import ssl
import statistics
import subprocess
import time

import pytest
from godwit import GODWIT, Server, free_port

PASSWORD = "correct horse"


@pytest.fixture(name="server")
def make_server():
    port = free_port()
    extra = f"listen submission {{ address 127.0.0.1:{port}; auth required; auth_in_clear yes; }}"
    with Server(extra) as server:
        server.submission = port
        server.account("alice@example.org", "bob@example.org")
        server.cli("account", "passwd", "alice@example.org", input=PASSWORD + "\n")
        server.cli("alias", "add", "sales@example.org", "alice@example.org")
        yield server


def client(server):
    c = smtplib.SMTP("127.0.0.1", server.submission, "client.example.net", timeout=30)
    c.ehlo()
    return c


def b64(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def scram(c, mechanism, user, password, tamper=lambda final: final, gs2="n,,", binding=b""):
    """The client's side of RFC 5802, and the check of the server's proof."""
    digest = "sha256" if "256" in mechanism else "sha1"
    bare = f"n={user},r={b64(os.urandom(12))}"
    code, text = c.docmd("AUTH", f"{mechanism} {b64(gs2 + bare)}")
    if code != 334:
        return code
    server_first = base64.b64decode(text).decode()
    field = dict(part.split("=", 1) for part in server_first.split(","))
    salted = hashlib.pbkdf2_hmac(digest, password.encode(), base64.b64decode(field["s"]), int(field["i"]))
    client_key = hmac.digest(salted, b"Client Key", digest)
    without_proof = f"c={b64(gs2.encode() + binding)},r={field['r']}"
    auth_message = f"{bare},{server_first},{without_proof}".encode()
    signature = hmac.digest(hashlib.new(digest, client_key).digest(), auth_message, digest)
    proof = bytes(a ^ b for a, b in zip(client_key, signature))
    code, text = c.docmd(b64(tamper(f"{without_proof},p={b64(proof)}")))
    if code != 334:
        return code
    expected = hmac.digest(hmac.digest(salted, b"Server Key", digest), auth_message, digest)
    assert base64.b64decode(text) == f"v={b64(expected)}".encode()
    return c.docmd("")[0]


def test_all_mechanisms(server):
    for mechanism in ("PLAIN", "LOGIN"):
        c = client(server)
        c.user, c.password = "alice@example.org", PASSWORD
        assert c.auth(mechanism, getattr(c, f"auth_{mechanism.lower()}"))[0] == 235
        c.quit()
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
        c = client(server)
        assert scram(c, mechanism, "alice@example.org", "wrong") == 535
        assert scram(c, mechanism, "alice@example.org", PASSWORD, lambda f: f.replace("r=", "r=x")) == 535
        assert scram(c, mechanism, "alice@example.org", PASSWORD) == 235
        c.quit()


def test_what_an_account_may(server):
    told = server.cli("explain", "--account", "alice", "--from", "bob@example.org", "--to", "x@[192.0.2.1]").stdout
    assert "rule: authenticated" in told and "<bob@example.org> is not an address of alice@example.org" in told
    c = client(server)
    assert c.docmd("MAIL FROM:<alice@example.org>")[0] == 530
    c.login("alice@example.org", PASSWORD)
    assert c.docmd("MAIL FROM:<bob@example.org>")[0] == 550
    assert c.docmd("MAIL FROM:<x@elsewhere.example>")[0] == 550
    for mine in ("alice@example.org", "alice+list@example.org", "sales@example.org", ""):
        assert c.docmd(f"MAIL FROM:<{mine}>")[0] == 250
        assert c.docmd("RCPT TO:<someone@elsewhere.example>")[0] == 250
        c.rset()
    c.sendmail("alice@example.org", ["bob@example.org"], "Bcc: hidden@example.org\r\nSubject: hello\r\n\r\ntext\r\n")
    c.quit()
    text = server.wait_messages("bob@example.org", 1)[0].read_text()
    assert " with ESMTPA id " in text and "\nDate: " in text and "\nMessage-ID: <" in text
    assert "hidden" not in text


def test_app_passwords(server):
    made = server.cli("account", "app", "add", "alice@example.org", "phone").stdout.strip()
    assert len(made) == 24
    c = client(server)
    assert c.login("alice@example.org", made)[0] == 235
    c.quit()
    c = client(server)
    assert scram(c, "SCRAM-SHA-256", "alice@example.org", made) == 235
    c.quit()
    assert "phone" in server.cli("account", "app", "list", "alice@example.org").stdout
    server.cli("account", "app", "del", "alice@example.org", "phone")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        client(server).login("alice@example.org", made)
    assert client(server).login("alice@example.org", PASSWORD)[0] == 235


def test_old_passwords_end_at_once(server):
    c = client(server)
    c.login("alice@example.org", PASSWORD)  # it is remembered now
    server.cli("account", "passwd", "alice@example.org", input="another horse\n")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        client(server).login("alice@example.org", PASSWORD)
    assert client(server).login("alice@example.org", "another horse")[0] == 235
    # an account that is gone can no longer relay, though its session lives
    server.cli("account", "del", "alice@example.org")
    assert c.docmd("MAIL FROM:<alice@example.org>")[0] == 250
    assert c.docmd("RCPT TO:<someone@elsewhere.example>")[0] == 550


def test_passwords_are_nowhere(server):
    c = client(server)
    c.login("alice@example.org", PASSWORD)
    with pytest.raises(smtplib.SMTPAuthenticationError):
        client(server).login("alice@example.org", "secret-that-is-wrong")
    time.sleep(1.5)  # refusals are told once a second
    everything = server.log() + server.cli("trace", "alice@example.org").stdout
    for secret in (PASSWORD, "secret-that-is-wrong", b64("\0alice@example.org\0" + PASSWORD), b64("secret-that-is-wrong")):
        assert secret not in everything
    assert "535" in everything
    done = subprocess.run([GODWIT, "account", "passwd", "alice@example.org", "horse in the list", "-c", str(server.conf)],
                          capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 64


def test_nobody_learns_who_exists(server):
    """H65: a "no" takes the same time for accounts that exist and for others."""
    times = {"alice@example.org": [], "nobody@example.org": []}
    for _ in range(3):  # from the fourth wrong one on, answers become slower
        for user, list_of in times.items():
            c = smtplib.SMTP("127.0.0.1", server.submission, "client", timeout=30, source_address=(f"127.0.1.{len(list_of) + 1}", 0))
            c.ehlo()
            start = time.monotonic()
            code = c.docmd("AUTH PLAIN " + b64(f"\0{user}\0wrong"))[0]
            list_of.append(time.monotonic() - start)
            assert code == 535
            c.close()
    known, unknown = (statistics.median(v) for v in times.values())
    assert min(known, unknown) >= 0.29
    salts = set()
    for _ in range(2):
        c = client(server)
        text = c.docmd("AUTH", "SCRAM-SHA-256 " + b64("n,,n=nobody@example.org,r=abc"))[1]
        salts.add(base64.b64decode(text).split(b",s=")[1])
        c.close()
    assert len(salts) == 1


def test_guessing_is_slow(server):
    """H67: whoever guesses waits longer and longer; the owner gets in meanwhile, from somewhere else."""
    assert client(server).login("alice@example.org", PASSWORD)[0] == 235
    c = smtplib.SMTP("127.0.0.1", server.submission, "client", timeout=60, source_address=("127.0.2.1", 0))
    c.ehlo()
    took = []
    for i in range(8):
        start = time.monotonic()
        assert c.docmd("AUTH PLAIN " + b64(f"\0alice@example.org\0guess{i}"))[0] == 535
        took.append(time.monotonic() - start)
    c.close()
    assert took[7] > took[0] + 0.5
    start = time.monotonic()
    assert client(server).login("alice@example.org", PASSWORD)[0] == 235
    assert time.monotonic() - start < 0.5


def test_limits_of_an_account(server):
    """H68: so much an hour; what is beyond is put off with a reason, and the operator hears of it."""
    server.stop()
    server.conf.write_text(server.conf.read_text() + "limits { account_messages 3; account_recipients 10; }\n")
    server.start()
    c = client(server)
    c.login("alice@example.org", PASSWORD)
    for _ in range(3):
        c.sendmail("alice@example.org", ["bob@example.org"], "Subject: x\r\n\r\n")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        c.sendmail("alice@example.org", ["bob@example.org"], "Subject: x\r\n\r\n")
    assert refused.value.smtp_code == 451 and b"3 messages an hour; please wait 20 minutes" in refused.value.smtp_error
    assert "account_limit" in server.log()
    assert "451" in server.cli("trace", "alice@example.org").stdout or time.sleep(1.2) or "451" in server.cli("trace", "alice@example.org").stdout
    server.wait_messages("bob@example.org", 3)


def encrypted(server):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the server's own, made at its first start
    c = client(server)
    assert c.starttls(context=context)[0] == 220
    c.ehlo()
    return c


def test_logins_are_bound_to_the_connection(server):
    """H66: -PLUS is offered under TLS; another connection's certificate, or a client that was told of no -PLUS, is refused."""
    c = encrypted(server)
    assert "SCRAM-SHA-256-PLUS" in c.esmtp_features["auth"] and "starttls" not in c.esmtp_features
    certificate = c.sock.getpeercert(binary_form=True)
    binding = hashlib.sha256(certificate).digest()
    plus = {"gs2": "p=tls-server-end-point,,", "binding": binding}
    assert scram(c, "SCRAM-SHA-256-PLUS", "alice@example.org", PASSWORD, gs2=plus["gs2"], binding=b"x" * 32) == 535
    assert scram(c, "SCRAM-SHA-256", "alice@example.org", PASSWORD, gs2="y,,") == 535
    assert scram(c, "SCRAM-SHA-256-PLUS", "alice@example.org", PASSWORD) == 535
    assert scram(c, "SCRAM-SHA-256", "alice@example.org", PASSWORD, **plus) == 535
    assert scram(c, "SCRAM-SHA-256-PLUS", "alice@example.org", PASSWORD, **plus) == 235
    c.sendmail("alice@example.org", ["bob@example.org"], "Subject: x\r\n\r\n")
    c.quit()
    assert " with ESMTPSA" in server.wait_messages("bob@example.org", 1)[0].read_text()


def test_tls_forgets_who_logged_in_before(server):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    c = client(server)
    c.login("alice@example.org", PASSWORD)
    assert c.starttls(context=context)[0] == 220
    c.ehlo()
    assert c.docmd("MAIL FROM:<alice@example.org>")[0] == 530


def test_held_for_its_sender(server):
    """FUTURERELEASE (RFC 4865): offered after AUTH; the message waits, over a restart too, and then goes."""
    c = client(server)
    assert not c.has_extn("futurerelease")
    c.login("alice@example.org", PASSWORD)
    c.ehlo()
    assert c.esmtp_features["futurerelease"].split()[0] == str(30 * 86400)
    c.sendmail("alice@example.org", ["bob@example.org"], "Subject: later\r\n\r\n", mail_options=["HOLDFOR=6"])
    start = time.monotonic()
    c.quit()
    server.stop()
    server.start()
    row = server.queue()[0] if isinstance(server.queue(), list) else server.queue()["rows"][0]
    assert "bob@example.org" in str(row)
    assert not server.messages("bob@example.org")
    server.wait_messages("bob@example.org", 1)
    assert time.monotonic() - start > 4
