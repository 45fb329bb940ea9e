"""ArcFace: state dicts of `iresnet50` and `iresnet100` of arcface_torch (`backbone.pth`)."""

import dataclasses

import numpy as np

from vasa_jax.convert.network import Network, batch_norm, counters
from vasa_jax.convert.rules import CONVOLUTION_2D, Rule, Transform
from vasa_jax.pretrained.arcface import IRESNET_50, IRESNET_100, SIZE, ArcFace, ArcFaceConfig

_CELLS = SIZE // 16


def _to_flax(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1, _CELLS, _CELLS).transpose(2, 3, 1, 0).reshape(-1, len(x))


def _to_torch(x: np.ndarray) -> np.ndarray:
    return x.reshape(_CELLS, _CELLS, -1, x.shape[1]).transpose(3, 2, 0, 1).reshape(x.shape[1], -1)


CELLS_LAST = Transform("cells last", _to_flax, _to_torch)
"""A linear layer over (channel, row, column) to one over (row, column, channel)."""


def _block(torch: str, flax: str, first: int) -> list[Rule]:
    """A residual block, or a stack of them whose first is of that number; the skip included."""
    table = [Rule(f"{torch}.prelu.weight", f"params/{flax}/prelu/slope")]
    for theirs, ours in (("conv1", "conv_0"), ("conv2", "conv_1"), ("downsample.0", "skip")):
        table.append(Rule(f"{torch}.{theirs}.weight", f"params/{flax}/{ours}/kernel", CONVOLUTION_2D))
    for theirs, ours in (("bn1", "norm_0"), ("bn2", "norm_1"), ("bn3", "norm_2"), ("downsample.1", "skip_norm")):
        table += batch_norm(f"{torch}.{theirs}", f"{flax}/{ours}")
    return [dataclasses.replace(rule, first=first) for rule in table]


def _arcface() -> list[Rule]:
    table = [
        Rule("conv1.weight", "params/trunk/stem/kernel", CONVOLUTION_2D),
        *batch_norm("bn1", "trunk/stem_norm"),
        Rule("prelu.weight", "params/trunk/stem_prelu/slope"),
        *batch_norm("bn2", "norm"),
        Rule("fc.weight", "params/code/kernel", CELLS_LAST),
        Rule("fc.bias", "params/code/bias"),
        *batch_norm("features", "code_norm"),
    ]
    for stage in range(4):
        table += _block(f"layer{stage + 1}.0", f"trunk/stage_{stage}_first", 0)
        table += _block(f"layer{stage + 1}.{{i}}", f"trunk/stage_{stage}_rest", 1)
    return table


def _network(config: ArcFaceConfig) -> Network:
    norms = counters("{norm}", "{layer}.{i}.{norm}", "{layer}.{i}.downsample.1")
    return Network(lambda: ArcFace(config), ((1, SIZE, SIZE, 3),), _arcface(), ignored=norms)


NETWORKS = {"arcface.iresnet50": _network(IRESNET_50), "arcface.iresnet100": _network(IRESNET_100)}
