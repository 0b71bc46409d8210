"""The annotation of a query and the prediction for it, as the files of QVHighlights store them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2tuning.errors import MetricError
from r2tuning.intervals import FloatArray

QueryId = int | str
WORKERS = 3  # people who labeled every clip of QVHighlights


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotation of one query. Array fields take any array-like.

    Attributes:
        qid: The query's id, unique in a file.
        duration: Seconds of video.
        windows: float64 ``[M, 2]``, starts and ends of the true moments in seconds; M may be 0.
        clip_ids: int64 ``[n]``, positions of the labeled 2-second clips; all others have label 0.
        saliency: float64 ``[n, 3]``, three workers' labels from 0 (very bad) to 4 (very good); may be None.
        query: The sentence.

    Raises:
        MetricError: If a value or shape is invalid, or a label belongs to no clip of the video.
    """

    qid: QueryId
    duration: float
    windows: FloatArray
    clip_ids: NDArray[np.int64] | None = None
    saliency: FloatArray | None = None
    query: str = ""

    def __post_init__(self) -> None:
        name = f"ground truth of query {self.qid!r}"
        _check_qid(self.qid, name)
        if not (isinstance(self.duration, int | float) and np.isfinite(self.duration) and self.duration > 0):
            raise MetricError(f"{name}: duration is {self.duration!r}; give seconds above 0")
        object.__setattr__(self, "windows", _check_moments(self.windows, 2, name))
        if self.clip_ids is None and self.saliency is None:
            return
        if self.clip_ids is None or self.saliency is None:
            raise MetricError(f"{name}: clip ids and saliency labels come together; give both or neither")
        clip_ids = to_floats(self.clip_ids, (None,), f"{name}: clip ids")
        saliency = to_floats(self.saliency, (None, WORKERS), f"{name}: saliency labels")
        if len(clip_ids) != len(saliency):
            raise MetricError(f"{name}: {len(clip_ids)} clip ids but {len(saliency)} rows of labels; give one row each")
        beyond = (clip_ids < 0) | (clip_ids >= self.duration // 2) | (clip_ids % 1 != 0)
        if beyond.any():
            raise MetricError(
                f"{name}: clip id {clip_ids[beyond][0]:g} is not one of the {int(self.duration // 2)} 2-second "
                "clips of the video; correct the id or the duration"
            )
        object.__setattr__(self, "clip_ids", clip_ids.astype(np.int64))
        object.__setattr__(self, "saliency", saliency)

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> GroundTruth:
        """Reads a line of a QVHighlights annotation file.

        Keys are ``qid`` and ``duration``; optionally ``relevant_windows``, ``relevant_clip_ids``, ``saliency_scores``
        and ``query``, which may be null. Others are ignored.
        """
        qid = _require(line, "qid", "a ground truth")
        windows = line.get("relevant_windows")
        return cls(
            qid=qid,
            duration=_require(line, "duration", f"ground truth of query {qid!r}"),
            windows=np.empty((0, 2)) if windows is None else windows,
            clip_ids=line.get("relevant_clip_ids"),
            saliency=line.get("saliency_scores"),
            query=line.get("query") or "",
        )


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one query. Array fields take any array-like.

    Attributes:
        qid: The query's id.
        windows: float64 ``[N, 3]``, start and end in seconds and score, best first; N may be 0.
        saliency: float64 ``[T]``, score of every 2-second clip; None if the model gives none.
        presence: Score in [0, 1] of the video showing the query at all; None if the model gives none.

    Raises:
        MetricError: If a value is not finite, a shape is wrong, or a moment ends before it starts.
    """

    qid: QueryId
    windows: FloatArray
    saliency: FloatArray | None = None
    presence: float | None = None

    def __post_init__(self) -> None:
        name = f"prediction for query {self.qid!r}"
        _check_qid(self.qid, name)
        object.__setattr__(self, "windows", _check_moments(self.windows, 3, name))
        if self.saliency is not None:
            object.__setattr__(self, "saliency", to_floats(self.saliency, (None,), f"{name}: saliency scores"))

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Prediction:
        """Reads a line of a QVHighlights submission.

        Keys are ``qid`` and ``pred_relevant_windows``, and optionally ``pred_saliency_scores``. Others are ignored.
        """
        qid = _require(line, "qid", "a prediction")
        windows = _require(line, "pred_relevant_windows", f"prediction for query {qid!r}")
        return cls(qid=qid, windows=windows, saliency=line.get("pred_saliency_scores"))


def _require(line: Mapping[str, Any], key: str, name: str) -> Any:
    if line.get(key) is None:
        raise MetricError(f"{name}: {key!r} is missing; its keys are {', '.join(map(repr, line)) or 'none'}")
    return line[key]


def _check_qid(qid: QueryId, name: str) -> None:
    # Lists and other unhashable ids would fail later, far from their line.
    if not isinstance(qid, int | str):
        raise MetricError(f"{name}: the id is a {type(qid).__name__}; give an integer or a string")


def _check_moments(values: ArrayLike, columns: int, name: str) -> FloatArray:
    """``values`` as ``[n, columns]``, starts not after ends."""
    moments = to_floats(values, (None, columns), f"{name}: moments")
    reversed_ = np.flatnonzero(moments[:, 1] < moments[:, 0])
    if reversed_.size:
        start, end = moments[reversed_[0], :2]
        raise MetricError(
            f"{name}: moment {reversed_[0] + 1} starts at {start:g} s but ends at {end:g} s; swap the two"
        )
    return moments


def to_floats(values: ArrayLike, shape: tuple[int | None, ...], name: str) -> FloatArray:
    """``values`` as finite float64 of ``shape``, where None is any length."""
    wanted = "[" + ", ".join("n" if size is None else str(size) for size in shape) + "]"
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"{name} are not numbers of shape {wanted} ({error}); correct them") from None
    if array.size == 0:
        return np.empty([size or 0 for size in shape])
    if array.ndim != len(shape) or any(size not in (None, have) for size, have in zip(shape, array.shape, strict=True)):
        raise MetricError(f"{name} have shape {list(array.shape)}; give {wanted}")
    if not np.isfinite(array).all():
        raise MetricError(f"{name} hold {array[~np.isfinite(array)][0]}; give finite numbers")
    return array
