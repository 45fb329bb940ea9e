"""Inputs of the pipeline goldens (`golden_pipeline_seed<N>.npz`), from a seed and NumPy alone.

Use it beside `fixtures.py`.  Everything is in the layouts of the original torch pipeline (LivePortrait, JoyVASA): pictures
are uint8 RGB (h, w, 3), points (n, 2) are (x, y) in pixels, motion has a leading axis of one per frame.
What the original pipeline answered to these inputs is described in README.md.
"""

from __future__ import annotations

import numpy as np

from tests.parity import fixtures as fx

# --------------------------------------------------------------------------------------------------------------------
# Landmarks: which points of MediaPipe's 478 stand for the 106 of InsightFace and the 203 of LivePortrait.
# The crop reads only (a) eye and mouth-corner points by position and (b) the bounding box of *all* points, so that what
# stands at the other positions matters for (b) alone; repeats are harmless (the mean of the points cancels).
# --------------------------------------------------------------------------------------------------------------------
LEFT_EYE = (33, 159, 133, 145)
"""Outer corner, upper lid, inner corner, lower lid of the eye on the left side of the picture."""
RIGHT_EYE = (362, 386, 263, 374)
"""Inner corner, upper lid, outer corner, lower lid of the eye on the right side of the picture."""
MOUTH = (61, 291)
"""Outer mouth corners, left and right in the picture."""
INNER_LIPS = (13, 14)
"""Middle of the inner lips, upper and lower."""
CONTOUR = (
    127,
    234,
    93,
    132,
    58,
    172,
    136,
    150,
    149,
    176,
    148,
    152,
    377,
    400,
    378,
    379,
    365,
    397,
    288,
    361,
    323,
    454,
    356,
)
"""Face outline from temple to temple round the chin: no forehead, as in the 68, 106 and 203 point sets."""
BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 336, 296, 334, 293, 300, 285, 295, 282, 283, 276)
NOSE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 129, 358)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
EXTENT = CONTOUR + BROWS + NOSE + LIPS + LEFT_EYE + RIGHT_EYE + INNER_LIPS
"""The points whose bounding box is the face."""


def _fill(count: int, fixed: dict[int, int]) -> np.ndarray:
    rest = [point for point in EXTENT if point not in fixed.values()]
    index = np.full(count, 152)
    for place in range(count):
        index[place] = fixed[place] if place in fixed else (rest.pop(0) if rest else 152)
    assert not rest, "every point of the extent must be in the set"
    return index


def mediapipe_106() -> np.ndarray:
    """(106,) MediaPipe indices at the positions that the original reads of an InsightFace 106-point set."""
    eyes = dict(zip((35, 40, 39, 33), LEFT_EYE, strict=True)) | dict(zip((89, 94, 93, 87), RIGHT_EYE, strict=True))
    return _fill(106, eyes | dict(zip((52, 61), MOUTH, strict=True)))


def mediapipe_203() -> np.ndarray:
    """(203,) MediaPipe indices at the positions that the original reads of LivePortrait's 203-point set."""
    eyes = dict(zip((0, 6, 12, 18), LEFT_EYE, strict=True)) | dict(zip((24, 30, 36, 42), RIGHT_EYE, strict=True))
    mouth = dict(zip((48, 66), MOUTH, strict=True)) | dict(zip((90, 102), INNER_LIPS, strict=True))
    return _fill(203, eyes | mouth)


def mediapipe_5() -> np.ndarray:
    """(5,) stand-ins for eye centres, nose tip and mouth corners (irises 468 and 473)."""
    return np.array([468, 473, 4, 61, 291])


def mediapipe_9() -> np.ndarray:
    """(9,) stand-ins for the animal set: eye corners in its order, nose tip, mouth corners, upper and lower lip."""
    return np.array([33, 133, 362, 263, 4, 61, 291, 13, 14])


def mediapipe_68() -> np.ndarray:
    """(68,) MediaPipe indices for the classical 68 points; only 31, 37, 40, 43, 46, 49, 55 (counted from 1) and the box count."""
    jaw = (127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356)
    brows = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
    nose = (168, 197, 5, 4, 98, 97, 2, 326, 327)
    eyes = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
    mouth = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87)
    return np.array(jaw + brows + nose + eyes + mouth)


# --------------------------------------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------------------------------------
def to_uint8(picture: np.ndarray) -> np.ndarray:
    """(3, h, w) in [0, 1] -> (h, w, 3) uint8, rounded half up."""
    return np.floor(np.moveaxis(picture, 0, -1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def portrait(seed: int) -> np.ndarray:
    """A photograph to be shrunk: (1500, 1303, 3) uint8 (longest side above 1280, odd width after shrinking)."""
    return to_uint8(fx.image(seed, 1500)[0])[:, :1303]


def answer(seed: int) -> np.ndarray:
    """Stands for one answer of the generator: (512, 512, 3) uint8, unlike any portrait."""
    return to_uint8(fx.image(seed + 1000, 512)[0])


def source_video(seed: int, frames: int = 6, size: int = 480) -> list[np.ndarray]:
    """A source video: one picture that drifts by (3, -2) pixels a frame, wrapping round."""
    picture = to_uint8(fx.image(seed + 2000, size)[0])
    return [np.roll(picture, (-2 * k, 3 * k), (0, 1)) for k in range(frames)]


def drifting(points: np.ndarray, seed: int, frames: int = 6) -> list[np.ndarray]:
    """Landmarks that follow `source_video`, each frame with 0.3 pixels of noise of its own. float32."""
    return [
        (points + [3 * k, -2 * k] + 0.3 * fx.gaussian(seed, f"drift_{k}", points.shape)).astype(np.float32)
        for k in range(frames)
    ]


# --------------------------------------------------------------------------------------------------------------------
# Weights
# --------------------------------------------------------------------------------------------------------------------
_HEADS = {"kp": (0.25, 0.0), "exp": (0.015, 0.0), "t": (0.05, 0.0), "scale": (0.05, 1.3)}


def motion_extractor(seed: int) -> dict[str, np.ndarray]:
    """`liveportrait.motion_extractor` of `fixtures`, its heads tamed to the range of real faces.

    Weight and bias of a head are multiplied by its first number, its second is added to the bias.
    """
    tensors = fx.state_dict("liveportrait.motion_extractor", seed)
    for head, (factor, offset) in _HEADS.items():
        weight, bias = f"detector.fc_{head}.weight", f"detector.fc_{head}.bias"
        tensors[weight] = tensors[weight] * np.float32(factor)
        tensors[bias] = tensors[bias] * np.float32(factor) + np.float32(offset)
    return tensors


def corrector(name: str, seed: int) -> dict[str, np.ndarray]:
    """`liveportrait.<name>` ("stitching", "retarget_lip", "retarget_eye") with a last layer of a tenth: small corrections."""
    tensors = fx.state_dict(f"liveportrait.{name}", seed)
    last = list(tensors)[-1].rsplit(".", 1)[0]
    for leaf in ("weight", "bias"):
        tensors[f"{last}.{leaf}"] = tensors[f"{last}.{leaf}"] * np.float32(0.1)
    return tensors


# --------------------------------------------------------------------------------------------------------------------
# Motion
# --------------------------------------------------------------------------------------------------------------------
def rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """(Rz(roll) Ry(yaw) Rx(pitch)) transposed, of degrees, float64 (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad([pitch, yaw, roll])), np.sin(np.deg2rad([pitch, yaw, roll]))
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (rz @ ry @ rx).T


def driving(seed: int, frames: int = 6) -> dict:
    """A motion file as LivePortrait's: smooth motion in the range of real ones, float32."""
    rng = fx._rng(seed, "driving")
    base, wave, phase = rng.standard_normal((3, 21, 3))
    poses, phases = rng.uniform(4, 14, 3), rng.uniform(0, 6, 8)
    motion, eyes, lips = [], [], []
    for k in range(frames):
        angle = poses * np.sin(0.5 * k + phases[:3])
        motion.append(
            {
                "scale": np.array([[1.35 + 0.06 * np.sin(0.4 * k + phases[3])]], np.float32),
                "R": rotation(*angle)[None].astype(np.float32),
                "exp": (0.008 * base + 0.012 * wave * np.sin(0.6 * k + 2 * phase))[None].astype(np.float32),
                "t": np.array(
                    [[0.05 * np.sin(0.3 * k + phases[4]), 0.08 * np.cos(0.5 * k + phases[5]), 0.1]], np.float32
                ),
            }
        )
        eyes.append(np.array([[0.3 + 0.1 * np.sin(k + phases[6]), 0.28 + 0.1 * np.sin(k + phases[6])]], np.float32))
        lips.append(np.array([[0.12 + 0.1 * np.sin(0.8 * k + phases[7])]], np.float32))
    return {"n_frames": frames, "output_fps": 25, "motion": motion, "c_eyes_lst": eyes, "c_lip_lst": lips}


def motion_template(seed: int) -> dict[str, np.ndarray]:
    """JoyVASA's statistics as in a real template, float32, 1-D; ranges narrower: random weights give v of +-7, not 0..1."""
    rng = fx._rng(seed, "motion_template")
    template = {"mean_exp": 0.004 * rng.standard_normal(63), "std_exp": rng.uniform(0.003, 0.012, 63)}
    ranges = {"scale": (1.3, 1.4, 1), "t": (-0.03, 0.04, 3), "pitch": (-3, 4, 1), "yaw": (-5, 4, 1), "roll": (-2, 3, 1)}
    for name, (low, high, count) in ranges.items():
        spread = 0.1 * (high - low)
        template[f"min_{name}"] = low + spread * rng.uniform(-1, 1, count)
        template[f"max_{name}"] = high + spread * rng.uniform(-1, 1, count)
    return {name: value.astype(np.float32) for name, value in template.items()}


def sound(seed: int, samples: int = 80_000) -> np.ndarray:
    """(samples,) 16 kHz: five seconds are 128 frames of motion in two windows."""
    return fx.speech(seed, samples)[0]


def step_noise(seed: int, window: int, step: int) -> np.ndarray:
    """z of a diffusion step (50..2); x_T is `fixtures.gaussian(seed, "x_T", (1, 100, 73))` for every window."""
    return fx.gaussian(seed, f"z_window{window}_step{step}", (1, 100, 73))
