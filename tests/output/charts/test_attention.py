"""Heat lies over the patch that is attended to, in the row of its word and the column of its frame."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.files import read_texts

from r2tuning.output.charts.attention import choose_words, plot_attention
from r2tuning.types import PatchAttention

HOT = np.array([252, 255, 164])  # inferno's brightest


def make_attention(words: tuple[str, ...] = ("red", "[end]"), frames: int = 2, steps: int = 1) -> PatchAttention:
    """All attention of the first word to the top left patch of the first frame; that of others spread evenly."""
    weights = np.full((steps, frames, len(words), 5), 0.2)
    weights[0, 0, 0] = [0, 1, 0, 0, 0]
    return PatchAttention("red $x_", words, np.arange(frames) * 61.0, tuple(range(1, steps + 1)), weights)


def black(frames: int) -> list[np.ndarray]:
    return [np.zeros((8, 8, 3), np.uint8)] * frames


def test_the_patch_of_the_most_attention_is_the_brightest(tmp_path: Path) -> None:
    plot_attention(make_attention(), black(2), tmp_path / "p.png", words=[0, 1], name="a.mp4")
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)
    assert picture.shape[1] == 1000
    hot = (np.abs(picture - (0.8 * HOT + 0.2 * 127.5)) < 8).all(axis=-1)
    rows, columns = np.nonzero(hot)
    # Cells are 1.35 inches, patches half of that; words take 0.85 inches beside a margin of 0.15.
    assert columns.min() == pytest.approx(100, abs=4)
    assert np.ptp(columns) == pytest.approx(66, abs=4)
    assert np.ptp(rows) == pytest.approx(66, abs=4)
    # The frames come first, then the row of the word.
    frame_rows = np.flatnonzero((picture[:, 110] == 0).all(axis=-1))
    assert rows.min() == pytest.approx(frame_rows.min() + 135, abs=4)


def test_steps_words_times_and_the_share_of_cls_are_said(tmp_path: Path) -> None:
    words = ("the", "red", "circle", "dög", "[end]")
    attention = make_attention(words, frames=3, steps=4)
    plot_attention(attention, black(3), tmp_path / "p.svg", words=[1, 3, 4], name="a.mp4, model demo")
    shown = read_texts(tmp_path / "p.svg")
    assert {"red $x_", "a.mp4, model demo", "Step 1: last layer of CLIP", "0:00", "1:01", "2:02"} <= set(shown)
    assert "Step 4: 4th layer from the last" in shown
    assert shown.count("dög") == 4
    assert "the" not in shown
    assert shown.count("20") >= 4 * 9
    assert any(text.startswith("2 of 4 words are shown") for text in shown)


def test_words_with_a_meaning_are_chosen_first() -> None:
    words = ["show", "me", "the", "red", "star", "in", "the", "corner", "[end]"]
    assert [words[index] for index in choose_words(words, 4)] == ["show", "red", "star", "[end]"]
    assert choose_words(words, 99) == list(range(9))
    assert choose_words(["[end]"]) == [0]
    assert [words[index] for index in choose_words(words, 6)] == ["show", "me", "red", "star", "corner", "[end]"]
