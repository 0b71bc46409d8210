"""Recipe files: small YAML files with the settings that differ from the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from r2tuning.errors import RecipeError
from r2tuning.files import first_problem
from r2tuning.training.config import Recipe

_FOLDER = Path(__file__).parents[1] / "recipes"


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package, such as ``charades-sta`` and ``tvsum/BK``."""
    return sorted(file.relative_to(_FOLDER).with_suffix("").as_posix() for file in _FOLDER.rglob("*.yaml"))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe of the package or a YAML file, which may start with ``extends: NAME``.

    Overrides are ``key=value`` with dotted keys, such as ``optimizer.lr=1e-4``; values are YAML.
    """
    values = _read(str(name), ())
    if isinstance(training := values.get("training"), dict):
        training.pop("fused", None)  # of runs made before version 0.2
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {override}: write key=value, such as optimizer.lr=1e-4")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {override}: {text!r} is not a YAML value") from error
        for part in reversed(key.split(".")):
            value = {part: value}
        values = _merge(values, value)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{name}: {first_problem(error, Recipe)}; correct it") from error


def write_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML that `load_recipe` reads."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise RecipeError(f"{name}: extends itself ({' → '.join((*seen, name))}); break the circle")
    values = _parse(name)
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = Path(name).parent / str(base)
    # Paths are relative to the file that names them.
    other = str(beside) if Path(name).is_file() and beside.is_file() and str(base) not in list_recipes() else str(base)
    return _merge(_read(other, (*seen, name)), values)


def _parse(name: str) -> dict[str, Any]:
    known = list_recipes()
    # A recipe of the package wins; a file of the same name is reached by ./NAME.
    exact = {recipe.lower(): recipe for recipe in known}
    try:
        if name.lower() in exact:
            text = (_FOLDER / f"{exact[name.lower()]}.yaml").read_text(encoding="utf-8")
        elif Path(name).is_file():
            text = Path(name).read_text(encoding="utf-8")
        else:
            near = get_close_matches(name.lower(), exact, n=1, cutoff=0.6)
            hint = f"did you mean {exact[near[0]]}?" if near else f"give a YAML file or one of {', '.join(known)}"
            raise RecipeError(f"{name}: no such recipe; {hint}")
        values = yaml.safe_load(text) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{name}: cannot be read ({error}); check the file") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: not YAML ({' '.join(str(error).split())}); correct the file") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{name}: holds {type(values).__name__}, not keys and values; correct the file")
    return values


def _merge(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged
