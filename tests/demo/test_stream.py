"""What the demo model does where sound stops, as a stream shows it."""

import jax
import numpy as np
import pytest

import vasa_jax
from tests.demo.performance import demo, golden
from vasa_jax.arrays import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.autoencoder.config import LABEL_MEAN, LABEL_UNIT
from vasa_jax.inference.stream import Stream
from vasa_jax.inference.vasa import FaceModel
from vasa_jax.media.audio import load_audio
from vasa_jax.media.live import read_sound
from vasa_jax.provenance.watermark import marking

SPEECH = (
    *("chinese_news", "english_20s", "english_60s", "english_radio_1", "english_radio_2", "french", "japanese"),
    "song_japanese",
)
"""Real recordings."""


@pytest.mark.long
def test_the_mouth_closes_within_200_ms_and_the_head_goes_on(assets, monkeypatch):
    """Speech stops within a hop; from the fifth frame behind its last sample on the mouth that is drawn is shut."""
    drawn, sound = [], load_audio(assets / "speech" / "english_20s.wav")
    render = FaceModel.render

    def watched(self, portrait, motion):
        drawn.append(motion)
        return render(self, portrait, motion)

    model = vasa_jax.load("demo")
    stream = Stream(model, np.full((64, 64, 3), 128, np.uint8), box=None)
    monkeypatch.setattr(FaceModel, "render", watched)
    last = 41 * 640 - 300
    stream.push(sound[:last])
    while stream.pull(now=stream.frame < 80) is not None:
        pass
    mouth = LABEL_MEAN[0] + LABEL_UNIT[0] * np.concatenate([np.asarray(motion.dynamics)[:, 0] for motion in drawn])
    yaw = np.concatenate([np.asarray(motion.pose)[:, 1] for motion in drawn])
    assert mouth[:41].max() > 0.4 and np.abs(mouth[41 + 4 :]).max() < 0.05
    assert np.ptp(yaw[45:]) > np.radians(1)
    stream.push(sound[last : last + 16000])
    chunk = stream.pull()
    assert np.abs(chunk.motion.pose[0] - np.asarray(drawn[-2].pose)[-1]).max() < 0.1
    assert stream._mouth == 1.0


@pytest.mark.long
def test_a_face_without_sound_stays_alive_and_goes_on_seamlessly(assets, monkeypatch):
    """Three seconds of speech, twenty without sound, and speech again: the lids fall, the head sways, and where speech
    sets in nothing moves faster than within speech."""
    drawn, sound = [], load_audio(assets / "speech" / "english_20s.wav")
    render = FaceModel.render

    def watched(self, portrait, motion):
        drawn.append(motion)
        return render(self, portrait, motion)

    stream = Stream(vasa_jax.load("demo"), np.full((64, 64, 3), 128, np.uint8), box=None)
    monkeypatch.setattr(FaceModel, "render", watched)
    stream.push(sound[: 75 * 640])
    while stream.pull(now=stream.frame < 575) is not None:
        pass
    stream.push(sound[75 * 640 :][: 75 * 640])
    while stream.pull() is not None:
        pass
    pose = np.concatenate([np.asarray(motion.pose) for motion in drawn])
    dynamics = np.concatenate([np.asarray(motion.dynamics) for motion in drawn])
    mouth, *lids = (LABEL_MEAN[i] + LABEL_UNIT[i] * dynamics[:, i] for i in range(3))
    assert np.abs(mouth[75 + 4 : 575]).max() < 0.05 and mouth[:75].max() > 0.4 and mouth[575:].max() > 0.4
    silent, returning = slice(85, 575), slice(570, 582)
    assert all(np.median(lid[silent]) - lid[silent].min() > 0.15 for lid in lids)
    for half in (slice(85, 330), slice(330, 575)):
        assert np.degrees(pose[half, :3].std(0)).min() > 0.7
    steps = np.abs(np.diff(pose, axis=0))
    within = np.maximum(steps[:70].max(0), steps[582:].max(0))
    assert (steps[returning] < 1.1 * within).all()


@pytest.mark.long
@pytest.mark.parametrize("name", SPEECH)
def test_a_real_recording_is_performed_as_offline(assets, name):
    """Two seconds of each, as `infer.py --stream` reads it: the same motion, and frames marked alike but for rounding
    before and after the mark, since a stream draws five frames at a time and a video eight."""
    path = assets / "speech" / f"{name}.wav"
    model, wishes = demo(), {"hop": 5, "look_ahead": 1, "sampler": "dpm++", "steps": 5, "seed": 4, "box": None}
    face, sound, kept = golden()["portrait"], load_audio(path)[: 2 * SAMPLE_RATE], []
    stream, chunks = Stream(model, face, **wishes), []
    expected = np.stack(list(marking(model.perform(face, sound, kept, **wishes).frames, stream.mark)))
    with open(path, "rb", buffering=0) as file:
        for samples in read_sound(file):
            stream.push(samples[: len(sound) - SAMPLES_PER_FRAME * stream.frame - stream.waiting])
            while (chunk := stream.pull()) is not None:
                chunks.append(chunk)
    stream.end()
    while (chunk := stream.pull()) is not None:
        chunks.append(chunk)
    motion = jax.tree.map(lambda *parts: np.concatenate(parts), *(chunk.motion for chunk in chunks))
    jax.tree.map(np.testing.assert_array_equal, motion, jax.tree.map(lambda *parts: np.concatenate(parts), *kept))
    frames = np.concatenate([chunk.frames for chunk in chunks])
    assert frames.shape == expected.shape and np.abs(frames.astype(int) - expected).max() <= 2
