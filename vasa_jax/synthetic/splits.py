"""Disjoint seeds for the people and clips of the synthetic world.

A seed decides a person, a voice and a performance, so keeping the ranges apart keeps people apart: nobody seen in
training is ever met in validation, by the probe network of the benchmarks, in the test clips or in the demo.
"""

SPLITS: dict[str, range] = {
    "train": range(0, 1_000_000),
    "validation": range(1_000_000, 1_100_000),
    "probe": range(2_000_000, 3_000_000),
    "test": range(3_000_000, 3_100_000),
    "demo": range(4_000_000, 4_000_100),
}


def seeds(split: str) -> range:
    """Seeds of one split.

    Args:
        split: a key of `SPLITS`.

    Returns:
        The half-open range of its integer seeds.

    Raises:
        ValueError: if the split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"{split=} is not a split of the world; choose one of {', '.join(SPLITS)}")
    return SPLITS[split]


def split_of(seed: int) -> str | None:
    """Name of the split that holds a seed, or None for a seed that belongs to no split."""
    return next((name for name, members in SPLITS.items() if seed in members), None)
