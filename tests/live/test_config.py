# SPDX-License-Identifier: Apache-2.0
"""godwit check and serve on configuration files as they lie on a disk."""
import os
import subprocess

import pytest
from godwit import GODWIT, Server

GOOD = "hostname mx.example.org;\nlisten smtp { address 127.0.0.1:2525; }\n"


def check(directory, name):
    return subprocess.run([GODWIT, "check", "-c", name], cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def test_include_is_relative_to_its_file_wherever_one_stands(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("domain a.example { }\n")
    (tmp_path / "b.conf").write_text("domain b.example { }\n")
    (tmp_path / "godwit.conf").write_text(GOOD + 'include "conf.d/*.conf";\ninclude "b.conf";\n')
    for directory, name in ((tmp_path, "godwit.conf"), (tmp_path, "./godwit.conf"), ("/", str(tmp_path / "godwit.conf")),
                            (tmp_path.parent, f"{tmp_path.name}/godwit.conf")):
        done = check(directory, name)
        assert (done.returncode, done.stderr) == (0, "")
        assert "2 domains" in done.stdout


def test_a_file_that_cannot_be_read_is_the_one_mistake(tmp_path):
    done = check(tmp_path, "missing.conf")
    assert (done.returncode, done.stderr) == (78, "missing.conf: cannot read missing.conf: there is no such file\n")
    (tmp_path / "godwit.conf").write_text(GOOD + 'include "x.conf";\n')
    done = check(tmp_path, "godwit.conf")
    assert (done.returncode, done.stderr) == (78, "godwit.conf:3:1: cannot read ./x.conf: there is no such file\n")
    (tmp_path / "x.conf").write_text('include "godwit.conf";\n')
    done = check(tmp_path, "godwit.conf")
    assert done.returncode == 78 and "does a file include itself?" in done.stderr


def test_accounts_before_the_first_start():
    with Server(start=False) as server:
        server.conf.write_text(server.conf.read_text().replace(str(server.base), f"{server.base}/new/place"))
        assert "added" in server.cli("account", "add", "alice@example.org").stdout
        assert server.cli("account", "list").stdout == "alice@example.org\n"
        server.start()
        with server.smtp() as s:
            s.sendmail("b@example.net", ["alice@example.org"], "Subject: x\r\n\r\nx\r\n")


def test_a_second_server_says_so_and_takes_no_client():
    with Server() as server:
        second = subprocess.run([GODWIT, "serve", "-c", str(server.conf)], capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 71
        assert "another server runs with this configuration" in second.stderr
        assert "control" not in second.stderr.split("another server")[0]  # nobody was started
        for _ in range(20):
            assert server.greets()
        assert server.greets_control()


def test_a_port_that_is_taken_is_named():
    with Server(smtpd_processes=1) as server, Server(smtpd_processes=1, start=False) as other:
        other.conf.write_text(other.conf.read_text().replace(f":{other.port}", f":{server.port}"))
        done = subprocess.run([GODWIT, "serve", "-c", str(other.conf)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 71
        assert "the port is taken by another program" in done.stderr and f"127.0.0.1:{server.port}" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
def test_a_place_that_the_users_cannot_reach_is_named():
    with Server(start=False) as server:
        private = server.base / "private"
        private.mkdir(0o700)
        server.conf.write_text(server.conf.read_text().replace(f'"{server.base}"', f'"{private}/srv"'))
        done = server.cli("account", "add", "alice@example.org", check=False)
        assert done.returncode == 77 and f"cannot pass {private}: chmod o+x" in done.stderr
        done = subprocess.run([GODWIT, "serve", "-c", str(server.conf)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 71 and "cannot pass this directory" in done.stderr and f'"{private}"' in done.stderr
