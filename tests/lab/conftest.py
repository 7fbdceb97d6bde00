# SPDX-License-Identifier: Apache-2.0
"""The network that the tests share: name server, one godwit "gw", peers, and fakes by name."""
import smtplib

import pytest

import fakes
from lab import Certificates, Dns, Dovecot, Exim, Godwit, Lab, Postfix, Unavailable, v4, v6, wait_for

FIRST = 101     # of the fakes' addresses; NAME.lab has the MX mx.NAME.lab at the next one
FAKES = {
    "sink": fakes.Fake, "second": fakes.Fake, "smart": fakes.Fake, "backup": fakes.Fake,
    "grey": fakes.Greylisting, "asus": fakes.GreetsAsUs, "between": fakes.GoesBetweenRecipients, "tarpit": fakes.Tarpit,
    "closes": fakes.ClosesAfterData, "long": fakes.LongReply, "nul": fakes.NulReply, "endless": fakes.EndlessReply,
    "half": fakes.HalfFull, "refuses": fakes.RefusesAll, "content": fakes.RefusesMessage, "lmtp": fakes.Lmtp,
    "odd": fakes.OddCodes, "bare": fakes.BareCodes, "window": fakes.ReadsNothing, "slowend": fakes.SlowEnd,
    "silent": None,     # an address with nobody listening
    "tself": fakes.Tls, "tbroken": fakes.TlsBroken, "tnone": fakes.Fake, "tverify": fakes.Tls, "twrong": fakes.Tls, "tinject": fakes.TlsInjected,
    "tfirst": fakes.TlsFirst, "tlogin": fakes.LogsIn, "twrongpass": fakes.LogsIn, "dgood": fakes.Tls, "dauthority": fakes.Tls, "dbad": fakes.Tls, "dexpired": fakes.Tls, "dname": fakes.Tls,
    "dstrip": fakes.Fake, "duseless": fakes.Tls, "dbroken": fakes.TlsBroken, "dbogus": fakes.Tls,
}
# of the fakes with TLS, those whose certificate is signed by itself; the others have one of our authority
SELF = ("tself", "dgood", "duseless")
NUMBERS = {name: FIRST + i for i, name in enumerate(FAKES)}
DESK, STRANGER, NOBODY = 30, 66, 200

ZONE = "".join(f"{name} MX 10 mx.{name}\nmx.{name} A {v4(n)}\n" for name, n in NUMBERS.items() if name != "dbogus") + "".join(
    f"{name} MX 10 mx.{name}\nmx.{name} A {v4(n)}\nmx.{name} AAAA {v6(n)}\n"
    for name, n in (("gw", 10), ("behind", 11), ("postfix", 20), ("exim", 21), ("dovecot", 22))) + f"""
ordered MX 10 mx.sink
ordered MX 20 mx.second
fallback MX 10 mx.silent
fallback MX 20 mx.second
nohost MX 10 dead
nohost MX 20 mx.second
dead A {v4(NOBODY)}
down MX 10 mx.silent
only4 MX 10 four
four A {v4(NUMBERS["sink"])}
only6 MX 10 six
six AAAA {v6(NUMBERS["sink"])}
both MX 10 dual
dual A {v4(NUMBERS["sink"])}
dual AAAA {v6(NUMBERS["sink"])}
brokensix MX 10 half6
half6 A {v4(NUMBERS["sink"])}
half6 AAAA {v6(NOBODY)}
null MX 0 .
implicit A {v4(NUMBERS["sink"])}
alias MX 10 cname
cname CNAME mx.sink
selfbest MX 10 mx.gw
selfbest MX 20 mx.sink
selfsecond MX 10 mx.silent
selfsecond MX 20 mx.gw
selfaddress MX 10 other
other A {v4(10)}
loopback MX 10 localhost
localhost A 127.0.0.1
localhost AAAA ::1
prefers4 MX 10 dual
takes6 MX 10 dual
from MX 10 dual
backedup MX 10 mx.backup
backedup MX 20 mx.gw
zero MX 10 nowhere
nowhere A 0.0.0.0
"""
BIG = "".join(f"thousand MX {i} mx{i}.thousand\nmx{i}.thousand A {v4(NUMBERS['sink'])}\n" for i in range(1000)) + "".join(
    f"c{i}.chain CNAME c{i + 1}.chain\n" for i in range(100)) + "c100.chain MX 10 mx.sink.lab.\nwide MX 10 mx.wide\n" + "".join(
    f"mx.wide A 10.78.{i // 250}.{1 + i % 250}\n" for i in range(2000))


GW = f"""
domain gw.lab {{ }}
relay_from {v4(DESK)} {v4(11)} {v4(20)} {v4(21)} {v6(20)} {v6(21)} {v4(23)};
trusted {v4(0)}/24 {v6(0)}/64;
relay_domain backedup.lab {{ recipients "%(list)s"; }}
relay_domain tcp.dovecot.lab {{ }}
relay_domain unix.dovecot.lab {{ }}
domain users.dovecot.lab {{ accounts dovecot unix:%(auth)s/auth-client unix:%(auth)s/auth-userdb; mailbox lmtp; }}
listen submission {{ address *:587; auth required; auth_in_clear yes; }}
route smart {{ to smart.lab *.far.example; via smtp {v4(NUMBERS["smart"])}; }}
route fake_lmtp {{ to lmtp.lab; via lmtp {v4(NUMBERS["lmtp"])}:24; }}
route by_tcp {{ to tcp.dovecot.lab; via lmtp mx.dovecot.lab:24; }}
route by_unix {{ to unix.dovecot.lab users.dovecot.lab; via lmtp unix:%(socket)s; }}
route prefers4 {{ to prefers4.lab; ip prefer_v4; }}
route takes6 {{ to takes6.lab; ip only_v6; }}
route tnone {{ to tnone.lab; tls required; }}
route tverify {{ to tverify.lab twrong.lab; tls verify; tls_ca "%(ca)s"; }}
route tfirst {{ to tfirst.lab; via smtp mx.tfirst.lab:465; tls verify; tls_ca "%(ca)s"; }}
route tlogin {{ to tlogin.lab; via smtp mx.tlogin.lab:587; tls verify; tls_ca "%(ca)s"; auth ann@example.net "%(password)s"; }}
route twrongpass {{ to twrongpass.lab; via smtp mx.twrongpass.lab:587; tls verify; tls_ca "%(ca)s"; auth ann@example.net "%(wrong)s"; }}
route from {{ to from.lab; source {v4(15)} {v6(15)}; hostname out.gw.lab; }}
"""


@pytest.fixture(scope="session")
def lab():
    try:
        with Lab() as made:
            yield made
    except Unavailable as e:
        pytest.skip(str(e))


def records(certificates):
    """TLSA of the fakes and of the other servers."""
    by_key = {"dgood": "dgood", "dbad": "tself", "dstrip": "dgood", "dbroken": "dgood"}
    lines = [certificates.tlsa(f"mx.{name}", key, "3 1 1") for name, key in by_key.items()]
    lines += [certificates.tlsa(f"mx.{name}", "ca", "2 0 1") for name in ("dauthority", "dexpired", "dname", "postfix", "exim")]
    lines += [certificates.tlsa("mx.duseless", "tself", "1 1 1")]
    return "\n".join(lines) + "\n"


def make_dns(lab):
    lab.certificates = certificates = Certificates(lab)
    for name, kind in FAKES.items():
        if kind and issubclass(kind, fakes.Tls):
            other = "elsewhere.lab" if name in ("twrong", "dname") else f"mx.{name}.lab"
            certificates.make(name, other, expired=name == "dexpired", own=name in SELF)
    for name in ("postfix", "exim"):
        certificates.make(name, f"mx.{name}.lab")
    bogus = f"@ MX 10 mx\nmx A {v4(NUMBERS['dbogus'])}\n" + certificates.tlsa("mx", "dbogus", "3 1 1") + "\n"
    return Dns(lab, {
        "lab": (ZONE + records(certificates), "signed"),
        "dbogus.lab": (bogus, ("TLSA\t3 1 1", "TLSA\t3 0 1")),
        "bogus.lab": (f"@ MX 10 mx\nmx A {v4(NUMBERS['sink'])}\n", ("MX\t10", "MX\t11")),
        "plain.lab": (f"@ MX 10 mx\nmx A {v4(NUMBERS['sink'])}\n", "plain"),
        "big.lab": (BIG, "plain"),
        "77.10.in-addr.arpa": ("".join(f"{n}.0 PTR mx.{name}.lab.\n" for name, n in NUMBERS.items()) + "10.0 PTR mx.gw.lab.\n", "plain"),
        "7.7.d.f.ip6.arpa": ("a" + ".0" * 27 + " PTR mx.gw.lab.\n", "plain"),
    })


@pytest.fixture(scope="session")
def dns(lab):
    return make_dns(lab)


@pytest.fixture(scope="session")
def fake(lab, dns):
    """The fakes by name."""
    host = lab.host("fakes", *NUMBERS.values())
    ports = {"lmtp": 24, "tfirst": 465, "tlogin": 587, "twrongpass": 587}
    made = {name: kind(host, v4(NUMBERS[name]), ports.get(name, 25)) for name, kind in FAKES.items() if kind}
    for name, one in made.items():
        if isinstance(one, fakes.Tls):
            one.certificate = lab.certificates.files(name)
    made["sink6"] = fakes.Fake(host, v6(NUMBERS["sink"]))
    yield made
    for one in made.values():
        one.close()


def make_gw(lab, dns, log_level="info"):
    (lab.base / "dovecot").mkdir()    # that the socket is in
    listed = lab.base / "backedup.list"
    listed.write_text("known@backedup.lab\n")
    passwords = {"password": fakes.LogsIn.password, "wrong": "another-secret-552"}
    files = {}
    for name, text in passwords.items():
        path = lab.base / f"relay.{name}"
        path.touch(0o600)
        path.write_text(text + "\n")
        files[name] = path
    server = Godwit(lab, dns, "gw", (10, 15), GW % {"list": listed, "ca": lab.certificates.files("ca")[0], **files, "socket": lab.base / "dovecot" / "lmtp.sock", "auth": lab.base / "dovecot"},
                    log_level=log_level)
    server.start()
    server.account("alice@gw.lab", "carol@gw.lab", "postmaster@gw.lab")
    return server


@pytest.fixture(scope="session")
def gw(lab, dns):
    return make_gw(lab, dns)


def peer(kind, lab, dns):
    try:
        return kind(lab, dns)
    except Unavailable as e:
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def postfix(lab, dns, gw):
    return peer(Postfix, lab, dns)


@pytest.fixture(scope="session")
def exim(lab, dns, gw):
    return peer(Exim, lab, dns)


@pytest.fixture(scope="session")
def dovecot(lab, dns):
    return peer(Dovecot, lab, dns)


class Desk:
    """Somebody's mail program, in a network that godwit and the peers send for."""

    def __init__(self, lab):
        self.host, self.sent = lab.host("desk", DESK), 0

    def connect(self, server):
        with self.host.inside():
            return smtplib.SMTP(server.address, 25, "desk.lab", timeout=20)

    def text(self, body="Hello.\n", subject="a test", to="somebody"):
        """(Message-ID, message); each is different."""
        self.sent += 1
        mid = f"m{self.sent}@desk.lab"
        return mid, (f"From: Alice <alice@gw.lab>\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{mid}>\r\n"
                     f"Date: Mon, 20 Jul 2026 10:00:00 +0000\r\n\r\n").encode() + body.replace("\n", "\r\n").encode()

    def send(self, server, to, message=None, sender="alice@gw.lab", options=(), rcpt_options=()):
        """Returns the Message-ID, or the recipients that were refused if a message is given."""
        mid = None
        if message is None:
            mid, message = self.text(to=to if isinstance(to, str) else ", ".join(to))
        with self.connect(server) as s:
            refused = s.sendmail(sender, to, message, options, rcpt_options)
        return mid or refused


@pytest.fixture(scope="session")
def desk(lab):
    return Desk(lab)


@pytest.fixture
def mail(gw, desk, fake):
    """mail("x@sink.lab"): sent by alice through gw; the Message-ID."""
    def send(to, **kw):
        return desk.send(gw, to, **kw)
    return send


@pytest.fixture
def report(gw):
    """report(Message-ID): the DSN to alice that returns this message."""
    def find(mid, seconds=20, who="alice@gw.lab"):
        def there():
            return [m for m in gw.messages(who) if f"<{mid}>".encode() in m and b"multipart/report" in m]
        return wait_for(there, seconds, f"a report about {mid}; {gw.cli('trace', mid, check=False).stdout}")[0]
    return find

