# SPDX-License-Identifier: BSD-2-Clause
"""The rows that are shown first: in README's table and in the picture."""
from bench import exits, table

# Columns: what a user chooses between stands side by side.
SYSTEMS = ("bare", "umbra-ept", "kvm-ept", "umbra-vtlb", "kvm-shadow")

_TRANSLATION = "M10: instructions"
_PAGES = "what kernels do with pages: instructions, their own among them"

# (group, operation) → what it is called there; all in instructions.
_TITLES = {
    (exits.INSTRUCTIONS, "cpuid"): "CPUID",
    (exits.INSTRUCTIONS, "vmcall"): "the smallest hypercall",
    (exits.INSTRUCTIONS, "rdmsr"): "RDMSR, emulated",
    (exits.INSTRUCTIONS, "pic-read"): "port read: 8259",
    (exits.INSTRUCTIONS, "port-read"): "port read: UART",
    (exits.INSTRUCTIONS, "ioapic-read"): "memory-mapped read: IO-APIC",
    (exits.INSTRUCTIONS, "self-ipi"): "self-IPI, taken and ended",
    (exits.INSTRUCTIONS, "tsc-deadline"): "timer set, taken and ended",
    (exits.INSTRUCTIONS, "halt"): "a halt, from the timer's deadline to the handler",
    (_TRANSLATION, "fault-passed-on"): "page fault, for the guest",
    (_TRANSLATION, "fill"): "first touch of a page that the guest has mapped",
    (_TRANSLATION, "invlpg-used"): "INVLPG of a page in use",
    (_TRANSLATION, "switch-64"): "address-space switch, 64 pages in use",
    (_PAGES, "copy-on-write"): "copy-on-write of a page, copying included",
    (_PAGES, "map-touch-unmap-8"): "8 pages mapped, touched, unmapped",
    (_PAGES, "fork-t4-c16"): "a fork with 16 pages copied, and its end",
}


def rows(found):
    """(title, row) of those that `found` has, in order; a row has figures of all parts that measured it."""
    known = {(row.group, row.name): row for row in table.merged(found) if row.kind == "measured"}
    return [(title, known[key]) for key, title in _TITLES.items() if key in known]


def systems(shown):
    """The systems that one of these (title, row) has a figure of."""
    return [system for system in SYSTEMS if any(system in row.values for _, row in shown)]
