"""Mixtures and pairs: who stands where, at any number of processes, from any step, and how often."""

import itertools

import numpy as np
import pytest

from vasa_jax.data import CorruptRecordError, Record, open_shards, write_clip, write_shard
from vasa_jax.data.order import Partners, Turns, endless
from vasa_jax.data.pipeline import Others, make_dataset
from vasa_jax.data.shards import open_folders
from vasa_jax.errors import UserError


def clip(identity=None, source="", tag=0):
    labels = {} if identity is None else {"identity": np.int64(identity)}
    return write_clip(None, None, labels | {"gaze": np.full((1, 2), tag / 100, np.float32)}, {"source": source})


def folder(path, records, per_shard=3):
    path.mkdir()
    for i in range(0, len(records), per_shard):
        write_shard(path / f"{i:03d}.array_record", records[i : i + per_shard])
    return path


@pytest.fixture
def three(tmp_path):
    """Folders of 5, 8 and 2 clips, whose tags count on."""
    records = [clip(tag, tag=tag) for tag in range(15)]
    return [folder(tmp_path / name, records[a:b]) for name, a, b in (("a", 0, 5), ("b", 5, 13), ("c", 13, 15))]


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, 1.0), (5.0, 2.0, 1.0), (1e-3, 1.0), (1.0, 2.0, 3.0, 4.0, 5.0)])
def test_folders_have_their_share_of_every_stretch_and_count_their_own_positions(weights):
    turns, met = Turns(weights), np.zeros(len(weights), int)
    shares = np.asarray(weights) / sum(weights)
    for position in range(3000):
        number, place = turns[position]
        assert place == met[number]  # its own positions, without a gap
        met[number] += 1
        assert np.abs(met - shares * (position + 1)).max() < len(weights)
    far = 10**12
    assert sum(turns[far + i][0] == 0 for i in range(1000)) == pytest.approx(1000 * shares[0], abs=len(weights))


def test_every_folder_runs_through_its_own_shuffled_epochs():
    order = endless([50, 80, 20], [3.0, 2.0, 1.0], seed=4)
    stream = np.asarray([order[i] for i in range(960)])
    for first, count in ((0, 50), (50, 80), (130, 20)):
        own = stream[(stream >= first) & (stream < first + count)]
        epochs = own[: len(own) // count * count].reshape(-1, count)
        np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(first, first + count), (len(epochs), 1)))
        assert (epochs[:-1] != epochs[1:]).any()
    other = endless([50, 80, 20], [3.0, 2.0, 1.0], seed=5)
    assert [other[i] for i in range(50)] != stream[:50].tolist()
    alone = endless([50], [1.0], seed=4)
    own = stream[stream < 50]
    np.testing.assert_array_equal([alone[i] for i in range(len(own))], own)  # as if it were alone
    equal = endless([70, 70], [1.0, 1.0], seed=4)
    stream = np.asarray([equal[i] for i in range(140)])
    assert (stream[stream < 70] != stream[stream >= 70] - 70).any()


def tag(record, rng):
    return {"tag": np.int64(round(100 * float(record.labels["gaze"][0, 0]))), "draw": np.float64(rng.random())}


def other_tag(record, rng):
    return {f"other_{name}": value for name, value in tag(record, rng).items()}


def take(source, steps, first_step=0, processes=1, threads=2, weights=(3.0, 2.0, 1.0), **settings):
    """Batches of 4 from a step on, put together from all processes' slices."""
    others = Others(Partners(source, weights).draw, other_tag)
    parts = []
    for process in range(processes):
        place = (4, 3, first_step, process, processes, threads)
        batches = make_dataset(source, tag, *place, weights=weights, others=others, **settings)
        parts.append(list(itertools.islice(batches, steps)))
        batches.close()
    return {
        name: np.concatenate([np.concatenate([own[i][name] for own in parts]) for i in range(steps)])
        for name in parts[0][0]
    }


def test_mixtures_and_pairs_are_the_same_at_any_process_and_thread_count_and_on_resume(three):
    source = open_folders(three)
    assert source.parts == (5, 8, 2) and source.in_turn() == [0, 5, 13, 1, 6, 14, 2, 7, 3, 8, 4, 9, 10, 11, 12]
    whole = take(source, 12)
    order = endless(source.parts, (3.0, 2.0, 1.0), 3)
    np.testing.assert_array_equal(whole["tag"], [order[i] for i in range(48)])
    for processes, threads, first in ((2, 1, 0), (4, 4, 0), (4, 2, 5), (1, 1, 11)):
        part = take(source, 12 - first, first, processes, threads)
        for name, value in whole.items():
            np.testing.assert_array_equal(part[name], value[4 * first :], err_msg=name)
    assert (whole["tag"] != whole["other_tag"]).all()
    assert len(np.unique(np.concatenate([whole["draw"], whole["other_draw"]]))) == 96


def test_what_a_sample_has_of_its_own_clip_does_not_depend_on_pairs(three):
    source = open_folders(three)
    batches = make_dataset(source, tag, 4, 3, weights=(3.0, 2.0, 1.0))
    alone = next(batches)
    batches.close()
    paired = take(source, 1)
    for name in alone:
        np.testing.assert_array_equal(alone[name], paired[name])


PEOPLE = (
    *(clip(1, "a", 0), clip(1, "b", 1), clip(1, "b", 2)),  # one person in two recordings
    *(clip(2, "b", 3), clip(3, "c", 4)),
    *(clip(None, "b", 5), clip(None, "d", 6), clip(None, "", 7), clip(None, "", 8)),  # nobody knows who
)
ALLOWED = {  # worked out by hand from the rule
    0: {3, 4, 5, 6, 7, 8},
    1: {3, 4, 6, 7, 8},
    2: {3, 4, 6, 7, 8},
    3: {0, 1, 2, 4, 6, 7, 8},
    4: {0, 1, 2, 3, 5, 6, 7, 8},
    5: {0, 4, 6, 7, 8},
    6: {0, 1, 2, 3, 4, 5, 7, 8},
    7: {0, 1, 2, 3, 4, 5, 6, 8},
    8: {0, 1, 2, 3, 4, 5, 6, 7},
}


def test_partners_are_other_people_and_all_of_them_equally_likely(tmp_path):
    partners = Partners(open_shards(folder(tmp_path / "x", PEOPLE)), (1.0,))
    draws = 2000
    for one, allowed in ALLOWED.items():
        drawn = [partners.draw(one, np.random.default_rng((0, position))) for position in range(draws)]
        counts = np.bincount(drawn, minlength=len(PEOPLE))
        assert set(np.flatnonzero(counts)) == allowed, one
        expected = draws / len(allowed)
        chi_square = np.square(counts[sorted(allowed)] - expected).sum() / expected
        assert chi_square < 24.3, one  # exceeded by one fair draw in 500 at 7 degrees of freedom
        assert len(PEOPLE) - partners._excluded()[one] == len(allowed)


def test_partners_of_a_mixture_follow_its_weights(tmp_path):
    folders = [folder(tmp_path / "a", [clip(i) for i in range(4)]), folder(tmp_path / "b", [clip(9)])]
    partners = Partners(open_folders(folders), (1.0, 3.0))
    drawn = [partners.draw(0, np.random.default_rng((1, position))) for position in range(4000)]
    # Clip 0 itself is drawn with 1/16 and drawn again; so b's only clip comes with 3/4 in 15/16.
    assert np.mean(np.asarray(drawn) == 4) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    "records",
    [[clip(1, "a"), clip(1, "b")], [clip(None, "a"), clip(None, "a")], [clip(1, "a"), clip(2, "a"), clip(None, "a")]],
)
def test_one_person_alone_is_refused(tmp_path, records):
    with pytest.raises(UserError, match=r"\.array_record, clip \d has nobody to be paired with.*other_frames") as error:
        Partners(open_shards(folder(tmp_path / "x", records)), (1.0,))
    assert "\n" not in str(error.value)


def test_corrupt_partners_are_counted_and_another_one_is_drawn(tmp_path, caplog):
    records = [clip(i, tag=i) for i in range(6)]
    records[2] = Record(b"rubbish", identity=2)
    source = open_shards(folder(tmp_path / "x", records))
    whole = take(source, 10, weights=(1.0,))
    assert 2 not in whole["tag"] and 2 not in whole["other_tag"] and (whole["tag"] != whole["other_tag"]).all()
    assert "clip 2: 7 bytes are no head" in caplog.text
    with pytest.raises(CorruptRecordError, match="max_corrupt=0"):
        take(source, 10, weights=(1.0,), max_corrupt=0)


def test_a_clip_whose_only_partners_are_corrupt_does_not_search_for_ever(tmp_path):
    records = [clip(0), clip(0), Record(b"rubbish", identity=1)]
    with pytest.raises(UserError, match="partners of record"):
        take(open_shards(folder(tmp_path / "x", records)), 1, weights=(1.0,))
