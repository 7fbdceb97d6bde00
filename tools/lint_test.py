#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each rule of tools/lint.py must catch its bad snippet and let the good one pass."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import lint  # noqa: E402

# every snippet's tree has these
CO_H = "#define YIELDS\nYIELDS void co_nap(void);\n"
CO_C = '#include "co/co.h"\nvoid co_nap(void)\n{\n}\n'


class Lint(unittest.TestCase):
    def setUp(self):
        self.kept = lint.INCLUDE_EXCEPTIONS, lint.CALL_EXCEPTIONS, lint.STATE_EXCEPTIONS
        lint.INCLUDE_EXCEPTIONS, lint.CALL_EXCEPTIONS, lint.STATE_EXCEPTIONS = {}, {}, {}

    def tearDown(self):
        lint.INCLUDE_EXCEPTIONS, lint.CALL_EXCEPTIONS, lint.STATE_EXCEPTIONS = self.kept

    def lint(self, files):
        """["file:line: message"] for a tree of these files; C gets its licence line here."""
        with tempfile.TemporaryDirectory(prefix="godwit-lint-test-") as root:
            for path, text in {"src/co/co.h": CO_H, "src/co/co.c": CO_C, **files}.items():
                whole = os.path.join(root, path)
                os.makedirs(os.path.dirname(whole), exist_ok=True)
                if path.endswith((".c", ".h")) and not text.startswith("NO LICENCE"):
                    text = lint.LICENCE + "\n" + text
                with open(whole, "w", encoding="utf-8") as f:
                    f.write(text)
            problems, _ = lint.lint(root)
            return [f"{file}:{line}: {message}" for file, line, message in problems]

    def good(self, files):
        self.assertEqual(self.lint(files), [])

    def bad(self, files, *expected):
        """Exactly one problem for each expected beginning."""
        found = self.lint(files)
        self.assertEqual(len(found), len(expected), found)
        for start in expected:
            self.assertTrue(any(line.startswith(start) for line in found), (start, found))


class Includes(Lint):
    def test_downwards(self):
        self.good({"src/base/a.h": "", "src/smtpd/s.c": '#include "base/a.h"\n#include "config.h"\n',
                   "src/config.h.in": "#define GODWIT_VERSION \"@version@\"\n"})

    def test_upwards(self):
        self.bad({"src/smtp/a.h": "", "src/base/b.c": '#include "smtp/a.h"\n'},
                 "src/base/b.c:2: include: base/ may not include")

    def test_process_of_another_process(self):
        self.bad({"src/queue/q.h": "", "src/smtpd/s.c": '#include "queue/q.h"\n'},
                 "src/smtpd/s.c:2: include:")

    def test_sim_and_cli_of_processes(self):
        self.good({"src/queue/q.h": "", "src/sim/s.c": '#include "queue/q.h"\n',
                   "src/cli/c.c": '#include "queue/q.h"\n'})

    def test_without_folder(self):
        self.bad({"src/base/a.h": "", "src/base/b.c": '#include "a.h"\n'}, "src/base/b.c:2: include:")

    def test_unknown_folder(self):
        self.bad({"src/misc/a.h": ""}, "src/misc/a.h:1: include: folder misc")

    def test_exception(self):
        lint.INCLUDE_EXCEPTIONS = {("src/base/b.c", "smtp/a.h"): "test"}
        self.good({"src/smtp/a.h": "", "src/base/b.c": '#include "smtp/a.h"\n'})

    def test_stale_exception(self):
        lint.INCLUDE_EXCEPTIONS = {("src/base/b.c", "smtp/a.h"): "test"}
        self.bad({"src/base/b.c": ""}, "src/base/b.c:1: exception for smtp/a.h is not needed")


class Yields(Lint):
    def c(self, text):
        return {"src/smtp/a.c": '#include "co/co.h"\n' + text}

    def test_marked(self):
        self.good(self.c("YIELDS static void f(void)\n{\n\tco_nap();\n}\n"
                         "YIELDS void g(void);\nvoid g(void)\n{\n\tf();\n}\n"))

    def test_unmarked(self):
        self.bad(self.c("void f(void)\n{\n\tco_nap();\n}\n"),
                 "src/smtp/a.c:3: yields: f() waits at src/smtp/a.c:5")

    def test_unmarked_static(self):
        # the caller of the unmarked one calls no marked function, and is not reported
        self.bad(self.c("static void f(void)\n{\n\tco_nap();\n}\nvoid g(void)\n{\n\tf();\n}\n"),
                 "src/smtp/a.c:3: yields: f()")

    def test_static_of_the_same_name_elsewhere(self):
        self.good({**self.c("YIELDS static void f(void)\n{\n\tco_nap();\n}\n"
                            "YIELDS void g(void);\nvoid g(void)\n{\n\tf();\n}\n"),
                   "src/smtp/b.c": "static int f(void)\n{\n\treturn 1;\n}\n"
                                   "int h(void)\n{\n\treturn f();\n}\n"})

    def test_marked_without_waiting(self):
        self.bad(self.c("YIELDS int f(void);\nint f(void)\n{\n\treturn 1;\n}\n"),
                 "src/smtp/a.c:3: yields: f() is marked YIELDS, but never waits")

    def test_indirect(self):
        self.good(self.c("YIELDS int f(int (*g)(void)); /* yields: indirect */\n"
                         "int f(int (*g)(void))\n{\n\treturn g();\n}\n"))

    def test_coroutine(self):
        self.good(self.c("/* coroutine */\nstatic void f(void *arg)\n{\n\t(void)arg;\n\tco_nap();\n}\n"
                         "void (*start(void))(void *)\n{\n\treturn f;\n}\n"))

    def test_inline_in_header(self):
        self.bad({"src/smtp/a.h": '#include "co/co.h"\nstatic inline void f(void)\n{\n\tco_nap();\n}\n',
                  "src/smtp/a.c": '#include "smtp/a.h"\nvoid g(void)\n{\n\tf();\n}\n'},
                 "src/smtp/a.h:3: yields: f()")

    def test_pointer_member(self):
        struct = "struct ops {\n\tYIELDS int (*ask)(int x);\n};\n"
        self.bad(self.c(struct + "int f(struct ops *o)\n{\n\treturn o->ask(1);\n}\n"),
                 "src/smtp/a.c:6: yields: f() waits at src/smtp/a.c:8")
        self.good(self.c(struct + "YIELDS int f(struct ops *o);\n"
                                  "int f(struct ops *o)\n{\n\treturn o->ask(1);\n}\n"))

    def test_attributes_between(self):
        self.good(self.c("YIELDS __attribute__((noinline)) static void f(int (*g)(void))\n"
                         "{\n\tg();\n\tco_nap();\n}\n"
                         "YIELDS void h(void);\nvoid h(void)\n{\n\tf(0);\n}\n"))

    def test_mark_before_nothing(self):
        self.bad(self.c("YIELDS int x_of_no_function;\n"), "src/smtp/a.c:3: yields: YIELDS stands",
                 "src/smtp/a.c:3: state:")


class State(Lint):
    def test_mutable(self):
        self.bad({"src/smtp/a.c": "static int hits;\nint f(void)\n{\n\treturn hits++;\n}\n"},
                 "src/smtp/a.c:2: state: hits")

    def test_mutable_in_function(self):
        self.bad({"src/smtp/a.c": "int f(void)\n{\n\tstatic int hits = 3;\n\treturn hits++;\n}\n"},
                 "src/smtp/a.c:4: state: hits")

    def test_constant_tables(self):
        self.good({"src/smtp/a.c": "static const char *const names[] = { \"a\", \"b\" };\n"
                                   "const char *f(int i)\n{\n\treturn names[i];\n}\n"})

    def test_tests_may(self):
        self.good({"src/smtp/a_test.c": "static int hits;\nint main(void)\n{\n\treturn hits++;\n}\n"})


class Length(Lint):
    def body(self, lines):
        return "int f(int x)\n{\n" + "\tx++;\n" * (lines - 4) + "\treturn x;\n}\n"

    def test_function(self):
        self.good({"src/base/a.c": self.body(70)})
        self.bad({"src/base/a.c": self.body(71)}, "src/base/a.c:2: length: f() has 71 lines")

    def test_file(self):
        self.bad({"src/base/a.c": "/* */\n" * 800}, "src/base/a.c:801: length:")

    def test_tables_are_no_functions(self):
        self.good({"src/base/a.c": "int f(int x);\nstatic const int rows[] = {\n" + "\t1,\n" * 100 + "};\n"
                                   "int f(int x)\n{\n\treturn rows[x];\n}\n"})


class Doors(Lint):
    CALL = "#include <fcntl.h>\n#include <stdio.h>\n#include <stdlib.h>\nint f(void)\n{\n\treturn %s;\n}\n"

    def test_system_call(self):
        self.bad({"src/queue/a.c": self.CALL % 'open("/", 0)'}, "src/queue/a.c:7: door: open()")

    def test_allocation(self):
        self.bad({"src/queue/a.c": self.CALL % "malloc(3) != 0"}, "src/queue/a.c:7: door: malloc()")
        self.good({"src/base/mem.c": self.CALL % "malloc(3) != 0"})

    def test_stdio(self):
        self.bad({"src/smtp/a.c": self.CALL % 'printf("x")'}, "src/smtp/a.c:7: door: printf()")
        self.good({"src/cli/a.c": self.CALL % 'printf("x")'})
        self.good({"src/smtp/a_test.c": self.CALL % 'printf("x")'})

    def test_world_jail_and_main(self):
        for path in ("src/world/linux_a.c", "src/jail/a.c", "src/smtpd/main.c"):
            self.good({path: self.CALL % 'open("/", 0)'})

    def test_not_calls(self):
        self.good({"src/smtp/a.c": "struct s { int (*open)(int); };\n/* open(1) */\n"
                                   "int f(struct s *s, int time)\n{\n\tconst char *t = \"open(\";\n"
                                   "\treturn s->open(*t) + (time) + world_open(1);\n}\n",
                   "src/smtp/b.c": "int world_open(int x)\n{\n\treturn x;\n}\n"})

    def test_exception(self):
        lint.CALL_EXCEPTIONS = {("src/queue/a.c", "open"): "test"}
        self.good({"src/queue/a.c": self.CALL % 'open("/", 0)'})


class Text(Lint):
    def test_licence(self):
        self.bad({"src/base/a.h": "NO LICENCE\n"},
                 "src/base/a.h:1: licence:")

    def test_unfinished(self):
        for word in ("TO" "DO", "FIX" "ME", "X" "XX"):
            self.bad({"src/base/a.h": f"/* {word}: later */\n"}, f"src/base/a.h:2: words: {word}")
            self.bad({"tools/a.py": f"# {word}\n"}, f"tools/a.py:1: words: {word}")
        self.good({"src/base/a.h": "/* mkstemp(tmp." + "X" * 6 + ") */\n"})

    def test_alloca(self):
        self.bad({"src/base/a.c": "#include <alloca.h>\nvoid *f(void)\n{\n\treturn alloca(3);\n}\n"},
                 "src/base/a.c:5: words: no alloca")

    def test_vla(self):
        self.bad({"src/base/a.c": "int f(int n)\n{\n\tint v[n];\n\treturn sizeof v > 3;\n}\n"},
                 "src/base/a.c:4: compile: ISO C90 forbids variable length array")

    def test_compile_error(self):
        self.bad({"src/base/a.c": "int f(void)\n{\n\treturn g;\n}\n"}, "src/base/a.c:4: compile:")


class Reading(unittest.TestCase):
    def test_blank_keeps_lines(self):
        text = 'a /* x\ny */ "st\\"r" // z\n\'"\' b\n'
        code = lint.blank(text)
        self.assertEqual(code.count("\n"), text.count("\n"))
        self.assertEqual(code.split(), ["a", '"', '"', "'", "'", "b"])


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=1).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed")
    sys.exit(1 if bad else 0)
