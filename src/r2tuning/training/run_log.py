"""What a run has logged so far, for pictures of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from r2tuning.errors import TrainingError
from r2tuning.output.curves import Curve, RunCurves
from r2tuning.training.run_folder import LOG_FILE, VALIDATION_FILE

OTHERS = ("step", "epoch", "lr", "waiting")
"""Columns that are neither losses nor scores."""


def read_run(folder: Path, label: str) -> RunCurves:
    """Reads losses and scores of a run, which may still be under way.

    Args:
        folder: Of the run.
        label: What tells it from others.

    Raises:
        TrainingError: If the folder holds no log.
    """
    if not (folder / LOG_FILE).is_file():
        raise TrainingError(f"{folder}: holds no {LOG_FILE}; give the folder of a run, see r2tuning train --run")
    return RunCurves(label, _read_columns(folder / LOG_FILE), _read_columns(folder / VALIDATION_FILE))


def _read_columns(path: Path) -> dict[str, Curve]:
    """A curve for each column but `OTHERS`, without rows that lack it; none if there is no file yet."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # A killed process may have left half a row.
    rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))
    names = [name for name in (rows[0] if rows else ()) if name not in OTHERS]
    curves = {}
    for name in names:
        known = [row for row in rows if row[name]]
        steps = np.array([int(row["step"]) for row in known], dtype=np.int64)
        curves[name] = Curve(steps, np.array([float(row[name]) for row in known]))
    return curves
