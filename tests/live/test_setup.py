# SPDX-License-Identifier: Apache-2.0
"""godwit setup: from a domain name to a server that takes mail from its first account; and records."""
import hashlib
import os
import re
import smtplib
import ssl
import subprocess

import pytest
from godwit import GODWIT, SLOW, Server, free_port


@pytest.fixture(name="server")
def make_server():
    with Server(start=False) as server:
        server.conf.unlink()
        server.port, server.submission, server.submissions = (free_port() for _ in range(3))
        yield server


def run_setup(server, *more, check=True):
    args = ["setup", "example.org", "--directory", str(server.base / "all"), "--listen", "127.0.0.1", "--account", "alice",
            "--ports", f"{server.port},{server.submission},{server.submissions}", "-c", str(server.conf), *more]
    done = subprocess.run([GODWIT, *args], capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def files(server):
    return sorted(str(p.relative_to(server.base)) for p in server.base.rglob("*") if p.is_file() and p.name != "log")


def test_nothing_is_done_unasked(server):
    told = run_setup(server).stdout
    assert "Nothing was done yet" in told and str(server.conf) in told
    assert files(server) == []


def test_from_a_domain_to_the_first_message(server):
    told = run_setup(server, "--ip", "192.0.2.7", "--ip", "2001:db8::7", "--yes").stdout
    password = re.search(r", password (\S+)\n$", told)[1]
    zone = (server.base / "example.org.zone").read_text()
    assert zone in told
    log = server.base / "setup-example.org.log"
    assert zone in log.read_text() and password not in log.read_text() and log.stat().st_mode & 0o777 == 0o600
    for line in ("example.org. IN MX 10 mx.example.org.", "mx.example.org. IN A 192.0.2.7", "mx.example.org. IN AAAA 2001:db8::7"):
        assert line + "\n" in zone
    server.start()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    c = smtplib.SMTP_SSL("127.0.0.1", server.submissions, "client.example.net", timeout=20 * SLOW, context=context)
    certificate = c.sock.getpeercert(binary_form=True)
    c.login("alice@example.org", password)
    c.sendmail("alice@example.org", ["alice@example.org"], "Subject: first\r\n\r\n")
    c.quit()
    server.base, outer = server.base / "all", server.base
    try:
        server.wait_messages("alice@example.org", 1)
    finally:
        server.base = outer
    # what is in the DNS is the key that is shown
    public = subprocess.run(["openssl", "x509", "-inform", "der", "-pubkey", "-noout"], input=certificate, capture_output=True, check=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=public, capture_output=True, check=True).stdout
    tlsa = f"_25._tcp.mx.example.org. IN TLSA 3 1 1 {hashlib.sha256(der).hexdigest()}\n"
    assert tlsa in zone
    again = server.cli("records", "--ip", "192.0.2.7", "--ip", "2001:db8::7").stdout
    assert again == zone or os.getuid() != 0


def test_nothing_is_overwritten_and_failures_leave_nothing(server):
    server.conf.write_text("mine")
    done = run_setup(server, "--yes", check=False)
    assert done.returncode == 73 and "overwrites nothing" in done.stderr
    assert server.conf.read_text() == "mine" and files(server) == ["godwit.conf"]
    server.conf.unlink()
    (server.base / "example.org.zone").write_text("mine")
    done = run_setup(server, "--yes", check=False)
    assert done.returncode == 73
    assert files(server) == ["example.org.zone"]


@pytest.mark.parametrize("args", [["not a domain"], ["localhost"], ["a.org", "b.org"], ["a.org", "--ip", "x"], ["a.org", "--ports", "25"],
                                  ["a.org", "--directory", "here"], ["a.org", "--hostname", "-x"], []])
def test_bad_arguments(server, args):
    done = subprocess.run([GODWIT, "setup", *args, "-c", str(server.conf), "--yes"], capture_output=True, text=True, check=False)
    assert done.returncode in (64, 65) and done.stderr.startswith("godwit: ")
    assert files(server) == []
