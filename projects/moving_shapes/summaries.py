"""Do summaries hold what matters? ``python -m projects.moving_shapes.summaries DIR CHECKPOINT``.

What matters in a video is how its raters grade each 2-second clip, on average over all queries. Scores of clips are
compared with that by rank, and summaries by how much of it they hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from projects.moving_shapes.kinds import recall_script
from projects.moving_shapes.shared import (
    BENCHMARK,
    make_parser,
    open_features,
    read_split,
    to_markdown,
    write_json,
)
from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import Annotation
from r2tuning.decoding.summary import choose_shots
from r2tuning.errors import DataError
from r2tuning.evaluation.predict import open_video, predict, see_whole
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder, outline_video
from r2tuning.intervals import FloatArray
from r2tuning.metrics.reliability import kendall_tau, spearman_rho
from r2tuning.results import RATIO, Grounding
from r2tuning.synthetic.scenes import FPS
from r2tuning.video.shots import detect_shots

DRAWS = 20
"""Number of random curves that are averaged for each video."""

NEAR = 0.5 / FPS
"""Seconds by which a true cut may be off: less than a frame."""

Shots = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Case:
    """A video, its shots in seconds, and what matters in it, ``[T]``."""

    answer: Grounding
    shots: Shots
    importance: FloatArray


@dataclass(frozen=True)
class Row:
    """How good one kind of scores is, on average over videos.

    Attributes:
        name: The kind of scores.
        kendall_tau: Rank correlation of scores and importance.
        spearman_rho: The same by Spearman.
        held: Importance in the summary, as a share of the best summary with the same budget.
        used: Length of the summary, as a share of its budget.
        most_used: The greatest such share.
    """

    name: str
    kendall_tau: float
    spearman_rho: float
    held: float
    used: float
    most_used: float


@dataclass(frozen=True)
class Cuts:
    """Numbers of true cuts, of true cuts that were found, and of false ones."""

    true: int
    found: int
    false: int


def find_importance(annotations: Sequence[Annotation]) -> FloatArray:
    """Mean rating ``[clips]`` of every clip of a video, 0 to 4, over raters and queries.

    Raises:
        DataError: If a query has no ratings.
    """
    ratings = []
    for annotation in annotations:
        if annotation.saliency is None:
            raise DataError(f"query {annotation.qid!r} has no ratings; give annotations of Moving Shapes")
        ratings.append(annotation.saliency.mean(axis=1))
    return np.asarray(np.mean(ratings, axis=0))


def spread_evenly(clips: int, chosen: int) -> FloatArray:
    """1 for ``chosen`` clips at equal distances, 0 for the others.

    Example:
        >>> spread_evenly(9, 3).astype(int).tolist()
        [0, 1, 0, 0, 1, 0, 0, 1, 0]
    """
    scores = np.zeros(clips)
    scores[((np.arange(chosen) + 0.5) * clips / chosen).astype(int)] = 1
    return scores


def hold(spans: Shots, importance: FloatArray, duration: float) -> float:
    """Importance × seconds within spans.

    Example:
        >>> hold([(1.0, 4.0)], np.array([2.0, 0.5]), duration=4.0)
        3.0
    """
    edges = np.linspace(0, duration, len(importance) + 1)
    shared = [np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None) for start, end in spans]
    return float(np.sum(shared, axis=0) @ importance)


def score_curves(name: str, cases: Sequence[Case], curves: Sequence[Sequence[FloatArray]]) -> Row:
    """Scores a kind of curves, of which each video has one or more."""
    results = []
    for case, tried in zip(cases, curves, strict=True):
        scored = [_score(case, curve, _summarize(case, curve)) for curve in tried]
        results.append(np.mean(scored, axis=0).tolist())
    return _average(name, results)


def score_even(cases: Sequence[Case]) -> Row:
    """Scores single clips at equal distances, as many as the budget has room for."""
    results = []
    for case in cases:
        clips = len(case.importance)
        clip = case.answer.duration / clips
        curve = spread_evenly(clips, max(1, int(RATIO * clips)))
        spans = [(index * clip, (index + 1) * clip) for index in np.flatnonzero(curve).tolist()]
        results.append(_score(case, curve, spans))
    return _average("evenly spaced", results)


def _average(name: str, results: Sequence[Sequence[float]]) -> Row:
    tau, rho, held, used = np.mean(results, axis=0).tolist()
    return Row(name, tau, rho, held, used, max(result[-1] for result in results))


def _summarize(case: Case, curve: FloatArray) -> Shots:
    answer = case.answer
    extent = answer.start, answer.start + answer.duration
    shots = choose_shots(answer.saliency.times, curve, extent, case.shots, RATIO * answer.duration)
    return [(start - answer.start, end - answer.start) for start, end, _ in shots]


def _score(case: Case, curve: FloatArray, spans: Shots) -> list[float]:
    duration = case.answer.duration
    best = hold(_summarize(case, case.importance), case.importance, duration)
    held = hold(spans, case.importance, duration) / best if best > 0 else 1.0
    used = sum(end - start for start, end in spans) / (RATIO * duration)
    return [kendall_tau(curve, case.importance), spearman_rho(curve, case.importance), held, used]


def compare_cuts(found: Shots, true: Sequence[float]) -> Cuts:
    """Counts the cuts between shots that are true ones.

    Example:
        >>> compare_cuts([(0, 4), (4, 6), (6, 9)], [4.02, 8])
        Cuts(true=2, found=1, false=1)
    """
    cuts = [start for start, _ in found[1:]]
    hits = sum(any(abs(cut - other) < NEAR for other in cuts) for cut in true)
    return Cuts(true=len(true), found=hits, false=len(cuts) - hits)


def read_cases(
    folder: Path, videos: Mapping[str, Sequence[Annotation]], store: FeatureStore
) -> tuple[list[Case], Cuts]:
    """The videos, and how well their cuts are found."""
    cases, cuts = [], []
    for vid, queries in videos.items():
        shots = detect_shots(folder / "videos" / f"{vid}.mp4")
        cuts.append(compare_cuts(shots, [scene.start for scene in recall_script(vid).scenes[1:]]))
        answer = outline_video(open_video(queries[0], BENCHMARK, store, layers=1))
        cases.append(Case(answer, shots, find_importance(queries)))
    return cases, Cuts(*np.sum([(c.true, c.found, c.false) for c in cuts], axis=0).tolist())


def main(arguments: Sequence[str] | None = None) -> None:
    """Scores the videos of a split in four ways."""
    options = make_parser("Summaries of Moving Shapes against what matters in the videos.").parse_args(arguments)
    annotations, store = read_split(options.folder, options.split), open_features(options.folder)
    config, model = read_checkpoint(options.checkpoint)
    predictions = predict(Grounder(model, see_whole(config), None), annotations, BENCHMARK, store)
    videos: dict[str, list[Annotation]] = defaultdict(list)
    curves: dict[str, list[FloatArray]] = defaultdict(list)
    for annotation, prediction in zip(annotations, predictions, strict=True):
        assert prediction.saliency is not None  # our models always give it
        videos[annotation.vid].append(annotation)
        curves[annotation.vid].append(prediction.saliency)
    cases, cuts = read_cases(options.folder, videos, store)
    draw = np.random.default_rng(0)
    rows = [
        score_curves("saliency, mean over the queries", cases, [[np.mean(curves[vid], axis=0)] for vid in videos]),
        score_curves("no query", cases, [[case.answer.saliency.scores] for case in cases]),
        score_curves("random", cases, [list(draw.random((DRAWS, len(case.importance)))) for case in cases]),
        score_even(cases),
    ]
    content = {"split": options.split, "videos": len(cases), "queries": len(annotations), "ratio": RATIO}
    write_json(options.json, content | {"cuts": asdict(cuts), "scores": list(map(asdict, rows))})
    headings = ["scores", "Kendall", "Spearman", "importance held", "budget used", "at most"]
    table = [
        [
            row.name,
            f"{row.kendall_tau:.3f}",
            f"{row.spearman_rho:.3f}",
            *(f"{100 * value:.0f} %" for value in (row.held, row.used, row.most_used)),
        ]
        for row in rows
    ]
    print(to_markdown(headings, table))
    print(f"Cuts: {cuts.found} of {cuts.true} found, {cuts.false} false.")


if __name__ == "__main__":
    main()
