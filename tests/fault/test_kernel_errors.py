# SPDX-License-Identifier: Apache-2.0
"""System calls of the real processes fail (hostile rows H112, H113): 451 or a later delivery, nothing lost, and it
recovers by itself. strace makes them fail; the simulator does the same for every single call."""
import contextlib
import os
import shutil
import signal
import smtplib
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "live"))
from godwit import Server, wait_for  # noqa: E402

ANN = "ann@example.org"
SOON = "timeouts { retry_first 1s; retry_max 2s; }\n"


def can_trace():
    if not shutil.which("strace") or os.geteuid() != 0:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "-e", "inject=getppid:error=EIO", "true"], stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_trace(), reason="needs root and an strace that may trace")


@contextlib.contextmanager
def failing(server, role, calls, error, when=""):
    """While it lasts, these system calls of the process fail."""
    pid = server.process.pid if role == "master" else [p["pid"] for p in server.status() if p["role"] == role][0]
    out = server.base / f"strace.{role}"
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pid), "-o", str(out), "-e", f"trace={calls}", "-e", "signal=none",
                               "-e", f"inject={calls}:error={error}{when}"], stderr=subprocess.PIPE)
    def attached():
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
            return f"TracerPid:\t{tracer.pid}\n" in f.read()
    try:
        wait_for(attached, 10, "strace")
        yield out
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
        tracer.stderr.close()


def send(server, subject):
    """The code that the message got."""
    with server.smtp() as s:
        try:
            s.sendmail("b@example.net", [ANN], f"Subject: {subject}\r\n\r\nx\r\n")
        except smtplib.SMTPResponseException as e:
            return e.smtp_code
    return 250


def subjects(server):
    return sorted(p.read_text().split("Subject: ")[1].split("\n")[0] for p in server.messages(ANN))


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
def test_writing_and_syncing_the_queue(error):
    with Server(extra="deliver no;\n") as server:
        server.account(ANN)
        assert send(server, "before") == 250
        with failing(server, "queue", "fdatasync,fsync,pwritev,pwritev2,pwrite64", error) as out:
            codes = {send(server, f"refused {i}") for i in range(5)}
        assert "INJECTED" in out.read_text()
        assert codes <= {451, 452}
        wait_for(lambda: send(server, "after") == 250, 20, "the queue to take mail again")
        assert server.queue()["messages"] == 2  # what was refused is not there
        server.kill_all()
        server.start()
        assert server.queue()["messages"] == 2
        assert server.stop() == 0
        assert "no damage" in server.cli("spool", "verify").stdout


@pytest.mark.parametrize("calls,error", [("fsync,syncfs", "EIO"), ("renameat,renameat2", "EIO"), ("openat2", "EMFILE"),
                                         ("openat2", "ENFILE"), ("pwritev,pwritev2", "ENOSPC"), ("mkdirat", "EROFS")])
def test_delivering_to_a_mailbox(calls, error):
    with Server(extra=SOON) as server:
        server.account(ANN)
        with failing(server, "local", calls, error) as out:
            for i in range(3):
                assert send(server, str(i)) == 250
            wait_for(lambda: "INJECTED" in out.read_text(), 10, "a delivery")
            time.sleep(0.5)
            assert server.queue()["messages"] == 3
        wait_for(lambda: server.queue()["messages"] == 0, 30, "the deliveries")
        assert subjects(server) == ["0", "1", "2"]  # each once: a name is made from the message's id


def test_master_cannot_fork_for_a_while():
    with Server(smtpd_processes=1) as server:
        server.account(ANN)
        victim = [p["pid"] for p in server.status() if p["role"] == "smtpd"][0]
        with failing(server, "master", "clone,clone3,fork,vfork", "EAGAIN", ":when=1..3") as out:
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: out.read_text().count("INJECTED") >= 3, 20, "three attempts")
        wait_for(server.greets, 20, "the greeting")
        assert send(server, "x") == 250
        server.wait_messages(ANN, 1)


def test_smtpd_has_no_descriptors_for_a_while():
    with Server(smtpd_processes=1) as server:
        server.account(ANN)
        with failing(server, "smtpd", "accept4", "EMFILE"), server.connect() as waiting:
            time.sleep(1)
            assert server.process.poll() is None
            waiting.settimeout(10)
        wait_for(server.greets, 20, "the greeting")
        assert send(server, "x") == 250
