"""The rooms of the house: who may import whom, read from the syntax trees, so that no module has to be imported."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVEL = {
    "arrays": 0,
    "command": 0,
    "config": 0,
    "errors": 0,
    "files": 0,
    "renames": 0,
    "compile_cache": 1,
    "geometry": 1,
    "nn": 1,
    "diffusion": 1,
    "media": 1,
    "checkpoint": 1,
    "audio": 2,
    "pretrained": 2,
    "faces": 2,
    "synthetic": 2,
    "data": 2,
    "autoencoder": 3,
    "motion": 3,
    "liveportrait": 3,
    "joyvasa": 3,
    "provenance": 3,
    "inference": 4,
    "convert": 5,
    "training": 6,
    "preparation": 7,
    "metrics": 5,
    "serve": 8,
    "doors": 9,
}
GROUND = {("command", "errors"), ("config", "errors"), ("files", "errors")}
"""Below all rooms lie a few files, of which `errors` is the lowest."""
DOORS = {"vasa_jax/doors/train.py", "vasa_jax/doors/infer.py", "vasa_jax/doors/prepare.py"}
SLOW_OR_OPTIONAL = {"c2pa", "cryptography", "huggingface_hub", "librosa", "mediapipe", "orbax", "ray", "torch"}
"""Never imported when a module is: torch comes with an extra, the others are slow to start."""
ONLY_TRAINING = {"grain", "librosa", "optax", "orbax", "tensorboardX", "tensorstore", "tyro", "wandb"}
"""What making a video must not wait for."""


def sources(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def everything() -> list[Path]:
    rooms = ("vasa_jax", "configs", "benchmarks", "examples", "tests")
    return sources("*.py", *(f"{room}/**/*.py" for room in rooms))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that a tree imports, at any depth; `from a import b` counts as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    return set(imports(ast.parse(path.read_text(encoding="utf-8"))))


def room_of(name: str) -> str | None:
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "vasa_jax" and rest else None


def room_imports(paths: list[Path]) -> set[tuple[str, str]]:
    """Pairs (room, room that it imports) of package files; the package's own __init__ belongs to no room, and a room's
    `__main__` may lead to its door."""
    package = ROOT / "vasa_jax"
    pairs = set()
    for path in paths:
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room != "__init__":
            leads = {"doors"} if path.name == "__main__.py" else set()
            others = {other for name in imports_of(path) if (other := room_of(name))} - leads - {room}
            pairs |= {(room, other) for other in others}
    return pairs


def importers(library: str) -> set[str]:
    """Files, relative to the checkout, that import a library at any depth."""
    return {
        str(path.relative_to(ROOT))
        for path in everything()
        if any(name.partition(".")[0] == library for name in imports_of(path))
    }


def test_every_room_has_a_level() -> None:
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "vasa_jax").iterdir() if path.name[0] not in "_."}
    assert rooms - {"models"} <= set(LEVEL)


def test_rooms_import_only_rooms_below() -> None:
    pairs = room_imports(sources("vasa_jax/**/*.py"))
    bad = sorted((a, b) for a, b in pairs if (a, b) not in GROUND and (b not in LEVEL or LEVEL[b] >= LEVEL[a]))
    assert not bad, f"upward or sideways imports: {bad}"


@pytest.mark.parametrize("room", ["autoencoder", "motion", "diffusion", "inference"])
def test_the_world_is_data_and_no_part_of_the_model(room: str) -> None:
    assert (room, "synthetic") not in room_imports(sources("vasa_jax/**/*.py"))


def test_imports_are_absolute() -> None:
    relative = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in everything()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def test_only_the_doors_parse_flags_with_tyro() -> None:
    assert importers("tyro") <= DOORS | {"vasa_jax/doors/flags.py"}


def test_torch_stays_in_convert_and_parity() -> None:
    strangers = {path for path in importers("torch") if not path.startswith(("vasa_jax/convert/", "tests/parity/"))}
    assert not strangers


def test_the_package_never_imports_tests_configs_or_doors() -> None:
    outside = {"tests", "configs", "benchmarks", "examples", "train", "infer"}
    for path in sources("vasa_jax/**/*.py"):
        assert not {name for name in imports_of(path) if name.partition(".")[0] in outside}, path


def test_slow_and_optional_libraries_wait_until_they_are_used() -> None:
    eager = []
    for path in sources("vasa_jax/**/*.py", "*.py", "configs/**/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        waiting = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        lazy = {id(inner) for function in waiting for inner in ast.walk(function)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in lazy:
                eager += [(path.name, name) for name in imports(node) if name.partition(".")[0] in SLOW_OR_OPTIONAL]
    assert not eager


def test_inference_imports_nothing_that_only_training_needs() -> None:
    code = "import sys, vasa_jax.inference; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not ONLY_TRAINING & set(run.stdout.split())


def test_importing_the_package_starts_nothing() -> None:
    statements = ast.parse((ROOT / "vasa_jax" / "__init__.py").read_text(encoding="utf-8")).body
    eager = {name for node in statements if isinstance(node, ast.Import | ast.ImportFrom) for name in imports(node)}
    assert eager == {"sys", "typing.TYPE_CHECKING"}
