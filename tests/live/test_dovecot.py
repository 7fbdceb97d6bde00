# SPDX-License-Identifier: Apache-2.0
"""`accounts dovecot`: passwords and accounts of a Dovecot, played by this test; good, dead, silent and hostile ones."""
import base64
import os
import pathlib
import shutil
import socket
import tempfile
import threading
import time

import pytest
from godwit import Server, free_port, wait_for
from test_passwd_file import login, rcpt
from test_submission import client

PASSWORD = "correct horse"
USERS = {"alice@example.org": PASSWORD, "bob@example.org": "b" * 900}


class Auth:
    """The two sockets of Dovecot's auth process. behave: how it answers."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.behave = "well"
        self.lines, self.connections, self.open = [], 0, []
        self.listeners = {}
        self.lock = threading.Lock()

    def start(self):
        for name in ("auth-client", "auth-userdb"):
            path = self.directory / name
            path.unlink(missing_ok=True)
            s = self.listeners[name] = socket.socket(socket.AF_UNIX)
            s.bind(str(path))
            os.chmod(path, 0o666)
            s.listen(50)
            threading.Thread(target=self.accept, args=(name, s), daemon=True).start()
        return self

    def stop(self):
        for name, s in self.listeners.items():
            s.shutdown(socket.SHUT_RDWR)
            s.close()
            (self.directory / name).unlink()
        self.drop()

    def drop(self):
        with self.lock:
            for s in self.open:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.open = []

    def accept(self, name, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.open.append(s)
            threading.Thread(target=self.serve, args=(name, s), daemon=True).start()

    def serve(self, name, s):
        try:
            if self.behave == "silent":
                s.recv(1000)
                time.sleep(60)
            if self.behave == "garbage":
                s.sendall(os.urandom(100000).replace(b"\n", b"x"))
            if self.behave == "chatter":
                s.sendall(b"VERSION\t1\t1\n" + b"MECH\tX\n" * 100000)
            if self.behave == "other version":
                s.sendall(b"VERSION\t9\t0\nSPID\t1\nDONE\n")
            s.sendall(b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t2\nCOOKIE\tab\nDONE\n" if name == "auth-client"
                      else b"VERSION\t1\t1\nSPID\t1\n")
            file = s.makefile("rb")
            assert file.readline().startswith(b"VERSION\t1\t")
            if name == "auth-client":
                assert file.readline().startswith(b"CPID\t")
            for line in file:
                self.answer(s, line.decode().rstrip("\n").split("\t"))
        except OSError:
            pass
        finally:
            s.close()

    def answer(self, s, words):
        with self.lock:
            self.lines.append(words)
        number = words[1]
        if words[0] == "USER":
            answers = f"USER\t{number}\t{words[2]}\tuid=1000\thome=/x" if words[2] in USERS else f"NOTFOUND\t{number}"
        else:
            assert words[0] == "AUTH" and words[2] == "PLAIN" and words[-1].startswith("resp="), words
            _, user, password = base64.b64decode(words[-1][5:]).decode().split("\0")
            right = USERS.get(user) == password
            answers = f"OK\t{number}\tuser={user}" if right else f"FAIL\t{number}\tuser={user}"
        if self.behave == "mute":
            return
        if self.behave == "temporary":
            answers = f"FAIL\t{number}\ttemp"
        if self.behave == "wrong ids":
            answers = f"OK\t{int(number) + 7}\nUSER\t{int(number) + 9}\tx\nUSER\t99999999999999999999\nOK\t\nFAIL\tx"
        if self.behave == "nonsense":
            answers = "\n\t\t\nWHAT\t1\tis this\n" + answers
        s.sendall(answers.encode() + b"\n")


@pytest.fixture(name="server")
def make_server():
    directory = tempfile.mkdtemp(prefix="godwit-dovecot.")
    os.chmod(directory, 0o755)
    auth = Auth(directory).start()
    port = free_port()
    extra = (f"domain example.org {{ accounts dovecot unix:{directory}/auth-client unix:{directory}/auth-userdb; }}\ndomain example.com {{ }}\n"
             f"listen submission {{ address 127.0.0.1:{port}; auth required; auth_in_clear yes; }}")
    try:
        with Server(extra, domains=()) as server:
            server.submission = port
            server.auth = auth
            server.account("here@example.com")
            server.cli("account", "passwd", "here@example.com", input=PASSWORD + "\n")
            yield server
    finally:
        auth.stop() if (auth.directory / "auth-client").exists() else None
        shutil.rmtree(directory)


def test_who_exists_and_who_logs_in(server):
    assert rcpt(server, "alice@example.org") == 250
    assert rcpt(server, "Alice+tag@Example.org") == 250
    assert rcpt(server, "nobody@example.org") == 550
    USERS["new@example.org"] = "x" * 20
    assert rcpt(server, "new@example.org") == 250
    del USERS["new@example.org"]
    assert rcpt(server, "new@example.org") == 550  # nothing is remembered that may have changed
    assert rcpt(server, "postmaster@example.org") == 250
    for user, password, code in (("alice@example.org", PASSWORD, 235), ("alice", PASSWORD, 235), ("alice@example.org", "wrong", 535),
                                 ("nobody@example.org", "wrong", 535), ("bob@example.org", "b" * 900, 235), ("here@example.com", PASSWORD, 235)):
        assert login(server, user, password) == code, user
    words = next(w for w in server.auth.lines if w[0] == "AUTH")
    assert "service=smtp" in words and "rip=127.0.0.1" in words and "nologin" in words
    assert server.auth.connections == 2
    assert client(server).esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
    c = client(server)
    c.login("alice@example.org", PASSWORD)
    c.sendmail("alice@example.org", ["bob@example.org", "x@elsewhere.example"], "Subject: x\r\n\r\ntext\r\n")
    assert c.docmd("MAIL FROM:<bob@example.org>")[0] == 550
    server.wait_messages("bob@example.org", 1)
    log = server.log()
    assert PASSWORD not in log and base64.b64encode(b"\0alice@example.org\0" + PASSWORD.encode()).decode() not in log


def test_many_at_once(server):
    server.cli("alias", "add", "all@example.com", *[f"user{i}@example.org" for i in range(100)], "alice@example.org", "here@example.com")
    USERS.update({f"user{i}@example.org": "x" for i in range(100)})
    try:
        results = []
        threads = [threading.Thread(target=lambda: results.append(rcpt(server, "all@example.com"))) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert results == [250] * 20
        assert server.auth.connections <= 2
    finally:
        for i in range(100):
            del USERS[f"user{i}@example.org"]


def temporary(server, seconds=3):
    start = time.monotonic()
    assert rcpt(server, "alice@example.org") == 451
    assert rcpt(server, "nobody@example.org") == 451
    assert login(server, "alice@example.org", PASSWORD) == 454
    assert rcpt(server, "nobody@example.com") == 550
    assert rcpt(server, "here@example.com") == 250
    assert login(server, "here@example.com", PASSWORD) == 235
    assert time.monotonic() - start < seconds, "it held up"


def works_again(server):
    server.auth.behave = "well"
    server.auth.drop()
    wait_for(lambda: rcpt(server, "alice@example.org") == 250, 10, "the new connection")
    assert rcpt(server, "nobody@example.org") == 550
    wait_for(lambda: login(server, "alice@example.org", PASSWORD) == 235, 10, "the new connection")


def test_a_dead_one_is_temporary(server):
    assert rcpt(server, "alice@example.org") == 250
    server.auth.stop()
    temporary(server)
    assert "accounts_unreachable" in server.log() and "there is no such socket" in server.log()
    server.auth.start()
    works_again(server)
    assert "accounts_reachable" in server.log()
    server.auth.drop()  # it restarts between two questions
    works_again(server)


@pytest.mark.parametrize("how", ["garbage", "chatter", "other version", "wrong ids", "temporary"])
def test_hostile_ones_are_temporary(server, how):
    server.auth.behave = how
    temporary(server, 60)
    pids = {p["pid"] for p in server.status()}
    works_again(server)
    assert pids == {p["pid"] for p in server.status()}, "nobody has died"


def test_nonsense_between_answers(server):
    server.auth.behave = "nonsense"
    assert rcpt(server, "alice@example.org") == 250
    assert login(server, "alice@example.org", PASSWORD) == 235


@pytest.mark.parametrize("how, seconds", [("silent", 8), ("mute", 23)])
def test_silent_ones_hold_nobody_up(server, how, seconds):
    server.auth.behave = how
    results = []
    start = time.monotonic()
    threads = [threading.Thread(target=lambda i=i: results.append(rcpt(server, "alice@example.org") if i % 2 else login(server, "alice@example.org", PASSWORD)))
               for i in range(10)]
    for t in threads:
        t.start()
    time.sleep(0.3)
    before = time.monotonic()
    assert rcpt(server, "here@example.com") == 250 and login(server, "here@example.com", PASSWORD) == 235
    assert time.monotonic() - before < 2
    for t in threads:
        t.join()
    assert sorted(results) == [451] * 5 + [454] * 5
    assert time.monotonic() - start < seconds
    works_again(server)


def test_many_questions_to_a_silent_one(server):
    """K2: what is beyond the bound is put off at once, and the channels to lookup stay open for others."""
    server.auth.behave = "mute"
    sockets = []
    for _ in range(300):
        c = server.smtp()
        c.ehlo()
        c.docmd("MAIL FROM:<x@elsewhere.example>")
        c.sock.sendall(b"RCPT TO:<alice@example.org>\r\n")
        sockets.append(c)
    start = time.monotonic()
    assert rcpt(server, "here@example.com") == 250 and rcpt(server, "alice@example.org") == 451
    assert time.monotonic() - start < 2
    assert {c.getreply()[0] for c in sockets} == {451}
    assert len([w for w in server.auth.lines if w[0] == "USER"]) == 128
    for c in sockets:
        c.close()
    works_again(server)


def test_the_command_line_says_so(server):
    done = server.cli("account", "passwd", "alice@example.org", check=False, input="12345678\n")
    assert done.returncode == 65 and "kept elsewhere: dovecot unix:" in done.stderr
    assert "kept elsewhere: dovecot" in server.cli("account", "list").stderr
    server.cli("check")
