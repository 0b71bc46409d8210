"""The model against the paper spelled out, on models and inputs of any small shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.golden import export_official
from support.models import configs, features, float64, small_model
from support.transcription import transcribe

from r2tuning.decoding import decode
from r2tuning.model import R2Config

TOLERANCE = 1e-10  # relative and absolute: float64 on both sides, though LayerNorms of few channels amplify rounding


@settings(max_examples=30)
@given(
    config=configs(),
    frames=st.integers(1, 9),
    patches=st.integers(1, 5),
    tokens=st.integers(1, 6),
    fps=st.sampled_from([0.5, 1.0, 4.0]),
    seed=st.integers(0, 2**31),
)
def test_model_and_decoding_equal_the_transcription(
    config: R2Config, frames: int, patches: int, tokens: int, fps: float, seed: int
) -> None:
    states: list[torch.Tensor] = []
    with torch.no_grad(), float64():
        model = small_model(config, seed)
        model.block.temporal_refinement.register_forward_hook(lambda _, entering, leaving: states.append(leaving))
        video, query = features(config, 1, frames, patches, tokens, seed)
        output = model(video, query)
        (decoded,) = decode(output, fps)

    weights = {name: tensor.numpy() for name, tensor in export_official(model.state_dict()).items()}
    want = transcribe(weights, video[0].numpy(), query[0].numpy(), fps, config.heads, config.form)

    def assert_equal(got: torch.Tensor, wanted: np.ndarray, tolerance: float = TOLERANCE) -> None:
        assert got.shape == wanted.shape
        assert got.dtype == torch.float64
        np.testing.assert_allclose(got.numpy(), wanted, rtol=tolerance, atol=tolerance)

    assert_equal(torch.cat(states), want.states)
    assert_equal(output.hidden[0], want.hidden)
    assert_equal(output.video_cls[0], want.video_cls)
    assert_equal(output.query_pooled[0], want.query_pooled)
    assert_equal(output.query[0], want.query_pooled[0])
    assert output.points[:, [0, 3]].tolist() == want.points.tolist()
    assert_equal(output.class_logits[0], want.class_logits)
    if want.offsets is None:
        assert output.offsets is None
        assert decoded.moments.shape == (0, 3)
    else:
        assert output.offsets is not None
        assert_equal(output.offsets[0], want.offsets)
        assert_equal(decoded.moments, want.moments)
    assert_equal(decoded.saliency, want.saliency)
    assert output.point_mask.all()
    assert output.video_mask.all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_precision_run_and_agree(dtype: torch.dtype) -> None:
    config = R2Config(video_width=8, query_width=6, layers=2, hidden=16, heads=2)
    model = small_model(config, 0)
    video, query = features(config, 2, 9, 3, 4, 0)
    with torch.no_grad():
        want = model(video, query)
        got = model.to(dtype)(video.to(dtype), query.to(dtype))
    tolerance = {torch.float64: 1e-5, torch.bfloat16: 0.3}[dtype]
    assert got.class_logits.dtype == dtype
    torch.testing.assert_close(got.class_logits.float(), want.class_logits, rtol=tolerance, atol=tolerance)


def test_heads_keep_fp32_under_autocast() -> None:
    config = R2Config(video_width=8, query_width=6, layers=2, hidden=16, heads=2)
    model = small_model(config, 0)
    video, query = features(config, 1, 9, 3, 4, 0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(video, query)
    assert output.class_logits.dtype == torch.float32
    assert output.offsets is not None
    assert output.offsets.dtype == torch.float32
