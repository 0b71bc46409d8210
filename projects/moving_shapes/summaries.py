"""Are summaries about what matters? ``python -m projects.moving_shapes.summaries``.

What matters in a video of Moving Shapes is known: how its raters grade each 2-second clip, on average over all queries.
Scores of clips are compared with that by rank, and summaries by how much of it they hold.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.decoding.summary import choose_shots
from r2tuning.errors import DataError
from r2tuning.evaluation.predict import open_video, predict, see_whole
from r2tuning.features.store import FeatureStore
from r2tuning.files import write_atomically
from r2tuning.grounder import Grounder, outline_video
from r2tuning.intervals import FloatArray
from r2tuning.metrics.summarization import kendall_tau, spearman_rho
from r2tuning.results import RATIO, Grounding
from r2tuning.synthetic import make_video
from r2tuning.synthetic.scenes import FPS, SPLITS, Split
from r2tuning.video.shots import detect_shots

DRAWS = 20
"""Random scores of a video, over which random results are averaged."""

NEAR = 0.5 / FPS
"""Seconds by which a cut may be off and still be the true one: less than a frame."""

Shots = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Case:
    """A video with what matters in it.

    Attributes:
        answer: Of any kind; what scores are put into.
        shots: Starts and ends, seconds.
        importance: ``[T]``, see `find_importance`.
    """

    answer: Grounding
    shots: Shots
    importance: FloatArray


@dataclass(frozen=True)
class Row:
    """How good one kind of scores is, on average over videos.

    Attributes:
        name: Of the kind.
        kendall_tau: Rank correlation of scores and importance.
        spearman_rho: The same by Spearman.
        held: Importance in the summary as a share of what the best summary of the same budget holds.
        used: Length of the summary as a share of its budget.
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
    """How many true cuts there are, how many of them were found, and how many were found that are none."""

    true: int
    found: int
    false: int


def find_importance(annotations: Sequence[Annotation]) -> FloatArray:
    """Mean rating of every clip over raters and queries.

    Args:
        annotations: All queries of one video.

    Returns:
        ``[clips]``, 0 to 4.

    Raises:
        DataError: If a query has no ratings.
    """
    for annotation in annotations:
        if annotation.saliency is None:
            raise DataError(f"query {annotation.qid!r} has no ratings; give annotations of Moving Shapes")
    return np.asarray(np.mean([np.mean(a.saliency, axis=1) for a in annotations if a.saliency is not None], axis=0))


def spread_evenly(clips: int, chosen: int) -> FloatArray:
    """1 for so many clips at equal distances, 0 for the others.

    Example:
        >>> spread_evenly(9, 3).astype(int).tolist()
        [0, 1, 0, 0, 1, 0, 0, 1, 0]
    """
    scores = np.zeros(clips)
    scores[((np.arange(chosen) + 0.5) * clips / chosen).astype(int)] = 1
    return scores


def hold(spans: Shots, importance: FloatArray, duration: float) -> float:
    """Importance × seconds within spans that count from the video's beginning.

    Example:
        >>> hold([(1.0, 4.0)], np.array([2.0, 0.5]), duration=4.0)
        3.0
    """
    edges = np.linspace(0, duration, len(importance) + 1)
    shared = [np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None) for start, end in spans]
    return float(np.sum(shared, axis=0) @ importance)


def score_curves(name: str, cases: Sequence[Case], curves: Sequence[Sequence[FloatArray]]) -> Row:
    """Scores a kind of curves.

    Args:
        name: Of the kind.
        cases: The videos.
        curves: For each video one or more curves ``[T]``, over which its results are averaged.
    """
    results = [
        np.mean([_score_curve(case, curve) for curve in tried], axis=0)
        for case, tried in zip(cases, curves, strict=True)
    ]
    tau, rho, held, used = np.mean(results, axis=0).tolist()
    return Row(name, tau, rho, held, used, float(np.max([result[-1] for result in results])))


def _score_curve(case: Case, curve: FloatArray) -> tuple[float, float, float, float]:
    return (
        kendall_tau(curve, case.importance),
        spearman_rho(curve, case.importance),
        *_compare(case, _summarize(case, curve)),
    )


def score_even(cases: Sequence[Case]) -> Row:
    """Scores the selection of single clips at equal distances, as many as the budget has room for."""
    results = []
    for case in cases:
        clips, duration = len(case.importance), case.answer.duration
        clip = duration / clips
        curve = spread_evenly(clips, max(1, int(RATIO * clips)))
        spans = [(index * clip, (index + 1) * clip) for index in np.flatnonzero(curve).tolist()]
        ranks = kendall_tau(curve, case.importance), spearman_rho(curve, case.importance)
        results.append((*ranks, *_compare(case, spans)))
    tau, rho, held, used = np.mean(results, axis=0).tolist()
    return Row("evenly spaced", tau, rho, held, used, float(np.max(results, axis=0)[-1]))


def _summarize(case: Case, curve: FloatArray) -> Shots:
    answer = case.answer
    extent = answer.start, answer.start + answer.duration
    shots = choose_shots(answer.saliency.times, curve, extent, case.shots, RATIO * answer.duration)
    return [(start - answer.start, end - answer.start) for start, end, _ in shots]


def _compare(case: Case, spans: Shots) -> tuple[float, float]:
    duration = case.answer.duration
    best = hold(_summarize(case, case.importance), case.importance, duration)
    used = sum(end - start for start, end in spans) / (RATIO * duration)
    return (hold(spans, case.importance, duration) / best if best > 0 else 1.0), used


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
    folder: Path, split: Split, videos: Mapping[str, Sequence[Annotation]], store: FeatureStore
) -> tuple[list[Case], Cuts]:
    """What is known of every video, and how well its cuts are found."""
    benchmark, cases, cuts = find_benchmark("moving-shapes"), [], []
    for vid, queries in videos.items():
        shots = detect_shots(folder / "videos" / f"{vid}.mp4")
        script = make_video(int(vid.rpartition("-")[2]), split)
        cuts.append(compare_cuts(shots, [scene.start for scene in script.scenes[1:]]))
        answer = outline_video(open_video(queries[0], benchmark, store, layers=1))
        cases.append(Case(answer, shots, find_importance(queries)))
    return cases, Cuts(*np.sum([(c.true, c.found, c.false) for c in cuts], axis=0).tolist())


def format_rows(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table.

    Example:
        >>> print(format_rows([Row("random", 0.0123, -0.02, 0.5, 0.9, 1.0)]), end="")
        | scores | Kendall | Spearman | importance held | budget used | at most |
        |---|---:|---:|---:|---:|---:|
        | random | 0.012 | -0.020 | 50 % | 90 % | 100 % |
    """
    lines = ["| scores | Kendall | Spearman | importance held | budget used | at most |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    lines += [
        f"| {row.name} | {row.kendall_tau:.3f} | {row.spearman_rho:.3f} | {row.held:.0%} | {row.used:.0%} "
        f"| {row.most_used:.0%} |".replace("%", " %")
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Scores the videos of a split in four ways."""
    parser = argparse.ArgumentParser(description="Summaries of Moving Shapes against what matters in the videos.")
    parser.add_argument("folder", type=Path, help="of SPLIT.jsonl, videos/ and features/")
    parser.add_argument("checkpoint", help="name or folder")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    benchmark = find_benchmark("moving-shapes")
    annotations = load_annotations(benchmark.find_file(options.folder, options.split), benchmark)
    store = FeatureStore.open(options.folder / "features")
    config, model = read_checkpoint(options.checkpoint)
    predictions = predict(Grounder(model, see_whole(config), None), annotations, benchmark, store)
    videos: dict[str, list[Annotation]] = defaultdict(list)
    asked: dict[str, list[FloatArray]] = defaultdict(list)
    for annotation, prediction in zip(annotations, predictions, strict=True):
        assert prediction.saliency is not None  # our models always give it
        videos[annotation.vid].append(annotation)
        asked[annotation.vid].append(prediction.saliency)
    cases, cuts = read_cases(options.folder, options.split, videos, store)
    draw = np.random.default_rng(0)
    rows = [
        score_curves("saliency, mean over the queries", cases, [[np.mean(asked[vid], axis=0)] for vid in videos]),
        score_curves("no query", cases, [[case.answer.saliency.scores] for case in cases]),
        score_curves("random", cases, [list(draw.random((DRAWS, len(case.importance)))) for case in cases]),
        score_even(cases),
    ]
    if options.json is not None:
        content = {"split": options.split, "videos": len(cases), "queries": len(annotations), "ratio": RATIO}
        found = {"cuts": asdict(cuts), "scores": [asdict(row) for row in rows]}
        write_atomically(options.json, json.dumps(content | found, indent=2) + "\n", force=True)
    print(format_rows(rows), end="")
    print(f"Cuts: {cuts.found} of {cuts.true} found, {cuts.false} false.")


if __name__ == "__main__":
    main()
