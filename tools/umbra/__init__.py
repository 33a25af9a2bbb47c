# SPDX-License-Identifier: BSD-2-Clause
"""The host side of Umbra: what `./umbra` does. Python's standard library only."""
