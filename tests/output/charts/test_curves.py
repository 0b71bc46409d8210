"""Curves and bars say what was measured, and which run or setting it was."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.files import read_texts

from r2tuning.output.charts.experiments import Bar, BarRow, Curve, RunCurves, plot_bars, plot_curves, smooth


def make_run(label: str, scores: tuple[float, ...] = (10.0, 31.25, 30.0)) -> RunCurves:
    steps = np.arange(1, 101)
    found = Curve(np.arange(len(scores)) * 40 + 1, np.array(scores))
    return RunCurves(label, {"total": Curve(steps, 1 / steps), "offset": Curve(steps, 2 / steps)}, {"mAP": found})


def test_runs_are_overlaid_with_their_best_scores(tmp_path: Path) -> None:
    runs = [make_run("runs/a $x_"), make_run("runs/b", (20.0, 25.0)), make_run("not validated yet", ())]
    plot_curves(runs, tmp_path / "p.svg")
    shown = read_texts(tmp_path / "p.svg")
    assert {"runs/a $x_", "runs/b", "not validated yet", "total", "offset", "mAP", "step"} <= set(shown)
    assert {"best 31.25", "best 25.00"} <= set(shown)
    plot_curves(runs, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width == 1000
        colours = {colour for _, colour in picture.convert("RGB").getcolors(100_000) or ()}
    assert {(0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73)} <= colours


def test_smoothing_is_a_mean_about_each_value() -> None:
    values = np.random.default_rng(0).random(23)
    for width in (0, 1, 4, 7, 50):
        half = width // 2
        slow = [values[max(0, i - half) : i + half + 1].mean() for i in range(23)]
        np.testing.assert_allclose(smooth(values, width), slow)


def test_bars_end_at_their_means(tmp_path: Path) -> None:
    rows = [BarRow("a = 1", {"mAP": Bar(40.0, 1.5)}), BarRow("a = 2 $x_", {"mAP": Bar(50.0, None), "R1": Bar(60, 2)})]
    plot_bars("a comparison", rows, tmp_path / "p.svg")
    assert {"a comparison", "a = 1", "a = 2 $x_", "mAP (%)", "R1 (%)"} <= set(read_texts(tmp_path / "p.svg"))
    assert {"40.00 ± 1.50", "50.00", "60.00 ± 2.00"} <= set(read_texts(tmp_path / "p.svg"))
    plot_bars("a comparison", [BarRow(row.label, {"mAP": row.bars["mAP"]}) for row in rows], tmp_path / "p.png")
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    best = np.flatnonzero((picture == (0x00, 0x72, 0xB2)).all(axis=-1).any(axis=0))
    # From 3 inches on, 6.55 inches for 34.25 to 50 + 0.75 of that: the axis begins half the range below the lowest.
    low = 38.5 - 0.5 * 11.5
    high = 50 + 0.75 * (50 - low)
    assert best.min() == pytest.approx(300, abs=2)
    assert best.max() == pytest.approx(300 + 655 * (50 - low) / (high - low), abs=3)
