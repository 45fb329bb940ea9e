"""Files whose manifests are damaged, exchanged, taken from another file, or lead elsewhere, for the detector."""

import struct
from pathlib import Path

import numpy as np

from benchmarks.hostile import pictures, sounds, videos
from benchmarks.hostile.case import Box, Case, damaged, number, pick
from vasa_jax.provenance.__main__ import main

SEALED = ("a.png", "a.mp4", "a.mov", "a.webm", "c.mkv", "b.mp4")
SUFFIXES = (
    ".png",
    ".jpg",
    ".mp4",
    ".webm",
    ".mkv",
    ".mov",
    ".avif",
    ".heic",
    ".webp",
    ".svg",
    ".pdf",
    ".c2pa",
    ".gif",
    "",
)


def jumbf(rng: np.random.Generator, depth: int) -> bytes:
    """Boxes in boxes."""
    body = b"\0\0\0\x1ejumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\x03c2pa\0"
    for _ in range(depth):
        size = len(body) + 8 if rng.random() < 0.9 else number(rng) % 2**32
        body = struct.pack(">I", size) + b"jumb" + body
    return body


def case(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A file about which the detector is asked."""
    way = pick(rng, ("sealed", "sealed", "sealed", "manifest", "manifest", "boxes", "link", "side", "other"))
    name = pick(rng, SEALED)
    data, what = (seeds / name).read_bytes(), f"{way}, {name}"
    side = seeds / f"{Path(name).stem}.c2pa"
    if way == "sealed":
        data, how = damaged(rng, data)
        what = f"{what}, {how}"
    elif way == "manifest":
        name = pick(rng, ("a.png", "a.mp4"))
        data = (seeds / name).read_bytes()
        at = data.find(b"jumb") + int(rng.integers(0, 6000))
        piece, how = damaged(rng, data[at : at + 400])
        data, what = data[:at] + piece + data[at + 400 :], f"manifest of {name}, {how}"
    elif way == "boxes":
        boxes = jumbf(rng, int(pick(rng, (1, 3, 200, 20_000))))
        if rng.random() < 0.5:
            data, name = pictures.png(40, 48, more=pictures.chunk(b"caBX", boxes)), "a.png"
        else:
            head = (
                b"\xd8\xfe\xc3\xd6\x1b\x0e\x48\x3c\x92\x97\x58\x28\x87\x7e\xc4\x81"
                + bytes(4)
                + b"manifest\0"
                + bytes(8)
            )
            data, name = data + struct.pack(">I", len(boxes) + len(head) + 8) + b"uuid" + head + boxes, "a.mp4"
    elif way == "link":
        link = b"http://127.0.0.1:9/a.c2pa"
        xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf="
        xmp += (
            b"'http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description xmlns:dcterms='http://purl.org/dc/terms/' "
        )
        xmp += b"dcterms:provenance='" + link + b"'/></rdf:RDF></x:xmpmeta>"
        data, name = pictures.png(40, 48, more=pictures.chunk(b"iTXt", xmp)), "a.png"
    elif way == "other":
        make = pick(rng, (pictures.made, sounds.made, sounds.plain, videos.made))
        data, what = make(rng)
        name = f"a{pick(rng, SUFFIXES)}"
    path = box.write(name, data)
    if Path(name).suffix in (".webm", ".mkv") and rng.random() < 0.8:
        beside = side.read_bytes() if side.is_file() else b""
        if way == "side" or rng.random() < 0.3:
            beside, how = damaged(rng, beside)
            what = f"{what}, and beside it {how}"
        box.write(f"{Path(name).stem}.c2pa", beside)
    arguments = [str(path), *pick(rng, ([], ["--json"]))]
    command = ("-m", "vasa_jax.provenance", *arguments)
    return Case(what, lambda: main(arguments), (0, 1, 3), command, path.name)
