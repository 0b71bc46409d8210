"""Covering a long video with overlapping windows, and merging what the model says of each into one answer.

The model's encodings are relative to the length of what it sees, so a video longer than those it was trained on is
shown to it in pieces. Neighbouring windows share half their frames; every moment shorter than half a window is thus
seen whole by at least one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2tuning.decoding.moments import Moments, overlap

SEAM = 0.04
"""Share of a window within which a moment counts as cut by the window's edge."""

SAME = 0.5
"""IoU from which moments of neighbouring windows count as one, and ratio of scores from which two pieces agree."""

COVERED = 0.8
"""Share of a cut piece that a whole moment must cover to replace it."""


@dataclass(frozen=True)
class Window:
    """Frames ``start`` (included) to ``stop`` (excluded) of a video."""

    start: int
    stop: int


def plan_windows(frames: int, length: int, overlap_ratio: float = 0.5) -> list[Window]:
    """Windows of equal length that cover a video; the last one ends with the video.

    Args:
        frames: T of the whole video, at least 1.
        length: Frames of one window, at least 1.
        overlap_ratio: Share of a window that it has in common with the next, in [0, 1).

    Returns:
        One window where the video fits.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> [(w.start, w.stop) for w in plan_windows(10, 4)]
        [(0, 4), (2, 6), (4, 8), (6, 10)]
        >>> plan_windows(3, 4)
        [Window(start=0, stop=3)]
    """
    if frames < 1 or length < 1 or not 0 <= overlap_ratio < 1:
        raise ValueError(f"cannot plan windows of {length} frames over {frames} with overlap {overlap_ratio}")
    if frames <= length:
        return [Window(0, frames)]
    step = max(1, round(length * (1 - overlap_ratio)))
    starts = [*range(0, frames - length, step), frames - length]
    return [Window(start, start + length) for start in starts]


def merge_saliency(windows: Sequence[Window], curves: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One curve for the whole video: where windows overlap, the one that sees a frame nearer its middle counts more.

    Args:
        windows: As `plan_windows` gave them.
        curves: ``[stop - start]`` for each window.

    Returns:
        ``[T]``.

    Example:
        >>> merge_saliency([Window(0, 2), Window(1, 3)], [np.float32([0, 1]), np.float32([0, 1])]).tolist()
        [0.0, 0.5, 1.0]
    """
    if len(windows) == 1:
        return curves[0]
    total = np.zeros(windows[-1].stop)
    weight = np.zeros(windows[-1].stop)
    for window, curve in zip(windows, curves, strict=True):
        near = np.arange(1, len(curve) + 1)
        trust = np.minimum(near, near[::-1])
        total[window.start : window.stop] += trust * curve
        weight[window.start : window.stop] += trust
    merged: NDArray[np.float32] = (total / weight).astype(np.float32)
    return merged


def merge_moments(windows: Sequence[Window], found: Sequence[Moments], fps: float) -> Moments:
    """One ranked list for the whole video, without doubles at the seams.

    Pieces of one moment that two windows both cut at their common seam are joined; a piece is dropped where a
    neighbour sees the moment whole; of two moments of neighbouring windows that say the same, the better stays.

    Args:
        windows: As `plan_windows` gave them.
        found: Raw moments ``[N, 3]`` of each window, in seconds from the window's first frame.
        fps: Sampled frames per second.

    Returns:
        ``[≤ ΣN, 3]``, in seconds from the video's first frame, best first.
    """
    if len(windows) == 1:
        return found[0]
    bounds = [(window.start / fps, window.stop / fps) for window in windows]
    lists = [
        _inside(moments + np.array([low, low, 0.0]), low if i else -np.inf, high if i < len(windows) - 1 else np.inf)
        for i, (moments, (low, high)) in enumerate(zip(found, bounds, strict=True))
    ]
    seam = SEAM * (bounds[0][1] - bounds[0][0])
    lists = _drop_cut_pieces(_join_pieces(lists, bounds, seam), bounds, seam)
    return _drop_doubles(lists)


def _inside(moments: Moments, low: float, high: float) -> Moments:
    """Clips moments to a window; beyond its seams the model has seen nothing."""
    clipped = moments.copy()
    clipped[:, :2] = clipped[:, :2].clip(low, high)
    return clipped[clipped[:, 1] > clipped[:, 0]]


def _join_pieces(lists: list[Moments], bounds: list[tuple[float, float]], seam: float) -> list[Moments]:
    """Joins, from left to right, the best piece that runs out of a window with the best that runs into the next.

    Both must fill what the two windows share, and agree on their score. The joined moment belongs to the later window.
    """
    joined = [moments.copy() for moments in lists]
    for i in range(len(joined) - 1):
        left, right = joined[i], joined[i + 1]
        shared_start, shared_end = bounds[i + 1][0], bounds[i][1]
        leaving = np.flatnonzero((left[:, 1] >= shared_end - seam) & (left[:, 0] <= shared_start + seam))
        entering = np.flatnonzero((right[:, 0] <= shared_start + seam) & (right[:, 1] >= shared_end - seam))
        if not len(leaving) or not len(entering):
            continue
        a, b = leaving[left[leaving, 2].argmax()], entering[right[entering, 2].argmax()]
        scores = left[a, 2], right[b, 2]
        if min(scores) < SAME * max(scores):
            continue
        right[b] = min(left[a, 0], right[b, 0]), right[b, 1], sum(scores) / 2
        joined[i] = np.delete(left, a, axis=0)
    return joined


def _drop_cut_pieces(lists: list[Moments], bounds: list[tuple[float, float]], seam: float) -> list[Moments]:
    """Drops pieces that end at a seam of their window where a neighbour's moment covers them and goes on beyond it."""
    kept = []
    for i, moments in enumerate(lists):
        low, high = bounds[i]
        others = np.concatenate([lists[j] for j in (i - 1, i + 1) if 0 <= j < len(lists)])
        shared = np.minimum(moments[:, None, 1], others[None, :, 1])
        shared = shared - np.maximum(moments[:, None, 0], others[None, :, 0])
        covers = shared >= COVERED * (moments[:, 1] - moments[:, 0])[:, None]
        agrees = others[None, :, 2] >= SAME * moments[:, None, 2]
        cut_right = (moments[:, 1] >= high - seam)[:, None] & (others[None, :, 1] > high + seam)
        cut_left = (moments[:, 0] <= low + seam)[:, None] & (others[None, :, 0] < low - seam)
        # Only joined moments begin before their window (but for the first, which has no seam there): they stay.
        joined = moments[:, 0] < (low if i else -np.inf)
        replaced = (covers & agrees & (cut_right | cut_left)).any(axis=1) & ~joined
        kept.append(moments[~replaced])
    return kept


def _drop_doubles(lists: list[Moments]) -> Moments:
    """Keeps, of moments of windows that overlap and say the same, the one with the best score."""
    moments = np.concatenate(lists)
    window = np.repeat(np.arange(len(lists)), [len(rows) for rows in lists])
    first = np.searchsorted(window, np.arange(len(lists) + 1))
    alive = np.ones(len(moments), dtype=bool)
    ranked = (-moments[:, 2]).argsort(kind="stable")
    for i in ranked:
        if not alive[i]:
            continue
        # The last window may reach back over two others, so look two windows to either side.
        near = slice(first[max(window[i] - 2, 0)], first[min(window[i] + 3, len(lists))])
        same = (overlap(moments[i], moments[near]) >= SAME) & (window[near] != window[i])
        alive[near] &= ~same
    return moments[ranked[alive[ranked]]]
