"""The presence head: what it computes, what it costs, and how windows are merged."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.models import features, float64

from r2tuning.decoding import decode
from r2tuning.decoding.windows import merge_presence
from r2tuning.model import R2Config, R2Tuning
from r2tuning.model.heads import PresenceHead


def test_the_logit_is_that_of_the_weighted_mean_of_the_frames() -> None:
    torch.manual_seed(0)
    head = PresenceHead(8).double().requires_grad_(False)
    hidden, query = torch.randn(2, 5, 8).double(), torch.randn(2, 8).double()
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    found = head(hidden, query, mask)
    for sample, frames in enumerate((5, 2)):
        compared = [
            (head.frame.weight @ hidden[sample, t] + head.frame.bias + head.query.weight @ query[sample]).clamp(min=0)
            for t in range(frames)
        ]
        odds = [math.exp(float(head.weight.weight[0] @ one)) for one in compared]
        mean = sum(weight / sum(odds) * one for weight, one in zip(odds, compared, strict=True))
        assert float(found[sample]) == pytest.approx(float(head.output.weight[0] @ mean + head.output.bias), abs=1e-12)


@pytest.mark.parametrize("hidden", [128, 256])
def test_it_adds_at_most_a_twentieth_and_only_if_asked_for(hidden: int) -> None:
    sizes = {"hidden": hidden, "video_width": 160 if hidden == 128 else 768, "query_width": hidden}
    plain, more = (R2Tuning(R2Config(presence=presence, **sizes)) for presence in (False, True))
    count, added = (sum(p.numel() for p in model.parameters()) for model in (plain, more))
    assert count < added < 1.05 * count
    assert not any("presence" in name for name in plain.state_dict())


def test_released_models_have_none_and_others_do_not_change() -> None:
    with float64():
        config = R2Config(video_width=6, query_width=5, layers=2, hidden=8, heads=2)
        plain, more = R2Tuning(config).eval(), R2Tuning(config.model_copy(update={"presence": True})).eval()
        assert not more.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
        inputs = features(config, 2, 7, 3, 4, seed=1)
        without, with_head = plain(*inputs), more(*inputs)
    assert without.presence is None
    assert decode(without, 1.0)[0].presence is None
    assert with_head.presence.shape == (2,)
    assert decode(with_head, 1.0)[1].presence == with_head.presence[1].item()
    assert torch.equal(without.class_logits, with_head.class_logits)


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=9))
def test_the_odds_of_a_video_are_the_mean_of_those_of_its_windows(logits: list[float]) -> None:
    odds = sum(map(math.exp, logits)) / len(logits)
    assert merge_presence(logits) == pytest.approx(math.log(odds), abs=1e-9)
    assert min(logits) - 1e-9 <= merge_presence(logits) <= max(logits) + 1e-9
