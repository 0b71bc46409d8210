"""What a sample's result must not depend on: padding, batch mates, their order, the way it was asked."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import configs, features, float64, small_model
from torch import Tensor

from r2tuning.decoding import Decoded, decode
from r2tuning.model import R2Config, pooling
from r2tuning.types import ModelOutput

TOLERANCE = 1e-10  # relative and absolute, float64
SEEDS = st.integers(0, 2**31)
LENGTHS = st.lists(st.tuples(st.integers(1, 13), st.integers(1, 6)), min_size=1, max_size=4)
"""Frames and tokens of each sample."""

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def padded_batch(config: R2Config, lengths: list[tuple[int, int]], extra: int, seed: int) -> Batch:
    """Video, query and their masks, all entries filled; ``extra`` more padding than the longest sample asks for."""
    frames, tokens = (max(column) + extra for column in zip(*lengths, strict=True))
    video, query = features(config, len(lengths), frames, 2, tokens, seed)
    video_mask, query_mask = (
        torch.arange(size)[None] < torch.tensor([length[i] for length in lengths])[:, None]
        for i, size in enumerate((frames, tokens))
    )
    # What stands in the padding is far from anything real.
    video = torch.where(video_mask[:, None, :, None, None], video, 50 * video + 20)
    query = torch.where(query_mask[:, None, :, None], query, 50 * query + 20)
    return video, query, video_mask, query_mask


def real_part(output: ModelOutput, sample: int) -> ModelOutput:
    """A sample of a batch as if it had come alone: a batch of one without its padding."""
    points, frames = output.point_mask[sample], output.video_mask[sample]
    return ModelOutput(
        hidden=output.hidden[sample : sample + 1, frames],
        query=output.query[sample : sample + 1],
        class_logits=output.class_logits[sample : sample + 1, points],
        offsets=None if output.offsets is None else output.offsets[sample : sample + 1, points],
        points=output.points[points],
        point_mask=output.point_mask[sample : sample + 1, points],
        video_mask=output.video_mask[sample : sample + 1, frames],
        video_cls=output.video_cls[sample : sample + 1, :, frames],
        query_pooled=output.query_pooled[sample : sample + 1],
        form=output.form,
    )


def assert_same_output(got: ModelOutput, want: ModelOutput) -> None:
    for field in fields(ModelOutput):
        a, b = getattr(got, field.name), getattr(want, field.name)
        if not isinstance(b, torch.Tensor):
            assert a == b
        else:
            torch.testing.assert_close(
                a, b, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda text, field=field: f"{field.name}: {text}"
            )


def assert_same_decoded(got: Decoded, want: Decoded) -> None:
    torch.testing.assert_close(got.saliency, want.saliency, rtol=TOLERANCE, atol=TOLERANCE)
    # Rounding may swap moments of nearly the same score, so compare by time.
    torch.testing.assert_close(got.moments[:, 2], want.moments[:, 2], rtol=TOLERANCE, atol=TOLERANCE)
    a, b = (x.moments[x.moments[:, 0].argsort()] for x in (got, want))
    torch.testing.assert_close(a, b, rtol=TOLERANCE, atol=TOLERANCE)


@settings(max_examples=25)
@given(config=configs(hidden=8, heads=2), lengths=LENGTHS, extra=st.integers(0, 3), seed=SEEDS)
@float64()
@torch.no_grad()
def test_a_padded_batch_equals_single_runs(
    config: R2Config, lengths: list[tuple[int, int]], extra: int, seed: int
) -> None:
    model = small_model(config, seed)
    video, query, video_mask, query_mask = padded_batch(config, lengths, extra, seed)
    output = model(video, query, video_mask, query_mask)
    decoded = decode(output, fps=0.5)
    assert len(decoded) == len(lengths)
    for sample, (frames, tokens) in enumerate(lengths):
        alone = model(video[sample : sample + 1, :, :frames], query[sample : sample + 1, :, :tokens])
        assert_same_output(real_part(output, sample), alone)
        assert_same_decoded(decoded[sample], decode(alone, fps=0.5)[0])


@settings(max_examples=10)
@given(config=configs(hidden=8, heads=2), lengths=LENGTHS, seed=SEEDS, data=st.data())
@float64()
@torch.no_grad()
def test_the_order_of_a_batch_is_the_order_of_its_results(
    config: R2Config, lengths: list[tuple[int, int]], seed: int, data: st.DataObject
) -> None:
    model = small_model(config, seed)
    order = data.draw(st.permutations(range(len(lengths))))
    batch = padded_batch(config, lengths, 0, seed)
    got, want = model(*(x[order] for x in batch)), model(*batch)
    for field in fields(ModelOutput):
        if field.name not in ("points", "form") and getattr(want, field.name) is not None:
            want = replace(want, **{field.name: getattr(want, field.name)[order]})
    assert_same_output(got, want)


@settings(max_examples=15)
@given(
    config=configs(hidden=8, heads=2),
    frames=st.integers(1, 12),
    tokens=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    seed=SEEDS,
)
@float64()
@torch.no_grad()
def test_many_queries_share_one_projected_video(config: R2Config, frames: int, tokens: list[int], seed: int) -> None:
    model = small_model(config, seed)
    video, query, _, query_mask = padded_batch(config, [(frames, n) for n in tokens], 0, seed)
    video = video[:1]
    output = model.predict(model.project(video), query, query_mask=query_mask)
    decoded = decode(output, fps=2.0)
    for i, count in enumerate(tokens):
        alone = model(video, query[i : i + 1, :, :count])
        assert_same_output(real_part(output, i), alone)
        assert_same_decoded(decoded[i], decode(alone, fps=2.0)[0])


@settings(max_examples=25)
@given(
    config=st.sampled_from(["reversed", "forward", "mean", "single"]).flatmap(lambda name: configs(refinement=name)),
    frames=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    tokens=st.lists(st.integers(1, 10), min_size=1, max_size=3),
    cache=st.sampled_from([1, 60, pooling.CACHE]),
    seed=SEEDS,
)
@float64()
@torch.no_grad()
def test_every_pair_is_answered_as_if_it_had_come_alone(
    config: R2Config, frames: list[int], tokens: list[int], cache: int, seed: int
) -> None:
    model = small_model(config, seed)
    video, _, video_mask, _ = padded_batch(config, [(n, 1) for n in frames], 1, seed)
    _, query, _, query_mask = padded_batch(config, [(1, n) for n in tokens], 1, seed)
    before, pooling.CACHE = pooling.CACHE, cache
    try:
        output = model.predict(model.project(video, video_mask), query, video_mask, query_mask)
    finally:
        pooling.CACHE = before
    for pair in range(len(frames) * len(tokens)):
        v, q = divmod(pair, len(tokens))
        alone = model(video[v : v + 1, :, : frames[v]], query[q : q + 1, :, : tokens[q]])
        assert_same_output(real_part(output, pair), alone)


@torch.no_grad()
def test_half_precision_features_are_projected_in_that_of_the_weights() -> None:
    model = small_model(R2Config(video_width=6, query_width=5, layers=2, hidden=8, heads=2), 0)
    video = features(model.config, 1, 5, 3, 1, 0)[0].half()
    torch.testing.assert_close(model.project(video), model.project(video.float()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("junk", [torch.nan, torch.inf])
def test_no_number_in_the_padding_reaches_a_result(junk: float, gradients: bool) -> None:
    model = small_model(R2Config(video_width=6, query_width=5, layers=2, hidden=8, heads=2), 0)
    video, query, video_mask, query_mask = padded_batch(model.config, [(9, 4), (5, 2)], 1, 0)
    clean = (video * video_mask[:, None, :, None, None], query * query_mask[:, None, :, None])
    spoiled = (
        video.masked_fill(~video_mask[:, None, :, None, None], junk),
        query.masked_fill(~query_mask[:, None, :, None], junk),
    )
    with torch.set_grad_enabled(gradients):
        want, got = (model(*pair, video_mask, query_mask) for pair in (clean, spoiled))
    for sample in range(2):
        assert_same_output(real_part(got, sample), real_part(want, sample))
    if gradients:
        got.class_logits[got.point_mask].sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@settings(max_examples=10)
@given(config=configs(hidden=8, heads=2), lengths=LENGTHS, seed=SEEDS, training=st.booleans())
def test_inputs_are_left_alone(config: R2Config, lengths: list[tuple[int, int]], seed: int, training: bool) -> None:
    model = small_model(config, seed).train(training)
    batch = padded_batch(config, lengths, 1, seed)
    before = [x.clone() for x in batch]
    output = model(*batch)
    kept = {field.name: getattr(output, field.name) for field in fields(ModelOutput)}
    copies = {name: value.detach().clone() for name, value in kept.items() if isinstance(value, torch.Tensor)}
    with torch.no_grad():
        decode(output, fps=1.0)
    for tensor, copy in zip(batch, before, strict=True):
        torch.testing.assert_close(tensor, copy, rtol=0, atol=0)
    for name, copy in copies.items():
        torch.testing.assert_close(kept[name].detach(), copy, rtol=0, atol=0)
