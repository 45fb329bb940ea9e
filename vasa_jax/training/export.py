"""From runs to a release: `python -m vasa_jax.training.export WORKDIR [WORKDIR] --out FOLDER [--face R] [--card FILE]`.

Writes the averaged parameters of the newest checkpoints of a stage 1 run, a stage 2 run, or both, in the release
format of `vasa_jax.checkpoint`: `autoencoder.safetensors` (without training-only heads), `motion.safetensors` and
`statistics.safetensors` (always float32), with both model configs under "autoencoder" and "motion" of `config.json`.
A run of the world's feature network becomes a helper of that kind (`vasa_jax.pretrained.helper`).
With `--face`, a release of the public pair, a stage 2 run on LivePortrait's motion becomes a whole model of the kind
"liveportrait-vasa": LivePortrait's networks are copied beside it, in float32.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vasa_jax.checkpoint import Release, check_release_target, digest, load_release, save_release
from vasa_jax.command import Parser, run
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import check_apart
from vasa_jax.inference import liveportrait_vasa, public, vasa
from vasa_jax.inference.public import NETWORKS
from vasa_jax.liveportrait.motion_code import DYNAMICS_DIM
from vasa_jax.pretrained.helper import build_helper, save_helper
from vasa_jax.training.bundles import read_bundle
from vasa_jax.training.config import FeaturesExperiment, MotionExperiment, from_saved, to_saved
from vasa_jax.training.state import count
from vasa_jax.training.world_data import check_stamp, data_folders


def export(
    workdirs: Sequence[str | Path], out: str | Path, dtype: str = "bfloat16", card: str = "", face: str | Path = ""
) -> dict[str, int]:
    """Write a release.

    Args:
        workdirs: one or two runs, of different stages.
        out: the folder to write.
        dtype: of the weights, "bfloat16" or "float32"; statistics keep float32.
        card: text of the model card; "" writes a plain one of what is known here.
        face: release of the public pair, whose LivePortrait a stage 2 run was trained on.

    Returns:
        Stage to the number of its parameters.

    Raises:
        UserError: for a folder without a checkpoint, two runs of one stage, two stages that do not fit, or a run of no
            known stage; a `face` that is no public pair or not that of the run; where `out` is one of the runs, lies in
            a run, or may not be replaced.
    """
    for workdir in workdirs:
        check_apart({"--out": out}, {"the run": workdir})
    check_apart({"--out": out}, {"--face": face} if face else {})
    return write(workdirs, out, dtype, card, face)


def write(
    workdirs: Sequence[str | Path], out: str | Path, dtype: str = "bfloat16", card: str = "", face: str | Path = ""
) -> dict[str, int]:
    """As `export`, to a folder that may lie in a run: a release on the way."""
    check_release_target(out)
    config: dict[str, Any] = {}
    tensors: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    for workdir in workdirs:
        step, saved, state = read_bundle(workdir)
        experiment = from_saved(saved, workdir)
        stage = experiment.kind
        if isinstance(experiment, FeaturesExperiment):
            if len(workdirs) > 1 or face:
                raise UserError(f"{str(workdir)!r} is a run of the feature network, which is released alone")
            return _export_features(experiment, step, state["ema"], out, dtype, card)
        if stage in runs:
            raise UserError(f"{str(workdir)!r} is a second run of stage {stage!r}; name one run of each stage")
        config[stage] = to_saved(experiment)["model"]
        tensors[stage] = state["ema"]["autoencoder"] if stage == "autoencoder" else state["ema"]
        if stage == "motion":
            tensors["statistics"] = state["constants"]
        runs[stage] = {"step": step, "parameters": count(tensors[stage]), "sha256": digest(tensors[stage])}
    if len({stage["dynamics_dim"] for stage in config.values()}) > 1:
        sizes = ", ".join(f"{stage} {values['dynamics_dim']}" for stage, values in config.items())
        raise UserError(f"the two stages do not fit: dynamics_dim is of {sizes}; train stage 2 on this stage 1")
    config["training"] = runs
    card = card or _plain_card(runs, dtype)
    if not face:
        save_release(out, vasa.KIND, config, tensors, dtype, card)
    else:
        release = _face(face, workdirs, config)
        config |= {name: release.config[name] for name in ("sources", "licences") if name in release.config}
        tensors |= {name: release.tensors[name] for name in NETWORKS}
        save_release(out, liveportrait_vasa.KIND, config, tensors, dtype, card, exact=("statistics", *NETWORKS))
    return {stage: run["parameters"] for stage, run in runs.items()}


def _export_features(
    experiment: FeaturesExperiment, step: int, params: Any, out: str | Path, dtype: str, card: str
) -> dict[str, int]:
    """Write the release of a feature network."""
    run = {"step": step, "parameters": count(params), "sha256": digest(params)}
    helper = build_helper(experiment.kind, experiment.model)
    save_helper(out, helper, params, card or _plain_card({experiment.kind: run}, dtype), dtype, training=run)
    return {experiment.kind: count(params)}


def _face(face: str | Path, workdirs: Sequence[str | Path], config: dict[str, Any]) -> Release:
    """The release of the public pair whose LivePortrait one stage 2 run was trained on."""
    release = load_release(face)
    if release.config.get("kind") != public.KIND:
        raise UserError(f"--face {face} is of kind {release.config.get('kind')!r}; name a release of {public.KIND!r}")
    public.check_face(release.tensors, str(face))
    if set(config) - {"training"} != {"motion"} or config["motion"]["dynamics_dim"] != DYNAMICS_DIM:
        raise UserError(
            f"--face goes with one run, of stage 2 on LivePortrait's motion (dynamics_dim={DYNAMICS_DIM}); leave it out"
        )
    _, saved, _ = read_bundle(workdirs[0])
    data = from_saved(saved, workdirs[0])
    assert isinstance(data, MotionExperiment)
    for folder in data_folders(data.data, workdirs[0]):
        check_stamp(folder, digest(release.tensors["motion_extractor"]))
    return release


def _plain_card(runs: dict[str, Any], dtype: str) -> str:
    rows = [
        f"* {stage}: {run['parameters'] / 1e6:.2f}M parameters after {run['step']} steps, sha256 {run['sha256'][:16]}"
        for stage, run in runs.items()
    ]
    return "\n".join(["# A vasa-jax release", "", f"Averaged weights, stored as {dtype}.", "", *rows, ""])


def _work(arguments: Sequence[str]) -> str:
    parser = Parser(prog="python -m vasa_jax.training.export", description=export.__doc__)
    parser.add_argument("workdir", nargs="+", help="a run of stage 1, of stage 2, or one of each")
    parser.add_argument("--out", required=True, help="folder of the release")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of the weights")
    parser.add_argument("--face", default="", help="release of the public pair, if its LivePortrait is stage 1")
    parser.add_argument("--card", default="", help="Markdown file that becomes model_card.md")
    options = parser.parse_args(arguments)
    card = _read_card(options.card) if options.card else ""
    sizes = export(options.workdir, options.out, options.dtype, card, options.face)
    return f"{options.out}: {', '.join(f'{stage} {size / 1e6:.2f}M' for stage, size in sizes.items())}"


def _read_card(path: str) -> str:
    with refusals("read", path, UnicodeDecodeError, advice="name a Markdown file with --card, or leave it out"):
        return Path(path).read_text(encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    return run("export", lambda: [_work(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
