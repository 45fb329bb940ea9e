"""The record: one clip of one face as bytes, and shards of them; `docs/data.md` describes every field.

A record is a MessagePack map:

    version  int, 1
    frames   list of JPEG pictures (RGB, quality 95, no chroma subsampling), 25 a second for video; may be empty
    audio    array: 16 kHz mono sound, float32 in -1..1; nil where there is none
    labels   map of name to array; see `vasa_jax.arrays` for units; `phonemes` is a list of [symbol, start_s, end_s]

An array is a map of `dtype` (NumPy's name), `shape` and `data` (little-endian, C order). A label that is unknown is
absent, one that is unknown in some frames is NaN there; shapes and limits are those of `LABELS` and `LIMITS`, others
are kept as they are. What is far outside of its range is in another unit (degrees, pixels, 0..255, 16-bit sound): the
writer refuses it, and to the reader it is corrupt.
Pictures are decoded one by one, so that a reader pays only for the frames it asks for.
"""

import contextlib
import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Float32, UInt8
from PIL import Image

from vasa_jax.arrays import EMOTIONS, POSE_DIM, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import whole_file

VERSION = 1
JPEG_QUALITY = 95
LABELS: dict[str, tuple[int | str, ...]] = {
    "pose": ("t", POSE_DIM),
    "gaze": ("t", 2),
    "mouth": ("t", 1),
    "lids": ("t", 2),
    "regions": ("t", 3, 4),
    "dynamics": ("t", "z"),
    "emotion": (len(EMOTIONS),),
    "identity": (),
    "portrait": ("h", "w", 3),
}
"""Labels in use and their shapes; t is the same number in all of them, that of the frames if there are any, other
letters are any number."""
SOUND_LIMIT = 2.0
"""Largest sample of sound that is accepted: decoders of lossy sound pass 1 where it was clipped."""
PHONEMES_LIMIT = 3600.0
"""Latest end of a phoneme that is accepted, in seconds."""
SOUND_SLACK = 0.1
"""By which share sound may be longer or shorter than its frames; 0.2 s are always allowed."""


class Limit(NamedTuple):
    """What numbers a component of a label may be; NaN is allowed in frames where a label is unknown.

    name: of the component, "" where the label has one kind. unit: for messages. low, high: accepted.
    """

    name: str
    unit: str
    low: float
    high: float


def _each(unit: str, low: float, high: float, *names: str) -> tuple[Limit, ...]:
    return tuple(Limit(name, unit, low, high) for name in names or ("",))


LIMITS: dict[str, tuple[Limit, ...]] = {
    "pose": (
        *_each("radians", -3.15, 3.15, "pitch", "yaw", "roll"),
        *_each("crop units, half the picture is 1", -3.0, 3.0, "tx", "ty"),
        Limit("log distance", "the natural logarithm of a factor", -3.0, 3.0),
    ),
    "gaze": _each("radians", -3.15, 3.15, "theta", "phi"),
    "mouth": _each("0 closed to 1 wide open", -0.5, 1.5),
    "lids": _each("0 closed to 1 wide open", -0.5, 1.5),
    "regions": (
        *_each("crop units, half the picture is 1", -3.0, 3.0, "cx", "cy"),
        *_each("crop units, half the picture is 1", 0.0, 3.0, "rx", "ry"),
    ),
    "dynamics": _each("stage 1's own unit", -1e4, 1e4),
    "emotion": _each("coefficients of 0 to 1", -0.5, 1.5),
}
"""Limits of each label, one for all its numbers or one for each along its last axis: its range in docs/data.md and some
slack, since detectors overshoot."""
KNOWN = ("dynamics", "emotion")
"""Labels that hold no NaN: what is unknown is left out."""
_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    OSError,
    SyntaxError,
    struct.error,
    msgpack.UnpackException,
    Image.DecompressionBombError,
)
"""What MessagePack, NumPy and Pillow raise for bytes that nobody wrote."""


class CorruptRecordError(UserError):
    """A record that cannot be read, or that holds what a training sample cannot use; the message says what."""


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
        UserError: for frames or audio of another type or shape, sound that is not finite, not 16 kHz (it lasts longer
            or shorter than the frames) or not in -1..1, or a label of another shape than `LABELS` says or beyond its
            `LIMITS`.
    """
    if frames is not None and (frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3):
        raise UserError(f"frames are {frames.dtype} {frames.shape}; write uint8 RGB pictures of shape (t, h, w, 3)")
    if frames is not None and frames.size and frames.max() == 1:
        raise UserError("frames hold the levels 0 and 1 alone; multiply pictures in 0..1 by 255 to make them uint8")
    arrays = {name: np.asarray(value) for name, value in labels.items() if name != "phonemes"}
    _check(0 if frames is None else len(frames), audio, arrays)
    _check_phonemes(labels.get("phonemes", ()))
    record = {
        "version": VERSION,
        "frames": [] if frames is None else [_encode_picture(frame) for frame in frames],
        "audio": None if audio is None else _pack_array(audio),
        "labels": {
            name: [list(phoneme) for phoneme in value] if name == "phonemes" else _pack_array(arrays[name])
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
        CorruptRecordError: for bytes that are no record, one of another version, a broken picture, or sound or labels
            that `write_clip` would refuse.
    """
    record = _unpack(data)
    pictures = record["frames"]
    try:
        wanted = [_decode_picture(pictures[i]) for i in (range(len(pictures)) if frames is None else frames)]
        labels: dict[str, Any] = {
            name: [tuple(phoneme) for phoneme in value] if name == "phonemes" else _unpack_array(value)
            for name, value in record["labels"].items()
        }
        audio = None if record["audio"] is None else _unpack_array(record["audio"])
        _check(len(pictures), audio, {name: value for name, value in labels.items() if name != "phonemes"})
        _check_phonemes(labels.get("phonemes", ()))
        return Clip(np.stack(wanted) if wanted else np.zeros((0, 0, 0, 3), np.uint8), audio, labels)
    except _DAMAGE as error:
        raise CorruptRecordError(f"a broken clip record: {_one_line(error)}; write records with write_clip") from error


def count_frames(data: bytes) -> int:
    """How many pictures a record holds, without decoding any; raises CorruptRecordError as `read_clip` does."""
    return len(_unpack(data)["frames"])


def write_shard(path: str | Path, records: Iterable[bytes]) -> int:
    """Write an ArrayRecord shard and return how many records it has; the file appears under its name only when
    complete. Raises UserError where the system refuses."""
    count = 0
    with whole_file(path) as hidden:
        with refusals("write", path, RuntimeError):
            writer = ArrayRecordWriter(str(hidden), "group_size:1,uncompressed")  # pictures do not compress twice
        try:
            for record in records:
                with refusals("write", path, RuntimeError):  # of the writer alone, not of who makes the records
                    writer.write(record)
                count += 1
        except BaseException:
            with contextlib.suppress(RuntimeError):
                writer.close()
            raise
        with refusals("write", path, RuntimeError):
            writer.close()
    return count


def _unpack(data: bytes) -> dict[str, Any]:
    """The map of a record, with its four fields; the content of the fields is not looked at."""
    try:
        record = msgpack.unpackb(data)
    except _DAMAGE as error:
        what = f"{len(data)} bytes are not a clip record: {_one_line(error)}"
        raise CorruptRecordError(f"{what}; write records with write_clip") from error
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise CorruptRecordError(f"a record is not of version {VERSION}; write records with this version's write_clip")
    kinds = {"frames": list, "audio": (dict, type(None)), "labels": dict}
    for name, kind in kinds.items():
        if not isinstance(record.get(name, ...), kind):
            raise CorruptRecordError(f"a record has no proper {name!r}; write records with write_clip")
    return record


def _check(frames: int, audio: np.ndarray | None, labels: Mapping[str, np.ndarray]) -> None:
    """Refuse sound or labels that do not fit `frames` pictures (0 where there are none) or each other."""
    t: int | None = frames or None
    for name in [name for name in LABELS if name in labels]:
        array, shape = labels[name], LABELS[name]
        if t is None and shape[:1] == ("t",) and array.ndim:
            t = len(array)
        fits = array.ndim == len(shape) and all(
            length == {"t": t}.get(want, length) if isinstance(want, str) else length == want
            for length, want in zip(array.shape, shape, strict=True)
        )
        if not fits or array.dtype.kind not in "fiu":
            sizes = ", ".join(str(t if want == "t" else want) for want in shape)
            raise UserError(f"label {name!r} is {array.dtype} {array.shape}; it must be numbers of shape ({sizes})")
        _check_range(name, array)
    if audio is None:
        return
    if audio.dtype != np.float32 or audio.ndim != 1 or not np.isfinite(audio).all():
        raise UserError(f"audio is {audio.dtype} {audio.shape}; write finite float32 samples of shape (n,) at 16 kHz")
    loudest = float(np.abs(audio).max(initial=0.0))
    if loudest > SOUND_LIMIT:
        raise UserError(
            f"audio reaches {loudest:g}; its samples lie in -1..1: divide integers of 16 bits by 32768 before"
        )
    if t is not None and abs(len(audio) - SAMPLES_PER_FRAME * t) > max(
        SOUND_SLACK * SAMPLES_PER_FRAME * t, SAMPLE_RATE // 5
    ):
        raise UserError(
            f"{len(audio)} samples of sound for {t} frames are {len(audio) / t * 25:.0f} Hz; resample to 16 kHz, and "
            "let sound and frames (25 a second) last equally long"
        )


def _check_range(name: str, array: np.ndarray) -> None:
    """Refuse a label whose numbers are those of another unit."""
    if name == "portrait" and array.dtype != np.uint8:
        raise UserError(f"label 'portrait' is {array.dtype}; it must be uint8 levels of 0 to 255")
    if name == "identity" and array.dtype.kind == "f":
        raise UserError(f"label 'identity' is {array.dtype}; it must be an integer")
    limits = LIMITS.get(name, ())
    for i, limit in enumerate(limits):
        part = array if len(limits) == 1 else array[..., i]
        wrong = (part < limit.low) | (part > limit.high)  # NaN is neither
        if name in KNOWN:
            wrong |= ~np.isfinite(part)
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0])
            where = f" in frame {place[0]}" if LABELS[name][0] == "t" else ""
            raise UserError(
                f"label {name!r} has {limit.name or 'a value'} {part[place]:g}{where}; it must lie in "
                f"{limit.low:g}..{limit.high:g} ({limit.unit})"
            )


def _check_phonemes(phonemes: Sequence[Any]) -> None:
    """Refuse what is no list of (symbol, start, end) in seconds."""
    for phoneme in phonemes:
        match phoneme:
            case (str(), int() | float() as start, int() | float() as end) if 0 <= start <= end <= PHONEMES_LIMIT:
                continue
        raise UserError(f"label 'phonemes' has {phoneme!r}; write (symbol, start, end), in seconds of the clip")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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
