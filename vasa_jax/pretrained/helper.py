"""Frozen networks that tell how two pictures differ, or who is seen: helpers of losses and of metrics.

A helper is a value with plain functions; its parameters are an argument of whatever calls them, never part of a
trained model or its checkpoints. It comes as a release folder: `config.json` with the kind of helper, the sizes of the
network under "network" and, for what others trained, its source and licence; `model.safetensors` with the variables of
its module; a card. A run notes the SHA-256 of the parameters, and other weights are refused.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from vasa_jax import config as configs
from vasa_jax.checkpoint import digest, flatten, load_release, save_release
from vasa_jax.errors import UserError
from vasa_jax.nn.gathering import gathered_by
from vasa_jax.pretrained import arcface, vgg, world_features


@dataclasses.dataclass(frozen=True)
class Helper:
    """A frozen network. Two are equal if they have one kind and one config, so that a compiled function may close over
    either.

    kind: the name in `KINDS`.
    config: the sizes of the network, a frozen dataclass.
    init: key -> random parameters, float32; their tree and shapes are those of every helper of the config.
    features: (params, pictures (b, h, w, 3) in 0..1) -> maps (b, h', w', c), from shallow to deep.
    embed: (params, crops (b, crop, crop, 3) in 0..1) -> codes (b, k) of unit length; None where the network tells no
        people apart.
    crop: side of these crops in pixels; 0 where there is no `embed`.
    reach: half their side in canonical head units, as `geometry.picture.face_crop` takes it.
    """

    kind: str
    config: Any
    init: Callable[[Array], Any] = dataclasses.field(compare=False, repr=False)
    features: Callable[[Any, Float[Array, "b h w 3"]], tuple[Array, ...]] = dataclasses.field(compare=False, repr=False)
    embed: Callable[[Any, Float[Array, "b h w 3"]], Float[Array, "b k"]] | None = dataclasses.field(
        compare=False, repr=False, default=None
    )
    crop: int = 0
    reach: float = 0.0


class Kind(NamedTuple):
    """A kind of helper. config: the class of its configs. build: (kind, config) -> the helper."""

    config: type
    build: Callable[[str, Any], Helper]


def _vgg(kind: str, config: vgg.VGGConfig) -> Helper:
    return Helper(kind, config, partial(vgg.init, config), partial(vgg.features, config))


def _arcface(kind: str, config: arcface.ArcFaceConfig) -> Helper:
    features, embed = partial(arcface.features, config), partial(arcface.embed, config)
    return Helper(kind, config, partial(arcface.init, config), features, embed, arcface.CROP, arcface.REACH)


def _world_features(kind: str, config: world_features.WorldFeaturesConfig) -> Helper:
    features, embed = partial(world_features.features, config), partial(world_features.embed, config)
    return Helper(kind, config, partial(world_features.init, config), features, embed, config.crop, config.reach)


KINDS: dict[str, Kind] = {
    "arcface": Kind(arcface.ArcFaceConfig, _arcface),
    "vgg16": Kind(vgg.VGGConfig, _vgg),
    "vgg19": Kind(vgg.VGGConfig, _vgg),
    world_features.KIND: Kind(world_features.WorldFeaturesConfig, _world_features),
}
"""A fork adds a kind by one entry."""


def build_helper(kind: str, config: Any) -> Helper:
    """The helper of a kind and a config of its class. Raises UserError for an unknown kind."""
    if kind not in KINDS:
        raise UserError(f"there is no kind of helper {kind!r}; choose one of {', '.join(sorted(KINDS))}")
    helper = KINDS[kind].build(kind, config)
    whole = gathered_by(lambda kernel: kernel)  # on every device
    embed = None if helper.embed is None else whole(helper.embed)
    return dataclasses.replace(helper, features=whole(helper.features), embed=embed)


def save_helper(
    folder: str | Path, helper: Helper, params: Any, card: str, dtype: str = "float32", **notes: Any
) -> str:
    """Write the release of a helper and return the SHA-256 of its parameters as they will be loaded.

    Args:
        folder: where; a release there is replaced.
        helper: the network.
        params: of it.
        card: text of the model card.
        dtype: "float32" or "bfloat16": what is stored.
        notes: JSON values for `config.json`, as source and licence.

    Raises:
        UserError: parameters that do not fit, or as `save_release`.
    """
    _check(helper, params, "the parameters")
    content = {"network": json.loads(configs.to_json(helper.config)), **notes}
    save_release(folder, helper.kind, content, {"model": params}, dtype, card)
    return load_helper(folder)[2]


def load_helper(source: str | os.PathLike, sha256: str = "") -> tuple[Helper, Any, str]:
    """Read a helper.

    Args:
        source: a release folder, or the name of a release that comes with the package ("world_features").
        sha256: of the parameters that are wanted, as a run noted it; "" takes any.

    Returns:
        The helper, its parameters as NumPy arrays in float32, and their SHA-256.

    Raises:
        UserError: no release, one of no helper, tensors that are not those of its network or not finite (the first is
            named), or parameters of another SHA-256.
    """
    release = load_release(source)
    kind = release.config["kind"]
    if kind not in KINDS:
        raise UserError(
            f"{os.fspath(source)} is a model of kind {kind!r} and no helper; name a folder of kind "
            f"{', '.join(sorted(KINDS))}, as vasa-convert helper writes it"
        )
    try:
        config = configs.from_json(json.dumps(release.config.get("network", {})), KINDS[kind].config)
    except UserError as error:
        raise UserError(f"{os.fspath(source)} has no sizes of a {kind} in its config.json: {error}") from error
    helper, params = build_helper(kind, config), release.tensors.get("model", {})
    _check(helper, params, os.fspath(source))
    total = digest(params)
    if sha256 and total != sha256:
        raise UserError(
            f"the helper's sha256 is {sha256}, the weights in {os.fspath(source)} are {total}; name the folder of the "
            "former, or leave the sha256 out to start with these"
        )
    return helper, params, total


def _check(helper: Helper, params: Any, where: str) -> None:
    """Raise UserError unless the parameters have the tree and the shapes of the network and are finite."""
    leaves = flatten(params)
    found, wanted = (
        {name: tuple(leaf.shape) for name, leaf in tree.items()}
        for tree in (leaves, flatten(jax.eval_shape(helper.init, jax.random.key(0))))
    )
    if found != wanted:
        odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise UserError(
            f"{where}: {len(odd)} tensors are not those of this {helper.kind}, first {odd[0]}: "
            f"{found.get(odd[0], 'missing')}, the network has {wanted.get(odd[0], 'none')}; convert the weights again"
        )
    for name, leaf in leaves.items():
        if not np.isfinite(leaf).all():
            raise UserError(f"{where}: {name} is not finite; fetch or convert the weights again")
