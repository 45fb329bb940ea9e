"""Sound files of any kind, read to their end: libsndfile for plain samples, FFmpeg for the rest.

Each part of a file (`media.parts`) is offered to its readers in turn, and the first one that finds samples reads it, so
that the refusal of one is never the last word. Where the rate or the number of channels changes on the way, everything
gets the highest rate and the most channels that any part begins with.
"""

import contextlib
import functools
import itertools
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import soundfile

from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.media.ffmpeg import audio_streams, open_with_ffmpeg
from vasa_jax.media.mixing import BLOCK, regrouped, remixed, resampled
from vasa_jax.media.parts import Part, parts
from vasa_jax.media.reader import Piece, Reader, Refused, standard_layout

JOINED = 500
"""Files that one may be joined of."""
APART = 50
"""How many times as high the highest rate of the parts of a file may be as any other."""
_PLAIN = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"caff", b".snd")
_DISGUISED = ("ac3", "eac3", "dca")
"""Codecs that hide in a WAV file as if they were samples."""
_HEADERLESS = (".raw", ".pcm", ".sw", ".s16", ".s16le", ".f32", ".ul", ".ulaw", ".al", ".alaw", ".g726", ".bin")


def open_sound_file(path: Path) -> Reader:
    """Opens a sound file, whose pieces all have the reader's rate and channels, and BLOCK samples but for the last.

    Raises:
        UserError: it holds no sound, or one that neither library reads; also while it is read, where it turns out to be
            damaged.
    """
    try:
        with refusals("read", path):
            joined = parts(path)
            if len(joined) > JOINED:
                raise Refused(f"was joined of {len(joined)} files; at most {JOINED} can be read: join them anew as one")
            readers = [_open_part(part) for part in joined]
    except Refused as error:
        raise UserError(f"{path} {error}{_advice(path)}") from error
    rate = max(reader.rate for reader in readers)
    widest = max(readers, key=lambda reader: reader.channels)
    durations = [reader.duration for reader in readers if reader.duration is not None]

    def pieces() -> Generator[Piece, None, None]:
        try:
            with refusals("read", path):
                joined = itertools.chain.from_iterable(reader.pieces() for reader in readers)
                for block in regrouped(_alike(joined, rate, widest.channels), BLOCK):
                    yield block, rate, widest.layout
        except Refused as error:
            raise UserError(f"{path} {error}") from error

    duration = sum(durations) if len(durations) == len(readers) else None
    return Reader(rate, widest.layout, widest.channels, duration, pieces)


def _alike(pieces: Iterable[Piece], rate: int, channels: int) -> Iterator[np.ndarray]:
    """The samples of pieces at one rate with the same number of channels."""
    for (was, layout, count), run in itertools.groupby(pieces, lambda piece: (piece[1], piece[2], piece[0].shape[1])):
        if rate > APART * was:
            raise Refused(f"goes on with {was} samples a second after {rate}; convert its parts to one rate")
        blocks = (samples for samples, *_ in run)
        if count != channels:
            blocks = remixed(blocks, was, layout, channels)
        yield from resampled(blocks, was, rate, channels)


def _advice(path: Path) -> str:
    if path.suffix.lower() in _HEADERLESS:
        return "; samples without a header need one: ffmpeg -f s16le -ar RATE -ac CHANNELS -i IN OUT.wav, for 16 bits"
    return ""


def _open_part(part: Part) -> Reader:
    """The first reader that finds samples in a part; else the first that opens it. Raises Refused."""
    streams, complaints = [], []
    try:
        streams = audio_streams(part)
    except Refused as error:
        complaints.append(error)
    attempts = [functools.partial(open_with_ffmpeg, part, index) for index, _ in streams]
    plain = _is_plain(part) and not any(codec in _DISGUISED for _, codec in streams)
    attempts.insert(0 if plain else len(attempts), functools.partial(_open_with_libsndfile, part))
    empty: Reader | None = None
    for attempt in attempts:
        try:
            reader = attempt()
            if next(reader.pieces(), None) is not None:
                return reader
            empty = empty or reader
            if plain:  # its length is right, so there are no samples
                break
        except Refused as error:
            complaints.append(error)
    if empty is None:
        raise complaints[0]
    return empty


def _is_plain(part: Part) -> bool:
    """Whether libsndfile reads a part as mono or stereo samples (it cannot say which more channels are)."""
    try:
        with part.open() as raw:
            if raw.read(4) not in _PLAIN:
                return False
        with _libsndfile(part) as file:
            return file.channels <= 2 and not file.subtype.startswith("MPEG")
    except (soundfile.LibsndfileError, TypeError):
        return False


@contextlib.contextmanager
def _libsndfile(part: Part) -> Iterator[soundfile.SoundFile]:
    with part.open() as raw, soundfile.SoundFile(cast(BinaryIO, raw)) as file:
        yield file


def _open_with_libsndfile(part: Part) -> Reader:
    try:
        with _libsndfile(part) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a suffix that stands for no header
        raise Refused(f"is not a sound that libsndfile can read ({reason(error)})") from error
    layout = standard_layout(channels)

    def pieces() -> Generator[Piece, None, None]:
        try:
            with _libsndfile(part) as file:
                while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                    yield block, rate, layout
        except soundfile.LibsndfileError as error:
            raise Refused(f"is damaged: {reason(error)}") from error

    return Reader(rate, layout, channels, frames / rate, pieces)
