# SPDX-License-Identifier: Apache-2.0
"""A godwit of the build directory, run for one test: its own directory, its own ports, nothing left behind.

    with Server() as server:
        server.account("alice@example.org")
        ...
        server.maildir("alice@example.org")   # list of message contents
"""
import json
import os
import pathlib
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time

BUILD = os.environ.get("GODWIT_BUILD") or str(pathlib.Path(__file__).resolve().parents[2] / "build-gcc")
GODWIT = os.path.join(BUILD, "godwit")
SLOW = 5 if os.environ.get("GODWIT_SLOW") else 1


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


class Server:
    def __init__(self, extra="", domains=("example.org",), smtpd_processes=2, start=True):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="godwit-test."))
        os.chmod(self.base, 0o711)  # as root the processes change to users of their own
        self.port = free_port()
        self.conf = self.base / "godwit.conf"
        self.log_path = self.base / "log"
        self.process = None
        blocks = "".join(f"domain {d} {{ }}\n" for d in domains)
        self.conf.write_text(
            f'hostname mx.example.org;\ndirectory "{self.base}";\nsmtpd_processes {smtpd_processes};\n'
            f"listen smtp {{ address 127.0.0.1:{self.port}; }}\n{blocks}{extra}\n"
        )
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.process and self.process.poll() is None:
                assert self.stop() == 0, self.log()
        finally:
            self.kill_all()
            if kind is not None:
                print(self.log()[-20000:])
            shutil.rmtree(self.base, ignore_errors=True)

    def start(self, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([GODWIT, "serve", "-c", str(self.conf)], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        if wait:
            wait_for(self.greets, 30, "the greeting")
        return self

    def greets(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}\n{self.log()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                s.settimeout(5)
                line = s.recv(100)
                s.sendall(b"QUIT\r\n")
                s.recv(100)
                return line.startswith(b"220")
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60 * SLOW)

    def kill_all(self):
        """All at once, as a power cut would; children die with master."""
        if self.process and self.process.poll() is None:
            pids = [p["pid"] for p in self.status()] if self.greets_control() else []
            for pid in [self.process.pid, *pids]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()
        if self.process:
            time.sleep(0.05)

    def greets_control(self):
        return self.cli("status", check=False).returncode == 0

    def cli(self, *args, check=True, **kw):
        done = subprocess.run([GODWIT, *args, "-c", str(self.conf)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=60 * SLOW, check=False, **kw)
        if check and done.returncode != 0:
            raise AssertionError(f"godwit {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()[-5000:]}")
        return done

    def status(self):
        return json.loads(self.cli("status", "--json").stdout)

    def queue(self):
        return json.loads(self.cli("queue", "list", "--json").stdout)

    def account(self, *addresses):
        self.cli("account", "add", *addresses)
        return self

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def smtp(self, timeout=20):
        return smtplib.SMTP("127.0.0.1", self.port, "client.example.net", timeout=timeout * SLOW)

    def connect(self, timeout=10):
        s = socket.create_connection(("127.0.0.1", self.port), timeout * SLOW)
        return s

    def mailbox(self, address):
        local, domain = address.rsplit("@", 1)
        return self.base / "mail" / domain / local

    def messages(self, address):
        new = self.mailbox(address) / "new"
        return sorted(new.iterdir()) if new.is_dir() else []

    def wait_messages(self, address, count, seconds=20):
        wait_for(lambda: len(self.messages(address)) >= count, seconds, f"{count} messages for {address}")
        return self.messages(address)
