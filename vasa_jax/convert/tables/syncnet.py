"""SyncNet: `syncnet_v2.model`, a plain state dict."""

import numpy as np

from vasa_jax.convert.network import Network, batch_norm, counters, layer
from vasa_jax.convert.rules import CONVOLUTION_2D, Rule, Transform
from vasa_jax.pretrained.syncnet import FRAMES, STEPS, SyncNet

PLANAR = Transform("planar", lambda x: x[:, :, 0].transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)[:, :, None])
"""A 3-D kernel of one slice as a 2-D one."""


def all_frames(count: int) -> Transform:
    """A 3-D kernel over all `count` frames as a 2-D one whose input channels are (frame, channel)."""

    def to_flax(x: np.ndarray) -> np.ndarray:
        y = x.transpose(3, 4, 2, 1, 0)
        return y.reshape(*y.shape[:2], -1, y.shape[-1])

    def to_torch_(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], count, -1, x.shape[-1]).transpose(4, 3, 2, 0, 1)

    return Transform("all frames", to_flax, to_torch_)


def _syncnet() -> list[Rule]:
    table: list[Rule] = []
    towers = (
        ("aud", "audio", (0, 4, 8, 11, 14, 18), (CONVOLUTION_2D,) * 6),
        ("lip", "lip", (0, 4, 8, 11, 14, 18), (all_frames(FRAMES), *(PLANAR,) * 5)),
    )
    for torch, flax, places, transforms in towers:
        for i, (place, transform) in enumerate(zip(places, transforms, strict=True)):
            table += layer(f"netcnn{torch}.{place}", f"{flax}_convolutions_{i}", transform)
            table += batch_norm(f"netcnn{torch}.{place + 1}", f"{flax}_norms_{i}")
        table += layer(f"netfc{torch}.0", f"{flax}_head_0")
        table += batch_norm(f"netfc{torch}.1", f"{flax}_head_1")
        table += layer(f"netfc{torch}.3", f"{flax}_head_2")
    return table


NETWORKS = {
    "syncnet": Network(
        SyncNet,
        ((1, FRAMES, 224, 224, 3), (1, 13, STEPS, 1)),
        _syncnet(),
        ignored=counters("{tower}.{i}"),
    ),
}
