"""The public pair: the checkpoints of LivePortrait and JoyVASA to one release folder.

Files are looked up by their names in whatever folder or repository holds them, since authors move files. Everything is
read by the allow-list reader, converted once, and loaded from the release ever after. `config.json` keeps the SHA-256
of each source file. Where the files come from, if they are not at hand, is `convert.hub`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.checkpoint import check_release_target, save_release
from vasa_jax.convert.registry import convert, find
from vasa_jax.convert.source import read_tensors
from vasa_jax.convert.torch_file import read_torch_file
from vasa_jax.errors import UserError
from vasa_jax.files import file_digest
from vasa_jax.inference.public import KIND
from vasa_jax.joyvasa.template import SIZES

LICENCES = "LivePortrait (Kuaishou, MIT), JoyVASA (JD Health, MIT), and the HuBERT in its file (TencentGameMate, MIT)"


class Half(NamedTuple):
    """What one group of authors published.

    repositories: of the Hub; the first that has the files counts. revision: of them.
    files: what is read: names that a file may have, of which the first that is there counts.
    avoid: parts of paths of other models.
    """

    repositories: tuple[str, ...]
    revision: str
    files: tuple[tuple[str, ...], ...]
    avoid: tuple[str, ...] = ()


APPEARANCE, MOTION = ("appearance_feature_extractor.pth",), ("motion_extractor.pth",)
WARPING, SPADE = ("warping_module.pth",), ("spade_generator.pth",)
CORRECTORS = ("stitching_retargeting_module.pth",)
SPEECH, TEMPLATE = ("motion_generator_hubert_chinese.pt", "*.pt"), ("motion_template.pkl",)
HALVES = {
    "liveportrait": Half(
        ("KwaiVGI/LivePortrait", "KlingTeam/LivePortrait"),
        "main",
        (APPEARANCE, MOTION, WARPING, SPADE, CORRECTORS),
        ("animals",),
    ),
    "joyvasa": Half(("jdh-algo/JoyVASA",), "main", (SPEECH, TEMPLATE)),
}
"""Of the pair."""
NETWORKS = {
    "appearance": ("liveportrait.appearance_feature_extractor", APPEARANCE),
    "motion_extractor": ("liveportrait.motion_extractor", MOTION),
    "warping": ("liveportrait.warping_module", WARPING),
    "generator": ("liveportrait.spade_generator", SPADE),
    "stitching": ("liveportrait.stitching", CORRECTORS),
    "retarget_lip": ("liveportrait.retarget_lip", CORRECTORS),
    "retarget_eye": ("liveportrait.retarget_eye", CORRECTORS),
    "motion_generator": ("joyvasa.motion_generator", SPEECH),
}
"""Of the pair, by their names in the release: the name in the registry, and the file."""

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
    paths: dict[tuple[str, ...], Path] = {}
    for half, folder in {"liveportrait": Path(liveportrait), "joyvasa": Path(joyvasa)}.items():
        if not folder.is_dir():
            raise UserError(f"--{half} {folder} is no folder; name the one that holds its checkpoints")
        inside = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        chosen = choose(HALVES[half], inside, str(folder))
        paths |= {names: folder / path for names, path in chosen.items()}
    convert_files(paths, out, say)


def convert_files(paths: Mapping[tuple[str, ...], Path], out: str | Path, say: Say = lambda line: None) -> None:
    """Convert both halves from their files.

    Args:
        paths: of each file of `HALVES`.
        out, say: as of `convert_pair`, and so are the errors.
    """
    check_release_target(out)
    tensors: dict[str, Any] = {}
    for name, (network, file) in NETWORKS.items():
        say(f"converting {network}")
        tensors[name] = _converted(network, paths[file])
    tensors["template"] = _template(paths[TEMPLATE])
    sources = {path.name: file_digest(path) for path in paths.values()}
    config = {"sources": sources, "licences": LICENCES}
    save_release(out, KIND, config, tensors, "float32", _card(sources), exact=tuple(tensors))


def choose(half: Half, paths: Iterable[str], where: str) -> dict[tuple[str, ...], str]:
    """The files of a half among others.

    Args:
        half: whose.
        paths: of files, with "/", relative to what holds them.
        where: what holds them, for messages.

    Returns:
        The path of each of `Half.files`.

    Raises:
        UserError: one is missing, or there are several of its name.
    """
    inside = sorted(path for path in paths if not any(part in path for part in half.avoid))
    chosen = {}
    for names in half.files:
        named = ([path for path in inside if fnmatchcase(PurePosixPath(path).name, name)] for name in names)
        found = next((some for some in named if some), [])
        if not found:
            raise UserError(f"{where} holds no {names[0]}; fetch it with the others")
        if len(found) > 1:
            raise UserError(f"{where} holds {len(found)} files {names[0]}: {found[0]} and {found[1]}; leave one")
        chosen[names] = found[0]
    return chosen


def _converted(name: str, path: Path) -> dict[str, Any]:
    network = find(name)
    try:
        return convert(name, read_tensors(path, network.inside))
    except UserError as error:
        raise UserError(f"{path} is no checkpoint of {name}: {error}") from error


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


def _card(sources: Mapping[str, str]) -> str:
    rows = [f"* {os.path.basename(name)}: sha256 {total[:16]}" for name, total in sources.items()]
    return "\n".join(["# The public pair: LivePortrait and JoyVASA", "", f"Converted from: {LICENCES}.", "", *rows, ""])
