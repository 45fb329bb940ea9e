"""Videos that drive: small ones in many wrappings, damaged, without pictures, of absurd sizes and rates."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.hostile import sounds
from benchmarks.hostile.case import Box, Case, damaged, door, infer, pick
from benchmarks.hostile.pictures import png
from vasa_jax.doors.infer import _sound_of
from vasa_jax.media.video import read_rate, read_video

WRAPPINGS = (
    *(("mp4", "libx264"), ("matroska", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mjpeg"), ("mov", "png")),
    *(
        ("mpegts", "mpeg2video"),
        ("matroska", "ffv1"),
        ("gif", "gif"),
        ("flv", "flv"),
        ("mp4", "libx265"),
        ("nut", "rawvideo"),
    ),
)
SUFFIXES = ("mp4", "mov", "mkv", "webm", "avi", "m3u8", "gif", "")


def film(form: str, codec: str, frames: int, size: tuple[int, int] = (32, 24), rate: Fraction = Fraction(25)) -> bytes:
    """Some grey frames."""
    file = io.BytesIO()
    file.name = "a"
    with av.open(file, "w", format=form) as container:
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream: Any = container.add_stream(codec, rate=rate, options=quiet)
        stream.width, stream.height = size
        kinds = {"mjpeg": "yuvj420p", "png": "rgb24", "gif": "rgb8", "rawvideo": "yuv420p"}
        stream.pix_fmt = kinds.get(codec, "yuv420p")
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), i % 256, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    return file.getvalue()


def bomb(rng: np.random.Generator) -> tuple[bytes, str]:
    """A film of a few kB whose pictures are very large."""
    side = int(pick(rng, (5000, 9000, 16_000, 30_000)))
    file = io.BytesIO()
    file.name = "a"
    form = pick(rng, ("mov", "nut", "avi"))
    with av.open(file, "w", format=form) as container:
        stream: Any = container.add_stream("png", rate=25)
        declared = side if side < 10_000 and rng.random() < 0.5 else 32
        stream.width, stream.height, stream.pix_fmt = declared, declared, "rgb24"
        data = png(side, side, 8, 2)
        container.start_encoding()
        for i in range(3):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 25)
            container.mux(packet)
    return file.getvalue(), f"frames of {side}x{side} in {form}"


def made(rng: np.random.Generator) -> tuple[bytes, str]:
    """Films that somebody put together by hand."""
    way = pick(rng, ("bomb", "sound", "playlist", "png", "one", "rate", "empty"))
    if way == "bomb":
        return bomb(rng)
    if way == "sound":
        return sounds.packed(rng)
    if way == "playlist":
        return sounds.made(rng)
    if way == "png":
        return png(40, 48), "one picture"
    if way == "one":
        return film("mp4", "libx264", 1), "one frame"
    if way == "rate":
        rate = pick(rng, (Fraction(1, 1000), Fraction(90_000), Fraction(30_000, 1001)))
        return film("matroska", "libx264", 3, rate=rate), f"{rate} frames a second"
    return bytes(pick(rng, (0, 1, 100_000))), "zeros"


def case(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A video whose motion is wanted."""
    del seeds
    if rng.random() < 0.3:
        data, what = made(rng)
    else:
        form, codec = pick(rng, WRAPPINGS)
        data, what = film(form, codec, int(rng.integers(1, 12))), f"{codec} in {form}"
    if rng.random() < 0.6:
        data, how = damaged(rng, data)
        what = f"{what}, {how}"
    path = box.write(f"film.{pick(rng, SUFFIXES)}".rstrip("."), data)

    def read() -> None:
        assert read_rate(path) > 0
        for frame in read_video(path):
            assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        sound = _sound_of(str(path))
        for _ in sound.blocks() if sound else ():
            pass

    return Case(what, door("infer", read), command=infer("--driving", path, box), named=path.name)
