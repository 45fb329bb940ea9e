"""Judges that users bring: HSEmotion's network and SyncNet, here with weights of our own."""

import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.preparation.films import person
from vasa_jax.arrays import EMOTIONS
from vasa_jax.convert import to_torch
from vasa_jax.data.pictures import encode_picture
from vasa_jax.errors import UserError
from vasa_jax.preparation import emotion, sync
from vasa_jax.pretrained.syncnet import SyncNet


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def model(weights: np.ndarray, side: int) -> bytes:
    """ONNX: logits = flatten(picture) @ weights."""

    def described(name: str, shape: tuple[int, ...]) -> bytes:
        sizes = b"".join(field(1, field(1, length)) for length in shape)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, sizes)))

    nodes = [
        field(1, "picture") + field(2, "flat") + field(4, "Flatten"),
        field(1, "flat") + field(1, "weights") + field(2, "logits") + field(4, "MatMul"),
    ]
    raw = struct.pack(f"<{weights.size}f", *weights.ravel())
    tensor = b"".join(field(1, length) for length in weights.shape) + field(2, 1) + field(8, "weights") + field(9, raw)
    graph = b"".join(field(1, node) for node in nodes) + field(2, "tiny") + field(5, tensor)
    graph += field(11, described("picture", (1, 3, side, side))) + field(12, described("logits", (1, weights.shape[1])))
    return field(1, 8) + field(8, field(1, "") + field(2, 13)) + field(7, graph)


def test_emotion_is_the_mean_of_a_network_of_eight_classes(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra [prepare] is not installed")
    weights = np.zeros((3 * 64, 8), np.float32)
    weights[:64, EMOTIONS.index("happiness")] = 1.0  # the red plane comes first
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model(weights, 8))
    red, blue = np.zeros((2, 40, 40, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    judge = emotion.open_judge(path)
    whole = np.array([[0.0, 0.0, 40.0, 40.0]] * 2)
    found = judge([encode_picture(red)] * 2, whole)
    assert found.sum() == pytest.approx(1) and found.argmax() == EMOTIONS.index("happiness") and found.max() > 0.99
    half = judge([encode_picture(red), encode_picture(blue)], whole)
    assert half[EMOTIONS.index("happiness")] == pytest.approx(0.5, abs=0.01)
    outside = judge([encode_picture(red)], np.array([[-9.0, -9.0, 99.0, 99.0]]))
    assert outside.argmax() == EMOTIONS.index("happiness")
    path.write_bytes(model(np.zeros((3 * 64, 3), np.float32), 8))
    with pytest.raises(UserError, match="eight"):
        emotion.open_judge(path)([encode_picture(red)], whole[:1])
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="ONNX Runtime"):
        emotion.open_judge(path)


@pytest.mark.long
def test_syncnet_judges_lips_and_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights: numbers of the right kind, the same for every batch, and shifted sound is another matter."""
    shapes = jax.eval_shape(
        SyncNet().init,
        jax.random.key(0),
        np.zeros((1, 5, 224, 224, 3), np.float32),
        np.zeros((1, 13, 20, 1), np.float32),
    )
    random = np.random.default_rng(0)

    def fill(path, leaf) -> np.ndarray:
        spread = random.normal(size=leaf.shape) / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return (np.abs(spread) + 0.5 if "var" in str(path) else spread).astype(np.float32)

    save_file(
        {
            name: np.ascontiguousarray(value)
            for name, value in to_torch("syncnet", jax.tree_util.tree_map_with_path(fill, shapes)).items()
        },
        tmp_path / "syncnet.safetensors",
    )
    monkeypatch.setattr(sync, "BATCH", 4)
    judge = sync.open_judge(tmp_path / "syncnet.safetensors")
    clip = person()
    pictures = [encode_picture(frame) for frame in clip.frames[:12]]
    bounds = np.array([[60.0, 60.0, 190.0, 210.0]] * 12)
    confidence, offset = judge(pictures, bounds, np.asarray(clip.audio, np.float32)[: 640 * 12])
    assert np.isfinite(confidence) and confidence >= 0 and -15 <= offset <= 15 and isinstance(offset, int)
