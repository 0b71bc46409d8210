"""R²-Tuning as plain PyTorch modules, named after the parts of the paper."""

from r2tuning.model.config import R2Config
from r2tuning.model.r2tuning import R2Tuning

__all__ = ["R2Config", "R2Tuning"]
