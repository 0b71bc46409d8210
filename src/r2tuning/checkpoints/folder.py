"""A checkpoint folder: ``config.json``, ``model.safetensors`` and ``calibration.json``; nothing that can run code."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from r2tuning.checkpoints.published import CONFIG_FILE, WEIGHTS_FILE
from r2tuning.decoding.calibration import Calibration
from r2tuning.decoding.decode import DecodingConfig
from r2tuning.errors import CheckpointError, CheckpointWarning, OutputError
from r2tuning.files import (
    MOST_SETTINGS,
    explain,
    guard,
    parse_json,
    read_file,
    read_model,
    replace_folder,
    require_regular,
    write_atomically,
)
from r2tuning.hub import hash_file
from r2tuning.model.config import R2Config
from r2tuning.types import Summary

CALIBRATION_FILE = "calibration.json"
"""Optional, beside ``config.json`` and ``model.safetensors``."""

FORMAT_VERSION = 2
"""Raised whenever older code could not read a new folder."""

_PARTS = f"copy it again; a checkpoint folder has {CONFIG_FILE} and {WEIGHTS_FILE}"
_NAMED = 3  # keys that a message names before it only counts


class Provenance(BaseModel):
    """Where the weights come from.

    Attributes:
        source: A file or URL, or a recipe.
        sha256: Of the file.
        created_with: The r2tuning that wrote the folder.
        assumed: Whose frame rate, window, decoding and backbone the folder has, if the file did not say its own: of a
            published model or a recipe. None if they are known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    sha256: str | None = None
    created_with: str
    assumed: str | None = None


class CheckpointConfig(BaseModel):
    """Everything a checkpoint folder says about its weights.

    Attributes:
        format_version: Of the folder's layout.
        name: Shown in results, such as ``qvhighlights``.
        model: Shape of the model.
        backbone: Hub name or folder of the frozen backbone whose features the model reads.
        fingerprint: Of its weights; empty where that is unknown, as for the authors' checkpoints.
        summary: What token 0 of its frames is.
        fps: Frames per second in training.
        window: Seconds; longer videos are covered by overlapping windows of this length.
        decoding: Rounding and suppression of moments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: int = Field(default=FORMAT_VERSION, ge=1)
    name: str = Field(min_length=1)
    model: R2Config
    backbone: str = Field(min_length=1)
    fingerprint: str = ""
    summary: Summary = "cls"
    fps: float = Field(gt=0, le=1000)
    window: float = Field(gt=0, le=1e8)
    decoding: DecodingConfig
    provenance: Provenance


def save_checkpoint(folder: str | Path, state: Mapping[str, torch.Tensor], config: CheckpointConfig) -> None:
    """Writes a checkpoint folder atomically, replacing an older checkpoint.

    Args:
        folder: New, empty or a checkpoint, whose other files are left alone.
        state: ``R2Tuning.state_dict()``, on any device.
        config: Everything else in a checkpoint.
    """
    folder = Path(folder)
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: is a file; name a folder for the checkpoint")
        is_checkpoint = (folder / CONFIG_FILE).is_file() or (folder / WEIGHTS_FILE).is_file()
        if folder.is_dir() and any(folder.iterdir()) and not is_checkpoint:
            raise OutputError(f"{folder}: has files but no checkpoint; choose an empty or new folder")
        with replace_folder(folder, last=CONFIG_FILE) as new:
            save_file(weights, new / WEIGHTS_FILE, metadata={"format": "pt"})
            (new / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{folder}: checkpoint cannot be written ({explain(error)}); choose another folder"
        ) from error


def load_config(folder: str | Path) -> CheckpointConfig:
    """Reads and checks a folder's ``config.json``."""
    path = Path(folder) / CONFIG_FILE
    text = read_file(path, CheckpointError, _PARTS, MOST_SETTINGS)
    with guard(path, CheckpointError, "correct it, or copy the checkpoint again", CheckpointConfig):
        content = parse_json(text)
        version = content.get("format_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: format {version} is newer than this r2tuning reads (up to {FORMAT_VERSION}); upgrade r2tuning"
            )
        return CheckpointConfig.model_validate(content)


def load_state(folder: str | Path) -> dict[str, torch.Tensor]:
    """Reads a folder's ``model.safetensors``; `load_checkpoint` also checks that it fits the model."""
    path = Path(folder) / WEIGHTS_FILE
    with guard(path, CheckpointError, _PARTS):
        require_regular(path)
        return load_file(path)


def take_tensors(
    found: Mapping[str, object], expected: Mapping[str, tuple[int, ...]], source: Path
) -> dict[str, torch.Tensor]:
    """Exactly the expected tensors, checked and copied as fp32 on the CPU; ``source`` is named in errors.

    Example:
        >>> take_tensors({"gate": torch.zeros(4)}, {"gate": (3,)}, Path("a.pth"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        r2tuning.errors.CheckpointError: a.pth: wrong shape: 'gate' is [4], expected [3]; ...
    """
    tensors = {
        name: value
        for name, value in found.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.layout is torch.strided
        if value.device.type == "cpu" and value.untyped_storage().nbytes() >= value.nbytes  # stride 0 claims any size
    }
    problems = [
        _list_problem("missing", (repr(name) for name in expected if name not in found)),
        _list_problem("unexpected", (repr(name) for name in found if name not in expected)),
        _list_problem("not a plain float tensor:", (repr(n) for n in expected if n in found and n not in tensors)),
        _list_problem(
            "wrong shape:",
            (
                f"{name!r} is {list(tensors[name].shape)}, expected {list(shape)}"
                for name, shape in expected.items()
                if name in tensors and tuple(tensors[name].shape) != shape
            ),
        ),
    ]
    if text := "; ".join(filter(None, problems)):
        raise CheckpointError(f"{source}: {text}; these are not the weights of an R²-Tuning model of this shape")
    taken = {name: tensors[name].detach().to(torch.float32, copy=True).contiguous() for name in expected}
    infinite = (repr(name) for name, tensor in taken.items() if not tensor.isfinite().all())
    if problem := _list_problem("NaN or infinite values in", infinite):
        raise CheckpointError(f"{source}: {problem}; use a checkpoint from before training diverged")
    return taken


def _list_problem(what: str, keys: Iterable[str]) -> str:
    """``what key, key, key and 4 more``, or nothing where there are no keys."""
    keys = list(keys)
    if not keys:
        return ""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{what} {', '.join(keys[:_NAMED])}{more}"


class CalibrationRecord(BaseModel):
    """The content of ``calibration.json``: the calibration, the weights and, in words, the data it was fitted to."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights_sha256: str
    fitted_on: str
    calibration: Calibration


def save_calibration(folder: str | Path, calibration: Calibration, fitted_on: str, *, force: bool) -> None:
    """Writes ``calibration.json`` beside the weights that it was fitted to; ``force`` replaces an older one."""
    weights = hash_file(Path(folder) / WEIGHTS_FILE)
    record = CalibrationRecord(weights_sha256=weights, fitted_on=fitted_on, calibration=calibration)
    write_atomically(Path(folder) / CALIBRATION_FILE, record.model_dump_json(indent=2) + "\n", force=force)


def load_calibration(folder: str | Path) -> Calibration | None:
    """The calibration of a checkpoint folder; None without one or, with a warning, if the weights have changed since.

    An authors' ``.pth`` has none.
    """
    path = Path(folder) / CALIBRATION_FILE
    if not path.is_file():
        return None
    advice = "delete it, or run r2tuning calibrate again"
    record = read_model(path, CalibrationRecord, CheckpointError, advice)
    if record.weights_sha256 != hash_file(Path(folder) / WEIGHTS_FILE):
        warnings.warn(
            f"{path}: was fitted to other weights, so scores are not calibrated; run r2tuning calibrate again",
            CheckpointWarning,
            stacklevel=3,
        )
        return None
    return record.calibration
