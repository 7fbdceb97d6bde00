# SPDX-License-Identifier: Apache-2.0
"""The resolver against real name servers: recursion with validation, and the stub back end."""
import concurrent.futures
import json
import os

import pytest
from godwit import Server, free_port
from nameserver import Misbehaving, Nsd, missing_tools

needs_nsd = pytest.mark.skipif(bool(missing_tools()), reason="not installed: " + " ".join(missing_tools()))

# those of the package dns-root-data: that they can be read, and within the stack there is
ROOT_FILES = "".join(f'{directive} "{path}";' for directive, path in
                     (("root_hints", "/usr/share/dns/root.hints"), ("trust_anchor", "/usr/share/dns/root.ds"))
                     if os.path.exists(path))

DATA = """
@ IN MX 20 mx2
@ IN MX 10 mx
@ IN TXT "v=spf1 " "-all"
@ IN TXT "second; with \\"quotes\\""
www IN CNAME mx
mx IN A 192.0.2.25
mx IN AAAA 2001:db8::25
mx2 IN A 192.0.2.26
null IN MX 0 .
out IN CNAME mx.plain.example.
gone IN CNAME nowhere
_25._tcp.mx IN TLSA 3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
"""
REVERSE = """
25 IN PTR mx.good.example.
26 IN PTR odd\\;na\\032me\\010.good.example.
27 IN PTR odd\\013\\010.good.example.
27 IN PTR fine.good.example.
"""


def lookup(server, name, kind):
    done = server.cli("dns", name, kind, "--json", check=False)
    assert done.returncode in (0, 75), done.stderr
    return json.loads(done.stdout)


def found(server, name, kind, secure, records, canonical=None):
    out = lookup(server, name, kind)
    assert out["status"] == "found" and out["why"] == "", out
    assert out["secure"] is secure, out
    assert out["canonical"] == (canonical or name), out
    assert out["records"] == records, out
    assert 0 < out["ttl"] <= 300, out


def zones(ns):
    ns.zone("good.example", DATA, sign=True)
    ns.zone("bad.example", DATA, sign=True, tamper=("192.0.2.25", "192.0.2.66"))
    ns.zone("plain.example", DATA)
    ns.zone("plain.test", "www IN A 192.0.2.1\n")
    ns.zone("2.0.192.in-addr.arpa", REVERSE)
    ns.start()


@pytest.fixture(scope="module")
def nsd():
    with Nsd() as ns:
        zones(ns)
        yield ns


def stubs(nsd):
    return "".join(f"stub {zone} 127.0.0.1:{nsd.port};\n" for zone, _ in nsd.zones)


@pytest.fixture(scope="module")
def recursive(nsd):
    with Server(f'resolver {{ trust_anchor "{nsd.anchors}"; {stubs(nsd)} }}', smtpd_processes=1) as s:
        yield s


@needs_nsd
def test_signed_data_is_secure(recursive):
    mx = [{"preference": 10, "host": "mx.good.example"}, {"preference": 20, "host": "mx2.good.example"}]
    out = lookup(recursive, "good.example", "mx")
    assert out["secure"] and sorted(out["records"], key=lambda r: r["preference"]) == mx
    found(recursive, "mx.good.example", "a", True, ["192.0.2.25"])
    found(recursive, "MX.Good.Example", "aaaa", True, ["2001:db8::25"], canonical="mx.good.example")
    found(recursive, "www.good.example", "a", True, ["192.0.2.25"], canonical="mx.good.example")
    found(recursive, "www.good.example", "cname", True, ["mx.good.example"])
    found(recursive, "null.good.example", "mx", True, [{"preference": 0, "host": ""}])
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    found(recursive, "_25._tcp.mx.good.example", "tlsa", True, [{"usage": 3, "selector": 1, "matching": 1, "data": digest}])
    out = lookup(recursive, "good.example", "txt")
    assert sorted(out["records"]) == ['second; with "quotes"', "v=spf1 -all"] and out["secure"]


@needs_nsd
def test_what_is_not_there(recursive):
    for zone, secure in (("good.example", True), ("plain.example", False)):
        out = lookup(recursive, "mx2." + zone, "aaaa")
        assert (out["status"], out["secure"], out["records"]) == ("no_data", secure, [])
        assert 0 < out["ttl"] <= 120
        out = lookup(recursive, "nobody." + zone, "mx")
        assert (out["status"], out["secure"], out["records"]) == ("no_name", secure, [])
        out = lookup(recursive, "gone." + zone, "a")
        assert (out["status"], out["secure"], out["canonical"]) == ("no_name", secure, "nowhere." + zone)


@needs_nsd
def test_tampered_data_is_bogus(recursive):
    out = lookup(recursive, "mx.bad.example", "a")
    assert (out["status"], out["secure"], out["records"]) == ("bogus", False, [])
    assert "mx.bad.example" in out["why"]
    assert lookup(recursive, "www.bad.example", "a")["status"] == "bogus"
    found(recursive, "mx2.bad.example", "a", True, ["192.0.2.26"])  # this one was left alone
    assert "dns_bogus" in recursive.log()


@needs_nsd
def test_unsigned_data_is_not_secure(recursive):
    found(recursive, "mx.plain.example", "a", False, ["192.0.2.25"])
    found(recursive, "www.plain.test", "a", False, ["192.0.2.1"])  # not libunbound's own zone of that name
    found(recursive, "out.good.example", "a", False, ["192.0.2.25"], canonical="mx.plain.example")
    found(recursive, "25.2.0.192.in-addr.arpa", "ptr", False, ["mx.good.example"])


@needs_nsd
def test_odd_names_do_not_leave(recursive):
    out = lookup(recursive, "26.2.0.192.in-addr.arpa", "ptr")
    assert (out["status"], out["records"]) == ("failed", [])
    found(recursive, "27.2.0.192.in-addr.arpa", "ptr", False, ["fine.good.example"])
    for name in ("", "a..b", "a b", "a\nb", "-" * 64, "ä.example", "a" * 250 + ".com", "*.example", "a;b.example"):
        out = lookup(recursive, name, "a")
        assert out["status"] == "failed" and "no domain name" in out["why"], name
    text = recursive.cli("dns", "good.example", "txt").stdout
    assert text.startswith("found, secure, for ") and '"v=spf1 -all"' in text


@needs_nsd
def test_settings_that_cannot_be(nsd):
    """A resolver without its files says which, and the server does not start."""
    for directive in ("trust_anchor", "root_hints"):
        with Server(f'resolver {{ {directive} "{nsd.dir}/missing"; }}', start=False) as s:
            s.start(wait=False)
            assert s.process.wait(20) == 71
            assert f'resolver_setting what="{directive}" detail="{nsd.dir}/missing"' in s.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its root directory")
def test_sees_no_files(stub, recursive):
    for server in (stub, recursive):
        pid = [p["pid"] for p in server.status() if p["role"] == "resolver"][0]
        assert all(name.isdigit() for name in os.listdir(f"/proc/{pid}/root"))  # the kernel's fdinfo


@needs_nsd
def test_without_dnssec_nothing_is_secure(nsd):
    with Server(f"resolver {{ dnssec no; {stubs(nsd)} }}", smtpd_processes=1) as s:
        found(s, "mx.good.example", "a", False, ["192.0.2.25"])
        found(s, "mx.bad.example", "a", False, ["192.0.2.66"])


@needs_nsd
def test_stub_asks_a_name_server(nsd):
    """NSD does not validate, so nothing is secure; the answers are those of the zone."""
    with Server(f"resolver {{ servers 127.0.0.1:{nsd.port}; }}", smtpd_processes=1) as s:
        found(s, "www.good.example", "a", False, ["192.0.2.25"], canonical="mx.good.example")
        assert lookup(s, "nobody.plain.example", "a")["status"] == "no_name"
        assert lookup(s, "mx2.plain.example", "aaaa")["status"] == "no_data"
        assert lookup(s, "www.example.com", "a")["status"] == "failed"  # refused: not its zone
        assert "REFUSED" in lookup(s, "www.example.com", "a")["why"]


@pytest.fixture(scope="module")
def bad():
    with Misbehaving() as bad:
        yield bad


@pytest.fixture(scope="module")
def stub(bad):
    with Server(f"resolver {{ servers 127.0.0.1:{bad.port}; }}", smtpd_processes=1) as s:
        yield s


@pytest.fixture(scope="module", autouse=True)
def slow(stub):
    """What only ends by time-outs, begun before the other tests."""
    with Server(f"resolver {{ stub . 127.0.0.1:{free_port()}; {ROOT_FILES} }}", smtpd_processes=1) as dead:
        with concurrent.futures.ThreadPoolExecutor(7) as pool:
            questions = [(stub, "silent.example")] * 5 + [(stub, "stalls.example"), (dead, "mx.good.example")]
            yield [pool.submit(lookup, server, name, "a") for server, name in questions]


def test_stub_believes_its_server(stub):
    found(stub, "secure.example", "a", True, ["192.0.2.7"])
    found(stub, "plain.example", "a", False, ["192.0.2.7"])
    assert lookup(stub, "nothing.example", "a")["status"] == "no_name"
    assert lookup(stub, "empty.example", "a")["status"] == "no_data"
    for name, why in (("fails", "SERVFAIL"), ("refuses", "REFUSED"), ("garbage", "malformed")):
        out = lookup(stub, name + ".example", "a")
        assert out["status"] == "failed" and why in out["why"] and not out["secure"], out


def test_stub_takes_long_answers_by_tcp(stub):
    out = lookup(stub, "truncated.example", "a")
    assert out["status"] == "found" and len(out["records"]) == 64 and out["records"][0] == "10.0.0.0"


def test_stub_ignores_forged_answers(stub):
    found(stub, "forged.example", "a", False, ["192.0.2.7"])


def test_stub_remembers(stub, bad):
    first = lookup(stub, "kept.example", "a")
    again = lookup(stub, "Kept.example", "a")
    assert again["ttl"] <= first["ttl"] and again["records"] == first["records"]
    assert bad.asked["kept.example"] == 1


def test_stub_passes_over_a_dead_server(bad):
    with Server(f"resolver {{ servers 127.0.0.1:{free_port()} 127.0.0.1:{bad.port}; }}", smtpd_processes=1) as s:
        found(s, "secure.example", "a", True, ["192.0.2.7"])


def test_gives_up_in_time(slow, bad):
    """Silence, a stalled TCP connection, no server at all; equal questions at a time are one."""
    for out in (f.result() for f in slow):
        assert (out["status"], out["secure"], out["records"]) == ("failed", False, []) and out["why"], out
    assert bad.asked["silent.example"] == 3


def test_metrics(stub):
    text = stub.cli("metrics").stdout
    assert 'godwit_resolver_answers_total{status="found"}' in text
    assert "godwit_resolver_under_way 0" in text
