"""Logistic regression with weights that are not negative: what fits the maps of a calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r2tuning.decoding.calibration import sigmoid
from r2tuning.errors import MetricError
from r2tuning.metrics.tiou import FloatArray

STEPS = 100
"""Most steps of Newton's method, which needs about ten."""


def fit_logistic(evidence: FloatArray, right: NDArray[np.bool_], *, balanced: bool = False) -> tuple[FloatArray, float]:
    """The weights and the offset that make what was observed likeliest, with no weight below 0.

    Targets are those of Platt (1999), a little inside of 0 and 1, so that evidence that tells all apart has a finite
    answer. Evidence that would have a weight below 0 is left out.

    Args:
        evidence: ``[n, D]``, finite.
        right: ``[n]``.
        balanced: Whether both outcomes count the same, however many there are of each.

    Returns:
        ``[D]`` and the offset of ``sigmoid(evidence @ weights + offset)``; a weight is 0 where its evidence says
        nothing.

    Raises:
        MetricError: If all or none are right.

    Example:
        >>> weights, offset = fit_logistic(np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([False, True, True, True]))
        >>> sigmoid(weights * np.array([0.0, 1.0]) + offset).round(3).tolist()  # targets are 1/3 and 4/5
        [0.567, 0.8]
    """
    positives = int(right.sum())
    negatives = len(right) - positives
    if not positives or not negatives:
        raise MetricError(
            f"{positives} of {len(right)} are right; a calibration needs some that are and some that are not"
        )
    targets = np.where(right, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    counts = np.where(right, 1 / positives, 1 / negatives) * len(right) / 2 if balanced else np.ones(len(right))
    mean, spread = evidence.mean(axis=0), evidence.std(axis=0)
    scaled = (evidence - mean) / np.where(spread > 0, spread, 1)

    weights = np.zeros(evidence.shape[1])
    kept = np.flatnonzero(spread > 0)
    while True:
        found = _minimize(np.column_stack([scaled[:, kept], np.ones(len(right))]), targets, counts)
        if not (found[:-1] < 0).any():
            break
        kept = np.delete(kept, found[:-1].argmin())
    weights[kept] = found[:-1] / spread[kept]
    return weights, float(found[-1] - weights @ mean)


def _minimize(inputs: FloatArray, targets: FloatArray, counts: FloatArray) -> FloatArray:
    """Newton's method on the cross-entropy, which is convex; steps are halved until they do not go uphill."""

    def loss(coefficients: FloatArray) -> float:
        logits = inputs @ coefficients
        return float(counts @ (np.logaddexp(0, logits) - targets * logits))

    found = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        said = sigmoid(inputs @ found)
        gradient = inputs.T @ (counts * (said - targets))
        curvature = (inputs * (counts * said * (1 - said))[:, None]).T @ inputs
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]  # evidence may say the same twice
        while np.abs(step).max() > 1e-10 and loss(found - step) > loss(found):
            step = step / 2
        found = found - step
        if np.abs(step).max() <= 1e-10:
            break
    return found
