"""The module by which class scores of all levels correct each other."""

import pytest
import torch
from support.models import features, float64
from torch.nn import functional as F

from r2tuning.model import R2Config, R2Tuning
from r2tuning.model.heads import ScoreRefinement

STRIDES = (1, 2, 4, 8)


def make_module() -> ScoreRefinement:
    torch.manual_seed(0)
    module = ScoreRefinement(STRIDES).double().requires_grad_(False)
    torch.nn.init.normal_(module.second.weight)
    return module


def make_levels(frames: int) -> list[torch.Tensor]:
    return [torch.randn(1, frames // stride).double() for stride in STRIDES if stride <= frames]


@pytest.mark.parametrize("frames", [1, 3, 7, 9, 20])
def test_padding_changes_nothing(frames: int) -> None:
    module, levels, padded = make_module(), make_levels(frames), frames + 9
    alone = module(levels, [torch.ones_like(level, dtype=torch.bool) for level in levels])
    more = [torch.full((1, padded // stride), 50.0).double() for stride in STRIDES]
    for level, filled in zip(levels, more, strict=False):
        filled[:, : level.shape[1]] = level
    masks = [torch.arange(padded // stride)[None] < frames // stride for stride in STRIDES]
    together = module(more, masks)
    for one, other in zip(alone, together, strict=False):
        torch.testing.assert_close(other[:, : one.shape[1]], one, atol=1e-12, rtol=0)


def test_the_change_is_that_of_two_convolutions_over_the_frames() -> None:
    module, levels = make_module(), make_levels(5)  # levels of 5, 2 and 1 points
    found = module(levels, [torch.ones_like(level, dtype=torch.bool) for level in levels])
    fine, middle, coarse = (level[0].tolist() for level in levels)
    rows = [fine, [middle[0]] * 2 + [middle[1]] * 2 + [0], [coarse[0]] * 4 + [0], [0] * 5]
    seen = torch.tensor([rows]).double()
    first, second = module.first, module.second
    change = F.conv1d(F.conv1d(seen, first.weight, first.bias, padding=1).relu(), second.weight, second.bias, padding=1)
    for number, (stride, points) in enumerate(((1, 5), (2, 2), (4, 1))):
        means = [float(change[0, number, stride * n : stride * (n + 1)].mean()) for n in range(points)]
        expected = [score + mean for score, mean in zip(levels[number][0].tolist(), means, strict=True)]
        assert found[number][0].tolist() == pytest.approx(expected, abs=1e-12)


def test_it_starts_without_effect_and_is_small() -> None:
    with float64():
        config = R2Config(video_width=6, query_width=5, layers=2, hidden=8, heads=2)
        plain, more = R2Tuning(config).eval(), R2Tuning(config.model_copy(update={"score_refinement": True})).eval()
        more.load_state_dict(plain.state_dict(), strict=False)
        inputs = features(config, 2, 7, 3, 4, seed=1)
        torch.testing.assert_close(more(*inputs).class_logits, plain(*inputs).class_logits, atol=0, rtol=0)
    assert sum(p.numel() for p in ScoreRefinement(STRIDES).parameters()) < 500
