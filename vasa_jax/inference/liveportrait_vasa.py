"""A pair of both worlds: LivePortrait draws, with its public weights, and this project's stage 2, trained on
LivePortrait's motion, moves (`configs/motion_liveportrait.py`).

It has what JoyVASA lacks: gaze, distance and emotion as conditions, context across windows, sound heard as it comes.
Motion departs from the mean of the training set, not from a calm frame of its own, so that a gaze or a distance that is
asked for throughout is seen.
"""

import dataclasses
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax import config as configs
from vasa_jax.arrays import Motion
from vasa_jax.checkpoint import Release
from vasa_jax.errors import UserError
from vasa_jax.inference.controls import Controls
from vasa_jax.inference.pair import Adjustments, Options
from vasa_jax.inference.public import NETWORKS, PublicFace, PublicPair, PublicPortrait, RetargetState, check_face
from vasa_jax.inference.session import Carry
from vasa_jax.inference.vasa import Dtype, MotionModel, speech_of
from vasa_jax.liveportrait.animation import calmest
from vasa_jax.liveportrait.driving import DrivingMotion
from vasa_jax.liveportrait.keypoints import HeadMotion, relative_motion
from vasa_jax.liveportrait.motion_code import from_code
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.statistics import Statistics

KIND = "liveportrait-vasa"
"""Of releases and motion files of this pair."""


class HeadMotionModel(MotionModel):
    """Stage 2 whose motion is LivePortrait's: its dynamics code is that of `liveportrait.motion_code`."""

    def step(
        self,
        carry: Carry,
        sound: Float[Array, " n"],
        heard: int,
        hop: int,
        controls: Controls,
        options: Options = Options(),  # noqa: B008 (frozen)
    ) -> tuple[Carry, HeadMotion]:
        """The next frames, as LivePortrait's motion; see `vasa.MotionModel.step`."""
        carry, motion = super().step(carry, sound, heard, hop, controls, options)
        return carry, from_code(motion)

    def step_together(self, *arguments: Any, **named: Any) -> list[tuple[Carry, HeadMotion]]:
        """As `vasa.MotionModel.step_together`."""
        return [(carry, from_code(motion)) for carry, motion in super().step_together(*arguments, **named)]

    def mean(self) -> HeadMotion:
        """The mean (1, ...) of the training set."""
        statistics = jax.device_get(self.statistics)
        return from_code(Motion(jnp.asarray(statistics.pose_mean)[None], jnp.asarray(statistics.dynamics_mean)[None]))


@dataclasses.dataclass(frozen=True)
class LivePortraitVasaPair(PublicPair):
    """Both, joined by motion relative to the training set's mean."""

    motion: HeadMotionModel
    kind: str = KIND

    def retarget(
        self,
        portrait: PublicPortrait,
        state: RetargetState | None,
        motion: HeadMotion,
        controls: Any,
        adjustments: Adjustments,
    ) -> tuple[RetargetState, Float[Array, "t 21 3"]]:
        """Keypoints of a stretch of motion, relative to the training set's mean; the head is smoothed as JoyVASA's."""
        if state is None:
            mean = self.motion.mean()
            state = RetargetState(mean, HeadMotion(*(np.asarray(part)[:1] for part in motion)))
        return super().retarget(portrait, state, motion, controls, adjustments)

    def follow(self, driver: DrivingMotion, pose: bool) -> HeadMotion:
        """LivePortrait's motion, moved from the training mean as it moves from its own calmest frame."""
        del pose
        moved = relative_motion(self.motion.mean(), driver.motion, calmest(driver.motion))
        return HeadMotion(*(np.asarray(part, np.float32) for part in moved))


def from_release(
    release: Release, name: str, dtype: Dtype = "float32", speech: str | os.PathLike | None = None
) -> LivePortraitVasaPair:
    """The pair of a release that was read.

    Args:
        release: as `vasa_jax.training.export` writes it from a run on LivePortrait's motion.
        name: what errors call it.
        dtype: of the features while computing; parameters, keypoints and the sampler's state stay float32.
        speech: as for `vasa.from_release`.

    Raises:
        UserError: a release that is not whole, or whose parts do not fit; a speech network as `vasa.speech_of` says.
    """
    check_face(release.tensors, name)
    if missing := [part for part in ("motion", "statistics") if part not in release.tensors]:
        raise UserError(f"{name} is not a complete model: it has no {missing[0]}.safetensors; export the run again")
    config = configs.from_json(json.dumps(release.config["motion"]), MotionConfig)
    motion = HeadMotionModel(
        dataclasses.replace(config, dtype=dtype),
        release.tensors["motion"],
        Statistics(**release.tensors["statistics"]),
        speech_of(config.audio, name, speech),
    )
    face = PublicFace({network: release.tensors[network] for network in NETWORKS}, dtype)
    return LivePortraitVasaPair(face, motion)
