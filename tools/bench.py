#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark (tools/bench/command.py), as `umbra bench` runs it too."""
import argparse
import sys

from bench import command
from umbra.common import Problem


def main():
    parser = argparse.ArgumentParser(description=command.DESCRIPTION)
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args())
    except Problem as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return problem.status


if __name__ == "__main__":
    sys.exit(main())
