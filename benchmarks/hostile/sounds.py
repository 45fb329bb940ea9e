"""Sound: every width, rate and number of channels, damaged files, headers that lie, and samples that are none."""

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from benchmarks.hostile.case import Box, Case, damaged, door, infer, number, pick
from vasa_jax.media.audio import AudioReader

RATES = (1, 4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192_000, 384_000, 2**31 - 1)
FILES = (
    *(("WAV", sub) for sub in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM")),
    *(("WAV", sub) for sub in ("MS_ADPCM", "GSM610", "G721_32")),
    *(("FLAC", sub) for sub in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("AIFF", "PCM_16"), ("AU", "FLOAT"), ("CAF", "PCM_24"), ("W64", "PCM_16"), ("RF64", "PCM_16"), ("OGG", "VORBIS")),
    *(("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("VOC", "PCM_16"), ("SVX", "PCM_16"), ("NIST", "PCM_16")),
)
PACKED = (
    ("mp4", "aac"),
    ("matroska", "libopus"),
    ("webm", "libopus"),
    ("mpegts", "aac"),
    ("adts", "aac"),
    ("mov", "alac"),
)
SUFFIXES = ("wav", "mp3", "m4a", "flac", "ogg", "mp4", "aac", "webm", "raw", "m3u8", "")


def plain(rng: np.random.Generator) -> tuple[bytes, str]:
    """A file as libsndfile writes it."""
    form, sub = pick(rng, FILES)
    channels, rate = int(rng.integers(1, 10)), int(pick(rng, RATES))
    samples = rng.uniform(-0.5, 0.5, (int(pick(rng, (0, 1, 7, 2000))), channels))
    if form == "OGG":  # libsndfile itself crashes where its encoder cannot begin
        rate = min(rate, 192_000)
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, rate, subtype=sub, format=form)
    except (soundfile.LibsndfileError, ValueError, TypeError):
        channels, rate, file = 1, 8000, io.BytesIO()
        soundfile.write(file, samples[:, 0], rate, subtype="PCM_16", format="WAV")
        form, sub = "WAV", "PCM_16"
    return file.getvalue(), f"{form} {sub}, {channels} channels, {rate} Hz, {len(samples)} samples"


def packed(rng: np.random.Generator) -> tuple[bytes, str]:
    """A file as FFmpeg writes it."""
    form, codec = pick(rng, PACKED)
    file = io.BytesIO()
    file.name = "a"
    with av.open(file, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(next(iter(av.AudioResampler(stream.format.name).resample(frame)))))
        container.mux(stream.encode(None))
    return file.getvalue(), f"{codec} in {form}"


def wav(kind: int, channels: int, rate: int, bits: int, body: bytes, claimed: int | None = None) -> bytes:
    """A WAV file whose header says anything."""
    align = (channels * bits // 8) % 65536
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, (rate * align) % 2**32, align, bits)
    data = b"data" + struct.pack("<I", len(body) if claimed is None else claimed) + body
    return b"RIFF" + struct.pack("<I", 4 + len(head) + len(data)) + b"WAVE" + head + data


def made(rng: np.random.Generator) -> tuple[bytes, str]:
    """Files that somebody put together by hand."""
    way = pick(rng, ("floats", "doubles", "header", "claim", "joined", "playlist", "empty", "text", "boxes", "id3"))
    if way in ("floats", "doubles"):
        bad = pick(rng, (np.nan, np.inf, -np.inf, 1e30, 17.0, -1e-310, 32767.0))
        samples = rng.uniform(-0.5, 0.5, 4000).astype(np.float32 if way == "floats" else np.float64)
        samples[int(rng.integers(4000))] = bad
        return wav(3, 1, 16000, 8 * samples.itemsize, samples.tobytes()), f"{way} with {bad}"
    if way == "header":
        kind, bits = (
            pick(rng, (0, 1, 2, 3, 6, 7, 17, 49, 80, 85, 0xFFFE, 65535)),
            pick(rng, (0, 1, 7, 8, 12, 16, 32, 64, 255)),
        )
        channels, rate = pick(rng, (0, 1, 2, 8, 9, 64, 65535)), number(rng) % 2**32
        return wav(kind, channels, rate, bits, rng.bytes(4000)), f"header: {kind}, {channels}, {rate}, {bits}"
    if way == "claim":
        return wav(1, 1, 16000, 16, rng.bytes(4000), number(rng) % 2**32), "a length that is not true"
    if way == "joined":
        part = wav(1, 1, 8000, 16, bytes(int(rng.integers(0, 50)) * 2))
        return part * int(rng.integers(2, 20_000)), "files joined by the thousand"
    if way == "playlist":
        lists = (
            b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
            b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
            b"ffconcat version 1.0\nfile /etc/passwd\n",
            b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\nc=IN IP4 127.0.0.1\n",
            b"<?xml version='1.0'?><MPD type='static'><Period/></MPD>",
        )
        return pick(rng, lists), "a list of other files"
    if way == "empty":
        return bytes(pick(rng, (0, 1, 44, 100_000))), "zeros"
    if way == "boxes":
        return struct.pack(">I4s8s", 16, b"ftyp", b"isom\0\0\0\0") + struct.pack(">I4s", 8, b"free") * 100_000, "boxes"
    if way == "id3":
        return b"ID3\4\0\0" + bytes([127] * 4) + rng.bytes(1000), "a tag that never ends"
    return b"not a sound \x1b[31m" * int(rng.integers(1, 1000)), "text"


def case(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """A sound that is going to be spoken."""
    del seeds
    data, what = pick(rng, (plain, plain, packed, made))(rng)
    if rng.random() < 0.5:
        data, how = damaged(rng, data)
        what = f"{what}, {how}"
    path = box.write(f"sound.{pick(rng, SUFFIXES)}".rstrip("."), data)

    def read() -> None:
        for block in AudioReader(path):
            assert block.dtype == np.float32 and block.ndim == 1 and np.isfinite(block).all()

    return Case(what, door("infer", read), command=infer("--audio", path, box), named=path.name)
