"""Covers a long video with overlapping windows, and merges their predictions.

Position encodings are relative to the length of the input, so a video longer than those of the training is split.
Neighboring windows share half their frames: one of them sees all of a moment that is shorter than half a window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2tuning.decoding.decode import Moments
from r2tuning.intervals import elementwise_iou

SEAM = 0.04  # share of a window: a moment that ends this near to its edge counts as cut off by it
SAME = 0.5  # lowest IoU at which moments of two windows are one, and lowest ratio of their scores


@dataclass(frozen=True)
class Window:
    """Frames ``start`` (included) to ``stop`` (excluded) of a video."""

    start: int
    stop: int


def plan_windows(frames: int, length: int, overlap_ratio: float = 0.5) -> list[Window]:
    """Covers ``frames`` with windows of ``length``, or with one if they fit; the last one ends with the video.

    ``overlap_ratio``, in [0, 1), is the share of a window that overlaps the next.

    Example:
        >>> [(w.start, w.stop) for w in plan_windows(10, 4)]
        [(0, 4), (2, 6), (4, 8), (6, 10)]
    """
    if frames < 1 or length < 1 or not 0 <= overlap_ratio < 1:
        raise ValueError(f"cannot plan windows of {length} frames over {frames} with overlap {overlap_ratio}")
    if frames <= length:
        return [Window(0, frames)]
    step = max(1, round(length * (1 - overlap_ratio)))
    starts = [*range(0, frames - length, step), frames - length]
    return [Window(start, start + length) for start in starts]


def merge_saliency(windows: Sequence[Window], curves: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Merges the curves of `plan_windows` into ``[T]``: in overlaps, windows whose middle is nearer weigh more.

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
    return np.asarray(total / weight, np.float32)


def merge_presence(logits: Sequence[float]) -> float | None:
    """Log-odds that a video shows the query, from those of its windows; None without any.

    Each window's are odds at even chances. If the video shows the query, any window may be the one that does, so the
    odds of the video are the mean of theirs: having more windows to err in makes a long video no likelier.

    Example:
        >>> merge_presence([2.0]), round(merge_presence([2.0, -30.0]), 3)  # half the odds
        (2.0, 1.307)
    """
    if not logits:
        return None
    return float(np.logaddexp.reduce(np.asarray(logits, np.float64)) - np.log(len(logits)))


def merge_moments(windows: Sequence[Window], found: Sequence[Moments], fps: float) -> Moments:
    """Merges moments into one ranked list, without duplicates or pieces cut at the seams.

    Goes through the windows from left to right. Two moments are one if they agree in what both windows saw; the part
    that an edge cut off then comes from the other, so a moment may grow over many windows.

    ``found`` holds raw moments ``[N, 3]`` of each window, in seconds from the window's first frame. The merged ones are
    in seconds from the video's first frame, best first.

    Example:
        >>> windows = plan_windows(12, 8)  # frames 0 to 8 and 4 to 12
        >>> cut = [np.array([[2.0, 8.0, 0.7]]), np.array([[0.0, 6.0, 0.8]])]
        >>> merge_moments(windows, cut, fps=1.0).tolist()
        [[2.0, 10.0, 0.8]]
    """
    if len(windows) == 1:
        return found[0]
    seam = SEAM * (windows[0].stop - windows[0].start) / fps
    merged = np.zeros((0, 4))
    for window, moments in zip(windows, found, strict=True):
        # The ends of the video are not seams.
        low = -np.inf if window is windows[0] else window.start / fps
        high = np.inf if window is windows[-1] else window.stop / fps
        shift = window.start / fps
        moved = moments + np.array([shift, shift, 0.0])
        kept = moved[(moved[:, 1] > low + seam) & (moved[:, 0] < high - seam)]  # a neighbor sees the others better
        # Start, end, score, and the end of the window.
        seen = np.column_stack([kept[:, :2].clip(low, high), kept[:, 2], np.full(len(kept), high)])
        near = merged[:, 3] > low
        merged = np.concatenate([merged[~near], _match(merged[near], seen, low, seam)])
    return merged[(-merged[:, 2]).argsort(kind="stable"), :3]


def _match(before: Moments, after: Moments, low: float, seam: float) -> Moments:
    """Pairs moments ``[M, 4]`` of earlier windows with ``[N, 4]`` of one that begins at ``low``, best with best.

    Returns ``[≤ M + N, 4]``: each pair as one, and moments without a partner. A cut piece without one is left out
    where it only repeats a better moment.
    """
    after = after.copy()
    cut_end = before[:, 1] >= before[:, 3] - seam  # [M], which run out of the last window that saw them
    cut_start = after[:, 0] <= low + seam  # [N], which run into the window
    same = _same(before, after, cut_end, cut_start, low, seam)
    better = before[:, None, 2] >= after[None, :, 2]
    replaced = cut_end & (same & ~better).any(axis=1)
    repeated = cut_start & (same & better).any(axis=0)
    for n in (-after[:, 2]).argsort(kind="stable"):
        agree = np.minimum(before[:, 2], after[n, 2]) >= SAME * np.maximum(before[:, 2], after[n, 2])
        partners = np.flatnonzero(same[:, n] & agree)
        if not len(partners):
            continue
        m = partners[before[partners, 2].argmax()]
        best = before[m] if better[m, n] else after[n]
        start = before[m, 0] if cut_start[n] else best[0]
        end = after[n, 1] if cut_end[m] else best[1]
        after[n, :3] = start, end, best[2]
        same[m] = False  # taken
        replaced[m], repeated[n] = True, False
    return np.concatenate([before[~replaced], after[~repeated]])


def _same(
    before: Moments, after: Moments, cut_end: NDArray[np.bool_], cut_start: NDArray[np.bool_], low: float, seam: float
) -> NDArray[np.bool_]:
    """Which moments of earlier windows and of the next are one, ``[M, N]``.

    They must agree in what both windows saw, and as a whole once each gets the other's end where its own was cut off.
    """
    m, n = np.broadcast_arrays(before[:, None, :2], after[None, :, :2])
    reach = before[:, None, 3:]
    m_seen, n_seen = m.clip(low, reach), n.clip(low, reach)
    shared = elementwise_iou(m_seen, n_seen)
    # For a sliver seen by both, IoU says little: it is enough that they overlap and their ends are near.
    agree = (shared >= SAME) | ((shared > 0) & (np.abs(m_seen - n_seen) <= seam).all(axis=-1))
    m_end = np.where(cut_end[:, None], np.maximum(m[..., 1], n[..., 1]), m[..., 1])
    n_start = np.where(cut_start, np.minimum(m[..., 0], n[..., 0]), n[..., 0])
    whole = elementwise_iou(np.stack([m[..., 0], m_end], axis=-1), np.stack([n_start, n[..., 1]], axis=-1))
    return np.asarray(agree & (whole >= SAME))
