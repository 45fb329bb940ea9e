"""How fast do frames go back into a photo? Pasting by the size of the photo, and writing the whole photo as a video.

    python -m benchmarks.paste [--platform cpu|gpu|tpu] [--photos 720 1280 2840] [--size 512]

A square photo of smooth noise, whose box covers its middle 80 % and is turned by 5 degrees; frames differ from the crop
everywhere. Writing H.264 and VP9 with transparency is timed beside it, since each frame goes through both. Prints ms a
frame (median, and 10th to 90th percentile of the repeats) and what the first frame takes, with all that is prepared.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import timing
from vasa_jax.faces.box import Box
from vasa_jax.faces.paste import Pasting
from vasa_jax.media.video import VideoWriter


def make_photo(side: int) -> np.ndarray:
    """Smooth noise, uint8 (side, side, 4), transparent at the left and right."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 4), np.uint8)
    photo = np.array(Image.fromarray(noise[..., :3]).resize((side, side), Image.Resampling.BICUBIC))
    opacity = np.clip(np.minimum(np.arange(side), np.arange(side)[::-1]) * 2550 // side, 0, 255).astype(np.uint8)
    return np.concatenate([photo, np.broadcast_to(opacity[None, :, None], (side, side, 1))], -1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--photos", nargs="+", type=timing.positive, default=[720, 1280, 2840], help="sides in pixels")
    parser.add_argument("--size", type=timing.positive, default=512, help="side of the frames")
    parser.add_argument("--repeats", type=timing.positive, default=10, help="timed frames")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    print(f"\n{'photo':>6} {'':<12} {'ms/frame':>9} {'10..90 %':>19} {'first, s':>9}")
    for side, channels in itertools.product(flags.photos, (3, 4)):
        photo = np.ascontiguousarray(make_photo(side)[..., :channels])
        start = time.perf_counter()
        pasting = Pasting(photo, Box(side / 2, side / 2, 0.8 * side, 5.0), flags.size)
        prepared = time.perf_counter() - start
        frame = 255 - pasting.crop
        name = "paste" if channels == 3 else "paste, RGBA"
        times = timing.measure(lambda pasting=pasting, frame=frame: pasting.paste(frame), flags.repeats)
        print(row(side, name, times._replace(first=prepared + times.first)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("a.mp4" if channels == 3 else "a.webm")
            pictures = itertools.cycle([photo, pasting.paste(frame)])
            with VideoWriter(path, 25, side, alpha=channels == 4) as writer:
                times = timing.measure(lambda writer=writer, from_=pictures: writer.write(next(from_)), flags.repeats)
        print(row(side, "H.264" if channels == 3 else "VP9, RGBA", times))


def row(side: int, name: str, times: timing.Times) -> str:
    """A line of the table."""
    spread = f"{times.low * 1e3:.1f}..{times.high * 1e3:.1f}"
    return f"{side:>6} {name:<12} {times.median * 1e3:>9.1f} {spread:>19} {times.first:>9.2f}"


if __name__ == "__main__":
    main()
