"""The results of a query: `Grounding` and `Summary`, with what can be made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from r2tuning.decoding.highlights import find_highlights
from r2tuning.decoding.summary import choose_shots
from r2tuning.errors import VideoError
from r2tuning.types import Moment, Saliency, Sampling
from r2tuning.video.shots import detect_shots


@dataclass(frozen=True)
class Grounding:
    """The answer to one query on one video.

    Attributes:
        query: The sentence; empty where none was asked (`outline_video`).
        video: The file.
        duration: Seconds of video that the answer covers.
        start: Seconds on the player's clock at which the video begins.
        moments: Best first.
        saliency: The highlight curve.
        model: Name of the checkpoint; of the CLIP where no query was asked.
        sampling: How frames were picked.
        video_truncated: Whether the file ended early or was damaged; the answer covers ``duration`` seconds.
        query_truncated: Whether the query was cut to what the text tower takes.
        windows: Number of overlapping windows the video was covered with (1: seen whole).
        calibrated: Whether scores are probabilities, see `Moment` and `Saliency`.
        presence: The probability that the video has what the query asks for, in a world where half of the questions
            are asked in vain; None where the model was not calibrated for it.
        presence_threshold: Lowest presence of what is probably in the video; None as for ``presence``.
    """

    query: str
    video: str
    duration: float
    start: float
    moments: list[Moment]
    saliency: Saliency
    model: str
    sampling: Sampling
    video_truncated: bool = False
    query_truncated: bool = False
    windows: int = 1
    calibrated: bool = False
    presence: float | None = None
    presence_threshold: float | None = None

    @property
    def present(self) -> bool | None:
        """Whether the video probably has what the query asks for; None where nothing is known of it."""
        if self.presence is None or self.presence_threshold is None:
            return None
        return bool(self.presence >= self.presence_threshold)

    def highlights(self, top: int = 5, seconds: float | None = None) -> list[Moment]:
        """Picks the highest peaks of the saliency curve, which do not overlap.

        A peak is a frame, or a run of equal ones, higher than its neighbours and above 0. It lasts for as long as
        the curve stays at or above half its height (its full width at half maximum), but not into a higher peak.

        Args:
            top: Most highlights to return.
            seconds: Length of each, see `r2tuning.decoding.highlights.find_highlights`; None for that of its peak.

        Returns:
            At most ``top``, highest first; seconds on the player's clock, score = height of the curve.

        Raises:
            ValueError: If ``top`` or ``seconds`` is not positive.

        Examples:
            >>> import numpy as np
            >>> curve = Saliency(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0.1, 0.75, 0.5, 0.125], np.float32))
            >>> answer = Grounding("a dog", "a.mp4", 8.0, 0.0, [], curve, "demo", "exact")
            >>> answer.highlights(), answer.highlights(seconds=6)
            ([Moment(start=2.0, end=6.0, score=0.75)], [Moment(start=1.0, end=7.0, score=0.75)])
        """
        extent = self.start, self.start + self.duration
        return [
            Moment(*found) for found in find_highlights(self.saliency.times, self.saliency.scores, extent, top, seconds)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The answer in plain Python values, as `r2tuning ground --json` prints it.

        Returns:
            The attributes and ``present``, seconds rounded to 3 decimals and scores to 6; ``moments`` is a list of
            ``{"start", "end", "score"}``, ``saliency`` is ``{"times": [...], "scores": [...]}``.
        """
        return {
            "query": self.query,
            "video": self.video,
            "duration": _round(self.duration, 3),
            "start": _round(self.start, 3),
            "model": self.model,
            "sampling": self.sampling,
            "video_truncated": bool(self.video_truncated),
            "query_truncated": bool(self.query_truncated),
            "windows": int(self.windows),
            "calibrated": bool(self.calibrated),
            "presence": None if self.presence is None else _round(self.presence, 6),
            "presence_threshold": None if self.presence_threshold is None else _round(self.presence_threshold, 6),
            "present": self.present,
            "moments": _to_dicts(self.moments),
            "saliency": {
                "times": [_round(time, 3) for time in self.saliency.times],
                "scores": [_round(score, 6) for score in self.saliency.scores],
            },
        }


@dataclass(frozen=True)
class Summary:
    """The shots that sum a video up within a budget.

    Attributes:
        answer: What they were chosen by.
        budget: Seconds that they may last together.
        shots: In time order, none touching the next: whole shots, or parts where they are long; score = mean saliency.
    """

    answer: Grounding
    budget: float
    shots: list[Moment]

    @property
    def length(self) -> float:
        """Seconds that the shots last together."""
        return sum(shot.end - shot.start for shot in self.shots)

    def to_dict(self) -> dict[str, Any]:
        """The summary in plain Python values, as `r2tuning summarize --json` prints it.

        Returns:
            The keys of `Grounding.to_dict`, then ``budget`` and ``length`` in seconds and ``shots``, a list of
            ``{"start", "end", "score"}``.
        """
        return self.answer.to_dict() | {
            "budget": _round(self.budget, 3),
            "length": _round(self.length, 3),
            "shots": _to_dicts(self.shots),
        }


def _to_dicts(moments: list[Moment]) -> list[dict[str, float]]:
    return [{"start": _round(m.start, 3), "end": _round(m.end, 3), "score": _round(m.score, 6)} for m in moments]


def _round(value: float, decimals: int) -> float:
    # float(): NumPy scalars are no JSON numbers. + 0.0 turns -0.0 into 0.0.
    return round(float(value), decimals) + 0.0


RATIO = 0.15
"""Share of a video that a summary of it may last, as the benchmarks TVSum and SumMe have it."""


def summarize(
    answer: Grounding,
    *,
    ratio: float | None = None,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Chooses the shots of a video that sum it up within a budget.

    The video is read again to find its cuts; `r2tuning.decoding.summary.choose_shots` then chooses.

    Args:
        answer: What a model says of a query, or `r2tuning.grounder.outline_video` without one; its saliency decides.
        ratio: Share of the video that the summary may last, above 0 and at most 1; None for 0.15 where ``seconds`` is
            not given either.
        seconds: How long it may last instead.
        progress: Called with the number of frames read and expected.

    Returns:
        The summary, at least one shot.

    Raises:
        VideoError: If the video cannot be read, or has nothing at the answer's times.
        ValueError: If ``ratio`` is not in (0, 1], ``seconds`` is not positive, or both are given.
    """
    if ratio is not None and seconds is not None:
        raise ValueError(f"give ratio ({ratio}) or seconds ({seconds}), not both")
    share = RATIO if ratio is None else ratio
    if not 0 < share <= 1 or (seconds is not None and not seconds > 0):
        raise ValueError(f"ratio must be above 0 and at most 1, seconds above 0, not {ratio} and {seconds}")
    budget = share * answer.duration if seconds is None else min(seconds, answer.duration)
    extent = answer.start, answer.start + answer.duration
    shots = detect_shots(answer.video, progress)
    chosen = choose_shots(answer.saliency.times, answer.saliency.scores, extent, shots, budget)
    if not chosen:
        raise VideoError(f"{answer.video} has nothing at the times of the answer; encode it again")
    return Summary(answer, budget, [Moment(*shot) for shot in chosen])
