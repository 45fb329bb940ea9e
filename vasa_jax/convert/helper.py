"""Authors' checkpoints of networks that help in losses and metrics to the releases that `pretrained.helper` reads.

Whose weights they are, and what they may be used for, goes into the release: `source` and `licence` of its config.json,
and its card. Licences are those that the authors state; the network's layout is nobody's.
"""

from pathlib import Path
from typing import Any, NamedTuple

from vasa_jax.checkpoint import check_release_target
from vasa_jax.convert.registry import convert, find
from vasa_jax.convert.source import read_tensors
from vasa_jax.errors import UserError
from vasa_jax.pretrained.arcface import IRESNET_50, IRESNET_100
from vasa_jax.pretrained.helper import build_helper, save_helper
from vasa_jax.pretrained.vgg import VGG16, VGG19, VGGFACE


class Public(NamedTuple):
    """A public network. kind, config: of its helper. source: whose weights they are. licence: as far as is known."""

    kind: str
    config: Any
    source: str
    licence: str


_IMAGENET = "BSD-3-Clause (torchvision); trained on ImageNet, whose pictures are for non-commercial research"
_INSIGHTFACE = "non-commercial research only, as InsightFace states for its trained models and their data"
_ARCFACE = "arcface_torch of InsightFace (backbone.pth of Glint360K, MS1MV3, ...)"

HELPERS = {
    "arcface.iresnet50": Public("arcface", IRESNET_50, _ARCFACE, _INSIGHTFACE),
    "arcface.iresnet100": Public("arcface", IRESNET_100, _ARCFACE, _INSIGHTFACE),
    "vgg16": Public("vgg16", VGG16, "torchvision's vgg16", f"{_IMAGENET}; other weights of this layout have their own"),
    "vgg19": Public("vgg19", VGG19, "torchvision's vgg19", _IMAGENET),
    "vggface": Public(
        "vgg16", VGGFACE, "VGGFace (Parkhi et al. 2015)", "non-commercial research, as its authors state"
    ),
}
"""The networks of `vasa-convert helper`, by their names in the registry."""


def convert_helper(name: str, source: Path, out: str | Path) -> str:
    """Convert a checkpoint and return the SHA-256 of its parameters.

    Args:
        name: one of `HELPERS`.
        source: as `convert.source` reads it.
        out: the release folder to write.

    Raises:
        UserError: a source that is no such checkpoint, or a target that may not be replaced; then nothing is written.
    """
    check_release_target(out)
    public = HELPERS[name]
    try:
        params = convert(name, read_tensors(source, find(name).inside))
    except UserError as error:
        raise UserError(f"{source} is no checkpoint of {name}: {error}") from error
    card = f"# {name}\n\nA frozen helper. Source: {public.source}. Licence of the weights: {public.licence}.\n"
    helper = build_helper(public.kind, public.config)
    return save_helper(out, helper, params, card, source=public.source, licence=public.licence)
