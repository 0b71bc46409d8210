"""Facts about a video file, and its frames sampled at a fixed rate."""

from r2tuning.video.probe import probe
from r2tuning.video.sample import FrameStream, sample_frames

__all__ = ["FrameStream", "probe", "sample_frames"]
