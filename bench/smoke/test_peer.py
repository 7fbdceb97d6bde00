# SPDX-License-Identifier: Apache-2.0
"""A short run of bench/peer.sh and of `godwit bench`: that they work, not how fast."""
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "live"))
from godwit import BUILD, GODWIT, free_port, wait_for  # noqa: E402


def run_peer(tmp_path, mode, to):
    os.chmod(tmp_path, 0o711)
    for parent in list(tmp_path.parents)[:2]:
        if parent.stat().st_uid == os.geteuid():
            os.chmod(parent, parent.stat().st_mode | 0o011)
    port = free_port()
    env = dict(os.environ, MODE=mode, PORT=str(port), RUN=str(tmp_path), MAILDIR=str(tmp_path / "mail"), USERS="3", CONC="20",
               PROJECT=str(ROOT), GODWIT_BUILD=BUILD)
    shell = subprocess.Popen(["bash", "-c", ". bench/peer.sh; peer_start; wait"], cwd=ROOT, env=env)
    conf = str(tmp_path / "godwit.conf")
    try:
        def ready():
            return subprocess.run([GODWIT, "status", "-c", conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
        wait_for(lambda: pathlib.Path(conf).exists() and ready(), 20, "the server")
        done = subprocess.run([GODWIT, "bench", f"127.0.0.1:{port}", "-t", to, "-n", "300", "-c", "10", "-m", "5", "--json"],
                              stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        result = json.loads(done.stdout)
        assert result["accepted"] == 300 and result["refused"] == 0 and result["broken"] == 0
        print(mode, result)
        return lambda: len(list((tmp_path / "mail").glob("*/*/new/*")))
    finally:
        subprocess.run([GODWIT, "stop", "-c", conf], stdout=subprocess.DEVNULL, check=False, timeout=60)
        shell.wait(60)


def test_hold(tmp_path):
    run_peer(tmp_path, "hold", "someone@sink.test")


def test_maildir(tmp_path):
    count = run_peer(tmp_path, "maildir", "user1@local.test")
    assert count() > 0


def test_slow_destination():
    done = subprocess.run([sys.executable, "bench/slow_destination.py", "--build", BUILD, "--messages", "200", "--slow", "10", "--runs", "1"],
                          cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    assert "medians: alone" in done.stdout
    print(done.stdout)
