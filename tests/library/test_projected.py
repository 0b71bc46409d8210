"""v̂ on the disk: 8 bits lose little, windows need not be known, and damage is noticed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import features, small_model
from torch.nn.functional import cosine_similarity

from r2tuning import Grounder
from r2tuning.datasets.annotations import Annotation
from r2tuning.errors import LibraryError
from r2tuning.features import EncodedVideo, EncodingFacts
from r2tuning.intervals import temporal_iou
from r2tuning.library.projected import read_projected, write_projected
from r2tuning.model import R2Config
from r2tuning.model.pooling import QuantizedTokens
from r2tuning.prediction import predict_windows
from r2tuning.types import QueryFeatures

CONFIG = R2Config(video_width=12, query_width=4, layers=2, hidden=8, heads=2, strides=(1, 2))
WINDOW = 10


def encoded_video(frames: int, repeated: int = 0) -> EncodedVideo:
    facts = EncodingFacts(
        video="a.mp4", duration=frames + repeated, start=0, fps=1, sampling="exact", truncated=False, backbone="b",
        fingerprint="f", preprocess_version=1,
    )  # fmt: skip
    values = features(CONFIG, 1, frames, 3, 1, seed=0)[0][0].transpose(0, 1).half().contiguous()
    values[..., 3] *= 50  # a channel that stands out, as real towers have
    rows = torch.arange(frames, dtype=torch.int32)
    whole = torch.cat([rows[:2], rows[2:3].expand(repeated + 1), rows[3:]]) if repeated else None
    return EncodedVideo(facts, values, whole)


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_rounding_is_at_most_half_a_step(scale: float, seed: int) -> None:
    values = torch.randn(5, 16, generator=torch.Generator().manual_seed(seed)) * scale
    values[0] = 0
    tokens = QuantizedTokens.quantize(values)
    assert tokens.values.dtype == torch.int8
    assert bool(((tokens.to(torch.float32) - values).abs() <= tokens.steps[:, None] * 0.5001).all())
    torch.testing.assert_close(tokens.steps, values.abs().amax(dim=1) / 127)


@torch.inference_mode()
def test_a_video_of_one_window_has_the_projection_of_that_window(tmp_path: Path) -> None:
    model, video = small_model(CONFIG, 0), encoded_video(WINDOW)
    assert write_projected(video, model, WINDOW, tmp_path / "v") == (tmp_path / "v").stat().st_size
    exact = model.project(video.read(0, WINDOW)[None])[0]
    step = exact.abs().amax(dim=-1, keepdim=True) / 127
    found = read_projected(tmp_path / "v", 0, WINDOW).to(torch.float32)
    assert bool(((found - exact).abs() <= step * 0.51 + 1e-6).all())
    torch.testing.assert_close(read_projected(tmp_path / "v", 3, 7).to(torch.float32), found[:, 3:7])


@torch.inference_mode()
def test_v_hat_of_a_long_video_is_near_that_of_every_window(tmp_path: Path) -> None:
    """Random weights give the two endpoints as much weight as any of the 256 other numbers."""
    config = CONFIG.model_copy(update={"video_width": 256})
    model = small_model(config, 0)
    video = features(config, 1, 30, 3, 1, seed=1)[0] * 3
    anywhere = model.project_frames(video, WINDOW)
    for start in range(0, 21, 5):
        exact = model.project(video[:, :, start : start + WINDOW])
        near = cosine_similarity(anywhere[:, :, start : start + WINDOW], exact, dim=-1)
        assert float(near.min()) > 0.99
        assert float(near.mean()) > 0.9995
    # In the middle of a window it is exact.
    middle = model.project(video[:, :, : WINDOW + 1])[:, :, WINDOW // 2]
    torch.testing.assert_close(model.project_frames(video, WINDOW + 1)[:, :, WINDOW // 2], middle)


@torch.inference_mode()
def test_channels_that_stand_out_change_no_answer() -> None:
    """As in a real ViT, a few of 768 channels have one sign in every token and 20 to 80 times the spread of others.

    The endpoints are two of 770 numbers that a layer norm divides by that spread, and each token has a step of its own.
    """
    config = R2Config(video_width=768, query_width=64, layers=2, hidden=64, heads=4)
    model, fps, length = small_model(config, 0), 0.5, 40
    video = features(config, 1, 60, 9, 1, seed=1)[0]
    spread = float(video.std())
    video[..., [7, 133, 500]] += spread * torch.tensor([40.0, -80.0, 20.0])
    queries = [QueryFeatures(f"{n}", features(config, 1, 1, 1, 5 + n, seed=n)[1][0]) for n in range(8)]
    anywhere = model.project_frames(video, length)[0]
    for start in (0, 9, 20):
        exact = model.project(video[:, :, start : start + length])[0]
        stored = QuantizedTokens.quantize(anywhere[:, start : start + length])
        assert float(cosine_similarity(exact, stored.to(torch.float32), dim=-1).min()) > 0.9995
        for one, other in zip(
            predict_windows(model, [exact], queries, fps), predict_windows(model, [stored], queries, fps), strict=True
        ):
            assert float((one.saliency - other.saliency).abs().max()) < 0.01
            best, found = (x.moments.double().numpy()[:1] for x in (one, other))
            assert float(temporal_iou(best, found)[0, 0]) > 0.95


@torch.inference_mode()
def test_the_demo_model_answers_the_same_from_it(grounder: Grounder, shapes: dict[Path, list[Annotation]]) -> None:
    """Of a window in a long video: 8 bits, and every frame seen in the middle."""
    near, overlaps = [], []
    for path, annotations in shapes.items():
        video = grounder.encode(path)
        features, fps = video.read(0, video.frames)[None], video.facts.fps
        exact, stored = grounder.model.project(features)[0], grounder.model.project_frames(features, 75)[0]
        near.append(float(cosine_similarity(exact, stored, dim=-1).min()))
        queries = grounder.backbone.encode_queries([annotation.query for annotation in annotations])
        for one, other in zip(
            predict_windows(grounder.model, [exact], queries, fps),
            predict_windows(grounder.model, [QuantizedTokens.quantize(stored)], queries, fps),
            strict=True,
        ):
            best, found = (x.moments.double().numpy().clip(0, video.facts.duration) for x in (one, other))
            overlaps.append(float(temporal_iou(best[:1], found[:1])[0, 0]))
    assert min(near) > 0.999
    assert len(overlaps) >= 15
    assert np.mean(np.array(overlaps) >= 0.9) >= 0.9


@torch.inference_mode()
def test_frames_that_repeat_are_kept_once(tmp_path: Path) -> None:
    model, video = small_model(CONFIG, 0), encoded_video(12, repeated=20)
    assert (video.frames, video.distinct) == (32, 12)
    size = write_projected(video, model, WINDOW, tmp_path / "v")
    assert size < write_projected(encoded_video(32), model, WINDOW, tmp_path / "w")
    exact = model.project_frames(video.read(0, 32)[None], WINDOW)[0]
    for start, stop in ((0, 32), (1, 11), (5, 15), (20, 30)):
        found = read_projected(tmp_path / "v", start, stop).to(torch.float32)
        assert float((found - exact[:, start:stop]).abs().max()) < 0.02 * float(exact.abs().max())


@torch.inference_mode()
def test_saliency_models_need_no_endpoints(tmp_path: Path) -> None:
    model = small_model(R2Config(**CONFIG.model_dump() | {"family": "saliency", "strides": (1,)}), 0)
    video = encoded_video(30).read(0, 30)[None]
    torch.testing.assert_close(model.project_frames(video, WINDOW), model.project(video))


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "gone", "folder"])
def test_damage_is_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "v"
    write_projected(encoded_video(20), small_model(CONFIG, 0), WINDOW, path)
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"cut": content[:-9], "empty": b"", "other": b"\x02\0\0\0\0\0\0\0{}"}[damage])
    with pytest.raises(LibraryError, match="run r2tuning library check --repair"):
        read_projected(path, 0, 5)


def test_a_window_beyond_the_end_is_refused(tmp_path: Path) -> None:
    for name, video in (("v", encoded_video(20)), ("w", encoded_video(12, repeated=8))):
        write_projected(video, small_model(CONFIG, 0), WINDOW, tmp_path / name)
        with pytest.raises(LibraryError, match="shorter than the catalog says"):
            read_projected(tmp_path / name, 15, 25)
