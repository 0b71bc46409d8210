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
    if name in __all__:
        for home in ("published", "folder", "domain", "resolve"):  # the first imports no PyTorch
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
