"""Highlights: where a curve over a video is highest, and a curve for when there is no query."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import normalize

Highlight = tuple[float, float, float]  # start and end in seconds, and height
_ROUNDING = 1e-9  # seconds


def score_frames(tokens: Tensor) -> Tensor:
    """Scores frames, fp32 ``[T, D]``, T ≥ 1, by how typical of the video and how new each is.

    With unit vectors ``x``, frame t of T scores

        ``mean over u ≠ t of x_t · x_u  −  max(x_t · x_{t−1}, x_t · x_{t+1})``

    The first term is high for what the video shows a lot, the second for frames that repeat a neighbor. At a cut, the
    more similar neighbor is the one in the same shot, so cuts alone make nothing new. The lowest frame of a video gets
    0, the highest 1; all get 0.5 if they score the same.

    Example:
        >>> score_frames(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]])).round(decimals=2)
        tensor([0.0000, 0.0300, 0.2700, 1.0000])
    """
    frames = len(tokens)
    if frames == 1:
        return torch.full((1,), 0.5)
    unit = normalize(tokens.double(), dim=-1)
    own = (unit * unit).sum(dim=-1)  # 1, or 0 for a vector of zeros
    typical = (unit @ unit.sum(dim=0) - own) / (frames - 1)
    near = (unit[1:] * unit[:-1]).sum(dim=-1)
    edge = near.new_full((1,), -torch.inf)
    still = torch.maximum(torch.cat([near, edge]), torch.cat([edge, near]))
    worth = typical - still
    low, high = worth.aminmax()
    if high - low < 1e-9:  # rounding only
        return torch.full((frames,), 0.5)
    return ((worth - low) / (high - low)).float()


def find_highlights(
    times: ArrayLike, scores: ArrayLike, extent: tuple[float, float], top: int, seconds: float | None = None
) -> list[Highlight]:
    """Picks the highest peaks of a curve, at most ``top``, highest first; they do not overlap.

    A peak is a frame, or a run of equal ones, higher than its neighbors and above 0. It lasts for as long as the curve
    stays at or above half its height (its full width at half maximum), but not into a higher peak.

    With ``seconds``, each highlight is that long, centered on its peak, and holds the highest clip; it is shifted away
    from the ends of the video and from better highlights. Of several equally high clips of a peak, the first counts
    that lies in no better highlight and has room beside them; a peak without one is skipped.

    ``times`` are the centers of the frames' clips, and ``extent`` is when the video begins and ends, all in seconds.

    Example:
        >>> find_highlights([1, 3, 5, 7], [0.1, 0.75, 0.5, 0.125], (0, 8), top=5)
        [(2.0, 6.0, 0.75)]
        >>> find_highlights([1, 3, 5, 7], [0.1, 0.75, 0.5, 0.125], (0, 8), top=5, seconds=7)
        [(0.5, 7.5, 0.75)]
    """
    if top < 1 or (seconds is not None and not seconds > 0):
        raise ValueError(f"top and seconds must be positive, not {top} and {seconds}")
    centres, curve = np.asarray(times, np.float64), np.asarray(scores, np.float64)
    if len(curve) == 0:
        return []
    start, end = extent
    clip = (centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else end - start
    chosen: list[Highlight] = []
    for frame, first, last in _find_peaks(curve):
        low, high = max(centres[first] - clip / 2, start), min(centres[last] + clip / 2, end)
        if seconds is not None:
            length = min(seconds, end - start)
            tops = centres[first : last + 1][curve[first : last + 1] == curve[frame]]  # centers of the highest clips
            rooms = ((peak, _find_room(chosen, peak, extent)) for peak in tops.tolist())
            peak, room = next(((p, r) for p, r in rooms if r and r[1] - r[0] >= length - _ROUNDING), (0.0, None))
            if room is None:
                continue
            left, right = room
            earliest, latest = sorted((peak + clip / 2 - length, peak - clip / 2))
            begin = min(max((low + high - length) / 2, earliest), latest)
            low = max(min(begin, right - length), left)
            high = min(low + length, right)
        chosen.append((float(low), float(high), float(curve[frame])))
        if len(chosen) == top:
            break
    return chosen


def _find_room(taken: list[Highlight], time: float, extent: tuple[float, float]) -> tuple[float, float] | None:
    """The free seconds around a time, up to the ends of the video and other highlights; None if it lies in one."""
    if any(before < time < after for before, after, _ in taken):
        return None
    left = max([extent[0], *(after for _, after, _ in taken if after <= time)])
    return left, min([extent[1], *(before for before, _, _ in taken if before >= time)])


def _find_peaks(curve: NDArray[np.float64]) -> Iterator[tuple[int, int, int]]:
    """Peaks, highest first: the first of the highest frames, and the first and last frame of all."""
    runs = np.flatnonzero(np.r_[True, np.diff(curve) != 0])
    heights = np.r_[-np.inf, curve[runs], -np.inf]
    tops = runs[(heights[1:-1] > heights[:-2]) & (heights[1:-1] > heights[2:]) & (heights[1:-1] > 0)]
    free = np.ones(len(curve), dtype=bool)
    for frame in tops[np.argsort(-curve[tops], kind="stable")].tolist():
        if not free[frame]:
            continue
        inside = free & (curve >= curve[frame] / 2)
        outside = np.flatnonzero(~inside)
        split = int(np.searchsorted(outside, frame))
        first = int(outside[split - 1]) + 1 if split > 0 else 0
        last = int(outside[split]) - 1 if split < len(outside) else len(curve) - 1
        free[first : last + 1] = False
        yield frame, first, last
