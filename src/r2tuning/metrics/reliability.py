"""Whether scores are calibrated probabilities, how well they separate and how well they rank."""

import math

import numpy as np
from numpy.typing import NDArray

from r2tuning.errors import MetricError
from r2tuning.intervals import FloatArray
from r2tuning.types import Reliability

BINS = 10  # of equal width


def find_reliability(
    probabilities: FloatArray, outcomes: NDArray[np.bool_], weights: FloatArray | None = None
) -> Reliability:
    """Computes the points of a reliability diagram, one for each non-empty bin of `BINS`, lowest first.

    Args:
        probabilities: ``[n]``, in [0, 1].
        outcomes: ``[n]``, whether each came true.
        weights: ``[n]``, above 0; None weighs all the same.

    Raises:
        MetricError: If there are none, their numbers differ, or a probability is outside [0, 1].

    Example:
        >>> points = find_reliability(np.array([0.125, 0.125, 1.0]), np.array([True, False, True]))
        >>> points.predicted.tolist(), points.observed.tolist(), points.shares.round(2).tolist()
        ([0.125, 1.0], [0.5, 1.0], [0.67, 0.33])
    """
    if len(probabilities) != len(outcomes) or not len(outcomes):
        raise MetricError(f"{len(probabilities)} probabilities for {len(outcomes)} outcomes; give one each")
    outside = ~((probabilities >= 0) & (probabilities <= 1))
    if outside.any():
        raise MetricError(f"{probabilities[outside][0]} is no probability; give values in [0, 1]")
    counts = np.ones(len(outcomes)) if weights is None else weights
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    totals = np.bincount(place, counts)
    filled = totals > 0
    predicted, observed = (
        np.bincount(place, counts * values)[filled] / totals[filled] for values in (probabilities, outcomes)
    )
    return Reliability(predicted, observed, totals[filled] / totals.sum())


def expected_calibration_error(points: Reliability) -> float:
    """Computes the expected calibration error (Naeini et al., 2015; Guo et al., 2017), in [0, 1].

    This is the mean of |mean probability − share that came true| over the bins, weighted by the share of each bin.

    Example:
        >>> expected_calibration_error(find_reliability(np.array([0.75, 0.75]), np.array([True, False])))
        0.25
    """
    return float(np.abs(points.predicted - points.observed) @ points.shares)


def auroc(positive: FloatArray, negative: FloatArray) -> float:
    """Computes the chance that a positive scores higher than a negative, ties counting half (Mann and Whitney).

    Takes scores ``[n]`` and ``[m]``, at least one of each. Scores that say nothing give 0.5.

    Example:
        >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1, 0.2]))
        0.9166666666666666
    """
    if not len(positive) or not len(negative):
        raise MetricError(f"{len(positive)} positives and {len(negative)} negatives; give at least one of each")
    ranks = rank_values(np.concatenate([positive, negative]))[: len(positive)]
    won = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(won / (len(positive) * len(negative)))


def average_precision(positive: FloatArray, negative: FloatArray) -> float:
    """Computes AP of a score, Σ Δrecall · precision, where equal scores are one point of the curve, not interpolated.

    Takes scores ``[n]`` and ``[m]`` of positives and negatives, n ≥ 1. Scores that say nothing give n / (n + m). The
    benchmarks' own APs differ: those of moments and of saliency are interpolated.

    Example:
        >>> round(average_precision(np.array([0.9, 0.5]), np.array([0.7, 0.1])), 4)
        0.8333
    """
    if not len(positive):
        raise MetricError("there are no positives; give at least one")
    # Positives and negatives that score at least as high as each positive.
    right, wrong = (
        len(scores) - np.searchsorted(np.sort(scores), positive, side="left") for scores in (positive, negative)
    )
    return float(np.mean(right / (right + wrong)))


def kendall_tau(x: FloatArray, y: FloatArray) -> float:
    """Computes Kendall's τ-b, which corrects for ties (Kendall, 1945), in O(n log² n).

    Takes ``[n]`` values of each side. Returns τ in [-1, 1]; 0 if one side is constant.

    Example:
        >>> round(kendall_tau(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])), 4)
        0.6667
    """
    x_codes, y_codes = _codes(x), _codes(y)
    pairs = math.comb(len(x_codes), 2)
    x_ties, y_ties = _tied_pairs(x_codes), _tied_pairs(y_codes)
    both = _tied_pairs(x_codes * (int(y_codes.max(initial=0)) + 1) + y_codes)
    # In order of x, and of y among equal x, a strictly falling pair of y is discordant.
    discordant = _count_inversions(y_codes[np.lexsort((y_codes, x_codes))])
    untied = math.sqrt((pairs - x_ties) * (pairs - y_ties))
    return (pairs - x_ties - y_ties + both - 2 * discordant) / untied if untied else 0.0


def spearman_rho(x: FloatArray, y: FloatArray) -> float:
    """Computes Spearman's ρ: the correlation of ranks, equal values sharing their average rank.

    Takes ``[n]`` values of each side. Returns ρ in [-1, 1]; 0 if one side is constant.

    Example:
        >>> round(spearman_rho(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])), 4)
        0.8
    """
    x_ranks, y_ranks = (rank_values(values) - (len(values) + 1) / 2 for values in (x, y))
    spread = math.sqrt((x_ranks @ x_ranks) * (y_ranks @ y_ranks))
    return float(x_ranks @ y_ranks) / spread if spread else 0.0


def _codes(values: FloatArray) -> NDArray[np.int64]:
    """``[n]`` integers from 0 in the order of ``values``, equal for equal values."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _tied_pairs(codes: NDArray[np.int64]) -> int:
    """Number of pairs of equal codes."""
    counts = np.unique(codes, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def rank_values(values: FloatArray) -> FloatArray:
    """Computes ``[n]`` ranks from 1, equal values sharing the mean of theirs."""
    codes = _codes(values)
    counts = np.bincount(codes)
    ranks: FloatArray = counts.cumsum() - (counts - 1) / 2
    return ranks[codes]


def _count_inversions(codes: NDArray[np.int64]) -> int:
    """Number of pairs i < j with ``codes[i] > codes[j]``, by a bottom-up merge sort, all blocks at once.

    In a stable merge, an element of the right half that lands at position p, with r of the right half before it,
    has p - r elements of the left half that are not greater; the others are inversions.
    """
    width, inversions = 1, 0
    # Padding at the end, greater than all, adds no inversion.
    codes = np.pad(codes, (0, (1 << max(0, len(codes) - 1).bit_length()) - len(codes)), constant_values=len(codes))
    while width < len(codes):
        blocks = codes.reshape(-1, 2 * width)
        order = np.argsort(blocks, axis=1, kind="stable")
        landed = int(np.nonzero(order >= width)[1].sum())
        inversions += len(blocks) * (width * width + width * (width - 1) // 2) - landed
        codes = np.take_along_axis(blocks, order, axis=1).reshape(-1)
        width *= 2
    return inversions
