# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md is what the program itself prints."""
import pathlib
import subprocess

from godwit import GODWIT


def test_the_manual_is_up_to_date():
    printed = subprocess.run([GODWIT, "check", "--manual"], capture_output=True, text=True, check=True, timeout=60).stdout
    kept = pathlib.Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
    assert kept.read_text() == printed, "run: godwit check --manual > docs/configuration.md"
