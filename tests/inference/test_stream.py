import pickle

import jax
import numpy as np
import pytest

from tests.inference.test_pair import liveportrait_vasa, public
from tests.inference.tiny import MOTION
from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.inference.controls import between, make_controls
from vasa_jax.inference.offline import Model
from vasa_jax.inference.public import PublicFace, PublicPortrait
from vasa_jax.inference.stream import Chunk, Sitting, Stream, pull_together
from vasa_jax.liveportrait.animation import Source
from vasa_jax.liveportrait.keypoints import HeadMotion
from vasa_jax.provenance import watermark
from vasa_jax.provenance.badge import badged
from vasa_jax.provenance.watermark import marking

FACE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
SOUND = np.random.default_rng(1).uniform(-0.3, 0.3, 640 * 20 + 1).astype(np.float32)
QUICK = {"box": Box(24, 20, 40), "steps": 2, "hop": 2, "look_ahead": 1}
MARK = 0xC0FFEE42
ROUNDING = 2
"""Levels by which marked frames differ that another program drew: one before the mark, one after it."""
GAZES = {"gaze": [(0.0, 0.0)] * 5 + [(10.0, 0.0)] * 4 + [(20.0, -5.0)]}


def pieces(sound: np.ndarray, seed: int) -> list[np.ndarray]:
    """The sound in pieces of any size, empty ones among them."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(sound), 30))
    return np.split(sound, cuts)


def streamed(stream: Stream, parts: list[np.ndarray]) -> list[Chunk]:
    chunks = []

    def pull():
        while (chunk := stream.pull()) is not None:
            chunks.append(chunk)

    for part in parts:
        stream.push(part)
        pull()
    stream.end()
    pull()
    return chunks


def motion_of(chunks):
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *(chunk.motion for chunk in chunks))


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.users_compiler
@pytest.mark.parametrize(
    "hop, look_ahead", [(2, 3), *(pytest.param(*numbers, marks=pytest.mark.long) for numbers in ((1, 0), (5, 0)))]
)
def test_motion_is_that_of_the_offline_driver_however_sound_comes(model, hop, look_ahead):
    wishes = QUICK | GAZES | {"sampler": "dpm++", "hop": hop, "look_ahead": look_ahead, "seed": 3}
    kept = []
    offline = np.stack(list(marking(model.perform(FACE, SOUND, kept, **wishes).frames, MARK)))
    for seed in (0, 1):
        chunks = streamed(Stream(model, FACE, mark=MARK, **wishes), pieces(SOUND, seed))
        same(motion_of(chunks), jax.tree.map(lambda *leaves: np.concatenate(leaves), *kept))
        frames = np.concatenate([chunk.frames for chunk in chunks])
        assert frames.shape == offline.shape and np.abs(frames.astype(int) - offline).max() <= ROUNDING
        assert [chunk.first for chunk in chunks] == list(range(0, 21, hop))
        sound = np.concatenate([chunk.sound for chunk in chunks])
        assert len(sound) == 21 * 640 and not any(chunk.lacking.any() for chunk in chunks)
        np.testing.assert_array_equal(sound, np.pad(SOUND, (0, 639)))


@pytest.mark.parametrize("pair", [pytest.param(public, marks=pytest.mark.long), liveportrait_vasa])
def test_the_other_pairs_stream_alike(pair, monkeypatch):
    """With the motion and the fitting of LivePortrait, but without its drawing, which takes seconds a frame here."""
    model, side = pair(), pair().face.sees
    source = Source(np.zeros((21, 3), np.float32), HeadMotion(*_still(model)), np.zeros(2, np.float32), np.zeros(1))
    monkeypatch.setattr(Model, "portrait", lambda self, picture, face=None: PublicPortrait(None, source))
    drawn = []

    def render(self, portrait, motion):
        drawn.append(np.asarray(motion))
        return np.zeros((len(motion), side, side, 3), np.uint8), np.ones(len(motion), bool)

    monkeypatch.setattr(PublicFace, "render", render)
    picture, sound = np.zeros((side, side, 3), np.uint8), SOUND[: 640 * 5 - 100]
    wishes = {"hop": 2, "look_ahead": 3, "seed": 1, "steps": max(2, model.motion.steps[0])}
    kept, box = [], Box(side / 2, side / 2, side)
    assert len(list(model.perform(picture, sound, kept, box=box, square=True, **wishes).frames)) == 5
    expected, offline = jax.tree.map(lambda *leaves: np.concatenate(leaves), *kept), np.concatenate(drawn)[:5]
    stream = Stream(model, picture, box=box, square=True, **wishes)
    drawn.clear()
    chunks = streamed(stream, pieces(sound, 0))
    same(motion_of(chunks), expected)
    np.testing.assert_allclose(np.concatenate(drawn)[:5], offline, atol=1e-6)
    assert chunks[-1].frames.shape == (1, side, side, 3)


def _still(model: Model):
    """A head that rests."""
    expression, scale, translation = model.pair.shapes[1:]
    return np.eye(3, dtype=np.float32), np.zeros(expression, np.float32), np.ones(scale), np.zeros(translation)


def test_frames_come_as_soon_as_their_sound_is_there(model):
    stream, needs = Stream(model, FACE, **QUICK), model.motion.needs
    stream.push(SOUND[: 640 * 3 + needs.ahead - 1])
    assert not stream.ready and stream.pull() is None
    stream.push(SOUND[:1])
    assert stream.ready and len(stream.pull().frames) == 2
    assert stream.pull() is None and stream.frame == 2 and stream.waiting == 640 + needs.ahead


def test_a_stored_state_goes_on_alike(model):
    stream = Stream(model, FACE, **QUICK)
    stream.push(SOUND[:5000])
    stream.change(gaze="left", amplitude=0.5)
    stream.pull(), stream.pull(now=True)
    stored = pickle.dumps(stream.state)
    assert len(stored) < 40_000
    other = Stream(model, FACE, **QUICK | {"seed": 9})
    other.restore(pickle.loads(stored))
    rest = [SOUND[5000:]]
    for one, two in zip(streamed(stream, rest), streamed(other, rest), strict=True):
        same(one, two)
    with pytest.raises(UserError, match="the state is another model's"):
        other.restore(stream.state._replace(carry=()))


def drawn(stream, count, **how):
    return [stream.pull(now=True, **how) for _ in range(count)]


def test_a_change_is_eased_from_the_next_hop_on(model):
    stream = Stream(model, FACE, **QUICK)
    drawn(stream, 1)
    stream.change(ease=240.0, distance=2.0, zoom=2.0)
    rows = []
    for _ in range(4):
        controls, adjustments = stream._asked(2)
        rows += zip(controls.distance[:, 0], adjustments[:, -1], strict=True)
        drawn(stream, 1)
    distance, zoom = (np.array(values) for values in zip(*rows, strict=True))
    share = np.array([1, 2, 3, 4, 5, 6, 6, 6]) / 6
    share = share * share * (3 - 2 * share)
    np.testing.assert_allclose(distance, np.log(2) * share, atol=1e-6)
    np.testing.assert_allclose(zoom, 1 + share, atol=1e-6)


def test_a_change_keeps_what_it_does_not_name_and_begins_where_the_last_one_is(model):
    stream = Stream(model, FACE, **QUICK | GAZES | {"mouth": 0.5})
    drawn(stream, 1)
    stream.change(ease=0.0, emotion="happy")
    controls, adjustments = stream._asked(8)
    np.testing.assert_allclose(np.degrees(controls.gaze[:, 0]), [0, 0, 0, 10, 10, 10, 10, 20], atol=1e-4)
    assert controls.emotion_known.all() and adjustments[0, 2] == 0.5
    stream.change(ease=400.0, gaze="right")
    drawn(stream, 1)
    halfway = stream._at(stream.frame - 1)[0].gaze
    stream.change(ease=400.0, gaze="left")
    np.testing.assert_array_equal(stream._course.before[0].gaze, halfway)


def test_emotions_come_and_go_through_neutral():
    nothing, happy = make_controls(), make_controls(emotion="happy")
    half = between(nothing, happy, 0.5)
    assert half.emotion_known.all()
    np.testing.assert_allclose(half.emotion[0, [4, 5]], [0.5, 0.5])
    assert not between(happy, nothing, 1.0).emotion_known.any()
    assert not between(nothing, nothing, 0.5).emotion.any()


def test_silence_stands_for_sound_that_does_not_come_and_speech_that_sets_in_stays_whole(model):
    stream = Stream(model, FACE, **QUICK)
    stream.push(SOUND[:700])
    torn, waiting = drawn(stream, 2)
    np.testing.assert_array_equal(torn.sound, np.pad(SOUND[:700], (0, 580)))
    assert torn.lacking.tolist() == [False, False] and waiting.lacking.all() and not waiting.sound.any()
    stream.push(SOUND[700:1000])
    (before,) = drawn(stream, 1)
    np.testing.assert_array_equal(before.sound, np.pad(SOUND[700:1000], (980, 0)))
    assert before.lacking.tolist() == [True, False] and stream.waiting == 0
    stream.push(SOUND[1000:5000])
    after = stream.pull()
    np.testing.assert_array_equal(after.sound, SOUND[1000:2280])
    assert after.first == 6 and not after.lacking.any() and stream._mouth == 1.0


def test_a_late_look_ahead_tears_nothing(model):
    stream = Stream(model, FACE, **QUICK)
    stream.push(SOUND[:1500])
    (chunk,) = drawn(stream, 1)
    assert not chunk.lacking.any() and stream.waiting == 220
    stream.push(SOUND[1500:4000])
    np.testing.assert_array_equal(stream.pull().sound, SOUND[1280:2560])


def test_an_interrupt_drops_what_waits_and_keeps_the_pose(model):
    stream, other = (Stream(model, FACE, mark=MARK, **QUICK) for _ in range(2))
    for one in (stream, other):
        one.push(SOUND[:1280])
    drawn(stream, 1), drawn(other, 1)
    stream.push(SOUND[1280:9000])
    stream.interrupt()
    assert stream.waiting == 0 and stream.pull() is None
    same(drawn(stream, 1)[0], drawn(other, 1)[0])  # as if it had never been pushed
    stream.push(SOUND[:3000])
    np.testing.assert_array_equal(stream.pull().sound, SOUND[:1280])


BAD = {
    "NaN": (np.array([0.0, np.nan], np.float32), "holds NaN"),
    "scale": (np.full(3, 3000.0, np.float32), "divide by 32768"),
    "shape": (np.zeros((3, 2), np.float32), r"push mono samples \(n,\)"),
    "type": (np.zeros(3, np.int32), "float or int16"),
}


@pytest.mark.parametrize("name", BAD)
def test_sound_that_is_none(model, name):
    stream = Stream(model, FACE, **QUICK)
    with pytest.raises(UserError, match=BAD[name][1]):
        stream.push(BAD[name][0])
    assert stream.waiting == 0


def test_integers_are_sound_and_nothing_follows_the_end(model):
    stream = Stream(model, FACE, **QUICK)
    stream.push(np.array([-(2**15), 2**14], np.int16))
    stream.end()
    np.testing.assert_array_equal(stream.pull().sound[:2], [-1, 0.5])
    assert stream.pull() is None and stream.pull(now=True) is None
    with pytest.raises(UserError, match="the sound has ended"):
        stream.push(SOUND)


@pytest.mark.parametrize(
    "wishes, said",
    [
        ({"hop": 9}, "hop 9 is out of range"),
        ({"hop": 2, "look_ahead": 7}, "look_ahead 7 is out of range; with hop 2 this model hears 0 to 6 frames"),
        ({"fit": 3}, "fit cannot be done in a stream"),
        ({"square": False}, "always draw the square"),
    ],
)
def test_wishes_that_cannot_be(model, wishes, said):
    assert MOTION.window == 8
    with pytest.raises(UserError, match=said):
        Stream(model, FACE, **QUICK | wishes)


def test_changes_that_cannot_be(model):
    stream = Stream(model, FACE, **QUICK)
    for wishes, said in (({"ease": -1.0}, "ease -1"), ({"gaze": "round"}, "unknown"), ({"hat": 1}, "have no hat")):
        with pytest.raises(UserError, match=said):
            stream.change(**wishes)
    with pytest.raises(UserError, match="mouth 5 is out of range"):
        stream.change(mouth=5.0)
    with pytest.raises(UserError, match=r"mouth \[1.0, 0.5\] is no track; give one value"):
        stream.change(mouth=[1.0, 0.5])


@pytest.mark.users_compiler
def test_streams_that_are_pulled_together_make_what_each_makes_alone(model):
    """Three of them, which a program for four makes: with other sound, portrait, seed, controls and course each."""
    pictures = [FACE, FACE[:, ::-1].copy(), 255 - FACE]
    sounds = [SOUND[1000 * i :][:4000] for i in range(3)]

    def begun(i: int) -> Stream:
        stream = Stream(model, pictures[i], mark=i, **QUICK | {"seed": i, "amplitude": 1.0 + 0.2 * i})
        if i != 1:
            stream.push(sounds[i])
        stream.change(gaze=(5.0 * i, 0.0))
        return stream

    together, alone = [begun(i) for i in range(3)], [begun(i) for i in range(3)]
    for _ in range(3):
        for one, stream in zip(pull_together(together, now=True), alone, strict=True):
            other = stream.pull(now=True)
            assert np.abs(one.frames.astype(int) - other.frames).max() <= ROUNDING
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one.motion, other.motion)
            np.testing.assert_array_equal(one.sound, other.sound)
            assert one.lacking.tolist() == other.lacking.tolist()
    together[1].end()
    assert [chunk is None for chunk in pull_together(together, now=True)] == [False, True, False]


def test_streams_that_differ_cannot_be_pulled_together(model):
    with pytest.raises(UserError, match="cannot be pulled together"):
        pull_together([Stream(model, FACE, **QUICK), Stream(model, FACE, **QUICK | {"hop": 1})])


def test_one_sitting_serves_many_streams(model, monkeypatch):
    sitting = Sitting(model, FACE, box=QUICK["box"])
    monkeypatch.setattr(Model, "portrait", lambda *arguments: pytest.fail("encoded again"))
    one, other = (Stream(model, sitting, mark=MARK, **QUICK) for _ in range(2))
    one.push(SOUND), other.push(SOUND)
    same(one.pull(), other.pull())


def test_frames_carry_the_streams_own_mark_with_a_notice_and_without(model):
    """At 256 pixels, where one frame is enough; a stream that is restored goes on with the mark of the one it was."""
    marks = set()
    for wishes in ({}, {"badge": True}):
        stream = Stream(model, FACE, **QUICK | {"size": 256} | wishes)
        chunk = stream.pull(now=True)
        found = watermark.detect(chunk.frames)
        assert found.mark == stream.mark == int(stream.tags.identity, 16)
        marks.add(stream.mark)
    assert len(marks) == 2
    other = Stream(model, FACE, **QUICK | {"size": 256})
    other.restore(stream.state)
    assert watermark.detect(other.pull(now=True).frames).mark == stream.mark


def test_a_notice_is_drawn_before_the_mark_and_counts_the_streams_frames(model):
    """Its words go after two seconds, offline as in a stream."""
    wishes = QUICK | {"badge": True, "hop": 2, "look_ahead": 1}
    sound = np.tile(SOUND, 3)[: 640 * 52]
    plain = list(model.animate(FACE, sound, **wishes | {"badge": False}))
    offline = list(model.animate(FACE, sound, **wishes))
    for i in (0, 49, 50, 51):
        np.testing.assert_array_equal(offline[i], badged(plain[i], i))
    stream = Stream(model, FACE, mark=MARK, **wishes)
    stream.push(sound)
    stream.end()
    frames = np.concatenate([chunk.frames for chunk in iter(stream.pull, None)])
    assert np.abs(frames.astype(int) - np.stack(list(marking(offline, MARK)))).max() <= ROUNDING


def test_speech_that_sets_in_keeps_some_sound_back(model):
    """Of 800 samples 300 are kept: the hop ends with 500 of them, and nothing between is lost or silent."""
    stream = Stream(model, FACE, **QUICK)
    drawn(stream, 1)
    stream.push(SOUND[:800])
    chunk = stream.pull(now=True, spare=300)
    np.testing.assert_array_equal(chunk.sound, np.pad(SOUND[:500], (780, 0)))
    assert chunk.lacking.tolist() == [True, False] and stream.waiting == 300
    stream.push(SOUND[800:1800])
    np.testing.assert_array_equal(stream.pull(now=True, spare=300).sound, SOUND[500:1780])
