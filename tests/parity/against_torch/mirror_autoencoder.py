"""The face autoencoder in plain torch, channels first: pictures (b, 3, h, w), volumes (b, c, d, h, w), maps (b, k, 4, 4).

Written from `vasa_jax.autoencoder` and built from the same config. Geometry comes from torch's own functions where it
has them (`grid_sample`, `interpolate`), and rotations from products of elementary matrices.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.parity.against_torch.mirror_blocks import (
    Output,
    ResidualBlock,
    ResNet,
    StandardisedConv2d,
    enlarge,
    group_norm,
    sample,
)
from vasa_jax.arrays import Motion, Portrait
from vasa_jax.autoencoder.config import AutoencoderConfig

FACE_CENTRE = (0.0, 0.05, -0.3)
FACE_REACH = 0.6
FLOW_GAIN = 0.1
CODE_CELLS = 4


def rotation(pose: Tensor) -> Tensor:
    """(b, 3, 3), for row vectors: the transpose of Rz(roll) Ry(yaw) Rx(pitch)."""

    def turn(angle: Tensor, first: int, second: int) -> Tensor:
        matrix = torch.eye(3, dtype=pose.dtype).repeat(len(pose), 1, 1)
        matrix[:, first, first] = matrix[:, second, second] = torch.cos(angle)
        matrix[:, second, first] = torch.sin(angle)
        matrix[:, first, second] = -torch.sin(angle)
        return matrix

    x, y, z = turn(pose[:, 0], 1, 2), turn(pose[:, 1], 2, 0), turn(pose[:, 2], 0, 1)
    return (z @ y @ x).transpose(1, 2)


def translation(pose: Tensor) -> Tensor:
    return torch.cat([pose[:, 3:5], torch.zeros_like(pose[:, :1])], dim=1)


def apply_pose(points: Tensor, pose: Tensor) -> Tensor:
    """(b, d, h, w, 3) points of the canonical head in the picture's frame."""
    flat = torch.exp(-pose[:, None, 5:]) * points.flatten(1, 3) @ rotation(pose) + translation(pose)[:, None]
    return flat.reshape(points.shape)


def remove_pose(points: Tensor, pose: Tensor) -> Tensor:
    """The inverse of `apply_pose`."""
    flat = (points.flatten(1, 3) - translation(pose)[:, None]) @ rotation(pose).transpose(1, 2)
    return (flat * torch.exp(pose[:, None, 5:])).reshape(points.shape)


def identity_grid(count: int, space: torch.Size, dtype: torch.dtype) -> Tensor:
    """(count, d, h, w, 3) points (x, y, z) of the cells themselves."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, size, dtype=dtype) for size in space), indexing="ij")
    return torch.stack([x, y, z], dim=-1).expand(count, -1, -1, -1, -1)


def resize_flow(flow: Tensor, space: torch.Size) -> Tensor:
    """(b, 3, ...) to (b, d, h, w, 3): the ends stay in place."""
    return F.interpolate(flow, tuple(space), mode="trilinear", align_corners=True)


def face_crop(picture: Tensor, pose: Tensor, size: int) -> Tensor:
    """The upright crop around the face; the pose gets no gradient."""
    pose = pose.detach()
    centre = apply_pose(torch.tensor(FACE_CENTRE, dtype=pose.dtype).expand(len(pose), 1, 1, 1, 3), pose)[:, 0, 0, 0, :2]
    side = torch.linspace(-FACE_REACH, FACE_REACH, size, dtype=pose.dtype)
    points = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).flatten(0, 1)
    cos, sin = torch.cos(pose[:, 2]), torch.sin(pose[:, 2])
    roll = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)  # for row vectors
    place = torch.exp(-pose[:, 5, None, None]) * (points @ roll) + centre[:, None]
    return sample(picture, place.reshape(-1, size, size, 2))


class AppearanceEncoder(nn.Module):
    """Picture to posed volume."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        widths = (config.appearance_stem, *config.appearance_widths)
        channels = config.volume_channels
        self.stem = nn.Conv2d(3, widths[0], 7, padding=3)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.blocks = nn.ModuleList(ResidualBlock(2, before, after, config.groups) for before, after in pairs)
        self.norm = group_norm(widths[-1], config.groups)
        self.to_volume = StandardisedConv2d(widths[-1], channels * config.volume_depth, 1)
        blocks = (ResidualBlock(3, channels, channels, config.groups) for _ in range(config.appearance_blocks))
        self.volume_blocks = nn.Sequential(*blocks)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(2 * image - 1)
        for index, block in enumerate(self.blocks):
            x = block(x)
            x = F.avg_pool2d(x, 2) if index < self.config.levels else x
        x = self.to_volume(F.relu(self.norm(x)))
        return self.volume_blocks(x.unflatten(1, (-1, self.config.volume_depth)))


class IdentityEncoder(nn.Module):
    """Picture to a map of 4x4 cells, of mean square 1."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.factor = config.image_size // config.identity_image_size
        self.resnet = ResNet(config.identity_stages, config.identity_width, True, config.groups)
        self.head = nn.Conv2d(self.resnet.channels, config.identity_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.resnet(F.avg_pool2d(image, self.factor))
        cells = x.shape[-1]
        x = F.avg_pool2d(x, cells // CODE_CELLS) if cells >= CODE_CELLS else F.interpolate(x, (CODE_CELLS, CODE_CELLS))
        x = self.head(x)
        return x / torch.sqrt(x.square().mean((1, 2, 3), keepdim=True) + 1e-6)


class MotionEncoder(nn.Module):
    """Picture to a vector."""

    def __init__(self, config: AutoencoderConfig, features: int):
        super().__init__()
        self.resnet = ResNet(config.motion_stages, config.motion_width, False, config.groups)
        self.head = nn.Linear(self.resnet.channels, features)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.resnet(image).mean((2, 3)))


class WarpGenerator(nn.Module):
    """Code map to displacements (b, 3, d, h, w)."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.start = nn.Conv2d(config.identity_channels, config.warp_channels * config.warp_depth, 1)
        widths = (config.warp_channels, *config.warp_widths)
        self.blocks = nn.ModuleList(
            ResidualBlock(3, before, after, config.groups, config.identity_channels)
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.output = Output(3, widths[-1], 3, config.groups)

    def forward(self, code: Tensor) -> Tensor:
        x = self.start(code).unflatten(1, (-1, self.config.warp_depth))
        for block, factors in zip(self.blocks, self.config.warp_upsampling, strict=True):
            x = enlarge(block(x, code.mean((2, 3))), factors)
        return torch.tanh(FLOW_GAIN * self.output(x))


class CanonicalNetwork(nn.Module):
    """The U-Net on the canonical volume, as a correction."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.depth = config.canonical_depth_factor
        outer, inner, bottom = config.canonical_widths
        channels = config.volume_channels

        def block(before: int, after: int) -> ResidualBlock:
            return ResidualBlock(3, before, after, config.groups)

        self.down_0, self.down_1 = block(channels, outer), block(outer, inner)
        self.middle_0, self.middle_1 = block(inner, bottom), block(bottom, bottom)
        self.up_1, self.skip_1 = block(bottom, inner), block(inner, inner)
        self.up_0, self.skip_0 = block(inner, outer), block(outer, outer)
        self.last = block(outer, channels)
        self.output = Output(3, channels, channels, config.groups)

    def forward(self, volume: Tensor) -> Tensor:
        first = enlarge(F.avg_pool3d(self.down_0(volume), (1, 2, 2)), (self.depth, 1, 1))
        second = F.avg_pool3d(self.down_1(first), 2)
        x = self.up_1(self.middle_1(self.middle_0(second))) + self.skip_1(second)
        x = self.up_0(enlarge(x, (2, 2, 2))) + self.skip_0(first)
        x = F.avg_pool3d(enlarge(x, (1, 2, 2)), (self.depth, 1, 1))
        return volume + self.output(self.last(x))


class Decoder(nn.Module):
    """Driven volume to picture."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        width = config.decoder_width
        self.from_volume = nn.Conv2d(config.volume_channels * config.volume_depth, width, 1)
        self.blocks = nn.Sequential(
            *(ResidualBlock(2, width, width, config.groups) for _ in range(config.decoder_blocks))
        )
        widths = (width, *config.decoder_widths)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.up = nn.ModuleList(ResidualBlock(2, before, after, config.groups) for before, after in pairs)
        self.output = Output(2, widths[-1], 3, config.groups)
        self.first_doubled = len(config.decoder_widths) - config.levels

    def forward(self, volume: Tensor) -> Tensor:
        x = self.blocks(self.from_volume(volume.flatten(1, 2)))
        for index, block in enumerate(self.up):
            x = block(F.interpolate(x, scale_factor=2.0) if index >= self.first_doubled else x)
        return torch.sigmoid(self.output(x))


class Autoencoder(nn.Module):
    """Stage 1; methods as of `vasa_jax.autoencoder.model.Autoencoder`."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.appearance = AppearanceEncoder(config)
        self.identity = IdentityEncoder(config)
        self.pose_encoder = MotionEncoder(config, 6)
        self.dynamics_encoder = MotionEncoder(config, config.dynamics_dim)
        self.projection = nn.Linear(config.dynamics_dim, config.identity_channels)
        self.canonical_warp = WarpGenerator(config)
        self.canonical = CanonicalNetwork(config)
        self.driven_warp = WarpGenerator(config)
        self.decoder = Decoder(config)

    def forward(self, source: Tensor, driver: Tensor) -> Tensor:
        return self.render(self.encode(source), self.motion(driver))

    def pose(self, image: Tensor) -> Tensor:
        return self.pose_encoder(F.avg_pool2d(image, self.config.image_size // self.config.pose_size))

    def dynamics(self, crop: Tensor) -> Tensor:
        return self.dynamics_encoder(crop)

    def motion(self, image: Tensor) -> Motion:
        pose = self.pose(image)
        return Motion(pose, self.dynamics(face_crop(image, pose, self.config.dynamics_size)))

    def encode(self, image: Tensor, motion: Motion | None = None) -> Portrait:
        motion = self.motion(image) if motion is None else motion
        identity = self.identity(image)
        volume = self.appearance(image)
        flow = resize_flow(self.canonical_warp(self.code(identity, motion.dynamics)), volume.shape[2:])
        points = identity_grid(len(image), volume.shape[2:], flow.dtype) + flow.movedim(1, -1)
        return Portrait(self.canonical(sample(volume, apply_pose(points, motion.pose))), identity)

    def drive(self, portrait: Portrait, motion: Motion) -> Tensor:
        space = portrait.volume.shape[2:]
        flow = resize_flow(self.driven_warp(self.code(portrait.identity, motion.dynamics)), space)
        points = remove_pose(identity_grid(len(motion.pose), space, flow.dtype), motion.pose)
        return sample(portrait.volume, points + sample(flow, points).movedim(1, -1))

    def render(self, portrait: Portrait, motion: Motion) -> Tensor:
        return self.decoder(self.drive(portrait, motion))

    def code(self, identity: Tensor, dynamics: Tensor) -> Tensor:
        identity = identity.repeat_interleave(len(dynamics) // len(identity), dim=0)
        return identity + self.projection(dynamics)[:, :, None, None]
