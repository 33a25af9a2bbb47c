# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark: exact counts in Bochs, with one processor. Wall time is never a figure."""
