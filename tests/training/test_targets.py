"""Targets against a reading of their definition with plain loops, and at the edges of what annotations hold."""

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from r2tuning.model.heads import level_mask, level_points
from r2tuning.training.targets import (
    NO_POSITIVE,
    assign_targets,
    choose_positive,
    normalize_moments,
)

STRIDES = (1, 2, 4, 8)
INF = math.inf


def points_and_mask(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Points of a batch of videos with these numbers of frames, and which of them are real."""
    video_mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    levels = [level_mask(video_mask, stride) for stride in STRIDES]
    return level_points(max(lengths), STRIDES, video_mask.device), torch.cat(levels, dim=1)


def answer(point: list[float], moments: list[list[float]], fps: float) -> list[float] | None:
    """Offsets of one point, or None: the definition, word by word."""
    position, low, high, stride = point
    best = None
    for start, end in ([start * fps, end * fps] for start, end in moments):
        centre = (start + end) / 2
        inside = max(centre - 1.5 * stride, start) <= position <= min(centre + 1.5 * stride, end)
        in_range = low <= max(position - start, end - position) <= high
        if inside and in_range and (best is None or end - start < best[1] - best[0]):
            best = (start, end)
    return None if best is None else [(position - best[0]) / stride, (best[1] - position) / stride]


# Multiples of 1/8 s and rates that are powers of two: every comparison is exact, and ties are common.
eighths = st.integers(0, 320).map(lambda n: n / 8)
moment_lists = st.lists(st.tuples(eighths, eighths).map(sorted), max_size=4)
samples = st.tuples(st.integers(1, 40), st.sampled_from([0.25, 0.5, 1.0, 2.0]), moment_lists)


@given(st.lists(samples, min_size=1, max_size=3))
def test_every_point_answers_as_defined(batch: list[tuple[int, float, list[list[float]]]]) -> None:
    lengths, fps, moments = zip(*batch, strict=True)
    most = max(map(len, moments))
    padded = torch.tensor([[*rows, *[[INF, INF]] * (most - len(rows))] for rows in moments]).reshape(
        len(moments), most, 2
    )
    points, mask = points_and_mask(list(lengths))
    found = assign_targets(points, padded, torch.tensor(fps), mask)
    for b, (_, rate, rows) in enumerate(batch):
        for n, point in enumerate(points.tolist()):
            wanted = answer(point, rows, rate) if mask[b, n] else None
            assert found.foreground[b, n].item() == (wanted is not None)
            assert found.offsets[b, n].tolist() == (wanted or [0, 0])


def test_one_rate_for_all_is_the_same_as_one_for_each() -> None:
    points, mask = points_and_mask([30, 30])
    moments = torch.tensor([[[4.0, 10.0]], [[20.0, 52.0]]])
    one, each = (assign_targets(points, moments, fps, mask) for fps in (0.5, torch.tensor([0.5, 0.5])))
    assert one.foreground.any(dim=1).all()
    assert torch.equal(one.foreground, each.foreground)
    assert torch.equal(one.offsets, each.offsets)


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 40])
def test_a_moment_that_is_the_whole_video_has_points(frames: int) -> None:
    points, mask = points_and_mask([frames])
    found = assign_targets(points, torch.tensor([[[0.0, frames]]]), 1.0, mask)
    assert found.foreground.any()
    assert (found.offsets >= 0).all()


@pytest.mark.parametrize("moments", [torch.zeros(2, 0, 2), torch.full((2, 3, 2), INF)])
def test_without_moments_nothing_is_foreground(moments: Tensor) -> None:
    points, mask = points_and_mask([9, 4])
    found = assign_targets(points, moments, 1.0, mask)
    assert not found.foreground.any()
    assert torch.equal(found.offsets, torch.zeros(2, len(points), 2))


def test_equally_long_moments_the_first_counts() -> None:
    points, mask = points_and_mask([4])
    for moments in ([[0.0, 2.0], [1.0, 3.0]], [[1.0, 3.0], [0.0, 2.0]]):
        found = assign_targets(points, torch.tensor([moments]), 1.0, mask)
        assert found.offsets[0, 1].tolist() == [1 - moments[0][0], moments[0][1] - 1]


@pytest.mark.parametrize(
    ("moment", "fixed"),
    [
        ([3.0, 7.0], [3.0, 7.0]),
        ([7.0, 3.0], [3.0, 7.0]),
        ([5.0, 5.5], [4.25, 6.25]),
        ([4.0, 6.0], [4.0, 6.0]),
        ([-4.0, 30.0], [0.0, 20.0]),
        ([0.0, 0.5], [0.0, 2.0]),
        ([19.5, 23.0], [18.0, 20.0]),
        ([25.0, 28.0], [18.0, 20.0]),
        ([-9.0, -3.0], [0.0, 2.0]),
    ],
    ids=["fits", "reversed", "short", "one clip", "too long", "short at the start", "over the end", "after", "before"],
)
def test_a_moment_is_made_to_fit(moment: list[float], fixed: list[float]) -> None:
    assert normalize_moments(torch.tensor([moment]), frames=10, fps=0.5).tolist() == [fixed]


def test_a_one_frame_video_has_one_possible_moment() -> None:
    moments = torch.tensor([[0.0, 0.1], [1.0, 0.5], [0.0, 2.0], [7.0, 9.0]])
    assert normalize_moments(moments, frames=1, fps=0.5).tolist() == [[0.0, 2.0]] * 4


@given(
    st.lists(st.tuples(st.floats(-50, 500, width=32), st.floats(-50, 500, width=32)), min_size=1, max_size=5),
    st.integers(1, 300),
    st.floats(0.1, 5),
)
def test_what_fits_is_inside_at_least_a_clip_long_and_stays(
    moments: list[tuple[float, float]], frames: int, fps: float
) -> None:
    fitting = normalize_moments(torch.tensor(moments), frames, fps)
    duration = frames / fps
    slack = 1e-6 * duration + 1e-6  # fp32 seconds
    start, end = fitting.unbind(1)
    assert (start >= 0).all()
    assert (end <= duration + slack).all()
    assert (end - start >= 1 / fps - 2 * slack).all()
    torch.testing.assert_close(normalize_moments(fitting, frames, fps), fitting, rtol=0, atol=2 * slack)


def test_moments_are_not_changed_in_place() -> None:
    moments = torch.tensor([[9.0, 4.0]])
    normalize_moments(moments, 10, 0.5)
    assert moments.tolist() == [[9.0, 4.0]]
    assert normalize_moments(torch.zeros(0, 2), 10, 0.5).shape == (0, 2)


@pytest.mark.parametrize("time", [math.nan, INF])
def test_a_time_that_is_no_number_is_refused(time: float) -> None:
    with pytest.raises(ValueError, match=r"moments \[\[1\.0, (nan|inf)\]\] hold NaN or infinite times"):
        normalize_moments(torch.tensor([[1.0, time]]), 10, 0.5)


def test_each_positive_is_drawn_and_nothing_else() -> None:
    mask = torch.tensor([False, False, True, True, True])
    generator = random.Random(0)
    drawn = [choose_positive(mask, generator) for _ in range(300)]
    counts = [drawn.count(frame) for frame in range(5)]
    assert counts[0] == counts[1] == 0
    assert min(counts[2:]) > 70  # 100 expected, standard deviation 8


def test_the_same_seed_draws_the_same() -> None:
    mask = torch.ones(1000, dtype=torch.bool)
    first, second, other = (choose_positive(mask, random.Random(seed)) for seed in (1, 1, 2))
    assert first == second != other


def test_without_candidates_there_is_no_positive() -> None:
    assert choose_positive(torch.zeros(5, dtype=torch.bool), random.Random(0)) == NO_POSITIVE
