#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Changes the code of the virtual TLB and of nesting in one place at a time, and runs the unit tests that should notice:
each change that none of them notices (a survivor) is printed, and the exit status is 1 if there is any. What is
changed:

    delete      a statement: a call, an assignment, an increment
    invert      a condition: of if, while, for and ?:, or a boolean that is returned
    compare     a comparison: < and <=, > and >=, == and !=
    logic       && and ||
    mask        the operand of & or | is left out
    row         a row of a constant table, or of a table that is a macro, is left out

Not counted: what does not compile, what compiles to the same code, and what tests/mutants.txt declares equivalent
with a reason. Its entries look as a survivor is printed (file: function: kind: `text`, and a number where several are
called the same), with the reason on indented lines below. An entry that fits no mutant is an error too.

Everything that does not change is compiled once, under BUILD/mutants; a mutant costs one compilation, then links and
runs of one test after the other until one fails. A test stops at its first failure; one that takes much longer than
without a change has noticed it, too.
"""
import argparse
import collections
import concurrent.futures
import glob
import itertools
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import threading

CFLAGS = ("-std=gnu11 -O1 -w -I. -fsanitize=undefined,bounds-strict -fsanitize-undefined-trap-on-error "
          "-fno-strict-aliasing").split()
LIBRARIES = ["-lcmocka", "-pthread", "-lZydis", "-lm"]
DECLARED = "tests/mutants.txt"

# What is changed, and which tests should notice. The audit is a test itself.
VTLB_TESTS = ["test_vtlb*", "test_walk_x86", "test_overlay"]
TARGETS = [
    ("mm/vtlb*.c", VTLB_TESTS),
    ("mm/stage.c", VTLB_TESTS),
    ("mm/overlay.c", VTLB_TESTS),
    ("mm/walk_x86.c", VTLB_TESTS),
    ("mm/walk_ept.c", ["test_walk_ept"] + VTLB_TESTS),
    ("mm/walk_tables.c", ["test_walk_ept"] + VTLB_TESTS),
    ("vmx/policy_cr.c", ["test_policy_cr"]),
    ("nested/*.c", ["test_nested_*"]),
]
LEFT_OUT = ["mm/vtlb_audit.c"]

# ---- Reading C --------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"""(?P<space>\s+|/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:[^\n\\]|\\.)*)
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>\d[\w.]*)
    |(?P<sign><<=|>>=|\.\.\.|->|\+\+|--|&&|\|\||<<|>>|[-+*/%&|^=!<>]=|.)""", re.X | re.S | re.M)
MACRO = re.compile(r"^#define (?P<name>\w+)\((?P<parameters>[\w, ]+)\)(?P<body>(?:[^\n\\]|\\.)*)", re.S | re.M)
TYPES = {"unsigned", "int", "bool", "char", "long", "void", "size_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t",
         "int64_t", "uintptr_t", "hpa_t", "gpa_t", "gla_t", "const", "static", "struct", "enum", "union", "volatile"}
CLOSES = {"(": ")", "[": "]", "{": "}"}
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}
KEYWORDS = {"if", "while", "for", "switch", "return", "sizeof", "case", "default", "do", "else", "break", "continue",
            "goto", "invariant"}
OTHER_COMPARISON = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}


class Token:
    def __init__(self, match):
        self.kind, self.text = match.lastgroup, match.group()
        self.start, self.end = match.span()


class Mutant:
    """A change of source[start:end] to `new`."""

    def __init__(self, source, start, end, new, kind, function, text=None):
        self.path, self.start, self.end, self.new, self.kind = source.path, start, end, new, kind
        self.function, self.line = function, source.text.count("\n", 0, start) + 1
        self.mutated = source.text[:start] + new + source.text[end:]
        first = source.text.rfind("\n", 0, start) + 1
        after = source.text.find("\n", end)
        self.before = source.text[first:after]
        self.after = source.text[first:start] + new + source.text[end:after]
        self.text = " ".join((text or self.after).split())
        self.number = 1  # among those with the same text

    def name(self):
        number = f" ({self.number})" if self.number > 1 else ""
        return f"{self.path}: {self.function}: {self.kind}: `{self.text}`{number}"

    def diff(self):
        lines = [f"{self.path}:{self.line}"]
        lines += ["-" + line for line in self.before.split("\n")]
        lines += ["+" + line for line in self.after.split("\n") if line.strip()]
        return "\n".join(lines)


def scan(text):
    """The tokens of C, and for the index of each bracket that of its partner."""
    tokens = [Token(m) for m in TOKEN.finditer(text) if m.lastgroup != "space"]
    partner, stack = {}, []
    for i, token in enumerate(tokens):
        if token.text in CLOSES:
            stack.append(i)
        elif stack and token.text == CLOSES[tokens[stack[-1]].text]:
            partner[i] = stack[-1]
            partner[stack.pop()] = i
    return tokens, partner


class Source:
    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.tokens, self.partner = scan(self.text)

    def is_type(self, i):
        return self.tokens[i].text in TYPES

    def operand_end(self, i):
        """The index after the unary expression that begins with token i; None if it is none."""
        tokens = self.tokens
        while tokens[i].text in ("~", "-", "!", "*", "&"):
            i += 1
        if tokens[i].text == "(":
            i = self.partner[i] + 1
            if self.is_type(self.partner[i - 1] + 1):
                return self.operand_end(i)
        elif tokens[i].kind in ("name", "number"):
            i += 1
        else:
            return None
        while i < len(tokens) and tokens[i].text in ("(", "[", "->", "."):
            i = self.partner[i] + 1 if tokens[i].text in CLOSES else i + 2
        return i

    def is_binary(self, i):
        """Whether the sign at i has an operand on its left."""
        before = self.tokens[i - 1]
        if before.text == ")":
            return not self.is_type(self.partner[i - 1] + 1)
        return (before.kind in ("name", "number") and before.text not in KEYWORDS | TYPES) or before.text == "]"

    def bodies(self):
        """(name, first, last) of the tokens between the braces of each function."""
        depth = 0
        for i, token in enumerate(self.tokens):
            if token.text == "{":
                if depth == 0 and self.tokens[i - 1].text == ")":
                    yield self.tokens[self.partner[i - 1] - 1].text, i + 1, self.partner[i]
                depth += 1
            elif token.text == "}":
                depth -= 1

    def tables(self):
        """(name, first, last) of the tokens between the braces of each constant array with an initialiser."""
        for i, token in enumerate(self.tokens):
            if token.text == "=" and self.tokens[i + 1].text == "{" and self.tokens[i - 1].text == "]":
                name = self.partner[i - 1] - 1
                while self.tokens[name].text == "]":
                    name = self.partner[name] - 1
                yield self.tokens[name].text, i + 2, self.partner[i + 1]

    # ---- Changes ----

    def statements(self, function, first, last):
        i = start = first
        while i < last:
            text = self.tokens[i].text
            if text == "(" or text == "[":
                i = self.partner[i]
            elif text in "{}:":
                start = i + 1
            elif text == ";":
                if self.can_be_deleted(start, i):
                    begin, end = self.tokens[start].start, self.tokens[i].end
                    yield Mutant(self, begin, end, ";", "delete", function, self.text[begin:end])
                start = i + 1
            elif text in ("if", "while", "for", "switch"):
                i = self.partner[i + 1]
                start = i + 1
            elif text in ("else", "do"):
                start = i + 1
            i += 1

    def can_be_deleted(self, start, end):
        first = self.tokens[start]
        texts = [t.text for t in self.tokens[start:end]]
        if start == end or first.text in KEYWORDS | TYPES or first.text in ("{", "}"):
            return False
        if first.kind == "name" and self.tokens[start + 1].kind == "name":
            return False  # a declaration
        return "(" in texts or "++" in texts or "--" in texts or bool(ASSIGNMENTS & set(texts))

    def conditions(self, function, first, last):
        for i in range(first, last):
            text = self.tokens[i].text
            begin = end = None
            if text in ("if", "while"):
                begin, end = i + 2, self.partner[i + 1]
            elif text == "for":
                signs = [j for j in range(i + 2, self.partner[i + 1])
                         if self.tokens[j].text == ";"]
                begin, end = signs[0] + 1, signs[1]
            elif text == "?":
                begin, end = self.ternary_start(i), i
            elif text == "return" and self.tokens[i + 1].text in ("true", "false"):
                other = "false" if self.tokens[i + 1].text == "true" else "true"
                yield Mutant(self, self.tokens[i + 1].start, self.tokens[i + 1].end, other, "invert", function)
            if begin is not None and begin < end:
                start, stop = self.tokens[begin].start, self.tokens[end - 1].end
                yield Mutant(self, start, stop, f"!({self.text[start:stop]})", "invert", function)

    def ternary_start(self, i):
        while True:
            text = self.tokens[i - 1].text
            if text in ")]}":
                i = self.partner[i - 1]
            elif text in CLOSES or text in ASSIGNMENTS or text in (",", ";", "?", ":", "return"):
                return i
            else:
                i -= 1

    def signs(self, function, first, last):
        for i in range(first, last):
            token = self.tokens[i]
            if token.text in OTHER_COMPARISON:
                yield Mutant(self, token.start, token.end, OTHER_COMPARISON[token.text], "compare", function)
            elif token.text in ("&&", "||"):
                yield Mutant(self, token.start, token.end, "||" if token.text == "&&" else "&&", "logic", function)
            elif token.text in ("&", "|") and self.is_binary(i):
                end = self.operand_end(i + 1)
                if end is not None:
                    yield Mutant(self, token.start, self.tokens[end - 1].end, "", "mask", function)

    def rows(self, table, first, last):
        start = first
        i = first
        while i <= last:
            text = self.tokens[i].text
            if text == "," or i == last:
                if start < i:
                    begin, end = self.tokens[start].start, self.tokens[min(i, last - 1)].end
                    yield Mutant(self, begin, end, "", "row", table, self.text[begin:self.tokens[i - 1].end])
                start = i + 1
            elif text in CLOSES:
                i = self.partner[i]
            i += 1

    def changes(self):
        for function, first, last in self.bodies():
            yield from self.statements(function, first, last)
            yield from self.conditions(function, first, last)
            yield from self.signs(function, first, last)
        for table, first, last in self.tables():
            yield from self.rows(table, first, last)
        yield from self.macro_rows()

    def macro_rows(self):
        """Of each macro that is a table: what it hands to one of its parameters, as in X(...)."""
        for macro in MACRO.finditer(self.text):
            parameters = macro["parameters"].replace(" ", "").split(",")
            tokens, partner = scan(macro["body"])
            for i, token in enumerate(tokens[:-1]):
                if token.text in parameters and tokens[i + 1].text == "(":
                    begin = macro.start("body") + token.start
                    end = macro.start("body") + tokens[partner[i + 1]].end
                    text = self.text[begin:end].replace("\\\n", "")
                    yield Mutant(self, begin, end, "", "row", macro["name"], text)

    def mutants(self):
        names = {}
        for mutant in self.changes():
            name = mutant.name()
            mutant.number = names[name] = names.get(name, 0) + 1
            yield mutant


# ---- Building and running ---------------------------------------------------------------------------------------


def files(patterns):
    return sorted(set(itertools.chain.from_iterable(glob.glob(pattern) for pattern in patterns)))


def processor_seconds():
    """Used by this process, and by all that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def pure_sources():
    """The files that unit tests link against: the Makefile says which."""
    make = ["make", "-s", "--no-print-directory", "--eval", "pure-sources: ; @echo $(pure)", "pure-sources"]
    return subprocess.run(make, check=True, capture_output=True, text=True).stdout.split()


class Bench:
    """Compiles what does not change, and tries mutants."""

    def __init__(self, options):
        self.build = os.path.join(options.build, "mutants")
        self.cc = options.cc
        self.operations = options.operations
        self.jobs = options.jobs
        self.seconds = {}  # of the processor, by test
        self.tried, self.noticed = collections.Counter(), collections.Counter()  # mutants, by source and test
        self.originals = {}  # object code, by source
        self.judged = {}  # results, by object code: some mutants are the same in other words
        self.place = threading.local()
        self.places = itertools.count()
        os.makedirs(self.build, exist_ok=True)

    def compile(self, source, to, text=None):
        """Compiles `source`, or `text` in its place; False if it is not C."""
        where = ["-x", "c", "-"] if text is not None else [source]
        command = [self.cc, *CFLAGS, f"-I{os.path.dirname(self.build)}/gen", "-frandom-seed=0", "-c", "-o", to, *where]
        return subprocess.run(command, input=text, text=True, check=False, stderr=subprocess.DEVNULL).returncode == 0

    def object_of(self, source):
        return os.path.join(self.build, source.replace("/", "_") + ".o")

    def prepare(self, tests, targets):
        library = pure_sources()
        sources = library + [f"tests/unit/{test}.c" for test in tests]
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            done = dict(zip(sources, pool.map(lambda source: self.compile(source, self.object_of(source)), sources)))
        for source, fine in done.items():
            # What the host cannot compile no test of these needs: the linker will say if one does.
            if not fine and source.startswith("tests/"):
                sys.exit(f"{source} does not compile")
        archive = os.path.join(self.build, "libpure.a")
        if os.path.exists(archive):
            os.remove(archive)
        subprocess.run(["ar", "rcs", archive] + [self.object_of(s) for s in library if done[s]], check=True)
        for target in targets:
            with open(target, encoding="utf-8") as file:
                text = file.read()
            plain = os.path.join(self.build, "plain.o")
            self.compile(target, plain, text)
            with open(plain, "rb") as file:
                self.originals[target] = file.read()
        for test in tests:
            before = processor_seconds()
            if not self.passes(test, []):
                sys.exit(f"{test} fails without any change")
            self.seconds[test] = processor_seconds() - before

    def passes(self, test, objects):
        program = os.path.join(self.directory(), "test")
        archive = os.path.join(self.build, "libpure.a")
        linked = subprocess.run([self.cc, "-o", program, self.object_of(f"tests/unit/{test}.c"), *objects, archive,
                                 *LIBRARIES], check=False, capture_output=True, text=True)
        if linked.returncode != 0:
            sys.exit(f"{test} does not link:\n{linked.stderr}")
        environment = dict(os.environ, CMOCKA_TEST_ABORT="1", VTLB_MODEL_OPERATIONS=str(self.operations))
        seconds = 2 + int(5 * self.seconds.get(test, 100))  # what takes longer hangs

        def limit():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

        try:
            run = subprocess.run([program], check=False, env=environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=limit, timeout=600)
        except subprocess.TimeoutExpired:  # it waits for ever
            return False
        return run.returncode == 0

    def directory(self):
        """Of the calling thread alone."""
        if not hasattr(self.place, "path"):
            self.place.path = os.path.join(self.build, f"job{next(self.places)}")
            os.makedirs(self.place.path, exist_ok=True)
        return self.place.path

    def noticing(self, path, tests, changed):
        """Those of `tests` that notice, the one first that is likely to do so in the least time."""

        def cost(test):
            return self.seconds[test] * (1 + self.tried[path, test]) / (1 + self.noticed[path, test])

        for test in sorted(tests, key=cost):
            self.tried[path, test] += 1
            if not self.passes(test, [changed]):
                self.noticed[path, test] += 1
                yield test

    def judge(self, mutant, tests):
        """"no C", "same code", "survived", or the name of the test that noticed."""
        changed = os.path.join(self.directory(), "mutant.o")
        if not self.compile(mutant.path, changed, mutant.mutated):
            return "no C"
        with open(changed, "rb") as file:
            code = file.read()
        if code == self.originals[mutant.path]:
            return "same code"
        if code not in self.judged:
            self.judged[code] = next(self.noticing(mutant.path, tests, changed), "survived")
        return self.judged[code]


def declared_equivalents():
    """The names in tests/mutants.txt, each with its reason."""
    declared, name = {}, None
    if not os.path.exists(DECLARED):
        return declared
    with open(DECLARED, encoding="utf-8") as file:
        for line in file:
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                if name is None:
                    sys.exit(f"{DECLARED}: a reason without a mutant: {line.strip()}")
                declared[name] = (declared[name] + " " + line.strip()).strip()
            else:
                name = line.strip()
                declared[name] = ""
    for name, reason in declared.items():
        if not reason:
            sys.exit(f"{DECLARED}: no reason for {name}")
    return declared


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.environ.get("BUILD", "build"), help="where to build (%(default)s)")
    parser.add_argument("--cc", default="gcc")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", action="append", metavar="FILE", help="change these only (a pattern); may be repeated")
    parser.add_argument("--name", metavar="TEXT", help="only those whose name has this in it")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="for --sample (%(default)s)")
    parser.add_argument("--operations", type=int, default=400000, help="of test_vtlb_model (%(default)s)")
    parser.add_argument("--list", action="store_true", help="print the mutants, and do no more")
    options = parser.parse_args()

    targets = {}
    for pattern, tests in TARGETS:
        for path in files([pattern]):
            if path not in LEFT_OUT and (options.only is None or any(map(pathlib.Path(path).match, options.only))):
                names = itertools.chain.from_iterable(files([f"tests/unit/{test}.c"]) for test in tests)
                targets[path] = list(dict.fromkeys(os.path.basename(name)[:-2] for name in names))
    if not targets:
        sys.exit("that is not among what is changed")
    mutants = [mutant for path in targets for mutant in Source(path).mutants()]
    declared = declared_equivalents()
    unknown = sorted(set(declared) - {mutant.name() for mutant in mutants})
    if options.only is not None:
        unknown = [name for name in unknown if name.split(":")[0] in targets]
    if unknown:
        sys.exit("\n".join(f"{DECLARED}: there is no such mutant: {name}" for name in unknown))
    equivalent = sum(mutant.name() in declared for mutant in mutants)
    mutants = [mutant for mutant in mutants if mutant.name() not in declared]
    if options.name is not None:
        mutants = [mutant for mutant in mutants if options.name in mutant.name()]
    if options.sample is not None and options.sample < len(mutants):
        mutants = random.Random(options.seed).sample(mutants, options.sample)
    if options.list:
        print("\n".join(mutant.name() for mutant in mutants))
        return 0

    bench = Bench(options)
    bench.prepare(sorted(set(itertools.chain.from_iterable(targets.values()))), targets)
    results, survivors = {}, []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        futures = {pool.submit(bench.judge, mutant, targets[mutant.path]): mutant for mutant in mutants}
        for future in concurrent.futures.as_completed(futures):
            result, mutant = future.result(), futures[future]
            results[result] = results.get(result, 0) + 1
            if result == "survived":
                survivors.append(mutant)
                print(f"SURVIVED {mutant.name()}\n{mutant.diff()}\n", flush=True)
    ignored = results.pop("no C", 0) + results.pop("same code", 0)
    survived = results.pop("survived", 0)
    for test, count in sorted(results.items(), key=lambda item: -item[1]):
        print(f"{count:6} noticed by {test}")
    print(f"{sum(results.values()) + survived} mutants, {survived} survived; {equivalent} declared equivalent, "
          f"{ignored} no C or the same code; {processor_seconds() / 60:.1f} minutes of processor time")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
