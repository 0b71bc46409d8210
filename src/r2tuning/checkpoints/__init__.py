"""Checkpoints: published ones by name, our own folders, and the authors' ``.pth`` files.

Names are loaded on first use, so that listing the published checkpoints does not import PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2tuning.checkpoints.domain import DOMAIN_FILE, Domain
    from r2tuning.checkpoints.folder import CheckpointConfig, Provenance, load_config, load_state, save_checkpoint
    from r2tuning.checkpoints.official import export_official, read_official
    from r2tuning.checkpoints.published import (
        DEMO,
        DEMO_FOLDER,
        DEMO_WORLD,
        PUBLISHED,
        PublishedCheckpoint,
        find_published,
        is_cached,
    )
    from r2tuning.checkpoints.resolve import (
        convert,
        fetch_published,
        find_checkpoint,
        load_checkpoint,
        read_checkpoint,
        resolve,
    )

__all__ = [
    "DEMO",
    "DEMO_FOLDER",
    "DEMO_WORLD",
    "DOMAIN_FILE",
    "PUBLISHED",
    "CheckpointConfig",
    "Domain",
    "Provenance",
    "PublishedCheckpoint",
    "convert",
    "export_official",
    "fetch_published",
    "find_checkpoint",
    "find_published",
    "is_cached",
    "load_checkpoint",
    "load_config",
    "load_state",
    "read_checkpoint",
    "read_official",
    "resolve",
    "save_checkpoint",
]

_HOMES = {
    "domain": ("DOMAIN_FILE", "Domain"),
    "folder": ("CheckpointConfig", "Provenance", "load_config", "load_state", "save_checkpoint"),
    "official": ("export_official", "read_official"),
    "published": (
        "DEMO",
        "DEMO_FOLDER",
        "DEMO_WORLD",
        "PUBLISHED",
        "PublishedCheckpoint",
        "find_published",
        "is_cached",
    ),
    "resolve": ("convert", "fetch_published", "find_checkpoint", "load_checkpoint", "read_checkpoint", "resolve"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
