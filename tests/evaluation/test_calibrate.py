"""Calibrated scores mean what they say of data they were not fitted to, and no benchmark's metric notices them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from support.small_benchmarks import make_model, save_answered, save_charades

from r2tuning.checkpoints import read_checkpoint
from r2tuning.cli.evaluate import place_data
from r2tuning.datasets import Annotation
from r2tuning.decoding.calibration import sigmoid
from r2tuning.errors import MetricError
from r2tuning.evaluation.calibrate import choose_threshold, fit_calibration, fit_logistic, measure_calibration
from r2tuning.evaluation.evidence import Evidence, Judged, find_absent, gather_evidence, judge_moments, mismatch
from r2tuning.evaluation.predict import predict
from r2tuning.evaluation.score import score_predictions
from r2tuning.evaluation.splits import open_split
from r2tuning.grounder import Grounder
from r2tuning.metrics import Prediction, expected_calibration_error
from r2tuning.training.recipes import load_recipe

presences = st.lists(st.integers(1, 7).map(lambda n: n / 8), min_size=1, max_size=8).map(np.array)


def draw(seed: int, queries: int = 300, gap: float = 2.0) -> Evidence:
    """What an overconfident model may say: of moments, the truth has half the log-odds and one less. It has no head."""
    random = np.random.default_rng(seed)
    odds = random.normal(-0.5, 2, 20 * queries)
    frames = random.uniform(-1, 1, 50 * queries)
    there, not_there = (
        np.column_stack([random.normal(m, 1, queries), random.normal(0, 1, queries), np.zeros(queries)])
        for m in (gap, 0)
    )
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
    assert fit_calibration(replace(evidence, absent=np.empty((0, 3)))).presence is None


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
    assert evidence.absent.shape == evidence.present.shape == (12, 3)
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


def loss(coefficients: np.ndarray, evidence: np.ndarray, right: np.ndarray, counts: np.ndarray) -> float:
    """Cross-entropy against Platt's targets, line by line."""
    positives = int(right.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (len(right) - positives + 2)
    total = 0.0
    for row, yes, count in zip(evidence, right, counts, strict=True):
        target, logit = (high if yes else low), float(row @ coefficients[:-1] + coefficients[-1])
        total += count * (np.logaddexp(0, logit) - target * logit)
    return total


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.booleans())
def test_nothing_is_likelier(seed: int, balanced: bool) -> None:
    random = np.random.default_rng(seed)
    evidence = random.normal(size=(40, 2)) * [1, 30] + [0, 500]
    right = random.uniform(size=40) < sigmoid(evidence @ [1.0, random.choice([-0.05, 0.02])] - 500 * 0.02)
    right[:2] = True, False
    weights, offset = fit_logistic(evidence, right, balanced=balanced)
    counts = np.where(right, 0.5 / right.mean(), 0.5 / (~right).mean()) if balanced else np.ones(40)
    # The other optimizer is given a better scale.
    scaled = (evidence - [0, 500]) / [1, 30]
    best = minimize(loss, np.zeros(3), (scaled, right, counts), "L-BFGS-B", bounds=[(0, None), (0, None), (None, None)])
    assert (weights >= 0).all()
    assert loss(np.array([*weights, offset]), evidence, right, counts) <= best.fun + 1e-6
    np.testing.assert_allclose(weights * [1, 30], best.x[:2], atol=2e-3)


def test_evidence_that_tells_all_apart_has_a_finite_answer() -> None:
    weights, offset = fit_logistic(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([False, False, True, True]))
    assert 0 < weights[0] < 10
    assert -weights[0] * 1.5 == pytest.approx(offset)


def test_the_same_twice_and_constants_do_no_harm() -> None:
    random = np.random.default_rng(1)
    value = random.normal(size=200)
    right = random.uniform(size=200) < sigmoid(2 * value)
    (alone,), offset = fit_logistic(value[:, None], right)
    weights, other = fit_logistic(np.column_stack([value, value, np.full(200, 7.0)]), right)
    assert weights[:2].sum() == pytest.approx(alone, rel=1e-6)
    assert weights[2] == 0
    assert other == pytest.approx(offset, rel=1e-6)


def test_balance_makes_numbers_of_either_kind_irrelevant() -> None:
    random = np.random.default_rng(2)
    evidence = np.concatenate([random.normal(1, 1, 3000), random.normal(-1, 1, 3000)])[:, None]
    right = np.arange(6000) < 3000
    few = np.r_[np.arange(3000), np.arange(3000, 3300)]
    (weight,), offset = fit_logistic(evidence[few], right[few], balanced=True)
    # Of two Gaussians 2 apart with variance 1 the log-odds are 2x.
    assert weight == pytest.approx(2, abs=0.2)
    assert offset == pytest.approx(0, abs=0.2)
    assert fit_logistic(evidence[few], right[few])[1] == pytest.approx(np.log(10), abs=0.3)


def test_the_wrong_way_round_means_nothing() -> None:
    (weight,), offset = fit_logistic(np.array([[3.0], [2.0], [1.0], [0.0]]), np.array([False, False, True, True]))
    assert weight == 0
    assert offset == pytest.approx(0)


@pytest.mark.parametrize("outcome", [True, False])
def test_one_kind_alone_is_refused(outcome: bool) -> None:
    with pytest.raises(MetricError, match=rf"{3 * outcome} of 3 are right"):
        fit_logistic(np.ones((3, 1)), np.full(3, outcome))
