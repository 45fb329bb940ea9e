import io
import itertools
import logging
import pickle
import time

import msgpack
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from vasa_jax.data import (
    CorruptRecordError,
    Record,
    encode_picture,
    open_shards,
    read_clip,
    shards,
    write_clip,
    write_shard,
)
from vasa_jax.data.pipeline import Prefetch, make_dataset, readable
from vasa_jax.data.shards import Shards
from vasa_jax.errors import UserError

RECORDS = 10


def read(row, rng):
    return {"row": np.int64(row), "draw": np.float64(rng.random())}


def take(batches, count):
    """The next `count` batches, one after the other in one array each; closes the iterator."""
    parts = list(itertools.islice(batches, count))
    batches.close()
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def make(seed=3, first_step=0, process=0, processes=1, threads=2, batch_size=4):
    return make_dataset(list(range(RECORDS)), read, batch_size, seed, first_step, process, processes, threads)


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_the_order_is_a_function_of_the_seed_whatever_the_threads():
    assert_equal(take(make(threads=1), 6), take(make(threads=4), 6))
    assert (take(make(seed=4), 6)["row"] != take(make(), 6)["row"]).any()


def test_every_epoch_is_another_permutation_and_positions_count():
    stream = take(make(), 5)  # batches of 4 run across epochs of 10
    epochs = stream["row"].reshape(2, RECORDS)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(RECORDS), (2, 1)))
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(stream["index"], np.arange(20))
    assert stream["index"].dtype == np.uint32 and len(np.unique(stream["draw"])) == 20


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_slices_of_processes_are_the_batch_of_one_from_any_step(processes):
    """A run of one process stops after any step and goes on with more of them: bit for bit the same batches."""
    whole = list(itertools.islice(make(), 9))
    for first_step in (0, 3, 7):
        slices = [make(first_step=first_step, process=p, processes=processes, threads=1 + p) for p in range(processes)]
        for expected in whole[first_step : first_step + 2]:
            parts = [next(batches) for batches in slices]
            assert_equal({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, expected)
        for batches in slices:
            batches.close()


def test_committed_steps_use_every_record_once_an_epoch_at_changing_process_counts():
    """Steps 0-1 by one process, 2-5 by four, 6-9 by two: 40 samples are four whole epochs, 12 of which were read ahead
    and thrown away without being missed."""
    seen = []
    for first_step, steps, processes in ((0, 2, 1), (2, 4, 4), (6, 4, 2)):
        rows = [
            take(make(first_step=first_step, process=p, processes=processes), steps)["row"] for p in range(processes)
        ]
        local = [row.reshape(steps, -1) for row in rows]
        seen.append(np.concatenate(local, 1).reshape(-1))
    epochs = np.concatenate(seen).reshape(4, RECORDS)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(RECORDS), (4, 1)))


def test_a_process_reads_its_own_records_alone():
    """And what the next batches need, no more."""
    met = set()

    def note(row, rng):
        met.add(int(row))
        return read(row, rng)

    mine = make_dataset(list(range(1000)), note, 40, 0, process=1, processes=4, prefetch=1, threads=1)
    rows = set(next(mine)["row"].tolist())
    mine.close()
    assert rows <= met and len(met) <= 3 * 10


@pytest.mark.parametrize("process, processes, match", [(0, 3, "does not divide over 3"), (2, 2, "between 0 and 1")])
def test_a_slice_that_cannot_be_is_refused(process, processes, match):
    with pytest.raises(ValueError, match=match):
        make(process=process, processes=processes)


def sound(number):
    """A record of a tenth of a second, recognisable by its first sample, large enough to find its bytes."""
    return write_clip(None, np.full(1600, number / 100, np.float32), {"identity": np.int64(number)})


def heard(record, rng):
    clip = read_clip(record)
    return {"row": np.int64(clip.labels["identity"]), "draw": np.float64(rng.random())}


@pytest.fixture
def damaged(tmp_path):
    """Two shards of five: the sound of clip 3 of the first has flipped bytes, clip 1 of the second is rubbish."""
    records = [sound(number) for number in range(RECORDS)]
    records[6] = Record(b"rubbish")
    write_shard(tmp_path / "a.array_record", records[:5])
    write_shard(tmp_path / "b.array_record", records[5:])
    shard = tmp_path / "a.array_record"
    content = bytearray(shard.read_bytes())
    place = content.find(np.full(8, 0.03, np.float32).tobytes()) + 16
    content[place] ^= 0xFF
    shard.write_bytes(content)
    return tmp_path


def test_a_corrupt_record_is_replaced_by_the_next_one_counted_and_reported(damaged, caplog):
    order = take(make_dataset(list(range(RECORDS)), read, 4, 3), 5)
    following = take(make_dataset(list(range(RECORDS)), read, 1, 3), 24)["row"]
    with caplog.at_level(logging.WARNING):
        batches = make_dataset(open_shards(damaged), heard, 4, 3)
        parts = list(itertools.islice(batches, 5))
    assert batches.skipped == 2
    batches.close()
    rows = np.concatenate([part["row"] for part in parts])
    expected = [next(row for row in following[i:] if row not in (3, 6)) for i in range(20)]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(np.concatenate([part["draw"] for part in parts]), order["draw"])
    warnings = sorted(record.getMessage() for record in caplog.records)
    assert len(warnings) == 2
    assert f"skipped {damaged / 'a.array_record'}, clip 3: " in warnings[0] and "mismatch" in warnings[0]
    assert f"skipped {damaged / 'b.array_record'}, clip 1: 7 bytes are no head of a clip" in warnings[1]
    assert any("(2 corrupt so far, at most 10)" in warning for warning in warnings)


def test_the_order_without_corrupt_records_is_the_same_at_any_process_and_thread_count(damaged):
    source = open_shards(damaged)
    whole = take(make_dataset(source, heard, 4, 3, threads=1), 5)
    slices = [take(make_dataset(source, heard, 4, 3, process=p, processes=4, threads=4), 5) for p in range(4)]
    together = {name: np.stack([part[name] for part in slices], 1).reshape(-1) for name in whole}
    assert_equal(together, whole)


def test_beyond_the_limit_the_run_stops_and_names_shard_and_index(damaged):
    batches = make_dataset(open_shards(damaged), heard, 4, 3, max_corrupt=1)
    with pytest.raises(CorruptRecordError, match=r"array_record, clip [13]: .*\(2 of 10 records are corrupt"):
        list(itertools.islice(batches, 5))
    batches.close()
    assert isinstance(CorruptRecordError(), ValueError)


def test_a_folder_of_nothing_but_rubbish_stops_instead_of_searching_for_ever(tmp_path):
    write_shard(tmp_path / "a.array_record", [Record(b"rubbish")] * 3)
    batches = make_dataset(open_shards(tmp_path), heard, 2, 0, threads=4)
    with pytest.raises(CorruptRecordError, match="3 of 3 records are corrupt"):
        next(batches)
    batches.close()


def test_threads_count_every_corrupt_record_once():
    def refuse_odd(row, rng):
        time.sleep(0.001)
        if row % 2:
            raise CorruptRecordError("odd")
        return read(row, rng)

    batches = make_dataset(list(range(400)), refuse_odd, 10, 0, threads=8, prefetch=8, max_corrupt=200)
    rows = take(batches, 80)["row"]
    assert batches.skipped == 200 and not (rows % 2).any()


def test_readable_records_are_listed_once(damaged):
    found = list(readable(open_shards(damaged), lambda record: int(read_clip(record).labels["identity"]), 2))
    assert found == [(i, i) for i in range(RECORDS) if i not in (3, 6)]
    with pytest.raises(CorruptRecordError, match="clip 1: .*max_corrupt=1"):
        list(readable(open_shards(damaged), read_clip, 1))


def test_a_file_that_is_no_shard_is_named(tmp_path):
    (tmp_path / "a.array_record").write_bytes(b"half a download")
    with pytest.raises(ValueError, match="a.array_record is no readable ArrayRecord file"):
        open_shards(tmp_path)


def broken_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[:-40]


def packed(parts=(), **fields):
    head = {"version": 2, "frames": 0, "size": None, "sound": None, "features": None, "portrait": False}
    return Record(msgpack.packb(head | {"labels": {}, "about": {}} | fields), tuple(parts))


def array(values, dtype="float32"):
    values = np.asarray(values, dtype)
    return {"dtype": dtype, "shape": list(values.shape), "data": values.tobytes()}


ONE = {"frames": 1, "size": [16, 16]}


@pytest.mark.parametrize(
    "record, match",
    [
        (Record(b""), "no head of a clip"),
        (Record(msgpack.packb([1, 2])), "version"),
        (packed(version=1), "version"),
        (packed(frames="many"), "broken clip"),
        (packed(frames=-1), "broken clip"),
        (packed(frames=1), "broken clip"),
        (packed([b"not a picture"], **ONE), "13 bytes are no JPEG picture"),
        (packed([b""], **ONE), "0 bytes are no JPEG picture"),
        (packed([broken_jpeg()], **ONE), "bytes are no JPEG picture"),
        (packed([encode_picture(np.zeros((8, 16, 3), np.uint8))], **ONE), r"a frame of shape \(8, 16, 3\)"),
        (packed([], **ONE), "has no part 0"),
        (packed([np.float32([0.0, np.inf]).tobytes()], sound=2), "finite float32"),
        (packed([bytes(8)], sound=3), "broken clip"),
        (packed([bytes(7)], sound=2), "broken clip"),
        (packed([bytes(8)], features=[2, 3]), "broken clip"),
        (packed([bytes(8)], features=[2]), "broken clip"),
        (packed(portrait=True), "has no part 0"),
        (packed(about={"source": 3}), "'source'"),
        (packed(labels={"pose": {"dtype": "object", "shape": [1], "data": b"12345678"}}), "broken clip"),
        (packed(labels={"pose": array(np.zeros((3, 5)))}), r"'pose' is float32 \(3, 5\); .*\(3, 6\)"),
        (packed(labels={"pose": array(np.zeros((3, 6))), "gaze": array(np.zeros((2, 2)))}), r"'gaze' .*\(3, 2\)"),
        (packed(labels={"emotion": array(np.zeros(7))}), r"'emotion' .*\(8\)"),
        (packed(labels={"phonemes": 3}), "broken clip"),
        (packed([bytes(4 * 44100)], labels={"pose": array(np.zeros((25, 6)))}, sound=44100), "44100 Hz"),
    ],
)
def test_every_kind_of_damage_is_one_error(record, match):
    with pytest.raises(CorruptRecordError, match=match):
        read_clip(record)


def test_random_damage_never_raises_anything_else():
    frames = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3)).astype(np.uint8)
    audio, labels = np.zeros(1280, np.float32), {"pose": np.zeros((2, 6), np.float32), "phonemes": [("a", 0.0, 0.1)]}
    record, rng = write_clip(frames, audio, labels, {"source": "a", "start": 0.5}), np.random.default_rng(1)
    refused = 0

    def damaged(part):
        damage = bytearray(part)
        for place in rng.integers(0, len(damage), 3):
            damage[place] = rng.integers(0, 256)
        return bytes(damage[: rng.integers(len(damage) // 2, len(damage) + 1)])

    for _ in range(250):
        for broken in (
            record._replace(head=damaged(record.head)),
            record._replace(parts=tuple(map(damaged, record.parts))),
        ):
            try:
                read_clip(broken)
            except CorruptRecordError:
                refused += 1
    assert refused > 200


def write_raw(path, parts):
    """An ArrayRecord file of any records."""
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for part in parts:
        writer.write(part)
    writer.close()


@pytest.mark.parametrize(
    "parts, match",
    [
        ([], "holds records of version 1.*python -m vasa_jax.data upgrade FOLDER NEW"),
        ([msgpack.packb({"version": 1, "frames": [], "audio": None, "labels": {}})], "holds records of version 1"),
        ([b"rubbish"], "no index that can be read"),
        ([b"head", msgpack.packb([1])], "no index that can be read"),
        ([b"head", msgpack.packb({"index": 3})], "no index that can be read: it is of version 3"),
        ([b"head", msgpack.packb({"index": 2, "first": [1], "identity": [1], "source": [""]})], "out of order"),
        ([b"head", msgpack.packb({"index": 2, "first": [0], "identity": [], "source": [""]})], "not equally long"),
    ],
)
def test_a_shard_without_its_index_is_refused_by_name(tmp_path, parts, match):
    (tmp_path / "train").mkdir()
    write_raw(tmp_path / "train" / "a.array_record", parts)
    with pytest.raises(UserError, match=match.replace("FOLDER", str(tmp_path))) as error:
        open_shards(tmp_path / "train")
    assert "a.array_record" in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_index_and_a_cut_shard_are_refused_by_name(tmp_path):
    write_shard(tmp_path / "a.array_record", [sound(i) for i in range(3)])
    content = (tmp_path / "a.array_record").read_bytes()
    place = content.rfind(b"identity")
    (tmp_path / "a.array_record").write_bytes(content[:place] + b"X" + content[place + 1 :])
    with pytest.raises(UserError, match="a.array_record has no index that can be read"):
        open_shards(tmp_path)
    (tmp_path / "a.array_record").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="a.array_record is no readable ArrayRecord file"):
        open_shards(tmp_path)


def test_a_shard_that_vanishes_is_corrupt_and_more_shards_than_stay_open_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "OPEN", 2)
    for number in range(5):
        write_shard(tmp_path / f"{number}.array_record", [sound(number)])
    source = pickle.loads(pickle.dumps(open_shards(tmp_path)))
    order = [0, 1, 4, 0, 2, 3, 1, 0]
    assert [int(source[i].labels["identity"]) for i in order] == order
    assert len(source._readers) == 2
    (tmp_path / "4.array_record").unlink()
    with pytest.raises(CorruptRecordError, match="4.array_record is no readable"):
        source[4]
    with pytest.raises(IndexError):
        source[5]


class Counter:
    """Host batches 0..4 that know how many were taken and whether they were closed."""

    skipped = 3

    def __init__(self, seconds=0.0):
        self.taken, self.closed, self.seconds = 0, False, seconds

    def __next__(self):
        if self.taken == 5:
            raise StopIteration
        time.sleep(self.seconds)
        self.taken += 1
        return self.taken - 1

    def close(self):
        self.closed = True


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_prefetch_keeps_the_order_and_its_depth(depth):
    host, placed = Counter(), []

    def place(batch):
        placed.append(batch)
        return f"placed {batch}"

    batches = Prefetch(host, place, depth)
    for number in range(5):
        assert next(batches) == f"placed {number}"
        assert len(placed) == min(number + depth, 5)
    with pytest.raises(StopIteration):
        next(batches)
    assert batches.skipped == 3
    batches.close()
    assert host.closed


def test_prefetch_counts_the_seconds_it_waited():
    slow, quick = (Prefetch(Counter(seconds), lambda batch: time.sleep(0.02) or batch) for seconds in (0.02, 0.0))
    assert list(slow) == list(quick) == [0, 1, 2, 3, 4]
    assert slow.waited > 0.1 > quick.waited


def test_shards_know_where_a_record_stands(tmp_path):
    for name, count in (("a", 2), ("b", 3)):
        write_shard(tmp_path / f"{name}.array_record", [sound(i) for i in range(count)])
    source = open_shards(tmp_path)
    assert isinstance(source, Shards) and len(source) == 5
    assert [source.where(i).split("/")[-1] for i in (1, 2, 4)] == [
        "a.array_record, clip 1",
        "b.array_record, clip 0",
        "b.array_record, clip 2",
    ]
