"""Windows that share their first product equal windows that are projected alone, by the feature map itself."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import features, small_model
from torch import Tensor

from r2tuning.model import R2Config
from r2tuning.model.layers import temporal_endpoints

CONFIGS = st.builds(
    R2Config,
    family=st.sampled_from(["grounding", "saliency"]),
    video_width=st.integers(3, 9),
    query_width=st.just(4),
    layers=st.integers(1, 3),
    refinement=st.sampled_from(["reversed", "mean", "single"]),
    hidden=st.sampled_from([4, 8]),
    heads=st.just(2),
    dropout=st.sampled_from([0.0, 0.5]),
)


@settings(max_examples=40, deadline=None)
@given(config=CONFIGS, seed=st.integers(0, 2**31), data=st.data())
def test_windows_equal_the_feature_map_of_their_frames(config: R2Config, seed: int, data: st.DataObject) -> None:
    model = small_model(config, seed).eval().double()
    frames = data.draw(st.integers(1, 12))
    video = features(config, 1, frames, 3, 1, seed)[0][0].double() * 5 + 3
    edges = st.integers(0, frames).flatmap(lambda a: st.integers(0, frames).map(lambda b: (min(a, b), max(a, b))))
    windows = data.draw(st.lists(edges.filter(lambda pair: pair[0] < pair[1]), min_size=1, max_size=5))
    reads: list[int] = []

    def read(start: int, stop: int) -> Tensor:
        reads.append(stop - start)
        return video[:, start:stop]

    with torch.inference_mode():
        projector = model.project_windows(read)
        for start, stop in windows:
            found = projector.project(start, stop)
            layers = video[:, start:stop]
            layers = layers.mean(0, keepdim=True) if config.refinement == "mean" else layers[: config.steps]
            if config.family == "grounding":
                ends = temporal_endpoints(torch.ones(1, stop - start, dtype=torch.bool))[0].double()
                layers = torch.cat([layers, ends[None, :, None].expand(*layers.shape[:-1], 2)], dim=-1)
            torch.testing.assert_close(found, model.block.video_map(layers), rtol=0, atol=1e-6)


def test_frames_that_windows_share_are_read_once() -> None:
    model = small_model(R2Config(video_width=4, query_width=4, layers=2, hidden=8, heads=2), 0).eval()
    video = torch.randn(2, 20, 3, 4)
    reads: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> Tensor:
        reads.append((start, stop))
        return video[:, start:stop]

    projector = model.project_windows(read)
    for start in (0, 4, 8, 12):
        projector.project(start, start + 8)
    assert reads == [(0, 8), (8, 12), (12, 16), (16, 20)]


def test_features_without_variance_stay_finite() -> None:
    model = small_model(R2Config(video_width=4, query_width=4, layers=1, hidden=8, heads=2, strides=(1,)), 0).eval()
    for value in (0.0, 1e4):
        assert model.project(torch.full((1, 1, 3, 2, 4), value)).isfinite().all()
