"""Each loss against its formula in plain Python."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.loss_batches import (
    FAMILIES,
    LENGTHS,
    NAMES,
    POSITIVE,
    RECIPES,
    SALIENCY,
    C,
    K,
    check_finite,
    gradients,
    make_output,
    make_targets,
)
from torch import Tensor
from torch.nn import functional as F

from r2tuning.model import R2Config, R2Tuning
from r2tuning.training.losses import (
    TEMPERATURE,
    LossConfig,
    compute_losses,
    focal_loss,
    frame_contrast_loss,
    info_nce,
    mean_positive,
    sample_contrast_loss,
    to_unit,
)
from r2tuning.training.targets import assign_targets
from r2tuning.types import ModelOutput


def similarities(output: ModelOutput) -> list[list[float]]:
    """``s[b][t]`` by the definition of a cosine."""

    def cosine(x: list[float], y: list[float]) -> float:
        return sum(map(lambda a, b: a * b, x, y)) / math.hypot(*x) / math.hypot(*y)

    pairs = zip(output.hidden.tolist(), output.query.tolist(), strict=True)
    return [[cosine(frame, query) / 0.07 for frame in frames] for frames, query in pairs]


def contrast(chosen: float, others: list[float]) -> float:
    return math.log(sum(math.exp(x) for x in others)) - chosen


def plain_saliency_loss(output: ModelOutput, recipe: str, across: bool) -> float:
    """Sum over t or b written out for the batch above."""
    s = similarities(output)
    total = 0.0
    for b, p in enumerate(POSITIVE):
        if recipe == "paper":
            admissible = [p] + [t for t in range(LENGTHS[b]) if SALIENCY[b][t] < SALIENCY[b][p]]
        else:
            admissible = [t for t in range(LENGTHS[b]) if SALIENCY[b][t] <= SALIENCY[b][p]]
        total += contrast(s[b][p], [s[b][t] for t in admissible])
        if across:
            others = [c for c in range(3) if p < LENGTHS[c] and SALIENCY[c][p] <= SALIENCY[c][POSITIVE[c]]]
            total += contrast(s[b][p], [s[c][p] for c in others])
    return total / 3


@pytest.mark.parametrize(("family", "recipe"), [(family, recipe) for family in FAMILIES for recipe in RECIPES])
def test_saliency_loss_is_the_formula(family: str, recipe: Any) -> None:
    output = make_output(family=family)
    targets = make_targets()
    losses = compute_losses(output, targets, LossConfig(saliency=0.5, recipe=recipe))
    across = family == "grounding" and recipe == "released"
    assert losses.saliency.item() == pytest.approx(0.5 * plain_saliency_loss(output, recipe, across), rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_calibration_is_cross_entropy_both_ways(recipe: Any) -> None:
    output = make_output()
    losses = compute_losses(output, make_targets(), LossConfig(recipe=recipe))
    frames = [
        [p] if recipe == "released" else [t for t, x in enumerate(row) if x > 0]
        for p, row in zip(POSITIVE, SALIENCY, strict=True)
    ]
    video = torch.stack([output.video_cls[b, :, chosen].mean(dim=1) for b, chosen in enumerate(frames)])

    def both_ways(video: Tensor, query: Tensor) -> Tensor:
        logits = F.cosine_similarity(video[:, None], query[None], dim=-1) / TEMPERATURE
        truth = torch.arange(len(logits))
        return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2

    across = sum(both_ways(video[:, k], output.query_pooled[:, k]) for k in range(K)) / K
    layers = sum(both_ways(video[b], output.query_pooled[b]) for b in range(3)) / 3
    torch.testing.assert_close(losses.video_calibration, 0.1 * across, rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.layer_calibration, 0.1 * layers, rtol=1e-5, atol=0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_classification_and_offsets_are_means_over_real_and_foreground_points(recipe: Any) -> None:
    output, targets = make_output(), make_targets()
    losses = compute_losses(output, targets, LossConfig(recipe=recipe))
    truth = assign_targets(output.points, targets.moments, 1.0, output.point_mask)
    focal, error, points, foreground = 0.0, 0.0, 0, 0
    assert output.offsets is not None
    for b in range(3):
        for n in output.point_mask[b].nonzero().squeeze(1).tolist():
            points += 1
            right = torch.sigmoid(output.class_logits[b, n]).item()
            alpha = 1.0 if recipe == "released" else 0.1
            if truth.foreground[b, n]:
                foreground += 1
                alpha = 1.0 if recipe == "released" else 0.9
                error += (output.offsets[b, n] - truth.offsets[b, n]).abs().sum().item()
            else:
                right = 1 - right
            focal -= alpha * (1 - right) ** 2 * math.log(right)
    assert 0 < foreground < points
    assert losses.classification.item() == pytest.approx(focal / points, rel=1e-5)
    assert losses.offset is not None
    assert losses.offset.item() == pytest.approx(0.1 * error / foreground, rel=1e-5)  # 0.2 · mean = 0.1 · sum


def test_saliency_family_is_trained_on_the_curve() -> None:
    output = make_output(family="saliency")
    targets = make_targets(moments=[[], [], []])
    losses = compute_losses(output, targets, LossConfig(classification=2))
    wanted, frames = 0.0, 0
    for b, row in enumerate(SALIENCY):
        for t, y in enumerate(row):
            p = torch.sigmoid(output.class_logits[b, t]).item()
            wanted -= y * math.log(p) + (1 - y) * math.log(1 - p)
            frames += 1
    assert losses.offset is None
    assert losses.classification.item() == pytest.approx(2 * wanted / frames, rel=1e-5)
    parts = losses.classification + losses.saliency + losses.video_calibration + losses.layer_calibration
    assert losses.presence is not None
    parts = parts + losses.presence
    assert losses.total.item() == pytest.approx(parts.item(), rel=1e-6)


def test_weights_scale_and_total_adds() -> None:
    output, targets = make_output(), make_targets()
    plain = compute_losses(
        output,
        targets,
        LossConfig(classification=1, offset=1, saliency=1, video_calibration=1, layer_calibration=1),
    )
    for name in NAMES:
        only = LossConfig(**{other: 3.0 if other == name else 0.0 for other in NAMES})
        found = compute_losses(output, targets, only)
        assert found.total.item() == pytest.approx(3 * getattr(plain, name).item(), rel=1e-6)
        assert plain.total.item() > getattr(plain, name).item() > 0


@given(st.integers(1, 20), st.integers(0, 50), st.sampled_from(RECIPES), st.sampled_from(FAMILIES))
def test_padding_changes_nothing(padding: int, seed: int, recipe: Any, family: str) -> None:
    losses, grads = [], []
    for extra in (0, padding):
        output = make_output(LENGTHS, family, seed, extra)
        targets = make_targets(padding=extra)
        losses.append(check_finite(output, targets, recipe))
        grads.append(gradients(output))
        for name, mask in (("hidden", output.video_mask), ("class_logits", output.point_mask)):
            assert not grads[-1][name][~mask].any()
            assert grads[-1][name][mask].any()
    for name in NAMES:
        first, second = (getattr(found, name) for found in losses)
        assert (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-6)
    for name in ("query", "query_pooled"):
        torch.testing.assert_close(grads[1][name], grads[0][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing_through_the_model(family: Any, recipe: Any) -> None:
    torch.manual_seed(0)
    strides = (1, 2, 4) if family == "grounding" else (1,)  # no level that only padding makes room for
    sizes = {"video_width": 6, "query_width": 5, "layers": K, "hidden": 16, "heads": 2, "strides": strides}
    model = R2Tuning(R2Config(family=family, dropout=0, drop_path=0, **sizes))
    video, query = torch.randn(3, K, 12, 4, 6), torch.randn(3, K, 5, 5)
    results = []
    for extra in (0, 5):
        frames = max(LENGTHS) + extra
        mask = torch.arange(frames) < torch.tensor(LENGTHS)[:, None]
        output = model(video[:, :, :frames], query, video_mask=mask)
        targets = make_targets(padding=extra)
        model.zero_grad()
        compute_losses(output, targets, LossConfig(recipe=recipe)).total.backward()
        results.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(results[0]) == len(list(model.parameters())) - (family == "saliency")  # which leaves level_scale unused
    for first, second in zip(*results, strict=True):
        assert first.isfinite().all()
        torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-5)


def test_samples_of_one_video_are_not_contrasted() -> None:
    torch.manual_seed(0)
    kin = torch.tensor([[False, True, False], [True, False, False], [False, False, False]])
    first, second = torch.randn(K, 3, C), torch.randn(K, 3, C)
    logits = torch.cosine_similarity(first[:, :, None], second[:, None], dim=-1) / 0.07
    chosen = logits.diagonal(dim1=1, dim2=2)
    by_hand = [
        (logits[:, i, [j for j in range(3) if not kin[i, j]]].logsumexp(1) - chosen[:, i]) / 2
        + (logits[:, [j for j in range(3) if not kin[i, j]], i].logsumexp(1) - chosen[:, i]) / 2
        for i in range(3)
    ]
    torch.testing.assert_close(info_nce(first, second, kin), torch.stack(by_hand).mean())
    similarity, positive = torch.randn(2, 4), torch.tensor([1, 2])
    every = torch.ones(2, 4, dtype=torch.bool)
    assert sample_contrast_loss(similarity, every, positive, ~torch.eye(2, dtype=torch.bool)) == 0
    assert sample_contrast_loss(similarity, every, positive) > 0


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    first, second = (torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(info_nce, (first, second))
    assert torch.autograd.gradcheck(to_unit, (first,))
    admissible = torch.rand(3, 5) > 0.3
    positive = torch.tensor([0, 4, 2])
    admissible[range(3), positive] = True
    similarity = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    for loss in (frame_contrast_loss, sample_contrast_loss):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, admissible, positive), (similarity,))
    mask = torch.rand(3, 5) > 0.2
    foreground = torch.rand(3, 5) > 0.5
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, foreground, mask, 0.9, 2.0), (similarity,))


def test_mean_positive_weighs_frames_alike() -> None:
    cls = torch.randn(2, K, 5, C, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, False, True, True, False], [False, True, False, False, False]])
    wanted = torch.stack([cls[b][:, mask[b]].mean(dim=1) for b in range(2)])
    torch.testing.assert_close(mean_positive(cls, mask), wanted, rtol=1e-5, atol=1e-6)


def test_weights_are_checked() -> None:
    assert LossConfig(offset=0.1, focal_alpha=0.9, recipe="paper") == LossConfig(recipe="paper")
    for wrong in ({"offset": -1}, {"saliency": math.nan}, {"focal_alpha": 1.5}, {"sailency": 0.1}):
        with pytest.raises(ValidationError):
            LossConfig(**wrong)
