"""The CLIP models with short names; any folder in Hugging Face layout works as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownBackbone:
    """A CLIP with a short name; its shape is in its configuration file.

    Attributes:
        name: Short name.
        repository: Name on the Hugging Face hub. For a CLIP in this package, the name that features and checkpoints
            store, which does not depend on where the package is installed.
        folder: Its folder in this package; None for a CLIP on the hub.
    """

    name: str
    repository: str
    folder: Path | None = None


KNOWN_BACKBONES = (
    KnownBackbone("ViT-B/32", "openai/clip-vit-base-patch32"),
    KnownBackbone("ViT-B/16", "openai/clip-vit-base-patch16"),
    KnownBackbone("ViT-L/14", "openai/clip-vit-large-patch14"),
    KnownBackbone("ViT-L/14@336", "openai/clip-vit-large-patch14-336"),
    KnownBackbone("demo", "r2tuning/demo", Path(__file__).resolve().parents[1] / "assets" / "demo" / "clip"),
)


def hub_name(name: str) -> str:
    """Returns the hub repository of a short name; returns folders and repositories unchanged.

    Example:
        >>> hub_name("vit-b/32"), hub_name("demo"), hub_name("./my-clip")
        ('openai/clip-vit-base-patch32', 'r2tuning/demo', './my-clip')
    """
    for known in KNOWN_BACKBONES:
        if name.lower() == known.name.lower():
            return known.repository
    return name


def find_folder(name: str) -> Path | None:
    """Returns the folder of a CLIP on this machine, outside the hub's cache: in this package, or the folder ``name``.

    A known name takes precedence over a folder; write ``./demo`` for the folder.

    Example:
        >>> find_folder("r2tuning/demo").parts[-3:], find_folder("ViT-B/32")
        (('assets', 'demo', 'clip'), None)
    """
    repository = hub_name(name)
    for known in KNOWN_BACKBONES:
        if known.folder is not None and repository == known.repository:
            return known.folder
    return Path(repository) if Path(repository).exists() else None
