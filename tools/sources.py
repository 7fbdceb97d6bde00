#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Finds the sources for meson.build, so that no list of files is kept by hand.

    sources.py list              one line "kind:folder|file file ..." for each group
    sources.py build-id VERSION  the string that all processes of one build share

The kind follows from the file's name:

    foo_test.c     test      unit test, real world      (folder left empty)
    foo_simtest.c  simtest   unit test, simulated world (folder left empty)
    foo_fuzz.c     fuzz      fuzz target, real world    (folder left empty)
    foo_simfuzz.c  simfuzz   fuzz target, simulated world
    main.c         main      the program's main()
    foo_sqlite.c   sqlite    only in the real programs; links SQLite
    foo_unbound.c  unbound   only in the real programs; links libunbound
    foo_fake.c     fake      only in the simulator
    world_linux.c, linux_*.c in src/world   world_linux
    world_sim.c, sim_*.c in src/world       world_sim
    any other .c or .S       core
"""
import hashlib
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

SUFFIXES = (("_simtest.c", "simtest"), ("_test.c", "test"),
            ("_simfuzz.c", "simfuzz"), ("_fuzz.c", "fuzz"),
            ("_sqlite.c", "sqlite"), ("_unbound.c", "unbound"), ("_fake.c", "fake"))


def kind_of(folder, name):
    for suffix, kind in SUFFIXES:
        if name.endswith(suffix):
            return kind
    if name == "main.c":
        return "main"
    if folder == "world":
        if name == "world_linux.c" or name.startswith("linux_"):
            return "world_linux"
        if name == "world_sim.c" or name.startswith("sim_"):
            return "world_sim"
    return "core"


def find(root=ROOT):
    """{"kind:folder": [path relative to root, ...]}, sorted."""
    groups = {}
    for path, folders, names in os.walk(os.path.join(root, "src")):
        folders.sort()
        below = os.path.relpath(path, os.path.join(root, "src"))
        folder = below.split(os.sep)[0]
        for name in sorted(names):
            if not name.endswith((".c", ".S")) or name.startswith("."):
                continue
            kind = kind_of(folder, name)
            key = kind + ":"
            if kind not in ("test", "simtest", "fuzz", "simfuzz"):
                key += folder
            groups.setdefault(key, []).append(os.path.normpath(os.path.join("src", below, name)))
    return groups


def check_fuzz_names(groups):
    """The corpus of foo_fuzz.c is tests/fuzz/corpus/foo: names are unique."""
    seen = {}
    for path in groups.get("fuzz:", []) + groups.get("simfuzz:", []):
        stem = os.path.basename(path).rsplit("_", 1)[0]
        if stem in seen:
            sys.exit(f"{path} and {seen[stem]} would share one fuzz corpus: rename one")
        seen[stem] = path


def build_id(version):
    parts = [version]
    git = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"],
                         capture_output=True, text=True, check=False)
    if git.returncode == 0:
        parts.append(git.stdout.strip())
    calls = os.path.join(ROOT, "src/ipc/calls.def")
    if os.path.exists(calls):
        with open(calls, "rb") as f:
            parts.append(hashlib.sha256(f.read()).hexdigest()[:12])
    return "-".join(parts)


def main():
    if sys.argv[1:] == ["list"]:
        groups = find()
        check_fuzz_names(groups)
        for key, paths in sorted(groups.items()):
            print(f"{key}|{' '.join(paths)}")
    elif len(sys.argv) == 3 and sys.argv[1] == "build-id":
        print(build_id(sys.argv[2]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
