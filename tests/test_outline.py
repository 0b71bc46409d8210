"""Scores without a query: typical and new is high; the order of time, scale and duplicates do what they must."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.groundings import make_facts
from torch import Tensor

from r2tuning.decoding.highlights import score_frames
from r2tuning.features import EncodedVideo
from r2tuning.grounder import FRAMES_READ, outline_video


def draw(frames: int, seed: int = 0) -> Tensor:
    return torch.randn(frames, 5, generator=torch.Generator().manual_seed(seed))


videos = st.tuples(st.integers(1, 12), st.integers(0, 99)).map(lambda drawn: draw(*drawn))


def worth(tokens: np.ndarray) -> list[float]:
    """The formula, frame by frame, before it is scaled."""

    def cosine(a: int, b: int) -> float:
        x, y = tokens[a], tokens[b]
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    last = len(tokens) - 1
    return [
        np.mean([cosine(t, u) for u in range(last + 1) if u != t])
        - max(cosine(t, u) for u in (t - 1, t + 1) if 0 <= u <= last)
        for t in range(last + 1)
    ]


@given(videos)
def test_scores_are_those_of_the_formula(tokens: Tensor) -> None:
    scores = score_frames(tokens).numpy()
    if len(tokens) <= 2:
        np.testing.assert_allclose(scores, 0.5)
        return
    plain = np.array(worth(tokens.double().numpy()))
    np.testing.assert_allclose(scores, (plain - plain.min()) / np.ptp(plain), atol=1e-6)
    assert (scores.min(), scores.max()) == (0, 1)


@given(videos)
def test_played_backwards_the_scores_run_backwards(tokens: Tensor) -> None:
    torch.testing.assert_close(score_frames(tokens.flip(0)), score_frames(tokens).flip(0), atol=1e-6, rtol=0)


@given(videos, st.floats(0.1, 50))
def test_the_scale_of_features_says_nothing(tokens: Tensor, scale: float) -> None:
    torch.testing.assert_close(score_frames(tokens * scale), score_frames(tokens), atol=1e-4, rtol=0)


def test_the_axes_of_features_say_nothing() -> None:
    tokens = draw(9)
    torch.testing.assert_close(score_frames(tokens[:, [3, 0, 4, 2, 1]]), score_frames(tokens), atol=1e-5, rtol=0)


def test_other_shots_in_another_order_change_nothing_within_a_shot() -> None:
    """What a frame is worth depends on its own shot and on what the others are, not on when they come."""
    shots = [draw(4, seed) + 8 * torch.eye(5)[seed] for seed in range(3)]  # alike within, unlike across
    first, again = score_frames(torch.cat(shots)), score_frames(torch.cat([shots[0], shots[2], shots[1]]))
    torch.testing.assert_close(first[:4], again[:4], atol=1e-6, rtol=0)
    torch.testing.assert_close(first[4:8], again[8:], atol=1e-6, rtol=0)


def test_a_frame_that_stays_is_worth_less_than_one_that_goes() -> None:
    tokens = draw(8)
    stays = torch.cat([tokens[:4], tokens[3:]])  # frame 3 twice
    assert score_frames(stays)[3:5].max() < score_frames(tokens)[3]


def test_what_is_shown_a_lot_is_worth_more_than_what_is_shown_once() -> None:
    # Every frame has a direction of its own and that of its shot: neighbours in a shot are all alike by the same.
    shot = torch.tensor([0] * 6 + [1] * 3)
    tokens = torch.cat([torch.eye(9), 2 * torch.eye(2)[shot]], dim=1)
    assert score_frames(tokens).tolist() == pytest.approx([1.0] * 6 + [0.0] * 3)


@pytest.mark.parametrize("tokens", [torch.zeros(3, 4), torch.ones(1, 4), torch.ones(5, 4), draw(2)])
def test_where_all_are_alike_none_stands_out(tokens: Tensor) -> None:
    assert score_frames(tokens).tolist() == [0.5] * len(tokens)


def test_an_outline_is_an_answer_without_a_query() -> None:
    values = torch.randn(FRAMES_READ + 3, 2, 3, 4, generator=torch.Generator().manual_seed(1)).half()
    facts = make_facts(duration=2.0 * len(values) - 0.5, start=1.5, fps=0.5, truncated=True)
    answer = outline_video(EncodedVideo(facts, values))
    assert (answer.query, answer.moments, answer.model, answer.video_truncated) == ("", [], "tiny", True)
    assert (answer.duration, answer.start) == (facts.duration, 1.5)
    np.testing.assert_allclose(answer.saliency.times[:2], [2.5, 4.5])
    expected = score_frames(values[:, -1, 0].float()).numpy()
    np.testing.assert_array_equal(answer.saliency.scores, expected)
    assert answer.highlights(1)[0].score == 1
