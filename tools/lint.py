#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The house rules that a compiler does not check. Prints "file:line: message".

    tools/lint.py          check this tree; exit 1 when a rule is broken
    tools/lint.py ROOT     check another one (tools/lint_test.py does)

  include    folders include downwards only (MAY_INCLUDE)
  yields     the YIELDS marks agree with the call graph that gcc writes
  state      no mutable variable outlives a call: the simulator runs many servers in one program
  length     functions up to 70 lines, files up to 800
  door       system calls and libc's own doors only where ALLOWED_CALLS says so
  licence    the first line of every .c, .h and .S
  words      no alloca and none of the marks of unfinished work; -Wvla
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

# ---- the tables ------------------------------------------------------------

# Which folders of src/ a folder may include from, besides itself.
_BELOW_IPC = {"base", "world", "co"}
_PROTOCOL = _BELOW_IPC | {"ipc"}
_SHARED = _PROTOCOL | {"tls", "sasl", "dns", "conf", "smtp", "message", "dsn", "jail", "proc"}
_PROCESS = _SHARED | {"policy", "transport"}
PROCESSES = {"smtpd", "queue", "local", "lookup", "control", "master",
             "relay", "resolver", "keys"}
_ALL = _PROCESS | PROCESSES

MAY_INCLUDE = {
    "base": set(),
    "world": {"base"},
    "jail": {"base", "world"},              # beside world: speaks to the kernel itself
    "co": {"base", "world"},
    "ipc": _BELOW_IPC,
    "sasl": _BELOW_IPC,
    "dns": _PROTOCOL,                       # answers are the structs of calls
    "conf": _PROTOCOL,
    "smtp": _PROTOCOL | {"conf"},           # an extension declares its directives
    "message": _PROTOCOL | {"conf", "smtp"},  # header fields use SMTP's addresses
    "dsn": _PROTOCOL | {"smtp", "message"},  # reports on messages
    "proc": _PROTOCOL | {"conf", "jail"},   # what every process does when it starts
    "tls": _PROTOCOL,                       # a stream's other half
    "sasl": _PROTOCOL,
    "policy": _SHARED,
    "transport": _SHARED,
    **{process: _PROCESS for process in PROCESSES},
    "cli": _ALL,                            # offline commands run a process's code
    "sim": _ALL | {"cli"},                  # links all processes into one program
}

# {(file, included header): reason}
INCLUDE_EXCEPTIONS = {
}

SYSTEM_CALLS = set("""
    open openat openat2 creat close read readv pread preadv write writev pwrite pwritev lseek
    dup dup2 dup3 pipe pipe2 fcntl ioctl fsync fdatasync sync syncfs sync_file_range ftruncate
    truncate fallocate posix_fallocate posix_fadvise flock lockf
    rename renameat renameat2 unlink unlinkat link linkat symlink symlinkat readlink mkdir mkdirat
    rmdir chdir fchdir chroot chmod fchmod chown fchown umask access faccessat
    stat fstat lstat fstatat statx opendir fdopendir readdir closedir mkstemp mkdtemp realpath
    inotify_init1 inotify_add_watch
    socket socketpair connect accept accept4 bind listen shutdown getsockname getpeername
    getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg
    getaddrinfo getnameinfo gethostbyname gethostname
    poll ppoll select pselect epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
    eventfd signalfd timerfd_create timerfd_settime
    clock_gettime clock_nanosleep gettimeofday time nanosleep usleep sleep alarm
    getrandom getentropy rand srand random srandom arc4random
    fork vfork clone execv execve execvp execl execlp fexecve posix_spawn system popen
    wait waitpid waitid kill raise pthread_create sigaction sigprocmask
    setuid setgid setgroups setresuid setresgid prctl setrlimit getrlimit
    mmap munmap mremap mprotect madvise msync syscall
    getenv setenv putenv getpwnam getpwuid getgrnam syslog
""".split())
STDIO = set("""
    printf fprintf vprintf vfprintf dprintf vdprintf puts fputs putchar putc fputc perror
    fopen fdopen fclose fread fwrite fgets fgetc getc getchar getline fflush fseek
    exit _exit quick_exit atexit
""".split())
ALLOCATION = set("""
    malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf
    aligned_alloc posix_memalign
""".split())

# (pattern of the path below src/, names allowed there, reason)
ALLOWED_CALLS = [
    (r"world/.*", SYSTEM_CALLS | STDIO | ALLOCATION, "the door to the outside"),
    (r"jail/.*", SYSTEM_CALLS, "takes rights away, which world knows nothing of"),
    (r"(.*/)?main\.c", SYSTEM_CALLS | STDIO, "before there is a world"),
    (r"base/mem\.c", ALLOCATION, "the one allocator"),
    (r"cli/.*", STDIO, "speaks to people"),
    (r"sim/.*", STDIO, "reads scenarios, reports to people; no server code"),
    (r".*_(test|simtest|fuzz|simfuzz)\.c", SYSTEM_CALLS | STDIO | ALLOCATION, "tests make files and look at them"),
]
# {(file, name): reason}
CALL_EXCEPTIONS = {
    ("src/base/err.c", "fputs"): "a failed assertion's last words, when no logger can be trusted",
}

# {(file, variable): reason}
STATE_EXCEPTIONS = {
    ("src/co/co.c", "current"): "the current coroutine, STYLE.md's one exception",
}

FUNCTION_LINES = 70
FUNCTION_LINES_AIM = 40
FILE_LINES = 800
LICENCE = "/* SPDX-License-Identifier: Apache-2.0 */"
# in pieces, so that this line is not found itself
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")

TEST_FILE = re.compile(r"_(test|simtest|fuzz|simfuzz)\.c$")


# ---- reading C -------------------------------------------------------------

_TOKEN = re.compile(r"""//(?:[^\n\\]|\\.|\\\n)* | /\*.*?\*/ | "(?:[^"\\\n]|\\.|\\\n)*" | '(?:[^'\\\n]|\\.)*'""",
                    re.S | re.X)


def blank(text):
    """The text with comments, strings and characters turned to spaces; lines stay where they are."""
    def spaces(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found[0] + re.sub(r"[^\n]", " ", found[1:-1]) + found[-1]
        return re.sub(r"[^\n]", " ", found)
    return _TOKEN.sub(spaces, text)


def without_preprocessor(code):
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", lambda m: re.sub(r"[^\n]", " ", m.group(0)),
                  code, flags=re.M | re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def skip_parens(code, at):
    """The offset behind the parenthesis that opens at `at`."""
    depth = 0
    for i in range(at, len(code)):
        if code[i] == "(":
            depth += 1
        elif code[i] == ")":
            depth -= 1
            if depth == 0:
                return i + 1
    return len(code)


def declarator(code, start, end):
    """(name, offset, is_pointer) of the function declared in code[start:end], or None."""
    at = start
    while True:
        match = re.compile(r"([A-Za-z_]\w*)?\s*\(").search(code, at, end)
        if not match:
            return None
        name = match.group(1)
        pointer = re.compile(r"\(\s*\*\s*([A-Za-z_]\w*)").match(code, match.end() - 1)
        if pointer:
            return pointer.group(1), pointer.start(1), True
        if name and not (name == name.upper() and name.upper() != name.lower()) \
                and not name.startswith("__"):
            return name, match.start(1), False
        at = skip_parens(code, match.end() - 1)


class Source:
    def __init__(self, root, path):
        self.path = path                # relative to root
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
            self.text = f.read()
        self.lines = self.text.split("\n")
        self.code = blank(self.text)
        self.bare = without_preprocessor(self.code)
        below = path.split(os.sep)
        self.in_src = below[0] == "src"
        self.folder = below[1] if self.in_src and len(below) > 2 else None
        self.below_src = os.path.relpath(path, "src") if self.in_src else None

    def functions(self):
        """(name, first line, last line, body offsets) of each function defined here."""
        code, depth, head, opened = self.bare, 0, 0, None
        for i, c in enumerate(code):
            if c == "{":
                if depth == 0:
                    opened = self._function_head(head, i)
                    body = i
                depth += 1
            elif c == "}":
                depth -= 1
                if depth == 0:
                    if opened:
                        yield (opened[0], line_of(code, opened[1]), line_of(code, i), body, i)
                    head = i + 1
            elif c == ";" and depth == 0:
                head = i + 1

    def _function_head(self, start, end):
        head = self.bare[start:end]
        flat = re.sub(r"\([^()]*\)", " ", head)
        while "(" in flat and re.search(r"\([^()]*\)", flat):
            flat = re.sub(r"\([^()]*\)", " ", flat)
        if "=" in flat:
            return None
        found = declarator(self.bare, start, end)
        return found if found and not found[2] else None

    def yields_marks(self):
        """(name, line, is_pointer, is_static, is_indirect) for each YIELDS."""
        for match in re.finditer(r"\bYIELDS\b", self.bare):
            tail = re.compile(r"[;{]").search(self.bare, match.end())
            end = tail.start() if tail else len(self.bare)
            found = declarator(self.bare, match.end(), end)
            line = line_of(self.bare, match.start())
            if not found:
                yield None, line, False, False, False
                continue
            start = max(self.bare.rfind(c, 0, match.start()) for c in ";{}") + 1
            static = bool(re.search(r"\bstatic\b", self.bare[start:found[1]]))
            last = line_of(self.bare, end)
            indirect = any("/* yields: indirect */" in l for l in self.lines[line - 1:last])
            yield found[0], line, found[2], static, indirect

    def is_coroutine(self, line):
        """Whether /* coroutine */ stands right before the definition at this line."""
        for i in range(line, max(0, line - 12), -1):
            text = self.lines[i - 1] if i <= len(self.lines) else ""
            if "/* coroutine */" in text:
                return True
            if i < line and (not text.strip() or text.startswith("}") or text.startswith("#")):
                return False
        return False


# ---- rules on one file -----------------------------------------------------

def check_includes(source, used):
    for number, line in enumerate(source.lines, 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        header = match.group(1)
        if header == "config.h":
            continue
        if "/" not in header or header.startswith("."):
            yield number, f'include: write "{header}" with its folder, from src/ on'
            continue
        target = header.split("/")[0]
        if target == source.folder or target in MAY_INCLUDE.get(source.folder, set()):
            continue
        if (source.path, header) in INCLUDE_EXCEPTIONS:
            used.add((source.path, header))
            continue
        yield number, f'include: {source.folder}/ may not include "{header}" (see MAY_INCLUDE)'


def check_doors(source, used):
    allowed = set()
    for pattern, names, _ in ALLOWED_CALLS:
        if re.fullmatch(pattern, source.below_src):
            allowed |= names
    forbidden = (SYSTEM_CALLS | STDIO | ALLOCATION) - allowed
    own = {f[0] for f in source.functions()}
    for match in re.finditer(r"(?<![\w.])(?<!->)([a-z_]\w*)\s*\(", source.bare):
        name = match.group(1)
        if name not in forbidden or name in own:
            continue
        if (source.path, name) in CALL_EXCEPTIONS:
            used.add((source.path, name))
            continue
        door = "mem_*()" if name in ALLOCATION else "world_*()" if name in SYSTEM_CALLS else "events"
        yield line_of(source.bare, match.start()), f"door: {name}() only through {door}"


def check_length(source, notes):
    for name, first, last, _, _ in source.functions():
        length = last - first + 1
        notes["functions"] += 1
        if length > FUNCTION_LINES:
            yield first, f"length: {name}() has {length} lines; {FUNCTION_LINES} are allowed"
        elif length > FUNCTION_LINES_AIM:
            notes["long"] += 1
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield lines, f"length: {lines} lines; a file may have {FILE_LINES}"


def check_words(source):
    for match in re.finditer(r"\balloca\s*\(", source.code):
        yield line_of(source.code, match.start()), "words: no alloca"


def check_unfinished(lines):
    for number, line in enumerate(lines, 1):
        match = UNFINISHED.search(line)
        if match:
            yield number, f"words: {match.group(1)}: finish it, or open an issue"


def check_licence(source):
    if source.lines[0] != LICENCE:
        yield 1, f"licence: the first line must be {LICENCE}"


# ---- rules on the whole tree: what the compiler tells ----------------------

def generated_tree(root, scratch):
    """Writes config.h and the generated sources below scratch/src; returns the generated .c files."""
    made = []
    src = os.path.join(scratch, "src")
    for folder in ("base", "ipc"):
        os.makedirs(os.path.join(src, folder), exist_ok=True)
    template = os.path.join(root, "src/config.h.in")
    if os.path.exists(template):
        with open(template, encoding="utf-8") as f, \
                open(os.path.join(src, "config.h"), "w", encoding="utf-8") as out:
            out.write(re.sub(r"@\w+@", "0", f.read()))
    for definition, tool in (("base/events", "gen_events.py"), ("ipc/calls", "gen_calls.py")):
        source = os.path.join(root, "src", definition + ".def")
        generator = os.path.join(root, "tools", tool)
        if os.path.exists(source) and os.path.exists(generator):
            out = os.path.join(src, definition)
            subprocess.run([sys.executable, generator, "--header", out + ".h",
                            "--source", out + ".c", source], check=True)
            made.append(out + ".c")
    return made


def compile_one(root, scratch, path, number):
    """(path, errors, .ci text, [(variable, kind)])"""
    stem = os.path.join(scratch, str(number))
    # not position independent, so that constant tables of pointers are in .rodata
    argv = ["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O0", "-Werror=vla", "-fno-pic", "-fno-pie",
            "-fcallgraph-info", "-Isrc", "-I" + os.path.join(scratch, "src"),
            "-c", path, "-o", stem + ".o"]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return path, done.stderr, "", []
    with open(stem + ".ci", encoding="utf-8") as f:
        graph = f.read()
    symbols = subprocess.run(["nm", "--defined-only", stem + ".o"], capture_output=True, text=True,
                             check=True).stdout
    state = re.findall(r"^\w* ?([dDbBC]) (\S+)$", symbols, re.M)
    return path, "", graph, [name for _, name in state]


NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "([^"\\]+)\\n([^"]*?):(\d+):\d+')
EDGE = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)" label: "([^"]*?):(\d+):\d+"')


class CallGraph:
    """Functions are ("", name) when external, (file, name) when static."""

    def __init__(self):
        self.calls = {}         # function: [(callee, file, line)]
        self.defined = {}       # function: (file, line) of one definition

    def add(self, text):
        keys = {}
        for line in text.split("\n"):
            match = NODE.match(line)
            if match:
                title, name, file, number = match.groups()
                key = (file, name) if ":" in title else ("", name)
                keys[title] = key
                if "shape : ellipse" not in line:
                    self.defined.setdefault(key, (file, int(number)))
        for line in text.split("\n"):
            match = EDGE.match(line)
            if match:
                caller, callee, file, number = match.groups()
                self.calls.setdefault(keys.get(caller, ("", caller)), []).append(
                    (keys.get(callee, ("", callee)), file, int(number)))


def unmarked_pointers(files):
    """Names of function pointers that are declared somewhere without YIELDS."""
    names = set()
    for source in files:
        for match in re.finditer(r"\(\s*\*\s*([A-Za-z_]\w*)\s*\)\s*\(", source.bare):
            start = max(source.bare.rfind(c, 0, match.start()) for c in ";{},") + 1
            if "YIELDS" not in source.bare[start:match.start()]:
                names.add(match.group(1))
    return names


def read_marks(files, problems):
    """({function: (file, line)}, functions marked as indirect, YIELDS pointers)"""
    marked, indirect, pointers = {}, set(), set()
    for source in files:
        for name, line, is_pointer, is_static, is_indirect in source.yields_marks():
            if name is None:
                problems.append((source.path, line, "yields: YIELDS stands before no function"))
                continue
            if is_pointer:
                pointers.add(name)
                continue
            key = (source.path, name) if is_static else ("", name)
            marked.setdefault(key, (source.path, line))
            if is_indirect:
                indirect.add(key)
    return marked, indirect, pointers - unmarked_pointers(files)


def pointer_calls(files, graph, pointers):
    """{function: (file, line)}: who calls through a function pointer that is marked YIELDS."""
    found = {}
    for source in files:
        for name, _, _, start, end in source.functions():
            for match in re.finditer(r"(?:->|\.)\s*([A-Za-z_]\w*)\s*\(", source.bare[start:end]):
                if match.group(1) in pointers:
                    key = (source.path, name)
                    key = key if key in graph.defined else ("", name)
                    found.setdefault(key, (source.path, line_of(source.bare, start + match.start())))
    return found


def check_yields(files, graph, problems):
    marked, indirect, pointers = read_marks(files, problems)
    by_path = {source.path: source for source in files}
    waits = pointer_calls(files, graph, pointers)
    for caller, calls in graph.calls.items():
        for callee, file, line in calls:
            if callee in marked:
                waits.setdefault(caller, (file, line))

    for caller, (file, line) in sorted(waits.items()):
        if caller in marked:
            continue
        where = graph.defined.get(caller, (file, line))
        source = by_path.get(where[0])
        if source and source.is_coroutine(where[1]):
            continue
        problems.append((where[0], where[1], f"yields: {caller[1]}() waits at {file}:{line}, "
                         "but is not marked YIELDS"))

    for function, (file, line) in sorted(marked.items()):
        if function not in graph.defined or function in waits or function in indirect:
            continue
        if graph.defined[function][0].startswith("src/co/"):
            continue
        problems.append((file, line, f"yields: {function[1]}() is marked YIELDS, but never waits"))


def check_state(path, names, used, problems, source):
    if source is None or TEST_FILE.search(path) or os.path.basename(path) == "main.c":
        return
    for name in names:
        base = re.sub(r"\.\d+$", "", name)
        if (path, base) in STATE_EXCEPTIONS:
            used.add((path, base))
            continue
        at = re.search(r"\b" + re.escape(base) + r"\b", source.code)
        problems.append((path, line_of(source.code, at.start()) if at else 1,
                         f"state: {base} is mutable and outlives a call; pass it down in a struct"))


def check_compiled(root, files, used):
    problems = []
    graph = CallGraph()
    by_path = {source.path: source for source in files}
    with tempfile.TemporaryDirectory(prefix="godwit-lint-") as scratch:
        made = generated_tree(root, scratch)
        paths = [s.path for s in files if s.in_src and s.path.endswith(".c")] + made
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            results = list(pool.map(lambda item: compile_one(root, scratch, item[1], item[0]),
                                    enumerate(paths)))
        generated = [Source(root, p) for p in made]
        generated += [Source(root, p[:-2] + ".h") for p in made]
        for path, errors, text, state in results:
            if errors:
                first = re.search(r"^(?P<f>[^:\n]+):(?P<l>\d+):\d+: (?:fatal )?error: (?P<m>.*)$",
                                  errors, re.M)
                where = (first["f"], int(first["l"]), first["m"]) if first else (path, 1, errors)
                problems.append((where[0], where[1], "compile: " + where[2]))
            graph.add(text)
            check_state(path, state, used, problems, by_path.get(path))
        check_yields([s for s in files if s.in_src] + generated, graph, problems)
    return problems


# ---- all of it -------------------------------------------------------------

def find(root):
    """(C sources, other texts) below src, tests, tools and bench."""
    c_files, texts = [], []
    for top in ("src", "tests", "tools", "bench", "libexec"):
        for path, folders, names in os.walk(os.path.join(root, top)):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__")) and f != "corpus")
            for name in sorted(names):
                relative = os.path.relpath(os.path.join(path, name), root)
                if name.startswith("."):
                    continue
                if name.endswith((".c", ".h", ".S")):
                    c_files.append(relative)
                elif name.endswith((".py", ".sh", ".def", ".scn", ".build", ".in")):
                    texts.append(relative)
    return c_files, texts


def check_file(source, used, notes):
    yield from check_licence(source)
    yield from check_words(source)
    yield from check_unfinished(source.lines)
    if not source.in_src:
        return
    if source.folder not in MAY_INCLUDE:
        yield 1, f"include: folder {source.folder} is not in tools/lint.py's MAY_INCLUDE"
        return
    if not TEST_FILE.search(source.path):  # tests may use what stands above what they test
        yield from check_includes(source, used)
    if not source.path.endswith(".S"):
        yield from check_doors(source, used)
        yield from check_length(source, notes)


def lint(root):
    """([(file, line, message)], notes)"""
    notes = {"functions": 0, "long": 0, "files": 0}
    used = set()
    problems = []
    c_files, texts = find(root)
    files = [Source(root, path) for path in c_files]
    for source in files:
        notes["files"] += 1
        problems += [(source.path, line, text) for line, text in check_file(source, used, notes)]
    for path in texts:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
            problems += [(path, line, text) for line, text in check_unfinished(f.read().split("\n"))]
    problems += check_compiled(root, files, used)
    for table in (INCLUDE_EXCEPTIONS, CALL_EXCEPTIONS, STATE_EXCEPTIONS):
        for entry in table:
            if entry not in used:
                problems.append((entry[0], 1, f"exception for {entry[1]} is not needed: "
                                 "remove it from tools/lint.py"))
    return sorted(set(problems)), notes


def main():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    root = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else here
    problems, notes = lint(root)
    for file, line, text in problems:
        print(f"{file}:{line}: {text}")
    print(f"lint: {notes['files']} files, {notes['functions']} functions, {notes['long']} of them "
          f"over {FUNCTION_LINES_AIM} lines, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
