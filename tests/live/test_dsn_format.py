# SPDX-License-Identifier: Apache-2.0
"""Delivery status notifications as a foreign MIME parser reads them (RFC 3464, RFC 6522, RFC 6533).

The unit test of src/dsn writes each notification that it composes into GODWIT_DSN_DIR.
"""
import email
import email.policy
import os
import pathlib
import re
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("GODWIT_BUILD", "build"))
TEST = BUILD / "tests" / "unit" / "dsn_dsn_test"

STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
ORIGINAL_TYPES = ("message/rfc822", "text/rfc822-headers",
                  "message/global", "message/global-headers")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    if not TEST.exists():
        pytest.skip(f"{TEST} was not built")
    place = tmp_path_factory.mktemp("dsn")
    done = subprocess.run([TEST], env={**os.environ, "GODWIT_DSN_DIR": str(place)}, timeout=60,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def parse(raw, name):
    policy = email.policy.SMTPUTF8 if name.endswith(".utf8.eml") else email.policy.SMTP
    return email.message_from_bytes(raw, policy=policy)


def groups(part):
    """The report's groups of fields; the email package parses only the plain type itself."""
    if part.get_content_type() == "message/delivery-status":
        return part.get_payload()
    text = part.get_payload(decode=True)
    if text is None:    # a message/* type that it took for an enclosed message
        inner = part.get_payload()
        text = (inner[0] if isinstance(inner, list) else inner).as_bytes()
    return [email.message_from_bytes(g) for g in re.split(rb"(?:\r?\n){2}", text) if g.strip()]


def test_there_are_samples(samples):
    assert len(samples) > 20
    assert any(name.endswith(".utf8.eml") for name in samples)


def test_structure(samples):
    for name, raw in samples.items():
        message = parse(raw, name)
        assert not message.defects, (name, message.defects)
        assert message.get_content_type() == "multipart/report", name
        assert message.get_param("report-type") == "delivery-status", name
        kinds = [part.get_content_type() for part in message.get_payload()]
        assert len(kinds) == 3, (name, kinds)
        assert kinds[0] == "text/plain" and kinds[1] in STATUS_TYPES, (name, kinds)
        assert kinds[2] in ORIGINAL_TYPES, (name, kinds)
        assert message["Auto-Submitted"] == "auto-replied", name
        assert message["From"].addresses[0].username == "MAILER-DAEMON", name
        assert len(message["To"].addresses) == 1, name
        assert message["Date"].datetime, name
        assert not message.get_all("Bcc"), name


def test_text_is_plain_and_readable(samples):
    for name, raw in samples.items():
        text = parse(raw, name).get_payload()[0].get_content()
        assert text.startswith("This is a report of the mail server mx.example.com."), name
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text.replace("\r\n", "\n")), name


def test_report(samples):
    for name, raw in samples.items():
        report = parse(raw, name).get_payload()[1]
        if report.get_content_type() != "message/delivery-status":
            continue
        fields = groups(report)
        assert fields[0]["Reporting-MTA"] == "dns; mx.example.com", name
        assert len(fields) >= 2, name
        for one in fields[1:]:
            assert not one.defects, (name, one.defects)
            assert str(one["Action"]) in ("failed", "delayed", "relayed", "delivered",
                                          "expanded"), name
            assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", str(one["Status"])), name
            assert re.match(r"(rfc822|utf-8); ", str(one["Final-Recipient"])), name


def test_the_first_in_full(samples):
    message = parse(samples["refusal.ascii.eml"], "refusal.ascii.eml")
    assert message["Subject"] == "Undelivered mail: ann@example.org"
    fields = groups(message.get_payload()[1])[1]
    assert fields["Final-Recipient"] == "rfc822; ann@example.org"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user"
    original = email.message_from_string(message.get_payload()[2].get_content())
    assert original["Message-ID"] == "<m1@example.net>"


def test_utf8_in_seven_bits(samples):
    raw = samples["global7.ascii.eml"]
    assert raw.isascii()
    message = parse(raw, "global7.ascii.eml")
    assert message["Subject"] == "Undelivered mail: jürg@example.org"
    assert "<jürg@example.org>" in message.get_payload()[0].get_content()


def test_full_original(samples):
    message = parse(samples["full.ascii.eml"], "full.ascii.eml")
    original = message.get_payload()[2].get_payload()[0]
    assert original["S"] == "a"
    assert original.get_content().strip() == "b"
