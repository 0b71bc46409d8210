"""Features of a video, made once and asked many times."""

from r2tuning.features.encoded import EncodedVideo, EncodingFacts
from r2tuning.features.extract import encode_video
from r2tuning.features.outline import outline_video

__all__ = ["EncodedVideo", "EncodingFacts", "encode_video", "outline_video"]
