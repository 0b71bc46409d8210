"""A checkpoint folder: ``config.json``, ``model.safetensors`` and ``calibration.json``; nothing that can run code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from r2tuning.decoding.calibration import Calibration
from r2tuning.decoding.decode import DecodingConfig
from r2tuning.errors import CheckpointError, CheckpointWarning, OutputError
from r2tuning.files import first_problem, replace_folder, write_atomically
from r2tuning.hub import hash_file
from r2tuning.model.config import R2Config

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` has both files; an interrupted write leaves at most one."""
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


FORMAT_VERSION = 1
"""Raised whenever a folder written today could not be read by yesterday's code."""


class Provenance(BaseModel):
    """Where the weights come from.

    Attributes:
        source: File or URL the weights were converted from, or the recipe they were trained with.
        sha256: Hash of that file, where there is one.
        created_with: The r2tuning version that wrote the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    sha256: str | None = None
    created_with: str


class CheckpointConfig(BaseModel):
    """Everything a checkpoint folder says about its weights.

    Attributes:
        format_version: Of the folder's layout.
        name: Shown in results, such as ``qvhighlights``.
        model: Shape of the model.
        backbone: Hub name or folder of the frozen CLIP whose features the model reads.
        fps: Frames per second the model was trained with.
        window: Seconds; longer videos are covered by overlapping windows of this length.
        decoding: Rounding and suppression of moments.
        provenance: Where the weights come from.

    Raises:
        pydantic.ValidationError: If a field is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: int = Field(default=FORMAT_VERSION, ge=1)
    name: str = Field(min_length=1)
    model: R2Config
    backbone: str = Field(min_length=1)
    fps: float = Field(gt=0)
    window: float = Field(gt=0)
    decoding: DecodingConfig
    provenance: Provenance


def save_checkpoint(folder: str | Path, state: Mapping[str, torch.Tensor], config: CheckpointConfig) -> None:
    """Writes a checkpoint folder, as a whole or not at all; an older checkpoint there is replaced.

    Args:
        folder: Where to; made if need be. Other files in a checkpoint folder are left alone.
        state: ``R2Tuning.state_dict()``, on any device.
        config: Everything else a checkpoint says.

    Raises:
        OutputError: If ``folder`` is a file, holds files but no checkpoint, or cannot be written.
    """
    folder = Path(folder)
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: is a file; name a folder for the checkpoint")
        if folder.is_dir() and any(folder.iterdir()) and not _has_checkpoint_files(folder):
            raise OutputError(f"{folder}: has files but no checkpoint; choose an empty or new folder")
        with replace_folder(folder, last=CONFIG_FILE) as new:
            save_file(weights, new / WEIGHTS_FILE, metadata={"format": "pt"})
            (new / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{folder}: checkpoint cannot be written ({error}); choose another folder") from error


def load_config(folder: str | Path) -> CheckpointConfig:
    """Reads and checks a folder's ``config.json``.

    Raises:
        CheckpointError: If it is missing, not JSON, of a newer format, or has an unknown or wrong field.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror or error}; "
            f"a checkpoint folder has {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}; copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not an object; copy the checkpoint again")
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format {version} is newer than this r2tuning reads (up to {FORMAT_VERSION}); upgrade r2tuning"
        )
    try:
        return CheckpointConfig.model_validate(content)
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: {first_problem(error, CheckpointConfig)}; correct it, or copy the checkpoint again"
        ) from error


def load_state(folder: str | Path) -> dict[str, torch.Tensor]:
    """Reads a folder's ``model.safetensors`` as it is; `load_checkpoint` also checks that it fits the model.

    Raises:
        CheckpointError: If it is missing, truncated or not in the safetensors format.
    """
    path = Path(folder) / WEIGHTS_FILE
    try:
        return load_file(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror or 'no such file'}; "
            f"a checkpoint folder has {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated or not a safetensors file ({error}); copy it again") from error


def _has_checkpoint_files(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() or (folder / WEIGHTS_FILE).is_file()


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
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise CheckpointError(
            f"{path}: cannot be used ({reason}); delete it, or run r2tuning calibrate again"
        ) from error
    if record.weights_sha256 != hash_file(Path(folder) / WEIGHTS_FILE):
        warnings.warn(
            f"{path}: was fitted to other weights, so scores are not calibrated; run r2tuning calibrate again",
            CheckpointWarning,
            stacklevel=3,
        )
        return None
    return record.calibration
