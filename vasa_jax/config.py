"""Configs are frozen dataclasses in Python files; this module loads them and writes and reads them as JSON.

A config file defines `get_config()`, which returns one value of frozen dataclasses, tuples, numbers, strings, bools
and None (nothing of the paper is computed here). Such a value hashes, so `jax.jit` takes it as a static argument, and
`from_json(to_json(config), type(config)) == config` holds, so that a run folder or a release can carry it.
"""

import dataclasses
import json
import os
import runpy
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vasa_jax.errors import UserError, reason, refusals

T = TypeVar("T")


def folder() -> Path:
    """Where the configs that come with this package are: inside of an installed one, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.with_name("configs")


def names() -> list[str]:
    """The configs that come with this package, as `find` and `load` take them."""
    return sorted(path.stem for path in folder().glob("*.py"))


def find(name: str | os.PathLike) -> Path:
    """The file of a config.

    Args:
        name: of one that comes with this package ("demo_autoencoder"), or the path of any Python file.

    Raises:
        UserError: for neither, listing the names.
    """
    if name in names():
        return folder() / f"{name}.py"
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"config {os.fspath(name)!r} is not a Python file; name one, or one of {', '.join(names())}")
    return path


def load(name: str | os.PathLike) -> Any:
    """Run the Python file that `find` gives for a name or a path and return what its `get_config()` returns.

    Raises UserError if there is no such file, if it is not Python, if it has no `get_config`, or if that returns
    something other than a dataclass instance. Errors inside the file itself pass through unchanged.
    """
    path = find(name)
    with refusals("read", path):
        text = path.read_bytes()
    try:
        compile(text, str(path), "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"config {str(path)!r} is not Python: {reason(error)}") from error
    get_config = runpy.run_path(str(path)).get("get_config")
    if not callable(get_config):
        raise UserError(f"config {str(path)!r} defines no function get_config(); add one that returns the experiment")
    config = get_config()
    if not _is_config(config):
        raise UserError(f"get_config() of {str(path)!r} returned {config!r}; it must return a dataclass instance")
    return config


def to_json(config: Any) -> str:
    """Write a config as JSON text, one field a line, with a final newline; `from_json` is its exact inverse.

    Raises UserError for a value that JSON could not give back (an array, a set, a function), naming the field.
    """
    return json.dumps(_encode(config, type(config).__name__), indent=2) + "\n"


def from_json(text: str, kind: type[T]) -> T:
    """Read JSON text as an instance of the dataclass `kind`; nested fields follow the annotations, lists become tuples.

    A field that the text lacks takes its default, so that a config written before the field existed still loads. Raises
    UserError with the path of the field for an unknown field, a missing one without default, or a value of another
    type, and for text that is not JSON; a dataclass's own `__post_init__` may raise too.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not a JSON config: {error}; write it with config.to_json") from error
    return _decode(value, kind, kind.__name__)


def difference(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Return where two configs differ: a dotted path of fields to the pair of their values; empty if they are equal.

    Dataclasses of the same class are compared field by field, everything else by value and type (so 1 and 1.0 differ,
    and NaN equals NaN). The path of two roots that differ as a whole is "".
    """
    return dict(_differences(a, b, ""))


def _is_config(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _encode(value: Any, path: str) -> Any:
    if _is_config(value):
        return {
            f.name: _encode(getattr(value, f.name), f"{path}.{f.name}") for f in dataclasses.fields(value) if f.init
        }
    if isinstance(value, tuple):
        return [_encode(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise UserError(f"{path} is {value!r}; configs hold dataclasses, tuples, numbers, strings, bools and None only")


def _decode(value: Any, kind: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(value, arguments, path)
    if origin is typing.Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise UserError(f"{path} is {value!r}; choose one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple and isinstance(value, list):
        return _decode_tuple(value, arguments, path)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _decode_fields(value, typing.cast(type, kind), path)
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind is type(None) and value is None or kind in (bool, int, str) and type(value) is kind:
        return value
    raise UserError(f"{path} is {value!r}; it must be of type {getattr(kind, '__name__', kind)}")


def _decode_union(value: Any, members: tuple[Any, ...], path: str) -> Any:
    """Return the first member that fits; an int is tried as int before float, whatever the order written."""
    errors = []
    for member in sorted(members, key=lambda member: member is float):
        try:
            return _decode(value, member, path)
        except ValueError as error:
            errors.append(str(error))
    raise UserError(errors[0] if len(errors) == 1 else f"{path} fits no member of its type: {'; '.join(errors)}")


def _decode_tuple(value: list[Any], arguments: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if arguments[-1:] == (Ellipsis,):
        arguments = arguments[:1] * len(value)
    if len(arguments) != len(value):
        raise UserError(f"{path} has {len(value)} items; it must have {len(arguments)}")
    return tuple(
        _decode(item, kind, f"{path}[{i}]") for i, (item, kind) in enumerate(zip(value, arguments, strict=True))
    )


def _decode_fields(value: Mapping[str, Any], kind: type, path: str) -> Any:
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind) if field.init}
    if unknown := sorted(set(value) - set(known)):
        raise UserError(f"{path} has no field {unknown[0]!r}; its fields are {', '.join(known)}")
    required = [
        name
        for name, field in known.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in required if name not in value]:
        raise UserError(f"{path} lacks the field {missing[0]!r}, which has no default; write it")
    fields = {name: _decode(item, hints[name], f"{path}.{name}") for name, item in value.items()}
    try:
        return kind(**fields)
    except (ArithmeticError, LookupError, TypeError) as error:  # what a check of its own did not think of
        raise UserError(f"{path} has values that do not go together: {reason(error)}") from error


def _differences(a: Any, b: Any, path: str) -> list[tuple[str, tuple[Any, Any]]]:
    if _is_config(a) and type(a) is type(b):
        return [
            pair
            for field in dataclasses.fields(a)
            for pair in _differences(getattr(a, field.name), getattr(b, field.name), f"{path}.{field.name}".lstrip("."))
        ]
    both_nan = isinstance(a, float) and isinstance(b, float) and a != a and b != b
    same = both_nan or (type(a) is type(b) and a == b)
    return [] if same else [(path, (a, b))]
