"""What a clip may hold beside its pictures: labels, sound and a few words about where it comes from.

`docs/data.md` describes every label. A label that is unknown is absent, one that is unknown in some frames is NaN
there; shapes and limits are those of `LABELS` and `LIMITS`, other labels are kept as they are. What is far outside of
its range is in another unit (degrees, pixels, 0..255, 16-bit sound) and is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.arrays import EMOTIONS, POSE_DIM, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError

LABELS: dict[str, tuple[int | str, ...]] = {
    "pose": ("t", POSE_DIM),
    "gaze": ("t", 2),
    "mouth": ("t", 1),
    "lids": ("t", 2),
    "expression": ("t", 2),
    "regions": ("t", 3, 4),
    "dynamics": ("t", "z"),
    "features": ("t", "c"),
    "emotion": (len(EMOTIONS),),
    "identity": (),
    "portrait": ("h", "w", 3),
}
"""Labels in use and their shapes; t is the same number in all of them, that of the frames if there are any, other
letters are any number."""
ABOUT: dict[str, tuple[type, ...]] = {"source": (str,), "track": (int,), "start": (int, float), "end": (int, float)}
"""Words about a clip that have a meaning here, and their types: the recording, which face of it, seconds in it."""
ABOUT_ENTRIES = 64
"""Most entries that a clip says about itself."""
ABOUT_LENGTH = 1024
"""Most characters of one of them."""
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
    "expression": (
        Limit("lip corners", "-1 sad to 1 smiling", -1.5, 1.5),
        Limit("brows", "-1 lowered to 1 raised", -1.5, 1.5),
    ),
    "regions": (
        *_each("crop units, half the picture is 1", -3.0, 3.0, "cx", "cy"),
        *_each("crop units, half the picture is 1", 0.0, 3.0, "rx", "ry"),
    ),
    "dynamics": _each("stage 1's own unit", -1e4, 1e4),
    "features": _each("the sound front end's own unit", -65504.0, 65504.0),
    "emotion": _each("coefficients of 0 to 1", -0.5, 1.5),
}
"""Limits of each label, one for all its numbers or one for each along its last axis: its range in docs/data.md and some
slack, since detectors overshoot."""
KNOWN = ("dynamics", "features", "emotion")
"""Labels that hold no NaN: what is unknown is left out."""


def check_labels(frames: int, labels: Mapping[str, np.ndarray]) -> int | None:
    """Refuse labels that do not fit `frames` pictures (0 where there are none) or each other.

    Args:
        frames: pictures of the clip.
        labels: name to array; phonemes are for `check_phonemes`.

    Returns:
        The number of frames that pictures or labels speak of; None where neither does.

    Raises:
        UserError: for a label of another shape than `LABELS` says, of no numbers, or beyond its `LIMITS`.
    """
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
    return t


def _check_range(name: str, array: np.ndarray) -> None:
    """Refuse a label whose numbers are those of another unit."""
    if name == "portrait" and array.dtype != np.uint8:
        raise UserError(f"label 'portrait' is {array.dtype}; it must be uint8 levels of 0 to 255")
    if name == "identity" and array.dtype.kind == "f":
        raise UserError(f"label 'identity' is {array.dtype}; it must be an integer")
    if name == "features" and array.dtype != np.float16:
        raise UserError(f"label 'features' is {array.dtype}; it must be float16, which is how features are stored")
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


def check_phonemes(phonemes: Sequence[Any]) -> None:
    """Raise UserError for what is no list of (symbol, start, end) in seconds."""
    for phoneme in phonemes:
        match phoneme:
            case (str(), int() | float() as start, int() | float() as end) if 0 <= start <= end <= PHONEMES_LIMIT:
                continue
        raise UserError(f"label 'phonemes' has {phoneme!r}; write (symbol, start, end), in seconds of the clip")


def check_sound(audio: np.ndarray, frames: int | None) -> None:
    """Refuse sound that is none of 16 kHz, or lasts longer or shorter than its frames.

    Args:
        audio: of the clip.
        frames: how many it has; None where that is unknown.

    Raises:
        UserError: for another type or shape, samples that are not finite or not in -1..1, or another duration.
    """
    if audio.dtype != np.float32 or audio.ndim != 1 or not np.isfinite(audio).all():
        raise UserError(f"audio is {audio.dtype} {audio.shape}; write finite float32 samples of shape (n,) at 16 kHz")
    loudest = float(np.abs(audio).max(initial=0.0))
    if loudest > SOUND_LIMIT:
        raise UserError(
            f"audio reaches {loudest:g}; its samples lie in -1..1: divide integers of 16 bits by 32768 before"
        )
    if frames is not None and abs(len(audio) - SAMPLES_PER_FRAME * frames) > max(
        SOUND_SLACK * SAMPLES_PER_FRAME * frames, SAMPLE_RATE // 5
    ):
        raise UserError(
            f"{len(audio)} samples of sound for {frames} frames are {len(audio) / frames * 25:.0f} Hz; resample to "
            "16 kHz, and let sound and frames (25 a second) last equally long"
        )


def check_about(about: Mapping[Any, Any]) -> None:
    """Raise UserError for what is no short flat map of names to texts and numbers, or not of the types of `ABOUT`."""
    if len(about) > ABOUT_ENTRIES:
        raise UserError(f"about has {len(about)} entries; a clip says at most {ABOUT_ENTRIES} about itself")
    for name, value in about.items():
        kinds = ABOUT.get(name, (str, int, float))
        if type(name) is not str or type(value) not in kinds:
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise UserError(f"about has {name!r}: {value!r} of {type(value).__name__}; write a name and {wanted}")
        if max(len(name), len(value) if isinstance(value, str) else 0) > ABOUT_LENGTH:
            raise UserError(f"about has {name[:20]!r} of more than {ABOUT_LENGTH} characters; shorten it")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise UserError(f"about has {name!r}: {value}; integers have 64 bits at most")
