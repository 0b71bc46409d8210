"""Search across the videos of a split: the backbone names candidates, which are grounded and ranked by all evidence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from r2tuning.backbones import Backbone
from r2tuning.datasets import Annotation, Benchmark
from r2tuning.decoding.calibration import RankingMap, log_odds, top_saliency
from r2tuning.errors import MetricError
from r2tuning.evaluation.calibrate import fit_logistic
from r2tuning.evaluation.evidence import RIGHT_IOU
from r2tuning.evaluation.predict import open_query, open_video
from r2tuning.evaluation.splits import require_features
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder
from r2tuning.intervals import FloatArray, temporal_iou
from r2tuning.metrics import CorpusPrediction, CorpusTruth
from r2tuning.metrics.corpus import RECALL_TOPS
from r2tuning.results import Grounding

CANDIDATES = 20
"""Videos in which a query is grounded: those that have the frames nearest to it."""

EVIDENCE = ("moment", "saliency", "head", "cosine")
"""The weights of a `RankingMap`, in the order of what it reads."""


@dataclass(frozen=True)
class Candidate:
    """A query grounded in one video.

    Attributes:
        video: Its name.
        moments: ``[N, 3]``, distinct moments: start and end in seconds, raw score, best first.
        evidence: ``[3]``: top saliency, log-odds of the presence head (or 0), highest cosine of query and frame.
    """

    video: str
    moments: FloatArray
    evidence: FloatArray

    def weigh(self) -> FloatArray:
        """What `RankingMap.apply` reads, ``[N, 4]``."""
        return np.column_stack([log_odds(self.moments[:, 2]), np.tile(self.evidence, (len(self.moments), 1))])


@torch.inference_mode()
def search_videos(
    grounder: Grounder,
    backbone: Backbone,
    queries: Sequence[Annotation],
    videos: Sequence[Annotation],
    benchmark: Benchmark,
    store: FeatureStore,
    *,
    most: int | None = CANDIDATES,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Candidate]]:
    """Grounds every query in the videos whose nearest frame is nearest to it in the backbone's joint space.

    Args:
        grounder: Without a calibration, so that scores are raw.
        backbone: The one that the features are of.
        queries: Q queries; of the labels, none is used.
        videos: An annotation of each video; their queries do not matter.
        benchmark: Whose annotations they are.
        store: Features of both.
        most: Videos to ground a query in; None for all.
        progress: Called with the number of pairs done and the total.

    Returns:
        The candidates of each query, in the order of the videos.

    Raises:
        BackboneError: If the backbone has no joint space.
        FeatureError: If features are missing or of another model.
    """
    require_features(queries, benchmark, store)
    require_features(videos, benchmark, store)
    sentences = backbone.embed_queries([query.query for query in queries])
    layers = grounder.config.model.layers
    nearest = []
    for video in videos:
        encoded = open_video(video, benchmark, store, 1)
        frames = backbone.embed_frames(encoded.read(0, encoded.frames).transpose(0, 1))
        nearest.append((frames @ sentences.T).amax(dim=0).cpu())
    cosines = torch.stack(nearest).double()  # [V, Q]
    chosen = torch.zeros(cosines.shape, dtype=torch.bool)
    chosen[cosines.topk(min(most or len(videos), len(videos)), dim=0).indices, torch.arange(len(queries))] = True
    asked = [open_query(query, benchmark, store, layers) for query in queries]
    found: list[list[Candidate]] = [[] for _ in queries]
    done = 0
    for place, video in enumerate(videos):
        numbers = chosen[place].nonzero().flatten().tolist()
        if not numbers:
            continue
        encoded = open_video(video, benchmark, store, layers)
        answers = grounder.answer(encoded, [asked[number] for number in numbers], overlapping=False)
        for number, answer in zip(numbers, answers, strict=True):
            found[number].append(_to_candidate(video.vid, answer, float(cosines[place, number])))
        done += len(numbers)
        if progress is not None:
            progress(done, int(chosen.sum()))
    return found


def _to_candidate(video: str, answer: Grounding, cosine: float) -> Candidate:
    moments = np.array([[m.start, m.end, m.score] for m in answer.moments], dtype=np.float64).reshape(-1, 3)
    head = 0.0 if answer.presence is None else float(log_odds(np.array(answer.presence)))
    return Candidate(video, moments, np.array([top_saliency(answer.saliency.scores), head, cosine]))


def rank_candidates(
    queries: Sequence[Annotation], found: Sequence[Sequence[Candidate]], ranking: RankingMap
) -> list[CorpusPrediction]:
    """Ranks the moments of all candidates of each query by their probability; the first hundred count.

    Example:
        >>> near = Candidate("a", np.array([[0, 5, 0.5]]), np.array([0, 0, 0.9]))
        >>> far = Candidate("b", np.array([[0, 5, 0.5]]), np.array([0, 0, 0.2]))
        >>> rank_candidates([Annotation(1, "a", "a dog", 9)], [[far, near]], RankingMap())[0].videos
        ('a', 'b')
    """
    ranked = []
    for query, candidates in zip(queries, found, strict=True):
        videos = np.repeat(np.array([c.video for c in candidates], dtype=object), [len(c.moments) for c in candidates])
        spans = np.concatenate([candidate.moments[:, :2] for candidate in candidates])
        scores = ranking.apply(np.concatenate([candidate.weigh() for candidate in candidates]))
        order = np.argsort(-scores, kind="stable")[: max(RECALL_TOPS)]
        ranked.append(CorpusPrediction(query.qid, videos[order].tolist(), np.column_stack([spans, scores])[order]))
    return ranked


def fit_ranking(
    found: Sequence[Sequence[Candidate]],
    truths: Sequence[CorpusTruth],
    names: Collection[str] = EVIDENCE,
) -> RankingMap:
    """Fits the probability that the best moment of a candidate is right, by logistic regression.

    Args:
        found: Candidates of Q queries.
        truths: Of the same queries, in the same order. What they ignore is left out.
        names: Which of `EVIDENCE` to weigh; the others get 0.

    Raises:
        MetricError: If none of the moments is right, or all are.
    """
    rows, right = [], []
    for candidates, truth in zip(found, truths, strict=True):
        for candidate in candidates:
            if candidate.video in truth.ignored or not len(candidate.moments):
                continue
            true = truth.windows[[name == candidate.video for name in truth.videos]]
            rows.append(candidate.weigh()[0])
            right.append(temporal_iou(candidate.moments[:1, :2], true).max(initial=0) >= RIGHT_IOU)
    if not rows:
        raise MetricError("no query has a moment in any video, so ranking cannot be fitted; use more annotations")
    chosen = [place for place, name in enumerate(EVIDENCE) if name in names]
    weights, offset = fit_logistic(np.array(rows)[:, chosen], np.array(right))
    fitted = dict(zip((EVIDENCE[place] for place in chosen), weights.tolist(), strict=True))
    return RankingMap(**(dict.fromkeys(EVIDENCE, 0.0) | fitted), offset=offset)
