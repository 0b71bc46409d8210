"""Fits the calibration of a model to a split, and measures how well it fits."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from r2tuning.decoding.calibration import Calibration, PresenceMap, ScoreMap, log_odds, sigmoid
from r2tuning.errors import MetricError
from r2tuning.evaluation.evidence import Evidence, Judged
from r2tuning.intervals import FloatArray
from r2tuning.metrics.reliability import auroc, find_reliability
from r2tuning.types import Reliability

STEPS = 100
"""Most steps of Newton's method, which needs about ten."""

CHANCE_ERRORS = 3
"""Presence is given up if its AUROC beats chance by fewer standard errors than this."""


def fit_logistic(evidence: FloatArray, right: NDArray[np.bool_], *, balanced: bool = False) -> tuple[FloatArray, float]:
    """Logistic regression of outcomes ``[n]`` on evidence ``[n, D]``: weights ``[D]``, none below 0, and the offset.

    Targets are those of Platt (1999), a little inside 0 and 1, so that separable evidence has a finite solution.
    Evidence that is constant, or would get a weight below 0, gets the weight 0. If ``balanced``, both outcomes have the
    same weight, however many there are of each.

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
    """Newton's method on the cross-entropy, which is convex; a step that goes uphill is halved."""

    def loss(coefficients: FloatArray) -> float:
        logits = inputs @ coefficients
        return float(counts @ (np.logaddexp(0, logits) - targets * logits))

    found = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        predicted = sigmoid(inputs @ found)
        gradient = inputs.T @ (counts * (predicted - targets))
        curvature = (inputs * (counts * predicted * (1 - predicted))[:, None]).T @ inputs
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]  # columns may be equal
        while np.abs(step).max() > 1e-10 and loss(found - step) > loss(found):
            step = step / 2
        found = found - step
        if np.abs(step).max() <= 1e-10:
            break
    return found


@dataclass(frozen=True)
class ScoreQuality:
    """How reliable raw scores are, clipped to [0, 1], and how reliable calibrated ones."""

    count: int
    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class PresenceQuality:
    """How well presence separates queries that have a moment from those that have none."""

    present: int  # number of queries that have a moment
    absent: int  # number of those that have none
    auroc: float
    reliability: Reliability  # both kinds weighted by half
    noticed: float  # share of absent queries below the threshold
    kept: float  # share of present queries not below it


@dataclass(frozen=True)
class CalibrationQuality:
    """How reliable all scores of a model are."""

    moments: ScoreQuality | None  # None for the saliency family
    saliency: ScoreQuality
    presence: PresenceQuality | None  # None where the model has none, or there are no absent queries


def fit_calibration(evidence: Evidence) -> Calibration:
    """Fits a calibration by maximum likelihood, to a split that the model was not trained on.

    Its maps keep every ranking. There is no presence where it does not beat chance by `CHANCE_ERRORS` standard errors,
    or where there are no absent queries.
    """
    moments = evidence.moments
    return Calibration(
        moments=None if moments is None else _fit_map(log_odds(moments.scores), moments.right, "moments"),
        saliency=_fit_map(evidence.saliency.scores, evidence.saliency.right, "frames"),
        presence=_fit_presence(evidence.present, evidence.absent) if len(evidence.absent) else None,
    )


def _fit_map(values: FloatArray, right: NDArray[np.bool_], what: str) -> ScoreMap:
    (slope,), offset = fit_logistic(values[:, None], right)
    if not slope > 0:
        raise MetricError(
            f"{what} of higher score are not more often right ({right.sum()} of {len(right)} are), so they cannot be "
            "calibrated; train the model, or check that annotations and features belong together"
        )
    return ScoreMap(slope=float(slope), offset=offset)


def _fit_presence(present: FloatArray, absent: FloatArray) -> PresenceMap | None:
    is_present = np.arange(len(present) + len(absent)) < len(present)
    (moment, saliency, head), offset = fit_logistic(np.concatenate([present, absent]), is_present, balanced=True)
    fitted = PresenceMap(moment=float(moment), saliency=float(saliency), head=float(head), offset=offset, threshold=0)
    there, not_there = fitted.apply(present), fitted.apply(absent)
    # Standard error of the AUROC of random scores (Mann and Whitney, 1947).
    error = sqrt((len(there) + len(not_there) + 1) / (12 * len(there) * len(not_there)))
    if auroc(there, not_there) < 0.5 + CHANCE_ERRORS * error:
        return None
    return fitted.model_copy(update={"threshold": choose_threshold(there, not_there)})


def choose_threshold(present: FloatArray, absent: FloatArray) -> float:
    """The threshold of maximal balanced accuracy, halfway between two values; of equally good ones the nearest to 0.5.

    Both arguments are presence: of queries that have a moment, and of queries that have none.

    Example:
        >>> choose_threshold(np.array([0.75, 0.5, 0.25]), np.array([0.375, 0.125]))
        0.4375
    """
    values = np.unique(np.concatenate([[0.0, 1.0], present, absent]))
    middle = (values[1:] + values[:-1]) / 2
    kept = 1 - np.searchsorted(np.sort(present), middle) / len(present)
    noticed = np.searchsorted(np.sort(absent), middle) / len(absent)
    best = np.flatnonzero(np.isclose(kept + noticed, (kept + noticed).max(), rtol=0, atol=1e-12))
    return float(middle[best[np.abs(middle[best] - 0.5).argmin()]])


def measure_calibration(calibration: Calibration, evidence: Evidence) -> CalibrationQuality:
    """Measures a calibration, ideally on other data than it was fitted to."""
    moments, saliency, presence = evidence.moments, evidence.saliency, calibration.presence
    return CalibrationQuality(
        None if moments is None else _compare(moments, calibration.calibrate_moments(moments.scores)),
        _compare(saliency, calibration.saliency.apply(saliency.scores)),
        _measure_presence(presence, evidence) if presence is not None and len(evidence.absent) else None,
    )


def _compare(raw: Judged, calibrated: FloatArray) -> ScoreQuality:
    before, after = (find_reliability(scores, raw.right) for scores in (raw.scores.clip(0, 1), calibrated))
    return ScoreQuality(len(raw.right), before, after)


def _measure_presence(presence: PresenceMap, evidence: Evidence) -> PresenceQuality:
    there, not_there = presence.apply(evidence.present), presence.apply(evidence.absent)
    is_present = np.arange(len(there) + len(not_there)) < len(there)
    return PresenceQuality(
        present=len(there),
        absent=len(not_there),
        auroc=auroc(there, not_there),
        reliability=find_reliability(
            np.concatenate([there, not_there]), is_present, np.where(is_present, 1 / len(there), 1 / len(not_there))
        ),
        noticed=float((not_there < presence.threshold).mean()),
        kept=float((there >= presence.threshold).mean()),
    )
