# SPDX-License-Identifier: BSD-2-Clause
"""What the run as a whole says; here, because the process that only distributes tests reads no other conftest.py."""


def pytest_terminal_summary(terminalreporter):
    """Says how many rows of the guests were compared, how many of them may differ, and what tests tell (property `told`)."""
    reports = terminalreporter.getreports("passed")
    counts = [value for report in reports for name, value in report.user_properties if name == "guest_rows"]
    rows, declared = (sum(count[i] for count in counts) for i in (0, 1))
    if rows:
        terminalreporter.write_line(
            f"guests in a partition: {rows} rows as on the bare machine, {declared} of them declared different "
            f"({100 * declared / rows:.1f} %)"
        )
    for line in (value for report in reports for name, value in report.user_properties if name == "told"):
        terminalreporter.write_line(line)
