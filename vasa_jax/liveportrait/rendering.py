"""W, then G: keypoints of frames to pictures of one source (LivePortrait section 3.1)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.liveportrait.generator import SpadeGenerator
from vasa_jax.liveportrait.warping import WarpingModule, WarpSource


def render(
    warping: Any,
    generator: Any,
    source: WarpSource,
    driving: Float[Array, "t 21 3"],
    dtype: DTypeLike | None = None,
) -> Float[Array, "t 512 512 3"]:
    """RGB pictures in 0..1, float32.

    Args:
        warping: variables of `WarpingModule`.
        generator: variables of `SpadeGenerator`.
        source: what W prepared of one picture.
        driving: keypoints of the frames, in the units of the grid, -1..1.
        dtype: of features while computing; None is float32.
    """
    source = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(driving), *leaf.shape[1:])), source)
    warped: Any = WarpingModule(dtype).apply(warping, source, driving, method="warp")
    return jnp.asarray(SpadeGenerator(dtype).apply(generator, warped["features"]))
