"""What a case is, and the damage that any file can take."""

import functools
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vasa_jax import command

T = TypeVar("T")
CANARY = "canary"
"""A file in the box that appears where a case's own code was run."""


class Box(NamedTuple):
    """The folders of one case: what is read, what may be written, and where the process lives."""

    root: Path

    @property
    def input(self) -> Path:
        """For the case's own files."""
        return self.root / "in"

    @property
    def output(self) -> Path:
        """For what the door writes."""
        return self.root / "out"

    @property
    def canary(self) -> Path:
        """What code in a case touches."""
        return self.root / CANARY

    def write(self, name: str, data: bytes) -> Path:
        """A file of the case."""
        path = self.input / name
        path.write_bytes(data)
        return path


class Case(NamedTuple):
    """One input and the door that it goes through.

    what: in words. work: the door, which returns its exit code. codes: those of a valid result. command: the same
    through the real command, as arguments of Python; empty where there is none. named: what a refusal must name. stays:
    files in the box that may be new or changed after a refusal, too.
    """

    what: str
    work: Callable[[], int]
    codes: tuple[int, ...] = (0,)
    command: tuple[str, ...] = ()
    named: str = ""
    stays: tuple[str, ...] = ()


Kind = Callable[[np.random.Generator, Path, Box], Case]


def door(name: str, work: Callable[[], Any]) -> Callable[[], int]:
    """A stage of a command, as the command runs it."""

    def lines() -> Iterable[str]:
        work()
        yield "done"

    return lambda: command.run(name, lines)


def infer(flag: str, path: Path, box: Box) -> tuple[str, ...]:
    """The whole command that makes a video of a file given by a flag."""
    out = str(box.output / "a.mp4")
    return ("infer.py", "--image", "PHOTO", flag, str(path), "--model", "MODEL", "--out", out)


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of them."""
    return choices[int(rng.integers(len(choices)))]


def number(rng: np.random.Generator) -> int:
    """A number that programs stumble over."""
    edges = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
    return pick(rng, edges) if rng.random() < 0.8 else int(rng.integers(0, 2**63))


def damaged(rng: np.random.Generator, data: bytes, most: int = 4) -> tuple[bytes, str]:
    """Bytes with some damage, and what was done to them."""
    done = []
    for _ in range(int(rng.integers(1, most + 1))):
        size = len(data)
        # half of the damage lies where headers are
        at = int(rng.integers(0, max(1, min(size, 200) if rng.random() < 0.5 else size)))
        length = int(rng.integers(1, 17))
        way = pick(rng, ("flip", "cut", "number", "repeat", "remove", "zeros", "noise", "insert"))
        if way == "flip":
            data = data[:at] + bytes(byte ^ 1 << int(rng.integers(8)) for byte in data[at : at + 1]) + data[at + 1 :]
        elif way == "cut":
            data = data[:at]
        elif way == "number":
            form = pick(rng, ("<H", ">H", "<I", ">I", "<Q", ">Q"))
            bits = 8 * struct.calcsize(form)
            put = struct.pack(form, number(rng) % 2**bits)
            data = data[:at] + put + data[at + len(put) :]
        elif way == "repeat":
            data = data[:at] + data[at : at + 16 * length] * int(rng.integers(2, 20)) + data[at:]
        elif way == "remove":
            data = data[:at] + data[at + length :]
        elif way == "zeros":
            data = data[:at] + bytes(length) + data[at + length :]
        elif way == "noise":
            data = data[:at] + rng.bytes(length) + data[at + length :]
        else:
            data = data[:at] + rng.bytes(length) + data[at:]
        done.append(f"{way} at {at}")
    return data, ", ".join(done)


@functools.cache
def zeros(count: int) -> bytes:
    """So many zeros as raw deflate, in no time: the same block again and again."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(1 << 22)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, wbits=-15)
    return block * (count >> 22) + rest.compress(bytes(count % (1 << 22))) + rest.flush()


def zipped(entries: Sequence[tuple[str, bytes, int]]) -> bytes:
    """A zip archive of deflated entries by name, with the length that each says to have; no sum is right."""
    body, places = b"", b""
    for name, data, count in entries:
        head = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(data), count, len(name), 0)
        places += b"PK\x01\x02\x14\0" + head + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + head + name.encode() + data
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(places), len(body), 0)
    return body + places + b"PK\x05\x06" + end


def deflated(data: bytes) -> bytes:
    """Raw deflate."""
    packer = zlib.compressobj(6, wbits=-15)
    return packer.compress(data) + packer.flush()


def text(rng: np.random.Generator) -> str:
    """A text that programs stumble over."""
    return pick(
        rng,
        (
            *("", " ", "\0", "\n", "\x1b[2J\x1b]0;title\a", "\u202egnp.exe", "\ufeff", "ﾠ", "ß" * 300, "A" * 100_000),
            *("nan", "inf", "-inf", "1e999", "-0", "0x10", "1_000", "٣", "½", "1e-400", "9" * 5000, "--", "--help"),
            *("../../../etc/passwd", "/dev/zero", "/dev/stdin", "-", "~", "$HOME", "`id`", "%s%n", "{0}", "{self}"),
            *("file:///etc/passwd", "http://127.0.0.1:9/x", "\\\\host\\share", "CON", "null", "[]", "true", "\ud800"),
        ),
    )
