"""Whether scores are calibrated probabilities, and how well they separate positives from negatives."""

import numpy as np
from numpy.typing import NDArray

from r2tuning.errors import MetricError
from r2tuning.intervals import FloatArray
from r2tuning.metrics.summarization import rank_values
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
