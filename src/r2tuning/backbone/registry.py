"""The published CLIP models by their short names; any folder in Hugging Face layout works as well."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownBackbone:
    """A CLIP on the hub.

    Attributes:
        name: Short name.
        repository: Its place on the Hugging Face hub.
        image_size: Side of the square image, pixels.
        patches: P, patches per image.
        video_width: Dv.
        query_width: Dq.
        video_layers: Depth of the image tower.
        query_layers: Depth of the text tower.
    """

    name: str
    repository: str
    image_size: int
    patches: int
    video_width: int
    query_width: int
    video_layers: int
    query_layers: int


KNOWN_BACKBONES = (
    KnownBackbone("ViT-B/32", "openai/clip-vit-base-patch32", 224, 49, 768, 512, 12, 12),
    KnownBackbone("ViT-B/16", "openai/clip-vit-base-patch16", 224, 196, 768, 512, 12, 12),
    KnownBackbone("ViT-L/14", "openai/clip-vit-large-patch14", 224, 256, 1024, 768, 24, 12),
    KnownBackbone("ViT-L/14@336", "openai/clip-vit-large-patch14-336", 336, 576, 1024, 768, 24, 12),
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
