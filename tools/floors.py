#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Checks that includes respect the floors: a file includes only what stands on its own floor or below, and files of one
floor do not form circles. A source and the header beside it count as one file. Prints each offence, exits 1 if there is any.
"""
import os
import re
import sys

FLOORS = ["lib", "arch", "mm", "drivers", "vmx", "nested", "core", "boot"]
# The configuration is compiled for the host as well: it sees nothing but the library.
ONLY_LIB = "core/config"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def sources(root):
    for floor in FLOORS:
        for folder, _, names in sorted(os.walk(os.path.join(root, floor))):
            for name in sorted(names):
                if name.endswith((".c", ".h", ".S")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def floor_of(path):
    return FLOORS.index(path.split("/")[0]) if path.split("/")[0] in FLOORS else None


def unit_of(path):
    return os.path.splitext(path)[0]


def offences(root):
    graph = {}
    for path in sources(root):
        with open(os.path.join(root, path), encoding="utf-8") as file:
            included = INCLUDE.findall(file.read())
        for target in included:
            if floor_of(target) is None:
                if not target.endswith(".inc"):
                    yield f"{path}: includes {target}, which stands on no floor"
                continue
            if floor_of(target) > floor_of(path):
                yield f"{path}: includes {target} of the floor above"
            if path.startswith(ONLY_LIB + "/") and not target.startswith((ONLY_LIB + "/", "lib/")):
                yield f"{path}: includes {target}, but {ONLY_LIB} may include only lib/"
            if floor_of(target) == floor_of(path) and unit_of(target) != unit_of(path):
                graph.setdefault(unit_of(path), set()).add((path, target))
    yield from circles(root, graph)


def circles(root, graph):
    """Circles among headers: two sources may each use the other's header, but headers must not need each other."""
    edges = {}
    for uses in graph.values():
        for path, target in uses:
            if path.endswith(".h"):
                edges.setdefault(path, set()).add(target)
    done, stack = set(), []

    def visit(header):
        if header in stack:
            return [" -> ".join(stack[stack.index(header):] + [header])]
        if header in done:
            return []
        stack.append(header)
        found = [circle for target in sorted(edges.get(header, ())) for circle in visit(target)]
        stack.pop()
        done.add(header)
        return found

    for header in sorted(edges):
        for circle in visit(header):
            yield f"circle of headers: {circle}"


def main():
    found = list(offences(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(found) if found else "floors: every include respects them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
