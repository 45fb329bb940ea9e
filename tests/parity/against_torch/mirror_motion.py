"""The motion transformer in plain torch: `vasa_jax.motion.denoiser` on top of `torch.nn.TransformerEncoder`.

Built from the same config; takes the same `Conditions`, of tensors.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vasa_jax.motion.conditions import Conditions, audio_shape
from vasa_jax.motion.config import MotionConfig

TYPES = ("previous_motion", "motion", "previous_audio", "audio", "gaze", "distance", "emotion", "time")
NULLS = ("previous_motion", "previous_audio", "audio", "gaze", "distance", "emotion")
MEL_CENTRE, MEL_SCALE = -4.0, 4.0
GAZE_UNIT, DISTANCE_UNIT = 0.25, 0.2


def two_layer(before: int, hidden: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, hidden), nn.SiLU(), nn.Linear(hidden, after))


def sinusoids(level: Tensor, width: int) -> Tensor:
    """(b,) to (b, width), cosines first."""
    half = torch.arange(width // 2, dtype=level.dtype) / (width // 2)
    angle = level[:, None] * 10_000.0**-half
    return torch.cat([torch.cos(angle), torch.sin(angle)], dim=1)


class Denoiser(nn.Module):
    """H(x_t, t, C) -> x0."""

    def __init__(self, config: MotionConfig):
        super().__init__()
        self.config = config
        width, frame = config.width, audio_shape(config)
        if config.audio.kind == "mel":
            self.mel_encoder = two_layer(frame[0] * frame[1], config.audio.feature_dim, config.audio.feature_dim)
        self.motion_embedding = nn.Linear(config.motion_dim, width)
        self.audio_embedding = nn.Linear(config.audio.feature_dim, width)
        self.gaze_embedding = two_layer(2, width, width)
        self.distance_embedding = two_layer(1, width, width)
        self.emotion_embedding = two_layer(8, width, width)
        self.time_embedding = two_layer(width, config.ffn, width)
        self.positions = nn.Parameter(torch.zeros(config.context + config.window, width))
        self.types = nn.Parameter(torch.zeros(len(TYPES), width))
        self.nulls = nn.Parameter(torch.zeros(len(NULLS), width))
        block = nn.TransformerEncoderLayer(
            width,
            config.num_heads,
            config.ffn,
            dropout=0.0,
            activation=partial(F.gelu, approximate="tanh"),
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(width, eps=1e-6)
        self.encoder = nn.TransformerEncoder(block, config.num_layers, norm, enable_nested_tensor=False)
        self.readout = nn.Linear(width, config.motion_dim)
        if config.anchor:
            self.hold = nn.Parameter(torch.zeros(config.window, config.motion_dim))

    def forward(self, noisy: Tensor, level: Tensor, conditions: Conditions) -> Tensor:
        k, c = self.config.context, conditions
        before, within = self.positions[:k], self.positions[k:]
        tokens = [
            self.known("previous_motion", self.motion_embedding, c.previous_motion, c.previous_motion_mask, before),
            self.motion_embedding(noisy) + self.type_of("motion") + within,
            self.known("previous_audio", self.sound, c.previous_audio, c.previous_audio_mask, before),
            self.known("audio", self.sound, c.audio, c.audio_mask, within),
            self.known("gaze", self.gaze_embedding, c.gaze[:, None] / GAZE_UNIT, c.gaze_mask[:, None]),
            self.known(
                "distance", self.distance_embedding, c.distance[:, None] / DISTANCE_UNIT, c.distance_mask[:, None]
            ),
            self.known("emotion", self.emotion_embedding, c.emotion[:, None], c.emotion_mask[:, None]),
            (self.time_embedding(sinusoids(level, self.config.width)) + self.type_of("time"))[:, None],
        ]
        out = self.encoder(torch.cat(tokens, dim=1))
        out = self.readout(out[:, : k + self.config.window])
        if self.config.head_cutoff:
            out = torch.cat([self.smoothed(out[..., :6]), out[..., 6:]], dim=2)
        before, out = out[:, k - 1], out[:, k:]
        if self.config.anchor:
            mask = c.previous_motion_mask[:, -1, None]
            missed = torch.where(mask, c.previous_motion[:, -1].masked_fill(~mask, 0.0) - before, 0.0)
            out = out + self.hold * missed[:, None]
        return out

    def smoothed(self, pose: Tensor) -> Tensor:
        """Whittaker's smoother along time, as a linear system."""
        frames, weight = pose.shape[1], (2 * math.sin(math.pi * self.config.head_cutoff / 25)) ** -6
        third = torch.diff(torch.eye(frames, dtype=pose.dtype), n=3, dim=0)
        return torch.linalg.solve(torch.eye(frames, dtype=pose.dtype) + weight * third.T @ third, pose)

    def sound(self, audio: Tensor) -> Tensor:
        if self.config.audio.kind == "mel":
            audio = self.mel_encoder((audio.flatten(2) - MEL_CENTRE) / MEL_SCALE)
        return self.audio_embedding(audio)

    def known(self, name: str, embed, value: Tensor, mask: Tensor, position: Tensor | float = 0.0) -> Tensor:
        """Tokens of content (b, n, ...), the learned null where the mask (b, n) is False."""
        value = value.masked_fill(~mask[(...,) + (None,) * (value.ndim - 2)], 0.0)
        content = torch.where(mask[..., None], embed(value), self.nulls[NULLS.index(name)])
        return content + self.type_of(name) + position

    def type_of(self, name: str) -> Tensor:
        return self.types[TYPES.index(name)]
