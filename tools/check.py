#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds godwit and runs its tests. Called by ./check, which installs the packages first.

Each suite has a time budget, which is said when it is exceeded; twice of it is a failure. The last line is
"N passed, N failed[, N skipped]", and the exit status is 0 only when nothing failed.

What a suite runs is found by place and name:

  lint           tools/lint_test.py, tools/lint.py, other tools/*_test.py
  unit*          src/**/*_test.c and *_simtest.c (gcc; clang; under valgrind)
  scenario-sim   tests/scenario/**/*.scn with godwit-sim FILE
  scenario-live  the same with tools/scenario_live.py --build DIR FILE
  live           tests/live      fault   tests/fault     lab   tests/lab
  crash          tests/crash     bench-smoke   bench/smoke
  asan           unit, scenarios and live again, built with ASan and UBSan
  fuzz-smoke     src/**/*_fuzz.c over tests/fuzz/corpus/NAME, then some seconds of fuzzing

A scenario runner or test program ends with 0 (passed), 77 (skipped: does not apply)
or anything else (failed). In tests/live, tests/lab, tests/fault, tests/crash and bench/smoke,
test_*.py is run by pytest and every other executable file is a test program; where the
output of one has a line "N passed, N failed", that is counted instead of 1.
All of them find the build directory in the environment variable GODWIT_BUILD.
"""
import argparse
import contextlib
import concurrent.futures
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sources  # noqa: E402

ROOT = sources.ROOT
PYTHON = "/usr/bin/python3"
JOBS = os.cpu_count() or 1
SKIPPED = 77

SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1:strict_string_checks=1:handle_abort=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "ASAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-14",
}

# build directory: (compiler, meson options)
BUILDS = {
    "build-gcc": ("gcc", []),
    "build-clang": ("clang-14", []),
    "build-asan": ("clang-14", ["-Db_sanitize=address,undefined", "-Doptimization=1"]),
    "build-fuzz": ("clang-14", ["-Dfuzz=true", "-Dtests=disabled", "-Doptimization=1"]),
}

UNIT_TIMEOUT = 60
VALGRIND = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
            "--errors-for-leak-kinds=definite", "--track-origins=no"]
# Not under valgrind, which is 20 to 50 times slower; ASan runs them all.
NOT_UNDER_VALGRIND = {
    "queue_spool_speed_test": "it measures",
    "queue_spool_simtest": "some thousand simulated crashes",
    "queue_spool_test": "a recovery for every byte of a batch",
    "smtpd_session_test": "real time-outs of real sessions",
    "tls_tls_test": "it makes RSA keys, which takes minutes there",
    "lookup_jail_test": "valgrind has no seccomp",
    "smtpd_accept_test": "it uses up the descriptors, valgrind's too",
}
FUZZ_SECONDS = 2


def say(text):
    print(text, flush=True)


class Result:
    """Counts of one suite."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def run(argv, timeout, env=None):
    """(exit status, output). Whatever it leaves running is killed with it."""
    whole_env = dict(os.environ)
    whole_env.update(env or {})
    # a file, not a pipe: a server left behind would hold the pipe open
    with tempfile.TemporaryFile() as out:
        try:
            proc = subprocess.Popen(argv, cwd=ROOT, env=whole_env, stdin=subprocess.DEVNULL,
                                    stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as e:
            return 126, f"{argv[0]}: {e}\n"
        late = False
        try:
            proc.wait(timeout)
        except subprocess.TimeoutExpired:
            late = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(proc.pid, signal.SIGKILL)
        status = proc.wait()
        out.seek(0)
        output = out.read().decode(errors="replace")
    if late:
        output += f"\nkilled after {timeout:.0f} s\n"
    return status, output


def show_failure(name, status, output):
    why = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    say(f"--- FAILED {name} ({why})")
    # indented, so that no line of it can be taken for the closing line
    say("\n".join("    " + line for line in output.rstrip("\n").split("\n")))
    say(f"--- end of {name}")


SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", re.M)


def count(output, status):
    """What one program's output says it has tested; one test when it says nothing."""
    result = Result()
    cmocka = {}
    for kind, n in re.findall(r"^\[  (PASSED|FAILED|SKIPPED) *\] (\d+) test\(s\)", output, re.M):
        cmocka[kind] = cmocka.get(kind, 0) + int(n)     # one program may run several groups
    summaries = SUMMARY.findall(output)
    if status == SKIPPED:
        result.skipped = 1
    elif cmocka:
        result.passed = cmocka.get("PASSED", 0)
        result.failed = cmocka.get("FAILED", 0)
        result.skipped = cmocka.get("SKIPPED", 0)
    elif summaries:
        passed, failed, skipped = summaries[-1]
        result.passed, result.failed, result.skipped = int(passed), int(failed), int(skipped or 0)
    elif status == 0:
        result.passed = 1
    if status not in (0, SKIPPED) and result.failed == 0:
        result.failed = 1
    return result


def run_programs(programs, env=None, parallel=True):
    """Runs [(name, argv, timeout)] and adds up what they count."""
    total = Result()
    with concurrent.futures.ThreadPoolExecutor(JOBS if parallel else 1) as pool:
        futures = [(name, pool.submit(run, argv, timeout, env))
                   for name, argv, timeout in programs]
        for name, future in futures:
            status, output = future.result()
            result = count(output, status)
            if result.failed:
                show_failure(name, status, output)
            elif result.skipped and status == SKIPPED:
                lines = output.strip().splitlines()
                say(f"skipped {name}" + (f": {lines[-1]}" if lines else ""))
            total.add(result)
    return total


# ---- building --------------------------------------------------------------

BUILT = {}


def build(directory):
    """True when the directory is built; tried once a run. The lock keeps two runs apart."""
    if directory in BUILT:
        return BUILT[directory]
    compiler, options = BUILDS[directory]
    path = os.path.join(ROOT, directory)
    os.makedirs(path, exist_ok=True)
    env = {"CC": compiler}
    ok = True
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        configured = os.path.exists(os.path.join(path, "build.ninja"))
        setup = ["meson", "setup", *options, directory] + (["--reconfigure"] if configured else [])
        for argv in (setup, ["ninja", "-C", directory, "--quiet", "-k", "0"]):
            status, output = run(argv, 900, env)
            if status != 0:
                show_failure(" ".join(argv), status, output)
                ok = False
                break
    BUILT[directory] = ok
    return ok


def suite_build(directory):
    def suite():
        result = Result()
        if build(directory):
            result.passed = 1
        else:
            result.failed = 1
        return result
    return suite


def built_program(directory, *names):
    path = os.path.join(ROOT, directory, *names)
    return path if os.access(path, os.X_OK) else None


def env_for(directory):
    env = {"GODWIT_BUILD": os.path.join(ROOT, directory), "GODWIT_ROOT": ROOT,
           "MALLOC_PERTURB_": "165", "PYTHONDONTWRITEBYTECODE": "1"}
    if directory == "build-asan":
        env.update(SANITIZER_ENV)
        env["GODWIT_ASAN"] = "1"
    return env


# ---- suites ----------------------------------------------------------------

def suite_lint():
    tools = os.path.join(ROOT, "tools")
    tests = sorted(n for n in os.listdir(tools) if n.endswith("_test.py"))
    programs = [(f"tools/{n}", [PYTHON, os.path.join(tools, n)], 60) for n in tests]
    programs.append(("tools/lint.py", [PYTHON, os.path.join(tools, "lint.py")], 120))
    return run_programs(programs)


def unit_tests(directory):
    """[(name, path)] of the unit test programs, as meson knows them."""
    status, output = run(["meson", "introspect", "--tests", directory], 60)
    if status != 0:
        show_failure(f"meson introspect {directory}", status, output)
        return None
    tests = [(t["name"], t["cmd"][0]) for t in json.loads(output) if "unit" in str(t["suite"])]
    return sorted(tests)


def run_unit(directory, wrap=(), timeout=UNIT_TIMEOUT):
    tests = unit_tests(directory)
    if tests is None:
        result = Result()
        result.failed = 1
        return result
    if not tests:
        say("no unit tests yet")
    env = env_for(directory)
    if wrap:
        del env["MALLOC_PERTURB_"]
        for name in sorted(NOT_UNDER_VALGRIND):
            say(f"left out {name}: {NOT_UNDER_VALGRIND[name]}")
        tests = [(name, path) for name, path in tests if name not in NOT_UNDER_VALGRIND]
    return run_programs([(f"{name} ({directory})", [*wrap, path], timeout)
                         for name, path in tests], env)


def scenarios():
    found = []
    for path, folders, names in os.walk(os.path.join(ROOT, "tests/scenario")):
        folders.sort()
        found += [os.path.relpath(os.path.join(path, n), ROOT)
                  for n in sorted(names) if n.endswith(".scn")]
    return found


def missing_input(what):
    """A tool that the inputs need is not there: that is a failure, not "nothing to run"."""
    show_failure(what, 1, f"{what} does not exist, but there are tests for it")
    result = Result()
    result.failed = 1
    return result


def run_scenario_sim(directory):
    files = scenarios()
    if not files:
        say("no scenarios yet")
        return Result()
    sim = built_program(directory, "godwit-sim")
    if not sim:
        if not sources.find().get("main:sim"):
            say(f"{len(files)} scenarios, but no simulator yet")
            return Result()
        return missing_input(f"{directory}/godwit-sim")
    return run_programs([(f"sim {f}", [sim, f], 60) for f in files], env_for(directory))


def run_scenario_live(directory):
    files = scenarios()
    runner = os.path.join(ROOT, "tools/scenario_live.py")
    if not files or not os.path.exists(runner):
        say("nothing to run yet: " + ("no scenarios" if not files else "no live runner"))
        return Result()
    return run_programs([(f"live {f}", [PYTHON, runner, "--build", directory, f], 60)
                         for f in files], env_for(directory))


def run_pytest(paths, directory, timeout):
    report = os.path.join(ROOT, directory, "pytest.xml")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(report)
    status, output = run([PYTHON, "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider",
                          "--timeout=60", f"--junit-xml={report}", *paths],
                         timeout, env_for(directory))
    result = Result()
    try:
        for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            result.failed += failed
            result.skipped += skipped
            result.passed += int(suite.get("tests", 0)) - failed - skipped
    except (OSError, xml.etree.ElementTree.ParseError):
        pass
    for line in re.findall(r"^SKIPPED .*", output, re.M):
        say(line)
    # 5: no tests were collected
    if status not in (0, 5) and result.failed == 0:
        result.failed = 1
    if result.failed:
        show_failure("pytest " + " ".join(os.path.relpath(p, ROOT) for p in paths), status, output)
    return result


def run_folder(folder, directory, timeout):
    """test_*.py by pytest, then the other executable files."""
    path = os.path.join(ROOT, folder)
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    files = [os.path.join(path, n) for n in names if os.path.isfile(os.path.join(path, n))]
    pytests = [f for f in files if re.fullmatch(r"test_.*\.py", os.path.basename(f))]
    others = [f for f in files if f not in pytests and os.access(f, os.X_OK)]
    result = Result()
    if not pytests and not others:
        say(f"nothing in {folder} yet")
    if pytests:
        result.add(run_pytest(pytests, directory, timeout))
    if others:
        result.add(run_programs([(os.path.relpath(f, ROOT), [f], timeout) for f in others],
                                env_for(directory), parallel=False))
    return result


def suite_asan():
    result = run_unit("build-asan")
    result.add(run_scenario_sim("build-asan"))
    result.add(run_scenario_live("build-asan"))
    # processes in their jails cannot be searched for leaks, and say so in their logs
    SANITIZER_ENV["ASAN_OPTIONS"] = SANITIZER_ENV["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0")
    result.add(run_folder("tests/live", "build-asan", 560))
    return result


def suite_fuzz_smoke():
    groups = sources.find()
    targets = sorted(groups.get("fuzz:", []) + groups.get("simfuzz:", []))
    programs = []
    if not targets:
        say("no fuzz targets yet")
    scratch = os.path.join(ROOT, "build-fuzz", "found")
    os.makedirs(scratch, exist_ok=True)
    seconds = max(1, min(FUZZ_SECONDS, 100 // max(1, len(targets))))
    for target in targets:
        stem = os.path.basename(target)[:-len(".c")]
        name = stem.rsplit("_", 1)[0]
        corpus = os.path.join(ROOT, "tests/fuzz/corpus", name)
        seeds = [corpus] if os.path.isdir(corpus) else []
        # what fuzzing finds goes to the scratch folder, never into the seeds
        new = os.path.join(scratch, name)
        os.makedirs(new, exist_ok=True)
        binary = os.path.join(ROOT, "build-fuzz", "tests", "fuzz", stem)
        programs.append((f"fuzz {name}",
                         [binary, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=1024",
                          "-print_final_stats=0", f"-artifact_prefix={new}-", new, *seeds], 60))
        replay = os.path.join(ROOT, "build-gcc", "tests", "fuzz", stem)
        if seeds:
            programs.append((f"replay {name} (gcc)", [replay, *seeds], 30))
    return run_programs(programs, {**SANITIZER_ENV, "ASAN_OPTIONS": "detect_leaks=1"})


# name: (budget in seconds, builds that it needs, function). Builds count as suites of
# their own. The sum of the budgets of those that run unasked is the most that ./check may take: 25 minutes.
# Only when asked for: clang builds everything once more for the sanitizers and the fuzzers, with the same warnings.
NOT_UNASKED = {"build-clang", "unit-clang"}
SUITES = {
    "lint": (50, [], suite_lint),
    "build-gcc": (100, [], suite_build("build-gcc")),
    "unit": (70, ["build-gcc"], lambda: run_unit("build-gcc")),
    "scenario-sim": (45, ["build-gcc"], lambda: run_scenario_sim("build-gcc")),
    "scenario-live": (20, ["build-gcc"], lambda: run_scenario_live("build-gcc")),
    "live": (230, ["build-gcc"], lambda: run_folder("tests/live", "build-gcc", 460)),
    "lab": (110, ["build-gcc"], lambda: run_folder("tests/lab", "build-gcc", 220)),
    "fault": (125, ["build-gcc"], lambda: run_folder("tests/fault", "build-gcc", 250)),
    "crash": (210, ["build-gcc"], lambda: run_folder("tests/crash", "build-gcc", 420)),
    "bench-smoke": (40, ["build-gcc"], lambda: run_folder("bench/smoke", "build-gcc", 80)),
    "valgrind": (90, ["build-gcc"], lambda: run_unit("build-gcc", VALGRIND, 120)),
    "build-clang": (120, [], suite_build("build-clang")),
    "unit-clang": (45, ["build-clang"], lambda: run_unit("build-clang")),
    "build-asan": (120, [], suite_build("build-asan")),
    "asan": (300, ["build-asan"], suite_asan),
    "build-fuzz": (110, [], suite_build("build-fuzz")),
    "fuzz-smoke": (40, ["build-gcc", "build-fuzz"], suite_fuzz_smoke),
}


def run_suite(name, factor):
    budget, needed, function = SUITES[name]
    budget *= factor
    say(f"== {name}")
    start = time.monotonic()
    result = Result()
    unbuilt = [d for d in needed if not build(d)]
    if unbuilt:
        say(f"not run: {', '.join(unbuilt)} could not be built")
        result.failed = 1
    else:
        result = function()
    used = time.monotonic() - start
    if used > 2 * budget:
        say(f"--- FAILED {name}: took more than twice its time budget")
        result.failed += 1
    elif used > budget:
        say(f"--- over its time budget: {name}")
    say(f"suite {name}: {used:.0f} s of {budget:.0f} s: {result}")
    return result


def main():
    parser = argparse.ArgumentParser(prog="./check", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slow", metavar="N", type=float, default=1,
                        help="multiply the time budgets by N, for a busy or slow machine")
    parser.add_argument("suites", metavar="SUITE", nargs="*", help=", ".join(SUITES))
    args = parser.parse_args()
    unknown = [s for s in args.suites if s not in SUITES]
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")

    wanted = set(args.suites or SUITES.keys() - NOT_UNASKED)
    for name in args.suites:
        wanted.update(SUITES[name][1])

    start = time.monotonic()
    total = Result()
    for name in SUITES:
        if name in wanted:
            total.add(run_suite(name, args.slow))
    say(f"all suites: {time.monotonic() - start:.0f} s")
    say(str(total))
    return 0 if total.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
