"""Parameters and multiply-adds of each block of the face autoencoder, counted abstractly: nothing is allocated.

The rows are those of the network table: E_app, identity, pose and dynamics, the two warp generators with their shared
projection, G3D and G2D. A driven frame costs the driven warp and G2D (and one 3-D grid sample, which has no
multiply-adds of the counted kind); a portrait costs the rest once.
"""

import functools

import jax
import jax.numpy as jnp

from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.nn import cost

BLOCKS = {
    "appearance": ("appearance",),
    "identity": ("identity",),
    "motion": ("pose_encoder", "dynamics_encoder"),
    "warps": ("projection", "canonical_warp", "driven_warp"),
    "canonical": ("canonical",),
    "decoder": ("decoder",),
}
"""Rows of the network table, each with the submodules of `Autoencoder` that it counts."""


@functools.cache
def abstract_parameters(config: AutoencoderConfig) -> dict:
    """The tree of parameters as shapes: {"params": {submodule: ...}}."""
    image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    return jax.eval_shape(Autoencoder(config).init, jax.random.key(0), image, image)


def count_parameters(config: AutoencoderConfig) -> dict[str, int]:
    """Number of parameters of each block of `BLOCKS`, and of all under "total"."""
    params = abstract_parameters(config)["params"]
    counts = {row: sum(cost.count_parameters(params[name]) for name in names) for row, names in BLOCKS.items()}
    return counts | {"total": cost.count_parameters(params)}


def count_macs(config: AutoencoderConfig) -> dict[str, int]:
    """Multiply-adds of each part for one picture, and sums: "portrait" (once, its motion included) and "frame"."""
    variables = abstract_parameters(config)
    model = Autoencoder(config)

    def count(function, *shapes):
        arguments = (jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in shapes)
        return cost.count_macs(
            lambda variables, *arrays: model.apply(variables, *arrays, method=function), variables, *arguments
        )

    picture = (config.image_size, config.image_size, 3)
    code = (4, 4, config.identity_channels)
    macs = {
        "appearance": count(lambda m, x: m.appearance(x), picture),
        "identity": count(lambda m, x: m.identity(x), picture),
        "motion": count(lambda m, x: m.motion(x), picture),
        "projection": count(lambda m, x: m.projection(x), (config.dynamics_dim,)),
        "canonical_warp": count(lambda m, x: m.canonical_warp(x), code),
        "canonical": count(lambda m, x: m.canonical(x), config.volume_shape),
        "driven_warp": count(lambda m, x: m.driven_warp(x), code),
        "decoder": count(lambda m, x: m.decoder(x), config.volume_shape),
    }
    frame = macs["projection"] + macs["driven_warp"] + macs["decoder"]
    portrait = sum(macs.values()) - macs["driven_warp"] - macs["decoder"]
    return macs | {"portrait": portrait, "frame": frame}
