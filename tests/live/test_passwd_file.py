# SPDX-License-Identifier: Apache-2.0
"""`accounts passwd_file`: Dovecot's file instead of the database, read again when it changes."""
import base64
import crypt  # pylint: disable=deprecated-module
import hashlib
import hmac
import os
import pathlib
import smtplib
import statistics
import subprocess
import tempfile
import time

import pytest
from godwit import GODWIT, Server, free_port, wait_for
from test_submission import b64, client, scram

PASSWORD = "correct horse"
# made by argon2(1): echo -n 'correct horse' | argon2 somesaltsomesalt -id -t 2 -k 19456 -p 2 -l 32 -e
ARGON2ID = "$argon2id$v=19$m=19456,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$1lllPIVvRhHBLq+fZAaqSVu6vt4mR2I9QEvtxXc3Er4"
ARGON2I = "$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$1/eIeJ0nUgcxg/1AfmzkamUE6zoxjEV04DP4mGuRShA"


def scram_keys(password):
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return "{SCRAM-SHA-256}4096," + ",".join(b64(x) for x in (salt, stored, hmac.digest(salted, b"Server Key", "sha256")))


def write(path, text):
    """As an editor does: a new file in the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def login(server, user, password):
    """The reply code."""
    c = client(server)
    code = c.docmd("AUTH PLAIN " + b64(f"\0{user}\0{password}"))[0]
    c.close()
    return code


def rcpt(server, address):
    c = server.smtp()
    c.ehlo()
    c.docmd("MAIL FROM:<x@elsewhere.example>")
    reply = c.docmd(f"RCPT TO:<{address}>")
    c.close()
    return reply[0]


@pytest.fixture(name="server")
def make_server():
    yield from serve("")


def serve(word):
    with tempfile.TemporaryDirectory(prefix="godwit-users.") as directory:
        os.chmod(directory, 0o700)  # only master can pass
        path = pathlib.Path(directory) / "users"
        path.write_text(
            f"# users of all domains\n\nalice:{{SHA512-CRYPT}}{crypt.crypt(PASSWORD, '$6$saltsalt')}:1000:1000::/home/alice::userdb_quota=1G\n"
            f"Bob@Example.org:{{ARGON2ID}}{ARGON2ID}\nivan:{{ARGON2I}}{ARGON2I}::::::\n"
            f"carol@example.org:{scram_keys(PASSWORD)}::::::\n"
            "plain@example.org:{PLAIN}correct horse\nlocked@example.org:*\nnologin:{BLF-CRYPT}$2y$05$x::::::nologin=y\n"
            "no colon here\nother@elsewhere.example:{PLAIN}x\n:{CRYPT}$6$x\nalice@example.org:again\n")
        os.chmod(path, 0o600)
        port = free_port()
        extra = (f"domain example.org {{ accounts passwd_file {path}{word}; }}\ndomain example.com {{ }}\n"
                 f"listen submission {{ address 127.0.0.1:{port}; auth required; auth_in_clear yes; }}")
        with Server(extra, domains=()) as server:
            server.submission = port
            server.users = path
            yield server


@pytest.fixture(name="scram_server")
def make_scram_server():
    yield from serve(" scram")


def test_who_exists_and_who_logs_in(server):
    for user in ("alice", "bob", "ivan", "carol", "plain", "locked", "nologin", "alice+tag", "postmaster"):
        assert rcpt(server, f"{user}@example.org") == 250, user
    for user in ("dave", "no", "other"):
        assert rcpt(server, f"{user}@example.org") == 550, user
    for user in ("alice@example.org", "alice", "bob@example.org", "BOB@Example.ORG", "ivan", "carol@example.org"):
        assert login(server, user, PASSWORD) == 235, user
    for i, user in enumerate(("alice", "bob", "ivan", "carol", "plain", "locked", "nologin", "dave")):
        assert login(server, user, f"wrong {i}") == 535, user
    assert login(server, "plain", "correct horse") in (535, 454)
    log = server.log()
    for line, words in ((7, "not safe"), (9, "nologin"), (10, "expected user"), (12, "neither a local part"), (13, "twice")):
        assert f"line={line} " in log and words in log, (line, words, log)
    assert "line=11 " not in log and "line=8 " not in log  # of another domain; locked
    assert PASSWORD not in log
    c = client(server)
    c.login("alice@example.org", PASSWORD)
    c.sendmail("alice@example.org", ["bob@example.org", "someone@elsewhere.example"], "Subject: x\r\n\r\ntext\r\n")
    assert c.docmd("MAIL FROM:<bob@example.org>")[0] == 550
    server.wait_messages("bob@example.org", 1)


def test_scram_is_offered_where_it_can_be(server):
    c = client(server)
    assert c.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]


def test_scram(scram_server):
    c = client(scram_server)
    assert "SCRAM-SHA-256" in c.esmtp_features["auth"]
    assert scram(c, "SCRAM-SHA-256", "carol@example.org", "wrong") == 535
    assert scram(c, "SCRAM-SHA-256", "carol@example.org", PASSWORD) == 235
    c.close()
    seen = set()
    for _ in range(2):  # what is made up for nobody stays the same (H65)
        c = client(scram_server)
        text = base64.b64decode(c.docmd("AUTH", "SCRAM-SHA-256 " + b64("n,,n=nobody@example.org,r=abc"))[1])
        seen.add(text.split(b",s=")[1])
        c.close()
    assert len(seen) == 1


def test_changes_are_noticed(server):
    assert rcpt(server, "dave@example.org") == 550  # smtpd remembers that
    assert login(server, "alice", PASSWORD) == 235   # lookup remembers that
    c = client(server)
    c.login("alice@example.org", PASSWORD)
    text = "".join(line for line in server.users.read_text().splitlines(True) if not line.startswith("alice"))
    write(server.users, text + f"dave:{{SHA512-CRYPT}}{crypt.crypt('other horse', '$6$saltsalt')}\n")
    wait_for(lambda: rcpt(server, "dave@example.org") == 250, 10, "the file to be read again")
    assert login(server, "dave", "other horse") == 235
    assert login(server, "alice", PASSWORD) == 535
    assert rcpt(server, "alice@example.org") == 550
    # an account that is gone can no longer relay, though its session lives
    assert c.docmd("MAIL FROM:<alice@example.org>")[0] == 250
    assert c.docmd("RCPT TO:<someone@elsewhere.example>")[0] == 550


def test_a_bad_file_changes_nothing(server):
    for accident in ("", "# nothing\n", "someone@elsewhere.example:{PLAIN}x\n", "\0\1\2garbage\n" * 1000):
        write(server.users, accident)
        done = server.cli("reload", check=False)
        assert done.returncode == 78 and "stays in use" in done.stderr
        assert rcpt(server, "alice@example.org") == 250
        assert login(server, "alice", PASSWORD) == 235
    os.unlink(server.users)
    assert server.cli("reload", check=False).returncode == 78
    assert rcpt(server, "alice@example.org") == 250
    assert "accounts_failed" in server.log()
    # without anything that was read before nobody is told that there is no such user
    lookup = next(p["pid"] for p in server.status() if p["role"] == "lookup")
    os.kill(lookup, 9)
    wait_for(lambda: rcpt(server, "nobody@example.com") == 550, 20, "lookup to be back")
    assert rcpt(server, "alice@example.org") == rcpt(server, "nobody@example.org") == 451
    assert login(server, "alice", PASSWORD) == 454
    write(server.users, f"alice:{{SHA512-CRYPT}}{crypt.crypt(PASSWORD, '$6$saltsalt')}\n")
    wait_for(lambda: rcpt(server, "alice@example.org") == 250, 10, "the file to be found")
    assert rcpt(server, "nobody@example.org") == 550
    assert login(server, "alice", PASSWORD) == 235


def test_nobody_learns_who_exists(server):
    """H65: known to the file, unknown to it, and of the database: a "no" takes the same time."""
    times = {"bob@example.org": [], "nobody@example.org": [], "nobody@example.com": []}
    for i in range(3):
        for user, list_of in times.items():
            c = smtplib.SMTP("127.0.0.1", server.submission, "client", timeout=30, source_address=(f"127.0.3.{i + 1}", 0))
            c.ehlo()
            start = time.monotonic()
            assert c.docmd("AUTH PLAIN " + b64(f"\0{user}\0wrong"))[0] == 535
            list_of.append(time.monotonic() - start)
            c.close()
    medians = [statistics.median(v) for v in times.values()]
    assert min(medians) >= 0.29


def test_the_command_line_says_so(server):
    for args in (("account", "add", "new@example.org"), ("account", "passwd", "alice@example.org"), ("account", "app", "add", "alice@example.org", "phone")):
        done = server.cli(*args, check=False, input="12345678\n")
        assert done.returncode == 65 and f"kept elsewhere: passwd_file {server.users}" in done.stderr, done
    done = server.cli("account", "list")
    assert f"the accounts of example.org are kept elsewhere: passwd_file {server.users}" in done.stderr
    server.cli("account", "add", "new@example.com")
    assert "account" in server.cli("explain", "--from", "x@y.example", "--to", "alice@example.org").stdout
    server.cli("check")
    os.unlink(server.users)
    done = server.cli("check", check=False)
    assert done.returncode == 78
    assert f"{server.conf}:5:43: cannot read {server.users}: there is no such file" in done.stderr


def test_check_names_mistakes(tmp_path):
    conf = tmp_path / "c"
    conf.write_text("hostname a.example;\nlisten x { address *:25; }\ndomain a.org { accounts passwd_file users; }\n"
                    "domain b.org { accounts ldap; }\ndomain c.org { accounts dovecot unix:/a; }\ndomain d.org { accounts dovecot /a unix:/b; }\n")
    done = subprocess.run([GODWIT, "check", "-c", str(conf)], capture_output=True, text=True, check=False)
    for place in ("3:37: 'users'", "4:25: 'ldap'", "5:16: accounts dovecot takes two", "6:33: '/a'"):
        assert f"{conf}:{place}" in done.stderr, done.stderr
