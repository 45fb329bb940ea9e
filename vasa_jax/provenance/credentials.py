"""Content credentials (C2PA): a signed manifest in every file that says that it is generated, by what and from what.

The manifest states the kind of media (IPTC's digital source type), the generator and its version, name and SHA-256 of
the model, those of portrait, sound and drivers, seed and options, the time and an id of the file, and the number that
the watermark in its pixels carries (a soft binding). The photo is its ingredient; credentials of its own come along,
its picture does not. MP4, MOV and PNG hold the manifest inside; Matroska and WebM, for which C2PA has no place, have it
in a file beside them, NAME.c2pa, where C2PA's readers look.

Every picture of a folder is signed by itself: pictures are moved and shown one by one, and each stays proven then. The
price is 4 kB and some milliseconds a picture, and that a missing picture is not noticed.
"""

import dataclasses
import datetime
import functools
import hashlib
import io
import json
import logging
import os
import secrets
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

import vasa_jax
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import PREFIX, file_digest, whole_file
from vasa_jax.media.image import ImageSource, open_photo
from vasa_jax.media.tags import SourceType, Tags
from vasa_jax.provenance.keys import Signing, make_context, own_signing

Intent = Literal["created", "composite", "drawn"]
"""What is in the picture: only what a model drew, that in a photo, or lines that were drawn over a photo."""
SOURCE_TYPES = {
    "created": "TRAINED_ALGORITHMIC_MEDIA",
    "composite": "COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA",
    "drawn": "COMPOSITE",
}
"""How C2PA calls each."""
TERMS: dict[Intent, SourceType] = {
    "created": "trainedAlgorithmicMedia",
    "composite": "compositeWithTrainedAlgorithmicMedia",
}
"""How IPTC calls what is generated."""
KINDS = {
    ".mp4": "video/mp4",
    ".m4v": "video/x-m4v",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".png": "image/png",
}
"""Files that can be sealed."""
BESIDE = (".mkv", ".webm")
"""Those whose manifest is in a file beside them."""
SIDECAR = ".c2pa"
LABEL = "vasa_jax.provenance"
"""Of the assertion with what only this project knows."""
WATERMARK = "vasa_jax.watermark.1"
"""The watermark's name in soft bindings."""
LONGEST_LIST = 64
"""Values of an option that are written out; of more, as of a track, the SHA-256 is."""

_log = logging.getLogger("vasa_jax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a file says about itself.

    Attributes:
        model, model_sha256: name and SHA-256 of the release (`checkpoint.Release.sha256`).
        photo: the portrait as a file: what was given, or a PNG file of it.
        sources: SHA-256, or of arrays their `checkpoint.digest`, of the sound ("sound") and of what drives ("driving",
            "pose_from", "dynamics_from").
        seed, options: what the frames depend on beside these.
        intent: what is in the picture.
        mark: 32 bits in hexadecimal that the watermark carries. It is a digest of everything above, so that the same
            inputs give the same frames; other inputs have another.
        id: of this performance; no other has it.
        time: when it was declared, UTC.
        generator, version: of this package.
    """

    model: str
    model_sha256: str
    photo: bytes = dataclasses.field(repr=False)
    sources: Mapping[str, str]
    seed: int
    options: Mapping[str, Any]
    intent: Intent
    mark: str = ""
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    time: str = dataclasses.field(default_factory=lambda: _now())
    generator: str = "vasa-jax"
    version: str = vasa_jax.__version__

    def __post_init__(self) -> None:
        """Derives the mark."""
        if not self.mark:
            what = [self.model_sha256, self.portrait_sha256, dict(self.sources), self.seed, self.options, self.intent]
            text = json.dumps(what, sort_keys=True, default=str)
            object.__setattr__(self, "mark", hashlib.sha256(text.encode()).hexdigest()[:8])

    @functools.cached_property
    def portrait_sha256(self) -> str:
        """SHA-256 of the portrait's file."""
        return hashlib.sha256(self.photo).hexdigest()

    def statement(self) -> dict[str, Any]:
        """What the manifest says under `LABEL`."""
        return {
            "id": self.id,
            "time": self.time,
            "generator": {"name": self.generator, "version": self.version},
            "model": {"name": self.model, "sha256": self.model_sha256},
            "sources": {"portrait": self.portrait_sha256, **self.sources},
            "seed": self.seed,
            "options": dict(self.options),
        }


def declare(
    model: str,
    model_sha256: str,
    photo: ImageSource,
    intent: Intent,
    sound: Any = None,
    drivers: Mapping[str, Any] | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Provenance:
    """The provenance of frames, before they are made.

    Args:
        model, model_sha256: of the release.
        photo: as of `media.image.open_photo`.
        intent: what the frames show.
        sound, drivers: paths, or arrays and trees of them; None is none.
        seed, options: of `Model.perform`; options become JSON values.

    Raises:
        UserError: a file that cannot be read.
    """
    given = {"sound": sound, **(drivers or {})}
    return Provenance(
        model=model,
        model_sha256=model_sha256,
        photo=_file_of(photo),
        sources={name: _digest_of(source) for name, source in given.items() if source is not None},
        seed=seed,
        options={name: _plain(value) for name, value in (options or {}).items()},
        intent=intent,
    )


def tags_of(provenance: Provenance) -> Tags:
    """The plain tags of a file of generated frames, to be written before it is sealed, with the manifest's id."""
    return Tags(source=TERMS[provenance.intent], identity=provenance.id)


def seal(path: str | os.PathLike, provenance: Provenance, signing: Signing | None = None) -> None:
    """Sign a file that is whole: MP4, M4V, MOV and PNG in place, MKV and WebM by a file NAME.c2pa beside it.

    Args:
        path: of the file; it is replaced as a whole, or not at all.
        provenance: what it says about itself.
        signing: what signs; None is the key of this machine.

    Raises:
        UserError: another kind of file, one that is none of its kind, a key that cannot be used, or where the system
            refuses.
    """
    import c2pa

    path = Path(path)
    _check_kind(path)
    signing = signing or own_signing()
    if not path.is_file():
        raise UserError(f"{path}: no such file; write it first, then seal it")
    if path.suffix.lower() in BESIDE:
        _seal_beside(path, path, provenance, signing)
        return
    with whole_file(path, c2pa.C2paError) as hidden:
        _sign(path, hidden, path.name, provenance, signing)


def sealer(provenance: Provenance, signing: Signing) -> Callable[[Path, Path], None]:
    """What a writer calls with a file that is whole under its hidden name, and the name that it is going to have.

    It raises what `seal` raises.
    """
    import c2pa

    def apply(hidden: Path, final: Path) -> None:
        _check_kind(final)
        if final.suffix.lower() in BESIDE:
            _seal_beside(hidden, final, provenance, signing)
            return
        signed = hidden.with_name(f"{PREFIX}sealing-{secrets.token_hex(4)}{final.suffix}")
        try:
            with refusals("seal", final, c2pa.C2paError):
                _sign(hidden, signed, final.name, provenance, signing)
                signed.replace(hidden)
        finally:
            signed.unlink(missing_ok=True)

    return apply


def sidecar_of(path: Path) -> Path:
    """The file beside a file that has its manifest."""
    return path.with_suffix(SIDECAR)


def check_sidecar(path: str | os.PathLike) -> None:
    """Refuse a file whose manifest would replace that of another file, before any work. Raises UserError."""
    path = Path(path)
    if path.suffix.lower() in BESIDE:
        for suffix in BESIDE:
            other = path.with_suffix(suffix)
            if other.name != path.name and other.exists():
                raise UserError(f"{sidecar_of(path)} belongs to {other} already; name {path} otherwise")


def _seal_beside(source: Path, final: Path, provenance: Provenance, signing: Signing) -> None:
    """Write the sidecar of a file that is going to be `final`."""
    import c2pa

    check_sidecar(final)

    with whole_file(sidecar_of(final), c2pa.C2paError) as hidden:
        hidden.write_bytes(_sign(source, None, final.name, provenance, signing))


def _sign(source: Path, target: Path | None, title: str, provenance: Provenance, signing: Signing) -> bytes:
    """Write a signed copy, or where there is no target only give the manifest. Raises C2paError, OSError.

    It is done in a thread: signals strike the main one, and an exception in a function that c2pa calls to read a file
    would be lost and leave half a file that is signed as if it were whole.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_sign_patiently, source, target, title, provenance, signing).result()


def _sign_patiently(source: Path, target: Path | None, title: str, provenance: Provenance, signing: Signing) -> bytes:
    """Sign with a time stamp or, where the authority fails, without one."""
    import c2pa

    kind = KINDS[Path(title).suffix.lower()]
    try:
        return _sign_once(source, target, kind, _builder(title, provenance, signing))
    except c2pa.C2paError as error:
        if signing.stamp is None:
            raise
        _log.warning("%s has no time stamp: %s does not answer (%s)", title, signing.stamp, reason(error)[:200])
        unstamped = dataclasses.replace(signing, stamp=None)
        return _sign_once(source, target, kind, _builder(title, provenance, unstamped))


def _sign_once(source: Path, target: Path | None, kind: str, builder: Any) -> bytes:
    with open(source, "rb") as given:
        if target is None:
            builder.set_no_embed()
            return builder.sign(kind, given, _Nowhere())
        with open(target, "w+b") as signed:
            return builder.sign(kind, given, signed)


class _Nowhere(io.RawIOBase):
    """A file that forgets what it is given: c2pa copies a file even where it embeds nothing."""

    def __init__(self) -> None:
        self._at, self._size = 0, 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return b""

    def write(self, data: Any) -> int:
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at


@functools.lru_cache(maxsize=8)
def _context(signing: Signing) -> Any:
    return make_context(signing)


def _builder(title: str, provenance: Provenance, signing: Signing) -> Any:
    """The manifest, before it is signed."""
    import c2pa

    composite = provenance.intent != "created"
    actions: list[dict[str, Any]] = []
    if composite:
        actions.append({"action": "c2pa.placed", "parameters": {"ingredientIds": ["portrait"]}})
    assertions: list[dict[str, Any]] = [{"label": LABEL, "data": provenance.statement(), "created": True}]
    if provenance.intent != "drawn":
        actions.append({"action": "c2pa.watermarked.bound"})
        binding = {"alg": WATERMARK, "blocks": [{"scope": {}, "value": provenance.mark}]}
        assertions.append({"label": "c2pa.soft-binding", "data": binding, "created": True})
    assertions.append({"label": "c2pa.actions.v2", "data": {"actions": actions}, "created": True})
    manifest = {
        "claim_generator_info": [{"name": provenance.generator, "version": provenance.version}],
        "title": title,
        "assertions": assertions,
    }
    builder = c2pa.Builder(manifest, _context(signing))
    source = getattr(c2pa.C2paDigitalSourceType, SOURCE_TYPES[provenance.intent])
    builder.set_intent(c2pa.C2paBuilderIntent.CREATE, source)
    relation = "componentOf" if composite else "inputTo"
    ingredient = {"title": "the portrait", "relationship": relation, "label": "portrait"}
    kind = _picture_kind(provenance.photo)
    try:
        builder.add_ingredient({**ingredient, "format": kind}, kind, io.BytesIO(provenance.photo))
    except c2pa.C2paError:  # a picture that can be looked at is not always one that c2pa can follow
        kind = "application/octet-stream"
        builder.add_ingredient({**ingredient, "format": kind}, kind, io.BytesIO(provenance.photo))
    return builder


def _picture_kind(photo: bytes) -> str:
    import c2pa

    try:
        kind = Image.open(io.BytesIO(photo)).get_format_mimetype()
    except Exception:  # noqa: BLE001 (plugins raise anything, and the picture was read before)
        kind = None
    return kind if kind in c2pa.Reader.get_supported_mime_types() else "application/octet-stream"


def _check_kind(path: Path) -> None:
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path} cannot be sealed; only {', '.join(KINDS)} can")


def _file_of(photo: ImageSource) -> bytes:
    if isinstance(photo, str | os.PathLike):
        with refusals("read", photo):
            return Path(photo).read_bytes()
    drawn = io.BytesIO()
    Image.fromarray(open_photo(photo)).save(drawn, format="PNG", compress_level=1)
    return drawn.getvalue()


def _digest_of(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return file_digest(source)
    from vasa_jax.checkpoint import digest  # it brings JAX, which the detector does without

    return digest(source)


def _plain(value: Any) -> Any:
    """A JSON value that says what an option was, without names of places on this machine."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, os.PathLike):
        return Path(value).name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(part) for name, part in vars(value).items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        text = json.dumps([_plain(part) for part in value])  # c2pa's readers take lists of numbers for bytes
        if len(value) <= LONGEST_LIST:
            return text
        return f"{len(value)} values, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
    return type(value).__name__


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
