"""The training kernels against automatic differentiation of the plain modules: values, gradients, dropout, memory."""

from dataclasses import fields
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import configs, features, float64, small_model
from torch import Tensor, nn

from r2tuning.model import R2Config, R2Tuning, pooling
from r2tuning.model.kernels import draw_bits, keep, kept_share, project_and_pool, spread_bits
from r2tuning.model.layers import FeatureMap, temporal_endpoints
from r2tuning.model.pooling import Pairs
from r2tuning.types import ModelOutput

TOLERANCE = 1e-9  # relative and absolute, float64; LayerNorms of few channels amplify rounding
CPU = torch.device("cpu")
REFINEMENTS = st.sampled_from(["reversed", "forward", "mean", "single"])
SEEDS = st.integers(0, 2**31)

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]


@st.composite
def batches(draw: st.DrawFn, config: R2Config) -> Inputs:
    """Videos, queries and masks; queries may share videos, and padding is far from anything real."""
    frames = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    shared = draw(st.booleans())
    index = [draw(st.integers(0, len(frames) - 1)) for _ in range(draw(st.integers(1, 5)))] if shared else None
    tokens = [draw(st.integers(1, 5)) for _ in (index if index is not None else frames)]
    seed, patches = draw(SEEDS), draw(st.integers(1, 4))
    video, _ = features(config, len(frames), max(frames), patches, 1, seed)
    _, query = features(config, len(tokens), 1, 1, max(tokens), seed)
    video_mask, query_mask = (torch.arange(max(n))[None] < torch.tensor(n)[:, None] for n in (frames, tokens))
    video = torch.where(video_mask[:, None, :, None, None], video, 50 * video + 20)
    query = torch.where(query_mask[:, None, :, None], query, 50 * query + 20)
    return video, query, video_mask, query_mask, None if index is None else torch.tensor(index)


def probe(output: ModelOutput, seed: int) -> Tensor:
    """A number that depends on all that is real in an output."""
    generator = torch.Generator().manual_seed(seed)
    masks = {"hidden": output.video_mask, "class_logits": output.point_mask, "offsets": output.point_mask}
    total = torch.zeros(())
    for field in ("hidden", "query", "class_logits", "offsets", "video_cls", "query_pooled"):
        values = getattr(output, field)
        if values is not None:
            real = values.transpose(1, 2)[output.video_mask] if field == "video_cls" else values
            real = values[masks[field]] if field in masks else real
            total = total + (real * torch.randn(real.shape, generator=generator)).sum()
    return total


def project_plainly(model: R2Tuning, video: Tensor, video_mask: Tensor | None) -> Tensor:
    """Eq. 2 by the feature map itself, with its dropout; padded frames are zero."""
    if video_mask is None:
        video_mask = torch.ones(video.shape[::2][:2], dtype=torch.bool)
    layers = video.masked_fill(~video_mask[:, None, :, None, None], 0).to(model.level_scale.dtype)
    if model.config.refinement == "mean":
        layers = layers.mean(dim=1, keepdim=True)
    layers = layers[:, : model.config.steps]
    if model.config.family == "grounding":
        ends = temporal_endpoints(video_mask).to(layers.dtype)[:, None, :, None]
        layers = torch.cat([layers, ends.expand(*layers.shape[:-1], 2)], dim=-1)
    return torch.stack([model.block.video_map(layer) for layer in layers.unbind(1)], dim=1)


def predict_plainly(
    model: R2Tuning,
    video: Tensor,
    query: Tensor,
    video_mask: Tensor | None = None,
    query_mask: Tensor | None = None,
    index: Tensor | None = None,
) -> ModelOutput:
    """What `R2Tuning.forward` returns, differentiated by autograd: predicts all pairs and keeps those of the index."""
    output = model.predict(project_plainly(model, video, video_mask), query, video_mask, query_mask)
    queries = torch.arange(len(query))
    rows = (queries if index is None else index) * len(query) + queries
    values = {field.name: getattr(output, field.name) for field in fields(ModelOutput)}
    return ModelOutput(**{n: x[rows] if isinstance(x, Tensor) and n != "points" else x for n, x in values.items()})


def run(model: R2Tuning, inputs: Inputs, *, kernels: bool, seed: int = 0) -> tuple[ModelOutput, dict[str, Tensor]]:
    """Output and gradients of all parameters and of the features."""
    leaves = [x.clone().requires_grad_() for x in inputs[:2]]
    model.zero_grad()
    output = model(*leaves, *inputs[2:]) if kernels else predict_plainly(model, *leaves, *inputs[2:])
    probe(output, seed).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return output, gradients | {"video": leaves[0].grad, "query": leaves[1].grad}


def assert_same(got: tuple[ModelOutput, dict[str, Tensor]], want: tuple[ModelOutput, dict[str, Tensor]]) -> None:
    """Compares what is real; what both ways say of padding means nothing."""
    for field in fields(ModelOutput):
        a, b = getattr(got[0], field.name), getattr(want[0], field.name)
        if field.name in ("hidden", "video_cls"):
            a, b = ((x if x.dim() == 3 else x.transpose(1, 2))[want[0].video_mask] for x in (a, b))
        elif field.name in ("class_logits", "offsets") and b is not None:
            a, b = a[want[0].point_mask], b[want[0].point_mask]
        if not isinstance(b, Tensor):
            assert a == b
        else:
            torch.testing.assert_close(a, b, rtol=TOLERANCE, atol=TOLERANCE)
    assert got[1].keys() == want[1].keys()
    size = max(gradient.abs().max().item() for gradient in want[1].values())
    for name, gradient in want[1].items():
        torch.testing.assert_close(
            got[1][name],
            gradient,
            rtol=TOLERANCE,
            atol=TOLERANCE * max(1, size),
            msg=lambda text, n=name: f"{n}: {text}",
        )


@settings(max_examples=25)
@given(data=st.data(), seed=SEEDS, refinement=REFINEMENTS, small_parts=st.booleans())
@float64()
def test_kernels_give_the_same_values_and_gradients(
    data: st.DataObject, seed: int, refinement: str, small_parts: bool
) -> None:
    config = data.draw(configs(refinement=refinement, dropout=0.0, drop_path=0.0))
    model = small_model(config, seed).train()
    inputs = data.draw(batches(config))
    before, pooling.CACHE = pooling.CACHE, 30 if small_parts else pooling.CACHE
    try:
        got = run(model, inputs, kernels=True)
    finally:
        pooling.CACHE = before
    assert_same(got, run(model, inputs, kernels=False))


class GivenDropout(nn.Module):
    """Applies the given masks, one per call, instead of drawing them."""

    def __init__(self, masks: list[Tensor], share: float) -> None:
        super().__init__()
        self.masks, self.share = iter(masks), share

    def forward(self, x: Tensor) -> Tensor:
        return x * next(self.masks).view_as(x) / self.share


@settings(max_examples=20)
@given(data=st.data(), seed=SEEDS, dropout=st.sampled_from([0.5, 0.3, 0.85]), frames=st.integers(1, 6))
@float64()
def test_the_same_masks_give_the_same_numbers(data: st.DataObject, seed: int, dropout: float, frames: int) -> None:
    config = data.draw(configs(dropout=dropout, drop_path=0.0))
    model = small_model(config, seed).train()
    block, width = model.block, config.video_input_width
    for layer in block.query_map:
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    video, query = features(config, 1, frames, 2, 3, seed)
    inputs = (video, query, torch.ones(1, frames, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool), None)
    torch.manual_seed(seed)
    got = run(model, inputs, kernels=True)
    share = kept_share(dropout)
    torch.manual_seed(seed)
    drawn = []
    for _ in range(config.layers):  # the kernels begin with the last layer, `project` with the first
        sizes = (frames * 3 * width, frames * 3 * config.hidden)
        masks = (spread_bits(draw_bits(size, share, video.device), size) for size in sizes)
        drawn.append([-mask.double() for mask in masks])
    outer, inner = (list(masks[::-1]) for masks in zip(*drawn, strict=True))
    block.video_map[1], block.video_map[5] = GivenDropout(outer, share), GivenDropout(inner, share)
    assert_same(got, run(model, inputs, kernels=False))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("endpoints", [True, False])
@float64()
def test_gradients_are_those_of_finite_differences(dropout: float, endpoints: bool) -> None:
    torch.manual_seed(0)
    video_map = FeatureMap(7 if endpoints else 5, 6, dropout).train()
    for parameter in video_map.parameters():
        parameter.data = torch.randn_like(parameter)
    video, query, tokens = torch.randn(2, 2, 4, 3, 5), torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    mask = torch.arange(4)[None] < torch.tensor([4, 3])[:, None]
    ends = torch.randn(2, 4, 2) if endpoints else None
    index, query_mask = torch.tensor([0, 0, 1]), torch.arange(3)[None] < torch.tensor([1, 2, 3])[:, None]
    pairs = Pairs.sort(index, query_mask, 2)

    def compute(video: Tensor, query: Tensor, tokens: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        return project_and_pool(video_map, video, mask, ends, query, tokens, pairs)

    leaves = (video.requires_grad_(), query.requires_grad_(), tokens.requires_grad_(), *video_map.parameters())
    assert torch.autograd.gradcheck(compute, leaves)


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.bfloat16, 0.15), (torch.float16, 0.05)])
def test_mixed_precision_is_near_the_whole_one(precision: torch.dtype, tolerance: float) -> None:
    """Shares of the norm of all gradients, and of a logit; the plain way is as far off."""
    config = R2Config(video_width=24, query_width=12, layers=2, hidden=32, heads=2, dropout=0, drop_path=0)
    model = small_model(config, 0).train()
    video, query = features(config, 3, 12, 5, 4, 0)
    inputs = (video, query, torch.ones(3, 12, dtype=torch.bool), torch.ones(3, 4, dtype=torch.bool), None)
    want_output, want = run(model, inputs, kernels=False)
    size = torch.cat([gradient.flatten() for gradient in want.values()]).norm()
    for kernels in (True, False):
        with torch.autocast("cpu", precision):
            output, got = run(model, inputs, kernels=kernels)
        assert output.class_logits.dtype == torch.float32
        assert torch.cat([(got[name] - want[name]).flatten() for name in want]).norm() < tolerance * size
        torch.testing.assert_close(output.class_logits, want_output.class_logits, rtol=0, atol=tolerance)


def test_half_precision_features_are_not_copied_whole() -> None:
    """What is kept for the gradient, beside small tensors, is two of width C for each patch, and bits."""
    config = R2Config(video_width=96, query_width=8, layers=2, hidden=16, heads=2)
    model = R2Tuning(config).train()
    video, query = features(config, 2, 40, 30, 3, 0)
    kept = {}
    for kernels in (True, False):
        seen: dict[int, int] = {}

        def pack(tensor: Tensor, seen: dict[int, int] = seen) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = (model if kernels else partial(predict_plainly, model))(video.half(), query)
        kept[kernels] = sum(seen.values()) - video.half().nbytes
        del output
    assert kept[True] < 0.4 * kept[False]


def test_dropout_keeps_the_expected_value() -> None:
    """The first linear layer alone is looked at: beyond a ReLU the mean is another."""
    torch.manual_seed(0)
    video_map = FeatureMap(10, 4, 0.3)
    with torch.no_grad():
        video_map[6].weight.copy_(torch.eye(4))
        video_map[2].bias.fill_(50.0)  # every ReLU is open
        video_map[4].weight.zero_()
        video_map[4].bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))  # what is left is dropout of a constant
        video_map[6].bias.zero_()
        mask, query = torch.ones(1, 400, dtype=torch.bool), torch.zeros(1, 1, 4)
        pairs = Pairs.sort(torch.zeros(1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool), 1)
        video = torch.randn(1, 1, 400, 25, 10)
        cls, _ = project_and_pool(video_map.train(), video, mask, None, query, query, pairs)
    mean = cls.mean(dim=(0, 1))
    torch.testing.assert_close(mean, torch.tensor([1.0, 2.0, 3.0, 4.0]), rtol=0.2, atol=0)  # six standard deviations


@pytest.mark.parametrize("dropout", [0.5, 0.3, 0.35, 0.9, 1 / 256, 0.997])
def test_entries_are_kept_as_often_as_they_should_be(dropout: float) -> None:
    torch.manual_seed(0)
    share, count = kept_share(dropout), 400_001
    assert share == pytest.approx(1 - dropout, abs=1 / 512 + 1e-9)
    mask = spread_bits(draw_bits(count, share, CPU), count)
    assert mask.shape == (count,)
    kept = keep(torch.ones(count), mask)
    assert set(kept.tolist()) == {0.0, 1.0}
    deviation = (share * (1 - share) / count) ** 0.5
    assert kept.mean().item() == pytest.approx(share, abs=5 * deviation)
    # Neighbors, in memory and within a word, are independent.
    for lag in (1, 32, 64, -(-count // 64) * 2):
        both = (kept[lag:] * kept[:-lag]).mean().item()
        assert both == pytest.approx(share**2, abs=6 * deviation)


def test_the_seed_decides() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(draw_bits(1000, 0.75, CPU))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keep_leaves_the_rest_as_it_was(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.randn(7, 11, dtype=dtype)
    mask = spread_bits(draw_bits(77, 0.5, CPU), 77)
    want = torch.where(mask.view(7, 11) == -1, values, 0)
    assert keep(values.clone(), None).equal(values)
    assert keep(values, mask) is values
    assert values.equal(want)
    assert 20 < (mask == -1).sum() < 57
