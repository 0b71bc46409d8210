"""From a name, folder or file to a model: published checkpoints are fetched and converted on first use."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from r2tuning import __version__
from r2tuning.checkpoints.folder import (
    CheckpointConfig,
    Provenance,
    load_config,
    load_state,
    save_checkpoint,
    take_tensors,
)
from r2tuning.checkpoints.published import (
    BACKBONE,
    DEMO,
    DEMO_FOLDER,
    REPOSITORY,
    PublishedCheckpoint,
    find_published,
    is_published,
    match_published,
    suggest_published,
)
from r2tuning.decoding.decode import DecodingConfig
from r2tuning.errors import CheckpointError, CheckpointWarning
from r2tuning.hub import fetch_cached, hash_file
from r2tuning.model import R2Config, R2Tuning

_STAND_IN = {"grounding": "qvhighlights", "saliency": "tvsum/BK"}


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The folder or file of a checkpoint on this machine; a published one is fetched first.

    Args:
        name_or_path: ``demo``, a published name, a checkpoint folder or an authors' ``.pth``. A name wins over a folder
            of that name; write ``./qvhighlights`` for the folder.
    """
    if isinstance(name_or_path, str):
        if name_or_path.lower() == DEMO:
            return DEMO_FOLDER
        if is_published(name_or_path):
            return fetch_published(find_published(name_or_path))
    if not Path(name_or_path).exists():
        hint = suggest_published(str(name_or_path), DEMO)
        raise CheckpointError(f"{name_or_path}: neither a file, a folder nor a published model; {hint}")
    return Path(name_or_path)


def load_checkpoint(path: str | Path) -> R2Tuning:
    """The model of a checkpoint folder or an authors' ``.pth``, in eval mode on the CPU.

    Raises:
        CheckpointError: If it is missing or damaged, or its weights do not fit the model in every name and shape.
    """
    path = Path(path)
    if path.is_dir():
        return _build(load_config(path).model, load_state(path), path)
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: weights without their configuration; pass the folder they belong to")
    from r2tuning.checkpoints.official import read_official

    return _build(*read_official(path), path)


def read_checkpoint(name_or_path: str | Path) -> tuple[CheckpointConfig, R2Tuning]:
    """The configuration and the model of a checkpoint, in eval mode on the CPU.

    An authors' ``.pth`` does not say how it was trained. A published one is recognized by its file name; for any other
    the settings of QVHighlights (grounding) or TVSum (saliency) are assumed, with a warning.
    """
    path = find_checkpoint(name_or_path)
    if path.is_dir() or path.suffix == ".safetensors":
        model = load_checkpoint(path)
        return load_config(path), model
    config, state = _describe_official(path)
    return config, _build(config.model, state, path)


def convert(pth: str | Path, folder: str | Path, entry: PublishedCheckpoint | None = None) -> CheckpointConfig:
    """Writes an authors' ``.pth`` as a checkpoint folder, and returns what ``config.json`` then says.

    Args:
        pth: The file.
        folder: New, empty, or an older checkpoint, which is replaced.
        entry: The published checkpoint that the file is; by default found by the file's name.
    """
    config, state = _describe_official(Path(pth), entry)
    save_checkpoint(folder, state, config)
    return config


def fetch_published(entry: PublishedCheckpoint) -> Path:
    """The cached checkpoint folder of a published model: downloaded, checked and converted on first use."""
    folder = entry.cached_folder
    if not entry.is_cached:
        advice = f"connect and try again, or fetch {entry.url} by other means and pass its path with --model"
        file = fetch_cached(REPOSITORY, entry.file, name=entry.name, advice=advice)
        found = hash_file(file)
        if not found.startswith(entry.sha256_prefix):
            while file.is_symlink():  # the hub's cache links to the content; without both, the next try starts over
                link, file = file, file.parent / file.readlink()
                link.unlink()
            file.unlink(missing_ok=True)
            raise CheckpointError(
                f"{entry.name}: the downloaded file has SHA-256 {found[:8]}…, expected {entry.sha256_prefix}…; "
                "it was removed, try again"
            )
        convert(file, folder, entry)
    return folder


def _describe_official(
    path: Path, entry: PublishedCheckpoint | None = None
) -> tuple[CheckpointConfig, dict[str, torch.Tensor]]:
    """The weights of an authors' file, and the settings it was trained with, or those of the nearest published one."""
    from r2tuning.checkpoints.official import read_official

    model, state = read_official(path)
    sha256 = hash_file(path)
    entry = entry or match_published(path.name)
    name, source = path.stem, path.name
    if entry is None or entry.family != model.family:
        entry = find_published(_STAND_IN[model.family])
        warnings.warn(
            f"{path}: not a published file name, so settings of {entry.name} are assumed ({entry.fps:g} frames per "
            f"second, windows of {entry.window:g} s); convert it and correct config.json if it was trained otherwise",
            CheckpointWarning,
            stacklevel=3,
        )
    else:
        name = entry.name
        if sha256.startswith(entry.sha256_prefix):
            source = entry.url
        else:
            warnings.warn(
                f"{path}: SHA-256 begins {sha256[:8]}, not {entry.sha256_prefix}: these are not the published weights "
                f"of {name}; fetch them with --model {name}",
                CheckpointWarning,
                stacklevel=3,
            )
    config = CheckpointConfig(
        name=name,
        model=model.model_copy(update={"dropout": entry.dropout}),
        backbone=BACKBONE,
        fps=entry.fps,
        window=entry.window,
        decoding=DecodingConfig(unit=entry.unit, nms=entry.nms),
        provenance=Provenance(source=source, sha256=sha256, created_with=__version__),
    )
    return config, state


def _build(config: R2Config, state: dict[str, torch.Tensor], path: Path) -> R2Tuning:
    model = R2Tuning(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(take_tensors(state, expected, path))
    return model.eval()
