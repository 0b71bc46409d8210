"""Frozen backbones, whose last K layers the model reads."""

from r2tuning.backbones.base import Backbone, choose_device, load_backbone

__all__ = ["Backbone", "choose_device", "load_backbone"]
