"""The assembled model: short videos, gradients, training noise and refusals."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.models import features, small_model
from torch import Tensor

from r2tuning.decoding import decode
from r2tuning.model import R2Config, R2Tuning
from r2tuning.model.layers import DropPath

CONFIG = R2Config(video_width=6, query_width=5, layers=2, hidden=8, heads=2)


@settings(max_examples=15)
@given(frames=st.integers(1, 20))
def test_levels_wider_than_the_video_are_left_out(frames: int) -> None:
    model = small_model(CONFIG, 0)
    with torch.no_grad():
        output = model(*features(CONFIG, 1, frames, 2, 3, frames))
    expected = [[j * s, s] for s in (1, 2, 4, 8) for j in range(frames // s)]
    assert output.points[:, [0, 3]].tolist() == expected
    assert output.class_logits.shape == output.point_mask.shape == (1, len(expected))
    assert output.offsets is not None
    assert (output.offsets > 0).all()
    assert decode(output, 1.0)[0].saliency.shape == (frames,)
    low, high = output.points[:, 1], output.points[:, 2]
    for stride, span in {1: (0, 2), 2: (2, 4), 4: (4, 8), 8: (8, float("inf"))}.items():
        level = output.points[:, 3] == stride
        assert {(a, b) for a, b in zip(low[level].tolist(), high[level].tolist(), strict=True)} <= {span}


@pytest.mark.parametrize("family", ["grounding", "saliency"])
def test_one_frame_and_one_token_are_enough(family: str) -> None:
    config = R2Config(family=family, video_width=6, query_width=5, layers=1, hidden=8, heads=2)
    model = small_model(config, 0)
    with torch.no_grad():
        output = model(*features(config, 1, 1, 1, 1, 0))
        (decoded,) = decode(output, fps=0.5)
    assert decoded.saliency.shape == (1,)
    assert torch.isfinite(decoded.saliency).all()
    if family == "saliency":
        assert (output.offsets, decoded.moments.shape) == (None, (0, 3))
        return
    ((start, end, score),) = decoded.moments.tolist()
    assert start < 0 < end  # around position 0
    assert 0 < score < 1


def test_at_most_fifty_moments_the_best_first() -> None:
    model = small_model(CONFIG, 0)
    with torch.no_grad():
        output = model(*features(CONFIG, 1, 75, 1, 3, 0))
    (decoded,) = decode(output, fps=0.5)
    scores = output.class_logits[0].sigmoid().sort(descending=True).values
    assert len(scores) == 75 + 37 + 18 + 9
    torch.testing.assert_close(decoded.moments[:, 2], scores[:50], rtol=0, atol=0)


def test_gradients_are_finite_and_reach_every_weight() -> None:
    config = R2Config(video_width=6, query_width=5, layers=3, hidden=8, heads=2, dropout=0, drop_path=0)
    model = small_model(config, 0).train()
    video, query = features(config, 3, 11, 2, 4, 0)
    video_mask = torch.arange(11)[None] < torch.tensor([11, 5, 1])[:, None]
    query_mask = torch.arange(4)[None] < torch.tensor([4, 1, 2])[:, None]
    output = model(video, query, video_mask, query_mask)
    assert output.offsets is not None
    real = output.point_mask
    curve = torch.cosine_similarity(output.hidden, output.query[:, None], dim=-1)[video_mask]
    calibration = (output.video_cls.transpose(1, 2)[video_mask].sum(), (output.query_pooled**2).sum())
    (output.class_logits[real].sum() + output.offsets[real].sum() + curve.sum() + sum(calibration)).backward()
    # softmax does not see what is the same for all its entries
    without = re.compile(r"spatial_pooling\.video_projection\.bias|attention\.key\.bias")
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if without.search(name):
            assert parameter.grad.abs().max() < 1e-4, name
        else:
            assert parameter.grad.abs().max() > 1e-6, name


def test_padding_gets_no_gradient() -> None:
    model = small_model(CONFIG, 0)
    video, query = (x.requires_grad_() for x in features(CONFIG, 2, 9, 2, 4, 0))
    video_mask = torch.arange(9)[None] < torch.tensor([9, 6])[:, None]
    query_mask = torch.arange(4)[None] < torch.tensor([4, 3])[:, None]
    output = model(video, query, video_mask, query_mask)
    output.class_logits[output.point_mask].sum().backward()
    assert video.grad is not None
    assert query.grad is not None
    assert (video.grad[1, :, 6:] == 0).all()
    assert (query.grad[1, :, 3:] == 0).all()
    assert (video.grad[1, :, :6].abs().amax(dim=(0, 2, 3)) > 0).all()
    assert (query.grad[1, :, :3].abs().amax(dim=(0, 2)) > 0).all()


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(20_000, 2, 3)
    layer = DropPath(0.25).train()
    y = layer(x)
    values = y.flatten(1)
    assert (values == values[:, :1]).all()
    assert set(values[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert y.mean().item() == pytest.approx(1, abs=0.02)  # five standard deviations
    assert layer.eval()(x) is x


def test_training_is_noisy_and_evaluation_is_not() -> None:
    model = small_model(CONFIG, 0)
    batch = features(CONFIG, 2, 9, 2, 4, 0)
    with torch.no_grad():
        assert torch.equal(model(*batch).class_logits, model(*batch).class_logits)
        model.train()
        assert not torch.equal(model(*batch).class_logits, model(*batch).class_logits)


def test_a_new_model_begins_at_the_cls_tokens() -> None:
    """The gate of Eq. 6 is zero at first: no patch but [CLS] has a say."""
    model = R2Tuning(CONFIG).eval()
    video, query = features(CONFIG, 1, 5, 3, 4, 0)
    other = video.clone()
    other[:, :, :, 1:] += 1
    with torch.no_grad():
        torch.testing.assert_close(model(other, query).hidden, model(video, query).hidden, rtol=0, atol=0)
        other[:, :, :, :1] += torch.randn(other[:, :, :, :1].shape, generator=torch.Generator().manual_seed(1))
        assert not torch.allclose(model(other, query).hidden, model(video, query).hidden)


VIDEO, QUERY = features(CONFIG, 2, 4, 2, 3, 0)
REFUSED: dict[str, tuple[tuple[Tensor | None, ...], str]] = {
    "video without batch": (
        (VIDEO[0], QUERY),
        "video_features have shape [2, 4, 3, 6]; this model takes [B, 2, T, P+1, 6]",
    ),
    "too few layers": (
        (VIDEO[:, :1], QUERY),
        "video_features have shape [2, 1, 4, 3, 6]; this model takes [B, 2, T, P+1, 6]",
    ),
    "narrow video": (
        (VIDEO[..., :5], QUERY),
        "video_features have shape [2, 2, 4, 3, 5]; this model takes [B, 2, T, P+1, 6]",
    ),
    "query without batch": ((VIDEO, QUERY[0]), "query_features have shape [2, 3, 5]; this model takes [B, 2, L, 5]"),
    "query of other layers": (
        (VIDEO, QUERY[:, :1]),
        "query_features have shape [2, 1, 3, 5]; this model takes [B, 2, L, 5]",
    ),
    "narrow query": ((VIDEO, QUERY[..., :4]), "query_features have shape [2, 2, 3, 4]; this model takes [B, 2, L, 5]"),
    "one query short": ((VIDEO, QUERY[:1]), "2 videos but 1 queries; give one query for each video"),
    "short video mask": (
        (VIDEO, QUERY, torch.ones(2, 3, dtype=torch.bool)),
        "video_mask has shape [2, 3]; it must be [2, 4]",
    ),
    "float video mask": (
        (VIDEO, QUERY, torch.ones(2, 4)),
        "video_mask is torch.float32; it must be torch.bool, True = real",
    ),
    "long query mask": (
        (VIDEO, QUERY, None, torch.ones(2, 4, dtype=torch.bool)),
        "query_mask has shape [2, 4]; it must be [2, 3]",
    ),
    "integer query mask": (
        (VIDEO, QUERY, None, torch.ones(2, 3, dtype=torch.int64)),
        "query_mask is torch.int64; it must be torch.bool, True = real",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_inputs(case: str) -> None:
    inputs, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        R2Tuning(CONFIG)(*inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 9}, "hidden (9) must be even and a multiple of heads (8)"),
        ({"hidden": 12, "heads": 5}, "hidden (12) must be even and a multiple of heads (5)"),
        ({"layers": 0}, "layers\n  Input should be greater than or equal to 1"),
        ({"strides": (1, 4)}, "strides must be 1, 2, 4, … in order, not (1, 4)"),
        ({"strides": ()}, "strides must be 1, 2, 4, … in order, not ()"),
        ({"family": "saliency", "strides": (1, 2)}, "the saliency family has the one stride 1, not (1, 2)"),
        ({"dropout": 1.0}, "dropout\n  Input should be less than 1"),
        ({"drop_path": -0.1}, "drop_path\n  Input should be greater than or equal to 0"),
    ],
)
def test_refused_configurations(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        R2Config(**options)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="hiden"):
        R2Config(hiden=64)


def test_queries_that_share_a_video_answer_as_if_each_had_its_own() -> None:
    model = small_model(R2Config(video_width=6, query_width=5, layers=2, hidden=8, heads=2), seed=3)
    video, query = features(model.config, 2, 9, 3, 3, seed=4)
    index = torch.tensor([1, 0, 1])
    queries = torch.cat([query, query[:1]])
    shared = model(video, queries, video_index=index)
    alone = model(video[index], queries)
    for name in ("hidden", "query", "class_logits", "offsets", "video_cls", "query_pooled"):
        torch.testing.assert_close(getattr(shared, name), getattr(alone, name), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"video_index has shape \[3\]; it must be \[2\]"):
        model(video, query, video_index=index)


@pytest.mark.parametrize("refinement", ["forward", "mean", "single"])
def test_every_refinement_is_the_same_with_one_layer(refinement: str) -> None:
    """Fig. 7: with K = 1 there is nothing to walk, average or choose."""
    config = R2Config(video_width=6, query_width=5, layers=1, hidden=8, heads=2)
    reference = small_model(config, seed=5)
    other = R2Tuning(config.model_copy(update={"refinement": refinement})).eval()
    other.load_state_dict(reference.state_dict())
    inputs = features(config, 1, 5, 3, 2, seed=6)
    assert torch.equal(other(*inputs).class_logits, reference(*inputs).class_logits)


def test_refinements_look_at_the_layers_they_say() -> None:
    config = R2Config(video_width=6, query_width=5, layers=3, hidden=8, heads=2)
    video, query = features(config, 1, 5, 3, 2, seed=7)

    def answer(refinement: str, layers: int, video: Tensor, query: Tensor) -> Tensor:
        model = small_model(config.model_copy(update={"refinement": refinement, "layers": layers}), seed=8)
        logits: Tensor = model(video, query).class_logits
        return logits

    alone = answer("reversed", 1, video[:, :1], query[:, :1])
    torch.testing.assert_close(answer("single", 3, video, query), alone)
    mean = answer("reversed", 1, video.mean(1, keepdim=True), query.mean(1, keepdim=True))
    torch.testing.assert_close(answer("mean", 3, video, query), mean)
    # Walking forward is walking in reverse through layers in the opposite order, with gates in that order too.
    forward = small_model(config.model_copy(update={"refinement": "forward"}), seed=8)
    reverse = small_model(config, seed=8)
    with torch.no_grad():
        for gate in (reverse.block.spatial_pooling.gate, reverse.block.temporal_refinement.gate):
            gate.copy_(gate.flip(0).clone())
    torch.testing.assert_close(
        forward(video, query).class_logits, reverse(video.flip(1), query.flip(1)).class_logits, atol=1e-5, rtol=0
    )
