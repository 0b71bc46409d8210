"""Mixed training videos: every frame comes from where it is said to, and moments move with their frames."""

import random
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from r2tuning.training.mixing import LEAST_FRAMES, replace_background, shuffle_pieces, touch_frames

MOMENTS = st.lists(st.tuples(st.integers(0, 80), st.integers(5, 60)), min_size=1, max_size=3)


@given(MOMENTS, st.integers(30, 50), st.sampled_from([0.5, 1.0]), st.integers(0, 999))
def test_a_frame_shows_the_query_after_shuffling_as_before(
    drawn: list[tuple[int, int]], frames: int, fps: float, seed: int
) -> None:
    duration = frames / fps
    # On a grid of an eighth of a second, which fp32 holds exactly.
    spans = [(min(start / 4, duration - 1), min((start + length) / 4, duration)) for start, length in drawn]
    moments = torch.tensor(spans)
    mixed = shuffle_pieces(moments, frames, fps, random.Random(seed))
    assert sorted(mixed.order.tolist()) == list(range(frames))
    before, after = (
        [
            sum(min(e, (t + 1) / fps) - max(s, t / fps) for s, e in each if s < (t + 1) / fps and t / fps < e)
            for t in range(frames)
        ]
        for each in (_union(spans), mixed.moments.tolist())
    )
    torch.testing.assert_close(torch.tensor(after), torch.tensor(before)[mixed.order], atol=1e-4, rtol=0)
    assert torch.equal(mixed.background, ~touch_frames(moments, frames, fps)[mixed.order])


def _union(spans: list[tuple[float, float]]) -> list[list[float]]:
    joined: list[list[float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return joined


def test_a_moment_is_cut_into_pieces_of_some_length() -> None:
    lengths = set()
    for seed in range(40):
        mixed = shuffle_pieces(torch.tensor([[20.0, 40.0]]), 30, 0.5, random.Random(seed))
        lengths |= {round((end - start) / 2) for start, end in mixed.moments.tolist()}
    assert min(lengths) == LEAST_FRAMES
    assert max(lengths) == 10


def test_the_background_is_another_video_and_the_rest_stays() -> None:
    video, other = torch.arange(8.0)[:, None], 100 + torch.arange(3.0)[:, None]
    background = torch.tensor([True, True, False, False, True, True, True, True])
    mixed = replace_background(video, background, other, random.Random(0)).flatten().tolist()
    assert mixed[2:4] == [2.0, 3.0]
    assert all(frame >= 100 for place, frame in enumerate(mixed) if background[place])
    assert [(b - a) % 3 for a, b in pairwise(mixed[4:])] == [1, 1, 1]
    assert video.flatten().tolist() == list(range(8))
