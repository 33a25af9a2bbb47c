# SPDX-License-Identifier: BSD-2-Clause
"""
The document that a run leaves (docs/design/benchmark.md describes it): what was measured of what, and in which
versions. It is checked whenever it is read or written.
"""
import json
import re

from bench import bochs, table
from umbra import packages
from umbra.common import HYPERVISOR, Problem, run_tool

SCHEMA = 1

_VERSIONS = {"umbra", "compiler", "emulator", "processor", "packages"}
_OPTIONAL = {"command_line"}
_ROW = {"part", "group", "operation", "unit", "kind", "values", "goal", "judged", "verdict"}
_FIGURE = {"median", "min", "max", "count"}


def versions(debian=(), command_line=None):
    """
    What a part's figures depend on. `debian` are the packages, as .deb files, whose programs the part boots;
    `command_line` is what a guest kernel is told, if anything.
    """
    banner = re.search(rb"Umbra (\S+), a microhypervisor", HYPERVISOR.read_bytes())
    if not banner:
        raise Problem(f"{HYPERVISOR} does not say its version")
    emulator = re.search(r"Bochs x86 Emulator (\S+)", run_tool("bochs", "--help").decode())
    found = {
        "umbra": banner[1].decode(),
        "compiler": run_tool("gcc", "-dumpfullversion").decode().strip(),
        "emulator": f"Bochs {emulator[1] if emulator else ''}".strip(),
        "processor": bochs.MODEL,
        "packages": sorted(deb.name.removesuffix(".deb").replace("%3a", ":") for deb in debian),
    }
    return found | ({"command_line": command_line} if command_line else {})


def stock_packages():
    """The packages of the stock Linux guest."""
    return [packages.newest(packages.KERNEL), packages.named("busybox-static")]


def document(parts, rows):
    """`parts`: part → its versions."""
    return {"schema": SCHEMA, "parts": parts, "rows": table.as_json(rows)}


def merge(old, new):
    """`old` with the parts that `new` has in place of its own."""
    kept = [row for row in old["rows"] if row["part"] not in new["parts"]]
    return {"schema": SCHEMA, "parts": old["parts"] | new["parts"], "rows": kept + new["rows"]}


def select(found, names):
    """The parts `names` of a document, as far as it has them."""
    parts = {name: about for name, about in found["parts"].items() if name in names}
    return {"schema": SCHEMA, "parts": parts, "rows": [row for row in found["rows"] if row["part"] in parts]}


def load(path):
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Problem(f"{path}: {error}") from None
    _require_good(found, path)
    return found


def store(path, result):
    _require_good(result, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _require_good(result, path):
    found = problems(result)
    if found:
        raise Problem(f"{path} is no result of the benchmark:\n" + "\n".join(found[:10]))


def problems(result):
    """What is wrong with a document; empty if nothing is."""
    if not isinstance(result, dict) or set(result) != {"schema", "parts", "rows"}:
        return ["not an object with schema, parts and rows"]
    if result["schema"] != SCHEMA:
        return [f"schema {result['schema']!r}, not {SCHEMA}"]
    found = []
    for part, about in result["parts"].items():
        if not isinstance(about, dict) or not _VERSIONS <= set(about) <= _VERSIONS | _OPTIONAL:
            found.append(f"part {part}: its versions are not {', '.join(sorted(_VERSIONS))}")
    seen = set()
    for at, row in enumerate(result["rows"]):
        if not isinstance(row, dict) or set(row) != _ROW:
            found.append(f"row {at}: its members are not {', '.join(sorted(_ROW))}")
            continue
        found += [
            f"row {at} ({row['operation']}): {trouble}" for trouble in _row_problems(row, result["parts"])
        ]
        key = (row["part"], row["group"], row["operation"], row["unit"], row["kind"])
        if key in seen:
            found.append(f"row {at} ({row['operation']}) is there twice")
        seen.add(key)
    return found


def _row_problems(row, parts):
    if row["part"] not in parts:
        yield f"part {row['part']} has no versions"
    if row["kind"] not in table.KINDS:
        yield f"kind {row['kind']!r}"
    if not row["values"]:
        yield "no values"
    for system, value in row["values"].items():
        if system not in table.SYSTEMS:
            yield f"system {system!r}"
        if isinstance(value, dict):
            if set(value) != _FIGURE or not value["min"] <= value["median"] <= value["max"]:
                yield f"{system}: not a median between min and max, with a count"
        elif isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{system}: {value!r} is no figure"
    if (row["judged"] is None) != (row["goal"] is None) or row["judged"] not in (None, *row["values"]):
        yield f"judged {row['judged']!r}, goal {row['goal']!r}"
    if row["verdict"] not in ("", "ok", "over") or (row["verdict"] == "") != (row["goal"] is None):
        yield f"verdict {row['verdict']!r}"
