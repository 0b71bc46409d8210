"""Calibrated scores mean what they say of data they were not fitted to, and no benchmark's metric notices them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_benchmarks import make_model, save_answered, save_charades

from r2tuning.checkpoints import read_checkpoint
from r2tuning.cli.evaluate import place_data
from r2tuning.datasets import Annotation
from r2tuning.decoding.calibration import sigmoid
from r2tuning.errors import MetricError
from r2tuning.evaluation.calibrate import choose_threshold, fit_calibration, measure_calibration
from r2tuning.evaluation.evidence import Evidence, Judged, find_absent, gather_evidence, judge_moments, mismatch
from r2tuning.evaluation.predict import predict
from r2tuning.evaluation.score import score_predictions
from r2tuning.evaluation.splits import open_split
from r2tuning.grounder import Grounder
from r2tuning.metrics import Prediction, expected_calibration_error
from r2tuning.training.recipes import load_recipe

presences = st.lists(st.integers(1, 7).map(lambda n: n / 8), min_size=1, max_size=8).map(np.array)


def draw(seed: int, queries: int = 300, gap: float = 2.0) -> Evidence:
    """What an overconfident model may say: of moments, the truth has half the log-odds and one less."""
    random = np.random.default_rng(seed)
    odds = random.normal(-0.5, 2, 20 * queries)
    frames = random.uniform(-1, 1, 50 * queries)
    there, not_there = (np.column_stack([random.normal(m, 1, queries), random.normal(0, 1, queries)]) for m in (gap, 0))
    return Evidence(
        Judged(sigmoid(odds), random.uniform(size=len(odds)) < sigmoid(0.5 * odds - 1)),
        Judged(frames, random.uniform(size=len(frames)) < sigmoid(4 * frames - 4)),
        there,
        not_there,
    )


def test_the_true_maps_are_found() -> None:
    found = fit_calibration(draw(0))
    assert found.moments is not None
    assert (found.moments.slope, found.moments.offset) == pytest.approx((0.5, -1), abs=0.1)
    assert (found.saliency.slope, found.saliency.offset) == pytest.approx((4, -4), abs=0.2)
    # Gaussians 2 apart: the log-odds are 2x - 2, and what is noise in both weighs nothing.
    assert found.presence is not None
    assert found.presence.moment == pytest.approx(2, abs=0.4)
    assert found.presence.saliency == pytest.approx(0, abs=0.3)
    assert found.presence.threshold == pytest.approx(0.5, abs=0.15)


def test_errors_vanish_on_other_data() -> None:
    other = draw(1)
    quality = measure_calibration(fit_calibration(draw(0)), other)
    assert quality.moments is not None
    assert quality.presence is not None
    for score in (quality.moments, quality.saliency):
        assert expected_calibration_error(score.before) > 0.1
        assert expected_calibration_error(score.after) < 0.02
    assert expected_calibration_error(quality.presence.reliability) < 0.06
    # Φ(2/√2) and Φ(1)
    assert quality.presence.auroc == pytest.approx(0.921, abs=0.03)
    assert (quality.presence.kept, quality.presence.noticed) == pytest.approx((0.841, 0.841), abs=0.08)


def test_presence_that_is_no_better_than_chance_is_not_told() -> None:
    evidence = draw(0, gap=0)
    found = fit_calibration(evidence)
    assert found.presence is None
    assert measure_calibration(found, evidence).presence is None
    assert fit_calibration(replace(evidence, absent=np.empty((0, 2)))).presence is None


def test_scores_that_mean_nothing_are_refused() -> None:
    evidence = draw(0)
    assert evidence.moments is not None
    for what, changed in (
        ("moments", replace(evidence, moments=replace(evidence.moments, right=~evidence.moments.right))),
        ("frames", replace(evidence, saliency=replace(evidence.saliency, right=~evidence.saliency.right))),
    ):
        with pytest.raises(MetricError, match=f"{what} of higher score are not more often right"):
            fit_calibration(changed)


@settings(max_examples=30)
@given(presences, presences)
def test_no_threshold_is_better(present: np.ndarray, absent: np.ndarray) -> None:
    def merit(threshold: float) -> tuple[float, float]:
        balanced = float((present >= threshold).mean() + (absent < threshold).mean())
        return round(balanced, 9), -abs(threshold - 0.5)

    values = sorted({0.0, 1.0, *present, *absent})
    best = max(merit((low + high) / 2) for low, high in pairwise(values))
    assert merit(choose_threshold(present, absent)) == best


def test_moments_are_right_from_half_an_overlap_on() -> None:
    truth = Annotation(1, "a", "a dog", 100, ((10, 20), (50, 60)))
    answer = Prediction(1, [[10, 20, 0.9], [15, 20, 0.8], [15.1, 20, 0.7], [52, 60, 0.6], [50, 60, 0]])
    found = judge_moments([answer], [truth])
    assert found.right.tolist() == [True, True, False, True]
    assert found.scores.tolist() == [0.9, 0.8, 0.7, 0.6]


def test_queries_are_asked_of_videos_that_do_not_have_them() -> None:
    rows = [("a", "A dog", "x"), ("b", "a dog", "y"), ("c", "a cat", "x"), ("d", "a cow", "y"), ("d", "a dog", "y")]
    asked = [Annotation(i, vid, query, 9) for i, (vid, query, _) in enumerate(rows)]
    having = {("a dog", "a"), ("a dog", "b"), ("a dog", "d"), ("a cat", "c"), ("a cow", "d")}
    pairs = mismatch(asked)
    assert [query for query, _ in pairs] == asked
    assert not {(query.query.lower(), video.vid) for query, video in pairs} & having
    domains = [replace(a, domain=domain) for a, (_, _, domain) in zip(asked, rows, strict=True)]
    assert all(query.domain != video.domain for query, video in mismatch(domains))
    assert mismatch([replace(a, domain="x") for a in asked]) == []


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_answered(tmp_path_factory.mktemp("shapes")).parent


def test_no_metric_notices_a_calibration(shapes: Path) -> None:
    plan = place_data(load_recipe("moving-shapes"), shapes, None)
    data = open_split(plan.data, fps=plan.fps)
    config, model = read_checkpoint(shapes / "model")
    in_vain = find_absent(data)
    assert in_vain.source == "val_absent.jsonl"
    evidence = gather_evidence(Grounder(model, config, None), data, in_vain)
    calibration = fit_calibration(evidence)
    raw, calibrated = (
        predict(Grounder(model, config, None, calibration=c), data.annotations, data.benchmark, data.store)
        for c in (None, calibration)
    )
    assert raw[0].windows[0, 2] != calibrated[0].windows[0, 2]
    for one, other in zip(raw, calibrated, strict=True):
        assert np.array_equal(one.windows[:, :2], other.windows[:, :2])
        assert one.saliency is not None
        assert other.saliency is not None
        assert np.array_equal(np.argsort(one.saliency, kind="stable"), np.argsort(other.saliency, kind="stable"))
    rated = [replace(a, saliency=rate(a)) for a in data.annotations]
    scores = score_predictions(raw, rated, data.benchmark)
    assert any(name.startswith("HL") for name in scores)
    assert score_predictions(calibrated, rated, data.benchmark) == scores


def rate(annotation: Annotation) -> np.ndarray:
    assert annotation.duration is not None
    return np.random.default_rng(len(annotation.query)).integers(0, 5, (int(annotation.duration / 2), 3)).astype(float)


def test_without_a_file_queries_are_asked_of_other_videos(tmp_path: Path) -> None:
    save_charades(tmp_path)
    plan = place_data(load_recipe("charades-sta"), tmp_path, None)
    data = open_split(plan.data, fps=plan.fps)
    in_vain = find_absent(data)
    assert in_vain.source == "queries of other videos"
    config, model = make_model()
    grounder = Grounder(model, config, None)
    evidence = gather_evidence(grounder, data, in_vain)
    assert evidence.absent.shape == evidence.present.shape == (12, 2)
    # The answer is that of the other video to this query.
    query, video = in_vain.queries[3], in_vain.videos[3]
    assert video.vid != query.vid
    (own,) = predict(grounder, [replace(query, vid=video.vid, duration=video.duration)], data.benchmark, data.store)
    assert evidence.absent[3, 1] == pytest.approx(np.sort(own.saliency)[-2:].mean(), abs=1e-6)


def test_only_what_a_benchmark_asks_for_can_be_calibrated(tmp_path: Path) -> None:
    save_charades(tmp_path)
    plan = place_data(load_recipe("charades-sta"), tmp_path, None)
    data = open_split(plan.data, fps=plan.fps)
    config, model = make_model("saliency")
    with pytest.raises(
        MetricError, match="small: is of the saliency family, but charades-sta scores moments; choose another recipe"
    ):
        gather_evidence(Grounder(model, config, None), data, find_absent(data))
    unlabelled = replace(data, annotations=[replace(a, moments=()) for a in data.annotations])
    with pytest.raises(MetricError, match="withheld"):
        gather_evidence(Grounder(*reversed(make_model()), None), unlabelled, find_absent(data))
