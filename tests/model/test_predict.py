"""Prediction from projected videos: their precision, parts of any size, one tensor per video.

`test_golden` and `test_invariance` test the values.
"""

from collections.abc import Iterator

import pytest
import torch
from support.dense_transcription import attend, predict_densely
from support.golden import export_official
from support.models import features, float64, small_model

from r2tuning.model import R2Config, pooling

CONFIG = R2Config(video_width=8, query_width=6, layers=3, hidden=16, heads=2)
ATOL_HALF = 5e-3
"""Of logits of about 1, where projected patches, of up to 4, are rounded to fp16."""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("frames", [1, 3, 9, 16])
def test_the_dense_transcription_gives_the_same(frames: int, padding: bool) -> None:
    """The baseline of benchmarks computes the model: were it wrong, ratios to it would mean nothing."""
    with float64():
        model = small_model(CONFIG, 0)
        video, query = features(CONFIG, 1, frames, 3, 4, 1)
        got = model.predict(model.project(video), query)
        weights = export_official(model.state_dict())
        hidden, logits, offsets, _, _ = predict_densely(weights, video, query, heads=2, padding=padding)
    torch.testing.assert_close(got.hidden, hidden, rtol=0, atol=1e-10)
    torch.testing.assert_close(got.class_logits, logits, rtol=0, atol=1e-10)
    torch.testing.assert_close(got.offsets, offsets, rtol=0, atol=1e-10)


def test_the_dense_transcription_leaves_padding_out() -> None:
    with float64():
        weights = export_official(small_model(CONFIG, 0).state_dict())
        video, query = features(CONFIG, 1, 6, 3, 4, 1)
        video[:, :, 4:], query[:, :, 3:] = torch.nan, torch.inf
        assert all(found.isfinite().all() for found in predict_densely(weights, video, query, heads=2))
        frames = torch.randn(2, 5, 16)
        mask = (torch.arange(5) < 3).expand(2, 5)
        masked = attend(weights, "self_att", frames, frames, frames, 2, mask)
        short = attend(weights, "self_att", frames, frames[:, :3], frames[:, :3], 2, None)
    torch.testing.assert_close(masked, short, rtol=0, atol=1e-12)


def test_patches_may_be_kept_in_half_precision() -> None:
    model = small_model(CONFIG, 0)
    video, _ = features(CONFIG, 2, 20, 5, 1, 1)
    _, query = features(CONFIG, 3, 1, 1, 4, 2)
    projected = model.project(video)
    exact, rounded = model.predict(projected, query), model.predict(projected.half(), query)
    assert rounded.class_logits.dtype == rounded.video_cls.dtype == torch.float32
    assert not torch.equal(rounded.class_logits, exact.class_logits)
    torch.testing.assert_close(rounded.class_logits, exact.class_logits, rtol=0, atol=ATOL_HALF)


@pytest.mark.parametrize("tokens", [3, 8, 9, 23, 24])
@pytest.mark.parametrize("precision", [torch.float16, torch.float32])
def test_the_size_of_parts_does_not_matter(
    tokens: int, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(CONFIG, 0)
    projected = model.project(features(CONFIG, 2, 20, 5, 1, 1)[0]).to(precision)
    _, query = features(CONFIG, 1, 1, 1, tokens, 2)
    mask = torch.arange(20) < torch.tensor([[20], [13]])
    whole = model.predict(projected, query, mask)
    monkeypatch.setattr(pooling, "CACHE", 2 * (6 + tokens) * CONFIG.hidden * 3)  # 3 frames of 20 and of 13: some are 2
    parts = model.predict(projected, query, mask)
    torch.testing.assert_close(
        parts.class_logits[whole.point_mask], whole.class_logits[whole.point_mask], rtol=0, atol=1e-4
    )


def test_videos_may_come_one_by_one() -> None:
    model = small_model(CONFIG, 0)
    projected = model.project(features(CONFIG, 3, 7, 2, 1, 1)[0])
    _, query = features(CONFIG, 2, 1, 1, 4, 2)
    apart = model.predict([piece.clone() for piece in projected], query)
    assert torch.equal(apart.class_logits, model.predict(projected, query).class_logits)
    assert torch.equal(apart.video_cls, projected[:, :, :, 0].repeat_interleave(2, dim=0))
