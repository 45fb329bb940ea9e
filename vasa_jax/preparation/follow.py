"""Faces from frame to frame: one track is one face between two cuts, and never two people.

A tracked face is looked for in a square around its last place, three times its size, which makes the detector's camera
the same for every video and finds faces that are small in the whole picture. The whole picture is searched a few times
a second, and at once where there is no face. A face continues a track if it lies where the track was, has its size and
looks like it. Where another face comes within reach both tracks end: who is who is not guessed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vasa_jax.arrays import FPS
from vasa_jax.faces.landmarks import Face, Landmarker
from vasa_jax.preparation.config import PreparationConfig

AROUND = 3.0
"""Side of the square in sizes of the face. The detector takes a face that fills its picture for a near one, seen in
strong perspective, and turns it too little: yaw of the world's people by 1.6 at 1.6 sizes, 1.2 at 3."""
EVERY = 10
"""Frames between searches of the whole picture while there is a face."""
GROWTH = 1.25
"""Factor between the sizes of a face in two frames at most."""
THUMB = 24
"""Pixels of the small grey copy by which a face is known from one frame to the next."""
EYES = (33, 263)
"""Outer corners of both eyes."""
FIXED = 128
"""Pixels of the copy that sharpness and light are measured on."""


class Sighting(NamedTuple):
    """A face in one frame.

    face: points in pixels of the picture. square: left, top and side [pixels] of what the detector saw. thumb: a grey
    copy. sharpness: variance of the Laplacian. light: mean level, 0 to 255.
    """

    face: Face
    square: tuple[int, int, int]
    thumb: Float32[np.ndarray, "24 24"]
    sharpness: float
    light: float


class Piece(NamedTuple):
    """A candidate: one face in t pictures.

    track: its number in the video, from 0. start: number of the first picture. sightings: t of them, None where the
    face was missed; neither the first nor the last. others: bounds of the other faces, picture by picture.
    """

    track: int
    start: int
    sightings: tuple[Sighting | None, ...]
    others: tuple[tuple[tuple[float, float, float, float], ...], ...]


class _Track:
    def __init__(self, number: int, start: int, sighting: Sighting):
        self.number, self.start = number, start
        self.sightings: list[Sighting | None] = [sighting]
        self.others: list[tuple[tuple[float, float, float, float], ...]] = [()]
        self.last = sighting
        self.missing = 0


class Follower:
    """Gets pictures in order and tells which tracks came to an end."""

    def __init__(self, landmarker: Landmarker, config: PreparationConfig):
        """Start with no track."""
        self._landmarker, self._config = landmarker, config
        self._tracks: list[_Track] = []
        self._count = 0
        self._before: int | None = None
        self._searched = -(10**9)  # when the whole picture was searched
        self._parts = -(10**9)  # when its parts were
        self._same: tuple[np.ndarray, list[Sighting]] | None = None

    @property
    def reach(self) -> int:
        """Frames from the start of a piece until it is given out, at most."""
        return round((self._config.longest + self._config.shortest) * FPS) + self._config.most_missing + 2

    def push(self, number: int, picture: UInt8[np.ndarray, "h w 3"], cut: bool) -> list[Piece]:
        """The pieces that end before picture `number`, or with it."""
        ended: list[Piece] = []
        if cut or (self._before is not None and number != self._before + 1):
            ended += self.end()
        self._before = number
        seen = self._look(number, picture)
        kept: list[_Track] = []
        taken: set[int] = set()
        for track in self._tracks:
            near = [i for i, one in enumerate(seen) if self._apart(track.last, one) < self._config.reach]
            mine = [i for i in near if self._is_same(track.last, seen[i])]
            rivals = [
                o for o in self._tracks if o is not track and self._apart(track.last, o.last) < self._config.reach
            ]
            if len(near) > 1 or rivals:
                ended += self._close(track)
                taken.update(near)  # they begin anew once they are apart
            elif mine and mine[0] not in taken:
                track.sightings.append(seen[mine[0]])
                track.last, track.missing = seen[mine[0]], 0
                taken.add(mine[0])
                kept.append(track)
            elif near:
                ended += self._close(track)
            elif track.missing < self._config.most_missing:
                track.sightings.append(None)
                track.missing += 1
                kept.append(track)
            else:
                ended += self._close(track)
        for i, one in enumerate(seen):
            crowd = any(self._apart(one, other) < self._config.reach for other in seen if other is not one)
            if i not in taken and not crowd:
                kept.append(_Track(self._count, number, one))
                self._count += 1
        self._tracks = kept
        for track in kept:
            bounds = tuple(one.face.bounds for one in seen if one is not track.last)
            if len(track.others) < len(track.sightings):
                track.others.append(bounds)
            else:
                track.others[-1] = bounds
            if len(track.sightings) >= round((self._config.longest + self._config.shortest) * FPS):
                ended += self._split(track)
        return ended

    def seen(self) -> list[tuple[int, Sighting]]:
        """Numbers of the tracks that the last picture shows, and what it shows of them."""
        return [(track.number, track.last) for track in self._tracks if not track.missing]

    def end(self) -> list[Piece]:
        """The pieces of all tracks, which end here."""
        ended = [piece for track in self._tracks for piece in self._close(track)]
        self._tracks = []
        self._searched = self._parts = -(10**9)
        return ended

    def _look(self, number: int, picture: np.ndarray) -> list[Sighting]:
        """Each face once: those of tracks where they were, and others where the whole picture was searched."""
        if self._same is not None and self._same[0] is picture:
            return self._same[1]
        found: list[Sighting] = []

        def add(faces: list[tuple[Face, tuple[int, int, int]]]) -> None:
            for face, square in sorted(faces, key=lambda one: _off_centre(*one)):
                if all(_distance(face, other.face) > 0.25 for other in found):
                    found.append(_sight(picture, face, square))

        squares = [square_around(track.last.face) for track in self._tracks]
        add([(face, square) for square in squares for face in look(self._landmarker, picture, square)])
        if not found or number - self._searched >= EVERY:
            self._searched = number
            faces = self._landmarker.detect(picture)
            if not faces and not found and number - self._parts >= self._config.search_every * FPS:
                self._parts = number
                faces = self._landmarker.find(picture)
            for face in faces:
                if all(_distance(face, other.face) > 0.25 for other in found):
                    square = square_around(face)
                    again = look(self._landmarker, picture, square)
                    add([(one, square) for one in again if _distance(one, face) < 0.25])
        self._same = picture, found
        return found

    def _apart(self, one: Sighting, other: Sighting) -> float:
        return _distance(one.face, other.face)

    def _is_same(self, one: Sighting, other: Sighting) -> bool:
        ratio = other.face.size / max(one.face.size, 1e-6)
        return 1 / GROWTH < ratio < GROWTH and likeness(one.thumb, other.thumb) >= self._config.least_likeness

    def _split(self, track: _Track) -> list[Piece]:
        """Give out the first part of a long track, and keep the rest."""
        length = round(self._config.longest * FPS)
        while length > 1 and (track.sightings[length - 1] is None or track.sightings[length] is None):
            length -= 1
        piece = _piece(track.number, track.start, track.sightings[:length], track.others[:length])
        track.start += length
        track.sightings, track.others = track.sightings[length:], track.others[length:]
        return [piece]

    def _close(self, track: _Track) -> list[Piece]:
        sightings, others = track.sightings, track.others
        while sightings[-1] is None:
            sightings = sightings[:-1]
        others = others[: len(sightings)]
        if len(sightings) <= round(self._config.longest * FPS):
            return [_piece(track.number, track.start, sightings, others)]
        half = len(sightings) // 2
        while half > 1 and (sightings[half - 1] is None or sightings[half] is None):
            half -= 1
        return [
            _piece(track.number, track.start, sightings[:half], others[:half]),
            _piece(track.number, track.start + half, sightings[half:], others[half:]),
        ]


def _piece(number: int, start: int, sightings: Sequence[Sighting | None], others: Sequence) -> Piece:
    return Piece(number, start, tuple(sightings), tuple(others))


def square_around(face: Face) -> tuple[int, int, int]:
    """Left, top and side of the square in which a face is looked for."""
    left, top, right, bottom = face.bounds
    side = max(16, round(AROUND * face.size))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def look(landmarker: Landmarker, picture: UInt8[np.ndarray, "h w 3"], square: tuple[int, int, int]) -> list[Face]:
    """The faces in a square of a picture, in the picture's pixels; beyond its edge, the edge is repeated."""
    left, top, side = square
    corner = np.array([left, top], np.float64)
    return [
        face._replace(points=face.points + corner) for face in landmarker.detect(cut_square(picture, left, top, side))
    ]


def cut_square(picture: UInt8[np.ndarray, "h w 3"], left: int, top: int, side: int) -> UInt8[np.ndarray, "n n 3"]:
    """A square of a picture; beyond its edge, the edge is repeated."""
    height, width = picture.shape[:2]
    inside = picture[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    if inside.shape[:2] == (side, side):
        return inside
    if not inside.size:
        rows, columns = (np.clip(np.arange(at, at + side), 0, n - 1) for at, n in ((top, height), (left, width)))
        return picture[rows[:, None], columns[None]]
    edges = (max(0, -top), max(0, top + side - height), max(0, -left), max(0, left + side - width))
    return cv2.copyMakeBorder(inside, *edges, cv2.BORDER_REPLICATE)


def likeness(one: Float32[np.ndarray, "24 24"], other: Float32[np.ndarray, "24 24"]) -> float:
    """Correlation of two grey copies, -1 to 1; flat ones are alike."""
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 1e-3 else 1.0


def _off_centre(face: Face, square: tuple[int, int, int]) -> float:
    (left, top, side), (a, b, c, d) = square, face.bounds
    return float(np.hypot(a + c - 2 * left - side, b + d - 2 * top - side)) / side


def _distance(one: Face, other: Face) -> float:
    """Between the middles of two faces, in sizes of the smaller one."""
    (a, b, c, d), (e, f, g, h) = one.bounds, other.bounds
    return float(np.hypot(a + c - e - g, b + d - f - h) / 2 / max(1e-6, min(one.size, other.size)))


def _sight(picture: np.ndarray, face: Face, square: tuple[int, int, int]) -> Sighting:
    left, top, right, bottom = face.bounds
    side = max(2, round(face.size))
    patch = cut_square(picture, round((left + right - side) / 2), round((top + bottom - side) / 2), side)
    way = cv2.INTER_AREA if side > FIXED else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(patch, (FIXED, FIXED), interpolation=way), cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    return Sighting(face, square, _thumb(picture, face), sharpness, float(grey.mean()))


def _thumb(picture: np.ndarray, face: Face) -> Float32[np.ndarray, "24 24"]:
    """Around the eyes and the nose, which the jaw does not move."""
    one, other = face.points[EYES[0]], face.points[EYES[1]]
    x, y = (one + other) / 2
    apart = float(np.hypot(*(other - one)))
    side = max(2, round(2 * apart))
    patch = cut_square(picture, round(x - side / 2), round(y + 0.3 * apart - side / 2), side)
    small = cv2.resize(patch, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
