"""All metrics of one video's moments in one call, and the matching of predictions to queries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from r2tuning.errors import MetricError
from r2tuning.metrics.generalized import TOPS, score_generalized
from r2tuning.metrics.highlight_detection import score_highlights
from r2tuning.metrics.moment_retrieval import score_moments
from r2tuning.metrics.records import GroundTruth, Prediction, QueryId

Missing = Literal["error", "zero"]

BRIEF = (
    *(f"MR-full-R{top}@{threshold}" for top in (1, 5) for threshold in (0.3, 0.5, 0.7)),
    "MR-full-mAP",
    "MR-full-mAP@0.5",
    "MR-full-mAP@0.75",
    "MR-full-mIoU",
    *(f"MR-{name}-{metric}" for name in ("long", "middle", "short") for metric in ("mAP", "mIoU")),
    *(f"HL-min-{level}-{metric}" for level in ("Fair", "Good", "VeryGood") for metric in ("mAP", "Hit1")),
    *(f"GMR-G-mIoU@{top}" for top in TOPS),
    *(f"GMR-{name}" for name in ("Rej-P", "Rej-R", "Rej-F1", "AUROC", "AP")),
)
"""The metrics that papers print, in the order of a table."""


PRESENCE_THRESHOLD = 0.5
"""Presence below which a query is rejected, unless another is given."""


class _HasQueryId(Protocol):
    @property
    def qid(self) -> QueryId: ...


_Record = TypeVar("_Record", bound=_HasQueryId)


def evaluate_grounding(
    predictions: Sequence[Prediction | Mapping[str, Any]],
    ground_truth: Sequence[GroundTruth | Mapping[str, Any]],
    *,
    missing: Missing = "error",
    presence_threshold: float = PRESENCE_THRESHOLD,
) -> dict[str, float]:
    """Scores predictions as QVHighlights does (Lei et al., 2021), matched by query id, in any order.

    An empty prediction counts 0 in every metric of QVHighlights. Queries without an answer are scored by the metrics
    of generalized moment retrieval alone (`r2tuning.metrics.generalized`), for which predictions need presence.

    Args:
        predictions: One per query: records, or mappings with the keys of a QVHighlights submission.
        ground_truth: One per query: records, or mappings with the keys of a QVHighlights annotation file.
        missing: Whether a query without a prediction is an error or counts as an empty prediction.
        presence_threshold: Presence, in [0, 1], below which a query counts as rejected.

    Returns:
        Percent, rounded to two decimals. ``MR-{range}-{metric}`` with range full, short, middle or long and metric
        ``R1@t``, ``R5@t`` (t = 0.3 … 0.95), ``mAP``, ``mAP@t`` (t = 0.5 … 0.95) or ``mIoU``; omitted for a range
        without queries. ``HL-min-{Fair,Good,VeryGood}-{mAP,Hit1}`` over the queries with saliency labels; omitted if
        there are none, or if no prediction has saliency. ``GMR-{G-mIoU@k,Rej-P,Rej-R,Rej-F1,AUROC,AP}``, k = 1, 3, 5,
        over all queries; omitted unless some have an answer and some none, and predictions have presence. `BRIEF`
        lists those that papers print.

    Raises:
        MetricError: If a record is malformed, `match_predictions` fails, nothing is annotated, or only some predictions
            have presence.

    Example:
        >>> truth = {"qid": 1, "duration": 30, "relevant_windows": [[10, 20]]}
        >>> prediction = {"qid": 1, "pred_relevant_windows": [[12, 20, 0.9], [0, 10, 0.1]]}
        >>> metrics = evaluate_grounding([prediction], [truth])
        >>> metrics["MR-full-R1@0.7"], metrics["MR-full-mAP"], metrics["MR-full-mIoU"]
        (100.0, 70.0, 80.0)
    """
    truths = [GroundTruth.from_json(line) if isinstance(line, Mapping) else line for line in ground_truth]
    given = [Prediction.from_json(line) if isinstance(line, Mapping) else line for line in predictions]
    matched = match_predictions(given, truths, missing)
    metrics = score_moments(matched, truths) if truths else {}
    labeled = [
        pair for pair in zip(matched, truths, strict=True) if pair[1].saliency is not None and pair[1].answerable
    ]
    if labeled and (not given or any(prediction.saliency is not None for prediction in given)):
        metrics |= score_highlights(*zip(*labeled, strict=True))
    told = sum(prediction.presence is not None for prediction in given)
    if told and told < len(given):
        raise MetricError(f"{told} of {len(given)} predictions have presence; give it for all or for none")
    if told and any(len(truth.windows) for truth in truths) and not all(truth.answerable for truth in truths):
        generalized = score_generalized(matched, truths, presence_threshold)
        metrics |= {f"GMR-{name}": value for name, value in generalized.items()}
    if not metrics:
        raise MetricError(f"the ground truth has no moments and no labels (queries: {len(truths)}); annotate some")
    return {name: round(100 * value, 2) for name, value in metrics.items()}


def match_predictions(
    predictions: Sequence[Prediction], ground_truth: Sequence[_HasQueryId], missing: Missing = "error"
) -> list[Prediction]:
    """Finds the prediction for each query, by its id, in the order of the ground truth.

    A query without a prediction is an error; if ``missing`` is ``"zero"``, it gets an empty one.

    Raises:
        MetricError: If an id occurs twice, a prediction belongs to no query, or a query has no prediction.

    Example:
        >>> first, second = Prediction(1, [[0, 1, 0.9]]), Prediction(2, [])
        >>> [prediction.qid for prediction in match_predictions([second, first], [first, second])]
        [1, 2]
    """
    matched = match_records(predictions, ground_truth, missing)
    return [
        Prediction(truth.qid, np.empty((0, 3))) if prediction is None else prediction
        for prediction, truth in zip(matched, ground_truth, strict=True)
    ]


def match_records(
    predictions: Sequence[_Record], ground_truth: Sequence[_HasQueryId], missing: Missing = "error"
) -> list[_Record | None]:
    """Finds predictions as `match_predictions` does, of any kind; None where one is missing."""
    if missing not in ("error", "zero"):
        raise MetricError(f"missing is {missing!r}; give 'error' or 'zero'")
    by_id = {prediction.qid: prediction for prediction in predictions}
    known = {truth.qid for truth in ground_truth}
    for records, unique, name in ((predictions, by_id, "predictions"), (ground_truth, known, "ground truths")):
        if len(unique) < len(records):
            repeated = [qid for qid, count in Counter(record.qid for record in records).items() if count > 1]
            raise MetricError(f"{name} repeat {_list_queries(repeated)}; keep one of each")
    if extra := [qid for qid in by_id if qid not in known]:
        raise MetricError(
            f"predictions for {_list_queries(extra)} that the ground truth lacks; remove them, or give the file "
            "that has them"
        )
    if (absent := [truth.qid for truth in ground_truth if truth.qid not in by_id]) and missing == "error":
        raise MetricError(
            f"no prediction for {_list_queries(absent)} of {len(known)}; predict them, or count them as 0 with "
            "missing='zero'"
        )
    return [by_id.get(truth.qid) for truth in ground_truth]


def _list_queries(qids: list[QueryId]) -> str:
    """How many queries, and the first few."""
    first = ", ".join(map(repr, qids[:5])) + (", …" if len(qids) > 5 else "")
    return f"{len(qids)} {'query' if len(qids) == 1 else 'queries'} ({first})"
