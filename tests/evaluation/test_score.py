"""Each benchmark by its own metrics, and the file of answers that they are read from."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.files import shared_file
from support.small_benchmarks import write_lines

from r2tuning.datasets import Annotation, find_benchmark, load_annotations
from r2tuning.errors import DataError, MetricError
from r2tuning.evaluation.score import format_predictions, read_predictions, score_predictions, score_query_lengths
from r2tuning.metrics import Prediction, evaluate_grounding, tvsum_top5_map, youtube_map

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "qvhighlights_metrics.json").read_text(encoding="utf-8"))
QVHIGHLIGHTS, TVSUM = find_benchmark("qvhighlights"), find_benchmark("tvsum")
YOUTUBE, TACOS = find_benchmark("youtube-highlights"), find_benchmark("tacos")
NO_MOMENTS = np.empty((0, 3))


@cache
def load(file: str, benchmark: str) -> list[Annotation]:
    return load_annotations(shared_file(f"annotations/{file}.jsonl"), find_benchmark(benchmark))


def rated(vid: str, clips: int, domain: str = "BK") -> Annotation:
    ratings = np.random.default_rng(list(vid.encode())).integers(1, 6, (clips, 20)).astype(float)
    return Annotation(vid, vid, "a title", 2 * clips, saliency=ratings, domain=domain)


def matched(vid: str, clips: int, domain: str = "dog") -> Annotation:
    match = np.random.default_rng(list(vid.encode())).integers(-1, 2, (clips, 1)).astype(float)
    return Annotation(vid, vid, domain, 10, saliency=match, domain=domain)


def guess(annotation: Annotation, clips: int) -> Prediction:
    return Prediction(annotation.qid, NO_MOMENTS, np.random.default_rng(clips).standard_normal(clips))


def test_golden_from_files() -> None:
    truth = load("qvhighlights_val", "qvhighlights")
    path = shared_file("annotations/qvhighlights_val_moment_detr_predictions.jsonl")
    metrics = score_predictions(read_predictions(path, truth, moments=True), truth, QVHIGHLIGHTS)
    brief = GOLDEN["moment_detr_sample_val"]["brief"]
    assert {name: metrics[name] for name in brief} == brief


def test_written_answers_score_the_same(tmp_path: Path) -> None:
    truth = load("qvhighlights_val", "qvhighlights")[:200]
    draw = np.random.default_rng(0)
    answers = []
    for annotation in truth:
        windows = np.column_stack([np.sort(draw.uniform(0, 150, (50, 2)), axis=1), -np.sort(-draw.random(50))])
        answers.append(Prediction(annotation.qid, windows, draw.standard_normal(75).astype(np.float32)))
    expected = score_predictions(answers, truth, QVHIGHLIGHTS)
    for most in (None, 10):  # no metric looks beyond the tenth
        (tmp_path / "a.jsonl").write_text(format_predictions(answers, truth, most=most), encoding="utf-8")
        assert (
            score_predictions(read_predictions(tmp_path / "a.jsonl", truth, moments=True), truth, QVHIGHLIGHTS)
            == expected
        )
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert list(first) == ["qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores"]
    assert len(first["pred_relevant_windows"]) == 10


@pytest.mark.parametrize("file", ["charades_test", "tacos_test"])
def test_perfect_moments_score_100_and_empty_ones_0(file: str) -> None:
    truth = load(file, "tacos")[:300]
    perfect = [Prediction(a.qid, [[*moment, 0.5] for moment in a.moments]) for a in truth]
    metrics = score_predictions(random.Random(0).sample(perfect, len(perfect)), truth, TACOS)
    assert {metrics[f"MR-full-{name}"] for name in ("R1@0.3", "R1@0.95", "R5@0.95", "mAP", "mIoU")} == {100.0}
    empty = [Prediction(a.qid, NO_MOMENTS) for a in truth]
    assert set(score_predictions(empty, truth, TACOS).values()) == {0.0}
    assert score_predictions([], truth, TACOS, missing="zero") == score_predictions(empty, truth, TACOS)


def test_perfect_highlights_score_100() -> None:
    # Sums of three ratings rank every clip that all three rate above the rest first.
    rows = np.zeros((75, 3))
    rows[10:20] = 4
    truth = Annotation(1, "a", "a dog", 150, ((20, 40),), rows)
    answer = Prediction(1, [[20, 40, 1.0]], rows.sum(axis=1))
    metrics = score_predictions([answer], [truth], QVHIGHLIGHTS)
    assert metrics["HL-min-VeryGood-mAP"] == metrics["HL-min-Fair-Hit1"] == metrics["MR-full-mAP"] == 100


def test_youtube_is_scored_by_domain() -> None:
    dogs, skis = [matched("a", 30), matched("b", 20)], [matched("c", 9, "skiing")]
    perfect = [Prediction(a.qid, NO_MOMENTS, a.saliency[:, 0]) for a in dogs if a.saliency is not None]
    assert score_predictions(perfect, dogs, YOUTUBE) == {"mAP": 100.0}
    guesses = [guess(a, len(a.saliency)) for a in (*dogs, *skis) if a.saliency is not None]
    each = {
        "dog-mAP": youtube_map([p.saliency for p in guesses[:2]], [a.saliency[:, 0] for a in dogs]),  # type: ignore[index,misc]
        "skiing-mAP": youtube_map([guesses[2].saliency], [skis[0].saliency[:, 0]]),  # type: ignore[index,list-item]
    }
    assert each["dog-mAP"] != each["skiing-mAP"]
    assert score_predictions(guesses[::-1], [*dogs, *skis], YOUTUBE) == each | {
        "mAP": pytest.approx(sum(each.values()) / 2, rel=0, abs=0.0051)
    }


def test_tvsum_is_cut_to_the_shorter() -> None:
    video = rated("a", 40)
    assert video.saliency is not None
    for clips in (36, 40, 44):
        answer = guess(video, clips)
        assert answer.saliency is not None
        shorter = min(clips, 40)
        expected = tvsum_top5_map([answer.saliency[:shorter]], [video.saliency[:shorter]])
        assert score_predictions([answer], [video], TVSUM) == {"mAP": expected}
    for clips in (1, 35, 45):
        with pytest.raises(MetricError, match=rf"^prediction for query 'a': {clips} saliency scores for 40 labelled"):
            score_predictions([guess(video, clips)], [video], TVSUM)


@pytest.mark.parametrize(("benchmark", "make"), [(TVSUM, rated), (YOUTUBE, matched)])
def test_an_empty_curve_counts_0(benchmark: Any, make: Any) -> None:
    videos = [make("a", 40), make("b", 30)]
    full = [guess(a, a.clips) for a in videos]
    each = [score_predictions([p], [a], benchmark)["mAP"] for p, a in zip(full, videos, strict=True)]
    assert min(each) > 0
    for empty in (Prediction("b", NO_MOMENTS), Prediction("b", NO_MOMENTS, np.empty(0))):
        metrics = score_predictions([full[0], empty], videos, benchmark)
        assert metrics["mAP"] == pytest.approx(each[0] / 2, rel=0, abs=0.0101)
        assert score_predictions([empty], videos[1:], benchmark) == {"mAP": 0.0}
    assert score_predictions(full[:1], videos, benchmark, missing="zero") == metrics
    with pytest.raises(MetricError, match=r"^no prediction for 1 query \('b'\) of 2; predict them, or count"):
        score_predictions(full[:1], videos, benchmark)
    with pytest.raises(MetricError, match=r"^predictions for 1 query \('b'\) that the ground truth lacks; "):
        score_predictions(full, videos[:1], benchmark)
    with pytest.raises(MetricError, match=r"^predictions repeat 1 query \('a'\); keep one of each$"):
        score_predictions([full[0], *full], videos, benchmark)


def test_query_lengths_on_the_public_sample() -> None:
    truth = load("qvhighlights_val", "qvhighlights")
    path = shared_file("annotations/qvhighlights_val_moment_detr_predictions.jsonl")
    scores = score_query_lengths(read_predictions(path, truth, moments=True), truth)
    assert [(score.words, score.queries) for score in scores] == [
        ("1-10", 897),
        ("11-20", 622),
        ("21-30", 29),
        ("31-40", 1),
        ("41+", 1),
    ]
    with path.open(encoding="utf-8") as lines:
        answers = [line for line in map(json.loads, lines) if 21 <= len(line["query"].split()) <= 30]
    with shared_file("annotations/qvhighlights_val.jsonl").open(encoding="utf-8") as lines:
        truths = [line for line in map(json.loads, lines) if 21 <= len(line["query"].split()) <= 30]
    assert scores[2].mean_ap == evaluate_grounding(answers, truths)["MR-full-mAP"]
    # Every query is in one bin, so that their mean is that of all.
    together = sum(score.queries * (score.mean_ap or 0) for score in scores) / 1550
    assert together == pytest.approx(GOLDEN["moment_detr_sample_val"]["brief"]["MR-full-mAP"], rel=0, abs=0.011)


@pytest.mark.parametrize(
    ("words", "place"), [(1, 0), (10, 0), (11, 1), (20, 1), (21, 2), (30, 2), (40, 3), (41, 4), (99, 4)]
)
def test_ends_of_query_lengths(words: int, place: int) -> None:
    truth = Annotation(1, "a", "  ".join(["word"] * words), 30, ((10, 20),))
    unlabelled = replace(truth, qid=2, moments=())
    answers = [Prediction(1, [[10, 20, 1.0]]), Prediction(2, NO_MOMENTS)]
    scores = score_query_lengths(answers, [truth, unlabelled])
    assert [score.queries for score in scores] == [int(bin_ == place) for bin_ in range(5)]
    assert [score.mean_ap for score in scores] == [100.0 if bin_ == place else None for bin_ in range(5)]


ANSWER: dict[str, Any] = {
    "qid": 1,
    "pred_relevant_windows": [[0, 8, 0.9], [2, 4.5, 0.1]],
    "pred_saliency_scores": [0.5],
}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"pred_relevant_windows": []}, "2: qid: is missing"),
        ({"qid": 2}, "2: pred_relevant_windows: is missing"),
        (
            {"qid": 2, "pred_relevant_window": []},
            "2: pred_relevant_windows: is missing; rename 'pred_relevant_window'?",
        ),
        (ANSWER | {"pred_relevant_windows": [[0, 8]]}, "2: pred_relevant_windows[0]: is [0, 8]; "),
        (
            ANSWER | {"pred_relevant_windows": [[0, 8, 1], [9, 8, 1]]},
            "2: pred_relevant_windows[1]: is [9, 8, 1]; the start",
        ),
        (ANSWER | {"pred_relevant_windows": [[0, "8", 1]]}, "2: pred_relevant_windows[0][1]: is '8'; "),
        (ANSWER | {"pred_saliency_scores": [0.5, float("nan")]}, "2: pred_saliency_scores[1]: is nan; "),
        (ANSWER, "2: qid: 1 is already that of "),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", [ANSWER, line])
    with pytest.raises(DataError) as caught:
        read_predictions(path, [], moments=True)
    assert str(caught.value).startswith(f"{path}:{message}")


def test_videos_may_be_named_instead_of_queries(tmp_path: Path) -> None:
    videos = [replace(rated("a", 3), qid=7), rated("b", 2)]
    lines = [{"vid": "a", "pred_saliency_scores": [1, 2, 3]}, {"qid": "b", "pred_saliency_scores": [0.5, 1]}]
    found = read_predictions(write_lines(tmp_path / "a.jsonl", lines), videos, moments=False)
    assert [(p.qid, p.saliency.tolist()) for p in found if p.saliency is not None] == [(7, [1, 2, 3]), ("b", [0.5, 1])]
    for line, message in (
        ({"vid": "x", "pred_saliency_scores": [1]}, ":3: vid: 'x' is not in the ground truth; remove the line"),
        ({"pred_saliency_scores": [1]}, ":3: qid: is missing, and so is vid; give one of them"),
    ):
        path = write_lines(tmp_path / "b.jsonl", [*lines, line])
        with pytest.raises(DataError) as caught:
            read_predictions(path, videos, moments=False)
        assert str(caught.value) == f"{path}{message}"


def test_scoring_does_without_pytorch() -> None:
    command = "import sys, r2tuning.evaluation.score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0
