"""Our checkpoint folder: ``config.json`` and ``model.safetensors``, nothing that could run code.

A folder is complete when it has both files. ``config.json`` comes last and goes first, so that an interrupted write
leaves an incomplete folder, never weights beside the configuration of others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from r2tuning.checkpoints.config import FORMAT_VERSION, CheckpointConfig
from r2tuning.checkpoints.layout import CONFIG_FILE, WEIGHTS_FILE
from r2tuning.errors import CheckpointError, OutputError


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
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            new = Path(scratch) / "checkpoint"  # TemporaryDirectory itself is closed to others
            new.mkdir()
            save_file(weights, new / WEIGHTS_FILE, metadata={"format": "pt"})
            (new / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
            _move_into_place(new, folder)
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
        raise CheckpointError(f"{path}: {_first_problem(error)}") from error


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


def _move_into_place(new: Path, folder: Path) -> None:
    try:
        new.rename(folder)  # the one atomic step where nothing is there yet
    except OSError:
        if not folder.is_dir():
            raise
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        (new / WEIGHTS_FILE).replace(folder / WEIGHTS_FILE)
        (new / CONFIG_FILE).replace(folder / CONFIG_FILE)


def _first_problem(error: ValidationError) -> str:
    """One line about the first wrong field, with the nearest valid name where it is unknown."""
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(problem["loc"][-1]), _fields(problem["loc"][:-1]), n=1, cutoff=0)
        return f"unknown field {field!r}; did you mean {near[0]!r}?"
    if problem["type"] == "missing":
        return f"field {field!r} is missing; copy the checkpoint again"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{field or 'config'}: {reason} (found {problem['input']!r}); correct it"


def _fields(location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that ``CheckpointConfig`` knows at a location."""
    model: type[BaseModel] = CheckpointConfig
    for part in location:
        inner = model.model_fields[str(part)].annotation
        assert isinstance(inner, type)  # only nested models report unknown fields
        assert issubclass(inner, BaseModel)
        model = inner
    return list(model.model_fields)
