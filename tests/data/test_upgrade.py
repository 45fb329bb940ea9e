"""Folders of version 1 become this version; `version_1/` was written by the code of that time, and packed."""

import gzip
import json
import logging
from pathlib import Path

import msgpack
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from vasa_jax.data import CorruptRecordError, open_shards, read_clip, upgrade, write_clip, write_shard
from vasa_jax.data.__main__ import main
from vasa_jax.data.shards import SPLITS

KEPT = Path(__file__).parent / "version_1"


@pytest.fixture
def old(tmp_path):
    """A folder of version 1, as a run made it: a video, one without sound or labels, an encoded clip."""
    for split in SPLITS:
        (tmp_path / "old" / split).mkdir(parents=True)
        content = gzip.decompress((KEPT / split / "a.array_record.gz").read_bytes())
        for name in "ab":
            (tmp_path / "old" / split / f"{name}.array_record").write_bytes(content)
    for name in ("recipe", "encoded", "done"):
        (tmp_path / "old" / f"{name}.json").write_text(json.dumps({"name": name}))
    return tmp_path / "old"


def maps(path):
    reader = ArrayRecordReader(str(path))
    return [msgpack.unpackb(data) for data in reader.read_all()]


def write_maps(path, records):
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for record in records:
        writer.write(record)
    writer.close()


def refused(capsys, *arguments):
    assert main(["upgrade", *map(str, arguments)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("data: error: ")
    return line


def test_version_1_is_refused_with_the_command_that_upgrades_it(old):
    with pytest.raises(ValueError, match=f"version 1.*python -m vasa_jax.data upgrade {old} NEW"):
        open_shards(old / "train")


def test_everything_moves_over_and_pictures_are_not_encoded_again(old, tmp_path, capsys):
    assert main(["upgrade", str(old), str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new'}: train 2 shards, validation 2 shards\n"
    for name in ("recipe", "encoded", "done"):
        assert (tmp_path / "new" / f"{name}.json").read_text() == (old / f"{name}.json").read_text()
    for split in SPLITS:
        before = maps(old / split / "a.array_record")
        source = open_shards(tmp_path / "new" / split)
        assert len(source) == 6
        for i, fields in enumerate(before):
            assert source[i].pictures() == fields["frames"]
            clip = read_clip(source[i])
            assert (clip.audio is None) == (fields["audio"] is None)
            if clip.audio is not None:
                assert clip.audio.tobytes() == fields["audio"]["data"]
            assert set(fields["labels"]) - set(clip.labels) == ({"portrait"} if i == 2 and split == "train" else set())
            for name in set(clip.labels) - {"portrait", "phonemes"}:
                assert clip.labels[name].tobytes() == fields["labels"][name]["data"], name
            if "phonemes" in clip.labels:
                assert clip.labels["phonemes"] == [("AA", 0.0, 0.1)]
        known, identity, source_of = source.people()
        assert known.tolist() == [True, False, True] * 2 and identity[0] >= 10**12 and len(set(source_of)) == 6
    portrait = read_clip(open_shards(tmp_path / "new" / "validation")[2]).labels["portrait"]
    truth = np.frombuffer(before[2]["labels"]["portrait"]["data"], np.uint8).reshape(16, 16, 3)
    assert np.abs(portrait.astype(int) - truth).mean() < 2


def test_an_interrupted_upgrade_goes_on(old, tmp_path, monkeypatch):
    new, calls = tmp_path / "new", []

    def interrupted(path, records):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write_shard(path, records)

    monkeypatch.setattr(upgrade, "write_shard", interrupted)
    assert main(["upgrade", str(old), str(new)]) == 130
    assert sorted(path.name for path in new.rglob("*.array_record")) == ["a.array_record"]
    assert not (new / "done.json").exists()
    written = (new / "train" / "a.array_record").stat().st_mtime_ns
    (new / "train" / ".unfinished-1-ab.array_record").write_bytes(b"half")
    monkeypatch.undo()
    assert main(["upgrade", str(old), str(new)]) == 0
    assert (new / "train" / "a.array_record").stat().st_mtime_ns == written
    assert len(list(new.rglob("*.array_record"))) == 4 and (new / "done.json").exists()
    assert not list(new.rglob(".unfinished*"))


def test_a_folder_of_shards_alone_and_corrupt_records(old, tmp_path, capsys, caplog):
    good = [msgpack.packb(fields) for fields in maps(old / "train" / "a.array_record")]
    bad = msgpack.packb(msgpack.unpackb(good[1]) | {"frames": [b"no picture"]})
    (tmp_path / "flat").mkdir()
    write_maps(tmp_path / "flat" / "a.array_record", [b"rubbish", good[0], bad, good[2]])
    with caplog.at_level(logging.WARNING):
        assert upgrade.upgrade(tmp_path / "flat", tmp_path / "new") == {"": 1}
    assert [clip.count for clip in map(open_shards(tmp_path / "new").__getitem__, range(2))] == [3, 0]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2 and "a.array_record, record 2: " in warnings[1] and "no JPEG picture" in warnings[1]
    with pytest.raises(CorruptRecordError, match="record 2: .*max_corrupt=1"):
        upgrade.upgrade(tmp_path / "flat", tmp_path / "other", max_corrupt=1)
    assert not list((tmp_path / "other").glob("*.array_record"))
    assert read_clip(open_shards(tmp_path / "new")[1]).labels["portrait"].shape == (16, 16, 3)


def test_bad_folders_are_refused_in_one_line(old, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    write_shard(tmp_path / "other" / "a.array_record", [write_clip(None, None, {})])
    assert "holds no *.array_record shards" in refused(capsys, tmp_path / "empty", tmp_path / "new")
    assert "would overwrite OLD" in refused(capsys, old, old)
    assert "would overwrite OLD" in refused(capsys, old, old / "new")
    assert "holds a.array_record and nothing upgraded" in refused(capsys, old, tmp_path / "other")
    assert "holds no records of version 1" in refused(capsys, tmp_path / "other", tmp_path / "new")
    assert "must be 0 or more" in refused(capsys, old, tmp_path / "new", "--max-corrupt", -1)
    assert "invalid choice" in (main(["mend"]), capsys.readouterr().err)[1]
    assert not (tmp_path / "new").exists()
