"""Stage 1 as stage 2 needs it: what encodes its clips, and what its sample videos are drawn with.

It is a face model of this project (VASA-1 section 3.1), from a release or a run's workdir, or LivePortrait's, from a
release of the public pair: then motion is LivePortrait's own, in the coordinates of `liveportrait.motion_code`.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vasa_jax.arrays import Motion
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.checkpoint import Release, digest, is_run, load_release
from vasa_jax.config import from_json
from vasa_jax.errors import UserError
from vasa_jax.inference import public
from vasa_jax.inference.liveportrait_vasa import HeadMotionModel, LivePortraitVasaPair
from vasa_jax.inference.pair import Pair
from vasa_jax.inference.vasa import FaceModel, MotionModel, VasaPair
from vasa_jax.liveportrait import pictures
from vasa_jax.liveportrait.keypoints import read_heads
from vasa_jax.liveportrait.motion_code import DYNAMICS_DIM, to_code
from vasa_jax.liveportrait.motion_extractor import MotionExtractor
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.statistics import Statistics
from vasa_jax.training.bundles import read_bundle
from vasa_jax.training.config import AutoencoderExperiment, from_saved


class Stage1(NamedTuple):
    """A face model that stage 2 is trained on.

    sizes: sides of the pictures that it reads, in pixels; pictures made for it have the first.
    dynamics_dim: size of its dynamics code.
    labelled: whether the code begins with the labelled numbers of `autoencoder.config`: mouth, lids, gaze.
    sha256: of the parameters that encode.
    motion: compiled, pictures (b, h, w, 3) float32 0..1 to `Motion`.
    join: (config, parameters, statistics, parameters of the frozen speech network) of a motion model to the pair that
        draws it with this face model.
    """

    sizes: tuple[int, ...]
    dynamics_dim: int
    labelled: bool
    sha256: str
    motion: Callable[[Any], Motion]
    join: Callable[[MotionConfig, Any, Statistics, Any], Pair]


def load_stage_1(source: str) -> Stage1:
    """Stage 1 from a release folder, a run's workdir (its averaged parameters), or a release of the public pair.

    Raises:
        UserError: where the folder is none of them, a release without stage 1, or a run of another stage.
    """
    release = None if is_run(source) else load_release(source)
    if release is not None and release.config.get("kind") == public.KIND:
        return _liveportrait(source, release.tensors)
    config, params = load_autoencoder(source) if release is None else _released(release, source)
    params = jax.device_put(params)
    encode = jax.jit(lambda p, frames: Autoencoder(config).apply({"params": p}, frames, method="motion"))
    return Stage1(
        (config.image_size,),
        config.dynamics_dim,
        True,
        digest(params),
        functools.partial(encode, params),
        lambda *motion: VasaPair(FaceModel(config, params), MotionModel(*motion)),
    )


def load_autoencoder(source: str) -> tuple[AutoencoderConfig, Any]:
    """This project's stage 1 from a release folder or a run's workdir (its averaged parameters).

    Returns:
        (config, parameters of the `Autoencoder`).

    Raises:
        UserError: where the folder is neither, a release without stage 1, or a run of another stage.
    """
    if is_run(source):
        _, saved, state = read_bundle(source)
        experiment = from_saved(saved, source)
        if not isinstance(experiment, AutoencoderExperiment):
            raise UserError(f"the run in {source!r} is of stage {experiment.kind!r}; name a stage 1 run or a release")
        return experiment.model, state["ema"]["autoencoder"]
    return _released(load_release(source), source)


def _released(release: Release, source: str) -> tuple[AutoencoderConfig, Any]:
    if "autoencoder" not in release.tensors:
        raise UserError(f"the release {source!r} holds no autoencoder; name one that does, or a stage 1 workdir")
    return from_json(json.dumps(release.config["autoencoder"]), AutoencoderConfig), release.tensors["autoencoder"]


def _liveportrait(source: str | Path, tensors: dict[str, Any]) -> Stage1:
    extractor = jax.device_put(tensors["motion_extractor"])

    @jax.jit
    def encode(variables: Any, frames: Any) -> Motion:
        frames = jnp.asarray(frames)
        heads = MotionExtractor().apply(variables, public.halved(frames))  # pyright: ignore[reportArgumentType]
        return to_code(read_heads(heads)[1])  # pyright: ignore[reportArgumentType]

    def join(*motion: Any) -> Pair:
        public.check_face(tensors, str(source))
        return LivePortraitVasaPair(public.PublicFace(tensors), HeadMotionModel(*motion))

    sizes = (pictures.CROP // 2, pictures.CROP)
    return Stage1(sizes, DYNAMICS_DIM, False, digest(extractor), functools.partial(encode, extractor), join)
