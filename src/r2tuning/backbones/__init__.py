"""Frozen backbones, whose last K layers the model reads.

Names are imported on first use, so that the registry of backbones does not import PyTorch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2tuning.backbones.base import Backbone, choose_device, load_backbone

__all__ = ["Backbone", "choose_device", "load_backbone"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from r2tuning.backbones import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
