"""What the demo model does where sound stops, as a stream shows it."""

import numpy as np
import pytest

import vasa_jax
from vasa_jax.autoencoder.config import LABEL_MEAN, LABEL_UNIT
from vasa_jax.inference.stream import Stream
from vasa_jax.inference.vasa import FaceModel
from vasa_jax.media.audio import load_audio


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
    """Three seconds of speech, twenty without sound, and speech again."""
    drawn, sound = [], load_audio(assets / "speech" / "english_20s.wav")
    render = FaceModel.render

    def watched(self, portrait, motion):
        drawn.append(motion)
        return render(self, portrait, motion)

    model = vasa_jax.load("demo")
    stream = Stream(model, np.full((64, 64, 3), 128, np.uint8), box=None)
    monkeypatch.setattr(FaceModel, "render", watched)
    stream.push(sound[: 75 * 640])
    while stream.pull(now=stream.frame < 575) is not None:
        pass
    stream.push(sound[75 * 640 :][: 100 * 640])
    while stream.pull() is not None:
        pass
    pose = np.concatenate([np.asarray(motion.pose) for motion in drawn])
    dynamics = np.concatenate([np.asarray(motion.dynamics) for motion in drawn])
    mouth, lids = LABEL_MEAN[:3, None] + LABEL_UNIT[:3, None] * dynamics[:, :3].T, None
    print(pose.shape, mouth.shape)
    np.savez("/tmp/pipe/starve.npz", pose=pose, dynamics=dynamics, labels=mouth)
