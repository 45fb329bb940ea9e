"""Deterministic weights and inputs for cross-framework parity fixtures.

A *manifest* (``<network>.json``) lists every tensor of a public torch checkpoint: its state-dict key, shape and dtype.
``state_dict(network, seed)`` fills it with numbers that depend only on (key, shape, seed), so the same checkpoint can be
rebuilt anywhere with NumPy alone.  ``golden_<network>_seed<N>.npz`` holds what the *original* torch modules returned for
that checkpoint and for ``inputs(network, seed)``: float32, CPU, eval mode, torch 2.13.0.

    python fixtures.py liveportrait.spade_generator 1 out.pth     # write a real torch checkpoint (needs torch)

Everything here is NumPy in torch's layouts (channels first, OIHW, linear as (out, in)).
"""

from __future__ import annotations

import json
import pathlib
import sys
import zlib

import numpy as np

HERE = pathlib.Path(__file__).parent


def manifest(network: str) -> list[tuple[str, tuple[int, ...], str]]:
    """Returns ``(key, shape, dtype)`` for every tensor of ``network``, in checkpoint order."""
    return [(key, tuple(shape), dtype) for key, shape, dtype in json.loads((HERE / f"{network}.json").read_text())]


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))


def _fan_in(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]


def _power_iteration(weight: np.ndarray, seed: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Leading singular vectors (u over rows, v over columns) of ``weight`` viewed as (out, rest)."""
    matrix = weight.reshape(weight.shape[0], -1).astype(np.float64)
    u = _rng(seed, key + "/u").standard_normal(matrix.shape[0])
    for _ in range(30):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u.astype(np.float32), v.astype(np.float32)


def sinusoidal_table(length: int, width: int) -> np.ndarray:
    """(1, length, width): sine in the even columns, cosine in the odd ones, base 10000."""
    position = np.arange(length, dtype=np.float32)[:, None]
    rate = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-np.log(10000.0) / width))
    table = np.zeros((length, width), np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(position * rate), np.cos(position * rate)
    return table[None]


def state_dict(network: str, seed: int) -> dict[str, np.ndarray]:
    """The checkpoint of ``network`` for ``seed``.  Recomputable buffers are left to the model's own formulas and omitted."""
    tensors: dict[str, np.ndarray] = {}
    for key, shape, dtype in manifest(network):
        rng = _rng(seed, key)
        leaf = key.rsplit(".", 1)[-1]
        if dtype == "int64":
            value = np.zeros(shape, np.int64)
        elif dtype != "float32" or key.startswith("diffusion_sched.") or leaf == "pe":
            continue  # masks, schedules, position tables
        elif leaf == "running_mean":
            value = 0.2 * rng.standard_normal(shape)
        elif leaf == "running_var":
            value = rng.uniform(0.5, 1.5, shape)
        elif leaf in ("weight_u", "weight_v"):
            continue  # filled from weight_orig below
        elif leaf == "gamma":
            value = 0.3 * rng.standard_normal(shape)
        elif leaf == "beta":
            value = 0.1 * rng.standard_normal(shape)
        elif leaf in ("weight_g", "original0"):
            value = rng.uniform(0.8, 1.6, shape)
        elif leaf == "weight" and len(shape) == 1:  # the scale of a normalisation layer
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) <= 1:  # biases
            value = 0.1 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) * (1.2 / np.sqrt(_fan_in(shape)))
            if key == "dense_motion_network.mask.weight":
                value *= 8.0  # a softmax far from uniform
            elif key == "conv_img.0.weight":
                value *= 0.25  # a sigmoid far from saturation
        tensors[key] = value.astype(np.float32) if dtype == "float32" else value
        if leaf == "weight_orig":
            base = key[: -len("_orig")]
            tensors[base + "_u"], tensors[base + "_v"] = _power_iteration(tensors[key], seed, base)
    return tensors


def keypoints(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Source and driving keypoints, each (1, 21, 3) in [-1, 1] units of the warping grid."""
    rng = _rng(seed, "keypoints")
    source = rng.uniform(-0.8, 0.8, (1, 21, 3)).astype(np.float32)
    return source, (source + 0.1 * rng.standard_normal((1, 21, 3))).astype(np.float32)


def image(seed: int, size: int = 256, batch: int = 1) -> np.ndarray:
    """Smooth random colours, (batch, 3, size, size) in [0, 1]."""
    rng = _rng(seed, "image")
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in rng.uniform(-6, 6, (batch * 3 * 4, 3))]
    smooth = np.stack(waves).reshape(batch, 3, 4, size, size).mean(2) * 0.4 + 0.5
    noise = 0.05 * rng.standard_normal((batch, 3, size, size))
    return np.clip(smooth + noise, 0, 1).astype(np.float32)


def volume(seed: int) -> np.ndarray:
    """A smooth random appearance volume, (1, 32, 16, 64, 64): white noise would magnify errors of the sampling grid."""
    rng = _rng(seed, "volume")
    z, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in (16, 64, 64)), indexing="ij")
    channels = [
        sum(np.sin(2 * np.pi * (a * z + b * y + c * x + d)) for a, b, c, d in rng.uniform(-3, 3, (4, 4)))
        for _ in range(32)
    ]
    return np.stack(channels).astype(np.float32)[None]


def speech(seed: int, samples: int = 64_000) -> np.ndarray:
    """A voiced, amplitude-modulated waveform, (1, samples) in [-1, 1], to be read as 16 kHz mono."""
    rng = _rng(seed, "speech")
    time = np.arange(samples) / 16_000
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * time + rng.uniform(0, 6))
    return (0.15 * envelope * voice + 0.01 * rng.standard_normal(samples)).astype(np.float32)[None]


def gaussian(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 numbers that depend only on (seed, name, shape)."""
    return _rng(seed, name).standard_normal(shape).astype(np.float32)


if __name__ == "__main__":
    import torch

    name, seed_text, out = sys.argv[1:]
    torch.save({key: torch.from_numpy(value) for key, value in state_dict(name, int(seed_text)).items()}, out)
