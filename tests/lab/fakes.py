# SPDX-License-Identifier: Apache-2.0
"""SMTP servers that misbehave, each one a class: what it answers, and what it has seen.

    class Full(Fake):
        def rcpt(self, s, address):
            return "452 4.2.2 full"

A method returns the reply's text, bytes to send as they are, or None to cut the connection.
"""
import base64
import hashlib
import hmac
import socket
import ssl
import threading


class Session:
    def __init__(self, sock, peer, number):
        self.sock, self.peer, self.number = sock, peer, number
        self.file = sock.makefile("rb")
        self.encrypted = False
        self.commands, self.sender, self.recipients, self.helo, self.mail_line = [], None, [], None, None


class Message:
    def __init__(self, session, data):
        self.peer, self.helo, self.sender = session.peer, session.helo, session.sender
        self.encrypted = session.encrypted
        self.recipients, self.data = list(session.recipients), data


class Fake:
    """Takes everything; `messages` and `sessions` are what came."""
    name = "fake.example"

    def __init__(self, host, address, port=25):
        self.messages, self.sessions, self.lock, self.closed = [], [], threading.Lock(), False
        self.listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.listener.close()
        with host.inside():
            self.listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(256)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.closed = True
        self.listener.close()

    def accept(self):
        while not self.closed:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            with self.lock:
                session = Session(sock, peer[0], len(self.sessions))
                self.sessions.append(session)
            threading.Thread(target=self.serve, args=(session,), daemon=True).start()

    def send(self, s, reply):
        """False: the connection is to end."""
        if reply is None:
            return False
        s.sock.sendall(reply if isinstance(reply, bytes) else reply.encode() + b"\r\n")
        return True

    def serve(self, s):
        s.sock.settimeout(60)
        try:
            going = self.send(s, self.greeting(s))
            while going:
                line = s.file.readline(8192)
                if not line:
                    break
                going = self.command(s, line.decode("utf-8", "replace").rstrip("\r\n"))
        except OSError:
            pass
        finally:
            s.file.close()
            s.sock.close()

    def command(self, s, line):
        s.commands.append(line)
        verb = line.split(" ")[0].upper()
        if verb in ("EHLO", "HELO", "LHLO"):
            s.helo = line.split(" ")[-1]
            return self.send(s, self.ehlo(s))
        if verb == "MAIL":
            s.sender, s.recipients, s.mail_line = line[line.index("<") + 1:line.index(">")], [], line
            return self.send(s, self.mail(s))
        if verb == "RCPT":
            address = line[line.index("<") + 1:line.index(">")]
            reply = self.rcpt(s, address)
            if isinstance(reply, str) and reply.startswith("25"):
                s.recipients.append(address)
            return self.send(s, reply)
        if verb == "DATA":
            if not s.recipients:
                return self.send(s, "503 5.5.1 no recipients")
            return self.send(s, "354 go on") and self.take(s)
        if verb == "RSET":
            s.sender, s.recipients = None, []
            return self.send(s, "250 2.0.0 reset")
        if verb == "QUIT":
            self.send(s, "221 2.0.0 bye")
            return False
        return self.send(s, "250 2.0.0 so be it" if verb == "NOOP" else "502 5.5.2 what?")

    def take(self, s):
        data = b""
        while not data.endswith(b"\r\n.\r\n") and data != b".\r\n":
            line = s.file.readline()
            if not line:
                return False
            data += line
        data = data[:-3]
        message = Message(s, (b"\r\n" + data).replace(b"\r\n..", b"\r\n.")[2:])
        return self.send(s, self.end(s, message))

    # ---- what differs

    def greeting(self, s):
        return f"220 {self.name} ESMTP"

    def ehlo(self, s):
        return f"250-{self.name}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 100000000"

    def mail(self, s):
        return "250 2.1.0 ok"

    def rcpt(self, s, address):
        return "250 2.1.5 ok"

    def end(self, s, message):
        with self.lock:
            self.messages.append(message)
        return "250 2.0.0 taken"


class Greylisting(Fake):
    """Puts off a sender and recipient that it has not seen."""
    seen = ()

    def rcpt(self, s, address):
        if (s.sender, address) in self.seen:
            return "250 2.1.5 ok"
        self.seen = (*self.seen, (s.sender, address))
        return "451 4.7.1 greylisted, come again"


class GreetsAsUs(Fake):
    name = "mx.gw.lab"


class GoesBetweenRecipients(Fake):
    """421 at the second recipient of its first session; no pipelining, so that it is between two commands."""

    def ehlo(self, s):
        return f"250 {self.name}"

    def rcpt(self, s, address):
        if s.number == 0 and s.recipients:
            s.sock.sendall(b"421 4.3.2 going down\r\n")
            return None
        return "250 2.1.5 ok"


class Tarpit(Fake):
    """Greets, and then takes for ever."""

    def ehlo(self, s):
        while not self.closed:
            s.sock.sendall(b"2")
            threading.Event().wait(1)


class ClosesAfterData(Fake):
    """The message is there and the reply is lost: in the first session only."""

    def end(self, s, message):
        super().end(s, message)
        return None if s.number == 0 else "250 2.0.0 taken"


class LongReply(Fake):
    def greeting(self, s):
        return b"220-" + b"x" * 500 * 1024 + b"\r\n220 done\r\n"


class NulReply(Fake):
    def ehlo(self, s):
        return b"250-mx\0.example\r\n250 \0SIZE\r\n"


class EndlessReply(Fake):
    def greeting(self, s):
        while not self.closed:
            s.sock.sendall(b"220-and so on\r\n" * 500)


class OddCodes(Fake):
    """A code that does not exist to RCPT."""

    def rcpt(self, s, address):
        return "999 what is this"


class BareCodes(Fake):
    """Nothing behind the codes, or an enhanced code alone: allowed, if terse (CVE-2026-43964)."""

    def mail(self, s):
        return "250"

    def rcpt(self, s, address):
        return "250 " if address.startswith("x") else "550 5.7.2"

    def end(self, s, message):
        super().end(s, message)
        return "250"


class ReadsNothing(Fake):
    """Says 354 and leaves what comes in the socket: a window of zero."""

    def take(self, s):
        while not self.closed:
            threading.Event().wait(0.5)


class SlowEnd(Fake):
    """Answers DATA a byte at a time, and never to the end."""

    def command(self, s, line):
        if line.upper() != "DATA":
            return super().command(s, line)
        while not self.closed:
            s.sock.sendall(b"3")
            threading.Event().wait(1)


class HalfFull(Fake):
    """452 for every second recipient of a session's transaction."""
    asked = 0

    def rcpt(self, s, address):
        self.asked += 1
        return "452 4.5.3 too many" if self.asked % 2 == 0 else "250 2.1.5 ok"


class RefusesAll(Fake):
    def rcpt(self, s, address):
        return "550 5.1.1 no such user"


class RefusesMessage(Fake):
    def end(self, s, message):
        return "554 5.7.1 content\r\n"[:-2]


class Lmtp(Fake):
    """One reply a recipient: those named "full" are put off, "gone" refused (RFC 2033 §4.2)."""

    def end(self, s, message):
        with self.lock:
            self.messages.append(message)
        kinds = {"full": "452 4.2.2 full", "gone": "550 5.1.1 gone"}
        return "\r\n".join(kinds.get(r.split("@")[0], "250 2.0.0 ok") for r in s.recipients)


# ---- with TLS: `certificate` is set by whoever makes them -------------------------------------------------

class Tls(Fake):
    """STARTTLS, with `certificate`: files of chain and key."""
    certificate = None

    def wrap(self, s):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate)
        s.file.close()
        s.sock = context.wrap_socket(s.sock, server_side=True)
        s.file, s.encrypted = s.sock.makefile("rb"), True

    def ehlo(self, s):
        more = "" if s.encrypted else "250-STARTTLS\r\n"
        return f"250-{self.name}\r\n{more}250-PIPELINING\r\n250 8BITMIME"

    def command(self, s, line):
        if line.upper() != "STARTTLS":
            return super().command(s, line)
        s.commands.append(line)
        s.sock.sendall(b"220 2.0.0 go\r\n")
        self.wrap(s)
        return True


class TlsFirst(Tls):
    """TLS before the greeting."""

    def greeting(self, s):
        self.wrap(s)
        return super().greeting(s)


class TlsBroken(Tls):
    """Says that it has TLS, and has not."""

    def wrap(self, s):
        s.sock.recv(1)
        s.sock.sendall(b"what is this?\r\n")
        raise OSError


class TlsInjected(Tls):
    """Somebody in between adds an answer in clear, for what comes under TLS."""

    def command(self, s, line):
        if line.upper() != "STARTTLS":
            return super().command(s, line)
        s.commands.append(line)
        s.sock.sendall(b"220 2.0.0 go\r\n250-evil\r\n250 SIZE 1\r\n")
        self.wrap(s)
        return True


class LogsIn(Tls):
    """Mail only behind AUTH SCRAM-SHA-256 (RFC 7677) of ann with this password."""
    user, password, salt, iterations = "ann@example.net", "lab-secret-7391", b"0123456789abcdef", 4096

    def ehlo(self, s):
        return f"250-{self.name}\r\n250 AUTH SCRAM-SHA-256 PLAIN" if s.encrypted else super().ehlo(s)

    def mail(self, s):
        return "250 2.1.0 ok" if getattr(s, "user", None) else "530 5.7.0 log in first"

    def ask(self, s, text):
        s.sock.sendall(b"334 " + base64.b64encode(text.encode()) + b"\r\n")
        return base64.b64decode(s.file.readline().strip()).decode()

    def command(self, s, line):
        if not line.upper().startswith("AUTH "):
            return super().command(s, line)
        s.commands.append(line)
        assert s.encrypted and line.split()[1] == "SCRAM-SHA-256"
        bare = base64.b64decode(line.split()[2]).decode().removeprefix("n,,")
        user, nonce = (part[2:] for part in bare.split(","))
        first = f"r={nonce}lab,s={base64.b64encode(self.salt).decode()},i={self.iterations}"
        final = self.ask(s, first)
        without, proof = final.rsplit(",p=", 1)
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), self.salt, self.iterations)

        def mac(key, text):
            return hmac.new(key, text if isinstance(text, bytes) else text.encode(), "sha256").digest()
        auth = f"{bare},{first},{without}"
        client = mac(salted, "Client Key")
        stored = hashlib.sha256(client).digest()
        expected = bytes(a ^ b for a, b in zip(client, mac(stored, auth)))
        if user != self.user or base64.b64decode(proof) != expected:
            return self.send(s, "535 5.7.8 wrong")
        self.ask(s, "v=" + base64.b64encode(mac(mac(salted, "Server Key"), auth)).decode())
        s.user = user
        return self.send(s, "235 2.7.0 welcome")
