# SPDX-License-Identifier: Apache-2.0
"""Encryption with real clients: STARTTLS, implicit TLS, what must not survive into it, certificates, the process keys."""
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import pytest
from godwit import Server, free_port, wait_for

CONTEXT = ssl._create_unverified_context()


def make_certificate(folder, name, key=("-newkey", "rsa:2048"), days=30):
    cert, private = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-nodes", *key, "-keyout", str(private), "-out", str(cert), "-days", str(days),
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"], check=True, capture_output=True)
    private.chmod(0o600)
    return cert, private


EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
ED = ("-newkey", "ed25519")


class TlsServer(Server):
    """With a listener by STARTTLS and one where TLS comes first."""

    def __init__(self, extra="", **kw):
        self.tls_port = free_port()
        super().__init__(f"listen smtps {{ address 127.0.0.1:{self.tls_port}; tls implicit; }}\n{extra}", **kw)

    def pid(self, role, index=0):
        return [p["pid"] for p in self.status() if p["role"] == role and p["index"] == index][0]

    def starttls(self, name=None):
        s = self.smtp()
        s.ehlo()
        s._host = name or s._host  # what smtplib sends as server name
        assert s.starttls(context=CONTEXT)[0] == 220
        return s

    def implicit(self):
        return smtplib.SMTP_SSL("127.0.0.1", self.tls_port, "client.example.net", timeout=20, context=CONTEXT)

    def subject_of(self, name):
        raw = socket.create_connection(("127.0.0.1", self.tls_port), 10)
        with CONTEXT.wrap_socket(raw, server_hostname=name) as s:
            der = s.getpeercert(True)
        return subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-serial"], input=der,
                              capture_output=True, check=True).stdout.decode()


@pytest.fixture(scope="module")
def server():
    with TlsServer() as s:
        s.account("alice@example.org")
        yield s


def received_of(server, count):
    return server.wait_messages("alice@example.org", count)[-1].read_text()


def test_a_message_by_starttls(server):
    before = len(server.messages("alice@example.org"))
    s = server.smtp()
    assert "starttls" in (s.ehlo(), s.esmtp_features)[1]
    assert s.starttls(context=CONTEXT)[0] == 220
    s.ehlo()
    assert "starttls" not in s.esmtp_features
    s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\n" + "y" * 70000 + "\r\n")
    s.quit()
    server.wait_messages("alice@example.org", before + 1)
    new = max(server.messages("alice@example.org"), key=lambda p: p.stat().st_mtime_ns).read_text()
    assert re.search(r"with ESMTPS\n\t\(TLSv1\.3 cipher TLS_\w+\) id ", new), new[:600]
    assert re.search(r'smtpd_disconnected.*tls="?TLSv1\.3 TLS_', server.log())


def test_a_message_by_implicit_tls(server):
    before = len(server.messages("alice@example.org"))
    s = server.implicit()
    s.ehlo()
    assert "starttls" not in s.esmtp_features
    s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nx\r\n")
    s.quit()
    server.wait_messages("alice@example.org", before + 1)


def test_the_session_begins_again(server):
    s = server.starttls()
    assert s.docmd("MAIL FROM:<b@example.net>")[0] == 503  # EHLO is forgotten
    s.ehlo()
    assert s.docmd("STARTTLS")[0] == 503
    s.quit()


def test_refused_starttls(server):
    s = server.smtp()
    s.ehlo()
    assert s.docmd("STARTTLS now")[0] == 501
    assert s.docmd("MAIL FROM:<b@example.net>")[0] == 250
    assert s.docmd("STARTTLS")[0] == 503
    s.quit()
    implicit = server.implicit()
    implicit.ehlo()
    assert implicit.docmd("STARTTLS")[0] == 503
    implicit.quit()


def test_plaintext_behind_starttls_ends_the_connection(server):
    with server.connect() as s:
        s.recv(1000)
        s.sendall(b"EHLO a.example\r\n")
        s.recv(1000)
        s.sendall(b"STARTTLS\r\nMAIL FROM:<evil@example.net>\r\n")
        text = b""
        while piece := s.recv(1000):
            text += piece
        assert text.startswith(b"421 ") and b"220 " not in text and text.count(b"\r\n") == 1
    with server.connect() as s:  # a moment later: it meets the handshake
        s.recv(1000)
        s.sendall(b"EHLO a.example\r\n")
        s.recv(1000)
        s.sendall(b"STARTTLS\r\n")
        assert s.recv(1000).startswith(b"220 ")
        s.sendall(b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<alice@example.org>\r\n")
        text = b""
        while piece := s.recv(1000):
            text += piece
        assert b"250" not in text and b"503" not in text
    wait_for(lambda: "smtpd_tls_failed" in server.log(), 5, "the failure in the log")
    assert wait_for(lambda: "tls handshake" in server.cli("trace", "127.0.0.1", check=False).stdout + server.log(), 5, "the refusal")


@pytest.mark.parametrize("option,works", [("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False), ("-tls1", False)])
def test_versions(server, option, works):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-starttls", "smtp", option,
                           "-cipher", "ALL:@SECLEVEL=0"], input=b"QUIT\r\n", capture_output=True, timeout=20, check=False)
    assert (b"New, TLSv1." in done.stdout) == works, done.stdout[-800:]


@pytest.mark.parametrize("cipher", ["NULL@SECLEVEL=0", "aNULL@SECLEVEL=0", "AES256-SHA@SECLEVEL=0", "DES-CBC3-SHA@SECLEVEL=0"])
def test_poor_ciphers(server, cipher):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}", "-tls1_2", "-cipher", cipher],
                          input=b"QUIT\r\n", capture_output=True, timeout=20, check=False)
    assert b"New, TLSv1" not in done.stdout


def test_renegotiation_and_compression_are_off(server):
    def said():
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}", "-tls1_2", "-comp"], input=b"R\nQUIT\r\n",
                              capture_output=True, timeout=20, check=False)
        assert b"Compression: NONE" in done.stdout
        assert b"Secure Renegotiation IS supported" in done.stdout
        return done.stdout + done.stderr

    # s_client now and then does not wait for the refusal
    assert any(b"no renegotiation" in said() for _ in range(5))


@pytest.mark.skipif(not shutil.which("swaks"), reason="swaks is not installed")
@pytest.mark.parametrize("how", ["--tls", "--tls-on-connect"])
def test_swaks(server, how):
    port = server.port if how == "--tls" else server.tls_port
    done = subprocess.run(["swaks", how, "--server", "127.0.0.1", "--port", str(port), "--from", "s@example.net", "--to",
                           "alice@example.org", "--helo", "swaks.example"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_session_is_resumed_by_another_process(server):
    path = server.base / "session"
    base = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}", "-tls1_2"]
    subprocess.run([*base, "-sess_out", str(path)], input=b"QUIT\r\n", capture_output=True, timeout=20, check=True)
    for _ in range(6):  # two smtpd: some of these meet the other
        done = subprocess.run([*base, "-sess_in", str(path)], input=b"QUIT\r\n", capture_output=True, timeout=20, check=True)
        assert b"Reused, TLSv1.2" in done.stdout


def test_nothing_below_tls_1_3():
    with TlsServer("tls { min_version 1.3; }") as s:
        for option, works in (("-tls1_3", True), ("-tls1_2", False)):
            done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.tls_port}", option], input=b"QUIT\r\n",
                                  capture_output=True, timeout=20, check=False)
            assert (b"New, TLSv1." in done.stdout) == works


def test_a_silent_client_is_cut_off():
    with TlsServer("timeouts { tls_handshake 1s; }") as s:
        with socket.create_connection(("127.0.0.1", s.tls_port), 20) as c:
            c.sendall(b"\x16\x03\x01\x02")
            assert c.recv(100) == b""
        wait_for(lambda: "smtpd_tls_failed" in s.log(), 5, "the failure in the log")


def s_client(server, *args):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}", *args], input="QUIT\r\n",
                          capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_protocols_of_others(server, version):
    """RFC 7301 §3.2, H60: who speaks something else is told so, and ends there."""
    for offered in ("smtp", "http/1.1,smtp"):
        status, text = s_client(server, version, "-alpn", offered)
        assert status == 0 and "ALPN protocol: smtp" in text
    assert "No ALPN negotiated" in s_client(server, version)[1]
    for offered in ("http/1.1", "h2,http/1.1", "smtps", "SMTP", "smt"):
        status, text = s_client(server, version, "-alpn", offered)
        assert status != 0 and "no application protocol" in text
    assert s_client(server, version, "-alpn", "http/1.1", "-servername", "mx.example.org")[0] != 0
    server.starttls().quit()


def test_the_certificate_that_was_made(server):
    cert, key = server.base / "state/tls/self-signed.pem", server.base / "state/tls/self-signed.key"
    assert cert.stat().st_mode & 0o777 == 0o600 and key.stat().st_mode & 0o777 == 0o600
    text = subprocess.run(["openssl", "x509", "-in", str(cert), "-noout", "-text"], capture_output=True, text=True, check=True).stdout
    assert "DNS:mx.example.org" in text and "prime256v1" in text
    assert "certificate_made" in server.log() and "mx.example.org until" in server.cli("status").stdout


# ---- configured certificates ---------------------------------------------------------------------


def configured(folder, *names_and_kinds):
    pairs = [make_certificate(folder, n, k) for n, k in names_and_kinds]
    return "tls { " + " ".join(f"certificate {c}; key {k};" for c, k in pairs) + " }\n"


def test_names_choose_certificates(tmp_path):
    conf = configured(tmp_path, ("one.example", ("-newkey", "rsa:2048")), ("two.example", EC), ("three.example", ED))
    with TlsServer(conf) as s:
        for name in ("one", "two", "three"):
            assert f"CN = {name}.example" in s.subject_of(f"{name}.example")
        for name in ("other.example", "x" * 60 + ".example", None):
            assert "CN = one.example" in s.subject_of(name)
        assert s.cli("check").returncode == 0


def test_check_of_certificates(tmp_path):
    conf = configured(tmp_path, ("one.example", EC), ("two.example", EC))
    with TlsServer(conf, start=False) as s:
        assert s.cli("check").returncode == 0
        (tmp_path / "two.example.key").chmod(0o644)
        assert "chmod 600" in s.cli("check", check=False).stderr
        shutil.copy(tmp_path / "one.example.key", tmp_path / "two.example.key")
        (tmp_path / "two.example.key").chmod(0o600)
        done = s.cli("check", check=False)
        assert done.returncode == 78 and "does not belong" in done.stderr
        (tmp_path / "two.example.key").unlink()
        assert "cannot be read" in s.cli("check", check=False).stderr


class Load:
    """Clients that send by STARTTLS, one message after the other."""

    def __init__(self, server, threads=3):
        self.server, self.running, self.sent, self.failed = server, True, 0, []
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def run(self):
        while self.running:
            try:
                s = self.server.starttls()
                s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nx\r\n")
                s.quit()
                self.sent += 1
            except (smtplib.SMTPException, OSError, AssertionError) as e:
                self.failed.append(repr(e))
                time.sleep(0.02)

    def stop(self):
        self.running = False
        for t in self.threads:
            t.join()


def test_reload_under_load_loses_nothing(tmp_path):
    conf = configured(tmp_path, ("mx.example.org", EC))
    with TlsServer(conf) as s:
        s.account("alice@example.org")
        standing = s.starttls()
        standing.ehlo()
        serials = {s.subject_of("mx.example.org")}
        load = Load(s)
        for n in range(4):
            make_certificate(tmp_path, "mx.example.org", EC if n % 2 else ("-newkey", "rsa:2048"))
            if n % 2:
                s.cli("reload")
            else:
                s.process.send_signal(signal.SIGHUP)
            count = len(serials)
            wait_for(lambda: serials.add(s.subject_of("mx.example.org")) or len(serials) > count, 10, "the new certificate")
        key = tmp_path / "mx.example.org.key"
        good = key.read_bytes()
        key.write_text("nonsense")
        done = s.cli("reload", check=False)
        assert done.returncode == 78 and "is not used" in done.stdout
        assert "is not used" in s.cli("status").stdout and "certificate_failed" in s.log()
        assert s.subject_of("mx.example.org") in serials
        key.write_bytes(good)
        assert s.cli("reload").returncode == 0
        load.stop()
        assert load.failed == [] and load.sent > 10
        standing.sendmail("b@example.net", ["alice@example.org"], "Subject: y\r\n\r\ny\r\n")
        standing.quit()


# ---- the process keys --------------------------------------------------------------------------


def test_death_of_keys_under_load(tmp_path):
    with TlsServer(configured(tmp_path, ("mx.example.org", EC))) as s:
        s.account("alice@example.org")
        standing = s.starttls()
        standing.ehlo()
        load = Load(s)
        wait_for(lambda: load.sent > 5, 20, "mail")
        old = s.pid("keys")
        os.kill(old, signal.SIGKILL)
        standing.sendmail("b@example.net", ["alice@example.org"], "Subject: y\r\n\r\ny\r\n")
        wait_for(lambda: s.pid("keys") not in (0, old) and "ready" in s.cli("status").stdout, 10, "another keys")
        sent = load.sent
        wait_for(lambda: load.sent > sent + 10, 20, "mail again")
        load.stop()
        for e in load.failed:
            assert "454" in e or "STARTTLS" in e or "closed" in e or "EOF" in e or "internal error" in e or "reset" in e, e
        standing.sendmail("b@example.net", ["alice@example.org"], "Subject: y\r\n\r\ny\r\n")
        standing.quit()


def test_keys_restarted_without_a_usable_key(tmp_path):
    with TlsServer(configured(tmp_path, ("mx.example.org", EC)), smtpd_processes=1) as s:
        key = tmp_path / "mx.example.org.key"
        good = key.read_bytes()
        key.write_text("nonsense")
        old = s.pid("keys")
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: s.pid("keys") not in (0, old) and "none in use" in s.cli("status").stdout or
                 "is not used" in s.cli("status").stdout, 10, "another keys")

        def offered():
            with s.smtp() as c:
                c.ehlo()
                return "starttls" in c.esmtp_features

        wait_for(lambda: not offered(), 5, "no offer of what would fail")
        key.write_bytes(good)
        assert s.cli("reload").returncode == 0
        wait_for(offered, 5, "the offer")
        s.starttls().quit()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read another process's memory")
@pytest.mark.skipif(bool(os.environ.get("GODWIT_ASAN")), reason="the sanitizer's shadow memory is terabytes to read")
def test_no_private_key_in_memory_of_others(tmp_path):
    """The numbers that make the key, as OpenSSL keeps them (little-endian words) and as they stand in files."""
    with TlsServer(configured(tmp_path, ("mx.example.org", ("-newkey", "rsa:2048")), ("two.example", EC))) as s:
        s.account("alice@example.org")
        for _ in range(5):
            c = s.starttls()
            c.ehlo()
            c.quit()
        needles = []
        for name, words in (("mx.example.org", ("prime1", "prime2", "privateExponent")), ("two.example", ("priv",))):
            text = subprocess.run(["openssl", "pkey", "-in", str(tmp_path / f"{name}.key"), "-noout", "-text"], capture_output=True,
                                  text=True, check=True).stdout
            for word in words:
                digits = re.search(word + r":\n((?: +[0-9a-f:]+\n)+)", text).group(1)
                number = bytes.fromhex(re.sub(r"[^0-9a-f]", "", digits)).lstrip(b"\0")
                needles += [number[:24], number[::-1][:24], number[-24:], number[::-1][-24:]]
            needles.append((tmp_path / f"{name}.key").read_bytes()[40:80])

        def found(pid):
            hits = 0
            with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
                for line in maps:
                    area, rights = line.split()[:2]
                    if "r" not in rights or "[v" in line:
                        continue
                    lo, hi = (int(x, 16) for x in area.split("-"))
                    try:
                        mem.seek(lo)
                        data = mem.read(hi - lo)
                    except OSError:
                        continue
                    hits += sum(n in data for n in needles)
            return hits

        by_role = {(p["role"], p["index"]): found(p["pid"]) for p in s.status()}
        assert by_role.pop(("keys", 0)) > 0  # the search finds what is there
        assert set(by_role.values()) == {0}, by_role
        assert found(s.process.pid) == 0
