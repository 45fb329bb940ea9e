"""Frames and the original sound to a video file or a folder of pictures, and a video file back to frames.

H.264 (yuv420p, BT.709) and AAC, which every browser and phone plays, or, in a .webm file, VP9 and Opus, which keep what
is transparent. The sound is decoded at its own rate with its own
channels and encoded beside the frames, up to the instant the frames have reached, so memory stays bounded and both
tracks end together. A file appears under its name only when it is complete: it grows under a hidden name beside the
target and is renamed at the end, or removed if anything fails. Every file says in its tags that it is generated
(`media.tags`).
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from jaxtyping import UInt8
from PIL import Image

from vasa_jax.arrays import FPS
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import check_target, whole_file, whole_folder
from vasa_jax.media.audio import AudioSource, Sound, open_sound
from vasa_jax.media.ffmpeg import PIXELS, open_container
from vasa_jax.media.parts import whole
from vasa_jax.media.tags import Tags

WEBM = ".webm"
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", WEBM)
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
OPUS_RATES = (48000, 24000, 16000, 12000, 8000)
H264 = {"preset": "veryfast", "crf": "18"}
VP9 = {"deadline": "realtime", "cpu-used": "6", "crf": "18", "b": "0"}
VP9_ALPHA = VP9 | {"auto-alt-ref": "0"}
"""Frames that are never shown and transparency do not go together."""
LARGEST = 4096
"""Pixels of the longest side of a frame: twice what players decode in hardware, and 1.4 GB for the encoder."""
Seal = Callable[[Path, Path], None]
"""Told of a file that is whole under a hidden name, and of the name that it gets when this returns; signs it."""
BT709 = 1  # the code of BT.709 in H.264's colour description (matrix, primaries and transfer alike)
LIMITED = 1  # luma 16 to 235


class VideoWriter:
    """Writes frames and sound into a video file; a context manager.

    ```
    with VideoWriter("talk.mp4", 25, 256, audio="speech.wav") as writer:
        for frame in frames:
            writer.write(frame)
    ```
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: int | Fraction = FPS,
        size: int | tuple[int, int] = 256,
        audio: AudioSource | Sound | None = None,
        *,
        alpha: bool = False,
        tags: Tags = Tags(),  # noqa: B008 (frozen)
        seal: Seal | None = None,
    ):
        """Checks everything; nothing is written before `with`.

        Args:
            path: the file, ending in .mp4, .m4v, .mov, .mkv or .webm; an existing file is replaced at the end.
            fps: frames a second.
            size: the side of square frames, or (height, width), in pixels, up to 4096. Both codecs colour pixels in
                pairs, so the last row or column of an odd size is left out.
            audio: the sound (see `media.audio.open_sound`) or None for a silent file. It is cut where the frames end.
            alpha: whether frames have a fourth channel, their opacity, which .webm keeps.
            tags: the file's.
            seal: signs the whole file before it gets its name (`provenance.sealer`).

        Raises:
            UserError: another suffix, a folder that is not there, transparency in another file than .webm, or a sound
                that cannot be read.
        """
        self.path = check_video_target(path)
        self._given = (*_check_size(size), 4 if alpha else 3)
        self.height, self.width = (length // 2 * 2 for length in self._given[:2])
        self._webm = self.path.suffix.lower() == WEBM
        if alpha and not self._webm:
            raise UserError(f"{path} cannot keep transparency, since H.264 knows none; name a .webm file or a folder")
        self.fps = Fraction(fps)
        self.sound = audio if isinstance(audio, Sound) or audio is None else open_sound(audio)
        self.tags = tags
        self.frames = 0
        self._seal = seal

    def __enter__(self) -> "VideoWriter":
        """Opens the hidden file. Raises UserError where it cannot be made."""
        self._whole = whole_file(self.path)
        self._hidden = self._whole.__enter__()
        try:
            with self._refusals():
                self._open(self._hidden)
        except BaseException:
            _abandon(self._whole)
            raise
        return self

    def _refusals(self) -> contextlib.AbstractContextManager[None]:
        return refusals("write", self.path, FFmpegError)

    def _open(self, hidden: Path) -> None:
        alpha = self._given[2] == 4
        self._boxes = self.path.suffix.lower() not in (".mkv", WEBM)
        options = {"movflags": "+faststart+use_metadata_tags"} if self._boxes else {}
        self._container = av.open(f"file:{hidden}", "w", options=options)
        self._container.metadata.update(self.tags.named())
        if self._webm:
            video = self._container.add_stream("libvpx-vp9", rate=self.fps, options=VP9_ALPHA if alpha else VP9)
        else:
            video = self._container.add_stream("libx264", rate=self.fps, options=H264)
        self._kind = "yuva420p" if alpha else "yuv420p"
        video.width, video.height, video.pix_fmt = self.width, self.height, self._kind
        if alpha:
            video.metadata["alpha_mode"] = "1"  # players look for a second picture by it
        video.codec_context.time_base = 1 / self.fps
        describe_colours(video.codec_context)
        self._video = video
        if self.sound is not None:
            codec, rates = ("libopus", OPUS_RATES) if self._webm else ("aac", AAC_RATES)
            rate = self.sound.rate if self.sound.rate in rates else 48000
            layout = "mono" if self.sound.channels == 1 else "stereo"
            self._audio = self._container.add_stream(codec, rate=rate, layout=layout)
            self._audio.bit_rate = min(128_000, 4 * rate) * min(self.sound.channels, 2)
            self._blocks = self.sound.blocks()
            self._waiting = np.zeros((0, self.sound.channels), np.float32)
            self._heard = 0
        self._container.start_encoding()  # opens the file now, so that a target that cannot be written fails at once

    def write(self, frame: np.ndarray) -> None:
        """Appends one frame, uint8 (height, width, 3 or 4), and the sound up to its end.

        Raises:
            UserError: another shape or dtype, or a sound that turns out to be damaged.
        """
        _check_frame(frame, self._given)
        picture = picture_of(frame[: self.height, : self.width], self._kind)
        picture.pts, picture.time_base = self.frames, 1 / self.fps
        with self._refusals():
            self._container.mux(self._video.encode(picture))
        self.frames += 1
        if self.sound is not None:
            self._write_sound(round(self.frames * self.sound.rate / self.fps))

    def _write_sound(self, until: int) -> None:
        """Encodes the sound up to sample `until` (or its end)."""
        assert self.sound is not None
        while self._heard < until:
            if not len(self._waiting):
                block = next(self._blocks, None)
                if block is None:
                    return
                self._waiting = block
            part, self._waiting = np.split(self._waiting, [until - self._heard])
            packed = np.ascontiguousarray(part).reshape(1, -1)  # PyAV counts the planes of eight channels wrongly
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=self.sound.layout)
            frame.sample_rate = self.sound.rate
            frame.pts, frame.time_base = self._heard, Fraction(1, self.sound.rate)
            with self._refusals():
                self._container.mux(self._audio.encode(frame))
            self._heard += len(part)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes the file and gives it its name, or removes it after an error (or where no frame was written)."""
        try:
            if kind is None and not self.frames:
                raise UserError(f"{self.path} was not written: there was no frame")
            if kind is None:
                with self._refusals():
                    self._container.mux(self._video.encode(None))
                    if self.sound is not None:
                        self._container.mux(self._audio.encode(None))
                    self._container.close()
                    if self._boxes:
                        with open(self._hidden, "ab") as file:
                            file.write(self.tags.box())
                if self._seal is not None:
                    self._seal(self._hidden, self.path)
                self._whole.__exit__(None, None, None)
        except BaseException:
            self._end()
            raise
        if kind is not None:
            self._end()
        elif self.sound is not None:
            self._blocks.close()

    def _end(self) -> None:
        if self.sound is not None:
            self._blocks.close()
        with contextlib.suppress(FFmpegError, OSError):  # a full disk fails once more; the first error is under way
            self._container.close()
        _abandon(self._whole)


def describe_colours(context: Any) -> None:
    """Tells an encoder in what colours it gets its pictures."""
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED


def picture_of(frame: UInt8[np.ndarray, "h w c"], kind: str) -> Any:
    """A frame, with its opacity where it has four channels, as encoders want it: in FFmpeg's pixel format `kind`."""
    whole = np.ascontiguousarray(frame)
    return av.VideoFrame.from_ndarray(whole, format="rgb24" if whole.shape[2] == 3 else "rgba").reformat(
        format=kind,
        dst_colorspace="ITU709",
        dst_color_range="MPEG",
        dst_color_trc=BT709,
        dst_color_primaries=BT709,
        interpolation="BICUBIC",
    )


class FrameWriter:
    """Writes numbered PNG pictures into a folder that appears only when it is complete.

    A context manager like `VideoWriter`.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        size: int | tuple[int, int] = 256,
        *,
        alpha: bool = False,
        tags: Tags = Tags(),  # noqa: B008 (frozen)
        seal: Seal | None = None,
    ):
        """Checks everything; nothing is written before `with`.

        Args:
            path: the folder to make; it must not exist, or be empty.
            size: the side of square frames, or (height, width), in pixels, at most 4096.
            alpha: whether frames have a fourth channel, their opacity.
            tags: of every picture.
            seal: signs each picture before the folder gets its name.

        Raises:
            UserError: the folder holds files already, or its parent is not there.
        """
        self.path = check_frame_folder(path)
        self.height, self.width = _check_size(size)
        self._given = (self.height, self.width, 4 if alpha else 3)
        self.frames = 0
        self._seal = seal
        self._tags = tags.png()

    def __enter__(self) -> "FrameWriter":
        """Makes the hidden folder. Raises UserError where it cannot be made."""
        self._whole = whole_folder(self.path)
        self._hidden = self._whole.__enter__()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Writes one frame, uint8 (height, width, 3 or 4), as 000000.png and so on.

        Raises UserError for another shape or dtype.
        """
        _check_frame(frame, self._given)
        name = f"{self.frames:06d}.png"
        with refusals("write", self.path):
            Image.fromarray(frame).save(self._hidden / name, pnginfo=self._tags, compress_level=1)
        if self._seal is not None:
            self._seal(self._hidden / name, self.path / name)
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the folder its name, or removes it after an error (or where no frame was written)."""
        if kind is None and self.frames:
            self._whole.__exit__(None, None, None)
            return
        _abandon(self._whole)
        if kind is None:
            raise UserError(f"{self.path} was not written: there was no frame")


def check_video_target(path: str | os.PathLike) -> Path:
    """The path itself, after checks before any work. Raises UserError as `VideoWriter`."""
    target = check_target(path)
    if target.suffix.lower() not in VIDEO_SUFFIXES:
        raise UserError(f"{path} must end in one of {', '.join(VIDEO_SUFFIXES)}")
    if target.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file")
    return target


def check_frame_folder(path: str | os.PathLike) -> Path:
    """The path itself, after checks before any work. Raises UserError as `FrameWriter`."""
    target = check_target(path)
    if os.path.exists(target) and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists and is not an empty folder; remove it or name another")
    return target


def is_frame_folder(path: str | os.PathLike) -> bool:
    """Whether an output path means a folder of PNG pictures: it ends in a slash, is a folder, or has no suffix."""
    text = os.fspath(path)
    return text.endswith(("/", os.sep)) or os.path.isdir(text) or not Path(text).suffix


def read_video(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """Yields the frames of a video file, uint8 (height, width, 3) RGB, one at a time, upright as the file asks.

    Raises:
        UserError: no such file, no video in it, or frames of more than 40 million pixels.
    """
    with _open_video(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            turns = round(frame.rotation / 90) % 4  # telephones store how they were held
            yield np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def read_rate(path: str | os.PathLike) -> Fraction:
    """Frames a second of a video file, on average. Raises UserError as `read_video`, or where the file does not say."""
    with _open_video(path) as container:
        rate = container.streams.video[0].average_rate
    if not rate:
        raise UserError(f"{path} does not say how many frames a second it shows; convert it to an .mp4 file")
    return Fraction(rate.numerator, rate.denominator)  # PyAV has a class of its own


@contextlib.contextmanager
def _open_video(path: str | os.PathLike) -> Iterator[InputContainer]:
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such video file")
    try:
        with open_container(whole(path)) as (container, _):
            if not container.streams.video:
                raise UserError(f"{path} holds no video")
            video = container.streams.video[0]
            if video.width * video.height > PIXELS:
                raise UserError(
                    f"{path} has frames of {video.width}x{video.height} pixels; at most {PIXELS // 1_000_000} million "
                    "are read: make the video smaller"
                )
            yield container
    except FFmpegError as error:
        raise UserError(f"{path} is not a video that PyAV can read ({error.strerror})") from error


def _abandon(whole: contextlib.AbstractContextManager[Path]) -> None:
    """End the writing of a whole file or folder without it; what failed is told elsewhere."""
    whole.__exit__(RuntimeError, RuntimeError("abandoned"), None)


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if height < 2 or width < 2:
        raise UserError(f"frames of {width}x{height} pixels are too small to write")
    if max(height, width) > LARGEST:
        raise UserError(f"frames of {width}x{height} pixels are too large to write; at most {LARGEST} a side")
    return height, width


def _check_frame(frame: np.ndarray, shape: tuple[int, ...]) -> None:
    if frame.dtype != np.uint8 or frame.shape != shape:
        raise UserError(f"a frame is {frame.dtype} {frame.shape}; the writer was opened for uint8 {shape}")
