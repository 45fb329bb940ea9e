"""What every pair of models keeps to, so that one driver, one server and one benchmark serve all of them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.inference.tiny import JOYVASA, head_motion_model, public_tensors
from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.faces.landmarks import Face
from vasa_jax.inference import offline
from vasa_jax.inference.liveportrait_vasa import LivePortraitVasaPair
from vasa_jax.inference.motion_file import check_motion, load_motion, save_motion
from vasa_jax.inference.offline import Model, windows
from vasa_jax.inference.pair import Adjustments, Options, Pair, check_known
from vasa_jax.inference.program import Program
from vasa_jax.inference.public import PublicFace, PublicMotion, PublicPair
from vasa_jax.liveportrait.driving import DrivingMotion
from vasa_jax.liveportrait.keypoints import HeadMotion


class Subject(NamedTuple):
    """A model, the picture that it is shown and the portrait of that."""

    model: Model
    picture: np.ndarray
    portrait: Any


@functools.cache
def liveportrait() -> PublicFace:
    """LivePortrait in its real size, with random weights."""
    return PublicFace(public_tensors())


@functools.cache
def public() -> Model:
    """LivePortrait beside a small motion generator."""
    return Model(PublicPair(liveportrait(), PublicMotion(public_tensors(), JOYVASA)))


@functools.cache
def liveportrait_vasa() -> Model:
    """LivePortrait beside a small motion transformer."""
    return Model(LivePortraitVasaPair(liveportrait(), head_motion_model()))


@pytest.fixture(scope="module", params=["vasa", "public", "liveportrait-vasa"])
def subject(request, model) -> Subject:
    chosen = {"vasa": lambda: model, "public": public, "liveportrait-vasa": liveportrait_vasa}[request.param]()
    picture = np.random.default_rng(0).integers(0, 256, (chosen.face.sees, chosen.face.sees, 3), np.uint8)
    return Subject(chosen, picture, chosen.portrait(picture))


SOUND = np.random.default_rng(1).uniform(-0.3, 0.3, 640 * 9 - 100).astype(np.float32)


def generate(model, hop=None, seed=0, sound=SOUND):
    """Motion of a sound, some frames at a time."""
    motion, needs = model.motion, model.motion.needs
    hop = hop or needs.window
    options = Options(max(2, model.motion.steps[0]))
    controls, carry, parts = motion.make_controls(), None, []
    frames = -(-len(sound) // 640)
    padded = np.pad(sound, (needs.lead, 640 * needs.window + needs.ahead))
    carry = motion.start(jax.random.key(seed), None, controls)
    for first in range(0, frames, hop):
        samples = jnp.asarray(padded[640 * first :][: needs.lead + 640 * needs.window + needs.ahead])
        carry, drawn = motion.step(carry, samples, needs.window, hop, controls, options)
        parts.append(jax.device_get(drawn))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:frames], *parts)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_it_is_a_pair(subject):
    assert isinstance(subject.model.pair, Pair)
    assert subject.model.pair.kind and subject.model.fps == 25


def test_the_same_seed_gives_the_same_motion_and_another_does_not(subject):
    one = generate(subject.model)
    same(one, generate(subject.model))
    other = generate(subject.model, seed=1)
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("hop", [1, 2, 5])
def test_any_hop_makes_as_many_frames(subject, hop):
    motion = generate(subject.model, hop)
    assert all(len(leaf) == 9 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(motion))
    check_motion(motion, subject.model.pair.shapes)


def test_sound_counts_and_what_is_not_heard_does_not(subject):
    model, needs = subject.model, subject.model.motion.needs
    controls, length = model.motion.make_controls(), needs.lead + 640 * needs.window + needs.ahead
    samples = np.random.default_rng(2).uniform(-0.5, 0.5, length).astype(np.float32)
    known = np.arange(length) < needs.lead + 640 * 3 + needs.ahead
    options = Options(max(2, model.motion.steps[0]))

    def step(sound, heard):
        carry = model.motion.start(jax.random.key(0), subject.portrait, controls)
        return jax.device_get(model.motion.step(carry, jnp.asarray(sound), heard, 2, controls, options)[1])

    late = np.where(known, samples, 0.0).astype(np.float32)
    one, two, other = step(samples, 3), step(late, 3), step(samples, needs.window)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert any(np.abs(a - b).max() > 1e-6 for a, b in zip(one, other, strict=True))


def test_hops_and_heard_frames_that_cannot_be(subject):
    motion, needs = subject.model.motion, subject.model.motion.needs
    carry, controls = motion.start(jax.random.key(0), None, ()), motion.make_controls()
    sound = jnp.zeros(needs.lead + 640 * needs.window + needs.ahead)
    for heard, hop in ((needs.window, 0), (needs.window, needs.window + 1), (1, 2), (needs.window + 1, 1)):
        with pytest.raises(UserError, match="out of range"):
            motion.step(carry, sound, heard, hop, controls, Options())


def test_windows_tile_a_sound_whatever_a_step_hears(subject):
    needs = subject.model.motion.needs
    counts = [count for _, count in windows([SOUND[:1000], SOUND[1000:]], needs)]
    assert sum(counts) == 9 and all(count == needs.window for count in counts[:-1])


def test_stretches_of_any_length_are_retargeted_alike(subject):
    model, motion = subject.model, generate(subject.model)

    def fitted(*lengths):
        state, at, parts = None, 0, []
        for length in lengths:
            stretch = jax.tree.map(lambda leaf, at=at, length=length: leaf[at : at + length], motion)
            state, placed = model.pair.retarget(
                subject.portrait, state, stretch, model.motion.make_controls(), Adjustments()
            )
            parts.append(jax.device_get(placed))
            at += length
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    window = min(9, model.motion.needs.window)
    for a, b in zip(jax.tree.leaves(fitted(9)), jax.tree.leaves(fitted(window, 9 - window)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", ["amplitude", "head", "mouth", "blink", "position", "zoom"])
def test_every_adjustment_changes_what_is_drawn(subject, name):
    model, motion = subject.model, generate(subject.model)
    changed = Adjustments(**{name: (0.1, 0.2) if name == "position" else 1.5})
    controls = model.motion.make_controls()
    drawn = [model.pair.retarget(subject.portrait, None, motion, controls, how)[1] for how in (Adjustments(), changed)]
    pairs = list(zip(*map(jax.tree.leaves, drawn), strict=True))
    assert all(np.isfinite(leaf).all() for leaves in pairs for leaf in leaves)
    assert any(np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-5 for a, b in pairs)


def test_what_a_pair_lacks_is_refused_by_name(subject):
    with pytest.raises(UserError, match=f"of kind {subject.model.pair.kind!r} have no hairstyle"):
        check_known(subject.model.pair, ["hairstyle"])
    for name, value in {"gaze": "left", "distance": 2.0, "emotion": "happy"}.items():
        if name in subject.model.motion.controls:
            subject.model.asked(**{name: value})
        else:
            with pytest.raises(UserError, match=f"have no {name}; leave it out"):
                subject.model.asked(**{name: value})
    if "gaze" not in subject.model.motion.guidance:
        with pytest.raises(UserError, match="no guidance_gaze; it has guidance_audio"):
            subject.model.asked(guidance_gaze=1.0)


def test_motion_files_know_their_kind(subject, tmp_path):
    pair, motion = subject.model.pair, generate(subject.model)
    save_motion(tmp_path / "m.npz", pair.kind, [motion])
    same(load_motion(tmp_path / "m.npz", pair.kind, pair.shapes), motion)
    save_motion(tmp_path / "m.npz", "puppet", [motion])
    with pytest.raises(UserError, match="of a model of kind 'puppet'"):
        load_motion(tmp_path / "m.npz", pair.kind, pair.shapes)


def test_motion_is_read_off_pictures_and_drawn(subject):
    model = subject.model
    pictures = jnp.asarray(subject.picture[None], jnp.float32) / 255
    seen = jax.device_get(model.face.motion(pictures))
    check_motion(seen, model.pair.shapes)
    frames = list(model.frames(subject.portrait, [seen]))
    assert len(frames) == 1 and frames[0].shape == (model.size, model.size, 3) and frames[0].dtype == np.uint8
    assert (frames[0] != frames[0][0, 0]).any()


def test_it_frames_a_face(subject):
    points = np.random.default_rng(0).uniform(100, 200, (478, 2))
    box = subject.model.pair.frame(Face(points, {}, np.eye(4)))
    assert 16 < box.side < 1000 and np.isfinite(box).all()


def test_public_frames_are_drawn_in_the_smallest_batch_that_was_prepared(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(Program, "prepare", lambda *_: None)
    monkeypatch.setattr(PublicFace, "_encoding", ((), None, None))
    face = PublicFace(public_tensors())

    def sizes(count):
        return [len(batch) for batch in face._batches(np.zeros((count, 1), np.float32))]

    assert (sizes(5), sizes(9)) == ([8], [8, 8])
    face.prepare(5)
    assert (sizes(1), sizes(5), sizes(6), sizes(9)) == ([5], [5], [8], [8, 5])


def test_the_public_pair_draws_into_the_whole_photo(monkeypatch):
    """One frame at the photo's own size, bit-equal outside of its box; and what it cannot do."""
    model, random = public(), np.random.default_rng(3)
    photo = random.integers(0, 256, (70, 91, 3), np.uint8)
    shown = Box(50.0, 40.0, 40.0, 10.0)
    performance = model.perform(photo, SOUND[:640], box=shown)
    (frame,) = performance.frames
    assert frame.shape == photo.shape and performance.count == 1 and not performance.alpha
    x, y = np.meshgrid(np.arange(91) + 0.5, np.arange(70) + 0.5)
    place = shown.seen(np.stack([x, y], -1).reshape(-1, 2), 1).reshape(70, 91, 2)
    outside = (np.abs(place - 0.5) > 0.5 + 1e-3).any(-1)
    np.testing.assert_array_equal(frame[outside], photo[outside])
    assert (frame != photo).any()
    boxes = []

    class Noted(Exception):
        pass

    def note(whole, box, size):
        boxes.append((whole.shape, box))
        raise Noted

    monkeypatch.setattr(offline, "Pasting", note)
    smaller = model.perform(photo, SOUND[:640], box=shown, size=45)
    assert (smaller.height, smaller.width) == (35, 45)
    with pytest.raises(Noted):
        next(smaller.frames)
    (shape, box), factor = boxes[0], 45 / 91
    assert shape == (35, 45, 3) and box == Box(50.0 * factor, 40.0 * factor, 40.0 * factor, 10.0)
    for wishes, message in (
        ({"gaze": "left"}, "have no gaze"),
        ({"fit": 3}, "have no fit"),
        ({"steps": 3}, "always samples in 4; leave steps out"),
        ({"sampler": "ddim"}, "no sampler 'ddim'; it has ancestral"),
        ({}, "frame it by hand with --box"),
        ({"parity": True, "box": shown}, "leave box out"),
    ):
        with pytest.raises(UserError, match=message):
            model.perform(photo, SOUND[:640], **({"box": shown} if "fit" in wishes else {}), **wishes)


def test_a_pair_without_originals_has_no_parity(model):
    with pytest.raises(UserError, match="of kind 'vasa' have no originals to be like; leave parity out"):
        model.perform(np.zeros((40, 40, 3), np.uint8), SOUND, parity=True)


def test_a_gaze_that_is_asked_for_throughout_is_seen_with_liveportrait():
    """Motion departs from the training set's mean: what all frames share does not cancel."""
    pair = liveportrait_vasa().pair
    portrait = liveportrait_vasa().portrait(np.full((512, 512, 3), 99, np.uint8))
    mean = jax.tree.map(lambda part: np.repeat(np.asarray(part), 3, 0), pair.motion.mean())
    moved = mean._replace(expression=mean.expression + np.float32(0.01))
    drawn = [np.asarray(pair.retarget(portrait, None, m, None, Adjustments())[1]) for m in (mean, moved)]
    assert np.abs(drawn[0] - drawn[1]).min(0).max() > 1e-3
    driver = DrivingMotion(HeadMotion(*(part * 1 for part in moved)), 25.0, None, None)
    followed = pair.follow(driver, False)
    np.testing.assert_allclose(followed.expression, mean.expression, atol=1e-5)
