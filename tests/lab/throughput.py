#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/lab/throughput.py [N] [--sink]: N (10,000) messages from Postfix through godwit to Exim.

Counts and compares every byte: none lost, none twice, none changed. With --sink the end is a server of ours
that stores nothing, where Exim is what limits. Needs root, and what tests/lab needs; GODWIT_BUILD names the
build directory. Prints figures; ends with 1 when something is missing, twice there, or different.
"""
import argparse
import random
import smtplib
import sys
import threading
import time

import conftest
import fakes
from lab import Exim, Lab, Postfix, Unavailable

SENDERS = 8         # connections that submit to Postfix
GIVE_UP = 60        # seconds without one more at the end


def message(run, i):
    """Number i of a run: always the same bytes."""
    chance = random.Random(f"{run}-{i}")
    lines = ["".join(chance.choices("abcdefghij .", k=chance.randrange(0, 100))) for _ in range(chance.choice((3, 20, 50, 200)))]
    return (f"From: a@gw.lab\r\nTo: sink\r\nSubject: {i}\r\nMessage-ID: <{run}.{i}@throughput.lab>\r\n"
            f"Date: Mon, 20 Jul 2026 10:00:00 +0000\r\n\r\n" + "\r\n".join(lines) + "\r\n").encode()


def submit(desk, server, address, run, numbers):
    with desk.inside():
        s = smtplib.SMTP(server.address, 25, "desk.lab", timeout=60)
    for i in numbers:
        s.sendmail(f"sender{i % 50}@gw.lab", [address], message(run, i))
    s.quit()


class EximEnd:
    """A mailbox at Exim."""
    address = "sink@exim.lab"

    def __init__(self, exim):
        self.new = exim.dir / "mail" / "sink" / "new"

    def count(self):
        return sum(1 for _ in self.new.iterdir()) if self.new.is_dir() else 0

    def contents(self):
        return (p.read_bytes() for p in self.new.iterdir()) if self.new.is_dir() else ()

    @staticmethod
    def expected(sent):
        return sent.replace(b"\r\n", b"\n")


class SinkEnd:
    """The fake called sink; Postfix is told to send its domain through godwit."""
    address = "x@exim.lab"

    def __init__(self, fake):
        self.fake = fake

    def count(self):
        return len(self.fake.messages)

    def contents(self):
        return (m.data for m in self.fake.messages)

    @staticmethod
    def expected(sent):
        return sent


def compare(end, run, n):
    """(lost, duplicates, changed) of the messages of this run."""
    seen, changed, mark = {}, 0, f"Message-ID: <{run}.".encode()
    for got in end.contents():
        at = got.find(mark)
        if at < 0:
            continue
        i = int(got[at + len(mark):got.index(b"@", at)])
        seen[i] = seen.get(i, 0) + 1
        changed += not got.endswith(end.expected(message(run, i)))
    return n - len(seen), sum(seen.values()) - len(seen), changed


def measure(desk, postfix, end, run, n, server=None):
    """Sends n messages; (lost, duplicates, changed, seconds to submit, seconds until the last was there)."""
    begin, had = time.monotonic(), end.count()
    threads = [threading.Thread(target=submit, args=(desk, postfix, end.address, run, range(k, n, SENDERS))) for k in range(SENDERS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    submitted = last = time.monotonic()
    count = end.count()
    while count < had + n and time.monotonic() < last + GIVE_UP:
        time.sleep(0.2)
        now = end.count()
        if now > count:
            count, last = now, time.monotonic()
    time.sleep(1)       # for what comes twice
    if server:
        while server.queue() and time.monotonic() < last + GIVE_UP:
            time.sleep(0.5)
    return (*compare(end, run, n), submitted - begin, last - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", metavar="N", nargs="?", type=int, default=10000)
    parser.add_argument("--sink", action="store_true")
    args = parser.parse_args()
    try:
        with Lab() as lab:
            dns = conftest.make_dns(lab)
            gw = conftest.make_gw(lab, dns, "warning")
            postfix = Postfix(lab, dns)
            if args.sink:       # at the address where Exim would be
                end = SinkEnd(fakes.Fake(lab.host("sink", 21), "::"))
            else:
                end = EximEnd(Exim(lab, dns))
            desk = lab.host("desk", conftest.DESK)
            lost, twice, changed, submitted, took = measure(desk, postfix, end, "t", args.n, gw)
            print(f"{args.n} messages Postfix -> godwit -> {'sink' if args.sink else 'Exim'}: {lost} lost, {twice} duplicates, {changed} changed")
            print(f"submitted to Postfix in {submitted:.1f} s ({args.n / submitted:.0f}/s), the last arrived after {took:.1f} s "
                  f"({args.n / took:.0f}/s)")
            print(f"godwit: {gw.metric('godwit_relay_connections_total'):.0f} connections made, "
                  f"{gw.metric('godwit_relay_connections_reused_total'):.0f} messages on one that was there, "
                  f"{gw.metric('godwit_relay_deferred_total'):.0f} times put off")
            return 1 if lost or twice or changed else 0
    except Unavailable as e:
        print(f"cannot run here: {e}")
        return 77


if __name__ == "__main__":
    sys.exit(main())
