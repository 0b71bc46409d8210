"""Whole batches that have broken such losses before: values and gradients stay finite, and mean what they should."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from support.loss_batches import FAMILIES, RECIPES, C, K, check_finite, gradients, make_output, make_targets

from r2tuning.training.losses import (
    LossConfig,
    compute_losses,
    focal_loss,
    frame_contrast_loss,
    info_nce,
    offset_loss,
    sample_contrast_loss,
)
from r2tuning.training.targets import NO_POSITIVE, Targets
from r2tuning.types import ModelOutput


def test_a_frame_that_no_sample_admits_leaves_gradients_finite() -> None:
    saliency = [[1.0, 0.5, 0.25], [1.0, 0.25, 0.5]]  # frame 0 lies above both positives
    output = make_output([3, 3])
    check_finite(output, make_targets([3, 3], [[[0.0, 2.0]]] * 2, saliency, [1, 2]), "released")
    assert not gradients(output)["hidden"][:, 0].any()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("lengths", "moments", "saliency", "positive"),
    [
        ([5], [[[1.0, 3.0]]], [[0.0, 1.0, 1.0, 0.0, 0.0]], [1]),
        ([1], [[[0.0, 1.0]]], [[1.0]], [0]),
        ([1, 6], [[[0.0, 1.0]], [[0.0, 6.0]]], [[1.0], [1.0] * 6], [0, 5]),
        ([6, 6], [[[0.0, 6.0]]] * 2, [[1.0] * 6] * 2, [2, 2]),
        ([6, 3], [[], []], [[0.0] * 6, [0.0] * 3], [NO_POSITIVE, NO_POSITIVE]),
        ([6, 3], [[[1.0, 2.0]], []], [[0.0, 1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 3], [2, NO_POSITIVE]),
    ],
    ids=["batch of 1", "one frame", "one frame among others", "whole video", "nothing to find", "one without"],
)
def test_every_legal_batch_is_finite(
    lengths: list[int], moments: Any, saliency: Any, positive: list[int], family: str, recipe: Any
) -> None:
    losses = check_finite(make_output(lengths, family), make_targets(lengths, moments, saliency, positive), recipe)
    assert losses.classification > 0
    if set(positive) == {NO_POSITIVE}:
        assert losses.saliency == losses.video_calibration == losses.layer_calibration == 0
    if not any(moments) and family == "grounding":
        assert losses.offset == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_sample_without_a_positive_does_not_touch_the_contrasts_of_others(recipe: Any) -> None:
    both = make_targets(positive=[3, NO_POSITIVE, 4])
    output = make_output()
    losses = check_finite(output, both, recipe)
    found = gradients(output)
    assert not found["query_pooled"][1].any()
    assert not found["hidden"][1].any()
    assert not found["video_cls"][1].any()
    assert found["class_logits"][1].any()
    rest = [0, 2]
    fields = {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    alone = ModelOutput(
        **{n: x[rest] if isinstance(x, torch.Tensor) and n != "points" else x for n, x in fields.items()}
    )
    truth = Targets(**{f.name: getattr(both, f.name)[rest] for f in dataclasses.fields(both)})
    without = compute_losses(alone, truth, LossConfig(recipe=recipe))
    for name in ("saliency", "video_calibration", "layer_calibration"):
        torch.testing.assert_close(getattr(losses, name), getattr(without, name))


@pytest.mark.parametrize("recipe", RECIPES)
def test_identical_videos_are_finite_and_count_as_contrasts(recipe: Any) -> None:
    output = make_output([6, 6])
    twins = {
        name: getattr(output, name).detach()[:1].repeat(2, *[1] * (getattr(output, name).dim() - 1)).requires_grad_()
        for name in ("hidden", "query", "class_logits", "offsets", "video_cls", "query_pooled")
    }
    targets = make_targets([6, 6], [[[1.0, 4.0]]] * 2, [[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]] * 2, [2, 2])
    losses = check_finite(dataclasses.replace(output, **twins), targets, recipe)
    assert losses.video_calibration.item() == pytest.approx(0.1 * math.log(2), rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_zero_vectors_give_and_get_no_gradient(recipe: Any) -> None:
    output = make_output()
    rows = {"hidden": 0, "query": 1, "video_cls": 0, "query_pooled": 1}  # each beside vectors that are not zero
    for name, b in rows.items():
        getattr(output, name).data[b] = 0
    check_finite(output, make_targets(), recipe)
    for name, b in rows.items():
        assert not gradients(output)[name][b].any()
        assert 0 < gradients(output)[name].abs().max() < 10  # a clamped length would make it 1e6 and more


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("recipe", RECIPES)
def test_half_precision_predictions_are_compared_in_fp32(dtype: torch.dtype, recipe: Any) -> None:
    output, targets = make_output(), make_targets()
    halves = {
        name: (30 * getattr(output, name).detach()).to(dtype).requires_grad_()
        for name in ("hidden", "query", "class_logits", "offsets", "video_cls", "query_pooled")
    }
    low = dataclasses.replace(output, **halves)
    exact = dataclasses.replace(output, **{name: x.detach().float() for name, x in halves.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = check_finite(low, targets, recipe)
    assert found.total.item() == pytest.approx(
        compute_losses(exact, targets, LossConfig(recipe=recipe)).total.item(), rel=1e-6
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.9])
def test_focal_loss_of_certain_points_is_finite(gamma: float, alpha: float | None) -> None:
    logits = torch.tensor([[300.0, -300.0, 300.0, -300.0, 0.0]], requires_grad=True)
    foreground = torch.tensor([[True, False, False, True, True]])
    mask = torch.ones_like(foreground)
    loss = focal_loss(logits, foreground, mask, alpha, gamma)
    loss.backward()
    on, off = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    wanted = (300 * off + 300 * on + on * 0.5**gamma * math.log(2)) / 5
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_losses_of_nothing_are_zero() -> None:
    none = torch.zeros(1, 2, dtype=torch.bool)
    assert focal_loss(torch.ones(1, 2), none, none, None, 2.0) == 0
    assert offset_loss(torch.ones(1, 2, 2), torch.zeros(1, 2, 2), none, "paper") == 0
    assert info_nce(torch.zeros(K, 0, C), torch.zeros(K, 0, C)) == 0
    empty = torch.zeros(0, 4)
    for loss in (frame_contrast_loss, sample_contrast_loss):
        assert loss(empty, empty.bool(), torch.zeros(0, dtype=torch.int64)) == 0
