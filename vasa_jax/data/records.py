"""The record: one clip of one face as bytes, in parts that are read one by one; `docs/data.md` describes every field.

A record is a head and its parts. The head is a MessagePack map:

    version   int, 2
    frames    int, how many pictures there are; 25 a second for video; may be 0
    size      [height, width] of all of them; nil without pictures
    sound     int, how many samples of sound there are; nil where there is none
    features  [frames, channels] of a sound front end; nil where there are none
    portrait  bool, whether there is a portrait
    labels    map of name to array; see `vasa_jax.arrays` for units; `phonemes` is a list of [symbol, start_s, end_s]
    about     map of name to text or number: where the clip comes from

An array is a map of `dtype` (NumPy's name), `shape` and `data` (little-endian, C order). The parts follow the head in
this order, each a record of the shard: the pictures, one JPEG each; sound, float32 at 16 kHz in -1..1; features,
float16; the portrait, a JPEG. So a reader pays for the head and for what it asks for.

What `data.labels` refuses, the writer does not write, and to the reader it is corrupt. A shard ends with an index:

    index     int, 2
    first     list of int: which record of the shard is the head of each clip
    identity  list of int or nil: the clips' labels of that name
    source    list of str: what the clips say about themselves under that name, or ""
"""

import contextlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Float16, Float32, UInt8

from vasa_jax.data.labels import check_about, check_labels, check_phonemes, check_sound
from vasa_jax.data.pictures import decode_picture, encode_picture, picture_size, reduce_picture
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import whole_file

VERSION = 2
PARTS = ("features", "portrait")
"""Labels that are parts of their own."""
_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    OverflowError,
    struct.error,
    msgpack.UnpackException,
)
"""What MessagePack and NumPy raise for bytes that nobody wrote."""


class CorruptRecordError(UserError):
    """A record that cannot be read, or that holds what a training sample cannot use; the message says what."""


class Record(NamedTuple):
    """One clip as bytes.

    head: the MessagePack map. parts: what follows it. identity, source: for the shard's index.
    """

    head: bytes
    parts: tuple[bytes, ...] = ()
    identity: int | None = None
    source: str = ""


class Clip(NamedTuple):
    """One clip, read.

    frames: uint8 (t, h, w, 3), or (0, 0, 0, 3) where none were asked for or there are none.
    audio: float32 (n,) or None.
    labels: name to array; `phonemes`, if present, to a list of (symbol, start_s, end_s).
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    audio: Float32[np.ndarray, " n"] | None
    labels: dict[str, Any]


class StoredClip:
    """One clip whose head is read, and whose parts are read when they are asked for.

    count: of its pictures. size: their (height, width), None without any. labels: all but `features` and `portrait`.
    about: where it comes from. has_sound, has_features, has_portrait: whether they are there.
    """

    def __init__(self, head: bytes, part: Callable[[int], bytes]):
        """
        Args:
            head: the map of the module's head.
            part: reads a part by its number, from 0; raises CorruptRecordError.

        Raises:
            CorruptRecordError: for bytes that are no head, one of another version, or labels that `write_clip` would
                refuse.
        """
        self._part = part
        try:
            fields = msgpack.unpackb(head)
        except _DAMAGE as error:
            raise CorruptRecordError(f"{len(head)} bytes are no head of a clip: {reason(error)}") from error
        if not isinstance(fields, dict) or fields.get("version") != VERSION:
            raise CorruptRecordError(f"a clip is not of version {VERSION}; write clips with this version's write_clip")
        try:
            self.count = _whole(fields["frames"])
            self.size = (_whole(fields["size"][0]), _whole(fields["size"][1])) if self.count else None
            self._samples = None if fields["sound"] is None else _whole(fields["sound"])
            shape = fields["features"]
            self._features = None if shape is None else (_whole(shape[0]), _whole(shape[1]))
            self.has_portrait = bool(fields["portrait"])
            self.labels: dict[str, Any] = {
                name: [tuple(phoneme) for phoneme in value] if name == "phonemes" else unpack_array(value)
                for name, value in fields["labels"].items()
            }
            self.about: dict[str, str | int | float] = dict(fields["about"])
            arrays = {name: value for name, value in self.labels.items() if name != "phonemes"}
            self._frames = check_labels(self.count, arrays)
            check_phonemes(self.labels.get("phonemes", ()))
            check_about(self.about)
        except _DAMAGE as error:
            raise CorruptRecordError(f"a broken clip: {reason(error)}; write clips with write_clip") from error

    @property
    def has_sound(self) -> bool:
        """Whether there is sound."""
        return self._samples is not None

    @property
    def has_features(self) -> bool:
        """Whether there are features of a sound front end."""
        return self._features is not None

    def pictures(self, chosen: Sequence[int] | None = None) -> list[bytes]:
        """Frames as the JPEG pictures that they are stored as, in the order wanted; None for all. Raises
        CorruptRecordError for those that cannot be read."""
        return [self._part(i) for i in (range(self.count) if chosen is None else chosen)]

    def fits(self, size: int) -> bool:
        """Whether frames can be read with a side of `size` pixels: they are squares of that side or a multiple of
        it."""
        height, width = self.size or (size, size)
        return height == width and height % size == 0

    def frames(self, chosen: Sequence[int] | None = None, size: int | None = None) -> UInt8[np.ndarray, "t h w 3"]:
        """Frames, decoded.

        Args:
            chosen: their indices, in the order wanted; None for all.
            size: side of the frames that are wanted, which `fits`: each pixel is the mean of those that it covers; None
                for the size that is stored.

        Returns:
            uint8 (t, h, w, 3); (0, 0, 0, 3) where there are none or none are wanted.

        Raises:
            CorruptRecordError: for pictures that cannot be read, are of another size than the head says, or do not fit.
        """
        if size is not None and not self.fits(size):
            height, width = self.size or (0, 0)
            raise CorruptRecordError(
                f"frames of {width}x{height} pixels, not of {size}x{size} or a multiple: write them at such a size"
            )
        wanted = [_decoded(picture) for picture in self.pictures(chosen)]
        for picture in wanted:
            if picture.shape[:2] != self.size:
                raise CorruptRecordError(f"a broken clip: a frame of shape {picture.shape}, by its head of {self.size}")
        if size is not None:
            wanted = [reduce_picture(picture, size) for picture in wanted]
        return np.stack(wanted) if wanted else np.zeros((0, 0, 0, 3), np.uint8)

    def sound(self) -> Float32[np.ndarray, " n"] | None:
        """Sound at 16 kHz in -1..1, or None; raises CorruptRecordError for what `write_clip` would refuse."""
        if self._samples is None:
            return None
        audio = _array(self._part(self.count), "<f4", (self._samples,))
        try:
            check_sound(audio, self._frames)
        except UserError as error:
            raise CorruptRecordError(f"a broken clip: {error}") from error
        return audio

    def features(self) -> Float16[np.ndarray, "t c"] | None:
        """Features of a sound front end, or None; raises CorruptRecordError for what `write_clip` would refuse."""
        if self._features is None:
            return None
        array = _array(self._part(self.count + self.has_sound), "<f2", self._features)
        try:
            check_labels(self._frames or 0, {"features": array})
        except UserError as error:
            raise CorruptRecordError(f"a broken clip: {error}") from error
        return array

    def portrait(self) -> UInt8[np.ndarray, "h w 3"] | None:
        """The portrait, or None; raises CorruptRecordError for what is no picture."""
        if not self.has_portrait:
            return None
        return _decoded(self._part(self.count + self.has_sound + self.has_features))


def write_clip(
    frames: np.ndarray | Sequence[bytes] | None,
    audio: np.ndarray | None,
    labels: Mapping[str, Any],
    about: Mapping[Any, Any] | None = None,
) -> Record:
    """One clip as bytes.

    Args:
        frames: uint8 RGB pictures (t, h, w, 3), or pictures of one size as `encode_picture` makes them; None for a clip
            without pictures.
        audio: float32 samples at 16 kHz in -1..1; None for a clip without sound.
        labels: name to array (see `data.labels`); leave out what is unknown. `portrait` may be JPEG, too.
        about: where the clip comes from, names to texts and numbers; `data.labels.ABOUT` has those with a meaning.

    Raises:
        UserError: for frames or audio of another type or shape, sound that is not finite, not 16 kHz (it lasts longer
            or shorter than the frames) or not in -1..1, a label of another shape than `LABELS` says or beyond its
            `LIMITS`, or an `about` that is not flat and short.
    """
    pictures, size = _pictures(frames)
    labels, about = dict(labels), dict(about or {})
    portrait = labels.pop("portrait", None)
    if isinstance(portrait, bytes):
        picture_size(portrait)
    elif portrait is not None:
        check_labels(0, {"portrait": np.asarray(portrait)})
        portrait = encode_picture(portrait)
    arrays = {name: np.asarray(value) for name, value in labels.items() if name != "phonemes"}
    t = check_labels(len(pictures), arrays)
    check_phonemes(labels.get("phonemes", ()))
    if audio is not None:
        check_sound(audio, t)
    check_about(about)
    features = arrays.pop("features", None)
    kept: dict[str, Any] = {name: pack_array(value) for name, value in arrays.items()}
    if "phonemes" in labels:
        kept["phonemes"] = [list(phoneme) for phoneme in labels["phonemes"]]
    head = {
        "version": VERSION,
        "frames": len(pictures),
        "size": size,
        "sound": None if audio is None else len(audio),
        "features": None if features is None else list(features.shape),
        "portrait": portrait is not None,
        "labels": kept,
        "about": about,
    }
    sound = None if audio is None else audio.astype("<f4").tobytes()
    heard = None if features is None else features.astype("<f2").tobytes()
    parts = (*pictures, *(part for part in (sound, heard, portrait) if part is not None))
    identity = int(arrays["identity"].astype(np.int64)) if "identity" in arrays else None
    return Record(bytes(msgpack.Packer().pack(head)), parts, identity, str(about.get("source", "")))


def read_clip(record: Record | StoredClip, frames: Sequence[int] | None = None, size: int | None = None) -> Clip:
    """All of what `write_clip` wrote, but for frames that are not wanted.

    Args:
        record: a record, or one of a shard.
        frames: indices of the pictures to decode, in the order wanted; None for all. Labels and sound are always whole.
        size: side of the frames that are wanted; see `StoredClip.frames`.

    Raises:
        CorruptRecordError: for what is no record, one of another version, a broken picture, or sound or labels that
            `write_clip` would refuse.
    """
    clip = stored(record) if isinstance(record, Record) else record
    parts = {name: part for name in PARTS if (part := getattr(clip, name)()) is not None}
    return Clip(clip.frames(frames, size), clip.sound(), clip.labels | parts)


def stored(record: Record) -> StoredClip:
    """A record as `open_shards` gives it; raises CorruptRecordError for one that nobody wrote."""

    def part(number: int) -> bytes:
        if number >= len(record.parts):
            raise CorruptRecordError(f"a clip of {len(record.parts)} parts has no part {number}")
        return record.parts[number]

    return StoredClip(record.head, part)


def write_shard(path: str | Path, records: Iterable[Record]) -> int:
    """Write an ArrayRecord shard and return how many clips it has; the file appears under its name only when
    complete. Raises UserError where the system refuses."""
    index: dict[str, Any] = {"index": VERSION, "first": [], "identity": [], "source": []}
    written = 0
    with whole_file(path) as hidden:
        with refusals("write", path, RuntimeError):
            writer = ArrayRecordWriter(str(hidden), "group_size:1,uncompressed")  # pictures do not compress twice
        try:
            for record in records:
                index["first"].append(written)
                index["identity"].append(record.identity)
                index["source"].append(record.source)
                with refusals("write", path, RuntimeError):  # of the writer alone, not of who makes the records
                    for part in (record.head, *record.parts):
                        writer.write(part)
                written += 1 + len(record.parts)
            with refusals("write", path, RuntimeError):
                writer.write(bytes(msgpack.Packer().pack(index)))
        except BaseException:
            with contextlib.suppress(RuntimeError):
                writer.close()
            raise
        with refusals("write", path, RuntimeError):
            writer.close()
    return len(index["first"])


def _pictures(frames: np.ndarray | Sequence[bytes] | None) -> tuple[list[bytes], list[int] | None]:
    """Frames as JPEG, and the size of them all."""
    if isinstance(frames, np.ndarray):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise UserError(f"frames are {frames.dtype} {frames.shape}; write uint8 RGB pictures of shape (t, h, w, 3)")
        if frames.size and frames.max() == 1:
            raise UserError("frames hold the levels 0 and 1 alone; multiply pictures in 0..1 by 255 to make them uint8")
        return [encode_picture(frame) for frame in frames], list(frames.shape[1:3]) if len(frames) else None
    pictures = list(frames or ())
    sizes = {picture_size(picture) for picture in pictures}
    if len(sizes) > 1:
        raise UserError(f"frames are of several sizes (height, width): {sorted(sizes)[:3]}; give all of a clip one")
    return pictures, list(sizes.pop()) if sizes else None


def _decoded(picture: bytes) -> UInt8[np.ndarray, "h w 3"]:
    try:
        return decode_picture(picture)
    except CorruptRecordError:
        raise
    except UserError as error:
        raise CorruptRecordError(f"a broken clip: {error}") from error


def _array(data: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """A part that is an array; writable, of the machine's byte order."""
    try:
        return np.frombuffer(data, dtype).reshape(shape).astype(np.dtype(dtype).newbyteorder("="))
    except ValueError as error:
        raise CorruptRecordError(f"a broken clip: {reason(error)}; write clips with write_clip") from error


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no number of things")
    return value


def pack_array(array: np.ndarray) -> dict[str, Any]:
    """An array as a map, see the module."""
    array = np.asarray(array)
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": array.astype(array.dtype.newbyteorder("<")).tobytes(),
    }


def unpack_array(packed: Mapping[str, Any]) -> np.ndarray:
    """What `pack_array` packed; what it raises for other maps is in `_DAMAGE`."""
    dtype = np.dtype(packed["dtype"]).newbyteorder("<")
    return np.frombuffer(packed["data"], dtype).astype(packed["dtype"]).reshape(packed["shape"])
