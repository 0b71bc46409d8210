"""The known CLIP models by their short names; any folder in Hugging Face layout works as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownBackbone:
    """A CLIP with a short name; its shape is in its own configuration.

    Attributes:
        name: Short name.
        repository: Its place on the Hugging Face hub, or for one that comes with this package, what features and
            checkpoints call it wherever the package is installed.
        folder: Where this package has it; None for one on the hub.
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
    """The hub repository of a short name; other names (folders, repositories) are returned as they are.

    Example:
        >>> hub_name("vit-b/32"), hub_name("demo")
        ('openai/clip-vit-base-patch32', 'r2tuning/demo')
        >>> hub_name("./my-clip")
        './my-clip'
    """
    for known in KNOWN_BACKBONES:
        if name.lower() == known.name.lower():
            return known.repository
    return name


def find_folder(name: str) -> Path | None:
    """The folder of a CLIP on this machine: one that comes with this package, or the folder ``name``.

    A known name wins over a folder of that name; write ``./demo`` for the folder.

    Returns:
        None for what only the hub can have.

    Example:
        >>> find_folder("r2tuning/demo").parts[-3:]
        ('assets', 'demo', 'clip')
        >>> find_folder("ViT-B/32") is None
        True
    """
    repository = hub_name(name)
    for known in KNOWN_BACKBONES:
        if known.folder is not None and repository == known.repository:
            return known.folder
    return Path(repository) if Path(repository).exists() else None
