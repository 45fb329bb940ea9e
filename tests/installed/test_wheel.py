"""An installation: sdist and wheel of this checkout, and the wheel's commands in an environment and a folder apart."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import setuptools.build_meta as backend, sys; backend.build_sdist(sys.argv[1])"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def files(*patterns: str) -> set[str]:
    """Files of the checkout, relative to it."""
    found = {path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    return {str(path) for path in found if path.suffix != ".pyc"}


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(sdist)]
    subprocess.run(build, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that has the core lock and the wheel."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin" / "python"), *PIP, "install", "--no-compile"]
    subprocess.run([*install, "--require-hashes", "-r", str(ROOT / "requirements" / "core.txt")], check=True)
    subprocess.run([*install, "--no-deps", str(wheel)], check=True)
    return folder / "bin"


def start(folder: Path, *line: str) -> subprocess.CompletedProcess:
    """Run a command in a folder as a shell outside of any checkout would."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(line, cwd=folder, env=kept, check=False, capture_output=True, text=True)


@pytest.fixture
def command(installed: Path, tmp_path: Path):
    """Run an installed command in an empty folder."""
    return lambda name, *arguments: start(tmp_path, str(installed / name), *arguments)


def test_the_sdist_is_the_checkout(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    kept = files("*.py", "*.md", "LICENSE", "Makefile", "pyproject.toml", "configs/*", "requirements/*", ".ci/*")
    assert kept | files("vasa_jax/**/*", "tests/**/*", "benchmarks/*", "docs/*") <= held


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    inside = {name for name in held if ".dist-info/" not in name}
    assert inside == files("vasa_jax/**/*") | {f"vasa_jax/{name}" for name in files("configs/*.py")}
    assert {"vasa_jax/models/demo/model_card.md", "vasa_jax/training/targets/h100.txtpb"} <= inside
    assert any(name.endswith("/licenses/LICENSE") for name in held)


def test_a_portrait_and_a_voice_become_a_video(command, tmp_path: Path) -> None:
    made = command("vasa-synthetic", "--portrait", "p.png", "--speech", "s.wav", "--seed", "5", "--seconds", "1")
    assert made.returncode == 0, made.stderr
    talk = command("vasa-infer", "--image", "p.png", "--audio", "s.wav", "--out", "talk.mp4", "--steps", "4")
    assert talk.returncode == 0, talk.stderr
    assert "talk.mp4: 25 frames of 64x64" in talk.stdout and (tmp_path / "talk.mp4").stat().st_size > 1000
    said = command("vasa-provenance", "talk.mp4")
    assert said.returncode == 0 and "talk.mp4: marked" in said.stdout, said.stderr


def test_the_python_door_opens_from_any_folder(command) -> None:
    done = command("python", "-c", "import vasa_jax; print(vasa_jax.load('demo').size, vasa_jax.__file__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("64 ") and str(ROOT) not in done.stdout


def test_configs_are_found_by_name(command) -> None:
    done = command("vasa-train", "demo_autoencoder", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("total parameters: ")
    unknown = command("vasa-train", "demo_autoencodr", "--dry-run")
    assert unknown.returncode == 2 and unknown.stderr.count("\n") == 1
    names = ("autoencoder_256", "autoencoder_512", "demo_autoencoder", "demo_autoencoder_randomised", "demo_encoders")
    assert ", ".join((*names, "demo_motion")) in unknown.stderr


def test_preparation_opens_without_its_extra(command) -> None:
    done = command("vasa-prepare", "missing", "records")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "there is no missing" in done.stderr


def test_the_server_names_its_extra(command) -> None:
    done = command("python", "-m", "vasa_jax.serve", "--port", "0")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "pip install 'vasa-jax[serve]'" in done.stderr


def test_bad_input_ends_in_one_line(command) -> None:
    done = command("vasa-convert", "liveportrait.spade_generator", "missing.pth", "out.safetensors")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "missing.pth" in done.stderr


def test_the_environment_of_make_has_the_checkout_in_place(tmp_path: Path) -> None:
    done = start(tmp_path, sys.executable, "-c", "import vasa_jax; print(vasa_jax.__file__)")
    assert done.returncode == 0, f"run make setup: {done.stderr}"
    assert Path(done.stdout.strip()).parent == ROOT / "vasa_jax"
    help_text = start(tmp_path, str(Path(sys.executable).with_name("vasa-infer")), "--help")
    assert help_text.returncode == 0 and "--image" in help_text.stdout
