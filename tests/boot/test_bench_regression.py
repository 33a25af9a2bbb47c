# SPDX-License-Identifier: BSD-2-Clause
"""Umbra does not get dearer: the cheap parts of the benchmark against tests/bench/baseline.json."""
import dataclasses

import pytest
from bench import command, compare, exits, parts, phases, result, vtlb

# Not in make test: the median of 16 forks moves by 3 % with the phase of the partition's timer.
pytestmark = pytest.mark.soak

GUESTS = {"exits": exits, "vtlb": vtlb}


@pytest.mark.parametrize("system", parts.UMBRAS)
@pytest.mark.parametrize("part", GUESTS)
def test_no_regression(part, system, tmp_path, monkeypatch):
    """
    Fails when an operation takes more than 2 % more instructions than it took when the baseline was stored. An exit more
    is more than that everywhere. A figure that is better fails nothing: `umbra bench --store` makes it the new measure.
    """
    guest = GUESTS[part]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    figures, _ = phases.run_partition(tmp_path, guest.GUEST, guest.MEMORY, paging=parts.UMBRAS[system])
    rows = [dataclasses.replace(row, part=part) for row in guest.rows({system: figures}, {})]
    baseline, new = result.load(command.BASELINE), result.document({part: result.versions()}, rows)
    assert compare.incomparable(baseline, new) == {}
    assert len(list(compare.moves(baseline, new))) == len(rows)
    worse = compare.regressions(baseline, new)
    assert not worse, "\n".join(map(str, worse))
