"""A short animation that pages show where no video plays: an animated PNG in a few colours, silent, repeated for ever.

All frames share one palette, chosen for some of them, and only what changes from one to the next is stored; nothing is
dithered, since noise neither stands still nor compresses.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vasa_jax.errors import UserError
from vasa_jax.files import check_target, whole_file
from vasa_jax.media.tags import Tags
from vasa_jax.media.video import Seal

COLOURS = 256
LOOKED_AT = 12
"""Frames for which the palette is chosen."""


def check_animation_target(path: str | os.PathLike) -> Path:
    """The path itself, after checks before any work. Raises UserError for another suffix than .png, or no folder."""
    target = check_target(path)
    if target.suffix.lower() != ".png":
        raise UserError(f"{path} must end in .png, which holds the animation")
    return target


def write_animation(
    path: str | os.PathLike,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    rate: float,
    tags: Tags = Tags(),  # noqa: B008 (frozen)
    seal: Seal | None = None,
) -> int:
    """Write frames as one animated PNG.

    Args:
        path: the file, which appears only when it is whole.
        frames: one or more, of one size.
        rate: frames a second.
        tags: the file's.
        seal: signs the whole file before it gets its name.

    Returns:
        How many bytes the file has.

    Raises:
        UserError: as `check_animation_target`; no frame at all; or where the system refuses to write.
    """
    target = check_animation_target(path)
    pictures = [Image.fromarray(frame) for frame in frames]
    if not pictures:
        raise UserError(f"{path} was not written: there was no frame")
    step = -(-len(pictures) // LOOKED_AT)
    palette = Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures[::step]])).quantize(COLOURS)
    first, *rest = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    options = {"duration": 1000 / rate, "loop": 0, "optimize": True, "pnginfo": tags.png()}
    with whole_file(target) as hidden:
        first.save(hidden, "PNG", save_all=True, append_images=rest, **options)
        if seal is not None:
            seal(hidden, target)
    return target.stat().st_size
