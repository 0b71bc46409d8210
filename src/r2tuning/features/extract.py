"""From a video file to the features of its frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from r2tuning.backbone import ClipBackbone
from r2tuning.features.encoded import EncodedVideo, EncodingFacts, FeatureWriter
from r2tuning.types import Sampling
from r2tuning.video import sample_frames
from r2tuning.video.preprocess import PREPROCESS_VERSION

Progress = Callable[[int, int], None]
"""Called with the number of frames done and the number expected."""


def encode_video(
    path: str | Path,
    backbone: ClipBackbone,
    fps: float,
    *,
    sampling: Sampling = "exact",
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress | None = None,
) -> EncodedVideo:
    """Samples a video at a fixed rate and runs the frozen image tower over it; memory does not grow with the video.

    Args:
        path: Video file.
        backbone: The frozen CLIP.
        fps: Frames per second to sample.
        sampling: How frames are picked.
        batch_size: Frames that go through the tower at once.
        threads: To decode with; None for one for each core that the process may use.
        progress: Told of every batch.

    Raises:
        VideoError: If nothing of the file can be used.
        FeatureError: If there is no room for the features.
    """
    writer = FeatureWriter()
    try:
        stream = sample_frames(
            path, fps, backbone.image_size, batch_size=batch_size, sampling=sampling, threads=threads
        )
        with stream as frames:
            done = 0
            for batch in frames:
                writer.append(backbone.encode_frames(batch.pixels))
                done += len(batch.pixels)
                if progress is not None:
                    progress(done, max(done, frames.expected_frames))
            sampled = frames.sampled
        return writer.finish(
            EncodingFacts(
                video=str(path),
                duration=sampled.duration,
                start=sampled.start,
                fps=fps,
                sampling=sampled.sampling,
                truncated=sampled.truncated,
                backbone=backbone.name,
                fingerprint=backbone.fingerprint,
                preprocess_version=PREPROCESS_VERSION,
            )
        )
    except BaseException:  # also Ctrl-C: a temporary file must not outlive its reader
        writer.discard()
        raise
