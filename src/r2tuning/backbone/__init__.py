"""The frozen CLIP whose last K layers the model reads."""

from r2tuning.backbone.clip import ClipBackbone
from r2tuning.backbone.device import choose_device

__all__ = ["ClipBackbone", "choose_device"]
