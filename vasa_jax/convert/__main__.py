"""The converter's door: a torch checkpoint to Flax variables in one .safetensors file, or back.

    vasa-convert liveportrait.spade_generator spade_generator.pth generator.safetensors
    vasa-convert liveportrait.spade_generator generator.safetensors back.safetensors --to-torch
    vasa-convert pair --liveportrait DIR --joyvasa DIR --out FOLDER
    vasa-convert speech wav2vec2 facebook/wav2vec2-base-960h --out FOLDER
    vasa-convert helper vgg19 vgg19.pth --out FOLDER

`pair` makes one release of the whole public pair; without the two folders its files come from the Hub. `speech` makes
the release of a frozen speech network that stage 2 hears through, from a checkpoint at hand or on the Hub; `helper`
that of a network that losses and metrics compare pictures with.
Flax leaves are named by their path (`params/fc/kernel`); `vasa_jax.checkpoint.unflatten` makes the tree again. Bad
input ends with one line on stderr, exit code 2 and no file.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vasa_jax import config as configs
from vasa_jax.checkpoint import flatten, read_config, unflatten, write_tensors
from vasa_jax.command import Parser, run
from vasa_jax.convert.helper import HELPERS, convert_helper
from vasa_jax.convert.hub import HUB_NAME, SPEECH, fetch_pair, fetch_speech
from vasa_jax.convert.pair import convert_pair
from vasa_jax.convert.registry import convert, default_config, find, networks, to_torch
from vasa_jax.convert.source import read_tensors, source_files
from vasa_jax.convert.speech import convert_speech
from vasa_jax.errors import UserError
from vasa_jax.files import check_apart, check_target


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="vasa-convert", description="Convert a torch checkpoint to Flax, or back.")
    parser.add_argument("name", help=f"the network: {', '.join(networks())}; or pair, speech, helper")
    parser.add_argument(
        "source", type=Path, help="a checkpoint: a file (.safetensors or torch's), an index of shards, a folder"
    )
    parser.add_argument("out", type=Path, help="the file to write (.safetensors)")
    parser.add_argument("--to-torch", action="store_true", help="source holds Flax variables; write torch's tensors")
    parser.add_argument(
        "--config",
        type=Path,
        help="of vasa.*: a release's config.json (default: the paper's size, or with --to-torch any)",
    )
    return parser.parse_args(arguments)


def _config(name: str, path: Path | None) -> Any:
    """The size of a network from a release's config.json; None, which is the default, where none is named."""
    if path is None:
        return None
    default = default_config(name)
    if default is None:
        raise UserError(f"the network {name!r} has one size: leave --config out")
    stage = name.removeprefix("vasa.")
    try:
        content = json.loads(path.read_text())[stage]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"--config {str(path)!r} is no config.json of a release with {stage!r}") from None
    return configs.from_json(json.dumps(content), type(default))


def _inputs(options: argparse.Namespace) -> dict[str, Path]:
    """Every path that is read, by what a user calls it: a source is its folder and each of its files."""
    inputs = {"SOURCE": options.source} | ({"--config": options.config} if options.config else {})
    return inputs | {f"SOURCE's {path.name}": path for path in source_files(options.source)}


@contextlib.contextmanager
def _of(source: Path) -> Iterator[None]:
    """Let complaints inside name what they are of."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def work(arguments: Sequence[str]) -> str:
    """Do what the flags say; returns a line for the user. Raises UserError for bad input."""
    options = _parse(arguments)
    network = find(options.name)
    config = _config(options.name, options.config)
    if check_target(options.out).suffix != ".safetensors":
        raise UserError(f"{str(options.out)!r} must end in .safetensors")
    if options.out.is_dir():
        raise UserError(f"cannot write {options.out}: it is a folder; name a file")
    check_apart({"OUT": options.out}, _inputs(options))
    if options.to_torch:
        leaves = read_tensors(options.source)
        if not any(name.startswith("params/") for name in leaves):  # a release holds the parameters alone
            leaves = {f"params/{name}": leaf for name, leaf in leaves.items()}
        with _of(options.source):
            tensors = to_torch(options.name, unflatten(leaves), config)
        write_tensors(options.out, tensors)
        return f"{options.out}: {len(tensors)} tensors of torch from {len(leaves)} leaves"
    tensors = read_tensors(options.source, network.inside)
    with _of(options.source):
        leaves = flatten(convert(options.name, tensors, config))
    write_tensors(options.out, leaves)
    size = sum(leaf.size for leaf in leaves.values())
    return f"{options.out}: {len(leaves)} leaves, {size / 1e6:.2f}M numbers, from {len(tensors)} tensors"


def work_pair(arguments: Sequence[str]) -> str:
    """Make the release of the public pair; returns a line for the user. Raises UserError for bad input."""
    parser = Parser(prog="vasa-convert pair", description="The public pair, LivePortrait and JoyVASA, to one release.")
    parser.add_argument("--liveportrait", type=Path, help="folder with LivePortrait's files (default: from the Hub)")
    parser.add_argument("--joyvasa", type=Path, help="folder with JoyVASA's files (default: from the Hub)")
    parser.add_argument("--out", type=Path, required=True, help="the release folder to write")
    options = parser.parse_args(arguments)
    halves = {"--liveportrait": options.liveportrait, "--joyvasa": options.joyvasa}
    given = {name: path for name, path in halves.items() if path}
    if len(given) == 1:
        raise UserError(f"{next(iter(given))} alone is half of a pair; give both folders, or none to ask the Hub")
    check_apart({"--out": options.out}, given)
    if given:
        convert_pair(options.liveportrait, options.joyvasa, options.out, _say)
    else:
        fetch_pair(options.out, _say)
    return f"{options.out}: the public pair as one release"


def work_speech(arguments: Sequence[str]) -> str:
    """Make the release of a speech network; returns a line for the user. Raises UserError for bad input."""
    parser = Parser(prog="vasa-convert speech", description="A frozen speech network as a release.")
    parser.add_argument("network", choices=tuple(SPEECH), help="what it is")
    parser.add_argument("source", help="its checkpoint: a file, an index, a folder, or NAME/REPO[@REVISION] on the Hub")
    parser.add_argument("--out", type=Path, required=True, help="the release folder to write")
    options = parser.parse_args(arguments)
    check_apart({"--out": options.out}, {"SOURCE": options.source})
    named = HUB_NAME.fullmatch(options.source)
    if named and not Path(options.source).exists():
        fetch_speech(named[1], named[2] or "main", options.network, options.out, _say)
    else:
        convert_speech(options.network, Path(options.source), options.out)
    return f"{options.out}: {options.network}, sha256 {read_config(options.out)['sha256']}"


def work_helper(arguments: Sequence[str]) -> str:
    """Make the release of a helper; returns a line for the user. Raises UserError for bad input."""
    parser = Parser(prog="vasa-convert helper", description="A frozen network for losses and metrics as a release.")
    parser.add_argument("network", choices=tuple(HELPERS), help="what it is")
    parser.add_argument("source", type=Path, help="its checkpoint: a file, an index of shards, a folder")
    parser.add_argument("--out", type=Path, required=True, help="the release folder to write")
    options = parser.parse_args(arguments)
    check_apart({"--out": options.out}, {"SOURCE": options.source})
    sha256 = convert_helper(options.network, options.source, options.out)
    return (
        f"{options.out}: {options.network}, sha256 {sha256}; licence of the weights: {HELPERS[options.network].licence}"
    )


def _say(line: str) -> None:
    sys.stderr.write(f"convert: {line}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    others = {"pair": work_pair, "speech": work_speech, "helper": work_helper}
    if given and given[0] in others:
        return run("convert", lambda: [others[given[0]](given[1:])])
    return run("convert", lambda: [work(given)])


if __name__ == "__main__":
    sys.exit(main())
