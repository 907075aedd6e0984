"""Recipes from recorded values, as in `run.json`, and with options changed by name."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import reduce
from operator import getitem
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from training.errors import TrainingError
from training.recipes import Recipe, get_recipe


def recipe_from_values(name: str, values: dict[str, Any]) -> Recipe:
    """Return the recipe recorded in `recipe_values`, which may be older than the recipe of that name.

    Raises:
        TrainingError: no recipe has that name, or this code has not all of the recorded options.
    """
    try:
        return _build(Recipe, values, get_recipe(name))
    except _UnknownOption as error:
        raise TrainingError(
            f"recipe {name!r} was recorded with {error}, which this code does not have; use the commit in "
            "environment.code of the record, or start a new run"
        ) from None


def set_options(name: str, recipe: Recipe, options: Sequence[str]) -> Recipe:
    """Change options of a recipe.

    Args:
        options: each is NAME=VALUE with a dotted name and a JSON value, such as `augmentation.pixels=4`. An object
            stands for a part with its own options: `mixing={"method":"mixup"}`.

    Raises:
        TrainingError: a name or a value is not one of a recipe's.
    """
    values: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    for option in options:
        path, _, text = option.partition("=")
        *parts, last = path.split(".")
        try:
            target = reduce(getitem, parts, values)
            target[last] = json.loads(text)
        except (KeyError, TypeError, ValueError):
            raise TrainingError(
                f"--set {option}: pass NAME=VALUE with a recipe's option and a JSON value, such as label_smoothing=0.1"
            ) from None
    try:
        return _build(Recipe, values, recipe)
    except (_UnknownOption, TypeError) as error:
        raise TrainingError(
            f"--set {' '.join(options)}: recipe {name!r} has no such option ({error}); training/recipes.py lists them"
        ) from None


class _UnknownOption(Exception):
    pass


Part = TypeVar("Part")


def _build(kind: type[Part], values: dict[str, Any], like: Any) -> Part:
    """Build a dataclass from recorded values; `like` tells which of several classes a part had."""
    hints, names = get_type_hints(kind), {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - names):
        raise _UnknownOption(f"{unknown[0]!r}")
    return kind(**{name: _part(name, hints[name], value, getattr(like, name, None)) for name, value in values.items()})


def _part(name: str, hint: Any, value: Any, like: Any) -> Any:
    if not isinstance(value, dict):
        try:
            return TypeAdapter(hint).validate_python(value)
        except ValidationError:
            raise _UnknownOption(f"{name} {value!r}") from None
    for kind in [type(like), *_classes(hint)]:
        if is_dataclass(kind) and _required(kind) <= value.keys() <= {field.name for field in fields(kind)}:
            return _build(kind, value, like)
    raise _UnknownOption(f"{name} {value!r}")


def _classes(hint: Any) -> Iterator[type]:
    for kind in get_args(hint) or (hint,):
        yield kind
        yield from kind.__subclasses__()


def _required(kind: Any) -> set[str]:
    return {field.name for field in fields(kind) if field.default is MISSING}
