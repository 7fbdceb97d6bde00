#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs scenario files (docs/scenarios.md) against real processes on loopback.

    tools/scenario_live.py --build DIR FILE

Exit status 0: passed; 77: the scenario uses what only the simulator has; else failed, with the
server's log.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

SKIPPED = 77
ASSERT_SECONDS = 30
REPLY_SECONDS = 60
SLOW = 4 if os.environ.get("GODWIT_ASAN") else 1
SIM_ONLY = {"elapse", "crash", "fault", "disk", "clock", "partition", "heal", "dns", "server"}
FILL_LINE = b"The bar-tailed godwit flies from Alaska to New Zealand without a stop, and arrives.\r\n"
TRACE = re.compile(rb"(?:(?:Return-Path|Delivered-To|Received|X-Original-To):[^\n]*\n|[ \t][^\n]*\n)*\Z")


class Failure(Exception):
    """What must be is not."""


class Skip(Exception):
    """The scenario is not for the real world."""


# ---- reading ---------------------------------------------------------------------------------

class Word(str):
    quoted = False


class Statement:
    def __init__(self, line, words):
        self.line, self.words = line, words
        self.inside, self.text = [], ""

    def starts(self, *words):
        return [str(w) for w in self.words[:len(words)]] == list(words) and \
            not any(w.quoted for w in self.words[:len(words)])

    def after(self, word):
        """What follows this word, or None."""
        for i, w in enumerate(self.words[:-1]):
            if w == word and not w.quoted:
                return self.words[i + 1]
        return None


TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s;"]+)|(;)')
ESCAPES = {"r": "\r", "n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def unescape(text):
    def one(match):
        if match.group(1):
            return chr(int(match.group(1), 16))
        return ESCAPES[match.group(2)]
    return re.sub(r"\\(?:x([0-9a-fA-F]{2})|(.))", one, text)


def split_line(line):
    """The statements of a line, each a list of words."""
    statements, words = [], []
    at = 0
    while True:
        while at < len(line) and line[at] in " \t\r":
            at += 1
        if at == len(line) or line[at] == "#":
            break
        match = TOKEN.match(line, at)
        if not match:
            raise Failure(f"cannot be read: {line}")
        at = match.end()
        if match.group(3):
            statements.append(words)
            words = []
            continue
        word = Word(unescape(match.group(1)) if match.group(1) is not None else match.group(2))
        word.quoted = match.group(1) is not None
        words.append(word)
    return [w for w in statements + [words] if w]


class Parser:
    def __init__(self, text):
        self.lines, self.at = text.split("\n"), 0

    def next(self):
        self.at += 1
        return self.lines[self.at - 1]

    def more(self):
        return self.at < len(self.lines)

    def config(self):
        depth, lines = 1, []
        while self.more():
            line = self.next()
            code = line.split("#")[0]
            depth += code.count("{") - code.count("}")
            if depth == 0:
                return "\n".join(lines) + "\n"
            lines.append(line)
        raise Failure("a block has no end")

    def message(self, indent):
        lines = []
        while self.more():
            line = self.next()
            tabs = len(line) - len(line.lstrip("\t"))
            if tabs == indent and line.strip() == "}":
                return "".join(text + "\r\n" for text in lines)
            lines.append(line[min(tabs, indent + 1):])
        raise Failure("a block has no end")

    def statements(self, nested):
        found = []
        while self.more():
            line = self.next()
            indent = len(line) - len(line.lstrip("\t"))
            for words in split_line(line):
                if words == ["}"]:
                    return found
                st = Statement(self.at, words)
                if words[-1] == "{" and not words[-1].quoted:
                    st.words = words[:-1]
                    if st.starts("config"):
                        st.text = self.config()
                    elif st.starts("message"):
                        st.text = self.message(indent)
                    else:
                        st.inside = self.statements(True)
                found.append(st)
        if nested:
            raise Failure("a block has no end")
        return found


def seconds(word):
    number, unit = re.fullmatch(r"(\d+)(ms|s|min|h|d)", word).groups()
    return int(number) * {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}[unit]


def size(word):
    factor = {"K": 1024, "M": 1024 * 1024}.get(word[-1], 1)
    return int(word[:-1] if factor > 1 else word) * factor


def latin(text):
    """Bytes as they were written: \\xHH is one byte, other characters are UTF-8."""
    return b"".join(bytes([ord(c)]) if ord(c) < 256 else c.encode() for c in text)


# ---- the server ------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, build, statements):
        self.program = os.path.join(build, "godwit")
        self.dir = tempfile.mkdtemp(prefix="godwit-live-")
        os.chmod(self.dir, 0o711)  # started as root, the processes change to users of their own
        self.conf = os.path.join(self.dir, "godwit.conf")
        self.log = os.path.join(self.dir, "log")
        self.port = free_port()
        self.process = None
        text = f"directory {self.dir}/data;\nlisten smtp {{ address 127.0.0.1:{self.port}; tls none; }}\n"
        text += "".join(st.text for st in statements if st.starts("config"))
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(text)

    def run(self, *args):
        done = subprocess.run([self.program, *args[:1], "-c", self.conf, *args[1:]], capture_output=True,
                              stdin=subprocess.DEVNULL, text=True, timeout=60 * SLOW, check=False)
        return done.returncode, done.stdout + done.stderr

    def must(self, *args):
        status, output = self.run(*args)
        if status != 0:
            raise Failure(f"godwit {' '.join(args)}: status {status}: {output}")
        return output

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def start(self):
        with open(self.log, "a", encoding="utf-8") as log:
            before = log.tell()
            self.process = subprocess.Popen([self.program, "serve", "-c", self.conf], stderr=log,
                                            stdout=log, stdin=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + ASSERT_SECONDS * SLOW
        while " server_ready " not in self.log_text()[before:]:
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failure("the server does not start")
            time.sleep(0.02)

    def stop(self):
        if not self.process:
            return
        self.must("stop")
        try:
            status = self.process.wait(ASSERT_SECONDS * SLOW)
        except subprocess.TimeoutExpired:
            raise Failure("the server does not end") from None
        self.process = None
        if status != 0:
            raise Failure(f"the server ended with status {status}")

    def kill(self):
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def queue(self):
        return json.loads(self.must("queue", "list", "--json"))

    def mailbox(self, address):
        """The bytes of each message."""
        local, domain = address.rsplit("@", 1)
        found = []
        for part in ("new", "cur"):
            path = os.path.join(self.dir, "data", "mail", domain, local, part)
            for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
                try:
                    with open(os.path.join(path, name), "rb") as f:
                        found.append(f.read())
                except FileNotFoundError:
                    continue
        return found


# ---- clients ---------------------------------------------------------------------------------

class Client:
    def __init__(self, run, st):
        self.run, self.st = run, st
        source = st.after("from") or "127.0.0.1"
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source.startswith("127."):
            self.socket.bind((source, 0))
        self.socket.settimeout(REPLY_SECONDS * SLOW)
        self.socket.connect(("127.0.0.1", run.server.port))
        self.input = b""
        self.body, self.last_body = None, None
        self.data = False

    def send(self, data):
        if self.body is not None:
            self.body += data
        self.socket.sendall(data)

    def line(self):
        while b"\n" not in self.input:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError
            self.input += piece
        line, self.input = self.input.split(b"\n", 1)
        return line + b"\n"

    def reply(self):
        lines = []
        while True:
            lines.append(self.line())
            if lines[-1][3:4] != b"-":
                return b"".join(lines)

    def expect(self, st):
        if st.starts("expect", "closed"):
            try:
                raise Failure(f"expected the end of the connection, got {self.reply()}")
            except (EOFError, ConnectionError):
                return
        try:
            reply = self.reply()
        except (EOFError, OSError) as e:
            raise Failure(f"expected {st.words[1]}, got no reply: {e!r}") from None
        good = reply[:3].decode() == st.words[1]
        for word in st.words[2:]:
            good &= latin(word) in reply if word.quoted else reply[4:].startswith(latin(word))
        if not good:
            raise Failure(f"expected {' '.join(st.words[1:])}, got {reply.decode(errors='replace')}")

    def message(self, st):
        if len(st.words) > 1:
            with open(os.path.join(self.run.folder, st.words[1]), "rb") as f:
                data = re.sub(rb"\r?\n", b"\r\n", f.read())
        else:
            data = st.text.encode()
        self.run.sent(data)
        self.send(re.sub(rb"(?m)^\.", b"..", data) + b".\r\n")

    def fill(self, n):
        while n > 0:
            k = min(n, len(FILL_LINE))
            if k == len(FILL_LINE) or k < 2:
                self.send(FILL_LINE[len(FILL_LINE) - k:])
            else:
                self.send(FILL_LINE[:k - 2] + b"\r\n")
            n -= k

    def step(self, st):
        if st.starts("expect"):
            self.expect(st)
        elif st.starts("send"):
            self.send(latin(st.words[1]))
        elif st.starts("send-split"):
            data, n = latin(st.words[2]), int(st.words[1])
            for at in range(0, len(data), n):
                self.send(data[at:at + n])
                time.sleep(0.002)
        elif st.starts("fill"):
            self.fill(size(st.words[1]))
        elif st.starts("message"):
            self.message(st)
        elif st.starts("pause"):
            time.sleep(seconds(st.words[1]))
        elif st.starts("half-close"):
            self.socket.shutdown(socket.SHUT_WR)
        elif st.starts("reset"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        elif st.starts("close"):
            return False
        else:
            raise Failure("this is no step of a client")
        return True

    def play(self):
        try:
            for st in self.st.inside:
                try:
                    if not self.step(st):
                        break
                except (Failure, OSError) as e:
                    raise Failure(f"line {st.line}: {e}") from None
        finally:
            self.socket.close()


class Load(threading.Thread):
    """One connection of a load; shares the counter of messages with the others."""

    def __init__(self, run, st, numbers, lock):
        super().__init__(daemon=True)
        self.run_, self.numbers, self.lock = run, numbers, lock
        self.to = [w.rstrip(",") for w in st.words if "@" in w]
        self.size = size(st.after("of")) if st.after("of") else 2000
        self.error = None

    def compose(self, n):
        lines = [f"From: load@example.net\r\nSubject: message {n}\r\n\r\n"]
        total = len(lines[0])
        while total + 40 < self.size:
            lines.append(f"line {total} of message {n}\r\n")
            total += len(lines[-1])
        return ("".join(lines) + f"end of message {n}\r\n").encode()

    def run(self):
        try:
            client = Client(self.run_, Statement(0, []))
            self.dialogue(client)
            client.socket.close()
        except (Failure, OSError, EOFError) as e:
            self.error = repr(e)

    def ask(self, client, text, code):
        client.send(text.encode() + b"\r\n")
        reply = client.reply()
        if not reply.startswith(code.encode()):
            raise Failure(f"{text}: {reply}")

    def dialogue(self, client):
        client.reply()
        self.ask(client, "EHLO load.example.net", "250")
        while True:
            with self.lock:
                n = next(self.numbers, None)
            if n is None:
                break
            self.ask(client, "MAIL FROM:<load@example.net>", "250")
            for i, to in enumerate(self.to):
                if i == n % len(self.to) or n >> i & 1:
                    self.ask(client, f"RCPT TO:<{to}>", "250")
            self.ask(client, "DATA", "354")
            data = self.compose(n)
            self.run_.sent(data)
            self.ask(client, (data + b".").decode(), "250")
        self.ask(client, "QUIT", "221")


# ---- the script ------------------------------------------------------------------------------

class Run:
    def __init__(self, build, path):
        self.folder = os.path.dirname(os.path.abspath(path))
        with open(path, encoding="utf-8") as f:
            self.statements = Parser(f.read()).statements(False)
        only = sorted({st.words[0] for st in self.statements} & SIM_ONLY)
        if only:
            raise Skip(f"only for the simulator: {', '.join(only)}")
        self.server = Server(build, self.statements)
        self.background, self.messages, self.lock = [], [], threading.Lock()

    def sent(self, data):
        with self.lock:
            self.messages.append(data.replace(b"\r\n", b"\n"))

    def block(self, name):
        return [inner for st in self.statements if st.starts(name) for inner in st.inside]

    def accounts(self):
        names = [st.words[0] for st in self.block("accounts")]
        if names:
            self.server.must("account", "add", *names)
        for st in self.block("aliases"):
            self.server.must("alias", "add", st.words[0], *[w.rstrip(",") for w in st.words[2:]])

    def until(self, st, want, count):
        end = time.monotonic() + ASSERT_SECONDS * SLOW
        while (n := count()) != want:
            if time.monotonic() > end:
                raise Failure(f"has {n}, not {want}")
            time.sleep(0.05)

    def check_mailbox(self, st):
        text = latin(st.after("containing") or "")
        self.until(st, int(st.words[3]), lambda: sum(text in m for m in self.server.mailbox(st.words[1])))

    def check_queue(self, st):
        key = "held" if st.words[3] == "held" else "messages"
        self.until(st, int(st.words[2]), lambda: self.server.queue()[key])

    def check_log(self, st):
        text = st.after("containing") or ""
        event = re.compile(rf" {re.escape(st.words[2])}( |$)")
        self.until(st, True, lambda: any(event.search(line) and text in line
                                         for line in self.server.log_text().split("\n")))

    def in_background(self, thread):
        self.background.append(thread)
        thread.start()

    def start_load(self, st):
        numbers, lock = iter(range(int(st.words[1]))), threading.Lock()
        for _ in range(int(st.after("over") or 1)):
            self.in_background(Load(self, st, numbers, lock))

    def start_client(self, st):
        client = Client(self, st)

        def play():
            thread.error = None
            try:
                client.play()
            except Failure as e:
                thread.error = str(e)
        thread = threading.Thread(target=play, daemon=True)
        self.in_background(thread)

    def wait(self):
        for thread in self.background:
            thread.join()
            if thread.error:
                raise Failure(f"in the background: {thread.error}")
        self.background = []

    def play(self, st):
        if st.starts("client"):
            Client(self, st).play()
        elif st.starts("background"):
            self.start_client(st)
        elif st.starts("load"):
            self.start_load(st)
        elif st.starts("wait"):
            self.wait()
        elif st.starts("mailbox"):
            self.check_mailbox(st)
        elif st.starts("queue", "has"):
            self.check_queue(st)
        elif st.starts("queue"):
            words = st.words[2:] or ["--all"]
            if st.words[1] == "move":
                words = [words[0], "--route", words[2] or "-"]
            self.server.must("queue", st.words[1], *words)
        elif st.starts("expect", "log"):
            self.check_log(st)
        elif st.starts("stop"):
            self.server.stop()
        elif st.starts("start"):
            self.server.start()
        elif st.starts("restart"):
            self.server.stop()
            self.server.start()
        elif st.words[0] not in ("config", "accounts", "aliases"):
            raise Failure("this is no statement")

    def judge(self):
        """Nothing lies in a mailbox that was not sent (messages with `message` and `load` only)."""
        for st in self.block("accounts"):
            for found in self.server.mailbox(st.words[0]):
                known = [m for m in self.messages if found.endswith(m)]
                if self.messages and not known:
                    continue    # sent by bytes of a script
                if known and not any(TRACE.match(found[:len(found) - len(m)]) for m in known):
                    raise Failure(f"{st.words[0]}: more than trace fields before a message: {found[:400]!r}")

    def run(self):
        self.server.start()
        self.accounts()
        for st in self.statements:
            try:
                self.play(st)
            except (Failure, OSError, EOFError, subprocess.TimeoutExpired) as e:
                raise Failure(f"line {st.line}: {e}") from None
        self.wait()
        self.judge()
        self.server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("file")
    args = parser.parse_args()
    run = None
    try:
        run = Run(os.path.abspath(args.build), args.file)
        run.run()
    except Skip as e:
        print(e)
        return SKIPPED
    except Failure as e:
        if run and os.path.exists(run.server.log):
            print(run.server.log_text()[-8000:])
        print(f"{args.file}: {e}")
        return 1
    finally:
        if run:
            run.server.kill()
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
