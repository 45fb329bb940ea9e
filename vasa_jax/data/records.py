"""The record: one clip of one face as bytes, and shards of them.

A record is a MessagePack map:

    version  int, 1
    frames   list of JPEG pictures (RGB, quality 95, no chroma subsampling), 25 a second for video; may be empty
    audio    array: 16 kHz mono sound, float32 in -1..1; nil where there is none
    labels   map of name to array; see `vasa_jax.arrays` for units; `phonemes` is a list of [symbol, start_s, end_s]

An array is a map of `dtype` (NumPy's name), `shape` and `data` (little-endian, C order). A label that is unknown is
absent. Labels in use: pose (t, 6), gaze (t, 2) in the camera frame, mouth (t, 1), lids (t, 2), regions (t, 3, 4),
emotion (8,), identity () and, for clips that stage 1 has encoded, dynamics (t, z). Pictures are decoded one by one,
so that a reader pays only for the frames it asks for.
"""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Float32, UInt8
from PIL import Image

VERSION = 1
JPEG_QUALITY = 95


class Clip(NamedTuple):
    """One clip, read.

    frames: uint8 (t, h, w, 3), or (0, 0, 0, 3) where none were asked for or there are none.
    audio: float32 (n,) or None.
    labels: name to array; `phonemes`, if present, to a list of (symbol, start_s, end_s).
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    audio: Float32[np.ndarray, " n"] | None
    labels: dict[str, Any]


def write_clip(
    frames: np.ndarray | None,
    audio: np.ndarray | None,
    labels: Mapping[str, Any],
) -> bytes:
    """One clip as bytes.

    Args:
        frames: uint8 RGB pictures (t, h, w, 3); None for a clip without pictures.
        audio: float32 samples at 16 kHz in -1..1; None for a clip without sound.
        labels: name to array (see the module); leave out what is unknown.

    Raises:
        ValueError: for frames or audio of another type or shape, or non-finite sound.
    """
    if frames is not None and (frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3):
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; write uint8 RGB pictures of shape (t, h, w, 3)")
    if audio is not None and (audio.dtype != np.float32 or audio.ndim != 1 or not np.isfinite(audio).all()):
        raise ValueError(f"audio is {audio.dtype} {audio.shape}; write finite float32 samples of shape (n,) at 16 kHz")
    record = {
        "version": VERSION,
        "frames": [] if frames is None else [_encode_picture(frame) for frame in frames],
        "audio": None if audio is None else _pack_array(audio),
        "labels": {
            name: [list(phoneme) for phoneme in value] if name == "phonemes" else _pack_array(np.asarray(value))
            for name, value in labels.items()
        },
    }
    return bytes(msgpack.Packer().pack(record))


def read_clip(data: bytes, frames: Sequence[int] | None = None) -> Clip:
    """Read what `write_clip` wrote.

    Args:
        data: the record.
        frames: indices of the pictures to decode, in the order wanted; None for all. Labels and sound are always whole.

    Raises:
        ValueError: for bytes that are no record or one of a newer version.
    """
    try:
        record = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"{len(data)} bytes are not a clip record: {error}; write records with write_clip") from error
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ValueError(f"a record is not of version {VERSION}; write records with this version's write_clip")
    pictures = record["frames"]
    wanted = [_decode_picture(pictures[i]) for i in (range(len(pictures)) if frames is None else frames)]
    labels = {
        name: [tuple(phoneme) for phoneme in value] if name == "phonemes" else _unpack_array(value)
        for name, value in record["labels"].items()
    }
    audio = None if record["audio"] is None else _unpack_array(record["audio"])
    return Clip(np.stack(wanted) if wanted else np.zeros((0, 0, 0, 3), np.uint8), audio, labels)


def count_frames(data: bytes) -> int:
    """How many pictures a record holds, without decoding any."""
    return len(msgpack.unpackb(data)["frames"])


def write_shard(path: str | Path, records: Iterable[bytes]) -> int:
    """Write an ArrayRecord shard and return how many records it has; the file appears under its name only when
    complete."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    writer = ArrayRecordWriter(str(partial), "group_size:1,uncompressed")  # pictures do not compress twice
    count = 0
    try:
        for record in records:
            writer.write(record)
            count += 1
    finally:
        writer.close()
    partial.rename(path)
    return count


def _encode_picture(frame: UInt8[np.ndarray, "h w 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _decode_picture(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _pack_array(array: np.ndarray) -> dict[str, Any]:
    array = np.asarray(array)
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": array.astype(array.dtype.newbyteorder("<")).tobytes(),
    }


def _unpack_array(packed: Mapping[str, Any]) -> np.ndarray:
    dtype = np.dtype(packed["dtype"]).newbyteorder("<")
    return np.frombuffer(packed["data"], dtype).astype(packed["dtype"]).reshape(packed["shape"])
