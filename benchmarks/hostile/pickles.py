"""Pickles in the three containers of torch: known ways to run code, to fill memory, and to climb out of a table."""

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from benchmarks.hostile.case import Box, Case, damaged, deflated, door, number, pick, zeros, zipped
from vasa_jax.convert.__main__ import main
from vasa_jax.convert.torch_file import read_torch_file

CODE = (
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "compile"),
    ("builtins", "__import__"),
    ("builtins", "getattr"),
    ("builtins", "open"),
    ("__builtin__", "eval"),
    ("runpy", "_run_code"),
    ("pty", "spawn"),
    ("code", "interact"),
    ("webbrowser", "open"),
    ("importlib", "import_module"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("functools", "partial"),
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("ctypes", "CDLL"),
    ("numpy", "load"),
    ("numpy", "fromfile"),
    ("numpy.testing._private.utils", "runstring"),
    ("numpy.f2py.crackfortran", "getlincoef"),
    ("numpy.lib.npyio", "DataSource"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.serialization", "load"),
    ("torch.jit", "load"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ("torch.storage", "_load_from_bytes"),
    ("torch.utils._config_module", "ConfigModule.load_config"),
    ("pickle", "loads"),
    ("_pickle", "loads"),
    ("cloudpickle", "loads"),
    ("joblib", "load"),
    ("pathlib", "Path.write_text"),
    ("shutil", "rmtree"),
    ("bdb", "Bdb"),
    ("timeit", "timeit"),
    ("cProfile", "run"),
    ("pydoc", "pipepager"),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start"),
    ("collections", "OrderedDict.__init__.__globals__"),
    ("collections", "namedtuple"),
    ("torch", "Size.__class__"),
    ("argparse", "Namespace.__init__"),
    ("argparse", "FileType"),
    ("_codecs", "lookup"),
    ("__main__", "main"),
    ("vasa_jax.convert.torch_file", "read_torch_file"),
)
"""Names by which pickles have been seen, or could be thought, to run code."""
PARTS = (
    *((b"ccollections\nOrderedDict\n", "OrderedDict"), (b"cargparse\nNamespace\n", "Namespace")),
    *((b"ctorch\nSize\n", "Size"), (b"ctorch\nFloatStorage\n", "FloatStorage"), (b"cnumpy\ndtype\n", "dtype")),
    *((b"cnumpy.core.multiarray\n_reconstruct\n", "_reconstruct"), (b"c_codecs\nencode\n", "encode")),
    *((b"ctorch._utils\n_rebuild_tensor_v2\n", "_rebuild_tensor_v2"), (b"cbuiltins\nset\n", "set")),
    *((b"ctorch._tensor\n_rebuild_from_type_v2\n", "_rebuild_from_type_v2"), (b"cpathlib\nPosixPath\n", "PosixPath")),
    *((b"ctorch.nn.parameter\nParameter\n", "Parameter"), (b"cnumpy.core.multiarray\nscalar\n", "scalar")),
    *((b"cnumpy.core.numeric\n_frombuffer\n", "_frombuffer"), (b"ccollections\nCounter\n", "Counter")),
)
"""Names that files may use, to be used as nobody does."""


def unicode(value: str) -> bytes:
    """A text on the stack."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def value(rng: np.random.Generator, depth: int = 0) -> bytes:
    """Something on the stack."""
    way = int(rng.integers(0, 12 if depth < 4 else 8))
    if way == 0:
        return b"N"
    if way == 1:
        return b"\x88"
    if way == 2:
        return b"\x8a\x09" + struct.pack("<Q", number(rng) % 2**64) + b"\0"
    if way == 3:
        return b"G" + struct.pack(">d", pick(rng, (0.0, np.nan, np.inf, -1.0, 1e308)))
    if way == 4:
        return unicode(
            pick(rng, ("", "f4", "O", "<f4", "V1000000000", "S1000000000", "latin1", "idna", "__class__", "0"))
        )
    if way == 5:
        return b"B" + struct.pack("<I", 8) + rng.bytes(8)
    if way == 6:
        return pick(rng, PARTS)[0]
    if way == 7:
        return b"]" if rng.random() < 0.5 else b"}"
    parts = b"".join(value(rng, depth + 1) for _ in range(int(rng.integers(0, 6))))
    if way == 8:
        return b"(" + parts + b"t"
    if way == 9:
        return b"(" + parts + b"l"
    if way == 10:
        return pick(rng, PARTS)[0] + b"(" + parts + b"tR"
    return value(rng, depth + 1) + value(rng, depth + 1) + b"b"  # BUILD


def call(module: str, name: str, command: str, stacked: bool) -> bytes:
    """A call of a name with a command."""
    named = unicode(module) + unicode(name) + b"\x93" if stacked else f"c{module}\n{name}\n".encode()
    return named + b"(" + unicode(command) + b"tR"


def attack(rng: np.random.Generator, canary: Path) -> tuple[bytes, str]:
    """A pickle that tries to leave a file behind."""
    module, name = pick(rng, CODE)
    shell = f"touch {canary}"
    python = f"open({str(canary)!r}, 'w').close()"
    command = python if name in ("eval", "exec", "compile", "runstring", "timeit", "run", "_run_code") else shell
    way = pick(
        rng, ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "BUILD", "PERSID", "memo", "EXT", "reduce twice")
    )
    if way in ("GLOBAL", "STACK_GLOBAL"):
        body = call(module, name, command, way == "STACK_GLOBAL")
    elif way == "INST":
        body = b"(" + unicode(command) + f"i{module}\n{name}\n".encode()
    elif way == "OBJ":
        body = b"(" + f"c{module}\n{name}\n".encode() + unicode(command) + b"o"
    elif way == "NEWOBJ":
        body = f"c{module}\n{name}\n".encode() + b"(" + unicode(command) + b"t\x81"
    elif way == "BUILD":
        state = b"}" + unicode("__setstate__") + f"c{module}\n{name}\n".encode() + b"s"
        body = pick(rng, PARTS)[0] + b")R" + state + b"b" + unicode(command) + b"b"
    elif way == "PERSID":
        body = (
            b"(" + unicode("storage") + call(module, name, command, False) + unicode("0") + unicode("cpu") + b"K\x04tQ"
        )
    elif way == "memo":
        body = unicode(module) + b"q\x000" + unicode(name) + b"q\x010" + b"h\0h\x01\x93(" + unicode(command) + b"tR"
    elif way == "EXT":
        body = b"\x82\x01(" + unicode(command) + b"tR"
    else:
        body = f"c{module}\n{name}\n".encode() + b"(" + call(module, name, command, True) + b"tR"
    return b"\x80\x04" + body + b".", f"{module}.{name} by {way}"


def greedy(rng: np.random.Generator) -> tuple[bytes, str]:
    """A small pickle that wants much."""
    way = pick(
        rng,
        (
            "long",
            "laughs",
            "deep",
            "memo",
            "shape",
            "bytes",
            "string",
            "frame",
            "self",
            "zeros",
            "mul",
            "again",
            "views",
        ),
    )
    if way == "long":
        return b"\x80\x02\x8b\x00\x00\x00\x7f" + b"\x01" * 100 + b".", "an integer of 2 GB"
    if way == "laughs":
        body = b"]q\0" + b"".join(
            b"(" + b"h" + bytes([i]) + (b"h" + bytes([i])) * 9 + b"lq" + bytes([i + 1]) for i in range(12)
        )
        return b"\x80\x02" + body + b".", "lists of lists, a million million long"
    if way == "deep":
        return b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".", "tuples, a hundred thousand deep"
    if way == "memo":
        return b"\x80\x02}r\xff\xff\xff\x7f.", "a memo of two thousand million"
    if way == "shape":
        view = b"ctorch._utils\n_rebuild_tensor_v2\n((" + unicode("storage") + b"ctorch\nFloatStorage\n" + unicode("0")
        view += (
            unicode("cpu")
            + b"K\x04tQK\0(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftp0\n(K\0K\0t\x89ccollections\nOrderedDict\n)RtR"
        )
        return b"\x80\x02" + view + b".", "a tensor of 2^62 numbers with strides of 0"
    if way == "bytes":
        return b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.", "a million million bytes"
    if way == "string":
        return b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"abc.", "a text of 4 GB"
    if way == "frame":
        return b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.", "a frame of 2^62 bytes"
    if way == "self":
        return b"\x80\x02]q\0h\0a.", "a list of itself"
    if way == "zeros":
        dtype = b"cnumpy\ndtype\n(" + unicode("f8") + b"K\0K\x01tR"
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\x01btR"
        state = b"(K\x01(J\xff\xff\xff\x7ft" + dtype + b"\x89C\x08" + bytes(8) + b"t"
        return b"\x80\x03" + array + state + b"b.", "an array of two thousand million numbers out of 8 bytes"
    if way == "again":
        dtype = b"cnumpy\ndtype\n(" + unicode("u1") + b"K\0K\x01tRp1\n0"
        state = (
            dtype
            + b"(K\x01(J"
            + struct.pack("<i", 1 << 22)
            + b"tg1\n\x89B"
            + struct.pack("<I", 1 << 22)
            + bytes(1 << 22)
        )
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\x01btR"
        return b"\x80\x03" + state + b"tp2\n0(" + (array + b"g2\nb") * 1000 + b"l.", "4 MB of numbers, a thousand times"
    if way == "views":
        pid = b"(" + unicode("storage") + b"ctorch\nFloatStorage\n" + unicode("0") + unicode("cpu") + b"K\x04tQp3\n0"
        view = b"ctorch._utils\n_rebuild_tensor_v2\n(g3\nK\0(M\0\x01t(K\0t\x89}tR"
        return b"\x80\x02" + pid + b"(" + view * 50_000 + b"l.", "fifty thousand views of four numbers"
    numbers = b"(" + b"".join(b"J" + struct.pack("<i", 2**31 - 1) for _ in range(3)) + b"t"
    return b"\x80\x02ctorch\nSize\n" + numbers + b"R.", "sizes beyond counting"


def stored(rng: np.random.Generator, body: bytes, bomb: bool) -> tuple[bytes, str]:
    """A pickle in one of the containers."""
    way = "bomb" if bomb else pick(rng, ("plain", "zip", "zip", "zip", "legacy", "tar", "nested", "bomb", "gzip"))
    if way == "plain":
        return body, way
    if way == "legacy":
        head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
        return head + body + pickle.dumps(["0"], 2) + struct.pack("<q", number(rng) % 2**63) + bytes(16), way
    if way == "tar":
        import tarfile

        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in ("sys_info", "pickle", "storages", "tensors", "../../out/escaped"):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
        return file.getvalue(), way
    if way == "gzip":
        return zlib.compress(body, wbits=31), way
    if way == "bomb":
        return zipped(
            [("m/data.pkl", deflated(body), len(body)), ("m/data/0", zeros(3_000_000_000), 3_000_000_000)]
        ), way
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        root = "model" if rng.random() < 0.8 else pick(rng, ("../../out", "/tmp/x", "a"))
        if way == "nested":
            inner = io.BytesIO()
            with zipfile.ZipFile(inner, "w") as second:
                second.writestr("model/data.pkl", body)
            archive.writestr("model/data.pkl", inner.getvalue())
        else:
            archive.writestr(f"{root}/data.pkl", body)
            archive.writestr(
                f"{root}/byteorder", b"little" if rng.random() < 0.8 else pick(rng, (b"big", b"\xff\xfe", b"middle"))
            )
            archive.writestr(f"{root}/data/0", bytes(16))
    return file.getvalue(), way


def honest(rng: np.random.Generator) -> tuple[bytes, str]:
    """Tensors by name."""
    arrays = {f"layer.{i}": rng.normal(size=(2, 3)).astype(pick(rng, ("f4", "f8", "i8"))) for i in range(3)}
    return pickle.dumps(arrays, int(rng.integers(0, 6))), "arrays by name"


def tensors(rng: np.random.Generator) -> tuple[bytes, str]:
    """A tensor of torch with numbers of any size for its view."""
    sizes = [number(rng) % 2**63 if rng.random() < 0.5 else int(rng.integers(0, 5)) for _ in range(5)]
    ints = [b"\x8a\x08" + struct.pack("<q", size) for size in sizes]
    kind = pick(
        rng, (b"FloatStorage", b"BoolStorage", b"UntypedStorage", b"ComplexFloatStorage", b"float32", b"Tensor")
    )
    pid = b"(" + unicode("storage") + b"ctorch\n" + kind + b"\n" + unicode("0") + unicode("cpu") + ints[0] + b"tQ"
    view = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + ints[1] + b"(" + ints[2] + b"t(" + ints[3] + b"t\x89}tR"
    return b"\x80\x02}" + unicode("w") + view + b"s.", f"a view of {sizes}"


def bomb(rng: np.random.Generator) -> tuple[bytes, str]:
    """A tensor whose storage unpacks to 3 GB."""
    del rng
    count = 750_000_000
    pid = b"(" + unicode("storage") + b"ctorch\nFloatStorage\n" + unicode("0") + unicode("cpu")
    pid += b"J" + struct.pack("<i", count) + b"tQ"
    view = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"K\0(J" + struct.pack("<i", count) + b"t(K\x01t\x89}tR"
    return b"\x80\x02}" + unicode("w") + view + b"s.", "a tensor of 3 GB"


def case(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A checkpoint of torch to be converted."""
    del seeds
    way = rng.random()
    if way < 0.4:
        body, what = attack(rng, box.canary)
    elif way < 0.55:
        body, what = greedy(rng)
    elif way < 0.75:
        body = b"\x80\x04" + value(rng) + b"."
        what = "a pickle at random"
    elif way < 0.85:
        body, what = tensors(rng)
    elif way < 0.87:
        body, what = bomb(rng)
    else:
        body, what = honest(rng)
    if rng.random() < 0.15:
        body, how = damaged(rng, body)
        what = f"{what}, {how}"
    data, how = stored(rng, body, what.startswith("a tensor of 3 GB"))
    what = f"{what}, in {how}"
    if rng.random() < 0.15:
        data, how = damaged(rng, data)
        what = f"{what}, {how}"
    path = box.write(pick(rng, ("model.pth", "model.pt", "model.bin", "model.tar", "model.pkl", "model")), data)
    if rng.random() < 0.5:
        return Case(what, door("convert", lambda: read_torch_file(path)), named=path.name)
    out = box.output / "out.safetensors"
    arguments = ["liveportrait.stitching", str(path), str(out)]
    return Case(what, lambda: main(arguments), command=("-m", "vasa_jax.convert", *arguments), named=path.name)
