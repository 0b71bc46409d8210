"""Finds hard cuts: places where a frame differs from the one before far more than the frames around do."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from r2tuning.errors import VideoError
from r2tuning.video.container import open_video
from r2tuning.video.probe import survey
from r2tuning.video.sequential import Coverage, decode_in_order

Picture = NDArray[np.float32]  # [rows, columns, 3], a small copy of a frame; levels 0 to 255

# Pixels of the small copies: noise averages out, and cuts still show.
WIDTH, HEIGHT = 32, 18
# Seconds on either side of a cut that it is compared with, and for which the new picture must stay.
REACH = 0.5
# How many times a cut exceeds the mean change on either side: fast motion changes all the time.
RATIO = 3.0
# The share of the picture that must change by this many levels: an object that appears is not a cut.
SHARE, LEVELS = 0.4, 10.0

_AREA = 0x20  # libswscale's SWS_AREA: every pixel of the frame counts
_REPORT = 64  # frames between two reports of progress


def detect_shots(
    path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None
) -> list[tuple[float, float]]:
    """Finds the shots of a video, which lie between its hard cuts.

    All frames are decoded, scaled to `WIDTH` × `HEIGHT` pixels and compared (`find_cuts`), in constant memory. Fades
    and dissolves are not cuts. Shots last at least `REACH`. ``progress`` is called with the numbers of frames done and
    expected. Raises `VideoError` if no frame can be decoded.

    Returns starts and ends in seconds on the player's clock, without gaps, from the first frame to the end of the last.
    """
    found = survey(path)
    info = found.info
    times: list[float] = []
    coverage = Coverage(found.timeline, info.frame_rate)

    def read() -> Iterator[Picture]:
        scaler = VideoReformatter()
        with open_video(path) as stream:
            for time, frame in decode_in_order(stream, coverage):
                times.append(float(time))
                if progress is not None and len(times) % _REPORT == 0:
                    progress(len(times), max(len(times), len(found.timeline.ticks)))
                small = scaler.reformat(frame, WIDTH, HEIGHT, format="rgb24", interpolation=_AREA, threads=1)
                yield small.to_ndarray().astype(np.float32)

    cuts = list(find_cuts(read(), max(2, round(REACH * info.frame_rate))))
    if not times:
        raise VideoError(f"{info.path}: no frame can be decoded; copy or download it again")
    edges = [0.0, *(times[cut] for cut in cuts), float(coverage.duration)]
    return [(info.start + start, info.start + end) for start, end in pairwise(edges)]


def find_cuts(pictures: Iterable[Picture], reach: int) -> Iterator[int]:
    """Finds hard cuts between pictures of one size; yields the index of the first picture after each.

    With ``d(a, b)`` the mean absolute difference of two pictures, there is a cut before picture i if

    - ``d(i-1, i)`` is the largest change from one picture to the next among the ``reach`` before it and the ``reach``
      after it, and at least `RATIO` times the mean of either;
    - at least `SHARE` of the picture changes by `LEVELS` levels or more;
    - the new picture stays for ``reach`` pictures: every ``d(i-1, i+k)`` and ``d(i-1-k, i)`` is at least half of the
      change. A flash comes and goes, and is not a cut.

    Within ``reach`` pictures of the beginning or end, no cut is found.

    Example:
        >>> black, white = np.zeros((2, 2, 3), np.float32), np.full((2, 2, 3), 200, np.float32)
        >>> list(find_cuts([black] * 5 + [white] * 7 + [black] * 9, reach=3))
        [5, 12]
        >>> list(find_cuts([black] * 5 + [white] * 1 + [black] * 9, reach=3))  # a flash
        []
    """
    window: deque[Picture] = deque(maxlen=2 * reach + 2)
    changes: deque[float] = deque(maxlen=2 * reach + 1)  # changes[k] is from window[k] to window[k + 1]
    for index, picture in enumerate(pictures):
        if window:
            changes.append(_difference(window[-1], picture))
        window.append(picture)
        if len(window) == 2 * reach + 2 and _is_cut(window, changes, reach):
            yield index - reach


def _is_cut(window: deque[Picture], changes: deque[float], reach: int) -> bool:
    """Whether there is a cut in the middle of the window, after the picture at ``reach``."""
    before, after = window[reach], window[reach + 1]
    *earlier, change = islice(changes, reach + 1)
    later = list(islice(changes, reach + 1, None))
    calm = max(sum(earlier), sum(later)) / reach
    if change <= max(earlier) or change < max(later) or change < RATIO * calm:
        return False
    if (np.abs(after - before).mean(axis=-1) >= LEVELS).mean() < SHARE:
        return False
    return all(
        _difference(before, window[reach + 1 + k]) >= change / 2 and _difference(window[reach - k], after) >= change / 2
        for k in range(1, reach + 1)
    )


def _difference(one: Picture, other: Picture) -> float:
    return float(np.abs(one - other).mean())
