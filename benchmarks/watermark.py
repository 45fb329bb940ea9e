"""What does the watermark survive, what does it cost, and how often is it seen where it is not?

    python -m benchmarks.watermark [--parts clean attacks time] [--cuts 20000] [--clips 6] [--sizes 64 256 512]
                                   [--videos 9] [--attacks NAME ...] [--seed N] [--json OUT]

Clips are six seconds: of the model's faces (portraits and speech of VASA_JAX_ASSETS, resized as `infer.py --size` does)
and of the real videos there, which are marked in memory only.

clean: unmarked cuts of 2 s, each another window, crop (up to 20 %), mirroring and turn of a clip; the tail of their
scores is fitted by an exponential, on which the detector's p-values stand (`watermark.TAIL`). Residuals are averaged
over five frames first, and crops are taken from them.

attacks: each clip gets a mark of its own, and is attacked; then any 2 s of it (a window each 0.2 s) are looked at. A
row tells the share of windows where this very mark was found at a false-alarm rate of 1e-6, its 95 % interval
(Wilson's, on as many trials as there are windows that do not overlap), the share that the scores' mean and spread
foretell (fitted), the mean and lowest score, and the share of coded bits that were wrong. All attacks but the first end
in H.264.

time: milliseconds a frame.
"""

import argparse
import io
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from benchmarks import timing
from vasa_jax.arrays import FPS
from vasa_jax.media.video import read_video
from vasa_jax.provenance import watermark

FRAMES = 6 * FPS
BLOCK = 5
"""Frames whose residuals are averaged first; windows begin at multiples of it."""
WINDOW = 2 * FPS // BLOCK
"""Blocks of a cut."""
TAIL_SHARE = 0.01
"""Of the highest scores, to which the tail is fitted."""
Attack = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def h264(frames: np.ndarray, crf: int = 28) -> np.ndarray:
    """Frames after x264's default preset, 4:2:0."""
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": str(crf), "preset": "medium"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as read:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in read.decode(video=0)])


def resized(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames of another size, without aliases."""
    if frames.shape[1:3] == (height, width):
        return frames
    method = cv2.INTER_AREA if height < frames.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in frames])


def scaled(share: float) -> Attack:
    """Both sides become a share of themselves."""
    return lambda frames, _: h264(_scaled(frames, share))


def _scaled(frames: np.ndarray, share: float) -> np.ndarray:
    return resized(frames, *(round(side * share / 2) * 2 for side in frames.shape[1:3]))


def _cropped(frames: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    sides = [round(side * (1 - share)) for side in frames.shape[1:3]]
    top, left = (int(generator.integers(old - new + 1)) for old, new in zip(frames.shape[1:3], sides, strict=True))
    return frames[:, top : top + sides[0], left : left + sides[1]]


def cropped(share: float) -> Attack:
    """A share of both sides goes, anywhere."""
    return lambda frames, generator: h264(_cropped(frames, share, generator))


def zoomed(share: float) -> Attack:
    """A crop that is scaled to the size from before."""
    return lambda frames, generator: h264(resized(_cropped(frames, share, generator), *frames.shape[1:3]))


def _faster(frames: np.ndarray, rate: float) -> np.ndarray:
    times = np.arange(0, len(frames) - 1, rate)
    before = times.astype(int)
    share = (times - before)[:, None, None, None]
    return np.round(frames[before] * (1 - share) + frames[before + 1] * share).astype(np.uint8)


def faster(rate: float) -> Attack:
    """Frames between frames are blended."""
    return lambda frames, _: h264(_faster(frames, rate))


def _graded(frames: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    return np.clip(np.round((frames.astype(np.float32) - 128) * contrast + 128 + 255 * brightness), 0, 255).astype(
        np.uint8
    )


def graded(brightness: float, contrast: float) -> Attack:
    """Brightness is added, contrast multiplied around the middle."""
    return lambda frames, _: h264(_graded(frames, brightness, contrast))


def together(frames: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """All that is asked for, at once."""
    cut = _scaled(_cropped(frames, 0.1, generator), 0.5)
    return h264(_graded(_faster(cut, 1.05), 0.1, 1.1))


ATTACKS: dict[str, Attack] = {
    "none": lambda frames, _: frames,
    "H.264 CRF 18": lambda frames, _: h264(frames, 18),
    "H.264 CRF 23": lambda frames, _: h264(frames, 23),
    "H.264 CRF 28": lambda frames, _: h264(frames),
    "scale 50 %": scaled(0.5),
    "crop 10 %": cropped(0.1),
    "crop 10 %, zoomed": zoomed(0.1),
    "speed 1.05": faster(1.05),
    "brighter 10 %": graded(0.1, 1.1),
    "darker 10 %": graded(-0.1, 0.9),
    "all of them": together,
    "H.264 CRF 32": lambda frames, _: h264(frames, 32),
    "H.264 CRF 36": lambda frames, _: h264(frames, 36),
    "scale 25 %": scaled(0.25),
    "crop 20 %": cropped(0.2),
    "crop 30 %": cropped(0.3),
    "speed 1.1": faster(1.1),
    "mirrored": lambda frames, _: h264(frames[:, :, ::-1]),
    "turned 2 degrees": lambda frames, _: h264(_turned(frames, 2.0)),
}
ASKED = ("H.264 CRF 28", "scale 50 %", "crop 10 %", "crop 10 %, zoomed", "speed 1.05", "brighter 10 %", "darker 10 %")


def _turned(frames: np.ndarray, degrees: float) -> np.ndarray:
    h, w = frames.shape[1:3]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 1.05)
    return np.stack([cv2.warpAffine(frame, matrix, (w, h), borderMode=cv2.BORDER_REFLECT) for frame in frames])


def real_clips(assets: Path, count: int) -> Iterator[np.ndarray]:
    """The first frames of real videos."""
    for path in sorted((assets / "video").glob("*.mp4"))[:count]:
        yield np.stack(list(itertools.islice(read_video(path), FRAMES)))


def generated_clips(assets: Path, model: str, count: int, cache: Path) -> Iterator[np.ndarray]:
    """Clips of a model at its own size, kept in a folder."""
    import vasa_jax

    portraits, speech = sorted((assets / "portraits").iterdir()), sorted((assets / "speech").glob("*.wav"))
    loaded = None
    cache.mkdir(parents=True, exist_ok=True)
    for index, portrait in enumerate(portraits[:count]):
        kept = cache / f"{Path(model).name}-{portrait.stem}.npy"
        if not kept.is_file():
            loaded = loaded or vasa_jax.load(model)
            frames = loaded.animate(portrait, speech[index % len(speech)])
            np.save(kept, np.stack(list(itertools.islice(frames, FRAMES))))
        yield np.load(kept)


def kinds(assets: Path, flags: argparse.Namespace) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """Names of kinds of clips, and the clips."""
    for size in flags.sizes:
        made = generated_clips(assets, flags.model, flags.clips, flags.cache)
        yield f"{flags.model}, {size} x {size}", (resized(clip, size, size) for clip in made)
    if flags.videos:
        yield "real videos", real_clips(assets, flags.videos)


def blocks(frames: np.ndarray) -> np.ndarray:
    """Residuals of each BLOCK frames: (blocks, y, x)."""
    shape = watermark.analysed(frames.shape[1:3])
    parts = [frames[i : i + BLOCK] for i in range(0, len(frames) - BLOCK + 1, BLOCK)]
    return np.stack([np.asarray(watermark.residual(jnp.asarray(part), shape)) for part in parts])


def windows(residuals: np.ndarray) -> Iterator[np.ndarray]:
    """The residual of any 2 s."""
    for start in range(len(residuals) - WINDOW + 1):
        yield residuals[start : start + WINDOW].mean(0)


def clean(clips: Iterable[np.ndarray], cuts: int, seed: int = 0) -> tuple[np.ndarray, int]:
    """Scores of unmarked cuts, and in how many of them the checksum was right."""
    generator = np.random.default_rng(seed)
    sources = [blocks(clip) for clip in clips]
    scores, right = np.zeros(cuts), 0
    for cut in range(cuts):
        source = sources[generator.integers(len(sources))]
        start = int(generator.integers(max(1, len(source) - WINDOW + 1)))
        image = source[start : start + WINDOW].mean(0)
        image = _cropped(image[None], generator.uniform(0, 0.2), generator)[0]
        image = np.rot90(image, int(generator.integers(4)))[:, :: (1, -1)[int(generator.integers(2))]]
        found = watermark.detect_residual(jnp.asarray(image))
        scores[cut] = found.score
        right += found.bits is not None
    return scores, right


def tail(scores: np.ndarray) -> tuple[float, float]:
    """The exponential of the highest scores: where it begins, and its mean excess."""
    begin = float(np.quantile(scores, 1 - TAIL_SHARE))
    return begin, float(np.mean(scores[scores > begin] - begin))


def print_clean(scores: np.ndarray, right: int) -> dict[str, Any]:
    """The table of false alarms."""
    begin, excess = tail(scores)
    expected = watermark.READINGS * 2.0**-watermark.CHECK_BITS * len(scores)
    print(f"{len(scores)} unmarked cuts: score {scores.mean():.2f} +- {scores.std():.2f}, highest {scores.max():.2f}")
    print(f"checksum right by chance: {right} (at most {expected:.0f} expected)")
    print(f"tail of the highest {TAIL_SHARE:.0%}: exp(-(score - {begin:.3f}) / {excess:.3f}), fitted")
    for share in (1e-2, 1e-3, 1e-4):
        fitted = begin - excess * math.log(share / TAIL_SHARE)
        print(f"  one in {1 / share:,.0f} is above {np.quantile(scores, 1 - share):.2f} (fitted {fitted:.2f})")
    print(f"score of a false-alarm rate of 1e-6, checksum right (fitted): {watermark.threshold():.2f} in the detector")
    return {"scores": scores.tolist(), "begin": begin, "excess": excess, "highest": float(scores.max()), "right": right}


def wilson(hits: float, trials: float) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z = 1.96
    share = hits / trials
    middle = (share + z * z / 2 / trials) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / 4 / trials**2)
    return max(0.0, middle - half), min(1.0, middle + half)


def attacked(clips: Iterable[np.ndarray], names: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Marks clips, attacks them, prints a row an attack."""
    rows: dict[str, Any] = {name: {"hits": [], "scores": [], "errors": [], "trials": 0} for name in names}
    costs = []
    for index, clip in enumerate(clips):
        generator = np.random.default_rng((seed, index))
        mark = int(generator.integers(1 << watermark.BITS))
        pattern = jnp.asarray(watermark.pattern(mark, clip.shape[1:3]))
        parts = [np.asarray(watermark.embed(jnp.asarray(clip[i : i + 25]), pattern)) for i in range(0, len(clip), 25)]
        marked = np.concatenate(parts)
        costs.append(np.mean((marked.astype(np.float32) - clip) ** 2))
        sent = 1 - 2 * watermark.encode(mark)
        for name in names:
            row = rows[name]
            residuals = blocks(ATTACKS[name](marked, generator))
            row["trials"] += len(residuals) / WINDOW
            for image in windows(residuals):
                found = watermark.detect_residual(jnp.asarray(image))
                row["hits"].append(found.mark == mark)
                row["scores"].append(found.score)
                row["errors"].append(np.mean(found.soft * sent <= 0))
    psnr = -10 * math.log10(float(np.mean(costs)) / 255**2)
    costs_at = ", ".join(f"{at} dB costs {10 * math.log10(1 + 10 ** ((at - psnr) / 10)):.2f}" for at in (22, 26, 30))
    print(f"  the mark itself: PSNR {psnr:.1f} dB; a frame that was true to {costs_at} dB")
    print("  attack              found   95 % interval     fitted    score (lowest)  bits wrong  windows")
    result: dict[str, Any] = {"psnr": psnr}
    for name, row in rows.items():
        hits, scores = np.array(row["hits"], float), np.array(row["scores"])
        low, high = wilson(float(hits.mean()) * row["trials"], row["trials"])
        fitted = norm.sf((watermark.threshold() - scores.mean()) / (scores.std() + 1e-9))
        errors = float(np.mean(row["errors"]))
        interval = f"{100 * low:5.1f} to {100 * high:5.1f}"
        print(
            f"  {name:<18} {100 * hits.mean():6.1f} % {interval} %  {100 * fitted:8.3f} %"
            f"  {scores.mean():5.1f} ({scores.min():5.1f})   {100 * errors:5.1f} %    {len(hits)}",
            flush=True,
        )
        result[name] = {
            "found": float(hits.mean()),
            "low": low,
            "high": high,
            "fitted": float(fitted),
            "windows": len(hits),
        }
        result[name] |= {"score": float(scores.mean()), "lowest": float(scores.min()), "errors": errors}
    return result


def timed(sizes: Sequence[int]) -> dict[str, float]:
    """Prints milliseconds a frame."""
    result = {}
    for size in sizes:
        frames = jnp.asarray(np.random.default_rng(0).integers(0, 256, (FPS, size, size, 3), dtype=np.uint8))
        pattern = jnp.asarray(watermark.pattern(1, (size, size)))

        def mark(frames: Any = frames, pattern: Any = pattern) -> Any:
            return watermark.embed(frames, pattern)

        def look(frames: Any = frames) -> Any:
            return watermark.residual(frames, watermark.analysed(frames.shape[1:3]))

        one, other = (timing.measure(call, 5) for call in (mark, look))
        result[str(size)] = 1000 * one.median / FPS
        print(
            f"{size} x {size}: marking {1000 * one.median / FPS:.3f} ms a frame ({1000 * one.low / FPS:.3f} to"
            f" {1000 * one.high / FPS:.3f}), looking at one {1000 * other.median / FPS:.2f} ms"
        )
    image = jnp.asarray(np.random.default_rng(0).standard_normal((256, 256)), jnp.float32)
    found = timing.measure(lambda: watermark.detect_residual(image).score, 10)
    print(f"finding the mark in a cut: {1000 * found.median:.0f} ms")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses flags and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument(
        "--parts", nargs="+", choices=("clean", "attacks", "time"), default=["clean", "attacks", "time"]
    )
    parser.add_argument("--model", default="demo", help="whose faces are marked")
    parser.add_argument("--cuts", type=timing.positive, default=20_000, help="unmarked cuts")
    parser.add_argument("--clips", type=timing.positive, default=6, help="of a size")
    parser.add_argument("--sizes", type=timing.positive, nargs="*", default=[64, 256, 512], help="of generated frames")
    parser.add_argument("--videos", type=int, default=9, help="real ones at most; 0 for none")
    parser.add_argument(
        "--attacks", nargs="+", choices=tuple(ATTACKS), default=list(ATTACKS), help="names of the table"
    )
    parser.add_argument("--seed", type=int, default=0, help="of cuts, marks and attacks; another one adds to a table")
    parser.add_argument("--cache", type=Path, default=Path("build/watermark"), help="folder that keeps generated clips")
    parser.add_argument("--json", type=Path, help="also write every number here")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    assets = Path(os.environ.get("VASA_JAX_ASSETS", "."))
    numbers: dict[str, Any] = {}
    if "time" in flags.parts:
        numbers["time"] = timed(flags.sizes)
    if "clean" in flags.parts:
        everything = itertools.chain.from_iterable(clips for _, clips in kinds(assets, flags))
        numbers["clean"] = print_clean(*clean(everything, flags.cuts, flags.seed))
    if "attacks" in flags.parts:
        for kind, clips in kinds(assets, flags):
            print(f"{kind}, clips of {FRAMES / FPS:.0f} s")
            numbers[kind] = attacked(clips, flags.attacks, flags.seed)
    if flags.json is not None:
        flags.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
