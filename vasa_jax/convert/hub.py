"""Where a model is: a name, a folder, or a repository of the Hugging Face Hub becomes the folder of a release.

The Hub's files come through huggingface_hub: its cache (HF_HOME) keeps what is whole, a cut download is taken up where
it ended, and HF_HUB_OFFLINE uses the cache alone. Paths are looked up in the listing of a repository, since authors
move files, and what comes is checked against the SHA-256 that the listing gives. The public pair is converted once.
"""

import contextlib
import functools
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vasa_jax.checkpoint import CARD, MANIFEST, bundled_releases, check_release_target, read_config
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import file_digest

if TYPE_CHECKING:
    from vasa_jax.convert.pair import Half

PUBLIC_PAIR = "joyvasa"
"""The name of LivePortrait and JoyVASA."""
HUB_NAME = re.compile(r"([\w][\w.-]*/[\w][\w.-]*)(?:@([\w][\w./-]*))?")
"""NAME/REPO or NAME/REPO@REVISION."""
CACHE = Path("~/.cache/vasa-jax/releases")
"""Where the converted pair is kept."""
SPEECH_FOLDER = "speech"
"""Where the converted speech networks are kept, beside it."""
SPEECH = {"wav2vec2": "facebook/wav2vec2-base-960h", "hubert": "facebook/hubert-base-ls960"}
"""Public weights of the speech networks."""
CHECKPOINTS = ("model.safetensors", "pytorch_model.bin")
"""What their authors call a checkpoint; the first that is there counts."""
PATIENCE = 10.0
"""Seconds that the Hub may take to answer."""

Say = Callable[[str], None]
Choose = Callable[[Iterable[str]], list[str]]
"""Paths of a repository, of which it gives the wanted ones; raises UserError where one is missing."""


def find_release(model: str | os.PathLike, say: Say = lambda line: None) -> Path:
    """The folder of the release that a user named.

    Args:
        model: a release that comes with the package ("demo"); "joyvasa", the public pair, which is fetched from the Hub
            and converted once into the user's cache; a folder; or NAME/REPO, with @REVISION behind it or not, of a
            release on the Hub. Names win over folders, which are also written ./NAME, and folders over the Hub.
        say: told what takes time.

    Raises:
        UserError: it is none of these, the Hub does not give it, or what it gives is no release.
    """
    from vasa_jax.inference import vasa  # here, since the Hub's other callers need no models

    name = os.fspath(model)
    if name in (bundled := bundled_releases(vasa.KIND)):
        return bundled[name]
    if name == PUBLIC_PAIR:
        return _kept_pair(say)
    if os.path.isdir(name):
        return Path(name)
    if os.path.exists(name):
        raise UserError(f"the model {name!r} is a file; name the folder of a release")
    if named := HUB_NAME.fullmatch(name):
        return fetch_release(named[1], named[2] or "main", say)
    ways = f"{', '.join(bundled)}, {PUBLIC_PAIR}, the folder of a release, or NAME/REPO of one on the Hugging Face Hub"
    raise UserError(f"the model {name!r} is not there; give {ways}")


def fetch_release(repository: str, revision: str = "main", say: Say = lambda line: None) -> Path:
    """The folder of a release of this project on the Hub, in the Hub's cache.

    Args:
        repository: NAME/REPO.
        revision: a branch, a tag or a commit.
        say: told what is fetched.

    Raises:
        UserError: the Hub does not give it, or it is no release; then no weights were fetched.
    """
    where = f"{repository}@{revision}"
    try:
        say(f"looking up {where} on the Hugging Face Hub")
        folder = _download(repository, revision, lambda paths: _present(paths, where, ["config.json"]))
        names = [f"{name}.safetensors" for name in read_config(folder)["tensors"]]
        return _download(repository, revision, lambda paths: _present(paths, where, ["config.json", *names]))
    except UserError as error:
        raise UserError(f"the Hub gives no release {where}: {error}") from error


def find_speech(weights: str | os.PathLike, network: str, say: Say = lambda line: None) -> Path:
    """The release folder of a frozen speech network.

    Args:
        weights: such a folder, or NAME/REPO on the Hub, with @REVISION behind it or not: of such a release, or of the
            authors' checkpoint, which is fetched and converted once into the user's cache.
        network: "wav2vec2" or "hubert".
        say: told what takes time.

    Raises:
        UserError: it is neither, the Hub does not give it, or what it gives is no such network.
    """
    name = os.fspath(weights)
    if os.path.isdir(name):
        return Path(name)
    named = HUB_NAME.fullmatch(name)
    if not named or os.path.exists(name):
        raise UserError(
            f"the speech network {name!r} is not there; name a folder that vasa-convert speech wrote, or NAME/REPO of "
            f"one on the Hugging Face Hub, such as {SPEECH[network]}"
        )
    kept = _home() / SPEECH_FOLDER / f"{name.replace('/', '--')}-{network}"
    if (kept / "config.json").is_file():
        return kept
    with _alone(kept):
        if not (kept / "config.json").is_file():
            fetch_speech(named[1], named[2] or "main", network, kept, say)
    return kept


def fetch_speech(repository: str, revision: str, network: str, out: str | Path, say: Say = lambda line: None) -> None:
    """Write the release of a speech network from a repository of the Hub; arguments and errors as of `find_speech`."""
    from vasa_jax.audio.weights import copy_speech
    from vasa_jax.convert.speech import convert_speech

    say(f"fetching {repository}, once, to {out}; its licence is on its card")
    ours = ("speech.safetensors", "config.json")

    def wanted(paths: Iterable[str]) -> list[str]:
        there = set(paths)
        found = next((some for some in (ours, *((file,) for file in CHECKPOINTS)) if there.issuperset(some)), None)
        if found is None:
            raise UserError(f"it has no {CHECKPOINTS[0]}")
        return _present(there, repository, list(found)) if found is ours else list(found)

    folder = _download(repository, revision, wanted)
    (first, *_) = wanted(_inside(folder))
    if first == ours[0]:
        copy_speech(folder, out)
    else:
        convert_speech(network, folder / first, out)


def fetch_pair(out: str | Path, say: Say = lambda line: None) -> Path:
    """The release folder of the public pair: `out` if it is there, else made from the Hub.

    Args:
        out: where it is kept; its parents are made.
        say: told what is being done, and whose the weights are.

    Raises:
        UserError: where the Hub cannot be asked (or HF_HUB_OFFLINE is set and a file is not in its cache), or what
            came does not convert; then nothing is at `out`.
    """
    from vasa_jax.convert.pair import HALVES, LICENCES, convert_files

    out = Path(out)
    if _is_pair(out):
        return out
    check_release_target(out)
    say(f"fetching the public weights, once, to {out}: {LICENCES}")
    paths: dict[tuple[str, ...], Path] = {}
    for half in HALVES.values():
        paths |= _fetch_half(half, out)
    convert_files(paths, out, say)
    return out


def _kept_pair(say: Say) -> Path:
    """The public pair in the user's cache; of several processes that want it, one works and the others wait."""
    kept = _home() / PUBLIC_PAIR
    if _is_pair(kept):
        return kept
    with _alone(kept):
        return fetch_pair(kept, say)


def _home() -> Path:
    """Where what was converted is kept."""
    try:
        return CACHE.expanduser()
    except RuntimeError as error:
        raise UserError(
            f"there is no home folder to keep the public weights in ({reason(error)}); make the release elsewhere "
            "(vasa-convert pair or speech, --out FOLDER) and name that folder"
        ) from error


@contextlib.contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """Inside, no other process makes what is kept there."""
    from huggingface_hub.utils import WeakFileLock

    with contextlib.ExitStack() as stack:
        with refusals("write into", kept.parent):
            kept.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(WeakFileLock(kept.with_name(f"{kept.name}.lock")))
        yield


def _fetch_half(half: "Half", out: Path) -> dict[tuple[str, ...], Path]:
    """The files of a half, from the first of its repositories that has them."""
    from vasa_jax.convert.pair import choose

    refused = []
    for name in half.repositories:
        choose_here = functools.partial(choose, half, where=f"the Hub's {name}")
        try:
            folder = _download(name, half.revision, lambda paths, choose=choose_here: list(choose(paths).values()))
            return {file: folder / path for file, path in choose_here(_inside(folder)).items()}
        except UserError as error:
            refused.append(str(error))
    raise UserError(
        f"the Hub does not give the weights ({'; '.join(refused)}); fetch them elsewhere and convert the folders: "
        f"vasa-convert pair --liveportrait DIR --joyvasa DIR --out {out}"
    )


def _is_pair(folder: Path) -> bool:
    """Whether a folder is the release of the pair, of the format that this version reads."""
    from vasa_jax.inference.public import KIND

    try:
        config = read_config(folder)
    except UserError:
        return False
    return config["kind"] == KIND and all((folder / f"{name}.safetensors").is_file() for name in config["tensors"])


def _download(repository: str, revision: str, choose: Choose) -> Path:
    """A folder of the Hub's cache that has the chosen files of a repository, whole.

    Where the Hub does not answer, it is what the cache has of the revision; its files were checked when they came.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    kinds = (HTTPError, OSError, ValueError)  # ValueError: names that cannot be, and answers of what is no Hub
    try:
        found = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=PATIENCE).siblings or []
    except kinds as error:
        try:
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=[], local_files_only=True))
        except kinds:
            raise UserError(f"{repository}: {reason(error)[:200]}") from error
        choose(_inside(folder))
        return folder
    listing: Mapping[str, Any] = {file.rfilename: file.lfs and file.lfs.sha256 for file in found}
    wanted = choose(listing)
    try:
        patterns = [glob.escape(path) for path in wanted]
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except kinds as error:
        raise UserError(f"{repository}: {reason(error)[:200]}") from error
    for path in wanted:
        _check(folder / path, listing[path], repository)
    return folder


def _check(path: Path, expected: str | None, repository: str) -> None:
    """Remove a file that came with another hash than expected, and say so."""
    if expected and file_digest(path) != expected:
        for place in (path.resolve(), path):  # the snapshot's file is a link
            place.unlink(missing_ok=True)
        raise UserError(
            f"{repository}: {path.name} came with another SHA-256 than its listing says, and was removed; try again"
        )


def _present(paths: Iterable[str], where: str, wanted: list[str]) -> list[str]:
    """The wanted paths, and the manifest and the model card where there are such."""
    there = set(paths)
    if missing := [path for path in wanted if path not in there]:
        raise UserError(f"{where} has no {missing[0]}")
    return [*wanted, *(path for path in (MANIFEST, CARD) if path in there)]


def _inside(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
