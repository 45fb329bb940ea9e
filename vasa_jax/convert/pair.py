"""The public pair in one step: the checkpoints of LivePortrait and JoyVASA to one release folder.

Files are looked up by their names in whatever folder or repository holds them, since authors move files. From the Hub
they come through huggingface_hub, which resumes a cut download and checks what came; everything is read by the
allow-list reader, converted once, and loaded from the release ever after. `config.json` keeps the SHA-256 of each
source file.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.checkpoint import check_release_target, is_release, save_release
from vasa_jax.convert.registry import convert, find
from vasa_jax.convert.source import read_tensors
from vasa_jax.convert.torch_file import read_torch_file
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.inference.public import KIND
from vasa_jax.joyvasa.template import SIZES

LICENCES = "LivePortrait (Kuaishou, MIT), JoyVASA (JD Health, MIT), and the HuBERT in its file (TencentGameMate, MIT)"


class Part(NamedTuple):
    """A network of the pair. name: in the release. network: of the registry. file: its checkpoint's name."""

    name: str
    network: str
    file: str


LIVEPORTRAIT = (
    Part("appearance", "liveportrait.appearance_feature_extractor", "appearance_feature_extractor.pth"),
    Part("motion_extractor", "liveportrait.motion_extractor", "motion_extractor.pth"),
    Part("warping", "liveportrait.warping_module", "warping_module.pth"),
    Part("generator", "liveportrait.spade_generator", "spade_generator.pth"),
    Part("stitching", "liveportrait.stitching", "stitching_retargeting_module.pth"),
    Part("retarget_lip", "liveportrait.retarget_lip", "stitching_retargeting_module.pth"),
    Part("retarget_eye", "liveportrait.retarget_eye", "stitching_retargeting_module.pth"),
)
GENERATOR = Part("motion_generator", "joyvasa.motion_generator", "*.pt")
TEMPLATE = "motion_template.pkl"


class Repository(NamedTuple):
    """Where the Hub keeps a model. names: the first that answers. avoid: parts of paths of other models."""

    names: tuple[str, ...]
    revision: str
    avoid: tuple[str, ...]


REPOSITORIES = {
    "liveportrait": Repository(("KwaiVGI/LivePortrait", "KlingTeam/LivePortrait"), "main", ("animals",)),
    "joyvasa": Repository(("jdh-algo/JoyVASA",), "main", ()),
}
"""Of each half of the pair."""

Say = Callable[[str], None]


def convert_pair(liveportrait: str | Path, joyvasa: str | Path, out: str | Path, say: Say = lambda line: None) -> None:
    """Convert both halves from folders at hand.

    Args:
        liveportrait: a folder with LivePortrait's five files, at any depth.
        joyvasa: a folder with JoyVASA's checkpoint (.pt) and `motion_template.pkl`, at any depth.
        out: the release folder to write.
        say: told what is being done.

    Raises:
        UserError: a file that is missing, doubled, damaged or of another network, or a target that is no release;
            then nothing is written.
    """
    check_release_target(out)
    folders = {"liveportrait": Path(liveportrait), "joyvasa": Path(joyvasa)}
    for half, folder in folders.items():
        if not folder.is_dir():
            raise UserError(f"--{half} {folder} is no folder; name the one that holds its checkpoints")
    paths = {part.file: _find(folders["liveportrait"], part.file, ("animals",)) for part in LIVEPORTRAIT}
    paths |= {name: _find(folders["joyvasa"], name, ()) for name in (GENERATOR.file, TEMPLATE)}
    tensors: dict[str, Any] = {}
    for part in (*LIVEPORTRAIT, GENERATOR):
        say(f"converting {part.network}")
        tensors[part.name] = _converted(part, paths[part.file])
    tensors["template"] = _template(paths[TEMPLATE])
    sources = {path.name: _digest(path) for path in paths.values()}
    config = {"sources": sources, "licences": LICENCES}
    save_release(out, KIND, config, tensors, "float32", _card(sources), exact=tuple(tensors))


def fetch_pair(out: str | Path, say: Say = lambda line: None) -> Path:
    """The release folder of the public pair: `out` if it is there, else made from the Hub.

    Args:
        out: where it is kept.
        say: told what is being done.

    Raises:
        UserError: where the Hub cannot be asked (or HF_HUB_OFFLINE is set and a file is not in its cache), or what
            came does not convert.
    """
    out = Path(out)
    if is_release(out):
        return out
    say(f"fetching the public weights, once, to {out}: {LICENCES}")
    folders = {half: _download(repository) for half, repository in REPOSITORIES.items()}
    convert_pair(folders["liveportrait"], folders["joyvasa"], out, say)
    return out


def _download(repository: Repository) -> Path:
    """A folder with one half's files."""
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports]
        from huggingface_hub import errors  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "huggingface_hub is not installed (the extra hub: pip install '.[hub]' in a checkout); or give both folders"
        ) from error
    wanted = [part.file for part in LIVEPORTRAIT] if repository.avoid else [GENERATOR.file, TEMPLATE]
    refused = []
    for name in repository.names:
        try:
            folder = huggingface_hub.snapshot_download(
                name,
                revision=repository.revision,
                allow_patterns=[pattern for file in wanted for pattern in (file, f"*/{file}")],
                ignore_patterns=[f"*{part}*" for part in repository.avoid] or None,
            )
            return Path(folder)
        except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
            refused.append(f"{name}: {reason(error)[:200]}")
    raise UserError(
        f"the Hub does not give the weights ({'; '.join(refused)}); fetch them elsewhere and convert the folders with "
        "python -m vasa_jax.convert pair --liveportrait DIR --joyvasa DIR --out FOLDER"
    )


def _find(folder: Path, name: str, avoid: tuple[str, ...]) -> Path:
    found = {path: str(path.relative_to(folder)) for path in sorted(folder.rglob(name))}
    inside = [path for path, where in found.items() if not any(part in where for part in avoid)]
    if len(inside) == 1:
        return inside[0]
    if not inside:
        raise UserError(f"{folder} holds no {name}; fetch it with the others")
    raise UserError(f"{folder} holds {len(inside)} files {name}: {inside[0]} and {inside[1]}; leave one")


def _converted(part: Part, path: Path) -> dict[str, Any]:
    network = find(part.network)
    try:
        return convert(part.network, read_tensors(path, network.inside))
    except UserError as error:
        raise UserError(f"{path} is no checkpoint of {part.network}: {error}") from error


def _template(path: Path) -> dict[str, np.ndarray]:
    content = read_torch_file(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} is no motion template: it holds no numbers by name")
    template = {}
    for name in _statistics():
        if name not in content:
            raise UserError(f"{path} is no motion template: it has no {name!r}")
        template[name] = np.asarray(content[name], np.float32).reshape(-1)
    return template


def _statistics() -> Iterator[str]:
    yield from ("mean_exp", "std_exp")
    for name in SIZES:
        if name != "exp":
            yield from (f"min_{name}", f"max_{name}")


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with refusals("read", path), path.open("rb") as file:
        while block := file.read(1 << 24):
            total.update(block)
    return total.hexdigest()


def _card(sources: Mapping[str, str]) -> str:
    rows = [f"* {os.path.basename(name)}: sha256 {digest[:16]}" for name, digest in sources.items()]
    return "\n".join(["# The public pair: LivePortrait and JoyVASA", "", f"Converted from: {LICENCES}.", "", *rows, ""])
