"""From what a user types after ``--model`` to a model."""

from __future__ import annotations

from pathlib import Path

from r2tuning.checkpoints.config import CheckpointConfig
from r2tuning.checkpoints.demo import DEMO, DEMO_FOLDER
from r2tuning.checkpoints.download import fetch_published
from r2tuning.checkpoints.load import read_checkpoint
from r2tuning.checkpoints.registry import find_published, is_published, suggest_published
from r2tuning.errors import CheckpointError
from r2tuning.model import R2Tuning


def resolve(name_or_path: str | Path) -> tuple[CheckpointConfig, R2Tuning]:
    """The checkpoint that a name or a path stands for, its model in eval mode on the CPU.

    Args:
        name_or_path: As for `find_checkpoint`.

    Raises:
        CheckpointError: If it is none of these, or the checkpoint is damaged; the message has the nearest names.
        DownloadError: If a published checkpoint is not cached and cannot be fetched.
    """
    return read_checkpoint(find_checkpoint(name_or_path))


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The folder or file of a checkpoint on this machine; a published one is fetched first.

    Args:
        name_or_path: ``demo``, a published name, a checkpoint folder or an authors' ``.pth``. A name wins over a folder
            of that name; write ``./qvhighlights`` for the folder.

    Raises:
        CheckpointError: If it is none of these; the message has the nearest names.
        DownloadError: If a published checkpoint is not cached and cannot be fetched.
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
