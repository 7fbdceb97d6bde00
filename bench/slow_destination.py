#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a slow destination costs the others: mail for a fast one is relayed alone, then beside one that takes a message a second.

    bench/slow_destination.py [--build DIR] [--messages N] [--slow N] [--runs N]

Three processes' worth of servers on loopback: the godwit that is measured, another that takes the fast mail, and a slow
server of our own. Prints messages a second, end to end, and the ratio; runs alternate.
"""
import argparse
import os
import pathlib
import re
import socketserver
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


class SlowSession(socketserver.StreamRequestHandler):
    """Takes a message a second, whoever comes: one lock for all sessions."""
    turn = threading.Lock()
    taken = 0

    def say(self, line):
        self.wfile.write(line + b"\r\n")
        self.wfile.flush()

    def take(self):
        self.say(b"354 go on")
        while self.rfile.readline() not in (b".\r\n", b""):
            pass
        with SlowSession.turn:
            time.sleep(1)
            SlowSession.taken += 1
        self.say(b"250 2.0.0 taken")

    def handle(self):
        try:
            self.say(b"220 slow.example ESMTP")
            while verb := self.rfile.readline()[:4].upper():
                if verb == b"DATA":
                    self.take()
                elif verb == b"EHLO":
                    self.say(b"250-slow.example\r\n250-8BITMIME\r\n250 PIPELINING")
                elif verb == b"QUIT":
                    self.say(b"221 bye")
                    return
                else:
                    self.say(b"250 2.0.0 ok")
        except OSError:
            pass


class SlowServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def relayed(server):
    text = server.cli("metrics").stdout
    return sum(int(n) for n in re.findall(r"^godwit_queue_relayed_total(?:\{[^}]*\})? (\d+)$", text, re.M))


def load(godwit, server, to, messages):
    subprocess.run([godwit, "bench", f"127.0.0.1:{server.port}", "-t", to, "-n", str(messages), "-c", "20", "-m", "100", "--json"],
                   stdout=subprocess.DEVNULL, check=True, timeout=600)


def one_run(live, messages, slow_messages):
    sink = live.Server("deliver no;\nrelay_from 127.0.0.0/8;\nlimits { transactions 1000000; queue_free_space 64M; }\n", domains=("sink.example",))
    slow = SlowServer(("127.0.0.1", 0), SlowSession)
    threading.Thread(target=slow.serve_forever, daemon=True).start()
    extra = (f"relay_from 127.0.0.0/8;\nlog_level warning;\nlimits {{ transactions 1000000; queue_free_space 64M; }}\n"
             f"route fast {{ to fast.example; via smtp 127.0.0.1:{sink.port}; }}\n"
             f"route slow {{ to slow.example; via smtp 127.0.0.1:{slow.server_address[1]}; }}\n")
    with sink, live.Server(extra) as server:
        if slow_messages:
            load(live.GODWIT, server, "user@slow.example", slow_messages)
        before, slow_before, began = relayed(server), SlowSession.taken, time.monotonic()
        load(live.GODWIT, server, "user@fast.example", messages)
        while relayed(server) - before - (SlowSession.taken - slow_before) < messages:
            time.sleep(0.02)
        took = time.monotonic() - began
        print(f"{'beside a slow one' if slow_messages else 'alone':18} {messages / took:8.0f} messages/s "
              f"({SlowSession.taken - slow_before} slow ones meanwhile)", flush=True)
        slow.shutdown()
        server.cli("queue", "drop", "slow.example")
        return messages / took


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=os.environ.get("GODWIT_BUILD", str(ROOT / "build")))
    p.add_argument("--messages", type=int, default=20000)
    p.add_argument("--slow", type=int, default=2000, help="messages that wait for the slow destination")
    p.add_argument("--runs", type=int, default=3)
    a = p.parse_args()
    os.environ["GODWIT_BUILD"] = str(pathlib.Path(a.build).resolve())
    sys.path.insert(0, str(ROOT / "tests" / "live"))
    import godwit as live  # pylint: disable=import-outside-toplevel
    alone, beside = [], []
    for _ in range(a.runs):
        alone.append(one_run(live, a.messages, 0))
        beside.append(one_run(live, a.messages, a.slow))
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"medians: alone {statistics.median(alone):.0f}/s, beside {statistics.median(beside):.0f}/s: {100 * (1 - ratio):.1f} % less")


if __name__ == "__main__":
    main()
