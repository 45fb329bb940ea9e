"""Safetensors files, releases and runs: headers that lie, sizes beyond counting, configs of other models."""

import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hostile.case import Box, Case, damaged, door, number, pick, text
from vasa_jax.checkpoint import MANIFEST, read_tensor_file, write_manifest
from vasa_jax.convert.__main__ import main as convert
from vasa_jax.doors.evaluate import open_source
from vasa_jax.errors import UserError
from vasa_jax.inference.load import load

DTYPES = ("F32", "F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "f32", "", "object", None, 7)


def header(entries: Any, body: bytes, length: int | None = None) -> bytes:
    """A file of the format."""
    data = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + body


def safetensors(rng: np.random.Generator) -> tuple[bytes, str]:
    """A file that somebody put together by hand."""
    good = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    body = rng.bytes(24)
    way = pick(
        rng, ("good", "length", "overlap", "gap", "twice", "shape", "dtype", "offsets", "deep", "names", "many", "json")
    )
    if way == "good":
        return header({"a": good}, body), "two by three"
    if way == "length":
        return header({"a": good}, body, number(rng) % 2**64), "a header of another length"
    if way == "overlap":
        other = good | {"data_offsets": [int(rng.integers(0, 24)), 24 + int(rng.integers(-3, 3))]}
        return header({"a": good, "b": other}, body), "tensors over each other"
    if way == "gap":
        return header({"a": good | {"data_offsets": [8, 32]}}, body + bytes(8)), "a gap"
    if way == "twice":
        entry = json.dumps(good)
        return header(f'{{"a": {entry}, "a": {entry}}}'.encode(), body), "a name that comes twice"
    if way == "shape":
        shape = [pick(rng, (number(rng), -1, 0, 1.5, "2", None, True, [2])) for _ in range(int(rng.integers(0, 70)))]
        return header({"a": good | {"shape": shape}}, body), f"shape {str(shape)[:80]}"
    if way == "dtype":
        return header({"a": good | {"dtype": (kind := pick(rng, DTYPES))}}, body), f"dtype {kind!r}"
    if way == "offsets":
        offsets = [pick(rng, (number(rng), -8, 1.0, None, "0")) for _ in range(int(rng.integers(0, 4)))]
        return header({"a": good | {"data_offsets": offsets}}, body), f"offsets {offsets}"
    if way == "deep":
        depth = int(pick(rng, (100, 5000, 200_000)))
        return header(b'{"a":' * depth + b"1" + b"}" * depth, body), f"JSON {depth} deep"
    if way == "names":
        return header({text(rng).encode("utf-8", "replace").decode(): good}, body), "an odd name"
    if way == "many":
        empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        return header({f"t{i}": empty for i in range(50_000)}, b""), "fifty thousand tensors"
    return header(
        pick(rng, (b"[]", b"null", b"", b"{", b"\xff" * 8, b'{"a": 1e999}', b'{"a": NaN}', b"9" * 6000)), body
    ), "no table"


def safetensors_case(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A checkpoint to be converted, or a file of a release."""
    if rng.random() < 0.4:
        data, what = (seeds / "stitching.safetensors").read_bytes(), "a sound checkpoint"
    else:
        data, what = safetensors(rng)
    if rng.random() < 0.5:
        data, how = damaged(rng, data)
        what = f"{what}, {how}"
    path = box.write(pick(rng, ("model.safetensors", "model.bin", "model.safetensors")), data)
    if rng.random() < 0.4:
        return Case(what, door("infer", lambda: read_tensor_file(path)), named=path.name)
    out = box.output / "out.safetensors"
    arguments = ["liveportrait.stitching", str(path), str(out)]
    more = pick(rng, ((), ("--to-torch",)))
    command = ("-m", "vasa_jax.convert", *arguments, *more)
    return Case(what, lambda: convert([*arguments, *more]), command=command, named=path.name)


def twisted(rng: np.random.Generator, value: Any) -> Any:
    """A JSON value with one part replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = pick(rng, tuple(value))
        way = rng.random()
        if way < 0.1:
            return {key: part for key, part in value.items() if key != name}
        if way < 0.15:
            return value | {text(rng).encode("utf-8", "replace").decode(): 1}
        return value | {name: twisted(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(len(value)))
        return [*value[:at], twisted(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, int | float) and rng.random() < 0.6:
        return pick(rng, (value + 1, 2 * value, value // 2, -value, 0, value + 0.5, str(value), 10**6))
    odd = (
        None,
        True,
        -1,
        0,
        1,
        3,
        10**6,
        10**12,
        10**30,
        0.5,
        math.inf,
        math.nan,
        "",
        "demo",
        "../x",
        [],
        [1, 2],
        {},
        {"a": {}},
    )
    return pick(rng, odd)


def release(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A model to be loaded."""
    folder = box.input / "model"
    shutil.copytree(seeds / "release", folder)
    way = pick(rng, ("config", "config", "config", "config", "file", "file", "tensor", "manifest", "missing", "text"))
    what = way
    name = pick(rng, tuple(sorted(path.name for path in folder.iterdir())))
    if way == "config":
        config = json.loads((folder / "config.json").read_text())
        for _ in range(int(rng.integers(1, 3))):
            config = (
                twisted(rng, config) if rng.random() < 0.2 or not isinstance(config, dict) else _inside(rng, config)
            )
        (folder / "config.json").write_text(json.dumps(config))
    elif way == "file":
        data, how = damaged(rng, (folder / name).read_bytes())
        (folder / name).write_bytes(data)
        what = f"{name}, {how}"
    elif way == "tensor":
        data, how = safetensors(rng)
        name = pick(rng, ("autoencoder", "motion", "statistics"))
        (folder / f"{name}.safetensors").write_bytes(data)
        what = f"{name}: {how}"
    elif way == "manifest":
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["sha256"][pick(rng, ("../../../etc/passwd", "/etc/passwd", "config.json", "a\0b", ""))] = "0" * 64
        (folder / MANIFEST).write_text(json.dumps(twisted(rng, manifest)))
    elif way == "missing":
        (folder / name).unlink()
        what = f"without {name}"
    else:
        deep = "[" * 200_000
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
        long = '{"format": ' + "9" * 5000 + "}"
        (folder / name).write_text(pick(rng, ("", "null", "[]", pointer, "9" * 5000, long, deep, "\ufeff{}")))
        what = f"another text as {name}"
    if way != "manifest" and name != MANIFEST and rng.random() < 0.7:
        try:
            write_manifest(folder)  # whoever changes a release can do so
        except (UserError, OSError, ValueError, TypeError, KeyError, RecursionError, AttributeError):
            pass

    def read() -> None:
        model = load(folder)
        assert model.size > 0

    flags = (
        "infer.py",
        "--image",
        "PHOTO",
        "--audio",
        "SOUND",
        "--model",
        str(folder),
        "--out",
        str(box.output / "a.mp4"),
    )
    return Case(what, door("infer", read), command=flags, named="")


def _inside(rng: np.random.Generator, config: dict[str, Any]) -> dict[str, Any]:
    part = pick(rng, ("autoencoder", "autoencoder", "motion", "motion", "tensors"))
    return config | {part: twisted(rng, config.get(part))}


def run(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A run to be judged."""
    folder = box.input / "run"
    shutil.copytree(seeds / "run", folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = pick(rng, files)
    way = pick(rng, ("damage", "damage", "remove", "config", "json", "folder"))
    what = f"{way} of {path.relative_to(folder)}"
    if way == "damage":
        data, how = damaged(rng, path.read_bytes())
        path.write_bytes(data)
        what = f"{what}, {how}"
    elif way == "remove":
        path.unlink()
    elif way == "config":
        path = next(folder.rglob("config/metadata"))
        config = json.loads(path.read_text())
        for _ in range(int(rng.integers(1, 4))):
            config = twisted(rng, config)
        path.write_text(json.dumps(config))
        what = "another config"
    elif way == "json":
        path = pick(
            rng, [file for file in files if file.name in ("_METADATA", "_sharding", "_CHECKPOINT_METADATA", "metadata")]
        )
        path.write_text(json.dumps(twisted(rng, twisted(rng, json.loads(path.read_text())))))
        what = f"another {path.name}"
    else:
        step = next((folder / "checkpoints").iterdir())
        step.rename(
            step.with_name(pick(rng, ("-1", "0", "99999999999999999999", "1e3", "٣", "5.orbax-checkpoint-tmp")))
        )
        what = "a step of another name"
    return Case(what, door("evaluate", lambda: open_source(str(folder))), named="")
