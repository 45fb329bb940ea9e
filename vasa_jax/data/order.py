"""Which clip stands where in the endless stream, and whose frames stand beside it: pure functions of (seed, position).

One folder runs through shuffled epochs: position i is clip shuffle(seed, epoch)[i mod n]. Several folders share the
positions by weight, each running through its own shuffled epochs. With S_k the weights of the folders 0 .. k added up,

    before_k(p) = floor(p S_(k-1) / S_k),                                                                     (1)

of the first p positions that the folders 0 .. k share, before_k(p) belong to the earlier ones; p is folder k's own
where before_k(p + 1) = before_k(p), and is position before_k(p) of the earlier ones otherwise. So every folder has its
share of any stretch of the stream to within a clip or so, and no draw has to be remembered.
"""

import sys
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from vasa_jax.data.shards import Shards
from vasa_jax.errors import UserError

SHARES = 1_000_000
"""Weights are rounded to this part of their sum."""


class Turns(grain.transforms.DatasetSelectionMap):
    """Position of the stream to (folder, position in the folder's own epochs), by equation 1."""

    def __init__(self, weights: Sequence[float]):
        """Weights above 0, of any sum."""
        total = sum(weights)
        shares = [max(1, round(SHARES * weight / total)) for weight in weights]
        self._sums = [sum(shares[: k + 1]) for k in range(len(shares))]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> tuple[int, int]:
        place = index
        for folder in range(len(self._sums) - 1, 0, -1):
            earlier, all_of_them = self._sums[folder - 1], self._sums[folder]
            before = place * earlier // all_of_them
            if (place + 1) * earlier // all_of_them == before:
                return folder, place - before
            place = before
        return 0, place


def endless(counts: Sequence[int], weights: Sequence[float], seed: int) -> Any:
    """The stream of indices of clips.

    Args:
        counts: clips of each folder; the indices of a folder follow those of the folders before it.
        weights: of each folder; those of one are 1, whatever is said.
        seed: decides the shuffles; the first folder's are those that it has alone.

    Returns:
        A `grain.MapDataset` of integers, without end.
    """
    orders, first = [], 0
    for folder, count in enumerate(counts):
        own = seed if not folder else int(np.random.SeedSequence((seed, folder)).generate_state(1)[0])
        orders.append(grain.MapDataset.range(first, first + count).seed(own).shuffle().repeat())
        first += count
    return orders[0] if len(orders) == 1 else grain.MapDataset.select_from_datasets(orders, Turns(weights))


class Partners:
    """Clips of other people: for a clip, any one with another label of identity. Where one of the two has none, any one
    of another recording (a clip that names none is a recording of its own)."""

    def __init__(self, source: Shards, weights: Sequence[float]):
        """
        Args:
            source: the clips.
            weights: of its folders.

        Raises:
            UserError: where a clip has nobody to be paired with, naming it.
        """
        self._known, self._identity, self._source = source.people()
        self._counts = np.asarray(source.parts)
        self._first = np.cumsum(self._counts) - self._counts
        self._weights = np.asarray(weights) / np.sum(weights)
        alone = np.flatnonzero(self._excluded() == len(source))
        if alone.size:
            raise UserError(
                f"{source.where(int(alone[0]))} has nobody to be paired with: all clips show one person, or are of one "
                "recording; add clips of others, or leave other_frames_per_sample at 0"
            )

    def _excluded(self) -> np.ndarray:
        """How many clips each one may not be paired with, itself included."""
        known, identity, source = self._known, self._identity, self._source
        recordings = np.bincount(source)
        nameless = np.bincount(source[~known], minlength=len(recordings))
        _, person, people = np.unique(identity[known], return_inverse=True, return_counts=True)
        excluded = recordings[source]
        excluded[known] = people[person] + nameless[source[known]]
        return excluded

    def may(self, one: int, other: int) -> bool:
        """Whether two clips may be a pair."""
        if self._known[one] and self._known[other]:
            return bool(self._identity[one] != self._identity[other])
        return bool(self._source[one] != self._source[other])

    def draw(self, one: int, rng: np.random.Generator) -> int:
        """A partner of a clip: a folder by its weight and any clip in it, until one may be a pair. So with one folder
        all partners are equally likely."""
        while True:
            folder = int(rng.choice(len(self._weights), p=self._weights)) if len(self._weights) > 1 else 0
            other = int(self._first[folder] + rng.integers(self._counts[folder]))
            if self.may(one, other):
                return other
