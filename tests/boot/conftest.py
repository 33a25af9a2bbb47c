# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures of the boot tests. A failed test leaves its logs in build/test-failures/TEST/."""
import re
import subprocess

import pytest

from tests.boot.machine import BUILD, ROOT, Machine

FAILURES = BUILD / "test-failures"


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Lets the fixtures' ends see whether their test failed."""
    report = (yield).get_result()
    if report.failed and call.when in ("setup", "call"):
        item.umbra_failed = True


@pytest.fixture
def machine(request, tmp_path):
    """A Machine that is ended with the test, and whose logs are kept when the test fails."""
    under_test = Machine(tmp_path)
    yield under_test
    if getattr(request.node, "umbra_failed", False):
        under_test.keep(FAILURES / re.sub(r"[^\w.-]+", "_", request.node.nodeid))
    under_test.end()


@pytest.fixture(scope="session")
def umbra():
    """
    Calls ./umbra with these words, from the root; fails the test on a status other than 0; returns its
    output.
    """

    def call(*words):
        done = subprocess.run(
            [str(ROOT / "umbra"), *map(str, words)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"umbra {' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
        return done.stdout

    return call
