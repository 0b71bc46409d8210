"""From a video file to the features of its frames."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import TypeVar

from r2tuning.backbones import Backbone
from r2tuning.features.encoded import EncodedVideo, EncodingFacts, FeatureWriter
from r2tuning.hub import identify_file
from r2tuning.types import Sampling
from r2tuning.video import sample_frames
from r2tuning.video.preprocess import PREPROCESS_VERSION

Item = TypeVar("Item")

Progress = Callable[[int, int], None]
"""Called with the number of frames done and the number expected."""


def encode_video(
    path: str | Path,
    backbone: Backbone,
    fps: float,
    *,
    sampling: Sampling = "exact",
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress | None = None,
) -> EncodedVideo:
    """Samples a video at a fixed rate and runs the frozen image tower over it; memory does not grow with the video.

    Frames are decoded in another thread, so that the image tower does not wait for them. ``threads`` decode, None for
    one per core; ``batch_size`` frames go through the tower at once.
    """
    writer = FeatureWriter()
    try:
        stream = sample_frames(
            path, fps, backbone.preprocessing, batch_size=batch_size, sampling=sampling, threads=threads
        )
        with stream as frames, closing(read_ahead(frames, 2)) as batches:  # a batch takes 5 MB
            done = 0
            for batch in batches:
                new = batch.pixels[~batch.repeated]
                writer.append(backbone.encode_frames(new) if len(new) else None, batch.repeated)
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
                summary=backbone.summary,
                preprocess_version=PREPROCESS_VERSION,
                engine=backbone.engine,
                absolute=os.path.abspath(path),  # noqa: PTH100  (links are kept, as in `video`)
                identity=identify_file(path),
            )
        )
    except BaseException:  # also Ctrl-C: a temporary file must not outlive its reader
        writer.discard()
        raise


def read_ahead(items: Iterator[Item], ahead: int) -> Generator[Item, None, None]:
    """Prepares up to ``ahead`` items (none of them None) in a thread while the caller works on earlier ones.

    Yields the same items in order, and raises what they raise. Closing it ends the thread after its current item.

    Example:
        >>> list(read_ahead(iter("abc"), 2))
        ['a', 'b', 'c']
    """
    using = Lock()
    ended = False

    def take() -> Item | None:
        with using:
            return None if ended else next(items, None)

    thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        waiting = deque(thread.submit(take) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(take))
            yield item
    finally:
        thread.shutdown(wait=False, cancel_futures=True)
        with using:  # a thread whose start was interrupted is unknown to the executor, which cannot wait for it
            ended = True
        thread.shutdown()
