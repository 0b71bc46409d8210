"""The published CLIP models by their short names; any folder in Hugging Face layout works as well."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownBackbone:
    """A CLIP on the hub; its shape is in its own configuration.

    Attributes:
        name: Short name.
        repository: Its place on the Hugging Face hub.
    """

    name: str
    repository: str


KNOWN_BACKBONES = (
    KnownBackbone("ViT-B/32", "openai/clip-vit-base-patch32"),
    KnownBackbone("ViT-B/16", "openai/clip-vit-base-patch16"),
    KnownBackbone("ViT-L/14", "openai/clip-vit-large-patch14"),
    KnownBackbone("ViT-L/14@336", "openai/clip-vit-large-patch14-336"),
)


def hub_name(name: str) -> str:
    """The hub repository of a short name; other names (folders, repositories) are returned as they are.

    Example:
        >>> hub_name("vit-b/32")
        'openai/clip-vit-base-patch32'
        >>> hub_name("./my-clip")
        './my-clip'
    """
    for known in KNOWN_BACKBONES:
        if name.lower() == known.name.lower():
            return known.repository
    return name
