"""Planted importance is found, correlations match SciPy, and the script reads what the commands write."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr
from support.groundings import make_grounding
from support.small_benchmarks import make_model, save_features

from projects.moving_shapes.summaries import Case, find_importance, hold, main, score_curves, score_even
from r2tuning.checkpoints.folder import save_checkpoint
from r2tuning.datasets import Annotation
from r2tuning.errors import DataError
from r2tuning.synthetic import describe, make_video, write_video
from r2tuning.synthetic.queries import to_line


def plant(seed: int) -> Case:
    """A video of 80 s in shots of 8 s that differ in importance."""
    draw = np.random.default_rng(seed)
    importance = np.repeat(draw.permutation(10), 4) / 4 + draw.random(40) / 100
    shots = [(8.0 * i, 8.0 * i + 8) for i in range(10)]
    return Case(make_grounding([0.0] * 40, (), duration=80.0), shots, importance)


CASES = [plant(seed) for seed in range(4)]


def test_importance_is_the_mean_over_queries_and_raters() -> None:
    ratings = np.zeros((2, 3, 3))
    ratings[0, 1] = (4, 3, 2)
    ratings[1, 1:] = 1
    annotations = [Annotation(i, "a", "q", 6.0, saliency=ratings[i]) for i in range(2)]
    assert find_importance(annotations).tolist() == [0, 2, 0.5]
    with pytest.raises(DataError, match="query 0 has no ratings"):
        find_importance([replace(annotations[0], saliency=None)])


def test_scores_that_know_the_truth_are_perfect_and_others_are_not() -> None:
    truth = score_curves("truth", CASES, [[case.importance] for case in CASES])
    assert (truth.kendall_tau, truth.spearman_rho, truth.held) == (1, 1, 1)
    against = score_curves("against", CASES, [[-case.importance] for case in CASES])
    assert (against.kendall_tau, against.spearman_rho) == (-1, -1)
    assert against.held < 0.1
    noisy = [case.importance + np.random.default_rng(9).normal(0, 0.8, 40) for case in CASES]
    some = score_curves("noisy", CASES, [[curve] for curve in noisy])
    draws = [list(np.random.default_rng(1).random((20, 40))) for _ in CASES]
    random = score_curves("random", CASES, draws)
    assert truth.held > some.held > random.held > against.held
    assert abs(random.kendall_tau) < 0.1
    for row in (truth, some, random):
        assert 0.5 < row.used <= row.most_used <= 1 + 1e-6


def test_correlations_are_those_of_scipy() -> None:
    draw = np.random.default_rng(3)
    curves = [np.round(case.importance + draw.normal(0, 1, 40), 1) for case in CASES]
    row = score_curves("x", CASES, [[curve] for curve in curves])
    pairs = [(curve, case.importance) for curve, case in zip(curves, CASES, strict=True)]
    assert row.kendall_tau == pytest.approx(np.mean([kendalltau(*pair).statistic for pair in pairs]))
    assert row.spearman_rho == pytest.approx(np.mean([spearmanr(*pair).statistic for pair in pairs]))


def test_even_selection_holds_the_mean_importance() -> None:
    flat = [replace(case, importance=np.ones(40)) for case in CASES]
    row = score_even(flat)  # 6 clips of 2 s in a budget of 12 s
    assert (row.kendall_tau, row.used, row.most_used) == (0, 1, 1)
    # the best summary takes 12 s of pieces of 2.67 s, so 10.67 s
    assert row.held == pytest.approx(12 / (4 * 8 / 3))
    assert hold([(0.0, 12.0)], np.ones(40), 80.0) == 12


def test_the_script_scores_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = min((make_video(seed, "val") for seed in range(8)), key=lambda script: script.duration)
    annotations = describe(script)
    (tmp_path / "val.jsonl").write_text("".join(map(to_line, annotations)), encoding="utf-8")
    (tmp_path / "videos").mkdir()
    write_video(script, tmp_path / "videos" / f"{script.vid}.mp4")
    save_features(tmp_path / "features", {script.vid: int(script.duration / 2)}, [str(a.qid) for a in annotations])
    config, model = make_model()
    save_checkpoint(tmp_path / "model", model.state_dict(), config)
    written = tmp_path / "summaries.json"
    main([str(tmp_path), str(tmp_path / "model"), "--split", "val", "--json", str(written)])
    found = json.loads(written.read_text())
    assert (found["videos"], found["queries"]) == (1, len(annotations))
    cuts = len(script.scenes) - 1
    assert found["cuts"] == {"true": cuts, "found": cuts, "false": 0}
    assert [row["name"] for row in found["scores"]][1:] == ["no query", "random", "evenly spaced"]
    for row in found["scores"]:
        assert -1 <= row["kendall_tau"] <= 1
        assert 0 <= row["held"] <= 1.2
        assert row["most_used"] <= 1 + 1e-6
    assert f"Cuts: {cuts} of {cuts} found, 0 false." in capsys.readouterr().out
