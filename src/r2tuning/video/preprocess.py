"""Pixel preprocessing of frames, the only copy in the package: scales them, and cuts out the center where asked to.

The backbone says how (`Preprocessing`); it applies the mean and standard deviation itself, where it runs.
"""

import os

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from r2tuning.errors import VideoError
from r2tuning.files import guard, require_regular
from r2tuning.types import Preprocessing

MOST_PIXELS = 200_000_000
"""Of a picture; a small file may claim any size."""

PREPROCESS_VERSION = 1
"""Raised whenever the same frame would give other pixels; stored features record it."""

# libswscale's SWS_BILINEAR and SWS_BICUBIC, with SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND: without these two, colors are
# off by 1-2 levels. As numbers, because PyAV names the flags only in its newest versions.
_SCALERS = {"bilinear": 0x2 | 0x2000 | 0x40000, "bicubic": 0x4 | 0x2000 | 0x40000}


class Preprocessor:
    """Turns decoded frames into the square images that a backbone takes, turned clockwise by ``rotation`` degrees.

    Scaling happens in the color model of the frame, before the conversion to RGB; matrix and range follow its tags.
    Untagged video is read as BT.601, as by FFmpeg and by the tools that made the published features. They ignore the
    sample aspect ratio, and so does this. Use one instance per video: it keeps FFmpeg's scaler.
    """

    def __init__(self, wanted: Preprocessing, rotation: int = 0) -> None:
        self.wanted = wanted
        self.rotation = rotation
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Scales, crops, converts and turns one decoded frame; returns uint8 RGB ``[3, size, size]``."""
        size = self.wanted.size
        crops = self.wanted.fit == "crop"
        width, height = scaled_size(frame.width, frame.height, size) if crops else (size, size)
        # One thread: the decoder's threads need the cores meanwhile.
        scaled = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=_SCALERS[self.wanted.resampling], threads=1
        ).to_ndarray()
        # The crop is centered on the picture as displayed, where an odd pixel is left over at the right and bottom.
        top = (height - size + (crops and self.rotation in (90, 180))) // 2
        left = (width - size + (crops and self.rotation in (180, 270))) // 2
        crop = scaled[top : top + size, left : left + size]
        return np.ascontiguousarray(np.rot90(crop, -self.rotation // 90).transpose(2, 0, 1))


def scaled_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after scaling the short side to ``size`` pixels, rounded as CLIP's processor does.

    Example:
        >>> scaled_size(1280, 720, 224), scaled_size(270, 480, 224)
        ((398, 224), (224, 398))
    """
    if width < height:
        return size, size * height // width
    return size * width // height, size


def read_picture(path: str | os.PathLike[str], wanted: Preprocessing) -> np.ndarray:
    """Reads a picture, or the first frame of a video, as a backbone takes frames: uint8 RGB ``[3, size, size]``.

    Raises:
        VideoError: If the file is no picture, or a picture of over 200 million pixels.
    """
    with guard(path, VideoError, "name a picture, such as a JPEG or PNG file"):
        require_regular(path)
        with av.open(os.fspath(path)) as container:
            context = container.streams.video[0].codec_context
            if context.width * context.height > MOST_PIXELS:
                raise ValueError(f"has {context.width} x {context.height} pixels, over {MOST_PIXELS:,}")
            context.thread_type = "NONE"
            return Preprocessor(wanted)(next(container.decode(video=0)))
