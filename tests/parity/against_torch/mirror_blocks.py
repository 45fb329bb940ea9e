"""The blocks of the face autoencoder in plain torch, channels first: `vasa_jax.nn` as a torch user would write it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def standardise(weight: Tensor) -> Tensor:
    """Mean 0 and variance 2 / fan_in for every output channel."""
    centred = weight - weight.mean(tuple(range(1, weight.ndim)), keepdim=True)
    variance = centred.square().mean(tuple(range(1, weight.ndim)), keepdim=True)
    return centred / torch.sqrt(variance * (0.5 * math.prod(weight.shape[1:])) + 1e-8)


class StandardisedConv2d(nn.Conv2d):
    """A convolution with weight standardisation."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, standardise(self.weight), self.bias)


class StandardisedConv3d(nn.Conv3d):
    """The same in three dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, standardise(self.weight), self.bias)


PLAIN = {2: nn.Conv2d, 3: nn.Conv3d}
STANDARDISED = {2: StandardisedConv2d, 3: StandardisedConv3d}


def groups_of(channels: int, most: int) -> int:
    """The largest number of groups, at most `most`, that divides the channels."""
    return next(count for count in range(min(most, channels), 0, -1) if channels % count == 0)


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups_of(channels, groups), channels, eps=1e-5)


class AdaptiveGroupNorm(nn.Module):
    """GroupNorm whose scale and shift come from a code."""

    def __init__(self, channels: int, groups: int, code: int):
        super().__init__()
        self.groups = groups_of(channels, groups)
        self.style = nn.Linear(code, 2 * channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.style(code)[(...,) + (None,) * (x.ndim - 2)].chunk(2, dim=1)
        return (1 + scale) * F.group_norm(x, self.groups, eps=1e-5) + shift


class ResidualBlock(nn.Module):
    """Norm, ReLU, convolution, twice, beside a skip; `code` is the length of the code of adaptive norms."""

    def __init__(self, dimensions: int, before: int, after: int, groups: int, code: int | None = None):
        super().__init__()

        def norm(channels: int) -> nn.Module:
            return group_norm(channels, groups) if code is None else AdaptiveGroupNorm(channels, groups, code)

        convolution = STANDARDISED[dimensions]
        self.norm_0, self.conv_0 = norm(before), convolution(before, after, 3, padding=1)
        self.norm_1, self.conv_1 = norm(after), convolution(after, after, 3, padding=1)
        self.skip = convolution(before, after, 3, padding=1) if before != after else nn.Identity()

    def forward(self, x: Tensor, *code: Tensor) -> Tensor:
        y = self.conv_0(F.relu(self.norm_0(x, *code)))
        return self.skip(x) + self.conv_1(F.relu(self.norm_1(y, *code)))


class Output(nn.Module):
    """Norm, ReLU and one plain convolution."""

    def __init__(self, dimensions: int, before: int, after: int, groups: int):
        super().__init__()
        self.norm = group_norm(before, groups)
        self.conv = PLAIN[dimensions](before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(x)))


class ResNetBlock(nn.Module):
    """Post-activation block of two 3x3 convolutions, or of a bottleneck."""

    def __init__(self, before: int, width: int, stride: int, bottleneck: bool, groups: int):
        super().__init__()
        if bottleneck:
            sizes = ((width, 1, 1), (width, 3, stride), (4 * width, 1, 1))
        else:
            sizes = ((width, 3, stride), (width, 3, 1))
        channels = before
        for i, (after, size, step) in enumerate(sizes):
            convolution = StandardisedConv2d(channels, after, size, step, padding=size // 2, bias=False)
            self.add_module(f"conv_{i}", convolution)
            self.add_module(f"norm_{i}", group_norm(after, groups))
            channels = after
        self.depth = len(sizes)
        self.resized = stride != 1 or before != channels
        if self.resized:
            self.conv_skip = StandardisedConv2d(before, channels, 1, stride, bias=False)
            self.norm_skip = group_norm(channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(self.depth):
            y = F.relu(y) if i else y
            y = self.get_submodule(f"norm_{i}")(self.get_submodule(f"conv_{i}")(y))
        return F.relu(y + (self.norm_skip(self.conv_skip(x)) if self.resized else x))


class ResNet(nn.Module):
    """Features at 1/32 of the picture's side."""

    def __init__(self, stages: tuple[int, ...], width: int, bottleneck: bool, groups: int):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.stem_norm = group_norm(width, groups)
        self.stages = nn.ModuleList()
        self.channels = width
        for stage, count in enumerate(stages):
            blocks = []
            for i in range(count):
                stride = 2 if stage and not i else 1
                blocks.append(ResNetBlock(self.channels, width * 2**stage, stride, bottleneck, groups))
                self.channels = width * 2**stage * (4 if bottleneck else 1)
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem_norm(self.stem(2 * image - 1))), 2)
        for stage in self.stages:
            x = stage(x)
        return x


def enlarge(x: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """Linear enlargement of a volume, half-pixel centres."""
    return F.interpolate(x, scale_factor=tuple(map(float, factors)), mode="trilinear", align_corners=False)


def sample(x: Tensor, grid: Tensor) -> Tensor:
    """(Tri)linear look-up at (n, *space, 2 or 3) points, ends on the centres of the outer cells, clamped outside."""
    x = x.repeat_interleave(len(grid) // len(x), dim=0)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)
