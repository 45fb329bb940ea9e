"""What a file says about itself, and whether that still holds: the detector that anyone may ask, for nothing.

It reads the signed manifest (inside the file or in NAME.c2pa beside it), the watermark and the tags. Only the manifest
proves something: it is intact where the file is byte for byte what was signed. Who signed is a second question; a
certificate is trusted where it leads to one of those that the reader trusts, and the reader says which. A file without
a manifest may be generated all the same: whoever wants to takes it out, as every re-encoding does.
"""

import contextlib
import dataclasses
import itertools
import json
import mmap
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.media.tags import AIGC, PACKET, identity_of, read_named
from vasa_jax.provenance.credentials import BESIDE, KINDS, LABEL, WATERMARK, sidecar_of

LOOKED_AT = 50
"""Frames of a video in which a watermark is looked for: 2 s."""
PIXELS = 110_000_000
"""Of all these frames together, which are 2 s of 1080p; of larger ones, fewer are looked at."""
SMALLEST = 48
"""Pixels of the shorter side below which none can be read."""

Verdict = Literal["marked", "not marked", "altered"]
GENERATED = re.compile(r"/(trainedAlgorithmicMedia|compositeWithTrainedAlgorithmicMedia|algorithmicMedia)$")
"""Digital source types that mean generated pictures or sound."""
UNTRUSTED = "signingCredential.untrusted"
"""The one complaint that does not speak of the file."""
REMAINS = (b"jumdc2pa", b"c2pa.assertions", b"c2pa.signature", b"c2pa.claim")
"""What is left of a manifest that is too damaged to be found; one changed byte leaves most of it."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What is known of a file.

    Attributes:
        file: its path.
        verdict: "marked": a manifest that is intact says that it is generated; "altered": there was a manifest, and the
            file or the manifest was changed since, or another one was put in its place; else "not marked".
        manifest: whether there is one.
        intact: whether it and the file are as they were signed; None without one.
        trusted: whether the certificate leads to a trusted one; None without a manifest that is intact.
        signer: whom the certificate names.
        stamped: time of the signature by a time stamp authority, or None.
        source_type: the kind of media that the manifest states (IPTC), or None.
        generator: what made the file, by its own words.
        statement: what this project's files say beside that (`credentials.Provenance.statement`).
        watermark_named: the number that the pixels carry by the manifest's words.
        watermark_found: the number that was found in the pixels; None where none was, or none was looked for.
        tags: plain ones, of the container or an XMP packet in it (`media.tags`).
        problems: what is wrong, in C2PA's words.
    """

    file: str
    verdict: Verdict
    manifest: bool = False
    intact: bool | None = None
    trusted: bool | None = None
    signer: str | None = None
    stamped: str | None = None
    source_type: str | None = None
    generator: str | None = None
    statement: dict[str, Any] = dataclasses.field(default_factory=dict)
    watermark_named: str | None = None
    watermark_found: str | None = None
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()


def examine(path: str | os.PathLike, trust: str = "") -> Report:
    """Look at one file.

    Args:
        path: a video or a picture.
        trust: certificates (PEM) that the reader trusts; none are without.

    Raises:
        UserError: no such file, or one that is neither a video nor a picture.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a video, a picture, or a folder of pictures")
    tags = read_tags(path)
    try:
        read = _read(path, trust)
    except _DamagedError as damage:
        return Report(str(path), "altered", True, False, tags=tags, problems=(str(damage),))
    found = find_watermark(path)
    if read is None:
        if found is None or found == _named_by_tags(tags):  # a live stream has no credentials that could be gone
            return Report(str(path), "not marked", watermark_found=found, tags=tags)
        return Report(str(path), "altered", watermark_found=found, tags=tags, problems=("its credentials are gone",))
    manifest, state, problems = read
    if state == "Invalid":  # then nothing in it counts
        return Report(str(path), "altered", True, False, watermark_found=found, tags=tags, problems=problems)
    signature, makers = _object(manifest.get("signature_info")), _objects(manifest.get("claim_generator_info"))
    said = {str(entry.get("label")): _object(entry.get("data")) for entry in _objects(manifest.get("assertions"))}
    actions = [
        part for label in said if label.startswith("c2pa.actions") for part in _objects(said[label].get("actions"))
    ]
    types = [kind for action in actions if isinstance(kind := action.get("digitalSourceType"), str)]
    maker = makers[0] if makers else {}
    named = _named(said)
    verdict: Verdict = "marked" if any(GENERATED.search(kind) for kind in types) else "not marked"
    if found is not None and found != named:
        verdict, problems = "altered", ("its pixels come from another file than its credentials",)
    return Report(
        str(path),
        verdict,
        True,
        True,
        state == "Trusted",
        signature.get("common_name") or signature.get("issuer"),
        signature.get("time"),
        types[0] if types else None,
        " ".join(str(maker[name]) for name in ("name", "version") if maker.get(name)) or None,
        said.get(LABEL, {}),
        named,
        found,
        tags,
        problems,
    )


def files_of(path: str | os.PathLike) -> Iterator[Path]:
    """A file itself, or those in a folder that can carry a manifest. Raises UserError for a folder without any."""
    path = Path(path)
    if not path.is_dir():
        yield path
        return
    found = [inside for inside in sorted(path.iterdir()) if inside.suffix.lower() in KINDS and inside.is_file()]
    if not found:
        raise UserError(f"the folder {path} holds no video and no picture ({', '.join(KINDS)})")
    yield from found


def find_watermark(path: Path) -> str | None:
    """The number that a watermark in the pixels carries, in hexadecimal; None where none is found.

    Of a video its first `LOOKED_AT` frames are looked at.
    """
    import numpy as np
    from av.error import FFmpegError

    from vasa_jax.media.ffmpeg import open_container
    from vasa_jax.media.parts import whole

    try:
        with open_container(whole(path)) as (container, _):
            video = container.streams.video[0]
            if video.codec_context is None:  # of a codec that this FFmpeg does not know
                return None
            most = min(LOOKED_AT, PIXELS // max(1, video.width * video.height))
            decoded = itertools.islice(container.decode(video), most)
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
    except (FFmpegError, IndexError, ValueError):  # damaged, or no picture at all
        return None
    if min(frames.shape[1:3]) < SMALLEST:
        return None
    from vasa_jax.provenance.watermark import detect

    mark = detect(frames).mark
    return None if mark is None else f"{mark:08x}"


def read_tags(path: Path) -> dict[str, str]:
    """Plain tags, by the names of `media.tags` in lower letters; none where there are none or a file cannot be read.

    Anyone can write them.
    """
    from PIL import Image

    from vasa_jax.media.ffmpeg import open_container
    from vasa_jax.media.parts import whole

    found: dict[Any, Any] = {}
    with contextlib.suppress(Exception), warnings.catch_warnings():  # whatever a damaged file makes of a library
        warnings.simplefilter("ignore")
        if path.suffix.lower() in (".mp4", ".m4v", ".mov", ".mkv", ".webm"):
            with open_container(whole(path)) as (container, _):
                found = dict(container.metadata)
        else:
            with Image.open(path) as picture:
                found = dict(picture.info)
    words = {str(name): value for name, value in found.items() if isinstance(value, str)}
    return read_named(words, words.get("xmp") or words.get(PACKET, ""))


def sentences(report: Report) -> Iterator[str]:
    """A report in plain words, a line each."""
    for line in _sentences(report):  # whoever made the file may have put anything into it
        yield "".join(letter if letter.isprintable() else "?" for letter in line)


def _sentences(report: Report) -> Iterator[str]:
    yield f"{report.file}: {report.verdict}"
    if not report.manifest:
        live = report.watermark_found is not None and report.watermark_found == _named_by_tags(report.tags)
        yield "  credentials: none" + (", as of a live stream, which cannot be signed" if live else "")
    elif not report.intact:
        yield f"  credentials: there, and the file or they were changed since ({'; '.join(report.problems)})"
    else:
        who = f"signed by {report.signer or 'a signer without a name'}"
        trust = "whom you trust" if report.trusted else "whose certificate is not trusted: anyone can make such a one"
        yield f"  credentials: intact, {who}, {trust}"
        yield f"  time stamp: {report.stamped or 'none'}"
    if report.intact:
        kind = (report.source_type or "nothing about how it was made").rpartition("/")[2]
        yield f"  says: {kind}, by {report.generator or 'an unnamed generator'}"
        if model := _object(report.statement.get("model")):
            yield f"  model: {model.get('name')} (sha256 {str(model.get('sha256'))[:16]}...)"
        if identity := report.statement.get("id"):
            yield f"  id: {identity}, {report.statement.get('time')} by its maker's clock"
    yield f"  watermark: {_watermark_words(report)}"
    words = "; ".join(f"{name} {value!r}" for name, value in report.tags.items())
    yield f"  tags: {words or 'none'}"


def _watermark_words(report: Report) -> str:
    named, found = report.watermark_named, report.watermark_found
    if found is None:
        return f"the credentials name {named}; none was found" if named else "none was found"
    if named is None:
        who = "as its tags say" if found == _named_by_tags(report.tags) else "and no credentials name it"
        return f"{found} was found, {who}"
    return (
        f"{found} was found, as the credentials say" if found == named else f"{found} was found, not {named} as named"
    )


def _named_by_tags(tags: dict[str, str]) -> str:
    """The number in a stream's pixels by the words of its tags."""
    return identity_of(tags.get(AIGC.lower(), ""))


class _DamagedError(Exception):
    """There was a manifest, and it can no longer be read."""


def _read(path: Path, trust: str) -> tuple[dict[str, Any], str, tuple[str, ...]] | None:
    """The active manifest, its state and complaints; None without one. Raises _DamagedError, UserError."""
    import c2pa

    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    if trust:
        settings["trust"] = {"user_anchors": trust}
    kind = KINDS.get(path.suffix.lower(), path.suffix.lower().removeprefix("."))
    beside = None
    if path.suffix.lower() in BESIDE:
        side = sidecar_of(path)
        if not side.is_file():
            _check_matroska(path)
            return None
        with refusals("read", side):
            beside = side.read_bytes()
    elif kind not in c2pa.Reader.get_supported_mime_types():
        raise UserError(f"{path} is neither a video nor a picture that can carry credentials; name another file")
    context = c2pa.Context.from_dict(settings)
    try:
        with refusals("read", path), open(path, "rb") as file, c2pa.Reader(kind, file, beside, context) as reader:
            told = json.loads(reader.json())
            state = str(reader.get_validation_state())
    except c2pa.C2paError as error:
        if beside is not None or _has_remains(path):
            raise _DamagedError(reason(error)[:200]) from error
        if isinstance(error, c2pa.C2paError.ManifestNotFound):  # pyright: ignore[reportAttributeAccessIssue]
            return None
        raise UserError(
            f"{path} cannot be read ({reason(error)[:200]}); it is damaged, or not what it is called"
        ) from error
    manifest = (told.get("manifests") or {}).get(told.get("active_manifest"))
    if manifest is None:
        raise _DamagedError("its store of manifests names none as active")
    failures = ((told.get("validation_results") or {}).get("activeManifest") or {}).get("failure") or []
    problems = [str(entry.get("explanation") or entry.get("code")) for entry in failures if entry["code"] != UNTRUSTED]
    return manifest, state, tuple(dict.fromkeys(problems))


def _check_matroska(path: Path) -> None:
    with refusals("read", path), open(path, "rb") as file:
        if file.read(4) != b"\x1aE\xdf\xa3":
            raise UserError(f"{path} is no Matroska or WebM video; name another file")


def _has_remains(path: Path) -> bool:
    if not path.stat().st_size:
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(mark) >= 0 for mark in REMAINS)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _named(said: dict[str, Any]) -> str | None:
    for label, data in said.items():
        if label.startswith("c2pa.soft-binding") and data.get("alg") == WATERMARK:
            return next((str(block["value"]) for block in _objects(data.get("blocks")) if "value" in block), None)
    return None
