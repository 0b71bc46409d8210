"""From predictions at points to ranked moments and a saliency curve."""

from r2tuning.decoding.config import DecodingConfig
from r2tuning.decoding.decode import Decoded, decode

__all__ = ["Decoded", "DecodingConfig", "decode"]
