import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.files import shared_file
from support.reference_metrics import highlight_metrics, top5_area, trapezoid_area

from r2tuning.errors import MetricError
from r2tuning.metrics import GroundTruth, Prediction, tvsum_top5_map, youtube_map
from r2tuning.metrics.highlight_detection import (
    interpolated_average_precision,
    score_highlights,
    trapezoid_average_precision,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "saliency_metrics.json").read_text(encoding="utf-8"))
SCORE = st.sampled_from([-0.5, 0.0, 0.2, 0.7])  # few values: ties, and ties with the padding's 0
CURVE = st.lists(SCORE, min_size=1, max_size=12)


@st.composite
def labelled_queries(draw: st.DrawFn) -> tuple[list[Prediction], list[GroundTruth]]:
    predictions, ground_truth = [], []
    for qid in range(draw(st.integers(1, 4))):
        clips = draw(st.integers(1, 10))
        ids = draw(st.lists(st.integers(0, clips - 1), unique=True))
        labels = [draw(st.lists(st.integers(0, 4), min_size=3, max_size=3)) for _ in ids]
        duration = 2 * clips + draw(st.sampled_from([0, 1.5]))
        ground_truth.append(GroundTruth(qid, duration, np.empty((0, 2)), ids, labels))
        predictions.append(Prediction(qid, np.empty((0, 3)), draw(st.none() | st.just([]) | CURVE)))
    return predictions, ground_truth


def read_labels(name: str) -> dict[str, np.ndarray]:
    with shared_file(f"annotations/{name}").open(encoding="utf-8") as lines:
        return {line["qid"]: np.array(line["label"]) for line in map(json.loads, lines)}


@settings(max_examples=200)
@given(labelled_queries())
def test_agrees_with_loops(queries: tuple[list[Prediction], list[GroundTruth]]) -> None:
    assert score_highlights(*queries) == pytest.approx(highlight_metrics(*queries), rel=0, abs=1e-12)


def test_equal_scores_are_one_point() -> None:
    positive = np.array([[True], [False], [True], [False]])
    tied = interpolated_average_precision(np.full(4, 0.3), positive)
    assert tied.tolist() == [0.5]
    assert interpolated_average_precision(np.full(4, 0.3), positive[::-1]).tolist() == [0.5]


def test_precision_averages_over_recall_levels_not_positives() -> None:
    # Two positives tie at the top (precision 1, recall 2/3), the third comes last (3/5): two levels, equal weight.
    scores = np.array([0.9, 0.9, 0.5, 0.4, 0.1])
    positive = np.array([[True], [True], [False], [False], [True]])
    assert interpolated_average_precision(scores, positive)[0] == pytest.approx((1 + 3 / 5) / 2)


@given(CURVE)
def test_only_the_order_of_scores_matters(curve: list[float]) -> None:
    scores = np.array(curve)
    positive = (np.arange(3 * len(curve)).reshape(-1, 3) * 7) % 5 > 2
    assert (
        interpolated_average_precision(scores, positive).tolist()
        == interpolated_average_precision(np.exp(scores) + 3, positive).tolist()
    )


def labelled(clips: int, *positive: int) -> GroundTruth:
    return GroundTruth(1, 2 * clips, np.empty((0, 2)), list(positive), [[4, 0, 0]] * len(positive))


def test_hit_looks_at_the_scores_as_given() -> None:
    for curve, hit in (
        ([0.1, 0.9, 0.9], 1),  # the first of equal scores
        ([0.9, 0.1, 0.1], 0),
        ([-0.9, -0.1], 1),  # the padded 0 of the last clip is not an answer
        ([0.1, 0.2, 0.1, 0.5], 0),  # beyond the last clip
    ):
        metrics = score_highlights([Prediction(1, np.empty((0, 3)), curve)], [labelled(3, 1)])
        assert metrics["HL-min-VeryGood-Hit1"] == hit, curve


def test_an_empty_curve_counts_0_even_where_all_clips_are_positive() -> None:
    for curve in (None, []):
        assert set(score_highlights([Prediction(1, [], curve)], [labelled(2, 0, 1)]).values()) == {0.0}
    # One of three workers finds both clips very good, the other two none: 0, counted.
    metrics = score_highlights([Prediction(1, [], [0.0, 0.0])], [labelled(2, 0, 1)])
    assert metrics["HL-min-VeryGood-mAP"] == pytest.approx(1 / 3)


@given(st.lists(st.tuples(SCORE, st.booleans()), min_size=1, max_size=12), st.none() | st.just(5))
def test_trapezoids_agree_with_a_walk(clips: list[tuple[float, bool]], top: int | None) -> None:
    scores, positive = map(list, zip(*clips, strict=True))
    area = trapezoid_average_precision(np.array(scores), np.array(positive), top=top)
    assert float(area) == pytest.approx(trapezoid_area(scores, positive, top), rel=0, abs=1e-12)


@given(st.lists(st.tuples(SCORE, st.tuples(*[st.integers(1, 5)] * 3)), min_size=1, max_size=12))
def test_top5_agrees_with_a_walk(clips: list[tuple[float, tuple[int, ...]]]) -> None:
    scores, ratings = map(list, zip(*clips, strict=True))
    expected = round(100 * top5_area(scores, ratings), 2)
    assert tvsum_top5_map([scores], [ratings]) == pytest.approx(expected, rel=0, abs=0.0101)


def test_tvsum_golden() -> None:
    ratings, golden = read_labels("tvsum_val.jsonl"), GOLDEN["tvsum"]
    curves = {video: entry["saliency"] for video, entry in golden["per_video"].items()}
    assert len(curves) == 10
    for video, entry in golden["per_video"].items():
        mean = trapezoid_average_precision(
            np.array(curves[video]), ratings[video] > np.median(ratings[video], axis=0), top=5
        ).mean()
        assert round(float(mean), 5) == entry["top5_mAP"], video
    whole = tvsum_top5_map(list(curves.values()), [ratings[video] for video in curves])
    assert whole == pytest.approx(100 * golden["all_videos"], rel=0, abs=0.00501)  # the file has 3 decimals of percent


def test_youtube_golden() -> None:
    labels, golden = read_labels("youtube_highlight_val.jsonl"), GOLDEN["youtube"]
    assert len(golden["per_domain_mAP"]) == 6
    for domain, expected in golden["per_domain_mAP"].items():
        videos = {key: entry["saliency"] for key, entry in golden["per_video"].items() if entry["domain"] == domain}
        score = youtube_map(list(videos.values()), [labels[video][:, 0] for video in videos])
        assert score == pytest.approx(100 * expected, rel=0, abs=0.00501), domain


def test_videos_without_positives_count_0() -> None:
    assert youtube_map([[0.5, 0.1], [0.5, 0.1]], [[-1, 0], [1, 0]]) == 50.0
    assert tvsum_top5_map([[0.5, 0.1]], [[[3], [3]]]) == 0.0


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(MetricError, match=r"^1 saliency curves for 2 judged videos; give one each$"):
        youtube_map([[0.1]], [[1], [0]])
    with pytest.raises(MetricError, match=r"^0 saliency curves for 0 judged videos"):
        youtube_map([], [])
    with pytest.raises(MetricError, match=r"^video 1: 2 saliency scores for 1 labels; give one each$"):
        youtube_map([[0.1], [0.1, 0.2]], [[1], [1]])
    with pytest.raises(MetricError, match=r"^video 0: saliency scores hold nan; give finite numbers$"):
        tvsum_top5_map([[float("nan")]], [[[1, 2]]])
    with pytest.raises(MetricError, match=r"^video 0: labels have shape \[2, 1\]; give \[n\]$"):
        youtube_map([[0.1, 0.2]], [[[1], [0]]])
