# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark's command line: `umbra bench`, `tools/bench.py`, `make bench`."""
import os
import pathlib
import sys
import tempfile

from bench import bochs, compare, markdown, parts, picture, result, table
from umbra.common import BUILD, ROOT, Problem

OUT = BUILD / "bench"
RESULT = OUT / "result.json"
BASELINE = ROOT / "tests/bench/baseline.json"

DESCRIPTION = (
    "Measures Umbra, the bare machine and KVM in Bochs, prints a table with the goals, and writes "
    "build/bench/result.json, .md and .svg. A figure is a count of instructions, exits, bytes or lines, and the "
    "same on every run; wall time is none. With --compare, --store or --readme and no PART nothing is measured: "
    "they are about the result that is there."
)


def add_arguments(parser):
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts.PARTS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a goal is missed")
    parser.add_argument(
        "--compare",
        metavar="OLD.json",
        type=pathlib.Path,
        help="list what moved by more than 1 %% since OLD.json",
    )
    parser.add_argument(
        "--store",
        action="store_true",
        help="put the result's parts into tests/bench/baseline.json; say in the commit why",
    )
    parser.add_argument(
        "--readme",
        action="store_true",
        help="make README's table and docs/benchmark.svg anew, of the baseline",
    )


def run(arguments):
    """Returns the exit status."""
    unknown = set(arguments.parts) - set(parts.PARTS)
    if unknown:
        raise Problem(f"no such part: {', '.join(sorted(unknown))}", 2)
    compared = result.load(arguments.compare.resolve()) if arguments.compare else None
    os.chdir(ROOT)  # a configuration's files are looked for from there
    status = 0
    if arguments.parts or not (compared or arguments.store or arguments.readme):
        status = _measure(arguments.parts or list(parts.PARTS), arguments.check)
    if compared:
        print("\n".join(compare.report(compared, result.load(RESULT))))
    if arguments.store:
        stored = [name for name, part in parts.PARTS.items() if part.stored]
        found = result.select(result.load(RESULT), stored)
        result.store(BASELINE, result.merge(result.load(BASELINE), found) if BASELINE.exists() else found)
    if arguments.store or arguments.readme:
        write_shown(result.load(BASELINE), ROOT)
    return status


def _measure(names, check):
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"  # the same ISO each time, down to its dates
    OUT.mkdir(parents=True, exist_ok=True)
    versions, rows = {}, []
    for name in names:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="run-", dir=OUT) as folder:
            versions[name], found = parts.measure(name, pathlib.Path(folder))
            rows += found
    document = result.document(versions, rows)
    result.store(RESULT, document)
    rows = table.from_json(document["rows"])
    RESULT.with_suffix(".md").write_text(markdown.page(document), encoding="utf-8")
    RESULT.with_suffix(".svg").write_text(picture.draw(rows), encoding="utf-8")
    print(f"Bochs, {bochs.MODEL}, one processor\n")
    print(table.as_text(rows))
    return 1 if check and any(row.verdict == "over" for row in rows) else 0


def write_shown(baseline, root):
    """README's table and the picture beside it, below the folder `root`: functions of the baseline."""
    readme = root / "README.md"
    readme.write_text(markdown.into_readme(readme.read_text(encoding="utf-8"), baseline), encoding="utf-8")
    shown = picture.draw(table.from_json(baseline["rows"]))
    (root / "docs/benchmark.svg").write_text(shown, encoding="utf-8")
