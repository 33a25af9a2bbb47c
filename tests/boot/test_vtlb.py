# SPDX-License-Identifier: BSD-2-Clause
"""
Guests whose addresses Umbra translates itself (`paging = vtlb`, and processors without EPT): the same rows as on
the bare processor of that model; what translation costs them in exits; and an enemy of whoever translates.
"""
import re

import pytest

from tests.boot import bare, compare, conf, hand
from tests.boot.machine import BUILD

SKYLAKE = bare.MODEL
LYNNFIELD = "corei5_lynnfield_750"  # EPT, but no unrestricted guest
PENRYN = "core2_penryn_t9600"  # neither
BILLION = 1_000_000_000

WORDS = {"delivery": "table-holes"}  # what a guest is told for these tests
# Its rows about the shadow of STI need a processor that gets no interrupts (test_guests_partition.py).
UNDISTURBED = {"interrupts"}
# What asks for instructions, leaves or MSRs that the model has not, and fails on the bare one, too; what begins
# processors, which needs real mode; and what has more rows in a partition, whose local APIC has a TSC deadline (timers).
MISSING = {PENRYN: {"cr", "msr", "smp", "timers"}, LYNNFIELD: {"cpuid", "msr", "smp", "timers"}}


def image(name):
    return BUILD / "tests" / "guests" / f"{name}.elf"


def compare_with_bare(machine, tmp_path, record_property, name, paging, model=SKYLAKE):
    """Runs guest `name` bare and in a partition of `model` with `paging`, and compares what they say."""
    vcpus = bare.PROCESSORS.get(name, 1)
    words = WORDS.get(name, "")
    expected = bare.run(image(name), words, model=model, count=vcpus, timeout=300)
    keys = {"paging": paging, "on_stop": "poweroff"}
    processors = 1
    if words:
        keys["cmdline"] = words
    if vcpus > 1 or name in UNDISTURBED:
        keys["cpus"] = f"1-{vcpus}" if vcpus > 1 else "1"
        processors += vcpus
    configuration = conf.write(tmp_path, guest=conf.guest(name, **keys))
    machine.boot(configuration, "--on", "bochs", "--cpus", processors, "--model", model)
    assert machine.wait_end(timeout=600) == 0
    result = compare.compare(name, expected.text, machine.before)
    assert result.problems == []
    record_property("guest_rows", (result.rows, result.declared))


COMPARED = bare.compared()


@pytest.mark.parametrize("name", COMPARED)
def test_same_as_bare(machine, tmp_path, record_property, name):
    """
    Fails when a guest can tell by its rights, its faults, its accessed and dirty flags, or what it sees after it has
    changed its tables, that the processor walks other ones than its own.
    """
    compare_with_bare(machine, tmp_path, record_property, name, "vtlb")


def base_cases():
    for name in COMPARED:
        yield pytest.param(name, id=name, marks=() if name in ("flush", "rights") else pytest.mark.soak)


@pytest.mark.parametrize("name", base_cases())
def test_base(machine, tmp_path, record_property, name):
    """The reference, which keeps no address space. Fails when it and the cached mode are not the same for a guest."""
    compare_with_bare(machine, tmp_path, record_property, name, "vtlb base")


def model_cases():
    quick = {(LYNNFIELD, "vtlb", "flush"), (LYNNFIELD, "auto", "paging"), (PENRYN, "auto", "paging"), (PENRYN, "auto", "rights")}
    for model, paging in ((LYNNFIELD, "auto"), (LYNNFIELD, "vtlb"), (LYNNFIELD, "vtlb base"), (PENRYN, "auto"), (PENRYN, "vtlb base")):
        for name in COMPARED:
            # Where EPT walks the guest's own tables, one of them in a hole ends the partition: see delivery.c.
            if name in MISSING[model] or (name in WORDS and (model, paging) == (LYNNFIELD, "auto")):
                continue
            marks = () if (model, paging, name) in quick else pytest.mark.soak
            yield pytest.param(model, paging, name, id=f"{model}-{paging}-{name}".replace(" ", "-"), marks=marks)


@pytest.mark.parametrize("model, paging, name", model_cases())
def test_models(machine, tmp_path, record_property, model, paging, name):
    """
    Processors that have less. Fails when Umbra uses what they have not, or when a guest that turns paging off and on
    (paging) loses its translations on the way between the processor's and Umbra's.
    """
    compare_with_bare(machine, tmp_path, record_property, name, paging, model)


# ---- What it costs -----------------------------------------------------------------------------------------------

# Where the guest waits; and its last word, for which it does not.
PHASE = r"PHASE (?:end 0\s+PASS faults-deserved|(\S+) ([1-9]\d*))\r"
# Exits of the guest's own lines and its halt for a byte, and of the machine's devices.
NOT_THE_PHASES = {f"exits_{reason}" for reason in ("I_O_instruction", "HLT", "external_interrupt", "VMX_preemption_timer_expired")}
# Exits that one operation of a phase may cost (docs/design/vtlb.md; tests/guests/bench_vtlb.c says what each does).
MOST_EXITS = {
    "demand-ascending": 2,
    "demand-random": 2,
    "touch-8-mapped": 1.3,
    "switch-8": 2,
    "switch-64": 2,
    "switch-512": 2,
    "switch-4096": 2,
    "fork-t1-c0": 2 + 1,
    "fork-t4-c16": 2 + 4 + 3 * 16,
    "fork-t16-c0": 2 + 16,
    "fork-t16-c64": 2 + 16 + 3 * 64,
    "globals": 1,
    "globals-two-roots": 1,
    "fault-passed-on": 1,
    "cr3-same": 1,
    "toggle-wp": 1,
    "toggle-pge": 1,
}


def exits(machine):
    counted = hand.stats(machine, "guest")
    reasons = [name for name in counted if name.startswith("exits_") and name != "exits_sampled"]
    return sum(counted[name] for name in reasons if name not in NOT_THE_PHASES)


def test_exits(machine, tmp_path):
    """
    Fails when an operation costs more exits than it must: a table that is written, a page that was filled before and has not
    changed, or a global page that is filled again.
    """
    keys = conf.guest("bench_vtlb", cmdline="wait", paging="vtlb", cpus="1", memory="64M", on_stop="stay")
    machine.boot(conf.write(tmp_path, guest=keys), "--on", "bochs", "--cpus", 2)
    found = {}
    name, operations = machine.expect(PHASE).groups()
    machine.monitor()
    while name is not None:
        before = exits(machine)
        hand.ask(machine, "guest", rf"END {re.escape(name)}\r")
        found[name] = (exits(machine) - before) / int(operations)
        name, operations = hand.ask(machine, "guest", PHASE).groups()
    print(found)
    over = {name: found[name] for name, most in MOST_EXITS.items() if found[name] > most + 0.05}
    assert not over, f"exits for one operation: {found}"
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


# ---- An enemy ----------------------------------------------------------------------------------------------------

ALIVE = r"ALIVE (\d+) (\d+) (\d+)\r"


def alive(machine):
    """Waits until the enemy, which must be running, has done some more; its operations, and its other processor's."""
    assert hand.state(machine, "enemy") == "running", machine.command("list")
    machine.send_line("console enemy")
    operations, _, others = machine.expect(ALIVE, timeout=900).groups()
    machine.monitor()
    return int(operations), int(others)


def fight(machine, tmp_path, paging, instructions):
    """The enemy on two processors, who watches on a third, until this many instructions have passed on each of them."""
    path = conf.write(
        tmp_path,
        watch=conf.guest("spin", cmdline="watch", cpus="1"),
        enemy=conf.guest("hostile_paging", vcpus=2, cpus="2-3", paging=paging),
    )
    machine.boot(path, "--on", "bochs", "--cpus", 4, timeout=7200)
    machine.expect(r"WATCHING \d+\r")
    machine.monitor()
    machine.send_line("console enemy")
    machine.expect(r"HOSTILE paging 2\r")
    machine.monitor()
    owned = hand.frames(machine)
    began, turns = hand.watched(machine)
    operations, others = alive(machine)
    while True:
        more, more_others = alive(machine)
        assert more > operations and more_others > others
        operations, others = more, more_others
        now, more_turns = hand.watched(machine)
        assert more_turns > turns
        if now - began > instructions:
            break
    assert hand.frames(machine) == owned
    assert "panic" not in machine.command("log")
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_enemy(machine, tmp_path):
    """
    Tables rewritten at random under two processors that use them. Fails when that ends Umbra or the partition, makes a
    frame change hands or another partition's memory change, or keeps a processor of the enemy from going on.
    """
    fight(machine, tmp_path, "vtlb", BILLION // 20)


@pytest.mark.soak
@pytest.mark.parametrize("paging", ["vtlb", "vtlb base"])
def test_enemy_for_long(machine, tmp_path, paging):
    """The same for a billion instructions, counted by the other partition's clock."""
    fight(machine, tmp_path, paging, BILLION)
