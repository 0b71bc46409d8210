"""Checkpoints: published ones by name, our own folders, and the authors' ``.pth`` files.

Names are loaded on first use, so that listing the published checkpoints does not import PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2tuning.checkpoints.cache import is_cached
    from r2tuning.checkpoints.config import CheckpointConfig, Provenance
    from r2tuning.checkpoints.demo import DEMO, DEMO_FOLDER, DEMO_WORLD
    from r2tuning.checkpoints.domain import DOMAIN_FILE, Domain
    from r2tuning.checkpoints.download import fetch_published
    from r2tuning.checkpoints.files import load_config, load_state, save_checkpoint
    from r2tuning.checkpoints.load import convert, load_checkpoint, read_checkpoint
    from r2tuning.checkpoints.names import find_checkpoint, resolve
    from r2tuning.checkpoints.official import export_official, read_official
    from r2tuning.checkpoints.registry import PUBLISHED, PublishedCheckpoint, find_published

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
    "cache": ("is_cached",),
    "config": ("CheckpointConfig", "Provenance"),
    "demo": ("DEMO", "DEMO_FOLDER", "DEMO_WORLD"),
    "domain": ("DOMAIN_FILE", "Domain"),
    "download": ("fetch_published",),
    "files": ("load_config", "load_state", "save_checkpoint"),
    "load": ("convert", "load_checkpoint", "read_checkpoint"),
    "names": ("find_checkpoint", "resolve"),
    "official": ("export_official", "read_official"),
    "registry": ("PUBLISHED", "PublishedCheckpoint", "find_published"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
