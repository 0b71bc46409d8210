"""Which frame is sampled for each interval ``[i/fps, (i+1)/fps)`` of a video, for frames that stream by."""

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
    """Picks for interval i the last frame shown strictly before its center ``(i+1/2)/fps``, else the first frame.

    FFmpeg's ``fps`` filter picks the same frames; the published features were made of them.

    Args:
        frames: Time since the first frame in seconds, and the frame; in display order.
        fps: Intervals per second.

    Yields:
        The pick of each interval, as soon as it is certain. After the last frame, that one without end.

    Example:
        >>> from itertools import islice
        >>> frames = [(Fraction(i, 4), i) for i in range(8)]
        >>> [frame for _, frame in islice(pick_last_before(frames, Fraction(1)), 2)]
        [1, 5]
    """
    return _pick(frames, fps, nearest=False)


def pick_nearest(frames: Iterable[tuple[Fraction, Frame]], fps: Fraction) -> Iterator[tuple[Fraction, Frame]]:
    """Picks for interval i the frame shown nearest to its center ``(i+1/2)/fps``; of two, the earlier.

    Arguments and picks are as in `pick_last_before`.

    Example:
        >>> from itertools import islice
        >>> frames = [(Fraction(0), "a"), (Fraction(3), "b")]
        >>> [frame for _, frame in islice(pick_nearest(frames, Fraction(1)), 4)]
        ['a', 'a', 'b', 'b']
    """
    return _pick(frames, fps, nearest=True)


def pick_cheap(
    keys: Iterable[tuple[Fraction, Frame]], references: Iterable[tuple[Fraction, Frame]], fps: Fraction
) -> Iterator[tuple[Fraction, Frame]]:
    """Picks for interval i the key frame nearest to its center if it has one, else the nearest reference frame.

    Args:
        keys: Frames at which decoding can begin: time since the first frame in seconds, and the frame; in order.
        references: In the same form, the frames that others are predicted from, including the keys.
        fps: Intervals per second.

    Yields:
        The pick of each interval; after the last frame, without end.

    Example:
        >>> from itertools import islice
        >>> references = [(Fraction(i, 4), i) for i in range(8)]
        >>> [frame for _, frame in islice(pick_cheap(references[:1], references, Fraction(1)), 2)]
        [0, 6]
    """
    for i, (key, reference) in enumerate(zip(pick_nearest(keys, fps), pick_nearest(references, fps), strict=True)):
        yield key if floor(key[0] * fps) == i else reference


def _pick(
    frames: Iterable[tuple[Fraction, Frame]], fps: Fraction, *, nearest: bool
) -> Iterator[tuple[Fraction, Frame]]:
    centers = ((i + Fraction(1, 2)) / fps for i in count())
    center = next(centers)
    before: tuple[Fraction, Frame] | None = None
    for after in frames:
        while before is not None and after[0] >= center:
            yield after if nearest and after[0] - center < center - before[0] else before
            center = next(centers)
        before = after
    while before is not None:
        yield before
