"""Choosing the shots that sum up a video within a budget: pieces of shots, and the 0/1 knapsack that picks them."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor

import numpy as np
from numpy.typing import ArrayLike, NDArray

LONGEST = 10.0  # seconds; a longer shot can be taken in part
PARTS = 4  # at least as many pieces of a long shot fit into a budget
STEP = 0.1  # seconds in which lengths are counted, rounded up: a choice never exceeds its budget
SHORTEST = 0.01  # seconds; of a smaller budget, so much is shown all the same
_ROUNDING = 1e-6  # seconds

Spans = NDArray[np.float64]  # [n, 2], starts and ends in seconds
ScoredSpan = tuple[float, float, float]  # start and end in seconds, and mean saliency


def choose_shots(
    times: ArrayLike,
    scores: ArrayLike,
    extent: tuple[float, float],
    shots: Sequence[tuple[float, float]],
    budget: float,
) -> list[ScoredSpan]:
    """Chooses the shots of the greatest total saliency within a budget: a 0/1 knapsack, solved exactly.

    A shot is worth its mean saliency times its length. One that is longer than `LONGEST`, or than a quarter of the
    budget (but no less than one sampled frame stands for), is first cut into equal pieces that are not. Where no piece
    fits, or none is worth more than 0, the one of the highest mean is taken, cut to the budget about its middle, but to
    no less than `SHORTEST`.

    ``times`` are the centers of the frames' clips, and ``extent`` is when the video begins and ends; ``shots``, in time
    order, are cut to it. Returns the chosen shots in time order, with pieces that touch joined.

    Example:
        >>> choose_shots([1, 3, 5, 7], [0.25, 0.75, 0.5, 0.0], (0, 8), [(0, 2), (2, 6), (6, 8)], budget=4)
        [(2.0, 6.0, 0.625)]
    """
    centers, curve = np.asarray(times, np.float64), np.asarray(scores, np.float64)
    edges = np.r_[extent[0], (centers[1:] + centers[:-1]) / 2, extent[1]]  # a frame stands for what is nearest to it
    total = np.r_[0, np.cumsum(curve * np.diff(edges))]

    def integrate(spans: Spans) -> NDArray[np.float64]:
        return np.asarray(np.diff(np.interp(spans, edges, total), axis=1)[:, 0])

    pieces = cut_shots(shots, extent, budget, (extent[1] - extent[0]) / max(1, len(curve)))
    if len(pieces) == 0:
        return []
    worth, lengths = integrate(pieces), pieces[:, 1] - pieces[:, 0]
    if lengths.sum() <= budget + _ROUNDING:
        chosen = np.flatnonzero(worth > 0).tolist()
    else:
        sizes = [ceil((length - _ROUNDING) / STEP) for length in lengths.tolist()]
        chosen = choose_items(worth.tolist(), sizes, floor((budget + _ROUNDING) / STEP))
    if chosen:
        taken = pieces[chosen]
    else:
        best = int((worth / lengths).argmax())
        cut = max(0.0, (lengths[best] - max(budget, SHORTEST)) / 2)
        taken = pieces[[best]] + [cut, -cut]
    apart = taken[1:, 0] - taken[:-1, 1] > _ROUNDING
    spans = np.column_stack([taken[np.r_[True, apart], 0], taken[np.r_[apart, True], 1]])
    means = integrate(spans) / (spans[:, 1] - spans[:, 0])
    return [(start, end, mean) for (start, end), mean in zip(spans.tolist(), means.tolist(), strict=True)]


def cut_shots(shots: Sequence[tuple[float, float]], extent: tuple[float, float], budget: float, clip: float) -> Spans:
    """Shots within an extent, the long ones in equal pieces (see `choose_shots`), none shorter than ``clip``."""
    # A whole number of steps, so that as many pieces still fit once their lengths are rounded up.
    longest = max(min(LONGEST, floor(budget / PARTS / STEP) * STEP), clip)
    pieces: list[tuple[float, float]] = []
    for low, high in shots:
        start, end = max(low, extent[0]), min(high, extent[1])
        if end - start > _ROUNDING:
            count = ceil((end - start - _ROUNDING) / longest)
            pieces += pairwise(np.linspace(start, end, max(1, count) + 1).tolist())
    return np.array(pieces, np.float64).reshape(-1, 2)


def choose_items(values: Sequence[float], sizes: Sequence[int], capacity: int) -> list[int]:
    """Solves the 0/1 knapsack exactly, by dynamic programming over the room that is used.

    Returns ascending indices of the items of the greatest total value that fit, one choice of equally good ones. Values
    that are not positive are never taken; sizes are at least 1. The time is proportional to items × capacity, and the
    memory is an eighth of that in bytes.

    Example:
        >>> choose_items([6.0, 5.0, 5.0], sizes=[4, 3, 3], capacity=6)
        [1, 2]
    """
    if capacity < 0 or any(size < 1 for size in sizes):
        raise ValueError(
            f"sizes must be at least 1 and the capacity at least 0, not {min(sizes, default=1)}, {capacity}"
        )
    best = np.zeros(capacity + 1)  # value that fits into each room
    taken = []  # of each item, into which rooms it goes, as bits
    for value, size in zip(values, sizes, strict=True):
        better = np.zeros(capacity + 1, dtype=bool)
        if value > 0 and size <= capacity:
            filled = best[: capacity + 1 - size] + value
            better[size:] = filled > best[size:]
            best[size:] = np.maximum(best[size:], filled)
        taken.append(np.packbits(better))
    chosen, room = [], capacity
    for item in range(len(sizes) - 1, -1, -1):
        if taken[item][room // 8] >> (7 - room % 8) & 1:
            chosen.append(item)
            room -= sizes[item]
    return chosen[::-1]
