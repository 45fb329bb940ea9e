"""What people and programs write: controls, lists of jobs, stored motion, configs in Python and JSON."""

import csv
import io
import json
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.hostile import pickles
from benchmarks.hostile.case import Box, Case, damaged, door, infer, number, pick, text, zeros, zipped
from benchmarks.hostile.weights import twisted
from vasa_jax.arrays import Motion
from vasa_jax.convert.__main__ import main as convert
from vasa_jax.doors import train
from vasa_jax.doors.infer import _check_paths, _driver, check_wishes, parse, wishes_of
from vasa_jax.doors.jobs import do_jobs
from vasa_jax.inference.driving import read_driver

SHAPES = Motion(pose=(6,), dynamics=(5,))
CONTROLS = {
    "gaze": ("left", "10,-5", "61,0", "nan,0", "1,2,3", "0,inf", "(1,2)", "left,"),
    "distance": ("1", "0.25", "0", "-1", "nan", "inf", "1e400"),
    "emotion": ("happy", "happiness:0.6", "sad:", "sad:nan", ":1", "happy:2", "happy:0.5:0.5"),
    "amplitude": ("1", "nan", "-1", "inf"),
    "head": ("1", "1e30"),
    "mouth": ("0", "-0.1"),
    "blink": ("4", "4.1"),
    "position": ("0.1,0.2", "1", "nan,nan", "2,0", "a,b"),
    "zoom": ("1", "0", "inf"),
    "steps": ("1", "0", "-1", "1.5", "9" * 4000, "1000000000"),
    "sampler": ("ddim", "dpm++", "euler"),
    "guidance_audio": ("1", "nan"),
    "hop": ("1", "0", "-5", "1000000000"),
    "look_ahead": ("0", "-1"),
    "seed": ("0", "-1", str(2**32), str(2**64)),
    "size": ("64", "0", "15", "4097", "-1", "1" * 100),
    "face": ("1", "0", "1,2", "nan,1", "2.5"),
    "box": ("0,0,40", "0,0,40,90", "0,0,nan", "0,0,1", "1e308,1e308,1e308", "-1e9,0,40"),
    "fit": ("0", "-1", "10"),
}


def checked(options: Any) -> str:
    """What the command does with flags before it opens a model."""
    wishes = wishes_of(options)
    check_wishes(wishes)
    if options.out and options.image:
        _check_paths(options)
    return "done"


def controls(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """Flags of what is asked of a face."""
    flags = []
    for name in rng.choice(tuple(CONTROLS), int(rng.integers(1, 4)), replace=False):
        value = pick(rng, CONTROLS[name]) if rng.random() < 0.6 else text(rng)
        flags += [f"--{str(name).replace('_', '-')}", value]
    more = [
        "--image",
        str(seeds / "photo.png"),
        "--audio",
        str(seeds / "sound.wav"),
        "--out",
        str(box.output / "a.mp4"),
    ]
    plain = [flag.encode("utf-8", "surrogateescape" if flag == "\udcff" else "replace").decode() for flag in flags]
    usable = not any("\0" in flag or len(flag) > 50_000 for flag in plain)
    command = ("infer.py", *more, "--model", "MODEL", *plain) if usable else ()
    work = door("infer", lambda: checked(parse([*more, *flags])))
    return Case(" ".join(flag[:30] for flag in flags), work, command=command)


def jobs(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A list of jobs."""
    names = ["image", "audio", "out", *rng.choice(tuple(CONTROLS), 2, replace=False)]
    rows: list[list[str]] = [[str(name) for name in names]]
    for i in range(int(rng.integers(0, 5))):
        out = str(box.output / f"{i}.mp4") if rng.random() < 0.9 else text(rng)
        rest = [pick(rng, CONTROLS[str(name)][:2]) if rng.random() < 0.8 else text(rng) for name in names[3:]]
        rows.append([str(seeds / "photo.png"), str(seeds / "sound.wav"), out, *rest])
    if rng.random() < 0.3:
        rows[0][int(rng.integers(5))] = pick(
            rng, (text(rng), "jobs", "platform", "--image", "help", "out", "sign-with", "stream")
        )
    file = io.StringIO()
    csv.writer(file, delimiter=pick(rng, ",,,,,,,;\t")).writerows(rows)
    data, what = file.getvalue().encode(pick(rng, ("utf-8",) * 6 + ("utf-16", "cp037")), "replace"), "a list"
    if rng.random() < 0.3:
        data, what = damaged(rng, data)
    if rng.random() < 0.1:
        data, what = (
            pick(rng, (b'"' * 300_000, b"out\n" + b"a" * 200_000, b"out,out\n", b"\0\n\0", b"out\n" * 20_000)),
            "made",
        )
    path = box.write("jobs.csv", data)

    def work() -> None:
        for _ in do_jobs(str(path), ["--jobs", str(path)], lambda row: checked(parse(row))):
            pass

    return Case(
        what, door("infer", work), command=("infer.py", "--jobs", str(path), "--model", "MODEL"), named=path.name
    )


def npy(head: str, body: bytes) -> bytes:
    """An array as NumPy stores it."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode("latin1", "replace") + body


def stored_motion(rng: np.random.Generator, canary: Path) -> tuple[bytes, str]:
    """A stored motion that somebody put together by hand."""
    file, t = io.BytesIO(), int(rng.integers(0, 5))
    arrays: dict[str, Any] = {
        "pose": rng.normal(size=(t, 6)),
        "dynamics": rng.normal(size=(t, 5)),
        "kind": "vasa",
        "fps": 25,
    }
    way = pick(rng, ("good", "array", "missing", "value", "header", "object", "bomb", "twice", "names", "claim"))
    if way == "array":
        name = pick(rng, tuple(arrays))
        arrays[name] = pick(
            rng, (np.zeros((3, 4, 5)), np.array(1 + 2j), np.array("x" * 1000), np.zeros(0), np.array([25, 25]))
        )
    elif way == "missing":
        del arrays[pick(rng, tuple(arrays))]
    elif way == "value":
        arrays["pose"] = np.full((3, 6), pick(rng, (np.nan, np.inf, 1e300)))
        arrays["dynamics"] = np.zeros((3, 5))
    np.savez(file, **arrays)
    if way in ("good", "array", "missing", "value"):
        return file.getvalue(), way
    attack, _ = pickles.attack(rng, canary)
    name = pick(rng, tuple(arrays))
    heads = {
        "header": pick(
            rng, ("{}", "[" * 5000, "{'descr': __import__('os').system('true')}", "{'shape': 9**9**9}", "\x00" * 100)
        ),
        "object": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
        "claim": f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({number(rng)}, 6), }}\n",
        "twice": "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 6), }\n",
        "names": "{'descr': [('a', '<f8'), ('a', 'O')], 'fortran_order': True, 'shape': (), }\n",
    }
    head = heads.get(way, "")
    if way == "bomb":
        start = npy("{'descr': '|b1', 'fortran_order': False, 'shape': (3000000000,), }\n", b"")
        packer = zlib.compressobj(6, wbits=-15)
        begin = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
        entries = [(f"{name}.npy", begin + zeros(3_000_000_000), 3_000_000_000 + len(start)) for name in arrays]
        return zipped(entries), way
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, array in arrays.items():
            if part != name:
                buffer = io.BytesIO()
                np.save(buffer, np.asarray(array))
                archive.writestr(f"{part}.npy", buffer.getvalue())
        archive.writestr(f"{name}.npy", npy(head, attack if way == "object" else b""))
        if way == "twice":
            archive.writestr("../../out/escaped.npy", npy(head, bytes(48)))
    return file.getvalue(), f"{way} of {name}"


def liveportrait_motion(rng: np.random.Generator) -> tuple[bytes, str]:
    """LivePortrait's motion, with one part replaced."""
    frame = {"R": np.eye(3)[None], "exp": np.zeros((1, 21, 3)), "scale": np.ones((1, 1)), "t": np.zeros((1, 3))}
    content: Any = {"n_frames": 2, "output_fps": 25, "motion": [dict(frame), dict(frame)]}
    content |= {"c_eyes_lst": [np.zeros((1, 2))] * 2, "c_lip_lst": [np.zeros((1, 1))] * 2}
    odd = (
        None,
        -1,
        0,
        1e300,
        np.nan,
        np.inf,
        "25",
        [],
        {},
        "x",
        [None],
        np.zeros(3),
        np.array("a"),
        [[1], [2, 3]],
        True,
        2**70,
    )
    what = "as it should be"
    for _ in range(int(rng.integers(0, 3))):
        value, name = pick(rng, odd), pick(rng, tuple(content))
        if name == "motion" and rng.random() < 0.7:
            name = pick(rng, tuple(frame))
            content["motion"][0][name] = value
        else:
            content[name] = value
            if name == "motion":
                break
        what = f"{name} is {str(value)[:40]}"
    import pickle

    return pickle.dumps(content, 2), what


def motion(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """Motion that drives."""
    if rng.random() < 0.6:
        data, what = stored_motion(rng, box.canary)
        name = "motion.npz"
    elif rng.random() < 0.7:
        data, what = liveportrait_motion(rng)
        name = "motion.pkl"
    else:
        data, what = pickles.attack(rng, box.canary)
        name = "motion.pkl"
    if rng.random() < 0.3:
        data, how = damaged(rng, data)
        what = f"{what}, {how}"
    path = box.write(name, data)
    pair: Any = SimpleNamespace(kind="vasa", shapes=SHAPES, follow=lambda driver, pose: driver.motion)
    work = door("infer", lambda: read_driver(pair, _driver(str(path))))
    return Case(what, work, command=infer("--driving", path, box), named=path.name)


def config(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A config: a Python file to train with, or a release's JSON to convert with."""
    if rng.random() < 0.3:
        bodies = (
            *("", "x = 1\n", "get_config = 3\n", "def get_config():\n    return {}\n", "def get_config(:\n", "\0"),
            *(
                "def get_config():\n    return get_config\n",
                "# coding: klingon\n",
                "(" * 5000,
                "def get_config(a): return a\n",
            ),
            *(
                "get_config = dict\n",
                "get_config = lambda: type\n",
                "def get_config():\nreturn 1\n",
                "\t x\n  y\n",
                "1" * 6000,
            ),
        )
        data, what = pick(rng, bodies).encode(pick(rng, ("utf-8", "utf-16", "latin1")), "replace"), "Python"
        path = box.write(pick(rng, ("config.py", "config.txt", "a b.py")), data)

        def work() -> None:
            train.parse([str(path), "--workdir", str(box.output / "run")])

        command = ("train.py", str(path), "--workdir", str(box.output / "run"))
        return Case(f"{what}: {data[:40]!r}", door("train", work), command=command, named=path.name)
    content = json.loads((seeds / "release" / "config.json").read_text())
    if rng.random() < 0.8:
        for _ in range(int(rng.integers(1, 4))):
            part = pick(rng, ("autoencoder", "motion"))
            content = content | {part: twisted(rng, content.get(part))}
        data, what = json.dumps(content).encode(), "JSON with other values"
    else:
        odd = (
            b"",
            b"[" * 200_000,
            b'{"motion": ' + b"9" * 6000 + b"}",
            b"\xff\xfe",
            b'{"motion": NaN}',
            b'{"motion": [1e999]}',
        )
        data, what = pick(rng, odd), "JSON"
    if rng.random() < 0.3:
        data, what = damaged(rng, data)
    path, name = box.write("config.json", data), pick(rng, ("autoencoder", "motion"))
    source = box.input / "model.safetensors"
    shutil.copy(seeds / "release" / f"{name}.safetensors", source)
    arguments = [f"vasa.{name}", str(source), str(box.output / "out.safetensors"), "--config", str(path)]
    arguments += pick(rng, ([], ["--to-torch"]))
    return Case(what, lambda: convert(arguments), command=("-m", "vasa_jax.convert", *arguments))
