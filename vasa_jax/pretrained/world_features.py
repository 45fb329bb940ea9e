"""A feature network of the synthetic world: who a person is, how the head is posed, and what the face does.

Stage 1's perceptual, face, gaze and identity terms (MegaPortraits section 3.3, VASA-1 section 3.1) ask frozen networks
that were trained on real photographs. The world's people are drawings, for which there is none; this small network
takes all four parts. Its maps are compared by perceptual terms, its unit vectors by the identity term.

One trunk of a plain convolution and four residual blocks, each of half the side, serves two kinds of pictures of any
side: whole ones, and upright face crops at the head pose. Its last map is averaged to a grid of 4 x 4 cells, so that
the heads know where something is and no side is built in. The first map has no norm: a picture that is softer or darker
differs there first.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.errors import UserError
from vasa_jax.nn.convolution import Convolution
from vasa_jax.nn.gathering import Dense
from vasa_jax.nn.initialisers import scaled_uniform
from vasa_jax.nn.normalisation import GroupNorm
from vasa_jax.nn.resnet import ResNetBlock

KIND = "world_features"
"""Of its releases."""
SMALLEST = 32
"""Side of the smallest picture, in pixels: two cells a side are left in the last map."""
GRID = 4
"""Cells a side that the heads read."""
POSE_UNIT = (0.2, 0.35, 0.15, 0.06, 0.06, 0.12)
"""About one standard deviation of the pose vector in the world, in its units."""
EXPRESSION = {
    "mouth": (0.3, 0.25),
    "lid_left": (0.7, 0.25),
    "lid_right": (0.7, 0.25),
    "gaze_x": (0.0, 0.35),
    "gaze_y": (0.0, 0.25),
    "brow_raise": (0.0, 0.5),
    "brow_furrow": (0.25, 0.3),
    "jaw": (0.4, 0.3),
    "lip_width": (0.0, 0.6),
    "rounding": (0.25, 0.3),
    "corner_pull": (0.0, 0.5),
    "teeth": (0.3, 0.3),
}
"""What the face does: name to the centre and unit of the number. `mouth` and `lids` as labels give them, gaze theta and
phi in the head (radians), the rest as in `synthetic.state.State`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldFeaturesConfig:
    """Sizes of the network."""

    stem: int = 12  # channels of the first map, at the picture's side
    widths: tuple[int, ...] = (24, 48, 96, 160)  # channels of the maps after it, each of half the side
    groups: int = 8  # of every GroupNorm, lowered where a width is not a multiple
    neck: int = 48  # channels of the 4 x 4 cells that the heads read
    hidden: int = 128  # of the layer before pose and expression
    embedding: int = 45  # numbers that say who it is, one for each that the world draws a face from
    crop: int = 64  # side of the face crop that `embed` takes, in pixels
    reach: float = 0.8  # half the side of that crop, in canonical head units

    def __post_init__(self):
        """Refuse sizes that do not fit together."""
        for name in ("stem", "groups", "neck", "hidden", "embedding"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name}={getattr(self, name)} must be 1 or more")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise UserError(f"model.widths={self.widths} must hold two widths or more, each of 1 or more")
        if self.crop < SMALLEST or not 0.0 < self.reach < 2.0:
            raise UserError(f"model: {self.crop=} must be {SMALLEST} or more and {self.reach=} lie in (0, 2)")


class Seen(NamedTuple):
    """What the network makes of b pictures.

    maps: the trunk's, (b, h, w, stem) and then (b, h / 2^i, w / 2^i, widths[i - 1]), in the compute dtype.
    identity: (b, k) float32 of unit length; of face crops.
    pose: (b, 6) in the project's units; of whole pictures.
    expression: (b, 12) in the order and units of `EXPRESSION`.
    """

    maps: tuple[Any, ...]
    identity: Any
    pose: Any
    expression: Any


class WorldFeatures(nn.Module):
    """The trunk and its three heads."""

    config: WorldFeaturesConfig
    dtype: Any = None

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"]) -> Seen:
        """Look at pictures 0..1, whose sides are at least `SMALLEST` pixels.

        Raises:
            ValueError: for smaller ones.
        """
        config = self.config
        if min(pictures.shape[1:3]) < SMALLEST:
            raise ValueError(f"pictures of {pictures.shape[1:3]} are too small; use {SMALLEST} pixels a side or more")
        x = (2.0 * pictures - 1.0).astype(self.dtype or pictures.dtype)
        x = nn.relu(Convolution(config.stem, (3, 3), standardised=False, dtype=self.dtype, name="stem")(x))
        maps = [x]
        for index, width in enumerate(config.widths):
            x = ResNetBlock(width, 2, False, config.groups, self.dtype, name=f"block_{index}")(x)
            maps.append(x)
        cells = Convolution(config.neck, (1, 1), name="neck")(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
        cells = nn.relu(GroupNorm(config.groups, name="neck_norm")(cells))
        cells = jax.image.resize(cells, (len(cells), GRID, GRID, config.neck), "linear").reshape(len(cells), -1)
        identity = Dense(config.embedding, kernel_init=scaled_uniform(), name="identity")(cells)
        hidden = nn.relu(Dense(config.hidden, kernel_init=scaled_uniform(2.0), name="hidden")(cells))
        told = Dense(6 + len(EXPRESSION), kernel_init=scaled_uniform(0.1), name="told")(hidden)
        centre, unit = jnp.asarray(list(EXPRESSION.values()), told.dtype).T
        return Seen(
            maps=tuple(maps),
            identity=unit_length(identity),
            pose=told[:, :6] * jnp.asarray(POSE_UNIT, told.dtype)[None],
            expression=centre[None] + told[:, 6:] * unit[None],
        )


def unit_length(x: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    """Vectors divided by their length."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def init(config: WorldFeaturesConfig, key: Any) -> dict[str, Any]:
    """Fresh parameters, float32."""
    variables: Any = WorldFeatures(config).init(key, jnp.zeros((1, SMALLEST, SMALLEST, 3)))
    return variables["params"]


def look(config: WorldFeaturesConfig, params: Any, pictures: Float[Array, "b h w 3"], dtype: Any = None) -> Seen:
    """Everything that the network tells of pictures 0..1, computed in `dtype`; see `Seen`."""
    seen: Any = WorldFeatures(config, dtype).apply({"params": params}, pictures)
    return seen


def features(config: WorldFeaturesConfig, params: Any, pictures: Float[Array, "b h w 3"]) -> tuple[Array, ...]:
    """The maps of pictures 0..1, from shallow to deep."""
    return look(config, params, pictures).maps


def embed(config: WorldFeaturesConfig, params: Any, crops: Float[Array, "b h w 3"]) -> Float[Array, "b k"]:
    """Vectors of unit length that say whose faces upright crops 0..1 show."""
    return look(config, params, crops).identity
