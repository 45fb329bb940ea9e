"""Portraits of a server: a few of its own, and visitors' uploads, which only their owner sees and which expire.

An upload is decoded in bounded memory: bytes are counted as they come, pixels before they are decoded, one picture is
decoded and opened at a time, and what is kept is small. Nothing of it but its pixels is kept, no name and no tags, and
it lies on no disk but for the moment of decoding.
"""

import contextlib
import dataclasses
import io
import secrets
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps
from pillow_heif import register_heif_opener

from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.media.image import open_photo, over_grey
from vasa_jax.synthetic.clip import shoot
from vasa_jax.synthetic.identity import identity_from_seed
from vasa_jax.synthetic.state import neutral_state

SEEDS = (4000000, 4000003, 4000006, 4000007, 4000012, 4000015)
"""Of the server's own portraits, people whom the demo model was not trained on."""
SIDE = 256
"""Pixels of these."""
LARGEST = 40_000_000
"""Pixels of the largest upload."""
KEPT = 1280
"""Pixels of the longest side that is kept of one."""
THUMB = 384
"""Pixels of the longest side of what is shown of one."""
EACH, ALL = 4, 32
"""Uploads that are kept of a visitor, and of all."""
IDLE = 900.0
"""Seconds without use after which an upload is forgotten."""


@dataclasses.dataclass(eq=False)
class Portrait:
    """A picture that can be animated. owner: None for the server's own. sitting: made when it is first needed."""

    id: str
    owner: str | None
    picture: UInt8[np.ndarray, "h w 3"]
    wishes: dict[str, Any]
    used: float
    sitting: Any = None

    def thumbnail(self) -> bytes:
        """A small JPEG picture."""
        shown, file = Image.fromarray(self.picture), io.BytesIO()
        shown.thumbnail((THUMB, THUMB))
        shown.save(file, "JPEG", quality=88)
        return file.getvalue()


class Portraits:
    """All that a server has; for any threads."""

    def __init__(
        self,
        sit: Callable[..., Any],
        own: Mapping[str, UInt8[np.ndarray, "h w 3"]],
        clock: Callable[[], float] = time.monotonic,
    ):
        """Keeps its own.

        Args:
            sit: the engine's: a picture and wishes to a sitting; raises UserError.
            own: square pictures by id, in which the face lies as a model sees it.
            clock: seconds.
        """
        self._sit, self._clock = sit, clock
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._all: dict[str, Portrait] = {}
        for id, picture in own.items():
            side = float(len(picture))
            wishes = {"box": Box(side / 2, side / 2, side), "square": True}
            self._all[id] = Portrait(id, None, picture, wishes, clock())

    def seen_by(self, visitor: str) -> list[Portrait]:
        """The server's own, and a visitor's."""
        with self._lock:
            self._forget()
            return [one for one in self._all.values() if one.owner is None or one.owner == visitor]

    def find(self, id: str, visitor: str) -> Portrait:
        """The portrait of an id. Raises UserError where this visitor has none."""
        for one in self.seen_by(visitor):
            if one.id == id:
                one.used = self._clock()
                return one
        raise UserError("there is no such portrait, or it has expired; choose another, or upload it again")

    def sitting(self, portrait: Portrait) -> Any:
        """A portrait's sitting, made once; it blocks. Raises UserError for a picture that cannot be animated."""
        with self._opening:
            if portrait.sitting is None:
                portrait.sitting = self._sit(portrait.picture, **portrait.wishes)
            return portrait.sitting

    def add(self, data: bytes, visitor: str, whole: bool) -> Portrait:
        """Keeps an upload; it blocks.

        Args:
            data: of a picture of any usual kind.
            visitor: who owns it.
            whole: whether the face fills its middle square, so that none is looked for, as in drawings.

        Raises:
            UserError: what is no picture, is too large, or shows no face.
        """
        with self._opening:
            picture = _decoded(data)
        side = float(min(picture.shape[:2]))
        wishes = {"box": Box(picture.shape[1] / 2, picture.shape[0] / 2, side)} if whole else {}
        portrait = Portrait(secrets.token_urlsafe(16), visitor, picture, wishes | {"square": True}, self._clock())
        self.sitting(portrait)
        with self._lock:
            self._all[portrait.id] = portrait
            self._forget()
        return portrait

    def remove(self, id: str, visitor: str) -> None:
        """Forgets an upload. Raises UserError where it is not this visitor's."""
        portrait = self.find(id, visitor)
        if portrait.owner is None:
            raise UserError("the server's own portraits stay; remove your own alone")
        with self._lock:
            self._all.pop(id, None)

    def _forget(self) -> None:
        """Drops uploads that are old, or too many."""
        now = self._clock()
        uploads = sorted((one for one in self._all.values() if one.owner is not None), key=lambda one: -one.used)
        seen: dict[str | None, int] = {}
        for i, one in enumerate(uploads):
            seen[one.owner] = seen.get(one.owner, 0) + 1
            if now - one.used > IDLE or i >= ALL or seen[one.owner] > EACH:
                del self._all[one.id]


def people(seeds: tuple[int, ...] = SEEDS) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """Portraits of synthetic people, drawn now, by id."""
    drawn = (next(shoot(identity_from_seed(seed), neutral_state((1,)), SIDE))[0][0] for seed in seeds)
    return {f"person-{seed}": np.array(picture) for seed, picture in zip(seeds, drawn, strict=True)}


def _decoded(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """An upload's pixels, made small."""
    with tempfile.TemporaryDirectory(prefix="vasa-") as folder:
        path = Path(folder) / "picture"
        path.write_bytes(data)
        try:
            if _pixels(path) > LARGEST:
                raise UserError(f"the picture has more than {LARGEST // 1_000_000} million pixels; send a smaller one")
            photo = over_grey(open_photo(path))
        except UserError as error:
            raise UserError(str(error).replace(str(path), "the picture")) from None
    small = ImageOps.contain(Image.fromarray(photo), (KEPT, KEPT)) if max(photo.shape) > KEPT else photo
    return np.asarray(small)


def _pixels(path: Path) -> int:
    """How many a picture says that it has, 0 where it does not say."""
    register_heif_opener()
    with warnings.catch_warnings(), contextlib.suppress(OSError, ValueError, SyntaxError):
        warnings.simplefilter("ignore")  # Pillow's own limit is higher
        try:
            with Image.open(path) as picture:
                return picture.width * picture.height
        except Image.DecompressionBombError:
            return LARGEST + 1
    return 0
