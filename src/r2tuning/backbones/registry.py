"""The backbones with short names; any folder or hub repository in Hugging Face layout works as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownBackbone:
    """A backbone with a short name; its shape is in its configuration file, and in docs/backbones.md.

    Attributes:
        name: Short name.
        repository: Name on the Hugging Face hub. For a backbone in this package, the name that features and
            checkpoints store, which does not depend on where the package is installed.
        megabytes: About what a download fetches: four bytes for each weight.
        folder: Its folder in this package; None for one on the hub.
    """

    name: str
    repository: str
    megabytes: int
    folder: Path | None = None


KNOWN_BACKBONES = (
    KnownBackbone("ViT-B/32", "openai/clip-vit-base-patch32", 605),
    KnownBackbone("ViT-B/16", "openai/clip-vit-base-patch16", 599),
    KnownBackbone("ViT-L/14", "openai/clip-vit-large-patch14", 1711),
    KnownBackbone("ViT-L/14@336", "openai/clip-vit-large-patch14-336", 1711),
    KnownBackbone("LAION-B/32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 605),
    KnownBackbone("LAION-H/14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 3944),
    KnownBackbone("DataComp-B/32", "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", 605),
    KnownBackbone("DataComp-B/16", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", 599),
    KnownBackbone("DataComp-L/14", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", 1711),
    KnownBackbone("MetaCLIP-B/32", "facebook/metaclip-b32-400m", 605),
    KnownBackbone("SigLIP-B/16", "google/siglip-base-patch16-224", 813),
    KnownBackbone("SigLIP-SO400M/14@384", "google/siglip-so400m-patch14-384", 3512),
    KnownBackbone("SigLIP2-B/16", "google/siglip2-base-patch16-224", 1501),
    KnownBackbone("SigLIP2-L/16@256", "google/siglip2-large-patch16-256", 3526),
    KnownBackbone("SigLIP2-SO400M/14@384", "google/siglip2-so400m-patch14-384", 4545),
    KnownBackbone("demo", "r2tuning/demo", 0, Path(__file__).resolve().parents[1] / "assets" / "demo" / "clip"),
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
    """Returns a backbone's folder on this machine, outside the hub's cache: in this package, or the folder ``name``.

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
