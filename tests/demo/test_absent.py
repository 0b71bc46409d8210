"""AUROC is the share of pairs that are ordered rightly, and answers are scored by their best moment and saliency."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_benchmarks import make_model, save_features

from demo.absent import Separation, draw_separation, find_auroc, main, separate
from r2tuning.checkpoints.files import save_checkpoint
from r2tuning.errors import MetricError
from r2tuning.metrics import Prediction
from r2tuning.synthetic import describe, describe_absent, make_video
from r2tuning.synthetic.annotate import to_line

# Few values, so that ties are common.
scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12).map(np.array)


def count_pairs(positive: np.ndarray, negative: np.ndarray) -> float:
    won = 0.0
    for one in positive:
        for other in negative:
            won += 1.0 if one > other else 0.5 if one == other else 0.0
    return won / (len(positive) * len(negative))


@given(scores, scores)
def test_auroc_is_the_share_of_pairs_in_the_right_order(positive: np.ndarray, negative: np.ndarray) -> None:
    assert find_auroc(positive, negative) == pytest.approx(count_pairs(positive, negative), abs=1e-12)


def test_auroc_of_clear_cases() -> None:
    low, high = np.array([0.1, 0.2]), np.array([0.3, 0.4, 0.5])
    assert (find_auroc(high, low), find_auroc(low, high), find_auroc(low, low)) == (1, 0, 0.5)
    with pytest.raises(MetricError, match="0 positives and 2 negatives"):
        find_auroc(np.array([]), low)


def test_an_answer_is_worth_its_best_moment_and_its_two_highest_frames() -> None:
    sure = Prediction("a", [[0, 4, 0.4], [4, 8, 0.9]], [0.1, 0.8, -0.3, 0.6])
    silent = Prediction("b", [], [0.2])
    moment, saliency = separate([sure], [silent])
    assert (moment.present.tolist(), moment.absent.tolist()) == ([0.9], [0.0])
    assert saliency.present[0] == pytest.approx(0.7)
    assert saliency.absent[0] == pytest.approx(0.2)
    assert (moment.auroc, saliency.auroc) == (1, 1)


def test_histograms_are_drawn_even_of_equal_scores() -> None:
    same = np.full(5, 0.5)
    picture = Image.open(io.BytesIO(draw_separation([Separation("one", same, same), Separation("two", same, same)])))
    assert picture.format == "PNG"
    assert len(picture.convert("RGB").getcolors(100_000) or ()) > 10


def test_the_script_asks_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = make_video(3, "test")
    present, absent = describe(script), describe_absent(script)
    for name, annotations in (("test", present), ("test_absent", absent)):
        (tmp_path / f"{name}.jsonl").write_text("".join(map(to_line, annotations)), encoding="utf-8")
    qids = [str(a.qid) for a in (*present, *absent)]
    save_features(tmp_path / "features", {script.vid: int(script.duration / 2)}, qids)
    config, model = make_model()
    save_checkpoint(tmp_path / "model", model.state_dict(), config)
    plot, written = tmp_path / "absent.png", tmp_path / "absent.json"
    main([str(tmp_path), str(tmp_path / "model"), "--plot", str(plot), "--json", str(written)])
    found = json.loads(written.read_text())
    assert (found["present"], found["absent"]) == (len(present), len(absent))
    assert set(found["auroc"]) == {"best moment", "top saliency"}
    assert all(0 <= value <= 1 for value in found["auroc"].values())
    assert plot.stat().st_size > 1000
    assert f"best moment   AUROC {found['auroc']['best moment']:.4f}" in capsys.readouterr().out
