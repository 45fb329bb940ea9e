"""What is said over the WebSocket of a session, and how what a client says is read: strictly, with an answer to all.

A client sends messages, JSON objects in text frames with a `type`, and sound, binary frames of 16-bit little-endian
mono samples at the rate that its `start` named. The server answers with messages and, in binary frames, with what it
makes: pieces of one fragmented MP4, or single JPEG pictures and pieces of sound (`vasa_jax.serve.containers`).

Every message is a frozen dataclass. What may stand in one of a client's is a JSON schema, of which `read` checks the
part that is used here, and which `vasa_jax.serve.describe` publishes; so the description cannot differ from the check.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import soxr
from jaxtyping import Float

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.errors import UserError

TEXT, SOUND = 16 * 1024, 1024 * 1024
"""Bytes of the largest message, and of the largest piece of sound."""
LOWEST, HIGHEST = 8000, 48000
"""Rates of sound, in Hz."""
CONTAINERS = ("mp4", "jpeg")
SOURCES = ("microphone", "speech")
FILES = {b"RIFF": "a WAV file", b"OggS": "an Ogg file", b"fLaC": "a FLAC file", b"ID3": "an MP3 file"}
FILES |= {b"\x1a\x45\xdf\xa3": "a WebM file"}
"""How things begin that are sent for samples by mistake."""


def _number(low: int | float, high: int | float, about: str) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high, "description": about}


def _pair(limit: int, about: str) -> dict[str, Any]:
    items = {"type": "number", "minimum": -limit, "maximum": limit}
    return {"type": "array", "items": items, "minItems": 2, "maxItems": 2, "description": about}


CONTROLS: dict[str, Any] = {
    "gaze": _pair(60, "degrees to the right and up"),
    "distance": _number(0.25, 4, "of the head; 1 is the training mean, 2 twice as far"),
    "emotion": {
        "type": ["string", "null"],
        "maxLength": 40,
        "description": "a class and its weight from 0 to 1, as happiness:0.6; null is no request",
    },
    "amplitude": _number(0, 4, "gain of all motion"),
    "head": _number(0, 4, "gain of the head's turning and swaying"),
    "mouth": _number(0, 4, "gain of the mouth's opening"),
    "blink": _number(0, 4, "gain of the lids' closing"),
    "position": _pair(1, "moves the head right and down, in halves of the picture"),
    "zoom": _number(0.25, 4, "enlarges the head"),
}
"""What can be asked of a face, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Opens the session.

    portrait: an id of GET or POST /portraits. container, rate, source, seed: see `SCHEMAS`. controls: of `CONTROLS`.
    """

    portrait: str
    container: str = "mp4"
    rate: int = SAMPLE_RATE
    source: str = "microphone"
    seed: int = 0
    controls: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """Asks for something else from the next hop on. ease: milliseconds. controls: of `CONTROLS`."""

    ease: float = 400.0
    controls: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Interrupt:
    """Drops the sound that waits."""


@dataclasses.dataclass(frozen=True)
class End:
    """Says that the utterance is whole: its last frames need not wait for more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ping:
    """Asks for a `pong` with the same id."""

    id: int = 0


Message = Start | Change | Interrupt | End | Ping

SCHEMAS: dict[str, tuple[type, dict[str, Any], tuple[str, ...]]] = {
    "start": (
        Start,
        {
            "portrait": {"type": "string", "maxLength": 64, "description": "an id of GET or POST /portraits"},
            "container": {"type": "string", "enum": list(CONTAINERS), "default": "mp4"},
            "rate": {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST, "default": SAMPLE_RATE},
            "source": {
                "type": "string",
                "enum": list(SOURCES),
                "default": "microphone",
                "description": "whether sound comes as it is spoken, or as soon as it is made",
            },
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "default": 0},
            "controls": {"type": "object", "properties": CONTROLS, "additionalProperties": False},
        },
        ("portrait",),
    ),
    "change": (
        Change,
        {
            "ease": _number(0, 60_000, "milliseconds in which the change takes effect") | {"default": 400},
            "controls": {"type": "object", "properties": CONTROLS, "additionalProperties": False},
        },
        ("controls",),
    ),
    "interrupt": (Interrupt, {}, ()),
    "end": (End, {}, ()),
    "ping": (Ping, {"id": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1, "default": 0}}, ()),
}
"""A client's messages by type: class, properties, and which of these are required."""


def parse(text: str) -> Message:
    """A client's message.

    Raises:
        UserError: what is no JSON object, an unknown type or name, a value out of range, NaN.
    """
    kind, fields = _opened(text)
    build, properties, required = SCHEMAS[kind]
    return build(**read(fields, {"type": "object", "properties": properties, "required": list(required)}, kind))


def read(value: Any, schema: Mapping[str, Any], name: str) -> Any:
    """A value of JSON that a schema allows.

    Raises:
        UserError: another value, with its name and what would do.
    """
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is(value, kind) for kind in kinds):
        raise UserError(f"{name} is {_shown(value)}; give {_wanted(schema)}")
    if isinstance(value, dict):
        known = schema["properties"]
        for unknown in value.keys() - known.keys():
            raise UserError(f"{name} has no {_shown(unknown)}; it knows {', '.join(known) or 'nothing but its type'}")
        for missing in set(schema.get("required", ())) - value.keys():
            raise UserError(f"{name} needs {missing!r}; give {_wanted(known[missing])}")
        return {key: read(part, known[key], key) for key, part in value.items()}
    if isinstance(value, list):
        if not schema["minItems"] <= len(value) <= schema["maxItems"]:
            raise UserError(f"{name} is {_shown(value)}; give {_wanted(schema)}")
        return tuple(read(part, schema["items"], name) for part in value)
    if isinstance(value, str):
        if value not in schema.get("enum", [value]) or len(value) > schema.get("maxLength", len(value)):
            raise UserError(f"{name} is {_shown(value)}; give {_wanted(schema)}")
    elif isinstance(value, int | float):
        if not schema["minimum"] <= value <= schema["maximum"]:
            raise UserError(f"{name} is {_shown(value)}; give {_wanted(schema)}")
        return float(value) if schema["type"] == "number" else value
    return value


def _opened(text: str) -> tuple[str, dict[str, Any]]:
    try:
        value = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            "a text frame is not JSON; messages are JSON objects, and sound goes in binary frames"
        ) from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise UserError(f"a message is {_shown(value)}; give an object with a type: {', '.join(SCHEMAS)}")
    kind = value.pop("type")
    if kind not in SCHEMAS:
        raise UserError(f"message type {_shown(kind)} is unknown; choose {', '.join(SCHEMAS)}")
    return kind, value


def _refused(name: str) -> Any:
    raise UserError(f"{name} is not a number of JSON; leave it out")


def _is(value: Any, kind: str) -> bool:
    if kind == "number":
        whole = isinstance(value, int) and not isinstance(value, bool)  # of any length, beyond all floats
        return whole or (isinstance(value, float) and math.isfinite(value))
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "array": list, "object": dict, "null": type(None)}[kind])


def _wanted(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if "items" in schema:
        return f"{schema['minItems']} numbers from {schema['items']['minimum']:g} to {schema['items']['maximum']:g}"
    if "minimum" in schema:
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        return f"{kind} from {schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        return f"a text of at most {schema['maxLength']} letters"
    return "an object"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


class Microphone:
    """Turns a client's pieces of sound into 16 kHz, as one continuous sound."""

    def __init__(self, rate: int):
        """`rate`: of what comes, in Hz."""
        self._rate = rate
        self.clear()

    def clear(self) -> None:
        """Forgets what it holds back of the sound so far."""
        self._fresh = True  # samples in the middle may look like the head of a file
        same = self._rate == SAMPLE_RATE
        self._resampler = None if same else soxr.ResampleStream(self._rate, SAMPLE_RATE, 1, dtype="float32")

    def hear(self, data: bytes) -> Float[np.ndarray, " n"]:
        """Samples (n,) in [-1, 1] at 16 kHz, of which a few come later.

        Raises:
            UserError: bytes that are no samples.
        """
        if len(data) > SOUND:
            raise UserError(f"a piece of sound has {len(data)} bytes; send at most {SOUND} at a time")
        if len(data) % 2:
            raise UserError(f"a piece of sound has {len(data)} bytes; samples are 16 bits, so send an even number")
        for start, what in FILES.items():
            if self._fresh and data.startswith(start):
                raise UserError(f"a piece of sound is {what}; send its samples alone: 16 bits, little-endian, mono")
        self._fresh = False
        samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(2**15)
        return samples if self._resampler is None else self._resampler.resample_chunk(samples)

    def rest(self) -> Float[np.ndarray, " n"]:
        """What was held back, at the end of an utterance."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        left = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        self.clear()
        return left


def say(kind: str, **fields: Any) -> dict[str, Any]:
    """A message of the server: its type first, without what is None."""
    return {"type": kind} | {name: value for name, value in fields.items() if value is not None}
