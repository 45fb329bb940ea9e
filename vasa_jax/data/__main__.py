"""Care of folders of records: `python -m vasa_jax.data upgrade OLD NEW [--max-corrupt N]`."""

import sys
from collections.abc import Iterator, Sequence

from vasa_jax.command import Parser, run
from vasa_jax.data.upgrade import upgrade


def work(arguments: Sequence[str]) -> Iterator[str]:
    """Do what the arguments say, with lines for the user; raises UserError for bad input."""
    parser = Parser(prog="python -m vasa_jax.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("upgrade", help="write records of version 1 as this version's", description=__doc__)
    command.add_argument("old", help="folder with train/ and validation/ of records of version 1")
    command.add_argument("new", help="folder for the same clips, of this version; an interrupted upgrade goes on")
    command.add_argument("--max-corrupt", type=int, default=10, help="corrupt records of a shard that are left out")
    options = parser.parse_args(arguments)
    counts = upgrade(options.old, options.new, options.max_corrupt)
    listed = ", ".join(f"{folder or 'here'} {count} shards" for folder, count in counts.items())
    yield f"{options.new}: {listed}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    return run("data", lambda: work(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
