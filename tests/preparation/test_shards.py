"""Who is held out, and which clips share a shard: functions of names and sizes alone."""

from vasa_jax.preparation.shards import Piece, _shards, divide, unit_of


def test_the_share_held_out_is_what_was_asked_for_and_holds():
    names = [f"person {i}" for i in range(2000)]
    sides = divide(names, {}, 0.1)
    assert 150 < sum(side == "validation" for side in sides.values()) < 250
    assert divide(names[::-1], {}, 0.1) == sides
    half = divide(names[:1000], {}, 0.1)
    assert half == {name: sides[name] for name in names[:1000]}


def test_both_sides_have_somebody_where_there_are_two():
    for share in (1e-9, 0.5, 1 - 1e-9):
        for count in range(2, 6):
            assert set(divide(map(str, range(count)), {}, share).values()) == {"train", "validation"}
        assert divide(["alone"], {}, share) == {"alone": "train"}


def test_who_has_a_side_keeps_it():
    known = divide(map(str, range(10)), {}, 0.01)
    more = divide(map(str, range(5, 20)), known, 0.01)
    assert all(more[name] == known[name] for name in map(str, range(5, 10)))
    assert set(divide(["b"], {"a": "train"}, 1e-9).values()) == {"validation"}


def test_a_unit_is_a_person_or_a_video():
    assert unit_of("anna/x/1.mp4", "folder") == "anna/" and unit_of("1.mp4", "folder") == "1.mp4"
    assert unit_of("anna/x/1.mp4", "track") == "anna/x/1.mp4"


def test_shards_hold_no_more_than_asked_for_but_one_clip_at_least():
    clips = [("a", 0, 40), ("a", 1, 40), ("a", 2, 40), ("b", 0, 500), ("c", 0, 10), ("c", 1, 90)]
    assert list(_shards(clips, 100)) == [
        [Piece("a", 0, 2)],
        [Piece("a", 2, 1)],
        [Piece("b", 0, 1)],
        [Piece("c", 0, 2)],
    ]
    assert list(_shards([], 100)) == []
