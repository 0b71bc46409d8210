"""Which frame is sampled for each interval ``[i/fps, (i+1)/fps)`` of a video, for frames that stream by."""

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


def pick_frames(
    frames: Iterable[tuple[Fraction, Frame]], fps: Fraction, *, nearest: bool = False
) -> Iterator[tuple[Fraction, Frame]]:
    """Picks for interval i the last frame shown strictly before its center ``(i+1/2)/fps``, else the first frame.

    FFmpeg's ``fps`` filter picks the same frames, and the published features were made from them. With ``nearest``, the
    frame shown nearest to the center is picked; of two equally near, the earlier.

    ``frames`` are pairs of seconds since the first frame and the frame, in display order. Each pick is yielded as soon
    as it is certain. After the last frame, the iterator keeps yielding that frame.

    Example:
        >>> from itertools import islice
        >>> frames = [(Fraction(i, 4), i) for i in range(8)]
        >>> [frame for _, frame in islice(pick_frames(frames, Fraction(1)), 2)]
        [1, 5]
        >>> [frame for _, frame in islice(pick_frames([(0, "a"), (3, "b")], Fraction(1), nearest=True), 4)]
        ['a', 'a', 'b', 'b']
    """
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


def pick_cheap(
    keys: Iterable[tuple[Fraction, Frame]], references: Iterable[tuple[Fraction, Frame]], fps: Fraction
) -> Iterator[tuple[Fraction, Frame]]:
    """Picks for interval i the key frame nearest to its center if it has one, else the nearest reference frame.

    ``keys`` are the frames at which decoding can begin, ``references`` those that others are predicted from, keys
    included; both as in `pick_frames`.

    Example:
        >>> from itertools import islice
        >>> references = [(Fraction(i, 4), i) for i in range(8)]
        >>> [frame for _, frame in islice(pick_cheap(references[:1], references, Fraction(1)), 2)]
        [0, 6]
    """
    nearest = (pick_frames(frames, fps, nearest=True) for frames in (keys, references))
    for i, (key, reference) in enumerate(zip(*nearest, strict=True)):
        yield key if floor(key[0] * fps) == i else reference
