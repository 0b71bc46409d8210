"""From a name, folder or file to a model: published checkpoints are fetched and converted on first use."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from r2tuning import __version__
from r2tuning.backbones.loading import find_download
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
from r2tuning.files import guard
from r2tuning.hub import fetch_cached, hash_file
from r2tuning.model import R2Config, R2Tuning

_STAND_IN = {"grounding": "qvhighlights", "saliency": "tvsum/BK"}


@dataclass(frozen=True)
class Settings:
    """What weights alone do not say: how their model was trained and how it answers.

    Attributes:
        source: Whose settings these are: a published model or a recipe.
        fps: As in `CheckpointConfig`, like the others.
        dropout: Of the two feature maps.
    """

    source: str
    fps: float
    window: float
    decoding: DecodingConfig
    dropout: float
    backbone: str = BACKBONE

    def __str__(self) -> str:
        unit = "times not rounded" if self.decoding.unit is None else f"times in multiples of {self.decoding.unit:g} s"
        return f"{self.fps:g} frames per second, windows of {self.window:g} s, {unit}, NMS {self.decoding.nms}"

    def complete(self, config: CheckpointConfig) -> CheckpointConfig:
        """The configuration with these settings."""
        update = {"fps": self.fps, "window": self.window, "decoding": self.decoding, "backbone": self.backbone}
        update["model"] = config.model.model_copy(update={"dropout": self.dropout})
        update["provenance"] = config.provenance.model_copy(update={"assumed": self.source})
        return config.model_copy(update=update)


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


@dataclass(frozen=True)
class Missing:
    """Something that a model needs and that is not on this machine: its name, size, and where a browser finds it."""

    name: str
    megabytes: int | None
    url: str

    def __str__(self) -> str:
        size = "size unknown" if self.megabytes is None else f"~{format_megabytes(self.megabytes)}"
        return f"{self.name} ({size})"


def format_megabytes(megabytes: int) -> str:
    """A size in words.

    Example:
        >>> format_megabytes(11), format_megabytes(1711)
        ('11 MB', '1.7 GB')
    """
    return f"{megabytes} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def find_missing(name_or_path: str | Path, backbone: str | Path | None = None) -> list[Missing]:
    """What must be downloaded before a checkpoint can be used with its backbone, or another; makes no request.

    Raises:
        CheckpointError: If there is no such checkpoint, or its configuration is damaged.
    """
    missing = []
    if isinstance(name_or_path, str) and is_published(name_or_path):
        entry = find_published(name_or_path)
        if not entry.is_cached:
            missing.append(Missing(entry.name, round(entry.approximate_size / 1e6), entry.url))
    return missing + find_missing_backbone(backbone or find_backbone(name_or_path))


def find_missing_backbone(name: str | Path) -> list[Missing]:
    """What must be downloaded before a backbone can be used: nothing, or all of it; makes no request."""
    found = find_download(str(name))
    return [] if found is None else [Missing(*found, f"https://huggingface.co/{found[0]}")]


def find_backbone(name_or_path: str | Path) -> str:
    """The hub name or folder of the backbone that a checkpoint was trained on; makes no request.

    Raises:
        CheckpointError: If there is no such checkpoint, or its configuration is damaged.
    """
    if isinstance(name_or_path, str) and is_published(name_or_path):
        return BACKBONE
    path = find_checkpoint(name_or_path)
    return load_config(path).backbone if path.is_dir() else BACKBONE


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


def read_checkpoint(name_or_path: str | Path, assume: Settings | None = None) -> tuple[CheckpointConfig, R2Tuning]:
    """The configuration and the model of a checkpoint, in eval mode on the CPU.

    An authors' ``.pth`` does not say how it was trained. A published one is recognized by its file name. For any other,
    settings are assumed, with a warning, and the configuration's ``provenance.assumed`` says whose they are.

    Args:
        name_or_path: As for `find_checkpoint`.
        assume: Settings to assume, also in place of those that were assumed when a file was converted; by default those
            of QVHighlights (grounding) or TVSum (saliency).
    """
    path = find_checkpoint(name_or_path)
    if path.is_dir() or path.suffix == ".safetensors":
        model = load_checkpoint(path)
        config = load_config(path)
        before = config.provenance.assumed
        if assume is not None and before is not None and before != assume.source:
            config = assume.complete(config)
            warnings.warn(
                f"{path}: its settings were assumed to be those of {before}, and are now those of {assume.source} "
                f"({assume}); correct config.json and remove provenance.assumed",
                CheckpointWarning,
                stacklevel=2,
            )
        return config, model
    config, state = _describe_official(path, assume=assume)
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
    path: Path, entry: PublishedCheckpoint | None = None, assume: Settings | None = None
) -> tuple[CheckpointConfig, dict[str, torch.Tensor]]:
    """The weights of an authors' file, and the settings it was trained with, or assumed ones."""
    from r2tuning.checkpoints.official import read_official

    model, state = read_official(path)
    sha256 = hash_file(path)
    entry = entry or match_published(path.name)
    name, source = path.stem, path.name
    known = entry is not None and entry.family == model.family
    if entry is None or not known:
        settings = assume or _settings_of(find_published(_STAND_IN[model.family]))
        warnings.warn(
            f"{path}: not a published file name, so settings of {settings.source} are assumed ({settings}); convert it "
            "and correct config.json if it was trained otherwise",
            CheckpointWarning,
            stacklevel=3,
        )
    else:
        name, settings = entry.name, _settings_of(entry)
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
        model=model.model_copy(update={"dropout": settings.dropout}),
        backbone=settings.backbone,
        fps=settings.fps,
        window=settings.window,
        decoding=settings.decoding,
        provenance=Provenance(
            source=source, sha256=sha256, created_with=__version__, assumed=None if known else settings.source
        ),
    )
    return config, state


def _settings_of(entry: PublishedCheckpoint) -> Settings:
    return Settings(
        entry.name, entry.fps, entry.window, DecodingConfig(unit=entry.unit, nms=entry.nms), dropout=entry.dropout
    )


def _build(config: R2Config, state: dict[str, torch.Tensor], path: Path) -> R2Tuning:
    # On meta, where shapes take no memory: the file's tensors are the largest that a configuration can ask for.
    with guard(path, CheckpointError, "correct config.json, or copy the checkpoint again"), torch.device("meta"):
        model = R2Tuning(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(take_tensors(state, expected, path), assign=True)
    return model.eval()
