"""Several spans of a video joined into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from r2tuning.media.footage import Footage
from r2tuning.media.mp4 import write_stretches
from r2tuning.media.whole import write_whole


def join(
    video: str,
    spans: Sequence[tuple[float, float]],
    target: Path,
    *,
    force: bool,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Joins spans of a video in the order of time, frame by frame and with their sound, into one MP4 file.

    Args:
        video: The file.
        spans: Start and end of each, in seconds on the player's clock; what several share is shown once.
        target: The file to write.
        force: Whether an existing file may be replaced.
        progress: Called after each frame with how many are written and how many there will be.

    Raises:
        OutputError: The file may not or cannot be written.
        ValueError: There are no spans, or one does not end after it starts.
        VideoError: The video cannot be read, or shows nothing in one of the spans.
    """
    footage = Footage(video)
    stretches = [footage.find(start, end) for start, end in merge_spans(spans)]
    with write_whole(target, force=force) as file:
        write_stretches(footage, stretches, file, progress)


def merge_spans(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Brings spans into the order of time, and makes one of those that touch or overlap.

    Args:
        spans: Start and end of each.

    Returns:
        Spans with something between them.

    Raises:
        ValueError: There is no span, or one does not end after it starts.

    Example:
        >>> merge_spans([(8, 9), (1, 3), (2, 5), (5, 6)])
        [(1, 6), (8, 9)]
    """
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if not start < end:
            raise ValueError(f"a span must end after it starts, not run from {start} s to {end} s")
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    if not merged:
        raise ValueError("there are no spans to join")
    return merged
