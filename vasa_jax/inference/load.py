"""A release folder becomes a model: the kind in its `config.json` decides which pair reads it."""

import os
import time
from pathlib import Path
from typing import Any

import jax

from vasa_jax.checkpoint import bundled_releases, load_release
from vasa_jax.errors import UserError, device_memory
from vasa_jax.inference import liveportrait_vasa, public, vasa
from vasa_jax.inference.offline import LESS_MEMORY, Model
from vasa_jax.inference.vasa import Dtype

PAIRS = {
    vasa.KIND: vasa.from_release,
    public.KIND: public.from_release,
    liveportrait_vasa.KIND: liveportrait_vasa.from_release,
}
"""What reads a release, by its kind."""


def load(model: str | os.PathLike = "demo", dtype: str | None = None, speech: str | os.PathLike | None = None) -> Model:
    """Loads a model: the name of one that comes with the package ("demo"), or a release folder.

    Args:
        model: name or folder.
        dtype: of the features while computing; None is bfloat16 on an accelerator and float32 on a CPU.
        speech: folder of the frozen speech network that the model hears through; None is the one that its config names.

    Raises:
        UserError: no such model, one of an unknown kind, or one whose files do not fit together.
    """
    start = time.perf_counter()
    bundled = bundled_releases(vasa.KIND)
    folder = bundled.get(str(model), Path(model))
    if not os.path.isdir(folder):
        names = ", ".join(bundled) or "(none in this installation)"
        raise UserError(f"there is no model {str(model)!r}; name a folder, or one that is bundled: {names}")
    known: dict[str | None, Dtype] = {"float32": "float32", "bfloat16": "bfloat16"}
    known[None] = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if dtype not in known:
        raise UserError(f"dtype {dtype!r} is unknown; choose float32 or bfloat16")
    with device_memory(LESS_MEMORY):
        release = load_release(folder)
        kind = release.config.get("kind")
        if kind not in PAIRS:
            raise UserError(f"{folder} is a model of kind {kind!r}; this version runs {', '.join(PAIRS)}")
        if speech is not None and kind == public.KIND:
            raise UserError(f"models of kind {kind!r} bring their own speech network; leave --speech out")
        more: dict[str, Any] = {} if speech is None else {"speech": speech}
        loaded = Model(PAIRS[kind](release, str(folder), known[dtype], **more))
    loaded.name, loaded.sha256 = folder.resolve().name, release.sha256
    loaded.seconds["load"] = time.perf_counter() - start
    return loaded
