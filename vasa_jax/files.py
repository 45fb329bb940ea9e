"""Files and folders that appear whole or not at all, and the paths that a command may write to.

Something new grows under a hidden name beside its target, is flushed to the disk and renamed, or removed if anything
fails; so a reader never sees half of it, and what was there before stays until then. The hidden name is short whatever
the target's is, since a file system bounds the name of each file.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vasa_jax.errors import UserError, reason, refusals

NAME_BYTES = 255
"""The longest name of a file on common file systems."""
PREFIX = ".unfinished-"
"""How hidden names begin."""
STORES = ("gs", "s3", "http", "https", "hdfs", "abfs", "abfss", "az")
"""Schemes of URLs that `pathlib` has taken a slash from."""
_TEXTS = (
    ("version https://git-lfs", "it is a pointer of Git LFS: run `git lfs pull` where it came from"),
    ("version https://hawser", "it is a pointer of Git LFS: run `git lfs pull` where it came from"),
    ("# xet version", "it is a pointer of Xet: fetch the file itself"),
    ("<", "it is a web page: fetch the file itself, signed in where its host asks for that"),
    ("{", "it is JSON text: name the file that holds the numbers"),
)
_FORMATS = (
    (0, b"\x1f\x8b\x08", "it is packed by gzip: unpack it"),
    (0, b"BZh", "it is packed by bzip2: unpack it"),
    (0, b"\xfd7zXZ", "it is packed by xz: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "it is packed by zstd: unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "it is a 7z archive: unpack it"),
    (0, b"Rar!", "it is a RAR archive: unpack it"),
    (257, b"ustar", "it is a tar archive: unpack it"),
    (0, b"\x89HDF\r\n", "it is an HDF5 file, which is not read here"),
    (0, b"GGUF", "it is a GGUF file, which is not read here"),
    (0, b"\x93NUMPY", "it is one NumPy array without a name"),
)
_HEAD_BYTES = 1024
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, *kinds: type[BaseException]) -> Iterator[Path]:
    """Give a hidden file to write over, which becomes `path` at the end of the block, or nothing if the block fails.

    Args:
        path: of the file; one that is there is replaced, behind a link too.
        kinds: exceptions of the writing library that mean a refusal of the system, beside OSError.

    Raises:
        UserError: where the system refuses to write.
    """
    final = Path(os.path.realpath(path))
    hidden = _hidden(final)
    try:
        with refusals("write", path, *kinds):
            hidden.touch(exist_ok=False)
            mode = hidden.stat().st_mode
            yield hidden
            hidden.chmod(mode)  # some libraries write for the owner alone
            _flush(hidden)
            hidden.replace(final)
            _flush(final.parent)
    finally:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike, *kinds: type[BaseException]) -> Iterator[Path]:
    """Give an empty hidden folder to fill, which becomes `path` at the end of the block, or nothing if it fails.

    A folder that is there is moved aside, and removed once the new one has its place: at every instant the old one or
    the new one is whole on the disk. Whether it may be replaced is for the caller to say.

    Args:
        path: of the folder; its parents are made.
        kinds: exceptions of the writing library that mean a refusal of the system, beside OSError.

    Raises:
        UserError: where the system refuses to write.
    """
    final = Path(os.path.realpath(path))
    hidden, aside = _hidden(final), _hidden(final)
    try:
        with refusals("write", path, *kinds):
            if final.exists() and not final.is_dir():
                raise UserError(f"cannot write {path}: it is a file, not a folder; name another place")
            final.parent.mkdir(parents=True, exist_ok=True)
            hidden.mkdir()
            yield hidden
            for inside in sorted(hidden.rglob("*")):
                _flush(inside)
            _flush(hidden)
            try:
                if final.exists():
                    final.rename(aside)
                hidden.rename(final)
            except BaseException:  # a signal too
                if aside.exists() and not final.exists():
                    aside.rename(final)
                raise
            _flush(final.parent)
    except UserError as error:  # of a writer inside, which knows the hidden name alone
        if os.fspath(hidden) not in str(error):
            raise
        raise UserError(str(error).replace(os.fspath(hidden), os.fspath(path))) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove what killed writers left in a folder that nobody else writes to now."""
    for left in Path(folder).glob(f"{PREFIX}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


class Growing:
    """A file that grows by whole pieces: no buffer keeps one back, and what cannot be written whole is taken back."""

    def __init__(self, path: str | os.PathLike):
        """Open the file to append to it. Raises UserError where the system refuses."""
        self._path = path
        with refusals("open", path):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (it stays open)

    def append(self, piece: bytes) -> None:
        """Write a piece at the end, or nothing. Raises UserError where the system refuses."""
        before = self._file.tell()
        try:
            with refusals("write", self._path):
                rest = memoryview(piece)
                while rest:
                    rest = rest[self._file.write(rest) :]
        except UserError:
            with contextlib.suppress(OSError):
                self._file.truncate(before)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all. Raises UserError where the system refuses."""
    with whole_file(path) as hidden:
        hidden.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object that a run or a command wrote; raises UserError for a file that cannot be read, or holds none."""
    with refusals("read", path), open(path, "rb") as file:
        text = file.read()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({reason(error)}); remove it, or write it again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; remove it, or write it again")
    return value


def file_digest(path: str | os.PathLike) -> str:
    """The SHA-256 of a file in hexadecimal; raises UserError where it cannot be read."""
    with refusals("read", path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_local(name: str, path: str | os.PathLike) -> Path:
    """The path of a file or folder on this machine's file systems.

    Args:
        name: what the user knows it under (a flag).
        path: to check.

    Raises:
        UserError: for a URL of an object store or the web, which would become a folder of that name here.
    """
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/(?=/*[^/])", os.fspath(path))
    if scheme and ("://" in os.fspath(path) or scheme[0][:-2] in STORES):
        raise UserError(
            f"{name} {os.fspath(path)} is a URL, and only paths of this machine are read and written; mount the store "
            "(gcsfuse, s3fs, rclone mount) and name the mounted folder"
        )
    return Path(path)


def make_folder(name: str, path: str | os.PathLike) -> Path:
    """Make sure that a folder is there and takes new files, before any work.

    Args:
        name: what the user knows it under (a flag).
        path: of the folder; its parents are made.

    Raises:
        UserError: for an empty path, a URL, a file, a folder that cannot be made or not be written to.
    """
    if not os.fspath(path):
        raise UserError(f"{name} is empty; name a folder")
    folder = check_local(name, path)
    if os.path.exists(folder) and not os.path.isdir(folder):  # unlike those of pathlib, they take any name
        raise UserError(f"{name} {folder} is a file; name a folder")
    with refusals("make the folder", folder, advice=f"name another {name}"):
        folder.mkdir(parents=True, exist_ok=True)
    with refusals("write into", folder, advice=f"name another {name}"):
        trial = _hidden(folder / "trial")
        trial.touch(exist_ok=False)
        trial.unlink()
    return folder


def check_target(path: str | os.PathLike) -> Path:
    """The path of a file or folder to write, after the cheap checks that can be made before any work.

    Raises:
        UserError: its folder is not there or not writable, or its name is longer than a file system takes.
    """
    target = check_local("the output", path)
    parent = target.absolute().parent
    if len(os.fsencode(target.name)) > NAME_BYTES:
        raise UserError(f"cannot write {target}: its name is longer than {NAME_BYTES} bytes; shorten it")
    if not target.name:
        raise UserError(f"cannot write {str(path)!r}: it names no file")
    if not parent.is_dir():
        raise UserError(f"cannot write {target}: there is no folder {parent}; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {target}: the folder {parent} is not writable")
    return target


def check_folder(path: str | os.PathLike) -> Path:
    """The path of a folder that is there and writable, or could be made with its parents; checked before any work.

    Raises:
        UserError: something on the way is a file or not writable, or a name is longer than a file system takes.
    """
    target = check_local("the folder", path).absolute()
    for name in target.parts:
        if len(os.fsencode(name)) > NAME_BYTES:
            raise UserError(
                f"cannot write {path}: the name {name[:20]}... is longer than {NAME_BYTES} bytes; shorten it"
            )
    there = next(folder for folder in (target, *target.parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise UserError(f"cannot write {path}: {there} is not a folder; name another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: the folder {there} is not writable")
    return Path(path)


def check_apart(outputs: Mapping[str, str | os.PathLike], inputs: Mapping[str, str | os.PathLike]) -> None:
    """Refuse outputs that would destroy an input or get in each other's way, before any work.

    Args:
        outputs: what is going to be written, by the name that the user knows it under (a flag).
        inputs: what is going to be read, likewise; a folder stands for all that is in it.

    Raises:
        UserError: an output is an input (through links, too), lies in a folder that is read, or holds what is read;
            two outputs are the same, or one lies inside the other.
    """
    for name, path in outputs.items():
        for other, source in inputs.items():
            if _touch(Path(path), Path(source)):
                raise UserError(f"{name} {path} would overwrite {other} {source}; name another place")
    listed = list(outputs.items())
    for i, (name, path) in enumerate(listed):
        for other, second in listed[i + 1 :]:
            if _touch(Path(path), Path(second)):
                raise UserError(f"{name} {path} and {other} {second} get in each other's way; name different places")


def disguise(path: str | os.PathLike) -> str:
    """What a file is that stands where data should be, and the way out, or "" for one that may be data.

    Knows what downloads and clones leave in place of a file: nothing, zeros, pointers, web pages, texts, archives.

    Raises:
        UserError: where it cannot be read.
    """
    with refusals("read", path), open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "it is empty: fetch it again"
    if not any(head):
        return "it begins with zeros alone, as a download that was cut off: fetch it again"
    letters = head.decode("utf-8", "replace").removeprefix("\ufeff")
    if all(c >= " " or c in "\t\n\r" for c in letters) and letters.count("\ufffd") * 10 <= len(letters):
        text = " ".join(letters.split())
        known = (what for mark, what in _TEXTS if text.startswith(mark))
        return next(known, f"it is a text ({text[:60]!r}): fetch the file itself")
    return next((what for at, mark, what in _FORMATS if head[at:].startswith(mark)), "")


def _touch(a: Path, b: Path) -> bool:
    """Whether two paths are the same, or one is inside the other."""
    a, b = a.resolve(), b.resolve()
    if a.is_relative_to(b) or b.is_relative_to(a):
        return True
    return os.path.exists(a) and os.path.exists(b) and a.samefile(b)


def _hidden(path: Path) -> Path:
    suffix = path.suffix if len(path.suffix) <= 16 else ""  # libraries choose the format by it
    return path.absolute().parent / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}{suffix}"


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the file system can say so."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise
    finally:
        os.close(descriptor)
