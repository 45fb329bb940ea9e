"""Array containers and constants that every room shares, and the glossary of shape letters.

A face in motion is a `Portrait` (what stays: VASA-1 section 3.1, V_app and z_id) and a `Motion` per frame (what moves:
z_pose and z_dyn). Video runs at 25 frames a second and sound at 16 kHz, so one frame owns exactly 640 samples: frame i
covers the samples [640 i, 640 (i + 1)).

Shape letters in signatures:

    b  batch                      c  channels
    t  time, in frames            z  size of the dynamics code z_dyn
    n  samples of sound, points   k  size of an identity feature
    h  height (y, down)           w  width (x, right)
    d  depth (z, into the picture)

"Left" is the viewer's left everywhere. Fields of the containers are `Any`: beside arrays they also hold
shardings, specs and shapes of the same tree.
"""

from typing import Any, NamedTuple

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
POSE_DIM = 6
EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
"""The eight HSEmotion classes, in the order of every 8-vector of emotion."""


class Average(NamedTuple):
    """A mean over the samples that have what it measures, as two scalars that parts of a batch may add up.

    total: the sum over those samples.
    count: how many they are; 0 leaves the mean undefined.
    """

    total: Any
    count: Any


class Motion(NamedTuple):
    """What moves in one frame, in raw units (VASA-1 section 3.1: z_pose and z_dyn).

    pose: (..., 6) float32: pitch, yaw, roll in radians; tx, ty in units of the crop (half the picture is 1); log
        distance, where 0 is the training mean. yaw > 0 turns the face to the viewer's left, pitch > 0 looks down,
        roll > 0 is clockwise in the picture.
    dynamics: (..., z) float32: the facial dynamics code, of no fixed scale (`motion.statistics` normalises it).
    """

    pose: Any
    dynamics: Any


class Portrait(NamedTuple):
    """What stays of one face (VASA-1 section 3.1: V_app and z_id).

    volume: (b, d, h, w, c): the canonical appearance volume; x right, y down, z into the picture, each in [-1, 1].
    identity: (b, 4, 4, k): the identity feature map that both warps read.
    """

    volume: Any
    identity: Any
