#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the event functions, their table and their manual from events.def.

    gen_events.py [--header OUT.h] [--source OUT.c] [--markdown OUT.md] IN.def
"""
import argparse
import re
import sys

LEVELS = ("debug", "info", "notice", "warning", "error")
C_TYPES = {
    "str": "struct str ",
    "u64": "uint64_t ",
    "i64": "int64_t ",
    "ip": "const struct ip *",
    "id": "uint64_t ",
    "err": "enum err ",
}
TYPE_DOCS = {
    "str": "text",
    "u64": "number",
    "i64": "signed number",
    "ip": "IP address",
    "id": "message id",
    "err": "kind of error",
}
# keys that each line has anyway; parameters that each function has
RESERVED = {"time", "level", "process", "event", "session", "msg", "l", "ids", "message",
            "priority", "syslog_identifier"}
MAX_FIELDS = 16
MAX_TEXT_FIELDS = 8  # each up to 8 KiB when escaped (journald: twice 4): fits 96 KiB
ROW = re.compile(r'^([a-z][a-z0-9_]*)\s+([a-z0-9]+)\s+"([^"\\]+)"$')


class Event:
    def __init__(self, name, level, doc):
        self.name, self.level, self.doc, self.fields = name, level, doc, []


def check_field(event, name, kind):
    if kind not in C_TYPES:
        return f"unknown type {kind}; one of {' '.join(C_TYPES)}"
    if name in RESERVED:
        return f"field name {name} is reserved"
    if name in [f[0] for f in event.fields]:
        return f"field {name} twice"
    if len(event.fields) == MAX_FIELDS:
        return f"more than {MAX_FIELDS} fields"
    if kind == "str" and [f[1] for f in event.fields].count("str") == MAX_TEXT_FIELDS:
        return f"more than {MAX_TEXT_FIELDS} str fields"
    return None


def parse(path):
    events, names, errors = [], set(), []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = ROW.match(text)
            error = None
            if not match:
                error = 'expected: name type-or-level "doc"'
            elif line[0] in " \t":
                name, kind, doc = match.groups()
                error = check_field(events[-1], name, kind) if events else "field before any event"
                if not error:
                    events[-1].fields.append((name, kind, doc))
            else:
                name, level, doc = match.groups()
                if level not in LEVELS:
                    error = f"unknown level {level}; one of {' '.join(LEVELS)}"
                elif name in names:
                    error = f"event {name} twice"
                names.add(name)
                events.append(Event(name, level, doc))
            if error:
                errors.append(f"{path}:{number}: {error}")
    if errors:
        sys.exit("\n".join(errors))
    return sorted(events, key=lambda event: event.name)


def signature(event):
    parameters = "".join(f", {C_TYPES[kind]}{name}" for name, kind, _ in event.fields)
    return f"void log_{event.name}(struct log *l, struct log_ids ids{parameters})"


def header(events):
    out = ["/* SPDX-License-Identifier: Apache-2.0 */",
           "/* Made from events.def by tools/gen_events.py. */",
           "#ifndef BASE_EVENTS_H", "#define BASE_EVENTS_H", "", '#include "base/log.h"', ""]
    for event in events:
        out += [f"/* {event.level}: {event.doc} */", signature(event) + ";"]
    return out + ["", "#endif"]


def emitter(event):
    out = [signature(event), "{",
           f'\tif (!log_begin(l, "{event.name}", LEVEL_{event.level.upper()}, ids))', "\t\treturn;"]
    out += [f'\tlog_field_{kind}(l, "{name}", {name});' for name, kind, _ in event.fields]
    return out + ["\tlog_end(l);", "}", ""]


def source(events):
    out = ["/* SPDX-License-Identifier: Apache-2.0 */",
           "/* Made from events.def by tools/gen_events.py. */", '#include "base/events.h"', ""]
    for event in events:
        out += emitter(event)
    for event in events:
        if event.fields:
            out.append(f"static const struct log_field_doc fields_{event.name}[] = {{")
            out += [f'\t{{ "{name}", "{kind}", "{doc}" }},' for name, kind, doc in event.fields]
            out += ["};", ""]
    out.append("const struct log_event_doc log_event_docs[] = {")
    for event in events:
        fields = f"fields_{event.name}" if event.fields else "NULL"
        out.append(f'\t{{ "{event.name}", LEVEL_{event.level.upper()}, "{event.doc}", '
                   f"{fields}, {len(event.fields)} }},")
    out += ["};", f"const size_t log_event_docs_count = {len(events)};"]
    return out


def markdown(events):
    out = ["# Events", "",
           "Each line of the log is one of these. All carry the time, the level, the process, and,",
           "where they have one, the session (`session`) and the message (`msg`).", ""]
    for event in events:
        out += [f"## {event.name}", "", f"*{event.level}.* {event.doc}", ""]
        if event.fields:
            out += ["| field | type | meaning |", "|---|---|---|"]
            out += [f"| `{name}` | {TYPE_DOCS[kind]} | {doc} |" for name, kind, doc in event.fields]
            out.append("")
    return out[:-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in ("header", "source", "markdown"):
        parser.add_argument("--" + kind)
    parser.add_argument("definitions")
    args = parser.parse_args()
    events = parse(args.definitions)
    for path, make in ((args.header, header), (args.source, source), (args.markdown, markdown)):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(make(events)) + "\n")


if __name__ == "__main__":
    main()
