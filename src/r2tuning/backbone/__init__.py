"""The frozen CLIP whose last K layers the model reads."""

from r2tuning.backbone.clip import ClipBackbone

__all__ = ["ClipBackbone"]
