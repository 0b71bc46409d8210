"""The folder of a run: recipe, environment, logs, checkpoints and the state to resume from."""

from __future__ import annotations

import csv
import json
import platform
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from r2tuning import __version__
from r2tuning.checkpoints import save_checkpoint
from r2tuning.checkpoints.folder import CheckpointConfig
from r2tuning.errors import TrainingError
from r2tuning.files import explain, guard, read_file, replace_file, require_regular, write_atomically
from r2tuning.output.charts.experiments import Curve, RunCurves
from r2tuning.processes import hold
from r2tuning.training.recipes import Recipe, load_recipe, write_recipe

RECIPE_FILE = "recipe.yaml"
ENVIRONMENT_FILE = "environment.json"
STATE_FILE = "state.pt"
LOG_FILE = "log.csv"
VALIDATION_FILE = "validation.csv"

OTHERS = ("step", "epoch", "lr", "waiting")
"""Columns of the logs that are neither losses nor scores."""

_PACKAGES = ("torch", "lightning", "tokenizers", "numpy", "safetensors", "av")
_FREE = ("epochs", "validate_every", "log_every", "checkpoint_every")
"""Settings of ``training`` that may change when a run resumes: they do not change what is computed."""


class RunFolder:
    """The files of a run; ``best`` and ``last`` are the checkpoints of those validations."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.best = self.path / "best"
        self.last = self.path / "last"

    def require_new(self) -> None:
        """Raises a `TrainingError` if the folder already holds a run."""
        if (self.path / RECIPE_FILE).exists():
            raise TrainingError(
                f"{self.path}: already holds a run; continue it with --resume, or choose another --run folder"
            )

    def hold(self) -> AbstractContextManager[None]:
        """Lets one process at a time write to the folder, which is made first."""
        with guard(self.path, TrainingError, "choose another --run folder"):
            self.path.mkdir(parents=True, exist_ok=True)
        return hold(self.path, TrainingError)

    def begin(self, recipe: Recipe) -> None:
        """Makes the folder and writes the recipe, package versions, seed and git state to it."""
        self.require_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _write_text(self.path / ENVIRONMENT_FILE, json.dumps(describe_environment(recipe), indent=2) + "\n")
            _write_text(self.path / RECIPE_FILE, write_recipe(recipe))
        except OSError as error:
            raise TrainingError(
                f"{self.path}: cannot be written ({explain(error)}); choose another --run folder"
            ) from error

    def resume(self, recipe: Recipe) -> dict[str, Any] | None:
        """The saved state of a run of the same recipe; None if it was interrupted before it saved one."""
        if not (self.path / RECIPE_FILE).is_file():
            raise TrainingError(f"{self.path}: holds no run to resume; leave out --resume")
        old = load_recipe(self.path / RECIPE_FILE)
        if _essence(old) != _essence(recipe):
            difference = _first_difference(_essence(old), _essence(recipe))
            raise TrainingError(f"{self.path}: belongs to another recipe ({difference}); choose another --run folder")
        _write_text(self.path / RECIPE_FILE, write_recipe(recipe))
        if not (self.path / STATE_FILE).is_file():
            return None
        with guard_state(self.path):
            require_regular(self.path / STATE_FILE)
            state: dict[str, Any] = torch.load(self.path / STATE_FILE, map_location="cpu", weights_only=True)
        return state

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replaces the saved state."""
        try:
            # torch raises RuntimeError for a full disk
            with replace_file(self.path / STATE_FILE, error=TrainingError, refusals=(RuntimeError,)) as part:
                torch.save(dict(state), part)
        except TrainingError as error:
            raise TrainingError(f"{error}; then continue with --resume") from error

    def save_model(self, folder: Path, weights: Mapping[str, torch.Tensor], config: CheckpointConfig) -> None:
        """Writes a checkpoint with the recipe and environment beside it."""
        save_checkpoint(folder, weights, config)
        for name in (RECIPE_FILE, ENVIRONMENT_FILE):
            _write_text(folder / name, (self.path / name).read_text(encoding="utf-8"))


def guard_state(run: Path) -> AbstractContextManager[None]:
    """Lets a block read a run's saved state, which may be damaged or of another shape."""
    return guard(f"{run / STATE_FILE}: damaged", TrainingError, "start again in another --run folder")


class Log:
    """Losses and validation scores, as two CSV files and for TensorBoard.

    Rows after ``step``, the number of steps done, are from before an interruption, and are removed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._step, self._folder = step, folder
        self._tables: dict[str, tuple[TextIO, csv.DictWriter[str]]] = {}
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def close(self) -> None:
        """Closes the files."""
        for file, _ in self._tables.values():
            file.close()
        self._board.close()

    def write(self, name: str, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Adds the losses of a step to `LOG_FILE`, or the scores of a validation to `VALIDATION_FILE`."""
        row = {"step": str(step), "epoch": str(epoch), **{metric: f"{x:.6g}" for metric, x in values.items()}}
        if name not in self._tables:
            self._tables[name] = self._open_table(self._folder / name, list(row))
        file, writer = self._tables[name]
        writer.writerow(row)
        file.flush()
        for metric, value in values.items():
            self._board.add_scalar(metric, value, step)

    def _open_table(self, path: Path, columns: list[str]) -> tuple[TextIO, csv.DictWriter[str]]:
        """Opens a CSV file to append to, without the rows of later steps."""
        with replace_file(path, error=TrainingError) as part, part.open("w", newline="", encoding="utf-8") as kept:
            writer = csv.DictWriter(kept, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            with _guard_log(path):
                writer.writerows(row for row in _read_rows(path) if int(row["step"]) <= self._step)
        file = path.open("a", newline="", encoding="utf-8")
        return file, csv.DictWriter(file, columns)


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a log, without the half row that a killed process may have left; none if there is no file."""
    if not path.exists():
        return []
    with _guard_log(path):
        lines = read_file(path, TrainingError, _LOG_ADVICE).decode().splitlines(keepends=True)
        rows = csv.DictReader((line for line in lines if line.endswith("\n")), restval="", strict=True)
        return [{name: value for name, value in row.items() if isinstance(name, str)} for row in rows]


_LOG_ADVICE = "it is damaged: move it away, or give another run"


def _guard_log(path: Path) -> AbstractContextManager[None]:
    return guard(path, TrainingError, _LOG_ADVICE)


def describe_environment(recipe: Recipe) -> dict[str, Any]:
    """What else the numbers of a run may depend on."""
    return {
        "r2tuning": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "seed": recipe.training.seed,
        "git": _git_state(),
    }


def _git_state() -> dict[str, Any] | None:
    """Commit of the code and whether it was changed since; None for an installed package."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, text, force=True, error=TrainingError)


def _essence(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json")
    for name in _FREE:
        del values["training"][name]
    del values["data"]["workers"]
    del values["model"]["init"]  # the saved weights take its place; runs of earlier versions do not name it
    return values


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    for key, value in old.items():
        if value != new[key]:
            if isinstance(value, dict):
                return _first_difference(value, new[key], f"{prefix}{key}.")
            return f"{prefix}{key} was {value}, is {new[key]}"
    return ""


def read_run(folder: Path, label: str) -> RunCurves:
    """Reads losses and scores of a run, which may still be going on, with its label in a chart."""
    if not (folder / LOG_FILE).is_file():
        raise TrainingError(f"{folder}: holds no {LOG_FILE}; give the folder of a run, see r2tuning train --run")
    return RunCurves(label, _read_columns(folder / LOG_FILE), _read_columns(folder / VALIDATION_FILE))


def _read_columns(path: Path) -> dict[str, Curve]:
    """A curve for each column but `OTHERS`, without rows that lack it."""
    rows = _read_rows(path)
    names = [name for name in (rows[0] if rows else ()) if name not in OTHERS]
    curves = {}
    for name in names:
        with _guard_log(path):
            known = [row for row in rows if row[name]]
            steps = np.array([int(row["step"]) for row in known], dtype=np.int64)
            curves[name] = Curve(steps, np.array([float(row[name]) for row in known]))
    return curves
