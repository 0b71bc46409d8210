"""Frozen backbones, whose last K layers the model reads."""

from r2tuning.backbones.clip import ClipBackbone, choose_device

__all__ = ["ClipBackbone", "choose_device"]
