"""Small sounds and files of them, made by the encoders that come with the readers."""

import io
import struct
from typing import Any, cast

import av
import numpy as np
import soundfile
from av.container import OutputContainer
from av.stream import Disposition


class Pipe(io.RawIOBase):
    """What a writer cannot come back to, as a pipe or a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += bytes(data)
        return len(data)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def loudest(samples: np.ndarray, rate: int = 16000) -> float:
    """The strongest frequency of the middle of a mono sound, in hertz."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle)))) * rate / len(middle)


def plain(samples: np.ndarray, rate: int, form: str = "WAV", subtype: str | None = None) -> bytes:
    """A file as libsndfile writes it; samples (n,) or (n, c)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def encode(
    samples: np.ndarray,
    rate: int,
    codec: str,
    form: str,
    *,
    piped: bool = False,
    options: dict[str, str] | None = None,
    layout: str | None = None,
    starts: tuple[tuple[float, int, int], ...] = (),
    picture: bool = False,
    beside: tuple[str, np.ndarray] | None = None,
) -> bytes:
    """A file as FFmpeg writes it.

    Args:
        samples: (n,) or (c, n).
        piped: whether the writer can go back to fill in lengths.
        starts: (seconds, first, last): samples first to last begin at that time; all at 0 if empty.
        picture: whether a second of video comes with it, from time 0.
        beside: codec and samples (n,) of a second stream of sound, which is the default.
    """
    samples = samples if samples.ndim == 2 else samples[None]
    layout = layout or {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    buffer = Pipe() if piped else io.BytesIO()
    with av.open(cast(Any, buffer), "w", format=form, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        if picture:
            video = container.add_stream("libx264", rate=25)
            assert isinstance(video, av.VideoStream)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            for _ in range(25):
                container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(video.encode(None))
        other = container.add_stream(beside[0], rate=rate, layout="mono") if beside else None
        if other is not None:
            stream.disposition, other.disposition = Disposition(0), Disposition.default
        for seconds, first, last in starts or ((0.0, 0, samples.shape[1]),):
            _mux(container, stream, samples[:, first:last], layout, round(seconds * rate))
        container.mux(stream.encode(None))
        if beside and isinstance(other, av.AudioStream):
            _mux(container, other, beside[1][None], "mono", 0)
            container.mux(other.encode(None))
    return bytes(buffer.data) if isinstance(buffer, Pipe) else buffer.getvalue()


def _mux(container: OutputContainer, stream: av.AudioStream, samples: np.ndarray, layout: str, start: int) -> None:
    packed = np.ascontiguousarray(samples.T).reshape(1, -1)  # PyAV counts the planes of eight channels wrongly
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate, frame.pts = stream.rate, start
    container.mux(stream.encode(frame))


def patched(data: bytes, offset: int, form: str, value: int) -> bytes:
    """A file with another number at an offset; `form` is of the struct module."""
    changed = bytearray(data)
    struct.pack_into(form, changed, offset, value)
    return bytes(changed)
