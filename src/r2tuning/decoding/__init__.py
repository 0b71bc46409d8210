"""From predictions at points to ranked moments and a saliency curve."""

from r2tuning.decoding.decode import Decoded, DecodingConfig, decode

__all__ = ["Decoded", "DecodingConfig", "decode"]
