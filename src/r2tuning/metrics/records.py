"""The annotation of a query and the prediction for it, in one video or across videos, as files store them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        windows: float64 ``[M, 2]``, starts and ends of the true moments in seconds; M is 0 without an answer.
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

    @property
    def answerable(self) -> bool:
        """Whether the video has an answer: a true moment, or a clip that somebody rated above 0."""
        return len(self.windows) > 0 or (self.saliency is not None and bool(self.saliency.any()))

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
        presence: Whether the video has an answer at all, in [0, 1]; None if the model does not say.

    Raises:
        MetricError: If a value is not finite, a shape is wrong, presence is out of range, or a moment ends before it
            starts.
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
        if self.presence is not None and not (isinstance(self.presence, int | float) and 0 <= self.presence <= 1):
            raise MetricError(f"{name}: presence is {self.presence!r}; give a number in [0, 1]")

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Prediction:
        """Reads a line of a QVHighlights submission.

        Keys are ``qid`` and ``pred_relevant_windows``, and optionally ``pred_saliency_scores`` and ``pred_presence``.
        Others are ignored.
        """
        qid = _require(line, "qid", "a prediction")
        windows = _require(line, "pred_relevant_windows", f"prediction for query {qid!r}")
        return cls(qid, windows, line.get("pred_saliency_scores"), line.get("pred_presence"))


@dataclass(frozen=True, eq=False)
class CorpusTruth:
    """The true moments of one query in a corpus of videos. Array fields take any array-like.

    Attributes:
        qid: The query's id, unique in a file.
        videos: The video of each moment; M moments in any number of videos.
        windows: float64 ``[M, 2]``, starts and ends of the moments in seconds; M is 0 where no video has an answer.
        grades: float64 ``[M]``, how relevant each moment is, above 0 (TVR-Ranking: 1 to 4); None is 1 for all.
        ignored: Videos of which nobody can say whether they have an answer: predictions in them are left out.
        query: The sentence.

    Raises:
        MetricError: If a value or shape is invalid, or an ignored video has a moment.
    """

    qid: QueryId
    videos: Sequence[str]
    windows: FloatArray
    grades: FloatArray | None = None
    ignored: frozenset[str] = frozenset()
    query: str = ""

    def __post_init__(self) -> None:
        name = f"ground truth of query {self.qid!r}"
        _check_qid(self.qid, name)
        windows = _check_moments(self.windows, 2, name)
        object.__setattr__(self, "windows", windows)
        object.__setattr__(self, "videos", _check_videos(self.videos, len(windows), name))
        grades = np.ones(len(windows)) if self.grades is None else to_floats(self.grades, (None,), f"{name}: grades")
        if len(grades) != len(windows) or (grades <= 0).any():
            raise MetricError(f"{name}: grades {grades.tolist()} of {len(windows)} moments; give each one above 0")
        object.__setattr__(self, "grades", grades)
        object.__setattr__(self, "ignored", frozenset(self.ignored))
        if both := self.ignored.intersection(self.videos):
            raise MetricError(f"{name}: {min(both)!r} has a moment and is ignored; choose one")

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> CorpusTruth:
        """Reads a line of a file of truth across videos.

        Keys are ``qid`` and ``relevant_corpus``, a list of ``[video, start, end]`` or ``[video, start, end, grade]``;
        optionally ``ignored_videos`` and ``query``. Moments of grade 0 are left out.
        """
        qid = _require(line, "qid", "a ground truth")
        name = f"ground truth of query {qid!r}"
        rows = _check_rows(_require(line, "relevant_corpus", name), (3, 4), name)
        rows = [row for row in rows if len(row) == 3 or row[3] != 0]
        return cls(
            qid=qid,
            videos=[row[0] for row in rows],
            windows=np.array([row[1:3] for row in rows], dtype=object).reshape(-1, 2),
            grades=np.array([1 if len(row) == 3 else row[3] for row in rows], dtype=object),
            ignored=frozenset(line.get("ignored_videos") or ()),
            query=line.get("query") or "",
        )


@dataclass(frozen=True, eq=False)
class CorpusPrediction:
    """The moments that one query found in a corpus of videos. Array fields take any array-like.

    Attributes:
        qid: The query's id.
        videos: The video of each moment; a video may occur several times.
        windows: float64 ``[N, 3]``, start and end in seconds and score, best first; N may be 0.

    Raises:
        MetricError: If a value or shape is invalid.
    """

    qid: QueryId
    videos: Sequence[str]
    windows: FloatArray

    def __post_init__(self) -> None:
        name = f"prediction for query {self.qid!r}"
        _check_qid(self.qid, name)
        object.__setattr__(self, "windows", _check_moments(self.windows, 3, name))
        object.__setattr__(self, "videos", _check_videos(self.videos, len(self.windows), name))

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> CorpusPrediction:
        """Reads a line with the keys ``qid`` and ``pred_corpus``, a list of ``[video, start, end, score]``."""
        qid = _require(line, "qid", "a prediction")
        name = f"prediction for query {qid!r}"
        rows = _check_rows(_require(line, "pred_corpus", name), (4,), name)
        windows = np.array([row[1:] for row in rows], dtype=object).reshape(-1, 3)
        return cls(qid, [row[0] for row in rows], windows)


def _require(line: Mapping[str, Any], key: str, name: str) -> Any:
    if line.get(key) is None:
        raise MetricError(f"{name}: {key!r} is missing; its keys are {', '.join(map(repr, line)) or 'none'}")
    return line[key]


def _check_qid(qid: QueryId, name: str) -> None:
    # Lists and other unhashable ids would fail later, far from their line.
    if not isinstance(qid, int | str):
        raise MetricError(f"{name}: the id is a {type(qid).__name__}; give an integer or a string")


def _check_videos(videos: Sequence[str], moments: int, name: str) -> tuple[str, ...]:
    if isinstance(videos, str) or len(videos) != moments or not all(isinstance(video, str) for video in videos):
        raise MetricError(f"{name}: {videos!r:.80} are the videos of {moments} moments; give a name for each")
    return tuple(videos)


def _check_rows(rows: Any, lengths: tuple[int, ...], name: str) -> list[Any]:
    """``rows`` as a list of lists of allowed lengths; what is in them is checked later."""
    wanted = " or ".join(map(str, lengths))
    if not isinstance(rows, list):
        raise MetricError(f"{name}: moments are {rows!r:.80}; give a list of lists of {wanted}")
    for row in rows:
        if not isinstance(row, list) or len(row) not in lengths:
            raise MetricError(f"{name}: a moment is {row!r:.80}; give {wanted} values, the video first")
    return rows


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
