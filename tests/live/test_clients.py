# SPDX-License-Identifier: Apache-2.0
"""Real clients against a real server: what a new user would try first."""
import email
import os
import re
import shutil
import smtplib
import socket
import subprocess

import pytest
from godwit import GODWIT, Server, wait_for

MESSAGE = "From: Bob <bob@example.net>\r\nTo: alice@example.org\r\nSubject: hello\r\nMessage-ID: <m1@example.net>\r\n\r\nHello.\r\n.\r\n..two\r\n"


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.account("alice@example.org", "carol@example.org")
        yield s


def deliver(server, send, to="alice@example.org"):
    before = set(server.messages(to))
    send()
    server.wait_messages(to, len(before) + 1)
    [path] = set(server.messages(to)) - before
    return path.read_bytes()


def test_smtplib(server):
    def send():
        with server.smtp() as s:
            assert s.sendmail("bob@example.net", ["alice@example.org"], MESSAGE) == {}
    got = deliver(server, send)
    head, body = got.split(b"\n\n", 1)
    assert body == b"Hello.\n.\n..two\n"
    message = email.message_from_bytes(got)
    assert message["Return-Path"] == "<bob@example.net>"
    assert message["Delivered-To"] == "alice@example.org"
    assert "from client.example.net ([127.0.0.1])" in " ".join(message["Received"].split())
    assert re.search(r"by mx\.example\.org .*with E?SMTP id [0-9a-z]{13}", " ".join(message["Received"].split()))
    assert len(message.get_all("Received")) == 1
    assert b"\r" not in got


def test_curl(server, tmp_path):
    path = tmp_path / "m.eml"
    path.write_bytes(MESSAGE.encode())
    deliver(server, lambda: subprocess.run(
        ["curl", "-sS", "-m", "20", f"smtp://127.0.0.1:{server.port}/c.example.net", "--mail-from", "bob@example.net",
         "--mail-rcpt", "carol@example.org", "--upload-file", str(path)], check=True), "carol@example.org")


@pytest.mark.skipif(not shutil.which("swaks"), reason="swaks is not installed")
@pytest.mark.parametrize("options", [[], ["--pipeline"], ["--protocol", "SMTP"]])
def test_swaks(server, options):
    deliver(server, lambda: subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{server.port}", "--to", "alice@example.org", "--from", "s@example.net",
         "--ehlo", "c.example.net", "--silent", "2", *options], check=True, stdout=subprocess.DEVNULL))


def test_unknown_user_and_relay_are_refused(server):
    with server.smtp() as s:
        s.ehlo()
        s.mail("bob@example.net")
        code, text = s.rcpt("nobody@example.org")
        assert code == 550 and text.startswith(b"5.1.1")
        code, text = s.rcpt("someone@elsewhere.example")
        assert code == 550 and text.startswith(b"5.7.1")
        assert s.docmd("DATA")[0] in (503, 554)


def test_subaddress_and_postmaster(server):
    deliver(server, lambda: server.smtp().sendmail("b@example.net", ["alice+lists@example.org"], MESSAGE))
    with server.smtp() as s:
        s.sendmail("", ["postmaster"], MESSAGE)
    server.wait_messages("postmaster@example.org", 1)


def test_a_large_message_by_file(server):
    body = "".join(f"line {i} {'x' * 60}\r\n" for i in range(60000))  # about 4 MB
    got = deliver(server, lambda: server.smtp().sendmail("b@example.net", ["alice@example.org"], "Subject: big\r\n\r\n" + body))
    assert got.split(b"\n\n", 1)[1] == body.replace("\r\n", "\n").encode()


def test_middle_sizes(server):
    for size in (57000, 57344, 57400, 120000, 1000000, 1048000, 1049000):
        body = ("y" * 70 + "\r\n") * (size // 72)
        got = deliver(server, lambda: server.smtp().sendmail("b@example.net", ["alice@example.org"], "Subject: m\r\n\r\n" + body))
        assert got.split(b"\n\n", 1)[1] == body.replace("\r\n", "\n").encode()


def test_size_limit(server):
    with server.smtp() as s:
        s.ehlo()
        assert s.docmd("MAIL", "FROM:<b@example.net> SIZE=99999999999")[0] == 552


def test_trace_tells_the_story(server):
    deliver(server, lambda: server.smtp().sendmail("t@example.net", ["alice@example.org"], MESSAGE.replace("<m1@", "<traced@")))
    for what in ("traced@example.net", "<traced@example.net>", "t@example.net"):
        text = wait_for(lambda: (lambda t: "delivered" in t and t)(server.cli("trace", what, check=False).stdout), 10, "the trace")
        assert "accepted" in text
    msg_id = re.search(r"  ([0-9a-z]{13})  ", text).group(1)
    assert "delivered" in server.cli("trace", msg_id).stdout
    with server.smtp() as s:
        s.ehlo()
        s.mail("refused@example.net")
        s.rcpt("nobody@example.org")
    text = wait_for(lambda: server.cli("trace", "refused@example.net", check=False).stdout, 10, "the refusal")
    assert "refused" in text and "5.1.1" in text


def test_send_command(server):
    """Submission adds what is missing (RFC 6409 §8), and nothing else does."""
    def sent(text):
        return email.message_from_bytes(deliver(server, lambda: server.cli("send", "-f", "carol@example.org", "alice@example.org", input=text)))
    added = sent("Subject: from the shell\n\nhi\n")
    assert added["Date"] and re.fullmatch(r"<[0-9a-z]{13}@mx\.example\.org>", added["Message-ID"])
    kept = sent("Subject: x\nMessage-ID: <mine@example.org>\nDate: Mon, 5 Jan 2026 10:00:00 +0000\n\nhi\n")
    assert kept.get_all("Message-ID") == ["<mine@example.org>"] and len(kept.get_all("Date")) == 1

    def by_smtp():
        with server.smtp() as s:
            s.sendmail("bob@example.net", ["alice@example.org"], "Subject: neither\r\n\r\nhi\r\n")
    relayed = email.message_from_bytes(deliver(server, by_smtp))
    assert relayed["Subject"] == "neither" and not relayed["Date"] and not relayed["Message-ID"]
    failed = server.cli("send", "nobody@example.org", input="Subject: x\n\n", check=False)
    assert failed.returncode == 67 and "5.1.1" in failed.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
def test_send_reads_a_pipe_of_another_user(server, tmp_path):
    """As cron, su and web servers start it; a socket is no file that could be opened by a name either."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"Subject: by a socket\n\nhi\n")
        ours.shutdown(socket.SHUT_WR)
        deliver(server, lambda: server.cli("send", "alice@example.org", stdin=theirs))
    link = tmp_path / "sendmail"
    link.symlink_to(GODWIT)
    got = deliver(server, lambda: subprocess.run(
        [link, "-oi", "-odi", "-fcarol@example.org", "-t"], input=b"To: Alice <alice@example.org>\nSubject: by sendmail\n\nhi\n",
        env={"GODWIT_CONF": str(server.conf)}, check=True, timeout=60))
    assert b"Return-Path: <carol@example.org>" in got and b"Subject: by sendmail" in got
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=905", "--clear-groups", GODWIT, "send", "-c", str(server.conf), "alice@example.org"],
                          input=b"Subject: as nobody\n\nhi\n", capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_aliases_take_effect_at_once(server):
    with server.smtp() as s:
        s.ehlo()
        s.mail("b@example.net")
        assert s.rcpt("team@example.org")[0] == 550
        server.cli("alias", "add", "team@example.org", "alice@example.org", "carol@example.org")
        wait_for(lambda: s.rcpt("team@example.org")[0] == 250, 5, "the new alias")
    assert "team@example.org" in server.cli("alias", "list").stdout
    server.cli("alias", "del", "team@example.org")
    with server.smtp() as s:
        s.ehlo()
        s.mail("b@example.net")
        assert s.rcpt("team@example.org")[0] == 550


def test_commands_explain_themselves(server):
    assert "a.org" in server.cli("account", "add", "x@a.org", check=False).stderr
    assert "rule: account" in server.cli("explain", "--to", "alice@example.org").stdout
    assert "5.7.1" in server.cli("explain", "--to", "x@elsewhere.example", "--ip", "192.0.2.1").stdout
    assert "godwit_" in server.cli("metrics").stdout
    assert server.cli("queue", "show", "0000000000000", check=False).returncode != 0
    unknown = server.cli("quue", check=False)
    assert unknown.returncode == 64 and "did you mean 'queue'" in unknown.stderr


def test_bench_command(server):
    done = subprocess.run([GODWIT, "bench", f"127.0.0.1:{server.port}", "-t", "carol@example.org", "-n", "200", "-c", "10", "--json"],
                          stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert '"accepted":200' in done.stdout
    wait_for(lambda: server.queue()["messages"] == 0, 20, "an empty queue")


def test_eight_bit_and_utf8(server):
    with server.smtp() as s:
        s.ehlo()
        assert "8bitmime" in s.esmtp_features and "smtputf8" in s.esmtp_features
        s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nGrüße\r\n".encode(), ["BODY=8BITMIME"])
        s.sock.sendall("MAIL FROM:<ü@example.net>\r\n".encode())
        assert s.getreply()[0] in (501, 550, 553)  # SMTPUTF8 was not said
        s.sock.sendall("MAIL FROM:<ü@example.net> SMTPUTF8\r\n".encode())
        assert s.getreply()[0] == 250


def test_bdat(server):
    with server.smtp() as s:
        s.ehlo()
        s.mail("b@example.net")
        s.rcpt("alice@example.org")
        def bdat(data, last):
            s.send(b"BDAT %d%s\r\n" % (len(data), b" LAST" if last else b"") + data)
            return s.getreply()[0]
        assert bdat(b"Subject: chunked\r\n\r\n", False) == 250
        before = len(server.messages("alice@example.org"))
        assert bdat(b".\r\nnot the end\r\n", True) == 250
        server.wait_messages("alice@example.org", before + 1)


def test_half_a_message_is_no_message(server):
    before = len(server.messages("carol@example.org"))
    with server.connect() as s:
        s.sendall(b"EHLO x.example\r\nMAIL FROM:<b@example.net>\r\nRCPT TO:<carol@example.org>\r\nDATA\r\nSubject: x\r\n\r\nhalf")
        s.recv(1000)
    assert server.queue()["messages"] == 0
    assert len(server.messages("carol@example.org")) == before


def test_ipv4_literal_and_helo(server):
    with socket.create_connection(("127.0.0.1", server.port), 10) as s:
        f = s.makefile("rwb")
        assert f.readline().startswith(b"220 ")
        f.write(b"HELO [127.0.0.1]\r\n")
        f.flush()
        assert f.readline().startswith(b"250 ")


def test_stop_and_start_keep_the_queue():
    with Server("deliver no;") as server:
        server.account("alice@example.org")
        server.smtp().sendmail("b@example.net", ["alice@example.org"], MESSAGE)
        assert server.queue()["messages"] == 1
        assert server.stop() == 0
        server.conf.write_text(server.conf.read_text().replace("deliver no;", ""))
        server.start()
        server.wait_messages("alice@example.org", 1)
        wait_for(lambda: server.queue()["messages"] == 0, 10, "an empty queue")


def test_hold_release_drop():
    with Server("deliver no;") as server:
        server.account("alice@example.org")
        for _ in range(3):
            server.smtp().sendmail("b@example.net", ["alice@example.org"], MESSAGE)
        ids = [r["id"] for r in server.queue()["rows"]]
        assert len(set(ids)) == 3
        server.cli("queue", "drop", ids[0])
        assert server.queue()["messages"] == 2
        assert "discarded" in server.cli("trace", ids[0]).stdout
        server.cli("queue", "hold", ids[1])
        assert [r["state"] for r in server.queue()["rows"] if r["id"] == ids[1]] == ["held"]
        server.cli("queue", "release", ids[1])
        assert "Subject: hello" in server.cli("queue", "show", ids[2]).stdout


def test_bad_configuration_is_explained():
    server = Server("mesage_size 1M;", start=False)
    with server:
        done = server.cli("check", check=False)
        assert done.returncode == 78 and "godwit.conf:" in done.stderr
        done = server.cli("serve", check=False)
        assert done.returncode == 78


def test_smtplib_refused_is_an_exception(server):
    with server.smtp() as s:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            s.sendmail("b@example.net", ["nobody@example.org"], MESSAGE)
