"""The two files of a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` has both files; an interrupted write leaves at most one."""
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()
