"""The attention that is shown is the one that predictions are made with."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import configs, features, float64, small_model

from r2tuning.model import R2Config, R2Tuning
from r2tuning.model.pooling import Pairs, attend, pool_patches

CONFIG = R2Config(video_width=6, query_width=5, layers=3, hidden=8, heads=2)


def test_it_is_what_eq_4_says_number_by_number() -> None:
    with float64():
        model = small_model(CONFIG, 0).double()
        video, query = (x.double() for x in features(CONFIG, 1, 2, 3, 2, 0))
        found = model.attend(video[0], query[0])
        pooling, projected = model.block.spatial_pooling, model.project(video)[0].detach()
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
    found = model.attend(video[0], query[0])
    assert found.shape == (config.steps, 4, 5, 4)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(config.steps, 4, 5))
    assert (found[..., 0] > 0).all() == (config.form == "released")  # [CLS]
    pooling = model.block.spatial_pooling
    frame_mask, token_mask = (torch.ones(1, length, dtype=torch.bool) for length in (4, 5))
    pairs = Pairs.sort(torch.zeros(1, dtype=torch.long), token_mask, 1)
    with torch.no_grad():
        projected = model.project(video)[0]
        tokens = model.block.project_query(query)
        for layer in range(config.steps):
            q = tokens[:, layer]
            patches = projected[layer][:, config.first_pooled :]
            pooled = pool_patches([patches], frame_mask, pooling.project_query(q), q, pairs)
            seen = found[layer] @ projected[layer] + q  # [T, L, C], Eq. 5
            torch.testing.assert_close(pooled[0], seen.amax(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("refinement", "layers"), [("reversed", [1, 2, 3]), ("forward", [3, 2, 1]), ("mean", [0]), ("single", [3])]
)
def test_steps_name_their_layers(refinement: str, layers: list[int]) -> None:
    block = R2Tuning(CONFIG.model_copy(update={"refinement": refinement})).block
    assert [block.count_from_last(index) for index in block.order] == layers


def test_sharp_attention_has_no_denormal_numbers() -> None:
    """With them, a CPU is many times slower; what is lost is far below the precision of the others."""
    logits = torch.linspace(-200, 0, 401)
    found = attend(torch.eye(401)[None, None], logits[None, None])[0, 0, 0]
    assert ((found == 0) | (found > torch.finfo(torch.float32).tiny)).all()
    assert ((found > 0) == (logits > -46)).all()
    torch.testing.assert_close(found, logits.double().softmax(dim=0).float(), rtol=1e-5, atol=1e-20)
