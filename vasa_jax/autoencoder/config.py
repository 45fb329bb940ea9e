"""Every size of the face autoencoder (VASA-1 section 3.1; the numbers are MegaPortraits' network figure).

Two sets of sizes are kept here, and both build the same modules: `paper_model` (199.38M parameters at 512x512) and
`demo_model` (64x64, for two CPU cores). Only widths, depths, resolutions and the size of the dynamics code differ.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from vasa_jax.errors import UserError

Factors = tuple[int, int, int]

CODE_CELLS = 4  # side of the identity map, in cells
LABEL_MEAN = (0.3, 0.7, 0.7, 0.0, 0.0, 0.0, 0.0)
LABEL_UNIT = (0.25, 0.25, 0.25, 0.35, 0.35, 0.5, 0.5)
"""Centre and unit of the labelled numbers of the dynamics code: mouth, two lids (0..1), gaze in the head (two angles
in radians), lip corners and brows (-1..1)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of the stage 1 network; the defaults are the paper-size network."""

    image_size: int = 512  # side of the picture, in pixels
    volume_stride: int = 8  # pixels per volume cell: 8, or 4, 2 to leave out poolings and up-samplings
    volume_channels: int = 96  # channels of the appearance volume
    volume_depth: int = 16  # slices of the appearance volume
    dynamics_dim: int = 128  # numbers in the dynamics code z_dyn
    groups: int = 32  # groups of every GroupNorm, lowered where a width is not a multiple
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the features; parameters, flows and poses stay float32

    appearance_stem: int = 64  # width of the 7x7 convolution
    appearance_widths: tuple[int, int, int] = (128, 256, 512)  # widths of the 2-D blocks
    appearance_blocks: int = 3  # 3-D blocks on the posed volume

    identity_image_size: int = 256  # the identity encoder sees the picture at this side
    identity_width: int = 64  # of its first stage
    identity_stages: tuple[int, ...] = (3, 4, 6, 3)  # bottleneck blocks in each stage
    identity_channels: int = 512  # of the identity map, 4x4 cells

    pose_size: int = 256  # the pose encoder sees the picture at this side
    dynamics_size: int = 256  # the dynamics encoder sees the upright face crop at this side
    motion_width: int = 64  # of their first stage
    motion_stages: tuple[int, ...] = (2, 2, 2, 2)  # two-layer blocks in each stage

    warp_channels: int = 512  # of the 4x4 start of both warp generators
    warp_depth: int = 4  # slices of that start
    warp_widths: tuple[int, ...] = (256, 128, 64, 32)  # widths of their blocks
    warp_upsampling: tuple[Factors, ...] = ((2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))

    canonical_widths: tuple[int, int, int] = (192, 384, 512)  # of the U-Net on the canonical volume
    canonical_depth_factor: int = 2  # its inner levels have this many times the volume's depth

    decoder_width: int = 512  # of the blocks at the volume's resolution
    decoder_blocks: int = 8
    decoder_widths: tuple[int, int, int] = (256, 128, 64)  # of the blocks on the way up to the picture

    def __post_init__(self):
        """Refuse sizes that do not fit together."""
        for field in dataclasses.fields(self):
            for number in _numbers(getattr(self, field.name)):
                if number < 1:
                    raise UserError(f"{field.name}={getattr(self, field.name)!r} must hold numbers of at least 1")
        if self.volume_stride not in (1, 2, 4, 8):
            raise UserError(f"{self.volume_stride=} must be 1, 2, 4 or 8")
        if self.image_size % (4 * self.volume_stride):
            raise UserError(
                f"{self.image_size=} must be a multiple of {4 * self.volume_stride} at {self.volume_stride=}"
            )
        if self.canonical_depth_factor not in (1, 2):
            raise UserError(f"{self.canonical_depth_factor=} must be 1 or 2")
        if self.volume_depth * self.canonical_depth_factor % 2:
            raise UserError(f"{self.volume_depth=} must be even, or canonical_depth_factor 2")
        if any(factor not in (1, 2) for factors in self.warp_upsampling for factor in factors):
            raise UserError(f"{self.warp_upsampling=} may hold factors of 1 and 2 only")
        if len(self.warp_widths) != len(self.warp_upsampling):
            raise UserError(f"{self.warp_upsampling=} must hold one triple for each of {self.warp_widths=}")
        for size, stages in ("identity_image_size", "identity_stages"), ("pose_size", "motion_stages"):
            side, stride = getattr(self, size), self._stride(getattr(self, stages))
            if self.image_size % side or side % stride:
                raise UserError(
                    f"{size}={side} must be a multiple of {stride} that divides image_size={self.image_size}"
                )
        cells = self.identity_image_size // self._stride(self.identity_stages)
        if cells % CODE_CELLS and CODE_CELLS % cells:
            raise UserError(
                f"{self.identity_image_size=} gives {cells} cells a side after {self.identity_stages=}; "
                f"make them 1, 2 or a multiple of {CODE_CELLS}"
            )

    @staticmethod
    def _stride(stages: tuple[int, ...]) -> int:
        """Pixels per cell behind a ResNet: the stem and its pooling halve twice, each later stage once."""
        return 2 ** (len(stages) + 1)

    @property
    def compute_dtype(self) -> jnp.dtype | None:
        """The dtype of features as Linen takes it: None is that of inputs and parameters, float32 unless widened."""
        return None if self.dtype == "float32" else jnp.dtype(self.dtype)

    @property
    def levels(self) -> int:
        """How many halvings lie between the picture and the volume."""
        return self.volume_stride.bit_length() - 1

    @property
    def volume_shape(self) -> tuple[int, int, int, int]:
        """(depth, height, width, channels) of the appearance volume."""
        side = self.image_size // self.volume_stride
        return self.volume_depth, side, side, self.volume_channels


def _numbers(value: object) -> list[int]:
    if isinstance(value, tuple):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, int) else []


def paper_model() -> AutoencoderConfig:
    """The paper-size network: 199.38M parameters, 309.6 GMAC a frame at 512x512."""
    return AutoencoderConfig()


def demo_model() -> AutoencoderConfig:
    """A small network of the same modules for 64x64 pictures on two CPU cores."""
    return AutoencoderConfig(
        image_size=64,
        volume_stride=2,
        volume_channels=16,
        volume_depth=4,
        dynamics_dim=32,
        groups=2,
        appearance_stem=16,
        appearance_widths=(16, 32, 48),
        appearance_blocks=1,
        identity_image_size=64,
        identity_width=16,
        identity_stages=(1, 1, 1, 1),
        identity_channels=128,
        pose_size=64,
        dynamics_size=64,
        motion_width=24,
        motion_stages=(1, 1, 1, 1),
        warp_channels=64,
        warp_depth=1,
        warp_widths=(48, 32, 24, 16),
        warp_upsampling=((2, 2, 2), (1, 2, 2), (1, 1, 1), (1, 1, 1)),
        canonical_widths=(16, 32, 48),
        canonical_depth_factor=1,
        decoder_width=48,
        decoder_blocks=1,
        decoder_widths=(32, 32, 16),
    )
