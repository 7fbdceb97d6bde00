# SPDX-License-Identifier: Apache-2.0
"""A short run of throughput.py: Postfix to Exim through godwit, every byte of every message."""
import throughput

MESSAGES = 200


def test_nothing_lost_twice_or_changed(desk, gw, postfix, exim):
    lost, twice, changed, _, took = throughput.measure(desk.host, postfix, throughput.EximEnd(exim), "smoke", MESSAGES, gw)
    assert (lost, twice, changed) == (0, 0, 0)
    print(f"{MESSAGES / took:.0f} messages a second")
