"""The attention that is shown is the one that predictions are made with."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import configs, features, float64, small_model
from torch import Tensor

from r2tuning.model import R2Config, R2Tuning
from r2tuning.model.attention import pool_attention

CONFIG = R2Config(video_width=6, query_width=5, layers=3, hidden=8, heads=2)


def project(model: R2Tuning, video: Tensor) -> Tensor:
    mask = torch.ones(len(video), video.shape[2], dtype=torch.bool)
    with torch.no_grad():
        return model.block.project_video(video, mask)


def test_it_is_what_eq_4_says_number_by_number() -> None:
    with float64():
        model = small_model(CONFIG, 0).double()
        video, query = (x.double() for x in features(CONFIG, 1, 2, 3, 2, 0))
        found = pool_attention(model, video[0], query[0])
        pooling, projected = model.block.spatial_pooling, project(model, video)[0]
        with torch.no_grad():
            tokens = model.block.query_map(query)[0]
            for layer in range(3):
                for frame in range(2):
                    for token in range(2):
                        asked = pooling.query_projection(tokens[layer, token])
                        keys = [pooling.video_projection(patch) for patch in projected[layer, frame]]
                        logits = [float(asked @ key) / math.sqrt(8) for key in keys]
                        total = sum(math.exp(logit) for logit in logits)
                        expected = [math.exp(logit) / total for logit in logits]
                        assert found[layer, frame, token].tolist() == pytest.approx(expected, rel=1e-9)


@settings(max_examples=15)
@given(config=configs(), refinement=st.sampled_from(["reversed", "forward", "mean", "single"]), seed=st.integers(0, 99))
def test_it_sums_to_one_and_gives_the_pooled_frames_exactly(config: R2Config, refinement: str, seed: int) -> None:
    config = config.model_copy(update={"refinement": refinement})
    model = small_model(config, seed)
    video, query = features(config, 1, 4, 3, 5, seed)
    found = pool_attention(model, video[0], query[0])
    assert found.shape == (config.steps, 4, 5, 4)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(config.steps, 4, 5))
    block, mask = model.block, torch.ones(1, 5, dtype=torch.bool)
    projected = project(model, video)
    with torch.no_grad():
        tokens = block.query_map(block.select(query))
        for layer in range(config.steps):
            v, q = projected[:, layer], tokens[:, layer]
            pooled = block.spatial_pooling(v, q, mask, layer)
            from_shown = block.spatial_pooling.combine(v[..., 0, :], found[layer][None] @ v, q, mask, layer)
            assert torch.equal(pooled, from_shown)
            # The fast ways of asking and of training move w_v to the side of the query.
            fast = (block.spatial_pooling.ask(q)[:, None] @ v.transpose(-1, -2)).softmax(dim=-1)
            torch.testing.assert_close(found[layer], fast[0], atol=1e-5, rtol=1e-4)


def test_both_ways_of_the_model_pool_the_same() -> None:
    """The pooled frames that the fast way of training hands on are those of the attention shown."""
    from r2tuning.model.fused import project_and_pool

    model = small_model(CONFIG, 3)
    video, query = features(CONFIG, 1, 4, 3, 5, 3)
    found, projected = pool_attention(model, video[0], query[0]), project(model, video)
    block = model.block
    with torch.no_grad():
        tokens = block.query_map(query)
        for layer in range(3):
            asked = block.spatial_pooling.ask(tokens[:, layer])
            _, seen = project_and_pool(
                block.video_map,
                block.choose(video, layer),
                torch.ones(1, 4, dtype=torch.bool),
                asked,
                endpoints=True,
            )
            torch.testing.assert_close(seen[0], found[layer] @ projected[0, layer], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("refinement", "layers"), [("reversed", [1, 2, 3]), ("forward", [3, 2, 1]), ("mean", [0]), ("single", [3])]
)
def test_steps_name_their_layers(refinement: str, layers: list[int]) -> None:
    block = R2Tuning(CONFIG.model_copy(update={"refinement": refinement})).block
    assert [block.count_from_last(index) for index in block.order] == layers
