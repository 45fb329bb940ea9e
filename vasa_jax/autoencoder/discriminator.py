"""The player against the face autoencoder: patch discriminators at several scales, with spectral norm.

MegaPortraits (section 3.3) trains against the discriminators of pix2pixHD (Wang et al. 2018, arXiv 1711.11585): one of
equal layout for the picture, one for the picture at half its size, and so on; each answers for every patch apart (with
three downsamplings a patch is 70 pixels wide), so that it judges texture and not the scene. There are no norm layers:
every kernel is divided by its largest singular value (Miyato et al. 2018, arXiv 1802.05957), so that no sample sees
another, and

    w' = w / sigma,   sigma = v . W u,                                                                           (1)

with W the kernel as a matrix of (taps and inputs) x outputs and u, v its leading singular vectors. They are followed
by one power iteration a step,

    v <- W u / |W u|,   u <- W^T v / |W^T v|,                                                                    (2)

and count as constants: the gradient of sigma goes through W alone. The vectors are no parameters. They depend on the
kernels and never on data, so every device of a training finds the same ones.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.errors import UserError
from vasa_jax.nn.convolution import convolve_2d
from vasa_jax.nn.gathering import gather
from vasa_jax.nn.initialisers import scaled_uniform
from vasa_jax.nn.resize import average_pool

SPECTRAL = "spectral"
"""The collection of the vectors."""
SLOPE = 0.2
"""Of the leaky ReLU below zero."""
_KERNEL = 4
_STARTING_ITERATIONS = 15
_FULL = jax.lax.Precision.HIGHEST
"""Accelerators would round the products of the power iteration, which are few."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes; the defaults are pix2pixHD's with two scales."""

    width: int = 64  # channels of the first layer; they double with every other, up to eight times as many
    layers: int = 3  # downsamplings of each discriminator
    scales: int = 2  # discriminators, each at half the size of the one before
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the features; parameters, vectors and logits stay float32

    def __post_init__(self):
        for name in ("width", "layers", "scales"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} of the discriminator must be 1 or more")

    @property
    def compute_dtype(self) -> jnp.dtype | None:
        """The dtype of features as Linen takes it: None is that of inputs and parameters, float32 unless widened."""
        return None if self.dtype == "float32" else jnp.dtype(self.dtype)

    def check(self, image_size: int) -> None:
        """Raise UserError for pictures of a side in pixels that the scales cannot halve, or that leave the coarsest
        discriminator fewer cells than its kernels have taps."""
        halved = 2 ** (self.layers + self.scales - 1)
        if image_size % halved or image_size < _KERNEL * halved:
            raise UserError(
                f"pictures of {image_size} pixels do not fit a discriminator of scales={self.scales} and "
                f"layers={self.layers}: their side must be a multiple of {halved}, {_KERNEL * halved} or more; lower "
                "scales or layers"
            )


class Scores(NamedTuple):
    """What one discriminator says of pictures.

    logits: (b, h, w, 1) float32, one a patch; above 0 is real.
    features: of its layers but the last, (b, h', w', c) each, from shallow to deep.
    """

    logits: Any
    features: tuple[Any, ...]


class SpectralConvolution(nn.Module):
    """A 4x4 convolution whose kernel is divided by its largest singular value (equation 1); sizes are kept at stride 1
    and halved at stride 2."""

    features: int
    stride: int
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b height width k"]:
        """Convolve a batch."""
        shape = (_KERNEL, _KERNEL, x.shape[-1], self.features)
        kernel = self.param("kernel", scaled_uniform(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        u = self.variable(SPECTRAL, "u", lambda: _start(self.make_rng("params"), shape[-1])).value
        v = self.variable(SPECTRAL, "v", lambda: _start(self.make_rng("params"), kernel.size // shape[-1])).value
        kernel = kernel / spectral_norm(kernel, u, v)
        x = x.astype(self.dtype or jnp.result_type(x, kernel))
        around = (1, 1) if self.stride == 2 else (1, 2)
        y = convolve_2d(x, gather(kernel.astype(x.dtype)), self.stride, (around, around))
        return y + bias.astype(y.dtype)[None, None, None]


class PatchDiscriminator(nn.Module):
    """One scale: `layers` convolutions of stride 2, one of stride 1, and one to a logit a patch."""

    config: DiscriminatorConfig

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"]) -> Scores:
        """Judge pictures in 0..1."""
        config, features = self.config, []
        x = 2.0 * pictures - 1.0
        for index in range(config.layers + 1):
            width, stride = config.width * min(2**index, 8), 2 if index < config.layers else 1
            x = SpectralConvolution(width, stride, config.compute_dtype, name=f"conv_{index}")(x)
            x = nn.leaky_relu(x, SLOPE)
            features.append(x)
        x = SpectralConvolution(1, 1, config.compute_dtype, name="patches")(x)
        return Scores(x.astype(jnp.promote_types(x.dtype, jnp.float32)), tuple(features))


class Discriminator(nn.Module):
    """All scales, the finest first."""

    config: DiscriminatorConfig

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"]) -> tuple[Scores, ...]:
        """Judge pictures in 0..1."""
        scores = []
        for scale in range(self.config.scales):
            pictures = average_pool(pictures, (2, 2)) if scale else pictures
            scores.append(PatchDiscriminator(self.config, name=f"scale_{scale}")(pictures))
        return tuple(scores)


def init(config: DiscriminatorConfig, key: Array, image_size: int) -> tuple[Any, Any]:
    """Random parameters, and the singular vectors of their kernels.

    Raises:
        UserError: for an image size that does not fit, as `DiscriminatorConfig.check`.
    """
    config.check(image_size)
    variables: Any = Discriminator(config).init(key, jnp.zeros((1, image_size, image_size, 3), jnp.float32))
    params, vectors = variables["params"], variables[SPECTRAL]
    vectors = jax.lax.fori_loop(0, _STARTING_ITERATIONS, lambda _, old: advance(config, params, old), vectors)
    return params, vectors


def advance(config: DiscriminatorConfig, params: Any, vectors: Any) -> Any:
    """The vectors after one power iteration of every kernel, equation 2; no gradient goes through it."""

    def walk(params: Mapping[str, Any], vectors: Mapping[str, Any]) -> dict[str, Any]:
        if "u" not in vectors:
            return {name: walk(params[name], part) for name, part in vectors.items()}
        matrix = _matrix(params["kernel"])
        v = _unit(jnp.dot(matrix, vectors["u"], precision=_FULL))
        return {"u": _unit(jnp.dot(v, matrix, precision=_FULL)), "v": v}

    return jax.lax.stop_gradient(walk(params, vectors))


def discriminate(
    config: DiscriminatorConfig, params: Any, vectors: Any, pictures: Float[Array, "b h w 3"]
) -> tuple[Scores, ...]:
    """What the discriminators of all scales say of pictures in 0..1, the finest first; nothing is changed."""
    scores: Any = Discriminator(config).apply({"params": params, SPECTRAL: vectors}, pictures)
    return scores


def spectral_norm(kernel: Float[Array, "kh kw c k"], u: Float[Array, " k"], v: Float[Array, " n"]) -> Float[Array, ""]:
    """The largest singular value of a kernel whose leading vectors are u and v, equation 1."""
    u, v = jax.lax.stop_gradient((u, v))
    return jnp.dot(v, jnp.dot(_matrix(kernel), u, precision=_FULL), precision=_FULL)


def _start(key: Array, count: int) -> Float[Array, " n"]:
    return _unit(scaled_uniform()(key, (1, count))[0])


def _unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    return x / (jnp.sqrt(jnp.square(x).sum()) + 1e-12)


def _matrix(kernel: Float[Array, "kh kw c k"]) -> Float[Array, "n k"]:
    return kernel.reshape(-1, kernel.shape[-1])
