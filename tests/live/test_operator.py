# SPDX-License-Identifier: Apache-2.0
"""What the operator sees of mail for other servers, and changes: explain, queue list, sites, move."""
import json
import socketserver
import threading

import pytest
from godwit import Server, free_port, wait_for
from nameserver import Nsd, missing_tools


class Sink(socketserver.StreamRequestHandler):
    """An SMTP or LMTP server that takes everything."""

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.say("220 sink.example ESMTP")
        data, rcpts, replies = False, 0, 1
        lines = []
        while line := self.rfile.readline():
            line = line.rstrip(b"\r\n")
            if data:
                lines.append(line)
                if line == b".":
                    data = False
                    self.server.taken.append(lines)
                    lines = []
                    for _ in range(replies):
                        self.say("250 2.0.0 taken")
                continue
            verb = line[:4].upper()
            if verb == b"MAIL":
                rcpts = 0
            if verb == b"RCPT":
                rcpts += 1
            if verb == b"DATA":
                data = True
                replies = rcpts if self.server.lmtp else 1
                self.say("354 go on")
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.server.lmtp |= verb == b"LHLO"
                self.server.commands.append(line)
                self.say("250 ok")


class Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture(name="sink")
def make_sink():
    with Listener(("127.0.0.1", 0), Sink) as listener:
        listener.taken, listener.commands, listener.lmtp = [], [], False
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield listener
        listener.shutdown()


def routes(sink):
    return (f"relay_from 127.0.0.0/8;\n"
            f"route dead {{ to one.example *.one.example; via smtp 127.0.0.1:{free_port()} order 5; }}\n"
            f"route live {{ to live.example; via smtp 127.0.0.1:{sink.server_address[1]}; }}\n")


def submit(server, sender, *recipients):
    with server.smtp() as s:
        assert s.sendmail(sender, recipients, "Subject: x\r\n\r\nx\r\n") == {}


def rows(server, *args):
    return json.loads(server.cli("queue", "list", "--json", *args).stdout)["rows"]


def test_selection_move_and_sites(sink):
    with Server(extra=routes(sink)) as s:
        s.account("ann@example.org")
        submit(s, "ann@example.org", "x@one.example", "y@one.example", "z@sub.one.example")
        submit(s, "bob@example.net", "x@one.example")
        wait_for(lambda: all(r["attempts"] or r["site"] for r in rows(s)), 20, "attempts")
        assert len(rows(s)) == 4
        assert {r["route"] for r in rows(s)} == {"dead"}
        assert len(rows(s, "--domain", "one.example")) == 3
        assert len(rows(s, "--sender", "example.net")) == 1
        assert len(rows(s, "z@", "--sender", "ann@")) == 1
        assert len(rows(s, "--older", "1h")) == 0
        assert len(rows(s, "--newer", "1h")) == 4
        assert s.cli("queue", "list", "--older", "soon", check=False).returncode == 64
        places = json.loads(s.cli("queue", "sites", "--json").stdout)
        assert places["total"] == 1 and places["sites"][0]["site"].startswith("dead")
        assert places["sites"][0]["failures"] > 0 and places["sites"][0]["failure"]
        assert "dead" in s.cli("queue", "sites").stdout
        assert "route dead" in s.cli("queue", "list").stdout
        # what it takes to change something
        assert s.cli("queue", "move", "x@", check=False).returncode == 64
        assert s.cli("queue", "move", "x@", "--route", "lvie", check=False).returncode == 64
        assert s.cli("queue", "drop", check=False).returncode == 64
        # while it is held it stays where it is, and moves all the same; a restart changes nothing
        assert "2 recipients held" in s.cli("queue", "hold", "x@one.example").stdout
        assert "1 recipients moved" in s.cli("queue", "move", "--sender", "bob@", "--route", "live").stdout
        assert "0 recipients moved" in s.cli("queue", "move", "--sender", "bob@", "--route", "live").stdout
        assert s.stop() == 0
        s.start()
        assert [(r["from"], r["state"]) for r in rows(s) if r["moved"]] == [("bob@example.net", "held")]
        assert "moved there by the operator" in s.cli("queue", "list").stdout
        assert not sink.taken
        s.cli("queue", "release", "x@one.example")
        wait_for(lambda: len(sink.taken) == 1, 20, "the moved recipient")
        wait_for(lambda: len(rows(s)) == 3, 20, "its end")
        assert "3 recipients moved" in s.cli("queue", "move", "--all", "--route", "live").stdout
        wait_for(lambda: not rows(s), 20, "the others")
        assert "moved by the operator to route live" in s.cli("trace", "z@sub.one.example").stdout


def test_mailboxes_by_lmtp(sink):
    extra = (f"domain boxes.example {{ mailbox lmtp; }}\n"
             f"route boxes {{ to boxes.example; via lmtp 127.0.0.1:{sink.server_address[1]}; }}\n")
    with Server(extra=extra) as s:
        s.account("ann@boxes.example", "bob@boxes.example", "carol@example.org")
        s.cli("alias", "add", "team@example.org", "ann@boxes.example", "bob@boxes.example")
        with s.smtp() as c:
            c.ehlo()
            c.mail("dave@example.net")
            assert c.rcpt("nobody@boxes.example")[0] == 550
            assert c.rcpt("team@example.org")[0] == 250
            assert c.data("Subject: x\r\n\r\nx\r\n")[0] == 250
            c.mail("carol@example.org")
            assert c.rcpt("Ann+x@boxes.example", ["NOTIFY=SUCCESS"])[0] == 250
            assert c.data("Subject: y\r\n\r\ny\r\n")[0] == 250
        wait_for(lambda: len(sink.taken) == 2, 20, "two messages by LMTP")
        assert sink.lmtp
        assert any(line.startswith(b"MAIL FROM:<dave@example.net>") for line in sink.commands)  # no SRS
        assert any(line.startswith(b"RCPT TO:<ann@boxes.example>") for line in sink.commands)
        dsn = s.wait_messages("carol@example.org", 1)[0].read_text()
        assert "Action: delivered" in dsn and "ann@boxes.example" in dsn
        wait_for(lambda: "delivered" in s.cli("trace", "bob@boxes.example").stdout, 10, "the trace")
        told = explain(s, "--from", "dave@example.net", "--to", "team@example.org", "--ip", "192.0.2.1")
        assert [t["route"] for t in told["targets"]] == ["boxes", "boxes"]
        assert {t["reverse_path"] for t in told["targets"]} == {"dave@example.net"}


def explain(server, *args):
    return json.loads(server.cli("explain", "--json", *args).stdout)


def test_explain(sink):
    with Server(extra=routes(sink) + "resolver { servers 127.0.0.1:9; }\n") as s:
        s.account("ann@example.org")
        s.cli("alias", "add", "away@example.org", "x@one.example", "ann@example.org")
        told = explain(s, "--to", "ann+x@example.org")
        assert told["verdict"] == "accept" and told["rule"] == "account" and told["server"]
        assert told["targets"][0]["mailbox"].endswith("/mail/example.org/ann")
        told = explain(s, "--from", "bob@example.net", "--to", "away@example.org", "--ip", "192.0.2.1")
        far = [t for t in told["targets"] if t["kind"] == "remote"][0]
        assert (far["route"], far["hosts"][0]["host"], far["hosts"][0]["preference"]) == ("dead", "127.0.0.1", 5)
        assert far["reverse_path"].startswith("SRS0=") and far["reverse_path"].endswith("=bob@example.org")
        told = explain(s, "--from", "ann@example.org", "--to", "away@example.org", "--ip", "192.0.2.1")
        far = [t for t in told["targets"] if t["kind"] == "remote"][0]
        assert far["reverse_path"] == "ann@example.org"
        # by MX, with a resolver that does not answer
        told = explain(s, "--from", "bob@example.net", "--to", "x@two.example")
        assert told["targets"][0]["route"] == "default" and told["targets"][0]["hosts"] == []
        assert told["targets"][0]["trouble"].startswith("4.4.3 looking up two.example MX")
        assert told["targets"][0]["reverse_path"] == "bob@example.net"
        told = explain(s, "--to", "x@two.example", "--ip", "192.0.2.1")
        assert (told["verdict"], told["code"], told["targets"]) == ("refuse", 550, [])
        text = s.cli("explain", "--from", "bob@example.net", "--to", "x@one.example").stdout
        assert "route dead: smtp 127.0.0.1:" in text and "reverse-path <bob@example.net>" in text
        assert rows(s) == []
        assert s.stop() == 0
        # the accounts can be read at rest, the DNS cannot
        told = explain(s, "--from", "bob@example.net", "--to", "away@example.org", "--ip", "192.0.2.1")
        far = [t for t in told["targets"] if t["kind"] == "remote"][0]
        assert not told["server"] and far["route"] == "dead" and not far["reverse_path_known"]
        assert far["hosts"][0]["host"] == "127.0.0.1"
        assert "no server runs" in s.cli("explain", "--to", "nobody@example.org").stdout


@pytest.mark.skipif(bool(missing_tools()), reason="not installed: " + " ".join(missing_tools()))
def test_explain_asks_the_dns():
    with Nsd() as ns:
        ns.zone("mail.example", "@ IN MX 20 b\n@ IN MX 10 a\na IN A 192.0.2.1\na IN AAAA 2001:db8::1\nb IN A 192.0.2.2\n"
                                "none IN MX 0 .\n", sign=True)
        ns.start()
        resolver = f'resolver {{ trust_anchor "{ns.anchors}"; stub mail.example 127.0.0.1:{ns.port}; }}\n'
        with Server(extra="relay_from 127.0.0.0/8;\n" + resolver) as s:
            hosts = explain(s, "--to", "x@mail.example")["targets"][0]["hosts"]
            assert [(h["preference"], h["host"], h["address"]) for h in hosts] == [
                (10, "a.mail.example", "[2001:db8::1]:25"), (10, "a.mail.example", "192.0.2.1:25"),
                (20, "b.mail.example", "192.0.2.2:25")]
            told = explain(s, "--to", "x@none.mail.example")["targets"][0]
            assert told["hosts"] == [] and told["trouble"].startswith("5.1.10")
            text = s.cli("explain", "--to", "x@mail.example").stdout
            assert "20  b.mail.example  192.0.2.2:25" in text
