import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from tests.training.toy import ROWS, advance, both, forward, init_both
from vasa_jax.checkpoint import flatten, unflatten
from vasa_jax.training import sharding
from vasa_jax.training.optimiser import make_optimiser
from vasa_jax.training.parallel import STRATEGIES, make_strategy
from vasa_jax.training.players import Frozen, all_losses
from vasa_jax.training.state import create
from vasa_jax.training.step import make_train_step, recomputed, sample_keys

PLAYERS = both(every=2, start=3)


def state_of(optimisers, dtype):
    params, constants, mutable = jax.tree.map(lambda x: x.astype(dtype), init_both(jax.random.key(0)))
    return create(params, constants, mutable, PLAYERS, optimisers)


def scaled(helpers, batch, keys):
    """The batch through a frozen helper."""
    return batch | {"x": batch["x"] * helpers["scale"]}


def make_run(name, steps=10, dtype=jnp.float64, accumulate=1, fsdp=0, remat=False):
    """The strategy, its first state, and a function that does step number i: (state, i) to (state, metrics)."""
    strategy = make_strategy(name, 16, fsdp, accumulate)
    optimisers = {player.name: make_optimiser(player.optimiser, player.turns(steps)) for player in PLAYERS}
    make = functools.partial(state_of, optimisers, dtype)
    ways = {"view": scaled, "advance": advance}
    step = make_train_step(forward, PLAYERS, optimisers, 0.9, strategy.axis_name, accumulate, remat, **ways)
    step = strategy.compile(step, jax.eval_shape(make))
    key = strategy.place(jax.device_get(jax.random.key_data(jax.random.key(5))))
    helpers = strategy.place({"scale": np.full((1, 3), 0.5, dtype)})

    def do(state, i):
        rows = np.resize(ROWS.astype(dtype), (16, 3)) * np.cos(i).astype(dtype)
        index = np.arange(16 * i, 16 * i + 16, dtype=np.uint32)
        return step(state, strategy.place_batch({"x": rows, "y": rows[:, :2], "index": index}), key, helpers)

    return strategy, strategy.create(make), do


def run(name, steps, **options):
    strategy, state, do = make_run(name, steps, **options)
    losses = []
    for i in range(steps):
        state, metrics = do(state, i)
        found = strategy.collect(metrics)
        losses.append([float(found[name].total) for name in ("loss", "critic/loss")])
    return jax.device_get(strategy.stored(state)), losses


@pytest.fixture(scope="module")
def reference():
    with jax.enable_x64(True):
        return run("jit", 10)


OTHERS = [
    {"name": "pmap"},
    {"name": "sharded"},
    {"name": "sharded", "fsdp": 2},
    *({"name": name, "accumulate": 2, "remat": True} for name in STRATEGIES),
]


@pytest.mark.parametrize("how", OTHERS, ids=lambda how: "-".join(map(str, how.values())))
def test_ten_steps_of_every_strategy_agree_in_float64(reference, how, monkeypatch):
    assert jax.device_count() == 8
    monkeypatch.setattr(sharding, "SMALL", 1)
    (a, losses_a), how = reference, dict(how)
    with jax.enable_x64(True):
        b, losses_b = run(how.pop("name"), 10, **how)
    assert b.params["dense"]["kernel"].dtype == np.float64
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-9), a, b)
    np.testing.assert_allclose(losses_a, losses_b, rtol=1e-12)


def test_a_player_learns_in_its_turns_alone_and_is_not_averaged():
    """The critic's turns are the steps after 3, 5, ...; the generator's are all."""
    _, state, do = make_run("jit", dtype=jnp.float32)
    moved, counts = [], []
    for i in range(8):
        before = jax.device_get(state)
        state, metrics = do(state, i)
        after = jax.device_get(state)
        moved.append(bool((before.params["critic"]["kernel"] != after.params["critic"]["kernel"]).any()))
        counts.append(float(metrics["critic/loss"].count))
        assert (before.params["dense"]["kernel"] != after.params["dense"]["kernel"]).any()
        scale = 0.5 * (before.mutable["scale"] + np.abs(before.params["critic"]["kernel"]).max())
        np.testing.assert_allclose(after.mutable["scale"], scale, rtol=1e-6)
    assert moved == [False, False, False, True, False, True, False, True]
    assert counts == [float(m) for m in moved]
    assert state.ema.keys() == {"dense"} and state.opt.keys() == {"toy", "critic"}
    assert (
        int(optax.tree.get(state.opt["critic"], "count", filtering=lambda path, _: "ScaleByAdam" in str(path[-1]))) == 3
    )


def test_each_player_has_the_gradient_of_its_own_loss_alone():
    """As computed one loss at a time, with all that belongs to others held fixed."""
    params, constants, mutable = init_both(jax.random.key(0))
    batch = {"x": jnp.asarray(ROWS[:4]), "y": jnp.asarray(ROWS[:4, :2])}
    keys = jax.random.split(jax.random.key(1), 4)
    frozen = Frozen(constants, mutable, {}, jnp.int32(0))
    players = both()

    def total(params):
        return all_losses(players, params, frozen, forward(params, frozen, batch, keys))[0]

    found = jax.grad(total)(params)
    views = forward(params, frozen, batch, keys)

    def generator(dense):
        own = params | {"dense": dense}
        return players[0].loss(own, frozen, forward(own, frozen, batch, keys))[0]

    def critic(kernel):
        return players[1].loss(params | {"critic": {"kernel": kernel}}, frozen, views)[0]

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found["dense"], jax.grad(generator)(params["dense"])
    )
    np.testing.assert_allclose(found["critic"]["kernel"], jax.grad(critic)(params["critic"]["kernel"]), rtol=1e-5)


@pytest.fixture
def compiled():
    """Grows by one with every program that is compiled."""
    programs = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            programs.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield programs
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_step_is_compiled_once_for_fresh_and_for_restored_states(name, compiled):
    strategy, state, do = make_run(name, dtype=jnp.float32)
    state, _ = do(state, 0)
    assert compiled
    copy = jax.device_get(strategy.stored(state))
    shapes = strategy.target(jax.eval_shape(lambda: copy))
    restored = strategy.adopt(jax.tree.map(lambda x, to: jax.device_put(x, to.sharding), copy, shapes))
    compiled.clear()
    for i in (1, 2):
        state, _ = do(state, i)
        restored, _ = do(restored, i)
    assert not compiled


def test_kernels_are_split_by_their_outputs_else_their_inputs_and_all_else_is_whole():
    mesh = jax.make_mesh((2, 4), ("data", sharding.AXIS), axis_types=(AxisType.Auto,) * 2)
    shapes = {
        "wide/kernel": (1024, 128),
        "stack/kernel": (64, 128, 4),
        "odd/kernel": (8, 1024, 5),
        "small/kernel": (4, 4),
        "prime/kernel": (64, 67, 3),
        "many/bias": (64, 128),
    }
    state = unflatten({name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()})
    placed = sharding.shard({"params": state, "constants": state}, mesh)
    specs = {name: tuple(place.spec) for name, place in flatten(placed["params"]).items()}
    assert specs == {
        "wide/kernel": (None, "fsdp"),
        "stack/kernel": (None, None, "fsdp"),
        "odd/kernel": (None, "fsdp", None),
        "small/kernel": (),
        "prime/kernel": (),
        "many/bias": (),
    }
    assert all(tuple(place.spec) == () for place in jax.tree.leaves(placed["constants"]))
    whole = sum(4 * int(np.prod(shape)) for shape in shapes.values())
    split = sum(4 * int(np.prod(shapes[name])) for name in ("wide/kernel", "stack/kernel", "odd/kernel"))
    assert sharding.bytes_per_device(state, placed["params"]) == whole - split * 3 // 4


def test_a_sharded_state_is_born_in_parts(monkeypatch):
    monkeypatch.setattr(sharding, "SMALL", 1)
    strategy = make_strategy("sharded", 8)
    made = strategy.create(lambda: {"params": {"kernel": jnp.ones((16, 3))}})["params"]["kernel"]
    assert {shard.data.shape for shard in made.addressable_shards} == {(2, 3)}


def test_keys_depend_on_run_step_and_position_only():
    key = jax.random.key_data(jax.random.key(1))
    whole = jax.random.key_data(sample_keys(key, jnp.int32(3), jnp.arange(8, dtype=jnp.uint32)))
    part = jax.random.key_data(sample_keys(key, jnp.int32(3), jnp.arange(4, 8, dtype=jnp.uint32)))
    np.testing.assert_array_equal(whole[4:], part)
    later = jax.random.key_data(sample_keys(key, jnp.int32(4), jnp.arange(8, dtype=jnp.uint32)))
    assert len(np.unique(np.concatenate([whole, later]), axis=0)) == 16


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="choose one of jit, pmap, sharded"):
        make_strategy("magic", 8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("jit", 12), "batch_size=12 does not divide over 8 devices; make it a multiple of 8"),
        (("jit", 24, 0, 2), "8 devices times accumulate=2; make it a multiple of 16"),
        (("sharded", 8, 3), "fsdp=3 does not divide 8 devices"),
    ],
)
def test_what_the_devices_cannot_share_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_strategy(*arguments)


def test_recomputing_keeps_the_products_alone_and_gives_the_same_gradients():
    """Ten layers of one product and three cheap functions; what a gradient keeps are the leaves of its pullback."""
    x, kernel = jnp.ones((256, 64)), jax.random.normal(jax.random.key(0), (64, 64)) / 8

    def deep(params, x):
        y = x
        for _ in range(10):
            y = jnp.sin(jnp.tanh(jnp.cos(y @ params)))
        return y.mean()

    gradients, kept = [], []
    for loss_ in (deep, recomputed(deep)):
        _, pull = jax.vjp(lambda params, loss_=loss_: loss_(params, x), kernel)
        kept.append(sum(leaf.nbytes for leaf in jax.tree.leaves(pull)))
        gradients.append(pull(jnp.ones(())))
    np.testing.assert_allclose(*gradients, atol=1e-6)
    assert kept[1] <= 12 * x.nbytes < 30 * x.nbytes <= kept[0]
