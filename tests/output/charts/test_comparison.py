"""Several answers in one picture: each at its place, in its colour, beside the truth."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.groundings import make_grounding

from r2tuning.output.charts.grounding import MOST_ANSWERS, plot_comparison

FIRST, SECOND = (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def texts(path: Path) -> list[str]:
    return ["".join(node.itertext()) for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_moments_of_each_answer_lie_at_their_times_in_its_colour(tmp_path: Path) -> None:
    first = make_grounding(moments=((25.0, 50.0, 0.9),), duration=100.0)
    second = make_grounding(moments=((60.0, 80.0, 0.8),), duration=100.0)
    plot_comparison([first, second], ["one", "two"], tmp_path / "p.png", truth=[(10.0, 20.0)])
    picture = pixels(tmp_path / "p.png")
    assert picture.shape[1] == 1000
    for colour, (start, end) in ((FIRST, (25, 50)), (SECOND, (60, 80))):
        # A bar is a run of its colour, higher than a line or letter.
        same = (picture == colour).all(axis=-1)
        rows = np.flatnonzero(same.sum(axis=1) > 100)
        columns = np.flatnonzero(same[rows].all(axis=0))
        assert 10 < len(rows) < 25
        assert columns.min() == pytest.approx(95 + 8.7 * start, abs=3)
        assert columns.max() == pytest.approx(95 + 8.7 * end, abs=3)


def test_labels_scores_and_truth_are_said(tmp_path: Path) -> None:
    results = [make_grounding(), make_grounding(moments=())]
    labels = ["mine $x_1", "<b>&\n🎬"]
    plot_comparison(results, labels, tmp_path / "p.svg", truth=[(1.0, 2.0)], top=1)
    shown = texts(tmp_path / "p.svg")
    assert shown.count("mine $x_1") == 2  # above its moments, and in the legend
    assert {"<b>& 🎬: no moments", "<b>& 🎬", "true", "true moment", "1   0.88", "a red circle falls"} <= set(shown)
    assert not any(text.startswith("2   ") for text in shown)
    plot_comparison(results, labels, tmp_path / "q.svg")
    assert not {"true", "true moment"} & set(texts(tmp_path / "q.svg"))


def test_as_many_as_can_be_told_apart_fit(tmp_path: Path) -> None:
    results = [make_grounding() for _ in range(MOST_ANSWERS)]
    labels = ["a rather long name of a model " + "x" * 40] * len(results)
    plot_comparison(results, labels, tmp_path / "p.png", truth=[(1.0, 2.0)])
    picture = pixels(tmp_path / "p.png")
    assert (picture[:4] == 255).all()
    assert (picture[:, :4] == 255).all()
    assert (picture[:, -4:] == 255).all()
