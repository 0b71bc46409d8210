"""Checkpoints: published ones by name, checkpoint folders, and the authors' ``.pth`` files.

Names are imported on first use, so that listing the published checkpoints does not import PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2tuning.checkpoints.domain import DOMAIN_FILE, Domain
    from r2tuning.checkpoints.folder import CheckpointConfig, load_config, load_state, save_checkpoint
    from r2tuning.checkpoints.published import PUBLISHED, find_published
    from r2tuning.checkpoints.resolve import convert, find_checkpoint, load_checkpoint, read_checkpoint

_HOMES = {
    "DOMAIN_FILE": "domain",
    "PUBLISHED": "published",
    "CheckpointConfig": "folder",
    "Domain": "domain",
    "convert": "resolve",
    "find_checkpoint": "resolve",
    "find_published": "published",
    "load_checkpoint": "resolve",
    "load_config": "folder",
    "load_state": "folder",
    "read_checkpoint": "resolve",
    "save_checkpoint": "folder",
}
__all__ = [
    "DOMAIN_FILE",
    "PUBLISHED",
    "CheckpointConfig",
    "Domain",
    "convert",
    "find_checkpoint",
    "find_published",
    "load_checkpoint",
    "load_config",
    "load_state",
    "read_checkpoint",
    "save_checkpoint",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
