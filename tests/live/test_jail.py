# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of each process: no new privileges, a system call filter, no capabilities, own users."""
import os

import pytest
from godwit import Server


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.account("alice@example.org")
        yield s


def test_every_child_is_jailed(server):
    processes = server.status()
    assert {p["role"] for p in processes} == {"smtpd", "queue", "local", "relay", "lookup", "resolver", "control", "keys"}
    for p in processes:
        s = status(p["pid"])
        assert s["NoNewPrivs"] == "1", p
        assert s["Seccomp"] == "2", p
        assert int(s["CapEff"], 16) == 0 and int(s["CapPrm"], 16) == 0, p


def test_master_is_jailed(server):
    s = status(server.process.pid)
    assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2"
    sys_admin, sys_ptrace, sys_module = 21, 19, 16
    assert int(s["CapEff"], 16) & (1 << sys_admin | 1 << sys_ptrace | 1 << sys_module) == 0
    assert int(s["CapBnd"], 16) & (1 << sys_admin | 1 << sys_ptrace | 1 << sys_module) == 0 or os.geteuid() != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")
def test_each_role_has_a_user_of_its_own(server):
    users = {p["role"]: status(p["pid"])["Uid"].split() for p in server.status()}
    assert all("0" not in ids for ids in users.values())
    assert len({ids[0] for ids in users.values()}) == 8
    with server.smtp() as s:
        s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nx\r\n")
    path = server.wait_messages("alice@example.org", 1)[0]
    assert str(path.stat().st_uid) == users["local"][0] and path.stat().st_mode & 0o777 == 0o600


def test_who_meets_strangers_has_no_file_open(server):
    for p in server.status():
        if p["role"] not in ("smtpd", "relay", "resolver", "keys"):
            continue
        targets = [os.readlink(f"/proc/{p['pid']}/fd/{fd}") for fd in os.listdir(f"/proc/{p['pid']}/fd")]
        odd = [t for t in targets if not t.startswith(("socket:", "anon_inode:", "/dev/null")) and not t.endswith("/log")]
        assert odd == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root directory")
def test_who_meets_strangers_sees_an_empty_root(server):
    for p in server.status():
        if p["role"] in ("smtpd", "relay", "resolver", "keys"):
            assert os.readlink(f"/proc/{p['pid']}/root") != "/", p


def test_no_core_and_not_traceable(server):
    for p in server.status():
        with open(f"/proc/{p['pid']}/limits", encoding="ascii") as f:
            core = [line for line in f if line.startswith("Max core file size")][0].split()
        assert core[4:6] == ["0", "0"]
