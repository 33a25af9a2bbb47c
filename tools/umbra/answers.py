# SPDX-License-Identifier: BSD-2-Clause
"""The monitor's answers as values of json: those that are tables; the others are lines."""
import re

from umbra import trace
from umbra.common import Problem, parse_size

_MEMORY = re.compile(r"(\S.*?) +(\d+) KiB")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}


def parse(command, lines):
    """What `lines`, the answer to the words `command`, say: an object to which `ok` can be added."""
    for words, parser in _PARSERS:
        if len(words) == len(command) and all(w in (None, c) for w, c in zip(words, command)):
            try:
                return parser(lines)
            except (ValueError, IndexError, TypeError):
                raise Problem(f"the answer to '{' '.join(command)}' is not understood") from None
    return {"lines": lines}


def _list(lines):
    partitions = []
    for line in lines[1:]:
        number, name, state, vcpus, cpus, memory, exits, *reason = line.split(maxsplit=7)
        partitions.append(
            {
                "number": int(number),
                "name": name,
                "state": state,
                "vcpus": int(vcpus),
                "cpus": _numbers(cpus.rstrip("*")),
                "shared": cpus.endswith("*"),
                "memory": _size(memory),
                "exits": int(exits),
                "reason": reason[0] if reason else None,
            }
        )
    return {"partitions": partitions}


def _numbers(text):
    """The list that 1,3-5 means; a dash alone is none."""
    numbers = []
    for piece in text.split(",") if text != "-" else []:
        first, _, last = piece.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _size(text):
    """Bytes; the monitor goes on with T where a configuration ends with G."""
    return int(text[:-1]) << 40 if text.endswith("T") else parse_size(text)


def _stats(lines):
    return {"stats": {name: int(value) for name, value in (line.split() for line in lines)}}


def _memory(lines):
    rows = [_MEMORY.fullmatch(line).groups() for line in lines]
    sizes = [{"owner": owner, "bytes": int(kilobytes) * 1024} for owner, kilobytes in rows]
    *owners, together, largest = sizes
    if (together["owner"], largest["owner"]) != ("together", "largest free"):
        raise ValueError
    return {"memory": owners, "together": together["bytes"], "largest_free": largest["bytes"]}


def _cpu(lines):
    end = next(i for i, line in enumerate(lines) if line.startswith("time stamp counter"))
    processors = []
    for line in lines[1:end]:
        number, apic_id, busy, idle, *serves = line.split(maxsplit=4)
        processors.append(
            {
                "number": int(number),
                "apic_id": int(apic_id, 16),
                "busy": _percent(busy),
                "idle": _percent(idle),
                "serves": serves[0] if serves else "",
            }
        )
    megahertz, unit = lines[end].split()[-2:]
    if unit != "MHz":
        raise ValueError
    whole, thousandths = megahertz.split(".")
    capabilities = dict(re.fullmatch(r"(\S.*?) +(yes|no)", line).groups() for line in lines[end + 1 :])
    return {
        "processors": processors,
        "tsc_hz": int(whole) * 1_000_000 + int(thousandths) * 1000,
        "capabilities": {name: there == "yes" for name, there in capabilities.items()},
    }


def _percent(text):
    if not text.endswith("%"):
        raise ValueError
    return float(text[:-1])


def _top(lines):
    count, seconds = re.fullmatch(r"(\d+) processors, ([\d.]+) s", lines[0]).groups()
    kinds = lines[1].split()[5:]
    end = lines.index("")
    rows = []
    for line in lines[2:end]:
        cpu, partition, vcpu, share, *rates = line.split()
        row = {"cpu": int(cpu), "partition": None, "vcpu": None, "share": _percent(share)}
        if vcpu != "-":
            every, *by_kind = map(_rate, rates)
            exits = {"all": every, **dict(zip(kinds, by_kind, strict=True))}
            row |= {"partition": partition, "vcpu": int(vcpu), "exits_per_second": exits}
        rows.append(row)
    return {"processors": int(count), "seconds": float(seconds), "rows": rows, **_memory(lines[end + 1 :])}


def _rate(text):
    number, unit = re.fullmatch(r"(\d+)([kMGTP]?)", text).groups()
    return int(number) * _UNITS[unit]


def _trace(lines):
    saved = trace.parse(lines)
    return {
        "partition": saved.partition,
        "vcpus": saved.vcpus,
        "tsc_hz": saved.tsc_hz,
        "lost": saved.lost,
        "complete": saved.complete,
        "records": trace.records_as_objects(saved),
    }


# Words of a command, None for any, and what reads the answer.
_PARSERS = [
    (["list"], _list),
    (["stats", None], _stats),
    (["memory"], _memory),
    (["cpu"], _cpu),
    (["top"], _top),
    (["top", "once"], _top),
    (["trace", None, "save"], _trace),
]
