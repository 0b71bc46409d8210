"""Which frame stands for each clip ``[i/fps, (i+1)/fps)`` of a video, for frames that stream by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import count
from math import floor
from typing import TypeVar

Frame = TypeVar("Frame")


def count_clips(duration: Fraction, fps: Fraction) -> int:
    """Number of sampled frames ``T = floor(duration·fps + 1/2)``, at least 1.

    Example:
        >>> count_clips(Fraction(5), Fraction(1, 2)), count_clips(Fraction(1, 30), Fraction(1))
        (3, 1)
    """
    return max(1, floor(duration * fps + Fraction(1, 2)))


def pick_last_before(frames: Iterable[tuple[Fraction, Frame]], fps: Fraction) -> Iterator[tuple[Fraction, Frame]]:
    """Picks for clip i the last frame shown strictly before its centre ``(i+1/2)/fps``, else the first frame.

    These are the frames FFmpeg's ``fps`` filter picks, and the published features were made of.

    Args:
        frames: Time since the first frame in seconds, and the frame; in the order they are shown.
        fps: Clips per second.

    Yields:
        The pick of each clip, as soon as it is certain. After the last frame, that one without end.

    Example:
        >>> from itertools import islice
        >>> frames = [(Fraction(i, 4), i) for i in range(8)]
        >>> [frame for _, frame in islice(pick_last_before(frames, Fraction(1)), 2)]
        [1, 5]
    """
    centres = _centres(fps)
    centre = next(centres)
    pick: tuple[Fraction, Frame] | None = None
    for candidate in frames:
        while pick is not None and candidate[0] >= centre:
            yield pick
            centre = next(centres)
        pick = candidate
    while pick is not None:
        yield pick


def pick_nearest(frames: Iterable[tuple[Fraction, Frame]], fps: Fraction) -> Iterator[tuple[Fraction, Frame]]:
    """Picks for clip i the frame shown nearest to its centre ``(i+1/2)/fps``; of two, the earlier.

    Args:
        frames: Time since the first frame in seconds, and the frame; in the order they are shown.
        fps: Clips per second.

    Yields:
        The pick of each clip, as soon as it is certain. After the last frame, that one without end.

    Example:
        >>> from itertools import islice
        >>> frames = [(Fraction(0), "a"), (Fraction(3), "b")]
        >>> [frame for _, frame in islice(pick_nearest(frames, Fraction(1)), 4)]
        ['a', 'a', 'b', 'b']
    """
    centres = _centres(fps)
    centre = next(centres)
    before: tuple[Fraction, Frame] | None = None
    for candidate in frames:
        while before is not None and candidate[0] >= centre:
            yield before if centre - before[0] <= candidate[0] - centre else candidate
            centre = next(centres)
        before = candidate
    while before is not None:
        yield before


def pick_cheap(
    keys: Iterable[tuple[Fraction, Frame]], references: Iterable[tuple[Fraction, Frame]], fps: Fraction
) -> Iterator[tuple[Fraction, Frame]]:
    """Picks for clip i the key frame nearest to its centre if it has one, else the reference frame nearest to it.

    Args:
        keys: Frames that decoding can begin at: time since the first frame in seconds, and the frame; in order.
        references: Frames that others are predicted from, keys among them; likewise.
        fps: Clips per second.

    Yields:
        The pick of each clip; after the last frame, without end.

    Example:
        >>> from itertools import islice
        >>> references = [(Fraction(i, 4), i) for i in range(8)]
        >>> [frame for _, frame in islice(pick_cheap(references[:1], references, Fraction(1)), 2)]
        [0, 6]
    """
    for i, (key, reference) in enumerate(zip(pick_nearest(keys, fps), pick_nearest(references, fps), strict=True)):
        yield key if floor(key[0] * fps) == i else reference


def _centres(fps: Fraction) -> Iterator[Fraction]:
    return ((i + Fraction(1, 2)) / fps for i in count())
