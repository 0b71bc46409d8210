"""Features of a video: encoded once, grounded many times."""

from r2tuning.features.encode import encode_video
from r2tuning.features.encoded import FEATURE_SUFFIX, EncodedVideo, EncodingFacts

__all__ = ["FEATURE_SUFFIX", "EncodedVideo", "EncodingFacts", "encode_video"]
