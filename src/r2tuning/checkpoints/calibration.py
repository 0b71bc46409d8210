"""``calibration.json`` of a checkpoint folder: what the scores of its weights mean, and of no others."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from r2tuning.checkpoints.layout import WEIGHTS_FILE
from r2tuning.decoding.calibration import Calibration
from r2tuning.errors import CheckpointError, CheckpointWarning
from r2tuning.hub.digest import hash_file
from r2tuning.output.files import write_atomically

CALIBRATION_FILE = "calibration.json"
"""Its name in a checkpoint folder, where it may be."""


class CalibrationRecord(BaseModel):
    """The content of the file.

    Attributes:
        weights_sha256: Hash of the weights that it was fitted to.
        fitted_on: The data, for people.
        calibration: The maps.

    Raises:
        pydantic.ValidationError: If a field is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights_sha256: str
    fitted_on: str
    calibration: Calibration


def save_calibration(folder: str | Path, calibration: Calibration, fitted_on: str, *, force: bool) -> None:
    """Writes a calibration beside the weights that it was fitted to; whoever loads the folder then uses it.

    Args:
        folder: A checkpoint folder.
        calibration: What to write.
        fitted_on: The data, for people.
        force: Whether an older one may be replaced.

    Raises:
        OutputError: If there is one already, or it cannot be written.
    """
    weights = hash_file(Path(folder) / WEIGHTS_FILE)
    record = CalibrationRecord(weights_sha256=weights, fitted_on=fitted_on, calibration=calibration)
    write_atomically(Path(folder) / CALIBRATION_FILE, record.model_dump_json(indent=2) + "\n", force=force)


def load_calibration(folder: str | Path) -> Calibration | None:
    """Reads a file written by `save_calibration`.

    Args:
        folder: A checkpoint folder; or an authors' ``.pth``, which has none.

    Returns:
        None where there is none, or, with a warning, where the weights have changed since.

    Raises:
        CheckpointError: If it is damaged.
    """
    path = Path(folder) / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        record = CalibrationRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be used ({_first_line(error)}); delete it, or run r2tuning calibrate again"
        ) from error
    if record.weights_sha256 != hash_file(Path(folder) / WEIGHTS_FILE):
        warnings.warn(
            f"{path}: was fitted to other weights, so scores are not calibrated; run r2tuning calibrate again",
            CheckpointWarning,
            stacklevel=3,
        )
        return None
    return record.calibration


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return str(error)
