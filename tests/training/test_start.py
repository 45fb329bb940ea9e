import dataclasses

import jax
import numpy as np
import pytest

from tests.training.tiny import STAGE_1, STAGE_2
from tests.training.toy import EXPERIMENT, ToyExperiment, make_toy
from vasa_jax.checkpoint import flatten, save_release
from vasa_jax.training.bundles import read_bundle
from vasa_jax.training.config import Experiment
from vasa_jax.training.loop import train
from vasa_jax.training.start import Start, initial, read_source, take_parameters, with_stage_1
from vasa_jax.training.tasks import make_task

STATISTICS = jax.eval_shape(make_task(STAGE_2).init, jax.random.key(0))[1]


def stop_after(steps):
    return lambda done: "asked" if done >= steps else ""


def run(folder, start=Start(), stop=lambda step: "", **fields):  # noqa: B008
    return train(dataclasses.replace(EXPERIMENT, **fields), make_toy(), folder, start, stop=stop, progress=False)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A run of four steps with bundles at 2 and 4."""
    folder = tmp_path_factory.mktemp("other")
    return folder, run(folder)


def test_resume_goes_on_with_another_run_in_a_new_workdir(tmp_path, other):
    run(tmp_path / "half", stop=stop_after(2))
    whole = run(tmp_path / "new", Start(resume=str(tmp_path / "half")))
    assert whole.digest == other[1].digest and read_bundle(tmp_path / "half")[0] == 2
    again = run(tmp_path / "again", Start(resume=str(other[0] / "checkpoints" / "2")))
    assert again.digest == other[1].digest
    with pytest.raises(ValueError, match="seed 0 -> 1"):
        run(tmp_path / "seed", Start(resume=str(other[0])), seed=1)
    for bad in (other[0] / "checkpoints" / "3", tmp_path / "nothing"):
        with pytest.raises(ValueError, match=r"holds no complete checkpoint"):
            run(tmp_path / "bad", Start(resume=str(bad)))


def test_a_source_that_is_not_there_is_refused_before_data_is_made(tmp_path):
    def prepare(workdir):
        raise AssertionError("data is made for nothing")

    task = dataclasses.replace(make_toy(), prepare=prepare)
    for start, match in (
        (Start(resume="nothing"), "resume='nothing' holds no complete checkpoint"),
        (Start(init_from="nothing"), "'nothing' is not a release folder"),
    ):
        with pytest.raises(ValueError, match=match):
            train(EXPERIMENT, task, tmp_path, start, progress=False)


def test_init_from_takes_the_averages_and_nothing_else(tmp_path, other):
    run(tmp_path, Start(init_from=str(other[0])), stop=stop_after(1), seed=3)
    step, _, state = read_bundle(tmp_path)
    average = flatten(read_bundle(other[0])[2]["ema"])
    drift = np.abs(state["params"]["dense"]["kernel"] - average["dense/kernel"]).max()
    assert step == 1 and drift <= 0.01  # one AdamW step at rate 0.01, half warm
    (optimiser,) = state["opt"].values()
    assert optimiser["1"]["0"]["count"] == 1 if isinstance(optimiser, dict) else optimiser[1][0]["count"] == 1


def test_a_workdirs_own_checkpoint_comes_first(tmp_path, other):
    run(tmp_path, stop=stop_after(2))
    result = run(tmp_path, Start(init_from=str(other[0])))
    assert result.digest == other[1].digest  # had it started anew from the averages, it would be another


def test_fresh_names_what_starts_from_scratch(tmp_path, other):
    run(tmp_path, Start(init_from=str(other[0]), fresh=("dense/bias",)), stop=stop_after(1))
    state = read_bundle(tmp_path)[2]
    assert np.abs(state["params"]["dense"]["bias"]).max() <= 0.01
    with pytest.raises(ValueError, match="fresh='nothing' matches no parameter; names look like 'dense/bias'"):
        run(tmp_path / "b", Start(init_from=str(other[0]), fresh=("nothing",)))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"resume": "a", "init_from": "b"}, "choose one of them"),
        ({"fresh": ("a",)}, "means nothing without init_from"),
        ({"refit_statistics": True}, "means nothing without init_from"),
        ({"init_from": "a", "fresh": ("(",)}, "no regular expression"),
    ],
)
def test_nonsense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Start(**fields)


def shapes_of(experiment):
    task = make_task(experiment)
    params, *_ = jax.eval_shape(task.init, jax.random.key(0))
    return params, task.blocks(params)


def arrays(shapes):
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)


def test_a_smaller_picture_starts_a_larger_one(tmp_path):
    """256 into 512, at an eighth of the size: the volume keeps its side, and every parameter its shape."""
    small, _ = shapes_of(STAGE_1)
    save_release(tmp_path, "vasa", {}, {"autoencoder": arrays(small["autoencoder"])}, "float32", "")
    model = dataclasses.replace(STAGE_1.model, image_size=64, volume_stride=8)
    larger = dataclasses.replace(STAGE_1, model=model)
    params, released = shapes_of(larger)
    taken = take_parameters(read_source(str(tmp_path), larger).parameters, params, released, (), "small")
    assert taken.keys() == flatten(params).keys()


def test_a_network_of_other_widths_is_filled_but_for_what_is_named(tmp_path):
    small, _ = shapes_of(STAGE_1)
    save_release(tmp_path, "vasa", {}, {"autoencoder": arrays(small["autoencoder"])}, "float32", "")
    wide = dataclasses.replace(STAGE_1, model=dataclasses.replace(STAGE_1.model, decoder_widths=(4, 4, 8)))
    params, released = shapes_of(wide)
    loaded = read_source(str(tmp_path), wide).parameters
    with pytest.raises(ValueError, match=r"does not fill this model: autoencoder/decoder/.*--fresh PATTERN"):
        take_parameters(loaded, params, released, (), str(tmp_path))
    taken = take_parameters(loaded, params, released, ("autoencoder/decoder/.*",), str(tmp_path))
    assert {name for name in flatten(params) if name not in taken} == {
        name for name in flatten(params) if name.startswith("autoencoder/decoder/")
    }


def test_a_release_of_both_stages_serves_each(tmp_path):
    one, _ = shapes_of(STAGE_1)
    two, _ = shapes_of(STAGE_2)
    save_release(
        tmp_path, "vasa", {}, {"autoencoder": arrays(one["autoencoder"]), "motion": arrays(two)}, "float32", ""
    )
    assert read_source(str(tmp_path), STAGE_1).parameters.keys() == flatten(one).keys()
    assert read_source(str(tmp_path), STAGE_2).parameters.keys() == flatten(two).keys()
    started = with_stage_1(STAGE_2, Start(init_from=str(tmp_path)))
    assert started.autoencoder == str(tmp_path)
    assert with_stage_1(STAGE_1, Start(init_from=str(tmp_path))) == STAGE_1
    named = dataclasses.replace(STAGE_2, autoencoder="mine")
    assert with_stage_1(named, Start(init_from=str(tmp_path))).autoencoder == "mine"


def test_refitting_needs_statistics_to_be_taken(tmp_path):
    one, released = shapes_of(STAGE_1)
    save_release(tmp_path, "vasa", {}, {"autoencoder": arrays(one["autoencoder"])}, "float32", "")
    start = Start(init_from=str(tmp_path), refit_statistics=True)
    with pytest.raises(ValueError, match="refit_statistics means nothing here"):
        initial(start, STAGE_1, one, released, {})
    two, _ = shapes_of(STAGE_2)
    with pytest.raises(ValueError, match="refit_statistics means nothing here"):
        initial(start, with_stage_1(STAGE_2, start), two, two, STATISTICS)
    assert initial(Start(init_from=str(tmp_path)), with_stage_1(STAGE_2, start), two, two, STATISTICS) == ({}, None)


def test_motion_without_its_statistics_is_refused(tmp_path):
    two, _ = shapes_of(STAGE_2)
    save_release(tmp_path, "vasa", {}, {"motion": arrays(two)}, "float32", "")
    with pytest.raises(ValueError, match="has statistics pose_mean missing.*--refit-statistics"):
        initial(Start(init_from=str(tmp_path)), STAGE_2, two, two, STATISTICS)


def test_a_shape_that_differs_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a/kernel is \(2,\) there and \(3,\) here"):
        shapes = {"a": {"kernel": jax.ShapeDtypeStruct((3,), np.float32)}}
        take_parameters({"a/kernel": np.ones(2)}, shapes, shapes, (), "x")


def test_the_checkpoint_of_another_kind_of_run_is_refused(tmp_path, other):
    fields = {field.name: getattr(EXPERIMENT, field.name) for field in dataclasses.fields(Experiment)}
    run_ = ToyExperiment(**fields)
    train(run_, make_toy(), tmp_path, stop=stop_after(1), progress=False)
    with pytest.raises(ValueError, match="of another kind of run: .*has no field 'model'"):
        run(tmp_path)
