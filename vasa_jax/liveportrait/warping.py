"""W, the warping module: carries a source volume to the driving keypoints (LivePortrait section 3.1; face-vid2vid).

With a grid g, source keypoints s_k and driving keypoints d_k there are 22 candidate motions, "stay" and one shift a
keypoint:

    m_0 = g,   m_k = g - d_k + s_k                                                                               (1)

An hourglass sees, for each, the source's compressed volume moved by m_k and the difference of two heat maps
exp(-|g - p|^2 / 0.02) around driving and source point, and answers with a softmax over the candidates. The deformation
is their mean under it; the volume is sampled there, flattened to channels and multiplied by an occlusion map.

What depends on the source alone (compressed volume, its copy that stays, its heat maps) is computed once a source, in
`prepare`; `warp` is the work of a frame. The grid's ends are -1 and 1 at the centres of the outer cells while the
sampling takes them for their outer edges, a slight magnification that is part of the trained model.

Features may be computed in another dtype than float32; keypoints, grids, heat maps and the softmax may not.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.geometry.grid import grid_sample_3d_zeros, identity_grid
from vasa_jax.liveportrait.blocks import BatchNorm, ConvolutionNorm, depth_to_channels, plain
from vasa_jax.nn.resize import average_pool

KEYPOINTS = 21
_DOWN, _UP = (64, 128, 256, 512, 1024), (512, 256, 128, 64, 32)


class WarpSource(NamedTuple):
    """What `warp` needs of a source.

    volume: (b, d, h, w, 32). keypoints: (b, 21, 3). compressed: (b, d, h, w, 4). staying: compressed, sampled at g.
    heat: (b, d, h, w, 21), heat maps of the source keypoints.
    """

    volume: Array
    keypoints: Array
    compressed: Array
    staying: Array
    heat: Array


class Hourglass(nn.Module):
    """Five steps down and up in height and width, depth kept; every step's result meets its twin on the way up."""

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w k"]:
        """Features of c + 32 channels at the input's size."""
        layer = partial(ConvolutionNorm, dimensions=3, dtype=self.dtype)
        kept = [x]
        for i, features in enumerate(_DOWN):
            kept.append(average_pool(layer(features, name=f"down_{i}")(kept[-1]), (1, 2, 2)))
        x = kept.pop()
        for i, features in enumerate(_UP):
            y = layer(features, repeated=2, name=f"up_{i}")(x)
            x = jnp.concatenate([y, kept.pop()], -1)
        return layer(x.shape[-1], name="out")(x)


class WarpingModule(nn.Module):
    """The whole of W; `prepare` once a source and `warp` every frame, or both in one call.

    `dtype` is that of features while computing, None float32; `WarpSource` holds volumes in it.
    """

    dtype: DTypeLike | None = None

    def setup(self):
        """Name the layers."""
        dtype = self.dtype
        self.compress = plain(4, 1, 3, dtype=dtype)
        self.compress_norm = BatchNorm()
        self.hourglass = Hourglass(dtype)
        self.mask = plain(KEYPOINTS + 1, 7, 3, dtype=dtype)
        self.occlusion = plain(1, 7, dtype=dtype)
        self.third = ConvolutionNorm(256, slope=0.01, dtype=dtype)
        self.fourth = plain(256, 1, dtype=dtype)

    def __call__(
        self,
        volume: Float[Array, "b d h w 32"],
        driving: Float[Array, "b 21 3"],
        source: Float[Array, "b 21 3"],
    ) -> dict[str, Array]:
        """Carry appearance volumes from their source keypoints to the driving ones.

        Keypoints are (x, y, z) in the units of the grid, -1..1.

        Returns:
            `features` (b, h, w, 256) for the generator, in the dtype of features; `deformation` (b, d, h, w, 3), where
            each cell is taken from; and `occlusion` (b, h, w, 1), 0..1.
        """
        return self.warp(self.prepare(volume, source), driving)

    def prepare(self, volume: Float[Array, "b d h w 32"], source: Float[Array, "b 21 3"]) -> WarpSource:
        """Everything that no frame changes."""
        volume = volume.astype(self.dtype or volume.dtype)
        compressed = nn.relu(self.compress_norm(self.compress(volume)))
        grid = _grid(compressed)
        staying = grid_sample_3d_zeros(compressed, jnp.broadcast_to(grid, (*compressed.shape[:4], 3)))
        return WarpSource(volume, source, compressed, staying, _heat(grid, source))

    def warp(self, source: WarpSource, driving: Float[Array, "b 21 3"]) -> dict[str, Array]:
        """One frame a source; see `__call__`."""
        volume, keypoints, compressed, staying, heat = source
        b, d, h, w, c = compressed.shape
        grid = _grid(compressed)
        shifts = grid[:, None] - _points(driving) + _points(keypoints)  # equation 1
        moved = grid_sample_3d_zeros(compressed, shifts.reshape(-1, d, h, w, 3)).reshape(b, KEYPOINTS, d, h, w, c)
        moved = jnp.moveaxis(moved, 1, 4)
        candidates = jnp.concatenate([staying[..., None, :], moved], 4)
        difference = jnp.pad(_heat(grid, driving) - heat, [(0, 0)] * 4 + [(1, 0)]).astype(compressed.dtype)
        seen = jnp.concatenate([difference[..., None], candidates], -1).reshape(b, d, h, w, -1)
        features = self.hourglass(seen)
        share = nn.softmax(_exact(self.mask(features)))
        deformation = share[..., :1] * grid + jnp.einsum("bdhwk,bkdhwx->bdhwx", share[..., 1:], shifts)
        occlusion = nn.sigmoid(_exact(self.occlusion(depth_to_channels(features))))
        warped = depth_to_channels(grid_sample_3d_zeros(volume, deformation))
        return {
            "features": self.fourth(self.third(warped)) * occlusion.astype(volume.dtype),
            "deformation": deformation,
            "occlusion": occlusion,
        }


def _exact(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _grid(volume: Float[Array, "b d h w c"]) -> Float[Array, "1 d h w 3"]:
    return identity_grid(*volume.shape[1:4])[None]


def _points(keypoints: Float[Array, "b k 3"]) -> Float[Array, "b k 1 1 1 3"]:
    return keypoints[:, :, None, None, None]


def _heat(grid: Float[Array, "1 d h w 3"], keypoints: Float[Array, "b k 3"]) -> Float[Array, "b d h w k"]:
    """Gaussians of variance 0.01 around the keypoints, as products of one factor an axis."""
    axes = (grid[0, 0, 0, :, 0], grid[0, 0, :, 0, 1], grid[0, :, 0, 0, 2])
    x, y, z = (
        jnp.exp(-50.0 * jnp.square(axis[None, :, None] - keypoints[:, None, :, i])) for i, axis in enumerate(axes)
    )
    return z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
