"""Judges of stage 2: does motion join, is it steady, alive, obedient, and does it stay so?

Every judge is a function of evidence that `evidence.MotionEvidence` holds. With x a curve of one component in t frames,
d x its steps and d2 x its second differences:

    seam       mean |d x| where a window begins over mean |d x| within windows; 1 is no seam                     (1)
    jitter     mean |d2 x|: at 25 frames a second a head that trembles shows here before anywhere else           (2)
    amplitude  mean |d x|, and the deviation of x within a clip: a head may be steady because it is dead         (3)
    spectrum   root mean square over octaves and components of the difference of mean power in decibels          (4)
    drift      slope of x over minutes, from means over ten seconds                                              (5)

Several components are averaged in deviations of the true clips, so that degrees and shifts count alike.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vasa_jax.arrays import FPS
from vasa_jax.metrics.correlation import lagged_correlation
from vasa_jax.metrics.judges.evidence import Asked, Brows, Felt, Hearing, Long, Performance, Seen, Take, pauses
from vasa_jax.metrics.judges.protocol import Judge, Row, mean, ratio, row

COMPONENTS: Mapping[str, tuple[str, Callable[[Take], np.ndarray]]] = {
    "pitch": ("deg", lambda take: np.degrees(take.pose[:, 0])),
    "yaw": ("deg", lambda take: np.degrees(take.pose[:, 1])),
    "roll": ("deg", lambda take: np.degrees(take.pose[:, 2])),
    "x": ("% of half the picture", lambda take: 100 * take.pose[:, 3]),
    "y": ("% of half the picture", lambda take: 100 * take.pose[:, 4]),
    "distance": ("%", lambda take: 100 * take.pose[:, 5]),
    "mouth": ("% open", lambda take: 100 * take.mouth),
    "lids": ("% open", lambda take: 100 * take.lids.mean(1)),
    "gaze_x": ("deg", lambda take: np.degrees(take.gaze[:, 0])),
    "gaze_y": ("deg", lambda take: np.degrees(take.gaze[:, 1])),
}
"""Curves of a take by name, with their units; of the distance its logarithm, where 1 % is a hundredth."""
DRIFTS = (*COMPONENTS, "code", "step")
"""What may drift: the components, the distance of the code from true ones, and the head's liveliness."""
OCTAVES = (0.09, 0.2, 0.4, 0.8, 1.6)
"""Edges of the bands of (4) in hertz: where heads of the world move. What lies above is (2)'s."""
BLOCK = 10 * FPS
"""Frames of a mean of (5)."""
CHANCE = 12.5
"""Per cent of eight emotions that a guess hits."""
SHUT, OPEN = 0.5, 0.75
"""A blink begins below the one share of a clip's median lids, and has ended above the other."""


def deviation(curves: Sequence[Float[np.ndarray, "t c"]], floor: float = 0.1) -> Float[np.ndarray, " c"]:
    """The deviation of each component over the frames of all clips, at least `floor` of the largest one."""
    joined = np.concatenate(curves).astype(np.float64).std(0)
    return np.maximum(joined, floor * joined.max())


def steps_at(curve: Float[np.ndarray, "t c"], hop: int, unit: Float[np.ndarray, " c"]) -> tuple[float, float]:
    """Mean size of a step where windows begin, and within them: top and bottom of (1)."""
    steps = np.abs(np.diff(np.asarray(curve, np.float64), axis=0) / unit).mean(1)
    border = np.arange(1, len(curve)) % hop == 0
    if not border.any() or border.all():
        return float("nan"), float("nan")
    return float(steps[border].mean()), float(steps[~border].mean())


def second_difference(curve: Float[np.ndarray, "t ..."]) -> float:
    """(2)."""
    return float(np.abs(np.diff(np.asarray(curve, np.float64), 2, axis=0)).mean())


def step(curve: Float[np.ndarray, "t ..."]) -> float:
    """Mean |d x|."""
    return float(np.abs(np.diff(np.asarray(curve, np.float64), axis=0)).mean())


def bands(curve: Float[np.ndarray, "t c"]) -> Float[np.ndarray, "f c"]:
    """Mean power in the bands of `OCTAVES`, Hann windowed, of what departs from the clip's mean."""
    centred = np.asarray(curve, np.float64) - np.mean(curve, 0, dtype=np.float64)
    power = np.square(np.abs(np.fft.rfft(centred * np.hanning(len(curve))[:, None], axis=0)))
    frequency = np.fft.rfftfreq(len(curve), 1 / FPS)
    inside = [(frequency > low) & (frequency <= high) for low, high in zip(OCTAVES, OCTAVES[1:], strict=False)]
    return np.stack([power[band].mean(0) for band in inside if band.any()])


def spectral_distance(made: Float[np.ndarray, "n f c"], truth: Float[np.ndarray, "m f c"]) -> float:
    """(4), in decibels."""
    apart = 10 * np.log10((made.mean(0) + 1e-12) / (truth.mean(0) + 1e-12))
    return float(np.sqrt(np.square(apart).mean()))


def slope(minutes: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> float:
    """The slope of a straight line through points, by least squares."""
    centred = minutes - minutes.mean()
    below = float((centred * centred).sum())
    return float((centred * values).sum()) / below if below else float("nan")


def count_blinks(lids: Float[np.ndarray, " t"]) -> int:
    """How often lids shut and open again, with the thresholds `SHUT` and `OPEN`."""
    middle, shut, blinks = float(np.median(lids)), False, 0
    for value in lids:
        if not shut and value < SHUT * middle:
            shut, blinks = True, blinks + 1
        elif shut and value > OPEN * middle:
            shut = False
    return blinks


def stillness(top: np.ndarray, bottom: np.ndarray, every: np.ndarray) -> float:
    """1 - the mean step in pauses, a ratio, over the mean step of all frames: 1 is still, 0 moves as in speech."""
    return 1.0 - ratio(top, bottom) / mean(every)


def _seam(performances: Sequence[Performance]) -> list[Row]:
    poses = deviation([one.truth.pose for one in performances])
    codes = deviation([one.encoded.dynamics for one in performances])

    def columns(takes: Sequence[Take], part: str, unit: np.ndarray) -> tuple[np.ndarray, ...]:
        pairs = [steps_at(getattr(take, part), one.hop, unit) for take, one in zip(takes, performances, strict=True)]
        return tuple(np.array(pairs).T)

    made, truth, encoded = _takes(performances)
    return [
        row(
            "seam/pose",
            "",
            "truth",
            columns(made, "pose", poses),
            columns(truth, "pose", poses),
            columns(encoded, "pose", poses),
            ratio,
        ),
        row(
            "seam/dynamics",
            "",
            "truth",
            columns(made, "dynamics", codes),
            encoded=columns(encoded, "dynamics", codes),
            statistic=ratio,
        ),
    ]


def _jitter(performances: Sequence[Performance]) -> list[Row]:
    unit = deviation([one.truth.pose for one in performances])
    rows = [_of("jitter/pose", "deviations", performances, lambda take: second_difference(take.pose / unit))]
    for name, (measure, curve) in COMPONENTS.items():
        of = _of(f"jitter/{name}", measure, performances, lambda take, curve=curve: second_difference(curve(take)))
        rows.append(of)
    return rows


def _amplitude(performances: Sequence[Performance]) -> list[Row]:
    unit = deviation([one.truth.pose for one in performances])
    return [
        _of("amplitude/step", "deviations", performances, lambda take: step(take.pose / unit)),
        _of("amplitude/angles", "deg", performances, lambda take: step(np.degrees(take.pose[:, :3]))),
        _of("amplitude/sway", "deviations", performances, lambda take: mean((take.pose / unit).std(0))),
        _of("amplitude/mouth", "% open", performances, lambda take: step(100 * take.mouth)),
    ]


def _mouth(performances: Sequence[Performance]) -> list[Row]:
    return [
        _of("mouth/opening", "% open", performances, lambda take: mean(100 * take.mouth)),
        _of("mouth/deviation", "% open", performances, lambda take: float((100 * take.mouth).std())),
    ]


def _spectrum(performances: Sequence[Performance]) -> list[Row]:
    made, truth, encoded = (np.stack([bands(take.pose) for take in takes]) for takes in _takes(performances))
    return [row("spectrum", "dB", "low", (made, truth), (truth[::2], truth[1::2]), (encoded, truth), spectral_distance)]


def _lip_sync(hearings: Sequence[Hearing]) -> list[Row]:
    def lagged(curves: Sequence[np.ndarray]) -> np.ndarray:
        return np.array(
            [lagged_correlation(one.own.truth.mouth, curve) for one, curve in zip(hearings, curves, strict=True)]
        )

    own, other, nothing = (
        lagged([getattr(one, name).made.mouth for one in hearings]) for name in ("own", "other", "nothing")
    )
    encoded, strangers = lagged([one.own.encoded.mouth for one in hearings]), lagged([one.stranger for one in hearings])
    apart = own[:, 0] - nothing[:, 0]
    return [
        row("lip_sync/own", "correlation", "high", (own[:, 0],), 1.0, (encoded[:, 0],)),
        row("lip_sync/own_lag", "frames", "zero", (own[:, 2],), 0.0, (encoded[:, 2],)),
        row("lip_sync/other", "correlation", "zero", (other[:, 0],), (strangers[:, 0],)),
        row("lip_sync/nothing", "correlation", "zero", (nothing[:, 0],), 0.0),
        row("lip_sync/own_above_nothing", "correlation", "high", (apart,), 1.0),
    ]


def _silent_lips(performances: Sequence[Performance]) -> list[Row]:
    quiet = [pauses(one.sound) for one in performances]

    def opening(takes: Sequence[Take]) -> tuple[np.ndarray, ...]:
        pairs = [(100 * take.mouth[still].sum(), still.sum()) for take, still in zip(takes, quiet, strict=True)]
        return tuple(np.array(pairs, np.float64).T)

    def moving(takes: Sequence[Take]) -> tuple[np.ndarray, ...]:
        pairs = []
        for take, still in zip(takes, quiet, strict=True):
            both = still[1:] & still[:-1]
            pairs.append((100 * np.abs(np.diff(take.mouth))[both].sum(), both.sum()))
        return tuple(np.array(pairs, np.float64).T)

    def still(takes: Sequence[Take]) -> tuple[np.ndarray, ...]:
        every = [(step(100 * take.mouth),) for take in takes]
        return (*moving(takes), *np.array(every).T)

    return [
        *(
            row(name, "% open", "truth", *map(columns, _takes(performances)), statistic=ratio)
            for name, columns in (("silent_lips/opening", opening), ("silent_lips/step", moving))
        ),
        row("silent_lips/stillness", "", "truth", *map(still, _takes(performances)), statistic=stillness),
    ]


def _blinks(performances: Sequence[Performance]) -> list[Row]:
    def rate(take: Take) -> float:
        return 60 * FPS * count_blinks(take.lids.mean(1)) / len(take.lids)

    return [_of("blinks", "a minute", performances, rate)]


def _gaze(gazes: Sequence[Asked]) -> list[Row]:
    def off(means: np.ndarray, wish: np.ndarray) -> np.ndarray:
        return np.degrees(np.linalg.norm(means - wish, axis=1))

    return _off("gaze", "deg", gazes, off)


def _distance(distances: Sequence[Asked]) -> list[Row]:
    def off(means: np.ndarray, wish: np.ndarray) -> np.ndarray:
        return 100 * np.abs(np.exp(means[:, 0] - wish[0]) - 1)

    return _off("distance", "%", distances, off)


def _off(name: str, unit: str, wishes: Sequence[Asked], off: Callable[..., np.ndarray]) -> list[Row]:
    """How far clips are off what was asked."""
    rows = []
    for one in wishes:
        made, truth, encoded = ((off(means, one.wish),) for means in (one.made, one.truth, one.encoded))
        rows.append(row(f"{name}/{one.name}", unit, "zero", made, truth, encoded))
    return rows


def _emotion(felt: Felt) -> list[Row]:
    hit, true = (100.0 * (told == felt.asked) for told in (felt.made, felt.true))
    return [row("emotion", "% recognised", "high", (hit,), (true,))]


def _brows(brows: Brows) -> list[Row]:
    def moving(curves: np.ndarray) -> tuple[np.ndarray]:
        return (np.abs(np.diff(curves, axis=1)).mean(1),)

    return [
        row("brows/step", "of -1..1", "truth", moving(brows.made), moving(brows.true)),
        row("brows/deviation", "of -1..1", "truth", (brows.made.std(1),), (brows.true.std(1),)),
    ]


def _drift(long: Long) -> list[Row]:
    apart = np.sqrt(np.square((long.made.dynamics - long.mean) / long.deviation).mean(1))
    moving = np.abs(np.diff(long.made.pose[:, :3], axis=0, prepend=long.made.pose[:1, :3])).mean(1)
    curves = {name: (unit, curve(long.made)) for name, (unit, curve) in COMPONENTS.items()}
    curves["code"] = "deviations", apart
    curves["step"] = "% of the mean", 100 * moving / max(float(moving.mean()), 1e-12)
    rows = []
    for name, (unit, curve) in curves.items():
        count = len(curve) // BLOCK
        blocks = np.asarray(curve[: count * BLOCK], np.float64).reshape(count, BLOCK).mean(1)
        minutes = (np.arange(count) + 0.5) * BLOCK / FPS / 60
        rows.append(row(f"drift/{name}", f"{unit} a minute", "zero", (minutes, blocks), 0.0, statistic=slope))
    return rows


def _frames(readings: Sequence[Seen]) -> list[Row]:
    def follows(name: str) -> tuple[np.ndarray]:
        return (np.array([_known(one.truth, getattr(one, name)) for one in readings]),)

    rows = [row("frames/mouth", "correlation", "high", follows("probe_made"), follows("probe_true"))]
    if all(one.landmarker_made is not None for one in readings):
        found, true = (
            (np.array([100.0 * np.isfinite(getattr(one, name)).mean() for one in readings]),)
            for name in ("landmarker_made", "landmarker_true")
        )
        made = follows("landmarker_made")
        rows.append(row("frames/jaw_open", "correlation", "high", made, follows("landmarker_true")))
        rows.append(row("frames/face_found", "%", "high", found, true))
    return rows


MOTION_JUDGES = (
    Judge("seam", "mean step where a window begins over that within windows", "performances", _seam),
    Judge("jitter", "mean second difference", "performances", _jitter),
    Judge("amplitude", "mean step, and deviation within a clip", "performances", _amplitude),
    Judge("spectrum", "distance of the head's power spectrum from the true one", "performances", _spectrum),
    Judge("mouth", "how far the mouth is open, and the deviation within a clip", "performances", _mouth),
    Judge("blinks", "how often eyes shut", "performances", _blinks),
    Judge("silent_lips", "how far the mouth is open, and its step, in pauses", "performances", _silent_lips),
    Judge("lip_sync", "correlation of the mouth with the true one", "hearings", _lip_sync),
    Judge("gaze", "how far the mean gaze is off the one that was asked for", "gazes", _gaze),
    Judge("distance", "how far the mean distance is off the one that was asked for", "distances", _distance),
    Judge("emotion", f"emotions that are recognised as those asked for; chance is {CHANCE} %", "emotions", _emotion),
    Judge("brows", "mean step of the brows, and deviation within a clip", "brows", _brows),
    Judge("drift", "slope over minutes of one session", "long", _drift),
    Judge("frames", "correlation of the mouth in rendered frames with the true one", "readings", _frames),
)
"""All of them, the quick ones first."""


def _takes(performances: Sequence[Performance]) -> tuple[list[Take], list[Take], list[Take]]:
    """Made, true and encoded ones, as `row` takes them."""
    made, truth, encoded = zip(*((one.made, one.truth, one.encoded) for one in performances), strict=True)
    return list(made), list(truth), list(encoded)


def _of(name: str, unit: str, performances: Sequence[Performance], number: Callable[[Take], float]) -> Row:
    """The row of a number of a take, whose true value is best."""
    made, truth, encoded = ((np.array([number(take) for take in takes]),) for takes in _takes(performances))
    return row(name, unit, "truth", made, truth, encoded)


def _known(truth: np.ndarray, seen: np.ndarray) -> float:
    """Correlation over the frames in which something was seen; 0 where there are fewer than three."""
    known = np.isfinite(seen)
    return lagged_correlation(truth[known], seen[known], 0).zero if known.sum() > 2 else 0.0
