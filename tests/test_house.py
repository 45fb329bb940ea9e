"""The house itself: documentation, declared packages, locks, the hooks and the package's front door."""

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vasa_jax
from vasa_jax import arrays

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGE = sorted((ROOT / "vasa_jax").rglob("*.py"))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
LOCKED_EXTRAS = {
    "core": (),
    "parity": ("parity",),
    "cuda": ("cuda",),
    "tpu": ("tpu",),
    "plan": ("plan",),
    "prepare": ("prepare",),
    "serve": ("serve",),
    "livekit": ("livekit",),
    "dev": ("dev",),
}
TOOLS = "audit"
"""The dependency group that is locked by itself, beside the extras: nothing of the package."""
LOCKS = (*LOCKED_EXTRAS, TOOLS)
UNLOCKED = {"torch", "wandb"}
"""Extras that are never locked; pyproject.toml says why."""
DISTRIBUTION = {"c2pa": "c2pa-python", "cv2": "opencv-contrib-python", "PIL": "pillow", "orbax": "orbax-checkpoint"}
"""Where the name to import is not the name to install."""


def lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


@functools.cache
def locked(name: str) -> list[Requirement]:
    return [Requirement(line) for line in re.findall(r"(?m)^[\w.-]+==[^\\\n]+", lock(name))]


def applies(item: Requirement, python: str, platform: tuple[str, str]) -> bool:
    values = {"python_version": python, "python_full_version": f"{python}.0"}
    values |= {"sys_platform": platform[0], "platform_machine": platform[1]}
    return item.marker is None or item.marker.evaluate(values)


def pins(name: str, python: str, platform: tuple[str, str] = PLATFORMS[0]) -> dict[str, str]:
    """Canonical package names to the versions that a lock gives to a Python on a platform."""
    found = {}
    for item in locked(name):
        if applies(item, python, platform):
            assert canonicalize_name(item.name) not in found, f"{item} and another for Python {python}"
            found[canonicalize_name(item.name)] = str(item.specifier).removeprefix("==")
    return found


def requirements(*extras: str) -> list[Requirement]:
    lines = PROJECT["dependencies"] + [line for name in extras for line in PROJECT["optional-dependencies"][name]]
    return [Requirement(line) for line in lines]


def asked(name: str) -> list[Requirement]:
    """What a lock is made of."""
    if name == TOOLS:
        return [Requirement(line) for line in PYPROJECT["dependency-groups"][TOOLS]]
    return requirements(*LOCKED_EXTRAS[name])


def undocumented(node: ast.Module | ast.ClassDef, prefix: str) -> list[str]:
    """Public classes, functions and methods without a docstring; Flax calls `setup` itself, so it needs none."""
    found = []
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef) and child.name[0] != "_" and child.name != "setup":
            if not ast.get_docstring(child):
                found.append(f"{prefix}.{child.name}")
            if isinstance(child, ast.ClassDef):
                found += undocumented(child, f"{prefix}.{child.name}")
    return found


def test_everything_public_is_documented() -> None:
    found = []
    for path in PACKAGE:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = str(path.relative_to(ROOT))
        found += ([] if ast.get_docstring(tree) else [name]) + undocumented(tree, name)
    assert not found


def test_no_module_is_a_drawer_for_everything() -> None:
    assert not [path for path in PACKAGE if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_every_import_is_a_declared_package() -> None:
    building = [Requirement(line) for line in PYPROJECT["build-system"]["requires"]]
    declared = {canonicalize_name(item.name) for item in [*requirements("torch", "prepare", "serve"), *building]}
    used = set()
    for path in [*PACKAGE, *ROOT.glob("configs/*.py"), *ROOT.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used.add(node.module.partition(".")[0])
    ours = {"vasa_jax", "benchmarks", "configs"}
    strangers = used - ours - sys.stdlib_module_names
    assert {canonicalize_name(DISTRIBUTION.get(name, name)) for name in strangers} <= declared | {"jaxlib"}


def test_there_is_one_lock_an_extra() -> None:
    assert {path.stem for path in ROOT.glob("requirements/*")} == {*LOCKS}
    assert LOCKED_EXTRAS.keys() - {"core"} == PROJECT["optional-dependencies"].keys() - UNLOCKED


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_no_addresses(name: str) -> None:
    text = lock(name)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
    for package in re.split(r"(?m)^(?=[\w])", "\n".join(lines))[1:]:
        assert "--hash=sha256:" in package, package
    for address in ("://", "--index", "--extra-index", "--find-links", "file:", "@", "/home", "/tmp", "torch=="):
        assert address not in text


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_what_the_project_asks_for(name: str, python: str) -> None:
    for platform in PLATFORMS:
        pinned = pins(name, python, platform)
        for requirement in asked(name):
            version = pinned.get(canonicalize_name(requirement.name), "0")
            wanted = applies(requirement, python, platform)
            assert requirement.specifier.contains(version) or not wanted, f"{requirement}, {platform}: run make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_agree(python: str) -> None:
    everything = [pins(name, python) for name in LOCKS]
    for pinned in everything:
        assert all(pinned[name] == other[name] for other in everything for name in pinned.keys() & other.keys())
    assert pins("core", python).keys() <= pins("dev", python).keys()


def test_torch_is_never_locked() -> None:
    assert not any(re.search(r"(?m)^torch\b", path.read_text("utf-8")) for path in ROOT.glob("requirements/*.txt"))


def test_every_install_of_a_lock_wants_its_hashes() -> None:
    files = [ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".ci/*")]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    installs = [line for line in lines if "-r requirements/" in line]
    assert len(installs) > 2 and all("--require-hashes" in line for line in installs)


def test_what_is_audited_is_every_version_of_every_lock(tmp_path: Path) -> None:
    """The target asks a tool that only notes what it is asked about; where that fails, so does the target."""
    tool = tmp_path / "bin" / "pip-audit"
    tool.parent.mkdir()
    (tmp_path / ".made").touch()
    for code in (0, 1):
        tool.write_text(f'#!/bin/sh\nfor file; do :; done\ncat "$file" >> {tmp_path}/asked-{code}\nexit {code}\n')
        tool.chmod(0o755)
        make = ["make", "--no-print-directory", f"AUDIT={tmp_path}", f"--old-file={tmp_path}/.made", "audit"]
        made = subprocess.run(make, cwd=ROOT, check=False, capture_output=True, text=True)
        assert (made.returncode == 0) == (code == 0), made.stderr
        seen = (tmp_path / f"asked-{code}").read_text().splitlines()
        assert sorted(seen) == sorted({f"{item.name}{item.specifier}" for name in LOCKS for item in locked(name)})
        for file in tmp_path.glob("pins.*.txt"):
            names = [line.partition("==")[0] for line in file.read_text().splitlines()]
            assert len(names) == len(set(names)), file  # a name twice in a file is refused


def test_the_threats_name_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [
        line for line in text.partition("## Threats")[2].partition("\n## ")[0].splitlines() if line.startswith("| ")
    ][1:]
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.rstrip("| ").rpartition("|")[2])
        assert named, row
        for file, name in named:
            defined = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")).body
            assert name in {node.name for node in defined if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_pythons_are_the_same_everywhere() -> None:
    classified = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3" in line]
    first, last = PYTHONS[0], int(PYTHONS[-1].removeprefix("3."))
    assert classified == list(PYTHONS) and PROJECT["requires-python"] == f">={first},<3.{last + 1}"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert " ".join(f"python{python}" for python in reversed(PYTHONS)) in makefile
    for name in ("Makefile", "README.md", "CONTRIBUTING.md", "vasa_jax/__init__.py"):
        assert f"Python {first} to 3.{last}" in (ROOT / name).read_text(encoding="utf-8"), name


def test_make_takes_the_newest_python_that_works(tmp_path: Path) -> None:
    works = f'#!/bin/sh\nif [ "$1" = -c ]; then exec {sys.executable} "$@"; fi\nmkdir -p "$3"\n'
    for name, text in {"python3.14": "#!/bin/sh\nexit 127\n", "python3.13": works, "python3.12": works}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    venv = tmp_path / "venv"
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    make = ["make", "--no-print-directory", f"VENV={venv}", f"{venv}/.made"]
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "PYTHON")}  # of another make
    made = subprocess.run(make, cwd=ROOT, env=own | {"PATH": path}, check=True, capture_output=True, text=True)
    assert made.stdout == f"creating {venv} with python3.13\n"
    (venv / ".made").unlink()
    refused = subprocess.run([*make, "PYTHON=python3.14"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert refused.returncode == 2 and "python3.14 is not a Python 3.11 to 3.14 with venv" in refused.stderr


def test_commands_are_installed_for_the_doors_and_three_rooms() -> None:
    names = ("infer", "train", "prepare", "convert", "synthetic", "provenance", "demo")
    assert PROJECT["scripts"].keys() == {f"vasa-{name}" for name in names}
    for name, target in PROJECT["scripts"].items():
        module, _, function = target.partition(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        defined = {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(node, "name")}
        assert function in defined, name


def test_the_hooks_are_the_commands_of_the_gate() -> None:
    hooks = re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)", ".venv/bin")
    gate = re.findall(r"(?m)^(?:lint|types): .*\n((?:\t.+\n)+)", makefile)
    assert hooks == [command.strip() for commands in gate for command in commands.splitlines()]


def test_the_version_has_an_entry_in_the_changelog() -> None:
    assert f"\n## {vasa_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, vasa_jax; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 15, 0)])
def test_other_pythons_stop_with_one_line(version: tuple[int, int, int]) -> None:
    code = (
        f"import sys; sys.version_info = {version}; sys.version = '{'.'.join(map(str, version))} (x)'; import vasa_jax"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    last = run.stderr.splitlines()[-1]
    assert run.returncode and last.startswith("RuntimeError: vasa-jax runs on Python 3.11 to 3.14, not 3.1")


def test_unknown_attributes_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = vasa_jax.laod  # pyright: ignore[reportAttributeAccessIssue]


def test_constants_fit_together() -> None:
    assert arrays.SAMPLES_PER_FRAME * arrays.FPS == arrays.SAMPLE_RATE
    assert len(arrays.EMOTIONS) == 8 and list(arrays.EMOTIONS) == sorted(arrays.EMOTIONS)
