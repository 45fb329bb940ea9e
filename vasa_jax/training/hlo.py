"""What a compiled program moves, read off its text (XLA's HLO): between chips, and between a chip and its memory.

The compiler's own summary counts the body of a loop once; here an instruction counts as often as it runs. Bytes that a
device sends are those of ring algorithms among n devices, for an operand of s bytes on each:

    all-gather (n - 1) s    reduce-scatter, all-to-all (n - 1) s / n    all-reduce 2 (n - 1) s / n
    collective-permute s                                                                                           (1)

An asynchronous form counts once, where it starts. Memory traffic is the sum over all instructions that run as a kernel
of what they read and write: a slice counts as what is sliced, an update in place as the update, what stays on the chip
(memory spaces other than 0) not at all. Both are counts of one program, not measurements.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call after-all partition-id replica-id "
    "opt-barrier domain".split()
)
"""Instructions that move nothing themselves."""
BITS = {"pred": 8, "token": 0, "opaque": 0}
"""Sizes of element types that their names do not tell."""

_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_ASSIGN = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")


class Instruction(NamedTuple):
    """One line: its name, the text of its type, its opcode, the names of its operands and the rest of the line."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool


class Run(NamedTuple):
    """An instruction of a computation, how often a step runs it, and whether it is a part of one fused kernel."""

    instruction: Instruction
    computation: str
    times: int
    fused: bool


class Module:
    """A parsed program."""

    def __init__(self, text: str):
        """Raises ValueError for a text that has no entry computation."""
        header = text.partition("\n")[0]
        counts = [int(found[1]) for found in re.finditer(r"(?:num_partitions|replica_count)=(\d+)", header)]
        self.devices = math.prod(counts)
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = self.computations.setdefault(head[2], {})
                self.entry = head[2] if head[1] else self.entry
            elif assign := _ASSIGN.match(line):
                instruction = _instruction(bool(assign[1]), assign[2], line[assign.end() :])
                current[instruction.name] = instruction
        if not self.entry:
            raise ValueError("the text has no ENTRY computation; give that of a compiled program (compiled.as_text())")

    def runs(self) -> Iterator[Run]:
        """Every instruction that a step runs, loops unrolled into `times`; of a branch, each of its sides."""
        yield from self._runs(self.entry, 1, False)

    def bytes_sent(self) -> dict[str, int]:
        """Kind of collective to the bytes that each device sends by equation (1); kinds that are absent are left out.

        A channel that appears in several fused computations is one collective in the parts of its asynchronous form.
        """
        total: dict[str, float] = {}
        seen = set()
        for run in self.runs():
            kind = run.instruction.opcode.removesuffix("-start")
            if kind not in COLLECTIVES:
                continue
            channel = re.search(r"channel_id=(\d+)", run.instruction.rest)
            if run.fused and channel:
                if channel[1] in seen:
                    continue
                seen.add(channel[1])
            if run.computation.startswith("all-reduce-scatter"):  # a TPU's kernel: it keeps one part of the sum
                kind = "reduce-scatter"
            size = sum(_bytes(self._operand(run, name)) for name in run.instruction.operands)
            n = self._group(run.instruction.rest)
            sent = {"all-gather": n - 1, "all-reduce": 2 * (n - 1) / n, "collective-permute": 1}.get(kind, (n - 1) / n)
            total[kind] = total.get(kind, 0.0) + sent * size * run.times
        return {kind: round(total[kind]) for kind in COLLECTIVES if kind in total}

    def memory_traffic(self) -> int:
        """Bytes that a device reads from its memory and writes to it."""
        return sum(
            run.times * self._moved(run)
            for run in self.runs()
            if not run.fused and run.instruction.opcode not in FREE and not run.instruction.opcode.endswith("-done")
        )

    def _runs(self, name: str, times: int, fused: bool) -> Iterator[Run]:
        for instruction in self.computations[name].values():
            yield Run(instruction, name, times, fused)
            called = dict(re.findall(r"(body|condition|calls|to_apply)=%?([\w.\-]+)", instruction.rest))
            if instruction.opcode == "while":
                yield from self._runs(called["body"], times * self._trips(instruction, called["condition"]), fused)
            elif instruction.opcode == "conditional":
                sides = re.search(r"branch_computations=\{([^}]*)\}", instruction.rest)
                names = sides[1] if sides else " ".join(re.findall(r"_computation=(%[\w.\-]+)", instruction.rest))
                for side in _NAME.findall(names):
                    yield from self._runs(side, times, fused)
            elif instruction.opcode == "call":
                yield from self._runs(called["to_apply"], times, fused)
            elif "calls" in called:
                yield from self._runs(called["calls"], times, True)

    def _trips(self, loop: Instruction, condition: str) -> int:
        """Rounds of a loop: as the compiler noted, else the constant that its counter from 0 is compared with, else
        1."""
        if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(known[1])
        inside = self.computations[condition]
        root = next(instruction for instruction in inside.values() if instruction.root)
        bounds = [inside[name] for name in root.operands if name in inside and inside[name].opcode == "constant"]
        if "direction=LT" in root.rest and len(bounds) == 1 and bounds[0].operands[0].isdigit():
            return int(bounds[0].operands[0])
        return 1

    def _group(self, rest: str) -> int:
        """Devices that take part in one collective."""
        if "replica_groups=mesh[" in rest:
            found = re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{('[^}]*)\}", rest)
            assert found, rest
            sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", found[1])}
            axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2])
            return math.prod(int(part) if part else sizes[axis] for axis, part in axes)
        if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
            return int(iota[1])
        if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
            return listed[1].count(",") + 1
        return self.devices

    def _operand(self, run: Run, name: str) -> str:
        """Type of an operand; "" for a literal."""
        inside = self.computations[run.computation]
        return inside[name].type if name in inside else ""

    def _moved(self, run: Run) -> int:
        instruction = run.instruction
        reads = [_bytes(self._operand(run, name), main=True) for name in instruction.operands]
        writes = _bytes(instruction.type, main=True)
        if instruction.opcode == "fusion":
            called = re.search(r"calls=%?([\w.\-]+)", instruction.rest)
            assert called, instruction
            inside = self.computations[called[1]]
            parameters = {int(i.operands[0]): i.name for i in inside.values() if i.opcode == "parameter"}
            reads = [min(size, _read(inside, parameters[index], size)) for index, size in enumerate(reads)]
            return sum(reads) + min(writes, _written(inside))
        if instruction.opcode in ("dynamic-slice", "slice", "gather"):
            return sum(reads[1:]) + 2 * writes
        if instruction.opcode == "dynamic-update-slice":
            return 2 * reads[1]
        if instruction.opcode.endswith("-start"):  # the result repeats the operand
            return sum(reads) + max(writes - sum(reads), 0)
        return sum(reads) + writes


def _instruction(root: bool, name: str, line: str) -> Instruction:
    """The part of a line behind "name = "."""
    end = _closing(line, 0) if line.startswith("(") else line.index(" ")
    opened = line.index("(", end)
    closed = _closing(line, opened)
    inside = line[opened + 1 : closed - 1]
    operands = tuple(_NAME.findall(inside)) or tuple(filter(None, (inside,)))  # a literal, a parameter's number, none
    return Instruction(name, line[:end], line[end:opened].strip(), operands, line[closed:], root)


def _closing(line: str, start: int) -> int:
    """The position behind the bracket that closes the one at `start`."""
    depth = 0
    for position in range(start, len(line)):
        depth += {"(": 1, ")": -1}.get(line[position], 0)
        if depth == 0:
            return position + 1
    raise ValueError(f"unbalanced brackets in {line[:80]!r}; give the text of a compiled program")


def _bytes(text: str, main: bool = False) -> int:
    """Bytes of all arrays in a type; with `main`, only of those that lie in a device's main memory."""
    bits = 0
    for kind, dimensions, layout in _ARRAY.findall(text):
        if main and re.search(r"S\([1-9]", layout):
            continue
        elements = math.prod(int(size.removeprefix("<=")) for size in dimensions.split(",") if size)
        bits += elements * _bits(kind)
    return -(-bits // 8)


def _bits(kind: str) -> int:
    """Bits of an element: bf16 16, s4 4, f8e4m3fn 8, c64 64."""
    if kind in BITS:
        return BITS[kind]
    width = re.match(r"[a-z]+(\d+)", kind)
    return int(width[1]) if width else 0


def _read(inside: dict[str, Instruction], name: str, whole: int) -> int:
    """Bytes that a kernel reads of its operand `name`: of slices alone where nothing else uses it, else `whole`."""
    total = 0
    for user in inside.values():
        if name not in user.operands:
            continue
        if user.opcode == "bitcast":
            total += _read(inside, user.name, whole)
        elif user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == name:
            total += _bytes(user.type)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            total += _bytes(inside[user.operands[1]].type)
        else:
            return whole
    return total


def _written(inside: dict[str, Instruction]) -> int:
    """Bytes that a kernel writes: of updates alone where its results are updates in place."""

    def written(name: str) -> int:
        instruction = inside[name]
        if instruction.opcode == "bitcast":
            return written(instruction.operands[0])
        if instruction.opcode == "tuple":
            return sum(written(part) for part in instruction.operands)
        if instruction.opcode == "dynamic-update-slice":
            return _bytes(inside[instruction.operands[1]].type)
        return _bytes(instruction.type)

    return written(next(instruction.name for instruction in inside.values() if instruction.root))
