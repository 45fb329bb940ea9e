"""What a folder of records remembers of its making.

    RECORDS/preparation.json      the settings that made it; others are refused
    RECORDS/manifest/ab/KEY.json  one entry a video that is finished, written last of all that the video leaves
    RECORDS/manifest/skipped.json files that were left aside, by their endings
    RECORDS/parts/ab/KEY.part     its clips, until they lie in a shard
    RECORDS/shards.json           which clips lie in which shard

KEY stands for the video's name and ab for its first two digits, so that no folder grows too large. A part is a sequence
of (length as 8 bytes, little-endian; a MessagePack list of the record's own parts).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vasa_jax.errors import UserError, refusals
from vasa_jax.files import PREFIX, read_json, remove_unfinished, write_text

DONE, FAILED = "done", "failed"
"""What an entry says of its video."""
_OURS = ("preparation.json", "manifest", "parts", "shards.json", "lock", "workers.log", "report.html")


class Manifest:
    """The bookkeeping of one folder of records."""

    def __init__(self, records: str | Path):
        """`records` is the folder; nothing is read or written yet."""
        self.records = Path(records)

    def entry(self, key: str) -> Path:
        """Where the entry of a video stands."""
        return self.records / "manifest" / key[:2] / f"{key}.json"

    def part(self, key: str) -> Path:
        """Where the clips of a video stand before they are packed."""
        return self.records / "parts" / key[:2] / f"{key}.part"

    def keys(self) -> set[str]:
        """The videos that are finished, well or not."""
        return {path.stem for path in self._entries()}

    def entries(self) -> Iterator[dict[str, Any]]:
        """All entries, in the order of their keys; raises UserError for one that is damaged."""
        for path in self._entries():
            yield read_json(path)

    def read(self, key: str) -> dict[str, Any]:
        """The entry of a video."""
        return read_json(self.entry(key))

    def write(self, key: str, entry: dict[str, Any]) -> None:
        """Note that a video is finished; raises UserError where the system refuses."""
        path = self.entry(key)
        with refusals("make", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(entry) + "\n")

    def forget(self, key: str) -> None:
        """Let a video be done again; raises UserError where the system refuses."""
        with refusals("remove", self.entry(key)):
            self.entry(key).unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what killed workers left, where none works now."""
        for folder in ("manifest", "parts"):
            for below in sorted((self.records / folder).glob("*")):
                remove_unfinished(below)
        for below in (self.records, self.records / "train", self.records / "validation"):
            remove_unfinished(below)

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Refuse a folder that was made with other settings, or that holds something else.

        Args:
            settings: name to value, as JSON keeps it.

        Raises:
            UserError: naming the first setting that differs, or a stranger in the folder.
        """
        path = self.records / "preparation.json"
        if not path.is_file():
            with refusals("read", self.records):
                names = sorted(there.name for there in self.records.iterdir()) if self.records.is_dir() else []
            if strangers := [name for name in names if name not in _OURS and not name.startswith(PREFIX)]:
                raise UserError(
                    f"{self.records} holds {strangers[0]} and was not made by this command; name an empty folder, or "
                    "one to go on with"
                )
            return
        there = read_json(path)
        for name in sorted(there.keys() | settings.keys()):
            if there.get(name) != settings.get(name):
                flag, old, new = "--" + name.replace("_", "-"), _shown(there.get(name)), _shown(settings.get(name))
                raise UserError(
                    f"{self.records} was prepared with {flag} {old}, not {new}: leave it so, or name another folder"
                )

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Note the settings that a folder is made with."""
        write_text(self.records / "preparation.json", json.dumps(settings, indent=2) + "\n")

    def write_skipped(self, skipped: dict[str, int]) -> None:
        """Note the files that were left aside: endings, with their numbers."""
        folder = self.records / "manifest"
        with refusals("make", folder):
            folder.mkdir(exist_ok=True)
        write_text(folder / "skipped.json", json.dumps(skipped) + "\n")

    def skipped(self) -> dict[str, int]:
        """What `write_skipped` noted, if it did."""
        path = self.records / "manifest" / "skipped.json"
        return read_json(path) if path.is_file() else {}

    def _entries(self) -> list[Path]:
        with refusals("read", self.records / "manifest"):
            return sorted((self.records / "manifest").glob("??/*.json"))


def _shown(value: Any) -> str:
    return "unset" if value is None else json.dumps(value)
