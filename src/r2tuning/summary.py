"""From an answer about a video to a summary of it: whole shots, the best that fit a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from r2tuning.decoding.knapsack import choose_items
from r2tuning.errors import VideoError
from r2tuning.types import Grounding, Moment, Summary
from r2tuning.video.shots import detect_shots

RATIO = 0.15
"""Share of a video that a summary of it may last, as the benchmarks TVSum and SumMe have it."""

LONGEST = 10.0
"""Seconds; a longer shot can be taken in part."""

PARTS = 4
"""At least as many pieces of a long shot fit into a budget."""

STEP = 0.1
"""Seconds in which lengths are counted, rounded up: a choice never exceeds its budget."""

Spans = NDArray[np.float64]
"""``[n, 2]``, starts and ends in seconds."""

_ROUNDING = 1e-6  # seconds


def summarize(
    answer: Grounding,
    *,
    ratio: float | None = None,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Chooses the shots of a video that sum it up within a budget.

    The video is read again to find its cuts. What happens then is `choose_shots`.

    Args:
        answer: What a model says of a query, or `r2tuning.features.outline_video` without one; its saliency decides.
        ratio: Share of the video that the summary may last, above 0 and at most 1; None for 0.15 where ``seconds`` is
            not given either.
        seconds: How long it may last instead.
        progress: Called with the number of frames read and expected.

    Returns:
        The summary, at least one shot.

    Raises:
        VideoError: If the video cannot be read.
        ValueError: If ``ratio`` is not in (0, 1], ``seconds`` is not positive, or both are given.
    """
    if ratio is not None and seconds is not None:
        raise ValueError(f"give ratio ({ratio}) or seconds ({seconds}), not both")
    share = RATIO if ratio is None else ratio
    if not 0 < share <= 1 or (seconds is not None and not seconds > 0):
        raise ValueError(f"ratio must be above 0 and at most 1, seconds above 0, not {ratio} and {seconds}")
    budget = share * answer.duration if seconds is None else min(seconds, answer.duration)
    return choose_shots(answer, detect_shots(answer.video, progress), budget)


def choose_shots(answer: Grounding, shots: Sequence[tuple[float, float]], budget: float) -> Summary:
    """Chooses the shots of the greatest total saliency within a budget: a 0/1 knapsack, solved exactly.

    A shot is worth its mean saliency times its length. One that is longer than `LONGEST`, or than a quarter of the
    budget (but no less than one sampled frame stands for), is first cut into equal pieces that are not. Where no
    piece fits, or none is worth more than 0, the one of the highest mean is taken, cut to the budget about its middle.

    Args:
        answer: Its saliency decides.
        shots: Starts and ends in seconds, in time order; what lies outside the answer's extent is left out.
        budget: Seconds, above 0.

    Returns:
        The summary; pieces that touch are one.

    Raises:
        VideoError: If no shot lies in the answer's extent.
    """
    pieces = cut_shots(shots, answer, budget)
    if len(pieces) == 0:
        raise VideoError(f"{answer.video} has nothing at the times of the answer; encode it again")
    worth, lengths = _integrate(answer, pieces), pieces[:, 1] - pieces[:, 0]
    if lengths.sum() <= budget + _ROUNDING:
        chosen = np.flatnonzero(worth > 0).tolist()
    else:
        sizes = [ceil((length - _ROUNDING) / STEP) for length in lengths.tolist()]
        chosen = choose_items(worth.tolist(), sizes, floor((budget + _ROUNDING) / STEP))
    if chosen:
        return Summary(answer, budget, _join(answer, pieces[chosen]))
    best = int((worth / lengths).argmax())
    cut = max(0.0, (lengths[best] - budget) / 2)
    return Summary(answer, budget, _join(answer, pieces[[best]] + [cut, -cut]))


def cut_shots(shots: Sequence[tuple[float, float]], answer: Grounding, budget: float) -> Spans:
    """Shots within the extent of an answer, the long ones in equal pieces (see `choose_shots`): ``[n, 2]``."""
    clip = answer.duration / max(1, len(answer.saliency.scores))
    # A whole number of steps, so that as many pieces still fit once their lengths are rounded up.
    longest = max(min(LONGEST, floor(budget / PARTS / STEP) * STEP), clip)
    pieces: list[tuple[float, float]] = []
    for low, high in shots:
        start, end = max(low, answer.start), min(high, answer.start + answer.duration)
        if end - start > _ROUNDING:
            count = ceil((end - start - _ROUNDING) / longest)
            pieces += pairwise(np.linspace(start, end, max(1, count) + 1).tolist())
    return np.array(pieces, np.float64).reshape(-1, 2)


def _integrate(answer: Grounding, spans: Spans) -> NDArray[np.float64]:
    """Saliency × seconds of each span, ``[n]``; every frame stands for what is nearest to it."""
    times, scores = answer.saliency.times, np.asarray(answer.saliency.scores, np.float64)
    edges = np.r_[answer.start, (times[1:] + times[:-1]) / 2, answer.start + answer.duration]
    total = np.r_[0, np.cumsum(scores * np.diff(edges))]
    return np.asarray(np.diff(np.interp(spans, edges, total), axis=1)[:, 0])


def _join(answer: Grounding, pieces: Spans) -> list[Moment]:
    """Pieces in time order with their mean saliency, those that touch as one."""
    apart = pieces[1:, 0] - pieces[:-1, 1] > _ROUNDING
    spans = np.column_stack([pieces[np.r_[True, apart], 0], pieces[np.r_[apart, True], 1]])
    means = _integrate(answer, spans) / (spans[:, 1] - spans[:, 0])
    return [Moment(start, end, mean) for (start, end), mean in zip(spans.tolist(), means.tolist(), strict=True)]
