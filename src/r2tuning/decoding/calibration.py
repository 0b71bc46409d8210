"""From raw scores to probabilities, by strictly increasing maps: rankings and the benchmarks' metrics do not change.

Each is a logistic curve (J. Platt, 1999) of two or three numbers, which a few hundred queries are enough to fit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from r2tuning.intervals import FloatArray

EVEN = 0.5  # presence threshold of a presence head that is not calibrated
TOP_FRAMES = 2  # frames of highest saliency that are averaged for presence; a single one may be chance
_NEAR = 2.0**-25  # half the distance of 1 to the next fp32 below: a score of 0 or 1 is not certain
_CONFIG = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScoreMap(BaseModel):
    """A probability that rises with a score."""

    model_config = _CONFIG

    slope: float = Field(gt=0)
    offset: float  # log-odds of a score of 0

    def apply(self, values: NDArray[Any]) -> FloatArray:
        """Probabilities, fp64, of values of any shape.

        Example:
            >>> ScoreMap(slope=2, offset=-1).apply(np.array([0.0, 0.5, 1.0])).round(3).tolist()
            [0.269, 0.5, 0.731]
        """
        return sigmoid(self.slope * np.asarray(values, dtype=np.float64) + self.offset)


class PresenceMap(BaseModel):
    """The probability that the video has what the query describes."""

    model_config = _CONFIG

    moment: float = Field(ge=0)  # weight of the log-odds of the best moment's score
    saliency: float = Field(ge=0)  # weight of the top saliency
    head: float = Field(default=0, ge=0)  # weight of the presence head's log-odds
    offset: float  # log-odds where both are 0
    threshold: float = Field(ge=0, le=1)  # lowest presence that counts as present

    def apply(self, evidence: FloatArray) -> FloatArray:
        """Probabilities ``[...]`` of evidence ``[..., 3]``, see `find_evidence`."""
        return sigmoid(evidence @ np.array([self.moment, self.saliency, self.head]) + self.offset)


class RankingMap(BaseModel):
    """The probability that a moment, of any video, is what the query describes; ranks moments of many videos.

    The defaults were fitted to *Moving Shapes*.
    """

    model_config = _CONFIG

    moment: float = Field(default=0.92, ge=0)  # weight of the log-odds of the moment's score
    saliency: float = Field(default=12.1, ge=0)  # weight of the top saliency of its window
    head: float = Field(default=0.0, ge=0)  # weight of the presence head's log-odds
    cosine: float = Field(default=13.2, ge=0)  # weight of the highest cosine of query and frame in its window
    offset: float = -10.0  # log-odds where all are 0

    def apply(self, evidence: FloatArray) -> FloatArray:
        """Probabilities ``[...]`` of evidence ``[..., 4]``: log-odds of the score, top saliency, head, cosine.

        Example:
            >>> ranking = RankingMap(moment=1, saliency=2, cosine=3, offset=-3)
            >>> ranking.apply(np.array([1.0, 0.5, 9.0, 0.5])).round(3).item()
            0.622
        """
        return sigmoid(evidence @ np.array([self.moment, self.saliency, self.head, self.cosine]) + self.offset)


class Calibration(BaseModel):
    """The maps from one model's scores to probabilities."""

    model_config = _CONFIG

    # From the log-odds of a moment's score to the probability that it overlaps a true moment with IoU ≥ 0.5, if the
    # video has one; None for the saliency family, which gives no moments.
    moments: ScoreMap | None
    # From a frame's saliency to the probability that it is relevant, if anything in the video is.
    saliency: ScoreMap
    presence: PresenceMap | None  # None if it was not fitted
    ranking: RankingMap | None = None  # of moments across videos; None if it was not fitted

    def calibrate_moments(self, scores: NDArray[Any]) -> FloatArray:
        """Probabilities of moments' scores; 0, the score of suppressed moments, stays 0."""
        return np.asarray(scores, dtype=np.float64) if self.moments is None else self.moments.apply(log_odds(scores))

    def find_presence(
        self, moment_scores: NDArray[Any], saliency: NDArray[Any], head: float | None = None
    ) -> float | None:
        """The probability that the video has what the query describes, from raw scores as for `find_evidence`."""
        if self.presence is None:
            return None
        return float(self.presence.apply(find_evidence(moment_scores, saliency, head)))


def log_odds(scores: NDArray[Any]) -> FloatArray:
    """Log-odds of scores in [0, 1]; finite for all but 0, for which it is -inf.

    Example:
        >>> log_odds(np.array([0.0, 0.5, 1.0])).round(2).tolist()
        [-inf, 0.0, 17.33]
    """
    odds = np.minimum(np.asarray(scores, dtype=np.float64), 1 - _NEAR)
    with np.errstate(divide="ignore"):
        found: FloatArray = np.log(odds) - np.log1p(-odds)
    return found


def sigmoid(values: FloatArray) -> FloatArray:
    """Inverse of log-odds, exact also near 0."""
    found: FloatArray = np.exp(-np.logaddexp(0, -values))
    return found


def top_saliency(saliency: NDArray[Any]) -> float:
    """Mean of the `TOP_FRAMES` highest values of a curve ``[T]``, T ≥ 1.

    Example:
        >>> top_saliency(np.array([0.1, 0.75, 0.25]))
        0.5
    """
    return float(np.sort(saliency)[-TOP_FRAMES:].mean())


def find_evidence(moment_scores: NDArray[Any], saliency: NDArray[Any], head: float | None = None) -> FloatArray:
    """Computes what presence is estimated from.

    Args:
        moment_scores: Raw scores ``[N]``, N may be 0.
        saliency: Raw ``[T]``, T ≥ 1.
        head: Log-odds of the presence head; None for models without one.

    Returns:
        ``[3]``: log-odds of the best moment's score, the top saliency, and the head's log-odds or 0.
    """
    best = max(float(moment_scores.max(initial=0)), _NEAR)
    return np.array([float(log_odds(np.array(best))), top_saliency(saliency), 0.0 if head is None else head])


def judge_presence(
    calibration: Calibration | None, moment_scores: NDArray[Any], saliency: NDArray[Any], head: float | None
) -> tuple[float | None, float | None]:
    """Presence and its threshold, from raw scores as for `find_evidence`; None where nothing tells it.

    A calibration of presence goes first, then the head alone, as a probability at even chances.

    Example:
        >>> [judge_presence(None, np.array([0.5]), np.ones(9), head) for head in (0.0, None)]
        [(0.5, 0.5), (None, None)]
    """
    if calibration is not None and calibration.presence is not None:
        return calibration.find_presence(moment_scores, saliency, head), calibration.presence.threshold
    return (None, None) if head is None else (float(sigmoid(np.array(head))), EVEN)
