import itertools

import pytest

from vasa_jax.synthetic.splits import SPLITS, seeds, split_of


def test_no_seed_belongs_to_two_splits():
    for (one, first), (two, second) in itertools.combinations(SPLITS.items(), 2):
        assert first.stop <= second.start or second.stop <= first.start, (one, two)


@pytest.mark.parametrize("name", SPLITS)
def test_a_seed_finds_its_split(name):
    assert split_of(seeds(name).start) == split_of(seeds(name).stop - 1) == name


def test_other_seeds_and_names_have_no_split():
    assert split_of(1_500_000) is None
    with pytest.raises(ValueError, match="validation"):
        seeds("holdout")
