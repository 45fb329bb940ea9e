"""Configs: loaded from files, written and read as JSON, compared."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

import jax
import pytest

from vasa_jax import config
from vasa_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 8
    rates: tuple[float, ...] = (0.5, 1.0)
    pair: tuple[int, str] = (1, "a")

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"{self.width=} must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other:
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    layers: tuple[Inner, ...] = ()
    data: Inner | Other = Inner()
    limit: float | None = None
    count: float | int = 1
    mode: Literal["jit", "pmap"] = "jit"
    remat: bool = False
    steps: int
    rate: float = 1e-4


EXAMPLE = Outer(
    steps=3,
    inner=Inner(width=4, rates=(), pair=(2, 'quoted "é"')),
    layers=(Inner(), Inner(width=2)),
    data=Other(name="x"),
    limit=math.inf,
    mode="pmap",
    remat=True,
    rate=1 / 3,
)


def test_json_gives_back_the_same_config() -> None:
    for value in (EXAMPLE, Outer(steps=1), Outer(steps=1, count=2.0)):
        back = config.from_json(config.to_json(value), Outer)
        assert back == value
        assert hash(back) == hash(value)
        assert type(back.count) is type(value.count)


def test_json_is_text_for_people() -> None:
    text = config.to_json(Inner())
    assert text.splitlines()[1] == '  "width": 8,' and text.endswith("}\n")


def test_a_field_that_the_text_lacks_takes_its_default() -> None:
    assert config.from_json('{"steps": 5}', Outer) == Outer(steps=5)


def test_an_integer_stands_for_a_float_but_not_the_other_way() -> None:
    rate = config.from_json('{"steps": 5, "rate": 1}', Outer).rate
    assert type(rate) is float and rate == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"steps": 5.0}', "Outer.steps is 5.0; it must be of type int"),
        ('{"steps": true}', "Outer.steps is True; it must be of type int"),
        ('{"steps": null}', "Outer.steps is None"),
        ("{}", "lacks the field 'steps'"),
        ('{"steps": 1, "stesp": 2}', "has no field 'stesp'"),
        ('{"steps": 1, "inner": {"widht": 2}}', "Outer.inner has no field 'widht'"),
        ('{"steps": 1, "inner": {"width": 0}}', "self.width=0 must be positive"),
        ('{"steps": 1, "inner": {"pair": [1]}}', "Outer.inner.pair has 1 items; it must have 2"),
        ('{"steps": 1, "layers": [{"width": "x"}]}', "Outer.layers[0].width is 'x'"),
        ('{"steps": 1, "mode": "mpi"}', "choose one of 'jit', 'pmap'"),
        ('{"steps": 1, "limit": "high"}', "Outer.limit"),
        ('{"steps": 1', "not a JSON config"),
    ],
)
def test_nonsense_is_refused_with_its_path(text: str, words: str) -> None:
    with pytest.raises(ValueError) as error:
        config.from_json(text, Outer)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_json_cannot_give_back_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Bad:
        items: object

    for items in ([1], {1}, {"a": 1}, b"x", len):
        with pytest.raises(ValueError, match=r"Bad\.items is "):
            config.to_json(Bad(items))


def test_difference_names_the_paths() -> None:
    other = dataclasses.replace(EXAMPLE, steps=4, inner=Inner(width=5, rates=(), pair=EXAMPLE.inner.pair))
    assert config.difference(EXAMPLE, EXAMPLE) == {}
    assert config.difference(EXAMPLE, other) == {"inner.width": (4, 5), "steps": (3, 4)}
    assert config.difference(EXAMPLE, Inner()) == {"": (EXAMPLE, Inner())}


def test_difference_sees_types_and_equal_nans() -> None:
    assert config.difference(Outer(steps=1, count=1), Outer(steps=1, count=1.0)) == {"count": (1, 1.0)}
    assert config.difference(Outer(steps=1, rate=math.nan), Outer(steps=1, rate=float("nan"))) == {}


def test_a_config_is_a_static_argument_of_jit() -> None:
    double = jax.jit(lambda x, config: x * config.width, static_argnums=1)
    assert double(2, Inner(width=3)) == 6


def test_load_runs_get_config(tmp_path: Path) -> None:
    path = tmp_path / "run.py"
    path.write_text("import fractions\ndef get_config():\n    from vasa_jax.arrays import FPS\n    return make(FPS)\n")
    with pytest.raises(NameError):  # an error in the file itself is not dressed up
        config.load(path)
    lines = (
        "import dataclasses",
        "@dataclasses.dataclass(frozen=True)",
        "class Run:",
        "    steps: int = 7",
        "def get_config():",
        "    return Run()",
    )
    path.write_text("\n".join(lines))
    assert config.load(str(path)).steps == 7


def test_a_config_is_found_by_its_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path(__file__).parents[1] / "configs"
    assert config.names() == sorted(path.stem for path in here.glob("*.py"))
    for name in config.names():
        assert config.find(name).samefile(here / f"{name}.py")
    assert config.load("demo_motion") == config.load(here / "demo_motion.py")


def test_an_installed_package_has_its_configs_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vasa_jax" / "configs").mkdir(parents=True)
    (tmp_path / "configs").mkdir()  # somebody else's
    (tmp_path / "vasa_jax" / "configs" / "small.py").touch()
    monkeypatch.setattr(config, "__file__", str(tmp_path / "vasa_jax" / "config.py"))
    assert config.names() == ["small"]


@pytest.mark.parametrize("name", ["demo_autoencodr", "demo_autoencoder.py", "configs/demo_autoencodr", "", ".", "a\0b"])
def test_an_unknown_config_lists_the_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="one of autoencoder_256, autoencoder_512, demo_") as error:
        config.load(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("missing.py", None, "is not a Python file"),
        ("run.yaml", "steps: 3", "is not a Python file"),
        ("run.py", "x = 1", "defines no function get_config()"),
        ("run.py", "def get_config():\n    return {'steps': 1}", "must return a dataclass instance"),
        ("run.py", "def get_config(:", "is not Python: invalid syntax"),
        ("run.py", "# coding: klingon", "is not Python: unknown encoding"),
        ("run.py", "\0", "is not Python: source code string cannot contain null bytes"),
    ],
)
def test_load_says_what_is_wrong(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as error:
        config.load(tmp_path / name)
    assert words in str(error.value) and name in str(error.value) and "\n" not in str(error.value)
