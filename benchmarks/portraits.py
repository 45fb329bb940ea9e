"""Pictures and voices that nobody here made: how well does a model keep a face, and does its mouth follow speech?

    VASA_JAX_ASSETS=assets python -m benchmarks.portraits [--model demo] [--fit 100] [--steps 10] [--sheet sheet.png]

Every picture of VASA_JAX_ASSETS/portraits goes through face box and encoder and is drawn at its own motion, by the
encoder alone ("plain") and after a fit ("fit", `inference.fit`):

psnr      in dB, of the drawn picture and what the model saw, inside of the face's landmarks (without one: everywhere)
apart     mean distance of the landmarks of the drawn picture and of the photo, per cent of the distance of the eyes;
          MediaPipe's, of pictures that are enlarged alike. "photo" is that of the photo itself at the model's size.

Every file of VASA_JAX_ASSETS/speech is heard again and again until `--seconds` are full:

follows   correlation of the mouth's opening with the logarithm of the loudness, at the best lag within 5 frames
pauses    mean opening in per cent, in pauses and where the voice is louder than half of the time
drift     the largest slope of head, mouth, lids and gaze over the whole time, in typical slopes of people of the world
          over as long a time; what 95 % of them stay below is printed, and stands for "nothing drifts"

The sheet shows a row a picture: what the model saw, plain, fit. Pictures are others' property: the sheet is, too.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull

from benchmarks import timing
from benchmarks.volume import loudness
from vasa_jax.arrays import FPS, SAMPLE_RATE, Motion
from vasa_jax.errors import UserError
from vasa_jax.faces.box import crop
from vasa_jax.faces.framing import look
from vasa_jax.faces.landmarks import LEFT_EYE, RIGHT_EYE, Landmarker
from vasa_jax.files import check_target, whole_file
from vasa_jax.inference import Model, load
from vasa_jax.inference.fit import fit
from vasa_jax.inference.vasa import FaceModel
from vasa_jax.media.audio import AudioReader
from vasa_jax.media.image import open_photo, over_grey
from vasa_jax.media.row import Caption, draw_row
from vasa_jax.metrics.correlation import lagged_correlation
from vasa_jax.metrics.judges.evidence import Take, pauses, take_of
from vasa_jax.metrics.judges.motion import COMPONENTS, slope
from vasa_jax.metrics.landmarks import SIDE
from vasa_jax.metrics.transfer import masked_psnr
from vasa_jax.synthetic.identity import identity_from_seed
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.render import labels
from vasa_jax.synthetic.splits import seeds

FOLLOWS = 0.5
"""What `follows` must reach."""
CLOSED = 5.0
"""Per cent that a mouth may be open in pauses."""
PEOPLE = 40
"""People of the world whose slopes are the measure of drift."""
EXAMPLE = 4.0
"""Seconds of a voice of the world behind the generated motion that a fit sees."""
TILE, ACROSS = 192, 2
"""Pixels of a picture of the sheet; photos beside each other."""


class Drawn(NamedTuple):
    """One photo. seen, plain, fitted: pictures as the model sees and draws them. psnr: of plain and fitted, dB. apart:
    of the photo at the model's size, plain and fitted, per cent of the distance of the eyes; NaN where no face is."""

    seen: UInt8[np.ndarray, "h w 3"]
    plain: UInt8[np.ndarray, "h w 3"]
    fitted: UInt8[np.ndarray, "h w 3"]
    psnr: Float[np.ndarray, " 2"]
    apart: Float[np.ndarray, " 3"]


class Heard(NamedTuple):
    """One voice. follows, lag: correlation, and frames that the mouth comes late. pause, loud: mean opening, per cent;
    NaN without pauses. drift, of: the largest slope in typical ones, and of what."""

    follows: float
    lag: int
    pause: float
    loud: float
    drift: float
    of: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--model", default="demo", help="name of a bundled model, or a release folder")
    parser.add_argument("--parts", nargs="+", choices=("portraits", "speech"), default=["portraits", "speech"])
    parser.add_argument("--fit", type=timing.positive, default=100, help="steps of the fit")
    parser.add_argument("--steps", type=timing.positive, default=10, help="of the sampler")
    parser.add_argument("--sheet", type=Path, help="also draw the pictures into this PNG")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each voice")
    parser.add_argument("--seed", type=int, default=0, help="of the motion and of the fit")
    flags = parser.parse_args(arguments)
    if flags.sheet is not None and check_target(flags.sheet).suffix.lower() != ".png":
        raise UserError(f"--sheet {flags.sheet} must end in .png")
    given = {part: assets(part) for part in flags.parts}
    timing.start(flags)
    model = load(flags.model)
    if not isinstance(model.face, FaceModel):
        raise UserError(f"models of kind {model.pair.kind!r} are not measured here; choose one of kind 'vasa'")
    if "portraits" in given:
        print_portraits(model, given["portraits"], flags)
    if "speech" in given:
        print_speech(model, given["speech"], flags)


def assets(part: str) -> list[Path]:
    """The files of a folder of VASA_JAX_ASSETS; raises UserError without one."""
    folder = os.environ.get("VASA_JAX_ASSETS")
    if not folder or not (Path(folder) / part).is_dir():
        raise UserError(f"there is no {part}: set VASA_JAX_ASSETS to a folder with {part}/, or leave it out of --parts")
    return sorted((Path(folder) / part).iterdir())


def print_portraits(model: Model, files: Sequence[Path], flags: argparse.Namespace) -> None:
    """The table of pictures, and the sheet where it is asked for."""
    print(f"\n{'':<26} {'psnr in the face, dB':>22} {'landmarks apart, % of the eyes':>34}")
    print(f"{'picture':<26} {'plain':>10} {'fit':>11} {'photo':>12} {'plain':>10} {'fit':>10}")
    voice = perform(seeds("test").stop - 1, EXAMPLE, None).audio
    drawn: list[Drawn] = []
    with Landmarker() as landmarker:

        def find(picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "478 2"] | None:
            return landmarks_of(landmarker, picture)

        for file in files:
            drawn.append(draw(model, file, voice, flags, find))
            print(picture_row(file.name, drawn[-1].psnr, drawn[-1].apart), flush=True)
    psnr, apart = np.stack([one.psnr for one in drawn]), np.stack([one.apart for one in drawn])
    every = np.isfinite(apart).all(1)
    middle = np.median(apart[every], axis=0) if every.any() else np.full(3, np.nan)
    print(picture_row("median", np.median(psnr, axis=0), middle))
    counts = ", ".join(f"{name} {np.isfinite(apart[:, k]).sum()}" for k, name in enumerate(("photo", "plain", "fit")))
    print(f"faces found of {len(drawn)} pictures: {counts}; the medians apart are of the {every.sum()} found in all")
    if flags.sheet is not None:
        with whole_file(flags.sheet) as hidden:
            sheet(files, drawn).save(hidden, format="PNG", optimize=True)
        print(f"wrote {flags.sheet}")


def draw(
    model: Model,
    file: Path,
    voice: Float[np.ndarray, " n"],
    flags: argparse.Namespace,
    find: Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "478 2"] | None],
) -> Drawn:
    """What a model makes of a photo at its own motion, and how far from it that is.

    Args:
        model: of kind "vasa".
        file: the photo.
        voice: whose generated motion the fit sees, at 16 kHz.
        flags: steps of the fit and of the sampler, and the seed.
        find: landmarks of a picture in units of its side, or None.
    """
    face = model.face
    photo = over_grey(open_photo(file))
    view = look(photo, model.pair.frame, file.name)
    seen = crop(photo, view.box, face.sees)
    levels = jnp.asarray(np.asarray(seen, np.float32)[None] / 255)
    portrait, own = face.encode(levels), face.motion(levels)
    parts = list(model.motions(portrait, voice, seed=flags.seed, steps=flags.steps))
    generated = Motion(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    fitted = fit(face, portrait, levels, generated, steps=flags.fit, key=jax.random.key(flags.seed)).portrait
    plain, better = (np.asarray(face.render(each, own)[0])[0] for each in (portrait, fitted))
    mark = None if view.face is None else view.box.seen(view.face.points, 1)
    mask = np.ones(seen.shape[:2], bool) if mark is None else hull(mark, face.sees)
    psnr = [masked_psnr(each[None] / np.float32(255), np.asarray(levels), mask[None])[0] for each in (plain, better)]
    true = find(crop(photo, view.box, SIDE))
    apart = [distance(true, find(each)) for each in (seen, plain, better)]
    return Drawn(seen, plain, better, np.array(psnr), np.array(apart))


def landmarks_of(landmarker: Landmarker, picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "478 2"] | None:
    """Landmarks of the largest face of a picture, in units of its side; None where there is none."""
    side = max(SIDE, len(picture))
    enlarged = np.array(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    faces = landmarker.find(enlarged)
    return faces[0].points / side if faces else None


def hull(points: Float[np.ndarray, "n 2"], size: int) -> Bool[np.ndarray, "{size} {size}"]:
    """The pixels of a picture of `size` inside of the convex hull of points in units of its side."""
    picture = Image.new("1", (size, size))
    outline = size * points[ConvexHull(points).vertices] - 0.5  # Pillow draws at the centres of pixels
    ImageDraw.Draw(picture).polygon([tuple(map(float, point)) for point in outline], fill=1, outline=1)
    return np.asarray(picture, bool)


def distance(truth: Float[np.ndarray, "n 2"] | None, found: Float[np.ndarray, "n 2"] | None) -> float:
    """Mean distance of landmarks, per cent of the distance of the true eyes; NaN where either is missing."""
    if truth is None or found is None:
        return float("nan")
    left, right = (truth[list(part)].mean(0) for part in (LEFT_EYE, RIGHT_EYE))
    return float(100 * np.linalg.norm(found - truth, axis=1).mean() / np.linalg.norm(right - left))


def picture_row(name: str, psnr: Float[np.ndarray, " 2"], apart: Float[np.ndarray, " 3"]) -> str:
    """A line of the table of pictures."""
    cells = [f"{value:.1f}" if np.isfinite(value) else "-" for value in apart]
    return f"{name:<26} {psnr[0]:>10.1f} {psnr[1]:>11.1f} {cells[0]:>12} {cells[1]:>10} {cells[2]:>10}"


def sheet(files: Sequence[Path], drawn: Sequence[Drawn]) -> Image.Image:
    """Photos in `ACROSS` columns: what the model saw, plain and fit, with their numbers."""
    rows = []
    for file, one in zip(files, drawn, strict=True):
        told = [(file.stem, "as the model sees it")]
        told += [
            (name, f"{psnr:.1f} dB" + (f", {apart:.1f} % apart" if np.isfinite(apart) else ", no face found"))
            for name, psnr, apart in zip(("plain", "fit"), one.psnr, one.apart[1:], strict=True)
        ]
        rows.append(draw_row((one.seen, one.plain, one.fitted), [Caption(lines) for lines in told], TILE))
    rows += [np.zeros_like(rows[0])] * (-len(rows) % ACROSS)
    lines = [np.concatenate(rows[k : k + ACROSS], 1) for k in range(0, len(rows), ACROSS)]
    return Image.fromarray(np.concatenate(lines))


def print_speech(model: Model, files: Sequence[Path], flags: argparse.Namespace) -> None:
    """The table of voices."""
    typical, bar = world_slopes(flags.seconds)
    print(f"\n{'voice':<26} {'follows':>8} {'lag':>5} {'in pauses':>11} {'loud':>7} {'drift':>7} of")
    for file in files:
        once = np.concatenate(list(AudioReader(file)))
        sound = np.resize(once, round(flags.seconds * SAMPLE_RATE))
        parts = list(model.motions(None, sound, seed=flags.seed, steps=flags.steps))
        take = take_of(Motion(*(np.concatenate(part) for part in zip(*parts, strict=True))))
        heard = judge(sound, take, typical)
        fails = (heard.follows < FOLLOWS, heard.pause > CLOSED, heard.drift > bar)
        marks = ["!" if fail else " " for fail in fails]
        pause = f"{heard.pause:.1f}" if np.isfinite(heard.pause) else "-"
        print(
            f"{file.name:<26} {heard.follows:>7.2f}{marks[0]} {heard.lag:>5} {pause:>10}{marks[1]} {heard.loud:>7.1f}"
            f" {heard.drift:>6.1f}{marks[2]} {heard.of}",
            flush=True,
        )
    print(
        f"! below {FOLLOWS:g}, above {CLOSED:g} % open, above {bar:.1f}, which 95 % of people of the world stay below"
    )


def judge(sound: Float[np.ndarray, " n"], take: Take, typical: dict[str, float]) -> Heard:
    """What is said of motion for the sound that it says.

    Args:
        sound: at 16 kHz.
        take: as many frames.
        typical: slopes of the world, of each of `COMPONENTS`.
    """
    loud, opening = loudness(sound, len(take.mouth)), 100.0 * np.asarray(take.mouth, np.float64)
    found = lagged_correlation(loud, opening)
    still = pauses(sound)
    still = np.pad(still, (0, len(opening) - len(still)))
    pause = float(opening[still].mean()) if still.any() else float("nan")
    slopes = {name: abs(value) / typical[name] for name, value in slopes_of(take).items()}
    worst = max(slopes, key=lambda name: slopes[name])
    return Heard(found.best, found.lag, pause, float(opening[loud >= np.median(loud)].mean()), slopes[worst], worst)


def slopes_of(take: Take) -> dict[str, float]:
    """Slope of each of `COMPONENTS`, a minute."""
    minutes = (np.arange(len(take.pose)) + 0.5) / FPS / 60
    return {name: slope(minutes, np.asarray(curve(take), np.float64)) for name, (_, curve) in COMPONENTS.items()}


def world_slopes(seconds: float) -> tuple[dict[str, float], float]:
    """Typical slopes (root mean square) of people of the world, and what the largest in these units stays below in 95 %
    of them."""
    rows = []
    for person in seeds("test")[:PEOPLE]:
        states = perform(person, seconds, None).states
        true = {name: np.asarray(value) for name, value in labels(identity_from_seed(person), states).items()}
        rows.append(slopes_of(Take(true["pose"], true["mouth"][:, 0], true["lids"], true["gaze"], None)))
    table = np.array([list(row.values()) for row in rows])
    unit = np.sqrt(np.square(table).mean(0))
    return dict(zip(COMPONENTS, unit.tolist(), strict=True)), float(np.quantile(np.abs(table / unit).max(1), 0.95))


if __name__ == "__main__":
    main()
