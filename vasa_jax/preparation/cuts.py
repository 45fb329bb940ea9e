"""Where a film cuts from one scene to the next: PySceneDetect's adaptive detector on small copies of the pictures.

A frame is a cut if hue, saturation and lightness change by more than a least amount and several times as much as in the
frames around it, so moving cameras and heads are none. The detector looks ahead by a few frames, which are held.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, TypeVar

import cv2
import numpy as np

from vasa_jax.arrays import FPS
from vasa_jax.preparation.config import PreparationConfig

SIDE = 96
"""Pixels of the longer side of the copies."""
T = TypeVar("T")


def marked(
    numbered: Iterable[tuple[int, T, np.ndarray]], config: PreparationConfig
) -> Iterator[tuple[int, T, np.ndarray, bool]]:
    """Tells of each picture whether a scene begins with it.

    Args:
        numbered: numbers, whatever goes with them, and pictures (h, w, 3) RGB. A picture may follow itself.
        config: thresholds.

    Yields:
        What was given, and whether a cut lies before it.
    """
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    detector: Any = AdaptiveDetector(
        adaptive_threshold=config.cut_ratio, min_scene_len=1, min_content_val=config.cut_least, kernel_size=3
    )
    held: deque[tuple[int, T, np.ndarray]] = deque()
    cuts: set[int] = set()
    count = 0  # pictures that the detector has seen, which knows no gaps
    for item in numbered:
        picture = item[2]
        ratio = SIDE / max(picture.shape[:2])
        width, height = (max(8, round(length * ratio)) for length in picture.shape[1::-1])
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        found = detector.process_frame(FrameTimecode(count, Fraction(FPS)), np.ascontiguousarray(small[..., ::-1]))
        cuts.update(cut.frame_num for cut in found)
        held.append(item)
        if len(held) > detector.window_width + 1:
            yield (*held.popleft(), count - detector.window_width - 1 in cuts)
        count += 1
    for i, item in enumerate(list(held)):
        yield (*item, count - len(held) + i in cuts)
