# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark's result: rows, the document, two of them compared, and what is shown of it."""
import argparse
import copy
import json
import xml.dom.minidom

import pytest
from bench import command, compare, exits, headline, markdown, picture, result, table
from bench.table import Row

from umbra.common import ROOT, Problem

VERSIONS = {"umbra": "0.1", "compiler": "12", "emulator": "Bochs 2.7", "processor": "m", "packages": []}
FIGURE = {"median": 225, "min": 1, "max": 900, "count": 3}


def document(*rows, **versions):
    return result.document({"exits": VERSIONS | versions}, [Row(*row, part="exits") for row in rows])


# ---- Rows ----------------------------------------------------------------------------------------------------


def test_a_goal_is_met_by_the_median_up_to_the_goal_itself():
    """
    Fails if equality is a miss, if the extremes decide, or if another system than the one that is meant does.
    """
    assert Row("g", "n", "", {"umbra": FIGURE}, 225).verdict == "ok"
    assert Row("g", "n", "", {"umbra": FIGURE}, 224).verdict == "over"
    assert Row("g", "n", "", {"umbra": 1.0501}, 1.05).verdict == "over"
    assert Row("g", "n", "", {"umbra": FIGURE}).verdict == ""
    assert Row("g", "n", "", {"bare": 1, "kvm-ept": 9}, 5).verdict == ""
    assert Row("g", "n", "", {"umbra-vtlb": 9, "umbra-ept": 1}, 5).verdict == "ok"
    assert Row("g", "n", "", {"umbra-vtlb": 9, "umbra-ept": 1}, 5, judge="umbra-vtlb").verdict == "over"


def test_rows_of_two_parts_that_say_the_same_are_one():
    """
    Fails if a system's figure or the goal is lost, if a row of another unit is taken in, or the order
    changes.
    """
    rows = [
        Row("g", "a", "exits", {"umbra-ept": 1}, 1, part="exits"),
        Row("h", "b", "exits", {"umbra-ept": 2}, part="exits"),
        Row("g", "a", "exits", {"kvm-ept": 3}, part="kvm"),
        Row("g", "a", "instructions", {"kvm-ept": 4}, part="kvm"),
    ]
    found = table.merged(rows)
    assert [(row.group, row.unit, row.values) for row in found] == [
        ("g", "exits", {"umbra-ept": 1, "kvm-ept": 3}),
        ("g", "instructions", {"kvm-ept": 4}),
        ("h", "exits", {"umbra-ept": 2}),
    ]
    assert found[0].verdict == "ok" and rows[0].values == {"umbra-ept": 1}
    assert [row.verdict for row in table.merged(reversed(rows)) if row.goal] == ["ok"]


def test_the_table_has_a_column_for_each_system_of_a_group():
    """
    Fails if a system that was not measured shifts the others, a figure or verdict is lost, or a model is not
    marked.
    """
    rows = [
        Row("one", "fast", "ticks", {"bare": 5, "umbra-ept": FIGURE | {"median": 1234, "max": 2345}}, 10),
        Row("one", "slow", "ticks", {"kvm-ept": 7}),
        Row("two", "ratio", "", {"umbra": 1.01519}, 1.05),
        Row("two", "ratio", "cycles", {"umbra": 3}, kind="model"),
    ]
    lines = [line.split() for line in table.as_text(rows).splitlines() if line]
    assert lines[:2] == [["one"], "bare Umbra, EPT KVM, EPT goal unit least … most × count".split()]
    assert lines[2] == "fast 5 1,234 – ≤ 10 over ticks 1 … 2,345 × 3".split()
    assert lines[3] == "slow – – 7 ticks".split()
    assert lines[6] == "ratio 1.0152 ≤ 1.0500 ok".split()
    assert lines[7] == ["two", "(model)"]


# ---- The document --------------------------------------------------------------------------------------------


def test_a_document_survives_being_stored(tmp_path):
    """Fails if something is lost or changed on the way to a file and back."""
    found = document(("g", "n", "exits", {"bare": 1.5, "umbra-vtlb": FIGURE}, 2))
    assert result.problems(document(("g", "n", "exits", {"kvm-ept": 1}, 2))) == []  # nobody's goal
    path = tmp_path / "new" / "result.json"
    result.store(path, found)
    assert result.load(path) == found
    assert table.as_json(table.from_json(found["rows"])) == found["rows"]


@pytest.mark.parametrize(
    "break_it, said",
    [
        (lambda d: d.update(schema=2), "schema 2"),
        (lambda d: d.update(more=1), "not an object with"),
        (lambda d: d["parts"]["exits"].pop("emulator"), "its versions are not"),
        (lambda d: d["parts"].pop("exits"), "has no versions"),
        (lambda d: d["rows"][0].pop("unit"), "its members are not"),
        (lambda d: d["rows"].append(d["rows"][0]), "is there twice"),
        (lambda d: d["rows"][0].update(kind="guessed"), "kind 'guessed'"),
        (lambda d: d["rows"][0].update(values={}), "no values"),
        (lambda d: d["rows"][0]["values"].update(xen=1), "system 'xen'"),
        (lambda d: d["rows"][0]["values"].update(bare="1"), "'1' is no figure"),
        (lambda d: d["rows"][0]["values"].update(bare=True), "True is no figure"),
        (lambda d: d["rows"][0]["values"]["umbra-ept"].update(min=226), "not a median between"),
        (lambda d: d["rows"][0]["values"]["umbra-ept"].pop("count"), "not a median between"),
        (lambda d: d["rows"][0].update(judged=None), "judged None"),
        (lambda d: d["rows"][0].update(judged="umbra-vtlb"), "judged 'umbra-vtlb'"),
        (lambda d: d["rows"][0].update(verdict=""), "verdict ''"),
    ],
)
def test_what_is_no_result(tmp_path, break_it, said):
    """Fails if a document that breaks the schema in this way is taken for a result."""
    found = document(("g", "n", "exits", {"bare": 1, "umbra-ept": dict(FIGURE)}, 225))
    assert result.problems(found) == []
    break_it(found)
    assert any(said in problem for problem in result.problems(found)), result.problems(found)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(found))
    with pytest.raises(Problem, match="is no result of the benchmark"):
        result.load(path)


def test_parts_are_replaced_whole():
    """Fails if a row stays that the new run of its part no longer has, or another part's is lost."""
    old = result.document(
        {"exits": VERSIONS, "size": VERSIONS},
        [
            Row("g", name, "", {"bare": 1}, part=part)
            for part, name in (("exits", "a"), ("exits", "b"), ("size", "c"))
        ],
    )
    found = result.merge(old, document(("g", "a", "", {"bare": 2}), emulator="newer"))
    assert [(row["operation"], row["values"]["bare"]) for row in found["rows"]] == [("c", 1), ("a", 2)]
    assert (found["parts"]["exits"]["emulator"], found["parts"]["size"]["emulator"]) == ("newer", "Bochs 2.7")


# ---- Two of them ---------------------------------------------------------------------------------------------


def test_what_moved():
    """
    Fails if a move above 1 % is not listed, one up to it is, or a row that came or went is not mentioned.
    """
    old = document(
        ("g", "up", "exits", {"umbra-ept": 100, "bare": 5}),
        ("g", "bit", "exits", {"umbra-ept": 200}),
        ("g", "still", "exits", {"umbra-ept": FIGURE}),
        ("g", "from-nothing", "exits", {"umbra-ept": 0}),
        ("g", "went", "exits", {"umbra-ept": 1}),
    )
    new = document(
        ("g", "up", "exits", {"umbra-ept": 102.5, "bare": 5}),
        ("g", "bit", "exits", {"umbra-ept": 203}),
        ("g", "still", "exits", {"umbra-ept": FIGURE | {"median": 227, "max": 9000}}),
        ("g", "from-nothing", "exits", {"umbra-ept": 1}),
        ("g", "came", "exits", {"umbra-ept": 1}),
    )
    assert compare.report(old, new) == [
        "g: from-nothing, exits [Umbra, EPT]  0 → 1",
        "g: up, exits [Umbra, EPT]  100 → 102  +2.5%",
        "g: bit, exits [Umbra, EPT]  200 → 203  +1.5%",
        "gone: g: went",
        "new: g: came",
        "3 of 5 figures moved by more than 1%",
    ]
    assert compare.report(new, new) == ["0 of 6 figures moved by more than 1%"]
    assert [move.name for move in compare.regressions(old, new)] == ["up", "from-nothing"]
    assert compare.regressions(new, old) == []


def test_a_regression_is_more_than_two_percent_of_umbras():
    """Fails if the bare machine or the peer can regress, or exactly 2 % is one."""
    old = document(("g", "n", "", {"bare": 100, "umbra": 100, "kvm-ept": 100}))
    assert (
        compare.regressions(old, document(("g", "n", "", {"bare": 200, "umbra": 102, "kvm-ept": 200}))) == []
    )
    assert compare.regressions(old, document(("g", "n", "", {"umbra": 103})))


@pytest.mark.parametrize("name", ["emulator", "processor", "packages", "command_line"])
def test_what_is_not_compared(name):
    """
    Fails if figures of other guests, or of another processor, are held against each other; a compiler's may
    be.
    """
    old, new = (document(("g", "n", "", {"umbra": value}), compiler=str(value)) for value in (1, 2))
    assert compare.regressions(old, new)
    new["parts"]["exits"][name] = ["other"]
    assert compare.regressions(old, new) == []
    assert compare.report(old, new)[0] == f"not compared: exits (different {name.replace('_', ' ')})"


def test_a_model_is_not_compared():
    """Fails if a constant of the model can be a regression."""
    old, new = (document(("g", "n", "cycles", {"umbra": value}, None, "model")) for value in (1, 2))
    assert list(compare.moves(old, new)) == []


# ---- What is shown -------------------------------------------------------------------------------------------


def shown_document():
    rows = [
        (group, name, "instructions", {"bare": 2, "umbra-ept": FIGURE, "kvm-ept": 10 ** (2 + at % 4)})
        for at, (group, name) in enumerate(headline._TITLES)
    ]
    return document(
        *rows, ("g<", "n&", "exits", {"umbra": 1}), ("g<", "m", "cycles", {"umbra": 1}, None, "model")
    )


def test_the_page_has_every_row():
    """Fails if a row is missing, a cell is, or a model's row stands in a table of measured ones."""
    text = markdown.page(shown_document())
    for title in ("cpuid", "vmcall", "copy-on-write", "n&"):
        assert f"| {title} |" in text
    tables = text.split("\n## ")[1:]
    assert [part.splitlines()[0] for part in tables if "| m |" in part] == ["g< (model)"]
    for part in tables:
        assert len({line.count("|") for line in part.splitlines() if line.startswith("|")}) == 1


def test_the_picture_is_well_formed_and_has_a_bar_for_each_figure(monkeypatch):
    """Fails if a figure has no bar, a bar does not grow by its figure's logarithm, or text is not escaped."""
    monkeypatch.setitem(headline._TITLES, (exits.INSTRUCTIONS, "cpuid"), "<&>")
    found = shown_document()
    rows = table.from_json(found["rows"])
    text = picture.draw(rows)
    assert text == picture.draw(copy.deepcopy(rows))
    svg = xml.dom.minidom.parseString(text)
    bars = [
        node for node in svg.getElementsByTagName("rect") if node.getAttribute("x") == str(picture.LABELS)
    ]
    assert len(bars) == 3 * len(headline._TITLES)
    widths = {}
    for bar, label in zip(
        bars, (node for node in svg.getElementsByTagName("text") if node.getAttribute("class") == "figure")
    ):
        widths[int(label.firstChild.data.replace(",", ""))] = float(bar.getAttribute("width"))
    assert widths[10_000] == pytest.approx(2 * widths[100], abs=0.2) and widths[1000] == pytest.approx(
        1.5 * widths[100], abs=0.2
    )
    assert (
        "prefers-color-scheme: dark" in text
        and "@media print" in text
        and "http" not in text.split("</style>")[1]
    )


def test_readme_is_rewritten_between_its_marks():
    """
    Fails if text around the marks changes, if a second run changes anything, or missing marks go unnoticed.
    """
    text = f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n"
    once = markdown.into_readme(text, shown_document())
    assert once.startswith(f"before\n{markdown.BEGIN}\n\n| instructions for |") and once.endswith(
        f"\n{markdown.END}\nafter\n"
    )
    assert "| CPUID | 2 | 225 |" in once and "old" not in once
    assert markdown.into_readme(once, shown_document()) == once
    for lacking in ("nothing", markdown.BEGIN, markdown.END):
        with pytest.raises(Problem, match="lacks the lines"):
            markdown.into_readme(lacking, shown_document())


def test_the_command_line(tmp_path, monkeypatch, capsys):
    """
    Fails if --store loses a part of the baseline, takes in one that is not to be stored, or leaves README as it was, if --compare measures, says
    nothing, or looks for its file elsewhere than where the caller stands, or if a part that does not exist is
    accepted.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("RESULT", "BASELINE"):
        monkeypatch.setattr(command, name, tmp_path / f"{name}.json")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "_measure", lambda *_: pytest.fail("measured"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"{markdown.BEGIN}\n{markdown.END}\n")

    def umbra_bench(*words):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        return command.run(parser.parse_args(words))

    result.store(command.RESULT, shown_document())
    assert umbra_bench("--store") == 0
    assert result.load(command.BASELINE) == shown_document()
    assert "| CPUID | 2 | 225 |" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "docs/benchmark.svg").read_text().startswith("<svg")
    rows = [Row("g", "n", "lines", {"umbra": 5}, part=part) for part in ("size", "profile")]
    result.store(command.RESULT, result.document({"size": VERSIONS, "profile": VERSIONS}, rows))
    assert umbra_bench("--store") == 0
    assert set(result.load(command.BASELINE)["parts"]) == {"exits", "size"}
    assert umbra_bench("--compare", "BASELINE.json") == 0
    assert capsys.readouterr().out == "0 of 1 figures moved by more than 1%\n"
    with pytest.raises(Problem, match="no such part: sizes") as caught:
        umbra_bench("sizes")
    assert caught.value.status == 2


def test_readme_and_picture_are_what_the_baseline_gives(tmp_path):
    """
    Fails if a figure in README or docs/benchmark.svg was typed in, or is of another run than the baseline.
    """
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    command.write_shown(result.load(command.BASELINE), tmp_path)
    for name in ("README.md", "docs/benchmark.svg"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (ROOT / name).read_text(
            encoding="utf-8"
        ), name
