import numpy as np

from vasa_jax.data.pipeline import make_dataset


def read(row, rng):
    return {"row": np.int64(row), "draw": np.float64(rng.random())}


def take(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def make(seed=3, threads=2):
    return make_dataset(list(range(10)), read, 4, seed, threads)


def test_the_order_is_a_function_of_the_seed_whatever_the_threads():
    a, b = take(iter(make(threads=1)), 6), take(iter(make(threads=4)), 6)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert (take(iter(make(seed=4)), 6)["row"] != a["row"]).any()


def test_every_epoch_is_another_permutation_and_positions_count():
    stream = take(iter(make()), 5)
    epochs = stream["row"].reshape(2, 10)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(10), (2, 1)))
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(stream["index"], np.arange(20))
    assert len(np.unique(stream["draw"])) == 20


def test_a_saved_position_resumes_exactly():
    iterator = iter(make())
    take(iterator, 3)
    state = iterator.get_state()
    rest = take(iterator, 3)
    again = iter(make())
    again.set_state(state)
    for name, value in take(again, 3).items():
        np.testing.assert_array_equal(value, rest[name])
