#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns src/ipc/calls.def into encoders, decoders, callers and dispatchers.

    gen_calls.py [--header OUT.h] [--source OUT.c] [--markdown OUT.md] calls.def

The grammar stands at the head of calls.def. Encodings: numbers little-endian; str = u32 length + bytes;
list = u32 count + elements; fd = its place among the packet's descriptors (implied); ip = 20 bytes.
"""
import argparse
import re
import shlex
import sys

SCALAR = {  # type: (C type, put, get)
    "bool": ("bool", "put_u8(&w->b, (uint8_t){v})", "{v} = cursor_u8(&r->c) != 0"),
    "u8": ("uint8_t", "put_u8(&w->b, {v})", "{v} = cursor_u8(&r->c)"),
    "u16": ("uint16_t", "put_u16(&w->b, {v})", "{v} = cursor_u16(&r->c)"),
    "u32": ("uint32_t", "put_u32(&w->b, {v})", "{v} = cursor_u32(&r->c)"),
    "u64": ("uint64_t", "put_u64(&w->b, {v})", "{v} = cursor_u64(&r->c)"),
    "i64": ("int64_t", "put_u64(&w->b, (uint64_t){v})", "{v} = (int64_t)cursor_u64(&r->c)"),
    "ip": ("struct ip", "ipc_put_ip(w, &{v})", "ipc_get_ip(r, &{v})"),
    "fd": ("int", "ipc_put_fd(w, {v})", "{v} = ipc_get_fd(r)"),
    "err": ("enum err", "put_u8(&w->b, (uint8_t){v})", "{v} = (enum err)cursor_u8(&r->c)"),
}


class Field:
    def __init__(self, name, type_, doc):
        self.name, self.type, self.doc = name, type_, doc


class Call:
    def __init__(self, kind, name, cli, froms, to, doc):
        self.kind, self.name, self.cli, self.froms, self.to, self.doc = kind, name, cli, froms, to, doc
        self.ins, self.outs = [], []


class Spec:
    def __init__(self):
        self.roles, self.enums, self.structs, self.calls = [], {}, {}, []


def fail(path, n, text):
    sys.exit(f"{path}:{n}: {text}")


def parse(path):
    spec, block, target, pending_struct_docs = Spec(), None, None, {}
    for n, line in enumerate(open(path, encoding="utf-8"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = len(line) - len(line.lstrip("\t"))
        words = shlex.split(line.strip().replace("{", " { ").replace("}", " } "))
        if depth == 0:
            head = words[0]
            if head == "roles":
                spec.roles = words[1:]
            elif head == "enum":
                spec.enums[words[1]] = [w for w in words[2:] if w not in "{}"]
            elif head == "struct":
                block = spec.structs[words[1]] = []
                pending_struct_docs[words[1]] = words[2] if len(words) > 2 else ""
                target = block
            elif head in ("call", "note"):
                name, rest = words[1], words[2:]
                cli = rest[0] == "cli"
                rest = rest[1:] if cli else rest
                if len(rest) < 3 or rest[1] != "->":
                    fail(path, n, "expected FROM -> TO")
                froms = rest[0].split(",")
                call = Call(head, name, cli, froms, rest[2].split(","), rest[3] if len(rest) > 3 else "")
                for role in froms + call.to:
                    if role not in spec.roles + ["any"]:
                        fail(path, n, f"unknown role {role}")
                spec.calls.append(call)
                target = call.ins if head == "note" else None
            else:
                fail(path, n, f"unknown word {head}")
        elif words == ["in"]:
            target = spec.calls[-1].ins
        elif words == ["out"]:
            target = spec.calls[-1].outs
        elif target is None:
            fail(path, n, "field outside a block")
        else:
            target.append(Field(words[0], words[1], words[2] if len(words) > 2 else ""))
    spec.struct_docs = pending_struct_docs
    check(path, spec)
    return spec


def check(path, spec):
    def known(t):
        base = t.split(":")[-1] if t.startswith("list:") else t.split(":")[0]
        return base in SCALAR or base in spec.enums or base in spec.structs or base == "str"

    for owner, fields in list(spec.structs.items()) + [(c.name, c.ins + c.outs) for c in spec.calls]:
        for f in fields:
            if not known(f.type):
                sys.exit(f"{path}: {owner}.{f.name}: unknown type {f.type}")


def order_structs(spec):
    done, out = set(), []

    def visit(name):
        if name in done:
            return
        done.add(name)
        for f in spec.structs[name]:
            t = f.type.split(":")[-1]
            if t in spec.structs:
                visit(t)
        out.append(name)

    for name in spec.structs:
        visit(name)
    return out


def c_decl(spec, f):
    t = f.type
    if t.startswith("list:"):
        elem = t.split(":")[2]
        ctype = f"struct {elem}" if elem in spec.structs else SCALAR[elem][0]
        return f"\t{ctype} *{f.name};\n\tsize_t {f.name}_n;"
    if t.startswith("str:"):
        return f"\tstruct str {f.name};"
    if t in spec.structs:
        return f"\tstruct {t} {f.name};"
    if t in spec.enums:
        return f"\tenum {t} {f.name};"
    return f"\t{SCALAR[t][0]} {f.name};"


def put_lines(spec, f, var):
    t, v = f.type, f"{var}->{f.name}"
    if t.startswith("list:"):
        elem = t.split(":")[2]
        one = (f"{elem}_put(w, &{v}[i]);" if elem in spec.structs else SCALAR[elem][1].format(v=f"{v}[i]") + ";")
        return [f"put_u32(&w->b, (uint32_t){v}_n);", f"for (size_t i = 0; i < {v}_n; i++)", f"\t{one}"]
    if t.startswith("str:"):
        return [f"put_str(&w->b, {v});"]
    if t in spec.structs:
        return [f"{t}_put(w, &{v});"]
    if t in spec.enums:
        return [f"put_u8(&w->b, (uint8_t){v});"]
    return [SCALAR[t][1].format(v=v) + ";"]


def get_lines(spec, f, var):
    t, v = f.type, f"{var}->{f.name}"
    if t.startswith("list:"):
        _, most, elem = t.split(":")
        ctype = f"struct {elem}" if elem in spec.structs else SCALAR[elem][0]
        one = (f"TRY({elem}_get(r, &{v}[i]));" if elem in spec.structs else SCALAR[elem][2].format(v=f"{v}[i]") + ";")
        return [f"{v}_n = list_count(r, {most});",
                f"{v} = {v}_n ? ARENA_ARRAY(r->arena, {ctype}, {v}_n) : NULL;",
                f"if ({v}_n && !{v})", "\treturn ERR_NO_MEMORY;",
                f"for (size_t i = 0; i < {v}_n; i++)", f"\t{one}"]
    if t.startswith("str:"):
        return [f"{v} = cursor_str(&r->c, {t.split(':')[1]});"]
    if t in spec.structs:
        return [f"TRY({t}_get(r, &{v}));"]
    if t in spec.enums:
        return [f"{v} = (enum {t})enum_value(r, {len(spec.enums[t])});"]
    return [SCALAR[t][2].format(v=v) + ";"]


def shapes(spec):
    """(C name, fields, doc) of every encoded thing, inner ones first."""
    for name in order_structs(spec):
        yield name, spec.structs[name], spec.struct_docs[name]
    for c in spec.calls:
        yield f"{c.name}_in", c.ins, c.doc
        if c.kind == "call":
            yield f"{c.name}_out", c.outs, ""


def allowed_pairs(spec):
    pairs = set()
    for c in spec.calls:
        for a in c.froms:
            for b in (spec.roles[1:] if c.to == ["any"] else c.to):
                if a != b:
                    pairs.add((a, b))
    return pairs


def header(spec):
    o = ["/* Made by tools/gen_calls.py from ipc/calls.def: do not edit. */", "#ifndef IPC_CALLS_H",
         "#define IPC_CALLS_H", "", '#include "ipc/ipc.h"', ""]
    o.append("enum role { " + ", ".join(f"ROLE_{r.upper()}" for r in spec.roles) + ", ROLE_COUNT };")
    o += ["/* \"smtpd\", …; \"?\" beyond. */", "const char *role_name(unsigned role);",
          "/* Whether calls.def has a call between the two, in either direction. */",
          "bool role_pair(unsigned a, unsigned b);", ""]
    for name, values in spec.enums.items():
        up = name.upper()
        o.append(f"enum {name} {{ " + ", ".join(f"{up}_{v.upper()}" for v in values) + " };")
        o.append(f"const char *{name}_name(unsigned value);")
    o.append("\nenum call_type {")
    o += [f"\tCALL_{c.name.upper()} = {i}," for i, c in enumerate(spec.calls, 1)]
    o += ["\tCALL_COUNT", "};", "const char *call_name(unsigned type);",
          "/* The role that serves a call that the command line may make through control; ROLE_COUNT: none. */",
          "unsigned call_cli_role(unsigned type);", ""]
    for name, fields, doc in shapes(spec):
        if doc:
            o.append(f"/* {doc} */")
        o.append(f"struct {name} {{")
        for f in fields or [Field("nothing_", "u8", "")]:
            o.append(c_decl(spec, f) + (f" /* {f.doc} */" if f.doc else ""))
        o += ["};", f"void {name}_put(struct ipc_writer *w, const struct {name} *v);",
              f"enum err {name}_get(struct ipc_reader *r, struct {name} *v) MUST_CHECK;", ""]
    for c in spec.calls:
        if c.kind == "call":
            o.append(f"YIELDS enum err call_{c.name}(struct ipc *ch, const struct {c.name}_in *in, "
                     f"struct arena *arena, struct {c.name}_out *out) MUST_CHECK;")
        else:
            o.append(f"enum err note_{c.name}(struct ipc *ch, const struct {c.name}_in *in) MUST_CHECK;")
    o += ["", "/* Every struct of arguments and results: X(name) for struct name, name_put() and name_get(). */",
          "#define CALLS_EACH_SHAPE(X) \\", " \\\n".join(f"\tX({name})" for name, _, _ in shapes(spec))]
    o += ["", "/* Handlers: a role serves a call by setting its member; what is NULL is answered ERR_DENIED.",
          " * `out` is zeroed; strings in it may live in `arena` or in static memory. */",
          "struct ipc_handlers {"]
    for c in spec.calls:
        if c.kind == "call":
            o.append(f"\tenum err (*{c.name})(void *self, struct ipc *from, const struct {c.name}_in *in, "
                     f"struct arena *arena, struct {c.name}_out *out);")
        else:
            o.append(f"\tvoid (*{c.name})(void *self, struct ipc *from, const struct {c.name}_in *in);")
    o += ["};", "/* Only calls whose TO is `role` and whose FROM is the channel's peer are served. */",
          "enum err ipc_serve(const struct ipc_handlers *h, unsigned role, void *self, struct ipc_request *rq);",
          "", "#endif"]
    return "\n".join(o) + "\n"


def role_mask(spec, names):
    names = spec.roles[1:] if names == ["any"] else names
    return " | ".join(f"1u << ROLE_{n.upper()}" for n in names)


def source(spec):
    o = ["/* Made by tools/gen_calls.py from ipc/calls.def: do not edit. */", '#include "ipc/calls.h"', ""]

    def names(func, values):
        o.append(f"const char *{func}(unsigned v)\n{{\n\tstatic const char *const names[] = {{")
        o.append("\t\t" + ", ".join(f'"{v}"' for v in values))
        o.append('\t};\n\treturn v < sizeof names / sizeof names[0] ? names[v] : "?";\n}\n')

    names("role_name", spec.roles)
    for name, values in spec.enums.items():
        names(f"{name}_name", values)
    names("call_name", ["?"] + [c.name for c in spec.calls])
    pairs = allowed_pairs(spec)
    masks = []
    for a in spec.roles:
        peers = sorted({b for x, b in pairs if x == a} | {x for x, b in pairs if b == a})
        masks.append(role_mask(spec, peers) if peers else "0")
    o.append("bool role_pair(unsigned a, unsigned b)\n{\n\tstatic const unsigned peers[] = {")
    o += [f"\t\t{m}," for m in masks]
    o.append("\t};\n\treturn a < ROLE_COUNT && b < ROLE_COUNT && (peers[a] >> b & 1);\n}\n")
    o.append("unsigned call_cli_role(unsigned type)\n{\n\tswitch (type) {")
    for c in spec.calls:
        if c.cli:
            o.append(f"\tcase CALL_{c.name.upper()}:\n\t\treturn ROLE_{c.to[0].upper()};")
    o.append("\tdefault:\n\t\treturn ROLE_COUNT;\n\t}\n}\n")
    o.append("UNUSED static size_t list_count(struct ipc_reader *r, uint32_t most)\n{\n\tuint32_t n = cursor_u32(&r->c);\n"
             "\tif (n > most || n > cursor_left(&r->c)) {\n\t\tcursor_fail(&r->c, ERR_LIMIT);\n\t\treturn 0;\n\t}\n\treturn n;\n}\n")
    o.append("static uint8_t enum_value(struct ipc_reader *r, unsigned count)\n{\n\tuint8_t v = cursor_u8(&r->c);\n"
             "\tif (v >= count) {\n\t\tcursor_fail(&r->c, ERR_SYNTAX);\n\t\treturn 0;\n\t}\n\treturn v;\n}\n")
    for name, fields, _ in shapes(spec):
        mark = "" if fields else " UNUSED"
        o.append(f"void {name}_put(struct ipc_writer *w{mark}, const struct {name} *v{mark})\n{{")
        for f in fields:
            o += ["\t" + x for x in put_lines(spec, f, "v")]
        o.append("}\n")
        o.append(f"enum err {name}_get(struct ipc_reader *r, struct {name} *v{mark})\n{{")
        for f in fields:
            o += ["\t" + x for x in get_lines(spec, f, "v")]
        o.append("\treturn r->c.err;\n}\n")
    for c in spec.calls:
        o.append(f"static void put_{c.name}(struct ipc_writer *w, const void *v)\n{{\n\t{c.name}_in_put(w, v);\n}}\n")
        if c.kind == "note":
            o.append(f"enum err note_{c.name}(struct ipc *ch, const struct {c.name}_in *in)\n{{\n"
                     f"\treturn ipc_note(ch, CALL_{c.name.upper()}, put_{c.name}, in);\n}}\n")
            continue
        o.append(f"static enum err get_{c.name}(struct ipc_reader *r, void *v)\n{{\n\treturn {c.name}_out_get(r, v);\n}}\n")
        o.append(f"YIELDS enum err call_{c.name}(struct ipc *ch, const struct {c.name}_in *in, struct arena *arena, "
                 f"struct {c.name}_out *out)\n{{\n\treturn ipc_call(ch, CALL_{c.name.upper()}, put_{c.name}, in, arena, "
                 f"get_{c.name}, out);\n}}\n")
    for c in spec.calls:
        n = c.name
        o.append(f"static enum err serve_{n}(const struct ipc_handlers *h, void *self, struct ipc_request *rq)\n{{")
        o.append(f"\tstruct {n}_in in = {{ 0 }};\n\tTRY({n}_in_get(&rq->in, &in));\n\tTRY(cursor_end(&rq->in.c));")
        if c.kind == "note":
            o.append(f"\tif (h->{n})\n\t\th->{n}(self, rq->from, &in);\n\treturn ERR_NONE;\n}}\n")
        else:
            o.append(f"\tstruct {n}_out out = {{ 0 }};\n\tif (!h->{n})\n\t\treturn ERR_DENIED;\n"
                     f"\tTRY(h->{n}(self, rq->from, &in, rq->in.arena, &out));\n\t{n}_out_put(rq->out, &out);\n"
                     f"\treturn buf_err(&rq->out->b);\n}}\n")
    o.append("static const struct {\n\tunsigned from, to;\n\tbool is_note;\n"
             "\tenum err (*serve)(const struct ipc_handlers *h, void *self, struct ipc_request *rq);\n} served[] = {")
    for c in spec.calls:
        note = "true" if c.kind == "note" else "false"
        o.append(f"\t[CALL_{c.name.upper()}] = {{ {role_mask(spec, c.froms)}, {role_mask(spec, c.to)}, {note}, serve_{c.name} }},")
    o.append("};\n")
    o.append("enum err ipc_serve(const struct ipc_handlers *h, unsigned role, void *self, struct ipc_request *rq)\n{\n"
             "\tif (rq->type >= CALL_COUNT || !served[rq->type].serve)\n\t\treturn ERR_DENIED;\n"
             "\tif (!(served[rq->type].to >> role & 1) || !(served[rq->type].from >> ipc_peer_role(rq->from) & 1))\n"
             "\t\treturn ERR_DENIED;\n\tif (served[rq->type].is_note != rq->is_note)\n\t\treturn ERR_DENIED;\n"
             "\treturn served[rq->type].serve(h, self, rq);\n}")
    return "\n".join(o) + "\n"


def markdown(spec):
    o = ["# Calls between processes", "", "Made by `tools/gen_calls.py` from `src/ipc/calls.def`.", ""]
    for c in spec.calls:
        o.append(f"## {c.name}\n\n{c.kind}, {', '.join(c.froms)} → {', '.join(c.to)}"
                 f"{', also for the command line' if c.cli else ''}. {c.doc}\n")
        for title, fields in (("in", c.ins), ("out", c.outs)):
            o += [f"- {title} `{f.name}` {f.type} {f.doc}" for f in fields]
        o.append("")
    return "\n".join(o) + "\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--header")
    ap.add_argument("--source")
    ap.add_argument("--markdown")
    ap.add_argument("definition")
    a = ap.parse_args()
    spec = parse(a.definition)
    for path, make in ((a.header, header), (a.source, source), (a.markdown, markdown)):
        if path:
            with open(path, "w", encoding="utf-8") as f:
                f.write(make(spec))


if __name__ == "__main__":
    main()
