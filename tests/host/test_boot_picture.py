# SPDX-License-Identifier: BSD-2-Clause
"""The picture of a boot: what the model of a terminal makes of a console's bytes, and what is drawn of it."""
import xml.dom.minidom

import boot_picture
import pytest


def replay(text):
    terminal = boot_picture.Terminal()
    terminal.feed(text)
    return terminal.lines()


@pytest.mark.parametrize(
    "text, lines",
    [
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("wrong\rright\r\n", ["right"]),  # overwritten from the left
        ("ax\bb", ["ab"]),
        ("long line\r\x1b[4Cx\x1b[K", ["longx"]),
        ("gone\x1b[2J\x1b[2;3Hhere", ["gone", "", "  here"]),  # what was erased has been seen
        ("\x1b[?7l\x1b[1;31mred\x1b[0m\x1b[6n", ["red"]),  # modes, colours and questions show nothing
        ("".join(f"{i}\r\n" for i in range(60)), [str(i) for i in range(60)]),  # scrolled lines are kept
        ("\ta", ["        a"]),
    ],
)
def test_terminal(text, lines):
    """Fails when a control sequence is misread, or a line that scrolled away is lost."""
    assert replay(text) == lines


def test_choose():
    """Fails when the picture does not begin where it should, or hides lines without saying how many."""
    lines = ["menu", "", "", "start", "", "", *map(str, range(10))]
    assert boot_picture.choose(lines, "start", 20, 20) == ["start", "", *map(str, range(10))]
    assert boot_picture.choose(lines, "start", 2, 3) == ["start", "", "⋮ 7 lines", "7", "8", "9"]
    assert boot_picture.choose(["a", "b"], "nowhere", 5, 5) == ["a", "b"]


def test_drawing_is_well_formed_and_repeatable(tmp_path):
    """Fails when text reaches the SVG unescaped, is lost, or wider than the picture."""
    log, first, second = (tmp_path / name for name in ("log", "first.svg", "second.svg"))
    log.write_bytes(b'Umbra 0.1, a microhypervisor\r\n<&"> \xff\r\numbra> list\r\n' + b"w" * 300 + b"\r\n")
    for out in (first, second):
        boot_picture.main([str(log), str(out), "--columns", "40"])
    assert first.read_bytes() == second.read_bytes()
    texts = [
        "".join(
            node.firstChild.data if node.nodeType == node.ELEMENT_NODE else node.data
            for node in text.childNodes
        )
        for text in xml.dom.minidom.parse(str(first)).getElementsByTagName("text")
    ]
    assert texts[1:] == ["Umbra 0.1, a microhypervisor", '<&"> \ufffd', "umbra> list", "w" * 39 + "…"]
